/* Making clusters: training, assignment, codes. */
#include <math.h>
#include <stdatomic.h>

#include "index/cluster_internal.h"
#include "index/index.h"
#include "index/kmeans.h"
#include "index/parallel.h"

/* THRESHOLD: below, an exact scan takes about as long. SAMPLE: rows a cluster is trained with. */
enum { THRESHOLD = 10000, SAMPLE_PER_LIST = 64, ROWS_PER_ITEM = 384, MIN_LISTS = 4, MAX_LISTS = 65536 };
#define ROTATION_SEED 0x6c64626673766563ull
#define TRAIN_SEED    0x636c757374657273ull

static atomic_uint threshold;

bool clusters_wanted(uint32_t n_rows, bool in_memory) {
    uint32_t n = atomic_load_explicit(&threshold, memory_order_relaxed);
    return n ? n_rows >= n : !in_memory && n_rows >= THRESHOLD;
}

void clusters_set_threshold(uint32_t n_rows) {
    atomic_store(&threshold, n_rows);
}

/* The arrays of clusters in memory, as one allocation each. */
struct making {
    const struct cluster_source *source;
    struct clusters *c;
    uint32_t padded;
    float *mean;
    struct centroid_panels panels;
    float *centroids; /* as they are stored: scale * (byte - zero) */
    uint32_t *lists;  /* of each row */
    uint32_t *order;  /* rows by list */
    uint32_t *starts; /* n_lists + 1 */
    double *squares;  /* by item: sum of squared distances to the centroids */
    float *distances; /* of each row: squared distance to its centroid */
    uint8_t *blocks;
};

/* A row in the clusters' space. out: padded floats. */
static void turn_row(const struct making *m, uint32_t row, float *out) {
    const struct cluster_source *s = m->source;
    rotation_apply(&m->c->rotation, s->rows[row], out);
    float scale = m->c->normalised && s->norms[row] > 0 ? 1 / s->norms[row] : 1;
    for (uint32_t d = 0; d < m->padded; d++) out[d] = out[d] * scale - m->mean[d];
}

static float *floats(size_t n) {
    float *p = aligned_alloc(32, (n * sizeof *p + 31) / 32 * 32);
    if (!p) abort();
    return p;
}

/* ---- training ---- */

/* The number of lists: for n rows 2 to 4 sqrt(n), more where centroids are cheap to compare. */
static uint32_t list_count(uint32_t n, uint32_t padded) {
    double factor = padded <= 256 ? 4 : padded <= 512 ? 3 : 2;
    return (uint32_t)MAX((double)MIN_LISTS, MIN((double)MAX_LISTS, factor * sqrt((double)n)));
}

struct sampling {
    struct making *m;
    float *rows;
    size_t n;
};

static void sample_item(void *ctx, size_t item) {
    struct sampling *s = ctx;
    size_t end = MIN(s->n, (item + 1) * ROWS_PER_ITEM);
    for (size_t i = item * ROWS_PER_ITEM; i < end; i++)
        turn_row(s->m, (uint32_t)(i * s->m->source->n / s->n), s->rows + i * s->m->padded);
}

/* The mean of the sample, which is then taken off it. */
static void center(struct making *m, float *rows, size_t n) {
    double *sums = xcalloc(m->padded, sizeof *sums);
    for (size_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < m->padded; d++) sums[d] += rows[i * m->padded + d];
    for (uint32_t d = 0; d < m->padded; d++) m->mean[d] = (float)(sums[d] / (double)n);
    for (size_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < m->padded; d++) rows[i * m->padded + d] -= m->mean[d];
    free(sums);
}

/* Centroids in 7 bits. From here on they are what their bytes say. */
static void quantise(struct making *m, const float *centroids) {
    struct clusters *c = m->c;
    uint8_t *bytes = xmalloc((size_t)c->n_lists * m->padded);
    float *scales = xmalloc(c->n_lists * sizeof *scales), *norms = xmalloc(c->n_lists * sizeof *norms);
    m->centroids = floats((size_t)c->n_lists * m->padded);
    for (uint32_t i = 0; i < c->n_lists; i++) {
        const float *from = centroids + (size_t)i * m->padded;
        float most = 0, *to = m->centroids + (size_t)i * m->padded;
        for (uint32_t d = 0; d < m->padded; d++) most = MAX(most, fabsf(from[d]));
        scales[i] = most / CENTROID_MOST;
        for (uint32_t d = 0; d < m->padded; d++) {
            long step = scales[i] > 0 ? lrintf(from[d] / scales[i]) : 0;
            bytes[(size_t)i * m->padded + d] = (uint8_t)(step + CENTROID_ZERO);
        }
        norms[i] = cluster_centroid(bytes + (size_t)i * m->padded, scales[i], m->padded, to);
    }
    c->centroids = bytes;
    c->scales = scales;
    c->norms = norms;
}

static void train(struct making *m) {
    struct cluster_source const *s = m->source;
    uint32_t wanted = list_count(s->n, m->padded);
    struct sampling sampling = {.m = m, .n = MIN((size_t)s->n, (size_t)wanted * SAMPLE_PER_LIST)};
    struct kmeans k;
    sampling.rows = floats(sampling.n * m->padded);
    parallel_for((sampling.n + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM, sample_item, &sampling);
    center(m, sampling.rows, sampling.n);
    kmeans_train(sampling.rows, sampling.n, m->padded, wanted, TRAIN_SEED, &k);
    free(sampling.rows);
    m->c->n_lists = k.n_centroids;
    quantise(m, k.centroids);
    kmeans_release(&k);
}

/* ---- assignment and codes ---- */

static void assign_item(void *ctx, size_t item) {
    struct making *m = ctx;
    size_t from = item * ROWS_PER_ITEM, n = MIN(m->source->n - from, (size_t)ROWS_PER_ITEM);
    if (merge_canceled(m->source->cancel)) return;
    float *rows = floats(n * m->padded), *distances = m->distances + from;
    for (size_t i = 0; i < n; i++) turn_row(m, (uint32_t)(from + i), rows + i * m->padded);
    centroid_panels_nearest(&m->panels, rows, n, m->lists + from, distances);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double square = 0;
        for (uint32_t d = 0; d < m->padded; d++)
            square += (double)rows[i * m->padded + d] * rows[i * m->padded + d];
        sum += MAX(0.0, square + distances[i]);
    }
    m->squares[item] = sum;
    free(rows);
}

/* Rows by list, ascending within one, and where the blocks of each list start. */
static void sort_rows(struct making *m) {
    struct clusters *c = m->c;
    uint32_t *first_block = xcalloc((size_t)c->n_lists + 1, sizeof *first_block);
    m->starts = xcalloc((size_t)c->n_lists + 2, sizeof *m->starts);
    m->order = xmalloc((size_t)m->source->n * sizeof *m->order);
    for (uint32_t i = 0; i < m->source->n; i++) m->starts[m->lists[i] + 2]++;
    for (uint32_t l = 0; l < c->n_lists; l++) {
        first_block[l + 1] = first_block[l] + (m->starts[l + 2] + RABITQ_BLOCK - 1) / RABITQ_BLOCK;
        m->starts[l + 2] += m->starts[l + 1];
    }
    for (uint32_t i = 0; i < m->source->n; i++) m->order[m->starts[m->lists[i] + 1]++] = i;
    c->first_block = first_block;
    c->n_blocks = first_block[c->n_lists];
}

static void code_item(void *ctx, size_t list) {
    struct making *m = ctx;
    const float *centroid = m->centroids + list * m->padded;
    float *residual = floats(m->padded);
    uint32_t from = m->starts[list], to = m->starts[list + 1];
    size_t size = rabitq_block_size(m->padded);
    uint8_t *block = m->blocks + m->c->first_block[list] * size;
    for (uint32_t i = from; i < to && !merge_canceled(m->source->cancel); i++) {
        unsigned place = (i - from) % RABITQ_BLOCK;
        if (place == 0 && i > from) block += size;
        if (place == 0) rabitq_block_init(block, m->padded);
        turn_row(m, m->order[i], residual);
        for (uint32_t d = 0; d < m->padded; d++) residual[d] -= centroid[d];
        rabitq_encode(block, m->padded, place, m->order[i], residual, centroid, m->c->inner_product);
    }
    free(residual);
}

static void assign_and_code(struct making *m) {
    struct clusters *c = m->c;
    uint32_t n = m->source->n;
    size_t items = ((size_t)n + ROWS_PER_ITEM - 1) / ROWS_PER_ITEM;
    double square = 0;
    m->lists = xcalloc(n, sizeof *m->lists);
    m->distances = xmalloc((size_t)n * sizeof *m->distances);
    m->squares = xcalloc(items, sizeof *m->squares);
    centroid_panels_init(&m->panels, m->centroids, c->n_lists, m->padded);
    parallel_for(items, assign_item, m);
    for (size_t i = 0; i < items; i++) square += m->squares[i];
    c->spread = (float)sqrt(square / n);
    sort_rows(m);
    size_t bytes = c->n_blocks * rabitq_block_size(m->padded);
    m->blocks = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!m->blocks) abort();
    c->blocks = m->blocks;
    parallel_for(c->n_lists, code_item, m);
}

static void making_release(struct making *m) {
    centroid_panels_release(&m->panels);
    free(m->centroids);
    free(m->lists);
    free(m->order);
    free(m->starts);
    free(m->squares);
    free(m->distances);
}

int clusters_make(const struct cluster_source *s, struct clusters *ret, struct err *err) {
    struct making m = {.source = s, .c = ret, .padded = rotation_padded(s->dimensions)};
    bool inner = s->similarity == SIMILARITY_DOT_PRODUCT || s->similarity == SIMILARITY_MAX_INNER_PRODUCT;
    *ret = (struct clusters){
        .n_rows = s->n, .inner_product = inner, .normalised = s->similarity == SIMILARITY_COSINE};
    rotation_init(&ret->rotation, s->dimensions, ROTATION_SEED);
    m.mean = xcalloc(m.padded, sizeof *m.mean);
    ret->mean = m.mean;
    train(&m);
    assign_and_code(&m);
    making_release(&m);
    int r = merge_canceled(s->cancel) ? err_set(err, ERR_CANCELED, "canceled") : 0;
    if (!r) r = clusters_calibrate(s, ret, err);
    if (r) clusters_free(ret);
    return r;
}

void clusters_free(struct clusters *c) {
    rotation_release(&c->rotation);
    free((void *)c->mean);
    free((void *)c->first_block);
    free((void *)c->scales);
    free((void *)c->norms);
    free((void *)c->centroids);
    free((void *)c->blocks);
    *c = (struct clusters){0};
}
