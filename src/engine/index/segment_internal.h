/* The inside of a segment: directory, regions, and what its parts share. Grammar:
 * docs/FORMAT.md. */
#pragma once
#include <stdatomic.h>

#include "index/column.h"
#include "index/docstore.h"
#include "index/ids.h"
#include "index/index.h"
#include "index/inverted.h"
#include "util/codec.h"

enum { SEGMENT_VERSION = 1, SEGMENT_FOOTER_SIZE = 16, REGION_SIZE = 24, ENTRY_NONE = 0xffff };
#define SEGMENT_FOOTER_MAGIC 0x46534c44u /* "DLSF" */

/* Values are stored in files: never renumber. A reader skips kinds it does not know. */
enum region_kind {
    REGION_DOC_BLOCKS = 1,
    REGION_DOC_INDEX = 2,
    REGION_DOC_STARTS = 3,
    REGION_IDS = 4,
    REGION_ID_INDEX = 5,
    REGION_SEQ = 6,
    REGION_TIME = 7,
    REGION_DOC_DICTS = 8,
    REGION_EXISTS = 16,
    REGION_NORMS = 17,
    REGION_COLUMN = 18,
    REGION_VECTOR_ROWS = 19,
    REGION_VECTOR_NORMS = 20,
    REGION_VECTOR_DOCS = 21,
    REGION_CLUSTERS = 22,      /* centroids, lists, calibration */
    REGION_CLUSTER_CODES = 23, /* blocks of RaBitQ codes */
    /* 24..31 reserved for vectors */
};
struct region {
    uint16_t kind, entry; /* entry: of the field in the directory; ENTRY_NONE = of the segment */
    uint32_t param;
    uint64_t off, len;
};
void region_encode(struct buf *out, const struct region *);

struct segment_field {
    const struct segment *segment;
    struct index_spec spec;
    const struct index_type_ops *ops; /* NULL: not indexed by this version */
    uint16_t entry;
    uint32_t first_region, n_regions;
    struct field_stats stats;
    uint64_t fingerprint;          /* TEXT: of the analyzer that made it; 0 = unknown, several, or no value */
    struct inverted inverted;      /* TEXT, KEYWORD */
    struct column *_Atomic column; /* made at first use */
    struct vectors_cache *_Atomic vectors; /* VECTOR; likewise */
};

/* Immutable after open but for the atomics. */
struct segment {
    atomic_int refs;
    uint64_t uid; /* of this open segment in the process: key of per-thread caches */
    struct blob *blob;
    struct segment_summary summary;
    uint32_t schema_version;
    uint32_t n_regions, n_fields;
    struct region *regions;       /* by (entry, kind) */
    struct segment_field *fields; /* by (path, analyzer) */
    struct docstore docs;
    struct ids ids;
    struct column *_Atomic seq, *_Atomic time;
    uint16_t *_Atomic partitions; /* of each document; made at first use (partition.h) */
    uint8_t *_Atomic zeros;       /* n_docs zero bytes: bitmap or norms of a field nobody has */
    struct arena arena;           /* paths */
};

/* A region of the field or of the segment (NULL); NULL when there is none. */
const struct region *segment_region(const struct segment *, const struct segment_field *, uint16_t kind);
/* The whole region, verified; ERR_CORRUPT when it is missing. */
int segment_region_need(const struct segment *, const struct segment_field *, uint16_t kind,
                        const struct region **ret_region, const uint8_t **ret, struct err *);
int segment_corrupt(const struct segment *, struct err *, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int segment_field_corrupt(const struct segment_field *, struct err *, const char *what);
int segment_zeros(const struct segment *, const uint8_t **ret);
/* Whether analysing the stored documents today gives what the index of the field has. */
bool segment_field_current(const struct segment_field *);

/* The open() of types with an inverted index. */
int index_open_inverted(struct segment_field *, const uint8_t *ext, size_t len, struct err *);

/* The directory, encoded behind the last region with its footer. Sets the summary's hot ranges. */
struct segment_dir_entry {
    struct field_stats stats;
    uint64_t fingerprint; /* TEXT */
    struct buf ext;
};
void segment_dir_write(struct blob_writer *, struct segment_summary *, uint32_t schema_version,
                       const struct index_spec *specs, const struct segment_dir_entry *entries,
                       uint32_t n_specs, const struct buf *regions);
void segment_dir_entries_free(struct segment_dir_entry *, uint32_t n);
int segment_dir_read(struct segment *, struct err *);

/* The schema that the segment was indexed with; paths are borrowed from it (free with free_borrowed_schema).
 */
struct schema *segment_borrow_schema(const struct segment *);
void free_borrowed_schema(struct schema *);
/* A feeder for documents of the segment, cached in the thread's scratch. */
struct doc_feeder *segment_feeder(const struct segment *);

/* Writes a segment's documents-side parts; shared by the writer and the merge. */
struct segment_base_writer {
    struct blob_writer *out;
    struct docstore_writer docs;
    struct ids_writer ids;
    struct column_builder seqs, times;
    struct segment_summary summary;
};
void segment_base_init(struct segment_base_writer *, struct blob_writer *out);
/* Takes all of a document but its text: ids ascending. */
int segment_base_add(struct segment_base_writer *, const char *id, size_t id_len, uint64_t seq,
                     int64_t time_ms, struct err *);
int segment_base_finish(struct segment_base_writer *, struct buf *regions, struct err *);
/* What stands last, behind the indexes. */
void segment_base_finish_last(struct segment_base_writer *, struct buf *regions);
void segment_base_release(struct segment_base_writer *);

/* A writer of indexes alone, without documents and ids: indexes stored documents again during a merge. */
struct segment_writer *segment_writer_new_indexes(struct schema *, struct blob_writer *out);
int segment_writer_add_indexes(struct segment_writer *, const char *raw, size_t raw_len,
                               struct err *); /* NULL: none */
size_t segment_writer_bytes(const struct segment_writer *);
