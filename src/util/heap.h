/* A binary heap of keys, the least on top. */
#pragma once
#include <stdint.h>

/* Puts key number i where it belongs among those below it. */
static inline void heap_sift_down(uint64_t *heap, uint32_t n, uint32_t i) {
    uint64_t key = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}
