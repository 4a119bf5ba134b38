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
enum { REGEX_NOTHING = UINT32_MAX }; /* as a target: no way on */
