/* A range of items over several threads. */
#include "index/parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "util/buf.h"
#include "util/thread.h"

enum { MAX_THREADS = 16 };

static atomic_uint wanted_threads;
static _Thread_local bool inside; /* a call within a call's work gets no threads of its own */

struct parallel_run {
    parallel_work *work;
    void *ctx;
    size_t n_items;
    atomic_size_t next;
};

static void *run(void *arg) {
    struct parallel_run *p = arg;
    bool was = inside;
    size_t item;
    inside = true;
    while ((item = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n_items)
        p->work(p->ctx, item);
    inside = was;
    return NULL;
}

void parallel_set_threads(unsigned n) {
    atomic_store(&wanted_threads, n);
}

static size_t thread_count(size_t n_items) {
    size_t n = atomic_load_explicit(&wanted_threads, memory_order_relaxed);
    if (inside) return 1;
    if (!n) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        n = online > 0 ? (size_t)online : 1;
    }
    n = MIN(n, (size_t)MAX_THREADS);
    return MIN(n, n_items);
}

void parallel_for(size_t n_items, parallel_work *work, void *ctx) {
    struct parallel_run p = {.work = work, .ctx = ctx, .n_items = n_items};
    pthread_t threads[MAX_THREADS];
    size_t want = thread_count(n_items), n = 0;
    atomic_init(&p.next, 0);
    while (n + 1 < want && !thread_create(&threads[n], run, &p)) n++;
    run(&p);
    while (n) pthread_join(threads[--n], NULL);
}
