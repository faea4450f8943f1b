/* logfmt/words.h: packing for pages of a kernel's data: zeroes, pointers to things close to each other, small
 * numbers. Internal to logfmt/.
 *
 * It takes a third of the time of zstd's fast levels, to some two thirds more bytes. docs/recording-format.md has the
 * code: each word of 64 bits is zero, equal to a word before it, equal to one in its upper 48 bits, or new. */
#ifndef HW_LOGFMT_WORDS_H
#define HW_LOGFMT_WORDS_H

#include "core/base/base.h"

enum {
    WORDS_TAGGED = 4, /* words that share a byte of tags; lengths are multiples of as many words */
    WORDS_SLACK = 8,  /* bytes behind the packed ones that words_pack() may write to */
};

/* The most that `len` bytes can take, WORDS_SLACK included. */
static inline size_t words_room(size_t len) { return len + len / sizeof(uint64_t) / WORDS_TAGGED + WORDS_SLACK; }

/* Returns the packed length. */
size_t words_pack(const uint8_t *from, size_t len, uint8_t *to);
/* False: `from` is not what `len` bytes are packed to. */
bool words_unpack(const uint8_t *from, size_t from_len, uint8_t *to, size_t len);

#endif
