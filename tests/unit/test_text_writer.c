/* The fast ways of indexing text against the plain ones: words in ASCII against the general rules, words by
 * their forms against analysis. */
#include <unicode/utf8.h>

#include "index/analyzer_internal.h"
#include "index/segment_internal.h"
#include "test.h"

static uint64_t seed = 1;
static uint32_t next_random(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((seed >> 32) * n) >> 32);
}

static bool same_words(const uint8_t *text, size_t len) {
    size_t a = 0, b = 0, a_start = 0, b_start = 0;
    bool a_ascii = false, b_ascii = false, more = true;
    while (more) {
        more = word_next(text, len, &a, &a_start, &a_ascii);
        bool other = word_next_general(text, len, &b, &b_start, &b_ascii);
        if (more != other || (more && (a != b || a_start != b_start || a_ascii != b_ascii))) {
            fprintf(stderr, "%zu-%zu, by the general rules %zu-%zu, in", a_start, a, b_start, b);
            for (size_t i = 0; i < len; i++) fprintf(stderr, " %02x", text[i]);
            fprintf(stderr, "\n");
            return false;
        }
    }
    return true;
}

/* Every string of up to 5 of what differs: the classes of ASCII, and of what may stand next to it. */
TEST(words_of_every_short_text) {
    static const char *const parts[] = {"a",  "Z",        "7",           "_",        " ",
                                        "'",  ".",        ":",           ",",        ";",
                                        "\"", "\xff",     "\xc3\xa9",    "\xcc\x81", "\xe2\x80\x8d",
                                        "-",  "\xd7\x90", "\xe9\xaf\xa8"};
    enum { N = ARRAY_SIZE(parts), MOST = 5 };
    uint64_t n = 1;
    for (unsigned length = 1; length <= MOST; length++) {
        n *= N;
        for (uint64_t i = 0; i < n; i++) {
            uint8_t text[32];
            size_t len = 0;
            for (uint64_t k = 0, rest = i; k < length; k++, rest /= N) {
                size_t m = strlen(parts[rest % N]);
                memcpy(text + len, parts[rest % N], m);
                len += m;
            }
            CHECK(same_words(text, len));
        }
    }
}

/* Every byte beside letters, digits and what joins them. */
TEST(words_beside_every_byte) {
    for (unsigned b = 0; b < 0x10000; b++) {
        uint8_t text[] = {'a', (uint8_t)b, (uint8_t)(b >> 8), 'b', '1', (uint8_t)b, (uint8_t)(b >> 8), '2'};
        CHECK(same_words(text, sizeof text));
    }
}

/* Runs around the lengths at which a scan and a token end. */
TEST(words_of_long_runs) {
    uint8_t text[1200];
    for (int round = 0; round < 20000; round++) {
        size_t len = 0;
        while (len < sizeof text - 300) {
            uint32_t run = next_random(4) ? next_random(40) : 230 + next_random(50);
            while (run--) text[len++] = (uint8_t) "abcdefXYZ0189"[next_random(13)];
            const char *mid =
                (const char *[]){" ", "'", ".", ",", "\xc3\xa9", "_", ":", "\n"}[next_random(8)];
            memcpy(text + len, mid, strlen(mid));
            len += strlen(mid);
        }
        CHECK(same_words(text, len - next_random(40)));
    }
}

/* ---- the writer ---- */

static void random_text(struct buf *b, unsigned n_words, uint32_t vocabulary) {
    for (unsigned i = 0; i < n_words; i++) {
        uint32_t r = next_random(vocabulary), kind = r % 16;
        if (i) buf_adds(b, next_random(9) ? " " : kind & 1 ? ", the " : "\n");
        buf_printf(b,
                   kind == 0   ? "Runner%x's"
                   : kind == 1 ? "\xc3\x89ole%x"
                   : kind == 2 ? "internationalizations%x" /* longer than the cache keeps */
                   : kind == 3 ? "%u"
                   : kind == 4 ? "x%xing"
                               : "w%xs",
                   r);
    }
}

static int write_text(enum analyzer analyzer, bool plain, struct jval *values, size_t n, struct buf *out,
                      struct err *err) {
    struct index_spec spec = {.path = "t", .path_len = 1, .type = FIELD_TEXT, .analyzer = (uint8_t)analyzer};
    struct index_writer *w = index_text.writer_new(&spec);
    struct blob_writer blob;
    struct buf regions = BUF_INIT;
    int r = 0;
    blob_writer_init(&blob, -1, BLOB_KIND_SEGMENT);
    struct index_out o = {.blob = &blob, .regions = &regions, .n_docs = (uint32_t)(n / 2)};
    for (size_t i = 0; i < n && !r; i += 2) { /* a document has two values */
        struct index_feeder f = {.spec = &spec, .ops = &index_text};
        w->docno = (uint32_t)(i / 2);
        for (size_t k = i; k < i + 2 && !r; k++)
            r = plain ? index_text.feed(&f, &values[k], index_text.writer_emit, w, err)
                      : index_text.writer_add(w, &f, &values[k], err);
    }
    if (!r) r = index_text.writer_finish(w, &o, err);
    buf_add(out, blob.mem.data, blob.mem.len);
    buf_add(out, regions.data, regions.len);
    buf_add(out, o.ext.data, o.ext.len);
    buf_add(out, &o.stats, sizeof o.stats);
    buf_release(&o.ext);
    buf_release(&regions);
    blob_writer_release(&blob);
    index_text.writer_free(w);
    return r;
}

static void check_same_index(enum analyzer analyzer, size_t n, unsigned n_words, uint32_t vocabulary) {
    struct err err = ERR_INIT;
    struct buf *texts = xcalloc(n, sizeof *texts), fast = BUF_INIT, plain = BUF_INIT;
    struct jval *values = xcalloc(n, sizeof *values);
    for (size_t i = 0; i < n; i++) {
        random_text(&texts[i], next_random(n_words), vocabulary);
        values[i] = (struct jval){
            .type = JVAL_STRING, .str = (const char *)texts[i].data, .count = (uint32_t)texts[i].len};
        if (!next_random(20)) values[i].type = JVAL_NULL;
    }
    CHECK_OK(write_text(analyzer, false, values, n, &fast, &err));
    CHECK_OK(write_text(analyzer, true, values, n, &plain, &err));
    CHECK(fast.len == plain.len && !memcmp(fast.data, plain.data, fast.len));
    for (size_t i = 0; i < n; i++) buf_release(&texts[i]);
    free(texts);
    free(values);
    buf_release(&fast);
    buf_release(&plain);
}

TEST(words_give_the_index_of_analysis) {
    check_same_index(ANALYZER_ENGLISH, 300, 60, 900);
    check_same_index(ANALYZER_STANDARD, 300, 60, 900);
    check_same_index(ANALYZER_KOREAN, 100, 60, 900);
}

/* More forms than the cache ever holds, so that it grows and replaces. */
TEST(more_forms_than_are_kept) {
    check_same_index(ANALYZER_ENGLISH, 4000, 200, 150000);
}
