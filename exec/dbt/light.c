/* exec/dbt/light.c: system instructions in C without leaving translated code.
 *
 * Called through the light thunk with the guest's vector and x87 state in place: this file is compiled for general registers
 * only. Those that change the access mode have the flags in hot.aflags, and either do their instruction whole and return where
 * to go on, or do nothing and return 0: then the handler does it. They know only the plain case: 64-bit code, nothing to look
 * at before the next instruction, whose code is in the jump cache. */
#include "exec/dbt/dbt.h"
#include "exec/x86/sys.h"

/* The code at `rip` for access mode `mode`, under what else d->key says; NULL: not at hand. */
static const void *code_for(const struct dbt *d, enum mmu_mode mode, uint64_t rip)
{
    struct key k = d->key;
    k.mmu_mode = (uint8_t)mode;
    unsigned i = jump_cache_index(cpu_of(d->v)->space, mode);
    if (!d->have_fsgsbase || !block_same_key(&d->jump_cache_key[i], &k) || !block_same_key(&d->ret_cache_key[mode], &k))
        return NULL;
    const struct jc_entry *e = &jump_cache(d, i)[jc_slot(rip)];
    return e->va == rip ? e->code : NULL;
}

static void enter_mode(struct dbt *d, enum mmu_mode mode)
{
    struct cpu *c = cpu_of(d->v);
    unsigned i = jump_cache_index(c->space, mode);
    c->mmu_mode = d->key.mmu_mode = (uint8_t)mode;
    mmu_mode_changed(d->v);
    d->cur_dtlb = c->dtlb;
    d->jump_caches_used |= bit(i);
    d->arena.hot->jump_cache = (uintptr_t)jump_cache(d, i);
    d->arena.hot->ret_cache = (uintptr_t)ret_cache(d, mode);
    dbt_set_gs(c->dtlb);
}

static void set_flags(struct dbt *d, uint64_t flags)
{
    vcpu_set_rflags(&d->v->s, flags);
    d->arena.hot->aflags = d->v->s.aflags;
}

static uint64_t get_flags(const struct dbt *d)
{
    return d->v->s.rflags | vcpu_aflags_to_rflags(d->arena.hot->aflags);
}

/* As sys_syscall(), but for RCX. */
uint64_t light_syscall(struct dbt *d, uint64_t arg)
{
    struct vcpu_state *s = &d->v->s;
    uint64_t flags = get_flags(d), masked = flags & ~s->sfmask;
    const void *code = code_for(d, MMU_SUP, s->lstar);
    (void)arg;
    if (!code || !(s->efer & EFER_SCE) || (masked & (FL_TF | FL_AC)))
        return 0;
    d->arena.hot->spill[SPILL_R11] = flags;
    set_flags(d, masked);
    syscall_segments(s, (uint16_t)(s->star >> 32));
    enter_mode(d, MMU_SUP);
    return (uintptr_t)code;
}

/* As sys_sysret() to 64-bit code; at CPL 0. */
uint64_t light_sysret(struct dbt *d, uint64_t rip)
{
    struct vcpu_state *s = &d->v->s;
    uint64_t flags = d->arena.hot->spill[SPILL_R11] & SYSRET_FLAGS;
    const void *code = code_for(d, MMU_USER, rip);
    if (!code || !(s->efer & EFER_SCE) || (flags & (FL_TF | FL_AC)) || ((flags & FL_IF) && d->v->intr))
        return 0;
    set_flags(d, flags);
    sysret_segments(s, (uint16_t)(s->star >> 48), true);
    enter_mode(d, MMU_USER);
    return (uintptr_t)code;
}

/* At CPL 0, before the instruction at `next`. */
static uint64_t set_ac(struct dbt *d, bool on, uint64_t next)
{
    enum mmu_mode mode = on ? MMU_SUP_AC : MMU_SUP;
    const void *code = code_for(d, mode, next);
    if (!code)
        return 0;
    d->v->s.rflags = on ? d->v->s.rflags | FL_AC : d->v->s.rflags & ~(uint64_t)FL_AC;
    enter_mode(d, mode);
    return (uintptr_t)code;
}

uint64_t light_stac(struct dbt *d, uint64_t next) { return set_ac(d, true, next); }
uint64_t light_clac(struct dbt *d, uint64_t next) { return set_ac(d, false, next); }

/* The TSC before an instruction: `left` ticks are from there to d->end. */
uint64_t light_tsc(struct dbt *d, uint64_t left)
{
    struct vclock *clock = &d->v->machine->clock;
    clock->now_ticks = d->end - left;
    return vclock_ns_at(clock, clock->now_ticks) + d->v->s.tsc_adjust;
}
