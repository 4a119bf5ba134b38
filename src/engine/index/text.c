/* TEXT: an inverted index with frequencies and positions, and one length byte a document, per analyzer.
 *
 * Values of one field in a document follow each other with a position gap, so that no phrase reaches from one
 * into the next. Only documents with at least one token count, as in Lucene's docCount. Tokens at one
 * position count once in the length and each in the sum, as there. */
#include "index/segment_internal.h"

enum { TEXT_POSITION_GAP = 100 }; /* Elasticsearch's default for text fields */

static int text_feed(struct index_feeder *f, const struct jval *value, index_emit *emit, void *ctx,
                     struct err *err) {
    struct analyzer_state *analyzer;
    const struct token *tokens;
    size_t n;
    if (value->type != JVAL_STRING) return 0;
    int r = index_scratch_analyzer(f->spec->analyzer, &analyzer, err);
    if (!r) r = analyze(analyzer, value->str, value->count, &tokens, &n, err);
    if (r) return r;
    for (size_t i = 0; i < n; i++) {
        const struct token *t = &tokens[i];
        emit(ctx, &(struct index_item){
                      .term = t->text, .len = t->len, .position = f->next_position + t->position});
    }
    if (n) f->next_position += tokens[n - 1].position + 1;
    f->next_position += TEXT_POSITION_GAP;
    return 0;
}

struct text_writer {
    struct index_writer base;
    struct inverted_writer *inverted;
    uint8_t *norms;
    size_t cap;
    uint32_t length;        /* positions with a token in base.last_doc */
    uint32_t last_position; /* the last of them */
};

static struct index_writer *text_writer_new(const struct index_spec *spec) {
    struct text_writer *w = xcalloc(1, sizeof *w);
    w->base = (struct index_writer){.ops = &index_text, .spec = spec, .last_doc = DOCNO_NONE};
    w->inverted = inverted_writer_new(true, true);
    return &w->base;
}

static void need_norms(struct text_writer *w, size_t n) {
    if (n <= w->cap) return;
    size_t cap = MAX(n, w->cap * 2);
    w->norms = xrealloc(w->norms, cap);
    memset(w->norms + w->cap, 0, cap - w->cap);
    w->cap = cap;
}

static void end_document(struct text_writer *w) {
    if (w->base.last_doc == DOCNO_NONE) return;
    need_norms(w, (size_t)w->base.last_doc + 1);
    w->norms[w->base.last_doc] = norm_encode(w->length);
    w->length = 0;
}

static void text_emit(void *ctx, const struct index_item *item) {
    struct text_writer *w = ctx;
    if (w->base.last_doc != w->base.docno) end_document(w);
    index_writer_begin(&w->base);
    if (!w->length || item->position != w->last_position) w->length++;
    w->last_position = item->position;
    inverted_writer_add(w->inverted, item->term, item->len, w->base.docno, item->position);
}

static size_t text_writer_bytes(const struct index_writer *base) {
    const struct text_writer *w = (const struct text_writer *)base;
    return inverted_writer_bytes(w->inverted) + w->cap;
}

/* What stands beside the inverted index. */
static void write_norms(struct index_out *out, const uint8_t *norms, const struct inverted_region *region) {
    uint64_t *exists = xcalloc(bitmap_words(out->n_docs), sizeof *exists);
    uint32_t n_with = 0;
    for (uint32_t d = 0; d < out->n_docs; d++) {
        if (!norms[d]) continue;
        bitmap_set(exists, d);
        n_with++;
    }
    index_out_region(out, REGION_NORMS, 0, blob_writer_off(out->blob), out->n_docs);
    blob_write(out->blob, norms, out->n_docs);
    index_out_exists(out, exists, n_with);
    free(exists);
    out->stats = (struct field_stats){.n_docs = n_with, .sum_ttf = region->sum_ttf};
    inverted_region_encode(region, &out->ext);
}

static int text_writer_finish(struct index_writer *base, struct index_out *out, struct err *err) {
    struct text_writer *w = (struct text_writer *)base;
    struct inverted_region region;
    if (!w->base.n_docs) return 0;
    end_document(w);
    need_norms(w, out->n_docs);
    int r = inverted_writer_finish(w->inverted, w->norms, out->blob, NULL, NULL, &region, err);
    if (!r) write_norms(out, w->norms, &region);
    return r;
}

static void text_writer_free(struct index_writer *base) {
    struct text_writer *w = (struct text_writer *)base;
    inverted_writer_free(w->inverted);
    free(w->norms);
    free(w);
}

static int merge_norms(const struct index_merge *m, uint8_t *norms, struct err *err) {
    for (size_t i = 0; i < m->n_sources; i++) {
        const struct index_source *s = &m->sources[i];
        const uint8_t *from;
        int r = text_norms(s->field, &from, err);
        if (r) return r;
        for (uint32_t d = 0; d < s->n_docs; d++)
            if (s->map[d] != DOCNO_NONE) norms[s->map[d]] = from[d];
    }
    return 0;
}

static int text_merge(const struct index_merge *m, struct index_out *out, struct err *err) {
    struct inverted_region region;
    const struct segment_field **fields = xmalloc(m->n_sources * sizeof *fields);
    const uint32_t **maps = xmalloc(m->n_sources * sizeof *maps);
    uint8_t *norms = xcalloc(out->n_docs, 1);
    for (size_t i = 0; i < m->n_sources; i++) {
        fields[i] = m->sources[i].field;
        maps[i] = m->sources[i].map;
    }
    int r = merge_norms(m, norms, err);
    if (!r)
        r = inverted_merge(fields, maps, m->n_sources, true, true, norms, out->blob, NULL, NULL, m->cancel,
                           &region, err);
    if (!r) write_norms(out, norms, &region);
    free(fields);
    free(maps);
    free(norms);
    return r;
}

int index_open_inverted(struct segment_field *f, const uint8_t *ext, size_t len, struct err *err) {
    struct cursor c = cursor_of(ext, len);
    if (!f->stats.n_docs) return 0;
    inverted_region_decode(&c, &f->inverted.region);
    return c.bad ? segment_field_corrupt(f, err, "directory entry") : 0;
}

int text_norms(const struct segment_field *f, const uint8_t **ret, struct err *err) {
    const struct region *region;
    if (!f->stats.n_docs) return segment_zeros(f->segment, ret);
    int r = segment_region_need(f->segment, f, REGION_NORMS, &region, ret, err);
    if (r) return r;
    return region->len == segment_n_docs(f->segment) ? 0 : segment_field_corrupt(f, err, "norms");
}

static int text_verify(const struct segment_field *f, struct err *err) {
    const uint8_t *norms;
    const uint64_t *exists;
    uint32_t n_with = 0;
    int r = text_norms(f, &norms, err);
    if (!r) r = segment_field_exists(f, &exists, err);
    for (uint32_t d = 0; !r && d < segment_n_docs(f->segment); d++) {
        n_with += norms[d] != 0;
        if ((norms[d] != 0) != (!exists || bitmap_get(exists, d)))
            r = segment_field_corrupt(f, err, "existence");
    }
    if (!r && (n_with != f->stats.n_docs || f->stats.sum_ttf != f->inverted.region.sum_ttf))
        r = segment_field_corrupt(f, err, "statistics");
    return r || !n_with ? r : inverted_verify(f, segment_n_docs(f->segment), err);
}

const struct index_type_ops index_text = {
    .name = "text",
    .feed = text_feed,
    .writer_new = text_writer_new,
    .writer_emit = text_emit,
    .writer_bytes = text_writer_bytes,
    .writer_finish = text_writer_finish,
    .writer_free = text_writer_free,
    .merge = text_merge,
    .open = index_open_inverted,
    .verify = text_verify,
};
