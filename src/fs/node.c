/* What all kinds of nodes share: attributes, paths, generated files, symlinks, plain directories. */
#include "node.h"
#include "util/codec.h"

#include <stdio.h>

int call_fail(struct call *c, enum err_code code, const char *hint, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char text[sizeof c->err.text];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->hint = hint;
    return err_set(&c->err, code, "%s", text);
}

void dir_list_add(struct dir_list *l, const char *name, mode_t mode, uint64_t ino) {
    VEC_GROW(l->items, l->n, l->cap);
    l->items[l->n++] = (struct dir_item){xstrdup(name), mode, ino ? ino : hash64(name, strlen(name), 7) | 1};
}

void dir_list_release(struct dir_list *l) {
    for (size_t i = 0; i < l->n; i++) free(l->items[i].name);
    free(l->items);
    *l = (struct dir_list){0};
}

void node_stat(struct fs *fs, struct node *n, struct stat *st) {
    memset(st, 0, sizeof *st);
    uint64_t size = __atomic_load_n(&n->size, __ATOMIC_RELAXED);
    int64_t mtime = __atomic_load_n(&n->mtime_ms, __ATOMIC_RELAXED);
    st->st_ino = n->ino;
    st->st_mode = __atomic_load_n(&n->mode, __ATOMIC_RELAXED);
    st->st_nlink = S_ISDIR(st->st_mode) ? 2 : 1;
    st->st_uid = fs->uid;
    st->st_gid = fs->gid;
    st->st_size = (off_t)size;
    st->st_blksize = 4096;
    st->st_blocks = (blkcnt_t)((size + 511) / 512);
    if (mtime <= 0) mtime = fs->start_ms;
    st->st_mtim = (struct timespec){mtime / 1000, mtime % 1000 * 1000000};
    st->st_atim = st->st_ctim = st->st_mtim;
}

static void add_parents(struct node *n, struct buf *out) {
    if (!n->parent) return;
    add_parents(n->parent, out);
    if (out->len) buf_addc(out, '/');
    buf_adds(out, n->name);
}

void node_path(struct node *n, const char *name, struct buf *out) {
    if (n) add_parents(n, out);
    if (!name) return;
    if (out->len) buf_addc(out, '/');
    buf_adds(out, name);
}

static char *child_key(struct node *parent, const char *name, const char *tag) {
    struct buf b = BUF_INIT;
    buf_printf(&b, "%s/%s", parent ? parent->key : "", name);
    if (tag && *tag) buf_printf(&b, "#%s", tag);
    buf_str(&b);
    return (char *)buf_detach(&b, NULL);
}

struct node *dir_node(struct fs *fs, const struct node_ops *ops, struct node *parent, const char *name,
                      struct place *place, const char *tag) {
    struct node *n = inode_new(ops, parent,
                               place    ? place
                               : parent ? parent->place
                                        : NULL,
                               name, child_key(parent, name, tag));
    n->mode = S_IFDIR | 0755;
    bool frozen = n->place && n->place->frozen, inside = parent && n->place && parent->place == n->place;
    n->attr_s = frozen && inside ? FS_TIMEOUT_LONG_S : 0;
    n->entry_s = !inside ? 0 : frozen ? FS_TIMEOUT_LONG_S : FS_TIMEOUT_FIXED_S;
    if (parent && n->place && parent->place == n->place)
        n->mtime_ms = __atomic_load_n(&parent->mtime_ms, __ATOMIC_RELAXED);
    return inode_add(fs, n);
}

/* ---- generated files ---- */

struct text {
    char *data;
    size_t len;
    text_commit *commit;
};

static int text_open(struct call *c, struct handle *h) {
    struct text *t = h->node->data;
    if (handle_writes(h)) {
        h->direct_io = true;
        return 0;
    }
    h->data = t->data;
    h->len = t->len;
    h->keep_cache = true;
    return 0;
}

static int text_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    struct text *t = h->node->data;
    if (offset < t->len) buf_add(out, t->data + offset, MIN(size, t->len - offset));
    return 0;
}

enum { TEXT_WRITE_MAX = 8 * 1024 * 1024 };

static int text_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    if (place_check_writable(c, h->node->place)) return -ERR_READ_ONLY;
    if (offset + len > TEXT_WRITE_MAX) return call_fail(c, ERR_TOO_LARGE, NULL, "too long for this file");
    if (offset > h->owned.len) return call_fail(c, ERR_INVALID, NULL, "writes here must be sequential");
    if (offset + len > h->owned.len) buf_grow(&h->owned, offset + len - h->owned.len);
    memcpy(h->owned.data + offset, data, len);
    return 0;
}

static int text_flush(struct call *c, struct handle *h, bool own) {
    struct text *t = h->node->data;
    if (!h->owned.len || !t->commit) return 0;
    int r = t->commit(c, h->node, (const char *)h->owned.data, h->owned.len);
    buf_clear(&h->owned);
    return own ? r : 0;
}

static int text_truncate(struct call *c, struct node *n, struct handle *h, uint64_t size) {
    return place_check_writable(c, n->place);
}

static void text_release(struct node *n) {
    struct text *t = n->data;
    if (!t) return;
    free(t->data);
    free(t);
}

static const struct node_ops text_ops = {.kind = "generated file",
                                         .open = text_open,
                                         .read = text_read,
                                         .write = text_write,
                                         .flush = text_flush,
                                         .truncate = text_truncate,
                                         .release = text_release,
                                         .accepts_any_attr = true};

struct node *text_node_writable(struct fs *fs, struct node *dir, const char *name, struct buf *take,
                                int64_t mtime_ms, text_commit *commit) {
    char tag[40];
    snprintf(tag, sizeof tag, "%016llx.%zx", (unsigned long long)hash64(take->data, take->len, 3), take->len);
    struct node *n = inode_new(&text_ops, dir, dir->place, name, child_key(dir, name, tag));
    struct text *t = xcalloc(1, sizeof *t);
    t->len = take->len;
    t->data = (char *)buf_detach(take, NULL);
    t->commit = commit;
    n->data = t;
    n->size = t->len;
    n->mode = S_IFREG | 0644;
    n->mtime_ms = mtime_ms ? mtime_ms : clock_now_ms(&clock_system);
    n->attr_s = FS_TIMEOUT_LONG_S;
    n->entry_s = dir->place && dir->place->frozen ? FS_TIMEOUT_LONG_S : 0;
    return inode_add(fs, n);
}

struct node *text_node(struct fs *fs, struct node *dir, const char *name, struct buf *take,
                       int64_t mtime_ms) {
    return text_node_writable(fs, dir, name, take, mtime_ms, NULL);
}

/* ---- symlinks ---- */

static int link_readlink(struct call *c, struct node *n, struct buf *out) {
    buf_adds(out, n->data);
    return 0;
}

static void link_release(struct node *n) {
    free(n->data);
}

static const struct node_ops link_ops = {
    .kind = "link", .readlink = link_readlink, .release = link_release, .accepts_any_attr = true};

struct node *symlink_node(struct fs *fs, struct node *dir, const char *name, const char *target) {
    struct node *n = inode_new(&link_ops, dir, dir->place, name, child_key(dir, name, target));
    n->data = xstrdup(target);
    n->size = strlen(target);
    n->mode = S_IFLNK | 0777;
    return inode_add(fs, n);
}
