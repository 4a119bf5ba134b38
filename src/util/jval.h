/* JSON documents for the hot path: a strict RFC 8259 parser into an arena, keeping where each value stood in
 * the source so that a document is stored exactly as it was sent. (Configuration and API objects go through
 * jansson.)
 *
 * Strict: valid UTF-8 only (no surrogates, no overlong forms), no NaN/Infinity, no trailing commas or text,
 * nesting at most JVAL_MAX_DEPTH (checked without recursion on input depth), duplicate keys refused, an
 * escaped lone surrogate refused, U+0000 allowed in strings only as an escape (lengths are explicit, strings
 * may hold NUL).
 */
#pragma once
#include "util/buf.h"
#include "util/err.h"

enum { JVAL_MAX_DEPTH = 256 };

enum jval_type { JVAL_NULL, JVAL_FALSE, JVAL_TRUE, JVAL_NUMBER, JVAL_STRING, JVAL_ARRAY, JVAL_OBJECT };

struct jval {
    uint8_t type;      /* enum jval_type */
    bool is_int;       /* NUMBER: no fraction or exponent, and fits int64 */
    uint32_t key_len;  /* member of an object */
    const char *key;   /* NULL when not a member */
    struct jval *next; /* next member or element */
    uint32_t count;    /* ARRAY, OBJECT: number of children; STRING: bytes in str */
    uint32_t raw_len;
    const char *raw; /* where the value stands in the source (borrowed from the caller's text) */
    union {
        const char *str; /* STRING: decoded UTF-8, not NUL-terminated: count bytes */
        struct jval *first;
        int64_t i64; /* NUMBER with is_int */
        double f64;  /* NUMBER without is_int (finite; overflow is an error) */
    };
};

/* Parses exactly one value with optional white space around it. The tree lives in the arena and borrows
 * `text`. Errors: ERR_JSON with line and column. */
int jval_parse(struct arena *arena, const char *text, size_t len, struct jval **ret, struct err *err);
/* The member of an object, or NULL. */
struct jval *jval_get(const struct jval *object, const char *key, size_t key_len);
/* The number as a double, whichever form it has. */
double jval_number(const struct jval *v);
/* 0 if the bytes are valid UTF-8, else 1 + the offset of the first bad byte. */
size_t utf8_invalid(const char *s, size_t len);
