/* Receipts and rejects in DATA/files/<cid>/. */
#include "receipt.h"
#include "util/jval.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { KEEP_FILES = 2000, KEEP_DAYS = 30, PRUNE_EVERY_MS = 60000, NAME_TRIES = 1000 };

static const char *op_name(enum ingest_op op) {
    return op == INGEST_UPSERT ? "upsert" : op == INGEST_UPDATE ? "update" : "delete";
}

void receipt_init(struct receipt *r, const char *file, enum ingest_op op, bool target,
                  enum decode_format format) {
    *r = (struct receipt){.file = xstrdup(file),
                          .op = op_name(op),
                          .target = target,
                          .format = format,
                          .started_ms = clock_now_ms(&clock_system),
                          .rejects_fd = -1,
                          .reasons_fd = -1};
}

void receipt_release(struct receipt *r) {
    if (r->rejects_fd >= 0) close(r->rejects_fd);
    if (r->reasons_fd >= 0) close(r->reasons_fd);
    buf_release(&r->notes);
    free(r->rejects_name);
    free(r->file);
}

void receipt_note(struct receipt *r, uint64_t line, const char *text) {
    r->warnings++;
    if (r->n_notes >= RECEIPT_NOTES_MAX) return;
    if (r->n_notes++) buf_adds(&r->notes, ", ");
    buf_printf(&r->notes, "{\"line\": %llu, \"text\": ", (unsigned long long)line);
    buf_add_json_string(&r->notes, text, strlen(text));
    buf_adds(&r->notes, "}");
}

/* Sessions of one append target share a file per minute. */
static void minute_name(const struct receipt *r, char out[64]) {
    time_t t = (time_t)(r->started_ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    char time_part[24];
    strftime(time_part, sizeof time_part, "%Y%m%dT%H%M", &tm);
    snprintf(out, 64, "%s-%s.jsonl", r->op, time_part);
}

/* "dump.csv.zst" -> "dump.csv", the n-th: "dump.2.csv". */
static char *reject_name(const char *file, int n) {
    size_t len = strlen(file);
    if (len > 4 && !strcmp(file + len - 4, ".zst"))
        len -= 4;
    else if (len > 3 && !strcmp(file + len - 3, ".gz"))
        len -= 3;
    const char *ext = memrchr(file, '.', len);
    size_t stem = ext ? (size_t)(ext - file) : len;
    if (stem > 200) stem = 200;
    struct buf b = BUF_INIT;
    buf_add(&b, file, stem);
    if (n > 1) buf_printf(&b, ".%d", n);
    if (ext) buf_add(&b, ext, len - (size_t)(ext - file));
    buf_str(&b);
    return (char *)buf_detach(&b, NULL);
}

static int open_rejects(struct fs *fs, struct place *p, struct receipt *r, struct err *err) {
    char *dir = place_dir(fs, p, "rejects"), minute[64];
    struct buf path = BUF_INIT;
    minute_name(r, minute);
    for (int n = 1; r->rejects_fd < 0 && n < NAME_TRIES; n++) {
        free(r->rejects_name);
        r->rejects_name = r->target ? xstrdup(minute) : reject_name(r->file, n);
        buf_clear(&path);
        buf_printf(&path, "%s/%s", dir, r->rejects_name);
        r->rejects_fd =
            open(buf_str(&path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (r->target ? 0 : O_EXCL), 0644);
        if (r->rejects_fd < 0 && errno != EEXIST) break;
    }
    if (r->rejects_fd >= 0) {
        buf_adds(&path, ".reasons.jsonl");
        r->reasons_fd = open(buf_str(&path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    int e = r->reasons_fd < 0 ? err_sys(err, errno, "could not open it") : 0;
    if (e && r->rejects_fd >= 0) { /* the next one tries both again */
        close(r->rejects_fd);
        r->rejects_fd = -1;
    }
    buf_release(&path);
    free(dir);
    return e;
}

static int write_all(int fd, const struct buf *b, struct err *err) {
    for (size_t at = 0; at < b->len;) {
        ssize_t n = write(fd, b->data + at, b->len - at);
        if (n < 0) return err_sys(err, errno, "could not write it");
        at += (size_t)n;
    }
    return 0;
}

static void add_raw(struct receipt *r, const struct decode_record *rec, struct buf *b) {
    size_t from = b->len, n = rec->sha256 ? MIN(rec->raw_len, DECODE_KEEP) : rec->raw_len;
    buf_add(b, rec->raw, n);
    bool by_line = r->target || r->format == DECODE_LINES;
    for (size_t i = from; by_line && i < b->len; i++)
        if (b->data[i] == '\n') b->data[i] = ' ';
    buf_adds(b, "\n");
}

int receipt_reject(struct fs *fs, struct place *p, struct receipt *r, const struct decode_record *rec,
                   const struct err *why, const char *header, size_t header_len, struct err *err) {
    r->rejected++;
    int e = r->reasons_fd < 0 ? open_rejects(fs, p, r, err) : 0;
    if (e) return e;
    struct buf b = BUF_INIT;
    if (header && !r->header_written) {
        buf_add(&b, header, header_len);
        buf_adds(&b, "\n");
    }
    r->header_written = true;
    if (rec->raw_len) add_raw(r, rec, &b);
    e = write_all(r->rejects_fd, &b, err);
    buf_clear(&b);
    buf_printf(&b, "{\"file\":");
    if (utf8_invalid(r->file, strlen(r->file)))
        buf_adds(&b, "null");
    else
        buf_add_json_string(&b, r->file, strlen(r->file));
    buf_printf(&b, ",\"line\":%llu,\"error\":\"%s\",\"reason\":", (unsigned long long)rec->line,
               errno_name(errno_of(why->code)));
    if (utf8_invalid(why->text, strlen(why->text)))
        buf_adds(&b, "null");
    else
        buf_add_json_string(&b, why->text, strlen(why->text));
    if (why->column) buf_printf(&b, ",\"column\":%u", why->column);
    if (rec->sha256)
        buf_printf(&b, ",\"bytes\":%llu,\"sha256\":\"%s\"", (unsigned long long)rec->full_len, rec->sha256);
    buf_adds(&b, "}\n");
    if (!e) e = write_all(r->reasons_fd, &b, err);
    buf_release(&b);
    return e;
}

static void add_member(struct buf *b, bool pretty, const char *name) {
    buf_adds(b, b->data[b->len - 1] == '{' ? "" : ",");
    buf_adds(b, pretty ? "\n  " : b->data[b->len - 1] == '{' ? "" : " ");
    buf_printf(b, "\"%s\": ", name);
}

static void add_number(struct buf *b, bool pretty, const char *name, uint64_t value) {
    add_member(b, pretty, name);
    buf_printf(b, "%llu", (unsigned long long)value);
}

static void add_string(struct buf *b, bool pretty, const char *name, const char *value) {
    add_member(b, pretty, name);
    if (utf8_invalid(value, strlen(value)))
        buf_adds(b, "null");
    else
        buf_add_json_string(b, value, strlen(value));
}

void receipt_text(const struct receipt *r, bool pretty, struct buf *b) {
    char started[TIME_TEXT_SIZE], finished[TIME_TEXT_SIZE];
    time_to_iso(r->started_ms, started);
    time_to_iso(r->finished_ms, finished);
    buf_adds(b, "{");
    add_string(b, pretty, "file", r->file);
    add_string(b, pretty, "op", r->op);
    add_number(b, pretty, "accepted", r->accepted);
    add_number(b, pretty, "rejected", r->rejected);
    add_number(b, pretty, "warnings", r->warnings);
    add_number(b, pretty, "bytes", r->bytes);
    add_number(b, pretty, "first_seq", r->first_seq);
    add_number(b, pretty, "last_seq", r->last_seq);
    add_string(b, pretty, "started", started);
    add_string(b, pretty, "finished", finished);
    if (r->rejects_name) {
        struct buf name = BUF_INIT;
        buf_printf(&name, "rejects/%s", r->rejects_name);
        add_string(b, pretty, "rejects", buf_str(&name));
        buf_release(&name);
    }
    if (r->error.code) add_string(b, pretty, "error", r->error.text);
    if (r->n_notes) {
        add_member(b, pretty, "notes");
        buf_printf(b, "[%.*s]", (int)r->notes.len, (const char *)r->notes.data);
    }
    buf_adds(b, pretty ? "\n}\n" : "}\n");
}

void receipt_show(const struct receipt *r, struct scratch *s) {
    buf_clear(&s->receipt);
    receipt_text(r, false, &s->receipt);
    s->size = MAX(s->size, s->receipt.len);
    s->dropped = true;
}

void receipt_read(const struct scratch *s, uint64_t offset, size_t size, struct buf *out) {
    if (!s->dropped || offset >= s->size) return;
    size = (size_t)MIN(size, s->size - offset);
    size_t text = s->receipt.len - 1, from = out->len; /* the newline goes to the very end */
    memset(buf_grow(out, size), ' ', size);
    if (offset < text) memcpy(out->data + from, s->receipt.data + offset, MIN(size, text - (size_t)offset));
    if (offset + size == s->size) out->data[out->len - 1] = '\n';
}

struct aged {
    char *name;
    int64_t ms;
};

static int by_age(const void *a, const void *b) {
    const struct aged *x = a, *y = b;
    return x->ms < y->ms ? -1 : x->ms > y->ms;
}

/* Both directories are bounded by age and by count, the oldest going first. */
static void prune(const char *path) {
    struct aged *files = NULL;
    size_t n = 0, cap = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW)) continue;
        VEC_GROW(files, n, cap);
        files[n++] = (struct aged){xstrdup(e->d_name), (int64_t)st.st_mtim.tv_sec * 1000};
    }
    if (n) qsort(files, n, sizeof *files, by_age);
    int64_t oldest = clock_now_ms(&clock_system) - (int64_t)KEEP_DAYS * 86400000;
    for (size_t i = 0; i < n; i++) {
        if (files[i].ms < oldest || n - i > KEEP_FILES) unlinkat(dirfd(d), files[i].name, 0);
        free(files[i].name);
    }
    free(files);
    if (d) closedir(d);
}

static void prune_sometimes(struct fs *fs, struct place *p) {
    static int64_t last; /* any place: a full directory waits for its turn */
    int64_t now = mono_ms(), before = __atomic_load_n(&last, __ATOMIC_RELAXED);
    if (before && now - before < PRUNE_EVERY_MS) return;
    if (!__atomic_compare_exchange_n(&last, &before, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    const char *const subs[] = {"receipts", "rejects"};
    for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
        char *dir = place_dir(fs, p, subs[i]);
        prune(dir);
        free(dir);
    }
}

static int write_file(const char *path, int flags, const struct buf *b, struct err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    int r = fd < 0 ? err_sys(err, errno, "could not open it") : write_all(fd, b, err);
    if (fd >= 0 && close(fd) && !r) r = err_sys(err, errno, "could not close it");
    return r;
}

static int replace_file(const char *path, const struct buf *b, struct err *err) {
    struct buf tmp = BUF_INIT;
    buf_printf(&tmp, "%s.tmp%d", path, (int)gettid());
    int r = write_file(buf_str(&tmp), O_TRUNC, b, err);
    if (!r && rename(buf_str(&tmp), path)) r = err_sys(err, errno, "could not rename it");
    if (r) unlink(buf_str(&tmp));
    buf_release(&tmp);
    return r;
}

int receipt_write(struct fs *fs, struct place *p, struct receipt *r, struct err *err) {
    char *dir = place_dir(fs, p, "receipts"), minute[64];
    struct buf path = BUF_INIT, text = BUF_INIT;
    r->finished_ms = clock_now_ms(&clock_system);
    receipt_text(r, !r->target, &text);
    minute_name(r, minute);
    if (r->target)
        buf_printf(&path, "%s/%s", dir, minute);
    else
        buf_printf(&path, "%s/%.240s.json", dir, r->file);
    int e = r->target ? write_file(buf_str(&path), O_APPEND, &text, err)
                      : replace_file(buf_str(&path), &text, err);
    if (e) err_wrap(err, "the receipt of '%.200s' is lost", r->file);
    if (r->target) {
        r->accepted = r->rejected = r->warnings = r->bytes = r->first_seq = r->last_seq = 0;
        r->started_ms = r->finished_ms;
        buf_clear(&r->notes);
        r->n_notes = 0;
    }
    buf_release(&path);
    buf_release(&text);
    free(dir);
    prune_sometimes(fs, p);
    return e;
}
