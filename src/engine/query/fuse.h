/* Hybrid searches: the hits of two searches fused into one list.
 *
 *   rrf  (1/(60 + rank) summed over the sides) * 61/2: two first ranks give 1
 *   mm   per side (s - min) / (max - min), 0 becomes 0.001, and 1 when all are equal
 *   l2   per side s / sqrt(sum of s^2)
 *
 * mm and l2 are summed with the sides' weights; a side that a document is missing from counts 0. Ranks are
 * from 1, by score and then id; min, max and the sum are over the hits of the side. In double, rounded to
 * float32 once at the end. */
#pragma once
#include "query/search.h"

enum { FUSE_RANK_CONSTANT = 60 };

/* How many hits a side (0, 1) gives: the query's window, a kNN search its k. It does not depend on which of
 * the fused hits are wanted, so pages of one state are parts of one list. */
uint32_t fuse_side_want(const struct query *, int side);
/* A side as a query of its own, which shares the statistics slots of the whole and borrows everything. */
struct query fuse_side_query(const struct query *, int side);
/* The best `want` of both; total: how many documents are in either. Takes and releases the sides. */
void search_fuse(const struct query *, struct search_result sides[2], uint32_t want,
                 struct search_result *ret);
