/* Unscored clauses as sets of documents of one segment: ranges, prefixes, wildcards, term ranges, existence.
 */
#pragma once
#include "index/segment.h"
#include "query/query.h"

/* One bit a document of the segment; all: every document (bits is NULL); neither: the empty set. */
struct docset {
    const uint64_t *bits;
    uint64_t *owned; /* bits, when docset_release must free them; else bits are borrowed from the segment */
    bool all;
};
/* The documents of [lo, hi) that match the node (others may be in the set or not). Deletes are not looked at.
 * ERR_UNSUPPORTED for kinds that are not a set of documents; ERR_CANCELED, ERR_TIMEOUT as search_run. */
int docset_build(const struct segment *, const struct query_node *, uint32_t lo, uint32_t hi,
                 const volatile int *cancel, struct docset *ret, struct err *);
void docset_release(struct docset *);

/* 0 to go on; cancel may be NULL. */
int search_poll(const volatile int *cancel, struct err *);
/* Does a whole term match? '*' any bytes, '?' one character (UTF-8), '\' quotes the next byte. */
bool wildcard_match(const char *pattern, size_t pattern_len, const char *text, size_t len);
