/* Shared by schema.c, schema_parse.c, schema_infer.c and schema_doc.c: building a schema field by field. */
#pragma once
#include "index/schema.h"
#include <jansson.h>

enum { SCHEMA_MAX_PATH = 1000 }; /* bytes of a dotted path */

/* A schema under construction; release with schema_unref(b.schema) when it is given up. */
struct schema_builder {
    struct schema *schema;
    uint32_t cap;
};

/* A copy of `old` (NULL: nothing but the defaults: not dynamic, no fields) to be changed. */
void schema_builder_init(struct schema_builder *, const struct schema *old);
/* Adds a field with defaults for its type; valid until the next add. */
struct field *schema_builder_add(struct schema_builder *, const char *path, size_t len, enum field_type);
struct field *schema_builder_find(struct schema_builder *, const char *path,
                                  size_t len); /* unsorted: linear */
/* Adds `id` if it is missing and sorts. */
struct schema *schema_builder_finish(struct schema_builder *);

/* What a parse of schema JSON found besides the schema. */
struct schema_given {
    bool dynamic, configs, partition, inferred_allowed;
    bool any_analyzer; /* accept kinds that this build cannot index (a stored record) */
};
int schema_parse_given(const char *json, size_t len, struct schema_given *, struct schema **ret,
                       struct err *);

/* ---- managed embeddings (schema_embedding.c) ---- */

enum { EMBEDDING_WHY = 280 }; /* room for the reason of a refusal, a text without the field's name */
struct embedding *embedding_new(const char *model, const char *source);
void embedding_free(struct embedding *);
bool embedding_same(const struct embedding *, const struct embedding *);
/* Reads a config with "managedEmbedding": true: sets embedding and dimensions. *ret_similarity: borrowed, or
 * NULL. */
int embedding_parse(json_t *config, struct field *, json_t **ret_similarity, char why[EMBEDDING_WHY]);
/* Every source is there and a string; else *ret is the field in question. */
int embedding_check(struct schema_builder *, const struct field **ret, char why[EMBEDDING_WHY]);
/* The members behind "type". */
void embedding_write(const struct field *, bool pretty, struct buf *out);

/* For messages: printf("\"%.*s\"", QUOTE(s, len)). */
#define QUOTE(s, len) err_shown((s), (len)), (s)
