/* replay/replayer.h: the replaying door: inputs come from a recording, and every digest in it is compared.
 *
 * The first difference ends the replay with ERR_DIVERGED; replayer_explain() then says what is known about it: the last
 * good position, the first bad one, and what differs. */
#ifndef HW_REPLAYER_H
#define HW_REPLAYER_H

#include <stdio.h>

#include "core/machine.h"
#include "logfmt/log.h"
#include "replay/session.h"

struct replayer;

typedef void (*replay_output_fn)(void *arg, const uint8_t *data, size_t len);

/* `lr` is borrowed, at its first event. `output` (may be NULL) gets the console's bytes. */
must_check struct err *replayer_create(struct log_reader *lr, replay_output_fn output, void *arg, struct replayer **out);
void replayer_destroy(struct replayer *r);
struct nondet replayer_door(struct replayer *r);

/* After machine_boot(): compares the first digests. */
must_check struct err *replayer_begin(struct replayer *r, struct machine *m);

/* The tick limit that the recording ended by, UINT64_MAX otherwise: goes into session.limit_ticks. */
uint64_t replayer_limit(const struct replayer *r);

/* The session has ended by itself: is this where and why the recording ended? Compares the last digests. */
must_check struct err *replayer_finish(struct replayer *r, enum session_end end);

/* The recording's own end; `complete`: it has its `end` event, reason and code are meaningful. */
struct replay_end { bool complete; enum log_end_reason reason; uint64_t code, ticks, events; };
uint64_t replayer_output_bytes(const struct replayer *r); /* sent to the consoles up to here */
/* Nothing is replayed after this: the digester goes to whoever takes the machine on. */
struct digester *replayer_take_digester(struct replayer *r);
struct replay_end replayer_end(const struct replayer *r);
uint64_t replayer_memory_digest(const struct replayer *r); /* of the last state digest that was compared */

/* Where it stands between two ticks, before any input there; and back, when the machine has been brought back to where it
 * was then. Errors: those of reading the recording. */
struct replayer_mark {
    uint64_t seq; /* of the next event */
    uint64_t chain, output_bytes, memory_digest;
    uint64_t console_bytes; /* given to `output` so far */
    struct log_pos good, good_memory;
    uint64_t rep_begun; /* exec_rep_begun() there: for breakpoints, the replayer does not care */
};
struct replayer_mark replayer_mark(const struct replayer *r);
must_check struct err *replayer_return(struct replayer *r, const struct replayer_mark *mark);

/* After ERR_DIVERGED: the report, some lines. */
void replayer_explain(const struct replayer *r, FILE *out);

/* For those who compare two replays with each other: digests that differ from the recording's do not end the replay,
 * the first is only remembered. Before replayer_begin(). */
void replayer_tolerate(struct replayer *r);
/* Where this replay first differed from its recording, and in what. False: nowhere so far. */
bool replayer_disagreement(const struct replayer *r, struct log_pos *at, const char **what);

struct digester;
struct digester *replayer_digester(struct replayer *r); /* the machine's one; digest_memory() may be called on it */

/* For tests of divergence: event number `seq` arrives altered. */
void replayer_alter_event(struct replayer *r, uint64_t seq);

/* Why a run ended, in the recording's terms. */
enum log_end_reason end_reason(const struct machine *m, enum session_end end);

#endif
