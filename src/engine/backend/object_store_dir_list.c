/* The versioned local directory: listings. None of them holds a lock. */
#include "backend/object_store_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int newest_first(const void *a, const void *b) {
    return strcmp(b, a);
}

int scan_versions(struct store *s, const char *path, struct names *ret) {
    int fd = openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    DIR *d = fdopendir(fd);
    if (!d) {
        int e = errno;
        close(fd);
        return e;
    }
    ret->n = 0;
    errno = 0;
    for (struct dirent *ent; (ent = readdir(d)); errno = 0) {
        if (!is_version(ent->d_name)) continue;
        VEC_GROW(ret->v, ret->n, ret->cap);
        memcpy(ret->v[ret->n++], ent->d_name, VERSION_LEN + 1);
    }
    int e = errno;
    closedir(d);
    return e;
}

/* The committed versions of a key, newest first: the first is the current one. Without lock: when the current
 * version is not among them a delete came between, then again. */
int list_key(struct store *s, const char *key, struct names *ret, struct err *err) {
    char path[STORE_PATH_SIZE], current[OBJECT_VERSION_SIZE];
    key_path(key, path);
    for (int i = 0; i < RETRIES_MAX; i++) {
        ret->n = 0;
        int r = read_current(s, key, path, current, err);
        if (r || !current[0]) return r;
        int e = scan_versions(s, path, ret);
        if (e && e != ENOENT) return err_object(err, e, "list", key);
        if (ret->n) qsort(ret->v, ret->n, sizeof *ret->v, newest_first);
        size_t newer = 0;
        while (newer < ret->n && strcmp(ret->v[newer], current) > 0) newer++;
        if (newer >= ret->n || strcmp(ret->v[newer], current)) continue;
        ret->n -= newer;
        memmove(ret->v, ret->v + newer, ret->n * sizeof *ret->v);
        return 0;
    }
    return err_set(err, ERR_CORRUPT, "object \"%s\": the current version %s is missing", key, current);
}

void keys_release(struct keys *k) {
    for (size_t i = 0; i < k->n; i++) free(k->v[i]);
    free(k->v);
}

static int by_key(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether a directory of this key can be, or hold, a key with the prefix. */
static bool may_match(const struct keys *k, const char *key) {
    size_t len = strlen(key);
    if (len >= k->prefix_len) return !strncmp(key, k->prefix, k->prefix_len);
    return !strncmp(key, k->prefix, len) && k->prefix[len] == '/';
}

static bool is_dir(int dir_fd, const struct dirent *ent) {
    struct stat st;
    if (ent->d_type != DT_UNKNOWN) return ent->d_type == DT_DIR;
    return !fstatat(dir_fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

/* The names of the directories in a directory, and whether it is a key itself. */
static int scan_dir(struct store *s, const char *path, bool *ret_is_key, char ***ret, size_t *ret_n) {
    int fd = openat(s->dir_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    DIR *d = fdopendir(fd);
    if (!d) {
        int e = errno;
        close(fd);
        return e;
    }
    size_t cap = 0;
    errno = 0;
    for (struct dirent *ent; (ent = readdir(d)); errno = 0) {
        if (!strcmp(ent->d_name, "current")) *ret_is_key = true;
        if (ent->d_name[0] == '.' || !is_dir(fd, ent)) continue;
        VEC_GROW(*ret, *ret_n, cap);
        (*ret)[(*ret_n)++] = xstrdup(ent->d_name);
    }
    int e = errno;
    closedir(d);
    return e;
}

/* Collects the keys at and below a directory. A directory that has vanished held nothing. */
static int collect(struct store *s, const char *path, const char *key, struct keys *out) {
    bool is_key = false;
    char **names = NULL;
    size_t n = 0;
    int e = scan_dir(s, path, &is_key, &names, &n);
    if (is_key && !strncmp(key, out->prefix, out->prefix_len)) {
        VEC_GROW(out->v, out->n, out->cap);
        out->v[out->n++] = xstrdup(key);
    }
    for (size_t i = 0; i < n; i++) {
        char sub_path[STORE_PATH_SIZE], sub_key[STORE_PATH_SIZE];
        const char *name = names[i], *segment = name[0] == '%' ? name + 1 : name;
        snprintf(sub_path, sizeof sub_path, "%s%s%s", path, *path ? "/" : "", name);
        snprintf(sub_key, sizeof sub_key, "%s%s%s", key, *key ? "/" : "", segment);
        if (!e && strlen(sub_key) < OBJECT_KEY_SIZE && may_match(out, sub_key))
            e = collect(s, sub_path, sub_key, out);
        free(names[i]);
    }
    free(names);
    return e == ENOENT || e == ENOTDIR ? 0 : e;
}

/* All keys with the prefix, in order. */
int list_keys(struct store *s, const char *prefix, struct keys *ret, struct err *err) {
    *ret = (struct keys){.prefix = prefix, .prefix_len = strlen(prefix)};
    char key[OBJECT_KEY_SIZE], path[STORE_PATH_SIZE] = "";
    const char *slash = strrchr(prefix, '/');
    snprintf(key, sizeof key, "%.*s", slash ? (int)(slash - prefix) : 0, prefix);
    if (key[0]) key_path(key, path);
    int e = collect(s, path, key, ret);
    if (e) {
        keys_release(ret);
        return err_sys(err, e, "could not list \"%s/%s\"", s->dir, prefix);
    }
    if (ret->n) qsort(ret->v, ret->n, sizeof *ret->v, by_key);
    return 0;
}

/* ENOENT when the version is gone by now. */
int stat_version(struct store *s, const char *key, const char *version, bool latest,
                 struct object_info *ret) {
    char path[STORE_PATH_SIZE], full[STORE_PATH_SIZE];
    struct stat st;
    key_path(key, path);
    version_path(path, version, full);
    if (fstatat(s->dir_fd, full, &st, AT_SYMLINK_NOFOLLOW)) return errno;
    fill_info(ret, key, version, &st, latest);
    return 0;
}

int dir_list_versions(struct object_store *os, const char *prefix, object_visit *visit, void *ctx,
                      struct err *err) {
    struct store *s = store_of(os);
    struct keys keys;
    struct names names = {0};
    struct object_info info;
    int r = list_keys(s, prefix, &keys, err);
    if (r) return r;
    for (size_t i = 0; i < keys.n && !r; i++) {
        r = list_key(s, keys.v[i], &names, err);
        for (size_t k = 0; k < names.n && !r; k++) {
            int e = stat_version(s, keys.v[i], names.v[k], k == 0, &info);
            if (e && e != ENOENT) r = err_object(err, e, "list", keys.v[i]);
            if (!e) r = visit(ctx, &info);
        }
    }
    free(names.v);
    keys_release(&keys);
    return r;
}
