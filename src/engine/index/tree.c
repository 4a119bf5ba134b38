/* Encoding, loading and committing the versioned tree; grammar in tree.h. */
#include "index/tree.h"
#include "index/partition.h"
#include "util/codec.h"

#include <stdio.h>

enum { TREE_FORMAT = 2 }; /* 1: no hot ranges, no leaves in the root */

struct tree *tree_ref(struct tree *t) {
    __atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
    return t;
}

void leaf_release(struct leaf *l) {
    free(l->id_min);
    free(l->id_max);
    free(l->hot);
}

static void drop_inlined(struct intermediate *m) {
    for (uint32_t i = 0; m->inlined && i < m->n_leaves; i++) leaf_release(&m->inlined[i]);
    free(m->inlined);
    m->inlined = NULL;
}

void tree_unref(struct tree *t) {
    if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL)) return;
    for (uint32_t i = 0; i < t->n_leaves; i++) leaf_release(&t->leaves[i]);
    for (uint32_t i = 0; i < t->n_intermediates; i++) drop_inlined(&t->intermediates[i]);
    free(t->leaves);
    free(t->intermediates);
    free(t->schema);
    free(t);
}

struct tree *tree_new_empty(const char *cid, const char *root_key) {
    struct tree *t = xcalloc(1, sizeof *t);
    t->refs = 1;
    snprintf(t->cid, sizeof t->cid, "%s", cid);
    snprintf(t->root_key, sizeof t->root_key, "%s", root_key);
    t->schema = xstrdup("");
    return t;
}

void leaf_copy(struct leaf *to, const struct leaf *from) {
    *to = *from;
    to->id_min = xstrndup(from->id_min, from->id_min_len);
    to->id_max = xstrndup(from->id_max, from->id_max_len);
    to->hot = xmalloc(from->n_hot * sizeof *to->hot);
    if (from->n_hot) memcpy(to->hot, from->hot, from->n_hot * sizeof *to->hot);
}

struct tree *tree_copy(const struct tree *old) {
    struct tree *t = xmalloc(sizeof *t);
    *t = *old;
    t->refs = 1;
    t->version[0] = t->etag[0] = 0;
    t->schema = xstrndup(old->schema, old->schema_len);
    t->intermediates = xcalloc(old->n_intermediates, sizeof *t->intermediates);
    if (old->n_intermediates)
        memcpy(t->intermediates, old->intermediates, old->n_intermediates * sizeof *t->intermediates);
    for (uint32_t i = 0; i < t->n_intermediates; i++) t->intermediates[i].inlined = NULL;
    t->leaves = xcalloc(old->n_leaves, sizeof *t->leaves);
    for (uint32_t i = 0; i < old->n_leaves; i++) leaf_copy(&t->leaves[i], &old->leaves[i]);
    return t;
}

void tree_remove_leaf(struct tree *t, uint32_t i) {
    leaf_release(&t->leaves[i]);
    memmove(&t->leaves[i], &t->leaves[i + 1], (t->n_leaves - i - 1) * sizeof *t->leaves);
    t->n_leaves--;
}

struct leaf *tree_add_leaf(struct tree *t) {
    t->leaves = xrealloc(t->leaves, (t->n_leaves + 1) * sizeof *t->leaves);
    struct leaf *l = &t->leaves[t->n_leaves++];
    memset(l, 0, sizeof *l);
    return l;
}

/* ---- encoding ---- */

static void add_str16(struct buf *b, const char *s) {
    size_t n = strlen(s);
    buf_add_u16(b, (uint16_t)n);
    buf_add(b, s, n);
}

static void add_ref(struct buf *b, const struct object_ref *ref) {
    add_str16(b, ref->key);
    add_str16(b, ref->version);
    buf_add_u64(b, ref->size);
    buf_add_u32(b, ref->checksum);
    buf_add_u32(b, 0);
}

static void add_bytes32(struct buf *b, const char *p, uint32_t len) {
    buf_add_u32(b, len);
    buf_add(b, p, len);
}

static void encode_leaf(struct buf *b, const struct leaf *l) {
    add_ref(b, &l->segment);
    add_ref(b, &l->deletes);
    buf_add_u32(b, l->n_docs);
    buf_add_u32(b, l->n_deleted);
    buf_add_u64(b, l->seq_min);
    buf_add_u64(b, l->seq_max);
    buf_add_u64(b, (uint64_t)l->time_min);
    buf_add_u64(b, (uint64_t)l->time_max);
    buf_add_u64(b, l->raw_bytes);
    buf_add_u64(b, l->live_sum);
    buf_add_u32(b, l->partition);
    buf_add_u32(b, 0);
    add_bytes32(b, l->id_min, l->id_min_len);
    add_bytes32(b, l->id_max, l->id_max_len);
    buf_add_u32(b, l->n_hot);
    for (uint32_t i = 0; i < l->n_hot; i++) {
        buf_add_u64(b, l->hot[i].off);
        buf_add_u64(b, l->hot[i].len);
        buf_add_u32(b, l->hot[i].kind);
    }
}

static void encode_root(struct buf *b, const struct tree *t) {
    const struct leaf *leaves = t->leaves;
    buf_add_u16(b, TREE_FORMAT);
    buf_add_u16(b, 0);
    buf_add_u32(b, t->n_intermediates);
    buf_add(b, t->cid, 32);
    buf_add(b, t->commit_uuid, 32);
    const uint64_t numbers[] = {t->epoch,         t->commit_no,   (uint64_t)t->commit_ms,
                                t->committed_seq, t->first_seq,   (uint64_t)t->data_ms,
                                t->n_docs,        t->n_deleted,   t->n_leaves,
                                t->bytes,         t->written_sum, t->removed_sum,
                                t->restored_seq};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) buf_add_u64(b, numbers[i]);
    buf_add_u32(b, (uint32_t)t->schema_len);
    buf_add_u32(b, t->schema_version);
    buf_add(b, t->schema, t->schema_len);
    for (uint32_t i = 0; i < t->n_intermediates; i++) {
        const struct intermediate *m = &t->intermediates[i];
        add_ref(b, &m->ref);
        buf_add_u32(b, m->partition);
        buf_add_u32(b, m->n_leaves);
        buf_add_u64(b, m->n_docs);
        buf_add_u64(b, m->n_deleted);
        buf_add_u64(b, m->bytes);
        for (uint32_t k = 0; !m->ref.size && k < m->n_leaves; k++) encode_leaf(b, &leaves[k]);
        leaves += m->n_leaves;
    }
}

/* ---- decoding ---- */

static void take_str16(struct cursor *c, char *out, size_t size) {
    size_t n = cursor_u16(c);
    const uint8_t *p = n < size ? cursor_take(c, n) : cursor_take(c, SIZE_MAX);
    if (p) memcpy(out, p, n);
    out[p ? n : 0] = 0;
}

static void take_ref(struct cursor *c, struct object_ref *ref) {
    take_str16(c, ref->key, sizeof ref->key);
    take_str16(c, ref->version, sizeof ref->version);
    ref->size = cursor_u64(c);
    ref->checksum = cursor_u32(c);
    cursor_u32(c);
}

static char *take_bytes32(struct cursor *c, uint32_t *ret_len) {
    uint32_t n = cursor_u32(c);
    const uint8_t *p = cursor_take(c, n);
    *ret_len = p ? n : 0;
    return xstrndup((const char *)p, *ret_len);
}

static void decode_hot(struct cursor *c, struct leaf *l) {
    uint32_t n = cursor_u32(c);
    if (n > SEGMENT_HOT_MAX) c->bad = true;
    if (c->bad || !n) return;
    l->hot = xcalloc(n, sizeof *l->hot);
    for (; l->n_hot < n; l->n_hot++) {
        struct hot_range *h = &l->hot[l->n_hot];
        h->off = cursor_u64(c);
        h->len = cursor_u64(c);
        h->kind = cursor_u32(c);
    }
}

/* l is zeroed. */
static void decode_leaf(struct cursor *c, uint16_t format, struct leaf *l) {
    take_ref(c, &l->segment);
    take_ref(c, &l->deletes);
    l->n_docs = cursor_u32(c);
    l->n_deleted = cursor_u32(c);
    l->seq_min = cursor_u64(c);
    l->seq_max = cursor_u64(c);
    l->time_min = (int64_t)cursor_u64(c);
    l->time_max = (int64_t)cursor_u64(c);
    l->raw_bytes = cursor_u64(c);
    l->live_sum = cursor_u64(c);
    l->partition = cursor_u32(c);
    uint32_t n_zones = cursor_u32(c);
    l->id_min = take_bytes32(c, &l->id_min_len);
    l->id_max = take_bytes32(c, &l->id_max_len);
    for (uint32_t i = 0; i < n_zones && !c->bad; i++) cursor_take(c, (size_t)cursor_u16(c) + 16);
    if (format >= 2) decode_hot(c, l);
}

/* The leaves that stand behind their intermediate in the root. */
static void decode_inlined(struct cursor *c, struct intermediate *m) {
    if (m->n_leaves > INTERMEDIATE_MAX_LEAVES) c->bad = true;
    if (c->bad) m->n_leaves = 0;
    m->inlined = xcalloc(m->n_leaves, sizeof *m->inlined);
    for (uint32_t i = 0; i < m->n_leaves && !c->bad; i++) decode_leaf(c, TREE_FORMAT, &m->inlined[i]);
}

static void decode_root(struct cursor *c, struct tree *t) {
    uint16_t format = cursor_u16(c);
    if (!format || format > TREE_FORMAT) c->bad = true;
    cursor_u16(c);
    t->n_intermediates = cursor_u32(c);
    const uint8_t *p = cursor_take(c, 64);
    if (!p) return;
    memcpy(t->cid, p, 32);
    memcpy(t->commit_uuid, p + 32, 32);
    t->epoch = cursor_u64(c);
    t->commit_no = cursor_u64(c);
    t->commit_ms = (int64_t)cursor_u64(c);
    t->committed_seq = cursor_u64(c);
    t->first_seq = cursor_u64(c);
    t->data_ms = (int64_t)cursor_u64(c);
    t->n_docs = cursor_u64(c);
    t->n_deleted = cursor_u64(c);
    uint64_t n_leaves = cursor_u64(c);
    t->bytes = cursor_u64(c);
    t->written_sum = cursor_u64(c);
    t->removed_sum = cursor_u64(c);
    t->restored_seq = cursor_u64(c);
    t->schema_len = cursor_u32(c);
    t->schema_version = cursor_u32(c);
    p = cursor_take(c, t->schema_len);
    free(t->schema);
    t->schema_len = p ? t->schema_len : 0;
    t->schema = xstrndup((const char *)p, t->schema_len);
    if (c->bad || t->n_intermediates > 100000 || n_leaves > 10000000) {
        c->bad = true;
        t->n_intermediates = 0;
        return;
    }
    t->intermediates = xcalloc(t->n_intermediates, sizeof *t->intermediates);
    for (uint32_t i = 0; i < t->n_intermediates; i++) {
        struct intermediate *m = &t->intermediates[i];
        take_ref(c, &m->ref);
        m->partition = cursor_u32(c);
        m->n_leaves = cursor_u32(c);
        m->n_docs = cursor_u64(c);
        m->n_deleted = cursor_u64(c);
        m->bytes = cursor_u64(c);
        if (format >= 2 && !m->ref.size) decode_inlined(c, m);
    }
}

/* The payload of a root or intermediate, verified. The blob keeps it alive. */
static int open_payload(struct buf *object, uint32_t kind, const char *key, struct blob **ret,
                        struct cursor *ret_c, struct err *err) {
    size_t size;
    uint8_t *data = buf_detach(object, &size);
    int r = blob_open_memory(data, size, kind, ret, err);
    if (r) return err_wrap(err, "object \"%s\"", key);
    const uint8_t *p;
    uint64_t len = blob_payload_end(*ret) - BLOB_HEADER_SIZE;
    r = blob_need(*ret, BLOB_HEADER_SIZE, len, &p, err);
    if (r) {
        blob_close(*ret);
        return err_wrap(err, "object \"%s\"", key);
    }
    *ret_c = cursor_of(p, len);
    return 0;
}

static int read_intermediate(struct buf *object, struct tree *t, const struct intermediate *m,
                             struct err *err) {
    struct blob *blob;
    struct cursor c;
    if (object->len != m->ref.size)
        return err_set(err, ERR_CORRUPT, "object \"%s\" has %zu bytes instead of %llu", m->ref.key,
                       object->len, (unsigned long long)m->ref.size);
    int r = open_payload(object, BLOB_KIND_INTERMEDIATE, m->ref.key, &blob, &c, err);
    if (r) return r;
    uint16_t format = cursor_u16(&c);
    cursor_u16(&c);
    uint32_t n = cursor_u32(&c);
    cursor_u64(&c);
    if (!format || format > TREE_FORMAT) c.bad = true;
    for (uint32_t i = 0; i < n && !c.bad; i++) decode_leaf(&c, format, tree_add_leaf(t));
    if (c.bad || n != m->n_leaves)
        r = err_set(err, ERR_CORRUPT, "intermediate object \"%s\" cannot be read (format %u)", m->ref.key,
                    format);
    blob_close(blob);
    return r;
}

static int load_intermediates(struct object_store *store, struct tree *t, const struct intermediate *list,
                              uint32_t n, struct err *err) {
    struct object_range *ranges = xcalloc(n, sizeof *ranges);
    size_t n_ranges = 0, at = 0;
    for (uint32_t i = 0; i < n; i++)
        if (list[i].ref.size)
            ranges[n_ranges++] = (struct object_range){
                .key = list[i].ref.key, .version = list[i].ref.version, .len = SIZE_MAX};
    int r = object_get_many(store, ranges, n_ranges, err);
    if (r == -ERR_NOT_FOUND) {
        struct err why = err ? *err : (struct err)ERR_INIT;
        r = err_set(err, ERR_CORRUPT, "an intermediate object is missing: %.300s", why.text);
    }
    for (uint32_t i = 0; i < n && !r; i++) {
        if (list[i].ref.size)
            r = read_intermediate(&ranges[at++].out, t, &list[i], err);
        else
            for (uint32_t k = 0; k < list[i].n_leaves; k++) leaf_copy(tree_add_leaf(t), &list[i].inlined[k]);
    }
    for (size_t i = 0; i < n_ranges; i++) buf_release(&ranges[i].out);
    free(ranges);
    return r;
}

int tree_load_intermediate(struct object_store *store, struct tree *t, const struct intermediate *m,
                           struct err *err) {
    return load_intermediates(store, t, m, 1, err);
}

int tree_load_root(struct object_store *store, const char *root_key, const char *version, struct tree **ret,
                   struct err *err) {
    struct buf b = BUF_INIT;
    struct object_info info;
    struct blob *blob = NULL;
    struct cursor c;
    int r = object_get(store, root_key, version, 0, SIZE_MAX, &b, &info, err);
    if (!r) r = open_payload(&b, BLOB_KIND_ROOT, root_key, &blob, &c, err);
    buf_release(&b);
    if (r) return r;
    struct tree *t = tree_new_empty("", root_key);
    memcpy(t->version, info.version, sizeof t->version);
    memcpy(t->etag, info.etag, sizeof t->etag);
    decode_root(&c, t);
    if (c.bad)
        r = err_set(err, ERR_CORRUPT, "root object \"%s\" version %s cannot be read", root_key, info.version);
    blob_close(blob);
    if (r)
        tree_unref(t);
    else
        *ret = t;
    return r;
}

int tree_load(struct object_store *store, const char *root_key, const char *version, struct tree **ret,
              struct err *err) {
    struct tree *t;
    int r = tree_load_root(store, root_key, version, &t, err);
    if (r) return r;
    r = load_intermediates(store, t, t->intermediates, t->n_intermediates, err);
    for (uint32_t i = 0; i < t->n_intermediates; i++) drop_inlined(&t->intermediates[i]);
    if (r)
        tree_unref(t);
    else
        *ret = t;
    return r;
}

/* ---- committing ---- */

static void encode_intermediate(struct buf *b, const struct leaf *leaves, uint32_t n, uint32_t partition) {
    buf_add_u16(b, TREE_FORMAT);
    buf_add_u16(b, 0);
    buf_add_u32(b, n);
    buf_add_u32(b, partition);
    buf_add_u32(b, 0);
    for (uint32_t i = 0; i < n; i++) encode_leaf(b, &leaves[i]);
}

static void object_bytes(const struct buf *payload, uint32_t kind, struct blob_writer *w,
                         uint32_t *ret_checksum) {
    uint64_t size;
    blob_writer_init(w, -1, kind);
    blob_write(w, payload->data, payload->len);
    blob_writer_finish(w, &size, ret_checksum, NULL); /* memory mode cannot fail */
}

static int put_intermediate(struct object_store *store, const struct buf *payload, const char *prefix,
                            struct rng *rng, struct object_ref *ret, struct err *err) {
    struct blob_writer w;
    struct object_info info;
    char uuid[33];
    rng_uuid(rng, uuid);
    snprintf(ret->key, sizeof ret->key, "%sint-%s", prefix, uuid);
    object_bytes(payload, BLOB_KIND_INTERMEDIATE, &w, &ret->checksum);
    ret->size = w.mem.len;
    int r = object_put(store, ret->key, w.mem.data, w.mem.len, PUT_ALWAYS, NULL, &info, err);
    if (!r) memcpy(ret->version, info.version, sizeof ret->version);
    blob_writer_release(&w);
    return r;
}

/* By group of partitions, then block; else in the order they were made in. */
static int leaf_order(const void *pa, const void *pb) {
    const struct leaf *a = *(struct leaf *const *)pa, *b = *(struct leaf *const *)pb;
    uint32_t x = partition_group(a->partition), y = partition_group(b->partition);
    if (x != y) return x < y ? -1 : 1;
    if (a->partition != b->partition) return a->partition < b->partition ? -1 : 1;
    return a < b ? -1 : 1;
}

static void sort_leaves(struct tree *t) {
    const struct leaf **order = xmalloc(t->n_leaves * sizeof *order);
    struct leaf *sorted = xmalloc(t->n_leaves * sizeof *sorted);
    for (uint32_t i = 0; i < t->n_leaves; i++) order[i] = &t->leaves[i];
    if (t->n_leaves) qsort(order, t->n_leaves, sizeof *order, leaf_order);
    for (uint32_t i = 0; i < t->n_leaves; i++) sorted[i] = *order[i];
    free(order);
    free(t->leaves);
    t->leaves = sorted;
}

/* Leaves from `from` on that make one intermediate: of one group, so that a change of a partition rewrites
 * only its own. */
static uint32_t take_group(const struct tree *t, uint32_t from, uint32_t *ret_partition) {
    uint32_t group = partition_group(t->leaves[from].partition), n = 1;
    *ret_partition = t->leaves[from].partition;
    for (; n < INTERMEDIATE_MAX_LEAVES && from + n < t->n_leaves; n++) {
        if (partition_group(t->leaves[from + n].partition) != group) break;
        if (t->leaves[from + n].partition != *ret_partition) *ret_partition = group;
    }
    return n;
}

static uint64_t payload_hash(const struct buf *payload) {
    return hash64(payload->data, payload->len, 0);
}

/* Hashes of the payloads of the intermediates that `old` has. */
static uint64_t *old_hashes(const struct tree *old) {
    struct buf b = BUF_INIT;
    uint64_t *hashes = xcalloc(old ? old->n_intermediates : 0, sizeof *hashes);
    for (uint32_t i = 0, at = 0; old && i < old->n_intermediates; at += old->intermediates[i++].n_leaves) {
        const struct intermediate *m = &old->intermediates[i];
        buf_clear(&b);
        encode_intermediate(&b, old->leaves + at, m->n_leaves, m->partition);
        hashes[i] = payload_hash(&b);
    }
    buf_release(&b);
    return hashes;
}

/* The intermediate of `old` that holds exactly this payload, or NULL. */
static const struct intermediate *same_intermediate(const struct tree *old, const uint64_t *hashes,
                                                    const struct buf *payload) {
    struct buf b = BUF_INIT;
    const struct intermediate *found = NULL;
    uint64_t hash = payload_hash(payload);
    for (uint32_t i = 0, at = 0; old && i < old->n_intermediates && !found;
         at += old->intermediates[i++].n_leaves) {
        const struct intermediate *m = &old->intermediates[i];
        if (hashes[i] != hash || !m->ref.size) continue;
        buf_clear(&b);
        encode_intermediate(&b, old->leaves + at, m->n_leaves, m->partition);
        if (b.len == payload->len && !memcmp(b.data, payload->data, b.len)) found = m;
    }
    buf_release(&b);
    return found;
}

static void sum_leaves(struct intermediate *m, const struct leaf *leaves) {
    for (uint32_t k = 0; k < m->n_leaves; k++) {
        m->n_docs += leaves[k].n_docs;
        m->n_deleted += leaves[k].n_deleted;
        m->bytes += leaves[k].segment.size + leaves[k].deletes.size;
    }
}

static bool leaves_fit(const struct tree *t) {
    struct buf b = BUF_INIT;
    for (uint32_t i = 0; i < t->n_leaves && b.len <= ROOT_INLINE_BYTES; i++) encode_leaf(&b, &t->leaves[i]);
    bool fit = b.len <= ROOT_INLINE_BYTES;
    buf_release(&b);
    return fit;
}

static int put_intermediates(struct object_store *store, struct tree *t, const struct tree *old,
                             const char *prefix, struct rng *rng, struct err *err) {
    struct buf payload = BUF_INIT;
    uint64_t *hashes = old_hashes(old);
    bool inlined = leaves_fit(t);
    int r = 0;
    sort_leaves(t);
    free(t->intermediates);
    t->intermediates = xcalloc(t->n_leaves, sizeof *t->intermediates);
    t->n_intermediates = 0;
    t->n_docs = t->n_deleted = t->bytes = 0;
    for (uint32_t at = 0; at < t->n_leaves && !r;) {
        struct intermediate *m = &t->intermediates[t->n_intermediates++];
        m->n_leaves = take_group(t, at, &m->partition);
        sum_leaves(m, t->leaves + at);
        buf_clear(&payload);
        encode_intermediate(&payload, t->leaves + at, m->n_leaves, m->partition);
        const struct intermediate *same = inlined ? NULL : same_intermediate(old, hashes, &payload);
        if (same)
            m->ref = same->ref;
        else if (!inlined)
            r = put_intermediate(store, &payload, prefix, rng, &m->ref, err);
        t->n_docs += m->n_docs;
        t->n_deleted += m->n_deleted;
        t->bytes += m->bytes;
        at += m->n_leaves;
    }
    buf_release(&payload);
    free(hashes);
    return r;
}

/* After a put whose outcome is unknown: whose commit is in the slot? 0 = ours (info filled), ERR_CONFLICT =
 * another's. */
static int settle(struct object_store *store, struct tree *t, struct object_info *info, struct err *err) {
    struct tree *now;
    struct err why = ERR_INIT;
    int r = tree_load_root(store, t->root_key, NULL, &now, &why);
    if (r == -ERR_NOT_FOUND)
        return err_set(err, ERR_CONFLICT, "the root \"%s\" was not written", t->root_key);
    if (r) return err_set(err, why.code, "%s", why.text);
    bool ours = !strcmp(now->commit_uuid, t->commit_uuid);
    memcpy(info->version, now->version, sizeof info->version);
    memcpy(info->etag, now->etag, sizeof info->etag);
    tree_unref(now);
    return ours ? 0 : err_set(err, ERR_CONFLICT, "another commit took the root \"%s\"", t->root_key);
}

int tree_commit(struct object_store *store, struct tree *t, const struct tree *old, const char *prefix,
                struct rng *rng, struct err *err) {
    int r = put_intermediates(store, t, old, prefix, rng, err);
    if (r) return r;
    rng_uuid(rng, t->commit_uuid);
    struct buf payload = BUF_INIT;
    struct blob_writer w;
    struct object_info info;
    uint32_t checksum;
    encode_root(&payload, t);
    object_bytes(&payload, BLOB_KIND_ROOT, &w, &checksum);
    bool has_old = old && old->etag[0];
    r = object_put(store, t->root_key, w.mem.data, w.mem.len, has_old ? PUT_IF_MATCH : PUT_IF_ABSENT,
                   has_old ? old->etag : NULL, &info, err);
    if (r == -ERR_CONFLICT || r == -ERR_TIMEOUT || r == -ERR_UNREACHABLE || r == -ERR_IO) {
        err_clear(err);
        r = settle(store, t, &info, err);
    }
    if (!r) {
        memcpy(t->version, info.version, sizeof t->version);
        memcpy(t->etag, info.etag, sizeof t->etag);
    }
    blob_writer_release(&w);
    buf_release(&payload);
    return r;
}
