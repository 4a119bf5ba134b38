/* Sparse vectors: what a document and a query may hold, the weights' code, and damage that verification
 * finds. */
#include "query_test.h"

#include "index/inverted.h"
#include "index/segment.h"
#include <math.h>

static struct schema *sparse_schema(void) {
    return test_schema("{\"indexConfigs\":{\"s\":{\"type\":\"sparseVector\"},\"k\":{\"type\":\"keyword\"}}}");
}

/* "" when the document is accepted, else the message. */
static const char *checked(const char *json) {
    struct schema *s = sparse_schema();
    struct arena arena = ARENA_INIT;
    struct jval *doc;
    err_clear(&err);
    if (!jval_parse(&arena, json, strlen(json), &doc, &err)) schema_check(s, doc, NULL, &err);
    arena_release(&arena);
    schema_unref(s);
    return err.code ? err.text : "";
}

TEST(documents) {
    CHECK(!*checked("{\"id\":\"a\",\"s\":{\"a\":1,\"b\":0.5,\"\":64,\"z\":0,\"tiny\":1e-300}}"));
    CHECK(!*checked("{\"s\":{}}"));
    CHECK(!*checked("{\"s\":[{\"a\":1}]}"));
    CHECK(!*checked("{\"s\":null}"));
    CHECK(strstr(checked("{\"s\":{\"a\":1,\"bad\":-0.5}}"),
                 "field \"s\" (sparseVector): token \"bad\": a weight cannot be negative"));
    CHECK(strstr(checked("{\"s\":{\"a\":64.0001}}"), "token \"a\": a weight can be at most 64"));
    CHECK(strstr(checked("{\"s\":{\"a\":\"1\"}}"), "token \"a\": expected a number"));
    CHECK(strstr(checked("{\"s\":[1,2]}"), "expected an object of token weights"));
    CHECK(strstr(checked("{\"s\":[{\"a\":1},{\"b\":1}]}"), "a document can hold only one"));
}

static void many(struct buf *b, unsigned n, const char *weight) {
    for (unsigned i = 0; i < n; i++) buf_printf(b, "%s\"t%u\":%s", i ? "," : "", i, weight);
}

TEST(number_of_weights) {
    struct buf b = BUF_INIT;
    buf_adds(&b, "{\"s\":{");
    many(&b, 4096, "1");
    buf_adds(&b, ",\"zero\":0}}");
    CHECK(!*checked(buf_str(&b)));
    buf_clear(&b);
    buf_adds(&b, "{\"s\":{");
    many(&b, 4097, "1");
    buf_adds(&b, "}}");
    CHECK(strstr(checked(buf_str(&b)), "more than 4096 weights"));
    buf_release(&b);
}

/* Nine significant bits, cut off; order is kept. */
TEST(code) {
    CHECK(sparse_encode(0) == 0 && sparse_encode(1e-300) == 0 && sparse_encode(-1) == 0 &&
          sparse_encode(NAN) == 0);
    CHECK(sparse_encode(64) == SPARSE_MAX_CODE && sparse_encode(1e9) == SPARSE_MAX_CODE);
    CHECK(sparse_encode(0x1p-126) == SPARSE_MIN_CODE);
    CHECK(sparse_decode(sparse_encode(1)) == 1 && sparse_decode(sparse_encode(0.75)) == 0.75f);
    uint32_t last = 0;
    for (double w = 1e-6; w < 64; w *= 1.001) {
        uint32_t code = sparse_encode(w);
        double kept = (double)sparse_decode(code);
        CHECK(code >= last && kept <= w * (1 + 1e-7) && kept >= w * (1 - 1.0 / 256));
        last = code;
    }
}

static const char *query(const char *json) {
    struct schema *s = sparse_schema();
    struct query_request q;
    query_request_init(&q);
    q.json = (char *)json;
    const char *got = compiled(&q, s);
    schema_unref(s);
    return got;
}
#define GIVES(json, expected)                                                                                \
    do {                                                                                                     \
        const char *got = query(json);                                                                       \
        if (!matches(got, expected))                                                                         \
            fprintf(stderr, "%s\n   gives %s\n   expected %s\n", json, got, expected);                       \
        CHECK(matches(got, expected));                                                                       \
    } while (0)

TEST(queries) {
    GIVES("{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"b\":2,\"a\":0.5,\"c\":0}}}",
          "s:{a*0.5 b*2}");
    GIVES("{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{}}}", "<nothing>");
    GIVES("{\"bool\":[{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"a\":1}},\"boost\":3},"
          "{\"queryString\":{\"query\":\"k:x\"},\"occur\":\"filter\"}]}",
          "s:{a*1}^3 #k:x");
    GIVES("{\"queryString\":{\"query\":\"s:*\"}}", "s:*");
    GIVES("{\"sparseVector\":[]}", "0: query.sparseVector: expected an object");
    GIVES("{\"sparseVector\":{\"field\":\"k\",\"queryVector\":{}}}",
          "0: query.sparseVector: field \"k\" is keyword: expected a sparseVector field");
    GIVES("{\"sparseVector\":{\"field\":\"no\",\"queryVector\":{}}}",
          "0: query.sparseVector: no index on field");
    GIVES("{\"sparseVector\":{\"field\":\"s\"}}",
          "0: query.sparseVector: expected an object of token weights");
    GIVES("{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{},\"k\":1}}",
          "0: query.sparseVector: unknown member \"k\"");
    GIVES("{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"a\":-1}}}",
          "0: query.sparseVector: queryVector: token \"a\": expected a weight from 0 to 64");
    GIVES("{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"a\":true}}}",
          "0: query.sparseVector: queryVector: token \"a\": expected a number");
    struct buf b = BUF_INIT;
    for (unsigned n = 4096; n <= 4097; n++) {
        buf_clear(&b);
        buf_adds(&b, "{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{");
        many(&b, n, "1");
        buf_adds(&b, "}}}");
        const char *got = query(buf_str(&b));
        CHECK(n == 4096 ? !strncmp(got, "s:{t0*1", 7) : strstr(got, "more than 4096 weights") != NULL);
    }
    buf_release(&b);
}

/* A segment of documents with different vectors passes verification, its statistics are what went in. */
TEST(verification) {
    struct schema *s = sparse_schema();
    struct blob_writer out;
    struct blob *blob;
    struct segment *segment;
    uint64_t size;
    uint32_t checksum;
    size_t len;
    char id[16], doc[200];
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(s, &out);
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "%04d", i);
        snprintf(doc, sizeof doc, i % 3 ? "{\"s\":{\"common\":%g,\"t%d\":1,\"z\":0}}" : "{\"x\":%g,\"y\":%d}",
                 (double)(i % 64) + 0.25, i % 50);
        CHECK_OK(segment_writer_add(w, id, 4, (uint64_t)i + 1, 1, doc, strlen(doc), &err));
    }
    CHECK_OK(segment_writer_finish(w, NULL, &size, &checksum, &err));
    segment_writer_free(w);
    uint8_t *data = buf_detach(&out.mem, &len);
    CHECK_OK(blob_open_memory(data, len, BLOB_KIND_SEGMENT, &blob, &err));
    CHECK_OK(segment_open(blob, &segment, &err));
    CHECK_OK(segment_verify(segment, &err));
    const struct segment_field *f = segment_field(segment, "s", 1, FIELD_SPARSE_VECTOR, 0);
    struct field_stats stats;
    struct term_info info;
    segment_field_stats(f, &stats);
    CHECK(stats.n_docs == 666 && stats.sum_ttf == 1332);
    CHECK_OK(term_find(f, "common", 6, &info, &err));
    CHECK(info.df == 666);
    CHECK_OK(term_find(f, "z", 1, &info, &err));
    CHECK(info.df == 0);
    /* Marking every document dead takes everything off the statistics again. */
    struct deletes *d = deletes_new(segment);
    for (uint32_t i = 0; i < 1000; i++) CHECK(deletes_add(d, segment, i, &err) == 1);
    struct field_stats dead;
    deletes_field(d, f, &dead);
    CHECK(dead.n_docs == stats.n_docs && dead.sum_ttf == stats.sum_ttf);
    CHECK_OK(term_find(f, "common", 6, &info, &err));
    CHECK(deletes_term_df(d, f, info.ord) == 666);
    deletes_unref(d);
    segment_unref(segment);
    blob_writer_release(&out);
    schema_unref(s);
}
