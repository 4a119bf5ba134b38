/* SPARSE_VECTOR: an inverted index of tokens whose frequency is the weight, quantised as Lucene's
 * FeatureField: the upper 17 bits of the float32, 8 of them of the mantissa. Positive floats order as their
 * bits, so the impacts of the postings bound weights as they bound frequencies in a text field. */
#include "index/segment_internal.h"

uint32_t sparse_encode(double weight) {
    float w = (float)weight;
    uint32_t bits;
    if (!(w >= SPARSE_MIN_WEIGHT)) return 0;
    memcpy(&bits, &w, sizeof bits);
    return MIN(bits >> 15, (uint32_t)SPARSE_MAX_CODE);
}

/* The first object is the document's vector; a weight of 0 is none. */
static int sparse_feed(struct index_feeder *f, const struct jval *value, index_emit *emit, void *ctx,
                       struct err *err) {
    if (f->done || value->type != JVAL_OBJECT) return 0;
    f->done = true;
    for (const struct jval *m = value->first; m; m = m->next) {
        uint32_t code = m->type == JVAL_NUMBER ? sparse_encode(jval_number(m)) : 0;
        if (code) emit(ctx, &(struct index_item){.term = m->key, .len = m->key_len, .freq = code});
    }
    return 0;
}

struct sparse_writer {
    struct index_writer base;
    struct inverted_writer *inverted;
};

static struct index_writer *sparse_writer_new(const struct index_spec *spec) {
    struct sparse_writer *w = xcalloc(1, sizeof *w);
    w->base = (struct index_writer){.ops = &index_sparse, .spec = spec, .last_doc = DOCNO_NONE};
    w->inverted = inverted_writer_new(true, false);
    return &w->base;
}

static void sparse_emit(void *ctx, const struct index_item *item) {
    struct sparse_writer *w = ctx;
    index_writer_begin(&w->base);
    inverted_writer_add_freq(w->inverted, item->term, item->len, w->base.docno, item->freq);
}

static size_t sparse_writer_bytes(const struct index_writer *base) {
    return inverted_writer_bytes(((const struct sparse_writer *)base)->inverted);
}

/* Which documents have the field and how many weights there are, learned while the postings are written. */
struct seen {
    uint64_t *exists, n_weights;
};

static void see_posting(void *ctx, uint32_t ord, uint32_t docno) {
    struct seen *s = ctx;
    bitmap_set(s->exists, docno);
    s->n_weights++;
}

static void write_seen(struct index_out *out, const struct seen *s, const struct inverted_region *region) {
    uint32_t n_with = bitmap_count(s->exists, out->n_docs);
    index_out_exists(out, s->exists, n_with);
    out->stats = (struct field_stats){.n_docs = n_with, .sum_ttf = s->n_weights};
    inverted_region_encode(region, &out->ext);
}

static int sparse_writer_finish(struct index_writer *base, struct index_out *out, struct err *err) {
    struct sparse_writer *w = (struct sparse_writer *)base;
    struct inverted_region region;
    if (!w->base.n_docs) return 0;
    struct seen s = {.exists = xcalloc(bitmap_words(out->n_docs), sizeof *s.exists)};
    int r = inverted_writer_finish(w->inverted, NULL, out->blob, see_posting, &s, &region, err);
    if (!r) write_seen(out, &s, &region);
    free(s.exists);
    return r;
}

static void sparse_writer_free(struct index_writer *base) {
    inverted_writer_free(((struct sparse_writer *)base)->inverted);
    free(base);
}

static int sparse_merge(const struct index_merge *m, struct index_out *out, struct err *err) {
    struct inverted_region region;
    struct seen s = {.exists = xcalloc(bitmap_words(out->n_docs), sizeof *s.exists)};
    const struct segment_field **fields = xmalloc(m->n_sources * sizeof *fields);
    const uint32_t **maps = xmalloc(m->n_sources * sizeof *maps);
    for (size_t i = 0; i < m->n_sources; i++) {
        fields[i] = m->sources[i].field;
        maps[i] = m->sources[i].map;
    }
    int r = inverted_merge(fields, maps, m->n_sources, true, false, NULL, out->blob, see_posting, &s,
                           m->cancel, &region, err);
    if (!r) write_seen(out, &s, &region);
    free(s.exists);
    free(fields);
    free(maps);
    return r;
}

/* Reads every weight of a term. False when one is out of range. */
static bool verify_postings(struct postings *p, struct seen *s) {
    while (postings_next(p) != DOCNO_NONE) {
        uint32_t code = postings_freq(p);
        if (code < SPARSE_MIN_CODE || code > SPARSE_MAX_CODE) return false;
        see_posting(s, 0, p->doc);
    }
    return true;
}

static int verify_terms(const struct segment_field *f, struct seen *s, struct err *err) {
    struct term_iter it;
    struct postings p;
    int r = term_iter_open(&it, f, "", 0, err);
    if (r) return r;
    while ((r = term_iter_next(&it, err)) == 1) {
        if ((r = postings_open(&p, f, &it.info, true, false, err))) break;
        bool good = verify_postings(&p, s);
        postings_close(&p);
        if (!good && (r = segment_field_corrupt(f, err, "weights"))) break;
    }
    term_iter_close(&it);
    return r < 0 ? r : 0;
}

static int sparse_verify(const struct segment_field *f, struct err *err) {
    uint32_t n_docs = segment_n_docs(f->segment);
    const uint64_t *exists;
    if (!f->stats.n_docs) return 0;
    int r = inverted_verify(f, n_docs, err);
    if (!r) r = segment_field_exists(f, &exists, err);
    if (r) return r;
    struct seen s = {.exists = xcalloc(bitmap_words(n_docs), sizeof *s.exists)};
    r = verify_terms(f, &s, err);
    if (!r && (bitmap_count(s.exists, n_docs) != f->stats.n_docs || s.n_weights != f->stats.sum_ttf))
        r = segment_field_corrupt(f, err, "statistics");
    if (!r && exists && memcmp(exists, s.exists, bitmap_words(n_docs) * sizeof *exists))
        r = segment_field_corrupt(f, err, "existence");
    free(s.exists);
    return r;
}

const struct index_type_ops index_sparse = {
    .name = "sparseVector",
    .feed = sparse_feed,
    .writer_new = sparse_writer_new,
    .writer_emit = sparse_emit,
    .writer_bytes = sparse_writer_bytes,
    .writer_finish = sparse_writer_finish,
    .writer_free = sparse_writer_free,
    .merge = sparse_merge,
    .open = index_open_inverted,
    .verify = sparse_verify,
};
