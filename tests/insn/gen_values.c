/* tests/insn/gen_values.c: random values: integers, floating point of all sizes, selectors. */
#include "tests/insn/gen.h"

uint64_t gen_int(struct rng *g)
{
    switch (rnd_below(g, 12)) {
    case 0:
        return rnd_below(g, 3);
    case 1:
        return UINT64_MAX - rnd_below(g, 3);
    case 2:
        return rnd_below(g, 256);
    case 3:
        return 0 - (uint64_t)rnd_below(g, 256);
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
    static const uint16_t pool[] = {0,      0x8000, 1,      0x8001, 0x3ff,  0x400,  0x3c00,
                                    0xbc00, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xfe00};
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
        0,
        UINT64_C(1) << 63,
        1,
        UINT64_C(0x8000000000000001),
        UINT64_C(0xfffffffffffff),
        UINT64_C(0x10000000000000),
        UINT64_C(0x3ff0000000000000),
        UINT64_C(0xbff0000000000000),
        UINT64_C(0x3ff0000000000001),
        UINT64_C(0x7fefffffffffffff),
        UINT64_C(0xffefffffffffffff),
        UINT64_C(0x7ff0000000000000),
        UINT64_C(0xfff0000000000000),
        UINT64_C(0x7ff8000000000000),
        UINT64_C(0xfff8000000000000),
        UINT64_C(0x7ff0000000000001),
        UINT64_C(0xfff7ffffffffffff),
        UINT64_C(0x41dfffffffc00000),
        UINT64_C(0x41e0000000000000),
        UINT64_C(0xc1e0000000000000),
        UINT64_C(0x43e0000000000000),
        UINT64_C(0xc3e0000000000000),
        UINT64_C(0x3fe0000000000000),
        UINT64_C(0x3ff8000000000000),
        UINT64_C(0x4004000000000000),
        UINT64_C(0x36a0000000000000),
        UINT64_C(0x380fffffe0000000),
        UINT64_C(0x47efffffe0000000),
        UINT64_C(0x47f0000000000000),
        UINT64_C(0x41efffffffe00000),
    };
    if (rnd_chance(g, 45))
        return pool[rnd_below(g, ARRAY_LEN(pool))];
    if (rnd_chance(g, 50))
        return (rnd(g) & UINT64_C(0x800fffffffffffff)) | (uint64_t)(1010 + rnd_below(g, 30)) << 52;
    return rnd(g);
}

void gen_f80(struct rng *g, uint8_t out[10])
{
    static const struct {
        uint16_t exp;
        uint64_t man;
    } pool[] = {
        {0, 0},
        {0, 1},
        {0, UINT64_C(0x7fffffffffffffff)},
        {0, UINT64_C(1) << 63} /* pseudo-denormal */,
        {1, UINT64_C(1) << 63},
        {0x3fff, UINT64_C(1) << 63},
        {0x3ffe, UINT64_C(1) << 63},
        {0x3fff, UINT64_C(0xc000000000000000)},
        {0x4000, UINT64_C(0xa000000000000000)},
        {0x7ffe, UINT64_MAX},
        {0x7fff, UINT64_C(1) << 63} /* infinity */,
        {0x7fff, UINT64_C(0xc000000000000000)} /* indefinite */,
        {0x7fff, UINT64_C(0x8000000000000001)} /* SNaN */,
        {0x7fff, UINT64_MAX},
        {0x7fff, 0} /* pseudo-infinity */,
        {0x7fff, 1} /* pseudo-NaN */,
        {0x3fff, 1} /* unnormal */,
        {0x3fff, 0},
        {0x401e, UINT64_C(1) << 63} /* 2^31 */,
        {0x403e, UINT64_C(1) << 63} /* 2^63 */,
        {0x401d, UINT64_C(0xfffffffe00000000)},
        {0x403d, UINT64_MAX},
        {0x3f80, UINT64_C(1) << 63},
        {0x3c00, UINT64_MAX},
        {0x3fbe, UINT64_C(0xc90fdaa22168c235)},
        {0x4000, UINT64_C(0xc90fdaa22168c235)} /* pi */,
        {0x403f, UINT64_C(1) << 63},
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
void gen_elements(struct rng *g, uint8_t *p, size_t len, ZydisElementType type, unsigned bits_each)
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
            gen_f80(g, e);
        else if (type == ZYDIS_ELEMENT_TYPE_LONGBCD)
            rnd_bcd(g, e);
        else
            put_le64(e, gen_int(g) >> (step < 8 ? rnd_below(g, 2) * (64 - 8 * (unsigned)step) : 0));
        memcpy(p + i, e, step);
    }
    for (; i < len; i++)
        p[i] = (uint8_t)rnd(g);
}

/* A selector that the host's GDT and the guest's answer alike, and what user mode may try. */
uint16_t gen_selector(struct rng *g)
{
    static const uint16_t pool[] = {SEL_DATA, SEL_CODE64, SEL_CODE32, 0,    1,    2,      3,      0x28, 0x29,
                                    0x2a,     0x20,       0x30,       0x32, 0x08, 0x0b,   0x10,   0x13, 0x18,
                                    0x1b,     0x40,       0x43,       0x80, 0x83, 0xfff8, 0xfffb, 0x07, 0x0c};
    return rnd_chance(g, 50) ? pool[rnd_below(g, 3)] : pool[rnd_below(g, ARRAY_LEN(pool))];
}
