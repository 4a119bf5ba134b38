/* Buffers, JSON string output, the arena. */
#include "test.h"
#include "util/buf.h"
#include "util/chunks.h"
#include "util/codec.h"
#include "util/jval.h"

TEST(buffer) {
    struct buf b = BUF_INIT;
    CHECK(!strcmp(buf_str(&b), "") && b.len == 0);
    buf_adds(&b, "one");
    buf_addc(&b, ' ');
    buf_printf(&b, "%d %s", 2, "three");
    CHECK(b.len == 11 && !strcmp(buf_str(&b), "one 2 three") && b.len == 11);
    buf_clear(&b);
    buf_add(&b, NULL, 0);
    CHECK(b.len == 0);
    for (int i = 0; i < 10000; i++) buf_add(&b, &i, sizeof i);
    for (int i = 0; i < 10000; i++) CHECK(!memcmp(b.data + (size_t)i * sizeof i, &i, sizeof i));
    size_t len;
    uint8_t *p = buf_detach(&b, &len);
    CHECK(len == 40000 && !b.data && !b.len && !b.cap);
    free(p);
    buf_release(&b);
    buf_release(&b);
}

enum { PIECES = 500, ROUNDS = 20000 };
struct piece {
    uint8_t *p;
    size_t len;
};
struct user {
    struct chunks *chunks;
    unsigned seed, wrong;
};

/* Pieces of all sizes, let go in no order: each keeps its bytes, and its chunk as long as it is there. */
static void *use_chunks(void *arg) {
    struct piece *pieces = xcalloc(PIECES, sizeof *pieces);
    struct user *u = arg;
    uint64_t x = u->seed;
    for (unsigned i = 0; i < ROUNDS; i++) {
        x = hash64(&x, sizeof x, i);
        struct piece *one = &pieces[x % PIECES];
        uint8_t mark = (uint8_t)((one - pieces) * 7);
        for (size_t k = 0; one->p && k < one->len; k += 61) u->wrong += one->p[k] != mark;
        chunks_free(u->chunks, one->p, one->len);
        unsigned scale = x >> 60;
        one->len = (size_t)(x >> 20) % (scale == 15 ? 2 * CHUNK_PIECE_MAX : scale > 8 ? 20000 : 100);
        one->p = chunks_alloc(u->chunks, one->len);
        u->wrong += ((uintptr_t)one->p & 15) != 0;
        memset(one->p, mark, one->len);
    }
    for (unsigned i = 0; i < PIECES; i++) chunks_free(u->chunks, pieces[i].p, pieces[i].len);
    free(pieces);
    return NULL;
}

TEST(chunks) {
    struct chunks a;
    struct user one = {&a, 1, 0}, two = {&a, 2, 0};
    pthread_t other;
    chunks_init(&a);
    CHECK(!pthread_create(&other, NULL, use_chunks, &two));
    use_chunks(&one);
    pthread_join(other, NULL);
    CHECK(one.wrong == 0 && two.wrong == 0);
    chunks_free(&a, NULL, 0);
    void *p = chunks_alloc(&a, 0), *q = chunks_alloc(&a, 1);
    CHECK(p && q);
    chunks_free(&a, p, 0);
    chunks_free(&a, q, 1);
    chunks_release(&a);
}

TEST(long_printf) {
    struct buf b = BUF_INIT;
    char *s = xcalloc(1, 5001);
    memset(s, 'x', 5000);
    for (int i = 0; i < 20; i++) buf_printf(&b, "%.*s", i * 250, s);
    CHECK(b.len == 250u * (19 * 20 / 2) && strlen(buf_str(&b)) == b.len);
    free(s);
    buf_release(&b);
}

/* What is written as a JSON string is read back as the same bytes. */
TEST(json_string) {
    struct buf b = BUF_INIT;
    buf_add_json_string(&b, "a\"\\\n\t\r\x01\0z", 9);
    CHECK(!strcmp(buf_str(&b), "\"a\\\"\\\\\\n\\t\\r\\u0001\\u0000z\""));
    char all[0x80 + 4];
    for (int i = 0; i < 0x80; i++) all[i] = (char)i;
    memcpy(all + 0x80, "\xf0\x9f\x98\x80", 4);
    buf_clear(&b);
    buf_add_json_string(&b, all, sizeof all);
    struct arena a = ARENA_INIT;
    struct jval *v;
    struct err err = ERR_INIT;
    CHECK_OK(jval_parse(&a, (char *)b.data, b.len, &v, &err));
    CHECK(v->count == sizeof all && !memcmp(v->str, all, sizeof all));
    arena_release(&a);
    buf_release(&b);
}

TEST(arena) {
    struct arena a = ARENA_INIT;
    uint8_t *p[3000];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
            size_t size = i % 1000 == 999 ? 100000 : i % 97;
            p[i] = arena_alloc(&a, size);
            CHECK(p[i] && (uintptr_t)p[i] % 16 == 0);
            memset(p[i], (int)i & 0xff, size);
        }
        for (size_t i = 0; i < ARRAY_SIZE(p); i++)
            for (size_t k = 0; k < (i % 1000 == 999 ? 100000 : i % 97); k++) CHECK(p[i][k] == (i & 0xff));
        const uint8_t *z = arena_zalloc(&a, 5000);
        for (size_t k = 0; k < 5000; k++) CHECK(!z[k]);
        CHECK(!strcmp(arena_strndup(&a, "hello", 3), "hel"));
        arena_reset(&a);
    }
    arena_release(&a);
    arena_release(&a);
}
