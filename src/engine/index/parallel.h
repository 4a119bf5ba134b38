/* One computation over several threads: the items of a range, each exactly once, in any order. What is
 * computed must depend on the item alone, so that the number of threads cannot show in a result. */
#pragma once
#include <stddef.h>

typedef void parallel_work(void *ctx, size_t item);
/* Runs work(ctx, 0 .. n_items - 1); the caller's thread takes part. Without new threads it runs all the same.
 */
void parallel_for(size_t n_items, parallel_work *, void *ctx);
/* How many threads a call may use, the caller's included; 0: as many as there are processors (at most 16). */
void parallel_set_threads(unsigned n);
