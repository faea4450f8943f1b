/* core/nondet.h: the door. Everything a machine cannot compute by itself comes through this table, and nothing
 * else does. replay/ supplies the versions: live (the host), record (live, and logged) and replay (the log).
 *
 * Inputs are events that take effect between two ticks. The session asks for them at positions the
 * implementation chose with `horizon_ticks`; core/ and exec/ never ask for the host's time by themselves. */
#ifndef HW_NONDET_H
#define HW_NONDET_H

#include "core/base/base.h"
#include "core/base/err.h"

enum nondet_kind {
    ND_NONE,
    ND_ANCHOR,  /* virtual time was re-aligned: ns, rate_q32 */
    ND_WAKE,    /* the wait of the halted vCPU ended early: virtual time is ns, the rate stays */
    ND_CONSOLE, /* bytes typed at a console: channel, data, len */
    ND_STOP,    /* the outside ends the run here (escape key, signal, end of the recording) */
};

struct nondet_event {
    enum nondet_kind kind;
    uint64_t ns, rate_q32;  /* ND_ANCHOR; ND_WAKE: ns */
    uint8_t channel;        /* ND_CONSOLE: UART number, 0 = COM1 */
    uint16_t len;           /* ND_CONSOLE: 1..sizeof(data) */
    uint8_t data[256];
};

struct nondet_start { /* facts fixed before the first tick */
    uint64_t wall_ns;     /* UTC, ns since 1970 */
    uint8_t seed[64];     /* entropy for the guest's boot parameters */
};

enum nondet_stream { ND_OUT_CONSOLE, ND_OUT_DEBUG };

/* Whether a user sees it: the first UART and the debug port are one console. */
static inline bool nondet_on_console(enum nondet_stream stream, uint8_t channel)
{
    return stream == ND_OUT_DEBUG || channel == 0;
}

struct nondet_ops {
    /* Called once, before the machine is built. */
    struct err *(*start)(void *nd, struct nondet_start *out);
    /* The next event that takes effect at exactly `ticks` (ND_NONE: no more at this position). */
    struct err *(*poll)(void *nd, uint64_t ticks, struct nondet_event *out);
    /* The tick at which poll() wants to be called next, > the last polled one. */
    uint64_t (*horizon_ticks)(void *nd);
    /* The vCPU is halted and virtual time `now_ns` has nothing due until `deadline_ns` (VCLOCK_NEVER: ever).
     * Returns when that moment has come in the host's time too, or when an event is there to be polled.
     * *reached_out: true when the deadline came (the session then jumps to it, which is derived and not logged), false
     * when poll() has events for this very position: an ND_WAKE with a time before the deadline, then the others. */
    struct err *(*idle)(void *nd, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out);
    /* Bytes the guest sent out. Never blocks, never fails towards the guest. */
    void (*output)(void *nd, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len);
};

struct nondet {
    const struct nondet_ops *ops;
    void *self;
};

#endif
