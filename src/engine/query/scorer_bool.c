/* Bool clauses: evaluation by windows, evaluation by leapfrog, and the choice between them.
 *
 * Both give a document the same score: the scoring clauses that match it, added in double in clause order,
 * rounded once. By windows: a window of accumulators, each clause run over the whole window in turn (clause
 * order outside, documents inside, as Lucene's BooleanScorer): best for disjunctions and for conjunctions of
 * frequent terms. By leapfrog: visit the candidates of the rarest required clause and ask the others.
 */
#include "query/search_internal.h"

/* ---- windows ---- */

enum { WINDOW_WORDS = WINDOW_DOCS / 64, WINDOW_MIN = 64, WINDOW_FIRST = 256 };

struct window_scorer {
    struct scorer base;
    const volatile int *cancel;
    uint32_t hi;
    uint32_t n, n_filter, n_barred;
    struct scorer **clauses, **filter, **barred; /* clauses: those that score, in clause order */
    const bool *must;                            /* of each of the clauses: is it required? */
    uint32_t need;             /* how many of the others must match; counts is used when > 1 */
    uint32_t begin, end, size; /* window [begin, end), begin a multiple of 64; size of the next one */
    double *sums;              /* NULL when not scored */
    uint16_t *counts;
    uint64_t bits[WINDOW_WORDS];
    struct batch batch;
};

static void set_bits(uint64_t *bits, uint32_t begin, const struct batch *batch) {
    for (uint32_t i = 0; i < batch->n; i++) {
        uint32_t at = batch->docs[i] - begin;
        bits[at >> 6] |= 1ull << (at & 63);
    }
}

/* One clause over the whole window. */
static void window_add(struct window_scorer *o, struct scorer *clause, uint64_t *bits, bool counted) {
    const struct batch *batch = &o->batch;
    while (scorer_fill(clause, o->end, &o->batch)) {
        set_bits(bits, o->begin, batch);
        if (o->sums)
            for (uint32_t i = 0; i < batch->n; i++)
                o->sums[batch->docs[i] - o->begin] += (double)batch->scores[i];
        if (counted)
            for (uint32_t i = 0; i < batch->n; i++) o->counts[batch->docs[i] - o->begin]++;
    }
}

/* A clause that does not score, within the window, as bits. */
static void window_other_bits(struct window_scorer *o, struct scorer *s, uint64_t *bits) {
    uint32_t words = (o->end - o->begin + 63) / 64;
    memset(bits, 0, WINDOW_WORDS * sizeof *bits);
    if (s->kind == SCORER_BITS) {
        const uint64_t *all = scorer_bits(s);
        for (uint32_t w = 0; w < words; w++) bits[w] = all ? all[(o->begin >> 6) + w] : ~0ull;
        return;
    }
    if (s->doc < o->begin) scorer_advance(s, o->begin);
    while (scorer_fill(s, o->end, &o->batch)) set_bits(bits, o->begin, &o->batch);
}

static void keep_bits(uint64_t *bits, const uint64_t *other, uint64_t flip) {
    for (uint32_t w = 0; w < WINDOW_WORDS; w++) bits[w] &= other[w] ^ flip;
}

/* Documents of the window that enough of the optional clauses have; none is needed: all documents. */
static void window_optional_bits(const struct window_scorer *o, uint64_t *any) {
    if (!o->need) memset(any, 0xff, WINDOW_WORDS * sizeof *any);
    if (o->need < 2) return;
    for (uint32_t at = 0; at < o->end - o->begin; at++)
        if (o->counts[at] < o->need) any[at >> 6] &= ~(1ull << (at & 63));
}

static void window_fill_bits(struct window_scorer *o) {
    uint64_t any[WINDOW_WORDS] = {0}, own[WINDOW_WORDS];
    uint32_t n = o->end - o->begin;
    memset(o->bits, 0, sizeof o->bits);
    memset(o->bits, 0xff, n / 64 * sizeof *o->bits);
    if (n % 64) o->bits[n / 64] = ~(~0ull << n % 64);
    for (uint32_t i = 0; i < o->n; i++) {
        if (!o->must[i]) {
            window_add(o, o->clauses[i], any, o->need > 1);
            continue;
        }
        memset(own, 0, sizeof own);
        window_add(o, o->clauses[i], own, false);
        keep_bits(o->bits, own, 0);
    }
    window_optional_bits(o, any);
    keep_bits(o->bits, any, 0);
    for (uint32_t i = 0; i < o->n_filter; i++) {
        window_other_bits(o, o->filter[i], own);
        keep_bits(o->bits, own, 0);
    }
    for (uint32_t i = 0; i < o->n_barred; i++) {
        window_other_bits(o, o->barred[i], own);
        keep_bits(o->bits, own, ~0ull);
    }
}

/* First match at or behind `from` in the window, DOCNO_NONE if there is none. */
static uint32_t window_scan(const struct window_scorer *o, uint32_t from) {
    if (from >= o->end) return DOCNO_NONE;
    uint32_t at = from - o->begin, words = (o->end - o->begin + 63) / 64, word = at >> 6;
    uint64_t w = o->bits[word] & (~0ull << (at & 63));
    while (!w) {
        if (++word >= words) return DOCNO_NONE;
        w = o->bits[word];
    }
    return o->begin + (word << 6) + (uint32_t)__builtin_ctzll(w);
}

/* Where the next match can be at the earliest, >= from. */
static uint32_t window_first(struct window_scorer *o, uint32_t from) {
    uint32_t optional = DOCNO_NONE, first = from;
    for (uint32_t i = 0; i < o->n_filter; i++) {
        struct scorer *s = o->filter[i];
        first = MAX(first, s->doc < from ? scorer_advance(s, from) : s->doc);
    }
    for (uint32_t i = 0; i < o->n; i++) {
        struct scorer *s = o->clauses[i];
        uint32_t doc = s->doc < from ? scorer_advance(s, from) : s->doc;
        if (o->must[i])
            first = MAX(first, doc);
        else
            optional = MIN(optional, doc);
    }
    return o->need ? MAX(first, optional) : first;
}

/* Fills the next window, from the first possible match >= from on. False when there is none. */
static bool window_next(struct window_scorer *o, uint32_t from) {
    uint32_t first = window_first(o, from);
    if (first >= o->hi) return false;
    o->begin = first & ~63u;
    o->end = MIN(o->hi, o->begin + o->size);
    for (uint32_t i = 0; i < o->n; i++)
        if (o->clauses[i]->doc < o->begin) scorer_advance(o->clauses[i], o->begin);
    if (o->sums) memset(o->sums, 0, (o->end - o->begin) * sizeof *o->sums);
    if (o->counts) memset(o->counts, 0, (o->end - o->begin) * sizeof *o->counts);
    window_fill_bits(o);
    return true;
}

/* A window is as long as its user goes through it: stepping doubles it, jumping over its end halves it. */
static uint32_t window_advance(struct scorer *s, uint32_t target) {
    struct window_scorer *o = (struct window_scorer *)s;
    for (;;) {
        uint32_t doc = window_scan(o, target);
        if (doc != DOCNO_NONE) return s->doc = doc;
        if (target > o->end)
            o->size = MAX(o->size / 2, (uint32_t)WINDOW_MIN);
        else
            o->size = MIN(o->size * 2, (uint32_t)WINDOW_DOCS);
        target = MAX(target, o->end);
        if (target >= o->hi || scorer_is_canceled(o->cancel) || !window_next(o, target))
            return s->doc = DOCNO_NONE;
        target = MAX(target, o->begin);
    }
}

static float window_score(struct scorer *s) {
    struct window_scorer *o = (struct window_scorer *)s;
    return (float)o->sums[s->doc - o->begin];
}

static void window_fill(struct scorer *s, uint32_t hi, struct batch *batch) {
    struct window_scorer *o = (struct window_scorer *)s;
    uint32_t n = 0, limit = MIN(hi, o->end), at = s->doc - o->begin, word = at >> 6;
    uint64_t w = o->bits[word] & (~0ull << (at & 63));
    for (;;) {
        for (; w && n < BATCH_DOCS; w &= w - 1) {
            uint32_t doc = o->begin + (word << 6) + (uint32_t)__builtin_ctzll(w);
            if (doc >= limit) break;
            batch->docs[n++] = doc;
        }
        if (w || o->begin + (++word << 6) >= limit) break;
        w = o->bits[word];
    }
    for (uint32_t i = 0; i < n; i++)
        batch->scores[i] = o->sums ? (float)o->sums[batch->docs[i] - o->begin] : 0;
    batch->n = n;
    window_advance(s, batch->docs[n - 1] + 1);
}

static const struct scorer_ops window_ops = {
    .advance = window_advance, .score = window_score, .fill = window_fill};

/* ---- leapfrog ---- */

struct and_scorer {
    struct scorer base;
    const volatile int *cancel;
    uint32_t hi;
    uint32_t n_required, n_optional, n_barred, n_sum;
    struct scorer **required; /* cheapest first */
    struct scorer **optional, **barred;
    struct scorer **sum; /* scoring clauses in clause order */
    uint32_t need;       /* how many optional clauses must match */
};

static bool stands_on(struct scorer *s, uint32_t doc) {
    return (s->doc < doc ? scorer_advance(s, doc) : s->doc) == doc;
}

/* All required clauses have the candidate: do the exact checks agree? */
static bool and_accepts(struct and_scorer *a, uint32_t doc) {
    for (uint32_t i = 0; i < a->n_barred; i++)
        if (stands_on(a->barred[i], doc)) return false;
    for (uint32_t i = 0; i < a->n_required; i++) {
        struct scorer *s = a->required[i];
        if (s->ops->verify && !s->ops->verify(s)) return false;
    }
    uint32_t have = 0;
    if (a->need)
        for (uint32_t i = 0; i < a->n_optional; i++) have += stands_on(a->optional[i], doc);
    return have >= a->need;
}

/* Brings the other required clauses to the lead's candidate. Gives doc, or a later document the lead must go
 * to. */
static uint32_t and_align(struct and_scorer *a, uint32_t doc) {
    for (uint32_t i = 1; i < a->n_required; i++) {
        struct scorer *s = a->required[i];
        uint32_t other = s->doc < doc ? scorer_step(s, doc) : s->doc;
        if (other != doc) return other;
    }
    return doc;
}

/* The first match from the lead's current candidate on. */
static uint32_t and_find(struct and_scorer *a) {
    struct scorer *lead = a->required[0];
    uint32_t doc = lead->doc;
    while (doc < a->hi && !scorer_is_canceled(a->cancel)) {
        uint32_t other = and_align(a, doc);
        if (other >= a->hi) break;
        if (other != doc)
            doc = scorer_step(lead, other);
        else if (and_accepts(a, doc))
            return a->base.doc = doc;
        else
            doc = scorer_step(lead, doc + 1);
    }
    return a->base.doc = DOCNO_NONE;
}

static uint32_t and_advance(struct scorer *s, uint32_t target) {
    struct and_scorer *a = (struct and_scorer *)s;
    if (a->required[0]->doc < target) scorer_step(a->required[0], target);
    return and_find(a);
}

static float and_score(struct scorer *s) {
    struct and_scorer *a = (struct and_scorer *)s;
    double sum = 0;
    for (uint32_t i = 0; i < a->n_sum; i++)
        if (stands_on(a->sum[i], s->doc)) sum += (double)scorer_score(a->sum[i]);
    return (float)sum;
}

static void and_fill(struct scorer *s, uint32_t hi, struct batch *batch) {
    struct and_scorer *a = (struct and_scorer *)s;
    uint32_t n = 0;
    while (s->doc < hi && n < BATCH_DOCS) {
        batch->docs[n] = s->doc;
        batch->scores[n++] = s->scored ? and_score(s) : 0;
        scorer_step(a->required[0], s->doc + 1);
        and_find(a);
    }
    batch->n = n;
}

static const struct scorer_ops and_ops = {.advance = and_advance, .score = and_score, .fill = and_fill};

/* ---- building ---- */

struct parts {
    struct scorer **required, **should, **barred, **filter, **sum;
    bool *must; /* of sum */
    uint32_t n_required, n_should, n_barred, n_filter,
        n_sum;       /* required: filter, and those of sum that must match */
    bool impossible; /* a required clause matches nothing here */
};

static void parts_add(struct parts *p, enum occur occur, struct scorer *s) {
    if (occur == OCCUR_MUST_NOT) {
        p->barred[p->n_barred++] = s;
        return;
    }
    if (occur != OCCUR_SHOULD)
        p->required[p->n_required++] = s;
    else
        p->should[p->n_should++] = s;
    if (occur == OCCUR_FILTER) p->filter[p->n_filter++] = s;
    if (occur == OCCUR_FILTER) return;
    p->must[p->n_sum] = occur == OCCUR_MUST;
    p->sum[p->n_sum++] = s;
}

static int parts_build(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                       struct parts *p, struct err *err) {
    struct scorer **space = arena_alloc(&ctx->arena, ((size_t)node->n_clauses + 1) * 5 * sizeof *space);
    *p = (struct parts){.required = space};
    p->should = p->required + node->n_clauses;
    p->barred = p->should + node->n_clauses;
    p->filter = p->barred + node->n_clauses;
    p->sum = p->filter + node->n_clauses;
    p->must = arena_zalloc(&ctx->arena, (size_t)node->n_clauses + 1);
    for (uint32_t i = 0; i < node->n_clauses; i++) {
        enum occur occur = node->clauses[i].occur;
        struct scorer *s;
        int r = scorer_new(ctx, node->clauses[i].node, boost,
                           scored && (occur == OCCUR_MUST || occur == OCCUR_SHOULD), &s, err);
        if (r) return r;
        if (s)
            parts_add(p, occur, s);
        else if (occur == OCCUR_MUST || occur == OCCUR_FILTER)
            p->impossible = true;
        if (p->impossible) return 0;
    }
    return 0;
}

static void settle_all(struct scorer **s, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) scorer_settle(s[i]);
}

static uint64_t cost_sum(struct scorer **s, uint32_t n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += s[i]->cost;
    return sum;
}

static uint64_t cost_least(struct scorer **s, uint32_t n) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < n; i++) least = MIN(least, s[i]->cost);
    return least;
}

static struct scorer *window_new(struct search_ctx *ctx, const struct parts *p, uint32_t need, bool scored) {
    struct window_scorer *o = arena_alloc(&ctx->arena, sizeof *o);
    memset(o, 0, offsetof(struct window_scorer, batch));
    o->base = (struct scorer){.ops = &window_ops, .kind = SCORER_OTHER, .scored = scored};
    o->base.cost = p->n_required ? cost_least(p->required, p->n_required) : cost_sum(p->sum, p->n_sum);
    o->cancel = ctx->cancel;
    o->hi = ctx->hi;
    o->n = p->n_sum;
    o->clauses = p->sum;
    o->n_filter = p->n_filter;
    o->filter = p->filter;
    o->n_barred = p->n_barred;
    o->barred = p->barred;
    o->must = p->must;
    o->need = need;
    o->size = WINDOW_FIRST;
    if (scored) o->sums = arena_alloc_lines(&ctx->arena, WINDOW_DOCS * sizeof *o->sums);
    if (need > 1) o->counts = arena_alloc_lines(&ctx->arena, WINDOW_DOCS * sizeof *o->counts);
    settle_all(o->clauses, o->n);
    settle_all(o->filter, o->n_filter);
    settle_all(o->barred, o->n_barred);
    window_advance(&o->base, ctx->lo);
    return &o->base;
}

static int compare_cost(const void *a, const void *b) {
    uint64_t x = (*(struct scorer *const *)a)->cost, y = (*(struct scorer *const *)b)->cost;
    return (x > y) - (x < y);
}

static struct scorer *and_new(struct search_ctx *ctx, const struct parts *p, uint32_t need, bool scored) {
    struct and_scorer *a = arena_zalloc(&ctx->arena, sizeof *a);
    qsort(p->required, p->n_required, sizeof(struct scorer *), compare_cost);
    a->base = (struct scorer){.ops = &and_ops, .kind = SCORER_OTHER, .scored = scored};
    a->base.cost = p->required[0]->cost;
    a->cancel = ctx->cancel;
    a->hi = ctx->hi;
    a->n_required = p->n_required;
    a->required = p->required;
    a->n_optional = p->n_should;
    a->optional = p->should;
    a->n_barred = p->n_barred;
    a->barred = p->barred;
    a->n_sum = scored ? p->n_sum : 0;
    a->sum = p->sum;
    a->need = need;
    settle_all(a->optional, a->n_optional);
    settle_all(a->barred, a->n_barred);
    and_find(a);
    return &a->base;
}

/* Optional clauses do not matter when nothing is scored and none has to match. */
static void drop_optional(struct parts *p) {
    p->n_should = p->n_sum = 0;
    memcpy(p->filter, p->required, p->n_required * sizeof(struct scorer *));
    p->n_filter = p->n_required;
}

/* Optional clauses that must all match are required ones; their place in the sum stays. */
static uint32_t require_all(struct parts *p, uint32_t need) {
    if (need != p->n_should) return need;
    for (uint32_t i = 0; i < p->n_should; i++) p->required[p->n_required++] = p->should[i];
    for (uint32_t i = 0; i < p->n_sum; i++) p->must[i] = true;
    p->n_should = 0;
    return 0;
}

/* Jumping to a document costs about as much as running over four. A phrase is only looked at where the others
 * match. */
static bool prefer_windows(const struct parts *p) {
    if (!p->n_required) return true;
    for (uint32_t i = 0; i < p->n_required && p->n_required > 1; i++)
        if (p->required[i]->ops->verify) return false;
    uint64_t run = cost_sum(p->required, p->n_required) + cost_sum(p->should, p->n_should) +
                   cost_sum(p->barred, p->n_barred);
    uint64_t jumps = (uint64_t)p->n_required + p->n_should + p->n_barred - 1;
    return cost_least(p->required, p->n_required) * jumps > run / 4;
}

int scorer_bool_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                    struct scorer **ret, struct err *err) {
    struct parts p;
    uint32_t need = node->min_should_match;
    bool anchored = false;
    *ret = NULL;
    for (uint32_t i = 0; i < node->n_clauses; i++)
        anchored |= node->clauses[i].occur == OCCUR_MUST || node->clauses[i].occur == OCCUR_FILTER;
    if (!anchored && !need) need = 1;
    int r = parts_build(ctx, node, boost, scored, &p, err);
    if (r || p.impossible || p.n_should < need) return r;
    if (!scored && !need) drop_optional(&p);
    if (need) need = require_all(&p, need);
    if (p.n_required == 1 && !p.n_should && !p.n_barred)
        *ret = p.required[0];
    else if (prefer_windows(&p))
        *ret = window_new(ctx, &p, need, scored);
    else
        *ret = and_new(ctx, &p, need, scored);
    if ((*ret)->doc >= ctx->hi) *ret = NULL;
    return 0;
}
