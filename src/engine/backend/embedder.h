/* Embedders: texts to vectors, by a model that somebody else runs.
 *
 * An implementation answers one request; embedder_embed is what callers use: it cuts the texts into requests,
 * tries again what may work later, finds the texts that the provider refuses among good ones, and checks what
 * comes back. Thread-safe. Nothing is opened before the first request.
 */
#pragma once
#include "util/buf.h"
#include "util/err.h"

enum { EMBED_MODEL_MAX = 200 }; /* bytes of a model's name */

struct embed_model {
    const char *name;
    uint32_t dimensions;
    bool shortens; /* gives fewer dimensions on request */
};
/* What is known of a model; NULL: nothing. */
const struct embed_model *embedder_model(const char *name);

struct embed_text {
    const char *s; /* UTF-8, not empty */
    size_t len;
};
struct embed_call {
    const char *model;
    uint32_t dimensions;      /* that every vector must have */
    int64_t deadline_us;      /* monotonic; INT64_MAX = none */
    const volatile int *stop; /* not 0: give up (1 = ERR_CANCELED, 2 = ERR_TIMEOUT); may be NULL */
};
/* How a request failed. */
struct embed_failure {
    bool again;       /* it may work another time ... */
    int64_t after_ms; /* ... but not sooner than this */
    bool texts;       /* something about the texts: others may work */
};

struct embedder;
struct embedder_ops {
    /* One request of at most EMBED_REQUEST_TEXTS texts: n * dimensions floats, in the order of the texts.
     * Blocks no longer than the deadline. ERR_UNREACHABLE, ERR_TIMEOUT, ERR_CANCELED, ERR_RATE, ERR_QUOTA,
     * ERR_BAD_KEY, ERR_NO_KEY (nothing is configured), ERR_INVALID (with the provider's reason),
     * ERR_DIMENSION, ERR_IO (no sense in the answer). */
    int (*embed)(struct embedder *, const struct embed_call *, const struct embed_text *, size_t n,
                 float *vectors, struct embed_failure *, struct err *);
    void (*close)(struct embedder *);
};
struct embedder {
    const struct embedder_ops *ops;
    unsigned attempts;   /* per request, at least 1 */
    uint32_t backoff_ms; /* before the second; doubles */
};
enum {
    EMBED_REQUEST_TEXTS = 256,
    EMBED_REQUEST_BYTES = 512 << 10,  /* of text, unless one alone is longer */
    EMBED_REQUEST_VALUES = 256 << 10, /* numbers in the answer */
    EMBED_PARALLEL = 4,               /* requests of one call under way at once */
};

/* Texts to vectors (n * dimensions floats). errs[i].code is 0 where vectors + i * dimensions is filled; all
 * are finite. Returns 0, or the code of the first text that failed. After a failure that is not about the
 * texts the rest is not tried. */
int embedder_embed(struct embedder *, const struct embed_call *, const struct embed_text *, size_t n,
                   float *vectors, struct err *errs);
void embedder_close(struct embedder *); /* NULL is fine */

/* An OpenAI-compatible endpoint: POST {url}/embeddings. Members that are NULL come from the environment at
 * the first use: LDBFS_EMBEDDING_URL (default https://api.openai.com/v1), LDBFS_EMBEDDING_KEY_FILE,
 * LDBFS_EMBEDDING_KEY, and for the default URL only OPENAI_API_KEY. LDBFS_EMBEDDING_TIMEOUT (seconds a
 * request, 30), LDBFS_EMBEDDING_RETRIES (3). */
struct embedder_openai_config {
    const char *url, *key_file;
};
struct embedder *embedder_openai_new(const struct embedder_openai_config *);
