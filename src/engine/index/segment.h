/* A segment (leaf): a sorted run of documents with all their indexes. Immutable; document numbers are dense
 * from 0 and ascend with the id (bytes, memcmp then length), so that docno order is id order: ties and
 * listings need no comparison of ids within a segment.
 *
 * Everything that reads file bytes can fail with ERR_CORRUPT (names the object). Readers are thread-safe.
 * Format: docs/FORMAT.md.
 */
#pragma once
#include "index/blob.h"
#include "index/schema.h"

struct inverted; /* index/inverted.h */

enum { DOCNO_NONE = UINT32_MAX, SEGMENT_MAX_DOCS = 1u << 30 };

/* ---- writing ---- */
/* What a reader of a remote segment fetches when it opens it, kept in the reference: a hint. */
enum hot_kind {
    HOT_ALWAYS,     /* small, and needed to know what else to read */
    HOT_DICTIONARY, /* worth it while the dictionaries of all segments together are small */
};
struct hot_range {
    uint64_t off, len; /* in the object */
    uint32_t kind;
};
enum { SEGMENT_HOT_MAX = 32 };

struct segment_summary {
    uint32_t n_docs;
    uint64_t seq_min, seq_max;
    int64_t time_min, time_max; /* acknowledgement times, ms */
    uint64_t raw_bytes;         /* of the documents as sent */
    uint64_t checksum_sum;      /* sum over documents of segment_doc_hash (mod 2^64): order-independent */
    char id_min[2049], id_max[2049]; /* NUL-terminated for display; ids may hold NUL: lengths below count */
    uint32_t id_min_len, id_max_len;
    struct hot_range hot[SEGMENT_HOT_MAX]; /* ascending; set when the segment is finished */
    uint32_t n_hot;
};
uint64_t segment_doc_hash(const char *id, size_t id_len, uint64_t seq);

struct segment_writer;
/* The schema is referenced while the writer lives. `out` gets the object; initialised with BLOB_KIND_SEGMENT.
 */
struct segment_writer *segment_writer_new(struct schema *, struct blob_writer *out);
/* Adds a document: ids strictly ascending. raw is valid JSON, an object (as accepted by schema_check). The
 * bytes are copied. Values that do not fit a field's type are not indexed. ERR_INVALID for the id leaves the
 * writer as it was; after another error it can only be freed. */
int segment_writer_add(struct segment_writer *, const char *id, size_t id_len, uint64_t seq, int64_t time_ms,
                       const char *raw, size_t raw_len, struct err *);
/* Writes everything and finishes the blob. n_docs may be 0 only if the caller then throws the object away. */
int segment_writer_finish(struct segment_writer *, struct segment_summary *ret, uint64_t *ret_size,
                          uint32_t *ret_checksum, struct err *);
void segment_writer_free(struct segment_writer *);

/* ---- reading ---- */
struct segment;
/* Takes the blob (also on failure). Reads the directory; small hot parts are verified now, the rest on need.
 */
int segment_open(struct blob *, struct segment **ret, struct err *);
struct segment *segment_ref(struct segment *);
void segment_unref(struct segment *); /* NULL is fine */
uint32_t segment_n_docs(const struct segment *);
const char *segment_name(const struct segment *);
int segment_verify(struct segment *, struct err *); /* all pages, structure, counts, order of ids */

/* docno of an id, or DOCNO_NONE. */
int segment_find_id(const struct segment *, const char *id, size_t len, uint32_t *ret_docno, struct err *);
/* First docno whose id is >= id; n_docs if none. */
int segment_id_ceil(const struct segment *, const char *id, size_t len, uint32_t *ret_docno, struct err *);
/* Appends the id to out. */
int segment_id(const struct segment *, uint32_t docno, struct buf *out, struct err *);
/* Appends the document's raw JSON, exactly as it was added. */
int segment_doc(const struct segment *, uint32_t docno, struct buf *out, struct err *);
/* The same into room for `size` bytes, which must be the document's. */
int segment_doc_to(const struct segment *, uint32_t docno, uint8_t *to, uint32_t size, struct err *);
bool segment_doc_at_hand(const struct segment *, uint32_t docno, uint32_t *ret_size, uint32_t *ret_first,
                         uint32_t *ret_end); /* docstore_at_hand */
int segment_doc_size(const struct segment *, uint32_t docno, uint32_t *ret,
                     struct err *); /* bytes of raw JSON */
int segment_seq(const struct segment *, uint32_t docno, uint64_t *ret_seq, int64_t *ret_time_ms,
                struct err *);

/* A field's index inside this segment. A TEXT field has one entry per analyzer. analyzer is 0 for other
 * types. NULL: the segment was written before the schema had this index. */
struct segment_field;
const struct segment_field *segment_field(const struct segment *, const char *path, size_t len,
                                          enum field_type, enum analyzer);
struct field_stats {
    uint32_t n_docs;  /* documents with at least one value (all, incl. deleted) */
    uint64_t sum_ttf; /* TEXT: tokens in all; KEYWORD, SPARSE_VECTOR: sum of the document frequencies */
};
void segment_field_stats(const struct segment_field *, struct field_stats *ret);
/* The documents that have the field, as a bitmap of n_docs bits (uint64_t words, LSB first); NULL = all have
 * it. */
int segment_field_exists(const struct segment_field *, const uint64_t **ret, struct err *);

/* Terms: TEXT, KEYWORD and SPARSE_VECTOR. */
struct term_info {
    uint32_t df;                          /* documents, incl. deleted; 0 = no such term */
    uint32_t ord;                         /* ordinal in the field's dictionary */
    uint64_t ttf;                         /* TEXT: occurrences */
    uint64_t postings_off, positions_off; /* private to the reader; df = 1: postings_off is the document */
    uint32_t postings_len;
    uint64_t positions_len;
};
int term_find(const struct segment_field *, const char *term, size_t len, struct term_info *ret,
              struct err *);
uint32_t term_count(const struct segment_field *);
int term_by_ord(const struct segment_field *, uint32_t ord, struct buf *out, struct err *); /* appends */
/* Terms in byte order from the first that is >= the given one. */
struct term_iter {
    const struct segment_field *field;
    struct buf term;
    struct term_info info;
    uint32_t next_ord;
    /* private */
    const struct inverted *inverted;
    const uint8_t *p, *terms_end, *stats, *stats_end;
    uint64_t postings_off;
};
int term_iter_open(struct term_iter *, const struct segment_field *, const char *from, size_t len,
                   struct err *);
/* 1: term and info are set; 0: end; negative: error. */
int term_iter_next(struct term_iter *, struct err *);
void term_iter_close(struct term_iter *);

/* Postings: documents in ascending order, in blocks of POSTINGS_BLOCK with skip data and impacts. After open
 * nothing can fail. Before the first next/advance doc is DOCNO_NONE with `started` false; at the end doc is
 * DOCNO_NONE. */
enum { POSTINGS_BLOCK = 128 };
struct postings {
    uint32_t doc;
    uint32_t freq; /* TEXT; SPARSE_VECTOR: code of the weight; 1 for KEYWORD */
    uint32_t df;
    bool has_freqs, has_positions;
    /* private state below */
    const uint8_t *last_docs, *entries, *impacts, *list_impacts, *data, *pos_data;
    const uint8_t *bitmap; /* of a frequent term: bit d of its little-endian words is document d; unaligned */
    uint32_t bitmap_words; /* 0: the list has none; documents behind its end are not in the list */
    uint32_t bitmap_block; /* where postings_bitmap_freq looked last */
    uint32_t data_len, impacts_len, entry_size;
    uint64_t pos_len;
    uint32_t n_blocks, block, in_block, block_len; /* block: the decoded one, UINT32_MAX = none yet */
    uint32_t block_last;   /* last document of the current block: skipping decisions */
    uint32_t impact_block; /* where postings_impacts looked last */
    uint32_t doc_limit;    /* documents are below: damaged content cannot lead outside the columns */
    bool coded_freqs, coded_positions; /* the list has them, wanted or not */
    bool inlined, freqs_ready;
    uint8_t list_impacts_len, freq_bits;
    const uint8_t *freqs_p, *freqs_end;
    uint64_t pos_total; /* positions in the current block; 0: damaged */
    uint64_t pos_at;    /* index in the block of the first position of its document pos_doc */
    uint64_t pos_chunk,
        pos_next; /* the chunk in pos_buf (UINT64_MAX: none) and the one that starts at pos_p */
    uint32_t pos_doc, positions_doc; /* positions_doc: whose positions are in `positions` */
    const uint8_t *pos_p, *pos_end;
    uint32_t *pos_buf;   /* one decoded chunk */
    uint32_t *positions; /* of the current document, after postings_positions */
    uint32_t positions_cap;
    uint32_t docs[POSTINGS_BLOCK] __attribute__((aligned(16)));
    uint32_t freqs[POSTINGS_BLOCK] __attribute__((aligned(16)));
};
int postings_open(struct postings *, const struct segment_field *, const struct term_info *, bool want_freqs,
                  bool want_positions, struct err *);
void postings_close(struct postings *);
uint32_t postings_next_block(struct postings *); /* private: behind the current block */
static inline uint32_t postings_next(struct postings *p) {
    uint32_t i = ++p->in_block;
    return i < p->block_len ? (p->doc = p->docs[i]) : postings_next_block(p);
}
uint32_t postings_advance(struct postings *, uint32_t target); /* first doc >= target; target > current doc */
/* Moves to the first document of block number `block` < n_blocks, in front of the current one, too. */
uint32_t postings_to_block(struct postings *, uint32_t block);
uint32_t postings_freq_load(struct postings *); /* private */
/* Decodes the block's freqs on first need. */
static inline uint32_t postings_freq(struct postings *p) {
    return p->freqs_ready && p->in_block < p->block_len ? (p->freq = p->freqs[p->in_block])
                                                        : postings_freq_load(p);
}
/* Bulk reading: the documents from the current one on that are decoded already and below hi (> current doc),
 * at least one; freqs too when they were wanted. postings_skip_run moves behind n of them. */
static inline uint32_t postings_run(struct postings *p, uint32_t hi, const uint32_t **ret_docs,
                                    const uint32_t **ret_freqs) {
    uint32_t n = p->block_len - p->in_block;
    if (p->has_freqs) postings_freq(p);
    *ret_docs = p->docs + p->in_block;
    *ret_freqs = p->freqs + p->in_block;
    if (p->block_last < hi) return n;
    uint32_t below = 1; /* so many are known to be below hi */
    for (uint32_t left = n - 1; left;) {
        uint32_t half = (left + 1) / 2;
        bool more = (*ret_docs)[below + half - 1] < hi;
        below += more ? half : 0;
        left = more ? left - half : half - 1;
    }
    return below;
}
static inline uint32_t postings_skip_run(struct postings *p, uint32_t n) {
    p->in_block += n - 1;
    return postings_next(p);
}
/* Lists with a bitmap: is the document in it? */
static inline bool postings_bitmap_has(const struct postings *p, uint32_t doc) {
    return doc / 64 < p->bitmap_words && (p->bitmap[doc >> 3] >> (doc & 7) & 1);
}
/* The frequency of a document that the bitmap has, without decoding its block: its rank among the block's
 * documents is counted in the bitmap. The list's own place stays. Quick when documents ascend. */
uint32_t postings_bitmap_freq(struct postings *, uint32_t doc);
/* Positions of the current document, ascending, postings_freq of them; valid until the next move. NULL
 * without has_positions. */
const uint32_t *postings_positions(struct postings *);
/* Upper bounds for skipping: the competitive (freq, length byte) pairs of the block that holds `target` (>=
 * current doc) and the last document of that block. Up to 8 pairs, each not dominated by another, both parts
 * ascending. Without freqs: one pair (1, 1). At the end of the list: none, *ret_last_doc = DOCNO_NONE. */
struct impact {
    uint32_t freq;
    uint8_t norm;
};
unsigned postings_impacts(struct postings *, uint32_t target, uint32_t *ret_last_doc, struct impact out[8]);
unsigned postings_block_impacts(const struct postings *, uint32_t block, struct impact out[8]); /* the same */
/* The same for the whole list. */
unsigned postings_list_impacts(const struct postings *, struct impact out[8]);

/* TEXT: one byte a document: Lucene's SmallFloat.intToByte4 of the length in tokens; 0 = no field. */
int text_norms(const struct segment_field *, const uint8_t **ret, struct err *);
uint8_t norm_encode(uint32_t length); /* SmallFloat.intToByte4 */
uint32_t norm_decode(uint8_t norm);   /* SmallFloat.byte4ToInt */

/* SPARSE_VECTOR: terms and postings whose frequency is the code of the weight: the upper 17 bits of its
 * float32, as Lucene's FeatureField. A weight below the smallest normal float counts as 0, which is coded as
 * 0 and never stored. */
#define SPARSE_MIN_WEIGHT 0x1p-126f
enum {
    SPARSE_MIN_CODE = 0x00800000 >> 15,
    SPARSE_MAX_CODE = 0x42800000 >> 15
}; /* the smallest normal float, 64 */
uint32_t sparse_encode(double weight);
static inline float sparse_decode(uint32_t code) {
    float w;
    uint32_t bits = (code < SPARSE_MAX_CODE ? code : (uint32_t)SPARSE_MAX_CODE) << 15;
    __builtin_memcpy(&w, &bits, sizeof w);
    return w;
}

/* Columns: LONG, DOUBLE, BOOLEAN, DATETIME (as field_value_i64), KEYWORD (ordinals in the dictionary). */
struct column;
int column_open(const struct segment_field *, const struct column **ret,
                struct err *);                                /* cached in the segment */
uint32_t column_count(const struct column *, uint32_t docno); /* values of a document, 0 = missing */
int64_t column_value(const struct column *, uint32_t docno, uint32_t i); /* ascending within a document */
/* Sets the bit of every document with a value in [lo, hi]; bits has n_docs bits, cleared by the caller. */
void column_range(const struct column *, int64_t lo, int64_t hi, uint64_t *bits);

/* Vectors: dense float32 rows for the documents that have one. docs[i] is the docno of row i, ascending. Rows
 * start 64-byte aligned only for the first; norms[i] is the L2 norm of row i. */
struct clusters; /* index/cluster.h */
struct vectors {
    uint32_t n, dimensions;
    enum similarity similarity;
    bool dense; /* row i is of document i */
    const float *rows;
    const float *norms;
    const uint32_t *docs;
    const struct clusters *clusters; /* NULL: none */
    struct blob *blob;               /* private */
    uint64_t rows_off;
};
int vectors_open(const struct segment_field *, struct vectors *ret, struct err *);
/* The same without the rows, which have to be asked for before they are read. */
int vectors_open_lazy(const struct segment_field *, struct vectors *ret, struct err *);
int vectors_need(const struct vectors *, uint32_t row, uint32_t n, struct err *);
/* The same for rows by their numbers. */
int vectors_need_rows(const struct vectors *, const uint32_t *rows, uint32_t n, struct err *);
/* The first row from `from` on whose document is not below docno; the number of rows if there is none. Quick
 * where that is near. */
uint32_t vectors_row(const struct vectors *, uint32_t from, uint32_t docno);
bool vectors_are_clustered(const struct segment_field *);
/* A document's vector, readable; NULL when it has none. */
int vectors_of_doc(const struct vectors *, uint32_t docno, const float **ret, struct err *);

/* ---- deletes ---- */
/* Which documents of a segment are dead, and what they take off the statistics, so that document frequencies,
 * N and lengths are those of the live documents exactly. Built by one thread, immutable once shared. */
struct deletes;
struct deletes *deletes_new(const struct segment *);
struct deletes *deletes_clone(const struct deletes *);
struct deletes *deletes_ref(struct deletes *);
void deletes_unref(struct deletes *); /* NULL is fine */
/* Marks a document dead; 1 if it was alive, 0 if it was dead already. Re-analyses it for the corrections. */
int deletes_add(struct deletes *, const struct segment *, uint32_t docno, struct err *);
/* After the last add: the statistics are right from then on. One pass over each index that another version of
 * its analyzer made, for all documents marked since the last settling; nothing where there is none. On an
 * error it can be tried again. NULL is fine. */
int deletes_settle(struct deletes *, const struct segment *, struct err *);
uint32_t deletes_count(const struct deletes *);       /* NULL: 0 */
uint64_t deletes_hash_sum(const struct deletes *);    /* sum of segment_doc_hash over the dead */
const uint64_t *deletes_bits(const struct deletes *); /* n_docs bits; NULL for NULL */
static inline bool deletes_has(const uint64_t *bits, uint32_t docno) {
    return bits && (bits[docno >> 6] >> (docno & 63) & 1);
}
/* What to subtract. NULL deletes: zeros. */
void deletes_field(const struct deletes *, const struct segment_field *, struct field_stats *ret);
uint32_t deletes_term_df(const struct deletes *, const struct segment_field *, uint32_t ord);
/* As an object (BLOB_KIND_DELETES). */
int deletes_write(const struct deletes *, struct blob_writer *out, uint64_t *ret_size, uint32_t *ret_checksum,
                  struct err *);
int deletes_read(struct blob *taken, const struct segment *, struct deletes **ret, struct err *);

/* ---- merging ---- */
struct merge_input {
    struct segment *segment;
    const struct deletes *deletes; /* may be NULL */
    const uint64_t *skip;          /* n_docs bits: documents to leave out as if dead; may be NULL */
};
/* Merges the live documents of the inputs into one segment, postings and columns by remapping (no
 * re-analysis, unless the schema indexes a field that an input does not have yet). If an id lives in several
 * inputs the highest sequence number wins. ret_maps, if not NULL, gets one malloc'ed array per input: old
 * docno -> new docno, DOCNO_NONE for the dead. cancel (may be NULL) is polled. */
int segment_merge(struct schema *, const struct merge_input *inputs, size_t n, struct blob_writer *out,
                  const volatile int *cancel, struct segment_summary *ret, uint64_t *ret_size,
                  uint32_t *ret_checksum, uint32_t **ret_maps, struct err *);
