/* Metadata in one SQLite file in WAL mode: one connection that writes, under a mutex, and a pool of
 * connections that read, so that a read never waits for a write. */
#include "backend/metadata.h"
#include "util/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    FORMAT_VERSION = 1,
    BUSY_MAX_MS = 30000,   /* how long to wait for other processes */
    READERS_KEPT_MAX = 16, /* idle connections beyond this are closed */
    PROCESS_TEXT_SIZE = 192,
};

enum statement {
    GET,
    LIST,
    VERSION,
    PUT,
    DELETE,
    LEASE_GET,
    LEASE_PUT,
    BEGIN,
    COMMIT,
    ROLLBACK,
    STATEMENT_COUNT
};
static const char *const statements[STATEMENT_COUNT] = {
    [GET] = "SELECT value, version FROM items WHERE pk = ?1 AND sk = ?2",
    [LIST] = "SELECT sk, value, version FROM items WHERE pk = ?1 AND sk >= ?2 ORDER BY sk",
    [VERSION] = "SELECT version FROM items WHERE pk = ?1 AND sk = ?2",
    [PUT] = "INSERT INTO items (pk, sk, version, value) VALUES (?1, ?2, 1, ?3) "
            "ON CONFLICT (pk, sk) DO UPDATE SET version = version + 1, value = excluded.value",
    [DELETE] = "DELETE FROM items WHERE pk = ?1 AND sk = ?2",
    [LEASE_GET] = "SELECT owner, epoch, expires_ms, pid, start_time FROM leases WHERE name = ?1",
    [LEASE_PUT] = "INSERT OR REPLACE INTO leases (name, owner, epoch, expires_ms, pid, start_time) "
                  "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
};
/* start_time is text: boot id, namespace of the process ids, and the start in clock ticks. A process can only
 * be judged dead by one of the same boot and namespace. */
static const char schema_sql[] =
    "CREATE TABLE IF NOT EXISTS items (pk TEXT NOT NULL, sk TEXT NOT NULL, version INTEGER NOT NULL, "
    "value TEXT NOT NULL, PRIMARY KEY (pk, sk));"
    "CREATE TABLE IF NOT EXISTS leases (name TEXT PRIMARY KEY NOT NULL, owner TEXT NOT NULL, epoch INTEGER "
    "NOT NULL, "
    "expires_ms INTEGER NOT NULL, pid INTEGER NOT NULL, start_time TEXT NOT NULL);"
    "PRAGMA user_version = 1;";
_Static_assert(FORMAT_VERSION == 1, "schema_sql sets user_version");

/* One thread at a time. */
struct conn {
    sqlite3 *db;
    sqlite3_stmt *stmt[STATEMENT_COUNT]; /* prepared at first use */
    struct conn *next;
};

struct store {
    struct metadata base;
    struct clock *clock;
    char *path;
    pthread_mutex_t write_mutex; /* guards writer */
    struct conn *writer;
    pthread_mutex_t pool_mutex; /* guards idle, n_idle */
    struct conn *idle;
    unsigned n_idle;
    const volatile uint32_t *wal_index; /* mapped while `writer` is open; NULL: not to be had */
};

static struct store *store_of(struct metadata *m) {
    return (struct store *)m;
}

/* ---- connections ---- */

static int fail(struct store *s, struct conn *c, int rc, const char *what, struct err *err) {
    enum err_code code = ERR_IO;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        code = ERR_BUSY;
        break;
    case SQLITE_FULL:
        code = ERR_NO_SPACE;
        break;
    case SQLITE_NOMEM:
        code = ERR_NO_MEMORY;
        break;
    case SQLITE_READONLY:
        code = ERR_READ_ONLY;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        code = ERR_CORRUPT;
        break;
    default:
        break;
    }
    return err_set(err, code, "could not %s \"%s\": %s", what, s->path,
                   c && c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
}

/* Waits 0.1 ms, then longer, up to 5 ms at a time. */
static int on_busy(void *ctx, int count) {
    long us = count < 6 ? 100L << count : 5000;
    struct timespec t = {.tv_nsec = us * 1000};
    nanosleep(&t, NULL);
    return count < BUSY_MAX_MS / 5;
}

static void conn_close(struct conn *c) {
    if (!c) return;
    for (int i = 0; i < STATEMENT_COUNT; i++) sqlite3_finalize(c->stmt[i]);
    sqlite3_close(c->db);
    free(c);
}

static int exec_retry(struct conn *c, const char *sql) {
    int rc = SQLITE_BUSY;
    for (int i = 0; (rc & 0xff) == SQLITE_BUSY && on_busy(NULL, i);
         i++) /* changing the mode does not ask the handler */
        rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    return rc;
}

static int conn_open(struct store *s, bool create, struct conn **ret, struct err *err) {
    struct conn *c = xcalloc(1, sizeof *c);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(s->path, &c->db, flags, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_extended_result_codes(c->db, 1);
        sqlite3_busy_handler(c->db, on_busy, NULL);
        rc = exec_retry(c, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    }
    if (rc != SQLITE_OK) {
        int r = fail(s, c, rc, "open", err);
        conn_close(c);
        return r;
    }
    *ret = c;
    return 0;
}

static struct conn *reader_take(struct store *s, int *ret_r, struct err *err) {
    pthread_mutex_lock(&s->pool_mutex);
    struct conn *c = s->idle;
    if (c) {
        s->idle = c->next;
        s->n_idle--;
    }
    pthread_mutex_unlock(&s->pool_mutex);
    if (!c) *ret_r = conn_open(s, false, &c, err);
    return c;
}

static void reader_give(struct store *s, struct conn *c) {
    pthread_mutex_lock(&s->pool_mutex);
    bool keep = s->n_idle < READERS_KEPT_MAX;
    if (keep) {
        c->next = s->idle;
        s->idle = c;
        s->n_idle++;
    }
    pthread_mutex_unlock(&s->pool_mutex);
    if (!keep) conn_close(c);
}

static int statement(struct conn *c, enum statement which, sqlite3_stmt **ret) {
    int rc = SQLITE_OK;
    if (!c->stmt[which])
        rc = sqlite3_prepare_v3(c->db, statements[which], -1, SQLITE_PREPARE_PERSISTENT, &c->stmt[which],
                                NULL);
    *ret = c->stmt[which];
    return rc;
}

/* A statement without parameters and results. */
static int run(struct conn *c, enum statement which) {
    sqlite3_stmt *st;
    int rc = statement(c, which, &st);
    if (rc != SQLITE_OK) return rc;
    rc = sqlite3_step(st);
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* Prepares and binds up to three texts; NULL ends them. */
static int bind(struct conn *c, enum statement which, const char *a, const char *b, const char *v,
                sqlite3_stmt **ret) {
    int rc = statement(c, which, ret);
    if (rc == SQLITE_OK) rc = sqlite3_bind_text(*ret, 1, a, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK && b) rc = sqlite3_bind_text(*ret, 2, b, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK && v) rc = sqlite3_bind_text(*ret, 3, v, -1, SQLITE_STATIC);
    return rc;
}

static void done(sqlite3_stmt *st) {
    if (!st) return;
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
}

static int run_texts(struct conn *c, enum statement which, const char *a, const char *b, const char *v) {
    sqlite3_stmt *st;
    int rc = bind(c, which, a, b, v, &st);
    if (rc == SQLITE_OK) rc = sqlite3_step(st);
    done(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ---- reading ---- */

static int sqlite_get(struct metadata *m, const char *pk, const char *sk, struct buf *ret_value,
                      uint64_t *ret_version, struct err *err) {
    struct store *s = store_of(m);
    int r = 0;
    struct conn *c = reader_take(s, &r, err);
    if (!c) return r;
    sqlite3_stmt *st;
    int rc = bind(c, GET, pk, sk, NULL, &st);
    if (rc == SQLITE_OK) rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        buf_add(ret_value, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
        if (ret_version) *ret_version = (uint64_t)sqlite3_column_int64(st, 1);
    } else if (rc == SQLITE_DONE)
        r = err_set(err, ERR_NOT_FOUND, "no metadata item \"%s\", \"%s\"", pk, sk);
    else
        r = fail(s, c, rc, "read", err);
    done(st);
    reader_give(s, c);
    return r;
}

/* sk NUL value NUL, one item after the other. */
struct rows {
    struct buf text;
    struct row {
        size_t sk, value, value_len;
        uint64_t version;
    } * v;
    size_t n, cap;
};

static void add_row(struct rows *rows, sqlite3_stmt *st) {
    VEC_GROW(rows->v, rows->n, rows->cap);
    struct row *row = &rows->v[rows->n++];
    row->sk = rows->text.len;
    buf_add(&rows->text, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    buf_addc(&rows->text, 0);
    row->value = rows->text.len;
    buf_add(&rows->text, sqlite3_column_text(st, 1), (size_t)sqlite3_column_bytes(st, 1));
    row->value_len = rows->text.len - row->value;
    buf_addc(&rows->text, 0);
    row->version = (uint64_t)sqlite3_column_int64(st, 2);
}

static int collect_rows(struct store *s, const char *pk, const char *prefix, struct rows *ret,
                        struct err *err) {
    int r = 0;
    struct conn *c = reader_take(s, &r, err);
    if (!c) return r;
    size_t len = strlen(prefix);
    sqlite3_stmt *st;
    int rc = bind(c, LIST, pk, prefix, NULL, &st);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW) break;
        if (strncmp((const char *)sqlite3_column_text(st, 0), prefix, len)) {
            rc = SQLITE_DONE; /* in order: the rest lies behind the prefix */
            break;
        }
        add_row(ret, st);
    }
    if (rc != SQLITE_DONE) r = fail(s, c, rc, "read", err);
    done(st);
    reader_give(s, c);
    return r;
}

/* Nothing is held while the visitor runs, so it may call the store. */
static int sqlite_list(struct metadata *m, const char *pk, const char *sk_prefix, meta_visit *visit,
                       void *ctx, struct err *err) {
    struct rows rows = {0};
    int r = collect_rows(store_of(m), pk, sk_prefix, &rows, err);
    for (size_t i = 0; i < rows.n && !r; i++) {
        const char *text = (const char *)rows.text.data;
        const struct row *row = &rows.v[i];
        r = visit(ctx, &(struct meta_item){text + row->sk, text + row->value, row->value_len, row->version});
    }
    buf_release(&rows.text);
    free(rows.v);
    return r;
}

/* ---- stamps ---- */

/* The header of the WAL index (sqlite.org/walformat.html, 2.1): 48 bytes, twice, at the beginning of the
 * shared memory. A commit writes the second copy, then the first, and only then returns. Every connection
 * decides by comparing this header with the one it knows whether its cache is still good; so do we. */
enum { WAL_INDEX_REGION = 32 * 1024, WAL_INDEX_VERSION = 3007000, WAL_INDEX_WORDS = META_STAMP_SIZE / 4 };

/* The mapping is the process's, not the connection's, and stays for as long as one has the file open. */
static void map_wal_index(struct store *s) {
    sqlite3_file *f = NULL;
    volatile void *p = NULL;
    if (sqlite3_file_control(s->writer->db, "main", SQLITE_FCNTL_FILE_POINTER, &f) != SQLITE_OK || !f) return;
    const sqlite3_io_methods *m = f->pMethods;
    if (!m || m->iVersion < 2 || !m->xShmMap) return;
    if (m->xShmMap(f, 0, WAL_INDEX_REGION, 0, &p) == SQLITE_OK) s->wal_index = p;
}

static void sqlite_stamp(struct metadata *m, struct meta_stamp *ret) {
    const volatile uint32_t *index = store_of(m)->wal_index;
    uint32_t copies[2][WAL_INDEX_WORDS];
    if (!index) return;
    /* In this order, each word read before the next: equal copies are one commit's. What is read after the
     * stamp is read behind all of it, so it is at least as new: a stamp too old costs a read, it never hides
     * a write. Acquire loads say both; a fence would say no more, and thread sanitizers do not know fences.
     */
    for (unsigned i = 0; i < 2 * WAL_INDEX_WORDS; i++)
        copies[i / WAL_INDEX_WORDS][i % WAL_INDEX_WORDS] = __atomic_load_n(&index[i], __ATOMIC_ACQUIRE);
    bool ready = copies[0][0] == WAL_INDEX_VERSION && ((const uint8_t *)copies[0])[12];
    ret->known = ready && !memcmp(copies[0], copies[1], sizeof copies[0]);
    memcpy(ret->state, copies[0], sizeof copies[0]);
}

/* ---- transactions ---- */

/* Begins; with success the write mutex is held until end_write. */
static int begin_write(struct store *s, struct err *err) {
    pthread_mutex_lock(&s->write_mutex);
    int rc = run(s->writer, BEGIN);
    if (rc == SQLITE_OK) return 0;
    int r = fail(s, s->writer, rc, "write", err);
    pthread_mutex_unlock(&s->write_mutex);
    return r;
}

/* Commits when r is 0, else rolls back; returns r or the commit's error. */
static int end_write(struct store *s, int r, struct err *err) {
    if (!r) {
        int rc = run(s->writer, COMMIT);
        if (rc != SQLITE_OK) r = fail(s, s->writer, rc, "commit to", err);
    }
    if (!sqlite3_get_autocommit(s->writer->db)) run(s->writer, ROLLBACK);
    pthread_mutex_unlock(&s->write_mutex);
    return r;
}

static int check_expect(struct store *s, const struct meta_op *op, struct err *err) {
    if (op->expect == META_ANY) return 0;
    sqlite3_stmt *st;
    int64_t version = 0;
    int rc = bind(s->writer, VERSION, op->pk, op->sk, NULL, &st);
    if (rc == SQLITE_OK) rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) version = sqlite3_column_int64(st, 0);
    int r = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fail(s, s->writer, rc, "read", err);
    done(st);
    if (!r && version != op->expect)
        r = err_set(err, ERR_CONFLICT, "metadata item \"%s\", \"%s\" has version %lld, not %lld", op->pk,
                    op->sk, (long long)version, (long long)op->expect);
    return r;
}

static int apply(struct store *s, const struct meta_op *op, struct err *err) {
    int rc = SQLITE_OK;
    if (op->kind == META_PUT) rc = run_texts(s->writer, PUT, op->pk, op->sk, op->value);
    if (op->kind == META_DELETE) rc = run_texts(s->writer, DELETE, op->pk, op->sk, NULL);
    return rc == SQLITE_OK ? 0 : fail(s, s->writer, rc, "write", err);
}

static int sqlite_transact(struct metadata *m, const struct meta_op *ops, size_t n_ops, struct err *err) {
    struct store *s = store_of(m);
    int r = begin_write(s, err);
    if (r) return r;
    for (size_t i = 0; i < n_ops && !r; i++) {
        r = check_expect(s, &ops[i], err);
        if (!r) r = apply(s, &ops[i], err);
    }
    return end_write(s, r, err);
}

/* ---- leases ---- */

/* When the process started, in clock ticks since boot; 0 when there is no such process. A zombie counts as
 * dead. */
static unsigned long long process_start(pid_t pid) {
    char text[1024];
    proc_read((int)pid, "stat", text, sizeof text);
    const char *state = proc_field(text, 3), *start = proc_field(text, 22);
    if (!start || *state == 'Z' || *state == 'X') return 0;
    return strtoull(start, NULL, 10);
}

/* Boot and pid namespace, the scope in which a process id means something; "" when it cannot be known. */
static void process_scope(char out[PROCESS_TEXT_SIZE / 2]) {
    char boot[64], ns[64];
    text_read("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    boot[strcspn(boot, "\n")] = 0;
    ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof ns - 1);
    ns[n > 0 ? n : 0] = 0;
    out[0] = 0;
    if (boot[0] && ns[0]) snprintf(out, PROCESS_TEXT_SIZE / 2, "%.40s %.40s", boot, ns);
}

static void process_text(pid_t pid, char out[PROCESS_TEXT_SIZE]) {
    char scope[PROCESS_TEXT_SIZE / 2];
    process_scope(scope);
    snprintf(out, PROCESS_TEXT_SIZE, "%s %llu", scope, process_start(pid));
}

struct lease {
    char owner[520], start_time[PROCESS_TEXT_SIZE];
    uint64_t epoch; /* 0: never held */
    int64_t expires_ms, pid;
};

static bool is_dead(const struct lease *l) {
    char scope[PROCESS_TEXT_SIZE / 2], now[PROCESS_TEXT_SIZE];
    process_scope(scope);
    size_t n = strlen(scope);
    if (!n || strncmp(l->start_time, scope, n))
        return false; /* another machine or container: wait for the expiry */
    process_text((pid_t)l->pid, now);
    return strcmp(l->start_time, now) != 0;
}

static int lease_load(struct store *s, const char *name, struct lease *ret, struct err *err) {
    *ret = (struct lease){0};
    sqlite3_stmt *st;
    int rc = bind(s->writer, LEASE_GET, name, NULL, NULL, &st);
    if (rc == SQLITE_OK) rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        snprintf(ret->owner, sizeof ret->owner, "%s", (const char *)sqlite3_column_text(st, 0));
        ret->epoch = (uint64_t)sqlite3_column_int64(st, 1);
        ret->expires_ms = sqlite3_column_int64(st, 2);
        ret->pid = sqlite3_column_int64(st, 3);
        snprintf(ret->start_time, sizeof ret->start_time, "%s", (const char *)sqlite3_column_text(st, 4));
    }
    int r = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fail(s, s->writer, rc, "read", err);
    done(st);
    return r;
}

static int lease_store(struct store *s, const char *name, const struct lease *l, struct err *err) {
    sqlite3_stmt *st;
    int rc = bind(s->writer, LEASE_PUT, name, l->owner, NULL, &st);
    if (rc == SQLITE_OK) rc = sqlite3_bind_int64(st, 3, (int64_t)l->epoch);
    if (rc == SQLITE_OK) rc = sqlite3_bind_int64(st, 4, l->expires_ms);
    if (rc == SQLITE_OK) rc = sqlite3_bind_int64(st, 5, l->pid);
    if (rc == SQLITE_OK) rc = sqlite3_bind_text(st, 6, l->start_time, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK) rc = sqlite3_step(st);
    int r = rc == SQLITE_DONE ? 0 : fail(s, s->writer, rc, "write", err);
    done(st);
    return r;
}

static int64_t expiry(struct store *s, int64_t ttl_ms) {
    int64_t now = clock_now_ms(s->clock);
    return ttl_ms > INT64_MAX - now ? INT64_MAX : now + ttl_ms;
}

static int sqlite_lease_acquire(struct metadata *m, const char *name, const char *owner, int64_t ttl_ms,
                                uint64_t *ret_epoch, struct err *err) {
    struct store *s = store_of(m);
    struct lease l;
    int r = begin_write(s, err);
    if (r) return r;
    r = lease_load(s, name, &l, err);
    bool held =
        !r && l.owner[0] && strcmp(l.owner, owner) && l.expires_ms > clock_now_ms(s->clock) && !is_dead(&l);
    if (held) r = err_set(err, ERR_BUSY, "lease \"%s\" is held by \"%s\"", name, l.owner);
    if (!r) {
        snprintf(l.owner, sizeof l.owner, "%s", owner);
        l.epoch++;
        l.expires_ms = expiry(s, ttl_ms);
        l.pid = getpid();
        process_text(getpid(), l.start_time);
        r = lease_store(s, name, &l, err);
    }
    r = end_write(s, r, err);
    if (!r) *ret_epoch = l.epoch;
    return r;
}

/* Changes a lease that is still ours. *ret_ours tells whether it was. */
static int change_own(struct store *s, const char *name, const char *owner, uint64_t epoch, bool release,
                      int64_t ttl_ms, bool *ret_ours, struct err *err) {
    struct lease l;
    int r = begin_write(s, err);
    if (r) return r;
    r = lease_load(s, name, &l, err);
    *ret_ours = !r && l.epoch == epoch && !strcmp(l.owner, owner);
    if (*ret_ours) {
        if (release) l.owner[0] = 0; /* the row stays: the epoch must go on growing */
        l.expires_ms = release ? 0 : expiry(s, ttl_ms);
        r = lease_store(s, name, &l, err);
    }
    return end_write(s, r, err);
}

/* An expired lease that nobody has taken meanwhile is still ours: nobody else has its epoch. */
static int sqlite_lease_renew(struct metadata *m, const char *name, const char *owner, uint64_t epoch,
                              int64_t ttl_ms, struct err *err) {
    bool ours;
    int r = change_own(store_of(m), name, owner, epoch, false, ttl_ms, &ours, err);
    return r || ours ? r : err_set(err, ERR_CONFLICT, "lease \"%s\" was lost", name);
}

/* Releasing a lease that was lost has nothing to do. */
static int sqlite_lease_release(struct metadata *m, const char *name, const char *owner, uint64_t epoch,
                                struct err *err) {
    bool ours;
    return change_own(store_of(m), name, owner, epoch, true, 0, &ours, err);
}

/* ---- open and close ---- */

static void sqlite_close(struct metadata *m) {
    struct store *s = store_of(m);
    while (s->idle) {
        struct conn *c = s->idle;
        s->idle = c->next;
        conn_close(c);
    }
    conn_close(s->writer);
    pthread_mutex_destroy(&s->write_mutex);
    pthread_mutex_destroy(&s->pool_mutex);
    free(s->path);
    free(s);
}

static const struct metadata_ops sqlite_ops = {
    .name = "sqlite",
    .get = sqlite_get,
    .list = sqlite_list,
    .transact = sqlite_transact,
    .stamp = sqlite_stamp,
    .lease_acquire = sqlite_lease_acquire,
    .lease_renew = sqlite_lease_renew,
    .lease_release = sqlite_lease_release,
    .close = sqlite_close,
};

static int format_of(struct conn *c, int *ret) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA user_version", -1, &st, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) *ret = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* Creates the tables of a new file, under SQLite's write lock. */
static int ensure_schema(struct store *s, struct err *err) {
    int format = -1, r = begin_write(s, err);
    if (r) return r;
    int rc = format_of(s->writer, &format);
    if (rc == SQLITE_OK && format == 0) rc = sqlite3_exec(s->writer->db, schema_sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        r = fail(s, s->writer, rc, "create", err);
    else if (format != 0 && format != FORMAT_VERSION)
        r = err_set(err, ERR_UNSUPPORTED, "\"%s\" has format %d, this version reads %d", s->path, format,
                    FORMAT_VERSION);
    return end_write(s, r, err);
}

int metadata_sqlite_open(const char *path, struct clock *clock, struct metadata **ret, struct err *err) {
    struct store *s = xcalloc(1, sizeof *s);
    s->base.ops = &sqlite_ops;
    s->clock = clock;
    s->path = xstrdup(path);
    pthread_mutex_init(&s->write_mutex, NULL);
    pthread_mutex_init(&s->pool_mutex, NULL);
    int r = conn_open(s, true, &s->writer, err);
    if (!r) r = ensure_schema(s, err);
    if (r) {
        sqlite_close(&s->base);
        return r;
    }
    map_wal_index(s);
    *ret = &s->base;
    return 0;
}
