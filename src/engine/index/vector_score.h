/* The similarity of a query vector with rows, with the scores of Lucene's VectorSimilarityFunction.
 *
 *     euclidean 1 / (1 + d^2)    cosine, dot_product (1 + x) / 2    max_inner_product x < 0 ? 1 / (1 - x) : x
 * + 1
 *
 * Scores are finite and not negative. The same bits everywhere (vector_math.h). */
#pragma once
#include "index/schema.h"
#include "index/vector_math.h"

/* Neither overflows nor underflows; not finite where an element is not. */
double vector_squared_length(const float *vector, uint32_t dimensions);

struct vector_query {
    enum similarity similarity;
    uint32_t dimensions;
    const float *vector;
    float norm; /* Euclidean; COSINE only */
    vector_product *product;
    vector_rows_product *rows_product; /* of many rows, with the bound below */
};
void vector_query_init(struct vector_query *, enum similarity, const float *vector, uint32_t dimensions);
/* d^2 for euclidean, else the inner product. */
static inline float vector_query_product(const struct vector_query *q, const float *row) {
    return q->product(q->vector, row, q->dimensions);
}
/* A product behind which all scores are below `least`, for rows_product; infinite where there is none. */
float vector_query_bound(const struct vector_query *, float least);
/* From the product with a row and the row's norm. A zero vector has no direction: its cosine counts as 0. */
float vector_query_score(const struct vector_query *, float product, float row_norm);
