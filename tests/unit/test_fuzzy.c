/* Fuzzy words, regular expressions and wildcards against naive references on random words, for every division
 * of the same documents into segments and ranges, with updates and deletes: equal matches and bit-equal
 * scores. */
#include "corpus.h"
#include "query/fuzzy.h"
#include "query/regex.h"
#include <math.h>

enum { N_DOCS = 240, N_VOCABULARY = 420, MAX_WORDS = 6, MAX_CHARS = 8, MAX_WORD_BYTES = 40 };

static const char *const letters[] = {"a", "b", "c", "\xc3\xa9", "\xd0\xb6", "d"};
static char vocabulary[N_VOCABULARY][MAX_WORD_BYTES];

static void random_word(char *out, uint32_t min, uint32_t max, uint32_t n_letters) {
    out[0] = '\0';
    for (uint32_t n = min + corpus_rnd(max - min + 1); n; n--) strcat(out, letters[corpus_rnd(n_letters)]);
}

/* ---- documents: their words are what the references see ---- */

struct words {
    char id[16], json[900], stale[900];
    uint32_t n, words[MAX_WORDS];
    bool dead;
};
static struct words docs[N_DOCS];
static struct corpus_index layouts[3];
static struct schema *schema;
static struct err err;

static void write_json(const char *id, const uint32_t *words, uint32_t n, char *out) {
    char list[400] = "", text[400] = "";
    for (uint32_t i = 0; i < n; i++) {
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s\"%s\"", i ? "," : "",
                 vocabulary[words[i]]);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "", vocabulary[words[i]]);
    }
    snprintf(out, 900, "{\"id\":\"%s\",\"t\":\"%s\",\"k\":[%s]}", id, text, list);
}

static bool set_up(void) {
    static const char json[] = "{\"indexConfigs\":{\"t\":{\"type\":\"text\"},\"k\":{\"type\":\"keyword\"}}}";
    static struct corpus_doc list[N_DOCS];
    static const uint32_t n_segments[] = {1, 3, 7};
    if (layouts[0].n) return true;
    if (schema_parse(json, strlen(json), &schema, &err)) return false;
    for (uint32_t i = 0; i < N_VOCABULARY; i++) random_word(vocabulary[i], 1, MAX_CHARS - 1, i % 3 ? 3 : 6);
    for (uint32_t i = 0; i < N_DOCS; i++) {
        struct words *d = &docs[i];
        snprintf(d->id, sizeof d->id, "d%03u", i);
        d->n = corpus_rnd(MAX_WORDS + 1);
        for (uint32_t w = 0; w < d->n; w++)
            d->words[w] = MIN(corpus_rnd(N_VOCABULARY), corpus_rnd(N_VOCABULARY));
        write_json(d->id, d->words, d->n, d->json);
        uint32_t old[2] = {corpus_rnd(N_VOCABULARY), corpus_rnd(N_VOCABULARY)};
        write_json(d->id, old, 2, d->stale);
        d->dead = corpus_rnd(6) == 0;
        list[i] = (struct corpus_doc){d->id, d->json, d->dead, corpus_rnd(4) == 0 ? d->stale : NULL};
    }
    for (int l = 0; l < 3; l++)
        if (!corpus_build(&layouts[l], schema, list, N_DOCS, n_segments[l])) return false;
    return true;
}

/* ---- references ---- */

static uint32_t chars_of(const char *s, uint32_t *out) {
    uint32_t n = 0, len;
    const uint8_t *p = (const uint8_t *)s, *end = p + strlen(s);
    for (; p < end; p += len) out[n++] = utf8_next(p, end, &len);
    return n;
}

/* The whole table of the optimal string alignment. */
static uint32_t distance(const char *a, const char *b) {
    uint32_t x[64], y[64], m = chars_of(a, x), n = chars_of(b, y), d[64][64];
    for (uint32_t i = 0; i <= m; i++) d[i][0] = i;
    for (uint32_t j = 0; j <= n; j++) d[0][j] = j;
    for (uint32_t i = 1; i <= m; i++)
        for (uint32_t j = 1; j <= n; j++) {
            d[i][j] = MIN(MIN(d[i - 1][j], d[i][j - 1]) + 1, d[i - 1][j - 1] + (x[i - 1] != y[j - 1]));
            if (i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1])
                d[i][j] = MIN(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[m][n];
}

static uint32_t count_word(const struct words *d, const char *word) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n; i++) n += !strcmp(vocabulary[d->words[i]], word);
    return n;
}

static uint32_t live_df(const char *word) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_DOCS; i++) n += !docs[i].dead && count_word(&docs[i], word);
    return n;
}

struct candidate {
    const char *word;
    float boost;
    uint32_t df;
};
static int by_boost(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->boost != y->boost ? (x->boost > y->boost ? -1 : 1) : strcmp(x->word, y->word);
}
static int by_word(const void *a, const void *b) {
    return strcmp(((const struct candidate *)a)->word, ((const struct candidate *)b)->word);
}

/* The best 50 in byte order. */
static uint32_t expand(const char *word, uint32_t edits, struct candidate *out) {
    uint32_t n = 0, chars[64], len = chars_of(word, chars);
    for (uint32_t i = 0; i < N_VOCABULARY; i++) {
        uint32_t df = live_df(vocabulary[i]), d = distance(word, vocabulary[i]), seen = 0;
        for (uint32_t k = 0; k < n; k++) seen |= !strcmp(out[k].word, vocabulary[i]);
        if (!df || d > edits || seen) continue;
        float share = (float)d / (float)MIN(len, chars_of(vocabulary[i], chars));
        out[n++] = (struct candidate){vocabulary[i], d ? 1.0f - share : 1.0f, df};
    }
    qsort(out, n, sizeof *out, by_boost);
    n = MIN(n, 50u);
    qsort(out, n, sizeof *out, by_word);
    return n;
}

/* k: the keyword field, where a repeated value counts once and lengths do not matter. */
static float bm25(const struct words *d, const char *word, uint32_t df, float boost, bool k) {
    double n = 0, ttf = 0;
    uint32_t distinct = 0;
    for (uint32_t i = 0; i < N_DOCS; i++) {
        if (docs[i].dead || !docs[i].n) continue;
        n++;
        distinct = 0;
        for (uint32_t w = 0; w < docs[i].n; w++) {
            bool first = true;
            for (uint32_t v = 0; v < w; v++)
                first &= strcmp(vocabulary[docs[i].words[v]], vocabulary[docs[i].words[w]]) != 0;
            distinct += first;
        }
        ttf += k ? distinct : docs[i].n;
    }
    float avgdl = (float)(ttf / n), k1 = 1.2f, b = 0.75f, dl = k ? 1.0f : (float)d->n;
    float tf = k ? 1.0f : (float)count_word(d, word), bdl = b * dl, ratio = bdl / avgdl,
          sum = (1.0f - b) + ratio;
    float norm = k1 * sum, inverse = 1.0f / norm;
    float idf = (float)log(1 + (n - (double)df + 0.5) / ((double)df + 0.5)), weight = boost * idf;
    float scaled = tf * inverse, below = 1.0f + scaled, rest = weight / below;
    return weight - rest;
}

/* ---- comparison ---- */

struct expected {
    const char *id;
    float score;
};
static int by_score(const void *a, const void *b) {
    const struct expected *x = a, *y = b;
    return x->score != y->score ? (x->score > y->score ? -1 : 1) : strcmp(x->id, y->id);
}

static bool same_hits(const struct search_result *r, const struct expected *e, uint32_t n, uint32_t want) {
    if (r->total != n || r->n_hits != MIN(n, want))
        return fprintf(stderr, "total %u, expected %u\n", (unsigned)r->total, n), false;
    for (uint32_t i = 0; i < r->n_hits; i++) {
        const struct search_hit *h = &r->hits[i];
        if (h->id_len == strlen(e[i].id) && !memcmp(h->id, e[i].id, h->id_len) &&
            !memcmp(&h->score, &e[i].score, 4))
            continue;
        return fprintf(stderr, "hit %u: %.*s %.9g, expected %s %.9g\n", i, (int)h->id_len, h->id,
                       (double)h->score, e[i].id, (double)e[i].score),
               false;
    }
    return true;
}

/* In every layout, whole and in ranges. */
static bool check(const char *text, struct expected *e, uint32_t n) {
    struct query *q = NULL;
    bool ok = true;
    qsort(e, n, sizeof *e, by_score);
    if (query_compile_text(text, strlen(text), schema, &q, &err))
        return fprintf(stderr, "%s: %s\n", text, err.text), false;
    q->needs_scores = true;
    for (int i = 0; i < 6 && ok; i++) {
        struct search_result r = {0};
        uint32_t want = i % 2 ? N_DOCS : 10;
        ok = !corpus_search(&layouts[i / 2], q, i % 2, want, &r, &err) && same_hits(&r, e, n, want);
        if (!ok) fprintf(stderr, "%s in layout %d\n", text, i);
        search_result_release(&r);
    }
    query_free(q);
    return ok;
}

static bool check_fuzzy(const char *word, uint32_t edits, float boost, bool k, uint32_t *ret_terms) {
    struct candidate terms[N_VOCABULARY];
    struct expected e[N_DOCS];
    char text[100];
    uint32_t n_terms = expand(word, edits, terms), df = 0, n = 0;
    for (uint32_t t = 0; t < n_terms; t++) df = MAX(df, terms[t].df);
    for (uint32_t i = 0; i < N_DOCS; i++) {
        double sum = 0;
        bool match = false;
        for (uint32_t t = 0; t < n_terms && !docs[i].dead; t++) {
            if (!count_word(&docs[i], terms[t].word)) continue;
            float scaled = boost * (terms[t].boost > 0 ? terms[t].boost : 0);
            match = true;
            sum += (double)bm25(&docs[i], terms[t].word, df, scaled, k);
        }
        if (match) e[n++] = (struct expected){docs[i].id, (float)sum};
    }
    snprintf(text, sizeof text, "%s:%s~%u^%g", k ? "k" : "t", word, edits, (double)boost);
    *ret_terms = n_terms;
    return check(text, e, n);
}

TEST(fuzzy_words) {
    uint32_t full = 0, none = 0;
    CHECK(set_up());
    for (int i = 0; i < 150; i++) {
        char word[MAX_WORD_BYTES];
        uint32_t n_terms;
        random_word(word, 1, i % 5 ? 6 : 12, i % 2 ? 6 : 3);
        CHECK(check_fuzzy(word, 1 + corpus_rnd(2), i % 3 ? 1 : 2.5f, i % 2, &n_terms));
        full += n_terms == 50;
        none += !n_terms;
    }
    CHECK(full > 10 && none > 0);
}

/* A matcher that is walked over sorted strings by hand gives the distance of the table. */
TEST(fuzzy_matcher) {
    for (int i = 0; i < 30000; i++) {
        char word[MAX_WORD_BYTES], term[MAX_WORD_BYTES];
        uint32_t chars[64], edits = 1 + corpus_rnd(2), n;
        struct fuzzy_matcher m;
        int32_t state = 0;
        random_word(word, 1, 6, 4);
        random_word(term, 0, 8, 4);
        fuzzy_matcher_init(&m, word, strlen(word), edits);
        n = chars_of(term, chars);
        for (uint32_t c = 0; c < n && state != TERM_DEAD; c++) {
            uint32_t next;
            bool more = m.base.ops->next(&m.base, state, chars[c], &next);
            int32_t to = m.base.ops->step(&m.base, state, chars[c]);
            CHECK(more ? (next == chars[c]) == (to != TERM_DEAD) : to == TERM_DEAD);
            state = to;
        }
        bool accepted = state != TERM_DEAD && m.base.ops->accepts(&m.base, state);
        uint32_t d = distance(word, term);
        CHECK(accepted == (d <= edits));
        CHECK(!accepted || fuzzy_distance(&m, state) == d);
        fuzzy_matcher_release(&m);
    }
}

/* Lucene's floatToEdits. */
TEST(fuzzy_edit_counts) {
    CHECK(fuzzy_edits(2, "abcd", 4) == 2 && fuzzy_edits(1, "abcd", 4) == 1 && fuzzy_edits(3, "abcd", 4) == 2);
    CHECK(fuzzy_edits(0, "abcd", 4) == 0 && fuzzy_edits(0.5f, "abcd", 4) == 2 &&
          fuzzy_edits(0.8f, "abcd", 4) == 0);
    CHECK(fuzzy_edits(0.7f, "abcd", 4) == 1 && fuzzy_edits(0.8f, "abcdefghij", 10) == 1);
    CHECK(fuzzy_edits(0.1f, "abcdefghij", 10) == 2 && fuzzy_edits(0.5f, "\xc3\xa9\xc3\xa9", 4) == 1);
}

TEST(fuzzy_in_booleans) {
    struct expected e[N_DOCS];
    uint32_t n = 0;
    CHECK(set_up());
    for (uint32_t i = 0; i < N_DOCS; i++) {
        bool near = false;
        struct candidate terms[N_VOCABULARY];
        uint32_t n_terms = i ? 0 : expand("abcab", 1, terms);
        static bool close_word[N_VOCABULARY];
        for (uint32_t t = 0; t < n_terms; t++)
            for (uint32_t v = 0; v < N_VOCABULARY; v++)
                close_word[v] |= !strcmp(vocabulary[v], terms[t].word);
        for (uint32_t w = 0; w < docs[i].n; w++) near |= close_word[docs[i].words[w]];
        if (!docs[i].dead && !near) e[n++] = (struct expected){docs[i].id, 1};
    }
    CHECK(n > 0 && n < N_DOCS);
    CHECK(check("*:* -t:abcab~1", e, n));
    CHECK(check("*:* -k:abcab~1 -t:abcab~1", e, n));
}

/* ---- expressions: a random tree, printed, and matched by sets of end positions ---- */

enum kind { CHARS, ANY, CONCAT, UNION, REPEAT, INTER, NOT };
struct tree {
    enum kind kind;
    uint32_t chars[4], n_chars; /* CHARS */
    bool negated;
    struct tree *a, *b;
    uint32_t min, max; /* REPEAT; max 99: open */
};

static struct tree *random_tree(struct arena *arena, int depth) {
    struct tree *t = arena_zalloc(arena, sizeof *t);
    static const enum kind kinds[] = {CHARS, CHARS, ANY, CONCAT, CONCAT, UNION, REPEAT, REPEAT, INTER, NOT};
    t->kind = kinds[corpus_rnd(depth ? ARRAY_SIZE(kinds) : 3)];
    if (t->kind == CHARS) {
        t->n_chars = 1 + (corpus_rnd(3) == 0) * (1 + corpus_rnd(2));
        for (uint32_t i = 0; i < t->n_chars; i++) {
            uint32_t one[4];
            chars_of(letters[corpus_rnd(6)], one);
            t->chars[i] = one[0];
        }
        t->negated = t->n_chars > 1 && corpus_rnd(3) == 0;
    }
    if (t->kind >= CONCAT) t->a = random_tree(arena, depth - 1);
    if (t->kind == CONCAT || t->kind == UNION || t->kind == INTER) t->b = random_tree(arena, depth - 1);
    if (t->kind == REPEAT) {
        t->min = corpus_rnd(3);
        t->max = corpus_rnd(2) ? 99 : t->min + corpus_rnd(3);
    }
    return t;
}

static void print_char(struct buf *out, uint32_t c) {
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t one[4];
        chars_of(letters[i], one);
        if (one[0] == c) buf_adds(out, letters[i]);
    }
}

static void print_tree(const struct tree *t, struct buf *out) {
    switch (t->kind) {
    case CHARS:
        if (t->n_chars > 1) buf_adds(out, t->negated ? "[^" : "[");
        for (uint32_t i = 0; i < t->n_chars; i++) print_char(out, t->chars[i]);
        if (t->n_chars > 1) buf_addc(out, ']');
        break;
    case ANY:
        buf_addc(out, '.');
        break;
    case NOT:
        buf_adds(out, "~(");
        print_tree(t->a, out);
        buf_addc(out, ')');
        break;
    case CONCAT:
    case UNION:
    case INTER:
        buf_addc(out, '(');
        print_tree(t->a, out);
        if (t->kind != CONCAT) buf_addc(out, t->kind == UNION ? '|' : '&');
        print_tree(t->b, out);
        buf_addc(out, ')');
        break;
    case REPEAT:
        buf_addc(out, '(');
        print_tree(t->a, out);
        buf_addc(out, ')');
        if (t->max == 99 && t->min < 2)
            buf_addc(out, t->min ? '+' : '*');
        else if (t->max == 99)
            buf_printf(out, "{%u,}", t->min);
        else if (!t->min && t->max == 1)
            buf_addc(out, '?');
        else if (t->min == t->max)
            buf_printf(out, "{%u}", t->min);
        else
            buf_printf(out, "{%u,%u}", t->min, t->max);
        break;
    }
}

/* Bits of the places where a match can end that begins at one of `from`. */
static uint64_t ends(const struct tree *t, const uint32_t *s, uint32_t n, uint64_t from) {
    uint64_t out = 0, now = from;
    switch (t->kind) {
    case ANY:
    case CHARS:
        for (uint32_t i = 0; i < n; i++) {
            bool in = t->kind == ANY;
            for (uint32_t c = 0; c < t->n_chars; c++) in |= t->chars[c] == s[i];
            if (from >> i & 1 && in != t->negated) out |= 2ull << i;
        }
        return out;
    case CONCAT:
        return ends(t->b, s, n, ends(t->a, s, n, from));
    case UNION:
        return ends(t->a, s, n, from) | ends(t->b, s, n, from);
    case REPEAT:
        for (uint32_t i = 0; i < t->min; i++) now = ends(t->a, s, n, now);
        out = now;
        for (uint32_t i = t->min; i < MIN(t->max, t->min + n + 1); i++) out |= now = ends(t->a, s, n, now);
        return out;
    case INTER:
    case NOT:
        for (uint32_t i = 0; i <= n; i++) {
            uint64_t one = from & 1ull << i, behind = (2ull << n) - (1ull << i);
            if (!one) continue;
            out |= t->kind == NOT ? behind & ~ends(t->a, s, n, one)
                                  : ends(t->a, s, n, one) & ends(t->b, s, n, one);
        }
        return out;
    }
    return 0;
}

static bool tree_matches(const struct tree *t, const char *word) {
    uint32_t s[64], n = chars_of(word, s);
    return ends(t, s, n, 1) >> n & 1;
}

TEST(expressions) {
    uint32_t some = 0;
    CHECK(set_up());
    for (int i = 0; i < 600; i++) {
        struct arena arena = ARENA_INIT;
        struct tree *t = random_tree(&arena, 4);
        struct buf text = BUF_INIT;
        struct expected e[N_DOCS];
        uint32_t n = 0;
        buf_adds(&text, i % 2 ? "k:/" : "t:/");
        print_tree(t, &text);
        buf_adds(&text, "/^2");
        for (uint32_t d = 0; d < N_DOCS; d++) {
            bool match = false;
            for (uint32_t w = 0; w < docs[d].n; w++) match |= tree_matches(t, vocabulary[docs[d].words[w]]);
            if (match && !docs[d].dead) e[n++] = (struct expected){docs[d].id, 2};
        }
        bool ok = check(buf_str(&text), e, n);
        some += n > 0 && n < N_DOCS / 2;
        buf_release(&text);
        arena_release(&arena);
        CHECK(ok);
    }
    CHECK(some > 100);
}

/* ---- numbers between two ---- */

static bool regex_accepts(const char *text, const char *word) {
    struct arena arena = ARENA_INIT;
    struct regex_matcher m;
    uint64_t work = REGEX_WORK;
    size_t at;
    const char *why;
    int32_t state = 0;
    const struct regex *x = regex_compile(&arena, text, strlen(text), NULL, NULL, &work, &at, &why);
    if (!x) fprintf(stderr, "%s: %s\n", text, why), abort();
    regex_matcher_init(&m, x);
    for (; *word && state != TERM_DEAD; word++) state = m.base.ops->step(&m.base, state, (uint8_t)*word);
    bool ok = state != TERM_DEAD && m.base.ops->accepts(&m.base, state);
    regex_matcher_release(&m);
    arena_release(&arena);
    return ok;
}

/* Equal widths: exactly so many digits; else any zeros before it. The smaller number may be the second. */
TEST(intervals) {
    for (uint32_t i = 0; i < 3000; i++) {
        char text[64], word[24];
        int width = corpus_rnd(2) ? (int)corpus_rnd(6) : 0, wide = corpus_rnd(2) ? (int)corpus_rnd(6) : 0;
        uint32_t a = corpus_rnd(corpus_rnd(2) ? 20 : 3000), b = corpus_rnd(corpus_rnd(2) ? 20 : 3000);
        uint32_t v = corpus_rnd(3) ? a + corpus_rnd(3) - (a > 0) : corpus_rnd(3100);
        sprintf(text, "<%0*u-%0*u>", width, a, width, b);
        sprintf(word, "%0*u", corpus_rnd(2) ? width : wide, v);
        size_t n_a = strcspn(text + 1, "-"), n_b = strlen(text) - n_a - 3;
        bool between = v >= MIN(a, b) && v <= MAX(a, b);
        bool ok = regex_accepts(text, word) == (between && (n_a != n_b || strlen(word) == n_a));
        if (!ok) fprintf(stderr, "%s %s\n", text, word);
        CHECK(ok);
    }
    CHECK(regex_accepts("<0-999999999999999999>", "0999999999999999999"));
    CHECK(!regex_accepts("<0-999999999999999999>", "1000000000000000000") && !regex_accepts("<1-20>", ""));
    CHECK(regex_accepts("a<8-11>{2}b", "a108b") && !regex_accepts("a<8-11>{2}b", "a127b"));
}

/* ---- wildcards ---- */

static bool wild(const char *p, const char *s) {
    uint32_t len;
    if (!*p) return !*s;
    if (*p == '*') return wild(p + 1, s) || (*s && wild(p, s + 1));
    if (!*s) return false;
    utf8_next((const uint8_t *)s, (const uint8_t *)s + strlen(s), &len);
    return *p == '?' ? wild(p + 1, s + len) : *p == *s && wild(p + 1, s + 1);
}

TEST(wildcards) {
    CHECK(set_up());
    for (int i = 0; i < 300; i++) {
        char text[100] = "k:";
        struct expected e[N_DOCS];
        uint32_t n = 0;
        for (uint32_t k = 1 + corpus_rnd(5); k; k--) {
            uint32_t which = corpus_rnd(5);
            strcat(text, which == 0 ? "*" : which < 3 ? "?" : letters[corpus_rnd(5)]);
        }
        for (uint32_t d = 0; d < N_DOCS; d++) {
            bool match = false;
            for (uint32_t w = 0; w < docs[d].n; w++) match |= wild(text + 2, vocabulary[docs[d].words[w]]);
            if (match && !docs[d].dead) e[n++] = (struct expected){docs[d].id, 1};
        }
        bool pattern = strpbrk(text, "*?");
        if (pattern) CHECK(check(text, e, n));
    }
}

/* An expression whose deterministic form is exponential, over words that would make a backtracker try every
 * way. */
TEST(hostile_expressions) {
    static const char *const texts[] = {"k:/(a|a)*(a|a)*(a|a)*(a|a)*d/",
                                        "k:/(.*a){12}b/",
                                        "k:/(a*)*(a*)*(a*)*c/",
                                        "k:/[ab]*a[ab]{20}c/",
                                        "k:/((a?){30}){30}b/",
                                        "k:/(((a{0,9}){0,9}){0,9})?d/",
                                        "k:/((){1000}){1000}/",
                                        "k:/~(~(~(.*a.{9}).*b).*a)/",
                                        "k:/(.*a.{7}&.*b.{8}&.*c.{6})*/",
                                        "k:/~(((a|b)*a(a|b){300})*)&~(.*b){40}/"};
    CHECK(set_up());
    for (uint32_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct query *q = NULL;
        struct search_result r = {0};
        int c = query_compile_text(texts[i], strlen(texts[i]), schema, &q, &err);
        CHECK(!c || (c == -ERR_INVALID && strstr(err.text, "too ")));
        if (!c) CHECK_OK(corpus_search(&layouts[1], q, true, 10, &r, &err));
        search_result_release(&r);
        query_free(q);
    }
}

TEST(clean_up) {
    for (int i = 0; i < 3; i++) corpus_release(&layouts[i]);
    schema_unref(schema);
}
