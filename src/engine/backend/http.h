/* HTTP requests over libcurl: connections are kept and reused, an answer is bounded, a request can be
 * stopped.
 *
 * TLS certificates are verified (SSL_CERT_FILE: against other authorities than the system's), the proxy
 * variables of the environment are honoured, redirects are not followed (a key would go along). Thread-safe:
 * each request in flight has a connection of its own.
 */
#pragma once
#include "util/buf.h"
#include "util/err.h"

struct http;
/* Cheap: libcurl is initialised by the first request. */
struct http *http_new(void);
void http_free(struct http *); /* NULL is fine; no request may be in flight */

struct http_request {
    const char *url;            /* http or https */
    const char *const *headers; /* "Name: value", NULL at the end */
    const void *body;           /* sent by POST */
    size_t body_len, max_answer;
    uint32_t timeout_ms;      /* of the whole request */
    const volatile int *stop; /* not 0: give up (1 = ERR_CANCELED, 2 = ERR_TIMEOUT); may be NULL */
};
struct http_answer {
    int status;
    struct buf body;
    int64_t retry_after_ms; /* what the server asks to wait; 0 = nothing said */
    bool may_retry;         /* after an error: it may work another time */
};
/* Returns 0 when an answer came, whatever its status. ERR_UNREACHABLE, ERR_TIMEOUT, ERR_CANCELED,
 * ERR_TOO_LARGE (the answer is over max_answer). ret->body is the caller's to release, also after an error.
 */
int http_post(struct http *, const struct http_request *, struct http_answer *ret, struct err *);
