/* RaBitQ: one bit a dimension, with an unbiased estimate of inner products and a bound of its error.
 *
 * Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
 * Nearest Neighbor Search", SIGMOD 2024. In D rotated dimensions let r be a vector less its centroid c, and x
 * = sign(r), a vector of +1 and -1. For a query q
 *
 *     <r, q - c>  ~  |r|^2 / |r|_1 * (<x, q> - <x, c>)                                          (unbiased)
 *     error       <=  e * |r| |q - c| sqrt((1 - a^2) / a^2) / sqrt(D - 1),  a = |r|_1 / (|r| sqrt(D))
 *
 * with a probability that depends on e alone (1.9: practically always). So with `key` the squared distance
 * |r|^2 + |q - c|^2 - 2 <r, q - c>, or -2 <q, c + r> for inner products,
 *
 *     key  ~  add + shift + rescale * <x, q>,   error <= e * |q - c| * error
 *
 * where add, rescale and error belong to the vector and shift (|q - c|^2 or -2 <q, c>) to query and centroid.
 *
 * Codes stand in blocks of 32 vectors, transposed for 4-bit fast scan (Andre et al., 2015): sums of 4
 * dimensions of the query for the 16 patterns of 4 bits are a table of bytes that a shuffle looks up for 32
 * vectors at once. All variants of the scan give the same bits. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RABITQ_BLOCK = 32 };
#define RABITQ_NO_ROW UINT32_MAX

/* What a block has besides its codes, which stand before it: 4 * dimensions bytes. */
struct rabitq_tail {
    float add[RABITQ_BLOCK], rescale[RABITQ_BLOCK], error[RABITQ_BLOCK];
    uint32_t rows[RABITQ_BLOCK]; /* the caller's numbers; RABITQ_NO_ROW behind the last one of a list */
};
static inline size_t rabitq_codes_size(uint32_t dimensions) {
    return (size_t)dimensions * 4;
}
static inline size_t rabitq_block_size(uint32_t dimensions) {
    return rabitq_codes_size(dimensions) + sizeof(struct rabitq_tail);
}
static inline const struct rabitq_tail *rabitq_block_tail(const uint8_t *block, uint32_t dimensions) {
    return (const struct rabitq_tail *)(block + rabitq_codes_size(dimensions));
}

/* ---- writing ---- */

/* An empty block: all of its places without a row. dimensions: a multiple of 32. 32-byte aligned. */
void rabitq_block_init(uint8_t *block, uint32_t dimensions);
/* Codes a vector into a place of the block. residual: vector less centroid; inner_product: which key. */
void rabitq_encode(uint8_t *block, uint32_t dimensions, unsigned place, uint32_t row, const float *residual,
                   const float *centroid, bool inner_product);

/* ---- reading ---- */

/* A query's tables. */
struct rabitq_query {
    uint32_t dimensions;
    uint8_t *
        tables; /* dimensions / 4 times 16 sums, 32-byte aligned; the caller's memory: 4 * dimensions bytes */
    float scale, offset; /* <x, q> = scale * sum + offset */
};
void rabitq_query_init(struct rabitq_query *, uint32_t dimensions, const float *q, uint8_t *tables);

/* Estimates of the keys of a block and their lower bounds. */
struct rabitq_estimates {
    float key[RABITQ_BLOCK], low[RABITQ_BLOCK];
} __attribute__((aligned(32)));
/* shift: see above; reach: e * |q - c|. Returns a bit for each place whose low is below `most`; places
 * without a row have none. */
typedef uint32_t rabitq_scan_fn(const struct rabitq_query *, const uint8_t *block, float shift, float reach,
                                float most, struct rabitq_estimates *);
rabitq_scan_fn *rabitq_scan_function(void);
