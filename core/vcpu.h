/* core/vcpu.h: the architectural state of the one vCPU, and the few fields through which devices and engines meet.
 *
 * struct vcpu_state is everything the guest can observe of its CPU: digest, compare, dump and checkpoint are made
 * from it through vcpu_fields[]. It holds no pointers and no caches. Engines keep what they derive from it (TLB,
 * decoded or translated code) elsewhere and must be able to lose it at any stop without the guest noticing.
 *
 * References: Intel SDM vol. 1 ch. 3 (registers), vol. 3 ch. 2 (system registers), vol. 4 (MSRs). */
#ifndef HW_VCPU_H
#define HW_VCPU_H

#include "core/base/base.h"
#include "core/snap.h"

/* Index into vcpu_state.r: the encoding order of the ISA, then two pseudo registers that make effective-address
 * arithmetic branch-free: RIP (exact between engine runs; inside a block the RIP of its first instruction) and a
 * register that is always zero. */
enum gpr {
    R_RAX, R_RCX, R_RDX, R_RBX, R_RSP, R_RBP, R_RSI, R_RDI,
    R_R8, R_R9, R_R10, R_R11, R_R12, R_R13, R_R14, R_R15,
    R_RIP, R_ZERO, R_COUNT
};

enum segreg { S_ES, S_CS, S_SS, S_DS, S_FS, S_GS, S_LDTR, S_TR, S_COUNT };

/* The hidden part of a segment register. `attr` is bytes 5 and 6 of the descriptor with the limit nibble cut out,
 * as VMX stores access rights (SDM 24.4.1): type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15. */
struct seg {
    uint64_t base;
    uint32_t limit; /* bytes - 1, granularity already applied */
    uint16_t sel;
    uint16_t attr;
};
enum {
    SEG_TYPE = 0xf, SEG_ACCESSED = 1, SEG_WRITE = 2 /* data */, SEG_READ = 2 /* code */, SEG_DOWN = 4 /* data */,
    SEG_CONFORMING = 4 /* code */, SEG_CODE = 8, SEG_S = 0x10, SEG_P = 0x80, SEG_NULL = 0x100, /* loaded with a null selector */
    SEG_L = 0x2000, SEG_DB = 0x4000, SEG_G = 0x8000,
};
static inline unsigned seg_dpl(uint16_t attr) { return attr >> 5 & 3; }

struct dtable { uint64_t base; uint32_t limit; uint32_t pad; };

enum {
    FL_CF = 1, FL_PF = 4, FL_AF = 0x10, FL_ZF = 0x40, FL_SF = 0x80, FL_TF = 0x100, FL_IF = 0x200, FL_DF = 0x400,
    FL_OF = 0x800, FL_IOPL = 0x3000, FL_NT = 0x4000, FL_RF = 0x10000, FL_VM = 0x20000, FL_AC = 0x40000,
    FL_VIF = 0x80000, FL_VIP = 0x100000, FL_ID = 0x200000,
    FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
};

enum { /* control register bits the CPU model knows */
    CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 0x10, CR0_NE = 0x20, CR0_WP = 0x10000, CR0_AM = 0x40000,
    CR0_NW = 0x20000000, CR0_CD = 0x40000000,
    CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 0x10, CR4_PAE = 0x20, CR4_MCE = 0x40, CR4_PGE = 0x80,
    CR4_PCE = 0x100, CR4_OSFXSR = 0x200, CR4_OSXMMEXCPT = 0x400, CR4_UMIP = 0x800, CR4_FSGSBASE = 0x10000,
    CR4_PCIDE = 0x20000, CR4_OSXSAVE = 0x40000, CR4_SMEP = 0x100000, CR4_SMAP = 0x200000,
    EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800,
};
#define CR0_PG UINT64_C(0x80000000)

/* x87 in FXSAVE terms: st[i] is ST(i), ten bytes each, the rest of the slot zero. FIP, FDP and FOP are guest
 * values by the rule in exec/x86/fpu.h. MMX registers alias st[] physically, as FXSAVE shows them. */
struct x87 {
    uint8_t st[8][16];
    uint16_t fcw, fsw;
    uint8_t ftw; /* abridged: 1 bit per physical register, 1 = not empty */
    uint8_t pad;
    uint16_t fop;
    uint64_t fip, fdp;
};

enum { VCPU_ACTIVE, VCPU_HALTED, VCPU_SHUTDOWN };
enum { SHADOW_STI = 1, SHADOW_MOVSS = 2 }; /* SDM 24.4.2, interruptibility */

struct vcpu_state {
    uint64_t r[R_COUNT];
    uint64_t rflags;  /* without FL_ARITH, those live in aflags; bit 1 is set */
    uint16_t aflags;  /* arithmetic flags as LAHF; SETO AL leave them in AX: SF ZF AF PF CF in bits 15:8 (bit 9 is
                         always 1), OF in bit 0. Cheap to take from and give to the host. See vcpu_rflags() */
    uint8_t shadow;   /* SHADOW_*: one-instruction interrupt inhibition */
    uint8_t activity; /* VCPU_* */
    uint8_t nmi_blocked, nmi_pending;
    uint8_t cpl;      /* SS.DPL in protected mode, 0 in real mode, 3 in VM86 */
    uint8_t pad0;
    uint32_t pending_db; /* DR6 bits of debug traps that wait for the instruction boundary (BS, B0..B3, BT); 0: none */
    uint32_t pad1;
    struct seg seg[S_COUNT];
    struct dtable gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4; /* CR8 is the local APIC's TPR */
    uint64_t pdpte[4];           /* PAE paging loads them with CR3 (SDM 4.4.1) */
    uint64_t dr[8];              /* dr[4], dr[5] unused (0); dr6, dr7 with their fixed bits */
    uint64_t xcr0;
    struct x87 x87;
    uint8_t ymm[16][32]; /* XMM is the low half */
    uint32_t mxcsr;
    uint32_t pad2;
    /* MSRs without another home; the APIC's live in the APIC, FS/GS base in seg[] */
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, tsc_adjust;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, apic_base, misc_enable, spec_ctrl, debugctl, mcg_status, xss;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    uint64_t microcode_rev;
};

enum vcpu_group { VG_GENERAL, VG_SYSTEM, VG_VECTOR, VG_COUNT };
struct vcpu_field { struct snap_field f; enum vcpu_group group; };
extern const struct vcpu_field vcpu_fields[]; /* ends with f.name == NULL */

/* Hash of one group of the state (VG_COUNT: all groups). Canonical: equal states, equal hashes. */
uint64_t vcpu_digest(const struct vcpu_state *s, enum vcpu_group group);

struct machine;
struct mmu;
struct tlb_entry;

struct vcpu {
    struct vcpu_state s;

    /* From devices to the engine. A device sets `brk` with either of the others, so that a running block ends
     * after the current instruction. */
    bool intr;         /* an interrupt controller has a maskable interrupt to deliver (irq_ack() takes it) */
    uint32_t brk;      /* VCPU_BRK_*: leave the block after this instruction; the engine clears it */

    /* Ticks retired since reset. Exact between engine runs. Inside a run use vcpu_ticks() of exec/x86/cpu.h. */
    uint64_t ticks;

    struct machine *machine; /* borrowed */
    struct mmu *mmu;         /* exec's; NULL while no engine is attached */
    void *exec;              /* exec's per-vCPU scratch (struct cpu of exec/x86/cpu.h) */
};

enum {
    VCPU_BRK_EVENT = 1,   /* intr, NMI, a deadline moved, a machine request: look at the outside */
    VCPU_BRK_CODE = 2,    /* translations or code changed under the running block */
};

/* What of CR0 and CR4 the CPU model has. */
#define CR0_MODEL (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
enum {
    CR4_MODEL = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT |
                CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP,
};

/* Could the vCPU have got into this state? For states that come from elsewhere: what the engines rely on, no more. */
bool vcpu_valid(const struct vcpu_state *s);

void vcpu_reset(struct vcpu *v); /* SDM 9.1.1 power-up state, CPU model MSRs included */

/* RFLAGS in its architectural form, and back (reserved bits forced). */
static inline uint64_t vcpu_aflags_to_rflags(uint16_t a) { return (a >> 8 & (FL_ARITH & 0xff)) | (uint64_t)(a & 1) << 11; }
static inline uint16_t vcpu_rflags_to_aflags(uint64_t f)
{
    return (uint16_t)(((f & (FL_ARITH & 0xff)) | 2) << 8 | (f >> 11 & 1));
}
static inline uint64_t vcpu_rflags(const struct vcpu_state *s) { return s->rflags | vcpu_aflags_to_rflags(s->aflags); }
static inline void vcpu_set_rflags(struct vcpu_state *s, uint64_t f)
{
    s->aflags = vcpu_rflags_to_aflags(f);
    s->rflags = (f & (FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID)) | 2;
}

#endif
