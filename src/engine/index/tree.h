/* The versioned tree of a collection: root -> intermediates -> leaves (segments and their deletes).
 *
 * Grammar and the checksum invariant: docs/FORMAT.md, "Root and intermediate". Fixed widths keep a root's
 * size independent of the numbers in it.
 *
 * A struct tree is immutable after load; reference counted; thread-safe.
 */
#pragma once
#include "backend/object_store.h"
#include "index/segment.h"

struct object_ref {
    char key[128];
    char version[OBJECT_VERSION_SIZE];
    uint64_t size; /* bytes; 0 = no object */
    uint32_t checksum;
};

struct leaf {
    struct object_ref segment, deletes;
    uint32_t n_docs, n_deleted;
    uint32_t partition; /* block of partitions (index/partition.h); 0 in a collection without */
    uint64_t seq_min, seq_max;
    int64_t time_min, time_max;
    uint64_t raw_bytes, live_sum;
    char *id_min, *id_max;
    uint32_t id_min_len, id_max_len;
    struct hot_range *hot; /* of the segment; ascending */
    uint32_t n_hot;
};

struct intermediate {
    struct object_ref ref;        /* size 0: its leaves stand in the root */
    struct leaf *inlined;         /* then: n_leaves, of a root that was loaded alone */
    uint32_t partition, n_leaves; /* block that covers the leaves' */
    uint64_t n_docs, n_deleted, bytes;
};

struct tree {
    int refs;
    char root_key[128];
    char version[OBJECT_VERSION_SIZE],
        etag[OBJECT_ETAG_SIZE]; /* of the root object; "" = not committed yet */
    char cid[33], commit_uuid[33];
    uint64_t epoch;     /* fencing token of the build lease it was made under */
    uint64_t commit_no; /* commits of this collection so far */
    int64_t commit_ms;
    uint64_t committed_seq; /* everything up to here is in the tree */
    uint64_t first_seq;     /* first number this commit added */
    int64_t data_ms;        /* acknowledgement time of committed_seq */
    uint64_t written_sum, removed_sum;
    uint64_t restored_seq; /* number of the newest RESTORE in it: merges of an older state must not commit
                              over it */
    char *schema;          /* record JSON */
    uint32_t schema_version;
    size_t schema_len;
    struct intermediate *intermediates;
    uint32_t n_intermediates;
    struct leaf *
        leaves; /* all of them, in the intermediates' order: leaves of one block of partitions side by side */
    uint32_t n_leaves;
    uint64_t n_docs, n_deleted, bytes;
};

/* Leaves stand in the root while all of them take no more than ROOT_INLINE_BYTES there: then root and leaves
 * are one read and one write. */
enum { INTERMEDIATE_MAX_LEAVES = 128, ROOT_INLINE_BYTES = 64 * 1024 };

struct tree *tree_ref(struct tree *);
void tree_unref(struct tree *);
/* An empty tree for a collection that has no root yet. */
struct tree *tree_new_empty(const char *cid, const char *root_key);
/* Loads root (version NULL = current) and intermediates. ERR_NOT_FOUND when there is no such root. */
int tree_load(struct object_store *, const char *root_key, const char *version, struct tree **ret,
              struct err *);
/* The root alone: leaves are not loaded (n_leaves 0; but see intermediate.inlined); n_docs, n_deleted, bytes
 * are the root's own totals. */
int tree_load_root(struct object_store *, const char *root_key, const char *version, struct tree **ret,
                   struct err *);
/* Adds the leaves of one intermediate (of any tree) to a tree. */
int tree_load_intermediate(struct object_store *, struct tree *, const struct intermediate *, struct err *);
/* A writable copy with the old one's leaves, version and etag cleared. */
struct tree *tree_copy(const struct tree *);
void leaf_copy(struct leaf *to, const struct leaf *from);
void leaf_release(struct leaf *);
/* Removes leaf i of a tree under construction. */
void tree_remove_leaf(struct tree *, uint32_t i);
struct leaf *tree_add_leaf(struct tree *); /* zeroed */

/* Writes what changed (intermediates that `old` does not have already) and then the root: with If-Match
 * old->etag, or If-None-Match when old has none. Fills in tree's version, etag, intermediates and totals.
 * ERR_CONFLICT: another commit won. A lost answer is settled by reading the root back and comparing the
 * commit uuid. old may be NULL (a copied root under a new key): then condition is absent. */
int tree_commit(struct object_store *, struct tree *, const struct tree *old, const char *data_prefix,
                struct rng *, struct err *);
