/* Decorator of the log store for tests: fails one chosen write, sync or open. */
#include "backend/log_store.h"

#include <pthread.h>
#include <stdio.h>

struct fault {
    struct log_store base;
    struct log_store *inner;
    pthread_mutex_t mutex; /* guards the rest */
    char op[16];           /* "" when no fault is set */
    unsigned after;
    bool short_write;
};
struct file {
    struct log_file base;
    struct log_file *inner;
    struct fault *fault;
};

static struct fault *fault_of(struct log_store *s) {
    return (struct fault *)s;
}
static struct log_file *inner_of(struct log_file *f) {
    return ((struct file *)f)->inner;
}

/* Whether this call is the one to fail. */
static bool meet(struct fault *f, const char *op, bool *ret_short) {
    bool hit = false;
    pthread_mutex_lock(&f->mutex);
    if (!strcmp(f->op, op)) {
        if (f->after)
            f->after--;
        else {
            hit = true;
            f->op[0] = 0;
            *ret_short = f->short_write;
        }
    }
    pthread_mutex_unlock(&f->mutex);
    return hit;
}

static int injected(struct err *err, const char *op) {
    return err_set(err, ERR_IO, "injected failure of %s", op);
}

static int fault_lock(struct log_store *s, const char *cid, void **ret_lock, struct err *err) {
    struct fault *f = fault_of(s);
    return f->inner->ops->lock(f->inner, cid, ret_lock, err);
}

static void fault_unlock(struct log_store *s, void *lock) {
    struct fault *f = fault_of(s);
    f->inner->ops->unlock(f->inner, lock);
}

static void fault_stamp(struct log_store *s, const char *cid, struct log_stamp *ret) {
    struct fault *f = fault_of(s);
    ret->known = false;
    if (f->inner->ops->stamp) f->inner->ops->stamp(f->inner, cid, ret);
}

static int fault_list(struct log_store *s, const char *cid, struct log_segment_name **ret, size_t *ret_n,
                      struct err *err) {
    struct fault *f = fault_of(s);
    return f->inner->ops->list(f->inner, cid, ret, ret_n, err);
}

static int fault_open(struct log_store *s, const char *cid, const char *name, bool create,
                      struct log_file **ret, struct err *err) {
    struct fault *f = fault_of(s);
    bool short_write;
    if (meet(f, "open", &short_write)) return injected(err, "open");
    struct log_file *inner;
    int r = f->inner->ops->open(f->inner, cid, name, create, &inner, err);
    if (r) return r;
    struct file *file = xcalloc(1, sizeof *file);
    file->base.ops = f->base.ops;
    file->inner = inner;
    file->fault = f;
    *ret = &file->base;
    return 0;
}

static int fault_size(struct log_file *f, uint64_t *ret, struct err *err) {
    return inner_of(f)->ops->size(inner_of(f), ret, err);
}

static int fault_read(struct log_file *f, uint64_t off, size_t len, struct buf *out, struct err *err) {
    return inner_of(f)->ops->read(inner_of(f), off, len, out, err);
}

static int fault_write(struct log_file *f, uint64_t off, const void *data, size_t len, struct err *err) {
    bool short_write = false, hit = meet(((struct file *)f)->fault, "write", &short_write);
    if (hit && !short_write) return injected(err, "write");
    int r = inner_of(f)->ops->write(inner_of(f), off, data, hit ? len / 2 : len, err);
    return hit && !r ? injected(err, "write, half way") : r;
}

static int fault_truncate(struct log_file *f, uint64_t size, struct err *err) {
    return inner_of(f)->ops->truncate(inner_of(f), size, err);
}

static int fault_reserve(struct log_file *f, uint64_t size, struct err *err) {
    struct log_file *inner = inner_of(f);
    if (!inner->ops->reserve) return err_set(err, ERR_INVALID, "no room can be reserved here");
    return inner->ops->reserve(inner, size, err);
}

static int fault_sync(struct log_file *f, struct err *err) {
    bool short_write;
    if (meet(((struct file *)f)->fault, "sync", &short_write)) return injected(err, "sync");
    return inner_of(f)->ops->sync(inner_of(f), err);
}

static void fault_file_close(struct log_file *f) {
    inner_of(f)->ops->file_close(inner_of(f));
    free(f);
}

static int fault_remove(struct log_store *s, const char *cid, const char *name, struct err *err) {
    struct fault *f = fault_of(s);
    return f->inner->ops->remove(f->inner, cid, name, err);
}

static int fault_remove_log(struct log_store *s, const char *cid, struct err *err) {
    struct fault *f = fault_of(s);
    return f->inner->ops->remove_log(f->inner, cid, err);
}

static void fault_close(struct log_store *s) {
    struct fault *f = fault_of(s);
    f->inner->ops->close(f->inner);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}

static const struct log_store_ops fault_ops = {
    .name = "fault",
    .lock = fault_lock,
    .unlock = fault_unlock,
    .list = fault_list,
    .stamp = fault_stamp,
    .open = fault_open,
    .size = fault_size,
    .read = fault_read,
    .write = fault_write,
    .truncate = fault_truncate,
    .reserve = fault_reserve,
    .sync = fault_sync,
    .file_close = fault_file_close,
    .remove = fault_remove,
    .remove_log = fault_remove_log,
    .close = fault_close,
};

struct log_store *log_store_fault(struct log_store *inner) {
    struct fault *f = xcalloc(1, sizeof *f);
    f->base.ops = &fault_ops;
    f->inner = inner;
    pthread_mutex_init(&f->mutex, NULL);
    return &f->base;
}

void log_store_fault_set(struct log_store *fault, const char *op, unsigned after, bool short_write) {
    struct fault *f = fault_of(fault);
    pthread_mutex_lock(&f->mutex);
    snprintf(f->op, sizeof f->op, "%s", op);
    f->after = after;
    f->short_write = short_write;
    pthread_mutex_unlock(&f->mutex);
}
