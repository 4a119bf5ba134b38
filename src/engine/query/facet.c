/* Counting of values, and the counts as JSON. */
#include "query/answer.h"
#include "query/facet_count.h"
#include "query/query_internal.h"

enum { ORDS_MAX = 1 << 16, TABLE_FIRST = 64 };

struct facets *facets_new(const struct query *query) {
    if (!query->n_facets) return NULL;
    struct facets *f = xcalloc(1, sizeof *f);
    f->n = query->n_facets;
    for (uint32_t i = 0; i < f->n; i++) {
        f->all[i].field = xstrdup(query->facets[i].field);
        f->all[i].type = query->facets[i].type;
    }
    return f;
}

static void facet_release(struct facet *f) {
    free(f->field);
    free(f->values);
    free(f->table);
    arena_release(&f->texts);
    *f = (struct facet){0};
}

void facets_free(struct facets *f) {
    if (!f) return;
    for (uint32_t i = 0; i < f->n; i++) facet_release(&f->all[i]);
    free(f);
}

/* ---- the table of values ---- */

static uint64_t value_hash(const char *text, uint32_t len, int64_t i64) {
    return text ? hash64(text, len, 1) : hash64(&i64, sizeof i64, 2);
}

static void table_grow(struct facet *f) {
    free(f->table);
    f->table_size = f->table_size ? f->table_size * 2 : TABLE_FIRST;
    f->table = xcalloc(f->table_size, sizeof *f->table);
    for (uint32_t i = 0; i < f->n; i++) {
        const struct facet_value *v = &f->values[i];
        uint32_t at = (uint32_t)value_hash(v->text, v->len, v->i64) & (f->table_size - 1);
        while (f->table[at]) at = (at + 1) & (f->table_size - 1);
        f->table[at] = i + 1;
    }
}

static int too_many(const struct facet *f, struct err *err) {
    return err_set(
        err, ERR_INVALID,
        "facet: field \"%.*s\" has too many different values in this answer (more than %d, or %d MB of "
        "them): narrow the query",
        SHOWN(f->field), FACET_MAX_VALUES, FACET_MAX_TEXT >> 20);
}

/* text NULL: a number. */
static int facet_count(struct facet *f, const char *text, uint32_t len, int64_t i64, uint64_t count,
                       struct err *err) {
    if (f->n >= f->table_size / 2) table_grow(f);
    uint32_t at = (uint32_t)value_hash(text, len, i64) & (f->table_size - 1);
    for (; f->table[at]; at = (at + 1) & (f->table_size - 1)) {
        struct facet_value *v = &f->values[f->table[at] - 1];
        if (text ? v->len != len || (len && memcmp(v->text, text, len)) : v->i64 != i64) continue;
        v->count += count;
        return 0;
    }
    if (f->n == FACET_MAX_VALUES || f->text_bytes + len > FACET_MAX_TEXT) return too_many(f, err);
    VEC_GROW(f->values, f->n, f->cap);
    f->text_bytes += len;
    const char *copy = text ? arena_strndup(&f->texts, text, len) : NULL;
    f->values[f->n++] = (struct facet_value){.count = count, .text = copy, .len = len, .i64 = i64};
    f->table[at] = f->n;
    return 0;
}

int facets_add(struct facets *f, const struct facets *other, struct err *err) {
    f->n_matches += other->n_matches;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct facet *from = &other->all[i];
        f->all[i].n_docs += from->n_docs;
        for (uint32_t j = 0; j < from->n; j++) {
            const struct facet_value *v = &from->values[j];
            int r = facet_count(&f->all[i], v->text, v->len, v->i64, v->count, err);
            if (r) return r;
        }
    }
    return 0;
}

static int compare_values(const void *a, const void *b) {
    const struct facet_value *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    if (!x->text) return (x->i64 > y->i64) - (x->i64 < y->i64);
    uint32_t n = MIN(x->len, y->len);
    int r = n ? memcmp(x->text, y->text, n) : 0;
    return r ? r : (x->len > y->len) - (x->len < y->len);
}

/* The table is of no use afterwards. */
void facets_sort(struct facets *f) {
    for (uint32_t i = 0; i < f->n; i++)
        if (f->all[i].n) qsort(f->all[i].values, f->all[i].n, sizeof *f->all[i].values, compare_values);
}

/* ---- counting a part ---- */

int facet_counter_begin(struct facet_counter *c, struct facets *facets, const struct search_ctx *ctx,
                        struct err *err) {
    memset(c, 0, sizeof *c);
    c->facets = facets;
    for (uint32_t i = 0; i < facets->n; i++) {
        const struct facet *f = &facets->all[i];
        struct facet_source *s = &c->sources[i];
        s->field = segment_field(ctx->part->segment, f->field, strlen(f->field), f->type, 0);
        if (!s->field) continue;
        int r = column_open(s->field, &s->column, err);
        if (r) return r;
        if (f->type != FIELD_KEYWORD) continue;
        s->n_ords = term_count(s->field);
        if (s->n_ords <= ORDS_MAX) s->ords = xcalloc((size_t)s->n_ords + 1, sizeof *s->ords);
        s->by_ord = (struct facet){.field = xstrdup(f->field), .type = FIELD_LONG};
    }
    return 0;
}

static int count_batch(struct facet *f, struct facet_source *s, const struct batch *batch, struct err *err) {
    struct facet *into = f->type == FIELD_KEYWORD ? &s->by_ord : f;
    for (uint32_t i = 0; i < batch->n; i++) {
        uint32_t n = column_count(s->column, batch->docs[i]);
        int64_t before = 0;
        f->n_docs += n > 0;
        for (uint32_t j = 0; j < n; j++) {
            int64_t v = column_value(s->column, batch->docs[i], j);
            if (j && v == before) continue; /* the same value twice */
            before = v;
            if (s->ords && (v < 0 || v >= s->n_ords))
                return err_set(err, ERR_CORRUPT, "field \"%.*s\": a column leads outside its dictionary",
                               SHOWN(f->field));
            if (s->ords) {
                s->ords[v]++;
                continue;
            }
            int r = facet_count(into, NULL, 0, v, 1, err);
            if (r) return r;
        }
    }
    return 0;
}

int facet_counter_add(struct facet_counter *c, const struct batch *batch, struct err *err) {
    c->facets->n_matches += batch->n;
    for (uint32_t i = 0; i < c->facets->n; i++) {
        if (!c->sources[i].field) continue;
        int r = count_batch(&c->facets->all[i], &c->sources[i], batch, err);
        if (r) return r;
    }
    return 0;
}

static int count_ord(struct facet *f, const struct facet_source *s, uint32_t ord, uint64_t count,
                     struct buf *term, struct err *err) {
    buf_clear(term);
    int r = term_by_ord(s->field, ord, term, err);
    return r ? r : facet_count(f, buf_str(term), (uint32_t)term->len, 0, count, err);
}

int facet_counter_end(struct facet_counter *c, struct err *err) {
    struct buf term = BUF_INIT;
    int r = 0;
    for (uint32_t i = 0; i < c->facets->n && !r; i++) {
        const struct facet_source *s = &c->sources[i];
        struct facet *f = &c->facets->all[i];
        for (uint32_t ord = 0; s->ords && ord < s->n_ords && !r; ord++)
            if (s->ords[ord]) r = count_ord(f, s, ord, s->ords[ord], &term, err);
        for (uint32_t j = 0; j < s->by_ord.n && !r; j++)
            r = count_ord(f, s, (uint32_t)s->by_ord.values[j].i64, s->by_ord.values[j].count, &term, err);
    }
    buf_release(&term);
    return r;
}

void facet_counter_release(struct facet_counter *c) {
    for (uint32_t i = 0; i < FACET_MAX_FIELDS; i++) {
        free(c->sources[i].ords);
        facet_release(&c->sources[i].by_ord);
    }
}

/* ---- as JSON ---- */

static void add_value(const struct facet *f, const struct facet_value *v, struct buf *out) {
    char iso[TIME_TEXT_SIZE];
    switch (f->type) {
    case FIELD_KEYWORD:
        buf_add_json_string(out, v->text, v->len);
        break;
    case FIELD_DOUBLE:
        answer_add_double(out, sortable_to_double(v->i64));
        break;
    case FIELD_BOOLEAN:
        buf_adds(out, v->i64 ? "true" : "false");
        break;
    case FIELD_DATETIME:
        time_to_iso(v->i64, iso);
        buf_printf(out, "\"%s\"", iso);
        break;
    default:
        buf_printf(out, "%lld", (long long)v->i64);
        break;
    }
}

void facet_format(const struct facets *facets, uint32_t number, uint32_t shown, struct buf *out) {
    const struct facet *f = &facets->all[number];
    uint64_t other = 0;
    buf_adds(out, "{\"field\":");
    buf_add_json_string(out, f->field, strlen(f->field));
    buf_adds(out, ",\"values\":[");
    for (uint32_t i = 0; i < f->n; i++) {
        if (i >= shown) {
            other += f->values[i].count;
            continue;
        }
        buf_adds(out, i ? ",{\"value\":" : "{\"value\":");
        add_value(f, &f->values[i], out);
        buf_printf(out, ",\"count\":%llu}", (unsigned long long)f->values[i].count);
    }
    buf_printf(out, "],\"other\":%llu,\"missing\":%llu}", (unsigned long long)other,
               (unsigned long long)(facets->n_matches - f->n_docs));
}
