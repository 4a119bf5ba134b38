/* Inverted indexes against a trivial model: lookup, iteration, postings, positions, impacts, merging, damage.
 */
#include "index/inverted.h"
#include "test.h"

static uint64_t seed = 1;
static uint32_t rnd(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((seed >> 32) * n) >> 32);
}

/* ---- the model ---- */

struct posting {
    uint32_t doc, freq, first; /* first: index of its first position */
};
struct model_term {
    char *text;
    uint32_t len;
    struct posting *postings;
    uint32_t n, cap;
    uint32_t *positions;
    uint32_t n_positions, cap_positions;
    uint64_t ttf;
};
struct model {
    struct model_term *terms;
    uint32_t n_terms, n_docs;
    uint8_t *norms;
    bool freqs, positions;
};
/* One document is a run of tokens: what is put into the writer and into the model. */
struct corpus {
    uint32_t *tokens; /* term numbers */
    uint32_t *starts; /* n_docs + 1 */
    uint32_t n_docs, n_terms;
    char **texts;
    uint32_t *lens;
};

static void model_init(struct model *m, const struct corpus *c, bool freqs, bool positions) {
    *m = (struct model){.n_terms = c->n_terms, .n_docs = 0, .freqs = freqs, .positions = positions};
    m->terms = xcalloc(c->n_terms, sizeof *m->terms);
    m->norms = xcalloc(c->n_docs + 1, 1);
    for (uint32_t i = 0; i < c->n_terms; i++) {
        m->terms[i].text = c->texts[i];
        m->terms[i].len = c->lens[i];
    }
}

static void model_free(struct model *m) {
    for (uint32_t i = 0; i < m->n_terms; i++) {
        free(m->terms[i].postings);
        free(m->terms[i].positions);
    }
    free(m->terms);
    free(m->norms);
}

static void model_add(struct model *m, uint32_t term, uint32_t doc, uint32_t position) {
    struct model_term *t = &m->terms[term];
    if (!t->n || t->postings[t->n - 1].doc != doc) {
        VEC_GROW(t->postings, t->n, t->cap);
        t->postings[t->n++] = (struct posting){doc, 0, t->n_positions};
    }
    struct posting *p = &t->postings[t->n - 1];
    if (m->freqs || !p->freq) {
        p->freq++;
        t->ttf++;
    }
    VEC_GROW(t->positions, t->n_positions, t->cap_positions);
    t->positions[t->n_positions++] = position;
}

static int compare_terms(const void *a, const void *b) {
    const struct model_term *x = a, *y = b;
    int c = memcmp(x->text, y->text, MIN(x->len, y->len));
    return c ? c : (x->len > y->len) - (x->len < y->len);
}

/* Terms that occur, sorted. */
static void model_sort(struct model *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_terms; i++) {
        struct model_term t = m->terms[i];
        if (t.n) {
            m->terms[i] = m->terms[n];
            m->terms[n++] = t;
        }
    }
    m->n_terms = n;
    qsort(m->terms, n, sizeof *m->terms, compare_terms);
}

/* ---- making text ---- */

/* Terms 0..7 get exact document frequencies; the others follow a steep distribution. */
static const uint32_t exact_df[] = {1, 2, 127, 128, 129, 256, 257, 0 /* all */};

static void corpus_words(struct corpus *c) {
    c->texts = xcalloc(c->n_terms, sizeof *c->texts);
    c->lens = xcalloc(c->n_terms, sizeof *c->lens);
    for (uint32_t i = 0; i < c->n_terms; i++) {
        struct buf b = BUF_INIT;
        if (i == 0)
            buf_adds(&b, "exact");
        else if (i % 7 == 0)
            buf_printf(&b, "commonprefix-that-is-long/%08u", i);
        else if (i % 41 == 0)
            for (uint32_t k = 0; k < 300 + i % 100; k++) buf_addc(&b, (char)('a' + i % 26));
        else
            buf_printf(&b, "%c%u", 'a' + (int)(i % 26), i);
        if (i % 41 == 0 || i % 13 == 0) buf_printf(&b, "%u", i);
        if (i == 8) buf_clear(&b); /* the empty term */
        if (i == 9) {
            buf_clear(&b);
            buf_add(&b, "a\0b", 3);
        }
        c->lens[i] = (uint32_t)b.len;
        c->texts[i] = (char *)memcpy(xmalloc(b.len + 1), buf_str(&b), b.len + 1);
        buf_release(&b);
    }
}

static bool has_exact(uint32_t term, uint32_t doc, uint32_t n_docs) {
    uint32_t df = exact_df[term];
    if (!df) return true;
    uint32_t step = MAX(1u, n_docs / df);
    return doc % step == 0 && doc / step < df;
}

static void corpus_init(struct corpus *c, uint32_t n_docs, uint32_t n_terms, uint32_t per_doc) {
    uint32_t n = 0, cap = 0;
    *c = (struct corpus){.n_docs = n_docs, .n_terms = n_terms};
    c->starts = xcalloc(n_docs + 1, sizeof *c->starts);
    corpus_words(c);
    for (uint32_t d = 0; d < n_docs; d++) {
        c->starts[d] = n;
        uint32_t len = rnd(50) ? rnd(per_doc * 2) : rnd(per_doc * 20);
        for (uint32_t i = 0; i < len; i++) {
            uint32_t range = 1 + rnd(n_terms - 8);
            VEC_GROW(c->tokens, n, cap);
            c->tokens[n++] = 8 + (rnd(4) ? rnd(1 + range / 50) : rnd(range));
        }
        for (uint32_t e = 0; e < ARRAY_SIZE(exact_df); e++) {
            if (!has_exact(e, d, n_docs)) continue;
            for (uint32_t k = 0; k < 1 + (rnd(9) ? 0 : rnd(6)); k++) {
                VEC_GROW(c->tokens, n, cap);
                c->tokens[n++] = e;
            }
        }
    }
    c->starts[n_docs] = n;
}

static void corpus_free(struct corpus *c) {
    for (uint32_t i = 0; i < c->n_terms; i++) free(c->texts[i]);
    free(c->texts);
    free(c->lens);
    free(c->starts);
    free(c->tokens);
}

/* ---- an index ---- */

struct index {
    struct buf payload; /* as written, without the object's frame */
    struct inverted inv;
};

/* Puts payload bytes into an object and opens it. */
static int index_wrap(struct index *x, const struct inverted_region *region, uint32_t n_docs,
                      struct err *err) {
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    blob_write(&out, x->payload.data, x->payload.len);
    int r = blob_writer_finish(&out, &size, &checksum, err);
    if (r) return r;
    size_t len;
    uint8_t *data = buf_detach(&out.mem, &len);
    blob_writer_release(&out);
    x->inv = (struct inverted){.region = *region, .n_docs = n_docs};
    return blob_open_memory(data, len, BLOB_KIND_SEGMENT, &x->inv.blob, err);
}

static int index_take(struct index *x, struct blob_writer *out, const struct inverted_region *region,
                      uint32_t n_docs, struct err *err) {
    uint64_t payload = blob_writer_off(out) - BLOB_HEADER_SIZE, size;
    uint32_t checksum;
    int r = blob_writer_finish(out, &size, &checksum, err);
    if (r) return r;
    x->payload = (struct buf)BUF_INIT;
    buf_add(&x->payload, out->mem.data + BLOB_HEADER_SIZE, payload);
    blob_writer_release(out);
    return index_wrap(x, region, n_docs, err);
}

static void index_free(struct index *x) {
    blob_close(x->inv.blob);
    buf_release(&x->payload);
}

/* Indexes the documents with map[doc] != DOCNO_NONE under those numbers. norms and model may be NULL. */
static int index_build(struct index *x, const struct corpus *c, const uint32_t *map, struct model *m,
                       bool freqs, bool positions, struct err *err) {
    struct inverted_writer *w = inverted_writer_new(freqs, positions);
    uint8_t *norms = xcalloc(c->n_docs + 1, 1);
    uint32_t n_docs = 0;
    for (uint32_t d = 0; d < c->n_docs; d++) {
        if (map[d] == DOCNO_NONE) continue;
        uint32_t position = 0;
        for (uint32_t i = c->starts[d]; i < c->starts[d + 1]; i++) {
            uint32_t t = c->tokens[i];
            inverted_writer_add(w, c->texts[t], c->lens[t], map[d], position);
            if (m) model_add(m, t, map[d], position);
            position += 1 + (i % 5 == 0) * (i % 1000);
        }
        norms[map[d]] = norm_encode(c->starts[d + 1] - c->starts[d]);
        n_docs = map[d] + 1;
    }
    struct blob_writer out;
    struct inverted_region region;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    int r = inverted_writer_finish(w, norms, &out, NULL, NULL, &region, err);
    if (!r) r = index_take(x, &out, &region, n_docs, err);
    if (m) {
        memcpy(m->norms, norms, c->n_docs);
        m->n_docs = n_docs;
        model_sort(m);
    }
    inverted_writer_free(w);
    free(norms);
    return r;
}

static uint32_t *identity(uint32_t n) {
    uint32_t *map = xcalloc(n + 1, sizeof *map);
    for (uint32_t i = 0; i < n; i++) map[i] = i;
    return map;
}

/* ---- comparisons ---- */

static bool same_positions(struct postings *p, const struct model_term *t, const struct posting *at) {
    const uint32_t *got = postings_positions(p);
    return got && !memcmp(got, t->positions + at->first, at->freq * sizeof *got);
}

static bool same_posting(struct postings *p, const struct model *m, const struct model_term *t, uint32_t i) {
    const struct posting *at = &t->postings[i];
    if (p->doc != at->doc || postings_freq(p) != at->freq) return false;
    return !m->positions || rnd(3) == 0 || same_positions(p, t, at);
}

/* Is every posting of the pairs' range below one of the pairs, and are the pairs in order? */
static bool bounds(const struct model *m, const struct model_term *t, uint32_t from, uint32_t last,
                   const struct impact *v, unsigned n) {
    if (n < 1 || n > 8) return false;
    for (unsigned i = 1; i < n; i++)
        if (v[i].freq <= v[i - 1].freq || v[i].norm <= v[i - 1].norm) return false;
    for (; from < t->n && t->postings[from].doc <= last; from++) {
        bool below = false;
        for (unsigned k = 0; k < n; k++)
            below |= v[k].freq >= t->postings[from].freq &&
                     (!m->freqs || v[k].norm <= m->norms[t->postings[from].doc]);
        if (!below) return false;
    }
    return true;
}

static bool impacts_hold(struct postings *p, const struct model *m, const struct model_term *t, uint32_t from,
                         uint32_t target) {
    struct impact v[8];
    uint32_t last;
    unsigned n = postings_impacts(p, target, &last, v);
    while (from < t->n && t->postings[from].doc < target) from++;
    if (from == t->n) return n == 0 && last == DOCNO_NONE;
    return last >= t->postings[from].doc && last <= t->postings[t->n - 1].doc &&
           bounds(m, t, from, last, v, n);
}

static bool next_agrees(const struct index *x, const struct model *m, const struct model_term *t,
                        const struct term_info *info) {
    struct postings p;
    struct err err = ERR_INIT;
    struct impact v[8];
    bool good = !inverted_postings_open(&p, &x->inv, info, true, m->positions, &err) && p.doc == DOCNO_NONE;
    good = good && bounds(m, t, 0, DOCNO_NONE, v, postings_list_impacts(&p, v));
    for (uint32_t i = 0; good && i < t->n; i++)
        good = postings_next(&p) == t->postings[i].doc && same_posting(&p, m, t, i);
    good = good && postings_next(&p) == DOCNO_NONE && postings_next(&p) == DOCNO_NONE && p.doc == DOCNO_NONE;
    postings_close(&p);
    return good;
}

/* The bitmap of a frequent term, and the frequencies found through it. */
static bool bitmap_agrees(const struct index *x, const struct model *m, const struct model_term *t,
                          const struct term_info *info) {
    struct postings p;
    struct err err = ERR_INIT;
    bool good = !inverted_postings_open(&p, &x->inv, info, true, m->positions, &err);
    uint32_t last = t->postings[t->n - 1].doc, doc = 0;
    bool dense = t->n > POSTINGS_BLOCK && 16 * (uint64_t)t->n > last;
    good = good && p.bitmap_words == (dense ? last / 64 + 1 : 0);
    for (uint32_t i = 0; good && dense && i < t->n; i++) {
        for (; good && doc < t->postings[i].doc; doc++) good = !postings_bitmap_has(&p, doc);
        good = good && postings_bitmap_has(&p, doc);
        if (rnd(3) == 0) good = good && postings_bitmap_freq(&p, doc) == t->postings[i].freq;
        doc++;
    }
    good = good && !postings_bitmap_has(&p, last + 1) && !postings_bitmap_has(&p, UINT32_MAX);
    postings_close(&p);
    return good;
}

static bool advance_agrees(const struct index *x, const struct model *m, const struct model_term *t,
                           const struct term_info *info) {
    struct postings p;
    struct err err = ERR_INIT;
    uint32_t i = 0, stride = 1 + rnd(rnd(2) ? 3 : m->n_docs / 3 + 2), target = 0;
    bool good = !inverted_postings_open(&p, &x->inv, info, true, m->positions, &err);
    while (good) {
        if (rnd(4) == 0 && i < t->n) {
            good = postings_next(&p) == t->postings[i].doc;
        } else {
            target += rnd(stride);
            if (rnd(2)) good = impacts_hold(&p, m, t, i, target);
            if (rnd(5) == 0) good = good && impacts_hold(&p, m, t, i, target + rnd(stride));
            while (i < t->n && t->postings[i].doc < target) i++;
            uint32_t want = i < t->n ? t->postings[i].doc : DOCNO_NONE;
            good = good && postings_advance(&p, target) == want;
        }
        if (i == t->n) break;
        good = good && same_posting(&p, m, t, i);
        target = t->postings[i++].doc + 1;
    }
    good = good && postings_next(&p) == DOCNO_NONE && postings_advance(&p, UINT32_MAX - 1) == DOCNO_NONE;
    postings_close(&p);
    return good;
}

static bool same_info(const struct model_term *t, uint32_t ord, const struct term_info *info) {
    return info->df == t->n && info->ord == ord && info->ttf == t->ttf;
}

static bool term_agrees(const struct index *x, const struct model *m, uint32_t ord) {
    const struct model_term *t = &m->terms[ord];
    struct term_info info;
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    bool good = !inverted_term_find(&x->inv, t->text, t->len, &info, &err) && same_info(t, ord, &info);
    good = good && !inverted_term_by_ord(&x->inv, ord, &text, &err) && text.len == t->len &&
           !memcmp(text.data ? text.data : (uint8_t *)"", t->text, t->len);
    buf_release(&text);
    good = good && next_agrees(x, m, t, &info);
    for (int i = 0; good && i < 3; i++) good = advance_agrees(x, m, t, &info);
    good = good && bitmap_agrees(x, m, t, &info);
    if (!good) fprintf(stderr, "term %u '%.*s' df %u: %s\n", ord, (int)t->len, t->text, t->n, err.text);
    return good;
}

/* All terms from one on, in order. */
static bool iteration_agrees(const struct index *x, const struct model *m, const char *from, size_t len) {
    struct term_iter it;
    struct err err = ERR_INIT;
    struct model_term key = {.text = (char *)from, .len = (uint32_t)len};
    uint32_t ord = 0;
    while (ord < m->n_terms && compare_terms(&m->terms[ord], &key) < 0) ord++;
    bool good = !inverted_iter_open(&it, &x->inv, from, len, &err);
    for (uint32_t n = 0; good && ord < m->n_terms && n < 200; n++, ord++) {
        const struct model_term *t = &m->terms[ord];
        good = term_iter_next(&it, &err) == 1 && it.term.len == t->len &&
               (!t->len || !memcmp(it.term.data, t->text, t->len)) && same_info(t, ord, &it.info);
    }
    if (good && ord == m->n_terms) good = term_iter_next(&it, &err) == 0;
    term_iter_close(&it);
    return good;
}

static bool absent(const struct index *x, const char *term, size_t len) {
    struct term_info info = {.df = 7};
    struct err err = ERR_INIT;
    return !inverted_term_find(&x->inv, term, len, &info, &err) && info.df == 0;
}

static bool lookups_agree(const struct index *x, const struct model *m) {
    for (uint32_t i = 0; i < 200; i++) {
        char term[500];
        const struct model_term *t = &m->terms[rnd(m->n_terms)];
        size_t len = rnd(t->len + 1);
        memcpy(term, t->text, len);
        if (rnd(2)) term[len++] = (char)rnd(256);
        if (!iteration_agrees(x, m, term, len)) return false;
        struct model_term key = {.text = term, .len = (uint32_t)len};
        if (!bsearch(&key, m->terms, m->n_terms, sizeof key, compare_terms) && !absent(x, term, len))
            return false;
    }
    return absent(x, "zzzzzzzzzz", 10) && absent(x, "\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9);
}

static bool index_agrees(const struct index *x, const struct model *m, uint32_t step) {
    struct err err = ERR_INIT;
    if (x->inv.region.n_terms != m->n_terms) return false;
    for (uint32_t ord = 0; ord < m->n_terms; ord += 1 + rnd(step))
        if (!term_agrees(x, m, ord)) return false;
    if (!lookups_agree(x, m)) return false;
    int r = inverted_check(&x->inv, m->n_docs, &err);
    if (r) fprintf(stderr, "check: %s\n", err.text);
    return !r;
}

static bool run(uint32_t n_docs, uint32_t n_terms, uint32_t per_doc, bool freqs, bool positions,
                uint32_t step) {
    struct corpus c;
    struct model m;
    struct index x = {0};
    struct err err = ERR_INIT;
    corpus_init(&c, n_docs, n_terms, per_doc);
    model_init(&m, &c, freqs, positions);
    uint32_t *map = identity(n_docs);
    bool good = !index_build(&x, &c, map, &m, freqs, positions, &err) && index_agrees(&x, &m, step);
    if (!good) fprintf(stderr, "%u docs, %u terms: %s\n", n_docs, n_terms, err.text);
    index_free(&x);
    model_free(&m);
    corpus_free(&c);
    free(map);
    return good;
}

TEST(agrees_with_the_model) {
    CHECK(run(1, 10, 1, true, true, 1));
    CHECK(run(2, 40, 5, true, true, 1));
    CHECK(run(127, 33, 3, true, true, 1));
    CHECK(run(128, 64, 3, true, true, 1));
    CHECK(run(129, 65, 3, true, false, 1));
    CHECK(run(300, 500, 10, true, true, 1));
    CHECK(run(5000, 3000, 10, true, true, 1));
    CHECK(run(5000, 1000, 10, true, false, 1));
    CHECK(run(5000, 1000, 10, false, false, 1));
}

TEST(many_documents) {
    CHECK(run(100000, 2000, 4, true, true, 40));
}

TEST(many_terms) {
    CHECK(run(300, 100000, 200, true, true, 300));
}

TEST(nothing) {
    struct corpus c = {0};
    struct index x;
    struct err err = ERR_INIT;
    struct term_iter it;
    CHECK_OK(index_build(&x, &c, NULL, NULL, true, true, &err));
    CHECK(absent(&x, "a", 1) && absent(&x, "", 0));
    CHECK_OK(inverted_iter_open(&it, &x.inv, "a", 1, &err));
    CHECK(term_iter_next(&it, &err) == 0);
    term_iter_close(&it);
    CHECK_OK(inverted_check(&x.inv, 0, &err));
    index_free(&x);
}

TEST(region_survives_coding) {
    struct inverted_region r = {1, 2, 1ull << 40, 4, 5, 6, 7, true, true, true, 1ull << 50}, back;
    struct buf b = BUF_INIT;
    inverted_region_encode(&r, &b);
    struct cursor c = cursor_of(b.data, b.len);
    memset(&back, 0, sizeof back);
    inverted_region_decode(&c, &back);
    CHECK(!c.bad && c.p == c.end && back.postings_off == 1 && back.postings_len == 2 &&
          back.dict_off == 1ull << 40);
    CHECK(back.dict_len == 4 && back.index_off == 5 && back.index_len == 6 && back.n_terms == 7);
    CHECK(back.has_freqs && back.has_positions && back.has_bitmaps && back.sum_ttf == 1ull << 50);
    for (size_t len = 0; len < b.len; len++) {
        c = cursor_of(b.data, len);
        inverted_region_decode(&c, &back);
        CHECK(c.bad);
    }
    buf_release(&b);
}

/* Values from Lucene's SmallFloat. */
TEST(norms) {
    for (uint32_t i = 0; i <= 40; i++) CHECK(norm_decode(norm_encode(i)) == i);
    CHECK(norm_decode(norm_encode(41)) == 40 && norm_decode(norm_encode(100)) == 96);
    CHECK(norm_decode(norm_encode(1000)) == 984 && norm_encode(24) == 24 && norm_encode(32) == 32);
    CHECK(norm_encode(INT32_MAX) == 255 && norm_encode(UINT32_MAX) == 255 && norm_decode(255) == 2013265944u);
    for (unsigned i = 0; i < 256; i++) CHECK(norm_encode(norm_decode((uint8_t)i)) == i);
    for (unsigned i = 1; i < 256; i++) CHECK(norm_decode((uint8_t)i) > norm_decode((uint8_t)(i - 1)));
}

static void count_ords(void *ctx, uint32_t ord, uint32_t docno) {
    ((uint64_t *)ctx)[ord] += docno + 1;
}

TEST(ordinals_are_told) {
    struct inverted_writer *w = inverted_writer_new(false, false);
    const char *words[] = {"b", "a", "c"};
    for (uint32_t d = 0; d < 300; d++)
        for (uint32_t i = 0; i < 3; i++)
            if (d % (i + 1) == 0) inverted_writer_add(w, words[i], 1, d, 0);
    uint64_t sums[3] = {0};
    struct blob_writer out;
    struct inverted_region region;
    struct err err = ERR_INIT;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK_OK(inverted_writer_finish(w, NULL, &out, count_ords, sums, &region, &err));
    CHECK(sums[0] == 150 * 149 + 150 && sums[1] == 300 * 301 / 2 && sums[2] == 3 * 100 * 99 / 2 + 100);
    CHECK(region.n_terms == 3 && region.sum_ttf == 550 && inverted_writer_bytes(w) > 0);
    blob_writer_release(&out);
    inverted_writer_free(w);
}

/* ---- merging ---- */

enum { PARTS = 5 };

/* Documents dealt out to parts at random, some dropped: the merge must be byte for byte what the survivors
 * give when they are indexed at once (frequency and position encodings included). */
static bool merge_agrees(uint32_t n_docs, bool freqs, bool positions) {
    struct corpus c;
    struct index parts[PARTS] = {0}, whole = {0}, merged = {0};
    const struct inverted *inputs[PARTS + 1] = {0};
    uint32_t *local[PARTS], *maps[PARTS + 1] = {0}, counts[PARTS] = {0}, kept = 0;
    struct err err = ERR_INIT;
    corpus_init(&c, n_docs, 700, 8);
    uint32_t *map = identity(n_docs);
    uint8_t *norms = xcalloc(n_docs + 1, 1);
    for (unsigned p = 0; p < PARTS; p++) {
        local[p] = xcalloc(n_docs + 1, sizeof **local);
        maps[p] = xcalloc(n_docs + 1, sizeof **maps);
        memset(local[p], 0xff, n_docs * sizeof **local);
    }
    for (uint32_t d = 0; d < n_docs; d++) {
        unsigned p = rnd(PARTS);
        map[d] = rnd(4) ? kept++ : DOCNO_NONE;
        maps[p][counts[p]] = map[d];
        local[p][d] = counts[p]++;
        if (map[d] != DOCNO_NONE) norms[map[d]] = norm_encode(c.starts[d + 1] - c.starts[d]);
    }
    bool good = !index_build(&whole, &c, map, NULL, freqs, positions, &err);
    for (unsigned p = 0; p < PARTS; p++) {
        good = good && !index_build(&parts[p], &c, local[p], NULL, freqs, positions, &err);
        inputs[p] = &parts[p].inv;
    }
    struct blob_writer out;
    struct inverted_region region;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    good = good && !inverted_merge_parts(inputs, (const uint32_t *const *)maps, PARTS + 1, freqs, positions,
                                         norms, &out, NULL, NULL, NULL, &region, &err);
    good = good && !index_take(&merged, &out, &region, kept, &err);
    good = good && merged.payload.len == whole.payload.len && region.n_terms == whole.inv.region.n_terms &&
           region.sum_ttf == whole.inv.region.sum_ttf &&
           !memcmp(merged.payload.data, whole.payload.data, merged.payload.len);
    good = good && !inverted_check(&merged.inv, kept, &err);
    if (!good) fprintf(stderr, "merge: %s\n", err.text);
    for (unsigned p = 0; p < PARTS; p++) {
        index_free(&parts[p]);
        free(local[p]);
        free(maps[p]);
    }
    index_free(&whole);
    index_free(&merged);
    corpus_free(&c);
    free(map);
    free(norms);
    return good;
}

TEST(merging_equals_indexing) {
    CHECK(merge_agrees(10, true, true));
    CHECK(merge_agrees(700, true, true));
    CHECK(merge_agrees(5000, true, true));
    CHECK(merge_agrees(3000, false, false));
}

TEST(merge_can_be_canceled_and_wants_positions) {
    struct corpus c;
    struct index x;
    struct err err = ERR_INIT;
    corpus_init(&c, 50, 40, 5);
    uint32_t *map = identity(50);
    const uint32_t *maps[] = {map};
    CHECK_OK(index_build(&x, &c, map, NULL, true, false, &err));
    const struct inverted *inputs[] = {&x.inv};
    volatile int cancel = 1;
    struct blob_writer out;
    struct inverted_region region;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK(inverted_merge_parts(inputs, maps, 1, true, false, NULL, &out, NULL, NULL, &cancel, &region,
                               &err) == -ERR_CANCELED);
    CHECK(inverted_merge_parts(inputs, maps, 1, true, true, NULL, &out, NULL, NULL, NULL, &region, &err) ==
          -ERR_INVALID);
    blob_writer_release(&out);
    index_free(&x);
    corpus_free(&c);
    free(map);
}

/* ---- damage ---- */

static uint64_t exercise_postings(const struct inverted *inv, const struct term_info *info) {
    struct postings p;
    struct err err = ERR_INIT;
    struct impact v[8];
    uint64_t sum = 0;
    uint32_t before = DOCNO_NONE, last;
    int r = inverted_postings_open(&p, inv, info, true, rnd(2), &err);
    while (!r) {
        uint32_t target = before == DOCNO_NONE ? rnd(3) : before + 1 + rnd(rnd(2) ? 2 : 300);
        sum += postings_impacts(&p, target, &last, v);
        sum += postings_list_impacts(&p, v);
        uint32_t doc = rnd(2) ? postings_next(&p) : postings_advance(&p, target);
        if (doc == DOCNO_NONE) break;
        if (doc >= inv->n_docs || (before != DOCNO_NONE && doc <= before)) abort();
        before = doc;
        uint32_t freq = postings_freq(&p);
        const uint32_t *positions = p.has_positions ? postings_positions(&p) : NULL;
        for (uint32_t i = 0; positions && i < freq; i++) sum += positions[i];
    }
    postings_close(&p);
    return sum;
}

static void exercise(const struct inverted *inv, const struct corpus *c) {
    struct err err = ERR_INIT;
    struct term_info info;
    struct term_iter it;
    struct buf b = BUF_INIT;
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t t = rnd(c->n_terms);
        if (!inverted_term_find(inv, c->texts[t], c->lens[t], &info, &err) && info.df)
            exercise_postings(inv, &info);
        inverted_term_by_ord(inv, rnd(inv->region.n_terms + 1), &b, &err);
    }
    if (!inverted_iter_open(&it, inv, "b", 1, &err)) {
        for (int n = 0; n < 100 && term_iter_next(&it, &err) == 1; n++) exercise_postings(inv, &it.info);
        term_iter_close(&it);
    }
    inverted_check(inv, inv->n_docs, &err);
    buf_release(&b);
}

static void damage(struct buf *b, const struct inverted_region *r) {
    for (uint32_t n = 1 + rnd(4); n; n--) {
        size_t at = rnd((uint32_t)b->len);
        if (rnd(2))
            at = r->dict_off - BLOB_HEADER_SIZE + rnd((uint32_t)(b->len - (r->dict_off - BLOB_HEADER_SIZE)));
        static const uint8_t extremes[] = {0, 1, 0x7f, 0x80, 0xff, 32, 33};
        b->data[at] = rnd(2) ? (uint8_t)rnd(256) : extremes[rnd(sizeof extremes)];
    }
}

/* Bytes that the checksums vouch for but that make no sense: errors or cut lists, never more. */
TEST(damage_is_survived) {
    struct corpus c;
    struct index x = {0}, bad = {0};
    struct err err = ERR_INIT;
    corpus_init(&c, 400, 80, 6);
    uint32_t *map = identity(c.n_docs);
    CHECK_OK(index_build(&x, &c, map, NULL, true, true, &err));
    for (int round = 0; round < 3000; round++) {
        buf_clear(&bad.payload);
        buf_add(&bad.payload, x.payload.data, x.payload.len);
        damage(&bad.payload, &x.inv.region);
        CHECK_OK(index_wrap(&bad, &x.inv.region, c.n_docs, &err));
        if (rnd(8) == 0) bad.inv.region.n_terms += rnd(100);
        exercise(&bad.inv, &c);
        blob_close(bad.inv.blob);
    }
    buf_release(&bad.payload);
    index_free(&x);
    corpus_free(&c);
    free(map);
}

/* A merge must notice what a query may skip. */
TEST(merging_damaged_postings_fails) {
    struct corpus c;
    struct index x, bad = {0};
    struct err err = ERR_INIT;
    struct term_info info;
    corpus_init(&c, 1000, 40, 3);
    uint32_t *map = identity(c.n_docs);
    const uint32_t *maps[] = {map};
    CHECK_OK(index_build(&x, &c, map, NULL, true, true, &err));
    CHECK_OK(inverted_term_find(&x.inv, c.texts[7], c.lens[7], &info, &err));
    CHECK(info.df == 1000);
    buf_add(&bad.payload, x.payload.data, x.payload.len);
    put_u32(bad.payload.data + info.postings_off - BLOB_HEADER_SIZE + 8,
            5); /* last document of the third block */
    CHECK_OK(index_wrap(&bad, &x.inv.region, c.n_docs, &err));
    const struct inverted *inputs[] = {&bad.inv};
    struct blob_writer out;
    struct inverted_region region;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK(inverted_merge_parts(inputs, maps, 1, true, true, NULL, &out, NULL, NULL, NULL, &region, &err) ==
          -ERR_CORRUPT);
    CHECK(inverted_check(&bad.inv, c.n_docs, &err) == -ERR_CORRUPT);
    blob_writer_release(&out);
    index_free(&bad);
    index_free(&x);
    corpus_free(&c);
    free(map);
}
