/* Encoding terms, postings, positions and the dictionary of an inverted index (format: inverted_internal.h's
 * readers inverted.c and postings.c, docs/FORMAT.md). */
#include "index/bitpack.h"
#include "index/inverted_internal.h"

static bool without_bitmaps;
void encoder_without_bitmaps(bool on) {
    without_bitmaps = on;
}

void encoder_init(struct encoder *e, bool has_freqs, bool has_positions, const uint8_t *norms,
                  struct blob_writer *out, inverted_ord_fn *ord_fn, void *ctx) {
    memset(e, 0, sizeof *e);
    e->out = out;
    e->norms = norms;
    e->ord_fn = ord_fn;
    e->ord_ctx = ctx;
    e->region.has_freqs = has_freqs;
    e->region.has_positions = has_positions;
    e->region.has_bitmaps = !without_bitmaps;
    e->region.postings_off = blob_writer_off(out);
}

void encoder_release(struct encoder *e) {
    struct buf *bufs[] = {&e->dict,        &e->index_keys,  &e->index_offs, &e->index_ends, &e->separators,
                          &e->block_terms, &e->block_stats, &e->last_term,  &e->term,       &e->data,
                          &e->impacts,     &e->positions,   &e->last_docs,  &e->ends,       &e->bitmap};
    for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) buf_release(bufs[i]);
}

void encoder_term(struct encoder *e, const void *term, size_t len) {
    struct buf *bufs[] = {&e->term,      &e->data, &e->impacts, &e->positions,
                          &e->last_docs, &e->ends, &e->bitmap};
    for (size_t i = 0; i < ARRAY_SIZE(bufs); i++) buf_clear(bufs[i]);
    buf_add(&e->term, term, len);
    e->df = e->n = e->n_chunk = 0;
    e->ttf = 0;
    memset(e->list_impacts.seen, 0, sizeof e->list_impacts.seen);
    e->prev_doc = DOCNO_NONE; /* the gap before document 0 is then 0 */
}

/* ---- impacts ---- */

/* Two neighbours become one that is at least as good as both: the pair with the smallest loss, here the
 * smallest relative growth of the lower frequency. */
static void merge_closest(struct impact *v, unsigned n) {
    unsigned best = 0;
    double best_loss = 0;
    for (unsigned i = 0; i + 1 < n; i++) {
        double loss = (double)v[i + 1].freq / v[i].freq;
        if (i == 0 || loss < best_loss) {
            best = i;
            best_loss = loss;
        }
    }
    v[best].freq = v[best + 1].freq;
    memmove(v + best + 1, v + best + 2, (n - best - 2) * sizeof *v);
}

static void impact_set_add(struct impact_set *s, uint8_t norm, uint32_t freq) {
    uint64_t bit = 1ull << (norm & 63);
    if (!(s->seen[norm >> 6] & bit) || freq > s->max_freq[norm]) s->max_freq[norm] = freq;
    s->seen[norm >> 6] |= bit;
}

/* The pairs no other pair dominates, at most max; norm and frequency ascend. */
static unsigned competitive(const struct impact_set *s, unsigned max, struct impact out[256]) {
    unsigned n = 0;
    for (unsigned w = 0; w < 4; w++) {
        for (uint64_t bits = s->seen[w]; bits; bits &= bits - 1) {
            unsigned norm = w * 64 + (unsigned)__builtin_ctzll(bits);
            if (n && s->max_freq[norm] <= out[n - 1].freq) continue;
            out[n++] = (struct impact){.freq = s->max_freq[norm], .norm = (uint8_t)norm};
        }
    }
    for (; n > max; n--) merge_closest(out, n);
    return n;
}

static void encode_impacts(const struct impact *v, unsigned n, struct buf *out) {
    uint32_t freq = 0;
    for (unsigned i = 0; i < n; i++) {
        buf_addc(out, (char)v[i].norm);
        buf_add_varint(out, v[i].freq - freq);
        freq = v[i].freq;
    }
}

static void add_block_impacts(struct encoder *e) {
    struct impact v[256];
    struct impact_set set;
    memset(set.seen, 0, sizeof set.seen);
    for (uint32_t i = 0; i < e->n; i++)
        impact_set_add(&set, e->norms ? e->norms[e->docs[i]] : 1, e->freqs[i]);
    /* Short blocks are cheap to evaluate: their impacts may take less room. */
    unsigned max = MAX(1, MIN((unsigned)IMPACTS_MAX, e->n / 4));
    unsigned n = competitive(&set, max, v);
    encode_impacts(v, n, &e->impacts);
    for (unsigned i = 0; i < n; i++) impact_set_add(&e->list_impacts, v[i].norm, v[i].freq);
}

static void write_list_impacts(struct encoder *e) {
    struct impact v[256];
    unsigned n = competitive(&e->list_impacts, IMPACTS_MAX, v);
    struct buf b = BUF_INIT;
    encode_impacts(v, n, &b);
    uint8_t len = (uint8_t)b.len; /* at most IMPACTS_MAX * IMPACT_MAX_SIZE */
    blob_write(e->out, &len, 1);
    blob_write(e->out, b.data, b.len);
    buf_release(&b);
}

/* ---- blocks ---- */

static void pack(struct buf *out, const uint32_t *values, unsigned bits) {
    bitpack_pack(values, bits, buf_grow(out, bitpack_size(bits)));
}

static void flush_full(struct encoder *e) {
    uint32_t gaps[POSTINGS_BLOCK] __attribute__((aligned(16)));
    uint32_t less1[POSTINGS_BLOCK] __attribute__((aligned(16)));
    uint32_t prev = e->prev_doc;
    for (unsigned i = 0; i < POSTINGS_BLOCK; i++) {
        gaps[i] = e->docs[i] - prev - 1;
        less1[i] = e->freqs[i] - 1;
        prev = e->docs[i];
    }
    unsigned doc_bits = bitpack_width(gaps, POSTINGS_BLOCK);
    buf_addc(&e->data, (char)doc_bits);
    unsigned freq_bits = bitpack_width(less1, POSTINGS_BLOCK);
    if (e->region.has_freqs) buf_addc(&e->data, (char)freq_bits);
    pack(&e->data, gaps, doc_bits);
    if (e->region.has_freqs) pack(&e->data, less1, freq_bits);
}

static void flush_tail(struct encoder *e) {
    uint32_t prev = e->prev_doc;
    for (uint32_t i = 0; i < e->n; i++) {
        buf_add_varint(&e->data, e->docs[i] - prev - 1);
        prev = e->docs[i];
    }
    for (uint32_t i = 0; e->region.has_freqs && i < e->n; i++) buf_add_varint(&e->data, e->freqs[i] - 1);
}

static void flush_chunk(struct encoder *e) {
    unsigned bits = bitpack_width(e->chunk, POSTINGS_BLOCK);
    buf_addc(&e->positions, (char)bits);
    pack(&e->positions, e->chunk, bits);
    e->n_chunk = 0;
}

static void flush_positions(struct encoder *e) {
    for (unsigned i = 0; i < e->n_chunk; i++) buf_add_varint(&e->positions, e->chunk[i]);
    e->n_chunk = 0;
}

/* A list of one block has no bitmap: it is cheap enough. */
static void add_bitmap(struct encoder *e) {
    size_t have = e->bitmap.len, need = 8 * (size_t)postings_bitmap_words(e->docs[e->n - 1]);
    if (e->df <= POSTINGS_BLOCK && e->n < POSTINGS_BLOCK) return;
    buf_reserve(&e->bitmap, need - have);
    memset(e->bitmap.data + have, 0, need - have);
    e->bitmap.len = need;
    for (uint32_t i = 0; i < e->n; i++) e->bitmap.data[e->docs[i] >> 3] |= (uint8_t)(1u << (e->docs[i] & 7));
}

static void flush_block(struct encoder *e) {
    if (e->n == POSTINGS_BLOCK)
        flush_full(e);
    else
        flush_tail(e);
    if (e->region.has_freqs) add_block_impacts(e);
    add_bitmap(e);
    flush_positions(e);
    e->prev_doc = e->docs[e->n - 1];
    buf_add_u32(&e->last_docs, e->prev_doc);
    buf_add_u64(&e->ends, e->data.len);
    buf_add_u64(&e->ends, e->impacts.len);
    buf_add_u64(&e->ends, e->positions.len);
    e->n = 0;
}

void encoder_doc(struct encoder *e, uint32_t docno, uint32_t freq, const uint32_t *positions) {
    if (e->ord_fn) e->ord_fn(e->ord_ctx, e->region.n_terms, docno);
    e->docs[e->n] = docno;
    e->freqs[e->n++] = freq;
    e->df++;
    e->ttf += freq;
    if (e->region.has_positions) {
        uint32_t prev = 0;
        for (uint32_t i = 0; i < freq; i++) {
            e->chunk[e->n_chunk++] = positions[i] - prev;
            prev = positions[i];
            if (e->n_chunk == POSTINGS_BLOCK) flush_chunk(e);
        }
    }
    if (e->n == POSTINGS_BLOCK) flush_block(e);
}

/* ---- a term's end ---- */

static uint64_t skip_size(const struct encoder *e, size_t n_blocks, unsigned pos_width) {
    return n_blocks * (4 + 4 + (e->region.has_freqs ? 4u : 0u) + pos_width);
}

static void write_skip(struct encoder *e, size_t n_blocks, unsigned pos_width) {
    blob_write(e->out, e->last_docs.data, e->last_docs.len);
    for (size_t i = 0; i < n_blocks; i++) {
        const uint8_t *ends = e->ends.data + 24 * i;
        blob_write(e->out, ends, 4);
        if (e->region.has_freqs) blob_write(e->out, ends + 8, 4);
        blob_write(e->out, ends + 16, pos_width);
    }
}

static int write_postings(struct encoder *e, uint32_t *ret_len, struct err *err) {
    size_t n_blocks = e->last_docs.len / 4;
    unsigned pos_width = !e->region.has_positions ? 0 : e->positions.len <= UINT32_MAX ? 4 : 8;
    uint64_t start = blob_writer_off(e->out);
    bool dense = e->region.has_bitmaps && n_blocks > 1 && postings_is_dense(e->df, e->prev_doc);
    size_t bitmap_len = dense ? e->bitmap.len : 0;
    if (skip_size(e, n_blocks, pos_width) + e->impacts.len + e->data.len + bitmap_len > UINT32_MAX - 64)
        return err_set(err, ERR_TOO_LARGE, "cannot write a segment: the postings of one term exceed 4 GB");
    if (n_blocks > 1) {
        write_skip(e, n_blocks, pos_width);
        if (e->region.has_freqs) write_list_impacts(e);
    } else if (e->region.has_freqs) {
        uint8_t len = (uint8_t)e->impacts.len; /* at most IMPACTS_MAX * IMPACT_MAX_SIZE */
        blob_write(e->out, &len, 1);
    }
    blob_write(e->out, e->impacts.data, e->impacts.len);
    blob_write(e->out, e->data.data, e->data.len);
    blob_write(e->out, e->bitmap.data, bitmap_len);
    *ret_len = (uint32_t)(blob_writer_off(e->out) - start);
    return 0;
}

static size_t common_prefix(const struct buf *a, const struct buf *b) {
    size_t n = MIN(a->len, b->len), i = 0;
    while (i < n && a->data[i] == b->data[i]) i++;
    return i;
}

static void end_dict_block(struct encoder *e) {
    if (!e->block_count) return;
    buf_add_varint(&e->dict, e->block_terms.len);
    buf_add(&e->dict, e->block_terms.data, e->block_terms.len);
    buf_add(&e->dict, e->block_stats.data, e->block_stats.len);
    buf_clear(&e->block_terms);
    buf_clear(&e->block_stats);
    e->block_count = 0;
}

/* A block is found by the shortest string above the term before it and not above its first term. */
static void start_dict_block(struct encoder *e, uint64_t postings_off) {
    size_t shared = common_prefix(&e->last_term, &e->term);
    size_t len = e->region.n_terms ? shared + 1 : 0;
    buf_add_u64(&e->index_keys, term_key(e->term.data, len));
    buf_add_u64(&e->index_offs, e->dict.len);
    buf_add(&e->separators, e->term.data, len);
    buf_add_u32(&e->index_ends, (uint32_t)e->separators.len);
    buf_add_varint(&e->block_stats, postings_off - e->region.postings_off);
}

static void add_dict_term(struct encoder *e) {
    size_t shared = e->block_count ? common_prefix(&e->last_term, &e->term) : 0;
    size_t rest = e->term.len - shared;
    buf_addc(&e->block_terms, (char)(MIN(shared, 15) << 4 | MIN(rest, 15)));
    if (shared >= 15) buf_add_varint(&e->block_terms, shared - 15);
    if (rest >= 15) buf_add_varint(&e->block_terms, rest - 15);
    buf_add(&e->block_terms, e->term.data + shared, rest);
}

static void add_dict_stats(struct encoder *e, uint32_t postings_len) {
    struct buf *b = &e->block_stats;
    if (e->df == 1) {
        buf_add_varint(b, (uint64_t)e->docs[0] << 1 | 1);
        if (e->region.has_freqs) buf_add_varint(b, e->ttf);
    } else {
        buf_add_varint(b, (uint64_t)e->df << 1);
        if (e->region.has_freqs) buf_add_varint(b, e->ttf - e->df);
        buf_add_varint(b, postings_len);
    }
    if (e->region.has_positions) buf_add_varint(b, e->positions.len);
}

int encoder_term_end(struct encoder *e, struct err *err) {
    if (!e->df) return 0;
    uint64_t off = blob_writer_off(e->out);
    uint32_t postings_len = 0;
    if (e->df == 1) {
        flush_positions(e);
    } else {
        if (e->n) flush_block(e);
        int r = write_postings(e, &postings_len, err);
        if (r) return r;
    }
    blob_write(e->out, e->positions.data, e->positions.len);
    if (e->block_count == DICT_BLOCK) end_dict_block(e);
    if (!e->block_count) start_dict_block(e, off);
    add_dict_term(e);
    add_dict_stats(e, postings_len);
    e->block_count++;
    e->region.n_terms++;
    e->region.sum_ttf += e->ttf;
    struct buf swap = e->last_term;
    e->last_term = e->term;
    e->term = swap;
    return 0;
}

int encoder_finish(struct encoder *e, struct inverted_region *ret, struct err *err) {
    struct inverted_region *r = &e->region;
    end_dict_block(e);
    if (e->separators.len > UINT32_MAX)
        return err_set(err, ERR_TOO_LARGE, "cannot write a segment: the term index exceeds 4 GB");
    r->postings_len = blob_writer_off(e->out) - r->postings_off;
    r->dict_off = blob_writer_off(e->out);
    r->dict_len = e->dict.len;
    blob_write(e->out, e->dict.data, e->dict.len);
    blob_write_align(e->out, 8);
    r->index_off = blob_writer_off(e->out);
    blob_write(e->out, e->index_keys.data, e->index_keys.len);
    blob_write(e->out, e->index_offs.data, e->index_offs.len);
    blob_write(e->out, e->index_ends.data, e->index_ends.len);
    blob_write(e->out, e->separators.data, e->separators.len);
    r->index_len = blob_writer_off(e->out) - r->index_off;
    *ret = *r;
    return 0;
}
