/* k-means clusters of many vectors: trained level by level, so that the time grows with n sqrt(k) and not
 * with n k.
 *
 * Training (Lloyd's algorithm) first divides the sample into about sqrt(k) groups, then each group into its
 * share of the k clusters, then refines all of them together. Vectors are assigned to the nearest centroid.
 * All of it follows from the sample and the seed; threads do not show (parallel.h). */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Vectors are rows of `dimensions` floats (a multiple of 8), side by side, 32-byte aligned. */
struct kmeans {
    uint32_t dimensions, n_centroids;
    float *centroids; /* n_centroids rows, 32-byte aligned; free() */
};
/* 1 <= k <= n. May give fewer than k centroids, never 0. Clusters of a group stand side by side. */
void kmeans_train(const float *rows, size_t n, uint32_t dimensions, uint32_t k, uint64_t seed,
                  struct kmeans *ret);
void kmeans_release(struct kmeans *);

/* Centroids arranged for comparing many rows with many centroids. Immutable. */
struct centroid_panels {
    uint32_t dimensions, n;
    float *panels;     /* ceil(n / 16) panels: dimensions x 16 */
    float *half_norms; /* |c|^2 / 2; infinite for what fills the last panel up */
};
void centroid_panels_init(struct centroid_panels *, const float *centroids, uint32_t n, uint32_t dimensions);
void centroid_panels_release(struct centroid_panels *);
/* The nearest centroid of each row (Euclidean; of equals the first), and its squared distance less |row|^2
 * (NULL: not wanted). One thread. */
void centroid_panels_nearest(const struct centroid_panels *, const float *rows, size_t n,
                             uint32_t *ret_nearest, float *ret_distance);
/* <row, centroid> of up to CENTROID_TILE rows, which are given by their addresses:
 * products[r * n_padded + c], n_padded being n rounded up to a multiple of 16. dimensions may be any. */
enum { CENTROID_TILE = 12 };
void centroid_panels_products(const struct centroid_panels *, const float *const *rows, size_t n,
                              float *products);
