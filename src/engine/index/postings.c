/* Reading postings lists: lazy decoding of blocks, skipping by the last documents of blocks, impacts,
 * positions.
 *
 * Opening checks the fixed-size parts; blocks are checked as they are decoded. A block that passes its
 * checksum but makes no sense ends the list (documents) or counts as frequency 1 (frequencies, positions):
 * never out of bounds, always ascending, always below doc_limit.
 */
#include "index/bitpack.h"
#include "index/inverted_internal.h"
#include "util/simd.h"

enum { NO_WRAP_BITS = 22 }; /* 128 gaps of this width on top of a document number stay below 2^32 */

/* ---- norms ---- */

enum { NORM_EXACT = 24 }; /* 255 - longToInt4(INT32_MAX): this many lengths stand for themselves */

static uint32_t int4_of(uint32_t v) {
    if (v < 8) return v;
    unsigned shift = 28 - (unsigned)__builtin_clz(v);
    return (v >> shift & 7) | (shift + 1) << 3;
}

uint8_t norm_encode(uint32_t length) {
    if (length < NORM_EXACT) return (uint8_t)length;
    return (uint8_t)(NORM_EXACT + int4_of(MIN(length, (uint32_t)INT32_MAX) - NORM_EXACT));
}

uint32_t norm_decode(uint8_t norm) {
    if (norm < NORM_EXACT) return norm;
    uint32_t v = norm - NORM_EXACT;
    return NORM_EXACT + (v < 8 ? v : ((v & 7) | 8) << ((v >> 3) - 1));
}

/* ---- opening ---- */

static int corrupt(const struct inverted *inv, struct err *err) {
    return err_set(err, ERR_CORRUPT, "corrupt object '%s': postings", blob_name(inv->blob));
}

static uint32_t finish(struct postings *p) {
    p->block = p->n_blocks;
    p->block_len = p->in_block = 0;
    return p->doc = DOCNO_NONE;
}

static bool in_region(const struct inverted_region *r, uint64_t off, uint64_t len) {
    return off >= r->postings_off && off - r->postings_off <= r->postings_len &&
           len <= r->postings_len - (off - r->postings_off);
}

static uint32_t last_doc(const struct postings *p, uint32_t block) {
    return get_u32(p->last_docs + 4 * (size_t)block);
}

static uint32_t data_end(const struct postings *p, uint32_t block) {
    return p->n_blocks == 1 ? p->data_len : get_u32(p->entries + (size_t)p->entry_size * block);
}

static uint32_t impacts_end(const struct postings *p, uint32_t block) {
    return p->n_blocks == 1 ? p->impacts_len : get_u32(p->entries + (size_t)p->entry_size * block + 4);
}

static uint64_t pos_block_end(const struct postings *p, uint32_t block) {
    if (p->n_blocks == 1) return p->pos_len;
    const uint8_t *at = p->entries + (size_t)p->entry_size * block + 8;
    return p->entry_size == 12 ? get_u32(at) : get_u64(at);
}

/* impacts of one block: length byte, impacts, data. */
static bool parse_single(struct postings *p, const uint8_t *at, uint32_t len) {
    if (p->coded_freqs) {
        if (len < 1 || at[0] > len - 1) return false;
        p->impacts_len = *at++;
        len -= p->impacts_len + 1;
        p->list_impacts_len = (uint8_t)p->impacts_len;
    }
    p->list_impacts = p->impacts = at;
    p->data = at + p->impacts_len;
    p->data_len = len;
    return true;
}

/* A frequent term's bitmap stands behind its blocks. */
static bool parse_bitmap(struct postings *p) {
    uint32_t last = last_doc(p, p->n_blocks - 1), words = postings_bitmap_words(last);
    if (!postings_is_dense(p->df, last)) return true;
    if (last >= p->doc_limit || p->data_len < 8 * (uint64_t)words) return false;
    p->data_len -= 8 * words;
    p->bitmap = p->data + p->data_len;
    p->bitmap_words = words;
    return true;
}

static bool parse_blocks(struct postings *p, const uint8_t *at, uint32_t len, uint64_t positions_len,
                         bool has_bitmaps) {
    unsigned pos_width = !p->coded_positions ? 0 : positions_len <= UINT32_MAX ? 4 : 8;
    p->entry_size = 4 + (p->coded_freqs ? 4 : 0) + pos_width;
    uint64_t fixed = (uint64_t)p->n_blocks * (4 + p->entry_size);
    if (fixed > len) return false;
    p->last_docs = at;
    p->entries = at + 4 * (size_t)p->n_blocks;
    at += fixed;
    len -= (uint32_t)fixed;
    if (p->coded_freqs) {
        if (len < 1 || at[0] > len - 1) return false;
        p->list_impacts_len = *at++;
        p->list_impacts = at;
        at += p->list_impacts_len;
        len -= p->list_impacts_len + 1u;
        p->impacts_len = impacts_end(p, p->n_blocks - 1);
        if (p->impacts_len > len) return false;
    }
    p->impacts = at;
    p->data = at + p->impacts_len;
    p->data_len = len - p->impacts_len;
    if (has_bitmaps && !parse_bitmap(p)) return false;
    return data_end(p, p->n_blocks - 1) == p->data_len;
}

static bool load_block(struct postings *p, uint32_t block);

static void reset(struct postings *p, const struct inverted *inv, const struct term_info *info,
                  bool want_freqs, bool want_positions) {
    const struct inverted_region *r = &inv->region;
    uint32_t limit = inv->n_docs && inv->n_docs < SEGMENT_MAX_DOCS ? inv->n_docs : SEGMENT_MAX_DOCS;
    p->doc = DOCNO_NONE;
    p->freq = 1;
    p->df = info->df;
    p->coded_freqs = r->has_freqs;
    p->coded_positions = r->has_positions;
    p->has_positions = r->has_positions && want_positions;
    p->has_freqs = r->has_freqs && (want_freqs || want_positions);
    p->doc_limit = limit;
    p->data_len = p->impacts_len = p->entry_size = 0;
    p->list_impacts_len = 0;
    p->bitmap_words = p->bitmap_block = 0;
    p->pos_len = 0;
    p->n_blocks = info->df / POSTINGS_BLOCK + (info->df % POSTINGS_BLOCK != 0);
    p->block = UINT32_MAX;
    p->in_block = UINT32_MAX; /* next adds 1 */
    p->block_len = p->block_last = 0;
    p->impact_block = 0;
    p->inlined = info->df == 1;
    p->freqs_ready = false;
    p->positions_doc = UINT32_MAX;
}

static void open_inlined(struct postings *p, const struct term_info *info) {
    p->docs[0] = p->block_last = (uint32_t)info->postings_off;
    p->freqs[0] = (uint32_t)MAX(1, MIN(info->ttf, (uint64_t)UINT32_MAX));
    p->block = 0;
    p->block_len = 1;
}

int inverted_postings_reopen(struct postings *p, const struct inverted *inv, const struct term_info *info,
                             bool want_freqs, bool want_positions, struct err *err) {
    reset(p, inv, info, want_freqs, want_positions);
    if (!info->df) return 0;
    uint64_t need = p->inlined ? 0 : info->postings_len;
    uint64_t off = p->inlined ? info->positions_off : info->postings_off;
    if (p->has_positions) need += info->positions_len;
    if (info->df > p->doc_limit || need < info->positions_len * p->has_positions) return corrupt(inv, err);
    const uint8_t *at = NULL;
    if (need) {
        if (!in_region(&inv->region, off, need)) return corrupt(inv, err);
        int r = blob_need(inv->blob, off, need, &at, err);
        if (r) return r;
    }
    if (p->has_positions) {
        p->pos_len = info->positions_len;
        p->pos_data = p->inlined ? at : at + info->postings_len;
    }
    if (p->inlined) {
        if (info->postings_off >= p->doc_limit) return corrupt(inv, err);
        open_inlined(p, info);
        return 0;
    }
    if (p->n_blocks > 1)
        return parse_blocks(p, at, info->postings_len, info->positions_len, inv->region.has_bitmaps)
                   ? 0
                   : corrupt(inv, err);
    if (!parse_single(p, at, info->postings_len) || !load_block(p, 0)) return corrupt(inv, err);
    return 0;
}

int inverted_postings_open(struct postings *p, const struct inverted *inv, const struct term_info *info,
                           bool want_freqs, bool want_positions, struct err *err) {
    p->pos_buf = p->positions = NULL;
    p->positions_cap = 0;
    return inverted_postings_reopen(p, inv, info, want_freqs, want_positions, err);
}

int postings_open(struct postings *p, const struct segment_field *field, const struct term_info *info,
                  bool want_freqs, bool want_positions, struct err *err) {
    return inverted_postings_open(p, segment_field_inverted(field), info, want_freqs, want_positions, err);
}

void postings_close(struct postings *p) {
    free(p->pos_buf);
    free(p->positions);
    p->pos_buf = p->positions = NULL;
    p->positions_cap = 0;
}

/* ---- blocks ---- */

static bool ascending(const struct postings *p, uint32_t base) {
    if (base != DOCNO_NONE && p->docs[0] <= base) return false;
    for (unsigned i = 1; i < POSTINGS_BLOCK; i++)
        if (p->docs[i] <= p->docs[i - 1]) return false;
    return true;
}

static bool load_full(struct postings *p, const uint8_t *at, size_t len, uint32_t base) {
    size_t header = p->coded_freqs ? 2 : 1;
    if (len < header) return false;
    unsigned doc_bits = at[0], freq_bits = p->coded_freqs ? at[1] : 0;
    if (doc_bits > 32 || freq_bits > 32) return false;
    if (len < header + bitpack_size(doc_bits) + bitpack_size(freq_bits)) return false;
    bitpack_unpack_gaps(at + header, doc_bits, base, p->docs);
    p->block_len = POSTINGS_BLOCK;
    p->freqs_p = at + header + bitpack_size(doc_bits);
    p->freq_bits = (uint8_t)freq_bits;
    return doc_bits <= NO_WRAP_BITS || ascending(p, base);
}

static bool load_tail(struct postings *p, const uint8_t *at, size_t len, uint32_t base) {
    const uint8_t *end = at + len;
    uint32_t n = p->df % POSTINGS_BLOCK;
    uint64_t next = base == DOCNO_NONE ? 0 : (uint64_t)base + 1, gap;
    for (uint32_t i = 0; i < n; i++, next++) {
        if (!varint_read(&at, end, &gap) || gap >= p->doc_limit || next + gap >= p->doc_limit) return false;
        next += gap;
        p->docs[i] = (uint32_t)next;
    }
    p->block_len = n;
    p->freqs_p = at;
    p->freqs_end = end;
    return true;
}

static bool load_block(struct postings *p, uint32_t block) {
    uint32_t base = block ? last_doc(p, block - 1) : DOCNO_NONE;
    if (block && base >= p->doc_limit) return false;
    uint32_t start = block ? data_end(p, block - 1) : 0, end = data_end(p, block);
    if (start > end || end > p->data_len) return false;
    bool tail = block == p->n_blocks - 1 && p->df % POSTINGS_BLOCK;
    if (!(tail ? load_tail : load_full)(p, p->data + start, end - start, base)) return false;
    p->block_last = p->docs[p->block_len - 1];
    if (p->block_last >= p->doc_limit) return false;
    if (p->n_blocks > 1 && p->block_last != last_doc(p, block)) return false;
    p->block = block;
    p->freqs_ready = false;
    p->positions_doc = UINT32_MAX;
    return true;
}

uint32_t postings_to_block(struct postings *p, uint32_t block) {
    if (block >= p->n_blocks || !load_block(p, block)) return finish(p);
    p->in_block = 0;
    return p->doc = p->docs[0];
}

uint32_t postings_next_block(struct postings *p) {
    if (p->block != UINT32_MAX && p->block >= p->n_blocks) return finish(p);
    return postings_to_block(p, p->block + 1);
}

/* The first block from `from` on that ends at or behind the target; n_blocks if none. Gallops: targets are
 * near. */
static uint32_t find_block(const struct postings *p, uint32_t from, uint32_t target) {
    uint32_t lo = from, step = 1;
    while (lo < p->n_blocks && last_doc(p, lo) < target) {
        from = lo + 1;
        lo = p->n_blocks - lo > step ? lo + step : p->n_blocks;
        step *= 2;
    }
    for (uint32_t hi = lo; from < hi;) {
        uint32_t mid = from + (hi - from) / 2;
        if (last_doc(p, mid) < target)
            from = mid + 1;
        else
            hi = mid;
    }
    return from;
}

/* The target is at most the block's last document. */
static uint32_t advance_in_block(struct postings *p, uint32_t from, uint32_t target) {
    const uint32_t *docs = p->docs + from;
    for (uint32_t n = p->block_len - from; n > 1;) {
        uint32_t half = n / 2;
        docs += docs[half - 1] < target ? half : 0;
        n -= half;
    }
    p->in_block = (uint32_t)(docs - p->docs);
    return p->doc = *docs;
}

uint32_t postings_advance(struct postings *p, uint32_t target) {
    uint32_t from = p->in_block + 1;
    if (from < p->block_len && target <= p->block_last) return advance_in_block(p, from, target);
    if (p->n_blocks <= 1 || (p->block != UINT32_MAX && p->block >= p->n_blocks)) return finish(p);
    uint32_t block = find_block(p, p->block + 1, target);
    if (block >= p->n_blocks || !load_block(p, block) || p->block_last < target) return finish(p);
    return advance_in_block(p, 0, target);
}

/* ---- frequencies ---- */

static bool decode_freqs(struct postings *p) {
    if (p->block_len == POSTINGS_BLOCK) {
        bitpack_unpack_plus1(p->freqs_p, p->freq_bits, p->freqs);
        for (unsigned i = 0; p->freq_bits == 32 && i < POSTINGS_BLOCK; i++)
            if (!p->freqs[i]) return false;
        return true;
    }
    const uint8_t *at = p->freqs_p;
    uint64_t v;
    for (uint32_t i = 0; i < p->block_len; i++) {
        if (!varint_read(&at, p->freqs_end, &v) || v >= UINT32_MAX) return false;
        p->freqs[i] = (uint32_t)v + 1;
    }
    return true;
}

/* Finds the block's positions and checks that there are as many as the frequencies say. */
static bool find_positions(struct postings *p) {
    uint64_t start = p->block ? pos_block_end(p, p->block - 1) : 0, end = pos_block_end(p, p->block);
    if (start > end || end > p->pos_len) return false;
    p->pos_p = p->pos_data + start;
    p->pos_end = p->pos_data + end;
    uint64_t total = 0;
    for (uint32_t i = 0; i < p->block_len; i++) total += p->freqs[i];
    const uint8_t *at = p->pos_p;
    for (uint64_t chunks = total / POSTINGS_BLOCK; chunks; chunks--) {
        if (at >= p->pos_end || *at > 32 || (size_t)(p->pos_end - at) < 1 + bitpack_size(*at)) return false;
        at += 1 + bitpack_size(*at);
    }
    if ((uint64_t)(p->pos_end - at) < total % POSTINGS_BLOCK) return false;
    p->pos_total = total;
    return true;
}

static void load_freqs(struct postings *p) {
    p->pos_at = p->pos_next = 0;
    p->pos_doc = 0;
    p->pos_chunk = UINT64_MAX;
    p->freqs_ready = true;
    p->pos_total = 0;
    bool good = p->inlined || decode_freqs(p);
    if (good && p->has_positions) good = find_positions(p);
    for (uint32_t i = 0; !good && i < p->block_len; i++) p->freqs[i] = 1;
}

uint32_t postings_freq_load(struct postings *p) {
    if (!p->has_freqs || p->in_block >= p->block_len) return p->freq = 1;
    if (!p->freqs_ready) load_freqs(p);
    return p->freq = p->freqs[p->in_block];
}

/* Bits from..to - 1 of a little-endian bitmap. */
__attribute__((always_inline)) static inline uint32_t count_between(const uint8_t *bitmap, uint32_t from,
                                                                    uint32_t to) {
    uint32_t n = 0, w = from >> 6;
    uint64_t mask = ~0ull << (from & 63);
    for (; w < to >> 6; w++, mask = ~0ull)
        n += (uint32_t)__builtin_popcountll(get_u64(bitmap + 8 * (size_t)w) & mask);
    if (to & 63)
        n += (uint32_t)__builtin_popcountll(get_u64(bitmap + 8 * (size_t)w) & mask & ~(~0ull << (to & 63)));
    return n;
}

static uint32_t count_plain(const uint8_t *bitmap, uint32_t from, uint32_t to) {
    return count_between(bitmap, from, to);
}
#if defined(__x86_64__)
__attribute__((target("popcnt"))) static uint32_t count_popcnt(const uint8_t *bitmap, uint32_t from,
                                                               uint32_t to) {
    return count_between(bitmap, from, to);
}
#endif
static uint32_t count_bits(const uint8_t *bitmap, uint32_t from, uint32_t to) {
#if defined(__x86_64__)
    if (simd_level() >= SIMD_SSE42) return count_popcnt(bitmap, from, to);
#endif
    return count_plain(bitmap, from, to);
}

/* The documents of the last block are not packed: they are read. */
static uint32_t tail_freq(struct postings *p, uint32_t doc) {
    if (p->doc < doc || p->block == UINT32_MAX) postings_advance(p, doc);
    return p->doc == doc ? postings_freq(p) : 1;
}

uint32_t postings_bitmap_freq(struct postings *p, uint32_t doc) {
    uint32_t block = p->bitmap_block;
    if (!p->has_freqs) return 1;
    if (block && last_doc(p, block - 1) >= doc) block = 0;
    if (last_doc(p, block) < doc) block = find_block(p, block + 1, doc);
    if (block >= p->n_blocks) return 1;
    p->bitmap_block = block;
    if (block == p->n_blocks - 1 && p->df % POSTINGS_BLOCK) return tail_freq(p, doc);
    uint32_t start = block ? data_end(p, block - 1) : 0, end = data_end(p, block);
    uint32_t base = block ? last_doc(p, block - 1) + 1 : 0;
    if (start > end || end > p->data_len || end - start < 2) return 1;
    const uint8_t *at = p->data + start;
    unsigned doc_bits = at[0], bits = at[1];
    if (doc_bits > 32 || bits > 32 || end - start < 2 + bitpack_size(doc_bits) + bitpack_size(bits)) return 1;
    uint32_t rank = count_bits(p->bitmap, base, doc) % POSTINGS_BLOCK;
    return bitpack_get(at + 2 + bitpack_size(doc_bits), bits, rank) + 1;
}

/* ---- positions ---- */

static void load_chunk(struct postings *p, uint64_t chunk) {
    for (; p->pos_next < chunk; p->pos_next++) p->pos_p += 1 + bitpack_size(*p->pos_p);
    if (chunk < p->pos_total / POSTINGS_BLOCK) {
        unsigned bits = *p->pos_p++;
        bitpack_unpack(p->pos_p, bits, p->pos_buf);
        p->pos_p += bitpack_size(bits);
    } else {
        uint64_t v;
        for (uint64_t i = 0; i < p->pos_total % POSTINGS_BLOCK; i++)
            p->pos_buf[i] = varint_read(&p->pos_p, p->pos_end, &v) ? (uint32_t)v : 0;
    }
    p->pos_chunk = chunk;
    p->pos_next = chunk + 1;
}

static void reserve_positions(struct postings *p, uint32_t n) {
    if (!p->pos_buf) {
        p->pos_buf = aligned_alloc(16, POSTINGS_BLOCK * sizeof *p->pos_buf);
        if (!p->pos_buf) abort();
    }
    if (n <= p->positions_cap) return;
    p->positions_cap = n > UINT32_MAX / 2 ? UINT32_MAX : MAX(16u, n * 2);
    free(p->positions);
    p->positions = xmalloc((size_t)p->positions_cap * sizeof *p->positions);
}

static void read_positions(struct postings *p, uint32_t freq) {
    uint64_t at = p->pos_at;
    uint32_t position = 0;
    for (uint32_t i = 0; i < freq;) {
        uint64_t chunk = at / POSTINGS_BLOCK;
        uint32_t from = (uint32_t)(at % POSTINGS_BLOCK), n = MIN(POSTINGS_BLOCK - from, freq - i);
        if (p->pos_chunk != chunk) load_chunk(p, chunk);
        for (uint32_t j = 0; j < n; j++) p->positions[i + j] = position += p->pos_buf[from + j];
        i += n;
        at += n;
    }
}

const uint32_t *postings_positions(struct postings *p) {
    uint32_t freq = postings_freq(p);
    if (!p->has_positions || p->positions_doc == p->in_block) return p->positions;
    reserve_positions(p, freq);
    p->positions_doc = p->in_block;
    if (!p->pos_total) {
        memset(p->positions, 0, (size_t)freq * sizeof *p->positions);
        return p->positions;
    }
    for (; p->pos_doc < p->in_block; p->pos_doc++) p->pos_at += p->freqs[p->pos_doc];
    read_positions(p, freq);
    return p->positions;
}

/* ---- impacts ---- */

static unsigned no_bound(struct impact *out) {
    *out = (struct impact){.freq = UINT32_MAX, .norm = 0};
    return 1;
}

static unsigned decode_impacts(const uint8_t *at, size_t len, struct impact out[IMPACTS_MAX]) {
    const uint8_t *end = at + len;
    unsigned n = 0;
    uint64_t freq = 0, more;
    for (; at < end && n < IMPACTS_MAX; n++) {
        out[n].norm = *at++;
        if (!varint_read(&at, end, &more) || more > UINT32_MAX || freq + more > UINT32_MAX)
            return no_bound(out);
        out[n].freq = (uint32_t)(freq += more);
    }
    return n && at == end ? n : no_bound(out);
}

/* What is known without reading: no frequencies are coded, or the one document is in the dictionary. */
static bool trivial_impacts(const struct postings *p, struct impact *out) {
    if (p->coded_freqs && !p->inlined) return false;
    *out = (struct impact){.freq = p->inlined ? p->freqs[0] : 1, .norm = 1};
    return true;
}

unsigned postings_block_impacts(const struct postings *p, uint32_t block, struct impact out[8]) {
    if (trivial_impacts(p, out)) return 1;
    uint32_t start = block ? impacts_end(p, block - 1) : 0, end = impacts_end(p, block);
    if (start > end || end > p->impacts_len) return no_bound(out);
    return decode_impacts(p->impacts + start, end - start, out);
}

unsigned postings_impacts(struct postings *p, uint32_t target, uint32_t *ret_last_doc, struct impact out[8]) {
    uint32_t block = p->block;
    *ret_last_doc = DOCNO_NONE;
    if (!p->n_blocks || (block != UINT32_MAX && block >= p->n_blocks)) return 0;
    if (block == UINT32_MAX || target > p->block_last) {
        if (p->n_blocks == 1) return 0;
        uint32_t hint = p->impact_block;
        block++;
        if (hint > block && hint < p->n_blocks && last_doc(p, hint - 1) < target) block = hint;
        block = find_block(p, block, target);
        if (block >= p->n_blocks) return 0;
        p->impact_block = block;
    }
    *ret_last_doc = p->n_blocks == 1 ? p->block_last : last_doc(p, block);
    return postings_block_impacts(p, block, out);
}

unsigned postings_list_impacts(const struct postings *p, struct impact out[8]) {
    if (!p->n_blocks) return 0;
    if (trivial_impacts(p, out)) return 1;
    return decode_impacts(p->list_impacts, p->list_impacts_len, out);
}
