/* tests/insn/gen_memory.c: where memory operands lie, the registers and displacements that put them there, and what
 * they hold. */
#include "tests/insn/gen.h"

/* An address for an access of `size` bytes. */
static uint64_t rnd_target(struct gen *n, unsigned size)
{
    struct rng *g = n->g;
    static const uint8_t rw_pages[3] = {0, 1, 3};
    /* Between pages RW|RW, RW|RO, RO|RW, RW|none, none|RW. */
    static const uint8_t edges[] = {1, 1, 1, 1, 2, 2, 3, 4, 0};
    unsigned kind = rnd_below(g, 100);
    uint64_t page = DATA_BASE + (uint64_t)PAGE_SIZE * rw_pages[rnd_below(g, 3)];
    unsigned natural = 1;
    while (natural < size && natural < 64)
        natural *= 2;
    if (kind < 52)
        return page + (0x400 + rnd_below(g, 0x600)) / natural * natural;
    if (kind < 70)
        return page + 0x400 + rnd_below(g, 0x600);
    if (kind < 74) /* the very end and the very beginning of what is mapped */
        return rnd(g) & 1 ? DATA_BASE + DATA_LEN - size : DATA_BASE;
    if (kind < 90) {
        uint64_t edge = DATA_BASE + (uint64_t)PAGE_SIZE * edges[rnd_below(g, ARRAY_LEN(edges))];
        return size > 1 ? edge - 1 - rnd_below(g, size - 1) : edge - (rnd(g) & 1);
    }
    if (kind < 95)
        return DATA_BASE + DATA_RO_PAGE * PAGE_SIZE + 0x400 + rnd_below(g, 0x600) / natural * natural;
    if (kind < 97)
        return DATA_BASE + DATA_LEN + rnd_below(g, PAGE_SIZE);
    if (n->f->mode == 64)
        return rnd_chance(g, 30) ? UINT64_C(0x800000000000) + rnd_below(g, 64) : rnd(g) | UINT64_C(0x8000000000000000);
    return rnd(g) & UINT32_MAX;
}

static uint64_t segment_base(const struct gen *n, ZydisRegister seg)
{
    return seg == ZYDIS_REGISTER_FS ? n->tc->in.fs_base : seg == ZYDIS_REGISTER_GS ? n->tc->in.gs_base : 0;
}

static void put_disp(struct gen *n, uint64_t value)
{
    struct test_case *tc = n->tc;
    unsigned bytes = tc->zi.raw.disp.size / 8;
    uint8_t le[8];
    put_le64(le, value);
    if (bytes >= 2 && tc->zi.raw.disp.offset && !tc->invalid) /* an invalid case's bytes are not where `zi` says */
        memcpy(tc->code + tc->zi.raw.disp.offset, le, bytes);
}

static void set_gpr(struct gen *n, ZydisRegister r, uint64_t x, unsigned width)
{
    unsigned i = gen_gpr_index(r);
    uint64_t keep = rnd_chance(n->g, 50) ? 0 : n->tc->in.r[i] & ~gen_width_mask(width);
    n->tc->in.r[i] = (x & gen_width_mask(width)) | keep;
    n->fixed |= UINT64_C(1) << i;
}

/* Choose registers or displacement so that the operand's linear address is `target`. */
static void aim(struct gen *n, const ZydisDecodedOperand *op, uint64_t target)
{
    struct test_case *tc = n->tc;
    unsigned width = tc->zi.address_width;
    ZydisRegister base = op->mem.base, index = op->mem.index;
    uint64_t ea = target - segment_base(n, op->mem.segment), disp = (uint64_t)op->mem.disp.value;
    bool has_index = index != ZYDIS_REGISTER_NONE && gen_is_gpr(index);
    if (base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP) {
        put_disp(n, ea - (tc->code_addr + tc->code_len));
    } else if (base == ZYDIS_REGISTER_NONE && !has_index) {
        put_disp(n, ea);
    } else if (base == ZYDIS_REGISTER_NONE) {
        set_gpr(n, index, (ea - disp) / MAX(op->mem.scale, 1), width);
    } else if (has_index && gen_gpr_index(base) == gen_gpr_index(index) && index != ZYDIS_REGISTER_AL) {
        set_gpr(n, base, (ea - disp) / (1u + MAX(op->mem.scale, 1)), width);
    } else {
        if (has_index && rnd_chance(n->g, 50) && !(n->fixed >> gen_gpr_index(index) & 1) && index != ZYDIS_REGISTER_AL)
            tc->in.r[gen_gpr_index(index)] = rnd_below(n->g, 64);
        uint64_t rest = has_index ? gen_reg_value(tc, index) * MAX(op->mem.scale, 1) : 0;
        set_gpr(n, base, ea - disp - rest, width);
    }
}

static bool is_stack_write(const ZydisDecodedOperand *op)
{
    return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
           gen_gpr_index(op->mem.base) == R_RSP;
}

void gen_poke(struct gen *n, uint64_t addr, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (addr + i - DATA_BASE < DATA_LEN)
            n->data[addr + i - DATA_BASE] = ((const uint8_t *)bytes)[i];
}

static void fill_memory(struct gen *n, const ZydisDecodedOperand *op, uint64_t addr)
{
    uint8_t b[576];
    size_t len = MIN(MAX(op->size / 8u, 1u), sizeof(b) - 16);
    gen_elements(n->g, b, len, op->element_type, op->element_size);
    gen_poke(n, addr, b, len);
}

/* Gathers: a base in the data and indices near it, some of them wild. */
static void aim_vsib(struct gen *n, const ZydisDecodedOperand *op)
{
    struct insn_state *s = &n->tc->in;
    struct rng *g = n->g;
    uint64_t at = DATA_BASE + 0x1000 + rnd_below(g, 0x200);
    if (op->mem.base != ZYDIS_REGISTER_NONE)
        set_gpr(n, op->mem.base, at - segment_base(n, op->mem.segment) - (uint64_t)op->mem.disp.value,
                n->tc->zi.address_width);
    bool wide = n->tc->zi.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD || n->tc->zi.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS ||
                n->tc->zi.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || n->tc->zi.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;
    unsigned r = (unsigned)ZydisRegisterGetId(op->mem.index) & 15, each = wide ? 8 : 4;
    uint8_t y[32];
    for (unsigned i = 0; i < 32; i += each) {
        int64_t x = rnd_chance(g, 96) ? (int64_t)rnd_below(g, 0x200) - 0x100 : (int64_t)rnd(g);
        memcpy(y + i, &x, each);
    }
    memcpy(s->fx + FX_XMM + 16 * r, y, 16);
    memcpy(s->ymmh[r], y + 16, 16);
    n->tc->ea[n->tc->ea_count++] = at;
}

void gen_aim_operands(struct gen *n)
{
    struct test_case *tc = n->tc;
    for (unsigned i = 0; i < tc->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &tc->op[i];
        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || tc->ea_count == ARRAY_LEN(tc->ea))
            continue;
        if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
            aim_vsib(n, op);
            continue;
        }
        unsigned size = MAX(op->size / 8u, 1u);
        uint64_t target = rnd_target(n, size);
        if (op->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            target = rnd(n->g);
        aim(n, op, is_stack_write(op) ? target + size : target);
        if (op->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
            fill_memory(n, op, target);
        tc->ea[tc->ea_count++] = target;
    }
}
