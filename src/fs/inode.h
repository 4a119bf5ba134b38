/* The inode table: node ids that the kernel knows -> nodes, with lookup counts, and keys -> nodes.
 *
 * A node has a key that says what it is; looking the same thing up again finds the same node. A node lives
 * while the kernel has looked it up more often than it has forgotten it, or a handle, a request or a child
 * refers to it. Ids are never used twice. Every function may be called from any thread.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct node_ops;
struct place;
struct fs;

struct node {
    uint64_t id; /* the kernel's node id */
    const struct node_ops *ops;
    struct node *parent; /* holds a reference; NULL for the root */
    struct place *place; /* holds a reference; may be NULL */
    char *key, *name;
    uint64_t ino;     /* st_ino */
    uint64_t lookups; /* of the kernel */
    uint32_t refs;
    bool keyed; /* can be found by its key */
    struct node *next_id, *next_key;
    /* Attributes: set before the node is shared, later changes by the kind with relaxed atomicity. */
    mode_t mode;
    uint64_t size;
    int64_t mtime_ms;
    uint32_t attr_s, entry_s; /* how long the kernel may keep the attributes and the name */
    bool stored;              /* atomic: its content was given to the kernel's page cache once */
    void *data;               /* of the kind, freed by ops->release */
};

/* Times only go forward. */
static inline void node_newer(struct node *n, int64_t mtime_ms) {
    if (mtime_ms > __atomic_load_n(&n->mtime_ms, __ATOMIC_RELAXED))
        __atomic_store_n(&n->mtime_ms, mtime_ms, __ATOMIC_RELAXED);
}

struct inode_table {
    pthread_mutex_t lock;
    struct node **by_id, **by_key;
    size_t n_buckets, n;
    uint64_t next_id;
};

void inode_init(struct inode_table *t);
/* A node with one reference, not in the table. Takes key (malloc'ed), copies name, takes references to parent
 * and place. */
struct node *inode_new(const struct node_ops *ops, struct node *parent, struct place *place, const char *name,
                       char *key);
/* Puts the node in the table and returns it, or frees it and returns the one that has the key already. */
struct node *inode_add(struct fs *fs, struct node *n);
struct node *inode_find_key(struct inode_table *t, const char *key); /* a reference, or NULL */
struct node *inode_get(struct inode_table *t, uint64_t id);          /* a reference, or NULL */
struct node *inode_ref(struct inode_table *t, struct node *n);
void inode_unref(struct fs *fs, struct node *n);
/* The kernel was told about the node / has forgotten n of that. */
void inode_looked_up(struct inode_table *t, struct node *n);
void inode_forget(struct fs *fs, uint64_t id, uint64_t n);
/* A later lookup of the same thing makes a new node. */
void inode_unkey(struct inode_table *t, struct node *n);
/* Frees every node, whatever refers to it: after the last request. */
void inode_release(struct fs *fs);
