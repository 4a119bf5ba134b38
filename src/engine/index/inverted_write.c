/* Building an inverted index in memory: a hash table of terms whose postings grow as chained byte streams. */
#include "index/inverted_internal.h"

/* A stream is a chain of pieces whose sizes double, so that rare terms stay small and frequent ones need few
 * links. No number straddles pieces: one with less room than the longest number is left, by writer and reader
 * alike. */
enum { PIECE_LEVELS = 8, VARINT32_MAX = 5 };

struct piece {
    struct piece *next;
    uint8_t data[];
};
static inline size_t piece_room(unsigned level) {
    return ((size_t)32 << level) - sizeof(struct piece);
}

struct stream {
    uint8_t *p;
    uint16_t left; /* room in the current piece */
    uint8_t level; /* of the current piece */
    bool started;
};

/* What adding touches: one cache line a term. */
struct term_entry {
    uint64_t key; /* term_key: decides most comparisons without the text */
    uint32_t len, df;
    uint32_t last_doc, freq, last_position; /* of the unfinished document; not yet in docs */
    uint32_t flushed_doc;                   /* the last one in docs */
    struct stream docs, positions;
};
enum { CACHE_LINE = 64 };
_Static_assert(sizeof(struct term_entry) == CACHE_LINE, "one line a term");

struct term_rest {
    const uint8_t *term;
    struct piece *docs, *positions; /* first pieces */
};

struct slot {
    uint32_t hash;
    uint32_t entry; /* index + 1; 0 = free */
};

struct inverted_writer {
    bool has_freqs, has_positions;
    struct arena arena;
    size_t bytes; /* taken from the arena */
    struct slot *slots;
    uint32_t mask;
    struct term_entry *entries;
    struct term_rest *rests; /* one for each entry */
    uint32_t n, cap;
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
    free(w->rests);
    free(w);
}

size_t inverted_writer_bytes(const struct inverted_writer *w) {
    return w->bytes + ((size_t)w->mask + 1) * sizeof *w->slots +
           w->cap * (sizeof *w->entries + sizeof *w->rests);
}

/* ---- streams ---- */

static void *take(struct inverted_writer *w, size_t size) {
    w->bytes += (size + 15) & ~(size_t)15;
    return arena_alloc(&w->arena, size);
}

static void stream_extend(struct inverted_writer *w, struct stream *s, struct piece **first) {
    unsigned level = !s->started ? 0 : MIN(s->level + 1u, (unsigned)PIECE_LEVELS - 1);
    struct piece *piece = take(w, sizeof *piece + piece_room(level));
    piece->next = NULL;
    if (s->started) {
        uint8_t *data = s->p + s->left - piece_room(s->level);
        ((struct piece *)(data - offsetof(struct piece, data)))->next = piece;
    } else {
        *first = piece;
    }
    *s = (struct stream){
        .p = piece->data, .left = (uint16_t)piece_room(level), .level = (uint8_t)level, .started = true};
}

static inline void stream_add(struct inverted_writer *w, struct stream *s, struct piece **first, uint32_t v) {
    if (__builtin_expect(s->left < VARINT32_MAX, 0)) stream_extend(w, s, first);
    uint8_t *p = s->p;
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    s->left -= (uint16_t)(p - s->p);
    s->p = p;
}

struct stream_reader {
    const struct piece *next;
    const uint8_t *p, *end;
    unsigned level;
};

static void reader_piece(struct stream_reader *r) {
    r->p = r->next->data;
    r->end = r->p + piece_room(r->level);
    r->next = r->next->next;
    if (r->level < PIECE_LEVELS - 1) r->level++;
}

static struct stream_reader stream_read(const struct piece *first) {
    return (struct stream_reader){.next = first};
}

/* The caller knows how many numbers there are. */
static inline uint32_t reader_get(struct stream_reader *r) {
    if (r->end - r->p < VARINT32_MAX) reader_piece(r);
    uint32_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t b = *r->p++;
        v |= (uint32_t)(b & 0x7f) << shift;
        if (b < 0x80) return v;
    }
}

/* ---- adding ---- */

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

static void grow_entries(struct inverted_writer *w) {
    uint32_t cap = w->cap ? w->cap * 2 : 64;
    struct term_entry *entries = aligned_alloc(CACHE_LINE, cap * sizeof *entries);
    if (!entries) abort();
    if (w->n) memcpy(entries, w->entries, w->n * sizeof *entries);
    free(w->entries);
    w->entries = entries;
    w->rests = xrealloc(w->rests, cap * sizeof *w->rests);
    w->cap = cap;
}

static struct term_entry *new_entry(struct inverted_writer *w, struct slot *slot, uint32_t hash, uint64_t key,
                                    const char *term, size_t len) {
    if (w->n == w->cap) grow_entries(w);
    uint8_t *copy = take(w, len);
    if (len) memcpy(copy, term, len);
    struct term_entry *t = &w->entries[w->n];
    *t = (struct term_entry){.key = key, .len = (uint32_t)len};
    w->rests[w->n++] = (struct term_rest){.term = copy};
    *slot = (struct slot){.hash = hash, .entry = w->n};
    if (w->n > w->mask / 2) grow_slots(w);
    return t;
}

static inline struct term_entry *find_entry(struct inverted_writer *w, const char *term, size_t len) {
    uint32_t hash = (uint32_t)hash64(term, len, 0);
    uint64_t key = term_key(term, len);
    for (uint32_t at = hash & w->mask;; at = (at + 1) & w->mask) {
        struct slot *slot = &w->slots[at];
        if (!slot->entry) return new_entry(w, slot, hash, key, term, len);
        if (slot->hash != hash) continue;
        struct term_entry *t = &w->entries[slot->entry - 1];
        if (t->key != key || t->len != len) continue;
        if (len <= 8 || !memcmp(w->rests[slot->entry - 1].term + 8, term + 8, len - 8)) return t;
    }
}

/* The finished document goes into the stream when the next one comes: a term of one document needs no stream.
 */
static void flush_doc(struct inverted_writer *w, struct term_entry *t) {
    struct piece **first = &w->rests[t - w->entries].docs;
    stream_add(w, &t->docs, first, t->last_doc - t->flushed_doc);
    if (w->has_freqs) stream_add(w, &t->docs, first, t->freq);
    t->flushed_doc = t->last_doc;
}

/* The entry of the term, with the document as its unfinished one. */
static inline struct term_entry *entry_of(struct inverted_writer *w, const char *term, size_t len,
                                          uint32_t docno) {
    struct term_entry *t = find_entry(w, term, len);
    if (t->df && t->last_doc == docno) return t;
    if (t->df) flush_doc(w, t);
    t->df++;
    t->last_doc = docno;
    t->freq = 0;
    t->last_position = 0;
    return t;
}

void inverted_writer_add_freq(struct inverted_writer *w, const char *term, size_t len, uint32_t docno,
                              uint32_t freq) {
    entry_of(w, term, len, docno)->freq = freq;
}

void inverted_writer_add(struct inverted_writer *w, const char *term, size_t len, uint32_t docno,
                         uint32_t position) {
    struct term_entry *t = entry_of(w, term, len, docno);
    t->freq++;
    if (!w->has_positions) return;
    stream_add(w, &t->positions, &w->rests[t - w->entries].positions, position - t->last_position);
    t->last_position = position;
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
        items[i] = (struct sort_item){w->entries[i].key, w->rests[i].term, w->entries[i].len, i};
    items = sort_keys(items, items + w->n, w->n);
    for (uint32_t i = 0, j; i < w->n; i = j) {
        for (j = i + 1; j < w->n && items[j].key == items[i].key;) j++;
        if (j - i > 1) qsort(items + i, j - i, sizeof *items, compare_items);
    }
    return items;
}

struct positions_buf {
    uint32_t *v;
    size_t cap;
};

static void emit_doc(struct encoder *e, uint32_t doc, uint32_t freq, struct stream_reader *positions,
                     struct positions_buf *buf) {
    if (e->region.has_positions) {
        if (freq > buf->cap) {
            buf->cap = (size_t)freq * 2;
            buf->v = xrealloc(buf->v, buf->cap * sizeof *buf->v);
        }
        uint32_t position = 0;
        for (uint32_t i = 0; i < freq; i++) buf->v[i] = position += reader_get(positions);
    }
    encoder_doc(e, doc, freq, buf->v);
}

static int emit_term(struct encoder *e, const struct term_entry *t, const struct term_rest *rest,
                     struct positions_buf *buf, struct err *err) {
    struct stream_reader docs = stream_read(rest->docs), positions = stream_read(rest->positions);
    encoder_term(e, rest->term, t->len);
    uint32_t doc = 0;
    for (uint32_t i = 0; i + 1 < t->df; i++) {
        doc += reader_get(&docs);
        uint32_t freq = e->region.has_freqs ? reader_get(&docs) : 1;
        emit_doc(e, doc, freq, &positions, buf);
    }
    emit_doc(e, t->last_doc, e->region.has_freqs ? t->freq : 1, &positions, buf);
    return encoder_term_end(e, err);
}

int inverted_writer_finish(struct inverted_writer *w, const uint8_t *norms, struct blob_writer *out,
                           inverted_ord_fn *ord_fn, void *ctx, struct inverted_region *ret, struct err *err) {
    struct encoder e;
    struct sort_item *memory, *items = sorted_terms(w, &memory);
    struct positions_buf buf = {0};
    int r = 0;
    encoder_init(&e, w->has_freqs, w->has_positions, norms, out, ord_fn, ctx);
    for (uint32_t i = 0; !r && i < w->n; i++)
        r = emit_term(&e, &w->entries[items[i].entry], &w->rests[items[i].entry], &buf, err);
    if (!r) r = encoder_finish(&e, ret, err);
    encoder_release(&e);
    free(buf.v);
    free(memory);
    return r;
}
