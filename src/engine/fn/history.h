/* History: root versions, named snapshots, clone, restore. */
#pragma once
#include "fn/catalog.h"
#include "fn/view.h"
#include "fn/types.h"

/* Retained root versions and named snapshots, oldest first. thin: leaves out versions by age (all of the last
 * hour, then one a minute for a day, one an hour for a week, one a day): they still resolve. */
int history_list(struct coll *, bool thin, snapshot_visit *, void *ctx, struct err *);
/* See engine_snapshot_resolve. */
int history_resolve(struct coll *, const char *name, struct snapshot_info *ret, struct err *);
/* The object key and version a snapshot_info.version stands for ("named:<uuid>" or a root version). */
void history_object(const struct coll *, const char *version, char ret_key[128], const char **ret_version);
/* A root version of exactly what is acknowledged at the call: a MARK, built. */
int history_mark(struct coll *, struct snapshot_info *ret, struct err *);
int history_name(struct coll *, const char *name, struct snapshot_info *ret, struct err *);
int history_unname(struct coll *, const char *name, struct err *);
/* version "" = now. rec: name, filled in. */
int history_clone(struct coll *, const char *version, const char *new_name, struct catalog_record *ret,
                  struct err *);
int history_restore(struct coll *, const char *version, struct err *);
