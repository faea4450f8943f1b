/* exec/x86/lower.h: the lower functions of the integer rows, and helpers every lower function may use.
 *
 * What insn_decode() has filled before a lower function runs, beside off, len and the prefix flags:
 *   explicit memory operand (ModRM or moffs): base, index, scale, disp, seg, addr_mask, INSN_MEM;
 *   no such operand: base and index R_ZERO, disp 0, and seg = DS or its override, addr_mask by the address size,
 *   which is what implicit operands of string instructions, XLAT and MASKMOV* need.
 *   opsize: operand size of the instruction in bytes (1 for byte opcodes).
 *
 * Mnemonics that name instructions of two families belong to the row of insn_int.def, whose lower function passes the
 * foreign forms on (MOV with segment, control and debug registers, PUSH and POP of a segment register, far JMP, CALL and
 * RET). MOVSD and CMPSD are both strings and SSE2: their rows in insn_fp.def are the SSE2 forms, and insn_info_of()
 * knows the strings by their category. */
#ifndef HW_X86_LOWER_H
#define HW_X86_LOWER_H

#include "exec/x86/insn.h"

/* ---- helpers ---- */

static inline bool lower_is_reg(const struct lower *lo, unsigned i) { return lo->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER; }
static inline bool lower_is_mem(const struct lower *lo, unsigned i) { return lo->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY; }
static inline bool lower_is_imm(const struct lower *lo, unsigned i) { return lo->op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }
static inline ZydisRegisterClass lower_reg_class(const struct lower *lo, unsigned i)
{
    return lower_is_reg(lo, i) ? ZydisRegisterGetClass(lo->op[i].reg.value) : ZYDIS_REGCLASS_INVALID;
}
/* Bytes of operand i. */
static inline unsigned lower_size(const struct lower *lo, unsigned i) { return lo->op[i].size / 8u; }
/* 0..3 for 1, 2, 4, 8 bytes: the last index of every handler table. */
static inline unsigned lower_size_index(unsigned bytes) { return (unsigned)__builtin_ctz(bytes); }
/* Byte offset of GPR operand i into vcpu_state.r. */
static inline uint8_t lower_gpr(const struct lower *lo, unsigned i) { return (uint8_t)insn_gpr_offset(lo->op[i].reg.value); }
/* The instruction's first immediate, sign-extended from the width it is encoded with. */
int64_t lower_imm(const struct lower *lo);

static inline bool lower_to(struct lower *lo, insn_fn fn)
{
    lo->out->fn = fn;
    return fn != NULL;
}
/* The same for one that ends its block; flags: INSN_NEXT, INSN_ALONE. */
static inline bool lower_ends(struct lower *lo, insn_fn fn, unsigned flags)
{
    lo->out->flags |= (uint8_t)(INSN_ENDS | flags);
    return lower_to(lo, fn);
}

/* Operand kinds, an index of handler tables: what the destination and the source are. */
enum form { FORM_RR, FORM_RM, FORM_MR, FORM_RI, FORM_MI, FORM_COUNT };
/* Fill rm, reg, imm from operands 0 and 1, GPRs, memory or an immediate. Destination register: rm, but reg in FORM_RM;
 * source register: reg. */
enum form lower_form2(struct lower *lo);

/* ---- arguments of rows ---- */

enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST };
enum alu1_op { ALU1_INC, ALU1_DEC, ALU1_NOT, ALU1_NEG };
enum bcd_op { BCD_AAA, BCD_AAS, BCD_DAA, BCD_DAS, BCD_AAM, BCD_AAD };
enum scan_op { SCAN_BSF, SCAN_BSR, SCAN_TZCNT, SCAN_LZCNT, SCAN_POPCNT };
enum bmi_op {
    BMI_ANDN, BMI_BEXTR, BMI_BLSI, BMI_BLSMSK, BMI_BLSR, BMI_BZHI, BMI_PDEP, BMI_PEXT, BMI_SARX, BMI_SHLX, BMI_SHRX,
    BMI_RORX, BMI_MULX,
};
enum extend_op { EXT_CBW, EXT_CWDE, EXT_CDQE, EXT_CWD, EXT_CDQ, EXT_CQO };
enum flag_op { FLAG_LAHF, FLAG_SAHF, FLAG_SALC, FLAG_CMC, FLAG_CLC, FLAG_STC, FLAG_CLD, FLAG_STD };
enum loop_op { LOOP_LOOP, LOOP_LOOPE, LOOP_LOOPNE, LOOP_JCXZ };
enum string_op { STR_MOVS = 0, STR_STOS = 4, STR_LODS = 8, STR_CMPS = 12, STR_SCAS = 16 }; /* | log2(bytes) */
/* Condition codes, numbered as in the opcodes (SDM vol. 1 appendix B). */
enum cond { CC_O, CC_NO, CC_B, CC_NB, CC_Z, CC_NZ, CC_BE, CC_NBE, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_NL, CC_LE, CC_NLE };

/* ---- rows of insn_int.def ---- */

/* alu.c */
bool lower_alu(struct lower *lo);      /* arg: enum alu_op */
bool lower_alu1(struct lower *lo);     /* arg: enum alu1_op */
bool lower_xchg(struct lower *lo);
bool lower_xadd(struct lower *lo);
bool lower_cmpxchg(struct lower *lo);
bool lower_cmpxchg_wide(struct lower *lo); /* arg: bytes, 8 or 16 */

/* mov.c */
bool lower_mov(struct lower *lo);
bool lower_movx(struct lower *lo);     /* arg: 1 to sign-extend */
bool lower_lea(struct lower *lo);
bool lower_cmov(struct lower *lo);     /* arg: condition code */
bool lower_setcc(struct lower *lo);    /* arg: condition code */
bool lower_xlat(struct lower *lo);
bool lower_bswap(struct lower *lo);
bool lower_movbe(struct lower *lo);
bool lower_movnti(struct lower *lo);
bool lower_extend_acc(struct lower *lo); /* arg: enum extend_op */
bool lower_flag_op(struct lower *lo);  /* arg: enum flag_op */
bool lower_nop(struct lower *lo);
bool lower_clflush(struct lower *lo);

/* stack.c */
bool lower_push(struct lower *lo);
bool lower_pop(struct lower *lo);
bool lower_pusha(struct lower *lo);
bool lower_popa(struct lower *lo);
bool lower_enter(struct lower *lo);
bool lower_leave(struct lower *lo);

/* shift.c */
bool lower_shift(struct lower *lo);    /* arg: ModRM.reg of the group: ROL ROR RCL RCR SHL SHR - SAR */
bool lower_shift_double(struct lower *lo); /* arg: 0 SHLD, 1 SHRD */

/* muldiv.c */
bool lower_mul(struct lower *lo);
bool lower_imul(struct lower *lo);
bool lower_div(struct lower *lo);      /* arg: 1 when signed */
bool lower_bcd(struct lower *lo);      /* arg: enum bcd_op */

/* bits.c */
bool lower_bt(struct lower *lo);       /* arg: 0 BT, 1 BTS, 2 BTR, 3 BTC */
bool lower_scan(struct lower *lo);     /* arg: enum scan_op */
bool lower_bmi(struct lower *lo);      /* arg: enum bmi_op */
bool lower_crc32(struct lower *lo);

/* control.c */
bool lower_jcc(struct lower *lo);      /* arg: condition code */
bool lower_jmp(struct lower *lo);
bool lower_call(struct lower *lo);
bool lower_ret(struct lower *lo);
bool lower_loop(struct lower *lo);     /* arg: enum loop_op */

/* string.c */
bool lower_string(struct lower *lo);   /* arg: enum string_op | log2 of the element size */

/* ---- foreign forms of shared mnemonics, by the system rows ---- */
bool lower_mov_sys(struct lower *lo);  /* MOV to and from segment, control and debug registers */
bool lower_push_seg(struct lower *lo);
bool lower_pop_seg(struct lower *lo);
bool lower_jmp_far(struct lower *lo);
bool lower_call_far(struct lower *lo);
bool lower_ret_far(struct lower *lo);

#endif
