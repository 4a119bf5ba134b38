/* Fuzzy words: a banded alignment over the ordered dictionary, and the choice of the best terms. */
#include "query/fuzzy.h"
#include "query/docset.h"

/* One row of the alignment, of the term's first i characters: cell[k] is the distance to the word's first
 * i - edits + k characters, or FAR. c: the term's i-th character. */
enum { BAND = 2 * FUZZY_MAX_EDITS + 1, FAR = 100 };
struct fuzzy_row {
    uint32_t c;
    uint8_t cells[BAND];
};

/* ---- the automaton ---- */

static uint32_t count_chars(const char *s, size_t len) {
    uint32_t n = 0;
    for (size_t i = 0; i < len; i++) n += ((unsigned char)s[i] & 0xc0) != 0x80;
    return n;
}

/* The row behind `state` and c. False: no cell is within the limit. */
static bool next_row(const struct fuzzy_matcher *m, int32_t state, uint32_t c, struct fuzzy_row *row) {
    const struct fuzzy_row *before = &m->rows[state], *earlier = state ? before - 1 : NULL;
    int64_t i = state + 1, edits = m->edits;
    bool alive = false;
    row->c = c;
    for (int64_t k = 0; k <= 2 * edits; k++) {
        int64_t j = i - edits + k;
        uint8_t best = FAR;
        if (j >= 0 && j <= (int64_t)m->len) {
            if (j == 0) best = (uint8_t)MIN(i, (int64_t)FAR);
            if (j > 0) best = MIN(best, before->cells[k] + (m->word[j - 1] != c));
            if (k < 2 * edits) best = MIN(best, before->cells[k + 1] + 1);
            if (k > 0) best = MIN(best, row->cells[k - 1] + 1);
            bool swapped = earlier && j > 1 && m->word[j - 2] == c && m->word[j - 1] == before->c;
            if (swapped) best = MIN(best, earlier->cells[k] + 1);
        }
        row->cells[k] = MIN(best, (uint8_t)FAR);
        alive |= best <= m->limit;
    }
    return alive;
}

static int32_t fuzzy_step(struct term_matcher *matcher, int32_t state, uint32_t c) {
    struct fuzzy_matcher *m = (struct fuzzy_matcher *)matcher;
    return next_row(m, state, c, &m->rows[state + 1]) ? state + 1 : TERM_DEAD;
}

/* A character that is not in the word leads on if an edit is left; one of the word's may do better. */
static bool fuzzy_next(struct term_matcher *matcher, int32_t state, uint32_t c, uint32_t *ret) {
    struct fuzzy_matcher *m = (struct fuzzy_matcher *)matcher;
    struct fuzzy_row row;
    int64_t from = (int64_t)state - m->edits - 1, to = (int64_t)state + m->edits + 1;
    bool found = false;
    if (next_row(m, state, UINT32_MAX, &row)) return *ret = c, true;
    for (int64_t j = MAX(from, (int64_t)0); j <= to && j < (int64_t)m->len; j++) {
        uint32_t at = m->word[j];
        if (at < c || (found && at >= *ret) || !next_row(m, state, at, &row)) continue;
        *ret = at;
        found = true;
    }
    return found;
}

uint32_t fuzzy_distance(const struct fuzzy_matcher *m, int32_t state) {
    int64_t k = (int64_t)m->len - state + m->edits;
    return k < 0 || k > 2 * (int64_t)m->edits ? FAR : m->rows[state].cells[k];
}

static bool fuzzy_accepts(struct term_matcher *matcher, int32_t state) {
    const struct fuzzy_matcher *m = (struct fuzzy_matcher *)matcher;
    return fuzzy_distance(m, state) <= m->limit;
}

static const struct term_matcher_ops fuzzy_ops = {fuzzy_step, fuzzy_next, fuzzy_accepts};

void fuzzy_matcher_init(struct fuzzy_matcher *m, const char *word, size_t len, uint32_t edits) {
    const uint8_t *s = (const uint8_t *)word, *end = s + len;
    uint32_t step;
    *m = (struct fuzzy_matcher){.base.ops = &fuzzy_ops, .edits = edits, .limit = edits};
    m->word = xmalloc((len + 1) * sizeof *m->word);
    for (; s < end; s += step) m->word[m->len++] = utf8_next(s, end, &step);
    /* no term longer than the word and its edits is alive, and one row more is written to find that out */
    m->rows = xcalloc((size_t)m->len + edits + 2, sizeof *m->rows);
    for (uint32_t k = 0; k < BAND && k <= 2 * edits; k++)
        m->rows[0].cells[k] = k >= edits && k - edits <= m->len ? (uint8_t)(k - edits) : FAR;
}

void fuzzy_matcher_release(struct fuzzy_matcher *m) {
    free(m->word);
    free(m->rows);
}

uint32_t fuzzy_edits(float similarity, const char *word, size_t len) {
    if (similarity >= 1) return (uint32_t)MIN(similarity, (float)FUZZY_MAX_EDITS);
    if (similarity == 0) return 0;
    double edits = (1.0 - (double)similarity) * count_chars(word, len);
    return edits < FUZZY_MAX_EDITS ? (uint32_t)edits : FUZZY_MAX_EDITS;
}

/* ---- the best terms ---- */

struct expansion {
    struct fuzzy_terms *best;
    struct fuzzy_matcher matcher;
    const struct search_part *part;
    const struct segment_field *field;
};

static float term_boost(uint32_t distance, uint32_t word_len, uint32_t term_len) {
    if (!distance) return 1;
    return 1.0f - (float)distance / (float)MIN(word_len, term_len);
}

static int compare_bytes(const void *a, size_t a_len, const void *b, size_t b_len) {
    int r = memcmp(a, b, MIN(a_len, b_len));
    return r ? r : (a_len > b_len) - (a_len < b_len);
}

/* Does a term with this boost stand before an entry? *ret_same: it is the entry. */
static bool stands_before(const struct fuzzy_term *t, float boost, const struct buf *term, bool *ret_same) {
    int order = compare_bytes(term->data, term->len, t->text, t->len);
    *ret_same = !order;
    return boost != t->boost ? boost > t->boost : order < 0;
}

/* When no term at the current limit can be among the best any more, fewer edits are looked for. at: where the
 * walk of this part stands, NULL at its beginning: terms behind the last of the best lose against it when
 * they are equal. */
static void lower_limit(struct expansion *x, const struct buf *at) {
    struct fuzzy_matcher *m = &x->matcher;
    if (x->best->n < FUZZY_MAX_TERMS) return;
    const struct fuzzy_term *last = &x->best->terms[FUZZY_MAX_TERMS - 1];
    bool behind = at && compare_bytes(at->data, at->len, last->text, last->len) >= 0;
    for (; m->limit; m->limit--) {
        float highest = term_boost(m->limit, m->len, m->len);
        if (last->boost < highest || (last->boost == highest && !behind)) return;
    }
}

static int add_term(void *ctx, const struct term_iter *it, int32_t state, struct err *err) {
    struct expansion *x = ctx;
    struct fuzzy_terms *best = x->best;
    uint32_t chars = count_chars((const char *)it->term.data, it->term.len), at = 0;
    float boost = term_boost(fuzzy_distance(&x->matcher, state), x->matcher.len, chars);
    uint64_t df = it->info.df - deletes_term_df(x->part->deletes, x->field, it->info.ord);
    bool same = false;
    if (!df) return 0;
    while (at < best->n && !stands_before(&best->terms[at], boost, &it->term, &same) && !same) at++;
    if (same) {
        best->terms[at].df += df;
        return 0;
    }
    if (at == FUZZY_MAX_TERMS) return 0;
    if (best->n == FUZZY_MAX_TERMS) free(best->terms[--best->n].text);
    memmove(&best->terms[at + 1], &best->terms[at], (best->n - at) * sizeof *best->terms);
    best->terms[at] = (struct fuzzy_term){xstrndup((const char *)it->term.data, it->term.len),
                                          (uint32_t)it->term.len, boost, df};
    best->n++;
    lower_limit(x, &it->term);
    return 0;
}

int search_expand(struct search_stats *stats, const struct query *query, const struct search_part *part,
                  const volatile int *cancel, struct err *err) {
    int r = 0;
    for (uint32_t i = 0; i < query->n_fuzzy && !r; i++) {
        const struct query_node *n = query->fuzzy[i];
        struct expansion x = {.best = &stats->fuzzy[i], .part = part};
        x.field = segment_field(part->segment, n->field, strlen(n->field), n->type,
                                n->type == FIELD_TEXT ? n->analyzer : 0);
        if (!x.field) continue;
        struct term_walk w = {x.field, &x.matcher.base, cancel, add_term, &x};
        fuzzy_matcher_init(&x.matcher, n->terms[0].text, n->terms[0].len, n->edits);
        lower_limit(&x, NULL);
        r = term_walk(&w, err);
        fuzzy_matcher_release(&x.matcher);
    }
    return r ? r : search_poll(cancel, err);
}

static int compare_text(const void *a, const void *b) {
    const struct fuzzy_term *x = a, *y = b;
    return compare_bytes(x->text, x->len, y->text, y->len);
}

/* The clauses: optional terms that share one statistics slot, which holds the highest document frequency. */
static struct query_node *expanded_node(struct fuzzy_terms *f, const struct query_node *n, uint32_t slot) {
    struct query_node *all = arena_zalloc(&f->arena, sizeof *all);
    all->kind = QUERY_BOOL;
    all->boost = 1;
    all->n_clauses = f->n;
    all->clauses = arena_alloc(&f->arena, f->n * sizeof *all->clauses);
    for (uint32_t i = 0; i < f->n; i++) {
        struct query_node *t = arena_alloc(&f->arena, sizeof *t);
        *t = *n;
        t->kind = QUERY_TERM;
        t->boost = MAX(f->terms[i].boost, 0.0f);
        t->terms = arena_zalloc(&f->arena, sizeof *t->terms);
        t->terms[0] = (struct query_term){.text = f->terms[i].text, .len = f->terms[i].len, .slot = slot};
        all->clauses[i] = (struct query_clause){OCCUR_SHOULD, t};
    }
    return f->n == 1 ? all->clauses[0].node : all;
}

void search_expand_finish(struct search_stats *stats, const struct query *query) {
    for (uint32_t i = 0; i < query->n_fuzzy; i++) {
        struct fuzzy_terms *f = &stats->fuzzy[i];
        uint32_t slot = query->n_term_slots + i;
        qsort(f->terms, f->n, sizeof *f->terms, compare_text);
        for (uint32_t t = 0; t < f->n; t++) stats->term_df[slot] = MAX(stats->term_df[slot], f->terms[t].df);
        if (f->n) f->node = expanded_node(f, query->fuzzy[i], slot);
    }
}
