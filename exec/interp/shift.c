/* exec/interp/shift.c: rotates, shifts, double shifts. A count of 0 (after masking) changes no flag, other counts leave
 * some undefined: the host's own instruction decides, with the guest's flags loaded. */
#include "exec/interp/flags.h"

#define SHIFT_OP(bits, name)                                                                           \
    static inline uint##bits##_t f_##name##bits(struct vcpu *v, uint##bits##_t a, uint8_t count)       \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        __asm__(FLAGS_GIVE #name SFX##bits " %%cl, %[a]" FLAGS_TAKE                                    \
                : [a] "+q"(a), "+&a"(fl) : "c"(count) : "cc");                                         \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }

/* By an immediate: the same, but for ROL and ROR of a register by more than 1. There OF is undefined, and Intel's cores
 * keep it, which they do not with a count in CL or an operand in memory. So an instruction of this form does the last
 * two places. */
#define SHIFT_IMM(bits, name)                                                                          \
    static inline uint##bits##_t f_##name##bits##_imm(struct vcpu *v, uint##bits##_t a, uint8_t count) \
    {                                                                                                  \
        return f_##name##bits(v, a, count);                                                            \
    }
#define ROTATE_IMM(bits, name)                                                                         \
    static inline uint##bits##_t f_##name##bits##_imm(struct vcpu *v, uint##bits##_t a, uint8_t count) \
    {                                                                                                  \
        uint8_t n = count & (bits == 64 ? 63 : 31);                                                    \
        if (n < 2)                                                                                     \
            return f_##name##bits(v, a, n);                                                            \
        uint32_t fl = v->s.aflags;                                                                     \
        n -= 2;                                                                                        \
        __asm__(#name SFX##bits " %%cl, %[a]\n\t" FLAGS_GIVE #name SFX##bits " $2, %[a]" FLAGS_TAKE    \
                : [a] "+q"(a), "+&a"(fl) : "c"(n) : "cc");                                             \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }

/* Suffixes: operand r or m, count by i(mmediate), 1 included, or CL. */
#define SHIFT_FORMS(bits, op)                                                                          \
    static void op##bits##_ri(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        SET##bits(v, in->rm, f_##op##bits##_imm(v, GET##bits(v, in->rm), in->x));                            \
    }                                                                                                  \
    static void op##bits##_rc(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        SET##bits(v, in->rm, f_##op##bits(v, GET##bits(v, in->rm), REG8(v, GPR(R_RCX))));              \
    }                                                                                                  \
    static void op##bits##_mi(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = f_##op##bits(v, *p, in->x);                                                               \
        rmw_end(v);                                                                                    \
    }                                                                                                  \
    static void op##bits##_mc(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = f_##op##bits(v, *p, REG8(v, GPR(R_RCX)));                                                 \
        rmw_end(v);                                                                                    \
    }
#define SHIFT_ALL(op, imm) FOR_SIZES(SHIFT_OP, op) FOR_SIZES(imm, op) FOR_SIZES(SHIFT_FORMS, op)
SHIFT_ALL(rol, ROTATE_IMM)
SHIFT_ALL(ror, ROTATE_IMM)
SHIFT_ALL(rcl, SHIFT_IMM)
SHIFT_ALL(rcr, SHIFT_IMM)
SHIFT_ALL(shl, SHIFT_IMM)
SHIFT_ALL(shr, SHIFT_IMM)
SHIFT_ALL(sar, SHIFT_IMM)

#define SIZE_ROW(op, form) {op##8_##form, op##16_##form, op##32_##form, op##64_##form}
#define SHIFT_ROWS(op) {{SIZE_ROW(op, ri), SIZE_ROW(op, rc)}, {SIZE_ROW(op, mi), SIZE_ROW(op, mc)}}

bool lower_shift(struct lower *lo)
{
    static const insn_fn fn[8][2][2][4] = {
        [0] = SHIFT_ROWS(rol), [1] = SHIFT_ROWS(ror), [2] = SHIFT_ROWS(rcl), [3] = SHIFT_ROWS(rcr),
        [4] = SHIFT_ROWS(shl), [5] = SHIFT_ROWS(shr), [7] = SHIFT_ROWS(sar),
    };
    bool mem = lower_is_mem(lo, 0), by_cl = lower_is_reg(lo, 1);
    if (!mem)
        lo->out->rm = lower_gpr(lo, 0);
    if (!by_cl)
        lo->out->x = (uint8_t)lo->op[1].imm.value.u;
    return lower_to(lo, fn[lo->arg][mem][by_cl][lower_size_index(lower_size(lo, 0))]);
}

/* ---- SHLD SHRD ---- */

#define DOUBLE_OP(bits, name)                                                                          \
    static inline uint##bits##_t f_##name##bits(struct vcpu *v, uint##bits##_t a, uint##bits##_t b, uint8_t count) \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        __asm__(FLAGS_GIVE #name SFX##bits " %%cl, %[b], %[a]" FLAGS_TAKE                              \
                : [a] "+r"(a), "+&a"(fl) : [b] "r"(b), "c"(count) : "cc");                             \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }                                                                                                  \
    static void name##bits##_ri(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        SET##bits(v, in->rm, f_##name##bits(v, GET##bits(v, in->rm), GET##bits(v, in->reg), in->x));   \
    }                                                                                                  \
    static void name##bits##_rc(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        uint8_t count = REG8(v, GPR(R_RCX));                                                           \
        SET##bits(v, in->rm, f_##name##bits(v, GET##bits(v, in->rm), GET##bits(v, in->reg), count));   \
    }                                                                                                  \
    static void name##bits##_mi(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = f_##name##bits(v, *p, GET##bits(v, in->reg), in->x);                                      \
        rmw_end(v);                                                                                    \
    }                                                                                                  \
    static void name##bits##_mc(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = f_##name##bits(v, *p, GET##bits(v, in->reg), REG8(v, GPR(R_RCX)));                        \
        rmw_end(v);                                                                                    \
    }
#define DOUBLE_ALL(name) DOUBLE_OP(16, name) DOUBLE_OP(32, name) DOUBLE_OP(64, name)
DOUBLE_ALL(shld)
DOUBLE_ALL(shrd)

#define DOUBLE_ROW(op, form) {op##16_##form, op##32_##form, op##64_##form}
#define DOUBLE_ROWS(op) {{DOUBLE_ROW(op, ri), DOUBLE_ROW(op, rc)}, {DOUBLE_ROW(op, mi), DOUBLE_ROW(op, mc)}}

bool lower_shift_double(struct lower *lo)
{
    static const insn_fn fn[2][2][2][3] = {DOUBLE_ROWS(shld), DOUBLE_ROWS(shrd)};
    bool mem = lower_form2(lo) == FORM_MR, by_cl = lower_is_reg(lo, 2);
    if (!by_cl)
        lo->out->x = (uint8_t)lo->op[2].imm.value.u;
    return lower_to(lo, fn[lo->arg][mem][by_cl][lower_size_index(lower_size(lo, 0)) - 1]);
}
