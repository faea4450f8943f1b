/* tests/unit/strings.c: repeated string instructions: iterations, ticks and boundaries of one handler call, against a
 * model that does one element at a time. A TLB filled by hand maps four pages; what lies beyond would take the slow
 * path, which a call must never do but for its first iteration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "exec/x86/insn.h"
#include "exec/x86/mmu.h"

enum { BASE = 0x10000, PAGES = 4, LEN = PAGES * PAGE_SIZE, RIP = 0x1000, ENOUGH = 1 << 20 };

static struct cpu cpu;
static struct vcpu vcpu;
static struct tlb_entry tlb[TLB_SIZE];
static uint8_t memory[LEN] __attribute__((aligned(PAGE_SIZE)));

enum op { MOVS, STOS, LODS, CMPS, SCAS };

static uint64_t rnd(void)
{
    static uint64_t s = 0x2545f4914f6cdd1d;
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return s;
}

static int setup(void **state)
{
    (void)state;
    vcpu.exec = &cpu;
    cpu.mode = MODE_LONG64;
    cpu.lin_mask = cpu.stack_mask = UINT64_MAX;
    cpu.dtlb = tlb;
    cpu.until = ENOUGH;
    for (unsigned i = 0; i < ARRAY_LEN(cpu.flat); i++)
        cpu.flat[i] = true;
    for (unsigned i = 0; i < TLB_SIZE; i++)
        tlb[i].tag_r = tlb[i].tag_w = tlb_no_tag(i);
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t lin = BASE + i * PAGE_SIZE;
        struct tlb_entry *e = &tlb[lin >> PAGE_SHIFT & (TLB_SIZE - 1)];
        e->tag_r = e->tag_w = lin;
        e->host = memory + i * PAGE_SIZE;
    }
    return 0;
}

static unsigned decode(enum op op, unsigned size, uint8_t prefix, struct insn *in)
{
    static const uint8_t opcode[] = {[MOVS] = 0xa4, [STOS] = 0xaa, [LODS] = 0xac, [CMPS] = 0xa6, [SCAS] = 0xae};
    uint8_t bytes[4];
    unsigned n = 0;
    if (size == 2)
        bytes[n++] = 0x66;
    if (prefix)
        bytes[n++] = prefix;
    if (size == 8)
        bytes[n++] = 0x48;
    bytes[n++] = (uint8_t)(opcode[op] + (size > 1));
    assert_int_equal(insn_decode(&vcpu, bytes, n, 0, in), n);
    return n;
}

/* As the dispatcher does. */
static void call(const struct insn *in)
{
    cpu.first = cpu.cur = in;
    in->fn(&vcpu, in);
    vcpu.ticks++;
    if (!(in->flags & INSN_ENDS))
        vcpu.s.r[R_RIP] = insn_next(&vcpu, in);
}

static void start(uint64_t rsi, uint64_t rdi, uint64_t rcx, bool down)
{
    memset(&vcpu.s, 0, sizeof(vcpu.s));
    vcpu_set_rflags(&vcpu.s, down ? FL_DF | FL_CF : FL_CF);
    vcpu.s.r[R_RIP] = RIP;
    vcpu.s.r[R_RSI] = rsi;
    vcpu.s.r[R_RDI] = rdi;
    vcpu.s.r[R_RCX] = rcx;
    vcpu.s.r[R_RAX] = 0x1122334455667788;
    vcpu.ticks = 0;
    vcpu.brk = 0;
}

/* Single instructions, `n` of them, with the counter and the end condition done here. */
static uint64_t model(enum op op, unsigned size, uint8_t prefix, uint64_t n)
{
    struct insn one;
    uint64_t done = 0;
    bool ends = false;
    decode(op, size, 0, &one);
    uint16_t before = vcpu.s.aflags;
    while (done < n && vcpu.s.r[R_RCX] && !ends) {
        one.fn(&vcpu, &one);
        vcpu.s.r[R_RCX]--;
        done++;
        bool zf = vcpu_rflags(&vcpu.s) & FL_ZF;
        ends = (op == CMPS || op == SCAS) && zf != (prefix == 0xf3);
    }
    if (vcpu.s.r[R_RCX] && !ends)
        vcpu.s.aflags = before;
    return done;
}

static void compare(enum op op, unsigned size, uint8_t prefix, uint64_t rsi, uint64_t rdi, uint64_t rcx, bool down)
{
    static uint8_t before[LEN], result[LEN];
    struct insn in;
    memcpy(before, memory, LEN);
    start(rsi, rdi, rcx, down);
    unsigned len = decode(op, size, prefix, &in);
    assert_true((in.flags & INSN_ENDS) && (in.flags & INSN_ALONE));
    while (vcpu.s.r[R_RIP] == RIP)
        call(&in);
    assert_int_equal(vcpu.s.r[R_RIP], RIP + len);
    struct vcpu_state got = vcpu.s;
    uint64_t ticks = vcpu.ticks;
    memcpy(result, memory, LEN);

    memcpy(memory, before, LEN);
    start(rsi, rdi, rcx, down);
    uint64_t done = model(op, size, prefix, UINT64_MAX);
    assert_int_equal(ticks, MAX(done, 1));
    assert_memory_equal(got.r, vcpu.s.r, R_RIP * sizeof(got.r[0]));
    assert_int_equal(got.aflags, vcpu.s.aflags);
    assert_memory_equal(result, memory, LEN);
}

static void test_against_single_steps(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 20000; n++) {
        enum op op = (enum op)(rnd() % (SCAS + 1));
        unsigned size = 1u << rnd() % 4;
        uint64_t rcx = rnd() % 8 == 0 ? rnd() % 900 : rnd() % 40;
        uint64_t first = BASE + rcx * 8, room = LEN - 2 * rcx * 8 - 64; /* for both directions */
        uint64_t rsi = first + rnd() % room, rdi = first + rnd() % room;
        if (rnd() % 3 == 0 && rsi >= first + 32)
            rdi = rsi - 32 + rnd() % 64; /* overlapping */
        rsi &= -(uint64_t)size; /* no element crosses a page, which would be the slow path's */
        rdi &= -(uint64_t)size;
        for (unsigned i = 0; i < LEN; i++)
            memory[i] = rnd() % 16 ? 0x88 : (uint8_t)rnd(); /* repetitive, so that comparisons go on for a while */
        compare(op, size, rnd() % 2 ? 0xf2 : 0xf3, rsi, rdi, rcx, rnd() % 4 == 0);
    }
}

/* The overlap that a plain copy would get wrong: a pattern is spread by copying onto itself. */
static void test_overlap_repeats(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        memory[i] = (uint8_t)i;
    start(BASE, BASE + 1, 99, false);
    struct insn in;
    decode(MOVS, 1, 0xf3, &in);
    call(&in);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(memory[i], 0);
}

static void test_count_zero_is_one_tick(void **state)
{
    (void)state;
    struct insn in;
    start(BASE, BASE, 0, false);
    unsigned len = decode(STOS, 8, 0xf3, &in);
    call(&in);
    assert_int_equal(vcpu.ticks, 1);
    assert_int_equal(vcpu.s.r[R_RIP], RIP + len);
    assert_int_equal(vcpu.s.r[R_RDI], BASE);
}

static void test_stops_at_until(void **state)
{
    (void)state;
    struct insn in;
    start(BASE, BASE + PAGE_SIZE, 1000, false);
    unsigned len = decode(MOVS, 1, 0xf3, &in);
    vcpu.ticks = 100;
    cpu.until = 350;
    call(&in);
    assert_int_equal(vcpu.ticks, 350);
    assert_int_equal(vcpu.s.r[R_RCX], 750);
    assert_int_equal(vcpu.s.r[R_RSI], BASE + 250);
    assert_int_equal(vcpu.s.r[R_RIP], RIP);
    cpu.until = ENOUGH;
    call(&in);
    assert_int_equal(vcpu.ticks, 1100);
    assert_int_equal(vcpu.s.r[R_RIP], RIP + len);
}

/* Beyond the mapped pages the slow path would be needed: the call ends at the boundary before. */
static void test_stops_before_the_slow_path(void **state)
{
    (void)state;
    for (unsigned down = 0; down < 2; down++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            struct insn in;
            uint64_t edge = down ? BASE + 20 * size : BASE + LEN - 20 * size;
            start(edge, edge, 1000, down);
            decode(STOS, size, 0xf3, &in);
            call(&in);
            uint64_t done = 1000 - vcpu.s.r[R_RCX];
            assert_int_equal(done, down ? 21 : 20);
            assert_int_equal(vcpu.ticks, done);
            assert_int_equal(vcpu.s.r[R_RIP], RIP);
        }
    }
}

/* A break asked for by an access, a shadow, single-stepping: one iteration a call. */
static void test_single_iterations(void **state)
{
    (void)state;
    for (unsigned why = 0; why < 3; why++) {
        struct insn in;
        start(BASE, BASE + PAGE_SIZE, 10, false);
        decode(LODS, 4, 0xf3, &in);
        if (why == 0)
            vcpu.brk = VCPU_BRK_EVENT;
        else if (why == 1)
            vcpu.s.shadow = SHADOW_STI;
        else
            vcpu.s.rflags |= FL_TF;
        call(&in);
        assert_int_equal(vcpu.ticks, 1);
        assert_int_equal(vcpu.s.r[R_RCX], 9);
        assert_int_equal(vcpu.s.r[R_RIP], RIP);
    }
}

/* SDM vol. 2, REP: an interruption finds the flags from before the instruction. */
static void test_flags_at_inner_boundaries(void **state)
{
    (void)state;
    struct insn in;
    memset(memory, 0, LEN);
    start(BASE, BASE + PAGE_SIZE, 10, false);
    decode(CMPS, 1, 0xf3, &in);
    cpu.until = 4;
    call(&in);
    assert_int_equal(vcpu.s.r[R_RCX], 6);
    assert_int_equal(vcpu_rflags(&vcpu.s) & FL_ARITH, FL_CF);
    cpu.until = ENOUGH;
    call(&in);
    assert_int_equal(vcpu_rflags(&vcpu.s) & FL_ARITH, FL_ZF | FL_PF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_single_steps),
        cmocka_unit_test(test_overlap_repeats),
        cmocka_unit_test(test_count_zero_is_one_tick),
        cmocka_unit_test(test_stops_at_until),
        cmocka_unit_test(test_stops_before_the_slow_path),
        cmocka_unit_test(test_single_iterations),
        cmocka_unit_test(test_flags_at_inner_boundaries),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
