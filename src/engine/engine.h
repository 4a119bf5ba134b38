/* The engine's whole public API: what the filesystem, the commands (and later the gateway) call.
 *
 * Threads: every function may be called from any thread. Blocking: all may do I/O. Several processes may open
 * one data directory at the same time. Strings returned in structs are copies. Collections are addressed by
 * their immutable id (cid, 32 hex digits); names are looked up with engine_find.
 */
#pragma once
#include "fn/types.h"
#include "fn/decode.h"
#include "query/answer.h"
#include "util/clock.h"

enum { CID_SIZE = 33, NAME_SIZE = 53, NAME_MAX_CHARS = 52 };

struct engine;
struct engine_options {
    const char *data_dir;
    bool background;          /* start builder, merger, cleaner and scheduler threads (the mount does) */
    uint64_t build_bytes;     /* build when the unbuilt log has this much; 0 = default 32 MB */
    uint64_t batch_bytes;     /* records of one new segment at most; 0 = default 32 MB */
    uint64_t partition_bytes; /* documents of a partition worth a segment of its own; 0 = default 1 MB */
    int64_t build_age_ms;     /* or its oldest record is this old; 0 = default 10,000; < 0 never */
    int64_t retention_ms;     /* < 0: the project's setting, default 30 days */
    unsigned threads;         /* executor pool; 0 = number of cores */
    struct clock *clock;      /* NULL = system */
    struct rng *rng;          /* NULL = system */
    const char *embedding_url, *embedding_key_file; /* NULL: the environment's (docs/CONFIG.md) */
    uint64_t cache_bytes;     /* of remote objects in memory; 0 = default 1 GB (docs/COLD.md) */
    const char *cache_dir;    /* and on disk, NULL: not */
    uint64_t cache_dir_bytes; /* 0 = default 4 GB */
    bool simulate_remote; /* measuring: the object store is read by requests, each of which takes this long */
    unsigned simulate_get_ms;
    uint64_t simulate_bytes_per_s; /* all requests together; 0 = no limit */
    const char *object_fault;      /* tests: "op:after:kind", NULL normally */
};
void engine_options_init(struct engine_options *);
/* Creates the directory when missing. Checks that the store honours conditional puts and versions. */
int engine_open(const struct engine_options *, struct engine **ret, struct err *);
/* Stops background work, waits for it; what is acknowledged stays in the log. NULL is fine. */
void engine_close(struct engine *);
const char *engine_data_dir(const struct engine *);

/* ---- collections ---- */
struct collection_info {
    char cid[CID_SIZE], name[NAME_SIZE];
    int64_t created_ms, updated_ms, dropped_ms; /* dropped_ms: trash only */
    uint64_t generation; /* grows with every restore: open nodes of an older one are stale */
    uint64_t written;    /* grows with every change of what is here */
    uint32_t n_shards;
    char source_cid[CID_SIZE]; /* clone of; "" otherwise */
    char source_version[VERSION_ID_SIZE];
    char trash_name[NAME_SIZE + 48]; /* trash only: unique name in the trash listing */
};
typedef int collection_visit(void *ctx, const struct collection_info *);
int engine_list(struct engine *, collection_visit *, void *ctx, struct err *);
int engine_find(struct engine *, const char *name, struct collection_info *ret, struct err *);
int engine_find_cid(struct engine *, const char *cid, struct collection_info *ret,
                    struct err *); /* not dropped ones */
/* schema_json NULL or "" = inferred. ERR_EXISTS, ERR_INVALID (name or schema). */
int engine_create(struct engine *, const char *name, const char *schema_json, struct collection_info *ret,
                  struct err *);
int engine_rename(struct engine *, const char *cid, const char *new_name, struct err *);

/* Keeping names: while engine_keeps_names is true no process changes what a name leads to (the cid and the
 * generation that engine_find found), so that it need not be found again. Who wants to change one has that
 * recalled first: `recalled` is called, on a thread of its own, and what was kept must be forgotten when it
 * returns. Names that lead nowhere are not covered. (backend/delegation.h) */
int engine_watch_names(struct engine *, void (*recalled)(void *ctx), void *ctx, struct err *); /* once */
void engine_unwatch_names(struct engine *); /* no more calls of `recalled` */
void engine_keep_names(struct engine *);    /* from now on, if that is to be had; another time it may be */
bool engine_keeps_names(const struct engine *);

/* Into the trash. before_seq > 0: the trash also offers the state as of that sequence number (rm -r): it must
 * have been marked with engine_mark. */
int engine_drop(struct engine *, const char *cid, uint64_t before_seq, struct err *);
int engine_trash_list(struct engine *, collection_visit *, void *ctx, struct err *);
int engine_trash_restore(struct engine *, const char *trash_name, const char *new_name,
                         struct collection_info *ret, struct err *);
/* Ends the retention of a dropped collection at once. */
int engine_trash_purge(struct engine *, const char *trash_name, struct err *);

int engine_schema(struct engine *, const char *cid, struct schema **ret, struct err *); /* schema_unref it */
/* A new schema.json: adds indexes. */
int engine_schema_extend(struct engine *, const char *cid, const char *json, size_t len, struct err *);

/* A declared index that is not yet in every segment. */
enum { INDEXING_SHOWN = 16 };
struct indexing_status {
    char field[256]; /* a longer path is cut */
    uint64_t segments_left, documents_left;
};
struct collection_status {
    uint64_t documents; /* live, as of documents_seq: the newest record, unless much is still being indexed */
    uint64_t documents_seq;
    uint64_t bytes; /* of objects in the current tree */
    uint64_t segments;
    uint32_t n_shards;
    uint32_t n_partitions; /* the default one included: 1 in a collection without */
    uint64_t seq_written, seq_committed;
    uint64_t unbuilt_records, unbuilt_bytes;
    int64_t lag_ms;                     /* age of the oldest unbuilt record, 0 if none */
    char root_version[VERSION_ID_SIZE]; /* "" before the first commit */
    int64_t root_time_ms;
    int64_t data_time_ms; /* newest acknowledgement */
    char last_error[256];
    int64_t last_error_ms;
    uint32_t n_indexing; /* added indexes that are being back-filled: the first ones */
    struct indexing_status indexing[INDEXING_SHOWN];
};
/* Counts the unbuilt log too, which may mean indexing it, or waiting for the background builder to do it:
 * after some seconds documents_seq tells how far it got. At once while much is being written. */
int engine_status(struct engine *, const char *cid, struct collection_status *ret, struct err *);
/* The same without waiting: documents as of the last view, unless little is unbuilt. */
int engine_status_quick(struct engine *, const char *cid, struct collection_status *ret, struct err *);

/* ---- writes ---- */
/* A writer session: records are checked and appended to the log by add calls (not yet durable), and are
 * durable when ingest_commit has returned 0. Used by one thread at a time. */
struct ingest;
int engine_ingest_open(struct engine *, const char *cid, enum ingest_op, struct ingest **ret, struct err *);
/* Checks n records (each one JSON value) and appends the good ones as one batch under one lock. Bad ones are
 * reported through verdict. Returns an error only when nothing of the batch was appended for a reason that is
 * not in the records (log unhealthy, collection dropped, disk full). Records: UPSERT: an object, `id` a
 * non-empty string of at most ID_MAX_CHARS or a number (kept as its text)... missing: generated. UPDATE: an
 * object with an existing id. DELETE:
 * {"id": ..} or a JSON string, or {"filter": "query"}. At most 5 MB each. */
int ingest_add(struct ingest *, const struct ingest_record *, size_t n, ingest_verdict_fn *, void *ctx,
               uint64_t *ret_accepted, struct err *);
/* Do records wait for an embedding provider? As of the schema that the session read last. */
bool ingest_waits(const struct ingest *);
/* Group commit: everything added so far is durable. */
int ingest_commit(struct ingest *, struct err *);
/* First and last sequence number given to this session's records; 0 if none. */
void ingest_range(const struct ingest *, uint64_t *ret_first, uint64_t *ret_last);
void ingest_close(struct ingest *); /* without commit: what was added may or may not survive */

/* Records a boundary: a root version of exactly the state before will be kept (see engine_drop). */
int engine_mark(struct engine *, const char *cid, uint64_t *ret_seq, struct err *);

/* ---- reads ---- */
/* A view: an immutable, consistent state of a collection, pinned while it is held. */
struct view;
/* Live: strong = with the unbuilt log. */
int engine_view_live(struct engine *, const char *cid, bool strong, struct view **ret, struct err *);
/* As engine_view_live, but gives up with ERR_CANCELED when *cancel (may be NULL) becomes 1, ERR_TIMEOUT after
 * timeout_ms. */
int engine_view_live_until(struct engine *, const char *cid, bool strong, const volatile int *cancel,
                           uint32_t timeout_ms, struct view **ret, struct err *);
/* Newest sequence number and acknowledgement time (0 = nothing written): cheap, never waits for indexing. */
int engine_activity(struct engine *, const char *cid, uint64_t *ret_seq, int64_t *ret_time_ms, struct err *);
/* A root version. The view pins it against the cleaner until it is released. */
int engine_view_version(struct engine *, const char *cid, const char *version, struct view **ret,
                        struct err *);
struct view *view_ref(struct view *);
void view_unref(struct view *);
uint64_t view_seq(const struct view *);    /* highest sequence number it covers */
int64_t view_time_ms(const struct view *); /* acknowledgement time of that record; 0 = nothing written yet */
int64_t view_commit_ms(const struct view *); /* of the root, 0 = none */
uint64_t view_documents(const struct view *);
const char *view_version(const struct view *);   /* root version, "" = none */
struct schema *view_schema(const struct view *); /* borrowed */
/* Cheap: is this still what engine_view_live would give? */
bool engine_view_is_current(struct engine *, const struct view *);
struct doc_info {
    uint64_t seq;
    int64_t time_ms;
    uint64_t size;
};
/* One document: raw JSON appended to out (out NULL: only its info). ERR_NOT_FOUND. */
int view_doc(const struct view *, const char *id, size_t id_len, struct buf *out, struct doc_info *ret,
             struct err *);
/* Ids in byte order, strictly after `after` (NULL = from the start). Calls visit for each until it returns
 * non-zero (1 = stop, not an error). */
int view_scan(const struct view *, const char *after, size_t after_len,
              int (*visit)(void *ctx, const char *id, size_t len), void *ctx, struct err *);

/* Runs a query on a view. cancel: set to 1 by another thread to stop it (ERR_CANCELED); may be NULL.
 * collection is the name that goes into the answer. */
int engine_query(struct engine *, const struct view *, const char *collection, const struct query_request *,
                 const volatile int *cancel, struct answer **ret, struct err *);

/* ---- history ---- */
/* All retained versions, oldest first; thin = thinned by age for listings. */
int engine_snapshots(struct engine *, const char *cid, bool thin, snapshot_visit *, void *ctx, struct err *);
/* Resolves: a commit time name, any instant (newest commit at or before), "@2h-ago", "@yesterday", "@seq:N",
 * "latest", a given name. ERR_NOT_FOUND when there is none, ERR_INVALID for a malformed @form. */
int engine_snapshot_resolve(struct engine *, const char *cid, const char *name, struct snapshot_info *ret,
                            struct err *);
/* Named snapshot of exactly what is acknowledged now. */
int engine_snapshot_create(struct engine *, const char *cid, const char *name, struct snapshot_info *ret,
                           struct err *);
int engine_snapshot_delete(struct engine *, const char *cid, const char *name, struct err *);
/* Zero-copy clone; version "" = everything acknowledged now. */
int engine_clone(struct engine *, const char *cid, const char *version, const char *new_name,
                 struct collection_info *ret, struct err *);
/* In place; what was before stays in the history. */
int engine_restore(struct engine *, const char *cid, const char *version, struct err *);

/* ---- upkeep ---- */
/* Builds everything acknowledged now and back-fills added indexes; ret_seq: committed sequence afterwards.
 * cid NULL: all collections. */
int engine_build(struct engine *, const char *cid, uint64_t *ret_seq, struct err *);
/* Merges what the tier policy asks for; force: everything into one segment. */
int engine_merge(struct engine *, const char *cid, bool force, struct err *);
int engine_set_shards(struct engine *, const char *cid, uint32_t n_shards,
                      struct err *); /* 0 = by size again */
/* Removes expired history and unreferenced objects. grace_ms: age below which unreferenced objects are kept.
 */
int engine_clean(struct engine *, int64_t retention_ms, int64_t grace_ms, struct clean_result *ret,
                 struct err *);
/* Verifies every reachable object, checksum, reference and count; problems are reported one by one. */
int engine_check(struct engine *, void (*report)(void *ctx, const char *text), void *ctx,
                 uint64_t *ret_objects, uint64_t *ret_problems, struct err *);
struct engine_counters {
    uint64_t puts, gets, heads, lists, deletes, maps, bytes_put, bytes_got; /* object store */
    uint64_t waves; /* the longest chain of gets and heads that followed each other */
    uint64_t cache_bytes, cache_pinned_bytes, cache_max_bytes,
        cache_evictions;                           /* of remote objects in memory */
    uint64_t disk_hits, disk_misses, disk_damaged; /* pages in cache_dir */
    uint64_t queries, records, builds, merges, fsyncs;
    uint64_t segments_searched; /* by all queries: what a partition filter saves shows here */
};
void engine_counters(struct engine *, struct engine_counters *ret);
