/* Indexes added to a collection that has documents: refused until every segment has them, visible in the
 * status, one commit a segment, resumed by whoever comes next, and then as if they had been there from the
 * start. */
#include "engine_internal.h"
#include "engine_test.h"
#include "fn/builder.h"

enum { BATCHES = 4, BATCH_DOCS_N = 15 };

static bool put_number(struct engine *e, const char *cid, int i) {
    char doc[300];
    snprintf(doc, sizeof doc,
             "{\"id\":\"%03d\",\"title\":\"the ships number %d\",\"year\":%d,\"tag\":[\"t%d\",\"t%d\"],"
             "\"vec\":[%d,1,%d],\"who\":{\"name\":\"n%d\"}}",
             i, i % 3, 1900 + i % 7, i % 2, i % 5, i % 4 + 1, i % 6, i % 3);
    return put(e, cid, INGEST_UPSERT, doc) == 1;
}

/* The answer's text, or "error: ..". */
static char *answer_text(struct engine *e, const char *cid, const char *spec) {
    struct query_request req;
    struct view *v = NULL;
    struct answer *a = NULL;
    struct buf out = BUF_INIT;
    int r = query_request_parse_spec(spec, strlen(spec), &req, &err);
    if (r) abort();
    r = engine_view_live(e, cid, true, &v, &err);
    if (!r) r = engine_query(e, v, "c", &req, NULL, &a, &err);
    if (!r) r = answer_format(a, &req, view_schema(v), &out, &err);
    if (r) buf_printf(&out, "error: %s", err.text);
    answer_free(a);
    view_unref(v);
    query_request_release(&req);
    buf_str(&out);
    size_t len;
    return (char *)buf_detach(&out, &len);
}

static bool busy(struct engine *e, const char *cid, const char *spec) {
    char *text = answer_text(e, cid, spec);
    bool r = strstr(text, "still being built") != NULL;
    free(text);
    return r;
}

static const char SMALL[] = "{\"dynamic\":false,\"indexConfigs\":{\"title\":{\"type\":\"text\"}}}";
static const char FULL[] =
    "{\"dynamic\":false,\"indexConfigs\":{\"title\":{\"type\":\"text\"},\"year\":{\"type\":\"long\"},"
    "\"tag\":{\"type\":\"keyword\"},\"vec\":{\"type\":\"vector\",\"dimensions\":3},"
    "\"who\":{\"type\":\"object\",\"objectIndexConfigs\":{\"name\":{\"type\":\"keyword\"}}}}}";
static const char *const SPECS[] = {"year:[1901 TO 1903]?size=100", "*:*?sort=year:desc&size=100",
                                    "*:*?facet=year,tag&size=0",    "tag:t1 OR title:ships?size=100",
                                    "who.name:n2?size=100",         "*:*?near=003&field=vec&size=20"};

static bool same_answers(struct engine *e, const char *cid, const char *other) {
    bool same = true;
    for (size_t i = 0; i < ARRAY_SIZE(SPECS); i++) {
        char *a = answer_text(e, cid, SPECS[i]), *b = answer_text(e, other, SPECS[i]);
        if (strcmp(a, b) || !strncmp(a, "error", 5)) {
            same = false;
            fprintf(stderr, "%s:\n%.300s\n%.300s\n", SPECS[i], a, b);
        }
        free(a);
        free(b);
    }
    return same;
}

/* Segments and documents left of a field in the status; 0 when it is not there. */
static uint64_t left(struct engine *e, const char *cid, const char *field, uint64_t *ret_documents) {
    struct collection_status st;
    *ret_documents = 0;
    if (engine_status(e, cid, &st, &err)) return UINT64_MAX;
    for (uint32_t i = 0; i < st.n_indexing; i++) {
        if (strcmp(st.indexing[i].field, field)) continue;
        *ret_documents = st.indexing[i].documents_left;
        return st.indexing[i].segments_left;
    }
    return 0;
}

static bool fill(struct engine *e, const char *cid) {
    for (int i = 0; i < BATCHES * BATCH_DOCS_N; i++) {
        if (!put_number(e, cid, i)) return false;
        if (i % BATCH_DOCS_N == BATCH_DOCS_N - 1 && engine_build(e, cid, NULL, &err)) return false;
    }
    return true;
}

TEST(step_by_step) {
    struct engine *e = fresh();
    struct collection_info c, other;
    struct coll *coll;
    uint64_t documents;
    bool did;
    CHECK(e);
    CHECK_OK(engine_create(e, "c", SMALL, &c, &err));
    CHECK_OK(engine_create(e, "other", FULL, &other, &err));
    CHECK(fill(e, c.cid) && fill(e, other.cid));
    CHECK(left(e, c.cid, "year", &documents) == 0);
    CHECK_OK(engine_schema_extend(e, c.cid, FULL, strlen(FULL), &err));
    CHECK(left(e, c.cid, "year", &documents) == BATCHES && documents == BATCHES * BATCH_DOCS_N);
    CHECK(left(e, c.cid, "who.name", &documents) == BATCHES);
    CHECK(left(e, c.cid, "title", &documents) == 0 && left(e, c.cid, "who", &documents) == 0);
    for (size_t i = 0; i < ARRAY_SIZE(SPECS); i++) CHECK(busy(e, c.cid, SPECS[i]));
    CHECK(!busy(e, c.cid, "title:ships") && !busy(e, c.cid, "*:*"));
    /* Writes go on meanwhile: replaced, deleted, new. */
    CHECK(put_number(e, c.cid, 2) && put_number(e, other.cid, 2));
    CHECK(put(e, c.cid, INGEST_DELETE, "\"017\"") == 1 && put(e, other.cid, INGEST_DELETE, "\"017\"") == 1);
    CHECK(put_number(e, c.cid, 99) && put_number(e, other.cid, 99));
    CHECK(left(e, c.cid, "year", &documents) == BATCHES && documents == BATCHES * BATCH_DOCS_N - 2);
    CHECK_OK(core_coll(&e->core, c.cid, &coll, &err));
    CHECK_OK(merger_run(coll, MERGE_BACKFILL, NULL, &did, &err));
    CHECK(did && left(e, c.cid, "year", &documents) == BATCHES - 1);
    CHECK(busy(e, c.cid, SPECS[0]));
    engine_close(e); /* another process goes on where this one was */
    e = open_engine();
    CHECK(e && left(e, c.cid, "tag", &documents) == BATCHES - 1);
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK(left(e, c.cid, "year", &documents) == 0 && left(e, c.cid, "vec", &documents) == 0);
    CHECK(same_answers(e, c.cid, other.cid));
    CHECK_OK(engine_merge(e, c.cid, true, &err));
    CHECK(same_answers(e, c.cid, other.cid));
    done(e);
}

/* The unbuilt log is indexed again at once: nothing to wait for. */
TEST(log_only) {
    struct engine *e = fresh();
    struct collection_info c;
    uint64_t documents;
    CHECK(e);
    CHECK_OK(engine_create(e, "c", SMALL, &c, &err));
    for (int i = 0; i < 5; i++) CHECK(put_number(e, c.cid, i));
    CHECK_OK(engine_schema_extend(e, c.cid, FULL, strlen(FULL), &err));
    char *got = answer_text(e, c.cid, "year:[1901 TO 1902]?format=count");
    CHECK(!strcmp(got, "2\n"));
    free(got);
    CHECK(left(e, c.cid, "year", &documents) == 0);
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    got = answer_text(e, c.cid, "tag:t1?format=count");
    CHECK(!strcmp(got, "2\n"));
    free(got);
    done(e);
}

/* A field that was inferred late and is then declared: older segments are looked at again. */
TEST(inferred_then_declared) {
    static const char DECLARED[] =
        "{\"dynamic\":true,\"indexConfigs\":{\"n\":{\"type\":\"double\"},\"t\":{\"type\":\"keyword\"}}}";
    struct engine *e = fresh();
    struct collection_info c;
    uint64_t documents;
    CHECK(e);
    CHECK_OK(engine_create(e, "c", NULL, &c, &err));
    CHECK(put(e, c.cid, INGEST_UPSERT, "{\"id\":\"a\",\"t\":\"x\"}") == 1);
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK(put(e, c.cid, INGEST_UPSERT, "{\"id\":\"b\",\"n\":5}") == 1);
    CHECK(!busy(e, c.cid, "n:5"));
    CHECK(left(e, c.cid, "n", &documents) == 0);
    CHECK_OK(engine_schema_extend(e, c.cid, DECLARED, strlen(DECLARED), &err));
    CHECK(left(e, c.cid, "n", &documents) == 1 && documents == 1);
    CHECK(busy(e, c.cid, "n:5"));
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK(left(e, c.cid, "n", &documents) == 0);
    char *got = answer_text(e, c.cid, "n:5?format=ids");
    CHECK(!strcmp(got, "b\n"));
    free(got);
    done(e);
}
