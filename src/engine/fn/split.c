/* Planning the segments of documents of several partitions. */
#include "fn/split.h"

struct planning {
    struct split *split;
    const struct schema *schema;
    const uint64_t *bytes;
    uint64_t min_bytes;
};

static uint32_t last_of(const struct planning *p, uint32_t block) {
    return MIN(partition_last(block), p->schema->n_partitions);
}

static void add_segment(struct planning *p, uint32_t block) {
    struct split *s = p->split;
    s->blocks[s->n] = block;
    for (uint32_t i = partition_first(block); i <= last_of(p, block); i++)
        if (p->bytes[i]) s->segment[i] = (uint16_t)s->n;
    s->n++;
}

/* The children that have documents. */
static uint32_t children_of(const struct planning *p, uint32_t block, uint32_t *out, uint64_t *ret_bytes) {
    uint32_t n = 0;
    *ret_bytes = 0;
    for (uint32_t i = partition_first(block); i <= last_of(p, block); i++) {
        if (!p->bytes[i]) continue;
        uint32_t child = partition_child(p->schema, block, i);
        if (!n || out[n - 1] != child) out[n++] = child;
        *ret_bytes += p->bytes[i];
    }
    return n;
}

/* Goes at most as deep as blocks nest. */
static void plan_block(struct planning *p, uint32_t block, unsigned levels) {
    uint32_t children[PARTITION_FANOUT];
    uint64_t bytes;
    if (partition_is_single(block)) {
        add_segment(p, block);
        return;
    }
    uint32_t n = children_of(p, block, children, &bytes);
    if (n == 1) {
        plan_block(p, children[0], levels);
    } else if (levels && n && bytes / n >= p->min_bytes) {
        for (uint32_t i = 0; i < n; i++) plan_block(p, children[i], levels - 1);
    } else {
        add_segment(p, block);
    }
}

void split_plan(struct split *s, const struct schema *schema, uint32_t block, const uint64_t *bytes,
                uint64_t min_bytes, unsigned levels) {
    struct planning p = {.split = s, .schema = schema, .bytes = bytes, .min_bytes = min_bytes};
    s->n = 0;
    memset(s->segment, 0xff, sizeof s->segment);
    plan_block(&p, block, levels);
}
