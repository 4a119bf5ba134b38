/* Partitions: documents divided by the hash of one keyword field.
 *
 * A document's partition is 1 + hash64(value, seed 0) mod n_partitions, 0 (the default partition) without a
 * value. A schema_check'ed document has at most one; if an older one has several, the least in byte order
 * counts, which is also the first of its column.
 *
 * What a segment covers is a block of partitions: one of them, or an aligned run of PARTITION_BLOCKS of them,
 * or all (mixed). Blocks form a tree with a fan-out of at most 16, so a document is moved at most three times
 * until it lies in a segment of its own partition. A block is first | (count - 1) << 16: a single partition
 * is its own number.
 */
#pragma once
#include "index/segment.h"

#define PARTITION_MIXED UINT32_MAX
enum {
    PARTITIONS_MIN = 2,
    PARTITIONS_MAX = 1024,
    PARTITION_FANOUT = 16, /* children of a block */
    PARTITION_WORDS = (PARTITIONS_MAX + 64) / 64
};

uint32_t partition_of_value(const struct schema *, const char *value, size_t len);
/* Of a document (an object) of a partitioned collection. */
uint32_t partition_of_doc(const struct schema *, const struct jval *doc);
static inline uint32_t partition_first(uint32_t block) {
    return block == PARTITION_MIXED ? 0 : block & 0xffff;
}
static inline uint32_t partition_last(uint32_t block) {
    uint32_t last = (block & 0xffff) + (block >> 16);
    return last < PARTITIONS_MAX ? last : (uint32_t)PARTITIONS_MAX;
}
static inline bool partition_is_single(uint32_t block) {
    return block <= PARTITIONS_MAX;
}
/* The child of a block (not a single partition) that a partition belongs to. */
uint32_t partition_child(const struct schema *, uint32_t block, uint32_t partition);
/* The block in which the tree keeps leaves of this block together: one intermediate level. */
uint32_t partition_group(uint32_t block);

/* The partition of every document of a segment, in document order; kept with the segment. NULL: the segment
 * was written without an index on the field. */
int partition_of_docs(struct segment *, const struct schema *, const uint16_t **ret, struct err *);

/* A set of partitions, as a filter names it by its values. */
struct partition_set {
    uint64_t bits[PARTITION_WORDS];
};
static inline bool partition_set_has(const struct partition_set *s, uint32_t partition) {
    return s->bits[partition >> 6] >> (partition & 63) & 1;
}
void partition_set_add(struct partition_set *, uint32_t partition);
bool partition_set_overlaps(const struct partition_set *, uint32_t block);
