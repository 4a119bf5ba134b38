/* KEYWORD: an inverted index of whole strings without frequencies, and a column of their ordinals for sorting
 * and ranges. */
#include "index/segment_internal.h"

bool keyword_too_long(const char *s, size_t len) {
    size_t chars = 0;
    if (len <= KEYWORD_MAX_CHARS) return false;
    for (size_t i = 0; i < len; i++) chars += ((uint8_t)s[i] & 0xc0) != 0x80;
    return chars > KEYWORD_MAX_CHARS;
}

static int keyword_feed(struct index_feeder *f, const struct jval *value, index_emit *emit, void *ctx,
                        struct err *err) {
    if (value->type != JVAL_STRING || keyword_too_long(value->str, value->count)) return 0;
    emit(ctx, &(struct index_item){.term = value->str, .len = value->count});
    return 0;
}

struct keyword_writer {
    struct index_writer base;
    struct inverted_writer *inverted;
};

static struct index_writer *keyword_writer_new(const struct index_spec *spec) {
    struct keyword_writer *w = xcalloc(1, sizeof *w);
    w->base = (struct index_writer){.ops = &index_keyword, .spec = spec, .last_doc = DOCNO_NONE};
    w->inverted = inverted_writer_new(false, false);
    return &w->base;
}

static void keyword_emit(void *ctx, const struct index_item *item) {
    struct keyword_writer *w = ctx;
    index_writer_begin(&w->base);
    inverted_writer_add(w->inverted, item->term, item->len, w->base.docno, 0);
}

static size_t keyword_writer_bytes(const struct index_writer *base) {
    return inverted_writer_bytes(((const struct keyword_writer *)base)->inverted);
}

static void learn_ord(void *ctx, uint32_t ord, uint32_t docno) {
    column_builder_add(ctx, docno, ord);
}

static void write_ords(struct index_out *out, struct column_builder *ords,
                       const struct inverted_region *region) {
    column_builder_sort(ords, out->n_docs);
    out->stats.n_docs = index_out_column(out, ords);
    out->stats.sum_ttf = region->sum_ttf;
    inverted_region_encode(region, &out->ext);
}

static int keyword_writer_finish(struct index_writer *base, struct index_out *out, struct err *err) {
    struct keyword_writer *w = (struct keyword_writer *)base;
    struct inverted_region region;
    struct column_builder ords = {0};
    if (!w->base.n_docs) return 0;
    int r = inverted_writer_finish(w->inverted, NULL, out->blob, learn_ord, &ords, &region, err);
    if (!r) write_ords(out, &ords, &region);
    column_builder_release(&ords);
    return r;
}

static void keyword_writer_free(struct index_writer *base) {
    inverted_writer_free(((struct keyword_writer *)base)->inverted);
    free(base);
}

static int keyword_merge(const struct index_merge *m, struct index_out *out, struct err *err) {
    struct inverted_region region;
    struct column_builder ords = {0};
    const struct segment_field **fields = xmalloc(m->n_sources * sizeof *fields);
    const uint32_t **maps = xmalloc(m->n_sources * sizeof *maps);
    for (size_t i = 0; i < m->n_sources; i++) {
        fields[i] = m->sources[i].field;
        maps[i] = m->sources[i].map;
    }
    int r = inverted_merge(fields, maps, m->n_sources, false, false, NULL, out->blob, learn_ord, &ords,
                           m->cancel, &region, err);
    if (!r) write_ords(out, &ords, &region);
    column_builder_release(&ords);
    free(fields);
    free(maps);
    return r;
}

static int keyword_verify(const struct segment_field *f, struct err *err) {
    const struct column *c;
    int r = column_open(f, &c, err);
    if (!r) r = column_verify(c, err);
    if (r) return r;
    uint32_t n_terms = f->inverted.region.n_terms;
    for (uint32_t d = 0; d < c->n_docs; d++) {
        uint32_t n = column_count(c, d);
        if (n && (uint64_t)column_value(c, d, n - 1) >= n_terms)
            return segment_field_corrupt(f, err, "ordinals");
    }
    if (c->n_with != f->stats.n_docs) return segment_field_corrupt(f, err, "statistics");
    return c->n_with ? inverted_verify(f, segment_n_docs(f->segment), err) : 0;
}

const struct index_type_ops index_keyword = {
    .name = "keyword",
    .feed = keyword_feed,
    .writer_new = keyword_writer_new,
    .writer_emit = keyword_emit,
    .writer_bytes = keyword_writer_bytes,
    .writer_finish = keyword_writer_finish,
    .writer_free = keyword_writer_free,
    .merge = keyword_merge,
    .open = index_open_inverted,
    .verify = keyword_verify,
};
