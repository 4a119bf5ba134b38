/* The snapshots of a collection: times and names as directories; mv out of here clones or restores. */
#include "node.h"
#include "path.h"

#include <stdio.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* .ldbfs/snapshots: one directory per collection. Its parts are found by name at every lookup, so they are
 * not bound to a place that may be dropped: the list node carries the live place. */
static int snapshots_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct collection_info info;
    if (!path_is_collection_name(name))
        return err_set(&c->err, ERR_NOT_FOUND, "there is no collection '%s'", name);
    int r = engine_find(c->fs->engine, name, &info, &c->err);
    if (r) return r;
    struct place *p = place_live(c->fs, &info);
    *ret = dir_node(c->fs, &snapshot_list_ops, dir, name, p, info.cid);
    place_unref(c->fs, p);
    return 0;
}

static int add_collection(void *ctx, const struct collection_info *info) {
    dir_list_add(ctx, info->name, S_IFDIR, 0);
    return 0;
}

static int snapshots_list(struct call *c, struct node *dir, struct dir_list *out) {
    return engine_list(c->fs->engine, add_collection, out, &c->err);
}

const struct node_ops snapshots_ops = {
    .kind = "snapshots", .lookup = snapshots_lookup, .list = snapshots_list, .accepts_any_attr = true};

/* ---- of one collection ---- */

/* Below the directory's own key, which has the collection's name in it: a renamed collection's snapshots are
 * other nodes. The kernel has one name for a directory, and cannot move it while it renames something. */
static char *snapshot_key(const struct node *dir, const char *name, const char *version) {
    struct buf key = BUF_INIT;
    buf_printf(&key, "%s/%s#%s", dir->key, name, version);
    buf_str(&key);
    return (char *)buf_detach(&key, NULL);
}

static struct node *snapshot_node(struct fs *fs, struct node *dir, const char *name,
                                  const struct snapshot_info *s) {
    struct collection_info info = {0};
    memcpy(info.cid, dir->place->cid, sizeof info.cid);
    pthread_mutex_lock(&fs->places_lock);
    memcpy(info.name, dir->place->name, sizeof info.name);
    pthread_mutex_unlock(&fs->places_lock);
    struct place *p = place_frozen(fs, &info, s);
    struct node *n = inode_new(&snapshot_ops, dir, p, name, snapshot_key(dir, name, s->version));
    place_unref(fs, p);
    n->mode = S_IFDIR | 0755;
    n->mtime_ms = s->commit_ms;
    n->data = xmalloc(sizeof *s);
    memcpy(n->data, s, sizeof *s);
    return inode_add(fs, n);
}

static int list_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct snapshot_info s;
    int r = engine_snapshot_resolve(c->fs->engine, dir->place->cid, name, &s, &c->err);
    if (r == -ERR_INVALID && name[0] != '@')
        err_set(&c->err, ERR_NOT_FOUND, "there is no snapshot '%.100s'", name);
    if (r) return -(int)c->err.code;
    *ret = snapshot_node(c->fs, dir, name, &s);
    return 0;
}

static int add_snapshot(void *ctx, const struct snapshot_info *s) {
    dir_list_add(ctx, s->name, S_IFDIR, 0);
    return 0;
}

static int list_list(struct call *c, struct node *dir, struct dir_list *out) {
    return engine_snapshots(c->fs->engine, dir->place->cid, true, add_snapshot, out, &c->err);
}

static int list_mkdir(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct snapshot_info s;
    int r = engine_snapshot_create(c->fs->engine, dir->place->cid, name, &s, &c->err);
    if (!r) *ret = snapshot_node(c->fs, dir, name, &s);
    return r;
}

static int list_rmdir(struct call *c, struct node *dir, const char *name) {
    struct snapshot_info s;
    int r = engine_snapshot_resolve(c->fs->engine, dir->place->cid, name, &s, &c->err);
    if (r) return r;
    if (!s.named || strcmp(s.name, name))
        return call_fail(c, ERR_PERM,
                         "only named snapshots are removed by hand; the others go after the retention time",
                         "'%s' is not a named snapshot", name);
    return engine_snapshot_delete(c->fs->engine, dir->place->cid, name, &c->err);
}

static int list_stat(struct call *c, struct node *n) {
    struct collection_status s;
    int r = engine_status_quick(c->fs->engine, n->place->cid, &s, &c->err);
    if (!r) node_newer(n, s.root_time_ms);
    return r;
}

/* The kernel has moved the snapshot's directory entry: later lookups of the snapshot get a node of their own.
 */
static void forget_moved(struct fs *fs, struct node *dir, const char *name, const struct snapshot_info *s) {
    char *key = snapshot_key(dir, name, s->version);
    struct node *n = inode_find_key(&fs->inodes, key);
    free(key);
    if (!n) return;
    inode_unkey(&fs->inodes, n);
    inode_unref(fs, n);
}

static int clone_or_restore(struct call *c, struct place *p, const struct snapshot_info *s,
                            const char *new_name, unsigned flags) {
    struct collection_info there, made;
    int r = engine_find(c->fs->engine, new_name, &there, &c->err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(&c->err);
        return engine_clone(c->fs->engine, p->cid, s->version, new_name, &made, &c->err);
    }
    if (r) return r;
    if (flags & RENAME_NOREPLACE) return call_fail(c, ERR_EXISTS, NULL, "'%s' exists", new_name);
    if (strcmp(there.cid, p->cid))
        return call_fail(c, ERR_EXISTS, "a snapshot restores its own collection only; clone it to a new name",
                         "'%s' is another collection", new_name);
    return engine_restore(c->fs->engine, p->cid, s->version, &c->err);
}

static int list_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                       const char *new_name, unsigned flags) {
    struct snapshot_info s;
    if (new_dir->ops == &collection_ops)
        return call_fail(c, ERR_PERM,
                         "mv -T SNAPSHOT COLLECTION restores in place (with -T); mv SNAPSHOT NEW clones",
                         "a snapshot cannot be moved into a collection");
    if (new_dir->ops != &root_ops)
        return call_fail(c, ERR_PERM, "mv SNAPSHOT NEW clones; mv -T SNAPSHOT COLLECTION restores",
                         "a snapshot can only be moved to the root");
    if (!path_is_collection_name(new_name))
        return call_fail(c, ERR_INVALID, "collection names are 1-52 of A-Z a-z 0-9 _ -",
                         "'%s' is no collection name", new_name);
    int r = engine_snapshot_resolve(c->fs->engine, dir->place->cid, name, &s, &c->err);
    if (!r) r = clone_or_restore(c, dir->place, &s, new_name, flags);
    if (!r) forget_moved(c->fs, dir, name, &s);
    return r;
}

const struct node_ops snapshot_list_ops = {.kind = "snapshots of a collection",
                                           .lookup = list_lookup,
                                           .list = list_list,
                                           .mkdir = list_mkdir,
                                           .rmdir = list_rmdir,
                                           .rename = list_rename,
                                           .stat = list_stat,
                                           .accepts_any_attr = true};
