/* Shared by the query tests: a schema with every type, and compiling to text. */
#pragma once
#include "test.h"
#include "query/query.h"

static struct err err;

/* body is standard, title english, two has both. */
static const char schema_json[] =
    "{\"dynamic\":true,\"indexConfigs\":{"
    "\"title\":{\"type\":\"text\",\"analyzers\":[\"english\"]},\"body\":{\"type\":\"text\"},"
    "\"tag\":{\"type\":\"keyword\"},\"n\":{\"type\":\"long\"},\"d\":{\"type\":\"double\"},\"b\":{\"type\":"
    "\"boolean\"},"
    "\"w\":{\"type\":\"datetime\"},\"my field\":{\"type\":\"keyword\"},"
    "\"v\":{\"type\":\"vector\",\"dimensions\":2},\"dot\":{\"type\":\"vector\",\"dimensions\":3,"
    "\"similarity\":\"dot_product\"},"
    "\"author\":{\"type\":\"object\",\"objectIndexConfigs\":{\"name\":{\"type\":\"keyword\"},\"born\":{"
    "\"type\":\"long\"},"
    "\"none\":{\"type\":\"object\",\"objectIndexConfigs\":{}}}}}}";

static inline struct schema *test_schema(const char *json) {
    struct schema *s = NULL;
    if (schema_parse(json, strlen(json), &s, &err)) fprintf(stderr, "%s\n", err.text), abort();
    return s;
}

/* The printed tree, or "column: message"; valid until the next call. */
static inline const char *compiled(const struct query_request *q, const struct schema *s) {
    static struct buf out;
    struct query *query = NULL;
    buf_clear(&out);
    err_clear(&err);
    int r = query_compile(q, s, NULL, 0, &query, &err);
    if (r)
        buf_printf(&out, "%u: %s", err.column, err.text);
    else
        query_print(query->root, &out);
    if (r && r != -(int)err.code) buf_adds(&out, " (code differs)");
    query_free(query);
    return buf_str(&out);
}

static inline const char *compiled_text(const char *text, const char *default_field, const struct schema *s) {
    struct query_request q;
    query_request_init(&q);
    q.text = (char *)text;
    q.default_field = (char *)default_field;
    return compiled(&q, s);
}

/* Expected text, or for an error "column: beginning of the message". */
static inline bool matches(const char *got, const char *expected) {
    size_t n = strspn(expected, "0123456789");
    if (n && expected[n] == ':') return !strncmp(got, expected, strlen(expected));
    return !strcmp(got, expected);
}
