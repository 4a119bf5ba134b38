/* SQLite FTS5's driver: porter stemming, one transaction, WAL; top 10 of any of a query's words by bm25.
 *
 *   fts_bench index DB DOCS.tsv     prints its times as JSON; the file is left optimised
 *   fts_bench serve DB              the line protocol of bench.h: specs NAME FILE; round NAME THREADS PASSES
 */
#include "bench.h"

#include <sqlite3.h>

enum { MAX_SETS = 16 };

struct driver {
    const char *path;
    sqlite3 *db[BENCH_MAX_THREADS]; /* a connection a thread */
    sqlite3_stmt *ask[BENCH_MAX_THREADS];
    struct {
        char name[64];
        char **match;
        uint32_t n;
    } sets[MAX_SETS], *set;
    int n_sets;
};

static void check(sqlite3 *db, int r) {
    if (r == SQLITE_OK || r == SQLITE_DONE || r == SQLITE_ROW) return;
    fprintf(stderr, "fts_bench: %s\n", sqlite3_errmsg(db));
    exit(1);
}
static void run(sqlite3 *db, const char *sql) {
    check(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static int make_index(const char *path, const char *docs) {
    size_t len;
    const char *p = bench_map(docs, &len), *end = p ? p + len : NULL;
    sqlite3 *db;
    sqlite3_stmt *insert;
    uint64_t n = 0;
    if (!p) return 1;
    check(NULL, sqlite3_open(path, &db));
    run(db, "pragma journal_mode=wal");
    run(db, "pragma synchronous=normal");
    run(db, "pragma cache_size=-500000");
    uint64_t start = now_ns();
    run(db, "create virtual table t using fts5(id unindexed, body, tokenize='porter unicode61')");
    run(db, "begin");
    check(db, sqlite3_prepare_v2(db, "insert into t values(?,?)", -1, &insert, NULL));
    for (const char *line = p, *next; line < end; line = next, n++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line)), *tab;
        next = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        if (!(tab = memchr(line, '\t', (size_t)(stop - line)))) return 1;
        sqlite3_bind_text(insert, 1, line, (int)(tab - line), SQLITE_STATIC);
        sqlite3_bind_text(insert, 2, tab + 1, (int)(stop - tab - 1), SQLITE_STATIC);
        check(db, sqlite3_step(insert));
        sqlite3_reset(insert);
    }
    run(db, "commit");
    run(db, "pragma wal_checkpoint(truncate)"); /* synced */
    double committed = (double)(now_ns() - start) / 1e9;
    double cpu = cpu_seconds();
    run(db, "insert into t(t) values('optimize')");
    run(db, "pragma wal_checkpoint(truncate)");
    double merged = (double)(now_ns() - start) / 1e9;
    sqlite3_finalize(insert);
    run(db, "vacuum");
    run(db, "pragma wal_checkpoint(truncate)");
    sqlite3_close(db);
    printf("{\"documents\":%llu,\"cpu_seconds\":%.4f,\"committed\":%.4f,\"merged\":%.4f}\n",
           (unsigned long long)n, cpu, committed, merged);
    return 0;
}

static int ask(void *ctx, unsigned thread, uint32_t item) {
    struct driver *d = ctx;
    if (!d->ask[thread]) {
        check(NULL, sqlite3_open_v2(d->path, &d->db[thread], SQLITE_OPEN_READONLY, NULL));
        run(d->db[thread], "pragma mmap_size=2000000000");
        check(d->db[thread],
              sqlite3_prepare_v2(d->db[thread], "select id from t where t match ? order by rank limit 10", -1,
                                 &d->ask[thread], NULL));
    }
    sqlite3_bind_text(d->ask[thread], 1, d->set->match[item], -1, SQLITE_STATIC);
    int r;
    while ((r = sqlite3_step(d->ask[thread])) == SQLITE_ROW) {
    }
    sqlite3_reset(d->ask[thread]);
    return r == SQLITE_DONE ? 0 : -1;
}

/* whale ship -> "whale" OR "ship" */
static char *match_of(char *line) {
    char *out = NULL, *old;
    for (char *rest = line, *w; (w = strsep(&rest, " \n"));) {
        if (!*w) continue;
        old = out;
        if (asprintf(&out, "%s%s\"%s\"", old ? old : "", old ? " OR " : "", w) < 0) abort();
        free(old);
    }
    return out ? out : strdup("\"\"");
}

static void handle(void *ctx, char **w, int n) {
    struct driver *d = ctx;
    if (!strcmp(w[0], "specs") && n > 2 && d->n_sets < MAX_SETS) {
        FILE *f = fopen(w[2], "r");
        char *line = NULL;
        size_t cap = 0, room = 0;
        d->set = (void *)&d->sets[d->n_sets++];
        snprintf(d->set->name, sizeof d->set->name, "%s", w[1]);
        while (f && getline(&line, &cap, f) > 0) {
            if (d->set->n == room)
                d->set->match = realloc(d->set->match, (room = room * 2 + 64) * sizeof(char *));
            d->set->match[d->set->n++] = match_of(line);
        }
        if (f) fclose(f);
        printf("{\"n\":%u}\n", d->set->n);
    } else if (!strcmp(w[0], "round") && n > 3) {
        for (int i = 0; i < d->n_sets; i++)
            if (!strcmp(d->sets[i].name, w[1])) d->set = (void *)&d->sets[i];
        if (bench_run(ask, d, d->set->n, (uint32_t)atoi(w[3]), (unsigned)atoi(w[2]), NULL))
            bench_error("a query failed");
    } else {
        bench_error("unknown command");
    }
}

int main(int argc, char **argv) {
    static struct driver d;
    if (argc == 4 && !strcmp(argv[1], "index")) return make_index(argv[2], argv[3]);
    if (argc != 3) return 2;
    d.path = argv[2];
    bench_serve(handle, &d);
    return 0;
}
