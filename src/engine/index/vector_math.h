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

/* The same bits where the sum is not above `most` (that of long rows is looked at on the way); else some
 * number above `most` and not above the sum. */
typedef float vector_bounded_product(const float *a, const float *b, uint32_t n, float most);
vector_bounded_product *vector_square_bounded_function(void);

/* Asks for a row of n floats that will be read soon. */
static inline void vector_prefetch(const float *row, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16) __builtin_prefetch(row + i);
}
