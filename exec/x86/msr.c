/* exec/x86/msr.c: the model-specific registers, as a table (SDM vol. 4). An MSR without a row raises #GP.
 *
 * How to add one: a row, in the order of the numbers. A register with plain storage names its field and the bits that may be
 * written; a write that would change another bit raises #GP. `check` vets values, `read` and `write` replace the
 * storage. A row with neither field nor functions is the constant `value`. */
#include "core/cpu.h"
#include "core/irq.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

struct msr {
    uint32_t first, count;
    const char *name;
    uint32_t field;    /* offset in struct vcpu_state of the first, 0: none (r[0] lies there) */
    uint64_t writable; /* bits of the field */
    uint64_t value;    /* of a constant */
    bool (*check)(uint64_t value);
    bool (*read)(struct vcpu *v, uint32_t msr, uint64_t *out);
    bool (*write)(struct vcpu *v, uint32_t msr, uint64_t value);
};

/* ---- time ---- */

uint64_t tsc_read(struct vcpu *v)
{
    vcpu_publish_ticks(v);
    return vclock_ns(&v->machine->clock) + v->s.tsc_adjust;
}

static bool tsc_msr_read(struct vcpu *v, uint32_t msr, uint64_t *out)
{
    (void)msr;
    *out = tsc_read(v);
    return true;
}

static void adjust_tsc(struct vcpu *v, uint64_t adjust)
{
    vcpu_publish_ticks(v);
    v->s.tsc_adjust = adjust;
    lapic_tsc_moved(v->machine);
}

/* Writing either moves both (SDM vol. 3, 17.17.3). */
static bool tsc_msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    (void)msr;
    adjust_tsc(v, v->s.tsc_adjust + (value - tsc_read(v)));
    return true;
}

static bool tsc_adjust_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    (void)msr;
    adjust_tsc(v, value);
    return true;
}

/* ---- the local APIC's ---- */

static bool apic_read(struct vcpu *v, uint32_t msr, uint64_t *out)
{
    vcpu_publish_ticks(v);
    return lapic_rdmsr(v->machine, msr, out);
}

static bool apic_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    vcpu_publish_ticks(v);
    return lapic_wrmsr(v->machine, msr, value);
}

/* ---- what kernels decide mitigations by ---- */

/* No speculation crosses this CPU's privilege checks, so every "not affected" bit is true of it (SDM vol. 4, 10AH). */
#define ARCH_CAPABILITIES                                                                              \
    (bit(0) /* RDCL_NO */ | bit(3) /* SKIP_L1DFL_VMENTRY */ | bit(4) /* SSB_NO */ |      \
     bit(5) /* MDS_NO */ | bit(6) /* IF_PSCHANGE_MC_NO */ | bit(8) /* TAA_NO */ | bit(13) /* SBDR_SSDP_NO */ |  \
     bit(14) /* FBSDP_NO */ | bit(15) /* PSDP_NO */ | bit(20) /* BHI_NO */ | bit(24) /* PBRSB_NO */ |           \
     bit(26) /* GDS_NO */ | bit(27) /* RFDS_NO */ | bit(62) /* ITS_NO */)

static bool arch_capabilities_read(struct vcpu *v, uint32_t msr, uint64_t *out)
{
    (void)msr;
    *out = ARCH_CAPABILITIES;
    return !(v->machine->config.cpu_features & CPU_MITIGATED);
}

static bool write_only(struct vcpu *v, uint32_t msr, uint64_t *out)
{
    (void)v, (void)msr, (void)out;
    return false;
}

static bool pred_cmd_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    (void)v, (void)msr;
    return !(value & ~UINT64_C(1)); /* IBPB: there is nothing to flush */
}

static bool ignore_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    (void)v, (void)msr, (void)value;
    return true;
}

/* ---- memory types: SDM vol. 3, 11.11 and 11.12 ---- */

static bool is_mtrr_type(uint64_t t) { return t == 0 || t == 1 || (t >= 4 && t <= 6); }

static bool check_pat(uint64_t value)
{
    for (unsigned i = 0; i < 64; i += 8) {
        uint64_t t = value >> i & 0xff;
        if (!is_mtrr_type(t) && t != 7)
            return false;
    }
    return true;
}

static bool check_mtrr_fixed(uint64_t value)
{
    for (unsigned i = 0; i < 64; i += 8)
        if (!is_mtrr_type(value >> i & 0xff))
            return false;
    return true;
}

static bool check_mtrr_def_type(uint64_t value) { return is_mtrr_type(value & 0xff); }

static uint64_t *mtrr_variable(struct vcpu *v, uint32_t msr)
{
    unsigned i = (msr - 0x200) / 2;
    return msr & 1 ? &v->s.mtrr_mask[i] : &v->s.mtrr_base[i];
}

static bool mtrr_variable_read(struct vcpu *v, uint32_t msr, uint64_t *out)
{
    *out = *mtrr_variable(v, msr);
    return true;
}

static bool mtrr_variable_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    bool mask = msr & 1;
    uint64_t reserved = ~(bit(VCPU_MAXPHYADDR) - 1) | (mask ? 0x7ff : 0xf00);
    if ((value & reserved) || (!mask && !is_mtrr_type(value & 0xff)))
        return false;
    *mtrr_variable(v, msr) = value;
    return true;
}

/* ---- system calls and segment bases ---- */

static bool efer_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    (void)msr;
    uint64_t old = v->s.efer;
    if (value & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
        return false;
    if (((old ^ value) & EFER_LME) && (v->s.cr0 & CR0_PG))
        return false;
    v->s.efer = (value & ~(uint64_t)EFER_LMA) | (old & EFER_LMA); /* LMA follows LME and CR0.PG */
    mmu_paging_changed(v);
    cpu_mode_update(v);
    return true;
}

static unsigned base_segment(uint32_t msr) { return msr & 1 ? S_GS : S_FS; }

static bool segment_base_read(struct vcpu *v, uint32_t msr, uint64_t *out)
{
    *out = v->s.seg[base_segment(msr)].base;
    return true;
}

static bool segment_base_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    if (!va_canonical(value))
        return false;
    v->s.seg[base_segment(msr)].base = value;
    cpu_mode_update(v);
    return true;
}

/* ---- the table ---- */

#define STATE(member) .field = offsetof(struct vcpu_state, member)
#define ALL .writable = UINT64_MAX
#define LOW32 .writable = UINT32_MAX

static const struct msr msrs[] = {
    {0x0, 2, "P5_MC", .value = 0},
    {0x10, 1, "TSC", .read = tsc_msr_read, .write = tsc_msr_write},
    {0x17, 1, "PLATFORM_ID", .value = 0},
    {0x1b, 1, "APIC_BASE", .read = apic_read, .write = apic_write},
    {0x3b, 1, "TSC_ADJUST", STATE(tsc_adjust), .write = tsc_adjust_write},
    {0x48, 1, "SPEC_CTRL", STATE(spec_ctrl), .writable = 7 /* IBRS, STIBP, SSBD */},
    {0x49, 1, "PRED_CMD", .read = write_only, .write = pred_cmd_write},
    {0x8b, 1, "BIOS_SIGN_ID", STATE(microcode_rev), .write = ignore_write}, /* written before CPUID asks for it */
    {0xce, 1, "PLATFORM_INFO", .value = 10 << 8 /* maximum non-turbo ratio: 10 * 100 MHz */},
    {0xfe, 1, "MTRRCAP", .value = 8 /* variable ranges */ | 1 << 8 /* fixed ranges */ | 1 << 10 /* WC */},
    {0x10a, 1, "ARCH_CAPABILITIES", .read = arch_capabilities_read},
    {0x174, 1, "SYSENTER_CS", STATE(sysenter_cs), LOW32},
    {0x175, 1, "SYSENTER_ESP", STATE(sysenter_esp), ALL, .check = va_canonical},
    {0x176, 1, "SYSENTER_EIP", STATE(sysenter_eip), ALL, .check = va_canonical},
    {0x179, 1, "MCG_CAP", .value = 0 /* no banks */},
    {0x17a, 1, "MCG_STATUS", STATE(mcg_status), .writable = 7},
    {0x1a0, 1, "MISC_ENABLE", STATE(misc_enable), .writable = 1 /* fast strings */},
    {0x1d9, 1, "DEBUGCTL", STATE(debugctl), .writable = 0}, /* no branch records, no branch stepping */
    {0x200, 16, "MTRR_PHYS", .read = mtrr_variable_read, .write = mtrr_variable_write},
    {0x250, 1, "MTRR_FIX64K", STATE(mtrr_fixed[0]), ALL, .check = check_mtrr_fixed},
    {0x258, 2, "MTRR_FIX16K", STATE(mtrr_fixed[1]), ALL, .check = check_mtrr_fixed},
    {0x268, 8, "MTRR_FIX4K", STATE(mtrr_fixed[3]), ALL, .check = check_mtrr_fixed},
    {0x277, 1, "PAT", STATE(pat), ALL, .check = check_pat},
    {0x2ff, 1, "MTRR_DEF_TYPE", STATE(mtrr_def_type), .writable = 0xcff, .check = check_mtrr_def_type},
    {0x6e0, 1, "TSC_DEADLINE", .read = apic_read, .write = apic_write},
    {0x800, 0x100, "X2APIC", .read = apic_read, .write = apic_write},
    {0xc0000080, 1, "EFER", STATE(efer), .write = efer_write},
    {0xc0000081, 1, "STAR", STATE(star), ALL},
    {0xc0000082, 1, "LSTAR", STATE(lstar), ALL, .check = va_canonical},
    {0xc0000083, 1, "CSTAR", STATE(cstar), ALL, .check = va_canonical},
    {0xc0000084, 1, "FMASK", STATE(sfmask), LOW32},
    {0xc0000100, 2, "FS_GS_BASE", .read = segment_base_read, .write = segment_base_write},
    {0xc0000102, 1, "KERNEL_GS_BASE", STATE(kernel_gs_base), ALL, .check = va_canonical},
    {0xc0000103, 1, "TSC_AUX", STATE(tsc_aux), LOW32},
};

static const struct msr *find(uint32_t n)
{
    size_t lo = 0, hi = ARRAY_LEN(msrs);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (n - msrs[mid].first < msrs[mid].count)
            return &msrs[mid];
        if (n < msrs[mid].first)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static uint64_t *storage(struct vcpu *v, const struct msr *m, uint32_t n)
{
    return (uint64_t *)(void *)((uint8_t *)&v->s + m->field) + (n - m->first);
}

bool msr_read(struct vcpu *v, uint32_t n, uint64_t *out)
{
    const struct msr *m = find(n);
    if (!m)
        return false;
    if (m->read)
        return m->read(v, n, out);
    *out = m->field ? *storage(v, m, n) : m->value;
    return true;
}

bool msr_write(struct vcpu *v, uint32_t n, uint64_t value)
{
    const struct msr *m = find(n);
    if (!m)
        return false;
    if (m->write)
        return m->write(v, n, value);
    if (!m->field)
        return false;
    uint64_t *p = storage(v, m, n);
    if (((value ^ *p) & ~m->writable) || (m->check && !m->check(value)))
        return false;
    *p = value;
    return true;
}

struct msr_info msr_info(unsigned i)
{
    if (i >= ARRAY_LEN(msrs))
        return (struct msr_info){0};
    return (struct msr_info){msrs[i].first, msrs[i].count, msrs[i].name};
}
