/* Planning by asking: the tree is walked with the readers that its evaluation uses, while the thread records
 * what they miss. What is missing is fetched, and the walk repeated, until nothing is. */
#include "query/prefetch.h"

#include "index/segment_want.h"
#include "index/vector_score.h"
#include "query/docset.h"
#include "query/fuzzy.h"

enum {
    PLAN_ROUNDS = 6
}; /* dictionary index, dictionary block, postings; the rest is for what is in many pieces */

struct plan {
    const struct prefetch *p;
    const struct segment *segment;
    struct fetch fetch;
    bool scored;
};

static const struct segment_field *field_of(const struct plan *plan, const char *path, enum field_type type,
                                            enum analyzer analyzer) {
    return segment_field(plan->segment, path, strlen(path), type, type == FIELD_TEXT ? analyzer : 0);
}

static void plan_term(struct plan *plan, const struct segment_field *f, const char *text, uint32_t len,
                      bool positions) {
    struct term_info info;
    if (!term_find(f, text, len, &info, NULL) && info.df)
        field_want_postings(&plan->fetch, f, &info, positions);
}

static void plan_docset(struct plan *plan, const struct query_node *node) {
    struct docset set;
    if (docset_build(plan->segment, node, 0, segment_n_docs(plan->segment), plan->p->cancel, &set, NULL))
        return;
    docset_release(&set);
}

/* With a filter it is not known yet whether lists will be scanned, and how many. */
static void plan_knn(struct plan *plan, const struct query_node *node, const struct segment_field *f) {
    struct vector_query query;
    bool lists = !node->filter && node->recall < 1;
    if (lists) vector_query_init(&query, node->similarity, node->vector, node->dimensions);
    field_want_vectors(&plan->fetch, f, lists ? &query : NULL, node->k);
}

static void plan_node(struct plan *plan, const struct query_node *node);

static void plan_leaf(struct plan *plan, const struct query_node *node) {
    const struct segment_field *f = field_of(plan, node->field, node->type, node->analyzer);
    if (!f) return;
    switch (node->kind) {
    case QUERY_TERM:
    case QUERY_PHRASE:
    case QUERY_SPARSE:
        for (uint32_t i = 0; i < node->n_terms; i++)
            plan_term(plan, f, node->terms[i].text, node->terms[i].len, node->kind == QUERY_PHRASE);
        if (node->type == FIELD_TEXT && plan->scored) field_want_norms(&plan->fetch, f);
        break;
    case QUERY_FUZZY:
        field_want_dictionary(&plan->fetch, f);
        if (plan->p->stats && plan->p->stats->fuzzy[node->fuzzy_no].node)
            plan_node(plan, plan->p->stats->fuzzy[node->fuzzy_no].node);
        break;
    case QUERY_KNN:
        plan_knn(plan, node, f);
        break;
    case QUERY_RANGE:
        field_want_column(&plan->fetch, f);
        break;
    case QUERY_WILDCARD:
    case QUERY_REGEX:
        field_want_dictionary(&plan->fetch, f);
        plan_docset(plan, node);
        break;
    default:
        if (node->type == FIELD_KEYWORD) field_want_column(&plan->fetch, f); /* of long ranges of terms */
        plan_docset(plan, node);
        break;
    }
}

static void plan_node(struct plan *plan, const struct query_node *node) {
    if (!node) return;
    if (node->kind == QUERY_DOCS) segment_want_ids(&plan->fetch, plan->segment);
    if (node->field && node->kind != QUERY_NONE) plan_leaf(plan, node);
    plan_node(plan, node->filter);
    for (uint32_t i = 0; i < node->n_clauses; i++) plan_node(plan, node->clauses[i].node);
}

/* A column, and the texts of its values where they are ordinals. */
static void plan_values(struct plan *plan, const char *path, enum field_type type) {
    const struct segment_field *f = field_of(plan, path, type, 0);
    if (!f) return;
    field_want_column(&plan->fetch, f);
    if (type == FIELD_KEYWORD) field_want_dictionary(&plan->fetch, f);
}

/* What the statistics need of a segment that is not searched. */
static void plan_statistics(struct plan *plan) {
    const struct query *q = plan->p->query;
    struct term_info info;
    for (uint32_t i = 0; i < q->n_term_slots; i++) {
        uint32_t slot = q->term_slots[i].field_slot;
        const struct segment_field *f = field_of(plan, q->field_slots[slot].field, q->field_slots[slot].type,
                                                 q->field_slots[slot].analyzer);
        if (f) (void)term_find(f, q->term_slots[i].text, q->term_slots[i].len, &info, NULL);
    }
    for (uint32_t i = 0; i < q->n_fuzzy; i++) {
        const struct query_node *n = q->fuzzy[i];
        const struct segment_field *f = field_of(plan, n->field, n->type, n->analyzer);
        if (f) field_want_dictionary(&plan->fetch, f);
    }
}

static void plan_part(struct plan *plan) {
    const struct query *q = plan->p->query;
    plan_node(plan, q->root);
    if (plan->p->stats) return;
    for (uint32_t i = 0; i < q->n_sort; i++) plan_values(plan, q->sort[i].field, q->sort[i].type);
    for (uint32_t i = 0; i < q->n_facets; i++) plan_values(plan, q->facets[i].field, q->facets[i].type);
    if (q->partitioned && plan->p->partition_field)
        plan_values(plan, plan->p->partition_field, FIELD_KEYWORD);
    segment_want_lookup(&plan->fetch, plan->segment);
}

int search_prefetch(const struct prefetch *p, struct err *err) {
    struct plan plan = {.p = p, .fetch = FETCH_INIT, .scored = p->query->needs_scores};
    bool remote = false;
    int r = 0;
    for (size_t i = 0; i < p->n_parts && !remote; i++) remote = segment_is_remote(p->parts[i].segment);
    for (int round = 0; remote && round < PLAN_ROUNDS && !r; round++) {
        struct fetch *before = fetch_record(&plan.fetch);
        for (size_t i = 0; i < p->n_parts; i++) {
            plan.segment = p->parts[i].segment;
            if (!segment_is_remote(plan.segment)) continue;
            if (p->parts[i].doc_hi)
                plan_part(&plan);
            else if (!p->stats)
                plan_statistics(&plan);
        }
        fetch_record(before);
        r = search_poll(p->cancel, err);
        if (!plan.fetch.n) break;
        if (!r) r = fetch_run(&plan.fetch, err);
    }
    fetch_release(&plan.fetch);
    return r;
}
