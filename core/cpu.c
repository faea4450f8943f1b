/* core/cpu.c: what the CPU model says of itself through CPUID (SDM vol. 2, CPUID), and the parser of --cpu.
 *
 * Choices a guest kernel looks at:
 *  - The vendor is GenuineIntel, because behaviour follows the Intel manual (SYSCALL, SYSRET, null selectors, FOP).
 *  - Family 6, model 0x36 is a CPU that never speculated (Atom Cedarview); so does an emulated one not. Kernels know
 *    that model as immune to everything, also where no ARCH_CAPABILITIES bit exists to say so (Spectre). Nothing else
 *    hangs on the number: neither Linux nor the C library has a quirk for it.
 *    IBRS, IBPB and STIBP are left out as well: where they exist without need, Linux reports "User space: Vulnerable".
 *    With CPU_MITIGATED it is a Skylake server instead, which kernels mitigate in full.
 *  - The hypervisor bit is set: guests then load no microcode and ask for no errata by revision. The hypervisor leaf has a
 *    signature of our own, so no paravirtual interface is found.
 *  - The TSC and the local APIC timer run from one 1 GHz crystal (leaf 0x15), so nothing has to be calibrated.
 *  - No ERMS: REP MOVSB costs a tick a byte here, and kernels choose REP MOVSQ without it. */
#include "core/cpu.h"

#include "core/platform.h"
#include "core/vclock.h"
#include "core/vcpu.h"

enum {
    SIGNATURE_IMMUNE = 0x00030661,    /* family 6, model 0x36, stepping 1 */
    SIGNATURE_MITIGATED = 0x00050654, /* family 6, model 0x55, stepping 4 */

    LEAF_BASIC_MAX = 0x16, LEAF_HYPERVISOR = 0x40000000, LEAF_EXTENDED = 0x80000000, LEAF_EXTENDED_MAX = 0x80000008,

    CACHE_LINE = 64,
    XSAVE_LEGACY_LEN = 576, XSAVE_AVX_LEN = 256, /* SDM vol. 1, 13.4: legacy region and header; YMM_Hi128 */
    XCR0_AVX = 4,
};

#define LE32(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

static bool is_64bit_mode(const struct vcpu_state *s)
{
    return (s->efer & EFER_LMA) && (s->seg[S_CS].attr & SEG_L);
}

static struct cpuid_result features_1(const struct vcpu_state *s, uint32_t features)
{
    const uint32_t ecx =
        bit(0) /* SSE3 */ | bit(1) /* PCLMULQDQ */ | bit(9) /* SSSE3 */ | bit(12) /* FMA */ | bit(13) /* CMPXCHG16B */ |
        bit(17) /* PCID */ | bit(19) /* SSE4.1 */ | bit(20) /* SSE4.2 */ | bit(21) /* x2APIC */ | bit(22) /* MOVBE */ |
        bit(23) /* POPCNT */ | bit(24) /* TSC deadline */ | bit(25) /* AES */ | bit(26) /* XSAVE */ | bit(28) /* AVX */ |
        bit(29) /* F16C */ | bit(31) /* hypervisor */;
    const uint32_t edx =
        bit(0) /* FPU */ | bit(2) /* DE */ | bit(3) /* PSE */ | bit(4) /* TSC */ | bit(5) /* MSR */ | bit(6) /* PAE */ |
        bit(7) /* MCE */ | bit(8) /* CMPXCHG8B */ | bit(11) /* SEP */ | bit(12) /* MTRR */ | bit(13) /* PGE */ |
        bit(14) /* MCA */ | bit(15) /* CMOV */ | bit(16) /* PAT */ | bit(17) /* PSE-36 */ | bit(19) /* CLFLUSH */ |
        bit(23) /* MMX */ | bit(24) /* FXSR */ | bit(25) /* SSE */ | bit(26) /* SSE2 */ | bit(27) /* self-snoop */;
    return (struct cpuid_result){
        .eax = features & CPU_MITIGATED ? SIGNATURE_MITIGATED : SIGNATURE_IMMUNE,
        .ebx = (CACHE_LINE / 8) << 8 | 1u << 16 | (uint32_t)LAPIC_ID << 24,
        .ecx = ecx | (s->cr4 & CR4_OSXSAVE ? (uint32_t)bit(27) : 0),
        .edx = edx | (s->apic_base & bit(11) ? (uint32_t)bit(9) : 0), /* a disabled APIC vanishes (SDM 10.4.3) */
    };
}

static struct cpuid_result features_7(uint32_t features, uint32_t subleaf)
{
    if (subleaf)
        return (struct cpuid_result){0};
    return (struct cpuid_result){
        .ebx = bit(0) /* FSGSBASE */ | bit(1) /* TSC_ADJUST */ | bit(3) /* BMI1 */ | bit(5) /* AVX2 */ |
               bit(6) /* FDP_EXCPTN_ONLY */ | bit(7) /* SMEP */ | bit(8) /* BMI2 */ | bit(10) /* INVPCID */ |
               bit(13) /* FCS and FDS deprecated */ | bit(20) /* SMAP */ | (features & CPU_SHA ? bit(29) : 0),
        .ecx = bit(2) /* UMIP */,
        .edx = bit(31) /* SSBD, hence SPEC_CTRL */ |
               (features & CPU_MITIGATED ? bit(10) /* MD_CLEAR */ | bit(26) /* IBRS, IBPB */ | bit(27) /* STIBP */
                                         : bit(29) /* ARCH_CAPABILITIES */),
    };
}

static struct cpuid_result cache(uint32_t type, uint32_t level, uint32_t ways, uint32_t sets)
{
    return (struct cpuid_result){.eax = type | level << 5 | 1u << 8 /* self-initialising */,
                                 .ebx = (ways - 1) << 22 | (CACHE_LINE - 1),
                                 .ecx = sets - 1};
}

static struct cpuid_result caches(uint32_t subleaf)
{
    enum { DATA = 1, CODE = 2, UNIFIED = 3 };
    switch (subleaf) {
    case 0:
        return cache(DATA, 1, 8, 64); /* 32 KiB */
    case 1:
        return cache(CODE, 1, 8, 64);
    case 2:
        return cache(UNIFIED, 2, 16, 1024); /* 1 MiB */
    case 3:
        return cache(UNIFIED, 3, 16, 8192); /* 8 MiB */
    default:
        return (struct cpuid_result){0};
    }
}

/* One thread in one core: both levels have width 0. */
static struct cpuid_result topology(uint32_t subleaf)
{
    enum { INVALID, SMT, CORE };
    uint32_t type = subleaf == 0 ? SMT : subleaf == 1 ? CORE : INVALID;
    return (struct cpuid_result){
        .ebx = type != INVALID, .ecx = (subleaf & 0xff) | type << 8, .edx = LAPIC_ID};
}

static struct cpuid_result xsave(const struct vcpu_state *s, uint32_t subleaf)
{
    uint32_t now = XSAVE_LEGACY_LEN + (s->xcr0 & XCR0_AVX ? XSAVE_AVX_LEN : 0);
    switch (subleaf) {
    case 0:
        return (struct cpuid_result){.eax = 7, .ebx = now, .ecx = XSAVE_LEGACY_LEN + XSAVE_AVX_LEN};
    case 1:
        return (struct cpuid_result){.eax = bit(0) /* XSAVEOPT */ | bit(1) /* XSAVEC */ | bit(2) /* XGETBV(1) */,
                                     .ebx = now};
    case 2:
        return (struct cpuid_result){.eax = XSAVE_AVX_LEN, .ebx = XSAVE_LEGACY_LEN};
    default:
        return (struct cpuid_result){0};
    }
}

static struct cpuid_result brand(uint32_t leaf)
{
    static const char text[48] = "Hyperwind virtual CPU";
    const char *p = text + (leaf - 0x80000002) * 16;
    return (struct cpuid_result){get_le32(p), get_le32(p + 4), get_le32(p + 8), get_le32(p + 12)};
}

static struct cpuid_result extended(const struct vcpu_state *s, uint32_t leaf)
{
    switch (leaf) {
    case 0x80000000:
        return (struct cpuid_result){.eax = LEAF_EXTENDED_MAX};
    case 0x80000001:
        return (struct cpuid_result){
            .ecx = bit(0) /* LAHF in 64-bit mode */ | bit(5) /* LZCNT */,
            .edx = bit(20) /* NX */ | bit(26) /* 1 GiB pages */ | bit(27) /* RDTSCP */ | bit(29) /* long mode */ |
                   (is_64bit_mode(s) ? bit(11) /* SYSCALL: reported there only */ : 0)};
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        return brand(leaf);
    case 0x80000006:
        return (struct cpuid_result){.ecx = CACHE_LINE | 8u << 12 /* 16 ways */ | 1024u << 16 /* KiB of L2 */};
    case 0x80000007:
        return (struct cpuid_result){.edx = bit(8) /* invariant TSC */};
    case 0x80000008:
        return (struct cpuid_result){.eax = VCPU_MAXPHYADDR | VCPU_LINEAR_BITS << 8};
    default: /* 0x80000005 is reserved */
        return (struct cpuid_result){0};
    }
}

static struct cpuid_result basic(const struct vcpu_state *s, uint32_t features, uint32_t leaf, uint32_t subleaf)
{
    enum { CRYSTAL_HZ = APIC_TIMER_HZ, TSC_MHZ = VCLOCK_TSC_HZ / 1000000, BUS_MHZ = 100 };
    switch (leaf) {
    case 0:
        return (struct cpuid_result){.eax = LEAF_BASIC_MAX,
                                     .ebx = LE32('G', 'e', 'n', 'u'),
                                     .edx = LE32('i', 'n', 'e', 'I'),
                                     .ecx = LE32('n', 't', 'e', 'l')};
    case 1:
        return features_1(s, features);
    case 2:
        return (struct cpuid_result){.eax = 0x00f0ff01}; /* 64-byte prefetch; caches: see leaf 4 */
    case 4:
        return caches(subleaf);
    case 6:
        return (struct cpuid_result){.eax = bit(2) /* ARAT: the APIC timer never stops */};
    case 7:
        return features_7(features, subleaf);
    case 0xb:
        return topology(subleaf);
    case 0xd:
        return xsave(s, subleaf);
    case 0x15:
        return (struct cpuid_result){.eax = 1, .ebx = VCLOCK_TSC_HZ / CRYSTAL_HZ, .ecx = CRYSTAL_HZ};
    case 0x16:
        return (struct cpuid_result){.eax = TSC_MHZ, .ebx = TSC_MHZ, .ecx = BUS_MHZ};
    default: /* 3 serial number, 5 MONITOR, 9 DCA, 0xA performance monitoring, ...: not in the model */
        return (struct cpuid_result){0};
    }
}

static struct cpuid_result hypervisor(uint32_t leaf)
{
    if (leaf != LEAF_HYPERVISOR)
        return (struct cpuid_result){0};
    return (struct cpuid_result){.eax = LEAF_HYPERVISOR,
                                 .ebx = LE32('H', 'y', 'p', 'e'),
                                 .ecx = LE32('r', 'w', 'i', 'n'),
                                 .edx = LE32('d', 'H', 'W', 0)};
}

struct cpuid_result cpu_cpuid(const struct vcpu_state *s, uint32_t features, uint32_t leaf, uint32_t subleaf)
{
    if (leaf - LEAF_HYPERVISOR < 0x100)
        return hypervisor(leaf);
    if (leaf >= LEAF_EXTENDED && leaf <= LEAF_EXTENDED_MAX)
        return extended(s, leaf);
    return basic(s, features, MIN(leaf, (uint32_t)LEAF_BASIC_MAX), subleaf);
}

/* ---- --cpu ---- */

static const struct { const char *name; uint32_t bit; } option_names[] = {
    {"sha", CPU_SHA},
    {"mitigations", CPU_MITIGATED},
};

static uint32_t option_bit(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(option_names); i++)
        if (strlen(option_names[i].name) == len && !memcmp(option_names[i].name, name, len))
            return option_names[i].bit;
    return 0;
}

struct err *cpu_parse_features(const char *text, uint32_t *out)
{
    uint32_t features = 0;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ",");
        bool on = *p == '+', off = *p == '-';
        uint32_t bits_named = on || off ? option_bit(p + 1, len - 1) : 0;
        if (!bits_named)
            return err_new(ERR_USAGE, "CPU option '%.*s' is unknown; there are +sha, -sha, +mitigations, -mitigations",
                           (int)MIN(len, (size_t)40), p);
        features = on ? features | bits_named : features & ~bits_named;
        p += len + (p[len] == ',');
    }
    *out = features;
    return NULL;
}
