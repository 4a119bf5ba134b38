/* What the files of the inverted index share: constants of the format, comparisons, and the encoder. */
#pragma once
#include "index/inverted.h"

enum {
    DICT_BLOCK = 32,         /* terms in a dictionary block */
    INDEX_ENTRY = 8 + 8 + 4, /* of the block index: key, offset, end of separator */
    IMPACTS_MAX = 8,         /* per postings block */
    IMPACT_MAX_SIZE = 6,     /* bytes: norm, varint */
    BITMAP_SPARSEST = 16,    /* a term with a bitmap has at least one document in so many */
};

/* Does a list of several blocks carry a bitmap (where the index has them)? And its size in 64-bit words. */
static inline bool postings_is_dense(uint32_t df, uint32_t last_doc) {
    return (uint64_t)df * BITMAP_SPARSEST > last_doc;
}
static inline uint32_t postings_bitmap_words(uint32_t last_doc) {
    return last_doc / 64 + 1;
}

/* The first 8 bytes of a term as a number that orders as they do. */
static inline uint64_t term_key(const void *term, size_t len) {
    uint8_t b[8] = {0};
    if (len) memcpy(b, term, len < 8 ? len : 8);
    return __builtin_bswap64(get_u64(b));
}
static inline int term_cmp(const void *a, size_t a_len, const void *b, size_t b_len) {
    size_t n = a_len < b_len ? a_len : b_len;
    int c = n ? memcmp(a, b, n) : 0;
    return c ? c : (a_len > b_len) - (a_len < b_len);
}

/* Reads one varint below end. False, with *p unchanged, when it is cut or too long. */
static inline bool varint_read(const uint8_t **p, const uint8_t *end, uint64_t *ret) {
    const uint8_t *q = *p;
    if (q < end && *q < 0x80) {
        *ret = *q;
        *p = q + 1;
        return true;
    }
    uint64_t v = 0;
    for (unsigned shift = 0; q < end && shift < 64; shift += 7) {
        uint8_t b = *q++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b >= 0x80) continue;
        *ret = v;
        *p = q;
        return true;
    }
    return false;
}

/* The best frequency of every norm: what impacts are chosen from. */
struct impact_set {
    uint64_t seen[4];
    uint32_t max_freq[256];
};

/* The encoder that both writers of an inverted index (inverted_write.c, inverted_merge.c) feed: terms
 * ascending, per term its documents ascending. Holds the encoded postings of one term, and the dictionary, in
 * memory. One thread. */
struct encoder {
    struct blob_writer *out;
    const uint8_t *norms;
    inverted_ord_fn *ord_fn;
    void *ord_ctx;
    struct inverted_region region;
    /* the dictionary */
    struct buf dict, index_keys, index_offs, index_ends, separators;
    struct buf block_terms, block_stats, last_term;
    unsigned block_count;
    /* the current term */
    struct buf term, data, impacts, positions, last_docs, ends, bitmap;
    uint32_t df, prev_doc, n; /* n: documents of the unfinished block */
    uint64_t ttf;
    unsigned n_chunk; /* positions of the unfinished chunk */
    struct impact_set list_impacts;
    uint32_t docs[POSTINGS_BLOCK] __attribute__((aligned(16)));
    uint32_t freqs[POSTINGS_BLOCK] __attribute__((aligned(16)));
    uint32_t chunk[POSTINGS_BLOCK] __attribute__((aligned(16)));
};
void encoder_init(struct encoder *, bool has_freqs, bool has_positions, const uint8_t *norms,
                  struct blob_writer *out, inverted_ord_fn *, void *ctx);
void encoder_release(struct encoder *);
/* Tests: indexes as they were before there were bitmaps. */
void encoder_without_bitmaps(bool);
void encoder_term(struct encoder *, const void *term, size_t len);
/* positions: freq of them, NULL when there are none. */
void encoder_doc(struct encoder *, uint32_t docno, uint32_t freq, const uint32_t *positions);
/* A term that got no document is left out. */
int encoder_term_end(struct encoder *, struct err *);
int encoder_finish(struct encoder *, struct inverted_region *ret, struct err *);
