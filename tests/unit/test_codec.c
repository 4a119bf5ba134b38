/* Encodings: varints, the bounds-checked reader, CRC-32C, the hash, hex. */
#include "test.h"
#include "util/codec.h"

TEST(fixed_and_varint_round_trip) {
    struct buf b = BUF_INIT;
    uint64_t values[200];
    size_t n = 0;
    for (unsigned bit = 0; bit < 64; bit++) {
        values[n++] = 1ull << bit;
        values[n++] = (1ull << bit) - 1;
        values[n++] = ~(1ull << bit);
    }
    for (size_t i = 0; i < n; i++) {
        size_t before = b.len;
        buf_add_varint(&b, values[i]);
        CHECK(b.len - before == (values[i] ? (size_t)(64 - __builtin_clzll(values[i]) + 6) / 7 : 1));
        buf_add_u16(&b, (uint16_t)values[i]);
        buf_add_u32(&b, (uint32_t)values[i]);
        buf_add_u64(&b, values[i]);
        buf_add_bytes(&b, &values[i], i % 9);
    }
    struct cursor c = cursor_of(b.data, b.len);
    for (size_t i = 0; i < n; i++) {
        CHECK(cursor_varint(&c) == values[i] && cursor_u16(&c) == (uint16_t)values[i]);
        CHECK(cursor_u32(&c) == (uint32_t)values[i] && cursor_u64(&c) == values[i]);
        size_t len;
        const uint8_t *p = cursor_bytes(&c, &len);
        CHECK(p && len == i % 9 && !memcmp(p, &values[i], len));
    }
    CHECK(!c.bad && c.p == c.end);
    cursor_u8(&c);
    CHECK(c.bad && cursor_u64(&c) == 0 && cursor_varint(&c) == 0);
    buf_release(&b);
}

/* Every prefix of an encoding is refused, and a bad reader stays bad. */
TEST(truncation) {
    struct buf b = BUF_INIT;
    buf_add_u64(&b, 1);
    buf_add_varint(&b, UINT64_MAX);
    buf_add_bytes(&b, "hello", 5);
    for (size_t len = 0; len <= b.len; len++) {
        uint8_t *copy = malloc(len ? len : 1);
        memcpy(copy, b.data, len);
        struct cursor c = cursor_of(copy, len);
        size_t n;
        cursor_u64(&c);
        cursor_varint(&c);
        cursor_bytes(&c, &n);
        CHECK(c.bad == (len < b.len));
        CHECK(c.bad ? n == 0 && !cursor_take(&c, 0) && !cursor_take(&c, 1) : n == 5);
        free(copy);
    }
    buf_release(&b);
}

TEST(hostile_lengths) {
    uint8_t huge[16];
    memset(huge, 0xff, sizeof huge);
    size_t n = 9;
    struct cursor c = cursor_of(huge, sizeof huge);
    CHECK(cursor_varint(&c) == 0 && c.bad); /* a varint of more than ten bytes */
    huge[9] = 1;
    c = cursor_of(huge, sizeof huge);
    CHECK(!cursor_bytes(&c, &n) && n == 0 && c.bad); /* a length of 2^64-1 */
    c = cursor_of(huge, sizeof huge);
    CHECK(!cursor_take(&c, SIZE_MAX) && c.bad);
}

TEST(crc32c_vectors) { /* RFC 3720, B.4 */
    uint8_t p[32];
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283u && crc32c(0, "", 0) == 0);
    memset(p, 0, sizeof p);
    CHECK(crc32c(0, p, 32) == 0x8a9136aau);
    memset(p, 0xff, sizeof p);
    CHECK(crc32c(0, p, 32) == 0x62a8ab43u);
    for (int i = 0; i < 32; i++) p[i] = (uint8_t)i;
    CHECK(crc32c(0, p, 32) == 0x46dd794eu);
    for (int i = 0; i < 32; i++) p[i] = (uint8_t)(31 - i);
    CHECK(crc32c(0, p, 32) == 0x113fdb5cu);
}

static uint32_t crc_by_bit(const uint8_t *p, size_t len) {
    uint32_t c = ~0u;
    for (size_t i = 0; i < len; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    }
    return ~c;
}

TEST(crc32c_pieces) {
    uint8_t p[300];
    for (size_t i = 0; i < sizeof p; i++) p[i] = (uint8_t)(i * 37 + (i >> 3));
    for (size_t len = 0; len < sizeof p; len++) {
        uint32_t whole = crc32c(0, p, len);
        CHECK(whole == crc_by_bit(p, len));
        size_t cut = len * 7 / 11;
        CHECK(crc32c(crc32c(0, p, cut), p + cut, len - cut) == whole);
    }
}

TEST(hash_spreads) {
    enum { N = 20000, BUCKETS = 1 << 12 };
    static unsigned count[BUCKETS];
    memset(count, 0, sizeof count);
    char s[32];
    for (int i = 0; i < N; i++) {
        int len = snprintf(s, sizeof s, "key-%d", i);
        count[hash64(s, (size_t)len, 0) % BUCKETS]++;
        CHECK(hash64(s, (size_t)len, 0) != hash64(s, (size_t)len, 1) &&
              hash64(s, (size_t)len, 0) != hash64(s, (size_t)len - 1, 0));
    }
    for (int i = 0; i < BUCKETS; i++) CHECK(count[i] < 24); /* mean 4.9 */
    uint8_t zeros[64] = {0};
    for (size_t a = 0; a < 64; a++)
        for (size_t b = 0; b < a; b++) CHECK(hash64(zeros, a, 7) != hash64(zeros, b, 7));
}

/* The values are part of the format (assignment of shards, dictionaries): they never change. */
TEST(hash_is_stable) {
    CHECK(hash64("ldbfs", 5, 0) == 0x9acd99936fc0c8f1ull);
    char shifted[32];
    for (size_t at = 0; at < 8; at++) {
        memcpy(shifted + at, "a text of 23 characters", 23);
        CHECK(hash64(shifted + at, 23, 3) == 0xc03f510cc82a13d8ull);
    }
}

TEST(hex) {
    char out[9];
    hex_encode((const uint8_t *)"\x00\xff\x1a\xb2", 4, out);
    CHECK(!strcmp(out, "00ff1ab2"));
    hex_encode((const uint8_t *)"", 0, out);
    CHECK(!*out);
}
