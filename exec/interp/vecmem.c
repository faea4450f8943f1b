/* exec/interp/vecmem.c: instructions that touch only selected elements of memory. Unselected ones are neither read nor
 * written and, but for MASKMOVQ and MASKMOVDQU, cannot fault (SDM vol. 2, VMASKMOV, VGATHER).
 *
 * A masked move is done as one access from the first to the last selected byte: at most 32 bytes, so its two pages, if
 * it crosses one, both hold selected bytes, and it faults exactly when one of them would. */
#include "exec/interp/vec.h"

#include "exec/x86/lower.h"

/* Bits 0.. of the result: the sign bits of the elements in mask[0..len). */
static ALWAYS_INLINE uint32_t select_bits(const uint8_t *mask, unsigned len, unsigned elem)
{
    uint32_t sel = 0;
    for (unsigned i = 0; i < len / elem; i++)
        sel |= (uint32_t)(mask[i * elem + elem - 1] >> 7) << i;
    return sel;
}

static ALWAYS_INLINE void store_selected(struct vcpu *v, unsigned seg, uint64_t ea, const uint8_t *from, uint32_t sel,
                                         unsigned elem)
{
    unsigned first = (unsigned)__builtin_ctz(sel), end = 32 - (unsigned)__builtin_clz(sel);
    uint8_t *p = rmw(v, seg, (ea + first * elem) & cpu_of(v)->lin_mask, (end - first) * elem);
    for (unsigned i = first; i < end; i++)
        if (sel >> i & 1)
            memcpy(p + (i - first) * elem, from + i * elem, elem);
    rmw_end(v);
}

/* ---- MASKMOVQ, MASKMOVDQU ---- */

/* Operand 0 is the data, 1 the mask; memory is at DS:rDI. Unlike the others these check all of their memory operand,
 * whatever the mask (the SDM leaves that to the implementation; Intel CPUs do). */
static ALWAYS_INLINE void maskmov_bytes(struct vcpu *v, const struct insn *in, unsigned len)
{
    const uint8_t *mask = vec_at(v, in->rm), *from = vec_at(v, in->reg);
    uint8_t *p = rmw(v, in->seg, insn_ea(v, in), len);
    for (unsigned i = 0; i < len; i++)
        if (mask[i] & 0x80)
            p[i] = from[i];
    rmw_end(v);
}
static void maskmovq(struct vcpu *v, const struct insn *in)
{
    vec_need(v, NEED_MMX);
    mmx_enter(&v->s.x87);
    maskmov_bytes(v, in, 8);
}
static void maskmovdqu(struct vcpu *v, const struct insn *in)
{
    vec_need(v, NEED_SSE);
    maskmov_bytes(v, in, 16);
}
static void vmaskmovdqu(struct vcpu *v, const struct insn *in)
{
    vec_need(v, NEED_AVX);
    maskmov_bytes(v, in, 16);
}

bool lower_maskmov_bytes(struct lower *lo)
{
    struct insn *out = lo->out;
    unsigned n = 0;
    uint8_t *const slot[2] = {&out->reg, &out->rm};
    for (unsigned i = 0; i < lo->zi->operand_count && n < 2; i++)
        if (lower_is_reg(lo, i))
            *slot[n++] = vec_unit(lo->op[i].reg.value);
    out->base = R_RDI;
    out->index = R_ZERO;
    out->disp = 0;
    if (vec_is_vex(lo))
        return lower_to(lo, vmaskmovdqu);
    return lower_to(lo, lo->zi->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ? maskmovq : maskmovdqu);
}

/* ---- VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ: in->x is the element size ---- */

/* Operand 0 is the destination, 1 the mask, 2 memory. */
static void vmaskmov_load(struct vcpu *v, const struct insn *in)
{
    unsigned len = in->opsize, elem = in->x;
    uint8_t result[32] = {0};
    vec_need(v, NEED_AVX);
    uint32_t sel = select_bits(vec_at(v, in->rm), len, elem);
    if (sel) {
        unsigned first = (unsigned)__builtin_ctz(sel), end = 32 - (unsigned)__builtin_clz(sel);
        uint64_t ea = (insn_ea(v, in) + first * elem) & cpu_of(v)->lin_mask;
        const uint8_t *p = rd(v, in->seg, ea, (end - first) * elem);
        for (unsigned i = first; i < end; i++)
            if (sel >> i & 1)
                memcpy(result + i * elem, p + (i - first) * elem, elem);
    }
    memcpy(vec_at(v, in->reg), result, 32);
}

/* Operand 0 is memory, 1 the mask, 2 the source. */
static void vmaskmov_store(struct vcpu *v, const struct insn *in)
{
    unsigned elem = in->x;
    vec_need(v, NEED_AVX);
    uint32_t sel = select_bits(vec_at(v, in->rm), in->opsize, elem);
    if (sel)
        store_selected(v, in->seg, insn_ea(v, in), vec_at(v, in->reg3), sel, elem);
}

bool lower_maskmov(struct lower *lo)
{
    struct insn *out = lo->out;
    bool store = lower_is_mem(lo, 0);
    vec_lower_mem(lo, false);
    out->x = lo->arg;
    out->rm = vec_unit(lo->op[1].reg.value);
    if (store)
        out->reg3 = vec_unit(lo->op[2].reg.value);
    else
        out->reg = vec_unit(lo->op[0].reg.value);
    return lower_to(lo, store ? vmaskmov_store : vmaskmov_load);
}

/* ---- gathers: operand 0 is the destination, 1 the index vector, 2 the mask; in->x: GATHER_*, in->y: elements,
 * in->opsize: bytes of the longest vector ---- */

static uint64_t gather_ea(const struct vcpu *v, const struct insn *in, const uint8_t *index, unsigned i)
{
    int64_t n;
    if (in->x & GATHER_INDEX64)
        n = (int64_t)get_le64(index + 8 * i);
    else
        n = (int32_t)get_le32(index + 4 * i);
    return (v->s.r[in->base] + ((uint64_t)n << in->scale) + (uint64_t)in->disp) & in->addr_mask;
}

/* Elements are fetched in order. One that faults leaves those before it done and their masks clear, so that the
 * instruction, started again, goes on where it stopped. What else a fault leaves is what Intel CPUs leave: masks are
 * all ones or all zero (those beyond the last element too), and the destination is zero above its XMM or YMM register
 * once an element was fetched. */
static void gather(struct vcpu *v, const struct insn *in)
{
    unsigned elem = in->x & GATHER_DATA64 ? 8 : 4, len = in->opsize, upper = in->y * elem;
    vec_need(v, NEED_AVX);
    uint8_t *to = vec_at(v, in->reg), *mask = vec_at(v, in->reg3);
    const uint8_t *index = vec_at(v, in->rm);
    uint32_t sel = select_bits(mask, len, elem);
    memset(mask, 0, 32);
    for (unsigned i = 0; i < len / elem; i++)
        memset(mask + i * elem, sel >> i & 1 ? 0xff : 0, elem);
    for (unsigned i = 0; i < in->y; i++) {
        if (!(sel >> i & 1))
            continue;
        uint64_t ea = gather_ea(v, in, index, i);
        uint64_t x = elem == 8 ? ld64(v, in->seg, ea) : ld32(v, in->seg, ea);
        memcpy(to + i * elem, &x, elem);
        memset(to + MAX(upper, 16), 0, 32 - MAX(upper, 16));
        memset(mask + i * elem, 0, elem);
    }
    memset(mask, 0, 32);
    memset(to + upper, 0, 32 - upper);
}

bool lower_gather(struct lower *lo)
{
    struct insn *out = lo->out;
    const ZydisDecodedOperandMem *mem = &lo->op[1].mem;
    if (!lower_is_mem(lo, 1))
        return false;
    ZydisRegister to = lo->op[0].reg.value, mask = lo->op[2].reg.value;
    unsigned ids[3] = {(unsigned)ZydisRegisterGetId(to), (unsigned)ZydisRegisterGetId(mem->index),
                       (unsigned)ZydisRegisterGetId(mask)};
    if (ids[0] == ids[1] || ids[0] == ids[2] || ids[1] == ids[2])
        return false; /* #UD, SDM vol. 2, VGATHERDPS */
    out->reg = vec_unit(to);
    out->rm = vec_unit(mem->index);
    out->reg3 = vec_unit(mask);
    out->index = R_ZERO;
    out->scale = mem->scale > 1 ? (uint8_t)__builtin_ctz(mem->scale) : 0;
    out->x = lo->arg;
    out->opsize = vec_is_256(lo) ? 32 : 16;
    out->y = (uint8_t)(out->opsize / (lo->arg ? 8 : 4));
    return lower_to(lo, gather);
}
