/* Router: validates a query, sums the statistics, fans out to the Executors, merges, fetches the documents.
 */
#pragma once
#include "fn/view.h"
#include "query/answer.h"

int router_query(struct core *, const struct view *, const char *collection, const struct query_request *,
                 const volatile int *cancel, struct answer **ret, struct err *err);
