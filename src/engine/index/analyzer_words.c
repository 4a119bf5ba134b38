/* Finding words: UAX #29 over the properties of ICU, one pass over UTF-8. Words of ASCII letters and digits,
 * which most are, are found by a scan of their own (plain_end) that follows the same rules where these see
 * ASCII only and leaves every other word to them. */
#include "index/analyzer_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum word_class {
    C_OTHER,
    C_LETTER,
    C_HEBREW,
    C_NUMBER,
    C_KATAKANA,
    C_CONNECTOR /* ExtendNumLet */,
    C_IDEOGRAPH,
    C_COMPLEX /* South-East Asian */,
    C_FLAG /* regional indicator */,
    C_EMOJI /* OTHER, and may be one */,
    C_MID_LETTER,
    C_MID_NUMBER,
    C_MID_BOTH,
    C_QUOTE,
    C_DOUBLE_QUOTE,
    C_EXTEND,
    C_JOINER
};
#define BIT(c)   (1u << (c))
#define LETTERS  (BIT(C_LETTER) | BIT(C_HEBREW))
#define ALNUM    (LETTERS | BIT(C_NUMBER))
#define CORE     (ALNUM | BIT(C_KATAKANA) | BIT(C_IDEOGRAPH) | BIT(C_COMPLEX))
#define STARTERS (CORE | BIT(C_CONNECTOR) | BIT(C_FLAG) | BIT(C_EMOJI))

/* What may directly follow inside a word: rules WB5, 8, 9, 10, 13, 13a, 13b, 15. */
static const uint32_t follow[] = {
    [C_LETTER] = ALNUM | BIT(C_CONNECTOR),
    [C_HEBREW] = ALNUM | BIT(C_CONNECTOR),
    [C_NUMBER] = ALNUM | BIT(C_CONNECTOR),
    [C_KATAKANA] = BIT(C_KATAKANA) | BIT(C_CONNECTOR),
    [C_CONNECTOR] = ALNUM | BIT(C_KATAKANA) | BIT(C_CONNECTOR),
    [C_COMPLEX] = BIT(C_COMPLEX),
    [C_FLAG] = BIT(C_FLAG),
    [C_JOINER] = 0,
};

static uint8_t bmp_class[0x10000];
static bool may_start[256]; /* by byte: a word may start here, or it is not ASCII */
static atomic_bool tables_ready;
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static enum word_class class_of_other(UChar32 c) {
    UErrorCode status = U_ZERO_ERROR;
    UScriptCode script = uscript_getScript(c, &status);
    if (U_SUCCESS(status) && (script == USCRIPT_HAN || script == USCRIPT_HIRAGANA)) return C_IDEOGRAPH;
    if (u_hasBinaryProperty(c, UCHAR_IDEOGRAPHIC)) return C_IDEOGRAPH;
    if (u_getIntPropertyValue(c, UCHAR_LINE_BREAK) == U_LB_COMPLEX_CONTEXT) return C_COMPLEX;
    return c >= 0x80 && u_hasBinaryProperty(c, UCHAR_EMOJI) ? C_EMOJI : C_OTHER;
}

static enum word_class compute_class(UChar32 c) {
    switch (u_getIntPropertyValue(c, UCHAR_WORD_BREAK)) {
    case U_WB_ALETTER:
        return C_LETTER;
    case U_WB_HEBREW_LETTER:
        return C_HEBREW;
    case U_WB_NUMERIC:
        return C_NUMBER;
    case U_WB_KATAKANA:
        return C_KATAKANA;
    case U_WB_EXTENDNUMLET:
        return C_CONNECTOR;
    case U_WB_REGIONAL_INDICATOR:
        return C_FLAG;
    case U_WB_MIDLETTER:
        return C_MID_LETTER;
    case U_WB_MIDNUM:
        return C_MID_NUMBER;
    case U_WB_MIDNUMLET:
        return C_MID_BOTH;
    case U_WB_SINGLE_QUOTE:
        return C_QUOTE;
    case U_WB_DOUBLE_QUOTE:
        return C_DOUBLE_QUOTE;
    case U_WB_EXTEND:
    case U_WB_FORMAT:
        return C_EXTEND;
    case U_WB_ZWJ:
        return C_JOINER;
    case U_WB_CR:
    case U_WB_LF:
    case U_WB_NEWLINE:
        return C_OTHER;
    default:
        return class_of_other(c);
    }
}

static void fill_tables(void) {
    for (UChar32 c = 0; c < 0x10000; c++) bmp_class[c] = (uint8_t)compute_class(c);
    for (unsigned b = 0; b < 256; b++) may_start[b] = b >= 0x80 || BIT(bmp_class[b]) & STARTERS;
    atomic_store_explicit(&tables_ready, true, memory_order_release);
}

static inline void need_tables(void) {
    if (!atomic_load_explicit(&tables_ready, memory_order_acquire)) pthread_once(&tables_once, fill_tables);
}

struct text {
    const uint8_t *s;
    size_t len;
};

/* Reads one code point and its class; ill-formed bytes are OTHER. *i < len. */
static inline enum word_class next_class(const struct text *t, size_t *i, UChar32 *ret_c) {
    UChar32 c = t->s[*i];
    if (c < 0x80)
        ++*i;
    else
        U8_NEXT(t->s, *i, t->len, c);
    *ret_c = c;
    if (c < 0) return C_OTHER;
    return c < 0x10000 ? bmp_class[c] : compute_class(c);
}

/* The class behind Extend, Format and ZWJ (WB4); OTHER at the end. */
static enum word_class next_significant(const struct text *t, size_t *i) {
    enum word_class class = C_OTHER;
    UChar32 c;
    while (*i < t->len) {
        class = next_class(t, i, &c);
        if (class != C_EXTEND && class != C_JOINER) return class;
    }
    return C_OTHER;
}

/* WB6, 7, 7b, 7c, 11, 12: prev × mid next. */
static bool bridges(enum word_class prev, enum word_class mid, enum word_class next) {
    uint32_t both = BIT(C_MID_BOTH) | BIT(C_QUOTE);
    if (BIT(prev) & LETTERS && BIT(next) & LETTERS && BIT(mid) & (both | BIT(C_MID_LETTER))) return true;
    if (prev == C_NUMBER && next == C_NUMBER && BIT(mid) & (both | BIT(C_MID_NUMBER))) return true;
    return prev == C_HEBREW && mid == C_DOUBLE_QUOTE && next == C_HEBREW;
}

/* ASCII letters, digits and _ one after the other: most of most texts. */
static inline size_t ascii_run(const struct text *t, size_t i, enum word_class *prev, uint32_t *seen) {
    const uint32_t plain = BIT(C_LETTER) | BIT(C_NUMBER) | BIT(C_CONNECTOR);
    if (!(follow[*prev] & BIT(C_LETTER))) return i;
    for (; i < t->len && t->s[i] < 0x80 && BIT(bmp_class[t->s[i]]) & plain; i++) {
        *prev = bmp_class[t->s[i]];
        *seen |= BIT(*prev);
    }
    return i;
}

/* One step beyond Extend characters: true when the word goes on, at *i then, with *prev changed. */
static bool join(const struct text *t, size_t *i, enum word_class *prev, uint32_t *seen) {
    size_t j = *i;
    UChar32 c;
    bool joiner = false;
    enum word_class class = next_class(t, &j, &c);
    while (class == C_EXTEND || class == C_JOINER) {
        joiner = class == C_JOINER;
        *i = j;
        if (j >= t->len) return false;
        class = next_class(t, &j, &c);
    }
    if (follow[*prev] & BIT(class) || (joiner && u_hasBinaryProperty(c, UCHAR_EXTENDED_PICTOGRAPHIC))) {
        *prev = *prev == C_FLAG ? C_OTHER : class; /* two indicators make a flag */
        *seen |= BIT(class);
        *i = j;
        return true;
    }
    if (!(BIT(*prev) & ALNUM) || !(BIT(class) & (BIT(C_MID_LETTER) | BIT(C_MID_NUMBER) | BIT(C_MID_BOTH) |
                                                 BIT(C_QUOTE) | BIT(C_DOUBLE_QUOTE))))
        return false;
    size_t behind = j;
    enum word_class next = next_significant(t, &behind);
    if (bridges(*prev, class, next)) {
        *prev = next;
        *i = behind;
        return true;
    }
    if (*prev != C_HEBREW || class != C_QUOTE) return false;
    *prev = C_OTHER; /* WB7a: the quote belongs to the letter, and ends the word */
    *i = j;
    return true;
}

/* The end of the segment that starts at `start` with a character of this class that ends at i. */
static size_t segment_end(const struct text *t, size_t i, enum word_class prev, uint32_t *seen) {
    do i = ascii_run(t, i, &prev, seen);
    while (i < t->len && join(t, &i, &prev, seen));
    return i;
}

/* Where n UTF-16 units from start end, at most len. */
static size_t units_end(const struct text *t, size_t start, size_t n) {
    size_t i = start, units = 0;
    while (i < t->len) {
        size_t before = i;
        UChar32 c;
        U8_NEXT(t->s, i, t->len, c);
        units += c > 0xffff ? 2 : 1;
        if (units > n) return before;
    }
    return i;
}

/* As segment_end, no longer than a token may be. Looks only as far as that could be. */
static size_t bounded_end(const struct text *t, size_t start, size_t i, enum word_class class,
                          uint32_t *seen) {
    struct text near = {t->s, MIN(t->len, start + 4 * TOKEN_MAX_CHARS)};
    size_t end = segment_end(&near, i, class, seen);
    if (end - start <= TOKEN_MAX_CHARS) return end;
    size_t bound = units_end(&near, start, TOKEN_MAX_CHARS);
    if (bound >= end) return end;
    near.len = bound;
    return segment_end(&near, i, class, seen);
}

static bool is_word(const struct text *t, size_t i, size_t end, UChar32 c, enum word_class class,
                    uint32_t seen) {
    if (class == C_EMOJI) {
        bool selector = end - i >= 3 && !memcmp(t->s + i, "\xef\xb8\x8f", 3); /* U+FE0F: as a picture */
        return selector || u_hasBinaryProperty(c, UCHAR_EMOJI_PRESENTATION);
    }
    if (class == C_FLAG) return end > i;
    return seen & CORE;
}

/* Is the byte an ASCII letter or digit? These are exactly the ASCII characters of classes LETTER and NUMBER.
 */
static inline bool is_alnum(uint8_t c) {
    return (uint8_t)((c | 0x20) - 'a') < 26 || (uint8_t)(c - '0') < 10;
}

/* The end of the ASCII letters and digits from i on. */
static inline size_t alnum_end(const struct text *t, size_t i) {
#if defined(__SSE2__)
    /* Signed comparisons after a shift by 128: below the first count of values means inside of the range. */
    const __m128i letters = _mm_set1_epi8((char)(0x80 - 'a')), digits = _mm_set1_epi8((char)(0x80 - '0'));
    const __m128i n_letters = _mm_set1_epi8(-128 + 26), n_digits = _mm_set1_epi8(-128 + 10);
    for (; t->len - i >= 16; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(t->s + i));
        __m128i lower = _mm_or_si128(v, _mm_set1_epi8(0x20));
        __m128i in = _mm_or_si128(_mm_cmplt_epi8(_mm_add_epi8(lower, letters), n_letters),
                                  _mm_cmplt_epi8(_mm_add_epi8(v, digits), n_digits));
        unsigned out = ~(unsigned)_mm_movemask_epi8(in) & 0xffff;
        if (out) return i + (unsigned)__builtin_ctz(out);
    }
#endif
    while (i < t->len && is_alnum(t->s[i])) i++;
    return i;
}

/* The end of the word that starts with the ASCII letter or digit at `start`, or 0 when it takes the general
 * rules to tell: something that is not ASCII or a connector touches it, or it may be too long. */
static inline size_t plain_end(const struct text *t, size_t start) {
    for (size_t i = start;; i++) {
        i = alnum_end(t, i);
        if (i - start > TOKEN_MAX_CHARS) return 0;
        if (i == t->len) return i;
        uint8_t c = t->s[i];
        if (c >= 0x80 || bmp_class[c] == C_CONNECTOR) return 0;
        bool mid =
            BIT(bmp_class[c]) & (BIT(C_MID_LETTER) | BIT(C_MID_NUMBER) | BIT(C_MID_BOTH) | BIT(C_QUOTE));
        if (!mid || i + 1 == t->len) return i;
        uint8_t next = t->s[i + 1];
        if (next >= 0x80) return 0;
        if (!bridges(bmp_class[t->s[i - 1]], bmp_class[c], bmp_class[next])) return i;
    }
}

/* The general rules. */
static bool next_word(const struct text *t, size_t *pos, size_t *ret_start, bool *ret_ascii) {
    for (size_t i = *pos; i < t->len;) {
        size_t start = i;
        UChar32 c;
        enum word_class class = next_class(t, &i, &c);
        if (!(BIT(class) & STARTERS)) continue;
        uint32_t seen = BIT(class);
        size_t end = bounded_end(t, start, i, class, &seen);
        bool word = is_word(t, i, end, c, class, seen);
        i = end;
        if (!word) continue;
        uint8_t all = 0;
        for (size_t k = start; k < end; k++) all |= t->s[k];
        *ret_start = start;
        *ret_ascii = all < 0x80;
        *pos = end;
        return true;
    }
    *pos = t->len;
    return false;
}

bool word_next_general(const uint8_t *s, size_t len, size_t *pos, size_t *ret_start, bool *ret_ascii) {
    struct text t = {s, len};
    need_tables();
    return next_word(&t, pos, ret_start, ret_ascii);
}

static inline bool any_word(const struct text *t, size_t *pos, size_t *ret_start, bool *ret_ascii) {
    size_t i = *pos;
    while (i < t->len && !may_start[t->s[i]]) i++;
    *pos = i;
    size_t end = i < t->len && is_alnum(t->s[i]) ? plain_end(t, i) : 0;
    if (!end) return next_word(t, pos, ret_start, ret_ascii);
    *ret_start = i;
    *ret_ascii = true;
    *pos = end;
    return true;
}

bool word_next(const uint8_t *s, size_t len, size_t *pos, size_t *ret_start, bool *ret_ascii) {
    struct text t = {s, len};
    need_tables();
    return any_word(&t, pos, ret_start, ret_ascii);
}

size_t words_next(const uint8_t *s, size_t len, size_t *pos, struct word *out, size_t max) {
    struct text t = {s, len};
    size_t n = 0, start, end = *pos;
    bool ascii;
    need_tables();
    for (; n < max && any_word(&t, &end, &start, &ascii); n++)
        out[n] = (struct word){.text = s + start, .len = (uint32_t)(end - start), .ascii = ascii};
    *pos = end;
    return n;
}

static inline uint8_t lower_ascii(uint8_t c) {
    return (uint8_t)(c | (uint8_t)((uint8_t)(c - 'A') < 26) << 5);
}

size_t lower_case(const uint8_t *s, size_t len, bool ascii, uint8_t *out) {
    if (ascii) {
        for (size_t i = 0; i < len; i++) out[i] = lower_ascii(s[i]);
        return len;
    }
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        size_t start = i;
        UChar32 c;
        U8_NEXT(s, i, len, c);
        UChar32 lower = c < 0 ? c : u_tolower(c);
        if (lower != c) {
            U8_APPEND_UNSAFE(out, n, lower);
        } else {
            memcpy(out + n, s + start, i - start);
            n += i - start;
        }
    }
    return n;
}
