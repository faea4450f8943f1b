/* tests/guest/smc64.c: code that changes, in 64-bit mode: what smc.h has, and changes behind the back of the linear address
 * that is executed: through another mapping, or of the mapping itself. */
#include "smc.h"

/* One 2 MiB region with its own page table; page i of it is set by map(). */
#define WINDOW 0xc0000000ul
enum { P = 1, W = 2, D_P = 0x10, NX_AT = 63 };
static volatile uint64_t pt[512] __attribute__((aligned(PAGE)));
static volatile uint64_t pt2[512] __attribute__((aligned(PAGE)));
static uint8_t frame[4][PAGE] __attribute__((aligned(PAGE)));
#define WINDOW_PAGE(i) ((uint8_t *)(WINDOW + PAGE * (unsigned long)(i)))

static uint64_t pte(const void *p) { return (uintptr_t)p | P | W; }

/* Other CPUs keep a translation until INVLPG. */
static void map(unsigned i, const void *p)
{
    pt[i] = pte(p);
    if (!on_hyperwind)
        invlpg(WINDOW_PAGE(i));
}

/* ---- through another mapping ---- */

static void written_by_alias(void)
{
    map(0, area);
    put_constant(area + 8, 0);
    put_constant(area + PAGE - 3, 0); /* and one whose tail lies in the next page */
    map(1, area + PAGE);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        put32(WINDOW_PAGE(0) + 9, i); /* write there, run here */
        CHECK(call_code(area + 8, 0, 0) == i);
        put32(area + 9, ~i); /* the other way round */
        CHECK(call_code(WINDOW_PAGE(0) + 8, 0, 0) == ~i);
        CHECK(call_code(area + 8, 0, 0) == ~i);
        put32(WINDOW_PAGE(1) - 2, i * 7);
        CHECK(call_code(area + PAGE - 3, 0, 0) == i * 7);
        area[PAGE + 1]++;
        CHECK(call_code(WINDOW_PAGE(1) - 3, 0, 0) == i * 7 + (1u << 24));
    }
    /* The next instruction of the running block. */
    uint32_t sum = 0, n = ROUNDS, expect = 0;
    extern uint8_t alias_target[];
    unsigned long page = (uintptr_t)alias_target & ~(unsigned long)(PAGE - 1);
    map(2, (const void *)page);
    map(3, (const void *)(page + PAGE));
    __asm__ volatile("2: movb %%cl, 1(%2)\n"
                     ".globl alias_target\n"
                     "alias_target: mov $0, %%eax\n"
                     "add %%eax, %%edx\n"
                     "dec %%ecx\n"
                     "jnz 2b" : "+d"(sum), "+c"(n)
                     : "r"(WINDOW_PAGE(2) + ((uintptr_t)alias_target - page)) : "rax", "memory", "cc");
    for (uint32_t i = 1; i <= ROUNDS; i++)
        expect += i & 0xff;
    CHECK(!on_hyperwind || sum == expect);
}

/* ---- another page at the same address ---- */

/* Position-independent code for a page and the one behind it.
 *   flip_loop   ecx times: let the second page be %r8's, call into it, let it be %r9's, jump into it and come back, and
 *               exchange the two, so that no jump finds the same page twice; rdi: its table entry; edx sums up the answers
 *   flip_self   rsi to the entry at rdi, which maps this very page; the answer is the page's number
 *   flip_invlpg the same with INVLPG (rbx) */
__asm__(".pushsection .text\n"
        ".balign 4096\n"
        "flip_page:\n"
        "flip_loop:\n"
        "2: mov %r8, (%rdi)\n"
        "invlpg (%rbx)\n"
        "call flip_page + 4096\n"
        "add %eax, %edx\n"
        "mov %r9, (%rdi)\n"
        "invlpg (%rbx)\n"
        "jmp flip_page + 4096 + 16\n"
        ".balign 64\n"
        "flip_back: lea (%rdx,%rax,2), %edx\n"
        "xchg %r8, %r9\n"
        "dec %ecx\n"
        "jnz 2b\n"
        "ret\n"
        ".balign 64\n"
        "flip_lazy:\n" /* flip_loop without INVLPG */
        "3: mov %r8, (%rdi)\n"
        "call flip_page + 4096\n"
        "add %eax, %edx\n"
        "mov %r9, (%rdi)\n"
        "call flip_page + 4096\n"
        "lea (%rdx,%rax,2), %edx\n"
        "xchg %r8, %r9\n"
        "dec %ecx\n"
        "jnz 3b\n"
        "ret\n"
        ".balign 64\n"
        "flip_self: mov %rsi, (%rdi)\n"
        "mov $1, %eax\n"
        "ret\n"
        ".balign 64\n"
        "flip_invlpg: mov %rsi, (%rdi)\n"
        "invlpg (%rbx)\n"
        "mov $1, %eax\n"
        "ret\n"
        ".balign 4096\n"
        "flip_answer: mov $1, %eax\n"
        "ret\n"
        ".balign 16\n"
        "mov $1, %eax\n"
        "jmp flip_back\n"
        ".balign 4096\n"
        ".popsection");
extern uint8_t flip_page[], flip_loop[], flip_lazy[], flip_self[], flip_invlpg[], flip_answer[];

/* A copy whose answers are x instead of 1: the constants of MOV $1, %eax. */
static void make_answers(uint8_t *to, const uint8_t *from, uint32_t x)
{
    copy(to, from, PAGE);
    for (unsigned i = 0; i + 5 <= PAGE; i++)
        if (to[i] == 0xb8 && to[i + 1] == 1 && !to[i + 2] && !to[i + 3] && !to[i + 4])
            put32(to + i + 1, x);
}

static uint32_t run_flips(const uint8_t *code, uint32_t n)
{
    uint32_t sum = 0;
    register uint64_t first __asm__("r8") = pte(frame[2]);
    register uint64_t second __asm__("r9") = pte(frame[3]);
    __asm__ volatile("call *%4" : "+d"(sum), "+c"(n), "+r"(first), "+r"(second)
                     : "r"(WINDOW_PAGE(4) + (code - flip_page)), "D"(&pt[5]), "b"(WINDOW_PAGE(5))
                     : "rax", "memory", "cc");
    return sum;
}

static uint32_t flip_own_page(const uint8_t *code, unsigned to)
{
    uint32_t a;
    __asm__ volatile("call *%1" : "=a"(a)
                     : "r"(WINDOW_PAGE(4) + (code - flip_page)), "D"(&pt[4]), "b"(WINDOW_PAGE(4)), "S"(pte(frame[to]))
                     : "memory", "cc");
    return a;
}

static void remapped(void)
{
    make_answers(frame[0], flip_page, 10);
    make_answers(frame[1], flip_page, 11);
    make_answers(frame[2], flip_answer, 3);
    make_answers(frame[3], flip_answer, 5);
    map(4, frame[0]);
    map(5, frame[2]);
    for (unsigned k = 0; k < 4; k++)
        CHECK(run_flips(flip_loop, ROUNDS) == ROUNDS / 2 * (3 + 2 * 5 + 5 + 2 * 3));
    if (on_hyperwind)
        CHECK(run_flips(flip_lazy, ROUNDS) == ROUNDS / 2 * (3 + 2 * 5 + 5 + 2 * 3));
    /* The page under the running code. */
    for (uint32_t i = 0; i < ROUNDS; i++) {
        unsigned other = ~i & 1;
        map(4, frame[i & 1]);
        CHECK(flip_own_page(flip_invlpg, other) == 10 + other);
        CHECK(flip_own_page(flip_invlpg, other) == 10 + other); /* the same entry again */
        if (on_hyperwind) {
            CHECK(flip_own_page(flip_self, i & 1) == 10 + (i & 1));
            CHECK(flip_own_page(flip_self, other) == 10 + other);
        }
    }
}

/* The code's page goes away, or may not be executed any more, while it runs. */
static void withdrawn(void)
{
    map(4, frame[0]);
    unsigned long next = (uintptr_t)WINDOW_PAGE(4) + (unsigned long)(flip_invlpg - flip_page) + 6;
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        uint64_t entry = i & 1 ? 0 : pte(frame[0]) | 1ull << NX_AT;
        map(4, frame[0]);
        unsigned long code = next - 6;
        /* The return address is left on the stack: TRY restores it. */
        TRY("call *%%rax", "a"(code), "D"(&pt[4]), "b"(WINDOW_PAGE(4)), "S"(entry));
        CHECK_TRAP(VEC_PF, i & 1 ? D_P : D_P | P);
        CHECK(trap.ip == trap.cr2);
        if (on_hyperwind)
            CHECK(trap.ip == next - 3);
    }
    map(4, frame[0]);
}

/* An upper level changes, and so does the whole address space. */
static void other_tables(void)
{
    static volatile uint64_t pml4_b[512] __attribute__((aligned(PAGE))), pdpt_b[512] __attribute__((aligned(PAGE)));
    static volatile uint64_t pd_b[512] __attribute__((aligned(PAGE)));
    for (unsigned i = 0; i < 512; i++) {
        pml4_b[i] = pml4[i];
        pdpt_b[i] = pdpt_low[i];
        pd_b[i] = pd_low[3][i];
        pt2[i] = pt[i];
    }
    make_answers(frame[2], flip_answer, 3);
    make_answers(frame[3], flip_answer, 5);
    map(5, frame[2]);
    pt2[5] = pte(frame[3]);
    const uint64_t here = pd_low[3][0], there = pte((const void *)pt2);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        pd_low[3][0] = i & 1 ? there : here;
        if (!on_hyperwind)
            WRITE_REG(cr3, READ_REG(cr3));
        CHECK(call_code(WINDOW_PAGE(5), 0, 0) == (i & 1 ? 5 : 3));
    }
    pd_low[3][0] = here;
    pd_b[0] = there;
    pdpt_b[3] = pte((const void *)pd_b);
    pml4_b[0] = pte((const void *)pdpt_b);
    const uint64_t space[2] = {READ_REG(cr3), (uintptr_t)pml4_b};
    for (uint32_t i = 0; i < ROUNDS; i++) {
        WRITE_REG(cr3, space[i & 1]);
        CHECK(call_code(WINDOW_PAGE(5), 0, 0) == (i & 1 ? 5 : 3));
        if (i % 16 == 0) { /* what the other space runs is patched from this one */
            frame[3][0] = 0xb8;
            put32(frame[3] + 1, 5);
        }
    }
    /* A loop that changes space in its middle; it lies at the same address in both. */
    uint32_t sum = 0, n = ROUNDS;
    __asm__ volatile("2: mov %2, %%cr3\n"
                     "call *%4\n"
                     "add %%eax, %%edx\n"
                     "mov %3, %%cr3\n"
                     "call *%4\n"
                     "lea (%%rdx,%%rax,2), %%edx\n"
                     "dec %%ecx\n"
                     "jnz 2b" : "+d"(sum), "+c"(n) : "r"(space[1]), "r"(space[0]), "r"(WINDOW_PAGE(5))
                     : "rax", "memory", "cc");
    CHECK(sum == ROUNDS * (5 + 2 * 3));
    WRITE_REG(cr3, space[0]);
}

/* More address spaces than any cache has room for, in random order; what they map changes while they are not in use. */
static void many_spaces(void)
{
    enum { SPACES = 24, LEVELS = 4 };
    static volatile uint64_t table[SPACES][LEVELS][512] __attribute__((aligned(PAGE)));
    static uint32_t answer[SPACES];
    const uint64_t home = READ_REG(cr3);
    make_answers(frame[2], flip_answer, 3);
    make_answers(frame[3], flip_answer, 5);
    for (unsigned s = 0; s < SPACES; s++) {
        for (unsigned i = 0; i < 512; i++) {
            table[s][0][i] = pml4[i];
            table[s][1][i] = pdpt_low[i];
            table[s][2][i] = pd_low[3][i];
        }
        table[s][0][0] = pte((const void *)table[s][1]);
        table[s][1][3] = pte((const void *)table[s][2]);
        table[s][2][0] = pte((const void *)table[s][3]);
        answer[s] = s & 1 ? 5 : 3;
        table[s][3][5] = pte(frame[2 + (s & 1)]);
    }
    for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
        unsigned s = rnd(i & 64 ? SPACES : 3), other = rnd(SPACES);
        answer[other] = 8 - answer[other];
        table[other][3][5] = pte(frame[answer[other] == 3 ? 2 : 3]);
        WRITE_REG(cr3, (uintptr_t)table[s][0]);
        CHECK(call_code(WINDOW_PAGE(5), 0, 0) == answer[s]);
    }
    WRITE_REG(cr3, home);
}

/* Many linear pages of one frame, too far apart to share anything but their place in a direct-mapped TLB. */
static void evicted(void)
{
    enum { ALIASES = 48 };
    uint64_t old[ALIASES];
    uint32_t answer = 3;
    map(5, frame[2]);
    for (unsigned j = 0; j < ALIASES; j++) {
        old[j] = pd_low[3][j];
        pd_low[3][j] = pd_low[3][0];
    }
    WRITE_REG(cr3, READ_REG(cr3));
    for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
        unsigned j = rnd(ALIASES);
        CHECK(call_code(WINDOW_PAGE(5 + 512 * j), 0, 0) == answer);
        if (i % 3 == 0) {
            answer = 8 - answer;
            pt[5] = pte(frame[answer == 3 ? 2 : 3]);
            if (!on_hyperwind)
                WRITE_REG(cr3, READ_REG(cr3));
        }
        if (i % 7 == 0) { /* by another of the names, and in memory */
            answer += 16;
            put32(WINDOW_PAGE(5 + 512 * rnd(ALIASES)) + 1, answer);
            CHECK(call_code(WINDOW_PAGE(5 + 512 * j), 0, 0) == answer);
            answer -= 16;
            put32(WINDOW_PAGE(5 + 512 * rnd(ALIASES)) + 1, answer);
        }
    }
    for (unsigned j = 1; j < ALIASES; j++)
        pd_low[3][j] = old[j];
    WRITE_REG(cr3, READ_REG(cr3));
}

/* ---- an instruction in two pages ---- */

static void straddling(void)
{
    /* At the end of page 6: add %ecx, %eax; then add $imm32, %eax of which `in` bytes lie in page 7; ret. */
    for (unsigned in = 1; in <= 4; in++) {
        uint8_t *first = frame[0], *tail[2] = {frame[1], frame[2]};
        first[PAGE - (5 - in) - 2] = 0x01;
        first[PAGE - (5 - in) - 1] = 0xc8;
        first[PAGE - (5 - in)] = 0x05;
        for (unsigned i = 1; i < 5 - in; i++)
            first[PAGE - (5 - in) + i] = 0;
        for (unsigned k = 0; k < 2; k++) {
            for (unsigned i = 0; i < in; i++)
                tail[k][i] = 0;
            tail[k][in] = 0xc3;
        }
        map(6, first);
        const uint8_t *code = WINDOW_PAGE(7) - (5 - in) - 2;
        for (uint32_t i = 0; i < ROUNDS / 4; i++) {
            unsigned k = i & 1;
            tail[0][in - 1] = (uint8_t)i;
            tail[1][in - 1] = (uint8_t)~i;
            map(7, tail[k]);
            uint32_t high = (uint32_t)tail[k][in - 1] << 24;
            CHECK(call_code(code, i, 5) == i + 5 + high);
            CHECK(call_code(code + 2, i, 5) == i + high);
            tail[k][in - 1] ^= 0x80; /* the same page written, under another address */
            CHECK(call_code(code, i, 5) == i + 5 + (high ^ 0x80000000));
            map(7, tail[!k]);
            CHECK(call_code(code, i, 5) == i + 5 + ((uint32_t)tail[!k][in - 1] << 24));
        }
    }
    /* Its second page goes away. */
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        map(7, frame[1]);
        CHECK(call_code(WINDOW_PAGE(7) - 1, 0, 0) == (uint32_t)frame[1][3] << 24);
        pt[7] = 0;
        invlpg(WINDOW_PAGE(7));
        TRY("call *%%rax", "a"(WINDOW_PAGE(7) - 1));
        CHECK_TRAP(VEC_PF, D_P);
        CHECK(trap.cr2 == (unsigned long)WINDOW_PAGE(7) && trap.ip == trap.cr2 - 1);
    }
}

int main(void)
{
    pd_low[3][0] = pte((const void *)pt);
    WRITE_REG(cr3, READ_REG(cr3));
    smc_all();
    written_by_alias();
    remapped();
    withdrawn();
    other_tables();
    many_spaces();
    evicted();
    straddling();
    return 0;
}
