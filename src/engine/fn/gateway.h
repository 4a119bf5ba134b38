/* Gateway: what is checked before a request reaches control or data functions. Embedded there are no keys;
 * names, limits and the project's rate limit hold everywhere. */
#pragma once
#include "query/query.h"
#include <pthread.h>

/* Collection names: [A-Za-z0-9_-]{1,52}; names of the mount's own root files are reserved. */
int gateway_check_name(const char *name, struct err *err);
/* Snapshot names: no slash, no leading dot, at most 100 bytes, no control characters. */
int gateway_check_snapshot_name(const char *name, struct err *err);

/* A token bucket: `rate` requests a second, bursts of as many. rate 0: no limit. */
struct gateway {
    pthread_mutex_t lock;
    double rate, tokens;
    int64_t last_us;
};
void gateway_init(struct gateway *, double rate);
/* ERR_RATE when the bucket is empty. */
int gateway_admit(struct gateway *, int64_t now_us, struct err *err);
