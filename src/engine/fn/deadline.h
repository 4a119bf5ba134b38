/* Deadlines: one watcher thread per process turns a caller's cancel flag and a time limit into one stop flag,
 * so that the code that polls looks at one int. Idle when nothing is watched. Thread-safe. */
#pragma once
#include "util/err.h"

#include <stdbool.h>
#include <stdint.h>

struct deadline {
    const volatile int *cancel; /* the caller's; may be NULL */
    int64_t at_us;              /* monotonic */
    volatile int stop;          /* 0 = go on, 1 = canceled, 2 = timed out */
    struct deadline *next, *prev;
};
/* Before the first deadline; the thread stays for as long as the process. 0 when it runs already. */
int deadline_watcher_start(struct err *);
void deadline_start(struct deadline *, const volatile int *cancel, uint32_t timeout_ms);
void deadline_end(struct deadline *);
