/* Which partition a document belongs to, blocks of partitions, and sets of them. */
#include "index/partition.h"

#include "index/segment_internal.h"

static const uint32_t block_sizes[] = {1, 8, 128};

uint32_t partition_of_value(const struct schema *s, const char *value, size_t len) {
    return 1 + (uint32_t)(hash64(value, len, 0) % s->n_partitions);
}

struct least {
    uint32_t field_no;
    const struct jval *value;
};

static int take_least(void *ctx, uint32_t field_no, const struct jval *v, struct err *err) {
    struct least *l = ctx;
    if (field_no != l->field_no || keyword_too_long(v->str, v->count)) return 0;
    if (!l->value || id_compare(v->str, v->count, l->value->str, l->value->count) < 0) l->value = v;
    return 0;
}

uint32_t partition_of_doc(const struct schema *s, const struct jval *doc) {
    const struct field *f = schema_find(s, s->partition_field, strlen(s->partition_field));
    if (!f || f->type != FIELD_KEYWORD) return 0;
    struct least l = {.field_no = (uint32_t)(f - s->fields)};
    schema_walk(s, doc, take_least, &l, NULL);
    return l.value ? partition_of_value(s, l.value->str, l.value->count) : 0;
}

uint32_t partition_child(const struct schema *s, uint32_t block, uint32_t partition) {
    uint32_t count = block == PARTITION_MIXED ? s->n_partitions + 1 : (block >> 16) + 1;
    size_t level = ARRAY_SIZE(block_sizes) - 1;
    while (block_sizes[level] >= count) level--;
    uint32_t size = block_sizes[level];
    if (count <= PARTITION_FANOUT) size = 1;
    return partition / size * size | (size - 1) << 16;
}

uint32_t partition_group(uint32_t block) {
    if (!partition_is_single(block)) return block;
    return block / block_sizes[1] * block_sizes[1] | (block_sizes[1] - 1) << 16;
}

/* The partition of every term of the field. */
static int partition_of_terms(const struct segment_field *f, const struct schema *s, uint16_t *out,
                              struct err *err) {
    struct term_iter it;
    int r = term_iter_open(&it, f, "", 0, err);
    if (r) return r;
    while ((r = term_iter_next(&it, err)) == 1)
        out[it.info.ord] = (uint16_t)partition_of_value(s, (const char *)it.term.data, it.term.len);
    term_iter_close(&it);
    return r;
}

static int fill_docs(const struct segment_field *f, const struct schema *s, uint16_t *docs, struct err *err) {
    struct field_stats stats;
    const struct column *c;
    segment_field_stats(f, &stats);
    if (!stats.n_docs) return 0;
    int r = column_open(f, &c, err);
    if (r) return r;
    uint32_t n_terms = term_count(f);
    uint16_t *terms = xcalloc(n_terms, sizeof *terms);
    r = partition_of_terms(f, s, terms, err);
    for (uint32_t d = 0; !r && d < c->n_docs; d++) {
        if (!column_count(c, d)) continue;
        uint64_t ord = (uint64_t)column_value(c, d, 0);
        if (ord < n_terms)
            docs[d] = terms[ord];
        else
            r = segment_field_corrupt(f, err, "ordinals");
    }
    free(terms);
    return r;
}

int partition_of_docs(struct segment *segment, const struct schema *s, const uint16_t **ret,
                      struct err *err) {
    const struct segment_field *f =
        segment_field(segment, s->partition_field, strlen(s->partition_field), FIELD_KEYWORD, 0);
    *ret = NULL;
    if (!f) return 0;
    uint16_t *docs = atomic_load_explicit(&segment->partitions, memory_order_acquire), *none = NULL;
    if (!docs) {
        docs = xcalloc((size_t)segment->summary.n_docs + 1, sizeof *docs);
        int r = fill_docs(f, s, docs, err);
        if (r) {
            free(docs);
            return r;
        }
        if (!atomic_compare_exchange_strong(&segment->partitions, &none, docs)) {
            free(docs);
            docs = none;
        }
    }
    *ret = docs;
    return 0;
}

void partition_set_add(struct partition_set *s, uint32_t partition) {
    s->bits[partition >> 6] |= 1ull << (partition & 63);
}

bool partition_set_overlaps(const struct partition_set *s, uint32_t block) {
    for (uint32_t p = partition_first(block), last = partition_last(block); p <= last; p++)
        if (partition_set_has(s, p)) return true;
    return false;
}
