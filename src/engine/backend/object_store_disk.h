/* Decorator: keeps what is read of immutable versions in a local directory, under a bound.
 *
 *   DIR/<16 hex: hash of key and version>-<8 hex: number of the extent>    4 MB of an object in slots of a
 * page each slot = bytes:64 KB length:u32 page:u32 identity:u64 crc32c:u32         (of all before it, the
 * bytes up to length)
 *
 * A slot that does not check is a miss: never written, torn, damaged or of another object. Nothing is synced.
 * Any number of processes may use one directory: what two of them write at the same place is the same. Reads
 * without a version (current values) pass through. A directory that cannot be written costs its use, never an
 * answer. */
#pragma once
#include "backend/object_store.h"

struct disk_cache_counts {
    uint64_t hits, misses;     /* pages */
    uint64_t damaged;          /* slots with something in them that did not check */
    uint64_t evictions, bytes; /* files removed by this process; what it knows to be there */
};
/* Owns `inner`, also on failure. Makes the directory. max_bytes is a bound on the space of the files, looked
 * at after every 1/16 of it that is written; the files that were used longest ago (by their times) go first.
 */
int object_store_disk_open(struct object_store *inner, const char *dir, uint64_t max_bytes,
                           struct object_store **ret, struct err *);
void object_store_disk_counts(struct object_store *disk, struct disk_cache_counts *ret);
