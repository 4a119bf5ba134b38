/* Schema inference: what fields a batch of documents carries beyond the schema. The table is in
 * docs/FILESYSTEM.md. */
#include "index/schema_internal.h"
#include "util/clock.h"
#include "util/codec.h"

enum { TOKEN_MAX_BYTES = 64, VECTOR_MIN = 8, CANDIDATES_MAX = 4 * SCHEMA_MAX_FIELDS };

/* The kinds of value seen at one path. */
enum seen {
    SEEN_TIME = 1,
    SEEN_TOKEN = 2,
    SEEN_TEXT = 4,
    SEEN_NUMBER = 8,
    SEEN_BOOLEAN = 16,
    SEEN_OBJECT = 32,
    SEEN_VECTOR = 64, /* number arrays that may be vectors: `length` */
    SEEN_UNFIT = 128, /* something no index type takes */
};

struct candidate {
    char *path;
    uint32_t path_len;
    uint32_t parent;   /* candidate number + 1; 0 = the document itself or an object of the schema */
    uint32_t last_doc; /* + 1: where the last vector was seen */
    uint32_t length;   /* of the vectors */
    unsigned seen;
    enum field_type type; /* once resolved; 0 = not indexed */
};

struct inference {
    const struct schema *schema;
    struct candidate *all;
    uint32_t n, cap;
    uint32_t *table; /* open addressing: candidate number + 1; made on first need */
    uint32_t doc_no;
    char path[SCHEMA_MAX_PATH + 1];
};
enum { TABLE_SIZE = 16384 }; /* a power of two, well above CANDIDATES_MAX */

static uint32_t candidate_of(struct inference *in, size_t len, uint32_t parent) {
    if (!in->table) in->table = xcalloc(TABLE_SIZE, sizeof *in->table);
    uint32_t at = (uint32_t)hash64(in->path, len, 0) & (TABLE_SIZE - 1);
    for (; in->table[at]; at = (at + 1) & (TABLE_SIZE - 1)) {
        const struct candidate *c = &in->all[in->table[at] - 1];
        if (c->path_len == len && !memcmp(c->path, in->path, len)) return in->table[at];
    }
    if (in->n >= CANDIDATES_MAX) return 0;
    VEC_GROW(in->all, in->n, in->cap);
    in->all[in->n++] =
        (struct candidate){.path = xstrndup(in->path, len), .path_len = (uint32_t)len, .parent = parent};
    return in->table[at] = in->n;
}

/* ---- kinds of value ---- */

/* RFC 3339 date-time: a date, T, a time with colons, a zone. (time_parse takes more than that.) */
static bool is_datetime(const char *s, size_t len) {
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    int64_t ms;
    if (len < 20) return false;
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        bool digit = s[i] >= '0' && s[i] <= '9';
        bool ok = shape[i] == 'd' ? digit : s[i] == shape[i] || (shape[i] == 'T' && s[i] == 't');
        if (!ok) return false;
    }
    size_t i = 19;
    if (s[i] == '.') {
        for (i++; i < len && s[i] >= '0' && s[i] <= '9'; i++) {
        }
        if (i == 20) return false;
    }
    bool zulu = i + 1 == len && (s[i] == 'Z' || s[i] == 'z');
    bool offset = i + 6 == len && (s[i] == '+' || s[i] == '-') && s[i + 3] == ':';
    return (zulu || offset) && !time_parse(s, len, &ms);
}

/* 1..64 bytes without white space or control characters (Unicode's: separators, NEL, zero-width no-break
 * space). */
static bool is_token(const char *s, size_t len) {
    if (!len || len > TOKEN_MAX_BYTES) return false;
    for (size_t i = 0; i < len; i++) {
        const uint8_t *p = (const uint8_t *)s + i;
        if (p[0] <= 0x20 || p[0] == 0x7f) return false;
        if (p[0] == 0xc2 && (p[1] <= 0xa0)) return false;               /* U+0080..U+00A0 */
        if (p[0] == 0xe1 && p[1] == 0x9a && p[2] == 0x80) return false; /* U+1680 */
        if (p[0] == 0xe2 && p[1] == 0x80 && (p[2] <= 0x8a || p[2] == 0xa8 || p[2] == 0xa9 || p[2] == 0xaf))
            return false;                                               /* U+2000.., 2028, 2029, 202F */
        if (p[0] == 0xe2 && p[1] == 0x81 && p[2] == 0x9f) return false; /* U+205F */
        if (p[0] == 0xe3 && p[1] == 0x80 && p[2] == 0x80) return false; /* U+3000 */
    }
    return true;
}

static unsigned string_kind(const struct jval *v) {
    if (!v->count) return 0;
    if (is_datetime(v->str, v->count)) return SEEN_TIME;
    return is_token(v->str, v->count) ? SEEN_TOKEN : SEEN_TEXT;
}

static bool is_number_array(const struct jval *v) {
    for (const struct jval *e = v->first; e; e = e->next)
        if (e->type != JVAL_NUMBER) return false;
    return v->count >= VECTOR_MIN;
}

static void see_vector(struct inference *in, struct candidate *c, const struct jval *v) {
    bool again = c->last_doc == in->doc_no + 1;
    if (v->count > SCHEMA_MAX_DIMENSIONS || again) c->seen |= SEEN_UNFIT;
    if (c->seen & SEEN_VECTOR && c->length != v->count) c->seen |= SEEN_NUMBER; /* unequal: numbers */
    c->seen |= SEEN_VECTOR;
    c->length = v->count;
    c->last_doc = in->doc_no + 1;
}

static void see_members(struct inference *in, const struct jval *object, size_t base, uint32_t parent,
                        unsigned depth);

static void see_value(struct inference *in, uint32_t no, const struct jval *v, size_t path_len,
                      unsigned depth) {
    struct candidate *c = &in->all[no - 1];
    switch (v->type) {
    case JVAL_NULL:
        break;
    case JVAL_FALSE:
    case JVAL_TRUE:
        c->seen |= SEEN_BOOLEAN;
        break;
    case JVAL_NUMBER:
        c->seen |= SEEN_NUMBER;
        break;
    case JVAL_STRING:
        c->seen |= string_kind(v);
        break;
    case JVAL_ARRAY:
        if (is_number_array(v)) {
            see_vector(in, c, v);
            break;
        }
        for (const struct jval *e = v->first; e; e = e->next) see_value(in, no, e, path_len, depth);
        break;
    case JVAL_OBJECT:
        if (!v->count) break;
        c->seen |= SEEN_OBJECT;
        if (depth >= SCHEMA_MAX_DEPTH || path_len >= SCHEMA_MAX_PATH) break;
        in->path[path_len] = '.';
        see_members(in, v, path_len + 1, no, depth + 1);
    }
}

/* Goes on inside objects (and arrays of objects) that the schema already has. */
static void see_known(struct inference *in, const struct jval *v, size_t path_len, unsigned depth) {
    if (v->type == JVAL_ARRAY)
        for (const struct jval *e = v->first; e; e = e->next) see_known(in, e, path_len, depth);
    if (v->type != JVAL_OBJECT || depth >= SCHEMA_MAX_DEPTH || path_len >= SCHEMA_MAX_PATH) return;
    in->path[path_len] = '.';
    see_members(in, v, path_len + 1, 0, depth + 1);
}

static void see_members(struct inference *in, const struct jval *object, size_t base, uint32_t parent,
                        unsigned depth) {
    for (const struct jval *m = object->first; m; m = m->next) {
        size_t len = base + m->key_len;
        bool odd = !m->key_len || memchr(m->key, '.', m->key_len) || memchr(m->key, '\0', m->key_len);
        if (odd || len > SCHEMA_MAX_PATH) continue;
        memcpy(in->path + base, m->key, m->key_len);
        const struct field *known = schema_find(in->schema, in->path, len);
        if (known && known->type == FIELD_OBJECT) see_known(in, m, len, depth);
        if (known) continue;
        uint32_t no = candidate_of(in, len, parent);
        if (no) see_value(in, no, m, len, depth);
    }
}

/* ---- decision ---- */

static enum field_type resolve(const struct candidate *c) {
    const unsigned strings = SEEN_TIME | SEEN_TOKEN | SEEN_TEXT;
    if (c->seen == SEEN_TIME) return FIELD_DATETIME;
    if (c->seen && !(c->seen & ~strings)) return c->seen & SEEN_TEXT ? FIELD_TEXT : FIELD_KEYWORD;
    switch (c->seen) {
    case SEEN_NUMBER:
    case SEEN_NUMBER | SEEN_VECTOR:
        return FIELD_DOUBLE;
    case SEEN_BOOLEAN:
        return FIELD_BOOLEAN;
    case SEEN_OBJECT:
        return FIELD_OBJECT;
    case SEEN_VECTOR:
        return FIELD_VECTOR;
    default:
        return 0;
    }
}

/* Parents come before their members, so one pass in order of discovery is enough. */
static bool add_fields(struct inference *in, struct schema_builder *b) {
    bool any = false;
    for (uint32_t i = 0; i < in->n && b->schema->n_fields < SCHEMA_MAX_FIELDS; i++) {
        struct candidate *c = &in->all[i];
        if (c->parent && in->all[c->parent - 1].type != FIELD_OBJECT) continue;
        enum field_type type = resolve(c);
        if (!type) continue;
        struct field *f = schema_builder_add(b, c->path, c->path_len, type);
        f->inferred = true;
        if (type == FIELD_VECTOR) f->dimensions = c->length;
        c->type = type;
        any = true;
    }
    return any;
}

int schema_infer(struct schema *old, const struct jval *const *docs, size_t n_docs, struct schema **ret,
                 struct err *err) {
    struct inference in = {.schema = old};
    struct schema_builder b;
    *ret = NULL;
    if (!old->dynamic || old->n_fields >= SCHEMA_MAX_FIELDS) return 0;
    for (size_t i = 0; i < n_docs; i++) {
        in.doc_no = (uint32_t)i;
        if (docs[i]->type == JVAL_OBJECT) see_members(&in, docs[i], 0, 0, 1);
    }
    if (!in.n) return 0;
    schema_builder_init(&b, old);
    if (add_fields(&in, &b)) {
        b.schema->version = old->version + 1;
        *ret = schema_builder_finish(&b);
    } else {
        schema_unref(b.schema);
    }
    for (uint32_t i = 0; i < in.n; i++) free(in.all[i].path);
    free(in.all);
    free(in.table);
    return 0;
}
