/* gdb/wire.c: between bytes and packets. See wire.h. */
#include "gdb/wire.h"

enum {
    ESCAPE = '}', ESCAPE_XOR = 0x20, BREAK = 3,
    RUN_BASE = 29,  /* a count n is sent as the character n + 29 */
    RUN_MIN = 3, RUN_MAX = 126 - RUN_BASE,
};

void wire_reader_deinit(struct wire_reader *f)
{
    text_deinit(&f->data);
    *f = (struct wire_reader){0};
}

static void begin(struct wire_reader *f)
{
    text_clear(&f->data);
    f->len = 0;
    f->sum = 0;
    f->escaped = f->bad = false;
    f->state = WIRE_IN_DATA;
}

static enum wire_event between(struct wire_reader *f, uint8_t byte)
{
    switch (byte) {
    case '$': begin(f); return WIRE_NONE;
    case '+': return WIRE_ACK;
    case '-': return WIRE_NAK;
    case BREAK: return WIRE_BREAK;
    default: return WIRE_NONE;
    }
}

static void data(struct wire_reader *f, uint8_t byte)
{
    if (byte == '$') {
        begin(f);
        return;
    }
    if (byte == '#') {
        f->bad |= f->escaped;
        f->state = WIRE_IN_SUM1;
        return;
    }
    f->sum = (uint8_t)(f->sum + byte);
    if (f->len < WIRE_MAX)
        f->len++;
    if (f->len >= WIRE_MAX)
        return; /* too long: nothing is kept, but its end is found */
    if (f->escaped) {
        text_char(&f->data, (char)(byte ^ ESCAPE_XOR));
        f->escaped = false;
    } else if (byte == ESCAPE) {
        f->escaped = true;
    } else {
        text_char(&f->data, (char)byte);
    }
}

static enum wire_event end(struct wire_reader *f, uint8_t byte, bool check)
{
    int high = hex_digit(f->want), low = hex_digit(byte);
    f->state = WIRE_IN_BETWEEN;
    if (f->bad || (check && (high < 0 || low < 0 || (high << 4 | low) != f->sum)))
        return WIRE_BAD;
    return f->len >= WIRE_MAX ? WIRE_TOO_LONG : WIRE_PACKET;
}

enum wire_event wire_feed(struct wire_reader *f, uint8_t byte, bool check)
{
    switch (f->state) {
    case WIRE_IN_BETWEEN:
        return between(f, byte);
    case WIRE_IN_DATA:
        data(f, byte);
        return WIRE_NONE;
    case WIRE_IN_SUM1:
        f->want = byte;
        f->state = WIRE_IN_SUM2;
        return WIRE_NONE;
    case WIRE_IN_SUM2:
        return end(f, byte, check);
    }
    return WIRE_NONE;
}

static bool must_escape(uint8_t c)
{
    return c == '#' || c == '$' || c == '}' || c == '*';
}

/* How often data[0] comes in a row, as far as one run length can say it. */
static size_t run_of(const uint8_t *p, size_t len)
{
    size_t n = 1;
    while (n < len && n <= RUN_MAX && p[n] == p[0])
        n++;
    return n;
}

/* A count that would look like the end or the beginning of a packet is made smaller. */
static size_t sendable_repeats(size_t repeats)
{
    while (repeats + RUN_BASE == '#' || repeats + RUN_BASE == '$')
        repeats--;
    return repeats;
}

/* The content as it is sent; at most twice as long. */
static size_t encode(const uint8_t *p, size_t len, uint8_t *out)
{
    uint8_t *to = out;
    for (size_t i = 0; i < len;) {
        if (must_escape(p[i])) { /* a run length would repeat the second byte alone */
            *to++ = ESCAPE;
            *to++ = p[i++] ^ ESCAPE_XOR;
            continue;
        }
        size_t repeats = sendable_repeats(run_of(p + i, len - i) - 1);
        *to++ = p[i++];
        if (repeats >= RUN_MIN) {
            *to++ = '*';
            *to++ = (uint8_t)(repeats + RUN_BASE);
            i += repeats;
        }
    }
    return (size_t)(to - out);
}

void wire_write(struct text *out, const uint8_t *p, size_t len)
{
    uint8_t sum = 0;
    text_char(out, '$');
    uint8_t *to = text_room(out, 2 * len);
    if (!to)
        return;
    size_t n = encode(p, len, to);
    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + to[i]);
    out->len += n;
    text_printf(out, "#%02x", sum);
}
