/* The best by score: matches are found and counted as bitmaps, and scored only where bounds allow a hit. */
#include "query/topk.h"

#include "query/facet_count.h"
#include "query/kernels.h"
#include "query/match.h"
#include "util/heap.h"
#include <math.h>

enum {
    WINDOW_FIRST = 256, /* the first window is short: it only sets a threshold */
    WHOLE_WINDOW = 1 << 16,
    ORDER_BLOCKS = 4, /* with fewer there is nothing to choose from */
    POLL_BLOCKS = 256,
    FEW_BLOCKS = 4,       /* in a window: so many are worth looking at for the window's bound */
    LOOKUP_POSTINGS = 16, /* to look a document up costs about as much as to score so many */
};

/* Of the bar: so much is left to leaves that are looked up. Less makes longer lists to run over, more makes
 * more candidates. */
#define LOOKUP_SHARE 0.6

/* One part. Sums are in double; `bar` is below every sum that rounds to a score the collector takes, by more
 * than what the order of adding and the rounding of inner sums can make (README.md). */
struct topk {
    struct search_ctx *ctx;
    struct collector *collector;
    struct facet_counter *facets;
    const struct kernels *kernels;
    struct match *root;
    struct match_leaves leaves; /* in ascending order of their bounds in the window */
    uint32_t begin, end, n_words;
    bool whole;  /* a single term over a whole segment: counted by its statistics, bits are not made */
    bool scored; /* false: all scores are 0 */
    bool all;    /* every match is for the collector */
    float least; /* the least score that the collector takes */
    double bar;
    double rest[MATCH_MAX_LEAVES + 1];    /* sum of the bounds of the leaves before this one */
    const uint8_t *has[MATCH_MAX_LEAVES]; /* match_bits of the leaves that are looked up */
    uint64_t bits[MATCH_WORDS], candidates[MATCH_WORDS];
    double *sums; /* MATCH_WINDOW */
};

/* ---- the threshold ---- */

/* A sum below the middle of `least` and the float before rounds to less than least. n additions in any order
 * are off by less than n 2^-52 of the sum; a nested sum is rounded to float at each of at most 100 levels. */
static void set_bar(struct topk *k) {
    float least = collector_least(k->collector);
    if (least == k->least) return;
    k->least = least;
    if (!(least > 0) || least < k->leaves.tiny)
        k->bar = -INFINITY;
    else if (k->leaves.n == 1 && !k->leaves.nested)
        k->bar = (double)least;
    else
        k->bar =
            ((double)float_before(least) + (double)least) / 2 * (1 - (k->leaves.nested ? 0x1p-16 : 0x1p-42));
}

/* ---- bounds ---- */

/* Bounds the scores of the block that holds the first document at or behind `at`. False: there is none. */
static bool block_bound(struct match_leaf *leaf, uint32_t at) {
    struct impact impacts[8];
    if (at >= leaf->block_first && at <= leaf->block_last) return true;
    unsigned n = postings_impacts(&leaf->postings, at, &leaf->block_last, impacts);
    leaf->block_first = n ? at : UINT32_MAX;
    if (n) leaf->block_bound = term_score_bound(&leaf->score, impacts, n);
    return n;
}

static uint32_t leaf_next(const struct match_leaf *leaf, uint32_t from) {
    uint32_t at = MAX(leaf->at, from);
    return leaf->postings.doc > at ? leaf->postings.doc : at;
}

static float window_bound(struct match_leaf *leaf, uint32_t begin, uint32_t end) {
    float best = 0;
    for (uint32_t at = leaf_next(leaf, begin); at < end; at = leaf->block_last + 1) {
        if (!block_bound(leaf, at)) break;
        best = MAX(best, leaf->block_bound);
    }
    return best;
}

/* Lists with few blocks in the window are bounded by these, others by the whole list. */
static void bound_leaves(struct topk *k) {
    struct match_leaf **leaves = k->leaves.all;
    uint64_t span = k->ctx->hi;
    for (uint32_t i = 0; i < k->leaves.n; i++) {
        struct match_leaf *leaf = leaves[i];
        bool few = (uint64_t)leaf->df * (k->end - k->begin) <= span * FEW_BLOCKS * POSTINGS_BLOCK;
        leaf->bound = (double)leaf->list_bound;
        if (few && leaf->match->kind == MATCH_TERM && term_score_reads_freqs(&leaf->score))
            leaf->bound = (double)window_bound(leaf, k->begin, k->end);
        uint32_t at = i;
        for (; at && leaves[at - 1]->bound > leaf->bound; at--) leaves[at] = leaves[at - 1];
        leaves[at] = leaf;
    }
    for (uint32_t i = 0; i < k->leaves.n; i++) k->rest[i + 1] = k->rest[i] + leaves[i]->bound;
}

/* How many leaves stay below the bar by themselves. */
static uint32_t count_optional(const struct topk *k, double bar) {
    uint32_t n = 0;
    while (n < k->leaves.n && k->rest[n + 1] < bar) n++;
    return n;
}

/* ---- one candidate ---- */

/* The leaf's score of a document that it has, as far as is known. Documents ascend. */
static float leaf_lookup(struct match_leaf *leaf, uint32_t doc) {
    struct postings *p = &leaf->postings;
    if (leaf->match->kind == MATCH_BITS) return leaf->score.fixed;
    if (p->bitmap_words) return term_score_of(&leaf->score, doc, postings_bitmap_freq(p, doc));
    if (p->doc < doc) postings_advance(p, doc);
    return p->doc == doc ? term_score_at(&leaf->score, p) : 0;
}

/* The score whose sum, added in some order, is known. Where the order of adding could show, or sums are
 * nested, it is computed as written. */
static int final_score(struct topk *k, uint32_t doc, double sum, float *ret, struct err *err) {
    double off = sum * (double)k->leaves.n * 0x1p-51;
    bool match;
    *ret = (float)sum;
    if (!k->leaves.nested && (k->leaves.n <= 1 || (float)(sum - off) == (float)(sum + off))) return 0;
    return match_score(k->ctx, k->root, doc, &match, ret, err);
}

static inline bool leaf_has(const struct topk *k, uint32_t i, uint32_t doc) {
    return !k->has[i] || (k->has[i][(doc - k->begin) >> 3] >> (doc & 7) & 1);
}

/* Can a document of which the leaves from n on are in the sum be a hit, given which of the others it has? */
static inline bool is_promising(const struct topk *k, uint32_t doc, double sum, uint32_t n) {
    for (; n; n--) {
        if (sum + k->rest[n] < k->bar) return false;
        if (leaf_has(k, n - 1, doc)) sum += k->leaves.all[n - 1]->bound;
    }
    return sum >= k->bar;
}

/* A match of which the leaves from n on are in the sum: adds the others while there is hope, and offers it.
 */
static int offer(struct topk *k, uint32_t doc, double sum, uint32_t n, struct err *err) {
    struct match_leaf *found[MATCH_MAX_LEAVES];
    double
        bounds[MATCH_MAX_LEAVES + 1]; /* of the leaves found from this one on; only added up: exact enough */
    uint32_t n_found = 0;
    float score;
    for (uint32_t i = n; i-- > 0;)
        if (leaf_has(k, i, doc)) found[n_found++] = k->leaves.all[i];
    bounds[n_found] = 0;
    for (uint32_t i = n_found; i-- > 0;) bounds[i] = bounds[i + 1] + found[i]->bound;
    for (uint32_t i = 0; i < n_found; i++) {
        if (sum + bounds[i] < k->bar) return 0;
        sum += (double)leaf_lookup(found[i], doc);
    }
    if (sum < k->bar) return 0;
    int r = final_score(k, doc, sum, &score, err);
    if (r || score < k->least) return r;
    collector_offer(k->collector, doc, score);
    set_bar(k);
    return 0;
}

/* ---- one window ---- */

static uint32_t score_run(const struct topk *k, struct match_leaf *leaf, const uint32_t **ret_docs,
                          float scores[POSTINGS_BLOCK]) {
    const struct term_score *s = &leaf->score;
    const uint32_t *freqs;
    uint32_t n = postings_run(&leaf->postings, k->end, ret_docs, &freqs);
    if (s->norms) k->kernels->term_scores(s->weight, s->norm_inverse, s->norms, *ret_docs, freqs, n, scores);
    for (uint32_t i = 0; !s->norms && i < n; i++)
        scores[i] = s->token > 0 ? term_score_token(s, freqs[i]) : s->fixed;
    return n;
}

static void add_bits(struct topk *k, const struct match_leaf *leaf) {
    const uint64_t *bits = leaf->match->bits;
    for (uint32_t w = 0; w < k->n_words; w++)
        for (uint64_t left = bits ? bits[k->begin / 64 + w] : ~0ull; left; left &= left - 1)
            k->sums[64 * w + (uint32_t)__builtin_ctzll(left)] += (double)leaf->score.fixed;
}

/* Adds the leaf's scores in the window to the sums. */
static void add_leaf(struct topk *k, struct match_leaf *leaf) {
    struct postings *p = &leaf->postings;
    float scores[POSTINGS_BLOCK];
    const uint32_t *docs;
    if (leaf->match->kind == MATCH_BITS) {
        add_bits(k, leaf);
        return;
    }
    uint32_t from = leaf_next(leaf, k->begin);
    if (p->doc < from) postings_advance(p, from);
    while (p->doc < k->end) {
        uint32_t n = score_run(k, leaf, &docs, scores);
        for (uint32_t i = 0; i < n; i++) k->sums[docs[i] - k->begin] += (double)scores[i];
        postings_skip_run(p, n);
    }
    leaf->at = k->end;
}

/* Offers the documents of k->candidates, of which the leaves from n_optional on are in the sums (NULL: 0). */
static int offer_all(struct topk *k, const double *sums, uint32_t n_optional, struct err *err) {
    for (uint32_t w = 0; w < k->n_words; w++)
        for (uint64_t left = k->candidates[w]; left; left &= left - 1) {
            uint32_t at = 64 * w + (uint32_t)__builtin_ctzll(left);
            if (!is_promising(k, k->begin + at, sums ? sums[at] : 0, n_optional)) continue;
            int r = offer(k, k->begin + at, sums ? sums[at] : 0, n_optional, err);
            if (r) return r;
        }
    return 0;
}

static int by_sums(struct topk *k, uint32_t n_optional, struct err *err) {
    if (!k->sums) k->sums = arena_alloc_lines(&k->ctx->arena, MATCH_WINDOW * sizeof *k->sums);
    memset(k->sums, 0, 64 * k->n_words * sizeof *k->sums);
    for (uint32_t i = n_optional; i < k->leaves.n; i++) add_leaf(k, k->leaves.all[i]);
    memcpy(k->candidates, k->bits, k->n_words * sizeof *k->bits);
    k->kernels->keep_above(k->sums, k->bar - k->rest[n_optional], k->candidates, k->n_words);
    return offer_all(k, k->sums, n_optional, err);
}

static bool is_match(const struct topk *k, uint32_t doc) {
    if (k->whole) return !deletes_has(k->ctx->dead, doc);
    return k->bits[(doc - k->begin) >> 6] >> (doc & 63) & 1;
}

/* The greatest float that is not above x. */
static float float_below(double x) {
    float f = (float)x;
    return (double)f > x ? float_before(f) : f;
}

/* A hit needs the last leaf: its blocks whose bound is too low are not read. */
static int by_blocks(struct topk *k, struct err *err) {
    uint32_t n = k->leaves.n - 1, found[POSTINGS_BLOCK];
    struct match_leaf *leaf = k->leaves.all[n];
    struct postings *p = &leaf->postings;
    float scores[POSTINGS_BLOCK];
    const uint32_t *docs;
    int r = 0;
    while ((leaf->at = leaf_next(leaf, k->begin)) < k->end && !r) {
        if (!block_bound(leaf, leaf->at)) break;
        if ((double)leaf->block_bound < k->bar - k->rest[n]) {
            leaf->at = MIN(leaf->block_last + 1, k->end); /* the next window has other bounds */
            continue;
        }
        if (p->doc < leaf->at) leaf->at = postings_advance(p, leaf->at);
        if (leaf->at >= k->end) break;
        uint32_t n_docs = score_run(k, leaf, &docs, scores);
        uint32_t n_found = k->kernels->find_above(scores, float_below(k->bar - k->rest[n]), n_docs, found);
        for (uint32_t i = 0; i < n_found && !r; i++) {
            uint32_t doc = docs[found[i]];
            double score = (double)scores[found[i]];
            if (is_promising(k, doc, score, n) && is_match(k, doc)) r = offer(k, doc, score, n, err);
        }
        leaf->at = docs[n_docs - 1] + 1;
    }
    return r;
}

/* So few matches that to look each up is less than to run over the lists. */
static bool prefer_lookups(const struct topk *k, uint32_t n_matches, uint32_t n_optional) {
    uint64_t postings = 0;
    for (uint32_t i = n_optional; i < k->leaves.n; i++) postings += k->leaves.all[i]->df;
    return (uint64_t)n_matches * (k->leaves.n - n_optional) * LOOKUP_POSTINGS <
           postings * (k->end - k->begin) / (k->ctx->hi + 1u);
}

/* The first n leaves will be looked up. */
static void find_bits(struct topk *k, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) k->has[i] = match_bits(k->leaves.all[i]->match, k->begin, k->n_words);
}

static int score_window(struct topk *k, uint32_t n_matches, struct err *err) {
    uint32_t n = k->leaves.n;
    set_bar(k);
    bound_leaves(k);
    uint32_t n_optional = count_optional(k, k->bar);
    if (n_optional == n && k->rest[n] < k->bar) return 0;
    if (!n || (!k->whole && prefer_lookups(k, n_matches, n_optional))) {
        find_bits(k, n);
        memcpy(k->candidates, k->bits, k->n_words * sizeof *k->bits);
        return offer_all(k, NULL, n, err);
    }
    bool needed = k->rest[n_optional] < k->bar || k->root->kind == MATCH_TERM; /* is the last leaf? */
    if (needed && n_optional + 1 == n && k->leaves.all[n_optional]->match->kind == MATCH_TERM) {
        find_bits(k, n_optional);
        return by_blocks(k, err);
    }
    n_optional = count_optional(k, k->bar * LOOKUP_SHARE);
    find_bits(k, n_optional);
    return by_sums(k, n_optional, err);
}

/* ---- all windows ---- */

/* The matches as batches without scores. */
static int give_all(struct topk *k, struct err *err) {
    struct batch batch = {.n = 0};
    int r = 0;
    for (uint32_t w = 0; w < k->n_words && !r; w++) {
        for (uint64_t left = k->bits[w]; left; left &= left - 1) {
            batch.docs[batch.n] = k->begin + 64 * w + (uint32_t)__builtin_ctzll(left);
            batch.scores[batch.n++] = 0;
        }
        if (batch.n <= BATCH_DOCS - 64 && w + 1 < k->n_words) continue;
        if (k->all) collector_add(k->collector, &batch);
        if (k->facets) r = facet_counter_add(k->facets, &batch, err);
        batch.n = 0;
    }
    return r;
}

/* The window's live matches. */
static uint32_t find_matches(struct topk *k) {
    const struct search_ctx *ctx = k->ctx;
    match_window(k->root, k->begin, k->end, k->bits);
    if (ctx->dead) bits_and_not(k->bits, ctx->dead + k->begin / 64, k->n_words);
    if (k->begin < ctx->lo) k->bits[0] &= ~0ull << (ctx->lo & 63);
    if (k->end % 64) k->bits[k->n_words - 1] &= ~(~0ull << (k->end & 63));
    return k->kernels->count(k->bits, k->n_words);
}

static int run_window(struct topk *k, struct err *err) {
    uint32_t n = k->whole ? 1 : find_matches(k);
    int r = 0;
    if (!n) return 0;
    if (k->all || k->facets) r = give_all(k, err);
    if (r || k->all) return r;
    if (!k->whole) collector_count(k->collector, n);
    return score_window(k, n, err);
}

static int run_windows(struct topk *k, struct err *err) {
    uint32_t size = WINDOW_FIRST, from = k->ctx->lo, hi = k->ctx->hi;
    int r = 0;
    while (!r && (from = k->whole ? from : match_first(k->root, from)) < hi) {
        k->begin = from & ~63u;
        k->end = hi - k->begin > size ? k->begin + size : hi;
        k->n_words = (k->end - k->begin + 63) / 64;
        r = search_poll(k->ctx->cancel, err);
        if (!r) r = run_window(k, err);
        from = k->end;
        size = MIN(2 * size, k->whole ? (uint32_t)WHOLE_WINDOW : (uint32_t)MATCH_WINDOW);
    }
    return r;
}

/* A single term over a whole segment: its statistics say how many live documents it has. */
static void count_whole(struct topk *k) {
    const struct search_ctx *ctx = k->ctx;
    const struct match *m = k->root;
    k->whole = m->kind == MATCH_TERM && k->leaves.n == 1 && !k->all && !k->facets && !ctx->part->hidden &&
               !ctx->lo && ctx->hi == segment_n_docs(ctx->part->segment);
    if (k->whole)
        collector_count(k->collector,
                        m->info.df - deletes_term_df(ctx->part->deletes, m->field, m->info.ord));
}

/* ---- a single term ---- */

static uint64_t block_key(float bound, uint32_t block) {
    uint32_t bits;
    memcpy(&bits, &bound, sizeof bits); /* of floats >= 0: in their order */
    return (uint64_t)~bits << 32 | block;
}

/* A heap of the term's blocks, the greatest bound on top. */
static uint64_t *order_blocks(struct topk *k, const struct match_leaf *leaf) {
    uint32_t n = leaf->postings.n_blocks;
    uint64_t *blocks = arena_alloc(&k->ctx->arena, n * sizeof *blocks);
    struct impact impacts[8];
    for (uint32_t b = 0; b < n; b++) {
        unsigned n_impacts = postings_block_impacts(&leaf->postings, b, impacts);
        blocks[b] = block_key(term_score_bound(&leaf->score, impacts, n_impacts), b);
    }
    for (uint32_t i = n / 2; i-- > 0;) heap_sift_down(blocks, n, i);
    return blocks;
}

static void offer_block(struct topk *k, struct match_leaf *leaf, uint32_t block) {
    uint32_t found[POSTINGS_BLOCK];
    float scores[POSTINGS_BLOCK];
    const uint32_t *docs;
    if (postings_to_block(&leaf->postings, block) >= k->end) return;
    uint32_t n = score_run(k, leaf, &docs, scores);
    n = k->kernels->find_above(scores, k->collector->theta, n, found);
    for (uint32_t i = 0; i < n; i++)
        if (!deletes_has(k->ctx->dead, docs[found[i]]))
            collector_offer(k->collector, docs[found[i]], scores[found[i]]);
}

/* Blocks by descending bounds, until no block left can hold a hit: none is scored in vain. Documents do not
 * come in order: of equal scores any may be a hit. */
static int by_best_blocks(struct topk *k, struct err *err) {
    struct match_leaf *leaf = k->leaves.all[0];
    uint32_t n = leaf->postings.n_blocks;
    uint64_t *blocks = order_blocks(k, leaf), least = block_key(MAX(k->collector->theta, 0), 0) | UINT32_MAX;
    k->end = k->ctx->hi;
    for (; n && blocks[0] <= least; heap_sift_down(blocks, n, 0)) {
        int r = n % POLL_BLOCKS ? 0 : search_poll(k->ctx->cancel, err);
        if (r) return r;
        offer_block(k, leaf, (uint32_t)blocks[0]);
        least = block_key(MAX(k->collector->theta, 0), 0) | UINT32_MAX;
        blocks[0] = blocks[--n];
    }
    return 0;
}

/* Is it worth the look at all bounds first? */
static bool has_best_blocks(const struct topk *k) {
    const struct match_leaf *leaf = k->leaves.all[0];
    return k->whole && k->collector->want && !k->leaves.nested && leaf->postings.n_blocks >= ORDER_BLOCKS &&
           term_score_reads_freqs(&leaf->score);
}

static bool disabled;
void topk_disable(bool on) {
    disabled = on;
}

bool topk_supports(const struct search_ctx *ctx, const struct collector *c) {
    if (disabled || !match_supports(ctx, ctx->query->root)) return false;
    return c->by_score || !ctx->query->needs_scores;
}

int topk_run(struct search_ctx *ctx, struct collector *collector, struct facet_counter *facets,
             struct err *err) {
    struct topk *k = arena_alloc(&ctx->arena, sizeof *k);
    memset(k, 0, offsetof(struct topk, rest));
    k->ctx = ctx;
    k->collector = collector;
    k->facets = facets;
    k->kernels = kernels();
    k->scored = ctx->query->needs_scores;
    k->all = !collector->by_score;
    k->least = k->bar = -INFINITY;
    k->rest[0] = 0;
    int r = match_new(ctx, ctx->query->root, 1, k->scored, &k->leaves, &k->root, err);
    if (r || !k->root) return r;
    k->sums = NULL;
    count_whole(k);
    return has_best_blocks(k) ? by_best_blocks(k, err) : run_windows(k, err);
}
