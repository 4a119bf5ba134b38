/* A direct-mapped table: an answer has one place, by the hash of its key. */
#include "fn/catalog_cache.h"
#include "util/codec.h"

#include <stdio.h>

enum { SLOTS = 512, KEY_SIZE = 56 };

struct slot {
    struct meta_stamp stamp; /* not known: empty */
    enum catalog_key kind;
    char key[KEY_SIZE];
    bool found;
    struct catalog_record rec;
};
struct catalog_cache {
    pthread_mutex_t lock;
    struct slot slots[SLOTS];
};

struct catalog_cache *catalog_cache_new(void) {
    struct catalog_cache *c = xcalloc(1, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

void catalog_cache_free(struct catalog_cache *c) {
    if (!c) return;
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static struct slot *slot_of(struct catalog_cache *c, enum catalog_key kind, const char *key, size_t len) {
    return &c->slots[hash64(key, len, kind) % SLOTS];
}

bool catalog_cache_get(struct catalog_cache *c, enum catalog_key kind, const char *key,
                       const struct meta_stamp *now, struct catalog_record *ret, bool *ret_found) {
    size_t len = strlen(key);
    if (!now->known || len >= KEY_SIZE) return false;
    pthread_mutex_lock(&c->lock);
    const struct slot *s = slot_of(c, kind, key, len);
    bool hit = s->kind == kind && !strcmp(s->key, key) && meta_stamp_equal(&s->stamp, now);
    if (hit) *ret_found = s->found;
    if (hit && s->found) *ret = s->rec;
    pthread_mutex_unlock(&c->lock);
    return hit;
}

void catalog_cache_put(struct catalog_cache *c, enum catalog_key kind, const char *key,
                       const struct meta_stamp *before, const struct catalog_record *rec) {
    size_t len = strlen(key);
    if (!before->known || len >= KEY_SIZE) return;
    pthread_mutex_lock(&c->lock);
    struct slot *s = slot_of(c, kind, key, len);
    s->stamp = *before;
    s->kind = kind;
    memcpy(s->key, key, len + 1);
    s->found = rec != NULL;
    if (rec) s->rec = *rec;
    pthread_mutex_unlock(&c->lock);
}
