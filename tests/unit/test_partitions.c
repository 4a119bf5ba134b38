/* A partitioned collection beside one without partitions that is given the same: answers must be bit-equal,
 * with a partition filter equal to a filter by the values of those partitions, and few segments searched. */
#include "engine.h"
#include "fn/split.h"
#include "test.h"
#include "util/codec.h"

#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

enum { IDS = 150, TENANTS = 12, MAX_QUERY = 3000 };

static char dir[64];
static struct err err;
static struct engine *e;
static char parted[CID_SIZE], plain[CID_SIZE];
static uint32_t n_partitions;
static uint64_t rng_state = 4711;
static bool remote; /* the object store is read by requests */

static uint32_t rnd(uint32_t n) {
    rng_state = rng_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(rng_state >> 33) % n;
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static bool reopen(const char *fault) {
    struct engine_options o;
    engine_close(e);
    engine_options_init(&o);
    o.data_dir = dir;
    o.partition_bytes = 700;
    o.object_fault = fault;
    o.simulate_remote = remote;
    e = NULL;
    return !engine_open(&o, &e, &err);
}

static bool set_up(uint32_t partitions) {
    struct collection_info info;
    char schema[400];
    const char *fields =
        "\"dynamic\":false,\"indexConfigs\":{\"n\":{\"type\":\"long\"},\"w\":{\"type\":\"text\"},"
        "\"tenant\":{\"type\":\"keyword\"},\"s\":{\"type\":\"sparseVector\"},"
        "\"v\":{\"type\":\"vector\",\"dimensions\":2,\"similarity\":\"euclidean\"}}";
    n_partitions = partitions;
    snprintf(dir, sizeof dir, "/tmp/ldbfs-parts-XXXXXX");
    if (!mkdtemp(dir) || !reopen(NULL)) return false;
    snprintf(
        schema, sizeof schema,
        "{%s,\"partitionConfig\":{\"fieldName\":\"tenant\",\"dataType\":\"keyword\",\"numPartitions\":%u}}",
        fields, partitions);
    if (engine_create(e, "parted", schema, &info, &err)) return false;
    memcpy(parted, info.cid, sizeof parted);
    snprintf(schema, sizeof schema, "{%s}", fields);
    if (engine_create(e, "plain", schema, &info, &err)) return false;
    memcpy(plain, info.cid, sizeof plain);
    return true;
}

static void tear_down(void) {
    engine_close(e);
    e = NULL;
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void on_verdict(void *ctx, const struct ingest_verdict *v) {
    if (v->err.code) fprintf(stderr, "refused: %s\n", v->err.text);
}

static bool write_one(const char *cid, enum ingest_op op, const struct ingest_record *recs, size_t n) {
    struct ingest *in;
    uint64_t good;
    if (engine_ingest_open(e, cid, op, &in, &err)) return false;
    int r = ingest_add(in, recs, n, on_verdict, NULL, &good, &err);
    if (!r) r = ingest_commit(in, &err);
    ingest_close(in);
    return !r && good == n;
}

static bool alive[IDS];

static void doc_text(uint32_t id, char out[400]) {
    char tenant[40] = "";
    if (rnd(6)) snprintf(tenant, sizeof tenant, "\"tenant\":\"t%u\",", rnd(TENANTS));
    snprintf(out, 400,
             "{\"id\":\"k%03u\",%s\"n\":%u,\"w\":\"word%u "
             "common%s\",\"s\":{\"a%u\":%u.5,\"b%u\":1},\"v\":[%u,%u]}",
             id, tenant, rnd(100), rnd(9), rnd(3) ? "" : " rare", rnd(5), rnd(60), rnd(5), rnd(100),
             rnd(100));
}

/* The same records into both collections. */
static bool write_some(uint32_t max) {
    static char text[IDS][400];
    static struct ingest_record recs[IDS];
    enum ingest_op op =
        (enum ingest_op[]){INGEST_UPSERT, INGEST_UPSERT, INGEST_UPDATE, INGEST_DELETE}[rnd(4)];
    size_t n = 0;
    for (uint32_t i = 1 + rnd(max); i; i--) {
        uint32_t id = rnd(IDS);
        if (op == INGEST_UPDATE && !alive[id]) continue;
        if (op == INGEST_UPSERT)
            doc_text(id, text[n]);
        else if (op == INGEST_DELETE)
            snprintf(text[n], 400, "\"k%03u\"", id);
        else if (rnd(5))
            snprintf(text[n], 400, "{\"id\":\"k%03u\",\"tenant\":\"t%u\"}", id, rnd(TENANTS)); /* moves */
        else
            snprintf(text[n], 400, "{\"id\":\"k%03u\",\"tenant\":null}", id);
        alive[id] = op != INGEST_DELETE;
        recs[n] = (struct ingest_record){text[n], strlen(text[n])};
        n++;
    }
    return !n || (write_one(parted, op, recs, n) && write_one(plain, op, recs, n));
}

/* ---- queries ---- */

static const char *const queries[] = {
    "{\"queryString\":{\"query\":\"w:common\"}}",
    "{\"queryString\":{\"query\":\"word1 word2 rare\",\"defaultField\":\"w\"}}",
    "{\"queryString\":{\"query\":\"*:* -w:rare\"}}",
    "{\"queryString\":{\"query\":\"n:[20 TO 70]\"}}",
    "{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"a1\":2.25,\"a3\":0.125,\"b2\":7,\"b4\":3}}}",
    "{\"bool\":[{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"a0\":1,\"b0\":1}},\"boost\":2},"
    "{\"queryString\":{\"query\":\"w:word3\"}}]}",
};

static bool answer(const char *cid, const char *body, struct buf *out) {
    struct query_request req;
    struct answer *a = NULL;
    struct view *v;
    buf_clear(out);
    query_request_init(&req);
    int r = query_request_parse_json(body, strlen(body), &req, &err);
    if (!r) r = engine_view_live(e, cid, true, &v, &err);
    if (!r) {
        r = engine_query(e, v, "c", &req, NULL, &a, &err);
        view_unref(v);
    }
    query_request_release(&req);
    if (r) {
        fprintf(stderr, "%s: %s\n", body, err.text);
        return false;
    }
    buf_printf(out, "total %llu", (unsigned long long)a->total);
    for (uint32_t h = 0; h < a->n_hits; h++) {
        uint32_t bits;
        memcpy(&bits, &a->hits[h].score, 4);
        buf_printf(out, " %s:%08x", a->hits[h].id, bits);
    }
    answer_free(a);
    return true;
}

static bool same_answers(const char *parted_body, const char *plain_body) {
    struct buf a = BUF_INIT, b = BUF_INIT;
    bool ok =
        answer(parted, parted_body, &a) && answer(plain, plain_body, &b) && !strcmp(buf_str(&a), buf_str(&b));
    if (!ok) fprintf(stderr, "%s\n  %s\n%s\n  %s\n", parted_body, buf_str(&a), plain_body, buf_str(&b));
    buf_release(&a);
    buf_release(&b);
    return ok;
}

static uint32_t partition_of(uint32_t tenant) {
    char name[16];
    snprintf(name, sizeof name, "t%u", tenant);
    return 1 + (uint32_t)(hash64(name, strlen(name), 0) % n_partitions);
}

/* For two tenants: the filter of their partitions, and the query string of all tenants that are in these. */
static void filter_of(uint32_t x, uint32_t y, char filter[100], char clause[200]) {
    snprintf(filter, 100, "\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"t%u\",\"t%u\"]}", x, y);
    size_t at = (size_t)snprintf(clause, 200, "tenant:(");
    for (uint32_t t = 0; t < TENANTS; t++)
        if (partition_of(t) == partition_of(x) || partition_of(t) == partition_of(y))
            at += (size_t)snprintf(clause + at, 200 - at, "t%u ", t);
    snprintf(clause + at, 200 - at, ")");
}

static bool check_query(const char *q) {
    char filter[100], clause[200], left[MAX_QUERY], right[MAX_QUERY];
    snprintf(left, sizeof left, "{\"query\":%s,\"size\":200}", q);
    if (!same_answers(left, left)) return false;
    filter_of(rnd(TENANTS), rnd(TENANTS), filter, clause);
    snprintf(left, sizeof left, "{\"query\":%s,\"size\":200,%s}", q, filter);
    char *inner = strndup(q + 1, strlen(q) - 2);
    snprintf(right, sizeof right,
             "{\"query\":{\"bool\":[{%s,\"occur\":\"must\"},{\"queryString\":{\"query\":\"%s\"},\"occur\":"
             "\"filter\"}]},\"size\":200}",
             inner, clause);
    free(inner);
    return same_answers(left, right);
}

/* The filter applies before the search: k neighbours within the partitions. */
static bool check_knn(void) {
    char filter[100], clause[200], left[MAX_QUERY], right[MAX_QUERY];
    filter_of(rnd(TENANTS), rnd(TENANTS), filter, clause);
    snprintf(left, sizeof left, "{\"query\":{\"knn\":{\"field\":\"v\",\"queryVector\":[50,50],\"k\":7}},%s}",
             filter);
    snprintf(right, sizeof right,
             "{\"query\":{\"knn\":{\"field\":\"v\",\"queryVector\":[50,50],\"k\":7,\"filter\":\"%s\"}}}",
             clause);
    return same_answers(left, right);
}

static bool check_all(void) {
    for (size_t i = 0; i < ARRAY_SIZE(queries); i++)
        if (!check_query(queries[i])) return false;
    return check_knn();
}

static void note(void *ctx, const char *text) {
    fprintf(stderr, "check: %s\n", text);
}

static bool sound(void) {
    uint64_t objects, problems;
    return !engine_check(e, note, NULL, &objects, &problems, &err) && !problems;
}

/* Deletes by filter, the same with and without partitions. */
static bool delete_some(void) {
    char filter[100], clause[200], left[500], right[500];
    struct view *v;
    filter_of(rnd(TENANTS), rnd(TENANTS), filter, clause);
    snprintf(left, sizeof left, "{\"filter\":\"n:[0 TO 40]\",%s}", filter);
    snprintf(right, sizeof right, "{\"filter\":\"+n:[0 TO 40] +%s\"}", clause);
    bool ok = write_one(parted, INGEST_DELETE, &(struct ingest_record){left, strlen(left)}, 1) &&
              write_one(plain, INGEST_DELETE, &(struct ingest_record){right, strlen(right)}, 1) &&
              !engine_view_live(e, parted, true, &v, &err);
    if (!ok) return false;
    for (uint32_t id = 0; id < IDS; id++) {
        char name[16];
        snprintf(name, sizeof name, "k%03u", id);
        alive[id] = !view_doc(v, name, 4, NULL, &(struct doc_info){0}, &err);
        err_clear(&err);
    }
    view_unref(v);
    return check_all();
}

static bool random_steps(int n) {
    for (int i = 0; i < n; i++) {
        bool ok = true;
        switch (rnd(10)) {
        case 0:
        case 1:
            ok = !engine_build(e, parted, NULL, &err) && (rnd(2) || !engine_build(e, plain, NULL, &err));
            break;
        case 2:
            ok = !engine_merge(e, parted, rnd(3) == 0, &err);
            break;
        case 5:
            ok = rnd(2) || delete_some();
            break;
        case 3:
            ok = !engine_set_shards(e, parted, 1 + rnd(4), &err);
            break;
        case 4:
            ok = reopen(NULL);
            break;
        default:
            ok = write_some(rnd(3) ? 15 : IDS);
        }
        if (ok && rnd(3) == 0) ok = check_all();
        if (ok) continue;
        fprintf(stderr, "step %d: %s\n", i, err.text);
        return false;
    }
    return !engine_build(e, NULL, NULL, &err) && check_all() && !engine_merge(e, NULL, true, &err) &&
           check_all() && sound();
}

TEST(few_partitions) {
    memset(alive, 0, sizeof alive);
    CHECK(set_up(5));
    CHECK(random_steps(120));
    tear_down();
}

TEST(many_partitions) {
    memset(alive, 0, sizeof alive);
    CHECK(set_up(1024));
    CHECK(random_steps(80));
    tear_down();
}

static bool merging;

static void *merge_on(void *p) {
    struct err mine = ERR_INIT;
    while (__atomic_load_n(&merging, __ATOMIC_RELAXED)) {
        if (engine_merge(e, parted, true, &mine) && mine.code != ERR_BUSY)
            fprintf(stderr, "merge: %s\n", mine.text);
        err_clear(&mine);
    }
    return NULL;
}

/* Documents that die while a merge divides their segment are dead in whichever part they end up in. */
TEST(merge_while_writing) {
    pthread_t thread;
    memset(alive, 0, sizeof alive);
    CHECK(set_up(7));
    merging = true;
    CHECK(!pthread_create(&thread, NULL, merge_on, NULL));
    bool ok = true;
    for (int i = 0; i < 60 && ok; i++) ok = write_some(IDS) && !engine_build(e, parted, NULL, &err);
    __atomic_store_n(&merging, false, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    if (!ok) fprintf(stderr, "%s\n", err.text);
    CHECK(ok);
    CHECK_OK(engine_build(e, plain, NULL, &err));
    CHECK(check_all() && sound());
    tear_down();
}

static uint64_t searched(const char *body) {
    struct engine_counters before, after;
    struct buf out = BUF_INIT;
    engine_counters(e, &before);
    bool ok = answer(parted, body, &out);
    engine_counters(e, &after);
    buf_release(&out);
    return ok ? after.segments_searched - before.segments_searched : UINT64_MAX;
}

TEST(only_needed_segments) {
    static char text[IDS][400];
    struct ingest_record recs[IDS];
    CHECK(set_up(16));
    for (uint32_t i = 0; i < IDS; i++) {
        snprintf(text[i], 400,
                 "{\"id\":\"k%03u\",\"tenant\":\"t%u\",\"w\":\"common text that has some length\"}", i,
                 i % 2 ? 1 : 7);
        recs[i] = (struct ingest_record){text[i], strlen(text[i])};
    }
    CHECK(partition_of(1) != partition_of(7));
    CHECK(write_one(parted, INGEST_UPSERT, recs, IDS) && write_one(plain, INGEST_UPSERT, recs, IDS));
    const char *all = "{\"query\":\"w:common\"}";
    const char *one =
        "{\"query\":\"w:common\",\"size\":200,\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"t7\"]}}";
    const char *none = "{\"query\":\"w:common\",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"t3\"]}}";
    CHECK(partition_of(3) != partition_of(1) && partition_of(3) != partition_of(7));
    CHECK(searched(all) == 1 && searched(none) == 0); /* the log alone */
    CHECK_OK(engine_build(e, parted, NULL, &err));
    CHECK(searched(all) == 2 && searched(one) == 1 && searched(none) == 0);
    CHECK(same_answers(one,
                       "{\"query\":{\"bool\":[{\"queryString\":{\"query\":\"w:common\"},\"occur\":\"must\"},"
                       "{\"queryString\":{\"query\":\"tenant:t7\"},\"occur\":\"filter\"}]},\"size\":200}"));
    /* A document that moves is in its new partition only. */
    const char *move = "{\"id\":\"k001\",\"tenant\":\"t7\"}";
    CHECK(write_one(parted, INGEST_UPDATE, &(struct ingest_record){move, strlen(move)}, 1));
    for (int built = 0; built < 2; built++) {
        struct buf out = BUF_INIT;
        CHECK(answer(parted, one, &out) && !strncmp(buf_str(&out), "total 76 ", 9) &&
              strstr(buf_str(&out), " k001:"));
        CHECK(answer(
            parted,
            "{\"query\":\"*:*\",\"size\":200,\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"t1\"]}}",
            &out));
        CHECK(!strncmp(buf_str(&out), "total 74 ", 9) && !strstr(buf_str(&out), " k001:"));
        buf_release(&out);
        CHECK_OK(engine_build(e, parted, NULL, &err));
    }
    CHECK(sound());
    tear_down();
}

/* Many documents of one tenant, few of another. */
static bool write_unequal(void) {
    enum { MANY = 80000, FEW = 100, SIZE = 160 };
    struct ingest_record *recs = calloc(MANY + FEW, sizeof *recs);
    char *text = malloc((size_t)(MANY + FEW) * SIZE);
    for (uint32_t i = 0; i < MANY + FEW; i++) {
        char *t = text + (size_t)i * SIZE;
        recs[i].data = t;
        recs[i].len = (size_t)snprintf(
            t, SIZE, "{\"id\":\"%08x%05u\",\"tenant\":\"t%u\",\"w\":\"common w%x\",\"n\":%u,\"v\":[%u,%u]}",
            rnd(1u << 31), i, i < MANY ? 1 : 7, rnd(1u << 20), rnd(1u << 30), 1 + rnd(1u << 20),
            rnd(1u << 20));
    }
    bool ok = write_one(parted, INGEST_UPSERT, recs, MANY + FEW) && !engine_build(e, parted, NULL, &err);
    free(text);
    free(recs);
    return ok;
}

/* The bytes that a query of an engine that knows nothing yet gets from the store. */
static uint64_t bytes_of(const char *body) {
    struct engine_counters before, after;
    struct buf out = BUF_INIT;
    remote = true;
    bool ok = reopen(NULL);
    remote = false;
    if (ok) engine_counters(e, &before);
    ok = ok && answer(parted, body, &out);
    if (ok) engine_counters(e, &after);
    buf_release(&out);
    return ok ? after.bytes_got - before.bytes_got : UINT64_MAX;
}

/* Of segments of other partitions nothing is read but what the statistics need: not the postings, columns,
 * vectors, ids and documents. */
TEST(only_needed_bytes) {
    static const char *const bodies[] = {
        "{\"query\":\"w:common\"%s}",
        "{\"query\":\"n:[5 TO 1000000]\",\"sort\":[{\"n\":\"asc\"}],\"facet\":[\"tenant\"]%s}",
        "{\"query\":{\"knn\":{\"field\":\"v\",\"queryVector\":[5,5],\"k\":5,\"filter\":\"w:common\"}}%s}",
    };
    static const char least[] =
        "{\"query\":\"*:*\",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"t3\"]}}";
    enum { SOME = 100000 }; /* what few documents may take, in pages of 64 KB */
    char all[300], one[300], none[300];
    CHECK(set_up(16) && write_unequal());
    CHECK(partition_of(1) != partition_of(7) && partition_of(3) != partition_of(1) &&
          partition_of(3) != partition_of(7));
    uint64_t opened = bytes_of(least);
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        snprintf(all, sizeof all, bodies[i], "");
        snprintf(one, sizeof one, bodies[i], ",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"t7\"]}");
        snprintf(none, sizeof none, bodies[i], ",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"t3\"]}");
        uint64_t for_all = bytes_of(all), for_one = bytes_of(one), for_none = bytes_of(none);
        bool ok = for_all != UINT64_MAX && for_none <= opened + SOME && for_one <= for_none + SOME &&
                  for_all > for_one + SOME;
        if (!ok)
            fprintf(stderr, "%s: opened %llu bytes, %llu for all, %llu for few, %llu for none\n", one,
                    (unsigned long long)opened, (unsigned long long)for_all, (unsigned long long)for_one,
                    (unsigned long long)for_none);
        CHECK(ok);
    }
    tear_down();
}

/* A builder that dies between its segments and the root leaves everything as it was; the next one finishes.
 */
TEST(crash_between_segments) {
    for (unsigned after = 0; after < 4; after++) {
        char fault[40];
        memset(alive, 0, sizeof alive);
        CHECK(set_up(5));
        CHECK(write_some(IDS) && write_some(IDS) && write_some(IDS));
        CHECK_OK(engine_build(e, plain, NULL, &err));
        snprintf(fault, sizeof fault, "put_file:%u:%u", after, 1 + after % 2);
        CHECK(reopen(fault));
        engine_build(e, parted, NULL, &err);
        err_clear(&err);
        CHECK(check_all());
        CHECK(reopen(NULL));
        CHECK(check_all());
        CHECK_OK(engine_build(e, parted, NULL, &err));
        CHECK(check_all() && sound());
        tear_down();
    }
}

static const char *refused(const char *body, const char *cid) {
    static char text[600];
    struct query_request req;
    struct answer *a;
    struct view *v;
    query_request_init(&req);
    text[0] = 0;
    int r = query_request_parse_json(body, strlen(body), &req, &err);
    if (!r) r = engine_view_live(e, cid, true, &v, &err);
    if (!r) {
        r = engine_query(e, v, "c", &req, NULL, &a, &err);
        view_unref(v);
        if (!r) answer_free(a);
    }
    query_request_release(&req);
    if (r) snprintf(text, sizeof text, "%s", err.text);
    err_clear(&err);
    return text;
}

TEST(refusals) {
    struct collection_info info;
    CHECK(set_up(4));
    const char *two = "{\"id\":\"x\",\"tenant\":[\"a\",\"b\"]}", *one = "{\"id\":\"x\",\"tenant\":[\"a\"]}";
    CHECK(!write_one(parted, INGEST_UPSERT, &(struct ingest_record){two, strlen(two)}, 1));
    CHECK(write_one(parted, INGEST_UPSERT, &(struct ingest_record){one, strlen(one)}, 1));
    CHECK(strstr(refused("{\"query\":\"*:*\",\"partitionFilter\":{\"field\":\"n\",\"in\":[\"a\"]}}", parted),
                 "partitionFilter.field: expected \"tenant\""));
    CHECK(strstr(refused("{\"query\":\"*:*\",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[]}}", parted),
                 "partitionFilter: expected"));
    CHECK(strstr(refused("{\"query\":\"*:*\",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[1]}}", parted),
                 "array of strings"));
    CHECK(strstr(
        refused("{\"query\":\"*:*\",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"a\"]}}", plain),
        "no partitions"));
    CHECK(!*refused(
        "{\"query\":\"*:*\",\"partitionFilter\":{\"field\":\"tenant\",\"in\":[\"\",\"a,b\",\"a\"]}}",
        parted));
    CHECK(engine_create(
              e, "bad",
              "{\"indexConfigs\":{\"t\":{\"type\":\"long\"}},\"partitionConfig\":{\"fieldName\":\"t\","
              "\"dataType\":\"keyword\",\"numPartitions\":4}}",
              &info, &err) == -ERR_INVALID);
    CHECK(strstr(err.text, "expected a keyword field"));
    err_clear(&err);
    CHECK_OK(engine_create(
        e, "implied",
        "{\"partitionConfig\":{\"fieldName\":\"t\",\"dataType\":\"keyword\",\"numPartitions\":4}}", &info,
        &err));
    tear_down();
}

/* ---- blocks and plans ---- */

TEST(blocks) {
    struct schema s = {.n_partitions = 1};
    for (uint32_t n = 2; n <= PARTITIONS_MAX; n++) {
        s.n_partitions = n;
        for (uint32_t p = 0; p <= n; p++) {
            uint32_t block = PARTITION_MIXED, depth = 0;
            while (!partition_is_single(block)) {
                uint32_t child = partition_child(&s, block, p);
                CHECK(partition_first(child) <= p && p <= partition_last(child));
                CHECK(partition_first(child) >= partition_first(block) &&
                      partition_last(child) <= partition_last(block));
                CHECK(child != block && ++depth <= 3);
                block = child;
            }
            CHECK(block == p);
        }
    }
}

TEST(plans) {
    static struct split split;
    static uint64_t bytes[PARTITIONS_MAX + 1];
    struct schema s = {0};
    for (int round = 0; round < 300; round++) {
        uint32_t n = 2 + rnd(PARTITIONS_MAX - 1);
        unsigned levels = rnd(2) ? 1 : 9;
        uint64_t total = 0;
        s.n_partitions = n;
        memset(bytes, 0, sizeof bytes);
        for (uint32_t i = 1 + rnd(n); i; i--) bytes[rnd(n + 1)] = 1 + rnd(1000);
        for (uint32_t p = 0; p <= n; p++) total += bytes[p];
        split_plan(&split, &s, PARTITION_MIXED, bytes, 500, levels);
        CHECK(split.n >= 1 && (levels > 1 || split.n <= PARTITION_FANOUT) &&
              split.n <= 2 * (total / 500) + 1);
        for (uint32_t p = 0; p <= n; p++) {
            if (!bytes[p]) continue;
            CHECK(split.segment[p] < split.n);
            uint32_t block = split.blocks[split.segment[p]];
            CHECK(partition_first(block) <= p && p <= partition_last(block));
        }
    }
}
