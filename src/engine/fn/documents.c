/* See documents.h. */
#include "fn/documents.h"
#include "util/spare.h"

enum {
    FEW = 4, /* not worth it */
    BYTES_MAX = 256 * 1024,
    PREFETCHED_MAX = 16, /* what the first caches hold */
};

struct document {
    const struct segment *segment;
    uint32_t docno, size;
    bool bad;
    uint8_t *text; /* size bytes of the job */
};
struct documents {
    struct spare_job job;
    struct view *view;
    struct document docs[];
};

static void read_one(struct spare_job *job, uint32_t i) {
    struct document *d = &((struct documents *)job)->docs[i];
    d->bad = segment_doc_to(d->segment, d->docno, d->text, d->size, NULL) != 0;
}

static void documents_free(struct spare_job *job) {
    view_unref(((struct documents *)job)->view);
    free(job);
}

/* Has an earlier one of the hits the same block? One after the other they need it once, side by side twice.
 */
static bool is_shared(const struct search_hit *hits, uint32_t i, uint32_t first, uint32_t end) {
    for (uint32_t k = 0; k < i; k++)
        if (hits[k].part_no == hits[i].part_no && hits[k].docno >= first && hits[k].docno < end) return true;
    return false;
}

/* All documents with room for them; NULL: too much, or not all is at hand. */
static struct documents *plan(const struct view *v, const struct search_hit *hits, uint32_t n) {
    uint32_t sizes[SPARE_PIECES_MAX], first, end;
    size_t room = 0, head = sizeof(struct documents) + n * sizeof(struct document);
    for (uint32_t i = 0; i < n; i++) {
        const struct segment *s = v->parts[hits[i].part_no].segment;
        if (!segment_doc_at_hand(s, hits[i].docno, &sizes[i], &first, &end)) return NULL;
        room += sizes[i];
        if (room > BYTES_MAX || is_shared(hits, i, first, end)) return NULL;
    }
    struct documents *all = xmalloc(head + room);
    uint8_t *at = (uint8_t *)all + head;
    *all = (struct documents){.job = {.n = n, .piece = read_one, .free = documents_free},
                              .view = view_ref((struct view *)(uintptr_t)v)};
    for (uint32_t i = 0; i < n; i++) {
        all->docs[i] = (struct document){.segment = v->parts[hits[i].part_no].segment,
                                         .docno = hits[i].docno,
                                         .size = sizes[i],
                                         .text = at};
        at += sizes[i];
    }
    return all;
}

void documents_ahead(const struct view *v, const struct search_hit *hits, uint32_t n,
                     struct answer_hit *out) {
    bool wanted = n >= FEW && n <= SPARE_PIECES_MAX && spare_is_there();
    struct documents *all = wanted ? plan(v, hits, n) : NULL;
    uint32_t size, first, end;
    for (uint32_t i = 0; !all && i < MIN(n, (uint32_t)PREFETCHED_MAX); i++)
        segment_doc_at_hand(v->parts[hits[i].part_no].segment, hits[i].docno, &size, &first, &end);
    if (!all) return;
    uint64_t done = spare_run(&all->job);
    for (uint32_t i = 0; i < n; i++) {
        const struct document *d = &all->docs[i];
        if (!(done >> i & 1) || d->bad) continue;
        out[i].doc = xstrndup((const char *)d->text, d->size);
        out[i].doc_len = d->size;
    }
    spare_end(&all->job);
}
