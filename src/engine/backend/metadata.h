/* Metadata and coordination: small JSON items under (partition key, sort key), each with a version number,
 * and transactions of conditional writes. What DynamoDB offers, and no more.
 *
 * Promises (tests/contract/test_metadata.c): reads see every transaction that has returned; a transaction is
 * atomic, isolated (serialisable) across threads and processes, and durable once it has returned 0.
 * Thread-safe. Limits: keys at most 512 bytes, values at most 390 KB, 100 operations a transaction.
 */
#pragma once
#include "util/buf.h"
#include "util/clock.h"
#include "util/err.h"

struct metadata;

struct meta_item {
    const char *sk;    /* sort key, NUL-terminated */
    const char *value; /* JSON text, NUL-terminated */
    size_t value_len;
    uint64_t version; /* >= 1, grows by one at each write of the item */
};

enum { META_ANY = -1, META_ABSENT = 0 }; /* for meta_op.expect; > 0: exactly that version */

/* What the store looks like at a moment. A read that begins after a stamp was taken gives the same again for
 * as long as later stamps equal it: no transaction has returned in between, in any process. */
enum { META_STAMP_SIZE = 48 };
struct meta_stamp {
    bool known; /* false: nothing can be said, equals nothing */
    unsigned char state[META_STAMP_SIZE];
};

enum meta_op_kind { META_PUT, META_DELETE, META_CHECK };
struct meta_op {
    enum meta_op_kind kind;
    const char *pk, *sk;
    const char *value; /* META_PUT: NUL-terminated JSON */
    int64_t expect;    /* META_ANY, META_ABSENT or a version */
};

typedef int meta_visit(void *ctx, const struct meta_item *item); /* non-zero stops and is returned */

struct metadata_ops {
    const char *name;
    /* Appends the value to ret_value; ERR_NOT_FOUND when absent. ret_version may be NULL. */
    int (*get)(struct metadata *, const char *pk, const char *sk, struct buf *ret_value,
               uint64_t *ret_version, struct err *);
    /* Visits the items of pk whose sk starts with prefix, in sk order (one consistent snapshot for embedded).
     * The visit function may call the store. */
    int (*list)(struct metadata *, const char *pk, const char *sk_prefix, meta_visit *, void *ctx,
                struct err *);
    /* All or nothing. A condition that does not hold: ERR_CONFLICT (the text names the item), nothing
     * written. */
    int (*transact)(struct metadata *, const struct meta_op *ops, size_t n_ops, struct err *);
    /* May be NULL: nothing is ever known. Costs no system call. */
    void (*stamp)(struct metadata *, struct meta_stamp *ret);
    /* Leases: exclusive while held, taken over when expired (or, embedded, when the owning process is dead).
     * acquire: ERR_BUSY when somebody else holds it; ret_epoch is a number that grows with every acquisition
     * of this name (the fencing token). renew: ERR_CONFLICT when it was lost. */
    int (*lease_acquire)(struct metadata *, const char *name, const char *owner, int64_t ttl_ms,
                         uint64_t *ret_epoch, struct err *);
    int (*lease_renew)(struct metadata *, const char *name, const char *owner, uint64_t epoch, int64_t ttl_ms,
                       struct err *);
    int (*lease_release)(struct metadata *, const char *name, const char *owner, uint64_t epoch,
                         struct err *);
    void (*close)(struct metadata *);
};
struct metadata {
    const struct metadata_ops *ops;
};

int meta_get(struct metadata *, const char *pk, const char *sk, struct buf *ret_value, uint64_t *ret_version,
             struct err *);
int meta_list(struct metadata *, const char *pk, const char *sk_prefix, meta_visit *, void *ctx,
              struct err *);
int meta_transact(struct metadata *, const struct meta_op *ops, size_t n_ops, struct err *);
void meta_stamp(struct metadata *, struct meta_stamp *ret);
bool meta_stamp_equal(const struct meta_stamp *, const struct meta_stamp *);
int meta_lease_acquire(struct metadata *, const char *name, const char *owner, int64_t ttl_ms,
                       uint64_t *ret_epoch, struct err *);
int meta_lease_renew(struct metadata *, const char *name, const char *owner, uint64_t epoch, int64_t ttl_ms,
                     struct err *);
int meta_lease_release(struct metadata *, const char *name, const char *owner, uint64_t epoch, struct err *);
void metadata_close(struct metadata *); /* NULL is fine */

/* SQLite, WAL, synchronous=FULL, one connection a thread or a guarded pool; several processes may use one
 * file. A lease also records the owner's process id and start time: a dead owner's lease is free at once. */
int metadata_sqlite_open(const char *path, struct clock *, struct metadata **ret, struct err *);
/* Decorator: answers get from memory while the store's stamp says that nothing has changed. At most 256 items
 * of at most 16 KB. Owns inner. */
struct metadata *metadata_cache(struct metadata *inner);
