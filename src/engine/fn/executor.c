/* The Executor. Pieces are assigned by rendezvous hashing over (segment object, range): a change of the shard count or of
 * the tree moves few of them, so that caches stay warm. */
#include "fn/executor.h"
#include "util/codec.h"

static uint32_t shard_of(const struct leaf *l, uint32_t range, uint32_t n_shards) {
    uint32_t best = 0;
    uint64_t best_hash = 0, seed = hash64(l->segment.key, strlen(l->segment.key), range);
    for (uint32_t s = 0; s < n_shards && n_shards > 1; s++) {
        uint64_t h = hash64(&s, sizeof s, seed);
        if (h < best_hash && s) continue;
        best = s;
        best_hash = h;
    }
    return best;
}

static struct search_part *add_part(struct search_part *parts, size_t n, const struct view *v, uint32_t i, uint32_t lo,
                                    uint32_t hi) {
    if (n && parts[n - 1].part_no == i && parts[n - 1].doc_hi == lo) { /* goes on where the last one ended */
        parts[n - 1].doc_hi = hi;
        return NULL;
    }
    parts[n] = (struct search_part){v->parts[i].segment, v->parts[i].deletes, lo, hi, i};
    return &parts[n];
}

static struct search_part *pieces(const struct exec_request *q, size_t *ret_n) {
    const struct view *v = q->view;
    bool tail = q->shard == q->n_shards;
    size_t max = 0;
    for (uint32_t i = 0; i < v->n_parts; i++) max += segment_n_docs(v->parts[i].segment) / EXEC_RANGE_DOCS + 1;
    struct search_part *parts = xmalloc(max * sizeof *parts);
    *ret_n = 0;
    for (uint32_t i = tail ? v->n_base : 0; i < (tail ? v->n_parts : v->n_base); i++) {
        uint32_t n_docs = segment_n_docs(v->parts[i].segment);
        for (uint32_t lo = 0, range = 0; lo < n_docs; lo += EXEC_RANGE_DOCS, range++) {
            if (!tail && shard_of(&v->base->tree->leaves[i], range, q->n_shards) != q->shard) continue;
            if (add_part(parts, *ret_n, v, i, lo, MIN(n_docs, lo + EXEC_RANGE_DOCS))) ++*ret_n;
        }
    }
    return parts;
}

int executor_run(void *ctx, const void *request, void *answer, struct err *err) {
    const struct exec_request *q = request;
    struct exec_answer *a = answer;
    size_t n;
    struct search_part *parts = pieces(q, &n);
    int r;
    if (q->kind == EXEC_KNN) r = search_knn(q->query, q->which, q->stats, parts, n, q->stop, &a->knn, err);
    else r = search_run(q->query, q->stats, q->knn, parts, n, q->want, q->stop, &a->search, err);
    free(parts);
    return r;
}
