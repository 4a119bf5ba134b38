/* See chunks.h. */
#include "util/chunks.h"
#include "util/buf.h"

#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* At the start of its memory, which begins at a multiple of its size. */
struct chunk {
    size_t used, pieces;
    _Alignas(16) uint8_t data[];
};

/* Whole: then the sanitizer knows each piece. */
static bool by_malloc(size_t len) {
#ifdef __SANITIZE_ADDRESS__
    return true;
#else
    return len > CHUNK_PIECE_MAX;
#endif
}

static void unmap(struct chunk *c) {
    if (c) munmap(c, CHUNK_BYTES);
}

static struct chunk *map(void) {
    uint8_t *p =
        mmap(NULL, 2 * (size_t)CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) abort();
    size_t before = (size_t)(-(uintptr_t)p & (CHUNK_BYTES - 1));
    if (before) munmap(p, before);
    munmap(p + before + CHUNK_BYTES, CHUNK_BYTES - before);
    madvise(p + before, CHUNK_BYTES, MADV_POPULATE_WRITE); /* not before Linux 5.14: then one by one */
    return (struct chunk *)(p + before);
}

void chunks_init(struct chunks *a) {
    *a = (struct chunks){0};
    pthread_mutex_init(&a->lock, NULL);
}

void chunks_release(struct chunks *a) {
    unmap(a->filling);
    unmap(a->spare);
    pthread_mutex_destroy(&a->lock);
}

void *chunks_alloc(struct chunks *a, size_t len) {
    if (by_malloc(len)) return xmalloc(len);
    size_t size = (len + 15) & ~(size_t)15;
    pthread_mutex_lock(&a->lock);
    struct chunk *c = a->filling;
    if (c && c->used + size > CHUNK_BYTES - sizeof *c) c = NULL;
    if (!c) {
        c = a->spare ? a->spare : map();
        a->spare = NULL;
        a->filling = c;
        c->used = c->pieces = 0;
    }
    void *p = c->data + c->used;
    c->used += size;
    c->pieces++;
    pthread_mutex_unlock(&a->lock);
    return p;
}

void chunks_free(struct chunks *a, void *p, size_t len) {
    if (!p || by_malloc(len)) {
        free(p);
        return;
    }
    struct chunk *c = (struct chunk *)((uintptr_t)p & ~(uintptr_t)(CHUNK_BYTES - 1)), *gone = NULL;
    pthread_mutex_lock(&a->lock);
    if (!--c->pieces) {
        if (c == a->filling) {
            c->used = 0;
        } else {
            gone = a->spare;
            a->spare = c;
        }
    }
    pthread_mutex_unlock(&a->lock);
    unmap(gone);
}
