/* Why a hit has its score: a tree like Lucene's Explanation, as JSON:
 * {"value":..,"description":"..","details":[..]}.
 *
 * Every number is the one the search used: a node's value comes from the very scorer of that clause, run over
 * the one document. Values are float32 with the fewest digits that read back to them (n, N, freq and lengths:
 * as they are).
 *
 *   term, phrase   value = weight - weight / (1 + freq * inverse), weight = boost * idf,
 *                  inverse = 1 / (k1 * ((1 - b) + b * dl / avgdl)), float32 step by step (query/bm25.h)
 *   bool           value = the sum of its details, in their order, in double, rounded once
 *   knn            value = boost * similarity
 *   sparse         value = boost * the sum of the products, in double in byte order of the tokens, rounded to
 * float32 fuzzy          a bool of the words it stands for constant       value = boost rrf, mm, l2    value
 * = the sum of the two details in double, rounded once; each computed as query/fuse.h says from what is below
 * it (these numbers are doubles)
 */
#pragma once
#include "query/search.h"

/* One document: part covers just it. Appends to out. */
int search_explain(const struct query *, const struct search_stats *, const struct knn_result *knn,
                   const struct search_part *part, const struct search_hit *, const volatile int *cancel,
                   struct buf *out, struct err *err);
