/* The table of open collections. */
#include "fn/core.h"
#include "fn/view.h"

#include <stdio.h>

static struct coll *coll_new(struct core *core, const char *cid, struct err *err) {
    struct coll *c = xcalloc(1, sizeof *c);
    c->core = core;
    snprintf(c->cid, sizeof c->cid, "%s", cid);
    snprintf(c->root_key, sizeof c->root_key, "roots/%s", cid);
    snprintf(c->data_prefix, sizeof c->data_prefix, "data/%s/", cid);
    if (log_open(core->logs, cid, core->clock, &c->log, err)) {
        free(c);
        return NULL;
    }
    pthread_mutex_init(&c->build_lock, NULL);
    pthread_mutex_init(&c->merge_lock, NULL);
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->history_lock, NULL);
    c->n_shards = 1;
    return c;
}

int core_coll(struct core *core, const char *cid, struct coll **ret, struct err *err) {
    struct coll *found = NULL;
    if (strlen(cid) != CID_LEN) return err_set(err, ERR_NOT_FOUND, "no such collection");
    pthread_mutex_lock(&core->lock);
    for (size_t i = 0; i < core->n_colls && !found; i++)
        if (!strcmp(core->colls[i]->cid, cid)) found = core->colls[i];
    if (!found && (found = coll_new(core, cid, err))) {
        VEC_GROW(core->colls, core->n_colls, core->cap_colls);
        core->colls[core->n_colls++] = found;
    }
    pthread_mutex_unlock(&core->lock);
    *ret = found;
    return found ? 0 : -ERR_IO;
}

void core_release_colls(struct core *core) {
    for (size_t i = 0; i < core->n_colls; i++) {
        struct coll *c = core->colls[i];
        coll_drop_views(c);
        log_close(c->log);
        pthread_mutex_destroy(&c->build_lock);
        pthread_mutex_destroy(&c->merge_lock);
        pthread_mutex_destroy(&c->lock);
        pthread_mutex_destroy(&c->history_lock);
        free(c->roots);
        schema_unref(c->written);
        free(c);
    }
    free(core->colls);
    core->colls = NULL;
    core->n_colls = core->cap_colls = 0;
}

void coll_set_error(struct coll *c, const struct err *err) {
    pthread_mutex_lock(&c->history_lock);
    snprintf(c->last_error, sizeof c->last_error, "%.250s", err->text);
    c->last_error_ms = clock_now_ms(c->core->clock);
    pthread_mutex_unlock(&c->history_lock);
}

void coll_last_error(struct coll *c, char *out, size_t size, int64_t *ret_ms) {
    pthread_mutex_lock(&c->history_lock);
    snprintf(out, size, "%s", c->last_error);
    *ret_ms = c->last_error_ms;
    pthread_mutex_unlock(&c->history_lock);
}
