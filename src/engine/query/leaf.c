/* Leaves of the syntax tree to checked nodes: which fields they address, analysis, values. */
#include "query/fuzzy.h"
#include "query/query_internal.h"
#include "query/regex.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

enum { NAMES_LISTED = 10 };

/* ---- analyzers: one set a thread ---- */

struct analyzers {
    struct analyzer_state *states[ANALYZER_COUNT];
};
static pthread_once_t analyzers_once = PTHREAD_ONCE_INIT;
static pthread_key_t analyzers_key;

static void analyzers_free(void *p) {
    struct analyzers *set = p;
    for (int a = 0; a < ANALYZER_COUNT; a++)
        if (set->states[a]) analyzer_free(set->states[a]);
    free(set);
}

static void analyzers_make_key(void) {
    if (pthread_key_create(&analyzers_key, analyzers_free)) abort();
}

static struct analyzer_state *analyzer_of_thread(enum analyzer kind) {
    pthread_once(&analyzers_once, analyzers_make_key);
    struct analyzers *set = pthread_getspecific(analyzers_key);
    if (!set) {
        set = xcalloc(1, sizeof *set);
        pthread_setspecific(analyzers_key, set);
    }
    if (!set->states[kind]) set->states[kind] = analyzer_new(kind);
    return set->states[kind];
}

/* Of a field with several: the first that is not `standard`, so that nothing is counted twice. */
static enum analyzer query_analyzer(const struct field *f) {
    unsigned special = f->analyzers & ~(1u << ANALYZER_STANDARD);
    return special ? (enum analyzer)__builtin_ctz(special) : ANALYZER_STANDARD;
}

/* ---- fields ---- */

static int unknown_field(struct compiler *c, const char *path, size_t len) {
    char list[320] = "";
    unsigned n = 0;
    for (uint32_t i = 0; i < c->schema->n_fields && n <= NAMES_LISTED; i++) {
        const struct field *f = &c->schema->fields[i];
        if (f->type == FIELD_OBJECT) continue;
        size_t at = strlen(list);
        bool last = n++ == NAMES_LISTED || at + f->path_len + 8 > sizeof list;
        snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", last ? "..." : f->path);
        if (last) break;
    }
    return compile_error(c, "no index on field \"%.*s\"; indexed fields: %s", err_shown(path, len), path,
                         list);
}

/* "title.english": the field by one of its analyzers. NULL when there is none. */
static const struct field *field_with_analyzer(struct compiler *c, const char *path, size_t len) {
    const char *dot = memrchr(path, '.', len);
    const struct field *f = dot ? schema_find(c->schema, path, (size_t)(dot - path)) : NULL;
    if (!f || f->type != FIELD_TEXT) return NULL;
    size_t n = len - (size_t)(dot + 1 - path);
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) {
        const char *name = analyzer_name(a);
        if (!(f->analyzers >> a & 1) || strlen(name) != n || memcmp(name, dot + 1, n) != 0) continue;
        struct field *one = arena_alloc(&c->query->arena, sizeof *one);
        *one = *f;
        one->analyzers = (uint8_t)(1u << a);
        return one;
    }
    return NULL;
}

int compile_field(struct compiler *c, const char *path, size_t len, const struct field **ret) {
    const struct field *f = schema_find(c->schema, path, len);
    if (!f) f = field_with_analyzer(c, path, len);
    if (!f) return unknown_field(c, path, len);
    *ret = f;
    return 0;
}

static struct query_node *field_node(struct compiler *c, enum query_kind kind, const struct field *f) {
    struct query_node *n = node_new(c, kind);
    n->field = arena_strndup(&c->query->arena, f->path, f->path_len);
    n->type = f->type;
    if (f->type == FIELD_TEXT) n->analyzer = query_analyzer(f);
    if (f->type == FIELD_VECTOR) {
        n->similarity = f->similarity;
        n->dimensions = f->dimensions;
    }
    return n;
}

static void set_terms(struct compiler *c, struct query_node *n, uint32_t count) {
    n->terms = arena_zalloc(&c->query->arena, count * sizeof *n->terms);
    n->n_terms = count;
}

static int term_node(struct compiler *c, enum query_kind kind, const struct field *f, const char *text,
                     size_t len, struct query_node **ret) {
    int r = compile_count(c);
    if (r) return r;
    struct query_node *n = field_node(c, kind, f);
    set_terms(c, n, 1);
    n->terms[0].text = arena_strndup(&c->query->arena, text, len);
    n->terms[0].len = (uint32_t)len;
    if (kind == QUERY_TERM) compile_term(c, n, n->terms);
    *ret = n;
    return 0;
}

/* ---- exists ---- */

static int exists_field(struct compiler *c, const struct field *f, struct query_node **ret) {
    int r = compile_count(c);
    if (r) return r;
    *ret = field_node(c, QUERY_EXISTS, f);
    if (f->type == FIELD_TEXT) (*ret)->analyzer = (enum analyzer)__builtin_ctz(f->analyzers);
    return 0;
}

/* An object exists where one of its leaves does. */
static int exists_object(struct compiler *c, const struct field *object, struct query_node **ret) {
    struct query_clause *clauses = arena_alloc(&c->query->arena, c->schema->n_fields * sizeof *clauses);
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->schema->n_fields; i++) {
        const struct field *f = &c->schema->fields[i];
        bool inside = f->path_len > object->path_len && !memcmp(f->path, object->path, object->path_len) &&
                      f->path[object->path_len] == '.';
        if (!inside || f->type == FIELD_OBJECT) continue;
        clauses[n].occur = OCCUR_SHOULD;
        int r = exists_field(c, f, &clauses[n].node);
        if (r) return r;
        n++;
    }
    *ret = n ? bool_new(c, clauses, n, 0) : node_new(c, QUERY_NONE);
    return 0;
}

/* ---- patterns ---- */

static void add_literal(struct compiler *c, const struct field *f, struct buf *literal, bool pattern,
                        struct buf *out) {
    struct buf normal = BUF_INIT;
    const struct buf *from = literal;
    if (f->type == FIELD_TEXT && literal->len) {
        analyzer_normalize(query_analyzer(f), (char *)literal->data, literal->len, &normal);
        from = &normal;
    }
    for (size_t i = 0; i < from->len; i++) {
        char ch = (char)from->data[i];
        if (pattern && (ch == '*' || ch == '?' || ch == '\\')) buf_addc(out, '\\');
        buf_addc(out, ch);
    }
    buf_release(&normal);
    buf_clear(literal);
}

/* Wildcards of a pattern, stars in a row counted once; ret_last: where the last wildcard stands. */
static unsigned count_wildcards(const char *s, size_t len, size_t *ret_last, bool *ret_literal) {
    unsigned n = 0;
    *ret_literal = false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '*' || s[i] == '?') {
            if (!(i && s[i] == '*' && n && *ret_last == i - 1 && s[i - 1] == '*')) n++;
            *ret_last = i;
        } else {
            *ret_literal = true;
            i += s[i] == '\\';
        }
    }
    return n;
}

/* The pattern with its literal runs normalised; a prefix comes without its star and escapes. */
static void normalize_pattern(struct compiler *c, const struct field *f, const char *s, size_t len,
                              bool prefix, struct buf *out) {
    struct buf literal = BUF_INIT;
    for (size_t i = 0; i < len; i++) {
        bool wild = s[i] == '*' || s[i] == '?';
        if (!wild) {
            i += s[i] == '\\' && i + 1 < len;
            buf_addc(&literal, s[i]);
            continue;
        }
        add_literal(c, f, &literal, !prefix, out);
        if (prefix) break;
        if (!(s[i] == '*' && i && s[i - 1] == '*' && out->len && out->data[out->len - 1] == '*'))
            buf_addc(out, s[i]);
    }
    add_literal(c, f, &literal, !prefix, out);
    buf_release(&literal);
}

static int pattern_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                        struct query_node **ret) {
    size_t last = 0;
    bool literal;
    unsigned n = count_wildcards(s->text.s, s->text.len, &last, &literal);
    if (!literal && !memchr(s->text.s, '?', s->text.len)) return exists_field(c, f, ret);
    bool prefix = n == 1 && last == s->text.len - 1 && s->text.s[last] == '*';
    buf_clear(&c->scratch);
    normalize_pattern(c, f, s->text.s, s->text.len, prefix, &c->scratch);
    return term_node(c, prefix ? QUERY_PREFIX : QUERY_WILDCARD, f, buf_str(&c->scratch), c->scratch.len, ret);
}

/* ---- fuzzy words and expressions ---- */

static int fuzzy_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                      struct query_node **ret) {
    buf_clear(&c->scratch);
    if (f->type == FIELD_TEXT)
        analyzer_normalize(query_analyzer(f), s->text.s, s->text.len, &c->scratch);
    else
        buf_add(&c->scratch, s->text.s, s->text.len);
    const char *word = buf_str(&c->scratch);
    uint32_t edits = fuzzy_edits(s->similarity, word, c->scratch.len);
    int r = term_node(c, edits ? QUERY_FUZZY : QUERY_TERM, f, word, c->scratch.len, ret);
    if (r || !edits) return r;
    (*ret)->edits = edits;
    compile_fuzzy(c, *ret);
    return 0;
}

static void fold_text(void *ctx, const char *s, size_t len, struct buf *out) {
    analyzer_normalize(query_analyzer(ctx), s, len, out);
}

static int regex_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                      struct query_node **ret) {
    size_t at;
    const char *why;
    const struct regex *x =
        regex_compile(&c->query->arena, s->text.s, s->text.len, f->type == FIELD_TEXT ? fold_text : NULL,
                      (void *)f, &c->regex_work, &at, &why);
    if (!x) {
        c->offset = (uint32_t)(s->text.s - c->source + (ptrdiff_t)at);
        return compile_error(c, "regular expression: %s", why);
    }
    int r = term_node(c, QUERY_REGEX, f, s->text.s, s->text.len, ret);
    if (!r) (*ret)->regex = x;
    return r;
}

/* ---- ranges ---- */

static const char *range_term(struct compiler *c, const struct field *f, struct syntax_text t,
                              uint32_t *ret_len) {
    if (!t.s) return NULL;
    buf_clear(&c->scratch);
    if (f->type == FIELD_TEXT)
        analyzer_normalize(query_analyzer(f), t.s, t.len, &c->scratch);
    else
        buf_add(&c->scratch, t.s, t.len);
    *ret_len = (uint32_t)c->scratch.len;
    return arena_strndup(&c->query->arena, buf_str(&c->scratch), c->scratch.len);
}

static int term_range_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                           struct query_node **ret) {
    int r = compile_count(c);
    if (r) return r;
    struct query_node *n = field_node(c, QUERY_TERM_RANGE, f);
    n->lo_text = range_term(c, f, s->lo, &n->lo_len);
    n->hi_text = range_term(c, f, s->hi, &n->hi_len);
    n->lo_inclusive = s->lo_inclusive;
    n->hi_inclusive = s->hi_inclusive;
    *ret = n;
    if (!n->lo_text || !n->hi_text) return 0;
    int order = memcmp(n->lo_text, n->hi_text, MIN(n->lo_len, n->hi_len));
    if (!order) order = (n->lo_len > n->hi_len) - (n->lo_len < n->hi_len);
    if (order > 0 || (!order && !(n->lo_inclusive && n->hi_inclusive))) *ret = node_new(c, QUERY_NONE);
    return 0;
}

static int parse_value(struct compiler *c, const struct field *f, struct syntax_text t,
                       struct value_bound *ret) {
    if (value_parse(f->type, t.s, t.len, ret)) return 0;
    return compile_error(c, "field \"%.*s\" is %s: expected %s, not \"%.*s\"", SHOWN(f->path),
                         field_type_name(f->type), value_expected(f->type), err_shown(t.s, t.len), t.s);
}

static int range_node(struct compiler *c, const struct field *f, __int128 lo, __int128 hi,
                      struct query_node **ret) {
    int r = compile_count(c);
    if (r) return r;
    if (lo < INT64_MIN) lo = INT64_MIN;
    if (hi > INT64_MAX) hi = INT64_MAX;
    *ret = lo > hi ? node_new(c, QUERY_NONE) : field_node(c, QUERY_RANGE, f);
    if (lo > hi) return 0;
    (*ret)->lo = (int64_t)lo;
    (*ret)->hi = (int64_t)hi;
    return 0;
}

static int value_range_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                            struct query_node **ret) {
    struct value_bound b;
    __int128 lo = INT64_MIN, hi = INT64_MAX;
    int r;
    if (s->lo.s) {
        if ((r = parse_value(c, f, s->lo, &b))) return r;
        lo = s->lo_inclusive ? b.ceil : b.floor + 1;
    }
    if (s->hi.s) {
        if ((r = parse_value(c, f, s->hi, &b))) return r;
        hi = s->hi_inclusive ? b.floor : b.ceil - 1;
    }
    return range_node(c, f, lo, hi, ret);
}

/* ---- text ---- */

static int or_of_tokens(struct compiler *c, const struct field *f, const struct token *tokens, size_t n,
                        struct query_node **ret) {
    if (n > QUERY_MAX_CLAUSES) return compile_error(c, "the text has more than %d words", QUERY_MAX_CLAUSES);
    struct query_clause *clauses = arena_alloc(&c->query->arena, n * sizeof *clauses);
    for (size_t i = 0; i < n; i++) {
        clauses[i].occur = OCCUR_SHOULD;
        int r = term_node(c, QUERY_TERM, f, tokens[i].text, tokens[i].len, &clauses[i].node);
        if (r) return r;
    }
    *ret = bool_new(c, clauses, (uint32_t)n, 0);
    return 0;
}

static int phrase_of_tokens(struct compiler *c, const struct syntax *s, const struct field *f,
                            const struct token *tokens, size_t n, struct query_node **ret) {
    uint32_t n_terms = 0;
    if (n > QUERY_MAX_CLAUSES)
        return compile_error(c, "the phrase has more than %d words", QUERY_MAX_CLAUSES);
    struct query_node *node = field_node(c, QUERY_PHRASE, f);
    set_terms(c, node, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        if (i && tokens[i].position == tokens[i - 1].position) continue; /* a compound of its words */
        struct query_term *t = &node->terms[n_terms++];
        int r = compile_count(c);
        if (r) return r;
        t->text = arena_strndup(&c->query->arena, tokens[i].text, tokens[i].len);
        t->len = tokens[i].len;
        t->position = tokens[i].position - tokens[0].position;
        compile_term(c, node, t);
    }
    node->n_terms = n_terms;
    node->slop = s->slop;
    *ret = node;
    return 0;
}

static int analyzed_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                         struct query_node **ret) {
    struct analyzer_state *state = analyzer_of_thread(query_analyzer(f));
    const struct token *tokens;
    size_t n;
    if (!state) {
        struct err why = ERR_INIT;
        analyzer_check(query_analyzer(f), &why);
        return compile_error(c, "field \"%.*s\": %s", SHOWN(f->path), why.text);
    }
    int r = analyze(state, s->text.s, s->text.len, &tokens, &n, c->err);
    *ret = NULL;
    if (r || !n) return r;
    if (n == 1) return term_node(c, QUERY_TERM, f, tokens[0].text, tokens[0].len, ret);
    if (s->kind == SYNTAX_QUOTED) return phrase_of_tokens(c, s, f, tokens, n, ret);
    return or_of_tokens(c, f, tokens, n, ret);
}

/* ---- one leaf ---- */

static int value_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                      struct query_node **ret) {
    struct value_bound b;
    if (s->kind == SYNTAX_RANGE) return value_range_leaf(c, s, f, ret);
    const char *pattern = s->kind == SYNTAX_WILDCARD ? "wildcards need"
                          : s->kind == SYNTAX_FUZZY  ? "fuzzy words need"
                          : s->kind == SYNTAX_REGEX  ? "regular expressions need"
                                                     : NULL;
    if (pattern)
        return compile_error(c, "field \"%.*s\" is %s: expected %s; %s a text or keyword field",
                             SHOWN(f->path), field_type_name(f->type), value_expected(f->type), pattern);
    int r = parse_value(c, f, s->text, &b);
    return r ? r : range_node(c, f, b.ceil, b.floor, ret);
}

static int field_leaf(struct compiler *c, const struct syntax *s, const struct field *f,
                      struct query_node **ret) {
    if (f->type == FIELD_OBJECT)
        return compile_error(c, "field \"%.*s\" is an object: expected the path of one of its fields",
                             SHOWN(f->path));
    if (f->type == FIELD_VECTOR || f->type == FIELD_SPARSE_VECTOR)
        return compile_error(c,
                             "field \"%.*s\" is a vector: expected a text, keyword, number or datetime field",
                             SHOWN(f->path));
    if (s->kind == SYNTAX_RANGE && !s->lo.s && !s->hi.s) return exists_field(c, f, ret);
    if (f->type != FIELD_TEXT && f->type != FIELD_KEYWORD) return value_leaf(c, s, f, ret);
    if (s->kind == SYNTAX_WILDCARD) return pattern_leaf(c, s, f, ret);
    if (s->kind == SYNTAX_FUZZY) return fuzzy_leaf(c, s, f, ret);
    if (s->kind == SYNTAX_REGEX) return regex_leaf(c, s, f, ret);
    if (s->kind == SYNTAX_RANGE) return term_range_leaf(c, s, f, ret);
    if (f->type == FIELD_KEYWORD) return term_node(c, QUERY_TERM, f, s->text.s, s->text.len, ret);
    return analyzed_leaf(c, s, f, ret);
}

/* Without a field: over all text fields, or all keyword fields when there is no text field. */
static int all_fields_leaf(struct compiler *c, const struct syntax *s, struct query_node **ret) {
    enum field_type type = FIELD_KEYWORD;
    struct query_clause *clauses = arena_alloc(&c->query->arena, c->schema->n_fields * sizeof *clauses);
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->schema->n_fields; i++)
        if (c->schema->fields[i].type == FIELD_TEXT) type = FIELD_TEXT;
    for (uint32_t i = 0; i < c->schema->n_fields; i++) {
        if (c->schema->fields[i].type != type) continue;
        clauses[n].occur = OCCUR_SHOULD;
        int r = field_leaf(c, s, &c->schema->fields[i], &clauses[n++].node);
        if (r) return r;
    }
    *ret = bool_new(c, clauses, n, 0);
    return 0;
}

int compile_leaf(struct compiler *c, const struct syntax *s, struct query_node **ret) {
    struct syntax_text path = s->field.s ? s->field : c->default_field;
    const struct field *f = NULL;
    int r = path.s ? compile_field(c, path.s, path.len, &f) : 0;
    if (r) return r;
    bool star = s->kind == SYNTAX_WILDCARD && s->text.len == 1 && s->text.s[0] == '*';
    if (s->kind == SYNTAX_ALL || (star && !path.s)) {
        *ret = node_new(c, QUERY_ALL);
        return compile_count(c);
    }
    if (!f) return all_fields_leaf(c, s, ret);
    if (s->kind != SYNTAX_EXISTS && !star) return field_leaf(c, s, f, ret);
    return f->type == FIELD_OBJECT ? exists_object(c, f, ret) : exists_field(c, f, ret);
}
