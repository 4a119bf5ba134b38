/* check: every reachable object, checksum, reference and count. Problems are reported, the walk goes on. */
#include "fn/reach.h"
#include "fn/upkeep.h"
#include "fn/view.h"

#include <stdio.h>

struct checking {
    struct core *core;
    void (*report)(void *ctx, const char *text);
    void *ctx;
    uint64_t objects, problems;
};

static void problem(struct checking *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(struct checking *c, const char *fmt, ...) {
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    c->problems++;
    c->report(c->ctx, buf_str(&b));
    buf_release(&b);
}

/* The sums of a whole root: documents, deletes, bytes, and the checksum that makes any loss visible. */
static int check_root(void *p, const struct tree *root, const char *key, bool current, struct err *err) {
    struct checking *c = p;
    struct tree *t;
    c->objects++;
    if (tree_load(c->core->objects, key, root->version, &t, err)) {
        problem(c, "root \"%s\" version %s: %s", key, root->version, err->text);
        err_clear(err);
        return 0;
    }
    uint64_t docs = 0, dead = 0, bytes = 0, live = 0;
    for (uint32_t i = 0; i < t->n_leaves; i++) {
        docs += t->leaves[i].n_docs;
        dead += t->leaves[i].n_deleted;
        bytes += t->leaves[i].segment.size + t->leaves[i].deletes.size;
        live += t->leaves[i].live_sum;
        if (t->leaves[i].seq_max > t->committed_seq)
            problem(c, "root \"%s\" version %s: segment \"%s\" holds record %llu above the committed %llu",
                    key, t->version, t->leaves[i].segment.key, (unsigned long long)t->leaves[i].seq_max,
                    (unsigned long long)t->committed_seq);
    }
    if (docs != t->n_docs || dead != t->n_deleted || bytes != t->bytes)
        problem(c, "root \"%s\" version %s: its totals do not match its segments", key, t->version);
    if (live + t->removed_sum != t->written_sum)
        problem(c, "root \"%s\" version %s: documents were lost or doubled (checksum sums differ)", key,
                t->version);
    tree_unref(t);
    return 0;
}

static uint64_t live_sum(struct segment *s, const struct deletes *d, struct err *err, int *ret_r) {
    uint64_t sum = 0;
    struct buf id = BUF_INIT;
    for (uint32_t i = 0; i < segment_n_docs(s) && !*ret_r; i++) {
        uint64_t seq;
        int64_t time_ms;
        if (deletes_has(deletes_bits(d), i)) continue;
        buf_clear(&id);
        *ret_r = segment_id(s, i, &id, err);
        if (!*ret_r) *ret_r = segment_seq(s, i, &seq, &time_ms, err);
        if (!*ret_r) sum += segment_doc_hash((const char *)id.data, id.len, seq);
    }
    buf_release(&id);
    return sum;
}

static int check_leaf(void *p, const struct leaf *l, struct err *err) {
    struct checking *c = p;
    struct blob *blob;
    struct segment *s = NULL;
    struct deletes *d = NULL;
    c->objects += 1 + (l->deletes.size != 0);
    int r = blob_open(c->core->objects, l->segment.key, l->segment.version, BLOB_KIND_SEGMENT,
                      l->segment.size, l->segment.checksum, &blob, err);
    if (!r) r = segment_open(blob, &s, err);
    if (!r) r = segment_verify(s, err);
    if (!r && l->deletes.size) {
        r = blob_open(c->core->objects, l->deletes.key, l->deletes.version, BLOB_KIND_DELETES,
                      l->deletes.size, l->deletes.checksum, &blob, err);
        if (!r && (r = blob_verify_all(blob, err))) blob_close(blob);
        if (!r) r = deletes_read(blob, s, &d, err);
    }
    if (!r && (segment_n_docs(s) != l->n_docs || deletes_count(d) != l->n_deleted))
        problem(c, "segment \"%s\": its document counts do not match its reference", l->segment.key);
    uint64_t sum = r ? 0 : live_sum(s, d, err, &r);
    if (!r && sum != l->live_sum)
        problem(c, "segment \"%s\": its live documents do not match its reference", l->segment.key);
    if (r) problem(c, "segment \"%s\": %s", l->segment.key, err->text);
    err_clear(err);
    deletes_unref(d);
    segment_unref(s);
    return 0;
}

static int check_broken(void *p, const char *key, const char *version, struct err *err) {
    struct checking *c = p;
    problem(c, "object \"%s\" version %s: %s", key, version, err->text);
    err_clear(err);
    return 0;
}

/* ---- the log and the catalog ---- */

struct log_ctx {
    uint64_t next;
};

static int check_record(void *p, const struct log_record *rec, struct err *err) {
    struct log_ctx *l = p;
    if (rec->seq != l->next)
        return err_set(err, ERR_CORRUPT, "record %llu follows %llu", (unsigned long long)rec->seq,
                       (unsigned long long)l->next - 1);
    l->next++;
    return 0;
}

/* Reads the unbuilt log. A builder may commit and trim below us: then once more from the newer root. */
static int check_log(struct coll *coll, struct err *err) {
    int r = -ERR_CONFLICT;
    for (int attempt = 0; attempt < 5 && r == -ERR_CONFLICT; attempt++) {
        struct tree *t = NULL;
        err_clear(err);
        r = tree_load_root(coll->core->objects, coll->root_key, NULL, &t, err);
        if (r && r != -ERR_NOT_FOUND) return r;
        struct log_ctx l = {.next = t ? t->committed_seq + 1 : 1};
        struct log_cursor cursor = {.next_seq = l.next};
        tree_unref(t);
        r = log_read(coll->log, &cursor, check_record, &l, err);
    }
    return r;
}

static int check_collection(void *p, const struct catalog_record *rec) {
    struct checking *c = p;
    struct err err = ERR_INIT;
    struct coll *coll;
    struct schema *schema;
    if (rec->status == COLL_PURGING || rec->status == COLL_CREATING) return 0;
    int r = core_coll(c->core, rec->cid, &coll, &err);
    if (!r) r = check_log(coll, &err);
    if (r) problem(c, "log of collection \"%s\": %s", rec->name, err.text);
    err_clear(&err);
    r = catalog_schema(c->core, rec->cid, &schema, NULL, &err);
    if (r)
        problem(c, "schema of collection \"%s\": %s", rec->name, err.text);
    else
        schema_unref(schema);
    return 0;
}

int check_run(struct core *core, void (*report)(void *ctx, const char *text), void *ctx,
              uint64_t *ret_objects, uint64_t *ret_problems, struct err *err) {
    struct checking c = {.core = core, .report = report, .ctx = ctx};
    struct reach_visitor visitor = {check_root, check_leaf, check_broken, &c};
    struct reach reach;
    int r = reach_all(core, &visitor, &reach, err);
    if (!r) {
        struct string_set *s = &reach.objects;
        for (size_t i = 0; i < s->cap; i++) c.objects += s->slots[i] && strstr(s->slots[i], "/int-");
        reach_release(&reach);
        r = catalog_list(core, check_collection, &c, err);
    }
    *ret_objects = c.objects;
    *ret_problems = c.problems;
    return r;
}
