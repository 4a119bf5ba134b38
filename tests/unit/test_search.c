/* Evaluation against a naive model: random documents and queries, the model scores every document from its
 * tokens; the engine must give the same totals, order and bits for every division of the same documents into
 * segments, ranges and calls. */
#include "search_division.h"
#include "test.h"

/* ---- comparison ---- */

static bool check_result(const struct model_hit *hits, uint32_t n, float max_score, uint32_t want,
                         const struct search_result *r) {
    bool ok = r->total == n && r->n_hits == MIN(n, want) && same(r->max_score, n ? max_score : 0);
    if (!ok)
        fprintf(stderr, "total %u/%u hits %u max %.9g/%.9g\n", (unsigned)r->total, n, r->n_hits, r->max_score,
                max_score);
    for (uint32_t i = 0; i < r->n_hits && ok; i++) {
        const struct search_hit *h = &r->hits[i];
        ok = h->id_len == strlen(hits[i].doc->id) && memcmp(h->id, hits[i].doc->id, h->id_len) == 0 &&
             same(h->score, hits[i].score);
        if (!ok)
            fprintf(stderr, "hit %u: %.*s %.9g, expected %s %.9g\n", i, (int)h->id_len, h->id,
                    (double)h->score, hits[i].doc->id, (double)hits[i].score);
    }
    return ok;
}
static bool check_query(const struct query *q, const struct layout *layouts, uint32_t n_layouts) {
    struct model_hit *hits = xmalloc(model->n * sizeof *hits);
    struct division division;
    float max_score = 0;
    uint32_t n = model_run(q, hits, &max_score);
    bool ok = true;
    for (uint32_t i = 0; i < n_layouts * 2 && ok; i++) {
        struct err err = ERR_INIT;
        struct search_result result;
        uint32_t want = rnd(3) == 0 ? rnd(4) : rnd(2) ? 10 : model->n;
        divide(&layouts[i / 2], i % 2, i % 2 ? 1 + rnd(4) : 1, &division);
        if (run_division(q, &layouts[i / 2], &division, want, &result, &err)) {
            fprintf(stderr, "layout %u: %s\n", i, err.text);
            ok = false;
            break;
        }
        ok = check_result(hits, n, max_score, want, &result);
        if (!ok) fprintf(stderr, "in layout %u, want %u\n", i, want);
        search_result_release(&result);
    }
    free(hits);
    return ok;
}

/* ---- the tests ---- */

static bool set_up(struct corpus *c, struct layout layouts[3], uint32_t n_docs, uint32_t n_segments) {
    static const char schema[] =
        "{\"indexConfigs\":{\"title\":{\"type\":\"text\",\"analyzers\":[\"standard\"]},\"tag\":{\"type\":"
        "\"keyword\"},"
        "\"num\":{\"type\":\"long\"},\"sparse\":{\"type\":\"sparseVector\"},\"vec\":{\"type\":\"vector\","
        "\"dimensions\":37,\"similarity\":"
        "\"euclidean\"},"
        "\"angle\":{\"type\":\"vector\",\"dimensions\":37,\"similarity\":\"cosine\"}}}";
    struct err err = ERR_INIT;
    *c = corpus_new(n_docs);
    model = c;
    memo.of = NULL;
    if (schema_parse(schema, strlen(schema), &test_schema, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return false;
    }
    return layout_split(&layouts[0], c, 1) && layout_split(&layouts[1], c, n_segments) &&
           layout_merge(&layouts[2], &layouts[1]);
}
static void tear_down(struct corpus *c, struct layout layouts[3]) {
    for (int i = 0; i < 3; i++) layout_release(&layouts[i]);
    schema_unref(test_schema);
    free(c->docs);
}

TEST(random_queries) {
    struct corpus c;
    struct layout layouts[3];
    CHECK(set_up(&c, layouts, 300, 4));
    for (int i = 0; i < 400; i++) {
        struct query *q = query_new();
        q->root = random_node(q, 3, true);
        bool ok = check_query(q, layouts, 3);
        query_drop(q);
        if (!ok) fprintf(stderr, "query %d\n", i);
        CHECK(ok);
    }
    tear_down(&c, layouts);
}

TEST(sorts) {
    static const char *const fields[] = {"num", "tag", "_score", "_id", "nothing"};
    static const enum field_type types[] = {FIELD_LONG, FIELD_KEYWORD, 0, 0, FIELD_LONG};
    struct corpus c;
    struct layout layouts[3];
    CHECK(set_up(&c, layouts, 250, 5));
    for (int i = 0; i < 200; i++) {
        struct query *q = query_new();
        q->root = random_node(q, 2, true);
        q->n_sort = 1 + rnd(3);
        for (uint32_t k = 0; k < q->n_sort; k++) {
            uint32_t f = rnd(4);
            q->sort[k] = (struct sort_key){fields[f], types[f], rnd(2)};
        }
        q->needs_scores = rnd(3);
        bool ok = check_query(q, layouts, 3);
        query_drop(q);
        if (!ok) fprintf(stderr, "query %d\n", i);
        CHECK(ok);
    }
    tear_down(&c, layouts);
}

/* Lists of many blocks, windows of all sizes, terms of very different frequency. */
TEST(long_lists) {
    struct corpus c;
    struct layout layouts[3];
    CHECK(set_up(&c, layouts, 6000, 2));
    for (int i = 0; i < 6; i++) {
        struct query *q = query_new();
        struct query_node *node = node_new(q, QUERY_BOOL, NULL, 0);
        for (uint32_t k = 0; k < 2 + (uint32_t)i; k++)
            add_clause(q, node, i % 2 ? OCCUR_SHOULD : (enum occur)rnd(2), term_node(q, rnd_skewed(N_WORDS)));
        if (i == 4) add_clause(q, node, OCCUR_FILTER, tag_node(q, 1));
        if (i == 5) add_clause(q, node, OCCUR_MUST_NOT, tag_node(q, 2));
        q->root = node;
        bool ok = check_query(q, layouts, 3);
        query_drop(q);
        CHECK(ok);
    }
    tear_down(&c, layouts);
}

static int count_match(void *ctx, uint32_t docno, struct err *err) {
    *(uint32_t *)ctx += 1;
    return 0;
}

TEST(matches_and_cancel) {
    struct err err = ERR_INIT;
    struct corpus c;
    struct layout layouts[3];
    CHECK(set_up(&c, layouts, 200, 3));
    struct query *q = query_new();
    struct search_part part = {layouts[0].segments[0], layouts[0].deletes[0], 0, UINT32_MAX, 0, NULL};
    struct search_stats stats;
    struct search_result result;
    uint32_t n = 0, expected = 0;
    float ignored;
    volatile int cancel = 0;
    q->root = node_new(q, QUERY_BOOL, NULL, 0);
    add_clause(q, q->root, OCCUR_SHOULD, term_node(q, 0));
    add_clause(q, q->root, OCCUR_SHOULD, tag_node(q, 0));
    for (uint32_t i = 0; i < c.n; i++)
        expected += !c.docs[i].dead && model_eval(q->root, &c.docs[i], 1, &ignored);
    CHECK_OK(search_matches(q, NULL, &part, &cancel, count_match, &n, &err));
    CHECK(n == expected && n > 10);
    search_stats_init(&stats, q);
    CHECK_OK(search_stats_add(&stats, q, &part, &err));
    cancel = 1;
    CHECK(search_run(q, &stats, NULL, &part, 1, 10, &cancel, &result, &err) == -ERR_CANCELED);
    cancel = 2;
    CHECK(search_matches(q, NULL, &part, &cancel, count_match, &n, &err) == -ERR_TIMEOUT);
    search_stats_release(&stats);
    query_drop(q);
    tear_down(&c, layouts);
}

/* Scores by hand: docs "aw0 bw1", "cw2 aw0 bw1 aw0 bw4", "bw1 bw1", "bw1 bw1 bw1". */
static float sloppy_score(const struct layout *l, const uint32_t *words, uint32_t n, uint32_t slop,
                          const char *id) {
    struct err err = ERR_INIT;
    struct query *q = query_new();
    struct search_result result = {0};
    struct division division;
    float score = -1;
    q->root = phrase_node(q, words, n, slop);
    divide(l, false, 1, &division);
    if (run_division(q, l, &division, 10, &result, &err)) return -2;
    for (uint32_t i = 0; i < result.n_hits; i++)
        if (strncmp(result.hits[i].id, id, result.hits[i].id_len) == 0) score = result.hits[i].score;
    search_result_release(&result);
    query_drop(q);
    return score;
}
static float phrase_expected(const struct corpus *c, const uint32_t *words, uint32_t n, uint32_t doc,
                             float freq) {
    struct query *q = query_new();
    struct query_node *node = phrase_node(q, words, n, 0);
    double idf = 0;
    for (uint32_t i = 0; i < n; i++) idf += (double)model_idf(node, node->terms[i].text);
    float score = model_bm25(node, &c->docs[doc], (float)idf, 1, freq);
    query_drop(q);
    return score;
}
TEST(sloppy_by_hand) {
    static const struct doc docs[] = {
        {.id = "a", .n_tokens = 2, .tokens = {0, 1}}, {.id = "b", .n_tokens = 5, .tokens = {2, 0, 1, 0, 4}},
        {.id = "c", .n_tokens = 2, .tokens = {1, 1}}, {.id = "d", .n_tokens = 3, .tokens = {1, 1, 1}},
        {.id = "e", .n_tokens = 1, .tokens = {1}},
    };
    static const uint32_t ab[] = {0, 1}, bb[] = {1, 1};
    struct corpus setup, c = {(struct doc *)docs, ARRAY_SIZE(docs)};
    struct layout layouts[3], l;
    CHECK(set_up(&setup, layouts, 20, 2));
    model = &c;
    CHECK(layout_split(&l, &c, 1));
    CHECK(same(sloppy_score(&l, ab, 2, 0, "a"), phrase_expected(&c, ab, 2, 0, 1)));
    /* "x a b a y" for "a b"~2: a b at distance 0, b a at distance 2 */
    CHECK(same(sloppy_score(&l, ab, 2, 2, "b"), phrase_expected(&c, ab, 2, 1, 1 + 1.0f / 3)));
    CHECK(same(sloppy_score(&l, ab, 2, 1, "b"), phrase_expected(&c, ab, 2, 1, 1)));
    /* repeats: two terms may not use one occurrence */
    CHECK(same(sloppy_score(&l, bb, 2, 3, "c"), phrase_expected(&c, bb, 2, 2, 1)));
    CHECK(sloppy_score(&l, bb, 2, 3, "e") == -1);
    CHECK(sloppy_score(&l, bb, 2, 0, "e") == -1);
    CHECK(same(sloppy_score(&l, bb, 2, 0, "d"), phrase_expected(&c, bb, 2, 3, 2)));
    layout_release(&l);
    tear_down(&setup, layouts);
}

TEST(cosine) {
    struct err err = ERR_INIT;
    struct corpus c;
    struct layout layouts[3];
    struct division division;
    struct search_result first = {0}, other = {0};
    CHECK(set_up(&c, layouts, 300, 3));
    struct query *q = query_new();
    q->root = node_new(q, QUERY_KNN, "angle", FIELD_VECTOR);
    q->root->similarity = SIMILARITY_COSINE;
    q->root->dimensions = DIMENSIONS;
    q->root->vector = c.docs[7].vector;
    q->root->k = 25;
    divide(&layouts[0], false, 1, &division);
    CHECK_OK(run_division(q, &layouts[0], &division, 100, &first, &err));
    CHECK(first.n_hits == 25 && first.total == 25);
    for (int i = 1; i < 3; i++) {
        divide(&layouts[i], true, 3, &division);
        CHECK_OK(run_division(q, &layouts[i], &division, 100, &other, &err));
        CHECK(other.n_hits == 25);
        for (uint32_t k = 0; k < 25; k++) {
            CHECK(same(first.hits[k].score, other.hits[k].score));
            CHECK(first.hits[k].id_len == other.hits[k].id_len &&
                  !memcmp(first.hits[k].id, other.hits[k].id, other.hits[k].id_len));
        }
        search_result_release(&other);
    }
    for (uint32_t i = 0; i < c.n; i++) {
        double dot = 0, a = 0, b = 0;
        for (uint32_t k = 0; k < DIMENSIONS; k++) {
            dot += (double)c.docs[i].vector[k] * c.docs[7].vector[k];
            a += (double)c.docs[i].vector[k] * c.docs[i].vector[k];
            b += (double)c.docs[7].vector[k] * c.docs[7].vector[k];
        }
        double score = (1 + dot / sqrt(a * b)) / 2;
        bool in = false;
        for (uint32_t k = 0; k < 25; k++)
            if (strlen(c.docs[i].id) == first.hits[k].id_len &&
                !memcmp(c.docs[i].id, first.hits[k].id, first.hits[k].id_len)) {
                in = true;
                CHECK(fabs(score - (double)first.hits[k].score) < 1e-6);
            }
        CHECK(in || c.docs[i].dead || !c.docs[i].has_vector || score < (double)first.hits[24].score + 1e-6);
    }
    search_result_release(&first);
    query_drop(q);
    tear_down(&c, layouts);
}
