/* Worker pools with job queues that can be reached into: an interrupted job must be answered at once. */
#include "work.h"
#include "util/buf.h"
#include "util/clock.h"

#include <errno.h>
#include <time.h>

void job_list_init(struct job_list *l) {
    l->head.prev = l->head.next = &l->head;
}

void job_list_add(struct job_list *l, struct job *j) {
    j->prev = l->head.prev;
    j->next = &l->head;
    j->prev->next = j->next->prev = j;
}

static void job_unlink(struct job *j) {
    j->prev->next = j->next;
    j->next->prev = j->prev;
    j->prev = j->next = NULL;
}

struct job *job_list_take(struct job_list *l) {
    struct job *j = l->head.next;
    if (j == &l->head) return NULL;
    job_unlink(j);
    return j;
}

struct worker {
    struct work *work;
    enum work_pool pool;
};

static void *worker_main(void *arg) {
    struct worker me = *(struct worker *)arg;
    free(arg);
    struct work *w = me.work;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct job *j = job_list_take(&w->pools[me.pool].queue);
        if (!j) {
            if (w->stop) break;
            w->pools[me.pool].waiting++;
            pthread_cond_wait(&w->pools[me.pool].more, &w->lock);
            w->pools[me.pool].waiting--;
            continue;
        }
        j->state = JOB_RUNNING;
        pthread_mutex_unlock(&w->lock);
        j->run(j); /* frees j or hands it on */
        pthread_mutex_lock(&w->lock);
        if (--w->busy == 0) pthread_cond_broadcast(&w->idle);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int work_start(struct work *w, const unsigned threads[WORK_POOLS]) {
    *w = (struct work){0};
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->idle, &attr);
    unsigned total = 0;
    for (int p = 0; p < WORK_POOLS; p++) {
        pthread_cond_init(&w->pools[p].more, NULL);
        job_list_init(&w->pools[p].queue);
        total += threads[p];
    }
    w->threads = xcalloc(total, sizeof *w->threads);
    for (int p = 0; p < WORK_POOLS; p++) {
        for (unsigned i = 0; i < threads[p]; i++) {
            struct worker *me = xmalloc(sizeof *me);
            *me = (struct worker){w, (enum work_pool)p};
            int e = pthread_create(&w->threads[w->n_threads], NULL, worker_main, me);
            if (e) {
                free(me);
                work_stop(w);
                return e;
            }
            w->n_threads++;
        }
    }
    return 0;
}

void work_push_locked(struct work *w, struct job *j, enum work_pool pool) {
    j->pool = pool;
    j->state = JOB_QUEUED;
    j->pushed_ms = mono_ms();
    w->busy++;
    job_list_add(&w->pools[pool].queue, j);
    pthread_cond_signal(&w->pools[pool].more);
}

void work_push(struct work *w, struct job *j, enum work_pool pool) {
    pthread_mutex_lock(&w->lock);
    work_push_locked(w, j, pool);
    pthread_mutex_unlock(&w->lock);
}

bool work_enter(struct work *w, struct job *j, enum work_pool pool) {
    int64_t now = mono_ms();
    pthread_mutex_lock(&w->lock);
    bool place = w->here < WORK_HERE_MAX && !w->stop;
    if (place) {
        w->here++;
        w->busy++;
        j->pool = pool;
        j->state = JOB_RUNNING;
        j->pushed_ms = now;
    }
    pthread_mutex_unlock(&w->lock);
    return place;
}

void work_leave(struct work *w) {
    pthread_mutex_lock(&w->lock);
    w->here--;
    if (--w->busy == 0) pthread_cond_broadcast(&w->idle);
    pthread_mutex_unlock(&w->lock);
}

static void push_front(struct job_list *l, struct job *j) {
    j->next = l->head.next;
    j->prev = &l->head;
    j->prev->next = j->next->prev = j;
}

static void answer_first(struct work *w, struct job *j) {
    job_unlink(j);
    if (j->state == JOB_PARKED) w->busy++;
    j->state = JOB_QUEUED;
    j->pool = WORK_META;
    push_front(&w->pools[WORK_META].queue, j);
    pthread_cond_signal(&w->pools[WORK_META].more);
}

void work_cancel_locked(struct work *w, struct job *j) {
    __atomic_store_n(&j->cancel, 1, __ATOMIC_RELAXED);
    if ((j->state == JOB_QUEUED && !j->patient) || j->state == JOB_PARKED) answer_first(w, j);
}

void work_sweep(struct work *w, int64_t since_ms) {
    pthread_mutex_lock(&w->lock);
    struct job *head = &w->pools[WORK_DOCS].queue.head;
    for (struct job *j = head->next, *next; j != head; j = next) {
        next = j->next;
        if (j->cancel && j->pushed_ms < since_ms) answer_first(w, j);
    }
    pthread_mutex_unlock(&w->lock);
}

bool work_drain(struct work *w, int64_t timeout_ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
    pthread_mutex_lock(&w->lock);
    int e = 0;
    while (w->busy && e != ETIMEDOUT) e = pthread_cond_timedwait(&w->idle, &w->lock, &until);
    bool idle = w->busy == 0;
    pthread_mutex_unlock(&w->lock);
    return idle;
}

void work_stop(struct work *w) {
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    for (int p = 0; p < WORK_POOLS; p++) pthread_cond_broadcast(&w->pools[p].more);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->n_threads; i++) pthread_join(w->threads[i], NULL);
    free(w->threads);
    w->threads = NULL;
    w->n_threads = 0;
}
