/* tests/unit/decode.c: insn_decode(): which bytes are which instruction in which mode, and that none upsets it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "exec/x86/insn.h"
#include "tests/unit/decode_rig.h"

enum { RANDOM_CASES = 400000 };

static struct decode_rig rig;

static int setup(void **state)
{
    (void)state;
    return decode_rig_init(&rig) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    decode_rig_deinit(&rig);
    return 0;
}

static unsigned decode(enum cpu_mode mode, const void *bytes, unsigned avail, struct insn *in)
{
    rig.cpu.mode = (uint8_t)mode;
    return insn_decode(rig.vcpu, bytes, avail, 0, in);
}

/* The vector an instruction raises without being one: 6, 13, or -1 when it was lowered. */
static int refused(const struct insn *in)
{
    struct insn ud, too_long;
    static const uint8_t ud2[] = {0x0f, 0x0b}, long_nop[15] = {[0 ... 14] = 0x66};
    enum cpu_mode mode = rig.cpu.mode;
    decode(mode, ud2, sizeof(ud2), &ud);
    decode(mode, long_nop, sizeof(long_nop), &too_long);
    return in->fn == ud.fn ? VEC_UD : in->fn == too_long.fn ? VEC_GP : -1;
}

/* ---- hand-picked encodings ---- */

struct form {
    const char *bytes; /* hexadecimal */
    enum cpu_mode mode;
    int vector;        /* -1: an instruction */
    unsigned len;      /* 0: do not care */
};

static const struct form forms[] = {
    {"90", MODE_LONG64, -1, 1},
    {"0f1fc0", MODE_LONG64, -1, 3},
    /* LOCK needs a lockable row and a memory destination */
    {"f00108", MODE_LONG64, -1, 3},
    {"f001c8", MODE_LONG64, VEC_UD, 0},
    {"f00308", MODE_LONG64, VEC_UD, 0},
    {"f03908", MODE_LONG64, VEC_UD, 0},
    {"f08b08", MODE_LONG64, VEC_UD, 0},
    {"f00fa308", MODE_LONG64, VEC_UD, 0},
    {"f00fab08", MODE_LONG64, -1, 4},
    {"f08708", MODE_LONG64, -1, 3},
    {"f0d120", MODE_LONG64, VEC_UD, 0},
    {"f00f22c0", MODE_PROT32, VEC_UD, 0},
    /* XACQUIRE, XRELEASE and other idle prefixes */
    {"f2f00108", MODE_LONG64, -1, 4},
    {"f3c3", MODE_LONG64, -1, 2},
    {"f2e900000000", MODE_LONG64, -1, 6},
    {"2e7400", MODE_LONG64, -1, 3},
    /* extensions in the space of NOPs, outside the model */
    {"f30f1efa", MODE_LONG64, -1, 4},
    {"f30f1ec8", MODE_LONG64, -1, 4},
    {"0f1ac0", MODE_LONG64, -1, 3},
    {"660f1bc0", MODE_LONG64, -1, 4},
    {"0f1c00", MODE_LONG64, -1, 3},
    {"0f0d08", MODE_LONG64, -1, 3},
    {"0f18f8", MODE_LONG64, -1, 3},
    {"f30faee8", MODE_LONG64, VEC_UD, 0},
    {"660fae38", MODE_LONG64, VEC_UD, 0}, /* CLFLUSHOPT */
    {"660fae30", MODE_LONG64, VEC_UD, 0}, /* CLWB */
    {"660f38f6c0", MODE_LONG64, VEC_UD, 0}, /* ADCX */
    {"0fc7f0", MODE_LONG64, VEC_UD, 0}, /* RDRAND */
    {"0f01d5", MODE_LONG64, VEC_UD, 0}, /* XEND */
    {"c7f800000000", MODE_LONG64, VEC_UD, 0}, /* XBEGIN */
    {"0f0fc09e", MODE_LONG64, VEC_UD, 0}, /* 3DNow! */
    {"8fe97801c0", MODE_LONG64, VEC_UD, 0}, /* XOP */
    {"62f17c4858c0", MODE_LONG64, VEC_UD, 0}, /* EVEX */
    {"0f0b", MODE_LONG64, VEC_UD, 0},
    {"0fb9c0", MODE_LONG64, VEC_UD, 0},
    {"0fffc0", MODE_LONG64, VEC_UD, 0},
    /* undocumented aliases */
    {"d0f0", MODE_LONG64, -1, 2},   /* SAL */
    {"c1f003", MODE_LONG64, -1, 3},
    {"f6c812", MODE_LONG64, -1, 3}, /* TEST */
    {"f7c812345678", MODE_LONG64, -1, 6},
    {"82c001", MODE_PROT32, -1, 3},
    {"82c001", MODE_LONG64, VEC_UD, 0},
    {"d6", MODE_PROT32, -1, 1},
    {"d6", MODE_LONG64, VEC_UD, 0},
    {"660fc8", MODE_LONG64, -1, 3}, /* BSWAP of 16 bits */
    /* removed from 64-bit mode */
    {"27", MODE_LONG64, VEC_UD, 0},
    {"60", MODE_LONG64, VEC_UD, 0},
    {"9a000000000000", MODE_LONG64, VEC_UD, 0},
    {"ea000000000000", MODE_LONG64, VEC_UD, 0},
    {"27", MODE_PROT32, -1, 1},
    {"60", MODE_PROT16, -1, 1},
    {"40", MODE_PROT32, -1, 1},
    /* VEX */
    {"c4e270f2c2", MODE_LONG64, -1, 5}, /* ANDN */
    {"c4e270f2c2", MODE_PROT32, -1, 5},
    {"c4e270f2c2", MODE_PROT16, -1, 5},
    {"c4e270f2c2", MODE_REAL, VEC_UD, 0},
    {"c4e270f2c2", MODE_VM86, VEC_UD, 0},
    {"66c4e270f2c2", MODE_LONG64, VEC_UD, 0},
    {"f3c4e270f2c2", MODE_LONG64, VEC_UD, 0},
    {"f2c4e270f2c2", MODE_LONG64, VEC_UD, 0},
    {"f0c4e270f200", MODE_LONG64, VEC_UD, 0},
    {"48c4e270f2c2", MODE_LONG64, VEC_UD, 0},
    {"64c4e270f200", MODE_LONG64, -1, 6},
    {"c4e274f2c2", MODE_LONG64, VEC_UD, 0}, /* L = 1 */
    {"c5fab8c0", MODE_LONG64, VEC_UD, 0}, /* POPCNT, of Knights Corner only */
    /* operand-size prefix and near branches: ignored in 64-bit mode */
    {"66e900000000", MODE_LONG64, -1, 6},
    {"66e90000", MODE_PROT32, -1, 4},
    {"660f8400000000", MODE_LONG64, -1, 7},
    {"66c3", MODE_LONG64, -1, 2},
    /* length */
    {"66666666666666666666666666666690", MODE_LONG64, VEC_GP, 0},
    {"666666666666666666666666666690", MODE_LONG64, -1, 15},
    {"2e2e2e2e48b80102030405060708", MODE_LONG64, -1, 14},
    {"2e2e2e2e2e2e48b8010203040506070809", MODE_LONG64, VEC_GP, 0},
};

static unsigned from_hex(const char *hex, uint8_t out[16])
{
    unsigned n = 0;
    for (; hex[2 * n] && n < 16; n++) {
        char digits[3] = {hex[2 * n], hex[2 * n + 1], 0};
        out[n] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return n;
}

static void test_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        const struct form *f = &forms[i];
        uint8_t bytes[16];
        struct insn in;
        unsigned n = from_hex(f->bytes, bytes), len = decode(f->mode, bytes, MIN(n, 15u), &in);
        if (len == 0 || refused(&in) != f->vector || (f->len && f->len != len))
            fail_msg("%s in mode %d: length %u, vector %d", f->bytes, f->mode, len, len ? refused(&in) : 0);
        assert_int_equal(in.len, len);
    }
}

/* ---- memory operands ---- */

struct memory_form {
    const char *bytes;
    enum cpu_mode mode;
    uint8_t base, index, scale, seg;
    int64_t disp;
    uint64_t addr_mask;
};

static const struct memory_form memory_forms[] = {
    {"8b00", MODE_LONG64, R_RAX, R_ZERO, 0, S_DS, 0, UINT64_MAX},
    {"8b4508", MODE_LONG64, R_RBP, R_ZERO, 0, S_SS, 8, UINT64_MAX},
    {"418b4508", MODE_LONG64, R_R13, R_ZERO, 0, S_DS, 8, UINT64_MAX},
    {"8b0424", MODE_LONG64, R_RSP, R_ZERO, 0, S_SS, 0, UINT64_MAX},
    {"8b44c8f0", MODE_LONG64, R_RAX, R_RCX, 3, S_DS, -16, UINT64_MAX},
    {"8b0510000000", MODE_LONG64, R_RIP, R_ZERO, 0, S_DS, 16 + 6, UINT64_MAX},
    {"678b0510000000", MODE_LONG64, R_RIP, R_ZERO, 0, S_DS, 16 + 7, UINT32_MAX},
    {"8b0510000000", MODE_PROT32, R_ZERO, R_ZERO, 0, S_DS, 16, UINT32_MAX},
    {"8b042578563412", MODE_LONG64, R_ZERO, R_ZERO, 0, S_DS, 0x12345678, UINT64_MAX},
    {"67438b042d78563412", MODE_LONG64, R_ZERO, R_R13, 0, S_DS, 0x12345678, UINT32_MAX},
    {"8b00", MODE_PROT16, R_RBX, R_RSI, 0, S_DS, 0, 0xffff},
    {"8b4204", MODE_REAL, R_RBP, R_RSI, 0, S_SS, 4, 0xffff},
    {"a134120000", MODE_PROT32, R_ZERO, R_ZERO, 0, S_DS, 0x1234, UINT32_MAX},
    {"48a1f0debc9a78563412", MODE_LONG64, R_ZERO, R_ZERO, 0, S_DS, 0x123456789abcdef0, UINT64_MAX},
    /* overrides: FS and GS always, the others not in 64-bit mode; the last one wins */
    {"648b4508", MODE_LONG64, R_RBP, R_ZERO, 0, S_FS, 8, UINT64_MAX},
    {"64658b00", MODE_LONG64, R_RAX, R_ZERO, 0, S_GS, 0, UINT64_MAX},
    {"642e8b00", MODE_LONG64, R_RAX, R_ZERO, 0, S_FS, 0, UINT64_MAX},
    {"368b00", MODE_LONG64, R_RAX, R_ZERO, 0, S_DS, 0, UINT64_MAX},
    {"3e8b4508", MODE_LONG64, R_RBP, R_ZERO, 0, S_SS, 8, UINT64_MAX},
    {"642e8b00", MODE_PROT32, R_RAX, R_ZERO, 0, S_CS, 0, UINT32_MAX},
    {"268b4508", MODE_PROT32, R_RBP, R_ZERO, 0, S_ES, 8, UINT32_MAX},
};

static void test_memory_operands(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(memory_forms); i++) {
        const struct memory_form *f = &memory_forms[i];
        uint8_t bytes[16];
        struct insn in;
        unsigned n = from_hex(f->bytes, bytes);
        if (decode(f->mode, bytes, n, &in) != n)
            fail_msg("%s: wrong length", f->bytes);
        if (!(in.flags & INSN_MEM) || in.base != f->base || in.index != f->index || in.scale != f->scale ||
            in.seg != f->seg || in.disp != f->disp || in.addr_mask != f->addr_mask)
            fail_msg("%s: base %u index %u scale %u seg %u disp %" PRId64 " mask %" PRIx64, f->bytes, in.base, in.index,
                     in.scale, in.seg, in.disp, in.addr_mask);
    }
}

/* Displacements and branch targets count from the start of the block. */
static void test_block_relative(void **state)
{
    (void)state;
    static const uint8_t load[] = {0x48, 0x8b, 0x05, 0x10, 0, 0, 0}, jump[] = {0xeb, 0xfe};
    struct insn in;
    rig.cpu.mode = MODE_LONG64;
    assert_int_equal(insn_decode(rig.vcpu, load, sizeof(load), 100, &in), 7);
    assert_int_equal(in.off, 100);
    assert_int_equal(in.disp, 0x10 + 107);
    assert_int_equal(insn_decode(rig.vcpu, jump, sizeof(jump), 100, &in), 2);
    assert_int_equal(in.imm, 100);
    assert_true(in.flags & INSN_ENDS);
}

/* ---- every row is reached ---- */

static bool lowered[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* Decode once by the decoder's defaults to learn the mnemonic of what was lowered. */
static void note_lowered(enum cpu_mode mode, const uint8_t *bytes)
{
    struct insn in;
    ZydisDecoder d;
    ZydisDecodedInstruction zi;
    bool long64 = mode == MODE_LONG64;
    if (!decode(mode, bytes, 15, &in) || refused(&in) != -1)
        return;
    assert_non_null(in.fn);
    ZydisDecoderInit(&d, long64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
                     long64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, bytes, 15, &zi)))
        lowered[zi.mnemonic] = true;
}

/* Opcode `op` with all ModRM bytes; head: prefixes and escapes. */
static void all_modrm(enum cpu_mode mode, const uint8_t *head, unsigned head_len, uint8_t op)
{
    for (unsigned modrm = 0; modrm < 256; modrm++) {
        if ((modrm >> 6) == 1 || (modrm >> 6) == 2)
            continue; /* as mod 0, but for the displacement */
        uint8_t bytes[15] = {0};
        memcpy(bytes, head, head_len);
        bytes[head_len] = op;
        bytes[head_len + 1] = (uint8_t)modrm;
        note_lowered(mode, bytes);
    }
}

static void all_opcodes(enum cpu_mode mode, const uint8_t *head, unsigned head_len)
{
    for (unsigned op = 0; op < 256; op++)
        all_modrm(mode, head, head_len, (uint8_t)op);
}

static void test_every_row_is_reached(void **state)
{
    (void)state;
    static const uint8_t mandatory[] = {0x2e, 0x66, 0xf2, 0xf3};
    static const enum cpu_mode modes[] = {MODE_LONG64, MODE_COMPAT32};
    for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
        for (size_t p = 0; p < ARRAY_LEN(mandatory); p++) {
            for (unsigned rex = 0; rex < (modes[m] == MODE_LONG64 ? 2 : 1); rex++) {
                uint8_t head[8] = {mandatory[p], 0x48};
                unsigned n = 1 + rex;
                all_opcodes(modes[m], head, n);
                head[n++] = 0x0f;
                all_opcodes(modes[m], head, n);
                head[n] = 0x38;
                all_opcodes(modes[m], head, n + 1);
                head[n] = 0x3a;
                all_opcodes(modes[m], head, n + 1);
            }
        }
        for (unsigned map = 1; map <= 3; map++) {
            for (unsigned bits = 0; bits < 16; bits++) { /* W, L, pp; vvvv is register 0, then "none" */
                uint8_t head[3] = {0xc4, (uint8_t)(0xe0 | map), (uint8_t)((bits & 8) << 4 | 0x78 | (bits & 7))};
                all_opcodes(modes[m], head, sizeof(head));
                head[2] ^= 8;
                all_opcodes(modes[m], head, sizeof(head));
            }
        }
    }
    note_lowered(MODE_COMPAT32, (const uint8_t[15]){0x66, 0x67, 0xe3}); /* JCXZ */
    note_lowered(MODE_LONG64, (const uint8_t[15]){0x67, 0xe3});         /* JECXZ */
    unsigned missing = 0;
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
        if (insn_table[i].lower && !lowered[i]) {
            print_error("no form of %s is lowered\n", ZydisMnemonicGetString((ZydisMnemonic)i));
            missing++;
        }
        assert_true(!insn_table[i].lower == (insn_table[i].cls == INSN_NONE));
    }
    assert_int_equal(missing, 0);
}

/* ---- random bytes ---- */

static uint64_t rnd(void)
{
    static uint64_t s = 0x9e3779b97f4a7c15;
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s;
}

/* With every number of bytes the answer is the same or "too few"; nothing beyond them is read (the sanitizer looks). */
static void check_prefixes_of(enum cpu_mode mode, const uint8_t bytes[15])
{
    struct insn full, in;
    unsigned len = decode(mode, bytes, 15, &full);
    assert_in_range(len, 1, 15);
    assert_true(full.len == len && full.fn && full.off == 0);
    assert_true(full.base < R_COUNT && full.index < R_COUNT && full.scale < 4 && full.seg < S_COUNT);
    int vector = refused(&full);
    for (unsigned avail = 0; avail < 15; avail++) {
        uint8_t *copy = malloc(avail ? avail : 1);
        assert_non_null(copy);
        memcpy(copy, bytes, avail);
        unsigned got = decode(mode, copy, avail, &in);
        free(copy);
        assert_true(got <= avail);
        if (got && vector == -1) {
            assert_int_equal(got, len);
            assert_ptr_equal(in.fn, full.fn);
        } else if (got) {
            assert_int_equal(refused(&in), vector);
        }
        if (vector == -1 && avail >= len)
            assert_int_equal(got, len);
    }
}

static void test_random_bytes(void **state)
{
    (void)state;
    static const uint8_t starts[] = {0x0f, 0x66, 0xf2, 0xf3, 0xf0, 0xc4, 0xc5, 0x48, 0x62, 0x67, 0x64, 0x8f};
    for (unsigned n = 0; n < RANDOM_CASES; n++) {
        uint8_t bytes[15];
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)(rnd() >> 24);
        for (size_t i = 0; i < rnd() % 4; i++)
            bytes[i] = starts[rnd() % sizeof(starts)];
        struct insn in;
        enum cpu_mode mode = (enum cpu_mode)(rnd() % (MODE_LONG64 + 1));
        if (n % 16 == 0)
            check_prefixes_of(mode, bytes);
        else
            assert_in_range(decode(mode, bytes, sizeof(bytes), &in), 1, 15);
    }
}

/* ---- what a refused instruction does ---- */

static void expect_raise(const char *hex, unsigned vector)
{
    uint8_t bytes[16];
    struct insn in;
    unsigned n = from_hex(hex, bytes);
    assert_int_not_equal(decode(MODE_LONG64, bytes, MIN(n, 15u), &in), 0);
    assert_true(in.flags & INSN_ENDS);
    struct vcpu_state before = rig.vcpu->s;
    rig.cpu.cur = rig.cpu.first = &in;
    if (setjmp(rig.cpu.unwind) == 0) {
        in.fn(rig.vcpu, &in);
        fail_msg("%s did not raise", hex);
    }
    assert_int_equal(rig.cpu.fault.vector, vector);
    assert_memory_equal(&before, &rig.vcpu->s, sizeof(before));
}

static void test_refused_raise(void **state)
{
    (void)state;
    expect_raise("0f0b", VEC_UD);
    expect_raise("f001c8", VEC_UD);
    expect_raise("66666666666666666666666666666690", VEC_GP);
}

/* ---- registers ---- */

static void test_gpr_offsets(void **state)
{
    (void)state;
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_AL), 0);
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_AH), 1);
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_BH), 8 * R_RBX + 1);
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_SPL), 8 * R_RSP);
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_R15B), 8 * R_R15);
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_DI), 8 * R_RDI);
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_R8D), 8 * R_R8);
    assert_int_equal(insn_gpr_offset(ZYDIS_REGISTER_RSP), 8 * R_RSP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_memory_operands),
        cmocka_unit_test(test_block_relative),
        cmocka_unit_test(test_every_row_is_reached),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_refused_raise),
        cmocka_unit_test(test_gpr_offsets),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
