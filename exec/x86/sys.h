/* exec/x86/sys.h: the system half of the CPU, as the dispatcher, the MMU and the instruction table see it.
 *
 * Handlers of system instructions are shared semantics: the interpreter calls them through struct insn, a translator
 * calls out to them. Rows are in insn_sys.def. */
#ifndef HW_X86_SYS_H
#define HW_X86_SYS_H

#include "exec/x86/insn.h"

/* ---- debug exceptions (debug.c; SDM vol. 3 chapter 17) ---- */

enum {
    DR6_B = 0xf, DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR6_BT = 1 << 15,
    DR7_GD = 1 << 13,
};

/* A fault-class #DB: instruction breakpoint (DR6_B bits) or general detect (DR6_BD). */
_Noreturn void vcpu_raise_db(struct vcpu *v, uint32_t dr6_bits);
/* Before an instruction at linear address `lin`, RF clear: raises #DB when an execute breakpoint matches. */
void debug_fetch_check(struct vcpu *v, uint64_t lin);
/* An access is about to happen: breakpoints it touches become pending traps. */
void debug_data_check(struct vcpu *v, uint64_t lin, uint32_t size, bool write);
void debug_io_check(struct vcpu *v, uint16_t port, unsigned size);
/* After an instruction at whose start TF was (or was not) set: single-step trap. */
void debug_after_insn(struct vcpu *v, bool tf_was_set);
/* The instruction decides by itself what TF does after it: INT n, SYSCALL, SYSRET. `trap`: a single-step trap is due. */
void debug_own_step(struct vcpu *v, bool trap);

/* ---- MSRs (msr.c) ---- */

bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *out); /* false: #GP(0) */
bool msr_write(struct vcpu *v, uint32_t msr, uint64_t value);
/* The table, for tests and dumps; ends with name == NULL. */
struct msr_info { uint32_t first, count; const char *name; };
struct msr_info msr_info(unsigned i);
/* The guest's TSC now. */
uint64_t tsc_read(struct vcpu *v);

/* ---- control registers (control.c) ---- */

/* Write a control register with all its checks and consequences; raises #GP(0). */
void cr0_write(struct vcpu *v, uint64_t value);
void cr3_write(struct vcpu *v, uint64_t value);
void cr4_write(struct vcpu *v, uint64_t value);
/* XINUSE as a function of values (xsave.c). */
uint64_t xsave_in_use(const struct vcpu *v);

/* ---- SYSCALL and SYSRET (syscall.c) ---- */

/* CS and SS as fast calls load them, and CPL. cpu_mode_update() is the caller's. */
static inline void flat_segments(struct vcpu_state *s, uint16_t cs_sel, uint16_t ss_sel, unsigned cpl, bool code64)
{
    enum {
        FLAT_CODE = SEG_CODE | SEG_READ | SEG_ACCESSED | SEG_S | SEG_P | SEG_G,
        FLAT_DATA = SEG_WRITE | SEG_ACCESSED | SEG_S | SEG_P | SEG_DB | SEG_G,
    };
    uint16_t dpl = (uint16_t)(cpl << 5), size = code64 ? SEG_L : SEG_DB;
    s->seg[S_CS] = (struct seg){.limit = UINT32_MAX, .sel = (uint16_t)((cs_sel & ~3u) | cpl), .attr = FLAT_CODE | size | dpl};
    s->seg[S_SS] = (struct seg){.limit = UINT32_MAX, .sel = (uint16_t)((ss_sel & ~3u) | cpl), .attr = FLAT_DATA | dpl};
    s->cpl = (uint8_t)cpl;
}
static inline void syscall_segments(struct vcpu_state *s, uint16_t sel)
{
    flat_segments(s, sel, (uint16_t)((sel & ~3u) + 8), 0, true);
}
static inline void sysret_segments(struct vcpu_state *s, uint16_t sel, bool to64)
{
    flat_segments(s, (uint16_t)(sel + (to64 ? 16 : 0)), (uint16_t)(sel + 8), 3, to64);
}
enum { SYSRET_FLAGS = 0x3c7fd7 }; /* what it takes from R11 */

/* ---- system instructions: name of the row's argument, handler, INSN_* flags ---- */

#define SYS_OPS(X)                                                                                     \
    /* syscall.c */                                                                                    \
    X(SYSCALL, sys_syscall, INSN_ENDS)                                                                 \
    X(SYSRET, sys_sysret, INSN_ENDS)                                                                   \
    X(SYSENTER, sys_sysenter, INSN_ENDS)                                                               \
    X(SYSEXIT, sys_sysexit, INSN_ENDS)                                                                 \
    X(SWAPGS, sys_swapgs, 0)                                                                           \
    X(RDFSBASE, sys_rdfsbase, 0)                                                                       \
    X(RDGSBASE, sys_rdgsbase, 0)                                                                       \
    X(WRFSBASE, sys_wrfsbase, 0)                                                                       \
    X(WRGSBASE, sys_wrgsbase, 0)                                                                       \
    /* control.c */                                                                                    \
    X(CLTS, sys_clts, 0)                                                                               \
    X(LMSW, sys_lmsw, INSN_ENDS | INSN_NEXT)                                                           \
    X(SMSW, sys_smsw, 0)                                                                               \
    X(XGETBV, sys_xgetbv, 0)                                                                           \
    X(XSETBV, sys_xsetbv, INSN_ENDS | INSN_NEXT)                                                       \
    X(INVLPG, sys_invlpg, 0)                                                                           \
    X(INVPCID, sys_invpcid, 0)                                                                         \
    X(CPL0_NOP, sys_cpl0_nop, 0)                                                                       \
    X(HLT, sys_hlt, INSN_ENDS | INSN_NEXT)                                                             \
    X(CPUID, sys_cpuid, 0)                                                                             \
    X(RDTSC, sys_rdtsc, 0)                                                                             \
    X(RDTSCP, sys_rdtscp, 0)                                                                           \
    X(RDPMC, sys_rdpmc, 0)                                                                             \
    X(RDMSR, sys_rdmsr, INSN_ENDS | INSN_NEXT)                                                         \
    X(WRMSR, sys_wrmsr, INSN_ENDS | INSN_NEXT)                                                         \
    /* sysflags.c */                                                                                   \
    X(CLI, sys_cli, 0)                                                                                 \
    X(STI, sys_sti, INSN_ENDS | INSN_NEXT)                                                             \
    X(CLAC, sys_clac, INSN_ENDS | INSN_NEXT)                                                           \
    X(STAC, sys_stac, INSN_ENDS | INSN_NEXT)                                                           \
    X(PUSHF, sys_pushf, 0)                                                                             \
    X(POPF, sys_popf, INSN_ENDS | INSN_NEXT)                                                           \
    /* softint.c */                                                                                    \
    X(INT, sys_int, INSN_ENDS)                                                                         \
    X(INT3, sys_int3, INSN_ENDS)                                                                       \
    X(INTO, sys_into, INSN_ENDS)                                                                       \
    X(INT1, sys_int1, INSN_ENDS)                                                                       \
    X(BOUND, sys_bound, 0)                                                                             \
    /* iret.c */                                                                                       \
    X(IRET, sys_iret, INSN_ENDS)                                                                       \
    /* io.c */                                                                                         \
    X(IN, sys_in, INSN_ENDS | INSN_NEXT)                                                               \
    X(OUT, sys_out, INSN_ENDS | INSN_NEXT)                                                             \
    X(INS, sys_ins, INSN_ENDS | INSN_ALONE)                                                            \
    X(OUTS, sys_outs, INSN_ENDS | INSN_ALONE)                                                          \
    /* tables.c */                                                                                     \
    X(SGDT, sys_sgdt, 0)                                                                               \
    X(SIDT, sys_sidt, 0)                                                                               \
    X(LGDT, sys_lgdt, 0)                                                                               \
    X(LIDT, sys_lidt, 0)                                                                               \
    X(SLDT, sys_sldt, 0)                                                                               \
    X(STR, sys_str, 0)                                                                                 \
    X(LLDT, sys_lldt, 0)                                                                               \
    X(LTR, sys_ltr, 0)                                                                                 \
    X(LAR, sys_lar, 0)                                                                                 \
    X(LSL, sys_lsl, 0)                                                                                 \
    X(VERR, sys_verr, 0)                                                                               \
    X(VERW, sys_verw, 0)                                                                               \
    X(ARPL, sys_arpl, 0)                                                                               \
    /* segload.c */                                                                                    \
    X(LDS, sys_lds, INSN_ENDS | INSN_NEXT)                                                             \
    X(LES, sys_les, INSN_ENDS | INSN_NEXT)                                                             \
    X(LFS, sys_lfs, INSN_ENDS | INSN_NEXT)                                                             \
    X(LGS, sys_lgs, INSN_ENDS | INSN_NEXT)                                                             \
    X(LSS, sys_lss, INSN_ENDS | INSN_NEXT)                                                             \
    /* xsave.c */                                                                                      \
    X(FXSAVE, sys_fxsave, 0)                                                                           \
    X(FXRSTOR, sys_fxrstor, 0)                                                                         \
    X(XSAVE, sys_xsave, 0)                                                                             \
    X(XSAVEOPT, sys_xsaveopt, 0)                                                                       \
    X(XSAVEC, sys_xsavec, 0)                                                                           \
    X(XRSTOR, sys_xrstor, 0)

enum sys_op {
#define X(name, fn, flags) SYSOP_##name,
    SYS_OPS(X)
#undef X
};
#define X(name, fn, flags) void fn(struct vcpu *v, const struct insn *in);
SYS_OPS(X)
#undef X

/* Lower function of all rows above; arg: SYSOP_*. GPR operand 0 goes to rm, operand 1 to reg, an immediate to imm. */
bool lower_sys(struct lower *lo);
/* MOV with a control or debug register (control.c). */
bool lower_mov_ctl(struct lower *lo);

#endif
