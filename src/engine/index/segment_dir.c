/* The directory of a segment: written behind its last region, found through the footer, the last bytes of the
 * payload. Grammar: docs/FORMAT.md. */
#include "index/segment_internal.h"

enum { SPEC_INFERRED = 1, SPEC_INDEXED = 2, SPEC_FINGERPRINT = 4 };

void region_encode(struct buf *out, const struct region *r) {
    buf_add_u16(out, r->kind);
    buf_add_u16(out, r->entry);
    buf_add_u32(out, r->param);
    buf_add_u64(out, r->off);
    buf_add_u64(out, r->len);
}

/* ---- writing ---- */

static void put_summary(struct buf *b, const struct segment_summary *s, uint32_t schema_version) {
    buf_add_u16(b, SEGMENT_VERSION);
    buf_add_u16(b, 0);
    buf_add_u32(b, s->n_docs);
    buf_add_u64(b, s->seq_min);
    buf_add_u64(b, s->seq_max);
    buf_add_u64(b, (uint64_t)s->time_min);
    buf_add_u64(b, (uint64_t)s->time_max);
    buf_add_u64(b, s->raw_bytes);
    buf_add_u64(b, s->checksum_sum);
    buf_add_u32(b, schema_version);
    buf_add_bytes(b, s->id_min, s->id_min_len);
    buf_add_bytes(b, s->id_max, s->id_max_len);
}

static void put_entry(struct buf *b, const struct index_spec *spec, const struct segment_dir_entry *e) {
    buf_add_bytes(b, spec->path, spec->path_len);
    buf_addc(b, (char)spec->type);
    buf_addc(b, (char)spec->analyzer);
    buf_addc(b, (char)spec->similarity);
    buf_addc(b, (char)((spec->inferred ? SPEC_INFERRED : 0) | (index_type(spec->type) ? SPEC_INDEXED : 0) |
                       (e->fingerprint ? SPEC_FINGERPRINT : 0)));
    buf_add_varint(b, spec->dimensions);
    buf_add_varint(b, e->stats.n_docs);
    buf_add_varint(b, e->stats.sum_ttf);
    if (e->fingerprint) buf_add_u64(b, e->fingerprint);
    buf_add_bytes(b, e->ext.data, e->ext.len);
}

/* ---- hot ranges ---- */

static bool is_hot(uint16_t kind) {
    return kind == REGION_DOC_INDEX || kind == REGION_ID_INDEX || kind == REGION_CLUSTERS;
}

static int hot_order(const void *pa, const void *pb) {
    const struct hot_range *a = pa, *b = pb;
    return (a->off > b->off) - (a->off < b->off);
}

static void add_hot(struct buf *list, uint32_t kind, uint64_t off, uint64_t len) {
    struct hot_range h = {off, len, kind};
    if (len) buf_add(list, &h, sizeof h);
}

static void add_hot_of_entry(struct buf *list, const struct segment_dir_entry *e) {
    struct inverted_region r;
    struct cursor c = cursor_of(e->ext.data, e->ext.len);
    inverted_region_decode(&c, &r);
    if (c.bad) return;
    add_hot(list, HOT_DICTIONARY, r.dict_off, r.dict_len);
    add_hot(list, HOT_ALWAYS, r.index_off, r.index_len);
}

/* Neighbours of one kind become one range. */
static void set_hot(struct segment_summary *s, struct buf *list) {
    struct hot_range *all = (struct hot_range *)list->data;
    size_t n = list->len / sizeof *all;
    if (n) qsort(all, n, sizeof *all, hot_order);
    s->n_hot = 0;
    for (size_t i = 0; i < n; i++) {
        struct hot_range *last = s->n_hot ? &s->hot[s->n_hot - 1] : NULL;
        uint64_t end = all[i].off + all[i].len;
        if (last && last->kind == all[i].kind && all[i].off <= last->off + last->len + BLOB_PAGE)
            last->len = MAX(last->off + last->len, end) - last->off;
        else if (s->n_hot < SEGMENT_HOT_MAX)
            s->hot[s->n_hot++] = all[i];
    }
}

static void find_hot(struct segment_summary *s, const struct index_spec *specs,
                     const struct segment_dir_entry *entries, uint32_t n_specs, const struct buf *regions,
                     uint64_t dir_off, uint64_t dir_len) {
    struct buf list = BUF_INIT;
    for (uint32_t i = 0; i < n_specs; i++)
        if (entries[i].ext.len && (specs[i].type == FIELD_TEXT || specs[i].type == FIELD_KEYWORD ||
                                   specs[i].type == FIELD_SPARSE_VECTOR))
            add_hot_of_entry(&list, &entries[i]);
    for (size_t at = 0; at < regions->len; at += REGION_SIZE) {
        const uint8_t *r = regions->data + at;
        if (is_hot(get_u16(r))) add_hot(&list, HOT_ALWAYS, get_u64(r + 8), get_u64(r + 16));
    }
    add_hot(&list, HOT_ALWAYS, dir_off, dir_len);
    set_hot(s, &list);
    buf_release(&list);
}

void segment_dir_write(struct blob_writer *out, struct segment_summary *s, uint32_t schema_version,
                       const struct index_spec *specs, const struct segment_dir_entry *entries,
                       uint32_t n_specs, const struct buf *regions) {
    struct buf b = BUF_INIT;
    uint64_t off = blob_writer_off(out);
    put_summary(&b, s, schema_version);
    buf_add_varint(&b, n_specs);
    for (uint32_t i = 0; i < n_specs; i++) put_entry(&b, &specs[i], &entries[i]);
    buf_add_varint(&b, regions->len / REGION_SIZE);
    buf_add(&b, regions->data, regions->len);
    uint32_t len = (uint32_t)b.len;
    find_hot(s, specs, entries, n_specs, regions, off, len);
    buf_add_u64(&b, off);
    buf_add_u32(&b, len);
    buf_add_u32(&b, SEGMENT_FOOTER_MAGIC);
    blob_write(out, b.data, b.len);
    buf_release(&b);
}

void segment_dir_entries_free(struct segment_dir_entry *entries, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) buf_release(&entries[i].ext);
    free(entries);
}

/* ---- reading ---- */

static void get_id(struct cursor *c, char id[ID_MAX_BYTES + 1], uint32_t *ret_len) {
    size_t len;
    const uint8_t *p = cursor_bytes(c, &len);
    if (len > ID_MAX_BYTES) c->bad = true;
    if (c->bad) return;
    memcpy(id, p, len);
    id[len] = 0;
    *ret_len = (uint32_t)len;
}

static int get_summary(struct segment *s, struct cursor *c, struct err *err) {
    struct segment_summary *m = &s->summary;
    uint16_t version = cursor_u16(c);
    if (version != SEGMENT_VERSION)
        return segment_corrupt(s, err, "segment version %u is not known", version);
    cursor_u16(c);
    m->n_docs = cursor_u32(c);
    m->seq_min = cursor_u64(c);
    m->seq_max = cursor_u64(c);
    m->time_min = (int64_t)cursor_u64(c);
    m->time_max = (int64_t)cursor_u64(c);
    m->raw_bytes = cursor_u64(c);
    m->checksum_sum = cursor_u64(c);
    s->schema_version = cursor_u32(c);
    get_id(c, m->id_min, &m->id_min_len);
    get_id(c, m->id_max, &m->id_max_len);
    return c->bad || m->n_docs > SEGMENT_MAX_DOCS ? segment_corrupt(s, err, "damaged directory") : 0;
}

static int get_field(struct segment *s, struct cursor *c, struct segment_field *f, struct err *err) {
    size_t path_len, ext_len;
    const uint8_t *path = cursor_bytes(c, &path_len), *head = cursor_take(c, 4);
    uint64_t dimensions = cursor_varint(c), n_docs = cursor_varint(c), sum_ttf = cursor_varint(c);
    f->fingerprint = head && head[3] & SPEC_FINGERPRINT ? cursor_u64(c) : 0;
    const uint8_t *ext = cursor_bytes(c, &ext_len);
    if (c->bad || n_docs > s->summary.n_docs || dimensions > SCHEMA_MAX_DIMENSIONS)
        return segment_corrupt(s, err, "damaged directory");
    f->segment = s;
    f->spec = (struct index_spec){.path = arena_strndup(&s->arena, (const char *)path, path_len),
                                  .path_len = (uint32_t)path_len,
                                  .dimensions = (uint32_t)dimensions,
                                  .type = head[0],
                                  .analyzer = head[1],
                                  .similarity = head[2],
                                  .inferred = head[3] & SPEC_INFERRED};
    f->ops = head[3] & SPEC_INDEXED ? index_type(head[0]) : NULL;
    f->stats = (struct field_stats){(uint32_t)n_docs, sum_ttf};
    f->inverted.blob = s->blob;
    f->inverted.n_docs = s->summary.n_docs;
    if (f->spec.type == FIELD_TEXT && f->spec.analyzer >= 8)
        return segment_corrupt(s, err, "damaged directory");
    return f->ops ? f->ops->open(f, ext, ext_len, err) : 0;
}

bool segment_field_current(const struct segment_field *f) {
    if (f->spec.type != FIELD_TEXT || (!f->fingerprint && !f->stats.n_docs)) return true;
    return f->fingerprint && f->fingerprint == analyzer_fingerprint(f->spec.analyzer);
}

/* A path has one type; only TEXT has it several times, by analyzer. */
static bool in_order(const struct index_spec *a, const struct index_spec *b) {
    int c = id_compare(a->path, a->path_len, b->path, b->path_len);
    return c < 0 || (c == 0 && a->type == FIELD_TEXT && b->type == FIELD_TEXT && a->analyzer < b->analyzer);
}

static int get_fields(struct segment *s, struct cursor *c, struct err *err) {
    uint64_t n = cursor_varint(c);
    if (c->bad || n > (uint64_t)(c->end - c->p) || n >= ENTRY_NONE)
        return segment_corrupt(s, err, "damaged directory");
    s->fields = xcalloc((size_t)n, sizeof *s->fields);
    for (; s->n_fields < n; s->n_fields++) {
        struct segment_field *f = &s->fields[s->n_fields];
        f->entry = (uint16_t)s->n_fields;
        int r = get_field(s, c, f, err);
        if (r) return r;
        if (s->n_fields && !in_order(&f[-1].spec, &f->spec))
            return segment_corrupt(s, err, "the directory is not in order");
    }
    return 0;
}

static int region_order(const void *a, const void *b) {
    const struct region *x = a, *y = b;
    if (x->entry != y->entry) return x->entry < y->entry ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

static int get_regions(struct segment *s, struct cursor *c, struct err *err) {
    uint64_t n = cursor_varint(c), end = blob_payload_end(s->blob);
    if (c->bad || n != (uint64_t)(c->end - c->p) / REGION_SIZE)
        return segment_corrupt(s, err, "damaged directory");
    s->regions = xcalloc((size_t)n, sizeof *s->regions);
    for (; s->n_regions < n; s->n_regions++) {
        struct region *r = &s->regions[s->n_regions];
        r->kind = cursor_u16(c);
        r->entry = cursor_u16(c);
        r->param = cursor_u32(c);
        r->off = cursor_u64(c);
        r->len = cursor_u64(c);
        if (c->bad || r->off > end || r->len > end - r->off ||
            (r->entry != ENTRY_NONE && r->entry >= s->n_fields))
            return segment_corrupt(s, err, "damaged region table");
    }
    qsort(s->regions, s->n_regions, sizeof *s->regions, region_order);
    for (uint32_t i = 0; i < s->n_regions; i++) {
        if (i && !region_order(&s->regions[i - 1], &s->regions[i]))
            return segment_corrupt(s, err, "a region twice");
        if (s->regions[i].entry == ENTRY_NONE) continue;
        struct segment_field *f = &s->fields[s->regions[i].entry];
        if (!f->n_regions++) f->first_region = i;
    }
    return 0;
}

int segment_dir_read(struct segment *s, struct err *err) {
    const uint8_t *p;
    uint64_t end = blob_payload_end(s->blob);
    if (end < BLOB_HEADER_SIZE + SEGMENT_FOOTER_SIZE)
        return segment_corrupt(s, err, "too short for a segment");
    end -= SEGMENT_FOOTER_SIZE;
    int r = blob_need(s->blob, end, SEGMENT_FOOTER_SIZE, &p, err);
    if (r) return r;
    uint64_t off = get_u64(p), len = get_u32(p + 8);
    if (get_u32(p + 12) != SEGMENT_FOOTER_MAGIC || off > end || len != end - off)
        return segment_corrupt(s, err, "damaged footer");
    r = blob_need(s->blob, off, len, &p, err);
    if (r) return r;
    struct cursor c = cursor_of(p, (size_t)len);
    r = get_summary(s, &c, err);
    if (!r) r = get_fields(s, &c, err);
    if (!r) r = get_regions(s, &c, err);
    if (!r && (c.bad || c.p != c.end)) r = segment_corrupt(s, err, "damaged directory");
    return r;
}
