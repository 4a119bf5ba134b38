/* The tail: the unbuilt log as a few memory segments ("chunks"), geometrically merged, and the view over base
 * and tail. */
#include "fn/view_internal.h"

enum { TAIL_BATCH_BYTES = 8 << 20 };

/* ---- chunks ---- */

struct chunk *chunk_ref(struct chunk *c) {
    __atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

void chunk_unref(struct chunk *c) {
    if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL)) return;
    segment_unref(c->segment);
    arena_release(&c->arena);
    free(c->touched);
    free(c);
}

static int memory_segment(struct blob_writer *w, struct segment **ret, struct err *err) {
    struct blob *blob;
    size_t size;
    uint8_t *data = buf_detach(&w->mem, &size);
    int r = blob_open_memory(data, size, BLOB_KIND_SEGMENT, &blob, err);
    return r ? r : segment_open(blob, ret, err);
}

static void chunk_touch(struct chunk *c, size_t i, const char *id, uint32_t len) {
    c->touched[i].id = arena_strndup(&c->arena, id, len);
    c->touched[i].len = len;
}

static int chunk_of_batch(struct schema *schema, const struct batch *batch, struct chunk **ret,
                          struct err *err) {
    struct chunk *c = xcalloc(1, sizeof *c);
    int r = 0;
    c->refs = 1;
    c->first_seq = batch->first_seq;
    c->last_seq = batch->last_seq;
    c->time_ms = batch->last_time_ms;
    c->n_touched = batch->n;
    c->touched = xcalloc(batch->n, sizeof *c->touched);
    for (size_t i = 0; i < batch->n; i++) chunk_touch(c, i, batch->changes[i].id, batch->changes[i].id_len);
    if (batch->n_docs) {
        struct blob_writer w;
        struct segment_summary sum;
        uint64_t size;
        uint32_t checksum;
        blob_writer_init(&w, -1, BLOB_KIND_SEGMENT);
        r = segment_from_batch(schema, batch, &w, &sum, &size, &checksum, err);
        if (!r) r = memory_segment(&w, &c->segment, err);
        c->n_docs = (uint32_t)batch->n_docs;
        blob_writer_release(&w);
    }
    if (r)
        chunk_unref(c);
    else
        *ret = c;
    return r;
}

/* The ids touched by either, ascending. */
static void merge_touched(struct chunk *out, const struct chunk *a, const struct chunk *b) {
    size_t i = 0, k = 0, n = 0;
    out->touched = xcalloc(a->n_touched + b->n_touched, sizeof *out->touched);
    while (i < a->n_touched || k < b->n_touched) {
        int c = i == a->n_touched ? 1
                : k == b->n_touched
                    ? -1
                    : id_compare(a->touched[i].id, a->touched[i].len, b->touched[k].id, b->touched[k].len);
        if (c <= 0)
            chunk_touch(out, n++, a->touched[i].id, a->touched[i].len);
        else
            chunk_touch(out, n++, b->touched[k].id, b->touched[k].len);
        if (c <= 0) i++;
        if (c >= 0) k++;
    }
    out->n_touched = n;
}

/* Two neighbouring chunks as one; mask: what the newer one hides of the older. */
static int chunk_merge(struct schema *schema, struct chunk *a, const struct deletes *mask, struct chunk *b,
                       struct chunk **ret, struct err *err) {
    struct chunk *c = xcalloc(1, sizeof *c);
    int r = 0;
    c->refs = 1;
    c->first_seq = a->first_seq;
    c->last_seq = b->last_seq;
    c->time_ms = b->time_ms;
    merge_touched(c, a, b);
    struct merge_input in[2];
    size_t n = 0;
    if (a->segment && deletes_count(mask) < a->n_docs) in[n++] = (struct merge_input){a->segment, mask, NULL};
    if (b->segment) in[n++] = (struct merge_input){b->segment, NULL, NULL};
    if (n) {
        struct blob_writer w;
        struct segment_summary sum;
        uint64_t size;
        uint32_t checksum;
        blob_writer_init(&w, -1, BLOB_KIND_SEGMENT);
        r = segment_merge(schema, in, n, &w, NULL, &sum, &size, &checksum, NULL, err);
        if (!r) r = memory_segment(&w, &c->segment, err);
        if (!r) c->n_docs = segment_n_docs(c->segment);
        blob_writer_release(&w);
    }
    if (r)
        chunk_unref(c);
    else
        *ret = c;
    return r;
}

/* ---- views over base and chunks ---- */

/* A private copy with room for one more part. Its deletes are shared: mask() makes them private where they
 * change. */
static struct view *view_copy(const struct view *old, uint32_t room) {
    struct view *v = xcalloc(1, sizeof *v);
    v->refs = 1;
    v->coll = old->coll;
    v->base = base_ref(old->base);
    v->n_parts = old->n_parts;
    v->n_base = old->n_base;
    v->seq = old->seq;
    v->time_ms = old->time_ms;
    v->documents = old->documents;
    v->schema = old->schema ? schema_ref(old->schema) : NULL;
    v->parts = xcalloc(old->n_parts + room, sizeof *v->parts);
    for (uint32_t i = 0; i < old->n_parts; i++) {
        const struct view_part *p = &old->parts[i];
        v->parts[i] = (struct view_part){segment_ref(p->segment), p->deletes ? deletes_ref(p->deletes) : NULL,
                                         p->chunk ? chunk_ref(p->chunk) : NULL};
    }
    return v;
}

/* Adds a chunk to a view under construction: its ids mask everything before it. `owned` tells which parts'
 * deletes are already private to this view. */
static int view_add_chunk(struct view *v, struct chunk *c, bool *owned, struct err *err) {
    for (size_t i = 0; i < c->n_touched; i++) {
        uint32_t part, docno;
        int r = view_find(v, c->touched[i].id, c->touched[i].len, &part, &docno, err);
        if (r) return r;
        if (part == v->n_parts) continue;
        struct view_part *p = &v->parts[part];
        if (!owned[part]) {
            struct deletes *own = p->deletes ? deletes_clone(p->deletes) : deletes_new(p->segment);
            deletes_unref(p->deletes);
            p->deletes = own;
            owned[part] = true;
        }
        r = deletes_add(p->deletes, p->segment, docno, err);
        if (r < 0) return r;
    }
    if (c->segment) v->parts[v->n_parts++] = (struct view_part){segment_ref(c->segment), NULL, chunk_ref(c)};
    v->seq = c->last_seq;
    v->time_ms = MAX(v->time_ms, c->time_ms);
    return 0;
}

static int view_settle(struct view *v, const bool *owned, struct err *err) {
    int r = 0;
    for (uint32_t i = 0; i < v->n_parts && !r; i++)
        if (owned[i]) r = deletes_settle(v->parts[i].deletes, v->parts[i].segment, err);
    return r;
}

static void set_state(struct coll *coll, struct view *v) {
    v->seq = coll->cursor.next_seq - 1;
    v->time_ms = MAX(v->time_ms, coll->tail_time_ms);
    schema_unref(v->schema);
    v->schema = coll->schema ? schema_ref(coll->schema) : NULL;
    view_count_documents(v);
    view_unref(coll->current);
    coll->current = v;
    pthread_mutex_lock(&coll->history_lock);
    coll->seen_documents = v->documents;
    coll->seen_seq = v->seq;
    pthread_mutex_unlock(&coll->history_lock);
}

int tail_sync_view(struct coll *coll, struct err *err) {
    struct view *v = coll->current;
    if (v && v->base == coll->base && v->seq + 1 == coll->cursor.next_seq) {
        if (v->schema != coll->schema) set_state(coll, view_copy(v, 0));
        return 0;
    }
    v = view_of_base(coll, coll->base);
    v->parts = xrealloc(v->parts, (v->n_base + coll->n_chunks + 1) * sizeof *v->parts);
    bool *owned = xcalloc(v->n_base + coll->n_chunks + 1, sizeof *owned);
    int r = 0;
    for (uint32_t n = 0; n < coll->n_chunks && !r; n++) r = view_add_chunk(v, coll->chunks[n], owned, err);
    if (!r) r = view_settle(v, owned, err);
    free(owned);
    if (r)
        view_unref(v);
    else
        set_state(coll, v);
    return r;
}

/* ---- the tail ---- */

void tail_drop_chunks(struct coll *coll, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) chunk_unref(coll->chunks[i]);
    if (n) memmove(coll->chunks, coll->chunks + n, (coll->n_chunks - n) * sizeof *coll->chunks);
    coll->n_chunks -= n;
}

void tail_reset(struct coll *coll) {
    tail_drop_chunks(coll, coll->n_chunks);
    coll->cursor = (struct log_cursor){.next_seq = coll->base ? coll->base->tree->committed_seq + 1 : 1};
    coll->tail_time_ms = 0;
    view_unref(coll->current);
    coll->current = NULL;
}

static bool schema_declares_more(const struct schema *old, const struct schema *now) {
    for (uint32_t i = 0; i < now->n_fields; i++) {
        const struct field *before = schema_find(old, now->fields[i].path, now->fields[i].path_len);
        if (!now->fields[i].inferred && (!before || before->inferred)) return true;
    }
    return false;
}

int tail_refresh_schema(struct coll *coll, uint32_t min_version, struct err *err) {
    if (coll->schema && coll->schema->version >= min_version) return 0;
    struct schema *s;
    int r = catalog_schema(coll->core, coll->cid, &s, NULL, err);
    if (r) return r;
    if (s->version < min_version) {
        schema_unref(s);
        return err_set(err, ERR_CORRUPT, "schema version %u of collection %s is missing", min_version,
                       coll->cid);
    }
    if (coll->schema && schema_declares_more(coll->schema, s)) tail_reset(coll);
    schema_unref(coll->schema);
    coll->schema = s;
    return 0;
}

static int tail_lookup(void *ctx, const char *id, size_t len, struct buf *out, struct err *err) {
    const struct view *v = ctx;
    uint32_t part, docno;
    int r = view_find(v, id, len, &part, &docno, err);
    if (r) return r;
    if (part == v->n_parts) return -ERR_NOT_FOUND;
    return segment_doc(v->parts[part].segment, docno, out, err);
}

/* A RESTORE in the tail: the base becomes the target's tree, as if committed at that number. */
static int tail_restore(struct coll *coll, const struct batch *batch, struct err *err) {
    struct base *b;
    int r = base_load(coll->core, batch->restore_key, NULL, coll->base, &b, err);
    if (r == -ERR_NOT_FOUND)
        return err_set(err, ERR_CONFLICT, "the restore was built meanwhile"); /* see its root */
    if (r) return err_wrap(err, "could not read the state to restore");
    struct log_cursor cursor = coll->cursor;
    b->tree->committed_seq = batch->last_seq;
    b->tree->version[0] =
        0; /* not a root of this collection's history: replaced by the real one when it is built */
    base_unref(coll->base);
    coll->base = b;
    tail_reset(coll);
    coll->cursor = cursor;
    coll->tail_time_ms = batch->last_time_ms;
    return 0;
}

static void release_part(struct view_part *p) {
    segment_unref(p->segment);
    deletes_unref(p->deletes);
    chunk_unref(p->chunk);
}

/* Keeps the number of chunks logarithmic: a chunk at least half as big as the one before it is merged into
 * that. v is the view under construction over all chunks. */
static int compact_chunks(struct coll *coll, struct view *v, struct err *err) {
    while (coll->n_chunks >= 2) {
        struct chunk **last = &coll->chunks[coll->n_chunks - 2], *merged;
        if (last[1]->n_touched * 2 < last[0]->n_touched) break;
        uint32_t part = v->n_parts - (last[1]->segment != NULL) - (last[0]->segment != NULL);
        const struct deletes *mask = last[0]->segment ? v->parts[part].deletes : NULL;
        int r = chunk_merge(coll->schema, last[0], mask, last[1], &merged, err);
        if (r) return r;
        while (v->n_parts > part) release_part(&v->parts[--v->n_parts]);
        if (merged->segment)
            v->parts[v->n_parts++] =
                (struct view_part){segment_ref(merged->segment), NULL, chunk_ref(merged)};
        chunk_unref(last[0]);
        chunk_unref(last[1]);
        last[0] = merged;
        coll->n_chunks--;
    }
    return 0;
}

/* Puts a chunk behind the tail and makes the view over it. */
static int append_chunk(struct coll *coll, struct chunk *taken, struct err *err) {
    struct view *v = view_copy(coll->current, 1);
    bool *owned = xcalloc(v->n_parts + 1, sizeof *owned);
    int r = view_add_chunk(v, taken, owned, err);
    if (!r) r = view_settle(v, owned, err);
    free(owned);
    VEC_GROW(coll->chunks, coll->n_chunks, coll->cap_chunks);
    coll->chunks[coll->n_chunks++] = taken;
    if (!r) r = compact_chunks(coll, v, err);
    if (r)
        view_unref(v);
    else
        set_state(coll, v);
    return r;
}

int tail_extend(struct coll *coll, uint64_t up_to, bool *ret_more, struct err *err) {
    struct batch batch;
    *ret_more = false;
    int r = tail_sync_view(coll, err);
    if (r) return r;
    const struct view *before = coll->current;
    r = batch_read(coll->log, &coll->cursor, up_to, TAIL_BATCH_BYTES, false, tail_lookup, coll->current,
                   &batch, err);
    if (r) return r;
    *ret_more = batch.last_seq >= batch.first_seq;
    if (batch.stop == LOG_RESTORE)
        r = tail_restore(coll, &batch, err);
    else if (*ret_more) {
        r = tail_refresh_schema(coll, batch.schema_version, err);
        if (r || coll->current != before) goto out; /* the tail was reset: read it again */
        coll->tail_time_ms = MAX(coll->tail_time_ms, batch.last_time_ms);
        struct chunk *c;
        if (!batch.n)
            set_state(coll, view_copy(coll->current, 0));
        else if (!(r = chunk_of_batch(coll->schema, &batch, &c, err)))
            r = append_chunk(coll, c, err);
    }
out:
    if (r) tail_reset(coll);
    batch_release(&batch);
    return r;
}
