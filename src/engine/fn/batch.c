/* Reading a stretch of the log and resolving it to one change per id. */
#include "fn/batch.h"
#include "util/jval.h"

struct raw {
    uint64_t prefix; /* first 8 id bytes, big-endian: compares like memcmp */
    const char *id, *body;
    uint64_t seq;
    int64_t time_ms;
    uint32_t id_len, body_len;
    uint8_t op;
};

struct gather {
    struct batch *batch;
    struct raw *raws;
    size_t n, cap, max_bytes;
    uint64_t up_to;
    bool marks;
};

static uint64_t id_prefix(const char *id, size_t len) {
    uint64_t v = 0;
    memcpy(&v, id, MIN(len, (size_t)8));
    return __builtin_bswap64(v);
}

static int gather_record(void *p, const struct log_record *rec, struct err *err) {
    struct gather *g = p;
    struct batch *b = g->batch;
    if (rec->seq > g->up_to) return 2;
    if (rec->op == LOG_RESTORE && b->last_seq >= b->first_seq) return 2;
    b->last_seq = rec->seq;
    b->last_time_ms = rec->time_ms;
    b->schema_version = MAX(b->schema_version, rec->schema_version);
    if (rec->op == LOG_RESTORE) {
        b->stop = LOG_RESTORE;
        b->restore_key = arena_strndup(&b->arena, rec->body, rec->body_len);
        return 1;
    }
    if (rec->op == LOG_MARK && g->marks) {
        b->stop = LOG_MARK;
        return 1;
    }
    if (rec->op != LOG_PUT && rec->op != LOG_PATCH && rec->op != LOG_DELETE) return 0;
    VEC_GROW(g->raws, g->n, g->cap);
    g->raws[g->n++] = (struct raw){
        .prefix = id_prefix(rec->id, rec->id_len),
        .id = arena_strndup(&b->arena, rec->id, rec->id_len),
        .body = arena_strndup(&b->arena, rec->body, rec->body_len),
        .id_len = rec->id_len,
        .body_len = rec->body_len,
        .seq = rec->seq,
        .time_ms = rec->time_ms,
        .op = rec->op,
    };
    b->bytes += rec->id_len + rec->body_len;
    return b->bytes >= g->max_bytes;
}

static int raw_compare(const void *pa, const void *pb) {
    const struct raw *a = pa, *b = pb;
    if (a->prefix != b->prefix) return a->prefix < b->prefix ? -1 : 1;
    int c = id_compare(a->id, a->id_len, b->id, b->id_len);
    return c ? c : (a->seq > b->seq) - (a->seq < b->seq);
}

static bool same_id(const struct raw *a, const struct raw *b) {
    return a->id_len == b->id_len && !memcmp(a->id, b->id, a->id_len);
}

int doc_patch(const char *doc, size_t doc_len, const char *patch, size_t patch_len, struct buf *out,
              struct err *err) {
    struct arena arena = ARENA_INIT;
    struct jval *d, *p;
    int r = jval_parse(&arena, doc, doc_len, &d, err);
    if (!r) r = jval_parse(&arena, patch, patch_len, &p, err);
    if (!r) {
        char sep = '{';
        for (const struct jval *m = d->first; m; m = m->next) {
            const struct jval *over = jval_get(p, m->key, m->key_len), *v = over ? over : m;
            buf_addc(out, sep);
            buf_add_json_string(out, m->key, m->key_len);
            buf_addc(out, ':');
            buf_add(out, v->raw, v->raw_len);
            sep = ',';
        }
        for (const struct jval *m = p->first; m; m = m->next) {
            if (jval_get(d, m->key, m->key_len)) continue;
            buf_addc(out, sep);
            buf_add_json_string(out, m->key, m->key_len);
            buf_addc(out, ':');
            buf_add(out, m->raw, m->raw_len);
            sep = ',';
        }
        buf_adds(out, sep == '{' ? "{}" : "}");
    }
    arena_release(&arena);
    return r;
}

/* Applies the n records of one id, in sequence order. */
static int resolve_id(struct batch *b, const struct raw *raws, size_t n, batch_lookup_fn *lookup, void *ctx,
                      struct err *err) {
    struct change *c = &b->changes[b->n++];
    *c = (struct change){
        .id = raws[0].id, .id_len = raws[0].id_len, .seq = raws[n - 1].seq, .time_ms = raws[n - 1].time_ms};
    struct buf doc = BUF_INIT, next = BUF_INIT;
    bool known = false; /* doc (or its absence) is what the records so far make */
    int r = 0;
    size_t start = 0; /* records before the last put or delete do not matter */
    for (size_t i = 0; i < n; i++)
        if (raws[i].op != LOG_PATCH) start = i;
    for (size_t i = start; i < n && !r; i++) {
        if (raws[i].op != LOG_PATCH) {
            c->doc = raws[i].op == LOG_PUT ? raws[i].body : NULL;
            c->doc_len = raws[i].op == LOG_PUT ? raws[i].body_len : 0;
            known = true;
            continue;
        }
        if (!known) {
            r = lookup(ctx, c->id, c->id_len, &doc, err);
            if (r && r != -ERR_NOT_FOUND) break;
            if (!r)
                c->doc = arena_strndup(&b->arena, (const char *)doc.data, doc.len),
                c->doc_len = (uint32_t)doc.len;
            if (r) err_clear(err);
            r = 0;
            known = true;
        }
        if (!c->doc) continue; /* a patch of nothing changes nothing */
        buf_clear(&next);
        r = doc_patch(c->doc, c->doc_len, raws[i].body, raws[i].body_len, &next, err);
        c->doc = arena_strndup(&b->arena, (const char *)next.data, next.len);
        c->doc_len = (uint32_t)next.len;
    }
    if (c->doc) b->n_docs++;
    buf_release(&doc);
    buf_release(&next);
    return r;
}

int batch_read(struct log *log, struct log_cursor *cursor, uint64_t up_to, size_t max_bytes, bool marks,
               batch_lookup_fn *lookup, void *ctx, struct batch *ret, struct err *err) {
    *ret = (struct batch){.first_seq = cursor->next_seq, .last_seq = cursor->next_seq - 1};
    struct gather g = {.batch = ret, .max_bytes = max_bytes, .up_to = up_to, .marks = marks};
    int r = log_read(log, cursor, gather_record, &g, err);
    if (!r && g.n) {
        qsort(g.raws, g.n, sizeof *g.raws, raw_compare);
        ret->changes = arena_alloc(&ret->arena, g.n * sizeof *ret->changes);
    }
    for (size_t i = 0, k; i < g.n && !r; i = k) {
        for (k = i + 1; k < g.n && same_id(&g.raws[i], &g.raws[k]);) k++;
        r = resolve_id(ret, g.raws + i, k - i, lookup, ctx, err);
    }
    free(g.raws);
    if (r) batch_release(ret);
    return r;
}

void batch_release(struct batch *b) {
    arena_release(&b->arena);
    *b = (struct batch){0};
}
