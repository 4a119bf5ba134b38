/* Clustered vectors: an inverted file of RaBitQ codes over the rows of a vector field, for approximate
 * search.
 *
 * Rows are rotated (rotate.h), made relative to their mean and divided by k-means (kmeans.h) into lists; a
 * list holds one-bit codes of the rows less their centroid (rabitq.h). A search ranks the lists by their
 * centroids, scans the codes of the nearest ones, and computes the exact similarity of the rows whose
 * estimate leaves them a chance. How many lists and how much of a chance follows from the recall asked for,
 * by a table that is measured when the clusters are made. Design: docs/VECTORS.md. Format: docs/FORMAT.md. */
#pragma once
#include "index/rabitq.h"
#include "index/rotate.h"
#include "index/segment.h"
#include "index/vector_score.h"

enum { CLUSTER_VERSION = 1, CLUSTER_MAX_CALIBRATIONS = 64 };

/* What a recall costs and how it is reached, for k nearest. */
struct cluster_calibration {
    float recall;
    uint32_t k;
    float width;             /* lists up to this far behind the nearest one are scanned: see cluster_probe */
    float reach;             /* multiple of the codes' error bound that is allowed for */
    float scanned, reranked; /* rows, on average */
};

/* Clusters as they are read; immutable. Arrays belong to the segment (or to who made them). */
struct clusters {
    uint32_t n_rows, n_lists, n_blocks;
    bool inner_product; /* keys are -2 <q, o>; else squared distances */
    bool normalised;    /* rows and query as directions (cosine) */
    struct rotation rotation;
    float spread;                /* root of the mean squared distance of a row to its centroid */
    const float *mean;           /* of the rotated rows */
    const uint32_t *first_block; /* n_lists + 1 */
    const float *scales, *norms; /* of the centroids; their squared lengths */
    const uint8_t *centroids;    /* n_lists x padded: scale * (byte - 64) */
    const uint8_t *blocks;       /* n_blocks of rabitq_block_size(padded) bytes */
    struct blob *blob;           /* blocks have to be asked for there; NULL: they are in memory */
    uint64_t blocks_off;
    uint32_t n_calibrations;
    struct cluster_calibration calibrations[CLUSTER_MAX_CALIBRATIONS]; /* by k, then recall */
};

/* ---- making ---- */

struct cluster_source {
    const float *const *rows; /* n */
    const float *norms;       /* Euclidean */
    uint32_t n, dimensions;
    enum similarity similarity;
    const volatile int *cancel; /* may be NULL */
};
/* Clusters in memory, calibrated; the same for any number of threads. ERR_CANCELED. */
int clusters_make(const struct cluster_source *, struct clusters *ret, struct err *);
/* Of clusters in memory. */
void clusters_free(struct clusters *);
/* Whether so many rows get clusters: not where an exact scan is as fast, and not in segments that live in
 * memory (the unbuilt log), which must be made quickly. */
bool clusters_wanted(uint32_t n_rows, bool in_memory);
/* For tests: clusters from so many rows on, in memory too; 0: the default. */
void clusters_set_threshold(uint32_t n_rows);

/* ---- storing ---- */

/* Of a field: checked so that a search cannot be led astray; *ret NULL when it has none. */
int clusters_open(const struct segment_field *, struct clusters **ret, struct err *);
void clusters_close(struct clusters *); /* NULL is fine */
/* Checks all of it. */
int clusters_verify(const struct segment_field *, const struct clusters *, struct err *);

/* ---- searching ---- */

struct cluster_search {
    const struct clusters *clusters;
    const struct vectors *vectors; /* rows, norms and documents */
    const float *const *rows;      /* NULL: those of `vectors`; else only its norms are used */
    const struct vector_query *query;
    uint32_t k;
    float width, reach;
    const uint64_t *dead, *filter; /* by document; NULL: none is dead, all are allowed */
    const volatile int *cancel;
    uint32_t skip_row;           /* RABITQ_NO_ROW: none */
    const struct segment *ahead; /* remote: ids and documents of likely hits are fetched along; NULL: not */
    bool ahead_documents;
    uint64_t n_scanned, n_reranked; /* out: added to */
};
struct cluster_hit {
    float score;
    uint32_t row;
};
/* The k best found, best first, ties by row; exact scores. ret: room for k. ERR_CANCELED, ERR_TIMEOUT,
 * ERR_CORRUPT. */
int cluster_search_run(struct cluster_search *, struct cluster_hit *ret, uint32_t *ret_n, struct err *);
struct fetch;
/* Of a remote object: wants the lists that a search for k nearest will scan first. */
void cluster_search_want(const struct clusters *, const struct vector_query *, uint32_t k, struct fetch *);
/* The settings for a recall of the `k` nearest (below 1). */
struct cluster_calibration clusters_settings(const struct clusters *, float recall, double k);
/* About how long a search takes that scans and reranks so many rows, and an exact scan of `n` rows one by
 * one, in ns. */
float cluster_cost(const struct clusters *, float scanned, float reranked);
float cluster_exact_cost(uint32_t dimensions, float n);
