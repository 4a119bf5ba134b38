/* Porter's stemmer as Lucene has it: a C rendering of the published algorithm (M. F. Porter, "An algorithm
 * for suffix stripping", Program 14(3), 1980) with the two changes of its author's later versions. */
#include "index/analyzer_internal.h"

struct stem {
    uint16_t *b;
    int k; /* the last letter */
    int j; /* the last letter before the suffix that `ends` found */
};

static bool consonant(const struct stem *z, int i) {
    bool negate = false;
    for (; i >= 0 && z->b[i] == 'y'; i--, negate = !negate) {
        if (i == 0) return !negate;
    }
    uint16_t c = z->b[i];
    bool is = c != 'a' && c != 'e' && c != 'i' && c != 'o' && c != 'u';
    return is != negate;
}

/* m: the number of vowel-consonant sequences in b[0..j]. */
static int measure(const struct stem *z) {
    int n = 0, i = 0;
    while (i <= z->j && consonant(z, i)) i++;
    for (;;) {
        while (i <= z->j && !consonant(z, i)) i++;
        if (i > z->j) return n;
        n++;
        while (i <= z->j && consonant(z, i)) i++;
        if (i > z->j) return n;
    }
}

static bool vowel_in_stem(const struct stem *z) {
    for (int i = 0; i <= z->j; i++)
        if (!consonant(z, i)) return true;
    return false;
}

static bool double_consonant(const struct stem *z, int i) {
    return i >= 1 && z->b[i] == z->b[i - 1] && consonant(z, i);
}

/* consonant-vowel-consonant ending at i, the last not w, x or y: "hop", not "snow". */
static bool cvc(const struct stem *z, int i) {
    if (i < 2 || !consonant(z, i) || consonant(z, i - 1) || !consonant(z, i - 2)) return false;
    return z->b[i] != 'w' && z->b[i] != 'x' && z->b[i] != 'y';
}

/* Inlined, so that the lengths of literal suffixes are constants. */
__attribute__((always_inline)) static inline bool ends_n(struct stem *z, const char *suffix, int n) {
    int at = z->k - n + 1;
    if (at < 0 || z->b[z->k] != (uint8_t)suffix[n - 1]) return false;
    for (int i = 0; i < n - 1; i++)
        if (z->b[at + i] != (uint8_t)suffix[i]) return false;
    z->j = z->k - n;
    return true;
}
#define ends(z, suffix) ends_n(z, suffix, (int)sizeof(suffix) - 1)

static void set_to(struct stem *z, const char *s) {
    int n = (int)strlen(s);
    for (int i = 0; i < n; i++) z->b[z->j + 1 + i] = (uint8_t)s[i];
    z->k = z->j + n;
}

/* Plurals, -ed and -ing. */
static void step1(struct stem *z) {
    if (z->b[z->k] == 's') {
        if (ends(z, "sses"))
            z->k -= 2;
        else if (ends(z, "ies"))
            set_to(z, "i");
        else if (z->b[z->k - 1] != 's')
            z->k--;
    }
    if (ends(z, "eed")) {
        if (measure(z) > 0) z->k--;
        return;
    }
    if (!(ends(z, "ed") || ends(z, "ing")) || !vowel_in_stem(z)) return;
    z->k = z->j;
    if (ends(z, "at"))
        set_to(z, "ate");
    else if (ends(z, "bl"))
        set_to(z, "ble");
    else if (ends(z, "iz"))
        set_to(z, "ize");
    else if (double_consonant(z, z->k)) {
        uint16_t c = z->b[z->k];
        if (c != 'l' && c != 's' && c != 'z') z->k--;
    } else if (measure(z) == 1 && cvc(z, z->k)) {
        set_to(z, "e");
    }
}

static void step2(struct stem *z) {
    if (ends(z, "y") && vowel_in_stem(z)) z->b[z->k] = 'i';
}

/* In this order; the first suffix that is there decides, whether or not the stem before it is long enough. */
#define RULE(z, suffix, to)                                                                                  \
    if (ends(z, suffix)) {                                                                                   \
        if (measure(z) > 0) set_to(z, to);                                                                   \
        return;                                                                                              \
    }

/* -ization to -ize and the like, by the last letter but one. */
static void step3(struct stem *z) {
    if (z->k == 0) return;
    switch (z->b[z->k - 1]) {
    case 'a':
        RULE(z, "ational", "ate") RULE(z, "tional", "tion") break;
    case 'c':
        RULE(z, "enci", "ence") RULE(z, "anci", "ance") break;
    case 'e':
        RULE(z, "izer", "ize") break;
    case 'l':
        RULE(z, "bli", "ble")
        RULE(z, "alli", "al")
        RULE(z, "entli", "ent")
        RULE(z, "eli", "e")
        RULE(z, "ousli", "ous")
        break;
    case 'o':
        RULE(z, "ization", "ize") RULE(z, "ation", "ate") RULE(z, "ator", "ate") break;
    case 's':
        RULE(z, "alism", "al")
        RULE(z, "iveness", "ive")
        RULE(z, "fulness", "ful")
        RULE(z, "ousness", "ous")
        break;
    case 't':
        RULE(z, "aliti", "al") RULE(z, "iviti", "ive") RULE(z, "biliti", "ble") break;
    case 'g':
        RULE(z, "logi", "log") break;
    }
}

/* -icate, -ful, -ness. */
static void step4(struct stem *z) {
    switch (z->b[z->k]) {
    case 'e':
        RULE(z, "icate", "ic") RULE(z, "ative", "") RULE(z, "alize", "al") break;
    case 'i':
        RULE(z, "iciti", "ic") break;
    case 'l':
        RULE(z, "ical", "ic") RULE(z, "ful", "") break;
    case 's':
        RULE(z, "ness", "") break;
    }
}

static bool any_suffix(struct stem *z) {
    switch (z->b[z->k - 1]) {
    case 'a':
        return ends(z, "al");
    case 'c':
        return ends(z, "ance") || ends(z, "ence");
    case 'e':
        return ends(z, "er");
    case 'i':
        return ends(z, "ic");
    case 'l':
        return ends(z, "able") || ends(z, "ible");
    case 'n':
        return ends(z, "ant") || ends(z, "ement") || ends(z, "ment") || ends(z, "ent");
    case 'o':
        if (ends(z, "ion")) return z->j >= 0 && (z->b[z->j] == 's' || z->b[z->j] == 't');
        return ends(z, "ou");
    case 's':
        return ends(z, "ism");
    case 't':
        return ends(z, "ate") || ends(z, "iti");
    case 'u':
        return ends(z, "ous");
    case 'v':
        return ends(z, "ive");
    case 'z':
        return ends(z, "ize");
    default:
        return false;
    }
}

/* -ant, -ence and the like behind two vowel-consonant sequences. */
static void step5(struct stem *z) {
    if (z->k > 0 && any_suffix(z) && measure(z) > 1) z->k = z->j;
}

/* A final -e, and -ll to -l. */
static void step6(struct stem *z) {
    z->j = z->k;
    if (z->b[z->k] == 'e') {
        int m = measure(z);
        if (m > 1 || (m == 1 && !cvc(z, z->k - 1))) z->k--;
    }
    if (z->b[z->k] == 'l' && double_consonant(z, z->k) && measure(z) > 1) z->k--;
}

size_t porter_stem(uint16_t *word, size_t n) {
    struct stem z = {.b = word, .k = (int)n - 1};
    if (n <= 2) return n;
    step1(&z);
    step2(&z);
    step3(&z);
    step4(&z);
    step5(&z);
    step6(&z);
    return (size_t)z.k + 1;
}
