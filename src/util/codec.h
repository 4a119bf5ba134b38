/* Byte-level encoding shared by every on-disk format: little-endian fixed integers, LEB128 varints, CRC-32C.
 */
#pragma once
#include "util/buf.h"

static inline void put_u16(uint8_t *p, uint16_t v) {
    memcpy(p, &v, 2);
}
static inline void put_u32(uint8_t *p, uint32_t v) {
    memcpy(p, &v, 4);
}
static inline void put_u64(uint8_t *p, uint64_t v) {
    memcpy(p, &v, 8);
}
static inline uint16_t get_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t get_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t get_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are little-endian");

void buf_add_u16(struct buf *b, uint16_t v);
void buf_add_u32(struct buf *b, uint32_t v);
void buf_add_u64(struct buf *b, uint64_t v);
void buf_add_varint(struct buf *b, uint64_t v);               /* 1..10 bytes */
void buf_add_bytes(struct buf *b, const void *p, size_t len); /* varint length, then the bytes */

/* A bounds-checked reader. After a read past the end `bad` is set and every later read gives zeros; check it
 * once at the end of a decode. */
struct cursor {
    const uint8_t *p, *end;
    bool bad;
};
static inline struct cursor cursor_of(const void *p, size_t len) {
    return (struct cursor){.p = p, .end = (const uint8_t *)p + len};
}
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
uint64_t cursor_varint_long(struct cursor *c);
static inline uint64_t cursor_varint(struct cursor *c) {
    return !c->bad && c->p < c->end && *c->p < 0x80 ? *c->p++ : cursor_varint_long(c);
}
/* NULL and bad when there is less. */
static inline const uint8_t *cursor_take(struct cursor *c, size_t len) {
    const uint8_t *p = c->p;
    if (c->bad || (size_t)(c->end - p) < len) {
        c->bad = true;
        return NULL;
    }
    c->p += len;
    return p;
}
/* Varint length, then the bytes. */
static inline const uint8_t *cursor_bytes(struct cursor *c, size_t *ret_len) {
    uint64_t n = cursor_varint(c);
    const uint8_t *p = cursor_take(c, n);
    *ret_len = p ? n : 0;
    return p;
}

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), hardware instruction where the machine has it. `crc` is 0 to
 * start and the previous result to go on. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* 64-bit hash for tables and assignment (wyhash-style mix; not for security, stable across versions and
 * machines). */
uint64_t hash64(const void *data, size_t len, uint64_t seed);

/* Lower-case hex of n bytes into out[2n+1]. */
void hex_encode(const uint8_t *p, size_t n, char *out);
