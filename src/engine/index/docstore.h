/* Stored documents: blocks of 16 to 32 KB, each compressed on its own (zstd level 3, or stored when that does
 * not help); a larger document has a block to itself. */
#pragma once
#include "index/blob.h"
#include "util/codec.h"

enum {
    DOC_BLOCK_BYTES = 16 * 1024,       /* a block is closed when it has this much */
    DOC_BLOCK_MAX = 32 * 1024,         /* a document that would make it larger starts a new one */
    DOC_STORE_MAX = 256 * 1024 * 1024, /* bytes of a block that a reader accepts */
    DOC_INDEX_ENTRY = 16,
};

struct docstore_place {
    uint64_t blocks_off, blocks_len, index_off, index_len, starts_off, starts_len;
    uint32_t start_width;
};
struct docstore_writer {
    struct blob_writer *out;
    uint64_t base;  /* where the region starts */
    struct buf raw; /* the open block */
    struct buf packed;
    struct buf index; /* entries of the closed blocks */
    uint64_t *starts; /* per document: where it starts in its block */
    uint32_t n, cap, block_first;
};
void docstore_writer_init(struct docstore_writer *, struct blob_writer *out);
int docstore_writer_add(struct docstore_writer *, const void *raw, size_t len, struct err *);
int docstore_writer_finish(struct docstore_writer *, struct docstore_place *ret, struct err *);
void docstore_writer_release(struct docstore_writer *);

/* The block that was decompressed last. One thread. */
struct doc_cache {
    uint64_t uid; /* of the docstore; 0 = nothing */
    uint32_t block_no;
    struct buf raw;
};
/* Immutable. */
struct docstore {
    struct blob *blob; /* borrowed */
    uint64_t uid;      /* key of caches */
    uint32_t n;
    struct docstore_place place;
};
/* Appends the document. */
int docstore_get(const struct docstore *, uint32_t docno, struct buf *out, struct err *);
/* The document's bytes, valid until the cache is used again; NULL is the thread's own cache. */
int docstore_peek(const struct docstore *, struct doc_cache *, uint32_t docno, const uint8_t **ret,
                  uint32_t *ret_len, struct err *);
int docstore_size(const struct docstore *, uint32_t docno, uint32_t *ret, struct err *);
/* The documents [*ret_first, *ret_end) share the block of docno, of *ret_bytes uncompressed. */
int docstore_block_of(const struct docstore *, uint32_t docno, uint32_t *ret_first, uint32_t *ret_end,
                      uint32_t *ret_bytes, struct err *);
/* Copies the block of docno whole, compressed as it is. */
int docstore_copy_block(const struct docstore *, uint32_t docno, struct docstore_writer *, struct err *);
/* What docstore_get will read, as far as it can be known by now (index/fetch.h). */
struct fetch;
void docstore_want(const struct docstore *, uint32_t docno, struct fetch *);
int docstore_verify(const struct docstore *, uint64_t *ret_raw_bytes, struct err *);
