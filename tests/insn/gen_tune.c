/* tests/insn/gen_tune.c: what some instructions need to be tested well: counts that end, quotients that fit,
 * comparisons that succeed, selectors and frames that can be loaded. */
#include "tests/insn/gen.h"

static void tune_count(struct gen *n) /* REP, LOOP, JCXZ */
{
    struct rng *g = n->g;
    if (rnd_chance(g, 80))
        n->tc->in.r[R_RCX] = rnd_below(g, 4) | (rnd_chance(g, 20) ? UINT64_C(0x100000000) << rnd_below(g, 8) : 0);
}

static void tune_divide(struct gen *n)
{
    struct insn_state *s = &n->tc->in;
    if ((n->fixed >> R_RDX & 1) || rnd_chance(n->g, 30))
        return;
    s->r[R_RDX] = rnd_below(n->g, 3) == 0 ? rnd_below(n->g, 1000) : rnd(n->g) & 1 ? 0 : UINT64_MAX;
    if (n->tc->op[0].size == 8 && !(n->fixed & 1))
        s->r[R_RAX] &= ~UINT64_C(0xff00);
}

static void tune_bit_offset(struct gen *n) /* BTx m, r: the register moves the address */
{
    const ZydisDecodedOperand *op = n->tc->op;
    if (op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && op[1].type == ZYDIS_OPERAND_TYPE_REGISTER && rnd_chance(n->g, 90) &&
        !(n->fixed >> gen_gpr_index(op[1].reg.value) & 1))
        n->tc->in.r[gen_gpr_index(op[1].reg.value)] = rnd_below(n->g, 0x4000) - (uint64_t)0x2000;
}

static void tune_compare_exchange(struct gen *n) /* make the comparison succeed half the time */
{
    struct test_case *tc = n->tc;
    struct insn_state *s = &tc->in;
    uint64_t at = tc->ea_count ? tc->ea[0] - DATA_BASE : DATA_LEN;
    if (rnd_chance(n->g, 50))
        return;
    if (at < DATA_LEN - 16 && !(n->fixed & 5)) {
        s->r[R_RAX] = get_le64(n->data + at);
        s->r[R_RDX] = get_le64(n->data + at + (tc->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B ? 4 : 8));
    } else if (tc->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
        s->r[R_RAX] = s->r[gen_gpr_index(tc->op[0].reg.value)];
    }
}

static void tune_selectors(struct gen *n)
{
    struct test_case *tc = n->tc;
    for (unsigned i = 0; i < 16; i++)
        if (!(n->fixed >> i & 1) && i != R_RSP && rnd_chance(n->g, 85))
            tc->in.r[i] = (tc->in.r[i] & ~UINT64_C(0xffff)) | gen_selector(n->g);
    for (unsigned i = 0; i < tc->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &tc->op[i];
        if (op->type == ZYDIS_OPERAND_TYPE_POINTER) { /* ptr16:32 ends with the selector */
            put_le16(tc->code + tc->code_len - 2, gen_selector(n->g));
        } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && tc->ea_count && rnd_chance(n->g, 90)) {
            unsigned size = op->size / 8, at = size > 2 && size != 8 ? size - 2 : 0;
            uint16_t sel = gen_selector(n->g);
            gen_poke(n, tc->ea[tc->ea_count - 1] + at, &sel, 2);
        }
    }
}

static uint64_t rnd_branch_target(struct gen *n)
{
    struct rng *g = n->g;
    if (rnd_chance(g, 50))
        return CODE_BASE + rnd_below(g, CODE_LEN);
    if (rnd_chance(g, 70))
        return rnd(g) & (n->f->mode == 64 ? UINT64_C(0x7fffffffffff) : UINT32_MAX);
    return rnd_chance(g, 30) ? UINT64_C(0xffff800000000000) + rnd_below(g, 1 << 20) : rnd(g);
}

static void tune_branch(struct gen *n) /* near, indirect */
{
    struct test_case *tc = n->tc;
    for (unsigned i = 0; i < tc->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &tc->op[i];
        uint64_t to = rnd_branch_target(n);
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) && tc->ea_count)
            gen_poke(n, tc->ea[tc->ea_count > 1 && i ? 1 : 0], &to, op->size / 8);
        else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
                 gen_is_gpr(op->reg.value) && gen_gpr_index(op->reg.value) != R_RSP)
            tc->in.r[gen_gpr_index(op->reg.value)] = to;
    }
}

/* Frames of RETF and IRET: offset, selector, and for IRET flags, stack pointer, SS. */
static void tune_far_return(struct gen *n)
{
    struct test_case *tc = n->tc;
    struct rng *g = n->g;
    unsigned w = tc->zi.operand_width / 8;
    uint64_t at = tc->in.r[R_RSP];
    if (w < 2)
        return;
    uint16_t cs = rnd_chance(g, 40) ? SEL_CODE64 : rnd_chance(g, 50) ? SEL_CODE32 : gen_selector(g);
    uint64_t flags = (rnd(g) & 0x3f7fd7) | 2;
    if (rnd_chance(g, 97))
        flags &= ~(uint64_t)FL_VM;
    if (at & 7)
        flags &= ~(uint64_t)FL_AC; /* see README.md: the CPU answers #AC with EFLAGS.AC clear, which Linux never ends */
    uint64_t slot[5] = {rnd_branch_target(n), cs | (rnd(g) & ~UINT64_C(0xffff)), flags, rnd_branch_target(n),
                        rnd_chance(g, 70) ? SEL_DATA : gen_selector(g)};
    for (unsigned i = 0; i < 5; i++)
        gen_poke(n, at + i * w, &slot[i], w);
}

static void tune_far_pointer(struct gen *n) /* JMP and CALL far, LDS...: offset, then selector */
{
    struct test_case *tc = n->tc;
    for (unsigned i = 0; i < tc->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &tc->op[i];
        unsigned size = op->size / 8;
        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || !(op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) || size < 4)
            continue;
        uint64_t to = rnd_branch_target(n);
        uint16_t sel = gen_selector(n->g);
        gen_poke(n, tc->ea[0], &to, size - 2);
        gen_poke(n, tc->ea[0] + size - 2, &sel, 2);
        return;
    }
    tune_selectors(n);
}

static void tune_state_image(struct gen *n) /* FXRSTOR, LDMXCSR and the x87 environments: mostly loadable */
{
    struct test_case *tc = n->tc;
    uint64_t at = tc->ea_count ? tc->ea[0] : 0;
    bool mxcsr_only = tc->zi.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || tc->zi.mnemonic == ZYDIS_MNEMONIC_VLDMXCSR;
    uint32_t mxcsr = (uint32_t)(rnd(n->g) & 0xffff);
    if (rnd_chance(n->g, 90))
        gen_poke(n, at + (mxcsr_only ? 0 : FX_MXCSR), &mxcsr, 4);
    if (mxcsr_only)
        return;
    uint64_t pointers[2] = {rnd(n->g) >> 17, rnd(n->g) >> 17}; /* canonical: see README.md */
    gen_poke(n, at + FX_FIP, pointers, sizeof(pointers));
}

static void tune_interrupt(struct gen *n)
{
    uint8_t *vector = &n->tc->code[n->tc->code_len - 1];
    *vector ^= *vector == 0x80; /* the host's system calls */
}

static void tune_enter(struct gen *n)
{
    struct test_case *tc = n->tc;
    tc->code[tc->code_len - 1] &= rnd_chance(n->g, 50) ? 0xe0 : 0xff;
    tc->code[tc->code_len - 2] &= rnd_chance(n->g, 70) ? 0x03 : 0xff;
    tc->in.r[R_RSP] = DATA_BASE + 0x400 + rnd_below(n->g, 0x1000);
    tc->in.r[R_RBP] = DATA_BASE + (rnd_chance(n->g, 90) ? 0x400 + rnd_below(n->g, 0x1000) : rnd_below(n->g, 0x100));
}

static const struct tuning {
    ZydisMnemonic mnemonic;
    void (*tune)(struct gen *n);
} tunings[] = {
#define M(name) ZYDIS_MNEMONIC_##name
    {M(LOOP), tune_count},
    {M(LOOPE), tune_count},
    {M(LOOPNE), tune_count},
    {M(JCXZ), tune_count},
    {M(JECXZ), tune_count},
    {M(JRCXZ), tune_count},
    {M(DIV), tune_divide},
    {M(IDIV), tune_divide},
    {M(BT), tune_bit_offset},
    {M(BTS), tune_bit_offset},
    {M(BTR), tune_bit_offset},
    {M(BTC), tune_bit_offset},
    {M(CMPXCHG), tune_compare_exchange},
    {M(CMPXCHG8B), tune_compare_exchange},
    {M(CMPXCHG16B), tune_compare_exchange},
    {M(INT), tune_interrupt},
    {M(LAR), tune_selectors},
    {M(LSL), tune_selectors},
    {M(VERR), tune_selectors},
    {M(VERW), tune_selectors},
    {M(ARPL), tune_selectors},
    {M(LLDT), tune_selectors},
    {M(LTR), tune_selectors},
    {M(LDS), tune_far_pointer},
    {M(LES), tune_far_pointer},
    {M(LFS), tune_far_pointer},
    {M(LGS), tune_far_pointer},
    {M(LSS), tune_far_pointer},
    {M(IRET), tune_far_return},
    {M(IRETD), tune_far_return},
    {M(IRETQ), tune_far_return},
    {M(FXRSTOR), tune_state_image},
    {M(FXRSTOR64), tune_state_image},
    {M(LDMXCSR), tune_state_image},
    {M(VLDMXCSR), tune_state_image},
    {M(ENTER), tune_enter},
#undef M
};

static bool touches_segment_register(const struct test_case *tc)
{
    for (unsigned i = 0; i < tc->zi.operand_count; i++)
        if (tc->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && tc->op[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
            ZydisRegisterGetClass(tc->op[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return true;
    return false;
}

void gen_tune(struct gen *n)
{
    struct test_case *tc = n->tc;
    if (tc->zi.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
        tune_count(n);
    for (size_t i = 0; i < ARRAY_LEN(tunings); i++)
        if (tunings[i].mnemonic == tc->zi.mnemonic)
            tunings[i].tune(n);
    if (touches_segment_register(tc))
        tune_selectors(n);
    if (tc->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        (tc->zi.mnemonic == ZYDIS_MNEMONIC_RET ? tune_far_return : tune_far_pointer)(n);
    else if (tc->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR)
        tune_branch(n);
}
