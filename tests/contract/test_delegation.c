/* Delegations: what is read while one is held is what is there, in any number of processes and threads. */
#include "../unit/test.h"
#include "backend/delegation.h"
#include "util/buf.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READERS = 3, WRITERS = 2, CHANGES = 150, STEP_US = 1000 };

static struct err err;
static char path[256];

__attribute__((destructor)) static void clean_up(void) {
    if (path[0]) unlink(path);
}
static struct delegation *fresh(void) {
    const char *tmp = getenv("TMPDIR");
    clean_up();
    snprintf(path, sizeof path, "%s/ldbfs-delegation-%d", tmp ? tmp : "/tmp", (int)getpid());
    return delegation_new(path);
}

/* What processes share. */
struct shared {
    uint64_t value, recalls, takes, wrong, ready, end; /* atomic */
};
static struct shared *share(void) {
    void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    return p;
}
static uint64_t get(const uint64_t *p) {
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
static void add(uint64_t *p) {
    __atomic_add_fetch(p, 1, __ATOMIC_SEQ_CST);
}
static void count_recall(void *ctx) {
    add(&((struct shared *)ctx)->recalls);
}

static void *change(void *arg) {
    int recall;
    struct err e = ERR_INIT;
    if (delegation_recall(arg, &recall, &e)) abort();
    delegation_resume(recall);
    return NULL;
}

struct slow {
    struct delegation *d;
    uint64_t given_back, held_in_call; /* atomic */
};
static void recalled_slowly(void *ctx) {
    struct slow *s = ctx;
    if (delegation_is_held(s->d)) add(&s->held_in_call);
    usleep(100000);
    add(&s->given_back);
}

TEST(a_change_waits_until_it_is_given_back) {
    struct delegation *d = fresh(), *other = delegation_new(path);
    struct slow s = {.d = d};
    int recall;
    CHECK(!delegation_is_held(d) && !delegation_take(d)); /* nobody would hear the recall */
    CHECK_OK(delegation_watch(d, recalled_slowly, &s, &err));
    CHECK(delegation_take(d) && delegation_is_held(d) && delegation_take(d));
    CHECK_OK(delegation_recall(other, &recall, &err));
    CHECK(get(&s.given_back) == 1 && !get(&s.held_in_call) && !delegation_is_held(d));
    CHECK(!delegation_take(d)); /* while it is being changed */
    delegation_resume(recall);
    CHECK(delegation_take(d));
    CHECK(!change(d) && get(&s.given_back) == 2); /* the holder's own change, too */
    delegation_free(d);
    delegation_free(other);
}

TEST(what_is_no_longer_watched_is_not_waited_for) {
    struct delegation *d = fresh();
    struct shared *s = share();
    CHECK_OK(delegation_watch(d, count_recall, s, &err));
    CHECK(delegation_take(d));
    delegation_unwatch(d);
    delegation_unwatch(d);
    CHECK(!delegation_is_held(d) && !delegation_take(d) && get(&s->recalls) == 1);
    CHECK(!change(d) && get(&s->recalls) == 1);
    delegation_free(d);
    delegation_free(NULL);
}

/* Somebody has tidied up: those who change open another file. */
TEST(another_file_has_the_path) {
    struct delegation *d = fresh(), *other = delegation_new(path);
    struct shared *s = share();
    CHECK_OK(delegation_watch(d, count_recall, s, &err));
    CHECK(delegation_take(d) && delegation_take(d) && get(&s->recalls) == 0);
    CHECK(!unlink(path) && !change(other));
    CHECK(delegation_take(d) && get(&s->recalls) == 1); /* another one */
    CHECK(!change(other) && get(&s->recalls) == 2);
    delegation_free(d);
    delegation_free(other);
}

TEST(none_is_to_be_had) {
    struct delegation *d = delegation_new("/nonexistent/names");
    struct shared *s = share();
    int recall;
    CHECK_OK(delegation_watch(d, count_recall, s, &err));
    CHECK(!delegation_take(d) && !delegation_is_held(d));
    CHECK(delegation_recall(d, &recall, &err) < 0 && strstr(err.text, "/nonexistent/names"));
    delegation_free(d);
}

static pid_t holder(struct shared *s) {
    pid_t pid = fork();
    if (pid) return pid;
    struct delegation *d = delegation_new(path);
    if (delegation_watch(d, count_recall, s, &err) || !delegation_take(d)) _exit(1);
    add(&s->ready);
    for (;;) pause();
}

TEST(a_holder_that_dies_holds_nothing) {
    struct delegation *d = fresh();
    struct shared *s = share();
    pid_t pid = holder(s);
    while (!get(&s->ready)) usleep(STEP_US);
    CHECK(!change(d) && get(&s->recalls) == 1); /* alive: it was asked */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    pid = holder(s);
    while (get(&s->ready) < 2) usleep(STEP_US);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CHECK(!change(d) && get(&s->recalls) == 1);
    delegation_free(d);
}

/* Reads once and goes on using that while it may: it must be what is there. */
static void use(struct shared *s, struct delegation *d, uint64_t *recalls) {
    uint64_t before = get(recalls);
    if (!delegation_take(d)) return;
    add(&s->takes);
    uint64_t kept = get(&s->value);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = get(&s->value);
        if (!delegation_is_held(d) || get(recalls) != before) return;
        if (now != kept) add(&s->wrong);
    }
}

static void reader(struct shared *s) {
    struct delegation *d = delegation_new(path);
    struct shared own = {0};
    if (delegation_watch(d, count_recall, &own, &err)) _exit(1);
    while (!get(&s->end)) use(s, d, &own.recalls);
    delegation_free(d);
    _exit(own.recalls ? 0 : 2); /* never asked: nothing was tried */
}

static void writer(struct shared *s) {
    struct delegation *d = delegation_new(path);
    int recall;
    for (int i = 0; i < CHANGES; i++) {
        if (delegation_recall(d, &recall, &err)) _exit(1);
        add(&s->value);
        delegation_resume(recall);
        usleep(STEP_US);
    }
    _exit(0);
}

TEST(what_is_kept_is_what_is_there) {
    struct delegation *d = fresh();
    struct shared *s = share();
    pid_t pids[READERS + WRITERS];
    int status, bad = 0;
    for (int i = 0; i < READERS + WRITERS; i++) {
        pids[i] = fork();
        if (!pids[i] && i < READERS) reader(s);
        if (!pids[i]) writer(s);
    }
    for (int i = READERS + WRITERS; i-- > 0;) {
        if (i + 1 == READERS) add(&s->end);
        waitpid(pids[i], &status, 0);
        bad += status != 0;
    }
    CHECK(!bad && get(&s->value) == (uint64_t)WRITERS * CHANGES);
    CHECK(get(&s->wrong) == 0 && get(&s->takes) > READERS);
    delegation_free(d);
}
