/* Regular expressions over whole terms, in Lucene's syntax (org.apache.lucene.util.automaton.RegExp):
 *
 *   union  = inter { "|" inter }
 *   inter  = concat { "&" concat }
 *   concat = repeat { repeat }
 *   repeat = compl { "?" | "*" | "+" | "{" n [ "," [ m ] ] "}" }
 *   compl  = { "~" } simple
 *   simple = "." | "#" (nothing) | "@" (anything) | "(" [ union ] ")" | '"' text '"' | "<" n "-" m ">"
 *          | "[" [ "^" ] { item } "]" | \d \D \s \S \w \W | "\" character | character
 *   item   = character [ "-" character ] | \d ... ; in brackets only \ ] - and a first ^ are special
 *
 * <n-m> is a number between the two: with as many digits as they have when both have the same, else with any
 * number of zeros before it. What Lucene takes literally for want of an operand ("*a", "|a", "a&&b") is an
 * error here.
 *
 * A Thompson automaton of at most REGEX_MAX_INSTS steps, run as a lazily made deterministic one whose memory
 * is bounded: when it is full it is forgotten and grows again. So time is linear in the characters read,
 * whatever the expression. What "~" and "&" stand at is made deterministic at once (regex_dfa.c), within
 * REGEX_MAX_INSTS states and REGEX_WORK moves, and becomes steps again. */
#pragma once
#include "query/term_walk.h"

enum {
    REGEX_MAX_INSTS = 1000,
    REGEX_MAX_REPEAT = 1000,
    REGEX_MAX_TEXT = 10000,
    REGEX_WORK = 50000000,       /* for all expressions of a query: some hundredths of a second */
    REGEX_CACHE_BYTES = 48 << 20 /* holds the states of the longest term of any expression */
};

struct regex; /* immutable, in the arena that it was compiled in */
/* How a field normalises text: appends the normal form of s. */
typedef void regex_fold(void *ctx, const char *s, size_t len, struct buf *out);

/* NULL: an error; *ret_at is its byte offset and *ret_why what was expected. fold may be NULL. work: how much
 * there may still be of it, at first REGEX_WORK; what is used is taken off. */
const struct regex *regex_compile(struct arena *, const char *text, size_t len, regex_fold *fold,
                                  void *fold_ctx, uint64_t *work, size_t *ret_at, const char **ret_why);
/* A wildcard pattern as an expression; NULL when it is too long. */
const struct regex *regex_of_wildcard(struct arena *, const char *pattern, size_t len);

struct regex_matcher {
    struct term_matcher base;
    const struct regex *regex;
    struct regex_state **states;
    uint32_t n_states, cap_states, *buckets;
    size_t bytes;
    struct arena arena;
    uint32_t *set, n_set, *stack; /* the state being made */
    uint8_t *marks;
    int16_t ascii[128]; /* class of a character */
};
void regex_matcher_init(struct regex_matcher *, const struct regex *);
void regex_matcher_release(struct regex_matcher *);
