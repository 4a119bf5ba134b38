/* What a reader of a remote segment will need, as ranges for a fetch (index/fetch.h): no format is known
 * outside of this layer. All of it is a hint and does nothing for segments that are mapped or in memory. */
#pragma once
#include "index/fetch.h"
#include "index/segment.h"

/* Is it read by requests? */
bool segment_is_remote(const struct segment *);
/* The page cache of its blob; NULL unless remote. A thread holds it while it reads (index/page_cache.h). */
struct page_cache *segment_pages(const struct segment *);

/* For tests: codes of more than so many bytes are not read as a whole; 0: the default. */
void segment_want_codes(uint64_t bytes);

/* The small indexes that say where ids and documents stand. */
void segment_want_lookup(struct fetch *, const struct segment *);
/* All ids, unless they are many. */
void segment_want_ids(struct fetch *, const struct segment *);
/* The id of a document, and the document: what of it can be known by now. */
void segment_want_hit(struct fetch *, const struct segment *, uint32_t docno, bool with_document);

/* The whole dictionary of a field with terms, unless it is large. */
void field_want_dictionary(struct fetch *, const struct segment_field *);
void field_want_postings(struct fetch *, const struct segment_field *, const struct term_info *,
                         bool positions);
void field_want_norms(struct fetch *, const struct segment_field *);
/* The column and the documents that have the field. */
void field_want_column(struct fetch *, const struct segment_field *);
/* What a search of the vectors reads: all of them; of clustered ones the lists that a search for the k
 * nearest of `near` scans first (NULL: not known). */
struct vector_query;
void field_want_vectors(struct fetch *, const struct segment_field *, const struct vector_query *near,
                        uint32_t k);
