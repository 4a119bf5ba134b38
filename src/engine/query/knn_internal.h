/* Inside of the kNN search: knn.c decides, knn_scan.c scans. */
#pragma once
#include "index/cluster.h"
#include "query/search_internal.h"

struct collector;

/* One part being searched. */
struct knn_part {
    struct vector_query query;
    const volatile int *cancel;
    const struct segment *segment;
    struct vectors vectors;        /* opened without the rows */
    const uint64_t *dead, *filter; /* by document; NULL: none is dead, all are allowed */
    bool listed;                   /* few are allowed: `allowed` has them instead of `filter` */
    uint32_t *allowed;             /* ascending, alive; allocated */
    size_t allowed_cap;
    uint32_t lo, hi;    /* documents */
    uint32_t n_allowed; /* documents alive and allowed, with a vector or without */
};
/* The allowed documents among 64 * word to 64 * word + 63, as bits. */
uint64_t knn_allowed_word(const struct knn_part *, uint32_t word);
/* Offers every allowed row to the collector. */
int knn_scan(const struct knn_part *, struct collector *, struct err *);
