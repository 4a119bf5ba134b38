/* Which documents of a part match, window by window as bitmaps, without a score; and what it takes to score
 * one of them. For trees of terms, sets of documents and bools; the other kinds of clauses go by scorers.
 *
 * A window is [begin, begin + 64 n): frequent terms are read from their bitmaps, others from their postings,
 * and a bool is words combined. Windows come in ascending order.
 */
#pragma once
#include "query/search_internal.h"

enum { MATCH_WINDOW = 4096, MATCH_WORDS = MATCH_WINDOW / 64, MATCH_MAX_LEAVES = 128 };

/* What scores a clause: a term by BM25, or the same for all its documents. */
struct match_leaf {
    struct term_score score;
    struct match *match;
    struct postings postings; /* TERM, with frequencies: for scores, apart from those that find matches */
    uint32_t df, at;          /* at: what is before it has been scored */
    float list_bound;         /* no score is above */
    double bound;             /* the same in the current window */
    uint32_t block_first, block_last; /* the documents that block_bound is of */
    float block_bound;
};

enum match_kind { MATCH_TERM, MATCH_BITS, MATCH_BOOL };
struct match {
    enum match_kind kind;
    uint32_t hi;
    uint64_t cost;             /* about how many documents it has */
    struct postings *postings; /* TERM */
    uint64_t *own; /* TERM that scores: its documents in the window at own_begin, if they were made */
    uint32_t own_begin;
    const uint64_t *bits;                    /* BITS; NULL: all */
    struct match **must, **should, **barred; /* BOOL; must: cheapest first */
    uint32_t n_must, n_should, n_barred, need;
    bool sparse;        /* BOOL: of the tokens of a sparse query; the products are added, not scores */
    float boost;        /* sparse */
    struct match **sum; /* BOOL: the clauses that score, in clause order */
    uint32_t n_sum;
    struct match_leaf *leaf; /* TERM, BITS: scored */
    struct postings *point;  /* TERM: for match_score, opened on first need */
    const struct segment_field *field;
    struct term_info info;
};

/* Can the query be evaluated like this? It has at most MATCH_MAX_LEAVES leaves then. */
bool match_supports(const struct search_ctx *, const struct query_node *);
struct match_leaves {
    struct match_leaf *all[MATCH_MAX_LEAVES];
    uint32_t n;
    bool nested; /* some score is rounded before it is added */
    float tiny;  /* below it, sums of sparse products may have lost more than their last bits */
};
/* The part's matches; *ret NULL when there are none. leaves: gets those that score, in clause order, when
 * scored. */
int match_new(struct search_ctx *, const struct query_node *, float boost, bool scored, struct match_leaves *,
              struct match **ret, struct err *);
/* No match is in [from, result). from is at most as far as any window so far went. */
uint32_t match_first(struct match *, uint32_t from);
/* Sets bits to the matches of [begin, end), begin a multiple of 64, end at most MATCH_WINDOW behind; bits
 * from end on to the word's end may be anything. */
void match_window(struct match *, uint32_t begin, uint32_t end, uint64_t *bits);
/* The documents of a scored TERM or BITS in the last window, from `begin` on, one bit each; NULL: not known.
 */
const uint8_t *match_bits(struct match *, uint32_t begin, uint32_t n_words);
/* Does the document match, and with what score? As the scorers give it, to the bit. Documents ascend. */
int match_score(struct search_ctx *, struct match *, uint32_t doc, bool *ret_match, float *ret_score,
                struct err *);
