/* Schemas: JSON forms and refusals, extension, inference, document checks and the walk. */
#include "test.h"
#include "index/schema.h"
#include <math.h>

static struct err err;

static struct schema *parse(const char *json) {
    struct schema *s = NULL;
    err_clear(&err);
    return schema_parse(json, strlen(json), &s, &err) ? NULL : s;
}

/* The compact index configs after a create, or the error's text. Valid until the next call. */
static const char *configs(const char *json) {
    static struct buf b;
    struct schema *s = parse(json);
    buf_clear(&b);
    if (!s) return err.text;
    schema_write_index_configs(s, &b);
    schema_unref(s);
    return buf_str(&b);
}

static bool refused(const char *json, const char *part) {
    struct schema *s = parse(json);
    bool ok = !s && err.code == ERR_INVALID && strstr(err.text, part);
    if (!ok) fprintf(stderr, "%s: %s\n", json, s ? "accepted" : err.text);
    schema_unref(s);
    return ok;
}

TEST(parse_and_write) {
    CHECK(!strcmp(configs("{}"), "{\"id\":{\"type\":\"keyword\"}}"));
    CHECK(!strcmp(configs("{\"indexConfigs\":{\"t\":{\"type\":\"text\"}}}"),
                  "{\"id\":{\"type\":\"keyword\"},\"t\":{\"type\":\"text\",\"analyzers\":[\"standard\"]}}"));
    CHECK(!strcmp(
        configs("{\"indexConfigs\":{\"t\":{\"type\":\"text\",\"analyzers\":[\"english\",\"standard\"]},"
                "\"v\":{\"type\":\"vector\",\"dimensions\":3,\"similarity\":\"dot_product\","
                "\"managedEmbedding\":false}}}"),
        "{\"id\":{\"type\":\"keyword\"},\"t\":{\"type\":\"text\",\"analyzers\":[\"standard\",\"english\"]},"
        "\"v\":{\"type\":\"vector\",\"dimensions\":3,\"similarity\":\"dot_product\"}}"));
    CHECK(!strcmp(configs("{\"indexConfigs\":{\"a-b\":{\"type\":\"long\"},\"a\":{\"type\":\"object\","
                          "\"objectIndexConfigs\":{\"z\":{\"type\":\"double\"},\"b\":{\"type\":\"object\","
                          "\"objectIndexConfigs\":{\"c\":{\"type\":\"boolean\"}}}}}}}"),
                  "{\"a\":{\"type\":\"object\",\"objectIndexConfigs\":{\"b\":{\"type\":\"object\","
                  "\"objectIndexConfigs\":{\"c\":{\"type\":\"boolean\"}}},\"z\":{\"type\":\"double\"}}},"
                  "\"a-b\":{\"type\":\"long\"},\"id\":{\"type\":\"keyword\"}}"));
}

TEST(dynamic_default) {
    const struct {
        const char *json;
        bool dynamic;
    } cases[] = {
        {"{}", true},
        {"{\"indexConfigs\":{}}", true},
        {"{\"indexConfigs\":{\"a\":{\"type\":\"long\"}}}", false},
        {"{\"dynamic\":true,\"indexConfigs\":{\"a\":{\"type\":\"long\"}}}", true},
        {"{\"dynamic\":false}", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct schema *s = parse(cases[i].json);
        CHECK(s && s->dynamic == cases[i].dynamic && s->version == 1);
        CHECK(schema_find(s, "id", 2) && schema_find(s, "id", 2)->type == FIELD_KEYWORD);
        schema_unref(s);
    }
}

TEST(refusals) {
    CHECK(refused("", "not valid JSON"));
    CHECK(refused("{\"a\":", "not valid JSON"));
    CHECK(refused("[]", "JSON object"));
    CHECK(refused("{\"indexConfig\":{}}", "\"indexConfig\""));
    CHECK(refused("{\"version\":3}", "version"));
    CHECK(refused("{\"dynamic\":1}", "dynamic"));
    CHECK(refused("{\"indexConfigs\":[]}", "indexConfigs"));
    CHECK(refused("{\"indexConfigs\":{\"a\":\"text\"}}", "\"a\""));
    CHECK(refused("{\"indexConfigs\":{\"a\":{}}}", "missing"));
    CHECK(refused("{\"indexConfigs\":{\"a\":{\"type\":\"string\"}}}", "unknown type"));
    CHECK(refused("{\"indexConfigs\":{\"a.b\":{\"type\":\"long\"}}}", "dot"));
    CHECK(refused("{\"indexConfigs\":{\"\":{\"type\":\"long\"}}}", "empty"));
    CHECK(refused("{\"indexConfigs\":{\"id\":{\"type\":\"long\"}}}", "key"));
    CHECK(refused("{\"indexConfigs\":{\"a\":{\"type\":\"long\",\"analyzers\":[]}}}", "analyzers"));
    CHECK(refused("{\"indexConfigs\":{\"a\":{\"type\":\"text\",\"analyzers\":[]}}}", "non-empty"));
    CHECK(refused("{\"indexConfigs\":{\"a\":{\"type\":\"text\",\"analyzers\":[\"french\"]}}}",
                  "unknown analyzer"));
    CHECK(
        refused("{\"indexConfigs\":{\"a\":{\"type\":\"sparseVector\",\"dimensions\":2}}}", "unknown member"));
    CHECK(refused("{\"indexConfigs\":{\"v\":{\"type\":\"vector\"}}}", "dimensions"));
    CHECK(refused("{\"indexConfigs\":{\"v\":{\"type\":\"vector\",\"dimensions\":0}}}", "4096"));
    CHECK(refused("{\"indexConfigs\":{\"v\":{\"type\":\"vector\",\"dimensions\":4097}}}", "4096"));
    CHECK(refused("{\"indexConfigs\":{\"v\":{\"type\":\"vector\",\"dimensions\":2,\"similarity\":\"l2\"}}}",
                  "similarity"));
    CHECK(
        refused("{\"indexConfigs\":{\"v\":{\"type\":\"vector\",\"managedEmbedding\":true,\"embedding\":{}}}}",
                "provider"));
    CHECK(refused("{\"indexConfigs\":{\"o\":{\"type\":\"object\"}}}", "objectIndexConfigs"));
    CHECK(refused(
        "{\"indexConfigs\":{\"o\":{\"type\":\"object\",\"objectIndexConfigs\":{\"p\":{\"type\":\"x\"}}}}}",
        "\"o.p\""));
    CHECK(refused("{\"indexConfigs\":{\"a\":{\"type\":\"long\"},\"a\":{\"type\":\"long\"}}}",
                  "not valid JSON"));
    CHECK(refused("{\"partitionConfig\":{\"fieldName\":\"t\",\"dataType\":\"keyword\",\"numPartitions\":1}}",
                  "1024"));
    CHECK(refused("{\"partitionConfig\":{\"fieldName\":\"t\",\"dataType\":\"long\",\"numPartitions\":2}}",
                  "keyword"));
}

TEST(limits) {
    struct buf b = BUF_INIT;
    buf_adds(&b, "{\"indexConfigs\":{");
    for (int i = 0; i < SCHEMA_MAX_FIELDS + 1; i++)
        buf_printf(&b, "%s\"f%d\":{\"type\":\"long\"}", i ? "," : "", i);
    buf_adds(&b, "}}");
    CHECK(refused(buf_str(&b), "more than 1000"));
    buf_clear(&b);
    buf_adds(&b, "{\"indexConfigs\":");
    for (int i = 0; i < SCHEMA_MAX_DEPTH + 1; i++)
        buf_adds(&b, "{\"o\":{\"type\":\"object\",\"objectIndexConfigs\":");
    buf_adds(&b, "{}");
    for (int i = 0; i < SCHEMA_MAX_DEPTH + 1; i++) buf_adds(&b, "}}");
    buf_adds(&b, "}");
    CHECK(refused(buf_str(&b), "deeper"));
    buf_release(&b);
}

static bool same(const struct schema *a, const struct schema *b) {
    if (a->version != b->version || a->dynamic != b->dynamic || a->n_fields != b->n_fields) return false;
    if (!a->partition_field != !b->partition_field || a->n_partitions != b->n_partitions) return false;
    if (a->partition_field && strcmp(a->partition_field, b->partition_field)) return false;
    for (uint32_t i = 0; i < a->n_fields; i++) {
        const struct field *x = &a->fields[i], *y = &b->fields[i];
        if (strcmp(x->path, y->path) || x->path_len != y->path_len || x->type != y->type ||
            x->analyzers != y->analyzers || x->similarity != y->similarity || x->inferred != y->inferred ||
            x->dimensions != y->dimensions)
            return false;
    }
    return true;
}

/* The partition field is a keyword in any case; a record with all that was added reads back. */
TEST(partition_field) {
    struct schema *s = parse("{\"partitionConfig\":{\"fieldName\":\"t\",\"numPartitions\":4}}"), *back = NULL;
    CHECK(s && s->dynamic && s->n_fields == 2 && schema_find(s, "t", 1)->type == FIELD_KEYWORD);
    CHECK(!schema_find(s, "t", 1)->inferred);
    schema_unref(s);
    CHECK(refused("{\"indexConfigs\":{\"t\":{\"type\":\"text\"}},\"partitionConfig\":{\"fieldName\":\"t\","
                  "\"numPartitions\":4}}",
                  "expected a keyword field"));
    CHECK(refused("{\"partitionConfig\":{\"fieldName\":\"a.b\",\"numPartitions\":4}}", "not declared"));
    struct buf b = BUF_INIT;
    buf_adds(&b, "{\"indexConfigs\":{");
    for (int i = 0; i < SCHEMA_MAX_FIELDS; i++)
        buf_printf(&b, "%s\"f%d\":{\"type\":\"long\"}", i ? "," : "", i);
    buf_adds(&b, "},\"partitionConfig\":{\"fieldName\":\"t\",\"numPartitions\":4}}");
    s = parse(buf_str(&b));
    CHECK(s && s->n_fields == SCHEMA_MAX_FIELDS + 2);
    buf_clear(&b);
    schema_write_record(s, &b);
    CHECK_OK(schema_read_record((char *)b.data, b.len, &back, &err));
    CHECK(same(s, back));
    schema_unref(s);
    schema_unref(back);
    buf_release(&b);
}

static const char *const rich =
    "{\"dynamic\":true,\"indexConfigs\":{\"title\":{\"type\":\"text\",\"analyzers\":[\"english\"]},\"n\":{"
    "\"type\":\"long\"},"
    "\"\xc3\xa9t\xc3\xa9\":{\"type\":\"datetime\"},\"o\":{\"type\":\"object\",\"objectIndexConfigs\":{\"k\":{"
    "\"type\":\"keyword\"},"
    "\"e\":{\"type\":\"object\",\"objectIndexConfigs\":{}}}},\"v\":{\"type\":\"vector\",\"dimensions\":3}},"
    "\"partitionConfig\":{\"fieldName\":\"tenant\",\"dataType\":\"keyword\",\"numPartitions\":16}}";

TEST(record_round_trip) {
    struct buf b = BUF_INIT, again = BUF_INIT;
    struct schema *s = parse(rich), *back = NULL;
    CHECK(s);
    s->version = 7;
    ((struct field *)schema_find(s, "o.k", 3))->inferred = true;
    schema_write_record(s, &b);
    CHECK_OK(schema_read_record((char *)b.data, b.len, &back, &err));
    CHECK(same(s, back));
    schema_write_record(back, &again);
    CHECK(b.len == again.len && !memcmp(b.data, again.data, b.len));
    schema_unref(back);
    for (size_t cut = 0; cut < b.len; cut++)
        CHECK(schema_read_record((char *)b.data, cut, &back, &err) == -ERR_CORRUPT);
    /* What users see can be written back as it is. */
    buf_clear(&b);
    schema_write(s, &b);
    CHECK(b.data[b.len - 1] == '\n');
    back = parse(buf_str(&b));
    CHECK(back && back->n_fields == s->n_fields && back->n_partitions == 16);
    schema_unref(back);
    schema_unref(s);
    buf_release(&b);
    buf_release(&again);
}

/* NULL json = unchanged expected; else the error must hold `part`. */
static bool extend_refused(struct schema *old, const char *json, const char *part) {
    struct schema *now = NULL;
    err_clear(&err);
    bool ok = schema_extend(old, json, strlen(json), &now, &err) == -ERR_INVALID && strstr(err.text, part);
    if (!ok) fprintf(stderr, "%s: %s\n", json, err.text);
    schema_unref(now);
    return ok;
}

/* Partitions come into a schema once, with their field. */
TEST(extend_partitions) {
    static const char config[] = "{\"partitionConfig\":{\"fieldName\":\"t\",\"numPartitions\":4}}";
    struct schema *old = parse("{\"indexConfigs\":{\"n\":{\"type\":\"long\"}}}"), *now = NULL, *again = NULL;
    CHECK_OK(schema_extend(old, config, strlen(config), &now, &err));
    CHECK(now && now->n_partitions == 4 && !strcmp(now->partition_field, "t") && now->version == 2);
    CHECK(schema_find(now, "t", 1)->type == FIELD_KEYWORD && now->n_fields == old->n_fields + 1);
    CHECK_OK(schema_extend(now, config, strlen(config), &again, &err));
    CHECK(!again);
    CHECK(extend_refused(now, "{\"partitionConfig\":{\"fieldName\":\"t\",\"numPartitions\":5}}",
                         "partitionConfig cannot be changed (it is 4"));
    CHECK(
        extend_refused(now, "{\"partitionConfig\":{\"fieldName\":\"u\",\"numPartitions\":4}}", "cannot be"));
    CHECK(extend_refused(old, "{\"partitionConfig\":{\"fieldName\":\"n\",\"numPartitions\":4}}",
                         "\"n\" is long: expected a keyword"));
    schema_unref(now);
    const char *both =
        "{\"indexConfigs\":{\"n\":{\"type\":\"long\"},\"t\":{\"type\":\"keyword\"},\"u\":{\"type\":"
        "\"text\"}},\"partitionConfig\":{\"fieldName\":\"t\",\"numPartitions\":4}}";
    CHECK_OK(schema_extend(old, both, strlen(both), &now, &err));
    CHECK(now && now->n_partitions == 4 && now->n_fields == old->n_fields + 2);
    schema_unref(now);
    schema_unref(old);
}

TEST(extend) {
    struct schema *old = parse(rich), *now = NULL;
    CHECK(old);
    CHECK_OK(schema_extend(old, rich, strlen(rich), &now, &err));
    CHECK(!now);
    CHECK_OK(schema_extend(old, "{}", 2, &now, &err));
    CHECK(!now);
    CHECK(extend_refused(old, "{\"indexConfigs\":{}}", "dropped"));
    CHECK(extend_refused(old, "{\"indexConfigs\":{\"title\":{\"type\":\"text\"}}}", "dropped"));
    CHECK(extend_refused(
        old, "{\"partitionConfig\":{\"fieldName\":\"x\",\"dataType\":\"keyword\",\"numPartitions\":16}}",
        "partition"));
    const char *dynamic = "{\"dynamic\":false}";
    CHECK_OK(schema_extend(old, dynamic, strlen(dynamic), &now, &err));
    CHECK(now && !now->dynamic && now->version == 2 && now->n_fields == old->n_fields);
    schema_unref(now);
    schema_unref(old);

    old = parse("{\"indexConfigs\":{\"n\":{\"type\":\"long\"},\"t\":{\"type\":\"text\"}}}");
    ((struct field *)schema_find(old, "n", 1))->inferred = true;
    CHECK(extend_refused(old, "{\"indexConfigs\":{\"n\":{\"type\":\"double\"},\"t\":{\"type\":\"text\"}}}",
                         "\"n\""));
    CHECK(extend_refused(old,
                         "{\"indexConfigs\":{\"n\":{\"type\":\"long\"},\"t\":{\"type\":\"text\","
                         "\"analyzers\":[\"english\"]}}}",
                         "\"t\""));
    const char *more = "{\"indexConfigs\":{\"n\":{\"type\":\"long\"},\"t\":{\"type\":\"text\"},\"a\":{"
                       "\"type\":\"keyword\"}}}";
    CHECK_OK(schema_extend(old, more, strlen(more), &now, &err));
    CHECK(now && now->version == 2 && now->n_fields == 4 && !schema_find(now, "n", 1)->inferred);
    CHECK(!strcmp(now->fields[0].path, "a") && !now->dynamic);
    schema_unref(now);
    schema_unref(old);
}

/* ---- inference ---- */

struct batch {
    struct arena arena;
    const struct jval *docs[8];
    size_t n;
};

static void batch_add(struct batch *b, const char *json) {
    struct jval *v = NULL;
    if (jval_parse(&b->arena, json, strlen(json), &v, &err))
        fprintf(stderr, "%s: %s\n", json, err.text), abort();
    b->docs[b->n++] = v;
}

/* Infers from up to three documents over an empty schema: "path:type path:type", without id. */
static const char *infer(const char *a, const char *b2, const char *c) {
    static struct buf out;
    struct batch b = {.arena = ARENA_INIT};
    struct schema *old = schema_new_empty(), *now = NULL;
    batch_add(&b, a);
    if (b2) batch_add(&b, b2);
    if (c) batch_add(&b, c);
    buf_clear(&out);
    if (schema_infer(old, b.docs, b.n, &now, &err)) abort();
    for (uint32_t i = 0; now && i < now->n_fields; i++) {
        const struct field *f = &now->fields[i];
        if (!strcmp(f->path, "id")) continue;
        buf_printf(&out, "%s%s:%s", out.len ? " " : "", f->path, field_type_name(f->type));
        if (f->type == FIELD_VECTOR) buf_printf(&out, "%u", f->dimensions);
        if (!f->inferred || now->version != 2) buf_adds(&out, "!");
    }
    schema_unref(now);
    schema_unref(old);
    arena_release(&b.arena);
    return buf_str(&out);
}
#define INFERS(a, b, c, expected)                                                                            \
    do {                                                                                                     \
        const char *got = infer(a, b, c);                                                                    \
        if (strcmp(got, expected)) fprintf(stderr, "%s -> %s\n", a, got);                                    \
        CHECK(!strcmp(got, expected));                                                                       \
    } while (0)

TEST(inference_table) {
    INFERS("{}", NULL, NULL, "");
    INFERS("{\"id\":\"x\"}", NULL, NULL, "");
    INFERS("{\"a\":1,\"b\":true,\"c\":\"x-1\",\"d\":\"two words\",\"e\":\"2024-01-02T03:04:05Z\"}", NULL,
           NULL, "a:double b:boolean c:keyword d:text e:datetime");
    INFERS("{\"a\":null,\"b\":[],\"c\":{},\"d\":\"\"}", NULL, NULL, "");
    INFERS("{\"a\":[\"x\",\"y\"],\"b\":[1,2.5],\"c\":[null,true]}", NULL, NULL,
           "a:keyword b:double c:boolean");
    INFERS("{\"o\":{\"a\":1,\"p\":{\"b\":\"x\"}}}", NULL, NULL,
           "o:object o.a:double o.p:object o.p.b:keyword");
    INFERS("{\"o\":[{\"a\":1},{\"b\":\"t u\"}]}", NULL, NULL, "o:object o.a:double o.b:text");
    INFERS("{\"a.b\":1,\"\":2,\"c\":3}", NULL, NULL, "c:double");
    /* over a batch */
    INFERS("{\"a\":\"x\"}", "{\"a\":\"two words\"}", NULL, "a:text");
    INFERS("{\"a\":\"2024-01-02T03:04:05Z\"}", "{\"a\":\"x\"}", NULL, "a:keyword");
    INFERS("{\"a\":\"2024-01-02T03:04:05Z\"}", "{\"a\":\"2024-01-02T03:04:05.123+09:00\"}", NULL,
           "a:datetime");
    INFERS("{\"a\":1}", "{\"a\":\"x\"}", NULL, "");
    INFERS("{\"a\":1}", "{\"a\":true}", "{\"b\":1}", "b:double");
    INFERS("{\"o\":{\"a\":1}}", "{\"o\":5}", NULL, "");
    INFERS("{\"o\":{\"a\":1}}", "{\"o\":{\"a\":\"x\",\"b\":2}}", NULL, "o:object o.b:double");
    /* dates alone and malformed date-times are not date-times */
    INFERS("{\"a\":\"2024-01-02\",\"b\":\"2024-13-02T03:04:05Z\",\"c\":\"2024-01-02T03:04:05\",\"d\":\"2024-"
           "01-02T03-04-05Z\"}",
           NULL, NULL, "a:keyword b:keyword c:keyword d:keyword");
}

TEST(inference_strings) {
    INFERS("{\"a\":\"0123456789012345678901234567890123456789012345678901234567890123\"}", NULL, NULL,
           "a:keyword");
    INFERS("{\"a\":\"01234567890123456789012345678901234567890123456789012345678901234\"}", NULL, NULL,
           "a:text");
    INFERS("{\"a\":\"x\\ty\"}", NULL, NULL, "a:text");
    INFERS("{\"a\":\"x\\u00a0y\"}", NULL, NULL, "a:text");
    INFERS("{\"a\":\"x\\u3000y\"}", NULL, NULL, "a:text");
    INFERS("{\"a\":\"\\u65e5\\u672c\"}", NULL, NULL, "a:keyword");
    INFERS("{\"a\":\"\\u0000\"}", NULL, NULL, "a:text");
}

TEST(inference_vectors) {
    INFERS("{\"v\":[1,2,3,4,5,6,7,8]}", "{\"v\":[1,2,3,4,5,6,7,8.5]}", NULL, "v:vector8");
    INFERS("{\"v\":[1,2,3,4,5,6,7]}", NULL, NULL, "v:double");
    INFERS("{\"v\":[1,2,3,4,5,6,7,8]}", "{\"v\":[1,2,3,4,5,6,7,8,9]}", NULL, "v:double");
    INFERS("{\"v\":[1,2,3,4,5,6,7,8]}", "{\"v\":3}", NULL, "v:double");
    INFERS("{\"v\":[1,2,3,4,5,6,7,8]}", "{\"v\":\"x\"}", NULL, "");
    INFERS("{\"v\":[1,2,3,4,5,6,7,8]}", "{\"v\":null}", NULL, "v:vector8");
    INFERS("{\"v\":[[1,2,3,4,5,6,7,8],[1,2,3,4,5,6,7,8]]}", NULL, NULL, "");
    INFERS("{\"c\":[{\"v\":[1,2,3,4,5,6,7,8]}]}", NULL, NULL, "c:object c.v:vector8");
}

TEST(inference_over_a_schema) {
    struct batch b = {.arena = ARENA_INIT};
    struct schema
        *old = parse(
            "{\"dynamic\":true,\"indexConfigs\":{\"a\":{\"type\":\"keyword\"},\"o\":{\"type\":\"object\","
            "\"objectIndexConfigs\":{\"x\":{\"type\":\"long\"}}}}}"),
        *now = NULL;
    batch_add(&b, "{\"a\":5,\"o\":{\"x\":\"no\"}}");
    CHECK_OK(schema_infer(old, b.docs, 1, &now, &err));
    CHECK(!now);
    batch_add(&b, "{\"o\":[{\"x\":1,\"y\":{\"z\":true}}]}");
    CHECK_OK(schema_infer(old, b.docs, 2, &now, &err));
    CHECK(now && now->n_fields == 6 && schema_find(now, "o.y.z", 5) && !schema_find(now, "o.x", 3)->inferred);
    schema_unref(now);
    old->dynamic = false;
    CHECK_OK(schema_infer(old, b.docs, 2, &now, &err));
    CHECK(!now);
    schema_unref(old);
    arena_release(&b.arena);
}

TEST(inference_stops_at_the_limit) {
    struct batch b = {.arena = ARENA_INIT};
    struct buf doc = BUF_INIT, record = BUF_INIT;
    struct schema *old = schema_new_empty(), *now = NULL, *back = NULL;
    buf_addc(&doc, '{');
    for (int i = 0; i < 10000; i++) buf_printf(&doc, "%s\"f%d\":%d", i ? "," : "", i, i);
    buf_addc(&doc, '}');
    batch_add(&b, buf_str(&doc));
    CHECK_OK(schema_infer(old, b.docs, 1, &now, &err));
    CHECK(now && now->n_fields == SCHEMA_MAX_FIELDS);
    schema_write_record(now, &record);
    CHECK_OK(schema_read_record((char *)record.data, record.len, &back, &err));
    CHECK(same(now, back));
    schema_unref(back);
    CHECK_OK(schema_infer(now, b.docs, 1, &back, &err));
    CHECK(!back);
    schema_unref(now);
    schema_unref(old);
    buf_release(&doc);
    buf_release(&record);
    arena_release(&b.arena);
}

/* ---- documents ---- */

static int check(const struct schema *s, const char *json, struct buf *warnings) {
    struct batch b = {.arena = ARENA_INIT};
    batch_add(&b, json);
    err_clear(&err);
    int r = schema_check(s, b.docs[0], warnings, &err);
    arena_release(&b.arena);
    return r;
}

TEST(check_documents) {
    struct schema *s =
        parse("{\"indexConfigs\":{\"t\":{\"type\":\"text\"},\"k\":{\"type\":\"keyword\"},\"l\":{\"type\":"
              "\"long\"},\"d\":{\"type\":\"double\"},"
              "\"b\":{\"type\":\"boolean\"},\"w\":{\"type\":\"datetime\"},\"v\":{\"type\":\"vector\","
              "\"dimensions\":2},"
              "\"o\":{\"type\":\"object\",\"objectIndexConfigs\":{\"l\":{\"type\":\"long\"}}}}}");
    const struct {
        const char *json;
        int r;
        const char *part;
    } cases[] = {
        {"{\"t\":\"x\",\"k\":[\"a\",\"b\"],\"l\":[1,2.0,null],\"d\":1,\"b\":\"true\",\"w\":\"2024-01-01\","
         "\"v\":[1,2],\"o\":[{\"l\":1}]}",
         0, ""},
        {"{\"id\":17,\"other\":{\"l\":\"x\"},\"o.l\":\"x\"}", 0, ""},
        {"{\"t\":null,\"v\":null,\"o\":null,\"l\":[]}", 0, ""},
        {"[1]", -ERR_JSON, "object"},
        {"{\"t\":5}", -ERR_INVALID, "\"t\" (text)"},
        {"{\"k\":[\"a\",5]}", -ERR_INVALID, "\"k\""},
        {"{\"l\":1.5}", -ERR_INVALID, "integer"},
        {"{\"l\":9223372036854775808}", -ERR_INVALID, "integer"},
        {"{\"l\":9223372036854775807}", 0, ""},
        {"{\"l\":-9223372036854775808}", 0, ""},
        {"{\"l\":\"5\"}", -ERR_INVALID, "integer"},
        {"{\"b\":\"True\"}", -ERR_INVALID, "true or false"},
        {"{\"b\":1}", -ERR_INVALID, "true or false"},
        {"{\"w\":\"yesterday\"}", -ERR_INVALID, "date-time"},
        {"{\"w\":1700000000}", -ERR_INVALID, "date-time"},
        {"{\"v\":[1,2,3]}", -ERR_DIMENSION, "has 3 dimensions, expected 2"},
        {"{\"v\":[]}", -ERR_DIMENSION, "has 0"},
        {"{\"v\":[1,\"x\"]}", -ERR_INVALID, "numbers"},
        {"{\"v\":[1,1e300]}", -ERR_INVALID, "float32"},
        {"{\"v\":[1e30,1e30]}", -ERR_INVALID, "float32"},
        {"{\"v\":[0,0]}", -ERR_INVALID, "cosine"},
        {"{\"v\":1}", -ERR_INVALID, "array"},
        {"{\"o\":5}", -ERR_INVALID, "object"},
        {"{\"o\":[{\"l\":1},{\"l\":true}]}", -ERR_INVALID, "\"o.l\""},
    };
    CHECK(s);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int r = check(s, cases[i].json, NULL);
        bool ok = r == cases[i].r && strstr(err.text, cases[i].part);
        if (!ok) fprintf(stderr, "%s: %d %s\n", cases[i].json, r, err.text);
        CHECK(ok);
    }
    struct buf warnings = BUF_INIT;
    for (uint32_t i = 0; i < s->n_fields; i++) s->fields[i].inferred = true;
    CHECK(!check(s, "{\"t\":5,\"v\":[1],\"o\":{\"l\":\"x\"}}", &warnings));
    CHECK(strstr(buf_str(&warnings), "\"t\"") && strstr(buf_str(&warnings), "\"v\"") &&
          strstr(buf_str(&warnings), "\"o.l\""));
    buf_release(&warnings);
    schema_unref(s);
}

static int walk_print(void *ctx, uint32_t field_no, const struct jval *v, struct err *e) {
    buf_printf(ctx, "%u=%.*s ", field_no, (int)v->raw_len, v->raw);
    return v->type == JVAL_STRING && v->count == 4 && !memcmp(v->str, "stop", 4) ? -ERR_CANCELED : 0;
}

TEST(walk_order) {
    struct schema *s = parse("{\"indexConfigs\":{\"a\":{\"type\":\"keyword\"},\"b\":{\"type\":\"long\"},"
                             "\"o\":{\"type\":\"object\","
                             "\"objectIndexConfigs\":{\"x\":{\"type\":\"keyword\"},\"v\":{\"type\":"
                             "\"vector\",\"dimensions\":2}}}}}");
    struct batch b = {.arena = ARENA_INIT};
    struct buf out = BUF_INIT;
    batch_add(&b, "{\"o\":[{\"x\":\"p\"},{\"v\":[1,2],\"x\":[\"q\",null,[\"r\",7]]},{\"v\":[3,4]}],\"b\":[3,"
                  "1.5,2],\"a\":\"k\",\"id\":42,\"c\":1}");
    CHECK_OK(schema_walk(s, b.docs[0], walk_print, &out, &err));
    CHECK(!strcmp(buf_str(&out), "0=\"k\" 1=3 1=2 2=42 4=[1,2] 5=\"p\" 5=\"q\" 5=\"r\" "));
    batch_add(&b, "{\"a\":[\"go\",\"stop\",\"more\"]}");
    buf_clear(&out);
    CHECK(schema_walk(s, b.docs[1], walk_print, &out, &err) == -ERR_CANCELED);
    CHECK(!strcmp(buf_str(&out), "0=\"go\" 0=\"stop\" "));
    /* more values than the small array, out of schema order */
    struct buf big = BUF_INIT;
    buf_adds(&big, "{\"b\":[1");
    for (int i = 0; i < 1000; i++) buf_printf(&big, ",%d", i);
    buf_adds(&big, "],\"a\":[\"z\"");
    for (int i = 0; i < 1000; i++) buf_printf(&big, ",\"%d\"", i);
    buf_adds(&big, "]}");
    batch_add(&b, buf_str(&big));
    buf_clear(&out);
    CHECK_OK(schema_walk(s, b.docs[2], walk_print, &out, &err));
    CHECK(!strncmp(buf_str(&out), "0=\"z\" 0=\"0\" 0=\"1\" ", 18) &&
          strstr(buf_str(&out), "0=\"999\" 1=1 1=0 1=1 1=2 "));
    buf_release(&big);
    buf_release(&out);
    arena_release(&b.arena);
    schema_unref(s);
}

TEST(sortable_doubles) {
    const double v[] = {-INFINITY, -1.7e308,           -1.5,  -1,      -5e-324, 0, 5e-324,
                        1,         1.0000000000000002, 1e308, INFINITY};
    for (size_t i = 0; i + 1 < ARRAY_SIZE(v); i++)
        CHECK(double_to_sortable(v[i]) < double_to_sortable(v[i + 1]));
    for (size_t i = 0; i < ARRAY_SIZE(v); i++) CHECK(sortable_to_double(double_to_sortable(v[i])) == v[i]);
    CHECK(double_to_sortable(-0.0) == double_to_sortable(0.0));
}
