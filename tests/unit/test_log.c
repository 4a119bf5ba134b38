/* The log: numbering, torn tails, void segments, damage, failed syncs and writes, trimming, two appenders. */
#include "index/log.h"
#include "test.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char cid[] = "0123456789abcdef0123456789abcdef";
static char dir[64];
static struct err err;

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

static struct log_store *store_fresh(void) {
    struct log_store *s;
    snprintf(dir, sizeof dir, "/tmp/ldbfs-log-XXXXXX");
    if (!mkdtemp(dir) || log_store_dir_open(dir, &s, &err)) abort();
    return s;
}

static void store_done(struct log_store *s) {
    s->ops->close(s);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Appends n records "<prefix><i>" as one batch. */
static int append(struct log *log, const char *prefix, int n) {
    struct log_record recs[64];
    static char ids[64][32];
    for (int i = 0; i < n; i++) {
        snprintf(ids[i], sizeof ids[i], "%s%d", prefix, i);
        recs[i] = (struct log_record){.op = LOG_PUT,
                                      .schema_version = 1,
                                      .id = ids[i],
                                      .id_len = (uint32_t)strlen(ids[i]),
                                      .body = "{}",
                                      .body_len = 2};
    }
    return log_append(log, recs, (size_t)n, 0, NULL, NULL, &err);
}

struct seen {
    uint64_t n, last;
    bool gap;
    char ids[4000];
};

static int see(void *p, const struct log_record *rec, struct err *e) {
    struct seen *s = p;
    if (s->n && rec->seq != s->last + 1) s->gap = true;
    s->last = rec->seq;
    s->n++;
    if (s->n < 200)
        snprintf(s->ids + strlen(s->ids), sizeof s->ids - strlen(s->ids), "%.*s ", (int)rec->id_len, rec->id);
    return 0;
}

static int read_all(struct log_store *store, struct seen *s) {
    struct log *log;
    struct log_cursor c = {0};
    *s = (struct seen){0};
    log_open(store, cid, &clock_system, &log, &err);
    int r = log_read(log, &c, see, s, &err);
    log_close(log);
    return r;
}

/* The path of the n-th segment file. */
static void segment_path(struct log_store *store, size_t n, char out[200]) {
    struct log_segment_name *names = NULL;
    size_t count;
    store->ops->list(store, cid, &names, &count, &err);
    snprintf(out, 200, "%s/%s/%s", dir, cid, n < count ? names[n].name : "none");
    free(names);
}

TEST(numbers_and_cursors) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s;
    struct log_cursor c = {0};
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "a", 3));
    CHECK_OK(log_sync(log, 3, &err));
    CHECK_OK(append(log, "b", 2));
    s = (struct seen){0};
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(s.n == 5 && s.last == 5 && !s.gap && c.next_seq == 6);
    CHECK_OK(append(log, "c", 1));
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(s.n == 6 && !s.gap && !strcmp(s.ids, "a0 a1 a2 b0 b1 c0 "));
    c = (struct log_cursor){.next_seq = 2}; /* starts inside a batch */
    s = (struct seen){0};
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(s.n == 5 && !strncmp(s.ids, "a1 a2 b0", 8));
    log_close(log);
    store_done(store);
}

TEST(torn_tail_is_cut) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s;
    char path[200];
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "a", 3));
    log_close(log);
    segment_path(store, 0, path);
    struct stat st;
    CHECK(!stat(path, &st));
    for (int cut = 1; cut < 60; cut += 7) { /* another process dies inside its append */
        CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
        CHECK_OK(append(log, "torn", 1));
        log_close(log);
        CHECK(!truncate(path, st.st_size + cut));
        CHECK_OK(read_all(store, &s));
        CHECK(s.n == 3);
    }
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "b", 1));
    log_close(log);
    CHECK_OK(read_all(store, &s));
    CHECK(s.n == 4 && s.last == 4 && !strcmp(s.ids, "a0 a1 a2 b0 "));
    store_done(store);
}

TEST(damage_before_the_end_is_an_error) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s;
    char path[200];
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    for (int i = 0; i < 3; i++) {
        CHECK_OK(append(log, "a", 2));
        CHECK_OK(log_sync(log, (uint64_t)i * 2 + 2, &err));
    }
    log_close(log);
    segment_path(store, 0, path);
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0 && pwrite(fd, "XX", 2, 64 + 60) == 2);
    close(fd);
    CHECK(read_all(store, &s) == -ERR_CORRUPT);
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK(append(log, "b", 1) == -ERR_CORRUPT); /* nothing acknowledged is cut away */
    log_close(log);
    store_done(store);
}

/* One bit anywhere in a log whose records are acknowledged: an error, or (in front of nothing) never fewer
 * records. */
TEST(every_flipped_byte_is_noticed) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s;
    char path[200];
    struct stat st;
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    for (int i = 0; i < 5; i++) CHECK_OK(append(log, "a", 2)); /* one session: synced once at its end */
    CHECK_OK(log_sync(log, 10, &err));
    log_close(log);
    segment_path(store, 0, path);
    CHECK(!stat(path, &st));
    int fd = open(path, O_RDWR);
    for (off_t off = 0; off < st.st_size; off++) {
        uint8_t byte, bad;
        CHECK(pread(fd, &byte, 1, off) == 1);
        bad = byte ^ 0x10;
        CHECK(pwrite(fd, &bad, 1, off) == 1);
        int r = read_all(store, &s);
        if (!r && s.n != 10)
            fprintf(stderr, "offset %lld: %llu records\n", (long long)off, (unsigned long long)s.n);
        CHECK(r == -ERR_CORRUPT || r == -ERR_CONFLICT || s.n == 10);
        CHECK(pwrite(fd, &byte, 1, off) == 1);
    }
    close(fd);
    store_done(store);
}

TEST(void_segment_is_removed) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct log_file *file;
    struct seen s;
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "a", 3));
    /* A rewriter died before its header: claims everything from 2 on. */
    CHECK_OK(store->ops->open(store, cid, "00000002-0000000000000002.log", true, &file, &err));
    CHECK_OK(file->ops->write(file, 64, "half a copy", 11, &err));
    file->ops->file_close(file);
    CHECK_OK(read_all(store, &s));
    CHECK(s.n == 3);
    CHECK_OK(append(log, "b", 1));
    CHECK_OK(read_all(store, &s));
    CHECK(s.n == 4 && s.last == 4);
    log_close(log);
    store_done(store);
}

TEST(failed_sync_moves_to_a_new_segment) {
    struct log_store *inner = store_fresh(), *store = log_store_fault(inner);
    struct log *log;
    struct seen s;
    char path[200];
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "a", 2));
    CHECK_OK(log_sync(log, 2, &err));
    CHECK_OK(append(log, "b", 2));
    log_store_fault_set(store, "sync", 0, false);
    CHECK_OK(log_sync(log, 4, &err)); /* recovered on a new segment */
    segment_path(store, 1, path);
    CHECK(strstr(path, "00000002-0000000000000003.log"));
    CHECK_OK(append(log, "c", 1));
    CHECK_OK(log_sync(log, 5, &err));
    CHECK_OK(read_all(store, &s));
    CHECK(s.n == 5 && !s.gap && !strcmp(s.ids, "a0 a1 b0 b1 c0 "));
    log_close(log);
    store_done(store);
}

/* Fails every n-th write, sync and open in turn: what was acknowledged is there, nothing twice, numbers
 * without a gap. */
static int fault_round(const char *op, unsigned after, bool short_write) {
    struct log_store *inner = store_fresh(), *store = log_store_fault(inner);
    struct log *log;
    struct seen s;
    uint64_t acked = 0;
    int bad = 0;
    log_open(store, cid, &clock_system, &log, &err);
    log_store_fault_set(store, op, after, short_write);
    for (int i = 0; i < 6; i++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "p%d-", i);
        if (append(log, prefix, 3)) continue;
        uint64_t last;
        bool any;
        if (log_end(log, &last, &any, &err) || log_sync(log, last, &err)) continue;
        acked += 3;
    }
    log_close(log);
    log_store_fault_set(store, op, 1000000, false);
    int r = read_all(store, &s);
    if (r || s.gap || s.n < acked || (s.n && s.last != s.n)) bad = 1;
    for (int i = 0; i < 6 && !bad; i++) { /* none twice */
        char id[16];
        snprintf(id, sizeof id, "p%d-0 ", i);
        char *at = strstr(s.ids, id);
        if (at && strstr(at + 1, id)) bad = 1;
    }
    if (bad)
        fprintf(stderr, "%s after %u short %d: r %d n %llu acked %llu ids %s (%s)\n", op, after, short_write,
                r, (unsigned long long)s.n, (unsigned long long)acked, s.ids, err.text);
    store_done(store);
    return bad;
}

TEST(every_fault) {
    static const char *const ops[] = {"write", "sync", "open"};
    for (size_t o = 0; o < 3; o++)
        for (unsigned after = 0; after < 14; after++) {
            CHECK(!fault_round(ops[o], after, false));
            CHECK(!fault_round(ops[o], after, true));
        }
}

TEST(trim_keeps_numbers) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s;
    struct log_cursor c = {.next_seq = 1};
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "a", 10));
    CHECK_OK(log_trim(log, 10, 1, &err)); /* rolls, removes the old one */
    CHECK(log_read(log, &c, see, &s, &err) == -ERR_CONFLICT);
    log_close(log);
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "b", 1));
    c = (struct log_cursor){.next_seq = 11};
    s = (struct seen){0};
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(s.n == 1 && s.last == 11);
    log_close(log);
    store_done(store);
}

/* Another process (here: another log over the same directory) builds and removes what it has built. */
static void *trim_thread(void *p) {
    struct log_store *store = p;
    struct log_record rec = {
        .op = LOG_PUT, .schema_version = 1, .id = "x", .id_len = 1, .body = "{}", .body_len = 2};
    struct log *log;
    struct err e = ERR_INIT;
    uint64_t last;
    bool any;
    intptr_t r = 0;
    log_open(store, cid, &clock_system, &log, &e);
    for (int i = 0; i < 400 && !r; i++) {
        r = log_append(log, &rec, 1, 0, NULL, NULL, &e);
        if (!r) r = log_end(log, &last, &any, &e);
        if (!r) r = log_trim(log, last, 0, &e);
    }
    if (r) fprintf(stderr, "trim: %s\n", e.text);
    log_close(log);
    return (void *)r;
}

/* The newest segment may be replaced between a look at the directory and its opening. */
TEST(the_end_is_found_while_segments_go) {
    struct log_store *store = store_fresh();
    struct log *log = NULL;
    pthread_t t;
    uint64_t last = 0, before = 0;
    int64_t time;
    bool any = false, ok = true;
    void *failed;
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK(!pthread_create(&t, NULL, trim_thread, store));
    while (ok && last < 400) {
        ok = !(last % 2 ? log_last(log, &last, &time, &err) : log_end(log, &last, &any, &err)) &&
             last >= before;
        before = last;
    }
    if (!ok) fprintf(stderr, "%llu %s\n", (unsigned long long)last, err.text);
    pthread_join(t, &failed);
    CHECK(ok && !failed);
    log_close(log);
    store_done(store);
}

static int overwrite(const char *path, uint64_t off, const void *data, size_t len) {
    int fd = open(path, O_WRONLY);
    bool good = fd >= 0 && pwrite(fd, data, len, (off_t)off) == (ssize_t)len;
    close(fd);
    return good ? 0 : -1;
}

/* The machine that wrote the last batch lost it: its file is shorter, or has the reserved zeros there. */
static void check_replaced(bool shorter) {
    static const uint8_t zeros[4096];
    struct log_store *store = store_fresh();
    struct log *a, *b;
    struct seen s = {0};
    struct log_cursor c = {0};
    char path[200];
    CHECK_OK(log_open(store, cid, &clock_system, &a, &err));
    CHECK_OK(append(a, "a", 2));
    segment_path(store, 0, path);
    CHECK_OK(log_read(a, &c, see, &s, &err));
    uint64_t end = c.off;
    CHECK_OK(append(a, "lost", 2));
    CHECK_OK(log_read(a, &c, see, &s, &err)); /* sees 4 */
    CHECK(s.n == 4);
    CHECK(!(shorter ? truncate(path, (off_t)end) : overwrite(path, end, zeros, c.off - end)));
    CHECK_OK(log_open(store, cid, &clock_system, &b, &err));
    CHECK_OK(append(b, "new", 2));
    CHECK_OK(append(b, "more", 2));
    CHECK(log_read(b, &c, see, &s, &err) == -ERR_CONFLICT);
    log_close(a);
    log_close(b);
    store_done(store);
}

TEST(a_reader_notices_replaced_history) {
    check_replaced(true);
    check_replaced(false);
}

/* Small batches have zeros reserved behind them: they are no records, not damage, and gone after a clean end.
 */
TEST(reserved_zeros_are_nothing) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s = {0};
    struct log_cursor c = {0};
    struct stat st;
    uint64_t bytes = 1;
    char path[200];
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "a", 2));
    segment_path(store, 0, path);
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(!stat(path, &st));
    bool reserved = (uint64_t)st.st_size > c.off; /* not every filesystem can */
    CHECK_OK(log_pending_bytes(log, &c, &bytes, &err));
    CHECK(bytes == 0);
    for (int i = 0; i < 3; i++) CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(s.n == 2 && c.next_seq == 3);
    for (int i = 0; i < 1000; i++) CHECK_OK(append(log, "more", 3)); /* beyond what was reserved at first */
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(s.n == 3002 && !s.gap);
    log_close(log);
    off_t before = st.st_size;
    CHECK(!stat(path, &st));
    CHECK(!reserved || st.st_size > before);
    CHECK((uint64_t)st.st_size == c.off);
    store_done(store);
}

/* Power is lost while a batch is written: its first page is not there, a later one is. */
TEST(remains_behind_zeros_are_cut) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s = {0};
    struct log_cursor c = {0};
    char path[200], junk[5000];
    memset(junk, 'j', sizeof junk);
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    CHECK_OK(append(log, "a", 2));
    segment_path(store, 0, path);
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(!overwrite(path, c.off + 8192, junk, sizeof junk));
    CHECK_OK(log_read(log, &c, see, &s, &err));
    CHECK(s.n == 2);
    for (int i = 0; i < 400; i++) CHECK_OK(append(log, "b", 1)); /* across the place */
    CHECK_OK(read_all(store, &s));
    CHECK(s.n == 402 && !s.gap);
    log_close(log);
    store_done(store);
}

enum { WRITERS = 4, ROUNDS = 25 };

TEST(processes_append_side_by_side) {
    struct log_store *store = store_fresh();
    struct seen s;
    for (int w = 0; w < WRITERS; w++) {
        if (fork()) continue;
        struct log *log;
        char prefix[16];
        snprintf(prefix, sizeof prefix, "w%d-", w);
        if (log_open(store, cid, &clock_system, &log, &err)) _exit(1);
        for (int i = 0; i < ROUNDS; i++) {
            uint64_t last;
            bool any;
            if (append(log, prefix, 1 + i % 3) || log_end(log, &last, &any, &err) ||
                log_sync(log, last, &err))
                _exit(2);
        }
        _exit(0);
    }
    int status, bad = 0;
    while (wait(&status) > 0) bad |= status;
    CHECK(!bad);
    CHECK_OK(read_all(store, &s));
    uint64_t want = 0;
    for (int i = 0; i < ROUNDS; i++) want += (uint64_t)(1 + i % 3);
    CHECK(s.n == want * WRITERS && !s.gap && s.last == s.n);
    store_done(store);
}

/* Gives the log's directory a time of modification that is past, a different one at each call. */
static void make_old(void) {
    static time_t second = 1000000000;
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, cid);
    struct timespec t[2] = {{.tv_sec = second}, {.tv_sec = second}};
    second++;
    utimensat(AT_FDCWD, path, t, 0);
}

static int lists;
static int (*real_list)(struct log_store *, const char *, struct log_segment_name **, size_t *, struct err *);
static int count_list(struct log_store *s, const char *c, struct log_segment_name **ret, size_t *ret_n,
                      struct err *e) {
    lists++;
    return real_list(s, c, ret, ret_n, e);
}

TEST(an_unchanged_list_is_not_read_again) {
    struct log_store *store = store_fresh();
    struct log_store_ops counted = *store->ops;
    struct log *log, *other;
    struct log_stamp stamp;
    uint64_t last;
    bool any;
    real_list = counted.list;
    counted.list = count_list;
    CHECK_OK(log_open(store, cid, &clock_system, &other, &err));
    CHECK_OK(append(other, "a", 3));
    store->ops = &counted;
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    make_old();
    store->ops->stamp(store, cid, &stamp);
    CHECK_OK(log_end(log, &last, &any, &err));
    CHECK(any && last == 3);
    lists = 0;
    CHECK_OK(append(other, "b", 2)); /* in the segment that is known */
    int of_append = lists;
    CHECK_OK(log_end(log, &last, &any, &err));
    CHECK(any && last == 5 && (!stamp.known || lists == of_append));
    CHECK_OK(log_trim(other, 5, 1, &err)); /* a new segment, the old one goes */
    CHECK_OK(append(other, "c", 1));
    CHECK_OK(log_end(log, &last, &any, &err));
    CHECK(any && last == 6);
    make_old();
    CHECK_OK(log_end(log, &last, &any, &err));
    CHECK(any && last == 6);
    /* A segment whose creator died, or has not written its header yet, counts once it has one: the directory
     * does not tell. */
    char from[200], to[300];
    segment_path(store, 0, from);
    snprintf(to, sizeof to, "%s/%s/00000003-0000000000000007.log", dir, cid);
    int fd = open(to, O_CREAT | O_RDWR, 0666);
    CHECK(fd >= 0);
    make_old();
    CHECK_OK(log_end(log, &last, &any, &err));
    lists = 0;
    CHECK_OK(log_end(log, &last, &any, &err));
    CHECK(any && last == 6 && lists > 0);
    close(fd);
    CHECK_OK(append(log, "d", 1)); /* removes it */
    CHECK_OK(log_end(other, &last, &any, &err));
    CHECK(any && last == 7);
    log_close(log);
    log_close(other);
    store->ops->close(store);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

enum { ACKNOWLEDGED = 300 };

/* A reader sees what another process has acknowledged before it began, whatever it keeps of the list. */
TEST(nothing_acknowledged_is_missed) {
    struct log_store *store = store_fresh();
    _Atomic uint64_t *acked =
        mmap(NULL, sizeof *acked, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (!pid) {
        struct log *log;
        if (log_open(store, cid, &clock_system, &log, &err)) _exit(1);
        for (uint64_t i = 1; i <= ACKNOWLEDGED; i++) {
            if (append(log, "x", 1)) _exit(2);
            atomic_store(acked, i);
            if (i % 7 == 0 && log_trim(log, i, 1, &err)) _exit(3);
            if (i % 5 == 0) make_old();
        }
        _exit(0);
    }
    struct log *log;
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    uint64_t before, last, missed = 0;
    bool any;
    do {
        before = atomic_load(acked);
        int r = log_end(log, &last, &any, &err);
        CHECK(!r || r == -ERR_NOT_FOUND); /* a segment that is removed while it is opened */
        missed += !r && (any ? last : 0) < before;
    } while (before < ACKNOWLEDGED);
    int status;
    waitpid(pid, &status, 0);
    CHECK(!status && !missed);
    log_close(log);
    store_done(store);
    munmap(acked, sizeof *acked);
}

static void *sync_thread(void *p) {
    struct log *log = p;
    for (int i = 0; i < ROUNDS; i++) {
        struct log_record rec = {.op = LOG_DELETE, .schema_version = 1, .id = "x", .id_len = 1, .body = ""};
        struct err e = ERR_INIT;
        if (log_append(log, &rec, 1, 0, NULL, NULL, &e) || log_sync(log, rec.seq, &e)) return p;
    }
    return NULL;
}

TEST(threads_share_syncs) {
    struct log_store *store = store_fresh();
    struct log *log;
    struct seen s;
    pthread_t t[8];
    void *failed;
    CHECK_OK(log_open(store, cid, &clock_system, &log, &err));
    for (size_t i = 0; i < 8; i++) CHECK(!pthread_create(&t[i], NULL, sync_thread, log));
    for (size_t i = 0; i < 8; i++) {
        pthread_join(t[i], &failed);
        CHECK(!failed);
    }
    CHECK(log_fsyncs(log) <= 8 * ROUNDS);
    log_close(log);
    CHECK_OK(read_all(store, &s));
    CHECK(s.n == 8 * ROUNDS && !s.gap);
    store_done(store);
}
