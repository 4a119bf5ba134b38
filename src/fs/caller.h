/* Who asks: the thread group of a FUSE caller. */
#pragma once
#include <sys/types.h>

/* FUSE names the thread; this is its process. fallback when it cannot be read (it is gone, or in another
 * namespace). */
pid_t caller_process(pid_t thread, pid_t fallback);
