/* Products in one order of summation. */
#include "index/vector_math.h"

#include <string.h>

enum { LANES = 32, WIDTH = 8 };

typedef float float8 __attribute__((vector_size(32), aligned(4)));

/* ---- kernels ---- */

static inline __attribute__((always_inline)) float fold(const float8 s[4]) {
    float lanes[WIDTH] __attribute__((aligned(32)));
    float8 sum = (s[0] + s[2]) + (s[1] + s[3]);
    memcpy(lanes, &sum, sizeof lanes);
    for (unsigned half = WIDTH / 2; half; half /= 2)
        for (unsigned i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
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

/* The last n < 32 elements go to lanes 0, 1, ... */
static inline __attribute__((always_inline)) void add_rest(const float *a, const float *b, uint32_t n,
                                                           bool square, float8 s[4]) {
    uint32_t i = 0, k = 0;
    for (; i + WIDTH <= n; i += WIDTH) add8(a + i, b + i, square, &s[k++]);
    for (uint32_t lane = 0; i < n; i++, lane++) s[k][lane] += term1(a[i], b[i], square);
}

static inline __attribute__((always_inline)) float product(const float *a, const float *b, uint32_t n,
                                                           bool square) {
    float8 s[4] = {{0}};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (unsigned k = 0; k < 4; k++) add8(a + i + WIDTH * k, b + i + WIDTH * k, square, &s[k]);
    if (i < n) add_rest(a + i, b + i, n - i, square, s);
    return fold(s);
}

static float dot_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false);
}
static float square_plain(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) static float dot_avx2(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false);
}
__attribute__((target("avx2"))) static float square_avx2(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true);
}
#endif

vector_product *vector_dot_function(void) {
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2) return dot_avx2;
#endif
    return dot_plain;
}

vector_product *vector_square_function(void) {
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2) return square_avx2;
#endif
    return square_plain;
}
