/* The engine end to end on a temporary directory: writes, reads, builds, merges, history, clones, restores,
 * cleaning. */
#include "engine_test.h"
#include "util/codec.h"

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

/* Reads objects by requests and keeps nothing of them, so that what is removed is missed. */
static struct engine *open_remote(void) {
    struct engine_options o;
    struct engine *e = NULL;
    engine_options_init(&o);
    o.data_dir = dir;
    o.simulate_remote = true;
    o.cache_bytes = 1;
    return engine_open(&o, &e, &err) ? NULL : e;
}

static bool write_50(struct engine *e, const char *cid, const char *word) {
    char doc[100];
    for (int i = 0; i < 50; i++) {
        snprintf(doc, sizeof doc, "{\"id\":\"%03d\",\"t\":\"%s\"}", i, word);
        if (put(e, cid, INGEST_UPSERT, doc) != 1) return false;
    }
    return !engine_build(e, cid, NULL, &err);
}

/* One process has looked at a collection and rests; another goes on with it, and its old objects are removed.
 */
TEST(rest_while_others_clean) {
    struct engine *busy = fresh();
    struct collection_info c;
    struct clean_result cleaned;
    struct view *v;
    CHECK(busy);
    CHECK_OK(engine_create(busy, "c", NULL, &c, &err));
    CHECK(write_50(busy, c.cid, "before"));
    struct engine *idle = open_remote();
    CHECK(idle);
    CHECK_OK(engine_view_live(idle, c.cid, true, &v, &err));
    CHECK(view_documents(v) == 50);
    view_unref(v);
    CHECK(write_50(busy, c.cid, "after"));
    CHECK_OK(engine_clean(busy, 0, 0, &cleaned, &err));
    CHECK(cleaned.roots && cleaned.objects);
    CHECK(!strncmp(ask_live(idle, c.cid, "t:after?size=1"), "0", 1));
    CHECK(!strcmp(ask_live(idle, c.cid, "t:before"), ""));
    engine_close(idle);
    done(busy);
}
