/* gdb/cursor.c: reading the arguments of a packet. */
#include "gdb/stub_impl.h"

bool cursor_is(struct cursor *c, char want)
{
    if (c->p == c->end || *c->p != (uint8_t)want)
        return false;
    c->p++;
    return true;
}

bool cursor_word(struct cursor *c, const char *word)
{
    size_t len = strlen(word);
    if (cursor_left(c) < len || memcmp(c->p, word, len) != 0)
        return false;
    c->p += len;
    return true;
}

bool cursor_hex(struct cursor *c, uint64_t *out)
{
    uint64_t v = 0;
    const uint8_t *first = c->p;
    for (; c->p < c->end && hex_digit(*c->p) >= 0; c->p++) {
        if (v >> 60)
            return false;
        v = v << 4 | (uint64_t)hex_digit(*c->p);
    }
    *out = v;
    return c->p > first;
}

size_t cursor_bytes(struct cursor *c, uint8_t *out, size_t max)
{
    size_t n = 0;
    while (n < max && cursor_left(c) >= 2 && hex_digit(c->p[0]) >= 0 && hex_digit(c->p[1]) >= 0) {
        out[n++] = (uint8_t)(hex_digit(c->p[0]) << 4 | hex_digit(c->p[1]));
        c->p += 2;
    }
    return n;
}

/* One part of an identifier: -1 (all) and 0 (any) name none. */
static bool part(struct cursor *c, uint64_t *value, bool *any)
{
    *value = 0;
    *any = cursor_word(c, "-1");
    if (*any)
        return true;
    bool ok = cursor_hex(c, value);
    *any = !*value;
    return ok;
}

bool cursor_thread(struct cursor *c, unsigned *thread_out, bool *any)
{
    uint64_t thread = 0, process = 1;
    bool no_thread = false, no_process = false;
    if (cursor_is(c, 'p')) {
        if (!part(c, &process, &no_process))
            return false;
        no_thread = true;
        if (cursor_is(c, '.') && !part(c, &thread, &no_thread))
            return false;
    } else if (!part(c, &thread, &no_thread)) {
        return false;
    }
    if (!no_process && process != 1)
        return false;
    if (thread > INT32_MAX)
        return false;
    if (any)
        *any = no_thread;
    *thread_out = no_thread ? 0 : (unsigned)thread - 1;
    return true;
}
