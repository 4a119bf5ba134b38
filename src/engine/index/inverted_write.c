/* Building an inverted index in memory. Adding appends (term, position) to a log and touches nothing else but
 * the table of terms; finishing sorts the log by term with one counting sort, which keeps documents and
 * positions in their order, and encodes term after term from adjacent memory. Postings that grow in place
 * would cost a cache miss a token. */
#include "index/inverted_internal.h"

#include <sys/mman.h>

struct token_log {
    uint64_t *v; /* term << 32 | position (or frequency) */
    size_t n, cap;
};
struct log_doc {
    uint32_t docno;
    size_t end; /* of its tokens in the log */
};

struct term_entry {
    uint64_t key; /* term_key: decides most comparisons without the text */
    const uint8_t *term;
    uint32_t len;
};
struct slot {
    uint32_t hash;
    uint32_t entry; /* index + 1; 0 = free */
};

struct inverted_writer {
    bool has_freqs, has_positions;
    struct arena arena; /* the terms' bytes */
    size_t bytes;       /* taken from it */
    struct slot *slots;
    uint32_t mask;
    struct term_entry *entries;
    uint32_t n, cap;
    struct token_log log;
    struct log_doc *docs;
    size_t n_docs, cap_docs;
};

struct inverted_writer *inverted_writer_new(bool has_freqs, bool has_positions) {
    struct inverted_writer *w = xcalloc(1, sizeof *w);
    w->has_freqs = has_freqs || has_positions;
    w->has_positions = has_positions;
    w->mask = 255;
    w->slots = xcalloc((size_t)w->mask + 1, sizeof *w->slots);
    return w;
}

void inverted_writer_free(struct inverted_writer *w) {
    if (!w) return;
    arena_release(&w->arena);
    free(w->slots);
    free(w->entries);
    free(w->log.v);
    free(w->docs);
    free(w);
}

size_t inverted_writer_bytes(const struct inverted_writer *w) {
    /* The log twice: while it is sorted it is there twice. */
    return w->bytes + ((size_t)w->mask + 1) * sizeof *w->slots + w->cap * sizeof *w->entries +
           2 * w->log.n * sizeof *w->log.v + w->n_docs * sizeof *w->docs;
}

/* ---- terms ---- */

static void grow_slots(struct inverted_writer *w) {
    uint32_t mask = w->mask * 2 + 1;
    struct slot *slots = xcalloc((size_t)mask + 1, sizeof *slots);
    for (uint32_t i = 0; i <= w->mask; i++) {
        if (!w->slots[i].entry) continue;
        uint32_t at = w->slots[i].hash & mask;
        while (slots[at].entry) at = (at + 1) & mask;
        slots[at] = w->slots[i];
    }
    free(w->slots);
    w->slots = slots;
    w->mask = mask;
}

static uint32_t new_term(struct inverted_writer *w, struct slot *slot, uint32_t hash, uint64_t key,
                         const char *term, size_t len) {
    VEC_GROW(w->entries, w->n, w->cap);
    uint8_t *copy = arena_alloc(&w->arena, len);
    w->bytes += (len + 15) & ~(size_t)15;
    if (len) memcpy(copy, term, len);
    w->entries[w->n++] = (struct term_entry){.key = key, .term = copy, .len = (uint32_t)len};
    *slot = (struct slot){.hash = hash, .entry = w->n};
    uint32_t no = w->n - 1;
    if (w->n > w->mask / 2) grow_slots(w);
    return no;
}

uint32_t inverted_writer_term(struct inverted_writer *w, const char *term, size_t len) {
    uint32_t hash = (uint32_t)hash64(term, len, 0);
    uint64_t key = term_key(term, len);
    for (uint32_t at = hash & w->mask;; at = (at + 1) & w->mask) {
        struct slot *slot = &w->slots[at];
        if (!slot->entry) return new_term(w, slot, hash, key, term, len);
        if (slot->hash != hash) continue;
        const struct term_entry *t = &w->entries[slot->entry - 1];
        if (t->key != key || t->len != len) continue;
        if (len <= 8 || !memcmp(t->term + 8, term + 8, len - 8)) return slot->entry - 1;
    }
}

/* ---- adding ---- */

uint64_t *inverted_writer_room(struct inverted_writer *w, size_t n) {
    struct token_log *log = &w->log;
    if (log->cap - log->n < n) {
        log->cap = MAX(log->cap * 2, log->n + n);
        log->v = xrealloc(log->v, log->cap * sizeof *log->v);
    }
    return log->v + log->n;
}

void inverted_writer_took(struct inverted_writer *w, uint32_t docno, size_t n) {
    w->log.n += n;
    if (!w->n_docs || w->docs[w->n_docs - 1].docno != docno) {
        VEC_GROW(w->docs, w->n_docs, w->cap_docs);
        w->docs[w->n_docs++].docno = docno;
    }
    w->docs[w->n_docs - 1].end = w->log.n;
}

static void add(struct inverted_writer *w, const char *term, size_t len, uint32_t docno, uint32_t v) {
    uint64_t no = inverted_writer_term(w, term, len);
    *inverted_writer_room(w, 1) = no << 32 | v;
    inverted_writer_took(w, docno, 1);
}

void inverted_writer_add_freq(struct inverted_writer *w, const char *term, size_t len, uint32_t docno,
                              uint32_t freq) {
    add(w, term, len, docno, freq);
}

void inverted_writer_add(struct inverted_writer *w, const char *term, size_t len, uint32_t docno,
                         uint32_t position) {
    add(w, term, len, docno, w->has_positions ? position : 1);
}

/* ---- finishing ---- */

struct sort_item {
    uint64_t key;
    const uint8_t *term;
    uint32_t len, entry;
};

static int compare_items(const void *a, const void *b) {
    const struct sort_item *x = a, *y = b;
    return term_cmp(x->term, x->len, y->term, y->len);
}

/* Radix sort by key, least significant byte first; bytes that are the same everywhere are skipped. */
static struct sort_item *sort_keys(struct sort_item *items, struct sort_item *other, uint32_t n) {
    for (unsigned shift = 0; shift < 64; shift += 8) {
        uint32_t start[257] = {0};
        for (uint32_t i = 0; i < n; i++) start[(items[i].key >> shift & 255) + 1]++;
        if (n && start[(items[0].key >> shift & 255) + 1] == n) continue;
        for (unsigned b = 0; b < 256; b++) start[b + 1] += start[b];
        for (uint32_t i = 0; i < n; i++) other[start[items[i].key >> shift & 255]++] = items[i];
        struct sort_item *swap = items;
        items = other;
        other = swap;
    }
    return items;
}

/* *ret_memory owns what the result points into. */
static struct sort_item *sorted_terms(const struct inverted_writer *w, struct sort_item **ret_memory) {
    struct sort_item *items = xmalloc(2 * (size_t)w->n * sizeof *items);
    *ret_memory = items;
    for (uint32_t i = 0; i < w->n; i++)
        items[i] = (struct sort_item){w->entries[i].key, w->entries[i].term, w->entries[i].len, i};
    items = sort_keys(items, items + w->n, w->n);
    for (uint32_t i = 0, j; i < w->n; i = j) {
        for (j = i + 1; j < w->n && items[j].key == items[i].key;) j++;
        if (j - i > 1) qsort(items + i, j - i, sizeof *items, compare_items);
    }
    return items;
}

/* As xmalloc; large pages spare the scattered writes of a sort most of their misses in the page tables. */
static void *alloc_large(size_t size) {
    const size_t page = (size_t)2 << 20;
    if (size < 2 * page) return xmalloc(size);
    size = (size + page - 1) & ~(page - 1);
    void *p = aligned_alloc(page, size);
    if (!p) return xmalloc(size);
    madvise(p, size, MADV_HUGEPAGE);
    return p;
}

/* The tokens of all documents, term after term in the order of `items`: docno << 32 | position (or
 * frequency). ends[i]: where those of items[i] end. */
static uint64_t *sort_tokens(const struct inverted_writer *w, const struct sort_item *items, size_t *ends) {
    size_t *at = xcalloc(w->n, sizeof *at), total = 0;
    uint64_t *out = alloc_large(w->log.n * sizeof *out);
    for (size_t i = 0; i < w->log.n; i++) at[w->log.v[i] >> 32]++;
    for (uint32_t i = 0; i < w->n; i++) {
        size_t n = at[items[i].entry];
        at[items[i].entry] = total;
        ends[i] = total += n;
    }
    for (size_t d = 0, i = 0; d < w->n_docs; d++) {
        uint64_t docno = (uint64_t)w->docs[d].docno << 32;
        for (; i < w->docs[d].end; i++) out[at[w->log.v[i] >> 32]++] = docno | (uint32_t)w->log.v[i];
    }
    free(at);
    return out;
}

struct positions_buf {
    uint32_t *v;
    size_t cap;
};

/* The n tokens of one term and document. */
static void emit_doc(struct encoder *e, const uint64_t *tokens, size_t n, struct positions_buf *buf) {
    uint32_t docno = (uint32_t)(tokens[0] >> 32);
    if (!e->region.has_positions) {
        uint32_t freq = 0;
        for (size_t i = 0; i < n; i++) freq += (uint32_t)tokens[i];
        encoder_doc(e, docno, e->region.has_freqs ? freq : 1, NULL);
        return;
    }
    if (n > buf->cap) {
        buf->cap = n * 2;
        buf->v = xrealloc(buf->v, buf->cap * sizeof *buf->v);
    }
    for (size_t i = 0; i < n; i++) buf->v[i] = (uint32_t)tokens[i];
    encoder_doc(e, docno, (uint32_t)n, buf->v);
}

static int emit_term(struct encoder *e, const struct sort_item *item, const uint64_t *tokens, size_t n,
                     struct positions_buf *buf, struct err *err) {
    encoder_term(e, item->term, item->len);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && tokens[end] >> 32 == tokens[i] >> 32;) end++;
        emit_doc(e, tokens + i, end - i, buf);
    }
    return encoder_term_end(e, err);
}

int inverted_writer_finish(struct inverted_writer *w, const uint8_t *norms, struct blob_writer *out,
                           inverted_ord_fn *ord_fn, void *ctx, struct inverted_region *ret, struct err *err) {
    struct encoder e;
    struct sort_item *memory, *items = sorted_terms(w, &memory);
    size_t *ends = xmalloc(w->n * sizeof *ends);
    uint64_t *tokens = sort_tokens(w, items, ends);
    struct positions_buf buf = {0};
    int r = 0;
    encoder_init(&e, w->has_freqs, w->has_positions, norms, out, ord_fn, ctx);
    for (uint32_t i = 0; !r && i < w->n; i++) {
        size_t from = i ? ends[i - 1] : 0;
        r = emit_term(&e, &items[i], tokens + from, ends[i] - from, &buf, err);
    }
    if (!r) r = encoder_finish(&e, ret, err);
    encoder_release(&e);
    free(buf.v);
    free(tokens);
    free(ends);
    free(memory);
    return r;
}
