/* Document ids as file names, scratch names. */
#include "test.h"

#include "fs/path.h"

static int round_trip(const char *id, size_t len, const char *expected) {
    struct buf name = BUF_INIT, back = BUF_INIT;
    path_doc_name(id, len, &name);
    int ok = !expected || !strcmp(buf_str(&name), expected);
    ok = ok && name.len <= PATH_NAME_MAX && !memchr(name.data, '/', name.len) &&
         !memchr(name.data, 0, name.len);
    enum doc_name_kind kind = path_doc_id(buf_str(&name), &back);
    if (kind == DOC_NAME_ID)
        ok = ok && back.len == len && !memcmp(back.data, id, len);
    else
        ok = ok && kind == DOC_NAME_SHORT && back.len < len && !memcmp(back.data, id, back.len);
    if (!ok) fprintf(stderr, "id <%.*s> name <%s>\n", (int)len, id, buf_str(&name));
    buf_release(&name);
    buf_release(&back);
    return ok;
}

TEST(document_names) {
    CHECK(round_trip("7", 1, "7.json"));
    CHECK(round_trip("../../etc/passwd", 16, "%2E.%2F..%2Fetc%2Fpasswd.json"));
    CHECK(round_trip("a\0b", 3, "a%00b.json"));
    CHECK(round_trip("100%", 4, "100%25.json"));
    CHECK(round_trip("a\nb\x7f", 4, "a%0Ab%7F.json"));
    CHECK(round_trip("\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80.json"));
    CHECK(round_trip("%~x", 3, "%25~x.json"));
    CHECK(round_trip("x.json", 6, "x.json.json"));
}

TEST(long_ids) {
    char id[2048];
    memset(id, 'L', sizeof id);
    CHECK(round_trip(id, 250, NULL));
    CHECK(round_trip(id, 251, NULL));
    CHECK(round_trip(id, 512, NULL));
    memset(id, '/', sizeof id);
    CHECK(round_trip(id, 83, NULL));
    CHECK(round_trip(id, 84, NULL));
    for (size_t i = 0; i < sizeof id; i += 4) memcpy(id + i, "\xf0\x9f\x98\x80", 4);
    CHECK(round_trip(id, sizeof id, NULL));
    struct buf a = BUF_INIT, b = BUF_INIT;
    path_doc_name(id, 2044, &a);
    path_doc_name(id, 2048, &b);
    CHECK(strcmp(buf_str(&a), buf_str(&b)));
    buf_release(&a);
    buf_release(&b);
}

TEST(one_name_an_id) {
    struct buf id = BUF_INIT;
    CHECK(path_doc_id("%41.json", &id) == DOC_NAME_NONE);
    CHECK(path_doc_id("a%2f.json", &id) == DOC_NAME_NONE);
    CHECK(path_doc_id("a%.json", &id) == DOC_NAME_NONE);
    CHECK(path_doc_id(".json", &id) == DOC_NAME_NONE);
    CHECK(path_doc_id(".x.json", &id) == DOC_NAME_NONE);
    CHECK(path_doc_id("x", &id) == DOC_NAME_NONE);
    CHECK(path_doc_id("%~.json", &id) == DOC_NAME_NONE);
    buf_release(&id);
}

TEST(scratch_names) {
    static const char *const yes[] = {".x.json.vX5b8Z", "sedO2I60h",  "tmp5ayyl868",   ".x.swp",
                                      "4913",           "x.json~",    "x.json.save",   "._x",
                                      ".DS_Store",      "x.json.tmp", "tmp.0a1B2c3D4e"};
    static const char *const no[] = {"x.json",      "sed.json", "tmp.jsonl", "data",
                                     "sedimentary", "49130",    "upsert"};
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) CHECK(path_is_scratch_name(yes[i]));
    for (size_t i = 0; i < ARRAY_SIZE(no); i++) CHECK(!path_is_scratch_name(no[i]));
}

TEST(collection_names) {
    CHECK(path_is_collection_name("books_2-a") && path_is_collection_name("X"));
    CHECK(!path_is_collection_name("") && !path_is_collection_name(".x") && !path_is_collection_name("a.b"));
    CHECK(!path_is_collection_name("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeefff"));
}
