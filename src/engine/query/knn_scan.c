/* Exact nearest neighbours: every allowed row, as fast as memory gives them.
 *
 * Rows are handled in lots: first their numbers, so that deletes and filters are looked at by word and rows
 * can be asked for ahead, then their products, then the scores. */
#include "query/collect.h"
#include "query/knn_internal.h"

#include <math.h>

/* AHEAD: bytes of rows to come that are asked for while one is read. START: of a row by itself; the rest of a
 * long one is often not read, or the machine sees it coming. GROUP: rows between two looks at what the worst
 * hit is. */
enum { AHEAD_BYTES = 4096, MAX_AHEAD = 16, START = 128, STREAM_BYTES = 9216, GROUP = 16 };

/* Row numbers, ascending. */
struct knn_lot {
    uint32_t n, own[BATCH_DOCS];
    const uint32_t *rows; /* own, unless they are somewhere */
    bool together;        /* side by side */
    uint32_t ahead;
    float least, bound; /* the score that a hit needs, as it was last, and the product for it */
};

/* Products of the lot's rows from `from` on, as far as they can be hits, and their scores. */
static void score_group(const struct knn_part *p, struct knn_lot *lot, uint32_t from, struct collector *c) {
    const struct vectors *v = &p->vectors;
    float least = collector_least(c), products[GROUP];
    if (least != lot->least) lot->bound = vector_query_bound(&p->query, lot->least = least);
    float bound = lot->bound;
    bool any = false;
    uint32_t end = MIN(lot->n, from + GROUP), rows[GROUP], n = 0;
    bool normed = v->similarity == SIMILARITY_COSINE;
    struct batch batch;
    struct vector_rows some = {.rows = v->rows,
                               .numbers = lot->rows + from,
                               .n = end - from,
                               .known = lot->n - from,
                               .dimensions = v->dimensions,
                               .ahead = lot->ahead,
                               .start = MIN(v->dimensions, (uint32_t)START)};
    if (lot->together) {
        some.rows += (size_t)lot->rows[from] * v->dimensions;
        some.numbers = NULL;
        some.start = v->dimensions;
    }
    p->query.rows_product(p->query.vector, &some, bound, products);
    for (uint32_t i = 0; i < some.n; i++) any |= !(products[i] > bound);
    for (uint32_t i = 0; any && i < some.n; i++) {
        products[n] = products[i];
        rows[n] = lot->rows[from + i];
        n += !(products[i] > bound);
    }
    for (uint32_t i = 0; i < n; i++) {
        batch.docs[i] = v->dense ? rows[i] : v->docs[rows[i]];
        batch.scores[i] = vector_query_score(&p->query, products[i], normed ? v->norms[rows[i]] : 0);
    }
    batch.n = n;
    if (n) collector_add(c, &batch);
}

static int score_lot(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    const struct vectors *v = &p->vectors;
    uint32_t n = lot->n, size = v->dimensions * (uint32_t)sizeof(float);
    uint32_t start = MIN(v->dimensions, (uint32_t)START);
    lot->together = n && lot->rows[n - 1] - lot->rows[0] == n - 1;
    lot->ahead = lot->together
                     ? STREAM_BYTES / size + 1
                     : MIN((uint32_t)MAX_AHEAD, AHEAD_BYTES / (start * (uint32_t)sizeof(float)) + 1);
    int r = search_poll(p->cancel, err);
    if (!r && lot->together) r = vectors_need(v, lot->rows[0], n, err);
    if (!r && !lot->together) r = vectors_need_rows(v, lot->rows, n, err);
    if (r) return r;
    for (uint32_t i = 0; i < MIN(n, lot->ahead) && !lot->together; i++)
        vector_prefetch(v->rows + (size_t)lot->rows[i] * v->dimensions, start);
    for (uint32_t i = 0; i < n; i += GROUP) score_group(p, lot, i, c);
    lot->n = 0;
    return 0;
}

static int add_row(const struct knn_part *p, struct knn_lot *lot, uint32_t row, struct collector *c,
                   struct err *err) {
    lot->own[lot->n++] = row;
    return lot->n == BATCH_DOCS ? score_lot(p, lot, c, err) : 0;
}

static int scan_all(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    uint32_t row = vectors_row(&p->vectors, 0, p->lo), end = vectors_row(&p->vectors, row, p->hi);
    int r = 0;
    while (row < end && !r) {
        lot->n = MIN(end - row, (uint32_t)BATCH_DOCS);
        for (uint32_t i = 0; i < lot->n; i++) lot->own[i] = row++;
        r = score_lot(p, lot, c, err);
    }
    return r;
}

/* The row of a document, if it has one; *row: that of one before, then of this one. */
static int add_doc(const struct knn_part *p, struct knn_lot *lot, uint32_t doc, uint32_t *row,
                   struct collector *c, struct err *err) {
    const struct vectors *v = &p->vectors;
    *row = vectors_row(v, *row, doc);
    return *row < v->n && (v->dense || v->docs[*row] == doc) ? add_row(p, lot, *row, c, err) : 0;
}

/* The allowed documents are the row numbers. */
static int scan_listed(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    size_t n = p->n_allowed;
    int r = 0;
    while (n && p->allowed[n - 1] >= p->vectors.n) n--; /* those behind have no vector */
    for (size_t i = 0; i < n && !r; i += BATCH_DOCS) {
        lot->rows = p->allowed + i;
        lot->n = (uint32_t)MIN(n - i, (size_t)BATCH_DOCS);
        r = score_lot(p, lot, c, err);
    }
    return r;
}

static int scan_allowed(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    uint32_t row = 0;
    int r = 0;
    if (p->listed && p->vectors.dense) return scan_listed(p, lot, c, err);
    for (uint32_t i = 0; p->listed && i < p->n_allowed && !r; i++)
        r = add_doc(p, lot, p->allowed[i], &row, c, err);
    for (uint32_t word = p->lo >> 6; !p->listed && word <= (p->hi - 1) >> 6 && !r; word++)
        for (uint64_t bits = knn_allowed_word(p, word); bits && !r; bits &= bits - 1)
            r = add_doc(p, lot, word * 64 + (uint32_t)__builtin_ctzll(bits), &row, c, err);
    return r;
}

int knn_scan(const struct knn_part *p, struct collector *c, struct err *err) {
    struct knn_lot lot;
    lot.n = 0;
    lot.rows = lot.own;
    lot.least = NAN;
    int r = p->dead || p->filter || p->listed ? scan_allowed(p, &lot, c, err) : scan_all(p, &lot, c, err);
    return r || !lot.n ? r : score_lot(p, &lot, c, err);
}
