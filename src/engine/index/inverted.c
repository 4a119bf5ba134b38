/* Reading the term dictionary of an inverted index: lookup, ordinals, iteration, verification. */
#include "index/inverted_internal.h"

static int corrupt(const struct inverted *inv, const char *what, struct err *err) {
    return err_set(err, ERR_CORRUPT, "corrupt object '%s': %s", blob_name(inv->blob), what);
}

/* ---- region ---- */

void inverted_region_encode(const struct inverted_region *r, struct buf *out) {
    buf_addc(out, (char)((r->has_freqs ? 1 : 0) | (r->has_positions ? 2 : 0) | (r->has_bitmaps ? 4 : 0)));
    buf_add_varint(out, r->n_terms);
    buf_add_varint(out, r->sum_ttf);
    buf_add_varint(out, r->postings_off);
    buf_add_varint(out, r->postings_len);
    buf_add_varint(out, r->dict_off);
    buf_add_varint(out, r->dict_len);
    buf_add_varint(out, r->index_off);
    buf_add_varint(out, r->index_len);
}

void inverted_region_decode(struct cursor *c, struct inverted_region *ret) {
    uint8_t flags = cursor_u8(c);
    if (flags > 7 || (flags & 3) == 2) c->bad = true;
    ret->has_freqs = flags & 1;
    ret->has_positions = flags & 2;
    ret->has_bitmaps = flags & 4;
    uint64_t n_terms = cursor_varint(c);
    if (n_terms > UINT32_MAX) c->bad = true;
    ret->n_terms = (uint32_t)n_terms;
    ret->sum_ttf = cursor_varint(c);
    ret->postings_off = cursor_varint(c);
    ret->postings_len = cursor_varint(c);
    ret->dict_off = cursor_varint(c);
    ret->dict_len = cursor_varint(c);
    ret->index_off = cursor_varint(c);
    ret->index_len = cursor_varint(c);
}

/* ---- the block index ---- */

struct block_index {
    const uint8_t *keys, *offs, *ends, *text;
    uint32_t n;
    uint64_t text_len;
};

static uint32_t block_count(const struct inverted *inv) {
    return inv->region.n_terms / DICT_BLOCK + (inv->region.n_terms % DICT_BLOCK != 0);
}

static int index_open(const struct inverted *inv, struct block_index *ret, struct err *err) {
    const struct inverted_region *r = &inv->region;
    uint32_t n = block_count(inv);
    uint64_t fixed = (uint64_t)n * INDEX_ENTRY;
    const uint8_t *p;
    if (fixed > r->index_len) return corrupt(inv, "term index", err);
    int e = blob_need(inv->blob, r->index_off, r->index_len, &p, err);
    if (e) return e;
    *ret = (struct block_index){.keys = p,
                                .offs = p + 8 * (size_t)n,
                                .ends = p + 16 * (size_t)n,
                                .text = p + fixed,
                                .n = n,
                                .text_len = r->index_len - fixed};
    return 0;
}

/* The separator of a block; empty when the index is damaged. */
static const uint8_t *separator(const struct block_index *x, uint32_t block, size_t *ret_len) {
    uint32_t start = block ? get_u32(x->ends + 4 * (size_t)(block - 1)) : 0,
             end = get_u32(x->ends + 4 * (size_t)block);
    bool good = start <= end && end <= x->text_len;
    *ret_len = good ? end - start : 0;
    return x->text + (good ? start : 0);
}

static bool separator_above(const struct block_index *x, uint32_t block, uint64_t key, const char *term,
                            size_t len) {
    uint64_t block_key = get_u64(x->keys + 8 * (size_t)block);
    if (block_key != key) return block_key > key;
    size_t sep_len;
    const uint8_t *sep = separator(x, block, &sep_len);
    return term_cmp(sep, sep_len, term, len) > 0;
}

/* The one block that can hold the term. */
static uint32_t index_find(const struct block_index *x, const char *term, size_t len) {
    uint64_t key = term_key(term, len);
    uint32_t lo = 0, hi = x->n; /* separators below lo are not above the term, those from hi on are */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (separator_above(x, mid, key, term, len))
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo ? lo - 1 : 0;
}

/* ---- dictionary blocks ---- */

struct dict_block {
    const uint8_t *p, *terms_end, *stats, *stats_end;
    uint64_t postings_off;
    uint32_t first_ord, n;
};

static int block_open(const struct inverted *inv, const struct block_index *x, uint32_t block,
                      struct dict_block *b, struct err *err) {
    const struct inverted_region *r = &inv->region;
    uint64_t start = get_u64(x->offs + 8 * (size_t)block);
    uint64_t end = block + 1 < x->n ? get_u64(x->offs + 8 * (size_t)(block + 1)) : r->dict_len, v;
    const uint8_t *p;
    if (start >= end || end > r->dict_len) return corrupt(inv, "term index", err);
    int e = blob_need(inv->blob, r->dict_off + start, end - start, &p, err);
    if (e) return e;
    b->stats_end = p + (end - start);
    if (!varint_read(&p, b->stats_end, &v) || v > (uint64_t)(b->stats_end - p))
        return corrupt(inv, "term dictionary", err);
    b->p = p;
    b->terms_end = b->stats = p + v;
    if (!varint_read(&b->stats, b->stats_end, &v)) return corrupt(inv, "term dictionary", err);
    b->postings_off = r->postings_off + v;
    b->first_ord = block * DICT_BLOCK;
    b->n = MIN((uint32_t)DICT_BLOCK, r->n_terms - b->first_ord);
    return 0;
}

/* The next front-coded term: bytes shared with the one before, and its own. */
static bool term_decode(const uint8_t **p, const uint8_t *end, uint64_t *ret_shared, const uint8_t **ret_rest,
                        size_t *ret_rest_len) {
    if (*p >= end) return false;
    uint64_t shared = **p >> 4, rest = **p & 15, more;
    ++*p;
    if (shared == 15) {
        if (!varint_read(p, end, &more) || more > UINT32_MAX) return false;
        shared += more;
    }
    if (rest == 15) {
        if (!varint_read(p, end, &more) || more > UINT32_MAX) return false;
        rest += more;
    }
    if (rest > (uint64_t)(end - *p)) return false;
    *ret_shared = shared;
    *ret_rest = *p;
    *ret_rest_len = (size_t)rest;
    *p += rest;
    return true;
}

/* The statistics of the next term; *off is where its data start, moved on behind them. */
static bool stats_decode(const struct inverted_region *r, const uint8_t **p, const uint8_t *end,
                         uint64_t *off, struct term_info *ret) {
    uint64_t tag, ttf = 0, postings_len = 0, positions_len = 0;
    if (!varint_read(p, end, &tag)) return false;
    bool single = tag & 1;
    uint64_t df = single ? 1 : tag >> 1;
    if (df == 0 || df > SEGMENT_MAX_DOCS || (!single && df == 1)) return false;
    if (r->has_freqs && !varint_read(p, end, &ttf)) return false;
    if (!single && (!varint_read(p, end, &postings_len) || postings_len > UINT32_MAX)) return false;
    if (r->has_positions && !varint_read(p, end, &positions_len)) return false;
    ret->df = (uint32_t)df;
    ret->ttf = single && r->has_freqs ? ttf : ttf + df;
    ret->postings_off = single ? tag >> 1 : *off;
    ret->postings_len = (uint32_t)postings_len;
    ret->positions_off = *off + postings_len;
    ret->positions_len = positions_len;
    *off = ret->positions_off + positions_len;
    return true;
}

/* Scans a block for the first term that is not below the given one: its index in *ret_i (b->n if none).
 * `match` is how much of the wanted term the last term seen, which is below it, shares with it. 1 found, 0
 * not, -1 damaged. */
static int block_scan(const struct dict_block *b, const char *term, size_t len, uint32_t *ret_i) {
    const uint8_t *p = b->p, *rest;
    size_t match = 0, rest_len;
    uint64_t shared;
    for (*ret_i = 0; *ret_i < b->n; ++*ret_i) {
        if (!term_decode(&p, b->terms_end, &shared, &rest, &rest_len)) return -1;
        if (shared > match) continue; /* as below as the one before */
        if (shared < match) return 0; /* grew where the one before was equal */
        size_t n = MIN(rest_len, len - match), i = 0;
        while (i < n && rest[i] == (uint8_t)term[match + i]) i++;
        if (i == rest_len && match + i == len) return 1;
        if (match + i == len || (i < rest_len && rest[i] > (uint8_t)term[match + i])) return 0;
        match += i;
    }
    return 0;
}

int inverted_term_find(const struct inverted *inv, const char *term, size_t len, struct term_info *ret,
                       struct err *err) {
    memset(ret, 0, sizeof *ret);
    if (!inv->region.n_terms) return 0;
    struct block_index x;
    struct dict_block b;
    uint32_t i;
    int e = index_open(inv, &x, err);
    if (!e) e = block_open(inv, &x, index_find(&x, term, len), &b, err);
    if (e) return e;
    int found = block_scan(&b, term, len, &i);
    if (found < 0) return corrupt(inv, "term dictionary", err);
    if (!found) return 0;
    struct term_info info = {.ord = b.first_ord + i};
    for (uint32_t k = 0; k <= i; k++)
        if (!stats_decode(&inv->region, &b.stats, b.stats_end, &b.postings_off, &info))
            return corrupt(inv, "term dictionary", err);
    *ret = info;
    return 0;
}

/* ---- iteration ---- */

static int iter_block(struct term_iter *it, struct err *err) {
    struct block_index x;
    struct dict_block b;
    int e = index_open(it->inverted, &x, err);
    if (!e) e = block_open(it->inverted, &x, it->next_ord / DICT_BLOCK, &b, err);
    if (e) return e;
    it->p = b.p;
    it->terms_end = b.terms_end;
    it->stats = b.stats;
    it->stats_end = b.stats_end;
    it->postings_off = b.postings_off;
    buf_clear(&it->term);
    return 0;
}

int term_iter_next(struct term_iter *it, struct err *err) {
    const struct inverted *inv = it->inverted;
    if (it->next_ord >= inv->region.n_terms) return 0;
    if (it->next_ord % DICT_BLOCK == 0) {
        int e = iter_block(it, err);
        if (e) return e;
    }
    uint64_t shared;
    const uint8_t *rest;
    size_t rest_len;
    if (!term_decode(&it->p, it->terms_end, &shared, &rest, &rest_len) || shared > it->term.len ||
        !stats_decode(&inv->region, &it->stats, it->stats_end, &it->postings_off, &it->info))
        return corrupt(inv, "term dictionary", err);
    it->term.len = (size_t)shared;
    buf_add(&it->term, rest, rest_len);
    it->info.ord = it->next_ord++;
    return 1;
}

/* The next term is the one of this ordinal. */
static int iter_seek(struct term_iter *it, uint32_t ord, struct err *err) {
    it->next_ord = ord - ord % DICT_BLOCK;
    while (it->next_ord < ord) {
        int e = term_iter_next(it, err);
        if (e < 0) return e;
    }
    return 0;
}

int inverted_iter_open(struct term_iter *it, const struct inverted *inv, const char *from, size_t len,
                       struct err *err) {
    memset(it, 0, sizeof *it);
    it->inverted = inv;
    if (!inv->region.n_terms || !len) return 0;
    struct block_index x;
    struct dict_block b;
    uint32_t i;
    int e = index_open(inv, &x, err);
    if (!e) e = block_open(inv, &x, index_find(&x, from, len), &b, err);
    if (e) return e;
    if (block_scan(&b, from, len, &i) < 0) return corrupt(inv, "term dictionary", err);
    e = iter_seek(it, b.first_ord + i, err);
    if (e) term_iter_close(it);
    return e;
}

void term_iter_close(struct term_iter *it) {
    buf_release(&it->term);
}

int inverted_term_by_ord(const struct inverted *inv, uint32_t ord, struct buf *out, struct err *err) {
    if (ord >= inv->region.n_terms) return corrupt(inv, "ordinal of a term", err);
    struct term_iter it = {.inverted = inv};
    int e = iter_seek(&it, ord, err);
    if (!e) e = term_iter_next(&it, err);
    if (e > 0) buf_add(out, it.term.data, it.term.len);
    term_iter_close(&it);
    return e < 0 ? e : 0;
}

/* ---- on a field ---- */

int term_find(const struct segment_field *field, const char *term, size_t len, struct term_info *ret,
              struct err *err) {
    return inverted_term_find(segment_field_inverted(field), term, len, ret, err);
}

uint32_t term_count(const struct segment_field *field) {
    return segment_field_inverted(field)->region.n_terms;
}

int term_by_ord(const struct segment_field *field, uint32_t ord, struct buf *out, struct err *err) {
    return inverted_term_by_ord(segment_field_inverted(field), ord, out, err);
}

int term_iter_open(struct term_iter *it, const struct segment_field *field, const char *from, size_t len,
                   struct err *err) {
    int e = inverted_iter_open(it, segment_field_inverted(field), from, len, err);
    it->field = field;
    return e;
}

/* ---- verification ---- */

static int check_postings(const struct inverted *inv, const struct term_info *info, struct postings *p,
                          struct err *err) {
    int e = inverted_postings_reopen(p, inv, info, true, true, err);
    if (e) return e;
    uint64_t ttf = 0;
    uint32_t df = 0, n_bits = 0;
    for (uint32_t w = 0; w < p->bitmap_words; w++)
        n_bits += (uint32_t)__builtin_popcountll(get_u64(p->bitmap + 8 * (size_t)w));
    if (p->bitmap_words && n_bits != info->df) return corrupt(inv, "bitmap", err);
    while (postings_next(p) != DOCNO_NONE) {
        if (p->bitmap_words && !(p->bitmap[p->doc >> 3] >> (p->doc & 7) & 1))
            return corrupt(inv, "bitmap", err);
        uint32_t freq = postings_freq(p);
        if (p->has_positions && !p->pos_total) return corrupt(inv, "positions", err);
        const uint32_t *positions = p->has_positions ? postings_positions(p) : NULL;
        for (uint32_t i = 1; positions && i < freq; i++)
            if (positions[i] < positions[i - 1]) return corrupt(inv, "positions", err);
        ttf += freq;
        df++;
    }
    if (df != info->df || ttf != info->ttf) return corrupt(inv, "postings", err);
    return 0;
}

static int check_terms(const struct inverted *inv, struct term_iter *it, struct buf *last, struct postings *p,
                       struct err *err) {
    uint64_t sum_ttf = 0;
    uint32_t n = 0;
    int e;
    for (; (e = term_iter_next(it, err)) > 0; n++) {
        if (n && term_cmp(last->data, last->len, it->term.data, it->term.len) >= 0)
            return corrupt(inv, "terms out of order", err);
        struct term_info found;
        e = inverted_term_find(inv, (const char *)it->term.data, it->term.len, &found, err);
        if (e) return e;
        if (found.ord != it->info.ord || found.df != it->info.df) return corrupt(inv, "term index", err);
        e = check_postings(inv, &it->info, p, err);
        if (e) return e;
        sum_ttf += it->info.ttf;
        buf_clear(last);
        buf_add(last, it->term.data, it->term.len);
    }
    if (e < 0) return e;
    if (n != inv->region.n_terms || sum_ttf != inv->region.sum_ttf)
        return corrupt(inv, "number of terms", err);
    return 0;
}

int inverted_check(const struct inverted *inv, uint32_t n_docs, struct err *err) {
    struct inverted bounded = *inv;
    struct postings p = {0};
    struct term_iter it;
    struct buf last = BUF_INIT;
    if (n_docs) bounded.n_docs = n_docs;
    int e = inverted_iter_open(&it, &bounded, "", 0, err);
    if (e) return e;
    e = check_terms(&bounded, &it, &last, &p, err);
    term_iter_close(&it);
    postings_close(&p);
    buf_release(&last);
    return e;
}

int inverted_verify(const struct segment_field *field, uint32_t n_docs, struct err *err) {
    return inverted_check(segment_field_inverted(field), n_docs, err);
}
