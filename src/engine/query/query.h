/* Queries: from text or JSON to a checked tree, and the tree's evaluation over segments.
 *
 * Three steps: (1) parse: lucene syntax (lucene.c) or the API's JSON objects (json_query.c) to a syntax tree
 * of unresolved clauses; (2) check against a schema: fields, types and analyzers are resolved, text is
 * analysed to terms, values become int64, each scored term gets a statistics slot; the result is struct
 * query, immutable, plain data in one arena; (3) evaluate: collect statistics over all parts, sum them,
 * search each part with the sums (search.h). Two indexed copies of the same data in any division into
 * segments give bit-equal scores: statistics are sums of integers over live documents, a document's score
 * depends on nothing else and is summed in clause order in double.
 */
#pragma once
#include "index/partition.h"

enum query_kind {
    QUERY_NONE,   /* matches nothing */
    QUERY_ALL,    /* every live document, score 1 */
    QUERY_TERM,   /* text or keyword; BM25 (keyword: freq 1, no length norm: Lucene's norms-omitted BM25) */
    QUERY_PHRASE, /* text, n_terms >= 2, slop */
    QUERY_BOOL,
    QUERY_RANGE, /* numeric/datetime/boolean: [lo, hi] inclusive int64 after adjustment; constant score */
    QUERY_TERM_RANGE, /* keyword/text terms between bytes; constant score */
    QUERY_PREFIX,     /* constant score */
    QUERY_WILDCARD,   /* constant score */
    QUERY_REGEX,      /* constant score */
    QUERY_FUZZY,      /* text, keyword: the best 50 terms within some edits (query/fuzzy.h) */
    QUERY_EXISTS,     /* constant score */
    QUERY_KNN,        /* k nearest by a vector field; optional filter */
    QUERY_SPARSE,     /* dot product of a sparse vector's token weights; matches what shares a token */
    QUERY_DOCS,       /* given documents by id (used by near=, filters) constant score */
    QUERY_FUSE,       /* root only: two SHOULD clauses that are searched apart and fused (query/fuse.h) */
};
enum fusion { FUSE_NONE, FUSE_RRF, FUSE_MM, FUSE_L2 };
enum occur { OCCUR_SHOULD, OCCUR_MUST, OCCUR_MUST_NOT, OCCUR_FILTER };

struct query_term {
    const char *text;
    uint32_t len;
    uint32_t position; /* PHRASE: relative position */
    uint32_t slot;     /* into the statistics array */
};
struct query_clause {
    enum occur occur;
    struct query_node *node;
};
struct query_node {
    enum query_kind kind;
    float boost;       /* product of the boosts from the root down is applied at evaluation; default 1 */
    const char *field; /* resolved path, NUL-terminated; NULL for ALL, NONE, BOOL, DOCS */
    enum field_type type;
    enum analyzer analyzer; /* TEXT */
    uint32_t field_slot;    /* TEXT, KEYWORD terms: into the field statistics array */
    uint32_t n_terms;
    struct query_term
        *terms; /* TERM: 1; PHRASE: n; PREFIX, WILDCARD (pattern with * ? and \ escapes), REGEX: 1 */
    uint32_t slop;
    uint32_t n_clauses;
    struct query_clause *clauses;
    uint32_t min_should_match;
    int64_t lo, hi;                /* RANGE */
    const char *lo_text, *hi_text; /* TERM_RANGE; NULL = open */
    uint32_t lo_len, hi_len;
    bool lo_inclusive, hi_inclusive;
    uint32_t dimensions, k; /* KNN */
    const float *vector;
    float recall; /* KNN: the share of the k nearest to find, KNN_MIN_RECALL..1; 1: all of them, by exact scan
                   */
    enum similarity similarity;
    struct query_node *filter;  /* KNN, may be NULL */
    const float *token_weights; /* SPARSE: of the terms, which are in byte order and have no slots */
    uint32_t edits, fuzzy_no;   /* FUZZY: at most so many; its place in query.fuzzy */
    const struct regex *regex;  /* REGEX: the compiled expression */
    enum fusion fusion;         /* FUSE */
    double weights[2];          /* FUSE: of the clauses */
};

enum {
    QUERY_MAX_CLAUSES = 4096,
    QUERY_MAX_DEPTH = 100,
    QUERY_MAX_SIZE = 10000,
    FUSE_WINDOW = 100, /* hits of a hybrid's side, at least, unless the request says how many */
    SORT_MAX_KEYS = 8,
    FACET_MAX_FIELDS = 16
};

#define KNN_MIN_RECALL     0.5f
#define KNN_DEFAULT_RECALL 0.99f

struct sort_key {
    const char *field; /* "_score" and "_id" are known */
    enum field_type type;
    bool descending;
};
struct facet_field { /* keyword, long, double, boolean or datetime */
    const char *field;
    enum field_type type;
};
struct query { /* immutable after check; owns its arena */
    struct arena arena;
    struct query_node *root;
    uint32_t n_term_slots, n_field_slots;
    struct {
        const char *field;
        enum field_type type;
        enum analyzer analyzer;
    } * field_slots;
    struct {
        uint32_t field_slot;
        const char *text;
        uint32_t len;
    } * term_slots; /* distinct (field, analyzer, text) */
    uint32_t n_fuzzy;
    const struct query_node **fuzzy; /* the FUZZY nodes, filters included */
    bool partitioned; /* only documents of these partitions can match; statistics stay those of the collection
                       */
    struct partition_set partitions;
    uint32_t window; /* FUSE: how many hits of a side are fused, at most */
    bool needs_scores;
    bool ids_only; /* the answer needs no documents */
    uint32_t n_sort;
    struct sort_key
        sort[SORT_MAX_KEYS]; /* none: by score descending; the tie break by id ascending is implied */
    uint32_t n_facets;
    struct facet_field facets[FACET_MAX_FIELDS]; /* counted over all matches */
};
void query_free(struct query *);

/* What a reader asks for; the same for SPECs of the mount, `ldbfs query`, JSON bodies. Strings are owned. */
enum answer_format {
    FORMAT_JSONL,
    FORMAT_JSON,
    FORMAT_IDS,
    FORMAT_TSV,
    FORMAT_CSV,
    FORMAT_TABLE,
    FORMAT_COUNT
};
struct query_request {
    char *text;              /* a query string; NULL if json is set */
    char *json;              /* the API's "query" object as JSON text */
    char *default_field;     /* NULL: all text fields */
    uint32_t size, from;     /* default 10, 0 */
    char *sort;              /* "year:desc,title" or NULL */
    char *include, *exclude; /* comma-separated dotted paths or NULL */
    bool consistent;         /* default true */
    bool include_vectors;
    enum answer_format format;
    char *near_id,
        *near_field; /* kNN by a stored document's vector; text (if not empty or *:*) is its filter */
    const float *near_vector; /* borrowed, NULL: look near_id's up; else this one takes its place, so that a
                               * caller in this process need not write it as text */
    uint32_t near_dimensions; /* of near_vector */
    char *near_text;          /* as near_id, by the vector of a text on a managed field; not both */
    uint32_t timeout_ms;      /* default 30,000 */
    enum fusion fuse;    /* near: how its hits and the text's are combined; FUSE_NONE: the text is a filter */
    uint32_t window;     /* hybrids: how many hits of a side are fused; 0: max(100, size) */
    bool only_filter;    /* the query selects documents (delete): no kNN search, no fusion */
    char *facets;        /* comma-separated fields or NULL */
    uint32_t facet_size; /* values shown of each; default 10 */
    char *partitions;    /* values whose partitions are searched, a list as `sort`; NULL: all */
    char *partition_field; /* as the request names it; NULL: not said */
    float recall;          /* near, like: as `recall` of a kNN node; 0: not said */
    bool explain;          /* each hit says where its score is from */
};
void query_request_init(struct query_request *);
void query_request_release(struct query_request *);
/* A SPEC of the mount: "text?opt=value&opt=value". Options start at the last '?' followed by [a-z]+=; %XX is
 * decoded once after that split. Unknown option or bad value: ERR_INVALID with its column. A SPEC that begins
 * with '{' is a JSON request. */
int query_request_parse_spec(const char *spec, size_t len, struct query_request *ret, struct err *);
/* The API's body: {"query": {...} or "string", "size", "from", "sort": [{"f":"asc"}], "fields": {"include":
 * [..], "exclude": [..]} or [..], "consistentRead", "includeVectors", "format", "timeout"}; a text that is
 * not JSON at all is a SPEC with or without white space around it. */
int query_request_parse_json(const char *text, size_t len, struct query_request *ret, struct err *);

/* Steps 1 and 2. vector/dim: the resolved vector of near_id or near_text (NULL otherwise). Errors:
 * ERR_INVALID with column and what was expected (for JSON: the path of the object), ERR_DIMENSION. */
int query_compile(const struct query_request *, const struct schema *, const float *near_vector,
                  uint32_t near_dim, struct query **ret, struct err *);
/* The vector field that near_id (near_text: managed) speaks of: near_field, or the only one there is.
 * ERR_INVALID otherwise. */
int query_near_field(const struct query_request *, const struct schema *, const struct field **ret,
                     struct err *);
/* A filter in query-string syntax alone (delete by filter, knn filter). */
int query_compile_text(const char *text, size_t len, const struct schema *, struct query **ret, struct err *);
/* The tree in Lucene's explain-like text, for tests: "+title:whale -(text:a text:b)". */
void query_print(const struct query_node *, struct buf *out);
