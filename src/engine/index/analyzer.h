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
struct analyzer_state *analyzer_new(enum analyzer);
void analyzer_free(struct analyzer_state *);
/* All tokens of one value. standard: UAX #29 words (ICU), lower-cased. english: Lucene's EnglishAnalyzer
 * (possessive 's removed, lower-cased, Lucene's 33 stop words, Porter). Kinds that are not built in yet:
 * analyzer_new returns NULL. */
int analyze(struct analyzer_state *, const char *text, size_t len, const struct token **ret, size_t *ret_n,
            struct err *);
/* Normalises a wildcard/prefix/range term without tokenising or stemming: lower-cases. */
void analyzer_normalize(enum analyzer, const char *text, size_t len, struct buf *out);
