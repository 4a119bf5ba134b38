/* The best hits of a part by score, without scoring every match (README.md: "The best by score"). */
#pragma once
#include "query/collect.h"

struct facet_counter;

/* Can the part be run this way? */
bool topk_supports(const struct search_ctx *, const struct collector *);
/* Runs the part: the collector (begun) gets every match that can be among the best, in ascending order, and
 * the number of all; the counter (may be NULL) all of them. */
int topk_run(struct search_ctx *, struct collector *, struct facet_counter *, struct err *);
/* Tests: score every match from now on, or not. */
void topk_disable(bool);
