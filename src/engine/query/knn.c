/* Nearest neighbours by exact scan, with the scores of Lucene's VectorSimilarityFunction.
 *
 * Sums of products are taken in one order on every machine: element i goes to lane i mod 32, lanes are added
 * in order of i, then halves are added to each other down to one. The AVX2 version computes the same lanes
 * with wider registers and no fused multiply-add, so that a score never depends on where it was computed. */
#include "query/collect.h"
#include <math.h>

enum { LANES = 32, ROWS_PER_POLL = 1024 };

typedef float float8 __attribute__((vector_size(32), aligned(4)));

static inline __attribute__((always_inline)) float fold_lanes(float *lanes) {
    for (unsigned half = LANES / 2; half; half /= 2)
        for (unsigned i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

static inline __attribute__((always_inline)) float dot_body(const float *a, const float *b, uint32_t n) {
    float lanes[LANES] __attribute__((aligned(32)));
    float8 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const float8 *x = (const float8 *)(a + i), *y = (const float8 *)(b + i);
        s0 += x[0] * y[0];
        s1 += x[1] * y[1];
        s2 += x[2] * y[2];
        s3 += x[3] * y[3];
    }
    memcpy(lanes, &s0, 32);
    memcpy(lanes + 8, &s1, 32);
    memcpy(lanes + 16, &s2, 32);
    memcpy(lanes + 24, &s3, 32);
    for (unsigned k = 0; i < n; i++, k++) lanes[k] += a[i] * b[i];
    return fold_lanes(lanes);
}

static inline __attribute__((always_inline)) float square_body(const float *a, const float *b, uint32_t n) {
    float lanes[LANES] __attribute__((aligned(32)));
    float8 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const float8 *x = (const float8 *)(a + i), *y = (const float8 *)(b + i);
        float8 d0 = x[0] - y[0], d1 = x[1] - y[1], d2 = x[2] - y[2], d3 = x[3] - y[3];
        s0 += d0 * d0;
        s1 += d1 * d1;
        s2 += d2 * d2;
        s3 += d3 * d3;
    }
    memcpy(lanes, &s0, 32);
    memcpy(lanes + 8, &s1, 32);
    memcpy(lanes + 16, &s2, 32);
    memcpy(lanes + 24, &s3, 32);
    for (unsigned k = 0; i < n; i++, k++) lanes[k] += (a[i] - b[i]) * (a[i] - b[i]);
    return fold_lanes(lanes);
}

typedef float product_fn(const float *, const float *, uint32_t);

static float dot_plain(const float *a, const float *b, uint32_t n) {
    return dot_body(a, b, n);
}
static float square_plain(const float *a, const float *b, uint32_t n) {
    return square_body(a, b, n);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) static float dot_avx2(const float *a, const float *b, uint32_t n) {
    return dot_body(a, b, n);
}
__attribute__((target("avx2"))) static float square_avx2(const float *a, const float *b, uint32_t n) {
    return square_body(a, b, n);
}
#endif

static bool have_avx2(void) {
#ifdef __x86_64__
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

static product_fn *dot_function(void) {
#ifdef __x86_64__
    if (have_avx2()) return dot_avx2;
#endif
    return dot_plain;
}

static product_fn *square_function(void) {
#ifdef __x86_64__
    if (have_avx2()) return square_avx2;
#endif
    return square_plain;
}

/* ---- scoring ---- */

struct knn_scan {
    const struct query_node *node;
    struct vectors vectors;
    product_fn *product;
    float query_norm;       /* cosine */
    const uint64_t *filter; /* NULL: none */
};

/* Products of huge numbers overflow; a score is always finite. */
static float finite_score(float score) {
    return score > 0 ? MIN(score, FLT_MAX) : 0;
}

/* A zero vector has no direction: its cosine counts as 0. */
static float row_score(const struct knn_scan *scan, uint32_t row) {
    const float *v = scan->vectors.rows + (size_t)row * scan->vectors.dimensions;
    float x = scan->product(scan->node->vector, v, scan->vectors.dimensions), length;
    switch (scan->node->similarity) {
    case SIMILARITY_EUCLIDEAN:
        return finite_score(1.0f / (1.0f + x));
    case SIMILARITY_MAX_INNER_PRODUCT:
        return finite_score(x < 0 ? 1.0f / (1.0f - x) : x + 1.0f);
    case SIMILARITY_COSINE:
        length = scan->query_norm * scan->vectors.norms[row];
        x = length > 0 ? x / length : 0;
        break;
    case SIMILARITY_DOT_PRODUCT:
        break;
    }
    return finite_score((1.0f + x) / 2.0f);
}

static uint32_t first_row(const struct vectors *v, uint32_t docno) {
    uint32_t lo = 0, hi = v->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v->docs[mid] < docno)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int scan_rows(const struct search_ctx *ctx, const struct knn_scan *scan, struct collector *c,
                     struct err *err) {
    struct batch batch = {.n = 0};
    uint32_t end = first_row(&scan->vectors, ctx->hi);
    for (uint32_t row = first_row(&scan->vectors, ctx->lo); row < end; row++) {
        uint32_t doc = scan->vectors.docs[row];
        if (row % ROWS_PER_POLL == 0) {
            int r = search_poll(ctx->cancel, err);
            if (r) return r;
        }
        if (deletes_has(ctx->dead, doc)) continue;
        if (scan->filter && !deletes_has(scan->filter, doc)) continue;
        batch.docs[batch.n] = doc;
        batch.scores[batch.n++] = row_score(scan, row);
        if (batch.n < BATCH_DOCS) continue;
        collector_add(c, &batch);
        batch.n = 0;
    }
    collector_add(c, &batch);
    return 0;
}

/* The filter's documents in the current part; *ret_bits is in ctx's arena. */
static int filter_bits(struct search_ctx *ctx, const struct query_node *filter, const uint64_t **ret_bits,
                       struct err *err) {
    uint64_t *bits = arena_zalloc(&ctx->arena, ((size_t)ctx->hi / 64 + 1) * sizeof *bits);
    struct scorer *s;
    struct batch batch;
    int r = scorer_new(ctx, filter, 1, false, &s, err);
    if (!r && s) scorer_settle(s);
    while (!r && s && scorer_fill(s, ctx->hi, &batch)) {
        for (uint32_t i = 0; i < batch.n; i++) bits[batch.docs[i] >> 6] |= 1ull << (batch.docs[i] & 63);
        r = search_poll(ctx->cancel, err);
    }
    *ret_bits = bits;
    return r ? r : search_poll(ctx->cancel, err);
}

static int scan_part(struct search_ctx *ctx, size_t part, struct knn_scan *scan, struct collector *c,
                     struct err *err) {
    search_ctx_part(ctx, part);
    const struct segment_field *field = search_ctx_field(ctx, scan->node);
    if (!field || ctx->lo >= ctx->hi) return 0;
    int r = vectors_open(field, &scan->vectors, err);
    if (r) return r;
    if (scan->vectors.n && scan->vectors.dimensions != scan->node->dimensions)
        return err_set(err, ERR_DIMENSION, "the query vector has %u dimensions, '%s' has %u",
                       scan->node->dimensions, scan->node->field, scan->vectors.dimensions);
    scan->filter = NULL;
    if (scan->node->filter) r = filter_bits(ctx, scan->node->filter, &scan->filter, err);
    if (!r) r = collector_begin(c, ctx, err);
    if (!r) r = scan_rows(ctx, scan, c, err);
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

int search_knn(const struct query *query, uint32_t which, const struct search_stats *stats,
               const struct search_part *parts, size_t n_parts, const volatile int *cancel,
               struct knn_result *ret, struct err *err) {
    const struct query_node *node = search_knn_node(query, which);
    struct knn_scan scan = {.node = node};
    struct search_hit *hits = NULL;
    struct search_ctx ctx;
    struct collector c;
    if (!node) return err_set(err, ERR_INVALID, "the query has no knn clause %u", which);
    int r = search_poll(cancel, err);
    scan.product = node->similarity == SIMILARITY_EUCLIDEAN ? square_function() : dot_function();
    scan.query_norm = sqrtf(dot_function()(node->vector, node->vector, node->dimensions));
    search_ctx_init(&ctx, query, stats, parts, n_parts, cancel);
    collector_init(&c, NULL, 0, node->k);
    c.ids_only = query->ids_only;
    for (size_t i = 0; i < n_parts && !r; i++) r = scan_part(&ctx, i, &scan, &c, err);
    if (r) goto out;
    struct knn_result result = {0};
    r = collector_finish(&c, &hits, &result.n, err);
    if (r) goto out;
    result.hits = xmalloc(((size_t)result.n + 1) * sizeof *result.hits);
    for (uint32_t i = 0; i < result.n; i++)
        result.hits[i] =
            (struct knn_hit){hits[i].score, hits[i].part_no, hits[i].docno, hits[i].id, hits[i].id_len};
    *ret = result;
out:
    free(hits);
    collector_release(&c);
    search_ctx_release(&ctx);
    return r;
}

static int compare_knn_hits(const void *a, const void *b) {
    const struct knn_hit *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    int r = memcmp(x->id, y->id, MIN(x->id_len, y->id_len));
    return r ? r : (x->id_len > y->id_len) - (x->id_len < y->id_len);
}

void search_knn_merge(const struct query *query, uint32_t which, struct knn_result *inputs, size_t n,
                      struct knn_result *ret) {
    const struct query_node *node = search_knn_node(query, which);
    struct knn_result merged = {0};
    uint32_t k = node ? node->k : 0;
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += inputs[i].n;
    merged.hits = xmalloc((total + 1) * sizeof *merged.hits);
    for (size_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < inputs[i].n; j++) merged.hits[merged.n++] = inputs[i].hits[j];
        inputs[i].n = 0;
        search_knn_release(&inputs[i]);
    }
    qsort(merged.hits, merged.n, sizeof *merged.hits, compare_knn_hits);
    for (; merged.n > k; merged.n--) free(merged.hits[merged.n - 1].id);
    *ret = merged;
}

void search_knn_release(struct knn_result *result) {
    for (uint32_t i = 0; i < result->n; i++) free(result->hits[i].id);
    free(result->hits);
    *result = (struct knn_result){0};
}
