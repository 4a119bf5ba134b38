/* ldbfs check: verifies everything that is stored and says by name what is wrong. */
#include "options.h"

#include <inttypes.h>

static void print_problem(void *ctx, const char *text) {
    printf("problem: %s\n", text);
}

int cmd_check(const struct options *opt, struct err *err) {
    struct engine *e = NULL;
    uint64_t objects = 0, problems = 0;
    int r = options_open(opt, &e, err);
    if (!r) r = engine_check(e, print_problem, NULL, &objects, &problems, err);
    if (!r) printf("%" PRIu64 " objects checked, %" PRIu64 " problems\n", objects, problems);
    engine_close(e);
    if (r) return r;
    return problems ? EXIT_FAILED : 0;
}
