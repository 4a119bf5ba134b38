/* The steps of a search: statistics, the run over parts, and the merge of results. */
#include "query/collect.h"
#include "query/fuzzy.h"
#include "query/facet_count.h"
#include "query/topk.h"
#include <math.h>

/* ---- statistics ---- */

void search_stats_init(struct search_stats *stats, const struct query *query) {
    *stats = (struct search_stats){0};
    stats->term_df = xcalloc(query->n_term_slots + query->n_fuzzy + 1, sizeof *stats->term_df);
    stats->field_docs = xcalloc(query->n_field_slots + 1, sizeof *stats->field_docs);
    stats->field_ttf = xcalloc(query->n_field_slots + 1, sizeof *stats->field_ttf);
    stats->n_fuzzy = query->n_fuzzy;
    if (query->n_fuzzy) stats->fuzzy = xcalloc(query->n_fuzzy, sizeof *stats->fuzzy);
}

void search_stats_release(struct search_stats *stats) {
    free(stats->term_df);
    free(stats->field_docs);
    free(stats->field_ttf);
    for (uint32_t i = 0; i < stats->n_fuzzy; i++) {
        for (uint32_t t = 0; t < stats->fuzzy[i].n; t++) free(stats->fuzzy[i].terms[t].text);
        arena_release(&stats->fuzzy[i].arena);
    }
    free(stats->fuzzy);
    *stats = (struct search_stats){0};
}

static const struct segment_field *slot_field(const struct query *query, const struct segment *segment,
                                              uint32_t slot) {
    const char *path = query->field_slots[slot].field;
    enum field_type type = query->field_slots[slot].type;
    return segment_field(segment, path, strlen(path), type,
                         type == FIELD_TEXT ? query->field_slots[slot].analyzer : 0);
}

int search_stats_add(struct search_stats *stats, const struct query *query, const struct search_part *part,
                     struct err *err) {
    stats->n_docs += segment_n_docs(part->segment) - deletes_count(part->deletes);
    for (uint32_t i = 0; i < query->n_field_slots; i++) {
        const struct segment_field *field = slot_field(query, part->segment, i);
        struct field_stats all, dead;
        if (!field) continue;
        segment_field_stats(field, &all);
        deletes_field(part->deletes, field, &dead);
        stats->field_docs[i] += all.n_docs - dead.n_docs;
        stats->field_ttf[i] += all.sum_ttf - dead.sum_ttf;
    }
    for (uint32_t i = 0; i < query->n_term_slots; i++) {
        const struct segment_field *field = slot_field(query, part->segment, query->term_slots[i].field_slot);
        struct term_info info;
        if (!field) continue;
        int r = term_find(field, query->term_slots[i].text, query->term_slots[i].len, &info, err);
        if (r) return r;
        if (info.df) stats->term_df[i] += info.df - deletes_term_df(part->deletes, field, info.ord);
    }
    return 0;
}

/* ---- running ---- */

/* The part's root scorer, on its first match; NULL when there is none. */
static int open_root(struct search_ctx *ctx, bool scored, struct scorer **ret, struct err *err) {
    *ret = NULL;
    if (ctx->lo >= ctx->hi) return 0;
    int r = scorer_new(ctx, ctx->query->root, 1, scored, ret, err);
    if (!r && *ret) scorer_settle(*ret);
    return r;
}

/* Every match, scored. */
static int drain(struct search_ctx *ctx, struct collector *c, struct facet_counter *counter,
                 struct err *err) {
    struct batch batch;
    struct scorer *root;
    int r = open_root(ctx, ctx->query->needs_scores, &root, err);
    while (!r && root && scorer_fill(root, ctx->hi, &batch)) {
        search_ctx_live(ctx, &batch);
        collector_add(c, &batch);
        if (counter) r = facet_counter_add(counter, &batch, err);
        if (!r) r = search_poll(ctx->cancel, err);
    }
    return r;
}

static int run_part(struct search_ctx *ctx, size_t part, struct collector *c, struct facets *facets,
                    struct err *err) {
    struct facet_counter counter;
    search_ctx_part(ctx, part);
    if (ctx->lo >= ctx->hi) return search_poll(ctx->cancel, err);
    int r = collector_begin(c, ctx, err);
    if (r) return r;
    if (facets) r = facet_counter_begin(&counter, facets, ctx, err);
    if (!r) r = (topk_supports(ctx, c) ? topk_run : drain)(ctx, c, facets ? &counter : NULL, err);
    if (!r) r = search_poll(ctx->cancel, err);
    if (!r && facets) r = facet_counter_end(&counter, err);
    if (facets) facet_counter_release(&counter);
    return r ? r : collector_end(c, err);
}

int search_run(const struct query *query, const struct search_stats *stats, const struct knn_result *knn,
               const struct search_part *parts, size_t n_parts, uint32_t want, const volatile int *cancel,
               struct search_result *ret, struct err *err) {
    struct search_ctx ctx;
    struct collector c;
    int r = search_poll(cancel, err);
    search_ctx_init(&ctx, query, stats, parts, n_parts, cancel);
    ctx.knn = knn;
    collector_init(&c, query->sort, query->n_sort, want);
    c.ids_only = query->ids_only;
    struct search_result result = {.facets = facets_new(query)};
    for (size_t i = 0; i < n_parts && !r; i++) r = run_part(&ctx, i, &c, result.facets, err);
    if (!r) r = collector_finish(&c, &result.hits, &result.n_hits, err);
    result.total = c.total;
    result.max_score = c.total ? c.max_score : 0;
    if (!r)
        *ret = result;
    else
        facets_free(result.facets);
    collector_release(&c);
    search_ctx_release(&ctx);
    return r;
}

int search_matches(const struct query *query, const struct search_stats *stats,
                   const struct search_part *part, const volatile int *cancel,
                   int (*visit)(void *ctx, uint32_t docno, struct err *), void *visit_ctx, struct err *err) {
    struct search_ctx ctx;
    struct scorer *root;
    struct batch batch;
    search_ctx_init(&ctx, query, stats, part, 1, cancel);
    search_ctx_part(&ctx, 0);
    int r = open_root(&ctx, false, &root, err);
    while (!r && root && scorer_fill(root, ctx.hi, &batch)) {
        search_ctx_live(&ctx, &batch);
        r = search_poll(cancel, err);
        for (uint32_t i = 0; i < batch.n && !r; i++) r = visit(visit_ctx, batch.docs[i], err);
    }
    if (!r) r = search_poll(cancel, err);
    search_ctx_release(&ctx);
    return r;
}

/* ---- results ---- */

void search_result_release(struct search_result *result) {
    for (uint32_t i = 0; i < result->n_hits; i++) search_hit_release(&result->hits[i]);
    free(result->hits);
    facets_free(result->facets);
    *result = (struct search_result){0};
}

/* The input whose next hit is best; n when all are used up. at[i]: input i's next hit. */
static size_t best_input(const struct query *query, const struct search_result *inputs, const uint32_t *at,
                         size_t n) {
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        if (at[i] >= inputs[i].n_hits) continue;
        if (best == n || search_hit_compare(query->sort, query->n_sort, &inputs[i].hits[at[i]],
                                            &inputs[best].hits[at[best]]) < 0)
            best = i;
    }
    return best;
}

int search_merge(const struct query *query, struct search_result *inputs, size_t n, uint32_t want,
                 struct search_result *ret, struct err *err) {
    struct search_result merged = {.max_score = -INFINITY, .facets = facets_new(query)};
    int r = 0;
    uint32_t *at = xcalloc(n + 1, sizeof *at);
    uint64_t available = 0;
    for (size_t i = 0; i < n; i++) {
        merged.total += inputs[i].total;
        available += inputs[i].n_hits;
        if (inputs[i].total) merged.max_score = MAX(merged.max_score, inputs[i].max_score);
        if (!r && merged.facets && inputs[i].facets) r = facets_add(merged.facets, inputs[i].facets, err);
    }
    if (!merged.total) merged.max_score = 0;
    merged.hits = xmalloc((size_t)MIN(available, want) * sizeof *merged.hits + 1);
    while (!r && merged.n_hits < want) {
        size_t best = best_input(query, inputs, at, n);
        if (best == n) break;
        struct search_hit *hit = &inputs[best].hits[at[best]++];
        merged.hits[merged.n_hits++] = *hit;
        *hit = (struct search_hit){0};
    }
    for (size_t i = 0; i < n; i++) search_result_release(&inputs[i]);
    free(at);
    if (r)
        search_result_release(&merged);
    else
        *ret = merged;
    return r;
}
