/* Our driver: the engine in one process, through engine.h.
 *
 *   engine_bench DATA COLLECTION      the line protocol of bench.h:
 *     specs NAME FILE SUFFIX          a query a line, each with SUFFIX (as ?format=ids) behind it
 *     vectors NAME QUERY.f32 DIM N SPEC   the first N vectors (0: all), each nearest in the way SPEC says
 *     round NAME THREADS PASSES [live]    live: every query takes a view of its own, as through the mount;
 * else one view is held, as Lucene's searcher is hits NAME OUT.i32               the answers as numbers (ids
 * are row numbers), 10 a query, -1: none ids NAME                        the ids of each query's hits as JSON
 *     times NAME OUT.txt              one pass: nanoseconds of each query, a line each
 *     create SCHEMA.json
 *     load BASE.f32 DIM TAGS.u8       rows as documents {"id","v","tags"}; durable, then built, then merged
 *     regions                         bytes of each kind of region (docs/FORMAT.md) over all segments
 *     build, merge, status            upkeep and what it left
 *     scores NAME                     the scores of each query's hits as JSON
 *     cold NAME GET_MS MB_S N         N queries, spread over the set, each in an engine of its own that has
 * nothing cached and reads its objects by requests of that latency
 */
#include "bench.h"

#include <inttypes.h>
#include <sys/resource.h>

#include "engine.h"
#include "fn/view.h"
#include "index/segment_internal.h"

enum { MAX_SETS = 64, TOP = 10, BATCH = 1000, ID_WIDTH = 8 };

struct set {
    char name[64];
    char **specs;                 /* texts: parsed anew by each run, as a caller's would be */
    struct query_request request; /* vectors: without one */
    const float *vectors;
    uint32_t n, dim;
};
struct driver {
    const char *data_dir;
    struct engine *engine;
    struct collection_info collection;
    struct view *view;
    struct set sets[MAX_SETS];
    int n_sets;
    struct set *set; /* of the round */
    bool live;
    struct err err;
};

static void say_error(struct driver *d) {
    bench_error(d->err.text[0] ? d->err.text : err_name(d->err.code));
}

/* ---- one query ---- */

static int ask(struct driver *d, struct set *s, uint32_t item, struct answer **ret, struct buf *text,
               struct err *err) {
    struct query_request parsed, *q = &s->request;
    struct view *v = d->view;
    struct answer *a = NULL;
    int r = 0;
    query_request_init(&parsed);
    struct query_request vector = s->request;
    if (s->specs) {
        q = &parsed;
        r = query_request_parse_spec(s->specs[item], strlen(s->specs[item]), q, err);
    } else {
        q = &vector;
        q->near_vector = s->vectors + (size_t)item * s->dim;
        q->near_dimensions = s->dim;
    }
    if (!r && d->live) r = engine_view_live(d->engine, d->collection.cid, q->consistent, &v, err);
    if (!r) r = engine_query(d->engine, v, d->collection.name, q, NULL, &a, err);
    if (!r) r = answer_format(a, q, view_schema(v), text, err);
    if (d->live && v != d->view) view_unref(v);
    query_request_release(&parsed);
    if (ret && !r)
        *ret = a;
    else
        answer_free(a);
    return r;
}

static int run_query(void *ctx, unsigned thread, uint32_t item) {
    struct driver *d = ctx;
    struct err err = {0};
    struct buf text = BUF_INIT;
    int r = ask(d, d->set, item, NULL, &text, &err);
    buf_release(&text);
    if (r) d->err = err;
    return r;
}

static struct set *find_set(struct driver *d, const char *name) {
    for (int i = 0; i < d->n_sets; i++)
        if (!strcmp(d->sets[i].name, name)) return &d->sets[i];
    err_set(&d->err, ERR_INVALID, "no set \"%s\"", name);
    return NULL;
}

/* A view from now on; what was held before is let go. */
static int refresh(struct driver *d) {
    struct view *v = NULL;
    int r = engine_view_live(d->engine, d->collection.cid, true, &v, &d->err);
    if (r) return r;
    view_unref(d->view);
    d->view = v;
    return 0;
}

/* ---- sets ---- */

static struct set *new_set(struct driver *d, const char *name) {
    struct set *s = NULL;
    for (int i = 0; i < d->n_sets && !s; i++)
        if (!strcmp(d->sets[i].name, name)) s = &d->sets[i];
    if (!s && d->n_sets < MAX_SETS) s = &d->sets[d->n_sets++];
    if (!s) {
        err_set(&d->err, ERR_INVALID, "too many sets");
        return NULL;
    }
    memset(s, 0, sizeof *s); /* one of that name before is left to the end of the process */
    snprintf(s->name, sizeof s->name, "%s", name);
    query_request_init(&s->request);
    return s;
}

static int add_specs(struct driver *d, char **w) {
    char *line = NULL, *spec;
    size_t cap = 0, room = 0;
    ssize_t len;
    FILE *f = fopen(w[2], "r");
    struct set *s = new_set(d, w[1]);
    if (!f) return err_sys(&d->err, errno, "cannot read '%s'", w[2]);
    while (s && (len = getline(&line, &cap, f)) > 0) {
        if (line[len - 1] == '\n') line[len - 1] = 0;
        if (s->n == room) s->specs = xrealloc(s->specs, (room = room * 2 + 64) * sizeof *s->specs);
        if (asprintf(&spec, "%s%s", line, w[3] ? w[3] : "") < 0) abort();
        s->specs[s->n++] = spec;
    }
    free(line);
    fclose(f);
    if (s) printf("{\"n\":%u}\n", s->n);
    return s ? 0 : -ERR_INVALID;
}

static int add_vectors(struct driver *d, char **w, int n) {
    size_t len;
    if (n < 6) return err_set(&d->err, ERR_INVALID, "vectors: too few words");
    const float *p = bench_map(w[2], &len);
    struct set *s = new_set(d, w[1]);
    if (!p) return err_sys(&d->err, errno, "cannot read '%s'", w[2]);
    if (!s) return -ERR_INVALID;
    s->vectors = p;
    s->dim = (uint32_t)atoi(w[3]);
    s->n = (uint32_t)(len / sizeof(float) / s->dim);
    if (atoi(w[4])) s->n = MIN(s->n, (uint32_t)atoi(w[4]));
    int r = query_request_parse_spec(w[5], strlen(w[5]), &s->request, &d->err);
    if (!r) printf("{\"n\":%u}\n", s->n);
    return r;
}

/* ---- answers ---- */

static int write_hits(struct driver *d, struct set *s, const char *path) {
    FILE *f = fopen(path, "wb");
    if (!f) return err_sys(&d->err, errno, "cannot write '%s'", path);
    int r = 0;
    for (uint32_t i = 0; i < s->n && !r; i++) {
        struct answer *a = NULL;
        struct buf text = BUF_INIT;
        int32_t rows[TOP];
        r = ask(d, s, i, &a, &text, &d->err);
        for (uint32_t k = 0; k < TOP && !r; k++) rows[k] = k < a->n_hits ? atoi(a->hits[k].id) : -1;
        if (!r) fwrite(rows, sizeof rows, 1, f);
        answer_free(a);
        buf_release(&text);
    }
    if (fclose(f) && !r) r = err_sys(&d->err, errno, "cannot write '%s'", path);
    if (!r) printf("{\"n\":%u}\n", s->n);
    return r;
}

/* A list a query: ids, or scores with the digits that tell every float from the next. */
static int print_hits(struct driver *d, struct set *s, bool scores) {
    struct buf out = BUF_INIT;
    buf_printf(&out, scores ? "{\"scores\":[" : "{\"ids\":[");
    int r = 0;
    for (uint32_t i = 0; i < s->n && !r; i++) {
        struct answer *a = NULL;
        struct buf text = BUF_INIT;
        r = ask(d, s, i, &a, &text, &d->err);
        buf_printf(&out, i ? ",[" : "[");
        for (uint32_t k = 0; !r && k < a->n_hits; k++) {
            buf_printf(&out, k ? "," : "");
            if (scores)
                buf_printf(&out, "%.9g", (double)a->hits[k].score);
            else
                buf_printf(&out, "\"%s\"", a->hits[k].id);
        }
        buf_printf(&out, "]");
        answer_free(a);
        buf_release(&text);
    }
    if (!r) printf("%.*s]}\n", (int)out.len, (const char *)out.data);
    buf_release(&out);
    return r;
}

/* ---- cold ---- */

struct cost {
    uint64_t us, gets, bytes, waves;
};

static int cold_query(struct driver *d, struct set *s, uint32_t item, const struct engine_options *options,
                      struct cost *ret) {
    struct driver fresh = {.collection = d->collection, .live = true};
    struct engine_counters c;
    struct buf text = BUF_INIT;
    int r = engine_open(options, &fresh.engine, &d->err);
    if (r) return r;
    uint64_t start = now_ns();
    r = ask(&fresh, s, item, NULL, &text, &d->err);
    uint64_t ns = now_ns() - start;
    engine_counters(fresh.engine, &c);
    *ret = (struct cost){ns / 1000, c.gets + c.heads, c.bytes_got, c.waves};
    buf_release(&text);
    engine_close(fresh.engine);
    return r;
}

static int cold(struct driver *d, struct set *s, char **w) {
    struct engine_options options;
    uint32_t n = MIN(s->n, (uint32_t)atoi(w[4]));
    uint64_t *us = xcalloc(n + 1, sizeof *us), waves = 0, gets = 0, bytes = 0;
    int r = 0;
    engine_options_init(&options);
    options.data_dir = d->data_dir;
    options.simulate_remote = true;
    options.simulate_get_ms = (unsigned)atoi(w[2]);
    options.simulate_bytes_per_s = (uint64_t)atoi(w[3]) * 1000000;
    for (uint32_t i = 0; i < n && !r; i++) {
        struct cost c = {0};
        r = cold_query(d, s, (uint32_t)((uint64_t)i * s->n / n), &options, &c);
        us[i] = c.us;
        waves = MAX(waves, c.waves);
        gets += c.gets;
        bytes += c.bytes;
    }
    qsort(us, n, sizeof *us, compare_ns);
    if (!r && n)
        printf("{\"n\":%u,\"p50_us\":%" PRIu64 ",\"max_us\":%" PRIu64 ",\"waves\":%" PRIu64
               ",\"gets\":%.1f,\"bytes\":%.0f}\n",
               n, us[n / 2], us[n - 1], waves, (double)gets / n, (double)bytes / n);
    free(us);
    return r;
}

static int round_of(struct driver *d, char **w, int n) {
    d->set = find_set(d, w[1]);
    d->live = n > 4 && !strcmp(w[4], "live");
    if (!d->set) return -ERR_INVALID;
    return bench_run(run_query, d, d->set->n, (uint32_t)atoi(w[3]), (unsigned)atoi(w[2]), NULL);
}

static int write_times(struct driver *d, char **w) {
    uint64_t *ns = NULL;
    d->set = find_set(d, w[1]);
    d->live = true;
    if (!d->set) return -ERR_INVALID;
    int r = bench_run(run_query, d, d->set->n, 1, 1, &ns);
    FILE *f = r ? NULL : fopen(w[2], "w");
    for (uint32_t i = 0; f && i < d->set->n; i++) fprintf(f, "%" PRIu64 "\n", ns[i]);
    if (f) fclose(f);
    free(ns);
    return r;
}

/* ---- loading vectors ---- */

static void add_row(struct buf *out, uint32_t row, const float *v, uint32_t dim, uint8_t tags) {
    static const char *const names[] = {"r1", "r01", "c1", "c01"};
    buf_printf(out, "{\"id\":\"%0*u\",\"tags\":[", ID_WIDTH, row);
    const char *comma = "";
    for (int t = 0; t < 4; t++)
        if (tags & 1 << t) {
            buf_printf(out, "%s\"%s\"", comma, names[t]);
            comma = ",";
        }
    buf_printf(out, "],\"v\":[");
    for (uint32_t i = 0; i < dim; i++) buf_printf(out, i ? ",%.9g" : "%.9g", (double)v[i]);
    buf_printf(out, "]}");
}

static void refuse(void *ctx, const struct ingest_verdict *v) {
    struct err *err = ctx;
    if (v->err.code) *err = v->err;
}

static int add_batch(struct driver *d, struct ingest *in, const float *base, const uint8_t *tags,
                     uint32_t dim, uint32_t first, uint32_t end) {
    struct buf text = BUF_INIT;
    struct ingest_record records[BATCH];
    size_t starts[BATCH + 1];
    uint64_t accepted = 0;
    struct err refused = {0};
    for (uint32_t i = first; i < end; i++) {
        starts[i - first] = text.len;
        add_row(&text, i, base + (size_t)i * dim, dim, tags[i]);
    }
    starts[end - first] = text.len;
    for (uint32_t i = 0; i < end - first; i++)
        records[i] = (struct ingest_record){(const char *)text.data + starts[i], starts[i + 1] - starts[i]};
    int r = ingest_add(in, records, end - first, refuse, &refused, &accepted, &d->err);
    if (!r && accepted != end - first) {
        d->err = refused;
        r = -ERR_INVALID;
    }
    buf_release(&text);
    return r;
}

static int load(struct driver *d, char **w) {
    size_t len = 0, tag_bytes = 0;
    uint32_t dim = (uint32_t)atoi(w[2]);
    const float *base = bench_map(w[1], &len);
    const uint8_t *tags = bench_map(w[3], &tag_bytes);
    if (!base || !tags) return err_sys(&d->err, errno, "cannot read the vectors or their tags");
    uint32_t n = (uint32_t)(len / sizeof(float) / dim);
    struct ingest *in = NULL;
    uint64_t t0 = now_ns(), seq;
    double cpu;
    int r = engine_ingest_open(d->engine, d->collection.cid, INGEST_UPSERT, &in, &d->err);
    for (uint32_t i = 0; i < n && !r; i += BATCH) r = add_batch(d, in, base, tags, dim, i, MIN(n, i + BATCH));
    if (!r) r = ingest_commit(in, &d->err);
    ingest_close(in);
    uint64_t t1 = now_ns();
    cpu = cpu_seconds();
    if (!r) r = engine_build(d->engine, d->collection.cid, &seq, &d->err);
    uint64_t t2 = now_ns();
    if (!r) r = engine_merge(d->engine, d->collection.cid, true, &d->err);
    uint64_t t3 = now_ns();
    if (!r)
        printf("{\"n\":%u,\"cpu_seconds\":%.4f,\"durable\":%.4f,\"built\":%.4f,\"merged\":%.4f}\n", n,
               cpu_seconds() - cpu, (double)(t1 - t0) / 1e9, (double)(t2 - t1) / 1e9,
               (double)(t3 - t2) / 1e9);
    return r;
}

/* ---- upkeep ---- */

static int upkeep(struct driver *d, const char *what) {
    uint64_t seq, start = now_ns();
    int r = !strcmp(what, "build") ? engine_build(d->engine, d->collection.cid, &seq, &d->err)
                                   : engine_merge(d->engine, d->collection.cid, true, &d->err);
    if (!r) printf("{\"seconds\":%.6f}\n", (double)(now_ns() - start) / 1e9);
    return r;
}

static int create(struct driver *d, const char *path, const char *name) {
    size_t len;
    const char *json = bench_map(path, &len);
    if (!json) return err_sys(&d->err, errno, "cannot read '%s'", path);
    char *text = xstrndup(json, len);
    int r = engine_create(d->engine, name, text, &d->collection, &d->err);
    free(text);
    if (!r) printf("{\"n\":0}\n");
    return r;
}

static int status(struct driver *d) {
    struct collection_status s;
    struct engine_counters c;
    struct rusage u;
    int r = engine_status(d->engine, d->collection.cid, &s, &d->err);
    if (r) return r;
    engine_counters(d->engine, &c);
    getrusage(RUSAGE_SELF, &u);
    printf("{\"documents\":%" PRIu64 ",\"segments\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"gets\":%" PRIu64
           ",\"bytes_got\":%" PRIu64 ",\"user_seconds\":%.3f,\"max_rss_bytes\":%ld}\n",
           s.documents, s.segments, s.bytes, c.gets, c.bytes_got,
           (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6, u.ru_maxrss * 1024L);
    return 0;
}

static int regions(struct driver *d) {
    enum { KINDS = 64 };
    uint64_t bytes[KINDS] = {0};
    for (uint32_t i = 0; i < d->view->n_parts; i++) {
        const struct segment *s = d->view->parts[i].segment;
        for (uint32_t k = 0; k < s->n_regions; k++)
            if (s->regions[k].kind < KINDS) bytes[s->regions[k].kind] += s->regions[k].len;
    }
    const char *comma = "";
    putchar('{');
    for (int k = 0; k < KINDS; k++) {
        if (!bytes[k]) continue;
        printf("%s\"%d\":%" PRIu64, comma, k, bytes[k]);
        comma = ",";
    }
    printf("}\n");
    return 0;
}

static int dispatch(struct driver *d, char **w, int n, const char *name) {
    const char *what = w[0];
    struct set *s;
    int r;
    if (!strcmp(what, "create") && n > 1) return create(d, w[1], name);
    if (!d->collection.cid[0] && (r = engine_find(d->engine, name, &d->collection, &d->err))) return r;
    if (!strcmp(what, "specs") && n > 2) return add_specs(d, w);
    if (!strcmp(what, "vectors")) return add_vectors(d, w, n);
    if (!strcmp(what, "load") && n > 3) return load(d, w);
    if (!strcmp(what, "build") || !strcmp(what, "merge")) return upkeep(d, what);
    if (!strcmp(what, "status")) return status(d);
    if ((r = refresh(d))) return r;
    if (!strcmp(what, "regions")) return regions(d);
    if (!strcmp(what, "round") && n > 3) return round_of(d, w, n);
    if (!strcmp(what, "times") && n > 2) return write_times(d, w);
    if (n < 2 || !(s = find_set(d, w[1]))) return err_set(&d->err, ERR_INVALID, "unknown command or set");
    d->live = false;
    if (!strcmp(what, "hits") && n > 2) return write_hits(d, s, w[2]);
    if (!strcmp(what, "ids") || !strcmp(what, "scores")) return print_hits(d, s, *what == 's');
    if (!strcmp(what, "cold") && n > 4) return cold(d, s, w);
    return err_set(&d->err, ERR_INVALID, "unknown command \"%s\"", what);
}

struct serving {
    struct driver driver;
    const char *name;
};

static void handle(void *ctx, char **words, int n) {
    struct serving *s = ctx;
    err_clear(&s->driver.err);
    if (dispatch(&s->driver, words, n, s->name)) say_error(&s->driver);
}

int main(int argc, char **argv) {
    struct engine_options options;
    struct serving s = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: engine_bench DATA COLLECTION\n");
        return 2;
    }
    engine_options_init(&options);
    options.data_dir = argv[1];
    s.name = argv[2];
    s.driver.data_dir = argv[1];
    if (engine_open(&options, &s.driver.engine, &s.driver.err)) {
        fprintf(stderr, "engine_bench: %s\n", s.driver.err.text);
        return 1;
    }
    bench_serve(handle, &s);
    view_unref(s.driver.view);
    engine_close(s.driver.engine);
    return 0;
}
