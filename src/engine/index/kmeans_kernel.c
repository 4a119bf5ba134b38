/* Rows against centroids: a matrix product in tiles of 12 rows and 16 centroids; AVX2 has registers for 6
 * rows. */
#include <math.h>

#include "index/kmeans.h"
#include "index/vector_math.h"
#include "util/buf.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { TILE_ROWS = CENTROID_TILE, PANEL = 16, BLOCK_ROWS = 48 };

typedef void tile_fn(const float *const rows[TILE_ROWS], const float *panel, uint32_t dimensions,
                     float out[TILE_ROWS][PANEL]);

static void tile_plain(const float *const rows[TILE_ROWS], const float *panel, uint32_t dimensions,
                       float out[TILE_ROWS][PANEL]) {
    memset(out, 0, sizeof(float) * TILE_ROWS * PANEL);
    for (uint32_t d = 0; d < dimensions; d++, panel += PANEL)
        for (unsigned r = 0; r < TILE_ROWS; r++)
            for (unsigned c = 0; c < PANEL; c++) out[r][c] += rows[r][d] * panel[c];
}

#ifdef __x86_64__
#define FMA(r)                                                                                               \
    x = _mm256_broadcast_ss(rows[r] + d);                                                                    \
    s##r = _mm256_fmadd_ps(x, a, s##r);                                                                      \
    t##r = _mm256_fmadd_ps(x, b, t##r)
#define STORE(r)                                                                                             \
    _mm256_storeu_ps(out[r], s##r);                                                                          \
    _mm256_storeu_ps(out[r] + 8, t##r)
__attribute__((target("avx2,fma"))) static void half_tile_avx2(const float *const rows[TILE_ROWS / 2],
                                                               const float *panel, uint32_t dimensions,
                                                               float out[TILE_ROWS / 2][PANEL]) {
    __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0;
    __m256 t0 = s0, t1 = s0, t2 = s0, t3 = s0, t4 = s0, t5 = s0;
    for (uint32_t d = 0; d < dimensions; d++, panel += PANEL) {
        __m256 a = _mm256_loadu_ps(panel), b = _mm256_loadu_ps(panel + 8), x;
        FMA(0);
        FMA(1);
        FMA(2);
        FMA(3);
        FMA(4);
        FMA(5);
    }
    STORE(0);
    STORE(1);
    STORE(2);
    STORE(3);
    STORE(4);
    STORE(5);
}

static void tile_avx2(const float *const rows[TILE_ROWS], const float *panel, uint32_t dimensions,
                      float out[TILE_ROWS][PANEL]) {
    half_tile_avx2(rows, panel, dimensions, out);
    half_tile_avx2(rows + TILE_ROWS / 2, panel, dimensions, out + TILE_ROWS / 2);
}

/* As many sums as hide the latency of their additions. */
__attribute__((target("avx512f"))) static void tile_avx512(const float *const rows[TILE_ROWS],
                                                           const float *panel, uint32_t dimensions,
                                                           float out[TILE_ROWS][PANEL]) {
    __m512 sums[TILE_ROWS];
#pragma GCC unroll 12
    for (unsigned r = 0; r < TILE_ROWS; r++) sums[r] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < dimensions; d++, panel += PANEL) {
        __m512 a = _mm512_loadu_ps(panel);
#pragma GCC unroll 12
        for (unsigned r = 0; r < TILE_ROWS; r++)
            sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(rows[r][d]), a, sums[r]);
    }
#pragma GCC unroll 12
    for (unsigned r = 0; r < TILE_ROWS; r++) _mm512_storeu_ps(out[r], sums[r]);
}
#endif

static tile_fn *tile_function(void) {
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX512) return tile_avx512;
    if (simd_level() >= SIMD_AVX2) return tile_avx2;
#endif
    return tile_plain;
}

void centroid_panels_init(struct centroid_panels *p, const float *centroids, uint32_t n,
                          uint32_t dimensions) {
    size_t n_panels = (n + PANEL - 1) / PANEL;
    *p = (struct centroid_panels){.dimensions = dimensions, .n = n};
    p->panels = xcalloc(n_panels * PANEL * dimensions, sizeof *p->panels);
    p->half_norms = xmalloc(n_panels * PANEL * sizeof *p->half_norms);
    for (size_t c = 0; c < n_panels * PANEL; c++) {
        double norm = 0;
        for (uint32_t d = 0; c < n && d < dimensions; d++) {
            float v = centroids[c * dimensions + d];
            p->panels[(c / PANEL * dimensions + d) * PANEL + c % PANEL] = v;
            norm += (double)v * v;
        }
        p->half_norms[c] = c < n ? (float)(norm / 2) : INFINITY;
    }
}

void centroid_panels_release(struct centroid_panels *p) {
    free(p->panels);
    free(p->half_norms);
    *p = (struct centroid_panels){0};
}

/* Rows behind the last one repeat it. */
static void take_rows(const float *rows, size_t n, uint32_t dimensions, const float *ret[TILE_ROWS]) {
    for (size_t r = 0; r < TILE_ROWS; r++) ret[r] = rows + MIN(r, n - 1) * dimensions;
}

typedef void better_fn(const float out[PANEL], const float *half_norms, uint32_t first, float *best,
                       uint32_t *nearest);

/* Is one of a panel's centroids nearer? Of equals the first. */
static void better(const float out[PANEL], const float *half_norms, uint32_t first, float *best,
                   uint32_t *nearest) {
    for (uint32_t c = 0; c < PANEL; c++) {
        float v = out[c] - half_norms[c];
        if (v <= *best) continue;
        *best = v;
        *nearest = first + c;
    }
}

#ifdef __x86_64__
/* Mostly none is. */
__attribute__((target("avx2"))) static void better_avx2(const float out[PANEL], const float *half_norms,
                                                        uint32_t first, float *best, uint32_t *nearest) {
    __m256 a = _mm256_sub_ps(_mm256_loadu_ps(out), _mm256_loadu_ps(half_norms));
    __m256 b = _mm256_sub_ps(_mm256_loadu_ps(out + 8), _mm256_loadu_ps(half_norms + 8));
    __m256 above = _mm256_cmp_ps(_mm256_max_ps(a, b), _mm256_set1_ps(*best), _CMP_GT_OQ);
    if (_mm256_movemask_ps(above)) better(out, half_norms, first, best, nearest);
}
#endif

static better_fn *better_function(void) {
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2) return better_avx2;
#endif
    return better;
}

void centroid_panels_nearest(const struct centroid_panels *p, const float *rows, size_t n,
                             uint32_t *ret_nearest, float *ret_distance) {
    tile_fn *tile = tile_function();
    better_fn *take_better = better_function();
    float out[TILE_ROWS][PANEL], best[BLOCK_ROWS];
    const float *pointers[TILE_ROWS];
    for (size_t block = 0; block < n; block += BLOCK_ROWS) {
        size_t end = MIN(n, block + BLOCK_ROWS);
        for (size_t i = 0; i < BLOCK_ROWS; i++) best[i] = -INFINITY;
        for (size_t i = block; i < end; i++) ret_nearest[i] = 0;
        for (uint32_t first = 0; first < p->n; first += PANEL) {
            for (size_t i = block; i < end; i += TILE_ROWS) {
                take_rows(rows + i * p->dimensions, end - i, p->dimensions, pointers);
                tile(pointers, p->panels + (size_t)first * p->dimensions, p->dimensions, out);
                for (size_t r = 0; r < TILE_ROWS && i + r < end; r++)
                    take_better(out[r], p->half_norms + first, first, &best[i + r - block],
                                &ret_nearest[i + r]);
            }
        }
        for (size_t i = block; ret_distance && i < end; i++) ret_distance[i] = -2 * best[i - block];
    }
}

void centroid_panels_products(const struct centroid_panels *p, const float *const *rows, size_t n,
                              float *products) {
    tile_fn *tile = tile_function();
    float out[TILE_ROWS][PANEL];
    const float *all[TILE_ROWS];
    uint32_t padded = (p->n + PANEL - 1) / PANEL * PANEL;
    for (size_t r = 0; r < TILE_ROWS; r++) all[r] = rows[MIN(r, n - 1)];
    for (uint32_t first = 0; first < p->n; first += PANEL) {
        tile(all, p->panels + (size_t)first * p->dimensions, p->dimensions, out);
        for (size_t r = 0; r < n; r++) memcpy(products + r * padded + first, out[r], sizeof out[r]);
    }
}
