/* Stored documents: blocks, each compressed on its own (zstd, or stored when that does not help). A segment
 * with enough documents has a dictionary for them and blocks of 1 KB and more, often one document; others
 * have blocks of 16 to 32 KB. */
#pragma once
#include "index/blob.h"
#include "index/docdict.h"
#include "util/codec.h"

enum {
    DOC_BLOCK_BYTES = 16 * 1024,       /* a block is closed when it has this much */
    DOC_DICT_BLOCK_BYTES = 1024,       /* the same with a dictionary */
    DOC_BLOCK_MAX = 32 * 1024,         /* a document that would make it larger starts a new one */
    DOC_STORE_MAX = 256 * 1024 * 1024, /* bytes of a block that a reader accepts */
    DOC_INDEX_ENTRY = 16,
};

struct docstore_place {
    uint64_t blocks_off, blocks_len, index_off, index_len, starts_off, starts_len;
    uint32_t start_width;
    uint64_t dicts_off, dicts_len; /* 0: no dictionaries */
};
struct docstore_writer {
    struct blob_writer *out;
    uint64_t base;  /* where the region starts */
    struct buf raw; /* the open block */
    struct buf packed;
    struct buf index; /* entries of the closed blocks */
    uint64_t *starts; /* per document: where it starts in its block */
    uint32_t n, cap, block_first;
    /* Dictionaries: the first is for new blocks, the others came with copied ones. */
    bool sampling;        /* `raw` collects the documents that one will be made from */
    size_t *sample_sizes; /* of those documents */
    size_t n_sample, cap_sample;
    struct buf trained;
    struct doc_dict *dicts;
    size_t n_dicts, cap_dicts;
    void *cdict; /* ZSTD_CDict */
};
void docstore_writer_init(struct docstore_writer *, struct blob_writer *out);
struct docstore;
/* Takes the dictionary of a segment that is merged instead of making one; nothing when it has none. */
int docstore_writer_inherit(struct docstore_writer *, const struct docstore *, struct err *);
int docstore_writer_add(struct docstore_writer *, const void *raw, size_t len, struct err *);
int docstore_writer_finish(struct docstore_writer *, struct docstore_place *ret, struct err *);
/* Writes the dictionaries, if there are any: *ret_len 0 else. Behind everything else, so that the read that
 * opens a segment brings them. */
void docstore_writer_finish_dicts(struct docstore_writer *, uint64_t *ret_off, uint64_t *ret_len);
/* Whether a block of so many bytes should be copied as it is (docstore_copy_block): not while a dictionary is
 * to be made, and not so that small blocks pile up. */
bool docstore_writer_may_copy(const struct docstore_writer *, uint32_t block_bytes);
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
    struct doc_dicts *_Atomic dicts; /* opened at first need */
};
void docstore_release(struct docstore *);
/* Appends the document. */
int docstore_get(const struct docstore *, uint32_t docno, struct buf *out, struct err *);
/* The document's bytes, valid until the cache is used again; NULL is the thread's own cache. */
int docstore_peek(const struct docstore *, struct doc_cache *, uint32_t docno, const uint8_t **ret,
                  uint32_t *ret_len, struct err *);
/* Can docstore_get do it without reading or checking anything first? Then what it needs is on its way to the
 * processor's caches, the document has *ret_size bytes, and [*ret_first, *ret_end) share its block. */
bool docstore_at_hand(const struct docstore *, uint32_t docno, uint32_t *ret_size, uint32_t *ret_first,
                      uint32_t *ret_end);
int docstore_size(const struct docstore *, uint32_t docno, uint32_t *ret, struct err *);
/* The documents [*ret_first, *ret_end) share the block of docno, of *ret_bytes uncompressed. */
int docstore_block_of(const struct docstore *, uint32_t docno, uint32_t *ret_first, uint32_t *ret_end,
                      uint32_t *ret_bytes, struct err *);
/* Copies the block of docno whole, compressed as it is. Its dictionary goes along and is borrowed. */
int docstore_copy_block(const struct docstore *, uint32_t docno, struct docstore_writer *, struct err *);
/* What docstore_get will read, as far as it can be known by now (index/fetch.h). */
struct fetch;
void docstore_want(const struct docstore *, uint32_t docno, struct fetch *);
int docstore_verify(const struct docstore *, uint64_t *ret_raw_bytes, struct err *);
