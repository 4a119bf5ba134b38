/* Top-k selection by score or by sort keys, and the merge of parts. */
#include "query/collect.h"
#include "index/segment_want.h"
#include "util/heap.h"
#include <math.h>

enum { HEAP_MIN = 64, SORTED_MAX = 32 };
enum source_kind { SOURCE_NONE, SOURCE_SCORE, SOURCE_ID, SOURCE_COLUMN };
struct sort_source {
    enum source_kind kind;
    bool descending;
    const struct segment_field *field;
    const struct column *column;
};
/* keys: smaller is better; missing: a bit a key, worse than any value. */
struct sort_entry {
    uint32_t doc;
    float score;
    uint32_t missing;
    int64_t keys[SORT_MAX_KEYS];
};
struct candidate {
    struct search_hit hit;
    const struct segment *segment;
};

/* ---- order of hits ---- */

static bool is_field(const struct sort_key *key, const char *name) {
    return strcmp(key->field, name) == 0;
}

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len) {
    size_t n = MIN(a_len, b_len);
    int r = n ? memcmp(a, b, n) : 0;
    return r ? r : (a_len > b_len) - (a_len < b_len);
}

static int compare_ids(const struct search_hit *a, const struct search_hit *b) {
    return compare_bytes(a->id, a->id_len, b->id, b->id_len);
}

static int compare_value(const struct sort_key *key, const struct sort_value *a, const struct sort_value *b) {
    if (a->missing || b->missing) return (int)a->missing - (int)b->missing;
    int r = key->type == FIELD_KEYWORD ? compare_bytes(a->text, a->text_len, b->text, b->text_len)
                                       : (a->i64 > b->i64) - (a->i64 < b->i64);
    return key->descending ? -r : r;
}

static int compare_keys(const struct sort_key *sort, uint32_t n_sort, const struct search_hit *a,
                        const struct search_hit *b) {
    int by_score = (a->score > b->score) - (a->score < b->score);
    if (!n_sort) return -by_score;
    for (uint32_t i = 0; i < n_sort; i++) {
        int r;
        if (is_field(&sort[i], "_score"))
            r = sort[i].descending ? -by_score : by_score;
        else if (is_field(&sort[i], "_id"))
            r = sort[i].descending ? compare_ids(b, a) : compare_ids(a, b);
        else
            r = compare_value(&sort[i], &a->sort[i], &b->sort[i]);
        if (r) return r;
    }
    return 0;
}

int search_hit_compare(const struct sort_key *sort, uint32_t n_sort, const struct search_hit *a,
                       const struct search_hit *b) {
    int r = compare_keys(sort, n_sort, a, b);
    return r ? r : compare_ids(a, b);
}

void search_hit_release(struct search_hit *hit) {
    free(hit->sort);
    free(hit->id);
    free(hit->fused);
    *hit = (struct search_hit){0};
}

/* ---- by score ---- */

/* Order-preserving; scores are never NaN. */
static uint32_t score_bits(float score) {
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, sizeof bits);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

static float score_of(uint64_t key) {
    uint32_t bits = (uint32_t)(key >> 32);
    float score;
    bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* A few keys are kept in ascending order, which is a heap, too: with one jump that nobody foresees, not one a
 * level. */
static bool is_sorted(const struct collector *c) {
    return c->want <= SORTED_MAX;
}

static void heap_push(struct collector *c, uint64_t key) {
    if (c->n == c->cap) {
        c->cap = MIN(c->want, MAX(2 * c->cap, (uint32_t)HEAP_MIN));
        c->heap = xrealloc(c->heap, c->cap * sizeof *c->heap);
    }
    uint64_t *heap = c->heap;
    uint32_t i = c->n++;
    if (is_sorted(c))
        for (; i && heap[i - 1] > key; i--) heap[i] = heap[i - 1];
    else
        for (; i && heap[(i - 1) / 2] > key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

/* In the worst one's place. */
static void heap_replace(struct collector *c, uint64_t key) {
    uint64_t *heap = c->heap;
    uint32_t i = 0;
    if (!is_sorted(c)) {
        heap[0] = key;
        heap_sift_down(heap, c->n, 0);
        return;
    }
    for (; i + 1 < c->n && heap[i + 1] < key; i++) heap[i] = heap[i + 1];
    heap[i] = key;
}

/* The worst of the `left` that are still there. */
static uint64_t heap_pop(struct collector *c, uint32_t left) {
    uint64_t *heap = c->heap, key = heap[0];
    if (is_sorted(c)) return heap[c->n - left];
    heap[0] = heap[left - 1];
    if (left > 1) heap_sift_down(heap, left - 1, 0);
    return key;
}

static void keep_by_score(struct collector *c, uint32_t doc, float score) {
    uint64_t key = (uint64_t)score_bits(score) << 32 | (uint32_t)~doc;
    if (key < c->floor) return;
    if (c->n < c->want) {
        heap_push(c, key);
    } else {
        if (key <= c->heap[0]) return;
        heap_replace(c, key);
    }
    if (c->n == c->want) c->theta = MAX(c->theta, score_of(c->heap[0]));
}

static void add_by_score(struct collector *c, const struct batch *batch) {
    float max = c->max_score;
    for (uint32_t i = 0; i < batch->n; i++) {
        float score = batch->scores[i];
        max = score > max ? score : max;
        if (score >= c->theta) keep_by_score(c, batch->docs[i], score);
    }
    c->max_score = max;
}

void collector_count(struct collector *c, uint64_t n) {
    c->total += n;
}

float collector_least(const struct collector *c) {
    if (!c->want) return float_after(c->max_score);
    if (c->n < c->want) return c->theta;
    return MAX(c->theta, float_after(score_of(c->heap[0]))); /* of equal ones the first stays */
}

void collector_offer(struct collector *c, uint32_t doc, float score) {
    c->max_score = MAX(c->max_score, score);
    if (c->want && score >= c->theta) keep_by_score(c, doc, score);
}

/* ---- by sort keys ---- */

static int compare_entries(const struct collector *c, const struct sort_entry *a,
                           const struct sort_entry *b) {
    for (uint32_t i = 0; i < c->n_sort; i++) {
        int a_missing = a->missing >> i & 1, b_missing = b->missing >> i & 1;
        if (a_missing != b_missing) return a_missing - b_missing;
        if (a->keys[i] != b->keys[i]) return a->keys[i] < b->keys[i] ? -1 : 1;
    }
    return (a->doc > b->doc) - (a->doc < b->doc);
}

static void make_entry(const struct collector *c, uint32_t doc, float score, struct sort_entry *e) {
    e->doc = doc;
    e->score = score;
    e->missing = 0;
    for (uint32_t i = 0; i < c->n_sort; i++) {
        const struct sort_source *source = &c->sources[i];
        uint32_t count = 1;
        int64_t value = 0;
        switch (source->kind) {
        case SOURCE_SCORE:
            value = score_bits(score);
            break;
        case SOURCE_ID:
            value = doc;
            break;
        case SOURCE_COLUMN:
            count = column_count(source->column, doc);
            if (count) value = column_value(source->column, doc, source->descending ? count - 1 : 0);
            break;
        case SOURCE_NONE:
            count = 0;
            break;
        }
        e->missing |= (uint32_t)!count << i;
        e->keys[i] = !count ? 0 : source->descending ? ~value : value;
    }
}

static void entries_sift_down(struct collector *c, uint32_t n, uint32_t i) {
    struct sort_entry *heap = c->entries, e = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && compare_entries(c, &heap[child + 1], &heap[child]) > 0) child++;
        if (compare_entries(c, &heap[child], &e) <= 0) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = e;
}

static void entries_push(struct collector *c, const struct sort_entry *e) {
    VEC_GROW(c->entries, c->n, c->cap);
    uint32_t i = c->n++;
    for (; i && compare_entries(c, &c->entries[(i - 1) / 2], e) < 0; i = (i - 1) / 2)
        c->entries[i] = c->entries[(i - 1) / 2];
    c->entries[i] = *e;
}

static void add_by_keys(struct collector *c, const struct batch *batch) {
    struct sort_entry e;
    for (uint32_t i = 0; i < batch->n; i++) {
        c->max_score = MAX(c->max_score, batch->scores[i]);
        make_entry(c, batch->docs[i], batch->scores[i], &e);
        if (c->n < c->want) {
            entries_push(c, &e);
        } else if (compare_entries(c, &e, &c->entries[0]) < 0) {
            c->entries[0] = e;
            entries_sift_down(c, c->n, 0);
        }
    }
}

/* ---- parts ---- */

void collector_init(struct collector *c, const struct sort_key *sort, uint32_t n_sort, uint32_t want) {
    *c = (struct collector){.sort = sort, .n_sort = n_sort, .want = want, .max_score = -INFINITY};
    c->by_score = !n_sort || (is_field(&sort[0], "_score") && sort[0].descending &&
                              (n_sort == 1 || (is_field(&sort[1], "_id") && !sort[1].descending)));
    for (uint32_t i = 0; i < n_sort; i++) c->by_id |= is_field(&sort[i], "_id");
    if (n_sort) c->sources = xcalloc(n_sort, sizeof *c->sources);
}

static bool has_column(enum field_type type) {
    return type == FIELD_KEYWORD || type == FIELD_LONG || type == FIELD_DOUBLE || type == FIELD_BOOLEAN ||
           type == FIELD_DATETIME;
}

static int open_source(const struct search_ctx *ctx, const struct sort_key *key, struct sort_source *source,
                       struct err *err) {
    *source = (struct sort_source){.descending = key->descending};
    if (is_field(key, "_score"))
        source->kind = SOURCE_SCORE;
    else if (is_field(key, "_id"))
        source->kind = SOURCE_ID;
    if (source->kind != SOURCE_NONE || !has_column(key->type)) return 0;
    source->field = segment_field(ctx->part->segment, key->field, strlen(key->field), key->type, 0);
    if (!source->field) return 0;
    source->kind = SOURCE_COLUMN;
    return column_open(source->field, &source->column, err);
}

int collector_begin(struct collector *c, struct search_ctx *ctx, struct err *err) {
    c->ctx = ctx;
    c->n = 0;
    c->floor = 0;
    c->theta = -INFINITY;
    if (c->by_score && c->want && c->n_best == c->want && !c->deferred) {
        c->theta = c->best[c->n_best - 1].hit.score;
        c->floor = (uint64_t)score_bits(c->theta) << 32;
    }
    for (uint32_t i = 0; !c->by_score && i < c->n_sort; i++) {
        int r = open_source(ctx, &c->sort[i], &c->sources[i], err);
        if (r) return r;
    }
    return 0;
}

void collector_add(struct collector *c, const struct batch *batch) {
    c->total += batch->n;
    if (!c->want)
        for (uint32_t i = 0; i < batch->n; i++) c->max_score = MAX(c->max_score, batch->scores[i]);
    else if (c->by_score)
        add_by_score(c, batch);
    else
        add_by_keys(c, batch);
}

static int fetch_id(struct collector *c, struct candidate *candidate, struct err *err) {
    struct search_hit *hit = &candidate->hit;
    if (hit->id) return 0;
    buf_clear(&c->id);
    int r = segment_id(candidate->segment, hit->docno, &c->id, err);
    if (r) return r;
    hit->id = xstrndup((const char *)c->id.data, c->id.len);
    hit->id_len = (uint32_t)c->id.len;
    return 0;
}

/* One sort value; a keyword's text is appended to texts. */
static int fetch_value(const struct sort_source *source, bool is_text, uint32_t docno, struct buf *texts,
                       struct sort_value *ret, struct err *err) {
    uint32_t count = source->kind != SOURCE_NONE;
    size_t before = texts->len;
    if (source->kind == SOURCE_COLUMN) count = column_count(source->column, docno);
    ret->missing = !count;
    if (source->kind != SOURCE_COLUMN || !count) return 0;
    ret->i64 = column_value(source->column, docno, source->descending ? count - 1 : 0);
    if (!is_text) return 0;
    int r = term_by_ord(source->field, (uint32_t)ret->i64, texts, err);
    ret->text_len = (uint32_t)(texts->len - before);
    return r;
}

static int fetch_values(struct collector *c, struct candidate *candidate, struct err *err) {
    struct search_hit *hit = &candidate->hit;
    struct sort_value values[SORT_MAX_KEYS] = {0};
    struct buf texts = BUF_INIT;
    int r = 0;
    for (uint32_t i = 0; !c->by_score && i < c->n_sort && !r; i++)
        r = fetch_value(&c->sources[i], c->sort[i].type == FIELD_KEYWORD, hit->docno, &texts, &values[i],
                        err);
    if (r) goto out;
    hit->sort = xmalloc(c->n_sort * sizeof *hit->sort + texts.len);
    char *text = (char *)(hit->sort + c->n_sort);
    if (texts.len) memcpy(text, texts.data, texts.len);
    for (uint32_t i = 0; i < c->n_sort; i++) {
        values[i].text = text;
        text += values[i].text_len;
        hit->sort[i] = values[i];
    }
    if (c->by_id && !c->deferred) r = fetch_id(c, candidate, err);
out:
    buf_release(&texts);
    return r;
}

/* The part's hits, best first, into list. */
static int drain(struct collector *c, struct candidate *list, struct err *err) {
    uint32_t n = c->n;
    int r = 0;
    for (uint32_t left = n; left; left--) {
        struct search_hit *hit = &list[left - 1].hit;
        list[left - 1] = (struct candidate){.segment = c->ctx->part->segment};
        hit->part_no = c->ctx->part->part_no;
        if (c->by_score) {
            uint64_t key = heap_pop(c, left);
            hit->docno = ~(uint32_t)key;
            hit->score = score_of(key);
        } else {
            hit->docno = c->entries[0].doc;
            hit->score = c->entries[0].score;
            c->entries[0] = c->entries[left - 1];
            if (left > 1) entries_sift_down(c, left - 1, 0);
        }
    }
    for (uint32_t i = 0; i < n && c->n_sort && !r; i++) r = fetch_values(c, &list[i], err);
    return r;
}

static int compare_candidates(struct collector *c, struct candidate *a, struct candidate *b, int *ret,
                              struct err *err) {
    *ret = compare_keys(c->sort, c->n_sort, &a->hit, &b->hit);
    if (*ret) return 0;
    if (a->hit.part_no == b->hit.part_no) {
        *ret = a->hit.docno < b->hit.docno ? -1 : 1;
        return 0;
    }
    int r = fetch_id(c, a, err);
    if (!r) r = fetch_id(c, b, err);
    if (!r) *ret = compare_ids(&a->hit, &b->hit);
    return r;
}

static void release_candidates(struct candidate *list, uint32_t from, uint32_t n) {
    for (uint32_t i = from; i < n; i++) search_hit_release(&list[i].hit);
}

/* Merges the part's list into the best so far. Takes the list's hits. */
static int merge_part(struct collector *c, struct candidate *list, uint32_t n, struct err *err) {
    uint32_t cap = MIN((uint64_t)c->want, (uint64_t)c->n_best + n), i = 0, k = 0, out = 0;
    struct candidate *merged = xmalloc(((size_t)cap + 1) * sizeof *merged);
    int r = 0;
    while (out < cap && !r) {
        int order = i == c->n_best ? 1 : -1;
        if (i < c->n_best && k < n) r = compare_candidates(c, &c->best[i], &list[k], &order, err);
        if (!r) merged[out++] = order < 0 ? c->best[i++] : list[k++];
    }
    release_candidates(c->best, i, c->n_best);
    release_candidates(list, k, n);
    free(c->best);
    c->best = merged;
    c->n_best = out;
    return r;
}

/* ---- deferred ---- */

enum { AHEAD_DOCUMENTS = 64, AHEAD_ROUNDS = 3 }; /* of more candidates only the ids are fetched ahead */

static void append_part(struct collector *c, struct candidate *list, uint32_t n) {
    c->best = xrealloc(c->best, ((size_t)c->n_best + n) * sizeof *c->best);
    memcpy(c->best + c->n_best, list, n * sizeof *list);
    c->n_best += n;
}

/* Without ids, _id as a key says nothing. */
static int by_known_keys(const void *a, const void *b, void *collector) {
    const struct collector *c = collector;
    return compare_keys(c->sort, c->n_sort, &((const struct candidate *)a)->hit,
                        &((const struct candidate *)b)->hit);
}

static int by_all(const void *a, const void *b, void *collector) {
    const struct collector *c = collector;
    return search_hit_compare(c->sort, c->n_sort, &((const struct candidate *)a)->hit,
                              &((const struct candidate *)b)->hit);
}

static void cut(struct collector *c, uint32_t n) {
    release_candidates(c->best, n, c->n_best);
    c->n_best = MIN(c->n_best, n);
}

/* One wave for what all candidates lack (more where the tables that say where it is are missing too). */
static int fetch_ahead(struct collector *c, struct err *err) {
    struct fetch f = FETCH_INIT;
    bool documents = !c->ids_only && c->n_best <= AHEAD_DOCUMENTS;
    int r = 0;
    for (int round = 0; round < AHEAD_ROUNDS && !r; round++) {
        for (uint32_t i = 0; i < c->n_best; i++)
            segment_want_hit(&f, c->best[i].segment, c->best[i].hit.docno, documents);
        if (!f.n) break;
        r = fetch_run(&f, err);
    }
    fetch_release(&f);
    return r;
}

void collector_want(struct collector *c, struct fetch *f) {
    if (!c->deferred || !c->n_best) return;
    qsort_r(c->best, c->n_best, sizeof *c->best, by_known_keys, c);
    for (uint32_t i = 0; i < MIN(c->n_best, MIN(c->want, (uint32_t)AHEAD_DOCUMENTS)); i++)
        segment_want_hit(f, c->best[i].segment, c->best[i].hit.docno, !c->ids_only);
}

static int settle_deferred(struct collector *c, struct err *err) {
    uint32_t keep = c->n_best;
    if (keep > c->want) {
        qsort_r(c->best, c->n_best, sizeof *c->best, by_known_keys, c);
        for (keep = c->want; keep < c->n_best && !by_known_keys(&c->best[keep], &c->best[c->want - 1], c);
             keep++) {
        }
        cut(c, keep);
    }
    int r = fetch_ahead(c, err);
    for (uint32_t i = 0; i < c->n_best && !r; i++) r = fetch_id(c, &c->best[i], err);
    if (r) return r;
    if (c->n_best) qsort_r(c->best, c->n_best, sizeof *c->best, by_all, c);
    cut(c, c->want);
    return 0;
}

int collector_end(struct collector *c, struct err *err) {
    uint32_t n = c->n;
    if (!n) return 0;
    struct candidate *list = xmalloc(n * sizeof *list);
    c->deferred |= segment_is_remote(c->ctx->part->segment);
    int r = drain(c, list, err);
    c->n = 0;
    if (r) {
        release_candidates(list, 0, n);
    } else if (c->deferred) {
        append_part(c, list, n);
    } else if (c->n_best) {
        r = merge_part(c, list, n, err);
    } else {
        free(c->best);
        c->best = list;
        c->n_best = n;
        return 0;
    }
    free(list);
    return r;
}

int collector_finish(struct collector *c, struct search_hit **ret, uint32_t *ret_n, struct err *err) {
    int settled = c->deferred ? settle_deferred(c, err) : 0;
    if (settled) return settled;
    for (uint32_t i = 0; i < c->n_best; i++) {
        int r = fetch_id(c, &c->best[i], err);
        if (r) return r;
    }
    *ret = xmalloc(((size_t)c->n_best + 1) * sizeof **ret);
    for (uint32_t i = 0; i < c->n_best; i++) (*ret)[i] = c->best[i].hit;
    *ret_n = c->n_best;
    c->n_best = 0;
    return 0;
}

void collector_release(struct collector *c) {
    release_candidates(c->best, 0, c->n_best);
    free(c->best);
    free(c->heap);
    free(c->entries);
    free(c->sources);
    buf_release(&c->id);
    *c = (struct collector){0};
}
