/* Managed vector fields of records that are being written.
 *
 *   upsert, source has text            the vector is made and put into the document
 *   upsert, source is missing or blank the document has no vector
 *   update that names the source       the patch carries the new vector, or null when the text is gone
 *   update that does not               the vector stays
 *   a vector comes along               refused; but the one that is stored already may come back (a document
 * is read, edited and written): it stays when the text is the same, else it is made anew
 *
 * What is logged has the vector in it, so building, restoring and rebuilding never ask the provider.
 */
#include "fn/embed.h"
#include "fn/writer_internal.h"

#include <stdio.h>

enum {
    GROUP_VALUES = 1 << 20, /* numbers in the vectors of one group */
    GROUP_MIN = 16,
    DEADLINE_S = 60, /* of one group, with all its attempts */
    DOWN_S = 10,     /* so long after a failure of the provider the session does not ask again */
};

/* What becomes of one field of one record. */
struct plan {
    struct item *item;
    const struct field *field;
    bool clear; /* no vector: null is written */
    size_t job; /* else the vector of this job */
};
struct embedding_run {
    struct ingest *in;
    struct plan *plans;
    struct embed_job *jobs;
    size_t n_plans, n_jobs;
};

size_t ingest_embed_group(const struct schema *s) {
    size_t values = 0;
    for (uint32_t i = 0; i < s->n_fields; i++)
        if (s->fields[i].embedding) values += s->fields[i].dimensions;
    return values ? MAX(GROUP_VALUES / values, (size_t)GROUP_MIN) : SIZE_MAX;
}

/* ---- the source text ---- */

/* Several strings (an array, objects in an array) are lines of one text. */
static void gather(const struct jval *v, const char *path, struct buf *out) {
    if (!v) return;
    if (v->type == JVAL_ARRAY) {
        for (const struct jval *e = v->first; e; e = e->next) gather(e, path, out);
    } else if (path && v->type == JVAL_OBJECT) {
        const char *dot = strchr(path, '.');
        gather(jval_get(v, path, dot ? (size_t)(dot - path) : strlen(path)), dot ? dot + 1 : NULL, out);
    } else if (!path && v->type == JVAL_STRING) {
        if (out->len) buf_addc(out, '\n');
        buf_add(out, v->str, v->count);
    }
}

/* False: there is nothing but white space. */
static bool source_text(const struct jval *doc, const struct field *f, struct buf *out) {
    buf_clear(out);
    gather(doc, f->embedding->source, out);
    for (size_t i = 0; i < out->len; i++)
        if (!memchr(" \t\r\n", out->data[i], 4)) return true;
    return false;
}

static bool names_source(const struct jval *doc, const struct field *f) {
    return jval_get(doc, f->embedding->source, strcspn(f->embedding->source, "."));
}

/* ---- a vector that comes along ---- */

static bool same_vector(const struct jval *a, const struct jval *b) {
    if (!b || a->type != JVAL_ARRAY || b->type != JVAL_ARRAY || a->count != b->count) return false;
    a = a->first;
    b = b->first;
    for (; a; a = a->next, b = b->next) {
        if (a->type != JVAL_NUMBER || b->type != JVAL_NUMBER) return false;
        if ((float)jval_number(a) != (float)jval_number(b)) return false;
    }
    return true;
}

/* The document as it is stored; *ret NULL: there is none. */
static int stored(struct ingest *in, const struct item *it, struct arena *arena, struct jval **ret,
                  struct err *err) {
    uint32_t part, docno;
    struct buf raw = BUF_INIT;
    *ret = NULL;
    int r = ingest_view(in, err);
    if (!r) r = view_find(in->view, it->id, it->id_len, &part, &docno, err);
    if (r || part == in->view->n_parts) return r;
    r = segment_doc(in->view->parts[part].segment, docno, &raw, err);
    char *text = arena_strndup(arena, (const char *)raw.data, raw.len);
    if (!r) r = jval_parse(arena, text, raw.len, ret, err);
    buf_release(&raw);
    return r;
}

static int own_refused(const struct field *f, struct err *err) {
    return err_set(err, ERR_JSON, "field \"%.80s\": its vector is made from \"%.80s\": leave it out", f->path,
                   f->embedding->source);
}

/* *ret_keep: it is the stored one, of the same text. */
static int check_own(struct ingest *in, const struct item *it, const struct field *f, const struct jval *own,
                     const struct buf *text, bool *ret_keep, struct err *err) {
    struct jval *doc;
    struct buf was = BUF_INIT;
    struct arena arena = ARENA_INIT;
    int r = stored(in, it, &arena, &doc, err);
    if (!r && (!doc || !same_vector(own, jval_get(doc, f->path, f->path_len)))) {
        r = own_refused(f, err);
    } else if (!r) {
        source_text(doc, f, &was);
        bool same = was.len == text->len && (!was.len || !memcmp(was.data, text->data, was.len));
        *ret_keep = same;
    }
    buf_release(&was);
    arena_release(&arena);
    return r;
}

/* ---- planning ---- */

static void add_plan(struct embedding_run *run, struct item *it, const struct field *f,
                     const struct buf *text) {
    struct plan *p = &run->plans[run->n_plans++];
    *p = (struct plan){.item = it, .field = f, .clear = !text};
    if (!text) return;
    p->job = run->n_jobs++;
    run->jobs[p->job] =
        (struct embed_job){.field = f,
                           .text = arena_strndup(&run->in->arena, (const char *)text->data, text->len),
                           .len = text->len};
}

static int plan_field(struct embedding_run *run, struct item *it, const struct field *f, struct buf *text) {
    struct ingest *in = run->in;
    const struct jval *own = jval_get(it->doc, f->path, f->path_len);
    bool update = in->op == INGEST_UPDATE, keep = false;
    bool due = !update || names_source(it->doc, f), any = source_text(it->doc, f, text);
    if (own && !due) return own_refused(f, &it->err);
    if (own && own->type != JVAL_NULL) {
        int r = check_own(in, it, f, own, text, &keep, &it->err);
        if (r) return r;
    }
    if (!due || keep) return 0;
    if (any)
        add_plan(run, it, f, text);
    else if (update || own)
        add_plan(run, it, f, NULL);
    return 0;
}

/* A patch of a document that is not there costs no embedding. */
static int check_exists(struct ingest *in, struct item *it) {
    uint32_t part, docno;
    int r = ingest_view(in, &it->err);
    if (!r) r = view_find(in->view, it->id, it->id_len, &part, &docno, &it->err);
    if (!r && part == in->view->n_parts)
        r = err_set(&it->err, ERR_NOT_FOUND, "no document with id \"%.*s\"", err_shown(it->id, it->id_len),
                    it->id);
    return r;
}

static void plan_item(struct embedding_run *run, struct item *it) {
    const struct schema *s = run->in->schema;
    size_t plans = run->n_plans, jobs = run->n_jobs;
    struct buf text = BUF_INIT;
    int r = schema_check(s, it->doc, NULL, &it->err);
    for (uint32_t i = 0; i < s->n_fields && !r; i++)
        if (s->fields[i].embedding) r = plan_field(run, it, &s->fields[i], &text);
    if (!r && run->n_jobs > jobs && run->in->op == INGEST_UPDATE) r = check_exists(run->in, it);
    if (r) {
        run->n_plans = plans;
        run->n_jobs = jobs;
    }
    buf_release(&text);
}

/* ---- applying ---- */

/* Puts the member into the object, in the place of the one that is there. */
static int set_member(struct ingest *in, struct item *it, const struct field *f, const struct buf *value) {
    struct jval *doc;
    struct buf out = BUF_INIT;
    struct arena arena = ARENA_INIT;
    int r = jval_parse(&arena, it->body, it->body_len, &doc, &it->err);
    if (r) goto out;
    const struct jval *own = jval_get(doc, f->path, f->path_len);
    const char *end = it->body + it->body_len, *from = own ? own->raw : end - 1,
               *to = own ? from + own->raw_len : from;
    buf_reserve(&out, it->body_len + value->len + f->path_len + 16);
    buf_add(&out, it->body, (size_t)(from - it->body));
    if (!own) {
        buf_adds(&out, doc->count ? "," : "");
        buf_add_json_string(&out, f->path, f->path_len);
        buf_addc(&out, ':');
    }
    buf_add(&out, value->data, value->len);
    buf_add(&out, to, (size_t)(end - to));
    it->body = arena_strndup(&in->arena, (const char *)out.data, out.len);
    it->body_len = out.len;
    if (it->body_len > DOC_MAX_BYTES)
        r = err_set(&it->err, ERR_TOO_LARGE,
                    "with its vectors the document has %zu bytes, at most %d are allowed", it->body_len,
                    DOC_MAX_BYTES);
out:
    buf_release(&out);
    arena_release(&arena);
    return r;
}

static void write_vector(const float *v, uint32_t n, struct buf *out) {
    char number[32];
    buf_addc(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        int len = snprintf(number, sizeof number, "%s%.9g", i ? "," : "", (double)v[i]);
        buf_add(out, number, (size_t)len);
    }
    buf_addc(out, ']');
}

static void apply(struct embedding_run *run, const struct plan *p, struct buf *value) {
    struct item *it = p->item;
    if (it->err.code) return;
    buf_clear(value);
    if (p->clear) {
        buf_adds(value, "null");
    } else if (run->jobs[p->job].vector) {
        write_vector(run->jobs[p->job].vector, p->field->dimensions, value);
    } else {
        it->err = run->jobs[p->job].err;
        if (it->err.code == ERR_INVALID) it->err.code = ERR_JSON; /* this record cannot be used */
        err_wrap(&it->err, "field \"%.80s\"", p->field->path);
        return;
    }
    set_member(run->in, it, p->field, value);
}

/* ---- the provider ---- */

static bool is_down(enum err_code code) {
    return code == ERR_UNREACHABLE || code == ERR_TIMEOUT || code == ERR_BAD_KEY || code == ERR_NO_KEY ||
           code == ERR_QUOTA;
}

/* A session that streams a large file must not wait out every attempt again for each piece of it. */
static void ask(struct embedding_run *run) {
    struct ingest *in = run->in;
    int64_t now = clock_mono_us(&clock_system);
    if (in->down.code && now < in->down_until_us) {
        for (size_t i = 0; i < run->n_jobs; i++) run->jobs[i].err = in->down;
        return;
    }
    embed_jobs(in->coll->core, run->jobs, run->n_jobs, now + DEADLINE_S * 1000000LL, NULL, &in->arena);
    err_clear(&in->down);
    for (size_t i = 0; i < run->n_jobs && !in->down.code; i++)
        if (is_down(run->jobs[i].err.code)) in->down = run->jobs[i].err;
    in->down_until_us = clock_mono_us(&clock_system) + DOWN_S * 1000000LL;
}

void ingest_embed(struct ingest *in, struct item *items, size_t n) {
    size_t fields = 0;
    for (uint32_t i = 0; i < in->schema->n_fields; i++) fields += in->schema->fields[i].embedding != NULL;
    if (!fields || in->op == INGEST_DELETE) return;
    struct embedding_run run = {.in = in,
                                .plans = xcalloc(n * fields + 1, sizeof *run.plans),
                                .jobs = xcalloc(n * fields + 1, sizeof *run.jobs)};
    for (size_t i = 0; i < n; i++)
        if (!items[i].err.code) plan_item(&run, &items[i]);
    view_unref(in->view); /* what is appended is looked up again after the wait */
    in->view = NULL;
    if (run.n_jobs) ask(&run);
    struct buf value = BUF_INIT;
    for (size_t i = 0; i < run.n_plans; i++) apply(&run, &run.plans[i], &value);
    buf_release(&value);
    free(run.plans);
    free(run.jobs);
}
