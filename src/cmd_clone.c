/* ldbfs clone: a writable copy of a collection, now or as it was, that shares the data. */
#include "options.h"

int cmd_clone(const struct options *opt, struct err *err) {
    struct engine *e = NULL;
    struct collection_info c, made;
    struct snapshot_info at;
    int r;
    if ((r = options_open(opt, &e, err))) goto out;
    if ((r = options_find_at(e, opt->args[0], &c, &at, err))) goto out;
    if ((r = engine_clone(e, c.cid, at.version, opt->args[1], &made, err))) goto out;
    if (opt->counters) options_print_counters(e, stdout);
out:
    engine_close(e);
    return r;
}
