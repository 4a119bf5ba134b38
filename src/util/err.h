/* Errors: a code that steers and a text that explains.
 *
 * Every function that can fail returns 0 or a negative code (-ERR_x) and takes a struct err * as its last
 * parameter (NULL allowed: the text is dropped). The text is set where the reason is known; callers add
 * context with err_wrap and never overwrite. Codes are translated once per boundary (src/fs/errno.c to
 * errno).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum err_code {
    ERR_NONE = 0,
    ERR_JSON,        /* malformed JSON or an unusable record: EBADMSG */
    ERR_INVALID,     /* bad query, schema, value, option: EINVAL */
    ERR_DIMENSION,   /* vector of the wrong size: EDOM */
    ERR_TOO_LARGE,   /* EMSGSIZE */
    ERR_NOT_FOUND,   /* ENOENT */
    ERR_EXISTS,      /* EEXIST */
    ERR_READ_ONLY,   /* EROFS */
    ERR_PERM,        /* EPERM */
    ERR_NO_KEY,      /* ENOKEY */
    ERR_BAD_KEY,     /* EACCES */
    ERR_EXPIRED_KEY, /* EKEYEXPIRED */
    ERR_QUOTA,       /* EDQUOT */
    ERR_RATE,        /* EBUSY */
    ERR_BUSY,        /* somebody else holds it now, try again: EBUSY */
    ERR_UNREACHABLE, /* EHOSTUNREACH */
    ERR_TIMEOUT,     /* ETIMEDOUT */
    ERR_CONFLICT,    /* lost a conditional update: ECANCELED */
    ERR_NO_SPACE,    /* ENOSPC */
    ERR_NO_MEMORY,   /* ENOMEM */
    ERR_CANCELED,    /* the caller asked to stop: EINTR */
    ERR_CORRUPT,     /* checksum or format mismatch: EUCLEAN */
    ERR_IO,          /* the backend failed for another reason: EREMOTEIO */
    ERR_UNSUPPORTED, /* EOPNOTSUPP */
    ERR_AGAIN, /* inside the engine only: bytes are not here yet, and were put on a list (index/fetch.h) */
    ERR_CODE_COUNT
};

struct err {
    enum err_code code;
    uint32_t line, column; /* place in the input, from 1; 0 = unknown */
    char text[480];
};

#define ERR_INIT                                                                                             \
    { .code = ERR_NONE }

/* Sets code and text; returns -code. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As err_set, with the place in the input. */
int err_at(struct err *err, enum err_code code, uint32_t line, uint32_t column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Sets code from an errno value, text "<fmt>: <strerror>"; returns -code. */
int err_sys(struct err *err, int sys_errno, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "<fmt>: " before the text; returns -code of the error inside (or -ERR_IO if there is none). */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_clear(struct err *err);
/* How many bytes of a text of the user to show in a message ("%.*s"): at most 80, never half a character. */
static inline int err_shown(const char *s, size_t len) {
    size_t n = len < 80 ? len : 80;
    while (n && n < len && ((unsigned char)s[n] & 0xc0) == 0x80) n--;
    return (int)n;
}
/* The code's own name, "not found"; never NULL. */
const char *err_name(enum err_code code);
