/* The FUSE side: requests in, replies out. Only this file and serve.c know FUSE.
 *
 * A request runs on the loop thread that read it while few do (work.h), else in a worker pool: some loop
 * threads are always there to read. The kernel sends an interrupt for every signal the caller handles, and
 * EINTR is what few programs expect of a file: so only what runs or waits for a query is answered at once,
 * and documents when they take long (job.patient). Everything else is never interrupted.
 *
 * Locks: libfuse holds a request's lock while it calls on_interrupt, which takes work.lock. So work.lock is
 * never held while calling libfuse. After end_interrupts no interrupt can reach a request any more: only then
 * it is freed.
 */
#include "requests.h"
#include "caller.h"
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 4000, MAX_BACKGROUND = 64, WRITE_LONG = 32 * 1024 };

struct request {
    struct job job;
    struct call call;
    fuse_req_t req;
    const char *op;
    struct node *node, *node2; /* references */
    struct handle *h;
    char *name, *name2;
    char *data;
    size_t size;
    uint64_t offset;
    unsigned flags;
    mode_t mode;
    struct stat attr;
    struct fuse_file_info fi;
    bool interruptible;
    bool here;     /* runs on a loop thread */
    bool borrowed; /* data is the loop's: the request runs there */
};

static struct fs *fs_of(fuse_req_t req) {
    return fuse_req_userdata(req);
}

static void on_interrupt(fuse_req_t req, void *data) {
    struct request *r = data;
    struct fs *fs = r->call.fs;
    pthread_mutex_lock(&fs->work.lock);
    bool parked = r->job.state == JOB_PARKED;
    work_cancel_locked(&fs->work, &r->job);
    pthread_mutex_unlock(&fs->work.lock);
    if (parked) query_leave(fs, r->node);
}

static void end_interrupts(struct request *r) {
    if (r->interruptible) fuse_req_interrupt_func(r->req, NULL, NULL);
    r->interruptible = false;
}

/* NULL: the request was answered (an unknown node, which only a confused kernel can ask for). */
static struct request *request_new(fuse_req_t req, const char *op, fuse_ino_t ino, const char *name,
                                   void (*run)(struct job *)) {
    struct fs *fs = fs_of(req);
    struct node *node = inode_get(&fs->inodes, ino);
    if (!node) {
        fuse_reply_err(req, ENOENT);
        return NULL;
    }
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct request *r = xcalloc(1, sizeof *r);
    r->job.run = run;
    r->req = req;
    r->op = op;
    r->node = node;
    r->name = name ? xstrdup(name) : NULL;
    r->call =
        (struct call){.fs = fs, .pid = ctx->pid, .uid = ctx->uid, .gid = ctx->gid, .cancel = &r->job.cancel};
    return r;
}

static void request_free(struct request *r) {
    struct fs *fs = r->call.fs;
    inode_unref(fs, r->node);
    if (r->node2) inode_unref(fs, r->node2);
    free(r->name);
    free(r->name2);
    if (!r->borrowed) free(r->data);
    free(r);
}

/* Runs the request here, or in a pool when too many run on loop threads already. */
static void start(struct request *r, enum work_pool pool) {
    struct work *w = &r->call.fs->work;
    if (!work_enter(w, &r->job, pool)) {
        if (r->borrowed) r->data = memcpy(xmalloc(r->size), r->data, r->size);
        r->borrowed = false;
        work_push(w, &r->job, pool);
        return;
    }
    r->here = true;
    r->job.run(&r->job);
    work_leave(w);
}

/* The same for what waits for a disk. */
static void start_slow(struct request *r, enum work_pool pool) {
    loop_will_block(r->call.fs->loop);
    start(r, pool);
}

/* The same with a pool of the node's choice. */
static void start_in(struct request *r, enum work_pool pool) {
    r->job.patient = pool == WORK_DOCS;
    r->interruptible = pool == WORK_DOCS || pool == WORK_QUERY;
    if (r->interruptible) fuse_req_interrupt_func(r->req, on_interrupt, r);
    start(r, pool);
}

static struct request *of_job(struct job *j) {
    return (struct request *)((char *)j - offsetof(struct request, job));
}

static void fail(struct request *r, int code) {
    end_interrupts(r);
    call_note(&r->call, r->op, (enum err_code) - code, r->h && r->h->node ? r->h->node : r->node, r->name);
    fuse_reply_err(r->req, errno_of((enum err_code) - code));
    request_free(r);
}

static void done(struct request *r) {
    end_interrupts(r);
    fuse_reply_err(r->req, 0);
    request_free(r);
}

/* A worker got a request that was interrupted while it waited. */
static bool was_interrupted(struct request *r) {
    if (!r->interruptible || !r->job.cancel || node_is_query(r->node)) return false;
    int64_t waited = mono_ms() - r->job.pushed_ms;
    if (r->job.patient && waited < PLACE_PATIENCE_MS) return false;
    fail(r, -ERR_CANCELED);
    return true;
}

static int not_here(struct request *r) {
    int e = place_check_writable(&r->call, r->node->place);
    return e ? e : call_fail(&r->call, ERR_PERM, NULL, "%s is not possible here", r->op);
}

/* ---- entries and attributes ---- */

static double attr_timeout(struct fs *fs, struct node *n) {
    if (node_is_query(n) && query_ready(fs, n)) return FS_TIMEOUT_LONG_S;
    return __atomic_load_n(&n->attr_s, __ATOMIC_RELAXED);
}

static void fill_entry(struct fs *fs, struct node *n, struct fuse_entry_param *e) {
    memset(e, 0, sizeof *e);
    e->ino = n->id;
    e->generation = 1;
    e->entry_timeout = __atomic_load_n(&n->entry_s, __ATOMIC_RELAXED);
    e->attr_timeout = attr_timeout(fs, n);
    node_stat(fs, n, &e->attr);
}

static void reply_entry(struct request *r, struct node *n) {
    struct fs *fs = r->call.fs;
    struct fuse_entry_param e;
    if (n->ops->stat && !S_ISDIR(__atomic_load_n(&n->mode, __ATOMIC_RELAXED))) n->ops->stat(&r->call, n);
    fill_entry(fs, n, &e);
    e.entry_timeout = MAX(e.entry_timeout, r->call.keep_s);
    end_interrupts(r);
    inode_looked_up(&fs->inodes, n);
    if (fuse_reply_entry(r->req, &e)) inode_forget(fs, n->id, 1);
    inode_unref(fs, n);
    request_free(r);
}

static void run_lookup(struct job *j) {
    struct request *r = of_job(j);
    struct node *n = NULL;
    if (was_interrupted(r)) return;
    int e = r->node->ops->lookup ? r->node->ops->lookup(&r->call, r->node, r->name, &n)
                                 : err_set(&r->call.err, ERR_NOT_FOUND, "not a directory");
    if (!e && r->here && node_is_query(n)) query_run_early(r->call.fs, n);
    if (e)
        fail(r, e);
    else
        reply_entry(r, n);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct request *r = request_new(req, "lookup", parent, name, run_lookup);
    if (r) start_in(r, r->node->ops->list_pool);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n) {
    inode_forget(fs_of(req), ino, n);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
    for (size_t i = 0; i < count; i++) inode_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void reply_attr(struct request *r) {
    struct stat st;
    struct fs *fs = r->call.fs;
    double timeout = attr_timeout(fs, r->node);
    node_stat(fs, r->node, &st);
    end_interrupts(r);
    fuse_reply_attr(r->req, &st, timeout);
    request_free(r);
}

static void run_getattr(struct job *j) {
    struct request *r = of_job(j);
    const char *data;
    size_t len;
    int e = 0;
    if (node_is_query(r->node)) e = query_result(&r->call, r->node, &data, &len);
    /* A saved query that fails is listed like a good one: only opening it is an error, not looking at the
     * directory. */
    if (e && e != -ERR_CANCELED && r->node->name[0] == '@') e = 0;
    if (!e && r->node->ops->stat) e = r->node->ops->stat(&r->call, r->node);
    if (e)
        fail(r, e);
    else
        reply_attr(r);
}

/* Runs the query or waits for its answer without holding a thread, then runs the request. */
static void wait_or_run(struct request *r) {
    struct work *w = &r->call.fs->work;
    r->interruptible = true;
    fuse_req_interrupt_func(r->req, on_interrupt, r);
    bool here = work_enter(w, &r->job, WORK_META);
    if (!query_wait(r->call.fs, r->node, &r->job, here)) {
        if (here)
            r->job.run(&r->job);
        else
            work_push(w, &r->job, WORK_META);
    }
    if (here) work_leave(w);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct request *r = request_new(req, "stat", ino, NULL, run_getattr);
    if (!r) return;
    if (node_is_query(r->node))
        wait_or_run(r);
    else if (r->node->ops->stat)
        start(r, WORK_META);
    else
        reply_attr(r);
}

static int64_t ms_of(const struct timespec *t) {
    return t->tv_sec * 1000 + t->tv_nsec / 1000000;
}

static int apply_attr(struct request *r) {
    const struct node_ops *ops = r->node->ops;
    int set = (int)r->flags, e = place_check_writable(&r->call, r->node->place);
    bool times = set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW);
    if (e) return e;
    if (!ops->accepts_any_attr) return not_here(r);
    if (set & FUSE_SET_ATTR_SIZE)
        e = ops->truncate ? ops->truncate(&r->call, r->node, r->h, (uint64_t)r->attr.st_size) : not_here(r);
    if (!e && (set & FUSE_SET_ATTR_MODE) && ops->chmod) e = ops->chmod(&r->call, r->node, r->attr.st_mode);
    if (!e && times && ops->utimens)
        e = ops->utimens(&r->call, r->node,
                         set & FUSE_SET_ATTR_MTIME_NOW ? clock_now_ms(&clock_system)
                                                       : ms_of(&r->attr.st_mtim));
    return e;
}

static void run_setattr(struct job *j) {
    struct request *r = of_job(j);
    if (r->h) pthread_mutex_lock(&r->h->lock);
    int e = apply_attr(r);
    if (!e && r->node->ops->stat) e = r->node->ops->stat(&r->call, r->node);
    if (r->h) pthread_mutex_unlock(&r->h->lock);
    if (e)
        fail(r, e);
    else
        reply_attr(r);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
                       struct fuse_file_info *fi) {
    struct request *r = request_new(req, "setattr", ino, NULL, run_setattr);
    if (!r) return;
    r->attr = *attr;
    r->flags = (unsigned)set;
    r->h = fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
    start(r, WORK_WRITE);
}

static void run_readlink(struct job *j) {
    struct request *r = of_job(j);
    struct buf b = BUF_INIT;
    int e = r->node->ops->readlink ? r->node->ops->readlink(&r->call, r->node, &b) : not_here(r);
    if (e) {
        fail(r, e);
    } else {
        fuse_reply_readlink(r->req, buf_str(&b));
        request_free(r);
    }
    buf_release(&b);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino) {
    struct request *r = request_new(req, "readlink", ino, NULL, run_readlink);
    if (r) start(r, WORK_META);
}

/* ---- changes of directories ---- */

static void run_make(struct job *j) {
    struct request *r = of_job(j);
    const struct node_ops *ops = r->node->ops;
    struct node *n = NULL;
    int e = place_check_writable(&r->call, r->node->place);
    if (!e && r->name2)
        e = ops->symlink ? ops->symlink(&r->call, r->node, r->name, r->name2, &n) : not_here(r);
    else if (!e)
        e = ops->mkdir ? ops->mkdir(&r->call, r->node, r->name, &n) : not_here(r);
    if (e)
        fail(r, e);
    else
        reply_entry(r, n);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
    struct request *r = request_new(req, "mkdir", parent, name, run_make);
    if (r) start_slow(r, WORK_WRITE);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
    struct request *r = request_new(req, "symlink", parent, name, run_make);
    if (!r) return;
    r->name2 = xstrdup(target);
    start_slow(r, WORK_WRITE);
}

static void run_remove(struct job *j) {
    struct request *r = of_job(j);
    int (*remove)(struct call *, struct node *, const char *) =
        r->flags ? r->node->ops->rmdir : r->node->ops->unlink;
    int e = place_check_writable(&r->call, r->node->place);
    if (!e) e = remove ? remove(&r->call, r->node, r->name) : not_here(r);
    if (e)
        fail(r, e);
    else
        done(r);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct request *r = request_new(req, "unlink", parent, name, run_remove);
    if (!r) return;
    loop_may_block(r->call.fs->loop);
    start(r, WORK_WRITE);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct request *r = request_new(req, "rmdir", parent, name, run_remove);
    if (!r) return;
    r->flags = 1;
    start_slow(r, WORK_WRITE);
}

static void run_rename(struct job *j) {
    struct request *r = of_job(j);
    int e = place_check_writable(&r->call, r->node->place);
    if (!e) e = place_check_writable(&r->call, r->node2->place);
    if (!e && (r->flags & ~1u)) e = call_fail(&r->call, ERR_INVALID, NULL, "names cannot be exchanged");
    if (!e)
        e = r->node->ops->rename
                ? r->node->ops->rename(&r->call, r->node, r->name, r->node2, r->name2, r->flags)
                : not_here(r);
    if (e)
        fail(r, e);
    else
        done(r);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags) {
    struct request *r = request_new(req, "rename", parent, name, run_rename);
    if (!r) return;
    r->node2 = inode_get(&r->call.fs->inodes, new_parent);
    r->name2 = xstrdup(new_name);
    r->flags = flags;
    if (r->node2)
        start_slow(r, WORK_WRITE);
    else
        fail(r, -ERR_NOT_FOUND);
}

/* ---- open files ---- */

static void fill_open(struct fuse_file_info *fi, const struct handle *h) {
    fi->fh = (uintptr_t)h;
    fi->direct_io = h->direct_io;
    fi->keep_cache = h->keep_cache;
    fi->nonseekable = h->nonseekable;
    fi->noflush = !handle_writes(h);
}

/* Gives the kernel the bytes of a content that it may keep, with the first open: no READ asks for them. Of a
 * long answer of a query the last one: that makes the size known before the open returns. */
static void store(struct fs *fs, const struct handle *h) {
    bool whole = h->len <= FS_READ_STORE_MAX, last = !whole && node_is_query(h->node);
    if (!h->len || !h->data || !h->keep_cache || h->direct_io || !(whole || last)) return;
    if (__atomic_exchange_n(&h->node->stored, true, __ATOMIC_RELAXED)) return;
    struct fuse_bufvec v = FUSE_BUFVEC_INIT(whole ? h->len : 1);
    v.buf[0].mem = (void *)(uintptr_t)(whole ? h->data : h->data + h->len - 1);
    fuse_lowlevel_notify_store(mount_of(fs)->session, h->node->id, whole ? 0 : (off_t)h->len - 1, &v, 0);
}

static void run_open(struct job *j) {
    struct request *r = of_job(j);
    struct fs *fs = r->call.fs;
    if (was_interrupted(r)) return;
    struct handle *h = handle_new(&r->call, r->node, r->fi.flags);
    int e = handle_writes(h) ? place_check_begin(&r->call, r->node->place) : 0;
    if (!e && r->node->ops->open) e = r->node->ops->open(&r->call, h);
    if (e) {
        struct node *keep = h->node;
        h->node = NULL; /* not opened: nothing to close */
        handle_unref(fs, h);
        inode_unref(fs, keep);
        fail(r, e);
        return;
    }
    store(fs, h);
    fill_open(&r->fi, h);
    end_interrupts(r);
    handle_track(mount_of(fs), h); /* before the reply: the release may follow at once */
    if (fuse_reply_open(r->req, &r->fi)) {
        handle_untrack(mount_of(fs), h);
        handle_unref(fs, h);
    }
    request_free(r);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct request *r = request_new(req, "open", ino, NULL, run_open);
    if (!r) return;
    r->fi = *fi;
    if (node_is_query(r->node))
        wait_or_run(r);
    else
        start_in(r, r->node->ops->open_pool);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct request *r = request_new(req, "opendir", ino, NULL, run_open);
    if (!r) return;
    r->fi = *fi;
    r->fi.flags &= ~O_ACCMODE;
    start_in(r, r->node->ops->list_pool);
}

static void run_create(struct job *j) {
    struct request *r = of_job(j);
    struct fs *fs = r->call.fs;
    struct node *n = NULL;
    struct handle *h = handle_new(&r->call, NULL, r->fi.flags);
    int e = place_check_begin(&r->call, r->node->place);
    if (!e)
        e = r->node->ops->create ? r->node->ops->create(&r->call, r->node, r->name, r->mode, h, &n)
                                 : not_here(r);
    if (e) {
        handle_unref(fs, h);
        fail(r, e);
        return;
    }
    struct fuse_entry_param entry;
    h->node = n;
    fill_entry(fs, n, &entry);
    fill_open(&r->fi, h);
    inode_looked_up(&fs->inodes, n);
    handle_track(mount_of(fs), h);
    if (fuse_reply_create(r->req, &entry, &r->fi)) {
        handle_untrack(mount_of(fs), h);
        inode_forget(fs, n->id, 1);
        handle_unref(fs, h);
    }
    request_free(r);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi) {
    struct request *r = request_new(req, "create", parent, name, run_create);
    if (!r) return;
    r->fi = *fi;
    r->mode = mode;
    start(r, WORK_WRITE);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev) {
    fuse_reply_err(req, EPERM);
}

static void run_read(struct job *j) {
    struct request *r = of_job(j);
    struct handle *h = r->h;
    struct buf out = BUF_INIT;
    if (was_interrupted(r)) return;
    pthread_mutex_lock(&h->lock);
    int e = h->node->ops->read ? h->node->ops->read(&r->call, h, r->offset, r->size, &out) : not_here(r);
    pthread_mutex_unlock(&h->lock);
    if (e) {
        fail(r, e);
    } else {
        end_interrupts(r);
        fuse_reply_buf(r->req, (const char *)out.data, out.len);
        request_free(r);
    }
    buf_release(&out);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    struct handle *h = (struct handle *)(uintptr_t)fi->fh;
    if (h->data || h->node->ops->read == NULL) {
        struct fs *fs = fs_of(req);
        size_t n = (uint64_t)off < h->len ? MIN(size, h->len - (size_t)off) : 0;
        handle_ref(h); /* the release may come before the reply's bytes are let go of here */
        fuse_reply_buf(req, h->data ? h->data + (n ? off : 0) : NULL, n);
        handle_unref(fs, h);
        return;
    }
    struct request *r = request_new(req, "read", ino, NULL, run_read);
    if (!r) return;
    r->h = h;
    r->size = size;
    r->offset = (uint64_t)off;
    start_in(r, h->node->ops->read_pool);
}

static void run_write(struct job *j) {
    struct request *r = of_job(j);
    struct handle *h = r->h;
    __atomic_store_n(&h->wrote, 1, __ATOMIC_RELAXED);
    if (r->size >= WRITE_LONG) loop_will_block(r->call.fs->loop);
    pthread_mutex_lock(&h->lock);
    int e = h->node->ops->write ? h->node->ops->write(&r->call, h, r->data, r->size, r->offset) : not_here(r);
    pthread_mutex_unlock(&h->lock);
    if (e) {
        fail(r, e);
        return;
    }
    fuse_reply_write(r->req, r->size);
    request_free(r);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                     struct fuse_file_info *fi) {
    struct request *r = request_new(req, "write", ino, NULL, run_write);
    if (!r) return;
    r->h = (struct handle *)(uintptr_t)fi->fh;
    r->data = (char *)(uintptr_t)data;
    r->borrowed = true;
    r->size = size;
    r->offset = (uint64_t)off;
    start(r, WORK_WRITE);
}

static void run_sync(struct job *j) {
    struct request *r = of_job(j);
    struct handle *h = r->h;
    int e = 0;
    if (__atomic_exchange_n(&h->wrote, 0, __ATOMIC_RELAXED)) loop_may_block(r->call.fs->loop);
    pthread_mutex_lock(&h->lock);
    if (r->flags)
        e = h->node->ops->fsync ? h->node->ops->fsync(&r->call, h) : 0;
    else {
        bool own = r->call.pid == h->opener_thread || caller_process(r->call.pid, h->opener) == h->opener;
        e = h->node->ops->flush(&r->call, h, own);
    }
    pthread_mutex_unlock(&h->lock);
    if (e)
        fail(r, e);
    else
        done(r);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct handle *h = (struct handle *)(uintptr_t)fi->fh;
    if (!handle_writes(h) || !h->node->ops->flush) {
        fuse_reply_err(req, 0);
        return;
    }
    struct request *r = request_new(req, "close", ino, NULL, run_sync);
    if (!r) return;
    r->h = h;
    start(r, WORK_WRITE);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
    struct request *r = request_new(req, "fsync", ino, NULL, run_sync);
    if (!r) return;
    r->h = (struct handle *)(uintptr_t)fi->fh;
    r->flags = 1;
    start(r, WORK_WRITE);
}

static void run_release(struct job *j) {
    struct request *r = of_job(j);
    handle_untrack(mount_of(r->call.fs), r->h);
    handle_unref(r->call.fs, r->h);
    r->h = NULL;
    done(r);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct request *r = request_new(req, "release", ino, NULL, run_release);
    if (!r) return;
    r->h = (struct handle *)(uintptr_t)fi->fh;
    start(r, handle_writes(r->h) ? WORK_WRITE : WORK_META);
}

/* ---- listings ---- */

struct filler {
    fuse_req_t req;
    char *buf;
    size_t used, size;
};

static bool add_entry(void *ctx, const char *name, mode_t mode, uint64_t ino, uint64_t next) {
    struct filler *f = ctx;
    struct stat st = {.st_ino = ino ? ino : 2, .st_mode = mode};
    size_t n = fuse_add_direntry(f->req, f->buf + f->used, f->size - f->used, name, &st, (off_t)next);
    if (n > f->size - f->used) return false;
    f->used += n;
    return true;
}

static void run_readdir(struct job *j) {
    struct request *r = of_job(j);
    if (was_interrupted(r)) return;
    struct filler f = {r->req, xmalloc(r->size), 0, r->size};
    pthread_mutex_lock(&r->h->lock);
    int e = handle_list(&r->call, r->h, r->offset, add_entry, &f);
    pthread_mutex_unlock(&r->h->lock);
    if (e && !f.used) {
        fail(r, e);
    } else {
        end_interrupts(r);
        fuse_reply_buf(r->req, f.buf, f.used);
        request_free(r);
    }
    free(f.buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    struct request *r = request_new(req, "readdir", ino, NULL, run_readdir);
    if (!r) return;
    r->h = (struct handle *)(uintptr_t)fi->fh;
    r->size = size;
    r->offset = (uint64_t)off;
    start_in(r, r->node->ops->list_pool);
}

/* ---- the rest ---- */

static void run_statfs(struct job *j) {
    struct request *r = of_job(j);
    struct statvfs st;
    if (statvfs(engine_data_dir(r->call.fs->engine), &st)) {
        fail(r, err_sys(&r->call.err, errno, "cannot stat the data directory"));
        return;
    }
    st.f_namemax = NAME_MAX_BYTES;
    fuse_reply_statfs(r->req, &st);
    request_free(r);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino) {
    struct request *r = request_new(req, "statfs", ino, NULL, run_statfs);
    if (r) start(r, WORK_META);
}

static void reply_xattr(fuse_req_t req, const char *value, size_t len, size_t size) {
    if (!size)
        fuse_reply_xattr(req, len);
    else if (size < len)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, value, len);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
    struct fs *fs = fs_of(req);
    struct buf value = BUF_INIT;
    if (!strncmp(name, "system.posix_acl", 16)) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    struct node *n = strncmp(name, "user.ldbfs.", 11) ? NULL : inode_get(&fs->inodes, ino);
    if (n && !strcmp(name + 11, "error")) query_error_of(n, &value);
    if (n && !strcmp(name + 11, "pid") && n->id == FUSE_ROOT_ID) buf_printf(&value, "%d", (int)getpid());
    if (n) inode_unref(fs, n);
    if (value.len)
        reply_xattr(req, (const char *)value.data, value.len, size);
    else
        fuse_reply_err(req, ENODATA);
    buf_release(&value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    static const char name[] = "user.ldbfs.error";
    struct fs *fs = fs_of(req);
    struct buf value = BUF_INIT;
    struct node *n = inode_get(&fs->inodes, ino);
    if (n) query_error_of(n, &value);
    if (n) inode_unref(fs, n);
    reply_xattr(req, name, value.len ? sizeof name : 0, size);
    buf_release(&value);
}

static void op_init(void *userdata, struct fuse_conn_info *conn) {
    struct fs *fs = userdata;
    /* Content never changes under a node, so the kernel need not guess from sizes and times. */
    conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS |
                              FUSE_CAP_READDIRPLUS_AUTO);
    conn->want |= conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC |
                                   FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS);
    conn->max_background = MAX_BACKGROUND;
    conn->time_gran = 1000000;
    __atomic_store_n(&mount_of(fs)->greeting, (conn->capable & FUSE_CAP_PARALLEL_DIROPS) != 0,
                     __ATOMIC_RELAXED);
    if (fs->options->ready) fs->options->ready(fs->options->ready_ctx);
}

const struct fuse_lowlevel_ops fs_requests = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_release,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
};
