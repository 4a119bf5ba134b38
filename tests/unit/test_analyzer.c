/* Analysis: tokens against ICU's word breaker and the stemmer of libstemmer on random text, and fixed cases.
 */
#include "index/analyzer.h"
#include "index/analyzer_internal.h"
#include "test.h"

#include <libstemmer.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

static uint64_t seed = 7;
static uint32_t next_random(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

/* "word@position word@position" */
static const char *tokens_of(enum analyzer kind, const char *text) {
    static struct buf out;
    struct err err = ERR_INIT;
    struct analyzer_state *a = analyzer_new(kind);
    const struct token *t;
    size_t n;
    buf_clear(&out);
    if (analyze(a, text, strlen(text), &t, &n, &err)) return "failed";
    for (size_t i = 0; i < n; i++)
        buf_printf(&out, "%s%.*s@%u", i ? " " : "", (int)t[i].len, t[i].text, t[i].position);
    analyzer_free(a);
    return buf_str(&out);
}
#define IS(kind, text, expected)                                                                             \
    do {                                                                                                     \
        const char *is_got = tokens_of(ANALYZER_##kind, text);                                               \
        if (strcmp(is_got, expected)) fprintf(stderr, "got: %s\n", is_got);                                  \
        CHECK(!strcmp(is_got, expected));                                                                    \
    } while (0)

TEST(standard) {
    IS(STANDARD, "", "");
    IS(STANDARD, " ,.;:!?'\" \t\n_ __", "");
    IS(STANDARD, "The QUICK brown-fox", "the@0 quick@1 brown@2 fox@3");
    IS(STANDARD, "can't O'Neil's 'quoted' dogs'", "can't@0 o'neil's@1 quoted@2 dogs@3");
    IS(STANDARD, "3.14 1,000.5 1. .5 a.b a. a..b 1a a1 x.1 1.x",
       "3.14@0 1,000.5@1 1@2 5@3 a.b@4 a@5 a@6 b@7 1a@8 "
       "a1@9 x@10 1@11 1@12 x@13");
    IS(STANDARD, "snake_case _a b_ _1_", "snake_case@0 _a@1 b_@2 _1_@3");
    IS(STANDARD, "user@example.com a:b 12:30", "user@0 example.com@1 a:b@2 12@3 30@4");
    IS(STANDARD, "na\u00efve \u00c9COLE \u00c0\u00c9 e\u0301a STRA\u00dfE",
       "na\u00efve@0 \u00e9cole@1 \u00e0\u00e9@2 "
       "e\u0301a@3 stra\u00dfe@4");
    IS(STANDARD, "a\u2019b \u0391\u03a3", "a\u2019b@0 \u03b1\u03c3@1");
    IS(STANDARD, "\u0130I", "ii@0");
}

TEST(standard_scripts) {
    IS(STANDARD, "\u4eca\u65e5\u306f", "\u4eca@0 \u65e5@1 \u306f@2");
    IS(STANDARD, "\u30ab\u30bf\u30ab\u30ca abc", "\u30ab\u30bf\u30ab\u30ca@0 abc@1");
    IS(STANDARD, "\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8", "\ud55c\uad6d\uc5b4@0 \ud14d\uc2a4\ud2b8@1");
    IS(STANDARD, "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 x",
       "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22@0 x@1");
    IS(STANDARD, "\uff11\uff12\u3000\uff21", "\uff11\uff12@0 \uff41@1");
    IS(STANDARD, "\U00020000\U00020001", "\U00020000@0 \U00020001@1");
    IS(STANDARD, "a \U0001f600 \U0001f1e9\U0001f1ea\U0001f1eb \u00a9",
       "a@0 \U0001f600@1 \U0001f1e9\U0001f1ea@2");
    IS(STANDARD, "\u05d0\u05d1'c \u05d0\" \u05d0\"\u05d1", "\u05d0\u05d1'c@0 \u05d0@1 \u05d0\"\u05d1@2");
}

TEST(offsets_point_into_the_text) {
    const char *text = "\u00c9t\u00e9, the Dog's!";
    struct analyzer_state *a = analyzer_new(ANALYZER_ENGLISH);
    const struct token *t;
    size_t n;
    struct err err = ERR_INIT;
    CHECK_OK(analyze(a, text, strlen(text), &t, &n, &err));
    CHECK(n == 2 && t[0].start == 0 && t[0].end == 5 && t[1].start == 11 && t[1].end == 16);
    CHECK(t[1].position == 2 && t[1].len == 3 && !memcmp(t[1].text, "dog", 3));
    analyzer_free(a);
}

TEST(english) {
    IS(ENGLISH, "The dogs were running to the houses", "dog@1 were@2 run@3 hous@6");
    IS(ENGLISH, "John's JOHN'S john\u2019s john\uff07s s 's", "john@0 john@1 john@2 john@3 s@4 s@5");
    IS(ENGLISH, "possibly apologies relational hopping us", "possibl@0 apolog@1 relat@2 hop@3 us@4");
    IS(ENGLISH,
       "a an and are as at be but by for if in into is it no not of on or such that the their then there "
       "these they this to was will with x",
       "x@33");
    IS(ENGLISH, "trekked possible happily", "trek@0 possibl@1 happili@2");
    IS(ENGLISH, "y yes sky skies eying caresses ponies agreed feed",
       "y@0 ye@1 sky@2 ski@3 ei@4 caress@5 poni@6 "
       "agre@7 feed@8");
}

TEST(kinds_that_are_missing) {
    struct err err = ERR_INIT;
    CHECK(!analyzer_new(ANALYZER_COUNT) && analyzer_check(ANALYZER_COUNT, &err) == -ERR_UNSUPPORTED);
    CHECK(!analyzer_fingerprint(ANALYZER_COUNT));
    analyzer_free(NULL);
}

TEST(normalize) {
    struct buf b = BUF_INIT;
    const char *s = "WiLd*\u00c9? \u023a";
    analyzer_normalize(ANALYZER_ENGLISH, s, strlen(s), &b);
    CHECK(!strcmp(buf_str(&b), "wild*\u00e9? \u2c65"));
    buf_release(&b);
}

/* Pieces of 255 UTF-16 units; surrogate pairs stay whole; never more work than the text is long. */
TEST(long_words) {
    size_t len = 1 << 20, n;
    char *text = malloc(len);
    struct analyzer_state *a = analyzer_new(ANALYZER_STANDARD);
    const struct token *t;
    struct err err = ERR_INIT;
    memset(text, 'A', len);
    CHECK_OK(analyze(a, text, len, &t, &n, &err));
    CHECK(n == len / 255 + 1 && t[0].len == 255 && t[n - 1].len == len % 255 && t[n - 1].position == n - 1);
    for (size_t i = 0; i < len / 4; i++) memcpy(text + 4 * i, "\U00010400", 4);
    CHECK_OK(analyze(a, text, len, &t, &n, &err));
    CHECK(n == (len / 4 + 126) / 127 && t[0].len == 127 * 4 && !memcmp(t[0].text, "\U00010428", 4));
    CHECK_OK(analyze(a, "short", 5, &t, &n, &err));
    CHECK(n == 1 && t[0].len == 5);
    memset(text, 'a', 254);
    memcpy(text + 254, ".b", 2);
    CHECK_OK(analyze(a, text, 256, &t, &n, &err));
    CHECK(n == 2 && t[0].len == 254 && t[1].len == 1);
    analyzer_free(a);
    free(text);
}

TEST(ill_formed_input_is_survived) {
    struct analyzer_state *a = analyzer_new(ANALYZER_ENGLISH);
    const struct token *t;
    size_t n;
    struct err err = ERR_INIT;
    for (int round = 0; round < 20000; round++) {
        size_t len = next_random(40);
        char *text = malloc(len);
        for (size_t i = 0; i < len; i++)
            text[i] =
                (char)(next_random(3) ? "aZ1_.'\xe2\x80\x99s "[next_random(11)] : (int)next_random(256));
        CHECK_OK(analyze(a, text, len, &t, &n, &err));
        for (size_t i = 0; i < n; i++) CHECK(t[i].end <= len && t[i].start < t[i].end);
        free(text);
    }
    analyzer_free(a);
}

/* ---- against ICU ---- */

/* ICU leaves some characters to dictionaries or to emoji rules, parts Hangul from other letters, and tailors
 * : and @ in its root rules; the analyzer does with them what UAX #29 and Lucene do. */
static bool comparable(UChar32 c) {
    UErrorCode status = U_ZERO_ERROR;
    UScriptCode script = uscript_getScript(c, &status);
    if (U_IS_SURROGATE(c) || !u_isdefined(c)) return false;
    if (script == USCRIPT_HAN || script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA ||
        script == USCRIPT_HANGUL)
        return false;
    if (u_getIntPropertyValue(c, UCHAR_WORD_BREAK) == U_WB_KATAKANA) return false;
    if (u_hasBinaryProperty(c, UCHAR_IDEOGRAPHIC) || c == 0x16fe4) return false;
    if (u_getIntPropertyValue(c, UCHAR_LINE_BREAK) == U_LB_COMPLEX_CONTEXT) return false;
    if (u_getIntPropertyValue(c, UCHAR_WORD_BREAK) == U_WB_REGIONAL_INDICATOR) return false;
    if (c >= 0x80 && u_hasBinaryProperty(c, UCHAR_EMOJI)) return false;
    return c != ':' && c != 0xfe55 && c != 0xff1a && c != '@';
}

static UChar32 random_char(uint32_t flavour) {
    static const UChar32 mids[] = {'.',    ',',   ';',   '\'',   '"',    '_',     0xb7,  0x2019, 0x2018,
                                   0x2024, 0x387, 0x66c, 0x203f, 0x300,  0x200d,  0xad,  0x5d0,  0x5d1,
                                   ' ',    '\n',  '\r',  0x85,   0x3000, 0x1f3fb, 0xfe0f};
    UChar32 c;
    do {
        switch (next_random(flavour)) {
        case 0:
            c = (UChar32)next_random(128);
            break;
        case 1:
            c = "aB9_.' "[next_random(7)];
            break;
        case 2:
            c = mids[next_random(ARRAY_SIZE(mids))];
            break;
        case 3:
            c = (UChar32)next_random(0x3000);
            break;
        default:
            c = (UChar32)next_random(0x20000);
            break;
        }
    } while (!comparable(c));
    return c;
}

static size_t random_text(uint8_t *text, size_t max, uint32_t flavour) {
    size_t len = 0;
    for (size_t n = 1 + next_random(24); n && len + 4 <= max; n--) {
        UChar32 c = random_char(flavour);
        U8_APPEND_UNSAFE(text, len, c);
    }
    return len;
}

/* ICU's rule status is not asked: it calls "__" a word and "b_" with an accent on the line none. */
static bool has_letter_or_number(const uint8_t *text, int32_t i, int32_t end) {
    while (i < end) {
        UChar32 c;
        U8_NEXT(text, i, end, c);
        int32_t wb = u_getIntPropertyValue(c, UCHAR_WORD_BREAK);
        if (wb == U_WB_ALETTER || wb == U_WB_HEBREW_LETTER || wb == U_WB_NUMERIC) return true;
    }
    return false;
}

/* The next segment of ICU that is a word; false at the end. */
static bool icu_word(UBreakIterator *it, const uint8_t *text, int32_t *ret_start, int32_t *ret_end) {
    for (int32_t start = ubrk_current(it), end; (end = ubrk_next(it)) != UBRK_DONE; start = end) {
        if (!has_letter_or_number(text, start, end)) continue;
        *ret_start = start;
        *ret_end = end;
        return true;
    }
    return false;
}

static bool compare_with_icu(UBreakIterator *it, const uint8_t *text, size_t len) {
    UErrorCode status = U_ZERO_ERROR;
    UText ut = UTEXT_INITIALIZER;
    utext_openUTF8(&ut, (const char *)text, (int64_t)len, &status);
    ubrk_setUText(it, &ut, &status);
    ubrk_first(it);
    size_t pos = 0, start;
    bool ascii, mine, same = U_SUCCESS(status);
    int32_t icu_start = 0, icu_end = 0;
    do {
        mine = word_next(text, len, &pos, &start, &ascii);
        bool theirs = icu_word(it, text, &icu_start, &icu_end);
        same = same && mine == theirs && (!mine || ((int32_t)start == icu_start && (int32_t)pos == icu_end));
        if (!same) {
            fprintf(stderr, "text");
            for (size_t i = 0; i < len; i++) fprintf(stderr, " %02x", text[i]);
            fprintf(stderr, ": %zu-%zu, ICU %d-%d\n", start, pos, icu_start, icu_end);
        }
    } while (mine && same);
    utext_close(&ut);
    return same;
}

TEST(words_are_those_of_icu) {
    UErrorCode status = U_ZERO_ERROR;
    UBreakIterator *it = ubrk_open(UBRK_WORD, "", NULL, 0, &status);
    CHECK(U_SUCCESS(status));
    uint8_t text[200];
    for (int round = 0; round < 50000; round++)
        CHECK(compare_with_icu(it, text, random_text(text, sizeof text, 1 + (uint32_t)round % 5)));
    ubrk_close(it);
}

/* ---- against libstemmer ---- */

static size_t random_word(char *word) {
    static const char *const parts[] = {"ation", "ational", "izer", "ful",  "ness", "ing",  "ed",   "eed",
                                        "sses",  "ies",     "s",    "ly",   "al",   "ence", "ance", "ement",
                                        "ment",  "ent",     "ion",  "ate",  "iti",  "ous",  "ive",  "ize",
                                        "y",     "e",       "ll",   "able", "tt",   "icate"};
    size_t len = 0;
    for (uint32_t n = 1 + next_random(6); n; n--) word[len++] = "abcdeilnorstuvwxyz"[next_random(18)];
    for (uint32_t n = next_random(3); n; n--) {
        const char *part = parts[next_random(ARRAY_SIZE(parts))];
        memcpy(word + len, part, strlen(part));
        len += strlen(part);
    }
    return len;
}

/* Lucene's stemmer has "bli" and "logi" where the published algorithm has "abli", and undoubles every
 * consonant before -ed and -ing; Snowball knows a list of them. Those cases are in TEST(english). */
static bool same_in_both(const char *word, size_t len) {
    char z[64];
    memcpy(z, word, len);
    z[len] = 0;
    for (size_t i = 1; i < len; i++)
        if (z[i] == z[i - 1] && strchr("chjkqvwxy", z[i])) return false;
    return len > 2 && !strstr(z, "bl") && !strstr(z, "logi") && !strstr(z, "logy");
}

TEST(stems_are_those_of_libstemmer) {
    struct sb_stemmer *snowball = sb_stemmer_new("porter", "UTF_8");
    CHECK(snowball);
    for (int round = 0; round < 200000; round++) {
        char word[64];
        uint16_t units[64];
        size_t len = random_word(word), n;
        if (!same_in_both(word, len)) continue;
        for (size_t i = 0; i < len; i++) units[i] = (uint8_t)word[i];
        n = porter_stem(units, len);
        const sb_symbol *theirs = sb_stemmer_stem(snowball, (const sb_symbol *)word, (int)len);
        bool same = n == (size_t)sb_stemmer_length(snowball);
        for (size_t i = 0; same && i < n; i++) same = units[i] == theirs[i];
        if (!same) fprintf(stderr, "%.*s: %.*s\n", (int)len, word, sb_stemmer_length(snowball), theirs);
        CHECK(same);
    }
    sb_stemmer_delete(snowball);
}

TEST(cached_stems_are_the_same) {
    struct analyzer_state *a = analyzer_new(ANALYZER_ENGLISH);
    const struct token *t;
    size_t n;
    struct err err = ERR_INIT;
    for (int round = 0; round < 20000; round++) {
        char word[64];
        uint16_t units[64];
        size_t len = random_word(word);
        for (size_t i = 0; i < len; i++) units[i] = (uint8_t)word[i];
        size_t stem_len = porter_stem(units, len);
        for (int twice = 0; twice < 2; twice++) {
            CHECK_OK(analyze(a, word, len, &t, &n, &err));
            if (!n) continue; /* a stop word */
            CHECK(n == 1 && t[0].len == stem_len);
            for (size_t i = 0; i < stem_len; i++) CHECK((uint8_t)t[0].text[i] == units[i]);
        }
    }
    analyzer_free(a);
}
