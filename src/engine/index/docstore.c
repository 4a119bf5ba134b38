/* Stored documents. Grammar: docs/FORMAT.md. */
#include "index/docstore.h"

#include <stdatomic.h>
#include <zstd.h>

#include "index/column.h"
#include "index/fetch.h"
#include "index/index.h"

enum { ZSTD_LEVEL = 1, WORTH_COMPRESSING = 128, PREFETCH_BYTES = 2048 };

/* ---- writing ---- */

void docstore_writer_init(struct docstore_writer *w, struct blob_writer *out) {
    *w = (struct docstore_writer){.out = out, .base = blob_writer_off(out), .sampling = true};
}

static void put_entry(struct docstore_writer *w, uint32_t raw_len) {
    buf_add_u64(&w->index, blob_writer_off(w->out) - w->base);
    buf_add_u32(&w->index, w->block_first);
    buf_add_u32(&w->index, raw_len);
}

/* Compresses the open block into w->packed. */
static int pack_block(struct docstore_writer *w, size_t *ret, struct err *err) {
    struct index_scratch *s = index_scratch();
    if (!s->zstd_c) s->zstd_c = ZSTD_createCCtx();
    if (!s->zstd_c) return err_set(err, ERR_NO_MEMORY, "could not make a compression context");
    size_t bound = ZSTD_compressBound(w->raw.len), n;
    buf_clear(&w->packed);
    uint8_t *to = buf_grow(&w->packed, bound);
    if (w->cdict)
        n = ZSTD_compress_usingCDict(s->zstd_c, to, bound, w->raw.data, w->raw.len, w->cdict);
    else
        n = ZSTD_compressCCtx(s->zstd_c, to, bound, w->raw.data, w->raw.len, ZSTD_LEVEL);
    if (ZSTD_isError(n)) return err_set(err, ERR_NO_MEMORY, "could not compress: %s", ZSTD_getErrorName(n));
    *ret = n;
    return 0;
}

static int close_block(struct docstore_writer *w, struct err *err) {
    const struct buf *raw = &w->raw;
    if (!raw->len && w->block_first == w->n) return 0;
    put_entry(w, (uint32_t)raw->len);
    size_t n = raw->len;
    int r = raw->len >= WORTH_COMPRESSING ? pack_block(w, &n, err) : 0;
    if (r) return r;
    bool packed = n < raw->len;
    blob_write(w->out, packed ? w->packed.data : raw->data, packed ? n : raw->len);
    buf_clear(&w->raw);
    w->block_first = w->n;
    return 0;
}

static void put_start(struct docstore_writer *w, uint64_t start) {
    VEC_GROW(w->starts, w->n, w->cap);
    w->starts[w->n++] = start;
}

static size_t block_target(const struct docstore_writer *w) {
    return w->cdict ? DOC_DICT_BLOCK_BYTES : DOC_BLOCK_BYTES;
}

static int add_document(struct docstore_writer *w, const void *raw, size_t len, struct err *err) {
    int r = w->raw.len && w->raw.len + len > DOC_BLOCK_MAX ? close_block(w, err) : 0;
    if (r) return r;
    put_start(w, w->raw.len);
    buf_add(&w->raw, raw, len);
    return w->raw.len >= block_target(w) ? close_block(w, err) : 0;
}

static void use_trained(struct docstore_writer *w) {
    w->cdict = ZSTD_createCDict(w->trained.data, w->trained.len, ZSTD_LEVEL);
    if (!w->cdict) return;
    VEC_GROW(w->dicts, w->n_dicts, w->cap_dicts);
    w->dicts[w->n_dicts++] = (struct doc_dict){w->trained.data, (uint32_t)w->trained.len,
                                               ZSTD_getDictID_fromDict(w->trained.data, w->trained.len)};
}

/* Makes a dictionary if the sample is enough for one, and writes the sample. */
static int end_sampling(struct docstore_writer *w, struct err *err) {
    struct buf sample = w->raw;
    size_t at = 0;
    int r = 0;
    if (!w->sampling) return 0;
    w->sampling = false;
    w->raw = (struct buf)BUF_INIT;
    if (doc_dict_train(sample.data, w->sample_sizes, w->n_sample, &w->trained)) use_trained(w);
    for (size_t i = 0; i < w->n_sample && !r; i++) {
        r = add_document(w, sample.data + at, w->sample_sizes[i], err);
        at += w->sample_sizes[i];
    }
    buf_release(&sample);
    return r;
}

int docstore_writer_add(struct docstore_writer *w, const void *raw, size_t len, struct err *err) {
    if (len > DOC_STORE_MAX) return err_set(err, ERR_TOO_LARGE, "the document has %zu bytes", len);
    if (!w->sampling) return add_document(w, raw, len, err);
    VEC_GROW(w->sample_sizes, w->n_sample, w->cap_sample);
    w->sample_sizes[w->n_sample++] = len;
    buf_add(&w->raw, raw, len);
    return w->raw.len >= DOC_DICT_SAMPLE ? end_sampling(w, err) : 0;
}

int docstore_writer_finish(struct docstore_writer *w, struct docstore_place *ret, struct err *err) {
    int r = end_sampling(w, err);
    if (!r) r = close_block(w, err);
    if (r) return r;
    uint64_t max = 0;
    for (uint32_t i = 0; i < w->n; i++) max = MAX(max, w->starts[i]);
    put_entry(w, 0); /* the end */
    *ret = (struct docstore_place){.blocks_off = w->base, .start_width = packed_width(max)};
    ret->blocks_len = blob_writer_off(w->out) - w->base;
    ret->index_off = blob_writer_off(w->out);
    ret->index_len = w->index.len;
    blob_write(w->out, w->index.data, w->index.len);
    buf_clear(&w->packed);
    packed_add(&w->packed, w->starts, w->n, ret->start_width);
    ret->starts_off = blob_writer_off(w->out);
    ret->starts_len = w->packed.len;
    blob_write(w->out, w->packed.data, w->packed.len);
    return 0;
}

void docstore_writer_finish_dicts(struct docstore_writer *w, uint64_t *ret_off, uint64_t *ret_len) {
    *ret_off = blob_writer_off(w->out);
    if (w->n_dicts) doc_dicts_write(w->dicts, w->n_dicts, w->out);
    *ret_len = blob_writer_off(w->out) - *ret_off;
}

void docstore_writer_release(struct docstore_writer *w) {
    ZSTD_freeCDict(w->cdict);
    buf_release(&w->trained);
    free(w->sample_sizes);
    free(w->dicts);
    buf_release(&w->raw);
    buf_release(&w->packed);
    buf_release(&w->index);
    free(w->starts);
    *w = (struct docstore_writer){0};
}

/* ---- reading ---- */

struct block {
    uint64_t off, packed_len;
    uint32_t no, first, end, raw_len;
};

static int bad(const struct docstore *d, struct err *err, const char *what) {
    return err_set(err, ERR_CORRUPT, "object '%s': damaged stored documents: %s", blob_name(d->blob), what);
}

static int block_at(const struct docstore *d, const uint8_t *index, uint32_t no, struct block *ret,
                    struct err *err) {
    const uint8_t *e = index + (size_t)no * DOC_INDEX_ENTRY, *next = e + DOC_INDEX_ENTRY;
    uint64_t off = get_u64(e), end = get_u64(next);
    *ret = (struct block){off, end - off, no, get_u32(e + 8), get_u32(next + 8), get_u32(e + 12)};
    if (off > end || end > d->place.blocks_len || ret->first >= ret->end || ret->end > d->n ||
        ret->raw_len > DOC_STORE_MAX || ret->packed_len > ret->raw_len)
        return bad(d, err, "block index");
    return 0;
}

static int index_of(const struct docstore *d, const uint8_t **ret, uint32_t *ret_n, struct err *err) {
    const struct docstore_place *pl = &d->place;
    uint64_t n = pl->index_len / DOC_INDEX_ENTRY;
    if (!n || n > (uint64_t)d->n + 1 || pl->index_len % DOC_INDEX_ENTRY ||
        !packed_width_ok(pl->start_width) || packed_size(d->n, pl->start_width) != pl->starts_len)
        return bad(d, err, "directory");
    *ret_n = (uint32_t)n - 1;
    return blob_need(d->blob, pl->index_off, pl->index_len, ret, err);
}

static int find_block(const struct docstore *d, uint32_t docno, struct block *ret, struct err *err) {
    const uint8_t *index;
    uint32_t n;
    int r = docno < d->n ? index_of(d, &index, &n, err) : bad(d, err, "no such document");
    if (r) return r;
    if (!n) return bad(d, err, "block index");
    uint32_t lo = 0, hi = n - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        if (get_u32(index + (size_t)mid * DOC_INDEX_ENTRY + 8) <= docno)
            lo = mid;
        else
            hi = mid - 1;
    }
    r = block_at(d, index, lo, ret, err);
    if (!r && (docno < ret->first || docno >= ret->end)) return bad(d, err, "block index");
    return r;
}

/* Where the document lies in its uncompressed block. */
static int span_of(const struct docstore *d, uint32_t docno, const struct block *b, uint32_t *ret_from,
                   uint32_t *ret_len, struct err *err) {
    const struct docstore_place *pl = &d->place;
    const uint8_t *p;
    bool last = docno + 1 == b->end;
    uint64_t bit = (uint64_t)docno * pl->start_width;
    int r = blob_need(d->blob, pl->starts_off + bit / 8, packed_size(last ? 1 : 2, pl->start_width), &p, err);
    if (r) return r;
    p -= bit / 8;
    uint64_t from = packed_get(p, docno, pl->start_width);
    uint64_t to = last ? b->raw_len : packed_get(p, (uint64_t)docno + 1, pl->start_width);
    if (from > to || to > b->raw_len) return bad(d, err, "lengths");
    *ret_from = (uint32_t)from;
    *ret_len = (uint32_t)(to - from);
    return 0;
}

/* The dictionaries, opened by whoever comes first. */
static int dicts_of(const struct docstore *d, struct doc_dicts **ret, struct err *err) {
    struct doc_dicts *_Atomic *slot = &((struct docstore *)d)->dicts;
    struct doc_dicts *have = atomic_load_explicit(slot, memory_order_acquire), *made;
    const uint8_t *p;
    if (!have) {
        int r = blob_pin(d->blob, d->place.dicts_off, d->place.dicts_len, &p, err); /* they point into it */
        if (!r) r = doc_dicts_open(p, d->place.dicts_len, blob_name(d->blob), &made, err);
        if (r) return r;
        if (atomic_compare_exchange_strong(slot, &have, made))
            have = made;
        else
            doc_dicts_free(made);
    }
    *ret = have;
    return 0;
}

void docstore_release(struct docstore *d) {
    doc_dicts_free(atomic_load(&d->dicts));
}

static int unpack(const struct docstore *d, const struct block *b, const uint8_t *p, uint8_t *to,
                  struct err *err) {
    struct index_scratch *s = index_scratch();
    struct doc_dicts *dicts;
    if (!s->zstd_d) s->zstd_d = ZSTD_createDCtx();
    if (!s->zstd_d) return err_set(err, ERR_NO_MEMORY, "could not make a decompression context");
    size_t n;
    uint32_t id = d->place.dicts_len ? ZSTD_getDictID_fromFrame(p, b->packed_len) : 0;
    if (id) {
        int r = dicts_of(d, &dicts, err);
        if (r) return r;
        const void *dict = doc_dicts_find(dicts, id);
        if (!dict) return bad(d, err, "a block's dictionary is missing");
        n = ZSTD_decompress_usingDDict(s->zstd_d, to, b->raw_len, p, b->packed_len, dict);
    } else {
        n = ZSTD_decompressDCtx(s->zstd_d, to, b->raw_len, p, b->packed_len);
    }
    return ZSTD_isError(n) || n != b->raw_len ? bad(d, err, "a block does not decompress") : 0;
}

/* The block's documents; compressed ones are kept in the cache until another block is read through it. */
static int read_block(const struct docstore *d, struct doc_cache *cache, const struct block *b,
                      const uint8_t **ret, struct err *err) {
    struct index_scratch *s = index_scratch();
    const uint8_t *p;
    if (!cache) cache = &s->docs;
    if (cache->uid == d->uid && cache->block_no == b->no) {
        *ret = cache->raw.data;
        return 0;
    }
    int r = blob_need(d->blob, d->place.blocks_off + b->off, b->packed_len, &p, err);
    if (r) return r;
    *ret = p;
    if (b->packed_len == b->raw_len) return 0;
    cache->uid = 0;
    if (cache->raw.cap > 16 * DOC_BLOCK_MAX && b->raw_len <= DOC_BLOCK_MAX) buf_release(&cache->raw);
    buf_clear(&cache->raw);
    uint8_t *to = buf_grow(&cache->raw, b->raw_len);
    r = unpack(d, b, p, to, err);
    if (r) return r;
    cache->uid = d->uid;
    cache->block_no = b->no;
    *ret = to;
    return 0;
}

int docstore_peek(const struct docstore *d, struct doc_cache *cache, uint32_t docno, const uint8_t **ret,
                  uint32_t *ret_len, struct err *err) {
    struct block b;
    uint32_t from;
    const uint8_t *p;
    int r = find_block(d, docno, &b, err);
    if (!r) r = span_of(d, docno, &b, &from, ret_len, err);
    if (!r) r = read_block(d, cache, &b, &p, err);
    if (!r) *ret = p + from;
    return r;
}

bool docstore_at_hand(const struct docstore *d, uint32_t docno, uint32_t *ret_size, uint32_t *ret_first,
                      uint32_t *ret_end) {
    const struct docstore_place *pl = &d->place;
    struct block b;
    uint32_t from;
    if (!blob_at_hand(d->blob, pl->index_off, pl->index_len) || find_block(d, docno, &b, NULL)) return false;
    const uint8_t *p = blob_at_hand(d->blob, pl->blocks_off + b.off, b.packed_len);
    for (uint32_t i = 0; p && i < MIN(b.packed_len, (uint32_t)PREFETCH_BYTES); i += CACHE_LINE)
        __builtin_prefetch(p + i);
    uint64_t start = pl->starts_off + (uint64_t)docno * pl->start_width / 8;
    if (!p || !blob_at_hand(d->blob, start, packed_size(docno + 1 == b.end ? 1 : 2, pl->start_width)))
        return false;
    *ret_first = b.first;
    *ret_end = b.end;
    return !span_of(d, docno, &b, &from, ret_size, NULL);
}

int docstore_get(const struct docstore *d, uint32_t docno, struct buf *out, struct err *err) {
    const uint8_t *p;
    uint32_t len;
    int r = docstore_peek(d, NULL, docno, &p, &len, err);
    if (r) return r;
    buf_reserve(out, (size_t)len + 1); /* whoever makes it a string need not copy it */
    buf_add(out, p, len);
    return 0;
}

int docstore_size(const struct docstore *d, uint32_t docno, uint32_t *ret, struct err *err) {
    struct block b;
    uint32_t from;
    int r = find_block(d, docno, &b, err);
    return r ? r : span_of(d, docno, &b, &from, ret, err);
}

int docstore_block_of(const struct docstore *d, uint32_t docno, uint32_t *ret_first, uint32_t *ret_end,
                      uint32_t *ret_bytes, struct err *err) {
    struct block b;
    int r = find_block(d, docno, &b, err);
    if (r) return r;
    *ret_first = b.first;
    *ret_end = b.end;
    *ret_bytes = b.raw_len;
    return 0;
}

static void add_dict(struct docstore_writer *w, const struct doc_dict *dict) {
    VEC_GROW(w->dicts, w->n_dicts, w->cap_dicts);
    w->dicts[w->n_dicts++] = *dict;
    if (!w->cdict) w->cdict = ZSTD_createCDict(dict->data, dict->len, ZSTD_LEVEL);
}

/* The writer has the dictionary of the block, too. *ret_clash: it has another one of the same id. */
static int take_dict(const struct docstore *d, const struct block *b, const uint8_t *p,
                     struct docstore_writer *w, bool *ret_clash, struct err *err) {
    struct doc_dicts *dicts;
    size_t n;
    uint32_t id =
        d->place.dicts_len && b->packed_len < b->raw_len ? ZSTD_getDictID_fromFrame(p, b->packed_len) : 0;
    if (!id) return 0;
    int r = dicts_of(d, &dicts, err);
    if (r) return r;
    const struct doc_dict *all = doc_dicts_all(dicts, &n);
    while (n && all->id != id) all++, n--;
    if (!n) return bad(d, err, "a block's dictionary is missing");
    for (size_t i = 0; i < w->n_dicts; i++) {
        if (w->dicts[i].id != id) continue;
        *ret_clash = w->dicts[i].len != all->len || memcmp(w->dicts[i].data, all->data, all->len);
        return 0;
    }
    add_dict(w, all);
    return 0;
}

int docstore_writer_inherit(struct docstore_writer *w, const struct docstore *d, struct err *err) {
    struct doc_dicts *dicts;
    size_t n;
    if (!d->place.dicts_len) return 0;
    int r = dicts_of(d, &dicts, err);
    if (r) return r;
    const struct doc_dict *first = doc_dicts_all(dicts, &n);
    if (n) add_dict(w, first);
    w->sampling = !n;
    return 0;
}

bool docstore_writer_may_copy(const struct docstore_writer *w, uint32_t block_bytes) {
    size_t least = block_target(w) / 2, open = w->raw.len;
    return !w->sampling && block_bytes >= least && (!open || open >= least);
}

/* As documents: they are in the thread's cache. */
static int copy_documents(const struct docstore *d, const struct block *b, struct docstore_writer *w,
                          struct err *err) {
    int r = 0;
    for (uint32_t i = b->first; i < b->end && !r; i++) {
        const uint8_t *raw;
        uint32_t len;
        r = docstore_peek(d, NULL, i, &raw, &len, err);
        if (!r) r = docstore_writer_add(w, raw, len, err);
    }
    return r;
}

int docstore_copy_block(const struct docstore *d, uint32_t docno, struct docstore_writer *w,
                        struct err *err) {
    struct block b;
    const uint8_t *p;
    bool clash = false;
    int r = find_block(d, docno, &b, err);
    if (!r) r = close_block(w, err);
    if (!r) r = blob_need(d->blob, d->place.blocks_off + b.off, b.packed_len, &p, err);
    if (!r) r = take_dict(d, &b, p, w, &clash, err);
    if (r || clash) return r ? r : copy_documents(d, &b, w, err);
    put_entry(w, b.raw_len);
    for (uint32_t i = b.first; i < b.end; i++) {
        uint32_t from, len;
        if ((r = span_of(d, i, &b, &from, &len, err))) return r;
        put_start(w, from);
    }
    blob_write(w->out, p, b.packed_len);
    w->block_first = w->n;
    return 0;
}

void docstore_want(const struct docstore *d, uint32_t docno, struct fetch *f) {
    struct block b;
    if (find_block(d, docno, &b, NULL)) return;
    fetch_want(f, d->blob, d->place.starts_off + (uint64_t)docno * d->place.start_width / 8,
               packed_size(2, d->place.start_width));
    fetch_want(f, d->blob, d->place.blocks_off + b.off, b.packed_len);
}

int docstore_verify(const struct docstore *d, uint64_t *ret_raw_bytes, struct err *err) {
    const uint8_t *index, *p;
    uint32_t n, next = 0;
    uint64_t total = 0;
    int r = index_of(d, &index, &n, err);
    for (uint32_t i = 0; !r && i < n; i++) {
        struct block b;
        if ((r = block_at(d, index, i, &b, err))) return r;
        if (b.first != next) return bad(d, err, "block index");
        next = b.end;
        r = read_block(d, NULL, &b, &p, err);
        uint32_t at = 0;
        for (uint32_t doc = b.first; !r && doc < b.end; doc++) {
            uint32_t from = 0, len = 0;
            r = span_of(d, doc, &b, &from, &len, err);
            if (!r && from != at) r = bad(d, err, "lengths");
            at = from + len;
        }
        total += b.raw_len;
    }
    if (!r && next != d->n) r = bad(d, err, "block index");
    if (!r) *ret_raw_bytes = total;
    return r;
}
