/* Cutting a text into pieces and bringing them to one width (NFKC), with the way back to the input. */
#include "index/analyzer_internal.h"

#include <pthread.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

/* Characters of one normalisation step: a letter with its marks. Behind that many the run is cut. */
enum { RUN_UNITS = 64, RUN_OUT = 64 * 20 };

static const UNormalizer2 *nfkc;
static pthread_once_t nfkc_once = PTHREAD_ONCE_INIT;

static void nfkc_init(void) {
    UErrorCode status = U_ZERO_ERROR;
    nfkc = unorm2_getNFKCInstance(&status);
    if (U_FAILURE(status)) nfkc = NULL;
}

static void need(struct normal_piece *p, size_t more) {
    buf_reserve(&p->text, more + 1);
    if (p->text.len + more < p->cap) return;
    p->cap = p->text.cap + 1;
    p->from = xrealloc(p->from, p->cap * sizeof *p->from);
}

static void put(struct normal_piece *p, const void *bytes, size_t n, size_t from) {
    need(p, n);
    for (size_t i = 0; i < n; i++) p->from[p->text.len + i] = (uint32_t)from;
    buf_add(&p->text, bytes, n);
}

static void put_code_point(struct normal_piece *p, UChar32 c, size_t from) {
    uint8_t bytes[U8_MAX_LENGTH];
    size_t n = 0;
    U8_APPEND_UNSAFE(bytes, n, c);
    put(p, bytes, n, from);
}

/* Reads a character; what is no character is a space. */
static UChar32 next_char(const uint8_t *s, size_t len, size_t *i) {
    UChar32 c = s[*i];
    if (c < 0x80)
        ++*i;
    else
        U8_NEXT(s, *i, len, c);
    return c < 0 || c == 0x7f || (c < 0x20 && c != '\n') ? ' ' : c;
}

/* The run that starts at *pos: one character, and those behind it that may combine with it. */
static UChar32 read_run(const uint8_t *s, size_t len, size_t *pos, UChar *units, int32_t *ret_n) {
    int32_t n = 0;
    UChar32 first = next_char(s, len, pos);
    U16_APPEND_UNSAFE(units, n, first);
    while (*pos < len && s[*pos] >= 0x80 && n + 2 <= RUN_UNITS) {
        size_t next = *pos;
        UChar32 c = next_char(s, len, &next);
        if (unorm2_hasBoundaryBefore(nfkc, c)) break;
        U16_APPEND_UNSAFE(units, n, c);
        *pos = next;
    }
    *ret_n = n;
    return first;
}

static int put_run(struct normal_piece *p, const UChar *units, int32_t n, size_t from, struct err *err) {
    UErrorCode status = U_ZERO_ERROR;
    UChar out[RUN_OUT];
    const UChar *u = units;
    if (unorm2_quickCheck(nfkc, units, n, &status) != UNORM_YES) {
        n = unorm2_normalize(nfkc, units, n, out, RUN_OUT, &status);
        u = out;
    }
    if (U_FAILURE(status)) return err_set(err, ERR_IO, "could not normalize text: %s", u_errorName(status));
    for (int32_t i = 0; i < n;) {
        UChar32 c;
        U16_NEXT(u, i, n, c);
        put_code_point(p, c, from);
    }
    return 0;
}

static bool ends_piece(size_t len, UChar32 last) {
    if (last == '\n' || last == 0x3002 || last == 0xff61) return true;
    if (len < PIECE_SOFT_BYTES) return false;
    return len >= PIECE_HARD_BYTES || u_isUWhiteSpace(last) || last == 0x3001 || last == 0xff64;
}

int normal_next(struct normal_piece *p, const uint8_t *s, size_t len, size_t *pos, struct err *err) {
    UChar units[RUN_UNITS + 2];
    int32_t n;
    UChar32 last = 0;
    pthread_once(&nfkc_once, nfkc_init);
    if (!nfkc) return err_set(err, ERR_UNSUPPORTED, "the data of the ICU library is not there");
    buf_clear(&p->text);
    if (*pos >= len) return 0;
    do {
        size_t from = *pos;
        if (s[from] < 0x80 && (from + 1 == len || s[from + 1] < 0x80)) {
            last = next_char(s, len, pos);
            put_code_point(p, last, from);
            continue;
        }
        last = read_run(s, len, pos, units, &n);
        int r = put_run(p, units, n, from, err);
        if (r) return r;
    } while (*pos < len && !ends_piece(p->text.len, last));
    need(p, 0);
    p->from[p->text.len] = (uint32_t)*pos;
    return 1;
}

uint32_t normal_end(const struct normal_piece *p, size_t end) {
    uint32_t last = p->from[end - 1];
    while (end < p->text.len && p->from[end] == last) end++;
    return p->from[end];
}

void normal_release(struct normal_piece *p) {
    buf_release(&p->text);
    free(p->from);
    *p = (struct normal_piece){0};
}
