/* Private to decode*.c: the decoder's state, the scanners that find where a record ends, and the CSV row
 * reader. */
#pragma once
#include "fn/decode.h"

#include <openssl/evp.h>
#include <zlib.h>
#include <zstd.h>

/* Where the splitter stands:
 *
 *   START    between records: skips white space, looks at the first byte
 *   PROBE    the input began with '{': is it {"docs": [ ?   (bytes so far are in carry)
 *   LINE     inside a record that ends at a newline
 *   VALUE    inside a JSON value outside an array (ends with its bracket or quote)
 *   GAP      inside the array, between elements
 *   ELEMENT  inside an element that is an object, array or string
 *   SCALAR   inside an element that is none of these
 *   AFTER    behind the array of {"docs": [..]}, up to the object's end
 *   ROW      CSV: inside a row
 */
enum split_state {
    SPLIT_START,
    SPLIT_PROBE,
    SPLIT_LINE,
    SPLIT_VALUE,
    SPLIT_GAP,
    SPLIT_ELEMENT,
    SPLIT_SCALAR,
    SPLIT_AFTER,
    SPLIT_ROW
};

struct split {
    enum split_state state;
    enum decode_format format;
    bool first;       /* only white space so far: an array may open */
    bool by_line;     /* JSON: the first value stood on a line of its own, so all do */
    bool many;        /* JSON: a value has been read */
    bool value_ended; /* JSON: the first value has just ended on the line where it began */
    bool in_docs;     /* the array is the value of {"docs": ..} */
    bool in_string, escape, field_start, after_quote;
    char separator;
    uint32_t depth;
    uint32_t probe_at;
    uint64_t line;       /* of the next byte */
    uint64_t start_line; /* of the record */
};

void split_init(struct split *s, enum decode_format format);
/* In START, GAP and AFTER: skips what lies between records; returns the bytes consumed. Stops at a record's
 * first byte (then the state is one that scans). */
size_t split_gap(struct split *s, const char *p, size_t n);
/* In LINE, VALUE, ELEMENT, SCALAR, ROW: the number of bytes that belong to the record. *ret_end: it ends
 * there, and *ret_skip more bytes (its terminator) are to be passed over. The state is START or GAP then (ROW
 * stays ROW). */
size_t split_scan(struct split *s, const char *p, size_t n, bool *ret_end, size_t *ret_skip);
/* One byte of PROBE: 0 = undecided (keep the byte), 1 = an array begins here (state GAP, byte not consumed),
 * -1 = an ordinary record (state START, feed the kept bytes again). */
int split_probe(struct split *s, char c);

struct csv {
    char separator;
    bool has_header;
    struct buf header;     /* the row as sent */
    struct err header_err; /* set: no row can be read */
    char **names;          /* as JSON strings with a colon behind */
    bool *is_id;
    uint32_t n_names;
    struct buf cells; /* unescaped cells of one row */
    size_t *ends;
    bool *quoted;
    uint32_t n_cells, cells_cap;
};
void csv_release(struct csv *c);
void csv_take_header(struct csv *c, const char *row, size_t len);
/* Row -> JSON object in out (cleared first). ERR_JSON with the reason. */
int csv_take_row(struct csv *c, const char *row, size_t len, struct buf *out, struct err *err);
