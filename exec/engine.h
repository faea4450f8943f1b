/* exec/engine.h: the one contract of every engine.
 *
 *   Run this vCPU until tick N, or until something outside the engine must happen; say why you stopped; the
 *   architectural state (struct vcpu_state, memory, device state, vcpu.ticks) is then exact.
 *
 * Engines may be exchanged at any stop, in the middle of a run, a recording or a replay, and the guest cannot tell.
 * An engine never returns an error: whatever a guest does has an architectural answer. */
#ifndef HW_ENGINE_H
#define HW_ENGINE_H

#include "core/base/err.h"

struct machine;
struct engine;

enum engine_stop {
    STOP_TICKS,    /* vcpu.ticks == until */
    STOP_HALT,     /* the vCPU is halted and nothing is deliverable */
    STOP_DEADLINE, /* a timer deadline moved (clock.deadline_moved): compute `until` anew */
    STOP_REQUEST,  /* machine.request is set */
    STOP_KICK,     /* engine_kick() */
};

struct engine_ops {
    const char *name;
    const char *summary;
    struct err *(*create)(struct machine *m, struct engine **out);
    void (*destroy)(struct engine *e);
    enum engine_stop (*run)(struct engine *e, uint64_t until);
};

struct engine {
    const struct engine_ops *ops;
    struct machine *machine;
};

/* The engines built in, NULL-terminated; the first is the default. */
extern const struct engine_ops *const engines[];
const struct engine_ops *engine_find(const char *name); /* NULL when unknown */

/* Engines of one machine share the soft TLB; exec_attach() creates it. Call once per machine before creating engines. */
must_check struct err *exec_attach(struct machine *m);
void exec_detach(struct machine *m);

/* Ask a running engine to stop soon. Async-signal-safe and thread-safe. */
void engine_kick(struct machine *m);

/* What this host's CPU lets guests see of itself (undefined flags, approximations, x87 transcendentals), as named
 * facts: a recording stores them, and replay refuses a host where one differs. */
struct exec_host_fact { const char *name; uint64_t value; };
enum { EXEC_HOST_FACTS_MAX = 64 };
size_t exec_host_facts(struct exec_host_fact out[EXEC_HOST_FACTS_MAX]); /* how many; the same on every call */

/* State was changed from outside (checkpoint restored, debugger, loader): drop everything derived from it. */
void exec_state_changed(struct machine *m);

#endif
