/* The watcher behind deadline.h. */
#include "fn/deadline.h"
#include "util/clock.h"
#include "util/thread.h"

#include <pthread.h>
#include <time.h>

enum { TICK_MS = 10 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct deadline *first;
static bool running;

static void *watch(void *arg) {
    struct timespec tick = {0, TICK_MS * 1000000L};
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!first) pthread_cond_wait(&work, &lock);
        int64_t now = clock_mono_us(&clock_system);
        for (struct deadline *d = first; d; d = d->next) {
            if (__atomic_load_n(&d->stop, __ATOMIC_RELAXED)) continue;
            if (d->cancel && __atomic_load_n(d->cancel, __ATOMIC_RELAXED))
                __atomic_store_n(&d->stop, 1, __ATOMIC_RELAXED);
            else if (now >= d->at_us)
                __atomic_store_n(&d->stop, 2, __ATOMIC_RELAXED);
        }
        pthread_mutex_unlock(&lock);
        nanosleep(&tick, NULL);
        pthread_mutex_lock(&lock);
    }
    return arg;
}

int deadline_watcher_start(struct err *err) {
    int e = 0;
    pthread_t t;
    pthread_mutex_lock(&lock);
    if (!running && !(e = thread_create(&t, watch, NULL))) {
        pthread_detach(t);
        running = true;
    }
    pthread_mutex_unlock(&lock);
    return e ? err_sys(err, e, "could not start the thread that watches time limits") : 0;
}

void deadline_start(struct deadline *d, const volatile int *cancel, uint32_t timeout_ms) {
    d->cancel = cancel;
    d->stop = cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED) ? 1 : 0;
    d->at_us = clock_mono_us(&clock_system) + (int64_t)timeout_ms * 1000;
    d->prev = NULL;
    pthread_mutex_lock(&lock);
    d->next = first;
    if (first)
        first->prev = d;
    else
        pthread_cond_signal(&work);
    first = d;
    pthread_mutex_unlock(&lock);
}

void deadline_end(struct deadline *d) {
    pthread_mutex_lock(&lock);
    if (d->prev)
        d->prev->next = d->next;
    else
        first = d->next;
    if (d->next) d->next->prev = d->prev;
    pthread_mutex_unlock(&lock);
}
