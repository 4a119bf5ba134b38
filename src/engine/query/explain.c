/* The tree that explains a score. */
#include "query/explain.h"
#include "query/answer.h"
#include "query/fuzzy.h"
#include "query/query_internal.h"
#include "query/search_internal.h"

enum { DESCRIPTION_MAX = 200 };

struct explainer {
    struct search_ctx *ctx;
    uint32_t docno;
    struct buf *out;
    struct err *err;
};

static void begin(struct explainer *x, float value, const char *before, const struct query_node *node,
                  const char *behind) {
    struct buf text = BUF_INIT;
    if (node) query_print(node, &text);
    size_t len = MIN(text.len, (size_t)DESCRIPTION_MAX);
    while (len && len < text.len && (text.data[len] & 0xc0) == 0x80) len--;
    const char *cut = len < text.len ? "..." : "";
    text.len = len;
    buf_adds(&text, cut);
    buf_adds(&text, behind);
    struct buf all = BUF_INIT;
    buf_adds(&all, before);
    buf_add(&all, text.data, text.len);
    buf_adds(x->out, "{\"value\":");
    answer_add_score(x->out, value);
    buf_adds(x->out, ",\"description\":");
    buf_add_json_string(x->out, (char *)all.data, all.len);
    buf_adds(x->out, ",\"details\":[");
    buf_release(&all);
    buf_release(&text);
}

static void end(struct explainer *x) {
    buf_adds(x->out, "]}");
}

/* A detail that is just a number. */
static void add_float(struct explainer *x, float value, const char *description) {
    if (x->out->data[x->out->len - 1] == '}') buf_addc(x->out, ',');
    begin(x, value, description, NULL, "");
    end(x);
}

static void add_count(struct explainer *x, uint64_t value, const char *description) {
    if (x->out->data[x->out->len - 1] == '}') buf_addc(x->out, ',');
    buf_printf(x->out, "{\"value\":%llu,\"description\":\"%s\",\"details\":[]}", (unsigned long long)value,
               description);
}

/* ---- BM25 ---- */

static void add_idf(struct explainer *x, const struct query_node *node, uint32_t term, uint64_t n_docs) {
    const struct query_term *t = &node->terms[term];
    uint64_t df = x->ctx->stats->term_df[t->slot];
    struct buf name = BUF_INIT;
    buf_printf(&name, "idf of %.*s, computed as log(1 + (N - n + 0.5) / (n + 0.5)) from:",
               err_shown(t->text, t->len), t->text);
    if (x->out->data[x->out->len - 1] == '}') buf_addc(x->out, ',');
    begin(x, bm25_idf(df, n_docs), buf_str(&name), NULL, "");
    add_count(x, df, "n, documents with the term");
    add_count(x, n_docs, "N, documents with the field");
    end(x);
    buf_release(&name);
}

/* One idf a term; a phrase's is their sum, in double, rounded once. */
static void add_idfs(struct explainer *x, const struct query_node *node, uint64_t n_docs) {
    double sum = 0;
    if (node->n_terms == 1) {
        add_idf(x, node, 0, n_docs);
        return;
    }
    for (uint32_t i = 0; i < node->n_terms; i++)
        sum += (double)bm25_idf(x->ctx->stats->term_df[node->terms[i].slot], n_docs);
    buf_addc(x->out, ',');
    begin(x, (float)sum, "idf, sum of:", NULL, "");
    for (uint32_t i = 0; i < node->n_terms; i++) add_idf(x, node, i, n_docs);
    end(x);
}

static int add_bm25(struct explainer *x, const struct query_node *node, float boost, float value,
                    float freq) {
    const struct segment_field *field = search_ctx_field(x->ctx, node);
    const struct bm25 *bm25 = search_ctx_bm25(x->ctx, node->field_slot);
    const uint8_t *norms = NULL;
    uint8_t norm = 1; /* a keyword counts as one token long */
    int r = node->type == FIELD_TEXT && field ? text_norms(field, &norms, x->err) : 0;
    if (r) return r;
    if (norms) norm = norms[x->docno];
    float inverse = bm25->norm_inverse[norm];
    begin(x, value, "weight of ", node, ", computed as boost * idf * tf from:");
    add_float(x, boost, "boost");
    add_idfs(x, node, bm25->n_docs);
    buf_addc(x->out, ',');
    begin(x, 1.0f - 1.0f / (1.0f + freq * inverse),
          "tf, computed as freq / (freq + k1 * (1 - b + b * dl / avgdl)) from:", NULL, "");
    add_float(x, freq, node->kind == QUERY_PHRASE ? "freq, occurrences of the phrase" : "freq, occurrences");
    add_float(x, BM25_K1, "k1, saturation");
    add_float(x, BM25_B, "b, length normalization");
    add_count(x, norm_decode(norm), "dl, length of the field (as coded)");
    add_float(x, bm25->average_length, "avgdl, average length of the field");
    end(x);
    end(x);
    return 0;
}

/* ---- nodes ---- */

static int explain_node(struct explainer *x, const struct query_node *node, float boost, bool scored,
                        bool first);

static int explain_bool(struct explainer *x, const struct query_node *node, float boost, float value,
                        bool scored) {
    bool first = true;
    begin(x, value, "", NULL, scored ? "sum of:" : "matches:");
    for (uint32_t i = 0; i < node->n_clauses; i++) {
        enum occur occur = node->clauses[i].occur;
        size_t before = x->out->len;
        if (occur == OCCUR_MUST_NOT) continue;
        int r = explain_node(x, node->clauses[i].node, boost, scored && occur != OCCUR_FILTER, first);
        if (r) return r;
        first &= x->out->len == before;
    }
    end(x);
    return 0;
}

static const char *similarity_text(const struct query_node *node) {
    switch (node->similarity) {
    case SIMILARITY_EUCLIDEAN:
        return "similarity, euclidean: 1 / (1 + d^2)";
    case SIMILARITY_DOT_PRODUCT:
        return "similarity, dot product: max((1 + x) / 2, 0)";
    case SIMILARITY_MAX_INNER_PRODUCT:
        return "similarity, max inner product: x < 0 ? 1 / (1 - x) : x + 1";
    default:
        return "similarity, cosine: max((1 + x) / 2, 0)";
    }
}

/* The number of the kNN node and the document's place among its hits. */
static void explain_knn(struct explainer *x, const struct query_node *node, float boost, float value) {
    uint32_t number = 0;
    const struct query_node *found;
    while ((found = search_knn_node(x->ctx->query, number)) && found != node) number++;
    begin(x, value, "", node, ", computed as boost * similarity from:");
    add_float(x, boost, "boost");
    for (uint32_t i = 0; found && x->ctx->knn && i < x->ctx->knn[number].n; i++) {
        const struct search_hit *hit = &x->ctx->knn[number].hits[i];
        if (hit->part_no != x->ctx->part->part_no || hit->docno != x->docno) continue;
        add_float(x, hit->score, similarity_text(node));
        add_count(x, i + 1, "rank among the nearest");
    }
    end(x);
}

static int add_token(struct explainer *x, const struct query_node *node, uint32_t i) {
    const struct query_term *t = &node->terms[i];
    struct postings *p = arena_zalloc(&x->ctx->arena, sizeof *p);
    struct term_info info;
    int r = term_find(search_ctx_field(x->ctx, node), t->text, t->len, &info, x->err);
    if (r || !info.df) return r;
    r = scorer_open_postings(x->ctx, search_ctx_field(x->ctx, node), &info, true, false, p, x->err);
    if (r || postings_advance(p, x->docno) != x->docno) return r;
    float weight = sparse_decode(postings_freq(p));
    struct buf name = BUF_INIT;
    buf_add(&name, t->text, (size_t)err_shown(t->text, t->len));
    buf_adds(&name, ", product of:");
    buf_adds(x->out, ",{\"value\":");
    answer_add_double(x->out, (double)node->token_weights[i] * (double)weight);
    buf_adds(x->out, ",\"description\":");
    buf_add_json_string(x->out, (char *)name.data, name.len);
    buf_adds(x->out, ",\"details\":[");
    buf_release(&name);
    add_float(x, node->token_weights[i], "weight in the query");
    add_float(x, weight, "weight in the document (as coded)");
    end(x);
    return 0;
}

/* Tokens in byte order: the order in which their products are summed. */
static int explain_sparse(struct explainer *x, const struct query_node *node, float boost, float value) {
    int r = 0;
    begin(x, value, "", node, ", computed as boost * the sum of the others:");
    add_float(x, boost, "boost");
    for (uint32_t i = 0; i < node->n_terms && !r; i++) r = add_token(x, node, i);
    end(x);
    return r;
}

static void explain_constant(struct explainer *x, const struct query_node *node, float value) {
    begin(x, value, "", node, ", constant score");
    end(x);
}

static int explain_match(struct explainer *x, const struct query_node *node, float boost, float value,
                         struct scorer *s) {
    switch (node->kind) {
    case QUERY_TERM:
        return add_bm25(x, node, boost, value,
                        node->type == FIELD_TEXT ? (float)postings_freq(&((struct term_scorer *)s)->postings)
                                                 : 1);
    case QUERY_PHRASE:
        return add_bm25(x, node, boost, value, scorer_phrase_freq(s));
    case QUERY_KNN:
        explain_knn(x, node, boost, value);
        return 0;
    case QUERY_SPARSE:
        return explain_sparse(x, node, boost, value);
    default:
        explain_constant(x, node, value);
        return 0;
    }
}

/* Nothing is added when the clause does not match. boost: product of the boosts above. */
static int explain_node(struct explainer *x, const struct query_node *node, float boost, bool scored,
                        bool first) {
    struct scorer *s;
    int r = search_poll(x->ctx->cancel, x->err);
    if (node->kind == QUERY_FUZZY && x->ctx->stats) { /* what it stands for */
        const struct query_node *terms = x->ctx->stats->fuzzy[node->fuzzy_no].node;
        return r || !terms ? r : explain_node(x, terms, boost * node->boost, scored, first);
    }
    if (!r) r = scorer_new(x->ctx, node, boost, scored, &s, x->err);
    if (r || !s) return r;
    scorer_settle(s);
    if (s->doc != x->docno) return search_poll(x->ctx->cancel, x->err);
    float value = scorer_score(s);
    if (!first) buf_addc(x->out, ',');
    boost *= node->boost;
    if (node->kind == QUERY_BOOL) return explain_bool(x, node, boost, value, scored);
    if (scored) return explain_match(x, node, boost, value, s);
    begin(x, 0, "match on ", node, ", which does not score");
    end(x);
    return 0;
}

/* ---- hybrid ---- */

static void add_double(struct explainer *x, double value, const char *description) {
    buf_adds(x->out, ",{\"value\":");
    answer_add_double(x->out, value);
    buf_printf(x->out, ",\"description\":\"%s\",\"details\":[]}", description);
}

/* One side: its part of the score, from the rank or the score there, and that score's own tree. */
static int explain_side(struct explainer *x, const struct query_node *root, int side,
                        const struct fused_part *f) {
    static const char *const texts[] = {
        [FUSE_RRF] = "61 / 2 / (60 + rank) of:",
        [FUSE_MM] = "weight * (score - least) / (greatest - least), 0 becoming 0.001, of:",
        [FUSE_L2] = "weight * score / length, of:"};
    buf_adds(x->out, "{\"value\":");
    answer_add_double(x->out, f->part);
    buf_printf(x->out, ",\"description\":\"side %d: %s\",\"details\":[", side + 1, texts[root->fusion]);
    int r = explain_node(x, root->clauses[side].node, 1, true, true);
    add_count(x, f->rank, "rank");
    if (root->fusion != FUSE_RRF) add_double(x, f->weight, "weight");
    if (root->fusion == FUSE_MM) {
        add_double(x, f->least, "least score of the side");
        add_double(x, f->least + f->span, "greatest score of the side");
    }
    if (root->fusion == FUSE_L2) add_double(x, f->length, "length, square root of the sum of squared scores");
    end(x);
    return r;
}

static int explain_fused(struct explainer *x, const struct query_node *root, const struct search_hit *hit) {
    static const char *const names[] = {[FUSE_RRF] = "rrf", [FUSE_MM] = "mm", [FUSE_L2] = "l2"};
    bool any = false;
    int r = 0;
    begin(x, hit->score, names[root->fusion], NULL, ", sum of:");
    for (int s = 0; s < 2 && !r; s++) {
        if (!hit->fused[s].rank) continue;
        if (any) buf_addc(x->out, ',');
        any = true;
        r = explain_side(x, root, s, &hit->fused[s]);
    }
    end(x);
    return r;
}

int search_explain(const struct query *query, const struct search_stats *stats, const struct knn_result *knn,
                   const struct search_part *part, const struct search_hit *hit, const volatile int *cancel,
                   struct buf *out, struct err *err) {
    struct search_ctx ctx;
    struct explainer x = {.ctx = &ctx, .docno = part->doc_lo, .out = out, .err = err};
    search_ctx_init(&ctx, query, stats, part, 1, cancel);
    ctx.knn = knn;
    search_ctx_part(&ctx, 0);
    int r = hit->fused ? explain_fused(&x, query->root, hit)
                       : explain_node(&x, query->root, 1, query->needs_scores, true);
    search_ctx_release(&ctx);
    return r;
}
