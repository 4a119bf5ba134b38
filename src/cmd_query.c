/* ldbfs query: one query on the live collection or on a snapshot of it, answered as the mount answers it. */
#include "options.h"

#include <signal.h>
#include <unistd.h>

#include "util/clock.h"

static volatile int cancel;
static void on_interrupt(int signal) {
    cancel = 1;
}

/* "ldbfs: text", and below it the spec with a caret under the column, when there is one. */
static int say_bad_spec(const char *spec, const struct err *err) {
    fprintf(stderr, "ldbfs: %s\n", err->text);
    if (!err->column || strchr(spec, '\n')) return EXIT_FAILED;
    fprintf(stderr, "  %s\n  ", spec);
    uint32_t bytes = (uint32_t)strlen(spec);
    for (uint32_t i = 0; i + 1 < err->column && i < bytes; i++)
        if ((spec[i] & 0xC0) != 0x80) fputc(spec[i] == '\t' ? '\t' : ' ', stderr); /* one per character */
    fputs("^\n", stderr);
    return EXIT_FAILED;
}

static int compare_i64(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* --repeat: what the same query costs when everything is warm. */
static int time_query(struct engine *e, const struct view *v, const char *name, const struct query_request *q,
                      int64_t times, struct err *err) {
    int64_t *us = xmalloc((size_t)times * sizeof *us);
    int r = 0;
    for (int64_t i = 0; i < times && !r; i++) {
        struct answer *a = NULL;
        struct buf out = BUF_INIT;
        int64_t start = clock_mono_us(&clock_system);
        r = engine_query(e, v, name, q, &cancel, &a, err);
        if (!r) r = answer_format(a, q, view_schema(v), &out, err);
        us[i] = clock_mono_us(&clock_system) - start;
        answer_free(a);
        buf_release(&out);
    }
    if (!r) {
        qsort(us, (size_t)times, sizeof *us, compare_i64);
        fprintf(stderr, "{\"times\":%lld,\"p50_us\":%lld,\"p99_us\":%lld,\"min_us\":%lld,\"max_us\":%lld}\n",
                (long long)times, (long long)us[times / 2], (long long)us[(times * 99) / 100],
                (long long)us[0], (long long)us[times - 1]);
    }
    free(us);
    return r;
}

/* --stats: requests, waves and bytes of the object store, and time, of all that the command did so far. */
static void print_cost(struct engine *e, int64_t start_us, const struct answer *a) {
    struct engine_counters c;
    engine_counters(e, &c);
    fprintf(stderr,
            "{\"ms\":%.1f,\"query_ms\":%.1f,\"gets\":%llu,\"heads\":%llu,\"waves\":%llu,\"bytes\":%llu,"
            "\"cache_bytes\":%llu,\"cache_dir_hits\":%llu}\n",
            (double)(clock_mono_us(&clock_system) - start_us) / 1000, (double)a->took_us / 1000,
            (unsigned long long)c.gets, (unsigned long long)c.heads, (unsigned long long)c.waves,
            (unsigned long long)c.bytes_got, (unsigned long long)c.cache_bytes,
            (unsigned long long)c.disk_hits);
}

static int answer_query(struct engine *e, const struct options *opt, const struct query_request *q,
                        int64_t start_us, struct buf *out, struct err *err) {
    struct collection_info c;
    struct snapshot_info at;
    struct view *v = NULL;
    struct answer *a = NULL;
    int r = options_find_at(e, opt->args[0], &c, &at, err);
    if (r) return r;
    r = at.version[0] ? engine_view_version(e, c.cid, at.version, &v, err)
                      : engine_view_live(e, c.cid, q->consistent, &v, err);
    if (!r) r = engine_query(e, v, c.name, q, &cancel, &a, err);
    if (!r) r = answer_format(a, q, view_schema(v), out, err);
    if (!r && opt->stats) print_cost(e, start_us, a);
    if (!r && opt->repeat > 1) r = time_query(e, v, c.name, q, opt->repeat, err);
    answer_free(a);
    view_unref(v);
    return r;
}

int cmd_query(const struct options *opt, struct err *err) {
    struct engine *e = NULL;
    struct query_request q;
    struct buf out = BUF_INIT;
    const char *spec = opt->args[1];
    struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    int r;

    int64_t start_us = clock_mono_us(&clock_system);
    query_request_init(&q);
    if ((r = query_request_parse_spec(spec, strlen(spec), &q, err))) goto out;
    if ((r = options_open(opt, &e, err))) goto out;
    sigaction(SIGINT, &sa, NULL);
    r = answer_query(e, opt, &q, start_us, &out, err);
out:
    if (r == -ERR_INVALID && err->column) r = say_bad_spec(spec, err);
    if (!r && out.len) fwrite(out.data, 1, out.len, stdout);
    buf_release(&out);
    query_request_release(&q);
    engine_close(e);
    return r;
}
