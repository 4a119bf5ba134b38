/* Groups jobs by model and text, asks the embedder, hands the vectors out. */
#include "fn/embed.h"
#include "index/vector_score.h"
#include "query/query_text.h"
#include "util/codec.h"

#include <float.h>
#include <stdio.h>

/* The distinct texts of the jobs of one model. */
struct group {
    const struct field *field; /* any of them */
    struct embed_text *texts;
    size_t n;
    uint32_t *of_job; /* text number + 1 of each job; 0 = not of this model */
    uint32_t *table;  /* text number + 1 by hash */
    size_t table_size;
};

static bool same_model(const struct field *a, const struct field *b) {
    return a->dimensions == b->dimensions && !strcmp(a->embedding->model, b->embedding->model);
}

static uint32_t group_add(struct group *g, const struct embed_job *job) {
    size_t at = hash64(job->text, job->len, 0) & (g->table_size - 1);
    for (; g->table[at]; at = (at + 1) & (g->table_size - 1)) {
        const struct embed_text *t = &g->texts[g->table[at] - 1];
        if (t->len == job->len && !memcmp(t->s, job->text, job->len)) return g->table[at];
    }
    g->texts[g->n++] = (struct embed_text){job->text, job->len};
    return g->table[at] = (uint32_t)g->n;
}

/* A vector that has no cosine would be refused by the index. */
static void check_length(struct embed_job *job) {
    double sum = vector_squared_length(job->vector, job->field->dimensions);
    bool zero = job->field->similarity == SIMILARITY_COSINE && !((float)sum >= FLT_MIN);
    if (!zero && sum <= (double)FLT_MAX) return;
    job->vector = NULL;
    err_set(&job->err, ERR_IO, "the provider answered a vector %s",
            zero ? "without length" : "outside the range of float32");
}

static void run_group(struct core *core, const struct group *g, struct embed_job *jobs, size_t n,
                      struct embed_call *call, struct arena *arena) {
    float *vectors = arena_alloc(arena, MAX(g->n, (size_t)1) * call->dimensions * sizeof *vectors);
    struct err *errs = xcalloc(g->n + 1, sizeof *errs);
    embedder_embed(core->embedder, call, g->texts, g->n, vectors, errs);
    for (size_t i = 0; i < n; i++) {
        if (!g->of_job[i]) continue;
        uint32_t no = g->of_job[i] - 1;
        jobs[i].err = errs[no];
        jobs[i].vector = errs[no].code ? NULL : vectors + (size_t)no * call->dimensions;
        if (jobs[i].vector) check_length(&jobs[i]);
    }
    free(errs);
}

void embed_jobs(struct core *core, struct embed_job *jobs, size_t n, int64_t deadline_us,
                const volatile int *stop, struct arena *arena) {
    bool *done = xcalloc(n + 1, sizeof *done);
    struct group g = {.texts = xcalloc(n + 1, sizeof *g.texts), .of_job = xcalloc(n + 1, sizeof *g.of_job)};
    for (g.table_size = 16; g.table_size < 2 * n; g.table_size *= 2) {
    }
    g.table = xmalloc(g.table_size * sizeof *g.table);
    for (size_t first = 0; first < n; first++) {
        if (done[first]) continue;
        g.n = 0;
        g.field = jobs[first].field;
        memset(g.of_job, 0, n * sizeof *g.of_job);
        memset(g.table, 0, g.table_size * sizeof *g.table);
        for (size_t i = first; i < n; i++) {
            if (done[i] || !same_model(jobs[i].field, g.field)) continue;
            g.of_job[i] = group_add(&g, &jobs[i]);
            done[i] = true;
        }
        struct embed_call call = {g.field->embedding->model, g.field->dimensions, deadline_us, stop};
        run_group(core, &g, jobs, n, &call, arena);
    }
    free(g.texts);
    free(g.of_job);
    free(g.table);
    free(done);
}

int embed_query(struct core *core, const struct query_request *req, const struct schema *schema,
                int64_t deadline_us, const volatile int *stop, char **ret_json, struct err *err) {
    struct query_texts *texts = NULL;
    struct arena arena = ARENA_INIT;
    *ret_json = NULL;
    int r = query_texts_find(req, schema, &texts, err);
    if (r || !texts) return r;
    struct embed_job *jobs = xcalloc(query_texts_count(texts), sizeof *jobs);
    size_t n = query_texts_count(texts);
    for (size_t i = 0; i < n; i++) {
        const struct query_text *t = query_texts_at(texts, i);
        jobs[i] = (struct embed_job){.field = t->field, .text = t->text, .len = t->len};
    }
    embed_jobs(core, jobs, n, deadline_us, stop, &arena);
    for (size_t i = 0; i < n && !r; i++) {
        if (jobs[i].vector) {
            query_texts_set(texts, i, jobs[i].vector);
            continue;
        }
        if (err) *err = jobs[i].err;
        r = err_wrap(err, "queryText for field \"%.80s\"", jobs[i].field->path);
    }
    if (!r) *ret_json = query_texts_json(texts);
    query_texts_free(texts);
    arena_release(&arena);
    free(jobs);
    return r;
}

int embed_near(struct core *core, const struct query_request *req, const struct schema *schema,
               int64_t deadline_us, const volatile int *stop, float **ret, uint32_t *ret_dimensions,
               struct err *err) {
    struct arena arena = ARENA_INIT;
    struct embed_job job = {.text = req->near_text, .len = strlen(req->near_text)};
    int r = query_near_field(req, schema, &job.field, err);
    if (r) return r;
    embed_jobs(core, &job, 1, deadline_us, stop, &arena);
    if (job.vector) {
        size_t size = job.field->dimensions * sizeof *job.vector;
        *ret = memcpy(xmalloc(size), job.vector, size);
        *ret_dimensions = job.field->dimensions;
    } else {
        if (err) *err = job.err;
        r = err_wrap(err, "like");
    }
    arena_release(&arena);
    return r;
}
