/* exec/x86/run.h: what the dispatchers of all engines do alike between instructions. */
#ifndef HW_X86_RUN_H
#define HW_X86_RUN_H

#include "exec/engine.h"
#include "exec/x86/cpu.h"

/* Whether something must be looked at before the next instruction: then single instructions are stepped, in the
 * interpreter. */
static inline bool run_needs_attention_but_rf(const struct vcpu *v)
{
    enum { DR7_ENABLES = 0xff };
    const struct vcpu_state *s = &v->s;
    return v->brk | v->machine->clock.deadline_moved | s->shadow | s->activity | s->nmi_pending | s->pending_db |
           (s->rflags & FL_TF) | (v->intr ? s->rflags & FL_IF : 0) | (s->dr[7] & DR7_ENABLES);
}
static inline bool run_needs_attention(const struct vcpu *v)
{
    return run_needs_attention_but_rf(v) || (v->s.rflags & FL_RF);
}

/* The stop that is due now at the latest by tick `until`, or -1. Hits of data probes come first; beyond that, order
 * matters to nobody but must be the same for all engines. Takes a kick. */
int run_due_stop(struct vcpu *v, uint64_t until);

/* Where vcpu_raise() lands: put the vCPU at the faulting instruction, then deliver. */
void run_take_fault(struct vcpu *v);

#endif
