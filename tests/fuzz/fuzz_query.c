/* libFuzzer: any bytes as a query string, a SPEC or a JSON body give a checked tree or an error, never a
 * crash. */
#include "query/query_text.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char schema_json[] =
    "{\"indexConfigs\":{\"title\":{\"type\":\"text\",\"analyzers\":[\"english\"]},\"body\":{\"type\":"
    "\"text\"},"
    "\"tag\":{\"type\":\"keyword\"},\"n\":{\"type\":\"long\"},\"d\":{\"type\":\"double\"},\"b\":{\"type\":"
    "\"boolean\"},"
    "\"w\":{\"type\":\"datetime\"},\"v\":{\"type\":\"vector\",\"dimensions\":2},"
    "\"e\":{\"type\":\"vector\",\"managedEmbedding\":true,\"embedding\":{\"provider\":\"openai\",\"model\":"
    "\"m\","
    "\"sourceField\":\"body\",\"dimensions\":2}},\"o\":{\"type\":\"object\","
    "\"objectIndexConfigs\":{\"x\":{\"type\":\"keyword\"},\"y\":{\"type\":\"long\"}}}}}";

static void print_and_free(struct query *q) {
    struct buf out = BUF_INIT;
    query_print(q->root, &out);
    buf_release(&out);
    query_free(q);
}

/* As the router does before it compiles. */
static void fill_texts(struct query_request *request, const struct schema *schema) {
    static const float vector[2] = {1, 2};
    struct query_texts *t = NULL;
    struct err err = ERR_INIT;
    if (query_texts_find(request, schema, &t, &err) || !t) return;
    for (size_t i = 0; i < query_texts_count(t); i++) query_texts_set(t, i, vector);
    free(request->json);
    request->json = query_texts_json(t);
    query_texts_free(t);
}

static void compile_request(struct query_request *request, const struct schema *schema) {
    static const float vector[2] = {1, 2};
    struct query *q = NULL;
    struct err err = ERR_INIT;
    fill_texts(request, schema);
    if (!query_compile(request, schema, request->near_id ? vector : NULL, request->near_id ? 2 : 0, &q, &err))
        print_and_free(q);
    else if (!err.text[0])
        abort();
    query_request_release(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct schema *schema;
    struct err err = ERR_INIT;
    struct query_request request;
    struct query *q = NULL;
    if (!schema && schema_parse(schema_json, sizeof schema_json - 1, &schema, &err)) abort();
    if (!size) return 0;
    const char *text = (const char *)data + 1;
    if (data[0] % 3 == 0 && !query_request_parse_spec(text, size - 1, &request, &err))
        compile_request(&request, schema);
    if (data[0] % 3 == 1 && !query_request_parse_json(text, size - 1, &request, &err))
        compile_request(&request, schema);
    if (data[0] % 3 == 2) {
        if (!query_compile_text(text, size - 1, schema, &q, &err))
            print_and_free(q);
        else if (!err.text[0] || err.column > size)
            abort();
    }
    return 0;
}
