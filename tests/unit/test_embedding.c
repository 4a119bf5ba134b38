/* Managed embeddings below the mount: the schema's forms, queryText in requests, jobs with equal texts. */
#include "fn/embed.h"
#include "index/schema_internal.h"
#include "query/query_text.h"
#include "test.h"

static struct err err;

static const char managed[] = "{\"indexConfigs\":{\"body\":{\"type\":\"text\"},\"o\":{\"type\":\"object\","
                              "\"objectIndexConfigs\":{\"t\":{\"type\":\"keyword\"}}},"
                              "\"a\":{\"type\":\"vector\",\"managedEmbedding\":true,\"embedding\":{"
                              "\"provider\":\"openai\",\"model\":\"m\\\"1\",\"sourceField\":"
                              "\"body\",\"dimensions\":3,\"similarity\":\"euclidean\"}},"
                              "\"b\":{\"type\":\"vector\",\"managedEmbedding\":true,\"embedding\":{"
                              "\"provider\":\"openai\",\"model\":\"text-embedding-3-large\","
                              "\"sourceField\":\"o.t\"}},\"v\":{\"type\":\"vector\",\"dimensions\":3}}}";

static struct schema *parse(const char *json) {
    struct schema *s = NULL;
    if (schema_parse(json, strlen(json), &s, &err)) fprintf(stderr, "%s\n", err.text);
    return s;
}

static const char *record(const struct schema *s) {
    static struct buf b;
    buf_clear(&b);
    schema_write_record(s, &b);
    return buf_str(&b);
}

TEST(every_form_reads_back) {
    struct schema *s = parse(managed), *again, *same = NULL;
    struct buf json = BUF_INIT;
    CHECK(s);
    const struct field *a = schema_find(s, "a", 1), *b = schema_find(s, "b", 1);
    CHECK(a->dimensions == 3 && a->similarity == SIMILARITY_EUCLIDEAN &&
          !strcmp(a->embedding->model, "m\"1"));
    CHECK(b->dimensions == 3072 && b->similarity == SIMILARITY_COSINE &&
          !strcmp(b->embedding->source, "o.t"));
    CHECK(!schema_find(s, "v", 1)->embedding);
    char *first = xstrdup(record(s));
    CHECK_OK(schema_read_record(first, strlen(first), &again, &err));
    CHECK(!strcmp(first, record(again)));
    schema_write(s, &json);
    CHECK_OK(schema_extend(again, buf_str(&json), json.len, &same, &err));
    CHECK(!same);
    free(first);
    buf_release(&json);
    schema_unref(s);
    schema_unref(again);
}

TEST(extension_keeps_it_and_adds_more) {
    static const char more[] = "{\"indexConfigs\":{\"id\":{\"type\":\"keyword\"},\"body\":{\"type\":\"text\"}"
                               ",\"n\":{\"type\":\"long\"},"
                               "\"e\":{\"type\":\"vector\",\"managedEmbedding\":true,\"embedding\":{"
                               "\"provider\":\"openai\",\"model\":\"m\",\"sourceField\":"
                               "\"body\",\"dimensions\":3}}}}";
    static const char plain[] = "{\"indexConfigs\":{\"id\":{\"type\":\"keyword\"},\"body\":{\"type\":"
                                "\"text\"},\"e\":{\"type\":\"vector\","
                                "\"dimensions\":3}}}";
    struct schema *s = parse("{\"indexConfigs\":{\"body\":{\"type\":\"text\"}}}"), *next = NULL, *none = NULL;
    CHECK(s);
    CHECK_OK(schema_extend(s, more, strlen(more), &next, &err));
    CHECK(next && !strcmp(schema_find(next, "e", 1)->embedding->source, "body"));
    CHECK(schema_extend(next, plain, strlen(plain), &none, &err) == -ERR_INVALID);
    CHECK(strstr(err.text, "cannot be"));
    schema_unref(s);
    schema_unref(next);
}

/* ---- queries ---- */

TEST(query_texts_are_found_where_they_count) {
    struct schema *s = parse(managed);
    struct query_texts *t = NULL;
    struct query_request q;
    query_request_init(&q);
    q.json = xstrdup("{\"bool\":[{\"knn\":{\"field\":\"a\",\"queryText\":\"one\",\"k\":1}},"
                     "{\"bool\":[{\"knn\":{\"field\":\"b\",\"queryText\":\"two \\u00e9\",\"k\":2}}]},"
                     "{\"knn\":{\"field\":\"v\",\"queryText\":\"plain field\",\"k\":1}},"
                     "{\"knn\":{\"field\":\"a\",\"queryText\":\" \",\"k\":1}},"
                     "{\"knn\":{\"field\":\"a\",\"queryText\":\"both\",\"queryVector\":[1,2,3],\"k\":1}},"
                     "{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"knn\":3,\"queryText\":1}}}]}");
    CHECK_OK(query_texts_find(&q, s, &t, &err));
    CHECK(t && query_texts_count(t) == 2);
    CHECK(!strcmp(query_texts_at(t, 0)->text, "one") && query_texts_at(t, 1)->len == 6);
    static float v[3072] = {0.1f, -2.5e-30f, 16777217.f};
    query_texts_set(t, 0, v);
    query_texts_set(t, 1, v);
    char *json = query_texts_json(t);
    json_t *root = json_loads(json, 0, NULL);
    json_t *knn = json_object_get(json_array_get(json_object_get(root, "bool"), 0), "knn");
    json_t *list = json_object_get(knn, "queryVector");
    CHECK(json_array_size(list) == 3 && !json_object_get(knn, "queryText"));
    for (size_t i = 0; i < 3; i++) CHECK((float)json_real_value(json_array_get(list, i)) == v[i]);
    json_decref(root);
    free(json);
    query_texts_free(t);
    free(q.json);
    q.json = xstrdup("{\"queryString\":{\"query\":\"queryText\"}}");
    CHECK_OK(query_texts_find(&q, s, &t, &err));
    CHECK(!t);
    query_request_release(&q);
    schema_unref(s);
}

/* ---- jobs ---- */

struct letters {
    struct embedder base;
    size_t texts;
};

/* A text's vector is its first letter, its length and a one; "zero" has no length. */
static int letters_embed(struct embedder *base, const struct embed_call *call, const struct embed_text *t,
                         size_t n, float *vectors, struct embed_failure *failure, struct err *e) {
    struct letters *l = (struct letters *)base;
    __atomic_add_fetch(&l->texts, n, __ATOMIC_RELAXED); /* requests run side by side */
    for (size_t i = 0; i < n; i++) {
        bool zero = t[i].len == 4 && !memcmp(t[i].s, "zero", 4);
        memset(vectors + i * call->dimensions, 0, call->dimensions * sizeof *vectors);
        vectors[i * call->dimensions] = zero ? 0 : (float)t[i].s[0];
        vectors[i * call->dimensions + 1] = zero ? 0 : (float)t[i].len;
    }
    return 0;
}

TEST(equal_texts_are_embedded_once) {
    static const struct embedder_ops ops = {.embed = letters_embed};
    struct schema *s = parse(managed);
    struct letters l = {.base = {&ops, 1, 1}};
    struct core core = {.embedder = &l.base};
    struct arena arena = ARENA_INIT;
    struct embed_job *jobs = xcalloc(3000, sizeof *jobs);
    char texts[1000][8];
    for (size_t i = 0; i < 3000; i++) {
        snprintf(texts[i % 1000], sizeof texts[0], "%c%zu", (int)('a' + i % 7), i % 1000 / 2);
        jobs[i] = (struct embed_job){.field = schema_find(s, i < 2000 ? "a" : "b", 1)};
    }
    for (size_t i = 0; i < 3000; i++) {
        jobs[i].text = texts[i % 1000];
        jobs[i].len = strlen(jobs[i].text);
    }
    embed_jobs(&core, jobs, 3000, INT64_MAX, NULL, &arena);
    CHECK(l.texts == 2000); /* 1000 different ones, for each of two models */
    for (size_t i = 0; i < 3000; i++) {
        CHECK(jobs[i].vector && !jobs[i].err.code);
        CHECK(jobs[i].vector[0] == (float)jobs[i].text[0] && jobs[i].vector[1] == (float)jobs[i].len);
    }
    jobs[0] =
        (struct embed_job){.field = schema_find(s, "a", 1), .text = "zero", .len = 4}; /* euclidean: fine */
    jobs[1] = (struct embed_job){.field = schema_find(s, "b", 1), .text = "zero", .len = 4}; /* cosine */
    jobs[2] = (struct embed_job){.field = schema_find(s, "b", 1), .text = "fine", .len = 4};
    embed_jobs(&core, jobs, 3, INT64_MAX, NULL, &arena);
    CHECK(jobs[0].vector && !jobs[1].vector && jobs[2].vector);
    CHECK(strstr(jobs[1].err.text, "without length"));
    embed_jobs(&core, jobs, 0, INT64_MAX, NULL, &arena);
    free(jobs);
    arena_release(&arena);
    schema_unref(s);
}
