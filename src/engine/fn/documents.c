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

/* All documents with room for them; NULL: too much, or something is wrong. */
static struct documents *plan(const struct view *v, const struct search_hit *hits, uint32_t n) {
    uint32_t sizes[SPARE_PIECES_MAX];
    size_t room = 0, head = sizeof(struct documents) + n * sizeof(struct document);
    for (uint32_t i = 0; i < n; i++) {
        if (segment_doc_size(v->parts[hits[i].part_no].segment, hits[i].docno, &sizes[i], NULL)) return NULL;
        room += sizes[i];
        if (room > BYTES_MAX) return NULL;
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

/* Not of a pinned view: the one who helps may be the last to let go of it, and would have to write that down.
 */
void documents_ahead(const struct view *v, const struct search_hit *hits, uint32_t n,
                     struct answer_hit *out) {
    for (uint32_t i = 0; i < MIN(n, (uint32_t)PREFETCHED_MAX); i++)
        segment_doc_prefetch(v->parts[hits[i].part_no].segment, hits[i].docno);
    if (n < FEW || n > SPARE_PIECES_MAX || v->pin[0] || !spare_is_there()) return;
    struct documents *all = plan(v, hits, n);
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
