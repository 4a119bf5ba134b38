/* The naive model of test_search.c: random documents, the same as segments, queries made by hand, and their
 * evaluation document by document from the tokens. Shares no code with the engine but the one-byte length
 * code. */
#pragma once
#include "index/segment.h"
#include "query/search.h"
#include <math.h>
#include <stdio.h>

enum {
    MAX_TOKENS = 64,
    MAX_VALUES = 3,
    DIMENSIONS = 37,
    MAX_PARTS = 64,
    N_WORDS = 25,
    N_TAGS = 12,
    MAX_SLOTS = 64,
    N_FEATURES = 20,
};

static uint64_t rng_state = 88172645463325252ull;
static uint32_t rnd(uint32_t below) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)((rng_state >> 20) % below);
}
static uint32_t rnd_skewed(uint32_t below) {
    uint32_t a = rnd(below), b = rnd(below);
    return MIN(a, b);
}

/* ---- the model's documents ---- */

struct doc {
    char id[24];
    bool dead;
    uint32_t n_tokens, tokens[MAX_TOKENS];
    uint32_t n_tags, tags[MAX_VALUES];
    uint32_t n_nums;
    int64_t nums[MAX_VALUES];
    bool has_vector;
    float vector[DIMENSIONS];
    float weights[N_FEATURES]; /* 0: not there */
};
struct corpus {
    struct doc *docs; /* by id */
    uint32_t n;
};
static const struct corpus *model;

static void word_text(uint32_t word, char out[16]) {
    snprintf(out, 16, "%cw%u", 'a' + (int)(word % 3), word);
}
static void tag_text(uint32_t tag, char out[16]) {
    snprintf(out, 16, "%c-%02u", 'p' + (int)(tag % 3), tag);
}

static int compare_i64(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}
static int compare_docs(const void *a, const void *b) {
    return strcmp(((const struct doc *)a)->id, ((const struct doc *)b)->id);
}

static float random_weight(void) {
    if (rnd(30) == 0) return rnd(2) ? 64 : 1e-40f;
    return (float)rnd(1000000) / 1000000.0f * (rnd(4) ? 3 : 63);
}

static void random_doc(struct doc *d, uint32_t number) {
    *d = (struct doc){0};
    snprintf(d->id, sizeof d->id, "%c%u", 'a' + (int)rnd(5), number * 7919 % 100003);
    d->n_tokens = rnd(8) == 0 ? 0 : rnd(6) == 0 ? rnd(MAX_TOKENS) : 1 + rnd(9);
    for (uint32_t i = 0; i < d->n_tokens; i++) d->tokens[i] = rnd_skewed(N_WORDS);
    for (uint32_t i = rnd(MAX_VALUES + 1); i; i--) {
        uint32_t tag = rnd_skewed(N_TAGS), seen = 0;
        for (uint32_t j = 0; j < d->n_tags; j++) seen |= d->tags[j] == tag;
        if (!seen) d->tags[d->n_tags++] = tag;
    }
    d->n_nums = rnd(MAX_VALUES + 1);
    for (uint32_t i = 0; i < d->n_nums; i++) d->nums[i] = (int64_t)rnd(40) - 20;
    if (d->n_nums && rnd(20) == 0) d->nums[0] = rnd(2) ? INT64_MAX : INT64_MIN;
    qsort(d->nums, d->n_nums, sizeof *d->nums, compare_i64);
    d->has_vector = rnd(4) != 0;
    for (uint32_t i = 0; i < DIMENSIONS; i++) d->vector[i] = (float)rnd(200) / 64.0f - 1.5f;
    for (uint32_t i = rnd(5) ? rnd(8) : 0; i; i--) d->weights[rnd_skewed(N_FEATURES)] = random_weight();
}

static void doc_json(const struct doc *d, struct buf *out) {
    char text[16];
    buf_printf(out, "{\"id\":\"%s\"", d->id);
    if (d->n_tokens || d->id[0] == 'a') {
        buf_adds(out, ",\"title\":\"");
        for (uint32_t i = 0; i < d->n_tokens; i++) {
            word_text(d->tokens[i], text);
            buf_printf(out, "%s%s", i ? " " : "", text);
        }
        buf_adds(out, "\"");
    }
    buf_adds(out, ",\"tag\":[");
    for (uint32_t i = 0; i < d->n_tags; i++) {
        tag_text(d->tags[i], text);
        buf_printf(out, "%s\"%s\"", i ? "," : "", text);
    }
    buf_adds(out, "],\"num\":[");
    for (uint32_t i = 0; i < d->n_nums; i++) buf_printf(out, "%s%lld", i ? "," : "", (long long)d->nums[i]);
    buf_adds(out, "]");
    for (int v = 0; v < 2 && d->has_vector; v++) {
        buf_printf(out, ",\"%s\":[", v ? "angle" : "vec");
        for (uint32_t i = 0; i < DIMENSIONS; i++)
            buf_printf(out, "%s%.9g", i ? "," : "", (double)d->vector[i]);
        buf_adds(out, "]");
    }
    buf_adds(out, ",\"sparse\":{");
    for (uint32_t i = 0, any = 0; i < N_FEATURES; i++)
        if (d->weights[i] > 0) buf_printf(out, "%s\"f%u\":%.9g", any++ ? "," : "", i, (double)d->weights[i]);
    buf_adds(out, "}}");
}

static inline struct corpus corpus_new(uint32_t n) {
    struct corpus c = {xmalloc(n * sizeof *c.docs), n};
    for (uint32_t i = 0; i < n; i++) {
        random_doc(&c.docs[i], i);
        c.docs[i].dead = rnd(6) == 0;
    }
    qsort(c.docs, n, sizeof *c.docs, compare_docs);
    return c;
}

/* ---- segments ---- */

struct layout {
    struct segment *segments[MAX_PARTS];
    struct deletes *deletes[MAX_PARTS];
    uint32_t n;
};
static struct schema *test_schema;

static struct segment *open_writer(struct segment_writer *w, struct blob_writer *out, struct err *err) {
    struct segment_summary summary;
    struct segment *segment = NULL;
    struct blob *blob = NULL;
    uint64_t size;
    uint32_t checksum;
    size_t len;
    if (segment_writer_finish(w, &summary, &size, &checksum, err)) return NULL;
    uint8_t *bytes = buf_detach(&out->mem, &len);
    if (blob_open_memory(bytes, len, BLOB_KIND_SEGMENT, &blob, err)) return NULL;
    if (segment_open(blob, &segment, err)) return NULL;
    return segment;
}

/* The documents that `pick` sends to segment `which`, dead ones marked. */
static bool add_segment(struct layout *l, const struct corpus *c, const uint8_t *pick, uint32_t which) {
    struct err err = ERR_INIT;
    struct blob_writer out;
    struct buf json = BUF_INIT;
    uint32_t at = l->n, docno = 0;
    bool ok = true;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(test_schema, &out);
    for (uint32_t i = 0; i < c->n && ok; i++) {
        if (pick[i] != which) continue;
        buf_clear(&json);
        doc_json(&c->docs[i], &json);
        ok = !segment_writer_add(w, c->docs[i].id, strlen(c->docs[i].id), i + 1, 1000, (char *)json.data,
                                 json.len, &err);
    }
    l->segments[at] = ok ? open_writer(w, &out, &err) : NULL;
    ok = l->segments[at];
    if (ok) {
        l->n++;
        l->deletes[at] = deletes_new(l->segments[at]);
    }
    for (uint32_t i = 0; i < c->n && ok; i++) {
        if (pick[i] != which) continue;
        if (c->docs[i].dead) ok = deletes_add(l->deletes[at], l->segments[at], docno, &err) == 1;
        docno++;
    }
    if (!ok) fprintf(stderr, "add_segment: %s\n", err.text);
    segment_writer_free(w);
    blob_writer_release(&out);
    buf_release(&json);
    return ok;
}

static bool layout_split(struct layout *l, const struct corpus *c, uint32_t n_segments) {
    uint8_t *pick = xmalloc(c->n);
    bool ok = true;
    *l = (struct layout){0};
    for (uint32_t i = 0; i < c->n; i++) pick[i] = (uint8_t)(i < n_segments ? i : rnd(n_segments));
    for (uint32_t s = 0; s < n_segments && ok; s++) ok = add_segment(l, c, pick, s);
    free(pick);
    return ok;
}

static bool layout_merge(struct layout *ret, const struct layout *from) {
    struct err err = ERR_INIT;
    struct merge_input inputs[MAX_PARTS];
    struct segment_summary summary;
    struct blob_writer out;
    struct blob *blob;
    uint64_t size;
    uint32_t checksum;
    size_t len;
    *ret = (struct layout){0};
    for (uint32_t i = 0; i < from->n; i++)
        inputs[i] = (struct merge_input){from->segments[i], from->deletes[i], NULL};
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    int r = segment_merge(test_schema, inputs, from->n, &out, NULL, &summary, &size, &checksum, NULL, &err);
    uint8_t *bytes = buf_detach(&out.mem, &len);
    blob_writer_release(&out);
    if (!r) r = blob_open_memory(bytes, len, BLOB_KIND_SEGMENT, &blob, &err);
    if (!r) r = segment_open(blob, &ret->segments[0], &err);
    if (r) fprintf(stderr, "layout_merge: %s\n", err.text);
    ret->n = !r;
    return !r;
}

static void layout_release(struct layout *l) {
    for (uint32_t i = 0; i < l->n; i++) {
        deletes_unref(l->deletes[i]);
        segment_unref(l->segments[i]);
    }
}

/* ---- queries by hand ---- */

static struct query *query_new(void) {
    struct query *q = xcalloc(1, sizeof *q);
    q->field_slots = xcalloc(MAX_SLOTS, sizeof *q->field_slots);
    q->term_slots = xcalloc(MAX_SLOTS, sizeof *q->term_slots);
    q->needs_scores = true;
    return q;
}
static void query_drop(struct query *q) {
    arena_release(&q->arena);
    free(q->field_slots);
    free(q->term_slots);
    free(q);
}
static struct query_node *node_new(struct query *q, enum query_kind kind, const char *field,
                                   enum field_type type) {
    struct query_node *node = arena_zalloc(&q->arena, sizeof *node);
    node->kind = kind;
    node->boost = 1;
    node->field = field;
    node->type = type;
    return node;
}
static uint32_t field_slot(struct query *q, const char *field, enum field_type type) {
    for (uint32_t i = 0; i < q->n_field_slots; i++)
        if (strcmp(q->field_slots[i].field, field) == 0) return i;
    q->field_slots[q->n_field_slots].field = field;
    q->field_slots[q->n_field_slots].type = type;
    return q->n_field_slots++;
}
static void add_term(struct query *q, struct query_node *node, const char *text, uint32_t position) {
    struct query_term *terms = arena_zalloc(&q->arena, (node->n_terms + 1) * sizeof *terms);
    uint32_t len = (uint32_t)strlen(text), i = 0;
    if (node->n_terms) memcpy(terms, node->terms, node->n_terms * sizeof *terms);
    text = arena_strndup(&q->arena, text, len);
    node->field_slot = field_slot(q, node->field, node->type);
    while (i < q->n_term_slots &&
           (q->term_slots[i].field_slot != node->field_slot || strcmp(q->term_slots[i].text, text) != 0))
        i++;
    if (i == q->n_term_slots) {
        q->n_term_slots++;
        q->term_slots[i].field_slot = node->field_slot;
        q->term_slots[i].text = text;
        q->term_slots[i].len = len;
    }
    terms[node->n_terms++] = (struct query_term){.text = text, .len = len, .position = position, .slot = i};
    node->terms = terms;
}
static void add_pattern(struct query *q, struct query_node *node, const char *text) {
    node->terms = arena_zalloc(&q->arena, sizeof *node->terms);
    node->terms[0].text = arena_strndup(&q->arena, text, strlen(text));
    node->terms[0].len = (uint32_t)strlen(text);
    node->n_terms = 1;
}
static void add_clause(struct query *q, struct query_node *node, enum occur occur, struct query_node *child) {
    struct query_clause *clauses = arena_alloc(&q->arena, (node->n_clauses + 1) * sizeof *clauses);
    if (node->n_clauses) memcpy(clauses, node->clauses, node->n_clauses * sizeof *clauses);
    clauses[node->n_clauses++] = (struct query_clause){occur, child};
    node->clauses = clauses;
}
static struct query_node *term_node(struct query *q, uint32_t word) {
    char text[16];
    struct query_node *node = node_new(q, QUERY_TERM, "title", FIELD_TEXT);
    word_text(word, text);
    add_term(q, node, text, 0);
    return node;
}
static struct query_node *tag_node(struct query *q, uint32_t tag) {
    char text[16];
    struct query_node *node = node_new(q, QUERY_TERM, "tag", FIELD_KEYWORD);
    tag_text(tag, text);
    add_term(q, node, text, 0);
    return node;
}
static struct query_node *phrase_node(struct query *q, const uint32_t *words, uint32_t n, uint32_t slop) {
    char text[16];
    struct query_node *node = node_new(q, QUERY_PHRASE, "title", FIELD_TEXT);
    for (uint32_t i = 0; i < n; i++) {
        word_text(words[i], text);
        add_term(q, node, text, i);
    }
    node->slop = slop;
    return node;
}
/* Features in byte order of their names, as the compiler gives them: f0, f1, f10, f11, ..., f2, ... */
static struct query_node *sparse_node(struct query *q) {
    struct query_node *node = node_new(q, QUERY_SPARSE, "sparse", FIELD_SPARSE_VECTOR);
    float *weights = arena_alloc(&q->arena, N_FEATURES * sizeof *weights);
    node->terms = arena_zalloc(&q->arena, N_FEATURES * sizeof *node->terms);
    node->token_weights = weights;
    for (uint32_t i = 0; i < N_FEATURES; i++) {
        uint32_t feature = i < 2 ? i : i < 12 ? i + 8 : i - 10;
        char name[16];
        if (rnd(4)) continue;
        snprintf(name, sizeof name, "f%u", feature);
        node->terms[node->n_terms].text = arena_strndup(&q->arena, name, strlen(name));
        node->terms[node->n_terms].len = (uint32_t)strlen(name);
        weights[node->n_terms++] = (float)(1 + rnd(5000)) / 100.0f;
    }
    return node;
}
static struct query_node *random_leaf(struct query *q, bool knn) {
    static const char *const patterns[] = {"aw*", "*w1*", "?w2", "bw1?", "cw\\8", "*", "zz*"};
    static const char *const prefixes[] = {"a", "aw1", "b", "cw2", "", "z", "p-", "q-0", "r"};
    uint32_t words[3] = {rnd_skewed(N_WORDS), rnd_skewed(N_WORDS), rnd_skewed(N_WORDS)};
    struct query_node *node;
    char text[16];
    switch (rnd(knn ? 15 : 14)) {
    case 0:
    case 1:
    case 2:
    case 3:
        return term_node(q, rnd_skewed(N_WORDS + 2));
    case 4:
    case 5:
        return tag_node(q, rnd_skewed(N_TAGS + 1));
    case 6:
        return phrase_node(q, words, 2 + rnd(2),
                           words[0] != words[1] && words[1] != words[2] && words[0] != words[2] ? rnd(4) : 0);
    case 7:
        node = node_new(q, QUERY_RANGE, "num", FIELD_LONG);
        node->lo = (int64_t)rnd(40) - 22;
        node->hi = rnd(6) ? node->lo + rnd(12) : INT64_MAX;
        return node;
    case 8:
        node = rnd(2) ? node_new(q, QUERY_PREFIX, "title", FIELD_TEXT)
                      : node_new(q, QUERY_PREFIX, "tag", FIELD_KEYWORD);
        add_pattern(q, node, prefixes[rnd(ARRAY_SIZE(prefixes))]);
        return node;
    case 9:
        node = node_new(q, QUERY_WILDCARD, "title", FIELD_TEXT);
        add_pattern(q, node, patterns[rnd(ARRAY_SIZE(patterns))]);
        return node;
    case 10:
        return rnd(2) ? node_new(q, QUERY_EXISTS, "num", FIELD_LONG)
                      : node_new(q, QUERY_EXISTS, "title", FIELD_TEXT);
    case 11:
        node = node_new(q, QUERY_TERM_RANGE, "tag", FIELD_KEYWORD);
        tag_text(rnd(N_TAGS), text);
        if (rnd(4)) node->lo_text = arena_strndup(&q->arena, text, node->lo_len = (uint32_t)strlen(text));
        tag_text(rnd(N_TAGS), text);
        if (rnd(4)) node->hi_text = arena_strndup(&q->arena, text, node->hi_len = (uint32_t)strlen(text));
        node->lo_inclusive = rnd(2);
        node->hi_inclusive = rnd(2);
        return node;
    case 12:
        if (rnd(2)) return node_new(q, QUERY_ALL, NULL, 0);
        node = node_new(q, QUERY_DOCS, NULL, 0);
        node->n_terms = 5;
        node->terms = arena_zalloc(&q->arena, 5 * sizeof *node->terms);
        for (uint32_t i = 0; i < 5; i++) {
            node->terms[i].text = i ? model->docs[rnd(model->n)].id : "no such id";
            node->terms[i].len = (uint32_t)strlen(node->terms[i].text);
        }
        return node;
    case 13:
        if (rnd(5)) return sparse_node(q);
        return node_new(q, QUERY_EXISTS, "sparse", FIELD_SPARSE_VECTOR);
    default:
        node = node_new(q, QUERY_KNN, "vec", FIELD_VECTOR);
        node->similarity = SIMILARITY_EUCLIDEAN;
        node->dimensions = DIMENSIONS;
        node->vector = model->docs[rnd(model->n)].vector;
        node->k = 1 + rnd(20);
        if (rnd(2)) node->filter = random_leaf(q, false);
        return node;
    }
}
static inline struct query_node *random_node(struct query *q, unsigned depth, bool knn) {
    static const float boosts[] = {1, 1, 2, 0.3f, 1.7f};
    struct query_node *node;
    if (!depth || rnd(3) == 0) {
        node = random_leaf(q, knn);
    } else {
        bool plain = rnd(2);
        uint32_t should = 0;
        node = node_new(q, QUERY_BOOL, NULL, 0);
        for (uint32_t n = 1 + rnd(5); n; n--) {
            enum occur occur = plain ? OCCUR_SHOULD : (enum occur)rnd(4);
            should += occur == OCCUR_SHOULD;
            add_clause(q, node, occur, random_node(q, depth - 1, knn));
        }
        if (rnd(3) == 0) node->min_should_match = rnd(should + 2);
    }
    node->boost = boosts[rnd(ARRAY_SIZE(boosts))];
    return node;
}

/* ---- the model's evaluation ---- */

static uint32_t word_count(const struct doc *d, const char *text) {
    uint32_t n = 0;
    char word[16];
    for (uint32_t i = 0; i < d->n_tokens; i++) {
        word_text(d->tokens[i], word);
        n += strcmp(word, text) == 0;
    }
    return n;
}
static bool tag_has(const struct doc *d, const char *text) {
    char tag[16];
    bool found = false;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        tag_text(d->tags[i], tag);
        found |= strcmp(tag, text) == 0;
    }
    return found;
}
/* Statistics over the live documents, counted once a term: the model does not change within a test. */
static struct {
    const struct corpus *of;
    uint32_t n;
    char terms[2 * MAX_SLOTS][16];
    float idfs[2 * MAX_SLOTS], avgdl, tag_avgdl;
} memo;

static void memo_check(void) {
    int64_t n = 0, ttf = 0, n_tagged = 0, tags = 0;
    if (memo.of == model) return;
    for (uint32_t i = 0; i < model->n; i++) {
        if (model->docs[i].dead) continue;
        n += model->docs[i].n_tokens > 0;
        ttf += model->docs[i].n_tokens;
        n_tagged += model->docs[i].n_tags > 0;
        tags += model->docs[i].n_tags;
    }
    memo.of = model;
    memo.n = 0;
    memo.avgdl = (float)((double)ttf / (double)n);
    memo.tag_avgdl = (float)((double)tags / (double)n_tagged);
}
static float model_idf(const struct query_node *node, const char *text) {
    double n = 0, df = 0;
    memo_check();
    for (uint32_t i = 0; i < memo.n; i++)
        if (strcmp(memo.terms[i], text) == 0) return memo.idfs[i];
    for (uint32_t i = 0; i < model->n; i++) {
        const struct doc *d = &model->docs[i];
        if (d->dead) continue;
        n += node->type == FIELD_TEXT ? d->n_tokens > 0 : d->n_tags > 0;
        df += node->type == FIELD_TEXT ? word_count(d, text) > 0 : tag_has(d, text);
    }
    snprintf(memo.terms[memo.n], sizeof memo.terms[0], "%s", text);
    return memo.idfs[memo.n++] = (float)log(1 + (n - df + 0.5) / (df + 0.5));
}
static float model_bm25(const struct query_node *node, const struct doc *d, float idf, float boost,
                        float freq) {
    bool text = node->type == FIELD_TEXT;
    memo_check();
    float avgdl = text ? memo.avgdl : memo.tag_avgdl, k1 = 1.2f, b = 0.75f;
    float dl = text ? (float)norm_decode(norm_encode(d->n_tokens)) : 1.0f;
    float bdl = b * dl, ratio = bdl / avgdl, sum = (1.0f - b) + ratio, norm = k1 * sum;
    float inverse = 1.0f / norm, weight = boost * idf, tf = freq * inverse, one = 1.0f + tf,
          rest = weight / one;
    return weight - rest;
}
/* Exact: occurrences. Sloppy, for terms that do not repeat: the least place moves on. */
static float model_phrase(const struct query_node *node, const struct doc *d) {
    int place[3][MAX_TOKENS], n[3] = {0}, at[3] = {0}, terms = (int)node->n_terms;
    char word[16];
    float freq = 0;
    for (int t = 0; t < terms; t++)
        for (uint32_t i = 0; i < d->n_tokens; i++) {
            word_text(d->tokens[i], word);
            if (strcmp(word, node->terms[t].text) == 0)
                place[t][n[t]++] = (int)i - (int)node->terms[t].position;
        }
    for (int t = 0; t < terms; t++)
        if (!n[t]) return 0;
    if (!node->slop) {
        for (int i = 0; i < n[0]; i++) {
            int all = 1;
            for (int t = 1; t < terms; t++) {
                int found = 0;
                for (int j = 0; j < n[t]; j++) found |= place[t][j] == place[0][i];
                all &= found;
            }
            freq += (float)all;
        }
        return freq;
    }
    for (;;) {
        int least = 0, second = INT32_MAX, most = INT32_MIN, best;
        for (int t = 1; t < terms; t++)
            if (place[t][at[t]] < place[least][at[least]]) least = t;
        for (int t = 0; t < terms; t++) {
            most = MAX(most, place[t][at[t]]);
            if (t != least) second = MIN(second, place[t][at[t]]);
        }
        best = most - place[least][at[least]];
        while (at[least] + 1 < n[least] && place[least][at[least] + 1] <= second) {
            at[least]++;
            best = MIN(best, MAX(most, place[least][at[least]]) - place[least][at[least]]);
        }
        if (best <= (int)node->slop) freq += 1.0f / (1.0f + (float)best);
        if (++at[least] >= n[least]) return freq;
    }
}
static float model_l2_score(const float *a, const float *b) {
    float lanes[32] = {0};
    for (uint32_t i = 0; i < DIMENSIONS; i++) {
        float d = a[i] - b[i], s = d * d;
        lanes[i % 32] += s;
    }
    for (int half = 16; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return 1.0f / (1.0f + lanes[0]);
}
static bool model_eval(const struct query_node *node, const struct doc *d, float boost, float *score);
/* Is d among the k best? */
static bool model_knn(const struct query_node *node, const struct doc *d, float *score) {
    uint32_t better = 0;
    float ignored;
    if (!d->has_vector || (node->filter && !model_eval(node->filter, d, 1, &ignored))) return false;
    *score = model_l2_score(node->vector, d->vector);
    for (uint32_t i = 0; i < model->n; i++) {
        const struct doc *e = &model->docs[i];
        if (e->dead || !e->has_vector || (node->filter && !model_eval(node->filter, e, 1, &ignored)))
            continue;
        float other = model_l2_score(node->vector, e->vector);
        better += other > *score || (other == *score && e < d);
    }
    return better < node->k;
}
static bool model_pattern(const struct query_node *node, const char *text) {
    const char *p = node->terms ? node->terms[0].text : NULL;
    if (node->kind == QUERY_PREFIX) return strncmp(text, p, strlen(p)) == 0;
    if (node->kind == QUERY_WILDCARD) { /* the few patterns above */
        if (strcmp(p, "*w1*") == 0) return strncmp(text + 1, "w1", 2) == 0;
        if (strcmp(p, "?w2") == 0) return strcmp(text + 1, "w2") == 0;
        if (strcmp(p, "bw1?") == 0) return strncmp(text, "bw1", 3) == 0 && strlen(text) == 4;
        if (strcmp(p, "cw\\8") == 0) return strcmp(text, "cw8") == 0;
        return strncmp(text, p, strlen(p) - 1) == 0;
    }
    int lo = node->lo_text ? strcmp(text, node->lo_text) : 1,
        hi = node->hi_text ? strcmp(text, node->hi_text) : -1;
    return (lo > 0 || (lo == 0 && node->lo_inclusive)) && (hi < 0 || (hi == 0 && node->hi_inclusive));
}
static bool model_terms(const struct query_node *node, const struct doc *d) {
    bool found = false, text = node->type == FIELD_TEXT;
    char term[16];
    for (uint32_t i = 0; i < (text ? d->n_tokens : d->n_tags); i++) {
        if (text)
            word_text(d->tokens[i], term);
        else
            tag_text(d->tags[i], term);
        found |= model_pattern(node, term);
    }
    return found;
}
static bool model_bool(const struct query_node *node, const struct doc *d, float boost, float *score) {
    uint32_t should = 0, required = 0, need = node->min_should_match;
    double sum = 0;
    for (uint32_t i = 0; i < node->n_clauses; i++) {
        enum occur occur = node->clauses[i].occur;
        float part = 0;
        bool match = model_eval(node->clauses[i].node, d, boost, &part);
        required += occur == OCCUR_MUST || occur == OCCUR_FILTER;
        if (occur == OCCUR_MUST_NOT ? match : occur != OCCUR_SHOULD && !match) return false;
        if (occur == OCCUR_SHOULD) should += match;
        if (match && (occur == OCCUR_SHOULD || occur == OCCUR_MUST)) sum += (double)part;
    }
    if (!required && !need) need = 1;
    *score = (float)sum;
    return should >= need;
}
/* What the index keeps of a weight: 9 significant bits, cut off; nothing below the smallest normal float. */
static double model_weight(float w) {
    int exponent;
    if (w < 1.17549435e-38f) return 0;
    double part = frexp((double)w, &exponent);
    return ldexp(floor(part * 512) / 512, exponent);
}
static bool model_sparse(const struct query_node *node, const struct doc *d, float *score) {
    double sum = 0;
    bool match = false;
    for (uint32_t i = 0; i < node->n_terms; i++) {
        double w = model_weight(d->weights[atoi(node->terms[i].text + 1)]);
        match |= w > 0;
        sum += (double)node->token_weights[i] * w;
    }
    *score = (float)sum;
    return match;
}
static bool model_sparse_exists(const struct doc *d) {
    bool any = false;
    for (uint32_t i = 0; i < N_FEATURES; i++) any |= model_weight(d->weights[i]) > 0;
    return any;
}
static bool model_eval(const struct query_node *node, const struct doc *d, float boost, float *score) {
    bool match = false;
    float freq = 0;
    boost *= node->boost;
    *score = boost;
    switch (node->kind) {
    case QUERY_ALL:
        return true;
    case QUERY_TERM:
        freq = node->type == FIELD_TEXT ? (float)word_count(d, node->terms[0].text)
                                        : (float)tag_has(d, node->terms[0].text);
        if (freq > 0) *score = model_bm25(node, d, model_idf(node, node->terms[0].text), boost, freq);
        return freq > 0;
    case QUERY_PHRASE:
        freq = model_phrase(node, d);
        if (freq > 0) {
            double idf = 0;
            for (uint32_t i = 0; i < node->n_terms; i++) idf += (double)model_idf(node, node->terms[i].text);
            *score = model_bm25(node, d, (float)idf, boost, freq);
        }
        return freq > 0;
    case QUERY_RANGE:
        for (uint32_t i = 0; i < d->n_nums; i++) match |= d->nums[i] >= node->lo && d->nums[i] <= node->hi;
        return match;
    case QUERY_SPARSE:
        match = model_sparse(node, d, &freq);
        *score = boost * freq;
        return match;
    case QUERY_EXISTS:
        if (node->type == FIELD_SPARSE_VECTOR) return model_sparse_exists(d);
        return node->type == FIELD_TEXT ? d->n_tokens > 0 : d->n_nums > 0;
    case QUERY_PREFIX:
    case QUERY_WILDCARD:
    case QUERY_TERM_RANGE:
        return model_terms(node, d);
    case QUERY_DOCS:
        for (uint32_t i = 0; i < node->n_terms; i++) match |= strcmp(node->terms[i].text, d->id) == 0;
        return match;
    case QUERY_KNN:
        match = model_knn(node, d, &freq);
        *score = boost * freq;
        return match;
    case QUERY_BOOL:
        return model_bool(node, d, boost, score);
    default:
        return false;
    }
}

struct model_hit {
    const struct doc *doc;
    float score;
};
static const struct query *sorting;

static int compare_model_key(const struct sort_key *key, const struct model_hit *a,
                             const struct model_hit *b) {
    int r;
    if (strcmp(key->field, "_score") == 0)
        r = (a->score > b->score) - (a->score < b->score);
    else if (strcmp(key->field, "_id") == 0)
        r = strcmp(a->doc->id, b->doc->id);
    else if (strcmp(key->field, "num") == 0) {
        uint32_t m = a->doc->n_nums, n = b->doc->n_nums;
        if (!m || !n) return (m == 0) - (n == 0);
        r = compare_i64(&a->doc->nums[key->descending ? m - 1 : 0],
                        &b->doc->nums[key->descending ? n - 1 : 0]);
    } else {
        char best[2][16] = {"", ""}, text[16];
        const struct doc *docs[2] = {a->doc, b->doc};
        if (!docs[0]->n_tags || !docs[1]->n_tags) return (docs[0]->n_tags == 0) - (docs[1]->n_tags == 0);
        for (int s = 0; s < 2; s++)
            for (uint32_t i = 0; i < docs[s]->n_tags; i++) {
                tag_text(docs[s]->tags[i], text);
                if (!i || (strcmp(text, best[s]) > 0) == key->descending) memcpy(best[s], text, sizeof text);
            }
        r = strcmp(best[0], best[1]);
    }
    return key->descending ? -r : r;
}
static int compare_model_hits(const void *x, const void *y) {
    const struct model_hit *a = x, *b = y;
    static const struct sort_key by_score = {"_score", 0, true};
    int r = sorting->n_sort ? 0 : compare_model_key(&by_score, a, b);
    for (uint32_t i = 0; i < sorting->n_sort && !r; i++) r = compare_model_key(&sorting->sort[i], a, b);
    return r ? r : strcmp(a->doc->id, b->doc->id);
}
static inline uint32_t model_run(const struct query *q, struct model_hit *hits, float *max_score) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < model->n; i++) {
        float score;
        if (model->docs[i].dead || !model_eval(q->root, &model->docs[i], 1, &score)) continue;
        if (!q->needs_scores) score = 0;
        *max_score = !n || score > *max_score ? score : *max_score;
        hits[n++] = (struct model_hit){&model->docs[i], score};
    }
    sorting = q;
    qsort(hits, n, sizeof *hits, compare_model_hits);
    return n;
}
