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

/* The size changes under the place's lock, and is read without it. */
static uint64_t size_of(const struct scratch *s) {
    return __atomic_load_n(&s->size, __ATOMIC_RELAXED);
}

static void set_size(struct scratch *s, struct place *place, uint64_t size, bool only_up) {
    pthread_mutex_lock(&place->lock);
    if (!only_up || size > s->size) __atomic_store_n(&s->size, size, __ATOMIC_RELAXED);
    s->mtime_ms = clock_now_ms(&clock_system);
    pthread_mutex_unlock(&place->lock);
}

static int scratch_stat(struct call *c, struct node *n) {
    struct scratch *s = node_scratch(n);
    pthread_mutex_lock(&n->place->lock);
    __atomic_store_n(&n->size, s->size, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mtime_ms, s->mtime_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mode, S_IFREG | (s->mode & 07777), __ATOMIC_RELAXED);
    pthread_mutex_unlock(&n->place->lock);
    return 0;
}

static int scratch_open(struct call *c, struct handle *h) {
    struct scratch *s = node_scratch(h->node);
    if (h->flags & O_TRUNC) {
        if (ftruncate(s->fd, 0)) return err_sys(&c->err, errno, "cannot truncate '%s'", scratch_name(s));
        set_size(s, h->node->place, 0, false);
    }
    scratch_touch(h->node->place, s, 1);
    return 0;
}

static void scratch_close(struct call *c, struct handle *h) {
    scratch_touch(h->node->place, node_scratch(h->node), -1);
}

static int scratch_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    struct scratch *s = node_scratch(h->node);
    uint8_t *p = buf_grow(out, size);
    ssize_t n = pread(s->fd, p, size, (off_t)offset);
    out->len -= size - (n > 0 ? (size_t)n : 0);
    return n < 0 ? err_sys(&c->err, errno, "cannot read '%s'", scratch_name(s)) : 0;
}

static int scratch_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    struct scratch *s = node_scratch(h->node);
    while (len) {
        ssize_t n = pwrite(s->fd, data, len, (off_t)offset);
        if (n < 0) return err_sys(&c->err, errno, "cannot write '%s'", scratch_name(s));
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
        set_size(s, h->node->place, offset, true);
    }
    scratch_touch(h->node->place, s, 0);
    return 0;
}

static int scratch_truncate(struct call *c, struct node *n, struct handle *h, uint64_t size) {
    struct scratch *s = node_scratch(n);
    if (ftruncate(s->fd, (off_t)size))
        return err_sys(&c->err, errno, "cannot truncate '%s'", scratch_name(s));
    set_size(s, n->place, size, false);
    return 0;
}

static int scratch_chmod(struct call *c, struct node *n, mode_t mode) {
    pthread_mutex_lock(&n->place->lock);
    node_scratch(n)->mode = mode & 07777;
    pthread_mutex_unlock(&n->place->lock);
    return 0;
}

static int scratch_utimens(struct call *c, struct node *n, int64_t mtime_ms) {
    pthread_mutex_lock(&n->place->lock);
    node_scratch(n)->mtime_ms = mtime_ms;
    pthread_mutex_unlock(&n->place->lock);
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
                                            .close = scratch_close,
                                            .truncate = scratch_truncate,
                                            .chmod = scratch_chmod,
                                            .utimens = scratch_utimens,
                                            .release = scratch_release,
                                            .accepts_any_attr = true};

struct node *scratch_node(struct fs *fs, struct node *dir, struct scratch *s) {
    struct buf key = BUF_INIT;
    pthread_mutex_lock(&dir->place->lock);
    if (!s->ino_seed) s->ino_seed = (int64_t)fs_serial(fs);
    s->refs++;
    pthread_mutex_unlock(&dir->place->lock);
    buf_printf(&key, "%s/scratch/%lld", dir->key, (long long)s->ino_seed);
    buf_str(&key);
    struct node *n =
        inode_new(&scratch_ops, dir, dir->place, scratch_name(s), (char *)buf_detach(&key, NULL));
    struct scratch_data *d = xcalloc(1, sizeof *d);
    *d = (struct scratch_data){s, dir->place};
    n->data = d;
    scratch_stat(NULL, n);
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
        scratch_touch(dir->place, s, 1);
        *ret = scratch_node(c->fs, dir, s);
    }
    scratch_unref(dir->place, s);
    return r;
}

int scratch_load(struct call *c, struct scratch *s, size_t max, struct buf *out) {
    uint64_t size = size_of(s);
    if (size > max)
        return call_fail(c, ERR_TOO_LARGE, NULL, "'%s' has %llu bytes", scratch_name(s),
                         (unsigned long long)size);
    uint64_t at = 0;
    buf_clear(out);
    while (at < size) {
        uint8_t *p = buf_grow(out, size - at);
        ssize_t n = pread(s->fd, p, size - at, (off_t)at);
        if (n < 0) return err_sys(&c->err, errno, "cannot read '%s'", scratch_name(s));
        out->len -= size - at - (size_t)n;
        if (n == 0) break;
        at += (uint64_t)n;
    }
    return 0;
}
