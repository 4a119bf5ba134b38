/* Command line parsing and --help, both from the two tables below. */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/buf.h"
#include "util/simd.h"

enum {
    C_MOUNT = 1 << 0,
    C_UNMOUNT = 1 << 1,
    C_STATUS = 1 << 2,
    C_LOAD = 1 << 3,
    C_QUERY = 1 << 4,
    C_CLONE = 1 << 5,
    C_RESTORE = 1 << 6,
    C_BUILD = 1 << 7,
    C_CHECK = 1 << 8,
    C_DATA = C_MOUNT | C_UNMOUNT | C_STATUS | C_LOAD | C_QUERY | C_CLONE | C_RESTORE | C_BUILD | C_CHECK,
    C_ALL = -1,
};

/* In the order of the bits above. */
static const struct command commands[] = {
    {"mount", "[OPTION]... MNT", "make the collections of a data directory a file system at MNT",
     "Runs in the background: the command returns once the mount answers. What to do in there is in "
     "MNT/README.md.",
     1, 1, cmd_mount},
    {"unmount", "MNT", "finish what is under way and unmount", NULL, 1, 1, cmd_unmount},
    {"status", "[OPTION]... [C]", "the collections, or one of them, and how far each is built", NULL, 0, 1,
     cmd_status},
    {"load", "[OPTION]... C FILE|-", "add documents: JSON lines, an array, CSV or TSV; .gz and .zst too",
     "FILE - is standard input (JSON lines). When load ends, what it accepted is durable and searchable; "
     "refused lines "
     "are named on stderr and make the exit status 1.",
     2, 2, cmd_load},
    {"query", "[OPTION]... C[@SNAPSHOT] SPEC", "run a query, the same as reading C/query/SPEC in a mount",
     "SPEC is TEXT[?OPTION=VALUE[&OPTION=VALUE]...] with the options size, from, sort, fields, format "
     "(jsonl, json, ids), "
     "consistent, near, fuse and more. Example: ldbfs query articles 'title:whale AND year:[1850 TO "
     "1860]?size=3&sort=year:desc'",
     2, 2, cmd_query},
    {"clone", "C[@SNAPSHOT] NEW", "make a writable copy that shares the data",
     "SNAPSHOT is a name or time from C/snapshots, any instant (2026-11-22T06:00:00Z), 2h-ago, yesterday or "
     "seq:N. "
     "Without it the copy is of what is in C now.",
     2, 2, cmd_clone},
    {"restore", "C SNAPSHOT", "put C back to a snapshot; what it was before stays in its history", NULL, 2, 2,
     cmd_restore},
    {"build", "[OPTION]... [C]", "index now what is still in the log", NULL, 0, 1, cmd_build},
    {"check", "", "verify every stored object, checksum, reference and count",
     "Each problem is one line. The exit status is 1 when there is any.", 0, 0, cmd_check},
};

enum option_kind { FLAG, TEXT, NUMBER };
struct option_row {
    char letter;
    const char *name, *value; /* value: what --help calls it */
    enum option_kind kind;
    size_t offset; /* in struct options */
    int commands;
    int64_t min, max; /* NUMBER */
    const char *help; /* NULL: not in --help (for tests) */
};
#define AT(member) offsetof(struct options, member)

static const struct option_row rows[] = {
    {0, "data", "DIR", TEXT, AT(data_dir), C_DATA, 0, 0,
     "the data directory (default $XDG_DATA_HOME/ldbfs, else ~/.local/share/ldbfs)"},
    {'f', "foreground", NULL, FLAG, AT(foreground), C_MOUNT, 0, 0, "stay in the foreground"},
    {'o', "options", "OPT[,OPT]...", TEXT, AT(mount_opts), C_MOUNT, 0, 0,
     "mount options: ro, allow_other, and those of fuse"},
    {0, "retention", "MS", NUMBER, AT(retention_ms), C_MOUNT, 0, INT64_MAX,
     "keep history this long, in milliseconds (default 30 days)"},
    {0, "embedding-url", "URL", TEXT, AT(embedding_url), C_MOUNT | C_LOAD | C_QUERY, 0, 0,
     "the embedding provider's API (default $LDBFS_EMBEDDING_URL, else OpenAI's)"},
    {0, "embedding-key-file", "FILE", TEXT, AT(embedding_key_file), C_MOUNT | C_LOAD | C_QUERY, 0, 0,
     "a file with the provider's key (default $LDBFS_EMBEDDING_KEY_FILE)"},
    {0, "json", NULL, FLAG, AT(json), C_STATUS, 0, 0, "JSON, one collection a line"},
    {0, "op", "OP", TEXT, AT(op), C_LOAD, 0, 0, "upsert (default), update or delete"},
    {0, "create", NULL, FLAG, AT(create), C_LOAD, 0, 0, "create the collection when it is missing"},
    {0, "schema", "FILE", TEXT, AT(schema_file), C_LOAD, 0, 0,
     "with --create: its schema (default: inferred)"},
    {'q', "quiet", NULL, FLAG, AT(quiet), C_LOAD | C_BUILD, 0, 0, "print no summary and no progress"},
    {0, "merge", NULL, FLAG, AT(merge), C_BUILD, 0, 0, "also merge small segments"},
    {0, "full", NULL, FLAG, AT(full), C_BUILD, 0, 0, "also merge everything into one segment"},
    {0, "shards", "N", NUMBER, AT(shards), C_BUILD, 0, 1024, "set the number of virtual shards (0: by size)"},
    {0, "snapshot", "NAME", TEXT, AT(snapshot), C_BUILD, 0, 0,
     "also keep what is there now as snapshot NAME"},
    {0, "clean", "MS", NUMBER, AT(clean_ms), C_BUILD, 0, INT64_MAX,
     "also remove history older than MS milliseconds and what nothing uses any more"},
    {0, "grace", "MS", NUMBER, AT(grace_ms), C_BUILD, 0, INT64_MAX, NULL},
    {0, "build-bytes", "N", NUMBER, AT(build_bytes), C_DATA, 1, INT64_MAX, NULL},
    {0, "build-age", "MS", NUMBER, AT(build_age_ms), C_DATA, -1, INT64_MAX, NULL},
    {0, "threads", "N", NUMBER, AT(threads), C_DATA, 0, 256, NULL},
    {0, "counters", NULL, FLAG, AT(counters), C_STATUS | C_CLONE, 0, 0, NULL},
    {0, "cache-bytes", "N", NUMBER, AT(cache_bytes), C_DATA, 1, INT64_MAX, NULL},
    {0, "cache-dir", "DIR", TEXT, AT(cache_dir), C_DATA, 0, 0, NULL},
    {0, "cache-dir-bytes", "N", NUMBER, AT(cache_dir_bytes), C_DATA, 1, INT64_MAX, NULL},
    {0, "stats", NULL, FLAG, AT(stats), C_QUERY, 0, 0,
     "also print what the query cost, from opening the data on, as a line of JSON on stderr"},
    {0, "repeat", "N", NUMBER, AT(repeat), C_QUERY, 1, 1000000, NULL},
    {'h', "help", NULL, FLAG, AT(help), C_ALL, 0, 0, "this text"},
    {'V', "version", NULL, FLAG, AT(version), C_ALL, 0, 0, "the version"},
};

/* ---- help ---- */
enum { HELP_WIDTH = 79, HELP_COLUMN = 24 };

/* Words of text from the current column on, wrapped, continued at `indent`. */
static void wrap(FILE *out, const char *text, int column, int indent) {
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (column > indent && column + 1 + len > HELP_WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", len, text);
        column += len;
        text += len + (text[len] == ' ');
    }
    fputc('\n', out);
}

static void help_row(FILE *out, const char *left, const char *text) {
    int n = fprintf(out, "  %s", left);
    if (n > HELP_COLUMN - 2) {
        fputc('\n', out);
        n = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - n, "");
    wrap(out, text, HELP_COLUMN, HELP_COLUMN);
}

static void help_options(FILE *out, int mask, int unless) {
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct option_row *r = &rows[i];
        if (!r->help || !(r->commands & mask) || (unless && (r->commands & unless) == unless)) continue;
        char letter[8] = "    ", left[64];
        if (r->letter) snprintf(letter, sizeof letter, "-%c, ", r->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, r->name, r->value ? " " : "",
                 r->value ? r->value : "");
        help_row(out, left, r->help);
    }
}

void options_help(const struct command *c, FILE *out) {
    if (c) {
        fprintf(out, "Usage: ldbfs %s%s%s\n", c->name, *c->args ? " " : "", c->args);
        char first[2] = {
            (char)(c->summary[0] >= 'a' && c->summary[0] <= 'z' ? c->summary[0] - 32 : c->summary[0]), 0};
        fprintf(out, "%s%s.\n\nOptions:\n", first, c->summary + 1);
        help_options(out, 1 << (c - commands), 0);
        if (c->details) {
            fputc('\n', out);
            wrap(out, c->details, 0, 0);
        }
        return;
    }
    fputs("Usage: ldbfs COMMAND [OPTION]... [ARGUMENT]...\n"
          "A search database that is mounted as a directory.\n\nCommands:\n",
          out);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) help_row(out, commands[i].name, commands[i].summary);
    fputs("\nOptions of every command:\n", out);
    help_row(out, "    --data DIR", rows[0].help);
    help_row(out, "-h, --help", "this text; after a command: that command's");
    help_row(out, "-V, --version", "the version");
    fputs("\nBegin with: ldbfs mount ~/search && cat ~/search/README.md\n", out);
}

/* ---- parsing ---- */
static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        if (!strcmp(commands[i].name, name)) return &commands[i];
    return NULL;
}

static const struct option_row *find_row(const char *name, size_t len, char letter) {
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (name ? strlen(rows[i].name) == len && !memcmp(rows[i].name, name, len)
                 : letter && rows[i].letter == letter)
            return &rows[i];
    return NULL;
}

static int set_number(struct options *o, const struct option_row *r, const char *value, struct err *err) {
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno || v < r->min || v > r->max) {
        if (r->max == INT64_MAX)
            return err_set(err, ERR_INVALID, "--%s needs a whole number from %lld up, not \"%s\"", r->name,
                           (long long)r->min, value);
        return err_set(err, ERR_INVALID, "--%s needs a whole number from %lld to %lld, not \"%s\"", r->name,
                       (long long)r->min, (long long)r->max, value);
    }
    *(int64_t *)((char *)o + r->offset) = v;
    return 0;
}

/* One option at argv[*i]; advances *i over a value of its own. */
static int parse_option(int argc, char **argv, int *i, struct options *o, struct err *err) {
    const char *arg = argv[*i], *value = NULL;
    const struct option_row *r;
    if (arg[1] == '-') {
        size_t len = strcspn(arg + 2, "=");
        r = find_row(arg + 2, len, 0);
        if (arg[2 + len] == '=') value = arg + 2 + len + 1;
    } else {
        r = find_row(NULL, 0, arg[1]);
        if (arg[2]) value = arg + 2;
    }
    if (!r) return err_set(err, ERR_INVALID, "unknown option \"%s\"", arg);
    if (o->command && !(r->commands & (1 << (o->command - commands))))
        return err_set(err, ERR_INVALID, "ldbfs %s has no option \"%s\"", o->command->name, arg);
    if (r->kind == FLAG) {
        if (value) return err_set(err, ERR_INVALID, "option \"%s\" takes no value", arg);
        *(bool *)((char *)o + r->offset) = true;
        return 0;
    }
    if (!value) {
        if (*i + 1 >= argc)
            return err_set(err, ERR_INVALID, "option \"%s\" needs a value (%s)", arg, r->value);
        value = argv[++*i];
    }
    if (r->kind == NUMBER) return set_number(o, r, value, err);
    char **text = (char **)((char *)o + r->offset);
    free(*text);
    *text = xstrdup(value);
    return 0;
}

static int take_argument(const char *arg, struct options *o, struct err *err) {
    if (!o->command) {
        o->command = find_command(arg);
        if (!o->command) return err_set(err, ERR_INVALID, "unknown command \"%s\"", arg);
        return 0;
    }
    if (o->n_args >= o->command->max_args)
        return err_set(err, ERR_INVALID, "ldbfs %s: one argument too many, \"%s\"", o->command->name, arg);
    o->args[o->n_args++] = arg;
    return 0;
}

/* The checks that need the whole line: options before the command may belong to none or to another. */
static int check_whole(int argc, char **argv, struct options *o, struct err *err) {
    if (o->help || o->version) return 0;
    if (!o->command) return err_set(err, ERR_INVALID, "no command given");
    if (o->n_args < o->command->min_args)
        return err_set(err, ERR_INVALID, "ldbfs %s needs: %s", o->command->name, o->command->args);
    for (int i = 1; i < argc && strcmp(argv[i], o->command->name); i++) {
        const struct option_row *r = NULL;
        if (argv[i][0] == '-' && argv[i][1] == '-') r = find_row(argv[i] + 2, strcspn(argv[i] + 2, "="), 0);
        if (r && !(r->commands & (1 << (o->command - commands))))
            return err_set(err, ERR_INVALID, "ldbfs %s has no option \"%s\"", o->command->name, argv[i]);
    }
    if (o->op && strcmp(o->op, "upsert") && strcmp(o->op, "update") && strcmp(o->op, "delete"))
        return err_set(err, ERR_INVALID, "--op is upsert, update or delete, not \"%s\"", o->op);
    if (o->schema_file && !o->create) return err_set(err, ERR_INVALID, "--schema is only for --create");
    return 0;
}

/* The daemon changes its working directory. */
static int make_absolute(char **path, struct err *err) {
    char cwd[PATH_MAX];
    struct buf b = BUF_INIT;
    if (!*path || **path == '/') return 0;
    if (!getcwd(cwd, sizeof cwd)) return err_sys(err, errno, "cannot find the working directory");
    buf_printf(&b, "%s/%s", cwd, *path);
    free(*path);
    *path = xstrdup(buf_str(&b));
    buf_release(&b);
    return 0;
}

/* The default data directory, and --data made absolute: the mount changes its working directory. */
static int resolve_data_dir(struct options *o, struct err *err) {
    struct buf b = BUF_INIT;
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (o->data_dir && o->data_dir[0] == '/') return 0;
    if (o->data_dir) {
        char cwd[PATH_MAX];
        if (!o->data_dir[0]) return err_set(err, ERR_INVALID, "--data needs a directory");
        if (!getcwd(cwd, sizeof cwd)) return err_sys(err, errno, "cannot find the working directory");
        buf_printf(&b, "%s/%s", cwd, o->data_dir);
    } else if (xdg && xdg[0] == '/') {
        buf_printf(&b, "%s/ldbfs", xdg);
    } else {
        struct passwd *pw = home && home[0] == '/' ? NULL : getpwuid(getuid());
        if (pw) home = pw->pw_dir;
        if (!home || home[0] != '/') return err_set(err, ERR_INVALID, "no home directory: use --data DIR");
        buf_printf(&b, "%s/.local/share/ldbfs", home);
    }
    free(o->data_dir);
    o->data_dir = xstrdup(buf_str(&b));
    buf_release(&b);
    return 0;
}

int options_parse(int argc, char **argv, struct options *o, struct err *err) {
    *o = (struct options){
        .shards = -1, .clean_ms = -1, .grace_ms = -1, .build_bytes = -1, .retention_ms = -1, .repeat = 1};
    bool only_arguments = false;
    for (int i = 1; i < argc; i++) {
        bool option = !only_arguments && argv[i][0] == '-' && argv[i][1];
        int r;
        if (option && !strcmp(argv[i], "--")) {
            only_arguments = true;
            continue;
        }
        r = option ? parse_option(argc, argv, &i, o, err) : take_argument(argv[i], o, err);
        if (r) return r;
        if (o->help || o->version) return 0;
    }
    int r = check_whole(argc, argv, o, err);
    if (!r) r = make_absolute(&o->embedding_key_file, err);
    if (!r) r = make_absolute(&o->cache_dir, err);
    return r ? r : resolve_data_dir(o, err);
}

void options_release(struct options *o) {
    free(o->data_dir);
    free(o->mount_opts);
    free(o->op);
    free(o->schema_file);
    free(o->snapshot);
    free(o->embedding_url);
    free(o->embedding_key_file);
    free(o->cache_dir);
}

/* ---- what commands share ---- */
static int make_directories(const char *path, struct err *err) {
    char *p = xstrdup(path);
    int r = 0;
    for (char *s = p + 1; !r; s++) {
        char c = *s;
        if (c && c != '/') continue;
        *s = 0;
        if (mkdir(p, 0700) && errno != EEXIST) r = err_sys(err, errno, "cannot make directory \"%s\"", p);
        *s = c;
        if (!c) break;
    }
    free(p);
    return r;
}

enum { AWAKE_US = 1000, MAX_AWAKE_US = 1000000 };

/* A whole number in the environment; 0 when there is none. */
static uint64_t env_number(const char *name) {
    const char *value = getenv(name);
    char *end;
    errno = 0;
    unsigned long long v = value && *value >= '0' && *value <= '9' ? strtoull(value, &end, 10) : 0;
    if (!value || !*value) return 0;
    if (!(*value >= '0' && *value <= '9') || *end || errno) {
        fprintf(stderr, "ldbfs: %s is not a whole number and is ignored\n", name);
        return 0;
    }
    return v;
}

static const char *env_text(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static void options_store(const struct options *o, struct engine_options *ret) {
    const char *get_ms = env_text("LDBFS_SIMULATE_GET_MS");
    ret->cache_bytes = o->cache_bytes > 0 ? (uint64_t)o->cache_bytes : env_number("LDBFS_CACHE_BYTES");
    ret->cache_dir = o->cache_dir ? o->cache_dir : env_text("LDBFS_CACHE_DIR");
    ret->cache_dir_bytes =
        o->cache_dir_bytes > 0 ? (uint64_t)o->cache_dir_bytes : env_number("LDBFS_CACHE_DIR_BYTES");
    ret->simulate_remote = get_ms != NULL;
    ret->simulate_get_ms = (unsigned)MIN(env_number("LDBFS_SIMULATE_GET_MS"), (uint64_t)60000);
    ret->simulate_bytes_per_s = env_number("LDBFS_SIMULATE_MB_S") * 1000000;
}

unsigned options_awake_us(void) {
    if (!env_text("LDBFS_AWAKE_US")) return AWAKE_US;
    return (unsigned)MIN(env_number("LDBFS_AWAKE_US"), (uint64_t)MAX_AWAKE_US);
}

static void options_instructions(void) {
    const char *most = env_text("LDBFS_SIMD");
    if (most && !simd_limit_name(most))
        fprintf(stderr, "ldbfs: LDBFS_SIMD is not plain, sse4.2, avx2 or avx512 and is ignored\n");
}

void options_engine(const struct options *o, bool background, struct engine_options *ret) {
    engine_options_init(ret);
    options_instructions();
    options_store(o, ret);
    ret->data_dir = o->data_dir;
    ret->background = background;
    if (o->build_bytes > 0) ret->build_bytes = (uint64_t)o->build_bytes;
    if (o->build_age_ms) ret->build_age_ms = o->build_age_ms;
    if (o->retention_ms >= 0) ret->retention_ms = o->retention_ms;
    if (o->threads > 0) ret->threads = (unsigned)o->threads;
    ret->embedding_url = o->embedding_url;
    ret->embedding_key_file = o->embedding_key_file;
}

int options_open(const struct options *o, struct engine **ret, struct err *err) {
    struct engine_options eo;
    int r = make_directories(o->data_dir, err);
    if (r) return r;
    options_engine(o, false, &eo);
    return engine_open(&eo, ret, err);
}

int options_find(struct engine *e, const char *name, struct collection_info *ret, struct err *err) {
    int r = engine_find(e, name, ret, err);
    if (r != -ERR_NOT_FOUND) return r;
    return err_set(err, ERR_NOT_FOUND, "no collection \"%s\" in %s", name, engine_data_dir(e));
}

/* A snapshot as the user names it; "2h-ago" works as "@2h-ago" does. */
static int resolve_snapshot(struct engine *e, const struct collection_info *c, const char *name,
                            struct snapshot_info *ret, struct err *err) {
    int r = engine_snapshot_resolve(e, c->cid, name, ret, err);
    if (r && name[0] != '@') {
        struct err second = ERR_INIT;
        char *at = xmalloc(strlen(name) + 2);
        at[0] = '@';
        strcpy(at + 1, name);
        if (!engine_snapshot_resolve(e, c->cid, at, ret, &second)) r = 0;
        free(at);
    }
    if (r == -ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "collection \"%s\" has no snapshot \"%s\"", c->name, name);
    return r;
}

int options_find_at(struct engine *e, const char *text, struct collection_info *ret,
                    struct snapshot_info *ret_at, struct err *err) {
    const char *at = strchr(text, '@');
    char *name = xstrndup(text, at ? (size_t)(at - text) : strlen(text));
    int r = options_find(e, name, ret, err);
    free(name);
    *ret_at = (struct snapshot_info){0};
    return r || !at ? r : resolve_snapshot(e, ret, at + 1, ret_at, err);
}

void options_print_counters(struct engine *e, FILE *out) {
    struct engine_counters c;
    engine_counters(e, &c);
    fprintf(out, "{\"puts\":%llu,\"gets\":%llu,\"heads\":%llu,\"lists\":%llu,\"deletes\":%llu,\"maps\":%llu,",
            (unsigned long long)c.puts, (unsigned long long)c.gets, (unsigned long long)c.heads,
            (unsigned long long)c.lists, (unsigned long long)c.deletes, (unsigned long long)c.maps);
    fprintf(out, "\"bytes_put\":%llu,\"bytes_got\":%llu,\"waves\":%llu,", (unsigned long long)c.bytes_put,
            (unsigned long long)c.bytes_got, (unsigned long long)c.waves);
    fprintf(out, "\"queries\":%llu,\"records\":%llu,\"builds\":%llu,\"merges\":%llu,\"fsyncs\":%llu}\n",
            (unsigned long long)c.queries, (unsigned long long)c.records, (unsigned long long)c.builds,
            (unsigned long long)c.merges, (unsigned long long)c.fsyncs);
}
