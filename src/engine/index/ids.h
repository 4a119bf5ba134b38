/* The ids of a segment: front-coded in blocks of ID_BLOCK, binary search over the blocks. */
#pragma once
#include "index/blob.h"
#include "util/codec.h"

enum { ID_BLOCK = 16, ID_MAX_BYTES = 2048, ID_COPIED = 16, ID_ROOM = ID_MAX_BYTES + ID_COPIED };

struct ids_writer {
    struct buf data;
    uint64_t *block_offs;
    size_t n_blocks, cap;
    uint32_t n;
    struct buf last;
};
/* -1, 0, 1: bytes, then length. */
int id_compare(const void *a, size_t a_len, const void *b, size_t b_len);
/* ERR_INVALID unless the id is longer than nothing known, at most ID_MAX_BYTES and above the one before. */
int ids_writer_add(struct ids_writer *, const char *id, size_t len, struct err *);
struct ids_place {
    uint64_t data_off, data_len, index_off, index_len;
    uint32_t width; /* of the offsets in the index */
};
void ids_writer_finish(struct ids_writer *, struct blob_writer *out, struct ids_place *ret);
void ids_writer_release(struct ids_writer *);

/* Immutable. */
struct ids {
    struct blob *blob; /* borrowed */
    uint32_t n;
    struct ids_place place;
};
int ids_find(const struct ids *, const char *id, size_t len, bool *ret_found, uint32_t *ret_docno,
             struct err *);
int ids_get(const struct ids *, uint32_t docno, struct buf *out, struct err *);

/* All ids in order. */
struct ids_iter {
    const struct ids *ids;
    uint32_t next;
    struct cursor c; /* in the current block */
    uint32_t len;
    char id[ID_ROOM];
};
void ids_iter_init(struct ids_iter *, const struct ids *);
/* 1: id and len are set (of document next - 1); 0: end; negative: error. */
int ids_iter_next(struct ids_iter *, struct err *);
