/* The Writer: checks records, infers schema, appends them to the log. See engine.h for the contract of a
 * session. */
#pragma once
#include "fn/core.h"
#include "fn/types.h"

struct ingest;
int writer_open(struct coll *, enum ingest_op, struct ingest **ret, struct err *);
int writer_add(struct ingest *, const struct ingest_record *, size_t n, ingest_verdict_fn *, void *ctx,
               uint64_t *ret_accepted, struct err *);
int writer_commit(struct ingest *, struct err *);
bool writer_waits(const struct ingest *);
void writer_range(const struct ingest *, uint64_t *ret_first, uint64_t *ret_last);
void writer_close(struct ingest *);
/* Appends one control record (MARK, RESTORE, SCHEMA), durable when it returns. */
int writer_control(struct coll *, enum log_op, uint32_t schema_version, const char *body, size_t len,
                   uint64_t *ret_seq, struct err *);
/* Extends the schema by compare-and-set and logs it. */
int writer_schema_extend(struct coll *, const char *json, size_t len, struct err *);
