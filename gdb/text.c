/* gdb/text.c: bytes that grow. See text.h. */
#include "gdb/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_FIRST = 256 };

void text_deinit(struct text *t)
{
    free(t->data);
    *t = (struct text){0};
}

static bool reserve(struct text *t, size_t more)
{
    if (t->failed || more > SIZE_MAX / 4 - t->len)
        return !(t->failed = true);
    if (t->len + more <= t->room)
        return true;
    size_t room = MAX(MAX(t->room * 2, t->len + more), (size_t)TEXT_FIRST);
    uint8_t *data = realloc(t->data, room);
    if (!data)
        return !(t->failed = true);
    t->data = data;
    t->room = room;
    return true;
}

uint8_t *text_room(struct text *t, size_t more)
{
    return reserve(t, more) ? t->data + t->len : NULL;
}

void text_add(struct text *t, const void *data, size_t len)
{
    if (!len || !reserve(t, len))
        return;
    memcpy(t->data + t->len, data, len);
    t->len += len;
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    if (len > 0 && reserve(t, (size_t)len + 1)) {
        vsnprintf((char *)t->data + t->len, (size_t)len + 1, format, again);
        t->len += (size_t)len;
    }
    va_end(again);
    va_end(args);
}

void text_hex(struct text *t, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = data;
    if (!reserve(t, len * 2))
        return;
    for (size_t i = 0; i < len; i++) {
        t->data[t->len++] = (uint8_t)digits[p[i] >> 4];
        t->data[t->len++] = (uint8_t)digits[p[i] & 15];
    }
}

void text_drop(struct text *t, size_t len)
{
    if (!len)
        return;
    t->len -= len;
    memmove(t->data, t->data + len, t->len);
}

int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
