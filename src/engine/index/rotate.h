/* A random rotation of a vector space, fast: signs and Hadamard transforms.
 *
 * A vector is padded with zeros to `padded` dimensions, then goes through four rounds of random signs, a
 * normalised Walsh-Hadamard transform of its largest power of two elements (alternately the first and the
 * last), and, if those are not all, normalised butterflies between its halves. Each step is orthogonal. The
 * rotation spreads what a vector has over all coordinates alike, which is what makes one bit a coordinate a
 * good code (RaBitQ's FHT-Kac rotation; Ailon and Chazelle, 2006). It follows from the seed alone. Immutable;
 * any threads. */
#pragma once
#include <stdint.h>

struct rotation {
    uint32_t dimensions, padded; /* padded: a multiple of 32 */
    uint32_t power;              /* largest power of two <= padded */
    uint64_t seed;
    uint32_t *signs; /* 4 rows of `padded`: 0 or the sign bit */
};
uint32_t rotation_padded(uint32_t dimensions);
void rotation_init(struct rotation *, uint32_t dimensions, uint64_t seed);
void rotation_release(struct rotation *);
/* out: `padded` floats, 32-byte aligned. */
void rotation_apply(const struct rotation *, const float *v, float *out);
