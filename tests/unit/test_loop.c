/* Who reads requests: somebody always does, whatever the others wait for. Requests are bytes of a pipe. */
#include "test.h"

#include "fs/loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static struct {
    struct loop *loop;
    int fds[2];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned quick, blocked, passed; /* processed; waiting for a release; released */
    unsigned releases;
} t;

static void nothing(int sig) {}

static int receive(void *ctx, void *buffer) {
    ssize_t n = read(t.fds[0], buffer, 1);
    if (n < 0 && errno == EINTR) return 0;
    return n == 1 ? 1 : -1;
}

/* q: is done at once; b: waits for an r; B: the same and says so; m: the same and says that it may. */
static void process(void *ctx, void *buffer) {
    char kind = *(char *)buffer;
    if (kind == 'B') loop_will_block(t.loop);
    if (kind == 'm') loop_may_block(t.loop);
    pthread_mutex_lock(&t.lock);
    if (kind == 'q') t.quick++;
    if (kind == 'r') t.releases++;
    if (kind == 'b' || kind == 'B' || kind == 'm') {
        t.blocked++;
        pthread_cond_broadcast(&t.changed);
        while (!t.releases) pthread_cond_wait(&t.changed, &t.lock);
        t.releases--;
        t.blocked--;
        t.passed++;
    }
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.lock);
}

static bool pending(void *ctx) {
    struct pollfd p = {.fd = t.fds[0], .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static int client(void *buffer) {
    return 0;
}

static void *buffer_new(void *ctx) {
    return calloc(1, 8);
}

static const struct loop_ops ops = {receive, process, client, pending, buffer_new, free};

static void *run(void *arg) {
    return (void *)(intptr_t)loop_run(t.loop);
}

static pthread_t begin(void) {
    pthread_t thread;
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = nothing}, NULL);
    memset(&t, 0, sizeof t);
    if (pipe(t.fds)) abort();
    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.changed, NULL);
    t.loop = loop_new(&ops, NULL, SIGUSR1, 1000);
    if (pthread_create(&thread, NULL, run, NULL)) abort();
    return thread;
}

static bool finish(pthread_t thread) {
    void *r;
    pthread_join(thread, &r);
    loop_free(t.loop);
    close(t.fds[0]);
    if (t.fds[1] >= 0) close(t.fds[1]);
    return !r;
}

static void ask(const char *kinds) {
    if (write(t.fds[1], kinds, strlen(kinds)) != (ssize_t)strlen(kinds)) abort();
}

static void wait_until(const unsigned *counter, unsigned n) {
    pthread_mutex_lock(&t.lock);
    while (*counter < n) pthread_cond_wait(&t.changed, &t.lock);
    pthread_mutex_unlock(&t.lock);
}

TEST(one_after_the_other) {
    pthread_t thread = begin();
    for (unsigned i = 1; i <= 2000; i++) {
        ask("q");
        wait_until(&t.quick, i);
    }
    loop_end(t.loop);
    CHECK(finish(thread));
}

TEST(end_of_input) {
    pthread_t thread = begin();
    ask("qqqq");
    close(t.fds[1]);
    t.fds[1] = -1;
    CHECK(finish(thread));
    CHECK(t.quick == 4);
}

/* As many as may block at once do, in each way; what would release them is read all the same. */
TEST(somebody_reads_while_others_wait) {
    static const char kinds[] = "bBmbBm";
    enum { ROUNDS = 40 };
    pthread_t thread = begin();
    unsigned passed = 0;
    char releases[WORK_HERE_MAX + 3] = "qq";
    memset(releases + 2, 'r', WORK_HERE_MAX);
    for (int round = 0; round < ROUNDS; round++) {
        char way[WORK_HERE_MAX + 1] = {0};
        for (unsigned i = 0; i < WORK_HERE_MAX; i++) /* all the same, or mixed */
            way[i] = round % 4 < 3 ? kinds[round % 4] : kinds[i % 6];
        if (round % 3) {
            ask(way);
        } else { /* each when the one before waits already */
            for (unsigned i = 0; i < WORK_HERE_MAX; i++) {
                ask((char[]){way[i], 0});
                wait_until(&t.blocked, i + 1);
            }
        }
        wait_until(&t.blocked, WORK_HERE_MAX);
        ask(releases);
        passed += WORK_HERE_MAX;
        wait_until(&t.passed, passed);
    }
    loop_end(t.loop);
    CHECK(finish(thread));
    CHECK(t.quick == 2 * ROUNDS && t.passed == ROUNDS * WORK_HERE_MAX && !t.releases);
}

TEST(end_while_idle_and_before_it_runs) {
    for (int i = 0; i < 50; i++) {
        pthread_t thread = begin();
        if (i % 2) ask("q");
        loop_end(t.loop);
        CHECK(finish(thread));
    }
}
