/* Merging segments.
 *
 *   1. order      k-way over the ids; of equal ids the highest sequence number wins: maps old -> new, ids,
 * seqs, times
 *   2. documents  in the new order; whole compressed blocks are copied where all their documents stay
 * together
 *   3. indexes    per index of the schema, by the type's merge(); what an input has not indexed, or with
 * another version of an analyzer, is indexed first, from its stored documents, into segments of indexes alone
 * that then take part as inputs
 */
#include "index/segment_internal.h"

enum { REINDEX_BYTES = 64 * 1024 * 1024, CANCEL_EVERY = 1024 };

/* A piece of an input, indexed again for the fields that it lacks. */
struct piece {
    struct segment *segment;
    size_t input;
    uint32_t first; /* document of the input that is document 0 of the piece */
};
struct merge {
    struct schema *schema;
    const struct merge_input *inputs;
    size_t n;
    const volatile int *cancel;
    uint32_t **maps;
    struct doc_cache *caches; /* per input, as documents of all of them alternate */
    uint16_t *origin;         /* per new document: its input */
    size_t origin_cap;
    struct doc_feeder feeder; /* for its list of indexes */
    struct piece *pieces;
    size_t n_pieces, cap_pieces;
    struct segment_base_writer base;
};

static int check_cancel(const struct merge *m, struct err *err) {
    return merge_canceled(m->cancel) ? err_set(err, ERR_CANCELED, "canceled") : 0;
}

/* ---- 1. order ---- */

struct order_input {
    struct ids_iter ids;
    const uint64_t *dead, *skip;
};
struct order {
    struct order_input *inputs;
    uint32_t *heap; /* of input numbers, smallest id first */
    size_t n;
};

static int order_next(struct order_input *in, struct err *err) {
    int r;
    while ((r = ids_iter_next(&in->ids, err)) == 1)
        if (!deletes_has(in->dead, in->ids.next - 1) && !deletes_has(in->skip, in->ids.next - 1)) return 1;
    return r;
}

static bool order_less(const struct order *o, uint32_t a, uint32_t b) {
    const struct ids_iter *x = &o->inputs[a].ids, *y = &o->inputs[b].ids;
    int c = id_compare(x->id, x->len, y->id, y->len);
    return c ? c < 0 : a < b;
}

static void heap_down(struct order *o, size_t i) {
    for (size_t child; (child = 2 * i + 1) < o->n; i = child) {
        if (child + 1 < o->n && order_less(o, o->heap[child + 1], o->heap[child])) child++;
        if (!order_less(o, o->heap[child], o->heap[i])) return;
        uint32_t moved = o->heap[i];
        o->heap[i] = o->heap[child];
        o->heap[child] = moved;
    }
}

/* Moves the top on to its next live document. */
static int heap_step(struct order *o, struct err *err) {
    int r = order_next(&o->inputs[o->heap[0]], err);
    if (r < 0) return r;
    if (r == 0) o->heap[0] = o->heap[--o->n];
    heap_down(o, 0);
    return 0;
}

static int order_init(struct order *o, const struct merge *m, struct err *err) {
    o->inputs = xcalloc(m->n, sizeof *o->inputs);
    o->heap = xcalloc(m->n, sizeof *o->heap);
    o->n = 0;
    for (size_t i = 0; i < m->n; i++) {
        ids_iter_init(&o->inputs[i].ids, &m->inputs[i].segment->ids);
        o->inputs[i].dead = deletes_bits(m->inputs[i].deletes);
        o->inputs[i].skip = m->inputs[i].skip;
        int r = order_next(&o->inputs[i], err);
        if (r < 0) return r;
        if (r) o->heap[o->n++] = (uint32_t)i;
    }
    for (size_t i = o->n; i-- > 0;) heap_down(o, i);
    return 0;
}

static int take_document(struct merge *m, uint32_t input, uint32_t docno, const struct ids_iter *id,
                         uint64_t seq, int64_t time_ms, struct err *err) {
    uint32_t to = m->base.summary.n_docs;
    int r = segment_base_add(&m->base, id->id, id->len, seq, time_ms, err);
    if (r) return r;
    if (to == m->origin_cap) {
        m->origin_cap = m->origin_cap ? m->origin_cap * 2 : 1024;
        m->origin = xrealloc(m->origin, m->origin_cap * sizeof *m->origin);
    }
    m->origin[to] = (uint16_t)input;
    m->maps[input][docno] = to;
    return 0;
}

/* Takes the top's id off the heap, from every input that has it. */
static int order_one(struct merge *m, struct order *o, struct err *err) {
    uint32_t winner = o->heap[0];
    struct ids_iter id = o->inputs[winner].ids;
    uint32_t docno = id.next - 1;
    uint64_t seq, other_seq;
    int64_t time_ms, other_time;
    int r = segment_seq(m->inputs[winner].segment, docno, &seq, &time_ms, err);
    if (!r) r = heap_step(o, err);
    while (!r && o->n) {
        uint32_t other = o->heap[0];
        const struct ids_iter *it = &o->inputs[other].ids;
        if (id_compare(it->id, it->len, id.id, id.len)) break;
        r = segment_seq(m->inputs[other].segment, it->next - 1, &other_seq, &other_time, err);
        if (!r && other_seq > seq) {
            winner = other;
            docno = it->next - 1;
            seq = other_seq;
            time_ms = other_time;
        }
        if (!r) r = heap_step(o, err);
    }
    return r ? r : take_document(m, winner, docno, &id, seq, time_ms, err);
}

static int merge_order(struct merge *m, struct err *err) {
    struct order o = {0};
    int r = order_init(&o, m, err);
    while (!r && o.n) {
        if (m->base.summary.n_docs % CANCEL_EVERY == 0) r = check_cancel(m, err);
        if (!r) r = order_one(m, &o, err);
    }
    free(o.inputs);
    free(o.heap);
    return r;
}

/* ---- 2. documents ---- */

/* Whether the block of old document `docno`, the new document `to`, can move as it is: all its documents
 * stay, side by side, and it is not so small that merging would pile up small blocks. */
static int can_copy_block(struct merge *m, size_t input, uint32_t docno, bool *ret, uint32_t *ret_n,
                          struct err *err) {
    uint32_t first, end, bytes;
    const uint32_t *map = m->maps[input];
    const struct docstore *docs = &m->inputs[input].segment->docs;
    *ret = false;
    int r = docstore_block_of(docs, docno, &first, &end, &bytes, err);
    if (r || first != docno || !docstore_writer_may_copy(&m->base.docs, bytes)) return r;
    *ret_n = end - first;
    uint32_t n = 1;
    while (first + n < end && map[first + n] == map[first] + n) n++;
    *ret = first + n == end;
    return 0;
}

static int copy_document(struct merge *m, size_t input, uint32_t docno, uint32_t *ret_n, struct err *err) {
    const struct docstore *docs = &m->inputs[input].segment->docs;
    const uint8_t *raw;
    uint32_t len;
    bool whole;
    int r = can_copy_block(m, input, docno, &whole, ret_n, err);
    if (r) return r;
    if (whole) {
        for (uint32_t i = 0; !r && i < *ret_n; i++) {
            r = docstore_size(docs, docno + i, &len, err);
            m->base.summary.raw_bytes += r ? 0 : len;
        }
        return r ? r : docstore_copy_block(docs, docno, &m->base.docs, err);
    }
    *ret_n = 1;
    r = docstore_peek(docs, &m->caches[input], docno, &raw, &len, err);
    if (r) return r;
    m->base.summary.raw_bytes += len;
    return docstore_writer_add(&m->base.docs, raw, len, err);
}

/* New blocks have the dictionary of the largest input that has one. */
static int inherit_dictionary(struct merge *m, struct err *err) {
    const struct docstore *from = NULL;
    for (size_t i = 0; i < m->n; i++) {
        const struct docstore *docs = &m->inputs[i].segment->docs;
        if (docs->place.dicts_len && (!from || docs->n > from->n)) from = docs;
    }
    return from ? docstore_writer_inherit(&m->base.docs, from, err) : 0;
}

static int merge_documents(struct merge *m, struct err *err) {
    uint32_t *next = xcalloc(m->n, sizeof *next);
    int r = inherit_dictionary(m, err);
    for (uint32_t to = 0, n; !r && to < m->base.summary.n_docs; to += n) {
        uint16_t i = m->origin[to];
        if (to % CANCEL_EVERY == 0 && (r = check_cancel(m, err))) break;
        while (m->maps[i][next[i]] == DOCNO_NONE) next[i]++;
        r = copy_document(m, i, next[i], &n, err);
        next[i] += r ? 0 : n;
    }
    free(next);
    return r;
}

/* ---- 3. indexes ---- */

/* NULL: to be indexed again. An index of an analyzer that is not there today is kept as it is. */
static const struct segment_field *field_of(const struct segment *s, const struct index_spec *spec) {
    const struct segment_field *f = segment_field(s, spec->path, spec->path_len, spec->type, spec->analyzer);
    if (!f || !index_spec_equal(&f->spec, spec)) return NULL;
    return segment_field_current(f) || !analyzer_fingerprint(spec->analyzer) ? f : NULL;
}

/* The part of the schema that the input has not indexed, with the objects that lead there; NULL when nothing
 * is missing. Paths are the schema's (free_borrowed_schema). */
static struct schema *missing_part(const struct merge *m, const struct segment *input) {
    struct schema *part = xcalloc(1, sizeof *part);
    bool any = false;
    part->refs = 1;
    part->fields = xcalloc(m->schema->n_fields, sizeof *part->fields);
    for (uint32_t i = 0; i < m->schema->n_fields; i++) {
        struct field f = m->schema->fields[i];
        f.analyzers = 0;
        bool missing = false;
        for (uint32_t k = m->feeder.first_spec[i]; k < m->feeder.first_spec[i + 1]; k++) {
            const struct index_spec *spec = &m->feeder.specs[k];
            if (!index_type(spec->type) || field_of(input, spec)) continue;
            f.analyzers |= (uint8_t)(1u << spec->analyzer);
            missing = true;
        }
        any |= missing;
        if (missing || f.type == FIELD_OBJECT) part->fields[part->n_fields++] = f;
    }
    if (any) return part;
    free_borrowed_schema(part);
    return NULL;
}

static int finish_piece(struct merge *m, struct segment_writer *w, struct blob_writer *out, size_t input,
                        uint32_t first, struct err *err) {
    uint64_t size;
    uint32_t checksum;
    struct blob *blob;
    struct segment *segment;
    int r = segment_writer_finish(w, NULL, &size, &checksum, err);
    if (r) return r;
    size_t len;
    uint8_t *data = buf_detach(&out->mem, &len);
    r = blob_open_memory(data, len, BLOB_KIND_SEGMENT, &blob, err);
    if (!r) r = segment_open(blob, &segment, err);
    if (r) return r;
    VEC_GROW(m->pieces, m->n_pieces, m->cap_pieces);
    m->pieces[m->n_pieces++] = (struct piece){segment, input, first};
    return 0;
}

/* Indexes documents from *first on until memory is used up; *first is then where the next piece starts. */
static int reindex_piece(struct merge *m, size_t input, struct schema *part, uint32_t *first,
                         struct err *err) {
    const struct segment *s = m->inputs[input].segment;
    struct blob_writer out;
    uint32_t docno = *first;
    int r = 0;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new_indexes(part, &out);
    for (; !r && docno < s->summary.n_docs; docno++) {
        const uint8_t *raw = NULL;
        uint32_t len = 0;
        if (docno % CANCEL_EVERY == 0 && (r = check_cancel(m, err))) break;
        if (docno % 64 == 0 && docno > *first && segment_writer_bytes(w) > REINDEX_BYTES) break;
        if (m->maps[input][docno] != DOCNO_NONE) r = docstore_peek(&s->docs, NULL, docno, &raw, &len, err);
        if (!r) r = segment_writer_add_indexes(w, (const char *)raw, len, err);
    }
    if (!r) r = finish_piece(m, w, &out, input, *first, err);
    segment_writer_free(w);
    blob_writer_release(&out);
    *first = docno;
    return r;
}

static int reindex_missing(struct merge *m, struct err *err) {
    int r = 0;
    for (size_t i = 0; !r && i < m->n; i++) {
        struct schema *part = missing_part(m, m->inputs[i].segment);
        for (uint32_t docno = 0; part && !r && docno < m->inputs[i].segment->summary.n_docs;)
            r = reindex_piece(m, i, part, &docno, err);
        free_borrowed_schema(part);
    }
    return r;
}

static void add_source(struct index_source *sources, size_t *n, const struct segment_field *f,
                       const uint32_t *map) {
    if (f->stats.n_docs) sources[(*n)++] = (struct index_source){f, map, segment_n_docs(f->segment)};
}

static size_t sources_of(const struct merge *m, const struct index_spec *spec, struct index_source *sources) {
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct segment_field *f = field_of(m->inputs[i].segment, spec);
        if (f) add_source(sources, &n, f, m->maps[i]);
    }
    for (size_t i = 0; i < m->n_pieces; i++) {
        const struct piece *p = &m->pieces[i];
        const struct segment_field *f = field_of(p->segment, spec);
        if (f) add_source(sources, &n, f, m->maps[p->input] + p->first);
    }
    return n;
}

/* Of the merged index: that of all its inputs. */
static uint64_t fingerprint_of(const struct merge *m, const struct index_spec *spec) {
    uint64_t common = 0;
    for (size_t i = 0; spec->type == FIELD_TEXT && i < m->n; i++) {
        const struct segment_field *f = field_of(m->inputs[i].segment, spec);
        if (f && !f->fingerprint && !f->stats.n_docs) continue;
        uint64_t v = f ? f->fingerprint : analyzer_fingerprint(spec->analyzer);
        if (!v || (common && v != common)) return 0;
        common = v;
    }
    return common;
}

static int merge_indexes(struct merge *m, struct segment_dir_entry *entries, struct buf *regions,
                         struct err *err) {
    struct index_source *sources = xcalloc(m->n + m->n_pieces, sizeof *sources);
    int r = 0;
    for (uint32_t i = 0; !r && i < m->feeder.n_specs; i++) {
        const struct index_spec *spec = &m->feeder.specs[i];
        const struct index_type_ops *ops = index_type(spec->type);
        struct index_out out = {
            .blob = m->base.out, .regions = regions, .n_docs = m->base.summary.n_docs, .entry = (uint16_t)i};
        struct index_merge im = {.spec = spec, .sources = sources, .cancel = m->cancel};
        entries[i].fingerprint = fingerprint_of(m, spec);
        if (!ops || !(im.n_sources = sources_of(m, spec, sources))) continue;
        r = check_cancel(m, err);
        if (!r) r = ops->merge(&im, &out, err);
        if (!r && !out.stats.n_docs) buf_clear(&out.ext); /* nothing survived: as if nobody ever had it */
        entries[i].stats = out.stats;
        entries[i].ext = out.ext;
    }
    free(sources);
    return r;
}

static int merge_finish(struct merge *m, struct segment_summary *ret, uint64_t *ret_size,
                        uint32_t *ret_checksum, struct err *err) {
    struct buf regions = BUF_INIT;
    struct segment_dir_entry *entries = xcalloc(m->feeder.n_specs, sizeof *entries);
    int r = segment_base_finish(&m->base, &regions, err);
    if (!r) r = merge_indexes(m, entries, &regions, err);
    if (!r) {
        segment_base_finish_last(&m->base, &regions);
        segment_dir_write(m->base.out, &m->base.summary, m->schema->version, m->feeder.specs, entries,
                          m->feeder.n_specs, &regions);
        r = blob_writer_finish(m->base.out, ret_size, ret_checksum, err);
    }
    if (!r && ret) *ret = m->base.summary;
    segment_dir_entries_free(entries, m->feeder.n_specs);
    buf_release(&regions);
    return r;
}

static void merge_release(struct merge *m, uint32_t **ret_maps) {
    for (size_t i = 0; i < m->n; i++) {
        if (ret_maps)
            ret_maps[i] = m->maps[i];
        else
            free(m->maps[i]);
    }
    for (size_t i = 0; i < m->n; i++) buf_release(&m->caches[i].raw);
    for (size_t i = 0; i < m->n_pieces; i++) segment_unref(m->pieces[i].segment);
    free(m->pieces);
    free(m->maps);
    free(m->caches);
    free(m->origin);
    doc_feeder_release(&m->feeder);
    segment_base_release(&m->base);
}

int segment_merge(struct schema *schema, const struct merge_input *inputs, size_t n, struct blob_writer *out,
                  const volatile int *cancel, struct segment_summary *ret, uint64_t *ret_size,
                  uint32_t *ret_checksum, uint32_t **ret_maps, struct err *err) {
    struct merge m = {.schema = schema, .inputs = inputs, .n = n, .cancel = cancel};
    if (n > UINT16_MAX)
        return err_set(err, ERR_INVALID, "cannot merge more than %d segments", (int)UINT16_MAX);
    segment_base_init(&m.base, out);
    doc_feeder_init(&m.feeder, schema);
    m.maps = xcalloc(n, sizeof *m.maps);
    m.caches = xcalloc(n, sizeof *m.caches);
    for (size_t i = 0; i < n; i++) {
        size_t size = (size_t)inputs[i].segment->summary.n_docs * sizeof **m.maps;
        m.maps[i] = xmalloc(size);
        memset(m.maps[i], 0xff, size);
    }
    int r = merge_order(&m, err);
    if (!r) r = merge_documents(&m, err);
    if (!r) r = reindex_missing(&m, err);
    if (!r) r = merge_finish(&m, ret, ret_size, ret_checksum, err);
    merge_release(&m, r ? NULL : ret_maps);
    return r;
}
