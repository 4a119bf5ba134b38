/* The cleaner. Order: raise the horizon, then look at pins and roots; expire roots; then, holding a
 * collection's build and merge leases so that nothing of it can be in flight, remove objects that no root
 * reaches. Candidates are listed before the roots are walked: an object that becomes reachable in between is
 * reached by the walk. */
#include "fn/reach.h"
#include "fn/upkeep.h"
#include "fn/view.h"

#include <stdio.h>

struct cleaning {
    struct core *core;
    int64_t now_ms, retention_ms, grace_ms;
    struct clean_result *result;
    struct err *err;
    struct string_set known; /* collection ids in the catalog */
};

/* ---- root versions ---- */

struct root_scan {
    struct cleaning *c;
    const struct catalog_record *rec;
    char key[64];
    int64_t horizon_ms; /* commit time of the version that was current at the cutoff */
    bool found;
    bool purge;
};

static int find_horizon(void *p, const struct object_info *info) {
    struct root_scan *s = p;
    if (strcmp(info->key, s->key) || s->found || info->mtime_ms > s->c->now_ms - s->c->retention_ms) return 0;
    struct tree *t;
    int r = tree_load_root(s->c->core->objects, info->key, info->version, &t, s->c->err);
    if (r) return r;
    s->horizon_ms = t->commit_ms;
    s->found = true;
    tree_unref(t);
    return 0;
}

static int expire_root(void *p, const struct object_info *info) {
    struct root_scan *s = p;
    struct core *core = s->c->core;
    bool pinned = false;
    if (strcmp(info->key, s->key) || (info->is_latest && !s->purge)) return 0;
    if (!s->purge) {
        struct tree *t;
        int r = tree_load_root(core->objects, info->key, info->version, &t, s->c->err);
        if (r) return r;
        bool keep = t->commit_ms >= s->horizon_ms;
        tree_unref(t);
        if (!keep) r = catalog_pinned(core, s->rec->cid, info->version, &pinned, s->c->err);
        if (r || keep || pinned) return r;
    }
    int r = object_delete_version(core->objects, info->key, info->version, s->c->err);
    if (!r) s->c->result->roots++;
    return r;
}

static int expire_roots(struct cleaning *c, const struct catalog_record *rec) {
    struct root_scan s = {.c = c, .rec = rec};
    snprintf(s.key, sizeof s.key, "roots/%s", rec->cid);
    int r = object_list_versions(c->core->objects, s.key, find_horizon, &s, c->err);
    if (r || !s.found) return r;
    r = catalog_raise_horizon(c->core, rec->cid, s.horizon_ms, c->err);
    return r ? r : object_list_versions(c->core->objects, s.key, expire_root, &s, c->err);
}

/* ---- collections that are over ---- */

static int delete_version(void *p, const struct object_info *info) {
    struct cleaning *c = p;
    return object_delete_version(c->core->objects, info->key, info->version, c->err);
}

static int purge(struct cleaning *c, const struct catalog_record *rec) {
    struct root_scan s = {.c = c, .rec = rec, .purge = true};
    char prefix[64];
    snprintf(s.key, sizeof s.key, "roots/%s", rec->cid);
    snprintf(prefix, sizeof prefix, "named/%s/", rec->cid);
    int r = object_list_versions(c->core->objects, s.key, expire_root, &s, c->err);
    if (!r) r = object_list_versions(c->core->objects, prefix, delete_version, c, c->err);
    if (!r) r = c->core->logs->ops->remove_log(c->core->logs, rec->cid, c->err);
    if (!r) r = catalog_purge(c->core, rec, c->err);
    if (!r) c->result->collections++;
    return r;
}

static int clean_collection(void *p, const struct catalog_record *rec) {
    struct cleaning *c = p;
    bool over = rec->status == COLL_PURGING ||
                (rec->status == COLL_TRASH && rec->dropped_ms + c->retention_ms <= c->now_ms) ||
                (rec->status == COLL_CREATING && rec->created_ms + MAX(c->grace_ms, 60000) <= c->now_ms);
    if (!over) {
        string_set_add(&c->known, rec->cid);
        return rec->status == COLL_CREATING ? 0 : expire_roots(c, rec);
    }
    struct catalog_record next = *rec;
    next.status = COLL_PURGING;
    int r = rec->status == COLL_PURGING ? 0 : catalog_update(c->core, rec, &next, c->err);
    if (r == -ERR_CONFLICT) { /* un-dropped at the last moment */
        err_clear(c->err);
        return 0;
    }
    return r ? r : purge(c, &next);
}

/* ---- copies of roots under named/ ---- */

static int named_has(void *p, const struct catalog_named *named) {
    return !strcmp(named->key, p) ? 1 : 0;
}

static int log_is_built(struct core *core, const char *cid, bool *ret) {
    struct coll *coll;
    struct tree *t;
    uint64_t last;
    bool any;
    int r = core_coll(core, cid, &coll, NULL);
    if (!r) r = log_end(coll->log, &last, &any, NULL);
    if (!r) r = tree_load_root(core->objects, coll->root_key, NULL, &t, NULL);
    if (r) return r;
    *ret = !any || last <= t->committed_seq;
    tree_unref(t);
    return 0;
}

/* Leftovers of a crash: a copy without its catalog item, a restore's copy whose record is built. */
static int clean_named(void *p, const struct object_info *info) {
    struct cleaning *c = p;
    char cid[CID_LEN + 1], key[OBJECT_KEY_SIZE];
    bool gone = false;
    if (strlen(info->key) < 7 + CID_LEN || info->mtime_ms + c->grace_ms > c->now_ms) return 0;
    snprintf(cid, sizeof cid, "%.32s", info->key + 6);
    snprintf(key, sizeof key, "%s", info->key);
    if (!string_set_has(&c->known, cid))
        gone = true;
    else if (strstr(info->key, "/restore-")) {
        if (log_is_built(c->core, cid, &gone)) gone = false;
    } else {
        int r = catalog_named_list(c->core, cid, named_has, key, c->err);
        if (r < 0) return r;
        gone = r == 0;
    }
    return gone ? object_delete_version(c->core->objects, info->key, info->version, c->err) : 0;
}

/* ---- unreachable objects ---- */

struct candidate {
    char *key;
    char version[OBJECT_VERSION_SIZE];
    uint64_t size;
};
struct sweep {
    struct cleaning *c;
    struct candidate *items;
    size_t n, cap;
};

static int add_candidate(void *p, const struct object_info *info) {
    struct sweep *s = p;
    if (info->mtime_ms + s->c->grace_ms > s->c->now_ms) return 0;
    VEC_GROW(s->items, s->n, s->cap);
    struct candidate *item = &s->items[s->n++];
    item->key = xstrdup(info->key);
    memcpy(item->version, info->version, sizeof item->version);
    item->size = info->size;
    return 0;
}

/* Both leases of the collection an object belongs to, for as long as the sweep runs. */
struct hold {
    char cid[CID_LEN + 1], merge[CID_LEN + 8];
    struct coll *coll;
    uint64_t build_epoch, merge_epoch;
    bool held;
};

static bool take_hold(struct core *core, const char *cid, struct hold *h) {
    *h = (struct hold){0};
    snprintf(h->cid, sizeof h->cid, "%s", cid);
    snprintf(h->merge, sizeof h->merge, "%s/merge", cid);
    if (core_coll(core, cid, &h->coll, NULL) || pthread_mutex_trylock(&h->coll->build_lock)) return false;
    if (!pthread_mutex_trylock(&h->coll->merge_lock)) {
        if (!meta_lease_acquire(core->meta, cid, core->owner, 20 * LEASE_TTL_MS, &h->build_epoch, NULL)) {
            if (!meta_lease_acquire(core->meta, h->merge, core->owner, 20 * LEASE_TTL_MS, &h->merge_epoch,
                                    NULL))
                return h->held = true;
            meta_lease_release(core->meta, cid, core->owner, h->build_epoch, NULL);
        }
        pthread_mutex_unlock(&h->coll->merge_lock);
    }
    pthread_mutex_unlock(&h->coll->build_lock);
    return false;
}

static void drop_hold(struct core *core, struct hold *h) {
    if (!h->held) return;
    meta_lease_release(core->meta, h->merge, core->owner, h->merge_epoch, NULL);
    meta_lease_release(core->meta, h->cid, core->owner, h->build_epoch, NULL);
    pthread_mutex_unlock(&h->coll->merge_lock);
    pthread_mutex_unlock(&h->coll->build_lock);
}

static int remove_unreached(struct sweep *s, const struct reach *reach, const struct hold *holds,
                            size_t n_holds) {
    struct core *core = s->c->core;
    for (size_t i = 0; i < s->n; i++) {
        const struct candidate *item = &s->items[i];
        bool held = false;
        for (size_t k = 0; k < n_holds && !held; k++)
            held = holds[k].held && !strncmp(item->key + 5, holds[k].cid, CID_LEN);
        if (!held || string_set_has(&reach->objects, item->key)) continue;
        int r = object_delete_version(core->objects, item->key, item->version, s->c->err);
        if (r) return r;
        s->c->result->objects++;
        s->c->result->bytes += item->size;
    }
    return 0;
}

static int sweep(struct cleaning *c) {
    struct sweep s = {.c = c};
    struct reach reach = {0};
    struct reach_visitor visitor = {0};
    struct hold *holds = NULL;
    size_t n_holds = 0, cap_holds = 0;
    int r = object_list_versions(c->core->objects, "data/", add_candidate, &s, c->err);
    for (size_t i = 0; i < s.n && !r; i++) {
        char cid[CID_LEN + 1];
        snprintf(cid, sizeof cid, "%.32s", s.items[i].key + 5);
        if (n_holds && !strcmp(holds[n_holds - 1].cid, cid)) continue; /* keys come sorted */
        VEC_GROW(holds, n_holds, cap_holds);
        take_hold(c->core, cid, &holds[n_holds++]);
    }
    if (!r && s.n) r = reach_all(c->core, &visitor, &reach, c->err);
    if (!r && s.n) r = remove_unreached(&s, &reach, holds, n_holds);
    for (size_t i = n_holds; i-- > 0;) drop_hold(c->core, &holds[i]);
    for (size_t i = 0; i < s.n; i++) free(s.items[i].key);
    free(s.items);
    free(holds);
    reach_release(&reach);
    return r;
}

int clean_run(struct core *core, int64_t retention_ms, int64_t grace_ms, struct clean_result *ret,
              struct err *err) {
    struct err local = ERR_INIT;
    struct cleaning c = {.core = core, .grace_ms = grace_ms, .result = ret, .err = err ? err : &local};
    int r = 0;
    *ret = (struct clean_result){0};
    if (retention_ms < 0) r = catalog_retention_ms(core, &retention_ms, c.err);
    c.retention_ms = retention_ms;
    c.now_ms = clock_now_ms(core->clock);
    if (!r) r = catalog_list(core, clean_collection, &c, c.err);
    if (!r) r = object_list_versions(core->objects, "named/", clean_named, &c, c.err);
    if (!r) r = sweep(&c);
    string_set_release(&c.known);
    return r;
}
