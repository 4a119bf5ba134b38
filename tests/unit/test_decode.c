/* The record decoders: every format gives the same records however the input is cut into pieces. */
#include "test.h"

#include "fn/decode.h"

#include <zlib.h>
#include <zstd.h>

static void collect(struct buf *log, const struct decode_record *r) {
    if (r->bad)
        buf_printf(log, "%llu!%s[%llu]", (unsigned long long)r->line, err_name(r->bad->code),
                   (unsigned long long)r->full_len);
    else
        buf_printf(log, "%llu:", (unsigned long long)r->line);
    if (!r->bad) buf_add(log, r->data, r->len);
    buf_adds(log, ";");
}

static int on_batch(void *ctx, const struct decode_record *records, size_t n, struct err *err) {
    for (size_t i = 0; i < n; i++) collect(ctx, &records[i]);
    return 0;
}

/* Pieces of `step` bytes; 0 = pieces of changing sizes. */
static const char *decode(enum decode_format f, enum decode_packing p, const void *data, size_t len,
                          size_t step, struct buf *log) {
    struct decoder *d = decode_new(f, p, on_batch, log);
    struct err err = ERR_INIT;
    buf_clear(log);
    unsigned seed = 7;
    int r = 0;
    for (size_t at = 0; at < len && !r;) {
        seed = seed * 1103515245 + 12345;
        size_t n = MIN(step ? step : 1 + (seed >> 16) % 11, len - at);
        char *copy = malloc(n); /* so that a sanitizer sees reads beyond the piece */
        memcpy(copy, (const char *)data + at, n);
        r = decode_write(d, copy, n, &err);
        free(copy);
        at += n;
    }
    if (!r) r = decode_end(d, &err);
    if (r) buf_printf(log, "FAILED %d", r);
    decode_free(d);
    return buf_str(log);
}

static int check_all(enum decode_format f, const char *input, const char *expected) {
    struct buf log = BUF_INIT;
    size_t len = strlen(input), steps[] = {1, 2, 3, 5, 0, len ? len : 1};
    int ok = 1;
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        const char *got = decode(f, DECODE_PLAIN, input, len, steps[i], &log);
        if (strcmp(got, expected)) {
            fprintf(stderr, "step %zu of <%s>:\n got      %s\n expected %s\n", steps[i], input, got,
                    expected);
            ok = 0;
        }
    }
    buf_release(&log);
    return ok;
}

TEST(lines) {
    CHECK(check_all(DECODE_LINES, "", ""));
    CHECK(check_all(DECODE_LINES, "\n\r\n  \n", ""));
    CHECK(check_all(DECODE_LINES, "{\"a\":1}\n{\"b\":2}\n", "1:{\"a\":1};2:{\"b\":2};"));
    CHECK(check_all(DECODE_LINES, "{\"a\":1}\r\n\r\n{\"b\":2}", "1:{\"a\":1};3:{\"b\":2};"));
    CHECK(check_all(DECODE_LINES, "{\"a\":1}\n{bad\n[1\n\"x\"\n{\"c\":3}\n",
                    "1:{\"a\":1};2:{bad;3:[1;4:\"x\";5:{\"c\":3};"));
    CHECK(check_all(DECODE_LINES, "\xef\xbb\xbf{\"a\":1}\n", "1:{\"a\":1};"));
    CHECK(check_all(DECODE_LINES, "{\"do", "1!bad JSON[4];"));
    CHECK(check_all(DECODE_LINES, "{\"a\":1}\n{\"b\":", "1:{\"a\":1};2!bad JSON[5];"));
    CHECK(check_all(DECODE_LINES, "\"id1\"\n\"id2\"", "1:\"id1\";2:\"id2\";"));
}

TEST(arrays) {
    CHECK(check_all(DECODE_LINES, "[{\"a\":1},{\"b\":[2,{}]}]\n", "1:{\"a\":1};1:{\"b\":[2,{}]};"));
    CHECK(check_all(DECODE_LINES, " \n[\n{\"a\":\"]},\\\"[\"},\n\"x\" , 7]",
                    "3:{\"a\":\"]},\\\"[\"};4:\"x\";4:7;"));
    CHECK(check_all(DECODE_JSON, "{\"docs\":[{\"a\":1}\n,{\"b\":2}],\"more\":{\"x\":[]}}\n",
                    "1:{\"a\":1};2:{\"b\":2};"));
    CHECK(check_all(DECODE_LINES, "{ \"docs\" : [ {\"a\":1} ] }", "1:{\"a\":1};"));
    CHECK(check_all(DECODE_LINES, "{\"docs\":[1],\"id\":\"x\"}\n{\"docs\":[{}]}\n",
                    "1:{\"docs\":[1],\"id\":\"x\"};2:{\"docs\":[{}]};"));
    CHECK(check_all(DECODE_LINES, "[{\"a\":1},", "1:{\"a\":1};1!bad JSON[0];"));
    CHECK(check_all(DECODE_LINES, "[]", ""));
    CHECK(check_all(DECODE_JSON, "{\"docs\":[]}", ""));
}

TEST(json_values) {
    CHECK(check_all(DECODE_JSON, "{\n \"a\": 1\n}\n{\n \"b\": {\n}}\n",
                    "1:{\n \"a\": 1\n};4:{\n \"b\": {\n}};"));
    /* The first value alone on its line: a file of lines, so one bad line spoils no other. */
    CHECK(check_all(DECODE_JSON, "{\"a\":1}\n{bad\n{\"c\":3}\n", "1:{\"a\":1};2:{bad;3:{\"c\":3};"));
    CHECK(check_all(DECODE_JSON, "{\"a\":1} {\"b\":2}{\"c\":3}", "1:{\"a\":1};1:{\"b\":2};1:{\"c\":3};"));
    /* A newline ends an unclosed string: what follows is read from the next line on. */
    CHECK(check_all(DECODE_JSON, "{\"a\":\"un\nclosed\"}", "1:{\"a\":\"un;2!bad JSON[8];"));
}

TEST(csv) {
    CHECK(check_all(DECODE_CSV, "id,t,n\n1,hello,5\n", "2:{\"id\":\"1\",\"t\":\"hello\",\"n\":5};"));
    CHECK(check_all(DECODE_CSV, "id,t\r\n\"a\"\"b\",\"x,\ny\"\r\n007,true",
                    "2:{\"id\":\"a\\\"b\",\"t\":\"x,\\ny\"};4:{\"id\":\"007\",\"t\":true};"));
    CHECK(check_all(DECODE_CSV, "a,b,c\n01,1e5,-0.5\n.5,1.,+1\n",
                    "2:{\"a\":\"01\",\"b\":1e5,\"c\":-0.5};3:{\"a\":\".5\",\"b\":\"1.\",\"c\":\"+1\"};"));
    CHECK(check_all(DECODE_CSV, "a,b\n,\"\"\n1e999,\"2\"\n", "2:{};3:{\"a\":\"1e999\",\"b\":\"2\"};"));
    CHECK(check_all(DECODE_CSV, "a,b\n1\n1,2,3\n4,5\n", "2!bad JSON[1];3!bad JSON[5];4:{\"a\":4,\"b\":5};"));
    CHECK(check_all(DECODE_CSV, "a,a\n1,2\n", "2!bad JSON[3];"));
    CHECK(check_all(DECODE_CSV, "a,b\n1,\"cut", "2!bad JSON[6];"));
    CHECK(check_all(DECODE_CSV, "a,b\n1,5\" disk\n", "2:{\"a\":1,\"b\":\"5\\\" disk\"};"));
    CHECK(check_all(DECODE_TSV, "a\tb\n1,2\tx y\n", "2:{\"a\":\"1,2\",\"b\":\"x y\"};"));
}

TEST(too_long) {
    size_t n = DECODE_MAX_RECORD + 1000;
    struct buf in = BUF_INIT, log = BUF_INIT;
    memset(buf_grow(&in, n), 'x', n);
    buf_adds(&in, "\n{\"a\":1}\n");
    size_t steps[] = {4096, 1 << 20, in.len};
    for (size_t i = 0; i < 3; i++) {
        char want[100];
        snprintf(want, sizeof want, "1!too large[%zu];2:{\"a\":1};", n);
        CHECK(!strcmp(decode(DECODE_LINES, DECODE_PLAIN, in.data, in.len, steps[i], &log), want));
    }
    in.data[DECODE_MAX_RECORD] = '\n'; /* exactly the maximum is fine (and is just not JSON) */
    memset(in.data + DECODE_MAX_RECORD + 1, '\n', 1000);
    decode(DECODE_LINES, DECODE_PLAIN, in.data, in.len, 4096, &log);
    CHECK(log.len > DECODE_MAX_RECORD && !memcmp(log.data, "1:xxx", 5));
    buf_release(&in);
    buf_release(&log);
}

TEST(packed) {
    struct buf in = BUF_INIT, log = BUF_INIT, plain = BUF_INIT;
    for (int i = 0; i < 20000; i++) buf_printf(&in, "{\"id\":\"%d\",\"t\":\"some text %d\"}\n", i, i * 7);
    decode(DECODE_LINES, DECODE_PLAIN, in.data, in.len, in.len, &plain);
    size_t cap = ZSTD_compressBound(in.len);
    char *packed = malloc(2 * cap);
    size_t n = ZSTD_compress(packed, cap, in.data, in.len / 2, 3);
    n += ZSTD_compress(packed + n, cap, in.data + in.len / 2, in.len - in.len / 2, 3); /* two frames */
    decode(DECODE_LINES, DECODE_ZSTD, packed, n, 997, &log);
    CHECK(log.len == plain.len && !memcmp(log.data, plain.data, log.len));
    decode(DECODE_LINES, DECODE_ZSTD, packed, n - 5, 0, &log);
    CHECK(strstr(buf_str(&log), "!bad JSON"));
    CHECK(!strcmp(decode(DECODE_LINES, DECODE_ZSTD, "not packed at all", 17, 0, &log), "FAILED -1"));
    z_stream z = {0};
    deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    z.next_in = in.data;
    z.avail_in = (uInt)in.len;
    z.next_out = (Bytef *)packed;
    z.avail_out = (uInt)(2 * cap);
    deflate(&z, Z_FINISH);
    n = z.total_out;
    deflateEnd(&z);
    decode(DECODE_LINES, DECODE_GZIP, packed, n, 0, &log);
    CHECK(log.len == plain.len && !memcmp(log.data, plain.data, log.len));
    decode(DECODE_LINES, DECODE_GZIP, packed, n / 2, 0, &log);
    CHECK(strstr(buf_str(&log), "!bad JSON"));
    free(packed);
    buf_release(&in);
    buf_release(&log);
    buf_release(&plain);
}

TEST(pause) {
    struct buf log = BUF_INIT;
    struct err err = ERR_INIT;
    bool cut;
    struct decode_record rest;
    struct decoder *d = decode_new(DECODE_LINES, DECODE_PLAIN, on_batch, &log);
    CHECK_OK(decode_write(d, "{\"a\":", 5, &err));
    CHECK_OK(decode_pause(d, &cut, &err));
    CHECK(cut && decode_rest(d, &rest) && rest.raw_len == 5 && rest.bad);
    CHECK_OK(decode_write(d, "1}", 2, &err)); /* it goes on */
    CHECK_OK(decode_pause(d, &cut, &err));
    CHECK(!cut && !strcmp(buf_str(&log), "1:{\"a\":1};"));
    CHECK_OK(decode_write(d, "\n{\"b\":2}\n", 9, &err));
    CHECK_OK(decode_end(d, &err));
    CHECK(!strcmp(buf_str(&log), "1:{\"a\":1};2:{\"b\":2};"));
    decode_free(d);
    buf_release(&log);
}

/* Random bytes of the interesting kind: any cutting gives the same as one piece. */
TEST(random_pieces) {
    static const char alphabet[] = "{}[]\",:\\\n\r ab1";
    struct buf whole = BUF_INIT, pieces = BUF_INIT;
    unsigned seed = 99;
    for (int round = 0; round < 4000; round++) {
        char in[64];
        size_t len = 1 + (unsigned)round % 60;
        for (size_t i = 0; i < len; i++) {
            seed = seed * 1103515245 + 12345;
            in[i] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
        }
        enum decode_format f = (enum decode_format)(round % 4);
        decode(f, DECODE_PLAIN, in, len, len, &whole);
        decode(f, DECODE_PLAIN, in, len, round % 3, &pieces);
        if (strcmp(buf_str(&whole), buf_str(&pieces)))
            fprintf(stderr, "format %d <%.*s>\n whole  %s\n pieces %s\n", f, (int)len, in, buf_str(&whole),
                    buf_str(&pieces));
        CHECK(!strcmp(buf_str(&whole), buf_str(&pieces)));
    }
    buf_release(&whole);
    buf_release(&pieces);
}

TEST(names) {
    enum decode_format f;
    enum decode_packing p;
    CHECK(decode_name("a.jsonl", &f, &p) && f == DECODE_LINES && p == DECODE_PLAIN);
    CHECK(decode_name("a.b.csv.gz", &f, &p) && f == DECODE_CSV && p == DECODE_GZIP);
    CHECK(decode_name("x.json.zst", &f, &p) && f == DECODE_JSON && p == DECODE_ZSTD);
    CHECK(!decode_name(".jsonl", &f, &p) && !decode_name("x.txt", &f, &p) && !decode_name("x.zst", &f, &p));
}
