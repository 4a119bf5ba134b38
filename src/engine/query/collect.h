/* Keeps the best hits of several parts, and counts.
 *
 * Within a part documents are compared by keys that are cheap there (ordinals, document numbers); at the
 * part's end the survivors are merged into one list over all parts, by values and, for ties, ids. Ids are
 * read for ties and for the final hits only. The order is total, so the division into parts cannot change the
 * result.
 *
 * Over segments that are read by requests, ids would be read one by one. There all parts' survivors wait
 * (deferred) until the end; those that cannot be among the best whatever their ids are dropped, the ids and
 * documents of the rest are fetched together, and only then are they ordered. */
#pragma once
#include "query/search_internal.h"

/* The floats next to a finite one; float_after(-INFINITY) is -FLT_MAX. */
static inline float float_step(float x, int up) {
    int32_t bits;
    if (x == 0) return up ? 0x1p-149f : -0x1p-149f;
    memcpy(&bits, &x, sizeof bits);
    bits += (bits >= 0) == up ? 1 : -1;
    memcpy(&x, &bits, sizeof bits);
    return x;
}
static inline float float_after(float x) {
    return float_step(x, 1);
}
static inline float float_before(float x) {
    return float_step(x, 0);
}

struct sort_entry;
struct sort_source;
struct candidate;

struct collector {
    const struct sort_key *sort;
    uint32_t n_sort, want;
    bool by_score; /* score descending, then id */
    bool by_id;    /* some key is _id */
    bool ids_only; /* nobody will read the hits' documents */
    uint64_t total;
    float max_score; /* of all matches, -INFINITY if there are none */
    /* the current part */
    struct search_ctx *ctx;
    struct sort_source *sources; /* n_sort */
    uint64_t *heap;              /* by_score: (score, ~doc), worst first */
    struct sort_entry *entries;  /* else: a heap, worst first */
    uint32_t n, cap;
    uint64_t floor; /* by_score: nothing below can be among the best */
    float theta;    /* the same as a score, for a quick no */
    /* over all parts, best first */
    struct candidate *best; /* deferred: of each part, in no order */
    uint32_t n_best;
    bool deferred;
    struct buf id; /* the one that is being read */
};
/* n_sort 0: by score. The keys are borrowed. */
void collector_init(struct collector *, const struct sort_key *, uint32_t n_sort, uint32_t want);
int collector_begin(struct collector *, struct search_ctx *, struct err *);
/* Live matches in ascending order. */
void collector_add(struct collector *, const struct batch *);
/* By score, instead of add: counts live matches; the least score of a later document that would be among the
 * best (of want 0: that would be the highest); a live match. Offers ascend. */
void collector_count(struct collector *, uint64_t n);
float collector_least(const struct collector *);
void collector_offer(struct collector *, uint32_t doc, float score);
int collector_end(struct collector *, struct err *);
/* Wants what the best so far will need, when they are deferred (index/fetch.h). */
struct fetch;
void collector_want(struct collector *, struct fetch *);
/* Moves the hits out: ids and sort values are set. */
int collector_finish(struct collector *, struct search_hit **ret, uint32_t *ret_n, struct err *);
void collector_release(struct collector *);

/* Order of hits whose ids and sort values are set; never 0 for different documents. */
int search_hit_compare(const struct sort_key *, uint32_t n_sort, const struct search_hit *,
                       const struct search_hit *);
void search_hit_release(struct search_hit *);
