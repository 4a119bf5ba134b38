/* The table of index types, and what they share: feeding documents, per-thread scratch, bitmaps. */
#include "index/index.h"

#include <pthread.h>
#include <zstd.h>

#include "index/segment_internal.h"

const struct index_type_ops *index_type(enum field_type type) {
    switch (type) {
    case FIELD_TEXT:
        return &index_text;
    case FIELD_KEYWORD:
        return &index_keyword;
    case FIELD_LONG:
    case FIELD_DOUBLE:
    case FIELD_BOOLEAN:
    case FIELD_DATETIME:
        return &index_number;
    case FIELD_VECTOR:
        return &index_vector;
    case FIELD_SPARSE_VECTOR:
        return &index_sparse;
    default:
        return NULL;
    }
}

uint32_t bitmap_count(const uint64_t *bits, uint32_t n) {
    uint32_t count = 0;
    for (size_t i = 0; i < bitmap_words(n); i++) count += (uint32_t)__builtin_popcountll(bits[i]);
    return count;
}

void index_out_region(struct index_out *out, uint16_t kind, uint32_t param, uint64_t off, uint64_t len) {
    region_encode(out->regions, &(struct region){kind, out->entry, param, off, len});
}

void index_out_exists(struct index_out *out, const uint64_t *bits, uint32_t n_with) {
    if (!n_with || n_with == out->n_docs) return;
    blob_write_align(out->blob, 8);
    uint64_t off = blob_writer_off(out->blob), len = bitmap_words(out->n_docs) * sizeof *bits;
    blob_write(out->blob, bits, len);
    index_out_region(out, REGION_EXISTS, 0, off, len);
}

uint32_t index_out_column(struct index_out *out, struct column_builder *b) {
    uint64_t *exists = xcalloc(bitmap_words(out->n_docs), sizeof *exists), off, len;
    uint32_t n_with = column_write(b, out->n_docs, out->blob, exists, &off, &len);
    index_out_region(out, REGION_COLUMN, 0, off, len);
    index_out_exists(out, exists, n_with);
    free(exists);
    return n_with;
}

/* ---- feeding ---- */

static uint32_t specs_of(const struct field *f) {
    return f->type == FIELD_TEXT ? (uint32_t)__builtin_popcount(f->analyzers) : 1;
}

static void add_specs(struct doc_feeder *d, const struct field *f) {
    struct index_spec spec = {.path = f->path,
                              .path_len = f->path_len,
                              .dimensions = f->dimensions,
                              .type = f->type,
                              .similarity = f->similarity,
                              .inferred = f->inferred};
    for (unsigned a = 0; a < 8; a++) {
        if (f->type == FIELD_TEXT ? !(f->analyzers >> a & 1) : a > 0) continue;
        spec.analyzer = (uint8_t)a;
        d->specs[d->n_specs++] = spec;
    }
}

void doc_feeder_init(struct doc_feeder *d, const struct schema *schema) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < schema->n_fields; i++) n += specs_of(&schema->fields[i]);
    *d = (struct doc_feeder){.schema = schema};
    d->specs = xcalloc(n, sizeof *d->specs);
    d->feeders = xcalloc(n, sizeof *d->feeders);
    d->first_spec = xcalloc((size_t)schema->n_fields + 1, sizeof *d->first_spec);
    for (uint32_t i = 0; i < schema->n_fields; i++) {
        d->first_spec[i] = d->n_specs;
        add_specs(d, &schema->fields[i]);
    }
    d->first_spec[schema->n_fields] = d->n_specs;
    for (uint32_t i = 0; i < n; i++)
        d->feeders[i] = (struct index_feeder){.spec = &d->specs[i], .ops = index_type(d->specs[i].type)};
}

void doc_feeder_release(struct doc_feeder *d) {
    free(d->specs);
    free(d->feeders);
    free(d->first_spec);
    arena_release(&d->arena);
    *d = (struct doc_feeder){0};
}

struct feed_run {
    struct doc_feeder *feeder;
    doc_value *value;
    void *ctx;
};

static int feed_value(void *ctx, uint32_t field_no, const struct jval *value, struct err *err) {
    struct feed_run *run = ctx;
    struct doc_feeder *d = run->feeder;
    for (uint32_t i = d->first_spec[field_no]; i < d->first_spec[field_no + 1]; i++) {
        struct index_feeder *f = &d->feeders[i];
        if (!f->ops) continue;
        if (f->doc_stamp != d->stamp)
            *f = (struct index_feeder){.spec = f->spec, .ops = f->ops, .doc_stamp = d->stamp};
        int r = run->value(run->ctx, i, f, value, err);
        if (r) return r;
    }
    return 0;
}

int doc_feeder_run(struct doc_feeder *d, const char *raw, size_t len, doc_value *value, void *ctx,
                   struct err *err) {
    struct feed_run run = {d, value, ctx};
    struct jval *doc;
    d->stamp++;
    arena_reset(&d->arena);
    int r = jval_parse(&d->arena, raw, len, &doc, err);
    return r ? r : schema_walk(d->schema, doc, feed_value, &run, err);
}

bool index_spec_equal(const struct index_spec *a, const struct index_spec *b) {
    return a->type == b->type && a->analyzer == b->analyzer && a->similarity == b->similarity &&
           a->dimensions == b->dimensions && a->path_len == b->path_len &&
           !memcmp(a->path, b->path, a->path_len);
}

/* ---- per thread ---- */

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_free(void *p) {
    struct index_scratch *s = p;
    for (unsigned a = 0; a < ANALYZER_COUNT; a++) analyzer_free(s->analyzers[a]);
    ZSTD_freeCCtx(s->zstd_c);
    ZSTD_freeDCtx(s->zstd_d);
    doc_feeder_release(&s->feeder);
    free_borrowed_schema(s->feeder_schema);
    buf_release(&s->docs.raw);
    free(s);
}

static void scratch_init(void) {
    pthread_key_create(&scratch_key, scratch_free);
}

struct index_scratch *index_scratch(void) {
    pthread_once(&scratch_once, scratch_init);
    struct index_scratch *s = pthread_getspecific(scratch_key);
    if (s) return s;
    s = xcalloc(1, sizeof *s);
    pthread_setspecific(scratch_key, s);
    return s;
}

int index_scratch_analyzer(enum analyzer a, struct analyzer_state **ret, struct err *err) {
    struct index_scratch *s = index_scratch();
    if ((unsigned)a < ANALYZER_COUNT && !s->analyzers[a]) s->analyzers[a] = analyzer_new(a);
    if ((unsigned)a >= ANALYZER_COUNT || !s->analyzers[a]) {
        int r = analyzer_check(a, err);
        return r ? r : err_set(err, ERR_IO, "could not start analyzer %s", analyzer_name(a));
    }
    *ret = s->analyzers[a];
    return 0;
}
