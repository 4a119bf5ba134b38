/* Training, level by level. */
#include "index/kmeans.h"

#include <math.h>

#include "index/parallel.h"
#include "util/codec.h"

enum { GROUP_ROUNDS = 8, CLUSTER_ROUNDS = 8, JOINT_ROUNDS = 2, ROWS_PER_ITEM = 384 };

/* ---- one Lloyd run ---- */

struct lloyd {
    const float *rows;
    size_t n;
    uint32_t dimensions, k;
    float *centroids;
    uint32_t *nearest; /* of each row */
    uint32_t *order;   /* row numbers by cluster, ascending within one */
    uint32_t *starts;  /* k + 1 */
    struct centroid_panels panels;
};

static void assign_item(void *ctx, size_t item) {
    struct lloyd *l = ctx;
    size_t from = item * ROWS_PER_ITEM, n = MIN(l->n - from, (size_t)ROWS_PER_ITEM);
    centroid_panels_nearest(&l->panels, l->rows + from * l->dimensions, n, l->nearest + from, NULL);
}

static void assign(struct lloyd *l) {
    centroid_panels_init(&l->panels, l->centroids, l->k, l->dimensions);
    parallel_for((l->n + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, assign_item, l);
    centroid_panels_release(&l->panels);
}

static void sort_rows(struct lloyd *l) {
    memset(l->starts, 0, ((size_t)l->k + 1) * sizeof *l->starts);
    for (size_t i = 0; i < l->n; i++) l->starts[l->nearest[i] + 1]++;
    for (uint32_t c = 0; c < l->k; c++) l->starts[c + 1] += l->starts[c];
    uint32_t *at = xmalloc((size_t)l->k * sizeof *at);
    memcpy(at, l->starts, (size_t)l->k * sizeof *at);
    for (size_t i = 0; i < l->n; i++) l->order[at[l->nearest[i]]++] = (uint32_t)i;
    free(at);
}

static void average_item(void *ctx, size_t c) {
    struct lloyd *l = ctx;
    float *centroid = l->centroids + c * l->dimensions;
    uint32_t from = l->starts[c], to = l->starts[c + 1];
    if (from == to) return;
    memset(centroid, 0, l->dimensions * sizeof *centroid);
    for (uint32_t i = from; i < to; i++) {
        const float *row = l->rows + (size_t)l->order[i] * l->dimensions;
        for (uint32_t d = 0; d < l->dimensions; d++) centroid[d] += row[d];
    }
    for (uint32_t d = 0; d < l->dimensions; d++) centroid[d] /= (float)(to - from);
}

/* A cluster without rows takes over a row of the largest one: the one in the middle of its list. */
static void refill_empty(struct lloyd *l) {
    for (uint32_t c = 0; c < l->k; c++) {
        uint32_t largest = 0;
        if (l->starts[c] != l->starts[c + 1]) continue;
        for (uint32_t o = 1; o < l->k; o++)
            if (l->starts[o + 1] - l->starts[o] > l->starts[largest + 1] - l->starts[largest]) largest = o;
        uint32_t middle = l->starts[largest] + (l->starts[largest + 1] - l->starts[largest] + c) / 2;
        const float *row =
            l->rows + (size_t)l->order[MIN(middle, l->starts[largest + 1] - 1)] * l->dimensions;
        memcpy(l->centroids + (size_t)c * l->dimensions, row, l->dimensions * sizeof *row);
    }
}

/* Rounds from the centroids that are there; at the end `nearest` is that of the last but one centroids. */
static void lloyd_run(struct lloyd *l, unsigned rounds) {
    for (unsigned i = 0; i < rounds; i++) {
        assign(l);
        sort_rows(l);
        parallel_for(l->k, average_item, l);
        if (i + 1 < rounds) refill_empty(l);
    }
}

static void lloyd_init(struct lloyd *l, const float *rows, size_t n, uint32_t dimensions, uint32_t k) {
    *l = (struct lloyd){.rows = rows, .n = n, .dimensions = dimensions, .k = k};
    l->centroids = aligned_alloc(32, (size_t)k * dimensions * sizeof(float));
    if (!l->centroids) abort();
    l->nearest = xmalloc(n * sizeof *l->nearest);
    l->order = xmalloc(n * sizeof *l->order);
    l->starts = xmalloc(((size_t)k + 1) * sizeof *l->starts);
}

/* Keeps the centroids. */
static void lloyd_release(struct lloyd *l) {
    free(l->nearest);
    free(l->order);
    free(l->starts);
}

/* k rows, spread over the sample: one drawn from each k-th of it. */
static void seed_centroids(struct lloyd *l, uint64_t seed) {
    for (uint32_t c = 0; c < l->k; c++) {
        size_t from = l->n * c / l->k, to = l->n * (c + 1) / l->k;
        size_t row = from + hash64(&c, sizeof c, seed) % (to - from);
        memcpy(l->centroids + (size_t)c * l->dimensions, l->rows + row * l->dimensions,
               l->dimensions * sizeof(float));
    }
}

/* ---- levels ---- */

struct split {
    const struct lloyd *groups;
    uint32_t *share; /* clusters of each group, then where they start: groups + 1 */
    float *centroids;
    uint64_t seed;
};

/* Divides one group. One thread a group: the loops inside find no free thread and run here. */
static void split_item(void *ctx, size_t g) {
    struct split *s = ctx;
    const struct lloyd *groups = s->groups;
    uint32_t from = groups->starts[g], n = groups->starts[g + 1] - from;
    uint32_t first = s->share[g], k = s->share[g + 1] - first, dimensions = groups->dimensions;
    struct lloyd l;
    if (!k) return;
    float *rows = aligned_alloc(32, (size_t)n * dimensions * sizeof *rows);
    if (!rows) abort();
    for (uint32_t i = 0; i < n; i++)
        memcpy(rows + (size_t)i * dimensions, groups->rows + (size_t)groups->order[from + i] * dimensions,
               dimensions * sizeof *rows);
    lloyd_init(&l, rows, n, dimensions, k);
    seed_centroids(&l, s->seed + 1 + g);
    lloyd_run(&l, k > 1 ? CLUSTER_ROUNDS : 1);
    memcpy(s->centroids + (size_t)first * dimensions, l.centroids, (size_t)k * dimensions * sizeof *rows);
    free(l.centroids);
    lloyd_release(&l);
    free(rows);
}

/* Clusters by the number of rows, each group with rows at least one; returns their sum. */
static uint32_t divide_shares(const struct lloyd *groups, uint32_t k, uint32_t *share) {
    share[0] = 0;
    for (uint32_t g = 0; g < groups->k; g++) {
        uint64_t n = groups->starts[g + 1] - groups->starts[g];
        uint64_t clusters = (n * k + groups->n / 2) / groups->n;
        share[g + 1] = share[g] + (uint32_t)(n ? MAX(1, MIN(clusters, n)) : 0);
    }
    return share[groups->k];
}

void kmeans_train(const float *rows, size_t n, uint32_t dimensions, uint32_t k, uint64_t seed,
                  struct kmeans *ret) {
    struct lloyd groups, all;
    uint32_t n_groups = (uint32_t)lround(sqrt((double)k));
    lloyd_init(&groups, rows, n, dimensions, MAX(1, MIN(n_groups, k)));
    seed_centroids(&groups, seed);
    lloyd_run(&groups, GROUP_ROUNDS);
    struct split split = {.groups = &groups, .seed = seed};
    split.share = xmalloc(((size_t)groups.k + 1) * sizeof *split.share);
    k = divide_shares(&groups, k, split.share);
    lloyd_init(&all, rows, n, dimensions, k);
    split.centroids = all.centroids;
    parallel_for(groups.k, split_item, &split);
    lloyd_run(&all, JOINT_ROUNDS);
    *ret = (struct kmeans){dimensions, k, all.centroids};
    free(split.share);
    free(groups.centroids);
    lloyd_release(&groups);
    lloyd_release(&all);
}

void kmeans_release(struct kmeans *k) {
    free(k->centroids);
    *k = (struct kmeans){0};
}
