/* Numbers, booleans and times in query text to the domain of their columns, exactly. */
#include "query/query_internal.h"
#include <ctype.h>
#include <math.h>

enum { VALUE_MAX_TEXT = 400 };
static const __int128 far_away = (__int128)1 << 70; /* beyond every int64 */

/* [sign] digits [. digits] [e [sign] digits], with a digit before the exponent. */
static bool is_decimal(const char *s, bool *ret_exponent) {
    bool digits = false;
    s += *s == '-' || *s == '+';
    for (; isdigit((unsigned char)*s); s++) digits = true;
    s += *s == '.';
    for (; isdigit((unsigned char)*s); s++) digits = true;
    *ret_exponent = *s == 'e' || *s == 'E';
    if (!digits || !*s) return digits;
    if (!*ret_exponent) return false;
    s++;
    s += *s == '-' || *s == '+';
    if (!isdigit((unsigned char)*s)) return false;
    while (isdigit((unsigned char)*s)) s++;
    return !*s;
}

static void bound_of_double(double d, struct value_bound *ret) {
    if (fabs(d) > 0x1p69)
        ret->floor = ret->ceil = d < 0 ? -far_away : far_away;
    else
        *ret = (struct value_bound){.floor = (__int128)floor(d), .ceil = (__int128)ceil(d)};
}

static void bound_of_decimal(const char *s, struct value_bound *ret) {
    bool negative = *s == '-', fraction = false;
    __int128 v = 0;
    s += *s == '-' || *s == '+';
    for (; isdigit((unsigned char)*s); s++)
        if (v < far_away) v = v * 10 + (*s - '0');
    if (*s == '.')
        for (s++; *s; s++) fraction |= *s != '0';
    ret->floor = negative ? -v - fraction : v;
    ret->ceil = negative ? -v : v + fraction;
}

bool value_parse(enum field_type type, const char *text, size_t len, struct value_bound *ret) {
    char s[VALUE_MAX_TEXT + 1];
    bool exponent;
    int64_t ms;
    if (len > VALUE_MAX_TEXT || memchr(text, '\0', len)) return false;
    memcpy(s, text, len);
    s[len] = '\0';
    if (type == FIELD_BOOLEAN) {
        bool yes = !strcmp(s, "true");
        ret->floor = ret->ceil = yes;
        return yes || !strcmp(s, "false");
    }
    if (type == FIELD_DATETIME) {
        if (time_parse(s, len, &ms)) return false;
        ret->floor = ret->ceil = ms;
        return true;
    }
    if (!is_decimal(s, &exponent)) return false;
    double d = strtod(s, NULL);
    if (type == FIELD_DOUBLE) {
        if (!isfinite(d)) return false;
        ret->floor = ret->ceil = double_to_sortable(d);
    } else if (exponent) {
        bound_of_double(d, ret);
    } else {
        bound_of_decimal(s, ret);
    }
    return true;
}

const char *value_expected(enum field_type type) {
    if (type == FIELD_BOOLEAN) return "true or false";
    if (type == FIELD_DATETIME) return "a date-time such as 2026-11-22T06:00:00Z";
    return "a finite number";
}
