/* Times as text, both ways, and the sources of time and randomness. */
#include "test.h"
#include "util/buf.h"
#include "util/clock.h"

#include <time.h>

static int64_t parsed(const char *s) {
    int64_t ms = -999;
    return time_parse(s, strlen(s), &ms) ? INT64_MIN : ms;
}

TEST(known_times) {
    CHECK(parsed("1970-01-01") == 0 && parsed("1970-01-01T00:00:00Z") == 0 &&
          parsed("1969-12-31T23:59:59.999Z") == -1);
    CHECK(parsed("2026-11-22T06:00:00.123Z") == 1795327200123);
    CHECK(parsed("2026-11-22T06-00-00.123Z") == 1795327200123);
    CHECK(parsed("2026-11-22t06:00:00.1234567z") == 1795327200123);
    CHECK(parsed("2026-11-22 06:00:00.123") == 1795327200123);
    CHECK(parsed("2026-11-22T15:00:00.123+09:00") == 1795327200123);
    CHECK(parsed("2026-11-22T01:00:00.123-0500") == 1795327200123);
    CHECK(parsed("2026-11-22T05:00:00.123-01") == 1795327200123);
    CHECK(parsed("2026-11-22T06:00:00.1") == 1795327200100);
    CHECK(parsed("2026-11-22T06:00") == 1795327200000 && parsed("2026-11-22T06-00") == 1795327200000);
    CHECK(parsed("2026-11-22T06:00-05:00") == 1795327200000 + 5 * 3600000);
    CHECK(parsed("2016-12-31T23:59:60Z") == parsed("2017-01-01T00:00:00Z"));
    CHECK(parsed("2000-02-29") == 951782400000 && parsed("2024-02-29") > 0 && parsed("0000-01-01") < 0);
}

TEST(bad_times) {
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-11",
                                      "2026-1-1",
                                      "2026-13-01",
                                      "2026-00-01",
                                      "2026-01-00",
                                      "2026-02-29",
                                      "1900-02-29",
                                      "2026-04-31",
                                      "2026-11-22T",
                                      "2026-11-22T06",
                                      "2026-11-22T24:00:00Z",
                                      "2026-11-22T06:60:00Z",
                                      "2026-11-22T06:00:61Z",
                                      "2026-11-22T06:00:00.Z",
                                      "2026-11-22T06:00:00+",
                                      "2026-11-22T06:00:00+9",
                                      "2026-11-22T06:00:00+24:00",
                                      "2026-11-22T06:00:00+09:",
                                      "2026-11-22T06:00:00+09:0",
                                      "2026-11-22T06:00:00+09:60",
                                      "2026-11-22T06:00:00Zx",
                                      "2026-11-22x",
                                      "2026-11-22T06:00-00Z",
                                      "2026-11-22T06-00:00Z",
                                      " 2026-11-22",
                                      "+2026-11-22",
                                      "2026-11-22T06:00:00,5Z",
                                      "20261122"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (parsed(bad[i]) != INT64_MIN) fprintf(stderr, "accepted: %s\n", bad[i]);
        CHECK(parsed(bad[i]) == INT64_MIN);
    }
    int64_t ms;
    CHECK(!time_parse("2026-11-22Tgarbage", 10, &ms) && ms == 1795305600000);
    CHECK(time_parse("2026-11-22\0", 11, &ms));
}

TEST(round_trip_and_libc) {
    uint64_t state = 42;
    for (int i = 0; i < 50000; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        int64_t ms = (int64_t)(state >> 16) % 253402300800000 * (i & 1 ? 1 : -1);
        if (ms < -62167219200000) continue; /* before the year 0 */
        char iso[TIME_TEXT_SIZE], name[TIME_TEXT_SIZE], want[80];
        time_to_iso(ms, iso);
        time_to_name(ms, name);
        CHECK(parsed(iso) == ms && parsed(name) == ms && !strchr(name, ':'));
        time_t t = (time_t)((ms - ((ms % 1000) + 1000) % 1000) / 1000);
        struct tm tm;
        gmtime_r(&t, &tm);
        snprintf(want, sizeof want, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(((ms % 1000) + 1000) % 1000));
        CHECK(!strcmp(iso, want));
    }
}

TEST(extremes) {
    char s[TIME_TEXT_SIZE];
    time_to_iso(INT64_MAX, s);
    CHECK(!strcmp(s, "292278994-08-17T07:12:55.807Z"));
    time_to_iso(INT64_MIN, s);
    CHECK(!strcmp(s, "-292275055-05-16T16:47:04.192Z"));
    time_to_name(0, s);
    CHECK(!strcmp(s, "1970-01-01T00-00-00.000Z"));
}

TEST(sources) {
    int64_t a = clock_mono_us(&clock_system), wall = clock_now_ms(&clock_system);
    CHECK(clock_mono_us(&clock_system) >= a && wall > 1700000000000 &&
          llabs(wall / 1000 - (int64_t)time(NULL)) <= 2);
    char x[33], y[33];
    rng_uuid(&rng_system, x);
    rng_uuid(&rng_system, y);
    CHECK(strlen(x) == 32 && strspn(x, "0123456789abcdef") == 32 && strcmp(x, y));
}
