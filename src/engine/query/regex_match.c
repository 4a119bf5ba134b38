/* Running a regular expression: deterministic states are sets of the automaton's steps, made when they are
 * first met. */
#include "query/regex_internal.h"
#include "util/codec.h"

enum { BUCKETS = 4096, UNKNOWN = -2 };

struct regex_state {
    uint32_t *set, n; /* CHAR steps, ascending */
    uint32_t chain;   /* the next state of the bucket and 1; 0: none */
    bool accepts;
    int32_t next[]; /* by class: a state, TERM_DEAD or UNKNOWN */
};

static uint32_t class_of(const struct regex *x, uint32_t c) {
    uint32_t lo = 0, hi = x->n_bounds;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (x->bounds[mid] <= c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool inst_has(const struct regex_inst *inst, uint32_t c) {
    uint32_t lo = 0, hi = inst->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (inst->ranges[mid].hi < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < inst->n && inst->ranges[lo].lo <= c;
}

/* Marks what can be reached from a step without a character. */
static void add_reachable(struct regex_matcher *m, uint32_t at) {
    uint32_t n = 0;
    if (at != REGEX_NOTHING && !m->marks[at]) m->stack[n++] = at, m->marks[at] = 1;
    while (n) {
        const struct regex_inst *inst = &m->regex->insts[m->stack[--n]];
        uint32_t to[2] = {inst->x, inst->y};
        for (int i = 0; i < 2 && inst->op == REGEX_SPLIT; i++)
            if (to[i] != REGEX_NOTHING && !m->marks[to[i]]) m->stack[n++] = to[i], m->marks[to[i]] = 1;
    }
}

/* The marked CHAR steps as m->set; takes the marks off. True: the end is reached. */
static bool collect_set(struct regex_matcher *m) {
    const struct regex *x = m->regex;
    bool accepts = false;
    m->n_set = 0;
    for (uint32_t i = 0; i < x->n_insts; i++) {
        if (!m->marks[i]) continue;
        m->marks[i] = 0;
        accepts |= x->insts[i].op == REGEX_MATCH;
        if (x->insts[i].op == REGEX_CHAR) m->set[m->n_set++] = i;
    }
    return accepts;
}

/* The state of m->set, a new one if it was not met before. */
static int32_t intern(struct regex_matcher *m, bool accepts) {
    size_t set_bytes = m->n_set * sizeof *m->set;
    uint32_t n_next = m->regex->n_bounds + 1;
    uint32_t *bucket = &m->buckets[hash64(m->set, set_bytes, accepts) % BUCKETS];
    for (uint32_t i = *bucket; i; i = m->states[i - 1]->chain) {
        const struct regex_state *s = m->states[i - 1];
        if (s->n == m->n_set && s->accepts == accepts && !memcmp(s->set, m->set, set_bytes))
            return (int32_t)i - 1;
    }
    struct regex_state *s = arena_alloc(&m->arena, sizeof *s + n_next * sizeof *s->next);
    s->n = m->n_set;
    s->accepts = accepts;
    s->set = arena_alloc(&m->arena, set_bytes);
    if (set_bytes) memcpy(s->set, m->set, set_bytes);
    for (uint32_t i = 0; i < n_next; i++) s->next[i] = UNKNOWN;
    m->bytes += sizeof *s + n_next * sizeof *s->next + set_bytes;
    VEC_GROW(m->states, m->n_states, m->cap_states);
    m->states[m->n_states++] = s;
    s->chain = *bucket;
    *bucket = m->n_states;
    return (int32_t)m->n_states - 1;
}

static void make_first(struct regex_matcher *m) {
    add_reachable(m, m->regex->start);
    intern(m, collect_set(m));
}

static void forget_states(struct regex_matcher *m) {
    arena_reset(&m->arena);
    memset(m->buckets, 0, BUCKETS * sizeof *m->buckets);
    m->n_states = 0;
    m->bytes = 0;
    m->base.epoch++;
    make_first(m);
}

/* c stands for its class. */
static int32_t make_step(struct regex_matcher *m, const struct regex_state *s, uint32_t c) {
    for (uint32_t i = 0; i < s->n; i++) {
        const struct regex_inst *inst = &m->regex->insts[s->set[i]];
        if (inst_has(inst, c)) add_reachable(m, inst->x);
    }
    bool accepts = collect_set(m);
    if (!m->n_set && !accepts) return TERM_DEAD;
    if (m->bytes > REGEX_CACHE_BYTES) {
        forget_states(m);
        return 0;
    }
    return intern(m, accepts);
}

static int32_t regex_step(struct term_matcher *matcher, int32_t state, uint32_t c) {
    struct regex_matcher *m = (struct regex_matcher *)matcher;
    uint32_t class = c < 128 ? (uint32_t)m->ascii[c] : class_of(m->regex, c), epoch = matcher->epoch;
    struct regex_state *s = m->states[state];
    if (s->next[class] != UNKNOWN) return s->next[class];
    int32_t next = make_step(m, s, c);
    if (matcher->epoch == epoch) s->next[class] = next;
    return next;
}

static bool regex_next(struct term_matcher *matcher, int32_t state, uint32_t c, uint32_t *ret) {
    struct regex_matcher *m = (struct regex_matcher *)matcher;
    const struct regex_state *s = m->states[state];
    bool found = false;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct regex_inst *inst = &m->regex->insts[s->set[i]];
        for (uint32_t k = 0; k < inst->n; k++) {
            uint32_t at = MAX(c, inst->ranges[k].lo);
            if (at >= 0xd800 && at < 0xe000) at = 0xe000;
            if (at > inst->ranges[k].hi || (found && at >= *ret)) continue;
            *ret = at;
            found = true;
        }
    }
    return found;
}

static bool regex_accepts(struct term_matcher *matcher, int32_t state) {
    return ((struct regex_matcher *)matcher)->states[state]->accepts;
}

static const struct term_matcher_ops regex_ops = {regex_step, regex_next, regex_accepts};

void regex_matcher_init(struct regex_matcher *m, const struct regex *x) {
    *m = (struct regex_matcher){.base.ops = &regex_ops, .regex = x};
    m->buckets = xcalloc(BUCKETS, sizeof *m->buckets);
    m->set = xmalloc((x->n_insts + 1) * sizeof *m->set);
    m->stack = xmalloc((x->n_insts + 1) * sizeof *m->stack);
    m->marks = xcalloc(x->n_insts + 1, sizeof *m->marks);
    for (uint32_t c = 0; c < 128; c++) m->ascii[c] = (int16_t)class_of(x, c);
    make_first(m);
}

void regex_matcher_release(struct regex_matcher *m) {
    arena_release(&m->arena);
    free(m->states);
    free(m->buckets);
    free(m->set);
    free(m->stack);
    free(m->marks);
}
