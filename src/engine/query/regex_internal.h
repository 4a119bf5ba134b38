/* Between the parser and the matcher of regular expressions. */
#pragma once
#include "query/regex.h"

enum regex_op { REGEX_CHAR, REGEX_SPLIT, REGEX_MATCH };
struct regex_range {
    uint32_t lo, hi;
};
/* CHAR: one of n ranges, then x. SPLIT: x or y. */
struct regex_inst {
    enum regex_op op;
    uint32_t x, y, n;
    const struct regex_range *ranges; /* ascending, apart */
};
struct regex {
    struct regex_inst *insts;
    uint32_t n_insts, start;
    /* Characters from bounds[i - 1] to bounds[i] - 1 are alike (class i; the first from 0, the last to the
     * end). */
    uint32_t *bounds, n_bounds;
};
/* ---- deterministic parts (regex_dfa.c) ----
 * State 0 is the first; next[state * n_classes + class]: a state or TERM_DEAD. Classes as of struct regex.
 * Everything is in the arena; NULL: too many states, or `work`, the moves that may still be made, is used up.
 */
struct regex_dfa {
    uint32_t n, n_classes;
    const uint32_t *bounds;
    int32_t *next;
    uint8_t *accepts;
    bool nothing; /* accepts nothing at all */
};
struct regex_dfa *regex_determinise(struct arena *, const struct regex *, uint64_t *work);
struct regex_dfa *regex_complement(struct arena *, const struct regex_dfa *, uint64_t *work);
struct regex_dfa *regex_intersect(struct arena *, const struct regex_dfa *, const struct regex_dfa *,
                                  uint64_t *work);
/* The least character of a class. */
uint32_t regex_class_first(const uint32_t *bounds, uint32_t class);

enum { REGEX_NOTHING = UINT32_MAX }; /* as a target: no way on */
