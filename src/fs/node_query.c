/* query/: reading a name runs it.
 *
 * A name that is looked up is about to be opened or asked for its size: LOOKUP runs it, if it is quick, and
 * the kernel need not ask for the size again. Only while one client asks, because the kernel has one lookup
 * at a time in a directory; for the same reason a run that is not over after EARLY_MS ends, the name answers
 * with size 0, and the first that opens it or asks for its size starts it anew, for as long as it takes.
 * Everybody who asks meanwhile waits for the same run. The answer's bytes, and the sequence number they are
 * of, are pinned to the node. A later lookup finds the node again only while nothing newer has been written.
 *
 *   NEW --wait--> GOING --ok--> DONE                  states, guarded by work.lock
 *    ^              |---error-> FAILED  (the next lookup makes a new node)
 *    +---canceled, nobody waits
 */
#include "node.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum run_state { RUN_NEW, RUN_GOING, RUN_DONE, RUN_FAILED };
enum { ANSWER_BYTES = 64 * 1024 /* room for most, at once */ };
enum { RETIRE_AFTER_MS = 2000, STREAM_REQUEST_MAX = 1 << 20, TRIM_FROM_BYTES = 1 << 20 };
enum { EARLY_MS = 20, EARLY_PAUSE_MS = 10000 /* after one in the collection that took longer */ };

struct run {
    struct job job;
    struct fs *fs;
    struct node *node; /* a reference while GOING */
    enum run_state state;
    struct job_list waiters;
    bool has_seq;
    bool early; /* GOING: in a lookup */
    uint64_t seq;
    uint8_t *content; /* DONE: fixed from then on; of fs->answers */
    size_t len;
    struct err err; /* FAILED */
};

struct retired {
    struct retired *next;
    uint64_t parent_id;
    int64_t due_ms;
    char name[];
};

static void release(struct node *n) {
    struct run *run = n->data;
    if (run->len >= TRIM_FROM_BYTES) __atomic_store_n(&run->fs->trim_wanted, 1, __ATOMIC_RELAXED);
    chunks_free(&run->fs->answers, run->content, run->len);
    free(run);
}

/* ---- running ---- */

static void note_error(struct place *p, const char *spec, const struct err *err) {
    struct buf b = BUF_INIT;
    buf_printf(&b, "%s", err->text);
    if (err->column) {
        buf_printf(&b, " (column %u)\n%s\n", err->column, spec);
        for (uint32_t i = 1; i < err->column && i < 4000; i++) buf_addc(&b, ' ');
        buf_adds(&b, "^");
    }
    buf_adds(&b, "\n");
    pthread_mutex_lock(&p->lock);
    struct buf old = p->last_error;
    p->last_error = b;
    pthread_mutex_unlock(&p->lock);
    buf_release(&old);
}

static int answer(struct call *c, struct place *p, const struct view *v, const struct query_request *q,
                  struct buf *out) {
    struct answer *a = NULL;
    char name[NAME_SIZE];
    pthread_mutex_lock(&c->fs->places_lock);
    memcpy(name, p->name, sizeof name);
    pthread_mutex_unlock(&c->fs->places_lock);
    int r = engine_query(c->fs->engine, v, name, q, c->cancel, &a, &c->err);
    if (!r) r = answer_format(a, q, view_schema(v), out, &c->err);
    answer_free(a);
    return r;
}

/* The state the query asks for. What it takes to get it is taken off the query's time. */
static int query_view(struct call *c, struct place *p, struct query_request *q, struct view **ret) {
    int64_t start = clock_mono_us(&clock_system);
    int r = q->consistent || p->frozen ? place_view_until(c, p, c->cancel, q->timeout_ms, ret)
                                       : engine_view_live_until(c->fs->engine, p->cid, false, c->cancel,
                                                                q->timeout_ms, ret, &c->err);
    int64_t took = (clock_mono_us(&clock_system) - start) / 1000;
    q->timeout_ms = q->timeout_ms > took + 1 ? (uint32_t)(q->timeout_ms - took) : 1;
    return r;
}

/* A run in a lookup is short, and asks no provider that would have to be asked again. */
static int limit_early(struct query_request *q, struct err *err) {
    q->timeout_ms = MIN(q->timeout_ms, (uint32_t)EARLY_MS);
    return q->near_text ? err_set(err, ERR_TIMEOUT, "an embedding takes long") : 0;
}

/* is_json: a request body (a saved query, query/.run); else a SPEC. */
static int run_query(struct call *c, struct place *p, const char *text, size_t len, bool is_json, bool early,
                     uint64_t *ret_seq, bool *ret_has_seq, struct buf *out) {
    struct query_request q;
    struct view *v = NULL;
    query_request_init(&q);
    int r = is_json ? query_request_parse_json(text, len, &q, &c->err)
                    : query_request_parse_spec(text, len, &q, &c->err);
    if (!r && early) r = limit_early(&q, &c->err);
    if (!r) r = query_view(c, p, &q, &v);
    if (!r && ret_seq) {
        pthread_mutex_lock(&c->fs->work.lock);
        *ret_seq = view_seq(v);
        *ret_has_seq = true;
        pthread_mutex_unlock(&c->fs->work.lock);
    }
    if (!r) r = answer(c, p, v, &q, out);
    view_unref(v);
    query_request_release(&q);
    if (r && r != -ERR_CANCELED && !(early && r == -ERR_TIMEOUT)) note_error(p, text, &c->err);
    return r;
}

static int run_name(struct call *c, struct run *run, struct buf *out) {
    const char *name = run->node->name;
    struct place *p = run->node->place;
    if (name[0] != '@')
        return run_query(c, p, name, strlen(name), false, run->early, &run->seq, &run->has_seq, out);
    struct buf text = BUF_INIT;
    int r = saved_query_read(c, p, name + 1, &text);
    if (!r) r = run_query(c, p, buf_str(&text), text.len, true, false, &run->seq, &run->has_seq, out);
    buf_release(&text);
    return r;
}

static void retire_later(struct fs *fs, struct node *n) {
    size_t len = strlen(n->name);
    struct retired *r = xmalloc(sizeof *r + len + 1);
    r->next = NULL;
    r->parent_id = n->parent->id;
    r->due_ms = mono_ms() + RETIRE_AFTER_MS;
    memcpy(r->name, n->name, len + 1);
    pthread_mutex_lock(&fs->retired_lock);
    *fs->retired_tail = r;
    fs->retired_tail = &r->next;
    pthread_mutex_unlock(&fs->retired_lock);
}

/* own (may be NULL): the job of the caller, which goes on with it; true: it was still waiting. */
static bool wake_all(struct fs *fs, struct run *run, const struct job *own) {
    bool ours = false;
    for (struct job *j; (j = job_list_take(&run->waiters)) != NULL;) {
        if (j == own) {
            ours = true;
            j->state = JOB_RUNNING;
        } else {
            work_push_locked(&fs->work, j, WORK_META);
        }
    }
    return ours;
}

static bool nobody_waits(const struct run *run) {
    return run->waiters.head.next == &run->waiters.head;
}

/* Sets the state that a run ended with; false: it is to be run again. content, len: the answer when r is 0.
 * With work.lock held. */
static bool settle(struct run *run, struct node *node, int r, const struct err *err, uint8_t *content,
                   size_t len) {
    bool too_early = run->early && r == -ERR_TIMEOUT;
    run->early = false;
    if ((r == -ERR_CANCELED && run->job.cancel) || too_early) {
        if (too_early)
            __atomic_store_n(&node->place->early_after_ms, mono_ms() + EARLY_PAUSE_MS, __ATOMIC_RELAXED);
        __atomic_store_n(&run->job.cancel, 0, __ATOMIC_RELAXED);
        run->has_seq = false;
        if (!nobody_waits(run)) return false; /* somebody came after it was canceled */
        run->state = RUN_NEW;
    } else if (r) {
        run->state = RUN_FAILED;
        run->err = *err;
    } else {
        run->state = RUN_DONE;
        run->content = content;
        run->len = len;
        __atomic_store_n(&node->size, len, __ATOMIC_RELAXED);
    }
    return true;
}

/* What was written to `out`, as long as the node lives. */
static uint8_t *keep(struct chunks *answers, struct buf *out) {
    size_t len = out->len;
    return len > CHUNK_PIECE_MAX ? buf_detach(out, &len) : memcpy(chunks_alloc(answers, len), out->data, len);
}

/* Runs the query and wakes who waits; the result as of wake_all. */
static bool run_now(struct run *run, const struct job *own) {
    struct fs *fs = run->fs;
    struct node *node = run->node;
    struct call c = {.fs = fs, .cancel = &run->job.cancel};
    struct buf out = BUF_INIT;
    bool ours = false;
    buf_reserve(&out, ANSWER_BYTES);
    loop_may_block(fs->loop);
    int r = run_name(&c, run, &out);
    size_t len = out.len;
    uint8_t *content = r ? NULL : keep(&fs->answers, &out);
    pthread_mutex_lock(&fs->work.lock);
    bool over = settle(run, node, r, &c.err, content, len);
    if (over)
        ours = wake_all(fs, run, own);
    else
        work_push_locked(&fs->work, &run->job, WORK_QUERY);
    pthread_mutex_unlock(&fs->work.lock);
    buf_release(&out);
    if (!over) return false;
    retire_later(fs, node);
    inode_unref(fs, node);
    return ours;
}

static void run_job(struct job *j) {
    run_now((struct run *)((char *)j - offsetof(struct run, job)), NULL);
}

/* By the caller's thread, or soon by a pool's. With work.lock held. */
static void run_begin(struct run *run, struct node *n) {
    run->state = RUN_GOING;
    run->node = n;
    run->job.state = JOB_RUNNING;
}

void query_run_early(struct fs *fs, struct node *n) {
    struct run *run = n->data;
    bool quick = mono_ms() >= __atomic_load_n(&n->place->early_after_ms, __ATOMIC_RELAXED);
    if (!quick || n->name[0] == '@') return; /* saved queries may ask a provider */
    if (loop_is_parallel(fs->loop)) return;  /* others wait for this thread */
    inode_ref(&fs->inodes, n);
    pthread_mutex_lock(&fs->work.lock);
    bool start = run->state == RUN_NEW;
    if (start) {
        run_begin(run, n);
        run->early = true;
    }
    pthread_mutex_unlock(&fs->work.lock);
    if (start)
        run_now(run, NULL);
    else
        inode_unref(fs, n);
}

bool query_wait(struct fs *fs, struct node *n, struct job *j, bool here) {
    struct run *run = n->data;
    bool start = false;
    inode_ref(&fs->inodes, n); /* once parked, j's own may be gone at any time */
    pthread_mutex_lock(&fs->work.lock);
    bool wait = (run->state == RUN_NEW || run->state == RUN_GOING) && !j->cancel;
    if (wait) {
        j->state = JOB_PARKED;
        job_list_add(&run->waiters, j);
        start = run->state == RUN_NEW;
    }
    if (start) {
        run_begin(run, n);
        if (!here) work_push_locked(&fs->work, &run->job, WORK_QUERY);
    }
    pthread_mutex_unlock(&fs->work.lock);
    if (start && here) return !run_now(run, j);
    if (!start) inode_unref(fs, n);
    return wait;
}

void query_leave(struct fs *fs, struct node *n) {
    struct run *run = n->data;
    pthread_mutex_lock(&fs->work.lock);
    if (run->state == RUN_GOING && nobody_waits(run)) __atomic_store_n(&run->job.cancel, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&fs->work.lock);
}

bool query_ready(struct fs *fs, struct node *n) {
    struct run *run = n->data;
    pthread_mutex_lock(&fs->work.lock);
    bool ready = run->state == RUN_DONE;
    pthread_mutex_unlock(&fs->work.lock);
    return ready;
}

int query_result(struct call *c, struct node *n, const char **ret_data, size_t *ret_len) {
    struct run *run = n->data;
    pthread_mutex_lock(&c->fs->work.lock);
    enum run_state state = run->state;
    if (state == RUN_FAILED) c->err = run->err;
    pthread_mutex_unlock(&c->fs->work.lock);
    if (state == RUN_FAILED) return -(int)c->err.code;
    if (state != RUN_DONE) return err_set(&c->err, ERR_CANCELED, "interrupted");
    *ret_data = (const char *)run->content;
    *ret_len = run->len;
    return 0;
}

void query_retire(struct fs *fs) {
    int64_t now = mono_ms();
    for (;;) {
        pthread_mutex_lock(&fs->retired_lock);
        struct retired *r = fs->retired;
        if (r && r->due_ms > now) r = NULL;
        if (r) {
            fs->retired = r->next;
            if (!fs->retired) fs->retired_tail = &fs->retired;
        }
        pthread_mutex_unlock(&fs->retired_lock);
        if (!r) return;
        fs->drop_name(fs, r->parent_id, r->name);
        free(r);
    }
}

void query_retire_release(struct fs *fs) {
    while (fs->retired) {
        struct retired *r = fs->retired;
        fs->retired = r->next;
        free(r);
    }
    fs->retired_tail = &fs->retired;
}

/* ---- names ---- */

static int result_open(struct call *c, struct handle *h) {
    if (handle_writes(h))
        return call_fail(c, ERR_PERM, "open query/.run to write a query", "a query's answer is read-only");
    h->keep_cache = true;
    return query_result(c, h->node, &h->data, &h->len);
}

static const struct node_ops result_ops = {.kind = "query", .open = result_open, .release = release};

bool node_is_query(const struct node *n) {
    return n->ops == &result_ops;
}

/* May an answer that was found be given again? */
static bool still_good(struct fs *fs, struct node *n) {
    struct run *run = n->data;
    uint64_t seq;
    pthread_mutex_lock(&fs->work.lock);
    enum run_state state = run->state;
    bool has_seq = run->has_seq;
    uint64_t of = run->seq;
    bool canceled = run->job.cancel;
    pthread_mutex_unlock(&fs->work.lock);
    if (state == RUN_NEW) return true;
    if (state == RUN_FAILED || canceled || !has_seq) return false;
    return place_current_seq(fs, n->place, &seq) && seq == of;
}

static struct node *query_node(struct fs *fs, struct node *dir, const char *name, const struct buf *saved) {
    struct buf key = BUF_INIT;
    uint64_t tag = 0;
    for (size_t i = 0; saved && i < saved->len; i++) tag = tag * 1099511628211u + saved->data[i] + 1;
    buf_printf(&key, "%s/%llx?%s", dir->key, (unsigned long long)tag, name);
    struct node *old = inode_find_key(&fs->inodes, buf_str(&key));
    if (old && still_good(fs, old)) {
        buf_release(&key);
        return old;
    }
    if (old) {
        inode_unkey(&fs->inodes, old);
        inode_unref(fs, old);
    }
    struct node *n = inode_new(&result_ops, dir, dir->place, name, (char *)buf_detach(&key, NULL));
    struct run *run = xcalloc(1, sizeof *run);
    run->fs = fs;
    run->job.run = run_job;
    job_list_init(&run->waiters);
    n->data = run;
    n->mode = S_IFREG | 0444;
    n->mtime_ms = clock_now_ms(&clock_system);
    n->ino ^= fs_serial(fs) << 20; /* every answer is a file of its own */
    return inode_add(fs, n);
}

static struct node *stream_node(struct fs *fs, struct node *dir);

static int query_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    if (!strcmp(name, ".run")) {
        *ret = stream_node(c->fs, dir);
        return 0;
    }
    if (name[0] == '.') return err_set(&c->err, ERR_NOT_FOUND, "there is no '%.100s'", name);
    struct buf text = BUF_INIT;
    int r = name[0] == '@' ? saved_query_read(c, dir->place, name + 1, &text) : 0;
    if (!r) *ret = query_node(c->fs, dir, name, &text);
    buf_release(&text);
    return r;
}

static int query_list(struct call *c, struct node *dir, struct dir_list *out) {
    return dir->place->frozen ? 0 : saved_query_list(c, dir->place, out);
}

static int query_create(struct call *c, struct node *dir, const char *name, mode_t mode, struct handle *h,
                        struct node **ret) {
    return call_fail(c, ERR_PERM, "save queries as queries/NAME.json and read query/@NAME",
                     "files cannot be made here");
}

const struct node_ops query_dir_ops = {
    .kind = "queries by name", .lookup = query_lookup, .list = query_list, .create = query_create};

/* ---- query/.run: write a request, read its answer, and so on ---- */

struct conversation {
    struct buf request, reply;
    size_t at;  /* read so far */
    bool asked; /* the reply belongs to the request */
};

static int stream_open(struct call *c, struct handle *h) {
    h->state = xcalloc(1, sizeof(struct conversation));
    h->direct_io = h->nonseekable = true;
    return 0;
}

static int stream_write(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset) {
    struct conversation *s = h->state;
    if (s->asked) {
        buf_clear(&s->request);
        buf_clear(&s->reply);
        s->at = 0;
        s->asked = false;
    }
    if (s->request.len + len > STREAM_REQUEST_MAX)
        return call_fail(c, ERR_TOO_LARGE, NULL, "a query has at most 1 MB");
    buf_add(&s->request, data, len);
    return 0;
}

static int stream_read(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out) {
    struct conversation *s = h->state;
    if (!s->asked && s->request.len) {
        int r = run_query(c, h->node->place, buf_str(&s->request), s->request.len, true, false, NULL, NULL,
                          &s->reply);
        if (r == -ERR_CANCELED) return r;
        s->asked = true;
        if (r) {
            buf_clear(&s->reply);
            return r;
        }
    }
    size_t n = MIN(size, s->reply.len - s->at);
    buf_add(out, s->reply.data + s->at, n);
    s->at += n;
    return 0;
}

static void stream_close(struct call *c, struct handle *h) {
    struct conversation *s = h->state;
    if (!s) return;
    buf_release(&s->request);
    buf_release(&s->reply);
    free(s);
}

static const struct node_ops stream_ops = {.kind = "query stream",
                                           .open = stream_open,
                                           .read = stream_read,
                                           .write = stream_write,
                                           .close = stream_close,
                                           .read_pool = WORK_QUERY,
                                           .accepts_any_attr = true};

static struct node *stream_node(struct fs *fs, struct node *dir) {
    struct buf key = BUF_INIT;
    buf_printf(&key, "%s/.run", dir->key);
    buf_str(&key);
    struct node *n = inode_new(&stream_ops, dir, dir->place, ".run", (char *)buf_detach(&key, NULL));
    n->mode = S_IFREG | 0600;
    return inode_add(fs, n);
}
