/* Memory for what is made and let go in much the same order: pieces of large chunks.
 *
 * A fresh page costs a page fault when it is first touched, and each time an allocator's heap grows by one
 * there is a system call, too: for an answer of a few pages that is as much as a request of the kernel
 * (docs/BENCHMARKS.md). A chunk's pages are all made at once, and it is used again, or given back, when its
 * last piece is let go. Any thread. */
#pragma once
#include <pthread.h>
#include <stddef.h>

enum { CHUNK_BYTES = 1 << 20, CHUNK_PIECE_MAX = CHUNK_BYTES / 8 };

struct chunks {
    pthread_mutex_t lock; /* everything below */
    struct chunk *filling, *spare;
};
void chunks_init(struct chunks *);
/* All pieces are let go before. */
void chunks_release(struct chunks *);
/* `len` bytes, 16-byte aligned, not cleared; above CHUNK_PIECE_MAX they are malloc's. */
void *chunks_alloc(struct chunks *, size_t len);
/* len as above; p may be NULL. */
void chunks_free(struct chunks *, void *p, size_t len);
