/* tests/insn/gen_state.c: random registers, flags, segments, x87, MMX and vector state. */
#include "tests/insn/gen.h"

static void fill_gprs(struct gen *n)
{
    struct insn_state *s = &n->tc->in;
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = rnd_chance(n->g, 10) ? DATA_BASE + rnd_below(n->g, DATA_LEN) : gen_int(n->g);
    s->r[R_RSP] =
        DATA_BASE + (rnd_chance(n->g, 80) ? 0x400 + 16 * rnd_below(n->g, 0x80) : rnd_below(n->g, 2 * PAGE_SIZE));
}

static void fill_flags(struct gen *n)
{
    struct rng *g = n->g;
    uint64_t fl = FL_IF | 2 | (rnd(g) & FL_ARITH);
    if (rnd_chance(g, 30))
        fl |= FL_DF;
    if (rnd_chance(g, 4))
        fl |= FL_AC;
    if (rnd_chance(g, 3))
        fl |= FL_NT;
    if (rnd_chance(g, 3))
        fl |= FL_ID;
    n->tc->in.rflags = fl;
}

static void fill_segments(struct gen *n)
{
    struct rng *g = n->g;
    struct insn_state *s = &n->tc->in;
    static const uint16_t flat[6] = {SEL_DATA, 0, SEL_DATA, SEL_DATA, SEL_DATA, SEL_DATA};
    memcpy(s->sel, flat, sizeof(s->sel));
    s->sel[S_CS] = n->f->mode == 64 ? SEL_CODE64 : SEL_CODE32;
    uint64_t mask = n->f->mode == 64 ? UINT64_C(0x7fffffffffff) : UINT32_MAX;
    s->fs_base = rnd_chance(g, 50) ? DATA_BASE - 0x4000 : rnd(g) & mask;
    s->gs_base = rnd_chance(g, 50) ? DATA_BASE - 0x8000 : rnd_chance(g, 20) ? 0 : rnd(g) & mask;
    if (rnd_chance(g, 2))
        s->sel[S_ES] = 0;
    if (rnd_chance(g, 1))
        s->sel[S_DS] = 0;
    if (rnd_chance(g, 1)) {
        s->sel[S_FS] = 0;
        s->fs_base = 0;
    }
}

static void fill_vectors(struct gen *n)
{
    struct insn_state *s = &n->tc->in;
    struct rng *g = n->g;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned q = 0; q < 2; q++) {
            put_le64(s->fx + FX_XMM + 16 * i + 8 * q, rnd(g));
            put_le64(s->ymmh[i] + 8 * q, rnd(g));
        }
    const ZydisDecodedOperand *op = n->tc->op;
    const ZydisDecodedOperand *like = NULL; /* registers of no declared type look like the typed operand beside them */
    for (unsigned i = 0; i < n->tc->zi.operand_count; i++)
        if (!like && op[i].element_type >= ZYDIS_ELEMENT_TYPE_FLOAT16 &&
            op[i].element_type <= ZYDIS_ELEMENT_TYPE_FLOAT80)
            like = &op[i];
    for (unsigned i = 0; i < n->tc->zi.operand_count; i++) {
        if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegisterClass c = ZydisRegisterGetClass(op[i].reg.value);
        if (c != ZYDIS_REGCLASS_XMM && c != ZYDIS_REGCLASS_YMM)
            continue;
        unsigned r = (unsigned)ZydisRegisterGetId(op[i].reg.value) & 15;
        uint8_t y[32];
        const ZydisDecodedOperand *t = op[i].element_type >= ZYDIS_ELEMENT_TYPE_FLOAT16 || !like ? &op[i] : like;
        gen_elements(g, y, sizeof(y), t->element_type, t->element_size);
        if (rnd_chance(g, 8))
            memset(y, (int)-(rnd(g) & 1), sizeof(y));
        memcpy(s->fx + FX_XMM + 16 * r, y, 16);
        memcpy(s->ymmh[r], y + 16, 16);
    }
    if (rnd_chance(g, 10)) { /* equal operands */
        unsigned a = rnd_below(g, 16), b = rnd_below(g, 16);
        memcpy(s->fx + FX_XMM + 16 * a, s->fx + FX_XMM + 16 * b, 16);
    }
}

/* x87 control and status as they can be: ES and B follow from flags and masks. */
static void fill_x87(struct gen *n)
{
    struct insn_state *s = &n->tc->in;
    struct rng *g = n->g;
    uint16_t fcw = (uint16_t)(0x37f | (rnd(g) & 0xf00)), fsw = (uint16_t)(rnd(g) & 0x7f00);
    if (rnd_chance(g, 40))
        fcw = (uint16_t)((rnd(g) & 0x1f3f) | 0x40);
    if (rnd_chance(g, 15))
        fsw |= (uint16_t)(rnd(g) & 0x7f);
    if (fsw & ~fcw & 0x3f)
        fsw |= 0x8080;
    put_le16(s->fx + FX_FCW, fcw);
    put_le16(s->fx + FX_FSW, fsw);
    unsigned kind = rnd_below(g, 10);
    s->fx[FX_FTW] = kind < 6 ? 0xff : kind < 7 ? 0 : (uint8_t)rnd(g);
    put_le16(s->fx + FX_FOP, (uint16_t)(rnd(g) & 0x7ff));
    put_le64(s->fx + FX_FIP, CODE_BASE + rnd_below(g, 0x1000));
    put_le64(s->fx + FX_FDP, DATA_BASE + rnd_below(g, 0x1000));
    for (unsigned i = 0; i < 8; i++)
        gen_f80(g, s->fx + FX_ST + 16 * i);
    if (rnd_chance(g, 15))
        memcpy(s->fx + FX_ST, s->fx + FX_ST + 16 * (1 + rnd_below(g, 7)), 10);
}

static void fill_mmx(struct gen *n)
{
    for (unsigned i = 0; i < n->tc->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &n->tc->op[i];
        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_MMX) {
            uint8_t *fx = n->tc->in.fx; /* MMn is a physical register, the image is in stack order */
            unsigned st = ((unsigned)ZydisRegisterGetId(op->reg.value) - (get_le16(fx + FX_FSW) >> 11)) & 7;
            gen_elements(n->g, fx + FX_ST + 16 * st, 8, op->element_type, op->element_size);
        }
    }
}

static void fill_mxcsr(struct gen *n)
{
    struct rng *g = n->g;
    uint32_t m = 0x1f80 | (uint32_t)(rnd(g) & 0x6000);
    if (rnd_chance(g, 40))
        m = (uint32_t)(rnd(g) & 0xffff);
    put_le32(n->tc->in.fx + FX_MXCSR, m);
}

void gen_state(struct gen *n)
{
    fill_gprs(n);
    fill_flags(n);
    fill_segments(n);
    fill_vectors(n);
    fill_x87(n);
    fill_mmx(n);
    fill_mxcsr(n);
}
