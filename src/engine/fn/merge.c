/* The merger: keeps the number of segments logarithmic, drops dead documents, back-fills added indexes. It runs beside the
 * builder and commits by the same compare-and-set; documents that die meanwhile are carried over through the maps. */
#include "fn/builder.h"
#include "fn/catalog.h"

#include <stdio.h>

enum { TIER_FANIN = 8, MERGE_ATTEMPTS = 20, MERGE_MAX_INPUTS = 64 };
#define TIER_FLOOR_BYTES (1ull << 20)
#define MERGE_MAX_BYTES  (8ull << 30)
#define DEAD_SHARE       0.4

struct merging {
    struct coll *coll;
    struct base *base;                  /* what is merged */
    uint32_t picks[MERGE_MAX_INPUTS];   /* leaf numbers in base */
    size_t n;
    uint32_t *maps[MERGE_MAX_INPUTS];
    struct leaf leaf;
    struct segment *segment;            /* the result, opened for carried deletes */
};

static uint64_t live_bytes(const struct leaf *l) {
    return l->n_docs ? l->raw_bytes / l->n_docs * (l->n_docs - l->n_deleted) : 0;
}

static unsigned tier_of(uint64_t bytes) {
    unsigned t = 0;
    for (uint64_t limit = TIER_FLOOR_BYTES; bytes >= limit && t < 20; limit *= TIER_FANIN) t++;
    return t;
}

/* Does the segment lack an index that the schema declares? */
static bool lacks_index(const struct segment *s, const struct schema *schema) {
    for (uint32_t i = 0; i < schema->n_fields; i++) {
        const struct field *f = &schema->fields[i];
        if (f->inferred || f->type == FIELD_OBJECT || f->type == FIELD_SPARSE_VECTOR) continue;
        enum analyzer a = f->type == FIELD_TEXT ? (enum analyzer)__builtin_ctz(f->analyzers) : 0;
        if (!segment_field(s, f->path, f->path_len, f->type, a)) return true;
    }
    return false;
}

static bool pick_one(struct merging *m, uint32_t i) {
    m->picks[0] = i;
    m->n = 1;
    return true;
}

/* The lowest tier with enough segments; else one segment that is mostly dead or lacks an index. */
static bool pick(struct merging *m, bool force, const struct schema *schema) {
    const struct tree *t = m->base->tree;
    if (force) {
        for (m->n = 0; m->n < t->n_leaves && m->n < MERGE_MAX_INPUTS; m->n++) m->picks[m->n] = (uint32_t)m->n;
        return m->n > 1 || (m->n == 1 && (t->leaves[0].n_deleted || lacks_index(m->base->segments[0], schema)));
    }
    for (uint32_t i = 0; i < t->n_leaves; i++)
        if (lacks_index(m->base->segments[i], schema)) return pick_one(m, i);
    for (unsigned tier = 0; tier < 20; tier++) {
        uint64_t bytes = 0;
        m->n = 0;
        for (uint32_t i = 0; i < t->n_leaves && m->n < MERGE_MAX_INPUTS; i++) {
            uint64_t b = live_bytes(&t->leaves[i]);
            if (tier_of(b) != tier || bytes + b > MERGE_MAX_BYTES) continue;
            bytes += b;
            m->picks[m->n++] = i;
        }
        if (m->n >= TIER_FANIN) return true;
    }
    for (uint32_t i = 0; i < t->n_leaves; i++)
        if (t->leaves[i].n_deleted > DEAD_SHARE * t->leaves[i].n_docs) return pick_one(m, i);
    return false;
}

static int write_merged(struct merging *m, struct schema *schema, const volatile int *cancel, struct err *err) {
    struct merge_input in[MERGE_MAX_INPUTS];
    struct upload up;
    struct segment_summary sum;
    struct blob *blob;
    uint64_t size;
    uint32_t checksum;
    for (size_t i = 0; i < m->n; i++)
        in[i] = (struct merge_input){m->base->segments[m->picks[i]], m->base->deletes[m->picks[i]]};
    int r = upload_open(&up, m->coll, err);
    if (r) return r;
    r = segment_merge(schema, in, m->n, &up.writer, cancel, &sum, &size, &checksum, m->maps, err);
    if (!r) leaf_from_summary(&m->leaf, &sum, size, checksum);
    if (!r) r = upload_put(&up, size, checksum, &m->leaf.segment, err);
    upload_close(&up);
    if (!r)
        r = blob_open(m->coll->core->objects, m->leaf.segment.key, m->leaf.segment.version, BLOB_KIND_SEGMENT, size,
                      checksum, &blob, err);
    return r ? r : segment_open(blob, &m->segment, err);
}

static int find_leaf(const struct tree *t, const struct leaf *l) {
    for (uint32_t i = 0; i < t->n_leaves; i++)
        if (!strcmp(t->leaves[i].segment.key, l->segment.key)) return (int)i;
    return -1;
}

/* Documents of input i that died since the merge began are dead in the result too. */
static int carry_over(struct merging *m, size_t i, const struct deletes *now, struct edit *e, struct err *err) {
    const uint64_t *new_bits = deletes_bits(now), *old_bits = deletes_bits(m->base->deletes[m->picks[i]]);
    uint32_t n = segment_n_docs(m->base->segments[m->picks[i]]);
    for (uint32_t d = 0; new_bits && d < n; d++) {
        if (!deletes_has(new_bits, d) || deletes_has(old_bits, d) || m->maps[i][d] == DOCNO_NONE) continue;
        if (!e->add_deletes) e->add_deletes = deletes_new(m->segment);
        int r = deletes_add(e->add_deletes, m->segment, m->maps[i][d], err);
        if (r < 0) return r;
    }
    return 0;
}

/* One attempt against the present root. *ret_stale: the inputs are not what they were, give the result up. */
static int commit_merge(struct merging *m, bool *ret_stale, struct err *err) {
    struct base *now;
    struct edit e;
    int r = base_load(m->coll->core, m->coll->root_key, NULL, m->base, &now, err);
    if (r) return r;
    edit_init(&e, m->coll, now);
    *ret_stale = now->tree->restored_seq != m->base->tree->restored_seq;
    for (size_t i = 0; i < m->n && !r && !*ret_stale; i++) {
        int at = find_leaf(now->tree, &m->base->tree->leaves[m->picks[i]]);
        if (at < 0) { /* gone: merged by somebody else, or everything in it died since */
            *ret_stale = true;
            break;
        }
        e.dropped[at] = true;
        r = carry_over(m, i, now->deletes[at], &e, err);
    }
    if (!r && !*ret_stale) {
        if (m->leaf.n_docs) leaf_copy(&e.add, &m->leaf);
        r = edit_commit(&e, err);
    }
    edit_release(&e);
    base_unref(now);
    return r;
}

static int merge_leased(struct coll *coll, bool force, const volatile int *cancel, bool *ret_did, struct err *err) {
    struct merging m = {.coll = coll};
    struct schema *schema = NULL;
    bool stale = false;
    int r = base_load(coll->core, coll->root_key, NULL, NULL, &m.base, err);
    if (r == -ERR_NOT_FOUND) { /* nothing built yet */
        err_clear(err);
        return 0;
    }
    if (r) return r;
    r = catalog_schema(coll->core, coll->cid, &schema, NULL, err);
    if (r || !pick(&m, force, schema)) goto out;
    r = write_merged(&m, schema, cancel, err);
    if (!r) r = -ERR_CONFLICT;
    for (int i = 0; i < MERGE_ATTEMPTS && r == -ERR_CONFLICT && !stale; i++) {
        err_clear(err);
        r = commit_merge(&m, &stale, err);
    }
    if (!r) {
        *ret_did = true;
        counter_add(&coll->core->n_merges, 1);
    }
out:
    for (size_t i = 0; i < m.n; i++) free(m.maps[i]);
    segment_unref(m.segment);
    leaf_release(&m.leaf);
    schema_unref(schema);
    base_unref(m.base);
    return r;
}

int merger_run(struct coll *coll, bool force, const volatile int *cancel, bool *ret_did, struct err *err) {
    char lease[CID_LEN + 8];
    uint64_t epoch;
    *ret_did = false;
    snprintf(lease, sizeof lease, "%s/merge", coll->cid);
    pthread_mutex_lock(&coll->merge_lock);
    int r = meta_lease_acquire(coll->core->meta, lease, coll->core->owner, 20 * LEASE_TTL_MS, &epoch, err);
    if (!r) {
        r = merge_leased(coll, force, cancel, ret_did, err);
        meta_lease_release(coll->core->meta, lease, coll->core->owner, epoch, NULL);
    }
    pthread_mutex_unlock(&coll->merge_lock);
    return r ? err_wrap(err, "could not merge") : 0;
}
