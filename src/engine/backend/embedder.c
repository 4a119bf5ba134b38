/* What every embedder has in common: cutting into requests, trying again, telling bad texts from good ones,
 * checks. */
#include "backend/embedder.h"
#include "util/clock.h"
#include "util/thread.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

enum { BACKOFF_MAX_MS = 8000, AFTER_MAX_MS = 60000, NAP_MS = 10 };

const struct embed_model *embedder_model(const char *name) {
    static const struct embed_model models[] = {
        {"text-embedding-3-small", 1536, true},
        {"text-embedding-3-large", 3072, true},
        {"text-embedding-ada-002", 1536, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(models); i++)
        if (!strcmp(models[i].name, name)) return &models[i];
    return NULL;
}

struct run {
    struct embedder *embedder;
    const struct embed_call *call;
    const struct embed_text *texts;
    float *vectors;
    struct err *errs;
    size_t n;
    pthread_mutex_t lock;
    size_t next;      /* the first text that is in no request yet; guarded by lock */
    struct err fatal; /* not about the texts: the rest is not tried; guarded by lock */
};

static int stop_of(const struct embed_call *call) {
    return call->stop ? __atomic_load_n(call->stop, __ATOMIC_RELAXED) : 0;
}

/* False when the wait would end behind the deadline (it is not begun then), or is stopped. */
static bool nap(const struct embed_call *call, int64_t ms) {
    struct timespec step = {0, NAP_MS * 1000000L};
    int64_t end = clock_mono_us(&clock_system) + ms * 1000;
    if (end >= call->deadline_us) return false;
    while (!stop_of(call) && clock_mono_us(&clock_system) < end) nanosleep(&step, NULL);
    return !stop_of(call);
}

/* Exponential, with a random half so that many clients do not come back together; never sooner than asked. */
static int64_t backoff(const struct embedder *e, unsigned attempt, int64_t after_ms) {
    uint32_t random;
    int64_t ms = MIN((int64_t)e->backoff_ms << MIN(attempt, 16u), (int64_t)BACKOFF_MAX_MS);
    rng_system.fill(&rng_system, &random, sizeof random);
    ms = ms / 2 + random % (ms / 2 + 1);
    return MAX(ms, after_ms);
}

static int request(struct run *run, const struct embed_text *texts, size_t n, float *vectors,
                   struct embed_failure *failure, struct err *err) {
    struct embedder *e = run->embedder;
    for (unsigned attempt = 0;; attempt++) {
        int stop = stop_of(run->call);
        *failure = (struct embed_failure){0};
        if (stop) return err_set(err, stop == 1 ? ERR_CANCELED : ERR_TIMEOUT, "the embedding was stopped");
        err_clear(err);
        int r = e->ops->embed(e, run->call, texts, n, vectors, failure, err);
        bool give_up = !failure->again || attempt + 1 >= __atomic_load_n(&e->attempts, __ATOMIC_RELAXED) ||
                       failure->after_ms > AFTER_MAX_MS;
        if (!r || give_up || !nap(run->call, backoff(e, attempt, failure->after_ms))) return r;
    }
}

static void check_finite(const struct embed_call *call, size_t n, const float *vectors, struct err *errs) {
    for (size_t i = 0; i < n; i++) {
        const float *v = vectors + i * call->dimensions;
        for (uint32_t d = 0; d < call->dimensions && !errs[i].code; d++)
            if (!isfinite(v[d]))
                err_set(&errs[i], ERR_IO, "the provider answered a number that is not finite");
    }
}

static void fail(struct run *run, size_t from, size_t n, const struct err *why, bool fatal) {
    pthread_mutex_lock(&run->lock);
    if (fatal && !run->fatal.code) run->fatal = *why;
    pthread_mutex_unlock(&run->lock);
    for (size_t i = from; i < from + n; i++) run->errs[i] = *why;
}

/* When texts of a request are refused its halves are tried, down to the texts at fault: at most 2n requests.
 */
static void embed_some(struct run *run, size_t from, size_t n) {
    struct embed_failure failure = {0};
    float *vectors = run->vectors + from * run->call->dimensions;
    pthread_mutex_lock(&run->lock);
    struct err err = run->fatal;
    pthread_mutex_unlock(&run->lock);
    if (!err.code && !request(run, run->texts + from, n, vectors, &failure, &err)) {
        check_finite(run->call, n, vectors, run->errs + from);
    } else if (failure.texts && n > 1) {
        embed_some(run, from, n / 2);
        embed_some(run, from + n / 2, n - n / 2);
    } else {
        fail(run, from, n, &err, !failure.texts);
    }
}

/* How many of the texts go into the next request. */
static size_t cut(const struct embed_call *call, const struct embed_text *texts, size_t n) {
    size_t most = MIN(n, (size_t)EMBED_REQUEST_TEXTS), bytes = 0, k = 0;
    most = MIN(most, MAX((size_t)EMBED_REQUEST_VALUES / MAX(call->dimensions, 1u), (size_t)1));
    while (k < most && (!k || bytes + texts[k].len <= EMBED_REQUEST_BYTES)) bytes += texts[k++].len;
    return k;
}

static void *work(void *ctx) {
    struct run *run = ctx;
    for (;;) {
        pthread_mutex_lock(&run->lock);
        size_t from = run->next, k = cut(run->call, run->texts + from, run->n - from);
        run->next += k;
        pthread_mutex_unlock(&run->lock);
        if (!k) return NULL;
        embed_some(run, from, k);
    }
}

/* The caller works too, so a thread that cannot be had only makes it slower. */
static void work_all(struct run *run) {
    pthread_t threads[EMBED_PARALLEL - 1];
    size_t n_threads = 0, requests = 0;
    for (size_t i = 0; i < run->n && requests < EMBED_PARALLEL; requests++)
        i += cut(run->call, run->texts + i, run->n - i);
    while (n_threads + 1 < requests && !thread_create(&threads[n_threads], work, run)) n_threads++;
    work(run);
    while (n_threads) pthread_join(threads[--n_threads], NULL);
}

int embedder_embed(struct embedder *e, const struct embed_call *call, const struct embed_text *texts,
                   size_t n, float *vectors, struct err *errs) {
    struct run run = {.embedder = e, .call = call, .texts = texts, .vectors = vectors, .errs = errs, .n = n};
    for (size_t i = 0; i < n; i++) err_clear(&errs[i]);
    pthread_mutex_init(&run.lock, NULL);
    work_all(&run);
    pthread_mutex_destroy(&run.lock);
    for (size_t i = 0; i < n; i++)
        if (errs[i].code) return -(int)errs[i].code;
    return 0;
}

void embedder_close(struct embedder *e) {
    if (e) e->ops->close(e);
}
