/* Nearest neighbours over segments with clusters: recall, filters, deletes, merges, damage. */
#include "test.h"

#include <math.h>

#include "index/cluster.h"
#include "index/parallel.h"
#include "index/segment.h"
#include "query/search.h"
#include "util/codec.h"

enum { DIMENSIONS = 24, MOST_DIMENSIONS = 300, MAX_ROWS = 3000, QUERIES = 40, NAMES = 60 };
static unsigned dimensions = DIMENSIONS;
static const char *const similarities[] = {"cosine", "euclidean", "dot_product", "max_inner_product"};

static struct err err;
static uint64_t draws;
static double uniform(void) {
    draws++;
    return (double)(hash64(&draws, sizeof draws, 4711) >> 11) / 9007199254740992.0;
}
static float normal(void) {
    return (float)(sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform()));
}

/* ---- collections ---- */

struct rows {
    uint32_t n;
    float values[MAX_ROWS][MOST_DIMENSIONS];
    bool has[MAX_ROWS];
    unsigned tag[MAX_ROWS];
};
static struct rows rows;

/* centers 0: without structure. */
static void make_rows(uint32_t n, unsigned centers, uint64_t seed) {
    static float middle[64][MOST_DIMENSIONS];
    draws = seed * 1000000;
    rows.n = n;
    for (unsigned c = 0; c < centers; c++)
        for (unsigned d = 0; d < dimensions; d++) middle[c][d] = normal();
    for (uint32_t i = 0; i < n; i++) {
        unsigned c = centers ? (unsigned)(uniform() * centers) : 0;
        rows.has[i] = i % 11 != 3;
        rows.tag[i] = (unsigned)(uniform() * 1000);
        for (unsigned d = 0; d < dimensions; d++)
            rows.values[i][d] = centers ? middle[c][d] + 0.4f * normal() : normal();
    }
}

static struct schema *schema_with(unsigned similarity) {
    char json[300];
    struct schema *s;
    snprintf(
        json, sizeof json,
        "{\"dynamic\":false,\"indexConfigs\":{\"v\":{\"type\":\"vector\",\"dimensions\":%u,\"similarity\":"
        "\"%s\"},\"tag\":{\"type\":\"long\"},\"name\":{\"type\":\"keyword\"}}}",
        dimensions, similarities[similarity]);
    if (schema_parse(json, strlen(json), &s, &err)) abort();
    return s;
}

static void add_document(struct segment_writer *w, uint32_t i) {
    struct buf doc = BUF_INIT;
    char id[16];
    snprintf(id, sizeof id, "%06u", i);
    buf_printf(&doc, "{\"tag\":%u,\"name\":\"n%u\"", rows.tag[i], i % NAMES);
    for (unsigned d = 0; rows.has[i] && d < dimensions; d++)
        buf_printf(&doc, "%s%.9g", d ? "," : ",\"v\":[", (double)rows.values[i][d]);
    buf_adds(&doc, rows.has[i] ? "]}" : "}");
    if (segment_writer_add(w, id, strlen(id), i + 1, 1, (char *)doc.data, doc.len, &err)) abort();
    buf_release(&doc);
}

static struct segment *open_bytes(struct blob_writer *out) {
    struct blob *blob;
    struct segment *s;
    size_t len;
    uint8_t *bytes = buf_detach(&out->mem, &len);
    blob_writer_release(out);
    if (blob_open_memory(bytes, len, BLOB_KIND_SEGMENT, &blob, &err) || segment_open(blob, &s, &err))
        return NULL;
    return s;
}

/* Of rows first, first + step, ... */
static struct segment *segment_of(struct schema *schema, uint32_t first, uint32_t step) {
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(schema, &out);
    for (uint32_t i = first; i < rows.n; i += step) add_document(w, i);
    if (segment_writer_finish(w, NULL, &size, &checksum, &err)) abort();
    segment_writer_free(w);
    return open_bytes(&out);
}

/* ---- asking ---- */

/* knn on parts; recall 0: nothing said. */
static struct knn_result nearest(struct schema *schema, const struct search_part *parts, size_t n_parts,
                                 const float *vector, unsigned k, double recall, const char *filter) {
    struct buf json = BUF_INIT;
    struct query_request req;
    struct query *query;
    struct knn_result result = {0};
    query_request_init(&req);
    buf_printf(&json, "{\"knn\":{\"field\":\"v\",\"k\":%u", k);
    if (recall > 0) buf_printf(&json, ",\"recall\":%g", recall);
    if (filter) buf_printf(&json, ",\"filter\":\"%s\"", filter);
    for (unsigned d = 0; d < dimensions; d++)
        buf_printf(&json, "%s%.9g", d ? "," : ",\"queryVector\":[", (double)vector[d]);
    buf_adds(&json, "]}}");
    req.json = (char *)buf_str(&json);
    if (query_compile(&req, schema, NULL, 0, &query, &err)) abort();
    const struct segment_field *f = segment_field(parts[0].segment, "v", 1, FIELD_VECTOR, 0);
    if (search_knn_whole(query, 0, parts[0].segment) != (recall != 1 && vectors_are_clustered(f)))
        test_failures++;
    if (search_knn(query, 0, NULL, parts, n_parts, NULL, &result, &err))
        fprintf(stderr, "%s\n", err.text), test_failures++;
    query_free(query);
    buf_release(&json);
    return result;
}

static bool same_hits(const struct knn_result *a, const struct knn_result *b) {
    bool same = a->n == b->n;
    for (uint32_t i = 0; same && i < a->n; i++)
        same = !memcmp(&a->hits[i].score, &b->hits[i].score, sizeof(float)) &&
               a->hits[i].docno == b->hits[i].docno;
    return same;
}

/* How many of the exact hits were found; by score, so that ties count. */
static uint32_t found_of(const struct knn_result *got, const struct knn_result *exact) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < got->n && exact->n; i++)
        n += got->hits[i].score >= exact->hits[exact->n - 1].score;
    return n;
}

static void query_vector(unsigned i, float *out) {
    uint32_t row = (i * 37 + 5) % rows.n;
    for (unsigned d = 0; d < dimensions; d++) out[d] = rows.values[row][d] + 0.3f * normal();
}

/* Recall over some queries; -1: an answer that is wrong in itself. */
static double recall_of(struct schema *schema, const struct search_part *part, unsigned k, double recall,
                        const char *filter) {
    double found = 0, wanted = 0;
    for (unsigned q = 0; q < QUERIES; q++) {
        float v[MOST_DIMENSIONS];
        query_vector(q, v);
        struct knn_result exact = nearest(schema, part, 1, v, k, 1, filter);
        struct knn_result got = nearest(schema, part, 1, v, k, recall, filter);
        bool whole = got.n == exact.n;
        found += found_of(&got, &exact);
        wanted += exact.n;
        for (uint32_t i = 1; i < got.n; i++)
            whole &=
                got.hits[i - 1].score > got.hits[i].score ||
                (got.hits[i - 1].score == got.hits[i].score && got.hits[i - 1].docno < got.hits[i].docno);
        search_knn_release(&exact);
        search_knn_release(&got);
        if (!whole) return -1;
    }
    return wanted > 0 ? found / wanted : 1;
}

/* ---- tests ---- */

TEST(recall_is_reached) {
    static const struct {
        unsigned similarity, centers;
    } cases[] = {{1, 30}, {1, 0}, {0, 30}, {0, 0}, {2, 20}, {3, 30}, {3, 0}};
    clusters_set_threshold(500);
    for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
        make_rows(1600, cases[c].centers, c + 1);
        struct schema *schema = schema_with(cases[c].similarity);
        struct segment *s = segment_of(schema, 0, 1);
        struct search_part part = {.segment = s, .doc_hi = segment_n_docs(s)};
        CHECK(vectors_are_clustered(segment_field(s, "v", 1, FIELD_VECTOR, 0)));
        CHECK_OK(segment_verify(s, &err));
        /* Over 40 queries the recall itself has an error of about 0.03 here, and 0.004 at 0.99. */
        CHECK(recall_of(schema, &part, 10, 0.8, NULL) >= 0.77);
        CHECK(recall_of(schema, &part, 10, 0, NULL) >= 0.98);
        CHECK(recall_of(schema, &part, 1, 0.95, NULL) >= 0.93);
        CHECK(recall_of(schema, &part, 100, 0.95, NULL) >= 0.945);
        CHECK(recall_of(schema, &part, 1000, 0.95, NULL) >= 0.945);
        segment_unref(s);
        schema_unref(schema);
    }
    clusters_set_threshold(0);
}

TEST(filters_and_deletes) {
    clusters_set_threshold(500);
    make_rows(2000, 25, 99);
    struct schema *schema = schema_with(1);
    struct segment *s = segment_of(schema, 0, 1);
    struct deletes *dead = deletes_new(s);
    for (uint32_t i = 0; i < rows.n; i += 3) CHECK(deletes_add(dead, s, i, &err) == 1);
    struct search_part part = {.segment = s, .doc_hi = segment_n_docs(s)};
    for (int round = 0; round < 2; round++) {
        static const char *const filters[] = {"tag:[0 TO 1]",   "tag:[0 TO 9]",   "tag:[0 TO 99]",
                                              "tag:[0 TO 499]", "tag:[0 TO 900]", "tag:[5000 TO 6000]"};
        part.deletes = round ? dead : NULL;
        for (size_t f = 0; f < ARRAY_SIZE(filters); f++) {
            CHECK(recall_of(schema, &part, 10, 0, filters[f]) >= 0.98);
            CHECK(recall_of(schema, &part, 300, 0, filters[f]) >= 0.98);
        }
        CHECK(recall_of(schema, &part, 10, 0, NULL) >= 0.98);
    }
    float v[MOST_DIMENSIONS];
    query_vector(1, v);
    struct knn_result all = nearest(schema, &part, 1, v, 5000, 0.5, NULL);
    for (uint32_t i = 0; i < all.n; i++) CHECK(all.hits[i].docno % 3 && rows.has[all.hits[i].docno]);
    uint32_t alive = 0;
    for (uint32_t i = 0; i < rows.n; i++) alive += i % 3 && rows.has[i];
    CHECK(all.n == alive); /* never fewer than there are */
    search_knn_release(&all);
    deletes_unref(dead);
    segment_unref(s);
    schema_unref(schema);
    clusters_set_threshold(0);
}

/* Exact answers do not depend on clusters, and approximate ones not on instructions. */
TEST(exact_is_exact) {
    make_rows(1200, 20, 7);
    for (unsigned similarity = 0; similarity < ARRAY_SIZE(similarities); similarity++) {
        struct schema *schema = schema_with(similarity);
        struct segment *flat = segment_of(schema, 0, 1);
        clusters_set_threshold(500);
        struct segment *s = segment_of(schema, 0, 1);
        clusters_set_threshold(0);
        struct search_part part = {.segment = s, .doc_hi = rows.n},
                           plain = {.segment = flat, .doc_hi = rows.n};
        CHECK(!vectors_are_clustered(segment_field(flat, "v", 1, FIELD_VECTOR, 0)));
        for (unsigned q = 0; q < 20; q++) {
            float v[MOST_DIMENSIONS];
            query_vector(q, v);
            struct knn_result a = nearest(schema, &plain, 1, v, 10, 0, NULL);
            struct knn_result b = nearest(schema, &part, 1, v, 10, 1, NULL);
            struct knn_result c = nearest(schema, &part, 1, v, 10, 0.9, NULL);
            simd_limit((enum simd_level)(q % SIMD_MOST));
            struct knn_result d = nearest(schema, &part, 1, v, 10, 0.9, NULL);
            struct knn_result e = nearest(schema, &part, 1, v, 10, 1, NULL);
            simd_limit(SIMD_MOST);
            CHECK(same_hits(&a, &b) && same_hits(&c, &d) && same_hits(&a, &e));
            struct knn_result *all[] = {&a, &b, &c, &d, &e};
            for (size_t i = 0; i < ARRAY_SIZE(all); i++) search_knn_release(all[i]);
        }
        segment_unref(flat);
        segment_unref(s);
        schema_unref(schema);
    }
}

/* All rows that a test allows, one by one, best first. */
static struct knn_result by_hand(const struct segment *s, const struct deletes *dead, const float *vector,
                                 unsigned name) {
    static struct search_hit hits[MAX_ROWS];
    struct vector_query q;
    struct vectors v;
    struct knn_result ret = {.hits = hits};
    if (vectors_open(segment_field(s, "v", 1, FIELD_VECTOR, 0), &v, &err)) abort();
    vector_query_init(&q, v.similarity, vector, dimensions);
    for (uint32_t row = 0; row < v.n; row++) {
        if (deletes_has(deletes_bits(dead), v.docs[row]) || (name < NAMES && v.docs[row] % NAMES != name))
            continue;
        float score =
            vector_query_score(&q, vector_query_product(&q, v.rows + (size_t)row * dimensions), v.norms[row]);
        uint32_t i = ret.n++;
        for (; i && hits[i - 1].score < score; i--) hits[i] = hits[i - 1];
        hits[i] = (struct search_hit){.score = score, .docno = v.docs[row]};
    }
    return ret;
}

/* Rows that are so long that a scan gives some of them up; filters that are lists, and some that are not. */
TEST(scans_against_every_row) {
    static const char *const filters[] = {NULL, "name:n7", "name:(n7 OR n7)", "name:n59", "name:nothing"};
    static const unsigned names[] = {NAMES, 7, 7, 59, NAMES};
    dimensions = MOST_DIMENSIONS;
    make_rows(1500, 12, 77);
    for (unsigned i = 0; i < 200; i++)
        memcpy(rows.values[i * 7], rows.values[5], sizeof rows.values[5]); /* ties */
    for (unsigned similarity = 0; similarity < ARRAY_SIZE(similarities); similarity++) {
        struct schema *schema = schema_with(similarity);
        struct segment *s = segment_of(schema, 0, 1);
        struct deletes *dead = deletes_new(s);
        for (uint32_t i = 0; i < rows.n; i += 4) CHECK(deletes_add(dead, s, i, &err) == 1);
        for (unsigned q = 0; q < 48; q++) {
            struct search_part part = {.segment = s, .doc_hi = rows.n, .deletes = q % 2 ? dead : NULL};
            float v[MOST_DIMENSIONS];
            unsigned f = q / 2 % ARRAY_SIZE(filters), k = q % 3 ? 10 : 40;
            query_vector(q, v);
            if (q % 5 == 0) memcpy(v, rows.values[5], sizeof v);
            simd_limit((enum simd_level)(q / 2 % (SIMD_MOST + 1)));
            struct knn_result got = nearest(schema, &part, 1, v, k, 1, filters[f]);
            simd_limit(SIMD_MOST);
            struct knn_result want = by_hand(s, part.deletes, v, names[f]);
            want.n = f == 4 ? 0 : MIN(want.n, k);
            CHECK(same_hits(&got, &want));
            search_knn_release(&got);
        }
        deletes_unref(dead);
        segment_unref(s);
        schema_unref(schema);
    }
    dimensions = DIMENSIONS;
}

/* A part of a clustered segment is scanned: only a whole segment has an approximate answer, which one call
 * gives. */
TEST(parts_of_a_segment_are_exact) {
    clusters_set_threshold(500);
    make_rows(1200, 20, 31);
    struct schema *schema = schema_with(1);
    struct segment *s = segment_of(schema, 0, 1);
    clusters_set_threshold(0);
    struct search_part whole = {.segment = s, .doc_hi = rows.n};
    struct search_part parts[] = {{.segment = s, .doc_hi = 333},
                                  {.segment = s, .doc_lo = 333, .doc_hi = rows.n}};
    for (unsigned q = 0; q < 20; q++) {
        float v[MOST_DIMENSIONS];
        query_vector(q, v);
        struct knn_result exact = nearest(schema, &whole, 1, v, 10, 1, NULL);
        struct knn_result got = nearest(schema, parts, 2, v, 10, 0.5, NULL);
        CHECK(same_hits(&exact, &got));
        search_knn_release(&exact);
        search_knn_release(&got);
    }
    segment_unref(s);
    schema_unref(schema);
}

TEST(merges_cluster_again) {
    struct blob_writer out, again;
    struct segment_summary sum;
    uint64_t size;
    uint32_t checksum, other;
    clusters_set_threshold(500);
    make_rows(1600, 25, 3);
    struct schema *schema = schema_with(1);
    struct segment *a = segment_of(schema, 0, 2), *b = segment_of(schema, 1, 2);
    struct deletes *dead = deletes_new(a);
    for (uint32_t i = 0; i < 200; i++) CHECK(deletes_add(dead, a, i * 3, &err) == 1);
    struct merge_input in[] = {{a, dead, NULL}, {b, NULL, NULL}};
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    blob_writer_init(&again, -1, BLOB_KIND_SEGMENT);
    parallel_set_threads(1);
    CHECK_OK(segment_merge(schema, in, 2, &out, NULL, &sum, &size, &checksum, NULL, &err));
    parallel_set_threads(3);
    CHECK_OK(segment_merge(schema, in, 2, &again, NULL, &sum, &size, &other, NULL, &err));
    parallel_set_threads(0);
    CHECK(checksum == other); /* to the byte, whatever the number of threads */
    struct segment *s = open_bytes(&out);
    blob_writer_release(&again);
    CHECK(s && vectors_are_clustered(segment_field(s, "v", 1, FIELD_VECTOR, 0)));
    CHECK_OK(segment_verify(s, &err));
    struct search_part part = {.segment = s, .doc_hi = segment_n_docs(s)};
    CHECK(recall_of(schema, &part, 10, 0, NULL) >= 0.98);
    volatile int cancel = 1;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    CHECK(segment_merge(schema, in, 2, &out, &cancel, NULL, &size, &checksum, NULL, &err) == -ERR_CANCELED);
    blob_writer_release(&out);
    deletes_unref(dead);
    segment_unref(a);
    segment_unref(b);
    segment_unref(s);
    schema_unref(schema);
    clusters_set_threshold(0);
}

TEST(identical_rows) {
    clusters_set_threshold(300);
    make_rows(1200, 0, 8);
    for (uint32_t i = 0; i < rows.n; i++)
        for (unsigned d = 0; d < dimensions; d++) rows.values[i][d] = i < 600 ? 1.5f : 0;
    for (unsigned similarity = 0; similarity < ARRAY_SIZE(similarities); similarity++) {
        struct schema *schema = schema_with(similarity);
        struct segment *s = segment_of(schema, 0, 1);
        struct search_part part = {.segment = s, .doc_hi = rows.n};
        CHECK_OK(segment_verify(s, &err));
        struct knn_result got = nearest(schema, &part, 1, rows.values[0], 10, 0.9, NULL);
        CHECK(got.n == 10 && got.hits[0].docno < 600 && got.hits[0].score == got.hits[9].score);
        search_knn_release(&got);
        segment_unref(s);
        schema_unref(schema);
    }
    clusters_set_threshold(0);
}

/* Damage that the page checksums would not see: a search stays inside, and what structure there is, is
 * checked. */
TEST(damage) {
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    clusters_set_threshold(500);
    make_rows(1000, 10, 12);
    struct schema *schema = schema_with(1);
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    struct segment_writer *w = segment_writer_new(schema, &out);
    for (uint32_t i = 0; i < rows.n; i++) add_document(w, i);
    CHECK_OK(segment_writer_finish(w, NULL, &size, &checksum, &err));
    segment_writer_free(w);
    uint64_t payload_end = get_u64(out.mem.data + size - BLOB_TRAILER_SIZE);
    unsigned refused = 0, lists = 0;
    const uint8_t header[] = {1, 0, 0, 0, DIMENSIONS, 0, 0, 0, 32, 0, 0, 0};
    uint64_t at = 0; /* of the clusters */
    for (uint64_t i = 64; !at && i + 64 < payload_end; i += 64)
        if (!memcmp(out.mem.data + i, header, sizeof header)) at = i;
    CHECK(at);
    for (unsigned round = 0; round < 160; round++) {
        struct blob_writer bad;
        struct blob *blob;
        struct segment *s;
        struct vectors v;
        float query[DIMENSIONS];
        uint64_t place = at + (round < 40 ? round : (uint64_t)(uniform() * (double)(payload_end - at - 200)));
        blob_writer_init(&bad, -1, BLOB_KIND_SEGMENT);
        uint8_t *copy = xmalloc(payload_end);
        memcpy(copy, out.mem.data, payload_end);
        copy[place] ^= (uint8_t)(1u << round % 8);
        blob_write(&bad, copy + BLOB_HEADER_SIZE, payload_end - BLOB_HEADER_SIZE);
        CHECK_OK(blob_writer_finish(&bad, &size, &checksum, &err));
        size_t len;
        uint8_t *bytes = buf_detach(&bad.mem, &len);
        blob_writer_release(&bad);
        free(copy);
        CHECK_OK(blob_open_memory(bytes, len, BLOB_KIND_SEGMENT, &blob, &err));
        if (segment_open(blob, &s, &err)) continue; /* the directory */
        const struct segment_field *f = segment_field(s, "v", 1, FIELD_VECTOR, 0);
        int r = f ? vectors_open_lazy(f, &v, &err) : -ERR_CORRUPT;
        if (!r) {
            struct search_part part = {.segment = s, .doc_hi = rows.n};
            query_vector(round, query);
            struct knn_result got = nearest(schema, &part, 1, query, 10, 0.9, NULL);
            search_knn_release(&got);
            r = segment_verify(s, &err);
        }
        CHECK(!r || r == -ERR_CORRUPT);
        refused += r != 0;
        lists += round < 28 && r != 0;
        segment_unref(s);
    }
    CHECK(lists >= 20 && refused > 30);
    blob_writer_release(&out);
    schema_unref(schema);
    clusters_set_threshold(0);
}
