/* Answers as text: formats, scores, selection of fields, vectors. */
#include "query_test.h"
#include "query/answer.h"
#include <math.h>

static struct schema *schema;

static struct answer *answer_of(const char *const *docs, uint32_t n) {
    struct answer *a = xcalloc(1, sizeof *a);
    a->collection = xstrdup("books");
    a->took_us = 12345;
    a->total = 77;
    a->max_score = 1.5f;
    a->hits = xcalloc(n + 1, sizeof *a->hits);
    a->n_hits = n;
    for (uint32_t i = 0; i < n; i++) {
        a->hits[i].score = 1.5f / (float)(i + 1);
        a->hits[i].id = xstrdup("7");
        a->hits[i].id_len = 1;
        a->hits[i].doc = xstrdup(docs[i]);
        a->hits[i].doc_len = strlen(docs[i]);
    }
    return a;
}

/* The answer as the SPEC's options ask for. */
static const char *formatted(struct answer *a, const char *spec) {
    static struct buf out;
    struct query_request q;
    if (!schema) schema = test_schema(schema_json);
    buf_clear(&out);
    err_clear(&err);
    if (query_request_parse_spec(spec, strlen(spec), &q, &err)) return err.text;
    if (answer_format(a, &q, schema, &out, &err)) buf_adds(&out, err.text);
    query_request_release(&q);
    return buf_str(&out);
}

/* The document after the selection. */
static const char *selected(const char *doc, const char *spec) {
    static struct buf out;
    struct answer *a = answer_of(&doc, 1);
    const char *line = formatted(a, spec), *p = strstr(line, "\"doc\":");
    buf_clear(&out);
    if (p)
        buf_add(&out, p + 6, strlen(p + 6) - 2);
    else
        buf_adds(&out, line);
    answer_free(a);
    return buf_str(&out);
}
#define SELECTS(doc, spec, expected)                                                                         \
    do {                                                                                                     \
        const char *got = selected(doc, spec);                                                               \
        if (strcmp(got, expected))                                                                           \
            fprintf(stderr, "%s %s\n   got      %s\n   expected %s\n", doc, spec, got, expected);            \
        CHECK(!strcmp(got, expected));                                                                       \
    } while (0)

TEST(formats) {
    const char *const docs[] = {"{\"id\":\"7\"}", "{ \"id\" : \"8\",\n  \"a\": [1,\r\n 2]\n}"};
    struct answer *a = answer_of(docs, 2);
    CHECK(!strcmp(formatted(a, "*:*"),
                  "{\"collection\":\"books\",\"score\":1.5,\"doc\":{\"id\":\"7\"}}\n"
                  "{\"collection\":\"books\",\"score\":0.75,\"doc\":{ \"id\" : \"8\",  \"a\": [1, 2]}}\n"));
    CHECK(!strcmp(formatted(a, "*:*?format=json"),
                  "{\"took\":12,\"maxScore\":1.5,\"total\":77,\"docs\":[{\"collection\":\"books\",\"score\":"
                  "1.5,\"doc\":{\"id\":\"7\"}},"
                  "{\"collection\":\"books\",\"score\":0.75,\"doc\":{ \"id\" : \"8\",\n  \"a\": [1,\r\n "
                  "2]\n}}],\"isDocsInline\":true}\n"));
    CHECK(!strcmp(formatted(a, "*:*?format=ids"), "7\n7\n"));
    free(a->hits[0].id);
    free(a->hits[1].id);
    a->hits[0].id = xstrdup("a\nb");
    a->hits[0].id_len = 3;
    a->hits[1].id = xstrdup("\"q\" x");
    a->hits[1].id_len = 5;
    CHECK(!strcmp(formatted(a, "*:*?format=ids"), "\"a\\nb\"\n\"\\\"q\\\" x\"\n"));
    answer_free(a);
    a = answer_of(NULL, 0);
    CHECK(!strcmp(formatted(a, "*:*"), ""));
    CHECK(!strcmp(formatted(a, "*:*?format=ids"), ""));
    a->max_score = NAN;
    CHECK(!strcmp(formatted(a, "*:*?format=json"),
                  "{\"took\":12,\"maxScore\":null,\"total\":77,\"docs\":[],\"isDocsInline\":true}\n"));
    answer_free(a);
}

static void check_score(struct buf *out, float score, int *ret_wrong) {
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)score);
        if (strtof(text, NULL) == score) break;
    }
    buf_clear(out);
    answer_add_score(out, score);
    if (strcmp(buf_str(out), text) && (*ret_wrong)++ < 10)
        fprintf(stderr, "%s, not %s\n", buf_str(out), text);
}

/* The fewest digits, as the C library prints them: everywhere, and around each power of ten and each short
 * decimal. */
TEST(scores_as_the_library_prints_them) {
    struct buf out = BUF_INIT;
    uint32_t x = 2463534242u;
    int wrong = 0;
    for (int i = 0; i < 300000; i++) {
        float score, near = (float)(i % 2000) / 8 + (float)(i / 2000) / 1000;
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        uint32_t bits = i % 4 ? (x & 0x81ffffff) + 0x37000000 + (x >> 29 << 24) : x;
        memcpy(&score, &bits, 4);
        if (isfinite(score)) check_score(&out, score, &wrong);
        check_score(&out, i % 2 ? near : nextafterf(near, INFINITY), &wrong);
        check_score(&out, nextafterf(-near, 0), &wrong);
    }
    for (int power = -9; power <= 9; power++) {
        float at = powf(10, (float)power), low = at, high = at;
        for (int i = 0; i < 1000; i++, low = nextafterf(low, 0), high = nextafterf(high, INFINITY)) {
            check_score(&out, low, &wrong);
            check_score(&out, -high, &wrong);
        }
    }
    buf_release(&out);
    CHECK(wrong == 0);
}

/* Every score reads back to the same float32, and short ones are short. */
TEST(scores_round_trip) {
    const char *const docs[] = {"{}"};
    struct answer *a = answer_of(docs, 1);
    uint32_t x = 2463534242u;
    for (int i = 0; i < 3000; i++) {
        float score;
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        uint32_t bits = x & 0x7fffffff;
        memcpy(&score, &bits, 4);
        if (!isfinite(score)) continue;
        a->hits[0].score = score;
        const char *p = strstr(formatted(a, "*:*"), "\"score\":") + 8;
        CHECK(strtof(p, NULL) == score);
    }
    a->hits[0].score = 0.3f;
    CHECK(strstr(formatted(a, "*:*"), "\"score\":0.3,"));
    a->hits[0].score = 1;
    CHECK(strstr(formatted(a, "*:*"), "\"score\":1,"));
    answer_free(a);
}

TEST(selection) {
    const char *doc = "{\"id\":\"7\",\"title\":\"x\",\"author\":{\"name\":\"h\",\"born\":1},\"list\":[{\"a\":"
                      "1,\"b\":2},5,{\"b\":3}],\"e\":{}}";
    SELECTS(doc, "*:*", doc);
    SELECTS(doc, "*:*?fields=title", "{\"title\":\"x\"}");
    SELECTS(doc, "*:*?fields=title,id", "{\"id\":\"7\",\"title\":\"x\"}");
    SELECTS(doc, "*:*?fields=author", "{\"author\":{\"name\":\"h\",\"born\":1}}");
    SELECTS(doc, "*:*?fields=author.name", "{\"author\":{\"name\":\"h\"}}");
    SELECTS(doc, "*:*?fields=author.nope", "{}");
    SELECTS(doc, "*:*?fields=nope", "{}");
    SELECTS(doc, "*:*?fields=title.x", "{}");
    SELECTS(doc, "*:*?fields=auth", "{}");
    SELECTS(doc, "*:*?fields=list.a", "{\"list\":[{\"a\":1}]}");
    SELECTS(doc, "*:*?fields=list,-list.b", "{\"list\":[{\"a\":1},5,{}]}");
    SELECTS(doc, "*:*?fields=-list,-author.born",
            "{\"id\":\"7\",\"title\":\"x\",\"author\":{\"name\":\"h\"},\"e\":{}}");
    SELECTS(doc, "*:*?fields=-nope", doc);
    SELECTS(doc, "*:*?fields=author,-author.name", "{\"author\":{\"born\":1}}");
    SELECTS(doc, "*:*?fields=author,-author", "{}");
    SELECTS(doc, "*:*?fields=e", "{\"e\":{}}");
    SELECTS("{\"a.b\":1,\"a\":{\"b\":2}}", "*:*?fields=a.b", "{\"a\":{\"b\":2}}");
    SELECTS("{\"a.b\":1,\"a\":{\"b\":2}}", "*:*?fields=a\\.b", "{\"a.b\":1}");
    SELECTS("{ \"x\" : 1.50, \"y\\u0041\": \"\\u00e9\" , \"z\" :0}", "*:*?fields=-z",
            "{\"x\":1.50,\"yA\":\"\\u00e9\"}");
    SELECTS("{\"\":{\"k\":1},\"k\":2}", "*:*?fields=k", "{\"k\":2}");
    SELECTS("{\"a\":[[{\"b\":1,\"c\":2}],[3]]}", "*:*?fields=a.b", "{\"a\":[[{\"b\":1}]]}");
}

TEST(vectors_are_left_out) {
    const char *doc = "{ \"v\": [1, 2], \"t\": 1, \"dot\": null }";
    SELECTS(doc, "*:*", "{\"t\":1}");
    SELECTS(doc, "*:*?vectors=true", doc);
    SELECTS(doc, "*:*?fields=t", "{\"t\":1}");
    SELECTS(doc, "*:*?fields=t,v", "{\"v\":[1, 2],\"t\":1}");
    SELECTS(doc, "*:*?fields=-t", "{}");
    SELECTS(doc, "*:*?fields=-t&vectors=true", "{\"v\":[1, 2],\"dot\":null}");
    SELECTS("{ \"t\":  1 }", "*:*", "{ \"t\":  1 }");
    SELECTS("{\"v\":[1,2]}", "*:*", "{}");
    schema_unref(schema);
    schema = NULL;
}

/* Several documents as rows. */
static const char *rows(const char *const *docs, uint32_t n, const char *spec) {
    struct answer *a = answer_of(docs, n);
    const char *out = formatted(a, spec);
    answer_free(a);
    return out;
}
#define ROWS(docs, spec, expected)                                                                           \
    do {                                                                                                     \
        const char *got = rows(docs, ARRAY_SIZE(docs), spec);                                                \
        if (strcmp(got, expected)) fprintf(stderr, "%s\n%s\nexpected\n%s\n", spec, got, expected);           \
        CHECK(!strcmp(got, expected));                                                                       \
    } while (0)

TEST(rows_and_columns) {
    static const char *const docs[] = {
        "{\"id\":\"7\",\"a\": \"x,\\\"y\\\"\",\"n\":1e2}",
        "{ \"b\" : {\"c\" : [ 1,\n{\"d\":\"\\u00e9\"}]},\"id\":\"7\",\"a\":null,\"n\":-3}",
        "{\"id\":\"7\",\"b\":[{\"c\":\" \"},5,{\"c\":[2]},{}],\"a\":\"\\t\\n\\\\\"}"};
    static const char *const none[] = {"{}"};
    ROWS(docs, "x?format=csv",
         "id,a,n,b\n7,\"x,\"\"y\"\"\",1e2,\n7,,-3,\"{\"\"c\"\":[1,{\"\"d\"\":\"\"\\u00e9\"\"}]}\"\n"
         "7,\"\t\n\\\",,\"[{\"\"c\"\":\"\" \"\"},5,{\"\"c\"\":[2]},{}]\"\n");
    ROWS(docs, "x?format=tsv&fields=a,b.c",
         "a\tb.c\nx,\"y\"\t\n\t[1,{\"d\":\"\\\\u00e9\"}]\n\\t\\n\\\\\t[\" \",[2]]\n");
    ROWS(docs, "x?format=table&fields=n,a", "  n  a\n---  -----\n1e2  x,\"y\"\n -3\n       \\\n");
    ROWS(docs, "x?format=csv&fields=-a,-b,-n", "id\n7\n7\n7\n");
    ROWS(none, "x?format=csv", "id\n\n");
    ROWS(docs, "x?format=count", "77\n");
}

TEST(table_widths) {
    static const char *const docs[] = {
        "{\"id\":\"7\",\"a\":\"\xe6\xbc\xa2\xe5\xad\x97\"}",                   /* two wide characters */
        "{\"id\":\"7\",\"a\":\"e\xcc\x81!\"}",                                 /* a combining accent */
        "{\"id\":\"7\",\"a\":\"1234567890123456789012345678901234567890\"}",   /* just fits */
        "{\"id\":\"7\",\"a\":\"12345678901234567890123456789012345678901\"}"}; /* one too many */
    ROWS(docs, "x?format=table&fields=a,id",
         "a                                         id\n"
         "----------------------------------------  --\n"
         "\xe6\xbc\xa2\xe5\xad\x97                                      7\n"
         "e\xcc\x81!                                        7\n"
         "1234567890123456789012345678901234567890  7\n"
         "123456789012345678901234567890123456789\xe2\x80\xa6  7\n");
}
