/* Places: a collection or a moment of one, its current view, and the files in it that are not final. */
#include "node.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    LIVE_IDLE_MS = 1500,
    FROZEN_IDLE_MS = 15000,
    VIEW_WAIT_MS = 60000,      /* for the indexing of what was written just now */
    SCRATCH_IDLE_MS = 3600000, /* what nobody has touched for so long was left behind */
};

static struct place *place_new(const struct collection_info *info) {
    struct place *p = xcalloc(1, sizeof *p);
    memcpy(p->cid, info->cid, sizeof p->cid);
    memcpy(p->name, info->name, sizeof p->name);
    p->refs = 1;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

struct place *place_live(struct fs *fs, const struct collection_info *info) {
    pthread_mutex_lock(&fs->places_lock);
    struct place *p = fs->places;
    while (p && (p->frozen || strcmp(p->cid, info->cid))) p = p->next;
    if (!p) {
        p = place_new(info);
        p->next = fs->places;
        fs->places = p; /* the list's reference is never given back: one small struct per collection seen */
    }
    place_ref(p);
    if (info->written >= p->named) memcpy(p->name, info->name, sizeof p->name);
    p->named = MAX(p->named, info->written);
    pthread_mutex_unlock(&fs->places_lock);
    return p;
}

struct place *place_frozen(struct fs *fs, const struct collection_info *info,
                           const struct snapshot_info *snap) {
    struct place *p = place_new(info);
    p->frozen = true;
    memcpy(p->version, snap->version, sizeof p->version);
    p->refs = 1;
    pthread_mutex_lock(&fs->places_lock);
    p->next = fs->places;
    fs->places = p;
    pthread_mutex_unlock(&fs->places_lock);
    return p;
}

struct place *place_ref(struct place *p) {
    __atomic_fetch_add(&p->refs, 1, __ATOMIC_RELAXED);
    return p;
}

static void place_free(struct place *p) {
    view_unref(p->view);
    while (p->scratch) {
        struct scratch *s = p->scratch;
        scratch_unlist(p, s);
    }
    buf_release(&p->last_error);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void place_unref(struct fs *fs, struct place *p) {
    if (!p) return;
    pthread_mutex_lock(&fs->places_lock);
    bool dead = __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) == 0;
    if (dead) {
        struct place **at = &fs->places;
        while (*at && *at != p) at = &(*at)->next;
        if (*at) *at = p->next;
    }
    pthread_mutex_unlock(&fs->places_lock);
    if (dead) place_free(p);
}

int place_view_until(struct call *c, struct place *p, const volatile int *cancel, uint32_t timeout_ms,
                     struct view **ret) {
    struct engine *e = c->fs->engine;
    pthread_mutex_lock(&p->lock);
    p->used_ms = mono_ms();
    struct view *v = p->view ? view_ref(p->view) : NULL;
    pthread_mutex_unlock(&p->lock);
    if (v && (p->frozen || engine_view_is_current(e, v))) {
        *ret = v;
        return 0;
    }
    view_unref(v);
    loop_will_block(c->fs->loop); /* a root may be read, the log indexed */
    int r = p->frozen ? engine_view_version(e, p->cid, p->version, &v, &c->err)
                      : engine_view_live_until(e, p->cid, true, cancel, timeout_ms, &v, &c->err);
    if (r) return r;
    pthread_mutex_lock(&p->lock);
    struct view *old = p->view;
    p->view = view_ref(v);
    pthread_mutex_unlock(&p->lock);
    view_unref(old);
    *ret = v;
    return 0;
}

int place_view(struct call *c, struct place *p, struct view **ret) {
    int r = place_view_until(c, p, NULL, PLACE_PATIENCE_MS, ret);
    if (r != -ERR_TIMEOUT) return r;
    err_clear(&c->err);
    r = place_view_until(c, p, c->cancel, VIEW_WAIT_MS, ret);
    if (r == -ERR_TIMEOUT) c->hint = "much has been written just now and is being indexed: try again";
    return r;
}

bool place_current_seq(struct fs *fs, struct place *p, uint64_t *ret) {
    pthread_mutex_lock(&p->lock);
    struct view *v = p->view ? view_ref(p->view) : NULL;
    pthread_mutex_unlock(&p->lock);
    bool current = v && (p->frozen || engine_view_is_current(fs->engine, v));
    if (current) *ret = view_seq(v);
    view_unref(v);
    return current;
}

int place_check_writable(struct call *c, struct place *p) {
    if (p && p->frozen) return call_fail(c, ERR_READ_ONLY, NULL, "a snapshot is read-only");
    return 0;
}

int path_sync_parent(const char *path, struct err *err) {
    const char *end = strrchr(path, '/');
    char *dir = xstrndup(path, end ? (size_t)(end - path) : 0);
    int fd = open(*dir ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 || fsync(fd) ? err_sys(err, errno, "cannot sync '%s'", dir) : 0;
    if (fd >= 0) close(fd);
    free(dir);
    return r;
}

int place_check_begin(struct call *c, struct place *p) {
    if (__atomic_load_n(&c->fs->ending, __ATOMIC_RELAXED))
        return call_fail(c, ERR_UNREACHABLE, "mount it again", "the mount is ending");
    return place_check_writable(c, p);
}

void path_make_dir(const char *path) {
    if (mkdir(path, 0700) == 0) path_sync_parent(path, NULL);
}

char *place_dir(struct fs *fs, const struct place *p, const char *sub) {
    struct buf b = BUF_INIT;
    buf_printf(&b, "%s/%s/%s", fs->files_dir, p->cid, sub);
    buf_str(&b);
    char *dir = (char *)buf_detach(&b, NULL);
    if (!access(dir, F_OK)) return dir;
    path_make_dir(fs->files_dir);
    char *of_place = xstrndup(dir, strlen(dir) - strlen(sub) - 1);
    path_make_dir(of_place);
    free(of_place);
    path_make_dir(dir);
    return dir;
}

static struct view *take_idle_view(struct place *p, int64_t now) {
    struct view *v = NULL;
    pthread_mutex_lock(&p->lock);
    if (p->view && now - p->used_ms > (p->frozen ? FROZEN_IDLE_MS : LIVE_IDLE_MS)) {
        v = p->view;
        p->view = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void drop_expired(struct place *p, int64_t now) {
    struct scratch *gone;
    do {
        pthread_mutex_lock(&p->lock);
        gone = p->scratch;
        while (gone && !(gone->expires_ms && gone->expires_ms < now && !gone->opens)) gone = gone->next;
        if (gone) gone->refs++;
        pthread_mutex_unlock(&p->lock);
        if (gone) scratch_unlist(p, gone);
        scratch_unref(p, gone);
    } while (gone);
}

void places_tidy(struct fs *fs) {
    int64_t now = mono_ms();
    struct place **all = NULL;
    size_t n = 0, cap = 0;
    pthread_mutex_lock(&fs->places_lock);
    for (struct place *p = fs->places; p; p = p->next) {
        VEC_GROW(all, n, cap);
        all[n++] = place_ref(p);
    }
    pthread_mutex_unlock(
        &fs->places_lock); /* what is let go of may close files and unmap: not under the lock */
    for (size_t i = 0; i < n; i++) {
        struct view *v = take_idle_view(all[i], now);
        if (v) __atomic_store_n(&fs->trim_wanted, 1, __ATOMIC_RELAXED);
        view_unref(v);
        drop_expired(all[i], now);
        place_unref(fs, all[i]);
    }
    free(all);
}

void places_release(struct fs *fs) {
    while (fs->places) {
        struct place *p = fs->places;
        fs->places = p->next;
        place_free(p);
    }
}

/* ---- scratch files ---- */

/* The name may be read without the lock: an older one is kept. */
static void push_name(struct scratch *s, const char *name) {
    size_t len = strlen(name);
    struct scratch_name **at = &s->names, *n;
    while (*at && strcmp((*at)->text, name)) at = &(*at)->next;
    n = *at;
    if (n) { /* renamed back */
        *at = n->next;
    } else {
        n = xmalloc(sizeof *n + len + 1);
        memcpy(n->text, name, len + 1);
    }
    n->next = s->names;
    __atomic_store_n(&s->names, n, __ATOMIC_RELEASE);
}

const char *scratch_name(struct scratch *s) {
    return __atomic_load_n(&s->names, __ATOMIC_ACQUIRE)->text;
}

void scratch_rename(struct place *p, struct scratch *s, const char *new_name) {
    struct scratch *there = scratch_find(p, s->dir, new_name);
    if (there && there != s) scratch_unlist(p, there);
    pthread_mutex_lock(&p->lock);
    if (there != s) push_name(s, new_name);
    pthread_mutex_unlock(&p->lock);
    scratch_unref(p, there);
}

void scratch_touch(struct place *p, struct scratch *s, int opens) {
    pthread_mutex_lock(&p->lock);
    s->opens += (unsigned)opens;
    if (!s->hides) s->expires_ms = mono_ms() + SCRATCH_IDLE_MS;
    pthread_mutex_unlock(&p->lock);
}

struct scratch *scratch_new(struct place *p, const char *dir, const char *name) {
    struct scratch *s = xcalloc(1, sizeof *s);
    s->dir = xstrdup(dir);
    push_name(s, name);
    s->fd = -1;
    s->refs = 2;
    s->listed = true;
    s->mode = 0644;
    s->mtime_ms = clock_now_ms(&clock_system);
    struct scratch *old = scratch_find(p, dir, name);
    if (old) {
        scratch_unlist(p, old);
        scratch_unref(p, old);
    }
    pthread_mutex_lock(&p->lock);
    s->next = p->scratch;
    p->scratch = s;
    pthread_mutex_unlock(&p->lock);
    return s;
}

struct scratch *scratch_find(struct place *p, const char *dir, const char *name) {
    pthread_mutex_lock(&p->lock);
    struct scratch *s = p->scratch;
    while (s && (strcmp(s->names->text, name) || strcmp(s->dir, dir))) s = s->next;
    if (s) s->refs++;
    pthread_mutex_unlock(&p->lock);
    return s;
}

void scratch_unlist(struct place *p, struct scratch *s) {
    pthread_mutex_lock(&p->lock);
    bool was = s->listed;
    struct scratch **at = &p->scratch;
    while (*at && *at != s) at = &(*at)->next;
    if (*at) *at = s->next;
    s->listed = false;
    pthread_mutex_unlock(&p->lock);
    if (was) scratch_unref(p, s);
}

void scratch_unref(struct place *p, struct scratch *s) {
    if (!s) return;
    pthread_mutex_lock(&p->lock);
    bool dead = --s->refs == 0;
    pthread_mutex_unlock(&p->lock);
    if (!dead) return;
    if (s->fd >= 0) close(s->fd);
    buf_release(&s->receipt);
    for (struct scratch_name *n = s->names, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    free(s->hides);
    free(s->dir);
    free(s);
}

void scratch_list(struct place *p, const char *dir, struct dir_list *out) {
    pthread_mutex_lock(&p->lock);
    for (struct scratch *s = p->scratch; s; s = s->next)
        if (!strcmp(s->dir, dir)) dir_list_add(out, s->names->text, S_IFREG | s->mode, 0);
    pthread_mutex_unlock(&p->lock);
}

static struct scratch *hiding(struct place *p, const char *doc_name) {
    struct scratch *s = p->scratch;
    while (s && !(s->hides && !strcmp(s->hides, doc_name))) s = s->next;
    return s;
}

bool scratch_hides(struct place *p, const char *doc_name) {
    pthread_mutex_lock(&p->lock);
    bool hidden = hiding(p, doc_name) != NULL;
    pthread_mutex_unlock(&p->lock);
    return hidden;
}

void scratch_unhide(struct place *p, const char *doc_name) {
    pthread_mutex_lock(&p->lock);
    for (struct scratch *s; (s = hiding(p, doc_name)) != NULL; s->hides = NULL) free(s->hides);
    pthread_mutex_unlock(&p->lock);
}

int scratch_open_file(struct call *c, struct scratch *s) {
    struct buf b = BUF_INIT;
    path_make_dir(c->fs->files_dir);
    buf_printf(&b, "%s/staging-XXXXXX", c->fs->files_dir);
    char *path = (char *)buf_str(&b);
    int r = 0, fd = open(c->fs->files_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) unlink(path);
    }
    if (fd < 0)
        r = err_sys(&c->err, errno, "could not make a staging file");
    else
        s->fd = fd;
    buf_release(&b);
    return r;
}
