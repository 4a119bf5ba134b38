/* VECTOR: float32 rows, and clusters of them where there are many. A document has at most one vector per
 * field, the first that fits.
 */
#include <math.h>

#include "index/segment_internal.h"
#include "index/vectors.h"

static int vector_feed(struct index_feeder *f, const struct jval *value, index_emit *emit, void *ctx,
                       struct err *err) {
    float row[SCHEMA_MAX_DIMENSIONS];
    uint32_t n = 0;
    if (f->done || value->type != JVAL_ARRAY || value->count != f->spec->dimensions ||
        value->count > SCHEMA_MAX_DIMENSIONS)
        return 0;
    for (const struct jval *v = value->first; v; v = v->next) {
        if (v->type != JVAL_NUMBER || !isfinite((float)jval_number(v))) return 0;
        row[n++] = (float)jval_number(v);
    }
    f->done = true;
    emit(ctx, &(struct index_item){.vector = row});
    return 0;
}

struct vector_writer {
    struct index_writer base;
    struct buf rows;
    uint32_t *docs;
    size_t n, cap;
};

static struct index_writer *vector_writer_new(const struct index_spec *spec) {
    struct vector_writer *w = xcalloc(1, sizeof *w);
    w->base = (struct index_writer){.ops = &index_vector, .spec = spec, .last_doc = DOCNO_NONE};
    return &w->base;
}

static void vector_emit(void *ctx, const struct index_item *item) {
    struct vector_writer *w = ctx;
    index_writer_begin(&w->base);
    VEC_GROW(w->docs, w->n, w->cap);
    w->docs[w->n++] = w->base.docno;
    buf_add(&w->rows, item->vector, w->base.spec->dimensions * sizeof(float));
}

static size_t vector_writer_bytes(const struct index_writer *base) {
    const struct vector_writer *w = (const struct vector_writer *)base;
    return w->rows.cap + w->cap * sizeof *w->docs;
}

static int vector_writer_finish(struct index_writer *base, struct index_out *out, struct err *err) {
    struct vector_writer *w = (struct vector_writer *)base;
    struct vectors_writer rows;
    if (!w->n) return 0;
    vectors_writer_init(&rows, out, w->base.spec->dimensions);
    const float *row = (const float *)w->rows.data;
    const float **addresses = xmalloc(w->n * sizeof *addresses);
    for (size_t i = 0; i < w->n; i++, row += w->base.spec->dimensions) {
        addresses[i] = row;
        vectors_writer_add(&rows, w->docs[i], row);
    }
    int r = vectors_writer_finish_clustered(&rows, w->base.spec, addresses, (uint32_t)w->n, NULL, err);
    free(addresses);
    return r;
}

static void vector_writer_free(struct index_writer *base) {
    struct vector_writer *w = (struct vector_writer *)base;
    buf_release(&w->rows);
    free(w->docs);
    free(w);
}

/* Rows are copied from the inputs in the order of the new documents; only their addresses are gathered. */
static int gather_rows(const struct index_merge *m, const float **rows, struct err *err) {
    for (size_t i = 0; i < m->n_sources; i++) {
        const struct index_source *s = &m->sources[i];
        struct vectors v;
        int r = merge_canceled(m->cancel) ? err_set(err, ERR_CANCELED, "canceled")
                                          : vectors_open(s->field, &v, err);
        if (r) return r;
        for (uint32_t k = 0; k < v.n; k++) {
            uint32_t to = s->map[v.docs[k]];
            if (to != DOCNO_NONE) rows[to] = v.rows + (size_t)k * v.dimensions;
        }
    }
    return 0;
}

static int vector_merge(const struct index_merge *m, struct index_out *out, struct err *err) {
    struct vectors_writer w;
    const float **rows = xcalloc(out->n_docs, sizeof *rows);
    int r = gather_rows(m, rows, err);
    if (!r) {
        vectors_writer_init(&w, out, m->spec->dimensions);
        uint32_t n = 0;
        for (uint32_t d = 0; d < out->n_docs; d++) {
            if (!rows[d]) continue;
            vectors_writer_add(&w, d, rows[d]);
            rows[n++] = rows[d];
        }
        r = vectors_writer_finish_clustered(&w, m->spec, rows, n, m->cancel, err);
    }
    free(rows);
    return r;
}

static int vector_open(struct segment_field *f, const uint8_t *ext, size_t len, struct err *err) {
    return 0;
}

const struct index_type_ops index_vector = {
    .name = "vector",
    .feed = vector_feed,
    .writer_new = vector_writer_new,
    .writer_emit = vector_emit,
    .writer_bytes = vector_writer_bytes,
    .writer_finish = vector_writer_finish,
    .writer_free = vector_writer_free,
    .merge = vector_merge,
    .open = vector_open,
    .verify = vectors_verify,
};
