/* Facets: how often each value of a field occurs in the live matches of a query.
 *
 * Counting is exact: within a part by ordinal (keywords) or value, at the part's end by the value itself, so
 * that counts of parts, shards and calls simply add up. A document with several values counts once for each
 * of them. Memory is bounded by FACET_MAX_VALUES distinct values and FACET_MAX_TEXT bytes of them a field; a
 * query that meets more is refused, wherever the parts are divided, because the bounds hold for the sum as
 * well.
 */
#pragma once
#include "query/query.h"

enum { FACET_MAX_VALUES = 1 << 18, FACET_MAX_TEXT = 64 << 20, FACET_MAX_SHOWN = 10000 };

struct facet_value {
    uint64_t count;
    const char *text; /* keyword: not NUL-terminated, in the facet's arena */
    uint32_t len;
    int64_t i64; /* other types: as the column stores it; keyword: 0 */
};
struct facet {
    char *field;
    enum field_type type;
    uint64_t n_docs; /* matches that have a value */
    struct facet_value *values;
    uint32_t n, cap;
    uint32_t *table; /* open addressing: value number + 1 */
    uint32_t table_size;
    size_t text_bytes;
    struct arena texts;
};
struct facets {
    uint64_t n_matches; /* documents counted */
    uint32_t n;
    struct facet all[FACET_MAX_FIELDS];
};
/* NULL when the query asks for none. */
struct facets *facets_new(const struct query *);
void facets_free(struct facets *);
/* Adds the counts of other (of the same query). ERR_INVALID when there are too many values. */
int facets_add(struct facets *, const struct facets *other, struct err *);
/* By count descending, then value (bytes, numbers) ascending. */
void facets_sort(struct facets *);

/* Number i as {"field":..,"values":[{"value":..,"count":n},..],"other":n,"missing":m}: the first `shown`
 * values; other: the sum of the counts of the rest; missing: matches without a value. Sorted before. */
void facet_format(const struct facets *, uint32_t i, uint32_t shown, struct buf *out);
