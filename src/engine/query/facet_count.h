/* Counting the values of the matches of one part. */
#pragma once
#include "query/facet.h"
#include "query/search_internal.h"

struct facet_source {
    const struct segment_field *field; /* NULL: nothing has it in this part */
    const struct column *column;
    uint32_t *ords; /* counts by ordinal; NULL: by value, or by a table of ordinals */
    uint32_t n_ords;
    struct facet by_ord; /* a dictionary too large for ords */
};
struct facet_counter {
    struct facets *facets;
    struct facet_source sources[FACET_MAX_FIELDS];
};
/* Begin, any number of batches of live matches, end; release in any case. */
int facet_counter_begin(struct facet_counter *, struct facets *, const struct search_ctx *, struct err *);
int facet_counter_add(struct facet_counter *, const struct batch *, struct err *);
int facet_counter_end(struct facet_counter *, struct err *);
void facet_counter_release(struct facet_counter *);
