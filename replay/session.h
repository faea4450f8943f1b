/* replay/session.h: the loop that drives one machine with one engine through one door.
 *
 * At each stop of the engine, in this order: request of the guest, tick limit, door (poll), timers, idling. The order is
 * part of what makes a recording replay, so live, recording and replaying sessions share it. */
#ifndef HW_SESSION_H
#define HW_SESSION_H

#include "core/machine.h"
#include "exec/engine.h"

enum session_end {
    END_REQUEST, /* machine.request says what */
    END_STOP,    /* the door said ND_STOP */
    END_LIMIT,   /* limit_ticks reached */
    END_HALTED,  /* halted with interrupts off: nothing can ever wake it */
    END_PROBE,   /* exec_probe_hits() says which */
    END_INTERRUPTED, /* session.interrupted said so */
};

/* Called once, at exactly `ticks` (> 0), before anything else happens there. For fault injection by tests. */
struct session_hook {
    uint64_t ticks; /* UINT64_MAX: none, or done */
    void (*fn)(void *arg, struct machine *m);
    void *arg;
};

struct session {
    struct machine *machine;
    struct engine *engine;
    uint64_t limit_ticks; /* UINT64_MAX: none */
    struct session_hook hook;
    /* Called at every stop; for progress display. May be NULL. */
    void (*progress)(void *arg, const struct machine *m);
    void *progress_arg;
    /* Asked at every stop, before anything happens there: true ends the run. May be NULL. */
    bool (*interrupted)(void *arg, const struct machine *m);
    void *interrupted_arg;
    /* Called with each event that was just given to the guest. May be NULL. */
    void (*input)(void *arg, const struct nondet_event *ev);
    void *input_arg;
    void (*returns)(void *arg); /* called when session_run() returns: somebody may look now. May be NULL */
    void *returns_arg;
    enum session_end ended; /* out: of the last session_run() */
    uint64_t served_ticks; /* out: the last position whose input was polled, whose timers ran or where it idled */
};

/* Run until the end. After END_LIMIT, END_PROBE and END_INTERRUPTED it may be run on, as if it had not ended. Errors are
 * the door's. */
must_check struct err *session_run(struct session *s, enum session_end *out);

#endif
