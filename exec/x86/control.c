/* exec/x86/control.c: control and debug registers, XCR0, cache and TLB instructions, HLT, CPUID, time stamps, MSR access.
 * References: SDM vol. 3 chapter 2, sections 4.1 (paging-mode changes), 4.10, 17.2; vol. 2 for each instruction. */
#include "core/cpu.h"
#include "core/irq.h"
#include "exec/x86/lower.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

enum {
    CR0_FP_ONLY = CR0_MP | CR0_EM | CR0_TS | CR0_NE, /* decide nothing that cpu_mode_update() or the MMU knows */
    XCR0_X87 = 1, XCR0_SSE = 2, XCR0_AVX = 4,
};

static _Noreturn void raise_gp(struct vcpu *v)
{
    vcpu_raise_err(v, VEC_GP, 0);
}

static void require_cpl0(struct vcpu *v)
{
    if (v->s.cpl)
        raise_gp(v);
}

/* ---- PAE paging ---- */

bool pdptes_read(struct vcpu *v, uint64_t cr3, uint64_t out[4])
{
    const uint64_t reserved = bits(UINT64_MAX, 8, 5) << 5 | 6 | ~(bit(VCPU_MAXPHYADDR) - 1);
    uint8_t image[32];
    memset(image, 0xff, sizeof(image)); /* where there is no memory */
    mem_read(&v->machine->mem, gpa(cr3 & 0xffffffe0), image, sizeof(image));
    uint64_t pdpte[4];
    for (unsigned i = 0; i < 4; i++) {
        pdpte[i] = get_le64(image + 8 * i);
        if ((pdpte[i] & 1) && (pdpte[i] & reserved))
            return false;
    }
    memcpy(out, pdpte, sizeof(pdpte));
    return true;
}

static bool uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

static void load_pdptes(struct vcpu *v, uint64_t cr3)
{
    if (!pdptes_read(v, cr3, v->s.pdpte))
        raise_gp(v);
}

/* ---- writing control registers: all checks, then the change ---- */

/* Paging goes on with EFER.LME set: IA-32e mode begins (SDM vol. 3, 9.8.5). */
static void check_long_mode_entry(struct vcpu *v)
{
    uint16_t tr = attr_type(v->s.seg[S_TR].attr);
    if (!(v->s.cr4 & CR4_PAE) || (v->s.seg[S_CS].attr & SEG_L) || tr == SYS_TSS16 || tr == SYS_TSS16_BUSY)
        raise_gp(v);
}

void cr0_write(struct vcpu *v, uint64_t value)
{
    uint64_t old = v->s.cr0, efer = v->s.efer;
    if (value >> 32)
        raise_gp(v);
    value = (value & CR0_MODEL) | CR0_ET;
    if ((value & CR0_PG) && !(value & CR0_PE))
        raise_gp(v);
    if ((value & CR0_NW) && !(value & CR0_CD))
        raise_gp(v);
    if (!(old & CR0_PG) && (value & CR0_PG) && (efer & EFER_LME)) {
        check_long_mode_entry(v);
        efer |= EFER_LMA;
    }
    if ((old & CR0_PG) && !(value & CR0_PG)) {
        if ((v->s.cr4 & CR4_PCIDE) || cpu_of(v)->mode == MODE_LONG64)
            raise_gp(v);
        efer &= ~(uint64_t)EFER_LMA;
    }
    if (uses_pdptes(value, v->s.cr4, efer) && ((old ^ value) & (CR0_PG | CR0_CD | CR0_NW)))
        load_pdptes(v, v->s.cr3);

    v->s.cr0 = value;
    v->s.efer = efer;
    if (!((old ^ value) & ~(uint64_t)CR0_FP_ONLY))
        return;
    if (!(value & CR0_PE))
        v->s.cpl = 0;
    mmu_paging_changed(v);
    cpu_mode_update(v);
}

void cr3_write(struct vcpu *v, uint64_t value)
{
    bool pcid = v->s.cr4 & CR4_PCIDE;
    if (pcid)
        value &= ~bit(63); /* "do not invalidate": nothing is, anyway */
    if (value >> VCPU_MAXPHYADDR)
        raise_gp(v);
    if (uses_pdptes(v->s.cr0, v->s.cr4, v->s.efer))
        load_pdptes(v, value);
    v->s.cr3 = value;
    mmu_paging_changed(v);
}

void cr4_write(struct vcpu *v, uint64_t value)
{
    uint64_t old = v->s.cr4;
    if (value & ~(uint64_t)CR4_MODEL)
        raise_gp(v);
    if (cpu_long(v) && !(value & CR4_PAE))
        raise_gp(v);
    if ((value & CR4_PCIDE) && !(old & CR4_PCIDE) && (!cpu_long(v) || (v->s.cr3 & 0xfff)))
        raise_gp(v);
    if (uses_pdptes(v->s.cr0, value, v->s.efer) && ((old ^ value) & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
        load_pdptes(v, v->s.cr3);
    v->s.cr4 = value;
    mmu_paging_changed(v);
    cpu_mode_update(v);
}

/* ---- MOV to and from control registers: rm is the GPR, x the register's number ---- */

static void sys_mov_from_cr(struct vcpu *v, const struct insn *in)
{
    const struct vcpu_state *s = &v->s;
    require_cpl0(v);
    if (in->x == 8)
        vcpu_publish_ticks(v);
    uint64_t value = in->x == 0 ? s->cr0 : in->x == 2 ? s->cr2 : in->x == 3 ? s->cr3 : in->x == 4 ? s->cr4
                                                                                     : lapic_cr8(v->machine);
    REG64(v, in->rm) = in->opsize == 8 ? value : (uint32_t)value;
}

static void sys_mov_to_cr(struct vcpu *v, const struct insn *in)
{
    require_cpl0(v);
    uint64_t value = in->opsize == 8 ? REG64(v, in->rm) : REG32(v, in->rm);
    switch (in->x) {
    case 0:
        cr0_write(v, value);
        break;
    case 2:
        v->s.cr2 = value;
        break;
    case 3:
        cr3_write(v, value);
        break;
    case 4:
        cr4_write(v, value);
        break;
    default:
        if (value & ~UINT64_C(15))
            raise_gp(v);
        vcpu_publish_ticks(v);
        lapic_set_cr8(v->machine, value);
        break;
    }
}

/* ---- debug registers ---- */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE says otherwise (SDM vol. 3, 17.2.2). */
static unsigned debug_register(struct vcpu *v, const struct insn *in)
{
    bool alias = in->x == 4 || in->x == 5;
    if (alias && (v->s.cr4 & CR4_DE))
        vcpu_raise(v, VEC_UD);
    require_cpl0(v);
    if (v->s.dr[7] & DR7_GD)
        vcpu_raise_db(v, DR6_BD);
    return (alias ? in->x | 2u : in->x) & 7;
}

static void sys_mov_from_dr(struct vcpu *v, const struct insn *in)
{
    uint64_t value = v->s.dr[debug_register(v, in)];
    REG64(v, in->rm) = in->opsize == 8 ? value : (uint32_t)value;
}

static void sys_mov_to_dr(struct vcpu *v, const struct insn *in)
{
    enum { DR6_WRITABLE = DR6_B | DR6_BD | DR6_BS | DR6_BT, DR7_ONE = 0x400 };
    const uint32_t dr6_fixed = 0xffff0ff0, dr7_writable = 0xffff23ff;
    unsigned n = debug_register(v, in);
    uint64_t value = in->opsize == 8 ? REG64(v, in->rm) : REG32(v, in->rm);
    if (n >= 6 && value >> 32)
        raise_gp(v);
    if (n == 6)
        value = (value & DR6_WRITABLE) | dr6_fixed;
    if (n == 7)
        value = (value & dr7_writable) | DR7_ONE;
    v->s.dr[n] = value;
    if (n != 6)
        mmu_breakpoints_changed(v);
}

bool lower_mov_ctl(struct lower *lo)
{
    unsigned reg_op = lower_reg_class(lo, 0) == ZYDIS_REGCLASS_GPR32 || lower_reg_class(lo, 0) == ZYDIS_REGCLASS_GPR64;
    ZydisRegister sys = lo->op[reg_op].reg.value;
    bool control = ZydisRegisterGetClass(sys) == ZYDIS_REGCLASS_CONTROL;
    unsigned n = (unsigned)(sys - (control ? ZYDIS_REGISTER_CR0 : ZYDIS_REGISTER_DR0));
    if (control ? n != 0 && n != 8 && (n < 2 || n > 4) : n > 7)
        return false;
    if (n == 8 && lo->mode != MODE_LONG64)
        return false;
    lo->out->rm = lower_gpr(lo, !reg_op);
    lo->out->x = (uint8_t)n;
    if (reg_op)
        return lower_to(lo, control ? sys_mov_from_cr : sys_mov_from_dr);
    return lower_ends(lo, control ? sys_mov_to_cr : sys_mov_to_dr, INSN_NEXT);
}

/* ---- CLTS, LMSW, SMSW ---- */

void sys_clts(struct vcpu *v, const struct insn *in)
{
    (void)in;
    require_cpl0(v);
    v->s.cr0 &= ~(uint64_t)CR0_TS;
}

void sys_lmsw(struct vcpu *v, const struct insn *in)
{
    enum { MSW = CR0_PE | CR0_MP | CR0_EM | CR0_TS };
    require_cpl0(v);
    uint64_t value = in->flags & INSN_MEM ? ld16(v, in->seg, insn_ea(v, in)) : REG16(v, in->rm);
    value |= v->s.cr0 & CR0_PE; /* LMSW cannot leave protected mode */
    cr0_write(v, (v->s.cr0 & ~(uint64_t)MSW) | (value & MSW));
}

void sys_smsw(struct vcpu *v, const struct insn *in)
{
    if ((v->s.cr4 & CR4_UMIP) && v->s.cpl)
        raise_gp(v);
    if (in->flags & INSN_MEM)
        st16(v, in->seg, insn_ea(v, in), (uint16_t)v->s.cr0);
    else if (in->opsize == 2)
        REG16(v, in->rm) = (uint16_t)v->s.cr0;
    else
        REG64(v, in->rm) = in->opsize == 8 ? v->s.cr0 : (uint32_t)v->s.cr0;
}

/* ---- XCR0 ---- */

static void set_edx_eax(struct vcpu *v, uint64_t value)
{
    v->s.r[R_RAX] = (uint32_t)value;
    v->s.r[R_RDX] = value >> 32;
}

static uint64_t edx_eax(const struct vcpu *v)
{
    return (uint32_t)v->s.r[R_RAX] | v->s.r[R_RDX] << 32;
}

void sys_xgetbv(struct vcpu *v, const struct insn *in)
{
    (void)in;
    if (!(v->s.cr4 & CR4_OSXSAVE))
        vcpu_raise(v, VEC_UD);
    uint32_t index = (uint32_t)v->s.r[R_RCX];
    if (index > 1)
        raise_gp(v);
    set_edx_eax(v, index ? v->s.xcr0 & xsave_in_use(v) : v->s.xcr0);
}

void sys_xsetbv(struct vcpu *v, const struct insn *in)
{
    (void)in;
    if (!(v->s.cr4 & CR4_OSXSAVE))
        vcpu_raise(v, VEC_UD);
    require_cpl0(v);
    uint64_t value = edx_eax(v);
    bool ok = (uint32_t)v->s.r[R_RCX] == 0 && (value & XCR0_X87) && !(value & ~(uint64_t)(XCR0_X87 | XCR0_SSE | XCR0_AVX));
    if (!ok || ((value & XCR0_AVX) && !(value & XCR0_SSE)))
        raise_gp(v);
    v->s.xcr0 = value;
}

/* ---- the TLB is coherent, caches do not exist: only operands are checked ---- */

void sys_invlpg(struct vcpu *v, const struct insn *in)
{
    (void)in;
    require_cpl0(v);
}

void sys_invpcid(struct vcpu *v, const struct insn *in)
{
    enum { ADDRESS, CONTEXT, ALL_GLOBAL, ALL };
    require_cpl0(v);
    uint64_t type = cpu_of(v)->mode == MODE_LONG64 ? REG64(v, in->rm) : REG32(v, in->rm);
    uint64_t ea = insn_ea(v, in);
    uint64_t pcid = ld64(v, in->seg, ea), lin = ld64(v, in->seg, ea + 8);
    bool bad = type > ALL || pcid >> 12;
    bad |= type == ADDRESS && !va_canonical(lin);
    bad |= type <= CONTEXT && pcid && !(v->s.cr4 & CR4_PCIDE);
    if (bad)
        raise_gp(v);
}

void sys_cpl0_nop(struct vcpu *v, const struct insn *in)
{
    (void)in;
    require_cpl0(v);
}

/* ---- HLT, CPUID, time ---- */

void sys_hlt(struct vcpu *v, const struct insn *in)
{
    (void)in;
    require_cpl0(v);
    v->s.activity = VCPU_HALTED;
}

void sys_cpuid(struct vcpu *v, const struct insn *in)
{
    (void)in;
    struct cpuid_result r = cpu_cpuid(&v->s, v->machine->config.cpu_features, (uint32_t)v->s.r[R_RAX], (uint32_t)v->s.r[R_RCX]);
    v->s.r[R_RAX] = r.eax;
    v->s.r[R_RBX] = r.ebx;
    v->s.r[R_RCX] = r.ecx;
    v->s.r[R_RDX] = r.edx;
}

static void check_tsd(struct vcpu *v)
{
    if ((v->s.cr4 & CR4_TSD) && v->s.cpl)
        raise_gp(v);
}

void sys_rdtsc(struct vcpu *v, const struct insn *in)
{
    (void)in;
    check_tsd(v);
    set_edx_eax(v, tsc_read(v));
}

void sys_rdtscp(struct vcpu *v, const struct insn *in)
{
    (void)in;
    check_tsd(v);
    set_edx_eax(v, tsc_read(v));
    v->s.r[R_RCX] = (uint32_t)v->s.tsc_aux;
}

/* The model has no performance counters: no index is valid. */
void sys_rdpmc(struct vcpu *v, const struct insn *in)
{
    (void)in;
    raise_gp(v);
}

/* ---- MSRs ---- */

void sys_rdmsr(struct vcpu *v, const struct insn *in)
{
    (void)in;
    uint64_t value;
    require_cpl0(v);
    if (!msr_read(v, (uint32_t)v->s.r[R_RCX], &value))
        raise_gp(v);
    set_edx_eax(v, value);
}

void sys_wrmsr(struct vcpu *v, const struct insn *in)
{
    (void)in;
    require_cpl0(v);
    if (!msr_write(v, (uint32_t)v->s.r[R_RCX], edx_eax(v)))
        raise_gp(v);
}
