/* Shared by engine.c and engine_catalog.c. */
#pragma once
#include "engine.h"
#include "fn/builder.h"
#include "fn/gateway.h"
#include "fn/history.h"
#include "fn/router.h"
#include "fn/upkeep.h"
#include "fn/writer.h"

struct engine {
    struct core core;
    struct object_store *counter, *fault, *disk; /* layers of core.objects, borrowed; NULL: not there */
    struct page_cache *pages;                    /* of what is read by requests */
    struct gateway gateway;
    struct scheduler *scheduler;
    char *data_dir;
};

/* The open collection of a cid that is ACTIVE, its shard count refreshed. */
int engine_coll(struct engine *, const char *cid, struct coll **ret, struct err *);
void collection_info_of(const struct catalog_record *, struct collection_info *ret);
