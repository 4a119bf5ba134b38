/* rrf, mm and l2 against their definitions, computed from the two lists searched alone; the same bits for
 * every division of the documents into segments and ranges. */
#include "corpus.h"
#include "query_test.h"
#include <math.h>

enum { N_DOCS = 320 };
static struct corpus_index layouts[3];
static struct schema *schema;
static char jsons[N_DOCS][300], stales[N_DOCS][300];

static void random_json(uint32_t i, char *out) {
    char text[120] = "";
    for (uint32_t n = corpus_rnd(8); n; n--) {
        uint32_t word = MIN(corpus_rnd(12), corpus_rnd(12));
        snprintf(text + strlen(text), sizeof text - strlen(text), "w%u ", word);
    }
    snprintf(out, 300, "{\"id\":\"d%03u\",\"body\":\"%s\",\"tag\":\"t%u\",\"n\":%u,\"v\":[%u,%u]}", i, text,
             corpus_rnd(3), i, corpus_rnd(9) + 1, corpus_rnd(9));
}

static bool set_up(void) {
    static const uint32_t n_segments[] = {1, 3, 8};
    static char ids[N_DOCS][8];
    struct corpus_doc docs[N_DOCS];
    if (schema) return true;
    schema = test_schema(schema_json);
    for (uint32_t i = 0; i < N_DOCS; i++) {
        snprintf(ids[i], sizeof ids[i], "d%03u", i);
        random_json(i, jsons[i]);
        random_json(i, stales[i]);
        docs[i] = (struct corpus_doc){ids[i], jsons[i], corpus_rnd(7) == 0, corpus_rnd(3) ? NULL : stales[i]};
    }
    for (int l = 0; l < 3; l++)
        if (!corpus_build(&layouts[l], schema, docs, N_DOCS, n_segments[l])) return false;
    return true;
}

static bool search_window(int layout, const char *json, uint32_t want, uint32_t window,
                          struct search_result *ret) {
    struct query_request request;
    struct query *q = NULL;
    query_request_init(&request);
    request.window = window;
    if (window) request.size = 0;
    request.json = (char *)json;
    *ret = (struct search_result){0};
    int r = query_compile(&request, schema, NULL, 0, &q, &err);
    if (!r) r = corpus_search(&layouts[layout / 2], q, layout % 2, want, ret, &err);
    query_free(q);
    if (r) fprintf(stderr, "%s: %s\n", json, err.text);
    return !r;
}

static bool search(int layout, const char *json, uint32_t want, struct search_result *ret) {
    return search_window(layout, json, want, 0, ret);
}

/* ---- the definitions ---- */

struct entry {
    char id[8];
    double parts[2];
    float score;
};
static int compare_entries(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : strcmp(x->id, y->id);
}

static double part_of(const char *how, const struct search_result *list, uint32_t i, double weight) {
    double least = 1e300, most = -1e300, squares = 0, s = (double)list->hits[i].score;
    for (uint32_t k = 0; k < list->n_hits; k++) {
        double other = (double)list->hits[k].score;
        least = MIN(least, other);
        most = MAX(most, other);
        squares += other * other;
    }
    if (!strcmp(how, "rrf")) return 30.5 / (60 + (double)i + 1);
    if (!strcmp(how, "l2")) return weight * (s / sqrt(squares));
    double x = most == least ? 1 : (s - least) / (most - least);
    return weight * (x == 0 ? 0.001 : x);
}

static uint32_t fuse(const char *how, const struct search_result lists[2], const double weights[2],
                     struct entry *out) {
    uint32_t n = 0;
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < lists[s].n_hits; i++) {
            uint32_t at = 0;
            while (at < n && (strlen(out[at].id) != lists[s].hits[i].id_len ||
                              memcmp(out[at].id, lists[s].hits[i].id, lists[s].hits[i].id_len) != 0))
                at++;
            if (at == n) {
                out[n] = (struct entry){0};
                memcpy(out[n++].id, lists[s].hits[i].id, lists[s].hits[i].id_len);
            }
            out[at].parts[s] = part_of(how, &lists[s], i, weights[s]);
        }
    for (uint32_t i = 0; i < n; i++) out[i].score = (float)(out[i].parts[0] + out[i].parts[1]);
    qsort(out, n, sizeof *out, compare_entries);
    return n;
}

/* ---- the test ---- */

static const char *side_json(uint32_t which, char *out) {
    static const char *const texts[] = {"w0", "w1 w2",     "w3 AND w0",  "tag:t1",  "*:*",
                                        "w9", "body:w11~", "body:/w1./", "nothing", "n<50"};
    if (which < ARRAY_SIZE(texts))
        sprintf(out, "\"queryString\":{\"query\":\"%s\",\"defaultField\":\"body\"}", texts[which]);
    else if (which == ARRAY_SIZE(texts))
        sprintf(out, "\"bool\":[{\"queryString\":{\"query\":\"tag:t0\"}},{\"knn\":{\"field\":\"v\","
                     "\"queryVector\":[2,1],\"k\":20}}]");
    else
        sprintf(out, "\"knn\":{\"field\":\"v\",\"queryVector\":[%u,%u],\"k\":%u,\"filter\":\"%s\"}",
                1 + corpus_rnd(4), corpus_rnd(5), 1 + corpus_rnd(which % 2 ? 150 : 20),
                corpus_rnd(2) ? "*:*" : "tag:t2 OR tag:t1");
    return out;
}

static bool check(const char *how, uint32_t want, uint32_t window, const char *const sides[2],
                  const double weights[2]) {
    struct search_result lists[2] = {{0}}, got = {0};
    struct entry expected[2 * N_DOCS];
    char json[1000];
    bool ok = true;
    for (int s = 0; s < 2 && ok; s++) {
        snprintf(json, sizeof json, "{%s}", sides[s]);
        ok = search(0, json, strstr(sides[s], "\"knn") == sides[s] ? 1000 : window, &lists[s]);
    }
    uint32_t n = ok ? fuse(how, lists, weights, expected) : 0;
    if (!strcmp(how, "rrf"))
        snprintf(json, sizeof json, "{\"rrf\":[{%s},{%s}]}", sides[0], sides[1]);
    else
        snprintf(json, sizeof json, "{\"%s\":[{%s,\"boost\":%g},{%s,\"boost\":%g}]}", how, sides[0],
                 weights[0], sides[1], weights[1]);
    for (int l = 0; l < 6 && ok; l++) {
        ok = search_window(l, json, want, window, &got) && got.total == n && got.n_hits == MIN(n, want);
        if (ok && n) ok = !memcmp(&got.max_score, &expected[0].score, 4) && got.max_score <= 1;
        for (uint32_t i = 0; i < got.n_hits && ok; i++)
            ok = got.hits[i].id_len == strlen(expected[i].id) &&
                 !memcmp(got.hits[i].id, expected[i].id, got.hits[i].id_len) &&
                 !memcmp(&got.hits[i].score, &expected[i].score, 4);
        if (!ok) fprintf(stderr, "%s in layout %d: total %u, expected %u\n", json, l, (unsigned)got.total, n);
        search_result_release(&got);
    }
    for (int s = 0; s < 2; s++) search_result_release(&lists[s]);
    return ok;
}

TEST(fused_lists) {
    static const char *const how[] = {"rrf", "mm", "l2"};
    static const double weights[][2] = {{0.5, 0.5}, {0.7, 0.3}, {1, 0}, {0.125, 0.875}};
    static const uint32_t wants[] = {10, 0, 1, 130, 300}, windows[] = {1, 20, 100, 150, 1000};
    CHECK(set_up());
    for (uint32_t i = 0; i < 150; i++) {
        char a[400], b[400];
        const char *const sides[2] = {side_json(corpus_rnd(13), a), side_json(corpus_rnd(13), b)};
        CHECK(check(how[i % 3], wants[corpus_rnd(5)], windows[corpus_rnd(5)], sides, weights[corpus_rnd(4)]));
    }
}

/* Two first ranks give 1; one alone a half. */
TEST(first_ranks) {
    struct search_result r;
    CHECK(set_up());
    CHECK(search(0, "{\"rrf\":[{\"queryString\":{\"query\":\"*:*\"}},{\"queryString\":{\"query\":\"*:*\"}}]}",
                 10, &r));
    CHECK(r.n_hits == 10 && r.hits[0].score == 1 && r.total == 100);
    search_result_release(&r);
    CHECK(search(
        0, "{\"rrf\":[{\"queryString\":{\"query\":\"tag:none\"}},{\"queryString\":{\"query\":\"*:*\"}}]}", 10,
        &r));
    CHECK(r.n_hits == 10 && r.hits[0].score == 0.5f);
    search_result_release(&r);
    CHECK(search(
        0, "{\"mm\":[{\"queryString\":{\"query\":\"*:*\"}},{\"queryString\":{\"query\":\"tag:none\"}}]}", 10,
        &r));
    CHECK(r.n_hits == 10 && r.hits[9].score == 0.5f);
    search_result_release(&r);
}

/* Several kNN clauses in one bool: each with its own k, the scores added. */
TEST(several_knn) {
    struct search_result one, two, both;
    uint32_t found = 0;
    CHECK(set_up());
#define KNN_A "{\"knn\":{\"field\":\"v\",\"queryVector\":[3,3],\"k\":40}}"
#define KNN_B "{\"knn\":{\"field\":\"v\",\"queryVector\":[7,2],\"k\":25}}"
    CHECK(search(0, KNN_A, 1000, &one) && search(0, KNN_B, 1000, &two));
    for (int l = 0; l < 6; l++) {
        CHECK(search(l, "{\"bool\":[" KNN_A "," KNN_B "]}", 1000, &both));
        for (uint32_t i = 0; i < both.n_hits; i++) {
            double sum = 0;
            for (uint32_t k = 0; k < one.n_hits; k++)
                if (!memcmp(one.hits[k].id, both.hits[i].id, 4)) sum += (double)one.hits[k].score;
            for (uint32_t k = 0; k < two.n_hits; k++)
                if (!memcmp(two.hits[k].id, both.hits[i].id, 4)) sum += (double)two.hits[k].score, found++;
            CHECK(both.hits[i].score == (float)sum);
        }
        search_result_release(&both);
    }
    CHECK(one.n_hits == 40 && two.n_hits == 25 && found == 25 * 6);
    search_result_release(&one);
    search_result_release(&two);
}

TEST(clean_up) {
    for (int i = 0; i < 3; i++) corpus_release(&layouts[i]);
    schema_unref(schema);
}
