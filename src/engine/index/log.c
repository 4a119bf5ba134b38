/* Appending to the log, group commit, recovery from a failed sync. */
#include "index/log_internal.h"

#include <stdio.h>

enum { HEAD_ATTEMPTS = 100 };

int log_open(struct log_store *store, const char *cid, struct clock *clock, struct log **ret,
             struct err *err) {
    struct log *log = xcalloc(1, sizeof *log);
    log->store = store;
    log->clock = clock;
    snprintf(log->cid, sizeof log->cid, "%s", cid);
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->synced[0], NULL);
    pthread_cond_init(&log->synced[1], NULL);
    *ret = log;
    return 0;
}

/* Lets go of the head. While a sync runs on it the handle must stay open: only a handle that was open when a
 * write-back failed is sure to be told. */
static void retire_head(struct log *log) {
    if (!log->head) return;
    if (log->syncing) {
        VEC_GROW(log->retired, log->n_retired, log->cap_retired);
        log->retired[log->n_retired++] = log->head;
    } else
        log->head->ops->file_close(log->head);
    log->head = NULL;
}

void log_idle(struct log *log) {
    pthread_mutex_lock(&log->lock);
    if (log->synced_seq >= log->appended_seq && !log->unhealthy) retire_head(log);
    pthread_mutex_unlock(&log->lock);
}

bool log_begun(const struct log *log) {
    return __atomic_load_n(&log->begun, __ATOMIC_RELAXED);
}

uint64_t log_fsyncs(const struct log *log) {
    return __atomic_load_n(&log->fsyncs, __ATOMIC_RELAXED);
}

/* Encodes records as one batch that goes behind the current end. */
static void encode_batch(const struct log *log, struct log_record *records, size_t n, int64_t now,
                         struct buf *out, uint32_t *ret_crc) {
    uint8_t *p = buf_grow(out, LOG_BATCH_HEADER);
    put_u64(p + 8, log->last_seq + 1);
    put_u64(p + 16, (uint64_t)now);
    put_u64(p + 24, MIN(log->synced_seq, log->last_seq));
    put_u32(p + 32, log->last_crc);
    put_u32(p + 36, (uint32_t)n);
    put_u32(p + 40, n ? records[0].schema_version : 0);
    put_u32(p + 44, 0);
    for (size_t i = 0; i < n; i++) {
        struct log_record *r = &records[i];
        r->seq = log->last_seq + 1 + i;
        r->time_ms = now;
        p = buf_grow(out, LOG_RECORD_HEADER + (size_t)r->id_len + r->body_len);
        p[0] = r->op;
        p[1] = 0;
        put_u16(p + 2, (uint16_t)r->id_len);
        put_u32(p + 4, r->body_len);
        if (r->id_len) memcpy(p + LOG_RECORD_HEADER, r->id, r->id_len);
        if (r->body_len) memcpy(p + LOG_RECORD_HEADER + r->id_len, r->body, r->body_len);
    }
    put_u32(out->data, (uint32_t)(out->len - 8));
    *ret_crc = crc32c(0, out->data + 8, out->len - 8);
    put_u32(out->data + 4, *ret_crc);
}

static void encode_header(const struct log *log, const struct log_segment_name *name, uint32_t prev_crc,
                          uint8_t out[LOG_HEADER_SIZE]) {
    memset(out, 0, LOG_HEADER_SIZE);
    memcpy(out, "LDBLOG1\n", 8);
    put_u32(out + 8, 1);
    put_u64(out + 16, name->first_seq);
    put_u32(out + 24, name->ordinal);
    put_u32(out + 28, prev_crc);
    memcpy(out + 32, log->cid, MIN(strlen(log->cid), (size_t)32));
    put_u32(out + 12, crc32c(0, out + 16, LOG_HEADER_SIZE - 16));
}

static int end_visit(void *p, const struct log_batch *batch, struct err *err) {
    struct log *log = p;
    log->last_time_ms = MAX(log->last_time_ms, batch->time_ms);
    return 0;
}

static int open_head(struct log *log, const struct log_segment_name *name, struct err *err) {
    struct log_file *file;
    bool empty;
    uint32_t prev_crc;
    int r = log->store->ops->open(log->store, log->cid, name->name, false, &file, err);
    if (r) return r;
    r = log_check_header(file, name, &empty, &prev_crc, err);
    if (!r && empty) r = err_set(err, ERR_CORRUPT, "log segment \"%s\" has no header", name->name);
    if (r) {
        file->ops->file_close(file);
        return r;
    }
    retire_head(log);
    __atomic_store_n(&log->begun, true, __ATOMIC_RELAXED);
    log->head = file;
    log->head_name = *name;
    log->head_end = LOG_HEADER_SIZE;
    log->head_size = 0;
    log->last_seq = name->first_seq - 1;
    log->last_crc = prev_crc;
    return 0;
}

/* Is there anything but zeros in the head from off on? */
static int find_rest(struct log *log, uint64_t off, bool *ret, struct err *err) {
    struct buf b = BUF_INIT;
    int r = 0;
    *ret = false;
    while (!r && !*ret && off < log->head_size) {
        buf_clear(&b);
        r = log->head->ops->read(log->head, off, LOG_RESERVE, &b, err);
        *ret = !r && !log_all_zero(b.data, b.len);
        if (!b.len) break; /* cut meanwhile */
        off += b.len;
    }
    buf_release(&b);
    return r;
}

/* Does no batch begin at head_end? *ret_zeros: how many zeros were seen there; an appender looks at the
 * reserved room in the same read. */
static int nothing_follows(struct log *log, bool appends, bool *ret, uint64_t *ret_zeros, struct err *err) {
    struct buf b = BUF_INIT;
    size_t len = appends ? LOG_RESERVE : LOG_BATCH_HEADER;
    int r = log->head->ops->read(log->head, log->head_end, len, &b, err);
    *ret = !r && log_all_zero(b.data, MIN(b.len, (size_t)LOG_BATCH_HEADER));
    *ret_zeros = *ret && log_all_zero(b.data, b.len) ? b.len : 0;
    buf_release(&b);
    return r;
}

static int scan_batches(struct log *log, struct err *err) {
    struct log_scan scan = {.off = log->head_end,
                            .expect_seq = log->last_seq + 1,
                            .prev_crc = log->last_crc,
                            .name = log->head_name.name};
    int r = log_scan_segment(log->head, &scan, end_visit, log, err);
    log->head_end = scan.off;
    log->last_seq = scan.expect_seq - 1;
    log->last_crc = scan.prev_crc;
    return r;
}

/* Looks behind head_end for batches of other processes. */
static int scan_head(struct log *log, bool *ret_torn, struct err *err) {
    uint64_t size, zeros = 0;
    bool none = false;
    int r = log->head->ops->size(log->head, &size, err);
    if (r) return r;
    if (size < log->head_end) { /* cut behind our back (another machine crashed): read it anew */
        struct log_segment_name name = log->head_name;
        r = open_head(log, &name, err);
        if (r) return r;
    }
    log->head_size = size;
    if (size == log->head_end) return 0;
    r = nothing_follows(log, ret_torn != NULL, &none, &zeros, err);
    if (!r && !none) r = scan_batches(log, err);
    if (!r && ret_torn) r = find_rest(log, log->head_end + zeros, ret_torn, err);
    if (!r && log->last_seq < log->synced_seq)
        r = err_set(err, ERR_CORRUPT, "log segment \"%s\" lost records up to %llu that were synced",
                    log->head_name.name, (unsigned long long)log->synced_seq);
    return r;
}

/* Is the list what it was when the head was found in it? *ret_now: how it looks now. A list with a void
 * segment is never remembered: the segment counts once its header is there, which no stamp shows. */
static bool same_list(struct log *log, struct log_stamp *ret_now) {
    ret_now->known = false;
    if (log->store->ops->stamp) log->store->ops->stamp(log->store, log->cid, ret_now);
    return log->head && log_stamp_equal(ret_now, &log->listed);
}

/* Opens the newest segment, unless it is known that it is the head. */
static int find_head(struct log *log, struct err *err) {
    struct log_segment_name *segs = NULL;
    size_t n, n_void;
    struct log_stamp now;
    if (same_list(log, &now)) return 0;
    int r = log_list(log, &segs, &n, &n_void, err);
    if (!r && n && (!log->head || segs[n - 1].ordinal != log->head_name.ordinal))
        r = open_head(log, &segs[n - 1], err);
    else if (!r && !n)
        retire_head(log);
    free(segs);
    log->listed = now;
    if (r || !n || n_void) log->listed.known = false;
    return r;
}

int log_refresh_head(struct log *log, bool *ret_torn, struct err *err) {
    int r = find_head(log, err);
    if (ret_torn) *ret_torn = false;
    /* without the file lock: a builder may have put another in its place since it was listed */
    for (int i = 0; r == -ERR_NOT_FOUND && i < HEAD_ATTEMPTS; i++) {
        err_clear(err);
        r = find_head(log, err);
    }
    return r || !log->head ? r : scan_head(log, ret_torn, err);
}

/* Removes segments whose creator died before their header was written. Both locks held. */
static int remove_void(struct log *log, struct err *err) {
    struct log_segment_name *segs = NULL;
    size_t n, n_void;
    int r = log_list(log, &segs, &n, &n_void, err);
    for (size_t i = n; !r && i < n + n_void; i++)
        r = log->store->ops->remove(log->store, log->cid, segs[i].name, err);
    free(segs);
    return r;
}

/* Creates the segment that begins at first_seq, with `body` in it (may be empty; durable before the header
 * then), and makes it the head. Both locks held. */
static int start_segment(struct log *log, uint64_t first_seq, uint32_t prev_crc, const struct buf *body,
                         struct err *err) {
    struct log_segment_name name = {.ordinal = log->head ? log->head_name.ordinal + 1 : 1,
                                    .first_seq = first_seq};
    snprintf(name.name, sizeof name.name, "%08x-%016llx.log", name.ordinal, (unsigned long long)first_seq);
    struct log_file *file;
    uint8_t header[LOG_HEADER_SIZE];
    int r = log->store->ops->open(log->store, log->cid, name.name, true, &file, err);
    if (r) return r;
    if (body) {
        r = file->ops->write(file, LOG_HEADER_SIZE, body->data, body->len, err);
        if (!r) r = file->ops->sync(file, err);
    }
    encode_header(log, &name, prev_crc, header);
    if (!r) r = file->ops->write(file, 0, header, sizeof header, err);
    if (!r && body) r = file->ops->sync(file, err);
    if (r) {
        file->ops->file_close(file);
        log->store->ops->remove(log->store, log->cid, name.name, NULL);
        return r;
    }
    retire_head(log);
    __atomic_store_n(&log->begun, true, __ATOMIC_RELAXED);
    log->head = file;
    log->head_name = name;
    log->head_end = LOG_HEADER_SIZE;
    log->head_size = 0;
    log->last_seq = first_seq - 1;
    log->last_crc = prev_crc;
    return 0;
}

static int sync_failed(struct log *log, uint32_t ordinal, int r) {
    __atomic_store_n(&log->unhealthy, true, __ATOMIC_RELEASE);
    log->failed_ordinal = ordinal;
    return r;
}

/* Syncs the head before it is rolled. Both locks held. */
static int sync_head(struct log *log, struct err *err) {
    __atomic_add_fetch(&log->fsyncs, 1, __ATOMIC_RELAXED);
    int r = log->head->ops->sync(log->head, err);
    if (r) return sync_failed(log, log->head_name.ordinal, r);
    log->synced_seq = MAX(log->synced_seq, log->last_seq);
    return 0;
}

/* The head is whole and has room: cuts a torn tail, rolls a full segment. Both locks held. */
static int prepare_head(struct log *log, uint64_t floor_seq, struct err *err) {
    bool torn;
    struct log_stamp now;
    bool same = same_list(log, &now);
    int r = same ? 0 : remove_void(log, err);
    torn = false;
    if (!r) r = same ? scan_head(log, &torn, err) : log_refresh_head(log, &torn, err);
    if (r) return r;
    if (!log->head) return start_segment(log, floor_seq + 1, 0, NULL, err);
    if (torn && (r = log->head->ops->truncate(log->head, log->head_end, err))) return r;
    if (torn) log->head_size = log->head_end;
    if (log->head_end < LOG_SEGMENT_BYTES) return 0;
    r = sync_head(log, err);
    return r ? r : start_segment(log, log->last_seq + 1, log->last_crc, NULL, err);
}

/* Room for this batch and the next ones: a sync that has no metadata to write takes about half the time.
 * Large batches would gain nothing. */
static void reserve(struct log *log, size_t len) {
    uint64_t need = log->head_end + len;
    if (len >= LOG_RESERVE_BATCH || need <= log->head_size || !log->head->ops->reserve) return;
    if (!log->head->ops->reserve(log->head, need + LOG_RESERVE, NULL)) log->head_size = need + LOG_RESERVE;
}

static int write_batch(struct log *log, struct log_record *records, size_t n, struct err *err) {
    int64_t now = MAX(clock_now_ms(log->clock), log->last_time_ms);
    struct buf out = BUF_INIT;
    uint32_t crc;
    encode_batch(log, records, n, now, &out, &crc);
    if (n) reserve(log, out.len);
    int r = log->head->ops->write(log->head, log->head_end, out.data, out.len, err);
    if (r)
        log->head->ops->truncate(log->head, log->head_end, NULL); /* if that fails too it is a torn tail */
    else {
        log->head_end += out.len;
        log->last_seq += n;
        log->last_crc = crc;
        log->last_time_ms = now;
        log->appended_seq = log->last_seq;
        log->appended_crc = crc;
    }
    buf_release(&out);
    return r;
}

/* ---- a failed sync ---- */

struct rewriting {
    struct buf out;
    uint64_t from; /* first number to keep; in carried_over: the number looked for */
    uint64_t last;
    uint32_t prev_crc; /* of the batch before `from` */
    bool found;
    uint32_t crc; /* in carried_over: the crc looked for */
};

static int rewrite_visit(void *p, const struct log_batch *batch, struct err *err) {
    struct rewriting *rw = p;
    if (batch->first_seq < rw->from)
        rw->prev_crc = batch->crc;
    else
        buf_add(&rw->out, batch->raw, batch->size);
    rw->last = batch->first_seq + batch->count - 1;
    return 0;
}

static int find_own(void *p, const struct log_batch *batch, struct err *err) {
    struct rewriting *rw = p;
    if (batch->first_seq + batch->count - 1 == rw->from && batch->crc == rw->crc) rw->found = true;
    return 0;
}

/* Is our newest batch in the (new) head? Then somebody else's recovery carried it over and synced it. */
static int carried_over(struct log *log, bool *ret, struct err *err) {
    struct rewriting rw = {.from = log->appended_seq, .crc = log->appended_crc};
    struct log_scan scan = {
        .off = LOG_HEADER_SIZE, .expect_seq = log->head_name.first_seq, .name = log->head_name.name};
    int r = log_scan_segment(log->head, &scan, find_own, &rw, err);
    *ret = !r && rw.found;
    return r;
}

/* Copies the batches from first_seq on (everybody's) into a new segment. Nothing counts there before its
 * header is written, which happens when all of it is durable. */
static int rewrite_head(struct log *log, uint64_t first_seq, struct err *err) {
    bool empty;
    struct rewriting rw = {.from = first_seq, .last = log->head_name.first_seq - 1};
    struct log_scan scan = {
        .off = LOG_HEADER_SIZE, .expect_seq = log->head_name.first_seq, .name = log->head_name.name};
    uint64_t had = log->last_seq;
    uint32_t last_crc = log->last_crc;
    int r = log_check_header(log->head, &log->head_name, &empty, &rw.prev_crc, err);
    if (!r) r = log_scan_segment(log->head, &scan, rewrite_visit, &rw, err);
    if (!r && rw.last != had)
        r = err_set(err, ERR_IO, "log segment \"%s\" cannot be read back after a failed sync",
                    log->head_name.name);
    if (!r) r = start_segment(log, first_seq, rw.prev_crc, &rw.out, err);
    if (!r) {
        log->head_end += rw.out.len;
        log->last_seq = had;
        log->last_crc = last_crc;
    }
    buf_release(&rw.out);
    return r;
}

/* After a sync failed: everything not known durable goes to a new segment. On success all this process
 * appended is durable. */
static int recover(struct log *log, struct err *err) {
    void *token;
    bool torn, safe = false;
    int r = log->store->ops->lock(log->store, log->cid, &token, err);
    if (r) return r;
    pthread_mutex_lock(&log->lock);
    r = remove_void(log, err);
    if (!r) r = log_refresh_head(log, &torn, err);
    if (!r && !log->head) r = err_set(err, ERR_NOT_FOUND, "the log of collection %s is gone", log->cid);
    if (!r && log->head_name.ordinal != log->failed_ordinal && log->head_name.first_seq <= log->appended_seq)
        r = carried_over(log, &safe, err);
    if (!r && !safe) {
        uint64_t first = MAX(log->synced_seq + 1, log->head_name.first_seq);
        r = rewrite_head(log, first, err);
    }
    if (!r) {
        log->synced_seq = MAX(log->synced_seq, log->last_seq);
        __atomic_store_n(&log->unhealthy, false, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&log->lock);
    log->store->ops->unlock(log->store, token);
    return r ? err_wrap(err, "could not make the log durable") : 0;
}

int log_append(struct log *log, struct log_record *records, size_t n, uint64_t floor_seq, log_guard_fn *guard,
               void *ctx, struct err *err) {
    void *token;
    int r = __atomic_load_n(&log->unhealthy, __ATOMIC_ACQUIRE) ? recover(log, err) : 0;
    if (r) return r;
    r = log->store->ops->lock(log->store, log->cid, &token, err);
    if (r) return r;
    pthread_mutex_lock(&log->lock);
    r = prepare_head(log, floor_seq, err);
    uint64_t last = log->last_seq;
    if (!r && guard) {
        pthread_mutex_unlock(&log->lock); /* the file lock still keeps every other appender out */
        r = guard(ctx, last, err);
        pthread_mutex_lock(&log->lock);
    }
    if (!r && n) r = write_batch(log, records, n, err);
    pthread_mutex_unlock(&log->lock);
    log->store->ops->unlock(log->store, token);
    return r;
}

/* One round of group commit by the leader. Called with the mutex held; releases it while syncing. */
static int sync_round(struct log *log, struct err *err) {
    uint64_t target = log->last_seq;
    uint32_t ordinal = log->head_name.ordinal;
    struct log_file *file = log->head;
    log->syncing = true;
    log->target = target;
    log->round++;
    __atomic_add_fetch(&log->fsyncs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&log->lock);
    int r = file->ops->sync(file, err);
    pthread_mutex_lock(&log->lock);
    log->syncing = false;
    while (log->n_retired) {
        file = log->retired[--log->n_retired];
        file->ops->file_close(file);
    }
    if (!r)
        log->synced_seq = MAX(log->synced_seq, target);
    else
        sync_failed(log, ordinal, r);
    return r;
}

/* The mutex is held, and released while others may work. */
static int recover_round(struct log *log, struct err *err) {
    log->syncing = true;
    pthread_mutex_unlock(&log->lock);
    err_clear(err);
    int r = recover(log, err);
    pthread_mutex_lock(&log->lock);
    log->syncing = false;
    return r;
}

/* The end of a round: whoever it was for goes on, and of those who came too late for it one leads the next,
 * which will be for all of them. When anything has failed everybody looks again. */
static void wake(struct log *log, uint64_t round, bool failed) {
    pthread_cond_broadcast(&log->synced[round % 2]);
    if (failed)
        pthread_cond_broadcast(&log->synced[(round + 1) % 2]);
    else
        pthread_cond_signal(&log->synced[(round + 1) % 2]);
}

int log_sync(struct log *log, uint64_t seq, struct err *err) {
    int r = 0;
    pthread_cond_t *waited = NULL;
    pthread_mutex_lock(&log->lock);
    while (!r && log->synced_seq < seq) {
        if (log->syncing) {
            waited = &log->synced[(log->round + (seq > log->target)) % 2];
            pthread_cond_wait(waited, &log->lock);
        } else if (!log->head)
            r = err_set(err, ERR_NOT_FOUND, "the log of collection %s is gone", log->cid);
        else {
            bool failed = log->unhealthy || sync_round(log, err);
            if (log->unhealthy) r = recover_round(log, err);
            wake(log, log->round, failed);
        }
    }
    /* Who was to lead and need not (an appender synced the segment before a new one) passes it on. */
    if (waited && !log->syncing) pthread_cond_signal(waited);
    pthread_mutex_unlock(&log->lock);
    return r;
}

int log_sync_all(struct log *log, uint64_t seq, struct err *err) {
    pthread_mutex_lock(&log->lock);
    int r = log_refresh_head(log, NULL, err);
    bool nothing =
        !log->head || seq < log->head_name.first_seq; /* older segments were synced when they were rolled */
    pthread_mutex_unlock(&log->lock);
    return r || nothing ? r : log_sync(log, seq, err);
}

int log_trim(struct log *log, uint64_t seq, uint64_t roll_bytes, struct err *err) {
    void *token;
    struct log_segment_name *segs = NULL;
    size_t n = 0;
    bool torn;
    int r = log->store->ops->lock(log->store, log->cid, &token, err);
    if (r) return r;
    pthread_mutex_lock(&log->lock);
    r = remove_void(log, err);
    if (!r) r = log_refresh_head(log, &torn, err);
    if (!r && log->head && !torn && log->last_seq <= seq && log->head_end > roll_bytes) {
        r = sync_head(log, err);
        if (!r) r = start_segment(log, log->last_seq + 1, log->last_crc, NULL, err);
    }
    pthread_mutex_unlock(&log->lock);
    if (!r) r = log->store->ops->list(log->store, log->cid, &segs, &n, err);
    for (size_t i = 0; !r && i + 1 < n; i++)
        if (segs[i + 1].first_seq <= seq + 1)
            r = log->store->ops->remove(log->store, log->cid, segs[i].name, err);
    free(segs);
    log->store->ops->unlock(log->store, token);
    return r;
}

/* At a clean end: an empty batch that says how far the log is durable, so that damage to the last real batch
 * is not taken for a torn tail; and the reserved zeros go. Best effort. */
static void vouch(struct log *log) {
    void *token;
    bool torn = true;
    if (!log->appended_seq || log->unhealthy || log->store->ops->lock(log->store, log->cid, &token, NULL))
        return;
    pthread_mutex_lock(&log->lock);
    if (!log_refresh_head(log, &torn, NULL) && log->head && !torn && log->synced_seq == log->last_seq &&
        log->appended_seq == log->last_seq)
        write_batch(log, NULL, 0, NULL);
    if (log->head && !torn && log->head_size > log->head_end)
        log->head->ops->truncate(log->head, log->head_end, NULL);
    pthread_mutex_unlock(&log->lock);
    log->store->ops->unlock(log->store, token);
}

void log_close(struct log *log) {
    if (!log) return;
    vouch(log);
    retire_head(log);
    while (log->n_retired) {
        struct log_file *file = log->retired[--log->n_retired];
        file->ops->file_close(file);
    }
    pthread_mutex_destroy(&log->lock);
    pthread_cond_destroy(&log->synced[0]);
    pthread_cond_destroy(&log->synced[1]);
    free(log->retired);
    free(log);
}
