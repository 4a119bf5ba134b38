/* Fuzzy words, as Lucene 8's FuzzyQuery with its default rewrite (TopTermsBlendedFreqScoringRewrite, 50
 * expansions, prefix 0, transpositions).
 *
 * Distance is the optimal string alignment (insert, delete, change, swap two neighbours; nothing edited
 * twice) over characters. A term within `edits` has the boost 1 if it is the word, else (float32) 1 -
 * distance / min(length of the word, length of the term), which below 0 counts as 0 in scores. Of the terms
 * that live documents hold anywhere in the view the FUZZY_MAX_TERMS with the highest boosts are taken, equal
 * ones in byte order. They are then optional clauses in byte order whose document frequency is the highest of
 * any of them.
 *
 * So that segmentation cannot show, expansion is a step of its own before statistics (search.h:
 * search_expand): a term that is among the best overall is among the best of every part it is in. */
#pragma once
#include "query/search.h"
#include "query/term_walk.h"

enum { FUZZY_MAX_TERMS = 50, FUZZY_MAX_EDITS = 2 };

struct fuzzy_term {
    char *text;
    uint32_t len;
    float boost;
    uint64_t df; /* live */
};
/* Of one FUZZY node. */
struct fuzzy_terms {
    struct fuzzy_term terms[FUZZY_MAX_TERMS]; /* collecting: best first; finished: in byte order */
    uint32_t n;
    struct arena arena;
    struct query_node *node; /* finished: the clauses; NULL: no term at all */
};

/* Optimal string alignment against one word, as an automaton. State = characters read. */
struct fuzzy_matcher {
    struct term_matcher base;
    uint32_t *word;
    uint32_t len, edits;
    uint32_t limit; /* <= edits; may be lowered during a walk */
    struct fuzzy_row *rows;
};
void fuzzy_matcher_init(struct fuzzy_matcher *, const char *word, size_t len, uint32_t edits);
void fuzzy_matcher_release(struct fuzzy_matcher *);
/* Of the term that led to an accepted state. */
uint32_t fuzzy_distance(const struct fuzzy_matcher *, int32_t state);

/* Lucene's FuzzyQuery.floatToEdits: 1 and more are edits, below it is a share of the word's characters. */
uint32_t fuzzy_edits(float similarity, const char *word, size_t len);
