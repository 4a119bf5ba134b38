/* Inner loops: one body each, compiled for each instruction set. */
#include "query/kernels.h"

#include "query/bm25.h"
#include "util/simd.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define BODY __attribute__((always_inline)) static inline

typedef float float8 __attribute__((vector_size(32), aligned(4), may_alias));

/* Blocks of 64 keep what is gathered in the first cache. */
BODY void term_scores(float weight, const float inverse[256], const uint8_t *norms, const uint32_t *docs,
                      const uint32_t *freqs, uint32_t n, float *scores) {
    float f[64] __attribute__((aligned(32))), inv[64] __attribute__((aligned(32)));
    for (uint32_t at = 0; at < n; at += 64) {
        uint32_t some = n - at < 64 ? n - at : 64, i;
        for (i = 0; i < some; i++) {
            f[i] = (float)freqs[at + i];
            inv[i] = inverse[norms[docs[at + i]]];
        }
        for (; i % 8; i++) f[i] = inv[i] = 0;
        for (i = 0; i < some; i += 8)
            *(float8 *)(scores + at + i) =
                weight - weight / (1.0f + *(const float8 *)(f + i) * *(const float8 *)(inv + i));
    }
}

BODY uint32_t count_bits(const uint64_t *bits, uint32_t n_words) {
    uint32_t n = 0;
    for (uint32_t w = 0; w < n_words; w++) n += (uint32_t)__builtin_popcountll(bits[w]);
    return n;
}

BODY void keep_above(const double *sums, double bar, uint64_t *bits, uint32_t n_words) {
    for (uint32_t w = 0; w < n_words; w++) {
        uint64_t above = 0;
        for (uint64_t left = bits[w]; left; left &= left - 1) {
            unsigned i = (unsigned)__builtin_ctzll(left);
            above |= (uint64_t)(sums[64 * (uint64_t)w + i] >= bar) << i;
        }
        bits[w] = above;
    }
}

BODY uint32_t find_above(const float *scores, float bar, uint32_t n, uint32_t *ret_positions) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) {
        ret_positions[found] = i;
        found += scores[i] >= bar;
    }
    return found;
}

static void plain_term_scores(float weight, const float inverse[256], const uint8_t *norms,
                              const uint32_t *docs, const uint32_t *freqs, uint32_t n, float *scores) {
    term_scores(weight, inverse, norms, docs, freqs, n, scores);
}
static void plain_keep_above(const double *sums, double bar, uint64_t *bits, uint32_t n_words) {
    keep_above(sums, bar, bits, n_words);
}
static uint32_t plain_find_above(const float *scores, float bar, uint32_t n, uint32_t *ret_positions) {
    return find_above(scores, bar, n, ret_positions);
}
static uint32_t plain_count(const uint64_t *bits, uint32_t n_words) {
    return count_bits(bits, n_words);
}
static const struct kernels plain = {
    .term_scores = plain_term_scores,
    .keep_above = plain_keep_above,
    .find_above = plain_find_above,
    .count = plain_count,
};

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,popcnt,bmi")))

AVX2 static void avx2_term_scores(float weight, const float inverse[256], const uint8_t *norms,
                                  const uint32_t *docs, const uint32_t *freqs, uint32_t n, float *scores) {
    term_scores(weight, inverse, norms, docs, freqs, n, scores);
}

AVX2 static void avx2_keep_above(const double *sums, double bar, uint64_t *bits, uint32_t n_words) {
    const __m256d least = _mm256_set1_pd(bar);
    for (uint32_t w = 0; w < n_words; w++, sums += 64) {
        uint64_t above = 0;
        if (!bits[w]) continue;
        for (unsigned i = 0; i < 64; i += 4) {
            __m256d high = _mm256_cmp_pd(_mm256_loadu_pd(sums + i), least, _CMP_GE_OQ);
            above |= (uint64_t)(unsigned)_mm256_movemask_pd(high) << i;
        }
        bits[w] &= above;
    }
}

AVX2 static uint32_t avx2_find_above(const float *scores, float bar, uint32_t n, uint32_t *ret_positions) {
    const __m256 least = _mm256_set1_ps(bar);
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i += 8) {
        __m256 high = _mm256_cmp_ps(_mm256_loadu_ps(scores + i), least, _CMP_GE_OQ);
        unsigned mask = (unsigned)_mm256_movemask_ps(high);
        if (n - i < 8) mask &= (1u << (n - i)) - 1;
        for (; mask; mask &= mask - 1) ret_positions[found++] = i + (unsigned)__builtin_ctz(mask);
    }
    return found;
}

AVX2 static uint32_t avx2_count(const uint64_t *bits, uint32_t n_words) {
    return count_bits(bits, n_words);
}
static const struct kernels avx2 = {
    .term_scores = avx2_term_scores,
    .keep_above = avx2_keep_above,
    .find_above = avx2_find_above,
    .count = avx2_count,
};
#endif

const struct kernels *kernels(void) {
#if defined(__x86_64__)
    if (simd_level() >= SIMD_AVX2) return &avx2;
#endif
    return &plain;
}
