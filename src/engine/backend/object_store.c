/* Checked wrappers of the object store: callers' mistakes and bad keys end here, whatever the implementation.
 */
#include "backend/object_store.h"
#include "backend/object_store_many.h"

#include <assert.h>

static bool is_key_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/* Checks the segments of s; the last one may be empty or cut short when s is a prefix. */
static int check_segments(const char *s, bool prefix, const char **ret_reason) {
    size_t len = strlen(s);
    *ret_reason = "is longer than 512 bytes";
    if (len >= OBJECT_KEY_SIZE) return -1;
    for (const char *p = s;; p++) {
        size_t n = 0;
        while (is_key_char(p[n])) n++;
        bool last = !p[n];
        *ret_reason = "has a character that keys cannot have";
        if (!last && p[n] != '/') return -1;
        *ret_reason = "has a segment of more than 250 bytes";
        if (n > OBJECT_KEY_SEGMENT_MAX) return -1;
        if (last && prefix) return 0;
        *ret_reason = "has an empty, \".\" or \"..\" segment";
        if (n == 0 || (p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.')))) return -1;
        if (last) return 0;
        p += n;
    }
}

static int check_key(const char *key, struct err *err) {
    assert(key);
    const char *reason;
    if (!check_segments(key, false, &reason)) return 0;
    return err_set(err, ERR_INVALID, "object key \"%.100s\" %s", key, reason);
}

static int check_prefix(const char *prefix, struct err *err) {
    assert(prefix);
    const char *reason;
    if (!check_segments(prefix, true, &reason)) return 0;
    return err_set(err, ERR_INVALID, "object prefix \"%.100s\" %s", prefix, reason);
}

int object_put(struct object_store *s, const char *key, const void *data, size_t len,
               enum put_condition condition, const char *etag, struct object_info *ret_info,
               struct err *err) {
    assert(data || !len);
    assert(condition != PUT_IF_MATCH || etag);
    int r = check_key(key, err);
    return r ? r : s->ops->put(s, key, data, len, condition, etag, ret_info, err);
}

int object_put_file(struct object_store *s, const char *key, const char *path, struct object_info *ret_info,
                    struct err *err) {
    assert(path);
    int r = check_key(key, err);
    return r ? r : s->ops->put_file(s, key, path, ret_info, err);
}

int object_get(struct object_store *s, const char *key, const char *version, uint64_t off, size_t len,
               struct buf *out, struct object_info *ret_info, struct err *err) {
    assert(out);
    int r = check_key(key, err);
    return r ? r : s->ops->get(s, key, version, off, len, out, ret_info, err);
}

int object_get_many(struct object_store *s, struct object_range *ranges, size_t n, struct err *err) {
    for (size_t i = 0; i < n; i++) {
        int r = check_key(ranges[i].key, err);
        if (r) return r;
    }
    if (!n) return 0;
    return s->ops->get_many ? s->ops->get_many(s, ranges, n, err) : object_get_threads(s, ranges, n, err);
}

int object_head(struct object_store *s, const char *key, const char *version, struct object_info *ret_info,
                struct err *err) {
    int r = check_key(key, err);
    return r ? r : s->ops->head(s, key, version, ret_info, err);
}

int object_current(struct object_store *s, const char *key, char ret_version[OBJECT_VERSION_SIZE],
                   struct err *err) {
    struct object_info info;
    int r = check_key(key, err);
    if (r) return r;
    if (s->ops->current) return s->ops->current(s, key, ret_version, err);
    r = s->ops->head(s, key, NULL, &info, err);
    if (!r) memcpy(ret_version, info.version, OBJECT_VERSION_SIZE);
    return r;
}

int object_list_versions(struct object_store *s, const char *prefix, object_visit *visit, void *ctx,
                         struct err *err) {
    assert(visit);
    int r = check_prefix(prefix, err);
    return r ? r : s->ops->list_versions(s, prefix, visit, ctx, err);
}

int object_delete_version(struct object_store *s, const char *key, const char *version, struct err *err) {
    assert(version);
    int r = check_key(key, err);
    return r ? r : s->ops->delete_version(s, key, version, err);
}

int object_expire_versions(struct object_store *s, const char *prefix, int64_t before_ms,
                           bool (*keep)(void *ctx, const struct object_info *), void *ctx, struct err *err) {
    int r = check_prefix(prefix, err);
    return r ? r : s->ops->expire_versions(s, prefix, before_ms, keep, ctx, err);
}

bool object_can_map(struct object_store *s) {
    return s->ops->map != NULL;
}

int object_map(struct object_store *s, const char *key, const char *version, struct object_mapping *ret,
               struct err *err) {
    assert(ret);
    if (!s->ops->map)
        return err_set(err, ERR_UNSUPPORTED, "the object store \"%s\" cannot map objects", s->ops->name);
    int r = check_key(key, err);
    return r ? r : s->ops->map(s, key, version, ret, err);
}

void object_unmap(struct object_store *s, struct object_mapping *m) {
    if (m->data) s->ops->unmap(s, m);
    *m = (struct object_mapping){0};
}

const char *object_staging_dir(struct object_store *s) {
    return s->ops->staging_dir(s);
}

void object_store_close(struct object_store *s) {
    if (s) s->ops->close(s);
}
