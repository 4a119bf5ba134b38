/* Fuzzy words, expressions and hybrids through the engine: the same answers unbuilt, half built, built,
 * merged and for any number of shards, and deletes by such filters. */
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

static void write_docs(struct engine *e, const char *cid, int from, int to, const char *extra) {
    static const char *const words[] = {"whale", "whales", "while", "wheel", "boat",
                                        "boats", "ship",   "coat",  "shop",  "whole"};
    for (int i = from; i < to; i++) {
        char doc[300];
        snprintf(doc, sizeof doc, "{\"id\":\"d%d\",\"title\":\"%s %s %s%s\",\"n\":%d,\"v\":[%d,%d]}", i,
                 words[i % 10], words[i * 7 / 3 % 10], words[i / 4 % 10], extra, i, i % 7 + 1, i % 5);
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
