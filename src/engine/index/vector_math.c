/* Products in one order of summation. */
#include "index/vector_math_internal.h"

#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))

enum { WIDTH = 8 };

typedef float float8 __attribute__((vector_size(32), aligned(4)));
typedef float float4 __attribute__((vector_size(16)));

/* The lanes. Four variables: an array would be kept in memory. */
struct sums {
    float8 s0, s1, s2, s3;
};

INLINE struct sums zeros(void) {
    return (struct sums){{0}, {0}, {0}, {0}};
}

/* Halves onto each other: lane i + lane i + 4, and so on. */
INLINE float fold(struct sums s) {
    float8 sum = (s.s0 + s.s2) + (s.s1 + s.s3);
    float4 low =
        __builtin_shufflevector(sum, sum, 0, 1, 2, 3) + __builtin_shufflevector(sum, sum, 4, 5, 6, 7);
    low += __builtin_shufflevector(low, low, 2, 3, 2, 3);
    return low[0] + low[1];
}

/* Eight terms of the sum; `square` is a constant where this is inlined. */
INLINE void add8(const float *a, const float *b, bool square, float8 *sum) {
    float8 x = *(const float8 *)a, y = *(const float8 *)b, d = x - y;
    *sum += square ? d * d : x * y;
}

INLINE struct sums add32(const float *a, const float *b, bool square, struct sums s) {
    add8(a, b, square, &s.s0);
    add8(a + WIDTH, b + WIDTH, square, &s.s1);
    add8(a + 2 * WIDTH, b + 2 * WIDTH, square, &s.s2);
    add8(a + 3 * WIDTH, b + 3 * WIDTH, square, &s.s3);
    return s;
}

/* The last elements, fewer than 8, go to lanes 0, 1, ... of the sum. */
static __attribute__((noinline)) float fold_rest(const float *a, const float *b, size_t n, bool square,
                                                 struct sums *s, float8 *sum) {
    for (size_t i = 0; i < n; i++) (*sum)[i] += square ? (a[i] - b[i]) * (a[i] - b[i]) : a[i] * b[i];
    return fold(*s);
}

/* The last n < 32 elements. A copy is what has an address, so that the sums stay in registers. */
INLINE float finish(const float *a, const float *b, size_t n, bool square, struct sums s) {
    if (n >= WIDTH) add8(a, b, square, &s.s0);
    if (n >= 2 * WIDTH) add8(a + WIDTH, b + WIDTH, square, &s.s1);
    if (n >= 3 * WIDTH) add8(a + 2 * WIDTH, b + 2 * WIDTH, square, &s.s2);
    if (n % WIDTH == 0) return fold(s);
    struct sums copy = s;
    float8 *sums[] = {&copy.s0, &copy.s1, &copy.s2, &copy.s3};
    size_t whole = n / WIDTH * WIDTH;
    return fold_rest(a + whole, b + whole, n - whole, square, &copy, sums[n / WIDTH]);
}

#include "index/vector_kernel.h"

static float dot_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false, 0);
}
static float square_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true, 0);
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

static const struct vector_kernels *kernels(void) {
    static const struct vector_kernels plain = {dot_plain, square_plain, dot_rows_plain, square_rows_plain};
#ifdef __x86_64__
    static const struct vector_kernels avx2 = {dot_avx2, square_avx2, dot_rows_avx2, square_rows_avx2};
    if (simd_level() >= SIMD_AVX512) return &vector_kernels_avx512;
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
