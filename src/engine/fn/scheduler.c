/* The scheduler of a process: what EventBridge does on AWS. */
#include "fn/builder.h"
#include "fn/upkeep.h"
#include "util/thread.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    POLL_MS = 500,
    KEEPER_NICE = 10,      /* queries and builds come first */
    PENDING_POLL_MS = 50,  /* while there is something in a log */
    QUIET_MS = 50,         /* a log that did not grow for so long is quiet */
    QUIET_BYTES = 1 << 20, /* so much in a quiet log is not left to its age */
    MERGE_POLL_MS = 1000,
    SHARDS_EVERY_MS = 30000,
    CLEAN_EVERY_MS = 3600000,
    CLEAN_GRACE_MS = 3600000
};

struct scheduler {
    struct core *core;
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool woken; /* the builder is to look; by lock */
    volatile int stop;
    pthread_t builder, keeper;
    int64_t shards_at_ms, clean_at_ms;
};

static bool stopped(const struct scheduler *s) {
    return __atomic_load_n(&s->stop, __ATOMIC_RELAXED);
}

/* The active collections' ids. */
struct cid_list {
    char (*cids)[CID_LEN + 1];
    size_t n, cap;
};

static int add_cid(void *p, const struct catalog_record *rec) {
    struct cid_list *l = p;
    if (rec->status != COLL_ACTIVE) return 0;
    VEC_GROW(l->cids, l->n, l->cap);
    memcpy(l->cids[l->n++], rec->cid, sizeof rec->cid);
    return 0;
}

/* Intervals are monotonic: a clock that is set back must not stop the work. */
static int64_t now_ms(struct scheduler *s) {
    return clock_mono_us(s->core->clock) / 1000;
}

/* The edge of the background work: what cannot be said to a caller goes to the process's log. */
static void say(const char *what, const struct err *err) {
    fprintf(stderr, "ldbfs: %s: %s\n", what, err->text);
}

/* Is there enough in the log, or for long enough? Much that came in one go is built when it has ended.
 * *ret_pending: there is something. */
static bool build_due(struct scheduler *s, struct coll *coll, bool *ret_pending, struct err *err) {
    struct core *core = s->core;
    uint64_t last, bytes, committed = 0;
    bool any;
    struct tree *t;
    int r = log_end(coll->log, &last, &any, err);
    if (!r && (!any || last <= coll->built_seq)) return false;
    if (!r) r = tree_load_root(core->objects, coll->root_key, NULL, &t, err);
    if (r && r != -ERR_NOT_FOUND) {
        coll_set_error(coll, err);
        return false;
    }
    if (!r) {
        committed = t->committed_seq;
        tree_unref(t);
    }
    coll->built_seq = committed;
    if (last <= committed) {
        __atomic_store_n(&coll->pending_since_ms, 0, __ATOMIC_RELAXED);
        return false;
    }
    int64_t now = now_ms(s), since = __atomic_load_n(&coll->pending_since_ms, __ATOMIC_RELAXED);
    if (coll->grown_seq != last) {
        coll->grown_seq = last;
        coll->grown_ms = now;
    }
    if (!since) __atomic_store_n(&coll->pending_since_ms, since = now, __ATOMIC_RELAXED);
    if (core->build_age_ms >= 0 && now - since >= core->build_age_ms) return true;
    struct log_cursor cursor;
    if (pthread_mutex_trylock(&coll->build_lock)) return false; /* being built */
    cursor = coll->built_cursor;
    pthread_mutex_unlock(&coll->build_lock);
    if (cursor.next_seq != committed + 1) cursor = (struct log_cursor){.next_seq = committed + 1};
    if (log_pending_bytes(coll->log, &cursor, &bytes, err)) return false;
    *ret_pending |= bytes >= QUIET_BYTES;
    return bytes >= core->build_bytes ||
           (core->build_age_ms >= 0 && bytes >= QUIET_BYTES && now - coll->grown_ms >= QUIET_MS);
}

/* *ret_pending: as in build_due, of some collection. */
static void build_pass(struct scheduler *s, bool *ret_pending) {
    struct cid_list l = {0};
    struct err err = ERR_INIT;
    *ret_pending = false;
    if (catalog_list(s->core, add_cid, &l, &err)) say("could not list the collections", &err);
    for (size_t i = 0; i < l.n && !stopped(s); i++) {
        struct coll *coll;
        if (core_coll(s->core, l.cids[i], &coll, &err)) continue;
        err_clear(&err);
        if (!build_due(s, coll, ret_pending, &err)) continue;
        err_clear(&err);
        int r = builder_follow(coll, &err);
        if (!r)
            __atomic_store_n(&coll->pending_since_ms, 0, __ATOMIC_RELAXED);
        else if (r != -ERR_BUSY)
            coll_set_error(coll, &err);
    }
    free(l.cids);
}

/* Back-fills of all collections come before merges of any: until then queries on the new fields are refused.
 */
static void merge_pass(struct scheduler *s, enum merge_mode mode) {
    struct cid_list l = {0};
    struct err err = ERR_INIT;
    if (catalog_list(s->core, add_cid, &l, &err)) say("could not list the collections", &err);
    for (size_t i = 0; i < l.n && !stopped(s); i++) {
        struct coll *coll;
        bool did = !core_coll(s->core, l.cids[i], &coll, &err);
        while (did && !stopped(s)) {
            err_clear(&err);
            int r = merger_run(coll, mode, &s->stop, &did, &err);
            if (!r) continue;
            if (r != -ERR_BUSY && r != -ERR_CANCELED) coll_set_error(coll, &err);
            break;
        }
    }
    free(l.cids);
}

/* Sleeps until the time is over or the end; the builder also until it is woken. */
static void rest(struct scheduler *s, int ms, bool builder) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&s->lock);
    for (int e = 0; !e && !stopped(s) && !(builder && s->woken);)
        e = pthread_cond_timedwait(&s->work, &s->lock, &until);
    if (builder) s->woken = false;
    pthread_mutex_unlock(&s->lock);
}

void scheduler_wake(struct scheduler *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    if (!s->woken) pthread_cond_broadcast(&s->work);
    s->woken = true;
    pthread_mutex_unlock(&s->lock);
}

static void *builder_thread(void *p) {
    struct scheduler *s = p;
    while (!stopped(s)) {
        bool pending;
        build_pass(s, &pending);
        rest(s, pending ? PENDING_POLL_MS : POLL_MS, true);
    }
    return NULL;
}

static void *keeper_thread(void *p) {
    struct scheduler *s = p;
    setpriority(PRIO_PROCESS, (id_t)gettid(), KEEPER_NICE); /* of this thread alone, on Linux */
    while (!stopped(s)) {
        merge_pass(s, MERGE_BACKFILL);
        merge_pass(s, MERGE_POLICY);
        int64_t now = now_ms(s);
        if (now >= s->shards_at_ms) {
            struct err err = ERR_INIT;
            if (shards_adjust(s->core, &err)) say("could not adjust the shards", &err);
            s->shards_at_ms = now + SHARDS_EVERY_MS;
        }
        if (now >= s->clean_at_ms) {
            struct clean_result done;
            struct err err = ERR_INIT;
            if (clean_run(s->core, -1, CLEAN_GRACE_MS, &done, &err)) say("could not clean", &err);
            s->clean_at_ms = now + CLEAN_EVERY_MS;
        }
        rest(s, MERGE_POLL_MS, false);
    }
    return NULL;
}

static void scheduler_free(struct scheduler *s) {
    s->core->scheduler = NULL; /* the engine is being closed: nobody writes any more */
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    free(s);
}

static void stop_threads(struct scheduler *s) {
    pthread_mutex_lock(&s->lock);
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->builder, NULL);
}

int scheduler_start(struct core *core, struct scheduler **ret, struct err *err) {
    struct scheduler *s = xcalloc(1, sizeof *s);
    s->core = core;
    core->scheduler = s;
    s->clean_at_ms = now_ms(s) + CLEAN_EVERY_MS / 4;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attr);
    pthread_condattr_destroy(&attr);
    int e = thread_create(&s->builder, builder_thread, s);
    if (!e && (e = thread_create(&s->keeper, keeper_thread, s))) stop_threads(s);
    if (e) {
        scheduler_free(s);
        return err_sys(err, e, "could not start the threads that build and merge");
    }
    *ret = s;
    return 0;
}

void scheduler_stop(struct scheduler *s) {
    if (!s) return;
    stop_threads(s);
    pthread_join(s->keeper, NULL);
    scheduler_free(s);
}

/* ---- virtual shards ---- */

struct shards_ctx {
    struct core *core;
    struct err *err;
};

static int adjust_one(void *p, const struct catalog_record *rec) {
    struct shards_ctx *sc = p;
    struct tree *t;
    char key[64];
    if (rec->status != COLL_ACTIVE || rec->fixed_shards) return 0;
    snprintf(key, sizeof key, "roots/%s", rec->cid);
    if (tree_load_root(sc->core->objects, key, NULL, &t, NULL)) return 0;
    uint64_t want = (t->n_docs - t->n_deleted + SHARD_DOCS - 1) / SHARD_DOCS;
    tree_unref(t);
    struct catalog_record next = *rec;
    next.n_shards = (uint32_t)MIN(MAX(want, 1ull), (uint64_t)SHARDS_MAX);
    if (next.n_shards == rec->n_shards) return 0;
    int r = catalog_update(sc->core, rec, &next, sc->err);
    return r == -ERR_CONFLICT ? 0 : r; /* somebody changed the record: next time */
}

int shards_adjust(struct core *core, struct err *err) {
    struct shards_ctx sc = {core, err};
    return catalog_list(core, adjust_one, &sc, err);
}
