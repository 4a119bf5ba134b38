/* One document written or deleted through docs/ID.json. */
#include "node.h"
#include "util/jval.h"

/* Puts `"id":...` into an object that has none. */
static void add_id(const struct jval *doc, const char *id, size_t id_len, struct buf *out) {
    buf_adds(out, "{\"id\":");
    buf_add_json_string(out, id, id_len);
    if (doc->count) buf_adds(out, ",");
    buf_add(out, doc->raw + 1, doc->raw_len - 1);
}

static bool is_same_id(const struct jval *v, const char *id, size_t id_len) {
    if (v->type == JVAL_STRING) return v->count == id_len && !memcmp(v->str, id, id_len);
    return v->type == JVAL_NUMBER && v->raw_len == id_len && !memcmp(v->raw, id, id_len);
}

/* The record to store: the text itself, or with the id added (in `made`). */
static int complete(struct call *c, struct arena *arena, const char *id, size_t id_len, const char *data,
                    size_t len, struct buf *made, struct ingest_record *ret) {
    struct jval *doc;
    int r = jval_parse(arena, data, len, &doc, &c->err);
    if (r) return r;
    if (doc->type != JVAL_OBJECT) return call_fail(c, ERR_JSON, NULL, "a document is a JSON object");
    const struct jval *have = jval_get(doc, "id", 2);
    if (have && !is_same_id(have, id, id_len))
        return call_fail(c, ERR_INVALID, "leave \"id\" out, or write to the file of that id",
                         "the document's \"id\" differs from its file name");
    *ret = (struct ingest_record){doc->raw, doc->raw_len};
    if (have) return 0;
    add_id(doc, id, id_len, made);
    *ret = (struct ingest_record){(const char *)made->data, made->len};
    return 0;
}

static void on_verdict(void *ctx, const struct ingest_verdict *v) {
    struct err *err = ctx;
    if (v->err.code != ERR_NONE) *err = v->err;
}

static int send_one(struct call *c, struct place *p, enum ingest_op op, const struct ingest_record *rec) {
    struct ingest *in;
    struct err refused = ERR_INIT;
    uint64_t accepted = 0;
    int r = engine_ingest_open(c->fs->engine, p->cid, op, &in, &c->err);
    if (r) return r;
    r = ingest_add(in, rec, 1, on_verdict, &refused, &accepted, &c->err);
    if (!r && accepted) r = ingest_commit(in, &c->err);
    ingest_close(in);
    if (r || !refused.code) return r;
    c->err = refused;
    return -(int)refused.code;
}

int document_commit(struct call *c, struct place *p, const char *id, size_t id_len, const char *data,
                    size_t len) {
    struct arena arena = ARENA_INIT;
    struct buf made = BUF_INIT;
    struct ingest_record rec;
    int r = len > DOC_MAX_BYTES + 1 ? call_fail(c, ERR_TOO_LARGE, NULL, "a document has at most 5 MB") : 0;
    if (!r) r = complete(c, &arena, id, id_len, data, len, &made, &rec);
    if (!r) r = send_one(c, p, INGEST_UPSERT, &rec);
    buf_release(&made);
    arena_release(&arena);
    return r;
}

int document_delete(struct call *c, struct place *p, const char *id, size_t id_len) {
    struct buf b = BUF_INIT;
    buf_add_json_string(&b, id, id_len);
    struct ingest_record rec = {(const char *)b.data, b.len};
    int r = send_one(c, p, INGEST_DELETE, &rec);
    buf_release(&b);
    return r;
}
