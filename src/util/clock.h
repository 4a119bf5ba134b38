/* The replaceable sources of time and randomness: a simulator drives the engine through these. Thread-safe.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct clock {
    int64_t (*now_ms)(struct clock *);  /* wall clock, Unix epoch, UTC */
    int64_t (*mono_us)(struct clock *); /* monotonic */
    void *ctx;
};
struct rng {
    void (*fill)(struct rng *, void *p, size_t len);
    void *ctx;
};
extern struct clock clock_system;
extern struct rng rng_system; /* getrandom */
static inline int64_t clock_now_ms(struct clock *c) {
    return c->now_ms(c);
}
static inline int64_t clock_mono_us(struct clock *c) {
    return c->mono_us(c);
}
static inline int64_t mono_ms(void) { /* of the system's clock */
    return clock_mono_us(&clock_system) / 1000;
}
/* 32 hex digits + NUL. */
void rng_uuid(struct rng *r, char out[33]);

/* Times as text. TIME_TEXT_SIZE covers both forms with NUL. */
enum { TIME_TEXT_SIZE = 32 };
void time_to_iso(int64_t ms, char out[TIME_TEXT_SIZE]);  /* 2026-11-22T06:00:00.123Z */
void time_to_name(int64_t ms, char out[TIME_TEXT_SIZE]); /* 2026-11-22T06-00-00.123Z, no colons */
/* RFC 3339 (and a bare date, a missing zone = UTC, '-' or ':' between time parts); 0 or -1. Fractions beyond
 * milliseconds are cut. */
int time_parse(const char *s, size_t len, int64_t *ret_ms);
