/* Fuzzy words, expressions and hybrids through the engine: the same answers unbuilt, half built, built,
 * merged and for any number of shards, and deletes by such filters. */
#include "engine_test.h"
#include "util/codec.h"
#include "util/spare.h"

#include <pthread.h>

static const char *const specs[] = {
    "title:whael~",
    "title:whale~1 OR title:boat~",
    "title:/wh.l[aeiou]/",
    "title:/[b-s].*/?sort=n",
    "title:whale~1?near=d3&field=v&fuse=rrf&size=30",
    "title:whale title:ship?near=d4&fuse=mm&size=30",
    "title:/s.*/?near=d5&fuse=l2&size=30&from=2",
    "{\"query\":{\"rrf\":[{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":9}},{\"bool\":[{\"knn\":{"
    "\"field\":\"v\","
    "\"queryVector\":[3,1],\"k\":12,\"filter\":\"title:whael~\"}},{\"queryString\":{\"query\":\"title:boat~"
    "1\"}}]}]},\"size\":30}",
};
enum { N_SPECS = sizeof specs / sizeof *specs, N_DOCS = 60 };
static char expected[N_SPECS][4000];

static void make_doc(char doc[300], int i, const char *extra) {
    static const char *const words[] = {"whale", "whales", "while", "wheel", "boat",
                                        "boats", "ship",   "coat",  "shop",  "whole"};
    snprintf(doc, 300, "{\"id\":\"d%d\",\"title\":\"%s %s %s%s\",\"n\":%d,\"v\":[%d,%d]}", i, words[i % 10],
             words[i * 7 / 3 % 10], words[i / 4 % 10], extra, i, i % 7 + 1, i % 5);
}

static void write_docs(struct engine *e, const char *cid, int from, int to, const char *extra) {
    for (int i = from; i < to; i++) {
        char doc[300];
        make_doc(doc, i, extra);
        if (put(e, cid, INGEST_UPSERT, doc) != 1) fprintf(stderr, "put: %s %s\n", last_verdict, err.text);
    }
}

static int differ(struct engine *e, const char *cid) {
    int bad = 0;
    for (int i = 0; i < N_SPECS; i++) {
        const char *got = ask_live(e, cid, specs[i]);
        if (!strcmp(got, expected[i]) && *got && strncmp(got, "error", 5)) continue;
        fprintf(stderr, "%s\n   got      %s\n   expected %s\n", specs[i], got, expected[i]);
        bad++;
    }
    return bad;
}

static struct engine *start(struct collection_info *c) {
    static const char config[] =
        "{\"indexConfigs\":{\"title\":{\"type\":\"text\"},\"n\":{\"type\":\"long\"},"
        "\"v\":{\"type\":\"vector\",\"dimensions\":2,\"similarity\":\"euclidean\"}}}";
    struct engine *e = fresh();
    if (e && engine_create(e, "c", config, c, &err)) fprintf(stderr, "engine_create: %s\n", err.text);
    return e;
}

TEST(same_answers_in_every_state) {
    struct collection_info c;
    struct engine *e = start(&c);
    CHECK(e);
    write_docs(e, c.cid, 0, N_DOCS, " old");
    write_docs(e, c.cid, 0, N_DOCS, "");
    CHECK(put(e, c.cid, INGEST_DELETE, "{\"ids\":[\"d7\",\"d31\"]}") == 1);
    for (int i = 0; i < N_SPECS; i++)
        snprintf(expected[i], sizeof expected[i], "%s", ask_live(e, c.cid, specs[i]));
    CHECK(strstr(expected[0], ":") && strstr(expected[4], "d3:"));
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK(!differ(e, c.cid));
    write_docs(e, c.cid, 10, 31, "");
    CHECK(!differ(e, c.cid));
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    write_docs(e, c.cid, 32, 50, "");
    for (uint32_t shards = 1; shards <= 7; shards += 3) {
        CHECK_OK(engine_set_shards(e, c.cid, shards, &err));
        CHECK(!differ(e, c.cid));
    }
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    CHECK_OK(engine_merge(e, c.cid, true, &err));
    CHECK(!differ(e, c.cid));
    done(e);
}

struct helper {
    int end;         /* atomic */
    uint64_t pieces; /* that it did */
};
static void *help(void *arg) {
    struct helper *h = arg;
    spare_begin_helping();
    while (!__atomic_load_n(&h->end, __ATOMIC_ACQUIRE)) h->pieces += spare_help();
    spare_end_helping();
    return NULL;
}

enum { LONG_DOCS = 12, LONG_DOC_SIZE = 18000 /* each is a block of its own */ };
static void make_long(char doc[LONG_DOC_SIZE], int i, int round) {
    int len = sprintf(doc, "{\"id\":\"d%d\",\"n\":%d,\"text\":\"", i, round);
    while (len < LONG_DOC_SIZE - 100) len += sprintf(doc + len, "%d ", i * 31 + round + len);
    strcpy(doc + len, "\"}");
}

/* How many of the documents of the answer are not what was written. */
static int count_wrong(struct engine *e, const char *cid, const char *spec, uint32_t n, int round) {
    static char doc[LONG_DOC_SIZE];
    struct query_request req;
    struct answer *a;
    struct view *v;
    int wrong = 0;
    query_request_init(&req);
    if (query_request_parse_spec(spec, strlen(spec), &req, &err) || engine_view_live(e, cid, true, &v, &err))
        return 1;
    int r = engine_query(e, v, "c", &req, NULL, &a, &err);
    for (uint32_t i = 0; !r && i < a->n_hits; i++) {
        const struct answer_hit *h = &a->hits[i];
        make_long(doc, atoi(h->id + 1), round);
        bool huge = !strcmp(h->id, "huge");
        wrong += huge ? h->doc_len < 300000 : strcmp(h->doc, doc) || h->doc_len != strlen(doc);
    }
    wrong += r || a->n_hits != n;
    if (!r) answer_free(a);
    view_unref(v);
    query_request_release(&req);
    return wrong;
}

static void put_huge(struct engine *e, const char *cid) {
    char *doc = malloc(400000);
    int len = sprintf(doc, "{\"id\":\"huge\",\"n\":7,\"text\":\"");
    memset(doc + len, 'x', 300000);
    strcpy(doc + len + 300000, "\"}");
    if (put(e, cid, INGEST_UPSERT, doc) != 1) fprintf(stderr, "put: %s %s\n", last_verdict, err.text);
    free(doc);
}

/* Documents that two threads read are those that were written, from the tail, from segments, while views come
 * and go; and where they are too much for that, or share a block. */
TEST(documents_with_help) {
    static char doc[LONG_DOC_SIZE];
    struct collection_info c;
    struct engine *e = start(&c);
    pthread_t thread;
    struct helper helper = {0};
    int wrong = 0;
    CHECK(e && !pthread_create(&thread, NULL, help, &helper));
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < LONG_DOCS; i++) {
            make_long(doc, i, round);
            wrong += put(e, c.cid, INGEST_UPSERT, doc) != 1;
        }
        for (int i = 0; i < 100; i++) {
            wrong += count_wrong(e, c.cid, "*:*?size=64", LONG_DOCS, round);
            wrong += count_wrong(e, c.cid, "*:*?size=5&from=3", 5, round);
            if (i == 50 && engine_build(e, c.cid, NULL, &err)) wrong++;
        }
    }
    put_huge(e, c.cid);
    wrong += count_wrong(e, c.cid, "*:*?size=64", LONG_DOCS + 1, 5);
    write_docs(e, c.cid, 0, N_DOCS, "");
    CHECK(strstr(ask_live(e, c.cid, "title:whale?size=64"), "d0:"));
    __atomic_store_n(&helper.end, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    spare_tidy();
    done(e);
    CHECK(wrong == 0 && helper.pieces > 0);
}

/* Of two parts, so that the words are those of both. */
TEST(delete_by_filter) {
    struct collection_info c;
    struct engine *e = start(&c);
    CHECK(e);
    write_docs(e, c.cid, 0, 30, "");
    CHECK_OK(engine_build(e, c.cid, NULL, &err));
    write_docs(e, c.cid, 30, N_DOCS, "");
    CHECK(strstr(ask_live(e, c.cid, "title:whale~1?size=100"), "d"));
    CHECK(put(e, c.cid, INGEST_DELETE, "{\"filter\":\"title:whale~1\"}") == 1);
    CHECK(!*ask_live(e, c.cid, "title:whale~1?size=100"));
    CHECK(put(e, c.cid, INGEST_DELETE, "{\"filter\":{\"queryString\":{\"query\":\"title:/sh.p/\"}}}") == 1);
    CHECK(!*ask_live(e, c.cid, "title:ship title:shop?size=100"));
    CHECK(*ask_live(e, c.cid, "*:*?size=100"));
    CHECK(put(e, c.cid, INGEST_DELETE,
              "{\"filter\":{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":1}}}") == 0);
    CHECK(strstr(last_verdict, "kNN") || strstr(err.text, "kNN"));
    done(e);
}
