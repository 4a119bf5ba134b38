/* Requests: the SPEC of a mount's query name, and the API's JSON body. */
#include "query/query_internal.h"
#include <ctype.h>
#include <stdio.h>

enum { DEFAULT_SIZE = 10, DEFAULT_TIMEOUT_MS = 30000, DEFAULT_FACET_SIZE = 10, MAX_FACET_SIZE = 10000 };

void query_request_init(struct query_request *q) {
    *q = (struct query_request){.size = DEFAULT_SIZE,
                                .consistent = true,
                                .timeout_ms = DEFAULT_TIMEOUT_MS,
                                .facet_size = DEFAULT_FACET_SIZE};
}

void query_request_release(struct query_request *q) {
    free(q->text);
    free(q->json);
    free(q->default_field);
    free(q->sort);
    free(q->include);
    free(q->exclude);
    free(q->near_id);
    free(q->near_field);
    free(q->near_text);
    free(q->facets);
    free(q->partitions);
    free(q->partition_field);
    query_request_init(q);
    q->text = q->json = q->default_field = q->sort = q->include = q->exclude = q->near_id = q->near_text =
        q->near_field = q->facets = q->partitions = q->partition_field = NULL;
}

/* ---- lists ---- */

bool list_next(const char **p, struct buf *out, size_t *colon, bool map_dots) {
    const char *s = *p;
    if (!s) return false;
    buf_clear(out);
    *colon = SIZE_MAX;
    for (; *s && *s != ','; s++) {
        bool escaped = *s == '\\' && s[1];
        s += escaped;
        if (*s == ':' && !escaped) *colon = out->len;
        buf_addc(out, map_dots && escaped && *s == '.' ? (char)PATH_LITERAL_DOT : *s);
    }
    *p = *s ? s + 1 : NULL;
    buf_str(out);
    return true;
}

void list_add_escaped(struct buf *out, const char *item, size_t len) {
    if (out->len) buf_addc(out, ',');
    for (size_t i = 0; i < len; i++) {
        bool dot = item[i] == (char)PATH_LITERAL_DOT;
        if (dot || (item[i] && strchr(",:\\", item[i]))) buf_addc(out, '\\');
        buf_addc(out, dot ? '.' : item[i]);
    }
}

static char *take_string(struct buf *b) {
    buf_str(b);
    char *s = b->len ? xstrndup((char *)b->data, b->len) : NULL;
    buf_release(b);
    return s;
}

/* "a,b.c,-d" into the two lists. */
static void split_fields(const char *value, struct query_request *q) {
    struct buf item = BUF_INIT, include = BUF_INIT, exclude = BUF_INIT;
    size_t colon;
    while (value) {
        bool minus = *value == '-';
        value += minus;
        list_next(&value, &item, &colon, true);
        if (item.len) list_add_escaped(minus ? &exclude : &include, (char *)item.data, item.len);
    }
    buf_release(&item);
    q->include = take_string(&include);
    q->exclude = take_string(&exclude);
}

/* ---- values of options ---- */

static bool parse_u32(const char *s, uint32_t max, uint32_t *ret) {
    uint64_t v = 0;
    if (!*s || strlen(s) > 9) return false;
    for (; *s; s++) {
        if (!isdigit((unsigned char)*s)) return false;
        v = v * 10 + (uint64_t)(*s - '0');
    }
    if (v > max) return false;
    *ret = (uint32_t)v;
    return true;
}

static bool parse_bool(const char *s, bool *ret) {
    *ret = !strcmp(s, "true") || !strcmp(s, "1");
    return *ret || !strcmp(s, "false") || !strcmp(s, "0");
}

static bool parse_format(const char *s, enum answer_format *ret) {
    static const char *const names[] = {
        [FORMAT_JSONL] = "jsonl", [FORMAT_JSON] = "json",   [FORMAT_IDS] = "ids",    [FORMAT_TSV] = "tsv",
        [FORMAT_CSV] = "csv",     [FORMAT_TABLE] = "table", [FORMAT_COUNT] = "count"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(s, names[i])) return *ret = (enum answer_format)i, true;
    return false;
}

static bool parse_fusion(const char *s, enum fusion *ret) {
    static const char *const names[] = {[FUSE_RRF] = "rrf", [FUSE_MM] = "mm", [FUSE_L2] = "l2"};
    for (unsigned i = FUSE_RRF; i < ARRAY_SIZE(names); i++)
        if (!strcmp(s, names[i])) return *ret = (enum fusion)i, true;
    return false;
}

/* 500, 500ms, 5s, 1m */
static bool parse_timeout(const char *s, uint32_t *ret) {
    char digits[16];
    size_t n = strspn(s, "0123456789");
    uint32_t v, unit = 1;
    if (!n || n >= sizeof digits) return false;
    memcpy(digits, s, n);
    digits[n] = '\0';
    if (!strcmp(s + n, "s"))
        unit = 1000;
    else if (!strcmp(s + n, "m"))
        unit = 60000;
    else if (s[n] && strcmp(s + n, "ms"))
        return false;
    if (!parse_u32(digits, REQUEST_MAX_TIMEOUT_MS / unit, &v) || !v) return false;
    *ret = v * unit;
    return true;
}

/* ---- SPEC ---- */

struct spec {
    const char *text;
    size_t len;
    struct query_request *q;
    unsigned seen; /* options given, bit = place in the table */
    struct err *err;
};

static int spec_error(struct spec *s, size_t offset, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int spec_error(struct spec *s, size_t offset, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_at(s->err, ERR_INVALID, 1, lucene_column(s->text, offset), "%s", text);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX once; a % without two hex digits is itself. The result is text: UTF-8 without NUL. */
static int decode(struct spec *s, size_t from, size_t to, char **ret) {
    struct buf b = BUF_INIT;
    int r = 0;
    for (size_t i = from; i < to; i++) {
        bool hex = s->text[i] == '%' && to - i > 2 && hex_digit(s->text[i + 1]) >= 0 &&
                   hex_digit(s->text[i + 2]) >= 0;
        buf_addc(&b, hex ? (char)(hex_digit(s->text[i + 1]) << 4 | hex_digit(s->text[i + 2])) : s->text[i]);
        if (hex) i += 2;
    }
    buf_str(&b);
    if (b.len && memchr(b.data, '\0', b.len))
        r = spec_error(s, from, "a query cannot hold the character NUL");
    else if (utf8_invalid((char *)b.data, b.len))
        r = spec_error(s, from, "the query is not valid UTF-8");
    else
        *ret = xstrndup((char *)b.data, b.len);
    buf_release(&b);
    return r;
}

enum option {
    OPT_SIZE,
    OPT_FROM,
    OPT_SORT,
    OPT_FIELDS,
    OPT_CONSISTENT,
    OPT_VECTORS,
    OPT_FORMAT,
    OPT_NEAR,
    OPT_LIKE,
    OPT_FIELD,
    OPT_TIMEOUT,
    OPT_FACET,
    OPT_FACETS,
    OPT_EXPLAIN,
    OPT_PARTITION,
    OPT_FUSE,
    OPT_RECALL,
    OPT_WINDOW,
    OPT_COUNT
};
#define FORMATS "jsonl, json, ids, tsv, csv, table or count"
static const struct {
    const char *name, *expected;
} options[OPT_COUNT] = {
    [OPT_SIZE] = {"size", "a number from 0 to 10000"},
    [OPT_FROM] = {"from", "a number from 0 to 100000"},
    [OPT_SORT] = {"sort", "fields such as year:desc,title"},
    [OPT_FIELDS] = {"fields", "fields such as title,author.name or -text"},
    [OPT_CONSISTENT] = {"consistent", "true or false"},
    [OPT_VECTORS] = {"vectors", "true or false"},
    [OPT_FORMAT] = {"format", FORMATS},
    [OPT_NEAR] = {"near", "a document's id"},
    [OPT_LIKE] = {"like", "a text"},
    [OPT_FIELD] = {"field", "a field's name"},
    [OPT_TIMEOUT] = {"timeout", "a time up to 10 minutes such as 500ms or 5s"},
    [OPT_FACET] = {"facet", "fields such as section,priority"},
    [OPT_FACETS] = {"facets", "a number from 1 to 10000"},
    [OPT_EXPLAIN] = {"explain", "true or false"},
    [OPT_FUSE] = {"fuse", "rrf, mm or l2"},
    [OPT_RECALL] = {"recall", "a number from 0.5 to 1"},
    [OPT_WINDOW] = {"window", "a number from 1 to 10000"},
    [OPT_PARTITION] = {"partition", "values of the partition field such as a,b"},
};

static bool parse_recall(const char *s, float *ret) {
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end || strspn(s, "0123456789.") != strlen(s) || !(v >= KNN_MIN_RECALL && v <= 1))
        return false;
    *ret = (float)v;
    return true;
}

/* True when the value is good. Takes it. */
static bool set_option(struct query_request *q, enum option option, char *value) {
    bool ok = *value;
    switch (option) {
    case OPT_SIZE:
        ok = parse_u32(value, QUERY_MAX_SIZE, &q->size);
        break;
    case OPT_FROM:
        ok = parse_u32(value, REQUEST_MAX_WINDOW, &q->from);
        break;
    case OPT_CONSISTENT:
        ok = parse_bool(value, &q->consistent);
        break;
    case OPT_VECTORS:
        ok = parse_bool(value, &q->include_vectors);
        break;
    case OPT_FORMAT:
        ok = parse_format(value, &q->format);
        break;
    case OPT_TIMEOUT:
        ok = parse_timeout(value, &q->timeout_ms);
        break;
    case OPT_FIELDS:
        if (ok) split_fields(value, q);
        break;
    case OPT_SORT:
        q->sort = value;
        return ok;
    case OPT_NEAR:
        q->near_id = value;
        return ok;
    case OPT_LIKE:
        q->near_text = value;
        return value[strspn(value, " \t\r\n")];
    case OPT_FACET:
        q->facets = value;
        return ok;
    case OPT_FUSE:
        ok = parse_fusion(value, &q->fuse);
        break;
    case OPT_PARTITION:
        q->partitions = value;
        return ok;
    case OPT_FACETS:
        ok = parse_u32(value, MAX_FACET_SIZE, &q->facet_size) && q->facet_size;
        break;
    case OPT_WINDOW:
        ok = parse_u32(value, QUERY_MAX_SIZE, &q->window) && q->window;
        break;
    case OPT_RECALL:
        ok = parse_recall(value, &q->recall);
        break;
    case OPT_EXPLAIN:
        ok = parse_bool(value, &q->explain);
        break;
    case OPT_FIELD:
        q->near_field = value;
        return ok;
    default:
        break;
    }
    free(value);
    return ok;
}

static int unknown_option(struct spec *s, size_t from, size_t len) {
    char list[160] = "";
    for (unsigned i = 0; i < OPT_COUNT; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", options[i].name);
    }
    int shown = (int)MIN(len, (size_t)40);
    for (int i = 0; i < shown; i++)
        if (s->text[from + (size_t)i] & 0x80) shown = i;
    return spec_error(s, from, "unknown option \"%.*s\"; known: %s", shown, s->text + from, list);
}

static int parse_option(struct spec *s, size_t from, size_t to) {
    const char *eq = memchr(s->text + from, '=', to - from);
    size_t name_len = eq ? (size_t)(eq - s->text) - from : to - from;
    char *value;
    unsigned i = 0;
    while (i < OPT_COUNT &&
           (strlen(options[i].name) != name_len || memcmp(options[i].name, s->text + from, name_len)))
        i++;
    if (i == OPT_COUNT) return unknown_option(s, from, name_len);
    if (!eq) return spec_error(s, to, "option \"%s\": expected =%s", options[i].name, options[i].expected);
    if (s->seen & 1u << i) return spec_error(s, from, "option \"%s\" is given twice", options[i].name);
    s->seen |= 1u << i;
    int r = decode(s, from + name_len + 1, to, &value);
    if (r) return r;
    if (set_option(s->q, i, value)) return 0;
    return spec_error(s, from + name_len + 1, "option \"%s\": expected %s", options[i].name,
                      options[i].expected);
}

/* Where the options begin: the last '?' that [a-z]+= follows; len if there is none. */
static size_t find_options(const char *s, size_t len) {
    for (size_t i = len; i-- > 0;) {
        size_t j = i + 1;
        if (s[i] != '?') continue;
        while (j < len && s[j] >= 'a' && s[j] <= 'z') j++;
        if (j > i + 1 && j < len && s[j] == '=') return i;
    }
    return len;
}

/* Only a line or an object a hit has room for more than the document. */
static int check_request(const struct query_request *q, struct err *err) {
    const char *what = q->facets ? "facet" : q->explain ? "explain" : NULL;
    if (!what || q->format == FORMAT_JSONL || q->format == FORMAT_JSON) return 0;
    return err_set(err, ERR_INVALID, "%s: expected the format jsonl or json", what);
}

static int parse_options(struct spec *s, size_t at) {
    while (at < s->len) {
        const char *amp = memchr(s->text + at + 1, '&', s->len - at - 1);
        size_t end = amp ? (size_t)(amp - s->text) : s->len;
        int r = parse_option(s, at + 1, end);
        if (r) return r;
        at = end;
    }
    if (s->q->near_id && s->q->near_text)
        return err_set(s->err, ERR_INVALID, "expected near or like, not both");
    if (s->q->recall > 0 && !s->q->near_id && !s->q->near_text)
        return err_set(s->err, ERR_INVALID, "recall: expected near or like, which it is of");
    if (s->q->near_field && !s->q->near_id &&
        !s->q->near_text) { /* without near it is where bare words are looked up */
        s->q->default_field = s->q->near_field;
        s->q->near_field = NULL;
    }
    return check_request(s->q, s->err);
}

/* A brace that begins a JSON object, and not a range: a key or the end follows. */
static bool looks_like_json(const char *s, size_t len) {
    size_t i = 0;
    while (i < len && strchr(" \t\r\n", s[i]) && s[i]) i++;
    if (i == len || s[i++] != '{') return false;
    while (i < len && strchr(" \t\r\n", s[i]) && s[i]) i++;
    return i < len && (s[i] == '"' || s[i] == '}');
}

int query_request_parse_spec(const char *text, size_t len, struct query_request *ret, struct err *err) {
    struct query_request q;
    struct spec s = {.text = text, .len = len, .q = &q, .err = err};
    char *json = NULL;
    int r;
    if (len > 4 * QUERY_MAX_TEXT) return err_set(err, ERR_TOO_LARGE, "the query is too long");
    query_request_init(&q);
    if (looks_like_json(text, len)) {
        if ((r = decode(&s, 0, len, &json))) return r;
        r = query_request_parse_json(json, strlen(json), ret, err);
        free(json);
        return r;
    }
    size_t at = find_options(text, len);
    r = decode(&s, 0, at, &q.text);
    if (!r) r = parse_options(&s, at);
    if (r)
        query_request_release(&q);
    else
        *ret = q;
    return r;
}

/* ---- JSON body ---- */

static int expected(struct err *err, const char *path, const char *what) {
    return err_set(err, ERR_INVALID, "%s: expected %s", path, what);
}

static int json_u32(json_t *v, const char *path, uint32_t max, uint32_t *ret, struct err *err) {
    if (!v || json_is_null(v)) return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
        return err_set(err, ERR_INVALID, "%s: expected a number from 0 to %u", path, max);
    *ret = (uint32_t)json_integer_value(v);
    return 0;
}

static int json_flag(json_t *v, const char *path, bool *ret, struct err *err) {
    if (!v || json_is_null(v)) return 0;
    if (!json_is_boolean(v)) return expected(err, path, "true or false");
    *ret = json_is_true(v);
    return 0;
}

/* One {"field": "asc"} or "field". */
static int json_sort_item(json_t *item, struct buf *out, struct err *err) {
    static const char what[] = "[{\"field\": \"asc\" or \"desc\"}, ...]";
    if (json_is_string(item)) {
        list_add_escaped(out, json_string_value(item), json_string_length(item));
        return 0;
    }
    if (!json_is_object(item) || json_object_size(item) != 1) return expected(err, "sort", what);
    void *it = json_object_iter(item);
    const char *key = json_object_iter_key(it), *direction = json_string_value(json_object_iter_value(it));
    if (!direction || (strcmp(direction, "asc") && strcmp(direction, "desc")))
        return expected(err, "sort", what);
    list_add_escaped(out, key, strlen(key));
    buf_printf(out, ":%s", direction);
    return 0;
}

static int json_sort(json_t *list, struct query_request *q, struct err *err) {
    struct buf out = BUF_INIT;
    json_t *item;
    size_t i;
    int r = 0;
    if (!list || json_is_null(list)) return 0;
    if (!json_is_array(list)) r = json_sort_item(list, &out, err);
    json_array_foreach(list, i, item) if (!r) r = json_sort_item(item, &out, err);
    char *sort = take_string(&out);
    if (r)
        free(sort);
    else
        q->sort = sort;
    return r;
}

static int json_paths(json_t *list, const char *path, char **ret, struct err *err) {
    struct buf out = BUF_INIT;
    json_t *item;
    size_t i;
    int r = 0;
    if (!list || json_is_null(list)) return 0;
    if (!json_is_array(list)) return expected(err, path, "an array of paths");
    if (*ret) return err_set(err, ERR_INVALID, "%s: the same list is given by another name, too", path);
    json_array_foreach(list, i, item) {
        if (json_is_string(item) && json_string_length(item))
            list_add_escaped(&out, json_string_value(item), json_string_length(item));
        else
            r = expected(err, path, "an array of paths");
    }
    char *paths = take_string(&out);
    if (r)
        free(paths);
    else
        *ret = paths;
    return r;
}

static int json_fields(json_t *v, struct query_request *q, struct err *err) {
    const char *key;
    json_t *list;
    if (!v || json_is_null(v)) return 0;
    if (json_is_array(v)) return json_paths(v, "fields", &q->include, err);
    static const char what[] = "{\"include\": [...], \"exclude\": [...]}";
    if (!json_is_object(v)) return expected(err, "fields", what);
    json_object_foreach(v, key, list) {
        bool known = !strcmp(key, "include") || !strcmp(key, "includes") || !strcmp(key, "exclude") ||
                     !strcmp(key, "excludes");
        if (!known)
            return err_set(err, ERR_INVALID, "fields: unknown member \"%.*s\"; expected %s", SHOWN(key),
                           what);
    }
    int r = json_paths(json_object_get(v, "include"), "fields.include", &q->include, err);
    if (!r) r = json_paths(json_object_get(v, "includes"), "fields.includes", &q->include, err);
    if (!r) r = json_paths(json_object_get(v, "exclude"), "fields.exclude", &q->exclude, err);
    if (!r) r = json_paths(json_object_get(v, "excludes"), "fields.excludes", &q->exclude, err);
    return r;
}

static int json_timeout(json_t *v, struct query_request *q, struct err *err) {
    char number[32];
    if (!v) return 0;
    const char *s = json_string_value(v);
    if (json_is_integer(v)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        s = number;
    }
    return s && parse_timeout(s, &q->timeout_ms) ? 0
                                                 : expected(err, "timeout", options[OPT_TIMEOUT].expected);
}

static int json_format(json_t *v, struct query_request *q, struct err *err) {
    if (!v) return 0;
    bool ok = json_is_string(v) && parse_format(json_string_value(v), &q->format);
    return ok ? 0 : expected(err, "format", FORMATS);
}

/* The query: a string, an object, or the body itself when it is a bare query object. */
static int json_query(json_t *query, struct query_request *q, struct err *err) {
    if (json_is_string(query))
        q->text = xstrdup(json_string_value(query));
    else if (json_is_object(query))
        q->json = json_dumps(query, JSON_COMPACT);
    else
        return expected(err, "query", "a query object or a query string");
    return 0;
}

static int json_window(json_t *v, struct query_request *q, struct err *err) {
    int r = json_u32(v, "window", QUERY_MAX_SIZE, &q->window, err);
    return r || !v || json_is_null(v) || q->window ? r
                                                   : expected(err, "window", options[OPT_WINDOW].expected);
}

static int json_facets(json_t *body, struct query_request *q, struct err *err) {
    struct buf one = BUF_INIT;
    json_t *fields = json_object_get(body, "facet");
    int r = json_u32(json_object_get(body, "facets"), "facets", MAX_FACET_SIZE, &q->facet_size, err);
    if (!r && !q->facet_size) r = expected(err, "facets", options[OPT_FACETS].expected);
    if (r) return r;
    if (!json_is_string(fields) || !json_string_length(fields))
        return json_paths(fields, "facet", &q->facets, err);
    list_add_escaped(&one, json_string_value(fields), json_string_length(fields));
    q->facets = take_string(&one);
    return 0;
}

static int json_partitions(json_t *v, struct query_request *q, struct err *err) {
    static const char what[] = "{\"field\": name, \"in\": [value, ...]}";
    struct buf out = BUF_INIT;
    json_t *item, *field = json_object_get(v, "field"), *in = json_object_get(v, "in");
    size_t i;
    if (!v || json_is_null(v)) return 0;
    if (!json_is_object(v) || json_object_size(v) != 2 || !json_is_string(field) || !json_array_size(in))
        return expected(err, "partitionFilter", what);
    json_array_foreach(in, i, item) {
        struct buf one = BUF_INIT;
        if (!json_is_string(item)) {
            buf_release(&out);
            return expected(err, "partitionFilter.in", "an array of strings");
        }
        list_add_escaped(&one, json_string_value(item), json_string_length(item));
        if (i) buf_addc(&out, ',');
        buf_add(&out, one.data, one.len);
        buf_release(&one);
    }
    q->partitions = xstrdup(buf_str(&out));
    q->partition_field = xstrdup(json_string_value(field));
    buf_release(&out);
    return 0;
}

static int check_body_members(json_t *body, struct err *err) {
    static const char *const known[] = {
        "query",  "size",    "from",  "sort",   "fields",  "consistentRead",  "includeVectors",
        "format", "timeout", "facet", "facets", "explain", "partitionFilter", "window"};
    const char *key;
    json_t *value;
    json_object_foreach(body, key, value) {
        unsigned i = 0;
        while (i < ARRAY_SIZE(known) && strcmp(known[i], key)) i++;
        if (i < ARRAY_SIZE(known)) continue;
        return err_set(err, ERR_INVALID,
                       "unknown member \"%.*s\"; known: query, size, from, sort, fields, consistentRead, "
                       "includeVectors, format, timeout, facet, facets, explain, partitionFilter, window",
                       SHOWN(key));
    }
    return 0;
}

/* A query object instead of a body: the name of its kind, NULL if it is none. */
static const char *bare_kind(json_t *body) {
    static const char *const kinds[] = {"queryString", "knn", "sparseVector", "bool", "rrf", "mm", "l2"};
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        if (json_object_get(body, kinds[i])) return kinds[i];
    return NULL;
}

static int parse_body(json_t *body, struct query_request *q, struct err *err) {
    json_t *query = json_object_get(body, "query");
    const char *bare = query ? NULL : bare_kind(body);
    if (bare && json_object_size(body) > 1)
        return err_set(err, ERR_INVALID,
                       "\"%s\": expected {\"query\": {\"%s\": ...}} where other members stand beside it",
                       bare, bare);
    if (bare) return json_query(body, q, err);
    int r = check_body_members(body, err);
    if (!r) r = json_query(query, q, err);
    if (!r) r = json_u32(json_object_get(body, "size"), "size", QUERY_MAX_SIZE, &q->size, err);
    if (!r) r = json_u32(json_object_get(body, "from"), "from", REQUEST_MAX_WINDOW, &q->from, err);
    if (!r) r = json_window(json_object_get(body, "window"), q, err);
    if (!r) r = json_partitions(json_object_get(body, "partitionFilter"), q, err);
    if (!r) r = json_sort(json_object_get(body, "sort"), q, err);
    if (!r) r = json_fields(json_object_get(body, "fields"), q, err);
    if (!r) r = json_flag(json_object_get(body, "consistentRead"), "consistentRead", &q->consistent, err);
    if (!r)
        r = json_flag(json_object_get(body, "includeVectors"), "includeVectors", &q->include_vectors, err);
    if (!r) r = json_format(json_object_get(body, "format"), q, err);
    if (!r) r = json_facets(body, q, err);
    if (!r) r = json_flag(json_object_get(body, "explain"), "explain", &q->explain, err);
    if (!r) r = json_timeout(json_object_get(body, "timeout"), q, err);
    return r ? r : check_request(q, err);
}

/* Not JSON: a SPEC, without the white space around it. */
static int parse_plain(const char *text, size_t len, struct query_request *ret, struct err *err) {
    while (len && strchr(" \t\r\n", *text) && *text) text++, len--;
    while (len && strchr(" \t\r\n", text[len - 1]) && text[len - 1]) len--;
    return query_request_parse_spec(text, len, ret, err);
}

int query_request_parse_json(const char *text, size_t len, struct query_request *ret, struct err *err) {
    struct query_request q;
    json_error_t bad;
    int r;
    if (!looks_like_json(text, len)) return parse_plain(text, len, ret, err);
    query_request_init(&q);
    json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, &bad);
    if (!body)
        return err_at(err, ERR_INVALID, bad.line > 0 ? (uint32_t)bad.line : 0,
                      bad.column > 0 ? (uint32_t)bad.column : 0, "the query is not valid JSON: %s", bad.text);
    r = parse_body(body, &q, err);
    json_decref(body);
    if (r)
        query_request_release(&q);
    else
        *ret = q;
    return r;
}
