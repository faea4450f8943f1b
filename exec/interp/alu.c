/* exec/interp/alu.c: two-operand and one-operand arithmetic and logic, and the exchanges.
 * One small function per operation, size and operand kind, chosen when the instruction is decoded: nothing is left to
 * decide at run time. */
#include "exec/interp/flags.h"
#include "exec/x86/lower.h"

/* ---- ADD OR ADC SBB AND SUB XOR CMP TEST ---- */

#define ALU_REG_FORMS(bits, op)                                                                        \
    static void op##bits##_rr(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        SET##bits(v, in->rm, f_##op##bits(v, GET##bits(v, in->rm), GET##bits(v, in->reg)));            \
    }                                                                                                  \
    static void op##bits##_rm(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        SET##bits(v, in->reg, f_##op##bits(v, GET##bits(v, in->reg), x));                              \
    }                                                                                                  \
    static void op##bits##_ri(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        SET##bits(v, in->rm, f_##op##bits(v, GET##bits(v, in->rm), (uint##bits##_t)in->imm));          \
    }
#define ALU_MEM_FORMS(bits, op)                                                                        \
    static void op##bits##_mr(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = f_##op##bits(v, *p, GET##bits(v, in->reg));                                               \
        rmw_end(v);                                                                                    \
    }                                                                                                  \
    static void op##bits##_mi(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = f_##op##bits(v, *p, (uint##bits##_t)in->imm);                                             \
        rmw_end(v);                                                                                    \
    }
/* CMP and TEST write nothing but flags, so their memory operand is only read. */
#define COMPARE_FORMS(bits, op)                                                                        \
    static void op##bits##_rr(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        f_##op##bits(v, GET##bits(v, in->rm), GET##bits(v, in->reg));                                  \
    }                                                                                                  \
    static void op##bits##_rm(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        f_##op##bits(v, GET##bits(v, in->reg), x);                                                     \
    }                                                                                                  \
    static void op##bits##_ri(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        f_##op##bits(v, GET##bits(v, in->rm), (uint##bits##_t)in->imm);                                \
    }                                                                                                  \
    static void op##bits##_mr(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        f_##op##bits(v, x, GET##bits(v, in->reg));                                                     \
    }                                                                                                  \
    static void op##bits##_mi(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        f_##op##bits(v, ld##bits(v, in->seg, insn_ea(v, in)), (uint##bits##_t)in->imm);                \
    }
#define ALU_FORMS(op) FOR_SIZES(ALU_REG_FORMS, op) FOR_SIZES(ALU_MEM_FORMS, op)

ALU_FORMS(add)
ALU_FORMS(or)
ALU_FORMS(adc)
ALU_FORMS(sbb)
ALU_FORMS(and)
ALU_FORMS(sub)
ALU_FORMS(xor)
FOR_SIZES(COMPARE_FORMS, cmp)
FOR_SIZES(COMPARE_FORMS, test)

#define SIZE_ROW(op, form) {op##8_##form, op##16_##form, op##32_##form, op##64_##form}
#define ALU_ROWS(op)                                                                                   \
    {                                                                                                  \
        [FORM_RR] = SIZE_ROW(op, rr), [FORM_RM] = SIZE_ROW(op, rm), [FORM_MR] = SIZE_ROW(op, mr),      \
        [FORM_RI] = SIZE_ROW(op, ri), [FORM_MI] = SIZE_ROW(op, mi),                                    \
    }
static const insn_fn alu_fn[][FORM_COUNT][4] = {
    [ALU_ADD] = ALU_ROWS(add), [ALU_OR] = ALU_ROWS(or),   [ALU_ADC] = ALU_ROWS(adc),
    [ALU_SBB] = ALU_ROWS(sbb), [ALU_AND] = ALU_ROWS(and), [ALU_SUB] = ALU_ROWS(sub),
    [ALU_XOR] = ALU_ROWS(xor), [ALU_CMP] = ALU_ROWS(cmp), [ALU_TEST] = ALU_ROWS(test),
};

bool lower_alu(struct lower *lo)
{
    enum form form = lower_form2(lo);
    return lower_to(lo, alu_fn[lo->arg][form][lower_size_index(lower_size(lo, 0))]);
}

/* ---- INC DEC NOT NEG ---- */

#define FLAG_OP1(bits, name)                                                                           \
    static inline uint##bits##_t f_##name##bits(struct vcpu *v, uint##bits##_t a)                      \
    {                                                                                                  \
        uint32_t fl = v->s.aflags; /* INC and DEC keep CF */                                           \
        __asm__(FLAGS_GIVE_CF #name SFX##bits " %[a]" FLAGS_TAKE : [a] "+q"(a), "+&a"(fl) : : "cc");   \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }
#define F_NOT(bits, name)                                                                              \
    static inline uint##bits##_t f_not##bits(struct vcpu *v, uint##bits##_t a)                         \
    {                                                                                                  \
        (void)v;                                                                                       \
        return (uint##bits##_t)~a;                                                                     \
    }
#define ALU1_FORMS(bits, op)                                                                           \
    static void op##bits##_r(struct vcpu *v, const struct insn *in)                                    \
    {                                                                                                  \
        SET##bits(v, in->rm, f_##op##bits(v, GET##bits(v, in->rm)));                                   \
    }                                                                                                  \
    static void op##bits##_m(struct vcpu *v, const struct insn *in)                                    \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = f_##op##bits(v, *p);                                                                      \
        rmw_end(v);                                                                                    \
    }
FOR_SIZES(FLAG_OP1, inc)
FOR_SIZES(FLAG_OP1, dec)
FOR_SIZES(FLAG_OP1, neg)
FOR_SIZES(F_NOT, not)
FOR_SIZES(ALU1_FORMS, inc)
FOR_SIZES(ALU1_FORMS, dec)
FOR_SIZES(ALU1_FORMS, neg)
FOR_SIZES(ALU1_FORMS, not)

#define R_M_ROWS(op) {SIZE_ROW(op, r), SIZE_ROW(op, m)}
static const insn_fn alu1_fn[][2][4] = {
    [ALU1_INC] = R_M_ROWS(inc), [ALU1_DEC] = R_M_ROWS(dec), [ALU1_NOT] = R_M_ROWS(not), [ALU1_NEG] = R_M_ROWS(neg),
};

bool lower_alu1(struct lower *lo)
{
    bool mem = lower_is_mem(lo, 0);
    if (!mem)
        lo->out->rm = lower_gpr(lo, 0);
    return lower_to(lo, alu1_fn[lo->arg][mem][lower_size_index(lower_size(lo, 0))]);
}

/* ---- XCHG XADD CMPXCHG ---- */

/* CMPXCHG of the host, on a register: whichever of destination and accumulator is not chosen is treated as the
 * host treats it, upper halves included. */
#define CMPXCHG_OP(bits, w)                                                                            \
    static inline uint64_t cmpxchg##bits(struct vcpu *v, uint64_t dst, uint64_t src)                   \
    {                                                                                                  \
        uint64_t ax = v->s.r[R_RAX], acc;                                                              \
        __asm__("cmpxchg" SFX##bits " %" w "[src], %" w "[dst]\n\tmov %%rax, %[acc]" FLAGS_TAKE        \
                : [dst] "+&q"(dst), [acc] "=&r"(acc), "+&a"(ax) : [src] "q"(src) : "cc");              \
        v->s.aflags = (uint16_t)ax;                                                                    \
        v->s.r[R_RAX] = acc;                                                                           \
        return dst;                                                                                    \
    }
CMPXCHG_OP(8, "b")
CMPXCHG_OP(16, "w")
CMPXCHG_OP(32, "k")
CMPXCHG_OP(64, "q")

/* A store of the destination's full register image: CMPXCHG of the host has decided about the upper half already. */
#define PUT8(v, o, x) SET8(v, o, (uint8_t)(x))
#define PUT16(v, o, x) SET16(v, o, (uint16_t)(x))
#define PUT32(v, o, x) SET64(v, o, x)
#define PUT64(v, o, x) SET64(v, o, x)
#define WIDE8(v, o) GET8(v, o)
#define WIDE16(v, o) GET16(v, o)
#define WIDE32(v, o) GET64(v, o)
#define WIDE64(v, o) GET64(v, o)

#define EXCHANGE_FORMS(bits)                                                                           \
    static void xchg##bits##_rr(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        uint##bits##_t a = GET##bits(v, in->rm), b = GET##bits(v, in->reg);                            \
        SET##bits(v, in->rm, b);                                                                       \
        SET##bits(v, in->reg, a);                                                                      \
    }                                                                                                  \
    static void xchg##bits##_mr(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        uint##bits##_t a = *p;                                                                         \
        *p = GET##bits(v, in->reg);                                                                    \
        rmw_end(v);                                                                                    \
        SET##bits(v, in->reg, a);                                                                      \
    }                                                                                                  \
    static void xadd##bits##_rr(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        uint##bits##_t a = GET##bits(v, in->rm), sum = f_add##bits(v, a, GET##bits(v, in->reg));       \
        SET##bits(v, in->reg, a);                                                                      \
        SET##bits(v, in->rm, sum); /* last: it wins when both are one register */                      \
    }                                                                                                  \
    static void xadd##bits##_mr(struct vcpu *v, const struct insn *in)                                 \
    {                                                                                                  \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        uint##bits##_t a = *p;                                                                         \
        *p = f_add##bits(v, a, GET##bits(v, in->reg));                                                 \
        rmw_end(v);                                                                                    \
        SET##bits(v, in->reg, a);                                                                      \
    }                                                                                                  \
    static void cmpxchg##bits##_rr(struct vcpu *v, const struct insn *in)                              \
    {                                                                                                  \
        uint64_t dst = cmpxchg##bits(v, WIDE##bits(v, in->rm), GET##bits(v, in->reg));                 \
        PUT##bits(v, in->rm, dst);                                                                     \
    }                                                                                                  \
    static void cmpxchg##bits##_mr(struct vcpu *v, const struct insn *in)                              \
    {                                                                                                  \
        /* The destination is written when they differ, too: with what it held (SDM vol. 2, CMPXCHG). */ \
        mem##bits##_t *p = rmw(v, in->seg, insn_ea(v, in), bits / 8);                                  \
        *p = (uint##bits##_t)cmpxchg##bits(v, *p, GET##bits(v, in->reg));                              \
        rmw_end(v);                                                                                    \
    }
EXCHANGE_FORMS(8)
EXCHANGE_FORMS(16)
EXCHANGE_FORMS(32)
EXCHANGE_FORMS(64)

static bool lower_exchange(struct lower *lo, const insn_fn fn[2][4])
{
    bool mem = lower_form2(lo) == FORM_MR;
    return lower_to(lo, fn[mem][lower_size_index(lower_size(lo, 0))]);
}

bool lower_xchg(struct lower *lo)
{
    static const insn_fn fn[2][4] = {SIZE_ROW(xchg, rr), SIZE_ROW(xchg, mr)};
    return lower_exchange(lo, fn);
}

bool lower_xadd(struct lower *lo)
{
    static const insn_fn fn[2][4] = {SIZE_ROW(xadd, rr), SIZE_ROW(xadd, mr)};
    return lower_exchange(lo, fn);
}

bool lower_cmpxchg(struct lower *lo)
{
    static const insn_fn fn[2][4] = {SIZE_ROW(cmpxchg, rr), SIZE_ROW(cmpxchg, mr)};
    return lower_exchange(lo, fn);
}

static inline void set_zf(struct vcpu *v, bool zf)
{
    v->s.aflags = (uint16_t)((v->s.aflags & ~AFL_ZF) | (zf ? AFL_ZF : 0));
}

static void cmpxchg8b(struct vcpu *v, const struct insn *in)
{
    uint64_t *r = v->s.r;
    mem64_t *p = rmw(v, in->seg, insn_ea(v, in), 8);
    uint64_t old = *p, expected = r[R_RDX] << 32 | (uint32_t)r[R_RAX];
    bool equal = old == expected;
    *p = equal ? r[R_RCX] << 32 | (uint32_t)r[R_RBX] : old;
    rmw_end(v);
    set_zf(v, equal);
    if (!equal) {
        r[R_RAX] = (uint32_t)old;
        r[R_RDX] = old >> 32;
    }
}

static void cmpxchg16b(struct vcpu *v, const struct insn *in)
{
    uint64_t *r = v->s.r, ea = insn_ea(v, in);
    if (lin_addr(v, in->seg, ea, 16, true) & 15)
        vcpu_raise_err(v, VEC_GP, 0);
    mem64_t *p = rmw(v, in->seg, ea, 16);
    uint64_t lo = p[0], hi = p[1];
    bool equal = lo == r[R_RAX] && hi == r[R_RDX];
    p[0] = equal ? r[R_RBX] : lo;
    p[1] = equal ? r[R_RCX] : hi;
    rmw_end(v);
    set_zf(v, equal);
    if (!equal) {
        r[R_RAX] = lo;
        r[R_RDX] = hi;
    }
}

bool lower_cmpxchg_wide(struct lower *lo)
{
    return lower_to(lo, lo->arg == 16 ? cmpxchg16b : cmpxchg8b);
}
