/* exec/interp/muldiv.c: multiplication, division, decimal adjustment. */
#include "exec/interp/flags.h"

/* ---- MUL, IMUL with one operand ---- */

/* The product of the accumulator and b: lo_out and hi_out are the host's rAX and rDX. */
#define MUL1_OP(bits, name)                                                                            \
    static inline void f_##name##bits(struct vcpu *v, uint##bits##_t b, uint64_t *lo_out, uint64_t *hi_out) \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        uint64_t lo, hi;                                                                               \
        __asm__(FLAGS_GIVE "mov %[acc], %%rax\n\t" #name SFX##bits " %[b]\n\tmov %%rax, %[lo]" FLAGS_TAKE \
                : "+&a"(fl), [lo] "=&r"(lo), "=&d"(hi) : [acc] "r"(v->s.r[R_RAX]), [b] "q"(b) : "cc"); \
        v->s.aflags = (uint16_t)fl;                                                                    \
        *lo_out = lo;                                                                                  \
        *hi_out = hi;                                                                                  \
    }
#define MUL1_SET8(v, lo, hi) ((void)(hi), SET16(v, GPR(R_RAX), (uint16_t)(lo)))
#define MUL1_SET(bits, v, lo, hi) \
    (SET##bits(v, GPR(R_RAX), (uint##bits##_t)(lo)), SET##bits(v, GPR(R_RDX), (uint##bits##_t)(hi)))
#define MUL1_SET16(v, lo, hi) MUL1_SET(16, v, lo, hi)
#define MUL1_SET32(v, lo, hi) MUL1_SET(32, v, lo, hi)
#define MUL1_SET64(v, lo, hi) MUL1_SET(64, v, lo, hi)

#define MUL1_FORMS(bits, op)                                                                           \
    static inline void op##bits(struct vcpu *v, uint##bits##_t b)                                      \
    {                                                                                                  \
        uint64_t lo, hi;                                                                               \
        f_##op##bits(v, b, &lo, &hi);                                                                  \
        MUL1_SET##bits(v, lo, hi);                                                                     \
    }                                                                                                  \
    static void op##bits##_r(struct vcpu *v, const struct insn *in) { op##bits(v, GET##bits(v, in->rm)); } \
    static void op##bits##_m(struct vcpu *v, const struct insn *in) { op##bits(v, ld##bits(v, in->seg, insn_ea(v, in))); }
FOR_SIZES(MUL1_OP, mul)
FOR_SIZES(MUL1_OP, imul)
FOR_SIZES(MUL1_FORMS, mul)
FOR_SIZES(MUL1_FORMS, imul)

#define SIZE_ROW(op, form) {op##8_##form, op##16_##form, op##32_##form, op##64_##form}
#define R_M_ROWS(op) {SIZE_ROW(op, r), SIZE_ROW(op, m)}

static bool lower_r_m(struct lower *lo, const insn_fn fn[2][4])
{
    bool mem = lower_is_mem(lo, 0);
    if (!mem)
        lo->out->rm = lower_gpr(lo, 0);
    return lower_to(lo, fn[mem][lower_size_index(lower_size(lo, 0))]);
}

bool lower_mul(struct lower *lo)
{
    static const insn_fn fn[2][4] = R_M_ROWS(mul);
    return lower_r_m(lo, fn);
}

/* ---- IMUL with two and three operands: the destination is `reg` ---- */

#define IMUL2_OP(bits)                                                                                 \
    static inline uint##bits##_t f_imul2_##bits(struct vcpu *v, uint##bits##_t a, uint##bits##_t b)    \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        __asm__(FLAGS_GIVE "imul" SFX##bits " %[b], %[a]" FLAGS_TAKE                                   \
                : [a] "+r"(a), "+&a"(fl) : [b] "r"(b) : "cc");                                         \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }
IMUL2_OP(16)
IMUL2_OP(32)
IMUL2_OP(64)

#define IMUL_FORMS(bits)                                                                               \
    static void imul2_##bits##_r(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        SET##bits(v, in->reg, f_imul2_##bits(v, GET##bits(v, in->reg), GET##bits(v, in->rm)));         \
    }                                                                                                  \
    static void imul2_##bits##_m(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        SET##bits(v, in->reg, f_imul2_##bits(v, GET##bits(v, in->reg), x));                            \
    }                                                                                                  \
    static void imul3_##bits##_r(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        SET##bits(v, in->reg, f_imul2_##bits(v, GET##bits(v, in->rm), (uint##bits##_t)in->imm));       \
    }                                                                                                  \
    static void imul3_##bits##_m(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        SET##bits(v, in->reg, f_imul2_##bits(v, x, (uint##bits##_t)in->imm));                          \
    }
IMUL_FORMS(16)
IMUL_FORMS(32)
IMUL_FORMS(64)

bool lower_imul(struct lower *lo)
{
    static const insn_fn one[2][4] = R_M_ROWS(imul);
    static const insn_fn more[2][2][4] = {
        {{NULL, imul2_16_r, imul2_32_r, imul2_64_r}, {NULL, imul2_16_m, imul2_32_m, imul2_64_m}},
        {{NULL, imul3_16_r, imul3_32_r, imul3_64_r}, {NULL, imul3_16_m, imul3_32_m, imul3_64_m}},
    };
    if (lo->zi->operand_count_visible == 1)
        return lower_r_m(lo, one);
    bool three = lo->zi->operand_count_visible == 3, mem = lower_is_mem(lo, 1);
    lo->out->reg = lower_gpr(lo, 0);
    if (!mem)
        lo->out->rm = lower_gpr(lo, 1);
    if (three)
        lo->out->imm = (uint64_t)lower_imm(lo);
    return lower_to(lo, more[three][mem][lower_size_index(lower_size(lo, 0))]);
}

/* ---- DIV IDIV: #DE is decided before the host divides ---- */

static inline bool div_ok8(uint64_t a, uint64_t d, uint8_t b) { (void)d; return (uint16_t)a >> 8 < b; }
static inline bool div_ok16(uint64_t a, uint64_t d, uint16_t b) { (void)a; return (uint16_t)d < b; }
static inline bool div_ok32(uint64_t a, uint64_t d, uint32_t b) { (void)a; return (uint32_t)d < b; }
static inline bool div_ok64(uint64_t a, uint64_t d, uint64_t b) { (void)a; return d < b; }

static inline bool idiv_fits(int64_t n, int64_t b, int64_t min)
{
    /* n is at least one bit narrower than int64_t's negative limit when b is -1: widths up to 32 come here. */
    int64_t q = b ? n / b : 0;
    return b && q >= min && q <= -(min + 1);
}
static inline bool idiv_ok8(uint64_t a, uint64_t d, uint8_t b) { (void)d; return idiv_fits((int16_t)a, (int8_t)b, INT8_MIN); }
static inline bool idiv_ok16(uint64_t a, uint64_t d, uint16_t b)
{
    return idiv_fits((int32_t)((uint32_t)d << 16 | (uint16_t)a), (int16_t)b, INT16_MIN);
}
static inline bool idiv_ok32(uint64_t a, uint64_t d, uint32_t b)
{
    int64_t n = (int64_t)(d << 32 | (uint32_t)a);
    if (n == INT64_MIN && (int32_t)b == -1)
        return false;
    return idiv_fits(n, (int32_t)b, INT32_MIN);
}
static inline bool idiv_ok64(uint64_t a, uint64_t d, uint64_t b)
{
    /* By magnitudes: |n| / |b| fits in 63 bits, or is 2^63 exactly with a negative quotient. */
    bool neg_n = d >> 63, neg_b = b >> 63;
    uint64_t lo = neg_n ? 0 - a : a, hi = neg_n ? ~d + (a == 0) : d, mag = neg_b ? 0 - b : b;
    if (hi >= mag)
        return false;
    unsigned __int128 q = ((unsigned __int128)hi << 64 | lo) / mag;
    return q < (uint64_t)INT64_MAX + 1 + (neg_n != neg_b);
}

#define DIV_OP(bits, op)                                                                               \
    static inline void op##bits(struct vcpu *v, uint##bits##_t b)                                      \
    {                                                                                                  \
        uint64_t acc = v->s.r[R_RAX], d = v->s.r[R_RDX], lo;                                           \
        if (!op##_ok##bits(acc, d, b))                                                                 \
            vcpu_raise(v, VEC_DE);                                                                     \
        uint32_t fl = v->s.aflags;                                                                     \
        __asm__(FLAGS_GIVE "mov %[acc], %%rax\n\t" #op SFX##bits " %[b]\n\tmov %%rax, %[lo]" FLAGS_TAKE \
                : "+&a"(fl), [lo] "=&r"(lo), "+&d"(d) : [acc] "r"(acc), [b] "q"(b) : "cc");            \
        v->s.aflags = (uint16_t)fl;                                                                    \
        MUL1_SET##bits(v, lo, d);                                                                      \
    }                                                                                                  \
    static void op##bits##_r(struct vcpu *v, const struct insn *in) { op##bits(v, GET##bits(v, in->rm)); } \
    static void op##bits##_m(struct vcpu *v, const struct insn *in) { op##bits(v, ld##bits(v, in->seg, insn_ea(v, in))); }
FOR_SIZES(DIV_OP, div)
FOR_SIZES(DIV_OP, idiv)

bool lower_div(struct lower *lo)
{
    static const insn_fn fn[2][2][4] = {R_M_ROWS(div), R_M_ROWS(idiv)};
    return lower_r_m(lo, fn[lo->arg]);
}

/* ---- decimal adjustment ---- */

/* These do not exist in 64-bit mode, so there is no host instruction to borrow. What the manual leaves undefined is as
 * Intel's cores do it: OF is 0, but AAD's flags are all those of the addition it ends with; SF, ZF and PF follow the
 * result in AL; AAM clears CF and AF. */
static void set_bcd_flags(struct vcpu *v, uint8_t al, bool cf, bool af)
{
    f_test8(v, al, al);
    v->s.aflags = (uint16_t)((v->s.aflags & ~(AFL_CF | AFL_AF)) | (cf ? AFL_CF : 0) | (af ? AFL_AF : 0));
}

static void ascii_adjust(struct vcpu *v, int sign)
{
    uint16_t ax = REG16(v, GPR(R_RAX));
    bool adjust = (ax & 15) > 9 || (v->s.aflags & AFL_AF);
    if (adjust)
        ax = (uint16_t)(ax + sign * 0x106);
    ax &= 0xff0f;
    SET16(v, GPR(R_RAX), ax);
    set_bcd_flags(v, (uint8_t)ax, adjust, adjust);
}
static void aaa(struct vcpu *v, const struct insn *in) { (void)in; ascii_adjust(v, 1); }
static void aas(struct vcpu *v, const struct insn *in) { (void)in; ascii_adjust(v, -1); }

static void decimal_adjust(struct vcpu *v, int sign)
{
    uint8_t al = REG8(v, GPR(R_RAX)), out = al;
    bool low = (al & 15) > 9 || (v->s.aflags & AFL_AF), high = al > 0x99 || (v->s.aflags & AFL_CF);
    if (low)
        out = (uint8_t)(out + sign * 6);
    if (high)
        out = (uint8_t)(out + sign * 0x60);
    SET8(v, GPR(R_RAX), out);
    set_bcd_flags(v, out, high || (sign < 0 && low && al < 6), low); /* DAS: a borrow of the first step stays */
}
static void daa(struct vcpu *v, const struct insn *in) { (void)in; decimal_adjust(v, 1); }
static void das(struct vcpu *v, const struct insn *in) { (void)in; decimal_adjust(v, -1); }

static void aam(struct vcpu *v, const struct insn *in)
{
    uint8_t al = REG8(v, GPR(R_RAX)), base = in->x;
    if (base == 0)
        vcpu_raise(v, VEC_DE);
    uint8_t low = al % base;
    SET16(v, GPR(R_RAX), (uint16_t)(al / base << 8 | low));
    set_bcd_flags(v, low, false, false);
}

static void aad(struct vcpu *v, const struct insn *in)
{
    uint16_t ax = REG16(v, GPR(R_RAX));
    SET16(v, GPR(R_RAX), f_add8(v, (uint8_t)ax, (uint8_t)((ax >> 8) * in->x)));
}

bool lower_bcd(struct lower *lo)
{
    static const insn_fn fn[] = {[BCD_AAA] = aaa, [BCD_AAS] = aas, [BCD_DAA] = daa,
                                 [BCD_DAS] = das, [BCD_AAM] = aam, [BCD_AAD] = aad};
    lo->out->x = (uint8_t)lo->zi->raw.imm[0].value.u;
    return lower_to(lo, fn[lo->arg]);
}
