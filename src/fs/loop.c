/* Who reads requests. See loop.h. */
#include "loop.h"
#include "near.h"
#include "util/buf.h"
#include "util/clock.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

enum {
    QUIET_TICKS = 20,    /* without a request: the watcher stops looking */
    KICK_US = 20000,     /* at the end: until a thread that reads is told again */
    PARALLEL_US = 20000, /* how long two read after requests have overlapped */
};

struct loop {
    const struct loop_ops *ops;
    void *ctx;
    int signal;
    unsigned awake_us;
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t standby, over;
    pthread_t threads[LOOP_THREADS];
    bool reads[LOOP_THREADS];    /* is in receive */
    unsigned n_threads, n_alive; /* started; not ended yet */
    unsigned reading, busy, standing_by;
    unsigned promoted; /* standing by, told to read, not awake yet */
    bool watched;      /* somebody watches, or is told to */
    bool to_watch;
    bool ended;
    uint64_t taken; /* requests received so far */
    int64_t parallel_until_us;
    struct awake *awake;
};

struct member {
    struct loop *loop;
    unsigned no;
    struct near near;
};

struct loop *loop_new(const struct loop_ops *ops, void *ctx, int signal, unsigned awake_us) {
    struct loop *l = xcalloc(1, sizeof *l);
    l->ops = ops;
    l->ctx = ctx;
    l->signal = signal;
    l->awake_us = awake_us;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->standby, NULL);
    pthread_cond_init(&l->over, NULL);
    return l;
}

void loop_free(struct loop *l) {
    if (!l) return;
    pthread_cond_destroy(&l->standby);
    pthread_cond_destroy(&l->over);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* How many go on reading when they are ready with a request. */
static unsigned wanted(const struct loop *l, int64_t now_us) {
    return now_us < l->parallel_until_us ? 2 : 1;
}

/* Somebody has to read. Not as many as are wanted: a thread would be woken for each request, and the one that
 * is ready with its own would go to sleep. With the lock. */
static void promote(struct loop *l) {
    if (l->reading + l->promoted || l->promoted >= l->standing_by) return;
    l->promoted++;
    pthread_cond_signal(&l->standby);
}

static void overlap(struct loop *l, int64_t now_us) {
    l->parallel_until_us = now_us + PARALLEL_US;
    promote(l);
}

/* Looks every tick, without the lock in between, whether requests may be waiting that nobody reads. True: the
 * caller is to read. */
static bool watch(struct loop *l) {
    uint64_t last = l->taken;
    unsigned quiet = 0;
    bool stuck = false;
    l->to_watch = false;
    l->watched = true;
    l->standing_by--; /* asleep: cannot be promoted */
    while (!l->ended && !stuck && quiet < QUIET_TICKS) {
        pthread_mutex_unlock(&l->lock);
        usleep(LOOP_TICK_US);
        pthread_mutex_lock(&l->lock);
        bool moved = l->taken != last;
        stuck = !moved && !l->reading && !l->promoted && l->busy;
        quiet = moved ? 0 : quiet + 1;
        last = l->taken;
    }
    l->standing_by++;
    l->watched = false;
    return stuck;
}

/* Until the caller is to read, or the end. */
static void stand_by(struct loop *l) {
    bool read = false;
    l->standing_by++;
    while (!read && !l->ended && !l->promoted) {
        /* Without being told: when a request was taken nobody stood by who could be. */
        if (l->to_watch || (!l->watched && l->busy && !l->reading))
            read = watch(l);
        else
            pthread_cond_wait(&l->standby, &l->lock);
    }
    l->standing_by--;
    if (!read && l->promoted) l->promoted--;
}

/* A request was received. */
static void took(struct loop *l, int64_t now_us) {
    l->taken++;
    if (l->busy++) overlap(l, now_us);
    if (l->watched || !l->standing_by) return; /* who comes to stand by looks itself */
    l->watched = l->to_watch = true;
    pthread_cond_signal(&l->standby);
}

/* One request: received, and processed without the lock. */
static void serve(struct loop *l, struct member *me, void *buffer) {
    l->reading++;
    l->reads[me->no] = true;
    pthread_mutex_unlock(&l->lock);
    int r = l->ops->receive(l->ctx, buffer);
    int64_t now_us = clock_mono_us(&clock_system);
    pthread_mutex_lock(&l->lock);
    l->reads[me->no] = false;
    l->reading--;
    if (r < 0) l->ended = true;
    if (r <= 0) return;
    took(l, now_us);
    bool alone = wanted(l, now_us) == 1;
    pthread_mutex_unlock(&l->lock);
    awake_poke(l->awake, alone, now_us);
    if (l->awake) near_follow(&me->near, l->ops->client(buffer), alone, now_us);
    l->ops->process(l->ctx, buffer);
    pthread_mutex_lock(&l->lock);
    l->busy--;
}

static void end(struct loop *l) {
    l->ended = true;
    pthread_cond_broadcast(&l->standby);
    pthread_cond_signal(&l->over);
}

static void *loop_main(void *arg) {
    struct member me = *(struct member *)arg;
    struct loop *l = me.loop;
    free(arg);
    void *buffer = l->ops->buffer_new(l->ctx);
    pthread_mutex_lock(&l->lock);
    if (me.no) stand_by(l);
    while (!l->ended) {
        serve(l, &me, buffer);
        if (!l->ended && l->reading && l->reading >= wanted(l, clock_mono_us(&clock_system))) stand_by(l);
    }
    l->n_alive--;
    end(l);
    pthread_mutex_unlock(&l->lock);
    l->ops->buffer_free(buffer);
    return NULL;
}

/* Wakes the threads that read. A signal may come just before the read begins, hence again and again. */
static void kick(struct loop *l) {
    for (unsigned no = 0; no < l->n_threads; no++)
        if (l->reads[no]) pthread_kill(l->threads[no], l->signal);
}

int loop_run(struct loop *l) {
    int e = 0;
    l->awake = awake_start(l->awake_us);
    pthread_mutex_lock(&l->lock);
    for (unsigned no = 0; no < LOOP_THREADS && !e; no++) {
        struct member *me = xmalloc(sizeof *me);
        *me = (struct member){.loop = l, .no = no};
        e = pthread_create(&l->threads[no], NULL, loop_main, me);
        if (e)
            free(me);
        else
            l->n_threads++, l->n_alive++;
    }
    if (e) end(l);
    while (l->n_alive) {
        if (!l->ended) {
            pthread_cond_wait(&l->over, &l->lock);
            continue;
        }
        kick(l);
        pthread_mutex_unlock(&l->lock);
        usleep(KICK_US);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    for (unsigned no = 0; no < l->n_threads; no++) pthread_join(l->threads[no], NULL);
    awake_stop(l->awake);
    return e;
}

void loop_end(struct loop *l) {
    pthread_mutex_lock(&l->lock);
    end(l);
    pthread_mutex_unlock(&l->lock);
}

bool loop_is_parallel(struct loop *l) {
    pthread_mutex_lock(&l->lock);
    bool parallel = wanted(l, clock_mono_us(&clock_system)) > 1;
    pthread_mutex_unlock(&l->lock);
    return parallel;
}

void loop_will_block(struct loop *l) {
    pthread_mutex_lock(&l->lock);
    promote(l);
    pthread_mutex_unlock(&l->lock);
}

void loop_may_block(struct loop *l) {
    if (!l->ops->pending(l->ctx)) return;
    pthread_mutex_lock(&l->lock);
    overlap(l, clock_mono_us(&clock_system));
    pthread_mutex_unlock(&l->lock);
}
