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

/* Eight terms of the sum; `square` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void add8(const float *a, const float *b, bool square,
                                                       float8 *sum) {
    float8 x = *(const float8 *)a, y = *(const float8 *)b, d = x - y;
    *sum += square ? d * d : x * y;
}

/* 32 elements. ahead: those so many elements later in b are asked for, too; 0: none are. */
static inline __attribute__((always_inline)) struct sums add32(const float *a, const float *b, bool square,
                                                               size_t ahead, struct sums s) {
    if (ahead) vector_prefetch(b + ahead, LANES);
    add8(a, b, square, &s.s0);
    add8(a + WIDTH, b + WIDTH, square, &s.s1);
    add8(a + 2 * WIDTH, b + 2 * WIDTH, square, &s.s2);
    add8(a + 3 * WIDTH, b + 3 * WIDTH, square, &s.s3);
    return s;
}

/* n / 32 * 32 elements. With few jumps, so that more rows are under way at once. */
static inline __attribute__((always_inline)) struct sums add_lanes(const float *a, const float *b, size_t n,
                                                                   bool square, size_t ahead, struct sums s) {
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s = add32(a + i, b + i, square, ahead, s);
        s = add32(a + i + LANES, b + i + LANES, square, ahead, s);
    }
    return n - i >= LANES ? add32(a + i, b + i, square, ahead, s) : s;
}

/* The last elements, fewer than 8, go to lanes 0, 1, ... of the sum. */
static __attribute__((noinline)) float fold_rest(const float *a, const float *b, size_t n, bool square,
                                                 struct sums *s, float8 *sum) {
    for (size_t i = 0; i < n; i++) (*sum)[i] += square ? (a[i] - b[i]) * (a[i] - b[i]) : a[i] * b[i];
    return fold(*s);
}

/* The last n < 32 elements. A copy is what has an address, so that the sums stay in registers. */
static inline __attribute__((always_inline)) float finish(const float *a, const float *b, size_t n,
                                                          bool square, struct sums s) {
    if (n >= WIDTH) add8(a, b, square, &s.s0);
    if (n >= 2 * WIDTH) add8(a + WIDTH, b + WIDTH, square, &s.s1);
    if (n >= 3 * WIDTH) add8(a + 2 * WIDTH, b + 2 * WIDTH, square, &s.s2);
    if (n % WIDTH == 0) return fold(s);
    struct sums copy = s;
    float8 *sums[] = {&copy.s0, &copy.s1, &copy.s2, &copy.s3};
    size_t whole = n / WIDTH * WIDTH;
    return fold_rest(a + whole, b + whole, n - whole, square, &copy, sums[n / WIDTH]);
}

static inline __attribute__((always_inline)) float product(const float *a, const float *b, size_t n,
                                                           bool square, size_t ahead) {
    struct sums s = {{0}, {0}, {0}, {0}};
    size_t whole = n / LANES * LANES;
    s = add_lanes(a, b, n, square, ahead, s);
    return finish(a + whole, b + whole, n - whole, square, s);
}

/* All terms are positive and every lane only grows, so a sum of some of them is not above that of all: it is
 * looked at after every `step` elements. */
static inline __attribute__((always_inline)) float square_bounded(const float *a, const float *b, size_t n,
                                                                  uint32_t step, float most, size_t ahead) {
    struct sums s = {{0}, {0}, {0}, {0}};
    size_t i = 0, whole = n / LANES * LANES;
    for (; i + step < n; i += step) {
        s = add_lanes(a + i, b + i, step, true, ahead, s);
        float sum = fold(s);
        if (sum > most) return sum;
    }
    s = add_lanes(a + i, b + i, n - i, true, ahead, s);
    return finish(a + whole, b + whole, n - whole, true, s);
}

static float dot_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false, 0);
}
static float square_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true, 0);
}

/* ---- many rows; `square` is a constant where these are inlined ---- */

/* Side by side they stream from memory, and what need not be read of them is worth many looks. */
static inline __attribute__((always_inline)) bool stream(const float *q, const struct vector_rows *r,
                                                         bool square, float most, float *ret) {
    const float *row = r->rows;
    size_t dim = r->dimensions, ahead = r->ahead * dim;
    bool any = false;
    for (uint32_t i = 0; i < r->n; i++, row += dim) {
        ret[i] = square ? square_bounded(q, row, dim, LOOK, most, ahead) : product(q, row, dim, false, ahead);
        any |= !(ret[i] > most);
    }
    return any;
}

/* Short ones, of whole lanes: two at a time, so that more of them are under way at once; what is asked for
 * ahead is asked for in the order of memory, else the machine does not see that it is a stream. dim is a
 * constant. */
static inline __attribute__((always_inline)) bool
stream_pairs(const float *q, const struct vector_rows *r, bool square, size_t dim, float most, float *ret) {
    const float *row = r->rows;
    size_t ahead = r->ahead * dim;
    bool any = false;
    uint32_t i = 0;
    for (; i + 2 <= r->n; i += 2, row += 2 * dim) {
        struct sums s = {{0}, {0}, {0}, {0}}, t = s;
        for (size_t k = 0; k < dim; k += LANES) {
            vector_prefetch(row + ahead + 2 * k, 2 * LANES);
            s = add32(q + k, row + k, square, 0, s);
            t = add32(q + k, row + dim + k, square, 0, t);
        }
        ret[i] = fold(s);
        ret[i + 1] = fold(t);
        any |= !(ret[i] > most) | !(ret[i + 1] > most);
    }
    if (i == r->n) return any;
    ret[i] = product(q, row, dim, square, 0);
    return any | !(ret[i] > most);
}

/* Single ones are fewer and often in a cache: one look, half-way. */
static inline __attribute__((always_inline)) bool single(const float *q, const struct vector_rows *r,
                                                         bool square, size_t dim, float most, float *ret) {
    size_t half = MAX(dim / 2 / LANES * LANES, (size_t)LOOK);
    bool any = false;
    for (uint32_t i = 0; i < r->n; i++) {
        const float *row = r->rows + r->numbers[i] * dim;
        uint32_t later = i + r->ahead;
        if (later < r->known) vector_prefetch(r->rows + r->numbers[later] * dim, r->start);
        ret[i] = square ? square_bounded(q, row, dim, half, most, 0) : product(q, row, dim, false, 0);
        any |= !(ret[i] > most);
    }
    return any;
}

static inline __attribute__((always_inline)) bool
short_rows(const float *q, const struct vector_rows *r, bool square, size_t dim, float most, float *ret) {
    return r->numbers ? single(q, r, square, dim, most, ret) : stream_pairs(q, r, square, dim, most, ret);
}

/* Of short rows a good part of the time is that of loops and jumps: with a constant there are none. */
static inline __attribute__((always_inline)) bool rows_products(const float *q, const struct vector_rows *r,
                                                                bool square, float most, float *ret) {
    switch (r->dimensions) {
    case LANES:
        return short_rows(q, r, square, LANES, most, ret);
    case 2 * LANES:
        return short_rows(q, r, square, 2 * LANES, most, ret);
    case 3 * LANES:
        return short_rows(q, r, square, 3 * LANES, most, ret);
    case 4 * LANES:
        return short_rows(q, r, square, 4 * LANES, most, ret);
    default:
        return r->numbers ? single(q, r, square, r->dimensions, most, ret) : stream(q, r, square, most, ret);
    }
}

static bool dot_rows_plain(const float *q, const struct vector_rows *r, float most, float *ret) {
    return rows_products(q, r, false, most, ret);
}
static bool square_rows_plain(const float *q, const struct vector_rows *r, float most, float *ret) {
    return rows_products(q, r, true, most, ret);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) static bool dot_rows_avx2(const float *q, const struct vector_rows *r,
                                                          float most, float *ret) {
    return rows_products(q, r, false, most, ret);
}
__attribute__((target("avx2"))) static bool square_rows_avx2(const float *q, const struct vector_rows *r,
                                                             float most, float *ret) {
    return rows_products(q, r, true, most, ret);
}
__attribute__((target("avx2"))) static float dot_avx2(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false, 0);
}
__attribute__((target("avx2"))) static float square_avx2(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true, 0);
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
