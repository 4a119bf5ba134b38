/* Bit packing of blocks of 128 integers in the 4-lane vertical layout of SIMD-BP128 (Lemire and Boytsov,
 * "Decoding billions of integers per second through vectorization", 2015).
 *
 * Value i stands in lane i % 4 at row i / 4. A lane's 32 rows of `bits` bits are concatenated, low bits
 * first, and cut into `bits` 32-bit little-endian words; word w of the four lanes are neighbours. So a block
 * takes 16 * bits bytes and is the same on every machine. No alignment is needed; nothing outside the 16 *
 * bits bytes is touched.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { BITPACK_BLOCK = 128 };
static inline size_t bitpack_size(unsigned bits) {
    return 16 * (size_t)bits;
}
/* Bits that the largest of n values needs, 0..32. */
unsigned bitpack_width(const uint32_t *values, size_t n);
/* bits <= 32; every value fits in bits. in and out are 16-byte aligned. */
void bitpack_pack(const uint32_t in[BITPACK_BLOCK], unsigned bits, uint8_t *out);
void bitpack_unpack(const uint8_t *in, unsigned bits, uint32_t out[BITPACK_BLOCK]);
/* Value i alone. */
static inline uint32_t bitpack_get(const uint8_t *in, unsigned bits, unsigned i) {
    unsigned at = i / 4 * bits;
    const uint8_t *word = in + 16 * (size_t)(at / 32) + 4 * (size_t)(i % 4);
    uint32_t low, high = 0;
    if (!bits) return 0;
    memcpy(&low, word, sizeof low);
    if (at % 32 + bits > 32) memcpy(&high, word + 16, sizeof high);
    uint64_t both = (uint64_t)high << 32 | low;
    return (uint32_t)(both >> at % 32) & (bits == 32 ? UINT32_MAX : (1u << bits) - 1);
}
/* out[i] = unpacked[i] + 1 */
void bitpack_unpack_plus1(const uint8_t *in, unsigned bits, uint32_t out[BITPACK_BLOCK]);
/* Undoes gap coding: out[i] = base + sum over j <= i of (unpacked[j] + 1), mod 2^32. */
void bitpack_unpack_gaps(const uint8_t *in, unsigned bits, uint32_t base, uint32_t out[BITPACK_BLOCK]);
