/* The public API's part on collections: create, find, rename, drop, trash, status. */
#include "engine_internal.h"
#include "fn/deadline.h"
#include "fn/builder.h"

#include <stdio.h>
#include <unistd.h>

enum { UPDATE_ATTEMPTS = 10 };

void collection_info_of(const struct catalog_record *rec, struct collection_info *ret) {
    *ret = (struct collection_info){.created_ms = rec->created_ms,
                                    .updated_ms = rec->updated_ms,
                                    .dropped_ms = rec->dropped_ms,
                                    .generation = rec->generation,
                                    .written = rec->item_version,
                                    .n_shards = rec->n_shards};
    memcpy(ret->cid, rec->cid, sizeof ret->cid);
    memcpy(ret->name, rec->name, sizeof ret->name);
    memcpy(ret->source_cid, rec->source_cid, sizeof ret->source_cid);
    memcpy(ret->source_version, rec->source_version, sizeof ret->source_version);
}

struct info_list {
    struct collection_info *infos;
    struct catalog_record *recs; /* of the same index */
    size_t n, cap, cap_recs;
    enum coll_status status;
};

static int gather(void *p, const struct catalog_record *rec) {
    struct info_list *l = p;
    if (rec->status != l->status) return 0;
    size_t n = l->n;
    VEC_GROW(l->infos, n, l->cap);
    VEC_GROW(l->recs, n, l->cap_recs);
    collection_info_of(rec, &l->infos[n]);
    l->recs[n] = *rec;
    l->n++;
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct collection_info *)a)->name, ((const struct collection_info *)b)->name);
}

int engine_list(struct engine *e, collection_visit *visit, void *ctx, struct err *err) {
    struct info_list l = {.status = COLL_ACTIVE};
    int r = catalog_list(&e->core, gather, &l, err);
    if (!r && l.n) qsort(l.infos, l.n, sizeof *l.infos, by_name);
    for (size_t i = 0; i < l.n && !r; i++) r = visit(ctx, &l.infos[i]);
    free(l.infos);
    free(l.recs);
    return r;
}

int engine_find(struct engine *e, const char *name, struct collection_info *ret, struct err *err) {
    struct catalog_record rec;
    int r = catalog_find(&e->core, name, &rec, err);
    if (!r) collection_info_of(&rec, ret);
    return r;
}

int engine_find_cid(struct engine *e, const char *cid, struct collection_info *ret, struct err *err) {
    struct catalog_record rec;
    int r = catalog_get_active(&e->core, cid, &rec, err);
    if (!r) collection_info_of(&rec, ret);
    return r;
}

int engine_create(struct engine *e, const char *name, const char *schema_json, struct collection_info *ret,
                  struct err *err) {
    struct schema *schema = NULL;
    struct catalog_record rec = {.status = COLL_ACTIVE, .generation = 1, .n_shards = 1};
    int r = gateway_check_name(name, err);
    if (!r && schema_json && schema_json[0])
        r = schema_parse(schema_json, strlen(schema_json), &schema, err);
    else if (!r)
        schema = schema_new_empty();
    if (r) return r;
    rng_uuid(e->core.rng, rec.cid);
    snprintf(rec.name, sizeof rec.name, "%s", name);
    rec.created_ms = rec.updated_ms = clock_now_ms(e->core.clock);
    r = catalog_create(&e->core, &rec, schema, err);
    schema_unref(schema);
    if (!r) collection_info_of(&rec, ret);
    return r;
}

/* Changes an ACTIVE record by compare-and-set. */
static int change(struct engine *e, const char *cid, void (*edit)(struct catalog_record *, void *), void *arg,
                  struct err *err) {
    int r = -ERR_CONFLICT;
    for (int i = 0; i < UPDATE_ATTEMPTS && r == -ERR_CONFLICT; i++) {
        struct catalog_record rec, next;
        err_clear(err);
        r = catalog_get_active(&e->core, cid, &rec, err);
        if (r) return r;
        next = rec;
        edit(&next, arg);
        r = catalog_update(&e->core, &rec, &next, err);
    }
    return r;
}

static void edit_name(struct catalog_record *rec, void *arg) {
    snprintf(rec->name, sizeof rec->name, "%s", (char *)arg);
}

int engine_rename(struct engine *e, const char *cid, const char *new_name, struct err *err) {
    char name[NAME_SIZE];
    int r = gateway_check_name(new_name, err);
    if (r) return r;
    snprintf(name, sizeof name, "%s", new_name);
    return change(e, cid, edit_name, name, err);
}

struct drop_args {
    int64_t now_ms;
    uint64_t before_seq;
};

static void edit_drop(struct catalog_record *rec, void *arg) {
    struct drop_args *d = arg;
    rec->status = COLL_TRASH;
    rec->dropped_ms = d->now_ms;
    rec->before_seq = d->before_seq;
}

int engine_drop(struct engine *e, const char *cid, uint64_t before_seq, struct err *err) {
    struct drop_args d = {clock_now_ms(e->core.clock), before_seq};
    struct coll *coll;
    int r = change(e, cid, edit_drop, &d, err);
    if (!r && !core_coll(&e->core, cid, &coll, NULL)) log_idle(coll->log);
    return r;
}

/* ---- trash ---- */

static int newest_first(const void *pa, const void *pb) {
    const struct catalog_record *a = pa, *b = pb;
    if (a->dropped_ms != b->dropped_ms) return a->dropped_ms > b->dropped_ms ? -1 : 1;
    return strcmp(a->cid, b->cid);
}

/* Names in the trash: the newest of a name has it plainly, older ones as NAME~TIME; the state before rm -r
 * has
 * "~before-rm" behind. */
static void name_in_trash(const struct info_list *l, size_t i, bool before, struct collection_info *ret) {
    bool older = false;
    char when[TIME_TEXT_SIZE];
    for (size_t k = 0; k < i; k++) older |= !strcmp(l->recs[k].name, l->recs[i].name);
    collection_info_of(&l->recs[i], ret);
    time_to_name(l->recs[i].dropped_ms, when);
    snprintf(ret->trash_name, sizeof ret->trash_name, "%s%s%s%s", ret->name, older ? "~" : "",
             older ? when : "", before ? "~before-rm" : "");
}

typedef int trash_visit(void *ctx, const struct collection_info *, const struct catalog_record *,
                        bool before);

static int trash_walk(struct engine *e, trash_visit *visit, void *ctx, struct err *err) {
    struct info_list l = {.status = COLL_TRASH};
    int r = catalog_list(&e->core, gather, &l, err);
    if (!r && l.n) qsort(l.recs, l.n, sizeof *l.recs, newest_first);
    for (size_t i = 0; i < l.n && !r; i++) {
        struct collection_info info;
        name_in_trash(&l, i, false, &info);
        r = visit(ctx, &info, &l.recs[i], false);
        if (r || !l.recs[i].before_seq) continue;
        name_in_trash(&l, i, true, &info);
        r = visit(ctx, &info, &l.recs[i], true);
    }
    free(l.infos);
    free(l.recs);
    return r;
}

struct list_args {
    collection_visit *visit;
    void *ctx;
};

static int trash_show(void *p, const struct collection_info *info, const struct catalog_record *rec,
                      bool before) {
    struct list_args *a = p;
    return a->visit(a->ctx, info);
}

int engine_trash_list(struct engine *e, collection_visit *visit, void *ctx, struct err *err) {
    struct list_args a = {visit, ctx};
    return trash_walk(e, trash_show, &a, err);
}

struct find_args {
    const char *name;
    struct catalog_record rec;
    bool before;
};

static int trash_match(void *p, const struct collection_info *info, const struct catalog_record *rec,
                       bool before) {
    struct find_args *f = p;
    if (strcmp(info->trash_name, f->name)) return 0;
    f->rec = *rec;
    f->before = before;
    return 1;
}

static int trash_find(struct engine *e, struct find_args *f, struct err *err) {
    int r = trash_walk(e, trash_match, f, err);
    if (r < 0) return r;
    return r == 1 ? 0 : err_set(err, ERR_NOT_FOUND, "nothing named \"%s\" is in the trash", f->name);
}

static int restore_before(struct engine *e, const struct catalog_record *rec, struct err *err) {
    struct coll *coll;
    struct snapshot_info info;
    char moment[40];
    int r = core_coll(&e->core, rec->cid, &coll, err);
    if (!r) r = builder_run(coll, rec->before_seq, true, NULL, err);
    snprintf(moment, sizeof moment, "@seq:%llu", (unsigned long long)rec->before_seq);
    if (!r) r = history_resolve(coll, moment, &info, err);
    return r ? r : history_restore(coll, info.version, err);
}

int engine_trash_restore(struct engine *e, const char *trash_name, const char *new_name,
                         struct collection_info *ret, struct err *err) {
    struct find_args f = {.name = trash_name};
    int r = gateway_check_name(new_name, err);
    if (!r) r = trash_find(e, &f, err);
    if (r) return r;
    struct catalog_record next = f.rec;
    next.status = COLL_ACTIVE;
    next.dropped_ms = 0;
    next.before_seq = 0;
    next.generation++;
    snprintf(next.name, sizeof next.name, "%s", new_name);
    r = catalog_update(&e->core, &f.rec, &next, err);
    if (!r && f.before) r = restore_before(e, &f.rec, err);
    if (!r) collection_info_of(&next, ret);
    return r;
}

int engine_trash_purge(struct engine *e, const char *trash_name, struct err *err) {
    struct find_args f = {.name = trash_name};
    int r = trash_find(e, &f, err);
    if (r) return r;
    struct catalog_record next = f.rec;
    next.status = COLL_PURGING; /* the cleaner does the rest */
    return catalog_update(&e->core, &f.rec, &next, err);
}

/* ---- status ---- */

/* The unbuilt part of the log that a status may index on the way; with more, counts are those of the last
 * view. */
enum {
    STATUS_INDEX_BYTES = 256 << 10,
    STATUS_WAIT_MS = 3000,
    STATUS_LEAVE_BYTES = 1 << 20, /* more than that the background builder takes without delay, */
    STATUS_START_MS = 200,        /* when it has been quiet for less than this */
    STATUS_STEP_US = 20000,
};

static int status_of_log(struct coll *coll, const struct tree *t, struct collection_status *ret,
                         struct err *err) {
    struct log_cursor cursor = {.next_seq = t->committed_seq + 1};
    int64_t since = __atomic_load_n(&coll->pending_since_ms, __ATOMIC_RELAXED);
    int r = log_last(coll->log, &ret->seq_written, &ret->data_time_ms, err);
    if (r) return r;
    if (ret->seq_written <= t->committed_seq) {
        ret->seq_written = t->committed_seq;
        ret->data_time_ms = t->data_ms;
        return 0;
    }
    ret->unbuilt_records = ret->seq_written - t->committed_seq;
    if (since) ret->lag_ms = clock_mono_us(coll->core->clock) / 1000 - since;
    return log_pending_bytes(coll->log, &cursor, &ret->unbuilt_bytes, err);
}

static void indexing(const struct view *v, struct collection_status *ret) {
    for (uint32_t i = 0; i < v->schema->n_fields && ret->n_indexing < INDEXING_SHOWN; i++) {
        const struct field *f = &v->schema->fields[i];
        struct indexing_status *s = &ret->indexing[ret->n_indexing];
        s->segments_left = backfill_left(v, f, &s->documents_left);
        if (!s->segments_left) continue;
        size_t len = MIN((size_t)f->path_len, sizeof s->field - 1);
        while (len && len < f->path_len && ((unsigned char)f->path[len] & 0xc0) == 0x80) len--;
        snprintf(s->field, sizeof s->field, "%.*s", (int)len, f->path);
        ret->n_indexing++;
    }
}

static void status_of_schema(const struct view *v, struct collection_status *ret) {
    ret->n_partitions = v->schema->n_partitions + 1;
    indexing(v, ret);
}

/* From what is built. While somebody indexes the tail this is left out rather than waited for. */
static int status_of_base(struct coll *coll, struct collection_status *ret, struct err *err) {
    const volatile int at_once = 2;
    struct view *v;
    int r = view_live(coll, false, &at_once, &v, err);
    if (r == -ERR_TIMEOUT) err_clear(err);
    if (r) return r == -ERR_TIMEOUT ? 0 : r;
    status_of_schema(v, ret);
    view_unref(v);
    return 0;
}

/* Exact when that is cheap. Otherwise what is known; documents_seq says as of when. */
static int status_documents(struct coll *coll, const struct tree *t, const volatile int *stop,
                            struct collection_status *ret, struct err *err) {
    uint64_t documents, seq;
    struct view *v;
    if (!ret->unbuilt_records) {
        ret->documents = t->n_docs - t->n_deleted;
        ret->documents_seq = t->committed_seq;
        return status_of_base(coll, ret, err);
    }
    view_last_known(coll, &documents, &seq);
    if (stop || ret->unbuilt_bytes <= STATUS_INDEX_BYTES || seq >= ret->seq_written) {
        int r = view_live_unless_busy(coll, stop, &v, err);
        if (r == -ERR_TIMEOUT) goto known;
        if (r) return r;
        ret->documents = v->documents;
        ret->documents_seq = ret->seq_written = v->seq;
        status_of_schema(v, ret);
        view_unref(v);
        return 0;
    }
known:
    err_clear(err);
    view_last_known(coll, &documents, &seq);
    bool newer = seq > t->committed_seq;
    ret->documents = newer ? documents : t->n_docs - t->n_deleted;
    ret->documents_seq = newer ? seq : t->committed_seq;
    return status_of_base(coll, ret, err);
}

static int root_of(struct coll *coll, struct tree **ret, struct err *err) {
    int r = tree_load_root(coll->core->objects, coll->root_key, NULL, ret, err);
    if (r != -ERR_NOT_FOUND) return r;
    err_clear(err);
    *ret = tree_new_empty(coll->cid, coll->root_key);
    return 0;
}

static void status_of_root(const struct tree *t, struct collection_status *ret) {
    ret->bytes = t->bytes;
    for (uint32_t i = 0; i < t->n_intermediates; i++) ret->segments += t->intermediates[i].n_leaves;
    ret->seq_committed = t->committed_seq;
    snprintf(ret->root_version, sizeof ret->root_version, "%s", t->version);
    ret->root_time_ms = t->commit_ms;
}

static int status_within(struct engine *e, const char *cid, const volatile int *stop,
                         struct collection_status *ret, struct err *err) {
    struct coll *coll;
    struct tree *t;
    *ret = (struct collection_status){0};
    int r = engine_coll(e, cid, &coll, err);
    if (!r) r = root_of(coll, &t, err);
    if (r) return r;
    ret->n_shards = __atomic_load_n(&coll->n_shards, __ATOMIC_RELAXED);
    status_of_root(t, ret);
    r = status_of_log(coll, t, ret, err);
    if (!r) r = status_documents(coll, t, stop, ret, err);
    tree_unref(t);
    coll_last_error(coll, ret->last_error, sizeof ret->last_error, &ret->last_error_ms);
    return r;
}

static bool is_building(struct coll *coll) {
    if (pthread_mutex_trylock(&coll->build_lock)) return true;
    pthread_mutex_unlock(&coll->build_lock);
    return false;
}

/* Whoever polls a status while much is written must not index everything a second time: while the log grows
 * that is left to the background builder, and when it does not the builder is waited for. *ret_left: *ret is
 * what there is to say. */
static int leave_to_builder(struct engine *e, struct coll *coll, struct collection_status *ret,
                            bool *ret_left, struct err *err) {
    int64_t start = clock_mono_us(e->core.clock), waited = 0;
    uint64_t written = 0;
    for (;;) {
        int r = status_within(e, coll->cid, NULL, ret, err);
        *ret_left = ret->documents_seq >= ret->seq_written || (written && written != ret->seq_written);
        if (r || *ret_left || ret->unbuilt_bytes < STATUS_LEAVE_BYTES) return r;
        written = ret->seq_written;
        waited = (clock_mono_us(e->core.clock) - start) / 1000;
        if (waited >= STATUS_START_MS && !is_building(coll)) return 0;
        *ret_left = waited >= STATUS_WAIT_MS;
        if (*ret_left) return 0;
        usleep(STATUS_STEP_US);
    }
}

int engine_status(struct engine *e, const char *cid, struct collection_status *ret, struct err *err) {
    struct coll *coll;
    struct deadline d;
    bool left = false;
    int r = engine_coll(e, cid, &coll, err);
    if (!r && e->scheduler && e->core.build_age_ms >= 0) r = leave_to_builder(e, coll, ret, &left, err);
    if (r || left) return r;
    deadline_start(&d, NULL, STATUS_WAIT_MS);
    r = status_within(e, cid, &d.stop, ret, err);
    deadline_end(&d);
    return r;
}

int engine_status_quick(struct engine *e, const char *cid, struct collection_status *ret, struct err *err) {
    return status_within(e, cid, NULL, ret, err);
}
