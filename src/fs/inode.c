/* The inode table. */
#include "inode.h"
#include "node.h"
#include "util/codec.h"

enum { FIRST_BUCKETS = 1024 };

void inode_init(struct inode_table *t) {
    *t = (struct inode_table){.n_buckets = FIRST_BUCKETS, .next_id = 1};
    pthread_mutex_init(&t->lock, NULL);
    t->by_id = xcalloc(t->n_buckets, sizeof *t->by_id);
    t->by_key = xcalloc(t->n_buckets, sizeof *t->by_key);
}

static size_t id_bucket(const struct inode_table *t, uint64_t id) {
    return (id * 0x9e3779b97f4a7c15u >> 20) % t->n_buckets;
}

static uint64_t key_hash(const char *key) {
    return hash64(key, strlen(key), 0x1db);
}

static void link_node(struct inode_table *t, struct node *n) {
    size_t b = id_bucket(t, n->id);
    n->next_id = t->by_id[b];
    t->by_id[b] = n;
    if (!n->keyed) return;
    b = key_hash(n->key) % t->n_buckets;
    n->next_key = t->by_key[b];
    t->by_key[b] = n;
}

static void grow(struct inode_table *t) {
    struct node **old = t->by_id;
    size_t old_n = t->n_buckets;
    t->n_buckets *= 4;
    t->by_id = xcalloc(t->n_buckets, sizeof *t->by_id);
    free(t->by_key);
    t->by_key = xcalloc(t->n_buckets, sizeof *t->by_key);
    for (size_t i = 0; i < old_n; i++) {
        for (struct node *n = old[i], *next; n; n = next) {
            next = n->next_id;
            link_node(t, n);
        }
    }
    free(old);
}

static void unlink_key(struct inode_table *t, struct node *n) {
    if (!n->keyed) return;
    struct node **p = &t->by_key[key_hash(n->key) % t->n_buckets];
    while (*p && *p != n) p = &(*p)->next_key;
    if (*p) *p = n->next_key;
    n->keyed = false;
}

static void unlink_id(struct inode_table *t, struct node *n) {
    struct node **p = &t->by_id[id_bucket(t, n->id)];
    while (*p && *p != n) p = &(*p)->next_id;
    if (*p) *p = n->next_id;
}

struct node *inode_new(const struct node_ops *ops, struct node *parent, struct place *place, const char *name,
                       char *key) {
    struct node *n = xcalloc(1, sizeof *n);
    n->ops = ops;
    n->parent = parent; /* the reference is taken in inode_add, under the lock */
    n->place = place ? place_ref(place) : NULL;
    n->name = xstrdup(name);
    n->key = key;
    n->refs = 1;
    n->ino = key_hash(key) | 1;
    return n;
}

static void free_node(struct fs *fs, struct node *n) {
    if (n->ops->release) n->ops->release(n);
    place_unref(fs, n->place);
    free(n->key);
    free(n->name);
    free(n);
}

static struct node *find_key(struct inode_table *t, const char *key) {
    for (struct node *n = t->by_key[key_hash(key) % t->n_buckets]; n; n = n->next_key)
        if (!strcmp(n->key, key)) return n;
    return NULL;
}

struct node *inode_add(struct fs *fs, struct node *n) {
    struct inode_table *t = &fs->inodes;
    pthread_mutex_lock(&t->lock);
    struct node *old = find_key(t, n->key);
    if (old) {
        old->refs++;
    } else {
        if (t->n > 2 * t->n_buckets) grow(t);
        n->id = t->next_id++;
        n->keyed = true;
        if (n->parent) n->parent->refs++;
        link_node(t, n);
        t->n++;
    }
    pthread_mutex_unlock(&t->lock);
    if (!old) return n;
    free_node(fs, n);
    return old;
}

struct node *inode_find_key(struct inode_table *t, const char *key) {
    pthread_mutex_lock(&t->lock);
    struct node *n = find_key(t, key);
    if (n) n->refs++;
    pthread_mutex_unlock(&t->lock);
    return n;
}

static struct node *find_id(struct inode_table *t, uint64_t id) {
    struct node *n = t->by_id[id_bucket(t, id)];
    while (n && n->id != id) n = n->next_id;
    return n;
}

struct node *inode_get(struct inode_table *t, uint64_t id) {
    pthread_mutex_lock(&t->lock);
    struct node *n = find_id(t, id);
    if (n) n->refs++;
    pthread_mutex_unlock(&t->lock);
    return n;
}

struct node *inode_ref(struct inode_table *t, struct node *n) {
    pthread_mutex_lock(&t->lock);
    n->refs++;
    pthread_mutex_unlock(&t->lock);
    return n;
}

/* Drops `count` references at once and then the chain of parents that only these held. */
static void unref_many(struct fs *fs, struct node *n, uint32_t count) {
    struct inode_table *t = &fs->inodes;
    while (n) {
        pthread_mutex_lock(&t->lock);
        n->refs -= count;
        bool dead = n->refs == 0;
        if (dead) {
            unlink_key(t, n);
            unlink_id(t, n);
            t->n--;
        }
        pthread_mutex_unlock(&t->lock);
        if (!dead) return;
        struct node *parent = n->parent;
        free_node(fs, n);
        n = parent;
        count = 1;
    }
}

void inode_unref(struct fs *fs, struct node *n) {
    unref_many(fs, n, 1);
}

void inode_looked_up(struct inode_table *t, struct node *n) {
    pthread_mutex_lock(&t->lock);
    if (n->lookups++ == 0) n->refs++;
    pthread_mutex_unlock(&t->lock);
}

void inode_forget(struct fs *fs, uint64_t id, uint64_t count) {
    struct inode_table *t = &fs->inodes;
    pthread_mutex_lock(&t->lock);
    struct node *n = find_id(t, id);
    bool last = false;
    if (n && n->lookups) {
        n->lookups -= MIN(count, n->lookups);
        last = n->lookups == 0;
    }
    pthread_mutex_unlock(&t->lock);
    if (last) inode_unref(fs, n);
}

void inode_unkey(struct inode_table *t, struct node *n) {
    pthread_mutex_lock(&t->lock);
    unlink_key(t, n);
    pthread_mutex_unlock(&t->lock);
}

void inode_release(struct fs *fs) {
    struct inode_table *t = &fs->inodes;
    for (size_t i = 0; i < t->n_buckets; i++) {
        for (struct node *n = t->by_id[i], *next; n; n = next) {
            next = n->next_id;
            free_node(fs, n);
        }
    }
    free(t->by_id);
    free(t->by_key);
    pthread_mutex_destroy(&t->lock);
}
