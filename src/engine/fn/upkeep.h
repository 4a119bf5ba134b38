/* Upkeep: cleaning, checking, and the scheduler that runs the system's periodic tasks in a process. */
#pragma once
#include "fn/catalog.h"
#include "fn/types.h"

/* See engine_clean. */
int clean_run(struct core *, int64_t retention_ms, int64_t grace_ms, struct clean_result *ret,
              struct err *err);
/* See engine_check. */
int check_run(struct core *, void (*report)(void *ctx, const char *text), void *ctx, uint64_t *ret_objects,
              uint64_t *ret_problems, struct err *err);
/* Virtual shards by collection size: one per SHARD_DOCS live documents. */
enum { SHARD_DOCS = 250000, SHARDS_MAX = 64 };
int shards_adjust(struct core *, struct err *err);

struct scheduler;
/* Background threads: one builds (by size and age of the unbuilt log, whoever wrote it), one merges, adjusts
 * shards and cleans. */
int scheduler_start(struct core *, struct scheduler **ret, struct err *);
void scheduler_stop(struct scheduler *); /* waits for running work; NULL is fine */
/* Much was written: the builder looks at once instead of at its next round. NULL is fine. */
void scheduler_wake(struct scheduler *);
