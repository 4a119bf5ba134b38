/* Finds the command, runs it, maps its result to an exit status: 0, 1 failed, 2 a bad command line, 130
 * interrupted. */
#include "options.h"

#include <errno.h>

/* A full disk or a closed pipe behind stdout must not look like success. */
static int close_stdout(void) {
    if (!fflush(stdout) && !ferror(stdout)) return 0;
    fprintf(stderr, "ldbfs: could not write the output: %s\n", strerror(errno));
    return EXIT_FAILED;
}

static int run(const struct options *o) {
    struct err err = ERR_INIT;
    int r = o->command->run(o, &err);
    if (r >= 0) return r;
    fprintf(stderr, "ldbfs: %s\n", err.text[0] ? err.text : err_name((enum err_code) - r));
    return r == -ERR_CANCELED ? EXIT_INTERRUPTED : EXIT_FAILED;
}

int main(int argc, char **argv) {
    struct options o;
    struct err err = ERR_INIT;
    int status = 0;
    if (options_parse(argc, argv, &o, &err)) {
        fprintf(stderr, "ldbfs: %s (see ldbfs %s%s--help)\n", err.text, o.command ? o.command->name : "",
                o.command ? " " : "");
        options_release(&o);
        return EXIT_USAGE;
    }
    if (o.version)
        printf("ldbfs %s\n", LDBFS_VERSION);
    else if (o.help)
        options_help(o.command, stdout);
    else
        status = run(&o);
    options_release(&o);
    int out = close_stdout();
    return status ? status : out;
}
