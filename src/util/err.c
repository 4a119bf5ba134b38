/* Error codes, texts, and errno values as codes. */
#include "util/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[ERR_CODE_COUNT] = {
    [ERR_NONE] = "success",
    [ERR_JSON] = "bad JSON",
    [ERR_INVALID] = "invalid",
    [ERR_DIMENSION] = "wrong vector dimension",
    [ERR_TOO_LARGE] = "too large",
    [ERR_NOT_FOUND] = "not found",
    [ERR_EXISTS] = "exists",
    [ERR_READ_ONLY] = "read-only",
    [ERR_PERM] = "not permitted",
    [ERR_NO_KEY] = "no key",
    [ERR_BAD_KEY] = "wrong key",
    [ERR_EXPIRED_KEY] = "expired key",
    [ERR_QUOTA] = "quota exceeded",
    [ERR_RATE] = "rate limit",
    [ERR_BUSY] = "busy",
    [ERR_UNREACHABLE] = "unreachable",
    [ERR_TIMEOUT] = "timed out",
    [ERR_CONFLICT] = "lost a conditional update",
    [ERR_NO_SPACE] = "no space",
    [ERR_NO_MEMORY] = "no memory",
    [ERR_CANCELED] = "canceled",
    [ERR_CORRUPT] = "corrupt",
    [ERR_IO] = "I/O error",
    [ERR_UNSUPPORTED] = "unsupported",
    [ERR_AGAIN] = "not read yet",
};

static int set_va(struct err *err, enum err_code code, uint32_t line, uint32_t column, const char *fmt,
                  va_list ap) {
    if (err) {
        err->code = code;
        err->line = line;
        err->column = column;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
    }
    return -(int)code;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int r = set_va(err, code, 0, 0, fmt, ap);
    va_end(ap);
    return r;
}

int err_at(struct err *err, enum err_code code, uint32_t line, uint32_t column, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int r = set_va(err, code, line, column, fmt, ap);
    va_end(ap);
    return r;
}

static enum err_code code_of_errno(int e) {
    switch (e) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EROFS:
        return ERR_READ_ONLY;
    case EACCES:
    case EPERM:
        return ERR_PERM;
    case ENOSPC:
        return ERR_NO_SPACE;
    case EDQUOT:
        return ERR_QUOTA;
    case ENOMEM:
        return ERR_NO_MEMORY;
    case EMFILE: /* too many open files: some will be closed */
    case ENFILE:
        return ERR_BUSY;
    case EINTR:
        return ERR_CANCELED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    default:
        return ERR_IO;
    }
}

int err_sys(struct err *err, int sys_errno, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int r = set_va(err, code_of_errno(sys_errno), 0, 0, fmt, ap);
    va_end(ap);
    if (err) {
        size_t n = strlen(err->text);
        snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(sys_errno));
    }
    return r;
}

int err_wrap(struct err *err, const char *fmt, ...) {
    if (!err) return -ERR_IO;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(err->text);
    snprintf(err->text + n, sizeof err->text - n, ": %s", old);
    return err->code ? -(int)err->code : -ERR_IO;
}

void err_clear(struct err *err) {
    if (!err) return;
    err->code = ERR_NONE;
    err->line = err->column = 0;
    err->text[0] = 0;
}

const char *err_name(enum err_code code) {
    return code < ERR_CODE_COUNT && names[code] ? names[code] : "unknown error";
}
