/* The interface of an index type: what a new kind of index (sparse, clustered vectors) has to provide. It
 * adds one file with a `const struct index_type_ops` and one row to the table in index.c; the segment writer,
 * the merge, deletes and verification work from the table.
 *
 * feed() alone decides what a value contributes. The writer indexes what it emits and deletes subtract what
 * it emits, so the two cannot differ.
 */
#pragma once
#include "index/analyzer.h"
#include "index/docstore.h"
#include "index/segment.h"

/* One index: a field, or one analyzer of a TEXT field. Strings are borrowed. */
struct index_spec {
    const char *path;
    uint32_t path_len;
    uint32_t dimensions;
    uint8_t type, analyzer, similarity;
    bool inferred;
};

/* What a value contributes; which member is set depends on the type. Valid during the call. */
struct index_item {
    const char *term; /* TEXT, KEYWORD, SPARSE_VECTOR */
    uint32_t len;
    uint32_t freq;       /* SPARSE_VECTOR: sparse_encode(weight) */
    uint32_t position;   /* TEXT */
    int64_t i64;         /* LONG, DOUBLE, BOOLEAN, DATETIME: see field_value_i64 */
    const float *vector; /* VECTOR: spec->dimensions numbers */
};
typedef void index_emit(void *ctx, const struct index_item *);

/* Where feed() stands in the current document. */
struct index_feeder {
    const struct index_spec *spec;
    const struct index_type_ops *ops; /* NULL: not indexed */
    uint64_t doc_stamp;               /* of the document the rest belongs to */
    uint32_t next_position;           /* TEXT: where the next value starts */
    bool done;                        /* VECTOR, SPARSE_VECTOR: the document has its vector */
};

/* Base of every type's writer; documents come in ascending order. */
struct index_writer {
    const struct index_type_ops *ops;
    const struct index_spec *spec;
    uint32_t docno;    /* of the document being added: set before feed */
    uint32_t last_doc; /* that had an item; DOCNO_NONE at first */
    uint32_t n_docs;   /* documents with at least one item */
};

/* Where finish and merge put their result. */
struct index_out {
    struct blob_writer *blob;
    struct buf *regions; /* encoded region table of the segment */
    uint32_t n_docs;     /* of the segment */
    uint16_t entry;      /* of the field in the directory */
    struct field_stats stats;
    struct buf ext; /* the type's own bytes in the directory entry */
};
/* Records a region; kinds are in segment_internal.h. */
void index_out_region(struct index_out *, uint16_t kind, uint32_t param, uint64_t off, uint64_t len);
/* Writes the existence bitmap if it says anything (some, but not all documents have the field). */
void index_out_exists(struct index_out *, const uint64_t *bits, uint32_t n_with);

/* Writes the column and its existence bitmap; gives the number of documents with a value. */
struct column_builder;
uint32_t index_out_column(struct index_out *, struct column_builder *);

/* One input of a merge: an index of the same spec, and its docno map. */
struct index_source {
    const struct segment_field *field;
    const uint32_t *map; /* old docno -> new, DOCNO_NONE for the dead */
    uint32_t n_docs;     /* of the input */
};
struct index_merge {
    const struct index_spec *spec;
    const struct index_source *sources;
    size_t n_sources;
    const volatile int *cancel; /* may be NULL */
};

struct index_type_ops {
    const char *name;
    /* Emits what one value (as schema_walk gives it) contributes; a value that does not fit emits nothing. */
    int (*feed)(struct index_feeder *, const struct jval *, index_emit *, void *ctx, struct err *);
    struct index_writer *(*writer_new)(const struct index_spec *);
    index_emit *writer_emit; /* ctx is the writer */
    /* Indexes what feed would emit for the value, in a faster way; NULL: feed with writer_emit. */
    int (*writer_add)(struct index_writer *, struct index_feeder *, const struct jval *, struct err *);
    size_t (*writer_bytes)(const struct index_writer *);
    /* Writes the regions, sets out->stats and out->ext. At most once. */
    int (*writer_finish)(struct index_writer *, struct index_out *, struct err *);
    void (*writer_free)(struct index_writer *);
    /* As writer_finish, from existing indexes. */
    int (*merge)(const struct index_merge *, struct index_out *, struct err *);
    /* Reads `ext` into the field; n_docs == 0 has none. */
    int (*open)(struct segment_field *, const uint8_t *ext, size_t len, struct err *);
    /* Checks everything against the field's statistics and n_docs of the segment. */
    int (*verify)(const struct segment_field *, struct err *);
};

extern const struct index_type_ops index_text, index_keyword, index_number, index_vector, index_sparse;
/* More than KEYWORD_MAX_CHARS characters: not indexed. */
bool keyword_too_long(const char *s, size_t len);
/* NULL: values of this type are stored, not indexed. */
const struct index_type_ops *index_type(enum field_type);

/* Counts a document with an item once; true when this is the first item of it. */
static inline bool index_writer_begin(struct index_writer *w) {
    if (w->last_doc == w->docno) return false;
    w->last_doc = w->docno;
    w->n_docs++;
    return true;
}

/* ---- documents to items ---- */

/* All indexes of a schema in directory order, and the walk that feeds a document to them. One thread. */
struct doc_feeder {
    const struct schema *schema;
    struct index_spec *specs;
    struct index_feeder *feeders;
    uint32_t *first_spec; /* per field of the schema, and one behind */
    uint32_t n_specs;
    uint64_t stamp;
    struct arena arena;
};
/* The schema is borrowed. */
void doc_feeder_init(struct doc_feeder *, const struct schema *);
void doc_feeder_release(struct doc_feeder *);
/* Called for each value and index; the feeder has ops. */
typedef int doc_value(void *ctx, uint32_t spec_no, struct index_feeder *, const struct jval *, struct err *);
/* Parses the document and visits its values. */
int doc_feeder_run(struct doc_feeder *, const char *raw, size_t len, doc_value *, void *ctx, struct err *);
bool index_spec_equal(const struct index_spec *, const struct index_spec *);

/* ---- per thread ---- */

/* Things that are dear to make and belong to a thread: analyzers, compression contexts, the last document
 * block. Freed when the thread ends. */
struct index_scratch {
    struct analyzer_state *analyzers[ANALYZER_COUNT];
    void *zstd_c, *zstd_d; /* ZSTD_CCtx, ZSTD_DCtx */
    struct doc_cache docs;
    uint64_t feeder_segment; /* the segment `feeder` was made for; 0 = none */
    struct doc_feeder feeder;
    struct schema *feeder_schema; /* owned; paths are the segment's */
};
struct index_scratch *index_scratch(void);
/* ERR_UNSUPPORTED when the analyzer cannot be used here (analyzer_check). */
int index_scratch_analyzer(enum analyzer, struct analyzer_state **ret, struct err *);

static inline bool merge_canceled(const volatile int *cancel) {
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}

/* ---- bitmaps: uint64_t words, least significant bit first ---- */
static inline size_t bitmap_words(uint32_t n) {
    return ((size_t)n + 63) / 64;
}
static inline void bitmap_set(uint64_t *bits, uint32_t i) {
    bits[i >> 6] |= (uint64_t)1 << (i & 63);
}
static inline bool bitmap_get(const uint64_t *bits, uint32_t i) {
    return bits[i >> 6] >> (i & 63) & 1;
}
uint32_t bitmap_count(const uint64_t *bits, uint32_t n);
