/* Queries over a store that is read by requests: the answers of the mapped store, in few waves, within a
 * bound of memory, through failing requests, damaged objects and many threads. */
#include "backend/object_store.h"
#include "engine_test.h"
#include "index/segment_want.h"
#include "index/cluster.h"
#include "query/answer.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

/* waves: at most so many, nothing cached; 0: not looked at. */
static const struct spec {
    const char *text;
    unsigned waves;
} specs[] = {
    {"title:whale", 4},
    {"title:whale title:boat title:ship", 4},
    {"+title:whale +title:boat -title:ship?size=30", 4},
    {"title:\"whale boat\"~2", 4},
    {"title:whale?format=ids", 4},
    {"title:whale?format=count", 3},
    {"title:whale?size=300&from=20", 4},
    {"title:(whale OR boat)?sort=n:desc,_id", 4},
    {"title:whale?sort=tag,_id:desc", 4},
    {"title:whale?sort=_id:desc", 4},
    {"title:whale?facet=tag,n&facets=3", 4},
    {"n:[100 TO 900] AND title:boat", 4},
    {"*:*", 4},
    {"n:[100 TO 120]?size=40", 4}, /* all tied: the ids of all segments decide */
    {"n:[100 TO 900]?size=2", 4},
    {"tag:t3", 4},
    {"tag:[t1 TO t4]?size=3", 4},
    {"tag:t*?size=3", 4},
    {"title:wh*?size=3", 4},
    {"title:?h?l*", 4},
    {"title:/b.*t/", 4},
    {"title:whael~1", 5},
    {"_exists_:n AND title:ship", 4},
    {"nothing_like_it", 3},
    {"title:none AND n:5", 4},
    {"{\"query\":{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2,3,4,5,6,7,8],\"k\":10}}}", 4},
    {"{\"query\":{\"knn\":{\"field\":\"v\",\"queryVector\":[3,2,3,4,5,6,7,8],\"k\":12,\"filter\":\"title:"
     "whale\"}},"
     "\"size\":12}",
     4},
    {"title:whale?near=d00005&field=v&fuse=rrf&size=20", 6}, /* the document that is near first */
    {"{\"query\":{\"sparseVector\":{\"field\":\"w\",\"queryVector\":{\"a1\":2,\"a3\":1.5}}}}", 4},
};
enum { N_SPECS = sizeof specs / sizeof *specs, PER_SEGMENT = 500, SEGMENTS = 3 };
enum { PINNED = SEGMENTS * 2 * 65536 }; /* dictionaries of stored documents */
static char *expected[N_SPECS];

/* ---- the data ---- */

static uint32_t rng_state = 99;
static uint32_t rnd(uint32_t n) {
    rng_state = rng_state * 1664525 + 1013904223;
    return (rng_state >> 8) % n;
}

static void write_doc(struct ingest *in, int id) {
    static const char *const words[] = {"whale", "whales", "while", "boat", "bolt",
                                        "ship",  "shop",   "whole", "calm"};
    char doc[5000];
    uint64_t good;
    int n =
        snprintf(doc, sizeof doc, "{\"id\":\"d%05d\",\"title\":\"%s %s %s\",\"tag\":\"t%u\",\"n\":%u,\"v\":[",
                 id, words[rnd(9)], words[rnd(9)], words[rnd(9)], rnd(7), rnd(1000));
    for (int i = 0; i < 8; i++) n += snprintf(doc + n, 20, "%s%u", i ? "," : "", rnd(10));
    n += snprintf(doc + n, 100, "],\"w\":{\"a%u\":%u.5,\"b\":1},\"pad\":{\"x\":[\"", rnd(5), 1 + rnd(3));
    for (int i = 0; i < 3000; i++) doc[n++] = (char)('0' + rnd(75) % 58 % 10 + (rnd(2) ? 17 : 0));
    n += snprintf(doc + n, 10, "\"]}}");
    struct ingest_record rec = {doc, (size_t)n};
    if (ingest_add(in, &rec, 1, on_verdict, NULL, &good, &err) || good != 1)
        fprintf(stderr, "write: %s %s\n", err.text, last_verdict);
}

static struct collection_info coll;

static void write_docs(struct engine *e, int from, int n, int step) {
    struct ingest *in;
    if (engine_ingest_open(e, coll.cid, INGEST_UPSERT, &in, &err)) abort();
    for (int i = 0; i < n; i++) write_doc(in, from + i * step);
    if (ingest_commit(in, &err)) fprintf(stderr, "commit: %s\n", err.text);
    ingest_close(in);
}

static char *answer(struct engine *e, const char *spec);

static void expect(struct engine *e) {
    for (int i = 0; i < N_SPECS; i++) {
        free(expected[i]);
        expected[i] = answer(e, specs[i].text);
    }
}

/* Segments above the size that is fetched whole, some documents dead; all of it built. */
static void make_data(void) {
    static const char config[] =
        "{\"indexConfigs\":{\"title\":{\"type\":\"text\"},\"tag\":{\"type\":\"keyword\"},\"n\":{\"type\":"
        "\"long\"},"
        "\"w\":{\"type\":\"sparseVector\"},"
        "\"v\":{\"type\":\"vector\",\"dimensions\":8,\"similarity\":\"euclidean\"}}}";
    uint64_t seq;
    struct engine *e = fresh();
    clusters_set_threshold(200); /* small segments have clusters of vectors, too */
    if (!e || engine_create(e, "c", config, &coll, &err)) fprintf(stderr, "create: %s\n", err.text);
    for (int s = 0; s < SEGMENTS; s++) {
        write_docs(e, s, PER_SEGMENT, SEGMENTS);
        if (s) write_docs(e, 0, 20, 7); /* newer copies */
        if (engine_build(e, coll.cid, &seq, &err)) fprintf(stderr, "build: %s\n", err.text);
    }
    clusters_set_threshold(0);
    expect(e);
    engine_close(e);
}

static void remove_data(void) {
    done(NULL);
    for (int i = 0; i < N_SPECS; i++) {
        free(expected[i]);
        expected[i] = NULL;
    }
}

static struct engine *remote(uint64_t cache_bytes, const char *cache_dir, const char *fault) {
    struct engine_options o;
    struct engine *e = NULL;
    engine_options_init(&o);
    o.data_dir = dir;
    o.simulate_remote = true;
    o.cache_bytes = cache_bytes;
    o.cache_dir = cache_dir;
    o.object_fault = fault;
    if (engine_open(&o, &e, &err)) fprintf(stderr, "engine_open: %s\n", err.text);
    return e;
}

/* ---- asking ---- */

/* The answer's text, to be freed; NULL and err when there is none. */
static char *answer_err(struct engine *e, const char *spec, struct err *why) {
    struct query_request req;
    struct answer *a = NULL;
    struct view *v = NULL;
    struct buf out = BUF_INIT;
    query_request_init(&req);
    int r = query_request_parse_spec(spec, strlen(spec), &req, why);
    if (!r) r = engine_view_live(e, coll.cid, true, &v, why);
    if (!r) r = engine_query(e, v, "c", &req, NULL, &a, why);
    for (uint32_t i = 0; !r && i < a->n_hits; i++)
        buf_printf(&out, "%s %.9g %.*s\n", a->hits[i].id, (double)a->hits[i].score, (int)a->hits[i].doc_len,
                   a->hits[i].doc ? a->hits[i].doc : "");
    if (!r) buf_printf(&out, "%llu of %.9g\n", (unsigned long long)a->total, (double)a->max_score);
    if (!r && a->facets) r = answer_format(a, &req, view_schema(v), &out, why);
    answer_free(a);
    view_unref(v);
    query_request_release(&req);
    buf_str(&out);
    if (!r) return (char *)buf_detach(&out, NULL);
    buf_release(&out);
    return NULL;
}

static char *answer(struct engine *e, const char *spec) {
    struct err why = ERR_INIT;
    char *text = answer_err(e, spec, &why);
    if (!text) fprintf(stderr, "%s: %s\n", spec, why.text);
    return text;
}

static bool right(struct engine *e, int i) {
    char *text = answer(e, specs[i].text);
    bool same = text && expected[i] && !strcmp(text, expected[i]);
    if (text && !same)
        fprintf(stderr, "%s\n  got %.300s\n  expected %.300s\n", specs[i].text, text, expected[i]);
    free(text);
    return same;
}

/* ---- tests ---- */

static void check_waves(bool vectors_only) {
    make_data();
    for (int i = 0; i < N_SPECS; i++) {
        struct engine_counters c;
        if (vectors_only && !strstr(specs[i].text, "knn")) continue;
        struct engine *e = remote(0, NULL, NULL);
        CHECK(e && right(e, i));
        engine_counters(e, &c);
        if (specs[i].waves && c.waves > specs[i].waves) {
            fprintf(stderr, "%s: %llu waves, %llu gets, %llu bytes\n", specs[i].text,
                    (unsigned long long)c.waves, (unsigned long long)c.gets, (unsigned long long)c.bytes_got);
            CHECK(!"too many waves");
        }
        uint64_t before = c.waves; /* once more: the root is asked whether it has changed */
        CHECK(right(e, i));
        engine_counters(e, &c);
        CHECK(c.waves == before + 1);
        engine_close(e);
    }
    remove_data();
}

TEST(waves) {
    check_waves(false);
}

/* As of large segments: of the codes only the lists that will be scanned are read. */
TEST(waves_of_single_lists) {
    segment_want_codes(1);
    check_waves(true);
    segment_want_codes(0);
}

TEST(same_answers_within_a_bound) {
    char cache[100];
    make_data();
    snprintf(cache, sizeof cache, "%s/cache", dir);
    for (int life = 0; life < 4;
         life++) { /* two of them with a cache on disk; in the end with an unbuilt log */
        const uint64_t bound = 300000;
        struct engine_counters c;
        struct engine *e = remote(bound, life >= 2 ? cache : NULL, NULL);
        CHECK(e);
        if (life == 3) {
            write_docs(e, 5, 30, 11);
            expect(e);
            struct engine *mapped = open_engine();
            for (int i = 0; i < N_SPECS; i++) CHECK(right(mapped, i));
            engine_close(mapped);
        }
        for (int n = 0; n < 2 * N_SPECS; n++) CHECK(right(e, n * 7 % N_SPECS));
        engine_counters(e, &c);
        CHECK(c.cache_pinned_bytes <= PINNED && c.cache_evictions > 100);
        CHECK(c.cache_bytes <= MAX(bound, c.cache_pinned_bytes));
        CHECK((c.disk_hits > 0) == (life >= 2) && !c.disk_damaged);
        engine_close(e);
    }
    remove_data();
}

/* Each request of each query fails once: an error that says so, or the right answer; and then the right
 * answer. */
TEST(failing_requests) {
    make_data();
    for (int i = 0; i < N_SPECS; i += 3) {
        unsigned errors = 0;
        for (int nth = 0, more = true; more; nth++) {
            struct engine_counters c;
            struct err why = ERR_INIT;
            char fault[32];
            snprintf(fault, sizeof fault, "get:%d:1", nth);
            struct engine *e = remote(0, NULL, fault);
            char *text = answer_err(e, specs[i].text, &why);
            engine_counters(e, &c);
            more = c.gets > (uint64_t)nth;
            errors += !text;
            CHECK(text ? !strcmp(text, expected[i])
                       : why.code == ERR_UNREACHABLE && strstr(why.text, "unreachable"));
            CHECK(right(e, i));
            free(text);
            engine_close(e);
        }
        CHECK(errors > 3);
    }
    remove_data();
}

static char objects[40][400];
static int n_objects;
static int list_object(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    if (flag == FTW_F && st->st_size > 100000 && n_objects < 40)
        snprintf(objects[n_objects++], 400, "%s", path);
    return 0;
}

static void flip(const char *path, off_t at) {
    uint8_t byte;
    int fd = open(path, O_RDWR);
    if (fd < 0 || pread(fd, &byte, 1, at) != 1) abort();
    byte ^= 1;
    if (pwrite(fd, &byte, 1, at) != 1) abort();
    close(fd);
}

TEST(damaged_objects) {
    char data[100];
    unsigned errors = 0;
    make_data();
    snprintf(data, sizeof data, "%s/objects/data", dir);
    n_objects = 0;
    nftw(data, list_object, 16, FTW_PHYS);
    CHECK(n_objects >= SEGMENTS);
    for (int round = 0; round < 40; round++) {
        struct stat st;
        const char *path = objects[rnd((uint32_t)n_objects)];
        if (stat(path, &st)) abort();
        off_t at = round % 2 ? rnd((uint32_t)st.st_size) : st.st_size - 1 - rnd(200000);
        flip(path, at);
        for (int i = round % 5; i < N_SPECS; i += 5) {
            struct err why = ERR_INIT;
            struct engine *e = remote(0, NULL, NULL);
            char *text = answer_err(e, specs[i].text, &why);
            errors += !text;
            CHECK(text ? !strcmp(text, expected[i]) : why.code == ERR_CORRUPT && why.text[0]);
            free(text);
            engine_close(e);
        }
        flip(path, at);
    }
    CHECK(errors > 20);
    remove_data();
}

/* ---- threads ---- */

static struct engine *shared;
static void *ask_around(void *arg) {
    for (uintptr_t n = 0; n < 30; n++)
        if (!right(shared, (int)((n * 5 + (uintptr_t)arg * 3) % N_SPECS))) return "a wrong answer";
    return NULL;
}

TEST(threads) {
    enum { THREADS = 5 };
    pthread_t t[THREADS];
    make_data();
    shared = remote(200000, NULL, NULL);
    CHECK_OK(engine_set_shards(shared, coll.cid, 3, &err));
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&t[i], NULL, ask_around, (void *)i));
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(t[i], &wrong);
        CHECK(!wrong);
    }
    struct engine_counters c;
    engine_counters(shared, &c);
    CHECK(c.cache_pinned_bytes <= PINNED && c.cache_bytes <= MAX(200000, c.cache_pinned_bytes));
    engine_close(shared);
    remove_data();
}
