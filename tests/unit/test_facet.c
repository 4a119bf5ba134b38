/* Facets: sums over parts, order, bounds, and dictionaries of every size. */
#include "engine.h"
#include "query/facet.h"
#include "test.h"

#include <ftw.h>
#include <unistd.h>

static struct err err;

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static struct query one_field(enum field_type type) {
    struct query q = {.n_facets = 1};
    q.facets[0] = (struct facet_field){"f", type};
    return q;
}

static void set(struct facets *f, const char *text, int64_t i64, uint64_t count) {
    struct facet *one = &f->all[0];
    VEC_GROW(one->values, one->n, one->cap);
    one->values[one->n++] = (struct facet_value){
        .count = count, .text = text, .len = text ? (uint32_t)strlen(text) : 0, .i64 = i64};
    one->n_docs += count;
    f->n_matches += count;
}

static const char *shown(struct facets *f, uint32_t n) {
    static struct buf out;
    buf_clear(&out);
    facets_sort(f);
    facet_format(f, 0, n, &out);
    return buf_str(&out);
}

TEST(sums_and_order) {
    struct query q = one_field(FIELD_KEYWORD);
    struct facets *a = facets_new(&q), *b = facets_new(&q), *sum = facets_new(&q);
    set(a, "b", 0, 2);
    set(a, "a", 0, 2);
    set(a, "", 0, 1);
    set(b, "ab", 0, 2);
    set(b, "b", 0, 3);
    b->n_matches += 4;
    CHECK_OK(facets_add(sum, a, &err));
    CHECK_OK(facets_add(sum, b, &err));
    CHECK(!strcmp(shown(sum, 3),
                  "{\"field\":\"f\",\"values\":[{\"value\":\"b\",\"count\":5},{\"value\":\"a\","
                  "\"count\":2},{\"value\":\"ab\",\"count\":2}],\"other\":1,\"missing\":4}"));
    facets_free(a);
    facets_free(b);
    facets_free(sum);
}

TEST(values_by_type) {
    static const struct {
        enum field_type type;
        int64_t value;
        const char *text;
    } cases[] = {{FIELD_LONG, INT64_MIN, "-9223372036854775808"},
                 {FIELD_BOOLEAN, 1, "true"},
                 {FIELD_DATETIME, 1, "\"1970-01-01T00:00:00.001Z\""}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct query q = one_field(cases[i].type);
        struct facets *f = facets_new(&q);
        char want[200];
        set(f, NULL, cases[i].value, 1);
        snprintf(want, sizeof want,
                 "{\"field\":\"f\",\"values\":[{\"value\":%s,\"count\":1}],\"other\":0,\"missing\":0}",
                 cases[i].text);
        CHECK(!strcmp(shown(f, 10), want));
        facets_free(f);
    }
    struct query q = one_field(FIELD_DOUBLE);
    struct facets *f = facets_new(&q);
    set(f, NULL, double_to_sortable(0.1), 1);
    set(f, NULL, double_to_sortable(-1e300), 1);
    CHECK(strstr(shown(f, 10), "[{\"value\":-1e+300,\"count\":1},{\"value\":0.1,\"count\":1}]"));
    facets_free(f);
}

/* The bound holds for the sum, however it is divided. */
TEST(too_many_values) {
    struct query q = one_field(FIELD_LONG);
    struct facets *a = facets_new(&q), *b = facets_new(&q), *sum = facets_new(&q);
    for (int64_t i = 0; i < FACET_MAX_VALUES; i++) set(i % 2 ? a : b, NULL, i, 1);
    CHECK_OK(facets_add(sum, a, &err));
    CHECK_OK(facets_add(sum, b, &err));
    CHECK_OK(facets_add(sum, a, &err));
    CHECK(sum->all[0].n == FACET_MAX_VALUES);
    set(a, NULL, -1, 1);
    CHECK(facets_add(sum, a, &err) == -ERR_INVALID && strstr(err.text, "\"f\""));
    facets_free(a);
    facets_free(b);
    facets_free(sum);
}

static void no_verdict(void *ctx, const struct ingest_verdict *v) {
    fprintf(stderr, "refused: %s\n", v->err.text);
}

/* id i, k: i / 2 (twice each), and "all" in every document. */
static bool fill(struct engine *e, const char *cid, int n) {
    struct ingest *in;
    uint64_t good = 0;
    bool ok = !engine_ingest_open(e, cid, INGEST_UPSERT, &in, &err);
    for (int i = 0; ok && i < n; i += 1000) {
        struct ingest_record recs[1000];
        char text[1000][80];
        for (int k = 0; k < 1000; k++) {
            int len =
                snprintf(text[k], sizeof text[k], "{\"id\":\"%06d\",\"k\":[\"v%06d\",\"all\",\"v%06d\"]}",
                         i + k, (i + k) / 2, (i + k) / 2);
            recs[k] = (struct ingest_record){text[k], (size_t)len};
        }
        ok = !ingest_add(in, recs, 1000, no_verdict, NULL, &good, &err);
    }
    ok = ok && !ingest_commit(in, &err);
    ingest_close(in);
    return ok;
}

static const char *ask(struct engine *e, const char *cid, const char *spec) {
    static struct buf out;
    struct query_request req;
    struct view *v = NULL;
    struct answer *a = NULL;
    buf_clear(&out);
    int r = query_request_parse_spec(spec, strlen(spec), &req, &err);
    if (!r) r = engine_view_live(e, cid, true, &v, &err);
    if (!r) r = engine_query(e, v, "c", &req, NULL, &a, &err);
    if (!r) r = answer_format(a, &req, view_schema(v), &out, &err);
    if (r) buf_printf(&out, "error: %s", err.text);
    answer_free(a);
    view_unref(v);
    query_request_release(&req);
    return buf_str(&out);
}

TEST(large_dictionary) {
    enum { N = 140000 }; /* 70,000 values: more than are counted in an array */
    char dir[] = "/tmp/ldbfs-test-XXXXXX";
    struct engine_options o;
    struct engine *e;
    struct collection_info c;
    if (!mkdtemp(dir)) abort();
    engine_options_init(&o);
    o.data_dir = dir;
    CHECK_OK(engine_open(&o, &e, &err));
    CHECK_OK(engine_create(e, "c", "{\"indexConfigs\":{\"k\":{\"type\":\"keyword\"}}}", &c, &err));
    CHECK(fill(e, c.cid, N));
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK_OK(engine_set_shards(e, c.cid, 3, &err));
    static const char want[] =
        "{\"field\":\"k\",\"values\":[{\"value\":\"all\",\"count\":140000},{\"value\":\"v000000\","
        "\"count\":2},{\"value\":\"v000001\",\"count\":2}],\"other\":139996,\"missing\":0}\n";
    CHECK(!strcmp(ask(e, c.cid, "*:*?facet=k&facets=3&size=0"), want));
    static const char few[] =
        "{\"field\":\"k\",\"values\":[{\"value\":\"all\",\"count\":2},{\"value\":\"v060000\","
        "\"count\":2}],\"other\":0,\"missing\":0}\n";
    CHECK(!strcmp(ask(e, c.cid, "k:v060000?facet=k&size=0"), few));
    engine_close(e);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
