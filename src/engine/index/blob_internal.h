/* The inside of a blob, shared by blob.c (mapped objects, objects in memory, writing) and fetch.c (remote
 * ones). */
#pragma once
#include "index/blob.h"
#include "index/page_cache.h"

enum { BLOB_VERSION = 1, BLOB_TABLE_ENTRY = 4, BLOB_TRAILER_CRC = BLOB_TRAILER_SIZE - 4 };

enum blob_mode { BLOB_MEMORY, BLOB_MAPPED, BLOB_FETCHED };

/* Immutable after open but for `verified` (a set bit is never cleared; set with release order after the
 * page's bytes are final) and the pages of BLOB_FETCHED, which the page cache guards. */
struct blob {
    enum blob_mode mode;
    struct object_store *store;
    struct object_mapping mapping;
    char *key, *version, *name;
    const uint8_t *data;
    uint64_t size, payload_end;
    uint64_t n_pages;           /* of the payload; 0 while it is being opened */
    const uint8_t *table;       /* BLOB_FETCHED: a copy, owned */
    _Atomic uint64_t *verified; /* not BLOB_FETCHED */
    struct page_set pages;      /* BLOB_FETCHED */
};

struct blob *blob_new(enum blob_mode, struct object_store *, const char *key, const char *version);
int blob_corrupt(const struct blob *, struct err *, const char *what);
/* Checks and takes the page table and trailer, the object's last `len` bytes at `tail`; table borrows. */
int blob_read_trailer(struct blob *, const uint8_t *tail, uint64_t len, uint32_t kind, bool check_sum,
                      uint32_t checksum, struct err *);
int blob_check_header(const struct blob *, const uint8_t *header, uint32_t kind, struct err *);
int blob_check_page(const struct blob *, uint64_t page, const uint8_t *bytes, struct err *);
static inline uint32_t blob_page_len(const struct blob *b, uint64_t page) {
    uint64_t left = b->payload_end - page * BLOB_PAGE;
    return (uint32_t)(left < BLOB_PAGE ? left : BLOB_PAGE);
}

/* Quickly: how many of `n` rows of `size` bytes each, at most a page, can be read at once, from the first on;
 * 0 also where it is not known. The rows, by ascending numbers, begin at off and lie inside of the payload.
 */
static inline uint32_t blob_rows_at_hand(const struct blob *b, uint64_t off, uint64_t size,
                                         const uint32_t *rows, uint32_t n) {
    uint32_t i = 0;
    if (b->mode == BLOB_FETCHED || size > BLOB_PAGE) return 0;
    if (!n || off + (rows[n - 1] + (uint64_t)1) * size > b->payload_end) return 0;
    if (b->mode == BLOB_MEMORY) return n;
    for (; i < n; i++) {
        uint64_t from = off + rows[i] * size, first = from / BLOB_PAGE, last = (from + size - 1) / BLOB_PAGE;
        if (!page_bit(b->verified, first) || (last != first && !page_bit(b->verified, last))) break;
    }
    return i;
}

/* fetch.c: the same for remote objects. */
int fetch_open_many(struct object_store *, const struct blob_source *, size_t n, struct blob **ret,
                    struct err *);
int fetch_need(struct blob *, uint64_t first, uint64_t last, bool pinned, struct err *);
