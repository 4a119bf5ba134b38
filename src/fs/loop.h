/* The threads that read requests. Knows no FUSE: how a request is received and processed is the caller's.
 *
 * One thread reads, and processes what it has read itself: a client that asks one thing after the other is
 * served by one warm thread, without a hand-over. Another thread takes over reading (is promoted)
 *   - when the one that works says that it will block or take long (loop_will_block),
 *   - when requests come from several sides at once: then two read for a while,
 *   - when nobody has read for LOOP_TICK_US: a watcher looks, as long as requests come.
 * The thread that reads stays near its client (near.h). A thread that is ready with its request while another
 * one reads stands by. There are more threads than requests may block at once (work.h), so somebody can
 * always be promoted.
 */
#pragma once
#include "work.h"

enum { LOOP_THREADS = WORK_HERE_MAX + 3, LOOP_TICK_US = 2000 };

struct loop_ops {
    /* Receives a request into a buffer of the thread's own. 1; 0: interrupted, nothing came; -1: there will
     * be no more. */
    int (*receive)(void *ctx, void *buffer);
    void (*process)(void *ctx, void *buffer);
    /* The id of the thread that waits for the request in the buffer; 0: not known, -1: nobody does. */
    int (*client)(void *buffer);
    /* Are more requests waiting? */
    bool (*pending)(void *ctx);
    void *(*buffer_new)(void *ctx);
    void (*buffer_free)(void *buffer);
};
struct loop;
/* signal: wakes a thread out of receive; has a handler that does nothing. awake_us: see near.h. */
struct loop *loop_new(const struct loop_ops *, void *ctx, int signal, unsigned awake_us);
void loop_free(struct loop *); /* after loop_run; NULL is fine */
/* Returns when receive says that it is over, or after loop_end: 0, or an errno when threads cannot be
 * started. */
int loop_run(struct loop *);
void loop_end(struct loop *);
/* Have requests overlapped within the last milliseconds? */
bool loop_is_parallel(struct loop *);
/* The calling thread will block or take long: somebody else reads. Cheap, and harmless on any thread. */
void loop_will_block(struct loop *);
/* The same if requests are waiting already: for work that is often short. */
void loop_may_block(struct loop *);
