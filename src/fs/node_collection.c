/* A collection's directory, live or inside a snapshot. */
#include "node.h"

#include <stdio.h>

static const struct {
    const char *name;
    const struct node_ops *ops; /* NULL: a generated file or the link */
    mode_t type;
    bool in_snapshot;
} entries[] = {{"schema.json", NULL, S_IFREG, true},     {"status.json", NULL, S_IFREG, true},
               {"ingest", &ingest_ops, S_IFDIR, false},  {"docs", &docs_ops, S_IFDIR, true},
               {"query", &query_dir_ops, S_IFDIR, true}, {"queries", &queries_ops, S_IFDIR, false},
               {"snapshots", NULL, S_IFLNK, false}};

static bool shown(const struct node *dir, size_t i) {
    return entries[i].in_snapshot || !dir->place->frozen;
}

static int commit_schema(struct call *c, struct node *n, const char *data, size_t len) {
    int r = place_check_writable(c, n->place);
    if (r) return r;
    c->hint = "indexes can be added; changing or dropping one needs a new collection";
    return engine_schema_extend(c->fs->engine, n->place->cid, data, len, &c->err);
}

static int schema_node(struct call *c, struct node *dir, struct node **ret) {
    struct place *p = dir->place;
    struct schema *s = NULL;
    struct view *v = NULL;
    int r = p->frozen ? place_view(c, p, &v) : engine_schema(c->fs->engine, p->cid, &s, &c->err);
    if (r) return r;
    if (v) s = schema_ref(view_schema(v));
    struct buf b = BUF_INIT;
    schema_write(s, &b);
    *ret = text_node_writable(c->fs, dir, "schema.json", &b, dir->mtime_ms, commit_schema);
    schema_unref(s);
    view_unref(v);
    return 0;
}

static int status_node(struct call *c, struct node *dir, struct node **ret) {
    struct buf b = BUF_INIT;
    int64_t mtime = dir->mtime_ms;
    int r = dir->place->frozen ? text_snapshot_status(c, dir->place, dir->data, &b)
                               : text_collection_status(c, dir->place, &b, &mtime);
    if (!r) *ret = text_node(c->fs, dir, "status.json", &b, mtime);
    buf_release(&b);
    return r;
}

static int snapshots_link(struct call *c, struct node *dir, struct node **ret) {
    struct buf b = BUF_INIT;
    pthread_mutex_lock(&c->fs->places_lock);
    buf_printf(&b, "../.ldbfs/snapshots/%s", dir->place->name);
    pthread_mutex_unlock(&c->fs->places_lock);
    *ret = symlink_node(c->fs, dir, "snapshots", buf_str(&b));
    buf_release(&b);
    return 0;
}

/* Is the collection still there? A dropped one answers "no such file", also to what is still open below it.
 */
static int check_alive(struct call *c, struct node *dir) {
    struct collection_info info;
    if (dir->place->frozen) return 0;
    return engine_find_cid(c->fs->engine, dir->place->cid, &info, &c->err);
}

static int collection_lookup(struct call *c, struct node *dir, const char *name, struct node **ret) {
    size_t i = 0;
    while (i < ARRAY_SIZE(entries) && (strcmp(entries[i].name, name) || !shown(dir, i))) i++;
    if (i == ARRAY_SIZE(entries))
        return err_set(&c->err, ERR_NOT_FOUND, "there is no '%s' in a collection", name);
    int r = check_alive(c, dir);
    if (r) return r;
    if (entries[i].ops) {
        *ret = dir_node(c->fs, entries[i].ops, dir, name, NULL, NULL);
        return 0;
    }
    if (i == 0) return schema_node(c, dir, ret);
    if (i == 1) return status_node(c, dir, ret);
    return snapshots_link(c, dir, ret);
}

static int collection_list(struct call *c, struct node *dir, struct dir_list *out) {
    int r = check_alive(c, dir);
    for (size_t i = 0; i < ARRAY_SIZE(entries) && !r; i++)
        if (shown(dir, i)) dir_list_add(out, entries[i].name, entries[i].type, 0);
    return r;
}

static int collection_stat(struct call *c, struct node *n) {
    uint64_t seq;
    int64_t ms = 0;
    if (n->place->frozen) return 0;
    int r = engine_activity(c->fs->engine, n->place->cid, &seq, &ms, &c->err);
    if (!r) node_newer(n, ms);
    return r;
}

/* rm -r removes what it finds: the generated entries come back until the directory itself is removed. */
static int collection_remove(struct call *c, struct node *dir, const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
        if (!strcmp(entries[i].name, name)) return 0;
    return err_set(&c->err, ERR_NOT_FOUND, "there is no '%s'", name);
}

static int collection_create(struct call *c, struct node *dir, const char *name, mode_t mode,
                             struct handle *h, struct node **ret) {
    return call_fail(c, ERR_PERM, "documents go to docs/ID.json, files of documents to ingest/",
                     "'%s' cannot be made here", name);
}

static int collection_rename(struct call *c, struct node *dir, const char *name, struct node *new_dir,
                             const char *new_name, unsigned flags) {
    return call_fail(c, ERR_PERM, NULL, "'%s' is generated and cannot be moved", name);
}

const struct node_ops collection_ops = {.kind = "collection",
                                        .lookup = collection_lookup,
                                        .list = collection_list,
                                        .create = collection_create,
                                        .unlink = collection_remove,
                                        .rmdir = collection_remove,
                                        .rename = collection_rename,
                                        .stat = collection_stat,
                                        .accepts_any_attr = true};

static void snapshot_release(struct node *n) {
    free(n->data);
}

const struct node_ops snapshot_ops = {.kind = "snapshot",
                                      .lookup = collection_lookup,
                                      .list = collection_list,
                                      .create = collection_create,
                                      .rename = collection_rename,
                                      .release = snapshot_release,
                                      .accepts_any_attr = true};
