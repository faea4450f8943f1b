/* exec/interp/vecmov.c: the vector instructions that ordinary code executes most, in plain C: moves, bitwise logic, and
 * what string functions are made of. A thunk would give the same results, later. Rarer forms of the same mnemonics
 * (MMX operands, merging scalar moves) are left to lower_host(). */
#include "exec/interp/vec.h"

#include <emmintrin.h>

#include "exec/x86/lower.h"

enum vec_form { SSE128, AVX128, AVX256, VEC_FORMS };

static enum vec_form form_of(const struct lower *lo)
{
    return !vec_is_vex(lo) ? SSE128 : vec_is_256(lo) ? AVX256 : AVX128;
}

static ALWAYS_INLINE void need_form(struct vcpu *v, enum vec_form f) { vec_need(v, f == SSE128 ? NEED_SSE : NEED_AVX); }
static ALWAYS_INLINE unsigned form_len(enum vec_form f) { return f == AVX256 ? 32 : 16; }

/* VEX.128 zeroes the upper half of its destination. */
static ALWAYS_INLINE void zero_upper(void *reg, enum vec_form f)
{
    if (f == AVX128)
        memset((uint8_t *)reg + 16, 0, 16);
}

/* ---- whole registers ---- */

static ALWAYS_INLINE void vmov_reg(struct vcpu *v, const struct insn *in, enum vec_form f)
{
    need_form(v, f);
    memmove(vec_at(v, in->reg), vec_at(v, in->rm), form_len(f));
    zero_upper(vec_at(v, in->reg), f);
}
static ALWAYS_INLINE void vmov_load(struct vcpu *v, const struct insn *in, enum vec_form f)
{
    need_form(v, f);
    memcpy(vec_at(v, in->reg), vec_rd(v, in, form_len(f)), form_len(f));
    zero_upper(vec_at(v, in->reg), f);
}
static ALWAYS_INLINE void vmov_store(struct vcpu *v, const struct insn *in, enum vec_form f)
{
    need_form(v, f);
    memcpy(vec_wr(v, in, form_len(f)), vec_at(v, in->rm), form_len(f));
    wr_end(v);
}

#define HANDLER(name, body, f)                                                                                         \
    static void name(struct vcpu *v, const struct insn *in) { body(v, in, f); }
HANDLER(vmov_reg_sse128, vmov_reg, SSE128)
HANDLER(vmov_reg_avx128, vmov_reg, AVX128)
HANDLER(vmov_reg_avx256, vmov_reg, AVX256)
HANDLER(vmov_load_sse128, vmov_load, SSE128)
HANDLER(vmov_load_avx128, vmov_load, AVX128)
HANDLER(vmov_load_avx256, vmov_load, AVX256)
HANDLER(vmov_store_sse128, vmov_store, SSE128)
HANDLER(vmov_store_avx128, vmov_store, AVX128)
HANDLER(vmov_store_avx256, vmov_store, AVX256)

static void lower_operands(struct lower *lo)
{
    uint8_t *const slot[3] = {&lo->out->reg, &lo->out->rm, &lo->out->reg3};
    for (unsigned i = 0; i < MIN(3, lo->zi->operand_count_visible); i++)
        if (lower_is_reg(lo, i))
            *slot[i] = vec_unit(lo->op[i].reg.value);
    vec_lower_mem(lo, insn_info_of(lo->zi)->attrs & AT_ALIGN16);
}

bool lower_vmov(struct lower *lo)
{
    static const insn_fn handlers[3][VEC_FORMS] = {
        {vmov_reg_sse128, vmov_reg_avx128, vmov_reg_avx256},
        {vmov_load_sse128, vmov_load_avx128, vmov_load_avx256},
        {vmov_store_sse128, vmov_store_avx128, vmov_store_avx256},
    };
    lower_operands(lo);
    return lower_to(lo, handlers[lower_is_mem(lo, 0) ? 2 : lower_is_mem(lo, 1) ? 1 : 0][form_of(lo)]);
}

/* ---- the low 32 or 64 bits: MOVD, MOVQ, MOVSS, MOVSD ---- */

static ALWAYS_INLINE void set_low(struct vcpu *v, const struct insn *in, enum vec_form f, uint64_t x)
{
    uint8_t *reg = vec_at(v, in->reg);
    memcpy(reg, &x, 8);
    memset(reg + 8, 0, f == SSE128 ? 8 : 24);
}
static ALWAYS_INLINE uint64_t get_low(struct vcpu *v, uint8_t unit, unsigned len)
{
    uint64_t x = 0;
    memcpy(&x, vec_at(v, unit), len);
    return x;
}

static ALWAYS_INLINE void low_load(struct vcpu *v, const struct insn *in, enum vec_form f, unsigned len)
{
    need_form(v, f);
    uint64_t ea = insn_ea(v, in);
    set_low(v, in, f, len == 4 ? ld32(v, in->seg, ea) : ld64(v, in->seg, ea));
}
static ALWAYS_INLINE void low_store(struct vcpu *v, const struct insn *in, enum vec_form f, unsigned len)
{
    need_form(v, f);
    uint64_t ea = insn_ea(v, in), x = get_low(v, in->rm, len);
    if (len == 4)
        st32(v, in->seg, ea, (uint32_t)x);
    else
        st64(v, in->seg, ea, x);
}
static ALWAYS_INLINE void low_to_vec(struct vcpu *v, const struct insn *in, enum vec_form f, unsigned len)
{
    need_form(v, f);
    set_low(v, in, f, get_low(v, in->rm, len));
}
static ALWAYS_INLINE void low_to_gpr(struct vcpu *v, const struct insn *in, enum vec_form f, unsigned len)
{
    need_form(v, f);
    uint64_t x = get_low(v, in->rm, len);
    memcpy(vec_at(v, in->reg), &x, 8);
}

#define LOW_HANDLERS(kind)                                                                                             \
    static void kind##_sse32(struct vcpu *v, const struct insn *in) { kind(v, in, SSE128, 4); }                        \
    static void kind##_sse64(struct vcpu *v, const struct insn *in) { kind(v, in, SSE128, 8); }                        \
    static void kind##_avx32(struct vcpu *v, const struct insn *in) { kind(v, in, AVX128, 4); }                        \
    static void kind##_avx64(struct vcpu *v, const struct insn *in) { kind(v, in, AVX128, 8); }
LOW_HANDLERS(low_load)
LOW_HANDLERS(low_store)
LOW_HANDLERS(low_to_vec)
LOW_HANDLERS(low_to_gpr)
#define LOW_ROW(kind) {{kind##_sse32, kind##_sse64}, {kind##_avx32, kind##_avx64}}

static bool is_gpr(const struct lower *lo, unsigned i)
{
    ZydisRegisterClass c = lower_reg_class(lo, i);
    return c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64;
}

bool lower_vmov_low(struct lower *lo)
{
    enum { LOAD, STORE, TO_VEC, TO_GPR, LOW_KINDS };
    static const insn_fn handlers[LOW_KINDS][2][2] = {
        [LOAD] = LOW_ROW(low_load),
        [STORE] = LOW_ROW(low_store),
        [TO_VEC] = LOW_ROW(low_to_vec),
        [TO_GPR] = LOW_ROW(low_to_gpr),
    };
    ZydisMnemonic mnemonic = lo->zi->mnemonic;
    bool quad = mnemonic == ZYDIS_MNEMONIC_MOVQ || mnemonic == ZYDIS_MNEMONIC_VMOVQ;
    bool xmm0 = lower_reg_class(lo, 0) == ZYDIS_REGCLASS_XMM, xmm1 = lower_reg_class(lo, 1) == ZYDIS_REGCLASS_XMM;
    unsigned kind, len;
    if (xmm0 && lower_is_mem(lo, 1))
        kind = LOAD, len = lower_size(lo, 1);
    else if (lower_is_mem(lo, 0) && xmm1)
        kind = STORE, len = lower_size(lo, 0);
    else if (xmm0 && is_gpr(lo, 1))
        kind = TO_VEC, len = lower_size(lo, 1);
    else if (is_gpr(lo, 0) && xmm1)
        kind = TO_GPR, len = lower_size(lo, 0);
    else if (quad && xmm0 && xmm1)
        kind = TO_VEC, len = 8;
    else
        return lower_host(lo);
    if (len != 4 && len != 8)
        return false;
    lower_operands(lo);
    return lower_to(lo, handlers[kind][vec_is_vex(lo)][len == 8]);
}

/* ---- two sources, element by element ---- */

static ALWAYS_INLINE __m128i load128(const void *p) { return _mm_loadu_si128(p); }
static ALWAYS_INLINE void store128(void *p, __m128i x) { _mm_storeu_si128(p, x); }

static ALWAYS_INLINE __m128i vbinary(enum vbinary_op op, __m128i a, __m128i b)
{
    switch (op) {
    case VB_XOR: return _mm_xor_si128(a, b);
    case VB_OR: return _mm_or_si128(a, b);
    case VB_AND: return _mm_and_si128(a, b);
    case VB_ANDN: return _mm_andnot_si128(a, b);
    case VB_CMPEQB: return _mm_cmpeq_epi8(a, b);
    case VB_CMPEQD: return _mm_cmpeq_epi32(a, b);
    case VB_MINUB: return _mm_min_epu8(a, b);
    case VB_ADDB: return _mm_add_epi8(a, b);
    case VB_ADDD: return _mm_add_epi32(a, b);
    case VB_ADDQ: return _mm_add_epi64(a, b);
    default: return _mm_sub_epi8(a, b); /* VB_SUBB */
    }
}

static ALWAYS_INLINE void vbinary_exec(struct vcpu *v, const struct insn *in, enum vbinary_op op, enum vec_form f,
                                       bool mem)
{
    need_form(v, f);
    const uint8_t *b = mem ? vec_rd(v, in, form_len(f)) : vec_at(v, f == SSE128 ? in->rm : in->reg3);
    const uint8_t *a = vec_at(v, f == SSE128 ? in->reg : in->rm);
    uint8_t *to = vec_at(v, in->reg);
    __m128i low = vbinary(op, load128(a), load128(b)), high = _mm_setzero_si128();
    if (f == AVX256)
        high = vbinary(op, load128(a + 16), load128(b + 16));
    store128(to, low);
    if (f != SSE128)
        store128(to + 16, high);
}

#define VB_HANDLERS(op)                                                                                                \
    static void op##_sse128(struct vcpu *v, const struct insn *in) { vbinary_exec(v, in, op, SSE128, false); }         \
    static void op##_avx128(struct vcpu *v, const struct insn *in) { vbinary_exec(v, in, op, AVX128, false); }         \
    static void op##_avx256(struct vcpu *v, const struct insn *in) { vbinary_exec(v, in, op, AVX256, false); }         \
    static void op##_sse128_mem(struct vcpu *v, const struct insn *in) { vbinary_exec(v, in, op, SSE128, true); }      \
    static void op##_avx128_mem(struct vcpu *v, const struct insn *in) { vbinary_exec(v, in, op, AVX128, true); }      \
    static void op##_avx256_mem(struct vcpu *v, const struct insn *in) { vbinary_exec(v, in, op, AVX256, true); }
#define VB_ROW(op) [op] = {{op##_sse128, op##_avx128, op##_avx256}, {op##_sse128_mem, op##_avx128_mem, op##_avx256_mem}}

VB_HANDLERS(VB_XOR)
VB_HANDLERS(VB_OR)
VB_HANDLERS(VB_AND)
VB_HANDLERS(VB_ANDN)
VB_HANDLERS(VB_CMPEQB)
VB_HANDLERS(VB_CMPEQD)
VB_HANDLERS(VB_MINUB)
VB_HANDLERS(VB_ADDB)
VB_HANDLERS(VB_ADDD)
VB_HANDLERS(VB_ADDQ)
VB_HANDLERS(VB_SUBB)

bool lower_vbinary(struct lower *lo)
{
    static const insn_fn handlers[VBINARY_OPS][2][VEC_FORMS] = {
        VB_ROW(VB_XOR),    VB_ROW(VB_OR),    VB_ROW(VB_AND),  VB_ROW(VB_ANDN), VB_ROW(VB_CMPEQB), VB_ROW(VB_CMPEQD),
        VB_ROW(VB_MINUB),  VB_ROW(VB_ADDB),  VB_ROW(VB_ADDD), VB_ROW(VB_ADDQ), VB_ROW(VB_SUBB),
    };
    if (lower_reg_class(lo, 0) == ZYDIS_REGCLASS_MMX)
        return lower_host(lo);
    lower_operands(lo);
    return lower_to(lo, handlers[lo->arg][lo->out->flags & INSN_MEM ? 1 : 0][form_of(lo)]);
}

/* ---- PMOVMSKB ---- */

static ALWAYS_INLINE void vmovmskb(struct vcpu *v, const struct insn *in, enum vec_form f)
{
    need_form(v, f);
    const uint8_t *a = vec_at(v, in->rm);
    uint64_t mask = (uint32_t)_mm_movemask_epi8(load128(a));
    if (f == AVX256)
        mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(load128(a + 16)) << 16;
    memcpy(vec_at(v, in->reg), &mask, 8);
}
HANDLER(vmovmskb_sse128, vmovmskb, SSE128)
HANDLER(vmovmskb_avx128, vmovmskb, AVX128)
HANDLER(vmovmskb_avx256, vmovmskb, AVX256)

bool lower_vmovmskb(struct lower *lo)
{
    static const insn_fn handlers[VEC_FORMS] = {vmovmskb_sse128, vmovmskb_avx128, vmovmskb_avx256};
    if (lower_reg_class(lo, 1) == ZYDIS_REGCLASS_MMX)
        return lower_host(lo);
    lower_operands(lo);
    return lower_to(lo, handlers[form_of(lo)]);
}

/* ---- state management ---- */

static void emms(struct vcpu *v, const struct insn *in)
{
    (void)in;
    vec_need(v, NEED_MMX);
    mmx_enter(&v->s.x87);
    v->s.x87.ftw = 0;
}

bool lower_emms(struct lower *lo) { return lower_to(lo, emms); }

/* Outside 64-bit mode registers 8 to 15 are out of reach (SDM vol. 2, VZEROUPPER). */
static ALWAYS_INLINE void vzero(struct vcpu *v, unsigned from)
{
    vec_need(v, NEED_AVX);
    unsigned count = cpu_of(v)->mode == MODE_LONG64 ? 16 : 8;
    for (unsigned i = 0; i < count; i++)
        memset(v->s.ymm[i] + from, 0, 32 - from);
}
static void vzeroupper(struct vcpu *v, const struct insn *in)
{
    (void)in;
    vzero(v, 16);
}
static void vzeroall(struct vcpu *v, const struct insn *in)
{
    (void)in;
    vzero(v, 0);
}

bool lower_vzero(struct lower *lo) { return lower_to(lo, lo->arg ? vzeroall : vzeroupper); }

static ALWAYS_INLINE void ldmxcsr(struct vcpu *v, const struct insn *in, enum vec_form f)
{
    need_form(v, f);
    uint32_t x = ld32(v, in->seg, insn_ea(v, in));
    if (x & ~(uint32_t)MXCSR_VALID)
        vcpu_raise_err(v, VEC_GP, 0);
    v->s.mxcsr = x;
}
static ALWAYS_INLINE void stmxcsr(struct vcpu *v, const struct insn *in, enum vec_form f)
{
    need_form(v, f);
    st32(v, in->seg, insn_ea(v, in), v->s.mxcsr);
}
HANDLER(ldmxcsr_sse, ldmxcsr, SSE128)
HANDLER(ldmxcsr_avx, ldmxcsr, AVX128)
HANDLER(stmxcsr_sse, stmxcsr, SSE128)
HANDLER(stmxcsr_avx, stmxcsr, AVX128)

bool lower_mxcsr(struct lower *lo)
{
    static const insn_fn handlers[2][2] = {{ldmxcsr_sse, ldmxcsr_avx}, {stmxcsr_sse, stmxcsr_avx}};
    return lower_to(lo, handlers[lo->arg][vec_is_vex(lo)]);
}
