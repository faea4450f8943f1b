/* core/vcpu.c: the table of everything a guest can observe of its CPU, its digest, and the state after reset. */
#include "core/vcpu.h"

#include "core/base/hash.h"
#include "core/cpu.h"
#include "core/machine.h"

#define FIELD(group, name, member, width)                                                              \
    {{name, offsetof(struct vcpu_state, member), sizeof(((struct vcpu_state *)0)->member), width}, group}
#define GPR(name, index) FIELD(VG_GENERAL, name, r[index], 8)
#define SYS(member, width) FIELD(VG_SYSTEM, #member, member, width)
#define SEGMENT(name, index)                                                                           \
    FIELD(VG_SYSTEM, name, seg[index].sel, 2), FIELD(VG_SYSTEM, name ".base", seg[index].base, 8),     \
        FIELD(VG_SYSTEM, name ".limit", seg[index].limit, 4), FIELD(VG_SYSTEM, name ".attr", seg[index].attr, 2)
#define ST(index) FIELD(VG_VECTOR, "st" #index, x87.st[index], 2)
#define YMM(index) FIELD(VG_VECTOR, "ymm" #index, ymm[index], 8)

/* r[R_ZERO] is no state: it is always zero. */
const struct vcpu_field vcpu_fields[] = {
    GPR("rax", R_RAX), GPR("rcx", R_RCX), GPR("rdx", R_RDX), GPR("rbx", R_RBX), GPR("rsp", R_RSP), GPR("rbp", R_RBP),
    GPR("rsi", R_RSI), GPR("rdi", R_RDI), GPR("r8", R_R8), GPR("r9", R_R9), GPR("r10", R_R10), GPR("r11", R_R11),
    GPR("r12", R_R12), GPR("r13", R_R13), GPR("r14", R_R14), GPR("r15", R_R15), GPR("rip", R_RIP),
    FIELD(VG_GENERAL, "rflags", rflags, 8), FIELD(VG_GENERAL, "aflags", aflags, 2),

    SYS(shadow, 1), SYS(activity, 1), SYS(nmi_blocked, 1), SYS(nmi_pending, 1), SYS(cpl, 1), SYS(pending_db, 4),
    SEGMENT("es", S_ES), SEGMENT("cs", S_CS), SEGMENT("ss", S_SS), SEGMENT("ds", S_DS), SEGMENT("fs", S_FS),
    SEGMENT("gs", S_GS), SEGMENT("ldtr", S_LDTR), SEGMENT("tr", S_TR),
    FIELD(VG_SYSTEM, "gdtr.base", gdtr.base, 8), FIELD(VG_SYSTEM, "gdtr.limit", gdtr.limit, 4),
    FIELD(VG_SYSTEM, "idtr.base", idtr.base, 8), FIELD(VG_SYSTEM, "idtr.limit", idtr.limit, 4),
    SYS(cr0, 8), SYS(cr2, 8), SYS(cr3, 8), SYS(cr4, 8), SYS(pdpte, 8), SYS(dr, 8), SYS(xcr0, 8),
    SYS(efer, 8), SYS(star, 8), SYS(lstar, 8), SYS(cstar, 8), SYS(sfmask, 8), SYS(kernel_gs_base, 8), SYS(tsc_aux, 8),
    SYS(tsc_adjust, 8), SYS(sysenter_cs, 8), SYS(sysenter_esp, 8), SYS(sysenter_eip, 8), SYS(pat, 8),
    SYS(apic_base, 8), SYS(misc_enable, 8), SYS(spec_ctrl, 8), SYS(debugctl, 8), SYS(mcg_status, 8), SYS(xss, 8),
    SYS(mtrr_def_type, 8), SYS(mtrr_fixed, 8), SYS(mtrr_base, 8), SYS(mtrr_mask, 8), SYS(microcode_rev, 8),

    ST(0), ST(1), ST(2), ST(3), ST(4), ST(5), ST(6), ST(7),
    FIELD(VG_VECTOR, "fcw", x87.fcw, 2), FIELD(VG_VECTOR, "fsw", x87.fsw, 2), FIELD(VG_VECTOR, "ftw", x87.ftw, 1),
    FIELD(VG_VECTOR, "fop", x87.fop, 2), FIELD(VG_VECTOR, "fip", x87.fip, 8), FIELD(VG_VECTOR, "fdp", x87.fdp, 8),
    YMM(0), YMM(1), YMM(2), YMM(3), YMM(4), YMM(5), YMM(6), YMM(7), YMM(8), YMM(9), YMM(10), YMM(11), YMM(12), YMM(13),
    YMM(14), YMM(15), FIELD(VG_VECTOR, "mxcsr", mxcsr, 4),
    {{NULL, 0, 0, 0}, VG_COUNT},
};

uint64_t vcpu_digest(const struct vcpu_state *s, enum vcpu_group group)
{
    uint8_t image[sizeof(*s)];
    size_t len = 0;
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++) {
        if (group != VG_COUNT && f->group != group)
            continue;
        memcpy(image + len, (const uint8_t *)s + f->f.offset, f->f.len);
        len += f->f.len;
    }
    return hash64(image, len, group);
}

enum {
    REAL_DATA = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED,
    DESC_LDT = SEG_P | 2, DESC_TSS_BUSY = SEG_P | 0xb,
    DR6_FIXED = 0xffff0ff0u, DR7_FIXED = 0x400,
    FCW_POWER_UP = 0x40, FTW_ALL_VALID = 0xff, MXCSR_DEFAULT = 0x1f80,
    MISC_FAST_STRINGS = 1, MISC_BTS_UNAVAILABLE = 1 << 11, MISC_PEBS_UNAVAILABLE = 1 << 12,
    APIC_BASE_RESET = 0xfee00900u, /* enabled, bootstrap processor */
};
#define PAT_RESET UINT64_C(0x0007040600070406)
#define MICROCODE_REV (UINT64_C(1) << 32) /* the revision is in the upper half */

/* SDM vol. 3, table 9-1, column "power up"; MSRs as vol. 4 has them. */
void vcpu_reset(struct vcpu *v)
{
    struct vcpu_state *s = &v->s;
    memset(s, 0, sizeof(*s));
    vcpu_set_rflags(s, 0);
    s->r[R_RIP] = 0xfff0;
    for (unsigned i = S_ES; i <= S_GS; i++)
        s->seg[i] = (struct seg){.limit = 0xffff, .attr = REAL_DATA};
    s->seg[S_CS].sel = 0xf000;
    s->seg[S_CS].base = 0xffff0000;
    s->seg[S_LDTR] = (struct seg){.limit = 0xffff, .attr = DESC_LDT};
    s->seg[S_TR] = (struct seg){.limit = 0xffff, .attr = DESC_TSS_BUSY};
    s->gdtr.limit = s->idtr.limit = 0xffff;
    s->cr0 = CR0_CD | CR0_NW | CR0_ET;
    s->dr[6] = DR6_FIXED;
    s->dr[7] = DR7_FIXED;
    s->xcr0 = 1;
    s->x87.fcw = FCW_POWER_UP;
    s->x87.ftw = FTW_ALL_VALID;
    s->mxcsr = MXCSR_DEFAULT;
    s->pat = PAT_RESET;
    s->apic_base = APIC_BASE_RESET;
    s->misc_enable = MISC_FAST_STRINGS | MISC_BTS_UNAVAILABLE | MISC_PEBS_UNAVAILABLE;
    s->microcode_rev = MICROCODE_REV;
    s->r[R_RDX] = cpu_cpuid(s, v->machine ? v->machine->config.cpu_features : 0, 1, 0).eax;
    v->intr = false;
    v->brk = 0;
    v->ticks = 0;
}

/* ---- states from elsewhere ---- */

static bool canonical(uint64_t a)
{
    return a + (UINT64_C(1) << (VCPU_LINEAR_BITS - 1)) < UINT64_C(1) << VCPU_LINEAR_BITS;
}

static bool control_valid(const struct vcpu_state *s)
{
    enum { EFER_MODEL = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE };
    bool paging = s->cr0 & CR0_PG, long_mode = s->efer & EFER_LMA;
    return !(s->cr0 & ~(uint64_t)CR0_MODEL) && !(s->cr4 & ~(uint64_t)CR4_MODEL) && !(s->efer & ~(uint64_t)EFER_MODEL) &&
           (!paging || s->cr0 & CR0_PE) && long_mode == (paging && s->efer & EFER_LME) &&
           (!long_mode || s->cr4 & CR4_PAE) && !(s->cr3 >> 63) && (s->xcr0 == 1 || s->xcr0 == 3 || s->xcr0 == 7);
}

static bool flags_valid(const struct vcpu_state *s)
{
    struct vcpu_state same = *s;
    vcpu_set_rflags(&same, vcpu_rflags(s));
    bool vm = s->rflags & FL_VM;
    return same.rflags == s->rflags && same.aflags == s->aflags && s->cpl <= 3 && (s->cr0 & CR0_PE || !s->cpl) &&
           (!vm || (s->cpl == 3 && s->cr0 & CR0_PE && !(s->efer & EFER_LMA)));
}

static bool segments_valid(const struct vcpu_state *s)
{
    const uint16_t attr = SEG_TYPE | SEG_S | 0x60 | SEG_P | SEG_NULL | 0x1000 | SEG_L | SEG_DB | SEG_G; /* DPL, AVL */
    bool long_mode = s->efer & EFER_LMA;
    for (unsigned i = 0; i < S_COUNT; i++)
        if (s->seg[i].attr & ~attr || !(long_mode ? canonical(s->seg[i].base) : s->seg[i].base <= UINT32_MAX))
            return false;
    bool code64 = long_mode && s->seg[S_CS].attr & SEG_L;
    return canonical(s->gdtr.base) && canonical(s->idtr.base) && !(code64 && s->seg[S_CS].attr & SEG_DB) &&
           (code64 ? canonical(s->r[R_RIP]) : s->r[R_RIP] <= UINT32_MAX);
}

/* Ten bytes each, and nothing behind them. */
static bool x87_valid(const struct x87 *x)
{
    for (unsigned i = 0; i < ARRAY_LEN(x->st); i++)
        for (unsigned at = 10; at < sizeof(x->st[i]); at++)
            if (x->st[i][at])
                return false;
    return true;
}

bool vcpu_valid(const struct vcpu_state *s)
{
    const uint32_t debug_bits = 0xe00f; /* BT, BS, BD, B3..B0 */
    return control_valid(s) && flags_valid(s) && segments_valid(s) && s->r[R_ZERO] == 0 &&
           s->shadow <= (SHADOW_STI | SHADOW_MOVSS) && s->activity <= VCPU_HALTED && s->nmi_blocked <= 1 &&
           s->nmi_pending <= 1 && !(s->pending_db & ~debug_bits) && !(s->dr[6] >> 32) && !(s->dr[7] >> 32) &&
           s->mxcsr <= UINT16_MAX && x87_valid(&s->x87);
}
