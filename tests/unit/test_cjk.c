/* The Japanese and Korean analyzers: fixed texts, offsets, any bytes, determinism, threads, a missing
 * dictionary. */
#include "index/analyzer.h"
#include "index/analyzer_internal.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unicode/utf8.h>
#include <unistd.h>

static uint64_t seed = 11;
static uint32_t next_random(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static int tokens_into(struct analyzer_state *a, const char *text, size_t len, struct buf *out) {
    struct err err = ERR_INIT;
    const struct token *t;
    size_t n;
    buf_clear(out);
    int r = analyze(a, text, len, &t, &n, &err);
    for (size_t i = 0; !r && i < n; i++)
        buf_printf(out, "%s%.*s@%u", i ? " " : "", (int)t[i].len, t[i].text, t[i].position);
    buf_str(out);
    return r;
}

static bool has_japanese(void) {
    struct err err = ERR_INIT;
    if (!analyzer_check(ANALYZER_JAPANESE, &err)) return true;
    fprintf(stderr, "SKIPPED: %s\n", err.text);
    return false;
}

struct example {
    const char *text, *tokens;
};

static bool examples_hold(enum analyzer kind, const struct example *e, size_t n) {
    struct analyzer_state *a = analyzer_new(kind);
    struct buf out = BUF_INIT;
    bool ok = true;
    for (size_t i = 0; a && i < n; i++) {
        if (!tokens_into(a, e[i].text, strlen(e[i].text), &out) && !strcmp(buf_str(&out), e[i].tokens))
            continue;
        fprintf(stderr, "%s:\n got: %s\nwant: %s\n", e[i].text, buf_str(&out), e[i].tokens);
        ok = false;
    }
    buf_release(&out);
    analyzer_free(a);
    return a && ok;
}

TEST(japanese) {
    static const struct example examples[] = {
        {"", ""},
        {"。、！？「」 \n", ""},
        /* base forms; particles, auxiliaries and dependent words leave gaps */
        {"走る走った走れば", "走る@0 走る@1 走る@3"},
        {"美しい花が咲いている", "美しい@0 花@1 咲く@3"},
        /* one width, lower case; one particle between two nouns is bridged */
        {"猫はＡＢＣを食べなかった。", "猫@0 猫abc@0 abc@2 食べる@4"},
        /* compounds; what the dictionary has as one word stays one */
        {"東京都", "東京@0 東京都@0 都@1"},
        {"東京都知事", "東京@0 東京都知事@0 都知事@1"},
        {"関西国際空港", "関西国際空港@0"},
        /* punctuation takes no position and parts compounds */
        {"日本の首都、東京タワー", "日本@0 日本首都@0 首都@2 東京@3 東京タワー@3 タワー@4"},
        /* the long mark at the end, half width, and short words that keep it */
        {"サーバー。ｻｰﾊﾞｰ。キー", "サーバ@0 サーバ@1 キー@2"},
        {"㈱日立", "株@0 日立@1"},
    };
    if (!has_japanese()) return;
    CHECK(examples_hold(ANALYZER_JAPANESE, examples, ARRAY_SIZE(examples)));
}

TEST(korean) {
    static const struct example examples[] = {
        {"", ""},
        {"., !? \n", ""},
        /* particles and endings off, then pairs; a word of one syllable is itself */
        {"학교 학교가 학교에서는 학교로부터", "학교@0 학교@1 학교@2 학교@3"},
        {"대한민국의 수도", "대한@0 한민@1 민국@2 수도@3"},
        {"지명수배 된 날", "지명@0 명수@1 수배@2 된@3 날@4"},
        {"주도한 주도하였다 주도했습니다", "주도@0 주도@1 주도@2"},
        /* a stem keeps two syllables */
        {"책을 나라", "책을@0 나라@1"},
        /* other scripts as `standard`; a particle behind them goes */
        {"NLL을 iPhone은 1989년 3.1운동", "nll@0 iphone@1 1989@2 년@3 3.1@4 운동@5"},
        {"韓國 한국", "韓@0 國@1 한국@2"},
        /* composed and conjoining letters are the same, and full width is half */
        {"\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1174 ＡＢＣ", "한국@0 abc@1"},
        {"것이다.그리고", "것이@0 이다@1 그리@2 리고@3"},
    };
    CHECK(examples_hold(ANALYZER_KOREAN, examples, ARRAY_SIZE(examples)));
}

/* Offsets lie in the text and on characters, positions ascend, terms are well-formed and short. */
static bool sound(const struct token *t, size_t n, const char *text, size_t len) {
    for (size_t i = 0; i < n; i++) {
        if (!t[i].len || t[i].start >= t[i].end || t[i].end > len) return false;
        if (i && t[i].position < t[i - 1].position) return false;
        if (!i && t[i].position > len) return false;
        size_t chars = 0;
        for (size_t k = 0; k < t[i].len; chars++) {
            UChar32 c;
            U8_NEXT((const uint8_t *)t[i].text, k, t[i].len, c);
            if (c < 0) return false;
        }
        if (chars > TOKEN_MAX_CHARS) return false;
    }
    return true;
}

TEST(offsets_point_into_the_text) {
    const char *text = "ｻｰﾊﾞｰ を 서울에서";
    struct err err = ERR_INIT;
    const struct token *t;
    size_t n;
    struct analyzer_state *a = analyzer_new(ANALYZER_KOREAN);
    CHECK_OK(analyze(a, text, strlen(text), &t, &n, &err));
    CHECK(n == 3 && t[0].start == 0 && t[0].end == strlen("ｻｰﾊﾞｰ"));
    CHECK(!memcmp(text + t[2].start, "서울", strlen("서울")) && t[2].end - t[2].start == strlen("서울"));
    analyzer_free(a);
}

static size_t random_text(char *out, size_t cap) {
    static const uint32_t starts[] = {0x20,   0x30,  0x41,   0x3041, 0x30a0, 0x4e00, 0xac00,
                                      0x1100, 0x300, 0xff00, 0xff61, 0x3000, 0xfdf0, 0x1f300};
    size_t n = 0, want = next_random((uint32_t)cap - 8);
    uint32_t start = starts[next_random(ARRAY_SIZE(starts))];
    while (n < want) {
        if (!next_random(5)) start = starts[next_random(ARRAY_SIZE(starts))];
        uint32_t c = next_random(40) ? start + next_random(96) : next_random(0x110000);
        if (!next_random(60))
            out[n++] = (char)next_random(256);
        else if (!U_IS_SURROGATE(c))
            U8_APPEND_UNSAFE((uint8_t *)out, n, c);
    }
    return n;
}

static bool survives(enum analyzer kind) {
    enum { CAP = 3000 };
    char text[CAP];
    struct buf first = BUF_INIT, again = BUF_INIT;
    struct analyzer_state *a = analyzer_new(kind);
    bool ok = true;
    for (int i = 0; ok && i < 300; i++) {
        struct err err = ERR_INIT;
        const struct token *t;
        size_t n, len = random_text(text, CAP);
        struct analyzer_state *fresh = analyzer_new(kind);
        ok = !analyze(a, text, len, &t, &n, &err) && sound(t, n, text, len);
        ok = ok && !tokens_into(a, text, len, &first) && !tokens_into(fresh, text, len, &again) &&
             !strcmp(buf_str(&first), buf_str(&again));
        analyzer_free(fresh);
    }
    analyzer_free(a);
    buf_release(&first);
    buf_release(&again);
    return ok;
}

TEST(any_bytes) {
    CHECK(survives(ANALYZER_KOREAN));
    if (has_japanese()) CHECK(survives(ANALYZER_JAPANESE));
}

/* Longer than a piece, without a place to cut: no token is lost at the seams but where a word is cut. */
static bool long_text(enum analyzer kind, const char *unit, size_t least) {
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT;
    const struct token *t;
    size_t n;
    for (int i = 0; i < 20000; i++) buf_adds(&text, unit);
    struct analyzer_state *a = analyzer_new(kind);
    bool ok = !analyze(a, (char *)text.data, text.len, &t, &n, &err) && n >= least &&
              sound(t, n, (char *)text.data, text.len) && t[n - 1].end + 3 >= text.len;
    analyzer_free(a);
    buf_release(&text);
    return ok;
}

TEST(long_texts) {
    CHECK(long_text(ANALYZER_KOREAN, "각", 19000));
    CHECK(long_text(ANALYZER_KOREAN, "x", 20000 / 255));
    CHECK(long_text(ANALYZER_KOREAN, "한국 ", 20000));
    if (!has_japanese()) return;
    CHECK(long_text(ANALYZER_JAPANESE, "猫", 10000));
    CHECK(long_text(ANALYZER_JAPANESE, "x", 20000 / 255));
    CHECK(long_text(ANALYZER_JAPANESE, "ア", 20000 / 255));
    CHECK(long_text(ANALYZER_JAPANESE, "東京。", 20000));
}

struct job {
    const char *texts;
    struct buf out;
};

static void *analyze_all(void *arg) {
    struct job *job = arg;
    struct buf one = BUF_INIT;
    struct analyzer_state *ja = analyzer_new(ANALYZER_JAPANESE), *ko = analyzer_new(ANALYZER_KOREAN);
    for (int i = 0; i < 200; i++) {
        for (int k = 0; k < 2; k++) {
            struct analyzer_state *a = k ? ko : ja;
            if (!a || tokens_into(a, job->texts, strlen(job->texts), &one)) continue;
            if (!i) buf_add(&job->out, one.data, one.len);
        }
    }
    analyzer_free(ja);
    analyzer_free(ko);
    buf_release(&one);
    return NULL;
}

TEST(threads) {
    enum { N = 4 };
    struct job jobs[N];
    pthread_t threads[N];
    for (int i = 0; i < N; i++) {
        jobs[i] = (struct job){.texts = "日本の首都は東京である。대한민국의 수도는 서울이다."};
        CHECK(!pthread_create(&threads[i], NULL, analyze_all, &jobs[i]));
    }
    for (int i = 0; i < N; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < N; i++) {
        CHECK(jobs[i].out.len && jobs[i].out.len == jobs[0].out.len &&
              !memcmp(jobs[i].out.data, jobs[0].out.data, jobs[0].out.len));
    }
    for (int i = 0; i < N; i++) buf_release(&jobs[i].out);
}

TEST(fingerprints) {
    uint64_t v = analyzer_fingerprint(ANALYZER_KOREAN);
    CHECK(v && v == analyzer_fingerprint(ANALYZER_KOREAN) && v != analyzer_fingerprint(ANALYZER_STANDARD));
    analyzer_fake_fingerprint(ANALYZER_KOREAN, 5);
    CHECK(analyzer_fingerprint(ANALYZER_KOREAN) == 5);
    analyzer_fake_fingerprint(ANALYZER_KOREAN, 0);
    CHECK(analyzer_fingerprint(ANALYZER_KOREAN) == v);
    if (has_japanese()) CHECK(analyzer_fingerprint(ANALYZER_JAPANESE));
}

#define NOWHERE "/nonexistent/dictionary"

/* Does something only in the process that the next test starts. */
TEST(no_dictionary_inside) {
    static const char json[] = "{\"indexConfigs\":{\"a\":{\"type\":\"text\",\"analyzers\":[\"japanese\"]}}}";
    static const char record[] = "{\"version\":1,\"dynamic\":false,\"indexConfigs\":"
                                 "{\"a\":{\"type\":\"text\",\"analyzers\":[\"japanese\"]}}}";
    const char *dir = getenv("LDBFS_MECAB_DIC");
    struct err err = ERR_INIT;
    struct schema *s = NULL;
    if (!dir || strcmp(dir, NOWHERE)) return;
    CHECK(!analyzer_new(ANALYZER_JAPANESE) && !analyzer_fingerprint(ANALYZER_JAPANESE));
    CHECK(analyzer_check(ANALYZER_JAPANESE, &err) == -ERR_UNSUPPORTED &&
          strstr(err.text, "mecab-ipadic-utf8"));
    CHECK(schema_parse(json, strlen(json), &s, &err) == -ERR_INVALID &&
          strstr(err.text, "mecab-ipadic-utf8"));
    CHECK_OK(schema_read_record(record, strlen(record), &s, &err)); /* what is stored stays readable */
    CHECK(analyzers_check(s, &err) == -ERR_UNSUPPORTED && strstr(err.text, "mecab-ipadic-utf8"));
    schema_unref(s);
}

TEST(no_dictionary) {
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        setenv("LDBFS_MECAB_DIC", NOWHERE, 1);
        execl("/proc/self/exe", "test_cjk", "no_dictionary_inside", NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
