/* A collection's schema: which paths of a document are indexed, and how. Immutable and reference counted.
 *
 * JSON form (the API's create request): {"dynamic": bool, "indexConfigs": {...}, "partitionConfig": {...}}.
 * Object configs are flattened: `fields` holds one entry per indexed dotted path, sorted by path (bytes); an
 * `object` has an entry itself too. `id` (keyword) is always present. The record form adds "version" and
 * "inferred": [paths].
 */
#pragma once
#include "util/buf.h"
#include "util/err.h"
#include "util/jval.h"

/* Values are stored in files: never renumber. */
enum field_type {
    FIELD_TEXT = 1,
    FIELD_KEYWORD = 2,
    FIELD_LONG = 3,
    FIELD_DOUBLE = 4,
    FIELD_BOOLEAN = 5,
    FIELD_DATETIME = 6,
    FIELD_VECTOR = 7,
    FIELD_SPARSE_VECTOR = 8,
    FIELD_OBJECT = 9
};
enum similarity {
    SIMILARITY_COSINE = 0,
    SIMILARITY_EUCLIDEAN = 1,
    SIMILARITY_DOT_PRODUCT = 2,
    SIMILARITY_MAX_INNER_PRODUCT = 3
};
enum analyzer {
    ANALYZER_STANDARD = 0,
    ANALYZER_ENGLISH = 1,
    ANALYZER_JAPANESE = 2,
    ANALYZER_KOREAN = 3,
    ANALYZER_COUNT = 4
};

enum {
    SCHEMA_MAX_FIELDS = 1000, /* inferred fields stop here, declared ones are refused beyond */
    SCHEMA_MAX_DEPTH = 20,    /* of object configs */
    SCHEMA_MAX_DIMENSIONS = 4096,
    SPARSE_MAX_WEIGHTS = 4096, /* non-zero weights of a sparse vector */
    SPARSE_MAX_WEIGHT = 64,
    KEYWORD_MAX_CHARS = 4096, /* longer strings are not indexed */
    ID_MAX_CHARS = 512,       /* UTF-8 characters, so at most 2,048 bytes */
};

/* A VECTOR field that is filled from a text by a model (provider "openai"). */
struct embedding {
    char *model;
    char *source; /* path of a TEXT or KEYWORD field */
};

struct field {
    char *path; /* dotted, NUL-terminated */
    uint32_t path_len;
    uint8_t type;                /* enum field_type */
    uint8_t analyzers;           /* TEXT: bit mask of 1 << enum analyzer; never 0 */
    uint8_t similarity;          /* VECTOR */
    bool inferred;               /* misfits are stored unindexed with a warning instead of refused */
    uint32_t dimensions;         /* VECTOR */
    struct embedding *embedding; /* VECTOR: managed; NULL: documents bring their vectors */
};

struct schema {
    int refs;         /* atomic */
    uint32_t version; /* grows with every change */
    bool dynamic;
    struct field *fields;
    uint32_t n_fields;
    char *partition_field; /* NULL when not partitioned */
    uint32_t n_partitions;
};

struct schema *schema_ref(struct schema *);
void schema_unref(struct schema *); /* NULL is fine */
/* The schema of a collection made without one: dynamic, only `id`, version 1. */
struct schema *schema_new_empty(void);
/* Parses a create request's part; missing members take defaults ("dynamic" is true when there is no
 * indexConfigs or it is empty, else false unless given). Errors: ERR_INVALID naming the path and what was
 * expected. */
int schema_parse(const char *json, size_t len, struct schema **ret, struct err *);
/* schema.json as users see it (pretty, ends with a newline). */
void schema_write(const struct schema *, struct buf *out);
/* As "indexConfigs" of the API, compact. */
void schema_write_index_configs(const struct schema *, struct buf *out);
/* The record form, for metadata and roots; reading back gives an equal schema. */
void schema_write_record(const struct schema *, struct buf *out);
int schema_read_record(const char *json, size_t len, struct schema **ret, struct err *);
/* A user wrote a new schema.json: adds new indexes, refuses (ERR_INVALID) changed or dropped ones. *ret is
 * NULL when nothing changes; else version = old version + 1. An inferred field that is named the same way
 * becomes declared. */
int schema_extend(struct schema *old, const char *json, size_t len, struct schema **ret, struct err *);
const struct field *schema_find(const struct schema *, const char *path, size_t len);
/* Infers fields for what these documents carry beyond the schema; *ret NULL when nothing is new. A field is
 * keyword only if every value in this batch is token-like. See docs/FILESYSTEM.md for the table. */
int schema_infer(struct schema *old, const struct jval *const *docs, size_t n_docs, struct schema **ret,
                 struct err *);
/* Checks a document (an object) against the schema. A misfit of a declared field: ERR_INVALID or
 * ERR_DIMENSION naming the path; of an inferred one: a line appended to warnings (may be NULL). */
int schema_check(const struct schema *, const struct jval *doc, struct buf *warnings, struct err *);

/* Walks the indexable values of a document: for every schema field except objects, each value found at its
 * path (arrays and arrays of objects flattened; a VECTOR's array and a SPARSE_VECTOR's object are given
 * whole; nulls are skipped). Values that do not fit the field's type are skipped. Order: fields in schema
 * order, values in document order. */
typedef int field_visit(void *ctx, uint32_t field_no, const struct jval *value, struct err *);
int schema_walk(const struct schema *, const struct jval *doc, field_visit *, void *ctx, struct err *);
/* One value as the field's column stores it: LONG, BOOLEAN (0/1), DATETIME (ms) as they are, DOUBLE as its
 * sortable int64 (double_to_sortable). False when it does not fit. Strings "true"/"false" fit BOOLEAN; a LONG
 * takes integers and integral doubles. */
bool field_value_i64(enum field_type, const struct jval *value, int64_t *ret);
int64_t double_to_sortable(double v); /* order-preserving; -0.0 and 0.0 map to the same */
double sortable_to_double(int64_t v);
const char *field_type_name(enum field_type);
const char *analyzer_name(enum analyzer);
const char *similarity_name(enum similarity);
