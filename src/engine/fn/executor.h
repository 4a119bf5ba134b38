/* Executor: scans the pieces of a view that a virtual shard stands for and gives its best candidates.
 * Stateless; a request is plain data and immutable objects (on Lambda: the root version and number that name
 * them). */
#pragma once
#include "fn/view.h"

enum exec_kind { EXEC_KNN, EXEC_SEARCH };
enum { EXEC_RANGE_DOCS = 65536 }; /* a piece: this many document numbers of one segment */

struct exec_request {
    enum exec_kind kind;
    const struct view *view;
    const struct query *query;
    const struct search_stats *stats;
    const struct knn_result *knn; /* SEARCH: by kNN node */
    uint32_t which;               /* KNN: node number */
    uint32_t shard, n_shards;     /* shard == n_shards: the tail (the Router's own part) */
    uint32_t want;
    bool last; /* round of the query: its segments are counted */
    const volatile int *stop;
};
struct exec_answer {
    struct knn_result knn;
    struct search_result search;
};
/* An invoke_fn. */
int executor_run(void *ctx, const void *request, void *answer, struct err *err);
