/* Korean without a dictionary: words lose their particle or verb ending and become pairs of syllables, which
 * find the parts of compounds that are written together. Other scripts are taken as the standard analyzer
 * does. */
#include "index/analyzer_internal.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

enum { SUFFIX_MAX = 5, SYLLABLE = 3 /* bytes */, STEM_MIN = 2 /* syllables */ };

/* By number of syllables: suffixes of one length, one after the other. */
static const char *const particles[SUFFIX_MAX + 1] = {
    [1] = "가과께나는도라란랑로를만며에와은을의이인일",
    [2] = "과는과의까지께서들과들도들로들에들은들을들의들이라고라는라도로는로도로서로써로의마다마저만을만의"
          "만이밖에보다부터에게에는에도에만에서에의였다였던와는와의으로이고이나이다이라이란이랑이며이자인가"
          "인지조차처럼하고한테",
    [3] = "까지는까지도까지의들에게로부터부터는부터의에게는에게서에서는에서도에서만에서의으로는으로도으로만"
          "으로서으로써으로의이라고이라는이라도이라면이었다이었던이지만인가요한테서",
    [4] = "으로부터",
};
/* Of verbs, of nouns with 하다, 되다, 시키다, and of the copula. */
static const char *const endings[SUFFIX_MAX + 1] = {
    [1] = "돼된될됨한할함해",
    [2] = "가요나요는가는다는데는지다고다는다며당한도록됐다됐던되게되고되기되는되다되던되며되면되어되자되지"
          "된다려고려는면서시켜시킨시킬아서아야았고았다았던았을어서어야었고었다었던었을예요으나으며으면은지"
          "을까을지적인지만하게하기하는하다하던하려하며하면하여하자하지한가한다해서해야했고했다했던했을했음",
    [3] = "는다고는다는는다면당하는당했다됐는가됐으며되는가되는데되도록되면서되어서되었고되었다되었던"
          "되었을되었음되지만된다고된다는됩니다습니다시켰다시키고시키는았는가았는데았다고았다는았으나았으며"
          "았으면았지만었는가었는데었다고었다는었으나었으며었으면었을까었지만였는데였다고였다는였지만으려고"
          "으려는으면서이에요입니까입니다적으로하고자하기도하기로하기를하기에하는가하는데하도록하려고하려는"
          "하면서하였고하였다하였던하였을하지는하지도하지만한다고한다는합니까합니다했는가했는데했다고했다는"
          "했으나했으며했지만",
    [4] = "됐습니다되었는가되었는데되었으며았습니다었습니다였습니다하였는가하였으나하였으며했습니다",
    [5] = "되었습니다이었습니다하였습니다",
};

static bool in_list(const char *list, const uint8_t *suffix, size_t size) {
    for (; list && *list; list += size)
        if (!memcmp(list, suffix, size)) return true;
    return false;
}

/* Takes the longest suffix off that leaves a stem of two syllables. Lengths in bytes. */
static size_t stem_len(const uint8_t *word, size_t len) {
    for (size_t n = SUFFIX_MAX; n > 0; n--) {
        size_t size = n * SYLLABLE;
        if (len < size + STEM_MIN * SYLLABLE) continue;
        const uint8_t *suffix = word + len - size;
        if (in_list(particles[n], suffix, size) || in_list(endings[n], suffix, size)) return len - size;
    }
    return len;
}

static bool is_particle(const uint8_t *word, size_t len) {
    size_t n = len / SYLLABLE;
    return n <= SUFFIX_MAX && in_list(particles[n], word, len);
}

/* U+AC00..U+D7A3 */
static bool is_syllable(const uint8_t *s, size_t left) {
    if (left < SYLLABLE || s[0] < 0xea || s[0] > 0xed) return false;
    uint32_t c = (uint32_t)(s[0] & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
    return c >= 0xac00 && c <= 0xd7a3;
}

static void add(struct analyzer_state *a, uint32_t *position, size_t start, size_t end) {
    const struct normal_piece *p = &a->piece;
    analyzer_add(a, (*position)++, p->from[start], normal_end(p, end), p->text.data + start, end - start);
}

static void add_hangul(struct analyzer_state *a, uint32_t *position, size_t start, size_t end,
                       bool attached) {
    const uint8_t *s = a->piece.text.data;
    if (attached && is_particle(s + start, end - start)) return;
    size_t stem = start + stem_len(s + start, end - start);
    if (stem - start == SYLLABLE) add(a, position, start, stem);
    for (size_t i = start; i + 2 * SYLLABLE <= stem; i += SYLLABLE) add(a, position, i, i + 2 * SYLLABLE);
}

/* A part of a word in other letters, without what joined it to the Hangul. False when nothing is left. */
static bool add_other(struct analyzer_state *a, uint32_t *position, size_t start, size_t end) {
    const uint8_t *s = a->piece.text.data;
    size_t first = end, last = start;
    for (size_t i = start; i < end;) {
        size_t at = i;
        UChar32 c;
        U8_NEXT(s, i, end, c);
        if (!u_isalnum(c) && !(U_GET_GC_MASK(c) & (U_GC_M_MASK | U_GC_SO_MASK | U_GC_N_MASK))) continue;
        first = MIN(first, at);
        last = i;
    }
    if (first >= last) return false;
    add(a, position, first, last);
    return true;
}

static void add_word(struct analyzer_state *a, uint32_t *position, size_t start, size_t end) {
    const uint8_t *s = a->piece.text.data;
    bool attached = false;
    for (size_t i = start, from; i < end;) {
        bool hangul = is_syllable(s + i, end - i);
        for (from = i; i < end && is_syllable(s + i, end - i) == hangul;) {
            if (hangul)
                i += SYLLABLE;
            else
                U8_FWD_1(s, i, end);
        }
        if (hangul)
            add_hangul(a, position, from, i, attached);
        else
            attached = add_other(a, position, from, i);
    }
}

void korean_piece(struct analyzer_state *a, uint32_t *position) {
    const struct buf *text = &a->piece.text;
    size_t pos = 0, start;
    bool ascii;
    while (word_next(text->data, text->len, &pos, &start, &ascii)) add_word(a, position, start, pos);
}
