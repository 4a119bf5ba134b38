/* The command line: one table of commands and one of options, from which parsing, --help and checks come.
 *
 * Commands return 0, a negative error (main prints "ldbfs: <text>" and exits 1), or a positive exit status
 * when they have said everything themselves.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine.h"
#include "util/err.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };
enum { COMMAND_MAX_ARGS = 2 };

struct options {
    const struct command *command;
    const char *args[COMMAND_MAX_ARGS]; /* what is not an option; NULL where not given */
    int n_args;
    char *data_dir; /* --data, else the default; absolute */
    bool help, version;
    bool foreground;   /* mount */
    char *mount_opts;  /* mount -o a,b=c */
    char *op;          /* load: upsert, update, delete */
    bool create;       /* load */
    char *schema_file; /* load --create */
    bool quiet;
    bool json;                                /* status */
    bool counters;                            /* status, clone: engine counters as JSON on stdout */
    bool merge;                               /* build */
    bool full;                                /* build --merge: everything into one segment */
    int64_t shards;                           /* build; -1 = leave */
    int64_t clean_ms;                         /* build; -1 = do not clean, else the retention in ms */
    int64_t grace_ms;                         /* build --clean */
    char *snapshot;                           /* build: a named snapshot of what is acknowledged now */
    int64_t build_bytes;                      /* engine_options; -1 = default */
    int64_t build_age_ms;                     /* engine_options; 0 = default */
    int64_t retention_ms;                     /* engine_options; -1 = the project's */
    int64_t threads;                          /* engine_options; 0 = number of cores */
    char *embedding_url, *embedding_key_file; /* engine_options */
    int64_t cache_bytes, cache_dir_bytes;     /* engine_options; -1 = the environment's, else the default */
    char *cache_dir;
    int64_t repeat; /* query: times, with timings on stderr */
    bool stats;     /* query: what it cost, on stderr */
};

struct command {
    const char *name;
    const char *args; /* for the usage line */
    const char *summary;
    const char *details; /* paragraphs below the options; may be NULL */
    int min_args, max_args;
    int (*run)(const struct options *, struct err *);
};

/* Parses argv. 0; ERR_INVALID with a one-line text for a bad option or count of arguments. */
int options_parse(int argc, char **argv, struct options *ret, struct err *err);
void options_release(struct options *);
/* Help for one command, or (NULL) the program. At most 80 columns. */
void options_help(const struct command *, FILE *out);

/* What every command opens: the engine on the data directory with the options given. */
void options_engine(const struct options *, bool background, struct engine_options *ret);
unsigned options_awake_us(void); /* of a mount: struct fs_options */
int options_open(const struct options *, struct engine **ret, struct err *err);
/* Finds a collection by name, with a text that says what to do when there is none. */
int options_find(struct engine *, const char *name, struct collection_info *ret, struct err *err);
/* "C" or "C@SNAPSHOT": the collection, and the snapshot's root version ("" = now). */
int options_find_at(struct engine *, const char *text, struct collection_info *ret,
                    struct snapshot_info *ret_at, struct err *err);
/* The engine's counters as one JSON line. */
void options_print_counters(struct engine *, FILE *out);

int cmd_mount(const struct options *, struct err *);
int cmd_unmount(const struct options *, struct err *);
int cmd_status(const struct options *, struct err *);
int cmd_load(const struct options *, struct err *);
int cmd_query(const struct options *, struct err *);
int cmd_clone(const struct options *, struct err *);
int cmd_restore(const struct options *, struct err *);
int cmd_build(const struct options *, struct err *);
int cmd_check(const struct options *, struct err *);
