/* replay/transcript.h: what a guest has printed, put together from stretches of its history in any order.
 *
 * A history that is entered through checkpoints in its middle is known in stretches, *spans*, of the bytes printed since the
 * beginning. A replay prints the same bytes at the same offsets again, so what comes twice is the same; spans that meet
 * become one. Without memory text is lost, and nothing else happens. */
#ifndef HW_TRANSCRIPT_H
#define HW_TRANSCRIPT_H

#include "core/base/base.h"

struct transcript_span;

struct transcript { /* all zero: empty */
    struct transcript_span *span; /* in order, and apart */
    size_t count, cap;
    size_t len;  /* bytes that are known */
    uint64_t at; /* bytes printed up to here: set it when the guest is moved elsewhere */
};

void transcript_deinit(struct transcript *t);
/* Printed at `ticks`. `at` advances. */
void transcript_add(struct transcript *t, uint64_t ticks, const uint8_t *data, size_t len);
/* Forget what lies more than `keep` bytes before or behind `at`, when TRANSCRIPT_SLACK times as many are known. */
enum { TRANSCRIPT_SLACK = 4 };
void transcript_trim(struct transcript *t, size_t keep);
/* What is known without a gap up to `at`, borrowed until the next call of transcript_add() or
 * transcript_trim(). */
const uint8_t *transcript_text(const struct transcript *t, size_t *len_out);
/* When the line that holds the byte at `offset` of that text was begun; of a first line whose begin is not known, the part of it
 * that is. */
uint64_t transcript_ticks(const struct transcript *t, size_t offset);

#endif
