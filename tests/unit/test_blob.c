/* Blobs: what is written is read back in every mode; damage is found; requests are joined. */
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

#include "index/blob.h"
#include "index/fetch.h"
#include "test.h"
#include "util/codec.h"

static uint8_t pattern(uint64_t i) {
    return (uint8_t)(i * 2654435761u >> 13 ^ i >> 16);
}

static void write_pattern(struct blob_writer *w, uint64_t payload) {
    uint8_t piece[10007];
    for (uint64_t off = 0; off < payload;) {
        size_t n = (size_t)MIN((off * 31 + 7) % sizeof piece + 1, payload - off);
        for (size_t i = 0; i < n; i++) piece[i] = pattern(off + i);
        blob_write(w, piece, n);
        off += n;
    }
}

static bool is_pattern(const uint8_t *p, uint64_t from, uint64_t len) {
    for (uint64_t i = 0; i < len; i++)
        if (p[i] != pattern(from + i)) return false;
    return true;
}

static const uint64_t sizes[] = {0,
                                 1,
                                 BLOB_PAGE - BLOB_HEADER_SIZE - 1,
                                 BLOB_PAGE - BLOB_HEADER_SIZE,
                                 BLOB_PAGE,
                                 5 * BLOB_PAGE + 3,
                                 40 * BLOB_PAGE - BLOB_HEADER_SIZE};

TEST(memory_round_trip) {
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct blob_writer w;
        struct blob *b;
        uint64_t size;
        uint32_t checksum;
        const uint8_t *p;
        blob_writer_init(&w, -1, BLOB_KIND_SEGMENT);
        write_pattern(&w, sizes[i]);
        CHECK(blob_writer_off(&w) == BLOB_HEADER_SIZE + sizes[i]);
        CHECK_OK(blob_writer_finish(&w, &size, &checksum, &err));
        CHECK(size == w.mem.len);
        CHECK_OK(blob_open_memory(buf_detach(&w.mem, NULL), size, BLOB_KIND_SEGMENT, &b, &err));
        blob_writer_release(&w);
        CHECK(blob_payload_end(b) == BLOB_HEADER_SIZE + sizes[i]);
        CHECK_OK(blob_need(b, BLOB_HEADER_SIZE, sizes[i], &p, &err));
        CHECK(is_pattern(p, 0, sizes[i]));
        CHECK(blob_need(b, BLOB_HEADER_SIZE, sizes[i] + 1, &p, &err) == -ERR_CORRUPT);
        CHECK(blob_need(b, UINT64_MAX - 3, 8, &p, &err) == -ERR_CORRUPT);
        CHECK(blob_need(b, 8, UINT64_MAX, &p, &err) == -ERR_CORRUPT);
        CHECK_OK(blob_verify_all(b, &err));
        blob_close(b);
    }
    blob_close(NULL);
}

static void make_object(uint64_t payload, uint8_t **ret, uint64_t *size, uint32_t *checksum) {
    struct blob_writer w;
    blob_writer_init(&w, -1, BLOB_KIND_DELETES);
    write_pattern(&w, payload);
    blob_writer_finish(&w, size, checksum, NULL);
    *ret = buf_detach(&w.mem, NULL);
    blob_writer_release(&w);
}

TEST(memory_damage) {
    struct err err = ERR_INIT;
    struct blob *b;
    uint8_t *data;
    uint64_t size;
    uint32_t checksum;
    make_object(3000, &data, &size, &checksum);
    for (uint64_t at = 0; at < size; at++) { /* any flipped byte */
        uint8_t *copy = memcpy(xmalloc(size), data, size);
        copy[at] ^= (uint8_t)(1u << at % 8);
        CHECK(blob_open_memory(copy, size, BLOB_KIND_DELETES, &b, &err) == -ERR_CORRUPT);
    }
    for (uint64_t n = 0; n < size; n += n < 60 || n > size - 60 ? 1 : 37) /* any cut */
        CHECK(blob_open_memory(memcpy(xmalloc(n), data, n), n, BLOB_KIND_DELETES, &b, &err) == -ERR_CORRUPT);
    CHECK(blob_open_memory(data, size, BLOB_KIND_SEGMENT, &b, &err) == -ERR_CORRUPT); /* another kind */
}

/* ---- in a store ---- */

static char dir[64];

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    return remove(path);
}
static void remove_dir(void) {
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static int open_store(bool remote, struct object_store **ret, struct err *err) {
    snprintf(dir, sizeof dir, "/tmp/test_blob.XXXXXX");
    if (!mkdtemp(dir)) return err_set(err, ERR_IO, "mkdtemp");
    int r = object_store_dir_open(dir, &clock_system, ret, err);
    if (!r && remote) *ret = object_store_remote(*ret, 0, 0);
    if (!r) *ret = object_store_count(*ret);
    return r;
}

static void check_store(bool remote) {
    struct err err = ERR_INIT;
    struct object_store *store;
    CHECK_OK(open_store(remote, &store, &err));
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct object_info info;
        struct blob *b;
        uint8_t *data;
        uint64_t size;
        uint32_t checksum;
        const uint8_t *p;
        char key[32];
        snprintf(key, sizeof key, "data/o%zu", i);
        make_object(sizes[i], &data, &size, &checksum);
        CHECK_OK(object_put(store, key, data, size, PUT_ALWAYS, NULL, &info, &err));
        free(data);
        CHECK(blob_open(store, key, info.version, BLOB_KIND_DELETES, size, checksum ^ 1, &b, &err) ==
              -ERR_CORRUPT);
        CHECK(strstr(err.text, key) && strstr(err.text, info.version));
        CHECK(blob_open(store, key, info.version, BLOB_KIND_DELETES, size + 1, checksum, &b, &err) ==
              -ERR_CORRUPT);
        CHECK(blob_open(store, key, info.version, BLOB_KIND_ROOT, size, checksum, &b, &err) == -ERR_CORRUPT);
        CHECK(blob_open(store, "data/none", NULL, BLOB_KIND_ROOT, 0, 0, &b, &err) == -ERR_NOT_FOUND);
        CHECK_OK(blob_open(store, key, NULL, BLOB_KIND_DELETES, 0, 0, &b, &err)); /* nothing known */
        CHECK_OK(blob_verify_all(b, &err));
        blob_close(b);
        CHECK_OK(blob_open(store, key, info.version, BLOB_KIND_DELETES, size, checksum, &b, &err));
        for (uint64_t off = 0; off + 10 < sizes[i]; off += 50021) {
            CHECK_OK(blob_need(b, BLOB_HEADER_SIZE + off, 10, &p, &err));
            CHECK(is_pattern(p, off, 10));
        }
        CHECK_OK(blob_need(b, BLOB_HEADER_SIZE, sizes[i], &p, &err));
        CHECK(is_pattern(p, 0, sizes[i]));
        blob_close(b);
    }
    object_store_close(store);
    remove_dir();
}

TEST(mapped) {
    check_store(false);
}
TEST(fetched) {
    check_store(true);
}

static void check_staging(uint64_t payload) {
    struct err err = ERR_INIT;
    char path[] = "/tmp/test_blob.XXXXXX";
    int fd = mkstemp(path);
    struct blob_writer w;
    uint8_t *data;
    uint64_t size, file_size;
    uint32_t checksum, file_checksum;
    make_object(payload, &data, &size, &checksum);
    blob_writer_init(&w, fd, BLOB_KIND_DELETES);
    write_pattern(&w, payload);
    CHECK_OK(blob_writer_finish(&w, &file_size, &file_checksum, &err));
    blob_writer_release(&w);
    CHECK(size == file_size && checksum == file_checksum);
    uint8_t *back = xmalloc(size + 1);
    CHECK(pread(fd, back, size + 1, 0) == (ssize_t)size && !memcmp(back, data, size));
    free(back);
    free(data);
    close(fd);
    unlink(path);
}

/* Large ones are written in larger steps from 32 MB on. */
TEST(staging_file_equals_memory) {
    struct err err = ERR_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) check_staging(sizes[i]);
    check_staging(512 * BLOB_PAGE - BLOB_HEADER_SIZE);
    check_staging(512 * BLOB_PAGE);
    check_staging(640 * BLOB_PAGE + 3);
    struct blob_writer w;
    uint64_t size;
    uint32_t checksum;
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0) return;
    blob_writer_init(&w, fd, BLOB_KIND_DELETES);
    write_pattern(&w, 1000000);
    CHECK(blob_writer_finish(&w, &size, &checksum, &err) == -ERR_NO_SPACE);
    blob_writer_release(&w);
    close(fd);
}

/* A small read takes one get, neighbours and small gaps are joined, nothing is got twice. */
TEST(requests) {
    struct err err = ERR_INIT;
    struct object_store *store;
    struct object_info info;
    struct object_counts n0, n1;
    struct blob *b;
    uint8_t *data;
    uint64_t size;
    uint32_t checksum;
    const uint8_t *p;
    CHECK_OK(open_store(true, &store, &err));
    make_object(60 * BLOB_PAGE, &data, &size, &checksum);
    CHECK_OK(object_put(store, "data/x", data, size, PUT_ALWAYS, NULL, &info, &err));
    free(data);
    object_store_counts(store, &n0);
    CHECK_OK(blob_open(store, "data/x", info.version, BLOB_KIND_DELETES, size, checksum, &b, &err));
    CHECK_OK(blob_need(b, blob_payload_end(b) - 1000, 1000, &p, &err)); /* came with the trailer */
    object_store_counts(store, &n1);
    CHECK(n1.gets - n0.gets == 1 && n1.heads == n0.heads);
    CHECK_OK(blob_need(b, 10 * BLOB_PAGE, 10, &p, &err));
    object_store_counts(store, &n1);
    CHECK(n1.gets - n0.gets == 2);
    CHECK_OK(
        blob_need(b, 8 * BLOB_PAGE, 20 * BLOB_PAGE, &p, &err)); /* the page in the middle is there already */
    CHECK(is_pattern(p, 8 * BLOB_PAGE - BLOB_HEADER_SIZE, 20 * BLOB_PAGE));
    object_store_counts(store, &n1);
    CHECK(n1.gets - n0.gets == 3);
    CHECK_OK(blob_need(b, 9 * BLOB_PAGE, 19 * BLOB_PAGE, &p, &err));
    object_store_counts(store, &n1);
    CHECK(n1.gets - n0.gets == 3);
    blob_close(b);
    object_store_close(store);
    remove_dir();
}

/* More pages than gets go side by side, each far from the next: still one wave. */
TEST(far_pages_are_one_wave) {
    enum { STRIDE = BLOB_COALESCE / BLOB_PAGE + 2, N = OBJECT_PARALLEL_GETS + 44 };
    struct err err = ERR_INIT;
    struct object_store *store;
    struct object_counts before, after;
    struct fetch f = FETCH_INIT;
    struct blob *b;
    uint8_t *object;
    uint64_t size;
    uint32_t checksum;
    const uint8_t *p;
    CHECK_OK(open_store(true, &store, &err));
    make_object((uint64_t)N * STRIDE * BLOB_PAGE, &object, &size, &checksum);
    CHECK_OK(object_put(store, "data/o", object, size, PUT_ALWAYS, NULL, NULL, &err));
    free(object);
    CHECK_OK(blob_open(store, "data/o", NULL, BLOB_KIND_DELETES, size, checksum, &b, &err));
    object_store_counts(store, &before);
    for (uint64_t i = 0; i < N; i++) fetch_want(&f, b, i * STRIDE * BLOB_PAGE + 20000, 100);
    CHECK_OK(fetch_run(&f, &err));
    fetch_release(&f);
    object_store_counts(store, &after);
    CHECK(after.waves - before.waves == 1 && after.gets - before.gets == OBJECT_PARALLEL_GETS);
    CHECK(after.bytes_got - before.bytes_got < (uint64_t)2 * N * BLOB_PAGE); /* no more gaps than it takes */
    for (uint64_t i = 0; i < N; i++) {
        uint64_t off = i * STRIDE * BLOB_PAGE + 20000;
        CHECK_OK(blob_need(b, off, 100, &p, &err));
        CHECK(is_pattern(p, off - BLOB_HEADER_SIZE, 100));
    }
    struct object_counts last;
    object_store_counts(store, &last);
    CHECK(last.gets == after.gets);
    blob_close(b);
    object_store_close(store);
    remove_dir();
}

/* Damage on disk is found at the page, and only there. */
TEST(damaged_page) {
    struct err err = ERR_INIT;
    for (int remote = 0; remote < 2; remote++) {
        struct object_store *store;
        struct object_info info;
        struct blob *b;
        uint8_t *data;
        uint64_t size;
        uint32_t checksum;
        const uint8_t *p;
        CHECK_OK(open_store(remote, &store, &err));
        make_object(8 * BLOB_PAGE, &data, &size, &checksum);
        data[3 * BLOB_PAGE + 77] ^= 4;
        CHECK_OK(object_put(store, "data/x", data, size, PUT_ALWAYS, NULL, &info, &err));
        CHECK_OK(blob_open(store, "data/x", info.version, BLOB_KIND_DELETES, size, checksum, &b, &err));
        CHECK_OK(blob_need(b, 0, 3 * BLOB_PAGE, &p, &err));
        CHECK(blob_need(b, 3 * BLOB_PAGE - 1, 2, &p, &err) == -ERR_CORRUPT);
        CHECK(strstr(err.text, "data/x@") && strstr(err.text, "page 3"));
        CHECK_OK(blob_need(b, 4 * BLOB_PAGE, 2 * BLOB_PAGE, &p, &err));
        CHECK(blob_verify_all(b, &err) == -ERR_CORRUPT);
        blob_close(b);
        /* shorter than the reference says */
        CHECK_OK(object_put(store, "data/y", data, size - 5000, PUT_ALWAYS, NULL, &info, &err));
        CHECK(blob_open(store, "data/y", info.version, BLOB_KIND_DELETES, size, checksum, &b, &err) ==
              -ERR_CORRUPT);
        CHECK_OK(object_put(store, "data/z", data, 0, PUT_ALWAYS, NULL, &info, &err));
        CHECK(blob_open(store, "data/z", info.version, BLOB_KIND_DELETES, 0, 0, &b, &err) == -ERR_CORRUPT);
        free(data);
        object_store_close(store);
        remove_dir();
    }
}

struct reader {
    struct blob *blob;
    unsigned seed;
    bool ok;
};

static void *read_around(void *arg) {
    struct reader *r = arg;
    uint32_t state = r->seed;
    r->ok = true;
    for (int i = 0; r->ok && i < 300; i++) {
        const uint8_t *p;
        state = state * 1664525 + 1013904223;
        uint64_t off = state % (30 * BLOB_PAGE - 5000);
        r->ok = !blob_need(r->blob, BLOB_HEADER_SIZE + off, 4000, &p, NULL) && is_pattern(p, off, 4000);
    }
    return NULL;
}

TEST(threads) {
    struct err err = ERR_INIT;
    for (int remote = 0; remote < 2; remote++) {
        struct object_store *store;
        struct object_info info;
        struct reader readers[4];
        pthread_t threads[4];
        struct blob *b;
        uint8_t *data;
        uint64_t size;
        uint32_t checksum;
        CHECK_OK(open_store(remote, &store, &err));
        make_object(30 * BLOB_PAGE, &data, &size, &checksum);
        CHECK_OK(object_put(store, "data/x", data, size, PUT_ALWAYS, NULL, &info, &err));
        free(data);
        CHECK_OK(blob_open(store, "data/x", info.version, BLOB_KIND_DELETES, size, checksum, &b, &err));
        for (unsigned i = 0; i < 4; i++) {
            readers[i] = (struct reader){b, i + 1, false};
            pthread_create(&threads[i], NULL, read_around, &readers[i]);
        }
        for (unsigned i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            CHECK(readers[i].ok);
        }
        blob_close(b);
        object_store_close(store);
        remove_dir();
    }
}
