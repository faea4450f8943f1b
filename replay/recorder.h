/* replay/recorder.h: the recording door: another door, and everything that comes through it written to a log together
 * with the digests by which a replay proves itself.
 *
 * Layout of a recording's events (all positions are ticks): `start` first, then a `state_digest` at tick 0. A `digest` at
 * every multiple of RECORD_DIGEST_TICKS that is reached, a `state_digest` instead at every multiple of RECORD_STATE_TICKS,
 * a `memory_digest` after a `digest` when RECORD_MEMORY_TICKS and some host time have passed since the last one,
 * and a `digest` before every group of inputs at one position. `state_digest` and `end` close it.
 * Inputs at the same ticks that belong to a halted vCPU begin with `wake`; see docs/recording-format.md. */
#ifndef HW_RECORDER_H
#define HW_RECORDER_H

#include "core/machine.h"
#include "logfmt/log.h"

enum { RECORD_DIGEST_TICKS = 1000000, RECORD_MEMORY_TICKS = 16 * RECORD_DIGEST_TICKS,
       RECORD_STATE_TICKS = 256 * RECORD_DIGEST_TICKS };

struct recorder;
struct digester;

/* `inner` supplies what is recorded; `w` is borrowed, header and blobs are in it. */
must_check struct err *recorder_create(struct nondet inner, struct log_writer *w, struct recorder **out);
void recorder_destroy(struct recorder *r);
struct nondet recorder_door(struct recorder *r);

/* Before recorder_begin(): put a checkpoint into the recording every so many ns of host time, or after as many ticks: a guest
 * in a fast loop gets far, and changes little. */
void recorder_set_checkpoints(struct recorder *r, uint64_t every_ns);
/* After machine_boot(): writes the first digests. */
must_check struct err *recorder_begin(struct recorder *r, struct machine *m);
/* Instead, for a machine that was replayed up to here: the log has what was recorded before this position, and from now on
 * goes on with what comes through the door. `d` is the machine's digester, which becomes the recorder's; `output_bytes`: sent
 * to the consoles so far. */
must_check struct err *recorder_continue(struct recorder *r, struct machine *m, struct digester *d, uint64_t output_bytes);
/* The run has ended: last digests, `end`, index, footer. */
must_check struct err *recorder_finish(struct recorder *r, enum log_end_reason reason, uint64_t code);
uint64_t recorder_memory_digest(const struct recorder *r); /* the last one written */

#endif
