/* What is built while segments are merged: documents that die meanwhile must be dead in the result too, and
 * its statistics must be those of the living. A second collection is given the same and merged in peace:
 * answers must be equal to the last digit. */
#include "engine_internal.h"
#include "engine_test.h"
#include "index/analyzer_internal.h"

enum { DOCS = 160, BATCHES = 4, TENANTS = 6 };

/* ---- an object store that lets somebody in, once, before a segment or a root is stored ---- */

typedef bool change_fn(const char *cid);

static char disturbed[CID_SIZE], calm[CID_SIZE];
static const struct object_store_ops *inner;
static change_fn *meanwhile; /* to `disturbed`; NULL: it has happened */
static enum moment { AT_SEGMENT, AT_ROOT } moment;
static bool went_well;
static int stored; /* segments, but for those of `meanwhile` */

static void meet(enum moment now) {
    change_fn *happens = meanwhile;
    int before = stored;
    if (!happens || moment != now) return;
    meanwhile = NULL;
    went_well = happens(disturbed);
    stored = before;
}

static int hooked_put_file(struct object_store *s, const char *key, const char *path,
                           struct object_info *ret_info, struct err *e) {
    meet(AT_SEGMENT);
    stored++;
    return inner->put_file(s, key, path, ret_info, e);
}

static int hooked_put(struct object_store *s, const char *key, const void *data, size_t len,
                      enum put_condition condition, const char *etag, struct object_info *ret_info,
                      struct err *e) {
    if (condition == PUT_IF_MATCH) meet(AT_ROOT);
    return inner->put(s, key, data, len, condition, etag, ret_info, e);
}

static void hook(struct engine *e) {
    static struct object_store_ops ops;
    inner = e->core.objects->ops;
    ops = *inner;
    ops.put_file = hooked_put_file;
    ops.put = hooked_put;
    e->core.objects->ops = &ops;
}

/* ---- two collections that are given the same ---- */

static struct engine *e;

static bool set_up(bool partitions) {
    static const char fields[] = "\"dynamic\":false,\"indexConfigs\":{\"w\":{\"type\":\"text\"},"
                                 "\"n\":{\"type\":\"long\"},\"tenant\":{\"type\":\"keyword\"},"
                                 "\"v\":{\"type\":\"vector\",\"dimensions\":2,\"similarity\":\"euclidean\"}}";
    struct engine_options o;
    struct collection_info info;
    char schema[500];
    fresh_dir();
    engine_options_init(&o);
    o.data_dir = dir;
    o.partition_bytes = 2000; /* more than a build has of each, less than the merge */
    e = NULL;
    if (engine_open(&o, &e, &err)) return false;
    snprintf(schema, sizeof schema, "{%s}", fields);
    if (engine_create(e, "calm", schema, &info, &err)) return false;
    memcpy(calm, info.cid, sizeof calm);
    if (partitions)
        snprintf(schema, sizeof schema,
                 "{%s,\"partitionConfig\":{\"fieldName\":\"tenant\",\"dataType\":\"keyword\","
                 "\"numPartitions\":8}}",
                 fields);
    if (engine_create(e, "disturbed", schema, &info, &err)) return false;
    memcpy(disturbed, info.cid, sizeof disturbed);
    hook(e);
    return true;
}

static bool put_document(const char *cid, int i, int version) {
    char doc[300];
    snprintf(doc, sizeof doc,
             "{\"id\":\"%03d\",\"w\":\"ship%s number word%d%s\",\"n\":%d,\"tenant\":\"t%d\",\"v\":[%d,%d]}",
             i, i % 3 ? "" : " ship ship", (i + version) % 9, i % 7 ? "" : " and the rare whale",
             i + 1000 * version, i % TENANTS, i % 11 + version, i % 13);
    return put(e, cid, INGEST_UPSERT, doc) == 1;
}

static bool delete_document(const char *cid, int i) {
    char id[16];
    snprintf(id, sizeof id, "\"%03d\"", i);
    return put(e, cid, INGEST_DELETE, id) == 1;
}

static bool build(const char *cid) {
    return !engine_build(e, cid, NULL, &err);
}

/* Four segments of which a tenth is dead. */
static bool fill(const char *cid) {
    for (int i = 0; i < DOCS; i++) {
        if (!put_document(cid, i, 0)) return false;
        if (i % (DOCS / BATCHES) == DOCS / BATCHES - 1 && !build(cid)) return false;
    }
    for (int i = 0; i < DOCS; i += 10)
        if (!delete_document(cid, i)) return false;
    return build(cid);
}

/* ---- what happens meanwhile ---- */

/* Some die, some are overwritten, one comes back. */
static bool change(const char *cid) {
    for (int i = 3; i < DOCS; i += 5)
        if (!delete_document(cid, i)) return false;
    for (int i = 1; i < DOCS; i += 6)
        if (!put_document(cid, i, 1)) return false;
    return put_document(cid, 10, 1) && build(cid);
}

static void analyzers_are(uint64_t fingerprint) {
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) analyzer_fake_fingerprint(a, fingerprint);
}

/* As an engine with other analyzers would find it. */
static bool change_with_other_analyzers(const char *cid) {
    analyzers_are(78);
    return change(cid);
}

/* Everything of the first segment dies, so that it is gone. */
static bool kill_segment(const char *cid) {
    for (int i = 0; i < DOCS / BATCHES; i++)
        if (i % 10 && !delete_document(cid, i)) return false;
    return build(cid);
}

/* ---- the same answers ---- */

static bool same_answers(void) {
    static const char *const specs[] = {
        "w:ship?size=200",         "w:whale OR w:word3?size=200", "w:\"number word2\"?size=200",
        "n:[40 TO 1060]?size=200", "tenant:t2?size=200",          "*:*?near=041&field=v&size=50",
        "*:*?sort=n:desc&size=200"};
    bool same = true;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        char *want = strdup(ask_live(e, calm, specs[i]));
        const char *have = ask_live(e, disturbed, specs[i]);
        if (strcmp(want, have) || !*have || !strncmp(have, "error", 5)) {
            same = false;
            fprintf(stderr, "%s:\nwant %.400s\nhave %.400s\n", specs[i], want, have);
        }
        free(want);
    }
    return same;
}

static void problem(void *ctx, const char *text) {
    fprintf(stderr, "check: %s\n", text);
}

static bool sound(void) {
    uint64_t objects, problems;
    return !engine_check(e, problem, NULL, &objects, &problems, &err) && !problems;
}

/* Merges, which `happens` comes in between at `when`, and then once more. */
static void merge_disturbed(int outputs, enum moment when, change_fn *happens) {
    CHECK(fill(disturbed));
    CHECK(fill(calm));
    went_well = false;
    stored = 0;
    moment = when;
    meanwhile = happens;
    CHECK_OK(engine_merge(e, disturbed, true, &err));
    CHECK(!meanwhile && went_well && stored >= outputs);
    CHECK(happens(calm));
    CHECK(same_answers());
    CHECK(sound());
    CHECK_OK(engine_merge(e, calm, true, &err));
    CHECK_OK(engine_merge(e, disturbed, true, &err));
    CHECK(same_answers());
}

static void run(bool partitions, enum moment when, change_fn *happens) {
    analyzers_are(77);
    if (set_up(partitions))
        merge_disturbed(partitions ? 3 : 1, when, happens);
    else
        test_failures++;
    analyzers_are(0); /* the truth again */
    done(e);
}

TEST(while_a_segment_is_stored) {
    run(false, AT_SEGMENT, change);
}

/* The merge comes too late with its root and is committed again. */
TEST(while_the_root_is_stored) {
    run(false, AT_ROOT, change);
}

TEST(several_outputs) {
    run(true, AT_SEGMENT, change);
    run(true, AT_ROOT, change);
}

TEST(outputs_of_outdated_analyzers) {
    run(false, AT_SEGMENT, change_with_other_analyzers);
    run(true, AT_SEGMENT, change_with_other_analyzers);
}

/* The merge is given up and begun again. */
TEST(an_input_is_gone) {
    run(false, AT_SEGMENT, kill_segment);
    run(false, AT_ROOT, kill_segment);
    run(true, AT_SEGMENT, kill_segment);
}
