/* ldbfs restore: puts a collection back to a snapshot, in place. */
#include "options.h"

int cmd_restore(const struct options *opt, struct err *err) {
    struct engine *e = NULL;
    struct collection_info c;
    struct snapshot_info at;
    char *text = xmalloc(strlen(opt->args[0]) + strlen(opt->args[1]) + 2);
    int r;
    sprintf(text, "%s@%s", opt->args[0], opt->args[1]);
    if ((r = options_open(opt, &e, err))) goto out;
    if ((r = options_find_at(e, text, &c, &at, err))) goto out;
    if ((r = engine_restore(e, c.cid, at.version, err))) goto out;
    printf("%s is now as in snapshot %s\n", c.name, at.name);
out:
    free(text);
    engine_close(e);
    return r;
}
