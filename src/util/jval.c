/* The JSON parser of the hot path: one pass, an explicit stack, strings and white space scanned 16 bytes at a
 * time. */
#include "util/jval.h"
#include "util/codec.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { SMALL_OBJECT = 16 }; /* members up to which duplicates are found by comparing */

/* An open array or object. `seen` is a 64-bit filter over the keys so far; beyond SMALL_OBJECT members
 * `table` (open addressing, a power of two in size, at most half full) takes over. */
struct frame {
    struct jval *v;
    struct jval **tail;
    uint64_t seen;
    struct jval **table;
    uint32_t table_size;
};

struct parser {
    const char *start, *p, *end;
    struct arena *arena;
    struct err *err;
    const char *key; /* of the member whose value comes next */
    uint32_t key_len;
    unsigned depth;
    struct frame stack[JVAL_MAX_DEPTH];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t hash_seed; /* secret, so that nobody can send keys that collide */
static locale_t c_locale;

static void init_once(void) {
    if (getrandom(&hash_seed, sizeof hash_seed, GRND_NONBLOCK) < 0) hash_seed = (uintptr_t)&hash_seed;
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

__attribute__((format(printf, 3, 4), noinline, cold)) static int fail(struct parser *ps, const char *at,
                                                                      const char *fmt, ...) {
    uint32_t line = 1, column = 1;
    for (const char *p = ps->start; p < at; p++) {
        if (*p == '\n') {
            line++;
            column = 1;
        } else if ((*p & 0xc0) != 0x80)
            column++;
    }
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (line == 1) return err_at(ps->err, ERR_JSON, line, column, "%s at column %u", text, column);
    return err_at(ps->err, ERR_JSON, line, column, "%s at line %u, column %u", text, line, column);
}

/* Says what was found instead of what was expected. */
__attribute__((noinline, cold)) static int fail_expected(struct parser *ps, const char *what) {
    if (ps->p >= ps->end) return fail(ps, ps->p, "the text ends where %s is expected", what);
    uint8_t c = (uint8_t)*ps->p;
    if (c > 0x20 && c < 0x7f) return fail(ps, ps->p, "expected %s, found '%c'", what, c);
    return fail(ps, ps->p, "expected %s, found byte 0x%02x", what, c);
}

static inline void skip_space(struct parser *ps) {
    const char *p = ps->p, *end = ps->end;
    while (p < end && (uint8_t)*p <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    ps->p = p;
}

/* ---- UTF-8 ---- */

/* Bytes of the valid sequence at p, or 0 (Unicode 15, table 3-7). */
static inline unsigned utf8_sequence(const uint8_t *p, size_t left) {
    uint8_t c = p[0];
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return 0;
    if (left < 2) return 0;
    if (c < 0xe0) return (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (left < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return 0;
    if (c < 0xf0) {
        if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f)) return 0;
        return 3;
    }
    if (left < 4 || (p[3] & 0xc0) != 0x80) return 0;
    if ((c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f)) return 0;
    return 4;
}

size_t utf8_invalid(const char *s, size_t len) {
    const uint8_t *start = (const uint8_t *)s, *p = start, *end = start + len;
    while (p < end) {
        while ((size_t)(end - p) >= 8 && !(get_u64(p) & 0x8080808080808080ull)) p += 8;
        while (p < end && *p < 0x80) p++;
        while (p < end && *p >= 0x80) {
            unsigned n = utf8_sequence(p, (size_t)(end - p));
            if (!n) return 1 + (size_t)(p - start);
            p += n;
        }
    }
    return 0;
}

static char *utf8_put(char *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* ---- strings ---- */

/* The first of '"', '\\' and control characters in [p, end), or end. Adds to *high whether a byte >= 0x80 was
 * met (perhaps of the bytes just behind the end of the string: it only asks for a validation). */
static inline const char *scan_string(const char *p, const char *end, unsigned *high) {
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
                                   _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
        *high |= (unsigned)_mm_movemask_epi8(v);
        unsigned mask = (unsigned)_mm_movemask_epi8(hit);
        if (mask) return p + __builtin_ctz(mask);
        p += 16;
    }
#else
    const uint64_t ones = 0x0101010101010101ull, tops = 0x8080808080808080ull;
    while (end - p >= 8) {
        uint64_t v = get_u64((const uint8_t *)p), q = v ^ ones * '"', s = v ^ ones * '\\';
        uint64_t hit = ((q - ones) & ~q) | ((s - ones) & ~s) | ((v - ones * 0x20) & ~v);
        *high |= (v & tops) != 0;
        if (hit & tops) break;
        p += 8;
    }
#endif
    for (; p < end; p++) {
        uint8_t c = (uint8_t)*p;
        *high |= c & 0x80;
        if (c == '"' || c == '\\' || c < 0x20) break;
    }
    return p;
}

static int hex4(const char *p) {
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v << 4 | d;
    }
    return v;
}

/* \uXXXX, with the second half of a surrogate pair. p stands behind the 'u'. */
static int decode_unicode(struct parser *ps, const char *p, const char *end, uint32_t *ret,
                          const char **ret_p) {
    int c = end - p >= 4 ? hex4(p) : -1;
    if (c < 0) return fail(ps, p - 2, "four hex digits must follow \\u");
    uint32_t code = (uint32_t)c;
    p += 4;
    if (c >= 0xdc00 && c <= 0xdfff) return fail(ps, p - 6, "lone surrogate \\u%04x", code);
    if (c >= 0xd800 && c <= 0xdbff) {
        int low = end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff) return fail(ps, p - 6, "lone surrogate \\u%04x", code);
        code = 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        p += 6;
    }
    *ret = code;
    *ret_p = p;
    return 0;
}

/* Decodes the escapes of [p, end), the inside of a string; the result is never longer than the source. */
static int decode_string(struct parser *ps, const char *p, const char *end, const char **ret,
                         size_t *ret_len) {
    char *to = arena_alloc(ps->arena, (size_t)(end - p)), *out = to;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash ? slash : end) - p);
        memcpy(out, p, plain);
        out += plain;
        if (!slash) break;
        p = slash + 2; /* the scan has seen that a byte follows the backslash */
        switch (slash[1]) {
        case '"':
        case '\\':
        case '/':
            *out++ = slash[1];
            break;
        case 'b':
            *out++ = '\b';
            break;
        case 'f':
            *out++ = '\f';
            break;
        case 'n':
            *out++ = '\n';
            break;
        case 'r':
            *out++ = '\r';
            break;
        case 't':
            *out++ = '\t';
            break;
        case 'u': {
            uint32_t code = 0;
            int r = decode_unicode(ps, p, end, &code, &p);
            if (r) return r;
            out = utf8_put(out, code);
            break;
        }
        default:
            return fail(ps, slash, "unknown escape in a string");
        }
    }
    *ret = to;
    *ret_len = (size_t)(out - to);
    return 0;
}

/* ps->p stands on the opening quote; leaves it behind the closing one. */
static int parse_string(struct parser *ps, const char **ret, uint32_t *ret_len) {
    const char *from = ps->p + 1, *p = from;
    unsigned high = 0;
    bool escaped = false;
    for (;;) {
        p = scan_string(p, ps->end, &high);
        if (p >= ps->end) return fail(ps, ps->p, "a string has no end");
        if (*p == '"') break;
        if (*p != '\\') return fail(ps, p, "control character 0x%02x in a string", (uint8_t)*p);
        if (ps->end - p < 2) return fail(ps, ps->p, "a string has no end");
        escaped = true;
        high |= (uint8_t)p[1] & 0x80;
        p += 2;
    }
    ps->p = p + 1;
    size_t len = (size_t)(p - from);
    size_t bad = high ? utf8_invalid(from, len) : 0;
    if (bad) return fail(ps, from + bad - 1, "invalid UTF-8 in a string");
    const char *s = from;
    if (escaped) {
        int r = decode_string(ps, from, p, &s, &len);
        if (r) return r;
    }
    *ret = s;
    *ret_len = (uint32_t)len;
    return 0;
}

/* ---- numbers ---- */

static const uint64_t pow5[28] = {
    1ull,
    5ull,
    25ull,
    125ull,
    625ull,
    3125ull,
    15625ull,
    78125ull,
    390625ull,
    1953125ull,
    9765625ull,
    48828125ull,
    244140625ull,
    1220703125ull,
    6103515625ull,
    30517578125ull,
    152587890625ull,
    762939453125ull,
    3814697265625ull,
    19073486328125ull,
    95367431640625ull,
    476837158203125ull,
    2384185791015625ull,
    11920928955078125ull,
    59604644775390625ull,
    298023223876953125ull,
    1490116119384765625ull,
    7450580596923828125ull,
};
static const double pow10_exact[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* x * 2^e for |e| < 1000. */
static inline double scale_power(double x, int e) {
    uint64_t bits = (uint64_t)(1023 + e) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return x * power;
}

/* m * 2^e rounded once to the nearest double, ties to even; `more` says that the true value lies above m. For
 * normal results only. */
static double round_bits(uint64_t m, int e, bool more) {
    int shift = 64 - 53 - __builtin_clzll(m);
    if (shift <= 0) return scale_power((double)m, e); /* callers with `more` set have all 64 bits */
    uint64_t half = 1ull << (shift - 1), rest = m & ((1ull << shift) - 1);
    m >>= shift;
    if (rest > half || (rest == half && (more || (m & 1)))) m++;
    return scale_power((double)m, e + shift);
}

/* m * 10^e exactly rounded, m > 0 and |e| <= 27 (5^27 fits 64 bits, so that integer arithmetic has no error
 * at all). Python prints doubles with up to 17 digits: this is the path of embeddings. */
static double scale_decimal(uint64_t m, int e) {
    if (m < 1ull << 53 && e >= -22 && e <= 22)
        return e < 0 ? (double)m / pow10_exact[-e] : (double)m * pow10_exact[e];
    if (e >= 0) {
        __uint128_t v = (__uint128_t)m * pow5[e];
        uint64_t hi = (uint64_t)(v >> 64);
        if (!hi) return round_bits((uint64_t)v, e, false);
        int n = __builtin_clzll(hi);
        __uint128_t top = v << n;
        return round_bits((uint64_t)(top >> 64), e + 64 - n, (uint64_t)top != 0);
    }
    uint64_t d = pow5[-e];
    int zm = __builtin_clzll(m), zd = __builtin_clzll(d);
    m <<= zm;
    d <<= zd;
    /* Both have their top bit: the quotient of m * 2^63 and d has 63 or 64 bits. */
    __uint128_t n = (__uint128_t)m << 63;
    uint64_t q = (uint64_t)(n / d);
    bool more = n % d != 0;
    int exp2 = e - 63 - zm + zd;
    if (!(q >> 63)) {
        /* One more bit, so that 64 are exact: the remainder is below d, hence twice it gives that bit. */
        uint64_t r = (uint64_t)(n % d);
        bool bit = r >= d - r;
        q = q << 1 | bit;
        more = bit ? r != d - r : r != 0;
        exp2--;
    }
    return round_bits(q, exp2, more);
}

static int parse_slow_double(struct parser *ps, const char *from, const char *to, double *ret) {
    size_t len = (size_t)(to - from);
    char stack[128], *copy = len < sizeof stack ? stack : xmalloc(len + 1);
    memcpy(copy, from, len);
    copy[len] = 0;
    double d = strtod_l(copy, NULL, c_locale);
    if (copy != stack) free(copy);
    if (!isfinite(d)) return fail(ps, from, "a number is too large for a double");
    *ret = d;
    return 0;
}

struct decimal {
    uint64_t m; /* the first 19 significant digits */
    int digits; /* significant digits seen, capped */
    int exp10;
};

static inline bool is_digit(char c) {
    return (uint8_t)(c - '0') < 10;
}

static inline const char *take_digits(const char *p, const char *end, struct decimal *d) {
    for (; p < end && is_digit(*p); p++) {
        if (d->digits < 19) {
            d->m = d->m * 10 + (uint64_t)(*p - '0');
            d->digits += d->m != 0;
        } else
            d->digits = 20;
    }
    return p;
}

/* The fraction and the exponent, if there are any. */
static int parse_scale(struct parser *ps, struct decimal *d) {
    const char *p = ps->p, *end = ps->end;
    if (p < end && *p == '.') {
        const char *from = ++p;
        p = take_digits(p, end, d);
        ps->p = p;
        if (p == from) return fail_expected(ps, "a digit after the decimal point");
        d->exp10 = p - from < 10000 ? -(int)(p - from) : -10000;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        bool negative = p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+')) p++;
        const char *from = p;
        int e = 0;
        for (; p < end && is_digit(*p); p++)
            if (e < 100000) e = e * 10 + (*p - '0');
        ps->p = p;
        if (p == from) return fail_expected(ps, "a digit of the exponent");
        d->exp10 += negative ? -e : e;
    }
    ps->p = p;
    return 0;
}

static int parse_number(struct parser *ps, struct jval *v) {
    const char *from = ps->p;
    bool negative = *ps->p == '-';
    ps->p += negative;
    if (ps->p >= ps->end || !is_digit(*ps->p)) return fail_expected(ps, "a digit");
    struct decimal d = {0};
    if (*ps->p == '0')
        ps->p++;
    else
        ps->p = take_digits(ps->p, ps->end, &d);
    if (ps->p < ps->end && is_digit(*ps->p)) return fail(ps, from, "a number has a leading zero");
    v->type = JVAL_NUMBER;
    bool plain = ps->p >= ps->end || (*ps->p != '.' && *ps->p != 'e' && *ps->p != 'E');
    if (plain && d.digits <= 19 && d.m <= (uint64_t)INT64_MAX + negative) {
        v->is_int = true;
        v->i64 = negative ? (int64_t)(0 - d.m) : (int64_t)d.m;
        return 0;
    }
    if (!plain) {
        int r = parse_scale(ps, &d);
        if (r) return r;
    }
    if (d.m == 0)
        v->f64 = 0;
    else if (d.digits <= 19 && d.exp10 >= -27 && d.exp10 <= 27)
        v->f64 = scale_decimal(d.m, d.exp10);
    else
        return parse_slow_double(ps, from, ps->p, &v->f64);
    if (negative) v->f64 = -v->f64;
    return 0;
}

/* ---- duplicate keys ---- */

static inline bool same_key(const struct jval *m, const char *key, size_t len) {
    return m->key_len == len && !memcmp(m->key, key, len);
}

static inline uint64_t filter_bit(const char *key, uint32_t len) {
    uint32_t h = len * 31;
    if (len)
        h += (uint32_t)(uint8_t)key[0] * 7 + (uint32_t)(uint8_t)key[len - 1] * 13 + (uint8_t)key[len / 2];
    return 1ull << (h & 63);
}

static struct jval **table_slot(struct frame *f, const char *key, size_t len) {
    uint32_t i = (uint32_t)hash64(key, len, hash_seed) & (f->table_size - 1);
    while (f->table[i] && !same_key(f->table[i], key, len)) i = (i + 1) & (f->table_size - 1);
    return &f->table[i];
}

/* Makes the table at least four times as large as the number of members. Old tables stay in the arena: all
 * together they are smaller than the last. */
static void table_grow(struct parser *ps, struct frame *f) {
    f->table_size = f->table_size ? f->table_size * 4 : SMALL_OBJECT * 4;
    f->table = arena_zalloc(ps->arena, f->table_size * sizeof *f->table);
    for (struct jval *m = f->v->first; m; m = m->next) *table_slot(f, m->key, m->key_len) = m;
}

/* Whether the key is among the members so far. */
static bool is_duplicate(struct parser *ps, struct frame *f, const char *key, uint32_t len) {
    if (f->v->count < SMALL_OBJECT) {
        uint64_t bit = filter_bit(key, len);
        if (f->seen & bit)
            for (struct jval *m = f->v->first; m; m = m->next)
                if (same_key(m, key, len)) return true;
        f->seen |= bit;
        return false;
    }
    if (f->v->count * 2 >= f->table_size) table_grow(ps, f);
    return *table_slot(f, key, len) != NULL;
}

/* ---- the machine ---- */

static int parse_key(struct parser *ps) {
    struct frame *f = &ps->stack[ps->depth - 1];
    skip_space(ps);
    if (ps->p >= ps->end || *ps->p != '"') return fail_expected(ps, f->v->count ? "a key" : "a key or '}'");
    const char *at = ps->p;
    int r = parse_string(ps, &ps->key, &ps->key_len);
    if (r) return r;
    if (is_duplicate(ps, f, ps->key, ps->key_len)) {
        uint32_t shown = MIN(ps->key_len, 64u);
        while (shown && shown < ps->key_len && (ps->key[shown] & 0xc0) == 0x80) shown--;
        return fail(ps, at, "key \"%.*s\" stands twice in an object", (int)shown, ps->key);
    }
    skip_space(ps);
    if (ps->p >= ps->end || *ps->p != ':') return fail_expected(ps, "':'");
    ps->p++;
    return 0;
}

static int parse_word(struct parser *ps, struct jval *v, const char *word, size_t len, enum jval_type type) {
    if ((size_t)(ps->end - ps->p) < len || memcmp(ps->p, word, len)) return fail_expected(ps, "a value");
    ps->p += len;
    v->type = (uint8_t)type;
    return 0;
}

/* Makes the value that starts at ps->p a child of the open container, if there is one. */
static inline struct jval *add_value(struct parser *ps) {
    struct jval *v = arena_alloc(ps->arena, sizeof *v);
    *v = (struct jval){.raw = ps->p};
    if (!ps->depth) return v;
    struct frame *f = &ps->stack[ps->depth - 1];
    if (f->v->type == JVAL_OBJECT) {
        v->key = ps->key;
        v->key_len = ps->key_len;
        if (f->table) *table_slot(f, v->key, v->key_len) = v;
    }
    *f->tail = v;
    f->tail = &v->next;
    f->v->count++;
    return v;
}

static int open_container(struct parser *ps, struct jval *v) {
    if (ps->depth >= JVAL_MAX_DEPTH) return fail(ps, ps->p, "nesting is deeper than %d", JVAL_MAX_DEPTH);
    v->type = *ps->p++ == '{' ? JVAL_OBJECT : JVAL_ARRAY;
    ps->stack[ps->depth++] = (struct frame){.v = v, .tail = &v->first};
    return 0;
}

/* A scalar, or the opening of a container. */
static int parse_value(struct parser *ps, struct jval **ret) {
    skip_space(ps);
    if (ps->p >= ps->end) return fail_expected(ps, "a value");
    struct jval *v = *ret = add_value(ps);
    int r;
    switch (*ps->p) {
    case '"':
        v->type = JVAL_STRING;
        r = parse_string(ps, &v->str, &v->count);
        break;
    case '{':
    case '[':
        return open_container(ps, v);
    case 't':
        r = parse_word(ps, v, "true", 4, JVAL_TRUE);
        break;
    case 'f':
        r = parse_word(ps, v, "false", 5, JVAL_FALSE);
        break;
    case 'n':
        r = parse_word(ps, v, "null", 4, JVAL_NULL);
        break;
    case '-':
    case '0' ... '9':
        r = parse_number(ps, v);
        break;
    default:
        return fail_expected(ps, "a value");
    }
    v->raw_len = (uint32_t)(ps->p - v->raw);
    return r;
}

/* After a value, or after an opening bracket (`opened`): closes containers that end here and stops where the
 * next value starts. *ret_more is false when the outermost value is complete. */
static int step(struct parser *ps, bool opened, bool *ret_more) {
    while (ps->depth) {
        struct frame *f = &ps->stack[ps->depth - 1];
        bool object = f->v->type == JVAL_OBJECT;
        skip_space(ps);
        char c = ps->p < ps->end ? *ps->p : 0;
        if (c == (object ? '}' : ']')) {
            ps->p++;
            f->v->raw_len = (uint32_t)(ps->p - f->v->raw);
            ps->depth--;
            opened = false;
            continue;
        }
        if (!opened && c != ',') return fail_expected(ps, object ? "',' or '}'" : "',' or ']'");
        ps->p += !opened;
        *ret_more = true;
        return object ? parse_key(ps) : 0;
    }
    *ret_more = false;
    return 0;
}

int jval_parse(struct arena *arena, const char *text, size_t len, struct jval **ret, struct err *err) {
    if (len > UINT32_MAX) return err_set(err, ERR_TOO_LARGE, "a JSON text of %zu bytes is too large", len);
    pthread_once(&once, init_once);
    struct parser ps;
    ps.start = ps.p = text;
    ps.end = text + len;
    ps.arena = arena;
    ps.err = err;
    ps.depth = 0;
    struct jval *root = NULL, *v = NULL;
    bool more = true;
    while (more) {
        unsigned depth = ps.depth;
        int r = parse_value(&ps, &v);
        if (r) return r;
        if (!root) root = v;
        r = step(&ps, ps.depth > depth, &more);
        if (r) return r;
    }
    skip_space(&ps);
    if (ps.p < ps.end) return fail_expected(&ps, "the end of the text");
    *ret = root;
    return 0;
}

struct jval *jval_get(const struct jval *object, const char *key, size_t key_len) {
    if (object->type != JVAL_OBJECT) return NULL;
    for (struct jval *m = object->first; m; m = m->next)
        if (same_key(m, key, key_len)) return m;
    return NULL;
}

double jval_number(const struct jval *v) {
    return v->is_int ? (double)v->i64 : v->f64;
}
