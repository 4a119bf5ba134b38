/* The API's query objects, near, sort: what they compile to and what is refused. */
#include "query_test.h"
#include <math.h>

static struct schema *schema;

static const char *json(const char *query) {
    struct query_request q;
    if (!schema) schema = test_schema(schema_json);
    query_request_init(&q);
    q.json = (char *)query;
    return compiled(&q, schema);
}
#define GIVES(query, expected)                                                                               \
    do {                                                                                                     \
        const char *got = json(query);                                                                       \
        if (!matches(got, expected))                                                                         \
            fprintf(stderr, "%s\n   got      %s\n   expected %s\n", query, got, expected);                   \
        CHECK(matches(got, expected));                                                                       \
    } while (0)

TEST(query_string) {
    GIVES("{\"queryString\":{\"query\":\"title:whales\"}}", "title:whale");
    GIVES("{\"queryString\":{\"query\":\"whales\",\"defaultField\":\"title\"}}", "title:whale");
    GIVES("{\"queryString\":{\"query\":\"whales\",\"defaultField\":null}}", "body:whales title:whale");
    GIVES("{\"queryString\":{\"query\":\"a AND (b:\",\"defaultField\":\"body\",\"skipSyntax\":true}}",
          "body:a body:and body:b");
    GIVES("{\"queryString\":{\"query\":\"x* -y\",\"defaultField\":\"tag\",\"skipSyntax\":true}}",
          "tag:x* -y");
    GIVES("{\"queryString\":{\"query\":\"a\",\"skipSyntax\":false,\"defaultField\":\"body\"}}", "body:a");
    GIVES("{\"queryString\":{}}", "0: query.queryString: expected a string \"query\"");
    GIVES("{\"queryString\":\"a\"}", "0: query.queryString: expected an object");
    GIVES("{\"queryString\":{\"query\":\"a\",\"field\":\"x\"}}",
          "0: query.queryString: unknown member \"field\"");
    GIVES("{\"queryString\":{\"query\":\"a\",\"defaultField\":5}}",
          "0: query.queryString: expected a string");
    GIVES("{\"queryString\":{\"query\":\"a\",\"skipSyntax\":1}}",
          "0: query.queryString: expected true or false");
    GIVES("{\"queryString\":{\"query\":\"a\",\"defaultField\":\"nope\"}}",
          "1: query.queryString: no index on field \"nope\"");
    GIVES("{\"queryString\":{\"query\":\"a AND\"}}", "6: query.queryString: expected a word");
}

TEST(bool_queries) {
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"body:a\"}},{\"queryString\":{\"query\":\"body:b "
          "c\",\"defaultField\":\"body\"},"
          "\"occur\":\"must\"},{\"queryString\":{\"query\":\"tag:x\"},\"occur\":\"must_not\"},{"
          "\"queryString\":{\"query\":\"n:1\"},"
          "\"occur\":\"filter\",\"boost\":2}]}",
          "body:a +(body:b body:c) -tag:x #n:[1 TO 1]^2");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"body:a^2\"},\"boost\":1.5},{\"bool\":[{\"queryString\":{"
          "\"query\":\"body:c\"}},"
          "{\"queryString\":{\"query\":\"body:d\"}}],\"boost\":3}]}",
          "body:a^3 (body:c body:d)^3");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"title:the\"}}]}", "<nothing>");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"n:1\"},\"occur\":\"filter\"}]}", "#n:[1 TO 1]");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"n:1\"},\"occur\":\"must_not\"}]}", "<nothing>");
    GIVES("{\"bool\":[{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":3}},{\"knn\":{\"field\":\"dot\","
          "\"queryVector\":[1,2,3],\"k\":4}}]}",
          "v:knn(k=3) dot:knn(k=4)");
    GIVES("{\"bool\":[]}", "0: query.bool: expected a non-empty array");
    GIVES("{\"bool\":{}}", "0: query.bool: expected a non-empty array");
    GIVES("{\"bool\":[5]}", "0: query.bool[0]: expected a query object");
    GIVES("{\"bool\":[{\"occur\":\"must\"}]}",
          "0: query.bool[0]: expected queryString, knn, sparseVector, bool");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"n:1\"},\"occur\":\"maybe\"}]}",
          "0: query.bool[0]: expected must, should");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"n:1\"},\"boost\":0}]}",
          "0: query.bool[0]: expected a number above 0");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"n:1\"},\"boost\":1e40}]}",
          "0: query.bool[0]: expected a number above 0");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"n:1\"}},{\"bool\":[{\"queryString\":{\"query\":\"n:x\"}}]"
          "}]}",
          "1: query.bool[1].bool[0].queryString: field \"n\" is long");
    GIVES("{\"bool\":[{\"queryString\":{\"query\":\"n:1\"}},{\"rrf\":[]}]}",
          "0: query.bool[1].rrf: rrf, mm and l2 can only stand at the top");
}

#define TEXT(q)           "{\"queryString\":{\"query\":\"" q "\"}}"
#define WEIGHED(q, boost) "{\"queryString\":{\"query\":\"" q "\"},\"boost\":" boost "}"
#define NEAREST           "{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":3}}"
#define FUSED(how, a, b)  "{\"" how "\":[" a "," b "]}"
TEST(hybrids) {
    GIVES(FUSED("rrf", TEXT("body:a body:b"), NEAREST), "rrf(body:a body:b, v:knn(k=3))");
    GIVES(FUSED("rrf", WEIGHED("body:a", "7"), TEXT("tag:x")), "rrf(body:a, tag:x)");
    GIVES(FUSED("mm", TEXT("body:a"), NEAREST), "mm(body:a*0.5, v:knn(k=3)*0.5)");
    GIVES(FUSED("mm", WEIGHED("body:a", "0.7"), WEIGHED("tag:x", "0.3")), "mm(body:a*0.7, tag:x*0.3)");
    GIVES(FUSED("l2", WEIGHED("body:a", "1"), WEIGHED("tag:x", "0")), "l2(body:a*1, tag:x*0)");
    GIVES(FUSED("l2", TEXT("title:the"), TEXT("tag:x")), "l2(<nothing>*0.5, tag:x*0.5)");
    GIVES(FUSED("rrf", "{\"bool\":[" WEIGHED("body:a", "2") "]}", TEXT("tag:x~1")), "rrf(body:a^2, tag:x~1)");
    GIVES("{\"mm\":[]}", "0: query.mm: expected an array of two");
    GIVES("{\"l2\":[" TEXT("a") "]}", "0: query.l2: expected an array of two");
    GIVES("{\"rrf\":{}}", "0: query.rrf: expected an array of two");
    GIVES("{\"rrf\":[" TEXT("a") "," TEXT("b") "," TEXT("c") "]}", "0: query.rrf: expected an array of two");
    GIVES(FUSED("rrf", "5", TEXT("a")), "0: query.rrf[0]: expected a query object");
    GIVES(FUSED("rrf", TEXT("a"), "{\"occur\":\"must\",\"knn\":{}}"), "0: query.rrf[1]: \"occur\" has");
    GIVES(FUSED("mm", WEIGHED("body:a", "0.7"), TEXT("tag:x")), "0: query.mm: expected boosts that sum to 1");
    GIVES(FUSED("mm", WEIGHED("body:a", "1.5"), WEIGHED("tag:x", "-0.5")),
          "0: query.mm[0]: expected a number from 0");
    GIVES(FUSED("l2", TEXT("body:a"), WEIGHED("tag:x", "\"1\"")), "0: query.l2[1]: expected a number from 0");
    GIVES(FUSED("rrf", TEXT("body:a"), WEIGHED("tag:x", "\"1\"")),
          "0: query.rrf[1]: expected a number above 0");
    GIVES(FUSED("rrf", FUSED("mm", TEXT("a"), TEXT("b")), TEXT("c")),
          "0: query.rrf[0].mm: rrf, mm and l2 can only");
    GIVES(FUSED("rrf", TEXT("tag:a"), TEXT("n:x")), "1: query.rrf[1].queryString: field \"n\" is long");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":3,\"filter\":" FUSED("l2", TEXT("a"),
                                                                                      TEXT("b")) "}}",
          "0: query.knn.filter.l2: rrf, mm and l2 can only");
}

/* What selects documents for a delete. */
TEST(filters_only) {
    struct query_request q;
    if (!schema) schema = test_schema(schema_json);
    query_request_init(&q);
    q.only_filter = true;
    q.json = (char *)TEXT("tag:x~1 AND /a+/");
    CHECK(!strcmp(compiled(&q, schema), "+tag:x~1 +(body:/a+/ title:/a+/)"));
    q.json = (char *)NEAREST;
    CHECK(matches(compiled(&q, schema), "0: query.knn: a kNN search cannot select"));
    q.json = (char *)"{\"bool\":[" NEAREST "]}";
    CHECK(matches(compiled(&q, schema), "0: query.bool[0].knn: a kNN search cannot select"));
    q.json = (char *)FUSED("rrf", TEXT("a"), TEXT("b"));
    CHECK(matches(compiled(&q, schema), "0: query.rrf: a hybrid search cannot select"));
}

TEST(near_fused) {
    static const float v[] = {1, 2};
    struct query_request q;
    struct buf out = BUF_INIT;
    if (!schema) schema = test_schema(schema_json);
    static const struct {
        const char *spec, *expected;
    } rows[] = {
        {"body:a?near=7&field=v&fuse=rrf", "rrf(body:a, v:knn(k=100))"},
        {"body:a body:b?near=7&field=v&fuse=mm&size=200", "mm(body:a body:b*0.5, v:knn(k=200)*0.5)"},
        {"body:a?near=7&field=v&fuse=mm&size=200&window=300&from=100", "mm(body:a*0.5, v:knn(k=300)*0.5)"},
        {"body:a?near=7&field=v&fuse=rrf&window=10", "rrf(body:a, v:knn(k=10))"},
        {"body:a?near=7&field=v&fuse=rrf&from=90", "rrf(body:a, v:knn(k=100))"},
        {"body:a?near=7&field=v&fuse=rrf&from=91", "error: from and size reach beyond the window, the best "
                                                   "100 hits of each side that a hybrid fuses: give "
                                                   "all pages a window of 101 or more"},
        {"body:a?near=7&field=v&fuse=rrf&window=9",
         "error: from and size reach beyond the window, the best 9"},
        {"body:a?near=7&field=v&window=50", "error: window: the query is not a hybrid"},
        {"body:a?window=50", "error: window: the query is not a hybrid"},
        {"body:a?near=7&field=v&fuse=rrf&window=0", "error: option \"window\": expected a number from 1"},
        {"{\"query\":\"a\",\"window\":0}", "error: window: expected a number from 1 to 10000"},
        {"{\"query\":{\"rrf\":[" TEXT("body:a") "," NEAREST "]},\"from\":200}", "error: from and size reach"},
        {"{\"query\":{\"rrf\":[" TEXT("body:a") "," NEAREST "]},\"from\":200,\"window\":300}",
         "rrf(body:a, "},
        {"{\"query\":{\"rrf\":[" NEAREST "," NEAREST "]},\"from\":200}", "rrf(v:knn"},
        {"{\"query\":{\"rrf\":[" NEAREST "," NEAREST "]},\"from\":9995}", "error: from and size together"},
        {"body:a?fuse=l2&near=7&field=v&sort=_score", "l2(body:a*0.5, v:knn(k=100)*0.5)"},
        {"body:a?near=7&field=v", "v:knn(k=10,filter=body:a)"},
        {"?near=7&field=v&fuse=rrf", "error: fuse: expected a text"},
        {"body:a?fuse=rrf", "error: fuse: expected a text"},
        {"body:a?near=7&field=v&fuse=rrf&sort=n", "error: sort: the hits of rrf"},
        {"body:a?near=7&field=v&fuse=rrf&facet=tag", "rrf(body:a, v:knn(k=100))"},
        {"body:a?near=7&field=v&fuse=sum", "error: option \"fuse\": expected rrf, mm or l2"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct query *query = NULL;
        buf_clear(&out);
        err_clear(&err);
        int r = query_request_parse_spec(rows[i].spec, strlen(rows[i].spec), &q, &err);
        bool parsed = !r;
        if (parsed) r = query_compile(&q, schema, v, 2, &query, &err);
        if (r)
            buf_printf(&out, "error: %s", err.text);
        else
            query_print(query->root, &out);
        bool ok = !strncmp(buf_str(&out), rows[i].expected, strlen(rows[i].expected));
        if (!ok) fprintf(stderr, "%s: %s\n", rows[i].spec, buf_str(&out));
        CHECK(ok);
        query_free(query);
        if (parsed) query_request_release(&q);
    }
    buf_release(&out);
}

TEST(other_objects) {
    GIVES("[]", "0: query: expected a query object");
    GIVES("{}", "0: query: expected queryString, knn, sparseVector, bool");
    GIVES("{\"match\":{}}", "0: query: unknown query \"match\"");
    GIVES("{\"queryString\":{\"query\":\"a\"},\"boost\":2}", "0: query: unknown query \"boost\"");
    GIVES("{\"queryString\":{\"query\":\"a\"},\"knn\":{}}", "0: query: expected one query");
    GIVES("{\"sparseVector\":{}}", "0: query.sparseVector: expected a string \"field\"");
    GIVES("{", "1: the query is not valid JSON");
}

TEST(recall) {
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"recall\":0.9}}",
          "v:knn(k=10,recall=0.9)");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"recall\":1}}", "v:knn(k=10,recall=1)");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"recall\":null}}", "v:knn(k=10)");
    static const char *const bad[] = {"0.49", "1.01", "0", "-1", "\"0.9\"", "true", "[]"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[200];
        snprintf(text, sizeof text,
                 "{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"recall\":%s}}", bad[i]);
        GIVES(text, "0: query.knn: expected a number from 0.5 to 1 as \"recall\"");
    }
}

TEST(knn) {
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2.5],\"k\":10}}", "v:knn(k=10)");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"filter\":{\"queryString\":{\"query\":"
          "\"tag:x\"}}}}",
          "v:knn(k=10,filter=tag:x)");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"filter\":\"tag:x AND n:1\"}}",
          "v:knn(k=10,filter=+tag:x +n:[1 TO 1])");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"filter\":\"title:the\"}}",
          "v:knn(k=10,filter=<nothing>)");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"filter\":{\"knn\":{\"field\":\"v\","
          "\"queryVector\":[1,2],\"k\":1}}}}",
          "0: query.knn.filter.knn: a kNN search cannot");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"filter\":{\"bool\":5}}}",
          "0: query.knn.filter.bool: expected");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10,\"filter\":\"a:\"}}",
          "3: query.knn.filter: expected a value");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2,3],\"k\":10}}",
          "0: query.knn: field \"v\": the query vector has 3 dimensions, expected 2");
    CHECK(err.code == ERR_DIMENSION);
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[0,0],\"k\":10}}",
          "0: query.knn: field \"v\": a query vector without");
    GIVES("{\"knn\":{\"field\":\"dot\",\"queryVector\":[0,0,0],\"k\":10}}", "dot:knn(k=10)");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,1e300],\"k\":10}}",
          "0: query.knn: field \"v\": the query vector has a number");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,\"2\"],\"k\":10}}",
          "0: query.knn: expected only numbers");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":5,\"k\":10}}", "0: query.knn: expected an array");
    GIVES("{\"knn\":{\"field\":\"v\",\"k\":10}}", "0: query.knn: expected an array");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":0}}",
          "0: query.knn: expected a number from 1");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2],\"k\":10001}}",
          "0: query.knn: expected a number from 1");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryVector\":[1,2]}}", "0: query.knn: expected a number from 1");
    GIVES("{\"knn\":{\"field\":\"title\",\"queryVector\":[1,2],\"k\":1}}",
          "0: query.knn: expected the name of a vector field");
    GIVES("{\"knn\":{\"field\":\"nope\",\"queryVector\":[1,2],\"k\":1}}",
          "0: query.knn: no index on field \"nope\"");
    GIVES("{\"knn\":{\"field\":\"v\",\"queryText\":\"x\",\"k\":1}}",
          "0: query.knn: field \"v\" has no managed embedding");
}

TEST(nesting) {
    struct buf b = BUF_INIT;
    for (int depth = 99; depth <= 101; depth++) {
        buf_clear(&b);
        for (int i = 0; i < depth - 1; i++) buf_adds(&b, "{\"bool\":[");
        buf_adds(&b, "{\"queryString\":{\"query\":\"body:a\"}}");
        for (int i = 0; i < depth - 1; i++) buf_adds(&b, "]}");
        const char *got = json(buf_str(&b));
        CHECK(depth <= 100 ? !strcmp(got, "body:a") : strstr(got, "nested deeper than 100") != NULL);
    }
    buf_clear(&b);
    for (int i = 0; i < 100000; i++) buf_adds(&b, "{\"bool\":[");
    CHECK(strstr(json(buf_str(&b)), "not valid JSON"));
    buf_release(&b);
}

static const char *near(const char *text, const char *field, const float *v, uint32_t n) {
    static struct buf out;
    struct query_request q;
    struct query *query = NULL;
    query_request_init(&q);
    q.near_id = (char *)"7";
    q.near_field = (char *)field;
    q.text = (char *)text;
    q.from = 5;
    buf_clear(&out);
    err_clear(&err);
    if (query_compile(&q, schema, v, n, &query, &err))
        buf_adds(&out, err.text);
    else
        query_print(query->root, &out);
    query_free(query);
    return buf_str(&out);
}

TEST(near_a_document) {
    const float v[2] = {1, 0}, zero[2] = {0, 0}, bad[2] = {NAN, 1};
    if (!schema) schema = test_schema(schema_json);
    CHECK(!strcmp(near("", "v", v, 2), "v:knn(k=15)"));
    CHECK(!strcmp(near(NULL, "v", v, 2), "v:knn(k=15)"));
    CHECK(!strcmp(near("*:*", "v", v, 2), "v:knn(k=15)"));
    CHECK(!strcmp(near("tag:x", "v", v, 2), "v:knn(k=15,filter=tag:x)"));
    CHECK(!strcmp(near("title:the", "v", v, 2), "v:knn(k=15,filter=<nothing>)"));
    CHECK(strstr(near("", NULL, v, 2), "several vector fields"));
    CHECK(strstr(near("", "title", v, 2), "not a vector field"));
    CHECK(strstr(near("", "v", NULL, 0), "has no vector"));
    CHECK(strstr(near("", "v", v, 1), "1 dimensions, expected 2") && err.code == ERR_DIMENSION);
    CHECK(strstr(near("", "v", zero, 2), "without length"));
    CHECK(strstr(near("", "v", bad, 2), "not finite"));
    struct schema *one = test_schema("{\"indexConfigs\":{\"e\":{\"type\":\"vector\",\"dimensions\":2}}}");
    struct query_request q;
    const struct field *f = NULL;
    query_request_init(&q);
    CHECK_OK(query_near_field(&q, one, &f, &err));
    CHECK(f && !strcmp(f->path, "e"));
    schema_unref(one);
}

static const char *sorted(const char *sort) {
    static struct buf out;
    struct query_request q;
    struct query *query = NULL;
    query_request_init(&q);
    q.text = (char *)"*:*";
    q.sort = (char *)sort;
    q.format = FORMAT_IDS;
    buf_clear(&out);
    err_clear(&err);
    if (query_compile(&q, schema, NULL, 0, &query, &err)) {
        buf_adds(&out, err.text);
    } else {
        for (uint32_t i = 0; i < query->n_sort; i++)
            buf_printf(&out, "%s/%s%s ", query->sort[i].field, field_type_name(query->sort[i].type),
                       query->sort[i].descending ? "-" : "+");
        buf_adds(&out, query->needs_scores ? "scores" : "none");
    }
    query_free(query);
    return buf_str(&out);
}

TEST(sort) {
    if (!schema) schema = test_schema(schema_json);
    CHECK(!strcmp(sorted("n"), "n/long+ none"));
    CHECK(!strcmp(sorted("n:desc,tag:asc,d,b,w"),
                  "n/long- tag/keyword+ d/double+ b/boolean+ w/datetime+ none"));
    CHECK(!strcmp(sorted("author.born:desc"), "author.born/long- none"));
    CHECK(!strcmp(sorted("_score,id"), "_score/double- _id/keyword+ scores"));
    CHECK(!strcmp(sorted("n,_score:asc"), "n/long+ _score/double+ scores"));
    CHECK(!strcmp(sorted("_id:desc"), "_id/keyword- none"));
    CHECK(!strcmp(sorted("my field"), "my field/keyword+ none"));
    CHECK(strstr(sorted("title"), "title\" is text"));
    CHECK(strstr(sorted("v"), "is vector"));
    CHECK(strstr(sorted("author"), "is object"));
    CHECK(strstr(sorted("nope"), "sort: no index on field \"nope\""));
    CHECK(strstr(sorted("n:up"), "asc or desc"));
    CHECK(strstr(sorted("n:"), "asc or desc"));
    CHECK(strstr(sorted("n,,d"), "field's name"));
    CHECK(strstr(sorted(""), "field's name"));
    CHECK(strstr(sorted("n,n,n,n,n,n,n,n,n"), "more than 8"));
    schema_unref(schema);
    schema = NULL;
}
