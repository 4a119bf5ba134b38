/* Plain types that pass through the engine's public API unchanged. */
#pragma once
#include "util/err.h"
#include <stdbool.h>
#include <stddef.h>

enum { DOC_MAX_BYTES = 5 * 1024 * 1024, VERSION_ID_SIZE = 65, SNAPSHOT_NAME_SIZE = 128 };

enum ingest_op { INGEST_UPSERT, INGEST_UPDATE, INGEST_DELETE };
struct ingest_verdict { /* for one refused or noted record */
    uint64_t index;     /* of the record within this add call, from 0 */
    struct err err;     /* code ERR_NONE: accepted, text is a warning */
};
typedef void ingest_verdict_fn(void *ctx, const struct ingest_verdict *);
struct ingest_record {
    const char *data;
    size_t len;
};

struct snapshot_info {
    char name[SNAPSHOT_NAME_SIZE]; /* time name or the given name */
    char version[VERSION_ID_SIZE]; /* names the root for engine_view_version, clone and restore */
    bool named;
    int64_t commit_ms; /* commit time; of a named one: when it was made */
    int64_t data_ms;   /* acknowledgement time it covers */
    uint64_t seq, documents;
};
typedef int snapshot_visit(void *ctx, const struct snapshot_info *);

struct clean_result {
    uint64_t roots, objects, bytes, collections;
};
