/* Walking the trees of all collections. */
#include "fn/reach.h"
#include "util/codec.h"

#include <stdio.h>

static size_t slot_of(const struct string_set *s, const char *str) {
    size_t i = hash64(str, strlen(str), 0) & (s->cap - 1);
    while (s->slots[i] && strcmp(s->slots[i], str)) i = (i + 1) & (s->cap - 1);
    return i;
}

bool string_set_has(const struct string_set *s, const char *str) {
    return s->cap && s->slots[slot_of(s, str)];
}

static void grow(struct string_set *s) {
    struct string_set bigger = {.cap = s->cap ? s->cap * 2 : 256, .n = s->n};
    bigger.slots = xcalloc(bigger.cap, sizeof *bigger.slots);
    for (size_t i = 0; i < s->cap; i++)
        if (s->slots[i]) bigger.slots[slot_of(&bigger, s->slots[i])] = s->slots[i];
    free(s->slots);
    *s = bigger;
}

bool string_set_add(struct string_set *s, const char *str) {
    if (s->n * 2 >= s->cap) grow(s);
    size_t i = slot_of(s, str);
    if (s->slots[i]) return false;
    s->slots[i] = xstrdup(str);
    s->n++;
    return true;
}

void string_set_release(struct string_set *s) {
    for (size_t i = 0; i < s->cap; i++) free(s->slots[i]);
    free(s->slots);
    *s = (struct string_set){0};
}

struct walk {
    struct core *core;
    const struct reach_visitor *v;
    struct reach *reach;
    struct string_set pairs; /* segment + deletes keys */
    struct err *err;
};

static int visit_leaves(struct walk *w, const struct tree *t) {
    for (uint32_t i = 0; i < t->n_leaves; i++) {
        const struct leaf *l = &t->leaves[i];
        char pair[300];
        string_set_add(&w->reach->objects, l->segment.key);
        if (l->deletes.size) string_set_add(&w->reach->objects, l->deletes.key);
        snprintf(pair, sizeof pair, "%s %s", l->segment.key, l->deletes.key);
        if (!string_set_add(&w->pairs, pair) || !w->v->leaf) continue;
        int r = w->v->leaf(w->v->ctx, l, w->err);
        if (r < 0) return r;
    }
    return 0;
}

static int broken(struct walk *w, const char *key, const char *version, int r) {
    if (!w->v->broken) return r;
    return w->v->broken(w->v->ctx, key, version, w->err);
}

static int visit_root(void *p, const struct object_info *info) {
    struct walk *w = p;
    struct tree *t;
    err_clear(w->err);
    int r = tree_load_root(w->core->objects, info->key, info->version, &t, w->err);
    if (r == -ERR_NOT_FOUND) { /* expired while we walk */
        err_clear(w->err);
        return 0;
    }
    if (r) return broken(w, info->key, info->version, r);
    if (w->v->root) r = w->v->root(w->v->ctx, t, info->key, info->is_latest, w->err);
    for (uint32_t i = 0; i < t->n_intermediates && r >= 0; i++) {
        const struct intermediate *m = &t->intermediates[i];
        if (m->ref.size && !string_set_add(&w->reach->objects, m->ref.key)) continue;
        struct tree *one = tree_new_empty("", info->key);
        r = tree_load_intermediate(w->core->objects, one, m, w->err);
        r = r ? broken(w, m->ref.key, m->ref.version, r) : visit_leaves(w, one);
        tree_unref(one);
    }
    tree_unref(t);
    return r < 0 ? r : 0;
}

int reach_all(struct core *core, const struct reach_visitor *v, struct reach *ret, struct err *err) {
    struct walk w = {.core = core, .v = v, .reach = ret, .err = err};
    *ret = (struct reach){0};
    int r = object_list_versions(core->objects, "roots/", visit_root, &w, err);
    if (!r) r = object_list_versions(core->objects, "named/", visit_root, &w, err);
    string_set_release(&w.pairs);
    if (r) reach_release(ret);
    return r;
}

void reach_release(struct reach *r) {
    string_set_release(&r->objects);
}
