/* Managed embeddings in a schema: which model makes a vector field from which text. */
#include "index/schema_internal.h"
#include "backend/embedder.h"
#include <stdarg.h>
#include <stdio.h>

static int because(char why[EMBEDDING_WHY], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int because(char why[EMBEDDING_WHY], const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, EMBEDDING_WHY, fmt, ap);
    va_end(ap);
    return -ERR_INVALID;
}

struct embedding *embedding_new(const char *model, const char *source) {
    struct embedding *e = xcalloc(1, sizeof *e);
    e->model = xstrdup(model);
    e->source = xstrdup(source);
    return e;
}

void embedding_free(struct embedding *e) {
    if (!e) return;
    free(e->model);
    free(e->source);
    free(e);
}

bool embedding_same(const struct embedding *a, const struct embedding *b) {
    if (!a || !b) return a == b;
    return !strcmp(a->model, b->model) && !strcmp(a->source, b->source);
}

/* ---- parsing ---- */

static int only_members(json_t *object, const char *where, const char *const *known,
                        char why[EMBEDDING_WHY]) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        const char *const *k = known;
        while (*k && strcmp(*k, key)) k++;
        if (!*k) return because(why, "unknown member \"%.*s\"%s", QUOTE(key, strlen(key)), where);
    }
    return 0;
}

/* The models' own dimensions, or those that are asked for where a model gives fewer. */
static int resolve_dimensions(json_t *given, const char *name, uint32_t *ret, char why[EMBEDDING_WHY]) {
    const struct embed_model *model = embedder_model(name);
    json_int_t n = json_integer_value(given), most = model ? model->dimensions : SCHEMA_MAX_DIMENSIONS;
    if (!given && !model)
        return because(why, "embedding: model \"%.*s\" is not known: give its \"dimensions\"",
                       QUOTE(name, strlen(name)));
    if (!given) return *ret = model->dimensions, 0;
    if (!json_is_integer(given) || n < 1 || n > most)
        return because(why, "embedding: \"dimensions\" must be a number from 1 to %d", (int)most);
    if (model && !model->shortens && n != most)
        return because(why, "embedding: model \"%s\" has %d dimensions and no fewer", name, (int)most);
    *ret = (uint32_t)n;
    return 0;
}

static int check_name(const char *name, size_t max, const char *what, char why[EMBEDDING_WHY]) {
    if (name && *name && strlen(name) <= max) return 0;
    return because(why, "embedding: expected %s of 1 to %zu bytes", what, max);
}

int embedding_parse(json_t *config, struct field *f, json_t **ret_similarity, char why[EMBEDDING_WHY]) {
    static const char *const known[] = {"type", "managedEmbedding", "embedding", NULL};
    static const char *const known_inside[] = {"provider",   "model",      "sourceField",
                                               "dimensions", "similarity", NULL};
    json_t *e = json_object_get(config, "embedding");
    int r = only_members(config, " beside \"embedding\"", known, why);
    if (r) return r;
    if (!json_is_object(e))
        return because(
            why, "a managed vector field needs \"embedding\": {\"provider\", \"model\", \"sourceField\"}");
    r = only_members(e, " in \"embedding\"", known_inside, why);
    const char *provider = json_string_value(json_object_get(e, "provider"));
    const char *model = json_string_value(json_object_get(e, "model"));
    const char *source = json_string_value(json_object_get(e, "sourceField"));
    if (!r && (!provider || strcmp(provider, "openai")))
        r = because(why, "embedding: \"provider\" must be \"openai\" (any endpoint that speaks its API)");
    if (!r) r = check_name(model, EMBED_MODEL_MAX, "a \"model\"", why);
    if (!r) r = check_name(source, SCHEMA_MAX_PATH, "a \"sourceField\"", why);
    if (!r) r = resolve_dimensions(json_object_get(e, "dimensions"), model, &f->dimensions, why);
    if (!r && strchr(f->path, '.')) r = because(why, "a managed vector field cannot stand inside an object");
    if (r) return r;
    f->embedding = embedding_new(model, source);
    *ret_similarity = json_object_get(e, "similarity");
    return 0;
}

int embedding_check(struct schema_builder *b, const struct field **ret, char why[EMBEDDING_WHY]) {
    for (uint32_t i = 0; i < b->schema->n_fields; i++) {
        const struct field *f = &b->schema->fields[i];
        if (!f->embedding) continue;
        const char *source = f->embedding->source;
        const struct field *s = schema_builder_find(b, source, strlen(source));
        *ret = f;
        if (!s)
            return because(why, "embedding: sourceField \"%.*s\" has no index: add it as text",
                           QUOTE(source, strlen(source)));
        if (s->type != FIELD_TEXT && s->type != FIELD_KEYWORD)
            return because(why, "embedding: sourceField \"%.*s\" is %s: expected text or keyword",
                           QUOTE(source, strlen(source)), field_type_name(s->type));
    }
    return 0;
}

/* ---- writing ---- */

void embedding_write(const struct field *f, bool pretty, struct buf *out) {
    const char *colon = pretty ? ": " : ":", *comma = pretty ? ", " : ",";
    buf_printf(out, "%s\"managedEmbedding\"%strue%s\"embedding\"%s{\"provider\"%s\"openai\"%s\"model\"%s",
               comma, colon, comma, colon, colon, comma, colon);
    buf_add_json_string(out, f->embedding->model, strlen(f->embedding->model));
    buf_printf(out, "%s\"sourceField\"%s", comma, colon);
    buf_add_json_string(out, f->embedding->source, strlen(f->embedding->source));
    buf_printf(out, "%s\"dimensions\"%s%u%s\"similarity\"%s\"%s\"}", comma, colon, f->dimensions, comma,
               colon, similarity_name(f->similarity));
}
