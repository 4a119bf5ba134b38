/* Matching by bitmaps of windows. */
#include "query/match.h"

#include "query/fuzzy.h"
#include "query/kernels.h"

/* ---- terms ---- */

static void term_set(const struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    struct postings *p = m->postings;
    const uint32_t *docs, *ignored;
    if (p->doc < begin) postings_advance(p, begin);
    while (p->doc < end) {
        uint32_t n = postings_run(p, end, &docs, &ignored);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = docs[i] - begin;
            bits[at >> 6] |= 1ull << (at & 63);
        }
        postings_skip_run(p, n);
    }
}

/* How many of the window's words the list's bitmap has. */
static uint32_t bitmap_overlap(const struct postings *p, uint32_t begin, uint32_t n_words) {
    uint32_t first = begin / 64;
    return first >= p->bitmap_words ? 0 : MIN(n_words, p->bitmap_words - first);
}
static const uint8_t *bitmap_at(const struct postings *p, uint32_t begin) {
    return p->bitmap + begin / 8;
}

/* The window in the match's own bits, too. */
static const uint64_t *term_own(struct match *m, uint32_t begin, uint32_t end) {
    memset(m->own, 0, (end - begin + 63) / 64 * sizeof *m->own);
    term_set(m, begin, end, m->own);
    m->own_begin = begin;
    return m->own;
}

static void term_or(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    const struct postings *p = m->postings;
    uint32_t n_words = (end - begin + 63) / 64;
    if (p->bitmap_words)
        bits_or(bits, bitmap_at(p, begin), bitmap_overlap(p, begin, n_words));
    else if (m->own)
        bits_or(bits, term_own(m, begin, end), n_words);
    else
        term_set(m, begin, end, bits);
}

/* Looks each candidate up: for few of them. */
static void term_keep(const struct match *m, uint32_t begin, uint64_t *bits, uint32_t n_words) {
    struct postings *p = m->postings;
    for (uint32_t w = 0; w < n_words; w++) {
        for (uint64_t left = bits[w]; left; left &= left - 1) {
            uint32_t doc = begin + 64 * w + (uint32_t)__builtin_ctzll(left);
            if (p->doc < doc) postings_advance(p, doc);
            if (p->doc != doc) bits[w] &= ~(left & -left);
        }
    }
}

/* Looking one up costs about as much as running over this many. */
enum { LOOKUP_COST = 8 };

static bool prefer_lookups(const struct match *m, const uint64_t *bits, uint32_t n_words) {
    uint64_t in_window = m->cost * n_words * 64 / (m->hi + 1u);
    return (uint64_t)kernels()->count(bits, n_words) * LOOKUP_COST < in_window;
}

static void term_and(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    const struct postings *p = m->postings;
    uint32_t n_words = (end - begin + 63) / 64;
    if (p->bitmap_words) {
        uint32_t n = bitmap_overlap(p, begin, n_words);
        bits_and(bits, bitmap_at(p, begin), n);
        memset(bits + n, 0, (n_words - n) * sizeof *bits);
    } else if (prefer_lookups(m, bits, n_words)) {
        term_keep(m, begin, bits, n_words);
    } else if (m->own) {
        bits_and(bits, term_own(m, begin, end), n_words);
    } else {
        uint64_t own[MATCH_WORDS] = {0};
        term_set(m, begin, end, own);
        bits_and(bits, own, n_words);
    }
}

const uint8_t *match_bits(struct match *m, uint32_t begin, uint32_t n_words) {
    static const uint64_t all[MATCH_WORDS] = {[0 ... MATCH_WORDS - 1] = ~0ull};
    if (m->kind == MATCH_BITS) return (const uint8_t *)(m->bits ? m->bits + begin / 64 : all);
    if (m->own_begin == begin) return (const uint8_t *)m->own;
    if (!m->postings->bitmap_words) return NULL;
    uint32_t n = bitmap_overlap(m->postings, begin, n_words);
    if (n == n_words) return bitmap_at(m->postings, begin);
    memcpy(m->own, bitmap_at(m->postings, begin), n * sizeof *m->own);
    memset(m->own + n, 0, (n_words - n) * sizeof *m->own);
    return (const uint8_t *)m->own;
}

/* ---- windows ---- */

static void match_or(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    uint64_t own[MATCH_WORDS];
    if (m->kind == MATCH_TERM) {
        term_or(m, begin, end, bits);
        return;
    }
    match_window(m, begin, end, own);
    bits_or(bits, own, (end - begin + 63) / 64);
}

static void match_and(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    uint64_t own[MATCH_WORDS];
    if (m->kind == MATCH_TERM) {
        term_and(m, begin, end, bits);
        return;
    }
    match_window(m, begin, end, own);
    bits_and(bits, own, (end - begin + 63) / 64);
}

/* Documents that at least `need` of the clauses have, by counters of which each bit is a bitmap. */
static void window_at_least(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    uint32_t n_words = (end - begin + 63) / 64, n_planes = 0;
    uint64_t planes[8][MATCH_WORDS], carry[MATCH_WORDS];
    for (uint32_t i = 0; i < m->n_should; i++) {
        match_window(m->should[i], begin, end, carry);
        if ((i & (i + 1)) == 0) memset(planes[n_planes++], 0, sizeof planes[0]); /* i + 1 has one bit more */
        for (uint32_t w = 0; w < n_words; w++) {
            for (uint32_t p = 0; carry[w] && p < n_planes; p++) {
                uint64_t both = planes[p][w] & carry[w];
                planes[p][w] ^= carry[w];
                carry[w] = both;
            }
        }
    }
    for (uint32_t w = 0; w < n_words; w++) {
        uint64_t above = 0, equal = ~0ull;
        for (uint32_t p = n_planes; p-- > 0;) {
            uint64_t wanted = m->need >> p & 1 ? ~0ull : 0;
            above |= equal & planes[p][w] & ~wanted;
            equal &= ~(planes[p][w] ^ wanted);
        }
        bits[w] = above | equal;
    }
}

static void window_should(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    if (m->need > 1) {
        window_at_least(m, begin, end, bits);
        return;
    }
    memset(bits, 0, (end - begin + 63) / 64 * sizeof *bits);
    for (uint32_t i = 0; i < m->n_should; i++) match_or(m->should[i], begin, end, bits);
}

static void window_bool(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    uint32_t n_words = (end - begin + 63) / 64;
    uint64_t own[MATCH_WORDS];
    if (!m->n_must && !m->need)
        memset(bits, 0xff, n_words * sizeof *bits);
    else if (m->n_must)
        match_window(m->must[0], begin, end, bits);
    else
        window_should(m, begin, end, bits);
    for (uint32_t i = 1; i < m->n_must; i++) match_and(m->must[i], begin, end, bits);
    if (m->n_must && m->need) {
        window_should(m, begin, end, own);
        bits_and(bits, own, n_words);
    }
    for (uint32_t i = 0; i < m->n_barred; i++) {
        match_window(m->barred[i], begin, end, own);
        bits_and_not(bits, own, n_words);
    }
}

void match_window(struct match *m, uint32_t begin, uint32_t end, uint64_t *bits) {
    uint32_t n_words = (end - begin + 63) / 64;
    switch (m->kind) {
    case MATCH_BITS:
        if (m->bits)
            memcpy(bits, m->bits + begin / 64, n_words * sizeof *bits);
        else
            memset(bits, 0xff, n_words * sizeof *bits);
        break;
    case MATCH_TERM:
        memset(bits, 0, n_words * sizeof *bits);
        term_or(m, begin, end, bits);
        break;
    case MATCH_BOOL:
        window_bool(m, begin, end, bits);
        break;
    }
}

uint32_t match_first(struct match *m, uint32_t from) {
    uint32_t first = from, optional = DOCNO_NONE;
    if (m->kind == MATCH_TERM && !m->postings->bitmap_words)
        return m->postings->doc < from ? postings_advance(m->postings, from) : m->postings->doc;
    for (uint32_t i = 0; i < m->n_must; i++) first = MAX(first, match_first(m->must[i], from));
    for (uint32_t i = 0; m->need && i < m->n_should && optional > from; i++)
        optional = MIN(optional, match_first(m->should[i], from));
    return m->need ? MAX(first, optional) : first;
}

/* ---- one document ---- */

static int point_open(struct search_ctx *ctx, struct match *m, struct err *err) {
    m->point = arena_zalloc(&ctx->arena, sizeof *m->point);
    int r = scorer_open_postings(ctx, m->field, &m->info, m->leaf && term_score_reads_freqs(&m->leaf->score),
                                 false, m->point, err);
    if (!r) postings_advance(m->point, ctx->lo);
    return r;
}

static int score_term(struct search_ctx *ctx, struct match *m, uint32_t doc, bool *ret_match,
                      float *ret_score, struct err *err) {
    if (!m->point) {
        int r = point_open(ctx, m, err);
        if (r) return r;
    }
    if (m->point->doc < doc) postings_advance(m->point, doc);
    *ret_match = m->point->doc == doc;
    *ret_score = *ret_match && m->leaf ? term_score_at(&m->leaf->score, m->point) : 0;
    return 0;
}

static int count_matches(struct search_ctx *ctx, struct match **clauses, uint32_t n, uint32_t doc,
                         uint32_t *ret, struct err *err) {
    int r = 0;
    *ret = 0;
    for (uint32_t i = 0; i < n && !r; i++) {
        bool match = false;
        float ignored;
        r = match_score(ctx, clauses[i], doc, &match, &ignored, err);
        *ret += match;
    }
    return r;
}

/* Tokens in their order, added in double, rounded once. */
static int score_sparse(struct search_ctx *ctx, struct match *m, uint32_t doc, bool *ret_match,
                        float *ret_score, struct err *err) {
    double sum = 0;
    *ret_match = false;
    for (uint32_t i = 0; i < m->n_sum; i++) {
        struct match *token = m->sum[i];
        bool match;
        float ignored;
        int r = score_term(ctx, token, doc, &match, &ignored, err);
        if (r) return r;
        *ret_match |= match;
        if (match && token->leaf)
            sum += token->leaf->score.token * (double)sparse_decode(postings_freq(token->point));
    }
    *ret_score = m->boost * (float)sum;
    return 0;
}

static int score_bool(struct search_ctx *ctx, struct match *m, uint32_t doc, bool *ret_match,
                      float *ret_score, struct err *err) {
    uint32_t must, should, barred;
    int r = count_matches(ctx, m->must, m->n_must, doc, &must, err);
    if (!r) r = count_matches(ctx, m->should, m->n_should, doc, &should, err);
    if (!r) r = count_matches(ctx, m->barred, m->n_barred, doc, &barred, err);
    if (r) return r;
    *ret_match = must == m->n_must && should >= m->need && !barred;
    double sum = 0;
    for (uint32_t i = 0; *ret_match && i < m->n_sum && !r; i++) {
        bool match;
        float score;
        r = match_score(ctx, m->sum[i], doc, &match, &score, err);
        if (!r && match) sum += (double)score;
    }
    *ret_score = (float)sum;
    return r;
}

int match_score(struct search_ctx *ctx, struct match *m, uint32_t doc, bool *ret_match, float *ret_score,
                struct err *err) {
    switch (m->kind) {
    case MATCH_TERM:
        return score_term(ctx, m, doc, ret_match, ret_score, err);
    case MATCH_BITS:
        *ret_match = !m->bits || (m->bits[doc >> 6] >> (doc & 63) & 1);
        *ret_score = *ret_match && m->leaf ? m->leaf->score.fixed : 0;
        return 0;
    default:
        return (m->sparse ? score_sparse : score_bool)(ctx, m, doc, ret_match, ret_score, err);
    }
}

/* ---- building ---- */

/* Adds the node's leaves to *n. */
static bool supports(const struct search_ctx *ctx, const struct query_node *node, uint32_t *n) {
    switch (node->kind) {
    case QUERY_NONE:
    case QUERY_ALL:
    case QUERY_TERM:
    case QUERY_RANGE:
    case QUERY_TERM_RANGE:
    case QUERY_PREFIX:
    case QUERY_WILDCARD:
    case QUERY_REGEX:
    case QUERY_EXISTS:
        return ++*n <= MATCH_MAX_LEAVES;
    case QUERY_SPARSE:
        return (*n += MIN(node->n_terms, (uint32_t)MATCH_MAX_LEAVES + 1)) <= MATCH_MAX_LEAVES;
    case QUERY_FUZZY:
        if (!ctx->stats || node->fuzzy_no >= ctx->stats->n_fuzzy) return false;
        node = ctx->stats->fuzzy[node->fuzzy_no].node;
        return !node || supports(ctx, node, n);
    case QUERY_BOOL:
        for (uint32_t i = 0; i < node->n_clauses; i++)
            if (!supports(ctx, node->clauses[i].node, n)) return false;
        return true;
    default:
        return false;
    }
}

bool match_supports(const struct search_ctx *ctx, const struct query_node *node) {
    uint32_t n = 0;
    return supports(ctx, node, &n);
}

/* A clause that scores. */
static struct match_leaf *leaf_new(struct search_ctx *ctx, struct match_leaves *leaves, struct match *m) {
    struct match_leaf *leaf = arena_zalloc(&ctx->arena, sizeof *leaf);
    leaf->match = m;
    leaf->at = ctx->lo;
    leaves->all[leaves->n++] = leaf; /* match_supports has counted them */
    return m->leaf = leaf;
}

/* The highest score that the pairs allow: every step of the formula, rounded, ascends with the frequency and
 * with the inverse of the length, so no posting's score is above. */
float term_score_bound(const struct term_score *s, const struct impact *impacts, unsigned n) {
    float best = 0;
    if (s->token > 0) return n ? term_score_token(s, impacts[n - 1].freq) : 0; /* frequencies ascend */
    if (!s->norms) return s->fixed;
    for (unsigned i = 0; i < n; i++) {
        float product = (float)impacts[i].freq * s->norm_inverse[impacts[i].norm];
        best = MAX(best, product);
    }
    return s->weight - s->weight / (1.0f + best);
}

/* leaf->score is set. */
static int leaf_open(struct search_ctx *ctx, struct match *m, struct match_leaf *leaf, struct err *err) {
    struct impact impacts[8];
    int r = scorer_open_postings(ctx, m->field, &m->info, term_score_reads_freqs(&leaf->score), false,
                                 &leaf->postings, err);
    if (r) return r;
    leaf->df = m->info.df;
    leaf->list_bound =
        term_score_bound(&leaf->score, impacts, postings_list_impacts(&leaf->postings, impacts));
    leaf->block_first = UINT32_MAX;
    postings_advance(&leaf->postings, ctx->lo);
    return 0;
}

/* *ret NULL: the segment does not have the term. */
static int term_open(struct search_ctx *ctx, const struct query_node *node, uint32_t which, bool scored,
                     struct match *m, struct match **ret, struct err *err) {
    m->kind = MATCH_TERM;
    m->hi = ctx->hi;
    m->field = search_ctx_field(ctx, node);
    *ret = NULL;
    if (!m->field) return 0;
    int r = term_find(m->field, node->terms[which].text, node->terms[which].len, &m->info, err);
    if (r || !m->info.df) return r;
    m->cost = m->info.df;
    m->postings = arena_alloc(&ctx->arena, sizeof *m->postings);
    r = scorer_open_postings(ctx, m->field, &m->info, false, false, m->postings, err);
    if (r) return r;
    if (!m->postings->bitmap_words) postings_advance(m->postings, ctx->lo);
    if (scored) m->own = arena_alloc(&ctx->arena, MATCH_WORDS * sizeof *m->own);
    m->own_begin = DOCNO_NONE;
    *ret = m;
    return 0;
}

static int term_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                    struct match_leaves *leaves, struct match *m, struct match **ret, struct err *err) {
    int r = term_open(ctx, node, 0, scored, m, ret, err);
    if (r || !*ret || !scored) return r;
    struct match_leaf *leaf = leaf_new(ctx, leaves, m);
    r = scorer_term_score(ctx, node, m->field, boost, &leaf->score, err);
    return r ? r : leaf_open(ctx, m, leaf, err);
}

/* A sparse product, as a bool of its tokens. */
static int sparse_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                      struct match_leaves *leaves, struct match *m, struct match **ret, struct err *err) {
    m->kind = MATCH_BOOL;
    m->sparse = true;
    m->boost = boost;
    m->need = 1;
    m->sum = m->should = arena_alloc(&ctx->arena, ((size_t)node->n_terms + 1) * sizeof(struct match *));
    for (uint32_t i = 0; i < node->n_terms; i++) {
        struct match *token = arena_zalloc(&ctx->arena, sizeof *token);
        int r = term_open(ctx, node, i, scored, token, &token, err);
        if (r) return r;
        if (!token) continue;
        m->sum[m->n_sum++] = token;
        m->cost += token->cost;
        if (!scored) continue;
        struct match_leaf *leaf = leaf_new(ctx, leaves, token);
        leaf->score = (struct term_score){.token = (double)node->token_weights[i], .weight = boost};
        if ((r = leaf_open(ctx, token, leaf, err))) return r;
    }
    m->n_should = m->n_sum;
    m->cost = MIN(m->cost, (uint64_t)m->hi);
    if (scored) leaves->nested = true;
    if (scored) leaves->tiny = MAX(leaves->tiny, boost * 1e-30f);
    if (m->n_should) *ret = m;
    return 0;
}

static void bits_new(struct search_ctx *ctx, const uint64_t *bits, float boost, bool scored,
                     struct match_leaves *leaves, struct match *m) {
    m->kind = MATCH_BITS;
    m->bits = bits;
    m->cost = ctx->hi - ctx->lo; /* what is read of it does not depend on how many it has */
    if (!scored) return;
    struct match_leaf *leaf = leaf_new(ctx, leaves, m);
    leaf->score.fixed = leaf->list_bound = boost;
    leaf->df = ctx->hi - ctx->lo;
}

static void add_clause(struct match *m, enum occur occur, struct match *clause) {
    if (occur == OCCUR_MUST_NOT)
        m->barred[m->n_barred++] = clause;
    else if (occur == OCCUR_SHOULD)
        m->should[m->n_should++] = clause;
    else
        m->must[m->n_must++] = clause;
    if (occur == OCCUR_MUST || occur == OCCUR_SHOULD) m->sum[m->n_sum++] = clause;
}

static int compare_cost(const void *a, const void *b) {
    uint64_t x = (*(struct match *const *)a)->cost, y = (*(struct match *const *)b)->cost;
    return (x > y) - (x < y);
}

static uint64_t bool_cost(const struct match *m) {
    uint64_t sum = 0;
    if (m->n_must) return m->must[0]->cost;
    for (uint32_t i = 0; i < m->n_should; i++) sum += m->should[i]->cost;
    return m->n_should ? MIN(sum, (uint64_t)m->hi) : m->hi;
}

/* Optional clauses that must all match are required ones; without scores, those that need not match do not
 * count. */
static void bool_simplify(struct match *m, bool scored) {
    if (!scored && !m->need) m->n_should = 0;
    if (m->need && m->need == m->n_should) {
        memcpy(m->must + m->n_must, m->should, m->n_should * sizeof(struct match *));
        m->n_must += m->n_should;
        m->n_should = m->need = 0;
    }
    qsort(m->must, m->n_must, sizeof(struct match *), compare_cost);
}

static int bool_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                    struct match_leaves *leaves, struct match *m, struct match **ret, struct err *err) {
    uint32_t n = node->n_clauses;
    bool anchored = false;
    m->kind = MATCH_BOOL;
    m->must = arena_alloc(&ctx->arena, 4 * ((size_t)n + 1) * sizeof(struct match *));
    m->should = m->must + n + 1;
    m->barred = m->should + n + 1;
    m->sum = m->barred + n + 1;
    for (uint32_t i = 0; i < n; i++) {
        enum occur occur = node->clauses[i].occur;
        const struct query_node *child = node->clauses[i].node;
        bool scores = scored && (occur == OCCUR_MUST || occur == OCCUR_SHOULD);
        struct match *clause;
        int r = match_new(ctx, child, boost, scores, leaves, &clause, err);
        if (r) return r;
        anchored |= occur == OCCUR_MUST || occur == OCCUR_FILTER;
        if (scores && (child->kind == QUERY_BOOL || child->kind == QUERY_FUZZY)) leaves->nested = true;
        if (clause)
            add_clause(m, occur, clause);
        else if (occur == OCCUR_MUST || occur == OCCUR_FILTER)
            return 0;
    }
    m->need = node->min_should_match ? node->min_should_match : !anchored;
    if (m->n_should < m->need) return 0;
    bool_simplify(m, scored);
    m->cost = bool_cost(m);
    *ret = m;
    return 0;
}

static int docset_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                      struct match_leaves *leaves, struct match *m, struct match **ret, struct err *err) {
    const struct docset *set;
    int r = search_ctx_docset(ctx, node, &set, err);
    if (r || !(set->all || set->bits)) return r;
    bits_new(ctx, set->bits, boost, scored, leaves, m);
    *ret = m;
    return 0;
}

int match_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
              struct match_leaves *leaves, struct match **ret, struct err *err) {
    struct match *m = arena_zalloc(&ctx->arena, sizeof *m);
    *ret = NULL;
    m->hi = ctx->hi;
    boost *= node->boost;
    switch (node->kind) {
    case QUERY_NONE:
        return 0;
    case QUERY_ALL:
        bits_new(ctx, NULL, boost, scored, leaves, m);
        *ret = m;
        return 0;
    case QUERY_TERM:
        return term_new(ctx, node, boost, scored, leaves, m, ret, err);
    case QUERY_SPARSE:
        return sparse_new(ctx, node, boost, scored, leaves, m, ret, err);
    case QUERY_FUZZY:
        node = ctx->stats->fuzzy[node->fuzzy_no].node;
        return node ? match_new(ctx, node, boost, scored, leaves, ret, err) : 0;
    case QUERY_BOOL:
        return bool_new(ctx, node, boost, scored, leaves, m, ret, err);
    default:
        return docset_new(ctx, node, boost, scored, leaves, m, ret, err);
    }
}
