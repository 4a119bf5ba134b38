/* Segments: everything written is read back (against a model), lookups at boundaries, damage. */
#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

#include "util/clock.h"
#include "segment_model.h"

#ifndef FLIP_ROUNDS
#define FLIP_ROUNDS 120 /* more by hand: -DFLIP_ROUNDS=100000 */
#endif

static struct schema *schema_of(const char *json) {
    struct schema *s = NULL;
    struct err err = ERR_INIT;
    if (schema_parse(json, strlen(json), &s, &err)) fprintf(stderr, "%s\n", err.text);
    return s;
}

static void check_round_trip(size_t n, uint64_t seed) {
    struct err err = ERR_INIT;
    struct schema *schema = schema_of(model_schema);
    struct segment *s;
    struct buf want = BUF_INIT, have = BUF_INIT;
    CHECK(schema != NULL);
    model_seed(seed);
    struct model_doc *docs = model_docs(n, 3, 1000);
    const struct model_doc **p = model_pointers(docs, n);
    CHECK_OK(model_segment(schema, p, n, &s, &err));
    CHECK_OK(segment_verify(s, &err));
    CHECK(segment_n_docs(s) == n);
    model_dump(p, n, &want);
    CHECK_OK(dump_segment(s, &have, &err));
    CHECK(same_dump(&want, &have));
    segment_unref(s);
    buf_release(&want);
    buf_release(&have);
    model_docs_free(docs, n);
    free(p);
    schema_unref(schema);
}

TEST(round_trip_one) {
    check_round_trip(1, 1);
}
TEST(round_trip_small) {
    for (size_t n = 2; n < 40; n += 5) check_round_trip(n, n);
}
TEST(round_trip_many) {
    check_round_trip(1500, 7);
}

TEST(find_and_ceil) {
    enum { N = 500 };
    struct err err = ERR_INIT;
    struct schema *schema = schema_of(model_schema);
    struct segment *s;
    struct model_doc *docs = model_docs(N, 4, 1);
    const struct model_doc **p = model_pointers(docs, N);
    CHECK_OK(model_segment(schema, p, N, &s, &err));
    for (uint32_t i = 0; i < N; i++) {
        uint32_t d;
        char near[80];
        size_t len = strlen(docs[i].id);
        CHECK_OK(segment_find_id(s, docs[i].id, len, &d, &err));
        CHECK(d == i);
        CHECK_OK(segment_id_ceil(s, docs[i].id, len, &d, &err));
        CHECK(d == i);
        snprintf(near, sizeof near, "%s!", docs[i].id); /* just above it */
        CHECK_OK(segment_find_id(s, near, len + 1, &d, &err));
        CHECK(d == DOCNO_NONE);
        CHECK_OK(segment_id_ceil(s, near, len + 1, &d, &err));
        CHECK(d == i + 1);
        CHECK_OK(segment_find_id(s, docs[i].id, len - 1, &d, &err)); /* below it */
        uint32_t at;
        CHECK_OK(segment_id_ceil(s, docs[i].id, len - 1, &at, &err));
        CHECK(at <= i && (d == DOCNO_NONE || d == at));
    }
    uint32_t d;
    CHECK_OK(segment_id_ceil(s, "", 0, &d, &err));
    CHECK(d == 0);
    CHECK_OK(segment_id_ceil(s, "\xff", 1, &d, &err));
    CHECK(d == N);
    CHECK_OK(segment_find_id(s, "", 0, &d, &err));
    CHECK(d == DOCNO_NONE);
    struct buf b = BUF_INIT;
    CHECK(segment_doc(s, N, &b, &err) == -ERR_CORRUPT);
    CHECK(segment_id(s, N, &b, &err) == -ERR_CORRUPT);
    buf_release(&b);
    segment_unref(s);
    model_docs_free(docs, N);
    free(p);
    schema_unref(schema);
}

TEST(ids_with_nul_and_prefixes) {
    static const struct {
        const char *id;
        size_t len;
    } ids[] = {{"", 0},     {"\0", 1}, {"\0\0", 2}, {"a", 1},       {"a\0", 2},
               {"a\0b", 3}, {"aa", 2}, {"b", 1},    {"\xff\xff", 2}};
    struct err err = ERR_INIT;
    struct schema *schema = schema_new_empty();
    struct blob_writer out;
    struct segment_summary sum;
    struct segment *s;
    uint64_t size;
    uint32_t checksum, d;
    char big[ID_MAX_BYTES + 1];
    memset(big, 'c', sizeof big);
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(schema, &out);
    for (size_t i = 0; i < ARRAY_SIZE(ids) - 1; i++)
        CHECK_OK(segment_writer_add(w, ids[i].id, ids[i].len, i + 1, 5, "{}", 2, &err));
    CHECK(segment_writer_add(w, "b", 1, 9, 5, "{}", 2, &err) == -ERR_INVALID);
    CHECK(segment_writer_add(w, "a", 1, 9, 5, "{}", 2, &err) == -ERR_INVALID);
    CHECK(segment_writer_add(w, big, sizeof big, 9, 5, "{}", 2, &err) == -ERR_INVALID);
    CHECK_OK(segment_writer_add(w, big, sizeof big - 1, 9, 5, "{}", 2, &err));
    CHECK_OK(segment_writer_add(w, ids[8].id, ids[8].len, 10, 5, "{}", 2, &err));
    CHECK_OK(segment_writer_finish(w, &sum, &size, &checksum, &err));
    segment_writer_free(w);
    CHECK(sum.n_docs == 10 && sum.seq_min == 1 && sum.seq_max == 10 && sum.raw_bytes == 20);
    CHECK(sum.id_min_len == 0 && sum.id_max_len == 2 && sum.time_min == 5 && sum.time_max == 5);
    CHECK_OK(model_open_memory(&out, &s, &err));
    blob_writer_release(&out);
    CHECK_OK(segment_verify(s, &err));
    for (uint32_t i = 0; i < 8; i++) {
        CHECK_OK(segment_find_id(s, ids[i].id, ids[i].len, &d, &err));
        CHECK(d == i);
    }
    CHECK_OK(segment_find_id(s, big, sizeof big - 1, &d, &err));
    CHECK(d == 8);
    CHECK_OK(segment_find_id(s, "a\0a", 3, &d, &err));
    CHECK(d == DOCNO_NONE);
    segment_unref(s);
    schema_unref(schema);
}

TEST(text_details) {
    static const char json[] = "{\"indexConfigs\":{\"t\":{\"type\":\"text\",\"analyzers\":[\"english\"]},"
                               "\"k\":{\"type\":\"keyword\"}}}";
    struct err err = ERR_INIT;
    struct schema *schema = schema_of(json);
    struct blob_writer out;
    struct segment *s;
    struct buf doc = BUF_INIT;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(schema, &out);
    const char *a = "{\"t\":[\"white whale\",\"the\",\"sea\"]}", *b = "{\"t\":\"the of and\"}";
    CHECK_OK(segment_writer_add(w, "a", 1, 1, 1, a, strlen(a), &err));
    CHECK_OK(segment_writer_add(w, "b", 1, 2, 1, b, strlen(b), &err));
    buf_adds(&doc, "{\"k\":[\"short\",\"short\",\"");
    for (int i = 0; i < KEYWORD_MAX_CHARS; i++) buf_adds(&doc, "\u00e9");
    buf_adds(&doc, "\",\"x");
    for (int i = 0; i < KEYWORD_MAX_CHARS; i++) buf_adds(&doc, "\u00e9");
    buf_adds(&doc, "\"]}");
    CHECK_OK(segment_writer_add(w, "c", 1, 3, 1, (char *)doc.data, doc.len, &err));
    CHECK_OK(segment_writer_finish(w, NULL, &size, &checksum, &err));
    segment_writer_free(w);
    CHECK_OK(model_open_memory(&out, &s, &err));
    blob_writer_release(&out);
    CHECK_OK(segment_verify(s, &err));

    const struct segment_field *t = segment_field(s, "t", 1, FIELD_TEXT, ANALYZER_ENGLISH);
    const struct segment_field *k = segment_field(s, "k", 1, FIELD_KEYWORD, 0);
    CHECK(t && k && !segment_field(s, "t", 1, FIELD_TEXT, ANALYZER_STANDARD) &&
          !segment_field(s, "t", 1, FIELD_LONG, 0));
    struct field_stats stats;
    segment_field_stats(t, &stats); /* only stop words: not a document with the field */
    CHECK(stats.n_docs == 1 && stats.sum_ttf == 3);
    struct term_info info;
    struct postings p;
    CHECK_OK(term_find(t, "sea", 3, &info, &err));
    CHECK_OK(postings_open(&p, t, &info, true, true, &err));
    CHECK(postings_next(&p) == 0);
    CHECK(postings_positions(&p)[0] == 2 + 100 + 100); /* two gaps */
    postings_close(&p);
    CHECK(term_count(k) == 2); /* the string above the limit is not there */
    const struct column *c;
    CHECK_OK(column_open(k, &c, &err));
    CHECK(column_count(c, 2) == 2 && column_count(c, 0) == 0 && column_count(c, 77) == 0);
    CHECK(column_open(t, &c, &err) == -ERR_UNSUPPORTED);
    buf_release(&doc);
    segment_unref(s);
    schema_unref(schema);
}

/* A document far larger than a block, between small ones. */
TEST(huge_document) {
    struct err err = ERR_INIT;
    struct schema *schema = schema_new_empty();
    struct blob_writer out;
    struct segment *s;
    struct buf doc = BUF_INIT, have = BUF_INIT;
    uint64_t size;
    uint32_t checksum, n;
    buf_adds(&doc, "{\"x\":\"");
    model_seed(3);
    for (int i = 0; i < 3000000; i++) buf_addc(&doc, (char)('a' + model_random(26)));
    buf_adds(&doc, "\"}");
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(schema, &out);
    CHECK_OK(segment_writer_add(w, "a", 1, 1, 1, "{\"a\":1}", 7, &err));
    CHECK_OK(segment_writer_add(w, "b", 1, 2, 1, (char *)doc.data, doc.len, &err));
    CHECK_OK(segment_writer_add(w, "c", 1, 3, 1, "{\"c\":1}", 7, &err));
    CHECK_OK(segment_writer_finish(w, NULL, &size, &checksum, &err));
    segment_writer_free(w);
    CHECK_OK(model_open_memory(&out, &s, &err));
    blob_writer_release(&out);
    CHECK_OK(segment_verify(s, &err));
    CHECK_OK(segment_doc(s, 1, &have, &err));
    CHECK(have.len == doc.len && !memcmp(have.data, doc.data, doc.len));
    buf_clear(&have);
    CHECK_OK(segment_doc(s, 2, &have, &err));
    CHECK(have.len == 7 && !memcmp(have.data, "{\"c\":1}", 7));
    CHECK_OK(segment_doc_size(s, 1, &n, &err));
    CHECK(n == doc.len);
    buf_release(&doc);
    buf_release(&have);
    segment_unref(s);
    schema_unref(schema);
}

/* Columns of every shape against a plain array, ranges included. */
static void check_column(uint32_t n_docs, unsigned density, unsigned most, int shape) {
    struct err err = ERR_INIT;
    struct column_builder b = {0};
    struct blob_writer out;
    struct column c;
    uint64_t off, len, size, *exists = xcalloc(bitmap_words(n_docs), 8),
                             *bits = xcalloc(bitmap_words(n_docs), 8);
    uint32_t checksum, n_with = 0;
    int64_t *lo = xcalloc(n_docs, 8), *hi = xcalloc(n_docs, 8);
    uint32_t *count = xcalloc(n_docs, 4);
    for (uint32_t d = 0; d < n_docs; d++) {
        count[d] = model_random(100) < density ? 1 + model_random(most) : 0;
        for (uint32_t i = 0; i < count[d]; i++) {
            int64_t v = shape == 0   ? 42
                        : shape == 1 ? (int64_t)model_random(1000) - 500
                        : shape == 2 ? (int64_t)model_random(5000) * 86400000
                        : shape == 3
                            ? (model_random(2) ? INT64_MAX : INT64_MIN) + (model_random(2) ? -1 : 1) * 0
                            : (int64_t)(((uint64_t)model_random(1u << 31) << 33) | model_random(1u << 31));
            column_builder_add(&b, d, v);
            lo[d] = i ? MIN(lo[d], v) : v;
            hi[d] = i ? MAX(hi[d], v) : v;
        }
        n_with += count[d] != 0;
    }
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK(column_write(&b, n_docs, &out, exists, &off, &len) == n_with);
    CHECK_OK(blob_writer_finish(&out, &size, &checksum, &err));
    CHECK_OK(
        column_decode(out.mem.data + off, len, n_docs, n_with < n_docs ? exists : NULL, "test", &c, &err));
    CHECK_OK(column_verify(&c, &err));
    for (uint32_t d = 0; d < n_docs; d++) {
        CHECK(column_count(&c, d) == count[d]);
        if (!count[d]) continue;
        CHECK(column_value(&c, d, 0) == lo[d] && column_value(&c, d, count[d] - 1) == hi[d]);
        for (uint32_t i = 1; i < count[d]; i++) CHECK(column_value(&c, d, i - 1) <= column_value(&c, d, i));
    }
    for (int round = 0; round < 12; round++) {
        int64_t from = b.n ? b.values[model_random((uint32_t)b.n)] : 0,
                to = b.n ? b.values[model_random((uint32_t)b.n)] : 0;
        if (round == 0) from = INT64_MIN, to = INT64_MAX;
        if (round % 3 == 1 && from > INT64_MIN && to < INT64_MAX) from--, to++;
        if (round % 3 == 2 && from < INT64_MAX && to > INT64_MIN) from++, to--;
        memset(bits, 0, bitmap_words(n_docs) * 8);
        column_range(&c, from, to, bits);
        for (uint32_t d = 0; d < n_docs; d++) {
            bool in = false;
            for (uint32_t i = 0; i < count[d]; i++) {
                int64_t v = column_value(&c, d, i);
                in |= v >= from && v <= to;
            }
            CHECK(bitmap_get(bits, d) == in);
        }
    }
    blob_writer_release(&out);
    column_builder_release(&b);
    free(exists);
    free(bits);
    free(lo);
    free(hi);
    free(count);
}

TEST(columns) {
    model_seed(11);
    for (int shape = 0; shape < 5; shape++) {
        check_column(1, 100, 1, shape);
        check_column(63, 100, 1, shape);
        check_column(COLUMN_BLOCK, 100, 1, shape);
        check_column(COLUMN_BLOCK + 1, 100, 1, shape);
        check_column(9000, 100, 1, shape);
        check_column(9000, 30, 1, shape);
        check_column(9000, 2, 1, shape);
        check_column(9000, 100, 3, shape);
        check_column(5000, 60, 40, shape);
        check_column(300, 0, 1, shape);
    }
}

TEST(packed_arrays) {
    model_seed(5);
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t v[301], max = 0;
        struct buf b = BUF_INIT;
        for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
            v[i] = ((uint64_t)model_random(1u << 31) << 40) ^ ((uint64_t)model_random(1u << 31) << 20) ^
                   model_random(1u << 31);
            v[i] = bits ? v[i] >> (64 - bits) : 0;
            max = MAX(max, v[i]);
        }
        unsigned width = packed_width(max);
        packed_add(&b, v, ARRAY_SIZE(v), width);
        CHECK(b.len == packed_size(ARRAY_SIZE(v), width));
        for (size_t i = 0; i < ARRAY_SIZE(v); i++) CHECK(packed_get(b.data, i, width) == v[i]);
        buf_release(&b);
    }
}

/* Every read of a damaged segment gives right data or ERR_CORRUPT. First as it is stored, with page
 * checksums; then with checksums made good again, so that the decoders themselves meet the damage (answers
 * may then be wrong, but no read leaves the object). */
static void touch_everything(struct segment *s) {
    struct buf out = BUF_INIT;
    struct err err = ERR_INIT;
    uint32_t d;
    (void)segment_verify(s, &err);
    if (segment_field(s, "never", 5, FIELD_TEXT, 0) &&
        segment_field(s, "title", 5, FIELD_TEXT, ANALYZER_ENGLISH) &&
        segment_field(s, "title", 5, FIELD_TEXT, 0) && segment_field(s, "who.bio", 7, FIELD_TEXT, 0) &&
        segment_field(s, "id", 2, FIELD_KEYWORD, 0) && segment_field(s, "tag", 3, FIELD_KEYWORD, 0) &&
        segment_field(s, "who.name", 8, FIELD_KEYWORD, 0) && segment_field(s, "year", 4, FIELD_LONG, 0) &&
        segment_field(s, "price", 5, FIELD_DOUBLE, 0) && segment_field(s, "ok", 2, FIELD_BOOLEAN, 0) &&
        segment_field(s, "when", 4, FIELD_DATETIME, 0) && segment_field(s, "emb", 3, FIELD_VECTOR, 0) &&
        segment_n_docs(s) < 1000)
        (void)dump_segment(s, &out, &err);
    (void)segment_find_id(s, "doc-00000005", 12, &d, &err);
    buf_release(&out);
}

static void restore_checksums(uint8_t *data, size_t size) {
    uint8_t *t = data + size - BLOB_TRAILER_SIZE;
    uint64_t end = get_u64(t);
    uint32_t n = get_u32(t + 8);
    if (end > size || end + 4ull * n + BLOB_TRAILER_SIZE != size) return;
    for (uint32_t i = 0; i < n; i++)
        put_u32(data + end + 4ull * i, crc32c(0, data + (size_t)i * BLOB_PAGE,
                                              MIN((uint64_t)BLOB_PAGE, end - (uint64_t)i * BLOB_PAGE)));
    put_u32(t + BLOB_TRAILER_SIZE - 4, crc32c(0, data + end, 4ull * n + BLOB_TRAILER_SIZE - 4));
}

static void check_flips(bool fix_checksums, int rounds) {
    enum { N = 60 };
    struct err err = ERR_INIT;
    struct schema *schema = schema_of(model_schema);
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    struct model_doc *docs = model_docs(N, 2, 1);
    const struct model_doc **p = model_pointers(docs, N);
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK_OK(model_write(schema, p, N, &out, &size, &checksum, &err));
    for (int i = 0; i < rounds; i++) {
        uint8_t *copy = memcpy(xmalloc(size), out.mem.data, size);
        struct blob *blob;
        struct segment *s;
        size_t at = model_random((uint32_t)size);
        if (model_random(3) == 0) at = size - 1 - model_random((uint32_t)MIN(size - 1, (uint64_t)1500));
        copy[at] ^= (uint8_t)(1 + model_random(255));
        if (fix_checksums) restore_checksums(copy, size);
        int r = blob_open_memory(copy, size, BLOB_KIND_SEGMENT, &blob, &err);
        CHECK(fix_checksums || r == -ERR_CORRUPT);
        if (r) {
            CHECK(r == -ERR_CORRUPT);
            continue;
        }
        r = segment_open(blob, &s, &err);
        CHECK(!r || r == -ERR_CORRUPT);
        if (r) continue;
        touch_everything(s);
        segment_unref(s);
    }
    blob_writer_release(&out);
    model_docs_free(docs, N);
    free(p);
    schema_unref(schema);
}

TEST(flipped_bytes) {
    model_seed(21);
    check_flips(false, 100);
}
TEST(flipped_bytes_good_checksums) {
    model_seed(22);
    check_flips(true, FLIP_ROUNDS);
}

/* One segment, many threads: what is made at first use is made once, and everybody reads the same. */
struct reader {
    const struct segment *segment;
    struct buf dump;
    int result;
};

static void *read_all(void *arg) {
    struct reader *r = arg;
    r->result = dump_segment(r->segment, &r->dump, NULL);
    return NULL;
}

TEST(threads) {
    enum { N = 300, THREADS = 4 };
    struct err err = ERR_INIT;
    struct schema *schema = schema_of(model_schema);
    struct segment *s;
    struct reader readers[THREADS];
    pthread_t threads[THREADS];
    struct model_doc *docs = model_docs(N, 3, 1);
    const struct model_doc **p = model_pointers(docs, N);
    CHECK_OK(model_segment(schema, p, N, &s, &err));
    for (int i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){.segment = s};
        pthread_create(&threads[i], NULL, read_all, &readers[i]);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        CHECK(readers[i].result == 0 && same_dump(&readers[0].dump, &readers[i].dump));
        if (i) buf_release(&readers[i].dump);
    }
    buf_release(&readers[0].dump);
    segment_unref(s);
    model_docs_free(docs, N);
    free(p);
    schema_unref(schema);
}

/* Through ranged gets, where bytes that nobody asked for are not there. */
static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}

TEST(fetched) {
    enum { N = 1200 };
    struct err err = ERR_INIT;
    struct schema *schema = schema_of(model_schema);
    struct blob_writer out;
    struct object_store *store;
    struct segment *s;
    struct blob *blob;
    struct buf want = BUF_INIT, have = BUF_INIT;
    uint64_t size;
    uint32_t checksum, docno;
    char dir[] = "/tmp/test_segment.XXXXXX";
    struct model_doc *docs = model_docs(N, 3, 1);
    const struct model_doc **p = model_pointers(docs, N);
    CHECK(mkdtemp(dir) != NULL);
    CHECK_OK(object_store_dir_open(dir, &clock_system, &store, &err));
    store = object_store_remote(store, 0, 0);
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK_OK(model_write(schema, p, N, &out, &size, &checksum, &err));
    CHECK_OK(object_put(store, "data/s", out.mem.data, out.mem.len, PUT_ALWAYS, NULL, NULL, &err));
    blob_writer_release(&out);
    for (int i = 0; i <= 20; i++) {
        CHECK_OK(blob_open(store, "data/s", NULL, BLOB_KIND_SEGMENT, size, checksum, &blob, &err));
        CHECK_OK(segment_open(blob, &s, &err));
        uint32_t d = model_random(N);
        CHECK_OK(segment_find_id(s, docs[d].id, strlen(docs[d].id), &docno, &err));
        CHECK(docno == d);
        buf_clear(&have);
        CHECK_OK(segment_doc(s, d, &have, &err));
        CHECK(have.len == docs[d].raw_len && !memcmp(have.data, docs[d].raw, have.len));
        if (i == 20) {
            buf_clear(&have);
            model_dump(p, N, &want);
            CHECK_OK(dump_segment(s, &have, &err));
            CHECK(same_dump(&want, &have));
            CHECK_OK(segment_verify(s, &err));
        }
        segment_unref(s);
    }
    buf_release(&want);
    buf_release(&have);
    object_store_close(store);
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    model_docs_free(docs, N);
    free(p);
    schema_unref(schema);
}
