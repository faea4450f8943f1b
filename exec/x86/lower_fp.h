/* exec/x86/lower_fp.h: the lower functions of insn_fp.def. */
#ifndef HW_X86_LOWER_FP_H
#define HW_X86_LOWER_FP_H

#include "core/cpu.h"
#include "exec/x86/insn.h"

/* vec.c: any MMX, SSE or AVX form, executed by a thunk. Attributes of the row: AT_FP_EXC, AT_ALIGN16. */
bool lower_host(struct lower *lo);

/* vecmov.c: frequent forms in plain C; other forms of the mnemonic go to lower_host(). */
bool lower_vmov(struct lower *lo);      /* whole-register moves */
bool lower_vmov_low(struct lower *lo);  /* MOVD, MOVQ, MOVSS, MOVSD */
bool lower_vbinary(struct lower *lo);   /* arg: enum vbinary_op */
bool lower_vmovmskb(struct lower *lo);
bool lower_emms(struct lower *lo);
bool lower_vzero(struct lower *lo);     /* arg: 0 VZEROUPPER, 1 VZEROALL */
bool lower_mxcsr(struct lower *lo);     /* arg: 0 load, 1 store */

enum vbinary_op {
    VB_XOR, VB_OR, VB_AND, VB_ANDN, VB_CMPEQB, VB_CMPEQD, VB_MINUB, VB_ADDB, VB_ADDD, VB_ADDQ, VB_SUBB, VBINARY_OPS,
};

/* vecmem.c: what touches only selected elements of memory. */
bool lower_maskmov_bytes(struct lower *lo); /* MASKMOVQ, MASKMOVDQU */
bool lower_maskmov(struct lower *lo);       /* VMASKMOVPx, VPMASKMOVx; arg: element size in bytes */
bool lower_gather(struct lower *lo);        /* arg: GATHER_* */

enum { GATHER_INDEX64 = 1, GATHER_DATA64 = 2 };

/* x87.c */
bool lower_x87(struct lower *lo);           /* arithmetic, by a thunk */
bool lower_x87_control(struct lower *lo);   /* arg: enum x87_control */

enum x87_control {
    X87_FNINIT, X87_FNCLEX, X87_FNSTSW, X87_FNSTCW, X87_FLDCW, X87_FNSTENV, X87_FLDENV, X87_FNSAVE, X87_FRSTOR,
    X87_FWAIT, X87_NOP, X87_CONTROLS,
};

#endif
