/* Nodes: what the kernel holds references to, one vtable per kind (node_*.c), and what they share.
 *
 * Node operations run on worker threads, may block, know nothing of FUSE, and answer 0 or a negative error
 * code with the text in call->err. A slot that is NULL answers "not permitted" (EPERM).
 */
#pragma once
#include "errors.h"
#include "fs.h"
#include "inode.h"
#include "loop.h"
#include "util/chunks.h"
#include "work.h"

#include <pthread.h>
#include <sys/stat.h>

/* How long the kernel may keep what cannot change; and the names of collections, while that can be recalled
 * (engine_keeps_names), and of a collection's own directories: they are there as long as the collection is,
 * and each path leads through its name. Only who stands inside a collection that another process drops can go
 * on finding them, for so long. */
enum { FS_TIMEOUT_LONG_S = 3600, FS_TIMEOUT_FIXED_S = 1, FS_READ_STORE_MAX = 128 * 1024 };

struct place;

struct fs {
    struct engine *engine;
    const struct fs_options *options;
    struct work work;
    struct loop *loop; /* to be told before something blocks or takes long: loop.h */
    struct inode_table inodes;
    struct error_log errors;
    uid_t uid;
    gid_t gid;
    int64_t start_ms;
    char *files_dir;             /* DATA/files */
    pthread_mutex_t places_lock; /* the list; each place has a lock of its own, taken after this one */
    struct place *places;
    uint64_t serial; /* atomic: for node keys that are never shared */
    /* Makes the kernel drop a name it has cached. Never called on a worker (it would deadlock). */
    void (*drop_name)(struct fs *fs, uint64_t parent_id, const char *name);
    /* Makes the kernel ask again for every name it knows. Waits for nothing. False: it cannot do that. */
    bool (*forget_names)(struct fs *fs);
    struct chunks answers; /* of queries */
    pthread_mutex_t retired_lock;
    struct retired *retired, **retired_tail; /* names of query results that are to be dropped, oldest first */
    int ending;                              /* atomic: nothing new may be opened for writing */
    int trim_wanted;                         /* atomic: much memory was freed */
};
static inline uint64_t fs_serial(struct fs *fs) {
    return __atomic_add_fetch(&fs->serial, 1, __ATOMIC_RELAXED);
}

/* One request. */
struct call {
    struct fs *fs;
    pid_t pid;
    uid_t uid;
    gid_t gid;
    const volatile int *cancel;
    struct err err;
    const char *hint; /* what the user can do about err; NULL = by the code */
    int keep_s;       /* a lookup: so long the kernel may keep this name, if its node does not say longer */
};
int call_fail(struct call *c, enum err_code code, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A line in errors.jsonl for a failed operation, unless it is part of normal life. */
void call_note(struct call *c, const char *op, enum err_code code, struct node *on, const char *name);

/* A growing list of directory entries. */
struct dir_list {
    struct dir_item {
        char *name;
        mode_t mode;
        uint64_t ino;
    } * items;
    size_t n, cap;
};
void dir_list_add(struct dir_list *l, const char *name, mode_t mode, uint64_t ino);
void dir_list_release(struct dir_list *l);

/* An open file or directory. */
struct handle {
    int refs;          /* atomic: of the kernel until the release, and of answers being sent */
    struct node *node; /* holds a reference */
    int flags;         /* open flags */
    pid_t opener;      /* thread group of the process that opened it */
    pid_t opener_thread;
    pthread_mutex_t lock; /* one read, write or flush of a handle at a time */
    bool direct_io, keep_cache, nonseekable;
    int wrote;        /* atomic: there are writes that no flush has followed */
    uint64_t written; /* append targets: bytes so far */
    const char *data; /* whole content, when it is fixed: reads are answered from it */
    size_t len;
    struct buf owned; /* what data points to, unless it is the node's */
    int fd;           /* a real file behind it, or -1 */
    void *state;      /* of the kind */
    struct dir_list list;
    bool listed;
    struct handle *next_open, **link_open; /* the mount's list of open handles */
};
static inline bool handle_writes(const struct handle *h) {
    return (h->flags & 3) != 0;
}

/* Emits one directory entry; false: no more fit (the entry was not taken). */
typedef bool dir_emit(void *ctx, const char *name, mode_t mode, uint64_t ino, uint64_t next_offset);

struct node_ops {
    const char *kind;
    /* Directories. lookup gives a reference. list: a small directory at once; stream: a big one from an
     * offset on. */
    int (*lookup)(struct call *c, struct node *dir, const char *name, struct node **ret);
    int (*list)(struct call *c, struct node *dir, struct dir_list *out);
    int (*stream)(struct call *c, struct handle *h, uint64_t offset, dir_emit *emit, void *ctx);
    /* Opens h->node for writing and reading as h->flags say; a new name. ret: reference to the new node. */
    int (*create)(struct call *c, struct node *dir, const char *name, mode_t mode, struct handle *h,
                  struct node **ret);
    int (*mkdir)(struct call *c, struct node *dir, const char *name, struct node **ret);
    int (*unlink)(struct call *c, struct node *dir, const char *name);
    int (*rmdir)(struct call *c, struct node *dir, const char *name);
    int (*symlink)(struct call *c, struct node *dir, const char *name, const char *target, struct node **ret);
    /* `child` is named `name` in `dir` (of this kind) and goes to new_name in new_dir. flags:
     * RENAME_NOREPLACE. */
    int (*rename)(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                  const char *new_name, unsigned flags);
    /* Everything. stat refreshes mode, size and mtime of the node; NULL: they do not change. */
    int (*stat)(struct call *c, struct node *n);
    int (*open)(struct call *c, struct handle *h);
    int (*read)(struct call *c, struct handle *h, uint64_t offset, size_t size, struct buf *out);
    int (*write)(struct call *c, struct handle *h, const char *data, size_t len, uint64_t offset);
    /* own: by the process that opened it. */
    int (*flush)(struct call *c, struct handle *h, bool own);
    int (*fsync)(struct call *c, struct handle *h);
    void (*close)(struct call *c, struct handle *h);
    int (*truncate)(struct call *c, struct node *n, struct handle *h, uint64_t size);
    int (*chmod)(struct call *c, struct node *n, mode_t mode);
    int (*utimens)(struct call *c, struct node *n, int64_t mtime_ms);
    int (*readlink)(struct call *c, struct node *n, struct buf *out);
    void (*release)(struct node *n);
    /* Where lookups and listings of a directory, opens, and reads run: WORK_META if not given. */
    enum work_pool list_pool, open_pool, read_pool;
    bool accepts_any_attr; /* chmod, chown, utimens succeed and do nothing */
};

/* The node's stat as it stands. */
void node_stat(struct fs *fs, struct node *n, struct stat *st);
/* The path below the mount point, for messages. */
void node_path(struct node *n, const char *name, struct buf *out);

/* ---- places: a collection, or a moment of one ---- */

struct scratch_name {
    struct scratch_name *next;
    char text[];
};
/* A file that is not final: a scratch file of an editor or a copying tool, or a name that was just dropped.
 */
struct scratch {
    struct scratch *next;
    int refs;                   /* of the list and of nodes and handles */
    char *dir;                  /* "docs" or "ingest" */
    struct scratch_name *names; /* the newest first: a name lives as long as the scratch */
    unsigned opens;             /* staging file: open handles */
    int fd;                     /* unlinked staging file; -1 for a dropped name */
    bool listed;                /* still in the list */
    bool dropped;               /* the name of an ingested file: reads as its receipt */
    bool sending;               /* dropped: still open */
    char *hides; /* docs: the document name this was renamed from; hidden until written again */
    uint64_t size;
    mode_t mode;
    int64_t mtime_ms, ino_seed;
    int64_t expires_ms; /* 0 = never */
    struct buf receipt;
};

struct place {
    struct place *next; /* fs->places */
    int refs;
    bool frozen; /* a snapshot: everything in it is read-only */
    char cid[CID_SIZE], name[NAME_SIZE], version[VERSION_ID_SIZE];
    uint64_t named;       /* collection_info.written of the name; by places_lock */
    pthread_mutex_t lock; /* everything below */
    struct view *view;    /* the last one used; dropped when idle */
    int64_t used_ms;
    struct scratch *scratch;
    pid_t listing_pid; /* who listed docs/ last: an rm -r does so before it deletes */
    pid_t mark_pid;
    uint64_t mark_seq;
    struct buf last_error;  /* of the newest failed query */
    int64_t early_after_ms; /* atomic: until then lookups do not run queries (node_query.c) */
};
/* The live place of a collection: one per collection id in the process. */
struct place *place_live(struct fs *fs, const struct collection_info *info);
struct place *place_frozen(struct fs *fs, const struct collection_info *info,
                           const struct snapshot_info *snap);
struct place *place_ref(struct place *p);
void place_unref(struct fs *fs, struct place *p); /* NULL is fine */
/* The current state (live: with everything acknowledged). view_unref it. An interrupt counts only after
 * PLACE_PATIENCE_MS: any signal interrupts, and most are none of a lookup's business. */
enum { PLACE_PATIENCE_MS = 1000 };
int place_view(struct call *c, struct place *p, struct view **ret);
/* The same for at most timeout_ms (ERR_TIMEOUT). cancel may be NULL. */
int place_view_until(struct call *c, struct place *p, const volatile int *cancel, uint32_t timeout_ms,
                     struct view **ret);
/* The sequence number of the state this process has seen last, if that is still the current one; else false.
 * Cheap. */
bool place_current_seq(struct fs *fs, struct place *p, uint64_t *ret);
int place_check_writable(struct call *c, struct place *p);
/* The same for an open: a mount that ends lets what is being written come to its end, and begins nothing. */
int place_check_begin(struct call *c, struct place *p);
/* Makes the names in the directory that path lies in durable. */
int path_sync_parent(const char *path, struct err *err);
/* Durably, when it is missing. What cannot be made shows when it is used. */
void path_make_dir(const char *path);
/* DATA/files/<cid>/<sub>, made (durably) when missing. Returns the path (free it). */
char *place_dir(struct fs *fs, const struct place *p, const char *sub);
/* Drops idle views and expired names; called every second. */
void places_tidy(struct fs *fs);
void places_release(struct fs *fs);

struct scratch *scratch_new(struct place *p, const char *dir, const char *name);  /* a reference */
struct scratch *scratch_find(struct place *p, const char *dir, const char *name); /* a reference, or NULL */
/* Its name now; valid while a reference is held, also when it is renamed meanwhile. */
const char *scratch_name(struct scratch *s);
/* Takes the name of another one in its directory, if there is one. */
void scratch_rename(struct place *p, struct scratch *s, const char *new_name);
/* Somebody works with the staging file: opens changes by `opens`, and its expiry is moved. */
void scratch_touch(struct place *p, struct scratch *s, int opens);
/* The name goes; the file lives until its last reference. */
void scratch_unlist(struct place *p, struct scratch *s);
void scratch_unref(struct place *p, struct scratch *s);
void scratch_list(struct place *p, const char *dir, struct dir_list *out);
/* Is the document name renamed aside? */
bool scratch_hides(struct place *p, const char *doc_name);
void scratch_unhide(struct place *p, const char *doc_name);
int scratch_open_file(struct call *c, struct scratch *s);

/* ---- kinds ---- */
/* A generated file: its content is made at lookup and pinned to the node, which is found again while the
 * content is the same. take: the content (emptied). */
struct node *text_node(struct fs *fs, struct node *dir, const char *name, struct buf *take, int64_t mtime_ms);
/* Writes to it are accepted and given to this function on flush (schema.json), or ignored when it is NULL. */
typedef int text_commit(struct call *c, struct node *n, const char *data, size_t len);
struct node *text_node_writable(struct fs *fs, struct node *dir, const char *name, struct buf *take,
                                int64_t mtime_ms, text_commit *commit);
struct node *symlink_node(struct fs *fs, struct node *dir, const char *name, const char *target);
/* A directory without state. place NULL: the parent's. tag: keeps it apart from others of the same name. */
struct node *dir_node(struct fs *fs, const struct node_ops *ops, struct node *parent, const char *name,
                      struct place *place, const char *tag);

extern const struct node_ops root_ops, collection_ops, docs_ops, ingest_ops, query_dir_ops, control_ops,
    trash_ops, trash_item_ops, snapshots_ops, snapshot_list_ops, snapshot_ops, queries_ops, receipts_ops,
    rejects_ops;

/* The node of a scratch file or of a name just dropped. */
struct node *scratch_node(struct fs *fs, struct node *dir, struct scratch *s);
struct scratch *node_scratch(struct node *n); /* NULL when it is none */
/* A new scratch file, opened in h. */
int scratch_create(struct call *c, struct node *dir, const char *sub, const char *name, mode_t mode,
                   struct handle *h, struct node **ret);
/* Its whole content, at most max bytes (ERR_TOO_LARGE). */
int scratch_load(struct call *c, struct scratch *s, size_t max, struct buf *out);

/* Nodes of real files; the directory is DATA/files/<cid>/<sub> of ops. */
int real_open_source(struct call *c, struct node *dir, const char *name, int *ret_fd);
int real_remove(struct call *c, struct node *dir, const char *name);

/* Saved queries. Text of NAME; frees with buf_release. */
int saved_query_read(struct call *c, struct place *p, const char *name, struct buf *out);
int saved_query_list(struct call *c, struct place *p, struct dir_list *out);

/* The query kind's run: see node_query.c. True: the job was parked (it is queued again when the content is
 * there), or answered because it was interrupted; false: content or error is there. here: the caller has a
 * place (work_enter) and may run the query itself. With work.lock not held. */
bool query_wait(struct fs *fs, struct node *n, struct job *j, bool here);
/* By a lookup that found it: runs it now if that is quick. */
void query_run_early(struct fs *fs, struct node *n);
bool node_is_query(const struct node *n);
/* DONE: its size is final. */
bool query_ready(struct fs *fs, struct node *n);
int query_result(struct call *c, struct node *n, const char **ret_data, size_t *ret_len);
/* Names of results that nobody has asked for lately are dropped, so that their memory comes back. Keeper
 * thread only. */
void query_retire(struct fs *fs);
void query_retire_release(struct fs *fs);
/* An interrupted waiter was taken off: stop the run if nobody waits for it any more. */
void query_leave(struct fs *fs, struct node *n);

/* Generated texts (texts.c). */
int text_readme(struct call *c, struct buf *out);
int text_root_status(struct call *c, struct buf *out);
int text_stats(struct call *c, struct buf *out);
int text_limits(struct call *c, struct buf *out);
int text_log(struct call *c, struct buf *out);
int text_collection_status(struct call *c, struct place *p, struct buf *out, int64_t *ret_mtime_ms);
int text_snapshot_status(struct call *c, struct place *p, const struct snapshot_info *s, struct buf *out);

int document_commit(struct call *c, struct place *p, const char *id, size_t id_len, const char *data,
                    size_t len);
/* Deletes are acknowledged when durable. */
int document_delete(struct call *c, struct place *p, const char *id, size_t id_len);
