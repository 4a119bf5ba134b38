/* See near.h. */
#include "near.h"

#include "util/buf.h"
#include "util/clock.h"
#include "util/spare.h"
#include "util/thread.h"

#include <semaphore.h>

enum {
    SPINS = 32,        /* between two looks at the clock */
    PAUSE_MAX = 64,    /* requests between two looks at where a client is that stays */
    LOOKS_JUDGED = 16, /* after so many, did it stay? */
    FIRST_REST_US = 10000,
    MAX_REST_US = 1000000 /* what following costs in vain stays below one in a hundred */
};

/* ---- awake ---- */

struct awake {
    pthread_t thread;
    sem_t poked;
    int64_t until_us; /* atomic, as the next two */
    bool asleep, end;
    unsigned us;
};

static void spin(void) {
    for (int i = 0; i < SPINS; i++) {
#ifdef __x86_64__
        __builtin_ia32_pause();
#else
        __asm__ volatile("" ::: "memory");
#endif
    }
}

static bool is_time(struct awake *a) {
    return clock_mono_us(&clock_system) < __atomic_load_n(&a->until_us, __ATOMIC_SEQ_CST);
}

static void *awake_main(void *arg) {
    struct awake *a = arg;
    if (!thread_give_way()) return NULL;
    while (!__atomic_load_n(&a->end, __ATOMIC_SEQ_CST)) {
        spare_begin_helping();
        while (is_time(a)) {
            spare_help();
            spin();
        }
        spare_end_helping();
        __atomic_store_n(&a->asleep, true, __ATOMIC_SEQ_CST);
        if (is_time(a) && __atomic_exchange_n(&a->asleep, false, __ATOMIC_SEQ_CST)) continue;
        while (sem_wait(&a->poked)) {
        }
    }
    return NULL;
}

struct awake *awake_start(unsigned awake_us) {
    if (!awake_us || thread_time_is_limited()) return NULL;
    struct awake *a = xcalloc(1, sizeof *a);
    a->us = awake_us;
    sem_init(&a->poked, 0, 0);
    if (!thread_create(&a->thread, awake_main, a)) return a;
    sem_destroy(&a->poked);
    free(a);
    return NULL;
}

void awake_stop(struct awake *a) {
    if (!a) return;
    __atomic_store_n(&a->until_us, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&a->end, true, __ATOMIC_SEQ_CST);
    sem_post(&a->poked);
    pthread_join(a->thread, NULL);
    spare_tidy();
    sem_destroy(&a->poked);
    free(a);
}

void awake_poke(struct awake *a, bool alone, int64_t now_us) {
    if (!a) return;
    __atomic_store_n(&a->until_us, alone ? now_us + a->us : 0, __ATOMIC_SEQ_CST);
    if (alone && __atomic_load_n(&a->asleep, __ATOMIC_SEQ_CST) &&
        __atomic_exchange_n(&a->asleep, false, __ATOMIC_SEQ_CST))
        sem_post(&a->poked);
}

/* ---- near ---- */

static void look(struct near *n, int client, int64_t now_us) {
    int processor = thread_processor(client);
    bool same = client == n->client, moved = processor != thread_held();
    n->looks += same;
    n->moves += same && moved;
    n->pause = moved || !same ? 1 : MIN(2 * n->pause, (unsigned)PAUSE_MAX);
    n->due = n->pause;
    n->client = client;
    bool stays = 2 * n->moves <= n->looks || n->looks < LOOKS_JUDGED;
    if (n->looks >= LOOKS_JUDGED) {
        n->looks = n->moves = 0;
        if (stays) n->rest_us = 0;
    }
    if (stays && (!moved || thread_hold(processor))) return;
    n->rest_us = MIN(MAX(2 * n->rest_us, (int64_t)FIRST_REST_US), (int64_t)MAX_REST_US);
    n->rest_until_us = now_us + n->rest_us;
}

void near_follow(struct near *n, int client, bool alone, int64_t now_us) {
    if (alone && client < 0) return;
    bool follow = alone && client > 0 && now_us >= n->rest_until_us;
    if (follow && (client != n->client || !n->due--)) {
        look(n, client, now_us);
        follow = now_us >= n->rest_until_us;
    }
    if (!follow) thread_let_go();
}
