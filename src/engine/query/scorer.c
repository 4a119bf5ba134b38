/* Scorers of single clauses: terms, bitmaps, given documents; and what all scorers share. */
#include "query/fuzzy.h"
#include "query/kernels.h"
#include "query/search_internal.h"

/* ---- context ---- */

void search_ctx_init(struct search_ctx *ctx, const struct query *query, const struct search_stats *stats,
                     const struct search_part *parts, size_t n_parts, const volatile int *cancel) {
    *ctx = (struct search_ctx){
        .query = query, .stats = stats, .parts = parts, .n_parts = n_parts, .cancel = cancel};
    ctx->bm25 = xcalloc(query->n_field_slots + 1, sizeof *ctx->bm25);
}

static void run_cleanups(struct search_ctx *ctx) {
    for (struct cleanup *c = ctx->cleanups; c; c = c->next) c->release(c->object);
    ctx->cleanups = NULL;
}

static void drop_docsets(struct search_ctx *ctx) {
    for (struct cached_docset *c = ctx->docsets, *next; c; c = next) {
        next = c->next;
        docset_release(&c->set);
        free(c);
    }
    ctx->docsets = NULL;
}

/* The range of documents that this and the following parts of the same segment cover together. */
static void find_span(struct search_ctx *ctx, size_t part) {
    const struct segment *segment = ctx->parts[part].segment;
    ctx->span_lo = UINT32_MAX;
    ctx->span_hi = 0;
    for (; part < ctx->n_parts && ctx->parts[part].segment == segment; part++) {
        ctx->span_lo = MIN(ctx->span_lo, ctx->parts[part].doc_lo);
        ctx->span_hi = MAX(ctx->span_hi, ctx->parts[part].doc_hi);
    }
    ctx->span_hi = MIN(ctx->span_hi, segment_n_docs(segment));
}

void search_ctx_part(struct search_ctx *ctx, size_t part) {
    run_cleanups(ctx);
    arena_reset(&ctx->arena);
    ctx->part = &ctx->parts[part];
    if (!part || ctx->parts[part - 1].segment != ctx->part->segment) {
        drop_docsets(ctx);
        find_span(ctx, part);
    }
    ctx->dead = ctx->part->hidden ? ctx->part->hidden : deletes_bits(ctx->part->deletes);
    ctx->hi = MIN(ctx->part->doc_hi, segment_n_docs(ctx->part->segment));
    ctx->lo = MIN(ctx->part->doc_lo, ctx->hi);
}

void search_ctx_release(struct search_ctx *ctx) {
    run_cleanups(ctx);
    drop_docsets(ctx);
    arena_release(&ctx->arena);
    for (uint32_t i = 0; i < ctx->query->n_field_slots; i++) free(ctx->bm25[i]);
    free(ctx->bm25);
    ctx->bm25 = NULL;
}

int search_ctx_docset(struct search_ctx *ctx, const struct query_node *node, const struct docset **ret,
                      struct err *err) {
    struct cached_docset *c = ctx->docsets;
    while (c && c->node != node) c = c->next;
    if (!c) {
        struct docset set;
        int r = docset_build(ctx->part->segment, node, ctx->span_lo, ctx->span_hi, ctx->cancel, &set, err);
        if (r) return r;
        c = xmalloc(sizeof *c);
        *c = (struct cached_docset){.next = ctx->docsets, .node = node, .set = set};
        ctx->docsets = c;
    }
    *ret = &c->set;
    return 0;
}

void search_ctx_defer(struct search_ctx *ctx, void (*release)(void *), void *object) {
    struct cleanup *c = arena_alloc(&ctx->arena, sizeof *c);
    *c = (struct cleanup){.next = ctx->cleanups, .release = release, .object = object};
    ctx->cleanups = c;
}

const struct bm25 *search_ctx_bm25(struct search_ctx *ctx, uint32_t field_slot) {
    struct bm25 **slot = &ctx->bm25[field_slot];
    if (*slot) return *slot;
    *slot = xmalloc(sizeof **slot);
    bm25_init(*slot, ctx->stats->field_docs[field_slot], ctx->stats->field_ttf[field_slot]);
    return *slot;
}

const struct segment_field *search_ctx_field(const struct search_ctx *ctx, const struct query_node *node) {
    return segment_field(ctx->part->segment, node->field, strlen(node->field), node->type,
                         node->type == FIELD_TEXT ? node->analyzer : 0);
}

void search_ctx_live(const struct search_ctx *ctx, struct batch *batch) {
    if (!ctx->dead) return;
    uint32_t n = 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        uint32_t doc = batch->docs[i];
        batch->docs[n] = doc;
        batch->scores[n] = batch->scores[i];
        n += !deletes_has(ctx->dead, doc);
    }
    batch->n = n;
}

/* ---- what all scorers share ---- */

void scorer_settle(struct scorer *s) {
    if (!s->ops->verify) return;
    while (s->doc != DOCNO_NONE && !s->ops->verify(s)) s->ops->advance(s, s->doc + 1);
}

uint32_t scorer_advance(struct scorer *s, uint32_t target) {
    scorer_step(s, target);
    scorer_settle(s);
    return s->doc;
}

static void fill_one_by_one(struct scorer *s, uint32_t hi, struct batch *batch) {
    uint32_t n = 0;
    while (s->doc < hi && n < BATCH_DOCS) {
        batch->docs[n] = s->doc;
        batch->scores[n] = scorer_score(s);
        n++;
        scorer_advance(s, s->doc + 1);
    }
    batch->n = n;
}

bool scorer_fill(struct scorer *s, uint32_t hi, struct batch *batch) {
    batch->n = 0;
    if (s->doc >= hi) return false;
    if (s->ops->fill)
        s->ops->fill(s, hi, batch);
    else
        fill_one_by_one(s, hi, batch);
    return batch->n > 0;
}

/* ---- terms ---- */

static void close_postings(void *object) {
    postings_close(object);
}

int scorer_open_postings(struct search_ctx *ctx, const struct segment_field *field,
                         const struct term_info *info, bool want_freqs, bool want_positions,
                         struct postings *p, struct err *err) {
    int r = postings_open(p, field, info, want_freqs, want_positions, err);
    if (!r) search_ctx_defer(ctx, close_postings, p);
    return r;
}

static uint32_t term_advance(struct scorer *s, uint32_t target) {
    struct term_scorer *t = (struct term_scorer *)s;
    return s->doc = postings_advance(&t->postings, target);
}

static float term_score(struct scorer *s) {
    struct term_scorer *t = (struct term_scorer *)s;
    return term_score_at(&t->score, &t->postings);
}

static void term_fill(struct scorer *s, uint32_t hi, struct batch *batch) {
    struct term_scorer *t = (struct term_scorer *)s;
    const struct term_score *score = &t->score;
    uint32_t freqs[BATCH_DOCS];
    const uint32_t *docs, *counts;
    while (s->doc < hi && batch->n < BATCH_DOCS) {
        uint32_t n = postings_run(&t->postings, hi, &docs, &counts);
        n = MIN(n, BATCH_DOCS - batch->n);
        memcpy(batch->docs + batch->n, docs, n * sizeof *docs);
        if (score->norms) memcpy(freqs + batch->n, counts, n * sizeof *counts);
        batch->n += n;
        s->doc = postings_skip_run(&t->postings, n);
    }
    if (score->norms)
        kernels()->term_scores(score->weight, score->norm_inverse, score->norms, batch->docs, freqs, batch->n,
                               batch->scores);
    for (uint32_t i = 0; !score->norms && i < batch->n; i++) batch->scores[i] = score->fixed;
}

static const struct scorer_ops term_ops = {.advance = term_advance, .score = term_score, .fill = term_fill};

int scorer_term_score(struct search_ctx *ctx, const struct query_node *node,
                      const struct segment_field *field, float boost, struct term_score *ret,
                      struct err *err) {
    const struct bm25 *bm25 = search_ctx_bm25(ctx, node->field_slot);
    *ret = (struct term_score){.norm_inverse = bm25->norm_inverse};
    ret->weight = boost * bm25_idf(ctx->stats->term_df[node->terms[0].slot], bm25->n_docs);
    ret->fixed = bm25_score(ret->weight, 1, bm25->norm_inverse[1]);
    return node->type == FIELD_TEXT ? text_norms(field, &ret->norms, err) : 0;
}

static int term_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                    struct scorer **ret, struct err *err) {
    const struct segment_field *field = search_ctx_field(ctx, node);
    struct term_info info;
    *ret = NULL;
    if (!field) return 0;
    int r = term_find(field, node->terms[0].text, node->terms[0].len, &info, err);
    if (r || !info.df) return r;
    bool freqs = scored && node->type == FIELD_TEXT;
    struct term_scorer *t = arena_zalloc(&ctx->arena, sizeof *t);
    r = scorer_open_postings(ctx, field, &info, freqs, false, &t->postings, err);
    if (r) return r;
    t->base = (struct scorer){.ops = &term_ops, .kind = SCORER_TERM, .scored = scored, .cost = info.df};
    if (scored) r = scorer_term_score(ctx, node, field, boost, &t->score, err);
    if (r) return r;
    t->base.doc = postings_advance(&t->postings, ctx->lo);
    *ret = &t->base;
    return 0;
}

/* ---- bitmaps ---- */

struct bits_scorer {
    struct scorer base;
    const uint64_t *bits; /* NULL: all documents */
    uint32_t hi;
    float fixed;
};

const uint64_t *scorer_bits(const struct scorer *s) {
    return ((const struct bits_scorer *)s)->bits;
}

static uint32_t bits_advance(struct scorer *s, uint32_t target) {
    struct bits_scorer *b = (struct bits_scorer *)s;
    if (target >= b->hi) return s->doc = DOCNO_NONE;
    if (!b->bits) return s->doc = target;
    uint32_t word = target >> 6, last = (b->hi - 1) >> 6;
    uint64_t w = b->bits[word] & (~0ull << (target & 63));
    while (!w) {
        if (++word > last) return s->doc = DOCNO_NONE;
        w = b->bits[word];
    }
    uint32_t doc = (word << 6) + (uint32_t)__builtin_ctzll(w);
    return s->doc = doc < b->hi ? doc : DOCNO_NONE;
}

static float bits_score(struct scorer *s) {
    return ((struct bits_scorer *)s)->fixed;
}

static void bits_fill(struct scorer *s, uint32_t hi, struct batch *batch) {
    struct bits_scorer *b = (struct bits_scorer *)s;
    uint32_t n = 0;
    for (; s->doc < hi && n < BATCH_DOCS; bits_advance(s, s->doc + 1)) {
        batch->scores[n] = b->fixed;
        batch->docs[n++] = s->doc;
    }
    batch->n = n;
}

static const struct scorer_ops bits_ops = {.advance = bits_advance, .score = bits_score, .fill = bits_fill};

static struct scorer *bits_new(struct search_ctx *ctx, const uint64_t *bits, float boost, bool scored) {
    struct bits_scorer *b = arena_alloc(&ctx->arena, sizeof *b);
    uint64_t cost = bits ? 0 : ctx->hi - ctx->lo;
    if (bits)
        for (uint32_t w = ctx->lo >> 6; w < (ctx->hi + 63) >> 6; w++)
            cost += (unsigned)__builtin_popcountll(bits[w]);
    *b = (struct bits_scorer){.bits = bits, .hi = ctx->hi, .fixed = scored ? boost : 0};
    b->base = (struct scorer){.ops = &bits_ops, .kind = SCORER_BITS, .scored = scored, .cost = cost};
    bits_advance(&b->base, ctx->lo);
    return &b->base;
}

static int docset_scorer_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                             struct scorer **ret, struct err *err) {
    const struct docset *set;
    int r = search_ctx_docset(ctx, node, &set, err);
    if (!r && (set->all || set->bits)) *ret = bits_new(ctx, set->bits, boost, scored);
    return r;
}

/* ---- given documents ---- */

struct list_entry {
    uint32_t doc;
    float score;
};
struct list_scorer {
    struct scorer base;
    struct list_entry *entries; /* ascending, distinct */
    uint32_t n, at;
};

static uint32_t list_advance(struct scorer *s, uint32_t target) {
    struct list_scorer *l = (struct list_scorer *)s;
    while (l->at < l->n && l->entries[l->at].doc < target) l->at++;
    return s->doc = l->at < l->n ? l->entries[l->at].doc : DOCNO_NONE;
}

static float list_score(struct scorer *s) {
    struct list_scorer *l = (struct list_scorer *)s;
    return l->entries[l->at].score;
}

static const struct scorer_ops list_ops = {.advance = list_advance, .score = list_score};

static int compare_entries(const void *a, const void *b) {
    uint32_t x = ((const struct list_entry *)a)->doc, y = ((const struct list_entry *)b)->doc;
    return (x > y) - (x < y);
}

/* entries: in the arena, any order, equal documents with equal scores. */
static struct scorer *list_new(struct search_ctx *ctx, struct list_entry *entries, uint32_t n, bool scored) {
    struct list_scorer *l = arena_zalloc(&ctx->arena, sizeof *l);
    if (!n) return NULL;
    qsort(entries, n, sizeof *entries, compare_entries);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < n; i++)
        if (entries[i].doc != entries[kept - 1].doc) entries[kept++] = entries[i];
    l->base = (struct scorer){.ops = &list_ops, .kind = SCORER_OTHER, .scored = scored, .cost = kept};
    l->entries = entries;
    l->n = kept;
    list_advance(&l->base, ctx->lo);
    return &l->base;
}

static int docs_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                    struct scorer **ret, struct err *err) {
    struct list_entry *entries = arena_alloc(&ctx->arena, (node->n_terms + 1) * sizeof *entries);
    uint32_t n = 0;
    for (uint32_t i = 0; i < node->n_terms; i++) {
        uint32_t doc;
        int r = segment_find_id(ctx->part->segment, node->terms[i].text, node->terms[i].len, &doc, err);
        if (r) return r;
        if (doc >= ctx->lo && doc < ctx->hi) entries[n++] = (struct list_entry){doc, boost};
    }
    *ret = list_new(ctx, entries, n, scored);
    return 0;
}

static int knn_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                   struct scorer **ret, struct err *err) {
    uint32_t number = 0, n = 0;
    const struct query_node *found;
    while ((found = search_knn_node(ctx->query, number)) && found != node) number++;
    if (!ctx->knn || !found)
        return err_set(err, ERR_UNSUPPORTED, "a knn clause cannot stand inside a filter");
    const struct knn_result *result = &ctx->knn[number];
    struct list_entry *entries = arena_alloc(&ctx->arena, ((size_t)result->n + 1) * sizeof *entries);
    for (uint32_t i = 0; i < result->n; i++) {
        const struct search_hit *hit = &result->hits[i];
        if (hit->part_no == ctx->part->part_no && hit->docno >= ctx->lo && hit->docno < ctx->hi)
            entries[n++] = (struct list_entry){hit->docno, boost * hit->score};
    }
    *ret = list_new(ctx, entries, n, scored);
    return 0;
}

static int fuzzy_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
                     struct scorer **ret, struct err *err) {
    if (!ctx->stats || node->fuzzy_no >= ctx->stats->n_fuzzy)
        return err_set(err, ERR_UNSUPPORTED, "the fuzzy words of this query were not looked up");
    const struct query_node *terms = ctx->stats->fuzzy[node->fuzzy_no].node;
    return terms ? scorer_new(ctx, terms, boost, scored, ret, err) : 0;
}

int scorer_new(struct search_ctx *ctx, const struct query_node *node, float boost, bool scored,
               struct scorer **ret, struct err *err) {
    *ret = NULL;
    boost *= node->boost;
    switch (node->kind) {
    case QUERY_NONE:
        return 0;
    case QUERY_ALL:
        *ret = bits_new(ctx, NULL, boost, scored);
        return 0;
    case QUERY_TERM:
        return term_new(ctx, node, boost, scored, ret, err);
    case QUERY_PHRASE:
        return scorer_phrase_new(ctx, node, boost, scored, ret, err);
    case QUERY_FUZZY:
        return fuzzy_new(ctx, node, boost, scored, ret, err);
    case QUERY_FUSE: /* as a set: what either side matches */
    case QUERY_BOOL:
        return scorer_bool_new(ctx, node, boost, scored, ret, err);
    case QUERY_SPARSE:
        return scorer_sparse_new(ctx, node, boost, scored, ret, err);
    case QUERY_DOCS:
        return docs_new(ctx, node, boost, scored, ret, err);
    case QUERY_KNN:
        return knn_new(ctx, node, boost, scored, ret, err);
    default:
        return docset_scorer_new(ctx, node, boost, scored, ret, err);
    }
}
