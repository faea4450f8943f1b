/* exec/x86/segload.c: MOV, PUSH and POP of segment registers, LDS, LES, LFS, LGS, LSS; and the lower function of the system
 * rows. */
#include "exec/x86/lower.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

/* ---- MOV: x is the segment register, rm the GPR ---- */

static void sys_mov_from_seg_reg(struct vcpu *v, const struct insn *in)
{
    uint16_t sel = v->s.seg[in->x].sel;
    if (in->opsize == 2)
        REG16(v, in->rm) = sel;
    else
        REG64(v, in->rm) = sel;
}

static void sys_mov_from_seg_mem(struct vcpu *v, const struct insn *in)
{
    st16(v, in->seg, insn_ea(v, in), v->s.seg[in->x].sel);
}

/* MOV SS and POP SS hold off interrupts and debug traps for one instruction, so that the stack pointer can follow. */
static void loaded(struct vcpu *v, unsigned sreg)
{
    if (sreg == S_SS)
        v->s.shadow |= SHADOW_MOVSS;
}

static void sys_mov_to_seg(struct vcpu *v, const struct insn *in)
{
    uint16_t sel = in->flags & INSN_MEM ? ld16(v, in->seg, insn_ea(v, in)) : REG16(v, in->rm);
    seg_load(v, in->x, sel);
    loaded(v, in->x);
}

static unsigned sreg_of(const struct lower *lo, unsigned i)
{
    return (unsigned)(lo->op[i].reg.value - ZYDIS_REGISTER_ES);
}

bool lower_mov_sys(struct lower *lo)
{
    bool to_seg = lower_reg_class(lo, 0) == ZYDIS_REGCLASS_SEGMENT;
    if (!to_seg && lower_reg_class(lo, 1) != ZYDIS_REGCLASS_SEGMENT)
        return lower_mov_ctl(lo);
    unsigned other = to_seg;
    lo->out->x = (uint8_t)sreg_of(lo, !other);
    if (to_seg && lo->out->x == S_CS)
        return false;
    bool reg = lower_is_reg(lo, other);
    if (reg)
        lo->out->rm = lower_gpr(lo, other);
    if (to_seg)
        return lower_ends(lo, sys_mov_to_seg, INSN_NEXT);
    return lower_to(lo, reg ? sys_mov_from_seg_reg : sys_mov_from_seg_mem);
}

/* ---- PUSH, POP ---- */

/* A 32- or 64-bit push moves the stack pointer by the operand size, but writes only 16 bits outside 64-bit mode on
 * current processors (SDM vol. 2, PUSH); the word above stays as it is. */
static void sys_push_seg(struct vcpu *v, const struct insn *in)
{
    uint16_t sel = v->s.seg[in->x].sel;
    if (in->opsize != 4) {
        stack_push(v, in->opsize, sel);
        return;
    }
    uint64_t sp = (v->s.r[R_RSP] - 4) & stack_mask(v);
    st16(v, S_SS, sp, sel);
    stack_set_rsp(v, sp);
}

static void sys_pop_seg(struct vcpu *v, const struct insn *in)
{
    uint16_t sel = (uint16_t)stack_peek(v, 2, 0);
    uint64_t mask = stack_mask(v), rsp = v->s.r[R_RSP] + in->opsize;
    seg_load(v, in->x, sel);
    v->s.r[R_RSP] = mask == 0xffff ? (v->s.r[R_RSP] & ~mask) | (rsp & mask) : rsp & mask; /* by the old SS */
    loaded(v, in->x);
}

bool lower_push_seg(struct lower *lo)
{
    lo->out->x = (uint8_t)sreg_of(lo, 0);
    return lower_to(lo, sys_push_seg);
}

bool lower_pop_seg(struct lower *lo)
{
    lo->out->x = (uint8_t)sreg_of(lo, 0);
    return lower_ends(lo, sys_pop_seg, INSN_NEXT);
}

/* ---- far pointers ---- */

static void load_far(struct vcpu *v, const struct insn *in, unsigned sreg)
{
    uint64_t ea = insn_ea(v, in);
    unsigned size = in->opsize;
    uint64_t off = size == 8 ? ld64(v, in->seg, ea) : size == 4 ? ld32(v, in->seg, ea) : ld16(v, in->seg, ea);
    uint16_t sel = ld16(v, in->seg, ea + size);
    seg_load(v, sreg, sel);
    if (size == 2)
        REG16(v, in->rm) = (uint16_t)off;
    else
        REG64(v, in->rm) = off;
}

void sys_lds(struct vcpu *v, const struct insn *in) { load_far(v, in, S_DS); }
void sys_les(struct vcpu *v, const struct insn *in) { load_far(v, in, S_ES); }
void sys_lfs(struct vcpu *v, const struct insn *in) { load_far(v, in, S_FS); }
void sys_lgs(struct vcpu *v, const struct insn *in) { load_far(v, in, S_GS); }
void sys_lss(struct vcpu *v, const struct insn *in) { load_far(v, in, S_SS); }

/* ---- the rows of insn_sys.def ---- */

static const struct { insn_fn fn; uint8_t flags; } sys_ops[] = {
#define X(name, handler, insn_flags) [SYSOP_##name] = {handler, insn_flags},
    SYS_OPS(X)
#undef X
};

static bool is_port_op(unsigned op)
{
    return op == SYSOP_IN || op == SYSOP_OUT || op == SYSOP_INS || op == SYSOP_OUTS;
}

static bool is_gpr(const struct lower *lo, unsigned i)
{
    ZydisRegisterClass c = i < lo->zi->operand_count ? lower_reg_class(lo, i) : ZYDIS_REGCLASS_INVALID;
    return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64;
}

/* LAR and LSL write operand 0 and inspect operand 1, which is rm to their handlers. */
static void fill_registers(struct lower *lo)
{
    bool swapped = lo->arg == SYSOP_LAR || lo->arg == SYSOP_LSL;
    if (is_gpr(lo, swapped))
        lo->out->rm = lower_gpr(lo, swapped);
    if (is_gpr(lo, !swapped))
        lo->out->reg = lower_gpr(lo, !swapped);
}

bool lower_sys(struct lower *lo)
{
    struct insn *out = lo->out;
    fill_registers(lo);
    if (lo->zi->raw.imm[0].size)
        out->imm = (uint64_t)lower_imm(lo);
    else
        out->y = 1; /* IN and OUT: the port is in DX */
    if (is_port_op(lo->arg))
        out->opsize = MIN(out->opsize, 4); /* REX.W is ignored: there are no 64-bit ports */
    out->flags |= sys_ops[lo->arg].flags;
    return lower_to(lo, sys_ops[lo->arg].fn);
}
