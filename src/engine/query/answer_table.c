/* Answers as rows: tsv, csv and a table for terminals. One column a field; nested values as compact JSON. */
#include "query/answer_internal.h"
#include <unicode/uchar.h>
#include <unicode/utf8.h>

enum { COLUMNS_MAX = 4096, CELL_WIDTH_MAX = 40, GAP = 2 };

struct cell {
    const char *s; /* NULL: the hit has no such field, or null */
    uint32_t len;
    bool number;
};
struct grid {
    struct path *columns; /* borrowed, or names in the arena */
    uint32_t n_columns, cap, n_rows;
    struct cell **rows; /* n_columns each, in the arena; a row made early may be shorter: lens */
    uint32_t *lens;
    struct arena arena;
};

/* ---- cells ---- */

static void add_compact(struct buf *out, const struct jval *v) {
    if (v->type != JVAL_OBJECT && v->type != JVAL_ARRAY) {
        buf_add(out, v->raw, v->raw_len);
        return;
    }
    buf_addc(out, v->type == JVAL_OBJECT ? '{' : '[');
    for (const struct jval *m = v->first; m; m = m->next) {
        if (m != v->first) buf_addc(out, ',');
        if (m->key) {
            buf_add_json_string(out, m->key, m->key_len);
            buf_addc(out, ':');
        }
        add_compact(out, m);
    }
    buf_addc(out, v->type == JVAL_OBJECT ? '}' : ']');
}

static struct cell cell_of(struct grid *g, const struct jval *v, struct buf *scratch) {
    if (!v || v->type == JVAL_NULL) return (struct cell){0};
    bool text = v->type == JVAL_STRING;
    buf_clear(scratch);
    if (!text) add_compact(scratch, v);
    uint32_t len = text ? v->count : (uint32_t)scratch->len;
    const char *s = text ? v->str : buf_str(scratch);
    return (struct cell){.s = arena_strndup(&g->arena, s, len), .len = len, .number = v->type == JVAL_NUMBER};
}

static bool key_is(const struct jval *m, const char *name, size_t len) {
    if (m->key_len != len) return false;
    for (size_t i = 0; i < len; i++)
        if (m->key[i] != (name[i] == (char)PATH_LITERAL_DOT ? '.' : name[i])) return false;
    return true;
}

/* What stands at the path below v; the values of several objects of an array become an array of their own. */
static const struct jval *value_at(struct arena *a, const struct jval *v, const char *path, size_t len) {
    struct jval *list = NULL, **end = NULL;
    if (v->type == JVAL_ARRAY) {
        for (const struct jval *e = v->first; e; e = e->next) {
            const struct jval *found = value_at(a, e, path, len);
            if (!found) continue;
            if (!list) {
                list = arena_zalloc(a, sizeof *list);
                list->type = JVAL_ARRAY;
                end = &list->first;
            }
            *end = arena_alloc(a, sizeof **end);
            **end = *found;
            (*end)->key = NULL;
            (*end)->next = NULL;
            end = &(*end)->next;
            list->count++;
        }
        return list;
    }
    if (v->type != JVAL_OBJECT) return NULL;
    const char *dot = memchr(path, '.', len);
    size_t here = dot ? (size_t)(dot - path) : len;
    const struct jval *m = v->first;
    while (m && !key_is(m, path, here)) m = m->next;
    return !m || !dot ? m : value_at(a, m, dot + 1, len - here - 1);
}

/* ---- columns and rows ---- */

static int add_column(struct grid *g, const char *name, size_t len, struct err *err) {
    if (g->n_columns == COLUMNS_MAX)
        return err_set(err, ERR_TOO_LARGE,
                       "the hits have more than %d different fields: name some with fields=", COLUMNS_MAX);
    VEC_GROW(g->columns, g->n_columns, g->cap);
    g->columns[g->n_columns++] = (struct path){arena_strndup(&g->arena, name, len), len};
    return 0;
}

/* The column of a top-level name, tried first where the last one suggests; a new one if there is none. */
static int column_of(struct grid *g, const struct jval *m, uint32_t hint, uint32_t *ret, struct err *err) {
    for (uint32_t k = 0; k < g->n_columns; k++) {
        uint32_t i = (hint + k) % g->n_columns;
        if (g->columns[i].len == m->key_len && !memcmp(g->columns[i].s, m->key, m->key_len))
            return *ret = i, 0;
    }
    *ret = g->n_columns;
    return add_column(g, m->key, m->key_len, err);
}

static void set_cell(struct grid *g, uint32_t row, uint32_t column, struct cell c) {
    if (column >= g->lens[row]) {
        struct cell *cells = arena_zalloc(&g->arena, ((size_t)g->n_columns + 8) * sizeof *cells);
        if (g->lens[row]) memcpy(cells, g->rows[row], g->lens[row] * sizeof *cells);
        g->rows[row] = cells;
        g->lens[row] = g->n_columns + 8;
    }
    g->rows[row][column] = c;
}

static int add_row(struct grid *g, const struct answer_hit *hit, struct selection *s, uint32_t row,
                   struct buf *text, struct buf *scratch, struct err *err) {
    struct jval *doc;
    uint32_t at = 0;
    buf_clear(text);
    int r = selection_add(s, hit, text, err);
    arena_reset(&s->arena);
    if (!r) r = jval_parse(&s->arena, buf_str(text), text->len, &doc, err);
    if (r) return r;
    for (uint32_t i = 0; i < s->include.n; i++) {
        const struct path *p = &s->include.all[i];
        set_cell(g, row, i, cell_of(g, value_at(&s->arena, doc, p->s, p->len), scratch));
    }
    for (const struct jval *m = s->include.n ? NULL : doc->first; m && !r; m = m->next, at++) {
        r = column_of(g, m, at, &at, err);
        if (!r) set_cell(g, row, at, cell_of(g, m, scratch));
    }
    return r;
}

static int fill(struct grid *g, const struct answer *a, struct selection *s, struct err *err) {
    struct buf text = BUF_INIT, scratch = BUF_INIT;
    int r = 0;
    g->n_rows = a->n_hits;
    g->rows = xcalloc((size_t)a->n_hits + 1, sizeof *g->rows);
    g->lens = xcalloc((size_t)a->n_hits + 1, sizeof *g->lens);
    for (uint32_t i = 0; i < s->include.n && !r; i++)
        r = add_column(g, s->include.all[i].s, s->include.all[i].len, err);
    bool id = true;
    for (uint32_t i = 0; i < s->exclude.n; i++)
        id &= s->exclude.all[i].len != 2 || memcmp(s->exclude.all[i].s, "id", 2);
    if (!s->include.n && id) r = add_column(g, "id", 2, err);
    for (uint32_t i = 0; i < a->n_hits && !r; i++) r = add_row(g, &a->hits[i], s, i, &text, &scratch, err);
    for (uint32_t i = 0; i < g->n_columns; i++)
        for (size_t j = 0; j < g->columns[i].len; j++)
            if (g->columns[i].s[j] == (char)PATH_LITERAL_DOT) g->columns[i].s[j] = '.';
    buf_release(&text);
    buf_release(&scratch);
    return r;
}

static struct cell cell_at(const struct grid *g, uint32_t row, uint32_t column) {
    return column < g->lens[row] ? g->rows[row][column] : (struct cell){0};
}

/* ---- csv (RFC 4180, lines end in \n) and tsv (\t \n \r \\ escaped) ---- */

static void add_csv(struct buf *out, struct cell c) {
    bool quote = c.s && !c.len;
    for (uint32_t i = 0; i < c.len; i++) quote |= c.s[i] && strchr(",\"\r\n", c.s[i]) != NULL;
    if (c.len) quote |= c.s[0] == ' ' || c.s[c.len - 1] == ' ';
    if (!quote) {
        buf_add(out, c.s, c.len);
        return;
    }
    buf_addc(out, '"');
    for (uint32_t i = 0; i < c.len; i++) {
        if (c.s[i] == '"') buf_addc(out, '"');
        buf_addc(out, c.s[i]);
    }
    buf_addc(out, '"');
}

static void add_tsv(struct buf *out, struct cell c) {
    static const char from[] = "\t\n\r\\", to[] = "tnr\\";
    for (uint32_t i = 0; i < c.len; i++) {
        const char *at = c.s[i] ? strchr(from, c.s[i]) : NULL;
        if (at) buf_addc(out, '\\');
        buf_addc(out, at ? to[at - from] : c.s[i]);
    }
}

static struct cell name_cell(const struct grid *g, uint32_t column) {
    return (struct cell){.s = g->columns[column].s, .len = (uint32_t)g->columns[column].len};
}

static void write_separated(const struct grid *g, bool tabs, struct buf *out) {
    void (*add)(struct buf *, struct cell) = tabs ? add_tsv : add_csv;
    for (uint32_t row = 0; row <= g->n_rows; row++) {
        for (uint32_t i = 0; i < g->n_columns; i++) {
            if (i) buf_addc(out, tabs ? '\t' : ',');
            add(out, row ? cell_at(g, row - 1, i) : name_cell(g, i));
        }
        buf_addc(out, '\n');
    }
}

/* ---- table ---- */

/* Columns of a terminal that a character takes; control characters are shown as a space. */
static unsigned char_width(UChar32 c) {
    if (c < 0x300) return c == 0xad ? 0 : 1;
    int type = u_charType(c);
    if (type == U_NON_SPACING_MARK || type == U_ENCLOSING_MARK || type == U_FORMAT_CHAR) return 0;
    if (c >= 0x1160 && c <= 0x11ff) return 0; /* Hangul vowels and finals join the syllable before */
    int east = u_getIntPropertyValue(c, UCHAR_EAST_ASIAN_WIDTH);
    return east == U_EA_WIDE || east == U_EA_FULLWIDTH ? 2 : 1;
}

/* Adds the text, cut to at most `max` columns, the last one then "…"; returns the columns used. out may be
 * NULL. */
static unsigned add_cut(struct buf *out, struct cell c, unsigned max) {
    unsigned width = 0, fits = 0;
    int32_t i = 0, fits_len = 0, len = (int32_t)c.len;
    UChar32 ch;
    while (i < len && width <= max) {
        if (width < max) fits = width, fits_len = i;
        U8_NEXT_OR_FFFD((const uint8_t *)c.s, i, len, ch);
        width += char_width(ch);
        if (width < max) fits = width, fits_len = i;
    }
    bool cut = width > max;
    int32_t end = cut ? fits_len : len;
    for (int32_t k = 0; out && k < end; k++) {
        bool control = (uint8_t)c.s[k] < 0x20 || c.s[k] == 0x7f;
        bool high = (uint8_t)c.s[k] == 0xc2 && k + 1 < end && (uint8_t)c.s[k + 1] < 0xa0; /* U+0080..9F */
        buf_addc(out, control || high ? ' ' : c.s[k]);
        k += high;
    }
    if (out && cut) buf_adds(out, "…");
    return cut ? fits + 1 : width;
}

static void pad(struct buf *out, unsigned n) {
    while (n--) buf_addc(out, ' ');
}

static void write_line(const struct grid *g, uint32_t row, const unsigned *widths, const bool *right,
                       struct buf *out) {
    for (uint32_t i = 0; i < g->n_columns; i++) {
        struct cell c = row ? cell_at(g, row - 1, i) : name_cell(g, i);
        unsigned used = add_cut(NULL, c, CELL_WIDTH_MAX);
        if (i) pad(out, GAP);
        if (right[i]) pad(out, widths[i] - used);
        add_cut(out, c, CELL_WIDTH_MAX);
        if (!right[i] && i + 1 < g->n_columns) pad(out, widths[i] - used);
    }
    while (out->len && out->data[out->len - 1] == ' ') out->len--;
    buf_addc(out, '\n');
}

static void write_rule(const struct grid *g, const unsigned *widths, struct buf *out) {
    for (uint32_t i = 0; i < g->n_columns; i++) {
        if (i) pad(out, GAP);
        for (unsigned k = 0; k < widths[i]; k++) buf_addc(out, '-');
    }
    buf_addc(out, '\n');
}

static void write_table(const struct grid *g, struct buf *out) {
    unsigned *widths = xcalloc((size_t)g->n_columns + 1, sizeof *widths);
    bool *right = xcalloc((size_t)g->n_columns + 1, sizeof *right);
    for (uint32_t i = 0; i < g->n_columns; i++) {
        bool numbers = true, any = false;
        widths[i] = add_cut(NULL, name_cell(g, i), CELL_WIDTH_MAX);
        for (uint32_t row = 0; row < g->n_rows; row++) {
            struct cell c = cell_at(g, row, i);
            widths[i] = MAX(widths[i], add_cut(NULL, c, CELL_WIDTH_MAX));
            any |= c.s != NULL;
            numbers &= !c.s || c.number;
        }
        right[i] = any && numbers;
    }
    write_line(g, 0, widths, right, out);
    write_rule(g, widths, out);
    for (uint32_t row = 1; row <= g->n_rows; row++) write_line(g, row, widths, right, out);
    free(widths);
    free(right);
}

int answer_format_table(const struct answer *a, enum answer_format format, struct selection *s,
                        struct buf *out, struct err *err) {
    struct grid g = {0};
    int r = fill(&g, a, s, err);
    if (!r && format == FORMAT_TABLE)
        write_table(&g, out);
    else if (!r)
        write_separated(&g, format == FORMAT_TSV, out);
    free(g.columns);
    free(g.rows);
    free(g.lens);
    arena_release(&g.arena);
    return r;
}
