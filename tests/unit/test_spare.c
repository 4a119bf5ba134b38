/* Pieces of work with and without help: all are done, by one of two, and what nobody looks at any more is
 * freed once. */
#include "test.h"

#include "util/buf.h"
#include "util/spare.h"

#include <pthread.h>
#include <unistd.h>

enum { PIECES = 12, ROUNDS = 20000, CLIENTS = 3 };

struct sum {
    struct spare_job job;
    uint64_t seed, results[SPARE_PIECES_MAX];
    pthread_t owner;
    uint32_t by_others; /* atomic */
    bool stall;         /* others wait in their first piece until `go` */
};
static int go, freed, stalled; /* atomic */

static int get(const int *p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static uint64_t expected(uint64_t seed, uint32_t i) {
    uint64_t x = seed + i;
    for (int k = 0; k < 200; k++) x = x * 6364136223846793005u + 1442695040888963407u;
    return x;
}

static void piece(struct spare_job *j, uint32_t i) {
    struct sum *s = (struct sum *)j;
    if (!pthread_equal(pthread_self(), s->owner)) {
        __atomic_add_fetch(&s->by_others, 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&stalled, s->stall, __ATOMIC_RELEASE);
        while (s->stall && !get(&go)) usleep(100);
    } else {
        while (s->stall && !get(&stalled)) usleep(100);
    }
    s->results[i] = expected(s->seed, i);
}

static void sum_free(struct spare_job *j) {
    free(j);
    __atomic_add_fetch(&freed, 1, __ATOMIC_RELEASE);
}

static struct sum *sum_new(uint64_t seed, uint32_t n, bool stall) {
    struct sum *s = xcalloc(1, sizeof *s);
    *s = (struct sum){.job = {.n = n, .piece = piece, .free = sum_free}, .seed = seed, .stall = stall};
    s->owner = pthread_self();
    return s;
}

static bool is_right(const struct sum *s, uint64_t done) {
    for (uint32_t i = 0; i < s->job.n; i++)
        if ((done >> i & 1) && s->results[i] != expected(s->seed, i)) return false;
    return true;
}

struct helper {
    pthread_t thread;
    int end; /* atomic */
};
static void *help(void *arg) {
    struct helper *h = arg;
    spare_begin_helping();
    while (!get(&h->end)) spare_help();
    spare_end_helping();
    return NULL;
}
static void helper_start(struct helper *h) {
    *h = (struct helper){0};
    if (pthread_create(&h->thread, NULL, help, h)) abort();
    while (!spare_is_there()) usleep(100);
}
static void helper_stop(struct helper *h) {
    __atomic_store_n(&h->end, 1, __ATOMIC_RELEASE);
    pthread_join(h->thread, NULL);
}

TEST(alone) {
    freed = 0;
    CHECK(!spare_is_there());
    spare_help();
    for (uint32_t n = 1; n <= SPARE_PIECES_MAX; n++) {
        struct sum *s = sum_new(n, n, false);
        uint64_t done = spare_run(&s->job);
        CHECK(done == (n == 64 ? ~0ull : (1ull << n) - 1) && is_right(s, done) && !s->by_others);
        spare_end(&s->job);
        CHECK(freed == (int)n);
    }
}

TEST(helped) {
    struct helper h;
    uint64_t by_others = 0, missing = 0;
    freed = 0;
    helper_start(&h);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct sum *s = sum_new(round, PIECES, false);
        uint64_t done = spare_run(&s->job);
        CHECK(is_right(s, done));
        missing += done != (1ull << PIECES) - 1;
        by_others += __atomic_load_n(&s->by_others, __ATOMIC_RELAXED);
        spare_end(&s->job);
    }
    helper_stop(&h);
    spare_tidy();
    CHECK(!spare_is_there() && get(&freed) == ROUNDS);
    CHECK(by_others > 0 && missing < ROUNDS);
}

TEST(who_helps_is_not_waited_for) {
    struct helper h;
    freed = go = stalled = 0;
    helper_start(&h);
    struct sum *s = sum_new(7, PIECES, true);
    uint64_t done = spare_run(&s->job);
    CHECK(done == (1ull << (PIECES - 1)) - 1 && is_right(s, done)); /* all but the last, which it has begun */
    spare_end(&s->job);
    CHECK(get(&freed) == 0);
    struct sum *next = sum_new(8, PIECES, false); /* and nobody takes it */
    CHECK(spare_run(&next->job) == (1ull << PIECES) - 1 && !next->by_others);
    spare_end(&next->job);
    CHECK(get(&freed) == 1);
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    helper_stop(&h);
    CHECK(get(&freed) == 1); /* not by the one who helped */
    spare_tidy();
    CHECK(get(&freed) == 2);
}

static void *client(void *arg) {
    uint64_t wrong = 0;
    for (uint32_t round = 0; round < ROUNDS / 4; round++) {
        struct sum *s = sum_new(round * 1000, 2 + round % 7, false);
        wrong += !is_right(s, spare_run(&s->job));
        spare_end(&s->job);
    }
    *(uint64_t *)arg = wrong;
    return NULL;
}

TEST(several_want_help_at_once) {
    struct helper h;
    pthread_t threads[CLIENTS];
    uint64_t wrong[CLIENTS];
    freed = 0;
    helper_start(&h);
    for (int i = 0; i < CLIENTS; i++) CHECK(!pthread_create(&threads[i], NULL, client, &wrong[i]));
    for (int i = 0; i < CLIENTS; i++) pthread_join(threads[i], NULL);
    helper_stop(&h);
    spare_tidy();
    for (int i = 0; i < CLIENTS; i++) CHECK(wrong[i] == 0);
    CHECK(get(&freed) == CLIENTS * (ROUNDS / 4));
}
