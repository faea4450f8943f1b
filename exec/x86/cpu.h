/* exec/x86/cpu.h: semantics of the x86-64 CPU that all engines share, and how an instruction ends early.
 *
 * While an engine runs, an instruction's semantics may leave it by vcpu_raise(): a longjmp to the engine's
 * dispatcher. The rule that makes this safe: **everything that can fault happens before the first change of
 * architectural state** (registers, memory, device), and nothing on the way owns a resource. */
#ifndef HW_X86_CPU_H
#define HW_X86_CPU_H

#include <setjmp.h>

#include "core/machine.h"
#include "core/vcpu.h"

enum vector {
    VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8,
    VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18, VEC_XM = 19,
};

enum { /* page-fault error code, SDM 4.7 */
    PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16,
};

struct insn; /* a decoded instruction: exec/x86/insn.h */

/* Per-vCPU scratch of exec. vcpu.exec points here. */
struct cpu {
    jmp_buf unwind;          /* target of vcpu_raise(); set by the engine's dispatcher */
    struct { uint8_t vector; bool has_error; uint32_t error; uint64_t cr2; bool is_pf; uint32_t db; } fault; /* what vcpu_raise() raised; db: DR6 bits of a #DB fault */
    uint64_t until;          /* the engine stops exactly here; REP instructions bound themselves by it */

    /* The interpreter's position inside the running block; see vcpu_rip() and vcpu_ticks(). */
    const struct insn *cur, *first;

    uint8_t mode;            /* enum cpu_mode, derived from state by cpu_mode_update() */
    uint8_t mmu_mode;        /* enum mmu_mode, derived likewise */
    uint8_t space;           /* which of the MMU's address spaces is current; the MMU writes it */
    bool flat[6];            /* segment needs no limit or type check (long mode, or base 0, limit 4 GiB, writable) */
    uint64_t seg_base[6];    /* what to add to an effective address: 0 for ES CS SS DS in 64-bit mode */
    uint64_t lin_mask;       /* linear addresses wrap here: ~0 in 64-bit mode, 0xffffffff elsewhere */
    uint64_t stack_mask;     /* width of the stack pointer: 0xffff, 0xffffffff or ~0 */
    struct tlb_entry *dtlb;  /* TLB_SIZE entries for mmu_mode in the current address space */
    uint64_t code_epoch;     /* changes whenever the translation of an executable address may have changed in the
                                current address space and privilege, or code was dropped: a link between two blocks
                                made under one epoch is valid while it lasts. The MMU writes it */
    _Atomic bool kick;       /* engine_kick() */

    struct { bool active; } bounce; /* an rmw()/wr() waits for its commit; see access.h */
    bool own_step;           /* private to debug.c: the running instruction has decided about its single-step trap */
    struct probes *probes;   /* of probe.h, which writes what follows */
    bool probe_exec, probe_data; /* whether any address is armed; whether any data is watched */
    bool probe_other;            /* whether there is a PROBE_VECTOR or PROBE_PORT */
    uint8_t probe_hits, probe_hits_kept; /* by the running instruction; of these, how many stay when it faults */
    struct { uint64_t ticks, rip; } rep; /* where the latest iteration of REP that was not its last left the vCPU */
    struct thunk_arena *host_fp; /* host_thunk.h: what FP and vector instructions run in */
    const void *interp;      /* private to interp/ */
};

enum cpu_mode { MODE_REAL, MODE_VM86, MODE_PROT16, MODE_PROT32, MODE_COMPAT16, MODE_COMPAT32, MODE_LONG64 };

static inline struct cpu *cpu_of(struct vcpu *v) { return v->exec; }

/* Recompute mode, mmu_mode, flat, seg_base after CR0, CR4, EFER, CPL, RFLAGS.AC/VM or a segment register changed.
 * Every function here that changes one of them calls it itself. */
void cpu_mode_update(struct vcpu *v);
static inline bool cpu_long(const struct vcpu *v) { return v->s.efer & EFER_LMA; }     /* IA-32e mode */
static inline bool cpu_protected(const struct vcpu *v) { return (v->s.cr0 & CR0_PE) && !(v->s.rflags & FL_VM); }

/* RIP and tick count of the instruction being executed (not of its successor). */
uint64_t vcpu_rip(struct vcpu *v);
uint64_t vcpu_ticks(struct vcpu *v);
/* Before calling into a device or reading time: publish vcpu_ticks() to the clock. */
static inline void vcpu_publish_ticks(struct vcpu *v) { v->machine->clock.now_ticks = vcpu_ticks(v); }

/* The running iteration of REP is not the last one. */
static inline void vcpu_rep_goes_on(struct vcpu *v)
{
    struct cpu *c = cpu_of(v);
    c->rep.ticks = vcpu_ticks(v) + 1;
    c->rep.rip = vcpu_rip(v);
}

/* Leave the instruction with a fault. It has changed nothing. */
_Noreturn void vcpu_raise(struct vcpu *v, enum vector vec);                    /* no error code */
_Noreturn void vcpu_raise_err(struct vcpu *v, enum vector vec, uint32_t error);
_Noreturn void vcpu_raise_pf(struct vcpu *v, uint64_t lin, uint32_t error);    /* CR2 changes at delivery */

/* ---- deliver.c: events ---- */
enum event_type { EV_EXTERNAL, EV_NMI, EV_FAULT /* hardware exception */, EV_SOFT_INT /* INT n */, EV_SOFT_EXC /* INT3, INTO */, EV_PRIV_SOFT /* INT1 */ };
/* Deliver through IVT, IDT or task gate; v->s.r[R_RIP] is the RIP to save (of the instruction for faults, of the next
 * one for traps and software interrupts). Except for EV_SOFT_*, whose faults are those of an instruction and unwind to the
 * engine, it sets up its own unwind target; nested faults follow SDM table 6-5:
 * contributory -> #DF -> shutdown (machine_request(REQ_CRASH), activity VCPU_SHUTDOWN).
 * `next_rip` is only for EV_SOFT_*: the saved RIP; if delivery of a software interrupt faults, the fault is
 * delivered with the RIP of the instruction itself (R_RIP). Exactly one tick is charged by the caller. */
void deliver_event(struct vcpu *v, enum event_type type, uint8_t vector, bool has_error, uint32_t error, uint64_t next_rip);
/* Take what vcpu_raise() left in cpu->fault (CR2, DR6 updated) and deliver it. */
void deliver_fault(struct vcpu *v);
/* At an instruction boundary: deliver the most urgent pending debug trap, NMI or interrupt, if any is deliverable
 * (SDM table 6-2; shadows honoured and then cleared by the dispatcher). True: one was delivered (one tick). */
bool deliver_pending(struct vcpu *v);
/* Whether deliver_pending() would do anything: cheap, for the dispatcher. */
static inline bool event_pending(const struct vcpu *v)
{
    return v->s.pending_db || v->s.nmi_pending || (v->intr && (v->s.rflags & FL_IF)) || v->s.shadow;
}

#endif
