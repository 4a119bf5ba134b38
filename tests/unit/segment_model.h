/* A model of a segment for tests: random documents, and a complete text dump of what a segment must say about
 * them, made without the code under test. dump_segment() makes the same text from a segment. */
#pragma once
#include "index/analyzer.h"
#include "index/segment.h"
#include "index/segment_internal.h"
#include "test.h"

enum { MODEL_DIMENSIONS = 3, MODEL_VALUES = 4 };

static const char model_schema[] =
    "{\"dynamic\":false,\"indexConfigs\":{"
    "\"title\":{\"type\":\"text\",\"analyzers\":[\"standard\",\"english\"]},"
    "\"tag\":{\"type\":\"keyword\"},\"year\":{\"type\":\"long\"},\"price\":{\"type\":\"double\"},"
    "\"ok\":{\"type\":\"boolean\"},\"when\":{\"type\":\"datetime\"},\"never\":{\"type\":\"text\"},"
    "\"emb\":{\"type\":\"vector\",\"dimensions\":3,\"similarity\":\"euclidean\"},"
    "\"who\":{\"type\":\"object\",\"objectIndexConfigs\":{\"name\":{\"type\":\"keyword\"},"
    "\"bio\":{\"type\":\"text\"}}}}}";

struct model_doc {
    char id[64];
    uint64_t seq;
    int64_t time_ms;
    int n_title, n_tag, n_year, n_name, n_bio;
    char *title[MODEL_VALUES], *bio[MODEL_VALUES], *tag[MODEL_VALUES], *name[MODEL_VALUES];
    int64_t year[MODEL_VALUES];
    bool has_price, has_ok, has_when, has_emb, ok;
    double price;
    int64_t when;
    float emb[MODEL_DIMENSIONS];
    char *raw;
    size_t raw_len;
};

static uint64_t model_state = 1;
__attribute__((unused)) static void model_seed(uint64_t seed) {
    model_state = seed * 0x9e3779b97f4a7c15ull + 1;
}
static uint32_t model_random(uint32_t n) {
    model_state ^= model_state << 13;
    model_state ^= model_state >> 7;
    model_state ^= model_state << 17;
    return (uint32_t)((model_state >> 16) % n);
}

static char *model_text(unsigned n_words) {
    static const char *const words[] = {"whale",   "whales",     "sea",       "the",
                                        "running", "Runner's",   "caf\u00e9", "Ahab",
                                        "ship",    "and",        "of",        "a1",
                                        "\u9be8",  "na\u00efve", "oceans",    "ocean",
                                        "hunted",  "in",         "1851",      "\u0442\u0435\u0441\u0442"};
    struct buf b = BUF_INIT;
    for (unsigned i = 0; i < n_words; i++) {
        if (i) buf_addc(&b, model_random(9) ? ' ' : ',');
        buf_adds(&b, words[model_random(1 + model_random(ARRAY_SIZE(words)))]);
        if (!model_random(4)) buf_printf(&b, "%u", model_random(300));
    }
    buf_str(&b);
    return (char *)buf_detach(&b, NULL);
}

static char *model_keyword(void) {
    struct buf b = BUF_INIT;
    unsigned kind = model_random(12);
    if (kind == 0)
        buf_adds(&b, "");
    else if (kind == 1)
        buf_printf(&b, "\u00fc\u4e2d %u", model_random(50));
    else if (kind == 2) {
        for (unsigned i = 0; i < 300; i++) buf_adds(&b, "long ");
        buf_printf(&b, "%u", model_random(9));
    } else
        buf_printf(&b, "tag-%u", model_random(1 + model_random(400)));
    buf_str(&b);
    return (char *)buf_detach(&b, NULL);
}

static int model_count(void) {
    return model_random(3) ? 1 : (int)model_random(MODEL_VALUES + 1);
}

static void model_strings(struct buf *b, const char *key, char **values, int n) {
    if (!n && model_random(2)) return;
    buf_printf(b, ",\"%s\":", key);
    if (!n) buf_adds(b, model_random(2) ? "null" : "[]");
    if (n == 1 && model_random(2))
        buf_add_json_string(b, values[0], strlen(values[0]));
    else if (n) {
        for (int i = 0; i < n; i++) {
            buf_addc(b, i ? ',' : '[');
            buf_add_json_string(b, values[i], strlen(values[i]));
            if (!model_random(5)) buf_adds(b, ",null");
        }
        buf_addc(b, ']');
    }
}

static void model_render(struct model_doc *d) {
    struct buf b = BUF_INIT;
    char text[TIME_TEXT_SIZE];
    buf_adds(&b, "{\"id\":");
    buf_add_json_string(&b, d->id, strlen(d->id));
    model_strings(&b, "tag", d->tag, d->n_tag);
    if (d->n_year == 1) buf_printf(&b, ", \"year\" : %lld", (long long)d->year[0]);
    for (int i = 0; d->n_year > 1 && i < d->n_year; i++)
        buf_printf(&b, "%s%lld%s", i ? "," : ",\"year\":[", (long long)d->year[i],
                   i + 1 == d->n_year ? "]" : "");
    model_strings(&b, "title", d->title, d->n_title);
    if (d->has_price) buf_printf(&b, ",\"price\":%.17g", d->price);
    if (d->has_ok) buf_printf(&b, ",\"ok\":%s", d->ok ? "true" : "\"false\"");
    if (d->has_when) time_to_iso(d->when, text), buf_printf(&b, ",\"when\":\"%s\"", text);
    if (d->has_emb)
        buf_printf(&b, ",\"emb\":[%.9g,%.9g,%.9g]", (double)d->emb[0], (double)d->emb[1], (double)d->emb[2]);
    int n = MAX(d->n_name, d->n_bio); /* an array of objects, flattened */
    for (int i = 0; i < n; i++) {
        buf_adds(&b, i ? ",{\"x\":1" : ",\"who\":[{\"x\":0");
        if (i < d->n_name) model_strings(&b, "name", &d->name[i], 1);
        if (i < d->n_bio) model_strings(&b, "bio", &d->bio[i], 1);
        buf_addc(&b, '}');
    }
    if (n) buf_addc(&b, ']');
    buf_adds(&b, ",\"unindexed\":{\"a\":[1,2,{}]}}");
    d->raw_len = b.len;
    buf_str(&b);
    d->raw = (char *)buf_detach(&b, NULL);
}

static void model_doc_make(struct model_doc *d, const char *id, uint64_t seq) {
    memset(d, 0, sizeof *d);
    snprintf(d->id, sizeof d->id, "%s", id);
    d->seq = seq;
    d->time_ms = 1700000000000 + (int64_t)seq * 10 + model_random(10);
    d->n_title = model_count();
    for (int i = 0; i < d->n_title; i++)
        d->title[i] = model_text(model_random(500) ? model_random(12) : 6000);
    d->n_bio = model_random(2) ? 0 : model_count();
    for (int i = 0; i < d->n_bio; i++) d->bio[i] = model_text(model_random(5));
    d->n_tag = model_count();
    for (int i = 0; i < d->n_tag; i++) d->tag[i] = model_keyword();
    d->n_name = model_random(3) ? 0 : model_count();
    for (int i = 0; i < d->n_name; i++) d->name[i] = model_keyword();
    d->n_year = model_count();
    for (int i = 0; i < d->n_year; i++)
        d->year[i] = model_random(50) ? 1900 + (int64_t)model_random(120) : (int64_t)(model_state * 3);
    d->has_price = model_random(4);
    d->price = model_random(2) ? model_random(1000) * 0.25 : -1.0 / (1 + model_random(100));
    d->has_ok = model_random(2);
    d->ok = model_random(2);
    d->has_when = model_random(20);
    d->when = (int64_t)model_random(20000) * 86400000;
    d->has_emb = model_random(3);
    for (int i = 0; i < MODEL_DIMENSIONS; i++) d->emb[i] = (float)model_random(1000) / 7.0f - 50.0f;
    model_render(d);
}

static void model_doc_release(struct model_doc *d) {
    for (int i = 0; i < MODEL_VALUES; i++) {
        free(d->title[i]);
        free(d->bio[i]);
        free(d->tag[i]);
        free(d->name[i]);
    }
    free(d->raw);
}

/* n documents, ids ascending, sequence numbers in random order from `seq` on. */
static struct model_doc *model_docs(size_t n, unsigned id_step, uint64_t seq) {
    struct model_doc *docs = xcalloc(n, sizeof *docs);
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        char id[64];
        at += 1 + model_random(id_step);
        snprintf(id, sizeof id, "%s%08llu", at % 7 ? "doc/" : "doc\xc3\xa9-", (unsigned long long)at);
        snprintf(id, sizeof id, "doc-%08llu%s", (unsigned long long)at, at % 5 ? "" : "\u00e9");
        model_doc_make(&docs[i], id, seq + (i * 7919) % n);
    }
    return docs;
}

__attribute__((unused)) static void model_docs_free(struct model_doc *docs, size_t n) {
    for (size_t i = 0; i < n; i++) model_doc_release(&docs[i]);
    free(docs);
}

/* ---- the model's dump ---- */

struct model_posting {
    const char *term;
    size_t len;
    uint32_t docno, position;
};
struct model_field {
    struct model_posting *postings;
    size_t n, cap;
    struct arena arena;
    uint32_t n_docs, *lengths;
    uint64_t ttf;
};

static void model_add(struct model_field *f, const char *term, size_t len, uint32_t docno,
                      uint32_t position) {
    VEC_GROW(f->postings, f->n, f->cap);
    f->postings[f->n++] = (struct model_posting){arena_strndup(&f->arena, term, len), len, docno, position};
    if (!f->lengths[docno]++) f->n_docs++;
    f->ttf++;
}

static int model_posting_order(const void *a, const void *b) {
    const struct model_posting *x = a, *y = b;
    size_t n = MIN(x->len, y->len);
    int c = memcmp(x->term, y->term, n);
    if (!c) c = (x->len > y->len) - (x->len < y->len);
    if (!c) c = (x->docno > y->docno) - (x->docno < y->docno);
    return c ? c : (x->position > y->position) - (x->position < y->position);
}

static void dump_terms(struct model_field *f, bool text, struct buf *out) {
    if (f->n) qsort(f->postings, f->n, sizeof *f->postings, model_posting_order);
    for (size_t i = 0; i < f->n;) {
        const struct model_posting *t = &f->postings[i];
        buf_printf(out, " term '%.*s':", (int)t->len, t->term);
        size_t end = i;
        for (;
             end < f->n && f->postings[end].len == t->len && !memcmp(f->postings[end].term, t->term, t->len);
             end++) {
            const struct model_posting *p = &f->postings[end];
            if (end == i || p->docno != p[-1].docno) buf_printf(out, " %u", p->docno);
            if (text) buf_printf(out, "@%u", p->position);
        }
        buf_addc(out, '\n');
        i = end;
    }
}

static void model_dump_text(const struct model_doc *const *docs, size_t n, const char *path, enum analyzer a,
                            struct buf *out) {
    struct model_field f = {.lengths = xcalloc(n, sizeof *f.lengths)};
    struct analyzer_state *state = analyzer_new(a);
    for (size_t d = 0; d < n; d++) {
        bool title = path[0] == 't', bio = path[0] == 'w';
        char *const *values = title ? docs[d]->title : docs[d]->bio;
        uint32_t base = 0;
        for (int i = 0; i < (title ? docs[d]->n_title : bio ? docs[d]->n_bio : 0); i++) {
            const struct token *tokens;
            size_t n_tokens;
            uint32_t last = base;
            analyze(state, values[i], strlen(values[i]), &tokens, &n_tokens, NULL);
            for (size_t k = 0; k < n_tokens; k++) {
                last = base + tokens[k].position + 1;
                model_add(&f, tokens[k].text, tokens[k].len, (uint32_t)d, last - 1);
            }
            base = last + 100;
        }
    }
    buf_printf(out, "text %s/%d docs=%u ttf=%llu norms=", path, (int)a, f.n_docs, (unsigned long long)f.ttf);
    for (size_t d = 0; d < n; d++)
        if (f.lengths[d]) buf_printf(out, "%zu:%u ", d, norm_encode(f.lengths[d]));
    buf_addc(out, '\n');
    dump_terms(&f, true, out);
    analyzer_free(state);
    arena_release(&f.arena);
    free(f.postings);
    free(f.lengths);
}

static void model_dump_keyword(const struct model_doc *const *docs, size_t n, const char *path,
                               struct buf *out) {
    struct model_field f = {.lengths = xcalloc(n, sizeof *f.lengths)};
    for (size_t d = 0; d < n; d++) {
        const struct model_doc *m = docs[d];
        char id[64], *id_values[] = {id};
        snprintf(id, sizeof id, "%s", m->id);
        bool is_id = path[0] == 'i', tag = path[0] == 't';
        char *const *values = is_id ? id_values : tag ? m->tag : m->name;
        for (int i = 0; i < (is_id ? 1 : tag ? m->n_tag : m->n_name); i++)
            model_add(&f, values[i], strlen(values[i]), (uint32_t)d, 0);
    }
    buf_printf(out, "keyword %s docs=%u\n", path, f.n_docs);
    dump_terms(&f, false, out);
    arena_release(&f.arena);
    free(f.postings);
    free(f.lengths);
}

static int model_i64_order(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int model_numbers(const struct model_doc *d, const char *path, int64_t *out) {
    switch (path[0]) {
    case 'y':
        memcpy(out, d->year, sizeof d->year);
        qsort(out, (size_t)d->n_year, sizeof *out, model_i64_order);
        return d->n_year;
    case 'p':
        return *out = double_to_sortable(d->price), d->has_price;
    case 'o':
        return *out = d->ok, d->has_ok;
    default:
        return *out = d->when, d->has_when;
    }
}

static void model_dump_number(const struct model_doc *const *docs, size_t n, const char *path,
                              struct buf *out) {
    int64_t v[MODEL_VALUES];
    uint32_t n_docs = 0;
    for (size_t d = 0; d < n; d++) n_docs += model_numbers(docs[d], path, v) > 0;
    buf_printf(out, "number %s docs=%u\n", path, n_docs);
    for (size_t d = 0; d < n; d++)
        for (int i = 0, k = model_numbers(docs[d], path, v); i < k; i++)
            buf_printf(out, " %zu:%lld", d, (long long)v[i]);
    buf_addc(out, '\n');
}

__attribute__((unused)) static void model_dump(const struct model_doc *const *docs, size_t n,
                                               struct buf *out) {
    uint64_t sum = 0;
    for (size_t d = 0; d < n; d++) {
        const struct model_doc *m = docs[d];
        sum += segment_doc_hash(m->id, strlen(m->id), m->seq);
        buf_printf(out, "doc %zu '%s' seq=%llu time=%lld size=%zu %s\n", d, m->id, (unsigned long long)m->seq,
                   (long long)m->time_ms, m->raw_len, m->raw);
    }
    buf_printf(out, "sum %llx\n", (unsigned long long)sum);
    model_dump_text(docs, n, "title", ANALYZER_STANDARD, out);
    model_dump_text(docs, n, "title", ANALYZER_ENGLISH, out);
    model_dump_text(docs, n, "who.bio", ANALYZER_STANDARD, out);
    model_dump_text(docs, n, "never", ANALYZER_STANDARD, out);
    model_dump_keyword(docs, n, "id", out);
    model_dump_keyword(docs, n, "tag", out);
    model_dump_keyword(docs, n, "who.name", out);
    model_dump_number(docs, n, "year", out);
    model_dump_number(docs, n, "price", out);
    model_dump_number(docs, n, "ok", out);
    model_dump_number(docs, n, "when", out);
    buf_adds(out, "vectors\n");
    for (size_t d = 0; d < n; d++)
        if (docs[d]->has_emb)
            buf_printf(out, " %zu: %a %a %a\n", d, (double)docs[d]->emb[0], (double)docs[d]->emb[1],
                       (double)docs[d]->emb[2]);
}

/* ---- the segment's dump: 0 or an error ---- */

static int dump_postings(const struct segment_field *f, const struct term_info *info, bool text,
                         struct buf *out, struct err *err) {
    struct postings p;
    uint32_t df = 0;
    uint64_t ttf = 0;
    int r = postings_open(&p, f, info, text, text, err);
    if (r) return r;
    while (postings_next(&p) != DOCNO_NONE) {
        buf_printf(out, " %u", p.doc);
        df++;
        if (!text) continue;
        uint32_t freq = postings_freq(&p);
        const uint32_t *positions = postings_positions(&p);
        for (uint32_t i = 0; i < freq; i++) buf_printf(out, "@%u", positions[i]);
        ttf += freq;
    }
    postings_close(&p);
    if (df != info->df || (text && ttf != info->ttf))
        buf_printf(out, " WRONG df %u ttf %llu", info->df, (unsigned long long)info->ttf);
    buf_addc(out, '\n');
    return 0;
}

static int dump_field_terms(const struct segment_field *f, bool text, struct buf *out, struct err *err) {
    struct term_iter it;
    int r = term_iter_open(&it, f, "", 0, err), k = 0;
    if (r) return r;
    while (!r && (k = term_iter_next(&it, err)) == 1) {
        buf_printf(out, " term '%.*s':", (int)it.term.len, (const char *)it.term.data);
        r = dump_postings(f, &it.info, text, out, err);
    }
    term_iter_close(&it);
    return r ? r : k;
}

static int dump_exists(const struct segment_field *f, uint32_t d, bool *ret, struct err *err) {
    const uint64_t *exists;
    int r = segment_field_exists(f, &exists, err);
    *ret = !r && (!exists || bitmap_get(exists, d));
    return r;
}

static int dump_text(const struct segment *s, const char *path, enum analyzer a, struct buf *out,
                     struct err *err) {
    const struct segment_field *f = segment_field(s, path, strlen(path), FIELD_TEXT, a);
    struct field_stats stats;
    const uint8_t *norms;
    bool exists;
    segment_field_stats(f, &stats);
    int r = text_norms(f, &norms, err);
    buf_printf(out, "text %s/%d docs=%u ttf=%llu norms=", path, (int)a, stats.n_docs,
               (unsigned long long)stats.sum_ttf);
    for (uint32_t d = 0; !r && d < segment_n_docs(s); d++) {
        r = dump_exists(f, d, &exists, err);
        if (exists != (norms[d] != 0)) buf_adds(out, "WRONG ");
        if (norms[d]) buf_printf(out, "%u:%u ", d, norms[d]);
    }
    buf_addc(out, '\n');
    return r ? r : dump_field_terms(f, true, out, err);
}

static int dump_keyword(const struct segment *s, const char *path, struct buf *out, struct err *err) {
    const struct segment_field *f = segment_field(s, path, strlen(path), FIELD_KEYWORD, 0);
    struct field_stats stats;
    const struct column *c;
    segment_field_stats(f, &stats);
    buf_printf(out, "keyword %s docs=%u\n", path, stats.n_docs);
    int r = dump_field_terms(f, false, out, err);
    if (!r) r = column_open(f, &c, err);
    if (r) return r;
    /* The column must say the same as the postings. */
    uint64_t pairs = 0, df = 0;
    struct term_iter it;
    for (uint32_t d = 0; d < segment_n_docs(s); d++) pairs += column_count(c, d);
    r = term_iter_open(&it, f, "", 0, err);
    if (r) return r;
    while (term_iter_next(&it, err) == 1) {
        struct postings p;
        if (postings_open(&p, f, &it.info, false, false, err)) break;
        while (postings_next(&p) != DOCNO_NONE) {
            bool found = false;
            for (uint32_t i = 0; i < column_count(c, p.doc); i++)
                found |= (uint64_t)column_value(c, p.doc, i) == it.info.ord;
            if (!found) buf_adds(out, "WRONG ord\n");
            df++;
        }
        postings_close(&p);
    }
    term_iter_close(&it);
    if (df != pairs) buf_adds(out, "WRONG number of ords\n");
    return 0;
}

static int dump_number(const struct segment *s, const char *path, enum field_type type, struct buf *out,
                       struct err *err) {
    const struct segment_field *f = segment_field(s, path, strlen(path), type, 0);
    struct field_stats stats;
    const struct column *c;
    bool exists;
    segment_field_stats(f, &stats);
    int r = column_open(f, &c, err);
    buf_printf(out, "number %s docs=%u\n", path, stats.n_docs);
    for (uint32_t d = 0; !r && d < segment_n_docs(s); d++) {
        r = dump_exists(f, d, &exists, err);
        if (exists != (column_count(c, d) > 0)) buf_adds(out, "WRONG existence");
        for (uint32_t i = 0; i < column_count(c, d); i++)
            buf_printf(out, " %u:%lld", d, (long long)column_value(c, d, i));
    }
    buf_addc(out, '\n');
    return r;
}

static int dump_documents(const struct segment *s, struct buf *out, struct err *err) {
    struct buf doc = BUF_INIT, id = BUF_INIT;
    uint64_t sum = 0;
    int r = 0;
    for (uint32_t d = 0; !r && d < segment_n_docs(s); d++) {
        uint64_t seq = 0;
        int64_t time_ms = 0;
        uint32_t size = 0;
        buf_clear(&doc);
        buf_clear(&id);
        r = segment_id(s, d, &id, err);
        if (!r) r = segment_doc(s, d, &doc, err);
        if (!r) r = segment_seq(s, d, &seq, &time_ms, err);
        if (!r) r = segment_doc_size(s, d, &size, err);
        if (r) break;
        sum += segment_doc_hash((char *)id.data, id.len, seq);
        buf_printf(out, "doc %u '%.*s' seq=%llu time=%lld size=%u ", d, (int)id.len, (char *)id.data,
                   (unsigned long long)seq, (long long)time_ms, size);
        buf_add(out, doc.data, doc.len);
        buf_addc(out, '\n');
    }
    buf_release(&doc);
    buf_release(&id);
    if (!r && sum != s->summary.checksum_sum) buf_adds(out, "WRONG checksum sum\n");
    buf_printf(out, "sum %llx\n", (unsigned long long)sum);
    return r;
}

static int dump_vectors(const struct segment *s, struct buf *out, struct err *err) {
    struct vectors v;
    int r = vectors_open(segment_field(s, "emb", 3, FIELD_VECTOR, 0), &v, err);
    buf_adds(out, "vectors\n");
    for (uint32_t i = 0; !r && i < v.n; i++) {
        const float *row = v.rows + (size_t)i * v.dimensions;
        buf_printf(out, " %u: %a %a %a\n", v.docs[i], (double)row[0], (double)row[1], (double)row[2]);
    }
    return r;
}

__attribute__((unused)) static int dump_segment(const struct segment *s, struct buf *out, struct err *err) {
    int r = dump_documents(s, out, err);
    if (!r) r = dump_text(s, "title", ANALYZER_STANDARD, out, err);
    if (!r) r = dump_text(s, "title", ANALYZER_ENGLISH, out, err);
    if (!r) r = dump_text(s, "who.bio", ANALYZER_STANDARD, out, err);
    if (!r) r = dump_text(s, "never", ANALYZER_STANDARD, out, err);
    if (!r) r = dump_keyword(s, "id", out, err);
    if (!r) r = dump_keyword(s, "tag", out, err);
    if (!r) r = dump_keyword(s, "who.name", out, err);
    if (!r) r = dump_number(s, "year", FIELD_LONG, out, err);
    if (!r) r = dump_number(s, "price", FIELD_DOUBLE, out, err);
    if (!r) r = dump_number(s, "ok", FIELD_BOOLEAN, out, err);
    if (!r) r = dump_number(s, "when", FIELD_DATETIME, out, err);
    return r ? r : dump_vectors(s, out, err);
}

/* Compares; at a difference prints where the two part. */
__attribute__((unused)) static bool same_dump(struct buf *want, struct buf *have) {
    if (want->len == have->len && !memcmp(want->data, have->data, want->len)) return true;
    size_t i = 0, from;
    while (i < want->len && i < have->len && want->data[i] == have->data[i]) i++;
    from = i > 200 ? i - 200 : 0;
    fprintf(stderr, "want: ...%.*s\nhave: ...%.*s\n", (int)MIN(want->len - from, (size_t)400),
            (char *)want->data + from, (int)MIN(have->len - from, (size_t)400), (char *)have->data + from);
    return false;
}

/* ---- making segments ---- */

static int model_write(struct schema *schema, const struct model_doc *const *docs, size_t n,
                       struct blob_writer *out, uint64_t *size, uint32_t *checksum, struct err *err) {
    struct segment_writer *w = segment_writer_new(schema, out);
    struct segment_summary summary;
    int r = 0;
    for (size_t i = 0; !r && i < n; i++)
        r = segment_writer_add(w, docs[i]->id, strlen(docs[i]->id), docs[i]->seq, docs[i]->time_ms,
                               docs[i]->raw, docs[i]->raw_len, err);
    if (!r) r = segment_writer_finish(w, &summary, size, checksum, err);
    segment_writer_free(w);
    return r;
}

static int model_open_memory(struct blob_writer *out, struct segment **ret, struct err *err) {
    struct blob *blob;
    size_t len;
    uint8_t *data = buf_detach(&out->mem, &len);
    int r = blob_open_memory(data, len, BLOB_KIND_SEGMENT, &blob, err);
    return r ? r : segment_open(blob, ret, err);
}

__attribute__((unused)) static int model_segment(struct schema *schema, const struct model_doc *const *docs,
                                                 size_t n, struct segment **ret, struct err *err) {
    struct blob_writer out;
    uint64_t size;
    uint32_t checksum;
    blob_writer_init(&out, -1, BLOB_KIND_SEGMENT);
    int r = model_write(schema, docs, n, &out, &size, &checksum, err);
    if (!r) r = model_open_memory(&out, ret, err);
    blob_writer_release(&out);
    return r;
}

__attribute__((unused)) static const struct model_doc **model_pointers(const struct model_doc *docs,
                                                                       size_t n) {
    const struct model_doc **p = xcalloc(n, sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = &docs[i];
    return p;
}
