/* The merger: keeps the number of segments logarithmic, drops dead documents, back-fills added indexes. It
 * runs beside the builder and commits by the same compare-and-set; documents that die meanwhile are carried
 * over through the maps. */
#include "fn/builder.h"
#include "fn/catalog.h"
#include "fn/split.h"

#include <stdio.h>

enum {
    TIER_FANIN = 8,
    BUSY_FANIN = 32, /* while a build is under way, which has more need of the cores */
    MERGE_ATTEMPTS = 20,
    MERGE_MAX_INPUTS = 64
};
#define TIER_FLOOR_BYTES (1ull << 20)
#define MERGE_MAX_BYTES  (8ull << 30)
#define DEAD_SHARE       0.4

struct merging {
    struct coll *coll;
    struct base *base;                /* what is merged */
    uint32_t picks[MERGE_MAX_INPUTS]; /* leaf numbers in base */
    size_t n, fanin;
    uint32_t *maps[MERGE_MAX_INPUTS]; /* old document -> new */
    uint16_t *outs[MERGE_MAX_INPUTS]; /* old document -> output that has it; NULL: the only one */
    struct split *split;              /* one output per block of partitions */
    struct output {
        struct leaf leaf;
        struct segment *segment; /* opened for carried deletes */
    } * outputs;
};

static uint64_t live_bytes(const struct leaf *l) {
    return l->n_docs ? l->raw_bytes / l->n_docs * (l->n_docs - l->n_deleted) : 0;
}

static unsigned tier_of(uint64_t bytes) {
    unsigned t = 0;
    for (uint64_t limit = TIER_FLOOR_BYTES; bytes >= limit && t < 20; limit *= TIER_FANIN) t++;
    return t;
}

bool segment_lacks_field(const struct segment *s, const struct field *f) {
    if (f->inferred || f->type == FIELD_OBJECT) return false;
    for (unsigned a = 0; f->type == FIELD_TEXT && a < ANALYZER_COUNT; a++)
        if (f->analyzers >> a & 1 && !segment_field(s, f->path, f->path_len, f->type, (enum analyzer)a))
            return true;
    return f->type != FIELD_TEXT && !segment_field(s, f->path, f->path_len, f->type, 0);
}

static bool lacks_index(const struct segment *s, const struct schema *schema) {
    for (uint32_t i = 0; i < schema->n_fields; i++)
        if (segment_lacks_field(s, &schema->fields[i])) return true;
    return false;
}

uint64_t backfill_left(const struct view *v, const struct field *f, uint64_t *ret_documents) {
    uint64_t segments = 0;
    *ret_documents = 0;
    for (uint32_t i = 0; i < v->n_base; i++) {
        const struct view_part *p = &v->parts[i];
        if (!segment_lacks_field(p->segment, f)) continue;
        segments++;
        *ret_documents += segment_n_docs(p->segment) - deletes_count(p->deletes);
    }
    return segments;
}

static bool pick_one(struct merging *m, uint32_t i) {
    m->picks[0] = i;
    m->n = 1;
    return true;
}

/* ---- what to merge ---- */

/* How much live data of each partition the picked segments have. *ret_known false: one lacks the index on the
 * field. */
static int count_partitions(const struct merging *m, const struct schema *schema, uint64_t *bytes,
                            bool *ret_known, struct err *err) {
    *ret_known = true;
    for (size_t i = 0; i < m->n; i++) {
        const struct leaf *l = &m->base->tree->leaves[m->picks[i]];
        const uint64_t *dead = deletes_bits(m->base->deletes[m->picks[i]]);
        const uint16_t *partitions;
        int r = partition_of_docs(m->base->segments[m->picks[i]], schema, &partitions, err);
        if (r) return r;
        if (!partitions) *ret_known = false;
        for (uint32_t d = 0; partitions && d < l->n_docs; d++)
            if (!deletes_has(dead, d)) bytes[partitions[d]] += l->raw_bytes / l->n_docs + 1;
    }
    return 0;
}

/* The picked segments cover the same block: which blocks will the results cover? */
static int plan(struct merging *m, const struct schema *schema, struct err *err) {
    uint32_t block = m->base->tree->leaves[m->picks[0]].partition;
    bool known = true;
    if (!m->split) m->split = xmalloc(sizeof *m->split);
    m->split->n = 1;
    m->split->blocks[0] = block;
    if (!schema->partition_field || partition_is_single(block)) return 0;
    uint64_t *bytes = xcalloc(PARTITIONS_MAX + 1, sizeof *bytes);
    int r = count_partitions(m, schema, bytes, &known, err);
    if (!r && known) split_plan(m->split, schema, block, bytes, m->coll->core->partition_bytes, 1);
    if (!m->split->n) *m->split = (struct split){.n = 1, .blocks = {block}}; /* all dead */
    free(bytes);
    return r;
}

/* The end of the run of leaves that cover the same block as leaf `from`: the tree keeps them side by side. */
static uint32_t run_end(const struct tree *t, uint32_t from) {
    uint32_t i = from + 1;
    while (i < t->n_leaves && t->leaves[i].partition == t->leaves[from].partition) i++;
    return i;
}

/* Everything of the first block that is not one clean segment of it already. */
static int pick_all(struct merging *m, const struct schema *schema, bool *ret_any, struct err *err) {
    const struct tree *t = m->base->tree;
    for (uint32_t from = 0, end; from < t->n_leaves; from = end) {
        end = run_end(t, from);
        for (m->n = 0; from + m->n < end && m->n < MERGE_MAX_INPUTS; m->n++)
            m->picks[m->n] = from + (uint32_t)m->n;
        int r = plan(m, schema, err);
        if (r) return r;
        bool narrower = m->split->n > 1 || m->split->blocks[0] != t->leaves[from].partition;
        *ret_any =
            m->n > 1 || narrower || t->leaves[from].n_deleted || lacks_index(m->base->segments[from], schema);
        if (*ret_any) return 0;
    }
    return 0;
}

/* The lowest tier of leaves [from, end) with enough segments. */
static bool pick_tier(struct merging *m, uint32_t from, uint32_t end) {
    const struct tree *t = m->base->tree;
    if (end - from < m->fanin) return false;
    for (unsigned tier = 0; tier < 20; tier++) {
        uint64_t bytes = 0;
        m->n = 0;
        for (uint32_t i = from; i < end && m->n < MERGE_MAX_INPUTS; i++) {
            uint64_t b = live_bytes(&t->leaves[i]);
            if (tier_of(b) != tier || bytes + b > MERGE_MAX_BYTES) continue;
            bytes += b;
            m->picks[m->n++] = i;
        }
        if (m->n >= m->fanin) return true;
    }
    return false;
}

/* The lowest tier of some block with enough segments; else one segment that is mostly dead or lacks an index.
 */
static bool pick_some(struct merging *m, enum merge_mode mode, const struct schema *schema) {
    const struct tree *t = m->base->tree;
    for (uint32_t i = 0; i < t->n_leaves; i++)
        if (lacks_index(m->base->segments[i], schema)) return pick_one(m, i);
    if (mode == MERGE_BACKFILL) return false;
    for (uint32_t from = 0, end; from < t->n_leaves; from = end) {
        end = run_end(t, from);
        if (pick_tier(m, from, end)) return true;
    }
    for (uint32_t i = 0; i < t->n_leaves; i++)
        if (t->leaves[i].n_deleted > DEAD_SHARE * t->leaves[i].n_docs) return pick_one(m, i);
    return false;
}

static int pick(struct merging *m, enum merge_mode mode, const struct schema *schema, bool *ret_any,
                struct err *err) {
    *ret_any = false;
    if (mode == MERGE_ALL) return pick_all(m, schema, ret_any, err);
    *ret_any = pick_some(m, mode, schema);
    return *ret_any ? plan(m, schema, err) : 0;
}

/* ---- merging ---- */

/* The documents of input i that do not belong to output `out`. */
static int skip_others(const struct merging *m, size_t i, const struct schema *schema, uint32_t out,
                       uint64_t **ret, struct err *err) {
    struct segment *s = m->base->segments[m->picks[i]];
    uint32_t n = segment_n_docs(s);
    const uint16_t *partitions;
    int r = partition_of_docs(s, schema, &partitions, err);
    if (r) return r;
    *ret = xcalloc((size_t)n / 64 + 1, sizeof **ret);
    for (uint32_t d = 0; d < n; d++)
        (*ret)[d >> 6] |= (uint64_t)(m->split->segment[partitions[d]] != out) << (d & 63);
    return 0;
}

/* Takes the maps of one output: every document is in one of them at most. */
static void take_maps(struct merging *m, uint32_t out, uint32_t **maps) {
    for (size_t i = 0; i < m->n; i++) {
        uint32_t n = segment_n_docs(m->base->segments[m->picks[i]]);
        if (!m->maps[i]) m->maps[i] = maps[i], maps[i] = NULL;
        if (m->split->n == 1) continue;
        if (!m->outs[i]) m->outs[i] = xcalloc(n, sizeof *m->outs[i]);
        for (uint32_t d = 0; maps[i] && d < n; d++) {
            if (maps[i][d] == DOCNO_NONE) continue;
            m->maps[i][d] = maps[i][d];
            m->outs[i][d] = (uint16_t)out;
        }
        free(maps[i]);
    }
}

static int write_output(struct merging *m, uint32_t out, const struct merge_input *in, struct schema *schema,
                        const volatile int *cancel, struct err *err) {
    struct output *o = &m->outputs[out];
    struct upload up;
    struct segment_summary sum;
    struct blob *blob;
    uint64_t size;
    uint32_t checksum, *maps[MERGE_MAX_INPUTS] = {0};
    int r = upload_open(&up, m->coll, err);
    if (r) return r;
    r = segment_merge(schema, in, m->n, &up.writer, cancel, &sum, &size, &checksum, maps, err);
    take_maps(m, out, maps);
    if (!r) leaf_from_summary(&o->leaf, &sum, size, checksum);
    o->leaf.partition = m->split->blocks[out];
    if (!r) r = upload_put(&up, size, checksum, &o->leaf.segment, err);
    upload_close(&up);
    if (!r)
        r = blob_open(m->coll->core->objects, o->leaf.segment.key, o->leaf.segment.version, BLOB_KIND_SEGMENT,
                      size, checksum, &blob, err);
    return r ? r : segment_open(blob, &o->segment, err);
}

/* One pass over the inputs for each output, of which there are PARTITION_FANOUT at most. */
static int write_merged(struct merging *m, struct schema *schema, const volatile int *cancel,
                        struct err *err) {
    int r = 0;
    m->outputs = xcalloc(m->split->n, sizeof *m->outputs);
    for (uint32_t out = 0; !r && out < m->split->n; out++) {
        struct merge_input in[MERGE_MAX_INPUTS];
        uint64_t *skip[MERGE_MAX_INPUTS] = {0};
        for (size_t i = 0; i < m->n && !r; i++) {
            if (m->split->n > 1) r = skip_others(m, i, schema, out, &skip[i], err);
            in[i] =
                (struct merge_input){m->base->segments[m->picks[i]], m->base->deletes[m->picks[i]], skip[i]};
        }
        if (!r) r = write_output(m, out, in, schema, cancel, err);
        for (size_t i = 0; i < m->n; i++) free(skip[i]);
    }
    return r;
}

static void merging_release(struct merging *m) {
    for (size_t i = 0; i < MERGE_MAX_INPUTS; i++) {
        free(m->maps[i]);
        free(m->outs[i]);
    }
    for (uint32_t i = 0; m->outputs && i < m->split->n; i++) {
        segment_unref(m->outputs[i].segment);
        leaf_release(&m->outputs[i].leaf);
    }
    free(m->outputs);
    free(m->split);
    base_unref(m->base);
}

/* ---- committing ---- */

static int find_leaf(const struct tree *t, const struct leaf *l) {
    for (uint32_t i = 0; i < t->n_leaves; i++)
        if (!strcmp(t->leaves[i].segment.key, l->segment.key)) return (int)i;
    return -1;
}

/* Documents of input i that died since the merge began are dead in the result too. */
static int carry_over(struct merging *m, size_t i, const struct deletes *now, struct edit *e,
                      struct err *err) {
    const uint64_t *new_bits = deletes_bits(now), *old_bits = deletes_bits(m->base->deletes[m->picks[i]]);
    uint32_t n = segment_n_docs(m->base->segments[m->picks[i]]);
    for (uint32_t d = 0; new_bits && d < n; d++) {
        if (!deletes_has(new_bits, d) || deletes_has(old_bits, d) || m->maps[i][d] == DOCNO_NONE) continue;
        uint32_t out = m->outs[i] ? m->outs[i][d] : 0;
        struct segment *s = m->outputs[out].segment;
        struct deletes **deletes = &e->adds[out].deletes;
        if (!*deletes) *deletes = deletes_new(s);
        e->adds[out].segment = s;
        int r = deletes_add(*deletes, s, m->maps[i][d], err);
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
    for (uint32_t i = 0; i < m->split->n; i++) edit_add(&e, &m->outputs[i].leaf);
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
    if (!r && !*ret_stale) r = edit_commit(&e, err);
    edit_release(&e);
    base_unref(now);
    return r;
}

static bool building(struct coll *coll) {
    if (pthread_mutex_trylock(&coll->build_lock)) return true;
    pthread_mutex_unlock(&coll->build_lock);
    return false;
}

static int merge_leased(struct coll *coll, enum merge_mode mode, const volatile int *cancel, bool *ret_did,
                        struct err *err) {
    bool busy = mode == MERGE_POLICY && building(coll);
    struct merging m = {.coll = coll, .fanin = busy ? BUSY_FANIN : TIER_FANIN};
    struct schema *schema = NULL;
    bool stale = false, any = false;
    int r = base_load_shared(coll, coll->root_key, NULL, &m.base, err);
    if (r == -ERR_NOT_FOUND) { /* nothing built yet */
        err_clear(err);
        return 0;
    }
    if (r) return r;
    r = catalog_schema(coll->core, coll->cid, &schema, NULL, err);
    if (!r) r = pick(&m, mode, schema, &any, err);
    if (r || !any) goto out;
    r = write_merged(&m, schema, cancel, err);
    if (!r) r = -ERR_CONFLICT;
    for (int i = 0; i < MERGE_ATTEMPTS && r == -ERR_CONFLICT && !stale; i++) {
        err_clear(err);
        r = commit_merge(&m, &stale, err);
    }
    if (!r) {
        *ret_did = true; /* also when given up: look again */
        if (!stale) counter_add(&coll->core->n_merges, 1);
    }
out:
    merging_release(&m);
    schema_unref(schema);
    return r;
}

/* What decides whether there is something to merge: the root and the schema. */
struct merge_state {
    char root[OBJECT_VERSION_SIZE];
    uint64_t schema_item;
};

static int merge_state(struct coll *coll, struct merge_state *ret, struct err *err) {
    struct object_info info;
    struct buf unused = BUF_INIT;
    *ret = (struct merge_state){0};
    int r = object_head(coll->core->objects, coll->root_key, NULL, &info, err);
    if (!r) memcpy(ret->root, info.version, sizeof ret->root);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        r = 0;
    }
    if (!r) r = meta_get(coll->core->meta, coll->cid, "schema", &unused, &ret->schema_item, err);
    buf_release(&unused);
    return r;
}

/* Nothing changed since the policy last found nothing to do: then looking costs no lease and opens nothing.
 */
static bool settled(const struct coll *coll, const struct merge_state *now) {
    return coll->settled_schema && coll->settled_schema == now->schema_item &&
           !strcmp(coll->settled_root, now->root);
}

static int merge_unsettled(struct coll *coll, enum merge_mode mode, const struct merge_state *now,
                           const volatile int *cancel, bool *ret_did, struct err *err) {
    bool busy = building(coll);
    char lease[CID_LEN + 8];
    uint64_t epoch;
    snprintf(lease, sizeof lease, "%s/merge", coll->cid);
    int r = meta_lease_acquire(coll->core->meta, lease, coll->core->owner, 20 * LEASE_TTL_MS, &epoch, err);
    if (r) return r;
    r = merge_leased(coll, mode, cancel, ret_did, err);
    meta_lease_release(coll->core->meta, lease, coll->core->owner, epoch, NULL);
    if (!r && !*ret_did && mode == MERGE_POLICY && !busy && !building(coll)) {
        memcpy(coll->settled_root, now->root, sizeof coll->settled_root);
        coll->settled_schema = now->schema_item;
    }
    return r;
}

int merger_run(struct coll *coll, enum merge_mode mode, const volatile int *cancel, bool *ret_did,
               struct err *err) {
    struct merge_state now;
    *ret_did = false;
    pthread_mutex_lock(&coll->merge_lock);
    int r = merge_state(coll, &now, err);
    if (!r && (mode == MERGE_ALL || !settled(coll, &now)))
        r = merge_unsettled(coll, mode, &now, cancel, ret_did, err);
    pthread_mutex_unlock(&coll->merge_lock);
    return r ? err_wrap(err, "could not merge") : 0;
}
