/* Products of vectors.
 *
 * vector_dot and vector_square give the same bits on every machine: element i goes to lane i mod 32, lanes
 * are added in order of i, then halves are added to each other down to one. Wider registers compute the same
 * lanes, and nothing is fused; so a score never depends on where it was computed. Everything else about
 * vectors (rotation, clusters, codes) decides only which rows are looked at, and may use what the machine
 * has. */
#pragma once
#include "util/simd.h"

#include <stdbool.h>
#include <stdint.h>

typedef float vector_product(const float *a, const float *b, uint32_t n);
vector_product *vector_dot_function(void);    /* sum of a[i] b[i] */
vector_product *vector_square_function(void); /* sum of (a[i] - b[i])^2 */

/* Asks for a row of n floats that will be read soon. */
static inline void vector_prefetch(const float *row, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16) __builtin_prefetch(row + i);
}

/* Products with many rows of a matrix. While one is read, the row `ahead` places later is asked for. */
struct vector_rows {
    const float *rows;       /* the matrix */
    const uint32_t *numbers; /* of the rows, `known` of them (more than n: the next ones); NULL: 0, 1, ... */
    uint32_t n, known, dimensions, ahead;
    uint32_t start; /* with numbers: so many elements of it are asked for */
    bool cached;    /* with numbers: the rows are so few that a cache has them, and are read whole */
};
enum { VECTOR_GROUP = 16 }; /* single rows that are looked at together: n is best a multiple */
/* ret: n. True: one of them is not above `most`. The bits of the functions above; but where a sum of squares
 * is above `most`, it is some number above `most` and not above the sum (long rows are looked at on the way).
 * The dot product has no such bound. */
typedef bool vector_rows_product(const float *q, const struct vector_rows *, float most, float *ret);
vector_rows_product *vector_dot_rows_function(void);
vector_rows_product *vector_square_rows_function(void);
