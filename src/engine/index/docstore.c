/* Stored documents. Grammar: docs/FORMAT.md. */
#include "index/docstore.h"

#include <zstd.h>

#include "index/column.h"
#include "index/fetch.h"
#include "index/index.h"

enum { ZSTD_LEVEL = 3, WORTH_COMPRESSING = 128 };

/* ---- writing ---- */

void docstore_writer_init(struct docstore_writer *w, struct blob_writer *out) {
    *w = (struct docstore_writer){.out = out, .base = blob_writer_off(out)};
}

static void put_entry(struct docstore_writer *w, uint32_t raw_len) {
    buf_add_u64(&w->index, blob_writer_off(w->out) - w->base);
    buf_add_u32(&w->index, w->block_first);
    buf_add_u32(&w->index, raw_len);
}

static int close_block(struct docstore_writer *w, struct err *err) {
    const struct buf *raw = &w->raw;
    if (!raw->len && w->block_first == w->n) return 0;
    put_entry(w, (uint32_t)raw->len);
    size_t n = raw->len;
    if (raw->len >= WORTH_COMPRESSING) {
        struct index_scratch *s = index_scratch();
        if (!s->zstd_c) s->zstd_c = ZSTD_createCCtx();
        if (!s->zstd_c) return err_set(err, ERR_NO_MEMORY, "could not make a compression context");
        size_t bound = ZSTD_compressBound(raw->len);
        buf_clear(&w->packed);
        n = ZSTD_compressCCtx(s->zstd_c, buf_grow(&w->packed, bound), bound, raw->data, raw->len, ZSTD_LEVEL);
        if (ZSTD_isError(n))
            return err_set(err, ERR_NO_MEMORY, "could not compress: %s", ZSTD_getErrorName(n));
    }
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

int docstore_writer_add(struct docstore_writer *w, const void *raw, size_t len, struct err *err) {
    if (len > DOC_STORE_MAX) return err_set(err, ERR_TOO_LARGE, "the document has %zu bytes", len);
    int r = w->raw.len && w->raw.len + len > DOC_BLOCK_MAX ? close_block(w, err) : 0;
    if (r) return r;
    put_start(w, w->raw.len);
    buf_add(&w->raw, raw, len);
    return w->raw.len >= DOC_BLOCK_BYTES ? close_block(w, err) : 0;
}

int docstore_writer_finish(struct docstore_writer *w, struct docstore_place *ret, struct err *err) {
    int r = close_block(w, err);
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

void docstore_writer_release(struct docstore_writer *w) {
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
    if (!s->zstd_d) s->zstd_d = ZSTD_createDCtx();
    if (!s->zstd_d) return err_set(err, ERR_NO_MEMORY, "could not make a decompression context");
    cache->uid = 0;
    if (cache->raw.cap > 16 * DOC_BLOCK_MAX && b->raw_len <= DOC_BLOCK_MAX) buf_release(&cache->raw);
    buf_clear(&cache->raw);
    uint8_t *to = buf_grow(&cache->raw, b->raw_len);
    size_t n = ZSTD_decompressDCtx(s->zstd_d, to, b->raw_len, p, b->packed_len);
    if (ZSTD_isError(n) || n != b->raw_len) return bad(d, err, "a block does not decompress");
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

int docstore_get(const struct docstore *d, uint32_t docno, struct buf *out, struct err *err) {
    const uint8_t *p;
    uint32_t len;
    int r = docstore_peek(d, NULL, docno, &p, &len, err);
    if (!r) buf_add(out, p, len);
    return r;
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

int docstore_copy_block(const struct docstore *d, uint32_t docno, struct docstore_writer *w,
                        struct err *err) {
    struct block b;
    const uint8_t *p;
    int r = find_block(d, docno, &b, err);
    if (!r) r = close_block(w, err);
    if (!r) r = blob_need(d->blob, d->place.blocks_off + b.off, b.packed_len, &p, err);
    if (r) return r;
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
            uint32_t from, len;
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
