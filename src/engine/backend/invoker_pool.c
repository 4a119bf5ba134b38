/* The invoker of one process: a fixed pool of threads that help the caller. */
#include "backend/invoker.h"
#include "util/buf.h"
#include "util/thread.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>

/* One invoke_all; lives on the stack of its caller. Guarded by the pool's mutex, but for what does not
 * change. */
struct batch {
    invoke_fn *fn;
    void *ctx;
    const void *const *requests;
    void *const *answers;
    size_t n, next, ended;
    size_t err_index; /* of `err`, n when there is none */
    int r;
    struct err err;
    pthread_cond_t done;
    struct batch *newer; /* queue of batches that have calls not yet taken, oldest first */
};

struct pool {
    struct invoker base;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct batch *first, **last;
    bool closing;
    unsigned n_threads, idle;
    pthread_t threads[];
};

static void dequeue(struct pool *p, struct batch *b) {
    for (struct batch **at = &p->first; *at; at = &(*at)->newer) {
        if (*at != b) continue;
        *at = b->newer;
        if (p->last == &b->newer) p->last = at;
        return;
    }
}

/* Takes the next call of the batch and runs it. With the mutex, which is free while the call runs. */
static void run_one(struct pool *p, struct batch *b) {
    size_t i = b->next++;
    if (b->next == b->n) dequeue(p, b);
    pthread_mutex_unlock(&p->mutex);
    struct err err = ERR_INIT;
    int r = b->fn(b->ctx, b->requests[i], b->answers[i], &err);
    pthread_mutex_lock(&p->mutex);
    if (r && i < b->err_index) {
        b->err_index = i;
        b->r = r;
        b->err = err;
    }
    if (++b->ended == b->n) pthread_cond_signal(&b->done);
}

static void *worker(void *arg) {
    struct pool *p = arg;
    pthread_mutex_lock(&p->mutex);
    while (!p->closing) {
        if (p->first) {
            run_one(p, p->first);
            continue;
        }
        p->idle++;
        pthread_cond_wait(&p->work, &p->mutex);
        p->idle--;
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static int pool_invoke_all(struct invoker *iv, invoke_fn *fn, void *ctx, const void *const *requests,
                           void *const *answers, size_t n, struct err *err) {
    struct pool *p = (struct pool *)iv;
    if (n == 0) return 0;
    if (n == 1) return fn(ctx, requests[0], answers[0], err);
    struct batch b = {.fn = fn, .ctx = ctx, .requests = requests, .answers = answers, .n = n, .err_index = n};
    pthread_cond_init(&b.done, NULL);
    pthread_mutex_lock(&p->mutex);
    assert(!p->closing);
    *p->last = &b;
    p->last = &b.newer;
    for (size_t i = 0; i < n - 1 && i < p->idle; i++) pthread_cond_signal(&p->work);
    while (b.next < b.n) run_one(p, &b);
    while (b.ended < b.n) pthread_cond_wait(&b.done, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    pthread_cond_destroy(&b.done);
    if (b.r && err) *err = b.err;
    return b.r;
}

static void pool_close(struct invoker *iv) {
    struct pool *p = (struct pool *)iv;
    pthread_mutex_lock(&p->mutex);
    p->closing = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->mutex);
    for (unsigned i = 0; i < p->n_threads; i++) pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

static const struct invoker_ops pool_ops = {
    .name = "pool", .invoke_all = pool_invoke_all, .close = pool_close};

int invoker_pool_open(unsigned threads, struct invoker **ret, struct err *err) {
    struct pool *p = xcalloc(1, sizeof *p + threads * sizeof *p->threads);
    p->base.ops = &pool_ops;
    p->last = &p->first;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->work, NULL);
    sigset_t all, old; /* signals are for the threads that expect them */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = 0;
    while (p->n_threads < threads && !e) {
        e = thread_create(&p->threads[p->n_threads], worker, p);
        if (!e) p->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) {
        pool_close(&p->base);
        return err_sys(err, e, "could not start %u threads", threads);
    }
    *ret = &p->base;
    return 0;
}

int invoke_all(struct invoker *iv, invoke_fn *fn, void *ctx, const void *const *requests,
               void *const *answers, size_t n, struct err *err) {
    assert(fn && (!n || (requests && answers)));
    return iv->ops->invoke_all(iv, fn, ctx, requests, answers, n, err);
}

void invoker_close(struct invoker *iv) {
    if (iv) iv->ops->close(iv);
}
