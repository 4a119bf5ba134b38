/* Finding where records end: lines, JSON values, array elements and CSV rows, in pieces of any size. */
#include "fn/decode_split.h"

static const char PROBE[] = "{ \"docs\" : [ "; /* a blank stands for any white space */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void split_init(struct split *s, enum decode_format format) {
    bool rows = format == DECODE_CSV || format == DECODE_TSV;
    *s = (struct split){.format = format,
                        .state = rows ? SPLIT_ROW : SPLIT_START,
                        .first = true,
                        .field_start = true,
                        .separator = format == DECODE_TSV ? '\t' : ',',
                        .line = 1,
                        .start_line = 1};
}

static void begin_value(struct split *s, enum split_state state) {
    s->state = state;
    s->start_line = s->line;
    s->depth = 0;
    s->in_string = s->escape = false;
}

/* A record's first byte outside an array. Returns the bytes consumed: 1 for the bracket that opens the array.
 */
static size_t begin_record(struct split *s, char c) {
    bool first = s->first;
    s->first = false;
    if (first && c == '[') {
        s->state = SPLIT_GAP;
        s->in_docs = false;
        return 1;
    }
    if (first && c == '{') {
        s->state = SPLIT_PROBE;
        s->start_line = s->line;
        s->probe_at = 0;
        return 0;
    }
    bool value = s->format == DECODE_JSON && !s->by_line && (c == '{' || c == '[' || c == '"');
    begin_value(s, value ? SPLIT_VALUE : SPLIT_LINE);
    return 0;
}

static size_t begin_element(struct split *s, char c) {
    if (c == ']') {
        s->state = s->in_docs ? SPLIT_AFTER : SPLIT_START;
        s->depth = 1;
        s->in_string = s->escape = false;
        return 1;
    }
    begin_value(s, c == '{' || c == '[' || c == '"' ? SPLIT_ELEMENT : SPLIT_SCALAR);
    return 0;
}

/* The brackets and strings of a value. Returns true when the value ends with c. A newline inside a string
 * ends it too: it is malformed there, and what follows is better read from the next line on. */
static inline bool step_value(struct split *s, char c) {
    if (c == '\n') {
        s->line++;
        if (s->in_string) return true;
    }
    if (s->in_string) {
        if (s->escape)
            s->escape = false;
        else if (c == '\\')
            s->escape = true;
        else if (c == '"') {
            s->in_string = false;
            return s->depth == 0;
        }
        return false;
    }
    if (c == '"')
        s->in_string = true;
    else if (c == '{' || c == '[')
        s->depth++;
    else if (c == '}' || c == ']')
        return s->depth <= 1 || --s->depth == 0;
    return false;
}

size_t split_gap(struct split *s, const char *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        char c = p[i];
        if (s->state == SPLIT_AFTER) {
            i++;
            if (step_value(s, c)) s->state = SPLIT_START;
            continue;
        }
        /* The first value stood on one line, and a newline follows: a file of lines. */
        if (s->value_ended && c != ' ' && c != '\t' && c != '\r') {
            s->by_line = c == '\n';
            s->value_ended = false;
        }
        if (is_space(c) || (c == ',' && s->state == SPLIT_GAP)) {
            if (c == '\n') s->line++;
            i++;
            continue;
        }
        i += s->state == SPLIT_GAP ? begin_element(s, c) : begin_record(s, c);
        if (s->state != SPLIT_GAP && s->state != SPLIT_START && s->state != SPLIT_AFTER) break;
    }
    return i;
}

static size_t scan_line(struct split *s, const char *p, size_t n, bool *ret_end, size_t *ret_skip) {
    const char *nl = memchr(p, '\n', n);
    if (!nl) return n;
    *ret_end = true;
    *ret_skip = 1;
    s->line++;
    s->state = SPLIT_START;
    return (size_t)(nl - p);
}

static size_t scan_value(struct split *s, const char *p, size_t n, bool *ret_end) {
    for (size_t i = 0; i < n; i++) {
        if (!step_value(s, p[i])) continue;
        *ret_end = true;
        if (s->state == SPLIT_ELEMENT) {
            s->state = SPLIT_GAP;
        } else {
            s->state = SPLIT_START;
            s->value_ended = !s->by_line && s->line == s->start_line && !s->many;
            s->many = true;
        }
        return i + 1;
    }
    return n;
}

static size_t scan_scalar(struct split *s, const char *p, size_t n, bool *ret_end) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] != ',' && p[i] != ']' && p[i] != '\n') continue;
        *ret_end = true;
        s->state = SPLIT_GAP;
        return i;
    }
    return n;
}

static size_t scan_row(struct split *s, const char *p, size_t n, bool *ret_end, size_t *ret_skip) {
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (s->in_string) {
            if (c == '\n')
                s->line++;
            else if (c == '"')
                s->in_string = false, s->after_quote = true;
            continue;
        }
        bool doubled = s->after_quote && c == '"';
        bool opens = s->field_start && c == '"';
        s->after_quote = false;
        s->field_start = c == s->separator;
        if (doubled || opens) {
            s->in_string = true;
        } else if (c == '\n') {
            s->field_start = true;
            s->line++;
            *ret_end = true;
            *ret_skip = 1;
            return i;
        }
    }
    return n;
}

size_t split_scan(struct split *s, const char *p, size_t n, bool *ret_end, size_t *ret_skip) {
    *ret_end = false;
    *ret_skip = 0;
    switch (s->state) {
    case SPLIT_VALUE:
    case SPLIT_ELEMENT:
        return scan_value(s, p, n, ret_end);
    case SPLIT_SCALAR:
        return scan_scalar(s, p, n, ret_end);
    case SPLIT_ROW:
        return scan_row(s, p, n, ret_end, ret_skip);
    default:
        return scan_line(s, p, n, ret_end, ret_skip);
    }
}

int split_probe(struct split *s, char c) {
    if (PROBE[s->probe_at] == ' ') {
        if (is_space(c)) return 0;
        s->probe_at++;
    }
    if (s->probe_at == sizeof PROBE - 1) {
        if (c != '{' && c != ']') goto ordinary;
        s->state = SPLIT_GAP;
        s->in_docs = true;
        return 1;
    }
    if (c == PROBE[s->probe_at]) {
        s->probe_at++;
        return 0;
    }
ordinary:
    s->state = SPLIT_START;
    return -1;
}
