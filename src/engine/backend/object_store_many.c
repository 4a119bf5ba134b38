/* Gets side by side, by threads: each takes the next range until none is left. The caller is one of them, so
 * that the call gets by without any other. */
#include "backend/object_store_many.h"
#include "util/thread.h"

#include <pthread.h>
#include <stdatomic.h>

struct gets {
    struct object_store *store;
    struct object_range *ranges;
    size_t n;
    atomic_size_t next;
    pthread_mutex_t mutex; /* guards the rest */
    size_t failed;         /* the first range that failed; n = none */
    struct err err;
    int r;
};

static void failed(struct gets *g, size_t i, int r, const struct err *err) {
    pthread_mutex_lock(&g->mutex);
    if (i < g->failed) {
        g->failed = i;
        g->err = *err;
        g->r = r;
    }
    pthread_mutex_unlock(&g->mutex);
}

static void *take_gets(void *arg) {
    struct gets *g = arg;
    for (size_t i; (i = atomic_fetch_add(&g->next, 1)) < g->n;) {
        struct object_range *x = &g->ranges[i];
        struct err err = ERR_INIT;
        struct object_info info = {.size = 0};
        int r = object_get(g->store, x->key, x->version, x->off, x->len, &x->out, &info, &err);
        x->size = info.size;
        if (r) failed(g, i, r, &err);
    }
    return NULL;
}

int object_get_threads(struct object_store *store, struct object_range *ranges, size_t n, struct err *err) {
    struct gets g = {.store = store, .ranges = ranges, .n = n, .failed = n, .err = ERR_INIT};
    pthread_t threads[OBJECT_PARALLEL_GETS];
    size_t n_threads = 0, want = MIN(n, (size_t)OBJECT_PARALLEL_GETS);
    pthread_mutex_init(&g.mutex, NULL);
    while (n_threads + 1 < want && !thread_create(&threads[n_threads], take_gets, &g)) n_threads++;
    take_gets(&g);
    for (size_t i = 0; i < n_threads; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&g.mutex);
    if (g.r && err) *err = g.err;
    return g.r;
}
