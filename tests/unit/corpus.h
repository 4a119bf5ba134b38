/* A small collection as segments in memory, searched as the router searches: expansion, statistics, kNN, the
 * parts dealt to several calls in ranges, and the merge. */
#pragma once
#include "index/segment.h"
#include "query/fuse.h"
#include "query/search.h"
#include "test.h"

enum { CORPUS_MAX_PARTS = 8, CORPUS_MAX_CALLS = 3, CORPUS_MAX_PIECES = 64 };

struct corpus_doc {
    const char *id, *json;
    bool dead;         /* deleted */
    const char *stale; /* not NULL: an older version that another segment holds, dead */
};
struct corpus_index {
    struct segment *segments[CORPUS_MAX_PARTS];
    struct deletes *deletes[CORPUS_MAX_PARTS];
    uint32_t n;
};

static uint64_t corpus_rng = 88172645463325252ull;
static uint32_t corpus_rnd(uint32_t below) {
    corpus_rng ^= corpus_rng << 13;
    corpus_rng ^= corpus_rng >> 7;
    corpus_rng ^= corpus_rng << 17;
    return (uint32_t)((corpus_rng >> 20) % below);
}

static struct segment *corpus_open(struct segment_writer *w, struct blob_writer *out, struct err *e) {
    struct segment_summary summary;
    struct segment *segment = NULL;
    struct blob *blob = NULL;
    uint64_t size;
    uint32_t checksum;
    size_t len;
    if (segment_writer_finish(w, &summary, &size, &checksum, e)) return NULL;
    uint8_t *bytes = buf_detach(&out->mem, &len);
    if (blob_open_memory(bytes, len, BLOB_KIND_SEGMENT, &blob, e)) return NULL;
    return segment_open(blob, &segment, e) ? NULL : segment;
}

/* Of document i that segment `which` holds: 0 nothing, 1 the document, 2 its older version. */
static int corpus_holds(const struct corpus_doc *d, uint32_t i, uint32_t which, uint32_t n_segments) {
    uint32_t at = (i * 7 + i / 3) % n_segments;
    if (at == which) return 1;
    return d->stale && (at + 1) % n_segments == which ? 2 : 0;
}

/* docs: by id, ascending. */
static bool corpus_build(struct corpus_index *x, struct schema *schema, const struct corpus_doc *docs,
                         uint32_t n, uint32_t n_segments) {
    struct err e = ERR_INIT;
    bool ok = true;
    *x = (struct corpus_index){0};
    for (uint32_t s = 0; s < n_segments && ok; s++) {
        struct blob_writer out;
        uint32_t docno = 0;
        blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
        struct segment_writer *w = segment_writer_new(schema, &out);
        for (uint32_t i = 0; i < n && ok; i++) {
            int holds = corpus_holds(&docs[i], i, s, n_segments);
            const char *json = holds == 2 ? docs[i].stale : docs[i].json;
            if (holds)
                ok = !segment_writer_add(w, docs[i].id, strlen(docs[i].id), i + 1, 1000, json, strlen(json),
                                         &e);
        }
        struct segment *segment = ok ? corpus_open(w, &out, &e) : NULL;
        segment_writer_free(w);
        blob_writer_release(&out);
        if ((ok = segment)) {
            x->segments[x->n] = segment;
            x->deletes[x->n++] = deletes_new(segment);
        }
        for (uint32_t i = 0; i < n && ok; i++) {
            int holds = corpus_holds(&docs[i], i, s, n_segments);
            if (holds == 2 || (holds && docs[i].dead))
                ok = deletes_add(x->deletes[s], segment, docno, &e) == 1;
            docno += holds > 0;
        }
    }
    if (!ok) fprintf(stderr, "corpus_build: %s\n", e.text);
    return ok;
}

static void corpus_release(struct corpus_index *x) {
    for (uint32_t i = 0; i < x->n; i++) {
        deletes_unref(x->deletes[i]);
        segment_unref(x->segments[i]);
    }
}

struct corpus_pieces {
    struct search_part parts[CORPUS_MAX_CALLS][CORPUS_MAX_PIECES];
    uint32_t n[CORPUS_MAX_CALLS], n_calls;
};

static void corpus_divide(const struct corpus_index *x, bool ranges, struct corpus_pieces *ret) {
    *ret = (struct corpus_pieces){.n_calls = ranges ? CORPUS_MAX_CALLS : 1};
    for (uint32_t s = 0; s < x->n; s++) {
        uint32_t n = segment_n_docs(x->segments[s]), hi;
        for (uint32_t lo = 0; lo < n; lo = hi) {
            uint32_t call = corpus_rnd(ret->n_calls);
            hi = ranges ? MIN(n, lo + 1 + corpus_rnd(n / 2 + 1)) : n;
            ret->parts[call][ret->n[call]++] = (struct search_part){.segment = x->segments[s],
                                                                    .deletes = x->deletes[s],
                                                                    .doc_lo = lo,
                                                                    .doc_hi = hi,
                                                                    .part_no = s};
        }
    }
}

static int corpus_stats(const struct corpus_index *x, const struct query *q, struct search_stats *stats,
                        struct err *e) {
    int r = 0;
    search_stats_init(stats, q);
    for (uint32_t s = 0; s < x->n && !r; s++) {
        struct search_part whole = {.segment = x->segments[s],
                                    .deletes = x->deletes[s],
                                    .doc_hi = segment_n_docs(x->segments[s]),
                                    .part_no = s};
        r = search_stats_add(stats, q, &whole, e);
        if (!r) r = search_expand(stats, q, &whole, NULL, e);
    }
    search_expand_finish(stats, q);
    return r;
}

static int corpus_run(const struct query *q, const struct search_stats *stats, const struct knn_result *knn,
                      const struct corpus_pieces *p, uint32_t want, struct search_result *ret,
                      struct err *e) {
    struct search_result results[CORPUS_MAX_CALLS] = {{0}};
    int r = 0;
    for (uint32_t c = 0; c < p->n_calls && !r; c++)
        r = search_run(q, stats, knn, p->parts[c], p->n[c], want, NULL, &results[c], e);
    return r ? r : search_merge(q, results, p->n_calls, want, ret, e);
}

/* ranges: every segment is cut into ranges that are dealt to several calls. */
static int corpus_search(const struct corpus_index *x, const struct query *q, bool ranges, uint32_t want,
                         struct search_result *ret, struct err *e) {
    struct knn_result knn[8], partial[CORPUS_MAX_CALLS];
    struct search_result sides[2];
    struct search_stats stats;
    struct corpus_pieces p;
    uint32_t n_knn = search_knn_count(q), k, first = 0;
    int r = corpus_stats(x, q, &stats, e);
    corpus_divide(x, ranges, &p);
    for (k = 0; k < n_knn && !r; k++) {
        for (uint32_t c = 0; c < p.n_calls && !r; c++)
            r = search_knn(q, k, &stats, p.parts[c], p.n[c], NULL, &partial[c], e);
        if (!r) search_knn_merge(q, k, partial, p.n_calls, &knn[k]);
    }
    for (int s = 0; s < 2 && !r && q->root->kind == QUERY_FUSE; s++) {
        struct query side = fuse_side_query(q, s);
        r = corpus_run(&side, &stats, knn + first, &p, fuse_side_want(q, s), &sides[s], e);
        first += search_knn_count(&side);
    }
    if (!r && q->root->kind == QUERY_FUSE)
        search_fuse(q, sides, want, ret);
    else if (!r)
        r = corpus_run(q, &stats, knn, &p, want, ret, e);
    for (uint32_t i = 0; i < k; i++) search_knn_release(&knn[i]);
    search_stats_release(&stats);
    return r;
}
