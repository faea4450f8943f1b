/* exec/interp/bits.c: bit tests, scans and counts, BMI1 and BMI2, CRC32. */
#include "exec/interp/flags.h"

/* ---- BT BTS BTR BTC ---- */

#define BIT_OP(bits, name)                                                                             \
    static inline uint##bits##_t f_##name##bits(struct vcpu *v, uint##bits##_t a, uint##bits##_t n)    \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        __asm__(FLAGS_GIVE #name SFX##bits " %[n], %[a]" FLAGS_TAKE                                    \
                : [a] "+r"(a), "+&a"(fl) : [n] "r"(n) : "cc");                                         \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return a;                                                                                      \
    }
#define BIT_FORMS(bits, op)                                                                            \
    BIT_OP(bits, op)                                                                                   \
    static void op##bits##_rr(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        BIT_REG(bits, op, v, in, GET##bits(v, in->reg));                                               \
    }                                                                                                  \
    static void op##bits##_ri(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        BIT_REG(bits, op, v, in, (uint##bits##_t)in->imm);                                             \
    }                                                                                                  \
    static void op##bits##_mr(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        uint##bits##_t n = GET##bits(v, in->reg);                                                      \
        BIT_MEM_##op(bits, v, in, bit_ea(v, in, (int##bits##_t)n, bits), n);                           \
    }                                                                                                  \
    static void op##bits##_mi(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        BIT_MEM_##op(bits, v, in, insn_ea(v, in), (uint##bits##_t)in->imm);                            \
    }
#define BIT_REG(bits, op, v, in, n) SET##bits(v, (in)->rm, f_##op##bits(v, GET##bits(v, (in)->rm), n))
#define BIT_RMW(bits, op, v, in, ea, n)                                                                \
    mem##bits##_t *p = rmw(v, (in)->seg, ea, bits / 8);                                                \
    *p = f_##op##bits(v, *p, n);                                                                       \
    rmw_end(v)
#define BIT_MEM_bt(bits, v, in, ea, n) f_bt##bits(v, ld##bits(v, (in)->seg, ea), n)
#define BIT_MEM_bts(bits, v, in, ea, n) BIT_RMW(bits, bts, v, in, ea, n)
#define BIT_MEM_btr(bits, v, in, ea, n) BIT_RMW(bits, btr, v, in, ea, n)
#define BIT_MEM_btc(bits, v, in, ea, n) BIT_RMW(bits, btc, v, in, ea, n)

/* With a register as bit number, memory is a string of bits that extends both ways: the number selects the operand-sized
 * unit that holds the bit (SDM vol. 2, BT). */
static inline uint64_t bit_ea(const struct vcpu *v, const struct insn *in, int64_t n, unsigned width)
{
    return (insn_ea(v, in) + (uint64_t)((n & -(int64_t)width) >> 3)) & in->addr_mask;
}

#define BIT_ALL(op) BIT_FORMS(16, op) BIT_FORMS(32, op) BIT_FORMS(64, op)
BIT_ALL(bts)
BIT_ALL(btr)
BIT_ALL(btc)
/* BT leaves its operand alone, the upper half of a 32-bit register included. */
#undef BIT_REG
#define BIT_REG(bits, op, v, in, n) f_##op##bits(v, GET##bits(v, (in)->rm), n)
BIT_ALL(bt)

#define WIDE_ROW(op, form) {op##16_##form, op##32_##form, op##64_##form}
#define BIT_ROWS(op)                                                                                   \
    {[FORM_RR] = WIDE_ROW(op, rr), [FORM_RI] = WIDE_ROW(op, ri), [FORM_MR] = WIDE_ROW(op, mr), [FORM_MI] = WIDE_ROW(op, mi)}

bool lower_bt(struct lower *lo)
{
    static const insn_fn fn[4][FORM_COUNT][3] = {BIT_ROWS(bt), BIT_ROWS(bts), BIT_ROWS(btr), BIT_ROWS(btc)};
    enum form form = lower_form2(lo);
    return lower_to(lo, fn[lo->arg][form][lower_size_index(lower_size(lo, 0)) - 1]);
}

/* ---- BSF BSR TZCNT LZCNT POPCNT ---- */

/* BSF and BSR of 0 leave the destination to the host: the whole register goes in and comes back. */
#define SCAN_OP(bits, w, name)                                                                         \
    static inline uint64_t f_##name##bits(struct vcpu *v, uint64_t dst, uint##bits##_t src)            \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        __asm__(FLAGS_GIVE #name " %" w "[src], %" w "[dst]" FLAGS_TAKE                                \
                : [dst] "+r"(dst), "+&a"(fl) : [src] "r"(src) : "cc");                                 \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return dst;                                                                                    \
    }
#define SCAN_FORMS(bits, w, op)                                                                        \
    SCAN_OP(bits, w, op)                                                                               \
    static void op##bits##_rr(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        SET64(v, in->rm, f_##op##bits(v, GET64(v, in->rm), GET##bits(v, in->reg)));                    \
    }                                                                                                  \
    static void op##bits##_rm(struct vcpu *v, const struct insn *in)                                   \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        SET64(v, in->reg, f_##op##bits(v, GET64(v, in->reg), x));                                      \
    }
#define SCAN_ALL(op) SCAN_FORMS(16, "w", op) SCAN_FORMS(32, "k", op) SCAN_FORMS(64, "q", op)
SCAN_ALL(bsf)
SCAN_ALL(bsr)
SCAN_ALL(tzcnt)
SCAN_ALL(lzcnt)
SCAN_ALL(popcnt)

#define SCAN_ROWS(op) {WIDE_ROW(op, rr), WIDE_ROW(op, rm)}

bool lower_scan(struct lower *lo)
{
    static const insn_fn fn[][2][3] = {
        [SCAN_BSF] = SCAN_ROWS(bsf),     [SCAN_BSR] = SCAN_ROWS(bsr),       [SCAN_TZCNT] = SCAN_ROWS(tzcnt),
        [SCAN_LZCNT] = SCAN_ROWS(lzcnt), [SCAN_POPCNT] = SCAN_ROWS(popcnt),
    };
    bool mem = lower_form2(lo) == FORM_RM;
    return lower_to(lo, fn[lo->arg][mem][lower_size_index(lower_size(lo, 0)) - 1]);
}

/* ---- BMI1, BMI2 ----
 * `reg` is the destination, `a` the operand that may be in memory (else register `rm`), `b` the register `reg3`. */

#define BMI3_OP(bits, w, name, order)                                                                  \
    static inline uint##bits##_t f_##name##bits(struct vcpu *v, uint##bits##_t a, uint##bits##_t b)    \
    {                                                                                                  \
        uint32_t fl = v->s.aflags;                                                                     \
        uint##bits##_t x;                                                                              \
        __asm__(FLAGS_GIVE #name " " order ", %[x]" FLAGS_TAKE                                         \
                : [x] "=&r"(x), "+&a"(fl) : [a] "r"(a), [b] "r"(b) : "cc");                            \
        v->s.aflags = (uint16_t)fl;                                                                    \
        return x;                                                                                      \
    }
#define BMI_AB "%[a], %[b]" /* in AT&T order: the last source first */
#define BMI_BA "%[b], %[a]"
#define BMI_A "%[a]"
#define BMI3(name, order) BMI3_OP(32, "k", name, order) BMI3_OP(64, "q", name, order)
BMI3(andn, BMI_AB)
BMI3(bextr, BMI_BA)
BMI3(bzhi, BMI_BA)
BMI3(pdep, BMI_AB)
BMI3(pext, BMI_AB)
BMI3(sarx, BMI_BA)
BMI3(shlx, BMI_BA)
BMI3(shrx, BMI_BA)
BMI3(blsi, BMI_A)
BMI3(blsmsk, BMI_A)
BMI3(blsr, BMI_A)

#define BMI_HANDLERS(bits, op)                                                                         \
    static void op##bits##_r(struct vcpu *v, const struct insn *in)                                    \
    {                                                                                                  \
        SET##bits(v, in->reg, f_##op##bits(v, GET##bits(v, in->rm), GET##bits(v, in->reg3)));          \
    }                                                                                                  \
    static void op##bits##_m(struct vcpu *v, const struct insn *in)                                    \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        SET##bits(v, in->reg, f_##op##bits(v, x, GET##bits(v, in->reg3)));                             \
    }
#define BMI_FORMS(op) BMI_HANDLERS(32, op) BMI_HANDLERS(64, op)
BMI_FORMS(andn)
BMI_FORMS(bextr)
BMI_FORMS(bzhi)
BMI_FORMS(pdep)
BMI_FORMS(pext)
BMI_FORMS(sarx)
BMI_FORMS(shlx)
BMI_FORMS(shrx)
BMI_FORMS(blsi)
BMI_FORMS(blsmsk)
BMI_FORMS(blsr)

#define RORX_MULX(bits, wide)                                                                          \
    static inline void rorx##bits(struct vcpu *v, const struct insn *in, uint##bits##_t a)             \
    {                                                                                                  \
        unsigned n = in->x & (bits - 1);                                                               \
        SET##bits(v, in->reg, (uint##bits##_t)(a >> n | a << (-n & (bits - 1))));                      \
    }                                                                                                  \
    static inline void mulx##bits(struct vcpu *v, const struct insn *in, uint##bits##_t a)             \
    {                                                                                                  \
        wide product = (wide)a * GET##bits(v, GPR(R_RDX));                                             \
        SET##bits(v, in->reg3, (uint##bits##_t)product);                                               \
        SET##bits(v, in->reg, (uint##bits##_t)(product >> bits)); /* last: the high half wins */       \
    }                                                                                                  \
    static void rorx##bits##_r(struct vcpu *v, const struct insn *in) { rorx##bits(v, in, GET##bits(v, in->rm)); } \
    static void rorx##bits##_m(struct vcpu *v, const struct insn *in) { rorx##bits(v, in, ld##bits(v, in->seg, insn_ea(v, in))); } \
    static void mulx##bits##_r(struct vcpu *v, const struct insn *in) { mulx##bits(v, in, GET##bits(v, in->rm)); } \
    static void mulx##bits##_m(struct vcpu *v, const struct insn *in) { mulx##bits(v, in, ld##bits(v, in->seg, insn_ea(v, in))); }
RORX_MULX(32, uint64_t)
RORX_MULX(64, unsigned __int128)

#define BMI_ROWS(op) {{op##32_r, op##64_r}, {op##32_m, op##64_m}}

/* Which operands are reg, rm-or-memory and reg3. */
static const struct { uint8_t reg, rm, reg3; } bmi_operands[] = {
    [BMI_ANDN] = {0, 2, 1}, [BMI_BEXTR] = {0, 1, 2}, [BMI_BLSI] = {0, 1, 0}, [BMI_BLSMSK] = {0, 1, 0},
    [BMI_BLSR] = {0, 1, 0}, [BMI_BZHI] = {0, 1, 2},  [BMI_PDEP] = {0, 2, 1}, [BMI_PEXT] = {0, 2, 1},
    [BMI_SARX] = {0, 1, 2}, [BMI_SHLX] = {0, 1, 2},  [BMI_SHRX] = {0, 1, 2}, [BMI_RORX] = {0, 1, 0},
    [BMI_MULX] = {0, 2, 1},
};

bool lower_bmi(struct lower *lo)
{
    static const insn_fn fn[][2][2] = {
        [BMI_ANDN] = BMI_ROWS(andn), [BMI_BEXTR] = BMI_ROWS(bextr), [BMI_BLSI] = BMI_ROWS(blsi),
        [BMI_BLSMSK] = BMI_ROWS(blsmsk), [BMI_BLSR] = BMI_ROWS(blsr), [BMI_BZHI] = BMI_ROWS(bzhi),
        [BMI_PDEP] = BMI_ROWS(pdep), [BMI_PEXT] = BMI_ROWS(pext), [BMI_SARX] = BMI_ROWS(sarx),
        [BMI_SHLX] = BMI_ROWS(shlx), [BMI_SHRX] = BMI_ROWS(shrx), [BMI_RORX] = BMI_ROWS(rorx),
        [BMI_MULX] = BMI_ROWS(mulx),
    };
    unsigned rm = bmi_operands[lo->arg].rm;
    bool mem = lower_is_mem(lo, rm);
    lo->out->reg = lower_gpr(lo, bmi_operands[lo->arg].reg);
    lo->out->reg3 = lower_gpr(lo, bmi_operands[lo->arg].reg3);
    if (!mem)
        lo->out->rm = lower_gpr(lo, rm);
    if (lo->arg == BMI_RORX)
        lo->out->x = (uint8_t)lo->op[2].imm.value.u;
    return lower_to(lo, fn[lo->arg][mem][lower_size_index(lower_size(lo, 0)) - 2]);
}

/* ---- CRC32: the destination is 32 bits, the upper half of a 64-bit one becomes 0 ---- */

#define CRC32_FORMS(bits, w)                                                                            \
    static inline uint32_t f_crc32_##bits(uint64_t crc, uint##bits##_t x)                              \
    {                                                                                                  \
        __asm__("crc32" SFX##bits " %[x], %" w "[crc]" : [crc] "+r"(crc) : [x] "q"(x));                    \
        return (uint32_t)crc;                                                                          \
    }                                                                                                  \
    static void crc32_##bits##_r(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        SET32(v, in->rm, f_crc32_##bits(GET32(v, in->rm), GET##bits(v, in->reg)));                     \
    }                                                                                                  \
    static void crc32_##bits##_m(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        SET32(v, in->reg, f_crc32_##bits(GET32(v, in->reg), x));                                       \
    }
CRC32_FORMS(8, "k")
CRC32_FORMS(16, "k")
CRC32_FORMS(32, "k")
CRC32_FORMS(64, "q")

bool lower_crc32(struct lower *lo)
{
    static const insn_fn fn[2][4] = {
        {crc32_8_r, crc32_16_r, crc32_32_r, crc32_64_r},
        {crc32_8_m, crc32_16_m, crc32_32_m, crc32_64_m},
    };
    bool mem = lower_form2(lo) == FORM_RM;
    return lower_to(lo, fn[mem][lower_size_index(lower_size(lo, 1))]);
}
