/* Shared by view.c (bases, finding, entry points) and tail.c (the unbuilt log as chunks). */
#pragma once
#include "fn/catalog.h"
#include "fn/view.h"

struct chunk *chunk_ref(struct chunk *);
void chunk_unref(struct chunk *);
void view_count_documents(struct view *);

/* All of these want coll->lock held. */
void tail_reset(struct coll *);
void tail_drop_chunks(struct coll *, uint32_t n);
/* The newest schema, at least min_version. A declared addition resets the tail: its chunks lack the new
 * index. */
int tail_refresh_schema(struct coll *, uint32_t min_version, struct err *);
/* Makes coll->current the view of base and chunks. */
int tail_sync_view(struct coll *, struct err *);
/* Indexes the next stretch of records behind the tail, up to number `up_to`; *ret_more: call again. */
int tail_extend(struct coll *, uint64_t up_to, bool *ret_more, struct err *);
