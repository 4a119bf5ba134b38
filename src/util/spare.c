/* See spare.h. One job at a time is on offer; the one who needs it takes its pieces from the front, the one
 * who helps from the back. */
#include "util/spare.h"
#include "util/buf.h"
#include "util/clock.h"

enum { PATIENCE_US = 30 /* for a piece that the other one has begun: longer than most take */ };

static struct spare_job *offered, *left_over; /* atomic, as the next one */
static unsigned helpers;

bool spare_is_there(void) {
    return __atomic_load_n(&helpers, __ATOMIC_RELAXED) > 0;
}

void spare_begin_helping(void) {
    __atomic_add_fetch(&helpers, 1, __ATOMIC_RELAXED);
}

void spare_end_helping(void) {
    __atomic_sub_fetch(&helpers, 1, __ATOMIC_RELAXED);
}

void spare_end(struct spare_job *j) {
    if (!__atomic_sub_fetch(&j->refs, 1, __ATOMIC_ACQ_REL)) j->free(j);
}

void spare_tidy(void) {
    if (!__atomic_load_n(&left_over, __ATOMIC_RELAXED)) return;
    for (struct spare_job *j = __atomic_exchange_n(&left_over, NULL, __ATOMIC_ACQUIRE), *next; j; j = next) {
        next = j->next;
        j->free(j);
    }
}

/* Nobody pops a single one, so what is on top is what it was. */
static void leave(struct spare_job *j) {
    j->next = __atomic_load_n(&left_over, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&left_over, &j->next, j, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
    }
}

static bool try_piece(struct spare_job *j, uint32_t i) {
    uint64_t bit = 1ull << i;
    if (__atomic_fetch_or(&j->taken, bit, __ATOMIC_RELAXED) & bit) return false;
    j->piece(j, i);
    __atomic_fetch_or(&j->done, bit, __ATOMIC_RELEASE);
    return true;
}

uint32_t spare_help(void) {
    uint32_t n = 0;
    if (!__atomic_load_n(&offered, __ATOMIC_RELAXED)) return 0;
    struct spare_job *j = __atomic_exchange_n(&offered, NULL, __ATOMIC_ACQUIRE);
    if (!j) return 0;
    for (uint32_t i = j->n; i-- > 0;) n += try_piece(j, i);
    if (!__atomic_sub_fetch(&j->refs, 1, __ATOMIC_ACQ_REL)) leave(j);
    return n;
}

static bool offer(struct spare_job *j) {
    struct spare_job *none = NULL;
    if (!spare_is_there()) return false;
    __atomic_store_n(&j->refs, 2, __ATOMIC_RELAXED);
    if (__atomic_compare_exchange_n(&offered, &none, j, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        return true;
    __atomic_store_n(&j->refs, 1, __ATOMIC_RELAXED);
    return false;
}

/* Nobody has taken it: it is ours alone again. */
static bool withdraw(struct spare_job *j) {
    struct spare_job *ours = j;
    if (!__atomic_compare_exchange_n(&offered, &ours, NULL, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return false;
    __atomic_sub_fetch(&j->refs, 1, __ATOMIC_RELAXED);
    return true;
}

uint64_t spare_run(struct spare_job *j) {
    uint64_t all = j->n == SPARE_PIECES_MAX ? ~0ull : (1ull << j->n) - 1;
    __atomic_store_n(&j->refs, 1, __ATOMIC_RELAXED);
    spare_tidy();
    bool shared = offer(j);
    for (uint32_t i = 0; i < j->n; i++) try_piece(j, i);
    if (!shared || withdraw(j)) return all;
    int64_t until_us = clock_mono_us(&clock_system) + PATIENCE_US;
    while (__atomic_load_n(&j->done, __ATOMIC_ACQUIRE) != all)
        if (clock_mono_us(&clock_system) >= until_us) break;
    return __atomic_load_n(&j->done, __ATOMIC_ACQUIRE);
}
