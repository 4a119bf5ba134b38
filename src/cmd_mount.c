/* ldbfs mount and unmount: the daemon's beginning and end around fs_run. */
#include "fs/fs.h"
#include "options.h"
#include "util/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { LOG_MAX_BYTES = 16 << 20, UNMOUNT_WAIT_MS = 60000 };

/* ---- the mount point ---- */

static int run_fusermount(const char *mountpoint, bool lazy) {
    pid_t pid = fork();
    if (pid == 0) {
        if (lazy)
            execlp("fusermount3", "fusermount3", "-u", "-z", "--", mountpoint, (char *)NULL);
        else
            execlp("fusermount3", "fusermount3", "-u", "--", mountpoint, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The daemon of an earlier mount died: its mount point answers ENOTCONN until it is detached. */
static int clear_dead_mount(const char *mountpoint, struct err *err) {
    struct stat st;
    for (int i = 0; i < 8; i++) {
        if (!stat(mountpoint, &st) || (errno != ENOTCONN && errno != ECONNABORTED)) return 0;
        if (run_fusermount(mountpoint, true) && umount2(mountpoint, MNT_DETACH))
            return err_sys(err, errno, "cannot clear the dead mount on '%s'", mountpoint);
    }
    return err_set(err, ERR_BUSY, "cannot clear the dead mounts on '%s'", mountpoint);
}

static bool is_inside(const char *path, const char *dir) {
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == '/' || path[n] == 0);
}

/* An absolute path of a directory that can be mounted on. */
static int check_mountpoint(const char *name, const char *data_dir, char ret[PATH_MAX], struct err *err) {
    struct stat st;
    char pid[32];
    char data[PATH_MAX];
    int r = clear_dead_mount(name, err);
    if (r) return r;
    if (stat(name, &st)) return err_sys(err, errno, "cannot mount on '%s'", name);
    if (!S_ISDIR(st.st_mode)) return err_set(err, ERR_INVALID, "cannot mount on '%s': not a directory", name);
    if (!realpath(name, ret)) return err_sys(err, errno, "cannot mount on '%s'", name);
    if (getxattr(ret, "user.ldbfs.pid", pid, sizeof pid) > 0)
        return err_set(err, ERR_BUSY, "'%s' is mounted already", name);
    if (realpath(data_dir, data) && (is_inside(data, ret) || is_inside(ret, data)))
        return err_set(err, ERR_INVALID,
                       "the mount point and the data directory '%s' cannot lie in each other", data_dir);
    return 0;
}

/* ---- the daemon ---- */

struct serve {
    const struct options *options;
    const char *mountpoint;
    int pipe; /* the parent waits at its other end; -1 in the foreground */
    struct buf fuse_options;
    bool read_only;
};

static void on_ready(void *ctx) {
    struct serve *s = ctx;
    if (s->pipe < 0) return;
    ssize_t n = write(s->pipe, "+", 1);
    (void)n; /* nobody waits any more: fine */
    close(s->pipe);
    s->pipe = -1;
}

/* "ro" is ours to know; the rest goes to the kernel mount. */
static void split_mount_options(struct serve *s) {
    char *copy = xstrdup(s->options->mount_opts ? s->options->mount_opts : ""), *save = NULL;
    for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
        if (!strcmp(o, "ro")) {
            s->read_only = true;
        } else if (strcmp(o, "rw") != 0 && strncmp(o, "x-", 2) != 0 && strcmp(o, "_netdev") != 0 &&
                   strcmp(o, "nofail") != 0) {
            if (s->fuse_options.len) buf_adds(&s->fuse_options, ",");
            buf_adds(&s->fuse_options, o);
        }
    }
    free(copy);
}

/* Large blocks go back to the system when they are freed, and few arenas keep small ones. */
static void tune_memory(void) {
    mallopt(M_ARENA_MAX, 4);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

static int serve(struct serve *s, struct err *err) {
    struct engine *engine = NULL;
    struct engine_options options;
    sigset_t set;
    /* Before any thread is made: the signals that end the mount go to one thread only. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    options_engine(s->options, true, &options);
    tune_memory();
    int r = engine_open(&options, &engine, err);
    if (r) return r;
    split_mount_options(s);
    struct fs_options fs = {.mountpoint = s->mountpoint,
                            .mount_options = s->fuse_options.len ? buf_str(&s->fuse_options) : NULL,
                            .read_only = s->read_only,
                            .foreground = s->options->foreground,
                            .awake_us = options_awake_us(),
                            .ready = on_ready,
                            .ready_ctx = s};
    r = fs_run(engine, &fs, err);
    engine_close(engine);
    buf_release(&s->fuse_options);
    return r;
}

/* stdin from nowhere, stdout and stderr to DATA/mount.log. */
static void redirect(const char *data_dir) {
    struct buf path = BUF_INIT;
    struct stat st;
    buf_printf(&path, "%s/mount.log", data_dir);
    int flags = O_WRONLY | O_CREAT | O_APPEND;
    if (!stat(buf_str(&path), &st) && st.st_size > LOG_MAX_BYTES) flags |= O_TRUNC;
    int in = open("/dev/null", O_RDONLY), out = open(buf_str(&path), flags, 0600);
    if (in >= 0) dup2(in, 0);
    if (out < 0) out = open("/dev/null", O_WRONLY);
    if (out >= 0) {
        dup2(out, 1);
        dup2(out, 2);
    }
    if (in > 2) close(in);
    if (out > 2) close(out);
    buf_release(&path);
}

static _Noreturn void daemon_main(struct serve *s) {
    struct err err = ERR_INIT;
    setsid();
    redirect(s->options->data_dir);
    if (chdir("/")) _exit(EXIT_FAILED);
    int r = serve(s, &err);
    if (r) {
        const char *text = err.text[0] ? err.text : err_name((enum err_code) - r);
        fprintf(stderr, "ldbfs: %s\n", text);
        if (s->pipe >= 0 && (write(s->pipe, "-", 1) < 0 || write(s->pipe, text, strlen(text)) < 0))
            r = -ERR_IO;
    }
    fflush(NULL);
    exit(r ? EXIT_FAILED : 0);
}

/* Waits for the daemon's word, then sees for itself. */
static int wait_ready(int fd, const char *mountpoint, struct err *err) {
    char text[480];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof text - 1 && (got = read(fd, text + n, sizeof text - 1 - n)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        n += (size_t)got;
        if (text[0] == '+') break;
    }
    text[n] = 0;
    if (n == 0) return err_set(err, ERR_IO, "the mount ended at once: see mount.log in the data directory");
    if (text[0] == '-') return err_set(err, ERR_IO, "%s", text + 1);
    char pid[32];
    if (getxattr(mountpoint, "user.ldbfs.pid", pid, sizeof pid) > 0) return 0;
    return err_set(err, ERR_IO, "'%s' does not answer", mountpoint);
}

static void make_data_dir(const char *path) {
    char *p = xstrdup(path);
    for (char *s = p + 1; *s; s++) {
        if (*s != '/') continue;
        *s = 0;
        mkdir(p, 0700);
        *s = '/';
    }
    mkdir(p, 0700); /* what went wrong here is told by the engine */
    free(p);
}

int cmd_mount(const struct options *o, struct err *err) {
    char mountpoint[PATH_MAX];
    int fds[2];
    make_data_dir(o->data_dir);
    int r = check_mountpoint(o->args[0], o->data_dir, mountpoint, err);
    if (r) return r;
    struct serve s = {.options = o, .mountpoint = mountpoint, .pipe = -1};
    if (o->foreground) return serve(&s, err);
    if (pipe2(fds, O_CLOEXEC)) return err_sys(err, errno, "cannot make a pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return err_sys(err, errno, "cannot start the daemon");
    if (pid == 0) {
        close(fds[0]);
        s.pipe = fds[1];
        daemon_main(&s);
    }
    close(fds[1]);
    r = wait_ready(fds[0], mountpoint, err);
    close(fds[0]);
    if (r) waitpid(pid, NULL, 0);
    return r;
}

/* ---- unmount ---- */

static bool is_gone(pid_t pid) {
    char text[256];
    proc_read((int)pid, "stat", text, sizeof text);
    const char *state = proc_field(text, 3);
    return !state || *state == 'Z';
}

int cmd_unmount(const struct options *o, struct err *err) {
    char mountpoint[PATH_MAX], text[32];
    int r = clear_dead_mount(o->args[0], err);
    if (r) return r;
    if (!realpath(o->args[0], mountpoint)) return err_sys(err, errno, "cannot unmount '%s'", o->args[0]);
    ssize_t n = getxattr(mountpoint, "user.ldbfs.pid", text, sizeof text - 1);
    if (n <= 0) return err_set(err, ERR_INVALID, "'%s' is no mount of ours", o->args[0]);
    text[n] = 0;
    pid_t pid = (pid_t)atoi(text);
    if (umount2(mountpoint, 0) && run_fusermount(mountpoint, false))
        return err_set(err, ERR_BUSY, "cannot unmount '%s': it is in use", o->args[0]);
    for (int i = 0; i < UNMOUNT_WAIT_MS / 10;
         i++) { /* what it still has to write is written when this returns */
        if (is_gone(pid)) return 0;
        usleep(10000);
    }
    return err_set(err, ERR_TIMEOUT, "the mount is gone, but its process %d still works", (int)pid);
}
