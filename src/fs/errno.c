/* The only error -> errno table, and the log of recent errors. */
#include "errors.h"
#include "util/clock.h"
#include "util/jval.h"
#include "util/proc.h"

#include <errno.h>
#include <stdio.h>

static const struct {
    int value;
    const char *name, *hint;
} table[ERR_CODE_COUNT] = {
    [ERR_NONE] = {0, "OK", ""},
    [ERR_JSON] = {EBADMSG, "EBADMSG", "see ingest/rejects for the refused lines and their reasons"},
    [ERR_INVALID] = {EINVAL, "EINVAL", "correct the value; README.md shows working commands"},
    [ERR_DIMENSION] = {EDOM, "EDOM", "schema.json says how many dimensions the vector field has"},
    [ERR_TOO_LARGE] = {EMSGSIZE, "EMSGSIZE", "one document has at most 5 MB"},
    [ERR_NOT_FOUND] = {ENOENT, "ENOENT", "list the directory to see what there is"},
    [ERR_EXISTS] = {EEXIST, "EEXIST", "choose another name or remove what is there"},
    [ERR_READ_ONLY] = {EROFS, "EROFS", "a snapshot cannot change: copy or clone it (mv SNAPSHOT NEW)"},
    [ERR_PERM] = {EPERM, "EPERM", "this is not possible at this path"},
    [ERR_NO_KEY] = {ENOKEY, "ENOKEY", "give an API key"},
    [ERR_BAD_KEY] = {EACCES, "EACCES", "check the API key"},
    [ERR_EXPIRED_KEY] = {EKEYEXPIRED, "EKEYEXPIRED", "renew the API key"},
    [ERR_QUOTA] = {EDQUOT, "EDQUOT", "remove data or raise the quota"},
    [ERR_RATE] = {EBUSY, "EBUSY", "try again more slowly"},
    [ERR_BUSY] = {EBUSY, "EBUSY", "try again"},
    [ERR_UNREACHABLE] = {EHOSTUNREACH, "EHOSTUNREACH", "it cannot be reached now: try again later"},
    [ERR_TIMEOUT] = {ETIMEDOUT, "ETIMEDOUT", "ask for less, or raise timeout="},
    [ERR_CONFLICT] = {ECANCELED, "ECANCELED", "somebody else changed it at the same time: try again"},
    [ERR_NO_SPACE] = {ENOSPC, "ENOSPC", "the disk of the data directory is full"},
    [ERR_NO_MEMORY] = {ENOMEM, "ENOMEM", "not enough memory"},
    [ERR_CANCELED] = {EINTR, "EINTR", "it was interrupted"},
    [ERR_CORRUPT] = {EUCLEAN, "EUCLEAN", "stored data is damaged: run `ldbfs check`"},
    [ERR_IO] = {EREMOTEIO, "EREMOTEIO", "see .ldbfs/log"},
    [ERR_UNSUPPORTED] = {EOPNOTSUPP, "EOPNOTSUPP", "this is not supported here"},
    [ERR_AGAIN] = {EREMOTEIO, "EREMOTEIO", "something of the storage was not read"},
};

int errno_of(enum err_code code) {
    return (unsigned)code < ERR_CODE_COUNT ? table[code].value : EREMOTEIO;
}

const char *errno_name(int e) {
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].value == e) return table[i].name;
    return "EREMOTEIO";
}

void error_log_init(struct error_log *l) {
    *l = (struct error_log){0};
    pthread_mutex_init(&l->lock, NULL);
}

void error_log_release(struct error_log *l) {
    for (size_t i = 0; i < ERROR_LOG_LINES; i++) free(l->lines[i]);
}

/* Bytes that may not be UTF-8 (a path, a command name) as a JSON string. */
static void add_text(struct buf *b, const char *s) {
    size_t n = strlen(s), bad;
    struct buf clean = BUF_INIT;
    while ((bad = utf8_invalid(s, n)) != 0) {
        buf_add(&clean, s, bad - 1);
        buf_adds(&clean, "?");
        s += bad;
        n -= bad;
    }
    buf_add(&clean, s, n);
    buf_add_json_string(b, (const char *)clean.data, clean.len);
    buf_release(&clean);
}

static void command_of(pid_t pid, char out[64]) {
    proc_read((int)pid, "comm", out, 64);
    out[strcspn(out, "\n")] = 0;
}

void error_log_add(struct error_log *l, const char *path, pid_t pid, const char *op, int e,
                   const struct err *err, const char *hint) {
    char time[TIME_TEXT_SIZE], command[64];
    int64_t now = clock_now_ms(&clock_system);
    time_to_iso(now, time);
    command_of(pid, command);
    if (!hint && (unsigned)err->code < ERR_CODE_COUNT) hint = table[err->code].hint;
    struct buf b = BUF_INIT;
    buf_printf(&b, "{\"time\":\"%s\",\"path\":", time);
    add_text(&b, path);
    buf_printf(&b, ",\"op\":\"%s\",\"pid\":%d,\"command\":", op, (int)pid);
    add_text(&b, command);
    buf_printf(&b, ",\"errno\":\"%s\",\"message\":", errno_name(e));
    add_text(&b, err->text[0] ? err->text : err_name(err->code));
    if (err->line) buf_printf(&b, ",\"line\":%u", err->line);
    if (err->column) buf_printf(&b, ",\"column\":%u", err->column);
    if (hint && *hint) {
        buf_adds(&b, ",\"hint\":");
        add_text(&b, hint);
    }
    buf_adds(&b, "}\n");
    buf_str(&b);
    pthread_mutex_lock(&l->lock);
    char **slot = &l->lines[l->n++ % ERROR_LOG_LINES];
    free(*slot);
    *slot = (char *)buf_detach(&b, NULL);
    l->newest_ms = now;
    pthread_mutex_unlock(&l->lock);
}

void error_log_text(struct error_log *l, struct buf *out, int64_t *ret_newest_ms) {
    pthread_mutex_lock(&l->lock);
    uint64_t from = l->n > ERROR_LOG_LINES ? l->n - ERROR_LOG_LINES : 0;
    for (uint64_t i = from; i < l->n; i++) buf_adds(out, l->lines[i % ERROR_LOG_LINES]);
    *ret_newest_ms = l->newest_ms;
    pthread_mutex_unlock(&l->lock);
}
