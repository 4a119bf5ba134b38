/* Open files and directories, independent of their kind. */
#include "caller.h"
#include "mount.h"

#include <unistd.h>

struct handle *handle_new(struct call *c, struct node *node, int flags) {
    struct handle *h = xcalloc(1, sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    h->fd = -1;
    h->refs = 1;
    h->flags = flags;
    h->node = node ? inode_ref(&c->fs->inodes, node) : NULL;
    h->opener_thread = c->pid;
    h->opener = handle_writes(h) ? caller_process(c->pid, c->pid) : c->pid;
    return h;
}

struct handle *handle_ref(struct handle *h) {
    __atomic_fetch_add(&h->refs, 1, __ATOMIC_RELAXED);
    return h;
}

void handle_unref(struct fs *fs, struct handle *h) {
    if (__atomic_sub_fetch(&h->refs, 1, __ATOMIC_ACQ_REL)) return;
    struct call c = {.fs = fs, .pid = h->opener};
    if (h->node && h->node->ops->close) h->node->ops->close(&c, h);
    if (h->fd >= 0) close(h->fd);
    dir_list_release(&h->list);
    buf_release(&h->owned);
    pthread_mutex_destroy(&h->lock);
    if (h->node) inode_unref(fs, h->node);
    free(h);
}

void handle_track(struct mount *m, struct handle *h) {
    pthread_mutex_lock(&m->handles_lock);
    h->next_open = m->handles;
    if (h->next_open) h->next_open->link_open = &h->next_open;
    h->link_open = &m->handles;
    m->handles = h;
    pthread_mutex_unlock(&m->handles_lock);
}

void handle_untrack(struct mount *m, struct handle *h) {
    pthread_mutex_lock(&m->handles_lock);
    *h->link_open = h->next_open;
    if (h->next_open) h->next_open->link_open = h->link_open;
    pthread_mutex_unlock(&m->handles_lock);
}

/* Kinds count their entries from 0; "." and ".." come before. */
struct shift {
    dir_emit *emit;
    void *ctx;
};

static bool emit_shifted(void *ctx, const char *name, mode_t mode, uint64_t ino, uint64_t next) {
    struct shift *s = ctx;
    return s->emit(s->ctx, name, mode, ino, next + 2);
}

int handle_list(struct call *c, struct handle *h, uint64_t at, dir_emit *emit, void *ctx) {
    const struct node_ops *ops = h->node->ops;
    struct shift s = {emit, ctx};
    bool again = at == 0; /* from the beginning: list anew */
    if (at == 0 && !emit(ctx, ".", S_IFDIR, h->node->ino, ++at)) return 0;
    if (at == 1 && !emit(ctx, "..", S_IFDIR, 0, ++at)) return 0;
    if (ops->stream) return ops->stream(c, h, at - 2, emit_shifted, &s);
    if (!h->listed || again) {
        dir_list_release(&h->list);
        h->listed = true; /* an error is told once; then the listing is empty */
        int e = ops->list ? ops->list(c, h->node, &h->list) : 0;
        if (e) return e;
    }
    for (size_t i = at - 2; i < h->list.n; i++)
        if (!emit_shifted(&s, h->list.items[i].name, h->list.items[i].mode, h->list.items[i].ino, i + 1))
            break;
    return 0;
}

void call_note(struct call *c, const char *op, enum err_code code, struct node *on, const char *name) {
    if (code == ERR_NOT_FOUND || code == ERR_CANCELED) return;
    struct buf path = BUF_INIT;
    node_path(on, name, &path);
    c->err.code = code;
    error_log_add(&c->fs->errors, buf_str(&path), c->pid, op, errno_of(code), &c->err, c->hint);
    buf_release(&path);
}

void query_error_of(struct node *n, struct buf *out) {
    if (!n->place || n->ops != &query_dir_ops) return;
    pthread_mutex_lock(&n->place->lock);
    buf_add(out, n->place->last_error.data, n->place->last_error.len);
    pthread_mutex_unlock(&n->place->lock);
}
