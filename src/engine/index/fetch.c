/* Remote objects: opening them, reading pages, and reading ahead. All gets of pages are here. */
#include "index/fetch.h"

#include "index/blob_internal.h"
#include "util/codec.h"

enum {
    PIECE_BYTES = 4 * 1024 * 1024, /* of one get: more go side by side */
    WHOLE_BYTES = 1024 * 1024,     /* an object up to this size is fetched whole when it is opened */
    GAP_PAGES = BLOB_COALESCE / BLOB_PAGE,
    MAX_GAP_PAGES = 2 * GAP_PAGES, /* where it saves a wave */
};

static _Thread_local struct fetch *recorder;

/* ---- a wave of gets ---- */

struct piece {
    struct blob *blob;
    uint64_t first; /* page */
};
struct wave {
    struct piece *pieces;
    struct object_range *ranges; /* as pieces */
    size_t n, cap_pieces, cap_ranges;
};

static void wave_release(struct wave *w) {
    for (size_t i = 0; i < w->n; i++) buf_release(&w->ranges[i].out);
    free(w->pieces);
    free(w->ranges);
}

/* One get, from a page to the byte before `end`. */
static void wave_add(struct wave *w, struct blob *b, uint64_t first, uint64_t end) {
    VEC_GROW(w->pieces, w->n, w->cap_pieces);
    VEC_GROW(w->ranges, w->n, w->cap_ranges);
    w->pieces[w->n] = (struct piece){b, first};
    w->ranges[w->n++] = (struct object_range){.key = b->key,
                                              .version = b->version,
                                              .off = first * BLOB_PAGE,
                                              .len = (size_t)(end - first * BLOB_PAGE)};
}

static int wave_get(struct wave *w, struct err *err) {
    if (!w->n) return 0;
    int r = object_get_many(w->pieces[0].blob->store, w->ranges, w->n, err);
    for (size_t i = 0; i < w->n && !r; i++)
        if (w->ranges[i].out.len != w->ranges[i].len)
            r = blob_corrupt(w->pieces[i].blob, err, "it is shorter than expected");
    return r;
}

/* Publishes the pages that pass their checks. One that does not is as if it had not been fetched, unless it
 * is among `must`: then it is the error. */
static int wave_install(struct wave *w, const struct fetch_run *must, struct err *err) {
    for (size_t i = 0; i < w->n; i++) {
        struct blob *b = w->pieces[i].blob;
        const uint8_t *bytes = w->ranges[i].out.data;
        uint64_t first = w->pieces[i].first, end = w->ranges[i].off + w->ranges[i].len;
        for (uint64_t page = first; page < b->n_pages && page * BLOB_PAGE < end; page++) {
            const uint8_t *at = bytes + (page - first) * BLOB_PAGE;
            bool is_must = must && must->blob == b && page >= must->first && page <= must->last;
            int r = blob_check_page(b, page, at, is_must ? err : NULL);
            if (r && is_must) return r;
            if (!r) page_set_put(&b->pages, page, at, blob_page_len(b, page));
        }
        buf_release(&w->ranges[i].out);
    }
    return 0;
}

/* ---- runs of pages ---- */

static int by_place(const void *pa, const void *pb) {
    const struct fetch_run *a = pa, *b = pb;
    int c = a->blob == b->blob ? 0 : strcmp(a->blob->key, b->blob->key);
    if (!c && a->blob != b->blob) c = a->blob < b->blob ? -1 : 1;
    return c ? c : (a->first > b->first) - (a->first < b->first);
}

static bool are_near(const struct fetch_run *a, const struct fetch_run *b, uint64_t gap_pages) {
    return a->blob == b->blob && b->first <= a->last + 1 + gap_pages;
}

/* Neighbours, and runs with gaps of so many pages at most, become one of at most most_pages, until so few are
 * left that it is enough. */
static void merge_runs(struct fetch *f, uint64_t gap_pages, uint64_t most_pages, size_t enough) {
    size_t out = 0, left = f->n;
    for (size_t i = 0; i < f->n; i++) {
        struct fetch_run *last = out ? &f->runs[out - 1] : NULL, run = f->runs[i];
        if (left > enough && last && are_near(last, &run, gap_pages) && run.last - last->first < most_pages) {
            last->last = MAX(last->last, run.last);
            left--;
        } else {
            f->runs[out++] = run;
        }
    }
    f->n = out;
}

/* With larger gaps, too, as many as it takes and up to what is one get, where there are more runs than go
 * side by side. */
static void coalesce(struct fetch *f) {
    if (f->n) qsort(f->runs, f->n, sizeof *f->runs, by_place);
    merge_runs(f, GAP_PAGES, UINT64_MAX, 0);
    for (uint64_t gap = GAP_PAGES + 1; f->n > OBJECT_PARALLEL_GETS && gap <= MAX_GAP_PAGES; gap++)
        merge_runs(f, gap, PIECE_BYTES / BLOB_PAGE, OBJECT_PARALLEL_GETS);
}

/* So many that all of them fit into one wave, but no smaller than PIECE_BYTES. */
static uint64_t piece_pages(const struct fetch *f) {
    uint64_t pages = 0, least = PIECE_BYTES / BLOB_PAGE, room = OBJECT_PARALLEL_GETS / 2;
    for (size_t i = 0; i < f->n; i++) pages += f->runs[i].last - f->runs[i].first + 1;
    return MAX(least, (pages + room - 1) / room);
}

static void add_run(struct fetch *f, struct blob *b, uint64_t first, uint64_t last) {
    struct fetch_run *end = f->n ? &f->runs[f->n - 1] : NULL;
    if (end && end->blob == b && first >= end->first && first <= end->last + 1) {
        end->last = MAX(end->last, last);
        return;
    }
    VEC_GROW(f->runs, f->n, f->cap);
    f->runs[f->n++] = (struct fetch_run){b, first, last};
}

void fetch_release(struct fetch *f) {
    free(f->runs);
    *f = (struct fetch){0};
}

bool fetch_want(struct fetch *f, struct blob *b, uint64_t off, uint64_t len) {
    bool missing = false;
    if (b->mode != BLOB_FETCHED || !len || off >= b->payload_end) return false;
    uint64_t last = (off + MIN(len, b->payload_end - off) - 1) / BLOB_PAGE;
    for (uint64_t page = off / BLOB_PAGE; page <= last; page++) {
        if (page_set_has(&b->pages, page) || page_set_take(&b->pages, page, false)) continue;
        add_run(f, b, page, page);
        missing = true;
    }
    return missing;
}

static int run_wave(struct fetch *f, const struct fetch_run *must, struct err *err) {
    struct wave w = {0};
    coalesce(f);
    uint64_t step = piece_pages(f);
    for (size_t i = 0; i < f->n; i++) {
        const struct fetch_run *run = &f->runs[i];
        for (uint64_t first = run->first; first <= run->last; first += step) {
            uint64_t end = MIN(first + step, run->last + 1) * BLOB_PAGE;
            wave_add(&w, run->blob, first, MIN(end, run->blob->payload_end));
        }
    }
    f->n = 0;
    int r = wave_get(&w, err);
    if (!r) r = wave_install(&w, must, err);
    wave_release(&w);
    return r;
}

int fetch_run(struct fetch *f, struct err *err) {
    return run_wave(f, NULL, err);
}

struct fetch *fetch_record(struct fetch *f) {
    struct fetch *before = recorder;
    recorder = f;
    return before;
}

struct fetch *fetch_recorder(void) {
    return recorder;
}

static bool is_there(struct blob *b, uint64_t page, bool pinned) {
    return pinned ? page_bit(b->pages.pinned, page) : page_set_has(&b->pages, page);
}

int fetch_need(struct blob *b, uint64_t first, uint64_t last, bool pinned, struct err *err) {
    struct fetch own = FETCH_INIT, *f = recorder ? recorder : &own;
    const struct fetch_run must = {b, first, last};
    bool missing = false;
    while (first <= last && is_there(b, first, pinned)) first++;
    for (; first <= last; first++) {
        if (is_there(b, first, pinned) || page_set_take(&b->pages, first, pinned)) continue;
        add_run(f, b, first, first);
        missing = true;
    }
    if (!missing) return 0;
    if (f != &own) return err_set(err, ERR_AGAIN, "object '%s': not read yet", b->name);
    int r = run_wave(&own, &must, err);
    for (uint64_t page = must.first; page <= last && pinned && !r; page++)
        page_set_take(&b->pages, page, true);
    fetch_release(&own);
    return r;
}

/* ---- opening ---- */

static uint64_t last_page(const struct blob *b) {
    return (b->size - 1) / BLOB_PAGE;
}

/* The first page of an object's end, which has trailer, page table and the last of the payload. */
static uint64_t tail_page(const struct blob *b) {
    uint64_t pages = (b->size + BLOB_PAGE - 1) / BLOB_PAGE;
    uint64_t tail = BLOB_TRAILER_SIZE + pages * BLOB_TABLE_ENTRY + BLOB_PAGE;
    return (b->size - MIN(tail, b->size)) / BLOB_PAGE;
}

static int reserve(struct object_store *store, const struct blob_source *s, struct blob **ret,
                   struct err *err) {
    struct blob *b = *ret = blob_new(BLOB_FETCHED, store, s->key, s->version);
    struct object_info info;
    int r = s->size ? 0 : object_head(store, b->key, b->version, &info, err);
    if (r) return r;
    b->size = s->size ? s->size : info.size;
    if (b->size < BLOB_HEADER_SIZE + BLOB_TRAILER_SIZE)
        return blob_corrupt(b, err, "too short to be an object");
    r = page_set_init(&b->pages, store->pages ? store->pages : page_cache_default(), b->size, err);
    b->data = b->pages.base;
    return r ? err_wrap(err, "object '%s'", b->name) : 0;
}

static void want_hot(struct fetch *f, struct blob *b, const struct blob_source *s) {
    if (b->size <= WHOLE_BYTES) {
        add_run(f, b, 0, last_page(b));
        return;
    }
    add_run(f, b, tail_page(b), last_page(b));
    for (uint32_t i = 0; i < s->n_hot; i++) {
        uint64_t off = s->hot[i].off, len = s->hot[i].len;
        if (!len || off >= b->size) continue;
        add_run(f, b, off / BLOB_PAGE, (off + MIN(len, b->size - off) - 1) / BLOB_PAGE);
    }
}

/* As fetch_run's pieces, but the object's end stays in one. */
static void add_pieces(struct wave *w, const struct fetch_run *run, uint64_t step) {
    uint64_t tail = tail_page(run->blob), first = run->first;
    while (first <= run->last) {
        uint64_t next = MIN(first + step, run->last + 1);
        if (next <= run->last && next > tail) next = first < tail ? tail : run->last + 1;
        wave_add(w, run->blob, first, MIN(next * BLOB_PAGE, run->blob->size));
        first = next;
    }
}

static int read_end(struct wave *w, size_t piece, const struct blob_source *s, struct err *err) {
    struct blob *b = w->pieces[piece].blob;
    const struct buf *bytes = &w->ranges[piece].out;
    int r = blob_read_trailer(b, bytes->data, bytes->len, s->kind, s->size != 0, s->checksum, err);
    if (r) return r;
    size_t len = (size_t)(b->n_pages * BLOB_TABLE_ENTRY + BLOB_TRAILER_SIZE);
    b->table = memcpy(xmalloc(len), b->table, len);
    return 0;
}

static int read_ends(struct wave *w, const struct blob_source *sources, size_t n, struct blob **blobs,
                     struct err *err) {
    int r = 0;
    for (size_t i = 0; i < n && !r; i++)
        for (size_t k = 0; k < w->n && !r; k++)
            if (w->pieces[k].blob == blobs[i] && w->ranges[k].off + w->ranges[k].len == blobs[i]->size)
                r = read_end(w, k, &sources[i], err);
    return r;
}

int fetch_open_many(struct object_store *store, const struct blob_source *sources, size_t n,
                    struct blob **ret, struct err *err) {
    struct blob **blobs = xcalloc(n, sizeof *blobs);
    struct fetch f = FETCH_INIT;
    struct wave w = {0};
    int r = 0;
    for (size_t i = 0; i < n && !r; i++) {
        r = reserve(store, &sources[i], &blobs[i], err);
        if (!r) want_hot(&f, blobs[i], &sources[i]);
    }
    if (r) goto out;
    coalesce(&f);
    uint64_t step = piece_pages(&f);
    for (size_t i = 0; i < f.n; i++) add_pieces(&w, &f.runs[i], step);
    r = wave_get(&w, err);
    if (!r) r = read_ends(&w, sources, n, blobs, err);
    if (!r) r = wave_install(&w, NULL, err);
out:
    wave_release(&w);
    fetch_release(&f);
    for (size_t i = 0; i < n; i++) {
        if (r)
            blob_close(blobs[i]);
        else
            ret[i] = blobs[i];
    }
    free(blobs);
    return r;
}
