/* The write buffer in a directory, local or on NFS: pread and pwrite at explicit offsets, OFD locks, no mmap.
 */
#include "backend/log_store.h"
#include "util/local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SEGMENT_NAME_LEN = 8 + 1 + 16 + 4,
    LOG_PATH_SIZE = 512,
    LOCK_TRIES_MAX = 1000,
    READ_WHOLE_MAX = 64 * 1024,
    STAMP_QUIET_MS = 100,         /* longer than a step of the clock that filesystems take their times from */
    STAMP_QUIET_COARSE_MS = 2000, /* the same where times are whole seconds */
};

struct store {
    struct log_store base;
    int dir_fd;
    bool stamps; /* attributes of directories are those of now, on this machine's clock */
    char *dir;
};
struct file {
    struct log_file base;
    int fd;
    char name[LOG_PATH_SIZE];
};
struct lock {
    int fd;
};

static struct store *store_of(struct log_store *s) {
    return (struct store *)s;
}
static struct file *file_of(struct log_file *f) {
    return (struct file *)f;
}

static bool parse_name(const char *name, struct log_segment_name *ret) {
    static const char hex[] = "0123456789abcdef";
    if (strspn(name, hex) != 8 || name[8] != '-' || strspn(name + 9, hex) != 16 || strcmp(name + 25, ".log"))
        return false;
    memcpy(ret->name, name, SEGMENT_NAME_LEN + 1);
    ret->ordinal = (uint32_t)strtoul(name, NULL, 16);
    ret->first_seq = strtoull(name + 9, NULL, 16);
    return true;
}

/* CID or CID/NAME, relative to the store's directory. */
static int log_path(const char *cid, const char *name, char ret[LOG_PATH_SIZE], struct err *err) {
    bool good = cid[0] && cid[0] != '.' && strlen(cid) < 256 && !strchr(cid, '/');
    if (!good) return err_set(err, ERR_INVALID, "\"%.100s\" cannot name a log", cid);
    struct log_segment_name parsed;
    if (name && strcmp(name, "lock") && !parse_name(name, &parsed))
        return err_set(err, ERR_INVALID, "\"%.100s\" cannot name a log segment", name);
    snprintf(ret, LOG_PATH_SIZE, name ? "%s/%s" : "%s", cid, name);
    return 0;
}

/* ESTALE is how NFS says that another client has removed the file. */
static int fail(struct err *err, int e, const char *what, const char *name) {
    return err_sys(err, e == ESTALE ? ENOENT : e, "could not %s \"%s\" of the log", what, name);
}

static int sync_dir(struct store *s, const char *path) {
    int fd = openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    int e = fsync(fd) ? errno : 0;
    close(fd);
    return e;
}

/* ---- lock ---- */

static int open_lock(struct store *s, const char *cid, const char *path, int *ret_fd) {
    int fd = openat(s->dir_fd, path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 && errno == ENOENT) {
        if (mkdirat(s->dir_fd, cid, 0777) && errno != EEXIST) return errno;
        int e = sync_dir(s, ".");
        if (e) return e;
        fd = openat(s->dir_fd, path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    }
    if (fd < 0) return errno;
    *ret_fd = fd;
    return 0;
}

/* Blocks until the lock is held: 0, or an errno; ESTALE when the file was removed while waiting (remove_log),
 * so that the lock excludes nobody. */
static int take_lock(struct store *s, int fd, const char *path) {
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    while (fcntl(fd, F_OFD_SETLKW, &fl))
        if (errno != EINTR) return errno;
    struct stat held, named;
    if (fstat(fd, &held)) return errno;
    if (fstatat(s->dir_fd, path, &named, 0)) return errno == ENOENT ? ESTALE : errno;
    return held.st_ino == named.st_ino && held.st_dev == named.st_dev ? 0 : ESTALE;
}

static int dir_lock(struct log_store *ls, const char *cid, void **ret_lock, struct err *err) {
    struct store *s = store_of(ls);
    char path[LOG_PATH_SIZE];
    int r = log_path(cid, "lock", path, err), e = ESTALE, fd = -1;
    if (r) return r;
    for (int i = 0; i < LOCK_TRIES_MAX && (e == ESTALE || e == ENOENT); i++) {
        if (fd >= 0) close(fd);
        fd = -1;
        e = open_lock(s, cid, path, &fd);
        if (!e) e = take_lock(s, fd, path);
    }
    if (e) {
        if (fd >= 0) close(fd);
        return fail(err, e, "lock", path);
    }
    struct lock *lock = xmalloc(sizeof *lock);
    lock->fd = fd;
    *ret_lock = lock;
    return 0;
}

static void dir_unlock(struct log_store *ls, void *token) {
    struct lock *lock = token;
    close(lock->fd); /* the only descriptor of its description: this unlocks */
    free(lock);
}

/* ---- segments ---- */

static int by_ordinal(const void *a, const void *b) {
    const struct log_segment_name *x = a, *y = b;
    if (x->ordinal != y->ordinal) return x->ordinal < y->ordinal ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Calls visit with the name of each entry of a log's directory; 0 or an errno, a missing directory is empty.
 */
static int each_entry(struct store *s, const char *cid, void (*visit)(void *ctx, const char *name),
                      void *ctx) {
    int fd = openat(s->dir_fd, cid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? 0 : errno;
    DIR *d = fdopendir(fd);
    if (!d) {
        int e = errno;
        close(fd);
        return e;
    }
    errno = 0;
    for (struct dirent *ent; (ent = readdir(d)); errno = 0) visit(ctx, ent->d_name);
    int e = errno == ENOENT || errno == ESTALE ? 0 : errno;
    closedir(d);
    return e;
}

struct names {
    struct log_segment_name *v;
    size_t n, cap;
};

static void add_name(void *ctx, const char *name) {
    struct names *names = ctx;
    struct log_segment_name parsed;
    if (!parse_name(name, &parsed)) return;
    VEC_GROW(names->v, names->n, names->cap);
    names->v[names->n++] = parsed;
}

static int dir_list(struct log_store *ls, const char *cid, struct log_segment_name **ret, size_t *ret_n,
                    struct err *err) {
    char path[LOG_PATH_SIZE];
    struct names names = {0};
    int r = log_path(cid, NULL, path, err);
    if (r) return r;
    int e = each_entry(store_of(ls), cid, add_name, &names);
    if (e) {
        free(names.v);
        return fail(err, e, "list", cid);
    }
    if (names.n) qsort(names.v, names.n, sizeof *names.v, by_ordinal);
    *ret = names.v;
    *ret_n = names.n;
    return 0;
}

static uint64_t ns_of(const struct timespec *t) {
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

/* A name that comes or goes moves the directory's time of modification. Two changes within one step of the
 * filesystem's clock have one time, so a time that is not past by more than a step says nothing. */
static void dir_stamp(struct log_store *ls, const char *cid, struct log_stamp *ret) {
    struct store *s = store_of(ls);
    char path[LOG_PATH_SIZE];
    struct stat st;
    struct timespec now;
    ret->known = false;
    if (!s->stamps || log_path(cid, NULL, path, NULL)) return;
    if (fstatat(s->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW)) return;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    uint64_t changed = ns_of(&st.st_mtim);
    ret->state[0] = st.st_dev;
    ret->state[1] = st.st_ino;
    ret->state[2] = changed;
    ret->state[3] = ns_of(&st.st_ctim);
    uint64_t quiet_ms = st.st_mtim.tv_nsec ? STAMP_QUIET_MS : STAMP_QUIET_COARSE_MS;
    ret->known = changed + quiet_ms * 1000000 < ns_of(&now);
}

static const struct log_store_ops dir_ops;

static int dir_open(struct log_store *ls, const char *cid, const char *name, bool create,
                    struct log_file **ret, struct err *err) {
    struct store *s = store_of(ls);
    char path[LOG_PATH_SIZE];
    int r = log_path(cid, name, path, err);
    if (r) return r;
    int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
    int fd = openat(s->dir_fd, path, flags, 0666);
    if (fd < 0) return fail(err, errno, create ? "create" : "open", path);
    int e = create ? sync_dir(s, cid) : 0;
    if (e) {
        unlinkat(s->dir_fd, path, 0);
        close(fd);
        return fail(err, e, "create", path);
    }
    struct file *f = xcalloc(1, sizeof *f);
    f->base.ops = &dir_ops;
    f->fd = fd;
    memcpy(f->name, path, sizeof f->name);
    *ret = &f->base;
    return 0;
}

/* The size only: Linux gives a file whose times were asked for a time of its own at the next write, and then
 * fdatasync writes the inode too. */
static int dir_size(struct log_file *lf, uint64_t *ret, struct err *err) {
    struct statx st;
    if (statx(file_of(lf)->fd, "", AT_EMPTY_PATH, STATX_SIZE, &st))
        return fail(err, errno, "stat", file_of(lf)->name);
    *ret = st.stx_size;
    return 0;
}

static int dir_read(struct log_file *lf, uint64_t off, size_t len, struct buf *out, struct err *err) {
    struct file *f = file_of(lf);
    size_t before = out->len, left = len;
    if (len > READ_WHOLE_MAX) { /* how much there is, before room for it is made */
        uint64_t size = 0;
        int r = dir_size(lf, &size, err);
        if (r) return r;
        if (off >= size) return 0;
        left = (size_t)MIN((uint64_t)len, size - off);
    }
    uint8_t *p = buf_grow(out, left);
    while (left) {
        ssize_t n = pread(f->fd, p, MIN(left, (size_t)1 << 30), (off_t)off);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int e = errno;
            out->len = before;
            return fail(err, e, "read", f->name);
        }
        if (n == 0) break; /* the end, or cut meanwhile */
        p += n;
        off += (uint64_t)n;
        left -= (size_t)n;
    }
    out->len -= left;
    return 0;
}

static int dir_write(struct log_file *lf, uint64_t off, const void *data, size_t len, struct err *err) {
    struct file *f = file_of(lf);
    const uint8_t *p = data;
    while (len) {
        ssize_t n = pwrite(f->fd, p, MIN(len, (size_t)1 << 30), (off_t)off);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(err, errno, "write", f->name);
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int dir_truncate(struct log_file *lf, uint64_t size, struct err *err) {
    while (ftruncate(file_of(lf)->fd, (off_t)size))
        if (errno != EINTR) return fail(err, errno, "truncate", file_of(lf)->name);
    return 0;
}

static int dir_reserve(struct log_file *lf, uint64_t size, struct err *err) {
    while (fallocate(file_of(lf)->fd, 0, 0, (off_t)size))
        if (errno != EINTR) return fail(err, errno, "reserve room in", file_of(lf)->name);
    return 0;
}

static int dir_sync(struct log_file *lf, struct err *err) {
    return fdatasync(file_of(lf)->fd) ? fail(err, errno, "sync", file_of(lf)->name) : 0;
}

static void dir_file_close(struct log_file *lf) {
    close(file_of(lf)->fd);
    free(lf);
}

static int dir_remove(struct log_store *ls, const char *cid, const char *name, struct err *err) {
    char path[LOG_PATH_SIZE];
    int r = log_path(cid, name, path, err);
    if (r) return r;
    if (unlinkat(store_of(ls)->dir_fd, path, 0) && errno != ENOENT) return fail(err, errno, "remove", path);
    return 0;
}

/* The lock is taken so that no append is going on; the lock file goes last, whoever waits for it starts
 * again. */
static int dir_remove_log(struct log_store *ls, const char *cid, struct err *err) {
    struct store *s = store_of(ls);
    char path[LOG_PATH_SIZE];
    struct stat st;
    int r = log_path(cid, NULL, path, err);
    if (r) return r;
    if (fstatat(s->dir_fd, cid, &st, 0) && errno == ENOENT) return 0;
    void *lock;
    r = dir_lock(ls, cid, &lock, err);
    if (r) return r;
    struct log_segment_name *names = NULL;
    size_t n = 0;
    r = dir_list(ls, cid, &names, &n, err);
    for (size_t i = 0; i < n && !r; i++) r = dir_remove(ls, cid, names[i].name, err);
    free(names);
    if (!r) r = dir_remove(ls, cid, "lock", err);
    if (!r && unlinkat(s->dir_fd, cid, AT_REMOVEDIR) && errno != ENOENT && errno != ENOTEMPTY &&
        errno != EEXIST)
        r = fail(err, errno, "remove", cid);
    dir_unlock(ls, lock);
    return r;
}

static void dir_close(struct log_store *ls) {
    struct store *s = store_of(ls);
    if (s->dir_fd >= 0) close(s->dir_fd);
    free(s->dir);
    free(s);
}

static const struct log_store_ops dir_ops = {
    .name = "dir",
    .lock = dir_lock,
    .unlock = dir_unlock,
    .list = dir_list,
    .stamp = dir_stamp,
    .open = dir_open,
    .size = dir_size,
    .read = dir_read,
    .write = dir_write,
    .truncate = dir_truncate,
    .reserve = dir_reserve,
    .sync = dir_sync,
    .file_close = dir_file_close,
    .remove = dir_remove,
    .remove_log = dir_remove_log,
    .close = dir_close,
};

int log_store_dir_open(const char *dir, struct log_store **ret, struct err *err) {
    struct store *s = xcalloc(1, sizeof *s);
    s->base.ops = &dir_ops;
    s->dir = xstrdup(dir);
    int r = 0, e = 0;
    if (mkdir(dir, 0777) && errno != EEXIST) r = err_sys(err, errno, "could not create \"%s\"", dir);
    s->dir_fd = r ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!r && s->dir_fd < 0) r = err_sys(err, errno, "could not open \"%s\"", dir);
    if (!r) e = sync_dir(s, "..");
    if (e && e != EACCES)
        r = err_sys(err, e, "could not sync \"%s\"", dir); /* EACCES: a parent not ours to read */
    s->stamps = !r && file_is_local(s->dir_fd);
    if (r) {
        dir_close(&s->base);
        return r;
    }
    *ret = &s->base;
    return 0;
}
