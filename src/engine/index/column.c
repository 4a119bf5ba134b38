/* Columns and bit-packed arrays. Grammar: docs/FORMAT.md. */
#include "index/column.h"

#include "index/index.h"
#include "util/codec.h"

void packed_add(struct buf *out, const uint64_t *values, size_t n, unsigned width) {
    size_t len = (size_t)packed_size(n, width);
    uint8_t *p = buf_grow(out, len);
    uint64_t word = 0;
    unsigned used = 0;
    memset(p, 0, len);
    for (size_t i = 0; i < n && width; i++) {
        word |= values[i] << used;
        used += width;
        if (used < 64) continue;
        put_u64(p, word);
        p += 8;
        used -= 64;
        word = used ? values[i] >> (width - used) : 0;
    }
    memcpy(p, &word, (used + 7) / 8);
}

/* ---- building ---- */

void column_builder_sort(struct column_builder *b, uint32_t n_docs) {
    uint32_t *docs = xmalloc(b->n * sizeof *docs);
    int64_t *values = xmalloc(b->n * sizeof *values);
    size_t *place = xcalloc((size_t)n_docs + 1, sizeof *place);
    for (size_t i = 0; i < b->n; i++) place[b->docs[i] + 1]++;
    for (uint32_t d = 0; d < n_docs; d++) place[d + 1] += place[d];
    for (size_t i = 0; i < b->n; i++) {
        size_t to = place[b->docs[i]]++;
        docs[to] = b->docs[i];
        values[to] = b->values[i];
    }
    free(place);
    free(b->docs);
    free(b->values);
    b->docs = docs;
    b->values = values;
    b->cap = b->n;
}

void column_builder_release(struct column_builder *b) {
    free(b->docs);
    free(b->values);
    *b = (struct column_builder){0};
}

static int value_compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Sorts the values of each document, marks the documents and gives the number of the first value of each. */
static uint32_t group(struct column_builder *b, uint64_t *exists, uint64_t *starts) {
    uint32_t n_with = 0;
    for (size_t i = 0, end; i < b->n; i = end) {
        for (end = i + 1; end < b->n && b->docs[end] == b->docs[i]; end++) {
        }
        if (end - i > 1) qsort(b->values + i, end - i, sizeof *b->values, value_compare);
        bitmap_set(exists, b->docs[i]);
        starts[n_with++] = i;
    }
    starts[n_with] = b->n;
    return n_with;
}

static uint64_t greatest_divisor(const int64_t *values, size_t n) {
    uint64_t g = 0;
    for (size_t i = 1; i < n && g != 1; i++) {
        uint64_t d = values[i] < values[0] ? (uint64_t)values[0] - (uint64_t)values[i]
                                           : (uint64_t)values[i] - (uint64_t)values[0];
        while (d) {
            uint64_t rest = g % d;
            g = d;
            d = rest;
        }
    }
    return g ? g : 1;
}

static void add_block(struct buf *out, uint8_t *entry, const int64_t *values, size_t n, uint64_t gcd) {
    uint64_t packed[COLUMN_BLOCK];
    int64_t lo = values[0], hi = values[0];
    for (size_t i = 1; i < n; i++) {
        lo = MIN(lo, values[i]);
        hi = MAX(hi, values[i]);
    }
    for (size_t i = 0; i < n; i++) {
        packed[i] = (uint64_t)values[i] - (uint64_t)lo;
        if (gcd != 1) packed[i] /= gcd;
    }
    unsigned width = packed_width(((uint64_t)hi - (uint64_t)lo) / gcd);
    put_u64(entry, (uint64_t)lo);
    put_u64(entry + 8, (uint64_t)hi);
    put_u64(entry + 16, out->len);
    put_u64(entry + 24, width);
    packed_add(out, packed, n, width);
}

static void add_ranks(struct buf *out, const uint64_t *exists, uint32_t n_docs) {
    uint32_t rank = 0;
    for (uint32_t d = 0; d < n_docs; d += COLUMN_RANK_BITS) {
        buf_add_u32(out, rank);
        for (size_t w = d / 64; w < bitmap_words(n_docs) && w < (d + COLUMN_RANK_BITS) / 64; w++)
            rank += (uint32_t)__builtin_popcountll(exists[w]);
    }
}

uint32_t column_write(struct column_builder *b, uint32_t n_docs, struct blob_writer *out, uint64_t *exists,
                      uint64_t *ret_off, uint64_t *ret_len) {
    uint64_t *starts = xmalloc((b->n + 1) * sizeof *starts);
    uint32_t n_with = group(b, exists, starts);
    bool multi = b->n > n_with;
    size_t n_blocks = (b->n + COLUMN_BLOCK - 1) / COLUMN_BLOCK;
    uint64_t gcd = greatest_divisor(b->values, b->n);
    unsigned start_width = multi ? packed_width(b->n) : 0;
    struct buf bytes = BUF_INIT;
    uint8_t *h = buf_grow(&bytes, COLUMN_HEADER_SIZE + n_blocks * COLUMN_ENTRY_SIZE);
    memset(h, 0, bytes.len);
    put_u32(h, n_docs);
    put_u32(h + 4, n_with);
    put_u64(h + 8, b->n);
    put_u64(h + 16, gcd);
    put_u32(h + 24, (uint32_t)n_blocks);
    h[28] = multi;
    h[29] = (uint8_t)start_width;
    if (n_with < n_docs) add_ranks(&bytes, exists, n_docs);
    if (multi) packed_add(&bytes, starts, (size_t)n_with + 1, start_width);
    for (size_t i = 0; i < n_blocks; i++) {
        uint8_t entry[COLUMN_ENTRY_SIZE];
        size_t from = i * COLUMN_BLOCK;
        add_block(&bytes, entry, b->values + from, MIN((size_t)COLUMN_BLOCK, b->n - from), gcd);
        memcpy(bytes.data + COLUMN_HEADER_SIZE + i * COLUMN_ENTRY_SIZE, entry, sizeof entry);
    }
    blob_write_align(out, 8);
    *ret_off = blob_writer_off(out);
    *ret_len = bytes.len;
    blob_write(out, bytes.data, bytes.len);
    buf_release(&bytes);
    free(starts);
    return n_with;
}

/* ---- reading ---- */

static int bad(const struct column *c, struct err *err, const char *what) {
    return err_set(err, ERR_CORRUPT, "object '%s': damaged column: %s", c->name, what);
}

struct zone {
    int64_t lo, hi;
    const uint8_t *packed;
    unsigned width;
    uint32_t n;
};

static struct zone zone_of(const struct column *c, uint64_t block) {
    const uint8_t *e = c->blocks + block * COLUMN_ENTRY_SIZE;
    uint64_t left = c->n_values - block * COLUMN_BLOCK;
    return (struct zone){(int64_t)get_u64(e), (int64_t)get_u64(e + 8), c->base + get_u64(e + 16), e[24],
                         (uint32_t)MIN(left, (uint64_t)COLUMN_BLOCK)};
}

static int64_t value_at(const struct column *c, uint64_t i) {
    const uint8_t *e = c->blocks + i / COLUMN_BLOCK * COLUMN_ENTRY_SIZE;
    uint64_t v = packed_get(c->base + get_u64(e + 16), i % COLUMN_BLOCK, e[24]);
    return (int64_t)(get_u64(e) + v * c->gcd);
}

/* Documents with a value below docno. */
static uint32_t rank_of(const struct column *c, uint32_t docno) {
    if (!c->exists) return docno;
    uint32_t from = docno / COLUMN_RANK_BITS, rank = get_u32(c->ranks + 4 * (size_t)from);
    for (uint32_t w = from * (COLUMN_RANK_BITS / 64); w < docno / 64; w++)
        rank += (uint32_t)__builtin_popcountll(c->exists[w]);
    uint64_t below = ((uint64_t)1 << (docno & 63)) - 1;
    return rank + (uint32_t)__builtin_popcountll(c->exists[docno / 64] & below);
}

static uint64_t start_of(const struct column *c, uint32_t rank) {
    return c->multi ? packed_get(c->starts, rank, c->start_width) : rank;
}

static int check_blocks(const struct column *c, struct err *err) {
    for (uint32_t i = 0; i < c->n_blocks; i++) {
        const uint8_t *e = c->blocks + (size_t)i * COLUMN_ENTRY_SIZE;
        uint64_t off = get_u64(e + 16), width = get_u64(e + 24);
        uint64_t n = MIN(c->n_values - (uint64_t)i * COLUMN_BLOCK, (uint64_t)COLUMN_BLOCK);
        if (width > 64 || !packed_width_ok((unsigned)width) || off > c->len ||
            packed_size(n, (unsigned)width) > c->len - off || (int64_t)get_u64(e) > (int64_t)get_u64(e + 8))
            return bad(c, err, "block");
    }
    return 0;
}

static int check_ranks(const struct column *c, struct err *err) {
    uint32_t rank = 0;
    for (size_t w = 0; w < bitmap_words(c->n_docs); w++) {
        if (w % (COLUMN_RANK_BITS / 64) == 0 && get_u32(c->ranks + w) != rank) return bad(c, err, "ranks");
        rank += (uint32_t)__builtin_popcountll(c->exists[w]);
    }
    bool beyond = c->n_docs % 64 && c->exists[c->n_docs / 64] >> (c->n_docs % 64);
    return rank == c->n_with && !beyond ? 0 : bad(c, err, "existence bitmap");
}

static int check_starts(const struct column *c, struct err *err) {
    uint64_t last = start_of(c, 0);
    if (last) return bad(c, err, "offsets");
    for (uint32_t r = 1; r <= c->n_with; r++) {
        uint64_t start = start_of(c, r);
        if (start <= last || start > c->n_values) return bad(c, err, "offsets");
        last = start;
    }
    return last == c->n_values ? 0 : bad(c, err, "offsets");
}

int column_decode(const uint8_t *p, uint64_t len, uint32_t n_docs, const uint64_t *exists, const char *name,
                  struct column *ret, struct err *err) {
    struct column c = {.name = name, .base = p, .len = len, .n_docs = n_docs, .exists = exists};
    if (len < COLUMN_HEADER_SIZE || get_u32(p) != n_docs) return bad(&c, err, "header");
    c.n_with = get_u32(p + 4);
    c.n_values = get_u64(p + 8);
    c.gcd = get_u64(p + 16);
    c.n_blocks = get_u32(p + 24);
    c.multi = p[28] & 1;
    c.start_width = p[29];
    uint64_t off = COLUMN_HEADER_SIZE;
    if (c.n_with > n_docs || !c.gcd || !packed_width_ok(c.start_width) ||
        (c.n_with < n_docs) != (exists != NULL))
        return bad(&c, err, "header");
    if (c.multi ? c.n_values <= c.n_with : c.n_values != c.n_with) return bad(&c, err, "number of values");
    if ((len - off) / COLUMN_ENTRY_SIZE < c.n_blocks || c.n_values > (uint64_t)c.n_blocks * COLUMN_BLOCK ||
        (c.n_values + COLUMN_BLOCK - 1) / COLUMN_BLOCK != c.n_blocks)
        return bad(&c, err, "number of blocks");
    c.blocks = p + off;
    off += (uint64_t)c.n_blocks * COLUMN_ENTRY_SIZE;
    c.ranks = p + off;
    if (exists) off += 4 * (((uint64_t)n_docs + COLUMN_RANK_BITS - 1) / COLUMN_RANK_BITS);
    c.starts = p + off;
    if (c.multi) off += packed_size((uint64_t)c.n_with + 1, c.start_width);
    if (off > len) return bad(&c, err, "length");
    int r = check_blocks(&c, err);
    if (!r && exists) r = check_ranks(&c, err);
    if (!r && c.multi) r = check_starts(&c, err);
    if (!r) *ret = c;
    return r;
}

uint32_t column_count(const struct column *c, uint32_t docno) {
    if (docno >= c->n_docs || (c->exists && !bitmap_get(c->exists, docno))) return 0;
    if (!c->multi) return 1;
    uint32_t rank = rank_of(c, docno);
    return (uint32_t)(start_of(c, rank + 1) - start_of(c, rank));
}

int64_t column_value(const struct column *c, uint32_t docno, uint32_t i) {
    uint64_t at = start_of(c, rank_of(c, docno)) + i;
    return at < c->n_values ? value_at(c, at) : 0;
}

/* ---- ranges ---- */

static void set_bits(uint64_t *bits, uint32_t from, uint32_t to) {
    for (; from < to && from & 63; from++) bitmap_set(bits, from);
    for (; from + 64 <= to; from += 64) bits[from >> 6] = UINT64_MAX;
    for (; from < to; from++) bitmap_set(bits, from);
}

/* Which packed numbers of a zone are inside [lo, hi]; false: none. */
static bool packed_bounds(const struct zone *z, uint64_t gcd, int64_t lo, int64_t hi, uint64_t *ret_lo,
                          uint64_t *ret_hi) {
    if (lo > z->hi || hi < z->lo) return false;
    uint64_t above = lo <= z->lo ? 0 : (uint64_t)lo - (uint64_t)z->lo;
    *ret_lo = above / gcd + (above % gcd != 0);
    *ret_hi = ((uint64_t)MIN(hi, z->hi) - (uint64_t)z->lo) / gcd;
    return *ret_lo <= *ret_hi;
}

/* Which of the values [i, i + n), n <= 64, are inside [from, from + span], as bits. */
static uint64_t match_word(const struct zone *z, uint32_t i, uint32_t n, uint64_t from, uint64_t span) {
    uint64_t word = 0, bit = (uint64_t)i * z->width,
             mask = z->width == 64 ? UINT64_MAX : ((uint64_t)1 << z->width) - 1;
    for (uint32_t k = 0; k < n; k++, bit += z->width) {
        uint64_t v = get_u64(z->packed + (bit >> 3)) >> (bit & 7) & mask;
        word = word >> 1 | (uint64_t)(v - from <= span) << 63;
    }
    return word >> (64 - n);
}

static void range_dense(const struct column *c, int64_t lo, int64_t hi, uint64_t *bits) {
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        struct zone z = zone_of(c, b);
        uint32_t first = b * COLUMN_BLOCK;
        uint64_t from, to;
        if (!packed_bounds(&z, c->gcd, lo, hi, &from, &to)) continue;
        if (lo <= z.lo && hi >= z.hi) {
            set_bits(bits, first, first + z.n);
            continue;
        }
        for (uint32_t i = 0; i < z.n; i += 64)
            bits[(first + i) >> 6] |= match_word(&z, i, MIN(z.n - i, 64u), from, to - from);
    }
}

/* The document whose rank is given. */
static uint32_t select_rank(const struct column *c, uint32_t rank) {
    if (!c->exists) return rank;
    uint32_t lo = 0, hi = (c->n_docs - 1) / COLUMN_RANK_BITS;
    while (lo < hi) {
        uint32_t mid = (lo + hi + 1) / 2;
        if (get_u32(c->ranks + 4 * (size_t)mid) <= rank)
            lo = mid;
        else
            hi = mid - 1;
    }
    rank -= get_u32(c->ranks + 4 * (size_t)lo);
    size_t w = (size_t)lo * (COLUMN_RANK_BITS / 64);
    for (uint32_t n; (n = (uint32_t)__builtin_popcountll(c->exists[w])) <= rank; w++) rank -= n;
    uint64_t word = c->exists[w];
    while (rank--) word &= word - 1;
    return (uint32_t)(w * 64 + (unsigned)__builtin_ctzll(word));
}

static uint32_t next_with(const struct column *c, uint32_t docno) {
    if (!c->exists) return docno + 1;
    size_t w = ++docno / 64;
    if (docno >= c->n_docs) return docno;
    uint64_t word = c->exists[w] & UINT64_MAX << (docno & 63);
    while (!word && ++w < bitmap_words(c->n_docs)) word = c->exists[w];
    return word ? (uint32_t)(w * 64 + (unsigned)__builtin_ctzll(word)) : c->n_docs;
}

/* The rank of the document that owns a value. */
static uint32_t owner_of(const struct column *c, uint64_t value_no) {
    if (!c->multi) return (uint32_t)value_no;
    uint32_t lo = 0, hi = c->n_with - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        if (start_of(c, mid) <= value_no)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

static void range_mapped(const struct column *c, int64_t lo, int64_t hi, uint64_t *bits) {
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        struct zone z = zone_of(c, b);
        uint64_t from, to, first = (uint64_t)b * COLUMN_BLOCK;
        if (!packed_bounds(&z, c->gcd, lo, hi, &from, &to)) continue;
        uint32_t rank = owner_of(c, first), doc = select_rank(c, rank);
        uint64_t end = start_of(c, rank + 1), word = 0;
        for (uint32_t i = 0; i < z.n; i++, word >>= 1) {
            if (i % 64 == 0) word = match_word(&z, i, MIN(z.n - i, 64u), from, to - from);
            if (first + i >= end) {
                doc = next_with(c, doc);
                end = start_of(c, ++rank + 1);
            }
            if (word & 1) bitmap_set(bits, doc);
        }
    }
}

void column_range(const struct column *c, int64_t lo, int64_t hi, uint64_t *bits) {
    if (lo > hi) return;
    if (!c->exists && !c->multi)
        range_dense(c, lo, hi, bits);
    else
        range_mapped(c, lo, hi, bits);
}

int column_verify(const struct column *c, struct err *err) {
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        struct zone z = zone_of(c, b);
        int64_t lo = INT64_MAX, hi = INT64_MIN;
        for (uint32_t i = 0; i < z.n; i++) {
            int64_t v = value_at(c, (uint64_t)b * COLUMN_BLOCK + i);
            lo = MIN(lo, v);
            hi = MAX(hi, v);
        }
        if (lo != z.lo || hi != z.hi) return bad(c, err, "a zone does not fit its values");
    }
    for (uint32_t r = 0; c->multi && r < c->n_with; r++)
        for (uint64_t v = start_of(c, r) + 1; v < start_of(c, r + 1); v++)
            if (value_at(c, v - 1) > value_at(c, v)) return bad(c, err, "order of values");
    return 0;
}
