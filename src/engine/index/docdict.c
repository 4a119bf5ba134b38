/* Dictionaries of stored documents. */
#include "index/docdict.h"

#include <stdatomic.h>
#include <zdict.h>
#include <zstd.h>

#include "util/codec.h"

/* ---- making one ----
 *
 * The choice of what goes in follows COVER (Liao, Petri, Moffat and Wirth, "Effective construction of
 * relative Lempel-Ziv dictionaries", 2016): count all substrings of GRAM bytes, divide the sample into as
 * many stretches as the dictionary has room for segments, and take from each the segment whose substrings are
 * the most frequent, each counted once. zstd then adds the statistics of its entropy coders. */

enum { GRAM = 8, SEGMENT = 200, COUNT_BITS = 16, STATISTICS_BYTES = 1024, STATISTICS_LEVEL = 3 };

struct cover {
    const uint8_t *docs;
    size_t len;
    uint32_t counts[1 << COUNT_BITS];
};

static uint32_t *count_of(struct cover *c, size_t at) {
    return &c->counts[get_u64(c->docs + at) * 0xcf1bbcdcb7a56463ull >> (64 - COUNT_BITS)];
}

/* The best segment that lies in [from, to). */
static size_t best_segment(struct cover *c, size_t from, size_t to) {
    const size_t grams = SEGMENT - GRAM + 1;
    uint64_t score = 0, best_score = 0;
    size_t best = from;
    for (size_t i = from; i + GRAM <= to; i++) {
        score += *count_of(c, i);
        if (i - from + 1 < grams) continue;
        size_t first = i + 1 - grams;
        if (score > best_score) {
            best_score = score;
            best = first;
        }
        score -= *count_of(c, first);
    }
    return best;
}

/* The content, the most useful part last, where references to it are shortest. */
static void choose(struct cover *c, uint8_t *out, size_t size) {
    size_t n = size / SEGMENT, stretch = c->len / n;
    for (size_t i = 0; i + GRAM <= c->len; i++) ++*count_of(c, i);
    for (size_t s = 0; s < n; s++) {
        size_t at = best_segment(c, s * stretch, (s + 1) * stretch);
        memcpy(out + (n - 1 - s) * SEGMENT, c->docs + at, SEGMENT);
        for (size_t i = at; i + GRAM <= at + SEGMENT; i++) *count_of(c, i) = 0;
    }
}

bool doc_dict_train(const uint8_t *docs, const size_t *sizes, size_t n, struct buf *out) {
    enum { CONTENT = (DOC_DICT_BYTES - STATISTICS_BYTES) / SEGMENT * SEGMENT };
    struct cover *c = xcalloc(1, sizeof *c);
    uint8_t content[CONTENT];
    c->docs = docs;
    for (size_t i = 0; i < n; i++) c->len += sizes[i];
    bool good = c->len >= DOC_DICT_SAMPLE / 2;
    if (good) {
        choose(c, content, CONTENT);
        ZDICT_params_t params = {.compressionLevel = STATISTICS_LEVEL};
        size_t len = ZDICT_finalizeDictionary(buf_grow(out, DOC_DICT_BYTES), DOC_DICT_BYTES, content, CONTENT,
                                              docs, sizes, (unsigned)n, params);
        good = !ZDICT_isError(len);
        out->len = good ? len : 0;
    }
    free(c);
    return good;
}

/* ---- in a segment ---- */

void doc_dicts_write(const struct doc_dict *dicts, size_t n, struct blob_writer *out) {
    struct buf head = BUF_INIT;
    buf_add_u32(&head, (uint32_t)n);
    for (size_t i = 0; i < n; i++) buf_add_u32(&head, dicts[i].len);
    blob_write(out, head.data, head.len);
    for (size_t i = 0; i < n; i++) blob_write(out, dicts[i].data, dicts[i].len);
    buf_release(&head);
}

struct doc_dicts {
    size_t n;
    struct doc_dict *all;
    ZSTD_DDict *_Atomic *ready; /* one for each, made at first use */
};

static int bad(const char *name, struct err *err) {
    return err_set(err, ERR_CORRUPT, "object '%s': damaged dictionaries of stored documents", name);
}

int doc_dicts_open(const uint8_t *region, uint64_t len, const char *name, struct doc_dicts **ret,
                   struct err *err) {
    struct cursor c = cursor_of(region, len);
    uint32_t n = cursor_u32(&c);
    const uint8_t *sizes = cursor_take(&c, 4 * (size_t)MIN(n, (uint32_t)DOC_DICTS_MAX));
    if (c.bad || n > DOC_DICTS_MAX) return bad(name, err);
    struct doc_dicts *d = xcalloc(1, sizeof *d);
    d->n = n;
    d->all = xcalloc(n, sizeof *d->all);
    d->ready = xcalloc(n, sizeof *d->ready);
    for (uint32_t i = 0; i < n && !c.bad; i++) {
        uint32_t size = get_u32(sizes + 4 * (size_t)i);
        const uint8_t *data = size <= DOC_DICT_MAX ? cursor_take(&c, size) : NULL;
        c.bad |= !data;
        d->all[i] = (struct doc_dict){data, size, data ? ZSTD_getDictID_fromDict(data, size) : 0};
        c.bad |= !d->all[i].id;
    }
    if (c.bad || c.p != c.end) {
        doc_dicts_free(d);
        return bad(name, err);
    }
    *ret = d;
    return 0;
}

void doc_dicts_free(struct doc_dicts *d) {
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) ZSTD_freeDDict(d->ready[i]);
    free(d->all);
    free((void *)d->ready);
    free(d);
}

const struct doc_dict *doc_dicts_all(const struct doc_dicts *d, size_t *ret_n) {
    *ret_n = d->n;
    return d->all;
}

const void *doc_dicts_find(struct doc_dicts *d, uint32_t id) {
    for (size_t i = 0; i < d->n; i++) {
        if (d->all[i].id != id) continue;
        ZSTD_DDict *dict = atomic_load_explicit(&d->ready[i], memory_order_acquire), *none = NULL;
        if (dict) return dict;
        dict = ZSTD_createDDict(d->all[i].data, d->all[i].len);
        if (!dict || atomic_compare_exchange_strong(&d->ready[i], &none, dict)) return dict;
        ZSTD_freeDDict(dict);
        return none;
    }
    return NULL;
}
