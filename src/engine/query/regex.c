/* Regular expressions: text to a tree to a Thompson automaton. */
#include "query/regex_internal.h"

enum {
    CHAR_LAST = 0x10ffff,
    MAX_DEPTH = 100,
    MAX_REPEATS = 10,
    MAX_DIGITS = 18,
    UNBOUNDED = UINT32_MAX,
    MAX_WORK = 20 * REGEX_MAX_INSTS
};

enum node_kind {
    NODE_EMPTY,
    NODE_NOTHING,
    NODE_CLASS,
    NODE_CONCAT,
    NODE_UNION,
    NODE_INTER,
    NODE_NOT,
    NODE_REPEAT
};
struct node {
    enum node_kind kind;
    struct node *first, *next; /* CONCAT: last one first; UNION, INTER; REPEAT, NOT: one */
    uint32_t min, max;
    struct regex_dfa *dfa; /* INTER, NOT: once it is made */
    struct regex_range *ranges;
    uint32_t n_ranges;
};
struct parser {
    struct arena *arena;
    const char *text, *p, *end;
    regex_fold *fold;
    void *fold_ctx;
    struct buf folded;
    unsigned depth;
    const char *error, *error_at;
    /* emission */
    struct regex *regex;
    uint32_t work;
    uint64_t *dfa_work;
};

static struct node *fail(struct parser *p, const char *at, const char *why) {
    if (!p->error) p->error = why, p->error_at = at;
    return NULL;
}

static struct node *new_node(struct parser *p, enum node_kind kind) {
    struct node *n = arena_zalloc(p->arena, sizeof *n);
    n->kind = kind;
    return n;
}

/* ---- classes ---- */

static struct node *class_of(struct parser *p, uint32_t lo, uint32_t hi) {
    struct node *n = new_node(p, NODE_CLASS);
    n->ranges = arena_alloc(p->arena, sizeof *n->ranges);
    n->ranges[0] = (struct regex_range){lo, hi};
    n->n_ranges = 1;
    return n;
}

static void add_range(struct parser *p, struct node *n, uint32_t lo, uint32_t hi) {
    if (!(n->n_ranges & (n->n_ranges - 1))) { /* full at every power of two */
        struct regex_range *more = arena_alloc(p->arena, (n->n_ranges * 2 + 1) * sizeof *more);
        if (n->n_ranges) memcpy(more, n->ranges, n->n_ranges * sizeof *more);
        n->ranges = more;
    }
    n->ranges[n->n_ranges++] = (struct regex_range){lo, hi};
}

static int compare_ranges(const void *a, const void *b) {
    const struct regex_range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Ascending and apart; negated on demand. */
static struct node *settle_class(struct parser *p, struct node *n, bool negate) {
    struct node *out = new_node(p, NODE_CLASS);
    uint32_t from = 0;
    if (n->n_ranges) qsort(n->ranges, n->n_ranges, sizeof *n->ranges, compare_ranges);
    for (uint32_t i = 0; i < n->n_ranges; i++) {
        const struct regex_range *r = &n->ranges[i];
        struct regex_range *last = out->n_ranges ? &out->ranges[out->n_ranges - 1] : NULL;
        if (negate) {
            if (r->lo > from) add_range(p, out, from, r->lo - 1);
            from = MAX(from, r->hi + 1);
        } else if (last && r->lo <= last->hi + 1) {
            last->hi = MAX(last->hi, r->hi);
        } else {
            add_range(p, out, r->lo, r->hi);
        }
    }
    if (negate && from <= CHAR_LAST) add_range(p, out, from, CHAR_LAST);
    if (!out->n_ranges) out->kind = NODE_NOTHING;
    return out;
}

/* \d \s \w and their opposites, added to a class. False: c names none. */
static bool add_named(struct parser *p, struct node *n, char c) {
    struct node *set = new_node(p, NODE_CLASS);
    char lower = (char)(c | 32);
    if (lower == 'd' || lower == 'w') add_range(p, set, '0', '9');
    if (lower == 'w') add_range(p, set, 'A', 'Z'), add_range(p, set, '_', '_'), add_range(p, set, 'a', 'z');
    if (lower == 's')
        add_range(p, set, '\t', '\n'), add_range(p, set, '\r', '\r'), add_range(p, set, ' ', ' ');
    if (!set->n_ranges) return false;
    set = settle_class(p, set, c != lower);
    for (uint32_t i = 0; i < set->n_ranges; i++) add_range(p, n, set->ranges[i].lo, set->ranges[i].hi);
    return true;
}

/* ---- parsing ---- */

static struct node *parse_union(struct parser *p);

static bool take(struct parser *p, char c) {
    if (p->p == p->end || *p->p != c) return false;
    p->p++;
    return true;
}

/* One character, its backslash taken off, in the field's normal form if that is one character. */
static uint32_t take_char(struct parser *p) {
    uint32_t len, c, n;
    if (*p->p == '\\') p->p++;
    if (p->p == p->end) {
        fail(p, p->p - 1, "expected a character after \"\\\"");
        return 0;
    }
    c = utf8_next((const uint8_t *)p->p, (const uint8_t *)p->end, &len);
    buf_clear(&p->folded);
    if (p->fold)
        p->fold(p->fold_ctx, p->p, len, &p->folded);
    else
        buf_add(&p->folded, p->p, len);
    p->p += len;
    if (!p->folded.len) return c;
    uint32_t folded = utf8_next(p->folded.data, p->folded.data + p->folded.len, &n);
    return n == p->folded.len ? folded : c;
}

/* A literal: the characters of its normal form one after the other. */
static struct node *parse_literal(struct parser *p) {
    uint32_t c = take_char(p), len;
    struct node *all = NULL;
    if (p->error) return NULL;
    for (size_t at = 0; at < p->folded.len; at += len) {
        uint32_t d = utf8_next(p->folded.data + at, p->folded.data + p->folded.len, &len);
        if (!at && len == p->folded.len) return class_of(p, d, d);
        struct node *n = class_of(p, d, d);
        if (!all) all = new_node(p, NODE_CONCAT);
        n->next = all->first;
        all->first = n;
    }
    return all ? all : class_of(p, c, c);
}

static struct node *parse_class(struct parser *p) {
    const char *at = p->p - 1;
    bool negate = take(p, '^');
    struct node *n = new_node(p, NODE_CLASS);
    do {
        if (p->p == p->end) return fail(p, at, "expected a \"]\" for the class that begins here");
        if (*p->p == '\\' && p->p + 1 < p->end && add_named(p, n, p->p[1])) {
            p->p += 2;
            continue;
        }
        const char *item = p->p;
        uint32_t lo = take_char(p), hi = lo;
        if (take(p, '-')) {
            if (p->p == p->end || *p->p == ']')
                return fail(p, p->p, "expected the end of the range (\"\\-\" is a minus)");
            hi = take_char(p);
        }
        if (p->error) return NULL;
        if (lo > hi) return fail(p, item, "expected a range that does not run backwards");
        add_range(p, n, lo, hi);
    } while (!take(p, ']'));
    return settle_class(p, n, negate);
}

/* The text in quotes as it is. */
static struct node *parse_string(struct parser *p) {
    const char *at = p->p - 1, *close = memchr(p->p, '"', (size_t)(p->end - p->p));
    struct node *all = new_node(p, NODE_CONCAT);
    if (!close) return fail(p, at, "expected a closing quote for the text that begins here");
    struct parser inner = *p;
    inner.end = close;
    while (inner.p < close) {
        /* a backslash has no meaning here: it is read as if it were escaped */
        static const char escaped[] = "\\\\";
        struct parser one = inner;
        if (*inner.p == '\\') one.p = escaped, one.end = escaped + 2;
        struct node *n = parse_literal(&one);
        inner.folded = one.folded;
        inner.p = *inner.p == '\\' ? inner.p + 1 : one.p;
        n->next = all->first;
        all->first = n;
    }
    p->folded = inner.folded;
    p->p = close + 1;
    return all;
}

static struct node *parse_group(struct parser *p) {
    const char *at = p->p - 1;
    if (take(p, ')')) return new_node(p, NODE_EMPTY);
    if (++p->depth > MAX_DEPTH) return fail(p, at, "the expression is nested deeper than 100");
    struct node *n = parse_union(p);
    p->depth--;
    if (n && !take(p, ')')) return fail(p, at, "expected a \")\" for the group that begins here");
    return n;
}

/* ---- numbers between two ---- */

static void prepend(struct node *all, struct node *n) {
    n->next = all->first;
    all->first = n;
}

/* Any n digits. */
static struct node *any_digits(struct parser *p, uint32_t n) {
    struct node *all = new_node(p, NODE_REPEAT);
    all->first = class_of(p, '0', '9');
    all->min = all->max = n;
    return all;
}

static struct node *digit_then(struct parser *p, char lo, char hi, struct node *rest) {
    struct node *all = new_node(p, NODE_CONCAT);
    prepend(all, class_of(p, (uint8_t)lo, (uint8_t)hi));
    prepend(all, rest);
    return all;
}

static bool all_are(const char *s, char c, uint32_t n) {
    while (n && s[n - 1] == c) n--;
    return !n;
}

/* n digits that are not below lo and not above hi; NULL: any. */
static struct node *digits_between(struct parser *p, const char *lo, const char *hi, uint32_t n) {
    if (!n) return new_node(p, NODE_EMPTY);
    if (lo && all_are(lo, '0', n)) lo = NULL;
    if (hi && all_are(hi, '9', n)) hi = NULL;
    if (!lo && !hi) return any_digits(p, n);
    char from = lo ? *lo : '0', to = hi ? *hi : '9';
    const char *lo_rest = lo ? lo + 1 : NULL, *hi_rest = hi ? hi + 1 : NULL;
    if (from == to) return digit_then(p, from, to, digits_between(p, lo_rest, hi_rest, n - 1));
    struct node *all = new_node(p, NODE_UNION);
    char above = (char)(from + (lo != NULL)), below = (char)(to - (hi != NULL));
    if (lo) prepend(all, digit_then(p, from, from, digits_between(p, lo_rest, NULL, n - 1)));
    if (above <= below) prepend(all, digit_then(p, above, below, any_digits(p, n - 1)));
    if (hi) prepend(all, digit_then(p, to, to, digits_between(p, NULL, hi_rest, n - 1)));
    return all;
}

/* Any number of zeros, then a number without zeros before it. */
static struct node *number_between(struct parser *p, const char *lo, uint32_t n_lo, const char *hi,
                                   uint32_t n_hi) {
    struct node *numbers = new_node(p, NODE_UNION), *zeros = new_node(p, NODE_REPEAT);
    while (n_lo > 1 && *lo == '0') lo++, n_lo--;
    while (n_hi > 1 && *hi == '0') hi++, n_hi--;
    bool zero = *lo == '0';
    if (zero) prepend(numbers, class_of(p, '0', '0'));
    for (uint32_t n = n_lo; n <= n_hi && *hi != '0'; n++) {
        char *least = arena_zalloc(p->arena, n + 1);
        memset(least, '0', n);
        *least = '1';
        bool given = n == n_lo && !zero;
        prepend(numbers, digits_between(p, given ? lo : least, n == n_hi ? hi : NULL, n));
    }
    zeros->first = class_of(p, '0', '0');
    zeros->max = UNBOUNDED;
    struct node *all = new_node(p, NODE_CONCAT);
    prepend(all, zeros);
    prepend(all, numbers);
    return all;
}

static uint32_t count_digits(const char *s, const char *end) {
    uint32_t n = 0;
    while (s + n < end && s[n] >= '0' && s[n] <= '9') n++;
    return n;
}

static bool number_above(const char *a, uint32_t n_a, const char *b, uint32_t n_b) {
    while (n_a && *a == '0') a++, n_a--;
    while (n_b && *b == '0') b++, n_b--;
    return n_a != n_b ? n_a > n_b : memcmp(a, b, n_a) > 0;
}

/* After the "<". */
static struct node *parse_interval(struct parser *p) {
    const char *at = p->p - 1, *lo = p->p;
    uint32_t n_lo = count_digits(lo, p->end), n_hi = 0;
    const char *hi = lo + n_lo + 1;
    if (n_lo && hi <= p->end && hi[-1] == '-') n_hi = count_digits(hi, p->end);
    if (!n_hi || hi + n_hi == p->end || hi[n_hi] != '>')
        return fail(p, at, "expected <n-m>, the numbers from n to m (\"\\<\" is the character)");
    if (n_lo > MAX_DIGITS || n_hi > MAX_DIGITS) return fail(p, at, "expected numbers of at most 18 digits");
    p->p = hi + n_hi + 1;
    if (number_above(lo, n_lo, hi, n_hi)) {
        const char *swap = lo;
        uint32_t n_swap = n_lo;
        lo = hi, n_lo = n_hi;
        hi = swap, n_hi = n_swap;
    }
    return n_lo == n_hi ? digits_between(p, lo, hi, n_lo) : number_between(p, lo, n_lo, hi, n_hi);
}

static struct node *parse_simple(struct parser *p) {
    const char *at = p->p;
    struct node *n;
    if (at == p->end || *at == '|' || *at == ')' || *at == '&')
        return fail(p, at, "expected a character, a class, a group or \"()\" for nothing");
    switch (*at) {
    case '?':
    case '*':
    case '+':
    case '{':
        return fail(p, at, "expected something to repeat (put \"\\\" before the character for itself)");
    case '<':
        p->p++;
        return parse_interval(p);
    case '.':
        p->p++;
        return class_of(p, 0, CHAR_LAST);
    case '#':
        p->p++;
        return new_node(p, NODE_NOTHING);
    case '@':
        p->p++;
        n = new_node(p, NODE_REPEAT);
        n->first = class_of(p, 0, CHAR_LAST);
        n->max = UNBOUNDED;
        return n;
    case '"':
        p->p++;
        return parse_string(p);
    case '(':
        p->p++;
        return parse_group(p);
    case '[':
        p->p++;
        return parse_class(p);
    default:
        break;
    }
    n = new_node(p, NODE_CLASS);
    if (*at != '\\' || at + 1 == p->end || !add_named(p, n, at[1])) return parse_literal(p);
    p->p += 2;
    return n;
}

static bool take_number(struct parser *p, uint32_t *ret) {
    const char *at = p->p;
    uint32_t v = 0;
    while (p->p < p->end && *p->p >= '0' && *p->p <= '9' && v <= REGEX_MAX_REPEAT)
        v = v * 10 + (uint32_t)(*p->p++ - '0');
    if (p->p == at) fail(p, at, "expected a number");
    if (v > REGEX_MAX_REPEAT) fail(p, at, "expected a number of repetitions up to 1000");
    *ret = v;
    return !p->error;
}

/* After the brace. */
static bool take_counts(struct parser *p, uint32_t *min, uint32_t *max) {
    const char *at = p->p - 1;
    if (!take_number(p, min)) return false;
    *max = *min;
    if (take(p, ',')) {
        *max = UNBOUNDED;
        if (p->p < p->end && *p->p != '}' && !take_number(p, max)) return false;
    }
    if (!take(p, '}')) fail(p, p->p, "expected a \"}\" after the number of repetitions");
    if (!p->error && *min > *max) fail(p, at, "expected the smaller number of repetitions first");
    return !p->error;
}

static struct node *parse_complement(struct parser *p) {
    const char *at = p->p;
    bool odd = false;
    while (take(p, '~')) odd = !odd;
    struct node *n = parse_simple(p);
    if (!n || p->p == at || !odd) return n;
    struct node *complement = new_node(p, NODE_NOT);
    complement->first = n;
    return complement;
}

static struct node *parse_repeat(struct parser *p) {
    struct node *n = parse_complement(p);
    for (unsigned depth = 0; n && p->p < p->end; depth++) {
        const char *at = p->p;
        uint32_t min = *at == '+', max = *at == '?' ? 1 : UNBOUNDED;
        if (!memchr("?*+{", *at, 4)) return n;
        p->p++;
        if (*at == '{' && !take_counts(p, &min, &max)) return NULL;
        if (depth == MAX_REPEATS) return fail(p, at, "there are more than 10 repetitions of one thing");
        struct node *repeat = new_node(p, NODE_REPEAT);
        repeat->first = n;
        repeat->min = min;
        repeat->max = max;
        n = repeat;
    }
    return n;
}

static struct node *parse_concat(struct parser *p) {
    struct node *all = new_node(p, NODE_CONCAT);
    do {
        struct node *n = parse_repeat(p);
        if (!n) return NULL;
        n->next = all->first;
        all->first = n;
    } while (p->p < p->end && *p->p != '|' && *p->p != '&' && *p->p != ')');
    return all;
}

static struct node *parse_inter(struct parser *p) {
    struct node *first = parse_concat(p), *all = NULL;
    while (first && take(p, '&')) {
        struct node *n = parse_concat(p);
        if (!n) return NULL;
        if (!all) {
            all = new_node(p, NODE_INTER);
            all->first = first;
        }
        prepend(all, n);
    }
    return all ? all : first;
}

static struct node *parse_union(struct parser *p) {
    struct node *all = new_node(p, NODE_UNION);
    do {
        struct node *n = parse_inter(p);
        if (!n) return NULL;
        prepend(all, n);
    } while (take(p, '|'));
    return all;
}

/* ---- emission: each node in front of what follows it ---- */

static uint32_t add_inst(struct parser *p, struct regex_inst inst) {
    struct regex *x = p->regex;
    if (x->n_insts == REGEX_MAX_INSTS) {
        fail(p, p->text,
             "the expression is too large (at most 1000 characters and branches, repetitions written out)");
        return REGEX_NOTHING;
    }
    x->insts[x->n_insts] = inst;
    return x->n_insts++;
}

static uint32_t emit(struct parser *p, struct node *n, uint32_t next);
static const struct regex *finish(struct parser *p, struct node *n);

static struct regex_dfa *dfa_of(struct parser *p, struct node *n) {
    struct regex_dfa *d = NULL;
    const struct regex *x;
    while ((n->kind == NODE_CONCAT || n->kind == NODE_UNION) && n->first && !n->first->next) n = n->first;
    if (n->dfa) return n->dfa;
    if (n->kind == NODE_NOT) {
        d = dfa_of(p, n->first);
        if (d) d = regex_complement(p->arena, d, p->dfa_work);
    } else if (n->kind == NODE_INTER) {
        d = dfa_of(p, n->first);
        for (struct node *c = n->first->next; c && d; c = c->next) {
            const struct regex_dfa *other = dfa_of(p, c);
            d = other ? regex_intersect(p->arena, d, other, p->dfa_work) : NULL;
        }
    } else if ((x = finish(p, n))) {
        d = regex_determinise(p->arena, x, p->dfa_work);
    }
    if (!d) fail(p, p->text, "the expression is too complex (~ and & may take at most 1000 states)");
    return n->dfa = d;
}

/* The characters that lead from a state to another. */
static uint32_t add_move(struct parser *p, const struct regex_dfa *d, uint32_t state, int32_t to,
                         uint32_t target) {
    struct node *set = new_node(p, NODE_CLASS);
    for (uint32_t c = 0; c < d->n_classes; c++) {
        uint32_t first = regex_class_first(d->bounds, c);
        uint32_t last = c + 1 < d->n_classes ? d->bounds[c] - 1 : CHAR_LAST;
        struct regex_range *before = set->n_ranges ? &set->ranges[set->n_ranges - 1] : NULL;
        if (d->next[state * d->n_classes + c] != to) continue;
        if (before && before->hi + 1 == first)
            before->hi = last;
        else
            add_range(p, set, first, last);
    }
    return add_inst(
        p, (struct regex_inst){.op = REGEX_CHAR, .x = target, .ranges = set->ranges, .n = set->n_ranges});
}

/* A state's steps, behind its entry: a chain of splits, one a state that it leads to. */
static void emit_state(struct parser *p, const struct regex_dfa *d, uint32_t state, uint32_t entry,
                       uint32_t next) {
    const int32_t *row = &d->next[state * d->n_classes];
    uint32_t at = entry + state;
    bool any = false;
    for (uint32_t c = 0; c < d->n_classes && !p->error; c++) {
        uint32_t before = 0;
        if (row[c] == TERM_DEAD) continue;
        while (before < c && row[before] != row[c]) before++;
        if (before < c) continue;
        struct regex_inst more = {.op = REGEX_SPLIT, .x = REGEX_NOTHING, .y = REGEX_NOTHING};
        uint32_t split = any ? add_inst(p, more) : at;
        uint32_t move = add_move(p, d, state, row[c], entry + (uint32_t)row[c]);
        if (p->error) return;
        if (any) p->regex->insts[at].y = split;
        p->regex->insts[split].x = move;
        at = split;
        any = true;
    }
    if (!p->error) p->regex->insts[at].y = d->accepts[state] ? next : REGEX_NOTHING;
}

static uint32_t emit_dfa(struct parser *p, struct node *n, uint32_t next) {
    const struct regex_dfa *d = dfa_of(p, n);
    if (!d || d->nothing) return REGEX_NOTHING;
    uint32_t entry = p->regex->n_insts;
    struct regex_inst split = {.op = REGEX_SPLIT, .x = REGEX_NOTHING, .y = REGEX_NOTHING};
    for (uint32_t s = 0; s < d->n && !p->error; s++) add_inst(p, split);
    for (uint32_t s = 0; s < d->n && !p->error; s++) emit_state(p, d, s, entry, next);
    return entry;
}

static uint32_t emit_repeat(struct parser *p, const struct node *n, uint32_t next) {
    uint32_t at = next;
    if (n->max == UNBOUNDED) {
        at = add_inst(p, (struct regex_inst){.op = REGEX_SPLIT, .x = REGEX_NOTHING, .y = next});
        uint32_t body = p->error ? 0 : emit(p, n->first, at);
        if (!p->error) p->regex->insts[at].x = body;
    } else {
        for (uint32_t i = n->min; i < n->max && !p->error; i++)
            at = add_inst(p, (struct regex_inst){.op = REGEX_SPLIT, .x = emit(p, n->first, at), .y = next});
    }
    for (uint32_t i = 0; i < n->min && !p->error; i++) at = emit(p, n->first, at);
    return at;
}

static uint32_t emit(struct parser *p, struct node *n, uint32_t next) {
    uint32_t at = next;
    if (p->error) return next;
    if (++p->work > MAX_WORK) fail(p, p->text, "the expression is too large");
    switch (n->kind) {
    case NODE_EMPTY:
        return next;
    case NODE_NOTHING:
        return REGEX_NOTHING;
    case NODE_CLASS:
        if (next == REGEX_NOTHING) return next;
        return add_inst(
            p, (struct regex_inst){.op = REGEX_CHAR, .x = next, .ranges = n->ranges, .n = n->n_ranges});
    case NODE_CONCAT:
        for (struct node *c = n->first; c; c = c->next) at = emit(p, c, at);
        return at;
    case NODE_UNION:
        at = emit(p, n->first, next);
        for (struct node *c = n->first->next; c; c = c->next)
            at = add_inst(p, (struct regex_inst){.op = REGEX_SPLIT, .x = emit(p, c, next), .y = at});
        return at;
    case NODE_INTER:
    case NODE_NOT:
        return emit_dfa(p, n, next);
    case NODE_REPEAT:
        return emit_repeat(p, n, next);
    }
    return next;
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The characters at which some range begins or has ended. */
static void find_bounds(struct parser *p) {
    struct regex *x = p->regex;
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; i < x->n_insts; i++) n += 2 * x->insts[i].n;
    x->bounds = arena_alloc(p->arena, (n + 1) * sizeof *x->bounds);
    n = 0;
    for (uint32_t i = 0; i < x->n_insts; i++)
        for (uint32_t k = 0; k < x->insts[i].n; k++) {
            x->bounds[n++] = x->insts[i].ranges[k].lo;
            x->bounds[n++] = x->insts[i].ranges[k].hi + 1;
        }
    if (n) qsort(x->bounds, n, sizeof *x->bounds, compare_u32);
    for (uint32_t i = 0; i < n; i++)
        if (x->bounds[i] && x->bounds[i] <= CHAR_LAST && (!kept || x->bounds[i] != x->bounds[kept - 1]))
            x->bounds[kept++] = x->bounds[i];
    x->n_bounds = kept;
}

/* The automaton of a node; within that of another one, too. */
static const struct regex *finish(struct parser *p, struct node *n) {
    struct regex_inst *scratch = xmalloc(REGEX_MAX_INSTS * sizeof *scratch);
    struct regex *outer = p->regex, *x = arena_zalloc(p->arena, sizeof *x);
    p->regex = x;
    x->insts = scratch;
    uint32_t match = add_inst(p, (struct regex_inst){.op = REGEX_MATCH});
    x->start = emit(p, n, match);
    x->insts = arena_alloc(p->arena, x->n_insts * sizeof *scratch);
    memcpy(x->insts, scratch, x->n_insts * sizeof *scratch);
    free(scratch);
    if (!p->error) find_bounds(p);
    p->regex = outer;
    return p->error ? NULL : x;
}

const struct regex *regex_compile(struct arena *arena, const char *text, size_t len, regex_fold *fold,
                                  void *fold_ctx, uint64_t *work, size_t *ret_at, const char **ret_why) {
    struct parser p = {.arena = arena,
                       .text = text,
                       .p = text,
                       .end = text + len,
                       .fold = fold,
                       .fold_ctx = fold_ctx,
                       .dfa_work = work};
    const struct regex *x = NULL;
    struct node *n = NULL;
    if (len > REGEX_MAX_TEXT)
        fail(&p, text, "the expression is longer than 10000 bytes");
    else
        n = len ? parse_union(&p) : new_node(&p, NODE_EMPTY);
    if (n && p.p < p.end) n = fail(&p, p.p, "expected the end of the expression (\"\\)\" is a parenthesis)");
    if (n) x = finish(&p, n);
    buf_release(&p.folded);
    if (x) return x;
    *ret_at = (size_t)(p.error_at - text);
    *ret_why = p.error;
    return NULL;
}

const struct regex *regex_of_wildcard(struct arena *arena, const char *pattern, size_t len) {
    struct parser p = {.arena = arena, .text = pattern, .p = pattern, .end = pattern + len};
    struct node *all = new_node(&p, NODE_CONCAT), *n;
    uint32_t step;
    for (; p.p < p.end; p.p += step) {
        char c = *p.p;
        if (c == '\\' && p.p + 1 < p.end) p.p++;
        uint32_t literal = utf8_next((const uint8_t *)p.p, (const uint8_t *)p.end, &step);
        n = c == '?' || c == '*' ? class_of(&p, 0, CHAR_LAST) : class_of(&p, literal, literal);
        if (c == '*') {
            struct node *any = n;
            n = new_node(&p, NODE_REPEAT);
            n->first = any;
            n->max = UNBOUNDED;
        }
        n->next = all->first;
        all->first = n;
    }
    return finish(&p, all);
}
