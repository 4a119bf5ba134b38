/* Finding queryText in a request's JSON. */
#include "query/query_text.h"
#include "query/query_internal.h"

struct query_texts {
    json_t *root;
    struct {
        struct query_text text;
        json_t *knn; /* borrowed from root */
    } * all;
    size_t n, cap;
};

static bool is_blank(const char *s, size_t len) {
    while (len && strchr(" \t\r\n", *s) && *s) s++, len--;
    return !len;
}

static void take_knn(struct query_texts *t, json_t *knn, const struct schema *schema) {
    json_t *text = json_object_get(knn, "queryText"), *name = json_object_get(knn, "field");
    if (!json_is_string(text) || !json_is_string(name) || json_object_get(knn, "queryVector")) return;
    const struct field *f = schema_find(schema, json_string_value(name), json_string_length(name));
    bool blank = is_blank(json_string_value(text), json_string_length(text));
    if (!f || !f->embedding || blank || t->n >= QUERY_MAX_CLAUSES) return;
    VEC_GROW(t->all, t->n, t->cap);
    t->all[t->n].text = (struct query_text){f, json_string_value(text), json_string_length(text)};
    t->all[t->n++].knn = knn;
}

/* Goes where query objects may be nested; depth as the compiler counts it, or deeper. */
static void walk(struct query_texts *t, json_t *v, const struct schema *schema, unsigned depth) {
    const char *key;
    json_t *e;
    size_t i;
    if (depth > 4 * QUERY_MAX_DEPTH) return;
    if (json_is_array(v)) json_array_foreach(v, i, e) walk(t, e, schema, depth + 1);
    if (!json_is_object(v)) return;
    json_object_foreach(v, key, e) {
        if (!strcmp(key, "knn") && json_is_object(e)) take_knn(t, e, schema);
        walk(t, e, schema, depth + 1);
    }
}

int query_texts_find(const struct query_request *request, const struct schema *schema,
                     struct query_texts **ret, struct err *err) {
    json_error_t bad;
    *ret = NULL;
    if (!request->json || !strstr(request->json, "queryText")) return 0;
    json_t *root = json_loads(request->json, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &bad);
    if (!root) return err_set(err, ERR_INVALID, "the query is not valid JSON: %s", bad.text);
    struct query_texts *t = xcalloc(1, sizeof *t);
    t->root = root;
    walk(t, root, schema, 0);
    if (t->n)
        *ret = t;
    else
        query_texts_free(t);
    return 0;
}

size_t query_texts_count(const struct query_texts *t) {
    return t->n;
}

const struct query_text *query_texts_at(const struct query_texts *t, size_t i) {
    return &t->all[i].text;
}

void query_texts_set(struct query_texts *t, size_t i, const float *vector) {
    json_t *list = json_array();
    for (uint32_t d = 0; d < t->all[i].text.field->dimensions; d++)
        json_array_append_new(list, json_real((double)vector[d]));
    json_object_set_new(t->all[i].knn, "queryVector", list);
    json_object_del(t->all[i].knn, "queryText");
}

char *query_texts_json(const struct query_texts *t) {
    return json_dumps(t->root, JSON_COMPACT | JSON_ENCODE_ANY);
}

void query_texts_free(struct query_texts *t) {
    if (!t) return;
    json_decref(t->root);
    free(t->all);
    free(t);
}
