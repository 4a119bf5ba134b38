/* Inside the query compiler: the syntax tree between the parser and the check, and the compiler's state. */
#pragma once
#include "query/query.h"
#include "index/analyzer.h"
#include "util/clock.h"
#include "util/codec.h"
#include <jansson.h>

enum {
    QUERY_MAX_TEXT = 1 << 20,    /* bytes of one query string */
    REQUEST_MAX_WINDOW = 100000, /* from + size */
    REQUEST_MAX_TIMEOUT_MS = 600000,
};
#define QUERY_MAX_BOOST 1e18 /* along one path; keeps every score finite in float32 */

/* ---- syntax tree (lucene.c) ---- */

enum syntax_kind {
    SYNTAX_BOOL,
    SYNTAX_WORD,     /* text: unescaped */
    SYNTAX_QUOTED,   /* text: unescaped; slop */
    SYNTAX_WILDCARD, /* text: pattern with \ before a literal * ? \ */
    SYNTAX_FUZZY,
    SYNTAX_REGEX,
    SYNTAX_RANGE,
    SYNTAX_ALL,    /* *:* */
    SYNTAX_EXISTS, /* field:* and _exists_:field */
};
struct syntax_clause {
    enum occur occur;
    struct syntax *node;
};
struct syntax_text {
    const char *s;
    uint32_t len;
};
struct syntax {
    enum syntax_kind kind;
    uint32_t offset; /* where it begins in the source, bytes */
    double boost;
    struct syntax_text field; /* s NULL: the default */
    struct syntax_text text;
    uint32_t slop;
    float similarity; /* FUZZY: the number after "~", as in Lucene */
    struct syntax_clause *clauses;
    uint32_t n_clauses, cap_clauses;
    uint32_t min_should_match;
    struct syntax_text lo, hi; /* RANGE; s NULL: open */
    bool lo_inclusive, hi_inclusive;
};

/* Parses a query string. depth: of what it stands in. Everything lives in the arena or borrows `text`. */
int lucene_parse(struct arena *, const char *text, size_t len, unsigned depth, struct syntax **ret,
                 struct err *);
/* 1-based column in characters of a byte offset. */
uint32_t lucene_column(const char *text, size_t offset);

/* For messages: printf("%.*s", SHOWN(string)). */
#define SHOWN(s) err_shown((s), strlen(s)), (s)

/* ---- compiler (compile.c, leaf.c, json_query.c) ---- */

enum { TERM_BUCKETS = 128 };
struct compiler {
    struct query *query; /* its arena owns all nodes */
    const struct schema *schema;
    const struct query_request *request; /* NULL for a filter text */
    struct syntax_text default_field;    /* s NULL: all text fields */
    const char *source;                  /* the query string being compiled, for columns; NULL: none */
    uint32_t offset;                     /* of the clause being compiled */
    uint32_t n_clauses;                  /* leaves so far */
    uint32_t buckets[TERM_BUCKETS];      /* term slots by hash */
    uint32_t *chain;
    uint32_t cap_terms, cap_fields, cap_fuzzy;
    uint64_t regex_work;      /* what is left for expressions */
    bool in_knn;              /* inside a kNN filter */
    bool in_filter;           /* the query only selects documents */
    struct buf scratch, path; /* path: of the JSON object being compiled */
    struct err *err;
};

/* An ERR_INVALID at the clause being compiled. */
int compile_error(struct compiler *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct query_node *node_new(struct compiler *, enum query_kind);
/* Counts one leaf (or phrase term); an error above QUERY_MAX_CLAUSES. */
int compile_count(struct compiler *);
/* *ret NULL: the clause vanished (nothing but stop words). */
int compile_string(struct compiler *, const char *text, size_t len, bool skip_syntax, unsigned depth,
                   struct query_node **ret);
/* item: of a bool, where occur and boost may stand beside the query. c->path: where the object is. */
int compile_json(struct compiler *, json_t *query, bool item, unsigned depth, struct query_node **ret);
/* A BOOL from clauses whose node may be NULL (vanished); simplified. *ret NULL: nothing is left. */
struct query_node *bool_new(struct compiler *, const struct query_clause *, uint32_t n,
                            uint32_t min_should_match);
/* A kNN node; the vector is copied and checked. */
int compile_knn(struct compiler *, const struct field *, const float *vector, uint32_t dimensions, uint32_t k,
                struct query_node *filter, struct query_node **ret);
/* A sparseVector object; errors do not name its path. */
int compile_sparse(struct compiler *, json_t *object, struct query_node **ret);
/* One syntax leaf over the fields it addresses. */
int compile_leaf(struct compiler *, const struct syntax *, struct query_node **ret);
/* The field of a path; errors name what is there. */
int compile_field(struct compiler *, const char *path, size_t len, const struct field **ret);
/* Registers a term: fills slot and the node's field_slot. */
void compile_term(struct compiler *, struct query_node *, struct query_term *);

/* Registers a FUZZY node: its place in the query's list and its field's statistics. */
void compile_fuzzy(struct compiler *, struct query_node *);
/* A FUSE node from two sides, NULL where nothing is left; only as the root. */
struct query_node *fuse_new(struct compiler *, enum fusion, struct query_node *const sides[2],
                            const double weights[2]);

/* ---- values (value.c) ---- */

/* What a text means in a column's domain: the largest column value that is not above it and the smallest that
 * is not below it (equal when the column can hold it). Wider than int64 so that every bound can be written
 * exactly. */
struct value_bound {
    __int128 floor, ceil;
};
/* False: not a value of the type. */
bool value_parse(enum field_type, const char *text, size_t len, struct value_bound *ret);
const char *value_expected(enum field_type); /* "a number", for messages */

/* ---- lists of the request (request.c) ---- */

/* The next comma-separated item from *p (a backslash takes the next character literally): unescaped into out,
 * with `colon` set to the offset in out of the last unescaped ':' (SIZE_MAX if none) and, if map_dots, a
 * literal dot written as PATH_LITERAL_DOT. False at the end. */
enum { PATH_LITERAL_DOT = '\x01' };
bool list_next(const char **p, struct buf *out, size_t *colon, bool map_dots);
void list_add_escaped(struct buf *out, const char *item, size_t len);
