/* A stretch of the log, resolved: one change per id, ids ascending. Shared by the builder and the tail, so
 * that built and unbuilt documents can never differ. */
#pragma once
#include "index/ids.h"
#include "index/log.h"
#include "util/buf.h"

struct change {
    const char *id;
    uint32_t id_len;
    uint32_t doc_len;
    const char *doc; /* the document after all its records; NULL = deleted (or a patch of nothing) */
    uint64_t seq;    /* of the last record of this id */
    int64_t time_ms;
};

struct batch {
    struct arena arena;
    struct change *changes;
    size_t n, n_docs;             /* all; those with a document */
    uint64_t first_seq, last_seq; /* records it covers; last_seq = first_seq - 1 when none */
    int64_t last_time_ms;
    uint32_t schema_version; /* highest of its records */
    size_t bytes;
    enum log_op stop; /* LOG_RESTORE: the batch is just this record; LOG_MARK: its last record is a mark; 0 */
    char *restore_key; /* RESTORE: key of the copied root */
};

/* The document of an id before the batch: 0 and the raw JSON appended, or -ERR_NOT_FOUND. */
typedef int batch_lookup_fn(void *ctx, const char *id, size_t len, struct buf *out, struct err *err);

/* Reads records from the cursor on, up to number `up_to` and about max_bytes, and resolves them. A RESTORE
 * ends the batch before it, or is one alone; marks: a MARK ends the batch behind it (else marks are passed
 * over). */
int batch_read(struct log *, struct log_cursor *, uint64_t up_to, size_t max_bytes, bool marks,
               batch_lookup_fn *lookup, void *ctx, struct batch *ret, struct err *err);
void batch_release(struct batch *);
/* Merges the top-level members of patch into doc (both JSON objects); appended to out. */
int doc_patch(const char *doc, size_t doc_len, const char *patch, size_t patch_len, struct buf *out,
              struct err *err);
