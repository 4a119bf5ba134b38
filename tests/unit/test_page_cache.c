/* The page cache: its bound, holds, pins, and many threads under a bound of a few pages. */
#include "index/page_cache.h"
#include "test.h"
#include "util/buf.h"

#include <pthread.h>

static struct err err;

static void fill(uint8_t *page, uint32_t set, uint64_t no) {
    for (uint32_t i = 0; i < PAGE_BYTES; i += 8) {
        uint64_t v = (no + 1) * 0x9e3779b97f4a7c15u + i + set * 77u;
        memcpy(page + i, &v, 8);
    }
}
static bool holds(const struct page_set *s, uint32_t set, uint64_t no) {
    uint8_t page[PAGE_BYTES];
    fill(page, set, no);
    return !memcmp(s->base + no * PAGE_BYTES, page, PAGE_BYTES);
}
static void put(struct page_set *s, uint32_t set, uint64_t no) {
    uint8_t page[PAGE_BYTES];
    fill(page, set, no);
    page_set_put(s, no, page, PAGE_BYTES);
}

TEST(bound) {
    struct page_cache *c = page_cache_new(5 * PAGE_BYTES);
    struct page_cache_stats n;
    struct page_hold h;
    struct page_set s;
    CHECK_OK(page_set_init(&s, c, 100 * PAGE_BYTES, &err));
    for (uint64_t i = 0; i < 100; i++) {
        page_hold_begin(&h, c);
        put(&s, 0, i);
        CHECK(page_set_has(&s, i) || page_set_take(&s, i, false));
        CHECK(holds(&s, 0, i));
        page_hold_end(&h);
        page_cache_stats(c, &n);
        CHECK(n.bytes <= 5 * PAGE_BYTES && !n.waiting_bytes && !n.pinned_bytes);
    }
    CHECK(n.bytes == 5 * PAGE_BYTES && n.evictions == 95);
    page_hold_begin(&h, c);
    unsigned present = 0;
    for (uint64_t i = 0; i < 100; i++) present += page_set_has(&s, i);
    CHECK(present == 5);
    page_hold_end(&h);
    page_set_release(&s);
    page_cache_stats(c, &n);
    CHECK(!n.bytes && !n.waiting_bytes);
    page_cache_free(c);
}

/* What a hold has seen stays until it ends, and comes back without being read. */
TEST(hold_keeps_evicted_pages) {
    struct page_cache *c = page_cache_new(2 * PAGE_BYTES);
    struct page_cache_stats n;
    struct page_hold h, inner;
    struct page_set s;
    CHECK_OK(page_set_init(&s, c, 50 * PAGE_BYTES, &err));
    page_hold_begin(&h, c);
    for (uint64_t i = 0; i < 50; i++) {
        page_hold_begin(&inner, c);
        put(&s, 1, i);
        page_hold_end(&inner);
    }
    page_cache_stats(c, &n);
    CHECK(n.bytes == 2 * PAGE_BYTES && n.waiting_bytes == 48 * PAGE_BYTES);
    for (uint64_t i = 0; i < 50; i++)
        CHECK(holds(&s, 1, i) && page_set_take(&s, i, false) && page_set_has(&s, i));
    page_hold_end(&h);
    page_cache_stats(c, &n);
    CHECK(n.bytes == 2 * PAGE_BYTES && !n.waiting_bytes);
    page_hold_begin(&h, c);
    unsigned present = 0;
    for (uint64_t i = 0; i < 50; i++) present += page_set_take(&s, i, false);
    CHECK(present == 2);
    page_hold_end(&h);
    page_set_release(&s);
    page_cache_free(c);
}

TEST(without_a_hold_pages_are_pinned) {
    struct page_cache *c = page_cache_new(3 * PAGE_BYTES), *other = page_cache_new(PAGE_BYTES);
    struct page_cache_stats n;
    struct page_hold h;
    struct page_set s;
    CHECK_OK(page_set_init(&s, c, 20 * PAGE_BYTES, &err));
    CHECK(!page_set_has(&s, 0) && !page_set_take(&s, 0, false));
    for (uint64_t i = 0; i < 6; i++) put(&s, 2, i);
    page_hold_begin(&h, other); /* a hold on another cache is none on this one */
    put(&s, 2, 6);
    page_hold_end(&h);
    page_hold_begin(&h, c);
    for (uint64_t i = 7; i < 20; i++) put(&s, 2, i);
    CHECK(page_set_take(&s, 19, true));
    page_hold_end(&h);
    page_cache_stats(c, &n);
    CHECK(n.pinned_bytes == 8 * PAGE_BYTES && n.bytes == 8 * PAGE_BYTES);
    for (uint64_t i = 0; i < 7; i++) CHECK(page_set_has(&s, i) && holds(&s, 2, i));
    CHECK(page_set_has(&s, 19) && !page_set_has(&s, 18));
    page_set_release(&s);
    page_cache_stats(c, &n);
    CHECK(!n.bytes && !n.pinned_bytes);
    page_cache_free(c);
    page_cache_free(other);
}

/* ---- threads ---- */

enum { SETS = 3, PAGES = 12, THREADS = 6 };
static struct page_cache *shared;
static struct page_set sets[SETS];

static void *read_and_evict(void *arg) {
    uint32_t state = (uint32_t)(uintptr_t)arg;
    for (int round = 0; round < 150; round++) {
        struct page_hold h;
        uint32_t seen[8];
        page_hold_begin(&h, shared);
        for (int i = 0; i < 8; i++) {
            state = state * 1664525 + 1013904223;
            uint32_t set = state >> 8 & 1023, page = state >> 20;
            seen[i] = set % SETS * PAGES + page % PAGES;
            set = seen[i] / PAGES;
            page = seen[i] % PAGES;
            if (!page_set_has(&sets[set], page) && !page_set_take(&sets[set], page, false))
                put(&sets[set], set, page);
        }
        for (int i = 0; i < 8; i++)
            if (!holds(&sets[seen[i] / PAGES], seen[i] / PAGES, seen[i] % PAGES)) return "wrong bytes";
        page_hold_end(&h);
    }
    return NULL;
}

TEST(threads) {
    pthread_t t[THREADS];
    struct page_cache_stats n;
    shared = page_cache_new(4 * PAGE_BYTES);
    for (int i = 0; i < SETS; i++) CHECK_OK(page_set_init(&sets[i], shared, PAGES * PAGE_BYTES, &err));
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, read_and_evict, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(t[i], &wrong);
        if (wrong) fprintf(stderr, "%s\n", (char *)wrong);
        CHECK(!wrong);
    }
    page_cache_stats(shared, &n);
    CHECK(n.bytes <= 4 * PAGE_BYTES && !n.waiting_bytes && n.evictions > 100);
    for (int i = 0; i < SETS; i++) page_set_release(&sets[i]);
    page_cache_free(shared);
}
