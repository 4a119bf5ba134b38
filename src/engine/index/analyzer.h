/* Text analysis: text -> tokens with positions. Deterministic: the same bytes give the same tokens in every
 * process, because deletes re-analyse stored documents. One analyzer_state a thread, reusable. */
#pragma once
#include "index/schema.h"

struct token {
    const char *text; /* UTF-8, valid until the next analyze call */
    uint32_t len;
    uint32_t position;   /* from 0; stop words leave gaps */
    uint32_t start, end; /* byte offsets in the input */
};
enum { TOKEN_MAX_CHARS = 255 }; /* longer words are split there, as Lucene's StandardAnalyzer does */

struct analyzer_state;
/* NULL when the analyzer cannot be used here; analyzer_check says why. */
struct analyzer_state *analyzer_new(enum analyzer);
/* 0, or ERR_UNSUPPORTED naming what has to be installed. */
int analyzer_check(enum analyzer, struct err *);
/* The same for every text field of a schema. */
int analyzers_check(const struct schema *, struct err *);
void analyzer_free(struct analyzer_state *);
/* All tokens of one value. standard: UAX #29 words (ICU), lower-cased. english: Lucene's EnglishAnalyzer
 * (possessive 's removed, lower-cased, Lucene's 33 stop words, Porter). japanese, korean: their files.
 * Positions ascend; of several tokens at one position the first is the word itself. */
int analyze(struct analyzer_state *, const char *text, size_t len, const struct token **ret, size_t *ret_n,
            struct err *);
/* standard and english take a text word by word (word_next in analyzer_internal.h), and what a word becomes
 * depends on its bytes alone: */
bool analyzer_takes_words(enum analyzer);
/* The token of a word: at out, which has room for 3 * (len + 1) / 2 bytes. False: none, it is a stop word. */
bool analyzer_word_term(struct analyzer_state *, const char *word, size_t len, bool ascii, char *out,
                        size_t *ret_len);
/* Normalises a wildcard/prefix/range term without tokenising or stemming: lower-cases. */
void analyzer_normalize(enum analyzer, const char *text, size_t len, struct buf *out);
/* What the tokens of a text depend on besides the text: rules, Unicode version, library and dictionary. Equal
 * numbers mean equal tokens. 0: the analyzer cannot be used here. */
uint64_t analyzer_fingerprint(enum analyzer);
