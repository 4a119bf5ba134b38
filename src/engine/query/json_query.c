/* The API's query objects to checked nodes: queryString, knn, bool. Errors name the path of the object. */
#include "query/query_internal.h"
#include <stdio.h>

enum { PATH_SHOWN = 160 };

/* Where in the JSON the compiler is; of a long path the end. Not restored after an error, which ends
 * everything. */
static const char *path_of(struct compiler *c) {
    const char *s = buf_str(&c->path);
    return c->path.len > PATH_SHOWN ? s + c->path.len - PATH_SHOWN : s;
}

static int refuse(struct compiler *c, const char *text) {
    return err_set(c->err, ERR_INVALID, "%s: %s", path_of(c), text);
}

/* Members outside of the list are refused. */
static int only_members(struct compiler *c, json_t *object, const char *const *known) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        const char *const *k = known;
        while (*k && strcmp(*k, key)) k++;
        if (!*k) return err_set(c->err, ERR_INVALID, "%s: unknown member \"%.*s\"", path_of(c), SHOWN(key));
    }
    return 0;
}

static int compile_query_string(struct compiler *c, json_t *v, unsigned depth, struct query_node **ret) {
    static const char *const known[] = {"query", "defaultField", "skipSyntax", NULL};
    if (!json_is_object(v)) return refuse(c, "expected an object with \"query\"");
    json_t *query = json_object_get(v, "query"), *field = json_object_get(v, "defaultField");
    json_t *skip = json_object_get(v, "skipSyntax");
    int r = only_members(c, v, known);
    if (r) return r;
    if (!json_is_string(query)) return refuse(c, "expected a string \"query\"");
    if (field && !json_is_null(field) && !json_is_string(field))
        return refuse(c, "expected a string \"defaultField\"");
    if (skip && !json_is_boolean(skip)) return refuse(c, "expected true or false for \"skipSyntax\"");
    struct syntax_text was = c->default_field;
    if (json_is_string(field))
        c->default_field =
            (struct syntax_text){json_string_value(field), (uint32_t)json_string_length(field)};
    r = compile_string(c, json_string_value(query), json_string_length(query), json_is_true(skip), depth,
                       ret);
    c->default_field = was;
    return r ? err_wrap(c->err, "%s", path_of(c)) : 0;
}

/* ---- kNN ---- */

static int read_vector(struct compiler *c, json_t *list, const struct field *f, float **ret) {
    json_t *v;
    size_t i;
    if (!json_is_array(list)) return refuse(c, "expected an array of numbers \"queryVector\"");
    if (json_array_size(list) != f->dimensions)
        return err_set(c->err, ERR_DIMENSION,
                       "%s: field \"%.*s\": the query vector has %zu dimensions, expected %u", path_of(c),
                       SHOWN(f->path), json_array_size(list), f->dimensions);
    float *out = xmalloc((f->dimensions + 1) * sizeof *out);
    json_array_foreach(list, i, v) {
        if (!json_is_number(v)) {
            free(out);
            return refuse(c, "expected only numbers in \"queryVector\"");
        }
        out[i] = (float)json_number_value(v);
    }
    *ret = out;
    return 0;
}

static int compile_filter(struct compiler *c, json_t *filter, unsigned depth, struct query_node **ret) {
    size_t here = c->path.len;
    buf_adds(&c->path, ".filter");
    *ret = NULL;
    if (!filter || json_is_null(filter)) return c->path.len = here, 0;
    bool was = c->in_knn;
    c->in_knn = true;
    int r;
    if (json_is_string(filter)) {
        r = compile_string(c, json_string_value(filter), json_string_length(filter), false, depth + 1, ret);
        if (r) err_wrap(c->err, "%s", path_of(c));
    } else {
        r = compile_json(c, filter, false, depth + 1, ret);
    }
    c->in_knn = was;
    if (!r) c->path.len = here;
    if (!r && !*ret) *ret = node_new(c, QUERY_NONE);
    return r;
}

/* A good queryText has become a queryVector before the query is compiled (query_text.h). */
static int refuse_text(struct compiler *c, json_t *v, const struct field *f) {
    const char *text = json_string_value(json_object_get(v, "queryText"));
    if (json_object_get(v, "queryVector"))
        return refuse(c, "expected \"queryVector\" or \"queryText\", not both");
    if (!f->embedding)
        return err_set(c->err, ERR_INVALID,
                       "%s: field \"%.*s\" has no managed embedding: give a \"queryVector\"", path_of(c),
                       SHOWN(f->path));
    if (!text || !text[strspn(text, " \t\r\n")])
        return refuse(c, "expected a string with some text as \"queryText\"");
    return refuse(c, "a \"queryText\" cannot be used here");
}

static int compile_knn_object(struct compiler *c, json_t *v, unsigned depth, struct query_node **ret) {
    static const char *const known[] = {"field", "queryVector", "queryText", "k", "filter", "recall", NULL};
    const struct field *f;
    struct query_node *filter;
    float *vector = NULL;
    if (!json_is_object(v)) return refuse(c, "expected an object with \"field\", \"queryVector\" and \"k\"");
    json_t *field = json_object_get(v, "field"), *k = json_object_get(v, "k");
    json_t *recall = json_object_get(v, "recall");
    int r = only_members(c, v, known);
    if (r) return r;
    if (c->in_knn) return refuse(c, "a kNN search cannot stand inside the filter of another");
    if (c->in_filter) return refuse(c, "a kNN search cannot select the documents to delete");
    if (!json_is_string(field)) return refuse(c, "expected a string \"field\"");
    if (!json_is_integer(k) || json_integer_value(k) < 1 || json_integer_value(k) > QUERY_MAX_SIZE)
        return refuse(c, "expected a number from 1 to 10000 as \"k\"");
    if (recall && !json_is_null(recall) &&
        !(json_number_value(recall) >= KNN_MIN_RECALL && json_number_value(recall) <= 1))
        return refuse(c, "expected a number from 0.5 to 1 as \"recall\"");
    r = compile_field(c, json_string_value(field), json_string_length(field), &f);
    if (r) return err_wrap(c->err, "%s", path_of(c));
    if (f->type != FIELD_VECTOR) return refuse(c, "expected the name of a vector field as \"field\"");
    if (json_object_get(v, "queryText")) return refuse_text(c, v, f);
    if ((r = compile_filter(c, json_object_get(v, "filter"), depth, &filter))) return r;
    if ((r = read_vector(c, json_object_get(v, "queryVector"), f, &vector))) return r;
    r = compile_knn(c, f, vector, f->dimensions, (uint32_t)json_integer_value(k), filter, ret);
    if (r) err_wrap(c->err, "%s", path_of(c));
    if (!r && json_is_number(recall)) (*ret)->recall = (float)json_number_value(recall);
    free(vector);
    return r;
}

static int compile_sparse_object(struct compiler *c, json_t *v, struct query_node **ret) {
    return compile_sparse(c, v, ret) ? err_wrap(c->err, "%s", path_of(c)) : 0;
}

/* ---- bool ---- */

static int read_occur(struct compiler *c, json_t *item, enum occur *ret) {
    static const char *const names[] = {"should", "must", "must_not", "filter"};
    json_t *v = json_object_get(item, "occur");
    *ret = OCCUR_SHOULD;
    if (!v) return 0;
    for (unsigned i = 0; json_is_string(v) && i < ARRAY_SIZE(names); i++)
        if (!strcmp(json_string_value(v), names[i])) return *ret = (enum occur)i, 0;
    return refuse(c, "expected must, should, must_not or filter as \"occur\"");
}

static int read_boost(struct compiler *c, json_t *item, float *ret) {
    json_t *v = json_object_get(item, "boost");
    double boost = json_is_number(v) ? json_number_value(v) : 0;
    *ret = 1;
    if (!v) return 0;
    if (!((float)boost > 0) || boost > QUERY_MAX_BOOST)
        return refuse(c, "expected a number above 0 as \"boost\"");
    *ret = (float)boost;
    return 0;
}

static int compile_bool(struct compiler *c, json_t *list, unsigned depth, struct query_node **ret) {
    size_t n = json_array_size(list), here = c->path.len;
    int r = 0;
    if (!json_is_array(list) || !n) return refuse(c, "expected a non-empty array of query objects");
    if (n > QUERY_MAX_CLAUSES) return refuse(c, "there are more than 4096 clauses");
    struct query_clause *clauses = arena_alloc(&c->query->arena, n * sizeof *clauses);
    for (size_t i = 0; i < n && !r; i++) {
        float boost;
        json_t *item = json_array_get(list, i);
        buf_printf(&c->path, "[%zu]", i);
        if (!json_is_object(item)) return refuse(c, "expected a query object");
        if ((r = read_occur(c, item, &clauses[i].occur))) return r;
        if ((r = read_boost(c, item, &boost))) return r;
        r = compile_json(c, item, true, depth + 1, &clauses[i].node);
        if (!r && clauses[i].node && boost != 1) clauses[i].node->boost *= boost;
        if (!r) c->path.len = here;
    }
    if (!r) *ret = bool_new(c, clauses, (uint32_t)n, 0);
    return r;
}

/* ---- rrf, mm, l2 ---- */

enum { SIDES = 2 };

/* mm, l2: a side's share of the score. */
static int read_weight(struct compiler *c, json_t *item, double *ret) {
    json_t *v = json_object_get(item, "boost");
    double weight = json_is_number(v) ? json_number_value(v) : -1;
    *ret = 0.5;
    if (!v) return 0;
    if (!(weight >= 0 && weight <= 1)) return refuse(c, "expected a number from 0 to 1 as \"boost\"");
    *ret = weight;
    return 0;
}

static int compile_side(struct compiler *c, json_t *item, enum fusion fusion, unsigned depth,
                        double *ret_weight, struct query_node **ret) {
    float ignored;
    if (!json_is_object(item)) return refuse(c, "expected a query object");
    if (json_object_get(item, "occur")) return refuse(c, "\"occur\" has a meaning only inside of bool");
    *ret = NULL;
    int r = fusion == FUSE_RRF ? read_boost(c, item, &ignored) : read_weight(c, item, ret_weight);
    return r ? r : compile_json(c, item, true, depth + 1, ret);
}

static int compile_fusion(struct compiler *c, json_t *list, enum fusion fusion, unsigned depth,
                          struct query_node **ret) {
    struct query_node *sides[SIDES];
    double weights[SIDES] = {0.5, 0.5};
    size_t here = c->path.len;
    if (depth != 1) return refuse(c, "rrf, mm and l2 can only stand at the top of a query");
    if (c->in_filter) return refuse(c, "a hybrid search cannot select the documents to delete");
    if (!json_is_array(list) || json_array_size(list) != SIDES)
        return refuse(c, "expected an array of two query objects");
    for (size_t i = 0; i < SIDES; i++) {
        buf_printf(&c->path, "[%zu]", i);
        int r = compile_side(c, json_array_get(list, i), fusion, depth, &weights[i], &sides[i]);
        if (r) return r;
        c->path.len = here;
    }
    double sum = weights[0] + weights[1];
    if (fusion != FUSE_RRF && (sum < 1 - 1e-6 || sum > 1 + 1e-6))
        return refuse(c, "expected boosts that sum to 1 (0.5 each when none is given)");
    *ret = fuse_new(c, fusion, sides, weights);
    return 0;
}

/* The one member that says what kind of query an object is. */
static int find_kind(struct compiler *c, json_t *query, bool item, const char **ret) {
    static const char *const kinds[] = {"queryString", "knn", "bool", "sparseVector",
                                        "rrf",         "mm",  "l2",   NULL};
    const char *key, *found = NULL;
    json_t *value;
    json_object_foreach(query, key, value) {
        const char *const *k = kinds;
        if (item && (!strcmp(key, "occur") || !strcmp(key, "boost"))) continue;
        while (*k && strcmp(*k, key)) k++;
        if (!*k)
            return err_set(
                c->err, ERR_INVALID,
                "%s: unknown query \"%.*s\"; expected queryString, knn, sparseVector, bool, rrf, mm or l2",
                path_of(c), SHOWN(key));
        if (found)
            return err_set(c->err, ERR_INVALID, "%s: expected one query, not both %s and %s", path_of(c),
                           found, *k);
        found = *k;
    }
    if (!found) return refuse(c, "expected queryString, knn, sparseVector, bool, rrf, mm or l2");
    *ret = found;
    return 0;
}

int compile_json(struct compiler *c, json_t *query, bool item, unsigned depth, struct query_node **ret) {
    const char *kind = "";
    size_t here = c->path.len;
    if (depth > QUERY_MAX_DEPTH) return refuse(c, "query objects are nested deeper than 100");
    if (!json_is_object(query)) return refuse(c, "expected a query object");
    int r = find_kind(c, query, item, &kind);
    if (r) return r;
    json_t *v = json_object_get(query, kind);
    buf_printf(&c->path, ".%s", kind);
    if (!strcmp(kind, "queryString"))
        r = compile_query_string(c, v, depth, ret);
    else if (!strcmp(kind, "knn"))
        r = compile_knn_object(c, v, depth, ret);
    else if (!strcmp(kind, "bool"))
        r = compile_bool(c, v, depth, ret);
    else if (!strcmp(kind, "sparseVector"))
        r = compile_sparse_object(c, v, ret);
    else
        r = compile_fusion(c, v,
                           !strcmp(kind, "rrf")  ? FUSE_RRF
                           : !strcmp(kind, "mm") ? FUSE_MM
                                                 : FUSE_L2,
                           depth, ret);
    if (!r) c->path.len = here;
    return r;
}
