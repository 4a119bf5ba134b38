/* libFuzzer: a regular expression and a text, NUL between them: compiled or refused with a place in it; the
 * matcher steps through the text and must agree with itself about what leads on. */
#include "query/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const struct regex *x, const uint8_t *s, const uint8_t *end) {
    struct regex_matcher m;
    int32_t state = 0;
    uint32_t len, next;
    regex_matcher_init(&m, x);
    for (; s < end && state != TERM_DEAD; s += len) {
        uint32_t c = utf8_next(s, end, &len), epoch = m.base.epoch;
        bool more = m.base.ops->next(&m.base, state, c, &next);
        int32_t to = m.base.ops->step(&m.base, state, c);
        bool leads_on = to != TERM_DEAD || m.base.epoch != epoch;
        bool surrogate = c >= 0xd800 && c < 0xe000;
        if (!surrogate && leads_on && (!more || next != c)) abort();
        if (more && next < c) abort();
        if (m.base.epoch != epoch) break;
        state = to;
    }
    if (state != TERM_DEAD) m.base.ops->accepts(&m.base, state);
    regex_matcher_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - data) : size, at = SIZE_MAX;
    struct arena arena = ARENA_INIT;
    const char *why = NULL;
    uint64_t work = REGEX_WORK / 50;
    const struct regex *x = regex_compile(&arena, (const char *)data, len, NULL, NULL, &work, &at, &why);
    if (x)
        run(x, nul ? nul + 1 : data, data + size);
    else if (!why || at > len)
        abort();
    x = regex_of_wildcard(&arena, (const char *)data, len);
    if (x) run(x, nul ? nul + 1 : data, data + size);
    arena_release(&arena);
    return 0;
}
