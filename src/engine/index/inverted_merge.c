/* Merging inverted indexes: terms united by a k-way merge of the dictionaries, postings renumbered and merged
 * by document. Holds one decoded block of one term per input. */
#include "index/index.h"
#include "index/inverted_internal.h"

struct source {
    const struct inverted *inverted;
    const uint32_t *map;
    struct term_iter it;
    uint64_t key; /* of the current term */
    struct postings postings;
    uint32_t seen; /* postings read of the current term */
    uint32_t doc;  /* mapped document at hand */
};

struct merge {
    struct source *sources;
    size_t n;
    struct source **live; /* that have terms left */
    size_t n_live;
    struct source **heap; /* that have the term at hand and documents left; least mapped document first */
    size_t n_heap;
    struct encoder encoder;
};

static int next_term(struct source *s, struct err *err) {
    int e = term_iter_next(&s->it, err);
    if (e > 0) s->key = term_key(s->it.term.data, s->it.term.len);
    return e;
}

static int compare_terms(const struct source *a, const struct source *b) {
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return term_cmp(a->it.term.data, a->it.term.len, b->it.term.data, b->it.term.len);
}

/* To the next document that lives on; false at the end. */
static bool next_doc(struct source *s) {
    while (postings_next(&s->postings) != DOCNO_NONE) {
        s->seen++;
        s->doc = s->map[s->postings.doc];
        if (s->doc != DOCNO_NONE) return true;
    }
    return false;
}

/* A damaged block ends a list early: that must not become a smaller index. */
static int check_read(const struct source *s, struct err *err) {
    if (s->seen == s->it.info.df) return 0;
    return err_set(err, ERR_CORRUPT, "corrupt object '%s': postings", blob_name(s->inverted->blob));
}

static void sift_down(struct source **heap, size_t n, size_t at) {
    struct source *s = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1]->doc < heap[child]->doc) child++;
        if (heap[child]->doc >= s->doc) break;
        heap[at] = heap[child];
    }
    heap[at] = s;
}

static int open_postings(struct merge *m, struct source *s, struct err *err) {
    const struct inverted_region *r = &m->encoder.region;
    int e =
        inverted_postings_reopen(&s->postings, s->inverted, &s->it.info, r->has_freqs, r->has_positions, err);
    if (e) return e;
    s->seen = 0;
    if (!next_doc(s)) return check_read(s, err);
    m->heap[m->n_heap++] = s;
    return 0;
}

static int merge_docs(struct merge *m, struct err *err) {
    for (size_t i = m->n_heap / 2; i-- > 0;) sift_down(m->heap, m->n_heap, i);
    while (m->n_heap) {
        struct source *s = m->heap[0];
        uint32_t freq = postings_freq(&s->postings);
        encoder_doc(&m->encoder, s->doc, freq, postings_positions(&s->postings));
        if (!next_doc(s)) {
            int e = check_read(s, err);
            if (e) return e;
            m->heap[0] = m->heap[--m->n_heap];
        }
        if (m->n_heap > 1) sift_down(m->heap, m->n_heap, 0);
    }
    return 0;
}

/* Moves the sources that stand on the term on; those at their end leave. */
static int move_on(struct merge *m, struct source *const *same, size_t n_same, struct err *err) {
    for (size_t i = 0; i < n_same; i++) {
        int e = next_term(same[i], err);
        if (e < 0) return e;
        if (e) continue;
        for (size_t k = 0; k < m->n_live; k++) {
            if (m->live[k] != same[i]) continue;
            m->live[k] = m->live[--m->n_live];
            break;
        }
    }
    return 0;
}

static int merge_term(struct merge *m, struct source **same, struct err *err) {
    size_t n_same = 0;
    for (size_t i = 0; i < m->n_live; i++) {
        int c = n_same ? compare_terms(m->live[i], same[0]) : -1;
        if (c < 0) n_same = 0;
        if (c <= 0) same[n_same++] = m->live[i];
    }
    encoder_term(&m->encoder, same[0]->it.term.data, same[0]->it.term.len);
    m->n_heap = 0;
    int e = 0;
    for (size_t i = 0; !e && i < n_same; i++) e = open_postings(m, same[i], err);
    if (!e) e = merge_docs(m, err);
    if (!e) e = encoder_term_end(&m->encoder, err);
    return e ? e : move_on(m, same, n_same, err);
}

static int open_source(struct merge *m, const struct inverted *inv, const uint32_t *map, bool has_positions,
                       struct err *err) {
    struct source *s = &m->sources[m->n++];
    s->inverted = inv;
    s->map = map;
    int e = inverted_iter_open(&s->it, inv, "", 0, err);
    if (e || !inv->region.n_terms) return e;
    if (has_positions && !inv->region.has_positions)
        return err_set(err, ERR_INVALID, "cannot merge '%s': no positions", blob_name(inv->blob));
    e = next_term(s, err);
    if (e > 0) m->live[m->n_live++] = s;
    return MIN(e, 0);
}

static int run(struct merge *m, const volatile int *cancel, struct inverted_region *ret, struct err *err) {
    struct source **same = xcalloc(m->n, sizeof *same);
    int e = 0;
    while (!e && m->n_live) {
        if (merge_canceled(cancel))
            e = err_set(err, ERR_CANCELED, "merge canceled");
        else
            e = merge_term(m, same, err);
    }
    free(same);
    return e ? e : encoder_finish(&m->encoder, ret, err);
}

int inverted_merge_parts(const struct inverted *const *inputs, const uint32_t *const *maps, size_t n,
                         bool has_freqs, bool has_positions, const uint8_t *norms, struct blob_writer *out,
                         inverted_ord_fn *ord_fn, void *ctx, const volatile int *cancel,
                         struct inverted_region *ret, struct err *err) {
    struct merge m = {.sources = xcalloc(n, sizeof *m.sources),
                      .live = xcalloc(n, sizeof *m.live),
                      .heap = xcalloc(n, sizeof *m.heap)};
    int e = 0;
    encoder_init(&m.encoder, has_freqs || has_positions, has_positions, norms, out, ord_fn, ctx);
    for (size_t i = 0; !e && i < n; i++)
        if (inputs[i]) e = open_source(&m, inputs[i], maps[i], has_positions, err);
    if (!e) e = run(&m, cancel, ret, err);
    for (size_t i = 0; i < m.n; i++) {
        term_iter_close(&m.sources[i].it);
        postings_close(&m.sources[i].postings);
    }
    encoder_release(&m.encoder);
    free(m.sources);
    free(m.live);
    free(m.heap);
    return e;
}

int inverted_merge(const struct segment_field *const *fields, const uint32_t *const *maps, size_t n,
                   bool has_freqs, bool has_positions, const uint8_t *norms, struct blob_writer *out,
                   inverted_ord_fn *ord_fn, void *ctx, const volatile int *cancel,
                   struct inverted_region *ret, struct err *err) {
    const struct inverted **inputs = xcalloc(n, sizeof *inputs);
    for (size_t i = 0; i < n; i++)
        if (fields[i]) inputs[i] = segment_field_inverted(fields[i]);
    int e = inverted_merge_parts(inputs, maps, n, has_freqs, has_positions, norms, out, ord_fn, ctx, cancel,
                                 ret, err);
    free(inputs);
    return e;
}
