/* The write buffer's storage: append-only segment files of one log per collection id. Made so that a local
 * directory and an NFS (EFS) mount can both keep it: no O_APPEND, no mmap, locks that exclude across clients
 * and threads. The protocol above it (frames, sequence numbers, group commit) is index/log.h.
 *
 * Segment names are "<8 hex ordinal>-<16 hex first sequence number>.log". Thread-safe unless said otherwise.
 */
#pragma once
#include "util/buf.h"
#include "util/err.h"

enum { LOG_SEGMENT_NAME_SIZE = 32 };

struct log_segment_name {
    char name[LOG_SEGMENT_NAME_SIZE];
    uint32_t ordinal;
    uint64_t first_seq;
};

/* What the list of a log's segments looks like at a moment: as long as later stamps equal one, a list that
 * began after it was taken gives the same names again. */
struct log_stamp {
    bool known; /* false: nothing can be said, equals nothing */
    uint64_t state[4];
};
static inline bool log_stamp_equal(const struct log_stamp *a, const struct log_stamp *b) {
    return a->known && b->known && !memcmp(a->state, b->state, sizeof a->state);
}

struct log_store;
struct log_file; /* an open segment: pread, pwrite, sync. Thread-safe. */

struct log_store_ops {
    const char *name;
    /* The append lock of a log: exclusive between threads, processes and machines. Blocks. `ret_lock` is an
     * opaque token for unlock. Creates the log's directory when it is missing. */
    int (*lock)(struct log_store *, const char *cid, void **ret_lock, struct err *);
    void (*unlock)(struct log_store *, void *lock);
    /* Segments by ordinal. *ret is malloc'ed; a missing log is an empty list. */
    int (*list)(struct log_store *, const char *cid, struct log_segment_name **ret, size_t *ret_n,
                struct err *);
    /* May be NULL: nothing is ever known. Much cheaper than list. */
    void (*stamp)(struct log_store *, const char *cid, struct log_stamp *ret);
    /* Opens a segment; create: it must not exist, and its directory entry is durable when this returns. */
    int (*open)(struct log_store *, const char *cid, const char *name, bool create, struct log_file **ret,
                struct err *);
    int (*size)(struct log_file *, uint64_t *ret, struct err *);
    /* Appends up to len bytes at off to out (fewer at the end of the file). */
    int (*read)(struct log_file *, uint64_t off, size_t len, struct buf *out, struct err *);
    int (*write)(struct log_file *, uint64_t off, const void *data, size_t len, struct err *);
    int (*truncate)(struct log_file *, uint64_t size, struct err *);
    /* Makes the file at least so long, zeros at its end, so that writes there change no metadata and syncing
     * them is quick. NULL or an error: not possible here, and nothing is lost. */
    int (*reserve)(struct log_file *, uint64_t size, struct err *);
    int (*sync)(struct log_file *, struct err *); /* fdatasync */
    void (*file_close)(struct log_file *);
    int (*remove)(struct log_store *, const char *cid, const char *name, struct err *); /* missing is 0 */
    int (*remove_log)(struct log_store *, const char *cid, struct err *);               /* all of it */
    void (*close)(struct log_store *);
};
struct log_store {
    const struct log_store_ops *ops;
};
struct log_file {
    const struct log_store_ops *ops;
};

/* DIR/<cid>/{lock,*.log}. Locks: an OFD lock on `lock` (one open file description per lock() call, so that
 * threads exclude each other too). */
int log_store_dir_open(const char *dir, struct log_store **ret, struct err *);
/* Decorator for tests: fails the Nth write/sync/open from now once ("write", "sync", "open"; short: a write
 * that stops half way). Owns inner. */
struct log_store *log_store_fault(struct log_store *inner);
void log_store_fault_set(struct log_store *fault, const char *op, unsigned after, bool short_write);
