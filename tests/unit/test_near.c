/* Threads and processors: holding, letting go, whom a thread follows, and what keeps a processor awake. */
#include "test.h"

#include "fs/near.h"
#include "util/clock.h"
#include "util/thread.h"

#include <sched.h>
#include <time.h>
#include <unistd.h>

static cpu_set_t allowed(void) {
    cpu_set_t now;
    CPU_ZERO(&now);
    sched_getaffinity(0, sizeof now, &now);
    return now;
}

static int first_of(const cpu_set_t *set) {
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, set)) return i;
    return -1;
}

static int last_of(const cpu_set_t *set) {
    for (int i = CPU_SETSIZE; i-- > 0;)
        if (CPU_ISSET(i, set)) return i;
    return -1;
}

static bool only(int processor) {
    cpu_set_t now = allowed();
    return CPU_COUNT(&now) == 1 && CPU_ISSET(processor, &now);
}

static void *get_allowed(void *arg) {
    *(cpu_set_t *)arg = allowed();
    return NULL;
}

TEST(a_held_thread_comes_back_to_where_it_could_run) {
    cpu_set_t before = allowed(), of_new;
    int first = first_of(&before), last = last_of(&before);
    pthread_t t;
    CHECK(thread_held() == -1);
    CHECK(thread_hold(first) && only(first) && thread_held() == first);
    CHECK(sched_getcpu() == first);
    CHECK(!thread_create(&t, get_allowed, &of_new) && !pthread_join(t, NULL));
    CHECK(CPU_EQUAL(&of_new, &before)); /* who is made by a held thread is not held */
    CHECK(thread_hold(last) && only(last));
    thread_let_go();
    cpu_set_t after = allowed();
    CHECK(CPU_EQUAL(&after, &before) && thread_held() == -1);
    thread_let_go();
    CHECK(!thread_hold(-1) && !thread_hold(CPU_SETSIZE) && !thread_hold(CPU_SETSIZE - 1));
    after = allowed();
    CHECK(CPU_EQUAL(&after, &before));
}

TEST(what_others_set_stands) {
    cpu_set_t before = allowed(), one;
    int first = first_of(&before), last = last_of(&before);
    CHECK(thread_hold(first));
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    CHECK(!sched_setaffinity(0, sizeof one, &one)); /* taskset */
    CHECK(first == last || !thread_hold(first));    /* it may not run there any more */
    thread_let_go();
    CHECK(only(last));
    CHECK(!sched_setaffinity(0, sizeof before, &before));
}

struct client {
    pthread_t thread;
    int id, processor;
    bool end;
};

static void *client_main(void *arg) {
    struct client *c = arg;
    if (!thread_hold(c->processor)) abort();
    __atomic_store_n(&c->id, gettid(), __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&c->end, __ATOMIC_SEQ_CST)) usleep(1000);
    return NULL;
}

static void client_start(struct client *c, int processor) {
    *c = (struct client){.processor = processor};
    if (thread_create(&c->thread, client_main, c)) abort();
    while (!__atomic_load_n(&c->id, __ATOMIC_SEQ_CST)) usleep(1000);
}

static void client_stop(struct client *c) {
    __atomic_store_n(&c->end, true, __ATOMIC_SEQ_CST);
    pthread_join(c->thread, NULL);
}

TEST(follows_a_client_that_is_alone) {
    cpu_set_t before = allowed();
    struct near near = {0};
    struct client a, b;
    client_start(&a, last_of(&before));
    client_start(&b, first_of(&before));
    CHECK(thread_processor(a.id) == a.processor && thread_processor(gettid()) >= 0);
    CHECK(thread_processor(0) == -1);
    near_follow(&near, a.id, true, 1);
    CHECK(only(a.processor));
    near_follow(&near, b.id, true, 2);
    CHECK(only(b.processor));
    near_follow(&near, b.id, false, 3); /* requests overlap */
    cpu_set_t after = allowed();
    CHECK(CPU_EQUAL(&after, &before));
    near_follow(&near, 0, true, 4); /* not known */
    CHECK(thread_held() == -1);
    near_follow(&near, a.id, true, 5);
    CHECK(only(a.processor));
    near_follow(&near, -1, true, 5); /* nobody waits */
    CHECK(only(a.processor));
    near_follow(&near, -1, false, 5);
    CHECK(thread_held() == -1);
    near_follow(&near, a.id, true, 5);
    client_stop(&a);
    client_stop(&b);
    for (int i = 0; i < 200; i++) near_follow(&near, a.id, true, 6); /* has ended */
    after = allowed();
    CHECK(CPU_EQUAL(&after, &before));
}

/* A client that is elsewhere whenever it is looked for is left in peace, for longer and longer. */
TEST(gives_up_a_client_that_is_moved) {
    cpu_set_t before = allowed();
    int first = first_of(&before), last = last_of(&before);
    struct near near = {0};
    unsigned followed = 0, late = 0;
    for (int64_t now_us = 0; now_us < 4000000 && first != last; now_us += 1000) {
        near_follow(&near, gettid(), true, now_us); /* this thread's own processor, which the test changes */
        followed += thread_held() >= 0;
        late += thread_held() >= 0 && now_us > 3000000;
        int other = thread_held() == first ? last : first;
        thread_let_go();
        CHECK(thread_hold(other)); /* moved */
        usleep(1);
        thread_let_go();
    }
    CHECK(first == last || (followed > 0 && late < 100));
    cpu_set_t after = allowed();
    CHECK(CPU_EQUAL(&after, &before));
}

static int64_t used_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

TEST(nothing_is_kept_awake_on_one_processor) {
    cpu_set_t before = allowed();
    CHECK(thread_hold(first_of(&before)) && thread_time_is_limited() && !awake_start(1000));
    thread_let_go();
    CHECK(thread_time_is_limited() || CPU_COUNT(&before) > 1);
}

TEST(awake_only_while_there_are_requests) {
    awake_poke(NULL, true, 0);
    awake_stop(NULL);
    CHECK(!awake_start(0));
    struct awake *a = awake_start(1000);
    CHECK(a || thread_time_is_limited());
    for (int i = 0; i < 200; i++) {
        awake_poke(a, i % 7 != 0, clock_mono_us(&clock_system));
        usleep(i % 10 ? 100 : 2000);
    }
    int64_t before = used_us(CLOCK_PROCESS_CPUTIME_ID);
    usleep(300000);
    CHECK(used_us(CLOCK_PROCESS_CPUTIME_ID) - before < 100000); /* it sleeps, or a third would be more */
    awake_stop(a);
}
