/* The analyzers: words, for English possessives, stop words and stems; the way to the Japanese and Korean
 * ones.
 */
#include "index/analyzer_internal.h"
#include "util/codec.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unicode/uchar.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

enum {
    STEM_SLOTS = 2048,    /* of the stem cache; direct-mapped */
    STEM_BYTES = 23,      /* longer words are not cached */
    STOP_MAX = 5,         /* bytes of the longest stop word */
    KEEP_BYTES = 1 << 20, /* buffers beyond this are given back after use */
};

struct stem_slot {
    char word[STEM_BYTES], stem[STEM_BYTES];
    uint8_t word_len, stem_len; /* word_len 0: free */
};

struct analyzer_state *analyzer_new(enum analyzer kind) {
    if ((unsigned)kind >= ANALYZER_COUNT) return NULL;
    struct analyzer_state *a = xcalloc(1, sizeof *a);
    a->kind = kind;
    if (kind == ANALYZER_ENGLISH) a->stems = xcalloc(STEM_SLOTS, sizeof *a->stems);
    if (kind != ANALYZER_JAPANESE || (a->japanese = japanese_new())) return a;
    free(a);
    return NULL;
}

int analyzer_check(enum analyzer kind, struct err *err) {
    if ((unsigned)kind >= ANALYZER_COUNT)
        return err_set(err, ERR_UNSUPPORTED, "analyzer number %u is not known", (unsigned)kind);
    return kind == ANALYZER_JAPANESE ? japanese_check(err) : 0;
}

int analyzers_check(const struct schema *s, struct err *err) {
    for (uint32_t i = 0; i < s->n_fields; i++)
        for (unsigned a = 0; s->fields[i].type == FIELD_TEXT && a < ANALYZER_COUNT; a++)
            if (s->fields[i].analyzers >> a & 1 && analyzer_check(a, err))
                return err_wrap(err, "field \"%s\"", s->fields[i].path);
    return 0;
}

void analyzer_free(struct analyzer_state *a) {
    if (!a) return;
    free(a->tokens);
    free(a->stems);
    buf_release(&a->text);
    normal_release(&a->piece);
    japanese_free(a->japanese);
    free(a);
}

/* ---- English ---- */

static size_t strip_possessive(const char *s, size_t len) {
    if (len < 2 || s[len - 1] != 's') return len;
    if (s[len - 2] == '\'') return len - 2;
    if (len < 4) return len;
    bool quote = !memcmp(s + len - 4, "\xe2\x80\x99", 3) || !memcmp(s + len - 4, "\xef\xbc\x87", 3);
    return quote ? len - 4 : len;
}

/* By length: words of one length, one after the other. */
static bool is_stop_word(const char *s, size_t len) {
    static const char *const words[STOP_MAX + 1] = {"",
                                                    "a",
                                                    "anasatbebyifinisitnoofonorto",
                                                    "andarebutfornotthewas",
                                                    "intosuchthatthentheythiswillwith",
                                                    "theirtherethese"};
    if (len > STOP_MAX) return false;
    const char *list = words[len];
    for (size_t i = 0; list[i]; i += len)
        if (!memcmp(list + i, s, len)) return true;
    return false;
}

/* Stems in place; the stem is never longer in units, nor in bytes since only ASCII letters are changed or
 * added. */
static size_t stem_uncached(char *s, size_t len) {
    uint16_t units[TOKEN_MAX_CHARS + 1]; /* lower-casing keeps the number of units of every letter there is */
    size_t n = 0, out = 0;
    for (size_t i = 0; i < len;) {
        UChar32 c;
        U8_NEXT(s, i, len, c);
        if (c < 0 || n + U16_LENGTH(c) > TOKEN_MAX_CHARS) return len;
        U16_APPEND_UNSAFE(units, n, c);
    }
    n = porter_stem(units, n);
    for (size_t i = 0; i < n;) {
        UChar32 c;
        U16_NEXT(units, i, n, c);
        U8_APPEND_UNSAFE(s, out, c);
    }
    return out;
}

static size_t stem(struct analyzer_state *a, char *s, size_t len) {
    if (len <= 2) return len;
    if (len > STEM_BYTES) return stem_uncached(s, len);
    struct stem_slot *slot = &a->stems[hash64(s, len, 0) % STEM_SLOTS];
    if (slot->word_len != len || memcmp(slot->word, s, len) != 0) {
        memcpy(slot->word, s, len);
        slot->word_len = (uint8_t)len;
        slot->stem_len = (uint8_t)stem_uncached(s, len);
        memcpy(slot->stem, s, slot->stem_len);
    } else {
        memcpy(s, slot->stem, slot->stem_len);
    }
    return slot->stem_len;
}

/* ---- all ---- */

static void prepare(struct analyzer_state *a, size_t len) {
    if (a->text.cap > KEEP_BYTES && len < KEEP_BYTES / 4) {
        buf_release(&a->text);
        free(a->tokens);
        a->tokens = NULL;
        a->cap = 0;
    }
    buf_clear(&a->text);
    buf_reserve(&a->text, len + len / 2 + 2); /* no letter grows by more than half */
    a->n = 0;
}

static void add_token(struct analyzer_state *a, uint32_t position, size_t start, size_t end, size_t len) {
    VEC_GROW(a->tokens, a->n, a->cap);
    a->tokens[a->n++] = (struct token){.text = (const char *)a->text.data + a->text.len,
                                       .len = (uint32_t)len,
                                       .position = position,
                                       .start = (uint32_t)start,
                                       .end = (uint32_t)end};
    a->text.len += len;
}

bool analyzer_takes_words(enum analyzer kind) {
    return kind == ANALYZER_STANDARD || kind == ANALYZER_ENGLISH;
}

bool analyzer_word_term(struct analyzer_state *a, const char *word, size_t len, bool ascii, char *out,
                        size_t *ret_len) {
    size_t n = lower_case((const uint8_t *)word, len, ascii, (uint8_t *)out);
    if (a->kind == ANALYZER_ENGLISH) {
        n = strip_possessive(out, n);
        if (is_stop_word(out, n)) return false;
        n = stem(a, out, n);
    }
    *ret_len = n;
    return true;
}

static void analyze_words(struct analyzer_state *a, const uint8_t *s, size_t len) {
    size_t pos = 0, start, n;
    bool ascii;
    for (uint32_t position = 0; word_next(s, len, &pos, &start, &ascii); position++)
        if (analyzer_word_term(a, (const char *)s + start, pos - start, ascii,
                               (char *)a->text.data + a->text.len, &n))
            add_token(a, position, start, pos, n);
}

/* Where at most n characters end. */
static size_t chars_end(const uint8_t *s, size_t len, unsigned n) {
    size_t i = 0;
    if (len <= n) return len;
    while (n-- && i < len) U8_FWD_1(s, i, len);
    return i;
}

size_t analyzer_add(struct analyzer_state *a, uint32_t position, uint32_t start, uint32_t end,
                    const uint8_t *text, size_t len) {
    size_t off = a->text.len;
    len = chars_end(text, len, TOKEN_MAX_CHARS);
    buf_reserve(&a->text, len + len / 2 + 2);
    size_t n = lower_case(text, len, false, a->text.data + off);
    a->text.len += n;
    VEC_GROW(a->tokens, a->n, a->cap);
    a->tokens[a->n++] = (struct token){
        .text = (const char *)off, .len = (uint32_t)n, .position = position, .start = start, .end = end};
    return n;
}

static int analyze_pieces(struct analyzer_state *a, const uint8_t *s, size_t len, struct err *err) {
    uint32_t position = 0;
    size_t pos = 0;
    int r;
    while ((r = normal_next(&a->piece, s, len, &pos, err)) == 1) {
        if (a->kind == ANALYZER_KOREAN)
            korean_piece(a, &position);
        else if ((r = japanese_piece(a, &position, err)))
            break;
    }
    for (size_t i = 0; i < a->n; i++)
        a->tokens[i].text = (const char *)a->text.data + (size_t)a->tokens[i].text;
    return r;
}

int analyze(struct analyzer_state *a, const char *text, size_t len, const struct token **ret, size_t *ret_n,
            struct err *err) {
    if (len > UINT32_MAX / 2) return err_set(err, ERR_TOO_LARGE, "cannot analyze a text of %zu bytes", len);
    const uint8_t *s = (const uint8_t *)text;
    int r = 0;
    prepare(a, len);
    if (analyzer_takes_words(a->kind))
        analyze_words(a, s, len);
    else
        r = analyze_pieces(a, s, len, err);
    if (r) return r;
    *ret = a->tokens;
    *ret_n = a->n;
    return 0;
}

static void normalize_width(const char *text, size_t len, struct buf *out) {
    struct normal_piece piece = {0};
    size_t pos = 0;
    while (normal_next(&piece, (const uint8_t *)text, len, &pos, NULL) == 1)
        buf_add(out, piece.text.data, piece.text.len);
    normal_release(&piece);
}

void analyzer_normalize(enum analyzer kind, const char *text, size_t len, struct buf *out) {
    struct buf wide = BUF_INIT;
    if (kind == ANALYZER_JAPANESE || kind == ANALYZER_KOREAN) {
        normalize_width(text, len, &wide);
        text = (const char *)wide.data;
        len = wide.len;
    }
    buf_reserve(out, len + len / 2 + 2);
    out->len += lower_case((const uint8_t *)text, len, false, out->data + out->len);
    buf_release(&wide);
}

/* ---- fingerprints ---- */

/* Counts changes of what these analyzers give for a text. */
enum { WORDS_RULES = 1, KOREAN_RULES = 1 };

static _Atomic uint64_t known[ANALYZER_COUNT], faked[ANALYZER_COUNT];

void analyzer_fake_fingerprint(enum analyzer kind, uint64_t v) {
    atomic_store(&faked[kind], v);
}

uint64_t analyzer_fingerprint(enum analyzer kind) {
    if ((unsigned)kind >= ANALYZER_COUNT) return 0;
    uint64_t fake = atomic_load_explicit(&faked[kind], memory_order_relaxed);
    if (fake) return fake;
    if (kind == ANALYZER_JAPANESE) return japanese_fingerprint();
    uint64_t v = atomic_load_explicit(&known[kind], memory_order_relaxed);
    if (v) return v;
    char text[80];
    int n = snprintf(text, sizeof text, "%s %d unicode %s", analyzer_name(kind),
                     kind == ANALYZER_KOREAN ? KOREAN_RULES : WORDS_RULES, U_UNICODE_VERSION);
    v = hash64(text, (size_t)n, 0) | 1;
    atomic_store_explicit(&known[kind], v, memory_order_relaxed);
    return v;
}
