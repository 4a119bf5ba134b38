/* Clusters in a segment. Grammar: docs/FORMAT.md. */
#include <math.h>

#include "index/cluster_internal.h"
#include "index/segment_internal.h"

enum {
    HEADER_SIZE = 64,
    CALIBRATION_SIZE = 24,
    FLAG_INNER_PRODUCT = 1,
    FLAG_NORMALISED = 2,
    CENTROID_ALIGN = 64
};

/* ---- writing ---- */

static void put_float(struct buf *b, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    buf_add_u32(b, bits);
}

static void put_padding(struct buf *b, size_t align) {
    while (b->len % align) buf_addc(b, 0);
}

static void put_header(struct buf *b, const struct clusters *c) {
    buf_add_u16(b, CLUSTER_VERSION);
    buf_add_u16(
        b, (uint16_t)((c->inner_product ? FLAG_INNER_PRODUCT : 0) | (c->normalised ? FLAG_NORMALISED : 0)));
    buf_add_u32(b, c->rotation.dimensions);
    buf_add_u32(b, c->rotation.padded);
    buf_add_u32(b, c->n_rows);
    buf_add_u32(b, c->n_lists);
    buf_add_u32(b, c->n_blocks);
    buf_add_u32(b, c->n_calibrations);
    put_float(b, c->spread);
    buf_add_u64(b, c->rotation.seed);
    put_padding(b, HEADER_SIZE);
}

void clusters_write(const struct clusters *c, struct index_out *out) {
    struct buf b = BUF_INIT;
    uint32_t padded = c->rotation.padded;
    put_header(&b, c);
    for (uint32_t i = 0; i < c->n_calibrations; i++) {
        const struct cluster_calibration *k = &c->calibrations[i];
        put_float(&b, k->recall);
        buf_add_u32(&b, k->k);
        put_float(&b, k->width);
        put_float(&b, k->reach);
        put_float(&b, k->scanned);
        put_float(&b, k->reranked);
    }
    buf_add(&b, c->mean, padded * sizeof *c->mean);
    buf_add(&b, c->first_block, ((size_t)c->n_lists + 1) * sizeof *c->first_block);
    buf_add(&b, c->scales, c->n_lists * sizeof *c->scales);
    buf_add(&b, c->norms, c->n_lists * sizeof *c->norms);
    put_padding(&b, CENTROID_ALIGN);
    buf_add(&b, c->centroids, (size_t)c->n_lists * padded);
    blob_write_align(out->blob, CENTROID_ALIGN);
    index_out_region(out, REGION_CLUSTERS, 0, blob_writer_off(out->blob), b.len);
    blob_write(out->blob, b.data, b.len);
    buf_release(&b);
    size_t bytes = c->n_blocks * rabitq_block_size(padded);
    blob_write_align(out->blob, CENTROID_ALIGN);
    index_out_region(out, REGION_CLUSTER_CODES, 0, blob_writer_off(out->blob), bytes);
    blob_write(out->blob, c->blocks, bytes);
}

/* ---- reading ---- */

static float get_float(struct cursor *c) {
    uint32_t bits = cursor_u32(c);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* False: not what a writer of this version writes. */
static bool get_header(struct cursor *in, struct clusters *c, uint64_t *ret_seed) {
    struct cursor h = cursor_of(cursor_take(in, HEADER_SIZE), in->bad ? 0 : HEADER_SIZE);
    uint16_t version = cursor_u16(&h), flags = cursor_u16(&h);
    c->inner_product = flags & FLAG_INNER_PRODUCT;
    c->normalised = flags & FLAG_NORMALISED;
    c->rotation.dimensions = cursor_u32(&h);
    c->rotation.padded = cursor_u32(&h);
    c->n_rows = cursor_u32(&h);
    c->n_lists = cursor_u32(&h);
    c->n_blocks = cursor_u32(&h);
    c->n_calibrations = cursor_u32(&h);
    c->spread = get_float(&h);
    *ret_seed = cursor_u64(&h);
    return !h.bad && version == CLUSTER_VERSION && c->rotation.dimensions <= SCHEMA_MAX_DIMENSIONS &&
           c->rotation.dimensions && c->rotation.padded == rotation_padded(c->rotation.dimensions) &&
           c->n_lists && c->n_lists <= c->n_rows && c->n_blocks <= c->n_rows &&
           c->n_calibrations <= CLUSTER_MAX_CALIBRATIONS && isfinite(c->spread) && c->spread >= 0;
}

static bool get_calibrations(struct cursor *in, struct clusters *c) {
    bool ok = true;
    for (uint32_t i = 0; i < c->n_calibrations; i++) {
        struct cluster_calibration *k = &c->calibrations[i];
        k->recall = get_float(in);
        k->k = cursor_u32(in);
        k->width = get_float(in);
        k->reach = get_float(in);
        k->scanned = get_float(in);
        k->reranked = get_float(in);
        ok &= k->recall >= 0 && k->recall <= 1 && k->k && k->width >= 0 && k->reach >= 0 &&
              isfinite(k->reach) && k->scanned >= 0 && k->reranked >= 0;
    }
    return ok && !in->bad;
}

static bool get_arrays(struct cursor *in, const uint8_t *start, struct clusters *c) {
    size_t n = c->n_lists, padded = c->rotation.padded;
    c->mean = (const float *)cursor_take(in, padded * sizeof(float));
    c->first_block = (const uint32_t *)cursor_take(in, (n + 1) * sizeof(uint32_t));
    c->scales = (const float *)cursor_take(in, n * sizeof(float));
    c->norms = (const float *)cursor_take(in, n * sizeof(float));
    if (in->bad) return false;
    cursor_take(in, (size_t)(-(in->p - start) & (CENTROID_ALIGN - 1)));
    c->centroids = cursor_take(in, n * padded);
    return !in->bad && in->p == in->end;
}

/* Lists are in order and every number is one: a search cannot be led outside. */
static bool arrays_fit(const struct clusters *c) {
    uint64_t bad = c->first_block[0] != 0 || c->first_block[c->n_lists] != c->n_blocks;
    for (uint32_t i = 0; i < c->n_lists; i++)
        bad |= c->first_block[i + 1] < c->first_block[i] || !(c->scales[i] >= 0) || !isfinite(c->scales[i]) ||
               !(c->norms[i] >= 0) || !isfinite(c->norms[i]);
    for (uint32_t d = 0; d < c->rotation.padded; d++) bad |= !isfinite(c->mean[d]);
    return !bad;
}

int clusters_open(const struct segment_field *f, struct clusters **ret, struct err *err) {
    const struct segment *s = f->segment;
    const struct region *region, *codes = segment_region(s, f, REGION_CLUSTER_CODES);
    const uint8_t *p;
    uint64_t seed = 0;
    *ret = NULL;
    if (!segment_region(s, f, REGION_CLUSTERS)) return codes ? segment_field_corrupt(f, err, "clusters") : 0;
    int r = segment_region_need(s, f, REGION_CLUSTERS, &region, &p, err);
    if (r) return r;
    struct clusters *c = xcalloc(1, sizeof *c);
    struct cursor in = cursor_of(p, region->len);
    enum similarity similarity = f->spec.similarity;
    bool inner = similarity == SIMILARITY_DOT_PRODUCT || similarity == SIMILARITY_MAX_INNER_PRODUCT;
    bool ok = region->off % CENTROID_ALIGN == 0 && get_header(&in, c, &seed) && get_calibrations(&in, c) &&
              get_arrays(&in, p, c) && arrays_fit(c) && c->rotation.dimensions == f->spec.dimensions &&
              c->n_rows == f->stats.n_docs && c->inner_product == inner &&
              c->normalised == (similarity == SIMILARITY_COSINE) && codes &&
              codes->off % CENTROID_ALIGN == 0 &&
              codes->len == c->n_blocks * (uint64_t)rabitq_block_size(c->rotation.padded);
    if (!ok) {
        free(c);
        return segment_field_corrupt(f, err, "clusters");
    }
    rotation_init(&c->rotation, f->spec.dimensions, seed);
    c->blob = s->blob;
    c->blocks_off = codes->off;
    *ret = c;
    return 0;
}

void clusters_close(struct clusters *c) {
    if (!c) return;
    rotation_release(&c->rotation);
    free(c);
}

/* Of one list: rows ascending without gaps in the blocks, numbers that are numbers. */
static bool list_fits(const struct clusters *c, uint32_t list, const uint8_t *block, uint64_t *seen) {
    size_t size = rabitq_block_size(c->rotation.padded);
    uint32_t before = 0;
    bool any = false, ended = false;
    for (uint32_t b = c->first_block[list]; b < c->first_block[list + 1]; b++, block += size) {
        const struct rabitq_tail *tail = rabitq_block_tail(block, c->rotation.padded);
        if (ended || tail->rows[0] == RABITQ_NO_ROW) return false;
        for (unsigned i = 0; i < RABITQ_BLOCK; i++) {
            uint32_t row = tail->rows[i];
            if (row == RABITQ_NO_ROW) {
                ended = true;
                continue;
            }
            if (ended || row >= c->n_rows || (any && row <= before) || bitmap_get(seen, row) ||
                !isfinite(tail->add[i]) || !isfinite(tail->rescale[i]) || !(tail->error[i] >= 0) ||
                !isfinite(tail->error[i]))
                return false;
            bitmap_set(seen, row);
            before = row;
            any = true;
        }
    }
    return true;
}

int clusters_verify(const struct segment_field *f, const struct clusters *c, struct err *err) {
    size_t size = rabitq_block_size(c->rotation.padded);
    uint64_t *seen = xcalloc(bitmap_words(c->n_rows), sizeof *seen);
    int r = 0;
    for (uint32_t i = 0; !r && i < c->n_lists; i++) {
        const uint8_t *blocks;
        uint32_t from = c->first_block[i], n = c->first_block[i + 1] - from;
        r = blob_need(c->blob, c->blocks_off + from * size, n * size, &blocks, err);
        if (r) break;
        float norm = cluster_centroid(c->centroids + (size_t)i * c->rotation.padded, c->scales[i],
                                      c->rotation.padded, NULL);
        if (norm != c->norms[i] || !list_fits(c, i, blocks, seen))
            r = segment_field_corrupt(f, err, "clusters");
    }
    if (!r && bitmap_count(seen, c->n_rows) != c->n_rows) r = segment_field_corrupt(f, err, "clusters");
    free(seen);
    return r;
}
