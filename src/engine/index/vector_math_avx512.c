/* Products in one order of summation, half of the lanes a register. */
#ifdef __x86_64__
#include "index/vector_math_internal.h"

#include <immintrin.h>
#include <stddef.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE AVX512 static inline __attribute__((always_inline))

enum { WIDTH = 16 };

struct sums {
    __m512 low, high;
};

INLINE struct sums zeros(void) {
    return (struct sums){_mm512_setzero_ps(), _mm512_setzero_ps()};
}

INLINE float fold(struct sums s) {
    __m512 sum = _mm512_add_ps(s.low, s.high);
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE __m512 add16(__m512 sum, __m512 a, __m512 b, bool square) {
    __m512 d = _mm512_sub_ps(a, b);
    return _mm512_add_ps(sum, square ? _mm512_mul_ps(d, d) : _mm512_mul_ps(a, b));
}

INLINE struct sums add32(const float *a, const float *b, bool square, struct sums s) {
    s.low = add16(s.low, _mm512_loadu_ps(a), _mm512_loadu_ps(b), square);
    s.high = add16(s.high, _mm512_loadu_ps(a + WIDTH), _mm512_loadu_ps(b + WIDTH), square);
    return s;
}

/* The first n <= 16; nothing is read behind them. Where there is none zero is added, which changes no sum:
 * one that began as +0 is never -0. */
INLINE __m512 add_some(__m512 sum, const float *a, const float *b, size_t n, bool square) {
    __mmask16 some = (__mmask16)((1u << n) - 1);
    return add16(sum, _mm512_maskz_loadu_ps(some, a), _mm512_maskz_loadu_ps(some, b), square);
}

INLINE float finish(const float *a, const float *b, size_t n, bool square, struct sums s) {
    if (!n) return fold(s);
    s.low = add_some(s.low, a, b, n < WIDTH ? n : WIDTH, square);
    if (n > WIDTH) s.high = add_some(s.high, a + WIDTH, b + WIDTH, n - WIDTH, square);
    return fold(s);
}

#include "index/vector_kernel.h"

AVX512 static float dot(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, false, 0);
}
AVX512 static float square(const float *a, const float *b, uint32_t n) {
    return product(a, b, n, true, 0);
}
AVX512 static bool dot_rows(const float *q, const struct vector_rows *r, float most, float *ret) {
    return rows_products(q, r, false, most, ret);
}
AVX512 static bool square_rows(const float *q, const struct vector_rows *r, float most, float *ret) {
    return rows_products(q, r, true, most, ret);
}

const struct vector_kernels vector_kernels_avx512 = {dot, square, dot_rows, square_rows};
#else
typedef int nothing_here; /* not an empty file */
#endif
