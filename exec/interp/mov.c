/* exec/interp/mov.c: moves between registers, memory and immediates; conversions; flag instructions; hints. */
#include "exec/interp/flags.h"

/* ---- MOV ---- */

#define MOV_FORMS(bits)                                                                                \
    static void mov##bits##_rr(struct vcpu *v, const struct insn *in) { SET##bits(v, in->rm, GET##bits(v, in->reg)); } \
    static void mov##bits##_ri(struct vcpu *v, const struct insn *in) { SET##bits(v, in->rm, (uint##bits##_t)in->imm); } \
    static void mov##bits##_rm(struct vcpu *v, const struct insn *in)                                  \
    {                                                                                                  \
        SET##bits(v, in->reg, ld##bits(v, in->seg, insn_ea(v, in)));                                   \
    }                                                                                                  \
    static void mov##bits##_mr(struct vcpu *v, const struct insn *in)                                  \
    {                                                                                                  \
        st##bits(v, in->seg, insn_ea(v, in), GET##bits(v, in->reg));                                   \
    }                                                                                                  \
    static void mov##bits##_mi(struct vcpu *v, const struct insn *in)                                  \
    {                                                                                                  \
        st##bits(v, in->seg, insn_ea(v, in), (uint##bits##_t)in->imm);                                 \
    }
FOR_SIZES(MOV_FORMS)

#define MOV_ROW(form) {mov8_##form, mov16_##form, mov32_##form, mov64_##form}
static const insn_fn mov_fn[FORM_COUNT][4] = {
    [FORM_RR] = MOV_ROW(rr), [FORM_RM] = MOV_ROW(rm), [FORM_MR] = MOV_ROW(mr),
    [FORM_RI] = MOV_ROW(ri), [FORM_MI] = MOV_ROW(mi),
};

static bool is_gpr(const struct lower *lo, unsigned i)
{
    ZydisRegisterClass c = lower_reg_class(lo, i);
    return c >= ZYDIS_REGCLASS_GPR8 && c <= ZYDIS_REGCLASS_GPR64;
}

bool lower_mov(struct lower *lo)
{
    if ((lower_is_reg(lo, 0) && !is_gpr(lo, 0)) || (lower_is_reg(lo, 1) && !is_gpr(lo, 1)))
        return lower_mov_sys(lo);
    enum form form = lower_form2(lo);
    return lower_to(lo, mov_fn[form][lower_size_index(lower_size(lo, 0))]);
}

bool lower_movnti(struct lower *lo)
{
    return lower_to(lo, mov_fn[lower_form2(lo)][lower_size_index(lower_size(lo, 0))]);
}

/* ---- MOVZX MOVSX MOVSXD ---- */

#define MOVX_FORMS(name, dst, src, type)                                                               \
    static void name##dst##_##src##_r(struct vcpu *v, const struct insn *in)                           \
    {                                                                                                  \
        SET##dst(v, in->rm, (uint##dst##_t)(type)GET##src(v, in->reg));                                \
    }                                                                                                  \
    static void name##dst##_##src##_m(struct vcpu *v, const struct insn *in)                           \
    {                                                                                                  \
        SET##dst(v, in->reg, (uint##dst##_t)(type)ld##src(v, in->seg, insn_ea(v, in)));                \
    }
MOVX_FORMS(movzx, 16, 8, uint8_t)
MOVX_FORMS(movzx, 32, 8, uint8_t)
MOVX_FORMS(movzx, 32, 16, uint16_t)
MOVX_FORMS(movsx, 16, 8, int8_t)
MOVX_FORMS(movsx, 32, 8, int8_t)
MOVX_FORMS(movsx, 32, 16, int16_t)
MOVX_FORMS(movsx, 64, 8, int8_t)
MOVX_FORMS(movsx, 64, 16, int16_t)
MOVX_FORMS(movsx, 64, 32, int32_t)

bool lower_movx(struct lower *lo)
{
    /* [sign][source][destination][memory]. Zero extension to 32 bits clears the upper half anyway; equal sizes
     * (operand-size prefix with a 16-bit source, MOVSXD without REX.W) are plain moves. */
    static const insn_fn fn[2][3][4][2] = {
        {
            {{NULL}, {movzx16_8_r, movzx16_8_m}, {movzx32_8_r, movzx32_8_m}, {movzx32_8_r, movzx32_8_m}},
            {{NULL}, {mov16_rr, mov16_rm}, {movzx32_16_r, movzx32_16_m}, {movzx32_16_r, movzx32_16_m}},
            {{NULL}},
        },
        {
            {{NULL}, {movsx16_8_r, movsx16_8_m}, {movsx32_8_r, movsx32_8_m}, {movsx64_8_r, movsx64_8_m}},
            {{NULL}, {mov16_rr, mov16_rm}, {movsx32_16_r, movsx32_16_m}, {movsx64_16_r, movsx64_16_m}},
            {{NULL}, {mov16_rr, mov16_rm}, {mov32_rr, mov32_rm}, {movsx64_32_r, movsx64_32_m}},
        },
    };
    bool mem = lower_form2(lo) == FORM_RM;
    unsigned src = lower_size_index(lower_size(lo, 1)), dst = lower_size_index(lower_size(lo, 0));
    return lower_to(lo, fn[lo->arg][src][dst][mem]);
}

/* ---- LEA ---- */

static void lea16(struct vcpu *v, const struct insn *in) { SET16(v, in->reg, (uint16_t)insn_ea(v, in)); }
static void lea32(struct vcpu *v, const struct insn *in) { SET32(v, in->reg, (uint32_t)insn_ea(v, in)); }
static void lea64(struct vcpu *v, const struct insn *in) { SET64(v, in->reg, insn_ea(v, in)); }

bool lower_lea(struct lower *lo)
{
    static const insn_fn fn[4] = {NULL, lea16, lea32, lea64};
    lo->out->reg = lower_gpr(lo, 0);
    return lower_to(lo, fn[lower_size_index(lower_size(lo, 0))]);
}

/* ---- CMOVcc SETcc ---- */

/* The source is read and the destination written whatever the condition: a fault occurs in any case, and a 32-bit
 * destination loses its upper half (SDM vol. 2, CMOVcc). */
#define CMOV_SIZE(bits, cc, cond)                                                                      \
    static void cmov##cc##bits##_r(struct vcpu *v, const struct insn *in)                              \
    {                                                                                                  \
        uint32_t f = v->s.aflags;                                                                      \
        SET##bits(v, in->rm, (cond) ? GET##bits(v, in->reg) : GET##bits(v, in->rm));                   \
    }                                                                                                  \
    static void cmov##cc##bits##_m(struct vcpu *v, const struct insn *in)                              \
    {                                                                                                  \
        uint32_t f = v->s.aflags;                                                                      \
        uint##bits##_t x = ld##bits(v, in->seg, insn_ea(v, in));                                       \
        SET##bits(v, in->reg, (cond) ? x : GET##bits(v, in->reg));                                     \
    }
#define CONDITIONAL(cc, cond)                                                                          \
    CMOV_SIZE(16, cc, cond)                                                                            \
    CMOV_SIZE(32, cc, cond)                                                                            \
    CMOV_SIZE(64, cc, cond)                                                                            \
    static void set##cc##_r(struct vcpu *v, const struct insn *in)                                     \
    {                                                                                                  \
        uint32_t f = v->s.aflags;                                                                      \
        SET8(v, in->rm, cond);                                                                         \
    }                                                                                                  \
    static void set##cc##_m(struct vcpu *v, const struct insn *in)                                     \
    {                                                                                                  \
        uint32_t f = v->s.aflags;                                                                      \
        st8(v, in->seg, insn_ea(v, in), cond);                                                         \
    }
FOR_CONDITIONS(CONDITIONAL)

#define CMOV_ROW(cc, cond) [CC_##cc] = {{cmov##cc##16_r, cmov##cc##32_r, cmov##cc##64_r}, \
                                        {cmov##cc##16_m, cmov##cc##32_m, cmov##cc##64_m}},
#define SET_ROW(cc, cond) [CC_##cc] = {set##cc##_r, set##cc##_m},

bool lower_cmov(struct lower *lo)
{
    static const insn_fn fn[16][2][3] = {FOR_CONDITIONS(CMOV_ROW)};
    bool mem = lower_form2(lo) == FORM_RM;
    return lower_to(lo, fn[lo->arg][mem][lower_size_index(lower_size(lo, 0)) - 1]);
}

bool lower_setcc(struct lower *lo)
{
    static const insn_fn fn[16][2] = {FOR_CONDITIONS(SET_ROW)};
    bool mem = lower_is_mem(lo, 0);
    if (!mem)
        lo->out->rm = lower_gpr(lo, 0);
    return lower_to(lo, fn[lo->arg][mem]);
}

/* ---- XLAT BSWAP MOVBE ---- */

static void xlat(struct vcpu *v, const struct insn *in)
{
    uint64_t ea = (v->s.r[R_RBX] + REG8(v, GPR(R_RAX))) & in->addr_mask;
    SET8(v, GPR(R_RAX), ld8(v, in->seg, ea));
}
bool lower_xlat(struct lower *lo) { return lower_to(lo, xlat); }

static void bswap16(struct vcpu *v, const struct insn *in)
{
    /* Undefined by the manual, so the host's: the operand-size prefix in front of the 32-bit instruction. */
    uint64_t x = GET64(v, in->rm);
    __asm__(".byte 0x66\n\tbswap %k0" : "+r"(x));
    SET64(v, in->rm, x);
}
static void bswap32(struct vcpu *v, const struct insn *in) { SET32(v, in->rm, __builtin_bswap32(GET32(v, in->rm))); }
static void bswap64(struct vcpu *v, const struct insn *in) { SET64(v, in->rm, __builtin_bswap64(GET64(v, in->rm))); }

bool lower_bswap(struct lower *lo)
{
    static const insn_fn fn[4] = {NULL, bswap16, bswap32, bswap64};
    lo->out->rm = lower_gpr(lo, 0);
    return lower_to(lo, fn[lower_size_index(lower_size(lo, 0))]);
}

#define MOVBE_FORMS(bits)                                                                              \
    static void movbe##bits##_rm(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        SET##bits(v, in->reg, __builtin_bswap##bits(ld##bits(v, in->seg, insn_ea(v, in))));            \
    }                                                                                                  \
    static void movbe##bits##_mr(struct vcpu *v, const struct insn *in)                                \
    {                                                                                                  \
        st##bits(v, in->seg, insn_ea(v, in), __builtin_bswap##bits(GET##bits(v, in->reg)));            \
    }
MOVBE_FORMS(16)
MOVBE_FORMS(32)
MOVBE_FORMS(64)

bool lower_movbe(struct lower *lo)
{
    static const insn_fn fn[2][4] = {
        {NULL, movbe16_rm, movbe32_rm, movbe64_rm}, {NULL, movbe16_mr, movbe32_mr, movbe64_mr}};
    bool store = lower_form2(lo) == FORM_MR;
    return lower_to(lo, fn[store][lower_size_index(lower_size(lo, 0))]);
}

/* ---- CBW and its kind ---- */

static void cbw(struct vcpu *v, const struct insn *in) { (void)in; SET16(v, GPR(R_RAX), (uint16_t)(int8_t)v->s.r[R_RAX]); }
static void cwde(struct vcpu *v, const struct insn *in) { (void)in; SET32(v, GPR(R_RAX), (uint32_t)(int16_t)v->s.r[R_RAX]); }
static void cdqe(struct vcpu *v, const struct insn *in) { (void)in; v->s.r[R_RAX] = (uint64_t)(int32_t)v->s.r[R_RAX]; }
static void cwd(struct vcpu *v, const struct insn *in) { (void)in; SET16(v, GPR(R_RDX), (uint16_t)((int16_t)v->s.r[R_RAX] >> 15)); }
static void cdq(struct vcpu *v, const struct insn *in) { (void)in; SET32(v, GPR(R_RDX), (uint32_t)((int32_t)v->s.r[R_RAX] >> 31)); }
static void cqo(struct vcpu *v, const struct insn *in) { (void)in; v->s.r[R_RDX] = (uint64_t)((int64_t)v->s.r[R_RAX] >> 63); }

bool lower_extend_acc(struct lower *lo)
{
    static const insn_fn fn[] = {[EXT_CBW] = cbw, [EXT_CWDE] = cwde, [EXT_CDQE] = cdqe,
                                 [EXT_CWD] = cwd, [EXT_CDQ] = cdq,   [EXT_CQO] = cqo};
    return lower_to(lo, fn[lo->arg]);
}

/* ---- flags ---- */

static void lahf(struct vcpu *v, const struct insn *in) { (void)in; SET8(v, GPR(R_RAX) + 1, (uint8_t)(v->s.aflags >> 8)); }
static void sahf(struct vcpu *v, const struct insn *in)
{
    (void)in;
    uint8_t ah = GET8(v, GPR(R_RAX) + 1);
    v->s.aflags = (uint16_t)(((ah & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)) | 2) << 8 | (v->s.aflags & AFL_OF));
}
static void salc(struct vcpu *v, const struct insn *in) { (void)in; SET8(v, GPR(R_RAX), v->s.aflags & AFL_CF ? 0xff : 0); }
static void cmc(struct vcpu *v, const struct insn *in) { (void)in; v->s.aflags ^= AFL_CF; }
static void clc(struct vcpu *v, const struct insn *in) { (void)in; v->s.aflags &= (uint16_t)~AFL_CF; }
static void stc(struct vcpu *v, const struct insn *in) { (void)in; v->s.aflags |= AFL_CF; }
static void cld(struct vcpu *v, const struct insn *in) { (void)in; v->s.rflags &= ~(uint64_t)FL_DF; }
static void std(struct vcpu *v, const struct insn *in) { (void)in; v->s.rflags |= FL_DF; }

bool lower_flag_op(struct lower *lo)
{
    static const insn_fn fn[] = {[FLAG_LAHF] = lahf, [FLAG_SAHF] = sahf, [FLAG_SALC] = salc, [FLAG_CMC] = cmc,
                                 [FLAG_CLC] = clc,   [FLAG_STC] = stc,   [FLAG_CLD] = cld,   [FLAG_STD] = std};
    return lower_to(lo, fn[lo->arg]);
}

/* ---- hints ---- */

static void nop(struct vcpu *v, const struct insn *in) { (void)v; (void)in; }

bool lower_nop(struct lower *lo) { return lower_to(lo, nop); }

/* CLFLUSH is checked as a load of one byte (SDM vol. 2), but must not touch a device. */
static void clflush(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint64_t lin = lin_addr(v, in->seg, insn_ea(v, in), 1, false);
    mmu_span(v, lin, 1, ACC_READ, cpu_of(v)->mmu_mode, in->seg, &sp);
}
bool lower_clflush(struct lower *lo) { return lower_to(lo, clflush); }
