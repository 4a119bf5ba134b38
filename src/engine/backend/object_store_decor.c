/* Decorators of the object store: count, fault, remote. Each owns the store inside and has `map` only if that
 * has. */
#include "backend/object_store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

/* ---- count ---- */

struct counter {
    struct object_store base;
    struct object_store *inner;
    atomic_ullong puts, gets, heads, lists, deletes, maps, bytes_put, bytes_got;
    atomic_ullong chain; /* requests of the longest chain that has ended */
};

static struct counter *counter_of(struct object_store *s) {
    return (struct counter *)s;
}

static int count_put(struct object_store *s, const char *key, const void *data, size_t len,
                     enum put_condition condition, const char *etag, struct object_info *ret_info,
                     struct err *err) {
    struct counter *c = counter_of(s);
    c->puts++;
    c->bytes_put += len;
    return c->inner->ops->put(c->inner, key, data, len, condition, etag, ret_info, err);
}

static int count_put_file(struct object_store *s, const char *key, const char *path,
                          struct object_info *ret_info, struct err *err) {
    struct counter *c = counter_of(s);
    struct object_info info;
    c->puts++;
    int r = c->inner->ops->put_file(c->inner, key, path, &info, err);
    if (r) return r;
    c->bytes_put += info.size;
    if (ret_info) *ret_info = info;
    return 0;
}

static void chain_ended(struct counter *c, unsigned long long length) {
    unsigned long long longest = c->chain;
    while (longest < length && !atomic_compare_exchange_weak(&c->chain, &longest, length)) {
    }
}

static int count_get(struct object_store *s, const char *key, const char *version, uint64_t off, size_t len,
                     struct buf *out, struct object_info *ret_info, struct err *err) {
    struct counter *c = counter_of(s);
    size_t before = out->len;
    unsigned long long chain = c->chain + 1;
    c->gets++;
    int r = c->inner->ops->get(c->inner, key, version, off, len, out, ret_info, err);
    c->bytes_got += out->len - before;
    chain_ended(c, chain);
    return r;
}

/* One wave, or as many as it takes when there are more ranges than run side by side. */
static int count_get_many(struct object_store *s, struct object_range *ranges, size_t n, struct err *err) {
    struct counter *c = counter_of(s);
    unsigned long long chain = c->chain + (n + OBJECT_PARALLEL_GETS - 1) / OBJECT_PARALLEL_GETS;
    c->gets += n;
    for (size_t i = 0; i < n; i++) c->bytes_got -= ranges[i].out.len;
    int r = object_get_many(c->inner, ranges, n, err);
    for (size_t i = 0; i < n; i++) c->bytes_got += ranges[i].out.len;
    chain_ended(c, chain);
    return r;
}

static int count_head(struct object_store *s, const char *key, const char *version,
                      struct object_info *ret_info, struct err *err) {
    struct counter *c = counter_of(s);
    unsigned long long chain = c->chain + 1;
    c->heads++;
    int r = c->inner->ops->head(c->inner, key, version, ret_info, err);
    chain_ended(c, chain);
    return r;
}

static int count_current(struct object_store *s, const char *key, char ret_version[OBJECT_VERSION_SIZE],
                         struct err *err) {
    struct counter *c = counter_of(s);
    unsigned long long chain = c->chain + 1;
    c->heads++;
    int r = object_current(c->inner, key, ret_version, err);
    chain_ended(c, chain);
    return r;
}

static int count_list(struct object_store *s, const char *prefix, object_visit *visit, void *ctx,
                      struct err *err) {
    struct counter *c = counter_of(s);
    c->lists++;
    return c->inner->ops->list_versions(c->inner, prefix, visit, ctx, err);
}

static int count_delete(struct object_store *s, const char *key, const char *version, struct err *err) {
    struct counter *c = counter_of(s);
    c->deletes++;
    return c->inner->ops->delete_version(c->inner, key, version, err);
}

static int count_expire(struct object_store *s, const char *prefix, int64_t before_ms,
                        bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *err) {
    struct counter *c = counter_of(s);
    c->lists++;
    return c->inner->ops->expire_versions(c->inner, prefix, before_ms, keep, ctx, err);
}

static int count_map(struct object_store *s, const char *key, const char *version, struct object_mapping *ret,
                     struct err *err) {
    struct counter *c = counter_of(s);
    c->maps++;
    return c->inner->ops->map(c->inner, key, version, ret, err);
}

static void count_unmap(struct object_store *s, struct object_mapping *m) {
    struct counter *c = counter_of(s);
    c->inner->ops->unmap(c->inner, m);
}

static const char *count_staging_dir(struct object_store *s) {
    return object_staging_dir(counter_of(s)->inner);
}

static void count_close(struct object_store *s) {
    object_store_close(counter_of(s)->inner);
    free(s);
}

#define COUNT_OPS                                                                                            \
    .name = "count", .put = count_put, .put_file = count_put_file, .get = count_get,                         \
    .get_many = count_get_many, .head = count_head, .current = count_current, .list_versions = count_list,   \
    .delete_version = count_delete, .expire_versions = count_expire, .staging_dir = count_staging_dir,       \
    .close = count_close
static const struct object_store_ops count_ops = {COUNT_OPS};
static const struct object_store_ops count_map_ops = {COUNT_OPS, .map = count_map, .unmap = count_unmap};

struct object_store *object_store_count(struct object_store *inner) {
    struct counter *c = xcalloc(1, sizeof *c);
    c->base.ops = object_can_map(inner) ? &count_map_ops : &count_ops;
    c->inner = inner;
    return &c->base;
}

void object_store_counts(struct object_store *counter, struct object_counts *ret) {
    struct counter *c = counter_of(counter);
    *ret = (struct object_counts){.puts = c->puts,
                                  .gets = c->gets,
                                  .heads = c->heads,
                                  .lists = c->lists,
                                  .deletes = c->deletes,
                                  .maps = c->maps,
                                  .bytes_put = c->bytes_put,
                                  .bytes_got = c->bytes_got,
                                  .waves = c->chain};
}

/* ---- fault ---- */

struct fault {
    struct object_store base;
    struct object_store *inner;
    pthread_mutex_t mutex; /* guards the rest */
    char op[16];
    unsigned after;
    enum fault_kind kind;
};

static struct fault *fault_of(struct object_store *s) {
    return (struct fault *)s;
}

/* The fault this call meets. */
static enum fault_kind meet(struct fault *f, const char *op) {
    enum fault_kind kind = FAULT_NONE;
    pthread_mutex_lock(&f->mutex);
    if (f->kind != FAULT_NONE && !strncmp(op, f->op, strlen(f->op))) {
        if (f->after)
            f->after--;
        else {
            kind = f->kind;
            f->kind = FAULT_NONE;
        }
    }
    pthread_mutex_unlock(&f->mutex);
    return kind;
}

static int refused(const char *op, struct err *err) {
    return err_set(err, ERR_UNREACHABLE, "the object store is unreachable (injected at %s)", op);
}
static int lost(const char *op, struct err *err) {
    return err_set(err, ERR_TIMEOUT, "no answer from the object store (injected at %s)", op);
}

static int fault_put(struct object_store *s, const char *key, const void *data, size_t len,
                     enum put_condition condition, const char *etag, struct object_info *ret_info,
                     struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "put");
    if (kind == FAULT_FAIL) return refused("put", err);
    int r = f->inner->ops->put(f->inner, key, data, len, condition, etag, kind ? NULL : ret_info, err);
    return kind ? lost("put", err) : r;
}

static int fault_put_file(struct object_store *s, const char *key, const char *path,
                          struct object_info *ret_info, struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "put_file");
    if (kind == FAULT_FAIL) return refused("put_file", err);
    int r = f->inner->ops->put_file(f->inner, key, path, kind ? NULL : ret_info, err);
    return kind ? lost("put_file", err) : r;
}

/* Reads have no effect: a lost answer is as good as none. */
static int fault_get(struct object_store *s, const char *key, const char *version, uint64_t off, size_t len,
                     struct buf *out, struct object_info *ret_info, struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "get");
    if (kind) return kind == FAULT_FAIL ? refused("get", err) : lost("get", err);
    return f->inner->ops->get(f->inner, key, version, off, len, out, ret_info, err);
}

static int fault_head(struct object_store *s, const char *key, const char *version,
                      struct object_info *ret_info, struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "head");
    if (kind) return kind == FAULT_FAIL ? refused("head", err) : lost("head", err);
    return f->inner->ops->head(f->inner, key, version, ret_info, err);
}

static int fault_list(struct object_store *s, const char *prefix, object_visit *visit, void *ctx,
                      struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "list");
    if (kind) return kind == FAULT_FAIL ? refused("list", err) : lost("list", err);
    return f->inner->ops->list_versions(f->inner, prefix, visit, ctx, err);
}

static int fault_delete(struct object_store *s, const char *key, const char *version, struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "delete");
    if (kind == FAULT_FAIL) return refused("delete", err);
    int r = f->inner->ops->delete_version(f->inner, key, version, err);
    return kind ? lost("delete", err) : r;
}

static int fault_expire(struct object_store *s, const char *prefix, int64_t before_ms,
                        bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "expire");
    if (kind == FAULT_FAIL) return refused("expire", err);
    int r = f->inner->ops->expire_versions(f->inner, prefix, before_ms, keep, ctx, err);
    return kind ? lost("expire", err) : r;
}

static int fault_map(struct object_store *s, const char *key, const char *version, struct object_mapping *ret,
                     struct err *err) {
    struct fault *f = fault_of(s);
    enum fault_kind kind = meet(f, "map");
    if (kind) return kind == FAULT_FAIL ? refused("map", err) : lost("map", err);
    return f->inner->ops->map(f->inner, key, version, ret, err);
}

static void fault_unmap(struct object_store *s, struct object_mapping *m) {
    struct fault *f = fault_of(s);
    f->inner->ops->unmap(f->inner, m);
}

static const char *fault_staging_dir(struct object_store *s) {
    return object_staging_dir(fault_of(s)->inner);
}

static void fault_close(struct object_store *s) {
    struct fault *f = fault_of(s);
    object_store_close(f->inner);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}

#define FAULT_OPS                                                                                            \
    .name = "fault", .put = fault_put, .put_file = fault_put_file, .get = fault_get, .head = fault_head,     \
    .list_versions = fault_list, .delete_version = fault_delete, .expire_versions = fault_expire,            \
    .staging_dir = fault_staging_dir, .close = fault_close
static const struct object_store_ops fault_ops = {FAULT_OPS};
static const struct object_store_ops fault_map_ops = {FAULT_OPS, .map = fault_map, .unmap = fault_unmap};

struct object_store *object_store_fault(struct object_store *inner) {
    struct fault *f = xcalloc(1, sizeof *f);
    f->base.ops = object_can_map(inner) ? &fault_map_ops : &fault_ops;
    f->inner = inner;
    pthread_mutex_init(&f->mutex, NULL);
    return &f->base;
}

void object_store_fault_set(struct object_store *fault, const char *op, unsigned after,
                            enum fault_kind kind) {
    struct fault *f = fault_of(fault);
    pthread_mutex_lock(&f->mutex);
    snprintf(f->op, sizeof f->op, "%s", op);
    f->after = after;
    f->kind = kind;
    pthread_mutex_unlock(&f->mutex);
}

/* ---- remote ---- */

struct remote {
    struct object_store base;
    struct object_store *inner;
    unsigned latency_ms;
    uint64_t bytes_per_s;
    pthread_mutex_t mutex;
    int64_t link_free_us; /* when the link has brought everything asked for so far; guarded by mutex */
};

static void sleep_us(int64_t us) {
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    while (us > 0 && nanosleep(&t, &t)) {
    }
}

static struct object_store *far(struct object_store *s) {
    struct remote *r = (struct remote *)s;
    sleep_us((int64_t)r->latency_ms * 1000);
    return r->inner;
}

/* Waits for the link to have brought so many bytes behind those of other requests. */
static void transfer(struct remote *r, size_t bytes) {
    if (!r->bytes_per_s) return;
    int64_t now = clock_mono_us(&clock_system);
    pthread_mutex_lock(&r->mutex);
    r->link_free_us = MAX(r->link_free_us, now) + (int64_t)((double)bytes * 1e6 / (double)r->bytes_per_s);
    int64_t until = r->link_free_us;
    pthread_mutex_unlock(&r->mutex);
    sleep_us(until - now);
}

static int remote_put(struct object_store *s, const char *key, const void *data, size_t len,
                      enum put_condition condition, const char *etag, struct object_info *ret_info,
                      struct err *err) {
    struct object_store *inner = far(s);
    return inner->ops->put(inner, key, data, len, condition, etag, ret_info, err);
}

static int remote_put_file(struct object_store *s, const char *key, const char *path,
                           struct object_info *ret_info, struct err *err) {
    struct object_store *inner = far(s);
    return inner->ops->put_file(inner, key, path, ret_info, err);
}

static int remote_get(struct object_store *s, const char *key, const char *version, uint64_t off, size_t len,
                      struct buf *out, struct object_info *ret_info, struct err *err) {
    struct object_store *inner = far(s);
    size_t before = out->len;
    int r = inner->ops->get(inner, key, version, off, len, out, ret_info, err);
    transfer((struct remote *)s, out->len - before);
    return r;
}

static int remote_head(struct object_store *s, const char *key, const char *version,
                       struct object_info *ret_info, struct err *err) {
    struct object_store *inner = far(s);
    return inner->ops->head(inner, key, version, ret_info, err);
}

static int remote_list(struct object_store *s, const char *prefix, object_visit *visit, void *ctx,
                       struct err *err) {
    struct object_store *inner = far(s);
    return inner->ops->list_versions(inner, prefix, visit, ctx, err);
}

static int remote_delete(struct object_store *s, const char *key, const char *version, struct err *err) {
    struct object_store *inner = far(s);
    return inner->ops->delete_version(inner, key, version, err);
}

static int remote_expire(struct object_store *s, const char *prefix, int64_t before_ms,
                         bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *err) {
    struct object_store *inner = far(s);
    return inner->ops->expire_versions(inner, prefix, before_ms, keep, ctx, err);
}

static const char *remote_staging_dir(struct object_store *s) {
    return object_staging_dir(((struct remote *)s)->inner);
}

static void remote_close(struct object_store *s) {
    object_store_close(((struct remote *)s)->inner);
    pthread_mutex_destroy(&((struct remote *)s)->mutex);
    free(s);
}

static const struct object_store_ops remote_ops = {
    .name = "remote",
    .put = remote_put,
    .put_file = remote_put_file,
    .get = remote_get,
    .head = remote_head,
    .list_versions = remote_list,
    .delete_version = remote_delete,
    .expire_versions = remote_expire,
    .staging_dir = remote_staging_dir,
    .close = remote_close,
};

struct object_store *object_store_remote(struct object_store *inner, unsigned latency_ms,
                                         uint64_t bytes_per_s) {
    struct remote *r = xcalloc(1, sizeof *r);
    r->base.ops = &remote_ops;
    r->inner = inner;
    r->latency_ms = latency_ms;
    r->bytes_per_s = bytes_per_s;
    pthread_mutex_init(&r->mutex, NULL);
    return &r->base;
}
