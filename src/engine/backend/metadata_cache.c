/* Decorator of a metadata store: keeps what get answered, each with the stamp taken before it was read, and
 * answers from that while the store still has the stamp. A direct-mapped table: an item has one place, by the
 * hash of its key. */
#include "backend/metadata.h"
#include "util/codec.h"

#include <pthread.h>

enum { SLOTS = 256, VALUE_MAX = 16 * 1024 };

struct slot {
    struct meta_stamp stamp; /* not known: empty */
    char *pk, *sk;
    bool found;
    struct buf value;
    uint64_t version;
};
struct cache {
    struct metadata base;
    struct metadata *inner;
    pthread_mutex_t lock; /* guards slots */
    struct slot slots[SLOTS];
};

static struct cache *cache_of(struct metadata *m) {
    return (struct cache *)m;
}

static struct slot *slot_of(struct cache *c, const char *pk, const char *sk) {
    return &c->slots[hash64(sk, strlen(sk), hash64(pk, strlen(pk), 0)) % SLOTS];
}

static bool known(struct cache *c, const char *pk, const char *sk, const struct meta_stamp *now,
                  struct buf *ret_value, uint64_t *ret_version, bool *ret_found) {
    pthread_mutex_lock(&c->lock);
    const struct slot *s = slot_of(c, pk, sk);
    bool hit = meta_stamp_equal(&s->stamp, now) && !strcmp(s->pk, pk) && !strcmp(s->sk, sk);
    if (hit) *ret_found = s->found;
    if (hit && s->found) {
        buf_add(ret_value, s->value.data, s->value.len);
        if (ret_version) *ret_version = s->version;
    }
    pthread_mutex_unlock(&c->lock);
    return hit;
}

static void keep(struct cache *c, const char *pk, const char *sk, const struct meta_stamp *before, bool found,
                 const void *value, size_t len, uint64_t version) {
    if (!before->known || len > VALUE_MAX) return;
    pthread_mutex_lock(&c->lock);
    struct slot *s = slot_of(c, pk, sk);
    if (!s->pk || strcmp(s->pk, pk) || strcmp(s->sk, sk)) {
        free(s->pk);
        free(s->sk);
        s->pk = xstrdup(pk);
        s->sk = xstrdup(sk);
    }
    s->stamp = *before;
    s->found = found;
    s->version = version;
    buf_clear(&s->value);
    buf_add(&s->value, value, len);
    pthread_mutex_unlock(&c->lock);
}

static int cache_get(struct metadata *m, const char *pk, const char *sk, struct buf *ret_value,
                     uint64_t *ret_version, struct err *err) {
    struct cache *c = cache_of(m);
    struct meta_stamp now;
    bool found;
    uint64_t version = 0;
    size_t before = ret_value->len;
    meta_stamp(c->inner, &now);
    if (now.known && known(c, pk, sk, &now, ret_value, ret_version, &found))
        return found ? 0 : err_set(err, ERR_NOT_FOUND, "no metadata item \"%s\", \"%s\"", pk, sk);
    int r = c->inner->ops->get(c->inner, pk, sk, ret_value, &version, err);
    if (!r && ret_version) *ret_version = version;
    if (!r) keep(c, pk, sk, &now, true, ret_value->data + before, ret_value->len - before, version);
    if (r == -ERR_NOT_FOUND) keep(c, pk, sk, &now, false, "", 0, 0);
    return r;
}

static int cache_list(struct metadata *m, const char *pk, const char *sk_prefix, meta_visit *visit, void *ctx,
                      struct err *err) {
    struct metadata *inner = cache_of(m)->inner;
    return inner->ops->list(inner, pk, sk_prefix, visit, ctx, err);
}

static int cache_transact(struct metadata *m, const struct meta_op *ops, size_t n_ops, struct err *err) {
    struct metadata *inner = cache_of(m)->inner;
    return inner->ops->transact(inner, ops, n_ops, err);
}

static void cache_stamp(struct metadata *m, struct meta_stamp *ret) {
    meta_stamp(cache_of(m)->inner, ret);
}

static int cache_lease_acquire(struct metadata *m, const char *name, const char *owner, int64_t ttl_ms,
                               uint64_t *ret_epoch, struct err *err) {
    struct metadata *inner = cache_of(m)->inner;
    return inner->ops->lease_acquire(inner, name, owner, ttl_ms, ret_epoch, err);
}

static int cache_lease_renew(struct metadata *m, const char *name, const char *owner, uint64_t epoch,
                             int64_t ttl_ms, struct err *err) {
    struct metadata *inner = cache_of(m)->inner;
    return inner->ops->lease_renew(inner, name, owner, epoch, ttl_ms, err);
}

static int cache_lease_release(struct metadata *m, const char *name, const char *owner, uint64_t epoch,
                               struct err *err) {
    struct metadata *inner = cache_of(m)->inner;
    return inner->ops->lease_release(inner, name, owner, epoch, err);
}

static void cache_close(struct metadata *m) {
    struct cache *c = cache_of(m);
    metadata_close(c->inner);
    for (size_t i = 0; i < SLOTS; i++) {
        free(c->slots[i].pk);
        free(c->slots[i].sk);
        buf_release(&c->slots[i].value);
    }
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static const struct metadata_ops cache_ops = {
    .name = "cache",
    .get = cache_get,
    .list = cache_list,
    .transact = cache_transact,
    .stamp = cache_stamp,
    .lease_acquire = cache_lease_acquire,
    .lease_renew = cache_lease_renew,
    .lease_release = cache_lease_release,
    .close = cache_close,
};

struct metadata *metadata_cache(struct metadata *inner) {
    struct cache *c = xcalloc(1, sizeof *c);
    c->base.ops = &cache_ops;
    c->inner = inner;
    pthread_mutex_init(&c->lock, NULL);
    return &c->base;
}
