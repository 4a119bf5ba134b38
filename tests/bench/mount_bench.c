/* The client of a mount, and of a bare disk beside it: one process, plain system calls, the line protocol of
 * bench.h.
 *
 *   specs NAME FILE SUFFIX            names of files, a line each, with SUFFIX behind
 *   read DIR NAME THREADS PASSES      open, read to the end, close of each
 *   stat DIR NAME THREADS PASSES
 *   append FILE COUNT THREADS         COUNT small documents: open, write, close each, as `echo >>` does
 *   sync FILE COUNT THREADS           the same bytes to a plain file: write and fdatasync; a descriptor a
 * thread
 */
#include "bench.h"

enum { MAX_SETS = 16, PATH_SIZE = 8192, READ_SIZE = 1 << 20, DOCUMENT_SIZE = 256 };

struct names {
    char name[64];
    char **paths;
    uint32_t n;
};
struct client {
    struct names sets[MAX_SETS], *set;
    int n_sets;
    const char *dir, *file;
    uint64_t serial; /* of documents: never the same id twice */
    int fds[BENCH_MAX_THREADS];
    char *buffers[BENCH_MAX_THREADS];
    char error[PATH_SIZE + 256];
};

static int fail(struct client *c, const char *what, const char *path) {
    snprintf(c->error, sizeof c->error, "%s %s: %s", what, path, strerror(errno));
    return -1;
}

/* ---- reading ---- */

static int read_file(void *ctx, unsigned thread, uint32_t item) {
    struct client *c = ctx;
    char path[PATH_SIZE];
    ssize_t n;
    if (!c->buffers[thread]) c->buffers[thread] = aligned_alloc(4096, READ_SIZE); /* as cat has it */
    snprintf(path, sizeof path, "%s/%s", c->dir, c->set->paths[item]);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return fail(c, "open", path);
    while ((n = read(fd, c->buffers[thread], READ_SIZE)) > 0) {
    }
    if (n < 0) fail(c, "read", path);
    if (close(fd)) n = fail(c, "close", path);
    return (int)n;
}

static int stat_file(void *ctx, unsigned thread, uint32_t item) {
    struct client *c = ctx;
    char path[PATH_SIZE];
    struct stat st;
    (void)thread;
    snprintf(path, sizeof path, "%s/%s", c->dir, c->set->paths[item]);
    return stat(path, &st) ? fail(c, "stat", path) : 0;
}

/* ---- durable writes ---- */

static int document(struct client *c, char text[DOCUMENT_SIZE]) {
    return snprintf(
        text, DOCUMENT_SIZE,
        "{\"id\":\"w%llu-%d\",\"body\":\"one small document of a hundred bytes or so, to be durable "
        "when close returns\"}\n",
        (unsigned long long)__atomic_fetch_add(&c->serial, 1, __ATOMIC_RELAXED), (int)getpid());
}

static int append_document(void *ctx, unsigned thread, uint32_t item) {
    struct client *c = ctx;
    char text[DOCUMENT_SIZE];
    int len = document(c, text), r = 0;
    (void)thread, (void)item;
    int fd = open(c->file, O_WRONLY | O_APPEND);
    if (fd < 0) return fail(c, "open", c->file);
    if (write(fd, text, (size_t)len) != len) r = fail(c, "write", c->file);
    if (close(fd)) r = fail(c, "close", c->file);
    return r;
}

static int sync_document(void *ctx, unsigned thread, uint32_t item) {
    struct client *c = ctx;
    char text[DOCUMENT_SIZE];
    int len = document(c, text);
    (void)item;
    if (c->fds[thread] < 0) c->fds[thread] = open(c->file, O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (c->fds[thread] < 0 || write(c->fds[thread], text, (size_t)len) != len || fdatasync(c->fds[thread]))
        return fail(c, "write", c->file);
    return 0;
}

static int write_all(struct client *c, char **w, bench_item *run) {
    c->file = w[1];
    for (int i = 0; i < BENCH_MAX_THREADS; i++) c->fds[i] = -1;
    int r = bench_run(run, c, (uint32_t)atoi(w[2]), 1, (unsigned)atoi(w[3]), NULL);
    for (int i = 0; i < BENCH_MAX_THREADS; i++)
        if (c->fds[i] >= 0) close(c->fds[i]);
    return r;
}

/* ---- commands ---- */

static int add_names(struct client *c, char **w) {
    struct names *s = NULL;
    char *line = NULL, *path;
    size_t cap = 0, room = 0;
    ssize_t len;
    FILE *f = fopen(w[2], "r");
    if (!f) return fail(c, "open", w[2]);
    for (int i = 0; i < c->n_sets; i++)
        if (!strcmp(c->sets[i].name, w[1])) s = &c->sets[i];
    if (!s && c->n_sets < MAX_SETS) s = &c->sets[c->n_sets++];
    if (!s) return fail(c, "too many sets:", w[1]);
    s->n = 0;
    s->paths = NULL;
    snprintf(s->name, sizeof s->name, "%s", w[1]);
    while ((len = getline(&line, &cap, f)) > 0) {
        if (line[len - 1] == '\n') line[len - 1] = 0;
        if (s->n == room) s->paths = realloc(s->paths, (room = room * 2 + 64) * sizeof *s->paths);
        if (asprintf(&path, "%s%s", line, w[3] ? w[3] : "") < 0) abort();
        s->paths[s->n++] = path;
    }
    free(line);
    fclose(f);
    printf("{\"n\":%u}\n", s->n);
    return 0;
}

static int read_all(struct client *c, char **w, bench_item *run) {
    c->set = NULL;
    for (int i = 0; i < c->n_sets; i++)
        if (!strcmp(c->sets[i].name, w[2])) c->set = &c->sets[i];
    errno = ENOENT;
    if (!c->set) return fail(c, "set", w[2]);
    c->dir = w[1];
    return bench_run(run, c, c->set->n, (uint32_t)atoi(w[4]), (unsigned)atoi(w[3]), NULL);
}

static void handle(void *ctx, char **w, int n) {
    struct client *c = ctx;
    int r = -1;
    snprintf(c->error, sizeof c->error, "unknown command");
    if (!strcmp(w[0], "specs") && n > 2)
        r = add_names(c, w);
    else if (!strcmp(w[0], "read") && n == 5)
        r = read_all(c, w, read_file);
    else if (!strcmp(w[0], "stat") && n == 5)
        r = read_all(c, w, stat_file);
    else if (!strcmp(w[0], "append") && n == 4)
        r = write_all(c, w, append_document);
    else if (!strcmp(w[0], "sync") && n == 4)
        r = write_all(c, w, sync_document);
    if (r) bench_error(c->error);
}

int main(void) {
    static struct client c;
    c.serial = now_ns();
    bench_serve(handle, &c);
    return 0;
}
