/* core/vclock.h: virtual time, the only time a guest can see, and the timers that hang on it.
 *
 * Virtual time is a piecewise-linear function of ticks in integer arithmetic:
 *     ns(t) = base_ns + ((t - base_ticks) * rate_q32 >> 32)
 * A tick is one step of the vCPU (docs/architecture.md). Nothing here reads a host clock: who re-aligns virtual
 * time with the host calls vclock_anchor() at a recorded position. The guest's TSC counts virtual nanoseconds
 * (1 GHz, CPUID leaf 0x15 says so), so no other conversion exists.
 *
 * The engine publishes the current tick through `now_ticks` before it calls into a device, in the middle of a
 * block too: the time an instruction sees is that of the ticks before it. */
#ifndef HW_VCLOCK_H
#define HW_VCLOCK_H

#include "core/base/base.h"
#include "core/snap.h"

__extension__ typedef unsigned __int128 u128;

enum { VCLOCK_TSC_HZ = 1000000000 };
#define VCLOCK_NS_MAX (UINT64_MAX / 2) /* where virtual time saturates: 292 years */
#define VCLOCK_NEVER UINT64_MAX /* a deadline that never comes, in ns and in ticks */

struct vclock_state { /* guest visible; part of every device digest */
    uint64_t base_ticks;
    uint64_t base_ns;
    uint64_t rate_q32; /* virtual ns per tick, 32.32 fixed point; never 0 */
    uint64_t wall_base_ns; /* UTC at virtual time 0, ns since 1970; a start event */
};

struct vtimer;
typedef void (*vtimer_fn)(void *owner, uint64_t deadline_ns);

struct vclock {
    struct vclock_state s;
    uint64_t now_ticks;    /* written by the engine and the session; see above */
    struct vtimer *timers; /* registration order; expiry order is (deadline, registration) */
    uint64_t next_ns;      /* earliest armed deadline, VCLOCK_NEVER when none */
    bool deadline_moved;   /* set when next_ns changes; the engine ends its block on it, the session clears it */
};

/* Embedded in a device; the clock borrows it until vtimer_remove(). `deadline_ns` belongs into the device's
 * field table (it is state). */
struct vtimer {
    uint64_t deadline_ns; /* VCLOCK_NEVER: disarmed */
    vtimer_fn fn;         /* called with the timer disarmed; may arm it again, also in the past */
    void *owner;
    struct vtimer *next;
};

void vclock_init(struct vclock *c, uint64_t rate_q32, uint64_t wall_base_ns);

/* Virtual time at now_ticks; never runs backwards. Saturates at VCLOCK_NS_MAX. */
uint64_t vclock_ns(const struct vclock *c);
static inline uint64_t vclock_ns_at(const struct vclock *c, uint64_t ticks)
{
    if (ticks <= c->s.base_ticks)
        return c->s.base_ns;
    u128 ns = c->s.base_ns + ((u128)(ticks - c->s.base_ticks) * c->s.rate_q32 >> 32);
    return ns > VCLOCK_NS_MAX ? VCLOCK_NS_MAX : (uint64_t)ns;
}
/* Wall-clock time of the guest (UTC, ns since 1970) now. */
uint64_t vclock_wall_ns(const struct vclock *c);
/* The first tick at which vclock_ns_at() >= ns; `base_ticks` at the earliest, VCLOCK_NEVER when beyond reach. */
uint64_t vclock_ticks_at(const struct vclock *c, uint64_t ns);
/* The tick at which the earliest armed timer falls due. */
uint64_t vclock_next_tick(const struct vclock *c);

/* From now_ticks on, virtual time is `ns` (clamped to be no earlier than it is) and runs at `rate_q32`. */
void vclock_anchor(struct vclock *c, uint64_t ns, uint64_t rate_q32);

void vtimer_add(struct vclock *c, struct vtimer *t, vtimer_fn fn, void *owner); /* starts disarmed */
void vtimer_remove(struct vclock *c, struct vtimer *t);
void vtimer_arm(struct vclock *c, struct vtimer *t, uint64_t deadline_ns); /* beyond saturation: disarmed */
void vtimer_disarm(struct vclock *c, struct vtimer *t);
/* Recompute next_ns after timers' deadlines were restored from a checkpoint. */
void vclock_timers_restored(struct vclock *c);

/* Fire every timer due at now_ticks, in (deadline, registration) order; a timer that re-arms itself in the past
 * fires again, at most 4096 times per call, then waits for the next tick (a guest cannot hang the VMM). */
void vclock_run_timers(struct vclock *c);

#endif
