/* What belongs to one mount as a whole: its threads, its open handles, its end. Knows no FUSE. */
#pragma once
#include "loop.h"
#include "node.h"

struct fuse_session;

struct mount {
    struct fs fs; /* first: what requests find */
    struct fuse_session *session;
    struct loop *loop;
    void (*exit_loop)(struct mount *m); /* asks the loop to end */
    pthread_t signal_thread, keeper_thread;
    bool has_signal, has_keeper, watches_names;
    bool detached; /* nothing of ours is at the mount point any more */
    bool greeting; /* atomic: the next answer is that to INIT, and the kernel can do parallel lookups */
    pthread_mutex_t handles_lock;
    struct handle *handles; /* open ones, linked by next_open */
    bool ended;             /* the loop is over (guarded by handles_lock) */
};
static inline struct mount *mount_of(struct fs *fs) {
    return (struct mount *)fs;
}

/* Blocks the signals that end the mount, makes the tables and starts the worker pools. */
int mount_start(struct mount *m, struct engine *engine, const struct fs_options *options, struct err *err);
/* The options of the kernel mount, comma-separated. */
void mount_option_text(const struct mount *m, struct buf *out);
/* Starts the threads that wait for signals and let go of what is unused. The caller is the thread that runs
 * the loop. */
int mount_watch(struct mount *m, struct err *err);
/* The loop is over, or never ran: answers what is left, commits what was left open, frees everything but m.
 */
void mount_finish(struct mount *m);

/* A handle for an open of node (NULL: a file that is being made). */
struct handle *handle_new(struct call *c, struct node *node, int flags);
struct handle *handle_ref(struct handle *h);
/* The last one closes and frees it. */
void handle_unref(struct fs *fs, struct handle *h);
/* The mount's list of open handles. */
void handle_track(struct mount *m, struct handle *h);
void handle_untrack(struct mount *m, struct handle *h);
/* A piece of the directory from offset on, "." and ".." first. */
int handle_list(struct call *c, struct handle *h, uint64_t offset, dir_emit *emit, void *ctx);
/* The newest query error of the collection, on the directory that runs queries; else nothing. */
void query_error_of(struct node *n, struct buf *out);
