/* The libcurl behind http.h. */
#include "backend/http.h"
#include "util/clock.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>

enum { KEEP_IDLE = 8, CONNECT_TIMEOUT_MS = 10000, POLL_MS = 20, RETRY_AFTER_MAX_S = 86400 };

/* A handle and the connections it has made. Used by one request at a time. */
struct slot {
    CURL *easy;
    CURLM *multi;
    struct slot *next;
};
struct http {
    pthread_mutex_t lock;
    struct slot *idle; /* guarded by lock */
    unsigned n_idle;
};

static void init_curl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct http *http_new(void) {
    struct http *h = xcalloc(1, sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    return h;
}

static void slot_free(struct slot *s) {
    curl_easy_cleanup(s->easy);
    curl_multi_cleanup(s->multi);
    free(s);
}

void http_free(struct http *h) {
    if (!h) return;
    while (h->idle) {
        struct slot *s = h->idle;
        h->idle = s->next;
        slot_free(s);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

static struct slot *slot_take(struct http *h) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    pthread_mutex_lock(&h->lock);
    struct slot *s = h->idle;
    if (s) {
        h->idle = s->next;
        h->n_idle--;
    }
    pthread_mutex_unlock(&h->lock);
    if (s) return s;
    s = xcalloc(1, sizeof *s);
    s->easy = curl_easy_init();
    s->multi = curl_multi_init();
    if (s->easy && s->multi) return s;
    slot_free(s);
    return NULL;
}

static void slot_give(struct http *h, struct slot *s) {
    curl_easy_reset(s->easy); /* the multi keeps the connections */
    pthread_mutex_lock(&h->lock);
    bool keep = h->n_idle < KEEP_IDLE;
    if (keep) {
        s->next = h->idle;
        h->idle = s;
        h->n_idle++;
    }
    pthread_mutex_unlock(&h->lock);
    if (!keep) slot_free(s);
}

/* ---- one transfer ---- */

struct transfer {
    const struct http_request *req;
    struct http_answer *answer;
    bool too_large;
    int64_t retry_at_s, date_s; /* Unix times of headers; 0 or less: none that makes sense */
    char error[CURL_ERROR_SIZE];
};

static size_t on_body(char *data, size_t size, size_t n, void *ctx) {
    struct transfer *t = ctx;
    if (t->answer->body.len + size * n > t->req->max_answer) {
        t->too_large = true;
        return 0;
    }
    buf_add(&t->answer->body, data, size * n);
    return size * n;
}

/* Retry-After: seconds, the milliseconds some servers send, or a time, which is counted from the server's
 * Date if it says one: the clocks may differ. */
static size_t on_header(char *data, size_t size, size_t n, void *ctx) {
    struct transfer *t = ctx;
    char line[96];
    double value;
    snprintf(line, sizeof line, "%.*s", (int)MIN(n * size, sizeof line - 1), data);
    bool ms = !strncasecmp(line, "retry-after-ms:", 15), date = !strncasecmp(line, "date:", 5);
    if (!ms && !date && strncasecmp(line, "retry-after:", 12)) return size * n;
    const char *text = strchr(line, ':') + 1;
    if (date) {
        t->date_s = curl_getdate(text, NULL);
    } else if (sscanf(text, "%lf", &value) != 1) {
        t->retry_at_s = curl_getdate(text, NULL);
    } else if (value > 0 && (ms || !t->answer->retry_after_ms)) {
        value = MIN(ms ? value : value * 1000, RETRY_AFTER_MAX_S * 1000.0);
        t->answer->retry_after_ms = (int64_t)value + 1;
    }
    return size * n;
}

/* Once all headers are there. */
static void note_retry_time(struct transfer *t) {
    int64_t now_s = t->date_s > 0 ? t->date_s : clock_now_ms(&clock_system) / 1000;
    if (t->retry_at_s <= now_s || t->answer->retry_after_ms) return;
    t->answer->retry_after_ms = MIN(t->retry_at_s - now_s, (int64_t)RETRY_AFTER_MAX_S) * 1000;
}

static void set_options(CURL *c, struct transfer *t, struct curl_slist *headers) {
    const struct http_request *req = t->req;
    const char *authorities = getenv("SSL_CERT_FILE");
    curl_easy_setopt(c, CURLOPT_URL, req->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    if (authorities && *authorities) curl_easy_setopt(c, CURLOPT_CAINFO, authorities);
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, req->body);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "ldbfs/" LDBFS_VERSION);
    curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(req->timeout_ms, (uint32_t)CONNECT_TIMEOUT_MS));
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)MAX(req->timeout_ms, 1u));
}

static int stop_of(const struct http_request *req) {
    return req->stop ? __atomic_load_n(req->stop, __ATOMIC_RELAXED) : 0;
}

/* Runs until the transfer is over or is to stop; *ret_done false then. */
static CURLcode drive(struct slot *s, const struct http_request *req, bool *ret_done) {
    CURLcode code = CURLE_OK;
    int running = 1, left;
    *ret_done = false;
    while (!stop_of(req)) {
        if (curl_multi_perform(s->multi, &running)) return CURLE_FAILED_INIT;
        CURLMsg *m = curl_multi_info_read(s->multi, &left);
        if (m && m->msg == CURLMSG_DONE) {
            *ret_done = true;
            return m->data.result;
        }
        if (curl_multi_poll(s->multi, NULL, 0, POLL_MS, NULL)) return CURLE_FAILED_INIT;
    }
    return code;
}

static int failure(const struct transfer *t, CURLcode code, struct err *err) {
    const char *why = t->error[0] ? t->error : curl_easy_strerror(code);
    bool certificate = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    bool never = certificate || code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL;
    t->answer->may_retry = !never && !t->too_large;
    if (t->too_large)
        return err_set(err, ERR_TOO_LARGE, "the answer is larger than %zu bytes", t->req->max_answer);
    return err_set(err, code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_UNREACHABLE, "%.300s", why);
}

static int transfer(struct slot *s, struct transfer *t, struct err *err) {
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    long status = 0;
    bool done;
    for (const char *const *h = t->req->headers; *h; h++) {
        struct curl_slist *more = curl_slist_append(headers, *h);
        if (!more) abort();
        headers = more;
    }
    set_options(s->easy, t, headers);
    curl_multi_add_handle(s->multi, s->easy);
    CURLcode code = drive(s, t->req, &done);
    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(s->multi, s->easy);
    curl_slist_free_all(headers);
    t->answer->status = (int)status;
    note_retry_time(t);
    if (done) return code ? failure(t, code, err) : 0;
    int stop = stop_of(t->req);
    if (!stop) return err_set(err, ERR_UNREACHABLE, "libcurl cannot go on");
    return err_set(err, stop == 1 ? ERR_CANCELED : ERR_TIMEOUT, "the request was stopped");
}

int http_post(struct http *h, const struct http_request *req, struct http_answer *ret, struct err *err) {
    struct transfer t = {.req = req, .answer = ret};
    *ret = (struct http_answer){0};
    struct slot *s = slot_take(h);
    if (!s) return err_set(err, ERR_UNREACHABLE, "libcurl cannot be started");
    int r = transfer(s, &t, err);
    slot_give(h, s);
    return r;
}
