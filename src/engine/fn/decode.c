/* Streaming record decoders: unpacking, carrying partial records over, batches, and records that are too
 * long. */
#include "fn/decode.h"
#include "fn/decode_split.h"
#include "util/codec.h"
#include "util/jval.h"

enum { BATCH_RECORDS = 4096, BATCH_BYTES = 1 << 20, UNPACK_CHUNK = 128 * 1024, WINDOW_LOG_MAX = 27 };

struct decoder {
    enum decode_packing packing;
    decode_batch_fn *fn;
    void *ctx;
    struct split split;
    struct csv csv;
    struct buf carry;    /* the beginning of the current record, when it began in an earlier piece */
    bool carry_in_batch; /* the batch points into carry: hand it out before carry changes */
    bool over;           /* the record is too long: carry holds its first DECODE_KEEP bytes */
    uint64_t full_len;
    EVP_MD_CTX *sha;
    char sha_text[65];
    struct decode_record *batch;
    size_t n_batch, batch_cap, batch_bytes;
    struct arena batch_arena; /* JSON made from CSV rows */
    struct buf json;
    struct err bad;
    struct err failed; /* set: every later call fails with it */
    bool bom_done;
    uint8_t bom[3];
    size_t n_bom;
    ZSTD_DStream *zstd;
    z_stream gzip;
    bool gzip_open, packed_midway; /* inside a frame */
    char *unpacked;
};

struct decoder *decode_new(enum decode_format format, enum decode_packing packing, decode_batch_fn *fn,
                           void *ctx) {
    struct decoder *d = xcalloc(1, sizeof *d);
    d->packing = packing;
    d->fn = fn;
    d->ctx = ctx;
    split_init(&d->split, format);
    d->csv.separator = d->split.separator;
    if (packing == DECODE_PLAIN) return d;
    d->unpacked = xmalloc(UNPACK_CHUNK);
    if (packing == DECODE_ZSTD) {
        d->zstd = ZSTD_createDStream();
        ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    } else {
        d->gzip_open = inflateInit2(&d->gzip, 16 + MAX_WBITS) == Z_OK;
    }
    return d;
}

void decode_free(struct decoder *d) {
    if (!d) return;
    csv_release(&d->csv);
    buf_release(&d->carry);
    buf_release(&d->json);
    arena_release(&d->batch_arena);
    EVP_MD_CTX_free(d->sha);
    ZSTD_freeDStream(d->zstd);
    if (d->gzip_open) inflateEnd(&d->gzip);
    free(d->unpacked);
    free(d->batch);
    free(d);
}

static int fail(struct decoder *d, struct err *err, int code) {
    if (err && err->code)
        d->failed = *err;
    else
        err_set(&d->failed, (enum err_code) - code, "the receiver of records stopped");
    return code;
}

/* Hands out the batch. Afterwards nothing points into the input or carry. */
static int hand_out(struct decoder *d, struct err *err) {
    int r = 0;
    if (d->n_batch) r = d->fn(d->ctx, d->batch, d->n_batch, err);
    d->n_batch = d->batch_bytes = 0;
    arena_reset(&d->batch_arena);
    if (d->carry_in_batch) {
        buf_clear(&d->carry);
        d->carry_in_batch = false;
    }
    return r ? fail(d, err, r) : 0;
}

static int push(struct decoder *d, const struct decode_record *rec, struct err *err) {
    VEC_GROW(d->batch, d->n_batch, d->batch_cap);
    d->batch[d->n_batch++] = *rec;
    d->batch_bytes += rec->len + rec->raw_len;
    if (d->n_batch < BATCH_RECORDS && d->batch_bytes < BATCH_BYTES) return 0;
    return hand_out(d, err);
}

static int push_bad(struct decoder *d, struct decode_record *rec, struct err *err) {
    /* Order: what came before goes first. `rec` may point into carry, which must outlive that. */
    bool held = d->carry_in_batch;
    d->carry_in_batch = false;
    int r = hand_out(d, err);
    if (r) return r;
    d->carry_in_batch = held;
    rec->bad = &d->bad;
    rec->data = NULL;
    rec->len = 0;
    r = push(d, rec, err);
    return r ? r : hand_out(d, err);
}

static void sha_text(struct decoder *d) {
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    if (copy && EVP_MD_CTX_copy_ex(copy, d->sha) && EVP_DigestFinal_ex(copy, digest, &n) && n == 32)
        hex_encode(digest, 32, d->sha_text);
    else
        d->sha_text[0] = 0;
    EVP_MD_CTX_free(copy);
}

static void start_over(struct decoder *d) {
    d->over = true;
    if (!d->sha) d->sha = EVP_MD_CTX_new();
    if (d->sha) EVP_DigestInit_ex(d->sha, EVP_sha256(), NULL);
    if (d->sha) EVP_DigestUpdate(d->sha, d->carry.data, d->carry.len);
}

/* Appends to the current record's kept beginning. */
static void carry_add(struct decoder *d, const char *p, size_t n) {
    d->full_len += n;
    if (!d->over && d->carry.len + n <= DECODE_MAX_RECORD) {
        buf_add(&d->carry, p, n);
        return;
    }
    if (!d->over) start_over(d);
    if (d->sha) EVP_DigestUpdate(d->sha, p, n);
    if (d->carry.len < DECODE_KEEP) buf_add(&d->carry, p, MIN(n, DECODE_KEEP - d->carry.len));
    if (d->carry.len > DECODE_KEEP) d->carry.len = DECODE_KEEP;
}

static void set_over(struct decoder *d, struct decode_record *rec) {
    err_set(&d->bad, ERR_TOO_LARGE, "a record of %llu bytes; at most %d are possible",
            (unsigned long long)rec->full_len, DECODE_MAX_RECORD);
    sha_text(d);
    rec->sha256 = d->sha_text;
}

static void trim(struct decode_record *rec) {
    while (rec->raw_len && (rec->raw[rec->raw_len - 1] == '\r' || rec->raw[rec->raw_len - 1] == '\n'))
        rec->raw_len--;
}

static bool blank(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r') return false;
    return true;
}

static int emit_row(struct decoder *d, struct decode_record *rec, struct err *err) {
    if (!d->csv.has_header) {
        csv_take_header(&d->csv, rec->raw, rec->raw_len);
        return 0;
    }
    if (csv_take_row(&d->csv, rec->raw, rec->raw_len, &d->json, &d->bad)) return push_bad(d, rec, err);
    rec->len = d->json.len;
    rec->data = arena_strndup(&d->batch_arena, (const char *)d->json.data, d->json.len);
    return push(d, rec, err);
}

static int emit(struct decoder *d, struct decode_record *rec, struct err *err) {
    trim(rec);
    rec->full_len = rec->raw_len;
    if (blank(rec->raw, rec->raw_len)) return 0;
    if (d->split.format == DECODE_CSV || d->split.format == DECODE_TSV) return emit_row(d, rec, err);
    rec->data = rec->raw;
    rec->len = rec->raw_len;
    return push(d, rec, err);
}

/* The record ends with these bytes of the input. */
static int end_record(struct decoder *d, const char *p, size_t n, uint64_t line, struct err *err) {
    struct decode_record rec = {.line = line};
    int r;
    if (!d->carry.len || d->carry_in_batch) {
        if (n <= DECODE_MAX_RECORD) {
            rec.raw = p;
            rec.raw_len = n;
            return emit(d, &rec, err);
        }
        r = hand_out(d, err);
        if (r) return r;
    }
    carry_add(d, p, n);
    rec.raw = (const char *)d->carry.data;
    rec.raw_len = d->carry.len;
    rec.full_len = d->full_len;
    d->carry_in_batch = true;
    if (d->over) {
        set_over(d, &rec);
        r = push_bad(d, &rec, err);
    } else {
        r = emit(d, &rec, err);
    }
    if (!r && !d->n_batch) buf_clear(&d->carry), d->carry_in_batch = false;
    d->over = false;
    d->full_len = 0;
    return r;
}

static int feed(struct decoder *d, const char *p, size_t n, struct err *err);

/* The input began with '{'. Small: the bytes are kept until it is clear what it is. */
static int feed_probe(struct decoder *d, const char *p, size_t n, size_t *ret_used, struct err *err) {
    for (size_t i = 0; i < n; i++) {
        int step = split_probe(&d->split, p[i]);
        *ret_used = i;
        if (step > 0) {
            for (size_t k = 0; k < d->carry.len; k++) d->split.line += d->carry.data[k] == '\n';
            buf_clear(&d->carry);
            d->full_len = 0;
            return 0;
        }
        if (step < 0 || d->carry.len >= DECODE_KEEP) {
            d->split.state = SPLIT_START;
            struct buf kept = d->carry;
            d->carry = (struct buf)BUF_INIT;
            d->full_len = 0;
            int r = feed(d, (const char *)kept.data, kept.len, err);
            /* What was handed on may still lie in `kept`. */
            if (!r) r = hand_out(d, err);
            buf_release(&kept);
            return r;
        }
        carry_add(d, p + i, 1);
        *ret_used = i + 1;
    }
    return 0;
}

static bool between(enum split_state s) {
    return s == SPLIT_START || s == SPLIT_GAP || s == SPLIT_AFTER;
}

static int feed(struct decoder *d, const char *p, size_t n, struct err *err) {
    int r = 0;
    while (n && !r) {
        size_t used = 0, skip = 0;
        bool end = false;
        if (between(d->split.state)) {
            used = split_gap(&d->split, p, n);
        } else if (d->split.state == SPLIT_PROBE) {
            r = feed_probe(d, p, n, &used, err);
        } else {
            uint64_t line = d->split.start_line;
            used = split_scan(&d->split, p, n, &end, &skip);
            if (end) {
                r = end_record(d, p, used, line, err);
                if (d->split.state == SPLIT_ROW) d->split.start_line = d->split.line;
            } else {
                if (d->carry_in_batch) r = hand_out(d, err);
                if (!r) carry_add(d, p, used);
            }
        }
        p += used + skip;
        n -= used + skip;
    }
    return r;
}

/* Passes over a byte order mark, which may come in pieces; then feeds and hands out. */
static int take_plain(struct decoder *d, const char *p, size_t n, struct err *err) {
    static const uint8_t mark[3] = {0xef, 0xbb, 0xbf};
    int r = 0;
    while (!d->bom_done && n) {
        if ((uint8_t)*p == mark[d->n_bom]) {
            d->bom[d->n_bom++] = (uint8_t)*p++;
            n--;
            d->bom_done = d->n_bom == 3;
        } else {
            d->bom_done = true;
            r = feed(d, (const char *)d->bom, d->n_bom, err);
            if (!r) r = hand_out(d, err);
        }
    }
    if (!r) r = feed(d, p, n, err);
    if (!r) r = hand_out(d, err);
    return r;
}

static int take_zstd(struct decoder *d, const void *data, size_t len, struct err *err) {
    ZSTD_inBuffer in = {data, len, 0};
    bool more = true;
    while (in.pos < in.size || more) {
        ZSTD_outBuffer out = {d->unpacked, UNPACK_CHUNK, 0};
        size_t left = ZSTD_decompressStream(d->zstd, &out, &in);
        if (ZSTD_isError(left)) {
            err_set(err, ERR_JSON, "cannot unpack zstd: %s", ZSTD_getErrorName(left));
            return fail(d, err, -ERR_JSON);
        }
        d->packed_midway = left != 0;
        int r = take_plain(d, d->unpacked, out.pos, err);
        if (r) return r;
        more = out.pos == out.size;
    }
    return 0;
}

static int take_gzip(struct decoder *d, const void *data, size_t len, struct err *err) {
    z_stream *z = &d->gzip;
    z->next_in = (Bytef *)data;
    z->avail_in = (uInt)len;
    bool more = false;
    while (z->avail_in || more) {
        z->next_out = (Bytef *)d->unpacked;
        z->avail_out = UNPACK_CHUNK;
        d->packed_midway = true;
        int z_result = d->gzip_open ? inflate(z, Z_NO_FLUSH) : Z_MEM_ERROR;
        if (z_result != Z_OK && z_result != Z_STREAM_END && z_result != Z_BUF_ERROR) {
            err_set(err, ERR_JSON, "cannot unpack gzip: %s", z->msg ? z->msg : "bad data");
            return fail(d, err, -ERR_JSON);
        }
        int r = take_plain(d, d->unpacked, UNPACK_CHUNK - z->avail_out, err);
        if (r) return r;
        more = z->avail_out == 0;
        if (z_result == Z_STREAM_END) {
            d->packed_midway = false;
            inflateReset(z);
        } else if (z_result == Z_BUF_ERROR) {
            break;
        }
    }
    return 0;
}

static int already_failed(struct decoder *d, struct err *err) {
    if (err) *err = d->failed;
    return -(int)d->failed.code;
}

int decode_write(struct decoder *d, const void *data, size_t len, struct err *err) {
    struct err local = ERR_INIT;
    if (!err) err = &local;
    if (d->failed.code) return already_failed(d, err);
    const size_t step = 1 << 30; /* zlib counts in 32 bits */
    int r = 0;
    do {
        size_t n = MIN(len, step);
        if (d->packing == DECODE_ZSTD)
            r = take_zstd(d, data, n, err);
        else if (d->packing == DECODE_GZIP)
            r = take_gzip(d, data, n, err);
        else
            r = take_plain(d, data, n, err);
        data = (const char *)data + n;
        len -= n;
    } while (len && !r);
    return r;
}

/* Is the rest in carry a whole record already? */
static bool rest_is_whole(struct decoder *d) {
    const char *p = (const char *)d->carry.data;
    if (d->over || d->packed_midway) return false;
    if (d->split.state == SPLIT_ROW) {
        if (d->split.in_string) return false;
        return !d->csv.has_header || !csv_take_row(&d->csv, p, d->carry.len, &d->json, NULL);
    }
    if (d->split.state != SPLIT_LINE) return false;
    struct arena a = ARENA_INIT;
    struct jval *v;
    bool whole = !jval_parse(&a, p, d->carry.len, &v, NULL);
    arena_release(&a);
    return whole;
}

static bool has_rest(struct decoder *d) {
    if (d->packed_midway) return true;
    if (d->split.state == SPLIT_GAP || d->split.state == SPLIT_AFTER) return true;
    return d->carry.len > 0 &&
           !(d->split.state == SPLIT_ROW && blank((const char *)d->carry.data, d->carry.len));
}

int decode_pause(struct decoder *d, bool *ret_cut, struct err *err) {
    struct err local = ERR_INIT;
    if (!err) err = &local;
    if (d->failed.code) return already_failed(d, err);
    *ret_cut = false;
    if (!d->bom_done && d->n_bom) { /* the beginning of a byte order mark is not one */
        d->bom_done = true;
        int r = feed(d, (const char *)d->bom, d->n_bom, err);
        if (r) return r;
    }
    if (!has_rest(d)) return 0;
    if (!d->carry.len || !rest_is_whole(d)) {
        *ret_cut = true;
        return 0;
    }
    uint64_t line = d->split.start_line;
    if (d->split.state != SPLIT_ROW) d->split.state = SPLIT_START;
    int r = end_record(d, "", 0, line, err);
    return r ? r : hand_out(d, err);
}

bool decode_rest(struct decoder *d, struct decode_record *ret) {
    if (d->failed.code || !has_rest(d)) return false;
    *ret = (struct decode_record){.raw = d->carry.len ? (const char *)d->carry.data : "",
                                  .raw_len = d->carry.len,
                                  .line = d->carry.len ? d->split.start_line : d->split.line,
                                  .full_len = d->full_len,
                                  .bad = &d->bad};
    if (d->over)
        set_over(d, ret);
    else if (d->packed_midway)
        err_set(&d->bad, ERR_JSON, "the packed input is cut off");
    else if (d->split.state == SPLIT_ROW)
        err_set(&d->bad, ERR_JSON, "the last row is cut off");
    else if (!d->carry.len)
        err_set(&d->bad, ERR_JSON, "the input ends before the array is closed");
    else
        err_set(&d->bad, ERR_JSON, "the last record is cut off: no complete JSON, no newline");
    return true;
}

int decode_end(struct decoder *d, struct err *err) {
    bool cut;
    int r = decode_pause(d, &cut, err);
    if (r || !cut) return r;
    struct decode_record rec;
    if (!decode_rest(d, &rec)) return 0;
    d->carry_in_batch = true;
    d->packed_midway = false;
    r = push_bad(d, &rec, err);
    buf_clear(&d->carry);
    d->carry_in_batch = d->over = false;
    d->full_len = 0;
    if (d->split.state != SPLIT_ROW) d->split.state = SPLIT_START;
    return r;
}

const char *decode_header(const struct decoder *d, size_t *ret_len) {
    *ret_len = d->csv.header.len;
    return d->csv.has_header ? (const char *)d->csv.header.data : NULL;
}

bool decode_name(const char *name, enum decode_format *ret_format, enum decode_packing *ret_packing) {
    static const struct {
        const char *end;
        enum decode_format format;
    } ends[] = {{".jsonl", DECODE_LINES},
                {".ndjson", DECODE_LINES},
                {".json", DECODE_JSON},
                {".csv", DECODE_CSV},
                {".tsv", DECODE_TSV}};
    size_t n = strlen(name);
    *ret_packing = DECODE_PLAIN;
    if (n > 4 && !strcmp(name + n - 4, ".zst"))
        *ret_packing = DECODE_ZSTD, n -= 4;
    else if (n > 3 && !strcmp(name + n - 3, ".gz"))
        *ret_packing = DECODE_GZIP, n -= 3;
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        size_t m = strlen(ends[i].end);
        if (n <= m || memcmp(name + n - m, ends[i].end, m)) continue;
        *ret_format = ends[i].format;
        return true;
    }
    return false;
}
