/* logfmt/bytes.h: growing byte buffers and bounded cursors, with the variable-length integers of the format.
 * A varint is LEB128: seven bits a byte, low bits first, the top bit set on all but the last; at most ten bytes. */
#ifndef HW_LOGFMT_BYTES_H
#define HW_LOGFMT_BYTES_H

#include <stdlib.h>

#include "core/base/base.h"

enum { VARINT_MAX = 10 };

struct buf {
    uint8_t *data;
    size_t len, cap;
};

/* Room for `more` bytes after len; NULL when memory is short, the contents then stay. The caller adds to len. */
uint8_t *buf_reserve(struct buf *b, size_t more);
static inline void buf_deinit(struct buf *b) { free(b->data); }

bool buf_put(struct buf *b, const void *data, size_t len);
bool buf_put_varint(struct buf *b, uint64_t v);

/* A cursor over bytes of unknown quality: what it cannot give is zero, and sets `bad` for good. */
struct cursor {
    const uint8_t *p, *end;
    bool bad;
};

static inline size_t cursor_left(const struct cursor *c) { return (size_t)(c->end - c->p); }
const uint8_t *cursor_take(struct cursor *c, uint64_t len); /* NULL when there are fewer */
uint64_t cursor_varint(struct cursor *c);

/* Signed differences as small unsigned numbers: 0, -1, 1, -2, ... */
static inline uint64_t zigzag(uint64_t v) { return v << 1 ^ (0 - (v >> 63)); }
static inline uint64_t unzigzag(uint64_t v) { return v >> 1 ^ (0 - (v & 1)); }

#endif
