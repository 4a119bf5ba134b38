/* Skipping never shows: every query is run scoring each match, and by bounds, with every variant of the inner
 * loops, in every division of the same documents, with and without bitmaps of frequent terms. Totals, the
 * highest score, hits, order and bits must agree.
 */
#include "index/inverted_internal.h"
#include "util/simd.h"
#include "query/facet.h"
#include "query/kernels.h"
#include "query/topk.h"
#include "search_division.h"
#include "test.h"

enum { VOCABULARY = 700, N_DOCS = 10000 };

/* Few words are frequent, most are rare; some documents are short and say one thing often. */
static uint32_t random_word(void) {
    uint32_t range = 1u << rnd(10);
    return rnd(MIN(range, (uint32_t)VOCABULARY));
}

static void random_text(struct doc *d, uint32_t number) {
    *d = (struct doc){0};
    snprintf(d->id, sizeof d->id, "%c%u", 'a' + (int)rnd(5), number * 7919 % 100003);
    d->dead = rnd(7) == 0;
    d->n_tokens = rnd(30) == 0 ? 0 : rnd(3) == 0 ? 1 + rnd(MAX_TOKENS) : 1 + rnd(12);
    for (uint32_t i = 0; i < d->n_tokens; i++)
        d->tokens[i] = i && rnd(4) == 0 ? d->tokens[i - 1] : random_word();
    if (rnd(3)) d->tags[d->n_tags++] = rnd_skewed(N_TAGS);
    if (rnd(2)) d->nums[d->n_nums++] = (int64_t)rnd(40) - 20;
    for (uint32_t i = rnd(4); i; i--) d->weights[rnd_skewed(N_FEATURES)] = random_weight();
}

static bool set_up(struct corpus *c, struct layout layouts[3]) {
    static const char schema[] =
        "{\"indexConfigs\":{\"title\":{\"type\":\"text\",\"analyzers\":[\"standard\"]},\"tag\":{\"type\":"
        "\"keyword\"},\"num\":{\"type\":\"long\"},\"sparse\":{\"type\":\"sparseVector\"}}}";
    struct err err = ERR_INIT;
    *c = (struct corpus){xmalloc(N_DOCS * sizeof *c->docs), N_DOCS};
    for (uint32_t i = 0; i < N_DOCS; i++) random_text(&c->docs[i], i);
    qsort(c->docs, c->n, sizeof *c->docs, compare_docs);
    model = c;
    if (schema_parse(schema, strlen(schema), &test_schema, &err)) return false;
    if (!layout_split(&layouts[0], c, 1)) return false;
    encoder_without_bitmaps(true);
    bool ok = layout_split(&layouts[1], c, 5) && layout_merge(&layouts[2], &layouts[1]);
    encoder_without_bitmaps(false);
    return ok;
}

static void tear_down(struct corpus *c, struct layout layouts[3]) {
    for (int i = 0; i < 3; i++) layout_release(&layouts[i]);
    schema_unref(test_schema);
    free(c->docs);
}

/* ---- queries ---- */

static float random_boost(void) {
    static const float boosts[] = {1, 1, 1, 1, 2, 0.3f, 1.7f, 0, 1e9f, 1e-9f, 1e-30f, 16777216};
    return boosts[rnd(ARRAY_SIZE(boosts))];
}

static struct query_node *random_clause(struct query *q, unsigned depth);

static struct query_node *random_bool(struct query *q, unsigned depth) {
    struct query_node *node = node_new(q, QUERY_BOOL, NULL, 0);
    uint32_t kind = rnd(4), n = 1 + rnd(rnd(6) ? 5 : 14), should = 0;
    for (uint32_t i = 0; i < n; i++) {
        enum occur occur = kind == 0 ? OCCUR_MUST : kind == 1 ? (enum occur)rnd(4) : OCCUR_SHOULD;
        struct query_node *child = depth ? random_clause(q, depth - 1) : term_node(q, random_word());
        if (rnd(4) == 0) child->boost = random_boost();
        should += occur == OCCUR_SHOULD;
        add_clause(q, node, occur, child);
    }
    if (rnd(4) == 0) node->min_should_match = rnd(should + 1);
    return node;
}

static struct query_node *random_clause(struct query *q, unsigned depth) {
    struct query_node *node;
    switch (rnd(10)) {
    case 0:
        return tag_node(q, rnd_skewed(N_TAGS));
    case 1:
        node = node_new(q, QUERY_RANGE, "num", FIELD_LONG);
        node->lo = (int64_t)rnd(40) - 22;
        node->hi = node->lo + rnd(20);
        return node;
    case 2:
        return rnd(3) ? random_bool(q, depth) : node_new(q, QUERY_ALL, NULL, 0);
    case 3:
        return sparse_node(q);
    default:
        return term_node(q, random_word());
    }
}

/* ---- comparison ---- */

/* Hides documents of a segment, as a partition filter does; the dead too. */
static uint64_t *hide_some(const struct layout *l, uint32_t s) {
    uint32_t n_docs = segment_n_docs(l->segments[s]);
    uint64_t *bits = xcalloc(n_docs / 64 + 1, sizeof *bits);
    const uint64_t *dead = deletes_bits(l->deletes[s]);
    for (uint32_t d = 0; d < n_docs; d++)
        if (deletes_has(dead, d) || rnd(9) == 0) bits[d >> 6] |= 1ull << (d & 63);
    return bits;
}

static bool same_result(const struct search_result *a, const struct search_result *b) {
    bool ok = a->total == b->total && a->n_hits == b->n_hits && same(a->max_score, b->max_score);
    for (uint32_t i = 0; i < a->n_hits && ok; i++)
        ok = same(a->hits[i].score, b->hits[i].score) && a->hits[i].id_len == b->hits[i].id_len &&
             memcmp(a->hits[i].id, b->hits[i].id, a->hits[i].id_len) == 0;
    if (ok) return true;
    fprintf(stderr, "total %u/%u hits %u/%u max %.9g/%.9g\n", (unsigned)a->total, (unsigned)b->total,
            a->n_hits, b->n_hits, (double)a->max_score, (double)b->max_score);
    for (uint32_t i = 0; i < MIN(a->n_hits, b->n_hits); i++)
        fprintf(stderr, "  %.*s %.9g  %.*s %.9g\n", (int)a->hits[i].id_len, a->hits[i].id,
                (double)a->hits[i].score, (int)b->hits[i].id_len, b->hits[i].id, (double)b->hits[i].score);
    return false;
}

static bool same_facets(const struct facets *a, const struct facets *b) {
    struct buf x = BUF_INIT, y = BUF_INIT;
    if (!a || !b) return a == b;
    facets_sort((struct facets *)a);
    facets_sort((struct facets *)b);
    facet_format(a, 0, 100, &x);
    facet_format(b, 0, 100, &y);
    bool ok = strcmp(buf_str(&x), buf_str(&y)) == 0;
    buf_release(&x);
    buf_release(&y);
    return ok;
}

/* One division both ways. */
static bool check_division(const struct query *q, const struct layout *l, const struct division *d,
                           uint32_t want) {
    struct err err = ERR_INIT;
    struct search_result all = {0}, best = {0};
    topk_disable(true);
    int r = run_division(q, l, d, want, &all, &err);
    topk_disable(false);
    bool ok = !r;
    for (int level = SIMD_PLAIN; level <= SIMD_MOST && ok; level++) {
        simd_limit((enum simd_level)level);
        ok = !run_division(q, l, d, want, &best, &err) && same_result(&all, &best) &&
             same_facets(all.facets, best.facets);
        search_result_release(&best);
    }
    if (err.text[0]) fprintf(stderr, "%s\n", err.text);
    search_result_release(&all);
    return ok;
}

static bool check_query(const struct query *q, const struct layout layouts[3]) {
    static const uint32_t wants[] = {0, 1, 2, 10, 10, 32, 33, N_DOCS};
    struct division d;
    bool ok = true;
    for (uint32_t i = 0; i < 6 && ok; i++) {
        const struct layout *l = &layouts[i / 2];
        uint64_t *hidden[MAX_PARTS] = {0};
        divide(l, i % 2, i % 2 ? 1 + rnd(4) : 1, &d);
        for (uint32_t s = 0; s < l->n && rnd(3) == 0; s++) hidden[s] = hide_some(l, s);
        for (uint32_t c = 0; c < d.n_calls; c++)
            for (uint32_t p = 0; p < d.n[c]; p++) d.parts[c][p].hidden = hidden[d.parts[c][p].part_no];
        ok = check_division(q, l, &d, wants[rnd(ARRAY_SIZE(wants))]);
        for (uint32_t s = 0; s < l->n; s++) free(hidden[s]);
        if (!ok) fprintf(stderr, "in layout %u\n", i);
    }
    return ok;
}

TEST(skipping_never_shows) {
    struct corpus c;
    struct layout layouts[3];
    CHECK(set_up(&c, layouts));
    for (int i = 0; i < 400; i++) {
        struct query *q = query_new();
        q->root = i % 8 == 0   ? term_node(q, random_word())
                  : i % 8 == 1 ? sparse_node(q)
                               : random_bool(q, (unsigned)i % 3);
        if (i % 8 == 1) q->root->boost = random_boost();
        if (i % 5 == 0) {
            q->n_facets = 1;
            q->facets[0] = (struct facet_field){"tag", FIELD_KEYWORD};
        }
        if (i % 11 == 0) {
            q->needs_scores = false;
            q->n_sort = 1;
            q->sort[0] = (struct sort_key){"num", FIELD_LONG, rnd(2)};
        }
        bool ok = check_query(q, layouts);
        if (!ok) {
            struct buf text = BUF_INIT;
            query_print(q->root, &text);
            fprintf(stderr, "query %d: %s\n", i, buf_str(&text));
            buf_release(&text);
        }
        query_drop(q);
        CHECK(ok);
    }
    tear_down(&c, layouts);
}

TEST(equal_scores_stop_early) {
    struct corpus c;
    struct layout layouts[3];
    CHECK(set_up(&c, layouts));
    struct query *q = query_new();
    q->root = node_new(q, QUERY_ALL, NULL, 0);
    CHECK(check_query(q, layouts));
    q->root->boost = 0;
    CHECK(check_query(q, layouts));
    query_drop(q);
    tear_down(&c, layouts);
}
