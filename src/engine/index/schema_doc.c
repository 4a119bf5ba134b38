/* Documents against a schema: finding the indexable values, checking them, and their column form. */
#include "index/schema_internal.h"
#include "util/clock.h"
#include <float.h>
#include <math.h>
#include <stdio.h>

/* ---- one value ---- */

int64_t double_to_sortable(double v) {
    int64_t bits;
    if (v == 0) v = 0; /* -0.0 */
    memcpy(&bits, &v, sizeof bits);
    return bits ^ ((bits >> 63) & INT64_MAX);
}

double sortable_to_double(int64_t v) {
    double d;
    v ^= (v >> 63) & INT64_MAX;
    memcpy(&d, &v, sizeof d);
    return d;
}

static bool long_value(const struct jval *v, int64_t *ret) {
    if (v->type != JVAL_NUMBER) return false;
    if (v->is_int) return *ret = v->i64, true;
    if (!(v->f64 >= -0x1p63 && v->f64 < 0x1p63) || v->f64 != floor(v->f64)) return false;
    *ret = (int64_t)v->f64;
    return true;
}

static bool boolean_value(const struct jval *v, int64_t *ret) {
    bool string = v->type == JVAL_STRING;
    bool yes = v->type == JVAL_TRUE || (string && v->count == 4 && !memcmp(v->str, "true", 4));
    bool no = v->type == JVAL_FALSE || (string && v->count == 5 && !memcmp(v->str, "false", 5));
    if (yes || no) *ret = yes;
    return yes || no;
}

bool field_value_i64(enum field_type type, const struct jval *v, int64_t *ret) {
    switch (type) {
    case FIELD_LONG:
        return long_value(v, ret);
    case FIELD_BOOLEAN:
        return boolean_value(v, ret);
    case FIELD_DATETIME:
        return v->type == JVAL_STRING && !time_parse(v->str, v->count, ret);
    case FIELD_DOUBLE:
        if (v->type != JVAL_NUMBER || !isfinite(jval_number(v))) return false;
        *ret = double_to_sortable(jval_number(v));
        return true;
    default:
        return false;
    }
}

/* NULL when the array is a vector for the field, else the reason. Only the length makes it the wrong
 * dimension. */
static const char *vector_misfit(const struct field *f, const struct jval *v, bool *ret_dimension) {
    double sum = 0;
    *ret_dimension = false;
    if (v->type != JVAL_ARRAY) return "expected an array of numbers";
    for (const struct jval *e = v->first; e; e = e->next) {
        if (e->type != JVAL_NUMBER) return "expected an array of numbers";
        float x = (float)jval_number(e);
        if (!isfinite(x)) return "a number is outside the range of float32";
        sum += (double)x * x;
    }
    *ret_dimension = v->count != f->dimensions;
    if (*ret_dimension) return "wrong number of dimensions";
    if (!isfinite((float)sum)) return "the vector's squared length is outside the range of float32";
    bool zero = f->similarity == SIMILARITY_COSINE && !((float)sum >= FLT_MIN);
    return zero ? "a vector without length has no cosine" : NULL;
}

/* NULL when the object is a sparse vector, else the reason; *ret_token: the member that it is about, or NULL.
 */
static const char *sparse_misfit(const struct jval *v, const struct jval **ret_token) {
    uint32_t n = 0;
    *ret_token = NULL;
    if (v->type != JVAL_OBJECT) return "expected an object of token weights";
    for (const struct jval *e = v->first; e; e = e->next) {
        double w = e->type == JVAL_NUMBER ? jval_number(e) : -1;
        *ret_token = e;
        if (e->type != JVAL_NUMBER) return "expected a number as the weight";
        if (!(w >= 0)) return "a weight cannot be negative";
        if (w > SPARSE_MAX_WEIGHT) return "a weight can be at most 64";
        n += w > 0;
    }
    *ret_token = NULL;
    return n > SPARSE_MAX_WEIGHTS ? "more than 4096 weights that are not 0" : NULL;
}

/* NULL when the (non-array, or vector) value fits the field, else the reason. */
static const char *misfit(const struct field *f, const struct jval *v, bool *ret_dimension) {
    int64_t ignored;
    const struct jval *token;
    *ret_dimension = false;
    switch (f->type) {
    case FIELD_TEXT:
    case FIELD_KEYWORD:
        return v->type == JVAL_STRING ? NULL : "expected a string or an array of strings";
    case FIELD_LONG:
        return long_value(v, &ignored) ? NULL : "expected an integer of 64 bits";
    case FIELD_DOUBLE:
        return field_value_i64(FIELD_DOUBLE, v, &ignored) ? NULL : "expected a number";
    case FIELD_BOOLEAN:
        return boolean_value(v, &ignored) ? NULL : "expected true or false";
    case FIELD_DATETIME:
        return field_value_i64(FIELD_DATETIME, v, &ignored)
                   ? NULL
                   : "expected a date-time such as 2026-11-22T06:00:00Z";
    case FIELD_VECTOR:
        return vector_misfit(f, v, ret_dimension);
    case FIELD_SPARSE_VECTOR:
        return sparse_misfit(v, &token);
    default:
        return v->type == JVAL_OBJECT ? NULL : "expected an object";
    }
}

/* ---- the walk over a document ---- */

/* Every value at a path of the schema, in document order; arrays are opened except where the field is a
 * vector. The schema bounds the recursion over objects, JVAL_MAX_DEPTH that over arrays. */
struct walk {
    const struct schema *schema;
    int (*found)(struct walk *, uint32_t field_no, const struct jval *value);
    char path[SCHEMA_MAX_PATH + 1];
    void *ctx;
    struct err *err;
};

static int walk_object(struct walk *w, const struct jval *object, size_t base);

static int walk_value(struct walk *w, uint32_t field_no, const struct jval *v, size_t path_len) {
    const struct field *f = &w->schema->fields[field_no];
    int r = 0;
    if (v->type == JVAL_NULL) return 0;
    if (v->type == JVAL_ARRAY && f->type != FIELD_VECTOR) {
        for (const struct jval *e = v->first; e && !r; e = e->next) r = walk_value(w, field_no, e, path_len);
        return r;
    }
    r = w->found(w, field_no, v);
    if (r || f->type != FIELD_OBJECT || v->type != JVAL_OBJECT) return r;
    w->path[path_len] = '.';
    return walk_object(w, v, path_len + 1);
}

static int walk_object(struct walk *w, const struct jval *object, size_t base) {
    for (const struct jval *m = object->first; m; m = m->next) {
        size_t len = base + m->key_len;
        if (len > SCHEMA_MAX_PATH || memchr(m->key, '.', m->key_len)) continue;
        memcpy(w->path + base, m->key, m->key_len);
        const struct field *f = schema_find(w->schema, w->path, len);
        int r = f ? walk_value(w, (uint32_t)(f - w->schema->fields), m, len) : 0;
        if (r) return r;
    }
    return 0;
}

/* ---- checking ---- */

struct check {
    struct buf *warnings;
    uint64_t single[SCHEMA_MAX_FIELDS / 64 + 1]; /* fields of which the document has its one value */
};
_Static_assert(SCHEMA_MAX_FIELDS + 2 <= 64 * (SCHEMA_MAX_FIELDS / 64 + 1), "and id and partition field");

static int report_misfit(struct walk *w, const struct field *f, const struct jval *v, const char *why,
                         bool dimension) {
    struct check *c = w->ctx;
    const struct jval *token = NULL;
    char text[400], at[200] = "";
    if (f->type == FIELD_SPARSE_VECTOR) sparse_misfit(v, &token);
    if (token) snprintf(at, sizeof at, "token \"%.*s\": ", QUOTE(token->key, token->key_len));
    if (dimension)
        snprintf(text, sizeof text, "field \"%.*s\" (vector): has %u dimensions, expected %u",
                 QUOTE(f->path, f->path_len), v->count, f->dimensions);
    else
        snprintf(text, sizeof text, "field \"%.*s\" (%s): %s%s", QUOTE(f->path, f->path_len),
                 field_type_name(f->type), at, why);
    if (!f->inferred) return err_set(w->err, dimension ? ERR_DIMENSION : ERR_INVALID, "%s", text);
    if (c->warnings) buf_printf(c->warnings, "%s; stored without an index\n", text);
    return 0;
}

/* A document can hold one vector of a field, and one value of the field it is partitioned by. */
static const char *too_many(const struct schema *s, uint32_t field_no, struct check *c) {
    const struct field *f = &s->fields[field_no];
    bool vector = f->type == FIELD_VECTOR || f->type == FIELD_SPARSE_VECTOR;
    bool partition = s->partition_field && !strcmp(s->partition_field, f->path);
    uint64_t *word = &c->single[field_no / 64], bit = 1ull << field_no % 64;
    if (!vector && !partition) return NULL;
    if (*word & bit)
        return partition ? "a document can be in only one partition" : "a document can hold only one";
    *word |= bit;
    return NULL;
}

static bool is_id(const struct field *f) {
    return f->path_len == 2 && !memcmp(f->path, "id", 2);
}

static int check_value(struct walk *w, uint32_t field_no, const struct jval *v) {
    const struct field *f = &w->schema->fields[field_no];
    struct check *c = w->ctx;
    bool dimension;
    if (is_id(f)) return 0; /* the writer's business: it may be a number or missing */
    const char *why = misfit(f, v, &dimension);
    if (!why) why = too_many(w->schema, field_no, c);
    return why ? report_misfit(w, f, v, why, dimension) : 0;
}

int schema_check(const struct schema *s, const struct jval *doc, struct buf *warnings, struct err *err) {
    struct check c = {.warnings = warnings};
    struct walk w = {.schema = s, .found = check_value, .ctx = &c, .err = err};
    if (doc->type != JVAL_OBJECT) return err_set(err, ERR_JSON, "a document must be a JSON object");
    return walk_object(&w, doc, 0);
}

/* ---- visiting in schema order ---- */

struct found {
    uint32_t field_no, order;
    const struct jval *value;
};
struct collect {
    struct found small[64], *all;
    uint32_t n, cap;
    bool sorted;
};

static int collect_value(struct walk *w, uint32_t field_no, const struct jval *v) {
    struct collect *c = w->ctx;
    if (w->schema->fields[field_no].type == FIELD_OBJECT) return 0;
    if (c->n == c->cap) {
        struct found *more = xmalloc(2 * (size_t)c->cap * sizeof *more);
        memcpy(more, c->all, c->n * sizeof *more);
        if (c->all != c->small) free(c->all);
        c->all = more;
        c->cap *= 2;
    }
    if (c->n && c->all[c->n - 1].field_no > field_no) c->sorted = false;
    c->all[c->n] = (struct found){.field_no = field_no, .order = c->n, .value = v};
    c->n++;
    return 0;
}

static int found_compare(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    if (x->field_no != y->field_no) return x->field_no < y->field_no ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* A number as the id is kept as its text. */
static struct jval id_as_string(const struct jval *v) {
    struct jval s = *v;
    s.type = JVAL_STRING;
    s.str = v->raw;
    s.count = v->raw_len;
    return s;
}

static int visit_found(const struct schema *s, const struct collect *c, field_visit *visit, void *ctx,
                       struct err *err) {
    uint32_t vector_done = UINT32_MAX;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct found *found = &c->all[i];
        const struct field *f = &s->fields[found->field_no];
        const struct jval *v = found->value;
        struct jval id;
        bool dimension;
        if (is_id(f) && v->type == JVAL_NUMBER) {
            id = id_as_string(v);
            v = &id;
        }
        if (misfit(f, v, &dimension)) continue;
        if (f->type == FIELD_VECTOR || f->type == FIELD_SPARSE_VECTOR) {
            if (vector_done == found->field_no) continue; /* only the first is indexed */
            vector_done = found->field_no;
        }
        int r = visit(ctx, found->field_no, v, err);
        if (r) return r;
    }
    return 0;
}

int schema_walk(const struct schema *s, const struct jval *doc, field_visit *visit, void *ctx,
                struct err *err) {
    struct collect c;
    struct walk w = {.schema = s, .found = collect_value, .ctx = &c, .err = err};
    c.all = c.small;
    c.n = 0;
    c.cap = ARRAY_SIZE(c.small);
    c.sorted = true;
    if (doc->type != JVAL_OBJECT) return 0;
    walk_object(&w, doc, 0);
    if (!c.sorted) qsort(c.all, c.n, sizeof *c.all, found_compare);
    int r = visit_found(s, &c, visit, ctx, err);
    if (c.all != c.small) free(c.all);
    return r;
}
