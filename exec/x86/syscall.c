/* exec/x86/syscall.c: SYSCALL, SYSRET, SYSENTER, SYSEXIT as Intel defines them, SWAPGS and the FS/GS base instructions.
 * The segments they load are constants, no descriptor is read (SDM vol. 2). */
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

static void set_flat(struct vcpu *v, uint16_t cs_sel, uint16_t ss_sel, unsigned cpl, bool code64)
{
    flat_segments(&v->s, cs_sel, ss_sel, cpl, code64);
    cpu_mode_update(v);
}

static bool in_64(const struct vcpu *v) { return cpu_of((struct vcpu *)v)->mode == MODE_LONG64; }

void sys_syscall(struct vcpu *v, const struct insn *in)
{
    if (!in_64(v) || !(v->s.efer & EFER_SCE))
        vcpu_raise(v, VEC_UD);
    uint64_t flags = vcpu_rflags(&v->s) & ~(uint64_t)FL_RF;
    uint64_t masked = flags & ~v->s.sfmask;
    v->s.r[R_RCX] = insn_next(v, in);
    v->s.r[R_R11] = flags;
    debug_own_step(v, masked & FL_TF); /* a kernel that masks TF is not stepped into */
    vcpu_set_rflags(&v->s, masked);
    v->s.r[R_RIP] = v->s.lstar;
    syscall_segments(&v->s, (uint16_t)(v->s.star >> 32));
    cpu_mode_update(v);
}

void sys_sysret(struct vcpu *v, const struct insn *in)
{
    bool to64 = in->opsize == 8;
    uint64_t rip = to64 ? v->s.r[R_RCX] : (uint32_t)v->s.r[R_RCX];
    if (!in_64(v) || !(v->s.efer & EFER_SCE))
        vcpu_raise(v, VEC_UD);
    if (v->s.cpl || !va_canonical(rip)) /* checked at CPL 0 still: CVE-2012-0217 */
        vcpu_raise_err(v, VEC_GP, 0);
    uint64_t flags = v->s.r[R_R11] & SYSRET_FLAGS;
    debug_own_step(v, flags & FL_TF); /* as if the SYSCALL had just ended */
    vcpu_set_rflags(&v->s, flags);
    v->s.r[R_RIP] = rip;
    sysret_segments(&v->s, (uint16_t)(v->s.star >> 48), to64);
    cpu_mode_update(v);
}

void sys_sysenter(struct vcpu *v, const struct insn *in)
{
    (void)in;
    uint16_t sel = (uint16_t)v->s.sysenter_cs & 0xfffc;
    if (!(v->s.cr0 & CR0_PE) || !sel)
        vcpu_raise_err(v, VEC_GP, 0);
    bool lm = cpu_long(v);
    v->s.rflags &= ~(uint64_t)(FL_VM | FL_IF | FL_RF);
    v->s.r[R_RSP] = lm ? v->s.sysenter_esp : (uint32_t)v->s.sysenter_esp;
    v->s.r[R_RIP] = lm ? v->s.sysenter_eip : (uint32_t)v->s.sysenter_eip;
    set_flat(v, sel, (uint16_t)(sel + 8), 0, lm);
}

void sys_sysexit(struct vcpu *v, const struct insn *in)
{
    uint16_t sel = (uint16_t)v->s.sysenter_cs & 0xfffc;
    bool to64 = in->opsize == 8;
    uint64_t rip = v->s.r[R_RDX], rsp = v->s.r[R_RCX];
    if (!(v->s.cr0 & CR0_PE) || !sel || v->s.cpl)
        vcpu_raise_err(v, VEC_GP, 0);
    if (to64 && (!va_canonical(rip) || !va_canonical(rsp)))
        vcpu_raise_err(v, VEC_GP, 0);
    v->s.r[R_RIP] = to64 ? rip : (uint32_t)rip;
    v->s.r[R_RSP] = to64 ? rsp : (uint32_t)rsp;
    set_flat(v, (uint16_t)(sel + (to64 ? 32 : 16)), (uint16_t)(sel + (to64 ? 40 : 24)), 3, to64);
}

void sys_swapgs(struct vcpu *v, const struct insn *in)
{
    (void)in;
    if (!in_64(v))
        vcpu_raise(v, VEC_UD);
    if (v->s.cpl)
        vcpu_raise_err(v, VEC_GP, 0);
    uint64_t base = v->s.seg[S_GS].base;
    v->s.seg[S_GS].base = cpu_of(v)->seg_base[S_GS] = v->s.kernel_gs_base;
    v->s.kernel_gs_base = base;
}

static void check_fsgsbase(struct vcpu *v)
{
    if (!in_64(v) || !(v->s.cr4 & CR4_FSGSBASE))
        vcpu_raise(v, VEC_UD);
}

static void read_base(struct vcpu *v, const struct insn *in, unsigned seg)
{
    check_fsgsbase(v);
    uint64_t base = v->s.seg[seg].base;
    REG64(v, in->rm) = in->opsize == 8 ? base : (uint32_t)base;
}

static void write_base(struct vcpu *v, const struct insn *in, unsigned seg)
{
    check_fsgsbase(v);
    uint64_t base = in->opsize == 8 ? REG64(v, in->rm) : REG32(v, in->rm);
    if (!va_canonical(base))
        vcpu_raise_err(v, VEC_GP, 0);
    v->s.seg[seg].base = cpu_of(v)->seg_base[seg] = base;
}

void sys_rdfsbase(struct vcpu *v, const struct insn *in) { read_base(v, in, S_FS); }
void sys_rdgsbase(struct vcpu *v, const struct insn *in) { read_base(v, in, S_GS); }
void sys_wrfsbase(struct vcpu *v, const struct insn *in) { write_base(v, in, S_FS); }
void sys_wrgsbase(struct vcpu *v, const struct insn *in) { write_base(v, in, S_GS); }
