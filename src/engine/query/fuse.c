/* Fusing two ranked lists. */
#include "query/fuse.h"
#include "query/collect.h"
#include <math.h>

static const double MM_LEAST = 0.001;

uint32_t fuse_side_want(const struct query *query, int side) {
    const struct query_node *node = query->root->clauses[side].node;
    return node->kind == QUERY_KNN ? node->k : query->window;
}

struct query fuse_side_query(const struct query *query, int side) {
    struct query q = *query;
    q.root = query->root->clauses[side].node;
    q.needs_scores = true;
    q.n_sort = 0;
    q.n_facets = 0;
    return q;
}

/* What all hits of a side share. */
struct side {
    enum fusion fusion;
    double weight, least, span, length;
};

static struct side side_init(const struct query_node *node, int which, const struct search_result *r) {
    struct side s = {.fusion = node->fusion, .weight = node->weights[which]};
    double sum = 0;
    for (uint32_t i = 0; i < r->n_hits; i++) sum += (double)r->hits[i].score * (double)r->hits[i].score;
    s.length = sqrt(sum);
    if (!r->n_hits) return s;
    s.least = (double)r->hits[r->n_hits - 1].score;
    s.span = (double)r->hits[0].score - s.least;
    return s;
}

static double side_score(const struct side *s, float score, uint32_t rank) {
    double part = 0;
    switch (s->fusion) {
    case FUSE_MM:
        part = s->span > 0 ? ((double)score - s->least) / s->span : 1;
        return s->weight * (part > 0 ? part : MM_LEAST);
    case FUSE_L2:
        return s->length > 0 ? s->weight * ((double)score / s->length) : 0;
    default:
        return (FUSE_RANK_CONSTANT + 1) / 2.0 / (FUSE_RANK_CONSTANT + rank);
    }
}

/* A hit of either side with its two parts of the score. */
struct fused {
    struct search_hit hit;
    double parts[2];
    uint32_t ranks[2];
    float scores[2];
};

static int compare_place(const void *a, const void *b) {
    const struct search_hit *x = &((const struct fused *)a)->hit, *y = &((const struct fused *)b)->hit;
    if (x->part_no != y->part_no) return x->part_no < y->part_no ? -1 : 1;
    return (x->docno > y->docno) - (x->docno < y->docno);
}

static int compare_fused(const void *a, const void *b) {
    return search_hit_compare(NULL, 0, &((const struct fused *)a)->hit, &((const struct fused *)b)->hit);
}

/* Adds up what is there of one document. Returns how many documents there are. */
static uint32_t unite(struct fused *all, uint32_t n) {
    uint32_t kept = 0;
    qsort(all, n, sizeof *all, compare_place);
    for (uint32_t i = 0; i < n; i++) {
        if (kept && !compare_place(&all[kept - 1], &all[i])) {
            for (int s = 0; s < 2; s++) {
                all[kept - 1].parts[s] += all[i].parts[s];
                all[kept - 1].ranks[s] += all[i].ranks[s];
                all[kept - 1].scores[s] += all[i].scores[s];
            }
            search_hit_release(&all[i].hit);
        } else {
            all[kept++] = all[i];
        }
    }
    for (uint32_t i = 0; i < kept; i++) all[i].hit.score = (float)(all[i].parts[0] + all[i].parts[1]);
    qsort(all, kept, sizeof *all, compare_fused);
    return kept;
}

static void note_parts(struct fused *f, const struct side sides[2]) {
    f->hit.fused = xcalloc(2, sizeof *f->hit.fused);
    for (int s = 0; s < 2; s++)
        f->hit.fused[s] = (struct fused_part){f->ranks[s],    f->scores[s],  f->parts[s],    sides[s].weight,
                                              sides[s].least, sides[s].span, sides[s].length};
}

void search_fuse(const struct query *query, struct search_result sides[2], uint32_t want,
                 struct search_result *ret) {
    struct fused *all = xcalloc((size_t)sides[0].n_hits + sides[1].n_hits + 1, sizeof *all);
    struct search_result out = {0};
    struct side of[2];
    uint32_t n = 0;
    for (int s = 0; s < 2; s++) {
        of[s] = side_init(query->root, s, &sides[s]);
        for (uint32_t i = 0; i < sides[s].n_hits; i++, n++) {
            all[n].hit = sides[s].hits[i];
            all[n].parts[s] = side_score(&of[s], all[n].hit.score, i + 1);
            all[n].ranks[s] = i + 1;
            all[n].scores[s] = all[n].hit.score;
        }
        sides[s].n_hits = 0;
        search_result_release(&sides[s]);
    }
    out.total = n = unite(all, n);
    out.max_score = n ? all[0].hit.score : 0;
    out.hits = xmalloc(((size_t)MIN(n, want) + 1) * sizeof *out.hits);
    for (uint32_t i = 0; i < n; i++) {
        if (i >= want) {
            search_hit_release(&all[i].hit);
            continue;
        }
        note_parts(&all[i], of);
        out.hits[out.n_hits++] = all[i].hit;
    }
    free(all);
    *ret = out;
}
