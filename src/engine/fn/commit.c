/* Uploading segments and committing tree changes. */
#include "fn/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void edit_init(struct edit *e, struct coll *coll, struct base *base) {
    const struct tree *t = base->tree;
    *e = (struct edit){.coll = coll,
                       .base = base,
                       .epoch = t->epoch,
                       .committed_seq = t->committed_seq,
                       .first_seq = t->first_seq,
                       .restored_seq = t->restored_seq,
                       .data_ms = t->data_ms};
    base_ref(base);
    e->deletes = xcalloc(t->n_leaves, sizeof *e->deletes);
    e->dropped = xcalloc(t->n_leaves, sizeof *e->dropped);
}

void edit_release(struct edit *e) {
    for (uint32_t i = 0; e->base && i < e->base->tree->n_leaves; i++) deletes_unref(e->deletes[i]);
    free(e->deletes);
    free(e->dropped);
    for (uint32_t i = 0; i < e->n_adds; i++) {
        leaf_release(&e->adds[i].leaf);
        deletes_unref(e->adds[i].deletes);
    }
    free(e->adds);
    base_unref(e->base);
    schema_unref(e->schema);
    *e = (struct edit){0};
}

int edit_delete(struct edit *e, uint32_t i, uint32_t docno, struct err *err) {
    if (!e->deletes[i])
        e->deletes[i] =
            e->base->deletes[i] ? deletes_clone(e->base->deletes[i]) : deletes_new(e->base->segments[i]);
    int r = deletes_add(e->deletes[i], e->base->segments[i], docno, err);
    return r < 0 ? r : 0;
}

void edit_add(struct edit *e, const struct leaf *l) {
    e->adds = xrealloc(e->adds, (e->n_adds + 1) * sizeof *e->adds);
    struct edit_leaf *to = &e->adds[e->n_adds++];
    to->deletes = NULL;
    to->segment = NULL;
    leaf_copy(&to->leaf, l);
}

void leaf_from_summary(struct leaf *l, const struct segment_summary *s, uint64_t size, uint32_t checksum) {
    l->segment.size = size;
    l->segment.checksum = checksum;
    l->n_docs = s->n_docs;
    l->seq_min = s->seq_min;
    l->seq_max = s->seq_max;
    l->time_min = s->time_min;
    l->time_max = s->time_max;
    l->raw_bytes = s->raw_bytes;
    l->live_sum = s->checksum_sum;
    l->id_min = xstrndup(s->id_min, s->id_min_len);
    l->id_max = xstrndup(s->id_max, s->id_max_len);
    l->id_min_len = s->id_min_len;
    l->id_max_len = s->id_max_len;
    l->n_hot = s->n_hot;
    l->hot = xmalloc(s->n_hot * sizeof *l->hot);
    memcpy(l->hot, s->hot, s->n_hot * sizeof *l->hot);
}

/* Writes the deletes of a leaf, whose segment is s, as an object and enters them. */
static int put_deletes(struct coll *coll, struct leaf *l, const struct segment *s, struct deletes *d,
                       struct err *err) {
    struct blob_writer w;
    struct object_info info;
    char uuid[33];
    blob_writer_init(&w, -1, BLOB_KIND_DELETES);
    int r = deletes_settle(d, s, err);
    if (!r) r = deletes_write(d, &w, &l->deletes.size, &l->deletes.checksum, err);
    rng_uuid(coll->core->rng, uuid);
    snprintf(l->deletes.key, sizeof l->deletes.key, "%sdel-%s", coll->data_prefix, uuid);
    if (!r)
        r = object_put(coll->core->objects, l->deletes.key, w.mem.data, w.mem.len, PUT_ALWAYS, NULL, &info,
                       err);
    if (!r) memcpy(l->deletes.version, info.version, sizeof l->deletes.version);
    l->n_deleted = deletes_count(d);
    blob_writer_release(&w);
    return r;
}

static int add_leaf(struct edit *e, struct tree *t, const struct edit_leaf *add, struct err *err) {
    uint32_t n_dead = deletes_count(add->deletes);
    if (n_dead == add->leaf.n_docs) return 0;
    struct leaf *l = tree_add_leaf(t);
    leaf_copy(l, &add->leaf);
    if (!n_dead) return 0;
    l->live_sum -= deletes_hash_sum(add->deletes);
    return put_deletes(e->coll, l, add->segment, add->deletes, err);
}

static int apply_leaves(struct edit *e, struct tree *t, struct err *err) {
    for (uint32_t i = e->base->tree->n_leaves; i-- > 0;) {
        struct leaf *l = &t->leaves[i];
        if (e->deletes[i] && !e->dropped[i]) {
            uint64_t gone = deletes_hash_sum(e->deletes[i]) - deletes_hash_sum(e->base->deletes[i]);
            l->live_sum -= gone;
            t->removed_sum += gone;
        }
        if (e->dropped[i] || deletes_count(e->deletes[i]) == l->n_docs) {
            tree_remove_leaf(t, i);
            continue;
        }
        int r = e->deletes[i] ? put_deletes(e->coll, l, e->base->segments[i], e->deletes[i], err) : 0;
        if (r) return r;
    }
    int r = 0;
    for (uint32_t i = 0; i < e->n_adds && !r; i++) r = add_leaf(e, t, &e->adds[i], err);
    return r;
}

int edit_commit(struct edit *e, struct err *err) {
    struct core *core = e->coll->core;
    struct tree *t = tree_copy(e->base->tree);
    t->epoch = e->epoch;
    t->commit_no++;
    t->commit_ms = MAX(clock_now_ms(core->clock), t->commit_ms + 1);
    t->committed_seq = e->committed_seq;
    t->first_seq = e->first_seq;
    t->restored_seq = e->restored_seq;
    t->data_ms = e->data_ms;
    t->written_sum += e->written_sum;
    memcpy(t->cid, e->coll->cid, sizeof t->cid);
    snprintf(t->root_key, sizeof t->root_key, "%s", e->coll->root_key);
    if (e->schema) {
        struct buf b = BUF_INIT;
        schema_write_record(e->schema, &b);
        buf_str(&b);
        free(t->schema);
        t->schema_version = e->schema->version;
        t->schema = (char *)buf_detach(&b, &t->schema_len);
    }
    int r = apply_leaves(e, t, err);
    if (!r) r = tree_commit(core->objects, t, e->base->tree, e->coll->data_prefix, core->rng, err);
    tree_unref(t);
    return r;
}

int upload_open(struct upload *u, struct coll *coll, struct err *err) {
    char uuid[33];
    rng_uuid(coll->core->rng, uuid);
    *u = (struct upload){.coll = coll};
    snprintf(u->path, sizeof u->path, "%s/seg-%s", object_staging_dir(coll->core->objects), uuid);
    u->fd = open(u->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (u->fd < 0) return err_sys(err, errno, "could not create \"%s\"", u->path);
    blob_writer_init(&u->writer, u->fd, BLOB_KIND_SEGMENT);
    return 0;
}

int upload_put(struct upload *u, uint64_t size, uint32_t checksum, struct object_ref *ret, struct err *err) {
    struct object_info info;
    snprintf(ret->key, sizeof ret->key, "%s%s", u->coll->data_prefix, strrchr(u->path, '/') + 1);
    int r = object_put_file(u->coll->core->objects, ret->key, u->path, &info, err);
    if (r) return r;
    memcpy(ret->version, info.version, sizeof ret->version);
    ret->size = size;
    ret->checksum = checksum;
    return 0;
}

void upload_close(struct upload *u) {
    blob_writer_release(&u->writer);
    if (u->fd >= 0) close(u->fd);
    unlink(u->path); /* fails when it was put: then it is not there any more */
}
