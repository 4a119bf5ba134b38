/* One CSV or TSV row (RFC 4180) to one JSON object, by the header row's names. */
#include "fn/decode_split.h"
#include "util/jval.h"

#include <math.h>
#include <stdio.h>

void csv_release(struct csv *c) {
    for (uint32_t i = 0; i < c->n_names; i++) free(c->names[i]);
    free(c->names);
    free(c->is_id);
    free(c->ends);
    free(c->quoted);
    buf_release(&c->cells);
    buf_release(&c->header);
}

static void end_cell(struct csv *c, bool quoted) {
    if (c->n_cells >= c->cells_cap) {
        c->cells_cap = c->cells_cap ? c->cells_cap * 2 : 32;
        c->ends = xrealloc(c->ends, c->cells_cap * sizeof *c->ends);
        c->quoted = xrealloc(c->quoted, c->cells_cap * sizeof *c->quoted);
    }
    c->ends[c->n_cells] = c->cells.len;
    c->quoted[c->n_cells++] = quoted;
}

/* One quoted cell; returns the position behind its closing quote, or 0 when there is none. */
static size_t take_quoted(struct csv *c, const char *row, size_t len, size_t i) {
    for (i++; i < len; i++) {
        if (row[i] != '"')
            buf_addc(&c->cells, row[i]);
        else if (i + 1 < len && row[i + 1] == '"')
            buf_addc(&c->cells, row[i++]);
        else
            return i + 1;
    }
    return 0;
}

static int split_cells(struct csv *c, const char *row, size_t len, struct err *err) {
    buf_clear(&c->cells);
    c->n_cells = 0;
    size_t i = 0;
    for (;;) {
        bool quoted = i < len && row[i] == '"';
        if (quoted) {
            i = take_quoted(c, row, len, i);
            if (!i) return err_set(err, ERR_JSON, "a quoted value has no closing quote");
            if (i < len && row[i] != c->separator)
                return err_at(err, ERR_JSON, 0, (uint32_t)i + 1, "text behind a closing quote");
        } else {
            size_t from = i;
            while (i < len && row[i] != c->separator) i++;
            buf_add(&c->cells, row + from, i - from);
        }
        end_cell(c, quoted);
        if (c->n_cells > DECODE_MAX_COLUMNS)
            return err_set(err, ERR_TOO_LARGE, "more than %d columns", DECODE_MAX_COLUMNS);
        if (i >= len) return 0;
        i++;
    }
}

static const char *cell_at(struct csv *c, uint32_t i, size_t *ret_len) {
    size_t from = i ? c->ends[i - 1] : 0;
    *ret_len = c->ends[i] - from;
    return (const char *)c->cells.data + from;
}

static int check_name(struct csv *c, const char *name, size_t len, struct err *err) {
    if (!len) return err_set(err, ERR_JSON, "column %u of the header has no name", c->n_names + 1);
    if (utf8_invalid(name, len)) return err_set(err, ERR_JSON, "the header is not UTF-8");
    return 0;
}

void csv_take_header(struct csv *c, const char *row, size_t len) {
    struct err *err = &c->header_err;
    c->has_header = true;
    buf_add(&c->header, row, len);
    if (split_cells(c, row, len, err)) goto out;
    c->names = xcalloc(c->n_cells, sizeof *c->names);
    c->is_id = xcalloc(c->n_cells, sizeof *c->is_id);
    for (uint32_t i = 0; i < c->n_cells; i++) {
        size_t n;
        const char *name = cell_at(c, i, &n);
        if (check_name(c, name, n, err)) goto out;
        struct buf b = BUF_INIT;
        buf_add_json_string(&b, name, n);
        buf_adds(&b, ":");
        buf_str(&b);
        c->is_id[i] = n == 2 && !memcmp(name, "id", 2);
        c->names[c->n_names++] = (char *)buf_detach(&b, NULL);
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(c->names[k], c->names[i])) continue;
            err_set(err, ERR_JSON, "the header names column %.200s twice", c->names[i]);
            goto out;
        }
    }
out:
    if (err->code) err_wrap(err, "bad header");
}

/* A JSON number that a double can hold, or true/false, by RFC 8259's grammar. */
static bool is_plain_value(const char *s, size_t len) {
    if ((len == 4 && !memcmp(s, "true", 4)) || (len == 5 && !memcmp(s, "false", 5))) return true;
    if (len == 0 || len > 64) return false;
    size_t i = s[0] == '-';
    size_t digits = i;
    while (i < len && s[i] >= '0' && s[i] <= '9') i++;
    if (i == digits || (s[digits] == '0' && i > digits + 1)) return false;
    if (i < len && s[i] == '.') {
        size_t from = ++i;
        while (i < len && s[i] >= '0' && s[i] <= '9') i++;
        if (i == from) return false;
    }
    if (i < len && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        if (i < len && (s[i] == '+' || s[i] == '-')) i++;
        size_t from = i;
        while (i < len && s[i] >= '0' && s[i] <= '9') i++;
        if (i == from) return false;
    }
    if (i != len) return false;
    char text[65];
    memcpy(text, s, len);
    text[len] = 0;
    return isfinite(strtod(text, NULL));
}

int csv_take_row(struct csv *c, const char *row, size_t len, struct buf *out, struct err *err) {
    buf_clear(out);
    if (c->header_err.code) return err_set(err, c->header_err.code, "%s", c->header_err.text);
    int r = split_cells(c, row, len, err);
    if (r) return r;
    if (c->n_cells != c->n_names)
        return err_set(err, ERR_JSON, "the row has %u values, the header has %u", c->n_cells, c->n_names);
    if (utf8_invalid((const char *)c->cells.data, c->cells.len))
        return err_set(err, ERR_JSON, "the row is not UTF-8");
    buf_adds(out, "{");
    for (uint32_t i = 0; i < c->n_cells; i++) {
        size_t n;
        const char *cell = cell_at(c, i, &n);
        if (!n) continue;
        if (out->len > 1) buf_addc(out, ',');
        buf_adds(out, c->names[i]);
        if (!c->quoted[i] && !c->is_id[i] && is_plain_value(cell, n))
            buf_add(out, cell, n);
        else
            buf_add_json_string(out, cell, n);
    }
    buf_adds(out, "}");
    return 0;
}
