/* Phrases: documents with all terms (leapfrog), then positions. Exact phrases count; sloppy ones follow
 * Lucene's SloppyPhraseMatcher move for move, because which overlapping matches it sees is part of the score.
 *
 * A term's slot is its position in the query; a document's occurrence at position p stands at place p - slot,
 * so an exact match is one place where all terms stand. A sloppy match is a choice of occurrences whose
 * places lie within `slop` of each other: always the term with the least place moves on, and each time it
 * would overtake the next one the match seen until then, if short enough, counts 1 / (1 + length). Terms that
 * repeat in the phrase form groups whose members may not use the same occurrence: of two that collide the
 * lesser moves on.
 */
#include "query/search_internal.h"

struct phrase_term {
    struct postings *postings;
    int32_t slot;  /* position in the query */
    uint32_t ord;  /* place in the phrase's list */
    int32_t group; /* of terms that repeat, -1: does not */
    bool queued;
    const uint32_t *positions; /* of the current document */
    uint32_t n, next;
    int32_t place;
};
struct phrase_group {
    uint32_t n;
    struct phrase_term **terms; /* by slot */
};
struct phrase_scorer {
    struct scorer base;
    const volatile int *cancel;
    uint32_t hi, n, n_postings, n_groups, slop;
    struct phrase_term *terms;
    struct postings **postings; /* distinct, rarest first */
    struct phrase_group *groups;
    int32_t end; /* sloppy: the largest place */
    float freq;  /* of the current document, set by verify */
    float weight;
    const uint8_t *norms;
    const float *norm_inverse;
};

/* ---- candidates ---- */

static uint32_t phrase_find(struct phrase_scorer *ph, uint32_t doc) {
    uint32_t i = 1;
    while (doc < ph->hi && i < ph->n_postings) {
        uint32_t other = ph->postings[i]->doc;
        if (other < doc) other = postings_advance(ph->postings[i], doc);
        if (other == doc) {
            i++;
            continue;
        }
        doc = other >= ph->hi ? DOCNO_NONE : postings_advance(ph->postings[0], other);
        i = 1;
    }
    return ph->base.doc = doc < ph->hi ? doc : DOCNO_NONE;
}

static uint32_t phrase_advance(struct scorer *s, uint32_t target) {
    struct phrase_scorer *ph = (struct phrase_scorer *)s;
    uint32_t doc = ph->postings[0]->doc;
    if (scorer_is_canceled(ph->cancel)) return s->doc = DOCNO_NONE;
    return phrase_find(ph, doc < target ? postings_advance(ph->postings[0], target) : doc);
}

static void load_positions(struct phrase_scorer *ph) {
    for (uint32_t i = 0; i < ph->n; i++) {
        struct phrase_term *t = &ph->terms[i];
        t->positions = postings_positions(t->postings);
        t->n = postings_freq(t->postings);
        t->next = 0;
    }
}

/* ---- exact ---- */

/* Does the term stand at the place? Places asked for ascend. */
static bool stands_at(struct phrase_term *t, int64_t place) {
    int64_t want = place + t->slot;
    while (t->next < t->n && t->positions[t->next] < want) t->next++;
    return t->next < t->n && t->positions[t->next] == want;
}

static float exact_freq(struct phrase_scorer *ph) {
    struct phrase_term *lead = &ph->terms[0];
    uint32_t count = 0;
    for (uint32_t i = 1; i < ph->n; i++)
        if (ph->terms[i].n < lead->n) lead = &ph->terms[i];
    for (uint32_t k = 0; k < lead->n; k++) {
        int64_t place = (int64_t)lead->positions[k] - lead->slot;
        uint32_t i = 0;
        while (i < ph->n && (&ph->terms[i] == lead || stands_at(&ph->terms[i], place))) i++;
        count += i == ph->n;
        if (count && !ph->base.scored) break;
    }
    return (float)count;
}

/* ---- sloppy ---- */

static bool move_on(struct phrase_term *t) {
    if (t->next >= t->n) return false;
    t->place = (int32_t)t->positions[t->next++] - t->slot;
    return true;
}

static bool move_on_end(struct phrase_scorer *ph, struct phrase_term *t) {
    if (!move_on(t)) return false;
    if (t->place > ph->end) ph->end = t->place;
    return true;
}

static bool is_less(const struct phrase_term *a, const struct phrase_term *b) {
    if (a->place != b->place) return a->place < b->place;
    if (a->slot != b->slot) return a->slot < b->slot;
    return a->ord < b->ord;
}

static struct phrase_term *queue_top(struct phrase_scorer *ph) {
    struct phrase_term *top = NULL;
    for (uint32_t i = 0; i < ph->n; i++)
        if (ph->terms[i].queued && (!top || is_less(&ph->terms[i], top))) top = &ph->terms[i];
    return top;
}

static struct phrase_term *queue_pop(struct phrase_scorer *ph) {
    struct phrase_term *top = queue_top(ph);
    top->queued = false;
    return top;
}

static struct phrase_term *colliding(const struct phrase_group *g, const struct phrase_term *t) {
    for (uint32_t i = 0; i < g->n; i++)
        if (g->terms[i] != t && g->terms[i]->place + g->terms[i]->slot == t->place + t->slot)
            return g->terms[i];
    return NULL;
}

/* The term has just moved: ends collisions inside its group. False when a term has no occurrence left. */
static bool resolve_repeats(struct phrase_scorer *ph, struct phrase_term *t) {
    struct phrase_term *other;
    if (t->group < 0) return true;
    while ((other = colliding(&ph->groups[t->group], t))) {
        if (!(t->place < other->place || (t->place == other->place && t->slot < other->slot))) t = other;
        if (!move_on_end(ph, t)) return false;
    }
    return true;
}

static bool sloppy_start(struct phrase_scorer *ph) {
    ph->end = INT32_MIN;
    for (uint32_t i = 0; i < ph->n; i++) {
        ph->terms[i].queued = true;
        if (!move_on(&ph->terms[i])) return false;
    }
    for (uint32_t g = 0; g < ph->n_groups; g++)
        for (uint32_t j = 1; j < ph->groups[g].n; j++)
            for (uint32_t k = 0; k < j; k++)
                if (!move_on(ph->groups[g].terms[j])) return false;
    for (uint32_t i = 0; i < ph->n; i++) ph->end = MAX(ph->end, ph->terms[i].place);
    return true;
}

/* The next match; false when there is none. *more: another may follow. */
static bool sloppy_next(struct phrase_scorer *ph, bool *more, int32_t *ret_length) {
    struct phrase_term *t = queue_pop(ph);
    int32_t length = ph->end - t->place, next = queue_top(ph)->place;
    while (move_on_end(ph, t) && resolve_repeats(ph, t)) {
        if (t->place > next) {
            t->queued = true;
            if (length <= (int32_t)ph->slop) {
                *ret_length = length;
                return true;
            }
            t = queue_pop(ph);
            next = queue_top(ph)->place;
            length = ph->end - t->place;
        } else {
            length = MIN(length, ph->end - t->place);
        }
    }
    *more = false;
    *ret_length = length;
    return length <= (int32_t)ph->slop;
}

static float sloppy_freq(struct phrase_scorer *ph) {
    float freq = 0;
    int32_t length;
    bool more = sloppy_start(ph);
    while (more && sloppy_next(ph, &more, &length)) {
        freq += 1.0f / (1.0f + (float)length);
        if (!ph->base.scored) break;
    }
    return freq;
}

static bool phrase_verify(struct scorer *s) {
    struct phrase_scorer *ph = (struct phrase_scorer *)s;
    load_positions(ph);
    ph->freq = ph->slop ? sloppy_freq(ph) : exact_freq(ph);
    return ph->freq > 0;
}

static float phrase_score(struct scorer *s) {
    struct phrase_scorer *ph = (struct phrase_scorer *)s;
    return bm25_score(ph->weight, ph->freq, ph->norm_inverse[ph->norms[s->doc]]);
}

float scorer_phrase_freq(const struct scorer *s) {
    return ((const struct phrase_scorer *)s)->freq;
}

static const struct scorer_ops phrase_ops = {
    .advance = phrase_advance, .verify = phrase_verify, .score = phrase_score};

/* ---- building ---- */

static bool same_term(const struct query_term *a, const struct query_term *b) {
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static int compare_slot(const void *a, const void *b) {
    const struct phrase_term *x = *(struct phrase_term *const *)a, *y = *(struct phrase_term *const *)b;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

/* Does the term repeat the other one at a different position? */
static bool repeats(const struct phrase_scorer *ph, const struct query_node *node, uint32_t of, uint32_t i) {
    return ph->terms[i].group < 0 && ph->terms[i].slot != ph->terms[of].slot &&
           same_term(&node->terms[of], &node->terms[i]);
}

static void find_groups(struct search_ctx *ctx, const struct query_node *node, struct phrase_scorer *ph) {
    ph->groups = arena_alloc(&ctx->arena, ph->n * sizeof *ph->groups);
    for (uint32_t i = 0; i < ph->n; i++) {
        uint32_t n = 1;
        if (ph->terms[i].group >= 0) continue;
        for (uint32_t j = i + 1; j < ph->n; j++) n += repeats(ph, node, i, j);
        if (n == 1) continue;
        struct phrase_group *g = &ph->groups[ph->n_groups];
        *g = (struct phrase_group){.terms = arena_alloc(&ctx->arena, n * sizeof(struct phrase_term *))};
        g->terms[g->n++] = &ph->terms[i];
        for (uint32_t j = i + 1; j < ph->n; j++)
            if (repeats(ph, node, i, j)) g->terms[g->n++] = &ph->terms[j];
        qsort(g->terms, g->n, sizeof(struct phrase_term *), compare_slot);
        for (uint32_t j = 0; j < g->n; j++) g->terms[j]->group = (int32_t)ph->n_groups;
        ph->n_groups++;
    }
}

static int compare_df(const void *a, const void *b) {
    uint32_t x = (*(struct postings *const *)a)->df, y = (*(struct postings *const *)b)->df;
    return (x > y) - (x < y);
}

/* Opens every distinct term; *ret_all is false when one is missing. */
static int open_terms(struct search_ctx *ctx, const struct query_node *node,
                      const struct segment_field *field, struct phrase_scorer *ph, bool *ret_all,
                      struct err *err) {
    *ret_all = false;
    for (uint32_t i = 0; i < node->n_terms; i++) {
        struct phrase_term *t = &ph->terms[i];
        struct term_info info;
        *t = (struct phrase_term){.slot = (int32_t)node->terms[i].position, .ord = i, .group = -1};
        for (uint32_t j = 0; j < i && !t->postings; j++)
            if (same_term(&node->terms[i], &node->terms[j])) t->postings = ph->terms[j].postings;
        if (t->postings) continue;
        int r = term_find(field, node->terms[i].text, node->terms[i].len, &info, err);
        if (r || !info.df) return r;
        t->postings = arena_zalloc(&ctx->arena, sizeof *t->postings);
        r = scorer_open_postings(ctx, field, &info, true, true, t->postings, err);
        if (r) return r;
        ph->postings[ph->n_postings++] = t->postings;
    }
    qsort(ph->postings, ph->n_postings, sizeof(struct postings *), compare_df);
    *ret_all = true;
    return 0;
}

static int phrase_weigh(struct search_ctx *ctx, const struct query_node *node,
                        const struct segment_field *field, float boost, struct phrase_scorer *ph,
                        struct err *err) {
    const struct bm25 *bm25 = search_ctx_bm25(ctx, node->field_slot);
    double idf = 0;
    for (uint32_t i = 0; i < node->n_terms; i++)
        idf += (double)bm25_idf(ctx->stats->term_df[node->terms[i].slot], bm25->n_docs);
    ph->norm_inverse = bm25->norm_inverse;
    ph->weight = boost * (float)idf;
    return text_norms(field, &ph->norms, err);
}

int scorer_phrase_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                      struct scorer **ret, struct err *err) {
    const struct segment_field *field = search_ctx_field(ctx, node);
    struct phrase_scorer *ph = arena_zalloc(&ctx->arena, sizeof *ph);
    bool all;
    if (!field || !node->n_terms) return 0;
    ph->cancel = ctx->cancel;
    ph->hi = ctx->hi;
    ph->n = node->n_terms;
    ph->slop = MIN(node->slop, (uint32_t)INT32_MAX);
    ph->terms = arena_zalloc(&ctx->arena, ph->n * sizeof *ph->terms);
    ph->postings = arena_zalloc(&ctx->arena, ph->n * sizeof(struct postings *));
    int r = open_terms(ctx, node, field, ph, &all, err);
    if (r || !all) return r;
    find_groups(ctx, node, ph);
    if (scored) r = phrase_weigh(ctx, node, field, boost, ph, err);
    if (r) return r;
    ph->base = (struct scorer){.ops = &phrase_ops, .kind = SCORER_OTHER, .scored = scored};
    for (uint32_t i = 0; i < ph->n_postings; i++) {
        postings_advance(ph->postings[i], ctx->lo);
        ph->base.cost = ph->postings[0]->df;
    }
    phrase_find(ph, ph->postings[0]->doc);
    *ret = &ph->base;
    return 0;
}
