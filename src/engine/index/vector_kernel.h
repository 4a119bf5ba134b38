/* The text of the kernels for one width of registers. What includes it says what the 32 lanes of a sum are:
 *
 *   struct sums, and zeros()
 *   INLINE                                  a function that is always inlined, for the instructions it needs
 *   add32(a, b, square, s)                  32 elements more; `square` is a constant wherever it is passed on
 *   finish(a, b, n, square, s)              the last n < 32 elements, and fold()
 *   fold(s)                                 halves onto each other, down to one
 */
#pragma once
#include "index/vector_math_internal.h"
#include "util/buf.h"

#include <math.h>

enum { LANES = VECTOR_LANES, LOOK = 128 /* elements between two looks at a bounded sum, at least */ };

/* ---- one row ---- */

/* 32 elements. ahead: those so many elements later in b are asked for, too; 0: none are. */
INLINE struct sums next32(const float *a, const float *b, bool square, size_t ahead, struct sums s) {
    if (ahead) vector_prefetch(b + ahead, LANES);
    return add32(a, b, square, s);
}

/* n / 32 * 32 elements. With few jumps, so that more rows are under way at once. */
INLINE struct sums add_lanes(const float *a, const float *b, size_t n, bool square, size_t ahead,
                             struct sums s) {
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s = next32(a + i, b + i, square, ahead, s);
        s = next32(a + i + LANES, b + i + LANES, square, ahead, s);
    }
    return n - i >= LANES ? next32(a + i, b + i, square, ahead, s) : s;
}

INLINE float product(const float *a, const float *b, size_t n, bool square, size_t ahead) {
    struct sums s = zeros();
    size_t whole = n / LANES * LANES;
    s = add_lanes(a, b, n, square, ahead, s);
    return finish(a + whole, b + whole, n - whole, square, s);
}

/* All terms are positive and every lane only grows, so a sum of some of them is not above that of all: it is
 * looked at now and then. */
INLINE float square_bounded(const float *a, const float *b, size_t n, float most, size_t ahead) {
    struct sums s = zeros();
    size_t i = 0, whole = n / LANES * LANES;
    for (; i + LOOK < n; i += LOOK) {
        s = add_lanes(a + i, b + i, LOOK, true, ahead, s);
        float sum = fold(s);
        if (sum > most) return sum;
    }
    s = add_lanes(a + i, b + i, n - i, true, ahead, s);
    return finish(a + whole, b + whole, n - whole, true, s);
}

/* ---- many rows; `square` is a constant where these are inlined ---- */

/* Side by side they stream from memory, and what need not be read of them is worth many looks. */
INLINE bool stream(const float *q, const struct vector_rows *r, bool square, float most, float *ret) {
    const float *row = r->rows;
    size_t dim = r->dimensions, ahead = r->ahead * dim;
    bool any = false;
    for (uint32_t i = 0; i < r->n; i++, row += dim) {
        ret[i] = square ? square_bounded(q, row, dim, most, ahead) : product(q, row, dim, false, ahead);
        any |= !(ret[i] > most);
    }
    return any;
}

/* Short ones, of whole lanes: two at a time, so that more of them are under way at once; what is asked for
 * ahead is asked for in the order of memory, else the machine does not see that it is a stream. dim is a
 * constant. */
INLINE bool stream_pairs(const float *q, const struct vector_rows *r, bool square, size_t dim, float most,
                         float *ret) {
    const float *row = r->rows, *ahead = row + r->ahead * dim;
    bool any = false;
    uint32_t i = 0;
    for (; i + 2 <= r->n; i += 2, row += 2 * dim, ahead += 2 * dim) {
        struct sums s = zeros(), t = s;
        for (size_t k = 0; k < dim; k += LANES) {
            vector_prefetch(ahead + 2 * k, 2 * LANES);
            s = add32(q + k, row + k, square, s);
            t = add32(q + k, row + dim + k, square, t);
        }
        ret[i] = fold(s);
        ret[i + 1] = fold(t);
        any |= !(ret[i] > most) | !(ret[i + 1] > most);
    }
    if (i == r->n) return any;
    ret[i] = product(q, row, dim, square, 0);
    return any | !(ret[i] > most);
}

INLINE const float *single_row(const struct vector_rows *r, uint32_t i, size_t dim) {
    if (i + r->ahead < r->known) vector_prefetch(r->rows + r->numbers[i + r->ahead] * dim, r->start);
    return r->rows + r->numbers[i] * dim;
}

/* n single rows from `from` on, by one half first and then those that may be hits by the rest: so the jumps
 * that nobody foresees come together. */
INLINE void by_halves(const float *q, const struct vector_rows *r, uint32_t from, uint32_t n, size_t dim,
                      float most, float *ret) {
    size_t half = MAX(dim / 2 / LANES * LANES, (size_t)LOOK), whole = dim / LANES * LANES;
    const float *rows[VECTOR_GROUP];
    struct sums sums[VECTOR_GROUP];
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = single_row(r, from + i, dim);
        sums[i] = add_lanes(q, rows[i], half, true, 0, zeros());
        ret[i] = fold(sums[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (ret[i] > most) continue;
        struct sums s = add_lanes(q + half, rows[i] + half, dim - half, true, 0, sums[i]);
        ret[i] = finish(q + whole, rows[i] + whole, dim - whole, true, s);
    }
}

INLINE bool single(const float *q, const struct vector_rows *r, bool square, size_t dim, float most,
                   float *ret) {
    bool halves = square && dim > LOOK && !r->cached && most < INFINITY, any = false;
    for (uint32_t i = 0; halves && i < r->n; i += VECTOR_GROUP)
        by_halves(q, r, i, MIN(r->n - i, (uint32_t)VECTOR_GROUP), dim, most, ret + i);
    for (uint32_t i = 0; i < r->n; i++) {
        if (!halves) ret[i] = product(q, single_row(r, i, dim), dim, square, 0);
        any |= !(ret[i] > most);
    }
    return any;
}

INLINE bool short_rows(const float *q, const struct vector_rows *r, bool square, size_t dim, float most,
                       float *ret) {
    return r->numbers ? single(q, r, square, dim, most, ret) : stream_pairs(q, r, square, dim, most, ret);
}

/* Of short rows a good part of the time is that of loops and jumps: with a constant there are none. */
INLINE bool rows_products(const float *q, const struct vector_rows *r, bool square, float most, float *ret) {
    switch (r->dimensions) {
    case LANES:
        return short_rows(q, r, square, LANES, most, ret);
    case 2 * LANES:
        return short_rows(q, r, square, 2 * LANES, most, ret);
    case 3 * LANES:
        return short_rows(q, r, square, 3 * LANES, most, ret);
    case 4 * LANES:
        return short_rows(q, r, square, 4 * LANES, most, ret);
    default:
        return r->numbers ? single(q, r, square, r->dimensions, most, ret) : stream(q, r, square, most, ret);
    }
}
