/* Vector rows. Grammar: docs/FORMAT.md. */
#include "index/vectors.h"

#include <math.h>

#include "index/blob_internal.h"
#include "index/cluster_internal.h"
#include "index/segment_internal.h"

enum { ROW_ALIGN = 64, GALLOP = 8 };

void vectors_writer_init(struct vectors_writer *w, struct index_out *out, uint32_t dimensions) {
    *w = (struct vectors_writer){.out = out, .dimensions = dimensions};
    blob_write_align(out->blob, ROW_ALIGN);
    w->off = blob_writer_off(out->blob);
}

/* Summed in double in index order, so that every machine gives the same float. */
static float norm_of(const float *row, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)row[i] * (double)row[i];
    return (float)sqrt(sum);
}

void vectors_writer_add(struct vectors_writer *w, uint32_t docno, const float *row) {
    float norm = norm_of(row, w->dimensions);
    buf_add(&w->norms, &norm, sizeof norm);
    buf_add_u32(&w->docs, docno);
    blob_write(w->out->blob, row, w->dimensions * sizeof *row);
}

static void write_part(struct index_out *out, uint16_t kind, const struct buf *b) {
    index_out_region(out, kind, 0, blob_writer_off(out->blob), b->len);
    blob_write(out->blob, b->data, b->len);
}

void vectors_writer_finish(struct vectors_writer *w) {
    struct index_out *out = w->out;
    uint32_t n = (uint32_t)(w->docs.len / sizeof n);
    if (n) {
        index_out_region(out, REGION_VECTOR_ROWS, 0, w->off, blob_writer_off(out->blob) - w->off);
        write_part(out, REGION_VECTOR_NORMS, &w->norms);
        write_part(out, REGION_VECTOR_DOCS, &w->docs);
        uint64_t *exists = xcalloc(bitmap_words(out->n_docs), sizeof *exists);
        for (uint32_t i = 0; i < n; i++) bitmap_set(exists, get_u32(w->docs.data + 4 * (size_t)i));
        index_out_exists(out, exists, n);
        free(exists);
        out->stats.n_docs = n;
    }
    buf_release(&w->norms);
    buf_release(&w->docs);
}

int vectors_writer_finish_clustered(struct vectors_writer *w, const struct index_spec *spec,
                                    const float *const *rows, uint32_t n, const volatile int *cancel,
                                    struct err *err) {
    struct cluster_source source = {.rows = rows,
                                    .n = n,
                                    .dimensions = spec->dimensions,
                                    .similarity = spec->similarity,
                                    .cancel = cancel};
    struct clusters c;
    int r = 0;
    bool clustered = clusters_wanted(n, w->out->blob->fd < 0);
    if (clustered) {
        source.norms = (const float *)w->norms.data;
        r = clusters_make(&source, &c, err);
    }
    vectors_writer_finish(w);
    if (!clustered || r) return r;
    clusters_write(&c, w->out);
    clusters_free(&c);
    return 0;
}

/* ---- reading ---- */

struct vectors_cache {
    struct vectors vectors;
    struct clusters *clusters;
};

void vectors_cache_free(struct vectors_cache *c) {
    if (!c) return;
    clusters_close(c->clusters);
    free(c);
}

/* Documents index bitmaps and maps of the caller: out of range must not get out of here. */
static bool documents_fit(const struct vectors *v, uint32_t n_docs) {
    bool bad = v->docs[v->n - 1] >= n_docs;
    for (uint32_t i = 1; i < v->n; i++) bad |= v->docs[i] <= v->docs[i - 1];
    return !bad;
}

static int read_regions(const struct segment_field *f, struct vectors_cache *c, struct err *err) {
    const struct region *rows = segment_region(f->segment, f, REGION_VECTOR_ROWS), *norms, *docs;
    const uint8_t *p_rows, *p_norms, *p_docs;
    struct vectors *v = &c->vectors;
    uint64_t n = v->n;
    if (!rows) return segment_field_corrupt(f, err, "vector regions");
    int r = blob_need(f->segment->blob, rows->off, 0, &p_rows, err);
    if (!r) r = segment_region_need(f->segment, f, REGION_VECTOR_NORMS, &norms, &p_norms, err);
    if (!r) r = segment_region_need(f->segment, f, REGION_VECTOR_DOCS, &docs, &p_docs, err);
    if (r) return r;
    if (rows->off % ROW_ALIGN || norms->off % 4 || docs->off % 4 ||
        rows->len != n * v->dimensions * sizeof(float) || norms->len != n * sizeof(float) ||
        docs->len != n * sizeof(uint32_t))
        return segment_field_corrupt(f, err, "vector regions");
    v->blob = f->segment->blob;
    v->rows_off = rows->off;
    v->rows = (const float *)p_rows;
    v->norms = (const float *)p_norms;
    v->docs = (const uint32_t *)p_docs;
    if (!documents_fit(v, segment_n_docs(f->segment)))
        return segment_field_corrupt(f, err, "vector documents");
    v->dense = v->docs[v->n - 1] == v->n - 1;
    r = clusters_open(f, &c->clusters, err);
    v->clusters = c->clusters;
    return r;
}

/* Pages of a remote object may have gone since they were looked at. */
static int need_again(const struct segment_field *f, struct err *err) {
    static const uint16_t kinds[] = {REGION_VECTOR_NORMS, REGION_VECTOR_DOCS, REGION_CLUSTERS};
    const uint8_t *p;
    int r = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(kinds) && !r; i++) {
        const struct region *region = segment_region(f->segment, f, kinds[i]);
        if (region) r = blob_need(f->segment->blob, region->off, region->len, &p, err);
    }
    return r;
}

int vectors_open_lazy(const struct segment_field *f, struct vectors *ret, struct err *err) {
    struct vectors_cache *_Atomic *slot = (struct vectors_cache * _Atomic *)&f->vectors;
    struct vectors_cache *c = atomic_load_explicit(slot, memory_order_acquire), *none = NULL;
    int r = 0;
    if (f->spec.type != FIELD_VECTOR)
        return err_set(err, ERR_UNSUPPORTED, "field '%s' has no vectors", f->spec.path);
    if (!c) {
        c = xcalloc(1, sizeof *c);
        c->vectors = (struct vectors){
            .n = f->stats.n_docs, .dimensions = f->spec.dimensions, .similarity = f->spec.similarity};
        if (c->vectors.n) r = read_regions(f, c, err);
        if (r) {
            vectors_cache_free(c);
            return r;
        }
        if (!atomic_compare_exchange_strong(slot, &none, c)) {
            vectors_cache_free(c);
            c = none;
        }
    }
    *ret = c->vectors;
    return c->vectors.n && blob_is_remote(f->segment->blob) ? need_again(f, err) : 0;
}

int vectors_need(const struct vectors *v, uint32_t row, uint32_t n, struct err *err) {
    uint64_t size = v->dimensions * sizeof(float);
    const uint8_t *p;
    return n ? blob_need(v->blob, v->rows_off + row * size, n * size, &p, err) : 0;
}

int vectors_need_rows(const struct vectors *v, const uint32_t *rows, uint32_t n, struct err *err) {
    uint64_t size = v->dimensions * sizeof(float);
    int r = 0;
    for (uint32_t i = 0; i < n && !r; i++) {
        i += blob_rows_at_hand(v->blob, v->rows_off, size, rows + i, n - i);
        if (i < n) r = vectors_need(v, rows[i], 1, err);
    }
    return r;
}

/* Galloping, then by halves. */
uint32_t vectors_row(const struct vectors *v, uint32_t from, uint32_t docno) {
    if (v->dense) return MIN(MAX(from, docno), v->n);
    uint32_t step = GALLOP, lo = from, hi;
    while (lo + step < v->n && v->docs[lo + step] < docno) {
        lo += step;
        step *= 2;
    }
    hi = MIN(lo + step, v->n);
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v->docs[mid] < docno)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool vectors_are_clustered(const struct segment_field *f) {
    return segment_region(f->segment, f, REGION_CLUSTERS);
}

int vectors_of_doc(const struct vectors *v, uint32_t docno, const float **ret, struct err *err) {
    uint32_t row = vectors_row(v, 0, docno);
    *ret = NULL;
    if (row == v->n || v->docs[row] != docno) return 0;
    int r = vectors_need(v, row, 1, err);
    if (!r) *ret = v->rows + (size_t)row * v->dimensions;
    return r;
}

int vectors_open(const struct segment_field *f, struct vectors *ret, struct err *err) {
    int r = vectors_open_lazy(f, ret, err);
    return r ? r : vectors_need(ret, 0, ret->n, err);
}

int vectors_verify(const struct segment_field *f, struct err *err) {
    struct vectors v;
    const uint64_t *exists;
    int r = vectors_open(f, &v, err);
    if (!r) r = segment_field_exists(f, &exists, err);
    for (uint32_t i = 0; !r && i < v.n; i++) {
        float norm = norm_of(v.rows + (size_t)i * v.dimensions, v.dimensions);
        if (!(norm == v.norms[i]) || (exists && !bitmap_get(exists, v.docs[i])))
            r = segment_field_corrupt(f, err, "vectors");
    }
    if (!r && v.clusters) r = clusters_verify(f, v.clusters, err);
    return r;
}
