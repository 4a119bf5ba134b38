/* SIMD-BP128 packing in plain C with vector extensions: one specialised routine per width. */
#include "index/bitpack.h"

#include <string.h>

typedef uint32_t v4 __attribute__((vector_size(16)));

static inline v4 load(const uint8_t *p) {
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline v4 splat(uint32_t x) {
    return (v4){x, x, x, x};
}

unsigned bitpack_width(const uint32_t *values, size_t n) {
    uint32_t all = 0;
    for (size_t i = 0; i < n; i++) all |= values[i];
    return all ? 32 - (unsigned)__builtin_clz(all) : 0;
}

void bitpack_pack(const uint32_t in[BITPACK_BLOCK], unsigned bits, uint8_t *out) {
    if (!bits) return;
    v4 word = splat(0);
    unsigned used = 0;
    for (unsigned row = 0; row < 32; row++) {
        v4 v = load((const uint8_t *)(in + 4 * row));
        word |= v << used;
        used += bits;
        if (used < 32) continue;
        memcpy(out, &word, sizeof word);
        out += sizeof word;
        used -= 32;
        word = used ? v >> (bits - used) : splat(0);
    }
}

enum unpack_mode { PLAIN, PLUS1, GAPS };

/* Inclusive prefix sums of v's lanes on top of the last lane of prev. */
static inline v4 prefix_sum(v4 v, v4 prev) {
    const v4 zero = splat(0);
    v += __builtin_shufflevector(zero, v, 0, 4, 5, 6);
    v += __builtin_shufflevector(zero, v, 0, 1, 4, 5);
    return v + __builtin_shufflevector(prev, prev, 3, 3, 3, 3);
}

/* Inlined with constant bits and mode, so that all shifts become immediates. */
__attribute__((always_inline)) static inline void
unpack(const uint8_t *in, const unsigned bits, uint32_t base, uint32_t *out, const enum unpack_mode mode) {
    const v4 mask = splat(bits == 32 ? UINT32_MAX : (1u << bits) - 1);
    v4 prev = splat(base), word = splat(0);
    if (bits) word = load(in);
#pragma GCC unroll 32
    for (unsigned row = 0; row < 32; row++) {
        const unsigned at = row * bits, w = at / 32, s = at % 32;
        v4 v = splat(0);
        if (bits) {
            if (s == 0 && row) word = load(in + 16 * (size_t)w);
            v = word >> s;
            if (s + bits > 32) {
                word = load(in + 16 * (size_t)(w + 1));
                v |= word << (32 - s);
            }
            v &= mask;
        }
        if (mode != PLAIN) v += splat(1);
        if (mode == GAPS) prev = v = prefix_sum(v, prev);
        memcpy(out + 4 * row, &v, sizeof v);
    }
}

/* clang-format off */
#define WIDTHS(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) \
    X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31) X(32)
/* clang-format on */

typedef void unpack_fn(const uint8_t *in, uint32_t base, uint32_t *out);

#define DEFINE(n)                                                                                            \
    static void plain_##n(const uint8_t *in, uint32_t base, uint32_t *out) {                                 \
        unpack(in, n, base, out, PLAIN);                                                                     \
    }                                                                                                        \
    static void plus1_##n(const uint8_t *in, uint32_t base, uint32_t *out) {                                 \
        unpack(in, n, base, out, PLUS1);                                                                     \
    }                                                                                                        \
    static void gaps_##n(const uint8_t *in, uint32_t base, uint32_t *out) {                                  \
        unpack(in, n, base, out, GAPS);                                                                      \
    }
WIDTHS(DEFINE)

#define ROW(n) {plain_##n, plus1_##n, gaps_##n},
static unpack_fn *const table[33][3] = {WIDTHS(ROW)};

void bitpack_unpack(const uint8_t *in, unsigned bits, uint32_t out[BITPACK_BLOCK]) {
    table[bits][PLAIN](in, 0, out);
}

void bitpack_unpack_plus1(const uint8_t *in, unsigned bits, uint32_t out[BITPACK_BLOCK]) {
    table[bits][PLUS1](in, 0, out);
}

void bitpack_unpack_gaps(const uint8_t *in, unsigned bits, uint32_t base, uint32_t out[BITPACK_BLOCK]) {
    table[bits][GAPS](in, base, out);
}
