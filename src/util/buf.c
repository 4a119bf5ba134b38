/* Buffers, the arena, and allocation that aborts when memory is out. */
#include "util/buf.h"

#include <pthread.h>
#include <stdio.h>

static void out_of_memory(size_t size) {
    fprintf(stderr, "ldbfs: could not allocate %zu bytes\n", size);
    abort();
}

enum { SMALL = 1024 };

void *xmalloc(size_t size) {
    void *p = malloc(size ? size : 1);
    if (!p) out_of_memory(size);
    return p;
}

/* Small ones by malloc: the C library's calloc does not look into its per-thread lists. */
void *xcalloc(size_t count, size_t size) {
    if (count <= SMALL && size <= SMALL && count * size <= SMALL)
        return memset(xmalloc(count * size), 0, count * size);
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p) out_of_memory(count * size);
    return p;
}

void *xrealloc(void *old, size_t size) {
    void *p = realloc(old, size ? size : 1);
    if (!p) out_of_memory(size);
    return p;
}

char *xstrndup(const char *s, size_t len) {
    char *p = xmalloc(len + 1);
    if (len) memcpy(p, s, len);
    p[len] = 0;
    return p;
}

char *xstrdup(const char *s) {
    return xstrndup(s, strlen(s));
}

void buf_release(struct buf *b) {
    free(b->data);
    *b = (struct buf)BUF_INIT;
}

void buf_reserve(struct buf *b, size_t more) {
    if (b->cap - b->len >= more && b->data) return;
    size_t cap = b->cap ? b->cap * 2 : 64;
    if (cap < b->len + more) cap = b->len + more;
    b->data = xrealloc(b->data, cap);
    b->cap = cap;
}

uint8_t *buf_grow(struct buf *b, size_t more) {
    buf_reserve(b, more);
    uint8_t *p = b->data + b->len;
    b->len += more;
    return p;
}

void buf_add(struct buf *b, const void *data, size_t len) {
    if (len) memcpy(buf_grow(b, len), data, len);
}

void buf_adds(struct buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c) {
    *buf_grow(b, 1) = (uint8_t)c;
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    buf_reserve(b, 128);
    int n = vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, ap);
    if (n >= 0 && (size_t)n >= b->cap - b->len) {
        buf_reserve(b, (size_t)n + 1);
        vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, again);
    }
    va_end(again);
    if (n > 0) b->len += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

const char *buf_str(struct buf *b) {
    buf_reserve(b, 1);
    b->data[b->len] = 0;
    return (const char *)b->data;
}

uint8_t *buf_detach(struct buf *b, size_t *ret_len) {
    uint8_t *p = b->data;
    if (ret_len) *ret_len = b->len;
    *b = (struct buf)BUF_INIT;
    return p;
}

void buf_add_json_string(struct buf *b, const char *s, size_t len) {
    buf_addc(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_add(b, s + from, i - from);
        from = i + 1;
        switch (c) {
        case '"':
            buf_adds(b, "\\\"");
            break;
        case '\\':
            buf_adds(b, "\\\\");
            break;
        case '\n':
            buf_adds(b, "\\n");
            break;
        case '\r':
            buf_adds(b, "\\r");
            break;
        case '\t':
            buf_adds(b, "\\t");
            break;
        default:
            buf_printf(b, "\\u%04x", c);
        }
    }
    buf_add(b, s + from, len - from);
    buf_addc(b, '"');
}

enum { CHUNK = 33 * 1024 /* a query's sums of 32 KB fit */, CHUNK_KEPT_MAX = 8 * CHUNK };

struct arena_chunk {
    struct arena_chunk *next;
    size_t size;
    _Alignas(16) uint8_t data[];
};

/* Each thread keeps some chunks for its next arenas: what a query takes is in its caches, and costs no call
 * of the allocator. Not under AddressSanitizer, which would not see their use after free. */
#ifdef __SANITIZE_ADDRESS__
enum { THREAD_CHUNKS = 0 };
#else
enum { THREAD_CHUNKS = 8 };
#endif
static __thread struct arena_chunk *kept[THREAD_CHUNKS + 1];
static __thread unsigned n_kept;
static pthread_key_t kept_key;
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;

/* At the end of a thread. */
static void free_kept(void *unused) {
    (void)unused;
    while (n_kept) free(kept[--n_kept]);
}

static void make_kept_key(void) {
    if (pthread_key_create(&kept_key, free_kept)) abort();
}

static struct arena_chunk *chunk_new(size_t size) {
    if (size <= CHUNK && n_kept) return kept[--n_kept];
    size = MAX(size, (size_t)CHUNK);
    struct arena_chunk *c = xmalloc(sizeof *c + size);
    c->size = size;
    return c;
}

static void chunk_free(struct arena_chunk *c) {
    if (c->size != CHUNK || n_kept == THREAD_CHUNKS) {
        free(c);
        return;
    }
    pthread_once(&kept_once, make_kept_key);
    if (!n_kept) pthread_setspecific(kept_key, kept);
    kept[n_kept++] = c;
}

void *arena_alloc(struct arena *a, size_t size) {
    size = (size + 15) & ~(size_t)15;
    if ((size_t)(a->end - a->next) < size || !a->next) {
        struct arena_chunk *c = chunk_new(size);
        c->next = a->head;
        a->head = c;
        a->next = c->data;
        a->end = c->data + c->size;
    }
    void *p = a->next;
    a->next += size;
    return p;
}

void *arena_alloc_lines(struct arena *a, size_t size) {
    uintptr_t p = (uintptr_t)arena_alloc(a, size + CACHE_LINE - 16);
    return (void *)((p + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1));
}

void *arena_zalloc(struct arena *a, size_t size) {
    return memset(arena_alloc(a, size), 0, size);
}

char *arena_strndup(struct arena *a, const char *s, size_t len) {
    char *p = arena_alloc(a, len + 1);
    if (len) memcpy(p, s, len);
    p[len] = 0;
    return p;
}

static void free_chunks(struct arena_chunk *c) {
    while (c) {
        struct arena_chunk *next = c->next;
        chunk_free(c);
        c = next;
    }
}

void arena_reset(struct arena *a) {
    struct arena_chunk *keep = a->head;
    if (!keep) return;
    free_chunks(keep->next);
    keep->next = NULL;
    if (keep->size > CHUNK_KEPT_MAX) {
        chunk_free(keep);
        *a = (struct arena)ARENA_INIT;
        return;
    }
    a->next = keep->data;
    a->end = keep->data + keep->size;
}

void arena_release(struct arena *a) {
    free_chunks(a->head);
    *a = (struct arena)ARENA_INIT;
}
