/* What recall costs, measured: rows of the segment as queries, each held out from its own answer.
 *
 * Two things lose neighbours: lists that are not scanned (width) and estimates that are off by more than is
 * allowed for (reach). Their losses are measured apart, add up, and for each recall the cheapest pair is
 * stored that loses less than nine tenths of what it may. Then the pair is run. */
#include <math.h>

#include "index/cluster_internal.h"
#include "index/index.h"
#include "index/kmeans.h"
#include "index/parallel.h"

enum {
    MAX_QUERIES = 320,
    QUERIES_PER_ITEM = 32,
    MARGIN = 16,
    SMALL_K = CLUSTER_LEAST_K,
    LARGE_K = 100,
    MAX_WIDTHS = 24,
    MAX_WIDENINGS = 12,
    FLAT_STEPS = 2
};
#define FIRST_WIDTH 0.08f
#define WIDTH_STEP  1.3f
#define WIDE_REACH  2.5f /* loses next to nothing */

static const float recalls[] = {0.5f,  0.7f,  0.8f,  0.85f,  0.9f,  0.93f,  0.95f,
                                0.96f, 0.97f, 0.98f, 0.985f, 0.99f, 0.995f, 0.999f};
static const float reaches[] = {0.2f, 0.4f, 0.6f, 0.8f, 1.0f, 1.2f, 1.4f, 1.6f, 1.8f, 2.0f, 2.25f};
enum { N_RECALLS = ARRAY_SIZE(recalls), N_REACHES = ARRAY_SIZE(reaches) };
_Static_assert(2 * N_RECALLS <= CLUSTER_MAX_CALIBRATIONS, "the table has room");

struct calibrating {
    const struct cluster_source *s;
    struct clusters *c;
    uint32_t n_queries, k_max; /* neighbours known of each query */
    float *kth;                /* n_queries x k_max: the scores of the nearest, best first */
    /* one run over all queries */
    uint32_t k, n_run; /* the first so many */
    float width, reach;
    double *found, *scanned, *reranked;
};

/* Evenly over the rows, and so are those of the first quarter and half. */
static uint32_t query_row(const struct calibrating *p, size_t query) {
    uint64_t half = (p->n_queries + 1) / 2, quarter = (half + 1) / 2, place = 2 * (query - half) + 1;
    if (query < half) place = query < quarter ? 4 * query : 4 * (query - quarter) + 2;
    return (uint32_t)((place * p->s->n + p->s->n / 2) / p->n_queries);
}

static void query_of(const struct calibrating *p, size_t query, struct vector_query *ret) {
    vector_query_init(ret, p->s->similarity, p->s->rows[query_row(p, query)], p->s->dimensions);
}

/* ---- the truth ---- */

struct near {
    float key;
    uint32_t row;
};

static void near_add(struct near *list, uint32_t *n, uint32_t max, float key, uint32_t row) {
    uint32_t i = *n < max ? (*n)++ : max - 1;
    for (; i && list[i - 1].key > key; i--) list[i] = list[i - 1];
    list[i] = (struct near){key, row};
}

static int by_score(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The exact scores of what the quick keys found, with some to spare. */
static void keep_scores(struct calibrating *p, size_t query, const struct near *list, uint32_t n) {
    struct vector_query q;
    float *scores = xcalloc(p->k_max + MARGIN, sizeof *scores);
    query_of(p, query, &q);
    for (uint32_t i = 0; i < n; i++)
        scores[i] = vector_query_score(&q, vector_query_product(&q, p->s->rows[list[i].row]),
                                       p->s->norms[list[i].row]);
    qsort(scores, n, sizeof *scores, by_score);
    memcpy(p->kth + query * p->k_max, scores, p->k_max * sizeof *scores);
    free(scores);
}

/* Smaller is nearer. */
static float quick_key(const struct calibrating *p, uint32_t row, float product) {
    float norm = p->s->norms[row];
    if (p->c->inner_product) return -product;
    if (p->c->normalised) return norm > 0 ? -product / norm : 0;
    return norm * norm - 2 * product;
}

static void truth_item(void *ctx, size_t item) {
    struct calibrating *p = ctx;
    const struct cluster_source *s = p->s;
    uint32_t first = (uint32_t)item * QUERIES_PER_ITEM,
             n = MIN((uint32_t)QUERIES_PER_ITEM, p->n_queries - first);
    uint32_t max = p->k_max + MARGIN, counts[QUERIES_PER_ITEM] = {0};
    struct near *lists = xmalloc((size_t)n * max * sizeof *lists);
    float *queries = xmalloc((size_t)n * s->dimensions * sizeof *queries);
    float products[CENTROID_TILE * QUERIES_PER_ITEM], worst[QUERIES_PER_ITEM];
    struct centroid_panels panels;
    for (uint32_t q = 0; q < n; q++) {
        memcpy(queries + (size_t)q * s->dimensions, s->rows[query_row(p, first + q)],
               s->dimensions * sizeof *queries);
        worst[q] = INFINITY;
    }
    centroid_panels_init(&panels, queries, n, s->dimensions);
    for (uint32_t row = 0; row < s->n && !merge_canceled(s->cancel); row += CENTROID_TILE) {
        uint32_t rows = MIN((uint32_t)CENTROID_TILE, s->n - row), stride = (n + 15) / 16 * 16;
        centroid_panels_products(&panels, s->rows + row, rows, products);
        for (uint32_t r = 0; r < rows; r++) {
            for (uint32_t q = 0; q < n; q++) {
                float key = quick_key(p, row + r, products[r * stride + q]);
                if (!(key < worst[q]) || query_row(p, first + q) == row + r) continue;
                near_add(lists + (size_t)q * max, &counts[q], max, key, row + r);
                if (counts[q] == max) worst[q] = lists[(size_t)q * max + max - 1].key;
            }
        }
    }
    for (uint32_t q = 0; q < n; q++) keep_scores(p, first + q, lists + (size_t)q * max, counts[q]);
    centroid_panels_release(&panels);
    free(queries);
    free(lists);
}

/* ---- a run ---- */

static void run_item(void *ctx, size_t query) {
    struct calibrating *p = ctx;
    struct vector_query q;
    struct vectors v = {.n = p->s->n, .dimensions = p->s->dimensions, .norms = p->s->norms};
    struct cluster_hit *hits = xmalloc(p->k * sizeof *hits);
    struct cluster_search search = {.clusters = p->c,
                                    .vectors = &v,
                                    .rows = p->s->rows,
                                    .query = &q,
                                    .k = p->k,
                                    .width = p->width,
                                    .reach = p->reach,
                                    .cancel = p->s->cancel,
                                    .skip_row = query_row(p, query)};
    struct err ignored;
    uint32_t n = 0, found = 0;
    query_of(p, query, &q);
    cluster_search_run(&search, hits, &n, &ignored); /* in memory: nothing can fail */
    for (uint32_t i = 0; i < n; i++) found += hits[i].score >= p->kth[query * p->k_max + p->k - 1];
    p->found[query] = found;
    p->scanned[query] = (double)search.n_scanned;
    p->reranked[query] = (double)search.n_reranked;
    free(hits);
}

struct point {
    float setting, loss, scanned, reranked;
};

static struct point run(struct calibrating *p, uint32_t k, float width, float reach, float setting) {
    double found = 0, scanned = 0, reranked = 0, n = p->n_run;
    p->k = k;
    p->width = width;
    p->reach = reach;
    parallel_for(p->n_run, run_item, p);
    for (uint32_t q = 0; q < p->n_run; q++) {
        found += p->found[q];
        scanned += p->scanned[q];
        reranked += p->reranked[q];
    }
    return (struct point){setting, (float)(1 - found / (n * k)), (float)(scanned / n), (float)(reranked / n)};
}

/* ---- the table ---- */

struct curves {
    struct point widths[MAX_WIDTHS], reaches[N_REACHES];
    unsigned n_widths;
    float reach_floor; /* what is lost at the reaches' width anyway */
};

/* What little is still lost is not in other lists: the last steps scanned far more and found no more. */
static bool is_flat(const struct curves *curves) {
    if (curves->n_widths <= FLAT_STEPS) return false;
    const struct point *at = &curves->widths[curves->n_widths - 1], *before = at - FLAT_STEPS;
    return at->loss < 0.002f && at->loss >= before->loss && at->scanned >= 1.5f * before->scanned;
}

static void measure(struct calibrating *p, uint32_t k, struct curves *curves) {
    float width = FIRST_WIDTH;
    curves->n_widths = 0;
    while (curves->n_widths < MAX_WIDTHS) {
        struct point *at = &curves->widths[curves->n_widths++];
        *at = run(p, k, width, WIDE_REACH, width);
        if (at->loss < 0.0005f || at->scanned >= (float)p->s->n || is_flat(curves)) break;
        width *= WIDTH_STEP;
    }
    unsigned middle = 0; /* the least width that loses about one in a hundred */
    while (middle + 1 < curves->n_widths && curves->widths[middle].loss > 0.01f) middle++;
    curves->reach_floor = curves->widths[middle].loss;
    for (unsigned i = 0; i < N_REACHES; i++)
        curves->reaches[i] = run(p, k, curves->widths[middle].setting, reaches[i], reaches[i]);
}

/* The least width that loses no more; by a line through the logarithms of the losses. False: there is none.
 */
static bool width_for(const struct curves *curves, float loss, struct point *ret) {
    unsigned i = 0;
    while (i < curves->n_widths && curves->widths[i].loss > loss) i++;
    if (i == curves->n_widths) return false;
    *ret = curves->widths[i];
    if (!i) return true;
    const struct point *a = &curves->widths[i - 1], *b = &curves->widths[i];
    float la = logf(a->loss), lb = logf(MAX(b->loss, 1e-5f)), part = (la - logf(loss)) / MAX(la - lb, 1e-6f);
    part = MIN(MAX(part, 0.0f), 1.0f);
    ret->setting = a->setting + part * (b->setting - a->setting);
    ret->scanned = a->scanned + part * (b->scanned - a->scanned);
    return true;
}

static struct cluster_calibration settle(const struct calibrating *p, const struct curves *curves, uint32_t k,
                                         float recall) {
    const struct point *last = &curves->widths[curves->n_widths - 1];
    struct cluster_calibration best = {
        recall, k, CLUSTER_ALL_LISTS, CLUSTER_FULL_REACH, (float)p->s->n, last->reranked};
    float allowed = (1 - recall) * 0.9f, least = INFINITY;
    for (unsigned i = 0; i < N_REACHES; i++) {
        const struct point *reach = &curves->reaches[i];
        struct point width;
        float lost = MAX(0.0f, reach->loss - curves->reach_floor);
        if (lost >= allowed || !width_for(curves, allowed - lost, &width)) continue;
        float cost = cluster_cost(p->c, width.scanned, reach->reranked);
        if (cost >= least) continue;
        least = cost;
        best = (struct cluster_calibration){recall,         k, width.setting, reach->setting, width.scanned,
                                            reach->reranked};
    }
    return best;
}

/* The losses are not quite independent: what does lose too much is made wider. */
static struct cluster_calibration confirm(struct calibrating *p, struct cluster_calibration c) {
    for (unsigned i = 0; i < MAX_WIDENINGS && c.width < CLUSTER_ALL_LISTS; i++) {
        struct point at = run(p, c.k, c.width, c.reach, 0);
        c.scanned = at.scanned;
        c.reranked = at.reranked;
        if (at.loss <= (1 - c.recall) * 0.95f) return c;
        c.width *= 1.1f;
        c.reach *= 1.05f;
    }
    c.width = CLUSTER_ALL_LISTS;
    c.reach = CLUSTER_FULL_REACH;
    c.scanned = (float)p->s->n;
    return c;
}

int clusters_calibrate(const struct cluster_source *s, struct clusters *c, struct err *err) {
    struct calibrating p = {.s = s, .c = c};
    uint32_t ks[2] = {SMALL_K, LARGE_K};
    struct curves curves;
    p.n_queries = MAX(1u, MIN((uint32_t)MAX_QUERIES, s->n / 8));
    p.n_run = p.n_queries;
    p.k_max = MIN((uint32_t)LARGE_K, MAX(1u, s->n / 4));
    p.kth = xcalloc((size_t)p.n_queries * p.k_max, sizeof *p.kth);
    p.found = xcalloc(p.n_queries, sizeof *p.found);
    p.scanned = xcalloc(p.n_queries, sizeof *p.scanned);
    p.reranked = xcalloc(p.n_queries, sizeof *p.reranked);
    parallel_for((p.n_queries + QUERIES_PER_ITEM - 1) / QUERIES_PER_ITEM, truth_item, &p);
    for (unsigned i = 0; i < ARRAY_SIZE(ks) && !merge_canceled(s->cancel); i++) {
        uint32_t k = MIN(ks[i], p.k_max);
        if (i && k <= c->calibrations[c->n_calibrations - 1].k) break;
        if (i && p.n_queries == MAX_QUERIES)
            p.n_run = MAX_QUERIES / 4; /* each has ten times the neighbours */
        measure(&p, k, &curves);
        for (unsigned r = 0; r < N_RECALLS; r++)
            c->calibrations[c->n_calibrations++] = confirm(&p, settle(&p, &curves, k, recalls[r]));
    }
    free(p.kth);
    free(p.found);
    free(p.scanned);
    free(p.reranked);
    return merge_canceled(s->cancel) ? err_set(err, ERR_CANCELED, "canceled") : 0;
}
