/* Builder and merger: from the log to the tree. Thread-safe; several processes may run them on one
 * collection. */
#pragma once
#include "fn/commit.h"
#include "fn/view.h"

/* Builds every record up to `up_to` (UINT64_MAX: what is acknowledged now). wait: when somebody else builds,
 * wait for it; otherwise ERR_BUSY at once. *ret_seq (may be NULL): the committed number afterwards. */
int builder_run(struct coll *, uint64_t up_to, bool wait, uint64_t *ret_seq, struct err *);
/* The same in the background: what is there now, and what comes in meanwhile as long as it is worth segments
 * of several MB. */
int builder_follow(struct coll *, struct err *err);
enum merge_mode {
    MERGE_POLICY,   /* what the tier policy picks, back-fill first */
    MERGE_ALL,      /* everything into one segment */
    MERGE_BACKFILL, /* just segments that lack a declared index */
};
/* Merges once; *ret_did false: nothing to do. Each call commits, so that a back-fill that dies goes on where
 * it was. cancel may be NULL. */
int merger_run(struct coll *, enum merge_mode, const volatile int *cancel, bool *ret_did, struct err *);
/* Does the segment lack the index (some analyzer of a text field) that the schema declares? Inferred fields
 * never count: no older document has them. */
bool segment_lacks_field(const struct segment *, const struct field *);
/* How many base segments of the view, and live documents in them, still lack the field. */
uint64_t backfill_left(const struct view *, const struct field *, uint64_t *ret_documents);
