/* A query's answer and its presentation. */
#pragma once
#include "query/query.h"

struct answer_hit {
    float score;
    char *id;
    uint32_t id_len;
    char *doc; /* raw JSON as stored, NUL-terminated */
    size_t doc_len;
    char *explain; /* a JSON object; NULL unless asked for */
};
struct facets;
struct answer {
    char *collection;
    int64_t took_us;
    uint64_t total;
    float max_score;
    struct answer_hit *hits; /* already cut to [from, from+size) */
    uint32_t n_hits;
    uint64_t seq;          /* highest sequence number the answer covers */
    struct facets *facets; /* NULL unless asked for */
};
void answer_free(struct answer *);
/* Formats as the request asks: jsonl: {"collection","score","doc"} a line, then a line per facet; json: the
 * API's answer
 * {"took","maxScore","total","docs":[...],"isDocsInline":true}, with facets also "facets":[...], and a
 * newline at the end; ids: one id a line (JSON string if it holds a control character); tsv, csv, table: a
 * header and a row a hit; count: the total. `fields` and include_vectors are applied here (schema names the
 * vector fields); without a selection the document's bytes are emitted exactly as stored. Scores are printed
 * with the fewest digits that read back to the same float32. */
int answer_format(const struct answer *, const struct query_request *, const struct schema *, struct buf *out,
                  struct err *);
/* A number with the fewest digits that read back to the same float32 or double; null when it is not finite.
 */
void answer_add_score(struct buf *out, float score);
void answer_add_double(struct buf *out, double number);
