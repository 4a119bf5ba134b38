/* The root: collections, aliases and the generated files beside them. */
#include "node.h"
#include "path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static char *alias_path(struct fs *fs, const char *name) {
    struct buf b = BUF_INIT;
    path_make_dir(fs->files_dir);
    buf_printf(&b, "%s/aliases", fs->files_dir);
    path_make_dir(buf_str(&b));
    if (name) buf_printf(&b, "/%s", name);
    buf_str(&b);
    return (char *)buf_detach(&b, NULL);
}

static bool alias_target(struct fs *fs, const char *name, char out[PATH_MAX]) {
    char *path = alias_path(fs, name);
    ssize_t n = readlink(path, out, PATH_MAX - 1);
    free(path);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

static int generated(struct call *c, struct node *dir, const char *name, struct node **ret, bool *ret_known) {
    struct buf b = BUF_INIT;
    int64_t mtime = 0;
    int r = 0;
    *ret_known = true;
    if (!strcmp(name, "README.md"))
        r = text_readme(c, &b);
    else if (!strcmp(name, "status.json"))
        r = text_root_status(c, &b);
    else if (!strcmp(name, "errors.jsonl"))
        error_log_text(&c->fs->errors, &b, &mtime);
    else
        *ret_known = false;
    if (*ret_known && !r) *ret = text_node(c->fs, dir, name, &b, mtime);
    buf_release(&b);
    return r;
}

static struct node *collection_node(struct fs *fs, struct node *root, const struct collection_info *info) {
    struct place *p = place_live(fs, info);
    struct buf key = BUF_INIT;
    buf_printf(&key, "/collection/%s.%llu", info->cid, (unsigned long long)info->generation);
    buf_str(&key);
    struct node *n = inode_new(&collection_ops, root, p, info->name, (char *)buf_detach(&key, NULL));
    n->mode = S_IFDIR | 0755;
    n->mtime_ms = info->updated_ms;
    place_unref(fs, p);
    return inode_add(fs, n);
}

static int root_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    char target[PATH_MAX];
    bool known;
    int r = generated(c, dir, name, ret, &known);
    if (known) return r;
    if (!strcmp(name, ".ldbfs")) {
        *ret = dir_node(c->fs, &control_ops, dir, name, NULL, NULL);
        return 0;
    }
    if (!path_is_collection_name(name)) return err_set(&c->err, ERR_NOT_FOUND, "there is no '%s'", name);
    struct collection_info info;
    bool kept = engine_keeps_names(c->fs->engine); /* before it is looked up */
    r = engine_find(c->fs->engine, name, &info, &c->err);
    if (!r) {
        *ret = collection_node(c->fs, dir, &info);
        c->keep_s = kept ? FS_TIMEOUT_FIXED_S : 0;
    } else if (r == -ERR_NOT_FOUND && alias_target(c->fs, name, target)) {
        *ret = symlink_node(c->fs, dir, name, target);
        r = 0;
    }
    return r;
}

static int list_one(void *ctx, const struct collection_info *info) {
    dir_list_add(ctx, info->name, S_IFDIR, 0);
    return 0;
}

static int root_list(struct call *c, struct node *dir, struct dir_list *out) {
    dir_list_add(out, "README.md", S_IFREG, 0);
    dir_list_add(out, "errors.jsonl", S_IFREG, 0);
    dir_list_add(out, "status.json", S_IFREG, 0);
    dir_list_add(out, ".ldbfs", S_IFDIR, 0);
    char *path = alias_path(c->fs, NULL);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') dir_list_add(out, e->d_name, S_IFLNK, 0);
    if (d) closedir(d);
    free(path);
    return engine_list(c->fs->engine, list_one, out, &c->err);
}

static int root_mkdir(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct collection_info info;
    char target[PATH_MAX];
    if (!path_is_collection_name(name))
        return call_fail(c, ERR_INVALID, "collection names are 1-52 of A-Z a-z 0-9 _ -",
                         "'%s' is no collection name", name);
    if (alias_target(c->fs, name, target)) return call_fail(c, ERR_EXISTS, NULL, "'%s' is an alias", name);
    int r = engine_create(c->fs->engine, name, NULL, &info, &c->err);
    if (!r) *ret = collection_node(c->fs, dir, &info);
    return r;
}

static int root_rmdir(struct call *c, struct node *dir, const char *name) {
    struct collection_info info;
    if (!strcmp(name, ".ldbfs")) return 0; /* rm -r of everything */
    int r = engine_find(c->fs->engine, name, &info, &c->err);
    if (r) return r;
    struct place *p = place_live(c->fs, &info);
    pthread_mutex_lock(&p->lock);
    uint64_t before = p->mark_pid == c->pid ? p->mark_seq : 0;
    pthread_mutex_unlock(&p->lock);
    place_unref(c->fs, p);
    return engine_drop(c->fs->engine, info.cid, before, &c->err);
}

static bool is_generated(const char *name) {
    return !strcmp(name, "README.md") || !strcmp(name, "status.json") || !strcmp(name, "errors.jsonl");
}

static int root_unlink(struct call *c, struct node *dir, const char *name) {
    if (is_generated(name)) return 0;
    char *path = alias_path(c->fs, name);
    int r =
        unlink(path) ? err_sys(&c->err, errno, "cannot remove '%s'", name) : path_sync_parent(path, &c->err);
    free(path);
    return r;
}

static int root_symlink(struct call *c, struct node *dir, const char *name, const char *target,
                        struct node **ret) {
    struct collection_info info;
    if (!path_is_collection_name(name))
        return call_fail(c, ERR_INVALID, NULL, "'%s' is no name for an alias", name);
    if (!engine_find(c->fs->engine, name, &info, NULL))
        return call_fail(c, ERR_EXISTS, NULL, "'%s' is a collection", name);
    char *path = alias_path(c->fs, name);
    int r = symlink(target, path) ? err_sys(&c->err, errno, "cannot make the alias '%s'", name)
                                  : path_sync_parent(path, &c->err);
    free(path);
    if (!r) *ret = symlink_node(c->fs, dir, name, target);
    return r;
}

static int rename_alias(struct call *c, const char *name, const char *new_name) {
    char *from = alias_path(c->fs, name), *to = alias_path(c->fs, new_name);
    int r = rename(from, to) ? err_sys(&c->err, errno, "cannot rename '%s'", name)
                             : path_sync_parent(to, &c->err);
    free(from);
    free(to);
    return r;
}

static int root_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                       const char *new_name, unsigned flags) {
    struct collection_info info;
    char target[PATH_MAX];
    if (new_dir->ops == &trash_ops)
        return call_fail(c, ERR_PERM, "rmdir drops a collection; it can be brought back from .ldbfs/trash",
                         "a collection cannot be moved to the trash");
    if (new_dir != dir) return call_fail(c, ERR_PERM, NULL, "a collection can only be renamed in the root");
    if (is_generated(name) || !strcmp(name, ".ldbfs"))
        return call_fail(c, ERR_PERM, NULL, "'%s' cannot be renamed", name);
    if (!path_is_collection_name(new_name))
        return call_fail(c, ERR_INVALID, "collection names are 1-52 of A-Z a-z 0-9 _ -",
                         "'%s' is no collection name", new_name);
    if (alias_target(c->fs, name, target)) return rename_alias(c, name, new_name);
    if (alias_target(c->fs, new_name, target))
        return call_fail(c, ERR_EXISTS, NULL, "'%s' is an alias", new_name);
    int r = engine_find(c->fs->engine, name, &info, &c->err);
    if (!r) r = engine_rename(c->fs->engine, info.cid, new_name, &c->err);
    if (r) return r;
    if (!engine_find_cid(c->fs->engine, info.cid, &info, NULL)) place_unref(c->fs, place_live(c->fs, &info));
    return 0;
}

static int newest(void *ctx, const struct collection_info *info) {
    int64_t *ms = ctx;
    *ms = MAX(*ms, MAX(info->updated_ms, info->created_ms));
    return 0;
}

static int root_stat(struct call *c, struct node *n) {
    int64_t ms = c->fs->start_ms;
    engine_list(c->fs->engine, newest, &ms, NULL);
    __atomic_store_n(&n->mtime_ms, ms, __ATOMIC_RELAXED);
    return 0;
}

static int root_create(struct call *c, struct node *dir, const char *name, mode_t mode, struct handle *h,
                       struct node **ret) {
    return call_fail(c, ERR_PERM, "mkdir NAME makes a collection; cp FILE NAME/ingest/ fills it",
                     "files cannot be made in the root");
}

const struct node_ops root_ops = {.kind = "root",
                                  .lookup = root_lookup,
                                  .list = root_list,
                                  .create = root_create,
                                  .mkdir = root_mkdir,
                                  .unlink = root_unlink,
                                  .rmdir = root_rmdir,
                                  .symlink = root_symlink,
                                  .rename = root_rename,
                                  .stat = root_stat,
                                  .accepts_any_attr = true};
