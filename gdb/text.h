/* gdb/text.h: bytes that grow: packets, replies, output. Memory that runs out is remembered, not reported at each
 * call: nothing is added from then on, and text_failed() says so at the end. */
#ifndef HW_GDB_TEXT_H
#define HW_GDB_TEXT_H

#include "core/base/base.h"

struct text {
    uint8_t *data; /* NULL while empty */
    size_t len, room;
    bool failed;
};

void text_deinit(struct text *t);                   /* zeroed: fine */
static inline void text_clear(struct text *t) { t->len = 0; }
static inline bool text_failed(const struct text *t) { return t->failed; }

/* Room for `more` bytes behind what is there, for whoever writes them there and adds to t->len. NULL: no memory. */
uint8_t *text_room(struct text *t, size_t more);
void text_add(struct text *t, const void *data, size_t len);
static inline void text_char(struct text *t, char c) { text_add(t, &c, 1); }
static inline void text_str(struct text *t, const char *s) { text_add(t, s, strlen(s)); }
void text_printf(struct text *t, const char *format, ...) printf_like(2, 3);
void text_hex(struct text *t, const void *data, size_t len); /* two digits a byte */
void text_drop(struct text *t, size_t len);                  /* the first len bytes */

/* The value of a hex digit, -1 if it is none. */
int hex_digit(uint8_t c);

#endif
