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
int vectors_verify(const struct segment_field *, struct err *);
