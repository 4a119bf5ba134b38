/* Exact nearest neighbours: every allowed row, as fast as memory gives them.
 *
 * Rows are handled in lots: first their numbers, so that deletes and filters are looked at by word and rows
 * can be asked for ahead, then their products, then the scores. */
#include "query/collect.h"
#include "query/knn_internal.h"

/* AHEAD: bytes of rows to come that are asked for while one is read. */
enum { AHEAD_BYTES = 4096, MAX_AHEAD = 16, GALLOP = 8 };

struct knn_lot {
    struct batch batch;
    uint32_t rows[BATCH_DOCS];
    float products[BATCH_DOCS];
};

/* The first row from `from` on whose document is not below docno. */
static uint32_t row_of(const struct vectors *v, uint32_t from, uint32_t docno) {
    if (v->dense) return MIN(MAX(from, docno), v->n);
    uint32_t step = GALLOP, lo = from, hi;
    while (lo + step < v->n && v->docs[lo + step] < docno) {
        lo += step;
        step *= 2;
    }
    hi = MIN(lo + step, v->n);
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v->docs[mid] < docno)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int score_lot(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    const struct vectors *v = &p->vectors;
    uint32_t n = lot->batch.n, size = v->dimensions * (uint32_t)sizeof(float);
    uint32_t ahead = MAX(1, MIN((uint32_t)MAX_AHEAD, AHEAD_BYTES / size + 1));
    bool together = n && lot->rows[n - 1] - lot->rows[0] == n - 1;
    int r = search_poll(p->cancel, err);
    if (!r && together) r = vectors_need(v, lot->rows[0], n, err);
    for (uint32_t i = 0; i < n && !together && !r; i++) r = vectors_need(v, lot->rows[i], 1, err);
    if (r) return r;
    for (uint32_t i = 0; i < n && !together && i < ahead; i++)
        vector_prefetch(v->rows + (size_t)lot->rows[i] * v->dimensions, v->dimensions);
    for (uint32_t i = 0; i < n; i++) {
        if (i + ahead < n)
            vector_prefetch(v->rows + (size_t)lot->rows[i + ahead] * v->dimensions, v->dimensions);
        lot->products[i] = vector_query_product(&p->query, v->rows + (size_t)lot->rows[i] * v->dimensions);
    }
    for (uint32_t i = 0; i < n; i++) {
        lot->batch.docs[i] = v->docs[lot->rows[i]];
        lot->batch.scores[i] = vector_query_score(&p->query, lot->products[i], v->norms[lot->rows[i]]);
    }
    collector_add(c, &lot->batch);
    lot->batch.n = 0;
    return 0;
}

static int add_row(const struct knn_part *p, struct knn_lot *lot, uint32_t row, struct collector *c,
                   struct err *err) {
    lot->rows[lot->batch.n++] = row;
    return lot->batch.n == BATCH_DOCS ? score_lot(p, lot, c, err) : 0;
}

static int scan_all(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    uint32_t row = row_of(&p->vectors, 0, p->lo), end = row_of(&p->vectors, row, p->hi);
    int r = 0;
    for (; row < end && !r; row++) r = add_row(p, lot, row, c, err);
    return r;
}

static int scan_allowed(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    const struct vectors *v = &p->vectors;
    uint32_t row = 0;
    int r = 0;
    for (uint32_t word = p->lo >> 6; word <= (p->hi - 1) >> 6 && !r; word++) {
        for (uint64_t bits = knn_allowed_word(p, word); bits && !r; bits &= bits - 1) {
            uint32_t doc = word * 64 + (uint32_t)__builtin_ctzll(bits);
            row = row_of(v, row, doc);
            if (row == v->n) return 0;
            if (v->docs[row] == doc) r = add_row(p, lot, row, c, err);
        }
    }
    return r;
}

int knn_scan(const struct knn_part *p, struct collector *c, struct err *err) {
    struct knn_lot lot;
    lot.batch.n = 0;
    int r = p->dead || p->filter ? scan_allowed(p, &lot, c, err) : scan_all(p, &lot, c, err);
    return r ? r : score_lot(p, &lot, c, err);
}
