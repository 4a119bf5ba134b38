/* The row matrix of a vector field: written here, read through vectors_open (segment.h). */
#pragma once
#include "index/index.h"

/* Writes rows as they come, then norms, documents and existence. One thread. */
struct vectors_writer {
    struct index_out *out;
    uint32_t dimensions;
    uint64_t off;
    struct buf norms, docs;
};
void vectors_writer_init(struct vectors_writer *, struct index_out *, uint32_t dimensions);
void vectors_writer_add(struct vectors_writer *, uint32_t docno, const float *row); /* docnos ascending */
void vectors_writer_finish(struct vectors_writer *); /* writes nothing without rows; releases the writer */
/* As vectors_writer_finish, and the clusters of the rows (n of them, by address) where there are enough. */
int vectors_writer_finish_clustered(struct vectors_writer *, const struct index_spec *,
                                    const float *const *rows, uint32_t n, const volatile int *cancel,
                                    struct err *);
/* What an open field keeps of its vectors. */
struct vectors_cache;
void vectors_cache_free(struct vectors_cache *); /* NULL is fine */
int vectors_verify(const struct segment_field *, struct err *);
