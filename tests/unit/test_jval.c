/* The JSON parser: grammar, limits, numbers against strtod, mutated documents against jansson. */
#include "test.h"
#include "util/jval.h"

#include <jansson.h>
#include <math.h>
#include <time.h>

static struct arena arena;
static struct err err;

static uint64_t rng_state = 88172645463325252ull;
static uint32_t rnd(uint32_t n) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 32) % n;
}

/* Parses an exact-size heap copy, so that the sanitizer sees any read past the end. The copy is kept
 * (borrowed by the tree) until the next call. */
static struct jval *parse_len(const char *s, size_t len) {
    static char *copy;
    free(copy);
    copy = malloc(len ? len : 1);
    if (len) memcpy(copy, s, len);
    arena_reset(&arena);
    err_clear(&err);
    struct jval *v = NULL;
    int r = jval_parse(&arena, copy, len, &v, &err);
    return r ? NULL : v;
}
static struct jval *parse(const char *s) {
    return parse_len(s, strlen(s));
}

static bool bad_at(const char *s, uint32_t line, uint32_t column) {
    if (parse(s) || err.code != ERR_JSON) return false;
    if (err.line == line && err.column == column) return true;
    fprintf(stderr, "%s: %u:%u %s\n", s, err.line, err.column, err.text);
    return false;
}

static bool is_string(const struct jval *v, const char *s, size_t len) {
    return v && v->type == JVAL_STRING && v->count == len && !memcmp(v->str, s, len);
}

TEST(document) {
    struct jval *v = parse(" {\"a\" : [1, -2.5,\"x\\ny\", true,false,null], \"b\":{ }, \"\":[]}\n");
    CHECK(v && v->type == JVAL_OBJECT && v->count == 3 && !v->key);
    struct jval *a = jval_get(v, "a", 1);
    CHECK(a && a->type == JVAL_ARRAY && a->count == 6 && a->key_len == 1);
    CHECK(a->raw_len == 33 && !memcmp(a->raw, "[1, -2.5,\"x\\ny\", true,false,null]", 33));
    struct jval *e = a->first;
    CHECK(e->is_int && e->i64 == 1 && !e->key && e->raw_len == 1);
    e = e->next;
    CHECK(!e->is_int && e->f64 == -2.5 && e->raw_len == 4);
    e = e->next;
    CHECK(is_string(e, "x\ny", 3) && e->raw_len == 6 && e->raw[0] == '"');
    e = e->next;
    CHECK(e->type == JVAL_TRUE && e->raw_len == 4);
    e = e->next;
    CHECK(e->type == JVAL_FALSE && e->raw_len == 5);
    e = e->next;
    CHECK(e->type == JVAL_NULL && e->raw_len == 4 && !e->next);
    struct jval *b = jval_get(v, "b", 1);
    CHECK(b && b->type == JVAL_OBJECT && b->count == 0 && b->raw_len == 3);
    CHECK(jval_get(v, "", 0)->type == JVAL_ARRAY);
    CHECK(!jval_get(v, "c", 1) && !jval_get(a, "a", 1));
    CHECK(v->raw[0] == '{' && v->raw[v->raw_len - 1] == '}');
}

TEST(scalars_and_space) {
    CHECK(parse("7")->i64 == 7 && parse(" \t\r\n null ")->type == JVAL_NULL);
    CHECK(is_string(parse("\"\""), "", 0));
    CHECK(bad_at("", 1, 1) && bad_at("  ", 1, 3) && bad_at("nul", 1, 1) && bad_at("True", 1, 1));
    CHECK(bad_at("1 2", 1, 3) && bad_at("{} x", 1, 4) && bad_at("\xef\xbb\xbf{}", 1, 1) &&
          bad_at("\v1", 1, 1));
    CHECK(bad_at("NaN", 1, 1) && bad_at("Infinity", 1, 1) && bad_at("-Infinity", 1, 2) &&
          bad_at("'a'", 1, 1));
    CHECK(!parse_len("1\0", 2) && !parse_len("\0", 1));
}

TEST(structure_errors) {
    CHECK(bad_at("[1,]", 1, 4) && bad_at("[,1]", 1, 2) && bad_at("[1", 1, 3) && bad_at("[", 1, 2));
    CHECK(bad_at("[1}", 1, 3) && bad_at("{\"a\":1]", 1, 7) && bad_at("]", 1, 1) && bad_at("[1 2]", 1, 4));
    CHECK(bad_at("{\"a\":1,}", 1, 8) && bad_at("{\"a\"}", 1, 5) && bad_at("{\"a\":}", 1, 6) &&
          bad_at("{a:1}", 1, 2));
    CHECK(bad_at("{,}", 1, 2) && bad_at("{\"a\":1", 1, 7) && bad_at("{\"a\" 1}", 1, 6) &&
          bad_at("{1:2}", 1, 2));
    CHECK(bad_at("{\n \"\xc3\xa9\" : x}", 2, 8));
    CHECK(bad_at("[\"abc", 1, 2) && bad_at("\"a\\", 1, 1) && bad_at("\"a\\\"", 1, 1));
}

TEST(escapes) {
    CHECK(is_string(parse("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), "\"\\/\b\f\n\r\t", 8));
    CHECK(is_string(parse("\"a\\u0000b\""), "a\0b", 3));
    CHECK(is_string(parse("\"\\u00e9\\u20AC\\ud83d\\ude00.\""), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80.", 10));
    CHECK(is_string(parse("\"\\uDBFF\\uDFFF\""), "\xf4\x8f\xbf\xbf", 4));
    CHECK(bad_at("\"\\x\"", 1, 2) && bad_at("\"\\u12\"", 1, 2) && bad_at("\"\\u12g4\"", 1, 2) &&
          bad_at("\"\\ud800\"", 1, 2));
    CHECK(bad_at("\"\\udc00\"", 1, 2) && bad_at("\"\\ud800\\u0041\"", 1, 2) &&
          bad_at("\"\\ud800\\ud800\"", 1, 2));
    CHECK(bad_at("\"a\nb\"", 1, 3) && bad_at("\"\t\"", 1, 2) && bad_at("\"\\\n\"", 1, 2));
    CHECK(!parse_len("\"a\0b\"", 5) && parse("\"\x7f\""));
    CHECK(bad_at("\"\\\xc3\xa9\"", 1, 2));
}

TEST(keys_are_decoded) {
    struct jval *v = parse("{\"\\u0061b\":1,\"a\\u0000\":2}");
    CHECK(v && jval_get(v, "ab", 2)->i64 == 1 && jval_get(v, "a\0", 2)->i64 == 2 && !jval_get(v, "a", 1));
    CHECK(bad_at("{\"a\":1,\"\\u0061\":2}", 1, 8));
    CHECK(strstr(err.text, "\"a\" stands twice"));
    CHECK(parse("{\"a\":{\"a\":{\"a\":1}},\"b\":[{\"a\":1},{\"a\":2}]}"));
}

/* The position of every offset in a vector register, and each interesting byte there. */
TEST(string_positions) {
    char s[80];
    for (size_t len = 0; len < 70; len++)
        for (size_t at = 0; at < len; at++)
            for (int what = 0; what < 4; what++) {
                memset(s, 'a', len + 2);
                s[0] = s[len + 1] = '"';
                s[1 + at] = "\x01\\\xff\""[what];
                if (what == 1 && at + 1 < len) s[2 + at] = '\\';
                struct jval *v = parse_len(s, len + 2);
                CHECK(what == 1 && at + 1 < len ? v && v->count == len - 1 : !v);
            }
}

TEST(depth) {
    char s[2 * JVAL_MAX_DEPTH + 8];
    memset(s, '[', JVAL_MAX_DEPTH + 1);
    memset(s + JVAL_MAX_DEPTH + 1, ']', JVAL_MAX_DEPTH + 1);
    CHECK(parse_len(s + 1, 2 * JVAL_MAX_DEPTH));
    CHECK(!parse_len(s, 2 * JVAL_MAX_DEPTH + 2) && strstr(err.text, "nesting"));
    size_t n = 100000;
    char *many = malloc(n);
    memset(many, '[', n);
    CHECK(!parse_len(many, n) && err.column == JVAL_MAX_DEPTH + 1);
    free(many);
}

static void add_members(struct buf *b, int n, int extra) {
    buf_clear(b);
    for (int i = 0; i < n; i++) buf_printf(b, "%c\"k%d\":{\"k0\":%d}", i ? ',' : '{', i, i);
    if (extra >= 0) buf_printf(b, ",\"k%d\":0", extra);
    buf_addc(b, '}');
}

TEST(duplicates) {
    struct buf b = BUF_INIT;
    static const int sizes[] = {1, 2, 15, 16, 17, 18, 31, 32, 33, 64, 127, 128, 129, 300};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        int n = sizes[i];
        add_members(&b, n, -1);
        struct jval *v = parse_len((char *)b.data, b.len);
        CHECK(v && v->count == (uint32_t)n);
        for (int k = 0; k<n; k += n> 64 ? 7 : 1) {
            add_members(&b, n, k);
            CHECK(!parse_len((char *)b.data, b.len) && strstr(err.text, "twice"));
        }
    }
    add_members(&b, 200000, -1); /* quadratic would take minutes */
    CHECK(parse_len((char *)b.data, b.len)->count == 200000);
    add_members(&b, 200000, 77);
    CHECK(!parse_len((char *)b.data, b.len));
    buf_release(&b);
}

TEST(integers) {
    static const struct {
        const char *text;
        int64_t value;
    } ok[] = {{"0", 0},
              {"-0", 0},
              {"9", 9},
              {"-1", -1},
              {"1234567890123456789", 1234567890123456789},
              {"9223372036854775807", INT64_MAX},
              {"-9223372036854775808", INT64_MIN},
              {"9007199254740993", 9007199254740993}};
    for (size_t i = 0; i < ARRAY_SIZE(ok); i++) {
        struct jval *v = parse(ok[i].text);
        CHECK(v && v->is_int && v->i64 == ok[i].value);
    }
    struct jval *v = parse("9223372036854775808");
    CHECK(v && !v->is_int && v->f64 == 9223372036854775808.0 && jval_number(v) == v->f64);
    v = parse("-9223372036854775809");
    CHECK(v && !v->is_int && v->f64 == -9223372036854775808.0);
    v = parse("99999999999999999999");
    CHECK(v && !v->is_int && v->f64 == 1e20);
    v = parse("1.0");
    CHECK(v && !v->is_int && v->f64 == 1);
    v = parse("1e2");
    CHECK(v && !v->is_int && v->f64 == 100);
    CHECK(jval_number(parse("5")) == 5);
    CHECK(bad_at("01", 1, 1) && bad_at("-", 1, 2) && bad_at("-01", 1, 1) && bad_at("1.", 1, 3) &&
          bad_at("1.e1", 1, 3));
    CHECK(bad_at(".5", 1, 1) && bad_at("+1", 1, 1) && bad_at("1e", 1, 3) && bad_at("1e+", 1, 4) &&
          bad_at("0x10", 1, 2));
    CHECK(bad_at("1e400", 1, 1) && bad_at("-1e309", 1, 1) && bad_at("[1e99999999999999999999]", 1, 2));
    CHECK(parse("1e-400")->f64 == 0 && parse("0e99999999999")->f64 == 0 && parse("0.0e-5")->f64 == 0);
    CHECK(signbit(parse("-0.0")->f64) && parse("5e-324")->f64 == 5e-324);
    CHECK(parse("1.7976931348623157e308")->f64 == 1.7976931348623157e308);
}

static bool same_double(const char *s) {
    struct jval *v = parse(s);
    double want = strtod(s, NULL), got = v ? jval_number(v) : 0;
    if (v && !memcmp(&want, &got, sizeof want)) return true;
    if (v && v->is_int && want == got) return true;
    if (!v && isinf(want)) return true;
    fprintf(stderr, "%s: %.17g, not %.17g\n", s, got, want);
    return false;
}

TEST(doubles_are_rounded_as_strtod_does) {
    static const char *const hard[] = {"9007199254740993.0",
                                       "9007199254740992.5",
                                       "9007199254740993e0",
                                       "0.1",
                                       "0.3",
                                       "2.2250738585072011e-308",
                                       "1e23",
                                       "8.5e22",
                                       "1e22",
                                       "9999999999999999999e-27",
                                       "9999999999999999999e27",
                                       "1e27",
                                       "1e-27",
                                       "18014398509481985e0",
                                       "36028797018963966e0",
                                       "36028797018963970e0",
                                       "7450580596923828125e-27",
                                       "1152921504606846977e1",
                                       "0.000000000000000000000000001",
                                       "4503599627370497.5",
                                       "4503599627370496.5",
                                       "123456789012345678901234567890",
                                       "0.12345678901234567890123",
                                       "1.00000000000000000000000000000000000001"};
    for (size_t i = 0; i < ARRAY_SIZE(hard); i++) CHECK(same_double(hard[i]));
    char s[128];
    for (int i = 0; i < 100000; i++) {
        uint64_t m = (uint64_t)rnd(UINT32_MAX) << 32 | rnd(UINT32_MAX);
        m >>= rnd(64);
        double d;
        float f;
        switch (rnd(5)) {
        case 0:
            snprintf(s, sizeof s, "%llue%d", (unsigned long long)m, (int)rnd(60) - 30);
            break;
        case 1:
            memcpy(&d, &m, sizeof d);
            if (!isfinite(d)) continue;
            snprintf(s, sizeof s, "%.17g", d);
            break;
        case 2: /* an embedding, as Python prints it */
            f = (float)((double)rnd(2000000) / 1e6 - 1) * (float)rnd(1000) / 977.0f;
            snprintf(s, sizeof s, "%.*g", 16 + (int)rnd(2), (double)f);
            break;
        case 3: /* just about half-way between two doubles */
            d = (double)(m >> 11) * 2 + 1;
            snprintf(s, sizeof s, "%.1f", d * 1024 + (double)rnd(3) - 1);
            break;
        default:
            snprintf(s, sizeof s, "%u.%0*llu", rnd(1000), 1 + (int)(rnd(17) & 31),
                     (unsigned long long)(m % 100000000000000000ull));
        }
        CHECK(same_double(s));
    }
}

TEST(utf8) {
    CHECK(!utf8_invalid("", 0) && !utf8_invalid("abc\xc2\x80", 5) &&
          !utf8_invalid("\xef\xbf\xbf\xf0\x90\x80\x80", 7));
    CHECK(!utf8_invalid("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\xe0\xa0\x80", 13) &&
          !utf8_invalid("a\0b", 3));
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xc3(",
                                      "\xe2\x82("};
    char s[64];
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        for (size_t at = 0; at < 40; at++) {
            memset(s, 'a', sizeof s);
            memcpy(s + at, bad[i], strlen(bad[i]));
            CHECK(utf8_invalid(s, sizeof s) == at + 1);
            CHECK(utf8_invalid(s, at + strlen(bad[i])) == at + 1);
        }
    CHECK(bad_at("\"\xc3\xa9\xff\"", 1, 3) && bad_at("{\"\xff\":1}", 1, 3));
    CHECK(is_string(parse("\"\xe6\x97\xa5\xe6\x9c\xac\""), "\xe6\x97\xa5\xe6\x9c\xac", 6));
}

/* ---- against jansson ---- */

static bool same(const struct jval *v, const json_t *j) {
    switch (v->type) {
    case JVAL_NULL:
        return json_is_null(j);
    case JVAL_FALSE:
        return json_is_false(j);
    case JVAL_TRUE:
        return json_is_true(j);
    case JVAL_NUMBER:
        return v->is_int ? json_is_integer(j) && json_integer_value(j) == v->i64
                         : json_is_real(j) && json_real_value(j) == v->f64;
    case JVAL_STRING:
        return json_is_string(j) && json_string_length(j) == v->count &&
               !memcmp(json_string_value(j), v->str, v->count);
    case JVAL_ARRAY: {
        if (!json_is_array(j) || json_array_size(j) != v->count) return false;
        size_t i = 0;
        for (struct jval *e = v->first; e; e = e->next)
            if (!same(e, json_array_get(j, i++))) return false;
        return i == v->count;
    }
    default: {
        if (!json_is_object(j) || json_object_size(j) != v->count) return false;
        uint32_t n = 0;
        for (struct jval *m = v->first; m; m = m->next, n++) {
            char *key = strndup(m->key, m->key_len);
            json_t *other = json_object_get(j, key);
            free(key);
            if (!other || !same(m, other)) return false;
        }
        return n == v->count;
    }
    }
}

TEST(mutations_against_jansson) {
    static const char *const seeds[] = {
        "{\"id\":\"d1\",\"title\":\"Hello, \\u00e9t\xc3\xa9 "
        "\\ud83d\\ude00\",\"n\":[1,-2,3.25,1e3,0],\"o\":{\"a\":null,\"b\":true}}",
        "[[],{},[{}],\"\\\\\\\"\",0.1,-0,12345678901,{\"k\":{\"k\":[false]}}]",
        "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,\"k\":11,\"l\":12,"
        "\"m\":13,\"n\":14,\"o\":15,\"p\":16,\"q\":17,\"r\":18}",
        "  { \"x\" : [ 1 , 2 ] ,\n\"text\":\"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e plain text long enough for "
        "a register or two\"} "};
    static const char alphabet[] = "{}[],:\"\\0123456789eE+-.truefalsnx \n\t\x01\x80\xc3\xe6\xed\xa0\xff/bu";
    char s[512];
    int accepted = 0;
    for (int i = 0; i < 25000; i++) {
        size_t len = strlen(strcpy(s, seeds[rnd(ARRAY_SIZE(seeds))]));
        for (uint32_t k = rnd(4); k > 0 && len > 0; k--) {
            size_t at = rnd((uint32_t)len);
            switch (rnd(4)) {
            case 0:
                s[at] = alphabet[rnd(sizeof alphabet - 1)];
                break;
            case 1:
                memmove(s + at, s + at + 1, len-- - at);
                break;
            case 2:
                memmove(s + at + 1, s + at, ++len - at);
                s[at] = alphabet[rnd(sizeof alphabet - 1)];
                break;
            default:
                len = at ? at : 1;
                s[len] = 0;
            }
        }
        json_error_t je;
        json_t *j = json_loadb(s, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
        struct jval *v = parse_len(s, len);
        bool differs = v ? j && !same(v, j) : j != NULL;
        /* jansson refuses integers beyond 64 bits, which are doubles here, and NUL in keys. */
        if (v && !j) differs = !strstr(je.text, "too big") && !strstr(je.text, "NUL byte in object key");
        if (differs) fprintf(stderr, "%s\n%s | %s\n", s, v ? "accepted" : err.text, j ? "accepted" : je.text);
        json_decref(j);
        accepted += v != NULL;
        CHECK(!differs);
    }
    CHECK(accepted > 1000);
}

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Not a check: shows the speed when asked for by name ("test_jval speed"). */
static void show_speed(const char *what, const struct buf *b, int rounds) {
    double best = 1e9;
    for (int i = 0; i < rounds; i++) {
        struct jval *v;
        arena_reset(&arena);
        double t = now();
        if (jval_parse(&arena, (char *)b->data, b->len, &v, &err)) printf("%s\n", err.text);
        t = now() - t;
        best = MIN(best, t);
    }
    printf("%-12s %7.0f MB/s\n", what, (double)b->len / best / 1e6);
}

TEST(speed) {
    if (!getenv("JVAL_SPEED")) return;
    struct buf b = BUF_INIT;
    buf_adds(&b, "{\"id\":\"pkg-000123\",\"Package\":\"libexample-dev\",\"Version\":\"1.2.3-4\",\"Section\":"
                 "\"libs\",\"Installed-Size\":1234,"
                 "\"Maintainer\":\"Some Body "
                 "<some.body@example.org>\",\"Homepage\":\"https://example.org/project\",\"Description\":\"");
    for (int i = 0; i < 12; i++)
        buf_adds(&b, "A library that does what libraries do, with a long text. \\n ");
    buf_adds(&b, "\",\"tags\":[\"a\",\"b\",\"devel\"],\"score\":12.375,\"ok\":true}");
    show_speed("document", &b, 20000);
    buf_clear(&b);
    buf_adds(&b, "{\"id\":\"1\",\"n\":12,\"s\":\"short\",\"t\":\"value\",\"price\":9.99,\"year\":1999,"
                 "\"flag\":false,\"c\":\"red\"}");
    show_speed("small", &b, 50000);
    buf_clear(&b);
    buf_adds(&b, "{\"v\":[");
    for (int i = 0; i < 768; i++)
        buf_printf(&b, "%s%.17g", i ? "," : "", (double)((float)rnd(1000000) / 1e6f - 0.5f));
    buf_adds(&b, "]}");
    show_speed("vector f64", &b, 2000);
    buf_clear(&b);
    buf_adds(&b, "{\"v\":[");
    for (int i = 0; i < 768; i++)
        buf_printf(&b, "%s%.7f", i ? "," : "", (double)((float)rnd(1000000) / 1e6f - 0.5f));
    buf_adds(&b, "]}");
    show_speed("vector 7", &b, 2000);
    buf_clear(&b);
    buf_adds(&b, "{\"t\":\"");
    for (int i = 0; i < 200; i++) buf_adds(&b, "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e");
    buf_adds(&b, "\"}");
    show_speed("japanese", &b, 5000);
    buf_release(&b);
}
