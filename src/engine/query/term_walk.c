/* Automata over ordered dictionaries. */
#include "query/term_walk.h"
#include "query/docset.h"

enum { TERMS_PER_POLL = 1024, NEAR_TERMS = 16, CHAR_LAST = 0x10ffff };

/* A state and how many bytes of the term led to it; c: the last character. */
struct frame {
    int32_t state;
    uint32_t end, c;
};
struct walk {
    const struct term_walk *w;
    struct term_iter it;
    struct frame *frames; /* frames[0]: nothing read */
    uint32_t n, cap;
    struct buf last, target;
    uint64_t seen;
};

uint32_t utf8_next(const uint8_t *s, const uint8_t *end, uint32_t *ret_len) {
    uint32_t c = *s, n = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    *ret_len = 1;
    if (n == 1 || n > (size_t)(end - s)) return c;
    c &= 0xff >> (n + 1);
    for (uint32_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return *s;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c > CHAR_LAST) return *s;
    *ret_len = n;
    return c;
}

static void add_char(struct buf *b, uint32_t c) {
    if (c >= 0x80) {
        unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
        buf_addc(b, (char)(lead[more] | c >> (6 * more)));
        while (more--) buf_addc(b, (char)(0x80 | (c >> (6 * more) & 0x3f)));
    } else {
        buf_addc(b, (char)c);
    }
}

static void push(struct walk *k, int32_t state, uint32_t end, uint32_t c) {
    VEC_GROW(k->frames, k->n, k->cap);
    k->frames[k->n++] = (struct frame){state, end, c};
}

/* Keeps the states of the characters that the term shares with the one before. */
static void keep_shared(struct walk *k) {
    size_t n = MIN(k->last.len, k->it.term.len), shared = 0;
    while (shared < n && k->last.data[shared] == k->it.term.data[shared]) shared++;
    while (k->n > 1 && k->frames[k->n - 1].end > shared) k->n--;
    buf_clear(&k->last);
    buf_add(&k->last, k->it.term.data, k->it.term.len);
}

/* Reads the rest of the term. *ret_alive false: *ret_c is the character that nothing goes on with. */
static int read_term(struct walk *k, bool *ret_alive, uint32_t *ret_c, struct err *err) {
    struct term_matcher *m = k->w->matcher;
    const uint8_t *data = k->it.term.data, *end = data + k->it.term.len;
    uint32_t epoch = m->epoch, len, restarts = 0;
    *ret_alive = false;
    while (k->frames[k->n - 1].end < k->it.term.len) {
        const struct frame *top = &k->frames[k->n - 1];
        uint32_t c = utf8_next(data + top->end, end, &len), at = top->end;
        int32_t state = m->ops->step(m, top->state, c);
        if (m->epoch != epoch) {
            if (restarts++) return err_set(err, ERR_INVALID, "the expression is too complex for long terms");
            epoch = m->epoch;
            k->n = 1;
            continue;
        }
        *ret_c = c;
        if (state == TERM_DEAD) return 0;
        push(k, state, at + len, c);
    }
    *ret_alive = true;
    return 0;
}

/* The least string behind all that begin with the frames' characters and c, that can still match. False:
 * none. */
static bool find_target(struct walk *k, uint32_t c) {
    struct term_matcher *m = k->w->matcher;
    for (uint32_t i = k->n; i-- > 0;) {
        const struct frame *f = &k->frames[i];
        uint32_t next;
        if (i + 1 < k->n) c = k->frames[i + 1].c;
        if (c >= CHAR_LAST || !m->ops->next(m, f->state, c + 1, &next)) continue;
        buf_clear(&k->target);
        buf_add(&k->target, k->it.term.data, f->end);
        add_char(&k->target, next);
        return true;
    }
    return false;
}

static bool below(const struct buf *a, const struct buf *b) {
    int r = memcmp(a->data, b->data, MIN(a->len, b->len));
    return r ? r < 0 : a->len < b->len;
}

/* To the first term that is not below the target: by some steps, else by search. As term_iter_next. */
static int go_to_target(struct walk *k, struct err *err) {
    int r;
    for (int i = 0; i < NEAR_TERMS; i++)
        if ((r = term_iter_next(&k->it, err)) != 1 || !below(&k->it.term, &k->target)) return r;
    term_iter_close(&k->it);
    r = term_iter_open(&k->it, k->w->field, (const char *)k->target.data, k->target.len, err);
    return r ? r : term_iter_next(&k->it, err);
}

static int walk_terms(struct walk *k, struct err *err) {
    struct term_matcher *m = k->w->matcher;
    uint32_t c = 0;
    int r = term_iter_next(&k->it, err);
    while (r == 1) {
        keep_shared(k);
        bool alive;
        if ((r = read_term(k, &alive, &c, err))) return r;
        if (alive && m->ops->accepts(m, k->frames[k->n - 1].state))
            r = k->w->visit(k->w->ctx, &k->it, k->frames[k->n - 1].state, err);
        if (!r && ++k->seen % TERMS_PER_POLL == 0) r = search_poll(k->w->cancel, err);
        if (r) return r;
        if (!alive && !find_target(k, c)) return 0;
        r = alive ? term_iter_next(&k->it, err) : go_to_target(k, err);
    }
    return r;
}

int term_walk(const struct term_walk *w, struct err *err) {
    struct walk k = {.w = w};
    int r = term_iter_open(&k.it, w->field, "", 0, err);
    if (r) return r;
    buf_reserve(&k.last, 1);
    push(&k, 0, 0, 0);
    r = walk_terms(&k, err);
    term_iter_close(&k.it);
    free(k.frames);
    buf_release(&k.last);
    buf_release(&k.target);
    return r;
}
