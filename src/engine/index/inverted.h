/* The inverted index of one field: term dictionary, postings, positions. Shared by text and keyword fields;
 * segment.h declares the readers (term_find, term_iter_*, postings_*), inverted.c implements them together
 * with this.
 *
 * Where it stands in the segment: regions written one after the other through a blob_writer; their places are
 * an inverted_region, kept in the field's directory entry. postings:   per term: skip data (last documents,
 * offsets, impacts), blocks of 128 postings (docno deltas and freqs bit-packed in the 4-lane vertical layout
 * of SIMD-BP128, last block varint), then the positions of the term, in blocks that align with the postings
 * blocks. df = 1 terms have positions only. dictionary: terms ascending (memcmp, then length), front-coded in
 * blocks of 32 index:      the shortest separators of the dictionary's blocks, for binary search Grammar:
 * docs/FORMAT.md.
 */
#pragma once
#include "index/segment.h"
#include "util/codec.h"

struct inverted_region {
    uint64_t postings_off, postings_len, dict_off, dict_len, index_off, index_len;
    uint32_t n_terms;
    bool has_freqs, has_positions;
    bool has_bitmaps; /* frequent terms carry their documents as a bitmap too */
    uint64_t sum_ttf;
};
void inverted_region_encode(const struct inverted_region *, struct buf *out);
void inverted_region_decode(struct cursor *, struct inverted_region *ret);

/* Reader state embedded in struct segment_field. `blob` is borrowed. */
struct inverted {
    struct inverted_region region;
    struct blob *blob;
    uint32_t n_docs; /* of the segment: bound for document numbers; 0 = unknown, SEGMENT_MAX_DOCS */
};
/* How inverted.c reaches it; defined in segment.c. */
const struct inverted *segment_field_inverted(const struct segment_field *);

/* In-memory building: documents in ascending order, positions ascending within a document and term. Memory is
 * 16 bytes a token and the distinct terms. */
struct inverted_writer;
struct inverted_writer *inverted_writer_new(bool has_freqs, bool has_positions);
void inverted_writer_free(struct inverted_writer *);
void inverted_writer_add(struct inverted_writer *, const char *term, size_t len, uint32_t docno,
                         uint32_t position);
/* One document of a term with its frequency (> 0), once for each of them; without positions. */
void inverted_writer_add_freq(struct inverted_writer *, const char *term, size_t len, uint32_t docno,
                              uint32_t freq);
/* The same in steps, for who knows terms by their numbers: the number of a term (from 0, by first
 * appearance); room for n tokens (term << 32 | position), valid until the next call; how many of them were
 * used by a document. */
uint32_t inverted_writer_term(struct inverted_writer *, const char *term, size_t len);
uint64_t *inverted_writer_room(struct inverted_writer *, size_t n);
void inverted_writer_took(struct inverted_writer *, uint32_t docno, size_t n);
size_t inverted_writer_bytes(const struct inverted_writer *); /* memory used */
/* norms: one byte a document (for the impacts), NULL when there are none. ret_ords, if not NULL: called for
 * each (ord, docno) posting, terms ascending: how keyword columns learn their ordinals. */
typedef void inverted_ord_fn(void *ctx, uint32_t ord, uint32_t docno);
int inverted_writer_finish(struct inverted_writer *, const uint8_t *norms, struct blob_writer *out,
                           inverted_ord_fn *, void *ctx, struct inverted_region *ret, struct err *);

/* Merging: inputs' terms united, postings mapped (maps[i][old docno] = new docno or DOCNO_NONE; each map is
 * ascending over the documents it keeps, but documents of different inputs interleave) and re-encoded.
 * norms: of the merged documents. A NULL field = the input has none. Frees nothing of the inputs. */
int inverted_merge(const struct segment_field *const *fields, const uint32_t *const *maps, size_t n,
                   bool has_freqs, bool has_positions, const uint8_t *norms, struct blob_writer *out,
                   inverted_ord_fn *, void *ctx, const volatile int *cancel, struct inverted_region *ret,
                   struct err *);
int inverted_verify(const struct segment_field *, uint32_t n_docs, struct err *);

/* What the functions on a segment_field stand on: the same, one level down. */
int inverted_term_find(const struct inverted *, const char *term, size_t len, struct term_info *ret,
                       struct err *);
int inverted_term_by_ord(const struct inverted *, uint32_t ord, struct buf *out, struct err *);
int inverted_iter_open(struct term_iter *, const struct inverted *, const char *from, size_t len,
                       struct err *);
/* Clears the structure, opens it. */
int inverted_postings_open(struct postings *, const struct inverted *, const struct term_info *,
                           bool want_freqs, bool want_positions, struct err *);
/* As open on a structure that was open before: keeps its buffers. */
int inverted_postings_reopen(struct postings *, const struct inverted *, const struct term_info *,
                             bool want_freqs, bool want_positions, struct err *);
int inverted_merge_parts(const struct inverted *const *inputs, const uint32_t *const *maps, size_t n,
                         bool has_freqs, bool has_positions, const uint8_t *norms, struct blob_writer *out,
                         inverted_ord_fn *, void *ctx, const volatile int *cancel,
                         struct inverted_region *ret, struct err *);
int inverted_check(const struct inverted *, uint32_t n_docs, struct err *);
