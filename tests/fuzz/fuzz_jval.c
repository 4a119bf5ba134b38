/* libFuzzer: any bytes as a document: parsing, checking, inference, the walk and the selection of fields. */
#include "query/answer.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char schema_json[] = "{\"dynamic\":true,\"indexConfigs\":{\"t\":{\"type\":\"text\"},\"k\":{"
                                  "\"type\":\"keyword\"},\"n\":{\"type\":\"long\"},"
                                  "\"d\":{\"type\":\"double\"},\"b\":{\"type\":\"boolean\"},\"w\":{\"type\":"
                                  "\"datetime\"},\"v\":{\"type\":\"vector\",\"dimensions\":2},"
                                  "\"o\":{\"type\":\"object\",\"objectIndexConfigs\":{\"k\":{\"type\":"
                                  "\"keyword\"},\"v\":{\"type\":\"vector\",\"dimensions\":2}}}}}";

static int visit(void *ctx, uint32_t field_no, const struct jval *v, struct err *err) {
    const struct schema *s = ctx;
    int64_t value;
    if (field_no >= s->n_fields) abort();
    field_value_i64(s->fields[field_no].type, v, &value);
    return 0;
}

/* What the selection leaves of a document must be a document again. */
static void check_selection(const struct schema *schema, const char *text, size_t len) {
    static char id[] = "x", collection[] = "c", include[] = "o.k,t,v", exclude[] = "k,o.v";
    struct answer_hit hit = {.id = id, .id_len = 1, .doc = (char *)text, .doc_len = len};
    struct answer a = {.collection = collection, .hits = &hit, .n_hits = 1};
    struct buf out = BUF_INIT;
    struct arena arena = ARENA_INIT;
    struct query_request q;
    struct err err = ERR_INIT;
    struct jval *line;
    query_request_init(&q);
    for (int mode = 0; mode < 4; mode++) {
        q.include = mode & 1 ? include : NULL;
        q.exclude = mode & 2 ? exclude : NULL;
        buf_clear(&out);
        if (answer_format(&a, &q, schema, &out, &err)) abort();
        if (memchr(out.data, '\n', out.len) != out.data + out.len - 1) abort();
        if (jval_parse(&arena, (char *)out.data, out.len, &line, &err) && err.code != ERR_JSON) abort();
        if (err.code == ERR_JSON && !strstr(err.text, "nest"))
            abort(); /* one level deeper than the document */
        err_clear(&err);
        arena_reset(&arena);
    }
    arena_release(&arena);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct schema *schema;
    struct err err = ERR_INIT;
    struct arena arena = ARENA_INIT;
    struct buf warnings = BUF_INIT;
    struct schema *inferred = NULL;
    struct jval *doc = NULL;
    if (!schema && schema_parse(schema_json, sizeof schema_json - 1, &schema, &err)) abort();
    if (!jval_parse(&arena, (const char *)data, size, &doc, &err)) {
        const struct jval *docs[] = {doc};
        schema_check(schema, doc, &warnings, &err);
        schema_walk(schema, doc, visit, schema, &err);
        if (schema_infer(schema, docs, 1, &inferred, &err)) abort();
        if (inferred) {
            struct buf record = BUF_INIT;
            struct schema *back = NULL;
            schema_write_record(inferred, &record);
            if (schema_read_record((char *)record.data, record.len, &back, &err)) abort();
            if (back->n_fields != inferred->n_fields) abort();
            schema_walk(inferred, doc, visit, inferred, &err);
            schema_unref(back);
            buf_release(&record);
        }
        check_selection(schema, (const char *)data, size);
    } else if (!err.text[0]) {
        abort();
    }
    schema_unref(inferred);
    buf_release(&warnings);
    arena_release(&arena);
    return 0;
}
