/* tests/unit/dbt_decode.c: what the translator's decode cache says of an instruction is what the decoder says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "exec/dbt/decode.h"
#include "tests/unit/decode_rig.h"

enum { RANDOM_CASES = 300000, VALUES = 4, WINDOW = 16, UNCACHED = INSN_BYTES_MAX };

static struct decode_rig rig;
static struct decode_cache *cache;

static int setup(void **state)
{
    (void)state;
    return decode_rig_init(&rig) && !decode_cache_create(rig.vcpu, true, &cache) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    decode_cache_destroy(cache);
    decode_rig_deinit(&rig);
    return 0;
}

static bool same_operand(const struct operand *a, const struct operand *b)
{
    return a->type == b->type && a->encoding == b->encoding && a->actions == b->actions && a->cls == b->cls &&
           a->reg == b->reg && a->index == b->index && a->mem_type == b->mem_type && a->scale == b->scale &&
           a->high_byte == b->high_byte && a->size == b->size;
}

static bool same(const struct decoded *a, const struct decoded *b)
{
    bool equal = a->valid == b->valid && a->len == b->len && a->flags == b->flags && a->seg == b->seg &&
                 a->mnemonic == b->mnemonic && a->operand_width == b->operand_width &&
                 a->address_width == b->address_width && a->operands == b->operands && a->mem == b->mem &&
                 a->imm_len == b->imm_len && a->relative == b->relative && a->far == b->far &&
                 a->whole_avx == b->whole_avx && a->writes == b->writes && a->flags_read == b->flags_read &&
                 a->flags_written == b->flags_written && a->imm == b->imm && a->disp == b->disp && a->info == b->info &&
                 !memcmp(&a->enc, &b->enc, sizeof(a->enc));
    for (unsigned i = 0; i < ARRAY_LEN(a->op); i++)
        equal &= same_operand(&a->op[i], &b->op[i]);
    return equal;
}

/* Twice: the first time may make the entry, the second finds it. Returns the instruction's length. */
static unsigned compare(enum cpu_mode mode, const uint8_t bytes[WINDOW])
{
    struct decoded expected = {0}, d = {0};
    rig.cpu.mode = (uint8_t)mode;
    bool complete = decode_cached(cache, bytes, UNCACHED, &expected);
    for (unsigned i = 0; i < 2; i++) {
        bool same_here = decode_cached(cache, bytes, WINDOW, &d) == complete && (!complete || same(&expected, &d));
        if (!same_here) {
            for (unsigned b = 0; b < WINDOW; b++)
                fprintf(stderr, "%02x", bytes[b]);
            fail_msg(" in mode %d is decoded in another way from the cache", mode);
        }
    }
    return expected.len;
}

static uint64_t random_next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return *seed >> 32;
}

static void randomise(uint8_t *p, size_t len, uint64_t *seed)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)random_next(seed);
}

static const enum cpu_mode modes[] = {MODE_LONG64, MODE_COMPAT32, MODE_PROT32, MODE_PROT16, MODE_REAL};

/* All opcodes of a map, with all ModRM bytes, and several values of what comes behind. */
static void compare_map(enum cpu_mode mode, const uint8_t *head, unsigned head_len, uint64_t *seed)
{
    for (unsigned op = 0; op < 256; op++)
        for (unsigned modrm = 0; modrm < 256; modrm++)
            for (unsigned i = 0; i < VALUES; i++) {
                uint8_t bytes[WINDOW];
                randomise(bytes, sizeof(bytes), seed);
                memcpy(bytes, head, head_len);
                bytes[head_len] = (uint8_t)op;
                bytes[head_len + 1] = (uint8_t)modrm;
                bytes[head_len + 2] = (uint8_t)(bytes[head_len + 2] & 0x3f); /* few SIB bytes, so that forms recur */
                compare(mode, bytes);
            }
}

static void test_all_forms(void **state)
{
    (void)state;
    static const struct { uint8_t len, bytes[4]; } heads[] = {
        {0, {0}},          {1, {0x66}},       {1, {0x48}},       {2, {0x66, 0x41}},   {1, {0x67}},
        {1, {0x0f}},       {2, {0x66, 0x0f}}, {2, {0xf3, 0x0f}}, {2, {0x48, 0x0f}},   {2, {0x0f, 0x38}},
        {2, {0x0f, 0x3a}}, {2, {0xc5, 0xf9}}, {2, {0xc5, 0xfc}}, {3, {0xc4, 0xe2, 0x79}}, {3, {0xc4, 0xe3, 0x7d}},
        {3, {0x66, 0x0f, 0x38}}, {3, {0x66, 0x0f, 0x3a}}, {2, {0xf0, 0x48}},
    };
    uint64_t seed = 1;
    for (size_t m = 0; m < 2; m++)
        for (size_t h = 0; h < ARRAY_LEN(heads); h++)
            compare_map(modes[m], heads[h].bytes, heads[h].len, &seed);
}

static void test_random_bytes(void **state)
{
    (void)state;
    static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x64, 0x65, 0x40, 0x41, 0x48, 0x4f, 0x0f, 0x0f};
    uint64_t seed = 2;
    for (unsigned i = 0; i < RANDOM_CASES; i++) {
        uint8_t bytes[WINDOW];
        randomise(bytes, sizeof(bytes), &seed);
        for (unsigned n = (unsigned)random_next(&seed) % 9; n-- > 0; )
            bytes[n] = prefixes[random_next(&seed) % ARRAY_LEN(prefixes)];
        compare(modes[random_next(&seed) % ARRAY_LEN(modes)], bytes);
    }
}

/* Other values in a known form are read, not remembered. */
static void test_values(void **state)
{
    (void)state;
    struct decoded d;
    uint8_t store[WINDOW] = {0x48, 0xc7, 0x85, 0x78, 0x56, 0x34, 0x92, 0xfe, 0xff, 0xff, 0xff}; /* mov qword [rbp+disp], imm */
    uint8_t shift[WINDOW] = {0x48, 0xc1, 0xe0, 5};
    rig.cpu.mode = MODE_LONG64;
    assert_true(decode_cached(cache, store, WINDOW, &d));
    uint64_t misses = decode_cache_misses(cache);
    assert_true(decode_cached(cache, store, WINDOW, &d));
    assert_int_equal(d.disp, (int32_t)0x92345678);
    assert_int_equal(d.imm, -2);
    store[3] = 0x70;
    store[7] = 3;
    assert_true(decode_cached(cache, store, WINDOW, &d));
    assert_int_equal(d.disp, (int32_t)0x92345670);
    assert_int_equal(d.imm, (int32_t)0xffffff03);
    assert_int_equal(decode_cache_misses(cache), misses);
    assert_int_equal(compare(MODE_LONG64, shift), 4);
    assert_true(decode_cached(cache, shift, WINDOW, &d));
    assert_int_equal(d.flags_read, 0);
    shift[3] = 0xc0; /* a count of 0 leaves the flags as they are */
    compare(MODE_LONG64, shift);
    assert_true(decode_cached(cache, shift, WINDOW, &d));
    assert_int_equal(d.flags_read, FL_ARITH);
}

/* What may cross into another page is not looked for. */
static void test_page_end(void **state)
{
    (void)state;
    struct decoded d;
    const uint8_t load[WINDOW] = {0x48, 0x8b, 0x05, 1, 2, 3, 4};
    rig.cpu.mode = MODE_LONG64;
    assert_true(decode_cached(cache, load, WINDOW, &d));
    for (unsigned n = 0; n < 7; n++)
        assert_false(decode_cached(cache, load, n, &d));
    assert_true(decode_cached(cache, load, 7, &d));
    assert_int_equal(d.len, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_page_end),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_all_forms),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
