/* The embedder: cutting, retries and bad texts against a table in memory; HTTP against
 * tests/fake/embeddings.py. */
#include "backend/embedder.h"
#include "backend/http.h"
#include "test.h"
#include "util/clock.h"

#include <jansson.h>
#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIM = 8, MANY = 1000 };

/* ---- an embedder without a network: a text's vector is its number; texts below 0 are refused ---- */

struct table {
    struct embedder base;
    unsigned requests, largest;
    size_t fail_first; /* so many requests fail with `failure` and `code` */
    struct embed_failure failure;
    enum err_code code;
    pthread_mutex_t lock;
};

static int table_embed(struct embedder *base, const struct embed_call *call, const struct embed_text *texts,
                       size_t n, float *vectors, struct embed_failure *failure, struct err *e) {
    struct table *t = (struct table *)base;
    pthread_mutex_lock(&t->lock);
    bool fails = t->fail_first > 0;
    t->fail_first -= fails;
    t->requests++;
    t->largest = MAX(t->largest, (unsigned)n);
    pthread_mutex_unlock(&t->lock);
    if (fails) {
        *failure = t->failure;
        return err_set(e, t->code, "as told");
    }
    for (size_t i = 0; i < n; i++) {
        int v = atoi(texts[i].s);
        failure->texts = v < 0;
        if (v < 0) return err_set(e, ERR_INVALID, "below zero");
        for (uint32_t d = 0; d < call->dimensions; d++)
            vectors[i * call->dimensions + d] = (float)v + (v == 5000 && d == 3 ? INFINITY : 0);
    }
    return 0;
}

static const struct embedder_ops table_ops = {.embed = table_embed};
static struct table table(void) {
    return (struct table){.base = {&table_ops, 4, 1}, .lock = PTHREAD_MUTEX_INITIALIZER};
}

static char numbers[MANY][24];
static struct embed_text texts[MANY];
static float vectors[MANY * DIM];
static struct err errs[MANY];

static void fill(size_t n) {
    for (size_t i = 0; i < n; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%zu", i);
        texts[i] = (struct embed_text){numbers[i], strlen(numbers[i])};
    }
    memset(vectors, 0, sizeof vectors);
}

static struct embed_call call_of(uint32_t dimensions) {
    return (struct embed_call){.model = "m", .dimensions = dimensions, .deadline_us = INT64_MAX};
}

TEST(cuts_and_keeps_order) {
    struct table t = table();
    struct embed_call call = call_of(DIM);
    fill(MANY);
    CHECK(!embedder_embed(&t.base, &call, texts, MANY, vectors, errs));
    CHECK(t.requests == 4 && t.largest == 256);
    for (size_t i = 0; i < MANY; i++)
        for (int d = 0; d < DIM; d++) CHECK(vectors[i * DIM + (size_t)d] == (float)i && !errs[i].code);
    CHECK(!embedder_embed(&t.base, &call, texts, 0, vectors, errs));
    CHECK(t.requests == 4);
}

TEST(cuts_by_bytes_and_values) {
    struct table t = table();
    struct embed_call call = call_of(DIM);
    size_t len = EMBED_REQUEST_BYTES / 4 + 1;
    char *big = xcalloc(1, len + 1);
    memset(big, '7', 3);
    for (size_t i = 0; i < 7; i++) texts[i] = (struct embed_text){big, len};
    CHECK(!embedder_embed(&t.base, &call, texts, 7, vectors, errs));
    CHECK(t.largest == 3 && t.requests == 3);
    texts[0].len = 2 * EMBED_REQUEST_BYTES; /* alone, however long */
    CHECK(!embedder_embed(&t.base, &call, texts, 1, vectors, errs));
    free(big);
    struct table u = table();
    call = call_of(4096);
    float *wide = xcalloc(130, 4096 * sizeof *wide);
    fill(130);
    CHECK(!embedder_embed(&u.base, &call, texts, 130, wide, errs));
    CHECK(u.largest == 64 && u.requests == 3);
    CHECK(wide[129 * 4096] == 129);
    free(wide);
}

TEST(finds_the_bad_texts) {
    static const size_t bad[] = {0, 7, 255, 256, 600, 999};
    struct table t = table();
    struct embed_call call = call_of(DIM);
    fill(MANY);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) texts[bad[i]] = (struct embed_text){"-1", 2};
    CHECK(embedder_embed(&t.base, &call, texts, MANY, vectors, errs) == -ERR_INVALID);
    for (size_t i = 0, b = 0; i < MANY; i++) {
        bool is_bad = b < ARRAY_SIZE(bad) && bad[b] == i;
        b += is_bad;
        CHECK((errs[i].code == ERR_INVALID) == is_bad);
        CHECK(is_bad || vectors[i * DIM] == (float)i);
    }
    CHECK(t.requests < 4 + ARRAY_SIZE(bad) * 2 * 9);
    for (size_t i = 0; i < 8; i++) texts[i] = (struct embed_text){"-1", 2};
    t.requests = 0;
    CHECK(embedder_embed(&t.base, &call, texts, 8, vectors, errs) == -ERR_INVALID);
    CHECK(t.requests == 15);
}

TEST(tries_again_what_may_work) {
    struct table t = table();
    struct embed_call call = call_of(DIM);
    fill(3);
    t.fail_first = 3;
    t.failure = (struct embed_failure){.again = true};
    t.code = ERR_UNREACHABLE;
    CHECK(!embedder_embed(&t.base, &call, texts, 3, vectors, errs));
    CHECK(t.requests == 4 && vectors[2 * DIM] == 2);
    t.fail_first = 4;
    t.requests = 0;
    CHECK(embedder_embed(&t.base, &call, texts, 3, vectors, errs) == -ERR_UNREACHABLE);
    CHECK(t.requests == 4 && errs[2].code == ERR_UNREACHABLE && !strcmp(errs[0].text, "as told"));
    t.fail_first = 1;
    t.requests = 0;
    t.failure.again = false;
    CHECK(embedder_embed(&t.base, &call, texts, 3, vectors, errs) == -ERR_UNREACHABLE);
    CHECK(t.requests == 1);
}

TEST(waits_as_asked_but_not_past_the_deadline) {
    struct table t = table();
    struct embed_call call = call_of(DIM);
    fill(1);
    t.failure = (struct embed_failure){.again = true, .after_ms = 120};
    t.code = ERR_RATE;
    t.fail_first = 1;
    int64_t start = clock_mono_us(&clock_system);
    CHECK(!embedder_embed(&t.base, &call, texts, 1, vectors, errs));
    CHECK(clock_mono_us(&clock_system) - start >= 120000 && t.requests == 2);
    t.fail_first = 1;
    start = clock_mono_us(&clock_system);
    call.deadline_us = start + 50000;
    CHECK(embedder_embed(&t.base, &call, texts, 1, vectors, errs) ==
          -ERR_RATE); /* the reason, not the deadline */
    CHECK(clock_mono_us(&clock_system) - start < 50000);
    t.fail_first = 1;
    t.failure.after_ms = 3600000;
    call.deadline_us = INT64_MAX;
    CHECK(embedder_embed(&t.base, &call, texts, 1, vectors, errs) == -ERR_RATE);
}

TEST(a_failure_of_the_provider_ends_it) {
    struct table t = table();
    struct embed_call call = call_of(DIM);
    fill(MANY);
    t.fail_first = 1000;
    t.code = ERR_BAD_KEY;
    CHECK(embedder_embed(&t.base, &call, texts, MANY, vectors, errs) == -ERR_BAD_KEY);
    CHECK(t.requests <= EMBED_PARALLEL);
    for (size_t i = 0; i < MANY; i++) CHECK(errs[i].code == ERR_BAD_KEY);
}

TEST(stop_and_numbers_that_are_not_finite) {
    struct table t = table();
    struct embed_call call = call_of(DIM);
    volatile int stop = 1;
    fill(700);
    texts[666] = (struct embed_text){"5000", 4};
    CHECK(embedder_embed(&t.base, &call, texts, 700, vectors, errs) == -ERR_IO);
    CHECK(errs[666].code == ERR_IO && !errs[665].code && !errs[667].code);
    call.stop = &stop;
    t.requests = 0;
    CHECK(embedder_embed(&t.base, &call, texts, 3, vectors, errs) == -ERR_CANCELED);
    stop = 2;
    CHECK(embedder_embed(&t.base, &call, texts, 3, vectors, errs) == -ERR_TIMEOUT);
    CHECK(!t.requests);
}

TEST(models) {
    CHECK(embedder_model("text-embedding-3-small")->dimensions == 1536);
    CHECK(embedder_model("text-embedding-3-large")->dimensions == 3072 &&
          embedder_model("text-embedding-3-large")->shortens);
    CHECK(!embedder_model("text-embedding-ada-002")->shortens);
    CHECK(!embedder_model("text-embedding-3") && !embedder_model(""));
}

/* ---- over HTTP ---- */

static pid_t fake_pid;
static int fake_stdin = -1;
static char url[64];
static int port;

static void fake_stop(void) {
    if (!fake_pid) return;
    close(fake_stdin);
    kill(fake_pid, SIGTERM);
    waitpid(fake_pid, NULL, 0);
    fake_pid = 0;
}

/* False: there is no Python, or the fake is not where the tests run. */
static bool fake_start(void) {
    int in[2], out[2];
    char line[16] = "";
    if (fake_pid) return true;
    if (access("tests/fake/embeddings.py", R_OK) || system("python3 -c '' 2>/dev/null")) return false;
    if (pipe(in) || pipe(out)) abort();
    fake_pid = fork();
    if (!fake_pid) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        for (int fd = 3; fd < 64; fd++) close(fd);
        execlp("python3", "python3", "tests/fake/embeddings.py", "--key", "sk-secret", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    fake_stdin = in[1];
    atexit(fake_stop);
    /* The whole line: an unbuffered Python writes the number and the line break one after the other. */
    for (size_t n = 0; n < sizeof line - 1 && !strchr(line, '\n'); n++)
        if (read(out[0], line + n, 1) != 1) abort();
    close(out[0]);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port = atoi(line));
    return true;
}

#define NEED_FAKE()                                                                                          \
    do {                                                                                                     \
        if (!fake_start()) {                                                                                 \
            fprintf(stderr, "skipped: no python3 or no tests/fake/embeddings.py\n");                         \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)

static struct embedder *client(const char *base, const char *key) {
    struct embedder_openai_config config = {.url = base};
    setenv("LDBFS_EMBEDDING_KEY", key, 1);
    setenv("no_proxy", "127.0.0.1", 1);
    struct embedder *e = embedder_openai_new(&config);
    e->backoff_ms = 1;
    return e;
}

/* One request to the fake's /control; its answer. */
static json_t *control_request(const char *method, const char *body) {
    char text[600], answer[1 << 16];
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), n = 0;
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) abort();
    int len = snprintf(text, sizeof text,
                       "%s /control HTTP/1.1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", method,
                       strlen(body), body);
    if (write(fd, text, (size_t)len) != len) abort();
    for (ssize_t k; (k = read(fd, answer + n, sizeof answer - 1 - (size_t)n)) > 0;) n += (int)k;
    close(fd);
    answer[n] = 0;
    const char *json = strstr(answer, "\r\n\r\n");
    return json ? json_loads(json + 4, 0, NULL) : NULL;
}

/* What the fake's next requests get: a JSON array. */
static void control(const char *fail) {
    char body[400];
    snprintf(body, sizeof body, "{\"fail\": %s}", fail);
    json_decref(control_request("POST", body));
}

static long fake_count(const char *name) {
    json_t *state = control_request("GET", "");
    long n = (long)json_integer_value(json_object_get(state, name));
    json_decref(state);
    return n;
}

TEST(http_vectors) {
    NEED_FAKE();
    struct embedder *e = client(url, "sk-secret");
    struct embed_call call = call_of(DIM);
    struct embed_text t[] = {{"white whale", 11}, {"\"quoted\"\n\xc3\xa9", 11}, {"white whale", 11}};
    CHECK(!embedder_embed(e, &call, t, 3, vectors, errs));
    double sum = 0;
    for (int d = 0; d < DIM; d++) sum += (double)vectors[d] * vectors[d];
    CHECK(fabs(sum - 1) < 1e-5);
    CHECK(!memcmp(vectors, vectors + 2 * DIM, DIM * sizeof *vectors));
    CHECK(memcmp(vectors, vectors + DIM, DIM * sizeof *vectors));
    control("[[\"shuffle\", {}]]");
    float shuffled[3 * DIM];
    CHECK(!embedder_embed(e, &call, t, 3, shuffled, errs));
    CHECK(!memcmp(shuffled, vectors, sizeof shuffled));
    long before = fake_count("connections"); /* itself one */
    for (int i = 0; i < 5; i++) CHECK(!embedder_embed(e, &call, t, 1, vectors, errs));
    CHECK(fake_count("connections") == before + 1);
    embedder_close(e);
}

TEST(http_known_models_get_dimensions) {
    NEED_FAKE();
    struct embedder *e = client(url, "sk-secret");
    struct embed_call call = {.model = "text-embedding-3-small", .dimensions = 5, .deadline_us = INT64_MAX};
    struct embed_text t = {"x", 1};
    CHECK(!embedder_embed(e, &call, &t, 1, vectors, errs));
    call.model = "other";
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_DIMENSION);
    CHECK(strstr(errs[0].text, "8 dimensions, expected 5"));
    embedder_close(e);
}

TEST(http_failures) {
    static const struct {
        const char *fail;
        enum err_code code;
        const char *text;
        int requests;
    } cases[] = {
        {"[[\"429\", {\"retry_after\": 0.05}]]", ERR_NONE, "", 2},
        {"[[\"500\", {}], [\"500\", {}]]", ERR_NONE, "", 3},
        {"[[\"500\", {}], [\"500\", {}], [\"500\", {}], [\"500\", {}]]", ERR_UNREACHABLE, "500: injected 500",
         4},
        {"[[\"429\", {}], [\"429\", {}], [\"429\", {}], [\"429\", {}]]", ERR_RATE, "slow down", 4},
        {"[[\"garbage\", {}]]", ERR_NONE, "", 2},
        {"[[\"garbage\", {}], [\"garbage\", {}], [\"garbage\", {}], [\"garbage\", {}]]", ERR_IO,
         "makes no sense", 4},
        {"[[\"short\", {}], [\"short\", {}], [\"short\", {}], [\"short\", {}]]", ERR_IO,
         "1 vectors for 2 texts", 4},
        {"[[\"index\", {}], [\"index\", {}], [\"index\", {}], [\"index\", {}]]", ERR_IO, "index", 4},
        {"[[\"drop\", {}]]", ERR_NONE, "", 2},
        {"[[\"401\", {}]]", ERR_BAD_KEY, "injected 401", 1},
        {"[[\"404\", {\"message\": \"no model m\"}]]", ERR_INVALID, "no model m", 1},
        {"[[\"quota\", {}]]", ERR_QUOTA, "no credit left", 1},
        {"[[\"dimension\", {}]]", ERR_DIMENSION, "9 dimensions, expected 8", 1},
        {"[[\"large\", {}], [\"large\", {}]]", ERR_TOO_LARGE, "larger than", 1},
        {"[[\"400\", {}], [\"400\", {}], [\"400\", {}]]", ERR_INVALID, "injected 400", 3},
        {"[[\"echo\", {}], [\"echo\", {}], [\"echo\", {}]]", ERR_INVALID, "you sent Bearer ***", 3},
    };
    NEED_FAKE();
    struct embedder *e = client(url, "sk-secret");
    struct embed_call call = call_of(DIM);
    struct embed_text t[] = {{"a", 1}, {"b", 1}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        long before = fake_count("requests");
        control(cases[i].fail);
        int r = embedder_embed(e, &call, t, 2, vectors, errs);
        long requests = fake_count("requests") - before;
        bool ok = r == -(int)cases[i].code &&
                  (!r || strstr(errs[1].code ? errs[1].text : errs[0].text, cases[i].text));
        if (!ok || requests != cases[i].requests || strstr(errs[0].text, "sk-secret"))
            fprintf(stderr, "%s: %d %s, %ld requests\n", cases[i].fail, r, errs[0].text, requests);
        CHECK(ok && requests == cases[i].requests && !strstr(errs[0].text, "sk-secret"));
    }
    control("[[\"nan\", {}]]");
    CHECK(embedder_embed(e, &call, t, 2, vectors, errs) == -ERR_IO);
    CHECK(!errs[0].code && strstr(errs[1].text, "not finite"));
    embedder_close(e);
}

/* What the server asks to wait, as seconds or as a time; one that has passed says nothing. */
TEST(http_retry_after) {
    static const struct {
        const char *fail;
        int64_t least_ms, most_ms;
    } cases[] = {
        {"[[\"429\", {\"retry_after\": 1.5}]]", 1500, 1501},
        {"[[\"429\", {\"retry_after\": \"Fri, 31 Dec 2100 23:59:59 GMT\"}]]", 86400000, 86400000},
        {"[[\"429\", {\"retry_after\": \"Sunday, 06-Nov-94 08:49:37 GMT\"}]]", 0, 0},
        {"[[\"429\", {\"retry_after\": \"soon\"}]]", 0, 0},
        {"[[\"429\", {\"retry_in\": 3600}]]", 3590000, 3610000},
        {"[[\"429\", {\"retry_in\": 60, \"date_off\": 500000}]]", 59000, 61000},
    };
    static const char *const headers[] = {"Authorization: Bearer sk-secret", NULL};
    NEED_FAKE();
    struct http *h = http_new();
    char address[80];
    snprintf(address, sizeof address, "%s/embeddings", url);
    struct http_request req = {.url = address,
                               .headers = headers,
                               .body = "{\"input\":[\"a\"],\"model\":\"m\"}",
                               .body_len = 27,
                               .max_answer = 1 << 16,
                               .timeout_ms = 10000};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http_answer a;
        control(cases[i].fail);
        int r = http_post(h, &req, &a, &errs[0]);
        bool ok = !r && a.status == 429 && a.retry_after_ms >= cases[i].least_ms &&
                  a.retry_after_ms <= cases[i].most_ms;
        if (!ok) fprintf(stderr, "%s: %d, %lld ms\n", cases[i].fail, a.status, (long long)a.retry_after_ms);
        buf_release(&a.body);
        CHECK(ok);
    }
    http_free(h);
}

static void *set_stop(void *p) {
    usleep(50000);
    __atomic_store_n((volatile int *)p, 1, __ATOMIC_RELAXED);
    return NULL;
}

TEST(http_stops_at_once) {
    NEED_FAKE();
    struct embedder *e = client(url, "sk-secret");
    struct embed_call call = call_of(DIM);
    struct embed_text t = {"a", 1};
    volatile int stop = 0;
    pthread_t thread;
    control("[[\"slow\", {\"seconds\": 3}]]");
    call.stop = &stop;
    int64_t start = clock_mono_us(&clock_system);
    pthread_create(&thread, NULL, set_stop, (void *)&stop);
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_CANCELED);
    CHECK(clock_mono_us(&clock_system) - start < 1000000);
    pthread_join(thread, NULL);
    control("[[\"slow\", {\"seconds\": 3}], [\"slow\", {\"seconds\": 3}]]"); /* the first may be on its way
                                                                                still */
    call.stop = NULL;
    start = clock_mono_us(&clock_system);
    call.deadline_us = start + 200000;
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_TIMEOUT);
    CHECK(clock_mono_us(&clock_system) - start < 1000000);
    control("[]");
    embedder_close(e);
}

TEST(http_configuration) {
    NEED_FAKE();
    struct embed_call call = call_of(DIM);
    struct embed_text t = {"a", 1};
    struct embedder *e = client(url, "sk-wrong");
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_BAD_KEY);
    CHECK(!strstr(errs[0].text, "sk-wrong"));
    embedder_close(e);
    unsetenv("LDBFS_EMBEDDING_URL");
    e = client(NULL, "");
    unsetenv("OPENAI_API_KEY");
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_NO_KEY);
    CHECK(strstr(errs[0].text, "LDBFS_EMBEDDING_KEY") && strstr(errs[0].text, "LDBFS_EMBEDDING_URL"));
    setenv("LDBFS_EMBEDDING_KEY", "two\r\nlines", 1);
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_NO_KEY);
    embedder_close(e);
    e = client("ftp://127.0.0.1/v1", "k");
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_INVALID);
    embedder_close(e);
    setenv("LDBFS_EMBEDDING_RETRIES", "0", 1);
    e = client("http://127.0.0.1:1/v1", "k");
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_UNREACHABLE);
    CHECK(strstr(errs[0].text, "the embedding provider"));
    embedder_close(e);
    unsetenv("LDBFS_EMBEDDING_RETRIES");
    char path[] = "/tmp/ldbfs-test-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, "sk-secret\n", 10) == 10);
    close(fd);
    struct embedder_openai_config config = {.url = url, .key_file = path};
    setenv("LDBFS_EMBEDDING_KEY", "sk-wrong", 1); /* the file comes first */
    e = embedder_openai_new(&config);
    CHECK(!embedder_embed(e, &call, &t, 1, vectors, errs));
    embedder_close(e);
    unlink(path);
    e = embedder_openai_new(&config);
    CHECK(embedder_embed(e, &call, &t, 1, vectors, errs) == -ERR_NOT_FOUND);
    embedder_close(e);
}

static void *embed_many(void *e) {
    struct embed_call call = call_of(DIM);
    float *out = xcalloc(600, DIM * sizeof *out);
    struct err *bad = xcalloc(600, sizeof *bad);
    long r = embedder_embed(e, &call, texts, 600, out, bad);
    free(out);
    free(bad);
    return (void *)r;
}

TEST(http_threads) {
    NEED_FAKE();
    struct embedder *e = client(url, "sk-secret");
    pthread_t threads[6];
    fill(600);
    control("[[\"500\", {}], [\"429\", {}], [\"drop\", {}], [\"500\", {}]]");
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) pthread_create(&threads[i], NULL, embed_many, e);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *r;
        pthread_join(threads[i], &r);
        CHECK(!r);
    }
    embedder_close(e);
}
