/* What the drivers of the benchmark share: a clock, rounds on one or several threads, the line protocol.
 *
 * A driver is a process that lives as long as the benchmark. It reads commands from standard input, a line
 * each, words separated by tabs, and answers each with one line of JSON, so that rounds of several drivers
 * can be run in turn. {"error": "..."} is an answer too. Included by C and C++, once per program. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BENCH_MAX_THREADS = 64, BENCH_MAX_WORDS = 16 };

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Of the whole process; on a busy machine it says more than the wall clock. */
static inline double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* One item of work, numbered from 0; non-zero stops the round: it has failed. */
typedef int bench_item(void *ctx, unsigned thread, uint32_t item);

struct bench_round {
    bench_item *run;
    void *ctx;
    uint32_t n_items;
    uint64_t n, next; /* next: of the n runs, taken by the threads */
    uint64_t *ns;     /* latency of each run */
    int failed;
};
struct bench_thread {
    struct bench_round *round;
    unsigned no;
    pthread_t id;
};

static void *bench_work(void *arg) {
    struct bench_thread *t = (struct bench_thread *)arg;
    struct bench_round *r = t->round;
    for (;;) {
        uint64_t i = __atomic_fetch_add(&r->next, 1, __ATOMIC_RELAXED);
        if (i >= r->n || __atomic_load_n(&r->failed, __ATOMIC_RELAXED)) return NULL;
        uint64_t start = now_ns();
        int failed = r->run(r->ctx, t->no, (uint32_t)(i % r->n_items));
        r->ns[i] = now_ns() - start;
        if (failed) __atomic_store_n(&r->failed, failed, __ATOMIC_RELAXED);
    }
}

static int compare_ns(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Runs every item `passes` times and prints
 * {"n","seconds","cpu_seconds","qps","mean_us","p50_us","p99_us","max_us"}; times of more than one run are in
 * order of the runs, so percentiles are over all of them. 0, or what an item returned: nothing is printed
 * then. ret_ns (may be NULL): the latencies in order of the runs, freed by the caller. */
__attribute__((unused)) static int bench_run(bench_item *run, void *ctx, uint32_t n_items, uint32_t passes,
                                             unsigned threads, uint64_t **ret_ns) {
    struct bench_round r = {run, ctx, n_items, (uint64_t)n_items * passes, 0, NULL, 0};
    struct bench_thread t[BENCH_MAX_THREADS];
    if (threads < 1) threads = 1;
    if (threads > BENCH_MAX_THREADS) threads = BENCH_MAX_THREADS;
    r.ns = (uint64_t *)calloc(r.n + 1, sizeof *r.ns);
    double cpu = cpu_seconds();
    uint64_t start = now_ns();
    for (unsigned i = 0; i < threads; i++) {
        t[i].round = &r;
        t[i].no = i;
        if (threads == 1)
            bench_work(&t[i]);
        else
            pthread_create(&t[i].id, NULL, bench_work, &t[i]);
    }
    for (unsigned i = 0; i < threads && threads > 1; i++) pthread_join(t[i].id, NULL);
    double seconds = (double)(now_ns() - start) / 1e9, sum = 0;
    cpu = cpu_seconds() - cpu;
    if (r.failed || !r.n) {
        free(r.ns);
        return r.failed;
    }
    if (ret_ns) {
        *ret_ns = (uint64_t *)malloc(r.n * sizeof *r.ns);
        memcpy(*ret_ns, r.ns, r.n * sizeof *r.ns);
    }
    for (uint64_t i = 0; i < r.n; i++) sum += (double)r.ns[i];
    qsort(r.ns, r.n, sizeof *r.ns, compare_ns);
    printf("{\"n\":%llu,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"qps\":%.2f,\"mean_us\":%.3f,",
           (unsigned long long)r.n, seconds, cpu, (double)r.n / seconds, sum / (double)r.n / 1e3);
    printf("\"p50_us\":%.3f,\"p99_us\":%.3f,\"max_us\":%.3f}\n", (double)r.ns[r.n / 2] / 1e3,
           (double)r.ns[r.n * 99 / 100] / 1e3, (double)r.ns[r.n - 1] / 1e3);
    free(r.ns);
    return 0;
}

__attribute__((unused)) static void bench_error(const char *text) {
    printf("{\"error\":\"");
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else
            putchar((unsigned char)*text < 32 ? ' ' : *text);
    printf("\"}\n");
}

/* Commands until the input ends; handle prints the answer. */
__attribute__((unused)) static void bench_serve(void (*handle)(void *ctx, char **words, int n), void *ctx) {
    char *line = NULL, *words[BENCH_MAX_WORDS + 1];
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, stdin)) > 0) {
        int n = 0;
        if (line[len - 1] == '\n') line[len - 1] = 0;
        for (char *rest = line, *w; n < BENCH_MAX_WORDS && (w = strsep(&rest, "\t"));) words[n++] = w;
        words[n] = NULL;
        if (n) handle(ctx, words, n);
        fflush(stdout);
    }
    free(line);
}

/* A file as read-only memory, paged in; NULL and errno. */
__attribute__((unused)) static const void *bench_map(const char *path, size_t *ret_len) {
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st)) return NULL;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    *ret_len = (size_t)st.st_size;
    return p == MAP_FAILED ? NULL : p;
}
