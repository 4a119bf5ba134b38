/* Texts of managed vector fields to their vectors, by the embedder of the core. */
#pragma once
#include "fn/core.h"
#include "query/query.h"

struct embed_job {
    const struct field *field; /* managed */
    const char *text;
    size_t len;
    float *vector;  /* field->dimensions numbers, in the arena; NULL: err says why */
    struct err err; /* not prefixed with the field */
};
/* Runs all jobs; equal texts for one model are embedded once. deadline_us: monotonic. Blocks; holds no lock.
 */
void embed_jobs(struct core *, struct embed_job *, size_t n, int64_t deadline_us, const volatile int *stop,
                struct arena *);
/* Replaces what the request says as text (knn.queryText) by vectors: *ret_json is a new request->json, NULL
 * when there is nothing to replace. What is not in order is left for the compiler to refuse. */
int embed_query(struct core *, const struct query_request *, const struct schema *, int64_t deadline_us,
                const volatile int *stop, char **ret_json, struct err *);
/* The vector of the request's near_text; the caller's to free. */
int embed_near(struct core *, const struct query_request *, const struct schema *, int64_t deadline_us,
               const volatile int *stop, float **ret, uint32_t *ret_dimensions, struct err *);
