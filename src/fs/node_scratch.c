/* Files that are not final yet (or no more): scratch files in a staging file, dropped names as their receipt.
 */
#include "node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* A node holds one reference of its scratch and the place (through node->place). */
struct scratch_data {
    struct scratch *s;
    struct place *place;
};

struct scratch *node_scratch(struct node *n) {
    struct scratch_data *d = n->data;
    return n->ops->kind && !strcmp(n->ops->kind, "scratch") ? d->s : NULL;
}

static int scratch_stat(struct call *c, struct node *n) {
    struct scratch *s = node_scratch(n);
    __atomic_store_n(&n->size, s->size, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mtime_ms, s->mtime_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mode, S_IFREG | (s->mode & 07777), __ATOMIC_RELAXED);
    return 0;
}

static int scratch_open(struct call *c, struct handle *h) {
    struct scratch *s = node_scratch(h->node);
    if (h->flags & O_TRUNC) {
        if (ftruncate(s->fd, 0)) return err_sys(&c->err, errno, "cannot truncate '%s'", s->name);
        s->size = 0;
    }
    return 0;
}

static int scratch_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    struct scratch *s = node_scratch(h->node);
    uint8_t *p = buf_grow(out, size);
    ssize_t n = pread(s->fd, p, size, (off_t)offset);
    out->len -= size - (n > 0 ? (size_t)n : 0);
    return n < 0 ? err_sys(&c->err, errno, "cannot read '%s'", s->name) : 0;
}

static int scratch_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    struct scratch *s = node_scratch(h->node);
    while (len) {
        ssize_t n = pwrite(s->fd, data, len, (off_t)offset);
        if (n < 0) return err_sys(&c->err, errno, "cannot write '%s'", s->name);
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
        s->size = MAX(s->size, offset);
    }
    s->mtime_ms = clock_now_ms(&clock_system);
    return 0;
}

static int scratch_truncate(struct call *c, struct node *n, struct handle *h, uint64_t size) {
    struct scratch *s = node_scratch(n);
    if (ftruncate(s->fd, (off_t)size)) return err_sys(&c->err, errno, "cannot truncate '%s'", s->name);
    s->size = size;
    return 0;
}

static int scratch_chmod(struct call *c, struct node *n, mode_t mode) {
    node_scratch(n)->mode = mode & 07777;
    return 0;
}

static int scratch_utimens(struct call *c, struct node *n, int64_t mtime_ms) {
    node_scratch(n)->mtime_ms = mtime_ms;
    return 0;
}

static void scratch_release(struct node *n) {
    struct scratch_data *d = n->data;
    scratch_unref(d->place, d->s);
    free(d);
}

static int scratch_flush(struct call *c, struct handle *h, bool own) {
    return 0;
}
static int scratch_fsync(struct call *c, struct handle *h) {
    return 0;
}

static const struct node_ops scratch_ops = {.kind = "scratch",
                                            .stat = scratch_stat,
                                            .open = scratch_open,
                                            .read = scratch_read,
                                            .write = scratch_write,
                                            .flush = scratch_flush,
                                            .fsync = scratch_fsync,
                                            .truncate = scratch_truncate,
                                            .chmod = scratch_chmod,
                                            .utimens = scratch_utimens,
                                            .release = scratch_release,
                                            .accepts_any_attr = true};

struct node *scratch_node(struct fs *fs, struct node *dir, struct scratch *s) {
    struct buf key = BUF_INIT;
    if (!s->ino_seed) s->ino_seed = (int64_t)fs_serial(fs);
    buf_printf(&key, "%s/scratch/%lld", dir->key, (long long)s->ino_seed);
    buf_str(&key);
    struct node *n = inode_new(&scratch_ops, dir, dir->place, s->name, (char *)buf_detach(&key, NULL));
    struct scratch_data *d = xcalloc(1, sizeof *d);
    pthread_mutex_lock(&dir->place->lock);
    s->refs++;
    pthread_mutex_unlock(&dir->place->lock);
    *d = (struct scratch_data){s, dir->place};
    n->data = d;
    n->mode = S_IFREG | (s->mode & 07777);
    n->size = s->size;
    n->mtime_ms = s->mtime_ms;
    return inode_add(fs, n);
}

int scratch_create(struct call *c, struct node *dir, const char *sub, const char *name, mode_t mode,
                   struct handle *h, struct node **ret) {
    struct scratch *s = scratch_new(dir->place, sub, name);
    int r = scratch_open_file(c, s);
    if (r) {
        scratch_unlist(dir->place, s);
    } else {
        s->mode = mode & 07777;
        *ret = scratch_node(c->fs, dir, s);
    }
    scratch_unref(dir->place, s);
    return r;
}

int scratch_load(struct call *c, struct scratch *s, size_t max, struct buf *out) {
    if (s->size > max)
        return call_fail(c, ERR_TOO_LARGE, NULL, "'%s' has %llu bytes", s->name, (unsigned long long)s->size);
    uint64_t at = 0;
    buf_clear(out);
    while (at < s->size) {
        uint8_t *p = buf_grow(out, s->size - at);
        ssize_t n = pread(s->fd, p, s->size - at, (off_t)at);
        if (n < 0) return err_sys(&c->err, errno, "cannot read '%s'", s->name);
        out->len -= s->size - at - (size_t)n;
        if (n == 0) break;
        at += (uint64_t)n;
    }
    return 0;
}
