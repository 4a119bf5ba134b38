/* Delegations as leases on a file. See delegation.h.
 *
 * The kernel tells a holder by a signal to the thread that watches, which blocks it (SIGIO) and waits for it.
 * A change opens the file for writing: the kernel counts it as a writer, so that no new lease is given, and
 * then makes it wait for the old ones. It stays open until the change is made.
 */
#include "backend/delegation.h"
#include "util/buf.h"
#include "util/local.h"
#include "util/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODE = 0666 /* and the umask, as all that a data directory has */ };

struct delegation {
    char *path;
    pthread_t watcher;
    pid_t watcher_id; /* thread */
    sem_t watching;   /* watcher_id is known */
    void (*recalled)(void *ctx);
    void *ctx;
    pthread_mutex_t lock; /* everything below */
    bool watched;
    bool elsewhere; /* the path is not on a filesystem of this machine */
    bool held;      /* read without the lock, too */
    int fd;         /* with the lease; -1: none */
};

struct delegation *delegation_new(const char *path) {
    struct delegation *d = xcalloc(1, sizeof *d);
    d->path = xstrdup(path);
    d->fd = -1;
    pthread_mutex_init(&d->lock, NULL);
    sem_init(&d->watching, 0, 0);
    return d;
}

void delegation_free(struct delegation *d) {
    if (!d) return;
    delegation_unwatch(d);
    pthread_mutex_destroy(&d->lock);
    sem_destroy(&d->watching);
    free(d->path);
    free(d);
}

/* ---- holding ---- */

/* The lease is no longer counted on; the file that has it. */
static int lay_down(struct delegation *d) {
    pthread_mutex_lock(&d->lock);
    int fd = d->fd;
    d->fd = -1;
    __atomic_store_n(&d->held, false, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&d->lock);
    return fd;
}

/* Not by closing alone: a child that has been forked may have the file open until it runs its program. */
static void give_back(struct delegation *d) {
    int fd = lay_down(d);
    if (fd < 0) return;
    d->recalled(d->ctx);
    fcntl(fd, F_SETLEASE, F_UNLCK);
    close(fd);
}

static bool is_watched(struct delegation *d) {
    pthread_mutex_lock(&d->lock);
    bool watched = d->watched;
    pthread_mutex_unlock(&d->lock);
    return watched;
}

/* Was it before? */
static bool set_watched(struct delegation *d, bool watched) {
    pthread_mutex_lock(&d->lock);
    bool before = d->watched;
    d->watched = watched;
    pthread_mutex_unlock(&d->lock);
    return before;
}

static void *watch_main(void *arg) {
    struct delegation *d = arg;
    sigset_t set;
    int sig;
    sigemptyset(&set);
    sigaddset(&set, SIGIO);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    d->watcher_id = gettid();
    sem_post(&d->watching);
    while (!sigwait(&set, &sig) && is_watched(d)) give_back(d);
    return NULL;
}

int delegation_watch(struct delegation *d, void (*recalled)(void *ctx), void *ctx, struct err *err) {
    d->recalled = recalled;
    d->ctx = ctx;
    set_watched(d, true);
    int e = thread_create(&d->watcher, watch_main, d);
    while (!e && sem_wait(&d->watching)) {
    }
    if (!e) return 0;
    set_watched(d, false);
    return err_sys(err, e, "cannot start threads");
}

void delegation_unwatch(struct delegation *d) {
    if (!set_watched(d, false)) return;
    pthread_kill(d->watcher, SIGIO);
    pthread_join(d->watcher, NULL);
    give_back(d);
}

/* The file with a lease, of whose recall the watcher is told; -1: not to be had now. */
static int lease(struct delegation *d) {
    struct f_owner_ex owner = {F_OWNER_TID, d->watcher_id};
    int fd = open(d->path, O_RDONLY | O_CREAT | O_CLOEXEC, MODE);
    if (fd < 0) return -1;
    d->elsewhere = !file_is_local(fd);
    if (!d->elsewhere && !fcntl(fd, F_SETOWN_EX, &owner) && !fcntl(fd, F_SETLEASE, F_RDLCK)) return fd;
    close(fd);
    return -1;
}

/* Is the file with the lease the one that has the path? */
static bool is_there(struct delegation *d) {
    struct stat ours, there;
    pthread_mutex_lock(&d->lock);
    bool same = d->fd >= 0 && !fstat(d->fd, &ours) && !stat(d->path, &there) && ours.st_ino == there.st_ino &&
                ours.st_dev == there.st_dev;
    pthread_mutex_unlock(&d->lock);
    return same;
}

bool delegation_take(struct delegation *d) {
    if (delegation_is_held(d) && !is_there(d)) give_back(d);
    pthread_mutex_lock(&d->lock);
    if (d->watched && !d->elsewhere && d->fd < 0) d->fd = lease(d);
    bool held = d->fd >= 0;
    __atomic_store_n(&d->held, held, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&d->lock);
    return held;
}

bool delegation_is_held(const struct delegation *d) {
    return __atomic_load_n(&d->held, __ATOMIC_SEQ_CST);
}

/* ---- changing ---- */

int delegation_recall(struct delegation *d, int *ret, struct err *err) {
    int fd;
    do {
        fd = open(d->path, O_WRONLY | O_CREAT | O_CLOEXEC, MODE);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) return err_sys(err, errno, "could not recall what others hold by \"%s\"", d->path);
    *ret = fd;
    return 0;
}

void delegation_resume(int recall) {
    close(recall);
}
