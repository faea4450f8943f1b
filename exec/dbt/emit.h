/* exec/dbt/emit.h: host machine code, byte by byte. Intel SDM vol. 2 ch. 2.
 *
 * An emitter writes through the writable view of the code arena; positions are offsets into the arena, so that code can
 * be moved between the views by adding the base of either. Writing beyond `end` sets `full` and writes nothing: the
 * caller looks once, at the end. */
#ifndef HW_DBT_EMIT_H
#define HW_DBT_EMIT_H

#include "core/base/base.h"

struct emit {
    uint8_t *base;     /* writable view */
    uint32_t pos, end; /* next byte, and the first that may not be written */
    bool full;
};

enum host_reg {
    H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15,
    H_NONE = 16,
};

/* Condition codes as in Jcc. */
enum host_cond {
    HC_O,
    HC_NO,
    HC_B,
    HC_NB,
    HC_Z,
    HC_NZ,
    HC_BE,
    HC_A,
    HC_S,
    HC_NS,
    HC_P,
    HC_NP,
    HC_L,
    HC_GE,
    HC_LE,
    HC_G
};

/* A memory operand of the host. rip: disp is the arena offset of the datum, which may be negative. */
struct host_mem {
    uint8_t base, index, scale; /* scale: shift count */
    bool rip, gs;
    int32_t disp;
};
static inline struct host_mem hm_base(enum host_reg base, int32_t disp)
{
    return (struct host_mem){.base = (uint8_t)base, .index = H_NONE, .disp = disp};
}
static inline struct host_mem hm_gs(enum host_reg base, int32_t disp) /* base may be H_NONE: an absolute offset */
{
    return (struct host_mem){.base = (uint8_t)base, .index = H_NONE, .gs = true, .disp = disp};
}
static inline struct host_mem hm_rip(int32_t arena_off)
{
    return (struct host_mem){.rip = true, .base = H_NONE, .index = H_NONE, .disp = arena_off};
}

/* One instruction of the legacy or VEX encodings, before its registers become bits. */
struct host_insn {
    bool vex;
    bool p66;            /* legacy: operand-size or mandatory prefix 66 */
    uint8_t rep;         /* legacy: 0, F2 or F3 */
    uint8_t pp, l, vvvv; /* VEX; vvvv as a register number */
    bool w;
    uint8_t map;         /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
    uint8_t opcode;
    bool modrm;
    uint8_t reg, rm;     /* registers, or an opcode extension in reg; without modrm, rm is added to the opcode */
    bool is_mem;
    struct host_mem mem;
    bool rex8;           /* an 8-bit operand among SPL BPL SIL DIL: needs a REX prefix to mean that */
    uint8_t imm_len;
    uint8_t imm[8];
};

void emit_u8(struct emit *e, unsigned x);
void emit_u32(struct emit *e, uint32_t x);
void emit_u64(struct emit *e, uint64_t x);
void emit_insn(struct emit *e, const struct host_insn *in);

/* Short cuts, 64 bits wide where the name does not say otherwise. */
void emit_mov_rr(struct emit *e, enum host_reg dst, enum host_reg src);
void emit_mov_rr32(struct emit *e, enum host_reg dst, enum host_reg src);
void emit_mov_ri(struct emit *e, enum host_reg dst, uint64_t imm); /* shortest form; leaves flags alone */
void emit_load(struct emit *e, enum host_reg dst, struct host_mem m);
void emit_store(struct emit *e, struct host_mem m, enum host_reg src);
void emit_load32(struct emit *e, enum host_reg dst, struct host_mem m);
void emit_store16(struct emit *e, struct host_mem m, enum host_reg src);
void emit_store_imm(struct emit *e, struct host_mem m, int32_t imm);   /* 64 bits, sign-extended */
void emit_store_imm32(struct emit *e, struct host_mem m, int32_t imm);
void emit_store_imm8(struct emit *e, struct host_mem m, uint8_t imm);
void emit_lea(struct emit *e, enum host_reg dst, struct host_mem m);
void emit_lea32(struct emit *e, enum host_reg dst, struct host_mem m);
/* ext: 0 ADD 1 OR 4 AND 5 SUB 6 XOR 7 CMP */
void emit_alu_ri(struct emit *e, unsigned ext, enum host_reg dst, int32_t imm, bool wide);
void emit_alu_rr(struct emit *e, unsigned ext, enum host_reg dst, enum host_reg src, bool wide);
void emit_alu_rm(struct emit *e, unsigned ext, enum host_reg dst, struct host_mem m);
void emit_alu_mi(struct emit *e, unsigned ext, struct host_mem m, int32_t imm, bool wide);
void emit_cmp8_mi(struct emit *e, struct host_mem m, uint8_t imm);
void emit_rorx32(struct emit *e, enum host_reg dst, enum host_reg src, unsigned count); /* leaves flags alone */
void emit_shr_ri32(struct emit *e, enum host_reg dst, unsigned count);

/* Jumps. The _fwd forms return the position of a rel32 for emit_patch(). */
uint32_t emit_jcc_fwd(struct emit *e, enum host_cond cc);
uint32_t emit_jmp_fwd(struct emit *e);
void emit_jmp(struct emit *e, uint32_t target);
void emit_call(struct emit *e, uint32_t target);
void emit_jmp_mem(struct emit *e, struct host_mem m);
void emit_call_mem(struct emit *e, struct host_mem m);
void emit_patch(struct emit *e, uint32_t rel32_pos, uint32_t target);

#endif
