/* docs/: one file per document. Its content is the stored text and a newline. */
#include "node.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { DOC_FILE_MAX = DOC_MAX_BYTES + 1, CHECKPOINT_STEP = 512, CHECKPOINTS_MAX = 4096 };

struct doc {
    char *id;
    size_t id_len;
    uint64_t seq; /* 0: a new name that is not committed yet */
};
struct doc_write { /* handle->state of a handle that writes */
    bool dirty;
    bool flushed; /* somebody has closed a descriptor of it since the last write */
    bool told;    /* its opener has */
};

static void doc_release(struct node *n) {
    struct doc *d = n->data;
    free(d->id);
    free(d);
}

/* ---- finding ---- */

struct short_find {
    const char *name;
    const struct buf *prefix;
    struct buf id, tried;
    bool found;
};

static int try_short(void *ctx, const char *id, size_t len) {
    struct short_find *f = ctx;
    if (len < f->prefix->len || memcmp(id, f->prefix->data, f->prefix->len)) return 1;
    buf_clear(&f->tried);
    path_doc_name(id, len, &f->tried);
    f->found = !strcmp(buf_str(&f->tried), f->name);
    if (f->found) buf_add(&f->id, id, len);
    return f->found;
}

/* A short name: the ids that begin with its first part are tried. prefix becomes the id. */
static int resolve_short(struct call *c, const struct view *v, const char *name, struct buf *prefix) {
    struct short_find f = {.name = name, .prefix = prefix};
    struct buf after =
        BUF_INIT; /* below every id with the prefix, above every other one below it: no UTF-8 has 0xff */
    buf_add(&after, prefix->data, prefix->len);
    if (after.data[after.len - 1] == 0) {
        after.len--;
    } else {
        after.data[after.len - 1]--;
        buf_addc(&after, (char)0xff);
    }
    int r = view_scan(v, (const char *)after.data, after.len, try_short, &f, &c->err);
    if (r >= 0 && f.found) {
        buf_clear(prefix);
        buf_add(prefix, f.id.data, f.id.len);
    }
    buf_release(&after);
    buf_release(&f.id);
    buf_release(&f.tried);
    if (r < 0) return r;
    return f.found ? 0 : err_set(&c->err, ERR_NOT_FOUND, "there is no document '%.100s'", name);
}

/* The id that a document name stands for. */
static int id_of_name(struct call *c, const struct view *v, const char *name, struct buf *id) {
    switch (path_doc_id(name, id)) {
    case DOC_NAME_ID:
        return 0;
    case DOC_NAME_SHORT:
        if (id->len) return resolve_short(c, v, name, id);
        /* fall through */
    default:
        return err_set(&c->err, ERR_NOT_FOUND, "'%.100s' is no document's name", name);
    }
}

static const struct node_ops doc_ops;

static struct node *doc_node(struct fs *fs, struct node *dir, const char *name, const struct buf *id,
                             const struct doc_info *info) {
    struct buf key = BUF_INIT;
    buf_printf(&key, "%s/doc/%s#%llu", dir->key, name,
               (unsigned long long)(info ? info->seq : fs_serial(fs)));
    if (!info) buf_adds(&key, "new");
    buf_str(&key);
    struct node *n = inode_new(&doc_ops, dir, dir->place, name, (char *)buf_detach(&key, NULL));
    struct doc *d = xcalloc(1, sizeof *d);
    d->id = xstrndup((const char *)id->data, id->len);
    d->id_len = id->len;
    d->seq = info ? info->seq : 0;
    n->data = d;
    n->mode = S_IFREG | 0644;
    n->size = info ? info->size + 1 : 0;
    n->mtime_ms = info ? info->time_ms : clock_now_ms(&clock_system);
    n->attr_s = info ? FS_TIMEOUT_LONG_S : 0; /* of this version of the document, whatever comes after it */
    n->entry_s = dir->place->frozen ? FS_TIMEOUT_LONG_S : 0;
    return inode_add(fs, n);
}

static int docs_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct place *p = dir->place;
    struct scratch *s = p->frozen ? NULL : scratch_find(p, "docs", name);
    if (s) {
        *ret = scratch_node(c->fs, dir, s);
        scratch_unref(p, s);
        return 0;
    }
    if (!p->frozen && scratch_hides(p, name))
        return err_set(&c->err, ERR_NOT_FOUND, "'%s' was renamed", name);
    struct buf id = BUF_INIT;
    if (path_doc_id(name, &id) == DOC_NAME_NONE) {
        buf_release(&id);
        return err_set(&c->err, ERR_NOT_FOUND, "'%.100s' is no document's name", name);
    }
    struct view *v;
    struct doc_info info;
    int r = place_view(c, p, &v);
    if (!r) {
        r = id_of_name(c, v, name, &id);
        if (!r) r = view_doc(v, (const char *)id.data, id.len, NULL, &info, &c->err);
        view_unref(v);
    }
    if (!r) *ret = doc_node(c->fs, dir, name, &id, &info);
    buf_release(&id);
    return r;
}

/* ---- listing: names in id order, by position; a handle keeps its view and how to find positions again ----
 */

struct listing { /* handle->state of docs/ */
    struct view *view;
    struct dir_list others; /* scratch files: after the documents */
    uint64_t at;            /* position (number of documents passed) ... */
    struct buf last;        /* ... and the id before it */
    struct {
        char *id;
        size_t len;
    } * points; /* the id before position (i + 1) * step */
    size_t n_points, points_cap;
    uint64_t step;
    bool failed;
};

static int docs_open(struct call *c, struct handle *h) {
    struct place *p = h->node->place;
    struct listing *l = xcalloc(1, sizeof *l);
    l->step = CHECKPOINT_STEP;
    int r = place_view(c, p, &l->view);
    if (r) {
        free(l);
        return r;
    }
    if (!p->frozen) {
        scratch_list(p, "docs", &l->others);
        pthread_mutex_lock(&p->lock);
        p->listing_pid = c->pid;
        pthread_mutex_unlock(&p->lock);
    }
    h->state = l;
    return 0;
}

static void docs_close(struct call *c, struct handle *h) {
    struct listing *l = h->state;
    if (!l) return;
    view_unref(l->view);
    dir_list_release(&l->others);
    for (size_t i = 0; i < l->n_points; i++) free(l->points[i].id);
    free(l->points);
    buf_release(&l->last);
    free(l);
}

/* Too many checkpoints: every other one goes and the step doubles, so memory stays bounded. */
static void thin_points(struct listing *l) {
    size_t n = 0;
    for (size_t i = 0; i < l->n_points; i++) {
        if (i % 2)
            l->points[n++] = l->points[i];
        else
            free(l->points[i].id);
    }
    l->n_points = n;
    l->step *= 2;
}

static void passed(struct listing *l, const char *id, size_t len) {
    l->at++;
    buf_clear(&l->last);
    buf_add(&l->last, id, len);
    if (l->at != (l->n_points + 1) * l->step) return;
    if (l->n_points >= CHECKPOINTS_MAX) thin_points(l);
    if (l->at != (l->n_points + 1) * l->step) return;
    VEC_GROW(l->points, l->n_points, l->points_cap);
    l->points[l->n_points].id = xstrndup(id, len);
    l->points[l->n_points++].len = len;
}

struct stream {
    struct listing *l;
    struct place *place;
    uint64_t skip_until; /* positions below are passed without being emitted */
    dir_emit *emit;
    void *ctx;
    struct buf name;
    bool full;
};

static int stream_one(void *ctx, const char *id, size_t len) {
    struct stream *s = ctx;
    if (s->l->at >= s->skip_until) {
        buf_clear(&s->name);
        path_doc_name(id, len, &s->name);
        const char *name = buf_str(&s->name);
        bool hidden = !s->place->frozen && s->place->scratch && scratch_hides(s->place, name);
        if (!hidden && !s->emit(s->ctx, name, S_IFREG, 0, s->l->at + 1)) {
            s->full = true;
            return 1;
        }
    }
    passed(s->l, id, len);
    return 0;
}

/* Goes to a position at or before `position` from which the scan can go on. */
static void seek_listing(struct listing *l, uint64_t position) {
    if (position == l->at) return;
    size_t i = (size_t)MIN(position / l->step, l->n_points);
    buf_clear(&l->last);
    l->at = i * l->step;
    if (i) buf_add(&l->last, l->points[i - 1].id, l->points[i - 1].len);
}

enum { OTHERS_BASE_BITS = 62 };

static int docs_stream(struct call *c, struct handle *h, uint64_t offset, dir_emit *emit, void *ctx) {
    struct listing *l = h->state;
    const uint64_t others = 1ull << OTHERS_BASE_BITS;
    if (l->failed) return 0; /* the error was told once; tools that try again must come to an end */
    if (offset < others) {
        struct stream s = {.l = l, .place = h->node->place, .skip_until = offset, .emit = emit, .ctx = ctx};
        seek_listing(l, offset);
        struct buf after = BUF_INIT;
        buf_add(&after, l->last.data, l->last.len);
        int r =
            view_scan(l->view, l->at ? (const char *)after.data : NULL, after.len, stream_one, &s, &c->err);
        buf_release(&after);
        buf_release(&s.name);
        l->failed = r < 0;
        if (r < 0 || s.full) return r < 0 ? r : 0;
        offset = others;
    }
    for (uint64_t i = offset - others; i < l->others.n; i++)
        if (!emit(ctx, l->others.items[i].name, l->others.items[i].mode, 0, others + i + 1)) break;
    return 0;
}

/* ---- one document ---- */

static int load(struct call *c, struct handle *h, bool *ret_same) {
    struct doc *d = h->node->data;
    struct view *v;
    struct doc_info info;
    int r = place_view(c, h->node->place, &v);
    if (r) return r;
    r = view_doc(v, d->id, d->id_len, &h->owned, &info, &c->err);
    view_unref(v);
    if (r) return r;
    buf_adds(&h->owned, "\n");
    *ret_same = info.seq == d->seq;
    return 0;
}

static int doc_open(struct call *c, struct handle *h) {
    struct doc *d = h->node->data;
    bool same = true;
    int r = 0;
    bool fresh = d->seq == 0 || (h->flags & O_TRUNC);
    if (!handle_writes(h) || !fresh) r = d->seq ? load(c, h, &same) : 0;
    if (r) return r;
    if (handle_writes(h)) {
        r = place_check_writable(c, h->node->place);
        if (r) return r;
        h->state = xcalloc(1, sizeof(struct doc_write));
        h->direct_io = true;
        inode_unkey(&c->fs->inodes, h->node); /* its attributes now follow this handle */
        __atomic_store_n(&h->node->attr_s, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&h->node->size, h->owned.len, __ATOMIC_RELAXED);
        return 0;
    }
    /* Written again since it was looked up: the bytes of now, past the page cache that belongs to the older
     * ones. */
    h->direct_io = !same || d->seq == 0;
    h->keep_cache = same;
    h->data = (const char *)h->owned.data;
    h->len = h->owned.len;
    return 0;
}

static int doc_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    if (offset < h->owned.len) buf_add(out, h->owned.data + offset, MIN(size, h->owned.len - offset));
    return 0;
}

static int resize(struct call *c, struct handle *h, uint64_t size) {
    if (size > DOC_FILE_MAX) return call_fail(c, ERR_TOO_LARGE, NULL, "a document has at most 5 MB");
    size_t old = h->owned.len;
    if (size > old) memset(buf_grow(&h->owned, size - old), ' ', size - old);
    h->owned.len = size;
    __atomic_store_n(&h->node->size, size, __ATOMIC_RELAXED);
    __atomic_store_n(&h->node->mtime_ms, clock_now_ms(&clock_system), __ATOMIC_RELAXED);
    return 0;
}

static int doc_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    struct doc_write *w = h->state;
    if (!w) return call_fail(c, ERR_PERM, NULL, "not open for writing");
    int r = offset + len > h->owned.len ? resize(c, h, offset + len) : 0;
    if (r) return r;
    memcpy(h->owned.data + offset, data, len);
    w->dirty = true;
    w->flushed = w->told = false;
    return 0;
}

static int doc_truncate(struct call *c, struct node *n, struct handle *h, uint64_t size) {
    int r = place_check_writable(c, n->place);
    if (r) return r;
    if (!h || !h->state)
        return size == 0 || size == n->size ? 0 : call_fail(c, ERR_INVALID, NULL, "a document cannot be cut");
    struct doc_write *w = h->state;
    w->dirty = w->dirty || (size && size != h->owned.len);
    return resize(c, h, size);
}

static int commit_handle(struct call *c, struct handle *h) {
    struct doc *d = h->node->data;
    struct doc_write *w = h->state;
    if (!w || !w->dirty || !h->owned.len) return 0;
    int r = document_commit(c, h->node->place, d->id, d->id_len, (const char *)h->owned.data, h->owned.len);
    if (r) return r;
    w->dirty = false;
    scratch_unhide(h->node->place, h->node->name);
    return 0;
}

static int doc_flush(struct call *c, struct handle *h, bool own) {
    struct doc_write *w = h->state;
    int r = commit_handle(c, h);
    if (w) w->flushed = true;
    if (w && own) w->told = true;
    if (own) return r;
    err_clear(&c->err); /* somebody else's copy of the descriptor: perhaps only half is written */
    return 0;
}

/* What nobody was told about goes to errors.jsonl: here nobody can be answered any more. */
static void doc_close(struct call *c, struct handle *h) {
    struct doc_write *w = h->state;
    if (w && w->dirty && !w->told && h->owned.len) {
        call_fail(c, ERR_IO, "write it again",
                  "what was written to '%.100s' was never closed and is not stored", h->node->name);
        int r = w->flushed ? commit_handle(c, h) : -ERR_IO;
        if (r) call_note(c, "close", (enum err_code) - r, h->node, NULL);
    }
    free(w);
}

static const struct node_ops doc_ops = {.kind = "document",
                                        .open = doc_open,
                                        .read = doc_read,
                                        .write = doc_write,
                                        .flush = doc_flush,
                                        .fsync = commit_handle,
                                        .truncate = doc_truncate,
                                        .close = doc_close,
                                        .release = doc_release,
                                        .open_pool = WORK_DOCS,
                                        .accepts_any_attr = true};

/* ---- changes of the directory ---- */

static int docs_create(struct call *c, struct node *dir, const char *name, mode_t mode, struct handle *h,
                       struct node **ret) {
    struct buf id = BUF_INIT;
    int r = 0;
    if (path_doc_id(name, &id) == DOC_NAME_ID) {
        *ret = doc_node(c->fs, dir, name, &id, NULL);
        (*ret)->mode = S_IFREG | 0644;
        h->direct_io = true;
        h->state = xcalloc(1, sizeof(struct doc_write));
        scratch_unhide(dir->place, name);
    } else if (path_is_scratch_name(name)) {
        r = scratch_create(c, dir, "docs", name, mode, h, ret);
    } else {
        r = call_fail(c, ERR_PERM, "documents are named ID.json; '/', '%' and control characters as %XX",
                      "'%.100s' is no document's name", name);
    }
    buf_release(&id);
    return r;
}

/* The first delete after listing the directory is probably an rm -r: the state before it is kept. */
static int mark_before(struct call *c, struct place *p) {
    uint64_t seq;
    pthread_mutex_lock(&p->lock);
    bool mark = p->listing_pid == c->pid && p->mark_pid != c->pid;
    pthread_mutex_unlock(&p->lock);
    if (!mark) return 0;
    int r = engine_mark(c->fs->engine, p->cid, &seq, &c->err);
    if (r) return r;
    pthread_mutex_lock(&p->lock);
    p->mark_pid = c->pid;
    p->mark_seq = seq;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static int docs_unlink(struct call *c, struct node *dir, const char *name) {
    struct place *p = dir->place;
    struct scratch *s = scratch_find(p, "docs", name);
    if (s) {
        scratch_unlist(p, s);
        scratch_unref(p, s);
        return 0;
    }
    struct view *v;
    struct buf id = BUF_INIT;
    struct doc_info info;
    int r = place_view(c, p, &v);
    if (r) return r;
    r = id_of_name(c, v, name, &id);
    if (!r) r = view_doc(v, (const char *)id.data, id.len, NULL, &info, &c->err);
    view_unref(v);
    if (!r) r = mark_before(c, p);
    if (!r) r = document_delete(c, p, (const char *)id.data, id.len);
    buf_release(&id);
    return r;
}

/* An editor moves the document aside before it writes a new one: a copy under the other name, nothing is
 * deleted. */
static int rename_aside(struct call *c, struct node *dir, const char *name, const char *new_name) {
    struct place *p = dir->place;
    struct view *v;
    struct buf id = BUF_INIT, text = BUF_INIT;
    struct doc_info info;
    int r = place_view(c, p, &v);
    if (r) return r;
    r = id_of_name(c, v, name, &id);
    if (!r) r = view_doc(v, (const char *)id.data, id.len, &text, &info, &c->err);
    view_unref(v);
    struct scratch *s = NULL;
    if (!r) {
        s = scratch_new(p, "docs", new_name);
        r = scratch_open_file(c, s);
        buf_adds(&text, "\n");
        if (!r && pwrite(s->fd, text.data, text.len, 0) != (ssize_t)text.len)
            r = err_sys(&c->err, ENOSPC, "could not copy '%s'", name);
        s->size = text.len;
        s->expires_ms = mono_ms() + 600000;
        if (r)
            scratch_unlist(p, s);
        else {
            pthread_mutex_lock(&p->lock);
            s->hides = xstrdup(name);
            pthread_mutex_unlock(&p->lock);
        }
        scratch_unref(p, s);
    }
    buf_release(&id);
    buf_release(&text);
    return r;
}

static int commit_scratch(struct call *c, struct place *p, struct scratch *s, const char *new_name) {
    struct buf id = BUF_INIT, text = BUF_INIT;
    int r = 0;
    pthread_mutex_lock(&p->lock);
    bool back = s->hides && !strcmp(s->hides, new_name); /* moved back: nothing was changed */
    pthread_mutex_unlock(&p->lock);
    if (path_doc_id(new_name, &id) != DOC_NAME_ID)
        r = call_fail(c, ERR_PERM, "documents are named ID.json", "'%.100s' is no document's name", new_name);
    if (!r && !back) r = scratch_load(c, s, DOC_FILE_MAX, &text);
    if (!r && !back && !text.len) r = call_fail(c, ERR_JSON, NULL, "'%.100s' is empty", scratch_name(s));
    if (!r && !back)
        r = document_commit(c, p, (const char *)id.data, id.len, (const char *)text.data, text.len);
    if (!r) {
        scratch_unlist(p, s);
        scratch_unhide(p, new_name);
    }
    buf_release(&id);
    buf_release(&text);
    return r;
}

static int docs_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                       const char *new_name, unsigned flags) {
    struct place *p = dir->place;
    if (new_dir != dir)
        return call_fail(c, ERR_PERM, "cp it", "documents cannot be moved out of their directory");
    struct scratch *s = scratch_find(p, "docs", name);
    int r;
    if (s && path_is_scratch_name(new_name)) {
        scratch_rename(p, s, new_name);
        r = 0;
    } else if (s) {
        r = commit_scratch(c, p, s, new_name);
    } else if (path_is_scratch_name(new_name)) {
        r = rename_aside(c, dir, name, new_name);
    } else {
        r = call_fail(c, ERR_PERM, "write the new document and remove the old one",
                      "a document's id cannot be changed");
    }
    scratch_unref(p, s);
    return r;
}

static int docs_stat(struct call *c, struct node *n) {
    uint64_t seq;
    int64_t ms = 0;
    if (n->place->frozen) return 0;
    int r = engine_activity(c->fs->engine, n->place->cid, &seq, &ms, &c->err);
    if (!r) node_newer(n, ms);
    return r;
}

const struct node_ops docs_ops = {.kind = "documents",
                                  .lookup = docs_lookup,
                                  .stream = docs_stream,
                                  .open = docs_open,
                                  .close = docs_close,
                                  .create = docs_create,
                                  .unlink = docs_unlink,
                                  .rename = docs_rename,
                                  .stat = docs_stat,
                                  .list_pool = WORK_DOCS,
                                  .accepts_any_attr = true};
