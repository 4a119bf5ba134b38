/* TEXT: an inverted index with frequencies and positions, and one length byte a document, per analyzer.
 *
 * Values of one field in a document follow each other with a position gap, so that no phrase reaches from one
 * into the next. Only documents with at least one token count, as in Lucene's docCount. Tokens at one
 * position count once in the length and each in the sum, as there. */
#include "index/analyzer_internal.h"
#include "index/segment_internal.h"

enum { TEXT_POSITION_GAP = 100 }; /* Elasticsearch's default for text fields */

static int text_feed(struct index_feeder *f, const struct jval *value, index_emit *emit, void *ctx,
                     struct err *err) {
    struct analyzer_state *analyzer;
    const struct token *tokens;
    size_t n;
    if (value->type != JVAL_STRING) return 0;
    int r = index_scratch_analyzer(f->spec->analyzer, &analyzer, err);
    if (!r) r = analyze(analyzer, value->str, value->count, &tokens, &n, err);
    if (r) return r;
    for (size_t i = 0; i < n; i++) {
        const struct token *t = &tokens[i];
        emit(ctx, &(struct index_item){
                      .term = t->text, .len = t->len, .position = f->next_position + t->position});
    }
    if (n) f->next_position += tokens[n - 1].position + 1;
    f->next_position += TEXT_POSITION_GAP;
    return 0;
}

/* From words as they are written to term numbers, so that lower-casing, stemming and the look in the table of
 * terms are paid once for each form of a word. A cache: sets of WORD_WAYS, the oldest of a full set gives
 * way. A word has no zero byte, so that 16 bytes with zeros behind it are the word itself; longer ones are
 * not kept. */
enum {
    WORD_WAYS = 3,
    WORD_BYTES = 16,
    WORD_SETS_MIN = 64,
    WORD_SETS_MAX = 64 * 1024,
    WORD_LONGEST = 255 * 4
};
enum { TERM_NONE = UINT32_MAX }; /* a stop word */
_Static_assert(WORD_LONGEST >= TOKEN_MAX_CHARS * 4, "bytes of the longest word");
struct word_set {                             /* a cache line */
    uint64_t low[WORD_WAYS], high[WORD_WAYS]; /* the words' bytes */
    uint32_t term[WORD_WAYS]; /* number + 2, mod 2^32: 1 is a stop word; 0: nothing here yet */
    uint32_t next;            /* the way to replace */
};

struct text_writer {
    struct index_writer base;
    struct inverted_writer *inverted;
    struct word_set *words;
    uint32_t n_sets, n_misses; /* misses since the table grew */
    uint8_t *norms;
    size_t cap;
    uint32_t length;        /* positions with a token in base.last_doc */
    uint32_t last_position; /* the last of them */
};

static struct index_writer *text_writer_new(const struct index_spec *spec) {
    struct text_writer *w = xcalloc(1, sizeof *w);
    w->base = (struct index_writer){.ops = &index_text, .spec = spec, .last_doc = DOCNO_NONE};
    w->inverted = inverted_writer_new(true, true);
    return &w->base;
}

static void need_norms(struct text_writer *w, size_t n) {
    if (n <= w->cap) return;
    size_t cap = MAX(n, w->cap * 2);
    w->norms = xrealloc(w->norms, cap);
    memset(w->norms + w->cap, 0, cap - w->cap);
    w->cap = cap;
}

static void end_document(struct text_writer *w) {
    if (w->base.last_doc == DOCNO_NONE) return;
    need_norms(w, (size_t)w->base.last_doc + 1);
    w->norms[w->base.last_doc] = norm_encode(w->length);
    w->length = 0;
}

static void text_emit(void *ctx, const struct index_item *item) {
    struct text_writer *w = ctx;
    if (w->base.last_doc != w->base.docno) end_document(w);
    index_writer_begin(&w->base);
    if (!w->length || item->position != w->last_position) w->length++;
    w->last_position = item->position;
    inverted_writer_add(w->inverted, item->term, item->len, w->base.docno, item->position);
}

/* ---- words to terms ---- */

_Static_assert(sizeof(struct word_set) == 64, "one line a set");

static inline uint64_t word_hash(uint64_t low, uint64_t high) {
    uint64_t h = (low ^ (high * 0x9e3779b97f4a7c15ull)) * 0xff51afd7ed558ccdull;
    return h ^ h >> 32;
}

/* What keeps the first n of 8 bytes: at 8 - n, and n from 0 to 16 in two tables by overlap. */
static const uint64_t byte_masks[WORD_BYTES + 9] = {0,
                                                    0,
                                                    0,
                                                    0,
                                                    0,
                                                    0,
                                                    0,
                                                    0,
                                                    0,
                                                    0xff,
                                                    0xffff,
                                                    0xffffff,
                                                    0xffffffff,
                                                    0xffffffffff,
                                                    0xffffffffffff,
                                                    0xffffffffffffff,
                                                    ~0ull,
                                                    ~0ull,
                                                    ~0ull,
                                                    ~0ull,
                                                    ~0ull,
                                                    ~0ull,
                                                    ~0ull,
                                                    ~0ull,
                                                    ~0ull};

/* The 16 bytes of a word of at most 16; `room`: how many bytes may be read. */
static inline void word_key(const uint8_t *word, size_t len, size_t room, uint64_t *low, uint64_t *high) {
    uint8_t copy[WORD_BYTES] = {0};
    if (__builtin_expect(room < WORD_BYTES, 0)) word = memcpy(copy, word, len);
    *low = get_u64(word) & byte_masks[len + 8];
    *high = get_u64(word + 8) & byte_masks[len];
}

/* The number of the word's term, or TERM_NONE. */
static uint32_t term_of_word(struct text_writer *w, struct analyzer_state *a, const struct word *word) {
    char term[WORD_LONGEST * 3 / 2 + 2];
    size_t n;
    if (!analyzer_word_term(a, (const char *)word->text, word->len, word->ascii, term, &n)) return TERM_NONE;
    return inverted_writer_term(w->inverted, term, n);
}

/* Starts again with more room: what is in use comes back soon. */
static void grow_words(struct text_writer *w) {
    w->n_sets = w->n_sets ? w->n_sets * 4 : WORD_SETS_MIN;
    w->n_misses = 0;
    free(w->words);
    w->words = aligned_alloc(sizeof *w->words, w->n_sets * sizeof *w->words);
    if (!w->words) abort();
    memset(w->words, 0, w->n_sets * sizeof *w->words);
}

/* A word whose set is on its way to the cache. */
struct wanted {
    struct word word;
    uint64_t low, high;
    struct word_set *set; /* NULL: too long to be kept */
};
enum { WANTED_MAX = 32 };

__attribute__((noinline)) static uint32_t learn_word(struct text_writer *w, struct analyzer_state *a,
                                                     const struct wanted *want) {
    struct word_set *set = want->set;
    uint32_t term = term_of_word(w, a, &want->word), way = set->next++ % WORD_WAYS;
    w->n_misses++;
    set->low[way] = want->low;
    set->high[way] = want->high;
    set->term[way] = term + 2; /* mod 2^32: a stop word is 1 */
    return term;
}

static void want_word(const struct text_writer *w, struct wanted *want, const uint8_t *end) {
    const struct word *word = &want->word;
    want->set = NULL;
    if (word->len > WORD_BYTES) return;
    word_key(word->text, word->len, (size_t)(end - word->text), &want->low, &want->high);
    want->set = &w->words[word_hash(want->low, want->high) & (w->n_sets - 1)];
    __builtin_prefetch(want->set);
}

static inline uint32_t find_word(const struct wanted *want) {
    const struct word_set *set = want->set;
    unsigned hits = 0;
    for (unsigned i = 0; i < WORD_WAYS; i++)
        hits |= (unsigned)(((set->low[i] ^ want->low) | (set->high[i] ^ want->high)) == 0) << i;
    return hits ? set->term[__builtin_ctz(hits)] : 0;
}

static inline uint32_t term_of_wanted(struct text_writer *w, struct analyzer_state *a,
                                      const struct wanted *want) {
    uint32_t term = want->set ? find_word(want) : 0;
    if (__builtin_expect(term != 0, 1)) return term - 2;
    return want->set ? learn_word(w, a, want) : term_of_word(w, a, &want->word);
}

/* What text_feed and text_emit do, for an analyzer that takes words. */
static void add_words(struct text_writer *w, struct analyzer_state *a, struct index_feeder *f,
                      const uint8_t *s, size_t len) {
    struct word words[WANTED_MAX];
    struct wanted wants[WANTED_MAX];
    size_t pos = 0, n = 0, n_words;
    uint32_t position = f->next_position;
    /* Only characters of two bytes and more make words with nothing between them. */
    uint64_t *tokens = inverted_writer_room(w->inverted, len / 2 + 2);
    do {
        if (!w->n_sets || (w->n_misses > w->n_sets * WORD_WAYS && w->n_sets < WORD_SETS_MAX)) grow_words(w);
        n_words = words_next(s, len, &pos, words, WANTED_MAX);
        for (size_t i = 0; i < n_words; i++) {
            wants[i].word = words[i];
            want_word(w, &wants[i], s + len);
        }
        for (size_t i = 0; i < n_words; i++) { /* without a branch on stop words: nobody could predict it */
            uint32_t term = term_of_wanted(w, a, &wants[i]);
            tokens[n] = (uint64_t)term << 32 | position++;
            n += term != TERM_NONE;
        }
    } while (n_words == WANTED_MAX);
    if (n) {
        if (w->base.last_doc != w->base.docno) end_document(w);
        index_writer_begin(&w->base);
        inverted_writer_took(w->inverted, w->base.docno, n);
        w->length += (uint32_t)n;
        w->last_position = (uint32_t)tokens[n - 1];
        f->next_position = w->last_position + 1;
    }
    f->next_position += TEXT_POSITION_GAP;
}

static int text_writer_add(struct index_writer *base, struct index_feeder *f, const struct jval *value,
                           struct err *err) {
    struct text_writer *w = (struct text_writer *)base;
    struct analyzer_state *a;
    if (!analyzer_takes_words(f->spec->analyzer) || value->type != JVAL_STRING)
        return text_feed(f, value, text_emit, w, err);
    int r = index_scratch_analyzer(f->spec->analyzer, &a, err);
    if (!r && value->count > UINT32_MAX / 2)
        r = err_set(err, ERR_TOO_LARGE, "cannot analyze a text of %u bytes", value->count);
    if (!r) add_words(w, a, f, (const uint8_t *)value->str, value->count);
    return r;
}

static size_t text_writer_bytes(const struct index_writer *base) {
    const struct text_writer *w = (const struct text_writer *)base;
    return inverted_writer_bytes(w->inverted) + w->cap + w->n_sets * sizeof *w->words;
}

/* What stands beside the inverted index. */
static void write_norms(struct index_out *out, const uint8_t *norms, const struct inverted_region *region) {
    uint64_t *exists = xcalloc(bitmap_words(out->n_docs), sizeof *exists);
    uint32_t n_with = 0;
    for (uint32_t d = 0; d < out->n_docs; d++) {
        if (!norms[d]) continue;
        bitmap_set(exists, d);
        n_with++;
    }
    index_out_region(out, REGION_NORMS, 0, blob_writer_off(out->blob), out->n_docs);
    blob_write(out->blob, norms, out->n_docs);
    index_out_exists(out, exists, n_with);
    free(exists);
    out->stats = (struct field_stats){.n_docs = n_with, .sum_ttf = region->sum_ttf};
    inverted_region_encode(region, &out->ext);
}

static int text_writer_finish(struct index_writer *base, struct index_out *out, struct err *err) {
    struct text_writer *w = (struct text_writer *)base;
    struct inverted_region region;
    if (!w->base.n_docs) return 0;
    end_document(w);
    need_norms(w, out->n_docs);
    int r = inverted_writer_finish(w->inverted, w->norms, out->blob, NULL, NULL, &region, err);
    if (!r) write_norms(out, w->norms, &region);
    return r;
}

static void text_writer_free(struct index_writer *base) {
    struct text_writer *w = (struct text_writer *)base;
    inverted_writer_free(w->inverted);
    free(w->words);
    free(w->norms);
    free(w);
}

static int merge_norms(const struct index_merge *m, uint8_t *norms, struct err *err) {
    for (size_t i = 0; i < m->n_sources; i++) {
        const struct index_source *s = &m->sources[i];
        const uint8_t *from;
        int r = text_norms(s->field, &from, err);
        if (r) return r;
        for (uint32_t d = 0; d < s->n_docs; d++)
            if (s->map[d] != DOCNO_NONE) norms[s->map[d]] = from[d];
    }
    return 0;
}

static int text_merge(const struct index_merge *m, struct index_out *out, struct err *err) {
    struct inverted_region region;
    const struct segment_field **fields = xmalloc(m->n_sources * sizeof *fields);
    const uint32_t **maps = xmalloc(m->n_sources * sizeof *maps);
    uint8_t *norms = xcalloc(out->n_docs, 1);
    for (size_t i = 0; i < m->n_sources; i++) {
        fields[i] = m->sources[i].field;
        maps[i] = m->sources[i].map;
    }
    int r = merge_norms(m, norms, err);
    if (!r)
        r = inverted_merge(fields, maps, m->n_sources, true, true, norms, out->blob, NULL, NULL, m->cancel,
                           &region, err);
    if (!r) write_norms(out, norms, &region);
    free(fields);
    free(maps);
    free(norms);
    return r;
}

int index_open_inverted(struct segment_field *f, const uint8_t *ext, size_t len, struct err *err) {
    struct cursor c = cursor_of(ext, len);
    if (!f->stats.n_docs) return 0;
    inverted_region_decode(&c, &f->inverted.region);
    return c.bad ? segment_field_corrupt(f, err, "directory entry") : 0;
}

int text_norms(const struct segment_field *f, const uint8_t **ret, struct err *err) {
    const struct region *region;
    if (!f->stats.n_docs) return segment_zeros(f->segment, ret);
    int r = segment_region_need(f->segment, f, REGION_NORMS, &region, ret, err);
    if (r) return r;
    return region->len == segment_n_docs(f->segment) ? 0 : segment_field_corrupt(f, err, "norms");
}

static int text_verify(const struct segment_field *f, struct err *err) {
    const uint8_t *norms;
    const uint64_t *exists;
    uint32_t n_with = 0;
    int r = text_norms(f, &norms, err);
    if (!r) r = segment_field_exists(f, &exists, err);
    for (uint32_t d = 0; !r && d < segment_n_docs(f->segment); d++) {
        n_with += norms[d] != 0;
        if ((norms[d] != 0) != (!exists || bitmap_get(exists, d)))
            r = segment_field_corrupt(f, err, "existence");
    }
    if (!r && (n_with != f->stats.n_docs || f->stats.sum_ttf != f->inverted.region.sum_ttf))
        r = segment_field_corrupt(f, err, "statistics");
    return r || !n_with ? r : inverted_verify(f, segment_n_docs(f->segment), err);
}

const struct index_type_ops index_text = {
    .name = "text",
    .feed = text_feed,
    .writer_new = text_writer_new,
    .writer_emit = text_emit,
    .writer_add = text_writer_add,
    .writer_bytes = text_writer_bytes,
    .writer_finish = text_writer_finish,
    .writer_free = text_writer_free,
    .merge = text_merge,
    .open = index_open_inverted,
    .verify = text_verify,
};
