/* Names, limits, rates. */
#include "fn/gateway.h"

#include <string.h>

int gateway_check_name(const char *name, struct err *err) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t n = strlen(name);
    if (!n || n > 52 || strspn(name, allowed) != n)
        return err_set(err, ERR_INVALID,
                       "\"%.80s\" cannot be a collection's name: 1 to 52 of A-Z a-z 0-9 _ -", name);
    return 0;
}

int gateway_check_snapshot_name(const char *name, struct err *err) {
    size_t n = strlen(name);
    bool bad = !n || n > 100 || name[0] == '.' || utf8_invalid(name, n);
    for (size_t i = 0; i < n; i++) bad |= name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f;
    return bad ? err_set(err, ERR_INVALID, "\"%.100s\" cannot be a snapshot's name", name) : 0;
}

void gateway_init(struct gateway *g, double rate) {
    pthread_mutex_init(&g->lock, NULL);
    g->rate = g->tokens = rate;
    g->last_us = 0;
}

int gateway_admit(struct gateway *g, int64_t now_us, struct err *err) {
    if (g->rate <= 0) return 0;
    pthread_mutex_lock(&g->lock);
    if (g->last_us) g->tokens = MIN(g->rate, g->tokens + (double)(now_us - g->last_us) * g->rate / 1e6);
    g->last_us = now_us;
    bool ok = g->tokens >= 1;
    if (ok) g->tokens -= 1;
    pthread_mutex_unlock(&g->lock);
    return ok ? 0 : err_set(err, ERR_RATE, "more than %.0f requests a second", g->rate);
}
