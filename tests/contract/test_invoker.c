/* The invoker's promises, over pools of several sizes. */
#include "../unit/test.h"
#include "backend/invoker.h"
#include "util/buf.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static struct err err;
static const unsigned sizes[] = {0, 1, 2, 8};

struct shared {
    struct invoker *iv;
    atomic_int running, most, calls;
    int depth;
};

static int square(void *ctx, const void *request, void *answer, struct err *e) {
    struct shared *s = ctx;
    s->calls++;
    int n = *(const int *)request;
    if (n < 0) return err_set(e, n == -1 ? ERR_TIMEOUT : ERR_INVALID, "call %d", n);
    *(int *)answer = n * n;
    return 0;
}

enum { N = 500 };
static int run(struct invoker *iv, struct shared *s, int *numbers, int *squares, size_t n) {
    const void *requests[N];
    void *answers[N];
    for (size_t i = 0; i < n; i++) {
        requests[i] = &numbers[i];
        answers[i] = &squares[i];
    }
    return invoke_all(iv, square, s, requests, answers, n, &err);
}

TEST(all_calls_run_once) {
    for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
        struct invoker *iv;
        CHECK_OK(invoker_pool_open(sizes[k], &iv, &err));
        for (size_t n = 0; n <= N; n = n * 2 + 1) {
            struct shared s = {.iv = iv};
            int numbers[N], squares[N] = {0};
            for (size_t i = 0; i < n; i++) numbers[i] = (int)i;
            CHECK_OK(run(iv, &s, numbers, squares, n));
            CHECK((size_t)s.calls == n);
            for (size_t i = 0; i < n; i++) CHECK(squares[i] == (int)(i * i));
        }
        invoker_close(iv);
    }
    invoker_close(NULL);
}

TEST(the_lowest_error_is_reported) {
    for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
        struct invoker *iv;
        CHECK_OK(invoker_pool_open(sizes[k], &iv, &err));
        for (int round = 0; round < 50; round++) {
            struct shared s = {.iv = iv};
            int numbers[N], squares[N] = {0};
            for (int i = 0; i < N; i++) numbers[i] = i;
            numbers[N - 1] = -3;
            numbers[N / 2] = -2;
            numbers[round] = -1;
            CHECK(run(iv, &s, numbers, squares, N) == -ERR_TIMEOUT && err.code == ERR_TIMEOUT &&
                  !strcmp(err.text, "call -1"));
            CHECK(s.calls == N && squares[N - 2] == (N - 2) * (N - 2)); /* the others have ended too */
            CHECK(invoke_all(iv, square, &s, (const void *[]){&numbers[round]}, (void *[]){NULL}, 1, &err) ==
                  -ERR_TIMEOUT);
        }
        invoker_close(iv);
    }
}

/* Calls from inside calls, far deeper than there are threads. */
static int tree(void *ctx, const void *request, void *answer, struct err *e) {
    struct shared *s = ctx;
    int depth = *(const int *)request, child = depth - 1, sums[3] = {0};
    int now = ++s->running;
    if (now > s->most) s->most = now;
    int r = 0;
    *(int *)answer = 1;
    if (depth > 0) {
        const void *requests[] = {&child, &child, &child};
        void *answers[] = {&sums[0], &sums[1], &sums[2]};
        r = invoke_all(s->iv, tree, s, requests, answers, 3, e);
    }
    for (int i = 0; i < 3; i++) *(int *)answer += sums[i];
    s->running--;
    return r;
}

TEST(nested_calls_do_not_deadlock) {
    for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
        struct invoker *iv;
        CHECK_OK(invoker_pool_open(sizes[k], &iv, &err));
        struct shared s = {.iv = iv};
        int depth = 6, sum = 0;
        CHECK_OK(invoke_all(iv, tree, &s, (const void *[]){&depth}, (void *[]){&sum}, 1, &err));
        CHECK(sum == (3 * 3 * 3 * 3 * 3 * 3 * 3 - 1) / 2 && s.running == 0);
        invoker_close(iv);
    }
}

/* With n threads and the caller, n + 1 calls are under way at once: each waits until all have started. */
static int meet_all(void *ctx, const void *request, void *answer, struct err *e) {
    pthread_barrier_wait(ctx);
    return 0;
}
TEST(calls_run_concurrently) {
    struct invoker *iv;
    CHECK_OK(invoker_pool_open(3, &iv, &err));
    for (int i = 0; i < 200; i++) {
        pthread_barrier_t b;
        pthread_barrier_init(&b, NULL, 4);
        const void *requests[4] = {0};
        void *answers[4] = {0};
        CHECK_OK(invoke_all(iv, meet_all, &b, requests, answers, 4, &err));
        pthread_barrier_destroy(&b);
    }
    invoker_close(iv);
}

static void *caller(void *arg) {
    struct shared *s = arg;
    for (int round = 0; round < 50; round++) {
        int numbers[32], squares[32];
        const void *requests[32];
        void *answers[32];
        for (int i = 0; i < 32; i++) {
            numbers[i] = i + round;
            requests[i] = &numbers[i];
            answers[i] = &squares[i];
        }
        struct err e = ERR_INIT;
        if (invoke_all(s->iv, square, s, requests, answers, 32, &e)) return (void *)1;
        for (int i = 0; i < 32; i++)
            if (squares[i] != (i + round) * (i + round)) return (void *)2;
    }
    return NULL;
}
TEST(many_callers) {
    struct invoker *iv;
    CHECK_OK(invoker_pool_open(3, &iv, &err));
    struct shared s = {.iv = iv};
    pthread_t t[6];
    for (int k = 0; k < 6; k++) pthread_create(&t[k], NULL, caller, &s);
    for (int k = 0; k < 6; k++) {
        void *r;
        pthread_join(t[k], &r);
        CHECK(!r);
    }
    CHECK(s.calls == 6 * 50 * 32);
    invoker_close(iv);
}

static int is_blocked(void *ctx, const void *request, void *answer, struct err *e) {
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    if (!pthread_equal(pthread_self(), *(pthread_t *)ctx)) *(int *)answer = sigismember(&set, SIGTERM);
    usleep(100);
    return 0;
}
TEST(workers_take_no_signals) {
    struct invoker *iv;
    CHECK_OK(invoker_pool_open(4, &iv, &err));
    pthread_t self = pthread_self();
    int blocked[32];
    const void *requests[32] = {0};
    void *answers[32];
    for (int i = 0; i < 32; i++) {
        blocked[i] = 1;
        answers[i] = &blocked[i];
    }
    CHECK_OK(invoke_all(iv, is_blocked, &self, requests, answers, 32, &err));
    for (int i = 0; i < 32; i++) CHECK(blocked[i]);
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    CHECK(!sigismember(&set, SIGTERM));
    invoker_close(iv);
}
