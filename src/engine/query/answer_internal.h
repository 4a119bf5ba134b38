/* Between the files of the answer: the selection of fields. */
#pragma once
#include "query/answer.h"
#include "query/query_internal.h"

struct path {
    char *s; /* components between dots; a dot that belongs to a key is PATH_LITERAL_DOT */
    size_t len;
};
struct paths {
    struct path *all;
    uint32_t n, cap;
};

struct selection {
    struct paths include, exclude;
    struct arena arena; /* one document at a time */
    struct buf path;    /* of the member being looked at */
    unsigned depth;     /* of objects around it */
    bool dropped;       /* something of the current document was left out */
};
/* Adds the document as the request wants it. */
int selection_add(struct selection *, const struct answer_hit *, struct buf *out, struct err *err);

/* answer_table.c: FORMAT_TSV, FORMAT_CSV, FORMAT_TABLE. */
int answer_format_table(const struct answer *, enum answer_format, struct selection *, struct buf *out,
                        struct err *);
