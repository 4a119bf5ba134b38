/* An engine on a temporary directory, for tests: open, fresh_dir, fresh, done, put, ask. Include it once in a
 * test program. */
#pragma once
#include "engine.h"
#include "test.h"

#include <ftw.h>
#include <unistd.h>

#define MAYBE_UNUSED __attribute__((unused))

static char dir[64];
MAYBE_UNUSED static struct err err;

MAYBE_UNUSED static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

MAYBE_UNUSED static struct engine *open_engine(void) {
    struct engine_options o;
    struct engine *e = NULL;
    engine_options_init(&o);
    o.data_dir = dir;
    if (engine_open(&o, &e, &err)) fprintf(stderr, "engine_open: %s\n", err.text);
    return e;
}

MAYBE_UNUSED static void fresh_dir(void) {
    snprintf(dir, sizeof dir, "/tmp/ldbfs-test-XXXXXX");
    if (!mkdtemp(dir)) abort();
}

MAYBE_UNUSED static struct engine *fresh(void) {
    fresh_dir();
    return open_engine();
}

MAYBE_UNUSED static void done(struct engine *e) {
    engine_close(e);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static char last_verdict[500];
MAYBE_UNUSED static void on_verdict(void *ctx, const struct ingest_verdict *v) {
    snprintf(last_verdict, sizeof last_verdict, "%s", v->err.text);
}

/* Writes one record durably; the number accepted. */
MAYBE_UNUSED static uint64_t put(struct engine *e, const char *cid, enum ingest_op op, const char *json) {
    struct ingest *in;
    struct ingest_record rec = {json, strlen(json)};
    uint64_t good = 0;
    last_verdict[0] = 0;
    if (engine_ingest_open(e, cid, op, &in, &err)) return 0;
    if (ingest_add(in, &rec, 1, on_verdict, NULL, &good, &err) || ingest_commit(in, &err)) good = 0;
    ingest_close(in);
    return good;
}

/* Ids of a query's hits joined by spaces. */
MAYBE_UNUSED static const char *ask(struct engine *e, const struct view *v, const char *spec) {
    static char out[4000];
    struct query_request req;
    struct answer *a;
    query_request_init(&req);
    out[0] = 0;
    if (query_request_parse_spec(spec, strlen(spec), &req, &err) ||
        engine_query(e, v, "c", &req, NULL, &a, &err)) {
        snprintf(out, sizeof out, "error: %s", err.text);
        query_request_release(&req);
        return out;
    }
    for (uint32_t i = 0; i < a->n_hits; i++)
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s:%.9g", i ? " " : "", a->hits[i].id,
                 (double)a->hits[i].score);
    answer_free(a);
    query_request_release(&req);
    return out;
}

MAYBE_UNUSED static const char *ask_live(struct engine *e, const char *cid, const char *spec) {
    struct view *v;
    if (engine_view_live(e, cid, true, &v, &err)) return err.text;
    const char *out = ask(e, v, spec);
    view_unref(v);
    return out;
}
