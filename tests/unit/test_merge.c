/* Merging: the result is the segment that a writer makes from the live documents; maps; duplicates; added
 * indexes. */
#include "util/clock.h"
#include "index/analyzer_internal.h"
#include "segment_model.h"

enum { MAX_INPUTS = 6 };

struct input {
    struct model_doc *docs;
    size_t n;
    struct segment *segment;
    struct deletes *deletes;
};
struct fixture {
    struct schema *schema;
    struct input in[MAX_INPUTS];
    size_t n;
};

static int input_delete(struct input *in, unsigned percent, struct err *err) {
    int r = 0;
    if (!percent) return 0;
    in->deletes = deletes_new(in->segment);
    for (uint32_t d = 0; r >= 0 && d < in->n; d++)
        if (model_random(100) < percent) r = deletes_add(in->deletes, in->segment, d, err);
    return r < 0 ? r : 0;
}

static int fixture_add(struct fixture *x, size_t n, unsigned id_step, unsigned dead_percent,
                       struct err *err) {
    struct input *in = &x->in[x->n];
    in->n = n;
    in->docs = model_docs(n, id_step, 1 + 10000 * (x->n++ + 1));
    const struct model_doc **p = model_pointers(in->docs, n);
    int r = model_segment(x->schema, p, n, &in->segment, err);
    free(p);
    return r ? r : input_delete(in, dead_percent, err);
}

static void fixture_release(struct fixture *x) {
    for (size_t i = 0; i < x->n; i++) {
        segment_unref(x->in[i].segment);
        deletes_unref(x->in[i].deletes);
        model_docs_free(x->in[i].docs, x->in[i].n);
    }
    schema_unref(x->schema);
}

static struct schema *parse_schema(const char *json) {
    struct schema *s = NULL;
    schema_parse(json, strlen(json), &s, NULL);
    return s;
}

static int doc_order(const void *a, const void *b) {
    const struct model_doc *x = *(const struct model_doc *const *)a, *y = *(const struct model_doc *const *)b;
    int c = strcmp(x->id, y->id);
    return c ? c : x->seq < y->seq ? 1 : -1;
}

/* The documents that survive: live, and of equal ids the one of the highest sequence number. */
static size_t survivors(const struct fixture *x, const struct model_doc **ret) {
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < x->n; i++)
        for (uint32_t d = 0; d < x->in[i].n; d++)
            if (!deletes_has(deletes_bits(x->in[i].deletes), d)) ret[n++] = &x->in[i].docs[d];
    if (n) qsort(ret, n, sizeof *ret, doc_order);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(ret[kept - 1]->id, ret[i]->id)) ret[kept++] = ret[i];
    return kept;
}

static int merge(const struct fixture *x, struct schema *schema, struct segment **ret,
                 struct segment_summary *sum, uint32_t **maps, struct err *err) {
    struct merge_input inputs[MAX_INPUTS];
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    for (size_t i = 0; i < x->n; i++)
        inputs[i] = (struct merge_input){x->in[i].segment, x->in[i].deletes, NULL};
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    int r = segment_merge(schema, inputs, x->n, &out, NULL, sum, &size, &checksum, maps, err);
    if (!r) r = model_open_memory(&out, ret, err);
    blob_writer_release(&out);
    return r;
}

static void check_maps(const struct fixture *x, uint32_t **maps, const struct model_doc *const *want,
                       size_t n) {
    size_t mapped = 0;
    for (size_t i = 0; i < x->n; i++)
        for (uint32_t d = 0; d < x->in[i].n; d++) {
            if (maps[i][d] == DOCNO_NONE) continue;
            CHECK(maps[i][d] < n && want[maps[i][d]] == &x->in[i].docs[d]);
            mapped++;
        }
    CHECK(mapped == n);
    for (size_t i = 0; i < x->n; i++) free(maps[i]);
}

static void check_merge(struct fixture *x) {
    struct err err = ERR_INIT;
    struct segment *merged;
    struct segment_summary sum;
    uint32_t *maps[MAX_INPUTS];
    size_t total = 0;
    struct buf want = BUF_INIT, have = BUF_INIT;
    for (size_t i = 0; i < x->n; i++) total += x->in[i].n;
    const struct model_doc **p = xcalloc(total, sizeof *p);
    size_t n = survivors(x, p);
    CHECK_OK(merge(x, x->schema, &merged, &sum, maps, &err));
    CHECK(sum.n_docs == n && segment_n_docs(merged) == n);
    check_maps(x, maps, p, n);
    CHECK_OK(segment_verify(merged, &err));
    model_dump(p, n, &want);
    CHECK_OK(dump_segment(merged, &have, &err));
    CHECK(same_dump(&want, &have));
    segment_unref(merged);
    buf_release(&want);
    buf_release(&have);
    free(p);
}

TEST(two_with_deletes) {
    struct err err = ERR_INIT;
    struct fixture x = {.schema = parse_schema(model_schema)};
    model_seed(31);
    CHECK_OK(fixture_add(&x, 200, 6, 20, &err));
    CHECK_OK(fixture_add(&x, 150, 6, 0, &err));
    check_merge(&x);
    fixture_release(&x);
}

/* Indexes of another version of the analyzers are made again; without the analyzers they stay what they were.
 */
TEST(changed_analyzers) {
    struct err err = ERR_INIT;
    struct fixture x = {.schema = parse_schema(model_schema)};
    struct segment *merged;
    uint32_t *maps[MAX_INPUTS];
    struct segment_summary sum;
    model_seed(37);
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) analyzer_fake_fingerprint(a, 77);
    CHECK_OK(fixture_add(&x, 120, 6, 10, &err));
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) analyzer_fake_fingerprint(a, 0);
    CHECK_OK(fixture_add(&x, 90, 6, 0, &err));
    check_merge(&x);
    CHECK_OK(merge(&x, x.schema, &merged, &sum, maps, &err));
    for (uint32_t i = 0; i < merged->n_fields; i++) CHECK(segment_field_current(&merged->fields[i]));
    for (size_t i = 0; i < x.n; i++) free(maps[i]);
    segment_unref(merged);
    fixture_release(&x);
}

TEST(many_sizes_and_shapes) {
    struct err err = ERR_INIT;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct fixture x = {.schema = parse_schema(model_schema)};
        model_seed(seed);
        size_t n = 1 + model_random(MAX_INPUTS);
        for (size_t i = 0; i < n; i++)
            CHECK_OK(fixture_add(&x, 1 + model_random(model_random(2) ? 3 : 300), 1 + model_random(20),
                                 model_random(3) ? model_random(100) : 0, &err));
        check_merge(&x);
        fixture_release(&x);
    }
}

/* Dense ids: every id is in most inputs, the highest sequence number wins. */
TEST(duplicates) {
    struct err err = ERR_INIT;
    struct fixture x = {.schema = parse_schema(model_schema)};
    model_seed(41);
    for (int i = 0; i < 4; i++) CHECK_OK(fixture_add(&x, 120, 1, i == 2 ? 50 : 0, &err));
    check_merge(&x);
    fixture_release(&x);
}

TEST(nothing_left) {
    struct err err = ERR_INIT;
    struct fixture x = {.schema = parse_schema(model_schema)};
    model_seed(43);
    CHECK_OK(fixture_add(&x, 50, 2, 100, &err));
    CHECK_OK(fixture_add(&x, 1, 2, 100, &err));
    check_merge(&x);
    fixture_release(&x);
}

/* Inputs of disjoint id ranges: whole compressed blocks move. */
TEST(whole_blocks) {
    struct err err = ERR_INIT;
    struct fixture x = {.schema = parse_schema(model_schema)};
    model_seed(47);
    CHECK_OK(fixture_add(&x, 400, 1, 0, &err));
    CHECK_OK(fixture_add(&x, 900, 1, 0, &err));
    struct deletes *d = x.in[1].deletes = deletes_new(x.in[1].segment);
    for (uint32_t i = 0; i < 430; i++) CHECK(deletes_add(d, x.in[1].segment, i, &err) == 1);
    check_merge(&x);
    fixture_release(&x);
}

/* Inputs written under a poorer schema are indexed for the rest during the merge. */
TEST(added_indexes) {
    static const char poorer[] = "{\"indexConfigs\":{\"tag\":{\"type\":\"keyword\"},"
                                 "\"title\":{\"type\":\"text\",\"analyzers\":[\"english\"]}}}";
    struct err err = ERR_INIT;
    struct fixture x = {.schema = parse_schema(poorer)};
    model_seed(53);
    CHECK_OK(fixture_add(&x, 180, 5, 30, &err));
    schema_unref(x.schema);
    x.schema = parse_schema(model_schema);
    CHECK_OK(fixture_add(&x, 100, 5, 10, &err));
    check_merge(&x);
    fixture_release(&x);
}

TEST(canceled) {
    struct err err = ERR_INIT;
    struct fixture x = {.schema = parse_schema(model_schema)};
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    volatile int cancel = 1;
    CHECK_OK(fixture_add(&x, 20, 5, 0, &err));
    struct merge_input input = {x.in[0].segment, NULL, NULL};
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK(segment_merge(x.schema, &input, 1, &out, &cancel, NULL, &size, &checksum, NULL, &err) ==
          -ERR_CANCELED);
    blob_writer_release(&out);
    fixture_release(&x);
}
