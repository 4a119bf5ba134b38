/* The inner loops of term queries: in plain C, and for AVX2; which is decided at run time. All variants give
 * the same bits: a float operation rounds the same in any register, nothing is fused or reassociated. */
#pragma once
#include <stdint.h>

struct kernels {
    /* scores[i] = bm25_score(weight, freqs[i], inverse[norms[docs[i]]]). scores has room up to the next
     * multiple of 8; freqs as well, what stands there is ignored. */
    void (*term_scores)(float weight, const float inverse[256], const uint8_t *norms, const uint32_t *docs,
                        const uint32_t *freqs, uint32_t n, float *scores);
    /* Keeps of each word's bits those whose sum is at least bar; sums: 64 a word. */
    void (*keep_above)(const double *sums, double bar, uint64_t *bits, uint32_t n_words);
    /* Keeps the positions i < n whose score is at least bar: writes them ascending, gives how many. */
    uint32_t (*find_above)(const float *scores, float bar, uint32_t n, uint32_t *ret_positions);
    uint32_t (*count)(const uint64_t *bits, uint32_t n_words);
};
/* The best that may be used (util/simd.h). */
const struct kernels *kernels(void);

/* ---- bitmaps of a window; `from` may be unaligned ---- */
typedef uint64_t bits_vector __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t bits_word __attribute__((aligned(1), may_alias));

#define BITS_LOOP(name, vector_op, word_op)                                                                  \
    static inline void name(uint64_t *to, const void *from, uint32_t n_words) {                              \
        uint32_t w = 0;                                                                                      \
        for (; w + 2 <= n_words; w += 2) {                                                                   \
            bits_vector *a = (bits_vector *)(to + w);                                                        \
            const bits_vector b = *(const bits_vector *)((const bits_word *)from + w);                       \
            *a = *a vector_op b;                                                                             \
        }                                                                                                    \
        for (; w < n_words; w++) to[w] = to[w] word_op((const bits_word *)from)[w];                          \
    }
BITS_LOOP(bits_or, |, |)
BITS_LOOP(bits_and, &, &)
BITS_LOOP(bits_and_not, &~, &~)
