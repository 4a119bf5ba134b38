/* Building and finding in views. See view.h; the strong read's order (log, then root) is in docs/DESIGN.md.
 */
#include "fn/view_internal.h"

#include <time.h>
#include "fn/catalog.h"
#include "index/page_cache.h"
#include "index/segment_want.h"

enum { PIN_TTL_MS = 15 * 60 * 1000 };
enum { HOT_MAX_BYTES = 8 << 20 }; /* of dictionaries, over all segments */

/* ---- bases ---- */

struct base *base_ref(struct base *b) {
    __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void base_unref(struct base *b) {
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL)) return;
    for (uint32_t i = 0; b->tree && i < b->tree->n_leaves; i++) {
        segment_unref(b->segments[i]);
        deletes_unref(b->deletes[i]);
    }
    free(b->segments);
    free(b->deletes);
    tree_unref(b->tree);
    free(b);
}

static struct base *base_of_tree(struct tree *taken) {
    struct base *b = xcalloc(1, sizeof *b);
    b->refs = 1;
    b->tree = taken;
    b->segments = xcalloc(taken->n_leaves, sizeof *b->segments);
    b->deletes = xcalloc(taken->n_leaves, sizeof *b->deletes);
    return b;
}

struct base *base_new_empty(const char *cid, const char *root_key) {
    return base_of_tree(tree_new_empty(cid, root_key));
}

static bool same_object(const struct object_ref *a, const struct object_ref *b) {
    return a->size == b->size && !strcmp(a->key, b->key) && !strcmp(a->version, b->version);
}

/* What `reuse` has open of leaf i. *hint: where the leaf is likely to be in it, which has almost the same
 * leaves in the same order. */
static void share_leaf(struct base *b, uint32_t i, const struct base *reuse, uint32_t *hint) {
    const struct leaf *l = &b->tree->leaves[i];
    for (uint32_t n = 0; reuse && n < reuse->tree->n_leaves; n++) {
        uint32_t k = (*hint + n) % reuse->tree->n_leaves;
        const struct leaf *old = &reuse->tree->leaves[k];
        if (!same_object(&l->segment, &old->segment)) continue;
        b->segments[i] = segment_ref(reuse->segments[k]);
        if (l->deletes.size && same_object(&l->deletes, &old->deletes))
            b->deletes[i] = deletes_ref(reuse->deletes[k]);
        *hint = k + 1;
        break;
    }
}

/* Objects to open together, and the hot ranges they are opened with. */
struct opening {
    struct blob_source *sources;
    struct blob **blobs;
    struct blob_range *ranges;
    size_t n, n_ranges;
};

static void opening_init(struct opening *o, const struct tree *t) {
    size_t n_ranges = 0;
    for (uint32_t i = 0; i < t->n_leaves; i++) n_ranges += t->leaves[i].n_hot;
    *o = (struct opening){.sources = xcalloc(2 * (size_t)t->n_leaves, sizeof *o->sources),
                          .blobs = xcalloc(2 * (size_t)t->n_leaves, sizeof *o->blobs),
                          .ranges = xcalloc(n_ranges, sizeof *o->ranges)};
}

static void opening_release(struct opening *o) {
    for (size_t i = 0; i < o->n; i++) blob_close(o->blobs[i]);
    free(o->sources);
    free(o->blobs);
    free(o->ranges);
}

static struct blob_source *opening_add(struct opening *o, uint32_t kind, const struct object_ref *ref) {
    struct blob_source *s = &o->sources[o->n++];
    *s = (struct blob_source){.key = ref->key,
                              .version = ref->version,
                              .kind = kind,
                              .checksum = ref->checksum,
                              .size = ref->size,
                              .hot = o->ranges + o->n_ranges};
    return s;
}

/* Dictionaries come along as long as those of all segments together are small. */
static void add_hot(struct opening *o, struct blob_source *s, const struct leaf *l, bool dictionaries) {
    for (uint32_t i = 0; i < l->n_hot; i++) {
        if (l->hot[i].kind != HOT_ALWAYS && !(l->hot[i].kind == HOT_DICTIONARY && dictionaries)) continue;
        o->ranges[o->n_ranges++] = (struct blob_range){l->hot[i].off, l->hot[i].len};
        s->n_hot++;
    }
}

static uint64_t dictionary_bytes(const struct base *b) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < b->tree->n_leaves; i++)
        for (uint32_t k = 0; !b->segments[i] && k < b->tree->leaves[i].n_hot; k++)
            if (b->tree->leaves[i].hot[k].kind == HOT_DICTIONARY) bytes += b->tree->leaves[i].hot[k].len;
    return bytes;
}

/* Makes segment and deletes of leaf i from the next opened objects. */
static int take_leaf(struct base *b, uint32_t i, struct opening *o, size_t *next, struct err *err) {
    const struct leaf *l = &b->tree->leaves[i];
    struct blob *blob;
    int r = 0;
    if (!b->segments[i]) {
        blob = o->blobs[*next];
        o->blobs[(*next)++] = NULL;
        r = segment_open(blob, &b->segments[i], err);
    }
    if (!r && l->deletes.size && !b->deletes[i]) {
        blob = o->blobs[*next];
        o->blobs[(*next)++] = NULL;
        r = deletes_read(blob, b->segments[i], &b->deletes[i], err);
    }
    if (!r && (segment_n_docs(b->segments[i]) != l->n_docs || deletes_count(b->deletes[i]) != l->n_deleted))
        r = err_set(err, ERR_CORRUPT, "object \"%s\" does not match its reference", l->segment.key);
    return r;
}

/* Opens what is not shared: all objects at once. */
static int open_leaves(struct core *core, struct base *b, struct err *err) {
    struct tree *t = b->tree;
    struct opening o;
    size_t next = 0;
    bool dictionaries = dictionary_bytes(b) <= HOT_MAX_BYTES;
    struct page_hold hold;
    page_hold_begin(&hold, core->objects->pages);
    opening_init(&o, t);
    for (uint32_t i = 0; i < t->n_leaves; i++) {
        const struct leaf *l = &t->leaves[i];
        if (!b->segments[i]) add_hot(&o, opening_add(&o, BLOB_KIND_SEGMENT, &l->segment), l, dictionaries);
        if (l->deletes.size && !b->deletes[i]) opening_add(&o, BLOB_KIND_DELETES, &l->deletes);
    }
    int r = blob_open_many(core->objects, o.sources, o.n, o.blobs, err);
    if (r == -ERR_NOT_FOUND) {
        struct err why = *err;
        r = err_set(err, ERR_CORRUPT, "an object is missing: %.300s", why.text);
    }
    for (uint32_t i = 0; i < t->n_leaves && !r; i++) r = take_leaf(b, i, &o, &next, err);
    opening_release(&o);
    page_hold_end(&hold);
    return r;
}

int base_load(struct core *core, const char *root_key, const char *version, const struct base *reuse,
              struct base **ret, struct err *err) {
    struct err none = ERR_INIT;
    struct tree *tree;
    if (!err) err = &none;
    int r = tree_load(core->objects, root_key, version, &tree, err);
    if (r) return r;
    struct base *b = base_of_tree(tree);
    uint32_t hint = 0;
    for (uint32_t i = 0; i < tree->n_leaves; i++) share_leaf(b, i, reuse, &hint);
    r = open_leaves(core, b, err);
    if (r)
        base_unref(b);
    else
        *ret = b;
    return r;
}

int segment_from_batch(struct schema *schema, const struct batch *batch, struct blob_writer *out,
                       struct segment_summary *ret, uint64_t *ret_size, uint32_t *ret_checksum,
                       struct err *err) {
    struct segment_writer *w = segment_writer_new(schema, out);
    int r = 0;
    for (size_t i = 0; i < batch->n && !r; i++) {
        const struct change *c = &batch->changes[i];
        if (c->doc) r = segment_writer_add(w, c->id, c->id_len, c->seq, c->time_ms, c->doc, c->doc_len, err);
    }
    if (!r) r = segment_writer_finish(w, ret, ret_size, ret_checksum, err);
    segment_writer_free(w);
    return r;
}

/* ---- views ---- */

struct view *view_ref(struct view *v) {
    __atomic_add_fetch(&v->refs, 1, __ATOMIC_RELAXED);
    return v;
}

void view_unref(struct view *v) {
    if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL)) return;
    if (v->pin[0]) catalog_unpin(v->coll->core, v->coll->cid, v->pin);
    for (uint32_t i = 0; i < v->n_parts; i++) {
        segment_unref(v->parts[i].segment);
        deletes_unref(v->parts[i].deletes);
        chunk_unref(v->parts[i].chunk);
    }
    free(v->parts);
    base_unref(v->base);
    schema_unref(v->schema);
    free(v);
}

void view_count_documents(struct view *v) {
    v->documents = 0;
    for (uint32_t i = 0; i < v->n_parts; i++)
        v->documents += segment_n_docs(v->parts[i].segment) - deletes_count(v->parts[i].deletes);
}

struct view *view_of_base(struct coll *coll, struct base *base) {
    struct view *v = xcalloc(1, sizeof *v);
    v->refs = 1;
    v->coll = coll;
    v->base = base_ref(base);
    v->n_parts = v->n_base = base->tree->n_leaves;
    v->parts = xcalloc(v->n_parts, sizeof *v->parts);
    for (uint32_t i = 0; i < v->n_parts; i++) {
        v->parts[i].segment = segment_ref(base->segments[i]);
        if (base->deletes[i]) v->parts[i].deletes = deletes_ref(base->deletes[i]);
    }
    v->seq = base->tree->committed_seq;
    v->time_ms = base->tree->data_ms;
    view_count_documents(v);
    return v;
}

static bool covers(const struct view *v, uint32_t part, const char *id, size_t len) {
    if (part >= v->n_base) return true;
    const struct leaf *l = &v->base->tree->leaves[part];
    return id_compare(id, len, l->id_min, l->id_min_len) >= 0 &&
           id_compare(id, len, l->id_max, l->id_max_len) <= 0;
}

/* Over a remote store: the ids of all segments that may have it, in one wave. */
static int fetch_ids(const struct view *v, const char *id, size_t len, struct err *err) {
    struct fetch f = FETCH_INIT;
    if (object_can_map(v->coll->core->objects)) return 0;
    for (uint32_t i = 0; i < v->n_base; i++) {
        if (!covers(v, i, id, len)) continue;
        segment_want_ids(&f, v->parts[i].segment);
        segment_want_lookup(&f, v->parts[i].segment);
    }
    int r = fetch_run(&f, err);
    fetch_release(&f);
    return r;
}

int view_find(const struct view *v, const char *id, size_t len, uint32_t *ret_part, uint32_t *ret_docno,
              struct err *err) {
    int ahead = fetch_ids(v, id, len, err);
    if (ahead) return ahead;
    for (uint32_t i = v->n_parts; i-- > 0;) { /* newest first: most likely alive there */
        if (!covers(v, i, id, len)) continue;
        int r = segment_find_id(v->parts[i].segment, id, len, ret_docno, err);
        if (r) return r;
        if (*ret_docno == DOCNO_NONE || deletes_has(deletes_bits(v->parts[i].deletes), *ret_docno)) continue;
        *ret_part = i;
        return 0;
    }
    *ret_part = v->n_parts;
    return 0;
}

int view_partitions(const struct view *v, uint32_t part, const struct partition_set *set, bool *ret_none,
                    const uint16_t **ret, struct err *err) {
    uint32_t block = part < v->n_base ? v->base->tree->leaves[part].partition : PARTITION_MIXED;
    *ret = NULL;
    *ret_none = !partition_set_overlaps(set, block);
    if (*ret_none || partition_is_single(block)) return 0;
    int r = partition_of_docs(v->parts[part].segment, v->schema, ret, err);
    if (r || *ret) return r;
    return err_set(err, ERR_BUSY, "the index on \"%.80s\" is still being built", v->schema->partition_field);
}

static void drop_old_views(struct coll *coll) {
    for (size_t i = 0; i < ARRAY_SIZE(coll->old); i++) {
        view_unref(coll->old[i]);
        coll->old[i] = NULL;
    }
}

void coll_drop_views(struct coll *coll) {
    pthread_mutex_lock(&coll->lock);
    base_unref(coll->base);
    coll->base = NULL;
    tail_reset(coll);
    drop_old_views(coll);
    free(coll->chunks);
    coll->chunks = NULL;
    coll->cap_chunks = 0;
    schema_unref(coll->schema);
    coll->schema = NULL;
    pthread_mutex_unlock(&coll->lock);
}

int coll_schema(struct coll *coll, uint32_t min_version, struct schema **ret, struct err *err) {
    pthread_mutex_lock(&coll->lock);
    int r = tail_refresh_schema(coll, MAX(min_version, 1u), err);
    if (!r) *ret = schema_ref(coll->schema);
    pthread_mutex_unlock(&coll->lock);
    return r;
}

/* Loads the current root if it moved, and lets go of the chunks it covers. Caller holds coll->lock. */
static int refresh_base(struct coll *coll, struct err *err) {
    char version[OBJECT_VERSION_SIZE];
    struct base *b = NULL;
    int r = coll->base ? object_current(coll->core->objects, coll->root_key, version, err)
                       : base_load(coll->core, coll->root_key, NULL, NULL, &b, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        if (!coll->base) {
            coll->base = base_new_empty(coll->cid, coll->root_key);
            tail_reset(coll);
        }
        return 0;
    }
    if (r || (coll->base && !strcmp(coll->base->tree->version, version))) return r;
    if (!b) r = base_load(coll->core, coll->root_key, NULL, coll->base, &b, err);
    if (r) return r;
    uint64_t committed = b->tree->committed_seq;
    if (coll->base && !coll->base->tree->version[0] && coll->base->tree->committed_seq > committed) {
        base_unref(b); /* we already stand on a restore that is not built yet */
        return 0;
    }
    bool restored = coll->base && b->tree->restored_seq > coll->base->tree->committed_seq;
    base_unref(coll->base);
    coll->base = b;
    uint32_t n = 0;
    while (n < coll->n_chunks && coll->chunks[n]->last_seq <= committed) n++;
    bool straddles = n < coll->n_chunks && coll->chunks[n]->first_seq <= committed;
    if (restored || straddles || coll->cursor.next_seq <= committed)
        tail_reset(coll);
    else
        tail_drop_chunks(coll, n);
    return tail_refresh_schema(coll, b->tree->schema_version, err);
}

static int stopped(const volatile int *stop, struct err *err) {
    int why = stop ? __atomic_load_n(stop, __ATOMIC_RELAXED) : 0;
    if (!why) return 0;
    return err_set(err, why == 1 ? ERR_CANCELED : ERR_TIMEOUT, "stopped while reading the unbuilt log");
}

/* Reads on until the tail covers `end`. Caller holds coll->lock. */
static int extend_to(struct coll *coll, uint64_t end, const volatile int *stop, struct err *err) {
    bool more = true;
    int r = 0;
    while (!r && more && coll->cursor.next_seq <= end) {
        r = stopped(stop, err);
        if (!r) r = tail_extend(coll, end, &more, err);
    }
    return r;
}

/* One attempt; ERR_CONFLICT: the log and the root did not fit together, try again. The end of the log is
 * taken once: what is appended from now on need not be seen, and a reader must not run after a writer. Then
 * the root before the log: what somebody built need not be indexed here, and what an older root leads to may
 * be removed. A record that is built and removed in between is in the root that is looked at next. Caller
 * holds coll->lock. */
static int refresh_strong(struct coll *coll, const volatile int *stop, struct err *err) {
    uint64_t end;
    bool any, covered = false;
    int r = log_end(coll->log, &end, &any, err);
    for (int look = 0; look < 2 && !r && !covered; look++) {
        r = refresh_base(coll, err);
        if (!r && any) r = extend_to(coll, end, stop, err);
        covered = !any || coll->cursor.next_seq > end;
    }
    if (!r && !covered) r = err_set(err, ERR_CONFLICT, "the log ended before its end was reached");
    return r;
}

static int live_strong(struct coll *coll, const volatile int *stop, struct view **ret, struct err *err) {
    int r = -ERR_CONFLICT;
    for (int attempt = 0; attempt < 20 && r == -ERR_CONFLICT; attempt++) {
        err_clear(err);
        r = tail_refresh_schema(coll, 1, err);
        if (!r) r = refresh_strong(coll, stop, err);
        if (r == -ERR_CONFLICT) {
            base_unref(coll->base);
            coll->base = NULL;
            tail_reset(coll);
        }
    }
    if (r) return r;
    r = tail_sync_view(coll, err);
    if (r) return r;
    *ret = view_ref(coll->current);
    return 0;
}

static int live_built(struct coll *coll, struct view **ret, struct err *err) {
    int r = refresh_base(coll, err);
    if (!r) r = tail_refresh_schema(coll, 1, err);
    if (r) return r;
    *ret = view_of_base(coll, coll->base);
    (*ret)->schema = schema_ref(coll->schema);
    return 0;
}

/* Waits for the collection's lock for at most 20 ms. */
static bool lock_soon(struct coll *coll) {
    struct timespec until;
    if (!pthread_mutex_trylock(&coll->lock)) return true;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return !pthread_mutex_timedlock(&coll->lock, &until);
}

/* Takes the collection's lock; others may hold it for as long as they index. */
static int lock_coll(struct coll *coll, const volatile int *stop, struct err *err) {
    int r = 0;
    while (!r && !lock_soon(coll)) r = stopped(stop, err);
    return r;
}

int view_live(struct coll *coll, bool strong, const volatile int *stop, struct view **ret, struct err *err) {
    struct page_hold hold;
    int r = lock_coll(coll, stop, err);
    if (r) return r;
    page_hold_begin(&hold, coll->core->objects->pages);
    r = strong ? live_strong(coll, stop, ret, err) : live_built(coll, ret, err);
    page_hold_end(&hold);
    pthread_mutex_unlock(&coll->lock);
    return r;
}

int view_live_unless_busy(struct coll *coll, const volatile int *stop, struct view **ret, struct err *err) {
    struct page_hold hold;
    if (!lock_soon(coll)) return err_set(err, ERR_TIMEOUT, "the unbuilt log is being indexed");
    page_hold_begin(&hold, coll->core->objects->pages);
    int r = live_strong(coll, stop, ret, err);
    page_hold_end(&hold);
    pthread_mutex_unlock(&coll->lock);
    return r;
}

void view_last_known(struct coll *coll, uint64_t *ret_documents, uint64_t *ret_seq) {
    pthread_mutex_lock(&coll->history_lock);
    *ret_documents = coll->seen_documents;
    *ret_seq = coll->seen_seq;
    pthread_mutex_unlock(&coll->history_lock);
}

bool view_current(const struct view *v) {
    char version[OBJECT_VERSION_SIZE];
    uint64_t last;
    bool any;
    if (log_end(v->coll->log, &last, &any, NULL)) return false;
    if (any && last != v->seq) return false;
    int r = object_current(v->coll->core->objects, v->coll->root_key, version, NULL);
    if (r == -ERR_NOT_FOUND) return !v->base->tree->version[0];
    return !r && !strcmp(version, v->base->tree->version);
}

int base_load_shared(struct coll *coll, const char *root_key, const char *version, struct base **ret,
                     struct err *err) {
    pthread_mutex_lock(&coll->lock);
    struct base *reuse = coll->base ? base_ref(coll->base) : NULL;
    pthread_mutex_unlock(&coll->lock);
    int r = base_load(coll->core, root_key, version, reuse, ret, err);
    base_unref(reuse);
    return r;
}

static int load_old(struct coll *coll, const char *root_key, const char *version, struct view **ret,
                    struct err *err) {
    struct base *base;
    char pin[33] = "";
    int r = base_load_shared(coll, root_key, version, &base, err);
    if (r) return r;
    if (!strcmp(root_key, coll->root_key)) /* copies under other keys are not the cleaner's to expire */
        r = catalog_pin(coll->core, coll->cid, version, base->tree->commit_ms, PIN_TTL_MS, pin, err);
    struct schema *schema = NULL;
    if (!r) r = schema_read_record(base->tree->schema, base->tree->schema_len, &schema, err);
    if (!r) {
        *ret = view_of_base(coll, base);
        (*ret)->schema = schema;
        memcpy((*ret)->pin, pin, sizeof pin);
        (*ret)->pinned_ms = clock_now_ms(coll->core->clock);
    }
    base_unref(base);
    return r;
}

int view_at(struct coll *coll, const char *root_key, const char *version, struct view **ret,
            struct err *err) {
    if (!root_key) root_key = coll->root_key;
    int64_t fresh = clock_now_ms(coll->core->clock) - PIN_TTL_MS / 2;
    struct view *hit = NULL;
    pthread_mutex_lock(&coll->lock);
    for (size_t i = 0; i < ARRAY_SIZE(coll->old) && !hit; i++) {
        struct view *v = coll->old[i];
        if (v && v->pinned_ms > fresh && (!version || !strcmp(v->base->tree->version, version)) &&
            !strcmp(v->base->tree->root_key, root_key))
            hit = view_ref(v);
    }
    pthread_mutex_unlock(&coll->lock);
    int r = hit ? 0 : load_old(coll, root_key, version, &hit, err);
    if (r) return r;
    *ret = hit;
    pthread_mutex_lock(&coll->lock); /* most recently used first */
    size_t at = 0;
    while (at + 1 < ARRAY_SIZE(coll->old) && coll->old[at] != hit) at++;
    struct view *out = coll->old[at];
    memmove(&coll->old[1], &coll->old[0], at * sizeof *coll->old);
    coll->old[0] = out == hit ? hit : view_ref(hit);
    pthread_mutex_unlock(&coll->lock);
    if (out != hit) view_unref(out);
    return 0;
}
