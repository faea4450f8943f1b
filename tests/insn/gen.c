/* tests/insn/gen.c: one random case of a form. First the bytes: variant, extension bits, registers, ModRM and SIB, an
 * immediate, until the decoder says they are the form wanted. Then the state: registers and memory from pools in which
 * the interesting values are frequent, and for every memory operand an address register (or displacement) is solved for
 * so that the access lands where we want it: in the middle, across pages, in a read-only page, nowhere. */
#include "tests/insn/insn_test.h"

struct gen {
    struct rng *g;
    const struct form *f;
    struct test_case *tc;
    uint8_t *data;
    uint64_t fixed;       /* bit per GPR: its value is what an address needs */
};

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

/* ---- values ---- */

static uint64_t rnd_int(struct rng *g)
{
    switch (rnd_below(g, 12)) {
    case 0:
        return rnd_below(g, 3);
    case 1:
        return UINT64_MAX - rnd_below(g, 3);
    case 2:
        return rnd_below(g, 256);
    case 3:
        return (uint64_t)-(int64_t)rnd_below(g, 256);
    case 4:
        return UINT64_C(1) << rnd_below(g, 64);
    case 5:
        return (UINT64_C(1) << rnd_below(g, 64)) - 1;
    case 6: /* the extremes of every width, repeated through the register */
        return UINT64_C(0x8000000080008080) ^ (rnd(g) & 1);
    case 7:
        return UINT64_C(0x7fffffff7fff7f7f);
    case 8:
        return (uint64_t)(int64_t)(int32_t)rnd(g);
    case 9:
        return (uint32_t)rnd(g);
    default:
        return rnd(g);
    }
}

static uint16_t rnd_f16(struct rng *g)
{
    static const uint16_t pool[] = {0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x3c00, 0xbc00, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfe00};
    return rnd_chance(g, 50) ? pool[rnd_below(g, ARRAY_LEN(pool))] : (uint16_t)rnd(g);
}

static uint32_t rnd_f32(struct rng *g)
{
    static const uint32_t pool[] = {
        0,          0x80000000, 1,          0x80000001, 0x7fffff,   0x807fffff, /* zeros, denormals */
        0x800000,   0x80800000, 0x800001,   0x3f800000, 0xbf800000, 0x3f800001, /* least normal, ones */
        0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, /* greatest, infinities, QNaN */
        0x7f800001, 0xffbfffff, 0x4effffff, 0x4f000000, 0xcf000000, 0x4f800000, /* SNaN, edges of int32 */
        0x3f000000, 0x3fc00000, 0x40200000, 0x5f000000, 0xdf000000, 0x4b7fffff,
    };
    if (rnd_chance(g, 45))
        return pool[rnd_below(g, ARRAY_LEN(pool))];
    if (rnd_chance(g, 50)) /* of ordinary size, so that sums and products stay finite */
        return (uint32_t)(rnd(g) & 0x807fffff) | (uint32_t)(120 + rnd_below(g, 16)) << 23;
    return (uint32_t)rnd(g);
}

static uint64_t rnd_f64(struct rng *g)
{
    static const uint64_t pool[] = {
        0, UINT64_C(1) << 63, 1, UINT64_C(0x8000000000000001), UINT64_C(0xfffffffffffff), UINT64_C(0x10000000000000),
        UINT64_C(0x3ff0000000000000), UINT64_C(0xbff0000000000000), UINT64_C(0x3ff0000000000001), UINT64_C(0x7fefffffffffffff),
        UINT64_C(0xffefffffffffffff), UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000), UINT64_C(0x7ff8000000000000),
        UINT64_C(0xfff8000000000000), UINT64_C(0x7ff0000000000001), UINT64_C(0xfff7ffffffffffff), UINT64_C(0x41dfffffffc00000),
        UINT64_C(0x41e0000000000000), UINT64_C(0xc1e0000000000000), UINT64_C(0x43e0000000000000), UINT64_C(0xc3e0000000000000),
        UINT64_C(0x3fe0000000000000), UINT64_C(0x3ff8000000000000), UINT64_C(0x4004000000000000), UINT64_C(0x36a0000000000000),
        UINT64_C(0x380fffffe0000000), UINT64_C(0x47efffffe0000000), UINT64_C(0x47f0000000000000), UINT64_C(0x41efffffffe00000),
    };
    if (rnd_chance(g, 45))
        return pool[rnd_below(g, ARRAY_LEN(pool))];
    if (rnd_chance(g, 50))
        return (rnd(g) & UINT64_C(0x800fffffffffffff)) | (uint64_t)(1010 + rnd_below(g, 30)) << 52;
    return rnd(g);
}

static void rnd_f80(struct rng *g, uint8_t out[10])
{
    static const struct { uint16_t exp; uint64_t man; } pool[] = {
        {0, 0}, {0, 1}, {0, UINT64_C(0x7fffffffffffffff)}, {0, UINT64_C(1) << 63} /* pseudo-denormal */, {1, UINT64_C(1) << 63},
        {0x3fff, UINT64_C(1) << 63}, {0x3ffe, UINT64_C(1) << 63}, {0x3fff, UINT64_C(0xc000000000000000)},
        {0x4000, UINT64_C(0xa000000000000000)}, {0x7ffe, UINT64_MAX}, {0x7fff, UINT64_C(1) << 63} /* infinity */,
        {0x7fff, UINT64_C(0xc000000000000000)} /* indefinite */, {0x7fff, UINT64_C(0x8000000000000001)} /* SNaN */,
        {0x7fff, UINT64_MAX}, {0x7fff, 0} /* pseudo-infinity */, {0x7fff, 1} /* pseudo-NaN */, {0x3fff, 1} /* unnormal */,
        {0x3fff, 0}, {0x401e, UINT64_C(1) << 63} /* 2^31 */, {0x403e, UINT64_C(1) << 63} /* 2^63 */,
        {0x401d, UINT64_C(0xfffffffe00000000)}, {0x403d, UINT64_MAX}, {0x3f80, UINT64_C(1) << 63}, {0x3c00, UINT64_MAX},
        {0x3fbe, UINT64_C(0xc90fdaa22168c235)}, {0x4000, UINT64_C(0xc90fdaa22168c235)} /* pi */, {0x403f, UINT64_C(1) << 63},
    };
    uint16_t exp;
    if (rnd_chance(g, 40)) {
        unsigned i = rnd_below(g, ARRAY_LEN(pool));
        exp = pool[i].exp;
        put_le64(out, pool[i].man);
    } else {
        exp = rnd_chance(g, 60) ? (uint16_t)(0x3fff - 20 + rnd_below(g, 60)) : (uint16_t)rnd(g) & 0x7fff;
        put_le64(out, rnd(g) | (rnd_chance(g, 95) ? UINT64_C(1) << 63 : 0));
    }
    put_le16(out + 8, (uint16_t)(exp | (rnd(g) & 0x8000)));
}

static void rnd_bcd(struct rng *g, uint8_t out[10])
{
    for (unsigned i = 0; i < 10; i++)
        out[i] = rnd_chance(g, 95) ? (uint8_t)(rnd_below(g, 10) << 4 | rnd_below(g, 10)) : (uint8_t)rnd(g);
}

/* Fill `len` bytes with elements as the operand has them. */
static void rnd_elements(struct rng *g, uint8_t *p, size_t len, ZydisElementType type, unsigned bits_each)
{
    if (rnd_chance(g, 15)) {
        type = ZYDIS_ELEMENT_TYPE_INT;
        bits_each = 8u << rnd_below(g, 4);
    }
    size_t step = MAX(bits_each / 8, 1u), i = 0;
    if (type == ZYDIS_ELEMENT_TYPE_INVALID || step > 10)
        step = 8;
    for (; i + step <= len; i += step) {
        uint8_t e[16] = {0};
        if (type == ZYDIS_ELEMENT_TYPE_FLOAT16)
            put_le16(e, rnd_f16(g));
        else if (type == ZYDIS_ELEMENT_TYPE_FLOAT32)
            put_le32(e, rnd_f32(g));
        else if (type == ZYDIS_ELEMENT_TYPE_FLOAT64)
            put_le64(e, rnd_f64(g));
        else if (type == ZYDIS_ELEMENT_TYPE_FLOAT80)
            rnd_f80(g, e);
        else if (type == ZYDIS_ELEMENT_TYPE_LONGBCD)
            rnd_bcd(g, e);
        else
            put_le64(e, rnd_int(g) >> (step < 8 ? rnd_below(g, 2) * (64 - 8 * (unsigned)step) : 0));
        memcpy(p + i, e, step);
    }
    for (; i < len; i++)
        p[i] = (uint8_t)rnd(g);
}

/* A selector that the host's GDT and the guest's answer alike, and what user mode may try. */
static uint16_t rnd_selector(struct rng *g)
{
    static const uint16_t pool[] = {SEL_DATA, SEL_CODE64, SEL_CODE32, 0, 1, 2, 3, 0x28, 0x29, 0x2a, 0x20, 0x30, 0x32,
                                    0x08, 0x0b, 0x10, 0x13, 0x18, 0x1b, 0x40, 0x43, 0x80, 0x83, 0xfff8, 0xfffb, 0x07, 0x0c};
    return rnd_chance(g, 50) ? pool[rnd_below(g, 3)] : pool[rnd_below(g, ARRAY_LEN(pool))];
}

/* ---- bytes ---- */

static unsigned put_modrm(struct gen *n, uint8_t *p)
{
    struct rng *g = n->g;
    const struct form *f = n->f;
    if (f->reg_set && (!f->mem_reg_set || rnd_chance(g, 50))) {
        unsigned m;
        do
            m = rnd_below(g, 64);
        while (!(f->reg_set >> m & 1));
        p[0] = (uint8_t)(0xc0 | m);
        return 1;
    }
    unsigned reg;
    do
        reg = rnd_below(g, 8);
    while (!(f->mem_reg_set >> reg & 1));
    uint8_t mod = (uint8_t)rnd_below(g, 3), rm = f->vsib ? 4 : (uint8_t)rnd_below(g, 8);
    p[0] = (uint8_t)(mod << 6 | reg << 3 | rm);
    if (rm == 4) /* a SIB byte, or a displacement byte of 16-bit addressing */
        p[1] = (uint8_t)rnd(g);
    return rm == 4 ? 2 : 1;
}

static void put_tail(struct rng *g, uint8_t *p, size_t len) /* displacement and immediate */
{
    unsigned kind = rnd_below(g, 6);
    for (size_t i = 0; i < len; i++)
        p[i] = kind == 0 ? 0 : kind == 1 ? 0xff : kind == 2 ? (uint8_t)(i ? 0 : rnd_below(g, 70)) : (uint8_t)rnd(g);
}

static unsigned put_address_prefixes(struct gen *n, uint8_t *p)
{
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e};
    struct rng *g = n->g;
    unsigned len = 0;
    bool addr = rnd_chance(g, 10);
    if (addr)
        p[len++] = 0x67;
    /* 16-bit addresses reach our data only through a segment base */
    if (rnd_chance(g, addr && n->f->mode == 32 ? 80 : 10))
        p[len++] = rnd(g) & 1 ? 0x64 : 0x65;
    else if (rnd_chance(g, 6))
        p[len++] = segments[rnd_below(g, 4)];
    return len;
}

static bool try_encoding(const struct form_list *list, struct gen *n, unsigned attempt)
{
    struct rng *g = n->g;
    const struct form *f = n->f;
    struct test_case *tc = n->tc;
    uint8_t b[40];
    unsigned len = attempt < 24 ? put_address_prefixes(n, b) : 0;
    struct variant v = f->variant[attempt >= 24 || rnd_chance(g, 60) ? 0 : rnd_below(g, f->variant_count)];
    struct reg_ext x = {.short_vex = rnd(g) & 1, .vvvv = attempt & 1 ? 0 : (uint8_t)rnd_below(g, f->mode == 64 ? 16 : 8)};
    if (f->mode == 64 && attempt < 40) {
        x.r = rnd_chance(g, 40);
        x.x = rnd_chance(g, 40);
        x.b = rnd_chance(g, 40);
        x.rex = rnd_chance(g, 25);
    }
    struct opcode_point pt = {f->mode, f->encoding, f->map, f->opcode, f->suffix};
    if (f->opcode_reg)
        pt.opcode |= (uint8_t)rnd_below(g, 8);
    len += form_put_opcode(b + len, &pt, v, x);
    if (f->has_modrm)
        len += put_modrm(n, b + len);
    if (f->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW)
        b[len++] = f->suffix;
    put_tail(g, b + len, sizeof(b) - len);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(form_decoder(f->mode), b, ZYDIS_MAX_INSTRUCTION_LENGTH, &tc->zi, tc->op)) ||
        !form_matches(list, f, &tc->zi, tc->op))
        return false;
    memcpy(tc->code, b, sizeof(tc->code));
    tc->code_len = tc->zi.length;
    return true;
}

static bool redecode(struct gen *n)
{
    struct test_case *tc = n->tc;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(form_decoder(n->f->mode), tc->code, ZYDIS_MAX_INSTRUCTION_LENGTH, &zi, op)))
        return false;
    tc->zi = zi;
    memcpy(tc->op, op, sizeof(op));
    tc->code_len = zi.length;
    return true;
}

static void prepend(struct test_case *tc, const uint8_t *bytes, unsigned len)
{
    memmove(tc->code + len, tc->code, sizeof(tc->code) - len);
    memcpy(tc->code, bytes, len);
    tc->code_len += (uint8_t)len;
}

/* Now and then break the rules of encoding: LOCK where it is not allowed, a legacy prefix before VEX, a VEX.vvvv that
 * names a register in vain, more than 15 bytes. All of them raise #UD or #GP on every CPU. */
static void break_rules(struct gen *n)
{
    static const uint8_t before_vex[] = {0x66, 0xf2, 0xf3, 0xf0, 0x48};
    static const uint8_t lock = 0xf0, padding[] = {0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e,
                                                   0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e};
    struct rng *g = n->g;
    struct test_case *tc = n->tc;
    bool vex = n->f->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    unsigned kind = rnd_below(g, 3);
    if (kind == 0 && tc->code_len > 1)
        prepend(tc, padding, 16 - tc->code_len + rnd_below(g, 2));
    else if (vex && kind == 1)
        prepend(tc, before_vex + rnd_below(g, n->f->mode == 64 ? 5 : 4), 1);
    else if (vex && tc->zi.raw.prefix_count == 0) /* C5 and C4 have it in byte 1 and 2 */
        tc->code[tc->code[0] == 0xc5 ? 1 : 2] ^= (uint8_t)(8u << rnd_below(g, 4));
    else if (!vex && !(tc->zi.attributes & ZYDIS_ATTRIB_HAS_LOCK))
        prepend(tc, &lock, 1);
    tc->invalid = !redecode(n);
}

/* An encoding of the map that the decoder refuses. */
static bool gen_refused(struct gen *n)
{
    struct rng *g = n->g;
    const struct form *f = n->f;
    struct test_case *tc = n->tc;
    for (unsigned attempt = 0; attempt < 20000; attempt++) {
        struct opcode_point pt = {f->mode, f->encoding, f->map, (uint8_t)rnd(g), 0};
        bool hint = f->map == ZYDIS_OPCODE_MAP_0F && (pt.opcode == 0x0d || (pt.opcode & 0xf8) == 0x18);
        if (f->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && hint != (f->opcode != 0))
            continue;
        static const uint8_t prefixes[] = {0, FP_66, FP_F3, FP_F2};
        struct variant v = {.prefixes = prefixes[rnd_below(g, 4)], .w = f->mode == 64 && (rnd(g) & 1)};
        struct reg_ext x = {0};
        bool evex = f->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
        if (f->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
            v.l = (uint8_t)rnd_below(g, evex ? 4 : 2);
            v.evex_b = evex && (rnd(g) & 1);
        } else if (f->map == ZYDIS_OPCODE_MAP_DEFAULT && form_opcode_is_prefix(f->mode, pt.opcode)) {
            continue;
        }
        uint8_t b[40];
        unsigned len = form_put_opcode(b, &pt, v, x);
        b[len] = rnd(g) & 1 || evex ? (uint8_t)(0xc0 | rnd(g)) : (uint8_t)rnd(g);
        put_tail(g, b + len + 1, sizeof(b) - len - 1);
        ZyanStatus st = ZydisDecoderDecodeFull(form_decoder(f->mode), b, ZYDIS_MAX_INSTRUCTION_LENGTH, &tc->zi, tc->op);
        if (ZYAN_SUCCESS(st))
            continue;
        memset(&tc->zi, 0, sizeof(tc->zi));
        memcpy(tc->code, b, sizeof(tc->code));
        tc->code_len = ZYDIS_MAX_INSTRUCTION_LENGTH;
        tc->invalid = true;
        return true;
    }
    return false;
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
    tc->legacy = n->f->mode == 32 && tc->zi.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR && rnd_chance(n->g, 30);
}

/* ---- registers ---- */

static unsigned gpr_index(ZydisRegister r)
{
    return (unsigned)ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static bool is_gpr(ZydisRegister r)
{
    ZydisRegisterClass c = ZydisRegisterGetClass(r);
    return c >= ZYDIS_REGCLASS_GPR8 && c <= ZYDIS_REGCLASS_GPR64;
}

static uint64_t width_mask(unsigned bits_wide) { return bits_wide >= 64 ? UINT64_MAX : (UINT64_C(1) << bits_wide) - 1; }

static uint64_t reg_value(const struct test_case *tc, ZydisRegister r)
{
    if (r == ZYDIS_REGISTER_NONE || !is_gpr(r))
        return 0;
    uint64_t x = tc->in.r[gpr_index(r)];
    return x & width_mask(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static void fill_gprs(struct gen *n)
{
    struct insn_state *s = &n->tc->in;
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = rnd_chance(n->g, 10) ? DATA_BASE + rnd_below(n->g, DATA_LEN) : rnd_int(n->g);
    s->r[R_RSP] = DATA_BASE + (rnd_chance(n->g, 80) ? 0x400 + 16 * rnd_below(n->g, 0x80) : rnd_below(n->g, 2 * PAGE_SIZE));
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
        if (!like && op[i].element_type >= ZYDIS_ELEMENT_TYPE_FLOAT16 && op[i].element_type <= ZYDIS_ELEMENT_TYPE_FLOAT80)
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
        rnd_elements(g, y, sizeof(y), t->element_type, t->element_size);
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
        rnd_f80(g, s->fx + FX_ST + 16 * i);
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
            rnd_elements(n->g, fx + FX_ST + 16 * st, 8, op->element_type, op->element_size);
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

/* ---- memory operands ---- */

/* An address for an access of `size` bytes. */
static uint64_t rnd_target(struct gen *n, unsigned size)
{
    struct rng *g = n->g;
    static const uint8_t rw_pages[3] = {0, 1, 3};
    static const uint8_t edges[] = {1, 1, 1, 1, 2, 2, 3, 4, 0}; /* between pages: RW|RW, RW|RO, RO|RW, RW|none, none|RW */
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
    unsigned i = gpr_index(r);
    uint64_t keep = rnd_chance(n->g, 50) ? 0 : n->tc->in.r[i] & ~width_mask(width);
    n->tc->in.r[i] = (x & width_mask(width)) | keep;
    n->fixed |= UINT64_C(1) << i;
}

/* Choose registers or displacement so that the operand's linear address is `target`. */
static void aim(struct gen *n, const ZydisDecodedOperand *op, uint64_t target)
{
    struct test_case *tc = n->tc;
    unsigned width = tc->zi.address_width;
    ZydisRegister base = op->mem.base, index = op->mem.index;
    uint64_t ea = target - segment_base(n, op->mem.segment), disp = (uint64_t)op->mem.disp.value;
    bool has_index = index != ZYDIS_REGISTER_NONE && is_gpr(index);
    if (base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP) {
        put_disp(n, ea - (tc->code_addr + tc->code_len));
    } else if (base == ZYDIS_REGISTER_NONE && !has_index) {
        put_disp(n, ea);
    } else if (base == ZYDIS_REGISTER_NONE) {
        set_gpr(n, index, (ea - disp) / MAX(op->mem.scale, 1), width);
    } else if (has_index && gpr_index(base) == gpr_index(index) && index != ZYDIS_REGISTER_AL) {
        set_gpr(n, base, (ea - disp) / (1u + MAX(op->mem.scale, 1)), width);
    } else {
        if (has_index && rnd_chance(n->g, 50) && !(n->fixed >> gpr_index(index) & 1) && index != ZYDIS_REGISTER_AL)
            tc->in.r[gpr_index(index)] = rnd_below(n->g, 64);
        uint64_t rest = has_index ? reg_value(tc, index) * MAX(op->mem.scale, 1) : 0;
        set_gpr(n, base, ea - disp - rest, width);
    }
}

static bool is_stack_write(const ZydisDecodedOperand *op)
{
    return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
           gpr_index(op->mem.base) == R_RSP;
}

static void poke(struct gen *n, uint64_t addr, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (addr + i - DATA_BASE < DATA_LEN)
            n->data[addr + i - DATA_BASE] = ((const uint8_t *)bytes)[i];
}

static void fill_memory(struct gen *n, const ZydisDecodedOperand *op, uint64_t addr)
{
    uint8_t b[576];
    size_t len = MIN(MAX(op->size / 8u, 1u), sizeof(b) - 16);
    rnd_elements(n->g, b, len, op->element_type, op->element_size);
    poke(n, addr, b, len);
}

/* Gathers: a base in the data and indices near it, some of them wild. */
static void aim_vsib(struct gen *n, const ZydisDecodedOperand *op)
{
    struct insn_state *s = &n->tc->in;
    struct rng *g = n->g;
    uint64_t at = DATA_BASE + 0x1000 + rnd_below(g, 0x200);
    if (op->mem.base != ZYDIS_REGISTER_NONE)
        set_gpr(n, op->mem.base, at - segment_base(n, op->mem.segment) - (uint64_t)op->mem.disp.value, n->tc->zi.address_width);
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

static void aim_operands(struct gen *n)
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

/* ---- what some instructions need to be tested well ---- */

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
        !(n->fixed >> gpr_index(op[1].reg.value) & 1))
        n->tc->in.r[gpr_index(op[1].reg.value)] = rnd_below(n->g, 0x4000) - (uint64_t)0x2000;
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
        s->r[R_RAX] = s->r[gpr_index(tc->op[0].reg.value)];
    }
}

/* The host's kernel keeps the number of the CPU in the limit of descriptor 15. */
static bool is_host_selector(uint64_t x)
{
    return (x & 0xfffc) == 0x78;
}

/* What POP of a segment register finds. */
static void tune_stack_selector(struct gen *n)
{
    uint64_t at = n->tc->in.r[R_RSP] - DATA_BASE;
    if (at + 2 <= DATA_LEN && is_host_selector(get_le16(n->data + at)))
        n->data[at] = 0;
}

static void tune_selectors(struct gen *n)
{
    struct test_case *tc = n->tc;
    tune_stack_selector(n);
    for (unsigned i = 0; i < 16; i++)
        if (!(n->fixed >> i & 1) && i != R_RSP && (rnd_chance(n->g, 85) || is_host_selector(tc->in.r[i])))
            tc->in.r[i] = (tc->in.r[i] & ~UINT64_C(0xffff)) | rnd_selector(n->g);
    for (unsigned i = 0; i < tc->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &tc->op[i];
        if (op->type == ZYDIS_OPERAND_TYPE_POINTER) { /* ptr16:32 ends with the selector */
            put_le16(tc->code + tc->code_len - 2, rnd_selector(n->g));
        } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && tc->ea_count) {
            unsigned size = op->size / 8, at = size > 2 && size != 8 ? size - 2 : 0;
            uint16_t sel = rnd_selector(n->g);
            poke(n, tc->ea[tc->ea_count - 1] + at, &sel, 2);
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
            poke(n, tc->ea[tc->ea_count > 1 && i ? 1 : 0], &to, op->size / 8);
        else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
                 is_gpr(op->reg.value) && gpr_index(op->reg.value) != R_RSP)
            tc->in.r[gpr_index(op->reg.value)] = to;
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
    uint16_t cs = rnd_chance(g, 40) ? SEL_CODE64 : rnd_chance(g, 50) ? SEL_CODE32 : rnd_selector(g);
    uint64_t flags = (rnd(g) & 0x3f7fd7) | 2;
    if (rnd_chance(g, 97))
        flags &= ~(uint64_t)FL_VM;
    if (at & 7)
        flags &= ~(uint64_t)FL_AC; /* see README.md: the CPU answers #AC with EFLAGS.AC clear, which Linux never ends */
    uint64_t slot[5] = {rnd_branch_target(n), cs | (rnd(g) & ~UINT64_C(0xffff)), flags, rnd_branch_target(n),
                        rnd_chance(g, 70) ? SEL_DATA : rnd_selector(g)};
    for (unsigned i = 0; i < 5; i++)
        poke(n, at + i * w, &slot[i], w);
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
        uint16_t sel = rnd_selector(n->g);
        poke(n, tc->ea[0], &to, size - 2);
        poke(n, tc->ea[0] + size - 2, &sel, 2);
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
        poke(n, at + (mxcsr_only ? 0 : FX_MXCSR), &mxcsr, 4);
    if (mxcsr_only)
        return;
    uint64_t pointers[2] = {rnd(n->g) >> 17, rnd(n->g) >> 17}; /* canonical: see README.md */
    poke(n, at + FX_FIP, pointers, sizeof(pointers));
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

static const struct tuning { ZydisMnemonic mnemonic; void (*tune)(struct gen *n); } tunings[] = {
#define M(name) ZYDIS_MNEMONIC_##name
    {M(LOOP), tune_count}, {M(LOOPE), tune_count}, {M(LOOPNE), tune_count}, {M(JCXZ), tune_count}, {M(JECXZ), tune_count},
    {M(JRCXZ), tune_count},
    {M(DIV), tune_divide}, {M(IDIV), tune_divide},
    {M(BT), tune_bit_offset}, {M(BTS), tune_bit_offset}, {M(BTR), tune_bit_offset}, {M(BTC), tune_bit_offset},
    {M(CMPXCHG), tune_compare_exchange}, {M(CMPXCHG8B), tune_compare_exchange}, {M(CMPXCHG16B), tune_compare_exchange},
    {M(INT), tune_interrupt}, {M(LAR), tune_selectors}, {M(LSL), tune_selectors}, {M(VERR), tune_selectors}, {M(VERW), tune_selectors},
    {M(ARPL), tune_selectors}, {M(LLDT), tune_selectors}, {M(LTR), tune_selectors},
    {M(LDS), tune_far_pointer}, {M(LES), tune_far_pointer}, {M(LFS), tune_far_pointer}, {M(LGS), tune_far_pointer},
    {M(LSS), tune_far_pointer},
    {M(IRET), tune_far_return}, {M(IRETD), tune_far_return}, {M(IRETQ), tune_far_return},
    {M(FXRSTOR), tune_state_image}, {M(FXRSTOR64), tune_state_image}, {M(LDMXCSR), tune_state_image},
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

static void tune(struct gen *n)
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
        while (!try_encoding(list, &n, attempt))
            if (++attempt == 400)
                return false;
        if (f->kind == FORM_TEST && rnd_chance(g, 2))
            break_rules(&n);
    }
    tc->steps = loads_ss(tc) ? 2 : 1;
    choose_setting(&n);
    place_code(&n);
    fill_gprs(&n);
    fill_flags(&n);
    fill_segments(&n);
    fill_vectors(&n);
    fill_x87(&n);
    fill_mmx(&n);
    fill_mxcsr(&n);
    aim_operands(&n);
    if (!f->refused)
        tune(&n);
    if (f->mode == 32)
        narrow_to_32(&tc->in);
    tc->in.rip = tc->code_addr;
    tc->in.vector = -1;
    if (!tc->invalid)
        memset(tc->code + tc->code_len, 0x90, sizeof(tc->code) - tc->code_len);
    return true;
}
