/* Runs a query over the segments of a layout, cut into ranges and dealt to calls as a router would. */
#pragma once
#include "search_model.h"

/* Cuts every segment into ranges and deals them to calls. */
struct division {
    struct search_part parts[4][MAX_PARTS];
    uint32_t n[4], n_calls;
};
static void divide(const struct layout *l, bool ranges, uint32_t n_calls, struct division *ret) {
    *ret = (struct division){.n_calls = n_calls};
    for (uint32_t s = 0; s < l->n; s++) {
        uint32_t n_docs = segment_n_docs(l->segments[s]), lo = 0;
        while (lo < n_docs) {
            uint32_t hi = ranges ? MIN(n_docs, lo + 1 + rnd(n_docs / 3 + 1)) : n_docs, call = rnd(n_calls);
            ret->parts[call][ret->n[call]++] =
                (struct search_part){l->segments[s], l->deletes[s], lo, hi, s, NULL};
            lo = hi;
        }
    }
}
static int run_division(const struct query *q, const struct layout *l, const struct division *d,
                        uint32_t want, struct search_result *ret, struct err *err) {
    struct search_stats stats;
    struct search_result results[4];
    struct knn_result knn[16], partial[4];
    uint32_t n_knn = search_knn_count(q), k = 0;
    int r = 0;
    search_stats_init(&stats, q);
    for (uint32_t s = 0; s < l->n && !r; s++) {
        struct search_part whole = {
            l->segments[s], l->deletes[s], 0, segment_n_docs(l->segments[s]), s, NULL};
        r = search_stats_add(&stats, q, &whole, err);
    }
    for (k = 0; k < n_knn && !r; k++) {
        for (uint32_t c = 0; c < d->n_calls && !r; c++)
            r = search_knn(q, k, &stats, d->parts[c], d->n[c], NULL, &partial[c], err);
        if (!r) search_knn_merge(q, k, partial, d->n_calls, &knn[k]);
    }
    for (uint32_t c = 0; c < d->n_calls && !r; c++)
        r = search_run(q, &stats, knn, d->parts[c], d->n[c], want, NULL, &results[c], err);
    if (!r) r = search_merge(q, results, d->n_calls, want, ret, err);
    for (uint32_t i = 0; i < k; i++) search_knn_release(&knn[i]);
    search_stats_release(&stats);
    return r;
}
static bool same(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0;
}
