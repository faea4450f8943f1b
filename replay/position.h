/* replay/position.h: positions as users write them, on the command line and to the monitor alike:
 *
 *   TICKS       12345, 0x3039, 1500k, 20M, 3G
 *   P%          a share of the recording, from 0% to 100%; 33.5% too
 *   start, end
 *   eNUMBER     where the event of that number takes effect, one that came from outside (`hyperwind dump`, `events`)
 */
#ifndef HW_POSITION_H
#define HW_POSITION_H

#include "core/base/err.h"

/* The first event that came from outside, from number `seq` on. */
struct position_input { bool found; uint64_t seq, ticks; };
typedef struct err *(*position_input_fn)(void *arg, uint64_t seq, struct position_input *out);

#define POSITION_FORMS "ticks, 50%, start, end, or e and the number of an event"

/* `end`: ticks of the recording; a position beyond it is none of this function's business. Errors: ERR_USAGE when `text` is
 * nothing of the above, ERR_RANGE when that event is no input (the message names the next one), those of `input`. */
must_check struct err *position_find(const char *text, uint64_t end, position_input_fn input, void *arg, uint64_t *ticks_out);

/* Whether `text` has the form of a position. */
bool position_like(const char *text);

#endif
