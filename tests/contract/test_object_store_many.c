/* Several gets at once, waves, and the cache on disk: over the directory store and stacks of decorators. */
#include "../unit/test.h"
#include "backend/object_store_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err err;
static char dir[256];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}
__attribute__((destructor)) static void clean_up(void) {
    if (dir[0]) nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
static void fresh_dir(void) {
    clean_up();
    snprintf(dir, sizeof dir, "/tmp/ldbfs-object-XXXXXX");
    if (!mkdtemp(dir)) abort();
}

static void must(int r) {
    if (!r) return;
    fprintf(stderr, "%s\n", err.text);
    abort();
}
static struct object_store *open_dir(void) {
    struct object_store *s = NULL;
    char path[300];
    snprintf(path, sizeof path, "%s/objects", dir);
    must(object_store_dir_open(path, &clock_system, &s, &err));
    return s;
}
static const char *cache_path(void) {
    static char path[300];
    snprintf(path, sizeof path, "%s/cache", dir);
    return path;
}
static struct object_store *open_disk(struct object_store *inner, uint64_t bytes) {
    struct object_store *s = NULL;
    must(object_store_disk_open(inner, cache_path(), bytes, &s, &err));
    return s;
}

enum { STACKS = 6 };
static struct object_store *open_stack(int which) {
    switch (which) {
    case 0:
        return open_dir();
    case 1:
        return object_store_count(open_dir());
    case 2:
        return object_store_fault(open_dir());
    case 3:
        return object_store_remote(open_dir(), 0, 0);
    case 4:
        return open_disk(object_store_remote(open_dir(), 0, 0), 1 << 20);
    default:
        return object_store_count(object_store_fault(object_store_remote(open_dir(), 1, 1000000000)));
    }
}

static int put(struct object_store *s, const char *key, const char *text, struct object_info *ret) {
    return object_put(s, key, text, strlen(text), PUT_ALWAYS, NULL, ret, &err);
}

TEST(get_many) {
    for (int which = 0; which < STACKS; which++) {
        fresh_dir();
        struct object_store *s = open_stack(which);
        struct object_info info;
        struct object_range x[100];
        CHECK_OK(put(s, "a", "0123456789", &info));
        CHECK_OK(put(s, "a", "abcdefghij", NULL));
        CHECK_OK(object_get_many(s, x, 0, &err));
        for (size_t i = 0; i < ARRAY_SIZE(x); i++)
            x[i] = (struct object_range){.key = "a",
                                         .version = i % 2 ? info.version : NULL,
                                         .off = i % 12,
                                         .len = i == 50 ? SIZE_MAX : 1 + i % 3};
        CHECK_OK(object_get_many(s, x, ARRAY_SIZE(x), &err));
        for (size_t i = 0; i < ARRAY_SIZE(x); i++) {
            const char *all = i % 2 ? "0123456789" : "abcdefghij";
            size_t off = MIN(i % 12, (size_t)10), n = MIN(x[i].len, 10 - off);
            CHECK(x[i].out.len == n && (!n || !memcmp(x[i].out.data, all + off, n)));
            CHECK(x[i].size == 10);
            buf_release(&x[i].out);
        }
        x[7].key = x[3].key = "none";
        x[9].key = "not//good";
        CHECK(object_get_many(s, x, ARRAY_SIZE(x), &err) == -ERR_INVALID);
        for (size_t i = 0; i < ARRAY_SIZE(x); i++) buf_release(&x[i].out);
        x[9].key = "a";
        CHECK(object_get_many(s, x, ARRAY_SIZE(x), &err) == -ERR_NOT_FOUND && strstr(err.text, "none"));
        for (size_t i = 0; i < ARRAY_SIZE(x); i++) {
            CHECK((x[i].out.len > 0) == (i != 3 && i != 7 && i % 12 < 10)); /* all are tried */
            buf_release(&x[i].out);
        }
        object_store_close(s);
    }
}

TEST(get_many_with_faults) {
    fresh_dir();
    struct object_store *f = object_store_fault(open_dir()), *s = object_store_count(f);
    struct object_counts c;
    struct object_range x[OBJECT_PARALLEL_GETS + 36];
    CHECK_OK(put(s, "a", "0123456789", NULL));
    for (unsigned nth = 0; nth < ARRAY_SIZE(x); nth += ARRAY_SIZE(x) / 4) {
        size_t without = 0;
        for (size_t i = 0; i < ARRAY_SIZE(x); i++) x[i] = (struct object_range){.key = "a", .len = 4};
        object_store_fault_set(f, "get", nth, FAULT_FAIL);
        CHECK(object_get_many(s, x, ARRAY_SIZE(x), &err) == -ERR_UNREACHABLE);
        for (size_t i = 0; i < ARRAY_SIZE(x); i++) {
            without += !x[i].out.len;
            buf_release(&x[i].out);
        }
        CHECK(without == 1);
    }
    object_store_counts(s, &c);
    CHECK(c.gets == 4 * ARRAY_SIZE(x) && c.waves == 8); /* they do not fit into one wave */
    object_store_close(s);
}

static void get_one(struct object_store *s) {
    struct buf b = BUF_INIT;
    CHECK_OK(object_get(s, "a", NULL, 0, 1, &b, NULL, &err));
    buf_release(&b);
}

/* Waves are what follows each other, not what is there in all. */
TEST(waves) {
    fresh_dir();
    struct object_store *s = object_store_count(object_store_remote(open_dir(), 0, 0));
    struct object_counts c;
    struct object_range x[20];
    CHECK_OK(put(s, "a", "0123456789", NULL));
    for (int i = 0; i < 3; i++) get_one(s);
    CHECK_OK(object_head(s, "a", NULL, NULL, &err));
    object_store_counts(s, &c);
    CHECK(c.waves == 4 && c.gets == 3);
    for (size_t i = 0; i < ARRAY_SIZE(x); i++) x[i] = (struct object_range){.key = "a", .len = 4};
    CHECK_OK(object_get_many(s, x, ARRAY_SIZE(x), &err));
    for (size_t i = 0; i < ARRAY_SIZE(x); i++) buf_release(&x[i].out);
    object_store_counts(s, &c);
    CHECK(c.waves == 5 && c.gets == 23 && c.bytes_got == 83);
    object_store_close(s);
}

/* ---- the disk cache ---- */

enum { PAGE = 64 * 1024 };

static uint8_t pattern(uint64_t i) {
    return (uint8_t)(i * 2654435761u >> 11);
}
static void put_pattern(struct object_store *s, const char *key, size_t len, struct object_info *ret) {
    uint8_t *p = xmalloc(len + 1);
    for (size_t i = 0; i < len; i++) p[i] = pattern(i);
    CHECK_OK(object_put(s, key, p, len, PUT_ALWAYS, NULL, ret, &err));
    free(p);
}
static bool reads(struct object_store *s, const struct object_info *o, uint64_t off, size_t len) {
    struct buf b = BUF_INIT;
    int r = object_get(s, o->key, o->version, off, len, &b, NULL, &err);
    size_t expected = off >= o->size ? 0 : (size_t)MIN((uint64_t)len, o->size - off);
    bool same = !r && b.len == expected;
    for (size_t i = 0; i < b.len && same; i++) same = b.data[i] == pattern(off + i);
    buf_release(&b);
    return same;
}

TEST(disk_serves_what_was_read) {
    fresh_dir();
    struct object_store *counter = object_store_count(object_store_remote(open_dir(), 0, 0));
    struct object_store *s = open_disk(counter, 64 << 20);
    struct object_info o;
    struct object_counts before, after;
    struct disk_cache_counts d;
    put_pattern(s, "data/x", 10 * PAGE + 777, &o);
    CHECK(reads(s, &o, 3 * PAGE + 5, 2 * PAGE));
    object_store_counts(counter, &before);
    CHECK(reads(s, &o, 4 * PAGE, 10) && reads(s, &o, 3 * PAGE, 3 * PAGE));
    object_store_counts(counter, &after);
    CHECK(after.gets == before.gets);
    CHECK(reads(s, &o, 0, 11 * PAGE)); /* what is missing at both ends, in one request */
    object_store_counts(counter, &after);
    CHECK(after.gets == before.gets + 1);
    object_store_close(s);
    /* another process */
    counter = object_store_count(object_store_remote(open_dir(), 0, 0));
    s = open_disk(counter, 64 << 20);
    uint32_t state = 7;
    for (int i = 0; i < 300; i++) {
        state = state * 1664525 + 1013904223;
        CHECK(reads(s, &o, state % (11 * PAGE), state / 65536 % (4 * PAGE)));
    }
    object_store_counts(counter, &after);
    object_store_disk_counts(s, &d);
    CHECK(!after.bytes_got && d.hits > 300 && !d.damaged);
    CHECK_OK(object_delete_version(s, o.key, o.version, &err));
    struct buf b = BUF_INIT;
    CHECK(object_get(s, o.key, o.version, 0, 10, &b, NULL, &err) == -ERR_NOT_FOUND);
    object_store_close(s);
}

/* Every file of the cache with one byte changed, or cut. */
static void damage(uint32_t *state, bool cut) {
    DIR *d = opendir(cache_path());
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        uint8_t byte;
        if (e->d_name[0] == '.') continue;
        int fd = openat(dirfd(d), e->d_name, O_RDWR);
        *state = *state * 1664525 + 1013904223;
        if (fstat(fd, &st)) abort();
        off_t at = *state % st.st_size;
        if (cut ? ftruncate(fd, at) : pread(fd, &byte, 1, at) != 1) abort();
        byte ^= 0x10;
        if (!cut && pwrite(fd, &byte, 1, at) != 1) abort();
        close(fd);
    }
    closedir(d);
}

TEST(disk_damage_is_a_miss) {
    fresh_dir();
    struct object_store *s = open_disk(object_store_remote(open_dir(), 0, 0), 64 << 20);
    struct object_info o;
    struct disk_cache_counts d;
    uint32_t state = 3;
    put_pattern(s, "data/x", 70 * PAGE + 777, &o);
    CHECK(reads(s, &o, 0, 71 * PAGE));
    for (int i = 0; i < 20; i++) {
        damage(&state, i % 4 == 3);
        CHECK(reads(s, &o, 0, 71 * PAGE));
    }
    object_store_disk_counts(s, &d);
    CHECK(d.damaged >= 15 && d.hits > 0);
    object_store_close(s);
}

TEST(disk_is_bounded) {
    fresh_dir();
    struct object_store *s = open_disk(object_store_remote(open_dir(), 0, 0), 4 << 20);
    struct disk_cache_counts d;
    for (int i = 0; i < 30; i++) {
        struct object_info o;
        char key[32];
        snprintf(key, sizeof key, "data/x%d", i);
        put_pattern(s, key, 8 * PAGE, &o);
        CHECK(reads(s, &o, 0, 8 * PAGE) && reads(s, &o, 0, 8 * PAGE));
        object_store_disk_counts(s, &d);
        CHECK(d.bytes <= 5 << 20);
    }
    CHECK(d.evictions >= 20);
    object_store_close(s);
}

/* A directory that cannot be written, or vanishes, costs nothing but the hits. */
TEST(disk_without_its_directory) {
    fresh_dir();
    struct object_store *s = open_disk(object_store_remote(open_dir(), 0, 0), 4 << 20);
    struct object_info o;
    put_pattern(s, "data/x", 8 * PAGE, &o);
    CHECK(reads(s, &o, 0, 2 * PAGE));
    nftw(cache_path(), remove_one, 16, FTW_DEPTH | FTW_PHYS);
    CHECK(reads(s, &o, 0, 8 * PAGE));
    object_store_close(s);
    s = NULL;
    char file[300];
    snprintf(file, sizeof file, "%s/file", dir);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    CHECK(object_store_disk_open(open_dir(), file, 1 << 20, &s, &err) && !s && strstr(err.text, "cache"));
}
