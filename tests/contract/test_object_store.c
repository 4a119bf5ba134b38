/* The object store's promises, over the directory store and each decorator stack. */
#include "../unit/test.h"
#include "backend/object_store_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err err;
static char dir[256];

/* ---- fixture ---- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static void fresh_dir(void) {
    const char *tmp = getenv("TMPDIR");
    if (dir[0]) nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    snprintf(dir, sizeof dir, "%s/ldbfs-object-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) abort();
}
__attribute__((destructor)) static void clean_up(void) {
    if (dir[0]) nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A clock that the test sets. */
static _Atomic int64_t test_ms = 1700000000000;
static int64_t test_now(struct clock *c) {
    return test_ms;
}
static int64_t test_mono(struct clock *c) {
    return test_ms * 1000;
}
static struct clock test_clock = {.now_ms = test_now, .mono_us = test_mono};

static struct object_store *open_dir(void) {
    struct object_store *s = NULL;
    if (object_store_dir_open(dir, &test_clock, &s, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return s;
}

static struct object_store *open_disk(struct object_store *inner) {
    struct object_store *s = NULL;
    char path[300];
    snprintf(path, sizeof path, "%s/.cache", dir);
    if (object_store_disk_open(inner, path, 1 << 20, &s, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
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
        return open_disk(object_store_count(open_dir()));
    default:
        return object_store_count(object_store_fault(object_store_remote(open_dir(), 0, 0)));
    }
}
/* The body runs once for each stack, on an empty store `s`. */
#define FOR_EACH_STACK(s)                                                                                    \
    for (int stack_no = 0; stack_no < STACKS; stack_no++)                                                    \
        for (struct object_store *s = (fresh_dir(), open_stack(stack_no)); s; object_store_close(s), s = NULL)

static int put(struct object_store *s, const char *key, const char *text, struct object_info *ret) {
    return object_put(s, key, text, strlen(text), PUT_ALWAYS, NULL, ret, &err);
}

static bool holds(struct object_store *s, const char *key, const char *version, const char *text) {
    struct buf b = BUF_INIT;
    struct object_info info = {0};
    int r = object_get(s, key, version, 0, SIZE_MAX, &b, &info, &err);
    bool same = !r && b.len == strlen(text) && !strcmp(buf_str(&b), text) && info.size == b.len &&
                !strcmp(info.key, key) && (!version || !strcmp(info.version, version));
    if (!same) fprintf(stderr, "%s at %s: %d %s\n", key, version ? version : "current", r, buf_str(&b));
    buf_release(&b);
    return same;
}

static bool missing(struct object_store *s, const char *key, const char *version) {
    struct buf b = BUF_INIT;
    int r = object_get(s, key, version, 0, SIZE_MAX, &b, NULL, &err);
    buf_release(&b);
    return r == -ERR_NOT_FOUND && object_head(s, key, version, NULL, &err) == -ERR_NOT_FOUND;
}

/* "key@version-number key@..." with '*' at the current one; versions are numbered by size here. */
struct listing {
    struct buf text;
    int stop_after;
};
static int add_listed(void *ctx, const struct object_info *info) {
    struct listing *l = ctx;
    buf_printf(&l->text, "%s%s:%llu%s", l->text.len ? " " : "", info->key, (unsigned long long)info->size,
               info->is_latest ? "*" : "");
    return l->stop_after && !--l->stop_after ? 77 : 0;
}
static bool lists(struct object_store *s, const char *prefix, const char *want) {
    struct listing l = {0};
    int r = object_list_versions(s, prefix, add_listed, &l, &err);
    bool same = !r && !strcmp(buf_str(&l.text), want);
    if (!same) fprintf(stderr, "list %s: %d \"%s\", not \"%s\"\n", prefix, r, buf_str(&l.text), want);
    buf_release(&l.text);
    return same;
}

static int entries(const char *sub) {
    char cmd[512];
    snprintf(cmd, sizeof cmd, "find '%s/%s' -mindepth 1 2>/dev/null | wc -l", dir, sub);
    FILE *f = popen(cmd, "r");
    int n = -1;
    if (!f || fscanf(f, "%d", &n) != 1) n = -1;
    if (f) pclose(f);
    return n;
}

/* ---- the suite ---- */

TEST(put_get_head) {
    FOR_EACH_STACK(s) {
        struct object_info a, b, h;
        CHECK(missing(s, "x", NULL) && missing(s, "x", "v1") && missing(s, "x", "../../x"));
        CHECK_OK(put(s, "x", "one", &a));
        CHECK(holds(s, "x", NULL, "one") && holds(s, "x", a.version, "one"));
        CHECK_OK(put(s, "x", "three", &b));
        CHECK(strcmp(a.version, b.version) < 0 && strcmp(a.etag, b.etag));
        CHECK(holds(s, "x", NULL, "three") && holds(s, "x", a.version, "one") &&
              holds(s, "x", b.version, "three"));
        CHECK_OK(object_head(s, "x", NULL, &h, &err));
        CHECK(h.size == 5 && !strcmp(h.version, b.version) && !strcmp(h.etag, b.etag) &&
              h.mtime_ms == test_ms);
        CHECK(b.size == 5 && !strcmp(b.key, "x") && b.mtime_ms == test_ms);
        CHECK_OK(object_head(s, "x", a.version, &h, &err));
        CHECK(h.size == 3 && !strcmp(h.etag, a.etag));
        CHECK_OK(object_put(s, "empty", NULL, 0, PUT_ALWAYS, NULL, NULL, &err));
        CHECK(holds(s, "empty", NULL, ""));
        CHECK(object_staging_dir(s) && !entries(".staging"));
    }
}

TEST(ranges) {
    FOR_EACH_STACK(s) {
        CHECK_OK(put(s, "r", "0123456789", NULL));
        static const struct {
            uint64_t off;
            size_t len;
            const char *want;
        } cases[] = {{0, 3, "012"}, {4, 6, "456789"},   {4, 100, "456789"},         {9, SIZE_MAX, "9"},
                     {10, 1, ""},   {11, SIZE_MAX, ""}, {UINT64_MAX, SIZE_MAX, ""}, {3, 0, ""}};
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            struct buf b = BUF_INIT;
            struct object_info info;
            buf_adds(&b, "before");
            CHECK_OK(object_get(s, "r", NULL, cases[i].off, cases[i].len, &b, &info, &err));
            CHECK(!strncmp(buf_str(&b), "before", 6) && !strcmp(buf_str(&b) + 6, cases[i].want) &&
                  info.size == 10);
            buf_release(&b);
        }
    }
}

TEST(conditions) {
    FOR_EACH_STACK(s) {
        struct object_info a, b;
        CHECK(object_put(s, "c", "x", 1, PUT_IF_MATCH, "whatever", NULL, &err) == -ERR_CONFLICT);
        CHECK(object_put(s, "c", "x", 1, PUT_IF_MATCH, "", NULL, &err) == -ERR_CONFLICT);
        CHECK(missing(s, "c", NULL));
        CHECK_OK(object_put(s, "c", "1", 1, PUT_IF_ABSENT, NULL, &a, &err));
        CHECK(object_put(s, "c", "2", 1, PUT_IF_ABSENT, NULL, NULL, &err) == -ERR_CONFLICT);
        CHECK_OK(object_put(s, "c", "2", 1, PUT_IF_MATCH, a.etag, &b, &err));
        CHECK(object_put(s, "c", "3", 1, PUT_IF_MATCH, a.etag, NULL, &err) == -ERR_CONFLICT);
        CHECK(holds(s, "c", NULL, "2"));
        CHECK_OK(object_delete_version(s, "c", b.version, &err));
        CHECK_OK(object_put(s, "c", "4", 1, PUT_IF_MATCH, a.etag, NULL, &err));
        CHECK(holds(s, "c", NULL, "4") && !entries(".staging"));
    }
}

TEST(keys) {
    FOR_EACH_STACK(s) {
        static const char *const bad[] = {"",    "/a",  "a/",  "a//b",      ".",    "..",  "a/../b",
                                          "./a", "a b", "a\n", "a\xc3\xa9", "a\\b", "a%b", "a:b"};
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
            CHECK(put(s, bad[i], "x", NULL) == -ERR_INVALID &&
                  object_head(s, bad[i], NULL, NULL, &err) == -ERR_INVALID);
            CHECK(object_delete_version(s, bad[i], "v", &err) == -ERR_INVALID);
        }
        char longest[OBJECT_KEY_SIZE + 1];
        memset(longest, '.', sizeof longest);
        for (size_t i = 0; i < sizeof longest; i++)
            if (i % 4 == 3) longest[i] = '/';
        longest[OBJECT_KEY_SIZE - 1] = 'x';
        longest[OBJECT_KEY_SIZE] = 0;
        CHECK(put(s, longest, "x", NULL) == -ERR_INVALID);
        longest[OBJECT_KEY_SIZE - 1] = 0;
        longest[OBJECT_KEY_SIZE - 2] = 'x';
        CHECK_OK(put(s, longest, "x", NULL));
        CHECK(holds(s, longest, NULL, "x"));
        /* Names that a directory store could confuse with its own. */
        static const char *const odd[] = {"...",
                                          ".lock",
                                          ".staging",
                                          "a",
                                          "a-b",
                                          "a/b",
                                          "a/current",
                                          "a/next",
                                          "current",
                                          "next",
                                          "v0000018bcfe5680000000000",
                                          "a/v0000018bcfe5680000000000",
                                          "a/v0000018bcfe5680000000000/b",
                                          "current/next",
                                          "-",
                                          "_.x"};
        for (size_t i = 0; i < ARRAY_SIZE(odd); i++) CHECK_OK(put(s, odd[i], odd[i], NULL));
        for (size_t i = 0; i < ARRAY_SIZE(odd); i++) CHECK(holds(s, odd[i], NULL, odd[i]));
        CHECK(lists(s, "a",
                    "a:1* a-b:3* a/b:3* a/current:9* a/next:6* a/v0000018bcfe5680000000000:27* "
                    "a/v0000018bcfe5680000000000/b:29*"));
        CHECK(lists(s, ".l", ".lock:5*") && lists(s, ".s", ".staging:8*"));
    }
}

TEST(listing) {
    FOR_EACH_STACK(s) {
        CHECK(lists(s, "", "") && lists(s, "none/", ""));
        CHECK_OK(put(s, "data/c1/seg-2", "1", NULL));
        CHECK_OK(put(s, "data/c1/seg-1", "1", NULL));
        CHECK_OK(put(s, "data/c1/seg-1", "22", NULL));
        CHECK_OK(put(s, "data/c1/seg-1", "333", NULL));
        CHECK_OK(put(s, "data/c10/seg-1", "1", NULL));
        CHECK_OK(put(s, "data/c1/del-1", "1", NULL));
        CHECK_OK(put(s, "data", "1", NULL));
        CHECK_OK(put(s, "roots/c1", "1", NULL));
        CHECK(lists(s, "data/c1/seg-", "data/c1/seg-1:3* data/c1/seg-1:2 data/c1/seg-1:1 data/c1/seg-2:1*"));
        CHECK(lists(s, "data/c1/",
                    "data/c1/del-1:1* data/c1/seg-1:3* data/c1/seg-1:2 data/c1/seg-1:1 data/c1/seg-2:1*"));
        CHECK(lists(s, "data/c10", "data/c10/seg-1:1*") &&
              lists(s, "data/c1/seg-1", "data/c1/seg-1:3* data/c1/seg-1:2 data/c1/seg-1:1"));
        CHECK(lists(s, "r", "roots/c1:1*") && lists(s, "roots/c", "roots/c1:1*") &&
              lists(s, "data/c1/seg-1x", ""));
        CHECK(lists(s, "",
                    "data:1* data/c1/del-1:1* data/c1/seg-1:3* data/c1/seg-1:2 data/c1/seg-1:1 "
                    "data/c1/seg-2:1* data/c10/seg-1:1* roots/c1:1*"));
        struct listing l = {.stop_after = 2};
        CHECK(object_list_versions(s, "data/", add_listed, &l, &err) == 77);
        CHECK(!strcmp(buf_str(&l.text), "data/c1/del-1:1* data/c1/seg-1:3*"));
        buf_release(&l.text);
        CHECK(object_list_versions(s, "../", add_listed, &l, &err) == -ERR_INVALID);
        CHECK(object_list_versions(s, "a//b", add_listed, &l, &err) == -ERR_INVALID);
    }
}

TEST(delete_versions) {
    FOR_EACH_STACK(s) {
        struct object_info v[5];
        static const char *const text[] = {"", "1", "22", "333", "4444"};
        CHECK_OK(put(s, "other/k", "x", NULL));
        for (int i = 1; i < 5; i++) CHECK_OK(put(s, "d/k", text[i], &v[i]));
        CHECK_OK(object_delete_version(s, "d/k", v[2].version, &err));
        CHECK(lists(s, "d", "d/k:4* d/k:3 d/k:1") && missing(s, "d/k", v[2].version));
        CHECK_OK(object_delete_version(s, "d/k", v[4].version, &err));
        CHECK(lists(s, "d", "d/k:3* d/k:1") && holds(s, "d/k", NULL, "333") &&
              missing(s, "d/k", v[4].version));
        CHECK_OK(object_delete_version(s, "d/k", v[4].version, &err));
        CHECK_OK(object_delete_version(s, "d/k", "v0", &err));
        CHECK_OK(object_delete_version(s, "d/nothing", v[3].version, &err));
        CHECK_OK(object_delete_version(s, "d/k", v[3].version, &err));
        CHECK(holds(s, "d/k", NULL, "1"));
        struct object_info again;
        CHECK_OK(put(s, "d/k", "55555", &again));
        CHECK(strcmp(again.version, v[4].version) > 0); /* never an id twice, also of one that is gone */
        CHECK_OK(object_delete_version(s, "d/k", again.version, &err));
        CHECK_OK(object_delete_version(s, "d/k", v[1].version, &err));
        CHECK(missing(s, "d/k", NULL) && lists(s, "", "other/k:1*"));
        CHECK(entries("d") <= 0); /* no litter */
        CHECK_OK(object_put(s, "d/k", "6", 1, PUT_IF_ABSENT, NULL, &again, &err));
        CHECK(strcmp(again.version, v[4].version) > 0 && holds(s, "d/k", NULL, "6"));
    }
}

TEST(versions_rise_when_the_clock_goes_back) {
    int64_t start = test_ms;
    FOR_EACH_STACK(s) {
        struct object_info last = {0}, info;
        for (int i = 0; i < 60; i++) {
            test_ms += i % 3 == 0 ? -100000 : i % 3;
            CHECK_OK(put(s, i % 4 ? "k" : "j", "x", &info));
            CHECK(strcmp(info.version, last.version) > 0 && info.mtime_ms == test_ms);
            last = info;
        }
    }
    test_ms = start;
}

static bool keep_size_2(void *ctx, const struct object_info *info) {
    ++*(int *)ctx;
    return info->size == 2;
}

TEST(expire) {
    int64_t start = test_ms;
    FOR_EACH_STACK(s) {
        static const char *const text[] = {"1", "22", "333", "4444", "55555"};
        for (int i = 0; i < 5; i++) {
            test_ms = start + i * 1000;
            CHECK_OK(put(s, "roots/a", text[i], NULL));
            CHECK_OK(put(s, "roots/b", text[i], NULL));
            CHECK_OK(put(s, "named/a", text[i], NULL));
        }
        int asked = 0;
        /* version i became non-current at start + (i + 1) * 1000 */
        CHECK_OK(object_expire_versions(s, "roots/a", start + 3000, keep_size_2, &asked, &err));
        CHECK(asked == 2 && lists(s, "roots/",
                                  "roots/a:5* roots/a:4 roots/a:3 roots/a:2 roots/b:5* roots/b:4 roots/b:3 "
                                  "roots/b:2 roots/b:1"));
        CHECK_OK(object_expire_versions(s, "roots/", start + 3001, NULL, NULL, &err));
        CHECK(lists(s, "roots/", "roots/a:5* roots/a:4 roots/b:5* roots/b:4"));
        CHECK_OK(object_expire_versions(s, "", INT64_MAX, NULL, NULL, &err));
        CHECK(lists(s, "", "named/a:5* roots/a:5* roots/b:5*"));
    }
    test_ms = start;
}

TEST(put_file) {
    FOR_EACH_STACK(s) {
        char path[512];
        const char *staging = object_staging_dir(s);
        const char *const from[] = {staging, "/dev/shm", dir};
        for (int i = 0; i < 3; i++) {
            snprintf(path, sizeof path, "%s/ldbfs-put-file-%d", from[i], (int)getpid());
            FILE *f = fopen(path, "w");
            if (!f) continue;
            fprintf(f, "file %d", i);
            fclose(f);
            struct object_info info;
            CHECK_OK(object_put_file(s, "f", path, &info, &err));
            char want[32];
            snprintf(want, sizeof want, "file %d", i);
            CHECK(info.size == strlen(want) && holds(s, "f", NULL, want) &&
                  holds(s, "f", info.version, want));
            CHECK(access(path, F_OK) && errno == ENOENT);
        }
        CHECK(object_put_file(s, "f", path, NULL, &err) == -ERR_NOT_FOUND);
        CHECK(!entries(".staging"));
    }
}

TEST(map) {
    FOR_EACH_STACK(s) {
        struct object_mapping m = {0};
        struct object_info info;
        CHECK_OK(put(s, "m", "mapped", &info));
        CHECK_OK(put(s, "m", "newer", NULL));
        CHECK_OK(object_put(s, "e", "", 0, PUT_ALWAYS, NULL, NULL, &err));
        CHECK(object_can_map(s) == (stack_no < 3));
        if (!object_can_map(s)) {
            CHECK(object_map(s, "m", NULL, &m, &err) == -ERR_UNSUPPORTED);
            continue;
        }
        CHECK_OK(object_map(s, "m", info.version, &m, &err));
        CHECK_OK(object_delete_version(s, "m", info.version, &err));
        CHECK(m.size == 6 && !memcmp(m.data, "mapped", 6));
        object_unmap(s, &m);
        CHECK(!m.data);
        object_unmap(s, &m);
        CHECK_OK(object_map(s, "e", NULL, &m, &err));
        CHECK(m.size == 0 && m.data);
        object_unmap(s, &m);
        CHECK(object_map(s, "none", NULL, &m, &err) == -ERR_NOT_FOUND);
    }
}

/* ---- concurrency ---- */

static int fork_all(int n, int (*child)(int i)) {
    pid_t pid[16];
    int failed = 0;
    for (int i = 0; i < n; i++) {
        pid[i] = fork();
        if (pid[i] == 0) _exit(child(i));
    }
    for (int i = 0; i < n; i++) {
        int status;
        waitpid(pid[i], &status, 0);
        failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    return failed;
}

enum { ROUNDS = 40, PROCESSES = 4 };
static int race_child(int i) {
    struct object_store *s = open_dir();
    char text[512];
    int wins = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char key[32];
        snprintf(key, sizeof key, "race/%d", round);
        int n = snprintf(text, sizeof text, "%d", i);
        int r = object_put(s, key, text, (size_t)n, PUT_IF_ABSENT, NULL, NULL, &err);
        if (r && r != -ERR_CONFLICT) return 2;
        if (!r) wins++;
        if (!r && !holds(s, key, NULL, text)) return 3;
    }
    object_store_close(s);
    snprintf(text, sizeof text, "%s/wins-%d", dir, i);
    FILE *f = fopen(text, "w");
    fprintf(f, "%d", wins);
    fclose(f);
    return 0;
}

TEST(one_winner_of_put_if_absent) {
    fresh_dir();
    CHECK(!fork_all(PROCESSES, race_child));
    int total = 0;
    for (int i = 0; i < PROCESSES; i++) {
        char path[512];
        int wins = -1;
        snprintf(path, sizeof path, "%s/wins-%d", dir, i);
        FILE *f = fopen(path, "r");
        CHECK(f && fscanf(f, "%d", &wins) == 1);
        fclose(f);
        total += wins;
    }
    CHECK(total == ROUNDS);
}

/* A counter by read and conditional put: no increment is lost, with processes and threads at once. */
static int increment(struct object_store *s, int times) {
    struct err e = ERR_INIT;
    for (int done = 0; done < times;) {
        struct buf b = BUF_INIT;
        struct object_info info;
        char text[32];
        if (object_get(s, "n/counter", NULL, 0, SIZE_MAX, &b, &info, &e)) return 2;
        int n = snprintf(text, sizeof text, "%d", atoi(buf_str(&b)) + 1);
        buf_release(&b);
        int r = object_put(s, "n/counter", text, (size_t)n, PUT_IF_MATCH, info.etag, NULL, &e);
        if (r && r != -ERR_CONFLICT) return 3;
        done += !r;
    }
    return 0;
}
static void *increment_thread(void *s) {
    return (void *)(intptr_t)increment(s, 15);
}
static int counter_child(int i) {
    struct object_store *s = open_dir();
    pthread_t t[2];
    for (int k = 0; k < 2; k++) pthread_create(&t[k], NULL, increment_thread, s);
    intptr_t failed = 0;
    for (int k = 0; k < 2; k++) {
        void *r;
        pthread_join(t[k], &r);
        failed |= (intptr_t)r;
    }
    object_store_close(s);
    return (int)failed;
}

TEST(no_increment_is_lost) {
    fresh_dir();
    struct object_store *s = open_dir();
    CHECK_OK(put(s, "n/counter", "0", NULL));
    CHECK(!fork_all(3, counter_child));
    CHECK(holds(s, "n/counter", NULL, "90"));
    int n = 0;
    struct listing l = {0};
    CHECK_OK(object_list_versions(s, "n/", add_listed, &l, &err));
    for (size_t i = 0; i < l.text.len; i++) n += l.text.data[i] == ':';
    CHECK(n == 91);
    buf_release(&l.text);
    object_store_close(s);
}

/* Readers beside a writer that puts and deletes: always a whole value, never an error, never a step back. */
static atomic_bool stop;
static void *reader_thread(void *arg) {
    struct object_store *s = arg;
    struct err e = ERR_INIT;
    long last = 0, reads = 0;
    while (!stop || reads < 50) {
        struct buf b = BUF_INIT;
        struct object_info info;
        int r = object_get(s, "hot/k", NULL, 0, SIZE_MAX, &b, &info, &e);
        long value = r ? -1 : atol(buf_str(&b));
        bool good = !r && b.len == 4000 && value >= last;
        for (size_t i = 8; i < b.len && good; i++) good = b.data[i] == b.data[i % 8];
        buf_release(&b);
        if (!good) return (void *)"bad read";
        last = value;
        reads++;
    }
    return NULL;
}

TEST(readers_never_stumble) {
    fresh_dir();
    struct object_store *s = open_dir();
    char text[4001], previous[OBJECT_VERSION_SIZE] = "";
    pthread_t t[2];
    for (int i = 1; i <= 300; i++) {
        for (int k = 0; k < 500; k++) sprintf(text + 8 * k, "%07d ", i);
        struct object_info info;
        CHECK_OK(object_put(s, "hot/k", text, 4000, PUT_ALWAYS, NULL, &info, &err));
        if (previous[0]) CHECK_OK(object_delete_version(s, "hot/k", previous, &err));
        memcpy(previous, info.version, sizeof previous);
        if (i == 1)
            for (int k = 0; k < 2; k++) pthread_create(&t[k], NULL, reader_thread, s);
    }
    stop = true;
    for (int k = 0; k < 2; k++) {
        void *r;
        pthread_join(t[k], &r);
        CHECK(!r);
    }
    object_store_close(s);
}

/* Keys that come and go below one directory: mkdir and rmdir race. */
static int churn_child(int i) {
    struct object_store *s = open_dir();
    for (int k = 0; k < 40; k++) {
        char key[64];
        struct object_info info;
        snprintf(key, sizeof key, "deep/er/%s", i % 2 ? "k" : "k/l");
        if (put(s, key, "x", &info)) return 2;
        if (!holds(s, key, info.version, "x")) return 3;
        if (object_delete_version(s, key, info.version, &err)) return 4;
        struct listing l = {0};
        if (object_list_versions(s, "deep/", add_listed, &l, &err)) return 5;
        buf_release(&l.text);
    }
    object_store_close(s);
    return 0;
}

TEST(directories_come_and_go) {
    fresh_dir();
    CHECK(!fork_all(PROCESSES, churn_child));
    struct object_store *s = open_dir();
    CHECK(lists(s, "", ""));
    CHECK(entries("deep") <= 0);
    object_store_close(s);
}

/* ---- crashes ---- */

static void plant(const char *sub, const char *name, const char *next) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, sub);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", dir, sub, name);
    FILE *f = fopen(path, "w");
    fputs("leftover", f);
    fclose(f);
    snprintf(path, sizeof path, "%s/%s/next", dir, sub);
    if (next && symlink(next, path)) abort();
}

/* A put that died before its commit: `next` and a version above current. */
TEST(leftover_of_a_put) {
    static const char ghost[] = "v7fffffffffffffff00000000";
    for (int first = 0; first < 2; first++) {
        fresh_dir();
        struct object_store *s = open_dir();
        if (!first) CHECK_OK(put(s, "k", "1", NULL));
        plant("k", ghost, ghost);
        CHECK(missing(s, "k", ghost) && lists(s, "", first ? "" : "k:1*"));
        CHECK(first ? missing(s, "k", NULL) : holds(s, "k", NULL, "1"));
        CHECK_OK(object_delete_version(s, "k", ghost, &err));
        CHECK_OK(put(s, "k", "22", NULL));
        CHECK(lists(s, "", first ? "k:2*" : "k:2* k:1"));
        char path[600];
        snprintf(path, sizeof path, "%s/k/%s", dir, ghost);
        CHECK(access(path, F_OK));
        CHECK(entries("k") == (first ? 2 : 3));
        object_store_close(s);
    }
}

/* A delete that died: `next` already or still names the older version, which must survive. */
TEST(leftover_of_a_delete) {
    fresh_dir();
    struct object_store *s = open_dir();
    struct object_info a, b, c;
    char path[600];
    CHECK_OK(put(s, "k", "1", &a));
    CHECK_OK(put(s, "k", "22", &b));
    snprintf(path, sizeof path, "%s/k/next", dir);
    CHECK(!symlink(a.version, path)); /* before the exchange */
    CHECK_OK(put(s, "k", "333", &c));
    CHECK(lists(s, "", "k:3* k:2 k:1"));
    CHECK(!symlink(a.version, path));
    CHECK_OK(object_delete_version(s, "k", c.version, &err));
    CHECK(lists(s, "", "k:2* k:1") && access(path, F_OK));
    CHECK(!symlink("garbage", path));
    CHECK_OK(put(s, "k", "4444", NULL));
    CHECK(lists(s, "", "k:4* k:2 k:1"));
    object_store_close(s);
}

TEST(corrupt_link_is_an_error) {
    fresh_dir();
    struct object_store *s = open_dir();
    char path[600], cur[600];
    struct object_info a;
    CHECK_OK(put(s, "k", "1", &a));
    snprintf(cur, sizeof cur, "%s/k/current", dir);
    snprintf(path, sizeof path, "%s/k/%s", dir, a.version);
    CHECK(!unlink(path));
    CHECK(object_head(s, "k", NULL, NULL, &err) == -ERR_CORRUPT && strstr(err.text, "\"k\""));
    CHECK(!unlink(cur) && !symlink("../../etc/passwd", cur));
    CHECK(object_head(s, "k", NULL, NULL, &err) == -ERR_CORRUPT);
    CHECK(put(s, "k", "x", NULL) == -ERR_CORRUPT);
    object_store_close(s);
}

/* A process that puts and deletes is killed at any moment; it tells what it was about to do and what was
 * done. All that was acknowledged is as it says, and one more put leaves nothing behind. */
struct event {
    char kind; /* p: put is coming, P: put of `version` done, d: delete of `version` coming, D: done */
    char version[OBJECT_VERSION_SIZE];
};
static void tell(int fd, char kind, const char *version) {
    struct event e = {.kind = kind};
    if (version) memcpy(e.version, version, sizeof e.version);
    if (write(fd, &e, sizeof e) != sizeof e) _exit(1);
}
static void put_and_delete_for_ever(int fd) {
    struct object_store *s = open_dir();
    struct object_info info;
    char kept[4][OBJECT_VERSION_SIZE] = {""};
    for (int i = 0;; i++) {
        tell(fd, 'p', NULL);
        if (put(s, "k", "x", &info)) _exit(1);
        tell(fd, 'P', info.version);
        char *oldest = kept[i % 4];
        const char *victim = i % 3 == 2 ? info.version : oldest;
        if (victim[0]) {
            tell(fd, 'd', victim);
            if (object_delete_version(s, "k", victim, &err)) _exit(1);
            tell(fd, 'D', victim);
        }
        if (victim == oldest || i % 3 == 2) oldest[0] = 0;
        if (i % 3 != 2) memcpy(oldest, info.version, sizeof info.version);
    }
}

static bool is_listed(struct object_store *s, const char *version) {
    return object_head(s, "k", version, NULL, &err) == 0;
}

static int count_one(void *ctx, const struct object_info *info) {
    ++*(int *)ctx;
    return 0;
}

/* Replays the events: every version put and not touched again must be there, every deleted one must be gone.
 */
static bool check_events(struct object_store *s, int fd) {
    struct event e, all[4000];
    size_t n = 0;
    while (n < ARRAY_SIZE(all) && read(fd, &e, sizeof e) == sizeof e) all[n++] = e;
    for (size_t i = 0; i < n; i++) {
        if (all[i].kind != 'P' && all[i].kind != 'D') continue;
        bool touched = false;
        for (size_t k = i + 1; k < n && all[i].kind == 'P'; k++)
            if (all[k].kind == 'd' && !strcmp(all[k].version, all[i].version)) touched = true;
        if (!touched && is_listed(s, all[i].version) != (all[i].kind == 'P')) return false;
    }
    return true;
}

TEST(killed_at_any_moment) {
    fresh_dir();
    unsigned random = 12345;
    for (int round = 0; round < 40; round++) {
        int fd[2], status;
        CHECK(!pipe(fd));
        pid_t pid = fork();
        if (!pid) put_and_delete_for_ever(fd[1]);
        close(fd[1]);
        random = random * 1103515245 + 12345;
        usleep(2000 + random / 65536 % 8000);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        CHECK(WIFSIGNALED(status));
        struct object_store *s = open_dir();
        CHECK(check_events(s, fd[0]));
        close(fd[0]);
        struct object_info info;
        CHECK_OK(put(s, "k", "last", &info));
        int versions = 0;
        CHECK_OK(object_list_versions(s, "", count_one, &versions, &err));
        CHECK(entries("k") == versions + 1); /* the versions and `current` */
        object_store_close(s);
    }
}

/* ---- decorators ---- */

TEST(counts) {
    fresh_dir();
    struct object_store *s = object_store_count(open_dir());
    struct object_info info, newer;
    struct buf b = BUF_INIT;
    struct object_mapping m;
    char version[OBJECT_VERSION_SIZE];
    CHECK_OK(put(s, "a", "12345", &info));
    CHECK_OK(put(s, "a", "123", &newer));
    CHECK_OK(object_get(s, "a", NULL, 1, SIZE_MAX, &b, NULL, &err));
    CHECK_OK(object_current(s, "a", version, &err));
    CHECK(object_current(s, "b", version, &err) == -ERR_NOT_FOUND);
    CHECK(lists(s, "", "a:3* a:5"));
    CHECK_OK(object_map(s, "a", NULL, &m, &err));
    object_unmap(s, &m);
    CHECK_OK(object_delete_version(s, "a", info.version, &err));
    struct object_counts c;
    object_store_counts(s, &c);
    CHECK(c.puts == 2 && c.gets == 1 && c.heads == 2 && c.lists == 1 && c.deletes == 1 && c.maps == 1);
    CHECK(c.bytes_put == 8 && c.bytes_got == 2);
    buf_release(&b);
    object_store_close(s);
}

TEST(faults) {
    fresh_dir();
    struct object_store *s = object_store_fault(open_dir());
    struct buf b = BUF_INIT;
    object_store_fault_set(s, "put", 1, FAULT_FAIL);
    CHECK_OK(put(s, "a", "1", NULL));
    CHECK(put(s, "a", "22", NULL) == -ERR_UNREACHABLE && holds(s, "a", NULL, "1"));
    CHECK_OK(put(s, "a", "333", NULL));
    object_store_fault_set(s, "put", 0, FAULT_LOST);
    CHECK(put(s, "a", "4444", NULL) == -ERR_TIMEOUT && holds(s, "a", NULL, "4444"));
    object_store_fault_set(s, "get", 0, FAULT_FAIL);
    CHECK_OK(put(s, "b", "1", NULL));
    CHECK(object_get(s, "a", NULL, 0, 9, &b, NULL, &err) == -ERR_UNREACHABLE && b.len == 0);
    object_store_fault_set(s, "", 2, FAULT_LOST);
    CHECK_OK(object_head(s, "a", NULL, NULL, &err));
    CHECK_OK(object_get(s, "a", NULL, 0, 9, &b, NULL, &err));
    CHECK(object_list_versions(s, "", add_listed, NULL, &err) == -ERR_TIMEOUT);
    CHECK_OK(object_head(s, "a", NULL, NULL, &err));
    buf_release(&b);
    object_store_close(s);
}
