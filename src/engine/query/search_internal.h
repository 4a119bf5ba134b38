/* Inside of the evaluation: scorers, shared by search.c, scorer*.c, collect.c and knn.c.
 *
 * A scorer is an ascending stream of matching documents of one part, each with a score. Documents move in
 * batches: the root is drained with scorer_fill, so the cost of indirect calls is shared by up to BATCH_DOCS
 * documents. What a query node becomes depends on the part (a missing term is no scorer at all) but its
 * scores do not: a bool's sum is taken in double in the order of its clauses, whichever way it is evaluated,
 * and rounded to float once.
 */
#pragma once
#include "query/bm25.h"
#include "query/docset.h"
#include "query/search.h"

enum { BATCH_DOCS = 256, WINDOW_DOCS = 2048 };

struct batch {
    uint32_t n;
    uint32_t docs[BATCH_DOCS];
    float scores[BATCH_DOCS];
};

/* What must be released when a part is done. */
struct cleanup {
    struct cleanup *next;
    void (*release)(void *);
    void *object;
};

/* Sets of documents are made once for all neighbouring parts of a segment. */
struct cached_docset {
    struct cached_docset *next;
    const struct query_node *node;
    struct docset set;
};

/* One call of search_run, search_knn or search_matches. The fields from `part` on change from part to part.
 */
struct search_ctx {
    const struct query *query;
    const struct search_stats *stats; /* NULL: nothing can be scored */
    const struct knn_result *knn;     /* NULL: kNN clauses are refused */
    const volatile int *cancel;
    const struct search_part *parts;
    size_t n_parts;
    struct bm25 **bm25; /* per field slot, made on first need */
    const struct search_part *part;
    const uint64_t *dead;
    uint32_t lo, hi;
    uint32_t span_lo, span_hi;     /* of this part and its neighbours in the same segment */
    struct cached_docset *docsets; /* of the segment's nodes, for documents in the span */
    struct arena arena;            /* of the part's scorers */
    struct cleanup *cleanups;
};
void search_ctx_init(struct search_ctx *, const struct query *, const struct search_stats *,
                     const struct search_part *parts, size_t n_parts, const volatile int *cancel);
/* Begins a part (in order, from 0): clips its range, forgets the scorers of the one before. */
void search_ctx_part(struct search_ctx *, size_t part);
void search_ctx_release(struct search_ctx *);
void search_ctx_defer(struct search_ctx *, void (*release)(void *), void *object);
int search_ctx_docset(struct search_ctx *, const struct query_node *, const struct docset **ret,
                      struct err *);
const struct bm25 *search_ctx_bm25(struct search_ctx *, uint32_t field_slot);
const struct segment_field *search_ctx_field(const struct search_ctx *, const struct query_node *);
/* Takes the dead documents out of a batch. */
void search_ctx_live(const struct search_ctx *, struct batch *);

enum scorer_kind { SCORER_TERM, SCORER_BITS, SCORER_OTHER };
struct scorer;
struct scorer_ops {
    /* To the first candidate >= target (target > doc); sets doc, DOCNO_NONE at the end. May give documents
     * behind hi. */
    uint32_t (*advance)(struct scorer *, uint32_t target);
    /* Is the candidate a match? NULL: every candidate is. Asked at most once a candidate. */
    bool (*verify)(struct scorer *);
    /* Of the current match. Only called on scored scorers. */
    float (*score)(struct scorer *);
    /* NULL: scorer_fill steps through advance, verify and score. Needs doc < hi and doc a match. */
    void (*fill)(struct scorer *, uint32_t hi, struct batch *);
};
struct scorer {
    const struct scorer_ops *ops;
    enum scorer_kind kind;
    bool scored;   /* false: all scores are 0 */
    uint32_t doc;  /* the current candidate; a new scorer stands on its first one >= ctx->lo */
    uint64_t cost; /* about how many documents it will give */
};
/* The scorer of a node, in ctx's arena; NULL when nothing in this part matches. boost: product of the boosts
 * above. */
int scorer_new(struct search_ctx *, const struct query_node *, float boost, bool scored, struct scorer **ret,
               struct err *);
/* To the first match >= target; needs target > doc. */
uint32_t scorer_advance(struct scorer *, uint32_t target);
/* Makes sure that the current document is a match: once after scorer_new, before the calls above and below.
 */
void scorer_settle(struct scorer *);
/* Matches from the current document on that are below hi, at least one if there is one; the scorer then
 * stands on the next match. False when there was none. */
bool scorer_fill(struct scorer *, uint32_t hi, struct batch *);
/* Loops that may pass many documents without a match end early when this is true; who drains the scorer then
 * reports it. */
static inline bool scorer_is_canceled(const volatile int *cancel) {
    return cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}
static inline float scorer_score(struct scorer *s) {
    return s->scored ? s->ops->score(s) : 0;
}

/* What a term gives a document of one segment: BM25, the same for all, or its share of a sparse product. */
struct term_score {
    const uint8_t *norms; /* NULL: keyword, every document has the same score */
    const float *norm_inverse;
    float weight, fixed;
    double token; /* > 0: of a sparse query; then weight is the boost and norms is NULL */
};
/* boost includes the node's own. */
int scorer_term_score(struct search_ctx *, const struct query_node *, const struct segment_field *,
                      float boost, struct term_score *ret, struct err *);
static inline bool term_score_reads_freqs(const struct term_score *s) {
    return s->norms || s->token > 0;
}
/* Of a sparse query's token alone: rounded, which their sum is only as a whole. */
static inline float term_score_token(const struct term_score *s, uint32_t code) {
    return s->weight * (float)(s->token * (double)sparse_decode(code));
}
static inline float term_score_of(const struct term_score *s, uint32_t doc, uint32_t freq) {
    if (s->norms) return bm25_score(s->weight, (float)freq, s->norm_inverse[s->norms[doc]]);
    return s->token > 0 ? term_score_token(s, freq) : s->fixed;
}
/* Of the postings' current document. */
static inline float term_score_at(const struct term_score *s, struct postings *p) {
    return term_score_of(s, p->doc, term_score_reads_freqs(s) ? postings_freq(p) : 1);
}
/* No posting that one of the impacts stands for has a higher score. */
float term_score_bound(const struct term_score *, const struct impact *, unsigned n);

struct term_scorer {
    struct scorer base;
    struct term_score score;
    struct postings postings;
};
/* To the first candidate >= target. */
static inline uint32_t scorer_step(struct scorer *s, uint32_t target) {
    if (s->kind != SCORER_TERM) return s->ops->advance(s, target);
    return s->doc = postings_advance(&((struct term_scorer *)s)->postings, target);
}
/* Opens postings that ctx closes. */
int scorer_open_postings(struct search_ctx *, const struct segment_field *, const struct term_info *,
                         bool want_freqs, bool want_positions, struct postings *, struct err *);

/* Set by the node kind: scorer_bool.c, scorer_phrase.c, sparse.c. boost includes the node's own. */
int scorer_bool_new(struct search_ctx *, const struct query_node *, float boost, bool scored,
                    struct scorer **ret, struct err *);
int scorer_phrase_new(struct search_ctx *, const struct query_node *, float boost, bool scored,
                      struct scorer **ret, struct err *);
int scorer_sparse_new(struct search_ctx *, const struct query_node *, float boost, bool scored,
                      struct scorer **ret, struct err *);
/* How often the phrase occurs in the current match (sloppy: a fraction). */
float scorer_phrase_freq(const struct scorer *);
/* The bits of a bitmap scorer (NULL = all documents), for word-wise intersection. */
const uint64_t *scorer_bits(const struct scorer *);

/* The number-th KNN node in tree order (clauses depth first; not inside kNN filters), NULL if there is none.
 */
const struct query_node *search_knn_node(const struct query *, uint32_t number);
