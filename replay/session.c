/* replay/session.c: the loop. See session.h. */
#include "replay/session.h"

#include "core/irq.h"

static void apply(struct machine *m, const struct nondet_event *ev)
{
    switch (ev->kind) {
    case ND_ANCHOR:
        vclock_anchor(&m->clock, ev->ns, ev->rate_q32);
        break;
    case ND_WAKE:
        vclock_anchor(&m->clock, ev->ns, m->clock.s.rate_q32);
        break;
    case ND_CONSOLE:
        machine_console_input(m, ev->channel, ev->data, ev->len);
        break;
    case ND_NONE:
    case ND_STOP:
        break;
    }
}

/* Take every event of this position. *stopped: ND_STOP came. */
static struct err *poll_door(struct session *s, bool *stopped)
{
    struct machine *m = s->machine;
    struct nondet_event ev;
    do {
        ev.kind = ND_NONE;
        struct err *e = m->nondet.ops->poll(m->nondet.self, m->vcpu.ticks, &ev);
        if (e)
            return e;
        apply(m, &ev);
        if (s->input && ev.kind != ND_NONE)
            s->input(s->input_arg, &ev);
    } while (ev.kind != ND_NONE && ev.kind != ND_STOP);
    *stopped = ev.kind == ND_STOP;
    return NULL;
}

static void run_timers(struct machine *m)
{
    vclock_run_timers(&m->clock);
    m->clock.deadline_moved = false;
}

/* Halted with interrupts off, and no NMI can come: one that is pending is blocked until an IRET that never comes. */
static bool halted_for_ever(const struct machine *m)
{
    return !(m->vcpu.s.rflags & FL_IF) && (m->vcpu.s.nmi_blocked || !irq_nmi_possible(m));
}

/* The vCPU is halted and nothing is deliverable: wait for the next deadline, or for an event. */
static struct err *idle(struct session *s, bool *stopped)
{
    struct machine *m = s->machine;
    uint64_t now = vclock_ns(&m->clock), deadline = m->clock.next_ns;
    bool reached;
    if (deadline <= now)
        return NULL; /* timers that are still due, see vclock_run_timers() */
    s->served_ticks = m->vcpu.ticks;
    struct err *e = m->nondet.ops->idle(m->nondet.self, m->vcpu.ticks, now, deadline, &reached);
    if (e)
        return e;
    if (!reached)
        return poll_door(s, stopped);
    vclock_anchor(&m->clock, deadline, m->clock.s.rate_q32);
    return NULL;
}

static uint64_t next_stop(const struct session *s, uint64_t horizon)
{
    uint64_t now = s->machine->vcpu.ticks;
    uint64_t until = MIN(MIN(horizon, s->limit_ticks), vclock_next_tick(&s->machine->clock));
    until = MIN(until, s->hook.ticks);
    return MAX(until, now + 1); /* a deadline that could not be met yet waits for the next tick */
}

static struct err *run(struct session *s, enum session_end *out)
{
    struct machine *m = s->machine;
    struct vcpu *v = &m->vcpu;
    bool kicked = false; /* somebody outside wants to be polled before the horizon */
    for (;;) {
        m->clock.now_ticks = v->ticks;
        if (s->progress)
            s->progress(s->progress_arg, m);
        if (v->ticks == s->hook.ticks) {
            s->hook.ticks = UINT64_MAX;
            s->hook.fn(s->hook.arg, m);
        }
        if (m->request) {
            *out = END_REQUEST;
            return NULL;
        }
        if (v->ticks >= s->limit_ticks) {
            *out = END_LIMIT;
            return NULL;
        }
        if (s->interrupted && s->interrupted(s->interrupted_arg, m)) {
            *out = END_INTERRUPTED;
            return NULL;
        }
        bool stopped = false;
        s->served_ticks = v->ticks;
        if (kicked || v->ticks >= m->nondet.ops->horizon_ticks(m->nondet.self)) {
            struct err *e = poll_door(s, &stopped);
            if (e)
                return e;
        }
        if (!stopped) {
            run_timers(m);
            uint64_t until = next_stop(s, m->nondet.ops->horizon_ticks(m->nondet.self));
            enum engine_stop stop = s->engine->ops->run(s->engine, until);
            m->clock.now_ticks = v->ticks;
            kicked = stop == STOP_KICK;
            if (stop == STOP_PROBE) {
                *out = END_PROBE;
                return NULL;
            }
            if (stop == STOP_HALT && halted_for_ever(m)) {
                *out = END_HALTED;
                return NULL;
            }
            struct err *e = stop == STOP_HALT ? idle(s, &stopped) : NULL;
            if (e)
                return e;
        }
        if (stopped) {
            *out = END_STOP;
            return NULL;
        }
    }
}

struct err *session_run(struct session *s, enum session_end *out)
{
    struct err *e = run(s, out);
    s->ended = *out;
    if (s->returns)
        s->returns(s->returns_arg);
    return e;
}
