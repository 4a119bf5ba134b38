/* What the analyzer's files share. */
#pragma once
#include "index/analyzer.h"

/* Lucene's PorterStemmer (Porter's algorithm with its author's later changes, "bli" and "logi") on a
 * lower-case word in UTF-16 units, in place; returns the new length, never more than n. Words of one or two
 * units stay as they are. */
size_t porter_stem(uint16_t *word, size_t n);

/* Word segments after UAX #29, with the rules of Lucene's StandardTokenizer where that page leaves it to
 * others: an ideograph or Hiragana letter is a word, a run of letters of South-East Asian scripts is one
 * word; emoji count.
 *
 * Finds the next word at or behind *pos; false when there is none. At most TOKEN_MAX_CHARS UTF-16 units.
 * Ill-formed UTF-8 separates words. *pos is moved behind the word. *ret_ascii: all its bytes are below 0x80.
 */
bool word_next(const uint8_t *text, size_t len, size_t *pos, size_t *ret_start, bool *ret_ascii);
/* The next words, at most `max`: fewer at the end. */
struct word {
    const uint8_t *text;
    uint32_t len;
    bool ascii;
};
size_t words_next(const uint8_t *text, size_t len, size_t *pos, struct word *out, size_t max);
/* The same by the general rules alone: what tests compare with. */
bool word_next_general(const uint8_t *text, size_t len, size_t *pos, size_t *ret_start, bool *ret_ascii);
/* Appends the lower-case form (code point by code point) at out, which has room for 3 * (len + 1) / 2 bytes.
 */
size_t lower_case(const uint8_t *text, size_t len, bool ascii, uint8_t *out);

/* ---- pieces of text in one width: NFKC ---- */

enum { PIECE_SOFT_BYTES = 4096, PIECE_HARD_BYTES = 8192 };

/* A piece and where its bytes come from: byte i was made from the input at from[i]; from[text.len] is behind
 * the piece. */
struct normal_piece {
    struct buf text;
    uint32_t *from;
    size_t cap;
};
/* The next piece of the input at *pos, which moves behind it: 1, or 0 at the end. It ends behind a line or a
 * Japanese full stop, behind a space or comma when it is long, and anywhere between characters when it is
 * very long. Control characters and ill-formed bytes become spaces. */
int normal_next(struct normal_piece *, const uint8_t *text, size_t len, size_t *pos, struct err *);
void normal_release(struct normal_piece *);
/* Where in the input the characters end that the bytes of the piece before `end` (> 0) were made of. */
uint32_t normal_end(const struct normal_piece *, size_t end);

/* ---- tokens ---- */

struct japanese;
struct analyzer_state {
    enum analyzer kind;
    struct token *tokens;
    size_t n, cap;
    struct buf text;           /* what the tokens point into */
    struct stem_slot *stems;   /* english */
    struct normal_piece piece; /* japanese, korean */
    struct japanese *japanese;
};

/* Adds a token of lower-cased bytes of the piece, [start, end) of the input; `text` of the token is an offset
 * until analyze() is done. Longer ones are cut at TOKEN_MAX_CHARS characters. Gives its length in bytes. */
size_t analyzer_add(struct analyzer_state *, uint32_t position, uint32_t start, uint32_t end,
                    const uint8_t *text, size_t len);

/* NULL when the library or dictionary is not there. */
struct japanese *japanese_new(void);
void japanese_free(struct japanese *);
/* Adds the tokens of a->piece; *position is that of the next token. */
int japanese_piece(struct analyzer_state *, uint32_t *position, struct err *);
/* 0, or ERR_UNSUPPORTED with what to install. */
int japanese_check(struct err *);
/* Of library and dictionary; 0 when they are not there. */
uint64_t japanese_fingerprint(void);

void korean_piece(struct analyzer_state *, uint32_t *position);

/* For tests: what analyzer_fingerprint says from now on; 0 = the truth again. */
void analyzer_fake_fingerprint(enum analyzer, uint64_t);
