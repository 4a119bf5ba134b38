/* Conformance of the query syntax: query text -> checked tree, or the column and reason of the error. */
#include "lucene_trees.h"
#include "query_test.h"

struct row {
    const char *query, *expected;
};

static int run(const struct row *rows, size_t n, const char *default_field, const char *schema) {
    struct schema *s = test_schema(schema);
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        const char *got = compiled_text(rows[i].query, default_field, s);
        if (matches(got, rows[i].expected)) continue;
        fprintf(stderr, "%s\n   got      %s\n   expected %s\n", rows[i].query, got, rows[i].expected);
        bad++;
    }
    schema_unref(s);
    return bad;
}

static const struct row syntax[] = {
    /* terms and operators */
    {"a", "body:a"},
    {"a b", "body:a body:b"},
    {"a OR b", "body:a body:b"},
    {"a || b", "body:a body:b"},
    {"a AND b", "+body:a +body:b"},
    {"a && b", "+body:a +body:b"},
    {"a AND b OR c AND d", "+body:a +body:b +body:c +body:d"},
    {"a OR b AND c", "body:a +body:b +body:c"},
    {"a AND b OR c", "+body:a +body:b body:c"},
    {"a AND b c", "+body:a +body:b body:c"},
    {"a b AND c", "body:a +body:b +body:c"},
    {"a OR b OR c", "body:a body:b body:c"},
    {"+a b", "+body:a body:b"},
    {"+a +b", "+body:a +body:b"},
    {"+a", "body:a"},
    {"a -b", "body:a -body:b"},
    {"a !b", "body:a -body:b"},
    {"a NOT b", "body:a -body:b"},
    {"a AND NOT b", "+body:a -body:b"},
    {"a AND -b", "+body:a -body:b"},
    {"a OR NOT b", "body:a -body:b"},
    {"NOT a AND b", "-body:a +body:b"},
    {"-a AND b", "-body:a +body:b"},
    {"a AND +b", "+body:a +body:b"},
    {"+a OR +b", "+body:a +body:b"},
    {"+ a", "body:a"},
    {"a - b", "body:a -body:b"},
    {"-a", "<nothing>"},
    {"NOT a", "<nothing>"},
    {"-a -b", "<nothing>"},
    {"a (-b)", "body:a"},
    {"+a +(-b)", "<nothing>"},
    {"+a +(-b)^2", "<nothing>"},
    {"tag>\"OR\" a", "tag:{OR TO *] body:a"},
    {"tag>\\OR a", "tag:{OR TO *] body:a"},
    {"*:* -a", "*:* -body:a"},
    {"*:* AND NOT a", "+*:* -body:a"},
    {"and or not", "body:and body:or body:not"},
    {"ANDROID ORB NOTE", "body:android body:orb body:note"},
    {"\\AND", "body:and"},
    {"\"AND\"", "body:and"},
    {"  a   ", "body:a"},
    {"a\tb\nc\rd", "body:a body:b body:c body:d"},
    {"a\xe3\x80\x80"
     "b",
     "body:a body:b"},
    {"A", "body:a"},
    {"\xc3\x89T\xc3\x89", "body:\xc3\xa9t\xc3\xa9"},
    {"a&&b", "body:a body:b"},
    {"x!y", "body:x -body:y"},
    /* groups */
    {"(a)", "body:a"},
    {"((a))", "body:a"},
    {"(a b)", "body:a body:b"},
    {"(a b) c", "(body:a body:b) body:c"},
    {"(a OR b) AND c", "+(body:a body:b) +body:c"},
    {"a AND (b OR c)", "+body:a +(body:b body:c)"},
    {"+(a b) -(c d)", "+(body:a body:b) -(body:c body:d)"},
    {"(a AND b) OR (c AND d)", "(+body:a +body:b) (+body:c +body:d)"},
    {"title:(whale ship)", "title:whale title:ship"},
    {"title:(whale AND ship)", "+title:whale +title:ship"},
    {"title:(whale body:ship)", "title:whale body:ship"},
    {"title:(+whale -(ship OR sail))", "+title:whale -(title:ship title:sail)"},
    {"(a b c)@2", "(body:a body:b body:c)~2"},
    {"(a b c)@2^3", "(body:a body:b body:c)~2^3"},
    {"(a b)@3", "<nothing>"},
    {"(a)@1", "body:a"},
    {"+x (a b)@1", "+body:x (body:a body:b)~1"},
    /* fields */
    {"title:whale", "title:whale"},
    {"title:whales", "title:whale"},
    {"body:whales", "body:whales"},
    {"title : whale", "title:whale"},
    {"title:\n whale", "title:whale"},
    {"tag:Red", "tag:Red"},
    {"tag:\"Red Hat\"", "tag:Red Hat"},
    {"tag:Red\\ Hat", "tag:Red Hat"},
    {"my\\ field:x", "my field:x"},
    {"author.name:Herman", "author.name:Herman"},
    {"id:7", "id:7"},
    {"id:a/b", "id:a/b"},
    {"id:x@y.org", "id:x@y.org"},
    {"id:a=b", "id:a=b"},
    {"title:whale body:ship", "title:whale body:ship"},
    {"-title:whale body:ship", "-title:whale body:ship"},
    {"title:\"the whale\"", "title:whale"},
    {"title:the", "<nothing>"},
    {"title:the body:x", "body:x"},
    {"+title:the +body:x", "body:x"},
    {"title:the AND body:x", "body:x"},
    {"body:x AND title:the", "body:x"},
    {"body:x -title:the", "body:x"},
    {"title:the -body:x", "<nothing>"},
    {"(title:the title:of) body:x", "body:x"},
    {"...", "<nothing>"},
    /* several tokens of one word */
    {"wi\\-fi", "body:wi body:fi"},
    {"wi-fi", "body:wi body:fi"},
    {"+wi-fi x", "+(body:wi body:fi) body:x"},
    {"a+b", "body:a body:b"},
    {"to\\ be\\ to", "body:to body:be body:to"},
    {"and/or", "body:and body:or"},
    /* phrases */
    {"\"a b\"", "body:\"a b\""},
    {"\"a b\"~3", "body:\"a b\"~3"},
    {"\"a b\" ~3", "body:\"a b\"~3"},
    {"\"a b\"~2.7", "body:\"a b\"~2"},
    {"\"a b\"^2", "body:\"a b\"^2"},
    {"\"a b\"~3^2", "body:\"a b\"~3^2"},
    {"\"a b\"^2~3", "body:\"a b\"~3^2"},
    {"\"A \\\"quoted\\\" B\"", "body:\"a quoted b\""},
    {"title:\"ship of whales\"", "title:\"ship ? whale\""},
    {"title:\"the ship\"", "title:ship"},
    {"title:\"the ship whale of the\"", "title:\"ship whale\""},
    {"\"\"", "<nothing>"},
    {"\"a\"~5", "body:a"},
    {"-\"a b\" c", "-body:\"a b\" body:c"},
    /* boosts */
    {"a^2", "body:a^2"},
    {"a^2.5 b", "body:a^2.5 body:b"},
    {"a^.5 b", "body:a^0.5 body:b"},
    {"a ^2", "body:a^2"},
    {"a^0", "body:a^0"},
    {"(a b)^3", "(body:a body:b)^3"},
    {"(a^2)^3", "body:a^6"},
    {"title:(x y)^2 c", "(title:x title:y)^2 body:c"},
    {"wi-fi^2", "(body:wi body:fi)^2"},
    {"n:5^2", "n:[5 TO 5]^2"},
    {"[a TO b]^2", "body:[a TO b]^2"},
    {"*:*^2", "*:*^2"},
    /* everything, existence */
    {"*:*", "*:*"},
    {"* : *", "*:*"},
    {"*", "body:*"},
    {"title:*", "title:*"},
    {"n:*", "n:*"},
    {"v:*", "v:*"},
    {"tag:**", "tag:*"},
    {"_exists_:title", "title:*"},
    {"_exists_:\"my field\"", "my field:*"},
    {"_exists_:author.born", "author.born:*"},
    {"author:*", "author.born:* author.name:*"},
    {"author.none:*", "<nothing>"},
    {"-title:*", "<nothing>"},
    {"n:[* TO *]", "n:*"},
    {"title:{* TO *}", "title:*"},
    /* prefixes and wildcards */
    {"wh*", "body:wh*"},
    {"WH*", "body:wh*"},
    {"title:Whales*", "title:whales*"},
    {"tag:Re*", "tag:Re*"},
    {"tag:a\\*b*", "tag:a*b*"},
    {"tag:a\\**", "tag:a**"},
    {"wh?le", "body:wh?le"},
    {"WH?LE*", "body:wh?le*"},
    {"*ale", "body:*ale"},
    {"?", "body:?"},
    {"w**", "body:w*"},
    {"w**e", "body:w*e"},
    {"tag:a\\?b?", "tag:a\\?b?"},
    {"tag:\\\\a?", "tag:\\\\a?"},
    {"tag:a\\*", "tag:a*"},
    {"wh*^2", "body:wh*^2"},
    {"title:wh?le*", "title:wh?le*"},
    {"\"wh*\"", "body:wh"},
    {"tag:\xc3\xa9?*", "tag:\xc3\xa9?*"},
    {"-wh* a", "-body:wh* body:a"},
    /* fuzzy words */
    {"roam~", "body:roam~2"},
    {"roam~1", "body:roam~1"},
    {"roam~2", "body:roam~2"},
    {"roam~3", "body:roam~2"},
    {"roam~0", "body:roam"},
    {"roam~0.8", "body:roam"},
    {"roam~0.75", "body:roam~1"},
    {"roam~0.5", "body:roam~2"},
    {"roam~.7", "body:roam~1"},
    {"roaming~0.8", "body:roaming~1"},
    {"roam~1.0", "body:roam~1"},
    {"Roam~1", "body:roam~1"},
    {"ROAM ~1", "body:roam~1"},
    {"title:Whales~1", "title:whales~1"},
    {"tag:Red~1", "tag:Red~1"},
    {"tag:Red\\ Hat~", "tag:Red Hat~2"},
    {"roam~1^2", "body:roam~1^2"},
    {"roam^2~1", "body:roam~1^2"},
    {"+roam~ -foam~1", "+body:roam~2 -body:foam~1"},
    {"roam~ AND foam", "+body:roam~2 +body:foam"},
    {"(roam~1 foam)^2", "(body:roam~1 body:foam)^2"},
    {"title:(roam~1 foam~)", "title:roam~1 title:foam~2"},
    {"\xc3\xa9t\xc3\xa9~0.5", "body:\xc3\xa9t\xc3\xa9~1"},
    {"a\\~1", "body:a body:1"},
    {"wi-fi~1", "body:wi-fi~1"},
    /* expressions */
    {"/ab[cd]/", "body:/ab[cd]/"},
    {"x /ab[cd]/", "body:x body:/ab[cd]/"},
    {"title:/a\\/b/", "title:/a\\/b/"},
    {"tag:/A.*|[0-9]{2,4}/", "tag:/A.*|[0-9]{2,4}/"},
    {"tag:/a b/", "tag:/a b/"},
    {"tag:/()/", "tag:/()/"},
    {"tag://", "tag://"},
    {"tag:/a|()/", "tag:/a|()/"},
    {"tag:/\"a.b\"c/", "tag:/\"a.b\"c/"},
    {"tag:/[^a-c\\]\\d]+/", "tag:/[^a-c\\]\\d]+/"},
    {"tag:/[]]/", "tag:/[]]/"},
    {"tag:/@#/", "tag:/@#/"},
    {"tag:/\\(\\~\\&/", "tag:/\\(\\~\\&/"},
    {"tag:/a{0}b{1,}c{2}/", "tag:/a{0}b{1,}c{2}/"},
    {"tag:/a.*&~(.*b)/", "tag:/a.*&~(.*b)/"},
    {"tag:/~~a|<1-31>/", "tag:/~~a|<1-31>/"},
    {"tag:/\\<1\\-2>/", "tag:/\\<1\\-2>/"},
    {"/a/^3", "body:/a/^3"},
    {"/a/ AND -/b/", "+body:/a/ -body:/b/"},
    {"body:(/a/ /b/)", "body:/a/ body:/b/"},
    /* ranges */
    {"n:[1 TO 5]", "n:[1 TO 5]"},
    {"n:{1 TO 5}", "n:[2 TO 4]"},
    {"n:[1 TO 5}", "n:[1 TO 4]"},
    {"n:{1 TO 5]", "n:[2 TO 5]"},
    {"n:[* TO 5]", "n:[* TO 5]"},
    {"n:{1 TO *}", "n:[2 TO *]"},
    {"n:[-5 TO -1]", "n:[-5 TO -1]"},
    {"n:[5 TO 1]", "<nothing>"},
    {"n:{1 TO 2}", "<nothing>"},
    {"n:[1.5 TO 2.5]", "n:[2 TO 2]"},
    {"n:{1.5 TO 2.5}", "n:[2 TO 2]"},
    {"n:[-2.5 TO -1.5]", "n:[-2 TO -2]"},
    {"n:{2.0 TO 3.0]", "n:[3 TO 3]"},
    {"n:[1e3 TO 1e30]", "n:[1000 TO *]"},
    {"n:[9223372036854775806.5 TO *]", "n:[9223372036854775807 TO *]"},
    {"n:[9223372036854775807.5 TO *]", "<nothing>"},
    {"n:{9223372036854775807 TO *]", "<nothing>"},
    {"n:[* TO -9223372036854775808}", "<nothing>"},
    {"n:[* TO 99999999999999999999999999999999999999999999]", "n:[* TO *]"},
    {"n:1", "n:[1 TO 1]"},
    {"n:\"1\"", "n:[1 TO 1]"},
    {"n:-7", "n:[-7 TO -7]"},
    {"n:1.0", "n:[1 TO 1]"},
    {"n:1.5", "<nothing>"},
    {"n<5", "n:[* TO 4]"},
    {"n<=5", "n:[* TO 5]"},
    {"n>5", "n:[6 TO *]"},
    {"n>=5", "n:[5 TO *]"},
    {"n > 5", "n:[6 TO *]"},
    {"n>-5", "n:[-4 TO *]"},
    {"n:>5", "n:[6 TO *]"},
    {"n:<=-5 b:true", "n:[* TO -5] b:[true TO true]"},
    {"n>1 AND n<5", "+n:[2 TO *] +n:[* TO 4]"},
    {"d:[0.5 TO 2]", "d:[0.5 TO 2]"},
    {"d:{0.5 TO 2}", "d:[0.50000000000000011 TO 1.9999999999999998]"},
    {"d:-0.0", "d:[0 TO 0]"},
    {"d<0", "d:[* TO -0]"},
    {"b:true", "b:[true TO true]"},
    {"b:false", "b:[false TO false]"},
    {"w:[2024-01-01 TO 2024-12-31T23:59:59Z]", "w:[2024-01-01T00:00:00.000Z TO 2024-12-31T23:59:59.000Z]"},
    {"w:2024-01-01", "w:[2024-01-01T00:00:00.000Z TO 2024-01-01T00:00:00.000Z]"},
    {"w:\"2024-01-01T00:00:00.5Z\"", "w:[2024-01-01T00:00:00.500Z TO 2024-01-01T00:00:00.500Z]"},
    {"w>2024-01-01", "w:[2024-01-01T00:00:00.001Z TO *]"},
    {"w<\"2024-01-01T00:00:00Z\"", "w:[* TO 2023-12-31T23:59:59.999Z]"},
    {"w:2024\\-01\\-01T00\\:00\\:00Z", "w:[2024-01-01T00:00:00.000Z TO 2024-01-01T00:00:00.000Z]"},
    {"tag:[a TO b]", "tag:[a TO b]"},
    {"tag:{A TO B}", "tag:{A TO B}"},
    {"tag:[a TO *}", "tag:[a TO *}"},
    {"tag:[\"*\" TO \"b c\"]", "tag:[* TO b c]"},
    {"tag:[b TO a]", "<nothing>"},
    {"tag:[a TO a}", "<nothing>"},
    {"tag:[a TO a]", "tag:[a TO a]"},
    {"tag>=m", "tag:[m TO *]"},
    {"tag<\"m n\"", "tag:[* TO m n}"},
    {"[A TO B]", "body:[a TO b]"},
    {"title:[Whales TO *]", "title:[whales TO *]"},
    {"tag:[a\\ b TO c]", "tag:[a b TO c]"},
    /* escapes */
    {"a\\;b", "body:a body:b"},
    {"tag:\\(x\\)", "tag:(x)"},
    {"tag:a\\:b", "tag:a:b"},
    {"tag:\\u0041b", "tag:Ab"},
    {"tag:\\ud83d\\ude00", "tag:\xf0\x9f\x98\x80"},
    {"tag:\\\xc3\xa9", "tag:\xc3\xa9"},
    {"tag:a\\\\b", "tag:a\\b"},
    {"tag:\"a\\\\b\"", "tag:a\\b"},
};

TEST(syntax_table) {
    CHECK(!run(syntax, ARRAY_SIZE(syntax), "body", schema_json));
}

/* What Lucene's own parser makes of queries that nobody thought of. */
TEST(lucene_trees) {
    struct schema *s = test_schema(schema_json);
    int bad = 0;
    for (size_t i = 0; i < ARRAY_SIZE(lucene_trees); i++) {
        const char *got = compiled_text(lucene_trees[i].query, "body", s);
        if (!strcmp(got, lucene_trees[i].tree)) continue;
        fprintf(stderr, "%s\n   got      %s\n   expected %s\n", lucene_trees[i].query, got,
                lucene_trees[i].tree);
        bad++;
    }
    CHECK(!bad);
    schema_unref(s);
}

static const struct row errors[] = {
    {"", "0: the query is empty"},
    {"   ", "0: the query is empty"},
    {"AND", "1: expected a word"},
    {"AND a", "1: expected a word"},
    {"a AND", "6: expected a word"},
    {"a OR", "5: expected a word"},
    {"a AND OR b", "7: expected a word"},
    {"a NOT", "6: expected a word"},
    {"a NOT NOT b", "7: expected a word"},
    {"+-a", "2: expected a word"},
    {"+", "2: expected a word"},
    {"()", "2: expected a word"},
    {"(a", "1: expected a \")\""},
    {"a (b (c)", "3: expected a \")\""},
    {"a)", "2: expected a word"},
    {")", "1: expected a word"},
    {"\"a b", "1: expected a closing quote"},
    {"a \"b", "3: expected a closing quote"},
    {"title:", "7: expected a value"},
    {"title: AND x", "8: expected"},
    {"tag:b tag:c:d", "12: expected no \":\" here"},
    {"title:b:c", "8: expected no \":\" here"},
    {"w>2024-01-01T12:00:00Z", "16: expected no \":\" here"},
    {":a", "1: expected no \":\" here"},
    {"*:a", "3: expected *"},
    {"a^", "3: expected a number"},
    {"a^x", "3: expected a number"},
    {"a^-1", "3: expected a number"},
    {"a^1.5^2", "6: expected a word"},
    {"a^9999999999999999999", "3: expected a boost"},
    {"\"a b\"~", "7: expected a number"},
    {"(a b)~2", "6: expected \"~\""},
    {"(a b)@", "7: expected a number"},
    {"(a b)@1.5", "7: expected a whole"},
    {"n:[1 TO", "6: expected TO"},
    {"n:[1 5]", "6: expected TO"},
    {"n:[1 TO 5", "10: expected ]"},
    {"n:[ TO 5]", "8: expected TO"},
    {"n:[]", "4: expected a value"},
    {"n:[\"1 TO 5]", "4: expected a closing quote"},
    {"n<", "3: expected a value"},
    {"n<=", "4: expected a value"},
    {"n< OR a", "4: expected a value to compare with"},
    {"tag>=AND", "6: expected a value to compare with"},
    {"<5", "1: expected a word"},
    {"a\\", "2: expected a character"},
    {"tag:\\u12", "5: expected four hex"},
    {"tag:\\ud800x", "5: expected four hex"},
    {"/ab", "1: expected a closing \"/\""},
    {"\xc3\xa9\xc3\xa9 ^", "5: expected a number"},
    {"\xe3\x81\x82 (", "4: expected a word"},
    {"a\xff", "2: the query string is not valid UTF-8"},
    {"_exists_:", "10: expected a field"},
    /* against the schema */
    {"nope:x", "1: no index on field \"nope\"; indexed fields: author.born, author.name, b, body, d, dot, "
               "id, my field, n, tag, ..."},
    {"a AND nope:x", "7: no index on field \"nope\""},
    {"http://x", "1: no index on field \"http\""},
    {"_exists_:nope", "1: no index on field \"nope\""},
    {"n:abc", "1: field \"n\" is long: expected a finite number, not \"abc\""},
    {"a n:1x", "3: field \"n\" is long"},
    {"n:[a TO 5]", "1: field \"n\" is long"},
    {"n:1*", "1: field \"n\" is long: expected a finite number; wildcards need"},
    {"d:1e999", "1: field \"d\" is double"},
    {"d:inf", "1: field \"d\" is double"},
    {"d:0x10", "1: field \"d\" is double"},
    {"b:yes", "1: field \"b\" is boolean: expected true or false"},
    {"w:yesterday", "1: field \"w\" is datetime: expected a date-time"},
    {"v:x", "1: field \"v\" is a vector"},
    {"v:[1 TO 2]", "1: field \"v\" is a vector"},
    {"author:x", "1: field \"author\" is an object"},
    {"roam~1.5", "5: expected a whole number of edits"},
    {"roam~.", "6: expected a number"},
    {"wh*~", "4: expected \"~\""},
    {"[a TO b]~", "9: expected \"~\""},
    {"/ab/~1", "5: expected \"~\""},
    {"n:5~", "1: field \"n\" is long: expected a finite number; fuzzy words need a text or keyword field"},
    {"n:/5/", "1: field \"n\" is long: expected a finite number; regular expressions need"},
    {"w:/2024/", "1: field \"w\" is datetime"},
    {"b:true~1", "1: field \"b\" is boolean"},
    {"v:/a/", "1: field \"v\" is a vector"},
    {"nope:/a/", "1: no index on field \"nope\""},
    {"nope:x~", "1: no index on field \"nope\""},
    /* expressions: the column is inside */
    {"x /a[b/", "5: regular expression: expected a \"]\""},
    {"tag:/(a/", "6: regular expression: expected a \")\""},
    {"tag:/a)/", "7: regular expression: expected the end"},
    {"tag:/*a/", "6: regular expression: expected something to repeat"},
    {"tag:/+/", "6: regular expression: expected something to repeat"},
    {"tag:/a|/", "8: regular expression: expected a character"},
    {"tag:/|a/", "6: regular expression: expected a character"},
    {"tag:/a{/", "8: regular expression: expected a number"},
    {"tag:/a{x}/", "8: regular expression: expected a number"},
    {"tag:/a{2/", "9: regular expression: expected a \"}\""},
    {"tag:/a{3,2}/", "7: regular expression: expected the smaller"},
    {"tag:/a{1001}/", "8: regular expression: expected a number of repetitions up to 1000"},
    {"tag:/[b-a]/", "7: regular expression: expected a range"},
    {"tag:/[a-]/", "9: regular expression: expected the end of the range"},
    {"tag:/~/", "7: regular expression: expected a character"},
    {"tag:/&a/", "6: regular expression: expected a character"},
    {"tag:/a&&b/", "8: regular expression: expected a character"},
    {"tag:/a&/", "8: regular expression: expected a character"},
    {"tag:/a<1-9/", "7: regular expression: expected <n-m>"},
    {"tag:/<1>/", "6: regular expression: expected <n-m>"},
    {"tag:/<a-b>/", "6: regular expression: expected <n-m>"},
    {"tag:/<-9>/", "6: regular expression: expected <n-m>"},
    {"tag:/<1-/", "6: regular expression: expected <n-m>"},
    {"tag:/<1-1000000000000000000>/", "6: regular expression: expected numbers of at most 18"},
    {"tag:/~(.*a.{12})/", "6: regular expression: the expression is too complex"},
    {"tag:/\"ab/", "6: regular expression: expected a closing quote"},
    {"tag:/(a{999}){999}/", "6: regular expression: the expression is too large"},
    {"tag:/a*******************/", "17: regular expression: there are more than 10"},
    {"\xc3\xa9 tag:/\xc3\xa9(/", "10: regular expression: expected a character"},
};

TEST(error_table) {
    CHECK(!run(errors, ARRAY_SIZE(errors), "body", schema_json));
}

/* Without a default field: all text fields, each once, with the special analyzer where there are several. */
TEST(bare_terms) {
    static const struct row two_fields[] = {
        {"whales", "body:whales title:whale"},
        {"whales ships", "(body:whales title:whale) (body:ships title:ship)"},
        {"+whales -ships", "+(body:whales title:whale) -(body:ships title:ship)"},
        {"the", "body:the"},
        {"wi-fi", "(body:wi body:fi) (title:wi title:fi)"},
        {"\"the whale\"", "body:\"the whale\" title:whale"},
        {"wh*", "body:wh* title:wh*"},
        {"[a TO b]", "body:[a TO b] title:[a TO b]"},
        {"whales~1", "body:whales~1 title:whales~1"},
        {"/wh.le/", "body:/wh.le/ title:/wh.le/"},
        {"whales^2", "(body:whales title:whale)^2"},
        {"*", "*:*"},
        {"tag:x whales", "tag:x (body:whales title:whale)"},
    };
    static const struct row keywords_only[] = {
        {"Red", "id:Red tag:Red"},
        {"\"Red Hat\"", "id:Red Hat tag:Red Hat"},
        {"r*", "id:r* tag:r*"},
    };
    static const struct row both_analyzers[] = {
        {"whales", "t:whale"},
        {"t:Whales", "t:whale"},
        {"t:the", "<nothing>"},
        {"t.standard:Whales t.english:Whales", "t:whales t:whale"},
        {"t.standard:\"the whales\" t.english:wh*", "t:\"the whales\" t:wh*"},
        {"t.japanese:x", "1: no index on field"},
        {"t.:x", "1: no index on field"},
        {"t.standard.english:x", "1: no index on field"},
    };
    CHECK(!run(two_fields, ARRAY_SIZE(two_fields), NULL, schema_json));
    CHECK(!run(keywords_only, ARRAY_SIZE(keywords_only), NULL,
               "{\"indexConfigs\":{\"tag\":{\"type\":\"keyword\"}}}"));
    CHECK(!run(both_analyzers, ARRAY_SIZE(both_analyzers), NULL,
               "{\"indexConfigs\":{\"t\":{\"type\":\"text\",\"analyzers\":[\"standard\",\"english\"]}}}"));
}

TEST(limits) {
    struct schema *s = test_schema(schema_json);
    struct buf b = BUF_INIT;
    for (int i = 0; i < QUERY_MAX_CLAUSES; i++) buf_printf(&b, "w%d ", i);
    CHECK(!strncmp(compiled_text(buf_str(&b), "body", s), "body:w0 body:w1 ", 16));
    buf_adds(&b, "more");
    CHECK(strstr(compiled_text(buf_str(&b), "body", s), "more than 4096 clauses"));
    buf_clear(&b);
    buf_addc(&b, '"');
    for (int i = 0; i < 5000; i++) buf_printf(&b, "w%d ", i);
    buf_addc(&b, '"');
    CHECK(strstr(compiled_text(buf_str(&b), "body", s), "more than 4096"));
    for (int depth = 99; depth <= 100000; depth += depth == 99 ? 1 : depth == 100 ? 1 : 99899) {
        buf_clear(&b);
        for (int i = 0; i < depth; i++) buf_addc(&b, '(');
        buf_addc(&b, 'a');
        for (int i = 0; i < depth; i++) buf_addc(&b, ')');
        const char *got = compiled_text(buf_str(&b), "body", s);
        CHECK(depth <= 100 ? !strcmp(got, "body:a") : !strncmp(got, "101: groups are nested deeper", 29));
    }
    buf_clear(&b);
    for (int i = 0; i < 1200000; i++) buf_addc(&b, 'a');
    CHECK(strstr(compiled_text(buf_str(&b), "body", s), "longer than"));
    CHECK(strstr(compiled_text("((a b)^1000000000000 c)^1000000000000", "body", s), "1e18"));
    buf_release(&b);
    schema_unref(s);
}

TEST(statistics_slots) {
    struct schema *s = test_schema(schema_json);
    struct query *q = NULL;
    const char *text = "body:x title:x body:x body:\"x y x\" tag:x n:1 body:x*";
    CHECK_OK(query_compile_text(text, strlen(text), s, &q, &err));
    CHECK(q->n_field_slots == 3 && q->n_term_slots == 4);
    const struct query_clause *c = q->root->clauses;
    CHECK(q->root->n_clauses == 7);
    CHECK(c[0].node->terms[0].slot == c[2].node->terms[0].slot &&
          c[0].node->terms[0].slot != c[1].node->terms[0].slot);
    const struct query_node *phrase = c[3].node;
    CHECK(phrase->kind == QUERY_PHRASE && phrase->n_terms == 3 && phrase->terms[2].position == 2);
    CHECK(phrase->terms[0].slot == phrase->terms[2].slot &&
          phrase->terms[0].slot == c[0].node->terms[0].slot);
    for (uint32_t i = 0; i < q->n_term_slots; i++) CHECK(q->term_slots[i].field_slot < q->n_field_slots);
    CHECK(!strcmp(q->field_slots[c[1].node->field_slot].field, "title"));
    CHECK(q->field_slots[c[1].node->field_slot].analyzer == ANALYZER_ENGLISH);
    query_free(q);
    schema_unref(s);
}

/* Any bytes give a tree or an error with a column inside the text. */
TEST(random_text) {
    static const char *const pieces[] = {"a",        "b",
                                         " ",        "/[ab]+/",
                                         "c~1",      "AND",
                                         "OR",       "NOT",
                                         "&&",       "||",
                                         "+",        "-",
                                         "!",        "(",
                                         ")",        ":",
                                         "^",        "~",
                                         "[",        "]",
                                         "{",        "}",
                                         "\"",       "\\",
                                         "/",        "*",
                                         "?",        " TO ",
                                         "1",        "2.5",
                                         "title",    "n",
                                         "w",        "<",
                                         ">=",       "@",
                                         "\xc3\xa9", "\xe3\x80\x80",
                                         "_exists_", "tag",
                                         "u0041",    "."};
    struct schema *s = test_schema(schema_json);
    struct buf b = BUF_INIT;
    uint64_t x = 88172645463325252ull;
    int good = 0;
    for (int i = 0; i < 20000; i++) {
        buf_clear(&b);
        for (int n = (int)(x % 12) + 1; n > 0; n--) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            buf_adds(&b, pieces[x % ARRAY_SIZE(pieces)]);
        }
        struct query *q = NULL;
        err_clear(&err);
        int r = query_compile_text(buf_str(&b), b.len, s, &q, &err);
        CHECK(r ? r == -ERR_INVALID && err.text[0] && err.column >= 1 && err.column <= b.len + 1 : q != NULL);
        good += !r;
        query_free(q);
    }
    CHECK(good > 500);
    buf_release(&b);
    schema_unref(s);
}
