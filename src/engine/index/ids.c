/* Ids: front-coded blocks. Grammar: docs/FORMAT.md. */
#include "index/ids.h"

#include "index/column.h"

int id_compare(const void *a, size_t a_len, const void *b, size_t b_len) {
    size_t n = MIN(a_len, b_len);
    int c = n ? memcmp(a, b, n) : 0;
    return c ? (c < 0 ? -1 : 1) : (a_len > b_len) - (a_len < b_len);
}

static size_t shared_prefix(const void *a, size_t a_len, const void *b, size_t b_len) {
    const uint8_t *x = a, *y = b;
    size_t n = MIN(a_len, b_len), i = 0;
    while (i < n && x[i] == y[i]) i++;
    return i;
}

int ids_writer_add(struct ids_writer *w, const char *id, size_t len, struct err *err) {
    if (len > ID_MAX_BYTES)
        return err_set(err, ERR_INVALID, "the id has more than %d bytes", (int)ID_MAX_BYTES);
    if (w->n && id_compare(w->last.data, w->last.len, id, len) >= 0)
        return err_set(err, ERR_INVALID, "ids must ascend");
    if (w->n % ID_BLOCK == 0) {
        VEC_GROW(w->block_offs, w->n_blocks, w->cap);
        w->block_offs[w->n_blocks++] = w->data.len;
        buf_add_bytes(&w->data, id, len);
    } else {
        size_t same = shared_prefix(w->last.data, w->last.len, id, len);
        buf_add_varint(&w->data, same);
        buf_add_bytes(&w->data, id + same, len - same);
    }
    buf_clear(&w->last);
    buf_add(&w->last, id, len);
    w->n++;
    return 0;
}

void ids_writer_finish(struct ids_writer *w, struct blob_writer *out, struct ids_place *ret) {
    struct buf index = BUF_INIT;
    ret->width = packed_width(w->data.len);
    packed_add(&index, w->block_offs, w->n_blocks, ret->width);
    ret->data_off = blob_writer_off(out);
    ret->data_len = w->data.len;
    blob_write(out, w->data.data, w->data.len);
    ret->index_off = blob_writer_off(out);
    ret->index_len = index.len;
    blob_write(out, index.data, index.len);
    buf_release(&index);
}

void ids_writer_release(struct ids_writer *w) {
    buf_release(&w->data);
    buf_release(&w->last);
    free(w->block_offs);
    *w = (struct ids_writer){0};
}

/* ---- reading ---- */

static int bad(const struct ids *ids, struct err *err) {
    return err_set(err, ERR_CORRUPT, "object '%s': damaged ids", blob_name(ids->blob));
}

static uint32_t n_blocks(const struct ids *ids) {
    return (ids->n + ID_BLOCK - 1) / ID_BLOCK;
}

static int block_open(const struct ids *ids, uint32_t block, struct cursor *ret, struct err *err) {
    const struct ids_place *pl = &ids->place;
    const uint8_t *index, *data;
    if (packed_size(n_blocks(ids), pl->width) != pl->index_len) return bad(ids, err);
    /* Only the bytes around the entry, so that a cold lookup does not read the index whole. */
    uint64_t bit = (uint64_t)block * pl->width, n = block + 1 < n_blocks(ids) ? 2 : 1;
    int r = blob_need(ids->blob, pl->index_off + bit / 8, packed_size(n, pl->width), &index, err);
    if (r) return r;
    index -= bit / 8;
    uint64_t from = packed_get(index, block, pl->width);
    uint64_t to = n == 2 ? packed_get(index, (uint64_t)block + 1, pl->width) : pl->data_len;
    if (from > to || to > pl->data_len) return bad(ids, err);
    r = blob_need(ids->blob, pl->data_off + from, to - from, &data, err);
    if (!r) *ret = cursor_of(data, (size_t)(to - from));
    return r;
}

/* The next entry of a block: how much it shares with the one before, which has len bytes, and the rest. */
static inline bool entry_next(struct cursor *c, bool first, size_t len, const uint8_t **ret_rest,
                              size_t *ret_same, size_t *ret_n) {
    uint64_t same = 0, n;
    if (!first && c->end - c->p >= 2 && (c->p[0] | c->p[1]) < 0x80) { /* nearly all */
        same = c->p[0];
        n = c->p[1];
        c->p += 2;
    } else {
        if (!first) same = cursor_varint(c);
        n = cursor_varint(c);
        if (c->bad) return false;
    }
    if (same > len || n > (size_t)(c->end - c->p) || n > ID_MAX_BYTES - same) return false;
    *ret_rest = c->p;
    *ret_same = same;
    *ret_n = n;
    c->p += n;
    return true;
}

/* Decodes the next id of a block over the one before it. id has room for ID_ROOM. */
static inline bool block_next(struct cursor *c, bool first, char *id, uint32_t *len) {
    const uint8_t *rest;
    size_t same, n;
    if (!entry_next(c, first, first ? 0 : *len, &rest, &same, &n)) return false;
    if (n <= ID_COPIED && c->end - rest >= ID_COPIED)
        memcpy(id + same, rest, ID_COPIED); /* a move of known size, nearly always */
    else
        memcpy(id + same, rest, n);
    *len = (uint32_t)(same + n);
    return true;
}

/* The last block whose first id is <= the given one; 0 if there is none. */
static int find_block(const struct ids *ids, const char *id, size_t len, uint32_t *ret, struct err *err) {
    uint32_t lo = 0, hi = n_blocks(ids) - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        struct cursor c;
        size_t n;
        int r = block_open(ids, mid, &c, err);
        if (r) return r;
        const uint8_t *first = cursor_bytes(&c, &n);
        if (c.bad) return bad(ids, err);
        if (id_compare(first, n, id, len) <= 0)
            lo = mid;
        else
            hi = mid - 1;
    }
    *ret = lo;
    return 0;
}

int ids_find(const struct ids *ids, const char *id, size_t len, bool *ret_found, uint32_t *ret_docno,
             struct err *err) {
    uint32_t block = 0, cur_len = 0;
    char cur[ID_ROOM];
    struct cursor c = {0};
    *ret_found = false;
    *ret_docno = 0;
    if (!ids->n) return 0;
    int r = find_block(ids, id, len, &block, err);
    if (!r) r = block_open(ids, block, &c, err);
    if (r) return r;
    uint32_t docno = block * ID_BLOCK, end = MIN(docno + ID_BLOCK, ids->n);
    for (bool first = true; docno < end; docno++, first = false) {
        if (!block_next(&c, first, cur, &cur_len)) return bad(ids, err);
        int order = id_compare(cur, cur_len, id, len);
        *ret_found = order == 0;
        if (order >= 0) break;
    }
    *ret_docno = docno;
    return 0;
}

int ids_get(const struct ids *ids, uint32_t docno, struct buf *out, struct err *err) {
    char id[ID_ROOM];
    uint32_t len = 0;
    struct cursor c;
    if (docno >= ids->n)
        return err_set(err, ERR_CORRUPT, "object '%s': no document %u", blob_name(ids->blob), docno);
    int r = block_open(ids, docno / ID_BLOCK, &c, err);
    if (r) return r;
    for (uint32_t i = 0; i <= docno % ID_BLOCK; i++)
        if (!block_next(&c, !i, id, &len)) return bad(ids, err);
    buf_add(out, id, len);
    return 0;
}

void ids_iter_init(struct ids_iter *it, const struct ids *ids) {
    it->ids = ids;
    it->next = 0;
    it->len = 0;
}

int ids_iter_next(struct ids_iter *it, struct err *err) {
    if (it->next >= it->ids->n) return 0;
    bool first = it->next % ID_BLOCK == 0;
    int r = first ? block_open(it->ids, it->next / ID_BLOCK, &it->c, err) : 0;
    if (r) return r;
    if (!block_next(&it->c, first, it->id, &it->len)) return bad(it->ids, err);
    it->next++;
    return 1;
}
