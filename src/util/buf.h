/* Memory: a growable byte buffer, an arena, and allocation that cannot fail.
 *
 * Small allocations never return NULL: when memory is out the process aborts, which the crash-only protocol
 * of the log and the commit makes safe. Sizes that come from a user are bounded before anything is allocated.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))

/* Makes room for one more element of a plain growable array (pointer, count, capacity). */
#define VEC_GROW(p, n, cap)                                                                                  \
    do {                                                                                                     \
        if ((n) >= (cap)) {                                                                                  \
            (cap) = (cap) ? (cap)*2 : 8;                                                                     \
            (p) = xrealloc((p), (size_t)(cap) * sizeof *(p));                                                \
        }                                                                                                    \
    } while (0)

/* A growable byte buffer. One thread. After init, .data is NULL until something is added. buf_str makes it a
 * NUL-terminated string (the NUL is not counted in len). */
struct buf {
    uint8_t *data;
    size_t len, cap;
};
#define BUF_INIT                                                                                             \
    { 0 }

void buf_release(struct buf *b);
void buf_reserve(struct buf *b, size_t more);
uint8_t *buf_grow(struct buf *b, size_t more); /* adds `more` uninitialised bytes, returns where they start */
void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
const char *buf_str(struct buf *b);
static inline void buf_clear(struct buf *b) {
    b->len = 0;
}
/* Gives the memory to the caller (free()); the buffer is empty afterwards. */
uint8_t *buf_detach(struct buf *b, size_t *ret_len);
/* Adds s as a JSON string with its quotes. The bytes must be valid UTF-8. */
void buf_add_json_string(struct buf *b, const char *s, size_t len);

/* An arena: many small allocations, freed together. One thread. Memory is 16-byte aligned, not cleared. */
struct arena_chunk;
struct arena {
    struct arena_chunk *head;
    uint8_t *next, *end;
};
#define ARENA_INIT                                                                                           \
    { 0 }
void *arena_alloc(struct arena *a, size_t size);
enum { CACHE_LINE = 64 };
void *arena_alloc_lines(struct arena *a,
                        size_t size); /* aligned to cache lines: for arrays that are run over */
void *arena_zalloc(struct arena *a, size_t size);
char *arena_strndup(struct arena *a, const char *s, size_t len); /* NUL-terminated copy */
/* Forgets everything but keeps one chunk for reuse. */
void arena_reset(struct arena *a);
void arena_release(struct arena *a);
