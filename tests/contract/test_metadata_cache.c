/* The metadata store's promises under the cache. */
#define STACKED metadata_cache
#include "test_metadata.c"
