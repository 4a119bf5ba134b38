/* Columns: the values of a field by document, bit-packed. And plain bit-packed arrays.
 *
 * Values are kept as (v - min) / gcd: min per block of COLUMN_BLOCK values, gcd per column (dates, prices and
 * doubles often share a large divisor). Every block has its minimum and maximum, so that ranges skip it or
 * take it whole.
 */
#pragma once
#include "index/blob.h"
#include "util/buf.h"

/* ---- bit-packed arrays: n values of `width` bits, low bits first, and PACKED_PAD bytes behind ---- */
enum { PACKED_PAD = 8 };
/* Bits for values up to max: 0..56, or 64. */
static inline unsigned packed_width(uint64_t max) {
    unsigned width = max ? 64 - (unsigned)__builtin_clzll(max) : 0;
    return width > 56 ? 64 : width;
}
static inline bool packed_width_ok(unsigned width) {
    return width <= 56 || width == 64;
}
static inline uint64_t packed_size(uint64_t n, unsigned width) {
    return (n * width + 7) / 8 + PACKED_PAD;
}
static inline uint64_t packed_get(const uint8_t *p, uint64_t i, unsigned width) {
    uint64_t bit = i * width, word;
    memcpy(&word, p + (bit >> 3), 8);
    return word >> (bit & 7) & (width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1);
}
/* Appends packed_size(n, width) bytes. */
void packed_add(struct buf *out, const uint64_t *values, size_t n, unsigned width);

/* ---- columns ---- */
enum { COLUMN_BLOCK = 4096, COLUMN_HEADER_SIZE = 40, COLUMN_ENTRY_SIZE = 32, COLUMN_RANK_BITS = 256 };

/* Values with their documents, ascending by document. One thread. */
struct column_builder {
    uint32_t *docs;
    int64_t *values;
    size_t n, cap;
};
static inline void column_builder_add(struct column_builder *b, uint32_t docno, int64_t value) {
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->docs = xrealloc(b->docs, b->cap * sizeof *b->docs);
        b->values = xrealloc(b->values, b->cap * sizeof *b->values);
    }
    b->docs[b->n] = docno;
    b->values[b->n++] = value;
}
/* Orders by document; values of one document keep their order. All documents are < n_docs. */
void column_builder_sort(struct column_builder *, uint32_t n_docs);
void column_builder_release(struct column_builder *);
/* Writes the column, 8-byte aligned, values ascending within each document. exists (n_docs bits, cleared by
 * the caller) gets the documents that have one. Returns their number. */
uint32_t column_write(struct column_builder *, uint32_t n_docs, struct blob_writer *out, uint64_t *exists,
                      uint64_t *ret_off, uint64_t *ret_len);

struct column {
    const char *name; /* of the object, for messages */
    const uint8_t *base, *blocks, *ranks, *starts;
    uint64_t len, n_values, gcd;
    uint32_t n_docs, n_with, n_blocks;
    unsigned start_width;
    bool multi;
    const uint64_t *exists; /* NULL: every document has a value */
};
/* Reads and checks a column; bytes and bitmap are borrowed, exists NULL when all documents have it. */
int column_decode(const uint8_t *p, uint64_t len, uint32_t n_docs, const uint64_t *exists, const char *name,
                  struct column *ret, struct err *);
/* Every value against the zones, and the order within documents. */
int column_verify(const struct column *, struct err *);
