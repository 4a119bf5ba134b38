/* The log of one collection: frames with gapless, rising sequence numbers, appended by any number of
 * processes.
 *
 * Grammar, damage, void and superseding segments: docs/FORMAT.md, "Log segment".
 *
 * One struct log per collection and process. Thread-safe. Lock order: the store's lock (held during an
 * append), then the log's mutex. No sync runs under either.
 */
#pragma once
#include "backend/log_store.h"
#include "util/clock.h"

enum log_op { LOG_PUT = 1, LOG_PATCH = 2, LOG_DELETE = 3, LOG_SCHEMA = 4, LOG_RESTORE = 5, LOG_MARK = 6 };
enum {
    LOG_SEGMENT_BYTES = 64 * 1024 * 1024,
    LOG_BATCH_HEADER = 48,
    LOG_RECORD_HEADER = 8,
    LOG_HEADER_SIZE = 64,
    LOG_RESERVE = 64 * 1024,      /* zeros ahead of small batches, */
    LOG_RESERVE_BATCH = 16 * 1024 /* which are below this */
};

struct log_record {
    uint64_t seq;            /* set by append */
    int64_t time_ms;         /* acknowledgement time, set by append: never below an earlier record's */
    uint32_t schema_version; /* one for the whole batch: that of the first record */
    uint8_t op;              /* enum log_op */
    const char *id;
    uint32_t id_len;
    const char *body; /* PUT: document; PATCH: the fields; RESTORE: key of a copied root; SCHEMA, DELETE,
                         MARK: empty */
    uint32_t body_len;
};

/* A position to go on reading from; zero-initialised: from the start. */
struct log_cursor {
    uint32_t ordinal; /* segment and offset of the batch that holds or will hold next_seq; 0 = not known */
    uint64_t off;
    uint64_t next_seq; /* the first number not read yet */
    uint64_t prev_off; /* of the batch before off; 0 = there is none in this segment */
    uint32_t prev_crc; /* its crc; 0 = not known */
};

struct log;
int log_open(struct log_store *, const char *cid, struct clock *, struct log **ret, struct err *);
void log_close(struct log *); /* NULL is fine */

/* Appends records as one batch: lock, repair the tail, `guard` (may refuse; sees the last number given),
 * number, write, unlock. Not durable yet. floor_seq: numbers start above it when the log has no segment (a
 * fresh clone's root). On error nothing of the batch is in the log (or a torn tail that the next holder
 * cuts). */
typedef int log_guard_fn(void *ctx, uint64_t last_seq, struct err *);
int log_append(struct log *, struct log_record *records, size_t n, uint64_t floor_seq, log_guard_fn *guard,
               void *ctx, struct err *);
/* Group commit: returns when every record up to seq that this process appended is durable. A failed sync
 * moves the records that are not known durable to a new segment under the same numbers; if that fails too the
 * error is returned and the log refuses appends until a recovery succeeds. */
int log_sync(struct log *, uint64_t seq, struct err *);
/* Makes everything readable up to seq durable, whoever wrote it (the builder, before it commits). */
int log_sync_all(struct log *, uint64_t seq, struct err *);

/* Visits the records at or above cursor->next_seq in order, up to the end as it is now, and moves the cursor.
 * Borrowed pointers, valid during the visit. visit: 0 = go on, 1 = stop behind this record, 2 = stop before
 * it (not consumed), negative = error. ERR_CONFLICT: the records right above the cursor are gone (built and
 * removed) or history was replaced: reload the root, start from there with a fresh cursor. */
typedef int log_visit_fn(void *ctx, const struct log_record *, struct err *);
int log_read(struct log *, struct log_cursor *, log_visit_fn *, void *ctx, struct err *);
/* The last whole record's number now (0 and *ret_any false when there is no segment). A refresh, not a guess.
 */
int log_end(struct log *, uint64_t *ret_last, bool *ret_any, struct err *);
/* Number and time of the newest record; 0 and 0 when the log has none. */
int log_last(struct log *, uint64_t *ret_seq, int64_t *ret_time_ms, struct err *);
/* Closes the file handle of a log nobody writes to (a dropped or idle collection); it is opened again when
 * needed. */
void log_idle(struct log *);
/* Bytes of the records behind the cursor, roughly (file sizes): cheap, for build decisions. */
int log_pending_bytes(struct log *, const struct log_cursor *, uint64_t *ret, struct err *);
/* Removes segments wholly at or below seq; never the newest. roll: first starts a new segment when the newest
 * holds more than roll_bytes and nothing above seq. */
int log_trim(struct log *, uint64_t seq, uint64_t roll_bytes, struct err *);
/* A segment of the log was seen. Then there always is one: the newest is kept as long as the collection. */
bool log_begun(const struct log *);
uint64_t log_fsyncs(const struct log *);
