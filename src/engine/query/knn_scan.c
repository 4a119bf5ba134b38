/* Exact nearest neighbours: every allowed row, as fast as memory gives them.
 *
 * Rows are handled in lots: first their numbers, so that deletes and filters are looked at by word and rows
 * can be asked for ahead, then their products, then the scores. */
#include "query/collect.h"
#include "query/knn_internal.h"

#include <math.h>

/* AHEAD: bytes of rows to come that are asked for while one is read: a page, over whose end processors do not
 * look by themselves, and at least two rows. START: elements of a row by itself; the rest of a long one is
 * often not read, or the machine sees it coming. GROUP: rows side by side between two looks at what the worst
 * hit is. CACHED: what a second cache holds of rows. */
enum { AHEAD_BYTES = 4096, MAX_AHEAD = 16, START = 128, CACHED_BYTES = 256 * 1024 };
enum { STREAM_MIN_AHEAD = 2, STREAM_GROUP = 64 };

/* Row numbers, ascending. */
struct knn_lot {
    uint32_t n, own[BATCH_DOCS];
    const uint32_t *rows;  /* own, unless they are somewhere; NULL: first, first + 1, ... */
    const uint32_t *apart; /* rows, unless they are side by side: NULL, first is set */
    uint32_t first, ahead;
    float least, bound; /* the score that a hit needs, as it was last, and the product for it */
};

/* Rows from `from` on whose products may be hits, with their scores. */
static void offer(const struct knn_part *p, const struct knn_lot *lot, uint32_t from, uint32_t n,
                  const float *products, struct collector *c) {
    const struct vectors *v = &p->vectors;
    bool normed = v->similarity == SIMILARITY_COSINE;
    struct batch batch;
    batch.n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (products[i] > lot->bound) continue;
        uint32_t row = lot->apart ? lot->apart[from + i] : lot->first + from + i;
        batch.docs[batch.n] = v->dense ? row : v->docs[row];
        batch.scores[batch.n++] = vector_query_score(&p->query, products[i], normed ? v->norms[row] : 0);
    }
    collector_add(c, &batch);
}

/* n of the lot's rows, from `from` on. */
static void score_group(const struct knn_part *p, struct knn_lot *lot, uint32_t from, uint32_t n,
                        struct collector *c) {
    const struct vectors *v = &p->vectors;
    uint32_t dim = v->dimensions;
    float least = collector_least(c), products[STREAM_GROUP];
    if (least != lot->least) lot->bound = vector_query_bound(&p->query, lot->least = least);
    struct vector_rows some = {
        .rows = v->rows, .n = n, .known = lot->n - from, .dimensions = dim, .ahead = lot->ahead};
    if (lot->apart) {
        some.numbers = lot->apart + from;
        some.start = MIN(dim, (uint32_t)START);
        some.cached = p->n_allowed * (uint64_t)dim * sizeof(float) <= CACHED_BYTES;
    } else {
        some.rows += (size_t)(lot->first + from) * dim;
    }
    if (p->query.rows_product(p->query.vector, &some, lot->bound, products))
        offer(p, lot, from, n, products, c);
}

static int score_lot(const struct knn_part *p, struct knn_lot *lot, struct collector *c, struct err *err) {
    const struct vectors *v = &p->vectors;
    uint32_t n = lot->n, size = v->dimensions * (uint32_t)sizeof(float);
    uint32_t start = MIN(v->dimensions, (uint32_t)START);
    lot->apart = lot->rows;
    if (lot->rows && n && lot->rows[n - 1] - lot->rows[0] == n - 1) {
        lot->first = lot->rows[0];
        lot->apart = NULL;
    }
    uint32_t group = lot->apart ? VECTOR_GROUP : STREAM_GROUP;
    lot->ahead = lot->apart ? MIN((uint32_t)MAX_AHEAD, AHEAD_BYTES / (start * (uint32_t)sizeof(float)) + 1)
                            : MAX((uint32_t)STREAM_MIN_AHEAD, AHEAD_BYTES / size + 1);
    int r = search_poll(p->cancel, err);
    if (!r) r = lot->apart ? vectors_need_rows(v, lot->apart, n, err) : vectors_need(v, lot->first, n, err);
    if (r) return r;
    for (uint32_t i = 0; lot->apart && i < MIN(n, lot->ahead); i++)
        vector_prefetch(v->rows + (size_t)lot->apart[i] * v->dimensions, start);
    for (uint32_t i = 0; i < n; i += group) score_group(p, lot, i, MIN(n - i, group), c);
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
    lot->rows = NULL;
    while (row < end && !r) {
        lot->first = row;
        lot->n = MIN(end - row, (uint32_t)BATCH_DOCS);
        row += lot->n;
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
