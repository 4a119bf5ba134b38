/* One-bit codes and their scan. */
#include "index/rabitq.h"

#include <math.h>

#include "index/vector_math.h"
#include "util/buf.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Sums of at most 256 table entries fit 16 bits. */
enum { GROUP = 4, PATTERNS = 16, CHUNK_GROUPS = 256, HALF = RABITQ_BLOCK / 2 };

typedef float float8 __attribute__((vector_size(32)));
typedef int32_t int8x __attribute__((vector_size(32)));

/* ---- writing ---- */

void rabitq_block_init(uint8_t *block, uint32_t dimensions) {
    struct rabitq_tail *tail = (struct rabitq_tail *)(block + rabitq_codes_size(dimensions));
    memset(block, 0, rabitq_block_size(dimensions));
    for (unsigned i = 0; i < RABITQ_BLOCK; i++) {
        tail->rows[i] = RABITQ_NO_ROW;
        tail->add[i] = INFINITY;
    }
}

/* Groups g and g + 1 stand side by side, 16 bytes each: byte i has the bits of place i and, above, of i + 16.
 */
static void put_bits(uint8_t *block, uint32_t dimensions, unsigned place, const float *residual) {
    uint8_t *at = block + place % HALF;
    for (uint32_t d = 0; d < dimensions; d += GROUP, at += HALF) {
        unsigned bits = 0;
        for (unsigned i = 0; i < GROUP; i++) bits |= (unsigned)(residual[d + i] > 0) << i;
        *at |= (uint8_t)(place < HALF ? bits : bits << 4);
    }
}

void rabitq_encode(uint8_t *block, uint32_t dimensions, unsigned place, uint32_t row, const float *residual,
                   const float *centroid, bool inner_product) {
    struct rabitq_tail *tail = (struct rabitq_tail *)(block + rabitq_codes_size(dimensions));
    double square = 0, sum = 0, with_centroid = 0, sign_centroid = 0;
    put_bits(block, dimensions, place, residual);
    for (uint32_t d = 0; d < dimensions; d++) {
        double r = residual[d], c = centroid[d];
        square += r * r;
        sum += fabs(r);
        with_centroid += r * c;
        sign_centroid += r > 0 ? c : -c;
    }
    double factor = sum > 0 ? 2 * square / sum : 0;
    double base = inner_product ? -2 * with_centroid : square;
    double a = sum > 0 ? sum * sum / (square * dimensions) : 1; /* squared */
    tail->rows[place] = row;
    tail->add[place] = (float)(base + factor * sign_centroid);
    tail->rescale[place] = (float)-factor;
    tail->error[place] = (float)(2 * sqrt(square * MAX(0.0, 1 - a) / a / (dimensions - 1)));
}

/* ---- a query's tables ---- */

static inline __attribute__((always_inline)) void make_tables(struct rabitq_query *query, const float *q) {
    const float8 p1 = {0, 1, 0, 1, 0, 1, 0, 1}, p2 = {0, 0, 1, 1, 0, 0, 1, 1}, p4 = {0, 0, 0, 0, 1, 1, 1, 1};
    float widest = 0, least_sum = 0, sum = 0;
    for (uint32_t d = 0; d < query->dimensions; d += GROUP) {
        float width = fabsf(q[d]) + fabsf(q[d + 1]) + fabsf(q[d + 2]) + fabsf(q[d + 3]);
        float total = q[d] + q[d + 1] + q[d + 2] + q[d + 3];
        widest = MAX(widest, width);
        least_sum += (total - width) / 2;
        sum += total;
    }
    float step = widest > 0 ? widest / 255 : 1, per_step = 1 / step;
    for (uint32_t d = 0; d < query->dimensions; d += GROUP) {
        float least = MIN(q[d], 0) + MIN(q[d + 1], 0) + MIN(q[d + 2], 0) + MIN(q[d + 3], 0);
        float8 low = p1 * q[d] + p2 * q[d + 1] + p4 * q[d + 2] - least, high = low + q[d + 3];
        int8x a = __builtin_convertvector(low * per_step + 0.5f, int8x);
        int8x b = __builtin_convertvector(high * per_step + 0.5f, int8x);
        uint8_t *table = query->tables + d / GROUP * PATTERNS;
        for (unsigned i = 0; i < 8; i++) table[i] = (uint8_t)MAX(0, MIN(a[i], 255));
        for (unsigned i = 0; i < 8; i++) table[8 + i] = (uint8_t)MAX(0, MIN(b[i], 255));
    }
    query->scale = 2 * step;
    query->offset = 2 * least_sum - sum;
}

static void make_tables_plain(struct rabitq_query *query, const float *q) {
    make_tables(query, q);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) static void make_tables_avx2(struct rabitq_query *query, const float *q) {
    make_tables(query, q);
}
#endif

void rabitq_query_init(struct rabitq_query *query, uint32_t dimensions, const float *q, uint8_t *tables) {
    *query = (struct rabitq_query){.dimensions = dimensions, .tables = tables};
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2) {
        make_tables_avx2(query, q);
        return;
    }
#endif
    make_tables_plain(query, q);
}

/* ---- scan ---- */

static uint32_t scan_plain(const struct rabitq_query *q, const uint8_t *block, float shift, float reach,
                           float most, struct rabitq_estimates *ret) {
    const struct rabitq_tail *tail = rabitq_block_tail(block, q->dimensions);
    uint32_t sums[RABITQ_BLOCK] = {0}, mask = 0;
    const uint8_t *table = q->tables;
    for (uint32_t d = 0; d < q->dimensions; d += GROUP, block += HALF, table += PATTERNS) {
        for (unsigned i = 0; i < HALF; i++) {
            sums[i] += table[block[i] & 15];
            sums[i + HALF] += table[block[i] >> 4];
        }
    }
    for (unsigned i = 0; i < RABITQ_BLOCK; i++) {
        float product = q->scale * (float)sums[i] + q->offset;
        ret->key[i] = tail->add[i] + shift + tail->rescale[i] * product;
        ret->low[i] = ret->key[i] - tail->error[i] * reach;
        mask |= (uint32_t)(ret->low[i] < most) << i;
    }
    return mask;
}

#ifdef __x86_64__
/* Sums of 16-bit lanes: `even` has also 256 times those of `odd` in it. */
__attribute__((target("avx2"))) static inline void add_sums(__m256i even, __m256i odd, __m256i sums[2]) {
    even = _mm256_sub_epi16(even, _mm256_slli_epi16(odd, 8));
    __m128i e = _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    __m128i o = _mm_add_epi16(_mm256_castsi256_si128(odd), _mm256_extracti128_si256(odd, 1));
    sums[0] = _mm256_add_epi32(sums[0], _mm256_cvtepu16_epi32(_mm_unpacklo_epi16(e, o)));
    sums[1] = _mm256_add_epi32(sums[1], _mm256_cvtepu16_epi32(_mm_unpackhi_epi16(e, o)));
}

/* n: groups, even, at most CHUNK_GROUPS. */
__attribute__((target("avx2"))) static inline void sum_groups(const uint8_t *codes, const uint8_t *tables,
                                                              uint32_t n, __m256i sums[4]) {
    const __m256i low_bits = _mm256_set1_epi8(15);
    __m256i even0 = _mm256_setzero_si256(), odd0 = even0, even1 = even0, odd1 = even0;
    for (uint32_t g = 0; g < n; g += 2) {
        __m256i code = _mm256_loadu_si256((const __m256i *)(codes + (size_t)g * HALF));
        __m256i table = _mm256_load_si256((const __m256i *)(tables + (size_t)g * PATTERNS));
        __m256i a = _mm256_shuffle_epi8(table, _mm256_and_si256(code, low_bits));
        __m256i b = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(code, 4), low_bits));
        even0 = _mm256_add_epi16(even0, a);
        odd0 = _mm256_add_epi16(odd0, _mm256_srli_epi16(a, 8));
        even1 = _mm256_add_epi16(even1, b);
        odd1 = _mm256_add_epi16(odd1, _mm256_srli_epi16(b, 8));
    }
    add_sums(even0, odd0, sums);
    add_sums(even1, odd1, sums + 2);
}

__attribute__((target("avx2"))) static uint32_t scan_avx2(const struct rabitq_query *q, const uint8_t *block,
                                                          float shift, float reach, float most,
                                                          struct rabitq_estimates *ret) {
    const struct rabitq_tail *tail = rabitq_block_tail(block, q->dimensions);
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                       _mm256_setzero_si256()};
    uint32_t mask = 0, groups = q->dimensions / GROUP;
    for (uint32_t g = 0; g < groups; g += CHUNK_GROUPS)
        sum_groups(block + (size_t)g * HALF, q->tables + (size_t)g * PATTERNS,
                   MIN(groups - g, (uint32_t)CHUNK_GROUPS), sums);
    for (unsigned i = 0; i < 4; i++) {
        __m256 product = _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(q->scale), _mm256_cvtepi32_ps(sums[i])),
                                       _mm256_set1_ps(q->offset));
        __m256 key = _mm256_add_ps(_mm256_add_ps(_mm256_loadu_ps(tail->add + 8 * i), _mm256_set1_ps(shift)),
                                   _mm256_mul_ps(_mm256_loadu_ps(tail->rescale + 8 * i), product));
        __m256 low =
            _mm256_sub_ps(key, _mm256_mul_ps(_mm256_loadu_ps(tail->error + 8 * i), _mm256_set1_ps(reach)));
        _mm256_store_ps(ret->key + 8 * i, key);
        _mm256_store_ps(ret->low + 8 * i, low);
        __m256 below = _mm256_cmp_ps(low, _mm256_set1_ps(most), _CMP_LT_OQ);
        mask |= (uint32_t)_mm256_movemask_ps(below) << (8 * i);
    }
    return mask;
}
#endif

rabitq_scan_fn *rabitq_scan_function(void) {
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2) return scan_avx2;
#endif
    return scan_plain;
}
