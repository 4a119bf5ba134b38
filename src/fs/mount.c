/* The life of a mount: start, the keeper, the signals that end it, the end. */
#include "mount.h"
#include "util/spare.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DRAIN_MS = 30000, WRITERS_MS = 10000, KEEPER_STEP_US = 500000, WAKE_STEP_US = 20000 };

static void end_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

static void on_wake(int sig) {}

static void block_signals(void) {
    sigset_t set;
    end_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_wake}, NULL);
}

static bool has_ended(struct mount *m) {
    pthread_mutex_lock(&m->handles_lock);
    bool ended = m->ended;
    pthread_mutex_unlock(&m->handles_lock);
    return ended;
}

/* What has not been used lately is let go. */
static void *keeper_main(void *arg) {
    struct mount *m = arg;
    while (!has_ended(m)) {
        usleep(KEEPER_STEP_US);
        query_retire(&m->fs);
        places_tidy(&m->fs);
        spare_tidy();
        work_sweep(&m->fs.work, mono_ms() - PLACE_PATIENCE_MS);
        if (m->watches_names) engine_keep_names(m->fs.engine);
        if (__atomic_exchange_n(&m->fs.trim_wanted, 0, __ATOMIC_RELAXED)) malloc_trim(0);
    }
    return NULL;
}

/* Detaches the mount point: who has nothing open in it finds it no more. */
static bool detach(const char *mountpoint) {
    int status = -1;
    if (!umount2(mountpoint, MNT_DETACH)) return true;
    pid_t pid = fork();
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", mountpoint, (char *)NULL);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool has_writer(struct mount *m) {
    pthread_mutex_lock(&m->handles_lock);
    struct handle *h = m->handles;
    while (h && !handle_writes(h)) h = h->next_open;
    pthread_mutex_unlock(&m->handles_lock);
    return h != NULL;
}

/* What is being written comes to its end, if that does not take too long. Then the writer gets an error. */
static void wait_for_writers(struct mount *m) {
    int64_t until = clock_mono_us(&clock_system) + WRITERS_MS * 1000LL;
    while (has_writer(m) && !has_ended(m) && clock_mono_us(&clock_system) < until) usleep(WAKE_STEP_US);
}

/* SIGTERM, SIGINT, SIGHUP: detaches, lets writers finish, answers what is in flight, and ends the loop. */
static void *signal_main(void *arg) {
    struct mount *m = arg;
    sigset_t set;
    int sig;
    end_signals(&set);
    while (sigwait(&set, &sig)) {
    }
    if (has_ended(m)) return NULL;
    __atomic_store_n(&m->fs.ending, 1, __ATOMIC_RELAXED);
    m->detached = detach(m->fs.options->mountpoint);
    wait_for_writers(m);
    work_drain(&m->fs.work, DRAIN_MS);
    m->exit_loop(m);
    return NULL;
}

/* Every open file may be a staging file, and every segment is one. */
static void allow_many_files(void) {
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l)) return;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
}

int mount_start(struct mount *m, struct engine *engine, const struct fs_options *options, struct err *err) {
    struct fs *fs = &m->fs;
    block_signals();
    allow_many_files();
    const unsigned threads[WORK_POOLS] = {
        [WORK_META] = 4, [WORK_DOCS] = 6, [WORK_QUERY] = 4, [WORK_WRITE] = 16};
    fs->engine = engine;
    fs->options = options;
    fs->uid = getuid();
    fs->gid = getgid();
    fs->start_ms = clock_now_ms(&clock_system);
    fs->retired_tail = &fs->retired;
    struct buf dir = BUF_INIT;
    buf_printf(&dir, "%s/files", engine_data_dir(engine));
    buf_str(&dir);
    fs->files_dir = (char *)buf_detach(&dir, NULL);
    pthread_mutex_init(&fs->places_lock, NULL);
    pthread_mutex_init(&fs->retired_lock, NULL);
    chunks_init(&fs->answers);
    pthread_mutex_init(&m->handles_lock, NULL);
    inode_init(&fs->inodes);
    error_log_init(&fs->errors);
    struct node *root = inode_new(&root_ops, NULL, NULL, "", xstrdup(""));
    root->mode = S_IFDIR | 0755;
    inode_add(fs, root); /* the first id is the root's */
    int e = work_start(&fs->work, threads);
    return e ? err_sys(err, e, "cannot start threads") : 0;
}

void mount_option_text(const struct mount *m, struct buf *out) {
    const struct fs_options *o = m->fs.options;
    buf_adds(out, "subtype=ldbfs,fsname=");
    for (const char *s = engine_data_dir(m->fs.engine); *s; s++) {
        if (*s == ',' || *s == '\\') buf_addc(out, '\\');
        buf_addc(out, *s);
    }
    /* With one user there is nothing to check, and the kernel would ask for the attributes of every directory
     * on every path, because they are never cached. */
    if (o->mount_options && strstr(o->mount_options, "allow_")) buf_adds(out, ",default_permissions");
    if (o->read_only) buf_adds(out, ",ro");
    if (o->mount_options && *o->mount_options) buf_printf(out, ",%s", o->mount_options);
}

/* What could be sent when the mount began fails only when the kernel has ended it, and knows no names. */
static void on_recall(void *fs) {
    ((struct fs *)fs)->forget_names(fs);
}

/* The kernel may keep names of collections if it can be made to forget them. */
static int watch_names(struct mount *m, struct err *err) {
    if (!m->fs.forget_names(&m->fs)) return 0;
    int r = engine_watch_names(m->fs.engine, on_recall, &m->fs, err);
    m->watches_names = !r;
    if (!r) engine_keep_names(m->fs.engine);
    return r;
}

int mount_watch(struct mount *m, struct err *err) {
    int r = watch_names(m, err);
    if (r) return r;
    int e = pthread_create(&m->signal_thread, NULL, signal_main, m);
    m->has_signal = e == 0;
    if (!e) e = pthread_create(&m->keeper_thread, NULL, keeper_main, m);
    m->has_keeper = e == 0;
    return e ? err_sys(err, e, "cannot start threads") : 0;
}

void mount_finish(struct mount *m) {
    struct fs *fs = &m->fs;
    pthread_mutex_lock(&m->handles_lock);
    m->ended = true;
    pthread_mutex_unlock(&m->handles_lock);
    if (m->has_signal) {
        pthread_kill(m->signal_thread, SIGTERM);
        pthread_join(m->signal_thread, NULL);
    }
    if (m->has_keeper) pthread_join(m->keeper_thread, NULL);
    engine_unwatch_names(fs->engine);
    work_drain(&fs->work, DRAIN_MS);
    while (m->handles) { /* left open behind a detached mount point: what was sent is committed */
        struct handle *h = m->handles;
        handle_untrack(m, h);
        handle_unref(fs, h);
    }
    work_stop(&fs->work);
    query_retire_release(fs);
    inode_release(fs);
    chunks_release(&fs->answers);
    places_release(fs);
    error_log_release(&fs->errors);
    free(fs->files_dir);
}
