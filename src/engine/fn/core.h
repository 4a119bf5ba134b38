/* What every function of the system works with: the four backends, clock and randomness, and the collections
 * this process has open. Thread-safe; `colls` is guarded by `lock`. */
#pragma once
#include "backend/delegation.h"
#include "backend/embedder.h"
#include "backend/invoker.h"
#include "backend/log_store.h"
#include "backend/metadata.h"
#include "backend/object_store.h"
#include "index/log.h"
#include "index/tree.h"
#include <pthread.h>

enum { CID_LEN = 32, LEASE_TTL_MS = 30000 };

struct coll;
struct catalog_cache;
struct scheduler;
struct core {
    struct object_store *objects;
    struct log_store *logs;
    struct metadata *meta;
    struct delegation *names; /* what names lead to; NULL: nobody keeps that */
    struct catalog_cache *catalog_cache;
    struct invoker *invoker;
    struct embedder *embedder; /* opens nothing before it is used */
    struct clock *clock;
    struct rng *rng;
    char owner[33];              /* this process, as lease owner */
    struct scheduler *scheduler; /* NULL: no background work */
    uint64_t build_bytes;
    int64_t build_age_ms;
    int64_t retention_ms; /* < 0: the project's setting */
    pthread_mutex_t lock;
    struct coll **colls;
    size_t n_colls, cap_colls;
    uint64_t batch_bytes;     /* of records for one segment, at most */
    uint64_t partition_bytes; /* documents of a partition worth a segment of its own */
    uint64_t n_queries, n_records, n_builds, n_merges, n_segments_searched; /* atomic counters */
};

/* One collection as this process sees it. Created at first use, lives as long as the core (its memory use is
 * bounded by the views that are in use). `lock` guards the view state; `build_lock` makes builds of this
 * process queue up before the lease. Lock order: build_lock, lock. */
struct view;
struct base;
struct chunk;
struct snapshot_info;
struct coll {
    struct core *core;
    char cid[CID_LEN + 1];
    char root_key[64];    /* roots/<cid> */
    char data_prefix[64]; /* data/<cid>/ */
    struct log *log;
    pthread_mutex_t build_lock, merge_lock;
    uint64_t appended_bytes;        /* by this process; atomic */
    struct log_cursor built_cursor; /* behind what this process built last; by build_lock */
    char
        settled_root[OBJECT_VERSION_SIZE]; /* root and schema item that had nothing to merge; by merge_lock */
    uint64_t settled_schema;
    pthread_mutex_t lock;
    struct base *base;     /* newest loaded root */
    struct chunk **chunks; /* the tail: the unbuilt log as memory segments, oldest first */
    uint32_t n_chunks, cap_chunks;
    struct log_cursor cursor; /* behind the tail */
    int64_t tail_time_ms;
    struct view *current;  /* newest strong view */
    struct view *old[8];   /* views of old roots in recent use, most recent first */
    struct schema *schema; /* newest known */
    uint64_t seen_documents,
        seen_seq;            /* of `current`; guarded by history_lock, so that it can be read at any time */
    uint64_t record_version; /* metadata version of the collection record last seen ACTIVE */
    uint32_t n_shards;       /* of the record last seen; atomic */
    uint32_t fixed_shards;   /* the same: they were set by hand */
    pthread_mutex_t history_lock; /* of the small things: roots, seen_*, last_error, written */
    struct snapshot_info *roots;  /* what is known of root versions (they never change), by version */
    size_t n_roots, cap_roots;
    char last_error[256];
    int64_t last_error_ms;
    struct schema *written; /* the one that a writer parsed last, and the metadata version of its item */
    uint64_t written_item;
    /* The scheduler's builder thread only: what it last saw committed; the log's end and since when it is
     * that. */
    uint64_t built_seq, grown_seq;
    int64_t grown_ms;
    int64_t pending_since_ms; /* background: when unbuilt records were first seen; 0 = none; atomic */
};

/* The collection of a cid, opened at first use. */
int core_coll(struct core *, const char *cid, struct coll **ret, struct err *);
void core_release_colls(struct core *);
void coll_set_error(struct coll *, const struct err *);
void coll_last_error(struct coll *, char *out, size_t size, int64_t *ret_ms); /* "" and 0: none */

static inline void counter_add(uint64_t *counter, uint64_t n) {
    __atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}
static inline uint64_t counter_get(const uint64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}
