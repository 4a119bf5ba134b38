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
/* Appends the lower-case form (code point by code point) at out, which has room for 3 * (len + 1) / 2 bytes.
 */
size_t lower_case(const uint8_t *text, size_t len, bool ascii, uint8_t *out);
