/* Object store: versioned, immutable values under keys, with conditional puts. S3's semantics, whoever
 * implements it.
 *
 * Promises every implementation keeps (tests/contract/test_object_store.c):
 *  - a put is atomic and, once it has returned 0, durable; readers see the whole old or the whole new value;
 *  - every put makes a new version; version ids of one key compare (strcmp) in the order of the puts;
 *  - reads and listings are strongly consistent; a version stays readable until delete_version or lifecycle;
 *  - conditional puts are linearizable across processes: of several with the same condition exactly one wins.
 * A put whose answer is lost may have happened: callers put a unique id in the object and read back.
 * Keys: [A-Za-z0-9._/-], no empty, "." or ".." segment, none above 250 bytes, at most 512 bytes in all. All
 * functions are thread-safe.
 */
#pragma once
#include "util/buf.h"
#include "util/clock.h"
#include "util/err.h"

enum { OBJECT_KEY_SIZE = 513, OBJECT_KEY_SEGMENT_MAX = 250, OBJECT_VERSION_SIZE = 65, OBJECT_ETAG_SIZE = 65 };

struct object_info {
    char key[OBJECT_KEY_SIZE];
    char version[OBJECT_VERSION_SIZE];
    char etag[OBJECT_ETAG_SIZE];
    uint64_t size;    /* bytes */
    int64_t mtime_ms; /* when the version was put */
    bool is_latest;   /* list_versions only */
};

enum put_condition { PUT_ALWAYS, PUT_IF_ABSENT, PUT_IF_MATCH };

/* One of several reads: [off, off+len) of a version, appended to out; cut at the end as by get. */
struct object_range {
    const char *key, *version; /* borrowed; version NULL = current */
    uint64_t off;
    size_t len;
    struct buf out; /* the caller's to release, also after an error */
    uint64_t size;  /* out: of the whole version */
};
enum { OBJECT_PARALLEL_GETS = 256 };

struct object_mapping {
    const uint8_t *data;
    size_t size;
    void *handle;
};

struct object_store;
typedef int object_visit(void *ctx,
                         const struct object_info *info); /* non-zero stops the listing and is returned */

struct object_store_ops {
    const char *name;
    /* Stores len bytes. condition: PUT_IF_ABSENT fails with ERR_CONFLICT when a current version exists,
     * PUT_IF_MATCH when the current version's etag differs or is missing. info may be NULL. */
    int (*put)(struct object_store *, const char *key, const void *data, size_t len, enum put_condition,
               const char *etag, struct object_info *ret_info, struct err *);
    /* As put (unconditional) with the contents of a file, which is consumed (moved or removed) on success. */
    int (*put_file)(struct object_store *, const char *key, const char *path, struct object_info *ret_info,
                    struct err *);
    /* Reads [off, off+len) of a version (NULL = current) and appends it to out; len SIZE_MAX = to the end.
     * A range past the end is cut. ERR_NOT_FOUND when the key or version is missing. info may be NULL. */
    int (*get)(struct object_store *, const char *key, const char *version, uint64_t off, size_t len,
               struct buf *out, struct object_info *ret_info, struct err *);
    /* May be NULL: all ranges side by side, OBJECT_PARALLEL_GETS at a time. Every one is tried; the error is
     * that of the first in the list that failed. NULL: gets by threads. */
    int (*get_many)(struct object_store *, struct object_range *, size_t n, struct err *);
    int (*head)(struct object_store *, const char *key, const char *version, struct object_info *ret_info,
                struct err *);
    /* May be NULL: the current version as head would tell it, and nothing else: cheaper. */
    int (*current)(struct object_store *, const char *key, char ret_version[OBJECT_VERSION_SIZE],
                   struct err *);
    /* Visits every version of every key that starts with prefix, by key, then newest version first. */
    int (*list_versions)(struct object_store *, const char *prefix, object_visit *, void *ctx, struct err *);
    /* Removes one version for good. Removing the current one makes the next older current. A missing one is
     * 0. */
    int (*delete_version)(struct object_store *, const char *key, const char *version, struct err *);
    /* Lifecycle: removes non-current versions under prefix that became non-current before the given time,
     * except those the keep function names. Acts once; scheduling is the caller's. */
    int (*expire_versions)(struct object_store *, const char *prefix, int64_t before_ms,
                           bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *);
    /* May be NULL: maps a whole version into memory, read-only, valid until unmap even when the version is
     * deleted. */
    int (*map)(struct object_store *, const char *key, const char *version, struct object_mapping *ret,
               struct err *);
    void (*unmap)(struct object_store *, struct object_mapping *);
    /* Where staging files for put_file are written so that it need not copy. */
    const char *(*staging_dir)(struct object_store *);
    void (*close)(struct object_store *);
};
struct page_cache;
struct object_store {
    const struct object_store_ops *ops;
    struct page_cache *pages; /* where readers of a store that cannot map keep pages (index/page_cache.h);
                                 borrowed, NULL: without a bound. Set before the first read. */
};

/* Checked wrappers: assert on misuse, validate the key. */
int object_put(struct object_store *, const char *key, const void *data, size_t len, enum put_condition,
               const char *etag, struct object_info *ret_info, struct err *);
int object_put_file(struct object_store *, const char *key, const char *path, struct object_info *ret_info,
                    struct err *);
int object_get(struct object_store *, const char *key, const char *version, uint64_t off, size_t len,
               struct buf *out, struct object_info *ret_info, struct err *);
int object_get_many(struct object_store *, struct object_range *, size_t n, struct err *);
int object_head(struct object_store *, const char *key, const char *version, struct object_info *ret_info,
                struct err *);
/* The version id of the current version: by `current`, else by `head`. */
int object_current(struct object_store *, const char *key, char ret_version[OBJECT_VERSION_SIZE],
                   struct err *);
int object_list_versions(struct object_store *, const char *prefix, object_visit *, void *ctx, struct err *);
int object_delete_version(struct object_store *, const char *key, const char *version, struct err *);
int object_expire_versions(struct object_store *, const char *prefix, int64_t before_ms,
                           bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *);
bool object_can_map(struct object_store *);
int object_map(struct object_store *, const char *key, const char *version, struct object_mapping *ret,
               struct err *);
void object_unmap(struct object_store *, struct object_mapping *);
const char *object_staging_dir(struct object_store *);
void object_store_close(struct object_store *); /* NULL is fine */

/* Versioned local directory:
 *   DIR/<key>/v<16 hex: ms since epoch><8 hex: counter>   a version's bytes; mtime = put time
 *   DIR/<key>/current                                     symlink to the current version: its rename is the
 * commit DIR/<key>/next                                        symlink to a version on its way in or out
 *   DIR/.lock                                             OFD locks held around puts and deletes, one byte a
 * key; holds the last version id given out, so that none is used twice DIR/.staging/ unfinished files A put
 * writes and fsyncs a staging file, makes `next`, moves the file to its version name, renames `next` to
 * `current` and fsyncs the directory. A version newer than `current` is the leftover of a crash: never listed
 * or read, and removed by the next put (`next` points at it). The etag is the version id. A key segment that
 * looks like one of these names has a '%' in front. */
int object_store_dir_open(const char *dir, struct clock *, struct object_store **ret, struct err *);

/* Decorator: counts requests and bytes, passes everything on. Owns `inner`. */
struct object_counts {
    uint64_t puts, gets, heads, lists, deletes, maps, bytes_put, bytes_got;
    uint64_t
        waves; /* the longest chain of gets and heads each of which began after the one before had ended */
};
struct object_store *object_store_count(struct object_store *inner);
void object_store_counts(struct object_store *counter, struct object_counts *ret);

/* Decorator for tests: fails, loses the answer of, or delays the Nth call. Owns `inner`. */
enum fault_kind {
    FAULT_NONE,
    FAULT_FAIL /* not done, ERR_UNREACHABLE */,
    FAULT_LOST /* done, ERR_TIMEOUT */
};
struct object_store *object_store_fault(struct object_store *inner);
/* The next `after`+1-th call whose operation name starts with op ("" = any: put put_file get head list delete
 * expire map) meets the fault once. */
void object_store_fault_set(struct object_store *fault, const char *op, unsigned after, enum fault_kind kind);
/* Decorator for tests and cold benchmarks: hides `map`, so that blobs go through ranged gets; each request
 * takes latency_ms, and all of them together bring at most bytes_per_s (0: no limit). Owns `inner`. */
struct object_store *object_store_remote(struct object_store *inner, unsigned latency_ms,
                                         uint64_t bytes_per_s);
