/* ingest/: append targets and the drop box. */
#include "ingest.h"
#include "path.h"
#include "receipt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { DROPPED_SHOWN_MS = 60000, HEAVY_BYTES = 64 * 1024 };

/* ---- upsert, update, delete: whatever is written goes in, wherever it is written ---- */

static const struct {
    const char *name;
    enum ingest_op op;
} targets[] = {{"upsert", INGEST_UPSERT}, {"update", INGEST_UPDATE}, {"delete", INGEST_DELETE}};

struct target { /* node->data */
    int heavy;  /* atomic: open handles through which much has been written, or whose writes take long */
};

/* Who waits for an embedding provider is like one who writes much, from the beginning: others get a node of
 * their own, and the kernel asks for the name each time. */
static void share(struct handle *h, bool shared) {
    struct target *t = h->node->data;
    __atomic_store_n(&h->node->entry_s, shared ? FS_TIMEOUT_FIXED_S : 0, __ATOMIC_RELAXED);
    if (shared) return;
    h->written = HEAVY_BYTES;
    __atomic_fetch_add(&t->heavy, 1, __ATOMIC_RELAXED);
}

static int target_open(struct call *c, struct handle *h) {
    h->direct_io = true;
    struct session *s = NULL;
    size_t i = 0;
    while (strcmp(targets[i].name, h->node->name)) i++;
    if (!handle_writes(h)) return 0;
    int r =
        session_open(c, h->node->place, targets[i].op, targets[i].name, true, DECODE_LINES, DECODE_PLAIN, &s);
    if (r) return r;
    h->state = s;
    share(h, !session_waits(s));
    return 0;
}

static int target_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    return 0;
}

static int any_fsync(struct call *c, struct handle *h) {
    return h->state ? session_sync(c, h->state) : 0;
}

static int any_flush(struct call *c, struct handle *h, bool own) {
    return h->state ? session_flush(c, h->state, own) : 0;
}

static int target_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    struct target *t = h->node->data;
    if (h->written < HEAVY_BYTES && h->written + len >= HEAVY_BYTES)
        __atomic_fetch_add(&t->heavy, 1, __ATOMIC_RELAXED);
    h->written += len;
    return session_write(c, h->state, data, len);
}

static void target_close(struct call *c, struct handle *h) {
    struct target *t = h->node->data;
    session_close(c, h->state);
    if (h->written >= HEAVY_BYTES) __atomic_fetch_sub(&t->heavy, 1, __ATOMIC_RELAXED);
}

static void target_release(struct node *n) {
    free(n->data);
}

static int any_truncate(struct call *c, struct node *n, struct handle *h, uint64_t size) {
    return 0;
}

static const struct node_ops target_ops = {.kind = "append target",
                                           .open = target_open,
                                           .read = target_read,
                                           .write = target_write,
                                           .flush = any_flush,
                                           .fsync = any_fsync,
                                           .close = target_close,
                                           .truncate = any_truncate,
                                           .release = target_release,
                                           .read_pool = WORK_WRITE,
                                           .accepts_any_attr = true};

/* A node that somebody writes much to is not given out again: the kernel holds a lock per inode during a
 * write, and writers would wait for each other. Small writes wait for the log anyway; they share a node,
 * whose name the kernel knows for a while (so the first writers of much may share one, too). */
static struct node *target_node(struct fs *fs, struct node *dir, const char *name) {
    struct buf key = BUF_INIT;
    buf_printf(&key, "%s/target/%s", dir->key, name);
    struct node *n = inode_find_key(&fs->inodes, buf_str(&key));
    struct target *t = n ? n->data : NULL;
    if (t && !__atomic_load_n(&t->heavy, __ATOMIC_RELAXED)) {
        buf_release(&key);
        return n;
    }
    if (n) {
        inode_unkey(&fs->inodes, n);
        inode_unref(fs, n);
    }
    n = inode_new(&target_ops, dir, dir->place, name, (char *)buf_detach(&key, NULL));
    n->data = xcalloc(1, sizeof *t);
    n->ino ^= fs_serial(fs) << 20; /* one that writers have taken lives on beside it */
    n->mode = S_IFREG | 0644;
    n->mtime_ms = dir->mtime_ms;
    n->attr_s = FS_TIMEOUT_LONG_S;
    return inode_add(fs, n);
}

/* ---- files dropped by name ---- */

struct drop { /* handle->state */
    struct session *session;
    struct scratch *entry; /* what is listed */
    uint64_t next;         /* offset that continues the stream */
    bool started;
};
struct drop_data { /* node->data */
    struct scratch *entry;
    struct place *place;
};

static void drop_release(struct node *n) {
    struct drop_data *d = n->data;
    scratch_unref(d->place, d->entry);
    free(d);
}

static int drop_begin(struct call *c, struct place *p, struct scratch *entry, struct handle *h) {
    enum decode_format format;
    enum decode_packing packing;
    struct session *s;
    const char *name = scratch_name(entry);
    if (!decode_name(name, &format, &packing))
        return call_fail(c, ERR_PERM, NULL, "'%.100s' is no name for a file of documents", name);
    int r = session_open(c, p, INGEST_UPSERT, name, false, format, packing, &s);
    if (r) return r;
    struct drop *d = xcalloc(1, sizeof *d);
    d->session = s;
    d->entry = entry;
    pthread_mutex_lock(&p->lock);
    entry->refs++;
    entry->sending = true;
    entry->expires_ms = 0;
    if (h->flags & O_TRUNC) __atomic_store_n(&entry->size, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&p->lock);
    h->state = d;
    h->direct_io = true;
    return 0;
}

static int drop_open(struct call *c, struct handle *h) {
    struct drop_data *n = h->node->data;
    return handle_writes(h) ? drop_begin(c, n->place, n->entry, h) : 0;
}

static int drop_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    struct drop_data *n = h->node->data;
    pthread_mutex_lock(&n->place->lock);
    receipt_read(n->entry, offset, size, out);
    pthread_mutex_unlock(&n->place->lock);
    return 0;
}

static int drop_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    struct drop *d = h->state;
    if (!d) return call_fail(c, ERR_PERM, NULL, "not open for writing");
    bool append = h->flags & O_APPEND;
    bool starts =
        !d->started && (offset == 0 || offset == __atomic_load_n(&d->entry->size, __ATOMIC_RELAXED));
    if (!append && !starts && offset != d->next)
        return call_fail(c, ERR_INVALID, "send the file from its beginning to its end",
                         "a write at %llu does not continue the file (at %llu)", (unsigned long long)offset,
                         (unsigned long long)d->next);
    int r = session_write(c, d->session, data, len);
    d->started = true;
    d->next = offset + len;
    pthread_mutex_lock(&h->node->place->lock);
    __atomic_store_n(&d->entry->size, MAX(d->entry->size, d->next), __ATOMIC_RELAXED);
    d->entry->mtime_ms = clock_now_ms(&clock_system);
    pthread_mutex_unlock(&h->node->place->lock);
    return r;
}

static void show_receipt(struct place *p, struct drop *d) {
    if (!d->started) return;
    pthread_mutex_lock(&p->lock);
    session_show(d->session, d->entry);
    pthread_mutex_unlock(&p->lock);
}

static int drop_flush(struct call *c, struct handle *h, bool own) {
    struct drop *d = h->state;
    if (!d) return 0;
    int r = session_flush(c, d->session, own);
    show_receipt(h->node->place, d);
    return r;
}

static int drop_fsync(struct call *c, struct handle *h) {
    struct drop *d = h->state;
    return d ? session_sync(c, d->session) : 0;
}

static void drop_close(struct call *c, struct handle *h) {
    struct drop *d = h->state;
    struct place *p = h->node->place;
    if (!d) return;
    pthread_mutex_lock(&p->lock);
    d->entry->sending = false;
    d->entry->expires_ms = mono_ms() + DROPPED_SHOWN_MS;
    pthread_mutex_unlock(&p->lock);
    session_close(c, d->session);
    scratch_unref(p, d->entry);
    free(d);
}

static int drop_stat(struct call *c, struct node *n) {
    struct drop_data *d = n->data;
    pthread_mutex_lock(&d->place->lock);
    __atomic_store_n(&n->size, d->entry->size, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mtime_ms, d->entry->mtime_ms, __ATOMIC_RELAXED);
    __atomic_store_n(&n->mode, S_IFREG | (d->entry->mode & 07777), __ATOMIC_RELAXED);
    pthread_mutex_unlock(&d->place->lock);
    return 0;
}

static int drop_chmod(struct call *c, struct node *n, mode_t mode) {
    struct drop_data *d = n->data;
    pthread_mutex_lock(&d->place->lock);
    d->entry->mode = mode & 07777;
    pthread_mutex_unlock(&d->place->lock);
    return 0;
}

static int drop_utimens(struct call *c, struct node *n, int64_t mtime_ms) {
    struct drop_data *d = n->data;
    pthread_mutex_lock(&d->place->lock);
    d->entry->mtime_ms = mtime_ms;
    pthread_mutex_unlock(&d->place->lock);
    return 0;
}

static const struct node_ops drop_ops = {.kind = "dropped file",
                                         .stat = drop_stat,
                                         .open = drop_open,
                                         .read = drop_read,
                                         .write = drop_write,
                                         .flush = drop_flush,
                                         .fsync = drop_fsync,
                                         .close = drop_close,
                                         .truncate = any_truncate,
                                         .chmod = drop_chmod,
                                         .utimens = drop_utimens,
                                         .release = drop_release,
                                         .read_pool = WORK_WRITE,
                                         .accepts_any_attr = true};

static struct node *drop_node(struct fs *fs, struct node *dir, struct scratch *entry) {
    struct buf key = BUF_INIT;
    pthread_mutex_lock(&dir->place->lock);
    if (!entry->ino_seed) entry->ino_seed = (int64_t)fs_serial(fs);
    entry->refs++;
    pthread_mutex_unlock(&dir->place->lock);
    buf_printf(&key, "%s/drop/%lld", dir->key, (long long)entry->ino_seed);
    buf_str(&key);
    struct node *n =
        inode_new(&drop_ops, dir, dir->place, scratch_name(entry), (char *)buf_detach(&key, NULL));
    struct drop_data *d = xcalloc(1, sizeof *d);
    *d = (struct drop_data){entry, dir->place};
    n->data = d;
    drop_stat(NULL, n);
    return inode_add(fs, n);
}

/* ---- the directory ---- */

static bool is_drop_name(const char *name) {
    enum decode_format format;
    enum decode_packing packing;
    return name[0] != '.' && strlen(name) <= PATH_NAME_MAX && decode_name(name, &format, &packing);
}

static int ingest_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        if (strcmp(targets[i].name, name)) continue;
        *ret = target_node(c->fs, dir, name);
        return 0;
    }
    bool receipts = !strcmp(name, "receipts");
    if (receipts || !strcmp(name, "rejects")) {
        *ret = dir_node(c->fs, receipts ? &receipts_ops : &rejects_ops, dir, name, NULL, NULL);
        return 0;
    }
    struct scratch *s = scratch_find(dir->place, "ingest", name);
    if (!s) return err_set(&c->err, ERR_NOT_FOUND, "there is no '%.100s'", name);
    *ret = s->fd < 0 ? drop_node(c->fs, dir, s) : scratch_node(c->fs, dir, s);
    scratch_unref(dir->place, s);
    return 0;
}

static int ingest_list(struct call *c, struct node *dir, struct dir_list *out) {
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) dir_list_add(out, targets[i].name, S_IFREG, 0);
    dir_list_add(out, "receipts", S_IFDIR, 0);
    dir_list_add(out, "rejects", S_IFDIR, 0);
    scratch_list(dir->place, "ingest", out);
    return 0;
}

static int ingest_create(struct call *c, struct node *dir, const char *name, mode_t mode, struct handle *h,
                         struct node **ret) {
    if (!is_drop_name(name)) {
        if (path_is_scratch_name(name)) return scratch_create(c, dir, "ingest", name, mode, h, ret);
        return call_fail(c, ERR_PERM,
                         "names end in .jsonl .ndjson .json .csv .tsv, then .zst or .gz; or write to upsert",
                         "'%.100s' is no name for a file of documents", name);
    }
    struct scratch *entry = scratch_new(dir->place, "ingest", name);
    entry->mode = mode & 07777;
    int r = drop_begin(c, dir->place, entry, h);
    if (r)
        scratch_unlist(dir->place, entry);
    else
        *ret = drop_node(c->fs, dir, entry);
    scratch_unref(dir->place, entry);
    return r;
}

static int ingest_unlink(struct call *c, struct node *dir, const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
        if (!strcmp(targets[i].name, name)) return 0; /* rm -r */
    struct scratch *s = scratch_find(dir->place, "ingest", name);
    if (!s) return err_set(&c->err, ERR_NOT_FOUND, "there is no '%.100s'", name);
    scratch_unlist(dir->place, s);
    scratch_unref(dir->place, s);
    return 0;
}

static int ingest_rmdir(struct call *c, struct node *dir, const char *name) {
    return 0; /* rm -r */
}

static int ingest_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                         const char *new_name, unsigned flags) {
    struct place *p = dir->place;
    if (new_dir != dir) return call_fail(c, ERR_PERM, NULL, "files cannot be moved out of ingest/");
    struct scratch *s = scratch_find(p, "ingest", name);
    if (!s) return call_fail(c, ERR_PERM, NULL, "'%.100s' cannot be renamed", name);
    int r = 0;
    if (s->fd < 0 || (!is_drop_name(new_name) && path_is_scratch_name(new_name))) {
        scratch_rename(p, s, new_name);
    } else {
        mode_t mode = s->mode;
        int64_t mtime = s->mtime_ms;
        r = ingest_file(c, dir, new_name, s->fd, INGEST_UPSERT);
        struct scratch *made = r == -ERR_PERM ? NULL : scratch_find(p, "ingest", new_name);
        if (made) {
            made->mode = mode;
            made->mtime_ms = mtime;
            if (!r) scratch_unlist(p, s); /* after an error the tool removes its own file */
        }
        scratch_unref(p, made);
    }
    scratch_unref(p, s);
    return r;
}

const struct node_ops ingest_ops = {.kind = "ingest",
                                    .lookup = ingest_lookup,
                                    .list = ingest_list,
                                    .create = ingest_create,
                                    .unlink = ingest_unlink,
                                    .rmdir = ingest_rmdir,
                                    .rename = ingest_rename,
                                    .accepts_any_attr = true};
