/* The mounted filesystem: what the mount command calls.
 *
 * fs_run serves one mount point until it is unmounted or a SIGTERM/SIGINT arrives (then requests in flight
 * are answered, the mount point is detached, and it returns). It must be called before any other thread is
 * started in the process except the engine's.
 */
#pragma once
#include "engine.h"

struct fs_options {
    const char *mountpoint;
    const char *mount_options; /* comma-separated, passed to the kernel mount; NULL = none */
    bool read_only;
    bool foreground;
    unsigned awake_us;        /* a processor is kept awake for so long after a request; 0: not (near.h) */
    void (*ready)(void *ctx); /* called once when the mount answers */
    void *ready_ctx;
};
/* Returns 0 after a clean end. */
int fs_run(struct engine *engine, const struct fs_options *options, struct err *err);
