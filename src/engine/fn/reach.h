/* What is reachable: visits every root there is (current, retained, named, being restored) and everything
 * below, each object once. Shared by the cleaner (mark) and check. */
#pragma once
#include "fn/catalog.h"

/* A set of strings. */
struct string_set {
    char **slots;
    size_t n, cap;
};
bool string_set_add(struct string_set *, const char *s); /* false if it was there */
bool string_set_has(const struct string_set *, const char *s);
void string_set_release(struct string_set *);

struct reach_visitor {
    /* Each may be NULL. A negative result ends the walk. */
    int (*root)(void *ctx, const struct tree *root, const char *key, bool current, struct err *);
    int (*leaf)(void *ctx, const struct leaf *, struct err *); /* each (segment, deletes) pair once */
    /* A root or intermediate that cannot be read: 0 = go on. NULL: the walk fails. */
    int (*broken)(void *ctx, const char *key, const char *version, struct err *);
    void *ctx;
};
struct reach {
    struct string_set objects; /* keys of every object reached below roots/ and named/ */
};
int reach_all(struct core *, const struct reach_visitor *, struct reach *ret, struct err *);
void reach_release(struct reach *);
