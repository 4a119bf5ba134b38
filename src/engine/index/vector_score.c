/* Similarities as scores. */
#include "index/vector_score.h"

#include <float.h>
#include <math.h>

double vector_squared_length(const float *v, uint32_t n) {
    float quick = vector_dot_function()(v, v, n);
    if (quick > 1e-30f && quick < 1e37f)
        return (double)quick; /* nothing came near the ends of float's range */
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)v[i] * v[i];
    return sum;
}

void vector_query_init(struct vector_query *q, enum similarity similarity, const float *vector,
                       uint32_t dimensions) {
    vector_product *dot = vector_dot_function();
    *q = (struct vector_query){.similarity = similarity, .dimensions = dimensions, .vector = vector};
    q->product = similarity == SIMILARITY_EUCLIDEAN ? vector_square_function() : dot;
    q->rows_product =
        similarity == SIMILARITY_EUCLIDEAN ? vector_square_rows_function() : vector_dot_rows_function();
    if (similarity == SIMILARITY_COSINE) q->norm = sqrtf(dot(vector, vector, dimensions));
}

/* Where 1 / (1 + d^2) = least, and more than its rounding errors. */
float vector_query_bound(const struct vector_query *q, float least) {
    if (q->similarity != SIMILARITY_EUCLIDEAN || !(least > 0)) return INFINITY;
    return (float)MIN((double)FLT_MAX, MAX(0.0, 1 / (double)least - 1) * 1.00001 + 1e-5);
}

/* Products of huge numbers overflow; a score is always finite. */
static float finite_score(float score) {
    return score > 0 ? MIN(score, FLT_MAX) : 0;
}

float vector_query_score(const struct vector_query *q, float x, float row_norm) {
    float length;
    switch (q->similarity) {
    case SIMILARITY_EUCLIDEAN:
        return finite_score(1.0f / (1.0f + x));
    case SIMILARITY_MAX_INNER_PRODUCT:
        return finite_score(x < 0 ? 1.0f / (1.0f - x) : x + 1.0f);
    case SIMILARITY_COSINE:
        length = q->norm * row_norm;
        x = length > 0 ? x / length : 0;
        break;
    case SIMILARITY_DOT_PRODUCT:
        break;
    }
    return finite_score((1.0f + x) / 2.0f);
}
