/* Rotation, clusters and codes by themselves. */
#include "test.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "index/kmeans.h"
#include "index/parallel.h"
#include "index/rabitq.h"
#include "index/rotate.h"
#include "index/vector_score.h"
#include "util/codec.h"

static uint64_t draws;
static double uniform(void) {
    draws++;
    return (double)(hash64(&draws, sizeof draws, 77) >> 11) / 9007199254740992.0;
}
static float normal(void) {
    return (float)(sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform()));
}
static float *normals(size_t n) {
    float *p = aligned_alloc(32, (n * sizeof *p + 31) / 32 * 32);
    for (size_t i = 0; p && i < n; i++) p[i] = normal();
    return p;
}
static double dot(const float *a, const float *b, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* The order of summation that the header promises. */
static float by_lanes(const float *a, const float *b, uint32_t n, bool square) {
    float lanes[32] = {0};
    for (uint32_t i = 0; i < n; i++) {
        float d = a[i] - b[i];
        float term = square ? d * d : a[i] * b[i];
        lanes[i % 32] += term;
    }
    for (unsigned half = 16; half; half /= 2)
        for (unsigned i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

TEST(products_have_one_order) {
    for (uint32_t n = 1; n < 140; n++) {
        float *a = normals(n), *b = normals(n);
        for (int level = SIMD_PLAIN; level <= SIMD_MOST; level++) {
            simd_limit((enum simd_level)level);
            float x = vector_dot_function()(a, b, n), y = vector_square_function()(a, b, n);
            float want_x = by_lanes(a, b, n, false), want_y = by_lanes(a, b, n, true);
            CHECK(!memcmp(&x, &want_x, sizeof x) && !memcmp(&y, &want_y, sizeof y));
        }
        free(a);
        free(b);
    }
}

/* A bounded product is the product, or says that it is above the bound; no score behind the bound is good. */
TEST(bounded_products) {
    for (uint32_t n = 1; n < 700; n += 37) {
        float *a = normals(n), *b = normals(n);
        struct vector_query q;
        for (int level = SIMD_PLAIN; level <= SIMD_MOST; level++) {
            simd_limit((enum simd_level)level);
            float all = vector_square_function()(a, b, n), dot_all = vector_dot_function()(a, b, n);
            for (unsigned i = 0; i < 40; i++) {
                float most = all * (float)i / 20;
                uint32_t same = 0;
                struct vector_rows rows = {b, i % 2 ? &same : NULL, 1, 1, n, i % 3, n, i % 4 == 3};
                float x, y;
                vector_square_rows_function()(a, &rows, most, &x);
                vector_dot_rows_function()(a, &rows, most, &y);
                CHECK(all <= most ? !memcmp(&x, &all, sizeof x) : x > most && x <= all);
                CHECK(!memcmp(&y, &dot_all, sizeof y));
            }
            vector_query_init(&q, SIMILARITY_EUCLIDEAN, a, n);
            for (float factor = 1e-12f; factor < 1e12f; factor *= 7) {
                float least = vector_query_score(&q, all * factor, 1), bound = vector_query_bound(&q, least);
                CHECK(!(all * factor > bound));
                CHECK(vector_query_score(&q, nextafterf(bound, INFINITY), 1) < least || bound >= FLT_MAX);
            }
        }
        CHECK(vector_query_bound(&q, 0) == INFINITY && vector_query_bound(&q, -INFINITY) == INFINITY);
        vector_query_init(&q, SIMILARITY_COSINE, a, n);
        CHECK(vector_query_bound(&q, 0.9f) == INFINITY);
        free(a);
        free(b);
    }
}

/* Rows of a matrix, side by side or by number: each as by itself. */
TEST(products_of_rows) {
    static const uint32_t sizes[] = {1, 8, 31, 32, 33, 64, 96, 100, 128, 144, 159, 256, 300, 784};
    enum { ROWS = 90, MOST = 35 };
    uint32_t numbers[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) numbers[i] = i * 7 % ROWS;
    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        uint32_t n = sizes[s];
        float *q = normals(n), *rows = normals((size_t)n * ROWS);
        for (uint32_t i = 0; i < 3 * 2 * 2 * MOST; i++) {
            uint32_t count = i % MOST + 1;
            bool square = i / MOST % 2, listed = i / MOST / 2 % 2, any = false;
            float want[MOST], got[MOST], most = INFINITY;
            simd_limit(SIMD_PLAIN);
            vector_product *product = square ? vector_square_function() : vector_dot_function();
            for (uint32_t k = 0; k < count; k++)
                want[k] = product(q, rows + (size_t)n * (listed ? numbers[k] : k), n);
            if (i / MOST / 4) most = want[i % count] * (i / MOST / 4 == 1 ? 1 : 0.5f);
            for (uint32_t k = 0; k < count; k++) any |= !(want[k] > most);
            struct vector_rows r = {rows,        listed ? numbers : NULL, count, ROWS, n, 2,
                                    MIN(n, 32u), count % 3 == 2};
            for (int level = SIMD_PLAIN; level <= SIMD_MOST; level++) {
                simd_limit((enum simd_level)level);
                bool said =
                    (square ? vector_square_rows_function() : vector_dot_rows_function())(q, &r, most, got);
                CHECK(said == any);
                for (uint32_t k = 0; k < count; k++)
                    CHECK(square && want[k] > most ? got[k] > most && got[k] <= want[k] : got[k] == want[k]);
            }
        }
        free(q);
        free(rows);
    }
}

TEST(rotation_is_orthogonal) {
    static const uint32_t sizes[] = {1, 2, 31, 32, 33, 96, 100, 128, 300, 784, 1024, 1536, 4096};
    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        struct rotation r;
        uint32_t n = sizes[s];
        rotation_init(&r, n, 5);
        float *a = normals(n), *b = normals(n), *ra = normals(r.padded), *rb = normals(r.padded);
        float *again = normals(r.padded);
        simd_limit(SIMD_MOST);
        rotation_apply(&r, a, ra);
        rotation_apply(&r, b, rb);
        double size = sqrt(dot(a, a, n) * dot(b, b, n));
        CHECK(fabs(dot(a, b, n) - dot(ra, rb, r.padded)) < 1e-5 * size);
        CHECK(fabs(dot(a, a, n) - dot(ra, ra, r.padded)) < 1e-5 * dot(a, a, n));
        simd_limit(SIMD_PLAIN);
        rotation_apply(&r, a, again);
        CHECK(!memcmp(again, ra, r.padded * sizeof *ra));
        simd_limit(SIMD_MOST);
        rotation_release(&r);
        free(a), free(b), free(ra), free(rb), free(again);
    }
}

/* Whatever direction a vector has, its coordinates are of one size afterwards. */
TEST(rotation_spreads) {
    struct rotation r;
    rotation_init(&r, 784, 5);
    float *v = normals(784), *out = normals(r.padded);
    for (unsigned axis = 0; axis < 784; axis += 37) {
        memset(v, 0, 784 * sizeof *v);
        v[axis] = 1;
        rotation_apply(&r, v, out);
        for (uint32_t d = 0; d < r.padded; d++) CHECK(fabsf(out[d]) < 8 / sqrtf((float)r.padded));
    }
    rotation_release(&r);
    free(v), free(out);
}

/* A block of random vectors, and a query. */
struct coded {
    uint32_t dimensions;
    float *rows, *centroid, *query;
    uint8_t *block, *tables;
    struct rabitq_query q;
};
static void coded_init(struct coded *c, uint32_t dimensions, unsigned n, bool inner) {
    *c = (struct coded){.dimensions = dimensions};
    c->rows = normals((size_t)RABITQ_BLOCK * dimensions);
    c->centroid = normals(dimensions);
    c->query = normals(dimensions);
    c->block = aligned_alloc(32, rabitq_block_size(dimensions));
    c->tables = aligned_alloc(32, (size_t)4 * dimensions);
    rabitq_block_init(c->block, dimensions);
    for (unsigned i = 0; i < n; i++)
        rabitq_encode(c->block, dimensions, i, i, c->rows + (size_t)i * dimensions, c->centroid, inner);
    rabitq_query_init(&c->q, dimensions, c->query, c->tables);
}
static void coded_release(struct coded *c) {
    free(c->rows), free(c->centroid), free(c->query), free(c->block), free(c->tables);
}

TEST(scans_give_the_same_bits) {
    static const uint32_t sizes[] = {32, 64, 96, 800, 1024, 1056, 2048, 4096};
    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        struct coded c;
        struct rabitq_estimates plain, wide;
        memset(&plain, 0, sizeof plain);
        memset(&wide, 0, sizeof wide);
        uint8_t *tables = aligned_alloc(32, (size_t)4 * sizes[s]);
        coded_init(&c, sizes[s], 32 - (unsigned)s, s % 2);
        memcpy(tables, c.tables, (size_t)4 * sizes[s]);
        uint32_t mask = rabitq_scan_function()(&c.q, c.block, 3.5f, 1.25f, 100, &wide);
        simd_limit(SIMD_PLAIN);
        rabitq_query_init(&c.q, sizes[s], c.query, c.tables);
        uint32_t again = rabitq_scan_function()(&c.q, c.block, 3.5f, 1.25f, 100, &plain);
        simd_limit(SIMD_MOST);
        CHECK(!memcmp(tables, c.tables, (size_t)4 * sizes[s]));
        CHECK(mask == again && !memcmp(&plain, &wide, sizeof plain));
        CHECK(!s || !(mask >> (32 - s))); /* places without a row */
        coded_release(&c);
        free(tables);
    }
}

/* Estimates are unbiased, and outside of 3 times the stored bound next to never. */
TEST(estimates_are_within_the_bound) {
    static const uint32_t sizes[] = {32, 96, 800};
    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        for (int inner = 0; inner < 2; inner++) {
            double bias = 0, spread = 0;
            unsigned outside = 0, n = 0;
            for (unsigned round = 0; round < 60; round++) {
                struct coded c;
                struct rabitq_estimates e;
                uint32_t d = sizes[s];
                coded_init(&c, d, RABITQ_BLOCK, inner);
                const struct rabitq_tail *tail = rabitq_block_tail(c.block, d);
                double away = 0;
                for (uint32_t k = 0; k < d; k++) away += pow((double)c.query[k] - c.centroid[k], 2);
                double shift = inner ? -2 * dot(c.query, c.centroid, d) : away;
                rabitq_scan_function()(&c.q, c.block, (float)shift, (float)sqrt(away), INFINITY, &e);
                for (unsigned i = 0; i < RABITQ_BLOCK; i++) {
                    double key = 0;
                    for (uint32_t k = 0; k < d; k++) {
                        double o = (double)c.centroid[k] + c.rows[(size_t)i * d + k];
                        key += inner ? -2 * c.query[k] * o : (c.query[k] - o) * (c.query[k] - o);
                    }
                    double bound = tail->error[i] * sqrt(away);
                    bias += (e.key[i] - key) / bound;
                    spread += pow((e.key[i] - key) / bound, 2);
                    outside += fabs(e.key[i] - key) > 3 * bound;
                    n++;
                }
                coded_release(&c);
            }
            CHECK(fabs(bias / n) < 0.1 && outside <= n / 100);
            CHECK(spread / n > 0.5 && spread / n < 1.3); /* the bound is the standard deviation */
        }
    }
}

TEST(clusters_do_not_depend_on_threads) {
    enum { N = 3000, D = 32, K = 50 };
    float *rows = normals((size_t)N * D);
    struct kmeans one, three;
    for (unsigned i = 0; i < N; i++) rows[(size_t)i * D + i % 7] += 5;
    parallel_set_threads(1);
    kmeans_train(rows, N, D, K, 9, &one);
    parallel_set_threads(3);
    kmeans_train(rows, N, D, K, 9, &three);
    parallel_set_threads(0);
    CHECK(one.n_centroids == three.n_centroids && one.n_centroids >= K / 2);
    CHECK(!memcmp(one.centroids, three.centroids, (size_t)one.n_centroids * D * sizeof(float)));
    kmeans_release(&one);
    kmeans_release(&three);
    free(rows);
}

TEST(nearest_centroids) {
    enum { N = 101, D = 40, K = 37 };
    float *rows = normals((size_t)N * D), *centroids = normals((size_t)K * D), distances[N];
    uint32_t nearest[N];
    struct centroid_panels p;
    centroid_panels_init(&p, centroids, K, D);
    for (int level = SIMD_PLAIN; level <= SIMD_MOST; level++) {
        simd_limit((enum simd_level)level);
        centroid_panels_nearest(&p, rows, N, nearest, distances);
        for (unsigned i = 0; i < N; i++) {
            double best = INFINITY;
            for (unsigned c = 0; c < K; c++) {
                double d = 0;
                for (unsigned k = 0; k < D; k++) d += pow((double)rows[i * D + k] - centroids[c * D + k], 2);
                best = fmin(best, d);
            }
            double got = 0;
            for (unsigned k = 0; k < D; k++)
                got += pow((double)rows[i * D + k] - centroids[nearest[i] * D + k], 2);
            CHECK(got < best + 1e-3);
            CHECK(fabs(distances[i] + dot(rows + i * D, rows + i * D, D) - got) < 1e-2);
        }
    }
    centroid_panels_release(&p);
    free(rows), free(centroids);
}
