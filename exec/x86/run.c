/* exec/x86/run.c: between instructions. See run.h. */
#include "exec/x86/run.h"

#include "exec/x86/insn.h"
#include "exec/x86/probe.h"

int run_due_stop(struct vcpu *v, uint64_t until)
{
    struct machine *m = v->machine;
    struct cpu *c = cpu_of(v);
    if (unlikely(c->probe_hits))
        return probes_stop(v);
    if (m->request)
        return STOP_REQUEST;
    if (m->clock.deadline_moved)
        return STOP_DEADLINE;
    if (v->ticks >= until)
        return STOP_TICKS;
    if (c->kick) {
        c->kick = false;
        return STOP_KICK;
    }
    return -1;
}

void run_take_fault(struct vcpu *v)
{
    struct cpu *c = cpu_of(v);
    if (c->cur) {
        v->ticks += (uint64_t)(c->cur - c->first);
        v->s.r[R_RIP] = insn_rip(v, c->cur);
        c->cur = NULL;
    }
    c->bounce.active = false;
    deliver_fault(v);
    v->ticks++;
}
