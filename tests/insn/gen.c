/* tests/insn/gen.c: one random case of a form. First the bytes: variant, extension bits, registers, ModRM and SIB, an
 * immediate, until the decoder says they are the form wanted. Then the state: registers and memory from pools in which
 * the interesting values are frequent, and for every memory operand an address register (or displacement) is solved for
 * so that the access lands where we want it: in the middle, across pages, in a read-only page, nowhere. */
#include "tests/insn/gen.h"

static uint8_t data_image[DATA_LEN];

const uint8_t *gen_data_image(void)
{
    if (!data_image[0]) {
        struct rng g = {1};
        for (size_t i = 0; i < DATA_LEN; i += 8)
            put_le64(data_image + i, rnd(&g));
        data_image[0] = 0x5a;
    }
    return data_image;
}

/* Where the instruction lies: mostly inside the first page, sometimes across the two, up to the end of the second, or
 * reaching into the unmapped page behind. */
static void place_code(struct gen *n)
{
    struct rng *g = n->g;
    struct test_case *tc = n->tc;
    unsigned len = tc->code_len, kind = tc->invalid || n->f->kind == FORM_UD ? 99 : rnd_below(g, 100);
    tc->code_addr = CODE_BASE + 0x40 + rnd_below(g, 0xf00);
    if (kind < 10 && len > 1)
        tc->code_addr = CODE_BASE + PAGE_SIZE - 1 - rnd_below(g, len - 1);
    else if (kind < 14 && tc->steps == 1)
        tc->code_addr = CODE_BASE + CODE_LEN - len;
    else if (kind < 17 && len > 1)
        tc->code_addr = CODE_BASE + CODE_LEN - 1 - rnd_below(g, len - 1);
}

/* How the engine is to meet it. */
static void choose_setting(struct gen *n)
{
    struct test_case *tc = n->tc;
    tc->prelude = rnd_chance(n->g, 70) ? 0 : (uint8_t)(1 + rnd_below(n->g, 3));
    tc->twice = rnd_chance(n->g, 10);
    bool far = tc->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || tc->zi.mnemonic == ZYDIS_MNEMONIC_IRET ||
               tc->zi.mnemonic == ZYDIS_MNEMONIC_IRETD; /* tasks and 64-bit segments make it another instruction */
    tc->legacy = n->f->mode == 32 && !far && rnd_chance(n->g, 30);
}

/* A load of SS holds off the host's single-step trap for one instruction; the bytes behind the case are NOPs. */
static bool loads_ss(const struct test_case *tc)
{
    if (tc->zi.mnemonic != ZYDIS_MNEMONIC_MOV && tc->zi.mnemonic != ZYDIS_MNEMONIC_POP)
        return false;
    return tc->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && tc->op[0].reg.value == ZYDIS_REGISTER_SS;
}

static void narrow_to_32(struct insn_state *s)
{
    for (unsigned i = 0; i < 16; i++)
        s->r[i] &= UINT32_MAX;
}

bool gen_case(const struct form_list *list, const struct form *f, struct rng *g, struct test_case *tc, uint8_t *data)
{
    struct gen n = {.g = g, .f = f, .tc = tc, .data = data};
    memset(tc, 0, sizeof(*tc));
    unsigned attempt = 0;
    if (f->refused) {
        if (!gen_refused(&n))
            return false;
    } else {
        while (!gen_encoding(list, &n, attempt))
            if (++attempt == 400)
                return false;
        if (f->kind == FORM_TEST && rnd_chance(g, 2))
            gen_break_rules(&n);
    }
    tc->steps = loads_ss(tc) ? 2 : 1;
    choose_setting(&n);
    place_code(&n);
    gen_state(&n);
    gen_aim_operands(&n);
    if (!tc->invalid)
        gen_tune(&n);
    if (f->mode == 32)
        narrow_to_32(&tc->in);
    tc->in.rip = tc->code_addr;
    tc->in.vector = -1;
    if (!tc->invalid)
        memset(tc->code + tc->code_len, 0x90, sizeof(tc->code) - tc->code_len);
    return true;
}
