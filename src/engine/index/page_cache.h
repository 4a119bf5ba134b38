/* Pages of remote objects in memory, under one bound.
 *
 * An object's pages stand in an address range of their own (struct page_set), so that they lie as in a mapped
 * object; the cache decides which have memory. A page that is evicted is unpublished at once, but keeps its
 * memory until the last hold that began before has ended: pointers that a reader took inside a hold are good
 * until it ends it. A page that is taken outside of a hold is pinned: it stays until its object is closed.
 * Thread-safe. docs/COLD.md has the reasons. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"

enum { PAGE_BYTES = 64 * 1024 };

struct page_cache;
/* max_bytes 0: no bound. */
struct page_cache *page_cache_new(uint64_t max_bytes);
void page_cache_free(struct page_cache *); /* all page sets are released; NULL is fine */
/* The one of stores that have none: without a bound. */
struct page_cache *page_cache_default(void);
struct page_cache_stats {
    uint64_t max_bytes; /* 0 = no bound */
    uint64_t bytes;     /* published, the pinned included */
    uint64_t pinned_bytes;
    uint64_t waiting_bytes; /* evicted, still held */
    uint64_t evictions;
};
void page_cache_stats(struct page_cache *, struct page_cache_stats *ret);

/* A hold of the calling thread; may be nested. cache NULL: nothing to hold. Lives on the stack of the thread
 * that ends it. */
struct page_hold {
    struct page_hold *prev, *next;
    struct page_cache *cache; /* NULL: this one does nothing */
    uint64_t epoch;
};
void page_hold_begin(struct page_hold *, struct page_cache *);
void page_hold_end(struct page_hold *);

struct page_set {
    struct page_cache *cache;
    uint8_t *base; /* of the address range */
    uint64_t size, n_pages;
    _Atomic uint64_t *present, *pinned, *used; /* bitmaps */
    uint32_t *slots;                           /* of each page in the cache, from 1; guarded by its lock */
};
/* Reserves the range. */
int page_set_init(struct page_set *, struct page_cache *, uint64_t size, struct err *);
void page_set_release(struct page_set *); /* nobody reads it any more; a zeroed one is fine */
static inline bool page_bit(const _Atomic uint64_t *bits, uint64_t page) {
    return atomic_load_explicit(&bits[page >> 6], memory_order_acquire) >> (page & 63) & 1;
}
/* Is the page there, and will it stay for as long as the thread may expect (its hold, else the object's
 * life)? Takes no lock. */
bool page_set_has(struct page_set *, uint64_t page);
/* The same with all that can be done without reading: takes back an evicted page that still has its memory,
 * pins it when asked to, or outside of a hold. */
bool page_set_take(struct page_set *, uint64_t page, bool pinned);
/* Publishes a page (pinned, outside of a hold) with these bytes unless it is there; may evict others. */
void page_set_put(struct page_set *, uint64_t page, const uint8_t *bytes, uint32_t len);
