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

/* The bytes [first, first + len) of a masked operand, which hold all selected elements. */
struct masked { unsigned first, len; struct span span; };

/* Bytes before the first selected one that lies at `from` or behind. */
static unsigned selected_from(uint32_t sel, unsigned elem, unsigned from)
{
    while ((unsigned)(__builtin_ctz(sel) + 1) * elem <= from)
        sel &= sel - 1;
    return MAX((unsigned)__builtin_ctz(sel) * elem, from);
}

/* Translate them. CR2 shows the first selected byte of the page that faults; for a store that reaches into a second page,
 * the last one there. */
static void masked_translate(struct vcpu *v, const struct insn *in, uint32_t sel, unsigned elem, enum mmu_access acc,
                             struct masked *m)
{
    enum mmu_mode mode = vec_unaligned_mode(v);
    unsigned end = (32 - (unsigned)__builtin_clz(sel)) * elem;
    m->first = (unsigned)__builtin_ctz(sel) * elem;
    m->len = end - m->first;
    uint64_t mask = cpu_of(v)->lin_mask, lin = lin_addr(v, in->seg, insn_ea(v, in) + m->first, m->len, acc != ACC_READ);
    uint32_t in_page = PAGE_SIZE - (uint32_t)(lin & PAGE_MASK);
    mmu_probe(v, lin, 1, acc, mode, in->seg);
    if (m->len > in_page) {
        unsigned at = acc == ACC_READ ? selected_from(sel, elem, m->first + in_page) : end - 1;
        mmu_probe(v, (lin + at - m->first) & mask, 1, acc, mode, in->seg);
    }
    mmu_span(v, lin, m->len, acc, mode, in->seg, &m->span);
}

/* ---- MASKMOVQ, MASKMOVDQU ---- */

/* Operand 0 is the data, 1 the mask; memory is at DS:rDI. Unlike the others these check all of their memory operand,
 * whatever the mask (the SDM leaves that to the implementation; Intel CPUs do). */
static uint64_t maskmov_lin(struct vcpu *v, const struct insn *in, unsigned half)
{
    return lin_addr(v, in->seg, (insn_ea(v, in) + 8 * half) & in->addr_mask, 8, true);
}

static void maskmov_half(struct vcpu *v, const struct insn *in, unsigned half, const struct span *sp)
{
    const uint8_t *mask = (uint8_t *)vec_at(v, in->rm) + 8 * half, *from = (uint8_t *)vec_at(v, in->reg) + 8 * half;
    uint8_t bytes[8];
    span_read(v, sp, bytes);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        if (mask[i] & 0x80)
            bytes[i] = from[i];
    span_write(v, sp, bytes);
}

static void maskmovq(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    vec_need(v, NEED_MMX);
    mmu_span(v, maskmov_lin(v, in, 0), 8, ACC_RMW, cpu_of(v)->mmu_mode, in->seg, &sp);
    mmx_enter(&v->s.x87);
    maskmov_half(v, in, 0, &sp);
}

/* Two moves of 8 bytes, the upper one first. */
static ALWAYS_INLINE void maskmov_16(struct vcpu *v, const struct insn *in)
{
    struct span low, high;
    enum mmu_mode mode = cpu_of(v)->mmu_mode;
    mmu_probe(v, maskmov_lin(v, in, 1), 8, ACC_RMW, mode, in->seg);
    mmu_span(v, maskmov_lin(v, in, 0), 8, ACC_RMW, mode, in->seg, &low);
    mmu_span(v, maskmov_lin(v, in, 1), 8, ACC_RMW, mode, in->seg, &high);
    maskmov_half(v, in, 1, &high);
    maskmov_half(v, in, 0, &low);
}
static void maskmovdqu(struct vcpu *v, const struct insn *in)
{
    vec_need(v, NEED_SSE);
    maskmov_16(v, in);
}
static void vmaskmovdqu(struct vcpu *v, const struct insn *in)
{
    vec_need(v, NEED_AVX);
    maskmov_16(v, in);
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
        uint8_t bytes[32];
        struct masked m;
        masked_translate(v, in, sel, elem, ACC_READ, &m);
        span_read(v, &m.span, bytes + m.first);
        for (unsigned i = 0; i < len / elem; i++)
            if (sel >> i & 1)
                memcpy(result + i * elem, bytes + i * elem, elem);
    }
    memcpy(vec_at(v, in->reg), result, 32);
}

/* Operand 0 is memory, 1 the mask, 2 the source. */
static void vmaskmov_store(struct vcpu *v, const struct insn *in)
{
    unsigned elem = in->x;
    vec_need(v, NEED_AVX);
    uint32_t sel = select_bits(vec_at(v, in->rm), in->opsize, elem);
    if (!sel)
        return;
    const uint8_t *from = vec_at(v, in->reg3);
    uint8_t bytes[32];
    struct masked m;
    masked_translate(v, in, sel, elem, ACC_RMW, &m);
    span_read(v, &m.span, bytes + m.first); /* what lies between selected elements is written back as it is */
    for (unsigned i = 0; i < in->opsize / elem; i++)
        if (sel >> i & 1)
            memcpy(bytes + i * elem, from + i * elem, elem);
    span_write(v, &m.span, bytes + m.first);
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

static uint64_t gather_element(struct vcpu *v, const struct insn *in, uint64_t ea, unsigned size)
{
    if (likely(cpu_of(v)->mmu_mode != MMU_USER_ALIGN))
        return size == 8 ? ld64(v, in->seg, ea) : ld32(v, in->seg, ea);
    struct span sp;
    uint64_t x = 0;
    mmu_span(v, lin_addr(v, in->seg, ea, size, false), size, ACC_READ, vec_unaligned_mode(v), in->seg, &sp);
    span_read(v, &sp, &x);
    return x;
}

/* Elements are fetched in order. One that faults leaves those before it done and their masks clear, so that the
 * instruction, started again, goes on where it stopped. What else a fault leaves is what Intel CPUs leave: masks are
 * all ones or all zero (those beyond the last element too), and the destination is zero above the vector length once an
 * element was fetched. */
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
        uint64_t x = gather_element(v, in, ea, elem);
        memcpy(to + i * elem, &x, elem);
        memset(to + len, 0, 32 - len);
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
