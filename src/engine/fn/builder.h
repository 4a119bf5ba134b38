/* Builder and merger: from the log to the tree. Thread-safe; several processes may run them on one collection. */
#pragma once
#include "fn/commit.h"

/* Builds every record up to `up_to` (UINT64_MAX: what is acknowledged now). wait: when somebody else builds, wait for it;
 * otherwise ERR_BUSY at once. *ret_seq (may be NULL): the committed number afterwards. */
int builder_run(struct coll *, uint64_t up_to, bool wait, uint64_t *ret_seq, struct err *);
/* Merges what the tier policy picks, once; *ret_did false: nothing to do. force: everything into one segment. backfill:
 * just segments that lack a declared index. cancel may be NULL. */
int merger_run(struct coll *, bool force, const volatile int *cancel, bool *ret_did, struct err *);
