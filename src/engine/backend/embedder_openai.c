/* The OpenAI-compatible embedder: request and answer as JSON over HTTP.
 *
 *   POST {url}/embeddings   {"model":"m","input":["text",...],"encoding_format":"float"[,"dimensions":n]}
 *   200                     {"data":[{"index":0,"embedding":[0.1,...]},...]}
 *   other                   {"error":{"message":"...","code":"..."}}
 *
 * "dimensions" is sent only to models that are known to take it: other servers refuse the member.
 */
#include "backend/embedder.h"
#include "backend/http.h"
#include "util/clock.h"
#include "util/jval.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#define DEFAULT_URL "https://api.openai.com/v1"
enum {
    KEY_MAX = 4096,
    URL_MAX = 2048,
    TIMEOUT_S = 30,
    TIMEOUT_MAX_S = 600,
    RETRIES = 3,
    RETRIES_MAX = 10,
    BACKOFF_MS = 250,
    ANSWER_BASE = 1 << 16,
    ANSWER_PER_VALUE = 32, /* bytes of JSON a number may take */
};

struct openai {
    struct embedder base;
    struct http *http;
    char *url_option, *key_file_option; /* NULL: the environment */
    pthread_mutex_t lock;
    bool ready; /* guarded by lock; what follows is immutable once it is set */
    char *url, *key;
    uint32_t timeout_ms;
};

/* ---- configuration ---- */

static const char *env(const char *name) {
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static int env_number(const char *name, unsigned fallback, unsigned max, unsigned *ret, struct err *err) {
    const char *text = env(name);
    char *end;
    *ret = fallback;
    if (!text) return 0;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || *text == '-' || v > max)
        return err_set(err, ERR_INVALID, "%s must be a whole number up to %u", name, max);
    *ret = (unsigned)v;
    return 0;
}

static int read_key(const char *path, char **ret, struct err *err) {
    char key[KEY_MAX + 1];
    if (*path != '/') return err_set(err, ERR_INVALID, "the embedding key file must be an absolute path");
    FILE *f = fopen(path, "re");
    if (!f) return err_sys(err, errno, "the embedding key file \"%.200s\" cannot be read", path);
    size_t n = fread(key, 1, sizeof key, f);
    bool bad = ferror(f) || n > KEY_MAX;
    fclose(f);
    if (bad) return err_set(err, ERR_INVALID, "the embedding key file \"%.200s\" is no key", path);
    while (n && strchr(" \t\r\n", key[n - 1])) n--;
    *ret = xstrndup(key, n);
    explicit_bzero(key, sizeof key);
    return 0;
}

/* A key is one header line, so it can hold no control character. */
static int check_key(const char *key, struct err *err) {
    bool bad = !*key || strlen(key) > KEY_MAX;
    for (const char *p = key; *p; p++) bad = bad || (unsigned char)*p <= 0x20 || *p == 0x7f;
    return bad ? err_set(err, ERR_NO_KEY, "the embedding key is empty or not one word") : 0;
}

static int find_key(struct openai *o, bool own_url, char **ret, struct err *err) {
    const char *file = o->key_file_option ? o->key_file_option : env("LDBFS_EMBEDDING_KEY_FILE");
    const char *key = env("LDBFS_EMBEDDING_KEY");
    if (!key && !own_url) key = env("OPENAI_API_KEY"); /* that key is for nobody else */
    *ret = NULL;
    int r = file ? read_key(file, ret, err) : 0;
    if (!r && !*ret && key) *ret = xstrdup(key);
    if (!r && *ret) r = check_key(*ret, err);
    if (!r && !*ret && !own_url)
        r = err_set(err, ERR_NO_KEY,
                    "no embedding provider is configured: set LDBFS_EMBEDDING_KEY (or OPENAI_API_KEY), or "
                    "LDBFS_EMBEDDING_URL for a server of your own");
    return r;
}

static int check_url(const char *url, struct err *err) {
    bool good = !strncmp(url, "http://", 7) || !strncmp(url, "https://", 8);
    if (good && strlen(url) <= URL_MAX) return 0;
    return err_set(err, ERR_INVALID, "the embedding URL must begin with https:// or http://");
}

static int configure(struct openai *o, struct err *err) {
    const char *url = o->url_option ? o->url_option : env("LDBFS_EMBEDDING_URL");
    char *key = NULL;
    unsigned seconds, retries;
    int r = check_url(url ? url : DEFAULT_URL, err);
    if (!r) r = env_number("LDBFS_EMBEDDING_TIMEOUT", TIMEOUT_S, TIMEOUT_MAX_S, &seconds, err);
    if (!r) r = env_number("LDBFS_EMBEDDING_RETRIES", RETRIES, RETRIES_MAX, &retries, err);
    if (!r) r = find_key(o, url && strcmp(url, DEFAULT_URL), &key, err);
    if (r) {
        free(key);
        return r;
    }
    size_t len = strlen(url ? url : DEFAULT_URL);
    while (len && (url ? url : DEFAULT_URL)[len - 1] == '/') len--;
    struct buf full = BUF_INIT;
    buf_printf(&full, "%.*s/embeddings", (int)len, url ? url : DEFAULT_URL);
    buf_str(&full);
    o->url = (char *)buf_detach(&full, NULL);
    o->key = key;
    o->timeout_ms = MAX(seconds, 1u) * 1000;
    __atomic_store_n(&o->base.attempts, retries + 1, __ATOMIC_RELAXED);
    o->ready = true;
    return 0;
}

/* ---- the request ---- */

static void write_request(const struct embed_call *call, const struct embed_text *texts, size_t n,
                          struct buf *out) {
    const struct embed_model *model = embedder_model(call->model);
    buf_adds(out, "{\"model\":");
    buf_add_json_string(out, call->model, strlen(call->model));
    buf_adds(out, ",\"input\":[");
    for (size_t i = 0; i < n; i++) {
        if (i) buf_addc(out, ',');
        buf_add_json_string(out, texts[i].s, texts[i].len);
    }
    buf_adds(out, "],\"encoding_format\":\"float\"");
    if (model && model->shortens) buf_printf(out, ",\"dimensions\":%u", call->dimensions);
    buf_addc(out, '}');
}

/* ---- the answer ---- */

static int no_sense(struct embed_failure *failure, struct err *err, const char *what) {
    failure->again = true;
    return err_set(err, ERR_IO, "the embedding provider's answer makes no sense: %s", what);
}

static int read_vector(const struct embed_call *call, const struct jval *v, float *ret, struct err *err) {
    if (!v || v->type != JVAL_ARRAY) return -ERR_IO;
    if (v->count != call->dimensions)
        return err_set(err, ERR_DIMENSION, "model \"%.100s\" answered a vector of %u dimensions, expected %u",
                       call->model, v->count, call->dimensions);
    for (const struct jval *e = v->first; e; e = e->next) {
        if (e->type != JVAL_NUMBER) return -ERR_IO;
        *ret++ = (float)jval_number(e);
    }
    return 0;
}

/* The vectors may come in any order; "index" says whose each is. */
static int read_data(const struct embed_call *call, const struct jval *data, size_t n, float *vectors,
                     struct embed_failure *failure, struct err *err) {
    bool *seen = xcalloc(n, sizeof *seen);
    size_t at = 0;
    int r = 0;
    for (const struct jval *item = data->first; item && !r; item = item->next, at++) {
        bool object = item->type == JVAL_OBJECT;
        const struct jval *index = object ? jval_get(item, "index", 5) : NULL;
        size_t i = at;
        if (index)
            i = index->type == JVAL_NUMBER && index->is_int && index->i64 >= 0 ? (size_t)index->i64 : n;
        if (!object || i >= n || seen[i]) {
            r = no_sense(failure, err, "an \"index\" that was not asked for");
            break;
        }
        seen[i] = true;
        r = read_vector(call, jval_get(item, "embedding", 9), vectors + i * call->dimensions, err);
        if (r == -ERR_IO) r = no_sense(failure, err, "an \"embedding\" that is no array of numbers");
    }
    free(seen);
    return r;
}

static int read_answer(const struct embed_call *call, const struct buf *body, size_t n, float *vectors,
                       struct embed_failure *failure, struct err *err) {
    struct arena arena = ARENA_INIT;
    struct jval *root = NULL;
    int r = jval_parse(&arena, (const char *)body->data, body->len, &root, NULL);
    const struct jval *data = !r && root->type == JVAL_OBJECT ? jval_get(root, "data", 4) : NULL;
    if (!data || data->type != JVAL_ARRAY) {
        r = no_sense(failure, err, "it is no JSON object with an array \"data\"");
    } else if (data->count != n) {
        char text[80];
        snprintf(text, sizeof text, "%u vectors for %zu texts", data->count, n);
        r = no_sense(failure, err, text);
    } else {
        r = read_data(call, data, n, vectors, failure, err);
    }
    arena_release(&arena);
    return r;
}

/* ---- refusals ---- */

/* One printable line; the key is taken out should a server repeat it. */
static void clean_message(const struct openai *o, const char *s, size_t len, char *out, size_t size) {
    size_t key_len = o->key ? strlen(o->key) : 0, n = 0;
    for (size_t i = 0; i < len && n + 4 < size;) {
        if (key_len && len - i >= key_len && !memcmp(s + i, o->key, key_len)) {
            memcpy(out + n, "***", 3);
            n += 3;
            i += key_len;
            continue;
        }
        unsigned char c = (unsigned char)s[i++];
        out[n++] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
    size_t bad;
    while (n && (bad = utf8_invalid(out, n)) != 0) n = bad - 1;
    out[n] = 0;
}

/* Finds {"error":{"message","code"}}, {"error":"..."}, {"message":"..."} or {"detail":"..."}; else the body
 * itself. */
static void find_message(const struct openai *o, const struct buf *body, char *text, size_t size,
                         bool *ret_quota) {
    struct arena arena = ARENA_INIT;
    struct jval *root = NULL;
    const struct jval *m = NULL, *code = NULL;
    int r = jval_parse(&arena, (const char *)body->data, body->len, &root, NULL);
    if (!r && root->type == JVAL_OBJECT) {
        m = jval_get(root, "error", 5);
        if (m && m->type == JVAL_OBJECT) {
            code = jval_get(m, "code", 4);
            m = jval_get(m, "message", 7);
        }
        if (!m) m = jval_get(root, "message", 7);
        if (!m) m = jval_get(root, "detail", 6);
    }
    *ret_quota = code && code->type == JVAL_STRING && code->count == 18 &&
                 !memcmp(code->str, "insufficient_quota", 18);
    if (m && m->type == JVAL_STRING)
        clean_message(o, m->str, m->count, text, size);
    else
        clean_message(o, (const char *)body->data, body->len, text, size);
    arena_release(&arena);
}

static int refused(const struct openai *o, const struct http_answer *a, struct embed_failure *failure,
                   struct err *err) {
    char text[260];
    bool quota;
    enum err_code code = ERR_UNREACHABLE;
    find_message(o, &a->body, text, sizeof text, &quota);
    if (a->status == 429 && quota)
        code = ERR_QUOTA;
    else if (a->status == 429)
        code = ERR_RATE;
    else if (a->status == 401 || a->status == 403)
        code = ERR_BAD_KEY;
    else if (a->status == 408)
        code = ERR_TIMEOUT;
    else if (a->status >= 400 && a->status < 500)
        code = ERR_INVALID;
    failure->again = code == ERR_RATE || code == ERR_TIMEOUT || a->status >= 500;
    failure->after_ms = failure->again ? a->retry_after_ms : 0;
    failure->texts = a->status == 400 || a->status == 413 || a->status == 422;
    return err_set(err, code, "the embedding provider answered %d%s%s", a->status, text[0] ? ": " : "", text);
}

/* ---- operations ---- */

static int send_request(struct openai *o, const struct embed_call *call, const struct buf *body, size_t n,
                        struct http_answer *a, struct err *err) {
    struct buf auth = BUF_INIT;
    const char *headers[3] = {"Content-Type: application/json"};
    int64_t left_ms = (call->deadline_us - clock_mono_us(&clock_system)) / 1000;
    if (left_ms <= 0) return err_set(err, ERR_TIMEOUT, "there was no time left");
    if (o->key) {
        buf_printf(&auth, "Authorization: Bearer %s", o->key);
        headers[1] = buf_str(&auth);
    }
    struct http_request req = {.url = o->url,
                               .headers = headers,
                               .body = body->data,
                               .body_len = body->len,
                               .max_answer = ANSWER_BASE + n * call->dimensions * ANSWER_PER_VALUE,
                               .timeout_ms = (uint32_t)MIN(left_ms, (int64_t)o->timeout_ms),
                               .stop = call->stop};
    int r = http_post(o->http, &req, a, err);
    if (auth.data) explicit_bzero(auth.data, auth.cap);
    buf_release(&auth);
    return r;
}

static int openai_embed(struct embedder *base, const struct embed_call *call, const struct embed_text *texts,
                        size_t n, float *vectors, struct embed_failure *failure, struct err *err) {
    struct openai *o = (struct openai *)base;
    struct http_answer a = {0};
    struct buf body = BUF_INIT;
    pthread_mutex_lock(&o->lock);
    int r = o->ready ? 0 : configure(o, err);
    pthread_mutex_unlock(&o->lock);
    if (r) return r;
    write_request(call, texts, n, &body);
    r = send_request(o, call, &body, n, &a, err);
    if (r) {
        failure->again = a.may_retry;
        err_wrap(err, "the embedding provider");
    } else if (a.status == 200) {
        r = read_answer(call, &a.body, n, vectors, failure, err);
    } else {
        r = refused(o, &a, failure, err);
    }
    buf_release(&body);
    buf_release(&a.body);
    return r;
}

static void openai_close(struct embedder *base) {
    struct openai *o = (struct openai *)base;
    http_free(o->http);
    if (o->key) explicit_bzero(o->key, strlen(o->key));
    free(o->key);
    free(o->url);
    free(o->url_option);
    free(o->key_file_option);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

static const struct embedder_ops openai_ops = {.embed = openai_embed, .close = openai_close};

struct embedder *embedder_openai_new(const struct embedder_openai_config *config) {
    struct openai *o = xcalloc(1, sizeof *o);
    o->base = (struct embedder){&openai_ops, RETRIES + 1, BACKOFF_MS};
    o->http = http_new();
    o->url_option = config->url ? xstrdup(config->url) : NULL;
    o->key_file_option = config->key_file ? xstrdup(config->key_file) : NULL;
    pthread_mutex_init(&o->lock, NULL);
    return &o->base;
}
