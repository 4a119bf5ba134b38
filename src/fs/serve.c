/* The session with the kernel: mounts, reads requests, unmounts. */
#include "requests.h"
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

static void drop_name(struct fs *fs, uint64_t parent_id, const char *name) {
    fuse_lowlevel_notify_inval_entry(mount_of(fs)->session, parent_id, name, strlen(name));
}

/* FUSE 7.44 (Linux 6.16): names that the kernel looked up before this do not count any more. It takes no lock
 * of a directory, so it may be sent while a request that holds one waits for it. */
enum { NOTIFY_INC_EPOCH = 8 };
static bool forget_names(struct fs *fs) {
    struct fuse_out_header h = {.len = sizeof h, .error = NOTIFY_INC_EPOCH};
    return write(fuse_session_fd(mount_of(fs)->session), &h, sizeof h) == sizeof h;
}

/* ---- bytes to and from the kernel ---- */

static ssize_t read_request(int fd, void *buffer, size_t size, void *fs) {
    return read(fd, buffer, size);
}

/* libfuse before 3.17 does not pass on that lookups and listings of one directory may go side by side
 * (libfuse pull request 861): the answer to INIT is completed on its way. */
static ssize_t write_answer(int fd, struct iovec *iov, int count, void *fs) {
    struct mount *m = mount_of(fs);
    if (__atomic_load_n(&m->greeting, __ATOMIC_RELAXED)) {
        bool full = count == 2 && iov[1].iov_len >= FUSE_COMPAT_22_INIT_OUT_SIZE;
        if (full) ((struct fuse_init_out *)iov[1].iov_base)->flags |= FUSE_PARALLEL_DIROPS;
        __atomic_store_n(&m->greeting, false, __ATOMIC_RELAXED);
    }
    return writev(fd, iov, count);
}

static const struct fuse_custom_io bytes = {.writev = write_answer, .read = read_request};

static int new_session(struct mount *m, struct err *err) {
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct buf options = BUF_INIT;
    mount_option_text(m, &options);
    fuse_opt_add_arg(&args, "ldbfs");
    fuse_opt_add_arg(&args, "-o");
    fuse_opt_add_arg(&args, buf_str(&options));
    m->session = fuse_session_new(&args, &fs_requests, sizeof fs_requests, &m->fs);
    fuse_opt_free_args(&args);
    buf_release(&options);
    if (!m->session) return err_set(err, ERR_INVALID, "the mount options are not accepted");
    if (!fuse_session_mount(m->session, m->fs.options->mountpoint)) {
        fuse_session_custom_io(m->session, &bytes,
                               fuse_session_fd(m->session)); /* failing, it changes nothing */
        return 0;
    }
    fuse_session_destroy(m->session);
    m->session = NULL;
    return err_set(err, ERR_IO, "cannot mount on '%s'", m->fs.options->mountpoint);
}

/* ---- reading requests ---- */

static int receive(void *ctx, void *buffer) {
    int n = fuse_session_receive_buf(ctx, buffer);
    if (n == -EINTR || n == -EAGAIN) return fuse_session_exited(ctx) ? -1 : 0;
    return n <= 0 ? -1 : 1;
}

static void process(void *ctx, void *buffer) {
    fuse_session_process_buf(ctx, buffer);
}

static bool pending(void *ctx) {
    struct pollfd p = {.fd = fuse_session_fd(ctx), .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static int client(void *buffer) {
    const struct fuse_buf *b = buffer;
    const struct fuse_in_header *h = b->mem;
    if (b->flags & FUSE_BUF_IS_FD) return 0;
    bool nobodys = h->opcode == FUSE_RELEASE || h->opcode == FUSE_RELEASEDIR || h->opcode == FUSE_FORGET ||
                   h->opcode == FUSE_BATCH_FORGET;
    return nobodys ? -1 : (int)h->pid;
}

static void *buffer_new(void *ctx) {
    return xcalloc(1, sizeof(struct fuse_buf));
}

static void buffer_free(void *buffer) {
    free(((struct fuse_buf *)buffer)->mem);
    free(buffer);
}

static const struct loop_ops reading = {receive, process, client, pending, buffer_new, buffer_free};

static void exit_loop(struct mount *m) {
    fuse_session_exit(m->session);
    loop_end(m->loop);
}

/* libfuse unmounts the mount point unless the connection looks dead; it may be another mount's by now. */
static void forget_mountpoint(struct fuse_session *session) {
    int p[2];
    if (pipe2(p, O_CLOEXEC)) return;
    close(p[0]);
    dup3(p[1], fuse_session_fd(session), O_CLOEXEC);
    close(p[1]);
    fuse_session_unmount(session);
}

int fs_run(struct engine *engine, const struct fs_options *options, struct err *err) {
    struct mount *m = xcalloc(1, sizeof *m);
    m->exit_loop = exit_loop;
    m->fs.drop_name = drop_name;
    m->fs.forget_names = forget_names;
    int r = mount_start(m, engine, options, err);
    if (!r) r = new_session(m, err);
    if (!r) m->loop = m->fs.loop = loop_new(&reading, m->session, SIGUSR1, options->awake_us);
    if (!r) r = mount_watch(m, err);
    int e = r ? 0 : loop_run(m->loop);
    if (e) r = err_sys(err, e, "cannot start threads");
    mount_finish(m);
    loop_free(m->loop);
    if (m->session) {
        if (m->detached)
            forget_mountpoint(m->session);
        else
            fuse_session_unmount(m->session);
        fuse_session_destroy(m->session);
    }
    free(m);
    return r;
}
