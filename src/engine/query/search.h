/* Evaluation of a checked query over parts (segments with their deletes). Pure computation; thread-safe. */
#pragma once
#include "index/segment.h"
#include "query/query.h"

struct search_part {
    struct segment *segment;
    const struct deletes *deletes; /* may be NULL */
    uint32_t doc_lo, doc_hi;       /* the range of document numbers this part covers: [lo, hi) */
    uint32_t part_no;              /* the same segment has the same number in every call of one query */
    const uint64_t
        *hidden; /* documents that this query cannot see, the dead included; NULL: the dead alone */
};

/* Live statistics: sums over whole segments (not ranges: count each segment once). Arrays are indexed by the
 * query's slots; sums are plain integers, so any order of adding gives the same. */
struct search_stats {
    uint64_t n_docs;           /* live documents */
    uint64_t *term_df;         /* n_term_slots, and one for each FUZZY node */
    uint64_t *field_docs;      /* n_field_slots: live documents with the field */
    uint64_t *field_ttf;       /* n_field_slots: tokens in them */
    struct fuzzy_terms *fuzzy; /* n_fuzzy: what each FUZZY node stands for */
    uint32_t n_fuzzy;
};
void search_stats_init(struct search_stats *, const struct query *);
void search_stats_release(struct search_stats *);
/* Fuzzy words, before the query runs: collect from every part (whole segments), then finish. Needed when
 * query.n_fuzzy > 0, scored or not, in any order with search_stats_add. cancel as in search_run. */
int search_expand(struct search_stats *, const struct query *, const struct search_part *,
                  const volatile int *cancel, struct err *);
void search_expand_finish(struct search_stats *, const struct query *);
/* Adds one segment's numbers. */
int search_stats_add(struct search_stats *, const struct query *, const struct search_part *, struct err *);

/* What one side of a hybrid search gave to a hit: part is computed from the rest, see query/fuse.h. */
struct fused_part {
    uint32_t rank; /* 0: the document is not among the side's hits */
    float score;
    double part, weight, least, span, length;
};
/* One hit before its document is fetched. */
struct sort_value {
    bool missing;
    int64_t i64;
    char *text;
    uint32_t text_len;
};
struct search_hit {
    float score;
    uint32_t part_no, docno;
    struct sort_value *sort; /* n_sort values, NULL without sort; one block with their texts inside */
    char *id;                /* of the final candidates of a part; NUL-terminated */
    uint32_t id_len;
    struct fused_part *fused; /* of a hybrid search: two, by side; else NULL */
};
struct facets;
/* The best hits of some parts, best first, and how many matched. */
struct search_result {
    struct search_hit *hits;
    uint32_t n_hits;
    uint64_t total; /* live documents that match (exact) */
    float max_score;
    struct facets *facets; /* of all matches; NULL when the query asks for none */
};
void search_result_release(struct search_result *);

/* The kNN clauses are resolved first, over all parts together: one entry per KNN node in tree order (depth
 * first). */
struct knn_result {
    struct search_hit *hits;
    uint32_t n;
};
uint32_t search_knn_count(const struct query *);
/* Whether KNN node number `which` searches clusters in the segment: then one part has to cover all of it,
 * because an approximate answer must not depend on how a segment is divided. */
bool search_knn_whole(const struct query *, uint32_t which, const struct segment *);
/* The k best of these parts for KNN node number `which`. */
int search_knn(const struct query *, uint32_t which, const struct search_stats *,
               const struct search_part *parts, size_t n_parts, const volatile int *cancel,
               struct knn_result *ret, struct err *);
/* Merges results of several part groups to the k best (score descending, then id). Takes and releases the
 * inputs. */
void search_knn_merge(const struct query *, uint32_t which, struct knn_result *inputs, size_t n,
                      struct knn_result *ret);
/* Whether the query is nothing but neighbours: then those of node 0 are its answer, taken from them without
 * a search. */
bool search_knn_alone(const struct query *);
void search_knn_take(struct knn_result *, uint32_t want, struct search_result *ret);
void search_knn_release(struct knn_result *);

/* The top `want` hits of the parts together, with ids and sort values; knn has search_knn_count entries.
 * cancel is polled at least every 10 ms of work: ERR_CANCELED (1 = interrupted) or ERR_TIMEOUT (2). */
int search_run(const struct query *, const struct search_stats *, const struct knn_result *knn,
               const struct search_part *parts, size_t n_parts, uint32_t want, const volatile int *cancel,
               struct search_result *ret, struct err *);
/* Merges results of part groups: the best `want`, totals and facets added. Takes and releases the inputs.
 * ERR_INVALID when a facet has too many values. */
int search_merge(const struct query *, struct search_result *inputs, size_t n, uint32_t want,
                 struct search_result *ret, struct err *err);
/* All live matching documents, unscored: calls visit for each (delete by filter). stats: NULL when the query
 * has no fuzzy words. */
int search_matches(const struct query *, const struct search_stats *stats, const struct search_part *part,
                   const volatile int *cancel, int (*visit)(void *ctx, uint32_t docno, struct err *),
                   void *ctx, struct err *);
