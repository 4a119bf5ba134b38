/* LONG, DOUBLE, BOOLEAN, DATETIME: a column; its zones answer ranges. */
#include "index/segment_internal.h"

static int number_feed(struct index_feeder *f, const struct jval *value, index_emit *emit, void *ctx,
                       struct err *err) {
    int64_t v;
    if (field_value_i64(f->spec->type, value, &v)) emit(ctx, &(struct index_item){.i64 = v});
    return 0;
}

struct number_writer {
    struct index_writer base;
    struct column_builder column;
};

static struct index_writer *number_writer_new(const struct index_spec *spec) {
    struct number_writer *w = xcalloc(1, sizeof *w);
    w->base = (struct index_writer){.ops = &index_number, .spec = spec, .last_doc = DOCNO_NONE};
    return &w->base;
}

static void number_emit(void *ctx, const struct index_item *item) {
    struct number_writer *w = ctx;
    index_writer_begin(&w->base);
    column_builder_add(&w->column, w->base.docno, item->i64);
}

static size_t number_writer_bytes(const struct index_writer *base) {
    const struct number_writer *w = (const struct number_writer *)base;
    return w->column.cap * (sizeof *w->column.docs + sizeof *w->column.values);
}

static int number_writer_finish(struct index_writer *base, struct index_out *out, struct err *err) {
    struct number_writer *w = (struct number_writer *)base;
    if (w->base.n_docs) out->stats.n_docs = index_out_column(out, &w->column);
    return 0;
}

static void number_writer_free(struct index_writer *base) {
    column_builder_release(&((struct number_writer *)base)->column);
    free(base);
}

static void take_column(struct column_builder *b, const struct column *c, const struct index_source *s) {
    for (uint32_t d = 0; d < s->n_docs; d++) {
        if (s->map[d] == DOCNO_NONE) continue;
        for (uint32_t i = 0, n = column_count(c, d); i < n; i++)
            column_builder_add(b, s->map[d], column_value(c, d, i));
    }
}

static int number_merge(const struct index_merge *m, struct index_out *out, struct err *err) {
    struct column_builder b = {0};
    int r = 0;
    for (size_t i = 0; !r && i < m->n_sources; i++) {
        const struct column *c;
        r = merge_canceled(m->cancel) ? err_set(err, ERR_CANCELED, "canceled") : 0;
        if (!r) r = column_open(m->sources[i].field, &c, err);
        if (!r) take_column(&b, c, &m->sources[i]);
    }
    if (!r && b.n) {
        if (m->n_sources > 1) column_builder_sort(&b, out->n_docs);
        out->stats.n_docs = index_out_column(out, &b);
    }
    column_builder_release(&b);
    return r;
}

static int number_open(struct segment_field *f, const uint8_t *ext, size_t len, struct err *err) {
    return 0;
}

static int number_verify(const struct segment_field *f, struct err *err) {
    const struct column *c;
    int r = column_open(f, &c, err);
    if (!r) r = column_verify(c, err);
    if (!r && c->n_with != f->stats.n_docs) r = segment_field_corrupt(f, err, "statistics");
    return r;
}

const struct index_type_ops index_number = {
    .name = "number",
    .feed = number_feed,
    .writer_new = number_writer_new,
    .writer_emit = number_emit,
    .writer_bytes = number_writer_bytes,
    .writer_finish = number_writer_finish,
    .writer_free = number_writer_free,
    .merge = number_merge,
    .open = number_open,
    .verify = number_verify,
};
