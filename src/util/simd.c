/* The level, found before main runs. */
#include "util/simd.h"

#include <stdbool.h>
#include <string.h>

int simd_now;

static enum simd_level detect(void) {
#ifdef __x86_64__
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt")) return SIMD_PLAIN;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi"))
        return SIMD_SSE42;
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512vbmi");
    return wide ? SIMD_AVX512 : SIMD_AVX2;
#else
    return SIMD_PLAIN;
#endif
}

void simd_limit(enum simd_level most) {
    enum simd_level have = detect();
    __atomic_store_n(&simd_now, (int)(have < most ? have : most), __ATOMIC_RELAXED);
}

__attribute__((constructor)) static void begin(void) {
    simd_limit(SIMD_MOST);
}

_Bool simd_limit_name(const char *name) {
    static const char *const names[] = {"plain", "sse4.2", "avx2", "avx512"};
    for (int i = 0; i <= SIMD_MOST; i++)
        if (strcmp(name, names[i]) == 0) {
            simd_limit((enum simd_level)i);
            return 1;
        }
    return 0;
}
