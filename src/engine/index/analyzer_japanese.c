/* Japanese by MeCab and the IPA dictionary, in effect as Lucene's JapaneseAnalyzer: base forms, without
 * particles, auxiliaries, conjunctions, fillers, dependent words and symbols, katakana without a last long
 * mark.
 *
 * Two nouns that stand side by side, or have one particle between them, also give their compound, at the
 * position of the first: a question about it then finds it written together, and a text about it ranks above
 * one that has the two words apart. */
#include "index/analyzer_internal.h"
#include "util/codec.h"

#include <fcntl.h>
#include <mecab.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unicode/uchar.h>
#include <unicode/uversion.h>
#include <unicode/utf8.h>
#include <unistd.h>

enum { JAPANESE_RULES = 1 /* counts changes of this file's tokens */, FEATURE_BASE = 6 };

struct japanese {
    mecab_t *tagger;
    mecab_lattice_t *lattice;
    struct buf previous, word; /* the last noun, and a compound under construction */
};

/* ---- the dictionary: one for the process, never released ---- */

static mecab_model_t *model;
static pthread_once_t model_once = PTHREAD_ONCE_INIT;
static uint64_t fingerprint;
static pthread_once_t fingerprint_once = PTHREAD_ONCE_INIT;

/* With a dictionary named, no configuration file has a say: the same dictionary gives the same tokens. */
static mecab_model_t *load(const char *directory) {
    char *named[] = {"mecab", "-r", "/dev/null", "-M", "255", "-d", (char *)directory};
    char *configured[] = {"mecab", "-M", "255"};
    mecab_model_t *m = directory ? mecab_model_new(ARRAY_SIZE(named), named)
                                 : mecab_model_new(ARRAY_SIZE(configured), configured);
    if (!m) return NULL;
    const mecab_dictionary_info_t *info = mecab_model_dictionary_info(m);
    if (info && (!strcasecmp(info->charset, "UTF-8") || !strcasecmp(info->charset, "UTF8"))) return m;
    mecab_model_destroy(m);
    return NULL;
}

static void model_init(void) {
    static const char *const places[] = {"/var/lib/mecab/dic/ipadic-utf8", "/usr/share/mecab/dic/ipadic-utf8",
                                         "/usr/local/lib/mecab/dic/ipadic"};
    const char *chosen = getenv("LDBFS_MECAB_DIC");
    if (chosen) {
        model = load(chosen);
        return;
    }
    for (size_t i = 0; !model && i < ARRAY_SIZE(places); i++) model = load(places[i]);
    if (!model) model = load(NULL);
}

int japanese_check(struct err *err) {
    pthread_once(&model_once, model_init);
    if (model) return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "the japanese analyzer needs MeCab's IPA dictionary in UTF-8: install the package "
                   "mecab-ipadic-utf8, or name its directory in LDBFS_MECAB_DIC");
}

static uint32_t file_crc(uint32_t crc, const char *directory, size_t len, const char *name) {
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%.*s%s", (int)len, directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return crc;
    void *p = fstat(fd, &st) || !st.st_size ? MAP_FAILED
                                            : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return crc;
    crc = crc32c(crc, p, (size_t)st.st_size);
    munmap(p, (size_t)st.st_size);
    return crc;
}

/* The content of the dictionary counts, not where or when it was installed. */
static void fingerprint_init(void) {
    static const char *const files[] = {"sys.dic", "unk.dic", "matrix.bin", "char.bin"};
    if (japanese_check(NULL)) return;
    const mecab_dictionary_info_t *info = mecab_model_dictionary_info(model);
    const char *slash = strrchr(info->filename, '/');
    size_t len = slash ? (size_t)(slash + 1 - info->filename) : 0;
    uint32_t crc = 0;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) crc = file_crc(crc, info->filename, len, files[i]);
    char text[200];
    int n = snprintf(text, sizeof text, "japanese %d mecab %s unicode %s dictionary %08x", JAPANESE_RULES,
                     mecab_version(), U_UNICODE_VERSION, crc);
    fingerprint = hash64(text, (size_t)n, 0) | 1;
}

uint64_t japanese_fingerprint(void) {
    pthread_once(&fingerprint_once, fingerprint_init);
    return fingerprint;
}

struct japanese *japanese_new(void) {
    if (japanese_check(NULL)) return NULL;
    struct japanese *j = xcalloc(1, sizeof *j);
    j->tagger = mecab_model_new_tagger(model);
    j->lattice = mecab_model_new_lattice(model);
    if (j->tagger && j->lattice) return j;
    japanese_free(j);
    return NULL;
}

void japanese_free(struct japanese *j) {
    if (!j) return;
    if (j->lattice) mecab_lattice_destroy(j->lattice);
    if (j->tagger) mecab_destroy(j->tagger);
    buf_release(&j->previous);
    buf_release(&j->word);
    free(j);
}

/* ---- parts of speech ---- */

static bool has_prefix(const char *s, const char *prefix) {
    return !strncmp(s, prefix, strlen(prefix));
}

static bool is_particle(const char *feature) {
    return has_prefix(feature, "助詞,");
}

static bool is_noun(const char *feature) {
    return has_prefix(feature, "名詞,") || has_prefix(feature, "接頭詞,");
}

static bool is_dropped(const char *feature) {
    static const char *const parts[] = {"助詞,", "助動詞,", "接続詞,", "フィラー,", "感動詞,"};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (has_prefix(feature, parts[i])) return true;
    const char *second = strchr(feature, ',');
    return second && has_prefix(second, ",非自立,");
}

/* Symbols are known by their characters: MeCab takes unknown ones for nouns. */
static bool is_word(const char *s, size_t len) {
    for (size_t i = 0; i < len;) {
        UChar32 c;
        U8_NEXT((const uint8_t *)s, i, len, c);
        if (c >= 0 && (u_isalnum(c) || U_GET_GC_MASK(c) & U_GC_N_MASK)) return true;
    }
    return false;
}

/* The base form where the dictionary has one, else the word as it stands. */
static const char *base_form(const mecab_node_t *node, size_t *ret_len) {
    const char *p = node->feature;
    for (int i = 0; p && i < FEATURE_BASE; i++) {
        p = strchr(p, ',');
        p += p != NULL;
    }
    size_t len = p ? strcspn(p, ",") : 0;
    if (!len || (len == 1 && *p == '*')) {
        *ret_len = node->length;
        return node->surface;
    }
    *ret_len = len;
    return p;
}

/* サーバー and サーバ are one word; short ones (キー) keep their mark. */
static size_t strip_long_mark(const char *s, size_t len) {
    enum { KANA = 3, SHORT = 3 };
    if (len <= SHORT * KANA || len % KANA || memcmp(s + len - KANA, "ー", KANA) != 0) return len;
    for (size_t i = 0; i < len; i += KANA) { /* U+30A0..U+30FF */
        const uint8_t *c = (const uint8_t *)s + i;
        if (c[0] != 0xe3 || !(c[1] == 0x83 || (c[1] == 0x82 && c[2] >= 0xa0))) return len;
    }
    return len - KANA;
}

/* ---- tokens ---- */

struct walk {
    struct analyzer_state *a;
    uint32_t *position;
    bool noun;      /* the last kept word is a noun in j->previous */
    bool joined;    /* nothing but one particle stands between it and here */
    bool particle;  /* that one has been */
    uint32_t start; /* of the last kept word in the input */
    uint32_t at;    /* its position */
};

static void take_dropped(struct walk *w, const mecab_node_t *node) {
    w->joined &= is_particle(node->feature) && !w->particle;
    w->particle = true;
    ++*w->position;
}

static void add_compound(struct walk *w, const char *s, size_t len, uint32_t end) {
    struct japanese *j = w->a->japanese;
    buf_clear(&j->word);
    buf_add(&j->word, j->previous.data, j->previous.len);
    buf_add(&j->word, s, len);
    analyzer_add(w->a, w->at, w->start, end, j->word.data, j->word.len);
}

static void take_word(struct walk *w, const mecab_node_t *node, uint32_t start, uint32_t end) {
    struct japanese *j = w->a->japanese;
    size_t len;
    const char *s = base_form(node, &len);
    bool noun = is_noun(node->feature);
    len = strip_long_mark(s, len);
    if (noun && w->noun && w->joined) add_compound(w, s, len, end);
    w->at = (*w->position)++;
    w->start = start;
    analyzer_add(w->a, w->at, start, end, (const uint8_t *)s, len);
    w->noun = noun;
    w->joined = true;
    w->particle = false;
    buf_clear(&j->previous);
    if (noun) buf_add(&j->previous, s, len);
}

static void take_node(struct walk *w, const mecab_node_t *node) {
    const struct normal_piece *p = &w->a->piece;
    size_t at = (size_t)(node->surface - (const char *)p->text.data);
    if (node->stat == MECAB_BOS_NODE || node->stat == MECAB_EOS_NODE || !node->length) return;
    if (!is_word(node->surface, node->length))
        w->joined = false; /* punctuation takes no position */
    else if (is_dropped(node->feature))
        take_dropped(w, node);
    else
        take_word(w, node, p->from[at], normal_end(p, at + node->length));
}

int japanese_piece(struct analyzer_state *a, uint32_t *position, struct err *err) {
    struct japanese *j = a->japanese;
    struct walk w = {.a = a, .position = position};
    /* Terminated: MeCab looks at the byte behind a space at the end. */
    mecab_lattice_set_sentence2(j->lattice, buf_str(&a->piece.text), a->piece.text.len);
    if (!mecab_parse_lattice(j->tagger, j->lattice))
        return err_set(err, ERR_IO, "MeCab could not analyze a text: %s", mecab_lattice_strerror(j->lattice));
    for (const mecab_node_t *n = mecab_lattice_get_bos_node(j->lattice); n; n = n->next) take_node(&w, n);
    mecab_lattice_clear(j->lattice);
    return 0;
}
