/* BM25 in Lucene's order of rounding. */
#include "query/bm25.h"
#include "index/segment.h"
#include <math.h>

float bm25_idf(uint64_t df, uint64_t n_docs) {
    double n = n_docs < df ? (double)df : (double)n_docs;
    return (float)log(1 + (n - (double)df + 0.5) / ((double)df + 0.5));
}

/* The last one of a thread is kept: it depends on the field's statistics alone, and takes a microsecond. */
void bm25_init(struct bm25 *bm25, uint64_t field_docs, uint64_t field_ttf) {
    static _Thread_local struct bm25 last;
    static _Thread_local uint64_t last_ttf;
    float avgdl = 1;
    if (last.average_length > 0 && last.n_docs == field_docs && last_ttf == field_ttf) {
        *bm25 = last;
        return;
    }
    if (field_docs && field_ttf) avgdl = (float)((double)field_ttf / (double)field_docs);
    bm25->n_docs = field_docs;
    bm25->average_length = avgdl;
    for (unsigned i = 0; i < 256; i++) {
        float length = (float)norm_decode((uint8_t)i);
        bm25->norm_inverse[i] = 1.0f / (BM25_K1 * ((1 - BM25_B) + BM25_B * length / avgdl));
    }
    last = *bm25;
    last_ttf = field_ttf;
}
