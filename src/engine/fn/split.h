/* How documents are divided into segments by partition: one plan for the builder and the merger.
 *
 * A block of partitions (index/partition.h) is divided into its children when they have min_bytes each on
 * average, so that the number of segments stays in proportion to the data and not to the number of
 * partitions. */
#pragma once
#include "index/partition.h"

struct split {
    uint32_t n;
    uint32_t blocks[PARTITIONS_MAX + 1];  /* of the segments to write, ascending */
    uint16_t segment[PARTITIONS_MAX + 1]; /* by partition: which one; SPLIT_NONE: has no documents */
};
enum { SPLIT_NONE = 0xffff };

/* bytes: of documents, by partition; 0 = none. levels: how many times a block may be divided: with 1 there
 * are at most PARTITION_FANOUT segments. A block whose documents are all of one child becomes that child in
 * any case. */
void split_plan(struct split *, const struct schema *, uint32_t block, const uint64_t *bytes,
                uint64_t min_bytes, unsigned levels);
