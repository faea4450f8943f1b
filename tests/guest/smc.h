/* tests/guest/smc.h: code that changes, the part that 64-bit and 32-bit guests share; included by smc64.c and smc32.c.
 *
 * A change takes effect at the next instruction boundary, wherever the changed bytes lie: that is exec/x86/mmu.h's rule
 * (1) and, for stores to the address that is executed, also the architecture's (SDM vol. 3, 12.6). Every test loops often
 * enough to run translated, and computes what must come out. */
#ifndef GUEST_SMC_H
#define GUEST_SMC_H

#include "rt.h"

enum { ROUNDS = 1500, PAGE = 4096 };

static uint8_t area[4 * PAGE] __attribute__((aligned(PAGE)));

static inline uint32_t call_code(const void *code, uint32_t a, uint32_t c)
{
    __asm__ volatile("call *%1" : "+a"(a) : "r"(code), "c"(c) : "memory", "cc");
    return a;
}

static void copy(void *to, const void *from, unsigned long n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void put32(uint8_t *p, uint32_t x) { *(volatile uint32_t *)(void *)p = x; }

/* mov $x, %eax; ret */
static void put_constant(uint8_t *p, uint32_t x)
{
    p[0] = 0xb8;
    put32(p + 1, x);
    p[5] = 0xc3;
}

/* ---- a block that changes itself ---- */

static void patch_next(void)
{
    uint32_t sum = 0, n = ROUNDS, expect = 0;
    for (uint32_t i = 1; i <= ROUNDS; i++)
        expect += i & 0xff;
    __asm__ volatile("2: movb %%cl, 1f+1\n"
                     "1: mov $0, %%eax\n"
                     "add %%eax, %%edx\n"
                     "dec %%ecx\n"
                     "jnz 2b" : "+d"(sum), "+c"(n) : : "eax", "memory", "cc");
    CHECK(sum == expect);
}

static void patch_behind_and_ahead(void)
{
    uint32_t sum = 0, n = ROUNDS, expect = 0, behind = 0, flip = 0;
    for (uint32_t i = ROUNDS; i; i--) {
        expect += behind;
        behind = i;
        expect ^= i;
        flip = !flip;
        expect += flip ? -1u : 1;
    }
    __asm__ volatile("movl $0, 1f+1\n"
                     "movb $0xc2, 4f+1\n"
                     "2:\n"
                     "1: mov $0x11111111, %%eax\n"
                     "add %%eax, %%edx\n"
                     "movl %%ecx, 1b+1\n"
                     "movl %%ecx, 3f+1\n"
                     "lea 1(%%eax), %%ebx\n"
                     "xorb $8, 4f+1\n"               /* INC and DEC in turn */
                     "3: mov $0x22222222, %%eax\n"
                     "xor %%eax, %%edx\n"
                     "4: .byte 0xff, 0xc2\n"         /* inc %edx */
                     "dec %%ecx\n"
                     "jnz 2b" : "+d"(sum), "+c"(n) : : "eax", "ebx", "memory", "cc");
    CHECK(sum == expect);
}

/* What follows REP STOSB is overwritten with NOPs; how much of it, changes. */
static void string_ahead(void)
{
    enum { INCS = 40 };
    uint8_t fresh[2 * INCS], *code = area + PAGE - 33; /* across two pages */
    for (unsigned i = 0; i < INCS; i++) {
        fresh[2 * i] = 0xff;
        fresh[2 * i + 1] = 0xc2; /* inc %edx */
    }
    code[0] = 0xf3;
    code[1] = 0xaa; /* rep stosb */
    code[2 + sizeof(fresh)] = 0xc3;
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned gone = i % (INCS + 1);
        copy(code + 2, fresh, sizeof(fresh));
        uint32_t d = i;
        void *at = code + 2;
        unsigned long n = 2 * gone;
        __asm__ volatile("call *%3" : "+d"(d), "+D"(at), "+c"(n) : "r"(code), "a"(0x90) : "memory", "cc");
        CHECK(d == i + INCS - gone && n == 0);
    }
}

/* REP STOSB over itself: what is left of it, is what goes on. Other CPUs finish it first. */
static void string_itself(void)
{
    static const uint8_t code[] = {0xf3, 0xaa, 0x90, 0x90, 0xc3};
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t *to = area + 100 + i % 64;
        copy(to, code, sizeof(code));
        void *at = to;
        unsigned long n = 4;
        __asm__ volatile("call *%2" : "+D"(at), "+c"(n) : "r"(to), "a"(0x90) : "memory", "cc");
        /* The first iteration leaves NOP; STOSB. */
        CHECK(!on_hyperwind || (n == 3 && at == to + 2 && to[0] == 0x90 && to[1] == 0x90));
    }
}

/* ---- code that others reach ---- */

static void patched_function(void)
{
    uint8_t *f = area + 64, *g = area + 2 * PAGE + 64;
    for (unsigned k = 0; k < 2; k++) { /* in one page, and in two */
        uint32_t sum = 0, expect = 0;
        put_constant(f, 0);
        for (uint32_t i = 0; i < ROUNDS; i++) {
            put32(f + 1, i * 3);
            sum += call_code(f, 0, 0);
            f[1] ^= 1; /* as it was just called */
            sum += call_code(f, 0, 0);
            expect += i * 3 + ((i * 3) ^ 1);
        }
        CHECK(sum == expect);
        f = g;
    }
    put_constant(area, 0);
    uint32_t sum = 0, n = ROUNDS;
    /* Direct calls, which are linked; a jump through a register; a return; a conditional jump. */
    __asm__ volatile("2: mov %%ecx, 6f+1\n"
                     "call 6f\n"
                     "add %%eax, %%edx\n"
                     "lea 1(%%ecx), %%eax\n"
                     "mov %%eax, 6f+1\n"
                     "call 6f\n"
                     "add %%eax, %%edx\n"
                     "mov %%ecx, 3f+1\n"
                     "mov $3f, %%eax\n"
#ifdef __x86_64__
                     "jmp *%%rax\n"
#else
                     "jmp *%%eax\n"
#endif
                     "3: mov $0x33333333, %%eax\n"
                     "add %%eax, %%edx\n"
                     "call 7f\n"
                     "4: mov $0x44444444, %%eax\n"
                     "add %%eax, %%edx\n"
                     "mov %%ecx, 5f+1\n"
                     "test %%ecx, %%ecx\n"
                     "jnz 5f\n"
                     "ud2\n"
                     "5: mov $0x55555555, %%eax\n"
                     "add %%eax, %%edx\n"
                     "dec %%ecx\n"
                     "jnz 2b\n"
                     "jmp 8f\n"
                     "6: mov $0x66666666, %%eax\n"
                     "ret\n"
                     "7: mov %%ecx, 4b+1\n" /* where it returns to */
                     "ret\n"
                     "8:" : "+d"(sum), "+c"(n) : : "eax", "memory", "cc");
    uint32_t expect = 0;
    for (uint32_t i = ROUNDS; i; i--)
        expect += 5 * i + 1;
    CHECK(sum == expect);
}

/* The target of a call changes: the instruction that a link belongs to. */
static void patched_call(void)
{
    static const uint8_t entry[] = {0xe8, 0, 0, 0, 0, 0x01, 0xc8, 0xc3}; /* call ...; add %ecx, %eax; ret */
    uint8_t *caller = area + 32, *f = area + PAGE - 2, *g = area + 3 * PAGE; /* f in two pages, g in another */
    copy(caller, entry, sizeof(entry));
    put_constant(f, 1000);
    put_constant(g, 2000);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint8_t *to = i % 3 ? f : g;
        put32(caller + 1, (uint32_t)(to - (caller + 5)));
        CHECK(call_code(caller, 0, i) == i + (i % 3 ? 1000 : 2000));
        if (i % 7 == 0)
            put32(f + 1, 1000); /* the same again */
    }
}

/* ---- code copied over code that ran; stores across pages ---- */

static void copied_over(void)
{
    enum { ADDS = 21 };
    uint8_t code[2][3 * ADDS + 1], *to = area + PAGE - 31;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint8_t *c = code[i & 1], imm = i & 0x7f;
        for (unsigned k = 0; k < ADDS; k++) {
            c[3 * k] = 0x83; /* add $imm8, %eax */
            c[3 * k + 1] = 0xc0;
            c[3 * k + 2] = imm;
        }
        c[3 * ADDS] = 0xc3;
        unsigned part = i % 5 == 0 ? 3 * (i % ADDS) : sizeof(code[0]); /* or only the first few */
        uint32_t before = call_code(to, 0, 0) * (i > 0);
        copy(to, c, part);
        if (part == sizeof(code[0]))
            CHECK(call_code(to, i, 0) == i + ADDS * (uint32_t)imm);
        else if (i > 0)
            CHECK(call_code(to, i, 0) == i + before / ADDS * (ADDS - part / 3) + imm * (part / 3));
        copy(to, c, sizeof(code[0]));
    }
}

static void crossing_stores(void)
{
    for (unsigned split = 1; split < 4; split++) {
        uint8_t *code = area + 2 * PAGE - split - 1; /* the constant's last 4 - split bytes lie in the next page */
        put_constant(code, 0);
        for (uint32_t i = 0; i < ROUNDS / 3; i++) {
            uint32_t x = i * 0x01030507u;
            put32(code + 1, x);
            CHECK(call_code(code, 0, 0) == x);
            code[4]++; /* its last byte alone, in the other page */
            CHECK(call_code(code, 0, 0) == x + (1u << 24));
        }
    }
}

/* ---- data beside code ---- */

static void shared_line(void)
{
    uint32_t n = ROUNDS, inside, beside, expect = 0;
    __asm__ volatile(".balign 64\n"
                     "movl $0, 1f\n"
                     "movl $0, 3f\n"
                     "2: incl 1f\n"
                     "jmp 4f\n"
                     "1: .long 0\n"
                     "4: mov %%ecx, %%eax\n"
                     "add %%eax, 3f\n"
                     "dec %%ecx\n"
                     "jnz 2b\n"
                     "mov 1b, %%eax\n"
                     "mov 3f, %%edx\n"
                     "jmp 5f\n"
                     "3: .long 0\n"
                     "5:" : "=a"(inside), "=d"(beside), "+c"(n) : : "memory", "cc");
    for (uint32_t i = 1; i <= ROUNDS; i++)
        expect += i;
    CHECK(inside == ROUNDS && beside == expect);
}

/* The stack in the page, and in the cache line, of the code that uses it. */
static void shared_with_stack(void)
{
    static const uint8_t code[] = {0x50, 0x51, 0x58, 0x59, 0xc3}; /* push a; push c; pop a; pop c; ret */
    for (unsigned at = 0; at < 64; at += 16) {
        uint8_t *f = area + 256;
        unsigned long *top = (unsigned long *)(void *)(area + 256 - at);
        copy(f, code, sizeof(code));
        for (uint32_t i = 0; i < ROUNDS / 4; i++) {
            unsigned long a = i, c = i + 77, saved = 0;
            __asm__ volatile(
#ifdef __x86_64__
                "mov %%rsp, %%r9; mov %4, %%rsp; call *%3; mov %%r9, %%rsp"
#else
                "mov %%esp, %%ebx; mov %4, %%esp; call *%3; mov %%ebx, %%esp"
#endif
                : "+a"(a), "+c"(c), "+d"(saved) : "S"(f), "D"(top)
#ifdef __x86_64__
                : "r9",
#else
                : "ebx",
#endif
                  "memory", "cc");
            CHECK(a == i + 77 && c == i);
        }
    }
}

/* ---- a small just-in-time compiler, whose programs overlap and are patched ---- */

enum { OP_ADD, OP_XOR, OP_SUB, OP_ROL, OP_IMUL_C, OP_ADD_C, OP_NOT, OP_BSWAP, OPS, OPS_MAX = 24 };
struct op { uint8_t kind; uint32_t imm; };

static uint32_t rnd_state = 2463534242u;
static uint32_t rnd(uint32_t n)
{
    rnd_state ^= rnd_state << 13;
    rnd_state ^= rnd_state >> 17;
    rnd_state ^= rnd_state << 5;
    return rnd_state % n;
}

static uint8_t *emit(uint8_t *p, const struct op *o)
{
    static const uint8_t opcode[] = {[OP_ADD] = 0x05, [OP_XOR] = 0x35, [OP_SUB] = 0x2d};
    static const struct { uint8_t len, byte[3]; } fixed[] = {
        [OP_IMUL_C] = {3, {0x0f, 0xaf, 0xc1}}, [OP_ADD_C] = {2, {0x01, 0xc8}}, [OP_NOT] = {2, {0xf7, 0xd0}},
        [OP_BSWAP] = {2, {0x0f, 0xc8}}, [OP_ROL] = {2, {0xc1, 0xc0}},
    };
    if (o->kind <= OP_SUB) {
        *p++ = opcode[o->kind];
        put32(p, o->imm);
        return p + 4;
    }
    for (unsigned i = 0; i < fixed[o->kind].len; i++)
        *p++ = fixed[o->kind].byte[i];
    if (o->kind == OP_ROL)
        *p++ = o->imm & 31;
    return p;
}

static uint32_t evaluate(const struct op *o, unsigned n, uint32_t a, uint32_t c)
{
    for (; n; n--, o++) {
        switch (o->kind) {
        case OP_ADD: a += o->imm; break;
        case OP_XOR: a ^= o->imm; break;
        case OP_SUB: a -= o->imm; break;
        case OP_ROL: a = o->imm & 31 ? a << (o->imm & 31) | a >> (32 - (o->imm & 31)) : a; break;
        case OP_IMUL_C: a *= c; break;
        case OP_ADD_C: a += c; break;
        case OP_NOT: a = ~a; break;
        default: a = a << 24 | (a & 0xff00) << 8 | (a >> 8 & 0xff00) | a >> 24; break;
        }
    }
    return a;
}

static void compiler(void)
{
    struct op op[OPS_MAX];
    uint8_t *at[OPS_MAX];
    for (unsigned program = 0; program < ROUNDS; program++) {
        uint8_t *code = area + rnd(2 * PAGE), *p = code;
        unsigned n = 1 + rnd(OPS_MAX);
        for (unsigned i = 0; i < n; i++) {
            op[i] = (struct op){(uint8_t)rnd(OPS), rnd(~0u)};
            at[i] = p;
            p = emit(p, &op[i]);
        }
        *p = 0xc3;
        for (unsigned run = 0; run < 4; run++) {
            uint32_t a = rnd(~0u), c = rnd(~0u);
            CHECK(call_code(code, a, c) == evaluate(op, n, a, c));
            unsigned i = rnd(n);
            if (op[i].kind <= OP_ROL && run) { /* one instruction anew */
                op[i].imm = rnd(~0u);
                emit(at[i], &op[i]);
            }
        }
    }
}

/* ---- an address that looks like none ---- */

/* Code at address 0, where an empty slot of a cache may claim to know something. */
static void code_at_zero(void)
{
    uint8_t *zero = NULL, old[8];
    __asm__("" : "+r"(zero)); /* the compiler need not know */
    copy(old, zero, sizeof(old));
    for (uint32_t i = 0; i < ROUNDS; i++) {
        put_constant(zero, i);
        CHECK(call_code(zero, ~i, 0) == i);
    }
    copy(zero, old, sizeof(old));
}

static void smc_all(void)
{
    code_at_zero();
    patch_next();
    patch_behind_and_ahead();
    string_ahead();
    string_itself();
    patched_function();
    patched_call();
    copied_over();
    crossing_stores();
    shared_line();
    shared_with_stack();
    compiler();
}

#endif
