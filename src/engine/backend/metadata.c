/* Checked wrappers of the metadata store: limits are the same whatever the implementation. */
#include "backend/metadata.h"

#include <assert.h>

enum { KEY_MAX = 512, VALUE_MAX = 390 * 1024, OPS_MAX = 100 };

static int check_key(const char *pk, const char *sk, struct err *err) {
    assert(pk && sk);
    if (strlen(pk) > KEY_MAX || strlen(sk) > KEY_MAX)
        return err_set(err, ERR_INVALID, "metadata key \"%.60s\", \"%.60s\" is longer than %d bytes", pk, sk,
                       KEY_MAX);
    return 0;
}

/* DynamoDB refuses two operations on one item in a transaction: so does every store. */
static int check_ops(const struct meta_op *ops, size_t n, struct err *err) {
    if (n > OPS_MAX)
        return err_set(err, ERR_TOO_LARGE, "a transaction of %zu operations, more than %d", n, OPS_MAX);
    for (size_t i = 0; i < n; i++) {
        int r = check_key(ops[i].pk, ops[i].sk, err);
        if (r) return r;
        assert(ops[i].kind != META_PUT || ops[i].value);
        if (ops[i].kind == META_PUT && strlen(ops[i].value) > VALUE_MAX)
            return err_set(err, ERR_TOO_LARGE, "metadata item \"%s\", \"%s\" is larger than %d bytes",
                           ops[i].pk, ops[i].sk, VALUE_MAX);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(ops[k].pk, ops[i].pk) && !strcmp(ops[k].sk, ops[i].sk))
                return err_set(err, ERR_INVALID,
                               "two operations on the item \"%s\", \"%s\" in one transaction", ops[i].pk,
                               ops[i].sk);
    }
    return 0;
}

int meta_get(struct metadata *m, const char *pk, const char *sk, struct buf *ret_value, uint64_t *ret_version,
             struct err *err) {
    assert(ret_value);
    int r = check_key(pk, sk, err);
    return r ? r : m->ops->get(m, pk, sk, ret_value, ret_version, err);
}

int meta_list(struct metadata *m, const char *pk, const char *sk_prefix, meta_visit *visit, void *ctx,
              struct err *err) {
    assert(visit);
    int r = check_key(pk, sk_prefix, err);
    return r ? r : m->ops->list(m, pk, sk_prefix, visit, ctx, err);
}

int meta_transact(struct metadata *m, const struct meta_op *ops, size_t n_ops, struct err *err) {
    int r = check_ops(ops, n_ops, err);
    return r || !n_ops ? r : m->ops->transact(m, ops, n_ops, err);
}

void meta_stamp(struct metadata *m, struct meta_stamp *ret) {
    ret->known = false;
    if (m->ops->stamp) m->ops->stamp(m, ret);
}

bool meta_stamp_equal(const struct meta_stamp *a, const struct meta_stamp *b) {
    return a->known && b->known && !memcmp(a->state, b->state, sizeof a->state);
}

int meta_lease_acquire(struct metadata *m, const char *name, const char *owner, int64_t ttl_ms,
                       uint64_t *ret_epoch, struct err *err) {
    assert(owner[0] && ret_epoch);
    int r = check_key(name, owner, err);
    return r ? r : m->ops->lease_acquire(m, name, owner, ttl_ms, ret_epoch, err);
}

int meta_lease_renew(struct metadata *m, const char *name, const char *owner, uint64_t epoch, int64_t ttl_ms,
                     struct err *err) {
    int r = check_key(name, owner, err);
    return r ? r : m->ops->lease_renew(m, name, owner, epoch, ttl_ms, err);
}

int meta_lease_release(struct metadata *m, const char *name, const char *owner, uint64_t epoch,
                       struct err *err) {
    int r = check_key(name, owner, err);
    return r ? r : m->ops->lease_release(m, name, owner, epoch, err);
}

void metadata_close(struct metadata *m) {
    if (m) m->ops->close(m);
}
