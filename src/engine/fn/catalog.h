/* The catalog: collections, names, schemas, pins, named snapshots and the project's settings as metadata
 * items.
 *
 *   pk "project"  sk "settings"        {"retentionMs"}
 *                 sk "name/<name>"     {"cid"}                  a name is taken while this exists
 *                 sk "coll/<cid>"      the record below
 *   pk <cid>      sk "schema"          record JSON of the current schema
 *                 sk "schema/<10 digits>"  record JSON of each version
 *                 sk "named/<name>"    {"key","version","commitMs","dataMs","seq","documents"}
 *                 sk "pin/<uuid>"      {"version","commitMs","expiresMs"}
 *                 sk "horizon"         {"commitMs"}  roots committed before it may be gone
 * States: CREATING -> ACTIVE -> TRASH -> (ACTIVE | PURGING -> gone). Only ACTIVE takes writes.
 */
#pragma once
#include "fn/core.h"
#include "index/schema.h"

enum coll_status { COLL_CREATING, COLL_ACTIVE, COLL_TRASH, COLL_PURGING };
struct catalog_record {
    char cid[CID_LEN + 1], name[53], source_cid[CID_LEN + 1], source_version[OBJECT_VERSION_SIZE];
    enum coll_status status;
    int64_t created_ms, updated_ms, dropped_ms;
    uint64_t generation, before_seq;
    uint32_t n_shards;     /* virtual shards of a query */
    bool fixed_shards;     /* set by hand: the scheduler leaves it alone */
    uint64_t item_version; /* for compare-and-set */
};

int catalog_get(struct core *, const char *cid, struct catalog_record *ret, struct err *);
/* As catalog_get, but ERR_NOT_FOUND unless ACTIVE. */
int catalog_get_active(struct core *, const char *cid, struct catalog_record *ret, struct err *);
int catalog_find(struct core *, const char *name, struct catalog_record *ret, struct err *);
typedef int catalog_visit(void *ctx, const struct catalog_record *);
int catalog_list(struct core *, catalog_visit *, void *ctx, struct err *); /* every status */
/* Writes a new record (status as given), its name (unless TRASH) and its schema in one transaction.
 * ERR_EXISTS. */
int catalog_create(struct core *, struct catalog_record *, const struct schema *, struct err *);
/* Compare-and-set of a record read before; old_name != rec->name renames, leaving ACTIVE frees the name,
 * becoming ACTIVE from TRASH takes it. ERR_EXISTS: name taken. ERR_CONFLICT: somebody else changed the
 * record. What an ACTIVE record's name leads to (the collection and its generation) changes only after who
 * keeps names (core->names) has given them back. */
int catalog_update(struct core *, const struct catalog_record *old, struct catalog_record *rec, struct err *);
int catalog_purge(struct core *, const struct catalog_record *, struct err *); /* removes every item of it */

int catalog_schema(struct core *, const char *cid, struct schema **ret, uint64_t *ret_item_version,
                   struct err *);
int catalog_schema_version(struct core *, const char *cid, uint32_t version, struct schema **ret,
                           struct err *);
/* Compare-and-set; ERR_CONFLICT when the schema is not the one read with item_version. */
int catalog_schema_put(struct core *, const char *cid, const struct schema *, uint64_t item_version,
                       struct err *);

struct catalog_named {
    char name[128], key[96], version[OBJECT_VERSION_SIZE];
    int64_t commit_ms, data_ms;
    uint64_t seq, documents;
};
typedef int named_visit(void *ctx, const struct catalog_named *);
int catalog_named_list(struct core *, const char *cid, named_visit *, void *ctx, struct err *);
int catalog_named_get(struct core *, const char *cid, const char *name, struct catalog_named *ret,
                      struct err *);
int catalog_named_put(struct core *, const char *cid, const struct catalog_named *,
                      struct err *); /* ERR_EXISTS */
int catalog_named_delete(struct core *, const char *cid, const char *name, struct err *);

/* Pins a root version against the cleaner for ttl_ms: ERR_NOT_FOUND when it lies below the horizon. A pin is
 * a conditional write on the horizon: a cleaner that raises it later sees the pin, one that raised it before
 * makes the pin fail. */
int catalog_pin(struct core *, const char *cid, const char *version, int64_t commit_ms, int64_t ttl_ms,
                char ret_pin[33], struct err *);
void catalog_unpin(struct core *, const char *cid, const char *pin);
/* Raises the horizon (never lowers it). */
int catalog_raise_horizon(struct core *, const char *cid, int64_t commit_ms, struct err *);
/* Is the version pinned now? */
int catalog_pinned(struct core *, const char *cid, const char *version, bool *ret, struct err *);
int catalog_retention_ms(struct core *, int64_t *ret, struct err *);
