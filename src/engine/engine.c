/* Composes the engine: picks and stacks the backends, and passes the public API on to the functions of the
 * system. */
#include "engine_internal.h"
#include "backend/object_store_disk.h"
#include "fn/catalog_cache.h"
#include "fn/deadline.h"
#include "index/page_cache.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_BYTES     ((uint64_t)1 << 30)
#define CACHE_DIR_BYTES ((uint64_t)4 << 30)

void engine_options_init(struct engine_options *o) {
    *o = (struct engine_options){.retention_ms = -1};
}

static int make_dirs(const char *path, struct err *err) {
    char *copy = xstrdup(path);
    int r = 0;
    for (char *p = copy + 1; *p && !r; p++) {
        if (*p != '/') continue;
        *p = 0;
        if (mkdir(copy, 0777) && errno != EEXIST) r = err_sys(err, errno, "could not create \"%s\"", copy);
        *p = '/';
    }
    if (!r && mkdir(copy, 0700) && errno != EEXIST) r = err_sys(err, errno, "could not create \"%s\"", copy);
    free(copy);
    return r;
}

/* Refuses a store that does not honour conditional puts or forgets versions: commits would not be safe on it.
 */
static int probe_store(struct core *core, struct err *err) {
    char key[64], uuid[33];
    struct object_info first, second, got;
    struct buf b = BUF_INIT;
    rng_uuid(core->rng, uuid);
    snprintf(key, sizeof key, "probe/%s", uuid);
    int r = object_put(core->objects, key, "1", 1, PUT_IF_ABSENT, NULL, &first, err);
    if (r) return err_wrap(err, "could not write to the object store");
    if (object_put(core->objects, key, "2", 1, PUT_IF_ABSENT, NULL, NULL, NULL) != -ERR_CONFLICT ||
        object_put(core->objects, key, "2", 1, PUT_IF_MATCH, "\"other\"", NULL, NULL) != -ERR_CONFLICT)
        r = err_set(err, ERR_UNSUPPORTED, "the object store does not honour conditional puts");
    if (!r) r = object_put(core->objects, key, "2", 1, PUT_IF_MATCH, first.etag, &second, err);
    if (!r) r = object_get(core->objects, key, first.version, 0, SIZE_MAX, &b, &got, err);
    if (!r && (b.len != 1 || b.data[0] != '1'))
        r = err_set(err, ERR_UNSUPPORTED, "the object store does not keep versions");
    object_delete_version(core->objects, key, first.version, NULL);
    if (!r) object_delete_version(core->objects, key, second.version, NULL);
    buf_release(&b);
    return r;
}

/* "op:after:kind" as in object_store_fault_set, kind 1 = fail, 2 = lost answer. */
static void set_fault(struct engine *e, const char *spec) {
    char op[32];
    unsigned after;
    int kind;
    if (spec && sscanf(spec, "%31[a-z_]:%u:%d", op, &after, &kind) == 3)
        object_store_fault_set(e->fault, op, after, (enum fault_kind)kind);
}

/* Over a store that is read by requests. */
static int open_caches(struct engine *e, const struct engine_options *o, struct err *err) {
    struct core *core = &e->core;
    if (o->cache_dir) {
        int r =
            object_store_disk_open(core->objects, o->cache_dir,
                                   o->cache_dir_bytes ? o->cache_dir_bytes : CACHE_DIR_BYTES, &e->disk, err);
        core->objects = r ? NULL : e->disk;
        if (r) return r;
    }
    core->objects->pages = e->pages = page_cache_new(o->cache_bytes ? o->cache_bytes : CACHE_BYTES);
    return 0;
}

/*   objects:  [disk cache ->] count -> [remote ->] [fault ->] directory      log: directory
 *   metadata: cache -> SQLite      invoker: thread pool
 *   embedder: OpenAI-compatible HTTP, nothing until it is used */
static int open_backends(struct engine *e, const struct engine_options *o, struct err *err) {
    struct core *core = &e->core;
    struct embedder_openai_config embedding = {o->embedding_url, o->embedding_key_file};
    struct buf path = BUF_INIT;
    struct object_store *dir = NULL;
    core->embedder = embedder_openai_new(&embedding);
    buf_printf(&path, "%s/objects", o->data_dir);
    int r = object_store_dir_open(buf_str(&path), core->clock, &dir, err);
    if (!r) {
        if (o->object_fault) dir = e->fault = object_store_fault(dir);
        if (o->simulate_remote) dir = object_store_remote(dir, o->simulate_get_ms, o->simulate_bytes_per_s);
        core->objects = e->counter = object_store_count(dir);
        if (!object_can_map(dir)) r = open_caches(e, o, err);
    }
    if (!r) {
        buf_clear(&path);
        buf_printf(&path, "%s/log", o->data_dir);
        r = log_store_dir_open(buf_str(&path), &core->logs, err);
    }
    if (!r) {
        buf_clear(&path);
        buf_printf(&path, "%s/meta.db", o->data_dir);
        r = metadata_sqlite_open(buf_str(&path), core->clock, &core->meta, err);
        if (!r) core->meta = metadata_cache(core->meta);
        buf_clear(&path);
        buf_printf(&path, "%s/names", o->data_dir);
        core->names = delegation_new(buf_str(&path));
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (!r) r = invoker_pool_open(o->threads ? o->threads : (unsigned)MAX(cores, 1), &core->invoker, err);
    if (!r) r = deadline_watcher_start(err);
    buf_release(&path);
    return r;
}

int engine_open(const struct engine_options *o, struct engine **ret, struct err *err) {
    struct stat st;
    bool fresh = stat(o->data_dir, &st) != 0;
    struct engine *e = xcalloc(1, sizeof *e);
    struct core *core = &e->core;
    core->clock = o->clock ? o->clock : &clock_system;
    core->rng = o->rng ? o->rng : &rng_system;
    core->build_bytes = o->build_bytes ? o->build_bytes : 32u << 20;
    core->batch_bytes = o->batch_bytes ? o->batch_bytes : 32u << 20;
    core->partition_bytes = o->partition_bytes ? o->partition_bytes : 1u << 20;
    core->build_age_ms = o->build_age_ms ? o->build_age_ms : 10000;
    core->retention_ms = o->retention_ms;
    pthread_mutex_init(&core->lock, NULL);
    rng_uuid(core->rng, core->owner);
    core->catalog_cache = catalog_cache_new();
    e->data_dir = xstrdup(o->data_dir);
    gateway_init(&e->gateway, 0);
    int r = make_dirs(o->data_dir, err);
    if (!r) r = open_backends(e, o, err);
    if (!r && (fresh || o->background)) r = probe_store(core, err);
    if (!r) set_fault(e, o->object_fault);
    if (!r && o->background) r = scheduler_start(core, &e->scheduler, err);
    if (r) {
        engine_close(e);
        return err_wrap(err, "could not open \"%s\"", o->data_dir);
    }
    *ret = e;
    return 0;
}

void engine_close(struct engine *e) {
    if (!e) return;
    scheduler_stop(e->scheduler);
    core_release_colls(&e->core);
    if (e->core.invoker) invoker_close(e->core.invoker);
    embedder_close(e->core.embedder);
    metadata_close(e->core.meta);
    delegation_free(e->core.names);
    catalog_cache_free(e->core.catalog_cache);
    if (e->core.logs) e->core.logs->ops->close(e->core.logs);
    object_store_close(e->core.objects);
    page_cache_free(e->pages);
    pthread_mutex_destroy(&e->core.lock);
    free(e->data_dir);
    free(e);
}

int engine_watch_names(struct engine *e, void (*recalled)(void *ctx), void *ctx, struct err *err) {
    return delegation_watch(e->core.names, recalled, ctx, err);
}

void engine_unwatch_names(struct engine *e) {
    delegation_unwatch(e->core.names);
}

void engine_keep_names(struct engine *e) {
    delegation_take(e->core.names);
}

bool engine_keeps_names(const struct engine *e) {
    return delegation_is_held(e->core.names);
}

const char *engine_data_dir(const struct engine *e) {
    return e->data_dir;
}

int engine_coll(struct engine *e, const char *cid, struct coll **ret, struct err *err) {
    struct catalog_record rec;
    int r = catalog_get_active(&e->core, cid, &rec, err);
    if (!r) r = core_coll(&e->core, cid, ret, err);
    if (!r) __atomic_store_n(&(*ret)->n_shards, rec.n_shards, __ATOMIC_RELAXED);
    if (!r) __atomic_store_n(&(*ret)->fixed_shards, rec.fixed_shards, __ATOMIC_RELAXED);
    return r;
}

/* ---- writes ---- */

int engine_ingest_open(struct engine *e, const char *cid, enum ingest_op op, struct ingest **ret,
                       struct err *err) {
    struct coll *coll;
    int r = gateway_admit(&e->gateway, clock_mono_us(&clock_system), err);
    if (!r) r = engine_coll(e, cid, &coll, err);
    return r ? r : writer_open(coll, op, ret, err);
}

int ingest_add(struct ingest *in, const struct ingest_record *recs, size_t n, ingest_verdict_fn *fn,
               void *ctx, uint64_t *ret_accepted, struct err *err) {
    return writer_add(in, recs, n, fn, ctx, ret_accepted, err);
}

bool ingest_waits(const struct ingest *in) {
    return writer_waits(in);
}

int ingest_commit(struct ingest *in, struct err *err) {
    return writer_commit(in, err);
}

void ingest_range(const struct ingest *in, uint64_t *ret_first, uint64_t *ret_last) {
    writer_range(in, ret_first, ret_last);
}

void ingest_close(struct ingest *in) {
    writer_close(in);
}

int engine_mark(struct engine *e, const char *cid, uint64_t *ret_seq, struct err *err) {
    struct coll *coll;
    struct schema *s;
    int r = engine_coll(e, cid, &coll, err);
    if (!r) r = coll_schema(coll, 1, &s, err);
    if (r) return r;
    r = writer_control(coll, LOG_MARK, s->version, "", 0, ret_seq, err);
    schema_unref(s);
    return r;
}

int engine_schema(struct engine *e, const char *cid, struct schema **ret, struct err *err) {
    int r = catalog_schema(&e->core, cid, ret, NULL, err);
    return r == -ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "no such collection") : r;
}

int engine_schema_extend(struct engine *e, const char *cid, const char *json, size_t len, struct err *err) {
    struct coll *coll;
    int r = engine_coll(e, cid, &coll, err);
    return r ? r : writer_schema_extend(coll, json, len, err);
}

/* ---- reads ---- */

int engine_view_live(struct engine *e, const char *cid, bool strong, struct view **ret, struct err *err) {
    struct coll *coll;
    int r = engine_coll(e, cid, &coll, err);
    return r ? r : view_live(coll, strong, NULL, ret, err);
}

int engine_view_live_until(struct engine *e, const char *cid, bool strong, const volatile int *cancel,
                           uint32_t timeout_ms, struct view **ret, struct err *err) {
    struct coll *coll;
    struct deadline d;
    int r = engine_coll(e, cid, &coll, err);
    if (r) return r;
    deadline_start(&d, cancel, timeout_ms);
    r = view_live(coll, strong, &d.stop, ret, err);
    deadline_end(&d);
    return r;
}

int engine_activity(struct engine *e, const char *cid, uint64_t *ret_seq, int64_t *ret_time_ms,
                    struct err *err) {
    struct coll *coll;
    struct tree *t;
    int r = engine_coll(e, cid, &coll, err);
    if (!r) r = log_last(coll->log, ret_seq, ret_time_ms, err);
    if (r || *ret_time_ms) return r;
    r = tree_load_root(e->core.objects, coll->root_key, NULL, &t, err);
    if (r == -ERR_NOT_FOUND) { /* nothing written yet */
        err_clear(err);
        return 0;
    }
    if (r) return r;
    *ret_seq = MAX(*ret_seq, t->committed_seq);
    *ret_time_ms = t->data_ms;
    tree_unref(t);
    return 0;
}

int engine_view_version(struct engine *e, const char *cid, const char *version, struct view **ret,
                        struct err *err) {
    struct coll *coll;
    char key[128];
    const char *v;
    int r = engine_coll(e, cid, &coll, err);
    if (r) return r;
    history_object(coll, version, key, &v);
    return view_at(coll, key, v, ret, err);
}

uint64_t view_seq(const struct view *v) {
    return v->seq;
}
int64_t view_time_ms(const struct view *v) {
    return v->time_ms;
}
int64_t view_commit_ms(const struct view *v) {
    return v->base->tree->commit_ms;
}
uint64_t view_documents(const struct view *v) {
    return v->documents;
}
const char *view_version(const struct view *v) {
    return v->base->tree->version;
}
struct schema *view_schema(const struct view *v) {
    return v->schema;
}

bool engine_view_is_current(struct engine *e, const struct view *v) {
    struct catalog_record rec;
    return !catalog_get_active(&e->core, v->coll->cid, &rec, NULL) && view_current(v);
}

static int find_doc(const struct view *v, const char *id, size_t id_len, struct buf *out,
                    struct doc_info *ret, struct err *err) {
    uint32_t part, docno, size = 0;
    int r = view_find(v, id, id_len, &part, &docno, err);
    if (r) return r;
    if (part == v->n_parts)
        return err_set(err, ERR_NOT_FOUND, "no document with id \"%.*s\"", (int)MIN(id_len, (size_t)200), id);
    const struct segment *s = v->parts[part].segment;
    if (ret) {
        r = segment_seq(s, docno, &ret->seq, &ret->time_ms, err);
        if (!r) r = segment_doc_size(s, docno, &size, err);
        ret->size = size;
    }
    return r || !out ? r : segment_doc(s, docno, out, err);
}

int view_doc(const struct view *v, const char *id, size_t id_len, struct buf *out, struct doc_info *ret,
             struct err *err) {
    struct page_hold hold;
    page_hold_begin(&hold, v->coll->core->objects->pages);
    int r = find_doc(v, id, id_len, out, ret, err);
    page_hold_end(&hold);
    return r;
}

/* One part of a scan: its next live document. */
struct scan_part {
    const struct view_part *part;
    uint32_t docno;
    struct buf id;
};

/* Moves to the next live document at or after docno. */
static int scan_settle(struct scan_part *s, struct err *err) {
    const uint64_t *dead = deletes_bits(s->part->deletes);
    uint32_t n = segment_n_docs(s->part->segment);
    while (s->docno < n && deletes_has(dead, s->docno)) s->docno++;
    buf_clear(&s->id);
    return s->docno < n ? segment_id(s->part->segment, s->docno, &s->id, err) : 0;
}

static int scan_start(const struct view *v, struct scan_part *parts, const char *after, size_t after_len,
                      struct err *err) {
    for (uint32_t i = 0; i < v->n_parts; i++) {
        struct scan_part *s = &parts[i];
        s->part = &v->parts[i];
        int r = after ? segment_id_ceil(s->part->segment, after, after_len, &s->docno, err) : 0;
        if (!r) r = scan_settle(s, err);
        if (!r && after && s->id.len == after_len && s->id.len && !memcmp(s->id.data, after, after_len)) {
            s->docno++;
            r = scan_settle(s, err);
        }
        if (r) return r;
    }
    return 0;
}

int view_scan(const struct view *v, const char *after, size_t after_len,
              int (*visit)(void *ctx, const char *id, size_t len), void *ctx, struct err *err) {
    struct scan_part *parts = xcalloc(v->n_parts, sizeof *parts);
    struct page_hold hold;
    page_hold_begin(&hold, v->coll->core->objects->pages);
    int r = scan_start(v, parts, after, after_len, err);
    while (!r) {
        struct scan_part *best = NULL;
        for (uint32_t i = 0; i < v->n_parts; i++) {
            struct scan_part *s = &parts[i];
            if (s->docno >= segment_n_docs(s->part->segment)) continue;
            if (!best || id_compare((char *)s->id.data, s->id.len, (char *)best->id.data, best->id.len) < 0)
                best = s;
        }
        if (!best) break;
        r = visit(ctx, (const char *)best->id.data, best->id.len);
        if (r) break;
        best->docno++;
        r = scan_settle(best, err);
    }
    page_hold_end(&hold);
    for (uint32_t i = 0; i < v->n_parts; i++) buf_release(&parts[i].id);
    free(parts);
    return r < 0 ? r : 0;
}

int engine_query(struct engine *e, const struct view *v, const char *collection,
                 const struct query_request *req, const volatile int *cancel, struct answer **ret,
                 struct err *err) {
    int r = gateway_admit(&e->gateway, clock_mono_us(&clock_system), err);
    return r ? r : router_query(&e->core, v, collection, req, cancel, ret, err);
}

/* ---- history ---- */

int engine_snapshots(struct engine *e, const char *cid, bool thin, snapshot_visit *visit, void *ctx,
                     struct err *err) {
    struct coll *coll;
    int r = engine_coll(e, cid, &coll, err);
    return r ? r : history_list(coll, thin, visit, ctx, err);
}

int engine_snapshot_resolve(struct engine *e, const char *cid, const char *name, struct snapshot_info *ret,
                            struct err *err) {
    struct coll *coll;
    int r = engine_coll(e, cid, &coll, err);
    return r ? r : history_resolve(coll, name, ret, err);
}

int engine_snapshot_create(struct engine *e, const char *cid, const char *name, struct snapshot_info *ret,
                           struct err *err) {
    struct coll *coll;
    int r = gateway_check_snapshot_name(name, err);
    if (!r) r = engine_coll(e, cid, &coll, err);
    return r ? r : history_name(coll, name, ret, err);
}

int engine_snapshot_delete(struct engine *e, const char *cid, const char *name, struct err *err) {
    struct coll *coll;
    int r = engine_coll(e, cid, &coll, err);
    return r ? r : history_unname(coll, name, err);
}

int engine_clone(struct engine *e, const char *cid, const char *version, const char *new_name,
                 struct collection_info *ret, struct err *err) {
    struct coll *coll;
    struct catalog_record rec;
    int r = gateway_check_name(new_name, err);
    if (!r) r = engine_coll(e, cid, &coll, err);
    if (!r && !catalog_find(&e->core, new_name, &rec, NULL))
        r = err_set(err, ERR_EXISTS, "a collection named \"%s\" exists", new_name);
    if (!r) r = history_clone(coll, version, new_name, &rec, err);
    if (!r) collection_info_of(&rec, ret);
    return r;
}

int engine_restore(struct engine *e, const char *cid, const char *version, struct err *err) {
    struct coll *coll;
    int r = engine_coll(e, cid, &coll, err);
    return r ? r : history_restore(coll, version, err);
}

/* ---- upkeep ---- */

struct each {
    struct engine *e;
    int (*run)(struct engine *, const char *cid, void *arg, struct err *);
    void *arg;
    struct err *err;
};

static int each_visit(void *p, const struct collection_info *info) {
    struct each *x = p;
    return x->run(x->e, info->cid, x->arg, x->err);
}

/* One collection, or every one when cid is NULL. */
static int for_each(struct engine *e, const char *cid,
                    int (*run)(struct engine *, const char *, void *, struct err *), void *arg,
                    struct err *err) {
    struct each x = {e, run, arg, err};
    return cid ? run(e, cid, arg, err) : engine_list(e, each_visit, &x, err);
}

static bool needs_backfill(const struct view *v) {
    uint64_t documents;
    for (uint32_t i = 0; i < v->schema->n_fields; i++)
        if (backfill_left(v, &v->schema->fields[i], &documents)) return true;
    return false;
}

enum { BACKFILL_WAIT_MS = 60000, BACKFILL_PAUSE_MS = 50 };

/* Until every declared index is in every segment; what another process has under way is waited for. */
static int backfill(struct coll *coll, struct err *err) {
    for (int waited = 0;;) {
        struct view *v;
        bool did;
        int r = view_live(coll, false, NULL, &v, err);
        if (r) return r;
        bool needed = needs_backfill(v);
        view_unref(v);
        if (!needed) return 0;
        r = merger_run(coll, MERGE_BACKFILL, NULL, &did, err);
        if (!r && did) continue;
        if (r != -ERR_BUSY || waited >= BACKFILL_WAIT_MS) return r;
        err_clear(err);
        usleep(BACKFILL_PAUSE_MS * 1000);
        waited += BACKFILL_PAUSE_MS;
    }
}

static int build_one(struct engine *e, const char *cid, void *arg, struct err *err) {
    struct coll *coll;
    int r = engine_coll(e, cid, &coll, err);
    if (!r) r = builder_run(coll, UINT64_MAX, true, arg, err);
    return r ? r : backfill(coll, err);
}

int engine_build(struct engine *e, const char *cid, uint64_t *ret_seq, struct err *err) {
    return for_each(e, cid, build_one, ret_seq, err);
}

enum { MERGE_ROUNDS = 4096 }; /* a partitioned collection merges partition by partition */

static int merge_one(struct engine *e, const char *cid, void *arg, struct err *err) {
    struct coll *coll;
    bool did = true, *force = arg;
    int r = engine_coll(e, cid, &coll, err);
    for (int i = 0; !r && did && i < MERGE_ROUNDS; i++)
        r = merger_run(coll, *force ? MERGE_ALL : MERGE_POLICY, NULL, &did, err);
    return r;
}

int engine_merge(struct engine *e, const char *cid, bool force, struct err *err) {
    return for_each(e, cid, merge_one, &force, err);
}

static int set_shards(struct engine *e, const char *cid, void *arg, struct err *err) {
    uint32_t *n = arg;
    int r = -ERR_CONFLICT;
    for (int i = 0; i < 10 && r == -ERR_CONFLICT; i++) {
        struct catalog_record rec, next;
        err_clear(err);
        r = catalog_get_active(&e->core, cid, &rec, err);
        if (r) return r;
        next = rec;
        next.fixed_shards = *n != 0;
        next.n_shards = *n ? *n : 1;
        r = catalog_update(&e->core, &rec, &next, err);
    }
    return r;
}

int engine_set_shards(struct engine *e, const char *cid, uint32_t n_shards, struct err *err) {
    if (n_shards > 1024) return err_set(err, ERR_INVALID, "at most 1024 virtual shards are possible");
    int r = for_each(e, cid, set_shards, &n_shards, err);
    return r || n_shards ? r : shards_adjust(&e->core, err);
}

int engine_clean(struct engine *e, int64_t retention_ms, int64_t grace_ms, struct clean_result *ret,
                 struct err *err) {
    return clean_run(&e->core, retention_ms, grace_ms, ret, err);
}

int engine_check(struct engine *e, void (*report)(void *ctx, const char *text), void *ctx,
                 uint64_t *ret_objects, uint64_t *ret_problems, struct err *err) {
    return check_run(&e->core, report, ctx, ret_objects, ret_problems, err);
}

void engine_counters(struct engine *e, struct engine_counters *ret) {
    struct object_counts c;
    struct core *core = &e->core;
    object_store_counts(e->counter, &c);
    *ret = (struct engine_counters){.puts = c.puts,
                                    .gets = c.gets,
                                    .heads = c.heads,
                                    .lists = c.lists,
                                    .deletes = c.deletes,
                                    .maps = c.maps,
                                    .bytes_put = c.bytes_put,
                                    .bytes_got = c.bytes_got,
                                    .waves = c.waves,
                                    .queries = counter_get(&core->n_queries),
                                    .records = counter_get(&core->n_records),
                                    .builds = counter_get(&core->n_builds),
                                    .merges = counter_get(&core->n_merges),
                                    .segments_searched = counter_get(&core->n_segments_searched)};
    if (e->pages) {
        struct page_cache_stats p;
        page_cache_stats(e->pages, &p);
        ret->cache_bytes = p.bytes;
        ret->cache_pinned_bytes = p.pinned_bytes;
        ret->cache_max_bytes = p.max_bytes;
        ret->cache_evictions = p.evictions;
    }
    if (e->disk) {
        struct disk_cache_counts d;
        object_store_disk_counts(e->disk, &d);
        ret->disk_hits = d.hits;
        ret->disk_misses = d.misses;
        ret->disk_damaged = d.damaged;
    }
    pthread_mutex_lock(&core->lock);
    for (size_t i = 0; i < core->n_colls; i++) ret->fsyncs += log_fsyncs(core->colls[i]->log);
    pthread_mutex_unlock(&core->lock);
}
