/* What names mean. */
#include "path.h"
#include "util/codec.h"

#include <ctype.h>
#include <stdio.h>

enum { COLLECTION_NAME_MAX = 52, SHORT_FIRST_MAX = 180 };
static const char SUFFIX[] = ".json";

bool path_is_collection_name(const char *name) {
    static const char *const reserved[] = {"README", "errors", "status"};
    size_t n = 0;
    for (; name[n]; n++)
        if (!isalnum((unsigned char)name[n]) && name[n] != '_' && name[n] != '-') return false;
    for (size_t i = 0; i < ARRAY_SIZE(reserved); i++)
        if (!strcmp(name, reserved[i])) return false;
    return n >= 1 && n <= COLLECTION_NAME_MAX;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

/* "sedO2I60h", "tmp5ayyl868", "tmp.0a1B2c3D4e": a prefix and only letters, digits and '_' behind it. */
static bool is_random_name(const char *s, const char *prefix, size_t min, size_t max) {
    size_t m = strlen(prefix), n = 0;
    if (strncmp(s, prefix, m)) return false;
    for (s += m; s[n]; n++)
        if (!isalnum((unsigned char)s[n]) && s[n] != '_') return false;
    return n >= min && n <= max;
}

/* A final name with mkstemp's six random characters behind it (busybox sed -i). */
static bool has_random_end(const char *name) {
    static const char *const finals[] = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".zst", ".gz"};
    size_t len = strlen(name);
    if (len <= 6 || !is_random_name(name + len - 6, "", 6, 6)) return false;
    for (size_t i = 0; i < ARRAY_SIZE(finals); i++) {
        size_t n = strlen(finals[i]);
        if (len > n + 6 && !memcmp(name + len - 6 - n, finals[i], n)) return true;
    }
    return false;
}

bool path_is_scratch_name(const char *name) {
    static const char *const ends[] = {"~",     ".swp",     ".swo", ".swx", ".save", ".tmp",  ".temp",
                                       ".part", ".partial", ".new", ".bak", ".orig", ".lock", ".download"};
    if (name[0] == '.') return true;
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
        if (ends_with(name, ends[i])) return true;
    if (name[0] == '#' && ends_with(name, "#")) return true;
    return is_random_name(name, "sed", 6, 6) || is_random_name(name, "tmp", 6, 12) ||
           is_random_name(name, "tmp.", 6, 16) || has_random_end(name) || !strcmp(name, "4913");
}

static void encode(const char *id, size_t len, struct buf *out) {
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)id[i];
        bool plain = c >= 0x20 && c != 0x7f && c != '/' && c != '%' && !(c == '.' && i == 0);
        if (plain)
            buf_addc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

/* The bytes of id whose encoding makes up the beginning of the short form: whole characters only. */
static size_t short_bytes(const char *id, size_t len) {
    size_t width = 0, whole = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)id[i];
        if ((c & 0xc0) != 0x80) whole = i;
        bool plain = c >= 0x20 && c != 0x7f && c != '/' && c != '%' && !(c == '.' && i == 0);
        width += plain ? 1 : 3;
        if (width > SHORT_FIRST_MAX) return whole;
    }
    return len;
}

void path_doc_name(const char *id, size_t len, struct buf *out) {
    size_t from = out->len;
    encode(id, len, out);
    buf_adds(out, SUFFIX);
    if (out->len - from <= PATH_NAME_MAX) return;
    out->len = from;
    buf_adds(out, "%~");
    encode(id, short_bytes(id, len), out);
    buf_printf(out, "~%016llx%016llx%s", (unsigned long long)hash64(id, len, 1),
               (unsigned long long)hash64(id, len, 2), SUFFIX);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool decode(const char *s, size_t n, struct buf *id) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '%') {
            buf_addc(id, s[i]);
            continue;
        }
        if (i + 2 >= n) return false;
        int hi = hex_digit(s[i + 1]), lo = hex_digit(s[i + 2]);
        if (hi < 0 || lo < 0) return false;
        buf_addc(id, (char)(hi << 4 | lo));
        i += 2;
    }
    return true;
}

static bool is_hash(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isdigit((unsigned char)s[i]) && (s[i] < 'a' || s[i] > 'f')) return false;
    return n == 32;
}

enum doc_name_kind path_doc_id(const char *name, struct buf *id) {
    size_t n = strlen(name);
    buf_clear(id);
    if (n > PATH_NAME_MAX || name[0] == '.' || !ends_with(name, SUFFIX)) return DOC_NAME_NONE;
    n -= sizeof SUFFIX - 1;
    if (!strncmp(name, "%~", 2)) {
        if (n < 2 + 1 + 32 || name[n - 33] != '~' || !is_hash(name + n - 32, 32)) return DOC_NAME_NONE;
        return decode(name + 2, n - 35, id) ? DOC_NAME_SHORT : DOC_NAME_NONE;
    }
    if (!decode(name, n, id) || !id->len) return DOC_NAME_NONE;
    /* Only the one canonical name of an id is a name: nothing is listed or found twice. */
    struct buf again = BUF_INIT;
    path_doc_name((const char *)id->data, id->len, &again);
    bool same = again.len == strlen(name) && !memcmp(again.data, name, again.len);
    buf_release(&again);
    return same ? DOC_NAME_ID : DOC_NAME_NONE;
}
