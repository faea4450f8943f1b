/* exec/x86/fpu.h: x87, MMX and SSE state as every engine keeps it, and the rule for the x87 pointers.
 *
 * Arithmetic is executed on the host CPU. What a host could leak through state images is not: FIP, FDP and FOP are
 * guest values by this rule, whatever the engine; only the instructions emulated in x87.c and the XSAVE family read
 * them.
 *
 *  (1) FIP is the offset in CS of the first byte, prefixes included, of the last non-control x87 instruction, one that
 *      raised an unmasked exception included.
 *      Control instructions (SDM vol. 1, 8.1.8) leave it alone: FNCLEX FNINIT FLDCW FNSTCW FNSTSW FNSTENV FLDENV FNSAVE
 *      FRSTOR FWAIT, and the 8087/287 leftovers FENI, FDISI, FSETPM.
 *  (2) FOP (11 bits: the low three of the first opcode byte, then ModRM) changes only when the instruction raises an
 *      unmasked exception (IA32_MISC_ENABLE.FOPCODE_COMPAT = 0, SDM vol. 1, 8.1.9).
 *  (3) FDP (offset of the memory operand) likewise, and only by instructions with one: CPUID.7.0:EBX[6]
 *      FDP_EXCPTN_ONLY = 1.
 *  (4) FCS and FDS are deprecated: CPUID.7.0:EBX[13] = 1; they are stored as 0 and ignored when loaded.
 *  (5) FNINIT and FNSAVE zero all three; FLDENV, FRSTOR and the XSAVE family load them.
 *  (6) FSW.ES and FSW.B are never loaded: they are 1 exactly when a flag is set whose mask in FCW is clear.
 *  (7) MMX instructions with an MMX operand set TOP to 0 and all tags to valid; a written register's exponent becomes
 *      all ones. They leave FIP, FDP and FOP alone. CVTPI2PS and CVTPI2PD with a memory operand are none of these.
 *
 * struct x87 keeps ST(i), not the physical registers: whoever moves TOP other than by pushing and popping rotates the
 * array (x87_set_top). */
#ifndef HW_X86_FPU_H
#define HW_X86_FPU_H

#include "exec/x86/cpu.h"

enum {
    FCW_EXC = 0x3f,      /* exception masks */
    FCW_WRITABLE = 0x1f3f, FCW_ONE = 0x40, FCW_INIT = 0x37f,
    FSW_EXC = 0x3f, FSW_SF = 0x40, FSW_ES = 0x80, FSW_TOP = 0x3800, FSW_B = 0x8000,
    FOP_MASK = 0x7ff,
    MXCSR_INIT = 0x1f80, MXCSR_VALID = 0xffff, /* MXCSR_MASK: DAZ is supported */
};

static inline unsigned x87_top(const struct x87 *x) { return x->fsw >> 11 & 7; }

/* Make physical register `top` the top of stack; the physical registers keep their contents. */
static inline void x87_set_top(struct x87 *x, unsigned top)
{
    unsigned by = (top - x87_top(x)) & 7;
    uint8_t old[8][16];
    x->fsw = (uint16_t)((x->fsw & ~FSW_TOP) | top << 11);
    if (!by)
        return;
    memcpy(old, x->st, sizeof(old));
    for (unsigned i = 0; i < 8; i++)
        memcpy(x->st[i], old[(i + by) & 7], sizeof(old[0]));
}

/* Rule (6), after FCW or FSW was loaded. */
static inline void x87_update_es(struct x87 *x)
{
    x->fsw &= (uint16_t)~(FSW_ES | FSW_B);
    if (x->fsw & ~x->fcw & FSW_EXC)
        x->fsw |= FSW_ES | FSW_B;
}

/* Load FCW and FSW together; st[] is taken to be in the new TOP's order. */
static inline void x87_load_control(struct x87 *x, uint16_t fcw, uint16_t fsw)
{
    x->fcw = (uint16_t)((fcw & FCW_WRITABLE) | FCW_ONE);
    x->fsw = fsw;
    x87_update_es(x);
}

/* FNINIT: everything but the contents of the registers. */
static inline void x87_init(struct x87 *x)
{
    x87_set_top(x, 0);
    x->fcw = FCW_INIT;
    x->fsw = 0;
    x->ftw = 0;
    x->fop = 0;
    x->fip = x->fdp = 0;
}

/* Rule (7): before the operands of an MMX instruction are read. Afterwards st[n] is MMn. */
static inline void mmx_enter(struct x87 *x)
{
    if (unlikely(x->fsw & FSW_TOP))
        x87_set_top(x, 0);
    x->ftw = 0xff;
}

/* The 16-bit tag word of FNSTENV (two bits per physical register) from the abridged one (SDM vol. 2, FXSAVE). */
uint16_t x87_full_tags(const struct x87 *x);
uint8_t x87_abridged_tags(uint16_t full);

/* A waiting x87 or MMX instruction with FSW.ES set: raises #MF, or with CR0.NE = 0 asserts FERR#, which is interrupt
 * line 13 of the 8259 pair. Returns then: the instruction executes as with IGNNE# asserted, the interrupt follows. */
void x87_raise_pending(struct vcpu *v);
static inline void x87_check_pending(struct vcpu *v)
{
    if (unlikely(v->s.x87.fsw & FSW_ES))
        x87_raise_pending(v);
}

#endif
