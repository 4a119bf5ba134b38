/* .ldbfs: statistics, log, limits, the trash, and the snapshots of every collection. */
#include "node.h"
#include "path.h"

#include <stdio.h>

static int control_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct buf b = BUF_INIT;
    int r = 0;
    if (!strcmp(name, "trash"))
        *ret = dir_node(c->fs, &trash_ops, dir, name, NULL, NULL);
    else if (!strcmp(name, "snapshots"))
        *ret = dir_node(c->fs, &snapshots_ops, dir, name, NULL, NULL);
    else if (!strcmp(name, "stats"))
        r = text_stats(c, &b);
    else if (!strcmp(name, "limits"))
        r = text_limits(c, &b);
    else if (!strcmp(name, "log"))
        r = text_log(c, &b);
    else
        r = err_set(&c->err, ERR_NOT_FOUND, "there is no '%s'", name);
    if (!r && !*ret) *ret = text_node(c->fs, dir, name, &b, 0);
    buf_release(&b);
    return r;
}

static int control_list(struct call *c, struct node *dir, struct dir_list *out) {
    dir_list_add(out, "stats", S_IFREG, 0);
    dir_list_add(out, "limits", S_IFREG, 0);
    dir_list_add(out, "log", S_IFREG, 0);
    dir_list_add(out, "trash", S_IFDIR, 0);
    return 0;
}

const struct node_ops control_ops = {
    .kind = "control", .lookup = control_lookup, .list = control_list, .accepts_any_attr = true};

/* ---- trash ---- */

struct trash_find {
    const char *name;
    struct collection_info found;
    bool is_found;
};

static int find_trashed(void *ctx, const struct collection_info *info) {
    struct trash_find *f = ctx;
    if (strcmp(info->trash_name, f->name)) return 0;
    f->found = *info;
    f->is_found = true;
    return 1;
}

static int trash_find(struct call *c, const char *name, struct collection_info *ret) {
    struct trash_find f = {.name = name};
    int r = engine_trash_list(c->fs->engine, find_trashed, &f, &c->err);
    if (f.is_found) {
        *ret = f.found;
        return 0;
    }
    return r < 0 ? r : err_set(&c->err, ERR_NOT_FOUND, "there is no '%s' in the trash", name);
}

static int trash_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct collection_info info;
    int r = trash_find(c, name, &info);
    if (r) return r;
    *ret = dir_node(c->fs, &trash_item_ops, dir, name, NULL, info.cid);
    (*ret)->mtime_ms = info.dropped_ms;
    return 0;
}

static int list_trashed(void *ctx, const struct collection_info *info) {
    dir_list_add(ctx, info->trash_name, S_IFDIR, 0);
    return 0;
}

static int trash_list(struct call *c, struct node *dir, struct dir_list *out) {
    return engine_trash_list(c->fs->engine, list_trashed, out, &c->err);
}

static int trash_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                        const char *new_name, unsigned flags) {
    struct collection_info info;
    if (new_dir->ops != &root_ops)
        return call_fail(c, ERR_PERM, "mv .ldbfs/trash/NAME NAME brings a collection back",
                         "a dropped collection goes back to the root");
    if (!path_is_collection_name(new_name))
        return call_fail(c, ERR_INVALID, "collection names are 1-52 of A-Z a-z 0-9 _ -",
                         "'%s' is no collection name", new_name);
    int r = engine_trash_restore(c->fs->engine, name, new_name, &info, &c->err);
    if (r) return r;
    struct buf key = BUF_INIT; /* the node that was moved must not be found as the trash entry again */
    buf_printf(&key, "%s/%s#%s", dir->key, name, info.cid);
    struct node *old = inode_find_key(&c->fs->inodes, buf_str(&key));
    buf_release(&key);
    if (!old) return 0;
    inode_unkey(&c->fs->inodes, old);
    inode_unref(c->fs, old);
    return 0;
}

static int trash_rmdir(struct call *c, struct node *dir, const char *name) {
    return call_fail(c, ERR_PERM, "what is in the trash goes by itself after the retention time",
                     "the trash cannot be emptied here");
}

const struct node_ops trash_ops = {.kind = "trash",
                                   .lookup = trash_lookup,
                                   .list = trash_list,
                                   .rmdir = trash_rmdir,
                                   .rename = trash_rename,
                                   .accepts_any_attr = true};

static int item_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    struct collection_info info;
    struct buf b = BUF_INIT;
    char dropped[TIME_TEXT_SIZE];
    if (strcmp(name, "status.json")) return err_set(&c->err, ERR_NOT_FOUND, "there is no '%s'", name);
    int r = trash_find(c, dir->name, &info);
    if (r) return r;
    time_to_iso(info.dropped_ms, dropped);
    buf_printf(&b, "{\n  \"name\": \"%s\",\n  \"id\": \"%s\",\n  \"dropped\": \"%s\"\n}\n", info.name,
               info.cid, dropped);
    *ret = text_node(c->fs, dir, name, &b, info.dropped_ms);
    return 0;
}

static int item_list(struct call *c, struct node *dir, struct dir_list *out) {
    dir_list_add(out, "status.json", S_IFREG, 0);
    return 0;
}

const struct node_ops trash_item_ops = {
    .kind = "dropped collection", .lookup = item_lookup, .list = item_list, .accepts_any_attr = true};
