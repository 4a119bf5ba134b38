/* The check: syntax trees and JSON objects against a schema, giving the immutable query. */
#include "index/vector_score.h"
#include "query/fuse.h"
#include "query/query_internal.h"
#include "query/regex.h"
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

int compile_error(struct compiler *c, const char *fmt, ...) {
    char text[440];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!c->source) return err_set(c->err, ERR_INVALID, "%s", text);
    return err_at(c->err, ERR_INVALID, 1, lucene_column(c->source, c->offset), "%s", text);
}

struct query_node *node_new(struct compiler *c, enum query_kind kind) {
    struct query_node *n = arena_zalloc(&c->query->arena, sizeof *n);
    n->kind = kind;
    n->boost = 1;
    return n;
}

int compile_count(struct compiler *c) {
    if (++c->n_clauses <= QUERY_MAX_CLAUSES) return 0;
    return compile_error(c, "the query has more than %d clauses", QUERY_MAX_CLAUSES);
}

/* ---- statistics slots ---- */

static uint32_t field_slot(struct compiler *c, const struct query_node *n) {
    struct query *q = c->query;
    for (uint32_t i = 0; i < q->n_field_slots; i++)
        if (q->field_slots[i].type == n->type && q->field_slots[i].analyzer == n->analyzer &&
            !strcmp(q->field_slots[i].field, n->field))
            return i;
    VEC_GROW(q->field_slots, q->n_field_slots, c->cap_fields);
    q->field_slots[q->n_field_slots].field = n->field;
    q->field_slots[q->n_field_slots].type = n->type;
    q->field_slots[q->n_field_slots].analyzer = n->analyzer;
    return q->n_field_slots++;
}

void compile_term(struct compiler *c, struct query_node *n, struct query_term *t) {
    struct query *q = c->query;
    n->field_slot = field_slot(c, n);
    uint32_t *bucket = &c->buckets[(hash64(t->text, t->len, n->field_slot)) % TERM_BUCKETS];
    for (uint32_t i = *bucket; i; i = c->chain[i - 1]) {
        t->slot = i - 1;
        if (q->term_slots[t->slot].field_slot == n->field_slot && q->term_slots[t->slot].len == t->len &&
            !memcmp(q->term_slots[t->slot].text, t->text, t->len))
            return;
    }
    if (q->n_term_slots == c->cap_terms) {
        c->cap_terms = c->cap_terms ? c->cap_terms * 2 : 16;
        q->term_slots = xrealloc(q->term_slots, c->cap_terms * sizeof *q->term_slots);
        c->chain = xrealloc(c->chain, c->cap_terms * sizeof *c->chain);
    }
    t->slot = q->n_term_slots++;
    q->term_slots[t->slot].field_slot = n->field_slot;
    q->term_slots[t->slot].text = t->text;
    q->term_slots[t->slot].len = t->len;
    c->chain[t->slot] = *bucket;
    *bucket = t->slot + 1;
}

void compile_fuzzy(struct compiler *c, struct query_node *n) {
    struct query *q = c->query;
    n->field_slot = field_slot(c, n);
    n->fuzzy_no = q->n_fuzzy;
    VEC_GROW(q->fuzzy, q->n_fuzzy, c->cap_fuzzy);
    q->fuzzy[q->n_fuzzy++] = n;
}

/* ---- booleans ---- */

struct query_node *bool_new(struct compiler *c, const struct query_clause *clauses, uint32_t n,
                            uint32_t min_should_match) {
    struct query_clause *kept = arena_alloc(&c->query->arena, (n + 1) * sizeof *kept);
    uint32_t n_kept = 0, n_should = 0, n_not = 0;
    bool nothing = false;
    for (uint32_t i = 0; i < n; i++) {
        const struct query_clause *clause = &clauses[i];
        if (!clause->node) continue;
        if (clause->node->kind == QUERY_NONE) {
            if (clause->occur == OCCUR_MUST || clause->occur == OCCUR_FILTER) return clause->node;
            nothing = true;
            continue;
        }
        n_should += clause->occur == OCCUR_SHOULD;
        n_not += clause->occur == OCCUR_MUST_NOT;
        kept[n_kept++] = *clause;
    }
    if (!n_kept && !nothing) return NULL;
    if (n_kept == n_not || min_should_match > n_should) return node_new(c, QUERY_NONE);
    if (n_kept == 1 && kept->occur != OCCUR_FILTER) return kept->node;
    struct query_node *b = node_new(c, QUERY_BOOL);
    b->clauses = kept;
    b->n_clauses = n_kept;
    b->min_should_match = min_should_match;
    return b;
}

struct query_node *fuse_new(struct compiler *c, enum fusion fusion, struct query_node *const sides[2],
                            const double weights[2]) {
    struct query_node *n = node_new(c, QUERY_FUSE);
    n->fusion = fusion;
    n->n_clauses = 2;
    n->clauses = arena_alloc(&c->query->arena, 2 * sizeof *n->clauses);
    for (int i = 0; i < 2; i++) {
        n->clauses[i] = (struct query_clause){OCCUR_SHOULD, sides[i] ? sides[i] : node_new(c, QUERY_NONE)};
        n->weights[i] = weights[i];
    }
    return n;
}

static int compile_syntax(struct compiler *c, const struct syntax *s, struct query_node **ret) {
    int r = 0;
    c->offset = s->offset;
    if (s->kind == SYNTAX_BOOL) {
        struct query_clause *clauses = arena_alloc(&c->query->arena, s->n_clauses * sizeof *clauses);
        for (uint32_t i = 0; i < s->n_clauses && !r; i++) {
            clauses[i].occur = s->clauses[i].occur;
            r = compile_syntax(c, s->clauses[i].node, &clauses[i].node);
        }
        if (!r) *ret = bool_new(c, clauses, s->n_clauses, s->min_should_match);
    } else {
        r = compile_leaf(c, s, ret);
    }
    if (!r && *ret && (*ret)->kind != QUERY_NONE && s->boost != 1)
        (*ret)->boost = (float)MIN((*ret)->boost * s->boost, (double)FLT_MAX);
    return r;
}

static bool is_blank(const char *s, size_t len) {
    while (len && (s[len - 1] == ' ' || s[len - 1] == '\t' || s[len - 1] == '\r' || s[len - 1] == '\n'))
        len--;
    return !len;
}

static int check_text(const char *text, size_t len, struct err *err) {
    if (len > QUERY_MAX_TEXT)
        return err_set(err, ERR_TOO_LARGE, "the query string is longer than %d bytes", QUERY_MAX_TEXT);
    size_t bad = utf8_invalid(text, len);
    if (bad)
        return err_at(err, ERR_INVALID, 1, lucene_column(text, bad - 1),
                      "the query string is not valid UTF-8");
    return 0;
}

int compile_string(struct compiler *c, const char *text, size_t len, bool skip_syntax, unsigned depth,
                   struct query_node **ret) {
    struct arena arena = ARENA_INIT;
    struct syntax literal = {.kind = SYNTAX_WORD, .boost = 1, .text = {text, (uint32_t)len}}, *s = &literal;
    const char *was = c->source;
    int r = check_text(text, len, c->err);
    if (r) return r;
    if (!skip_syntax && is_blank(text, len))
        return err_at(c->err, ERR_INVALID, 1, 1, "the query is empty (*:* matches every document)");
    if (!skip_syntax) r = lucene_parse(&arena, text, len, depth, &s, c->err);
    c->source = text;
    if (!r) r = compile_syntax(c, s, ret);
    c->source = was;
    arena_release(&arena);
    return r;
}

/* ---- kNN ---- */

static int check_vector(struct compiler *c, const struct field *f, const float *v, uint32_t n) {
    if (n != f->dimensions)
        return err_set(c->err, ERR_DIMENSION,
                       "field \"%.*s\": the query vector has %u dimensions, expected %u", SHOWN(f->path), n,
                       f->dimensions);
    double sum = vector_squared_length(v, n);
    if (!isfinite((float)sum))
        return compile_error(c,
                             "field \"%.*s\": the query vector has a number that is not finite or too large",
                             SHOWN(f->path));
    if (f->similarity == SIMILARITY_COSINE && !((float)sum >= FLT_MIN))
        return compile_error(c, "field \"%.*s\": a query vector without length has no cosine",
                             SHOWN(f->path));
    return 0;
}

int compile_knn(struct compiler *c, const struct field *f, const float *vector, uint32_t dimensions,
                uint32_t k, struct query_node *filter, struct query_node **ret) {
    if (f->type != FIELD_VECTOR)
        return compile_error(c, "field \"%.*s\" is %s: expected a vector field", SHOWN(f->path),
                             field_type_name(f->type));
    int r = check_vector(c, f, vector, dimensions);
    if (!r) r = compile_count(c);
    if (r) return r;
    struct query_node *n = node_new(c, QUERY_KNN);
    float *copy = arena_alloc(&c->query->arena, dimensions * sizeof *copy);
    memcpy(copy, vector, dimensions * sizeof *copy);
    n->field = arena_strndup(&c->query->arena, f->path, f->path_len);
    n->type = FIELD_VECTOR;
    n->similarity = f->similarity;
    n->dimensions = dimensions;
    n->vector = copy;
    n->k = k;
    n->recall = c->request && c->request->recall > 0 ? c->request->recall : KNN_DEFAULT_RECALL;
    n->filter = filter;
    *ret = n;
    return 0;
}

int query_near_field(const struct query_request *request, const struct schema *schema,
                     const struct field **ret, struct err *err) {
    const struct field *found = NULL;
    const char *option = request->near_text ? "like" : "near";
    const char *kind = request->near_text ? "vector field with a managed embedding" : "vector field";
    if (request->near_field) {
        found = schema_find(schema, request->near_field, strlen(request->near_field));
        if (found && found->type == FIELD_VECTOR && (found->embedding || !request->near_text))
            return *ret = found, 0;
        return err_set(err, ERR_INVALID, "%s: \"%.*s\" is not a %s", option, SHOWN(request->near_field),
                       kind);
    }
    for (uint32_t i = 0; i < schema->n_fields; i++) {
        if (schema->fields[i].type != FIELD_VECTOR || (request->near_text && !schema->fields[i].embedding))
            continue;
        if (found)
            return err_set(err, ERR_INVALID,
                           "%s: there are several vector fields (\"%.*s\", \"%.*s\"): name one", option,
                           SHOWN(found->path), SHOWN(schema->fields[i].path));
        found = &schema->fields[i];
    }
    if (!found) return err_set(err, ERR_INVALID, "%s: the collection has no %s", option, kind);
    *ret = found;
    return 0;
}

/* ---- the request ---- */

static int compile_body(struct compiler *c, const struct query_request *request, struct query_node **ret) {
    json_error_t bad;
    if (!request->json) return compile_string(c, request->text, strlen(request->text), false, 0, ret);
    json_t *json = json_loads(request->json, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &bad);
    if (!json)
        return err_at(c->err, ERR_INVALID, bad.line > 0 ? (uint32_t)bad.line : 0,
                      bad.column > 0 ? (uint32_t)bad.column : 0, "the query is not valid JSON: %s", bad.text);
    buf_adds(&c->path, "query");
    int r = compile_json(c, json, false, 1, ret);
    json_decref(json);
    return r;
}

/* The text and the nearest documents as the two sides of a fusion. */
static int compile_near_fused(struct compiler *c, const struct field *near, const float *vector,
                              uint32_t dimensions, struct query_node **ret) {
    static const double weights[2] = {0.5, 0.5};
    const struct query_request *request = c->request;
    struct query_node *sides[2] = {NULL, NULL};
    int r = compile_body(c, request, &sides[0]);
    if (!r) r = compile_knn(c, near, vector, dimensions, c->query->window, NULL, &sides[1]);
    if (!r) *ret = fuse_new(c, request->fuse, sides, weights);
    return r;
}

static int compile_request(struct compiler *c, const float *near_vector, uint32_t near_dim,
                           struct query_node **ret) {
    const struct query_request *request = c->request;
    const struct field *near = NULL;
    bool text = request->json || (request->text && !is_blank(request->text, strlen(request->text)));
    bool by_vector = request->near_id || request->near_text;
    int r;
    *ret = NULL;
    if (request->fuse && (!by_vector || !text))
        return err_set(c->err, ERR_INVALID,
                       "fuse: expected a text, and near or like, whose hits it combines");
    if (!by_vector) {
        if (!text) return err_set(c->err, ERR_INVALID, "the query is empty (*:* matches every document)");
        return compile_body(c, request, ret);
    }
    if (request->size + request->from > QUERY_MAX_SIZE)
        return err_set(c->err, ERR_INVALID, "near: size and from together must be at most %d",
                       QUERY_MAX_SIZE);
    if ((r = query_near_field(request, c->schema, &near, c->err))) return r;
    if (!near_vector && request->near_text) return err_set(c->err, ERR_INVALID, "like: cannot be used here");
    if (!near_vector)
        return err_set(c->err, ERR_INVALID, "near: document \"%.*s\" has no vector in field \"%.*s\"",
                       SHOWN(request->near_id), SHOWN(near->path));
    struct query_node *filter = NULL;
    if (request->fuse) return compile_near_fused(c, near, near_vector, near_dim, ret);
    if (text) {
        c->in_knn = true;
        if ((r = compile_body(c, request, &filter))) return r;
        if (!filter) filter = node_new(c, QUERY_NONE);
        if (filter->kind == QUERY_ALL) filter = NULL;
    }
    return compile_knn(c, near, near_vector, near_dim, MAX(1u, request->size + request->from), filter, ret);
}

/* ---- sort ---- */

static int parse_sort_key(struct compiler *c, char *item, size_t colon, struct sort_key *key) {
    const char *direction = "";
    if (colon != SIZE_MAX) {
        item[colon] = '\0';
        direction = item + colon + 1;
    }
    bool desc = !strcmp(direction, "desc");
    if (*direction ? !desc && strcmp(direction, "asc") : colon != SIZE_MAX)
        return err_set(c->err, ERR_INVALID, "sort: expected asc or desc after \"%.*s:\"", SHOWN(item));
    *key = (struct sort_key){.descending = desc, .type = FIELD_KEYWORD};
    if (!strcmp(item, "_score")) {
        key->field = "_score";
        key->type = FIELD_DOUBLE;
        key->descending = desc || !*direction;
        return 0;
    }
    if (!strcmp(item, "_id") || !strcmp(item, "id")) return key->field = "_id", 0;
    const struct field *f;
    int r = compile_field(c, item, strlen(item), &f);
    if (r) return err_wrap(c->err, "sort");
    bool sortable = f->type >= FIELD_KEYWORD && f->type <= FIELD_DATETIME;
    if (!sortable)
        return err_set(c->err, ERR_INVALID,
                       "sort: field \"%.*s\" is %s: expected a keyword, number, boolean or datetime",
                       SHOWN(f->path), field_type_name(f->type));
    key->field = arena_strndup(&c->query->arena, f->path, f->path_len);
    key->type = f->type;
    return 0;
}

static int compile_sort(struct compiler *c, const char *sort) {
    struct buf item = BUF_INIT;
    size_t colon;
    int r = 0;
    while (!r && list_next(&sort, &item, &colon, false)) {
        if (c->query->n_sort == SORT_MAX_KEYS)
            r = err_set(c->err, ERR_INVALID, "sort: there are more than %d keys", SORT_MAX_KEYS);
        else if (!item.len)
            r = err_set(c->err, ERR_INVALID, "sort: expected a field's name");
        else
            r = parse_sort_key(c, (char *)item.data, colon, &c->query->sort[c->query->n_sort]);
        if (!r) c->query->n_sort++;
    }
    buf_release(&item);
    return r;
}

/* ---- facets ---- */

static int compile_facets(struct compiler *c, const char *fields) {
    struct query *q = c->query;
    struct buf item = BUF_INIT;
    const struct field *f;
    size_t colon;
    int r = 0;
    while (!r && list_next(&fields, &item, &colon, false)) {
        if (q->n_facets == FACET_MAX_FIELDS)
            r = err_set(c->err, ERR_INVALID, "facet: there are more than %d fields", FACET_MAX_FIELDS);
        else if ((r = compile_field(c, (char *)item.data, item.len, &f)))
            r = err_wrap(c->err, "facet");
        else if (f->type < FIELD_KEYWORD || f->type > FIELD_DATETIME)
            r = err_set(c->err, ERR_INVALID,
                        "facet: field \"%.*s\" is %s: expected a keyword, number, boolean or datetime",
                        SHOWN(f->path), field_type_name(f->type));
        else
            q->facets[q->n_facets++] =
                (struct facet_field){arena_strndup(&q->arena, f->path, f->path_len), f->type};
    }
    buf_release(&item);
    return r;
}

/* ---- partitions ---- */

static int compile_partitions(struct compiler *c, const struct query_request *request) {
    const struct schema *s = c->schema;
    const char *list = request->partitions, *field = request->partition_field;
    struct buf value = BUF_INIT;
    size_t colon;
    if (!s->partition_field)
        return err_set(c->err, ERR_INVALID, "partitionFilter: the collection has no partitions");
    if (field && strcmp(field, s->partition_field))
        return err_set(c->err, ERR_INVALID, "partitionFilter.field: expected \"%.*s\", the partition field",
                       SHOWN(s->partition_field));
    c->query->partitioned = true;
    while (list_next(&list, &value, &colon, false))
        partition_set_add(&c->query->partitions, partition_of_value(s, (char *)value.data, value.len));
    buf_release(&value);
    return 0;
}

/* ---- the ends ---- */

/* A fused list has its own order, and ends where its sides' lists end. */
static int check_fused(struct compiler *c, const struct query_node *root) {
    const struct query *q = c->query;
    bool fixed = root->clauses[0].node->kind == QUERY_KNN && root->clauses[1].node->kind == QUERY_KNN;
    bool by_score = q->n_sort == 1 && !strcmp(q->sort[0].field, "_score") && q->sort[0].descending;
    uint32_t end = c->request->from + c->request->size;
    if (q->n_sort && !by_score)
        return err_set(c->err, ERR_INVALID, "sort: the hits of rrf, mm and l2 come by their fused score");
    if (end > QUERY_MAX_SIZE)
        return err_set(c->err, ERR_INVALID, "from and size together must be at most %d in a hybrid",
                       QUERY_MAX_SIZE);
    if (end <= q->window || fixed) return 0;
    return err_set(
        c->err, ERR_INVALID,
        "from and size reach beyond the window, the best %u hits of each side that a hybrid fuses: "
        "give all pages a window of %u or more (at most %d)",
        q->window, end, QUERY_MAX_SIZE);
}

static int check_boosts(struct compiler *c, const struct query_node *n, double path) {
    path *= n->boost;
    if (path > QUERY_MAX_BOOST) return err_set(c->err, ERR_INVALID, "the boosts multiply to more than 1e18");
    for (uint32_t i = 0; i < n->n_clauses; i++) {
        int r = check_boosts(c, n->clauses[i].node, path);
        if (r) return r;
    }
    return n->filter ? check_boosts(c, n->filter, 1) : 0;
}

static void compiler_init(struct compiler *c, const struct schema *schema, struct err *err) {
    *c = (struct compiler){.schema = schema, .err = err, .regex_work = REGEX_WORK};
    c->query = xcalloc(1, sizeof *c->query);
}

/* Checks the root and hands the query over, or frees everything. */
static int compiler_finish(struct compiler *c, int r, struct query_node *root, struct query **ret) {
    if (!r && !root) root = node_new(c, QUERY_NONE);
    if (!r) r = check_boosts(c, root, 1);
    c->query->root = root;
    free(c->chain);
    buf_release(&c->scratch);
    buf_release(&c->path);
    if (r)
        query_free(c->query);
    else
        *ret = c->query;
    return r;
}

int query_compile(const struct query_request *request, const struct schema *schema, const float *near_vector,
                  uint32_t near_dim, struct query **ret, struct err *err) {
    struct compiler c;
    struct query_node *root = NULL;
    if (request->size > QUERY_MAX_SIZE)
        return err_set(err, ERR_INVALID, "size must be at most %d", QUERY_MAX_SIZE);
    if (request->from > REQUEST_MAX_WINDOW - request->size)
        return err_set(err, ERR_INVALID, "from and size together must be at most %d", REQUEST_MAX_WINDOW);
    compiler_init(&c, schema, err);
    c.request = request;
    c.in_filter = request->only_filter;
    c.query->window = request->window ? request->window : MAX((uint32_t)FUSE_WINDOW, request->size);
    if (request->default_field)
        c.default_field =
            (struct syntax_text){request->default_field, (uint32_t)strlen(request->default_field)};
    int r = compile_request(&c, near_vector, near_dim, &root);
    if (!r && request->partitions) r = compile_partitions(&c, request);
    if (!r && request->sort) r = compile_sort(&c, request->sort);
    if (!r && request->facets) r = compile_facets(&c, request->facets);
    if (!r && root && root->kind == QUERY_FUSE) r = check_fused(&c, root);
    if (!r && request->window && !(root && root->kind == QUERY_FUSE))
        r = err_set(err, ERR_INVALID, "window: the query is not a hybrid (rrf, mm or l2)");
    bool shown = request->format == FORMAT_JSONL || request->format == FORMAT_JSON;
    c.query->needs_scores = shown || (!c.query->n_sort && request->format != FORMAT_COUNT);
    c.query->ids_only = request->format == FORMAT_IDS || request->format == FORMAT_COUNT;
    for (uint32_t i = 0; i < c.query->n_sort; i++)
        if (!strcmp(c.query->sort[i].field, "_score")) c.query->needs_scores = true;
    return compiler_finish(&c, r, root, ret);
}

int query_compile_text(const char *text, size_t len, const struct schema *schema, struct query **ret,
                       struct err *err) {
    struct compiler c;
    struct query_node *root = NULL;
    compiler_init(&c, schema, err);
    int r = compile_string(&c, text, len, false, 0, &root);
    return compiler_finish(&c, r, root, ret);
}

void query_free(struct query *q) {
    if (!q) return;
    arena_release(&q->arena);
    free(q->field_slots);
    free(q->term_slots);
    free(q->fuzzy);
    free(q);
}
