/* Clusters as they are stored, and their settings. */
#include <math.h>

#include "index/cluster_internal.h"

/* Of all rows: more nearest than this are looked for in all lists. */
#define MAX_MEASURED_SHARE 0.05

float cluster_centroid(const uint8_t *bytes, float scale, uint32_t padded, float *ret) {
    double norm = 0;
    for (uint32_t d = 0; d < padded; d++) {
        float v = scale * (float)((int)bytes[d] - CENTROID_ZERO);
        norm += (double)v * v;
        if (ret) ret[d] = v;
    }
    return (float)norm;
}

/* Rough: what matters is where two of them cross. A code costs about 1 ns for 200 dimensions and 1 ns more, a
 * row what its bytes take from memory at 14 GB/s, and a part of the memory's latency. */
float cluster_exact_cost(uint32_t dimensions, float n) {
    return n * (20 + (float)dimensions * sizeof(float) / 14);
}

float cluster_cost(const struct clusters *c, float scanned, float reranked) {
    float centroid = 1 + (float)c->rotation.padded / 64, code = 1 + (float)c->rotation.padded / 200;
    return (float)c->n_lists * centroid + scanned * code +
           cluster_exact_cost(c->rotation.dimensions, reranked);
}

/* The entry of a table for one k that reaches the recall. */
static struct cluster_calibration entry_for(const struct clusters *c, uint32_t from, uint32_t to,
                                            float recall) {
    for (uint32_t i = from; i < to; i++)
        if (c->calibrations[i].recall >= recall - 1e-6f) return c->calibrations[i];
    return (struct cluster_calibration){recall,           0, CLUSTER_ALL_LISTS, CLUSTER_FULL_REACH,
                                        (float)c->n_rows, 0};
}

struct cluster_calibration clusters_settings(const struct clusters *c, float recall, double k) {
    const struct cluster_calibration all = {recall,
                                            0,
                                            CLUSTER_ALL_LISTS,
                                            CLUSTER_FULL_REACH,
                                            (float)c->n_rows,
                                            (float)MIN(2 * k, (double)c->n_rows)};
    uint32_t n = c->n_calibrations, split = 0;
    while (split < n && c->calibrations[split].k == c->calibrations[0].k) split++;
    if (!n || k > (double)c->n_rows * MAX_MEASURED_SHARE) return all;
    struct cluster_calibration a = entry_for(c, 0, split, recall);
    if (split == n || k <= a.k || !a.k) return a;
    bool beyond = k > c->calibrations[split].k; /* what is not measured is allowed half the loss */
    struct cluster_calibration b = entry_for(c, split, n, beyond ? (1 + recall) / 2 : recall);
    if (!b.k) return all;
    /* Between and beyond the two: along the logarithm of k, never below the greater one's settings. */
    float part = (float)(log(k / a.k) / log((double)b.k / a.k));
    float unknown =
        beyond ? (float)(k / b.k) : 1; /* where all lists are equally far, it may be that much more */
    b.width = MAX(MAX(a.width, b.width), a.width + part * (b.width - a.width));
    b.reach = MAX(a.reach, b.reach);
    b.scanned =
        MIN((float)c->n_rows, unknown * a.scanned * powf(MAX(b.scanned / MAX(a.scanned, 1.0f), 1.0f), part));
    b.reranked = MIN((float)c->n_rows,
                     unknown * a.reranked * powf(MAX(b.reranked / MAX(a.reranked, 1.0f), 1.0f), part));
    return b;
}
