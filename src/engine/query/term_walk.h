/* Walks the terms of a dictionary that an automaton accepts, in byte order, and leaves out what cannot match:
 * the states of the characters that a term shares with the one before are kept, and from a prefix that leads
 * nowhere the walk goes on at the next string that the automaton can still accept (the idea of Lucene's
 * AutomatonTermsEnum). */
#pragma once
#include "index/segment.h"

enum { TERM_DEAD = -1 };

/* An automaton over characters (code points). States are numbers >= 0, 0 is the first one. */
struct term_matcher;
struct term_matcher_ops {
    /* The state behind c; TERM_DEAD: nothing that begins so matches. Only the state of the last step and
     * those it was reached through are asked again. */
    int32_t (*step)(struct term_matcher *, int32_t state, uint32_t c);
    /* The least character >= c that leads on from a state; false: there is none. */
    bool (*next)(struct term_matcher *, int32_t state, uint32_t c, uint32_t *ret);
    bool (*accepts)(struct term_matcher *, int32_t state);
};
struct term_matcher {
    const struct term_matcher_ops *ops;
    uint32_t epoch; /* changes when all states but 0 are forgotten: the walk then begins the term again */
};
struct term_walk {
    const struct segment_field *field;
    struct term_matcher *matcher;
    const volatile int *cancel; /* may be NULL */
    /* Each match; state: of the whole term. */
    int (*visit)(void *ctx, const struct term_iter *, int32_t state, struct err *);
    void *ctx;
};
int term_walk(const struct term_walk *, struct err *);

/* The character at s and its bytes; a byte that begins none is a character of its own. */
uint32_t utf8_next(const uint8_t *s, const uint8_t *end, uint32_t *ret_len);
