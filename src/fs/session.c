/* Ingest sessions: bytes -> decoder -> engine, and what is told about it when. */
#include "ingest.h"
#include "path.h"
#include "receipt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { FILE_PIECE = 1 << 20, DROPPED_SHOWN_MS = 60000 };

struct session {
    struct fs *fs;
    struct place *place;
    struct ingest *in;
    struct decoder *decoder;
    struct receipt receipt;
    struct ingest_record *records;
    size_t records_cap;
    uint64_t total_accepted; /* of the handle, for the rule about failing writes */
    uint64_t total_bytes;
    uint64_t last_seq_told;
    uint64_t write_accepted, write_refused;
    struct err first_refused; /* of the current write */
    struct err untold;        /* the first refused record that no flush has reported */
    struct err lost;          /* a receipt or refused lines that could not be kept; nobody was told yet */
    bool dirty;               /* bytes since the last commit */
    bool cut_kept;            /* the incomplete rest has been reported already */
    const struct decode_record *batch;
};

static void refuse(struct session *s, const struct decode_record *rec, const struct err *why) {
    struct err err = ERR_INIT;
    size_t header_len;
    const char *header = decode_header(s->decoder, &header_len);
    s->write_refused++;
    if (!s->first_refused.code) s->first_refused = *why;
    if (!s->untold.code) {
        s->untold = *why;
        if (!s->untold.line) s->untold.line = (uint32_t)rec->line;
    }
    if (!receipt_reject(s->fs, s->place, &s->receipt, rec, why, header, header_len, &err)) return;
    err_wrap(&err, "refused lines of '%.200s' are lost", s->receipt.file);
    if (!s->lost.code) s->lost = err;
}

static void on_verdict(void *ctx, const struct ingest_verdict *v) {
    struct session *s = ctx;
    const struct decode_record *rec = &s->batch[v->index];
    if (v->err.code == ERR_NONE) {
        receipt_note(&s->receipt, rec->line, v->err.text);
        return;
    }
    refuse(s, rec, &v->err);
}

static int on_batch(void *ctx, const struct decode_record *records, size_t n, struct err *err) {
    struct session *s = ctx;
    if (n == 1 && records[0].bad) {
        refuse(s, &records[0], records[0].bad);
        return 0;
    }
    if (n > s->records_cap) {
        s->records = xrealloc(s->records, n * sizeof *s->records);
        s->records_cap = n;
    }
    for (size_t i = 0; i < n; i++) s->records[i] = (struct ingest_record){records[i].data, records[i].len};
    uint64_t accepted = 0;
    s->batch = records;
    int r = ingest_add(s->in, s->records, n, on_verdict, s, &accepted, err);
    s->batch = NULL;
    if (r) return r;
    s->write_accepted += accepted;
    s->total_accepted += accepted;
    s->receipt.accepted += accepted;
    return 0;
}

int session_open(struct call *c, struct place *p, enum ingest_op op, const char *file, bool target,
                 enum decode_format format, enum decode_packing packing, struct session **ret) {
    struct ingest *in;
    int r = engine_ingest_open(c->fs->engine, p->cid, op, &in, &c->err);
    if (r) return r;
    struct session *s = xcalloc(1, sizeof *s);
    s->fs = c->fs;
    s->place = place_ref(p);
    s->in = in;
    s->decoder = decode_new(format, packing, on_batch, s);
    receipt_init(&s->receipt, file, op, target, format);
    *ret = s;
    return 0;
}

/* Feeds bytes; an error is one of the log or of the packing, not of records. */
static int feed(struct call *c, struct session *s, const char *data, size_t len) {
    s->write_accepted = s->write_refused = 0;
    err_clear(&s->first_refused);
    s->dirty = true;
    s->receipt.bytes += len;
    s->total_bytes += len;
    if (s->cut_kept) { /* it was not the end after all */
        s->cut_kept = false;
        if (s->receipt.rejected) s->receipt.rejected--;
    }
    int r = decode_write(s->decoder, data, len, &c->err);
    if (r && !s->receipt.error.code) {
        s->receipt.error = c->err;
        if (!s->untold.code) s->untold = c->err;
    }
    return r;
}

bool session_waits(const struct session *s) {
    return ingest_waits(s->in);
}

int session_write(struct call *c, struct session *s, const char *data, size_t len) {
    if (ingest_waits(s->in)) loop_will_block(s->fs->loop);
    int r = feed(c, s, data, len);
    if (r) return r;
    if (!s->write_refused || s->write_accepted || s->total_accepted) return 0;
    c->err = s->first_refused;
    return -(int)c->err.code;
}

static int commit(struct call *c, struct session *s) {
    int r = ingest_commit(s->in, &c->err);
    if (r && !s->receipt.error.code) s->receipt.error = c->err;
    if (!r) s->dirty = false;
    return r;
}

static void write_receipt(struct session *s) {
    uint64_t first = 0, last = 0;
    ingest_range(s->in, &first, &last);
    s->receipt.first_seq = s->receipt.target && s->last_seq_told >= first ? s->last_seq_told + 1 : first;
    s->receipt.last_seq = last;
    if (!s->receipt.accepted) s->receipt.first_seq = s->receipt.last_seq = 0;
    s->last_seq_told = last;
    struct err err = ERR_INIT;
    if (receipt_write(s->fs, s->place, &s->receipt, &err) && !s->lost.code) s->lost = err;
}

/* A line in errors.jsonl for what close does not answer. */
static void note_lost(struct call *c, struct session *s) {
    struct buf path = BUF_INIT;
    if (!s->lost.code) return;
    pthread_mutex_lock(&s->fs->places_lock);
    buf_printf(&path, "%s/ingest/%s", s->place->name, s->receipt.file);
    pthread_mutex_unlock(&s->fs->places_lock);
    error_log_add(&s->fs->errors, buf_str(&path), c->pid, "close", errno_of(s->lost.code), &s->lost, NULL);
    buf_release(&path);
    err_clear(&s->lost);
}

static void keep_cut(struct session *s) {
    struct decode_record rec;
    if (s->cut_kept || !decode_rest(s->decoder, &rec)) return;
    refuse(s, &rec, rec.bad);
    s->cut_kept = true;
}

int session_flush(struct call *c, struct session *s, bool own) {
    bool cut = false;
    if (!s->dirty && !s->untold.code && !s->lost.code) return 0;
    if (own && s->dirty) {
        int r = decode_pause(s->decoder, &cut, &c->err);
        if (r && !s->receipt.error.code) s->receipt.error = c->err;
        if (!r && cut) keep_cut(s);
    }
    bool was_dirty = s->dirty;
    int r = was_dirty ? commit(c, s) : 0;
    if (was_dirty && own) write_receipt(s);
    if (!own) {
        err_clear(&c->err);
        return 0;
    }
    struct err *answer = s->untold.code ? &s->untold : &s->lost;
    if (!r && answer->code) {
        c->err = *answer;
        c->hint = NULL;
        err_clear(answer);
        r = -(int)c->err.code;
    }
    note_lost(c, s);
    return r;
}

int session_sync(struct call *c, struct session *s) {
    return s->dirty ? ingest_commit(s->in, &c->err) : 0;
}

void session_close(struct call *c, struct session *s) {
    if (!s) return;
    bool due = s->receipt.target ? s->receipt.bytes > 0 : s->dirty;
    if (!s->cut_kept) decode_end(s->decoder, &c->err);
    if (s->dirty && commit(c, s)) s->lost = c->err;
    if (due) write_receipt(s);
    note_lost(c, s);
    ingest_close(s->in);
    decode_free(s->decoder);
    receipt_release(&s->receipt);
    place_unref(s->fs, s->place);
    free(s->records);
    free(s);
}

void session_show(struct session *s, struct scratch *entry) {
    receipt_show(&s->receipt, entry);
}

enum ingest_op ingest_op_of_rejects(const char *name) {
    static const struct {
        const char *prefix;
        enum ingest_op op;
    } ops[] = {{"update-", INGEST_UPDATE}, {"delete-", INGEST_DELETE}};
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        size_t n = strlen(ops[i].prefix), digits = strspn(name + MIN(n, strlen(name)), "0123456789T");
        if (!strncmp(name, ops[i].prefix, n) && digits == 13 && !strcmp(name + n + 13, ".jsonl"))
            return ops[i].op;
    }
    return INGEST_UPSERT;
}

static int feed_file(struct call *c, struct session *s, int fd) {
    char *piece = xmalloc(FILE_PIECE);
    off_t at = 0;
    int r = 0;
    for (;;) {
        ssize_t n = pread(fd, piece, FILE_PIECE, at);
        if (n < 0) r = err_sys(&c->err, errno, "cannot read the staging file");
        if (n <= 0 || r) break;
        at += n;
        r = feed(c, s, piece, (size_t)n);
        if (r) break;
    }
    free(piece);
    return r;
}

int ingest_file(struct call *c, struct node *dir, const char *name, int fd, enum ingest_op op) {
    enum decode_format format;
    enum decode_packing packing;
    struct session *s;
    if (!decode_name(name, &format, &packing))
        return call_fail(c, ERR_PERM, "names end in .jsonl .ndjson .json .csv .tsv, then .zst or .gz",
                         "'%s' is no name for a file of documents", name);
    int r = session_open(c, dir->place, op, name, false, format, packing, &s);
    if (r) return r;
    r = feed_file(c, s, fd);
    int f = session_flush(c, s, true);
    if (!r) r = f;
    struct scratch *dropped = scratch_new(dir->place, "ingest", name);
    pthread_mutex_lock(&dir->place->lock);
    dropped->size = s->total_bytes;
    session_show(s, dropped);
    dropped->expires_ms = mono_ms() + DROPPED_SHOWN_MS;
    pthread_mutex_unlock(&dir->place->lock);
    scratch_unref(dir->place, dropped);
    struct call quiet = {.fs = c->fs};
    session_close(&quiet, s);
    return r;
}
