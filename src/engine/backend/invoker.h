/* Function invocation: runs one of the system's functions on a request and gives its answer. In-process
 * thread pool here; Lambda Invoke on AWS (which encodes the envelopes: they hold plain data only).
 *
 * invoke_all runs n calls of one function concurrently and returns when all have ended; the first error
 * (lowest index) is reported. The calling thread takes part in the work, so that a call from inside a
 * function cannot deadlock. */
#pragma once
#include "util/err.h"
#include <stddef.h>

typedef int invoke_fn(void *ctx, const void *request, void *answer, struct err *);

struct invoker;
struct invoker_ops {
    const char *name;
    int (*invoke_all)(struct invoker *, invoke_fn *, void *ctx, const void *const *requests,
                      void *const *answers, size_t n, struct err *);
    void (*close)(struct invoker *);
};
struct invoker {
    const struct invoker_ops *ops;
};
int invoke_all(struct invoker *, invoke_fn *, void *ctx, const void *const *requests, void *const *answers,
               size_t n, struct err *);
void invoker_close(struct invoker *);
int invoker_pool_open(unsigned threads, struct invoker **ret, struct err *);
