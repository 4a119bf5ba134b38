/* The kernels of vector_math.h, by instruction set. */
#pragma once
#include "index/vector_math.h"

struct vector_kernels {
    vector_product *dot, *square;
    vector_rows_product *dot_rows, *square_rows;
};
enum { VECTOR_LANES = 32 };

#ifdef __x86_64__
extern const struct vector_kernels vector_kernels_avx512; /* SIMD_AVX512 */
#endif
