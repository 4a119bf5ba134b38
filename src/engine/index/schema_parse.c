/* Schema JSON to a schema: a create request's members, schema.json, and the record form. */
#include "index/analyzer.h"
#include "index/partition.h"
#include "index/schema_internal.h"
#include <jansson.h>
#include <stdarg.h>

struct parser {
    struct schema_builder b;
    const struct schema_given *given;
    char path[SCHEMA_MAX_PATH + 1]; /* of the field being read */
    size_t path_len;
    struct err *err;
};

static int refuse(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct parser *p, const char *fmt, ...) {
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!p->path_len) return err_set(p->err, ERR_INVALID, "%s", text);
    return err_set(p->err, ERR_INVALID, "field \"%.*s\": %s", QUOTE(p->path, p->path_len), text);
}

/* Refuses members that are not in the NULL-terminated list. */
static int only_members(struct parser *p, json_t *object, const char *const *known) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        const char *const *k = known;
        while (*k && strcmp(*k, key)) k++;
        if (*k) continue;
        char list[160] = "";
        for (k = known; *k; k++) {
            size_t n = strlen(list);
            snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", *k);
        }
        return refuse(p, "unknown member \"%.*s\"; known: %s", QUOTE(key, strlen(key)), list);
    }
    return 0;
}

static int parse_analyzer(struct parser *p, const json_t *v, uint8_t *mask) {
    const char *name = json_string_value(v);
    for (unsigned a = 0; name && a < ANALYZER_COUNT; a++) {
        if (strcmp(name, analyzer_name(a))) continue;
        struct err why = ERR_INIT;
        if (!p->given->any_analyzer && analyzer_check(a, &why)) return refuse(p, "%s", why.text);
        *mask |= (uint8_t)(1u << a);
        return 0;
    }
    return refuse(p, "unknown analyzer; expected standard, english, japanese or korean");
}

static int parse_text(struct parser *p, json_t *config, struct field *f) {
    static const char *const known[] = {"type", "analyzers", NULL};
    json_t *list = json_object_get(config, "analyzers"), *v;
    size_t i;
    uint8_t mask = 0;
    int r = only_members(p, config, known);
    if (r || !list) return r;
    if (json_is_string(list)) return f->analyzers = 0, parse_analyzer(p, list, &f->analyzers);
    if (!json_is_array(list) || !json_array_size(list))
        return refuse(p, "\"analyzers\" must be a non-empty array of names");
    json_array_foreach(list, i, v) {
        if ((r = parse_analyzer(p, v, &mask))) return r;
    }
    f->analyzers = mask;
    return 0;
}

static int parse_similarity(struct parser *p, const json_t *v, uint8_t *ret) {
    const char *name = json_string_value(v);
    for (unsigned s = 0; name && s <= SIMILARITY_MAX_INNER_PRODUCT; s++) {
        if (strcmp(name, similarity_name(s))) continue;
        *ret = (uint8_t)s;
        return 0;
    }
    return refuse(p, "\"similarity\" must be cosine, euclidean, dot_product or max_inner_product");
}

static int parse_managed(struct parser *p, json_t *config, struct field *f) {
    char why[EMBEDDING_WHY];
    json_t *similarity = NULL;
    if (embedding_parse(config, f, &similarity, why)) return refuse(p, "%s", why);
    return similarity ? parse_similarity(p, similarity, &f->similarity) : 0;
}

static int check_managed(struct parser *p) {
    char why[EMBEDDING_WHY];
    const struct field *f;
    if (!embedding_check(&p->b, &f, why)) return 0;
    memcpy(p->path, f->path, f->path_len + 1);
    p->path_len = f->path_len;
    return refuse(p, "%s", why);
}

static int parse_vector(struct parser *p, json_t *config, struct field *f) {
    static const char *const known[] = {"type", "dimensions", "similarity", "managedEmbedding", NULL};
    json_t *managed = json_object_get(config, "managedEmbedding");
    json_t *dimensions = json_object_get(config, "dimensions"),
           *similarity = json_object_get(config, "similarity");
    if (managed && !json_is_boolean(managed)) return refuse(p, "\"managedEmbedding\" must be true or false");
    if (json_is_true(managed)) return parse_managed(p, config, f);
    int r = only_members(p, config, known);
    if (r) return r;
    if (!json_is_integer(dimensions) || json_integer_value(dimensions) < 1 ||
        json_integer_value(dimensions) > SCHEMA_MAX_DIMENSIONS)
        return refuse(p, "\"dimensions\" must be a number from 1 to %d", SCHEMA_MAX_DIMENSIONS);
    f->dimensions = (uint32_t)json_integer_value(dimensions);
    return similarity ? parse_similarity(p, similarity, &f->similarity) : 0;
}

static int parse_configs(struct parser *p, json_t *configs, unsigned depth);

static int parse_object(struct parser *p, json_t *config, unsigned depth) {
    static const char *const known[] = {"type", "objectIndexConfigs", NULL};
    json_t *configs = json_object_get(config, "objectIndexConfigs");
    int r = only_members(p, config, known);
    if (r) return r;
    if (!json_is_object(configs)) return refuse(p, "\"objectIndexConfigs\" must be an object of fields");
    return parse_configs(p, configs, depth + 1);
}

static int parse_type(struct parser *p, const json_t *config, enum field_type *ret) {
    const char *name = json_string_value(json_object_get(config, "type"));
    for (int t = FIELD_TEXT; name && t <= FIELD_OBJECT; t++) {
        if (strcmp(name, field_type_name(t))) continue;
        *ret = t;
        return 0;
    }
    return refuse(
        p, "%s; expected text, keyword, long, double, boolean, datetime, vector, sparseVector or object",
        name ? "unknown type" : "\"type\" is missing");
}

static int parse_field(struct parser *p, json_t *config, unsigned depth) {
    static const char *const known[] = {"type", NULL};
    enum field_type type = 0;
    if (!json_is_object(config)) return refuse(p, "must be an object such as {\"type\": \"keyword\"}");
    int r = parse_type(p, config, &type);
    if (r) return r;
    if (p->path_len == 2 && !memcmp(p->path, "id", 2) && type != FIELD_KEYWORD)
        return refuse(p, "the document's key is always a keyword");
    /* a record also has what was added to the declared ones: id and the partition field */
    if (p->b.schema->n_fields >= SCHEMA_MAX_FIELDS + (p->given->inferred_allowed ? 2u : 0u))
        return refuse(p, "there are more than %d fields", SCHEMA_MAX_FIELDS);
    struct field *f = schema_builder_add(&p->b, p->path, p->path_len, type);
    if (type == FIELD_TEXT) return parse_text(p, config, f);
    if (type == FIELD_VECTOR) return parse_vector(p, config, f);
    if (type == FIELD_OBJECT) return parse_object(p, config, depth);
    return only_members(p, config, known);
}

static int parse_configs(struct parser *p, json_t *configs, unsigned depth) {
    const char *key;
    json_t *config;
    size_t base = p->path_len;
    if (depth > SCHEMA_MAX_DEPTH) return refuse(p, "objects are nested deeper than %d", SCHEMA_MAX_DEPTH);
    json_object_foreach(configs, key, config) {
        size_t len = strlen(key), at = base ? base + 1 : 0;
        if (!len) return refuse(p, "a field name cannot be empty");
        if (strchr(key, '.')) return refuse(p, "field name \"%.*s\" cannot contain a dot", QUOTE(key, len));
        if (at + len > SCHEMA_MAX_PATH) return refuse(p, "a path is longer than %d bytes", SCHEMA_MAX_PATH);
        if (base) p->path[base] = '.';
        memcpy(p->path + at, key, len + 1);
        p->path_len = at + len;
        int r = parse_field(p, config, depth);
        if (r) return r;
        p->path_len = base;
        p->path[base] = '\0';
    }
    return 0;
}

/* The field is indexed as a keyword whether it is declared or not: the index says where documents belong. */
static int partition_field(struct parser *p) {
    const char *path = p->b.schema->partition_field;
    const struct field *f = schema_builder_find(&p->b, path, strlen(path));
    if (f && f->type != FIELD_KEYWORD)
        return refuse(p, "partitionConfig.fieldName: \"%.*s\" is %s: expected a keyword field",
                      QUOTE(path, strlen(path)), field_type_name(f->type));
    if (!f && strchr(path, '.'))
        return refuse(
            p, "partitionConfig.fieldName: \"%.*s\" is not declared: add it to indexConfigs as keyword",
            QUOTE(path, strlen(path)));
    if (!f && strlen(path) > SCHEMA_MAX_PATH)
        return refuse(p, "partitionConfig.fieldName is longer than %d bytes", SCHEMA_MAX_PATH);
    if (!f) schema_builder_add(&p->b, path, strlen(path), FIELD_KEYWORD);
    return 0;
}

static int parse_partition(struct parser *p, json_t *config) {
    static const char *const known[] = {"fieldName", "dataType", "numPartitions", NULL};
    if (!json_is_object(config)) return refuse(p, "\"partitionConfig\" must be an object");
    json_t *name = json_object_get(config, "fieldName"), *type = json_object_get(config, "dataType");
    json_t *n = json_object_get(config, "numPartitions");
    int r = only_members(p, config, known);
    if (r) return r;
    if (!json_is_string(name) || !json_string_length(name))
        return refuse(p, "partitionConfig.fieldName must be a field's name");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "keyword")))
        return refuse(p, "partitionConfig.dataType must be \"keyword\"");
    if (!json_is_integer(n) || json_integer_value(n) < PARTITIONS_MIN ||
        json_integer_value(n) > PARTITIONS_MAX)
        return refuse(p, "partitionConfig.numPartitions must be a number from %d to %d", PARTITIONS_MIN,
                      PARTITIONS_MAX);
    p->b.schema->partition_field = xstrdup(json_string_value(name));
    p->b.schema->n_partitions = (uint32_t)json_integer_value(n);
    return partition_field(p);
}

static int parse_inferred(struct parser *p, json_t *list) {
    json_t *v;
    size_t i;
    if (!json_is_array(list)) return refuse(p, "\"inferred\" must be an array");
    json_array_foreach(list, i, v) {
        const char *path = json_string_value(v);
        struct field *f = path ? schema_builder_find(&p->b, path, strlen(path)) : NULL;
        if (!f) return refuse(p, "\"inferred\" names a field that is not there");
        f->inferred = true;
    }
    return 0;
}

static int parse_record_members(struct parser *p, json_t *root) {
    json_t *version = json_object_get(root, "version"), *inferred = json_object_get(root, "inferred");
    if (!json_is_integer(version) || json_integer_value(version) < 1 ||
        json_integer_value(version) > UINT32_MAX)
        return refuse(p, "\"version\" must be a positive number");
    p->b.schema->version = (uint32_t)json_integer_value(version);
    return inferred ? parse_inferred(p, inferred) : 0;
}

static int parse_root(struct parser *p, json_t *root, struct schema_given *given) {
    static const char *const known[] = {"dynamic", "indexConfigs", "partitionConfig", NULL};
    static const char *const known_record[] = {"dynamic", "indexConfigs", "partitionConfig",
                                               "version", "inferred",     NULL};
    if (!json_is_object(root)) return refuse(p, "a schema must be a JSON object");
    int r = only_members(p, root, given->inferred_allowed ? known_record : known);
    if (r) return r;
    json_t *dynamic = json_object_get(root, "dynamic"), *configs = json_object_get(root, "indexConfigs");
    json_t *partition = json_object_get(root, "partitionConfig");
    if (dynamic && !json_is_boolean(dynamic)) return refuse(p, "\"dynamic\" must be true or false");
    if (configs && !json_is_object(configs)) return refuse(p, "\"indexConfigs\" must be an object of fields");
    if (configs && (r = parse_configs(p, configs, 1))) return r;
    if ((r = check_managed(p))) return r;
    if (partition && (r = parse_partition(p, partition))) return r;
    p->b.schema->dynamic = dynamic ? json_is_true(dynamic) : !configs || !json_object_size(configs);
    given->dynamic = dynamic;
    given->configs = configs;
    given->partition = partition;
    return given->inferred_allowed ? parse_record_members(p, root) : 0;
}

int schema_parse_given(const char *json, size_t len, struct schema_given *given, struct schema **ret,
                       struct err *err) {
    json_error_t bad;
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &bad);
    if (!root)
        return err_at(err, ERR_INVALID, bad.line > 0 ? (uint32_t)bad.line : 0,
                      bad.column > 0 ? (uint32_t)bad.column : 0, "the schema is not valid JSON: %s",
                      bad.text);
    struct parser p = {.given = given, .err = err};
    schema_builder_init(&p.b, NULL);
    int r = parse_root(&p, root, given);
    if (!r)
        *ret = schema_builder_finish(&p.b);
    else
        schema_unref(p.b.schema);
    json_decref(root);
    return r;
}

int schema_parse(const char *json, size_t len, struct schema **ret, struct err *err) {
    struct schema_given given = {0};
    return schema_parse_given(json, len, &given, ret, err);
}

int schema_read_record(const char *json, size_t len, struct schema **ret, struct err *err) {
    struct schema_given given = {.inferred_allowed = true, .any_analyzer = true};
    if (!schema_parse_given(json, len, &given, ret, err)) return 0;
    if (err) err->code = ERR_CORRUPT;
    err_wrap(err, "schema record");
    return -ERR_CORRUPT;
}
