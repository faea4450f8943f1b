/* tests/insn/model.c: which forms the CPU model has. The ISA set that Zydis names is looked up here, the CPUID bit
 * found is asked of cpu_cpuid(): so the engines' instruction table can neither lack an instruction the model promises
 * nor have one it does not, without a test failing. */
#include "core/cpu.h"
#include "core/machine.h"
#include "tests/insn/insn_test.h"

enum cpuid_reg { EAX, EBX, ECX, EDX };

struct isa_rule {
    ZydisISASet set;
    uint8_t kind; /* enum rule */
    uint32_t leaf;
    uint8_t reg, bit;
};
enum rule { RULE_ALWAYS, RULE_CPUID };

#define ISA(name) ZYDIS_ISA_SET_##name
#define ALWAYS(name)                                                                                                   \
    {                                                                                                                  \
        ISA(name), RULE_ALWAYS, 0, 0, 0                                                                                \
    }
#define BIT(name, leaf, reg, bit)                                                                                      \
    {                                                                                                                  \
        ISA(name), RULE_CPUID, leaf, reg, bit                                                                          \
    }

/* SDM vol. 2, CPUID. What has no row is in no model of ours. */
static const struct isa_rule rules[] = {
    ALWAYS(I86),
    ALWAYS(I186),
    ALWAYS(I286REAL),
    ALWAYS(I286PROTECTED),
    ALWAYS(I386),
    ALWAYS(I486),
    ALWAYS(I486REAL),
    ALWAYS(PENTIUMREAL),
    ALWAYS(PPRO),
    ALWAYS(FAT_NOP),
    ALWAYS(PREFETCH_NOP),
    ALWAYS(PAUSE),
    ALWAYS(RDPMC),
    BIT(X87, 1, EDX, 0),
    BIT(CMOV, 1, EDX, 15),
    BIT(FCMOV, 1, EDX, 15),
    BIT(CLFSH, 1, EDX, 19),
    BIT(PENTIUMMMX, 1, EDX, 23),
    BIT(FXSAVE, 1, EDX, 24),
    BIT(FXSAVE64, 1, EDX, 24),
    BIT(SSE, 1, EDX, 25),
    BIT(SSEMXCSR, 1, EDX, 25),
    BIT(SSE_PREFETCH, 1, EDX, 25),
    BIT(SSE2, 1, EDX, 26),
    BIT(SSE2MMX, 1, EDX, 26),
    BIT(SSE3, 1, ECX, 0),
    BIT(SSE3X87, 1, ECX, 0),
    BIT(PCLMULQDQ, 1, ECX, 1),
    BIT(MONITOR, 1, ECX, 3),
    BIT(VTX, 1, ECX, 5),
    BIT(SMX, 1, ECX, 6),
    BIT(SSSE3, 1, ECX, 9),
    BIT(SSSE3MMX, 1, ECX, 9),
    BIT(FMA, 1, ECX, 12),
    BIT(CMPXCHG16B, 1, ECX, 13),
    BIT(SSE4, 1, ECX, 19),
    BIT(SSE42, 1, ECX, 20),
    BIT(MOVBE, 1, ECX, 22),
    BIT(POPCNT, 1, ECX, 23),
    BIT(AES, 1, ECX, 25),
    BIT(AVXAES, 1, ECX, 25),
    BIT(XSAVE, 1, ECX, 26),
    BIT(AVX, 1, ECX, 28),
    BIT(F16C, 1, ECX, 29),
    BIT(RDRAND, 1, ECX, 30),
    BIT(RDWRFSGS, 7, EBX, 0),
    BIT(BMI1, 7, EBX, 3),
    BIT(AVX2, 7, EBX, 5),
    BIT(AVX2GATHER, 7, EBX, 5),
    BIT(BMI2, 7, EBX, 8),
    BIT(INVPCID, 7, EBX, 10),
    BIT(RTM, 7, EBX, 11),
    BIT(RDSEED, 7, EBX, 18),
    BIT(ADOX_ADCX, 7, EBX, 19),
    BIT(SMAP, 7, EBX, 20),
    BIT(CLFLUSHOPT, 7, EBX, 23),
    BIT(CLWB, 7, EBX, 24),
    BIT(SHA, 7, EBX, 29),
    BIT(PKU, 7, ECX, 3),
    BIT(WAITPKG, 7, ECX, 5),
    BIT(GFNI, 7, ECX, 8),
    BIT(AVX_GFNI, 7, ECX, 8),
    BIT(VAES, 7, ECX, 9),
    BIT(VPCLMULQDQ, 7, ECX, 10),
    BIT(RDPID, 7, ECX, 22),
    BIT(MOVDIR, 7, ECX, 27),
    BIT(ENQCMD, 7, ECX, 29),
    BIT(SERIALIZE, 7, EDX, 14),
    BIT(LAHF, 0x80000001, ECX, 0),
    BIT(LZCNT, 0x80000001, ECX, 5),
    BIT(SSE4A, 0x80000001, ECX, 6),
    BIT(XOP, 0x80000001, ECX, 11),
    BIT(FMA4, 0x80000001, ECX, 16),
    BIT(TBM, 0x80000001, ECX, 21),
    BIT(RDTSCP, 0x80000001, EDX, 27),
    BIT(LONGMODE, 0x80000001, EDX, 29),
    BIT(AMD3DNOW, 0x80000001, EDX, 31),
};

/* Encodings that a CPU without the extension executes as NOP: they lie in 0F 0D and 0F 18..1F (SDM vol. 2, NOP; hint
 * instructions of CET and MPX were put there on purpose). The model has none of the extensions. */
static const ZydisMnemonic nops[] = {
    ZYDIS_MNEMONIC_ENDBR32,     ZYDIS_MNEMONIC_ENDBR64, ZYDIS_MNEMONIC_RDSSPD, ZYDIS_MNEMONIC_RDSSPQ,
    ZYDIS_MNEMONIC_BNDMK,       ZYDIS_MNEMONIC_BNDCL,   ZYDIS_MNEMONIC_BNDCU,  ZYDIS_MNEMONIC_BNDCN,
    ZYDIS_MNEMONIC_BNDMOV,      ZYDIS_MNEMONIC_BNDLDX,  ZYDIS_MNEMONIC_BNDSTX, ZYDIS_MNEMONIC_CLDEMOTE,
    ZYDIS_MNEMONIC_PREFETCHWT1,
};

/* In the model, but not comparable with a host. */
static const struct skip {
    ZydisMnemonic mnemonic;
    const char *why;
} skips[] = {
#define M(name) ZYDIS_MNEMONIC_##name
#define EMULATED "answered by the virtual machine, not by the host; tests/guest"
#define XSTATE "state images are emulated, a host's differ by history; tests/guest"
#define UMIP "Linux emulates it for user mode where the CPU has UMIP; tests/guest"
#define ENTERS_KERNEL "natively it enters the host's kernel; tests/guest"
    {M(CPUID), EMULATED},
    {M(RDTSC), EMULATED},
    {M(RDTSCP), EMULATED},
    {M(RDPID), EMULATED},
    {M(XGETBV), EMULATED},
    {M(XSAVE), XSTATE},
    {M(XSAVE64), XSTATE},
    {M(XSAVEC), XSTATE},
    {M(XSAVEC64), XSTATE},
    {M(XSAVEOPT), XSTATE},
    {M(XSAVEOPT64), XSTATE},
    {M(XRSTOR), XSTATE},
    {M(XRSTOR64), XSTATE},
    {M(SGDT), UMIP},
    {M(SIDT), UMIP},
    {M(SLDT), UMIP},
    {M(SMSW), UMIP},
    {M(STR), UMIP},
    {M(SYSCALL), ENTERS_KERNEL},
    {M(SYSENTER), ENTERS_KERNEL},
#undef M
};

static struct vcpu_state model_state; /* as the guest of guest.c runs: OSXSAVE set, all of XCR0 */
static uint32_t model_features;

void model_init(uint32_t features)
{
    model_features = features;
    model_state.cr4 = CR4_OSXSAVE;
    model_state.xcr0 = 7;
}

static bool cpuid_has(const struct isa_rule *r)
{
    struct cpuid_result c = cpu_cpuid(&model_state, model_features, r->leaf, 0);
    const uint32_t regs[] = {[EAX] = c.eax, [EBX] = c.ebx, [ECX] = c.ecx, [EDX] = c.edx};
    return regs[r->reg] >> r->bit & 1;
}

static bool isa_in_model(ZydisISASet set)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        if (rules[i].set == set)
            return rules[i].kind == RULE_ALWAYS || cpuid_has(&rules[i]);
    return false;
}

static bool xsave_option(ZydisISASet set) /* leaf 0xd, subleaf 1, EAX: XSAVEOPT, XSAVEC, XSAVES */
{
    uint32_t eax = cpu_cpuid(&model_state, model_features, 0xd, 1).eax;
    return (set == ISA(XSAVEOPT) && (eax & 1)) || (set == ISA(XSAVEC) && (eax & 2)) ||
           (set == ISA(XSAVES) && (eax & 8));
}

static bool is_nop(ZydisMnemonic m)
{
    for (size_t i = 0; i < ARRAY_LEN(nops); i++)
        if (nops[i] == m)
            return true;
    return false;
}

void model_classify(struct form *f)
{
    f->kind = FORM_UD;
    if (is_nop(f->mnemonic) || isa_in_model(f->isa_set) || xsave_option(f->isa_set))
        f->kind = FORM_TEST;
    for (size_t i = 0; f->kind == FORM_TEST && i < ARRAY_LEN(skips); i++)
        if (skips[i].mnemonic == f->mnemonic) {
            f->kind = FORM_SKIP;
            f->why = skips[i].why;
        }
}
