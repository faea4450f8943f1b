/* exec/interp/control.c: near control transfers. Each has a handler for 64-bit mode, where targets are checked for being
 * canonical, and one for everything else, where they are cut to the operand size and checked against CS's limit. In
 * 64-bit mode near branches ignore the operand-size prefix, as Intel's cores do (SDM vol. 2, JMP). */
#include "exec/interp/flags.h"

static inline bool canonical(uint64_t a) { return a + (UINT64_C(1) << 47) < UINT64_C(1) << 48; }

static inline void check64(struct vcpu *v, uint64_t target)
{
    if (unlikely(!canonical(target)))
        vcpu_raise_err(v, VEC_GP, 0);
}

void branch_check(struct vcpu *v, uint64_t target)
{
    if (cpu_of(v)->mode == MODE_LONG64)
        check64(v, target);
    else if (target > v->s.seg[S_CS].limit)
        vcpu_raise_err(v, VEC_GP, 0);
}

static inline void goto64(struct vcpu *v, uint64_t target)
{
    check64(v, target);
    v->s.r[R_RIP] = target;
}

/* Outside 64-bit mode: the target as the operand size leaves it. */
static inline uint64_t cut(const struct insn *in, uint64_t target)
{
    return in->opsize == 2 ? (uint16_t)target : (uint32_t)target;
}
static inline void goto32(struct vcpu *v, const struct insn *in, uint64_t target)
{
    target = cut(in, target);
    branch_check(v, target);
    v->s.r[R_RIP] = target;
}
static inline uint64_t load(struct vcpu *v, const struct insn *in)
{
    uint64_t ea = insn_ea(v, in);
    return in->opsize == 2 ? ld16(v, in->seg, ea) : ld32(v, in->seg, ea);
}
static inline uint64_t next64(const struct vcpu *v, const struct insn *in) { return v->s.r[R_RIP] + in->off + in->len; }

/* ---- Jcc ---- */

#define JCC(cc, cond)                                                                                  \
    static void j##cc##64(struct vcpu *v, const struct insn *in)                                       \
    {                                                                                                  \
        uint32_t f = v->s.aflags;                                                                      \
        if (cond)                                                                                      \
            goto64(v, v->s.r[R_RIP] + in->imm);                                                        \
        else                                                                                           \
            v->s.r[R_RIP] = next64(v, in);                                                             \
    }                                                                                                  \
    static void j##cc##32(struct vcpu *v, const struct insn *in)                                       \
    {                                                                                                  \
        uint32_t f = v->s.aflags;                                                                      \
        if (cond)                                                                                      \
            goto32(v, in, v->s.r[R_RIP] + in->imm);                                                    \
        else                                                                                           \
            v->s.r[R_RIP] = insn_next(v, in);                                                          \
    }
FOR_CONDITIONS(JCC)
#define JCC_ROW(cc, cond) [CC_##cc] = {j##cc##32, j##cc##64},

/* imm: the target relative to the block's start. */
static void lower_target(struct lower *lo)
{
    lo->out->imm = (uint64_t)lower_imm(lo) + lo->out->off + lo->out->len;
}

bool lower_jcc(struct lower *lo)
{
    static const insn_fn fn[16][2] = {FOR_CONDITIONS(JCC_ROW)};
    lower_target(lo);
    return lower_ends(lo, fn[lo->arg][lo->mode == MODE_LONG64], 0);
}

/* ---- JMP ---- */

static void jmp64_i(struct vcpu *v, const struct insn *in) { goto64(v, v->s.r[R_RIP] + in->imm); }
static void jmp64_r(struct vcpu *v, const struct insn *in) { goto64(v, GET64(v, in->rm)); }
static void jmp64_m(struct vcpu *v, const struct insn *in) { goto64(v, ld64(v, in->seg, insn_ea(v, in))); }
static void jmp32_i(struct vcpu *v, const struct insn *in) { goto32(v, in, v->s.r[R_RIP] + in->imm); }
static void jmp32_r(struct vcpu *v, const struct insn *in) { goto32(v, in, GET32(v, in->rm)); }
static void jmp32_m(struct vcpu *v, const struct insn *in) { goto32(v, in, load(v, in)); }

/* Rows of JMP and CALL: by mode; immediate, register, memory. */
static bool lower_branch(struct lower *lo, const insn_fn fn[2][3])
{
    bool wide = lo->mode == MODE_LONG64;
    if (lower_is_mem(lo, 0))
        return lower_ends(lo, fn[wide][2], 0);
    if (lower_is_reg(lo, 0)) {
        lo->out->rm = lower_gpr(lo, 0);
        return lower_ends(lo, fn[wide][1], 0);
    }
    lower_target(lo);
    return lower_ends(lo, fn[wide][0], 0);
}

bool lower_jmp(struct lower *lo)
{
    static const insn_fn fn[2][3] = {{jmp32_i, jmp32_r, jmp32_m}, {jmp64_i, jmp64_r, jmp64_m}};
    if (lo->zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return lower_jmp_far(lo);
    return lower_branch(lo, fn);
}

/* ---- CALL ---- */

/* The host stores the return address first: a fault of the stack precedes that of the target, and below an unmoved RSP
 * the store can be seen. It is of no register and follows every translation, so raising after it is safe. */
static inline void call64(struct vcpu *v, const struct insn *in, uint64_t target)
{
    uint64_t sp = v->s.r[R_RSP] - 8;
    st64(v, S_SS, sp, next64(v, in));
    check64(v, target);
    v->s.r[R_RSP] = sp;
    v->s.r[R_RIP] = target;
}
static inline void call32(struct vcpu *v, const struct insn *in, uint64_t target)
{
    target = cut(in, target);
    branch_check(v, target);
    stack_push(v, in->opsize, insn_next(v, in));
    v->s.r[R_RIP] = target;
}
static void call64_i(struct vcpu *v, const struct insn *in) { call64(v, in, v->s.r[R_RIP] + in->imm); }
static void call64_r(struct vcpu *v, const struct insn *in) { call64(v, in, GET64(v, in->rm)); }
static void call64_m(struct vcpu *v, const struct insn *in) { call64(v, in, ld64(v, in->seg, insn_ea(v, in))); }
static void call32_i(struct vcpu *v, const struct insn *in) { call32(v, in, v->s.r[R_RIP] + in->imm); }
static void call32_r(struct vcpu *v, const struct insn *in) { call32(v, in, GET32(v, in->rm)); }
static void call32_m(struct vcpu *v, const struct insn *in) { call32(v, in, load(v, in)); }

bool lower_call(struct lower *lo)
{
    static const insn_fn fn[2][3] = {{call32_i, call32_r, call32_m}, {call64_i, call64_r, call64_m}};
    if (lo->zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return lower_call_far(lo);
    return lower_branch(lo, fn);
}

/* ---- RET: imm is what to release beside the return address ---- */

static void ret64(struct vcpu *v, const struct insn *in)
{
    uint64_t target = ld64(v, S_SS, v->s.r[R_RSP]);
    check64(v, target);
    v->s.r[R_RSP] += 8 + in->imm;
    v->s.r[R_RIP] = target;
}
static void ret32(struct vcpu *v, const struct insn *in)
{
    uint64_t target = stack_peek(v, in->opsize, 0);
    branch_check(v, target);
    stack_set_rsp(v, v->s.r[R_RSP] + in->opsize + in->imm);
    v->s.r[R_RIP] = target;
}

bool lower_ret(struct lower *lo)
{
    if (lo->zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return lower_ret_far(lo);
    lo->out->imm = lo->zi->raw.imm[0].value.u & 0xffff;
    return lower_ends(lo, lo->mode == MODE_LONG64 ? ret64 : ret32, 0);
}

/* ---- LOOP LOOPE LOOPNE JCXZ: the counter is as wide as the address size ---- */

static inline void branch_if(struct vcpu *v, const struct insn *in, bool taken)
{
    uint64_t target = insn_next(v, in);
    if (taken) {
        target = v->s.r[R_RIP] + in->imm;
        if (cpu_of(v)->mode != MODE_LONG64)
            target = cut(in, target);
        branch_check(v, target);
    }
    v->s.r[R_RIP] = target;
}
static inline void loop_if(struct vcpu *v, const struct insn *in, bool cond)
{
    uint64_t count = (v->s.r[R_RCX] - 1) & in->addr_mask;
    branch_if(v, in, count && cond);
    v->s.r[R_RCX] = in->addr_mask == 0xffff ? (v->s.r[R_RCX] & ~in->addr_mask) | count : count;
}
static void loop_any(struct vcpu *v, const struct insn *in) { loop_if(v, in, true); }
static void loop_e(struct vcpu *v, const struct insn *in) { loop_if(v, in, cond_Z(v->s.aflags)); }
static void loop_ne(struct vcpu *v, const struct insn *in) { loop_if(v, in, !cond_Z(v->s.aflags)); }
static void jcxz(struct vcpu *v, const struct insn *in) { branch_if(v, in, (v->s.r[R_RCX] & in->addr_mask) == 0); }

bool lower_loop(struct lower *lo)
{
    static const insn_fn fn[] = {[LOOP_LOOP] = loop_any, [LOOP_LOOPE] = loop_e, [LOOP_LOOPNE] = loop_ne, [LOOP_JCXZ] = jcxz};
    lower_target(lo);
    return lower_ends(lo, fn[lo->arg], 0);
}
