/* Errors towards the user: errno values (errno.c is the only table) and the recent ones as errors.jsonl. */
#pragma once
#include "util/buf.h"
#include "util/err.h"

#include <pthread.h>
#include <sys/types.h>

/* The errno value of an error code (positive). */
int errno_of(enum err_code code);
/* "EINVAL"; never NULL. */
const char *errno_name(int e);

enum { ERROR_LOG_LINES = 200 };
struct error_log {
    pthread_mutex_t lock;
    char *lines[ERROR_LOG_LINES]; /* ring of JSON lines */
    uint64_t n;                   /* ever added */
    int64_t newest_ms;
};
void error_log_init(struct error_log *l);
void error_log_release(struct error_log *l);
/* One failed operation. hint: what to do; NULL = by the code. */
void error_log_add(struct error_log *l, const char *path, pid_t pid, const char *op, int e,
                   const struct err *err, const char *hint);
/* All lines, oldest first. */
void error_log_text(struct error_log *l, struct buf *out, int64_t *ret_newest_ms);
