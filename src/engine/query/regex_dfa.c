/* Deterministic automata for the parts of an expression that ~ and & stand before and between: every text
 * must have one way through them, so that "not" is the other texts and "and" is both at once. They are made
 * when the expression is compiled, of at most REGEX_MAX_INSTS states and a bounded number of moves. */
#include "query/regex_internal.h"

enum { CHAR_LAST = 0x10ffff };

static bool spend(uint64_t *work, uint64_t moves) {
    if (*work < moves) return false;
    *work -= moves;
    return true;
}

static struct regex_dfa *dfa_new(struct arena *arena, const uint32_t *bounds, uint32_t n_bounds) {
    struct regex_dfa *d = arena_zalloc(arena, sizeof *d);
    d->bounds = bounds;
    d->n_classes = n_bounds + 1;
    return d;
}

static void take_table(struct arena *arena, struct regex_dfa *d, const int32_t *next,
                       const uint8_t *accepts) {
    size_t cells = (size_t)d->n * d->n_classes;
    d->next = arena_alloc(arena, (cells + 1) * sizeof *d->next);
    d->accepts = arena_alloc(arena, d->n + 1);
    if (cells) memcpy(d->next, next, cells * sizeof *next);
    if (d->n) memcpy(d->accepts, accepts, d->n);
}

uint32_t regex_class_first(const uint32_t *bounds, uint32_t class) {
    return class ? bounds[class - 1] : 0;
}

/* The class of each of the finer classes in `bounds`. */
static uint32_t class_in(const struct regex_dfa *d, uint32_t c) {
    uint32_t lo = 0, hi = d->n_classes - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (d->bounds[mid] <= c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Steps through the matcher's states as it makes them. */
struct regex_dfa *regex_determinise(struct arena *arena, const struct regex *x, uint64_t *work) {
    struct regex_dfa *d = dfa_new(arena, x->bounds, x->n_bounds), *ret = NULL;
    size_t cap = (size_t)REGEX_MAX_INSTS * d->n_classes;
    int32_t *next = xmalloc(cap * sizeof *next);
    uint8_t accepts[REGEX_MAX_INSTS];
    struct regex_matcher m;
    regex_matcher_init(&m, x);
    for (; d->n < m.n_states; d->n++) {
        if (d->n == REGEX_MAX_INSTS) goto out;
        accepts[d->n] = m.base.ops->accepts(&m.base, (int32_t)d->n);
        for (uint32_t c = 0; c < d->n_classes; c++) {
            if (!spend(work, x->n_insts + 1)) goto out;
            next[d->n * d->n_classes + c] =
                m.base.ops->step(&m.base, (int32_t)d->n, regex_class_first(x->bounds, c));
        }
    }
    take_table(arena, d, next, accepts);
    ret = d;
out:
    regex_matcher_release(&m);
    free(next);
    return ret;
}

/* Moves that no way leads on from become dead. */
static bool trim(struct regex_dfa *d, uint64_t *work) {
    uint8_t live[REGEX_MAX_INSTS + 1];
    bool changed = true;
    memcpy(live, d->accepts, d->n);
    while (changed) {
        changed = false;
        if (!spend(work, (uint64_t)d->n * d->n_classes)) return false;
        for (uint32_t s = d->n; s-- > 0;)
            for (uint32_t c = 0; c < d->n_classes && !live[s]; c++) {
                int32_t to = d->next[s * d->n_classes + c];
                if (to != TERM_DEAD && live[to]) live[s] = changed = true;
            }
    }
    for (uint32_t i = 0; i < d->n * d->n_classes; i++)
        if (d->next[i] != TERM_DEAD && !live[d->next[i]]) d->next[i] = TERM_DEAD;
    d->nothing = !live[0];
    return true;
}

struct regex_dfa *regex_complement(struct arena *arena, const struct regex_dfa *of, uint64_t *work) {
    struct regex_dfa *d = dfa_new(arena, of->bounds, of->n_classes - 1);
    if (of->n == REGEX_MAX_INSTS) return NULL;
    size_t cells = (size_t)of->n * of->n_classes;
    d->n = of->n + 1; /* the last one: what leads nowhere in the other */
    d->next = arena_alloc(arena, (cells + d->n_classes) * sizeof *d->next);
    d->accepts = arena_alloc(arena, d->n);
    for (size_t i = 0; i < cells + d->n_classes; i++)
        d->next[i] = i < cells && of->next[i] != TERM_DEAD ? of->next[i] : (int32_t)of->n;
    for (uint32_t s = 0; s < d->n; s++) d->accepts[s] = s == of->n || !of->accepts[s];
    return trim(d, work) ? d : NULL;
}

/* The bounds of both. */
static const uint32_t *merge_bounds(struct arena *arena, const struct regex_dfa *a, const struct regex_dfa *b,
                                    uint32_t *ret_n) {
    uint32_t na = a->n_classes - 1, nb = b->n_classes - 1, i = 0, k = 0, n = 0;
    uint32_t *out = arena_alloc(arena, (na + nb + 1) * sizeof *out);
    while (i < na || k < nb) {
        uint32_t x = i < na ? a->bounds[i] : UINT32_MAX, y = k < nb ? b->bounds[k] : UINT32_MAX;
        out[n++] = MIN(x, y);
        i += x <= y;
        k += y <= x;
    }
    *ret_n = n;
    return out;
}

/* Pairs of states that are met, by their number in a table of all pairs. */
struct product {
    const struct regex_dfa *a, *b;
    uint32_t pairs[REGEX_MAX_INSTS], n;
    int32_t *numbers;
};

/* TERM_DEAD also when there are too many: *ret_full. */
static int32_t number_of(struct product *p, int32_t a, int32_t b, bool *ret_full) {
    if (a == TERM_DEAD || b == TERM_DEAD) return TERM_DEAD;
    uint32_t pair = (uint32_t)a * p->b->n + (uint32_t)b;
    if (p->numbers[pair]) return p->numbers[pair] - 1;
    *ret_full |= p->n == REGEX_MAX_INSTS;
    if (*ret_full) return TERM_DEAD;
    p->pairs[p->n++] = pair;
    p->numbers[pair] = (int32_t)p->n;
    return (int32_t)p->n - 1;
}

struct regex_dfa *regex_intersect(struct arena *arena, const struct regex_dfa *a, const struct regex_dfa *b,
                                  uint64_t *work) {
    uint32_t n_bounds;
    const uint32_t *bounds = merge_bounds(arena, a, b, &n_bounds);
    struct regex_dfa *d = dfa_new(arena, bounds, n_bounds), *ret = NULL;
    struct product *p = xcalloc(1, sizeof *p);
    int32_t *next = xmalloc((size_t)REGEX_MAX_INSTS * d->n_classes * sizeof *next);
    uint8_t accepts[REGEX_MAX_INSTS];
    bool full = false;
    p->a = a;
    p->b = b;
    p->numbers = xcalloc((size_t)a->n * b->n + 1, sizeof *p->numbers);
    number_of(p, 0, 0, &full);
    for (; d->n < p->n; d->n++) {
        uint32_t x = p->pairs[d->n] / b->n, y = p->pairs[d->n] % b->n;
        accepts[d->n] = a->accepts[x] && b->accepts[y];
        if (!spend(work, (uint64_t)d->n_classes * 16)) goto out;
        for (uint32_t c = 0; c < d->n_classes; c++) {
            uint32_t first = regex_class_first(bounds, c);
            next[d->n * d->n_classes + c] = number_of(p, a->next[x * a->n_classes + class_in(a, first)],
                                                      b->next[y * b->n_classes + class_in(b, first)], &full);
        }
        if (full) goto out;
    }
    take_table(arena, d, next, accepts);
    ret = trim(d, work) ? d : NULL;
out:
    free(next);
    free(p->numbers);
    free(p);
    return ret;
}
