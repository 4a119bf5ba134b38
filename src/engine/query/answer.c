/* An answer as text: jsonl, json, ids, count; selection of fields. */
#include "query/answer_internal.h"
#include "query/facet.h"
#include <math.h>
#include <stdio.h>

void answer_free(struct answer *a) {
    if (!a) return;
    for (uint32_t i = 0; i < a->n_hits; i++) {
        free(a->hits[i].id);
        free(a->hits[i].doc);
        free(a->hits[i].explain);
    }
    free(a->hits);
    free(a->collection);
    facets_free(a->facets);
    free(a);
}

/* ---- selection ---- */

static void paths_add(struct paths *p, const char *s, size_t len) {
    VEC_GROW(p->all, p->n, p->cap);
    p->all[p->n++] = (struct path){.s = xstrndup(s, len), .len = len};
}

static void paths_add_list(struct paths *p, const char *list) {
    struct buf item = BUF_INIT;
    size_t colon;
    while (list_next(&list, &item, &colon, true))
        if (item.len) paths_add(p, (char *)item.data, item.len);
    buf_release(&item);
}

static void paths_release(struct paths *p) {
    for (uint32_t i = 0; i < p->n; i++) free(p->all[i].s);
    free(p->all);
}

static bool paths_have(const struct paths *p, const char *s, size_t len) {
    for (uint32_t i = 0; i < p->n; i++)
        if (p->all[i].len == len && !memcmp(p->all[i].s, s, len)) return true;
    return false;
}

/* Whether a path of the list lies below s. */
static bool paths_have_below(const struct paths *p, const char *s, size_t len) {
    for (uint32_t i = 0; i < p->n; i++)
        if (p->all[i].len > len && p->all[i].s[len] == '.' && !memcmp(p->all[i].s, s, len)) return true;
    return false;
}

/* Vectors are left out unless asked for as such or by their very path. */
static void selection_init(struct selection *s, const struct query_request *request,
                           const struct schema *schema) {
    *s = (struct selection){0};
    paths_add_list(&s->include, request->include);
    paths_add_list(&s->exclude, request->exclude);
    for (uint32_t i = 0; !request->include_vectors && i < schema->n_fields; i++) {
        const struct field *f = &schema->fields[i];
        bool vector = f->type == FIELD_VECTOR || f->type == FIELD_SPARSE_VECTOR;
        if (!vector || paths_have(&s->include, f->path, f->path_len)) continue;
        paths_add(&s->exclude, f->path, f->path_len);
    }
}

static void selection_release(struct selection *s) {
    paths_release(&s->include);
    paths_release(&s->exclude);
    arena_release(&s->arena);
    buf_release(&s->path);
}

/* A key as one component of a path: its own dots are no separators. */
static void push_key(struct buf *path, const struct jval *m, bool nested) {
    if (nested) buf_addc(path, '.');
    for (uint32_t i = 0; i < m->key_len; i++)
        buf_addc(path, m->key[i] == '.' ? (char)PATH_LITERAL_DOT : m->key[i]);
}

static bool select_value(struct selection *s, const struct jval *v, bool included, struct buf *out);

/* The members that are wanted; false (and nothing added) when none is and the object had some. */
static bool select_object(struct selection *s, const struct jval *object, bool included, struct buf *out) {
    size_t start = out->len, base = s->path.len;
    bool any = false;
    s->depth++;
    buf_addc(out, '{');
    for (const struct jval *m = object->first; m; m = m->next) {
        size_t before = out->len;
        s->path.len = base;
        push_key(&s->path, m, s->depth > 1);
        if (any) buf_addc(out, ',');
        buf_add_json_string(out, m->key, m->key_len);
        buf_addc(out, ':');
        if (select_value(s, m, included, out))
            any = true;
        else
            out->len = before;
    }
    s->path.len = base;
    s->depth--;
    buf_addc(out, '}');
    if (any || included) return true;
    out->len = start;
    return false;
}

/* Elements: objects by their members; others only where the array itself is included. */
static bool select_array(struct selection *s, const struct jval *array, bool included, struct buf *out) {
    size_t start = out->len;
    bool any = false;
    buf_addc(out, '[');
    for (const struct jval *e = array->first; e; e = e->next) {
        size_t before = out->len;
        bool kept = true;
        if (any) buf_addc(out, ',');
        if (e->type == JVAL_OBJECT)
            kept = select_object(s, e, included, out);
        else if (e->type == JVAL_ARRAY)
            kept = select_array(s, e, included, out);
        else if (included)
            buf_add(out, e->raw, e->raw_len);
        else
            kept = false;
        if (kept)
            any = true;
        else
            out->len = before;
        s->dropped |= !kept;
    }
    buf_addc(out, ']');
    if (any || included) return true;
    out->len = start;
    return false;
}

/* Adds the wanted part of the value at s->path; false when there is none. */
static bool select_value(struct selection *s, const struct jval *v, bool included, struct buf *out) {
    const char *path = (char *)s->path.data;
    size_t len = s->path.len;
    bool kept = false;
    included = included || paths_have(&s->include, path, len);
    bool whole = included && !paths_have_below(&s->exclude, path, len);
    bool open = (included || paths_have_below(&s->include, path, len)) && !whole;
    if (!paths_have(&s->exclude, path, len)) {
        if (whole) {
            buf_add(out, v->raw, v->raw_len);
            return true;
        }
        if (open && v->type == JVAL_OBJECT)
            kept = select_object(s, v, included, out);
        else if (open && v->type == JVAL_ARRAY)
            kept = select_array(s, v, included, out);
        else if (included)
            buf_add(out, v->raw, v->raw_len), kept = true;
    }
    s->dropped |= !kept;
    return kept;
}

int selection_add(struct selection *s, const struct answer_hit *hit, struct buf *out, struct err *err) {
    size_t start = out->len;
    struct jval *doc;
    if (!s->include.n && !s->exclude.n) {
        buf_add(out, hit->doc, hit->doc_len);
        return 0;
    }
    arena_reset(&s->arena);
    int r = jval_parse(&s->arena, hit->doc, hit->doc_len, &doc, err);
    if (r) return err_wrap(err, "stored document \"%.*s\"", err_shown(hit->id, hit->id_len), hit->id);
    buf_clear(&s->path);
    s->dropped = false;
    if (doc->type == JVAL_OBJECT && select_object(s, doc, !s->include.n, out) && s->dropped) return 0;
    out->len = start;
    if (s->dropped)
        buf_adds(out, "{}"); /* nothing of it is wanted */
    else
        buf_add(out, hit->doc, hit->doc_len);
    return 0;
}

/* A document may be stored over several lines; a line break cannot stand inside a JSON string. */
static void join_lines(struct buf *out, size_t start) {
    const uint8_t *text = out->data + start;
    size_t len = out->len - start;
    if (!memchr(text, '\n', len) && !memchr(text, '\r', len)) return; /* nearly always */
    size_t to = start;
    for (size_t i = start; i < out->len; i++)
        if (out->data[i] != '\n' && out->data[i] != '\r') out->data[to++] = out->data[i];
    out->len = to;
}

/* ---- formats ---- */

enum { SCORE_DIGITS_MIN = 6, SCORE_DIGITS_MAX = 9 /* always enough to read a float back */ };

/* number / 10^decimals, decimals > 0, without zeros at its end. */
static void add_decimal(struct buf *out, bool negative, uint64_t number, int decimals) {
    char text[32], *at = text + sizeof text;
    for (; decimals && number % 10 == 0; decimals--) number /= 10;
    bool fraction = decimals > 0;
    for (; decimals; decimals--, number /= 10) *--at = (char)('0' + number % 10);
    if (fraction) *--at = '.';
    do {
        *--at = (char)('0' + number % 10);
    } while (number /= 10);
    if (negative) *--at = '-';
    buf_add(out, at, (size_t)(text + sizeof text - at));
}

/* What "%.*g" prints, with the fewest digits that read back: for 0.0001 <= |score| < 100000, where that is no
 * exponent. score * 10^decimals is exact: 24 bits times 5^12 (28 bits) fit a double. False: it is not certain
 * that the number read back is this score (it is close to the middle of two floats), or it has a digit more.
 */
static bool add_plain_score(struct buf *out, float score) {
    static const double tens[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
    double size = fabs((double)score);
    if (!(size >= 1e-4 && size < 1e5)) return false;
    int point = 5; /* digits in front of the point; below 1: 0 and less, zeros behind it */
    while (point > -3 && size < (point > 0 ? tens[point - 1] : 1 / tens[1 - point])) point--;
    for (int digits = SCORE_DIGITS_MIN; digits <= SCORE_DIGITS_MAX; digits++) {
        int decimals = digits - point;
        double rounded = nearbyint(size * tens[decimals]), back = rounded / tens[decimals];
        if (rounded >= tens[digits]) return false;
        float low = (float)nextafter(back, 0), high = (float)nextafter(back, INFINITY);
        if (low != high) return false;
        if ((double)low != size) continue;
        add_decimal(out, score < 0, (uint64_t)rounded, decimals);
        return true;
    }
    return false;
}

void answer_add_score(struct buf *out, float score) {
    char text[32];
    if (!isfinite(score)) {
        buf_adds(out, "null");
        return;
    }
    if (score == 0 && !signbit(score)) {
        buf_addc(out, '0');
        return;
    }
    if (add_plain_score(out, score)) return;
    for (int digits = SCORE_DIGITS_MIN; digits <= SCORE_DIGITS_MAX; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)score);
        if (strtof(text, NULL) == score) break;
    }
    buf_adds(out, text);
}

void answer_add_double(struct buf *out, double number) {
    char text[40];
    if (!isfinite(number)) {
        buf_adds(out, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    buf_adds(out, text);
}

static int add_hit(const struct answer *a, const struct answer_hit *hit, struct selection *s, struct buf *out,
                   struct err *err) {
    buf_adds(out, "{\"collection\":");
    buf_add_json_string(out, a->collection, strlen(a->collection));
    buf_adds(out, ",\"score\":");
    answer_add_score(out, hit->score);
    buf_adds(out, ",\"doc\":");
    int r = selection_add(s, hit, out, err);
    if (hit->explain) {
        buf_adds(out, ",\"explain\":");
        buf_adds(out, hit->explain);
    }
    buf_addc(out, '}');
    return r;
}

static int format_jsonl(const struct answer *a, struct selection *s, uint32_t facet_size, struct buf *out,
                        struct err *err) {
    int r = 0;
    for (uint32_t i = 0; i < a->n_hits && !r; i++) {
        size_t start = out->len;
        r = add_hit(a, &a->hits[i], s, out, err);
        join_lines(out, start);
        buf_addc(out, '\n');
    }
    for (uint32_t i = 0; a->facets && i < a->facets->n; i++) {
        facet_format(a->facets, i, facet_size, out);
        buf_addc(out, '\n');
    }
    return r;
}

static int format_json(const struct answer *a, struct selection *s, uint32_t facet_size, struct buf *out,
                       struct err *err) {
    int r = 0;
    buf_printf(out, "{\"took\":%lld,\"maxScore\":", (long long)(a->took_us / 1000));
    answer_add_score(out, a->max_score);
    buf_printf(out, ",\"total\":%llu,\"docs\":[", (unsigned long long)a->total);
    for (uint32_t i = 0; i < a->n_hits && !r; i++) {
        if (i) buf_addc(out, ',');
        r = add_hit(a, &a->hits[i], s, out, err);
    }
    buf_adds(out, "],\"isDocsInline\":true");
    if (a->facets) buf_adds(out, ",\"facets\":[");
    for (uint32_t i = 0; a->facets && i < a->facets->n; i++) {
        if (i) buf_addc(out, ',');
        facet_format(a->facets, i, facet_size, out);
    }
    buf_adds(out, a->facets ? "]}\n" : "}\n");
    return r;
}

/* Plain unless that could not be read back as one line: control characters, or a first quote. */
static void format_ids(const struct answer *a, struct buf *out) {
    for (uint32_t i = 0; i < a->n_hits; i++) {
        const struct answer_hit *hit = &a->hits[i];
        bool quote = hit->id_len && hit->id[0] == '"';
        for (uint32_t j = 0; j < hit->id_len; j++)
            quote |= (unsigned char)hit->id[j] < 0x20 || hit->id[j] == 0x7f;
        if (quote)
            buf_add_json_string(out, hit->id, hit->id_len);
        else
            buf_add(out, hit->id, hit->id_len);
        buf_addc(out, '\n');
    }
}

int answer_format(const struct answer *a, const struct query_request *request, const struct schema *schema,
                  struct buf *out, struct err *err) {
    struct selection s;
    size_t start = out->len;
    int r;
    if (request->format == FORMAT_IDS) {
        format_ids(a, out);
        return 0;
    }
    if (request->format == FORMAT_COUNT) {
        buf_printf(out, "%llu\n", (unsigned long long)a->total);
        return 0;
    }
    selection_init(&s, request, schema);
    if (request->format == FORMAT_JSON)
        r = format_json(a, &s, request->facet_size, out, err);
    else if (request->format == FORMAT_JSONL)
        r = format_jsonl(a, &s, request->facet_size, out, err);
    else
        r = answer_format_table(a, request->format, &s, out, err);
    selection_release(&s);
    if (r) out->len = start;
    return r;
}
