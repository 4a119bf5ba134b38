/* Shared by writer.c and writer_embed.c: a session and the records on their way through it. */
#pragma once
#include "fn/view.h"
#include "fn/writer.h"
#include "util/jval.h"

struct ingest {
    struct coll *coll;
    enum ingest_op op;
    struct schema *schema;
    uint64_t schema_item; /* metadata version it was read at */
    uint64_t floor_seq;
    uint64_t first_seq, last_seq;
    struct arena arena;     /* of one add call */
    struct log_record *out; /* what will be appended */
    size_t n_out, cap_out;
    struct view *view;     /* UPDATE, filters: the state the ids were looked up in */
    bool exact_view;       /* a filter was resolved: the log must not have moved since */
    struct err down;       /* why the embedding provider could not be used */
    int64_t down_until_us; /* not asked again before */
};

/* One record on its way. */
struct item {
    struct jval *doc;
    const char *body;
    size_t body_len;
    const char *id;
    uint32_t id_len;
    struct err err;
};

/* The state that ids are looked up in, opened at first need. */
int ingest_view(struct ingest *, struct err *);
/* Fills the managed vector fields of the records that are good so far; a record that gets no vector keeps the
 * reason as its error. Runs before anything is appended and outside of every lock. */
void ingest_embed(struct ingest *, struct item *, size_t n);
/* How many records may be on their way at once, so that their vectors fit in memory; SIZE_MAX: no field is
 * managed. */
size_t ingest_embed_group(const struct schema *);
