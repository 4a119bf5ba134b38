/* ldbfs load: streams a file into a collection, makes it durable and searchable, says what was refused. */
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fn/decode.h"

enum {
    READ_SIZE = 1 << 20,
    MAX_REASONS = 10,
    PROGRESS_MS = 100,
    BAR_WIDTH = 30,
    SCHEMA_MAX_BYTES = 16 << 20
};

struct load {
    const struct options *opt;
    struct ingest *ingest;
    int fd;
    uint64_t total_bytes, read_bytes; /* total 0: unknown */
    uint64_t accepted, rejected, warned;
    const uint64_t *lines; /* of the records of the batch being added */
    struct ingest_record *records;
    uint64_t *line_memory;
    size_t cap;
    bool progress;
    int64_t start_us, shown_us;
};

static volatile sig_atomic_t interrupted;
static void on_interrupt(int signal) {
    interrupted = signal;
}

/* ---- progress ---- */
static void show_progress(struct load *l, bool last) {
    int64_t now = clock_mono_us(&clock_system);
    if (!l->progress || (!last && now - l->shown_us < PROGRESS_MS * 1000)) return;
    l->shown_us = now;
    double seconds = (double)(now - l->start_us) / 1e6,
           rate = seconds > 0 ? (double)l->read_bytes / seconds / 1e6 : 0;
    if (l->total_bytes) {
        double done = MIN(1.0, (double)l->read_bytes / (double)l->total_bytes);
        char bar[BAR_WIDTH + 1];
        for (int i = 0; i < BAR_WIDTH; i++) bar[i] = i < (int)(done * BAR_WIDTH) ? '#' : '.';
        bar[BAR_WIDTH] = 0;
        fprintf(stderr, "\r[%s] %3d%%  ", bar, (int)(done * 100));
    } else {
        fprintf(stderr, "\r%.1f MB  ", (double)l->read_bytes / 1e6);
    }
    fprintf(stderr, "%" PRIu64 " documents  %.1f MB/s\x1b[K", l->accepted, rate);
    if (last) fputc('\n', stderr);
    fflush(stderr);
}

static void say_line(struct load *l, const char *kind, uint64_t line, const char *text) {
    if (l->progress) fputs("\r\x1b[K", stderr);
    fprintf(stderr, "ldbfs: line %" PRIu64 " %s: %s\n", line, kind, text);
}

/* ---- records ---- */
static void refuse(struct load *l, uint64_t line, const struct err *why) {
    if (l->rejected++ < MAX_REASONS)
        say_line(l, "refused", line, why->text[0] ? why->text : err_name(why->code));
}

static void on_verdict(void *ctx, const struct ingest_verdict *v) {
    struct load *l = ctx;
    if (v->err.code != ERR_NONE) {
        refuse(l, l->lines[v->index], &v->err);
        return;
    }
    if (l->warned++ < MAX_REASONS) say_line(l, "stored with a warning", l->lines[v->index], v->err.text);
}

static int on_batch(void *ctx, const struct decode_record *records, size_t n, struct err *err) {
    struct load *l = ctx;
    size_t good = 0;
    uint64_t accepted = 0;
    if (n > l->cap) {
        l->cap = n;
        l->records = xrealloc(l->records, n * sizeof *l->records);
        l->line_memory = xrealloc(l->line_memory, n * sizeof *l->line_memory);
    }
    for (size_t i = 0; i < n; i++) {
        if (records[i].bad) {
            refuse(l, records[i].line, records[i].bad);
            continue;
        }
        l->records[good] = (struct ingest_record){.data = records[i].data, .len = records[i].len};
        l->line_memory[good++] = records[i].line;
    }
    l->lines = l->line_memory;
    int r = good ? ingest_add(l->ingest, l->records, good, on_verdict, l, &accepted, err) : 0;
    l->accepted += accepted;
    return r;
}

static int feed(struct load *l, struct decoder *d, struct err *err) {
    char *buffer = xmalloc(READ_SIZE);
    int r = 0;
    while (!r && !interrupted) {
        ssize_t n = read(l->fd, buffer, READ_SIZE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) r = err_sys(err, errno, "could not read \"%s\"", l->opt->args[1]);
        if (n <= 0) break;
        l->read_bytes += (uint64_t)n;
        r = decode_write(d, buffer, (size_t)n, err);
        show_progress(l, false);
    }
    if (!r) r = decode_end(d, err);
    free(buffer);
    return r;
}

/* ---- the file and the collection ---- */
static int open_input(struct load *l, enum decode_format *format, enum decode_packing *packing,
                      struct err *err) {
    const char *path = l->opt->args[1];
    struct stat st;
    if (!strcmp(path, "-")) {
        *format = DECODE_LINES;
        *packing = DECODE_PLAIN;
        l->fd = STDIN_FILENO;
        return 0;
    }
    const char *base = strrchr(path, '/');
    if (!decode_name(base ? base + 1 : path, format, packing))
        return err_set(
            err, ERR_INVALID,
            "cannot tell the format of \"%s\": the name must end in .jsonl, .ndjson, .json, .csv or .tsv, "
            "with .gz or .zst behind it if packed",
            path);
    l->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (l->fd < 0) return err_sys(err, errno, "cannot open \"%s\"", path);
    if (!fstat(l->fd, &st) && S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "\"%s\" is a directory", path);
    if (!fstat(l->fd, &st) && S_ISREG(st.st_mode)) l->total_bytes = (uint64_t)st.st_size;
    return 0;
}

static int read_schema(const char *path, struct buf *out, struct err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    if (fd < 0) return err_sys(err, errno, "cannot open \"%s\"", path);
    for (;;) {
        ssize_t n = read(fd, buf_grow(out, 1 << 16), 1 << 16);
        out->len -= (1 << 16) - (size_t)MAX(n, 0);
        if (n < 0) r = err_sys(err, errno, "could not read \"%s\"", path);
        if (n > 0 && out->len > SCHEMA_MAX_BYTES)
            r = err_set(err, ERR_TOO_LARGE, "\"%s\" is too large", path);
        if (n <= 0 || r) break;
    }
    close(fd);
    return r;
}

static int find_or_create(struct load *l, struct engine *e, struct collection_info *c, struct err *err) {
    const char *name = l->opt->args[0];
    struct buf schema = BUF_INIT;
    int r = options_find(e, name, c, err);
    if (r != -ERR_NOT_FOUND) return r;
    if (!l->opt->create) return err_set(err, ERR_NOT_FOUND, "no collection \"%s\": --create makes it", name);
    err_clear(err);
    r = l->opt->schema_file ? read_schema(l->opt->schema_file, &schema, err) : 0;
    if (!r) r = engine_create(e, name, schema.len ? buf_str(&schema) : NULL, c, err);
    if (r == -ERR_EXISTS) { /* somebody else was faster */
        err_clear(err);
        r = options_find(e, name, c, err);
    }
    buf_release(&schema);
    return r;
}

static enum ingest_op op_of(const char *text) {
    if (text && !strcmp(text, "update")) return INGEST_UPDATE;
    return text && !strcmp(text, "delete") ? INGEST_DELETE : INGEST_UPSERT;
}

static void summary(struct load *l, int64_t end_us) {
    double seconds = (double)(end_us - l->start_us) / 1e6;
    if (l->rejected > MAX_REASONS)
        fprintf(stderr, "ldbfs: and %" PRIu64 " more lines refused\n", l->rejected - MAX_REASONS);
    if (!l->opt->quiet)
        printf("%s: %" PRIu64 " accepted, %" PRIu64 " refused, %.2f s, %.1f MB/s\n", l->opt->args[0],
               l->accepted, l->rejected, seconds, seconds > 0 ? (double)l->read_bytes / 1e6 / seconds : 0);
}

/* Decodes and ingests everything, commits what was accepted (also after a failure half way), then builds. */
static int run_load(struct load *l, struct engine *e, struct decoder *d, const char *cid, struct err *err) {
    struct err second = ERR_INIT;
    uint64_t seq;
    int r = feed(l, d, err);
    int c = ingest_commit(l->ingest, r ? &second : err);
    show_progress(l, true);
    if (!r) r = c;
    if (!r && l->accepted) r = engine_build(e, cid, &seq, err);
    if (c) return r;
    summary(l, clock_mono_us(&clock_system));
    return r;
}

int cmd_load(const struct options *opt, struct err *err) {
    struct load l = {.opt = opt, .fd = -1, .progress = !opt->quiet && isatty(STDERR_FILENO)};
    struct engine *e = NULL;
    struct decoder *d = NULL;
    struct collection_info c;
    enum decode_format format;
    enum decode_packing packing;
    struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    int r;

    l.start_us = clock_mono_us(&clock_system);
    if ((r = open_input(&l, &format, &packing, err))) goto out;
    if ((r = options_open(opt, &e, err))) goto out;
    if ((r = find_or_create(&l, e, &c, err))) goto out;
    if ((r = engine_ingest_open(e, c.cid, op_of(opt->op), &l.ingest, err))) goto out;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    d = decode_new(format, packing, on_batch, &l);
    r = run_load(&l, e, d, c.cid, err);
    if (!r && interrupted) r = EXIT_INTERRUPTED;
    if (!r && l.rejected) r = EXIT_FAILED;
out:
    decode_free(d);
    if (l.ingest) ingest_close(l.ingest);
    engine_close(e);
    if (l.fd > 0) close(l.fd);
    free(l.records);
    free(l.line_memory);
    return r;
}
