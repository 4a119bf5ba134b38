/* Schemas: life, lookup, JSON forms, extension. */
#include "index/schema_internal.h"
#include <stdio.h>

static const char *const type_names[] = {
    [FIELD_TEXT] = "text",       [FIELD_KEYWORD] = "keyword",
    [FIELD_LONG] = "long",       [FIELD_DOUBLE] = "double",
    [FIELD_BOOLEAN] = "boolean", [FIELD_DATETIME] = "datetime",
    [FIELD_VECTOR] = "vector",   [FIELD_SPARSE_VECTOR] = "sparseVector",
    [FIELD_OBJECT] = "object",
};
static const char *const similarity_names[] = {"cosine", "euclidean", "dot_product", "max_inner_product"};
static const char *const analyzer_names[] = {"standard", "english", "japanese", "korean"};

const char *field_type_name(enum field_type t) {
    return t >= FIELD_TEXT && t <= FIELD_OBJECT ? type_names[t] : "unknown";
}
const char *analyzer_name(enum analyzer a) {
    return a < ANALYZER_COUNT ? analyzer_names[a] : "unknown";
}
const char *similarity_name(enum similarity s) {
    return s <= SIMILARITY_MAX_INNER_PRODUCT ? similarity_names[s] : "unknown";
}

/* ---- life ---- */

struct schema *schema_ref(struct schema *s) {
    __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

void schema_unref(struct schema *s) {
    if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    for (uint32_t i = 0; i < s->n_fields; i++) {
        free(s->fields[i].path);
        embedding_free(s->fields[i].embedding);
    }
    free(s->fields);
    free(s->partition_field);
    free(s);
}

static int path_compare(const char *a, size_t a_len, const char *b, size_t b_len) {
    int r = memcmp(a, b, MIN(a_len, b_len));
    return r ? r : (a_len > b_len) - (a_len < b_len);
}

static int field_compare(const void *a, const void *b) {
    const struct field *x = a, *y = b;
    return path_compare(x->path, x->path_len, y->path, y->path_len);
}

void schema_builder_init(struct schema_builder *b, const struct schema *old) {
    struct schema *s = xcalloc(1, sizeof *s);
    *b = (struct schema_builder){.schema = s};
    s->refs = 1;
    s->version = 1;
    if (!old) return;
    s->version = old->version;
    s->dynamic = old->dynamic;
    s->n_partitions = old->n_partitions;
    s->partition_field = old->partition_field ? xstrdup(old->partition_field) : NULL;
    for (uint32_t i = 0; i < old->n_fields; i++) {
        struct field *f =
            schema_builder_add(b, old->fields[i].path, old->fields[i].path_len, old->fields[i].type);
        char *path = f->path;
        const struct embedding *e = old->fields[i].embedding;
        *f = old->fields[i];
        f->path = path;
        if (e) f->embedding = embedding_new(e->model, e->source);
    }
}

struct field *schema_builder_add(struct schema_builder *b, const char *path, size_t len,
                                 enum field_type type) {
    struct schema *s = b->schema;
    VEC_GROW(s->fields, s->n_fields, b->cap);
    struct field *f = &s->fields[s->n_fields++];
    *f = (struct field){.path = xstrndup(path, len), .path_len = (uint32_t)len, .type = (uint8_t)type};
    if (type == FIELD_TEXT) f->analyzers = 1 << ANALYZER_STANDARD;
    return f;
}

struct field *schema_builder_find(struct schema_builder *b, const char *path, size_t len) {
    for (uint32_t i = 0; i < b->schema->n_fields; i++) {
        struct field *f = &b->schema->fields[i];
        if (f->path_len == len && !memcmp(f->path, path, len)) return f;
    }
    return NULL;
}

struct schema *schema_builder_finish(struct schema_builder *b) {
    if (!schema_builder_find(b, "id", 2)) schema_builder_add(b, "id", 2, FIELD_KEYWORD);
    qsort(b->schema->fields, b->schema->n_fields, sizeof *b->schema->fields, field_compare);
    return b->schema;
}

struct schema *schema_new_empty(void) {
    struct schema_builder b;
    schema_builder_init(&b, NULL);
    b.schema->dynamic = true;
    return schema_builder_finish(&b);
}

const struct field *schema_find(const struct schema *s, const char *path, size_t len) {
    uint32_t lo = 0, hi = s->n_fields;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int r = path_compare(s->fields[mid].path, s->fields[mid].path_len, path, len);
        if (r == 0) return &s->fields[mid];
        if (r < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

/* ---- writing ---- */

struct writer {
    struct buf *out;
    const struct schema *schema;
    bool pretty;
};

static void line_break(struct writer *w, unsigned depth) {
    if (!w->pretty) return;
    buf_addc(w->out, '\n');
    for (unsigned i = 0; i < depth; i++) buf_adds(w->out, "  ");
}

static void write_key(struct writer *w, const char *key, size_t len) {
    buf_add_json_string(w->out, key, len);
    buf_adds(w->out, w->pretty ? ": " : ":");
}

static const char *comma(const struct writer *w) {
    return w->pretty ? ", " : ",";
}

static void write_analyzers(struct writer *w, uint8_t mask) {
    const char *between = "";
    buf_adds(w->out, comma(w));
    write_key(w, "analyzers", 9);
    buf_addc(w->out, '[');
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) {
        if (!(mask & 1u << a)) continue;
        buf_printf(w->out, "%s\"%s\"", between, analyzer_names[a]);
        between = comma(w);
    }
    buf_addc(w->out, ']');
}

static void write_configs(struct writer *w, const char *prefix, size_t prefix_len, unsigned depth);

static void write_field(struct writer *w, const struct field *f, unsigned depth) {
    buf_addc(w->out, '{');
    write_key(w, "type", 4);
    buf_printf(w->out, "\"%s\"", field_type_name(f->type));
    if (f->type == FIELD_TEXT) write_analyzers(w, f->analyzers);
    if (f->embedding) embedding_write(f, w->pretty, w->out);
    if (f->type == FIELD_VECTOR && !f->embedding) {
        buf_adds(w->out, comma(w));
        write_key(w, "dimensions", 10);
        buf_printf(w->out, "%u%s", f->dimensions, comma(w));
        write_key(w, "similarity", 10);
        buf_printf(w->out, "\"%s\"", similarity_name(f->similarity));
    }
    if (f->type == FIELD_OBJECT) {
        char prefix[SCHEMA_MAX_PATH + 2];
        int n = snprintf(prefix, sizeof prefix, "%s.", f->path);
        buf_adds(w->out, comma(w));
        write_key(w, "objectIndexConfigs", 18);
        write_configs(w, prefix, (size_t)n, depth);
    }
    buf_addc(w->out, '}');
}

/* The fields directly below the prefix ("" or "a.b."), in byte order. */
static void write_configs(struct writer *w, const char *prefix, size_t prefix_len, unsigned depth) {
    bool any = false;
    buf_addc(w->out, '{');
    for (uint32_t i = 0; i < w->schema->n_fields; i++) {
        const struct field *f = &w->schema->fields[i];
        if (f->path_len <= prefix_len || memcmp(f->path, prefix, prefix_len)) continue;
        const char *name = f->path + prefix_len;
        if (strchr(name, '.')) continue;
        if (any) buf_addc(w->out, ',');
        any = true;
        line_break(w, depth + 1);
        write_key(w, name, f->path_len - prefix_len);
        write_field(w, f, depth + 1);
    }
    if (any) line_break(w, depth);
    buf_addc(w->out, '}');
}

/* The members that users see, without the braces around them. */
static void write_members(struct writer *w) {
    const struct schema *s = w->schema;
    line_break(w, 1);
    write_key(w, "dynamic", 7);
    buf_printf(w->out, "%s,", s->dynamic ? "true" : "false");
    line_break(w, 1);
    write_key(w, "indexConfigs", 12);
    write_configs(w, "", 0, 1);
    if (!s->partition_field) return;
    buf_addc(w->out, ',');
    line_break(w, 1);
    write_key(w, "partitionConfig", 15);
    buf_addc(w->out, '{');
    write_key(w, "fieldName", 9);
    buf_add_json_string(w->out, s->partition_field, strlen(s->partition_field));
    buf_adds(w->out, comma(w));
    write_key(w, "dataType", 8);
    buf_printf(w->out, "\"keyword\"%s", comma(w));
    write_key(w, "numPartitions", 13);
    buf_printf(w->out, "%u}", s->n_partitions);
}

void schema_write(const struct schema *s, struct buf *out) {
    struct writer w = {.out = out, .schema = s, .pretty = true};
    buf_addc(out, '{');
    write_members(&w);
    buf_adds(out, "\n}\n");
}

void schema_write_index_configs(const struct schema *s, struct buf *out) {
    struct writer w = {.out = out, .schema = s};
    write_configs(&w, "", 0, 0);
}

void schema_write_record(const struct schema *s, struct buf *out) {
    struct writer w = {.out = out, .schema = s};
    const char *between = "";
    buf_printf(out, "{\"version\":%u,\"inferred\":[", s->version);
    for (uint32_t i = 0; i < s->n_fields; i++) {
        if (!s->fields[i].inferred) continue;
        buf_adds(out, between);
        buf_add_json_string(out, s->fields[i].path, s->fields[i].path_len);
        between = ",";
    }
    buf_adds(out, "],");
    write_members(&w);
    buf_addc(out, '}');
}

/* ---- extension ---- */

static bool same_index(const struct field *a, const struct field *b) {
    return a->type == b->type && a->analyzers == b->analyzers && a->dimensions == b->dimensions &&
           a->similarity == b->similarity && embedding_same(a->embedding, b->embedding);
}

static int check_no_loss(const struct schema *old, const struct schema *given, struct err *err) {
    for (uint32_t i = 0; i < old->n_fields; i++) {
        const struct field *f = &old->fields[i], *now = schema_find(given, f->path, f->path_len);
        if (!now)
            return err_set(err, ERR_INVALID, "field \"%.*s\": an index cannot be dropped",
                           QUOTE(f->path, f->path_len));
        if (!same_index(f, now))
            return err_set(err, ERR_INVALID, "field \"%.*s\": an index cannot be changed (it is %s%s)",
                           QUOTE(f->path, f->path_len), field_type_name(f->type),
                           f->type == now->type ? " with other options" : "");
    }
    return 0;
}

/* Partitions are given once. */
static int check_partition(const struct schema *old, const struct schema *given, struct err *err) {
    const char *path = given->partition_field;
    bool same = old->partition_field && !strcmp(old->partition_field, path) &&
                old->n_partitions == given->n_partitions;
    if (old->partition_field && !same)
        return err_set(err, ERR_INVALID,
                       "partitionConfig cannot be changed (it is %u partitions of \"%.*s\")",
                       old->n_partitions, QUOTE(old->partition_field, strlen(old->partition_field)));
    const struct field *f = schema_find(old, path, strlen(path));
    if (f && f->type != FIELD_KEYWORD)
        return err_set(err, ERR_INVALID,
                       "partitionConfig.fieldName: \"%.*s\" is %s: expected a keyword field",
                       QUOTE(path, strlen(path)), field_type_name(f->type));
    return 0;
}

int schema_extend(struct schema *old, const char *json, size_t len, struct schema **ret, struct err *err) {
    struct schema_given given = {0};
    struct schema *user = NULL;
    struct schema_builder b;
    int r = schema_parse_given(json, len, &given, &user, err);
    if (r) return r;
    schema_builder_init(&b, old);
    bool changed = false;
    if (given.partition && (r = check_partition(old, user, err))) goto out;
    if (given.configs && (r = check_no_loss(old, user, err))) goto out;
    if (given.dynamic && user->dynamic != old->dynamic) {
        b.schema->dynamic = user->dynamic;
        changed = true;
    }
    if (given.partition && !old->partition_field) {
        b.schema->partition_field = xstrdup(user->partition_field);
        b.schema->n_partitions = user->n_partitions;
        changed = true;
    }
    /* without "indexConfigs" there is only the field that the partitions are of */
    for (uint32_t i = 0; (given.configs || given.partition) && i < user->n_fields; i++) {
        const struct field *f = &user->fields[i];
        const struct field *was = schema_find(old, f->path, f->path_len);
        if (was && !was->inferred) continue;
        struct field *now = was ? &b.schema->fields[was - old->fields]
                                : schema_builder_add(&b, f->path, f->path_len, f->type);
        now->analyzers = f->analyzers;
        now->dimensions = f->dimensions;
        now->similarity = f->similarity;
        if (f->embedding) now->embedding = embedding_new(f->embedding->model, f->embedding->source);
        now->inferred = false;
        changed = true;
    }
    if (changed) b.schema->version = old->version + 1;
    *ret = changed ? schema_ref(schema_builder_finish(&b)) : NULL;
out:
    schema_unref(b.schema);
    schema_unref(user);
    return r;
}
