/* Deletes of one segment: which documents are dead, and what they take off its statistics.
 *
 * Term corrections are hash tables from (index, ordinal) to a count. A clone shares the large table with its
 * parent and copies the small one on top of it; when that has grown, clone folds both into a new large one.
 * So marking one document in a copy costs the bitmap and a small table.
 *
 * A document's terms come from analysing it again. Where an index was made by another version of its analyzer
 * they are looked for in the postings, for all documents marked together: deletes_settle. */
#include "index/segment_internal.h"

enum { DELETES_VERSION = 1, BITS_BITMAP = 0, BITS_LIST = 1, FOLD_MIN = 1024 };

/* Open addressing, power of two, at most half full. count 0: a free slot. */
struct term_counts {
    atomic_int refs;
    uint32_t n, cap;
    struct term_count {
        uint64_t key; /* index << 32 | ordinal */
        uint32_t count;
    } * slots;
};
struct deletes {
    atomic_int refs;
    uint32_t n_docs, n_entries, count;
    uint64_t hash_sum, segment_sum;
    uint64_t *bits;
    uint64_t *unsettled;        /* dead, but not off the statistics of outdated indexes yet; NULL: none */
    struct field_stats *fields; /* per index of the segment */
    struct term_counts *base;   /* shared, immutable; NULL = empty */
    struct term_counts delta;
};

/* ---- counts ---- */

static struct term_count *counts_slot(const struct term_counts *t, uint64_t key) {
    uint64_t h = key * 0x9e3779b97f4a7c15ull;
    for (uint32_t i = (uint32_t)(h >> 32) & (t->cap - 1);; i = (i + 1) & (t->cap - 1))
        if (!t->slots[i].count || t->slots[i].key == key) return &t->slots[i];
}

static uint32_t counts_get(const struct term_counts *t, uint64_t key) {
    return t && t->n ? counts_slot(t, key)->count : 0;
}

static void counts_add(struct term_counts *t, uint64_t key, uint32_t count) {
    if (!count) return;
    if (2 * (t->n + 1) > t->cap) {
        struct term_counts old = {.cap = t->cap, .slots = t->slots};
        t->cap = t->cap ? t->cap * 2 : 16;
        t->slots = xcalloc(t->cap, sizeof *t->slots);
        for (uint32_t i = 0; i < old.cap; i++)
            if (old.slots[i].count) *counts_slot(t, old.slots[i].key) = old.slots[i];
        free(old.slots);
    }
    struct term_count *slot = counts_slot(t, key);
    if (!slot->count) t->n++;
    slot->key = key;
    slot->count += count;
}

static void counts_add_all(struct term_counts *t, const struct term_counts *from) {
    for (uint32_t i = 0; from && i < from->cap; i++) counts_add(t, from->slots[i].key, from->slots[i].count);
}

static void counts_copy(struct term_counts *t, const struct term_counts *from) {
    t->n = from->n;
    t->cap = from->cap;
    t->slots = xmalloc(from->cap * sizeof *t->slots);
    if (from->cap) memcpy(t->slots, from->slots, from->cap * sizeof *t->slots);
}

static void counts_unref(struct term_counts *t) {
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1) return;
    free(t->slots);
    free(t);
}

/* ---- life ---- */

static struct deletes *deletes_alloc(uint32_t n_docs, uint32_t n_entries) {
    struct deletes *d = xcalloc(1, sizeof *d);
    atomic_init(&d->refs, 1);
    d->n_docs = n_docs;
    d->n_entries = n_entries;
    d->bits = xcalloc(bitmap_words(n_docs), sizeof *d->bits);
    d->fields = xcalloc(n_entries, sizeof *d->fields);
    return d;
}

struct deletes *deletes_new(const struct segment *s) {
    struct deletes *d = deletes_alloc(s->summary.n_docs, s->n_fields);
    d->segment_sum = s->summary.checksum_sum;
    return d;
}

struct deletes *deletes_clone(const struct deletes *from) {
    struct deletes *d = deletes_alloc(from->n_docs, from->n_entries);
    d->count = from->count;
    d->hash_sum = from->hash_sum;
    d->segment_sum = from->segment_sum;
    memcpy(d->bits, from->bits, bitmap_words(d->n_docs) * sizeof *d->bits);
    if (from->unsettled) {
        d->unsettled = xmalloc(bitmap_words(d->n_docs) * sizeof *d->bits);
        memcpy(d->unsettled, from->unsettled, bitmap_words(d->n_docs) * sizeof *d->bits);
    }
    memcpy(d->fields, from->fields, d->n_entries * sizeof *d->fields);
    uint32_t shared = from->base ? from->base->n : 0;
    if (from->delta.n <= FOLD_MIN + shared / 8) {
        if (from->base) atomic_fetch_add(&from->base->refs, 1);
        d->base = from->base;
        counts_copy(&d->delta, &from->delta);
    } else {
        d->base = xcalloc(1, sizeof *d->base);
        atomic_init(&d->base->refs, 1);
        counts_add_all(d->base, from->base);
        counts_add_all(d->base, &from->delta);
    }
    return d;
}

struct deletes *deletes_ref(struct deletes *d) {
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void deletes_unref(struct deletes *d) {
    if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1) return;
    counts_unref(d->base);
    free(d->delta.slots);
    free(d->bits);
    free(d->unsettled);
    free(d->fields);
    free(d);
}

uint32_t deletes_count(const struct deletes *d) {
    return d ? d->count : 0;
}
uint64_t deletes_hash_sum(const struct deletes *d) {
    return d ? d->hash_sum : 0;
}
const uint64_t *deletes_bits(const struct deletes *d) {
    return d ? d->bits : NULL;
}

void deletes_field(const struct deletes *d, const struct segment_field *f, struct field_stats *ret) {
    *ret = d ? d->fields[f->entry] : (struct field_stats){0};
}

static uint64_t term_count_key(uint32_t entry, uint32_t ord) {
    return (uint64_t)entry << 32 | ord;
}

uint32_t deletes_term_df(const struct deletes *d, const struct segment_field *f, uint32_t ord) {
    if (!d) return 0;
    uint64_t key = term_count_key(f->entry, ord);
    return counts_get(d->base, key) + counts_get(&d->delta, key);
}

/* ---- marking ---- */

/* What one document contributes, gathered before anything is changed. */
struct contribution {
    const struct segment *segment;
    uint32_t docno;
    uint32_t entry; /* being fed */
    struct term {
        uint32_t entry, len;
        size_t at; /* in text */
    } * terms;
    size_t n_terms, cap_terms;
    struct buf text;
    struct touched { /* indexes with at least one item */
        uint32_t entry;
        uint64_t tokens;
    } * touched;
    size_t n_touched, cap_touched;
    uint32_t *slots; /* per index: its place in touched, from 1 */
    uint64_t *keys;  /* the distinct terms, as keys of the correction table */
    size_t n_keys, cap_keys;
};

static struct touched *touch(struct contribution *c) {
    uint32_t *slot = &c->slots[c->entry];
    if (!*slot) {
        VEC_GROW(c->touched, c->n_touched, c->cap_touched);
        c->touched[c->n_touched++] = (struct touched){.entry = c->entry};
        *slot = (uint32_t)c->n_touched;
    }
    return &c->touched[*slot - 1];
}

static void take_item(void *ctx, const struct index_item *item) {
    struct contribution *c = ctx;
    struct touched *touched = touch(c);
    if (!item->term) return;
    if (c->segment->fields[c->entry].spec.type == FIELD_TEXT) touched->tokens++;
    VEC_GROW(c->terms, c->n_terms, c->cap_terms);
    c->terms[c->n_terms++] = (struct term){c->entry, item->len, c->text.len};
    buf_add(&c->text, item->term, item->len);
}

static int take_value(void *ctx, uint32_t spec_no, struct index_feeder *f, const struct jval *value,
                      struct err *err) {
    struct contribution *c = ctx;
    if (!segment_field_current(&c->segment->fields[spec_no])) return 0; /* deletes_settle */
    c->entry = spec_no;
    return f->ops->feed(f, value, take_item, c, err);
}

static int term_order(const void *a, const void *b, void *ctx) {
    const struct contribution *c = ctx;
    const struct term *x = a, *y = b;
    if (x->entry != y->entry) return x->entry < y->entry ? -1 : 1;
    return id_compare(c->text.data + x->at, x->len, c->text.data + y->at, y->len);
}

static bool same_term(const struct contribution *c, size_t a, size_t b) {
    return term_order(&c->terms[a], &c->terms[b], (void *)c) == 0;
}

static void add_key(struct contribution *c, uint32_t entry, uint32_t ord) {
    VEC_GROW(c->keys, c->n_keys, c->cap_keys);
    c->keys[c->n_keys++] = term_count_key(entry, ord);
}

static int resolve_terms(struct contribution *c, struct err *err) {
    if (c->n_terms) qsort_r(c->terms, c->n_terms, sizeof *c->terms, term_order, c);
    for (size_t i = 0; i < c->n_terms; i++) {
        const struct term *t = &c->terms[i];
        const struct segment_field *f = &c->segment->fields[t->entry];
        struct term_info info;
        if (i && same_term(c, i - 1, i)) continue;
        int r = term_find(f, (const char *)c->text.data + t->at, t->len, &info, err);
        if (r) return r;
        if (!info.df) return segment_field_corrupt(f, err, "index: it lacks a term of a stored document");
        add_key(c, t->entry, info.ord);
    }
    return 0;
}

static int contribution_read(struct contribution *c, uint32_t docno, struct err *err) {
    struct doc_feeder *feeder = segment_feeder(c->segment);
    const uint8_t *raw;
    uint32_t len;
    int r = docstore_peek(&c->segment->docs, NULL, docno, &raw, &len, err);
    if (!r) r = doc_feeder_run(feeder, (const char *)raw, len, take_value, c, err);
    return r ? r : resolve_terms(c, err);
}

static void contribution_release(struct contribution *c) {
    free(c->terms);
    free(c->touched);
    free(c->slots);
    free(c->keys);
    buf_release(&c->text);
}

static void apply(struct deletes *d, const struct contribution *c) {
    const struct segment_field *fields = c->segment->fields;
    for (size_t i = 0; i < c->n_touched; i++) {
        d->fields[c->touched[i].entry].n_docs++;
        d->fields[c->touched[i].entry].sum_ttf += c->touched[i].tokens;
    }
    for (size_t i = 0; i < c->n_keys; i++) {
        uint32_t entry = (uint32_t)(c->keys[i] >> 32);
        counts_add(&d->delta, c->keys[i], 1);
        if (fields[entry].spec.type != FIELD_TEXT)
            d->fields[entry].sum_ttf++; /* without frequencies a term counts once */
    }
}

static bool has_outdated(const struct segment *s) {
    for (uint32_t e = 0; e < s->n_fields; e++)
        if (!segment_field_current(&s->fields[e])) return true;
    return false;
}

int deletes_add(struct deletes *d, const struct segment *s, uint32_t docno, struct err *err) {
    struct contribution c = {.segment = s, .docno = docno};
    struct buf id = BUF_INIT;
    uint64_t seq;
    if (docno >= d->n_docs || d->segment_sum != s->summary.checksum_sum)
        return err_set(err, ERR_INVALID, "document %u is not of the segment of these deletes", docno);
    if (bitmap_get(d->bits, docno)) return 0;
    c.slots = xcalloc(s->n_fields, sizeof *c.slots);
    int r = segment_seq(s, docno, &seq, NULL, err);
    if (!r) r = segment_id(s, docno, &id, err);
    if (!r) r = contribution_read(&c, docno, err);
    if (!r) {
        apply(d, &c);
        d->hash_sum += segment_doc_hash((const char *)id.data, id.len, seq);
        d->count++;
        bitmap_set(d->bits, docno);
        if (!d->unsettled && has_outdated(s))
            d->unsettled = xcalloc(bitmap_words(d->n_docs), sizeof *d->bits);
        if (d->unsettled) bitmap_set(d->unsettled, docno);
    }
    buf_release(&id);
    contribution_release(&c);
    return r ? r : 1;
}

/* ---- settling ---- */

/* The first set bit from `from` on; n_docs when there is none. */
static uint32_t next_unsettled(const struct deletes *d, uint32_t from) {
    for (uint32_t w = from >> 6; w < bitmap_words(d->n_docs) && from < d->n_docs; from = ++w << 6) {
        uint64_t word = d->unsettled[w] & (~0ull << (from & 63));
        if (word) return (w << 6) + (uint32_t)__builtin_ctzll(word);
    }
    return d->n_docs;
}

/* What the unsettled documents take off one index. */
struct settled {
    struct field_stats stats;
    struct term_count *counts;
    size_t n, cap;
};

static int settle_term(const struct deletes *d, const struct segment_field *f, const struct term_info *info,
                       struct postings *p, struct settled *to, struct err *err) {
    uint32_t count = 0, doc = next_unsettled(d, 0);
    int r = inverted_postings_reopen(p, &f->inverted, info, true, false, err);
    if (r) return r;
    while (doc < d->n_docs && (doc = postings_advance(p, doc)) < d->n_docs) {
        if (bitmap_get(d->unsettled, doc)) {
            count++;
            to->stats.sum_ttf += postings_freq(p);
        }
        doc = next_unsettled(d, doc + 1);
    }
    if (!count) return 0;
    VEC_GROW(to->counts, to->n, to->cap);
    to->counts[to->n++] = (struct term_count){term_count_key(f->entry, info->ord), count};
    return 0;
}

static int settle_index(const struct deletes *d, const struct segment_field *f, struct settled *to,
                        struct err *err) {
    struct term_iter it;
    const uint8_t *norms;
    int r = text_norms(f, &norms, err);
    if (!r) r = term_iter_open(&it, f, NULL, 0, err);
    if (r) return r;
    for (uint32_t doc = next_unsettled(d, 0); doc < d->n_docs; doc = next_unsettled(d, doc + 1))
        to->stats.n_docs += norms[doc] != 0;
    struct postings *p = xcalloc(1, sizeof *p);
    while (to->stats.n_docs && (r = term_iter_next(&it, err)) == 1)
        if ((r = settle_term(d, f, &it.info, p, to, err))) break;
    term_iter_close(&it);
    postings_close(p);
    free(p);
    return r;
}

int deletes_settle(struct deletes *d, const struct segment *s, struct err *err) {
    int r = 0;
    if (!d || !d->unsettled) return 0;
    struct settled *all = xcalloc(s->n_fields, sizeof *all);
    for (uint32_t e = 0; e < s->n_fields && !r; e++)
        if (!segment_field_current(&s->fields[e])) r = settle_index(d, &s->fields[e], &all[e], err);
    for (uint32_t e = 0; e < s->n_fields; e++) {
        for (size_t i = 0; !r && i < all[e].n; i++)
            counts_add(&d->delta, all[e].counts[i].key, all[e].counts[i].count);
        if (!r) d->fields[e].n_docs += all[e].stats.n_docs;
        if (!r) d->fields[e].sum_ttf += all[e].stats.sum_ttf;
        free(all[e].counts);
    }
    free(all);
    if (r) return r;
    free(d->unsettled);
    d->unsettled = NULL;
    return 0;
}

/* ---- as an object ---- */

static int key_order(const void *a, const void *b) {
    const struct term_count *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

static struct term_count *sorted_counts(const struct deletes *d, size_t *ret_n) {
    struct term_counts all = {0};
    size_t n = 0;
    counts_add_all(&all, d->base);
    counts_add_all(&all, &d->delta);
    for (uint32_t i = 0; i < all.cap; i++)
        if (all.slots[i].count) all.slots[n++] = all.slots[i];
    if (n) qsort(all.slots, n, sizeof *all.slots, key_order);
    *ret_n = n;
    return all.slots;
}

/* The dead as gaps when that is shorter than a bitmap. */
static void put_bits(const struct deletes *d, struct buf *b) {
    struct buf list = BUF_INIT;
    uint32_t next = 0;
    size_t size = bitmap_words(d->n_docs) * sizeof *d->bits;
    for (size_t w = 0; w < bitmap_words(d->n_docs) && list.len < size; w++)
        for (uint64_t word = d->bits[w]; word; word &= word - 1) {
            uint32_t docno = (uint32_t)(w * 64 + (unsigned)__builtin_ctzll(word));
            buf_add_varint(&list, docno - next);
            next = docno + 1;
        }
    bool as_list = list.len < size;
    buf_addc(b, as_list ? BITS_LIST : BITS_BITMAP);
    if (as_list)
        buf_add(b, list.data, list.len);
    else
        buf_add(b, d->bits, size);
    buf_release(&list);
}

static void put_corrections(const struct deletes *d, struct buf *b) {
    size_t n, at = 0;
    uint32_t n_entries = 0;
    struct term_count *counts = sorted_counts(d, &n);
    for (uint32_t e = 0; e < d->n_entries; e++) n_entries += d->fields[e].n_docs != 0;
    buf_add_varint(b, n_entries);
    for (uint32_t e = 0; e < d->n_entries; e++) {
        size_t end = at;
        uint64_t next = term_count_key(e, 0);
        while (end < n && counts[end].key >> 32 == e) end++;
        if (!d->fields[e].n_docs) continue;
        buf_add_varint(b, e);
        buf_add_varint(b, d->fields[e].n_docs);
        buf_add_varint(b, d->fields[e].sum_ttf);
        buf_add_varint(b, end - at);
        for (; at < end; at++) {
            buf_add_varint(b, counts[at].key - next);
            buf_add_varint(b, counts[at].count);
            next = counts[at].key + 1;
        }
    }
    free(counts);
}

int deletes_write(const struct deletes *d, struct blob_writer *out, uint64_t *ret_size,
                  uint32_t *ret_checksum, struct err *err) {
    struct buf b = BUF_INIT;
    if (d->unsettled) return err_set(err, ERR_INVALID, "deletes that are not settled cannot be written");
    buf_add_u16(&b, DELETES_VERSION);
    buf_add_u16(&b, 0);
    buf_add_u32(&b, d->n_docs);
    buf_add_u32(&b, d->n_entries);
    buf_add_u32(&b, d->count);
    buf_add_u64(&b, d->hash_sum);
    buf_add_u64(&b, d->segment_sum);
    put_bits(d, &b);
    put_corrections(d, &b);
    blob_write(out, b.data, b.len);
    buf_release(&b);
    return blob_writer_finish(out, ret_size, ret_checksum, err);
}

static void get_bits(struct deletes *d, struct cursor *c, uint32_t count) {
    if (cursor_u8(c) == BITS_BITMAP) {
        size_t size = bitmap_words(d->n_docs) * sizeof *d->bits;
        const uint8_t *p = cursor_take(c, size);
        if (p && size) memcpy(d->bits, p, size);
        return;
    }
    for (uint64_t i = 0, docno = 0; i < count && !c->bad; i++, docno++) {
        docno += cursor_varint(c);
        if (docno >= d->n_docs)
            c->bad = true;
        else
            bitmap_set(d->bits, (uint32_t)docno);
    }
}

static void get_corrections(struct deletes *d, const struct segment *s, struct cursor *c) {
    uint64_t n_entries = cursor_varint(c), last = 0;
    for (uint64_t i = 0; i < n_entries && !c->bad; i++) {
        uint64_t e = cursor_varint(c), n_docs = cursor_varint(c), ttf = cursor_varint(c),
                 n = cursor_varint(c);
        if (e >= d->n_entries || (i && e <= last) || n_docs > d->count ||
            n_docs > s->fields[e].stats.n_docs || ttf > s->fields[e].stats.sum_ttf ||
            n > (uint64_t)(c->end - c->p)) {
            c->bad = true;
            return;
        }
        last = e;
        d->fields[e] = (struct field_stats){(uint32_t)n_docs, ttf};
        for (uint64_t ord = 0; n && !c->bad; n--, ord++) {
            ord += cursor_varint(c);
            uint64_t count = cursor_varint(c);
            if (ord >= s->fields[e].inverted.region.n_terms || !count || count > d->count)
                c->bad = true;
            else
                counts_add(d->base, term_count_key((uint32_t)e, (uint32_t)ord), (uint32_t)count);
        }
    }
}

static int decode(struct cursor *c, const struct segment *s, const struct blob *blob, struct deletes **ret,
                  struct err *err) {
    uint16_t version = cursor_u16(c);
    if (version != DELETES_VERSION)
        return err_set(err, ERR_CORRUPT, "object '%s': deletes version %u is not known", blob_name(blob),
                       version);
    cursor_u16(c);
    uint32_t n_docs = cursor_u32(c), n_entries = cursor_u32(c), count = cursor_u32(c);
    uint64_t hash_sum = cursor_u64(c), segment_sum = cursor_u64(c);
    if (c->bad || n_docs != s->summary.n_docs || n_entries != s->n_fields || count > n_docs ||
        segment_sum != s->summary.checksum_sum)
        return err_set(err, ERR_CORRUPT, "object '%s': these are not the deletes of segment '%s'",
                       blob_name(blob), segment_name(s));
    struct deletes *d = deletes_new(s);
    d->count = count;
    d->hash_sum = hash_sum;
    d->base = xcalloc(1, sizeof *d->base);
    atomic_init(&d->base->refs, 1);
    get_bits(d, c, count);
    if (!c->bad) get_corrections(d, s, c);
    bool beyond = n_docs % 64 && d->bits[n_docs / 64] >> (n_docs % 64);
    if (c->bad || c->p != c->end || beyond || bitmap_count(d->bits, n_docs) != count) {
        deletes_unref(d);
        return err_set(err, ERR_CORRUPT, "object '%s': damaged deletes", blob_name(blob));
    }
    *ret = d;
    return 0;
}

int deletes_read(struct blob *blob, const struct segment *s, struct deletes **ret, struct err *err) {
    const uint8_t *p;
    uint64_t len = blob_payload_end(blob) - BLOB_HEADER_SIZE;
    int r = blob_need(blob, BLOB_HEADER_SIZE, len, &p, err);
    if (!r) {
        struct cursor c = cursor_of(p, (size_t)len);
        r = decode(&c, s, blob, ret, err);
    }
    blob_close(blob);
    return r;
}
