/* Reading a segment: opening, documents, ids, fields, columns. The directory is segment_dir.c's. */
#include "index/segment_internal.h"
#include "index/vectors.h"

#include <stdarg.h>
#include <stdio.h>

uint64_t segment_doc_hash(const char *id, size_t id_len, uint64_t seq) {
    return hash64(id, id_len, seq);
}

int segment_corrupt(const struct segment *s, struct err *err, const char *fmt, ...) {
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(err, ERR_CORRUPT, "segment '%s': %s", blob_name(s->blob), text);
}

int segment_field_corrupt(const struct segment_field *f, struct err *err, const char *what) {
    return segment_corrupt(f->segment, err, "field '%.100s': damaged %s", f->spec.path, what);
}

/* ---- opening ---- */

static void segment_free(struct segment *s) {
    for (uint32_t i = 0; i < s->n_fields; i++) {
        free(atomic_load(&s->fields[i].column));
        vectors_cache_free(atomic_load(&s->fields[i].vectors));
    }
    free(atomic_load(&s->seq));
    free(atomic_load(&s->time));
    free(atomic_load(&s->zeros));
    free(atomic_load(&s->partitions));
    free(s->fields);
    free(s->regions);
    arena_release(&s->arena);
    docstore_release(&s->docs);
    blob_close(s->blob);
    free(s);
}

/* Documents and ids; segments of a merge's re-indexed fields have none, and an error says so when asked. */
static int open_documents(struct segment *s, struct err *err) {
    const struct region *blocks = segment_region(s, NULL, REGION_DOC_BLOCKS);
    const struct region *index = segment_region(s, NULL, REGION_DOC_INDEX);
    const struct region *starts = segment_region(s, NULL, REGION_DOC_STARTS);
    const struct region *ids = segment_region(s, NULL, REGION_IDS);
    const struct region *id_index = segment_region(s, NULL, REGION_ID_INDEX);
    s->docs = (struct docstore){.blob = s->blob, .uid = s->uid};
    s->ids = (struct ids){.blob = s->blob};
    if (!blocks && !ids) return 0;
    if (!blocks || !index || !starts || !ids || !id_index)
        return segment_corrupt(s, err, "a region is missing");
    if (!packed_width_ok(starts->param) || !packed_width_ok(id_index->param))
        return segment_corrupt(s, err, "damaged region table");
    s->docs.n = s->ids.n = s->summary.n_docs;
    s->docs.place = (struct docstore_place){.blocks_off = blocks->off,
                                            .blocks_len = blocks->len,
                                            .index_off = index->off,
                                            .index_len = index->len,
                                            .starts_off = starts->off,
                                            .starts_len = starts->len,
                                            .start_width = starts->param};
    const struct region *dicts = segment_region(s, NULL, REGION_DOC_DICTS);
    if (dicts) s->docs.place.dicts_off = dicts->off, s->docs.place.dicts_len = dicts->len;
    s->ids.place = (struct ids_place){ids->off, ids->len, id_index->off, id_index->len, id_index->param};
    return 0;
}

int segment_open(struct blob *blob, struct segment **ret, struct err *err) {
    static atomic_uint_fast64_t next_uid = 1;
    struct segment *s = xcalloc(1, sizeof *s);
    atomic_init(&s->refs, 1);
    s->uid = atomic_fetch_add(&next_uid, 1);
    s->blob = blob;
    int r = segment_dir_read(s, err);
    if (!r) r = open_documents(s, err);
    if (r) {
        segment_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct segment *segment_ref(struct segment *s) {
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void segment_unref(struct segment *s) {
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) segment_free(s);
}

uint32_t segment_n_docs(const struct segment *s) {
    return s->summary.n_docs;
}
const char *segment_name(const struct segment *s) {
    return blob_name(s->blob);
}

/* ---- regions ---- */

const struct region *segment_region(const struct segment *s, const struct segment_field *f, uint16_t kind) {
    uint32_t lo = f ? f->first_region : 0, hi = f ? lo + f->n_regions : s->n_regions;
    uint16_t entry = f ? f->entry : ENTRY_NONE;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const struct region *r = &s->regions[mid];
        if (r->entry == entry && r->kind == kind) return r;
        if (r->entry < entry || (r->entry == entry && r->kind < kind))
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

int segment_region_need(const struct segment *s, const struct segment_field *f, uint16_t kind,
                        const struct region **ret_region, const uint8_t **ret, struct err *err) {
    const struct region *region = segment_region(s, f, kind);
    if (!region)
        return segment_corrupt(s, err, "region %u of '%.100s' is missing", kind, f ? f->spec.path : "");
    *ret_region = region;
    return blob_need(s->blob, region->off, region->len, ret, err);
}

int segment_zeros(const struct segment *s, const uint8_t **ret) {
    uint8_t *_Atomic *slot = (uint8_t * _Atomic *)&s->zeros;
    uint8_t *zeros = atomic_load(slot), *none = NULL;
    if (!zeros) {
        zeros = xcalloc(bitmap_words(s->summary.n_docs), 64);
        if (!atomic_compare_exchange_strong(slot, &none, zeros)) {
            free(zeros);
            zeros = none;
        }
    }
    *ret = zeros;
    return 0;
}

/* ---- documents ---- */

static bool id_outside(const struct segment *s, const char *id, size_t len, uint32_t *ret_ceil) {
    const struct segment_summary *m = &s->summary;
    if (!s->ids.n || id_compare(id, len, m->id_max, m->id_max_len) > 0) return *ret_ceil = s->ids.n, true;
    if (id_compare(id, len, m->id_min, m->id_min_len) < 0) return *ret_ceil = 0, true;
    return false;
}

int segment_find_id(const struct segment *s, const char *id, size_t len, uint32_t *ret_docno,
                    struct err *err) {
    bool found;
    uint32_t docno;
    *ret_docno = DOCNO_NONE;
    if (id_outside(s, id, len, &docno)) return 0;
    int r = ids_find(&s->ids, id, len, &found, &docno, err);
    if (!r && found) *ret_docno = docno;
    return r;
}

int segment_id_ceil(const struct segment *s, const char *id, size_t len, uint32_t *ret_docno,
                    struct err *err) {
    bool found;
    return id_outside(s, id, len, ret_docno) ? 0 : ids_find(&s->ids, id, len, &found, ret_docno, err);
}

int segment_id(const struct segment *s, uint32_t docno, struct buf *out, struct err *err) {
    return ids_get(&s->ids, docno, out, err);
}

int segment_doc(const struct segment *s, uint32_t docno, struct buf *out, struct err *err) {
    return docstore_get(&s->docs, docno, out, err);
}

bool segment_doc_at_hand(const struct segment *s, uint32_t docno, uint32_t *ret_size, uint32_t *ret_first,
                         uint32_t *ret_end) {
    return docstore_at_hand(&s->docs, docno, ret_size, ret_first, ret_end);
}

int segment_doc_to(const struct segment *s, uint32_t docno, uint8_t *to, uint32_t size, struct err *err) {
    const uint8_t *p;
    uint32_t len;
    int r = docstore_peek(&s->docs, NULL, docno, &p, &len, err);
    if (!r && len != size) r = err_set(err, ERR_INVALID, "the document has %u bytes, not %u", len, size);
    if (!r) memcpy(to, p, size);
    return r;
}

int segment_doc_size(const struct segment *s, uint32_t docno, uint32_t *ret, struct err *err) {
    return docstore_size(&s->docs, docno, ret, err);
}

/* A column that was opened before points into pages that may have been let go since. */
static int renew_column(const struct segment *s, const struct segment_field *f, uint16_t kind,
                        struct err *err) {
    const struct region *region = segment_region(s, f, kind),
                        *exists = f ? segment_region(s, f, REGION_EXISTS) : NULL;
    const uint8_t *p;
    int r = 0;
    if (!blob_is_remote(s->blob)) return 0;
    if (region) r = blob_need(s->blob, region->off, region->len, &p, err);
    if (!r && exists) r = blob_need(s->blob, exists->off, exists->len, &p, err);
    return r;
}

/* Publishes a column at its first use; of two threads that make it, one wins. */
static int open_column(const struct segment *s, const struct segment_field *f, uint16_t kind,
                       const uint64_t *exists, struct column *_Atomic *slot, const struct column **ret,
                       struct err *err) {
    struct column *c = atomic_load_explicit(slot, memory_order_acquire), *none = NULL;
    int renewed = c ? renew_column(s, f, kind, err) : 0;
    if (renewed) return renewed;
    if (!c) {
        const struct region *region;
        const uint8_t *p;
        int r = segment_region_need(s, f, kind, &region, &p, err);
        if (r) return r;
        c = xmalloc(sizeof *c);
        r = column_decode(p, region->len, s->summary.n_docs, exists, blob_name(s->blob), c, err);
        if (r) {
            free(c);
            return r;
        }
        if (!atomic_compare_exchange_strong(slot, &none, c)) {
            free(c);
            c = none;
        }
    }
    *ret = c;
    return 0;
}

int segment_seq(const struct segment *s, uint32_t docno, uint64_t *ret_seq, int64_t *ret_time_ms,
                struct err *err) {
    const struct column *seq, *time;
    if (docno >= s->summary.n_docs) return segment_corrupt(s, err, "no document %u", docno);
    int r = open_column(s, NULL, REGION_SEQ, NULL, (struct column * _Atomic *)&s->seq, &seq, err);
    if (!r) r = open_column(s, NULL, REGION_TIME, NULL, (struct column * _Atomic *)&s->time, &time, err);
    if (r) return r;
    if (ret_seq) *ret_seq = (uint64_t)column_value(seq, docno, 0);
    if (ret_time_ms) *ret_time_ms = column_value(time, docno, 0);
    return 0;
}

/* ---- fields ---- */

const struct segment_field *segment_field(const struct segment *s, const char *path, size_t len,
                                          enum field_type type, enum analyzer analyzer) {
    uint32_t lo = 0, hi = s->n_fields;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const struct index_spec *spec = &s->fields[mid].spec;
        int c = id_compare(spec->path, spec->path_len, path, len);
        if (!c) c = spec->type - (int)type;
        if (!c) c = spec->analyzer - (type == FIELD_TEXT ? (int)analyzer : 0);
        if (!c) return s->fields[mid].ops ? &s->fields[mid] : NULL;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

void segment_field_stats(const struct segment_field *f, struct field_stats *ret) {
    *ret = f->stats;
}
const struct inverted *segment_field_inverted(const struct segment_field *f) {
    return &f->inverted;
}

int segment_field_exists(const struct segment_field *f, const uint64_t **ret, struct err *err) {
    const struct segment *s = f->segment;
    const struct region *region;
    const uint8_t *p;
    *ret = NULL;
    if (f->stats.n_docs == s->summary.n_docs) return 0;
    int r =
        f->stats.n_docs ? segment_region_need(s, f, REGION_EXISTS, &region, &p, err) : segment_zeros(s, &p);
    if (r) return r;
    if (f->stats.n_docs &&
        (region->len != bitmap_words(s->summary.n_docs) * sizeof(uint64_t) || region->off % 8))
        return segment_field_corrupt(f, err, "existence bitmap");
    *ret = (const uint64_t *)p;
    return 0;
}

int column_open(const struct segment_field *f, const struct column **ret, struct err *err) {
    struct column *_Atomic *slot = (struct column * _Atomic *)&f->column;
    const struct segment *s = f->segment;
    const uint64_t *exists;
    *ret = atomic_load_explicit(slot, memory_order_acquire);
    if (*ret) return renew_column(s, f, REGION_COLUMN, err);
    if (f->ops != &index_number && f->ops != &index_keyword)
        return err_set(err, ERR_UNSUPPORTED, "field '%s' has no column", f->spec.path);
    int r = segment_field_exists(f, &exists, err);
    if (r) return r;
    if (f->stats.n_docs) return open_column(s, f, REGION_COLUMN, exists, slot, ret, err);
    struct column *empty = xcalloc(1, sizeof *empty), *none = NULL;
    *empty =
        (struct column){.name = blob_name(s->blob), .n_docs = s->summary.n_docs, .gcd = 1, .exists = exists};
    if (!atomic_compare_exchange_strong(slot, &none, empty)) {
        free(empty);
        empty = none;
    }
    *ret = empty;
    return 0;
}

/* ---- the segment's own schema ---- */

struct schema *segment_borrow_schema(const struct segment *s) {
    struct schema *schema = xcalloc(1, sizeof *schema);
    schema->refs = 1;
    schema->version = s->schema_version;
    schema->fields = xcalloc(s->n_fields, sizeof *schema->fields);
    for (uint32_t i = 0; i < s->n_fields; i++) {
        const struct index_spec *spec = &s->fields[i].spec;
        struct field *last = schema->n_fields ? &schema->fields[schema->n_fields - 1] : NULL;
        if (last && !id_compare(last->path, last->path_len, spec->path, spec->path_len)) {
            last->analyzers |= (uint8_t)(1u << spec->analyzer);
            continue;
        }
        schema->fields[schema->n_fields++] =
            (struct field){.path = (char *)spec->path,
                           .path_len = spec->path_len,
                           .type = spec->type,
                           .analyzers = (uint8_t)(1u << (spec->analyzer & 7)),
                           .similarity = spec->similarity,
                           .inferred = spec->inferred,
                           .dimensions = spec->dimensions};
    }
    return schema;
}

void free_borrowed_schema(struct schema *schema) {
    if (!schema) return;
    free(schema->fields);
    free(schema);
}

struct doc_feeder *segment_feeder(const struct segment *s) {
    struct index_scratch *scratch = index_scratch();
    if (scratch->feeder_segment == s->uid) return &scratch->feeder;
    doc_feeder_release(&scratch->feeder);
    free_borrowed_schema(scratch->feeder_schema);
    scratch->feeder_schema = segment_borrow_schema(s);
    doc_feeder_init(&scratch->feeder, scratch->feeder_schema);
    for (uint32_t i = 0; i < scratch->feeder.n_specs && i < s->n_fields; i++)
        scratch->feeder.feeders[i].ops =
            s->fields[i].ops; /* what this segment indexed, not what this program can */
    scratch->feeder_segment = s->uid;
    return &scratch->feeder;
}
