/* Deletes: statistics minus corrections are those of the remaining documents, for every term; clones; the
 * object. */
#include "index/analyzer_internal.h"
#include "util/clock.h"
#include "segment_model.h"

static struct schema *model_schema_new(void) {
    struct schema *s = NULL;
    schema_parse(model_schema, strlen(model_schema), &s, NULL);
    return s;
}

/* Of one index: a segment with deletes against a segment of the remaining documents. */
static bool same_statistics(const struct segment_field *f, const struct deletes *d,
                            const struct segment_field *live, struct err *err) {
    struct field_stats all, dead, want;
    struct term_iter it;
    struct term_info info;
    uint32_t seen = 0;
    segment_field_stats(f, &all);
    segment_field_stats(live, &want);
    deletes_field(d, f, &dead);
    if (all.n_docs - dead.n_docs != want.n_docs || all.sum_ttf - dead.sum_ttf != want.sum_ttf) return false;
    if (term_iter_open(&it, f, "", 0, err)) return false;
    bool ok = true;
    while (ok && term_iter_next(&it, err) == 1) {
        uint32_t gone = deletes_term_df(d, f, it.info.ord);
        ok = !term_find(live, (char *)it.term.data, it.term.len, &info, err) && gone <= it.info.df &&
             it.info.df - gone == info.df;
        seen += info.df != 0;
    }
    term_iter_close(&it);
    return ok && seen == term_count(live);
}

static void check_statistics(const struct segment *s, const struct deletes *d, const struct segment *live) {
    struct err err = ERR_INIT;
    CHECK(s->n_fields == live->n_fields);
    for (uint32_t i = 0; i < s->n_fields; i++) {
        const struct segment_field *f = &s->fields[i];
        struct field_stats all, dead, want;
        if (!f->ops) continue;
        if (f->spec.type == FIELD_TEXT || f->spec.type == FIELD_KEYWORD) {
            CHECK(same_statistics(f, d, &live->fields[i], &err));
            continue;
        }
        segment_field_stats(f, &all);
        segment_field_stats(&live->fields[i], &want);
        deletes_field(d, f, &dead);
        CHECK(all.n_docs - dead.n_docs == want.n_docs);
    }
}

struct fixture {
    struct schema *schema;
    struct segment *segment;
    struct model_doc *docs;
    size_t n;
};

static int fixture_init(struct fixture *x, size_t n, uint64_t seed, struct err *err) {
    model_seed(seed);
    x->schema = model_schema_new();
    x->n = n;
    x->docs = model_docs(n, 3, 50);
    const struct model_doc **p = model_pointers(x->docs, n);
    int r = model_segment(x->schema, p, n, &x->segment, err);
    free(p);
    return r;
}

static void fixture_release(struct fixture *x) {
    segment_unref(x->segment);
    model_docs_free(x->docs, x->n);
    schema_unref(x->schema);
}

static int live_segment(const struct fixture *x, const struct deletes *d, struct segment **ret,
                        struct err *err) {
    const struct model_doc **p = xcalloc(x->n, sizeof *p);
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++)
        if (!deletes_has(deletes_bits(d), (uint32_t)i)) p[n++] = &x->docs[i];
    int r = model_segment(x->schema, p, n, ret, err);
    free(p);
    return r;
}

/* Through an object and back. */
static int reread(const struct deletes *d, const struct segment *s, struct deletes **ret, struct err *err) {
    struct blob_writer out;
    struct blob *blob;
    uint64_t size;
    uint32_t checksum;
    size_t len;
    blob_writer_init(&out, -1, BLOB_KIND_DELETES);
    int r = deletes_write(d, &out, &size, &checksum, err);
    uint8_t *data = buf_detach(&out.mem, &len);
    blob_writer_release(&out);
    if (!r) r = blob_open_memory(data, len, BLOB_KIND_DELETES, &blob, err);
    return r ? r : deletes_read(blob, s, ret, err);
}

TEST(corrections_equal_recount) {
    struct err err = ERR_INIT;
    struct fixture x;
    CHECK_OK(fixture_init(&x, 300, 5, &err));
    struct deletes *d = deletes_new(x.segment), *back;
    uint64_t sum = 0;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 40; i++) {
            uint32_t docno = model_random((uint32_t)x.n);
            bool dead = deletes_has(deletes_bits(d), docno);
            int r = deletes_add(d, x.segment, docno, &err);
            CHECK(r == (dead ? 0 : 1));
            if (!dead) sum += segment_doc_hash(x.docs[docno].id, strlen(x.docs[docno].id), x.docs[docno].seq);
        }
        struct segment *live;
        CHECK_OK(live_segment(&x, d, &live, &err));
        CHECK(deletes_count(d) + segment_n_docs(live) == x.n && deletes_hash_sum(d) == sum);
        check_statistics(x.segment, d, live);
        CHECK_OK(reread(d, x.segment, &back, &err));
        CHECK(deletes_count(back) == deletes_count(d) && deletes_hash_sum(back) == sum);
        CHECK(!memcmp(deletes_bits(back), deletes_bits(d), bitmap_words((uint32_t)x.n) * 8));
        check_statistics(x.segment, back, live);
        struct deletes *clone = deletes_clone(round % 2 ? back : d); /* goes on from clones */
        deletes_unref(back);
        deletes_unref(d);
        d = clone;
        segment_unref(live);
    }
    CHECK(deletes_add(d, x.segment, (uint32_t)x.n, &err) == -ERR_INVALID);
    deletes_unref(d);
    fixture_release(&x);
}

static void deletes_bytes(const struct deletes *d, struct buf *ret) {
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&out, -1, BLOB_KIND_DELETES);
    deletes_write(d, &out, &size, &checksum, NULL);
    buf_clear(ret);
    buf_add(ret, out.mem.data, out.mem.len);
    blob_writer_release(&out);
}

static int kill_some(struct deletes *d, const struct segment *s, struct err *err) {
    for (uint32_t i = 0; i < segment_n_docs(s); i += 3) {
        int r = deletes_add(d, s, i, err);
        if (r < 0) return r;
    }
    return 0;
}

/* With another version of the analyzers the corrections come from the postings, and are the same. */
TEST(changed_analyzers) {
    struct err err = ERR_INIT;
    struct fixture x;
    struct segment *live;
    struct buf want = BUF_INIT, have = BUF_INIT;
    struct blob_writer refused;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&refused, -1, BLOB_KIND_DELETES);
    CHECK_OK(fixture_init(&x, 200, 15, &err));
    struct deletes *analysed = deletes_new(x.segment), *scanned = deletes_new(x.segment);
    CHECK_OK(kill_some(analysed, x.segment, &err));
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) analyzer_fake_fingerprint(a, 99);
    for (uint32_t i = 0; i < x.segment->n_fields; i++)
        if (x.segment->fields[i].stats.n_docs)
            CHECK(segment_field_current(&x.segment->fields[i]) ==
                  (x.segment->fields[i].spec.type != FIELD_TEXT));
    CHECK_OK(kill_some(scanned, x.segment, &err)); /* some of them settled between, on a clone, and after */
    CHECK(deletes_write(scanned, &refused, &size, &checksum, &err) == -ERR_INVALID);
    CHECK_OK(deletes_settle(scanned, x.segment, &err));
    CHECK_OK(deletes_settle(scanned, x.segment, &err));
    for (uint32_t i = 1; i < segment_n_docs(x.segment); i += 5) {
        CHECK(deletes_add(scanned, x.segment, i, &err) >= 0);
        CHECK(deletes_add(analysed, x.segment, i, &err) >= 0);
    }
    struct deletes *unsettled = scanned;
    scanned = deletes_clone(unsettled);
    deletes_unref(unsettled);
    CHECK_OK(deletes_settle(scanned, x.segment, &err));
    CHECK_OK(deletes_settle(analysed, x.segment, &err));
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) analyzer_fake_fingerprint(a, 0);
    CHECK_OK(live_segment(&x, scanned, &live, &err));
    check_statistics(x.segment, scanned, live);
    deletes_bytes(analysed, &want);
    deletes_bytes(scanned, &have);
    CHECK(want.len == have.len && !memcmp(want.data, have.data, want.len));
    segment_unref(live);
    deletes_unref(analysed);
    deletes_unref(scanned);
    blob_writer_release(&refused);
    buf_release(&want);
    buf_release(&have);
    fixture_release(&x);
}

TEST(all_dead_and_clone_is_independent) {
    struct err err = ERR_INIT;
    struct fixture x;
    CHECK_OK(fixture_init(&x, 130, 6, &err));
    struct deletes *d = deletes_new(x.segment);
    CHECK(deletes_add(d, x.segment, 7, &err) == 1);
    struct deletes *other = deletes_clone(d);
    for (uint32_t i = 0; i < x.n; i++) CHECK(deletes_add(other, x.segment, i, &err) == (i != 7));
    CHECK(deletes_count(d) == 1 && deletes_count(other) == x.n);
    CHECK(deletes_hash_sum(other) == x.segment->summary.checksum_sum);
    struct segment *live;
    CHECK_OK(live_segment(&x, d, &live, &err));
    check_statistics(x.segment, d, live);
    segment_unref(live);
    CHECK_OK(live_segment(&x, other, &live, &err));
    check_statistics(x.segment, other, live);
    segment_unref(live);
    CHECK(deletes_count(NULL) == 0 && deletes_hash_sum(NULL) == 0 && !deletes_bits(NULL));
    struct field_stats stats;
    deletes_field(NULL, &x.segment->fields[0], &stats);
    CHECK(stats.n_docs == 0 && stats.sum_ttf == 0 && deletes_term_df(NULL, &x.segment->fields[0], 0) == 0);
    deletes_unref(NULL);
    deletes_unref(d);
    deletes_unref(other);
    fixture_release(&x);
}

/* Long chains of clones fold their tables; each step stays exact. */
TEST(clone_chain) {
    struct err err = ERR_INIT;
    struct fixture x;
    CHECK_OK(fixture_init(&x, 600, 8, &err));
    struct deletes *d = deletes_new(x.segment);
    for (uint32_t i = 0; i < 500; i++) {
        struct deletes *next = deletes_clone(d);
        CHECK(deletes_add(next, x.segment, (i * 7) % 600, &err) == 1);
        deletes_unref(d);
        d = next;
    }
    struct segment *live;
    CHECK_OK(live_segment(&x, d, &live, &err));
    check_statistics(x.segment, d, live);
    segment_unref(live);
    deletes_unref(d);
    fixture_release(&x);
}

TEST(wrong_segment_and_damage) {
    struct err err = ERR_INIT;
    struct fixture x, y;
    struct deletes *back;
    CHECK_OK(fixture_init(&x, 100, 9, &err));
    CHECK_OK(fixture_init(&y, 100, 10, &err));
    struct deletes *d = deletes_new(x.segment);
    for (uint32_t i = 0; i < 100; i += 3) CHECK(deletes_add(d, x.segment, i, &err) == 1);
    CHECK(reread(d, y.segment, &back, &err) == -ERR_CORRUPT);
    CHECK(deletes_add(d, y.segment, 1, &err) == -ERR_INVALID);
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&out, -1, BLOB_KIND_DELETES);
    CHECK_OK(deletes_write(d, &out, &size, &checksum, &err));
    for (uint32_t i = 0; i < 600; i++) { /* damage behind the page checksums: they are made good again */
        uint8_t *copy = memcpy(xmalloc(size), out.mem.data, size);
        struct blob *blob;
        uint64_t end = size - BLOB_TRAILER_SIZE - 4;
        copy[BLOB_HEADER_SIZE + model_random((uint32_t)(end - BLOB_HEADER_SIZE))] ^=
            (uint8_t)(1 + model_random(255));
        put_u32(copy + end, crc32c(0, copy, end));
        put_u32(copy + size - 4, crc32c(0, copy + end, size - 4 - end));
        CHECK_OK(blob_open_memory(copy, size, BLOB_KIND_DELETES, &blob, &err));
        int r = deletes_read(blob, x.segment, &back, &err);
        CHECK(!r || r == -ERR_CORRUPT);
        if (!r) deletes_unref(back);
    }
    blob_writer_release(&out);
    deletes_unref(d);
    fixture_release(&x);
    fixture_release(&y);
}
