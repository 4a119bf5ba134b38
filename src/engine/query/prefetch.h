/* The plan of a query over a remote store: what its evaluation will read, fetched in few waves before it
 * begins. A hint: what it forgets is read when it is needed. docs/COLD.md. */
#pragma once
#include "query/search.h"

struct prefetch {
    const struct query *query;
    const struct search_stats *stats; /* finished: plans what fuzzy words stand for; NULL: all else */
    const char *partition_field;      /* NULL: none is looked at */
    const struct search_part *parts;  /* whole segments; one with doc_hi 0 only gives statistics */
    size_t n_parts;
    const volatile int *cancel;
};
/* Returns when all is there that could be planned. Nothing happens where all parts are mapped or in memory.
 * An error is one of reading, or ERR_CANCELED, ERR_TIMEOUT. */
int search_prefetch(const struct prefetch *, struct err *);
