/* logfmt/bytes.c: see bytes.h. */
#include "logfmt/bytes.h"

uint8_t *buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len < more) {
        size_t cap = MAX(b->len + more, b->cap + b->cap / 2);
        uint8_t *data = realloc(b->data, MAX(cap, (size_t)64));
        if (!data)
            return NULL;
        b->data = data;
        b->cap = MAX(cap, (size_t)64);
    }
    return b->data + b->len;
}

bool buf_put(struct buf *b, const void *data, size_t len)
{
    uint8_t *p = buf_reserve(b, len);
    if (!p)
        return false;
    if (len)
        memcpy(p, data, len);
    b->len += len;
    return true;
}

bool buf_put_varint(struct buf *b, uint64_t v)
{
    uint8_t *p = buf_reserve(b, VARINT_MAX);
    if (!p)
        return false;
    for (; v >= 0x80; v >>= 7, b->len++)
        *p++ = (uint8_t)v | 0x80;
    *p = (uint8_t)v;
    b->len++;
    return true;
}

const uint8_t *cursor_take(struct cursor *c, uint64_t len)
{
    const uint8_t *p = c->p;
    if (c->bad || len > cursor_left(c)) {
        c->bad = true;
        return NULL;
    }
    c->p += len;
    return p;
}

uint64_t cursor_varint(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t *p = cursor_take(c, 1);
        if (!p)
            return 0;
        if (shift == 63 && *p > 1) /* more than 64 bits */
            break;
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p & 0x80))
            return v;
    }
    c->bad = true;
    return 0;
}
