/* The documents of an answer, read by two threads where one has nothing to do (util/spare.h). */
#pragma once
#include "fn/view.h"
#include "query/answer.h"
#include "query/search.h"

/* Fills doc and doc_len of out[i] for hits[i], of all, some or none: what is left NULL is to be read as
 * always, which also tells what is wrong with it; it is on its way to the processor. Never waits for a disk.
 */
void documents_ahead(const struct view *, const struct search_hit *hits, uint32_t n, struct answer_hit *out);
