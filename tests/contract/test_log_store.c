/* The log store's promises, over the directory and under the fault decorator. */
#include "../unit/test.h"
#include "backend/log_store.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err err;
static char dir[256];
#define SEG1 "00000001-0000000000000001.log"
#define SEG2 "00000002-00000000000000ff.log"
#define SEG3 "0000000a-0000000000000002.log"

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}
__attribute__((destructor)) static void clean_up(void) {
    if (dir[0]) nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
static void fresh_dir(void) {
    const char *tmp = getenv("TMPDIR");
    clean_up();
    snprintf(dir, sizeof dir, "%s/ldbfs-log-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) abort();
}
static struct log_store *open_dir(void) {
    struct log_store *s = NULL;
    if (log_store_dir_open(dir, &s, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return s;
}
static struct log_store *open_stack(int which) {
    return which ? log_store_fault(open_dir()) : open_dir();
}
#define FOR_EACH_STACK(s)                                                                                    \
    for (int stack_no = 0; stack_no < 2; stack_no++)                                                         \
        for (struct log_store *s = (fresh_dir(), open_stack(stack_no)); s; s->ops->close(s), s = NULL)

static bool reads(struct log_file *f, uint64_t off, size_t len, const char *want) {
    struct buf b = BUF_INIT;
    int r = f->ops->read(f, off, len, &b, &err);
    bool same = !r && !strcmp(buf_str(&b), want);
    buf_release(&b);
    return same;
}

TEST(segments) {
    FOR_EACH_STACK(s) {
        void *lock;
        struct log_file *f, *g;
        struct log_segment_name *names = NULL;
        size_t n = 99;
        uint64_t size;
        CHECK_OK(s->ops->list(s, "c1", &names, &n, &err));
        CHECK(n == 0);
        free(names);
        CHECK(s->ops->open(s, "c1", SEG1, false, &f, &err) == -ERR_NOT_FOUND);
        CHECK_OK(s->ops->lock(s, "c1", &lock, &err));
        CHECK_OK(s->ops->open(s, "c1", SEG1, true, &f, &err));
        CHECK(s->ops->open(s, "c1", SEG1, true, &g, &err) == -ERR_EXISTS);
        CHECK_OK(f->ops->write(f, 0, "hello world", 11, &err));
        CHECK_OK(f->ops->sync(f, &err));
        s->ops->unlock(s, lock);
        CHECK_OK(s->ops->open(s, "c1", SEG1, false, &g, &err));
        CHECK(reads(g, 0, 100, "hello world") && reads(g, 6, 3, "wor") && reads(g, 11, 5, "") &&
              reads(g, 1000, 5, ""));
        CHECK_OK(f->ops->truncate(f, 5, &err));
        CHECK_OK(g->ops->size(g, &size, &err));
        CHECK(size == 5 && reads(g, 0, 100, "hello"));
        CHECK_OK(f->ops->write(f, 7, "!", 1, &err));
        CHECK_OK(g->ops->size(g, &size, &err));
        CHECK(size == 8);
        CHECK_OK(s->ops->remove(s, "c1", SEG1, &err));
        CHECK_OK(s->ops->remove(s, "c1", SEG1, &err));
        CHECK(reads(g, 0, 5, "hello")); /* an open segment stays readable */
        f->ops->file_close(f);
        g->ops->file_close(g);
    }
}

TEST(listing) {
    FOR_EACH_STACK(s) {
        static const char *const make[] = {SEG3, SEG1, SEG2};
        void *lock;
        CHECK_OK(s->ops->lock(s, "c", &lock, &err));
        for (int i = 0; i < 3; i++) {
            struct log_file *f;
            CHECK_OK(s->ops->open(s, "c", make[i], true, &f, &err));
            f->ops->file_close(f);
        }
        s->ops->unlock(s, lock);
        char path[512];
        snprintf(path, sizeof path, "%s/c/00000001-junk.log", dir);
        close(open(path, O_CREAT | O_WRONLY, 0666));
        struct log_segment_name *v = NULL;
        size_t n;
        CHECK_OK(s->ops->list(s, "c", &v, &n, &err));
        CHECK(n == 3 && v[0].ordinal == 1 && v[1].ordinal == 2 && v[2].ordinal == 10);
        CHECK(v[0].first_seq == 1 && v[1].first_seq == 255 && v[2].first_seq == 2 &&
              !strcmp(v[1].name, SEG2));
        free(v);
        unlink(path);
        CHECK_OK(s->ops->remove_log(s, "c", &err));
        CHECK_OK(s->ops->remove_log(s, "c", &err));
        CHECK_OK(s->ops->list(s, "c", &v, &n, &err));
        CHECK(n == 0);
        free(v);
        snprintf(path, sizeof path, "%s/c", dir);
        CHECK(access(path, F_OK));
    }
}

/* Gives the directory of a log a time of modification that is past, a different one at each call. */
static void make_old(const char *cid) {
    static time_t second = 1000000000;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, cid);
    struct timespec t[2] = {{.tv_sec = second}, {.tv_sec = second}};
    second++;
    CHECK(!utimensat(AT_FDCWD, path, t, 0));
}

TEST(stamps_tell_of_every_change) {
    FOR_EACH_STACK(s) {
        struct log_stamp a, b;
        struct log_file *f;
        void *lock;
        s->ops->stamp(s, "c", &a);
        CHECK(!a.known); /* there is no log */
        CHECK_OK(s->ops->lock(s, "c", &lock, &err));
        s->ops->stamp(s, "c", &a);
        CHECK(!a.known); /* another change could have the same time */
        make_old("c");
        s->ops->stamp(s, "c", &a);
        s->ops->stamp(s, "c", &b);
        if (!a.known) fprintf(stderr, "no stamps on this filesystem\n");
        CHECK(log_stamp_equal(&a, &b) == a.known);
        CHECK_OK(s->ops->open(s, "c", SEG1, true, &f, &err));
        s->ops->stamp(s, "c", &b);
        CHECK(!log_stamp_equal(&a, &b));
        make_old("c");
        s->ops->stamp(s, "c", &a);
        CHECK_OK(f->ops->write(f, 0, "x", 1, &err)); /* what is in a segment is no matter of the list */
        s->ops->stamp(s, "c", &b);
        CHECK(log_stamp_equal(&a, &b) == a.known);
        CHECK_OK(s->ops->remove(s, "c", SEG1, &err));
        s->ops->stamp(s, "c", &b);
        CHECK(!log_stamp_equal(&a, &b));
        f->ops->file_close(f);
        s->ops->unlock(s, lock);
    }
}

TEST(bad_names) {
    FOR_EACH_STACK(s) {
        struct log_file *f;
        void *lock;
        static const char *const cids[] = {"", ".", "..", "a/b", "../x", ".hidden"};
        for (size_t i = 0; i < ARRAY_SIZE(cids); i++) {
            CHECK(s->ops->lock(s, cids[i], &lock, &err) == -ERR_INVALID);
            CHECK(s->ops->open(s, cids[i], SEG1, true, &f, &err) == -ERR_INVALID);
            CHECK(s->ops->remove_log(s, cids[i], &err) == -ERR_INVALID);
        }
        static const char *const names[] = {"", "x", "../" SEG1, "00000001-0000000000000001.logx",
                                            "0000000G-0000000000000001.log"};
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            CHECK(s->ops->open(s, "c", names[i], true, &f, &err) == -ERR_INVALID);
    }
}

/* ---- the lock: read a number, write it plus one, without any other care ---- */

enum { TIMES = 150 };
static int add_ones(struct log_store *s) {
    struct err e = ERR_INIT;
    for (int i = 0; i < TIMES; i++) {
        void *lock;
        struct log_file *f;
        struct buf b = BUF_INIT;
        char text[16];
        if (s->ops->lock(s, "n", &lock, &e) || s->ops->open(s, "n", SEG1, false, &f, &e)) return 1;
        if (f->ops->read(f, 0, 8, &b, &e)) return 2;
        int n = snprintf(text, sizeof text, "%08d", atoi(buf_str(&b)) + 1);
        if (i % 16 == 0) usleep(200);
        if (f->ops->write(f, 0, text, (size_t)n, &e)) return 3;
        buf_release(&b);
        f->ops->file_close(f);
        s->ops->unlock(s, lock);
    }
    return 0;
}
static void *add_thread(void *s) {
    return (void *)(intptr_t)add_ones(s);
}

TEST(lock_excludes_threads_and_processes) {
    fresh_dir();
    struct log_store *s = open_dir();
    struct log_file *f;
    void *lock;
    CHECK_OK(s->ops->lock(s, "n", &lock, &err));
    CHECK_OK(s->ops->open(s, "n", SEG1, true, &f, &err));
    s->ops->unlock(s, lock);
    pid_t pid[3];
    for (int i = 0; i < 3; i++) {
        pid[i] = fork();
        if (pid[i]) continue;
        struct log_store *own = open_dir();
        pthread_t t[2];
        intptr_t failed = 0;
        for (int k = 0; k < 2; k++) pthread_create(&t[k], NULL, add_thread, own);
        for (int k = 0; k < 2; k++) {
            void *r;
            pthread_join(t[k], &r);
            failed |= (intptr_t)r;
        }
        own->ops->close(own);
        _exit((int)failed);
    }
    for (int i = 0; i < 3; i++) {
        int status;
        waitpid(pid[i], &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    char want[16];
    snprintf(want, sizeof want, "%08d", 6 * TIMES);
    CHECK(reads(f, 0, 8, want));
    f->ops->file_close(f);
    s->ops->close(s);
}

/* A lock dies with its process, and other logs are not affected by it. */
TEST(lock_of_a_dead_process) {
    fresh_dir();
    struct log_store *s = open_dir();
    int fd[2];
    CHECK(!pipe(fd));
    pid_t pid = fork();
    if (!pid) {
        void *lock;
        struct log_store *own = open_dir();
        if (own->ops->lock(own, "x", &lock, &err)) _exit(1);
        if (write(fd[1], "x", 1) != 1) _exit(1);
        pause();
    }
    char c;
    CHECK(read(fd[0], &c, 1) == 1);
    void *lock;
    CHECK_OK(s->ops->lock(s, "y", &lock, &err));
    s->ops->unlock(s, lock);
    kill(pid, SIGKILL);
    CHECK_OK(s->ops->lock(s, "x", &lock, &err)); /* blocks until the process has ended */
    s->ops->unlock(s, lock);
    waitpid(pid, NULL, 0);
    close(fd[0]);
    close(fd[1]);
    s->ops->close(s);
}

/* The log is removed and made again while others wait for its lock: still one holder at a time. */
static void *remove_thread(void *arg) {
    struct log_store *s = arg;
    struct err e = ERR_INIT;
    for (int i = 0; i < 100; i++) {
        void *lock;
        if (s->ops->lock(s, "r", &lock, &e)) return (void *)"lock";
        struct log_file *f;
        if (s->ops->open(s, "r", SEG1, true, &f, &e)) {
            s->ops->unlock(s, lock);
            return (void *)"two holders";
        }
        f->ops->file_close(f);
        if (s->ops->remove(s, "r", SEG1, &e)) return (void *)"remove";
        s->ops->unlock(s, lock);
        if (i % 3 == 0 && s->ops->remove_log(s, "r", &e)) return (void *)"remove_log";
    }
    return NULL;
}

TEST(lock_and_remove_log) {
    fresh_dir();
    struct log_store *s = open_dir();
    pthread_t t[4];
    for (int k = 0; k < 4; k++) pthread_create(&t[k], NULL, remove_thread, s);
    const char *bad = NULL;
    for (int k = 0; k < 4; k++) {
        void *r;
        pthread_join(t[k], &r);
        if (r) bad = r;
    }
    if (bad) fprintf(stderr, "%s\n", bad);
    CHECK(!bad);
    s->ops->close(s);
}

TEST(faults) {
    fresh_dir();
    struct log_store *s = log_store_fault(open_dir());
    struct log_file *f;
    void *lock;
    CHECK_OK(s->ops->lock(s, "c", &lock, &err));
    log_store_fault_set(s, "open", 0, false);
    CHECK(s->ops->open(s, "c", SEG1, true, &f, &err) == -ERR_IO);
    CHECK_OK(s->ops->open(s, "c", SEG1, true, &f, &err));
    log_store_fault_set(s, "write", 1, true);
    CHECK_OK(f->ops->write(f, 0, "0123456789", 10, &err));
    CHECK_OK(f->ops->sync(f, &err));
    CHECK(f->ops->write(f, 10, "abcdefgh", 8, &err) == -ERR_IO && reads(f, 0, 100, "0123456789abcd"));
    CHECK_OK(f->ops->write(f, 10, "abcdefgh", 8, &err));
    log_store_fault_set(s, "write", 0, false);
    CHECK(f->ops->write(f, 18, "xx", 2, &err) == -ERR_IO && reads(f, 0, 100, "0123456789abcdefgh"));
    log_store_fault_set(s, "sync", 0, false);
    CHECK_OK(f->ops->write(f, 18, "x", 1, &err));
    CHECK(f->ops->sync(f, &err) == -ERR_IO);
    CHECK_OK(f->ops->sync(f, &err));
    s->ops->unlock(s, lock);
    f->ops->file_close(f);
    s->ops->close(s);
}
