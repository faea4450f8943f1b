/* tests/insn/gen_bytes.c: random encodings of a form, encodings that break a rule, and encodings that mean nothing. */
#include "tests/insn/gen.h"

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

bool gen_encoding(const struct form_list *list, struct gen *n, unsigned attempt)
{
    struct rng *g = n->g;
    const struct form *f = n->f;
    struct test_case *tc = n->tc;
    uint8_t b[40];
    unsigned len = attempt < 24 ? put_address_prefixes(n, b) : 0;
    struct variant v = f->variant[attempt >= 24 || rnd_chance(g, 60) ? 0 : rnd_below(g, f->variant_count)];
    struct reg_ext x = {.short_vex = rnd(g) & 1,
                        .vvvv = attempt & 1 ? 0 : (uint8_t)rnd_below(g, f->mode == 64 ? 16 : 8)};
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
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(form_decoder(f->mode), b, ZYDIS_MAX_INSTRUCTION_LENGTH, &tc->zi, tc->op)) ||
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
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(form_decoder(n->f->mode), tc->code, ZYDIS_MAX_INSTRUCTION_LENGTH, &zi, op)))
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
void gen_break_rules(struct gen *n)
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
bool gen_refused(struct gen *n)
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
