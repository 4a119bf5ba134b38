/* Varints, cursors, CRC-32C, hashing. */
#include "util/codec.h"
#include "util/simd.h"

#include <pthread.h>

void buf_add_u16(struct buf *b, uint16_t v) {
    put_u16(buf_grow(b, 2), v);
}
void buf_add_u32(struct buf *b, uint32_t v) {
    put_u32(buf_grow(b, 4), v);
}
void buf_add_u64(struct buf *b, uint64_t v) {
    put_u64(buf_grow(b, 8), v);
}

void buf_add_varint(struct buf *b, uint64_t v) {
    buf_reserve(b, 10);
    uint8_t *p = b->data + b->len;
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    b->len = (size_t)(p - b->data);
}

void buf_add_bytes(struct buf *b, const void *p, size_t len) {
    buf_add_varint(b, len);
    buf_add(b, p, len);
}

uint8_t cursor_u8(struct cursor *c) {
    const uint8_t *p = cursor_take(c, 1);
    return p ? *p : 0;
}
uint16_t cursor_u16(struct cursor *c) {
    const uint8_t *p = cursor_take(c, 2);
    return p ? get_u16(p) : 0;
}
uint32_t cursor_u32(struct cursor *c) {
    const uint8_t *p = cursor_take(c, 4);
    return p ? get_u32(p) : 0;
}
uint64_t cursor_u64(struct cursor *c) {
    const uint8_t *p = cursor_take(c, 8);
    return p ? get_u64(p) : 0;
}

uint64_t cursor_varint_long(struct cursor *c) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (c->bad || c->p >= c->end) break;
        uint8_t byte = *c->p++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return v;
    }
    c->bad = true;
    return 0;
}

static uint32_t crc_table[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_init(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            crc_table[t][i] = (crc_table[t - 1][i] >> 8) ^ crc_table[0][crc_table[t - 1][i] & 0xff];
}

static uint32_t crc_soft(uint32_t crc, const uint8_t *p, size_t len) {
    pthread_once(&crc_once, crc_init);
    for (; len >= 8; p += 8, len -= 8) {
        uint32_t lo = get_u32(p) ^ crc, hi = get_u32(p + 4);
        crc = crc_table[7][lo & 0xff] ^ crc_table[6][lo >> 8 & 0xff] ^ crc_table[5][lo >> 16 & 0xff] ^
              crc_table[4][lo >> 24] ^ crc_table[3][hi & 0xff] ^ crc_table[2][hi >> 8 & 0xff] ^
              crc_table[1][hi >> 16 & 0xff] ^ crc_table[0][hi >> 24];
    }
    while (len--) crc = (crc >> 8) ^ crc_table[0][(crc ^ *p++) & 0xff];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_hard(uint32_t crc, const uint8_t *p, size_t len) {
    uint64_t c = crc;
    for (; len >= 8; p += 8, len -= 8) c = __builtin_ia32_crc32di(c, get_u64(p));
    crc = (uint32_t)c;
    while (len--) crc = __builtin_ia32_crc32qi(crc, *p++);
    return crc;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len) {
#if defined(__x86_64__)
    if (simd_level() >= SIMD_SSE42) return ~crc_hard(~crc, data, len);
#endif
    return ~crc_soft(~crc, data, len);
}

static uint64_t mix(uint64_t a, uint64_t b) {
    __uint128_t r = (__uint128_t)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

uint64_t hash64(const void *data, size_t len, uint64_t seed) {
    const uint8_t *p = data;
    uint64_t h = seed ^ 0xa0761d6478bd642full;
    size_t n = len;
    for (; n >= 16; p += 16, n -= 16) h = mix(get_u64(p) ^ 0xe7037ed1a0b428dbull, get_u64(p + 8) ^ h);
    uint64_t a = 0, b = 0;
    if (n > 8) memcpy(&b, p + 8, n - 8);
    if (n) memcpy(&a, p, n < 8 ? n : 8);
    return mix(0x8ebc6af09c88c6e3ull ^ len, mix(a ^ 0xe7037ed1a0b428dbull, b ^ h));
}

void hex_encode(const uint8_t *p, size_t n, char *out) {
    static const char digit[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digit[p[i] >> 4];
        out[2 * i + 1] = digit[p[i] & 15];
    }
    out[2 * n] = 0;
}
