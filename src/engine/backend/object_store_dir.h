/* Shared by the two files of the directory object store; private to them. */
#pragma once
#include "backend/object_store.h"

#include <sys/stat.h>

enum {
    VERSION_LEN = 25,                            /* v + 16 hex + 8 hex */
    STORE_PATH_SIZE = 2 * OBJECT_KEY_SIZE + 128, /* a key with every segment escaped, '/', a name */
    RETRIES_MAX = 1000,                          /* each means that another writer made progress */
};

struct store {
    struct object_store base;
    struct clock *clock;
    int dir_fd;
    char *dir, *staging;
};
static inline struct store *store_of(struct object_store *s) {
    return (struct store *)s;
}

bool is_version(const char *s);
/* The directory of a key, relative to the store's; returns its length. */
size_t key_path(const char *key, char out[STORE_PATH_SIZE]);
void version_path(const char *path, const char *name, char ret[STORE_PATH_SIZE]);
void fill_info(struct object_info *, const char *key, const char *version, const struct stat *, bool latest);
/* The current version, "" when there is none. */
int read_current(struct store *, const char *key, const char *path, char ret[OBJECT_VERSION_SIZE],
                 struct err *);
int err_object(struct err *, int sys_errno, const char *what, const char *key);

struct names {
    char (*v)[VERSION_LEN + 1];
    size_t n, cap;
};
/* Every version file in a key's directory, unordered; 0 or an errno. */
int scan_versions(struct store *, const char *path, struct names *ret);
/* The committed versions of a key, newest first: the first is the current one. */
int list_key(struct store *, const char *key, struct names *ret, struct err *);
/* 0 or an errno, ENOENT when the version is gone by now. */
int stat_version(struct store *, const char *key, const char *version, bool latest, struct object_info *ret);

struct keys {
    const char *prefix;
    size_t prefix_len;
    char **v;
    size_t n, cap;
};
/* All keys with the prefix, in order. */
int list_keys(struct store *, const char *prefix, struct keys *ret, struct err *);
void keys_release(struct keys *);

int dir_list_versions(struct object_store *, const char *prefix, object_visit *, void *ctx, struct err *);
