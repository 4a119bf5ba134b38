/* Searching clusters: lists by their centroids, codes, then exact similarities. */
#include <math.h>

#include "index/cluster_internal.h"
#include "index/fetch.h"
#include "index/index.h"
#include "index/segment_want.h"
#include "util/heap.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif

/* Rows asked for ahead: about AHEAD_BYTES. */
enum { AHEAD_BYTES = 8192, MAX_AHEAD = 16, MIN_AHEAD = 3, BLOCKS_PER_POLL = 256, WAVE_LISTS = 64, WIDTH = 8 };
enum { CUT_PLACE = 16, CUT_SAMPLE = 256, AHEAD_HITS = 64 };

/* ---- centroids ---- */

/* Products of the query's bytes with each centroid's: at most 127 * 127 * 2 in a pair fits 16 bits. */
static void products_plain(const uint8_t *centroids, uint32_t n, uint32_t padded, const int8_t *q,
                           int32_t *ret) {
    for (uint32_t c = 0; c < n; c++, centroids += padded) {
        int32_t sum = 0;
        for (uint32_t d = 0; d < padded; d++) sum += centroids[d] * q[d];
        ret[c] = sum;
    }
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static inline int32_t sum_lanes(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* Of 32 bytes, in eight lanes. */
__attribute__((target("avx2"))) static inline __m256i product32(const uint8_t *centroid, __m256i q) {
    __m256i a = _mm256_loadu_si256((const __m256i *)centroid);
    return _mm256_madd_epi16(_mm256_maddubs_epi16(a, q), _mm256_set1_epi16(1));
}

__attribute__((target("avx2"))) static void products_avx2(const uint8_t *centroids, uint32_t n,
                                                          uint32_t padded, const int8_t *q, int32_t *ret) {
    uint32_t c = 0;
    for (; c + 4 <= n;
         c += 4, centroids += 4 * (size_t)padded) { /* side by side: more of them on their way */
        __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
        for (uint32_t d = 0; d < padded; d += 32) {
            __m256i b = _mm256_load_si256((const __m256i *)(q + d));
            s0 = _mm256_add_epi32(s0, product32(centroids + d, b));
            s1 = _mm256_add_epi32(s1, product32(centroids + padded + d, b));
            s2 = _mm256_add_epi32(s2, product32(centroids + 2 * (size_t)padded + d, b));
            s3 = _mm256_add_epi32(s3, product32(centroids + 3 * (size_t)padded + d, b));
        }
        s0 = _mm256_hadd_epi32(_mm256_hadd_epi32(s0, s1), _mm256_hadd_epi32(s2, s3));
        _mm_storeu_si128((__m128i *)(ret + c),
                         _mm_add_epi32(_mm256_castsi256_si128(s0), _mm256_extracti128_si256(s0, 1)));
    }
    for (; c < n; c++, centroids += padded) {
        __m256i sum = _mm256_setzero_si256();
        for (uint32_t d = 0; d < padded; d += 32)
            sum =
                _mm256_add_epi32(sum, product32(centroids + d, _mm256_load_si256((const __m256i *)(q + d))));
        ret[c] = sum_lanes(sum);
    }
}
#endif

static void centroid_products(const struct clusters *c, const int8_t *q, int32_t *ret) {
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2) {
        products_avx2(c->centroids, c->n_lists, c->rotation.padded, q, ret);
        return;
    }
#endif
    products_plain(c->centroids, c->n_lists, c->rotation.padded, q, ret);
}

/* ---- one search ---- */

typedef float float8 __attribute__((vector_size(32)));
typedef float8 loose_float8 __attribute__((aligned(4)));
typedef int32_t int8x __attribute__((vector_size(32)));
typedef int8x loose_int8x __attribute__((aligned(4)));

struct candidate {
    float low;
    uint32_t row;
};
struct running {
    struct cluster_search *s;
    const struct clusters *c;
    struct rabitq_query tables;
    float *q;        /* rotated, relative to the mean unless keys are inner products */
    float norm;      /* of q */
    float offset;    /* exact keys are this much above those of the clusters' space */
    uint64_t *lists; /* a heap: (key of the centroid, list), least first */
    uint32_t n_lists;
    float *keys, cut; /* of all lists; the heap has those up to the cut first */
    float *highs;     /* the `bound` least upper bounds, a heap, greatest first */
    uint32_t n_highs;
    uint32_t bound; /* k, but at least CLUSTER_LEAST_K: what the settings are measured for */
    float most;     /* above it no key can be among the best */
    struct candidate *candidates, *heap; /* heap: those being taken, n of them by then */
    size_t n, cap;
    struct cluster_hit *hits; /* a heap, worst first */
    uint32_t n_hits;
    float worst_key; /* of the hits, once there are k */
};

static uint64_t order_of(float key, uint32_t low) {
    uint32_t bits;
    key += 0.0f;
    memcpy(&bits, &key, sizeof bits);
    return (uint64_t)(bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u)) << 32 | low;
}

static float key_of(uint64_t order) {
    uint32_t bits = (uint32_t)(order >> 32);
    float key;
    bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
    memcpy(&key, &bits, sizeof key);
    return key;
}

/* The query in the clusters' space. */
static void turn_query(struct running *run) {
    const struct clusters *c = run->c;
    const struct vector_query *query = run->s->query;
    vector_product *dot = vector_dot_function();
    uint32_t padded = c->rotation.padded;
    rotation_apply(&c->rotation, query->vector, run->q);
    float scale = c->normalised && query->norm > 0 ? 1 / query->norm : 1;
    float8 *q = (float8 *)run->q;
    const loose_float8 *mean = (const loose_float8 *)c->mean;
    for (uint32_t i = 0; i < padded / WIDTH; i++) q[i] = c->inner_product ? q[i] : q[i] * scale - mean[i];
    run->norm = sqrtf(dot(run->q, run->q, padded));
    run->offset = c->inner_product ? -2 * dot(run->q, c->mean, padded) : 0;
}

/* The query in bytes; returns what one of their units is, and their sum. */
static float query_bytes(const struct running *run, int8_t *bytes, int32_t *ret_sum) {
    const float8 *q = (const float8 *)run->q;
    uint32_t n = run->c->rotation.padded / WIDTH;
    float8 largest = {0};
    int8x sum = {0};
    float most = 0;
    for (uint32_t i = 0; i < n; i++) {
        float8 size = (float8)((int8x)q[i] & INT32_MAX);
        int8x more = size > largest;
        largest = (float8)(((int8x)size & more) | ((int8x)largest & ~more));
    }
    for (unsigned i = 0; i < WIDTH; i++) most = MAX(most, largest[i]);
    float step = most > 0 ? most / 127 : 1, per_step = 1 / step;
    for (uint32_t i = 0; i < n; i++) {
        const float8 half = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
        float8 signed_half = (float8)((int8x)half | ((int8x)q[i] & INT32_MIN));
        int8x v = __builtin_convertvector(q[i] * per_step + signed_half, int8x);
        for (unsigned k = 0; k < WIDTH; k++) bytes[i * WIDTH + k] = (int8_t)v[k];
        sum += v;
    }
    *ret_sum = 0;
    for (unsigned i = 0; i < WIDTH; i++) *ret_sum += sum[i];
    return step;
}

/* Lists from `from` on whose key is up to the cut (or, `above`, those above it) into ret; returns their
 * number. */
static uint32_t lists_by_cut(const struct running *run, uint32_t from, bool above, uint64_t *ret) {
    uint32_t found = 0;
    for (uint32_t i = from; i < run->c->n_lists; i++)
        if ((run->keys[i] > run->cut) == above) ret[found++] = order_of(run->keys[i], i);
    return found;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static uint32_t lists_up_to_cut_avx2(const struct running *run,
                                                                     uint64_t *ret) {
    const __m256 cut = _mm256_set1_ps(run->cut);
    uint32_t found = 0, i = 0;
    for (; i + WIDTH <= run->c->n_lists; i += WIDTH) {
        __m256 above = _mm256_cmp_ps(_mm256_loadu_ps(run->keys + i), cut, _CMP_GT_OQ);
        for (uint32_t mask = (uint32_t)_mm256_movemask_ps(above) ^ 0xff; mask; mask &= mask - 1) {
            uint32_t list = i + (uint32_t)__builtin_ctz(mask);
            ret[found++] = order_of(run->keys[list], list);
        }
    }
    return found + lists_by_cut(run, i, false, ret + found);
}
#endif

/* Lists whose key is up to the cut (or, the second time, above it) into the heap. */
static void heap_lists(struct running *run, bool above) {
#ifdef __x86_64__
    if (!above && simd_level() >= SIMD_AVX2)
        run->n_lists = lists_up_to_cut_avx2(run, run->lists);
    else
#endif
        run->n_lists = lists_by_cut(run, 0, above, run->lists);
    for (uint32_t i = run->n_lists / 2; i-- > 0;) heap_sift_down(run->lists, run->n_lists, i);
}

/* A cut below which about a sixteenth of the lists are, from a sample of the keys. More are rarely needed. */
static float pick_cut(const float *keys, uint32_t n) {
    float least[CUT_PLACE];
    uint32_t held = 0;
    if (n < CUT_SAMPLE) return INFINITY;
    for (uint32_t i = 0; i < n; i += n / CUT_SAMPLE) {
        if (held == CUT_PLACE && keys[i] >= least[held - 1]) continue;
        uint32_t at = held < CUT_PLACE ? held++ : held - 1;
        for (; at && least[at - 1] > keys[i]; at--) least[at] = least[at - 1];
        least[at] = keys[i];
    }
    return least[CUT_PLACE - 1];
}

/* Keys of all lists; the same bits in both variants, as nothing is fused. */
static inline __attribute__((always_inline)) void keys_of(const struct clusters *c, const int32_t *products,
                                                          float step, int32_t zero, float square,
                                                          float *keys) {
    const float *scales = c->scales, *norms = c->norms;
    uint32_t i = 0;
    for (; i + WIDTH <= c->n_lists; i += WIDTH) {
        float8 x = __builtin_convertvector(*(const loose_int8x *)(products + i) - zero, float8);
        x = *(const loose_float8 *)(scales + i) * step * x;
        float8 square_key = square + *(const loose_float8 *)(norms + i) - 2 * x;
        int8x positive = square_key > 0;
        *(loose_float8 *)(keys + i) = c->inner_product ? -2 * x : (float8)((int8x)square_key & positive);
    }
    for (; i < c->n_lists; i++) {
        float x = scales[i] * step * (float)(products[i] - zero);
        keys[i] = c->inner_product ? -2 * x : MAX(0.0f, square + norms[i] - 2 * x);
    }
}

static void keys_plain(const struct clusters *c, const int32_t *products, float step, int32_t zero,
                       float square, float *keys) {
    keys_of(c, products, step, zero, square, keys);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) static void keys_avx2(const struct clusters *c, const int32_t *products,
                                                      float step, int32_t zero, float square, float *keys) {
    keys_of(c, products, step, zero, square, keys);
}
#endif

/* Ranks the lists. Their keys are those of their centroids, from the query in bytes. */
static void rank_lists(struct running *run, int8_t *bytes, int32_t *products) {
    const struct clusters *c = run->c;
    int32_t sum;
    float step = query_bytes(run, bytes, &sum), square = run->norm * run->norm;
    centroid_products(c, bytes, products);
#ifdef __x86_64__
    if (simd_level() >= SIMD_AVX2)
        keys_avx2(c, products, step, CENTROID_ZERO * sum, square, run->keys);
    else
#endif
        keys_plain(c, products, step, CENTROID_ZERO * sum, square, run->keys);
    run->cut = pick_cut(run->keys, c->n_lists);
    heap_lists(run, false);
}

/* ---- codes ---- */

static void highs_add(struct running *run, float high) {
    uint32_t k = run->bound, i;
    float *heap = run->highs;
    if (run->n_highs < k) {
        for (i = run->n_highs++; i && heap[(i - 1) / 2] < high; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
        heap[i] = high;
    } else if (high < heap[0]) {
        i = 0;
        for (uint32_t child; (child = 2 * i + 1) < k; i = child) {
            if (child + 1 < k && heap[child + 1] > heap[child]) child++;
            if (heap[child] <= high) break;
            heap[i] = heap[child];
        }
        heap[i] = high;
    }
    if (run->n_highs == k) run->most = heap[0];
}

static bool is_allowed(const struct cluster_search *s, uint32_t row) {
    if (!s->dead && !s->filter) return true;
    uint32_t doc = s->vectors->docs[row];
    return !deletes_has(s->dead, doc) && (!s->filter || deletes_has(s->filter, doc));
}

static void take_candidates(struct running *run, const struct rabitq_tail *tail, uint32_t mask,
                            const struct rabitq_estimates *e) {
    const struct cluster_search *s = run->s;
    for (; mask; mask &= mask - 1) {
        unsigned i = (unsigned)__builtin_ctz(mask);
        uint32_t row = tail->rows[i];
        if (row >= run->c->n_rows || row == s->skip_row || !(e->low[i] <= run->most)) continue;
        if (!is_allowed(s, row)) continue;
        VEC_GROW(run->candidates, run->n, run->cap);
        run->candidates[run->n++] = (struct candidate){e->low[i], row};
        highs_add(run, 2 * e->key[i] - e->low[i]);
    }
}

static int scan_list(struct running *run, uint32_t list, float key, rabitq_scan_fn *scan, struct err *err) {
    const struct clusters *c = run->c;
    struct rabitq_estimates e;
    size_t size = rabitq_block_size(c->rotation.padded);
    uint32_t from = c->first_block[list], to = c->first_block[list + 1];
    const uint8_t *block = c->blocks + from * size;
    if (c->blob && from < to) {
        int r = blob_need(c->blob, c->blocks_off + from * size, (to - from) * size, &block, err);
        if (r) return r;
    }
    float square = c->inner_product ? run->norm * run->norm + key + c->norms[list] : key;
    float reach = run->s->reach * sqrtf(MAX(square, 0.0f));
    for (uint32_t b = from; b < to; b++, block += size) {
        uint32_t mask = scan(&run->tables, block, key, reach, run->most, &e);
        if (mask) take_candidates(run, rabitq_block_tail(block, c->rotation.padded), mask, &e);
    }
    run->s->n_scanned += (uint64_t)(to - from) * RABITQ_BLOCK;
    return 0;
}

/* A list is worth a scan while the bisector between its centroid and the nearest one is less than `width`
 * from the query, in units of the k-th distance: (d^2 - d_1^2) / 2 |c - c_1|, with the spread for the
 * distance of centroids. For inner products, while a row of usual length behind the centroid could be that
 * good. */
static bool is_worth(const struct running *run, float key, float first) {
    if (run->n_highs < run->bound || run->s->width >= CLUSTER_ALL_LISTS) return true;
    if (run->c->inner_product) return key - 2 * run->s->width * run->norm * run->c->spread <= run->most;
    return key - first <= run->s->width * sqrtf(MAX(run->most, 0.0f)) * run->c->spread;
}

/* Of a remote object: the lists that will be scanned in any case, as one wave. The order of the heap will do.
 */
static int want_lists(const struct running *run, struct err *err) {
    const struct clusters *c = run->c;
    struct fetch own = FETCH_INIT, *recorder = fetch_recorder(), *f = recorder ? recorder : &own;
    size_t size = rabitq_block_size(c->rotation.padded);
    bool missing = false;
    if (!c->blob || !blob_is_remote(c->blob)) return 0;
    for (uint32_t i = 0; i < MIN(run->n_lists, (uint32_t)WAVE_LISTS); i++) {
        uint32_t list = (uint32_t)run->lists[i], from = c->first_block[list], to = c->first_block[list + 1];
        missing |= fetch_want(f, c->blob, c->blocks_off + from * size, (to - from) * size);
    }
    if (recorder) return missing ? err_set(err, ERR_AGAIN, "lists of vectors are not read yet") : 0;
    int r = fetch_run(&own, err);
    fetch_release(&own);
    return r;
}

static int lowest_first(const void *pa, const void *pb) {
    const struct candidate *a = pa, *b = pb;
    return (a->low > b->low) - (a->low < b->low);
}

/* Those that are most likely to be hits: what the answer needs of them comes with the rows. */
static void want_likely(const struct running *run, struct fetch *f) {
    const struct cluster_search *s = run->s;
    size_t n = 0;
    if (!s->ahead) return;
    struct candidate *likely = xmalloc((run->n + 1) * sizeof *likely);
    for (size_t i = 0; i < run->n; i++)
        if (run->candidates[i].low <= run->most) likely[n++] = run->candidates[i];
    qsort(likely, n, sizeof *likely, lowest_first);
    size_t more = s->ahead_documents ? 1 : 4; /* ids stand close to each other */
    n = MIN(n, more * MIN((size_t)s->k * 4, (size_t)AHEAD_HITS));
    for (size_t i = 0; i < n; i++)
        segment_want_hit(f, s->ahead, s->vectors->docs[likely[i].row], s->ahead_documents);
    free(likely);
}

/* The rows of the candidates likewise. A thread that records leaves it to who asked for that. */
static int want_rows(const struct running *run, struct err *err) {
    const struct vectors *v = run->s->vectors;
    struct fetch own = FETCH_INIT, *recorder = fetch_recorder(), *f = recorder ? recorder : &own;
    if (!run->c->blob || !blob_is_remote(run->c->blob)) return 0;
    uint64_t size = v->dimensions * sizeof(float);
    bool missing = false;
    for (size_t i = 0; i < run->n; i++)
        if (run->candidates[i].low <= run->most)
            missing |= fetch_want(f, v->blob, v->rows_off + run->candidates[i].row * size, size);
    if (missing) want_likely(run, f);
    if (recorder) return missing ? err_set(err, ERR_AGAIN, "vectors are not read yet") : 0;
    int r = fetch_run(&own, err);
    fetch_release(&own);
    return r;
}

static int scan_lists(struct running *run, struct err *err) {
    rabitq_scan_fn *scan = rabitq_scan_function();
    float first = key_of(run->lists[0]);
    uint64_t polled = 0;
    int r = want_lists(run, err);
    if (r) return r;
    while (run->n_lists) {
        float key = key_of(run->lists[0]);
        if (!is_worth(run, key, first)) break;
        r = scan_list(run, (uint32_t)run->lists[0], key, scan, err);
        if (r) return r;
        if (run->s->n_scanned - polled > BLOCKS_PER_POLL * RABITQ_BLOCK) {
            polled = run->s->n_scanned;
            if (merge_canceled(run->s->cancel)) return 0; /* the caller reports it */
        }
        run->lists[0] = run->lists[--run->n_lists];
        if (run->n_lists) {
            heap_sift_down(run->lists, run->n_lists, 0);
        } else if (run->cut < INFINITY) {
            heap_lists(run, true);
            run->cut = INFINITY;
        }
    }
    return 0;
}

/* ---- exact ---- */

static void candidates_sift(struct candidate *heap, size_t n, size_t i) {
    struct candidate v = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1].low < heap[child].low) child++;
        if (heap[child].low >= v.low) break;
        heap[i] = heap[child];
    }
    heap[i] = v;
}

static struct candidate candidates_pop(struct running *run) {
    struct candidate top = run->heap[0];
    run->heap[0] = run->heap[--run->n];
    if (run->n) candidates_sift(run->heap, run->n, 0);
    return top;
}

/* Those from `from` to `to` as the heap. */
static void heap_candidates(struct running *run, size_t from, size_t to) {
    run->heap = run->candidates + from;
    run->n = to - from;
    for (size_t i = run->n / 2; i-- > 0;) candidates_sift(run->heap, run->n, i);
}

/* Those up to `most` to the front; how many they are. The others came early and are rarely needed. */
static size_t near_first(struct running *run) {
    size_t near = 0;
    for (size_t i = 0; i < run->n; i++) {
        struct candidate c = run->candidates[i];
        if (!(c.low <= run->most)) continue;
        run->candidates[i] = run->candidates[near];
        run->candidates[near++] = c;
    }
    return near;
}

/* Is a worse than b? Of equal scores the greater row is. */
static bool is_worse(const struct cluster_hit *a, const struct cluster_hit *b) {
    return a->score != b->score ? a->score < b->score : a->row > b->row;
}

static void hits_sift(struct cluster_hit *heap, uint32_t n, uint32_t i) {
    struct cluster_hit v = heap[i];
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_worse(&heap[child + 1], &heap[child])) child++;
        if (!is_worse(&heap[child], &v)) break;
        heap[i] = heap[child];
    }
    heap[i] = v;
}

static void hits_add(struct running *run, struct cluster_hit hit) {
    struct cluster_hit *heap = run->hits;
    if (run->n_hits == run->s->k) {
        if (!is_worse(&heap[0], &hit)) return;
        heap[0] = hit;
        hits_sift(heap, run->n_hits, 0);
        return;
    }
    uint32_t i = run->n_hits++;
    for (; i && is_worse(&hit, &heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = hit;
}

/* The key whose score is that of the worst hit. */
static float key_of_score(const struct running *run, float score) {
    const struct clusters *c = run->c;
    float x;
    switch (run->s->query->similarity) {
    case SIMILARITY_EUCLIDEAN:
        return score > 0 ? 1 / score - 1 : INFINITY;
    case SIMILARITY_MAX_INNER_PRODUCT:
        x = score >= 1 ? score - 1 : score > 0 ? 1 - 1 / score : -INFINITY;
        break;
    default:
        x = 2 * score - 1;
    }
    return c->inner_product ? -2 * x - run->offset : 2 - 2 * x;
}

static const float *row_of(const struct cluster_search *s, uint32_t row) {
    return s->rows ? s->rows[row] : s->vectors->rows + (size_t)row * s->vectors->dimensions;
}

static int score_row(struct running *run, uint32_t row, struct err *err) {
    const struct vectors *v = run->s->vectors;
    if (run->c->blob) {
        int r = vectors_need(v, row, 1, err);
        if (r) return r;
    }
    float product = vector_query_product(run->s->query, row_of(run->s, row));
    float norm = run->c->normalised ? v->norms[row] : 0; /* its own cache line: only where it counts */
    hits_add(run, (struct cluster_hit){vector_query_score(run->s->query, product, norm), row});
    return 0;
}

/* Candidates by their lower bounds, until the next one cannot be among the best any more. Rows are asked for
 * some candidates ahead. */
static int rerank(struct running *run, struct err *err) {
    struct candidate ahead[MAX_AHEAD];
    uint32_t dimensions = run->s->query->dimensions;
    size_t taken = 0, done = 0, all = run->n, near, depth = AHEAD_BYTES / (dimensions * sizeof(float));
    depth = MAX((size_t)MIN_AHEAD, MIN((size_t)MAX_AHEAD, depth));
    int r = want_rows(run, err);
    if (r) return r;
    near = near_first(run);
    heap_candidates(run, 0, near);
    for (;;) {
        for (; taken < done + depth && run->n; taken++) {
            ahead[taken % MAX_AHEAD] = candidates_pop(run);
            vector_prefetch(row_of(run->s, ahead[taken % MAX_AHEAD].row), dimensions);
        }
        if (done == taken && near == all) return 0;
        if (done == taken) {
            heap_candidates(run, near, all);
            near = all;
            continue;
        }
        const struct candidate *next = &ahead[done++ % MAX_AHEAD];
        if (run->n_hits == run->s->k && next->low > key_of_score(run, run->hits[0].score)) return 0;
        r = score_row(run, next->row, err);
        if (r) return r;
        run->s->n_reranked++;
    }
}

/* The query turned, the lists ranked. Returns memory to free. */
static uint8_t *running_begin(struct running *run) {
    run->bound = MAX(run->s->k, (uint32_t)CLUSTER_LEAST_K);
    uint32_t padded = run->c->rotation.padded;
    size_t at_q = 4 * (size_t)padded, at_bytes = at_q + padded * sizeof(float), at_lists = at_bytes + padded;
    size_t at_products = at_lists + run->c->n_lists * sizeof *run->lists;
    size_t at_keys = at_products + run->c->n_lists * sizeof(int32_t);
    size_t at_highs = at_keys + run->c->n_lists * sizeof *run->keys;
    uint8_t *memory = aligned_alloc(32, (at_highs + run->bound * sizeof *run->highs + 31) / 32 * 32);
    if (!memory) abort();
    run->q = (float *)(memory + at_q);
    run->lists = (uint64_t *)(memory + at_lists);
    run->keys = (float *)(memory + at_keys);
    run->highs = (float *)(memory + at_highs);
    turn_query(run);
    rank_lists(run, (int8_t *)(memory + at_bytes), (int32_t *)(memory + at_products));
    rabitq_query_init(&run->tables, padded, run->q, memory);
    return memory;
}

void cluster_search_want(const struct clusters *c, const struct vector_query *query, uint32_t k,
                         struct fetch *f) {
    struct cluster_search search = {.clusters = c, .query = query, .k = k};
    struct running run = {.s = &search, .c = c};
    uint8_t *memory = running_begin(&run);
    struct fetch *before = fetch_record(f);
    (void)want_lists(&run, NULL);
    fetch_record(before);
    free(memory);
}

int cluster_search_run(struct cluster_search *s, struct cluster_hit *ret, uint32_t *ret_n, struct err *err) {
    struct running run = {.s = s, .c = s->clusters, .most = INFINITY, .hits = ret};
    uint8_t *memory = running_begin(&run);
    int r = scan_lists(&run, err);
    if (!r) r = rerank(&run, err);
    for (uint32_t n = run.n_hits; !r && n > 1; n--) { /* best first */
        struct cluster_hit worst = ret[0];
        ret[0] = ret[n - 1];
        hits_sift(ret, n - 1, 0);
        ret[n - 1] = worst;
    }
    *ret_n = run.n_hits;
    free(run.candidates);
    free(memory);
    return r;
}
