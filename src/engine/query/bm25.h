/* Lucene 8's BM25 (BM25Similarity with k1 = 1.2, b = 0.75, without the factor k1 + 1), to the bit.
 *
 *   idf        = (float) log(1 + (N - df + 0.5) / (df + 0.5))    N = live documents that have the field
 *   avgdl      = (float) (sumTotalTermFreq / (double) N)
 *   inverse[c] = 1f / (k1 * ((1 - b) + b * decode(c) / avgdl))   float32 from here on
 *   weight     = boost * idf
 *   score      = weight - weight / (1f + freq * inverse[c])
 *
 * A phrase's idf is the sum of its terms' idfs in double, rounded once. A keyword field has neither norms nor
 * frequencies: freq is 1, every document counts as one token long, and sumTotalTermFreq is the sum of the
 * document frequencies, as Lucene has it for a StringField. A field without tokens has avgdl 1.
 *
 * The rounding of each step matters: compile without contraction (-ffp-contract=off) and without -ffast-math.
 */
#pragma once
#include <float.h>
#include <stdint.h>

#ifdef __FAST_MATH__
#error "scores must be the same everywhere: do not compile with -ffast-math"
#endif
_Static_assert(FLT_EVAL_METHOD == 0, "scores need float32 arithmetic");

static const float BM25_K1 = 1.2f, BM25_B = 0.75f;

/* What all terms of one field share. */
struct bm25 {
    uint64_t n_docs;
    float average_length;
    float norm_inverse[256];
};
/* field_ttf 0: avgdl is 1. */
void bm25_init(struct bm25 *, uint64_t field_docs, uint64_t field_ttf);
float bm25_idf(uint64_t df, uint64_t n_docs);

static inline float bm25_score(float weight, float freq, float norm_inverse) {
    return weight - weight / (1.0f + freq * norm_inverse);
}
