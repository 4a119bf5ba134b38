/* Lucene's standard query syntax to a syntax tree.
 *
 *   query  = clause { [AND | OR | && | "||"] clause }
 *   clause = [+ | - | NOT | !] [field (":" | "<" | "<=" | ">" | ">=")] primary { ^boost | ~n | @n }
 *   primary= word | "phrase" | /regex/ | "(" query ")" | ("[" | "{") bound TO bound ("]" | "}")
 *
 * AND makes the clauses on its two sides required unless they are prohibited, OR adds nothing: the flattening
 * of the classic parser (QueryParserBase.addClause with the default operator OR).
 */
#include "query/fuzzy.h"
#include "query/query_internal.h"
#include <ctype.h>
#include <math.h>

struct parser {
    struct arena *arena;
    const char *text, *p, *end;
    unsigned depth;
    uint32_t n_nodes;
    struct err *err;
};

static int parse_query(struct parser *p, struct syntax_text field, bool group, struct syntax **ret);

/* ---- characters ---- */

uint32_t lucene_column(const char *text, size_t offset) {
    uint32_t column = 1;
    for (size_t i = 0; i < offset; i++) column += ((unsigned char)text[i] & 0xc0) != 0x80;
    return column;
}

static int fail_at(struct parser *p, const char *at, const char *expected) {
    return err_at(p->err, ERR_INVALID, 1, lucene_column(p->text, (size_t)(at - p->text)), "%s", expected);
}

/* Length of the white space at s, 0 if none: ASCII's and the ideographic space. */
static size_t space_len(const char *s, const char *end) {
    if (s >= end) return 0;
    if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r' || *s == '\f') return 1;
    return end - s >= 3 && !memcmp(s, "\xe3\x80\x80", 3) ? 3 : 0;
}

static const char *skip_space(const char *s, const char *end) {
    for (size_t n; (n = space_len(s, end));) s += n;
    return s;
}

/* Characters with a meaning; those of the first case have it only where a term could begin. */
static bool is_special(char c, bool inside) {
    switch (c) {
    case '+':
    case '-':
    case '/':
        return !inside;
    case '!':
    case '(':
    case ')':
    case ':':
    case '^':
    case '[':
    case ']':
    case '"':
    case '{':
    case '}':
    case '~':
    case '<':
    case '>':
    case 0:
        return true;
    default:
        return false;
    }
}

static bool is_term_start(const char *s, const char *end) {
    return s < end && !space_len(s, end) && !is_special(*s, false);
}

static bool is_term_char(const char *s, const char *end) {
    return s < end && !space_len(s, end) && !is_special(*s, true);
}

/* The end of the term at s, escapes included. */
static const char *term_end(const char *s, const char *end) {
    const char *e = s;
    while (is_term_char(e, end)) e += *e == '\\' && e + 1 < end ? 2 : 1;
    return e;
}

static bool term_is(const char *s, const char *e, const char *word) {
    return (size_t)(e - s) == strlen(word) && !memcmp(s, word, strlen(word));
}

/* ---- escapes ---- */

static int hex4(const char *s, const char *end, uint32_t *ret) {
    uint32_t v = 0;
    if (end - s < 4) return -1;
    for (int i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)s[i])) return -1;
        v = v * 16 + (uint32_t)(isdigit((unsigned char)s[i]) ? s[i] - '0' : (s[i] | 32) - 'a' + 10);
    }
    *ret = v;
    return 0;
}

static char *put_utf8(char *to, uint32_t c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* \uXXXX at s (after the u), with its second half if it is a surrogate. Returns where it ends, NULL if
 * malformed. */
static const char *unicode_escape(const char *s, const char *end, uint32_t *ret) {
    uint32_t hi, lo;
    if (hex4(s, end, &hi)) return NULL;
    s += 4;
    if (hi >= 0xdc00 && hi < 0xe000) return NULL;
    if (hi >= 0xd800 && hi < 0xdc00) {
        if (end - s < 6 || s[0] != '\\' || s[1] != 'u' || hex4(s + 2, end, &lo) || lo < 0xdc00 ||
            lo >= 0xe000)
            return NULL;
        hi = 0x10000 + ((hi - 0xd800) << 10) + (lo - 0xdc00);
        s += 6;
    }
    *ret = hi;
    return s;
}

/* Takes the escapes out of [s, e). pattern: unescaped * and ? keep their meaning, literal ones (and \) a
 * backslash. */
static int unescape(struct parser *p, const char *s, const char *e, bool pattern, struct syntax_text *ret) {
    char *out = arena_alloc(p->arena, (size_t)(e - s) * 2 + 1), *to = out;
    while (s < e) {
        uint32_t c = (unsigned char)*s;
        if (*s != '\\') {
            *to++ = *s++;
            continue;
        }
        const char *at = s++;
        if (s == e) return fail_at(p, at, "expected a character after \"\\\"");
        if (*s == 'u') {
            s = unicode_escape(s + 1, e, &c);
            if (!s) return fail_at(p, at, "expected four hex digits of a character after \"\\u\"");
        } else {
            c = (unsigned char)*s++;
        }
        if (pattern && (c == '*' || c == '?' || c == '\\')) *to++ = '\\';
        if (at[1] == 'u')
            to = put_utf8(to, c);
        else
            *to++ = (char)c; /* the first byte of a character; the rest follows as it is */
    }
    *to = '\0';
    *ret = (struct syntax_text){.s = out, .len = (uint32_t)(to - out)};
    return 0;
}

/* ---- nodes ---- */

static int new_node(struct parser *p, enum syntax_kind kind, const char *at, struct syntax_text field,
                    struct syntax **ret) {
    if (++p->n_nodes > 4 * QUERY_MAX_CLAUSES) return fail_at(p, at, "the query has more than 4096 clauses");
    struct syntax *s = arena_zalloc(p->arena, sizeof *s);
    s->kind = kind;
    s->boost = 1;
    s->offset = (uint32_t)(at - p->text);
    s->field = field;
    *ret = s;
    return 0;
}

static void add_clause(struct parser *p, struct syntax *b, enum occur occur, struct syntax *node) {
    if (b->n_clauses == b->cap_clauses) {
        uint32_t cap = b->cap_clauses ? b->cap_clauses * 2 : 4;
        struct syntax_clause *more = arena_alloc(p->arena, cap * sizeof *more);
        if (b->n_clauses) memcpy(more, b->clauses, b->n_clauses * sizeof *more);
        b->clauses = more;
        b->cap_clauses = cap;
    }
    b->clauses[b->n_clauses++] = (struct syntax_clause){.occur = occur, .node = node};
}

/* digits [. digits] */
static int parse_number(struct parser *p, double *ret) {
    const char *s = p->p;
    char text[64];
    while (p->p < p->end && isdigit((unsigned char)*p->p)) p->p++;
    if (p->p < p->end && *p->p == '.') p->p++;
    while (p->p < p->end && isdigit((unsigned char)*p->p)) p->p++;
    size_t len = (size_t)(p->p - s);
    if (!len || (len == 1 && *s == '.')) return fail_at(p, s, "expected a number such as 2 or 0.5");
    if (len >= sizeof text) return fail_at(p, s, "expected a shorter number");
    memcpy(text, s, len);
    text[len] = '\0';
    *ret = strtod(text, NULL);
    return 0;
}

static int parse_boost(struct parser *p, struct syntax *node) {
    double boost;
    const char *at = ++p->p;
    int r = parse_number(p, &boost);
    if (r) return r;
    if (boost > QUERY_MAX_BOOST) return fail_at(p, at, "expected a boost of at most 1e18");
    node->boost *= boost;
    return 0;
}

static int parse_tilde(struct parser *p, struct syntax *node) {
    const char *at = p->p++;
    double n = 0;
    bool number = p->p < p->end && (isdigit((unsigned char)*p->p) || *p->p == '.');
    int r = number ? parse_number(p, &n) : 0;
    if (r) return r;
    if (node->kind == SYNTAX_WORD) {
        if (n > 1 && n != floor(n)) return fail_at(p, at, "expected a whole number of edits after \"~\"");
        node->kind = SYNTAX_FUZZY;
        node->similarity = number ? (float)n : FUZZY_MAX_EDITS;
        return 0;
    }
    if (node->kind != SYNTAX_QUOTED) return fail_at(p, at, "expected \"~\" only after a word or a phrase");
    if (!number) return fail_at(p, p->p, "expected a number after \"~\"");
    if (n > INT32_MAX) return fail_at(p, at, "expected a smaller number after \"~\"");
    node->slop = (uint32_t)n;
    return 0;
}

static int parse_min_match(struct parser *p, struct syntax *node) {
    double n;
    const char *at = ++p->p;
    int r = parse_number(p, &n);
    if (r) return r;
    if (n != floor(n) || n > QUERY_MAX_CLAUSES) return fail_at(p, at, "expected a whole number after \"@\"");
    node->min_should_match = (uint32_t)n;
    return 0;
}

/* ^boost, ~n and, right after a group, @n: each at most once. */
static int parse_suffixes(struct parser *p, struct syntax *node, bool group) {
    bool boost = false, tilde = false, min = false;
    for (;;) {
        const char *at = skip_space(p->p, p->end);
        int r = 0;
        if (group && !min && p->p < p->end && *p->p == '@')
            min = true, r = parse_min_match(p, node);
        else if (at < p->end && *at == '^' && !boost)
            boost = true, p->p = at, r = parse_boost(p, node);
        else if (at < p->end && *at == '~' && !tilde)
            tilde = true, p->p = at, r = parse_tilde(p, node);
        else
            return 0;
        if (r) return r;
    }
}

/* ---- primaries ---- */

/* The end of a quoted run that begins at s: where its closing mark stands, NULL if it has none. */
static const char *quoted_end(const char *s, const char *end, char mark) {
    for (s++; s < end && *s != mark; s++)
        if (*s == '\\' && s + 1 < end) s++;
    return s < end ? s : NULL;
}

static int parse_quoted(struct parser *p, struct syntax_text field, struct syntax **ret) {
    const char *e = quoted_end(p->p, p->end, '"');
    if (!e) return fail_at(p, p->p, "expected a closing quote for the phrase that begins here");
    int r = new_node(p, SYNTAX_QUOTED, p->p, field, ret);
    if (!r) r = unescape(p, p->p + 1, e, false, &(*ret)->text);
    p->p = e + 1;
    return r ? r : parse_suffixes(p, *ret, false);
}

static int parse_regex(struct parser *p, struct syntax_text field, struct syntax **ret) {
    const char *e = quoted_end(p->p, p->end, '/');
    if (!e)
        return fail_at(
            p, p->p, "expected a closing \"/\" for the expression that begins here (or \"\\/\" for a slash)");
    int r = new_node(p, SYNTAX_REGEX, p->p, field, ret);
    if (r) return r;
    (*ret)->text = (struct syntax_text){.s = p->p + 1, .len = (uint32_t)(e - p->p - 1)};
    p->p = e + 1;
    return parse_suffixes(p, *ret, false);
}

static int parse_group(struct parser *p, struct syntax_text field, struct syntax **ret) {
    const char *at = p->p++;
    if (++p->depth > QUERY_MAX_DEPTH) return fail_at(p, at, "groups are nested deeper than 100");
    int r = parse_query(p, field, true, ret);
    if (r) return r;
    p->depth--;
    if (p->p == p->end) return fail_at(p, at, "expected a \")\" for the group that begins here");
    p->p++;
    return parse_suffixes(p, *ret, true);
}

/* A bound up to white space or a closing bracket, or quoted; an unquoted * is open. */
static int parse_bound(struct parser *p, struct syntax_text *ret) {
    const char *s = p->p = skip_space(p->p, p->end), *e;
    if (s < p->end && *s == '"') {
        e = quoted_end(s, p->end, '"');
        if (!e) return fail_at(p, s, "expected a closing quote");
        p->p = e + 1;
        return unescape(p, s + 1, e, false, ret);
    }
    for (e = s; e < p->end && !space_len(e, p->end) && *e != ']' && *e != '}'; e++)
        if (*e == '\\' && e + 1 < p->end) e++;
    if (e == s) return fail_at(p, s, "expected a value, a quoted value or *");
    p->p = e;
    *ret = (struct syntax_text){0};
    return term_is(s, e, "*") ? 0 : unescape(p, s, e, false, ret);
}

static int parse_range(struct parser *p, struct syntax_text field, struct syntax **ret) {
    int r = new_node(p, SYNTAX_RANGE, p->p, field, ret);
    if (r) return r;
    struct syntax *s = *ret;
    s->lo_inclusive = *p->p++ == '[';
    if ((r = parse_bound(p, &s->lo))) return r;
    p->p = skip_space(p->p, p->end);
    if (p->end - p->p < 3 || memcmp(p->p, "TO", 2) || !space_len(p->p + 2, p->end))
        return fail_at(p, p->p, "expected TO between the bounds of the range");
    p->p += 2;
    if ((r = parse_bound(p, &s->hi))) return r;
    p->p = skip_space(p->p, p->end);
    if (p->p == p->end || (*p->p != ']' && *p->p != '}'))
        return fail_at(p, p->p, "expected ] or } at the end of the range");
    s->hi_inclusive = *p->p++ == ']';
    return parse_suffixes(p, s, false);
}

/* The operator word at the place, if it is one: 'A'nd, 'O'r, 'N'ot, else 0. */
static char operator_at(const char *s, const char *end, const char **ret_end) {
    if (!is_term_start(s, end)) return 0;
    const char *e = *ret_end = term_end(s, end);
    if (term_is(s, e, "AND") || term_is(s, e, "&&")) return 'A';
    if (term_is(s, e, "OR") || term_is(s, e, "||")) return 'O';
    return term_is(s, e, "NOT") ? 'N' : 0;
}

/* A value after < <= > >=: a word (a sign is allowed) or a quoted text. */
static int parse_comparison(struct parser *p, struct syntax_text field, struct syntax **ret) {
    const char *at = p->p;
    bool less = *p->p++ == '<', equal = p->p < p->end && *p->p == '=';
    struct syntax_text value;
    p->p = skip_space(p->p + equal, p->end);
    const char *s = p->p, *e = s, *word;
    bool quoted = s < p->end && *s == '"';
    int r = new_node(p, SYNTAX_RANGE, at, field, ret);
    if (r) return r;
    if (quoted) {
        e = quoted_end(s, p->end, '"');
        if (!e) return fail_at(p, s, "expected a closing quote");
    } else if (is_term_char(s, p->end) && !operator_at(s, p->end, &word)) {
        e = term_end(s, p->end);
    }
    if (e == s) return fail_at(p, s, "expected a value to compare with");
    p->p = e + quoted;
    if ((r = unescape(p, s + quoted, e, false, &value))) return r;
    if (less)
        (*ret)->hi = value;
    else
        (*ret)->lo = value;
    (*ret)->hi_inclusive = !less || equal;
    (*ret)->lo_inclusive = less || equal;
    return parse_suffixes(p, *ret, false);
}

static bool has_wildcard(const char *s, const char *e) {
    for (; s < e; s++) {
        if (*s == '*' || *s == '?') return true;
        if (*s == '\\') s++;
    }
    return false;
}

static int parse_word(struct parser *p, struct syntax_text field, struct syntax **ret) {
    const char *s = p->p, *e = term_end(s, p->end);
    bool wildcard = has_wildcard(s, e);
    int r;
    p->p = e;
    if (term_is(s, e, "*"))
        r = new_node(p, field.s ? SYNTAX_EXISTS : SYNTAX_WILDCARD, s, field, ret);
    else
        r = new_node(p, wildcard ? SYNTAX_WILDCARD : SYNTAX_WORD, s, field, ret);
    if (!r) r = unescape(p, s, e, wildcard, &(*ret)->text);
    return r ? r : parse_suffixes(p, *ret, false);
}

/* ---- clauses ---- */

static const char expected_clause[] = "expected a word, a phrase, field:value, a range or a group (put "
                                      "\"\\\" before a special character, or quotes around)";

static int parse_exists(struct parser *p, const char *at, struct syntax **ret) {
    const char *s = p->p = skip_space(p->p, p->end), *e;
    bool quoted = s < p->end && *s == '"';
    if (quoted)
        e = quoted_end(s, p->end, '"');
    else
        e = is_term_start(s, p->end) ? term_end(s, p->end) : NULL;
    if (!e) return fail_at(p, s, "expected a field after _exists_:");
    int r = new_node(p, SYNTAX_EXISTS, at, (struct syntax_text){0}, ret);
    if (!r) r = unescape(p, s + quoted, e, false, &(*ret)->field);
    p->p = e + quoted;
    return r ? r : parse_suffixes(p, *ret, false);
}

static int parse_primary(struct parser *p, struct syntax_text field, bool after_field, struct syntax **ret) {
    const char *s = p->p = skip_space(p->p, p->end);
    char c = s < p->end ? *s : '\0';
    bool sign = after_field && s + 1 < p->end && c == '-' && (isdigit((unsigned char)s[1]) || s[1] == '.');
    if (c == '(') return parse_group(p, field, ret);
    if (c == '"') return parse_quoted(p, field, ret);
    if (c == '/') return parse_regex(p, field, ret);
    if (c == '[' || c == '{') return parse_range(p, field, ret);
    if (after_field && (c == '<' || c == '>')) return parse_comparison(p, field, ret);
    const char *e;
    bool word = is_term_start(s, p->end) && !operator_at(s, p->end, &e);
    if (sign || word) return parse_word(p, field, ret);
    if (c == ':')
        return fail_at(p, s,
                       "expected no \":\" here (within a value it takes a backslash, or quotes around all)");
    return fail_at(p, s, after_field ? "expected a value after the field" : expected_clause);
}

/* *:* ; after the star of "*:" */
static int parse_all(struct parser *p, const char *at, struct syntax **ret) {
    const char *s = skip_space(p->p, p->end), *e = is_term_start(s, p->end) ? term_end(s, p->end) : s;
    if (!term_is(s, e, "*")) return fail_at(p, s, "expected * (*:* matches every document)");
    p->p = e;
    int r = new_node(p, SYNTAX_ALL, at, (struct syntax_text){0}, ret);
    return r ? r : parse_suffixes(p, *ret, false);
}

/* A primary with or without a field before it. */
static int parse_clause(struct parser *p, struct syntax_text field, struct syntax **ret) {
    const char *s = p->p = skip_space(p->p, p->end);
    if (!is_term_start(s, p->end)) return parse_primary(p, field, false, ret);
    const char *e = term_end(s, p->end), *op = skip_space(e, p->end);
    if (op == p->end || !strchr(":<>", *op)) return parse_word(p, field, ret);
    p->p = op + (*op == ':');
    if (*op == ':' && term_is(s, e, "*")) return parse_all(p, s, ret);
    if (*op == ':' && term_is(s, e, "_exists_")) return parse_exists(p, s, ret);
    int r = unescape(p, s, e, false, &field);
    if (!r) r = parse_primary(p, field, true, ret);
    if (!r) (*ret)->offset = (uint32_t)(s - p->text);
    return r;
}

static enum occur parse_modifier(struct parser *p) {
    const char *e;
    p->p = skip_space(p->p, p->end);
    char c = p->p < p->end ? *p->p : '\0';
    if (c == '+' || c == '-' || c == '!') {
        p->p++;
        return c == '+' ? OCCUR_MUST : OCCUR_MUST_NOT;
    }
    if (operator_at(p->p, p->end, &e) != 'N') return OCCUR_SHOULD;
    p->p = e;
    return OCCUR_MUST_NOT;
}

/* One clause and the operator before it. */
static int parse_member(struct parser *p, struct syntax_text field, struct syntax *b) {
    struct syntax *node = NULL;
    const char *e;
    char op = operator_at(p->p, p->end, &e);
    if ((op == 'A' || op == 'O') && !b->n_clauses) return fail_at(p, p->p, expected_clause);
    if (op == 'A' || op == 'O') p->p = e;
    enum occur occur = parse_modifier(p);
    p->p = skip_space(p->p, p->end);
    if (operator_at(p->p, p->end, &e)) return fail_at(p, p->p, expected_clause);
    int r = parse_clause(p, field, &node);
    if (r) return r;
    if (op == 'A' && b->clauses[b->n_clauses - 1].occur == OCCUR_SHOULD)
        b->clauses[b->n_clauses - 1].occur = OCCUR_MUST;
    if (op == 'A' && occur == OCCUR_SHOULD) occur = OCCUR_MUST;
    add_clause(p, b, occur, node);
    return 0;
}

static int parse_query(struct parser *p, struct syntax_text field, bool group, struct syntax **ret) {
    int r = new_node(p, SYNTAX_BOOL, p->p, field, ret);
    while (!r) {
        p->p = skip_space(p->p, p->end);
        bool ends = p->p == p->end || (group && *p->p == ')');
        if (ends && !(*ret)->n_clauses) return fail_at(p, p->p, expected_clause);
        if (ends) return 0;
        r = parse_member(p, field, *ret);
    }
    return r;
}

int lucene_parse(struct arena *arena, const char *text, size_t len, unsigned depth, struct syntax **ret,
                 struct err *err) {
    struct parser p = {
        .arena = arena, .text = text, .p = text, .end = text + len, .depth = depth, .err = err};
    return parse_query(&p, (struct syntax_text){0}, false, ret);
}
