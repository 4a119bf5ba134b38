/* Views: an immutable state of a collection = the segments of one root with their deletes, and over them the
 * tail, the unbuilt log as memory segments. Masks of the tail on the base are `deletes` too, so that queries
 * see one thing only: parts. Reference counted; thread-safe. */
#pragma once
#include "fn/batch.h"
#include "fn/core.h"
#include "query/search.h"

struct base { /* one loaded root */
    int refs;
    struct tree *tree;
    struct segment **segments; /* as tree->leaves */
    struct deletes **deletes;  /* as tree->leaves, NULL where nothing is deleted */
};

struct chunk { /* a stretch of the tail */
    int refs;
    uint64_t first_seq, last_seq;
    struct segment *segment; /* NULL when it only deletes */
    uint32_t n_docs;
    struct arena arena; /* the touched ids */
    struct {
        const char *id;
        uint32_t len;
    } * touched; /* ascending */
    size_t n_touched;
    int64_t time_ms;
};

struct view_part {
    struct segment *segment;
    struct deletes *deletes;
    struct chunk *chunk; /* NULL: base, leaf number = part number */
};

struct view {
    int refs;
    struct coll *coll;
    struct base *base;
    struct view_part *parts; /* base leaves in order, then chunks */
    uint32_t n_parts, n_base;
    uint64_t seq;
    int64_t time_ms;
    uint64_t documents;
    struct schema *schema;
    char pin[33];      /* of an old root; "" = none */
    int64_t pinned_ms; /* when */
};

struct base *base_ref(struct base *);
void base_unref(struct base *);
/* base_load with the segments that the collection has open already. */
int base_load_shared(struct coll *, const char *root_key, const char *version, struct base **ret,
                     struct err *);
struct view *view_ref(struct view *);
void view_unref(struct view *);
/* Loads a root of a collection (key NULL: the collection's own; version NULL: current). Segments that `reuse`
 * has open already are shared. ERR_NOT_FOUND when there is none. */
int base_load(struct core *, const char *root_key, const char *version, const struct base *reuse,
              struct base **ret, struct err *);
struct base *base_new_empty(const char *cid, const char *root_key);

/* The newest state: strong = with the log. Never gives less than what was acknowledged before the call. stop
 * (may be NULL): 1 = give up with ERR_CANCELED, 2 = with ERR_TIMEOUT; looked at while others index the tail
 * and between stretches. */
int view_live(struct coll *, bool strong, const volatile int *stop, struct view **ret, struct err *);
/* As view_live (strong), but ERR_TIMEOUT (within 20 ms) when another thread is indexing the tail. */
int view_live_unless_busy(struct coll *, const volatile int *stop, struct view **ret, struct err *);
/* Documents and number of the newest strong view made here, at once: 0 when there is none. Never waits for
 * indexing. */
void view_last_known(struct coll *, uint64_t *ret_documents, uint64_t *ret_seq);
/* An old root of the collection, pinned. root_key NULL: the collection's own root key. */
int view_at(struct coll *, const char *root_key, const char *version, struct view **ret, struct err *);
/* Is the view what view_live(strong) would give? Reads the log's end and the root's version, nothing else. */
bool view_current(const struct view *);
/* The part and document number that hold an id now; *ret_part = n_parts when it does not exist. */
int view_find(const struct view *, const char *id, size_t len, uint32_t *ret_part, uint32_t *ret_docno,
              struct err *);
/* What the partitions of a set are of a part: *ret_none: it has nothing of them; else *ret NULL: all of it,
 * or the partition of each of its documents. ERR_BUSY when the field's index is not there yet. */
int view_partitions(const struct view *, uint32_t part, const struct partition_set *, bool *ret_none,
                    const uint16_t **ret, struct err *);
/* A view of just a base, unpinned (the builder). */
struct view *view_of_base(struct coll *, struct base *);
/* Forgets the cached views of a collection (at the end, or after it was dropped). */
void coll_drop_views(struct coll *);
/* The collection's newest schema known to be at least min_version. */
int coll_schema(struct coll *, uint32_t min_version, struct schema **ret, struct err *);
/* Writes the documents of a batch as one segment. *ret_n 0: nothing was written. */
int segment_from_batch(struct schema *, const struct batch *, struct blob_writer *,
                       struct segment_summary *ret, uint64_t *ret_size, uint32_t *ret_checksum, struct err *);
