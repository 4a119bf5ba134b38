/* Directories of ordinary small files under DATA/files: saved queries, receipts, rejects. */
#include "ingest.h"
#include "node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SAVED_QUERY_MAX = 1 << 20, REAL_FILE_MAX = 16 << 20 };

static const char *sub_of(const struct node *dir) {
    if (dir->ops == &queries_ops) return "queries";
    return dir->ops == &receipts_ops ? "receipts" : "rejects";
}

static char *real_path(struct fs *fs, const struct node *dir, const char *name) {
    struct buf b = BUF_INIT;
    char *base = place_dir(fs, dir->place, sub_of(dir));
    buf_printf(&b, "%s/%s", base, name);
    free(base);
    buf_str(&b);
    return (char *)buf_detach(&b, NULL);
}

static void take_stat(struct node *n, const struct stat *st) {
    __atomic_store_n(&n->size, (uint64_t)st->st_size, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mode, S_IFREG | (st->st_mode & 0777) | 0600, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mtime_ms, st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000,
                     __ATOMIC_RELAXED);
}

static int real_stat(struct call *c, struct node *n) {
    struct stat st;
    char *path = real_path(c->fs, n->parent, n->name);
    if (lstat(path, &st) == 0) take_stat(n, &st);
    free(path);
    return 0;
}

static int real_open(struct call *c, struct handle *h) {
    char *path = real_path(c->fs, h->node->parent, h->node->name);
    int keep = handle_writes(h) ? O_RDWR | (h->flags & O_TRUNC) : O_RDONLY;
    h->fd = open(path, keep | O_CLOEXEC | O_NOFOLLOW);
    int r = h->fd < 0 ? err_sys(&c->err, errno, "cannot open '%s'", h->node->name) : 0;
    free(path);
    return r;
}

static int real_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    uint8_t *p = buf_grow(out, size);
    ssize_t n = pread(h->fd, p, size, (off_t)offset);
    out->len -= size - (n > 0 ? (size_t)n : 0);
    return n < 0 ? err_sys(&c->err, errno, "cannot read '%s'", h->node->name) : 0;
}

static int real_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    if (offset + len > REAL_FILE_MAX)
        return call_fail(c, ERR_TOO_LARGE, NULL, "files here have at most 16 MB");
    while (len) {
        ssize_t n = pwrite(h->fd, data, len, (off_t)offset);
        if (n < 0) return err_sys(&c->err, errno, "cannot write '%s'", h->node->name);
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int real_fsync(struct call *c, struct handle *h) {
    return fdatasync(h->fd) ? err_sys(&c->err, errno, "cannot sync '%s'", h->node->name) : 0;
}

static int real_flush(struct call *c, struct handle *h, bool own) {
    return handle_writes(h) ? real_fsync(c, h) : 0;
}

static int real_truncate(struct call *c, struct node *n, struct handle *h, uint64_t size) {
    if (size > REAL_FILE_MAX) return call_fail(c, ERR_TOO_LARGE, NULL, "files here have at most 16 MB");
    char *path = real_path(c->fs, n->parent, n->name);
    int e = h && h->fd >= 0 ? ftruncate(h->fd, (off_t)size) : truncate(path, (off_t)size);
    free(path);
    return e ? err_sys(&c->err, errno, "cannot truncate '%s'", n->name) : 0;
}

static int real_chmod(struct call *c, struct node *n, mode_t mode) {
    char *path = real_path(c->fs, n->parent, n->name);
    int e = chmod(path, (mode & 0777) | 0600);
    free(path);
    return e ? err_sys(&c->err, errno, "cannot chmod '%s'", n->name) : 0;
}

static int real_utimens(struct call *c, struct node *n, int64_t mtime_ms) {
    struct timespec t = {mtime_ms / 1000, mtime_ms % 1000 * 1000000};
    char *path = real_path(c->fs, n->parent, n->name);
    int e = utimensat(AT_FDCWD, path, (struct timespec[2]){t, t}, 0);
    free(path);
    return e ? err_sys(&c->err, errno, "cannot set the times of '%s'", n->name) : 0;
}

static const struct node_ops saved_ops = {.kind = "file",
                                          .stat = real_stat,
                                          .open = real_open,
                                          .read = real_read,
                                          .write = real_write,
                                          .flush = real_flush,
                                          .fsync = real_fsync,
                                          .truncate = real_truncate,
                                          .chmod = real_chmod,
                                          .utimens = real_utimens,
                                          .accepts_any_attr = true};
static const struct node_ops record_ops = {
    .kind = "record", .stat = real_stat, .open = real_open, .read = real_read, .accepts_any_attr = true};

static struct node *real_node(struct call *c, struct node *dir, const char *name, const struct stat *st) {
    struct buf key = BUF_INIT;
    buf_printf(&key, "%s/real/%s#%llu", dir->key, name, (unsigned long long)st->st_ino);
    buf_str(&key);
    const struct node_ops *ops = dir->ops == &queries_ops ? &saved_ops : &record_ops;
    struct node *n = inode_new(ops, dir, dir->place, name, (char *)buf_detach(&key, NULL));
    take_stat(n, st);
    return inode_add(c->fs, n);
}

static int real_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct stat st;
    char *path = real_path(c->fs, dir, name);
    int e = lstat(path, &st) ? errno : S_ISREG(st.st_mode) ? 0 : ENOENT;
    free(path);
    if (e) return err_sys(&c->err, e, "no file '%.200s'", name);
    *ret = real_node(c, dir, name, &st);
    return 0;
}

static int real_list(struct call *c, struct node *dir, struct dir_list *out) {
    char *path = place_dir(c->fs, dir->place, sub_of(dir));
    DIR *d = opendir(path);
    int r = d ? 0 : err_sys(&c->err, errno, "cannot list '%s'", dir->name);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) dir_list_add(out, e->d_name, S_IFREG, 0);
    if (d) closedir(d);
    free(path);
    return r;
}

static int real_create(struct call *c, struct node *dir, const char *name, mode_t mode, struct handle *h,
                       struct node **ret) {
    struct stat st;
    char *path = real_path(c->fs, dir, name);
    h->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (h->flags & (O_EXCL | O_TRUNC)),
                 (mode & 0777) | 0600);
    int r = 0;
    if (h->fd < 0 || fstat(h->fd, &st))
        r = err_sys(&c->err, errno, "cannot make '%s'", name);
    else
        r = path_sync_parent(path, &c->err);
    if (!r) *ret = real_node(c, dir, name, &st);
    free(path);
    return r;
}

int real_remove(struct call *c, struct node *dir, const char *name) {
    char *path = real_path(c->fs, dir, name);
    int r = unlink(path) ? err_sys(&c->err, errno, "cannot remove '%s'", name) : 0;
    if (!r && dir->ops == &queries_ops) r = path_sync_parent(path, &c->err);
    free(path);
    return r;
}

int real_open_source(struct call *c, struct node *dir, const char *name, int *ret_fd) {
    char *path = real_path(c->fs, dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int r = fd < 0 ? err_sys(&c->err, errno, "cannot open '%s'", name) : 0;
    free(path);
    if (!r) *ret_fd = fd;
    return r;
}

static int queries_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                          const char *new_name, unsigned flags) {
    if (new_dir->ops != &queries_ops || new_dir->place != dir->place)
        return call_fail(c, ERR_PERM, "cp it", "a saved query cannot be moved out of its directory");
    char *from = real_path(c->fs, dir, name), *to = real_path(c->fs, new_dir, new_name);
    int r = 0;
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags))
        r = err_sys(&c->err, errno, "cannot rename '%s'", name);
    if (!r) r = path_sync_parent(to, &c->err);
    free(from);
    free(to);
    return r;
}

/* Refused lines moved back into ingest/ are tried again. */
static int rejects_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                          const char *new_name, unsigned flags) {
    if (new_dir->ops != &ingest_ops || new_dir->place != dir->place)
        return call_fail(c, ERR_PERM,
                         "mv it into the ingest directory to try the lines again, or cp it elsewhere",
                         "refused lines can only be moved to ingest/");
    int fd, r = real_open_source(c, dir, name, &fd);
    if (r) return r;
    r = ingest_file(c, new_dir, new_name, fd, ingest_op_of_rejects(name));
    close(fd);
    int removed = r == 0 || r == -ERR_JSON || r == -ERR_INVALID || r == -ERR_DIMENSION || r == -ERR_TOO_LARGE;
    if (removed) {
        struct call quiet = {.fs = c->fs};
        struct buf reasons = BUF_INIT;
        buf_printf(&reasons, "%s.reasons.jsonl", name);
        real_remove(&quiet, dir, name); /* what was refused again has been written to a new file */
        real_remove(&quiet, dir, buf_str(&reasons));
        buf_release(&reasons);
    }
    return r;
}

const struct node_ops queries_ops = {.kind = "saved queries",
                                     .lookup = real_lookup,
                                     .list = real_list,
                                     .create = real_create,
                                     .unlink = real_remove,
                                     .rename = queries_rename,
                                     .accepts_any_attr = true};
const struct node_ops receipts_ops = {.kind = "receipts",
                                      .lookup = real_lookup,
                                      .list = real_list,
                                      .unlink = real_remove,
                                      .accepts_any_attr = true};
const struct node_ops rejects_ops = {.kind = "rejects",
                                     .lookup = real_lookup,
                                     .list = real_list,
                                     .unlink = real_remove,
                                     .rename = rejects_rename,
                                     .accepts_any_attr = true};

/* ---- saved queries, for query/@NAME ---- */

int saved_query_read(struct call *c, struct place *p, const char *name, struct buf *out) {
    struct buf path = BUF_INIT;
    char *base = place_dir(c->fs, p, "queries");
    buf_printf(&path, "%s/%s.json", base, name);
    free(base);
    struct stat st;
    int r = 0, fd = -1;
    if (strchr(name, '/')) r = err_set(&c->err, ERR_NOT_FOUND, "there is no saved query '%s'", name);
    if (!r) fd = open(buf_str(&path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (!r && fd < 0) r = err_sys(&c->err, errno, "no saved query '%s'", name);
    if (!r && fstat(fd, &st)) r = err_sys(&c->err, errno, "cannot read '%s'", name);
    if (!r && st.st_size > SAVED_QUERY_MAX)
        r = err_set(&c->err, ERR_TOO_LARGE, "the saved query '%s' is too long", name);
    if (!r && st.st_size) {
        uint8_t *p_data = buf_grow(out, (size_t)st.st_size);
        ssize_t n = pread(fd, p_data, (size_t)st.st_size, 0);
        out->len = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) close(fd);
    buf_release(&path);
    return r;
}

int saved_query_list(struct call *c, struct place *p, struct dir_list *out) {
    char *path = place_dir(c->fs, p, "queries");
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (e->d_name[0] == '.' || n < 6 || n > 254 || strcmp(e->d_name + n - 5, ".json")) continue;
        char name[256];
        snprintf(name, sizeof name, "@%.*s", (int)(n - 5), e->d_name);
        dir_list_add(out, name, S_IFREG, 0);
    }
    if (d) closedir(d);
    free(path);
    return 0;
}
