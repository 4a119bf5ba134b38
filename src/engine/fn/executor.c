/* The Executor. Pieces are assigned by rendezvous hashing over (segment object, range): a change of the shard
 * count or of the tree moves few of them, so that caches stay warm. */
#include "fn/executor.h"
#include "index/page_cache.h"
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

/* The pieces of one call. */
struct pieces {
    const struct exec_request *request;
    struct arena arena;
    struct search_part *parts;
    uint64_t **hidden; /* by part of the view; NULL where nothing but the dead is hidden */
    size_t n;
};

/* What a partition filter hides of documents [lo, hi) (lo a multiple of 64). *ret_any false: all of it. */
static void hide(uint64_t *bits, const struct partition_set *set, const uint16_t *partitions,
                 const uint64_t *dead, uint32_t lo, uint32_t hi, bool *ret_any) {
    for (uint32_t d = lo; d < hi; d++) {
        bool hidden = !partition_set_has(set, partitions[d]) || deletes_has(dead, d);
        bits[d >> 6] |= (uint64_t)hidden << (d & 63);
        *ret_any |= !hidden;
    }
}

static struct search_part *add_part(struct pieces *p, uint32_t i, uint32_t lo, uint32_t hi) {
    struct search_part *last = p->n ? &p->parts[p->n - 1] : NULL;
    const struct view_part *part = &p->request->view->parts[i];
    if (last && last->part_no == i && last->doc_hi == lo) { /* goes on where the last one ended */
        last->doc_hi = hi;
        return last;
    }
    p->parts[p->n] = (struct search_part){part->segment, part->deletes, lo, hi, i, NULL};
    return &p->parts[p->n++];
}

/* A range of a segment that holds documents of several partitions. */
static void add_filtered(struct pieces *p, uint32_t i, const uint16_t *partitions, uint64_t **bits,
                         uint32_t lo, uint32_t hi) {
    const struct view_part *part = &p->request->view->parts[i];
    size_t words = ((size_t)segment_n_docs(part->segment) + 63) / 64;
    bool any = false;
    if (!*bits) *bits = arena_zalloc(&p->arena, (words + 1) * sizeof **bits);
    hide(*bits, &p->request->query->partitions, partitions, deletes_bits(part->deletes), lo, hi, &any);
    if (any) add_part(p, i, lo, hi)->hidden = *bits;
}

static int add_segment(struct pieces *p, uint32_t i, struct err *err) {
    const struct exec_request *q = p->request;
    const struct view *v = q->view;
    uint32_t n_docs = segment_n_docs(v->parts[i].segment);
    const uint16_t *partitions = NULL;
    bool none = false;
    int r = 0;
    if (q->query->partitioned) r = view_partitions(v, i, &q->query->partitions, &none, &partitions, err);
    if (r || none) return r;
    uint32_t step = q->kind == EXEC_KNN && search_knn_whole(q->query, q->which, v->parts[i].segment)
                        ? MAX(1, n_docs)
                        : EXEC_RANGE_DOCS;
    for (uint32_t lo = 0, range = 0; lo < n_docs; lo += step, range++) {
        uint32_t hi = MIN(n_docs, lo + step);
        if (i < v->n_base && shard_of(&v->base->tree->leaves[i], range, q->n_shards) != q->shard) continue;
        if (partitions)
            add_filtered(p, i, partitions, &p->hidden[i], lo, hi);
        else
            add_part(p, i, lo, hi);
    }
    return 0;
}

static int pieces_init(struct pieces *p, const struct exec_request *q, struct err *err) {
    const struct view *v = q->view;
    bool tail = q->shard == q->n_shards;
    size_t max = 0;
    int r = 0;
    for (uint32_t i = 0; i < v->n_parts; i++)
        max += segment_n_docs(v->parts[i].segment) / EXEC_RANGE_DOCS + 1;
    *p = (struct pieces){.request = q};
    p->parts = arena_alloc(&p->arena, max * sizeof *p->parts);
    p->hidden = arena_zalloc(&p->arena, v->n_parts * sizeof *p->hidden);
    for (uint32_t i = tail ? v->n_base : 0; !r && i < (tail ? v->n_parts : v->n_base); i++)
        r = add_segment(p, i, err);
    return r;
}

static uint64_t count_segments(const struct pieces *p) {
    uint64_t n = 0;
    for (size_t i = 0; i < p->n; i++) n += !i || p->parts[i].part_no != p->parts[i - 1].part_no;
    return n;
}

int executor_run(void *ctx, const void *request, void *answer, struct err *err) {
    const struct exec_request *q = request;
    struct exec_answer *a = answer;
    struct pieces p;
    struct page_hold hold; /* of this thread: the Router's is of another */
    page_hold_begin(&hold, q->view->coll->core->objects->pages);
    int r = pieces_init(&p, q, err);
    if (r) goto out;
    if (q->kind == EXEC_KNN)
        r = search_knn(q->query, q->which, q->stats, p.parts, p.n, q->stop, &a->knn, err);
    else
        r = search_run(q->query, q->stats, q->knn, p.parts, p.n, q->want, q->stop, &a->search, err);
    if (q->last) counter_add(&q->view->coll->core->n_segments_searched, count_segments(&p));
out:
    arena_release(&p.arena);
    page_hold_end(&hold);
    return r;
}
