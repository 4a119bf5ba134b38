/* One change of a collection's tree, prepared against a loaded root and committed by compare-and-set. One
 * thread. */
#pragma once
#include "fn/view.h"

struct edit_leaf {
    struct leaf leaf;
    struct deletes *deletes;       /* NULL: none */
    const struct segment *segment; /* that the deletes are of; borrowed */
};

struct edit {
    struct coll *coll;
    struct base *base;        /* the state it was made against */
    struct deletes **deletes; /* new deletes by leaf, NULL = unchanged */
    bool *dropped;            /* leaves that go (merged away) */
    struct edit_leaf *adds;   /* the new leaves; owned */
    uint32_t n_adds;
    /* what the new root says */
    uint64_t epoch, committed_seq, first_seq, restored_seq;
    int64_t data_ms;
    uint64_t written_sum;  /* added to the tree's */
    struct schema *schema; /* NULL = as before */
};

/* Starts from the base's own numbers; takes a reference to the base. */
void edit_init(struct edit *, struct coll *, struct base *);
void edit_release(struct edit *);
/* Marks a document of leaf i dead. */
int edit_delete(struct edit *, uint32_t leaf, uint32_t docno, struct err *);
/* Adds a copy of a written leaf; one without documents is left out later. */
void edit_add(struct edit *, const struct leaf *);
/* Uploads deletes and intermediates, then the root with If-Match. ERR_CONFLICT: another commit won: make the
 * edit again. */
int edit_commit(struct edit *, struct err *);
/* Fills in a leaf from a written segment (key and version set by segment_upload). */
void leaf_from_summary(struct leaf *, const struct segment_summary *, uint64_t size, uint32_t checksum);

/* A staging file for a segment, put into the object store when it is finished. */
struct upload {
    struct coll *coll;
    char path[512];
    int fd;
    struct blob_writer writer;
};
int upload_open(struct upload *, struct coll *, struct err *);
/* Puts the finished file; ref gets key and version. */
int upload_put(struct upload *, uint64_t size, uint32_t checksum, struct object_ref *ret, struct err *);
void upload_close(struct upload *); /* removes what was not put */
