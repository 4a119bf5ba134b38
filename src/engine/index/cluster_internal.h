/* Inside of the clusters: shared by cluster*.c. */
#pragma once
#include "index/cluster.h"
#include "index/index.h"

/* A byte of a centroid is its value in units of its scale, and this. 7 bits: products of pairs fit 16 bits.
 */
enum { CENTROID_ZERO = 64, CENTROID_MOST = 63 };
enum { CLUSTER_LEAST_K = 10 };  /* the least k that is measured */
#define CLUSTER_ALL_LISTS  1e9f /* a width that stops at no list */
#define CLUSTER_FULL_REACH 4.0f

/* Measures what recall needs, and sets the table. */
int clusters_calibrate(const struct cluster_source *, struct clusters *, struct err *);
/* A centroid from its bytes: `padded` floats (NULL: not wanted); its squared length. */
float cluster_centroid(const uint8_t *bytes, float scale, uint32_t padded, float *ret);

/* Their regions. */
void clusters_write(const struct clusters *, struct index_out *);
