/* Stored documents with dictionaries: written, merged, damaged. */
#include <zstd.h>

#include "index/docdict.h"
#include "index/segment_internal.h"
#include "test.h"

static uint64_t seed = 1;
static uint32_t next_random(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((seed >> 32) * n) >> 32);
}

struct doc {
    char id[24];
    struct buf raw;
};

/* Documents whose ids interleave with those of other `parts`; every kind of text has words of its own. */
static struct doc *make_docs(size_t n, unsigned part, unsigned parts, unsigned words) {
    struct doc *docs = xcalloc(n, sizeof *docs);
    for (size_t i = 0; i < n; i++) {
        struct buf *b = &docs[i].raw;
        snprintf(docs[i].id, sizeof docs[i].id, "doc-%08zu", i * parts + part);
        buf_printf(b, "{\"id\":\"%s\",\"text\":\"", docs[i].id);
        for (unsigned k = next_random(words); k; k--)
            buf_printf(b, "w%u%03u ", part, next_random(next_random(900) + 1));
        buf_adds(b, "\"}");
    }
    return docs;
}

static void free_docs(struct doc *docs, size_t n) {
    for (size_t i = 0; i < n; i++) buf_release(&docs[i].raw);
    free(docs);
}

static int open_written(struct blob_writer *w, struct segment **ret, struct err *err) {
    struct blob *blob;
    size_t size;
    uint8_t *data = buf_detach(&w->mem, &size);
    int r = blob_open_memory(data, size, BLOB_KIND_SEGMENT, &blob, err);
    blob_writer_release(w);
    return r ? r : segment_open(blob, ret, err);
}

static int write_docs(const struct doc *docs, size_t n, struct segment **ret, struct err *err) {
    struct schema *schema = schema_new_empty();
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(schema, &out);
    int r = 0;
    for (size_t i = 0; i < n && !r; i++)
        r = segment_writer_add(w, docs[i].id, strlen(docs[i].id), i + 1, 1, (char *)docs[i].raw.data,
                               docs[i].raw.len, err);
    if (!r) r = segment_writer_finish(w, NULL, &size, &checksum, err);
    segment_writer_free(w);
    schema_unref(schema);
    return r ? r : open_written(&out, ret, err);
}

static bool same_doc(const struct segment *s, uint32_t docno, const struct doc *d) {
    struct buf raw = BUF_INIT;
    struct err err = ERR_INIT;
    uint32_t size = 0;
    bool same = !segment_doc(s, docno, &raw, &err) && !segment_doc_size(s, docno, &size, &err) &&
                size == d->raw.len && raw.len == d->raw.len && !memcmp(raw.data, d->raw.data, raw.len);
    buf_release(&raw);
    return same;
}

static size_t dictionaries(const struct segment *s) {
    const struct region *region = segment_region(s, NULL, REGION_DOC_DICTS);
    const uint8_t *p;
    if (!region || blob_need(s->blob, region->off, region->len, &p, NULL)) return 0;
    return get_u32(p);
}

static void check_written(size_t n, unsigned words, bool dictionary) {
    struct err err = ERR_INIT;
    struct segment *s;
    struct doc *docs = make_docs(n, 1, 1, words);
    CHECK_OK(write_docs(docs, n, &s, &err));
    CHECK(dictionaries(s) == dictionary);
    CHECK_OK(segment_verify(s, &err));
    for (uint32_t d = 0; d < n; d++) CHECK(same_doc(s, d, &docs[d]));
    for (int i = 0; i < 500; i++) {
        uint32_t d = next_random((uint32_t)n);
        CHECK(same_doc(s, d, &docs[d]));
    }
    segment_unref(s);
    free_docs(docs, n);
}

TEST(few_documents_have_no_dictionary) {
    check_written(1, 10, false);
    check_written(300, 40, false);
}
TEST(many_have_one) {
    check_written(900, 200, true);  /* fewer than a full sample */
    check_written(30000, 20, true); /* small ones share blocks */
    check_written(40, 9000, true);  /* large ones */
}

/* Dictionaries go along with the blocks that need them, and only these. */
TEST(merged) {
    enum { PARTS = 4, N = 2000 };
    struct err err = ERR_INIT;
    struct schema *schema = schema_new_empty();
    struct merge_input in[PARTS];
    struct doc *docs[PARTS];
    struct segment *merged;
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    for (unsigned p = 0; p < PARTS; p++) { /* the last one is too small for a dictionary of its own */
        docs[p] = make_docs(p + 1 < PARTS ? N : 50, p, PARTS, 300);
        in[p] = (struct merge_input){0};
        CHECK_OK(write_docs(docs[p], p + 1 < PARTS ? N : 50, &in[p].segment, &err));
        CHECK(dictionaries(in[p].segment) == (p + 1 < PARTS));
    }
    struct deletes *dead = deletes_new(in[1].segment); /* everything of it dies */
    for (uint32_t d = 0; d < N; d++) CHECK(deletes_add(dead, in[1].segment, d, &err) >= 0);
    in[1].deletes = dead;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK_OK(segment_merge(schema, in, PARTS, &out, NULL, NULL, &size, &checksum, NULL, &err));
    CHECK_OK(open_written(&out, &merged, &err));
    for (unsigned p = 0; p < PARTS; p++) segment_unref(in[p].segment);
    CHECK_OK(segment_verify(merged, &err));
    CHECK(segment_n_docs(merged) == 2 * N + 50);
    CHECK(dictionaries(merged) == 2);
    for (unsigned p = 0; p < PARTS; p++) {
        for (size_t i = 0; p != 1 && i < (p + 1 < PARTS ? N : 50); i++) {
            uint32_t docno;
            CHECK_OK(segment_find_id(merged, docs[p][i].id, strlen(docs[p][i].id), &docno, &err));
            CHECK(docno != DOCNO_NONE && same_doc(merged, docno, &docs[p][i]));
        }
        free_docs(docs[p], p + 1 < PARTS ? N : 50);
    }
    deletes_unref(dead);
    segment_unref(merged);
    schema_unref(schema);
}

/* Damaged regions are refused, or give a dictionary that does not unpack; nothing is read outside of them. */
TEST(damaged_dictionaries) {
    struct err err = ERR_INIT;
    struct doc *docs = make_docs(1000, 0, 1, 200);
    struct segment *s;
    const uint8_t *p;
    CHECK_OK(write_docs(docs, 1000, &s, &err));
    const struct region *region = segment_region(s, NULL, REGION_DOC_DICTS);
    CHECK(region != NULL);
    CHECK_OK(blob_need(s->blob, region->off, region->len, &p, &err));
    for (int round = 0; round < 3000; round++) {
        size_t len = next_random(3) ? region->len : next_random((uint32_t)region->len);
        uint8_t *copy = xmalloc(len);
        struct doc_dicts *dicts;
        memcpy(copy, p, len);
        for (unsigned i = next_random(3); i && len; i--)
            copy[next_random(2) ? next_random((uint32_t)MIN(len, (size_t)16)) : next_random((uint32_t)len)] ^=
                (uint8_t)(1 + next_random(255));
        if (!doc_dicts_open(copy, len, "copy", &dicts, &err)) {
            size_t n;
            const struct doc_dict *all = doc_dicts_all(dicts, &n);
            for (size_t i = 0; i < n; i++) doc_dicts_find(dicts, all[i].id);
            CHECK(!doc_dicts_find(dicts, all[0].id + 1));
            doc_dicts_free(dicts);
        } else {
            CHECK(err.code == ERR_CORRUPT);
        }
        err_clear(&err);
        free(copy);
    }
    segment_unref(s);
    free_docs(docs, 1000);
}

TEST(sizes_beyond_every_limit) {
    struct err err = ERR_INIT;
    struct doc_dicts *dicts;
    uint8_t region[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    CHECK(doc_dicts_open(region, sizeof region, "x", &dicts, &err) == -ERR_CORRUPT);
    put_u32(region, 1);
    put_u32(region + 4, UINT32_MAX);
    CHECK(doc_dicts_open(region, sizeof region, "x", &dicts, &err) == -ERR_CORRUPT);
}
