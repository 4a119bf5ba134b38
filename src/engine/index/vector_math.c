/* Products in one order of summation. */
#include "index/vector_math.h"
#include "util/buf.h"

#include <string.h>

enum { LANES = 32, WIDTH = 8, LOOK = 128 /* elements between two looks at a bounded sum, at least */ };

typedef float float8 __attribute__((vector_size(32), aligned(4)));
typedef float float4 __attribute__((vector_size(16)));

/* ---- kernels ---- */

/* The lanes. Four variables: an array would be kept in memory. */
struct sums {
    float8 s0, s1, s2, s3;
};

/* Halves onto each other: lane i + lane i + 4, and so on. */
static inline __attribute__((always_inline)) float fold(struct sums s) {
    float8 sum = (s.s0 + s.s2) + (s.s1 + s.s3);
    float4 low =
        __builtin_shufflevector(sum, sum, 0, 1, 2, 3) + __builtin_shufflevector(sum, sum, 4, 5, 6, 7);
    low += __builtin_shufflevector(low, low, 2, 3, 2, 3);
    return low[0] + low[1];
}

/* One term of the sum; `square` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void add8(const float *a, const float *b, bool square,
                                                       float8 *sum) {
    float8 x = *(const float8 *)a, y = *(const float8 *)b, d = x - y;
    *sum += square ? d * d : x * y;
}

static inline __attribute__((always_inline)) float term1(float x, float y, bool square) {
    return square ? (x - y) * (x - y) : x * y;
}

/* 32 elements. */
static inline __attribute__((always_inline)) void add32(const float *a, const float *b, bool square,
                                                        struct sums *s) {
    add8(a, b, square, &s->s0);
    add8(a + WIDTH, b + WIDTH, square, &s->s1);
    add8(a + 2 * WIDTH, b + 2 * WIDTH, square, &s->s2);
    add8(a + 3 * WIDTH, b + 3 * WIDTH, square, &s->s3);
}

/* The last n < 32 elements go to lanes 0, 1, ... */
static inline __attribute__((always_inline)) void add_rest(const float *a, const float *b, uint32_t n,
                                                           bool square, struct sums *sums) {
    float8 *s[4] = {&sums->s0, &sums->s1, &sums->s2, &sums->s3};
    uint32_t i = 0, k = 0;
    for (; i + WIDTH <= n; i += WIDTH) add8(a + i, b + i, square, s[k++]);
    for (uint32_t lane = 0; i < n; i++, lane++) (*s[k])[lane] += term1(a[i], b[i], square);
}

/* A copy is what has an address, so that the sums of the loop stay in registers. */
static inline __attribute__((always_inline)) float finish(const float *a, const float *b, uint32_t n,
                                                          bool square, struct sums s) {
    if (!n) return fold(s);
    struct sums rest = s;
    add_rest(a, b, n, square, &rest);
    return fold(rest);
}

static inline __attribute__((always_inline)) float product(const float *a, const float *b, uint32_t n,
                                                           bool square) {
    struct sums s = {{0}, {0}, {0}, {0}};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) add32(a + i, b + i, square, &s);
    return finish(a + i, b + i, n - i, square, s);
}

/* All terms are positive and every lane only grows, so a sum of some of them is not above that of all: it is
 * looked at after every `step` elements. */
static inline __attribute__((always_inline)) float square_bounded(const float *a, const float *b, uint32_t n,
                                                                  uint32_t step, float most) {
    struct sums s = {{0}, {0}, {0}, {0}};
    uint32_t i = 0;
    while (i + step <= n) {
        for (uint32_t end = i + step; i < end; i += LANES) add32(a + i, b + i, true, &s);
        float sum = fold(s);
        if (sum > most) return sum;
    }
    for (; i + LANES <= n; i += LANES) add32(a + i, b + i, true, &s);
    return finish(a + i, b + i, n - i, true, s);
}

static float dot_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false);
}
static float square_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true);
}

/* Rows side by side stream from memory, and what need not be read of them is worth many looks; single ones
 * are fewer and often in a cache: one look, half-way. `square` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void rows_products(const float *q, const struct vector_rows *r,
                                                                bool square, float most, float *ret) {
    uint32_t dim = r->dimensions, half = MAX(dim / 2 / LANES * LANES, (uint32_t)LOOK);
    for (uint32_t i = 0; i < r->n && !r->numbers; i++) {
        const float *row = r->rows + (size_t)i * dim;
        vector_prefetch(row + (size_t)r->ahead * dim, r->start);
        ret[i] = square ? square_bounded(q, row, dim, LOOK, most) : product(q, row, dim, false);
    }
    for (uint32_t i = 0; i < r->n && r->numbers; i++) {
        const float *row = r->rows + (size_t)r->numbers[i] * dim;
        uint32_t later = i + r->ahead;
        if (later < r->known) vector_prefetch(r->rows + (size_t)r->numbers[later] * dim, r->start);
        ret[i] = square ? square_bounded(q, row, dim, half, most) : product(q, row, dim, false);
    }
}
static void dot_rows_plain(const float *q, const struct vector_rows *r, float most, float *ret) {
    rows_products(q, r, false, most, ret);
}
static void square_rows_plain(const float *q, const struct vector_rows *r, float most, float *ret) {
    rows_products(q, r, true, most, ret);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) static void dot_rows_avx2(const float *q, const struct vector_rows *r,
                                                          float most, float *ret) {
    rows_products(q, r, false, most, ret);
}
__attribute__((target("avx2"))) static void square_rows_avx2(const float *q, const struct vector_rows *r,
                                                             float most, float *ret) {
    rows_products(q, r, true, most, ret);
}
__attribute__((target("avx2"))) static float dot_avx2(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false);
}
__attribute__((target("avx2"))) static float square_avx2(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true);
}
#endif

struct kernels {
    vector_product *dot, *square;
    vector_rows_product *dot_rows, *square_rows;
};

static const struct kernels *kernels(void) {
    static const struct kernels plain = {dot_plain, square_plain, dot_rows_plain, square_rows_plain};
#ifdef __x86_64__
    static const struct kernels avx2 = {dot_avx2, square_avx2, dot_rows_avx2, square_rows_avx2};
    if (simd_level() >= SIMD_AVX2) return &avx2;
#endif
    return &plain;
}

vector_product *vector_dot_function(void) {
    return kernels()->dot;
}

vector_product *vector_square_function(void) {
    return kernels()->square;
}

vector_rows_product *vector_dot_rows_function(void) {
    return kernels()->dot_rows;
}

vector_rows_product *vector_square_rows_function(void) {
    return kernels()->square_rows;
}
