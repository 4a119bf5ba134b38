/* Writers, readers and the background builder and merger at once in one engine: what a thread has written it
 * reads back at once, documents never vanish, and at the end everything is there. Run under ThreadSanitizer
 * too. */
#include "engine.h"
#include "test.h"

#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

enum { WRITERS = 3, ROUNDS = 60, PER_ROUND = 20 };

static char dir[64];
static struct engine *e;
static struct collection_info coll;
static int writers_left = WRITERS; /* atomic */

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static void on_verdict(void *ctx, const struct ingest_verdict *v) {}

static const char *write_round(int w, int round) {
    struct err err = ERR_INIT;
    struct ingest *in;
    struct ingest_record recs[PER_ROUND];
    char text[PER_ROUND][120];
    uint64_t good;
    for (int i = 0; i < PER_ROUND; i++) { /* half new, half again with a new value */
        int id = round * PER_ROUND / 2 + i;
        snprintf(text[i], sizeof text[i], "{\"id\":\"w%d-%05d\",\"t\":\"writer%d word%d\",\"n\":%d}", w, id,
                 w, id % 11, round);
        recs[i] = (struct ingest_record){text[i], strlen(text[i])};
    }
    if (engine_ingest_open(e, coll.cid, INGEST_UPSERT, &in, &err)) return "open";
    int r = ingest_add(in, recs, PER_ROUND, on_verdict, NULL, &good, &err);
    if (!r) r = ingest_commit(in, &err);
    ingest_close(in);
    return r || good != PER_ROUND ? "add" : NULL;
}

static const char *read_back(int w, int round) {
    struct err err = ERR_INIT;
    struct view *v;
    struct buf doc = BUF_INIT;
    char id[32], want[32];
    const char *wrong = NULL;
    if (engine_view_live(e, coll.cid, true, &v, &err)) return "view";
    for (int i = 0; i < PER_ROUND && !wrong; i += 7) {
        snprintf(id, sizeof id, "w%d-%05d", w, round * PER_ROUND / 2 + i);
        snprintf(want, sizeof want, "\"n\":%d}", round);
        buf_clear(&doc);
        if (view_doc(v, id, strlen(id), &doc, NULL, &err))
            wrong = "a written document is missing";
        else if (!strstr(buf_str(&doc), want))
            wrong = "an old version came back";
    }
    buf_release(&doc);
    view_unref(v);
    return wrong;
}

static void *writer(void *p) {
    int w = (int)(intptr_t)p;
    const char *wrong = NULL;
    for (int round = 0; round < ROUNDS && !wrong; round++) {
        wrong = write_round(w, round);
        if (!wrong) wrong = read_back(w, round);
    }
    __atomic_sub_fetch(&writers_left, 1, __ATOMIC_RELAXED);
    return (void *)wrong;
}

/* The total of a query over everything never falls, and equals the view's own count. */
static void *reader(void *p) {
    uint64_t last = 0;
    struct query_request req;
    query_request_init(&req);
    req.text = xstrdup("*:*");
    const char *wrong = NULL;
    while (!wrong && __atomic_load_n(&writers_left, __ATOMIC_RELAXED)) {
        struct err err = ERR_INIT;
        struct view *v;
        struct answer *a;
        if (engine_view_live(e, coll.cid, true, &v, &err)) return "view";
        if (engine_query(e, v, "c", &req, NULL, &a, &err))
            wrong = "query";
        else {
            if (a->total < last || a->total != view_documents(v)) wrong = "documents vanished";
            last = a->total;
            answer_free(a);
        }
        view_unref(v);
    }
    query_request_release(&req);
    return (void *)wrong;
}

static void *merger(void *p) {
    while (__atomic_load_n(&writers_left, __ATOMIC_RELAXED)) {
        struct err err = ERR_INIT;
        int r = engine_build(e, coll.cid, NULL, &err);
        if (!r) r = engine_merge(e, coll.cid, true, &err);
        if (r && r != -ERR_BUSY) return "build or merge";
        struct clean_result cleaned;
        if (engine_clean(e, 1000, 0, &cleaned, &err)) return "clean";
    }
    return NULL;
}

static void note(void *ctx, const char *text) {
    fprintf(stderr, "check: %s\n", text);
}

static void side_by_side(bool remote) {
    struct err err = ERR_INIT;
    struct engine_options o;
    pthread_t t[WRITERS + 3];
    engine_options_init(&o);
    snprintf(dir, sizeof dir, "/tmp/ldbfs-threads-XXXXXX");
    CHECK(mkdtemp(dir));
    o.data_dir = dir;
    o.background = true;
    o.build_bytes = 20000;
    o.build_age_ms = 50;
    o.simulate_remote = remote;
    o.cache_bytes = 200000; /* three pages */
    o.batch_bytes = 5000;   /* several batches a build, written side by side */
    CHECK_OK(engine_open(&o, &e, &err));
    CHECK_OK(engine_create(e, "c", NULL, &coll, &err));
    CHECK_OK(engine_set_shards(e, coll.cid, 3, &err));
    for (int i = 0; i < WRITERS; i++) CHECK(!pthread_create(&t[i], NULL, writer, (void *)(intptr_t)i));
    for (int i = WRITERS; i < WRITERS + 2; i++) CHECK(!pthread_create(&t[i], NULL, reader, NULL));
    CHECK(!pthread_create(&t[WRITERS + 2], NULL, merger, NULL));
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        void *wrong;
        pthread_join(t[i], &wrong);
        if (wrong) fprintf(stderr, "thread %zu: %s\n", i, (char *)wrong);
        CHECK(!wrong);
    }
    struct collection_status st;
    uint64_t objects, problems;
    CHECK_OK(engine_status(e, coll.cid, &st, &err));
    CHECK(st.documents == WRITERS * (ROUNDS + 1) * PER_ROUND / 2 && !st.last_error[0]);
    CHECK(st.seq_written == WRITERS * ROUNDS * PER_ROUND);
    CHECK_OK(engine_check(e, note, NULL, &objects, &problems, &err));
    CHECK(problems == 0);
    engine_close(e);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

TEST(mapped) {
    side_by_side(false);
}
TEST(remote) {
    side_by_side(true);
}
