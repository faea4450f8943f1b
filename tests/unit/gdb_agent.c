/* tests/unit/gdb_agent.c: agent expressions: each opcode, the bounds, and bytecode that gdb 13 sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "gdb/agent.h"

static bool read_reg(void *arg, unsigned number, uint64_t *out)
{
    (void)arg;
    *out = UINT64_C(0x1122334455667700) + number;
    return number < 8;
}

static bool read_memory(void *arg, uint64_t addr, void *buf, size_t len)
{
    (void)arg;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)buf)[i] = (uint8_t)(addr + i);
    return addr < 0x1000;
}

static const struct agent_reader reader = {read_reg, read_memory};

/* hex text, spaces allowed */
static size_t parse(const char *hex, uint8_t *out)
{
    size_t n = 0;
    for (; *hex; hex++) {
        if (*hex == ' ')
            continue;
        unsigned v;
        assert_int_equal(sscanf(hex, "%2x", &v), 1);
        out[n++] = (uint8_t)v;
        hex++;
    }
    return n;
}

static void gives(const char *hex, uint64_t want)
{
    uint8_t code[64];
    uint64_t v = 0;
    const char *why = "";
    size_t len = parse(hex, code);
    if (!agent_eval(code, len, &reader, NULL, &v, &why))
        fail_msg("%s: %s", hex, why);
    if (v != want)
        fail_msg("%s: %#" PRIx64 ", not %#" PRIx64, hex, v, want);
}

static void fails(const char *hex, const char *want)
{
    uint8_t code[64];
    uint64_t v = 0;
    const char *why = "";
    size_t len = parse(hex, code);
    assert_false(agent_eval(code, len, &reader, NULL, &v, &why));
    assert_string_equal(why, want);
}

static void test_arithmetic(void **state)
{
    (void)state;
    gives("22 05 22 03 02 27", 8);
    gives("22 05 22 07 03 27", UINT64_MAX - 1);
    gives("22 05 22 07 04 27", 35);
    gives("22 00 22 07 03 22 02 05 27", UINT64_MAX - 2); /* -7 / 2 = -3 */
    gives("22 00 22 07 03 22 02 07 27", UINT64_MAX);     /* -7 % 2 = -1 */
    gives("22 00 22 07 03 22 02 06 27", (UINT64_MAX - 6) / 2);
    gives("22 07 22 04 08 27", 3);
    gives("25 8000000000000000 25 ffffffffffffffff 05 27", UINT64_C(1) << 63); /* wraps, does not trap */
    gives("25 8000000000000000 25 ffffffffffffffff 07 27", 0);
    fails("22 07 22 00 05 27", "division by zero");
    fails("22 07 22 00 06 27", "division by zero");
    fails("22 07 22 00 07 27", "division by zero");
    fails("22 07 22 00 08 27", "division by zero");
}

static void test_bits(void **state)
{
    (void)state;
    gives("22 03 22 04 09 27", 0x30);
    gives("22 03 22 40 09 27", 0);
    gives("25 8000000000000000 22 3f 0a 27", UINT64_MAX);
    gives("25 8000000000000000 22 ff 0a 27", UINT64_MAX);
    gives("25 4000000000000000 22 3e 0a 27", 1);
    gives("22 11 22 00 0a 27", 0x11);
    gives("25 8000000000000000 22 3f 0b 27", 1);
    gives("22 01 22 40 0b 27", 0);
    gives("22 00 0e 27", 1);
    gives("22 09 0e 27", 0);
    gives("22 0c 22 0a 0f 27", 8);
    gives("22 0c 22 0a 10 27", 14);
    gives("22 0c 22 0a 11 27", 6);
    gives("22 00 12 27", UINT64_MAX);
    gives("22 80 16 08 27", UINT64_MAX - 127);
    gives("22 7f 16 08 27", 0x7f);
    gives("25 8000000000000001 16 40 27", UINT64_C(0x8000000000000001));
    fails("22 01 16 00 27", "sign extension from a width that is none");
    gives("23 ffff 2a 0c 27", 0xfff);
    gives("23 ffff 2a 40 27", 0xffff);
    gives("23 ffff 2a 00 27", 0);
}

static void test_compare(void **state)
{
    (void)state;
    gives("22 05 22 05 13 27", 1);
    gives("22 05 22 06 13 27", 0);
    gives("25 ffffffffffffffff 22 01 14 27", 1);
    gives("25 ffffffffffffffff 22 01 15 27", 0);
    gives("22 01 25 ffffffffffffffff 15 27", 1);
}

static void test_stack(void **state)
{
    (void)state;
    gives("22 05 28 02 27", 10);
    gives("22 05 22 06 29 27", 5);
    gives("22 05 22 06 2b 03 27", 1);
    gives("22 01 22 02 22 03 33 27", 2); /* 1 2 3 => 3 1 2 */
    gives("22 01 22 02 22 03 33 29 27", 1);
    gives("22 01 22 02 22 03 33 29 29 27", 3);
    gives("22 01 22 02 22 03 32 02 27", 1);
    gives("22 01 22 02 22 03 32 00 27", 3);
    fails("22 01 32 01 27", "the stack is too shallow");
    fails("02 27", "the stack is too shallow");
    fails("22 01 02 27", "the stack is too shallow");
    fails("22 01 33 27", "the stack is too shallow");
    fails("27", "it leaves no value");
    fails("28 21 0000 27", "the stack is too shallow");
    fails("22 01 28 21 0002 27", "the stack is full");
}

static void test_flow(void **state)
{
    (void)state;
    gives("22 01 20 0009 22 05 27 00 22 06 27", 6);
    gives("22 00 20 0009 22 05 27 00 22 06 27", 5);
    gives("21 0004 00 22 07 27", 7);
    fails("21 0000 27", "it does not end");
    fails("21 00ff 27", "a jump out of the expression");
    fails("22 01 20 0006 27", "a jump out of the expression");
    fails("22 01", "it runs past its last instruction");
    fails("", "it runs past its last instruction");
    fails("25 00 00", "it ends inside an instruction");
    fails("22", "it ends inside an instruction");
    fails("ff 27", "an unknown opcode");
    fails("31 27", "an unknown opcode");
    fails("00 27", "an unknown opcode");
}

static void test_state(void **state)
{
    (void)state;
    gives("26 0003 27", UINT64_C(0x1122334455667703));
    fails("26 0103 27", "a register that there is not");
    gives("22 10 17 27", 0x10);
    gives("22 10 18 27", 0x1110);
    gives("22 10 19 27", 0x13121110);
    gives("22 10 1a 27", UINT64_C(0x1716151413121110));
    fails("23 ffff 17 27", "memory that is not mapped");
    fails("22 10 1d 27", "floating point (ref_long_double)");
    fails("22 10 22 01 0c 27", "a trace buffer (trace)");
    fails("2c 0001 27", "a trace variable (getv)");
    fails("34 01 0000 27", "printing (printf)");
}

/* `break leaf if x == 100`, x at -20(%rbp): reg 6, + -20, as int, == 100. */
static void test_from_gdb(void **state)
{
    (void)state;
    uint8_t code[] = {0x26, 0, 6, 0x22, 0xec, 0x16, 8, 2, 0x19, 0x16, 0x20, 0x22, 0x64, 0x13, 0x27};
    uint64_t v = 7;
    const char *why = "";
    assert_false(agent_eval(code, sizeof(code), &reader, NULL, &v, &why));
    assert_string_equal(why, "memory that is not mapped"); /* the register is far above 0x1000 */
    code[0] = 0x23; /* a constant for the frame: 0x0020 - 20 = 12; memory there is 0x0f0e0d0c */
    code[2] = 0x20;
    code[12] = 0x0c;
    assert_true(agent_eval(code, sizeof(code), &reader, NULL, &v, &why));
    assert_int_equal(v, 0);
}

/* Every one- and two-byte program, and each opcode after two values: it ends, and says why or gives a value. */
static void test_all_short_programs(void **state)
{
    (void)state;
    unsigned good = 0;
    for (unsigned i = 0; i < 0x10000; i++) {
        uint8_t code[] = {0x22, 3, 0x22, 5, (uint8_t)(i >> 8), (uint8_t)i, 0x27, 0x27, 0x27};
        uint64_t v;
        const char *why = NULL;
        bool ok = agent_eval(code, sizeof(code), &reader, NULL, &v, &why);
        good += ok;
        assert_true(ok || why);
        ok = agent_eval(code + 4, 2, &reader, NULL, &v, &why);
        assert_true(ok || why);
    }
    assert_true(good > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic), cmocka_unit_test(test_bits), cmocka_unit_test(test_compare),
        cmocka_unit_test(test_stack), cmocka_unit_test(test_flow), cmocka_unit_test(test_state),
        cmocka_unit_test(test_from_gdb), cmocka_unit_test(test_all_short_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
