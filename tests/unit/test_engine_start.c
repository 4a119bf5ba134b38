/* An engine that cannot have the threads it needs says so, and leaves nothing behind; which of them it is
 * that cannot be made does not matter. */
#include "engine_test.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

static unsigned n_created, refused; /* the one with this number, from 1; 0: none */

/* In the place of the C library's. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return ++n_created == refused ? EAGAIN : real(thread, attr, start, arg);
}

static int open_with(unsigned refuse, struct engine **ret) {
    struct engine_options o;
    engine_options_init(&o);
    o.data_dir = dir;
    o.background = true;
    o.threads = 2;
    n_created = 0;
    refused = refuse;
    err_clear(&err);
    int r = engine_open(&o, ret, &err);
    refused = 0;
    return r;
}

/* There is one for all engines of a process, made by the first. */
TEST(nobody_to_watch_time_limits) {
    struct engine *e;
    fresh_dir();
    CHECK(open_with(1, &e) < 0 && strstr(err.text, "could not start"));
    CHECK(open_with(2, &e) < 0 && strstr(err.text, "could not start"));
    CHECK(open_with(3, &e) < 0 && strstr(err.text, "could not start the thread that watches time limits"));
    CHECK(!open_with(0, &e));
    done(e);
}

TEST(threads_that_cannot_be_made) {
    struct engine *e = fresh();
    struct collection_info coll;
    CHECK(e && !engine_create(e, "c", NULL, &coll, &err));
    engine_close(e);
    CHECK(!open_with(0, &e));
    engine_close(e);
    unsigned wanted = n_created;
    CHECK(wanted >= 4); /* two that run queries, one that builds, one that merges */
    for (unsigned i = 1; i <= wanted; i++) {
        CHECK(open_with(i, &e) < 0);
        CHECK(strstr(err.text, "could not start") && strstr(err.text, dir));
    }
    CHECK(!open_with(0, &e) && !engine_find(e, "c", &coll, &err));
    done(e);
}
