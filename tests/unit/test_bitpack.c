/* Bit packing: round trips at every width, and the layout against a bit-by-bit model. */
#include "index/bitpack.h"
#include "test.h"

static uint64_t seed = 42;
static uint32_t next_random(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static void fill(uint32_t *v, unsigned bits) {
    for (int i = 0; i < BITPACK_BLOCK; i++) v[i] = bits ? next_random() >> (32 - bits) : 0;
    if (bits) v[next_random() % BITPACK_BLOCK] = UINT32_MAX >> (32 - bits);
}

/* The documented layout, one bit at a time. */
static uint32_t model_get(const uint8_t *p, unsigned bits, unsigned i) {
    uint32_t v = 0;
    for (unsigned b = 0; b < bits; b++) {
        unsigned at = i / 4 * bits + b, word = at / 32, byte = word * 16 + i % 4 * 4 + at % 32 / 8;
        v |= (uint32_t)(p[byte] >> (at % 8) & 1) << b;
    }
    return v;
}

TEST(round_trip_and_layout) {
    uint32_t in[128] __attribute__((aligned(16))), out[128] __attribute__((aligned(16)));
    for (unsigned bits = 0; bits <= 32; bits++) {
        fill(in, bits);
        CHECK(bitpack_width(in, 128) == bits);
        /* exactly sized and unaligned: a tool sees any access beyond */
        uint8_t *packed = malloc(bitpack_size(bits) + 1);
        bitpack_pack(in, bits, packed + 1);
        bitpack_unpack(packed + 1, bits, out);
        CHECK(!memcmp(in, out, sizeof in));
        for (unsigned i = 0; i < 128; i++) CHECK(model_get(packed + 1, bits, i) == in[i]);
        bitpack_unpack_plus1(packed + 1, bits, out);
        for (unsigned i = 0; i < 128; i++) CHECK(out[i] == in[i] + 1);
        uint32_t base = next_random(), sum = base;
        bitpack_unpack_gaps(packed + 1, bits, base, out);
        for (unsigned i = 0; i < 128; i++) CHECK(out[i] == (sum += in[i] + 1));
        free(packed);
    }
}

TEST(width) {
    uint32_t v[3] = {0, 0, 0};
    CHECK(bitpack_width(v, 3) == 0);
    v[2] = 1;
    CHECK(bitpack_width(v, 3) == 1 && bitpack_width(v, 2) == 0);
    v[0] = 0x80000000u;
    CHECK(bitpack_width(v, 3) == 32);
    CHECK(bitpack_width(v, 0) == 0);
}
