/* The Router. A query runs on one view from beginning to end: one root, one end of the log. */
#include "fn/router.h"
#include "fn/deadline.h"
#include "fn/documents.h"
#include "fn/embed.h"
#include "fn/executor.h"
#include "fn/gateway.h"
#include "index/page_cache.h"
#include "index/segment_want.h"
#include "query/explain.h"
#include "query/facet.h"
#include "query/fuse.h"
#include "query/prefetch.h"

enum { MAX_SHARDS = 1024, ANSWER_MAX_BYTES = 128 << 20 };

struct routing {
    struct core *core;
    const struct view *view;
    const struct query_request *req;
    struct query *query;
    struct search_stats stats;
    struct knn_result *knn; /* by kNN node */
    uint32_t n_knn, n_shards, want;
    struct deadline deadline;
    struct arena arena;          /* what the rounds need */
    struct query_request filled; /* req with its texts as vectors, when there are any; borrows all but json */
};

/* ---- fields ---- */

static int check_field(const struct routing *rt, const char *path, enum field_type type,
                       enum analyzer analyzer, struct err *err) {
    const struct field *f = schema_find(rt->view->schema, path, strlen(path));
    for (uint32_t i = 0; f && !f->inferred && f->type != FIELD_OBJECT && i < rt->view->n_parts; i++)
        if (!segment_field(rt->view->parts[i].segment, f->path, f->path_len, type,
                           type == FIELD_TEXT ? analyzer : 0))
            return err_set(err, ERR_BUSY, "the index on \"%s\" is still being built", f->path);
    return 0;
}

/* ---- near=ID ---- */

/* The vector is the indexed one: nothing is parsed. */
static int near_vector(const struct routing *rt, float **ret, uint32_t *ret_dim, struct err *err) {
    const struct field *f;
    uint32_t part, docno;
    const char *id = rt->req->near_id;
    struct vectors v;
    const float *row = NULL;
    int r = query_near_field(rt->req, rt->view->schema, &f, err);
    if (!r) r = view_find(rt->view, id, strlen(id), &part, &docno, err);
    if (r) return r;
    if (part == rt->view->n_parts) return err_set(err, ERR_INVALID, "near: no document with id \"%s\"", id);
    const struct segment_field *field =
        segment_field(rt->view->parts[part].segment, f->path, f->path_len, FIELD_VECTOR, 0);
    if (!field && (r = check_field(rt, f->path, FIELD_VECTOR, 0, err))) return r;
    if (field) r = vectors_open_lazy(field, &v, err);
    if (field && !r) r = vectors_of_doc(&v, docno, &row, err);
    if (r) return r;
    if (!row || v.dimensions != f->dimensions)
        return err_set(err, ERR_INVALID, "near: document \"%s\" has no vector in field \"%s\"", id, f->path);
    *ret = xmalloc(v.dimensions * sizeof **ret);
    memcpy(*ret, row, v.dimensions * sizeof **ret);
    *ret_dim = v.dimensions;
    return 0;
}

/* ---- preparation ---- */

/* A declared index that was added later and is not back-filled everywhere must not answer as if documents
 * were missing. */
static int check_backfilled(const struct routing *rt, const struct query_node *n, struct err *err) {
    if (!n) return 0;
    int r = n->field && n->kind != QUERY_NONE ? check_field(rt, n->field, n->type, n->analyzer, err) : 0;
    if (!r) r = check_backfilled(rt, n->filter, err);
    for (uint32_t i = 0; i < n->n_clauses && !r; i++) r = check_backfilled(rt, n->clauses[i].node, err);
    return r;
}

/* Texts that stand for vectors are embedded first: what is compiled has vectors only. */
static int fill_texts(struct routing *rt, struct err *err) {
    char *json;
    int r =
        embed_query(rt->core, rt->req, rt->view->schema, rt->deadline.at_us, &rt->deadline.stop, &json, err);
    if (r || !json) return r;
    rt->filled = *rt->req;
    rt->filled.json = json;
    rt->req = &rt->filled;
    return 0;
}

static int compile(struct routing *rt, struct err *err) {
    float *vector = NULL;
    uint32_t dim = 0;
    int r = fill_texts(rt, err);
    if (!r && rt->req->near_id && !rt->req->near_vector) r = near_vector(rt, &vector, &dim, err);
    if (!r && rt->req->near_text)
        r = embed_near(rt->core, rt->req, rt->view->schema, rt->deadline.at_us, &rt->deadline.stop, &vector,
                       &dim, err);
    const float *given = rt->req->near_vector;
    if (!r)
        r = query_compile(rt->req, rt->view->schema, given ? given : vector,
                          given ? rt->req->near_dimensions : dim, &rt->query, err);
    if (!r) r = check_backfilled(rt, rt->query->root, err);
    for (uint32_t i = 0; !r && i < rt->query->n_sort; i++)
        r = check_field(rt, rt->query->sort[i].field, rt->query->sort[i].type, 0, err);
    for (uint32_t i = 0; !r && i < rt->query->n_facets; i++)
        r = check_field(rt, rt->query->facets[i].field, rt->query->facets[i].type, 0, err);
    free(vector);
    return r;
}

/* Over a remote store: reads ahead what the evaluation will need. */
static int prefetch(struct routing *rt, bool expanded, struct err *err) {
    const struct view *v = rt->view;
    if (object_can_map(rt->core->objects)) return 0;
    struct search_part *parts = xcalloc(v->n_base, sizeof *parts);
    for (uint32_t i = 0; i < v->n_base; i++) {
        bool searched = !rt->query->partitioned ||
                        partition_set_overlaps(&rt->query->partitions, v->base->tree->leaves[i].partition);
        parts[i] = (struct search_part){v->parts[i].segment,
                                        v->parts[i].deletes,
                                        0,
                                        searched ? segment_n_docs(v->parts[i].segment) : 0,
                                        i,
                                        NULL};
    }
    struct prefetch p = {.query = rt->query,
                         .stats = expanded ? &rt->stats : NULL,
                         .partition_field = v->schema->partition_field,
                         .parts = parts,
                         .n_parts = v->n_base,
                         .cancel = &rt->deadline.stop};
    int r = search_prefetch(&p, err);
    free(parts);
    return r;
}

static int collect_stats(struct routing *rt, struct err *err) {
    search_stats_init(&rt->stats, rt->query);
    int ahead = prefetch(rt, false, err);
    if (ahead) return ahead;
    for (uint32_t i = 0; i < rt->view->n_parts; i++) {
        const struct view_part *p = &rt->view->parts[i];
        struct search_part part = {p->segment, p->deletes, 0, segment_n_docs(p->segment), i, NULL};
        int r = search_stats_add(&rt->stats, rt->query, &part, err);
        if (!r && rt->query->n_fuzzy)
            r = search_expand(&rt->stats, rt->query, &part, &rt->deadline.stop, err);
        if (r) return r;
    }
    search_expand_finish(&rt->stats, rt->query);
    return rt->query->n_fuzzy ? prefetch(rt, true, err) : 0;
}

/* ---- is it worth a fan-out? ---- */

/* In documents looked at, some 1.5 ns each: less than this takes no longer than waking other threads. */
enum { FAN_OUT_WORK = 200000, CLUSTER_WORK = 40000, FLOATS_A_DOCUMENT = 8 };

/* Of KNN node number `which`: clusters cost the same however many documents they hold. */
static uint64_t knn_work(const struct routing *rt, const struct query_node *n, uint32_t which) {
    uint64_t work = 0;
    for (uint32_t i = 0; i < rt->view->n_parts; i++) {
        const struct segment *s = rt->view->parts[i].segment;
        uint64_t scan = (uint64_t)segment_n_docs(s) * n->dimensions / FLOATS_A_DOCUMENT;
        work += search_knn_whole(rt->query, which, s) ? MIN(scan, (uint64_t)CLUSTER_WORK) : scan;
    }
    return work;
}

/* *which: of the next KNN node, in tree order. */
static uint64_t work_of(const struct routing *rt, const struct query_node *n, uint32_t *which) {
    uint64_t work = 0;
    if (!n || n->kind == QUERY_NONE || n->kind == QUERY_DOCS) return 0;
    if (n->kind == QUERY_KNN) {
        work = knn_work(rt, n, (*which)++);
    } else if (n->kind == QUERY_TERM || n->kind == QUERY_PHRASE) {
        for (uint32_t i = 0; i < n->n_terms; i++)
            work += n->terms[i].slot < rt->query->n_term_slots ? rt->stats.term_df[n->terms[i].slot] : 0;
    } else if (n->kind != QUERY_BOOL && n->kind != QUERY_FUSE) {
        work = rt->stats.n_docs;
    }
    work += work_of(rt, n->filter, which);
    for (uint32_t i = 0; i < n->n_clauses; i++) work += work_of(rt, n->clauses[i].node, which);
    return work;
}

/* How many shards the query is spread over: the answer does not depend on it. A number set by hand stands. */
static void choose_shards(struct routing *rt) {
    struct coll *c = rt->view->coll;
    uint32_t which = 0;
    rt->n_shards = MIN(MAX(__atomic_load_n(&c->n_shards, __ATOMIC_RELAXED), 1u), (uint32_t)MAX_SHARDS);
    if (rt->n_shards == 1 || __atomic_load_n(&c->fixed_shards, __ATOMIC_RELAXED)) return;
    if (work_of(rt, rt->query->root, &which) < FAN_OUT_WORK) rt->n_shards = 1;
}

/* ---- fan-out ---- */

/* One round of executors: a shard each, and one for the tail if there is one. */
struct round {
    size_t n;
    struct exec_request *requests;
    struct exec_answer *answers;
};

/* The neighbours are the answer. An explanation reads them again, as a search does. */
static bool is_knn_alone(const struct routing *rt) {
    return search_knn_alone(rt->query) && !rt->req->explain;
}

static void round_init(struct round *round, struct routing *rt, enum exec_kind kind, uint32_t which) {
    round->n = rt->n_shards + (rt->view->n_parts > rt->view->n_base);
    round->requests = arena_alloc(&rt->arena, round->n * sizeof *round->requests);
    round->answers = arena_zalloc(&rt->arena, round->n * sizeof *round->answers);
    for (uint32_t i = 0; i < round->n; i++)
        round->requests[i] = (struct exec_request){.kind = kind,
                                                   .view = rt->view,
                                                   .query = rt->query,
                                                   .stats = &rt->stats,
                                                   .knn = rt->knn,
                                                   .which = which,
                                                   .shard = i,
                                                   .n_shards = rt->n_shards,
                                                   .want = rt->want,
                                                   .last = kind == EXEC_SEARCH || is_knn_alone(rt),
                                                   .stop = &rt->deadline.stop};
}

static int round_run(struct round *round, struct routing *rt, struct err *err) {
    int r = 0;
    if (rt->n_shards == 1) { /* nothing to run beside: no hand-over to other threads */
        for (size_t i = 0; i < round->n && !r; i++)
            r = executor_run(NULL, &round->requests[i], &round->answers[i], err);
        return r;
    }
    const void **in = arena_alloc(&rt->arena, round->n * sizeof *in);
    void **out = arena_alloc(&rt->arena, round->n * sizeof *out);
    for (size_t i = 0; i < round->n; i++) {
        in[i] = &round->requests[i];
        out[i] = &round->answers[i];
    }
    return invoke_all(rt->core->invoker, executor_run, NULL, in, out, round->n, err);
}

static int run_knn(struct routing *rt, struct err *err) {
    struct round round;
    rt->n_knn = search_knn_count(rt->query);
    rt->knn = arena_zalloc(&rt->arena, rt->n_knn * sizeof *rt->knn);
    for (uint32_t w = 0; w < rt->n_knn; w++) {
        round_init(&round, rt, EXEC_KNN, w);
        struct knn_result *lists = arena_alloc(&rt->arena, round.n * sizeof *lists);
        int r = round_run(&round, rt, err);
        for (size_t i = 0; i < round.n; i++) {
            if (r)
                search_knn_release(&round.answers[i].knn);
            else
                lists[i] = round.answers[i].knn;
        }
        if (r) return r;
        search_knn_merge(rt->query, w, lists, round.n, &rt->knn[w]);
    }
    return 0;
}

static int run_search(struct routing *rt, struct search_result *ret, struct err *err) {
    struct round round;
    if (is_knn_alone(rt)) {
        search_knn_take(&rt->knn[0], rt->want, ret);
        return 0;
    }
    round_init(&round, rt, EXEC_SEARCH, 0);
    struct search_result *lists = arena_alloc(&rt->arena, round.n * sizeof *lists);
    int r = round_run(&round, rt, err);
    for (size_t i = 0; i < round.n; i++) {
        if (r)
            search_result_release(&round.answers[i].search);
        else
            lists[i] = round.answers[i].search;
    }
    return r ? r : search_merge(rt->query, lists, round.n, rt->want, ret, err);
}

/* Facets of a hybrid query are those of everything that either side matches. */
static int count_fused(struct routing *rt, struct search_result *fused, struct err *err) {
    struct search_result matches = {0};
    uint32_t want = rt->want;
    rt->want = 0;
    int r = run_search(rt, &matches, err);
    rt->want = want;
    fused->facets = matches.facets;
    matches.facets = NULL;
    search_result_release(&matches);
    return r;
}

/* The two sides of a hybrid query one after the other, as queries of their own, then both lists as one. */
static int run_fused(struct routing *rt, struct search_result *ret, struct err *err) {
    struct query *whole = rt->query;
    struct knn_result *knn = rt->knn;
    uint32_t want = rt->want;
    struct search_result sides[2] = {{0}};
    int r = 0;
    for (int s = 0; s < 2 && !r; s++) {
        struct query side = fuse_side_query(whole, s);
        rt->query = &side;
        rt->want = fuse_side_want(whole, s);
        r = run_search(rt, &sides[s], err);
        rt->knn += search_knn_count(&side);
    }
    rt->query = whole;
    rt->knn = knn;
    rt->want = want;
    if (!r) search_fuse(rt->query, sides, rt->want, ret);
    for (int s = 0; s < 2 && r; s++) search_result_release(&sides[s]);
    return r || !rt->query->n_facets ? r : count_fused(rt, ret, err);
}

/* ---- the answer ---- */

static int explain(const struct routing *rt, const struct search_hit *h, struct answer_hit *out,
                   struct err *err) {
    const struct view_part *p = &rt->view->parts[h->part_no];
    struct search_part part = {.segment = p->segment,
                               .deletes = p->deletes,
                               .doc_lo = h->docno,
                               .doc_hi = h->docno + 1,
                               .part_no = h->part_no};
    struct buf text = BUF_INIT;
    size_t len;
    int r = search_explain(rt->query, &rt->stats, rt->knn, &part, h, &rt->deadline.stop, &text, err);
    buf_str(&text);
    out->explain = (char *)buf_detach(&text, &len);
    return r;
}

/* The documents of an answer in one wave: most are there already (query/collect.h). */
static int fetch_ahead(const struct routing *rt, const struct search_hit *hits, uint32_t n, struct err *err) {
    struct fetch f = FETCH_INIT;
    if (rt->req->format == FORMAT_IDS || object_can_map(rt->core->objects)) return 0;
    for (uint32_t i = 0; i < n; i++)
        segment_want_hit(&f, rt->view->parts[hits[i].part_no].segment, hits[i].docno, true);
    int r = fetch_run(&f, err);
    fetch_release(&f);
    return r;
}

static int fetch(const struct routing *rt, struct search_result *found, struct answer *a, struct err *err) {
    uint32_t from = MIN(rt->req->from, found->n_hits), n = MIN(rt->req->size, found->n_hits - from);
    bool with_documents = rt->req->format != FORMAT_IDS;
    int ahead = fetch_ahead(rt, found->hits + from, n, err);
    if (ahead) return ahead;
    a->total = found->total;
    a->max_score = found->max_score;
    size_t bytes = 0;
    if (found->facets) facets_sort(found->facets);
    a->facets = found->facets;
    found->facets = NULL;
    a->hits = xcalloc(n, sizeof *a->hits);
    a->n_hits = n;
    if (with_documents && !rt->deadline.stop) documents_ahead(rt->view, found->hits + from, n, a->hits);
    for (uint32_t i = 0; i < n; i++) {
        struct search_hit *h = &found->hits[from + i];
        struct answer_hit *out = &a->hits[i];
        struct buf doc = BUF_INIT;
        if (rt->deadline.stop)
            return err_set(err, rt->deadline.stop == 1 ? ERR_CANCELED : ERR_TIMEOUT, "the query was stopped");
        int r = rt->req->explain ? explain(rt, h, out, err) : 0;
        if (!r && with_documents && !out->doc) {
            r = segment_doc(rt->view->parts[h->part_no].segment, h->docno, &doc, err);
            buf_str(&doc);
            out->doc = (char *)buf_detach(&doc, &out->doc_len);
        }
        if (r) return r;
        out->score = h->score;
        out->id = h->id;
        out->id_len = h->id_len;
        h->id = NULL;
        bytes += out->doc_len;
        if (bytes > ANSWER_MAX_BYTES)
            return err_set(err, ERR_TOO_LARGE,
                           "the answer has more than %d MB of documents: ask for fewer with size=",
                           ANSWER_MAX_BYTES >> 20);
    }
    return 0;
}

int router_query(struct core *core, const struct view *view, const char *collection,
                 const struct query_request *req, const volatile int *cancel, struct answer **ret,
                 struct err *err) {
    struct routing rt = {.core = core,
                         .view = view,
                         .req = req,
                         .want = req->format == FORMAT_COUNT ? 0 : req->size + req->from};
    struct search_result found = {0};
    struct answer *a = xcalloc(1, sizeof *a);
    int64_t start = clock_mono_us(&clock_system);
    struct page_hold hold;
    page_hold_begin(&hold, core->objects->pages);
    counter_add(&core->n_queries, 1);
    deadline_start(&rt.deadline, cancel, req->timeout_ms);
    int r = compile(&rt, err);
    if (!r) r = collect_stats(&rt, err);
    if (!r) choose_shards(&rt);
    if (!r) r = run_knn(&rt, err);
    if (!r)
        r = rt.query->root->kind == QUERY_FUSE ? run_fused(&rt, &found, err) : run_search(&rt, &found, err);
    if (!r) r = fetch(&rt, &found, a, err);
    page_hold_end(&hold);
    deadline_end(&rt.deadline);
    a->collection = xstrdup(collection);
    a->seq = view->seq;
    a->took_us = clock_mono_us(&clock_system) - start;
    search_result_release(&found);
    for (uint32_t i = 0; i < rt.n_knn; i++) search_knn_release(&rt.knn[i]);
    arena_release(&rt.arena);
    if (rt.query) search_stats_release(&rt.stats);
    query_free(rt.query);
    if (rt.req == &rt.filled) free(rt.filled.json);
    if (r)
        answer_free(a);
    else
        *ret = a;
    return r;
}
