/* The Writer. A record becomes a log record only after everything about it was checked; the whole batch is
 * appended under one lock. Bad records never stop good ones. */
#include "fn/writer_internal.h"
#include "fn/catalog.h"
#include "fn/upkeep.h"
#include "fn/view.h"
#include "index/analyzer.h"
#include "util/jval.h"
#include "index/page_cache.h"

#include <stdio.h>

enum { SCHEMA_ATTEMPTS = 20, FILTER_ATTEMPTS = 10, WAKE_BYTES = 4 << 20 };

/* The schema of an item's version that writers parsed last; NULL: it is another. */
static struct schema *known_schema(struct coll *coll, uint64_t item) {
    pthread_mutex_lock(&coll->history_lock);
    struct schema *s = coll->written && coll->written_item == item ? schema_ref(coll->written) : NULL;
    pthread_mutex_unlock(&coll->history_lock);
    return s;
}

static void keep_schema(struct coll *coll, struct schema *s, uint64_t item) {
    pthread_mutex_lock(&coll->history_lock);
    struct schema *old = coll->written;
    coll->written = schema_ref(s);
    coll->written_item = item;
    pthread_mutex_unlock(&coll->history_lock);
    schema_unref(old);
}

static int refresh_schema(struct ingest *in, struct err *err) {
    struct core *core = in->coll->core;
    struct buf b = BUF_INIT;
    uint64_t version;
    int r = meta_get(core->meta, in->coll->cid, "schema", &b, &version, err);
    if (!r && version != in->schema_item) {
        struct schema *s = known_schema(in->coll, version);
        if (!s) {
            r = schema_read_record((const char *)b.data, b.len, &s, err);
            if (!r) keep_schema(in->coll, s, version);
        }
        if (!r) {
            schema_unref(in->schema);
            in->schema = s;
            in->schema_item = version;
        }
    }
    buf_release(&b);
    if (r == -ERR_NOT_FOUND) r = err_set(err, ERR_NOT_FOUND, "the collection was dropped");
    return r;
}

/* Numbers of a log without segments go on behind the root. */
static int log_floor(struct coll *coll, uint64_t *ret, struct err *err) {
    bool any;
    uint64_t last;
    *ret = 0;
    if (log_begun(coll->log)) return 0;
    int r = log_end(coll->log, &last, &any, err);
    if (r || any) return r;
    struct tree *t;
    r = tree_load(coll->core->objects, coll->root_key, NULL, &t, err);
    if (!r) {
        *ret = t->committed_seq;
        tree_unref(t);
    }
    if (r == -ERR_NOT_FOUND) err_clear(err);
    return r == -ERR_NOT_FOUND ? 0 : r;
}

int writer_open(struct coll *coll, enum ingest_op op, struct ingest **ret, struct err *err) {
    struct ingest *in = xcalloc(1, sizeof *in);
    in->coll = coll;
    in->op = op;
    int r = log_floor(coll, &in->floor_seq, err);
    if (!r) r = refresh_schema(in, err);
    if (r)
        writer_close(in);
    else
        *ret = in;
    return r;
}

void writer_close(struct ingest *in) {
    if (!in) return;
    schema_unref(in->schema);
    view_unref(in->view);
    arena_release(&in->arena);
    free(in->out);
    free(in);
}

bool writer_waits(const struct ingest *in) {
    return in->op != INGEST_DELETE && ingest_embed_group(in->schema) != SIZE_MAX;
}

void writer_range(const struct ingest *in, uint64_t *ret_first, uint64_t *ret_last) {
    *ret_first = in->first_seq;
    *ret_last = in->last_seq;
}

/* ---- records ---- */

static int check_id(const char *id, size_t len, struct err *err) {
    size_t chars = 0;
    for (size_t i = 0; i < len; i++) chars += ((uint8_t)id[i] & 0xc0) != 0x80;
    if (!len) return err_set(err, ERR_JSON, "\"id\" is empty");
    if (chars > ID_MAX_CHARS)
        return err_set(err, ERR_TOO_LARGE, "\"id\" has %zu characters, at most %d are allowed", chars,
                       ID_MAX_CHARS);
    return 0;
}

static bool has_line_break(const char *s, size_t len) {
    return memchr(s, '\n', len) || memchr(s, '\r', len);
}

/* The document with white space between tokens removed, so that it is one line everywhere. */
static void minify(struct ingest *in, struct item *it) {
    char *out = arena_alloc(&in->arena, it->body_len), *p = out;
    bool in_string = false;
    for (size_t i = 0; i < it->body_len; i++) {
        char c = it->body[i];
        if (in_string && c == '\\')
            *p++ = it->body[i++], c = it->body[i];
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == ' ' || c == '\n' || c == '\r' || c == '\t'))
            continue;
        *p++ = c;
    }
    it->body = out;
    it->body_len = (size_t)(p - out);
}

/* Replaces the raw bytes [from, to) of the body. */
static void splice(struct ingest *in, struct item *it, const char *from, const char *to,
                   const struct buf *with) {
    size_t head = (size_t)(from - it->body), tail = it->body_len - (size_t)(to - it->body);
    char *out = arena_alloc(&in->arena, head + with->len + tail);
    memcpy(out, it->body, head);
    memcpy(out + head, with->data, with->len);
    memcpy(out + head + with->len, to, tail);
    it->body = out;
    it->body_len = head + with->len + tail;
}

/* Gives an upserted document its id: as sent, from a number, or a new one. */
static int take_id(struct ingest *in, struct item *it, struct err *err) {
    struct jval *id = jval_get(it->doc, "id", 2);
    struct buf text = BUF_INIT;
    if (id && id->type == JVAL_STRING) {
        it->id = id->str;
        it->id_len = id->count;
    } else if (id && id->type == JVAL_NUMBER) {
        it->id = id->raw;
        it->id_len = id->raw_len;
        buf_add_json_string(&text, id->raw, id->raw_len);
        splice(in, it, id->raw, id->raw + id->raw_len, &text);
    } else if (id)
        return err_set(err, ERR_JSON, "\"id\" must be a string");
    else if (in->op != INGEST_UPSERT)
        return err_set(err, ERR_JSON, "\"id\" is missing");
    else {
        char uuid[33];
        rng_uuid(in->coll->core->rng, uuid);
        it->id = arena_strndup(&in->arena, uuid, 32);
        it->id_len = 32;
        buf_printf(&text, "\"id\":\"%s\"%s", uuid, it->doc->count ? "," : "");
        splice(in, it, it->body + 1, it->body + 1, &text);
    }
    buf_release(&text);
    return check_id(it->id, it->id_len, err);
}

static int parse_item(struct ingest *in, const struct ingest_record *rec, struct item *it, struct err *err) {
    if (rec->len > DOC_MAX_BYTES)
        return err_set(err, ERR_TOO_LARGE, "the document has %zu bytes, at most %d are allowed", rec->len,
                       DOC_MAX_BYTES);
    int r = jval_parse(&in->arena, rec->data, rec->len, &it->doc, err);
    if (r) return r;
    it->body = it->doc->raw;
    it->body_len = it->doc->raw_len;
    if (in->op == INGEST_DELETE) return 0;
    if (it->doc->type != JVAL_OBJECT) return err_set(err, ERR_JSON, "a document must be a JSON object");
    r = take_id(in, it, err);
    if (!r && has_line_break(it->body, it->body_len)) minify(in, it);
    return r;
}

static void emit(struct ingest *in, enum log_op op, const char *id, uint32_t id_len, const char *body,
                 size_t len) {
    VEC_GROW(in->out, in->n_out, in->cap_out);
    in->out[in->n_out++] = (struct log_record){.op = (uint8_t)op,
                                               .schema_version = in->schema->version,
                                               .id = id,
                                               .id_len = id_len,
                                               .body = body,
                                               .body_len = (uint32_t)len};
}

int ingest_view(struct ingest *in, struct err *err) {
    return in->view ? 0 : view_live(in->coll, true, NULL, &in->view, err);
}

static int emit_patch(struct ingest *in, const struct item *it, struct err *err) {
    uint32_t part, docno;
    int r = ingest_view(in, err);
    if (!r) r = view_find(in->view, it->id, it->id_len, &part, &docno, err);
    if (r) return r;
    if (part == in->view->n_parts)
        return err_set(err, ERR_NOT_FOUND, "no document with id \"%.*s\"", (int)it->id_len, it->id);
    emit(in, LOG_PATCH, it->id, it->id_len, it->body, it->body_len);
    return 0;
}

/* ---- deletes ---- */

struct filter_ctx {
    struct ingest *in;
    const struct segment *segment;
    const struct query *query;
    const uint16_t *partitions; /* of the documents; NULL: all of them may go */
};

static int filter_match(void *p, uint32_t docno, struct err *err) {
    struct filter_ctx *f = p;
    if (f->partitions && !partition_set_has(&f->query->partitions, f->partitions[docno])) return 0;
    struct buf id = BUF_INIT;
    int r = segment_id(f->segment, docno, &id, err);
    if (!r)
        emit(f->in, LOG_DELETE, arena_strndup(&f->in->arena, (const char *)id.data, id.len), (uint32_t)id.len,
             "", 0);
    buf_release(&id);
    return r;
}

/* Calls emit for what the query matches in the view. */
static int emit_matches(struct ingest *in, const struct query *q, struct err *err) {
    struct search_stats stats;
    struct page_hold hold;
    int r = 0;
    page_hold_begin(&hold, in->view->coll->core->objects->pages);
    search_stats_init(&stats, q);
    for (uint32_t i = 0; !r && q->n_fuzzy && i < in->view->n_parts; i++) {
        struct view_part *p = &in->view->parts[i];
        struct search_part part = {
            .segment = p->segment, .deletes = p->deletes, .doc_hi = segment_n_docs(p->segment), .part_no = i};
        r = search_expand(&stats, q, &part, NULL, err);
    }
    search_expand_finish(&stats, q);
    for (uint32_t i = 0; !r && i < in->view->n_parts; i++) {
        struct view_part *p = &in->view->parts[i];
        struct search_part part = {
            .segment = p->segment, .deletes = p->deletes, .doc_hi = segment_n_docs(p->segment), .part_no = i};
        struct filter_ctx f = {.in = in, .segment = p->segment, .query = q};
        bool none = false;
        if (q->partitioned) r = view_partitions(in->view, i, &q->partitions, &none, &f.partitions, err);
        if (!r && !none) r = search_matches(q, &stats, &part, NULL, filter_match, &f, err);
    }
    search_stats_release(&stats);
    page_hold_end(&hold);
    return r;
}

/* The request that a delete's members stand for: as the body of a query. */
static int filter_request(const struct jval *filter, const struct jval *partitions, struct query_request *ret,
                          struct err *err) {
    struct buf body = BUF_INIT;
    query_request_init(ret);
    ret->only_filter = true;
    if (!partitions) {
        if (filter->type == JVAL_STRING)
            ret->text = xstrndup(filter->str, filter->count);
        else
            ret->json = xstrndup(filter->raw, filter->raw_len);
        return 0;
    }
    buf_adds(&body, "{\"query\":");
    buf_add(&body, filter->raw, filter->raw_len);
    buf_adds(&body, ",\"partitionFilter\":");
    buf_add(&body, partitions->raw, partitions->raw_len);
    buf_addc(&body, '}');
    int r = query_request_parse_json((char *)body.data, body.len, ret, err);
    if (!r) ret->only_filter = true;
    buf_release(&body);
    return r;
}

static int emit_filter(struct ingest *in, const struct jval *filter, const struct jval *partitions,
                       struct err *err) {
    struct query_request req;
    struct query *q = NULL;
    int r = filter_request(filter, partitions, &req, err);
    if (r) return r;
    r = ingest_view(in, err);
    if (!r) r = query_compile(&req, in->schema, NULL, 0, &q, err);
    in->exact_view = true;
    if (!r) r = emit_matches(in, q, err);
    query_free(q);
    query_request_release(&req);
    return r;
}

static int emit_delete_id(struct ingest *in, const struct jval *id, struct err *err) {
    bool number = id->type == JVAL_NUMBER;
    if (id->type != JVAL_STRING && !number) return err_set(err, ERR_JSON, "\"id\" must be a string");
    const char *s = number ? id->raw : id->str;
    uint32_t len = number ? id->raw_len : id->count;
    int r = check_id(s, len, err);
    if (!r) emit(in, LOG_DELETE, s, len, "", 0);
    return r;
}

static int emit_delete(struct ingest *in, const struct jval *v, struct err *err) {
    if (v->type == JVAL_STRING || v->type == JVAL_NUMBER) return emit_delete_id(in, v, err);
    const struct jval *id = v->type == JVAL_OBJECT ? jval_get(v, "id", 2) : NULL;
    const struct jval *ids = v->type == JVAL_OBJECT ? jval_get(v, "ids", 3) : NULL;
    const struct jval *filter = v->type == JVAL_OBJECT ? jval_get(v, "filter", 6) : NULL;
    if (id) return emit_delete_id(in, id, err);
    if (filter && (filter->type == JVAL_STRING || filter->type == JVAL_OBJECT))
        return emit_filter(in, filter, jval_get(v, "partitionFilter", 15), err);
    if (!ids || ids->type != JVAL_ARRAY)
        return err_set(
            err, ERR_JSON,
            "a delete must be an id (a JSON string), {\"id\":..}, {\"ids\":[..]} or {\"filter\":..}");
    int r = 0;
    for (const struct jval *e = ids->first; e && !r; e = e->next) r = emit_delete_id(in, e, err);
    return r;
}

/* ---- schema ---- */

/* Infers what the good documents of this call carry beyond the schema, before any of them is appended. */
static int infer(struct ingest *in, const struct jval *const *docs, size_t n, struct err *err) {
    for (int attempt = 0; attempt < SCHEMA_ATTEMPTS; attempt++) {
        struct schema *next = NULL;
        int r = in->schema->dynamic && n ? schema_infer(in->schema, docs, n, &next, err) : 0;
        if (r || !next) return r;
        r = catalog_schema_put(in->coll->core, in->coll->cid, next, in->schema_item, err);
        schema_unref(next);
        if (r && r != -ERR_CONFLICT) return r;
        err_clear(err);
        r = refresh_schema(in, err); /* ours, or what another writer inferred in the meantime */
        if (r) return r;
    }
    return err_set(err, ERR_BUSY, "the schema changes too fast");
}

static int log_schema(struct coll *coll, const struct schema *s, struct err *err) {
    return writer_control(coll, LOG_SCHEMA, s->version, "", 0, NULL, err);
}

/* What documents that are there already could never get: vectors, which are made when a document is written,
 * and a place in a partition, which segments are built by. Their field and *ret_what; NULL: nothing. */
static const char *beyond_documents(const struct schema *old, const struct schema *next,
                                    const char **ret_what) {
    *ret_what = "partitions";
    if (next->partition_field && !old->partition_field) return next->partition_field;
    *ret_what = "a managed embedding";
    for (uint32_t i = 0; i < next->n_fields; i++) {
        const struct field *f = &next->fields[i];
        if (f->embedding && !schema_find(old, f->path, f->path_len)) return f->path;
    }
    return NULL;
}

struct extension {
    struct coll *coll;
    const struct schema *next;
    uint64_t item, seq;
};

static int extension_guard(void *p, uint64_t last_seq, struct err *err) {
    const struct extension *x = p;
    if (last_seq != x->seq) return err_set(err, ERR_CONFLICT, "other writes came in between");
    return catalog_schema_put(x->coll->core, x->coll->cid, x->next, x->item, err);
}

/* Only while there are no documents. The log's lock is held from the look until the schema is in force:
 * append_guard does the rest. */
static int put_while_empty(struct coll *coll, const struct schema *next, uint64_t item, const char *field,
                           const char *what, struct err *err) {
    struct view *v;
    struct extension x = {coll, next, item, 0};
    uint64_t floor_seq;
    int r = view_live(coll, true, NULL, &v, err);
    if (r) return r;
    x.seq = v->seq;
    if (v->documents)
        r = err_set(err, ERR_INVALID, "field \"%.80s\": %s can be added only while the collection is empty",
                    field, what);
    view_unref(v);
    if (!r) r = log_floor(coll, &floor_seq, err);
    return r ? r : log_append(coll->log, NULL, 0, floor_seq, extension_guard, &x, err);
}

static int put_schema(struct coll *coll, const struct schema *old, const struct schema *next, uint64_t item,
                      struct err *err) {
    const char *what, *field = beyond_documents(old, next, &what);
    return field ? put_while_empty(coll, next, item, field, what, err)
                 : catalog_schema_put(coll->core, coll->cid, next, item, err);
}

int writer_schema_extend(struct coll *coll, const char *json, size_t len, struct err *err) {
    int r = -ERR_CONFLICT;
    for (int attempt = 0; attempt < SCHEMA_ATTEMPTS && r == -ERR_CONFLICT; attempt++) {
        struct schema *old, *next = NULL;
        uint64_t item;
        err_clear(err);
        r = catalog_schema(coll->core, coll->cid, &old, &item, err);
        if (r) return r;
        r = schema_extend(old, json, len, &next, err);
        if (!r && next) r = put_schema(coll, old, next, item, err);
        if (!r && next) r = log_schema(coll, next, err);
        schema_unref(next);
        schema_unref(old);
    }
    return r;
}

/* ---- appending ---- */

struct guard {
    struct ingest *in; /* NULL for control records */
    struct coll *coll;
};

/* What came into the schema since the records were prepared, while the collection was empty, and they lack.
 * (Nothing can have when the newest record is the session's own: then the collection is not empty.) */
static int check_schema(const struct ingest *in, uint64_t last_seq, struct err *err) {
    struct schema *now = NULL;
    struct buf b = BUF_INIT;
    const char *what;
    uint64_t item;
    if (in->op == INGEST_DELETE || (in->last_seq && last_seq == in->last_seq)) return 0;
    int r = meta_get(in->coll->core->meta, in->coll->cid, "schema", &b, &item, err);
    if (!r && item != in->schema_item) r = schema_read_record((const char *)b.data, b.len, &now, err);
    if (now && beyond_documents(in->schema, now, &what))
        r = err_set(err, ERR_CONFLICT, "the schema was changed in between");
    schema_unref(now);
    buf_release(&b);
    return r;
}

/* Runs under the log's lock: the collection takes writes still, and what a filter was resolved against is
 * still so. */
static int append_guard(void *p, uint64_t last_seq, struct err *err) {
    struct guard *g = p;
    struct catalog_record rec;
    int r = catalog_get_active(g->coll->core, g->coll->cid, &rec, err);
    if (!r && g->in && g->in->exact_view && last_seq != g->in->view->seq)
        r = err_set(err, ERR_CONFLICT, "other writes came in between");
    return r || !g->in ? r : check_schema(g->in, last_seq, err);
}

static int append(struct ingest *in, struct err *err) {
    struct guard g = {in, in->coll};
    int r = log_append(in->coll->log, in->out, in->n_out, in->floor_seq, append_guard, &g, err);
    if (r || !in->n_out) return r;
    if (!in->first_seq) in->first_seq = in->out[0].seq;
    in->last_seq = in->out[in->n_out - 1].seq;
    uint64_t bytes = 0;
    for (size_t i = 0; i < in->n_out; i++) bytes += in->out[i].body_len;
    uint64_t now = __atomic_add_fetch(&in->coll->appended_bytes, bytes, __ATOMIC_RELAXED);
    if (now / WAKE_BYTES != (now - bytes) / WAKE_BYTES) scheduler_wake(in->coll->core->scheduler);
    counter_add(&in->coll->core->n_records, in->n_out);
    return 0;
}

static void verdict(ingest_verdict_fn *fn, void *ctx, size_t index, const struct err *e) {
    struct ingest_verdict v = {.index = index, .err = *e};
    fn(ctx, &v);
}

/* Parses all, infers the schema, checks against it. Bad items keep their error. */
static int prepare(struct ingest *in, const struct ingest_record *recs, struct item *items, size_t n,
                   struct err *err) {
    const struct jval **docs = arena_alloc(&in->arena, n * sizeof *docs);
    size_t n_docs = 0;
    for (size_t i = 0; i < n; i++) {
        if (parse_item(in, &recs[i], &items[i], &items[i].err)) continue;
        if (in->op != INGEST_DELETE) docs[n_docs++] = items[i].doc;
    }
    int r = refresh_schema(in, err);
    if (!r) r = infer(in, docs, n_docs, err);
    return r || in->op == INGEST_DELETE ? r : analyzers_check(in->schema, err);
}

static int emit_item(struct ingest *in, struct item *it, struct buf *warnings) {
    if (it->err.code) return -(int)it->err.code;
    if (in->op == INGEST_DELETE) return emit_delete(in, it->doc, &it->err);
    int r = schema_check(in->schema, it->doc, warnings, &it->err);
    if (r) return r;
    if (in->op == INGEST_UPDATE) return emit_patch(in, it, &it->err);
    emit(in, LOG_PUT, it->id, it->id_len, it->body, it->body_len);
    return 0;
}

/* One attempt; ERR_CONFLICT: a filter must be resolved again. */
static int add_once(struct ingest *in, const struct ingest_record *recs, size_t n, struct item *items,
                    struct buf *warnings, size_t *ret_good, struct err *err) {
    in->n_out = 0;
    in->exact_view = false;
    *ret_good = 0;
    int r = prepare(in, recs, items, n, err);
    if (!r) ingest_embed(in, items, n);
    for (size_t i = 0; i < n && !r; i++) {
        buf_clear(&warnings[i]);
        size_t before = in->n_out;
        if (emit_item(in, &items[i], &warnings[i]))
            in->n_out = before;
        else
            ++*ret_good;
    }
    return r || !in->n_out ? r : append(in, err);
}

/* Records base to base + n of an add call. */
static int add_group(struct ingest *in, const struct ingest_record *recs, size_t base, size_t n,
                     ingest_verdict_fn *fn, void *ctx, uint64_t *ret_accepted, struct err *err) {
    struct buf *warnings = xcalloc(n, sizeof *warnings);
    struct item *items = NULL;
    size_t good = 0;
    int r = -ERR_CONFLICT;
    for (int attempt = 0; attempt < FILTER_ATTEMPTS && r == -ERR_CONFLICT; attempt++) {
        arena_reset(&in->arena);
        view_unref(in->view);
        in->view = NULL;
        err_clear(err);
        items = arena_zalloc(&in->arena, (n + 1) * sizeof *items);
        r = add_once(in, recs + base, n, items, warnings, &good, err);
    }
    for (size_t i = 0; i < n && !r; i++) {
        if (!items[i].err.code && warnings[i].len)
            snprintf(items[i].err.text, sizeof items[i].err.text, "%.*s", (int)warnings[i].len,
                     (char *)warnings[i].data);
        if (items[i].err.code || items[i].err.text[0]) verdict(fn, ctx, base + i, &items[i].err);
    }
    for (size_t i = 0; i < n; i++) buf_release(&warnings[i]);
    free(warnings);
    view_unref(in->view);
    in->view = NULL;
    if (r == -ERR_CONFLICT)
        r = err_set(err, ERR_BUSY, "could not apply a delete by filter: too many other writes");
    *ret_accepted = r ? 0 : good;
    return r;
}

/* Records whose vectors are made go in groups, so that these fit in memory. When a group cannot be appended
 * those before it are in already: then its records are refused, and not the call. */
int writer_add(struct ingest *in, const struct ingest_record *recs, size_t n, ingest_verdict_fn *fn,
               void *ctx, uint64_t *ret_accepted, struct err *err) {
    size_t group = ingest_embed_group(in->schema);
    struct err why = ERR_INIT;
    *ret_accepted = 0;
    for (size_t i = 0, k; i < n || !i; i += k) {
        uint64_t good = 0;
        k = MIN(n - i, group);
        int r = add_group(in, recs, i, k, fn, ctx, &good, &why);
        if (r && !*ret_accepted) {
            if (err) *err = why;
            return r;
        }
        for (size_t j = i; j < i + k && r; j++) verdict(fn, ctx, j, &why);
        *ret_accepted += good;
        if (!k) break;
    }
    return 0;
}

int writer_commit(struct ingest *in, struct err *err) {
    return in->last_seq ? log_sync(in->coll->log, in->last_seq, err) : 0;
}

int writer_control(struct coll *coll, enum log_op op, uint32_t schema_version, const char *body, size_t len,
                   uint64_t *ret_seq, struct err *err) {
    struct log_record rec = {.op = (uint8_t)op,
                             .schema_version = schema_version,
                             .id = "",
                             .body = body,
                             .body_len = (uint32_t)len};
    struct guard g = {NULL, coll};
    uint64_t floor_seq;
    int r = log_floor(coll, &floor_seq, err);
    if (!r) r = log_append(coll->log, &rec, 1, floor_seq, append_guard, &g, err);
    if (!r) r = log_sync(coll->log, rec.seq, err);
    if (!r && ret_seq) *ret_seq = rec.seq;
    return r;
}
