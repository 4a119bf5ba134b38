/* The metadata store's promises, over SQLite (test_metadata_cache.c: and under the decorator). */
#include "../unit/test.h"
#include "backend/metadata.h"

#include <ftw.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err err;
static char dir[256], path[300];

static int remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(name);
}
__attribute__((destructor)) static void clean_up(void) {
    if (dir[0]) nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
static _Atomic int64_t test_ms = 1700000000000;
static int64_t test_now(struct clock *c) {
    return test_ms;
}
static int64_t test_mono(struct clock *c) {
    return test_ms * 1000;
}
static struct clock test_clock = {.now_ms = test_now, .mono_us = test_mono};

static struct metadata *reopen(void) {
    struct metadata *m = NULL;
    if (metadata_sqlite_open(path, &test_clock, &m, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
#ifdef STACKED
    m = STACKED(m);
#endif
    return m;
}
static struct metadata *fresh(void) {
    const char *tmp = getenv("TMPDIR");
    clean_up();
    snprintf(dir, sizeof dir, "%s/ldbfs-meta-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) abort();
    snprintf(path, sizeof path, "%s/meta.db", dir);
    return reopen();
}

static int put(struct metadata *m, const char *pk, const char *sk, const char *value, int64_t expect) {
    return meta_transact(m, &(struct meta_op){META_PUT, pk, sk, value, expect}, 1, &err);
}
static int drop(struct metadata *m, const char *pk, const char *sk, int64_t expect) {
    return meta_transact(m, &(struct meta_op){META_DELETE, pk, sk, NULL, expect}, 1, &err);
}
static bool has(struct metadata *m, const char *pk, const char *sk, const char *value, uint64_t version) {
    struct buf b = BUF_INIT;
    uint64_t got = 0;
    int r = meta_get(m, pk, sk, &b, &got, &err);
    bool same = !r && !strcmp(buf_str(&b), value) && got == version;
    if (!same) fprintf(stderr, "%s/%s: %d %s v%llu\n", pk, sk, r, buf_str(&b), (unsigned long long)got);
    buf_release(&b);
    return same;
}
static bool absent(struct metadata *m, const char *pk, const char *sk) {
    struct buf b = BUF_INIT;
    int r = meta_get(m, pk, sk, &b, NULL, &err);
    buf_release(&b);
    return r == -ERR_NOT_FOUND;
}

static int add_item(void *ctx, const struct meta_item *item) {
    buf_printf(ctx, "%s=%s:%llu ", item->sk, item->value, (unsigned long long)item->version);
    return strlen(item->value) == item->value_len ? strcmp(item->sk, "stop") == 0 ? 55 : 0 : 1;
}
static bool lists(struct metadata *m, const char *pk, const char *prefix, const char *want) {
    struct buf b = BUF_INIT;
    int r = meta_list(m, pk, prefix, add_item, &b, &err);
    bool same = !r && !strcmp(buf_str(&b), want);
    if (!same) fprintf(stderr, "%d %s\n", r, buf_str(&b));
    buf_release(&b);
    return same;
}

TEST(items_and_versions) {
    struct metadata *m = fresh();
    CHECK(absent(m, "p", "s"));
    CHECK_OK(put(m, "p", "s", "{}", META_ABSENT));
    CHECK(has(m, "p", "s", "{}", 1));
    CHECK(put(m, "p", "s", "[]", META_ABSENT) == -ERR_CONFLICT && strstr(err.text, "\"p\", \"s\""));
    CHECK_OK(put(m, "p", "s", "[1]", 1));
    CHECK(put(m, "p", "s", "[2]", 1) == -ERR_CONFLICT && has(m, "p", "s", "[1]", 2));
    CHECK_OK(put(m, "p", "s", "[3]", META_ANY));
    CHECK(has(m, "p", "s", "[3]", 3));
    CHECK(drop(m, "p", "s", 2) == -ERR_CONFLICT);
    CHECK_OK(drop(m, "p", "s", 3));
    CHECK(absent(m, "p", "s") && drop(m, "p", "s", 3) == -ERR_CONFLICT);
    CHECK_OK(drop(m, "p", "s", META_ANY));
    CHECK_OK(drop(m, "p", "s", META_ABSENT));
    CHECK_OK(put(m, "p", "", "1", META_ABSENT));
    CHECK_OK(put(m, "p'; DROP TABLE items; --", "%_", "\"quote'\"", META_ABSENT));
    CHECK(has(m, "p'; DROP TABLE items; --", "%_", "\"quote'\"", 1));
    metadata_close(m);
    m = reopen();
    CHECK(has(m, "p", "", "1", 1));
    metadata_close(m);
    metadata_close(NULL);
}

TEST(lists_in_order) {
    struct metadata *m = fresh();
    static const char *const sks[] = {
        "b", "a", "ab", "a#2", "a#1", "a%x", "B", "a\xc3\xa9", "a\xf4\x8f\xbf\xbf", ""};
    for (size_t i = 0; i < ARRAY_SIZE(sks); i++) CHECK_OK(put(m, "p", sks[i], "1", META_ABSENT));
    CHECK_OK(put(m, "q", "a", "2", META_ABSENT));
    CHECK(
        lists(m, "p", "",
              "=1:1 B=1:1 a=1:1 a#1=1:1 a#2=1:1 a%x=1:1 ab=1:1 a\xc3\xa9=1:1 a\xf4\x8f\xbf\xbf=1:1 b=1:1 "));
    CHECK(lists(m, "p", "a#", "a#1=1:1 a#2=1:1 ") && lists(m, "p", "a%", "a%x=1:1 ") &&
          lists(m, "p", "c", "") && lists(m, "x", "", ""));
    CHECK(lists(m, "p", "a\xf4\x8f\xbf\xbf", "a\xf4\x8f\xbf\xbf=1:1 "));
    CHECK_OK(put(m, "s", "stop", "1", META_ABSENT));
    CHECK_OK(put(m, "s", "then", "1", META_ABSENT));
    struct buf b = BUF_INIT;
    CHECK(meta_list(m, "s", "", add_item, &b, &err) == 55 && !strcmp(buf_str(&b), "stop=1:1 "));
    buf_release(&b);
    metadata_close(m);
}

static int delete_it(void *ctx, const struct meta_item *item) {
    return drop(ctx, "p", item->sk, (int64_t)item->version);
}
TEST(visitor_may_call_the_store) {
    struct metadata *m = fresh();
    char sk[16];
    for (int i = 0; i < 20; i++) {
        snprintf(sk, sizeof sk, "%02d", i);
        CHECK_OK(put(m, "p", sk, "1", META_ABSENT));
    }
    CHECK_OK(meta_list(m, "p", "", delete_it, m, &err));
    CHECK(lists(m, "p", "", ""));
    metadata_close(m);
}

TEST(transactions_are_atomic) {
    struct metadata *m = fresh();
    CHECK_OK(put(m, "p", "a", "1", META_ABSENT));
    struct meta_op ops[] = {{META_PUT, "p", "a", "2", 1},
                            {META_PUT, "p", "b", "2", META_ABSENT},
                            {META_CHECK, "p", "c", NULL, 7}};
    CHECK(meta_transact(m, ops, 3, &err) == -ERR_CONFLICT && strstr(err.text, "\"c\""));
    CHECK(has(m, "p", "a", "1", 1) && absent(m, "p", "b"));
    ops[2].expect = META_ABSENT;
    CHECK_OK(meta_transact(m, ops, 3, &err));
    CHECK(has(m, "p", "a", "2", 2) && has(m, "p", "b", "2", 1) && absent(m, "p", "c"));
    struct meta_op more[] = {{META_DELETE, "p", "a", NULL, 2}, {META_CHECK, "p", "b", NULL, 1}};
    CHECK_OK(meta_transact(m, more, 2, &err));
    CHECK(absent(m, "p", "a"));
    more[0] = (struct meta_op){META_PUT, "p", "b", "x", META_ANY};
    CHECK(meta_transact(m, more, 2, &err) == -ERR_INVALID); /* one item twice */
    CHECK_OK(meta_transact(m, NULL, 0, &err));
    metadata_close(m);
}

TEST(limits) {
    struct metadata *m = fresh();
    size_t max = 390 * 1024;
    char *value = xcalloc(1, max + 2), key[520];
    memset(value, 'x', max);
    memset(key, 'k', sizeof key);
    key[512] = 0;
    CHECK_OK(put(m, key, key, value, META_ABSENT));
    CHECK(has(m, key, key, value, 1));
    value[max] = 'x';
    CHECK(put(m, "p", "s", value, META_ANY) == -ERR_TOO_LARGE);
    key[512] = 'k';
    key[513] = 0;
    CHECK(put(m, key, "s", "1", META_ANY) == -ERR_INVALID && put(m, "p", key, "1", META_ANY) == -ERR_INVALID);
    struct meta_op ops[101];
    char sk[101][16];
    for (int i = 0; i < 101; i++) {
        snprintf(sk[i], sizeof sk[i], "%d", i);
        ops[i] = (struct meta_op){META_PUT, "many", sk[i], "1", META_ABSENT};
    }
    CHECK(meta_transact(m, ops, 101, &err) == -ERR_TOO_LARGE);
    CHECK_OK(meta_transact(m, ops, 100, &err));
    free(value);
    metadata_close(m);
}

TEST(foreign_files) {
    struct metadata *m = fresh();
    metadata_close(m);
    sqlite3 *db;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK &&
          sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    CHECK(metadata_sqlite_open(path, &test_clock, &m, &err) == -ERR_UNSUPPORTED && strstr(err.text, "99"));
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 1000; i++) fputs("this is not a database", f);
    fclose(f);
    CHECK(metadata_sqlite_open(path, &test_clock, &m, &err) == -ERR_CORRUPT);
    CHECK(metadata_sqlite_open("/nonexistent/dir/meta.db", &test_clock, &m, &err) < 0);
}

/* ---- concurrency ---- */

enum { THREADS = 2, PROCESSES = 3, TIMES = 25 };
static void *count_up(void *arg) {
    struct metadata *m = arg;
    struct err e = ERR_INIT;
    for (int done = 0; done < TIMES;) {
        struct buf b = BUF_INIT;
        uint64_t version;
        char text[16], log[32];
        if (meta_get(m, "c", "n", &b, &version, &e)) return (void *)1;
        int next = atoi(buf_str(&b)) + 1;
        buf_release(&b);
        snprintf(text, sizeof text, "%d", next);
        snprintf(log, sizeof log, "log-%06d", next);
        struct meta_op ops[] = {{META_PUT, "c", "n", text, (int64_t)version},
                                {META_PUT, "c", log, "1", META_ABSENT}};
        int r = meta_transact(m, ops, 2, &e);
        if (r && r != -ERR_CONFLICT) {
            fprintf(stderr, "%s\n", e.text);
            return (void *)2;
        }
        done += !r;
    }
    return NULL;
}

static int count_items(void *ctx, const struct meta_item *item) {
    ++*(int *)ctx;
    return 0;
}

/* Processes open the file at the same time too: creating it is part of the race. */
TEST(no_increment_is_lost) {
    metadata_close(fresh());
    unlink(path);
    pid_t pid[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pid[i] = fork();
        if (pid[i]) continue;
        struct metadata *m = reopen();
        int r = put(m, "c", "n", "0", META_ABSENT);
        if (r && r != -ERR_CONFLICT) _exit(9);
        pthread_t t[THREADS];
        intptr_t failed = 0;
        for (int k = 0; k < THREADS; k++) pthread_create(&t[k], NULL, count_up, m);
        for (int k = 0; k < THREADS; k++) {
            void *ret;
            pthread_join(t[k], &ret);
            failed |= (intptr_t)ret;
        }
        metadata_close(m);
        _exit((int)failed);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        waitpid(pid[i], &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    struct metadata *m = reopen();
    int n = 0;
    char want[16];
    snprintf(want, sizeof want, "%d", PROCESSES * THREADS * TIMES);
    CHECK(has(m, "c", "n", want, 1 + PROCESSES * THREADS * TIMES));
    CHECK_OK(meta_list(m, "c", "log-", count_items, &n, &err));
    CHECK(n == PROCESSES * THREADS * TIMES);
    metadata_close(m);
}

/* A reader sees the state before while another connection is in the middle of a write. */
TEST(stamps_tell_of_every_change) {
    struct metadata *m = fresh(), *other = reopen();
    struct meta_stamp a, b, none = {0};
    uint64_t epoch;
    CHECK_OK(put(m, "p", "s", "1", META_ANY));
    meta_stamp(m, &a);
    meta_stamp(other, &b);
    CHECK(a.known && meta_stamp_equal(&a, &b) && !meta_stamp_equal(&none, &none));
    CHECK(has(m, "p", "s", "1", 1) && has(other, "p", "s", "1", 1));
    meta_stamp(m, &b);
    CHECK(meta_stamp_equal(&a, &b)); /* reading changes nothing */
    CHECK_OK(put(other, "p", "s", "1", META_ANY));
    meta_stamp(m, &b);
    CHECK(b.known && !meta_stamp_equal(&a, &b));
    CHECK_OK(meta_lease_acquire(other, "l", "me", 1000, &epoch, &err));
    meta_stamp(m, &a);
    CHECK(a.known && !meta_stamp_equal(&a, &b));
    metadata_close(other); /* the mapping is the process's: it stays */
    meta_stamp(m, &b);
    CHECK(meta_stamp_equal(&a, &b));
    metadata_close(m);
}

enum { STAMPED = 400 };

/* What a process that has ended its transaction has written is never hidden by a stamp that has not moved. */
TEST(stamps_hide_no_write_of_another_process) {
    metadata_close(fresh());
    _Atomic uint64_t *done =
        mmap(NULL, sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (!pid) {
        struct metadata *m = reopen();
        for (uint64_t i = 1; i <= STAMPED; i++) {
            if (put(m, "c", "n", "0", META_ANY)) _exit(1);
            atomic_store(done, i);
        }
        metadata_close(m);
        _exit(0);
    }
    struct metadata *m = reopen();
    struct meta_stamp kept = {0}, now;
    uint64_t known = 0, kept_used = 0, stale = 0, before;
    do {
        struct buf b = BUF_INIT;
        before = atomic_load(done);
        meta_stamp(m, &now);
        if (meta_stamp_equal(&now, &kept)) {
            kept_used++;
        } else {
            int r = meta_get(m, "c", "n", &b, &known, &err);
            CHECK(!r || (r == -ERR_NOT_FOUND && !before));
            kept = now;
        }
        stale += known < before;
        buf_release(&b);
    } while (before < STAMPED || !kept_used); /* once it is quiet the stamp stays */
    int status;
    waitpid(pid, &status, 0);
    CHECK(!status && !stale && known == STAMPED);
    metadata_close(m);
    munmap(done, sizeof *done);
}

TEST(reads_do_not_wait_for_a_write) {
    struct metadata *m = fresh();
    CHECK_OK(put(m, "p", "s", "1", META_ABSENT));
    sqlite3 *db;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db, "BEGIN IMMEDIATE; UPDATE items SET value = 'dirty'", NULL, NULL, NULL) ==
          SQLITE_OK);
    CHECK(has(m, "p", "s", "1", 1) && lists(m, "p", "", "s=1:1 "));
    CHECK(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    CHECK_OK(put(m, "p", "s", "2", 1));
    metadata_close(m);
}

static void *get_many(void *m) {
    struct err e = ERR_INIT;
    for (int i = 0; i < 300; i++) {
        struct buf b = BUF_INIT;
        uint64_t version;
        int r = meta_get(m, "p", "s", &b, &version, &e);
        bool good = !r && (uint64_t)atoll(buf_str(&b)) == version; /* value and version of one write */
        buf_release(&b);
        if (!good) return (void *)1;
    }
    return NULL;
}
TEST(threads_read_beside_a_writer) {
    struct metadata *m = fresh();
    CHECK_OK(put(m, "p", "s", "1", META_ABSENT));
    pthread_t t[4];
    for (int k = 0; k < 4; k++) pthread_create(&t[k], NULL, get_many, m);
    char text[16];
    for (int i = 2; i < 40; i++) {
        snprintf(text, sizeof text, "%d", i);
        CHECK_OK(put(m, "p", "s", text, i - 1));
    }
    for (int k = 0; k < 4; k++) {
        void *r;
        pthread_join(t[k], &r);
        CHECK(!r);
    }
    metadata_close(m);
}

/* ---- leases ---- */

TEST(lease_life) {
    struct metadata *m = fresh();
    uint64_t a, b, c;
    CHECK_OK(meta_lease_acquire(m, "build", "me", 1000, &a, &err));
    CHECK(a >= 1 && meta_lease_acquire(m, "build", "you", 1000, &b, &err) == -ERR_BUSY &&
          strstr(err.text, "me"));
    CHECK_OK(meta_lease_acquire(m, "other", "you", 1000, &b, &err));
    test_ms += 900;
    CHECK_OK(meta_lease_renew(m, "build", "me", a, 1000, &err));
    test_ms += 900;
    CHECK(meta_lease_acquire(m, "build", "you", 1000, &b, &err) == -ERR_BUSY);
    test_ms += 101; /* expired */
    CHECK_OK(meta_lease_acquire(m, "build", "you", 1000, &b, &err));
    CHECK(b > a);
    CHECK(meta_lease_renew(m, "build", "me", a, 1000, &err) == -ERR_CONFLICT);
    CHECK_OK(meta_lease_release(m, "build", "me", a, &err)); /* was lost: leaves the new holder alone */
    CHECK(meta_lease_acquire(m, "build", "me", 1000, &c, &err) == -ERR_BUSY);
    CHECK_OK(meta_lease_release(m, "build", "you", b, &err));
    CHECK(meta_lease_renew(m, "build", "you", b, 1000, &err) == -ERR_CONFLICT);
    CHECK_OK(meta_lease_acquire(m, "build", "me", 1000, &c, &err));
    CHECK(c > b);
    CHECK_OK(meta_lease_acquire(m, "build", "me", INT64_MAX, &a, &err)); /* again by the owner: a new epoch */
    CHECK(a > c && meta_lease_renew(m, "build", "me", c, 1000, &err) == -ERR_CONFLICT);
    metadata_close(m);
}

TEST(lease_of_a_dead_process_is_free_at_once) {
    struct metadata *m = fresh();
    uint64_t epoch, theirs = 0;
    int fd[2], status;
    CHECK(!pipe(fd));
    pid_t pid = fork();
    if (!pid) {
        struct metadata *own = reopen();
        if (meta_lease_acquire(own, "build", "child", 1000000, &epoch, &err)) _exit(1);
        if (write(fd[1], &epoch, sizeof epoch) != sizeof epoch) _exit(1);
        pause();
    }
    CHECK(read(fd[0], &theirs, sizeof theirs) == sizeof theirs);
    CHECK(meta_lease_acquire(m, "build", "me", 1000, &epoch, &err) == -ERR_BUSY);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    CHECK_OK(meta_lease_acquire(m, "build", "me", 1000, &epoch, &err));
    CHECK(epoch > theirs);
    close(fd[0]);
    close(fd[1]);
    metadata_close(m);
}

/* The owner lives on another boot or in another container: its process id says nothing, only the expiry
 * counts. */
TEST(lease_of_another_machine) {
    struct metadata *m = fresh();
    uint64_t epoch;
    CHECK_OK(meta_lease_acquire(m, "build", "there", 1000, &epoch, &err));
    sqlite3 *db;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db, "UPDATE leases SET pid = 999999999, start_time = 'elsewhere 1'", NULL, NULL,
                       NULL) == SQLITE_OK);
    sqlite3_close(db);
    CHECK(meta_lease_acquire(m, "build", "me", 1000, &epoch, &err) == -ERR_BUSY);
    test_ms += 1001;
    CHECK_OK(meta_lease_acquire(m, "build", "me", 1000, &epoch, &err));
    metadata_close(m);
}

/* Many want one lease: never two holders at a time, epochs strictly rising. */
static atomic_int holders;
static _Atomic uint64_t last_epoch;
static void *lease_thread(void *arg) {
    struct metadata *m = arg;
    struct err e = ERR_INIT;
    char owner[32];
    snprintf(owner, sizeof owner, "t%lx", (unsigned long)pthread_self());
    for (int done = 0; done < 8;) {
        uint64_t epoch;
        int r = meta_lease_acquire(m, "l", owner, 1000000, &epoch, &e);
        if (r == -ERR_BUSY) {
            usleep(100);
            continue;
        }
        if (r || ++holders != 1 || epoch <= last_epoch) return (void *)1;
        last_epoch = epoch;
        usleep(300);
        holders--;
        if (meta_lease_release(m, "l", owner, epoch, &e)) return (void *)2;
        done++;
    }
    return NULL;
}
TEST(lease_race) {
    struct metadata *m = fresh();
    pthread_t t[4];
    for (int k = 0; k < 4; k++) pthread_create(&t[k], NULL, lease_thread, m);
    for (int k = 0; k < 4; k++) {
        void *r;
        pthread_join(t[k], &r);
        CHECK(!r);
    }
    metadata_close(m);
}
