/* A stored object seen as verified memory. Bytes are fetched and checked page by page, on first need.
 *
 * Layout of every object: header | pages of payload | page checksum table | trailer (docs/FORMAT.md). With a
 * store that can map, the object is mapped and pages are only verified; otherwise a reserved range is filled
 * by ranged gets, neighbours coalesced (gaps up to BLOB_COALESCE bytes), under the bound of the store's page
 * cache. There a thread keeps a hold (index/page_cache.h) while it uses what blob_need gave it; without one
 * the pages stay until blob_close. Thread-safe; immutable but for the page state. */
#pragma once
#include "backend/object_store.h"

enum { BLOB_PAGE = 64 * 1024, BLOB_COALESCE = 256 * 1024, BLOB_HEADER_SIZE = 16, BLOB_TRAILER_SIZE = 32 };

/* Object kinds; the four magic bytes of the header. */
#define BLOB_KIND_ROOT         0x31524c44u /* "DLR1" */
#define BLOB_KIND_INTERMEDIATE 0x31494c44u /* "DLI1" */
#define BLOB_KIND_SEGMENT      0x31534c44u /* "DLS1" */
#define BLOB_KIND_DELETES      0x31444c44u /* "DLD1" */

struct blob;
/* size and checksum (of the page table; 0 size = unknown) come from the reference in the parent and are
 * verified: ERR_CORRUPT names key and version. */
int blob_open(struct object_store *, const char *key, const char *version, uint32_t kind, uint64_t size,
              uint32_t checksum, struct blob **ret, struct err *);
/* Over bytes in memory (an object as written by blob_writer), taken (also on failure): freed at close.
 * Verified at once. */
int blob_open_memory(uint8_t *data, size_t size, uint32_t kind, struct blob **ret, struct err *);
/* Several at once: over a store that does not map, one wave of requests. `hot` are ranges of the object to
 * fetch along, from its reference: a hint. ERR_NOT_FOUND, ERR_CORRUPT as blob_open; all or none are opened.
 */
struct blob_range {
    uint64_t off, len;
};
struct blob_source {
    const char *key, *version;
    uint32_t kind, checksum;
    uint64_t size;
    const struct blob_range *hot;
    uint32_t n_hot;
};
int blob_open_many(struct object_store *, const struct blob_source *, size_t n, struct blob **ret,
                   struct err *);
void blob_close(struct blob *);
/* Is it read by requests? */
bool blob_is_remote(const struct blob *);
/* Makes [off, off+len) of the payload readable and verified; returns its address in *ret, contiguous, valid
 * until blob_close. Offsets count from the start of the object. ERR_AGAIN: see fetch_record. */
int blob_need(struct blob *, uint64_t off, uint64_t len, const uint8_t **ret, struct err *);
/* The same if it costs nothing: NULL where something would have to be read or checked first. */
const uint8_t *blob_at_hand(const struct blob *, uint64_t off, uint64_t len);
uint64_t
blob_payload_end(const struct blob *); /* offset just behind the payload; it starts at BLOB_HEADER_SIZE */
/* The same, and in memory until blob_close whatever the bound of the page cache: for what is kept beside the
 * blob. */
int blob_pin(struct blob *, uint64_t off, uint64_t len, const uint8_t **ret, struct err *);
const char *blob_name(const struct blob *); /* "key@version", for messages */
int blob_verify_all(struct blob *, struct err *);

/* Writing: appends payload to memory or to a staging file, and finishes with page table and trailer. One
 * thread. */
struct blob_writer {
    struct buf mem; /* memory mode: all of it; file mode: what is not written yet */
    int fd;         /* -1: memory mode */
    uint32_t kind;
    uint64_t off, flushed; /* of the next byte; file mode: written so far */
    struct buf crcs;
    int sys_errno; /* first write error, reported by finish */
};
void blob_writer_init(struct blob_writer *, int fd, uint32_t kind);
void blob_write(struct blob_writer *, const void *data, size_t len);
void blob_write_align(struct blob_writer *, unsigned align); /* zero padding; power of two */
static inline uint64_t blob_writer_off(const struct blob_writer *w) {
    return w->off;
}
/* The object is complete after this: size and checksum go into the parent's reference. */
int blob_writer_finish(struct blob_writer *, uint64_t *ret_size, uint32_t *ret_checksum, struct err *);
void blob_writer_release(struct blob_writer *);
