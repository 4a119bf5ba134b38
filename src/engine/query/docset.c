/* Evaluates constant-score clauses to bitmaps, through columns where they are contiguous and else through
 * postings. */
#include "query/docset.h"
#include "query/regex.h"

enum { POLL_POSTINGS = 1 << 16, ORDS_BY_POSTINGS = 8 };

int search_poll(const volatile int *cancel, struct err *err) {
    int why = cancel ? __atomic_load_n(cancel, __ATOMIC_RELAXED) : 0;
    if (!why) return 0;
    if (why == 2) return err_set(err, ERR_TIMEOUT, "the query took longer than its time limit");
    return err_set(err, ERR_CANCELED, "the query was interrupted");
}

/* What one evaluation carries along. */
struct docset_job {
    const struct segment *segment;
    const struct segment_field *field;
    const struct query_node *node;
    uint32_t lo, hi;
    const volatile int *cancel;
    uint64_t *bits; /* allocated on the first document */
    uint64_t work;  /* postings and terms seen since the last poll */
    bool unread;    /* something was not there yet: see add_postings */
};

static size_t bitmap_words(uint32_t n_docs) {
    return ((size_t)n_docs + 63) / 64;
}

static uint64_t *job_bits(struct docset_job *job) {
    if (!job->bits) job->bits = xcalloc(bitmap_words(segment_n_docs(job->segment)) + 1, sizeof *job->bits);
    return job->bits;
}

static int job_poll(struct docset_job *job, uint64_t work, struct err *err) {
    job->work += work;
    if (job->work < POLL_POSTINGS) return 0;
    job->work = 0;
    return search_poll(job->cancel, err);
}

static int add_postings(struct docset_job *job, const struct term_info *info, struct err *err) {
    struct postings p;
    int r = postings_open(&p, job->field, info, false, false, err);
    if (r == -ERR_AGAIN) { /* a plan of what to fetch: on to what else there is */
        job->unread = true;
        return job_poll(job, 16, err);
    }
    if (r) return r;
    uint64_t *bits = job_bits(job), seen = 0;
    uint32_t doc = job->lo ? postings_advance(&p, job->lo) : postings_next(&p);
    for (; doc < job->hi; doc = postings_next(&p), seen++) bits[doc >> 6] |= 1ull << (doc & 63);
    postings_close(&p);
    return job_poll(job, seen, err);
}

/* ---- wildcards ---- */

static size_t char_len(const char *s, size_t left) {
    unsigned char c = (unsigned char)*s;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return MIN(n, left);
}

/* Matches one pattern item at pattern[*p] with text[*i]; moves both on success. */
static bool match_item(const char *pattern, size_t pattern_len, size_t *p, const char *text, size_t len,
                       size_t *i) {
    if (*p >= pattern_len) return false;
    if (pattern[*p] == '?') {
        *i += char_len(text + *i, len - *i);
        *p += 1;
        return true;
    }
    size_t quoted = pattern[*p] == '\\' && *p + 1 < pattern_len;
    if (pattern[*p + quoted] != text[*i]) return false;
    *p += 1 + quoted;
    *i += 1;
    return true;
}

bool wildcard_match(const char *pattern, size_t pattern_len, const char *text, size_t len) {
    size_t p = 0, i = 0, star = SIZE_MAX, mark = 0; /* after the last '*', and where the text stood */
    while (i < len) {
        if (p < pattern_len && pattern[p] == '*') {
            star = ++p;
            mark = i;
        } else if (!match_item(pattern, pattern_len, &p, text, len, &i)) {
            if (star == SIZE_MAX) return false;
            mark += char_len(text + mark, len - mark);
            p = star;
            i = mark;
        }
    }
    while (p < pattern_len && pattern[p] == '*') p++;
    return p == pattern_len;
}

/* The literal bytes every match starts with. */
static void wildcard_prefix(const struct query_term *pattern, struct buf *out) {
    for (uint32_t i = 0; i < pattern->len; i++) {
        char c = pattern->text[i];
        if (c == '*' || c == '?') return;
        if (c == '\\' && i + 1 < pattern->len) c = pattern->text[++i];
        buf_addc(out, c);
    }
}

static int add_match(void *ctx, const struct term_iter *it, int32_t state, struct err *err) {
    return add_postings(ctx, &it->info, err);
}

static int build_regex(struct docset_job *job, const struct regex *regex, struct err *err) {
    struct regex_matcher m;
    struct term_walk w = {job->field, &m.base, job->cancel, add_match, job};
    regex_matcher_init(&m, regex);
    int r = term_walk(&w, err);
    regex_matcher_release(&m);
    return r;
}

/* A "?" narrows what may follow, which the walk makes use of. False: no "?" before the first "*", or too
 * long. */
static bool walk_wildcard(struct docset_job *job, int *ret_r, struct err *err) {
    const struct query_term *pattern = &job->node->terms[0];
    const char *question = memchr(pattern->text, '?', pattern->len),
               *star = memchr(pattern->text, '*', pattern->len);
    struct arena arena = ARENA_INIT;
    if (!question || (star && star < question)) return false;
    const struct regex *regex = regex_of_wildcard(&arena, pattern->text, pattern->len);
    if (regex) *ret_r = build_regex(job, regex, err);
    arena_release(&arena);
    return regex;
}

static int build_wildcard(struct docset_job *job, struct err *err) {
    const struct query_term *pattern = &job->node->terms[0];
    struct buf prefix = BUF_INIT;
    struct term_iter it;
    int r;
    if (walk_wildcard(job, &r, err)) return r;
    wildcard_prefix(pattern, &prefix);
    r = term_iter_open(&it, job->field, (const char *)prefix.data, prefix.len, err);
    if (r) goto out;
    while ((r = term_iter_next(&it, err)) == 1) {
        if (it.term.len < prefix.len || (prefix.len && memcmp(it.term.data, prefix.data, prefix.len) != 0))
            break;
        if (wildcard_match(pattern->text, pattern->len, (const char *)it.term.data, it.term.len))
            r = add_postings(job, &it.info, err);
        else
            r = job_poll(job, 16, err);
        if (r < 0) break;
    }
    term_iter_close(&it);
out:
    buf_release(&prefix);
    return r < 0 ? r : 0;
}

/* ---- contiguous ranges of terms ---- */

/* Ordinal of the first term >= text, or > text when after is set. */
static int ord_ceil(const struct segment_field *field, const char *text, size_t len, bool after,
                    uint32_t *ret_ord, struct err *err) {
    struct term_iter it;
    int r = term_iter_open(&it, field, text, len, err);
    if (r) return r;
    r = term_iter_next(&it, err);
    if (r == 1 && after && it.term.len == len && (!len || memcmp(it.term.data, text, len) == 0))
        r = term_iter_next(&it, err);
    if (r >= 0) *ret_ord = r == 1 ? it.info.ord : term_count(field);
    term_iter_close(&it);
    return r < 0 ? r : 0;
}

/* Ordinal of the first term behind all that start with the prefix. */
static int ord_after_prefix(const struct segment_field *field, const char *text, size_t len,
                            uint32_t *ret_ord, struct err *err) {
    while (len && (unsigned char)text[len - 1] == 0xff) len--;
    if (!len) {
        *ret_ord = term_count(field);
        return 0;
    }
    char *next = xmalloc(len);
    memcpy(next, text, len);
    next[len - 1]++;
    int r = ord_ceil(field, next, len, false, ret_ord, err);
    free(next);
    return r;
}

static int ord_range(const struct docset_job *job, uint32_t *ret_lo, uint32_t *ret_hi, struct err *err) {
    const struct query_node *node = job->node;
    int r = 0;
    *ret_lo = 0;
    *ret_hi = term_count(job->field);
    if (node->kind == QUERY_PREFIX) {
        r = ord_ceil(job->field, node->terms[0].text, node->terms[0].len, false, ret_lo, err);
        if (!r) r = ord_after_prefix(job->field, node->terms[0].text, node->terms[0].len, ret_hi, err);
        return r;
    }
    if (node->lo_text)
        r = ord_ceil(job->field, node->lo_text, node->lo_len, !node->lo_inclusive, ret_lo, err);
    if (!r && node->hi_text)
        r = ord_ceil(job->field, node->hi_text, node->hi_len, node->hi_inclusive, ret_hi, err);
    return r;
}

static int add_ords(struct docset_job *job, uint32_t lo, uint32_t hi, struct err *err) {
    struct buf term = BUF_INIT;
    struct term_iter it;
    int r = term_by_ord(job->field, lo, &term, err);
    if (r) goto out;
    r = term_iter_open(&it, job->field, (const char *)term.data, term.len, err);
    if (r) goto out;
    while ((r = term_iter_next(&it, err)) == 1 && it.info.ord < hi) {
        r = add_postings(job, &it.info, err);
        if (r) break;
        r = job_poll(job, 16, err);
        if (r) break;
    }
    term_iter_close(&it);
out:
    buf_release(&term);
    return r < 0 ? r : 0;
}

static int build_ords(struct docset_job *job, struct err *err) {
    uint32_t lo, hi;
    int r = ord_range(job, &lo, &hi, err);
    if (r || lo >= hi) return r;
    if (job->node->type != FIELD_KEYWORD || hi - lo <= ORDS_BY_POSTINGS) return add_ords(job, lo, hi, err);
    const struct column *column;
    r = column_open(job->field, &column, err);
    if (!r) column_range(column, lo, (int64_t)hi - 1, job_bits(job));
    return r;
}

static int build_range(struct docset_job *job, struct err *err) {
    const struct column *column;
    if (job->node->lo > job->node->hi) return 0;
    int r = column_open(job->field, &column, err);
    if (!r) column_range(column, job->node->lo, job->node->hi, job_bits(job));
    return r;
}

static int build_exists(struct docset_job *job, struct docset *ret, struct err *err) {
    const uint64_t *bits;
    int r = segment_field_exists(job->field, &bits, err);
    if (r) return r;
    *ret = (struct docset){.bits = bits, .all = !bits};
    return 0;
}

int docset_build(const struct segment *segment, const struct query_node *node, uint32_t lo, uint32_t hi,
                 const volatile int *cancel, struct docset *ret, struct err *err) {
    struct docset_job job = {.segment = segment, .node = node, .lo = lo, .hi = hi, .cancel = cancel};
    struct docset set = {0};
    int r = search_poll(cancel, err);
    if (r) return r;
    job.field = segment_field(segment, node->field, strlen(node->field), node->type,
                              node->type == FIELD_TEXT ? node->analyzer : 0);
    if (job.field) {
        switch (node->kind) {
        case QUERY_RANGE:
            r = build_range(&job, err);
            break;
        case QUERY_TERM_RANGE:
        case QUERY_PREFIX:
            r = build_ords(&job, err);
            break;
        case QUERY_WILDCARD:
            r = build_wildcard(&job, err);
            break;
        case QUERY_REGEX:
            r = build_regex(&job, node->regex, err);
            break;
        case QUERY_EXISTS:
            r = build_exists(&job, &set, err);
            break;
        default:
            r = err_set(err, ERR_UNSUPPORTED, "this kind of clause on '%s' is not supported", node->field);
        }
    }
    if (!r && job.unread) r = err_set(err, ERR_AGAIN, "postings of '%s' are not read yet", node->field);
    if (r) {
        free(job.bits);
        return r;
    }
    if (job.bits) set = (struct docset){.bits = job.bits, .owned = job.bits};
    *ret = set;
    return 0;
}

void docset_release(struct docset *set) {
    free(set->owned);
    *set = (struct docset){0};
}
