/* Which instructions may be used. Kernels have a variant for plain C and some for more; which one runs is
 * decided at run time. Variants of a kernel whose result is part of an answer or a file give the same bits.
 */
#pragma once

enum simd_level {
    SIMD_PLAIN,
    SIMD_SSE42,  /* with POPCNT */
    SIMD_AVX2,   /* with FMA and BMI */
    SIMD_AVX512, /* F, BW, DQ, VL, and VBMI: what has that does not slow down for wide registers */
    SIMD_MOST = SIMD_AVX512
};
extern int simd_now; /* private */
/* The machine's, unless less was asked for. Any thread. */
static inline enum simd_level simd_level(void) {
    return (enum simd_level)__atomic_load_n(&simd_now, __ATOMIC_RELAXED);
}
/* Nothing above this from now on. Not to be called while a kernel runs. */
void simd_limit(enum simd_level most);
/* As LDBFS_SIMD gives it: plain, sse4.2, avx2 or avx512. False: none of these, nothing changed. */
_Bool simd_limit_name(const char *name);
