/* A checked query as text, in the manner of Lucene's explain. */
#include "query/query_internal.h"

static void print_value(const struct query_node *n, int64_t v, int64_t open, struct buf *out) {
    char iso[TIME_TEXT_SIZE];
    if (v == open) {
        buf_addc(out, '*');
    } else if (n->type == FIELD_DOUBLE) {
        buf_printf(out, "%.17g", sortable_to_double(v));
    } else if (n->type == FIELD_BOOLEAN) {
        buf_adds(out, v ? "true" : "false");
    } else if (n->type == FIELD_DATETIME) {
        time_to_iso(v, iso);
        buf_adds(out, iso);
    } else {
        buf_printf(out, "%lld", (long long)v);
    }
}

static void print_range(const struct query_node *n, struct buf *out) {
    buf_addc(out, '[');
    print_value(n, n->lo, INT64_MIN, out);
    buf_adds(out, " TO ");
    print_value(n, n->hi, INT64_MAX, out);
    buf_addc(out, ']');
}

static void print_term_range(const struct query_node *n, struct buf *out) {
    buf_addc(out, n->lo_inclusive ? '[' : '{');
    if (n->lo_text)
        buf_add(out, n->lo_text, n->lo_len);
    else
        buf_addc(out, '*');
    buf_adds(out, " TO ");
    if (n->hi_text)
        buf_add(out, n->hi_text, n->hi_len);
    else
        buf_addc(out, '*');
    buf_addc(out, n->hi_inclusive ? ']' : '}');
}

/* Words with a "?" for each gap. */
static void print_phrase(const struct query_node *n, struct buf *out) {
    buf_addc(out, '"');
    for (uint32_t i = 0; i < n->n_terms; i++) {
        uint32_t from = i ? n->terms[i - 1].position + 1 : 0;
        for (uint32_t p = from; p < n->terms[i].position; p++) buf_adds(out, p ? " ?" : "?");
        if (i) buf_addc(out, ' ');
        buf_add(out, n->terms[i].text, n->terms[i].len);
    }
    buf_addc(out, '"');
    if (n->slop) buf_printf(out, "~%u", n->slop);
}

static void print_node(const struct query_node *n, bool top, struct buf *out);

static void print_bool(const struct query_node *n, bool top, struct buf *out) {
    static const char *const marks[] = {
        [OCCUR_SHOULD] = "", [OCCUR_MUST] = "+", [OCCUR_MUST_NOT] = "-", [OCCUR_FILTER] = "#"};
    bool group = !top || n->boost != 1 || n->min_should_match;
    if (group) buf_addc(out, '(');
    for (uint32_t i = 0; i < n->n_clauses; i++) {
        if (i) buf_addc(out, ' ');
        buf_adds(out, marks[n->clauses[i].occur]);
        print_node(n->clauses[i].node, false, out);
    }
    if (group) buf_addc(out, ')');
    if (n->min_should_match) buf_printf(out, "~%u", n->min_should_match);
}

static void print_knn(const struct query_node *n, struct buf *out) {
    buf_printf(out, "knn(k=%u", n->k);
    if (n->recall != KNN_DEFAULT_RECALL) buf_printf(out, ",recall=%g", (double)n->recall);
    if (n->filter) {
        buf_adds(out, ",filter=");
        print_node(n->filter, true, out);
    }
    buf_addc(out, ')');
}

static void print_sparse(const struct query_node *n, struct buf *out) {
    for (uint32_t i = 0; i < n->n_terms; i++) {
        buf_addc(out, i ? ' ' : '{');
        buf_add(out, n->terms[i].text, n->terms[i].len);
        buf_printf(out, "*%g", (double)n->token_weights[i]);
    }
    buf_addc(out, '}');
}

static void print_fuse(const struct query_node *n, struct buf *out) {
    static const char *const names[] = {[FUSE_RRF] = "rrf", [FUSE_MM] = "mm", [FUSE_L2] = "l2"};
    buf_printf(out, "%s(", names[n->fusion]);
    for (uint32_t i = 0; i < n->n_clauses; i++) {
        if (i) buf_adds(out, ", ");
        print_node(n->clauses[i].node, true, out);
        if (n->fusion != FUSE_RRF) buf_printf(out, "*%g", n->weights[i]);
    }
    buf_addc(out, ')');
}

static void print_node(const struct query_node *n, bool top, struct buf *out) {
    if (n->field) buf_printf(out, "%s:", n->field);
    switch (n->kind) {
    case QUERY_NONE:
        buf_adds(out, "<nothing>");
        break;
    case QUERY_ALL:
        buf_adds(out, "*:*");
        break;
    case QUERY_EXISTS:
        buf_addc(out, '*');
        break;
    case QUERY_PHRASE:
        print_phrase(n, out);
        break;
    case QUERY_BOOL:
        print_bool(n, top, out);
        break;
    case QUERY_RANGE:
        print_range(n, out);
        break;
    case QUERY_TERM_RANGE:
        print_term_range(n, out);
        break;
    case QUERY_KNN:
        print_knn(n, out);
        break;
    case QUERY_SPARSE:
        print_sparse(n, out);
        break;
    case QUERY_FUSE:
        print_fuse(n, out);
        break;
    case QUERY_DOCS:
        buf_printf(out, "<%u documents>", n->n_terms);
        break;
    case QUERY_TERM:
    case QUERY_PREFIX:
    case QUERY_WILDCARD:
    case QUERY_REGEX:
    case QUERY_FUZZY:
        if (n->kind == QUERY_REGEX) buf_addc(out, '/');
        buf_add(out, n->terms[0].text, n->terms[0].len);
        if (n->kind == QUERY_PREFIX) buf_addc(out, '*');
        if (n->kind == QUERY_REGEX) buf_addc(out, '/');
        if (n->kind == QUERY_FUZZY) buf_printf(out, "~%u", n->edits);
        break;
    }
    if (n->boost != 1) buf_printf(out, "^%g", (double)n->boost);
}

void query_print(const struct query_node *n, struct buf *out) {
    print_node(n, true, out);
}
