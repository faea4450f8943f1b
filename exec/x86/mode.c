/* exec/x86/mode.c: what follows from the system state: CPU mode, MMU mode, segment shortcuts; position; raising faults;
 * who may use FP and vector instructions. */
#include "exec/x86/insn.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

enum { XCR0_SSE_AVX = 6 };

static enum cpu_mode mode_of(const struct vcpu_state *s)
{
    if (!(s->cr0 & CR0_PE))
        return MODE_REAL;
    if (s->rflags & FL_VM)
        return MODE_VM86;
    bool wide = s->seg[S_CS].attr & SEG_DB;
    if (!(s->efer & EFER_LMA))
        return wide ? MODE_PROT32 : MODE_PROT16;
    if (s->seg[S_CS].attr & SEG_L)
        return MODE_LONG64;
    return wide ? MODE_COMPAT32 : MODE_COMPAT16;
}

static enum mmu_mode mmu_mode_of(const struct vcpu_state *s)
{
    bool ac = s->rflags & FL_AC;
    if (s->cpl == 3)
        return ac && (s->cr0 & CR0_AM) ? MMU_USER_ALIGN : MMU_USER;
    return ac ? MMU_SUP_AC : MMU_SUP;
}

/* No access through it can fail a limit or type check. */
static bool is_flat(const struct seg *g)
{
    uint16_t attr = g->attr;
    return attr_is_writable(attr) && !(attr & (SEG_DOWN | SEG_NULL)) && g->limit == UINT32_MAX;
}

void cpu_mode_update(struct vcpu *v)
{
    struct vcpu_state *s = &v->s;
    struct cpu *c = cpu_of(v);
    c->mode = (uint8_t)mode_of(s);
    c->mmu_mode = (uint8_t)mmu_mode_of(s);
    if (c->mode == MODE_LONG64) { /* at every system call and fault */
        memset(c->flat, true, sizeof(c->flat));
        memset(c->seg_base, 0, S_FS * sizeof(c->seg_base[0]));
        c->seg_base[S_FS] = s->seg[S_FS].base;
        c->seg_base[S_GS] = s->seg[S_GS].base;
        c->lin_mask = c->stack_mask = UINT64_MAX;
    } else {
        for (unsigned i = S_ES; i <= S_GS; i++) {
            c->flat[i] = is_flat(&s->seg[i]);
            c->seg_base[i] = s->seg[i].base;
        }
        c->lin_mask = UINT32_MAX;
        c->stack_mask = s->seg[S_SS].attr & SEG_DB ? UINT32_MAX : 0xffff;
    }
    mmu_mode_changed(v);
}

uint64_t vcpu_rip(struct vcpu *v)
{
    const struct cpu *c = cpu_of(v);
    return c->cur ? insn_rip(v, c->cur) : v->s.r[R_RIP];
}

uint64_t vcpu_ticks(struct vcpu *v)
{
    const struct cpu *c = cpu_of(v);
    return c->cur ? v->ticks + (uint64_t)(c->cur - c->first) : v->ticks;
}

/* ---- raising ---- */

static struct cpu *begin_fault(struct vcpu *v)
{
    struct cpu *c = cpu_of(v);
    memset(&c->fault, 0, sizeof(c->fault));
    c->probe_hits = c->probe_hits_kept;
    return c;
}

void vcpu_raise(struct vcpu *v, enum vector vec)
{
    struct cpu *c = begin_fault(v);
    c->fault.vector = (uint8_t)vec;
    longjmp(c->unwind, 1);
}

void vcpu_raise_err(struct vcpu *v, enum vector vec, uint32_t error)
{
    struct cpu *c = begin_fault(v);
    c->fault.vector = (uint8_t)vec;
    c->fault.has_error = true;
    c->fault.error = error;
    longjmp(c->unwind, 1);
}

void vcpu_raise_pf(struct vcpu *v, uint64_t lin, uint32_t error)
{
    struct cpu *c = begin_fault(v);
    c->fault.vector = VEC_PF;
    c->fault.has_error = true;
    c->fault.error = error;
    c->fault.is_pf = true;
    c->fault.cr2 = lin;
    longjmp(c->unwind, 1);
}

void vcpu_raise_db(struct vcpu *v, uint32_t dr6_bits)
{
    struct cpu *c = begin_fault(v);
    c->fault.vector = VEC_DB;
    c->fault.db = dr6_bits;
    longjmp(c->unwind, 1);
}

/* ---- FP and vector instructions: SDM vol. 3, 2.5 (CR0), 13.1 and 14.1; vol. 2, 2.7 ---- */

void fpu_check_x87(struct vcpu *v)
{
    if (v->s.cr0 & (CR0_EM | CR0_TS))
        vcpu_raise(v, VEC_NM);
}

void fpu_check_mmx(struct vcpu *v)
{
    if (v->s.cr0 & CR0_EM)
        vcpu_raise(v, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        vcpu_raise(v, VEC_NM);
}

void fpu_check_sse(struct vcpu *v)
{
    if ((v->s.cr0 & CR0_EM) || !(v->s.cr4 & CR4_OSFXSR))
        vcpu_raise(v, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        vcpu_raise(v, VEC_NM);
}

void fpu_check_avx(struct vcpu *v)
{
    bool enabled = (v->s.cr4 & CR4_OSXSAVE) && (v->s.xcr0 & XCR0_SSE_AVX) == XCR0_SSE_AVX;
    if (!cpu_protected(v) || !enabled)
        vcpu_raise(v, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        vcpu_raise(v, VEC_NM);
}
