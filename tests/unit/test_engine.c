/* The engine end to end on a temporary directory: writes, reads, builds, merges, history, clones, restores,
 * cleaning. */
#include "engine.h"
#include "test.h"
#include "util/codec.h"

#include <ftw.h>
#include <unistd.h>

static char dir[64];
static struct err err;

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static struct engine *open_engine(void) {
    struct engine_options o;
    struct engine *e = NULL;
    engine_options_init(&o);
    o.data_dir = dir;
    if (engine_open(&o, &e, &err)) fprintf(stderr, "engine_open: %s\n", err.text);
    return e;
}

static struct engine *fresh(void) {
    snprintf(dir, sizeof dir, "/tmp/ldbfs-test-XXXXXX");
    if (!mkdtemp(dir)) abort();
    return open_engine();
}

static void done(struct engine *e) {
    engine_close(e);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static char last_verdict[500];
static void on_verdict(void *ctx, const struct ingest_verdict *v) {
    snprintf(last_verdict, sizeof last_verdict, "%s", v->err.text);
}

/* Writes one record durably; the number accepted. */
static uint64_t put(struct engine *e, const char *cid, enum ingest_op op, const char *json) {
    struct ingest *in;
    struct ingest_record rec = {json, strlen(json)};
    uint64_t good = 0;
    last_verdict[0] = 0;
    if (engine_ingest_open(e, cid, op, &in, &err)) return 0;
    if (ingest_add(in, &rec, 1, on_verdict, NULL, &good, &err) || ingest_commit(in, &err)) good = 0;
    ingest_close(in);
    return good;
}

/* Ids of a query's hits joined by spaces. */
static const char *ask(struct engine *e, const struct view *v, const char *spec) {
    static char out[4000];
    struct query_request req;
    struct answer *a;
    query_request_init(&req);
    out[0] = 0;
    if (query_request_parse_spec(spec, strlen(spec), &req, &err) ||
        engine_query(e, v, "c", &req, NULL, &a, &err)) {
        snprintf(out, sizeof out, "error: %s", err.text);
        query_request_release(&req);
        return out;
    }
    for (uint32_t i = 0; i < a->n_hits; i++)
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s:%.9g", i ? " " : "", a->hits[i].id,
                 (double)a->hits[i].score);
    answer_free(a);
    query_request_release(&req);
    return out;
}

static const char *ask_live(struct engine *e, const char *cid, const char *spec) {
    struct view *v;
    if (engine_view_live(e, cid, true, &v, &err)) return err.text;
    const char *out = ask(e, v, spec);
    view_unref(v);
    return out;
}

static int count_id(void *ctx, const char *id, size_t len) {
    return ++*(int *)ctx, 0;
}

TEST(write_read_build) {
    struct engine *e = fresh();
    struct collection_info c;
    struct collection_status st;
    CHECK(e);
    CHECK_OK(engine_create(e, "books",
                           "{\"indexConfigs\":{\"title\":{\"type\":\"text\",\"analyzers\":[\"english\"]},"
                           "\"year\":{\"type\":\"long\"}}}",
                           &c, &err));
    CHECK(put(e, c.cid, INGEST_UPSERT, "{\"id\":\"1\",\"title\":\"Moby Dick, the whale\",\"year\":1851}") ==
          1);
    CHECK(put(e, c.cid, INGEST_UPSERT, "{\"id\":\"2\",\"title\":\"Whales and ships\",\"year\":1900}") == 1);
    CHECK(put(e, c.cid, INGEST_UPSERT, "{\"id\":\"3\",\"title\":\"Gardening\",\"year\":2001}") == 1);
    CHECK(put(e, c.cid, INGEST_UPSERT, "{\"id\":\"4\",\"title\":\"x\",\"year\":\"no\"}") == 0);
    CHECK(strstr(last_verdict, "year"));
    char before[4000];
    snprintf(before, sizeof before, "%s", ask_live(e, c.cid, "title:whale"));
    CHECK(strstr(before, "1:") && strstr(before, "2:") && !strstr(before, "3:"));
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK(!strcmp(before, ask_live(e, c.cid, "title:whale")));
    CHECK_OK(engine_status(e, c.cid, &st, &err));
    CHECK(st.documents == 3 && st.seq_committed == 3 && st.unbuilt_records == 0 && st.segments == 1);
    CHECK(put(e, c.cid, INGEST_UPDATE, "{\"id\":\"3\",\"year\":1999}") == 1);
    CHECK(put(e, c.cid, INGEST_UPDATE, "{\"id\":\"9\",\"year\":1999}") == 0);
    CHECK(put(e, c.cid, INGEST_DELETE, "{\"id\":\"1\"}") == 1);
    CHECK(!strncmp(ask_live(e, c.cid, "year:[1950 TO 1999]"), "3:1", 3));
    CHECK(!strstr(ask_live(e, c.cid, "title:whale"), "1:1"));
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK_OK(engine_merge(e, c.cid, true, &err));
    CHECK_OK(engine_status(e, c.cid, &st, &err));
    CHECK(st.documents == 2 && st.segments == 1);
    struct view *v;
    int n = 0;
    CHECK_OK(engine_view_live(e, c.cid, true, &v, &err));
    CHECK_OK(view_scan(v, NULL, 0, count_id, &n, &err));
    CHECK(n == 2);
    view_unref(v);
    done(e);
}

static void note(void *ctx, const char *text) {
    fprintf(stderr, "check: %s\n", text);
}

TEST(history) {
    struct engine *e = fresh();
    struct collection_info c, clone;
    struct snapshot_info first, named;
    uint64_t objects, problems;
    CHECK(e);
    CHECK_OK(engine_create(e, "c", NULL, &c, &err));
    for (int i = 0; i < 50; i++) {
        char doc[100];
        snprintf(doc, sizeof doc, "{\"id\":\"%03d\",\"t\":\"some words number %d\",\"n\":%d}", i, i, i);
        CHECK(put(e, c.cid, INGEST_UPSERT, doc) == 1);
    }
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK_OK(engine_snapshot_resolve(e, c.cid, "latest", &first, &err));
    CHECK(first.documents == 50);
    for (int i = 0; i < 25; i++) {
        char id[20];
        snprintf(id, sizeof id, "\"%03d\"", i);
        CHECK(put(e, c.cid, INGEST_DELETE, id) == 1);
    }
    CHECK_OK(engine_snapshot_create(e, c.cid, "half", &named, &err));
    CHECK(named.documents == 25);
    CHECK(engine_snapshot_create(e, c.cid, "half", &named, &err) == -ERR_EXISTS);
    CHECK_OK(engine_clone(e, c.cid, first.version, "copy", &clone, &err));
    struct view *v;
    CHECK_OK(engine_view_live(e, clone.cid, true, &v, &err));
    CHECK(view_documents(v) == 50);
    view_unref(v);
    CHECK(put(e, clone.cid, INGEST_UPSERT, "{\"id\":\"000\",\"t\":\"changed in the clone\"}") == 1);
    CHECK(!strncmp(ask_live(e, clone.cid, "t:changed"), "000", 3));
    CHECK(!strcmp(ask_live(e, c.cid, "t:changed"), ""));
    CHECK_OK(engine_build(e, clone.cid, NULL, &err));
    CHECK(!strncmp(ask_live(e, clone.cid, "t:changed"), "000", 3));
    CHECK_OK(engine_restore(e, c.cid, first.version, &err));
    CHECK_OK(engine_view_live(e, c.cid, true, &v, &err));
    CHECK(view_documents(v) == 50);
    view_unref(v);
    CHECK_OK(engine_restore(e, c.cid, named.version, &err));
    CHECK_OK(engine_view_live(e, c.cid, true, &v, &err));
    CHECK(view_documents(v) == 25);
    view_unref(v);
    CHECK_OK(engine_check(e, note, NULL, &objects, &problems, &err));
    CHECK(problems == 0 && objects > 3);
    CHECK_OK(engine_drop(e, c.cid, 0, &err));
    CHECK(engine_view_live(e, c.cid, true, &v, &err) == -ERR_NOT_FOUND);
    struct clean_result cleaned;
    CHECK_OK(engine_clean(e, 0, 0, &cleaned, &err));
    CHECK_OK(engine_check(e, note, NULL, &objects, &problems, &err));
    CHECK(problems == 0);
    CHECK_OK(engine_view_live(e, clone.cid, true, &v, &err));
    CHECK(view_documents(v) == 50);
    int n = 0;
    CHECK_OK(view_scan(v, NULL, 0, count_id, &n, &err));
    CHECK(n == 50);
    view_unref(v);
    done(e);
}

TEST(trash) {
    struct engine *e = fresh();
    struct collection_info c;
    CHECK(e);
    CHECK_OK(engine_create(e, "c", NULL, &c, &err));
    CHECK(put(e, c.cid, INGEST_UPSERT, "{\"id\":\"a\",\"t\":\"one\"}") == 1);
    uint64_t seq;
    CHECK_OK(engine_mark(e, c.cid, &seq, &err));
    CHECK(put(e, c.cid, INGEST_DELETE, "\"a\"") == 1);
    CHECK_OK(engine_drop(e, c.cid, seq, &err));
    CHECK(engine_find(e, "c", &c, &err) == -ERR_NOT_FOUND);
    CHECK_OK(engine_trash_restore(e, "c~before-rm", "d", &c, &err));
    CHECK(!strncmp(ask_live(e, c.cid, "*:*"), "a:1", 3));
    done(e);
}
