/* A directory of N files that are always there, as a FUSE filesystem: what listing a directory costs when the
 * filesystem itself does nothing. Low-level API, readdirplus, names and attributes cached for ever. Any other
 * name is a file, too, which the kernel asks for each time: to open, read and close it is LOOKUP, OPEN, READ,
 * READ (the end) and RELEASE. What is written to it goes to FILE, and is synced before the WRITE ends:
 * LOOKUP, OPEN, WRITE, FLUSH and RELEASE.
 *
 *   static_fs N MOUNTPOINT [FILE]     files 0000000.json ...; in the foreground until it is unmounted */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_INODE = 2, FILE_SIZE = 100 };
static unsigned long n_files;
static int written = -1;
static const double forever = 86400;

static void attributes(fuse_ino_t ino, struct stat *st) {
    memset(st, 0, sizeof *st);
    st->st_ino = ino;
    st->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
    st->st_nlink = 1;
    st->st_size = ino == FUSE_ROOT_ID ? 0 : FILE_SIZE;
}

static void name_of(unsigned long i, char name[32]) {
    snprintf(name, 32, "%07lu.json", i);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct fuse_entry_param e = {.attr_timeout = forever, .entry_timeout = forever};
    char *end;
    unsigned long i = strtoul(name, &end, 10);
    (void)parent;
    if (end == name || strcmp(end, ".json") || i >= n_files) {
        i = n_files;
        e.entry_timeout = 0;
    }
    e.ino = FIRST_INODE + i;
    attributes(e.ino, &e.attr);
    fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct stat st;
    (void)fi;
    attributes(ino, &st);
    fuse_reply_attr(req, &st, forever);
}

static size_t add_entry(fuse_req_t req, char *p, size_t room, unsigned long i, int plus) {
    struct fuse_entry_param e = {.ino = FIRST_INODE + i, .attr_timeout = forever, .entry_timeout = forever};
    char name[32];
    name_of(i, name);
    attributes(e.ino, &e.attr);
    return plus ? fuse_add_direntry_plus(req, p, room, name, &e, (off_t)i + 1)
                : fuse_add_direntry(req, p, room, name, &e.attr, (off_t)i + 1);
}

static void list(fuse_req_t req, size_t size, off_t off, int plus) {
    char *buf = malloc(size);
    size_t used = 0;
    for (unsigned long i = (unsigned long)off; i < n_files; i++) {
        size_t len = add_entry(req, buf + used, size - used, i, plus);
        if (len > size - used) break;
        used += len;
    }
    fuse_reply_buf(req, buf, used);
    free(buf);
}
static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    (void)ino, (void)fi;
    list(req, size, off, 0);
}
static void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                           struct fuse_file_info *fi) {
    (void)ino, (void)fi;
    list(req, size, off, 1);
}
static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    (void)ino;
    fuse_reply_open(req, fi);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    (void)ino;
    fi->direct_io = 1;
    fuse_reply_open(req, fi);
}
static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    static const char zeros[FILE_SIZE];
    (void)ino, (void)fi;
    size_t left = off < FILE_SIZE ? (size_t)(FILE_SIZE - off) : 0;
    fuse_reply_buf(req, zeros, size < left ? size : left);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi) {
    (void)ino, (void)off, (void)fi;
    if (write(written, buf, size) != (ssize_t)size || fdatasync(written))
        fuse_reply_err(req, EIO);
    else
        fuse_reply_write(req, size);
}
static void on_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    (void)ino, (void)fi;
    fuse_reply_err(req, 0);
}

int main(int argc, char **argv) {
    static const struct fuse_lowlevel_ops ops = {.lookup = on_lookup,
                                                 .getattr = on_getattr,
                                                 .open = on_open,
                                                 .read = on_read,
                                                 .write = on_write,
                                                 .flush = on_flush,
                                                 .opendir = on_opendir,
                                                 .readdir = on_readdir,
                                                 .readdirplus = on_readdirplus};
    char *options[] = {argv[0], (char *)"-ofsname=static_fs,default_permissions"};
    struct fuse_args args = FUSE_ARGS_INIT(2, options);
    if (argc < 3) return 2;
    if (argc > 3) written = open(argv[3], O_WRONLY | O_CREAT | O_APPEND, 0600);
    n_files = strtoul(argv[1], NULL, 10);
    struct fuse_session *se = fuse_session_new(&args, &ops, sizeof ops, NULL);
    if (!se || fuse_set_signal_handlers(se) || fuse_session_mount(se, argv[2])) return 1;
    int r = fuse_session_loop(se);
    fuse_session_unmount(se);
    fuse_remove_signal_handlers(se);
    fuse_session_destroy(se);
    return r < 0;
}
