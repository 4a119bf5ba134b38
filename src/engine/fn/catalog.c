/* The catalog over the metadata store; items and states in catalog.h. */
#include "fn/catalog_cache.h"

#include <jansson.h>
#include <stdio.h>

#define PROJECT "project"
static const char *const status_names[] = {"CREATING", "ACTIVE", "TRASH", "PURGING"};
enum { SK_SIZE = 200 };

static void copy_string(json_t *o, const char *key, char *out, size_t size) {
    const char *s = json_string_value(json_object_get(o, key));
    snprintf(out, size, "%s", s ? s : "");
}

static int64_t get_int(json_t *o, const char *key) {
    return json_integer_value(json_object_get(o, key));
}

static char *record_json(const struct catalog_record *rec) {
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:i, s:b, s:s, s:s}", "cid", rec->cid, "name",
                  rec->name, "status", status_names[rec->status], "createdMs", (json_int_t)rec->created_ms,
                  "updatedMs", (json_int_t)rec->updated_ms, "droppedMs", (json_int_t)rec->dropped_ms,
                  "generation", (json_int_t)rec->generation, "beforeSeq", (json_int_t)rec->before_seq,
                  "shards", (int)rec->n_shards, "fixedShards", (int)rec->fixed_shards, "sourceCid",
                  rec->source_cid, "sourceVersion", rec->source_version);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

static int record_parse(const char *text, size_t len, uint64_t version, struct catalog_record *ret,
                        struct err *err) {
    json_t *o = json_loadb(text, len, 0, NULL);
    if (!json_is_object(o)) {
        json_decref(o);
        return err_set(err, ERR_CORRUPT, "a collection record in the metadata cannot be read");
    }
    *ret = (struct catalog_record){.item_version = version};
    copy_string(o, "cid", ret->cid, sizeof ret->cid);
    copy_string(o, "name", ret->name, sizeof ret->name);
    copy_string(o, "sourceCid", ret->source_cid, sizeof ret->source_cid);
    copy_string(o, "sourceVersion", ret->source_version, sizeof ret->source_version);
    const char *status = json_string_value(json_object_get(o, "status"));
    ret->status = COLL_PURGING;
    for (size_t i = 0; status && i < ARRAY_SIZE(status_names); i++)
        if (!strcmp(status, status_names[i])) ret->status = (enum coll_status)i;
    ret->created_ms = get_int(o, "createdMs");
    ret->updated_ms = get_int(o, "updatedMs");
    ret->dropped_ms = get_int(o, "droppedMs");
    ret->generation = (uint64_t)get_int(o, "generation");
    ret->before_seq = (uint64_t)get_int(o, "beforeSeq");
    ret->n_shards = (uint32_t)MAX(get_int(o, "shards"), (int64_t)1);
    ret->fixed_shards = json_is_true(json_object_get(o, "fixedShards"));
    json_decref(o);
    return 0;
}

static int read_record(struct core *core, const char *cid, struct catalog_record *ret, struct err *err) {
    struct buf b = BUF_INIT;
    char sk[SK_SIZE];
    uint64_t version;
    snprintf(sk, sizeof sk, "coll/%s", cid);
    int r = meta_get(core->meta, PROJECT, sk, &b, &version, err);
    if (!r) r = record_parse((const char *)b.data, b.len, version, ret, err);
    buf_release(&b);
    return r;
}

/* A record by way of the cache. */
static int cached(struct core *core, enum catalog_key kind, const char *key,
                  int (*read)(struct core *, const char *, struct catalog_record *, struct err *),
                  struct catalog_record *ret, struct err *err) {
    struct meta_stamp now;
    bool found;
    meta_stamp(core->meta, &now);
    if (catalog_cache_get(core->catalog_cache, kind, key, &now, ret, &found))
        return found ? 0 : err_set(err, ERR_NOT_FOUND, "no such collection");
    int r = read(core, key, ret, err);
    if (!r || r == -ERR_NOT_FOUND) catalog_cache_put(core->catalog_cache, kind, key, &now, r ? NULL : ret);
    return r;
}

int catalog_get(struct core *core, const char *cid, struct catalog_record *ret, struct err *err) {
    return cached(core, CATALOG_BY_CID, cid, read_record, ret, err);
}

int catalog_get_active(struct core *core, const char *cid, struct catalog_record *ret, struct err *err) {
    int r = catalog_get(core, cid, ret, err);
    if (r == -ERR_NOT_FOUND || (!r && ret->status != COLL_ACTIVE))
        r = err_set(err, ERR_NOT_FOUND, "no such collection%s%s", r ? "" : ": ", r ? "" : ret->name);
    return r;
}

static int read_by_name(struct core *core, const char *name, struct catalog_record *ret, struct err *err) {
    struct buf b = BUF_INIT;
    char sk[SK_SIZE], cid[CID_LEN + 1];
    snprintf(sk, sizeof sk, "name/%.100s", name);
    int r = meta_get(core->meta, PROJECT, sk, &b, NULL, err);
    if (!r) {
        json_t *o = json_loadb((const char *)b.data, b.len, 0, NULL);
        copy_string(o, "cid", cid, sizeof cid);
        json_decref(o);
        r = catalog_get_active(core, cid, ret, err);
    }
    buf_release(&b);
    return r;
}

int catalog_find(struct core *core, const char *name, struct catalog_record *ret, struct err *err) {
    int r = cached(core, CATALOG_BY_NAME, name, read_by_name, ret, err);
    return r == -ERR_NOT_FOUND ? err_set(err, ERR_NOT_FOUND, "no collection named \"%s\"", name) : r;
}

struct list_ctx {
    catalog_visit *visit;
    void *ctx;
};

static int list_visit(void *p, const struct meta_item *item) {
    struct list_ctx *l = p;
    struct catalog_record rec;
    if (record_parse(item->value, item->value_len, item->version, &rec, NULL)) return -ERR_CORRUPT;
    return l->visit(l->ctx, &rec);
}

int catalog_list(struct core *core, catalog_visit *visit, void *ctx, struct err *err) {
    struct list_ctx l = {visit, ctx};
    return meta_list(core->meta, PROJECT, "coll/", list_visit, &l, err);
}

static void schema_text(const struct schema *schema, struct buf *out) {
    schema_write_record(schema, out);
    buf_str(out);
}

int catalog_create(struct core *core, struct catalog_record *rec, const struct schema *schema,
                   struct err *err) {
    char coll_sk[SK_SIZE], name_sk[SK_SIZE], version_sk[SK_SIZE], name_value[64];
    struct buf text = BUF_INIT;
    schema_text(schema, &text);
    char *record = record_json(rec);
    snprintf(coll_sk, sizeof coll_sk, "coll/%s", rec->cid);
    snprintf(name_sk, sizeof name_sk, "name/%s", rec->name);
    snprintf(version_sk, sizeof version_sk, "schema/%010u", schema->version);
    snprintf(name_value, sizeof name_value, "{\"cid\":\"%s\"}", rec->cid);
    struct meta_op ops[] = {
        {META_PUT, PROJECT, coll_sk, record, META_ABSENT},
        {META_PUT, rec->cid, "schema", (const char *)text.data, META_ABSENT},
        {META_PUT, rec->cid, version_sk, (const char *)text.data, META_ABSENT},
        {META_PUT, PROJECT, name_sk, name_value, META_ABSENT},
    };
    int r = meta_transact(core->meta, ops, rec->status == COLL_TRASH ? 3 : 4, err);
    if (r == -ERR_CONFLICT) r = err_set(err, ERR_EXISTS, "a collection named \"%s\" exists", rec->name);
    rec->item_version = 1;
    free(record);
    buf_release(&text);
    return r;
}

static int update(struct core *core, const struct catalog_record *old, struct catalog_record *rec,
                  struct err *err) {
    char coll_sk[SK_SIZE], old_sk[SK_SIZE], new_sk[SK_SIZE], name_value[64];
    bool had = old->status <= COLL_ACTIVE, has = rec->status <= COLL_ACTIVE,
         same = !strcmp(old->name, rec->name);
    struct meta_op ops[3];
    size_t n = 0;
    rec->updated_ms = clock_now_ms(core->clock);
    char *record = record_json(rec);
    snprintf(coll_sk, sizeof coll_sk, "coll/%s", rec->cid);
    snprintf(old_sk, sizeof old_sk, "name/%s", old->name);
    snprintf(new_sk, sizeof new_sk, "name/%s", rec->name);
    snprintf(name_value, sizeof name_value, "{\"cid\":\"%s\"}", rec->cid);
    ops[n++] = (struct meta_op){META_PUT, PROJECT, coll_sk, record, (int64_t)old->item_version};
    if (had && (!has || !same)) ops[n++] = (struct meta_op){META_DELETE, PROJECT, old_sk, NULL, META_ANY};
    if (has && (!had || !same))
        ops[n++] = (struct meta_op){META_PUT, PROJECT, new_sk, name_value, META_ABSENT};
    int r = meta_transact(core->meta, ops, n, err);
    rec->item_version = old->item_version + 1;
    free(record);
    if (r == -ERR_CONFLICT && has && !(had && same)) { /* was it the name or the record? */
        struct catalog_record other;
        if (!catalog_find(core, rec->name, &other, NULL) && strcmp(other.cid, rec->cid))
            r = err_set(err, ERR_EXISTS, "a collection named \"%s\" exists", rec->name);
    }
    return r;
}

/* Does the name that leads to a collection lead elsewhere from now on? A name that leads nowhere is not kept.
 */
static bool moves_name(const struct catalog_record *old, const struct catalog_record *rec) {
    return old->status == COLL_ACTIVE &&
           (rec->status != COLL_ACTIVE || strcmp(old->name, rec->name) || old->generation != rec->generation);
}

int catalog_update(struct core *core, const struct catalog_record *old, struct catalog_record *rec,
                   struct err *err) {
    int recall;
    if (!core->names || !moves_name(old, rec)) return update(core, old, rec, err);
    int r = delegation_recall(core->names, &recall, err);
    if (r) return r;
    r = update(core, old, rec, err);
    delegation_resume(recall);
    return r;
}

struct purge_ctx {
    struct core *core;
    const char *cid;
    struct err *err;
};

static int purge_visit(void *p, const struct meta_item *item) {
    struct purge_ctx *pc = p;
    struct meta_op op = {META_DELETE, pc->cid, item->sk, NULL, META_ANY};
    return meta_transact(pc->core->meta, &op, 1, pc->err);
}

int catalog_purge(struct core *core, const struct catalog_record *rec, struct err *err) {
    struct purge_ctx pc = {core, rec->cid, err};
    char sk[SK_SIZE];
    int r = meta_list(core->meta, rec->cid, "", purge_visit, &pc, err);
    if (r) return r;
    snprintf(sk, sizeof sk, "coll/%s", rec->cid);
    struct meta_op op = {META_DELETE, PROJECT, sk, NULL, META_ANY};
    return meta_transact(core->meta, &op, 1, err);
}

/* ---- schemas ---- */

static int schema_item(struct core *core, const char *cid, const char *sk, struct schema **ret,
                       uint64_t *ret_version, struct err *err) {
    struct buf b = BUF_INIT;
    int r = meta_get(core->meta, cid, sk, &b, ret_version, err);
    if (!r) r = schema_read_record((const char *)b.data, b.len, ret, err);
    buf_release(&b);
    return r;
}

int catalog_schema(struct core *core, const char *cid, struct schema **ret, uint64_t *ret_item_version,
                   struct err *err) {
    return schema_item(core, cid, "schema", ret, ret_item_version, err);
}

int catalog_schema_version(struct core *core, const char *cid, uint32_t version, struct schema **ret,
                           struct err *err) {
    char sk[SK_SIZE];
    snprintf(sk, sizeof sk, "schema/%010u", version);
    return schema_item(core, cid, sk, ret, NULL, err);
}

int catalog_schema_put(struct core *core, const char *cid, const struct schema *schema, uint64_t item_version,
                       struct err *err) {
    char sk[SK_SIZE];
    struct buf text = BUF_INIT;
    schema_text(schema, &text);
    snprintf(sk, sizeof sk, "schema/%010u", schema->version);
    struct meta_op ops[] = {{META_PUT, cid, "schema", (const char *)text.data, (int64_t)item_version},
                            {META_PUT, cid, sk, (const char *)text.data, META_ABSENT}};
    int r = meta_transact(core->meta, ops, 2, err);
    buf_release(&text);
    return r;
}

/* ---- named snapshots ---- */

static void named_parse(const char *sk, const char *value, size_t len, struct catalog_named *ret) {
    json_t *o = json_loadb(value, len, 0, NULL);
    *ret = (struct catalog_named){0};
    snprintf(ret->name, sizeof ret->name, "%s", sk + strlen("named/"));
    copy_string(o, "key", ret->key, sizeof ret->key);
    copy_string(o, "version", ret->version, sizeof ret->version);
    ret->commit_ms = get_int(o, "commitMs");
    ret->data_ms = get_int(o, "dataMs");
    ret->seq = (uint64_t)get_int(o, "seq");
    ret->documents = (uint64_t)get_int(o, "documents");
    json_decref(o);
}

struct named_ctx {
    named_visit *visit;
    void *ctx;
};

static int named_item(void *p, const struct meta_item *item) {
    struct named_ctx *n = p;
    struct catalog_named named;
    named_parse(item->sk, item->value, item->value_len, &named);
    return n->visit(n->ctx, &named);
}

int catalog_named_list(struct core *core, const char *cid, named_visit *visit, void *ctx, struct err *err) {
    struct named_ctx n = {visit, ctx};
    return meta_list(core->meta, cid, "named/", named_item, &n, err);
}

int catalog_named_get(struct core *core, const char *cid, const char *name, struct catalog_named *ret,
                      struct err *err) {
    char sk[SK_SIZE];
    struct buf b = BUF_INIT;
    snprintf(sk, sizeof sk, "named/%.120s", name);
    int r = meta_get(core->meta, cid, sk, &b, NULL, err);
    if (!r) named_parse(sk, (const char *)b.data, b.len, ret);
    buf_release(&b);
    return r;
}

int catalog_named_put(struct core *core, const char *cid, const struct catalog_named *named,
                      struct err *err) {
    char sk[SK_SIZE];
    snprintf(sk, sizeof sk, "named/%s", named->name);
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "key", named->key, "version", named->version,
                          "commitMs", (json_int_t)named->commit_ms, "dataMs", (json_int_t)named->data_ms,
                          "seq", (json_int_t)named->seq, "documents", (json_int_t)named->documents);
    char *text = json_dumps(o, JSON_COMPACT);
    struct meta_op op = {META_PUT, cid, sk, text, META_ABSENT};
    int r = meta_transact(core->meta, &op, 1, err);
    if (r == -ERR_CONFLICT) r = err_set(err, ERR_EXISTS, "a snapshot named \"%s\" exists", named->name);
    free(text);
    json_decref(o);
    return r;
}

int catalog_named_delete(struct core *core, const char *cid, const char *name, struct err *err) {
    char sk[SK_SIZE];
    snprintf(sk, sizeof sk, "named/%.120s", name);
    struct meta_op op = {META_DELETE, cid, sk, NULL, META_ANY};
    return meta_transact(core->meta, &op, 1, err);
}

/* ---- pins and horizon ---- */

static int horizon(struct core *core, const char *cid, int64_t *ret_ms, uint64_t *ret_version,
                   struct err *err) {
    struct buf b = BUF_INIT;
    *ret_ms = 0;
    *ret_version = META_ABSENT;
    int r = meta_get(core->meta, cid, "horizon", &b, ret_version, err);
    if (!r) {
        json_t *o = json_loadb((const char *)b.data, b.len, 0, NULL);
        *ret_ms = get_int(o, "commitMs");
        json_decref(o);
    } else if (r == -ERR_NOT_FOUND) {
        r = 0;
        err_clear(err);
    }
    buf_release(&b);
    return r;
}

int catalog_pin(struct core *core, const char *cid, const char *version, int64_t commit_ms, int64_t ttl_ms,
                char ret_pin[33], struct err *err) {
    int r = -ERR_CONFLICT;
    for (int attempt = 0; attempt < 10 && r == -ERR_CONFLICT; attempt++) {
        char sk[SK_SIZE], value[256];
        int64_t low;
        uint64_t low_version;
        err_clear(err);
        r = horizon(core, cid, &low, &low_version, err);
        if (r) return r;
        if (commit_ms < low) return err_set(err, ERR_NOT_FOUND, "that version is past its retention");
        rng_uuid(core->rng, ret_pin);
        snprintf(sk, sizeof sk, "pin/%s", ret_pin);
        snprintf(value, sizeof value, "{\"version\":\"%s\",\"commitMs\":%lld,\"expiresMs\":%lld}", version,
                 (long long)commit_ms, (long long)(clock_now_ms(core->clock) + ttl_ms));
        struct meta_op ops[] = {{META_PUT, cid, sk, value, META_ABSENT},
                                {META_CHECK, cid, "horizon", NULL, (int64_t)low_version}};
        r = meta_transact(core->meta, ops, 2, err);
    }
    return r;
}

void catalog_unpin(struct core *core, const char *cid, const char *pin) {
    char sk[SK_SIZE];
    snprintf(sk, sizeof sk, "pin/%s", pin);
    struct meta_op op = {META_DELETE, cid, sk, NULL, META_ANY};
    meta_transact(core->meta, &op, 1, NULL); /* if it fails the pin expires by itself */
}

int catalog_raise_horizon(struct core *core, const char *cid, int64_t commit_ms, struct err *err) {
    int r = -ERR_CONFLICT;
    for (int attempt = 0; attempt < 10 && r == -ERR_CONFLICT; attempt++) {
        int64_t low;
        uint64_t version;
        char value[64];
        err_clear(err);
        r = horizon(core, cid, &low, &version, err);
        if (r || low >= commit_ms) return r;
        snprintf(value, sizeof value, "{\"commitMs\":%lld}", (long long)commit_ms);
        struct meta_op op = {META_PUT, cid, "horizon", value, (int64_t)version};
        r = meta_transact(core->meta, &op, 1, err);
    }
    return r;
}

struct pinned_ctx {
    const char *version;
    int64_t now_ms;
};

static int pinned_visit(void *p, const struct meta_item *item) {
    struct pinned_ctx *pc = p;
    char version[OBJECT_VERSION_SIZE];
    json_t *o = json_loadb(item->value, item->value_len, 0, NULL);
    copy_string(o, "version", version, sizeof version);
    bool hit = !strcmp(version, pc->version) && get_int(o, "expiresMs") > pc->now_ms;
    json_decref(o);
    return hit;
}

int catalog_pinned(struct core *core, const char *cid, const char *version, bool *ret, struct err *err) {
    struct pinned_ctx pc = {version, clock_now_ms(core->clock)};
    int r = meta_list(core->meta, cid, "pin/", pinned_visit, &pc, err);
    *ret = r == 1;
    return r < 0 ? r : 0;
}

int catalog_retention_ms(struct core *core, int64_t *ret, struct err *err) {
    struct buf b = BUF_INIT;
    *ret = core->retention_ms >= 0 ? core->retention_ms : 30LL * 86400 * 1000;
    int r =
        core->retention_ms >= 0 ? -ERR_NOT_FOUND : meta_get(core->meta, PROJECT, "settings", &b, NULL, err);
    if (!r) {
        json_t *o = json_loadb((const char *)b.data, b.len, 0, NULL);
        json_t *v = json_object_get(o, "retentionMs");
        if (json_is_integer(v)) *ret = json_integer_value(v);
        json_decref(o);
    }
    buf_release(&b);
    if (r == -ERR_NOT_FOUND) err_clear(err);
    return r == -ERR_NOT_FOUND ? 0 : r;
}
