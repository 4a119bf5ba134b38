/* Time and randomness of the machine, and times as text. */
#include "util/clock.h"
#include "util/codec.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

static int64_t system_now_ms(struct clock *c) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t system_mono_us(struct clock *c) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void system_fill(struct rng *r, void *p, size_t len) {
    uint8_t *to = p;
    while (len) {
        ssize_t n = getrandom(to, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) abort(); /* without randomness ids would collide: never go on */
        to += n;
        len -= (size_t)n;
    }
}

struct clock clock_system = {.now_ms = system_now_ms, .mono_us = system_mono_us};
struct rng rng_system = {.fill = system_fill};

void rng_uuid(struct rng *r, char out[33]) {
    uint8_t id[16];
    r->fill(r, id, sizeof id);
    hex_encode(id, sizeof id, out);
}

/* ---- days and dates (proleptic Gregorian; H. Hinnant, "chrono-compatible low-level date algorithms") ----
 */

static int64_t days_of_date(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned yoe = (unsigned)(year - era * 400);
    unsigned doy = (153 * (month + (month > 2 ? -3u : 9u)) + 2) / 5 + day - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + (int64_t)doe - 719468;
}

static void date_of_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned doe = (unsigned)(days - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    *ret_day = doy - (153 * mp + 2) / 5 + 1;
    *ret_month = mp < 10 ? mp + 3 : mp - 9;
    *ret_year = (int64_t)yoe + era * 400 + (*ret_month <= 2);
}

static void to_text(int64_t ms, char sep, char out[TIME_TEXT_SIZE]) {
    enum { DAY_MS = 86400000 };
    int64_t days = ms / DAY_MS, rest = ms % DAY_MS, year;
    if (rest < 0) {
        rest += DAY_MS;
        days--;
    }
    unsigned month, day, t = (unsigned)rest;
    date_of_days(days, &year, &month, &day);
    snprintf(out, TIME_TEXT_SIZE, "%04lld-%02u-%02uT%02u%c%02u%c%02u.%03uZ", (long long)year, month % 100,
             day % 100, t / 3600000, sep, t / 60000 % 60, sep, t / 1000 % 60, t % 1000);
}

void time_to_iso(int64_t ms, char out[TIME_TEXT_SIZE]) {
    to_text(ms, ':', out);
}
void time_to_name(int64_t ms, char out[TIME_TEXT_SIZE]) {
    to_text(ms, '-', out);
}

struct scan {
    const char *p, *end;
};

/* Exactly n digits, at most max. */
static int take_number(struct scan *s, unsigned n, unsigned max, unsigned *ret) {
    if ((size_t)(s->end - s->p) < n) return -1;
    unsigned v = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned d = (unsigned)(uint8_t)s->p[i] - '0';
        if (d > 9) return -1;
        v = v * 10 + d;
    }
    if (v > max) return -1;
    s->p += n;
    *ret = v;
    return 0;
}

static bool take_char(struct scan *s, char c) {
    if (s->p >= s->end || *s->p != c) return false;
    s->p++;
    return true;
}

static int parse_date(struct scan *s, int64_t *ret_days) {
    static const uint8_t length[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year, month, day;
    if (take_number(s, 4, 9999, &year) || !take_char(s, '-') || take_number(s, 2, 12, &month) ||
        !take_char(s, '-') || take_number(s, 2, 31, &day))
        return -1;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (!month || !day || day > length[month] || (month == 2 && day == 29 && !leap)) return -1;
    *ret_days = days_of_date(year, month, day);
    return 0;
}

/* hh:mm[:ss[.fraction]], all separators the same; a second of 60 is the first of the next minute. */
static int parse_clock(struct scan *s, int64_t *ret_ms) {
    unsigned hour, minute, second = 0, fraction = 0;
    if (take_number(s, 2, 23, &hour) || s->p >= s->end) return -1;
    char sep = *s->p;
    if ((sep != ':' && sep != '-') || !take_char(s, sep) || take_number(s, 2, 59, &minute)) return -1;
    if (take_char(s, sep)) {
        if (take_number(s, 2, 60, &second)) return -1;
        if (take_char(s, '.')) {
            const char *from = s->p;
            for (unsigned unit = 100; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++, unit /= 10)
                fraction += (unsigned)(*s->p - '0') * unit;
            if (s->p == from) return -1;
        }
    }
    *ret_ms = ((int64_t)hour * 60 + minute) * 60000 + (int64_t)second * 1000 + fraction;
    return 0;
}

static int parse_zone(struct scan *s, int64_t *ret_ms) {
    *ret_ms = 0;
    if (s->p == s->end || take_char(s, 'Z') || take_char(s, 'z')) return 0;
    bool west = *s->p == '-';
    unsigned hour, minute = 0;
    if (!take_char(s, '+') && !take_char(s, '-')) return -1;
    if (take_number(s, 2, 23, &hour)) return -1;
    bool colon = take_char(s, ':');
    if ((colon || s->p < s->end) && take_number(s, 2, 59, &minute)) return -1;
    int64_t ms = ((int64_t)hour * 60 + minute) * 60000;
    *ret_ms = west ? -ms : ms;
    return 0;
}

int time_parse(const char *text, size_t len, int64_t *ret_ms) {
    struct scan s = {text, text + len};
    int64_t days, clock_ms = 0, zone_ms = 0;
    if (parse_date(&s, &days)) return -1;
    if (s.p < s.end) {
        if (!take_char(&s, 'T') && !take_char(&s, 't') && !take_char(&s, ' ')) return -1;
        if (parse_clock(&s, &clock_ms) || parse_zone(&s, &zone_ms) || s.p != s.end) return -1;
    }
    *ret_ms = days * 86400000 + clock_ms - zone_ms;
    return 0;
}
