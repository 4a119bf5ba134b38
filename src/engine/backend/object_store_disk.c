/* The disk cache; see object_store_disk.h. */
#include "backend/object_store_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/codec.h"

enum { PAGE = 64 * 1024, SLOT_TAIL = 20, SLOT = PAGE + SLOT_TAIL, EXTENT_PAGES = 64, TOUCH_AGE_S = 60 };
enum { GET_MAX_PAGES = 1024 }; /* longer reads pass through: a whole large object is not worth the copy */

struct disk {
    struct object_store base;
    struct object_store *inner;
    int dir_fd;
    uint64_t max_bytes;
    atomic_ullong hits, misses, damaged, evictions;
    atomic_ullong written; /* bytes since the directory was last looked at */
    pthread_mutex_t sweep; /* one looks at a time; guards bytes */
    uint64_t bytes;
};

static struct disk *disk_of(struct object_store *s) {
    return (struct disk *)s;
}

/* ---- slots ---- */

/* One object version in the cache. */
struct entry {
    struct disk *disk;
    uint64_t identity;
    int fd; /* of extent `extent`; -1: none */
    uint64_t extent;
};

static uint64_t identity_of(const char *key, const char *version) {
    return hash64(version, strlen(version), hash64(key, strlen(key), 0));
}

static void file_name(const struct entry *e, uint64_t extent, char out[40]) {
    snprintf(out, 40, "%016llx-%08llx", (unsigned long long)e->identity, (unsigned long long)extent);
}

static void entry_close(struct entry *e) {
    if (e->fd >= 0) close(e->fd);
    e->fd = -1;
}

/* The time of a file says when it was used; so exactly as eviction needs it. */
static void touch(int fd) {
    struct stat st;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!fstat(fd, &st) && now.tv_sec - st.st_mtim.tv_sec > TOUCH_AGE_S) futimens(fd, NULL);
}

static bool entry_open(struct entry *e, uint64_t page, bool create) {
    char name[40];
    if (e->fd >= 0 && e->extent == page / EXTENT_PAGES) return true;
    entry_close(e);
    e->extent = page / EXTENT_PAGES;
    file_name(e, e->extent, name);
    e->fd = openat(e->disk->dir_fd, name, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    if (e->fd >= 0 && !create) touch(e->fd);
    return e->fd >= 0;
}

static off_t slot_off(uint64_t page) {
    return (off_t)(page % EXTENT_PAGES * SLOT);
}

static uint32_t slot_sum(const uint8_t *slot, uint32_t len) {
    return crc32c(crc32c(0, slot, len), slot + PAGE, SLOT_TAIL - 4);
}

/* Appends the page; false: it is not there. */
static bool slot_read(struct entry *e, uint64_t page, uint8_t *slot, struct buf *out, uint32_t *ret_len) {
    if (!entry_open(e, page, false)) return false;
    if (pread(e->fd, slot, SLOT, slot_off(page)) != SLOT) return false;
    uint32_t len = get_u32(slot + PAGE);
    uint64_t identity = get_u64(slot + PAGE + 8);
    if (!len && !identity) return false; /* a hole */
    if (len > PAGE || get_u32(slot + PAGE + 4) != (uint32_t)page || identity != e->identity ||
        get_u32(slot + PAGE + 16) != slot_sum(slot, len)) {
        e->disk->damaged++;
        return false;
    }
    buf_add(out, slot, len);
    *ret_len = len;
    return true;
}

static void slot_write(struct entry *e, uint64_t page, uint8_t *slot, const uint8_t *bytes, uint32_t len) {
    if (!entry_open(e, page, true)) return;
    memcpy(slot, bytes, len);
    memset(slot + len, 0, PAGE - len);
    put_u32(slot + PAGE, len);
    put_u32(slot + PAGE + 4, (uint32_t)page);
    put_u64(slot + PAGE + 8, e->identity);
    put_u32(slot + PAGE + 16, slot_sum(slot, len));
    if (pwrite(e->fd, slot, SLOT, slot_off(page)) == SLOT) e->disk->written += SLOT;
}

/* ---- the bound ---- */

struct cached_file {
    char name[32];
    int64_t time_ns;
    uint64_t bytes;
};

static int oldest_first(const void *pa, const void *pb) {
    const struct cached_file *a = pa, *b = pb;
    return (a->time_ns > b->time_ns) - (a->time_ns < b->time_ns);
}

static struct cached_file *list_files(struct disk *d, size_t *ret_n, uint64_t *ret_bytes) {
    struct cached_file *files = NULL;
    size_t n = 0, cap = 0;
    struct stat st;
    int fd = openat(d->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    *ret_bytes = 0;
    for (struct dirent *ent; dir && (ent = readdir(dir));) {
        if (strlen(ent->d_name) != 25 || ent->d_name[16] != '-') continue; /* not ours */
        if (fstatat(d->dir_fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) continue;
        VEC_GROW(files, n, cap);
        struct cached_file *f = &files[n++];
        memcpy(f->name, ent->d_name, 26);
        f->time_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
        f->bytes = (uint64_t)st.st_blocks * 512;
        *ret_bytes += f->bytes;
    }
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    *ret_n = n;
    return files;
}

/* Removes the oldest files down to 7/8 of the bound. A file in use elsewhere goes on being read there. */
static void sweep(struct disk *d) {
    size_t n;
    if (pthread_mutex_trylock(&d->sweep)) return;
    d->written = 0;
    struct cached_file *files = list_files(d, &n, &d->bytes);
    if (d->bytes > d->max_bytes) {
        qsort(files, n, sizeof *files, oldest_first);
        for (size_t i = 0; i < n && d->bytes > d->max_bytes - d->max_bytes / 8; i++) {
            if (unlinkat(d->dir_fd, files[i].name, 0)) continue;
            d->bytes -= files[i].bytes;
            d->evictions++;
        }
    }
    free(files);
    pthread_mutex_unlock(&d->sweep);
}

/* ---- the store ---- */

/* A read of which the disk has the pages before `first` and behind `last`; those between are the inner
 * store's. */
struct lookup {
    struct entry entry;
    struct buf before, behind;
    uint64_t first, last;
    size_t inner; /* which of the inner ranges; SIZE_MAX: none, it is all there or passes through */
};

static bool passes_through(const struct object_range *x) {
    return !x->version || !x->len || x->len > (size_t)GET_MAX_PAGES * PAGE || x->off > UINT64_MAX / 2;
}

/* Puts page after page before the others. */
static void prepend(struct buf *b, const struct buf *page) {
    struct buf all = BUF_INIT;
    buf_add(&all, page->data, page->len);
    buf_add(&all, b->data, b->len);
    buf_release(b);
    *b = all;
}

static void look_up(struct disk *d, const struct object_range *x, uint8_t *slot, struct lookup *l) {
    uint32_t len = PAGE;
    l->entry = (struct entry){.disk = d, .identity = identity_of(x->key, x->version), .fd = -1};
    l->first = x->off / PAGE;
    l->last = (x->off + x->len - 1) / PAGE;
    for (; l->first <= l->last && len == PAGE; l->first++, d->hits++)
        if (!slot_read(&l->entry, l->first, slot, &l->before, &len)) break;
    if (len < PAGE) l->first = l->last + 1; /* the object's end */
    while (l->first <= l->last) {
        struct buf page = BUF_INIT;
        bool there = slot_read(&l->entry, l->last, slot, &page, &len);
        if (there) prepend(&l->behind, &page);
        buf_release(&page);
        if (!there) break;
        l->last--;
        d->hits++;
    }
}

/* Keeps the pages that came whole: all but the object's last are PAGE long. */
static void keep_pages(struct lookup *l, const struct object_range *got, uint8_t *slot) {
    l->entry.disk->misses += l->last - l->first + 1;
    for (uint64_t page = l->first; page <= l->last && page * PAGE < got->size; page++) {
        uint64_t at = (page - l->first) * PAGE, len = MIN((uint64_t)PAGE, got->size - page * PAGE);
        if (at + len > got->out.len) break; /* shorter than it says: the reader will find out */
        slot_write(&l->entry, page, slot, got->out.data + at, (uint32_t)len);
    }
}

/* What was asked for out of the pages before, got, behind. */
static void assemble(struct lookup *l, const struct object_range *got, struct object_range *x) {
    uint64_t at = x->off / PAGE * PAGE, end = x->off + x->len;
    const struct buf *parts[] = {&l->before, got ? &got->out : NULL, &l->behind};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        if (!parts[i] || !parts[i]->len) continue;
        uint64_t from = MAX(at, x->off), to = MIN(at + parts[i]->len, end);
        if (from < to) buf_add(&x->out, parts[i]->data + (from - at), (size_t)(to - from));
        at += parts[i]->len;
        if (i == 1 && got->out.len < (l->last - l->first + 1) * PAGE) break; /* nothing can stand behind */
    }
}

static int disk_get_many(struct object_store *s, struct object_range *ranges, size_t n, struct err *err) {
    struct disk *d = disk_of(s);
    struct lookup *lookups = xcalloc(n, sizeof *lookups);
    struct object_range *inner = xcalloc(n, sizeof *inner);
    uint8_t *slot = xmalloc(SLOT);
    size_t n_inner = 0;
    for (size_t i = 0; i < n; i++) {
        struct lookup *l = &lookups[i];
        l->entry.fd = -1;
        l->inner = SIZE_MAX;
        struct object_range ask = ranges[i];
        ask.out = (struct buf)BUF_INIT;
        if (!passes_through(&ranges[i])) {
            look_up(d, &ranges[i], slot, l);
            if (l->first > l->last) continue;
            ask.off = l->first * PAGE;
            ask.len = (size_t)((l->last - l->first + 1) * PAGE);
        }
        l->inner = n_inner;
        inner[n_inner++] = ask;
    }
    int r = object_get_many(d->inner, inner, n_inner, err);
    for (size_t i = 0; i < n; i++) {
        struct lookup *l = &lookups[i];
        const struct object_range *got = l->inner == SIZE_MAX ? NULL : &inner[l->inner];
        if (passes_through(&ranges[i]))
            buf_add(&ranges[i].out, got->out.data, got->out.len);
        else if (!got || got->out.len) {
            if (got) keep_pages(l, got, slot);
            assemble(l, got, &ranges[i]);
        }
        if (got) ranges[i].size = got->size;
        entry_close(&l->entry);
        buf_release(&l->before);
        buf_release(&l->behind);
    }
    for (size_t i = 0; i < n_inner; i++) buf_release(&inner[i].out);
    free(slot);
    free(inner);
    free(lookups);
    if (d->written > d->max_bytes / 16) sweep(d);
    return r;
}

static int disk_get(struct object_store *s, const char *key, const char *version, uint64_t off, size_t len,
                    struct buf *out, struct object_info *ret_info, struct err *err) {
    struct object_range x = {.key = key, .version = version, .off = off, .len = len};
    if (ret_info || passes_through(&x))
        return object_get(disk_of(s)->inner, key, version, off, len, out, ret_info, err);
    int r = disk_get_many(s, &x, 1, err);
    if (!r) buf_add(out, x.out.data, x.out.len);
    buf_release(&x.out);
    return r;
}

static int disk_put(struct object_store *s, const char *key, const void *data, size_t len,
                    enum put_condition condition, const char *etag, struct object_info *ret_info,
                    struct err *err) {
    return object_put(disk_of(s)->inner, key, data, len, condition, etag, ret_info, err);
}

static int disk_put_file(struct object_store *s, const char *key, const char *path,
                         struct object_info *ret_info, struct err *err) {
    return object_put_file(disk_of(s)->inner, key, path, ret_info, err);
}

static int disk_head(struct object_store *s, const char *key, const char *version,
                     struct object_info *ret_info, struct err *err) {
    return object_head(disk_of(s)->inner, key, version, ret_info, err);
}

static int disk_current(struct object_store *s, const char *key, char ret_version[OBJECT_VERSION_SIZE],
                        struct err *err) {
    return object_current(disk_of(s)->inner, key, ret_version, err);
}

static int disk_list(struct object_store *s, const char *prefix, object_visit *visit, void *ctx,
                     struct err *err) {
    return object_list_versions(disk_of(s)->inner, prefix, visit, ctx, err);
}

/* What this process deletes is not read any more; what others delete may be until it is evicted. */
static int disk_delete(struct object_store *s, const char *key, const char *version, struct err *err) {
    struct disk *d = disk_of(s);
    struct entry e = {.disk = d, .identity = identity_of(key, version)};
    char name[40];
    uint64_t bytes;
    size_t n;
    int r = object_delete_version(d->inner, key, version, err);
    struct cached_file *files = list_files(d, &n, &bytes);
    file_name(&e, 0, name);
    for (size_t i = 0; i < n; i++)
        if (!strncmp(files[i].name, name, 17)) unlinkat(d->dir_fd, files[i].name, 0);
    free(files);
    return r;
}

static int disk_expire(struct object_store *s, const char *prefix, int64_t before_ms,
                       bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *err) {
    return object_expire_versions(disk_of(s)->inner, prefix, before_ms, keep, ctx, err);
}

static const char *disk_staging_dir(struct object_store *s) {
    return object_staging_dir(disk_of(s)->inner);
}

static void disk_close(struct object_store *s) {
    struct disk *d = disk_of(s);
    sweep(d);
    object_store_close(d->inner);
    if (d->dir_fd >= 0) close(d->dir_fd);
    pthread_mutex_destroy(&d->sweep);
    free(d);
}

/* Without `map`: what is mapped needs no copy. */
static const struct object_store_ops disk_ops = {.name = "disk",
                                                 .put = disk_put,
                                                 .put_file = disk_put_file,
                                                 .get = disk_get,
                                                 .get_many = disk_get_many,
                                                 .head = disk_head,
                                                 .current = disk_current,
                                                 .list_versions = disk_list,
                                                 .delete_version = disk_delete,
                                                 .expire_versions = disk_expire,
                                                 .staging_dir = disk_staging_dir,
                                                 .close = disk_close};

int object_store_disk_open(struct object_store *inner, const char *dir, uint64_t max_bytes,
                           struct object_store **ret, struct err *err) {
    int fd = -1, r = 0;
    if (mkdir(dir, 0700) && errno != EEXIST)
        r = err_sys(err, errno, "could not create the cache directory \"%s\"", dir);
    if (!r && (fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        r = err_sys(err, errno, "could not open the cache directory \"%s\"", dir);
    if (r) {
        object_store_close(inner);
        return r;
    }
    struct disk *d = xcalloc(1, sizeof *d);
    d->base.ops = &disk_ops;
    d->inner = inner;
    d->dir_fd = fd;
    d->max_bytes = MAX(max_bytes, (uint64_t)16 * SLOT);
    pthread_mutex_init(&d->sweep, NULL);
    sweep(d);
    *ret = &d->base;
    return 0;
}

void object_store_disk_counts(struct object_store *disk, struct disk_cache_counts *ret) {
    struct disk *d = disk_of(disk);
    pthread_mutex_lock(&d->sweep);
    *ret = (struct disk_cache_counts){d->hits, d->misses, d->damaged, d->evictions, d->bytes};
    pthread_mutex_unlock(&d->sweep);
}
