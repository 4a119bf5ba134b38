/* The versioned local directory. Layout and commit protocol: object_store.h and README.md here. */
#include "backend/object_store_dir.h"
#include "util/codec.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    COPY_SIZE = 1 << 20,
    STALE_STAGING_S = 24 * 3600, /* unfinished files of dead processes are removed at open after this time */
};
/* Ranges of the lock file: one byte per key hash, and one for the record of the last version given out. */
static const off_t LOCK_KEYS = 1 << 30, LOCK_COUNTER = (off_t)1 << 40;

/* ---- names ---- */

bool is_version(const char *s) {
    return s[0] == 'v' && strspn(s + 1, "0123456789abcdef") == VERSION_LEN - 1 && !s[VERSION_LEN];
}

/* A key segment that could be taken for one of our own names gets a '%' in front, which no key has. */
static bool needs_escape(const char *segment, size_t len) {
    char s[OBJECT_KEY_SIZE];
    memcpy(s, segment, len);
    s[len] = 0;
    return s[0] == '.' || is_version(s) || !strcmp(s, "current") || !strcmp(s, "next");
}

/* The directory of a key, relative to the store's. Returns the length. */
size_t key_path(const char *key, char out[STORE_PATH_SIZE]) {
    char *to = out;
    for (const char *p = key;;) {
        size_t n = strcspn(p, "/");
        if (needs_escape(p, n)) *to++ = '%';
        memcpy(to, p, n);
        to += n;
        if (!p[n]) break;
        *to++ = '/';
        p += n + 1;
    }
    *to = 0;
    return (size_t)(to - out);
}

int err_object(struct err *err, int e, const char *what, const char *key) {
    return err_sys(err, e, "could not %s object \"%s\"", what, key);
}

static int err_missing(struct err *err, const char *key, const char *version) {
    if (version) return err_set(err, ERR_NOT_FOUND, "object \"%s\" has no version \"%.64s\"", key, version);
    return err_set(err, ERR_NOT_FOUND, "no object \"%s\"", key);
}

void fill_info(struct object_info *info, const char *key, const char *version, const struct stat *st,
               bool latest) {
    if (!info) return;
    snprintf(info->key, sizeof info->key, "%s", key);
    snprintf(info->version, sizeof info->version, "%s", version);
    snprintf(info->etag, sizeof info->etag, "%s", version);
    info->size = (uint64_t)st->st_size;
    info->mtime_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
    info->is_latest = latest;
}

/* Reads the target of DIR/<path>/<link>: 0, or an errno. A target that is not a version counts as EUCLEAN. */
static int read_link(struct store *s, const char *path, const char *link, char ret[OBJECT_VERSION_SIZE]) {
    char full[STORE_PATH_SIZE + 16], target[OBJECT_VERSION_SIZE];
    snprintf(full, sizeof full, "%s/%s", path, link);
    ssize_t n = readlinkat(s->dir_fd, full, target, sizeof target - 1);
    if (n < 0) return errno == ENOTDIR ? ENOENT : errno;
    target[n] = 0;
    if (!is_version(target)) return EUCLEAN;
    memcpy(ret, target, (size_t)n + 1);
    return 0;
}

/* ---- locks and versions ---- */

static int lock_range(int fd, short type, off_t at) {
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    while (fcntl(fd, F_OFD_SETLKW, &fl))
        if (errno != EINTR) return errno;
    return 0;
}

/* Excludes every other put and delete of the key, in threads (a file description of its own) and processes.
 * Closing the descriptor unlocks. Lock order: key, then counter. */
static int lock_key(struct store *s, const char *key, int *ret_fd, struct err *err) {
    int fd = openat(s->dir_fd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return err_sys(err, errno, "could not open \"%s/.lock\"", s->dir);
    int e = lock_range(fd, F_WRLCK, (off_t)(hash64(key, strlen(key), 0) % (uint64_t)LOCK_KEYS));
    if (e) {
        close(fd);
        return err_sys(err, e, "could not lock \"%s/.lock\"", s->dir);
    }
    *ret_fd = fd;
    return 0;
}

/* A version id above every one this store has given out (the lock file remembers the last) and above
 * `current`, also when the clock goes back. */
static int next_version(struct store *s, int lock_fd, const char *current, char ret[OBJECT_VERSION_SIZE],
                        struct err *err) {
    char last[VERSION_LEN + 1] = "";
    int e = lock_range(lock_fd, F_WRLCK, LOCK_COUNTER);
    if (e) return err_sys(err, e, "could not lock \"%s/.lock\"", s->dir);
    ssize_t n = pread(lock_fd, last, VERSION_LEN, 0);
    if (n != VERSION_LEN || !is_version(last)) last[0] = 0;
    if (strcmp(current, last) > 0) memcpy(last, current, sizeof last);
    uint64_t ms = 0, now = (uint64_t)MAX(clock_now_ms(s->clock), 0);
    uint32_t counter = 0;
    if (last[0]) {
        counter = (uint32_t)strtoul(last + 17, NULL, 16);
        last[17] = 0;
        ms = strtoull(last + 1, NULL, 16);
    }
    if (now > ms) {
        ms = now;
        counter = 0;
    } else if (++counter == 0)
        ms++;
    snprintf(ret, OBJECT_VERSION_SIZE, "v%016llx%08x", (unsigned long long)ms, counter);
    int r = 0;
    if (pwrite(lock_fd, ret, VERSION_LEN, 0) != VERSION_LEN)
        r = err_sys(err, errno, "could not write \"%s/.lock\"", s->dir);
    lock_range(lock_fd, F_UNLCK, LOCK_COUNTER);
    return r;
}

/* ---- staging ---- */

static void staging_name(char ret_name[64]) {
    static _Atomic unsigned counter;
    snprintf(ret_name, 64, ".staging/put-%d-%llx-%u", (int)getpid(),
             (unsigned long long)clock_mono_us(&clock_system), counter++);
}

static int write_all(int fd, const uint8_t *p, size_t len) {
    while (len) {
        ssize_t n = write(fd, p, MIN(len, (size_t)1 << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int copy_all(int from, int to) {
    uint8_t *chunk = xmalloc(COPY_SIZE);
    int e = 0;
    for (;;) {
        ssize_t n = read(from, chunk, COPY_SIZE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) e = errno;
        if (n <= 0) break;
        e = write_all(to, chunk, (size_t)n);
        if (e) break;
    }
    free(chunk);
    return e;
}

/* The put time becomes the modification time; then the file is made durable. */
static int finish_file(struct store *s, int fd, struct stat *ret_st) {
    int64_t now = clock_now_ms(s->clock);
    struct timespec t = {.tv_sec = (time_t)(now / 1000), .tv_nsec = (long)(now % 1000 * 1000000)};
    struct timespec times[2] = {t, t};
    return futimens(fd, times) || fsync(fd) || fstat(fd, ret_st) ? errno : 0;
}

/* Writes a durable staging file with the bytes given, or with what can be read from from_fd when that is >=
 * 0. */
static int stage_bytes(struct store *s, const void *data, size_t len, int from_fd, char ret_name[64],
                       struct stat *ret_st, struct err *err) {
    staging_name(ret_name);
    int fd = openat(s->dir_fd, ret_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return err_sys(err, errno, "could not create \"%s/%s\"", s->dir, ret_name);
    int e = from_fd >= 0 ? copy_all(from_fd, fd) : write_all(fd, data, len);
    if (!e) e = finish_file(s, fd, ret_st);
    if (close(fd) && !e) e = errno;
    if (!e) return 0;
    unlinkat(s->dir_fd, ret_name, 0);
    return err_sys(err, e, "could not write \"%s/%s\"", s->dir, ret_name);
}

/* Gives the file a second name in the staging directory; one on another filesystem is copied. */
static int stage_file(struct store *s, const char *path, char ret_name[64], struct stat *ret_st,
                      struct err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    if (fd < 0) return err_sys(err, errno, "could not open \"%s\"", path);
    staging_name(ret_name);
    if (linkat(AT_FDCWD, path, s->dir_fd, ret_name, 0)) {
        r = stage_bytes(s, NULL, 0, fd, ret_name, ret_st, err);
    } else {
        int e = finish_file(s, fd, ret_st);
        if (e) {
            unlinkat(s->dir_fd, ret_name, 0);
            r = err_sys(err, e, "could not sync \"%s\"", path);
        }
    }
    close(fd);
    return r;
}

/* ---- the commit ---- */

void version_path(const char *path, const char *name, char ret[STORE_PATH_SIZE]) {
    size_t len = strlen(path), n = strlen(name);
    assert(len + n + 2 <=
           STORE_PATH_SIZE); /* STORE_PATH_SIZE has room for the longest key, escaped, and a name */
    memcpy(ret, path, len);
    ret[len] = '/';
    memcpy(ret + len + 1, name, n + 1);
}

static int unlink_in(struct store *s, const char *path, const char *name) {
    char full[STORE_PATH_SIZE];
    version_path(path, name, full);
    return unlinkat(s->dir_fd, full, 0) && errno != ENOENT ? errno : 0;
}

/* `next` names a version that somebody was about to publish or to remove when they died. It is a leftover
 * unless it is at or below the current version. */
static int clear_next(struct store *s, const char *path, const char *current) {
    char target[OBJECT_VERSION_SIZE];
    int e = read_link(s, path, "next", target);
    if (e == ENOENT) return 0;
    if (!e && strcmp(target, current) > 0) e = unlink_in(s, path, target);
    return e && e != EUCLEAN ? e : unlink_in(s, path, "next");
}

static int make_dirs(struct store *s, const char *path) {
    char part[STORE_PATH_SIZE];
    for (const char *p = path; p; p = *p ? p + 1 : NULL) {
        p += strcspn(p, "/");
        snprintf(part, sizeof part, "%.*s", (int)(p - path), path);
        if (mkdirat(s->dir_fd, part, 0777) && errno != EEXIST) return errno;
    }
    return 0;
}

/* Makes PATH/next -> version, and the directories above it. A delete of a neighbour may remove a directory
 * that is still empty: then again. */
static int set_next(struct store *s, const char *path, const char *current, const char *version) {
    char next[STORE_PATH_SIZE];
    version_path(path, "next", next);
    for (int i = 0; i < RETRIES_MAX; i++) {
        if (!symlinkat(version, s->dir_fd, next)) return 0;
        int e = errno == ENOENT ? make_dirs(s, path) : errno == EEXIST ? clear_next(s, path, current) : errno;
        if (e && e != ENOENT) return e;
    }
    return EBUSY;
}

static int sync_dir(struct store *s, const char *path) {
    int fd = openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    int e = fsync(fd) ? errno : 0;
    close(fd);
    return e;
}

/* Syncs the key's directory; the first put of a key also those above it, up to the store's. */
static int sync_key(struct store *s, const char *path, bool first) {
    char part[STORE_PATH_SIZE];
    snprintf(part, sizeof part, "%s", path);
    int e = sync_dir(s, part);
    while (first && !e) {
        char *slash = strrchr(part, '/');
        if (!slash) return sync_dir(s, ".");
        *slash = 0;
        e = sync_dir(s, part);
    }
    return e;
}

/* next -> version, the file under its version's name, next renamed to current: the last is the commit. */
static int publish(struct store *s, const char *path, const char *current, const char *version,
                   const char *staged) {
    char from[STORE_PATH_SIZE], to[STORE_PATH_SIZE];
    int e = set_next(s, path, current, version);
    if (e) return e;
    version_path(path, version, to);
    e = renameat(s->dir_fd, staged, s->dir_fd, to) ? errno : 0;
    if (!e) {
        version_path(path, "next", from);
        version_path(path, "current", to);
        e = renameat(s->dir_fd, from, s->dir_fd, to) ? errno : 0;
    }
    if (e) {
        unlink_in(s, path, version);
        unlink_in(s, path, "next");
        return e;
    }
    return sync_key(s, path, !current[0]);
}

static int check_condition(const char *key, const char *current, enum put_condition condition,
                           const char *etag, struct err *err) {
    if (condition == PUT_IF_ABSENT && current[0])
        return err_set(err, ERR_CONFLICT, "object \"%s\" exists", key);
    if (condition == PUT_IF_MATCH && (!current[0] || strcmp(current, etag)))
        return err_set(err, ERR_CONFLICT, "object \"%s\" is at %s, not at %.64s", key,
                       current[0] ? current : "no version", etag);
    return 0;
}

/* The current version, "" when there is none. */
int read_current(struct store *s, const char *key, const char *path, char ret[OBJECT_VERSION_SIZE],
                 struct err *err) {
    ret[0] = 0;
    int e = read_link(s, path, "current", ret);
    if (e == EUCLEAN) return err_set(err, ERR_CORRUPT, "object \"%s\": bad link \"current\"", key);
    return e && e != ENOENT ? err_object(err, e, "read", key) : 0;
}

/* Publishes a staging file as the next version; the staging file is gone afterwards in every case. */
static int commit(struct store *s, const char *key, const char *staged, const struct stat *st,
                  enum put_condition condition, const char *etag, struct object_info *ret_info,
                  struct err *err) {
    char path[STORE_PATH_SIZE], current[OBJECT_VERSION_SIZE], version[OBJECT_VERSION_SIZE];
    key_path(key, path);
    int lock_fd = -1, r = lock_key(s, key, &lock_fd, err);
    if (!r) r = read_current(s, key, path, current, err);
    if (!r) r = check_condition(key, current, condition, etag, err);
    if (!r) r = next_version(s, lock_fd, current, version, err);
    if (!r) {
        int e = publish(s, path, current, version, staged);
        if (e) r = err_object(err, e, "put", key);
    }
    if (lock_fd >= 0) close(lock_fd);
    if (r)
        unlinkat(s->dir_fd, staged, 0);
    else
        fill_info(ret_info, key, version, st, false);
    return r;
}

static int dir_put(struct object_store *os, const char *key, const void *data, size_t len,
                   enum put_condition condition, const char *etag, struct object_info *ret_info,
                   struct err *err) {
    struct store *s = store_of(os);
    char path[STORE_PATH_SIZE], current[OBJECT_VERSION_SIZE], staged[64];
    int r = 0;
    if (condition != PUT_ALWAYS) { /* a lost race that is already known costs no write */
        key_path(key, path);
        r = read_current(s, key, path, current, err);
        if (!r) r = check_condition(key, current, condition, etag, err);
        if (r) return r;
    }
    struct stat st;
    r = stage_bytes(s, data, len, -1, staged, &st, err);
    return r ? r : commit(s, key, staged, &st, condition, etag, ret_info, err);
}

static int dir_put_file(struct object_store *os, const char *key, const char *path,
                        struct object_info *ret_info, struct err *err) {
    struct store *s = store_of(os);
    char staged[64];
    struct stat st;
    int r = stage_file(s, path, staged, &st, err);
    if (!r) r = commit(s, key, staged, &st, PUT_ALWAYS, NULL, ret_info, err);
    if (!r) unlink(path); /* a second name of the version by now; staying behind does no harm */
    return r;
}

/* ---- reading ---- */

/* Opens a version (NULL = current). A put or delete may come between reading the link and opening: then
 * again. */
static int open_version(struct store *s, const char *key, const char *version,
                        char ret_version[OBJECT_VERSION_SIZE], struct err *err) {
    char path[STORE_PATH_SIZE], full[STORE_PATH_SIZE], current[OBJECT_VERSION_SIZE];
    if (version && !is_version(version)) return err_missing(err, key, version);
    key_path(key, path);
    for (int i = 0; i < RETRIES_MAX; i++) {
        int r = read_current(s, key, path, current, err);
        if (r) return r;
        if (!current[0] || (version && strcmp(version, current) > 0)) return err_missing(err, key, version);
        snprintf(ret_version, OBJECT_VERSION_SIZE, "%s", version ? version : current);
        version_path(path, ret_version, full);
        int fd = openat(s->dir_fd, full, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) return fd;
        if (errno != ENOENT && errno != ENOTDIR) return err_object(err, errno, "open", key);
        if (version) return err_missing(err, key, version);
    }
    return err_set(err, ERR_CORRUPT, "object \"%s\": the current version %s is missing", key, current);
}

static int read_range(int fd, uint64_t off, size_t len, struct buf *out) {
    size_t before = out->len;
    uint8_t *p = buf_grow(out, len);
    while (len) {
        ssize_t n = pread(fd, p, MIN(len, (size_t)1 << 30), (off_t)off);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            out->len = before;
            return n < 0 ? errno : EIO; /* versions never shrink */
        }
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int dir_get(struct object_store *os, const char *key, const char *version, uint64_t off, size_t len,
                   struct buf *out, struct object_info *ret_info, struct err *err) {
    char found[OBJECT_VERSION_SIZE];
    int fd = open_version(store_of(os), key, version, found, err), e = 0;
    if (fd < 0) return fd;
    struct stat st;
    if (fstat(fd, &st)) e = errno;
    uint64_t size = e ? 0 : (uint64_t)st.st_size, left = off < size ? size - off : 0;
    if (!e && left) e = read_range(fd, off, (size_t)MIN(left, (uint64_t)len), out);
    close(fd);
    if (e) return err_object(err, e, "read", key);
    fill_info(ret_info, key, found, &st, false);
    return 0;
}

static int dir_head(struct object_store *os, const char *key, const char *version,
                    struct object_info *ret_info, struct err *err) {
    char found[OBJECT_VERSION_SIZE];
    int fd = open_version(store_of(os), key, version, found, err);
    if (fd < 0) return fd;
    struct stat st;
    int e = fstat(fd, &st) ? errno : 0;
    close(fd);
    if (e) return err_object(err, e, "read", key);
    fill_info(ret_info, key, found, &st, false);
    return 0;
}

/* The link is the truth, and a version it names is never missing but by damage, which a read reports. */
static int dir_current(struct object_store *os, const char *key, char ret_version[OBJECT_VERSION_SIZE],
                       struct err *err) {
    char path[STORE_PATH_SIZE];
    key_path(key, path);
    int r = read_current(store_of(os), key, path, ret_version, err);
    return r || ret_version[0] ? r : err_missing(err, key, NULL);
}

static int dir_map(struct object_store *os, const char *key, const char *version, struct object_mapping *ret,
                   struct err *err) {
    static const uint8_t empty[1];
    char found[OBJECT_VERSION_SIZE];
    int fd = open_version(store_of(os), key, version, found, err), e = 0;
    if (fd < 0) return fd;
    struct stat st;
    void *p = NULL;
    if (fstat(fd, &st))
        e = errno;
    else if (st.st_size > 0) {
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) e = errno;
    }
    close(fd);
    if (e) return err_object(err, e, "map", key);
    *ret = (struct object_mapping){.data = p ? p : empty, .size = (size_t)st.st_size, .handle = p};
    return 0;
}

static void dir_unmap(struct object_store *os, struct object_mapping *m) {
    if (m->handle) munmap(m->handle, m->size);
}

/* ---- removing ---- */

/* The newest version below `version`, "" when there is none. */
static int older_version(struct store *s, const char *path, const char *version,
                         char ret[OBJECT_VERSION_SIZE]) {
    struct names names = {0};
    ret[0] = 0;
    int e = scan_versions(s, path, &names);
    for (size_t i = 0; i < names.n && !e; i++)
        if (strcmp(names.v[i], version) < 0 && strcmp(names.v[i], ret) > 0)
            memcpy(ret, names.v[i], sizeof names.v[i]);
    free(names.v);
    return e;
}

/* current -> older and next -> the version that goes, in one step where the filesystem can exchange names. */
static int step_back(struct store *s, const char *path, const char *current, const char *older) {
    char next[STORE_PATH_SIZE], to[STORE_PATH_SIZE];
    version_path(path, "next", next);
    version_path(path, "current", to);
    int e = clear_next(s, path, current);
    if (e) return e;
    if (!older[0]) return renameat(s->dir_fd, to, s->dir_fd, next) ? errno : 0;
    e = set_next(s, path, current, older);
    if (e) return e;
    if (!renameat2(s->dir_fd, next, s->dir_fd, to, RENAME_EXCHANGE)) return 0;
    if (errno != EINVAL && errno != ENOSYS) return errno;
    return renameat(s->dir_fd, next, s->dir_fd, to) ? errno : 0;
}

static void remove_empty_dirs(struct store *s, char *path) {
    while (!unlinkat(s->dir_fd, path, AT_REMOVEDIR)) {
        char *slash = strrchr(path, '/');
        if (!slash) break;
        *slash = 0;
    }
}

/* Under the key's lock. */
static int remove_version(struct store *s, char *path, const char *current, const char *version) {
    if (strcmp(version, current)) return unlink_in(s, path, version);
    char older[OBJECT_VERSION_SIZE];
    int e = older_version(s, path, version, older);
    if (!e) e = step_back(s, path, current, older);
    if (!e) e = unlink_in(s, path, version);
    if (!e) e = unlink_in(s, path, "next");
    if (!e && older[0]) return sync_dir(s, path);
    if (!e) remove_empty_dirs(s, path);
    return e;
}

/* `may_be_current` false: leaves the version alone when it has become the current one. */
static int delete_locked(struct store *s, const char *key, const char *version, bool may_be_current,
                         struct err *err) {
    char path[STORE_PATH_SIZE], current[OBJECT_VERSION_SIZE];
    if (!is_version(version)) return 0;
    key_path(key, path);
    int lock_fd, r = lock_key(s, key, &lock_fd, err);
    if (r) return r;
    r = read_current(s, key, path, current, err);
    int order = r ? 1 : strcmp(version, current);
    if (order < 0 || (order == 0 && may_be_current)) {
        int e = remove_version(s, path, current, version);
        if (e) r = err_object(err, e, "delete a version of", key);
    }
    close(lock_fd);
    return r;
}

static int dir_delete_version(struct object_store *os, const char *key, const char *version,
                              struct err *err) {
    return delete_locked(store_of(os), key, version, true, err);
}

/* A version became non-current when the next newer one was put. */
static int expire_key(struct store *s, const char *key, int64_t before_ms,
                      bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *err) {
    struct names names = {0};
    struct object_info info, newer = {.mtime_ms = INT64_MAX};
    int r = list_key(s, key, &names, err);
    for (size_t i = 0; i < names.n && !r; i++) {
        int e = stat_version(s, key, names.v[i], i == 0, &info);
        if (e == ENOENT) continue;
        if (e)
            r = err_object(err, e, "list", key);
        else if (i > 0 && newer.mtime_ms < before_ms && !(keep && keep(ctx, &info)))
            r = delete_locked(s, key, names.v[i], false, err);
        newer = info;
    }
    free(names.v);
    return r;
}

static int dir_expire_versions(struct object_store *os, const char *prefix, int64_t before_ms,
                               bool (*keep)(void *ctx, const struct object_info *), void *ctx,
                               struct err *err) {
    struct keys keys;
    int r = list_keys(store_of(os), prefix, &keys, err);
    if (r) return r;
    for (size_t i = 0; i < keys.n && !r; i++)
        r = expire_key(store_of(os), keys.v[i], before_ms, keep, ctx, err);
    keys_release(&keys);
    return r;
}

/* ---- open and close ---- */

static const char *dir_staging_dir(struct object_store *os) {
    return store_of(os)->staging;
}

static void dir_close(struct object_store *os) {
    struct store *s = store_of(os);
    if (s->dir_fd >= 0) close(s->dir_fd);
    free(s->dir);
    free(s->staging);
    free(s);
}

static const struct object_store_ops dir_ops = {
    .name = "dir",
    .put = dir_put,
    .put_file = dir_put_file,
    .get = dir_get,
    .head = dir_head,
    .current = dir_current,
    .list_versions = dir_list_versions,
    .delete_version = dir_delete_version,
    .expire_versions = dir_expire_versions,
    .map = dir_map,
    .unmap = dir_unmap,
    .staging_dir = dir_staging_dir,
    .close = dir_close,
};

/* Best effort: what cannot be removed now is removed some other day. File times are the kernel's, hence
 * time(). */
static void clean_staging(struct store *s) {
    DIR *d = opendir(s->staging);
    if (!d) return;
    time_t limit = time(NULL) - STALE_STAGING_S;
    struct stat st;
    for (struct dirent *ent; (ent = readdir(d));)
        if (!fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) &&
            st.st_ctim.tv_sec < limit)
            unlinkat(dirfd(d), ent->d_name, 0);
    closedir(d);
}

int object_store_dir_open(const char *dir, struct clock *clock, struct object_store **ret, struct err *err) {
    struct store *s = xcalloc(1, sizeof *s);
    s->base.ops = &dir_ops;
    s->clock = clock;
    s->dir = xstrdup(dir);
    struct buf staging = BUF_INIT;
    buf_printf(&staging, "%s/.staging", dir);
    buf_addc(&staging, 0);
    s->staging = (char *)buf_detach(&staging, NULL);
    int r = 0;
    if (mkdir(dir, 0777) && errno != EEXIST) r = err_sys(err, errno, "could not create \"%s\"", dir);
    s->dir_fd = r ? -1 : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!r && s->dir_fd < 0) r = err_sys(err, errno, "could not open \"%s\"", dir);
    if (!r && mkdirat(s->dir_fd, ".staging", 0777) && errno != EEXIST)
        r = err_sys(err, errno, "could not create \"%s\"", s->staging);
    int e = r ? 0 : sync_dir(s, ".");
    if (!r && !e) e = sync_dir(s, "..");
    if (e && e != EACCES)
        r = err_sys(err, e, "could not sync \"%s\"", dir); /* EACCES: a parent not ours to read */
    if (r) {
        dir_close(&s->base);
        return r;
    }
    clean_staging(s);
    *ret = &s->base;
    return 0;
}
