/* The analyzers: words, and for English possessives, stop words and stems. */
#include "index/analyzer_internal.h"
#include "util/codec.h"

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

struct analyzer_state {
    enum analyzer kind;
    struct token *tokens;
    size_t n, cap;
    struct buf text;         /* what the tokens point into; reserved in full before it is filled */
    struct stem_slot *stems; /* english */
};

struct analyzer_state *analyzer_new(enum analyzer kind) {
    if (kind != ANALYZER_STANDARD && kind != ANALYZER_ENGLISH) return NULL;
    struct analyzer_state *a = xcalloc(1, sizeof *a);
    a->kind = kind;
    if (kind == ANALYZER_ENGLISH) a->stems = xcalloc(STEM_SLOTS, sizeof *a->stems);
    return a;
}

void analyzer_free(struct analyzer_state *a) {
    if (!a) return;
    free(a->tokens);
    free(a->stems);
    buf_release(&a->text);
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

int analyze(struct analyzer_state *a, const char *text, size_t len, const struct token **ret, size_t *ret_n,
            struct err *err) {
    if (len > UINT32_MAX / 2) return err_set(err, ERR_TOO_LARGE, "cannot analyze a text of %zu bytes", len);
    const uint8_t *s = (const uint8_t *)text;
    size_t pos = 0, start;
    bool ascii;
    prepare(a, len);
    for (uint32_t position = 0; word_next(s, len, &pos, &start, &ascii); position++) {
        char *word = (char *)a->text.data + a->text.len;
        size_t n = lower_case(s + start, pos - start, ascii, (uint8_t *)word);
        if (a->kind == ANALYZER_ENGLISH) {
            n = strip_possessive(word, n);
            if (is_stop_word(word, n)) continue;
            n = stem(a, word, n);
        }
        add_token(a, position, start, pos, n);
    }
    *ret = a->tokens;
    *ret_n = a->n;
    return 0;
}

void analyzer_normalize(enum analyzer kind, const char *text, size_t len, struct buf *out) {
    buf_reserve(out, len + len / 2 + 2);
    out->len += lower_case((const uint8_t *)text, len, false, out->data + out->len);
}
