/* Ranges of a segment that will be needed. */
#include "index/segment_want.h"

#include "index/blob_internal.h"
#include "index/cluster.h"
#include "index/segment_internal.h"

enum { WANT_MAX_CODES = 16 << 20 };
static uint64_t most_codes = WANT_MAX_CODES;
enum {
    WANT_MAX_BYTES = 8 << 20
}; /* of a dictionary or of ids as a whole; larger ones are read block by block */

void segment_want_codes(uint64_t bytes) {
    most_codes = bytes ? bytes : WANT_MAX_CODES;
}

bool segment_is_remote(const struct segment *s) {
    return blob_is_remote(s->blob);
}

struct page_cache *segment_pages(const struct segment *s) {
    return s->blob->pages.cache;
}

static void want_region(struct fetch *f, const struct segment *s, const struct segment_field *field,
                        uint16_t kind) {
    const struct region *r = segment_region(s, field, kind);
    if (r) fetch_want(f, s->blob, r->off, r->len);
}

void segment_want_lookup(struct fetch *f, const struct segment *s) {
    want_region(f, s, NULL, REGION_DOC_INDEX);
    want_region(f, s, NULL, REGION_DOC_DICTS);
    want_region(f, s, NULL, REGION_ID_INDEX);
}

void segment_want_ids(struct fetch *f, const struct segment *s) {
    if (s->ids.place.data_len > WANT_MAX_BYTES) return;
    want_region(f, s, NULL, REGION_ID_INDEX);
    want_region(f, s, NULL, REGION_IDS);
}

void segment_want_hit(struct fetch *f, const struct segment *s, uint32_t docno, bool with_document) {
    struct buf id = BUF_INIT;
    if (!segment_is_remote(s)) return;
    struct fetch *before = fetch_record(f);
    segment_id(s, docno, &id, NULL);
    if (with_document) docstore_want(&s->docs, docno, f);
    fetch_record(before);
    buf_release(&id);
}

void field_want_dictionary(struct fetch *f, const struct segment_field *field) {
    const struct inverted *inv = segment_field_inverted(field);
    if (!field->stats.n_docs || inv->region.dict_len > WANT_MAX_BYTES) return;
    fetch_want(f, inv->blob, inv->region.dict_off, inv->region.dict_len);
    fetch_want(f, inv->blob, inv->region.index_off, inv->region.index_len);
}

void field_want_postings(struct fetch *f, const struct segment_field *field, const struct term_info *info,
                         bool positions) {
    const struct inverted *inv = segment_field_inverted(field);
    if (info->df > 1) fetch_want(f, inv->blob, info->postings_off, info->postings_len);
    if (positions) fetch_want(f, inv->blob, info->positions_off, info->positions_len);
}

void field_want_norms(struct fetch *f, const struct segment_field *field) {
    want_region(f, field->segment, field, REGION_NORMS);
}

void field_want_column(struct fetch *f, const struct segment_field *field) {
    want_region(f, field->segment, field, REGION_EXISTS);
    want_region(f, field->segment, field, REGION_COLUMN);
}

/* Norms and documents may be missing yet: the lists are known from the clusters alone. */
static void want_lists(struct fetch *f, const struct segment_field *field, const struct vector_query *near,
                       uint32_t k) {
    struct vectors v;
    struct clusters *own = NULL;
    struct fetch *before = fetch_record(f);
    const struct clusters *c = NULL;
    if (!vectors_open_lazy(field, &v, NULL))
        c = v.n ? v.clusters : NULL;
    else if (!clusters_open(field, &own, NULL))
        c = own;
    if (c) cluster_search_want(c, near, k, f);
    clusters_close(own);
    fetch_record(before);
}

void field_want_vectors(struct fetch *f, const struct segment_field *field, const struct vector_query *near,
                        uint32_t k) {
    const struct region *codes = segment_region(field->segment, field, REGION_CLUSTER_CODES);
    if (codes) { /* rows when they are known */
        want_region(f, field->segment, field, REGION_CLUSTERS);
        if (codes->len <= most_codes)
            want_region(f, field->segment, field, REGION_CLUSTER_CODES);
        else if (near && segment_is_remote(field->segment) && near->dimensions == field->spec.dimensions)
            want_lists(f, field, near, k);
    } else {
        want_region(f, field->segment, field, REGION_VECTOR_ROWS);
    }
    want_region(f, field->segment, field, REGION_VECTOR_NORMS);
    want_region(f, field->segment, field, REGION_VECTOR_DOCS);
}
