/* ldbfs status: every collection, or one, as a table or as JSON. */
#include "options.h"

#include <inttypes.h>

#include "util/buf.h"

struct listing {
    struct engine *engine;
    const struct options *opt;
    struct collection_info *items;
    size_t n, cap;
};

static int keep(void *ctx, const struct collection_info *c) {
    struct listing *l = ctx;
    VEC_GROW(l->items, l->n, l->cap);
    l->items[l->n++] = *c;
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct collection_info *)a)->name, ((const struct collection_info *)b)->name);
}

static void add_time(struct buf *b, const char *key, int64_t ms) {
    char text[TIME_TEXT_SIZE];
    if (!ms) {
        buf_printf(b, ",\"%s\":null", key);
        return;
    }
    time_to_iso(ms, text);
    buf_printf(b, ",\"%s\":\"%s\"", key, text);
}

static void print_json(const struct collection_info *c, const struct collection_status *s) {
    struct buf b = BUF_INIT;
    buf_printf(&b, "{\"name\":\"%s\",\"id\":\"%s\",\"generation\":%" PRIu64, c->name, c->cid, c->generation);
    add_time(&b, "created", c->created_ms);
    buf_printf(&b,
               ",\"documents\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"segments\":%" PRIu64
               ",\"shards\":%u,\"partitions\":%u",
               s->documents, s->bytes, s->segments, s->n_shards, s->n_partitions);
    buf_printf(&b, ",\"seq_written\":%" PRIu64 ",\"seq_committed\":%" PRIu64, s->seq_written,
               s->seq_committed);
    buf_printf(&b, ",\"unbuilt_records\":%" PRIu64 ",\"unbuilt_bytes\":%" PRIu64 ",\"lag_ms\":%" PRId64,
               s->unbuilt_records, s->unbuilt_bytes, s->lag_ms);
    buf_printf(&b, ",\"root_version\":\"%s\"", s->root_version);
    add_time(&b, "root_time", s->root_time_ms);
    add_time(&b, "data_time", s->data_time_ms);
    if (c->source_cid[0])
        buf_printf(&b, ",\"source\":{\"id\":\"%s\",\"version\":\"%s\"}", c->source_cid, c->source_version);
    buf_adds(&b, ",\"indexing\":[");
    for (uint32_t i = 0; i < s->n_indexing; i++) {
        const struct indexing_status *x = &s->indexing[i];
        buf_adds(&b, i ? ",{\"field\":" : "{\"field\":");
        buf_add_json_string(&b, x->field, strlen(x->field));
        buf_printf(&b, ",\"segments_left\":%" PRIu64 ",\"documents_left\":%" PRIu64 "}", x->segments_left,
                   x->documents_left);
    }
    buf_addc(&b, ']');
    if (s->last_error[0]) {
        buf_adds(&b, ",\"last_error\":");
        buf_add_json_string(&b, s->last_error, strlen(s->last_error));
        add_time(&b, "last_error_time", s->last_error_ms);
    }
    buf_adds(&b, "}\n");
    fwrite(b.data, 1, b.len, stdout);
    buf_release(&b);
}

static void print_size(uint64_t bytes, char *out, size_t size) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1000 && u + 1 < ARRAY_SIZE(units)) {
        v /= 1000;
        u++;
    }
    snprintf(out, size, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void print_row(const struct collection_info *c, const struct collection_status *s) {
    char size[32], lag[48] = "built";
    print_size(s->bytes, size, sizeof size);
    if (s->unbuilt_records) snprintf(lag, sizeof lag, "%" PRIu64 " in the log", s->unbuilt_records);
    printf("%-24s %12" PRIu64 " %10s %9" PRIu64 " %7u %12" PRIu64 "  %s\n", c->name, s->documents, size,
           s->segments, s->n_shards, s->seq_written, lag);
    for (uint32_t i = 0; i < s->n_indexing; i++)
        printf("  indexing %s: %" PRIu64 " documents in %" PRIu64 " segments left\n", s->indexing[i].field,
               s->indexing[i].documents_left, s->indexing[i].segments_left);
    if (s->last_error[0]) printf("  last error: %s\n", s->last_error);
}

static int print_all(struct listing *l, struct err *err) {
    bool header = !l->opt->json && !l->opt->counters;
    if (header && !l->n) printf("no collections in %s\n", engine_data_dir(l->engine));
    if (header && l->n)
        printf("%-24s %12s %10s %9s %7s %12s  %s\n", "COLLECTION", "DOCUMENTS", "SIZE", "SEGMENTS", "SHARDS",
               "SEQUENCE", "STATE");
    for (size_t i = 0; i < l->n; i++) {
        struct collection_status s;
        struct err one = ERR_INIT;
        int r = engine_status(l->engine, l->items[i].cid, &s, &one);
        if (r == -ERR_NOT_FOUND && !l->opt->args[0]) continue; /* dropped since it was listed */
        if (r) {
            if (err) *err = one;
            return r;
        }
        if (l->opt->json)
            print_json(&l->items[i], &s);
        else if (header)
            print_row(&l->items[i], &s);
    }
    return 0;
}

int cmd_status(const struct options *opt, struct err *err) {
    struct listing l = {.opt = opt};
    struct collection_info c;
    int r = options_open(opt, &l.engine, err);
    if (r) return r;
    if (opt->args[0]) {
        r = options_find(l.engine, opt->args[0], &c, err);
        if (!r) r = keep(&l, &c);
    } else {
        r = engine_list(l.engine, keep, &l, err);
    }
    if (l.n) qsort(l.items, l.n, sizeof *l.items, by_name);
    if (!r) r = print_all(&l, err);
    if (!r && opt->counters) options_print_counters(l.engine, stdout);
    free(l.items);
    engine_close(l.engine);
    return r;
}
