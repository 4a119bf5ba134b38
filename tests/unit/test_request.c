/* Requests: SPECs of the mount and JSON bodies. */
#include "query_test.h"

/* All of a request as text, defaults left out; or "column: message". */
static const char *show(int r, struct query_request *q) {
    static struct buf b;
    buf_clear(&b);
    if (r) {
        buf_printf(&b, "%u: %s", err.column, err.text);
        return buf_str(&b);
    }
    if (q->text) buf_printf(&b, "text=%s|", q->text);
    if (q->json) buf_printf(&b, "json=%s|", q->json);
    if (q->default_field) buf_printf(&b, "default=%s|", q->default_field);
    if (q->size != 10) buf_printf(&b, "size=%u|", q->size);
    if (q->from) buf_printf(&b, "from=%u|", q->from);
    if (q->sort) buf_printf(&b, "sort=%s|", q->sort);
    if (q->include) buf_printf(&b, "include=%s|", q->include);
    if (q->exclude) buf_printf(&b, "exclude=%s|", q->exclude);
    if (!q->consistent) buf_adds(&b, "eventual|");
    if (q->include_vectors) buf_adds(&b, "vectors|");
    if (q->format != FORMAT_JSONL) buf_printf(&b, "format=%d|", (int)q->format);
    if (q->partitions) buf_printf(&b, "partitions=%s|", q->partitions);
    if (q->partition_field) buf_printf(&b, "partition_field=%s|", q->partition_field);
    if (q->near_id) buf_printf(&b, "near=%s|", q->near_id);
    if (q->near_field) buf_printf(&b, "near_field=%s|", q->near_field);
    if (q->timeout_ms != 30000) buf_printf(&b, "timeout=%u|", q->timeout_ms);
    if (q->facets) buf_printf(&b, "facets=%s|", q->facets);
    if (q->facet_size != 10) buf_printf(&b, "facet_size=%u|", q->facet_size);
    if (q->explain) buf_adds(&b, "explain|");
    query_request_release(q);
    return buf_str(&b);
}

static const char *spec(const char *text) {
    struct query_request q;
    err_clear(&err);
    int r = query_request_parse_spec(text, strlen(text), &q, &err);
    return show(r, &q);
}

static const char *body(const char *text) {
    struct query_request q;
    err_clear(&err);
    int r = query_request_parse_json(text, strlen(text), &q, &err);
    return show(r, &q);
}

#define GIVES(f, query, expected)                                                                            \
    do {                                                                                                     \
        const char *got = f(query);                                                                          \
        if (!matches(got, expected))                                                                         \
            fprintf(stderr, "%s\n   got      %s\n   expected %s\n", query, got, expected);                   \
        CHECK(matches(got, expected));                                                                       \
    } while (0)

TEST(spec_options) {
    GIVES(spec, "a?partition=x,y\\,z&size=5", "text=a|size=5|partitions=x,y\\,z|");
    GIVES(spec, "a?partition=", "13: option \"partition\": expected values");
    GIVES(spec, "whale ship", "text=whale ship|");
    GIVES(spec, "*:*?size=3", "text=*:*|size=3|");
    GIVES(spec, "title:whale AND year:[1850 TO 1860]?size=20&sort=year:desc&fields=title,year",
          "text=title:whale AND year:[1850 TO 1860]|size=20|sort=year:desc|include=title,year|");
    GIVES(spec, "a?from=5&consistent=false&vectors=true&format=json&timeout=5s",
          "text=a|from=5|eventual|vectors|format=1|timeout=5000|");
    GIVES(spec, "a?format=ids&timeout=250ms&consistent=1&vectors=0", "text=a|format=2|timeout=250|");
    GIVES(spec, "a?timeout=1m", "text=a|timeout=60000|");
    GIVES(spec, "a?timeout=77", "text=a|timeout=77|");
    GIVES(spec, "?near=7&field=v", "text=|near=7|near_field=v|");
    GIVES(spec, "tag:x?near=7", "text=tag:x|near=7|");
    GIVES(spec, "a?field=title", "text=a|default=title|");
    GIVES(spec, "a?fields=-body,title,-author.name", "text=a|include=title|exclude=body,author.name|");
    GIVES(spec, "a?fields=x\\,y,\\-z,h\\.s", "text=a|include=x\\,y,-z,h\\.s|");
    GIVES(spec, "a?size=0", "text=a|size=0|");
    GIVES(spec, "a?size=10000", "text=a|size=10000|");
}

TEST(api_names) {
    GIVES(body, "{\"query\":\"a\",\"fields\":{\"includes\":[\"x\"],\"excludes\":[\"y.z\"]}}",
          "text=a|include=x|exclude=y.z|");
    GIVES(body, "{\"query\":\"a\",\"fields\":{\"include\":[\"x\"],\"includes\":[\"y\"]}}",
          "0: fields.includes: the same list is given");
    GIVES(body, "{\"query\":\"a\",\"size\":null,\"sort\":null,\"fields\":null,\"consistentRead\":null}",
          "text=a|");
}

TEST(facets_and_explain) {
    GIVES(spec, "a?facet=x,y\\,z&facets=3&size=0", "text=a|size=0|facets=x,y\\,z|facet_size=3|");
    GIVES(spec, "a?explain=true&format=json", "text=a|format=1|explain|");
    GIVES(spec, "a?facet=", "9: option \"facet\": expected fields");
    GIVES(spec, "a?facets=0", "10: option \"facets\": expected a number from 1 to 10000");
    GIVES(spec, "a?facets=10001", "10: option \"facets\"");
    GIVES(spec, "a?explain=yes", "11: option \"explain\"");
    GIVES(spec, "a?facet=x&format=ids", "0: facet: expected the format jsonl or json");
    GIVES(spec, "a?format=csv&explain=true", "0: explain: expected the format");
    GIVES(spec, "a?format=csv&explain=false", "text=a|format=4|");
    GIVES(body, "{\"query\":\"a\",\"facet\":\"x,y\",\"facets\":2}", "text=a|facets=x\\,y|facet_size=2|");
    GIVES(body, "{\"query\":\"a\",\"facet\":[\"x\",\"y\"],\"explain\":true}", "text=a|facets=x,y|explain|");
    GIVES(body, "{\"query\":\"a\",\"facet\":[5]}", "0: facet: expected an array of paths");
    GIVES(body, "{\"query\":\"a\",\"facets\":0}", "0: facets: expected a number from 1 to 10000");
    GIVES(body, "{\"query\":\"a\",\"explain\":1}", "0: explain: expected true or false");
    GIVES(body, "{\"query\":\"a\",\"facet\":\"x\",\"format\":\"table\"}", "0: facet: expected the format");
}

TEST(spec_splitting) {
    GIVES(spec, "wh?le", "text=wh?le|");
    GIVES(spec, "wh?le?size=3", "text=wh?le|size=3|");
    GIVES(spec, "wh?", "text=wh?|");
    GIVES(spec, "wh??size=3", "text=wh?|size=3|");
    GIVES(spec, "wh?l=x y", "4: unknown option \"l\"");
    GIVES(spec, "a?Size=3", "text=a?Size=3|");
    GIVES(spec, "a?=3", "text=a?=3|");
    GIVES(spec, "a?size=3?from=2", "text=a?size=3|from=2|");
    GIVES(spec, "a%2Fb%3fsize=3", "text=a/b?size=3|");
    GIVES(spec, "100%", "text=100%|");
    GIVES(spec, "100%zz%4", "text=100%zz%4|");
    GIVES(spec, "%2525", "text=%25|");
    GIVES(spec, "%c3%a9", "text=\xc3\xa9|");
    GIVES(spec, "a?near=x%26y&field=v", "text=a|near=x&y|near_field=v|");
    GIVES(spec, "a?near=50%25", "text=a|near=50%|");
}

TEST(spec_errors) {
    GIVES(spec, "a?size=x", "8: option \"size\": expected a number from 0 to 10000");
    GIVES(spec, "a?size=10001", "8: option \"size\"");
    GIVES(spec, "a?size=-1", "8: option \"size\"");
    GIVES(spec, "a?size=", "8: option \"size\"");
    GIVES(spec, "a?size=99999999999999999999", "8: option \"size\"");
    GIVES(
        spec, "a?bogus=1",
        "3: unknown option \"bogus\"; known: size, from, sort, fields, consistent, vectors, format, near, ");
    GIVES(spec, "a?size=1&bogus=1", "10: unknown option");
    GIVES(spec, "a?size=1&", "10: unknown option");
    GIVES(spec, "a?size=1&sort", "14: option \"sort\": expected");
    GIVES(spec, "a?size=1&size=2", "10: option \"size\" is given twice");
    GIVES(spec, "\xc3\xa9?format=xml",
          "10: option \"format\": expected jsonl, json, ids, tsv, csv, table or count");
    GIVES(spec, "a?consistent=maybe", "14: option \"consistent\"");
    GIVES(spec, "a?near=", "8: option \"near\"");
    GIVES(spec, "a?sort=", "8: option \"sort\"");
    GIVES(spec, "a?fields=", "10: option \"fields\"");
    GIVES(spec, "a?timeout=11m", "11: option \"timeout\"");
    GIVES(spec, "a?timeout=0", "11: option \"timeout\"");
    GIVES(spec, "a%00b", "1: a query cannot hold");
    GIVES(spec, "a%ff", "1: the query is not valid UTF-8");
    GIVES(spec, "a?near=%ff", "8: the query is not valid UTF-8");
}

TEST(spec_json) {
    GIVES(spec, "{\"query\":\"a%2Fb\",\"size\":3}", "text=a/b|size=3|");
    GIVES(spec, "{\"query\":{\"queryString\":{\"query\":\"wh?x=y\"}}}",
          "json={\"queryString\":{\"query\":\"wh?x=y\"}}|");
    GIVES(spec, "{a TO b}", "text={a TO b}|");
    GIVES(spec, "{a TO b}?size=3", "text={a TO b}|size=3|");
    GIVES(spec, "{\"query\":", "9: the query is not valid JSON");
}

TEST(json_body) {
    GIVES(body, "{\"query\":{\"queryString\":{\"query\":\"a\"}}}",
          "json={\"queryString\":{\"query\":\"a\"}}|");
    GIVES(body,
          "{\"query\":\"a\",\"size\":5,\"from\":2,\"consistentRead\":false,\"includeVectors\":true,"
          "\"format\":\"json\","
          "\"timeout\":\"2s\"}",
          "text=a|size=5|from=2|eventual|vectors|format=1|timeout=2000|");
    GIVES(body, "{\"query\":\"a\",\"timeout\":500}", "text=a|timeout=500|");
    GIVES(body, "{\"query\":\"a\",\"sort\":[{\"n\":\"desc\"},{\"a,b\":\"asc\"},\"d\"]}",
          "text=a|sort=n:desc,a\\,b:asc,d|");
    GIVES(body, "{\"query\":\"a\",\"sort\":{\"n\":\"desc\"}}", "text=a|sort=n:desc|");
    GIVES(body, "{\"query\":\"a\",\"fields\":[\"x\",\"y.z\"]}", "text=a|include=x,y.z|");
    GIVES(body, "{\"query\":\"a\",\"fields\":{\"include\":[\"x\"],\"exclude\":[\"y\"]}}",
          "text=a|include=x|exclude=y|");
    GIVES(body, "{\"query\":\"a\",\"fields\":{\"includes\":[\"x\"],\"excludes\":[\"y\"]}}",
          "text=a|include=x|exclude=y|");
    GIVES(body, "{\"query\":\"a\",\"fields\":null,\"sort\":null}", "text=a|");
    GIVES(body, "{\"knn\":{\"k\":1}}", "json={\"knn\":{\"k\":1}}|");
    GIVES(body, " \n{\"query\":\"a\"}\n", "text=a|");
    GIVES(body, "title:whale AND x\n", "text=title:whale AND x|");
    GIVES(body, "\"white whale\"", "text=\"white whale\"|");
    GIVES(body, "hello?size=1&sort=year\n", "text=hello|size=1|sort=year|");
    GIVES(body, "50%2F50", "text=50/50|");
    GIVES(body, "", "text=|");
    GIVES(body, "{", "text={|");
    GIVES(body, "{\"query\":\"a\"", "12: the query is not valid JSON");
    GIVES(body, "{\"query\":\"a\"} x", "15: the query is not valid JSON");
    GIVES(body, "{}", "0: query: expected a query object or a query string");
    GIVES(body, "{\"query\":5}", "0: query: expected");
    GIVES(body, "{\"query\":\"a\",\"page\":1}", "0: unknown member \"page\"; known: query, size");
    GIVES(body, "{\"query\":\"a\",\"partitionFilter\":{}}", "0: partitionFilter: expected {\"field\"");
    GIVES(body, "{\"query\":\"a\",\"partitionFilter\":{\"field\":\"t\",\"in\":[]}}",
          "0: partitionFilter: expected");
    GIVES(body, "{\"query\":\"a\",\"partitionFilter\":{\"field\":\"t\",\"in\":[\"x\",5]}}",
          "0: partitionFilter.in: expected");
    GIVES(body, "{\"query\":\"a\",\"partitionFilter\":{\"field\":\"t\",\"in\":[\"\",\"a,b\",\"c\"]}}",
          "text=a|partitions=,a\\,b,c|partition_field=t|");
    GIVES(body, "{\"query\":\"a\",\"partitionFilter\":null}", "text=a|");
    GIVES(body, "{\"query\":\"a\",\"size\":\"5\"}", "0: size: expected a number");
    GIVES(body, "{\"query\":\"a\",\"size\":1.5}", "0: size: expected");
    GIVES(body, "{\"query\":\"a\",\"size\":10001}", "0: size: expected");
    GIVES(body, "{\"query\":\"a\",\"from\":-1}", "0: from: expected");
    GIVES(body, "{\"query\":\"a\",\"sort\":[{\"n\":\"up\"}]}", "0: sort: expected");
    GIVES(body, "{\"query\":\"a\",\"sort\":[{\"n\":\"asc\",\"d\":\"asc\"}]}", "0: sort: expected");
    GIVES(body, "{\"query\":\"a\",\"sort\":[5]}", "0: sort: expected");
    GIVES(body, "{\"query\":\"a\",\"fields\":5}", "0: fields: expected");
    GIVES(body, "{\"query\":\"a\",\"fields\":{\"include\":\"x\"}}", "0: fields.include: expected");
    GIVES(body, "{\"query\":\"a\",\"fields\":{\"include\":[5]}}", "0: fields.include: expected");
    GIVES(body, "{\"query\":\"a\",\"fields\":{\"includ\":[\"x\"]}}",
          "0: fields: unknown member \"includ\"; expected");
    GIVES(body, "{\"queryString\":{\"query\":\"a\"},\"size\":5}",
          "0: \"queryString\": expected {\"query\": {\"queryString\": ...}} where");
    GIVES(body, "{\"query\":\"a\",\"consistentRead\":1}", "0: consistentRead: expected");
    GIVES(body, "{\"query\":\"a\",\"format\":\"xml\"}", "0: format: expected");
    GIVES(body, "{\"query\":\"a\",\"timeout\":0}", "0: timeout: expected");
    GIVES(body, "{\"query\":\"a\",\"query\":\"b\"}", "20: the query is not valid JSON: duplicate");
}

TEST(recall) {
    GIVES(spec, "*:*?near=7&recall=0.4", "19: option \"recall\": expected a number from 0.5 to 1");
    struct query_request q;
    static const char *const bad[] = {"?near=7&recall=1.5", "?near=7&recall=",   "?near=7&recall=nan",
                                      "?near=7&recall=0x1", "?near=7&recall=-1", "a?recall=0.9"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        query_request_init(&q);
        CHECK(query_request_parse_spec(bad[i], strlen(bad[i]), &q, &err) == -ERR_INVALID &&
              strstr(err.text, "recall"));
        query_request_release(&q);
    }
    query_request_init(&q);
    CHECK_OK(query_request_parse_spec("?near=7&recall=0.75", 19, &q, &err));
    CHECK(q.recall == 0.75f);
    query_request_release(&q);
}

TEST(window) {
    struct schema *s = test_schema(schema_json);
    struct query_request q;
    query_request_init(&q);
    q.text = (char *)"*:*";
    q.size = 10001;
    CHECK(strstr(compiled(&q, s), "at most 10000"));
    q.size = 10000;
    q.from = 90000;
    CHECK(!strcmp(compiled(&q, s), "*:*"));
    q.from = 90001;
    CHECK(strstr(compiled(&q, s), "at most 100000"));
    q.from = UINT32_MAX;
    CHECK(strstr(compiled(&q, s), "at most 100000"));
    schema_unref(s);
}
