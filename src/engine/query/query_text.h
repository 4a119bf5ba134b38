/* The texts in a request that stand for vectors (knn.queryText on a managed field): found before the query is
 * compiled, embedded by the caller, put back as queryVector. One thread. */
#pragma once
#include "query/query.h"

struct query_text {
    const struct field *field; /* managed */
    const char *text;
    size_t len;
};
struct query_texts;
/* *ret NULL: there are none. What is not in order (no such field, no string, a vector as well) is left as it
 * is: the compiler refuses it with its place. ERR_INVALID: the query is not valid JSON. */
int query_texts_find(const struct query_request *, const struct schema *, struct query_texts **ret,
                     struct err *);
size_t query_texts_count(const struct query_texts *);
const struct query_text *query_texts_at(const struct query_texts *, size_t i);
/* The vector of text i: field->dimensions numbers. */
void query_texts_set(struct query_texts *, size_t i, const float *vector);
/* The request's query with the vectors in it; the caller's to free. */
char *query_texts_json(const struct query_texts *);
void query_texts_free(struct query_texts *); /* NULL is fine */
