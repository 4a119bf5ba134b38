/* Nearest neighbours: per part either an exact scan (knn_scan.c) or a search of the segment's clusters
 * (index/cluster.h), whichever promises the recall asked for at less cost. Both give exact similarities.
 *
 * The choice and the answer are functions of the segment, its dead and hidden documents and the query alone.
 */
#include "index/segment_want.h"
#include "query/collect.h"
#include "query/knn_internal.h"

/* A scan finds everything: it may take so much longer than an approximate search and is still preferred. */
#define EXACT_PREFERENCE 3.0f
/* A filter that gives less than one in so many documents is kept as a list. */
enum { LISTED_SHARE = 32, REMOTE_TRIES = 3 };

/* ---- which documents ---- */

static uint64_t *bits_new(struct search_ctx *ctx) {
    return arena_zalloc(&ctx->arena, ((size_t)ctx->hi / 64 + 1) * sizeof(uint64_t));
}

static void list_batch(struct knn_part *p, const struct batch *batch) {
    if (p->n_allowed + batch->n > p->allowed_cap) {
        p->allowed_cap = 2 * p->allowed_cap + BATCH_DOCS;
        p->allowed = xrealloc(p->allowed, p->allowed_cap * sizeof *p->allowed);
    }
    if (!p->dead) {
        memcpy(p->allowed + p->n_allowed, batch->docs, batch->n * sizeof *p->allowed);
        p->n_allowed += batch->n;
        return;
    }
    for (uint32_t i = 0; i < batch->n; i++) {
        p->allowed[p->n_allowed] = batch->docs[i];
        p->n_allowed += !deletes_has(p->dead, batch->docs[i]);
    }
}

/* The filter's documents in the current part. Valid while the part is. */
static int open_filter(struct search_ctx *ctx, const struct query_node *filter, struct knn_part *p,
                       struct err *err) {
    struct scorer *s;
    struct batch batch;
    uint64_t *bits = NULL;
    int r = scorer_new(ctx, filter, 1, false, &s, err);
    if (!r && s && s->kind == SCORER_BITS) {
        p->filter = scorer_bits(s);
        return 0;
    }
    p->listed = !s || s->cost <= (ctx->hi - ctx->lo) / LISTED_SHARE;
    if (!p->listed) p->filter = bits = bits_new(ctx);
    if (!r && s) scorer_settle(s);
    while (!r && s && scorer_fill(s, ctx->hi, &batch)) {
        if (p->listed) list_batch(p, &batch);
        for (uint32_t i = 0; !p->listed && i < batch.n; i++)
            bits[batch.docs[i] >> 6] |= 1ull << (batch.docs[i] & 63);
        r = search_poll(ctx->cancel, err);
    }
    return r ? r : search_poll(ctx->cancel, err);
}

/* As the clusters want it. */
static void list_to_bits(struct search_ctx *ctx, struct knn_part *p) {
    if (!p->listed) return;
    uint64_t *bits = bits_new(ctx);
    for (uint32_t i = 0; i < p->n_allowed; i++) bits[p->allowed[i] >> 6] |= 1ull << (p->allowed[i] & 63);
    p->filter = bits;
}

uint64_t knn_allowed_word(const struct knn_part *p, uint32_t word) {
    uint64_t bits = p->filter ? p->filter[word] : UINT64_MAX;
    if (p->dead) bits &= ~p->dead[word];
    if (word == p->lo >> 6) bits &= UINT64_MAX << (p->lo & 63);
    if (word == p->hi >> 6) bits &= ((uint64_t)1 << (p->hi & 63)) - 1;
    return bits;
}

static uint32_t count_allowed(const struct knn_part *p) {
    uint32_t n = 0;
    if (p->listed) return p->n_allowed;
    if (!p->filter && !p->dead) return p->hi - p->lo;
    for (uint32_t word = p->lo >> 6; word <= (p->hi - 1) >> 6; word++)
        n += (uint32_t)__builtin_popcountll(knn_allowed_word(p, word));
    return n;
}

/* ---- one part ---- */

/* Whether to search the clusters, and how. Filtered, the k nearest are about the k / share nearest of all. */
static bool choose_clusters(const struct knn_part *p, const struct query_node *node,
                            struct cluster_calibration *ret) {
    const struct vectors *v = &p->vectors;
    if (!v->clusters || node->recall >= 1 || p->lo || p->hi < segment_n_docs(p->segment) || !p->n_allowed)
        return false;
    *ret = clusters_settings(v->clusters, node->recall, (double)node->k * p->hi / p->n_allowed);
    float exact = cluster_exact_cost(v->dimensions, (float)MIN(p->n_allowed, v->n));
    if (p->filter || p->listed) exact /= EXACT_PREFERENCE;
    return cluster_cost(v->clusters, ret->scanned, ret->reranked) < exact;
}

static int search_clusters(const struct knn_part *p, const struct cluster_calibration *settings, uint32_t k,
                           struct collector *c, struct err *err) {
    struct cluster_search search = {.clusters = p->vectors.clusters,
                                    .vectors = &p->vectors,
                                    .query = &p->query,
                                    .k = MIN(k, p->vectors.n),
                                    .width = settings->width,
                                    .reach = settings->reach,
                                    .dead = p->dead,
                                    .filter = p->filter,
                                    .cancel = p->cancel,
                                    .skip_row = RABITQ_NO_ROW,
                                    .ahead = p->segment,
                                    .ahead_documents = !c->ids_only};
    struct cluster_hit *hits = xmalloc((size_t)search.k * sizeof *hits);
    struct batch batch = {.n = 0};
    uint32_t n = 0;
    int r = cluster_search_run(&search, hits, &n, err);
    if (!r) r = search_poll(p->cancel, err);
    for (uint32_t i = 0; i < n && !r; i++) {
        batch.docs[batch.n] = p->vectors.docs[hits[i].row];
        batch.scores[batch.n++] = hits[i].score;
        if (batch.n < BATCH_DOCS && i + 1 < n) continue;
        collector_add(c, &batch);
        batch.n = 0;
    }
    free(hits);
    return r;
}

static int search_part(struct search_ctx *ctx, size_t part, const struct query_node *node, struct knn_part *p,
                       struct collector *c, struct err *err) {
    struct cluster_calibration settings;
    search_ctx_part(ctx, part);
    const struct segment_field *field = search_ctx_field(ctx, node);
    if (!field || ctx->lo >= ctx->hi) return 0;
    int r = vectors_open_lazy(field, &p->vectors, err);
    if (r || !p->vectors.n) return r;
    if (p->vectors.dimensions != node->dimensions)
        return err_set(err, ERR_DIMENSION, "the query vector has %u dimensions, '%s' has %u",
                       node->dimensions, node->field, p->vectors.dimensions);
    p->segment = ctx->part->segment;
    p->dead = ctx->dead;
    p->lo = ctx->lo;
    p->hi = ctx->hi;
    p->filter = NULL;
    p->listed = false;
    p->n_allowed = 0;
    if (node->filter) r = open_filter(ctx, node->filter, p, err);
    if (!r) r = collector_begin(c, ctx, err);
    if (r) return r;
    p->n_allowed = count_allowed(p);
    if (choose_clusters(p, node, &settings)) {
        list_to_bits(ctx, p);
        r = search_clusters(p, &settings, node->k, c, err);
    } else {
        r = knn_scan(p, c, err);
    }
    return r ? r : collector_end(c, err);
}

/* ---- the public steps ---- */

static const struct query_node *find_knn(const struct query_node *node, uint32_t *left) {
    if (node->kind == QUERY_KNN) return (*left)-- == 0 ? node : NULL;
    if (node->kind != QUERY_BOOL && node->kind != QUERY_FUSE) return NULL;
    for (uint32_t i = 0; i < node->n_clauses; i++) {
        const struct query_node *found = find_knn(node->clauses[i].node, left);
        if (found) return found;
    }
    return NULL;
}

const struct query_node *search_knn_node(const struct query *query, uint32_t number) {
    return find_knn(query->root, &number);
}

uint32_t search_knn_count(const struct query *query) {
    uint32_t n = 0;
    while (search_knn_node(query, n)) n++;
    return n;
}

bool search_knn_whole(const struct query *query, uint32_t which, const struct segment *segment) {
    const struct query_node *node = search_knn_node(query, which);
    if (!node || node->recall >= 1) return false;
    const struct segment_field *f = segment_field(segment, node->field, strlen(node->field), FIELD_VECTOR, 0);
    return f && vectors_are_clustered(f);
}

/* One call of search_knn. */
struct knn_run {
    const struct query *query;
    const struct query_node *node;
    const struct search_stats *stats;
    const struct search_part *parts;
    size_t n_parts;
    const volatile int *cancel;
};

/* ret_unread: not NULL while the thread records: parts that miss something are left out, and it says so. */
static int search_parts(const struct knn_run *run, struct collector *c, bool *ret_unread, struct err *err) {
    struct knn_part part = {.cancel = run->cancel};
    struct search_ctx ctx;
    int r = search_poll(run->cancel, err);
    collector_init(c, NULL, 0, run->node->k);
    c->ids_only = run->query->ids_only;
    vector_query_init(&part.query, run->node->similarity, run->node->vector, run->node->dimensions);
    search_ctx_init(&ctx, run->query, run->stats, run->parts, run->n_parts, run->cancel);
    for (size_t i = 0; i < run->n_parts && !r; i++) {
        r = search_part(&ctx, i, run->node, &part, c, err);
        if (r != -ERR_AGAIN || !ret_unread) continue;
        *ret_unread = true;
        err_clear(err);
        r = 0;
    }
    search_ctx_release(&ctx);
    free(part.allowed);
    return r;
}

/* Over remote segments: a try says what is missing in all of them, which is fetched together: the lists
 * first, then the rows of the candidates in them. */
static int search_remote(const struct knn_run *run, struct collector *c, struct err *err) {
    for (int i = 0; i < REMOTE_TRIES; i++) {
        struct fetch f = FETCH_INIT, *before = fetch_record(&f);
        bool unread = false;
        int r = search_parts(run, c, &unread, err);
        fetch_record(before);
        if (!r && unread) collector_want(c, &f); /* of the parts that missed nothing */
        if (!r && unread) r = fetch_run(&f, err);
        fetch_release(&f);
        if (r || !unread) return r;
        collector_release(c);
    }
    return search_parts(run, c, NULL, err);
}

int search_knn(const struct query *query, uint32_t which, const struct search_stats *stats,
               const struct search_part *parts, size_t n_parts, const volatile int *cancel,
               struct knn_result *ret, struct err *err) {
    const struct knn_run run = {query, search_knn_node(query, which), stats, parts, n_parts, cancel};
    struct collector c;
    bool remote = false;
    if (!run.node) return err_set(err, ERR_INVALID, "the query has no knn clause %u", which);
    for (size_t i = 0; i < n_parts && !remote; i++) remote = segment_is_remote(parts[i].segment);
    int r = remote ? search_remote(&run, &c, err) : search_parts(&run, &c, NULL, err);
    if (!r) r = collector_finish(&c, &ret->hits, &ret->n, err);
    collector_release(&c);
    return r;
}

static int compare_hits(const void *a, const void *b) {
    return search_hit_compare(NULL, 0, a, b);
}

void search_knn_merge(const struct query *query, uint32_t which, struct knn_result *inputs, size_t n,
                      struct knn_result *ret) {
    const struct query_node *node = search_knn_node(query, which);
    uint32_t k = node ? node->k : 0;
    size_t total = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        total += inputs[i].n;
        if (inputs[i].n > inputs[most].n) most = i;
    }
    struct knn_result merged = inputs[most]; /* if it is all there is: in order, and no more than k */
    inputs[most] = (struct knn_result){0};
    if (merged.n < total) {
        merged.hits = xrealloc(merged.hits, total * sizeof *merged.hits);
        for (size_t i = 0; i < n; i++) {
            if (inputs[i].n)
                memcpy(merged.hits + merged.n, inputs[i].hits, inputs[i].n * sizeof *merged.hits);
            merged.n += inputs[i].n;
            inputs[i].n = 0;
        }
        qsort(merged.hits, merged.n, sizeof *merged.hits, compare_hits);
    }
    for (size_t i = 0; i < n; i++) search_knn_release(&inputs[i]);
    while (merged.n > k) search_hit_release(&merged.hits[--merged.n]);
    *ret = merged;
}

bool search_knn_alone(const struct query *query) {
    return query->root->kind == QUERY_KNN && query->root->boost == 1 && !query->n_sort && !query->n_facets;
}

void search_knn_take(struct knn_result *knn, uint32_t want, struct search_result *ret) {
    *ret = (struct search_result){.hits = knn->hits, .n_hits = knn->n, .total = knn->n};
    if (knn->n) ret->max_score = knn->hits[0].score;
    while (ret->n_hits > want) search_hit_release(&ret->hits[--ret->n_hits]);
    *knn = (struct knn_result){0};
}

void search_knn_release(struct knn_result *result) {
    for (uint32_t i = 0; i < result->n; i++) search_hit_release(&result->hits[i]);
    free(result->hits);
    *result = (struct knn_result){0};
}
