/* Random operations on a few collections against a trivial model: every document, query answers that must not
 * depend on what is built or merged or on the shard count, history. Seed: first number argument or
 * LDBFS_SEED; printed on failure. */
#include "engine.h"
#include "test.h"
#include "util/codec.h"

#include <ftw.h>
#include <unistd.h>

enum { IDS = 120, COLLS = 4, SNAPS = 6, STEPS = 700 };

static struct err err;
static uint64_t rng_state;

static uint32_t rnd(uint32_t n) {
    rng_state = rng_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(rng_state >> 33) % n;
}

struct state {
    int value[IDS]; /* 0 = absent */
};
struct snap {
    char version[VERSION_ID_SIZE];
    struct state state;
};
struct coll_model {
    bool used;
    char cid[CID_SIZE];
    struct state state;
    struct snap snaps[SNAPS];
    int n_snaps;
};

static char dir[64];
static struct engine *e;
static struct coll_model colls[COLLS];
static int names;

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static bool reopen(void) {
    struct engine_options o;
    engine_close(e);
    engine_options_init(&o);
    o.data_dir = dir;
    o.partition_bytes = 500;
    o.simulate_remote =
        rnd(2); /* every other life reads objects by requests, through a cache that holds nothing */
    o.cache_bytes = 1;
    o.batch_bytes = 3000; /* several batches a build, written side by side */
    e = NULL;
    return !engine_open(&o, &e, &err);
}

static void doc_text(int id, int value, char out[200]) {
    snprintf(out, 200,
             "{\"id\":\"k%03d\",\"n\":%d,\"w\":\"word%d common%s "
             "text\",\"tag\":\"t%d\",\"s\":{\"a%d\":%d.25,\"b\":1}}",
             id, value, value % 7, value % 3 ? " rare" : "", value % 5, value % 4, value % 60);
}

static void on_verdict(void *ctx, const struct ingest_verdict *v) {
    if (v->err.code) fprintf(stderr, "refused: %s\n", v->err.text);
}

static bool write_some(struct coll_model *c, enum ingest_op op) {
    struct ingest *in;
    struct ingest_record recs[40];
    static char text[40][200];
    size_t n = 0, want = 1 + rnd(op == INGEST_UPDATE ? 5 : 40);
    uint64_t good;
    for (size_t i = 0; i < want; i++) {
        int id = (int)rnd(IDS), value = 1 + (int)rnd(1000);
        if (op == INGEST_UPDATE && !c->state.value[id]) continue;
        if (op == INGEST_DELETE)
            snprintf(text[n], 200, "\"k%03d\"", id), value = 0;
        else
            doc_text(id, value, text[n]);
        c->state.value[id] = value;
        recs[n] = (struct ingest_record){text[n], strlen(text[n])};
        n++;
    }
    if (!n) return true;
    if (engine_ingest_open(e, c->cid, op, &in, &err)) return false;
    int r = ingest_add(in, recs, n, on_verdict, NULL, &good, &err);
    if (!r) r = ingest_commit(in, &err);
    ingest_close(in);
    return !r && good == n;
}

struct scan {
    struct view *v;
    const struct state *s;
    int next, bad;
};

static int scan_id(void *p, const char *id, size_t len) {
    struct scan *sc = p;
    struct buf b = BUF_INIT;
    char want[200], name[16];
    while (sc->next < IDS && !sc->s->value[sc->next]) sc->next++;
    snprintf(name, sizeof name, "k%03d", sc->next);
    if (sc->next == IDS || len != 4 || memcmp(id, name, 4)) return sc->bad = 1;
    doc_text(sc->next, sc->s->value[sc->next], want);
    if (view_doc(sc->v, id, len, &b, NULL, &err) || strcmp(buf_str(&b), want)) {
        fprintf(stderr, "doc %s: got %s want %s\n", name, b.len ? buf_str(&b) : err.text, want);
        sc->bad = 1;
    }
    buf_release(&b);
    sc->next++;
    return sc->bad;
}

static bool view_matches(struct view *v, const struct state *s) {
    struct scan sc = {.v = v, .s = s};
    uint64_t n = 0;
    for (int i = 0; i < IDS; i++) n += s->value[i] != 0;
    if (view_scan(v, NULL, 0, scan_id, &sc, &err)) return false;
    while (sc.next < IDS && !s->value[sc.next]) sc.next++;
    if (sc.next != IDS || sc.bad || view_documents(v) != n)
        fprintf(stderr, "scan stopped at %d (bad %d), %llu documents, model %llu\n", sc.next, sc.bad,
                (unsigned long long)view_documents(v), (unsigned long long)n);
    return sc.next == IDS && !sc.bad && view_documents(v) == n;
}

static const char *const specs[] = {
    "w:word3 w:rare?size=50",
    "common AND rare",
    "n:[100 TO 500]?sort=n:desc&size=30",
    "tag:t2 word1?size=100",
    "\"common rare\" -word2",
    "*:*?sort=tag,n:desc&size=60",
    "{\"sparseVector\":{\"field\":\"s\",\"queryVector\":{\"a1\":2,\"a3\":0.5,\"b\":9}}}"};

/* Every collection has a sparse field; every other one is divided by its tag. */
static const char *const schemas[] = {
    "{\"dynamic\":true,\"indexConfigs\":{\"s\":{\"type\":\"sparseVector\"}}}",
    "{\"dynamic\":true,\"indexConfigs\":{\"s\":{\"type\":\"sparseVector\"}},"
    "\"partitionConfig\":{\"fieldName\":\"tag\",\"dataType\":\"keyword\",\"numPartitions\":3}}"};

static bool answers(struct view *v, struct buf *out) {
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        struct query_request req;
        struct answer *a;
        query_request_init(&req);
        int r = query_request_parse_spec(specs[i], strlen(specs[i]), &req, &err);
        if (!r) r = engine_query(e, v, "c", &req, NULL, &a, &err);
        query_request_release(&req);
        if (r) {
            fprintf(stderr, "%s: %s\n", specs[i], err.text);
            return false;
        }
        buf_printf(out, "%s total %llu", specs[i], (unsigned long long)a->total);
        for (uint32_t h = 0; h < a->n_hits; h++) {
            uint32_t bits;
            memcpy(&bits, &a->hits[h].score, 4);
            buf_printf(out, " %s:%08x", a->hits[h].id, bits);
        }
        buf_addc(out, '\n');
        answer_free(a);
    }
    return true;
}

static bool check_live(struct coll_model *c) {
    struct view *v;
    if (engine_view_live(e, c->cid, true, &v, &err)) return false;
    bool ok = view_matches(v, &c->state);
    view_unref(v);
    return ok;
}

static bool check_snap(struct coll_model *c) {
    struct view *v;
    if (!c->n_snaps) return true;
    struct snap *s = &c->snaps[rnd((uint32_t)c->n_snaps)];
    if (engine_view_version(e, c->cid, s->version, &v, &err)) return false;
    bool ok = view_matches(v, &s->state);
    view_unref(v);
    return ok;
}

/* The same answers before and after something that must not matter. */
static bool unchanged(struct coll_model *c, int (*what)(struct coll_model *)) {
    struct buf before = BUF_INIT, after = BUF_INIT;
    struct view *v;
    bool any = false;
    for (int i = 0; i < IDS; i++) any |= c->state.value[i] != 0;
    if (!any) return !what(c);
    if (engine_view_live(e, c->cid, true, &v, &err)) return false;
    bool ok = answers(v, &before);
    view_unref(v);
    if (what(c) || engine_view_live(e, c->cid, true, &v, &err)) return false;
    ok = ok && answers(v, &after) && before.len == after.len && !memcmp(before.data, after.data, before.len);
    if (!ok) fprintf(stderr, "before:\n%s\nafter:\n%s\n", buf_str(&before), buf_str(&after));
    view_unref(v);
    buf_release(&before);
    buf_release(&after);
    return ok;
}

static int do_build(struct coll_model *c) {
    return engine_build(e, c->cid, NULL, &err);
}
static int do_merge(struct coll_model *c) {
    return engine_merge(e, c->cid, rnd(2), &err);
}
static int do_shards(struct coll_model *c) {
    return engine_set_shards(e, c->cid, 1 + rnd(7), &err);
}
static int do_reopen(struct coll_model *c) {
    return reopen() ? 0 : -1;
}

static struct coll_model *free_slot(void) {
    for (int i = 0; i < COLLS; i++)
        if (!colls[i].used) return &colls[i];
    return NULL;
}

static bool take_snap(struct coll_model *c) {
    struct snapshot_info info;
    char name[32];
    snprintf(name, sizeof name, "s%d", names++);
    if (rnd(2)) {
        if (engine_snapshot_create(e, c->cid, name, &info, &err)) return false;
    } else if (engine_build(e, c->cid, NULL, &err) ||
               engine_snapshot_resolve(e, c->cid, "latest", &info, &err))
        return err.code == ERR_NOT_FOUND; /* nothing was ever written */
    struct snap *s = &c->snaps[c->n_snaps < SNAPS ? c->n_snaps++ : (int)rnd(SNAPS)];
    memcpy(s->version, info.version, sizeof s->version);
    s->state = c->state;
    return true;
}

static bool clone_one(struct coll_model *c) {
    struct coll_model *to = free_slot();
    struct collection_info info;
    char name[32];
    if (!to) return true;
    const struct snap *s = c->n_snaps && rnd(3) ? &c->snaps[rnd((uint32_t)c->n_snaps)] : NULL;
    snprintf(name, sizeof name, "clone%d", names++);
    if (engine_clone(e, c->cid, s ? s->version : "", name, &info, &err)) return false;
    memset(to, 0, sizeof *to);
    to->used = true;
    memcpy(to->cid, info.cid, sizeof to->cid);
    to->state = s ? s->state : c->state;
    return true;
}

static bool drop_one(struct coll_model *c) {
    struct collection_info info;
    char name[NAME_SIZE];
    if (engine_find_cid(e, c->cid, &info, &err)) return false;
    memcpy(name, info.name, sizeof name);
    if (engine_drop(e, c->cid, 0, &err)) return false;
    if (rnd(2)) return !engine_trash_restore(e, name, name, &info, &err) && !strcmp(info.cid, c->cid);
    c->used = false;
    return true;
}

static void note(void *ctx, const char *text) {
    fprintf(stderr, "check: %s\n", text);
}

static bool clean_all(void) {
    struct clean_result done;
    uint64_t objects, problems;
    for (int i = 0; i < COLLS; i++) { /* only what is named by a user survives a retention of 0 */
        int n = 0;
        for (int k = 0; k < colls[i].n_snaps; k++)
            if (!strncmp(colls[i].snaps[k].version, "named:", 6)) colls[i].snaps[n++] = colls[i].snaps[k];
        colls[i].n_snaps = n;
    }
    return !engine_clean(e, 0, 0, &done, &err) && !engine_check(e, note, NULL, &objects, &problems, &err) &&
           !problems;
}

static bool step(void) {
    struct coll_model *c = &colls[rnd(COLLS)];
    struct collection_info info;
    char name[32];
    if (!c->used) {
        snprintf(name, sizeof name, "c%d", names++);
        if (engine_create(e, name, schemas[names % 2], &info, &err)) return false;
        memset(c, 0, sizeof *c);
        c->used = true;
        memcpy(c->cid, info.cid, sizeof c->cid);
        return true;
    }
    switch (rnd(24)) {
    case 0:
    case 1:
    case 2:
    case 3:
        return write_some(c, INGEST_UPSERT);
    case 4:
    case 5:
        return write_some(c, INGEST_DELETE);
    case 6:
    case 7:
        return write_some(c, INGEST_UPDATE);
    case 8:
    case 9:
        return unchanged(c, do_build);
    case 10:
        return unchanged(c, do_merge);
    case 11:
        return unchanged(c, do_shards);
    case 12:
        return unchanged(c, do_reopen);
    case 13:
    case 14:
        return take_snap(c);
    case 15:
        return clone_one(c);
    case 16:
        if (!c->n_snaps) return true;
        const struct snap *s = &c->snaps[rnd((uint32_t)c->n_snaps)];
        c->state = s->state;
        return !engine_restore(e, c->cid, s->version, &err);
    case 17:
        return drop_one(c);
    case 18:
        snprintf(name, sizeof name, "r%d", names++);
        return !engine_rename(e, c->cid, name, &err);
    case 19:
        return rnd(4) || clean_all();
    case 20:
        return check_snap(c);
    default:
        return check_live(c);
    }
}

TEST(random_operations) {
    const char *seed = getenv("LDBFS_SEED");
    rng_state =
        seed ? strtoull(seed, NULL, 10) : (uint64_t)getpid() * 7919 + (uint64_t)clock_now_ms(&clock_system);
    uint64_t start = rng_state;
    snprintf(dir, sizeof dir, "/tmp/ldbfs-model-XXXXXX");
    CHECK(mkdtemp(dir) && reopen());
    const char *steps = getenv("LDBFS_STEPS");
    for (int i = 0, n = steps ? atoi(steps) : STEPS; i < n; i++) {
        err_clear(&err);
        if (step()) continue;
        fprintf(stderr, "LDBFS_SEED=%llu fails at step %d: %s\n", (unsigned long long)start, i, err.text);
        CHECK(!"model and engine agree");
    }
    CHECK(clean_all());
    for (int i = 0; i < COLLS; i++) CHECK(!colls[i].used || check_live(&colls[i]));
    engine_close(e);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
