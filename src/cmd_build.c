/* ldbfs build: indexes what is still in the log, now; and the other upkeep a user may want at once. */
#include "options.h"

#include <inttypes.h>
#include <unistd.h>

enum { MERGE_WAIT_MS = 60 * 1000, MERGE_PAUSE_MS = 50 };
enum { CLEAN_GRACE_MS = 15 * 60 * 1000 }; /* longer than any commit in flight */

/* A mount may be merging the same collection right now: ours comes after it. */
static int merge(struct engine *e, const char *cid, bool full, struct err *err) {
    for (int waited = 0;; waited += MERGE_PAUSE_MS) {
        int r = engine_merge(e, cid, full, err);
        if (r != -ERR_BUSY || waited >= MERGE_WAIT_MS) return r;
        err_clear(err);
        usleep(MERGE_PAUSE_MS * 1000);
    }
}

static int build_collection(struct engine *e, const struct options *opt, const char *cid, struct err *err) {
    uint64_t seq = 0;
    int r = engine_build(e, cid, &seq, err);
    if (!r && (opt->merge || opt->full)) r = merge(e, cid, opt->full, err);
    if (r || opt->quiet) return r;
    if (cid)
        printf("%s: built up to sequence number %" PRIu64 "\n", opt->args[0], seq);
    else
        puts("every collection is built");
    return 0;
}

static int clean(struct engine *e, const struct options *opt, struct err *err) {
    struct clean_result got;
    int r = engine_clean(e, opt->clean_ms, opt->grace_ms >= 0 ? opt->grace_ms : CLEAN_GRACE_MS, &got, err);
    if (!r && !opt->quiet)
        printf("removed %" PRIu64 " old versions, %" PRIu64 " objects (%" PRIu64 " bytes), %" PRIu64
               " dropped collections\n",
               got.roots, got.objects, got.bytes, got.collections);
    return r;
}

int cmd_build(const struct options *opt, struct err *err) {
    struct engine *e = NULL;
    struct collection_info c;
    struct snapshot_info made;
    const char *cid = NULL;
    int r;
    if ((opt->shards >= 0 || opt->snapshot || opt->merge || opt->full) && !opt->args[0])
        return err_set(err, ERR_INVALID, "--shards, --snapshot, --merge and --full need a collection");
    if ((r = options_open(opt, &e, err))) goto out;
    if (opt->args[0]) {
        if ((r = options_find(e, opt->args[0], &c, err))) goto out;
        cid = c.cid;
    }
    if (opt->shards >= 0 && (r = engine_set_shards(e, cid, (uint32_t)opt->shards, err))) goto out;
    if ((r = build_collection(e, opt, cid, err))) goto out;
    if (opt->snapshot && (r = engine_snapshot_create(e, cid, opt->snapshot, &made, err))) goto out;
    if (opt->clean_ms >= 0) r = clean(e, opt, err);
out:
    engine_close(e);
    return r;
}
