/* Streaming record decoders: bytes in any pieces in, JSON records out, in bounded memory. No I/O, no engine.
 *
 * Formats: lines (one JSON value a line; CRLF is fine), JSON (values one after another, over any number of
 * lines), CSV and TSV (RFC 4180 with a header row: a value that is a JSON number or true/false stays so, an
 * empty one is left out, everything else is a string; `id` is always a string). Lines and JSON may also hold
 * one array [..] or
 * {"docs": [..]} instead, which is streamed element by element. A UTF-8 byte order mark is skipped. Any
 * format may be packed with zstd or gzip (also several frames).
 *
 * Records are handed out in batches, in input order. They are only split here: whether a record is good JSON
 * is the receiver's business. What cannot be a record (too long, a bad CSV row, the cut end of the input) is
 * handed out as a batch of one with `bad` set.
 *
 * One thread at a time per decoder. Memory: at most about two records of DECODE_MAX_RECORD.
 */
#pragma once
#include "util/buf.h"
#include "util/err.h"

enum decode_format { DECODE_LINES, DECODE_JSON, DECODE_CSV, DECODE_TSV };
enum decode_packing { DECODE_PLAIN, DECODE_ZSTD, DECODE_GZIP };
enum {
    DECODE_MAX_RECORD = 5 * 1024 * 1024, /* longer ones are bad (ERR_TOO_LARGE) */
    DECODE_KEEP = 64 * 1024,             /* bytes kept of a record that is too long */
    DECODE_MAX_COLUMNS = 4096,
};

struct decode_record {
    const char *data; /* the JSON text, valid during the callback */
    size_t len;
    const char *raw; /* the input text it came from (for CSV the row); not more than DECODE_MAX_RECORD */
    size_t raw_len;
    uint64_t line;         /* where it begins in the (unpacked) input, from 1 */
    const struct err *bad; /* NULL, or why it is no record (then data is NULL) */
    uint64_t full_len;     /* of the record in the input: more than raw_len if it was too long */
    const char *sha256;    /* of the whole record when raw is only its beginning: 64 hex digits; else NULL */
};
/* Returns 0, or a negative code that decode_write and decode_end then return at once. */
typedef int decode_batch_fn(void *ctx, const struct decode_record *records, size_t n, struct err *err);

struct decoder;
struct decoder *decode_new(enum decode_format, enum decode_packing, decode_batch_fn *, void *ctx);
void decode_free(struct decoder *); /* NULL is fine */
/* Takes the next bytes and hands out every record that is complete. Errors: what the callback returned, or
 * ERR_JSON when the packed stream is broken (then every later call fails too). */
int decode_write(struct decoder *, const void *data, size_t len, struct err *err);
/* A pause in the input that may be its end: hands out an unterminated last record if it is complete by
 * itself. True in ret_cut: there is an incomplete rest; it stays, and further input may complete it. */
int decode_pause(struct decoder *, bool *ret_cut, struct err *err);
/* The incomplete rest as decode_end would report it (bad is set), without taking it. False: there is none.
 * The record is valid until the next call. */
bool decode_rest(struct decoder *, struct decode_record *ret);
/* The end of the input: as decode_pause, then hands out an incomplete rest as a bad record. */
int decode_end(struct decoder *, struct err *err);

/* CSV and TSV: the header row as it was sent; NULL when there is none (yet). */
const char *decode_header(const struct decoder *, size_t *ret_len);

/* What a file name says: .jsonl .ndjson .json .csv .tsv, also with .zst or .gz behind. False: none of these.
 */
bool decode_name(const char *name, enum decode_format *ret_format, enum decode_packing *ret_packing);
