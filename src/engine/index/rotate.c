/* Random signs and Hadamard transforms. */
#include "index/rotate.h"

#include <math.h>

#include "index/vector_math.h"
#include "util/codec.h"

enum { ROUNDS = 4, GRAIN = 32 };

typedef float float8 __attribute__((vector_size(32)));
typedef uint32_t bits8 __attribute__((vector_size(32)));
typedef bits8 loose_bits8 __attribute__((aligned(4)));

uint32_t rotation_padded(uint32_t dimensions) {
    return (dimensions + GRAIN - 1) / GRAIN * GRAIN;
}

void rotation_init(struct rotation *r, uint32_t dimensions, uint64_t seed) {
    *r = (struct rotation){.dimensions = dimensions, .padded = rotation_padded(dimensions), .seed = seed};
    size_t n = (size_t)ROUNDS * r->padded;
    for (r->power = GRAIN; r->power * 2 <= r->padded; r->power *= 2) continue;
    r->signs = xmalloc(n * sizeof *r->signs);
    for (size_t i = 0; i < n; i++) {
        uint32_t word = (uint32_t)i;
        r->signs[i] = (uint32_t)(hash64(&word, sizeof word, seed) >> 32) & 0x80000000u;
    }
}

void rotation_release(struct rotation *r) {
    free(r->signs);
    r->signs = NULL;
}

/* The first three levels, within a register. */
static inline __attribute__((always_inline)) void hadamard8(float8 *at, float scale) {
    const float8 s1 = {1, -1, 1, -1, 1, -1, 1, -1}, s2 = {1, 1, -1, -1, 1, 1, -1, -1};
    const float8 s4 = {1, 1, 1, 1, -1, -1, -1, -1};
    float8 x = *at;
    x = __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6) + x * s1;
    x = __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5) + x * s2;
    x = __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3) + x * s4;
    *at = x * scale;
}

/* In units of eight floats. */
static inline __attribute__((always_inline)) void hadamard(float8 *x, uint32_t n, float scale) {
    for (uint32_t i = 0; i < n; i++) hadamard8(&x[i], scale);
    for (uint32_t half = 1; half < n; half *= 2) {
        for (uint32_t i = 0; i < n; i += 2 * half) {
            for (uint32_t k = i; k < i + half; k++) {
                float8 a = x[k], b = x[k + half];
                x[k] = a + b;
                x[k + half] = a - b;
            }
        }
    }
}

static inline __attribute__((always_inline)) void rotate(const struct rotation *r, float *out) {
    uint32_t n = r->padded / 8, power = r->power / 8;
    float8 *x = (float8 *)out;
    const loose_bits8 *signs = (const loose_bits8 *)r->signs;
    float scale = 1 / sqrtf((float)r->power), half_scale = sqrtf(0.5f);
    for (unsigned round = 0; round < ROUNDS; round++, signs += n) {
        for (uint32_t i = 0; i < n; i++) x[i] = (float8)((bits8)x[i] ^ signs[i]);
        hadamard(round % 2 ? x + n - power : x, power, scale);
        for (uint32_t i = 0, k = n - n / 2; power < n && i < n / 2; i++, k++) {
            float8 a = x[i] * half_scale, b = x[k] * half_scale;
            x[i] = a + b;
            x[k] = a - b;
        }
    }
}

static void rotate_plain(const struct rotation *r, float *out) {
    rotate(r, out);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) static void rotate_avx2(const struct rotation *r, float *out) {
    rotate(r, out);
}
#endif

void rotation_apply(const struct rotation *r, const float *v, float *out) {
    memcpy(out, v, r->dimensions * sizeof *out);
    memset(out + r->dimensions, 0, (r->padded - r->dimensions) * sizeof *out);
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2) {
        rotate_avx2(r, out);
        return;
    }
#endif
    rotate_plain(r, out);
}
