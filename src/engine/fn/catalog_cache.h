/* What the catalog was last asked for, so that an unchanged metadata store is not asked again: every answer
 * is kept with the stamp (backend/metadata.h) taken before it was read, and good while the store still has
 * it. Holds for what other processes do as well. Bounded: one table of fixed size, newer answers replace
 * older ones. Thread-safe. */
#pragma once
#include "fn/catalog.h"

enum catalog_key { CATALOG_BY_CID, CATALOG_BY_NAME };

struct catalog_cache;
struct catalog_cache *catalog_cache_new(void);
void catalog_cache_free(struct catalog_cache *); /* NULL is fine */
/* True: the answer is known. *ret_found false: there is no such record. */
bool catalog_cache_get(struct catalog_cache *, enum catalog_key, const char *key,
                       const struct meta_stamp *now, struct catalog_record *ret, bool *ret_found);
/* rec NULL: there is none. before: taken before it was read. */
void catalog_cache_put(struct catalog_cache *, enum catalog_key, const char *key,
                       const struct meta_stamp *before, const struct catalog_record *rec);
