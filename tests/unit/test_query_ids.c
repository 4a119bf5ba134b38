/* Conformance of the query language: query text -> the documents that match, on a small collection. */
#include "corpus.h"
#include "lucene_trees.h"
#include "query_test.h"

static const char ids_schema[] = "{\"indexConfigs\":{\"title\":{\"type\":\"text\",\"analyzers\":[\"english\"]"
                                 "},\"body\":{\"type\":\"text\"},"
                                 "\"tag\":{\"type\":\"keyword\"},\"n\":{\"type\":\"long\"},\"d\":{\"type\":"
                                 "\"double\"},\"b\":{\"type\":\"boolean\"},"
                                 "\"w\":{\"type\":\"datetime\"},\"author\":{\"type\":\"object\","
                                 "\"objectIndexConfigs\":{\"name\":{\"type\":\"keyword\"},"
                                 "\"born\":{\"type\":\"long\"},\"bio\":{\"type\":\"text\"},\"home\":{"
                                 "\"type\":\"object\",\"objectIndexConfigs\":{"
                                 "\"city\":{\"type\":\"keyword\"}}}}}}}";

/* 4 has arrays of objects, 7 is deleted, 8 was updated, 9 is empty. */
static const struct corpus_doc docs[] = {
    {"1",
     "{\"id\":\"1\",\"title\":\"The White Whale\",\"body\":\"the quick brown fox jumps over the lazy "
     "dog\",\"tag\":\"red\","
     "\"n\":1,\"d\":0.5,\"b\":true,\"w\":\"2024-01-01T00:00:00Z\"}",
     false, NULL},
    {"2",
     "{\"id\":\"2\",\"title\":\"Whales and ships\",\"body\":\"quick "
     "fox\",\"tag\":[\"red\",\"blue\"],\"n\":[2,20],\"d\":-1.5,"
     "\"b\":false,\"w\":\"2024-01-31T23:59:59.999Z\"}",
     false, NULL},
    {"3",
     "{\"id\":\"3\",\"title\":\"A ship of the line\",\"body\":\"brown dog and brown fox\",\"tag\":\"Red "
     "Hat\",\"n\":3,"
     "\"w\":\"2024-02-01\"}",
     false, NULL},
    {"4",
     "{\"id\":\"4\",\"body\":\"wi-fi in the "
     "foam\",\"tag\":\"a*b\",\"author\":[{\"name\":\"Ann\",\"born\":1900,\"home\":{\"city\":"
     "\"Oslo\"}},{\"name\":\"Bob\",\"born\":1950}]}",
     false, NULL},
    {"5",
     "{\"id\":\"5\",\"body\":\"\xc3\xa9t\xc3\xa9 na\xc3\xafve caf\xc3\xa9 "
     "roam\",\"tag\":[\"a/b\",\"\xe6\x97\xa5\xe6\x9c\xac\"],"
     "\"n\":-5,\"d\":1e300,\"author\":{\"name\":\"Ann Lee\",\"born\":1800,\"bio\":\"whales at sea\"}}",
     false, NULL},
    {"6",
     "{\"id\":\"6\",\"title\":\"roams\",\"body\":\"roams foams from "
     "form\",\"n\":9223372036854775807,\"d\":1e-300,\"b\":\"true\"}",
     false, NULL},
    {"7", "{\"id\":\"7\",\"title\":\"whale\",\"body\":\"fox roam\",\"tag\":\"red\",\"n\":1}", true, NULL},
    {"8", "{\"id\":\"8\",\"title\":\"new\",\"body\":\"fox lazy fox lazy\",\"tag\":\"blue\",\"n\":0}", false,
     "{\"id\":\"8\",\"title\":\"old whale\",\"body\":\"dog\",\"tag\":\"red\",\"n\":1}"},
    {"9", "{\"id\":\"9\"}", false, NULL},
};

/* Ids ascending. Checked by hand against the documents above. */
static const struct {
    const char *query, *ids;
} rows[] = {
    /* terms, operators, precedence */
    {"body:fox", "1 2 3 8"},
    {"body:FOX", "1 2 3 8"},
    {"body:fox body:dog", "1 2 3 8"},
    {"body:(fox AND dog)", "1 3"},
    {"body:(fox && dog)", "1 3"},
    {"+body:fox +body:dog", "1 3"},
    {"body:(fox OR foam)", "1 2 3 4 8"},
    {"body:(fox || foam)", "1 2 3 4 8"},
    {"body:(fox NOT dog)", "2 8"},
    {"body:(fox -dog)", "2 8"},
    {"body:(fox !dog)", "2 8"},
    {"body:fox AND NOT body:dog", "2 8"},
    {"NOT body:fox", ""},
    {"-body:fox", ""},
    {"*:* -body:fox", "4 5 6 9"},
    {"*:* AND NOT body:fox", "4 5 6 9"},
    {"body:quick AND body:fox OR body:dog AND body:lazy", "1"},
    {"(body:quick AND body:fox) OR (body:dog AND body:brown)", "1 2 3"},
    {"body:foam OR body:quick AND body:fox", "1 2"},
    {"body:quick AND body:fox OR body:foam", "1 2"},
    {"body:quick AND body:fox body:foam", "1 2"},
    {"body:(quick lazy)", "1 2 8"},
    {"body:(+quick lazy)", "1 2"},
    {"body:(quick fox dog)@2", "1 2 3"},
    {"body:(quick fox dog)@3", "1"},
    {"body:(quick fox dog)@4", ""},
    {"body:(quick fox dog)@1", "1 2 3 8"},
    {"body:((quick OR foam) AND (fox OR wi))", "1 2 4"},
    {"body:(fox -(quick dog))", "8"},
    {"body:(+fox -(+quick +dog))", "2 3 8"},
    {"body:fox^2 OR body:foam^0.5", "1 2 3 4 8"},
    {"body:fox^0", "1 2 3 8"},
    {"*:*", "1 2 3 4 5 6 8 9"},
    {"*", "1 2 3 4 5 6 8 9"},
    {"body:nothing", ""},
    /* analysis */
    {"title:whale", "1 2"},
    {"title:whales", "1 2"},
    {"title:Ships", "2 3"},
    {"title:the", ""},
    {"title:(the whale)", "1 2"},
    {"+title:the +title:whale", "1 2"},
    {"body:the", "1 4"},
    {"body:wi-fi", "4"},
    {"body:wifi", ""},
    {"body:(wi\\-fi)", "4"},
    {"body:\xc3\x89T\xc3\x89", "5"},
    {"body:ete", ""},
    {"body:caf\xc3\xa9", "5"},
    {"author.bio:whales", "5"},
    {"author.bio:whale", ""},
    /* phrases */
    {"body:\"quick brown\"", "1"},
    {"body:\"brown quick\"", ""},
    {"body:\"brown quick\"~2", "1"},
    {"body:\"quick fox\"", "2"},
    {"body:\"quick fox\"~1", "1 2"},
    {"body:\"fox quick\"~2", "2"},
    {"body:\"fox quick\"~3", "1 2"},
    {"body:\"fox fox\"", ""},
    {"body:\"fox fox\"~1", "8"},
    {"body:\"brown fox\"", "1 3"},
    {"body:\"lazy fox lazy\"", "8"},
    {"title:\"white whale\"", "1"},
    {"title:\"ship of the line\"", "3"},
    {"title:\"ship line\"", ""},
    {"title:\"ship line\"~2", "3"},
    {"body:\"wi fi\"", "4"},
    {"body:\"wi-fi\"", "4"},
    {"-body:\"quick fox\" body:fox", "1 3 8"},
    /* keywords, several values, escapes */
    {"tag:red", "1 2"},
    {"tag:Red", ""},
    {"tag:(red AND blue)", "2"},
    {"tag:(red blue)", "1 2 8"},
    {"tag:(blue -red)", "8"},
    {"tag:\"Red Hat\"", "3"},
    {"tag:Red\\ Hat", "3"},
    {"tag:a\\*b", "4"},
    {"tag:\"a*b\"", "4"},
    {"tag:a*b", "4 5"},
    {"tag:a\\/b", "5"},
    {"tag:a/b", "5"},
    {"tag:\xe6\x97\xa5\xe6\x9c\xac", "5"},
    {"tag:\\u65e5\\u672c", "5"},
    {"id:5", "5"},
    {"id:(1 9 77)", "1 9"},
    {"id:7", ""},
    /* prefixes and wildcards */
    {"body:fo*", "1 2 3 4 6 8"},
    {"body:FO*", "1 2 3 4 6 8"},
    {"body:f?x", "1 2 3 8"},
    {"body:*oam*", "4 5 6"},
    {"body:?oam", "4 5"},
    {"body:?oam?", "6"},
    {"body:??", "4"},
    {"body:caf?", "5"},
    {"body:?t?", "5"},
    {"tag:re?", "1 2"},
    {"tag:??", "5"},
    {"tag:*d", "1 2"},
    {"tag:R*t", "3"},
    {"title:whale*", "1 2"},
    {"title:whales*", ""},
    {"author.name:Ann*", "4 5"},
    {"author.name:Ann?*", "5"},
    /* existence */
    {"tag:*", "1 2 3 4 5 8"},
    {"_exists_:title", "1 2 3 6 8"},
    {"*:* -title:*", "4 5 9"},
    {"author:*", "4 5"},
    {"author.home:*", "4"},
    {"author.home.city:*", "4"},
    {"n:*", "1 2 3 5 6 8"},
    {"b:[* TO *]", "1 2 6"},
    /* ranges */
    {"n:1", "1"},
    {"n:[1 TO 3]", "1 2 3"},
    {"n:{1 TO 3}", "2"},
    {"n:{1 TO 3]", "2 3"},
    {"n:[1 TO 3}", "1 2"},
    {"n:[* TO 0]", "5 8"},
    {"n:{20 TO *]", "6"},
    {"n:[20 TO *}", "2 6"},
    {"n<0", "5"},
    {"n<=0", "5 8"},
    {"n>3", "2 6"},
    {"n>=3", "2 3 6"},
    {"n:-5", "5"},
    {"n:[-5 TO -1]", "5"},
    {"n>0 AND n<3", "1 2"},
    {"n:(1 OR 20)", "1 2"},
    {"n:[3 TO 1]", ""},
    {"n:9223372036854775807", "6"},
    {"n:{9223372036854775806 TO *]", "6"},
    {"n:[0.5 TO 1.5]", "1"},
    {"d:[0 TO 1]", "1 6"},
    {"d<0", "2"},
    {"d>=0.5", "1 5"},
    {"d:0.5", "1"},
    {"d:{0 TO 0.5}", "6"},
    {"b:true", "1 6"},
    {"b:false", "2"},
    {"-b:true n:*", "2 3 5 8"},
    {"w:[2024-01-01 TO 2024-02-01}", "1 2"},
    {"w:2024-02-01", "3"},
    {"w>\"2024-01-31T23:59:59.998Z\"", "2 3"},
    {"w<2024-01-31", "1"},
    {"w:{2024-01-01 TO *]", "2 3"},
    {"tag:[a TO c]", "2 4 5 8"},
    {"tag:{a*b TO blue]", "2 5 8"},
    {"tag:[* TO a]", "3"},
    {"tag>=red", "1 2 5"},
    {"tag>red", "5"},
    {"body:[foam TO fox}", "4 6"},
    {"body:{foam TO fox]", "1 2 3 6 8"},
    /* objects and arrays of objects: flat */
    {"author.name:Ann", "4"},
    {"author.name:Bob", "4"},
    {"author.name:\"Ann Lee\"", "5"},
    {"author.name:Ann AND author.born:1950", "4"},
    {"author.born:[1850 TO *]", "4"},
    {"author.born<1900", "5"},
    {"author.home.city:Oslo", "4"},
    {"author.home.city:/O.*/", "4"},
    {"author.home.city:Osol~1", "4"},
    /* fuzzy words */
    {"body:roam~1", "4 5 6"},
    {"body:roam~0", "5"},
    {"body:raom~1", "5"},
    {"body:raom~", "4 5 6"},
    {"body:fom~1", "1 2 3 4 6 8"},
    {"body:form~1", "4 6"},
    {"body:from~1", "6"},
    {"body:fox~1", "1 2 3 8"},
    {"body:xyz~", ""},
    {"body:quikc~1", "1 2"},
    {"body:qiukc~1", ""},
    {"body:qiukc~2", "1 2"},
    {"body:naive~1", "5"},
    {"body:ete~2", "1 4 5"},
    {"body:ete~1", ""},
    {"tag:rad~1", "1 2"},
    {"tag:bleu~1", "2 8"},
    {"tag:\xe6\x97\xa5~1", "5"},
    {"title:whle~1", "1 2"},
    {"body:roam~1 -body:foam", "5 6"},
    {"*:* -body:roam~1", "1 2 3 8 9"},
    {"body:lazi~0.7", "1 8"},
    {"body:lazi~0.8", ""},
    /* expressions */
    {"body:/fo[ax]m?/", "1 2 3 4 8"},
    {"body:/.*oam.?/", "4 5 6"},
    {"body:/FOX/", "1 2 3 8"},
    {"body:/f.x|dog/", "1 2 3 8"},
    {"body:/fo/", ""},
    {"body:/[^a-z]+/", ""},
    {"body:/[^a-z].[^a-z]/", "5"},
    {"body:/[a-z]{2}/", "4"},
    {"body:/[a-z]{9,}/", ""},
    {"body:/(qu|l)[a-z]+/", "1 2 8"},
    {"body:/\\w{3}/", "1 2 3 4 8"},
    {"body:/caf./", "5"},
    {"tag:/[A-Z].*/", "3"},
    {"tag:/Red Hat/", "3"},
    {"tag:/a[*\\/]b/", "4 5"},
    {"tag:/\"a*\"b/", "4"},
    {"tag:/../", "5"},
    {"tag:/r(e|x)d/", "1 2"},
    {"tag:/@/", "1 2 3 4 5 8"},
    {"tag:/#/", ""},
    {"tag:/()/", ""},
    {"tag:/\\D+\\s\\D+/", "3"},
    {"title:/whale/", "1 2"},
    {"title:/WHALE/", "1 2"},
    {"*:* -tag:/.*e.*/", "4 5 6 9"},
    /* bare words: title and body */
    {"fox", "1 2 3 8"},
    {"whales", "1 2 5"},
    {"roams", "6"},
    {"+whale +fox", "1 2"},
    {"roam~1", "4 5 6"},
    {"/wh?.*/", "1 2 4 5"},
    {"ship*", "2 3"},
    {"\"white whale\"", "1"},
    {"[white TO wi]", "1 4"},
};

static int compare_ids(const void *a, const void *b) {
    return *((const struct search_hit *)a)->id - *((const struct search_hit *)b)->id; /* one digit each */
}

static const char *ids_of(const struct corpus_index *x, const char *text, const char *default_field,
                          const struct schema *s, bool ranges) {
    static char out[400];
    struct query_request request;
    query_request_init(&request);
    request.text = (char *)text;
    request.default_field = (char *)default_field;
    struct query *q = NULL;
    struct search_result r = {0};
    out[0] = '\0';
    err_clear(&err);
    if (query_compile(&request, s, NULL, 0, &q, &err) || corpus_search(x, q, ranges, 100, &r, &err))
        snprintf(out, sizeof out, "error %u: %.300s", err.column, err.text);
    if (r.n_hits) qsort(r.hits, r.n_hits, sizeof *r.hits, compare_ids);
    for (uint32_t i = 0; i < r.n_hits; i++)
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s%.*s", i ? " " : "", (int)r.hits[i].id_len,
                 r.hits[i].id);
    search_result_release(&r);
    query_free(q);
    return out;
}

static bool finds(const struct corpus_index layouts[2], const char *query, const char *default_field,
                  const char *ids, const struct schema *s) {
    for (int l = 0; l < 4; l++) {
        const char *got = ids_of(&layouts[l / 2], query, default_field, s, l % 2);
        if (!strcmp(got, ids)) continue;
        fprintf(stderr, "%s in layout %d\n   got      %s\n   expected %s\n", query, l, got, ids);
        return false;
    }
    return true;
}

TEST(matching_documents) {
    struct schema *s = test_schema(ids_schema);
    struct corpus_index layouts[2];
    int bad = 0;
    CHECK(corpus_build(&layouts[0], s, docs, ARRAY_SIZE(docs), 1) &&
          corpus_build(&layouts[1], s, docs, ARRAY_SIZE(docs), 4));
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) bad += !finds(layouts, rows[i].query, NULL, rows[i].ids, s);
    for (size_t i = 0; i < ARRAY_SIZE(lucene_trees); i++)
        bad += !finds(layouts, lucene_trees[i].query, "body", lucene_trees[i].ids, s);
    for (int l = 0; l < 2; l++) corpus_release(&layouts[l]);
    schema_unref(s);
    CHECK(!bad);
}
