/* Dictionaries of stored documents: text that many documents have in common, which lets blocks of a document
 * or two compress as well as large ones do, so that fetching a hit unpacks hardly more than that document. A
 * frame names its dictionary by zstd's dictionary id, which is a hash of the content. Grammar:
 * docs/FORMAT.md. */
#pragma once
#include "index/blob.h"

enum {
    DOC_DICT_BYTES = 16 * 1024,   /* of a dictionary that is made */
    DOC_DICT_SAMPLE = 512 * 1024, /* documents it is made from */
    DOC_DICT_MAX = 1024 * 1024,   /* of one that a reader accepts */
    DOC_DICTS_MAX = 64 * 1024,    /* in one segment */
};

/* Makes a dictionary from the beginning of a segment's documents: n of them one after the other. False: they
 * do not give one. */
bool doc_dict_train(const uint8_t *docs, const size_t *sizes, size_t n, struct buf *out);

/* What a writer has: borrowed bytes. One thread. */
struct doc_dict {
    const uint8_t *data;
    uint32_t len, id;
};
/* Writes the region's bytes. */
void doc_dicts_write(const struct doc_dict *, size_t n, struct blob_writer *out);

/* What a reader has. Immutable but for what is made at first use; thread-safe. */
struct doc_dicts;
/* Takes the region apart; its bytes are borrowed. ERR_CORRUPT. */
int doc_dicts_open(const uint8_t *region, uint64_t len, const char *name, struct doc_dicts **ret,
                   struct err *);
void doc_dicts_free(struct doc_dicts *);
const struct doc_dict *doc_dicts_all(const struct doc_dicts *, size_t *ret_n);
/* The ZSTD_DDict of an id; NULL: there is none, or it is damaged. */
const void *doc_dicts_find(struct doc_dicts *, uint32_t id);
