/* The page cache: CLOCK eviction, and reclamation by epochs. See page_cache.h.
 *
 * A page is ABSENT (no slot), PRESENT (published) or WAITING (unpublished, memory intact). Evicting moves
 * PRESENT to WAITING with a new epoch; a need moves WAITING back to PRESENT; when no hold is older than the
 * epoch, WAITING becomes ABSENT and its memory is given back. Bytes are written in the step from ABSENT only,
 * when no reader can know the page. */
#include "index/page_cache.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "util/buf.h"

enum slot_state { SLOT_FREE, SLOT_PRESENT, SLOT_WAITING };
struct slot {
    struct page_set *set;
    uint64_t epoch; /* WAITING: when it was evicted */
    uint32_t page, len;
    enum slot_state state;
    bool pinned;
};
struct waiting {
    uint64_t epoch; /* of the slot when it was queued: another one by now means that it was taken back */
    uint32_t slot;
};

struct page_cache {
    pthread_mutex_t lock; /* guards all of it */
    uint64_t max_bytes, bytes, pinned_bytes, waiting_bytes, evictions;
    uint64_t epoch;
    struct slot *slots;
    size_t n_slots, cap_slots, hand;
    uint32_t *free_slots;
    size_t n_free, cap_free;
    struct waiting *queue; /* ascending by epoch; [queue_head, n_queue) */
    size_t queue_head, n_queue, cap_queue;
    struct page_hold *oldest, *newest; /* holds in the order they began */
};

/* The cache that the thread holds, and how deep. */
static _Thread_local struct page_cache *held;
static _Thread_local unsigned held_depth;

struct page_cache *page_cache_new(uint64_t max_bytes) {
    struct page_cache *c = xcalloc(1, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->max_bytes = max_bytes;
    return c;
}

void page_cache_free(struct page_cache *c) {
    if (!c) return;
    pthread_mutex_destroy(&c->lock);
    free(c->slots);
    free(c->free_slots);
    free(c->queue);
    free(c);
}

struct page_cache *page_cache_default(void) {
    static struct page_cache cache = {.lock = PTHREAD_MUTEX_INITIALIZER};
    return &cache;
}

void page_cache_stats(struct page_cache *c, struct page_cache_stats *ret) {
    pthread_mutex_lock(&c->lock);
    *ret = (struct page_cache_stats){c->max_bytes, c->bytes, c->pinned_bytes, c->waiting_bytes, c->evictions};
    pthread_mutex_unlock(&c->lock);
}

static void bit_set(_Atomic uint64_t *bits, uint64_t page) {
    atomic_fetch_or_explicit(&bits[page >> 6], (uint64_t)1 << (page & 63), memory_order_release);
}

static void bit_clear(_Atomic uint64_t *bits, uint64_t page) {
    atomic_fetch_and_explicit(&bits[page >> 6], ~((uint64_t)1 << (page & 63)), memory_order_release);
}

/* ---- slots; all of it under the lock ---- */

static uint32_t slot_new(struct page_cache *c) {
    if (c->n_free) return c->free_slots[--c->n_free];
    VEC_GROW(c->slots, c->n_slots, c->cap_slots);
    return (uint32_t)c->n_slots++;
}

static void slot_free(struct page_cache *c, uint32_t i) {
    struct slot *s = &c->slots[i];
    s->set->slots[s->page] = 0;
    *s = (struct slot){0};
    VEC_GROW(c->free_slots, c->n_free, c->cap_free);
    c->free_slots[c->n_free++] = i;
}

static void enqueue(struct page_cache *c, uint32_t slot, uint64_t epoch) {
    if (c->queue_head > 64 && c->queue_head > c->n_queue / 2) {
        memmove(c->queue, c->queue + c->queue_head, (c->n_queue - c->queue_head) * sizeof *c->queue);
        c->n_queue -= c->queue_head;
        c->queue_head = 0;
    }
    VEC_GROW(c->queue, c->n_queue, c->cap_queue);
    c->queue[c->n_queue++] = (struct waiting){epoch, slot};
}

/* Gives back the memory of what nobody can hold any more. */
static void reclaim(struct page_cache *c) {
    while (c->queue_head < c->n_queue) {
        struct waiting w = c->queue[c->queue_head];
        struct slot *s = &c->slots[w.slot];
        if (c->oldest && c->oldest->epoch < w.epoch) return;
        c->queue_head++;
        if (s->state != SLOT_WAITING || s->epoch != w.epoch) continue;
        madvise(s->set->base + (uint64_t)s->page * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED);
        c->waiting_bytes -= s->len;
        slot_free(c, w.slot);
    }
    c->queue_head = c->n_queue = 0;
}

static void evict(struct page_cache *c, uint32_t i) {
    struct slot *s = &c->slots[i];
    bit_clear(s->set->present, s->page);
    s->state = SLOT_WAITING;
    s->epoch = ++c->epoch;
    c->bytes -= s->len;
    c->waiting_bytes += s->len;
    c->evictions++;
    enqueue(c, i, s->epoch);
}

/* Down to the bound, as far as there is something that may go. */
static void shrink(struct page_cache *c) {
    size_t left = 2 * c->n_slots; /* the first round clears the marks */
    if (!c->max_bytes) return;
    for (; left && c->bytes > c->max_bytes && c->bytes > c->pinned_bytes; left--) {
        c->hand = c->hand + 1 < c->n_slots ? c->hand + 1 : 0;
        struct slot *s = &c->slots[c->hand];
        if (s->state != SLOT_PRESENT || s->pinned) continue;
        if (page_bit(s->set->used, s->page))
            bit_clear(s->set->used, s->page);
        else
            evict(c, (uint32_t)c->hand);
    }
    reclaim(c);
}

static void pin(struct page_cache *c, struct slot *s) {
    if (s->pinned) return;
    s->pinned = true;
    c->pinned_bytes += s->len;
    bit_set(s->set->pinned, s->page);
}

/* ---- holds ---- */

void page_hold_begin(struct page_hold *h, struct page_cache *c) {
    *h = (struct page_hold){0};
    if (!c || (held && held != c)) return; /* one at a time: what is read of another cache is pinned */
    h->cache = held = c;
    if (held_depth++) return;
    pthread_mutex_lock(&c->lock);
    h->epoch = c->epoch;
    h->prev = c->newest;
    if (c->newest)
        c->newest->next = h;
    else
        c->oldest = h;
    c->newest = h;
    pthread_mutex_unlock(&c->lock);
}

void page_hold_end(struct page_hold *h) {
    struct page_cache *c = h->cache;
    if (!c || --held_depth) return;
    held = NULL;
    pthread_mutex_lock(&c->lock);
    if (h->prev)
        h->prev->next = h->next;
    else
        c->oldest = h->next;
    if (h->next)
        h->next->prev = h->prev;
    else
        c->newest = h->prev;
    reclaim(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---- sets ---- */

int page_set_init(struct page_set *s, struct page_cache *c, uint64_t size, struct err *err) {
    uint64_t n = (size + PAGE_BYTES - 1) / PAGE_BYTES;
    size = n * PAGE_BYTES; /* what is given back must not be a neighbour's */
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return err_sys(err, errno, "could not reserve %llu bytes", (unsigned long long)size);
    size_t words = (size_t)(n + 63) / 64;
    *s = (struct page_set){.cache = c, .base = p, .size = size, .n_pages = n};
    s->present = xcalloc(words, sizeof *s->present);
    s->pinned = xcalloc(words, sizeof *s->pinned);
    s->used = xcalloc(words, sizeof *s->used);
    s->slots = xcalloc((size_t)n, sizeof *s->slots);
    return 0;
}

void page_set_release(struct page_set *s) {
    struct page_cache *c = s->cache;
    if (!s->base) return;
    pthread_mutex_lock(&c->lock);
    for (uint64_t page = 0; page < s->n_pages; page++) {
        if (!s->slots[page]) continue;
        const struct slot *slot = &c->slots[s->slots[page] - 1];
        if (slot->state == SLOT_WAITING)
            c->waiting_bytes -= slot->len;
        else
            c->bytes -= slot->len;
        if (slot->pinned) c->pinned_bytes -= slot->len;
        slot_free(c, s->slots[page] - 1);
    }
    pthread_mutex_unlock(&c->lock);
    munmap(s->base, s->size);
    free((void *)s->present);
    free((void *)s->pinned);
    free((void *)s->used);
    free(s->slots);
    *s = (struct page_set){0};
}

bool page_set_has(struct page_set *s, uint64_t page) {
    if (held != s->cache) return page_bit(s->pinned, page);
    if (!page_bit(s->present, page)) return false;
    if (!page_bit(s->used, page)) bit_set(s->used, page);
    return true;
}

/* Under the lock. False: the page has no memory. */
static bool take(struct page_set *s, uint64_t page, bool pinned) {
    struct page_cache *c = s->cache;
    struct slot *slot = s->slots[page] ? &c->slots[s->slots[page] - 1] : NULL;
    if (!slot) return false;
    if (slot->state == SLOT_WAITING) {
        slot->state = SLOT_PRESENT;
        c->waiting_bytes -= slot->len;
        c->bytes += slot->len;
        bit_set(s->present, page);
    }
    if (pinned || held != c) pin(c, slot);
    bit_set(s->used, page);
    shrink(c);
    return true;
}

bool page_set_take(struct page_set *s, uint64_t page, bool pinned) {
    pthread_mutex_lock(&s->cache->lock);
    bool there = take(s, page, pinned);
    pthread_mutex_unlock(&s->cache->lock);
    return there;
}

void page_set_put(struct page_set *s, uint64_t page, const uint8_t *bytes, uint32_t len) {
    struct page_cache *c = s->cache;
    pthread_mutex_lock(&c->lock);
    if (!s->slots[page]) { /* else another thread was faster */
        uint32_t i = slot_new(c);
        memcpy(s->base + page * PAGE_BYTES, bytes, len);
        c->slots[i] = (struct slot){.set = s, .page = (uint32_t)page, .len = len, .state = SLOT_PRESENT};
        s->slots[page] = i + 1;
        c->bytes += len;
        bit_set(s->present, page);
    }
    take(s, page, false);
    pthread_mutex_unlock(&c->lock);
}
