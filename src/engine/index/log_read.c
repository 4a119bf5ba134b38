/* Reading the log; see log.h for the grammar. */
#include "index/log_internal.h"

enum { READ_CHUNK = 1 << 20, BATCH_MAX = 256 << 20, DAMAGE_WINDOW = 32 << 20 };

bool log_all_zero(const uint8_t *p, size_t n) {
    return !n || (!*p && !memcmp(p, p + 1, n - 1));
}

int log_check_header(struct log_file *file, const struct log_segment_name *name, bool *ret_empty,
                     uint32_t *ret_prev_crc, struct err *err) {
    static const uint8_t zeros[LOG_HEADER_SIZE];
    struct buf b = BUF_INIT;
    int r = file->ops->read(file, 0, LOG_HEADER_SIZE, &b, err);
    *ret_empty = !r && (b.len < LOG_HEADER_SIZE || !memcmp(b.data, zeros, LOG_HEADER_SIZE));
    *ret_prev_crc = !r && !*ret_empty ? get_u32(b.data + 28) : 0;
    if (!r && !*ret_empty &&
        (memcmp(b.data, "LDBLOG1\n", 8) || get_u32(b.data + 8) != 1 ||
         get_u32(b.data + 12) != crc32c(0, b.data + 16, LOG_HEADER_SIZE - 16) ||
         get_u64(b.data + 16) != name->first_seq))
        r = err_set(err, ERR_CORRUPT, "log segment \"%s\" has a bad header", name->name);
    buf_release(&b);
    return r;
}

static bool is_void(struct log *log, const struct log_segment_name *seg) {
    struct log_file *file;
    bool empty = false;
    uint32_t prev;
    if (log->head && log->head_name.ordinal == seg->ordinal && log->head_end) return false;
    if (log->store->ops->open(log->store, log->cid, seg->name, false, &file, NULL)) return false;
    if (log_check_header(file, seg, &empty, &prev, NULL)) empty = false;
    file->ops->file_close(file);
    return empty;
}

int log_list(struct log *log, struct log_segment_name **ret, size_t *ret_n, size_t *ret_void,
             struct err *err) {
    int r = log->store->ops->list(log->store, log->cid, ret, ret_n, err);
    *ret_void = 0;
    while (!r && *ret_n && is_void(log, &(*ret)[*ret_n - 1])) --*ret_n, ++*ret_void;
    return r;
}

/* Decodes the batch at p; false = it is not (yet) there as a whole. */
static bool decode_batch(const uint8_t *p, size_t len, struct log_batch *ret) {
    if (len < LOG_BATCH_HEADER) return false;
    uint32_t n = get_u32(p);
    if (n < LOG_BATCH_HEADER - 8 || n > BATCH_MAX || n > len - 8) return false;
    uint32_t crc = get_u32(p + 4);
    if (crc32c(0, p + 8, n) != crc) return false;
    *ret = (struct log_batch){.raw = p,
                              .size = 8 + (size_t)n,
                              .crc = crc,
                              .first_seq = get_u64(p + 8),
                              .time_ms = (int64_t)get_u64(p + 16),
                              .durable_through = get_u64(p + 24),
                              .prev_crc = get_u32(p + 32),
                              .count = get_u32(p + 36),
                              .schema_version = get_u32(p + 40)};
    return true;
}

/* Bytes the batch at p wants in all; 0 when not even its length is there. */
static size_t batch_wants(const uint8_t *p, size_t len) {
    return len < 4 ? 0 : 8 + (size_t)MIN(get_u32(p), (uint32_t)BATCH_MAX);
}

/* Could a batch with a number above `above` begin at p? Cheap: before its crc is computed. */
static bool plausible(const uint8_t *p, size_t len, uint64_t above) {
    uint32_t n = get_u32(p);
    uint64_t first = get_u64(p + 8), durable = get_u64(p + 24);
    return n >= LOG_BATCH_HEADER - 8 && n <= len - 8 && !get_u32(p + 44) && first > above &&
           first < above + (1ull << 40) && durable >= above && durable < first;
}

/* What stands at scan->off is not a whole batch. A torn tail is fine (nothing behind it was ever
 * acknowledged), damage is not: any later batch that is whole and says that this one was durable gives it
 * away. A second look at the file, because the first may have raced with the writer. */
static int check_damage(struct log_file *file, const struct log_scan *scan, struct err *err) {
    struct buf b = BUF_INIT;
    struct log_batch batch;
    uint64_t off = scan->off;
    bool damaged = false;
    int r = 0;
    for (bool eof = false; !eof && !r && !damaged;) {
        buf_clear(&b);
        r = file->ops->read(file, off, DAMAGE_WINDOW, &b, err);
        eof = b.len < DAMAGE_WINDOW;
        if (!r && off == scan->off && decode_batch(b.data, b.len, &batch)) break; /* it was being written */
        for (size_t i = 1; !r && !damaged && i + LOG_BATCH_HEADER <= b.len; i++)
            damaged = plausible(b.data + i, b.len - i, scan->expect_seq) &&
                      decode_batch(b.data + i, b.len - i, &batch);
        off += DAMAGE_WINDOW /
               2; /* overlapping windows: a batch up to half a window long is whole in one of them */
    }
    buf_release(&b);
    if (r || !damaged) return r;
    return err_set(err, ERR_CORRUPT, "log segment \"%s\" is damaged at offset %llu (record %llu)", scan->name,
                   (unsigned long long)scan->off, (unsigned long long)scan->expect_seq);
}

/* Visits the whole batches in b from pos on; 1 = stopped for good. */
static int scan_buffer(struct buf *b, size_t *pos, struct log_scan *scan, log_batch_fn *visit, void *ctx,
                       struct err *err) {
    struct log_batch batch;
    while (decode_batch(b->data + *pos, b->len - *pos, &batch)) {
        batch.off = scan->off;
        if (batch.first_seq != scan->expect_seq || (scan->prev_crc && batch.prev_crc != scan->prev_crc)) {
            scan->broken = true;
            return 1;
        }
        int r = visit(ctx, &batch, err);
        if (r) return r;
        scan->expect_seq += batch.count;
        scan->prev_crc = batch.crc;
        scan->off += batch.size;
        *pos += batch.size;
    }
    return 0;
}

int log_scan_segment(struct log_file *file, struct log_scan *scan, log_batch_fn *visit, void *ctx,
                     struct err *err) {
    struct buf b = BUF_INIT;
    size_t pos = 0, want = READ_CHUNK;
    int r = 0;
    scan->broken = false;
    for (bool eof = false; !eof && !r;) {
        if (pos) memmove(b.data, b.data + pos, b.len - pos);
        b.len -= pos;
        pos = 0;
        size_t before = b.len;
        r = file->ops->read(file, scan->off + b.len, want, &b, err);
        if (r) break;
        eof = b.len == before;
        r = scan_buffer(&b, &pos, scan, visit, ctx, err);
        size_t wants = batch_wants(b.data + pos, b.len - pos), have = b.len - pos;
        want = wants > have + READ_CHUNK ? wants - have : READ_CHUNK;
    }
    if (!r && b.len > pos && !log_all_zero(b.data + pos, b.len - pos)) r = check_damage(file, scan, err);
    buf_release(&b);
    return r < 0 ? r : 0;
}

/* One pass over the segments of a log. */
struct reading {
    struct log_cursor *cursor;
    uint64_t limit; /* records from here on are the next segment's */
    log_visit_fn *visit;
    void *ctx;
    int stop; /* 1: the visitor has enough, 3: reached the limit */
};

static int read_batch(void *p, const struct log_batch *batch, struct err *err) {
    struct reading *rd = p;
    struct cursor c = cursor_of(batch->raw + LOG_BATCH_HEADER, batch->size - LOG_BATCH_HEADER);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct log_record rec = {
            .seq = batch->first_seq + i, .time_ms = batch->time_ms, .schema_version = batch->schema_version};
        rec.op = cursor_u8(&c);
        cursor_u8(&c);
        rec.id_len = cursor_u16(&c);
        rec.body_len = cursor_u32(&c);
        rec.id = (const char *)cursor_take(&c, rec.id_len);
        rec.body = (const char *)cursor_take(&c, rec.body_len);
        if (c.bad)
            return err_set(err, ERR_CORRUPT, "the log batch of record %llu has bad records",
                           (unsigned long long)rec.seq);
        if (rec.seq < rd->cursor->next_seq) continue;
        if (rec.seq >= rd->limit) return rd->stop = 3;
        int r = rd->visit(rd->ctx, &rec, err);
        if (r < 0) return r;
        if (r == 2) return rd->stop = 1;
        rd->cursor->next_seq = rec.seq + 1;
        if (r == 1 && i + 1 < batch->count) return rd->stop = 1;
        if (r == 1) rd->stop = 1;
    }
    rd->cursor->off = batch->off + batch->size;
    rd->cursor->prev_off = batch->off;
    rd->cursor->prev_crc = batch->crc;
    return rd->stop;
}

static int nothing(void *ctx, const struct log_batch *batch, struct err *err) {
    return 0;
}

/* Is the batch before the position the one that was read, and are there just zeros behind the position? */
static int same_batch_before(struct log_file *file, const struct log_cursor *cur, bool *ret,
                             struct err *err) {
    struct buf b = BUF_INIT;
    if (!cur->prev_off) return 0;
    int r = file->ops->read(file, cur->prev_off, 8, &b, err);
    bool same = !r && b.len == 8 && cur->prev_off + 8 + get_u32(b.data) == cur->off &&
                get_u32(b.data + 4) == cur->prev_crc;
    buf_clear(&b);
    if (same) r = file->ops->read(file, cur->off, LOG_BATCH_HEADER, &b, err);
    *ret = same && !r && log_all_zero(b.data, b.len);
    buf_release(&b);
    return r;
}

/* Nothing whole follows a position that was reached before. Is it still a batch boundary with the same
 * history before it? (Another machine may have crashed, lost unsynced batches that were seen here, and others
 * were written instead.) */
static int check_position(struct log_file *file, const struct log_segment_name *seg,
                          const struct log_cursor *cur, struct err *err) {
    struct log_scan scan = {.off = LOG_HEADER_SIZE, .expect_seq = seg->first_seq, .name = seg->name};
    uint64_t size;
    bool empty, same = false;
    int r = file->ops->size(file, &size, err);
    if (r || size == cur->off) return r;
    r = same_batch_before(file, cur, &same, err);
    if (r || same) return r;
    r = log_check_header(file, seg, &empty, &scan.prev_crc, err);
    if (!r) r = log_scan_segment(file, &scan, nothing, NULL, err);
    if (r || (scan.off == cur->off && scan.prev_crc == cur->prev_crc)) return r;
    return err_set(err, ERR_CONFLICT, "log segment \"%s\" was rewritten", seg->name);
}

static int read_segment(struct log *log, const struct log_segment_name *seg, struct reading *rd,
                        struct err *err) {
    struct log_file *file;
    struct log_cursor *cur = rd->cursor;
    struct log_scan scan = {.off = LOG_HEADER_SIZE, .expect_seq = seg->first_seq, .name = seg->name};
    bool empty = false, resumed = cur->ordinal == seg->ordinal && cur->off;
    int r = log->store->ops->open(log->store, log->cid, seg->name, false, &file, err);
    if (r) return r;
    if (resumed) {
        scan.off = cur->off;
        scan.prev_crc = cur->prev_crc;
        scan.expect_seq = 0;
    } else {
        r = log_check_header(file, seg, &empty, &scan.prev_crc, err);
        if (!r && !empty && cur->prev_crc && cur->next_seq == seg->first_seq &&
            scan.prev_crc != cur->prev_crc)
            scan.broken = true;
        *cur = (struct log_cursor){.ordinal = seg->ordinal,
                                   .off = LOG_HEADER_SIZE,
                                   .next_seq = cur->next_seq,
                                   .prev_crc = scan.prev_crc};
    }
    bool none = false;      /* nothing was written behind the position yet */
    if (!scan.expect_seq) { /* the batch at off may hold records that were consumed already */
        struct buf b = BUF_INIT;
        r = file->ops->read(file, scan.off, LOG_BATCH_HEADER, &b, err);
        none = !r && log_all_zero(b.data, b.len);
        scan.expect_seq = b.len >= 16 && !none ? MIN(get_u64(b.data + 8), cur->next_seq) : cur->next_seq;
        buf_release(&b);
    }
    uint64_t from = scan.off;
    if (!r && !empty && !scan.broken && !none) r = log_scan_segment(file, &scan, read_batch, rd, err);
    if (!r && resumed && !scan.broken && !rd->stop && scan.off == from)
        r = check_position(file, seg, cur, err);
    file->ops->file_close(file);
    if (!r && scan.broken) r = err_set(err, ERR_CONFLICT, "log segment \"%s\" was rewritten", seg->name);
    return r;
}

int log_read(struct log *log, struct log_cursor *cursor, log_visit_fn *visit, void *ctx, struct err *err) {
    struct log_segment_name *segs = NULL;
    size_t n, n_void;
    pthread_mutex_lock(&log->lock);
    int r = log_list(log, &segs, &n, &n_void, err);
    pthread_mutex_unlock(&log->lock);
    if (r) {
        free(segs);
        return r;
    }
    if (!cursor->next_seq) cursor->next_seq = n ? segs[0].first_seq : 1;
    struct reading rd = {.cursor = cursor, .visit = visit, .ctx = ctx};
    for (size_t i = 0; i < n && !r && rd.stop != 1; i++) {
        rd.limit = i + 1 < n ? segs[i + 1].first_seq : UINT64_MAX;
        if (rd.limit <= cursor->next_seq) continue;
        rd.stop = 0;
        if (segs[i].first_seq > cursor->next_seq)
            r = err_set(err, ERR_CONFLICT, "log records from %llu on were removed",
                        (unsigned long long)cursor->next_seq);
        else
            r = read_segment(log, &segs[i], &rd, err);
        if (!r && !rd.stop && i + 1 < n && cursor->next_seq < rd.limit)
            r = err_set(err, ERR_CORRUPT, "log segment \"%s\" of collection %s ends before record %llu",
                        segs[i].name, log->cid, (unsigned long long)rd.limit - 1);
    }
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        r = err_set(err, ERR_CONFLICT, "a log segment was removed while it was read");
    }
    free(segs);
    return r;
}

int log_end(struct log *log, uint64_t *ret_last, bool *ret_any, struct err *err) {
    pthread_mutex_lock(&log->lock);
    int r = log_refresh_head(log, NULL, err);
    *ret_last = log->head ? log->last_seq : 0;
    *ret_any = log->head != NULL;
    pthread_mutex_unlock(&log->lock);
    return r;
}

int log_last(struct log *log, uint64_t *ret_seq, int64_t *ret_time_ms, struct err *err) {
    pthread_mutex_lock(&log->lock);
    int r = log_refresh_head(log, NULL, err);
    *ret_seq = log->head ? log->last_seq : 0;
    *ret_time_ms = log->head ? log->last_time_ms : 0;
    pthread_mutex_unlock(&log->lock);
    return r;
}

int log_pending_bytes(struct log *log, const struct log_cursor *cursor, uint64_t *ret, struct err *err) {
    struct log_segment_name *segs = NULL;
    size_t n;
    *ret = 0;
    pthread_mutex_lock(&log->lock); /* the head's file is longer than what is in it */
    int r = log_refresh_head(log, NULL, err);
    uint32_t head = log->head ? log->head_name.ordinal : 0;
    uint64_t head_end = log->head_end;
    pthread_mutex_unlock(&log->lock);
    if (!r) r = log->store->ops->list(log->store, log->cid, &segs, &n, err);
    for (size_t i = 0; !r && i < n; i++) {
        if (segs[i].ordinal < cursor->ordinal) continue;
        struct log_file *file;
        uint64_t size = 0, from = LOG_HEADER_SIZE;
        if (log->store->ops->open(log->store, log->cid, segs[i].name, false, &file, NULL)) continue;
        r = file->ops->size(file, &size, err);
        file->ops->file_close(file);
        if (segs[i].ordinal == head) size = MIN(size, head_end);
        if (segs[i].ordinal == cursor->ordinal) from = MAX(cursor->off, from);
        if (size > from) *ret += size - from;
    }
    free(segs);
    return r;
}
