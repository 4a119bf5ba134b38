/* The Builder: turns log records into segments and commits them. Steps and races: docs/DESIGN.md, "Build".
 *
 * Batches of records are read one after the other, written as segments side by side, and committed in their
 * order:
 *
 *     read 1 | read 2 |          | read 3 |          | read 4 | ...
 *            | write 1 --------- | commit 1 |
 *                     | write 2 ----------- | commit 2 |
 *                                         | write 3 ---------- | ...
 *
 * What a segment holds does not depend on the base, so it can be written before those in front of it are
 * committed; what it replaces in the base is found when it is committed. Only a patch has to look into the
 * base while it is read: it waits until nothing is uncommitted. */
#include "fn/builder.h"
#include "fn/catalog.h"
#include "index/page_cache.h"
#include "fn/split.h"
#include "util/thread.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    LANES_MAX = 4,      /* segments written side by side: one for each core, at most these */
    BATCH_MIN_PART = 8, /* of the largest batch: worth a segment while there is more to come */
    INLINE_PART = 128,  /* of it: not worth a thread */
    COMMIT_ATTEMPTS = 20,
    WAIT_STEP_MS = 10,
    WAIT_LIMIT_MS = 120000
};

static int load_base(struct coll *coll, struct base **ret, struct err *err) {
    int r = base_load_shared(coll, coll->root_key, NULL, ret, err);
    if (r != -ERR_NOT_FOUND) return r;
    err_clear(err);
    *ret = base_new_empty(coll->cid, coll->root_key);
    return 0;
}

struct lookup {
    const struct view *view;
    bool stale; /* records before these are not in it yet */
    bool refused;
};

static int base_lookup(void *ctx, const char *id, size_t len, struct buf *out, struct err *err) {
    struct lookup *l = ctx;
    const struct view *v = l->view;
    uint32_t part, docno;
    if (l->stale) {
        l->refused = true;
        return -ERR_BUSY;
    }
    int r = view_find(v, id, len, &part, &docno, err);
    if (r) return r;
    return part == v->n_parts ? -ERR_NOT_FOUND : segment_doc(v->parts[part].segment, docno, out, err);
}

/* ---- older copies ---- */

/* Marking the older copies of everything a batch touches. An id has one live copy in the base at most. */
struct marking {
    struct edit *edit;
    const struct batch *batch;
    bool *found; /* by change: its older copy is marked */
};

/* The first change whose id is not below (or, with `after`, above) the given one. */
static size_t change_bound(const struct batch *b, const char *id, size_t len, bool after) {
    size_t lo = 0, hi = b->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = id_compare(b->changes[mid].id, b->changes[mid].id_len, id, len);
        if (c < 0 || (after && c == 0))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int mark(struct marking *m, uint32_t leaf, uint32_t docno, size_t change, struct err *err) {
    if (deletes_has(deletes_bits(m->edit->base->deletes[leaf]), docno)) return 0;
    m->found[change] = true;
    return edit_delete(m->edit, leaf, docno, err);
}

/* Looks each changed id up in the leaf. */
static int mark_by_changes(struct marking *m, uint32_t leaf, size_t lo, size_t hi, struct err *err) {
    int r = 0;
    for (size_t i = lo; i < hi && !r; i++) {
        uint32_t docno;
        if (m->found[i]) continue;
        r = segment_find_id(m->edit->base->segments[leaf], m->batch->changes[i].id,
                            m->batch->changes[i].id_len, &docno, err);
        if (!r && docno != DOCNO_NONE) r = mark(m, leaf, docno, i, err);
    }
    return r;
}

/* Looks each id of the leaf up among the changes. */
static int mark_by_documents(struct marking *m, uint32_t leaf, struct err *err) {
    const struct segment *s = m->edit->base->segments[leaf];
    struct buf id = BUF_INIT;
    int r = 0;
    for (uint32_t d = 0; d < segment_n_docs(s) && !r; d++) {
        buf_clear(&id);
        r = segment_id(s, d, &id, err);
        if (r) break;
        size_t i = change_bound(m->batch, (const char *)id.data, id.len, false);
        const struct change *c = &m->batch->changes[i];
        if (i < m->batch->n && !id_compare(c->id, c->id_len, id.data, id.len)) r = mark(m, leaf, d, i, err);
    }
    buf_release(&id);
    return r;
}

/* Whichever is shorter: with many partitions there are many small leaves, each with ids from everywhere. */
static int mark_touched(struct edit *e, const struct batch *batch, struct err *err) {
    struct marking m = {.edit = e, .batch = batch, .found = xcalloc(batch->n, sizeof(bool))};
    int r = 0;
    for (uint32_t i = e->base->tree->n_leaves; i-- > 0 && !r;) { /* newest first: most likely alive there */
        const struct leaf *l = &e->base->tree->leaves[i];
        size_t lo = change_bound(batch, l->id_min, l->id_min_len, false);
        size_t hi = change_bound(batch, l->id_max, l->id_max_len, true);
        if (lo >= hi) continue;
        if (l->n_docs < (hi - lo) / 2)
            r = mark_by_documents(&m, i, err);
        else
            r = mark_by_changes(&m, i, lo, hi, err);
    }
    free(m.found);
    return r;
}

/* A batch on its way. */
struct building {
    struct coll *coll;
    uint64_t epoch; /* of the lease */
    struct batch batch;
    pthread_t thread; /* that writes the segments */
    bool threaded;
    int result; /* of writing */
    struct err err;
    struct schema *schema; /* of the batch's records */
    struct leaf *leaves;   /* the batch's segments: one, or several by partition */
    uint32_t n_leaves;
    uint64_t written_sum;
};

/* The newest schema of the batch's records, of the tree and of the batch in front (NULL: none): a writer may
 * have been a moment behind an extension. */
static int batch_schema(struct building *b, const struct base *base, const struct building *front,
                        struct err *err) {
    struct core *core = b->coll->core;
    const struct tree *t = base->tree;
    if (front &&
        front->schema->version >= MAX(b->batch.schema_version, t->schema_len ? t->schema_version : 0)) {
        b->schema = schema_ref(front->schema);
        return 0;
    }
    if (t->schema_len && t->schema_version >= b->batch.schema_version)
        return schema_read_record(t->schema, t->schema_len, &b->schema, err);
    if (b->batch.schema_version)
        return catalog_schema_version(core, b->coll->cid, b->batch.schema_version, &b->schema, err);
    return catalog_schema(core, b->coll->cid, &b->schema, NULL, err);
}

/* Writes documents as one segment of a block of partitions. */
static int write_segment(struct building *b, const struct batch *docs, uint32_t block, struct err *err) {
    struct upload up;
    struct segment_summary sum;
    uint64_t size;
    uint32_t checksum;
    int r = upload_open(&up, b->coll, err);
    if (r) return r;
    r = segment_from_batch(b->schema, docs, &up.writer, &sum, &size, &checksum, err);
    if (!r) {
        b->leaves = xrealloc(b->leaves, (b->n_leaves + 1) * sizeof *b->leaves);
        struct leaf *l = &b->leaves[b->n_leaves++];
        memset(l, 0, sizeof *l);
        leaf_from_summary(l, &sum, size, checksum);
        l->partition = block;
        r = upload_put(&up, size, checksum, &l->segment, err);
    }
    if (!r) b->written_sum += sum.checksum_sum;
    upload_close(&up);
    return r;
}

/* The partition of each change that is a document, and how much each partition has. */
static int find_partitions(struct building *b, uint16_t *partitions, uint64_t *bytes, struct err *err) {
    struct arena arena = ARENA_INIT;
    int r = 0;
    for (size_t i = 0; i < b->batch.n && !r; i++) {
        const struct change *c = &b->batch.changes[i];
        struct jval *doc;
        if (!c->doc) continue;
        arena_reset(&arena);
        r = jval_parse(&arena, c->doc, c->doc_len, &doc, err);
        if (r) break;
        partitions[i] = (uint16_t)partition_of_doc(b->schema, doc);
        bytes[partitions[i]] += c->doc_len;
    }
    arena_release(&arena);
    return r;
}

static int write_partitions(struct building *b, struct err *err) {
    uint16_t *partitions = xcalloc(b->batch.n, sizeof *partitions);
    uint64_t *bytes = xcalloc(PARTITIONS_MAX + 1, sizeof *bytes);
    struct split *split = xmalloc(sizeof *split);
    struct batch docs = b->batch;
    int r = find_partitions(b, partitions, bytes, err);
    if (!r) split_plan(split, b->schema, PARTITION_MIXED, bytes, b->coll->core->partition_bytes, UINT_MAX);
    docs.changes = xmalloc(b->batch.n * sizeof *docs.changes);
    for (uint32_t s = 0; !r && s < split->n; s++) {
        docs.n = 0;
        for (size_t i = 0; i < b->batch.n; i++)
            if (b->batch.changes[i].doc && split->segment[partitions[i]] == s)
                docs.changes[docs.n++] = b->batch.changes[i];
        r = write_segment(b, &docs, split->blocks[s], err);
    }
    free(docs.changes);
    free(partitions);
    free(bytes);
    free(split);
    return r;
}

static int write_segments(struct building *b, struct err *err) {
    return b->schema->partition_field ? write_partitions(b, err) : write_segment(b, &b->batch, 0, err);
}

/* A root with the target's tree, and everything below the RESTORE committed. */
static int restore_base(struct building *b, const struct base *now, struct base **ret, struct err *err) {
    int r = base_load(b->coll->core, b->batch.restore_key, NULL, now, ret, err);
    if (r) return err_wrap(err, "could not read the state to restore");
    struct tree *t = (*ret)->tree; /* the target's leaves in the place of the present root */
    memcpy(t->version, now->tree->version, sizeof t->version);
    memcpy(t->etag, now->tree->etag, sizeof t->etag);
    t->commit_no = now->tree->commit_no;
    t->commit_ms = now->tree->commit_ms;
    return 0;
}

/* One attempt to commit the batch on top of `base`. */
static int commit_batch(struct building *b, struct base *base, struct err *err) {
    struct edit e;
    struct base *target = NULL;
    struct page_hold hold;
    int r = b->batch.stop == LOG_RESTORE ? restore_base(b, base, &target, err) : 0;
    if (r) return r;
    page_hold_begin(&hold, b->coll->core->objects->pages);
    edit_init(&e, b->coll, target ? target : base);
    base_unref(target);
    e.epoch = b->epoch;
    e.first_seq = b->batch.first_seq;
    e.committed_seq = b->batch.last_seq;
    e.data_ms = b->batch.last_time_ms;
    if (b->batch.stop == LOG_RESTORE) e.restored_seq = b->batch.last_seq;
    e.schema = schema_ref(b->schema);
    for (uint32_t i = 0; i < b->n_leaves; i++) edit_add(&e, &b->leaves[i]);
    e.written_sum = b->written_sum;
    r = mark_touched(&e, &b->batch, err);
    if (!r)
        r = meta_lease_renew(b->coll->core->meta, b->coll->cid, b->coll->core->owner, b->epoch, LEASE_TTL_MS,
                             err);
    if (!r) r = edit_commit(&e, err);
    edit_release(&e);
    page_hold_end(&hold);
    return r;
}

static void *write_main(void *p) {
    struct building *b = p;
    b->result = write_segments(b, &b->err);
    return NULL;
}

static void building_free(struct building *b) {
    if (!b) return;
    if (b->threaded) pthread_join(b->thread, NULL);
    batch_release(&b->batch);
    schema_unref(b->schema);
    for (uint32_t i = 0; i < b->n_leaves; i++) leaf_release(&b->leaves[i]);
    free(b->leaves);
    free(b);
}

/* ---- the pipeline ---- */

struct pipeline {
    struct coll *coll;
    uint64_t epoch, up_to;
    bool follow;              /* up_to moves with the log */
    struct base *base;        /* the newest root known; NULL: to be loaded */
    struct log_cursor cursor; /* behind what was read */
    /* uncommitted, oldest first: one may be committed while others are written */
    struct building *batches[LANES_MAX + 1];
    unsigned n, lanes;
    uint64_t committed;
    bool lost;      /* somebody else commits to this collection: what was read is of no use */
    int unreadable; /* why nothing more is read; what was read before is committed first */
    struct err err; /* of it */
};

static int need_base(struct pipeline *p, struct err *err) {
    return p->base ? 0 : load_base(p->coll, &p->base, err);
}

static void forget_base(struct pipeline *p) {
    base_unref(p->base);
    p->base = NULL;
}

/* How much to read for the next segment; 0: nothing now. */
static int next_size(struct pipeline *p, size_t *ret, struct err *err) {
    uint64_t bytes, most = p->coll->core->batch_bytes, least = most / BATCH_MIN_PART;
    bool any;
    int r = p->follow ? log_end(p->coll->log, &p->up_to, &any, err) : 0;
    *ret = 0;
    if (r || p->cursor.next_seq > p->up_to) return r;
    r = log_pending_bytes(p->coll->log, &p->cursor, &bytes, err);
    if (r || (p->follow && (p->n || p->committed) && bytes < least)) return r;
    *ret = (size_t)MIN(MAX(bytes / p->lanes, least), most);
    return 0;
}

/* Reads the next batch into b. *ret_any false: there is none, or it has to wait. */
static int read_batch(struct pipeline *p, struct building *b, bool *ret_any, struct err *err) {
    size_t bytes;
    struct log_cursor before = p->cursor;
    int r = next_size(p, &bytes, err);
    if (r || !bytes) return r;
    struct lookup l = {.stale = p->n > 0};
    struct view *v = view_of_base(p->coll, p->base);
    l.view = v;
    struct page_hold hold;
    page_hold_begin(&hold, p->coll->core->objects->pages);
    r = batch_read(p->coll->log, &p->cursor, p->up_to, bytes, true, base_lookup, &l, &b->batch, err);
    page_hold_end(&hold);
    view_unref(v);
    if (l.refused) {
        p->cursor = before;
        err_clear(err);
        return 0;
    }
    if (!r && b->batch.last_seq >= b->batch.first_seq) {
        *ret_any = true;
        r = batch_schema(b, p->base, p->n ? p->batches[p->n - 1] : NULL, err);
    }
    return r;
}

/* Reads the next batch and begins to write it. */
static int start_batch(struct pipeline *p, bool *ret_any, struct err *err) {
    *ret_any = false;
    if (p->n && p->batches[p->n - 1]->batch.stop == LOG_RESTORE) return 0; /* what follows has another base */
    int r = need_base(p, err);
    if (r) return r;
    uint64_t next = p->base->tree->committed_seq + 1;
    if (!p->n && p->cursor.next_seq != next) p->cursor = (struct log_cursor){.next_seq = next};
    struct building *b = xcalloc(1, sizeof *b);
    b->coll = p->coll;
    b->epoch = p->epoch;
    r = read_batch(p, b, ret_any, err);
    if (r || !*ret_any) {
        building_free(b);
        return r;
    }
    p->batches[p->n++] = b;
    if (!b->batch.n_docs) return 0;
    if (b->batch.bytes >= p->coll->core->batch_bytes / INLINE_PART)
        b->threaded = !thread_create(&b->thread, write_main, b);
    if (!b->threaded) write_main(b);
    return 0;
}

/* Up to `most` batches are on their way. */
static void start_batches(struct pipeline *p, unsigned most) {
    bool any = true;
    while (!p->unreadable && any && p->n < most) p->unreadable = start_batch(p, &any, &p->err);
}

static int join_oldest(struct pipeline *p, struct err *err) {
    struct building *b = p->batches[0];
    if (b->threaded) pthread_join(b->thread, NULL);
    b->threaded = false;
    if (b->result && err) *err = b->err;
    return b->result;
}

/* Commits the oldest batch; a merge that came in between is fine, another build is not. */
static int commit_oldest(struct pipeline *p, struct err *err) {
    struct building *b = p->batches[0];
    /* never commit what power loss could take back */
    int r = log_sync_all(p->coll->log, b->batch.last_seq, err);
    if (!r) r = -ERR_CONFLICT;
    for (int i = 0; i < COMMIT_ATTEMPTS && r == -ERR_CONFLICT; i++) {
        err_clear(err);
        if ((r = need_base(p, err))) return r;
        p->lost = p->base->tree->committed_seq != b->batch.first_seq - 1;
        if (p->lost) return 0;
        r = commit_batch(b, p->base, err);
        forget_base(p);
    }
    if (r) return r;
    p->committed = b->batch.last_seq;
    counter_add(&p->coll->core->n_builds, 1);
    building_free(b);
    memmove(p->batches, p->batches + 1, --p->n * sizeof *p->batches);
    return 0;
}

/* Removes built log segments, by a root read anew. */
static int trim_log(struct coll *coll, struct err *err) {
    struct tree *t;
    int r = tree_load(coll->core->objects, coll->root_key, NULL, &t, err);
    if (r) return r;
    r = log_trim(coll->log, t->committed_seq, 1 << 20, err);
    tree_unref(t);
    return r;
}

static int run_pipeline(struct pipeline *p, struct err *err) {
    int r = 0;
    start_batches(p, p->lanes);
    while (!r && p->n && !p->lost) {
        r = join_oldest(p, err);
        if (r) break;
        start_batches(p, p->lanes + 1);
        r = commit_oldest(p, err);
        if (!r && !p->lost) r = trim_log(p->coll, err);
        if (!r && !p->lost) start_batches(p, p->lanes);
    }
    if (!p->n && p->committed) p->coll->built_cursor = p->cursor;
    while (p->n) building_free(p->batches[--p->n]);
    forget_base(p);
    if (r || p->lost || !p->unreadable) return r;
    if (err) *err = p->err;
    return p->unreadable;
}

static unsigned lanes(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return (unsigned)MIN(MAX(cores, 1L), (long)LANES_MAX);
}

static int build_leased(struct coll *coll, uint64_t epoch, uint64_t up_to, bool follow, uint64_t *ret_seq,
                        struct err *err) {
    int r = 0;
    bool lost = true;
    while (!r && lost) {
        struct pipeline p = {
            .coll = coll, .epoch = epoch, .up_to = up_to, .follow = follow, .lanes = lanes()};
        if (!(r = need_base(&p, err))) *ret_seq = p.base->tree->committed_seq;
        if (!r) r = run_pipeline(&p, err);
        if (p.committed) *ret_seq = p.committed;
        lost = p.lost;
    }
    if (r == -ERR_CONFLICT) { /* the log moved on below us: another builder was faster */
        err_clear(err);
        r = 0;
    }
    return r;
}

static void pause_ms(int ms) {
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&ts, NULL);
}

static int run(struct coll *coll, uint64_t up_to, bool wait, bool follow, uint64_t *ret_seq,
               struct err *err) {
    uint64_t epoch, seq = 0;
    bool any;
    int r = 0;
    if (up_to == UINT64_MAX) {
        r = log_end(coll->log, &up_to, &any, err);
        if (r) return r;
        if (!any) up_to = 0;
    }
    pthread_mutex_lock(&coll->build_lock);
    for (int waited = 0;; waited += WAIT_STEP_MS) {
        r = meta_lease_acquire(coll->core->meta, coll->cid, coll->core->owner, LEASE_TTL_MS, &epoch, err);
        if (r != -ERR_BUSY || !wait || waited >= WAIT_LIMIT_MS) break;
        err_clear(err);
        pause_ms(WAIT_STEP_MS);
    }
    if (!r) {
        r = build_leased(coll, epoch, up_to, follow, &seq, err);
        meta_lease_release(coll->core->meta, coll->cid, coll->core->owner, epoch, NULL);
    }
    pthread_mutex_unlock(&coll->build_lock);
    if (!r && seq < up_to)
        r = err_set(err, ERR_BUSY, "another builder is at work on collection %s", coll->cid);
    if (!r && ret_seq) *ret_seq = seq;
    return r ? err_wrap(err, "could not build") : 0;
}

int builder_run(struct coll *coll, uint64_t up_to, bool wait, uint64_t *ret_seq, struct err *err) {
    return run(coll, up_to, wait, false, ret_seq, err);
}

int builder_follow(struct coll *coll, struct err *err) {
    return run(coll, UINT64_MAX, false, true, NULL, err);
}
