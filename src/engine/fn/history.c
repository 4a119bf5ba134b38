/* History over root versions. What a version says never changes, so it is read once per process. */
#include "fn/history.h"
#include "fn/builder.h"
#include "fn/writer.h"

#include <stdio.h>

enum { MARK_ATTEMPTS = 5, PIN_MS = 10 * 60 * 1000 };

void history_object(const struct coll *coll, const char *version, char ret_key[128],
                    const char **ret_version) {
    if (!strncmp(version, "named:", 6)) {
        snprintf(ret_key, 128, "named/%s/%s", coll->cid, version + 6);
        *ret_version = NULL;
    } else {
        snprintf(ret_key, 128, "%s", coll->root_key);
        *ret_version = version;
    }
}

/* ---- what is there ---- */

struct root_list {
    struct coll *coll;
    struct snapshot_info *infos; /* newest first */
    size_t n, cap;
    struct err *err;
};

/* Caller holds history_lock. */
static int root_info(struct coll *coll, const char *version, struct snapshot_info *ret, struct err *err) {
    size_t lo = 0, hi = coll->n_roots;
    while (lo < hi) { /* kept in order of version */
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(coll->roots[mid].version, version) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < coll->n_roots && !strcmp(coll->roots[lo].version, version)) {
        *ret = coll->roots[lo];
        return 0;
    }
    struct tree *t;
    int r = tree_load_root(coll->core->objects, coll->root_key, version, &t, err);
    if (r) return r;
    *ret = (struct snapshot_info){.commit_ms = t->commit_ms,
                                  .data_ms = t->data_ms,
                                  .seq = t->committed_seq,
                                  .documents = t->n_docs - t->n_deleted};
    time_to_name(t->commit_ms, ret->name);
    snprintf(ret->version, sizeof ret->version, "%s", version);
    tree_unref(t);
    VEC_GROW(coll->roots, coll->n_roots, coll->cap_roots);
    memmove(&coll->roots[lo + 1], &coll->roots[lo], (coll->n_roots - lo) * sizeof *coll->roots);
    coll->roots[lo] = *ret;
    coll->n_roots++;
    return 0;
}

static int root_visit(void *p, const struct object_info *info) {
    struct root_list *l = p;
    if (strcmp(info->key, l->coll->root_key)) return 0;
    VEC_GROW(l->infos, l->n, l->cap);
    int r = root_info(l->coll, info->version, &l->infos[l->n], l->err);
    if (r == -ERR_NOT_FOUND) { /* expired while we looked */
        err_clear(l->err);
        return 0;
    }
    if (!r) l->n++;
    return r;
}

static int load_roots(struct coll *coll, struct root_list *ret, struct err *err) {
    *ret = (struct root_list){.coll = coll, .err = err};
    pthread_mutex_lock(&coll->history_lock);
    int r = object_list_versions(coll->core->objects, coll->root_key, root_visit, ret, err);
    pthread_mutex_unlock(&coll->history_lock);
    if (r) {
        free(ret->infos);
        ret->infos = NULL;
    }
    return r;
}

static void from_named(const struct catalog_named *named, struct snapshot_info *ret) {
    *ret = (struct snapshot_info){.named = true,
                                  .commit_ms = named->commit_ms,
                                  .data_ms = named->data_ms,
                                  .seq = named->seq,
                                  .documents = named->documents};
    snprintf(ret->name, sizeof ret->name, "%s", named->name);
    snprintf(ret->version, sizeof ret->version, "named:%.40s",
             strrchr(named->key, '/') ? strrchr(named->key, '/') + 1 : "");
}

static int add_named(void *p, const struct catalog_named *named) {
    struct root_list *l = p;
    VEC_GROW(l->infos, l->n, l->cap);
    from_named(named, &l->infos[l->n++]);
    return 0;
}

/* The listing bucket a commit falls into: of several in one bucket only the newest is listed. */
static int64_t bucket_of(int64_t commit_ms, int64_t now_ms) {
    const int64_t minute = 60000, hour = 60 * minute, day = 24 * hour;
    int64_t age = now_ms - commit_ms;
    int64_t width = age < hour ? 1 : age < day ? minute : age < 7 * day ? hour : day;
    return commit_ms / width * 8 + (width == 1 ? 0 : width == minute ? 1 : width == hour ? 2 : 3);
}

static int by_time(const void *pa, const void *pb) {
    const struct snapshot_info *a = pa, *b = pb;
    if (a->commit_ms != b->commit_ms) return a->commit_ms < b->commit_ms ? -1 : 1;
    return strcmp(a->name, b->name);
}

int history_list(struct coll *coll, bool thin, snapshot_visit *visit, void *ctx, struct err *err) {
    struct root_list l;
    int r = load_roots(coll, &l, err);
    if (!r) r = catalog_named_list(coll->core, coll->cid, add_named, &l, err);
    if (!r && l.n) qsort(l.infos, l.n, sizeof *l.infos, by_time);
    int64_t now = clock_now_ms(coll->core->clock);
    for (size_t i = 0; i < l.n && !r; i++) {
        const struct snapshot_info *s = &l.infos[i];
        size_t k = i + 1;
        while (k < l.n && l.infos[k].named) k++;
        bool hidden = thin && !s->named && k < l.n &&
                      bucket_of(s->commit_ms, now) == bucket_of(l.infos[k].commit_ms, now);
        if (!hidden) r = visit(ctx, s);
    }
    free(l.infos);
    return r < 0 ? r : 0;
}

/* ---- names of moments ---- */

/* "@2h-ago", "@30m-ago", "@yesterday", an instant. ERR_INVALID for another '@' form, ERR_NOT_FOUND for
 * another name. */
static int parse_moment(const char *name, int64_t now_ms, int64_t *ret_ms, struct err *err) {
    const int64_t day = 86400000;
    char *end;
    if (!time_parse(name[0] == '@' ? name + 1 : name, strlen(name) - (name[0] == '@'), ret_ms)) return 0;
    if (name[0] != '@') return err_set(err, ERR_NOT_FOUND, "no snapshot named \"%s\"", name);
    if (!strcmp(name, "@yesterday")) {
        *ret_ms = now_ms - day;
        return 0;
    }
    long long n = strtoll(name + 1, &end, 10);
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"s-ago", 1000},    {"m-ago", 60000},    {"min-ago", 60000},
                 {"h-ago", 3600000}, {"d-ago", 86400000}, {"w-ago", 604800000}};
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        if (end == name + 1 || n < 0 || n > 100000000 || strcmp(end, units[i].unit)) continue;
        *ret_ms = now_ms - n * units[i].ms;
        return 0;
    }
    return err_set(err, ERR_INVALID,
                   "\"%s\" is not a moment: use @2h-ago, @30m-ago, @yesterday, @seq:N, @2026-01-31T12-00-00Z",
                   name);
}

int history_resolve(struct coll *coll, const char *name, struct snapshot_info *ret, struct err *err) {
    struct catalog_named named;
    struct root_list l;
    int64_t ms = INT64_MAX;
    uint64_t seq = UINT64_MAX;
    int r = name[0] == '@' ? -ERR_NOT_FOUND : catalog_named_get(coll->core, coll->cid, name, &named, err);
    if (!r) {
        from_named(&named, ret);
        return 0;
    }
    if (r != -ERR_NOT_FOUND) return r;
    err_clear(err);
    if (!strncmp(name, "@seq:", 5)) {
        char *end;
        seq = strtoull(name + 5, &end, 10);
        if (*end || end == name + 5)
            return err_set(err, ERR_INVALID, "\"%s\": a number must follow @seq:", name);
    } else if (strcmp(name, "latest") && (r = parse_moment(name, clock_now_ms(coll->core->clock), &ms, err)))
        return r;
    r = load_roots(coll, &l, err);
    if (r) return r;
    r = err_set(err, ERR_NOT_FOUND, "no snapshot at or before \"%s\"", name);
    for (size_t i = 0; i < l.n && r; i++) { /* newest first */
        if (l.infos[i].commit_ms > ms || l.infos[i].seq > seq) continue;
        *ret = l.infos[i];
        err_clear(err);
        r = 0;
    }
    free(l.infos);
    return r;
}

/* ---- making history ---- */

static int find_seq(struct coll *coll, uint64_t seq, struct snapshot_info *ret, struct err *err) {
    struct root_list l;
    int r = load_roots(coll, &l, err);
    if (r) return r;
    r = err_set(err, ERR_CONFLICT, "the version of record %llu is gone already", (unsigned long long)seq);
    for (size_t i = l.n;
         i-- > 0 && r;) { /* the oldest that covers it: later ones with the same number are merges */
        if (l.infos[i].seq != seq) continue;
        *ret = l.infos[i];
        err_clear(err);
        r = 0;
    }
    free(l.infos);
    return r;
}

int history_mark(struct coll *coll, struct snapshot_info *ret, struct err *err) {
    int r = -ERR_CONFLICT;
    for (int i = 0; i < MARK_ATTEMPTS && r == -ERR_CONFLICT; i++) {
        struct schema *s;
        uint64_t seq;
        err_clear(err);
        r = coll_schema(coll, 1, &s, err);
        if (r) return r;
        r = writer_control(coll, LOG_MARK, s->version, "", 0, &seq, err);
        schema_unref(s);
        if (!r) r = builder_run(coll, seq, true, NULL, err);
        if (!r) r = find_seq(coll, seq, ret, err);
    }
    return r;
}

static int copy_root(struct coll *coll, const char *version, const char *new_key,
                     struct object_info *ret_info, struct err *err) {
    struct buf b = BUF_INIT;
    char key[128];
    const char *v;
    history_object(coll, version, key, &v);
    int r = object_get(coll->core->objects, key, v, 0, SIZE_MAX, &b, NULL, err);
    if (!r) r = object_put(coll->core->objects, new_key, b.data, b.len, PUT_IF_ABSENT, NULL, ret_info, err);
    buf_release(&b);
    return r;
}

int history_name(struct coll *coll, const char *name, struct snapshot_info *ret, struct err *err) {
    struct catalog_named named = {0};
    struct object_info info;
    char uuid[33];
    int64_t ms;
    if (!time_parse(name, strlen(name), &ms) || name[0] == '@' || !strcmp(name, "latest"))
        return err_set(err, ERR_INVALID, "\"%s\" means a moment, it cannot be a snapshot's name", name);
    int r = catalog_named_get(coll->core, coll->cid, name, &named, err);
    if (!r) return err_set(err, ERR_EXISTS, "a snapshot named \"%s\" exists", name);
    if (r != -ERR_NOT_FOUND) return r;
    err_clear(err);
    r = history_mark(coll, ret, err);
    if (r) return r;
    rng_uuid(coll->core->rng, uuid);
    snprintf(named.name, sizeof named.name, "%s", name);
    snprintf(named.key, sizeof named.key, "named/%s/%s", coll->cid, uuid);
    named.commit_ms = clock_now_ms(coll->core->clock);
    named.data_ms = ret->data_ms;
    named.seq = ret->seq;
    named.documents = ret->documents;
    r = copy_root(coll, ret->version, named.key, &info, err);
    if (r) return r;
    memcpy(named.version, info.version, sizeof named.version);
    r = catalog_named_put(coll->core, coll->cid, &named, err);
    if (r) object_delete_version(coll->core->objects, named.key, info.version, NULL);
    from_named(&named, ret);
    return r;
}

int history_unname(struct coll *coll, const char *name, struct err *err) {
    struct catalog_named named;
    int r = catalog_named_get(coll->core, coll->cid, name, &named, err);
    if (r == -ERR_NOT_FOUND) return err_set(err, ERR_NOT_FOUND, "no snapshot was named \"%s\"", name);
    if (!r) r = catalog_named_delete(coll->core, coll->cid, name, err);
    return r ? r : object_delete_version(coll->core->objects, named.key, named.version, err);
}

/* Pins a version for as long as it is copied. Named ones need none. */
static int pin_version(struct coll *coll, const char *version, char pin[33], struct err *err) {
    struct snapshot_info info;
    pin[0] = 0;
    if (!strncmp(version, "named:", 6)) return 0;
    pthread_mutex_lock(&coll->history_lock);
    int r = root_info(coll, version, &info, err);
    pthread_mutex_unlock(&coll->history_lock);
    return r ? r : catalog_pin(coll->core, coll->cid, version, info.commit_ms, PIN_MS, pin, err);
}

static int source_schema(struct coll *coll, const char *version, struct schema **ret, struct err *err) {
    char key[128];
    const char *v;
    struct tree *t;
    history_object(coll, version, key, &v);
    int r = tree_load_root(coll->core->objects, key, v, &t, err);
    if (r) return r;
    r = schema_read_record(t->schema, t->schema_len, ret, err);
    tree_unref(t);
    return r;
}

static int clone_pinned(struct coll *coll, const char *version, struct catalog_record *rec, struct err *err) {
    char key[128];
    struct schema *schema;
    int r = source_schema(coll, version, &schema, err);
    if (r) return r;
    r = catalog_create(coll->core, rec, schema, err);
    schema_unref(schema);
    if (r) return r;
    snprintf(key, sizeof key, "roots/%s", rec->cid);
    r = copy_root(coll, version, key, NULL, err);
    struct catalog_record next = *rec;
    next.status = r ? COLL_PURGING : COLL_ACTIVE;
    int r2 = catalog_update(coll->core, rec, &next, r ? NULL : err);
    *rec = next;
    return r ? r : r2;
}

int history_clone(struct coll *coll, const char *version, const char *new_name, struct catalog_record *ret,
                  struct err *err) {
    struct snapshot_info now;
    char pin[33];
    if (!version[0]) {
        int r = history_mark(coll, &now, err);
        if (r) return r;
        version = now.version;
    }
    int r = pin_version(coll, version, pin, err);
    if (r) return r;
    int64_t ms = clock_now_ms(coll->core->clock);
    *ret = (struct catalog_record){.status = COLL_CREATING,
                                   .created_ms = ms,
                                   .updated_ms = ms,
                                   .generation = 1,
                                   .n_shards = coll->n_shards};
    rng_uuid(coll->core->rng, ret->cid);
    snprintf(ret->name, sizeof ret->name, "%s", new_name);
    snprintf(ret->source_cid, sizeof ret->source_cid, "%s", coll->cid);
    snprintf(ret->source_version, sizeof ret->source_version, "%s", version);
    r = clone_pinned(coll, version, ret, err);
    if (pin[0]) catalog_unpin(coll->core, coll->cid, pin);
    return r;
}

/* The restored state's schema becomes the newest version, so that versions never go back. */
static int restore_schema(struct coll *coll, const char *version, uint32_t *ret_version, struct err *err) {
    int r = -ERR_CONFLICT;
    for (int i = 0; i < MARK_ATTEMPTS && r == -ERR_CONFLICT; i++) {
        struct schema *now, *then;
        uint64_t item;
        err_clear(err);
        r = catalog_schema(coll->core, coll->cid, &now, &item, err);
        if (r) return r;
        r = source_schema(coll, version, &then, err);
        if (!r) {
            then->version = *ret_version = now->version + 1; /* not shared yet */
            r = catalog_schema_put(coll->core, coll->cid, then, item, err);
            schema_unref(then);
        }
        schema_unref(now);
    }
    return r;
}

static int bump_generation(struct coll *coll, struct err *err) {
    int r = -ERR_CONFLICT;
    for (int i = 0; i < MARK_ATTEMPTS && r == -ERR_CONFLICT; i++) {
        struct catalog_record rec, next;
        err_clear(err);
        r = catalog_get_active(coll->core, coll->cid, &rec, err);
        if (r) return r;
        next = rec;
        next.generation++;
        r = catalog_update(coll->core, &rec, &next, err);
    }
    return r;
}

int history_restore(struct coll *coll, const char *version, struct err *err) {
    char key[128], uuid[33], pin[33];
    struct object_info info;
    uint64_t seq;
    uint32_t schema_version = 0;
    int r = pin_version(coll, version, pin, err);
    if (r) return r;
    rng_uuid(coll->core->rng, uuid);
    snprintf(key, sizeof key, "named/%s/restore-%s", coll->cid,
             uuid); /* keeps the target while the log names it */
    r = copy_root(coll, version, key, &info, err);
    if (pin[0]) catalog_unpin(coll->core, coll->cid, pin);
    if (!r) r = restore_schema(coll, version, &schema_version, err);
    if (!r) r = writer_control(coll, LOG_RESTORE, schema_version, key, strlen(key), &seq, err);
    if (r) return r;
    /* From here on it has happened: strong reads follow the record, and any builder finishes it. */
    struct err late = ERR_INIT;
    if (!builder_run(coll, seq, false, NULL, &late))
        object_delete_version(coll->core->objects, key, info.version, NULL);
    else if (late.code != ERR_BUSY)
        coll_set_error(coll, &late);
    r = bump_generation(coll, err);
    return r ? err_wrap(err, "restored, but open files were not told") : 0;
}
