/* Documents to a segment: the one place where that happens. */
#include "index/segment_internal.h"

/* ---- what is kept of documents besides their indexes ---- */

void segment_base_init(struct segment_base_writer *w, struct blob_writer *out) {
    *w = (struct segment_base_writer){.out = out};
    docstore_writer_init(&w->docs, out);
}

int segment_base_add(struct segment_base_writer *w, const char *id, size_t id_len, uint64_t seq,
                     int64_t time_ms, struct err *err) {
    struct segment_summary *s = &w->summary;
    if (s->n_docs >= SEGMENT_MAX_DOCS)
        return err_set(err, ERR_TOO_LARGE, "too many documents for one segment");
    int r = ids_writer_add(&w->ids, id, id_len, err);
    if (r) return r;
    if (!s->n_docs) {
        s->seq_min = s->seq_max = seq;
        s->time_min = s->time_max = time_ms;
        memcpy(s->id_min, id, id_len);
        s->id_min_len = (uint32_t)id_len;
    }
    s->seq_min = MIN(s->seq_min, seq);
    s->seq_max = MAX(s->seq_max, seq);
    s->time_min = MIN(s->time_min, time_ms);
    s->time_max = MAX(s->time_max, time_ms);
    s->checksum_sum += segment_doc_hash(id, id_len, seq);
    column_builder_add(&w->seqs, s->n_docs, (int64_t)seq);
    column_builder_add(&w->times, s->n_docs, time_ms);
    s->n_docs++;
    return 0;
}

static void put_region(struct buf *regions, uint16_t kind, uint32_t param, uint64_t off, uint64_t len) {
    region_encode(regions, &(struct region){kind, ENTRY_NONE, param, off, len});
}

static void write_column(struct segment_base_writer *w, uint16_t kind, struct column_builder *b,
                         struct buf *regions) {
    uint64_t *exists = xcalloc(bitmap_words(w->summary.n_docs), sizeof *exists), off, len;
    column_write(b, w->summary.n_docs, w->out, exists, &off, &len);
    put_region(regions, kind, 0, off, len);
    free(exists);
}

int segment_base_finish(struct segment_base_writer *w, struct buf *regions, struct err *err) {
    struct docstore_place d;
    struct ids_place i;
    struct segment_summary *s = &w->summary;
    int r = docstore_writer_finish(&w->docs, &d, err);
    if (r) return r;
    put_region(regions, REGION_DOC_BLOCKS, 0, d.blocks_off, d.blocks_len);
    put_region(regions, REGION_DOC_INDEX, 0, d.index_off, d.index_len);
    put_region(regions, REGION_DOC_STARTS, d.start_width, d.starts_off, d.starts_len);
    ids_writer_finish(&w->ids, w->out, &i);
    put_region(regions, REGION_IDS, 0, i.data_off, i.data_len);
    put_region(regions, REGION_ID_INDEX, i.width, i.index_off, i.index_len);
    write_column(w, REGION_SEQ, &w->seqs, regions);
    write_column(w, REGION_TIME, &w->times, regions);
    if (w->ids.last.len) memcpy(s->id_max, w->ids.last.data, w->ids.last.len);
    s->id_max_len = (uint32_t)w->ids.last.len;
    return 0;
}

void segment_base_finish_last(struct segment_base_writer *w, struct buf *regions) {
    uint64_t off, len;
    docstore_writer_finish_dicts(&w->docs, &off, &len);
    if (len) put_region(regions, REGION_DOC_DICTS, 0, off, len);
}

void segment_base_release(struct segment_base_writer *w) {
    docstore_writer_release(&w->docs);
    ids_writer_release(&w->ids);
    column_builder_release(&w->seqs);
    column_builder_release(&w->times);
}

/* ---- the writer ---- */

struct segment_writer {
    struct schema *schema;
    struct blob_writer *out;
    bool indexes_only;
    uint32_t docno; /* of the document being added */
    struct doc_feeder feeder;
    struct index_writer **writers; /* per spec, made at its first value */
    struct segment_base_writer base;
};

static struct segment_writer *writer_new(struct schema *schema, struct blob_writer *out, bool indexes_only) {
    struct segment_writer *w = xcalloc(1, sizeof *w);
    w->schema = schema_ref(schema);
    w->out = out;
    w->indexes_only = indexes_only;
    segment_base_init(&w->base, out);
    doc_feeder_init(&w->feeder, schema);
    w->writers = xcalloc(w->feeder.n_specs, sizeof *w->writers);
    return w;
}

struct segment_writer *segment_writer_new(struct schema *schema, struct blob_writer *out) {
    return writer_new(schema, out, false);
}

struct segment_writer *segment_writer_new_indexes(struct schema *schema, struct blob_writer *out) {
    return writer_new(schema, out, true);
}

static int add_value(void *ctx, uint32_t spec_no, struct index_feeder *f, const struct jval *value,
                     struct err *err) {
    struct segment_writer *w = ctx;
    struct index_writer **slot = &w->writers[spec_no];
    if (!*slot) *slot = f->ops->writer_new(f->spec);
    (*slot)->docno = w->docno;
    if (f->ops->writer_add) return f->ops->writer_add(*slot, f, value, err);
    return f->ops->feed(f, value, f->ops->writer_emit, *slot, err);
}

int segment_writer_add(struct segment_writer *w, const char *id, size_t id_len, uint64_t seq, int64_t time_ms,
                       const char *raw, size_t raw_len, struct err *err) {
    w->docno = w->base.summary.n_docs;
    int r = segment_base_add(&w->base, id, id_len, seq, time_ms, err);
    if (!r) r = docstore_writer_add(&w->base.docs, raw, raw_len, err);
    if (!r) r = doc_feeder_run(&w->feeder, raw, raw_len, add_value, w, err);
    if (!r) w->base.summary.raw_bytes += raw_len;
    return r;
}

int segment_writer_add_indexes(struct segment_writer *w, const char *raw, size_t raw_len, struct err *err) {
    w->docno = w->base.summary.n_docs++;
    return raw ? doc_feeder_run(&w->feeder, raw, raw_len, add_value, w, err) : 0;
}

size_t segment_writer_bytes(const struct segment_writer *w) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < w->feeder.n_specs; i++)
        if (w->writers[i]) bytes += w->writers[i]->ops->writer_bytes(w->writers[i]);
    return bytes;
}

static int finish_indexes(struct segment_writer *w, struct segment_dir_entry *entries, struct buf *regions,
                          struct err *err) {
    int r = 0;
    for (uint32_t i = 0; !r && i < w->feeder.n_specs; i++) {
        struct index_out out = {
            .blob = w->out, .regions = regions, .n_docs = w->base.summary.n_docs, .entry = (uint16_t)i};
        if (!w->writers[i]) continue;
        r = w->writers[i]->ops->writer_finish(w->writers[i], &out, err);
        entries[i] = (struct segment_dir_entry){.stats = out.stats, .ext = out.ext};
        if (w->feeder.specs[i].type == FIELD_TEXT)
            entries[i].fingerprint = analyzer_fingerprint(w->feeder.specs[i].analyzer);
        w->writers[i]->ops->writer_free(w->writers[i]);
        w->writers[i] = NULL;
    }
    return r;
}

int segment_writer_finish(struct segment_writer *w, struct segment_summary *ret, uint64_t *ret_size,
                          uint32_t *ret_checksum, struct err *err) {
    struct buf regions = BUF_INIT;
    struct segment_dir_entry *entries = xcalloc(w->feeder.n_specs, sizeof *entries);
    int r = w->indexes_only ? 0 : segment_base_finish(&w->base, &regions, err);
    if (!r) r = finish_indexes(w, entries, &regions, err);
    if (!r) {
        if (!w->indexes_only) segment_base_finish_last(&w->base, &regions);
        segment_dir_write(w->out, &w->base.summary, w->schema->version, w->feeder.specs, entries,
                          w->feeder.n_specs, &regions);
        r = blob_writer_finish(w->out, ret_size, ret_checksum, err);
    }
    if (!r && ret) *ret = w->base.summary;
    segment_dir_entries_free(entries, w->feeder.n_specs);
    buf_release(&regions);
    return r;
}

void segment_writer_free(struct segment_writer *w) {
    if (!w) return;
    for (uint32_t i = 0; i < w->feeder.n_specs; i++)
        if (w->writers[i]) w->writers[i]->ops->writer_free(w->writers[i]);
    free(w->writers);
    doc_feeder_release(&w->feeder);
    segment_base_release(&w->base);
    schema_unref(w->schema);
    free(w);
}
