/* The sparseVector query: its check, and the dot product over the postings of its tokens.
 *
 * Evaluated by windows like a disjunction, token after token in byte order: the products are added in double
 * in that order and rounded to float once, so that no division into windows, ranges or segments shows in a
 * score. */
#include "query/query_internal.h"
#include "query/search_internal.h"
#include <math.h>

/* ---- check ---- */

static int refuse_token(struct compiler *c, const char *token, const char *what) {
    return compile_error(c, "queryVector: token \"%.*s\": %s", SHOWN(token), what);
}

struct weighted {
    struct query_term term;
    float weight;
};

static int token_order(const void *pa, const void *pb) {
    const struct query_term *a = &((const struct weighted *)pa)->term,
                            *b = &((const struct weighted *)pb)->term;
    int r = memcmp(a->text, b->text, MIN(a->len, b->len));
    return r ? r : (a->len > b->len) - (a->len < b->len);
}

/* The tokens whose weight is not 0, in byte order; room has a place for each member. */
static int read_tokens(struct compiler *c, json_t *vector, struct weighted *room, uint32_t *ret_n) {
    const char *key;
    json_t *v;
    uint32_t n = 0;
    json_object_foreach(vector, key, v) {
        double w = json_is_number(v) ? json_number_value(v) : -1;
        if (!json_is_number(v)) return refuse_token(c, key, "expected a number as the weight");
        if (!(w >= 0 && w <= SPARSE_MAX_WEIGHT))
            return refuse_token(c, key, "expected a weight from 0 to 64");
        if (!((float)w >= SPARSE_MIN_WEIGHT)) continue;
        if (n == SPARSE_MAX_WEIGHTS)
            return compile_error(c, "queryVector: there are more than %d weights that are not 0",
                                 SPARSE_MAX_WEIGHTS);
        uint32_t len = (uint32_t)strlen(key);
        room[n++] =
            (struct weighted){{.text = arena_strndup(&c->query->arena, key, len), .len = len}, (float)w};
    }
    qsort(room, n, sizeof *room, token_order);
    *ret_n = n;
    return 0;
}

static int sparse_node(struct compiler *c, const struct field *f, const struct weighted *tokens, uint32_t n,
                       struct query_node **ret) {
    int r = compile_count(c);
    if (r) return r;
    *ret = node_new(c, n ? QUERY_SPARSE : QUERY_NONE);
    if (!n) return 0;
    struct query_node *node = *ret;
    float *weights = arena_alloc(&c->query->arena, n * sizeof *weights);
    node->field = arena_strndup(&c->query->arena, f->path, f->path_len);
    node->type = FIELD_SPARSE_VECTOR;
    node->n_terms = n;
    node->terms = arena_alloc(&c->query->arena, n * sizeof *node->terms);
    node->token_weights = weights;
    for (uint32_t i = 0; i < n; i++) {
        node->terms[i] = tokens[i].term;
        weights[i] = tokens[i].weight;
    }
    return 0;
}

int compile_sparse(struct compiler *c, json_t *object, struct query_node **ret) {
    const char *key;
    json_t *v, *field = json_object_get(object, "field"), *vector = json_object_get(object, "queryVector");
    const struct field *f;
    uint32_t n = 0;
    if (!json_is_object(object))
        return compile_error(c, "expected an object with \"field\" and \"queryVector\"");
    json_object_foreach(object, key,
                        v) if (strcmp(key, "field") &&
                               strcmp(key, "queryVector")) return compile_error(c, "unknown member \"%.*s\"",
                                                                                SHOWN(key));
    if (!json_is_string(field)) return compile_error(c, "expected a string \"field\"");
    int r = compile_field(c, json_string_value(field), json_string_length(field), &f);
    if (r) return r;
    if (f->type != FIELD_SPARSE_VECTOR)
        return compile_error(c, "field \"%.*s\" is %s: expected a sparseVector field", SHOWN(f->path),
                             field_type_name(f->type));
    if (!json_is_object(vector))
        return compile_error(c, "expected an object of token weights \"queryVector\"");
    struct weighted *room = xmalloc((json_object_size(vector) + 1) * sizeof *room);
    r = read_tokens(c, vector, room, &n);
    if (!r) r = sparse_node(c, f, room, n, ret);
    free(room);
    return r;
}

/* ---- evaluation ---- */

enum { WINDOW_WORDS = WINDOW_DOCS / 64, WINDOW_MIN = 64, WINDOW_FIRST = 256 };

struct sparse_term {
    struct postings postings;
    double weight;
};
struct sparse_scorer {
    struct scorer base;
    const volatile int *cancel;
    uint32_t hi, n;
    struct sparse_term **terms;
    float boost;
    uint32_t begin, end, size; /* window [begin, end), begin a multiple of 64; size of the next one */
    double *sums;              /* NULL when not scored */
    uint64_t bits[WINDOW_WORDS];
};

static void window_term(struct sparse_scorer *s, struct sparse_term *t) {
    const uint32_t *docs, *codes;
    while (t->postings.doc < s->end) {
        uint32_t n = postings_run(&t->postings, s->end, &docs, &codes);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = docs[i] - s->begin;
            s->bits[at >> 6] |= 1ull << (at & 63);
            if (s->sums) s->sums[at] += t->weight * (double)sparse_decode(codes[i]);
        }
        postings_skip_run(&t->postings, n);
    }
}

/* Fills the next window, from the first match >= from on. False when there is none. */
static bool window_next(struct sparse_scorer *s, uint32_t from) {
    uint32_t first = DOCNO_NONE;
    if (scorer_is_canceled(s->cancel)) return false;
    for (uint32_t i = 0; i < s->n; i++) {
        struct postings *p = &s->terms[i]->postings;
        if (p->doc < from) postings_advance(p, from);
        first = MIN(first, p->doc);
    }
    if (first >= s->hi) return false;
    s->begin = first & ~63u;
    s->end = MIN(s->hi, s->begin + s->size);
    memset(s->bits, 0, sizeof s->bits);
    if (s->sums) memset(s->sums, 0, (s->end - s->begin) * sizeof *s->sums);
    for (uint32_t i = 0; i < s->n; i++) window_term(s, s->terms[i]);
    return true;
}

/* First match at or behind `from` in the window, DOCNO_NONE if there is none. */
static uint32_t window_scan(const struct sparse_scorer *s, uint32_t from) {
    if (from >= s->end) return DOCNO_NONE;
    uint32_t at = MAX(from, s->begin) - s->begin, words = (s->end - s->begin + 63) / 64, word = at >> 6;
    uint64_t w = s->bits[word] & (~0ull << (at & 63));
    while (!w) {
        if (++word >= words) return DOCNO_NONE;
        w = s->bits[word];
    }
    return s->begin + (word << 6) + (uint32_t)__builtin_ctzll(w);
}

/* A window is as long as its user goes through it: stepping doubles it, jumping over its end halves it. */
static uint32_t sparse_advance(struct scorer *base, uint32_t target) {
    struct sparse_scorer *s = (struct sparse_scorer *)base;
    for (;;) {
        uint32_t doc = window_scan(s, target);
        if (doc != DOCNO_NONE) return base->doc = doc;
        s->size = target > s->end ? MAX(s->size / 2, (uint32_t)WINDOW_MIN)
                                  : MIN(s->size * 2, (uint32_t)WINDOW_DOCS);
        target = MAX(target, s->end);
        if (!window_next(s, target)) return base->doc = DOCNO_NONE;
    }
}

static float sparse_score(struct scorer *base) {
    const struct sparse_scorer *s = (const struct sparse_scorer *)base;
    return s->boost * (float)s->sums[base->doc - s->begin];
}

static const struct scorer_ops sparse_ops = {.advance = sparse_advance, .score = sparse_score};

static int open_terms(struct search_ctx *ctx, const struct query_node *node, struct sparse_scorer *s,
                      struct err *err) {
    const struct segment_field *field = search_ctx_field(ctx, node);
    s->terms = arena_alloc(&ctx->arena, node->n_terms * sizeof *s->terms);
    for (uint32_t i = 0; field && i < node->n_terms; i++) {
        struct term_info info;
        int r = term_find(field, node->terms[i].text, node->terms[i].len, &info, err);
        if (r) return r;
        if (!info.df) continue;
        struct sparse_term *t = arena_alloc(&ctx->arena, sizeof *t);
        r = scorer_open_postings(ctx, field, &info, s->base.scored, false, &t->postings, err);
        if (r) return r;
        t->weight = (double)node->token_weights[i];
        postings_advance(&t->postings, ctx->lo);
        s->terms[s->n++] = t;
        s->base.cost += info.df;
    }
    return 0;
}

int scorer_sparse_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                      struct scorer **ret, struct err *err) {
    struct sparse_scorer *s = arena_zalloc(&ctx->arena, sizeof *s);
    *ret = NULL;
    s->base = (struct scorer){.ops = &sparse_ops, .kind = SCORER_OTHER, .scored = scored};
    s->cancel = ctx->cancel;
    s->hi = ctx->hi;
    s->boost = boost;
    s->size = WINDOW_FIRST;
    if (scored) s->sums = arena_alloc_lines(&ctx->arena, WINDOW_DOCS * sizeof *s->sums);
    int r = open_terms(ctx, node, s, err);
    if (r || !s->n) return r;
    s->base.cost = MIN(s->base.cost, (uint64_t)(ctx->hi - ctx->lo));
    s->begin = s->end = ctx->lo;
    sparse_advance(&s->base, ctx->lo);
    *ret = &s->base;
    return 0;
}
