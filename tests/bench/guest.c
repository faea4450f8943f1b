/* tests/bench/guest.c: the workloads, and what only a kernel can do, as a bare-metal guest.
 *
 * A Multiboot image for Hyperwind and for QEMU. The last two words of its command line are a name and a number of
 * iterations; it prints what native.c prints on COM1 and ends by debug exit: value 0, or 1 for a wrong command line.
 * Code at CPL 0 with 2 MiB pages, but for SMALL, where the arena is mapped again in 4 KiB pages. */
#include "tests/guest/rt.h"

#include "workloads.h"

enum {
    ARENA = 16 << 20, /* above the image */
    SMALL_TABLES = ARENA_LEN >> 21,
    COM1 = 0x3f8, COM1_LSR = COM1 + 5, LSR_EMPTY = 0x20,
    MSR_STAR = 0xc0000081u, MSR_LSTAR = 0xc0000082u, MSR_FMASK = 0xc0000084u,
    PRESENT = 1, WRITABLE = 2,
};
#define SMALL (USER_ALIAS * 2)    /* the third entry of pml4 */
#define UNMAPPED (USER_ALIAS * 3)

static volatile uint64_t tables[SMALL_TABLES + 3][512] __attribute__((aligned(4096)));
static volatile uint64_t *const second_pml4 = tables[SMALL_TABLES + 2];

static void map_small(void)
{
    volatile uint64_t *pdpt = tables[SMALL_TABLES], *pd = tables[SMALL_TABLES + 1];
    for (unsigned t = 0; t < SMALL_TABLES; t++) {
        for (unsigned i = 0; i < 512; i++)
            tables[t][i] = (ARENA + ((uint64_t)t << 21) + ((uint64_t)i << 12)) | WRITABLE | PRESENT;
        pd[t] = (uintptr_t)tables[t] | WRITABLE | PRESENT;
    }
    pdpt[0] = (uintptr_t)pd | WRITABLE | PRESENT;
    pml4[2] = (uintptr_t)pdpt | WRITABLE | PRESENT;
    for (unsigned i = 0; i < 512; i++)
        second_pml4[i] = pml4[i];
}

/* The page that iteration n of some tests loads from; its first word was set to be told apart. */
static volatile uint64_t *small_page(uint64_t n)
{
    return (volatile uint64_t *)(SMALL + ((n & 15) << 12));
}

static void number_small_pages(void)
{
    for (uint64_t i = 0; i < 16; i++)
        *small_page(i) = i + 1;
}

static void enable_vectors(void)
{
    __asm__ volatile("fninit"); /* at reset, x87 exceptions are unmasked */
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSFXSR | CR4_OSXSAVE);
    __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
}

/* ---- what only a kernel can do ---- */

/* Delivery of a page fault, return behind the access. */
extern char skip_fault[];
__asm__(".globl skip_fault\n"
        "skip_fault:\n"
        "  addq $2, 8(%rsp)\n"
        "  add $8, %rsp\n"
        "  iretq\n");

static uint64_t run_fault(uint64_t n, uint8_t *arena)
{
    (void)arena;
    set_gate(VEC_PF, (void (*)(void))(uintptr_t)skip_fault, KCS, 0x8e00);
    uint64_t left = n;
    while (left--)
        __asm__ volatile("mov (%%rax), %%cl" : : "a"(UNMAPPED) : "rcx", "memory"); /* two bytes long */
    return n;
}

/* Two address spaces in turn, a load in each. */
static uint64_t run_cr3(uint64_t n, uint8_t *arena)
{
    (void)arena;
    uint64_t sum = 0;
    number_small_pages();
    while (n--) {
        WRITE_REG(cr3, n & 1 ? (uintptr_t)second_pml4 : (uintptr_t)pml4);
        sum += *small_page(n);
    }
    WRITE_REG(cr3, (uintptr_t)pml4);
    return sum;
}

static uint64_t run_invlpg(uint64_t n, uint8_t *arena)
{
    (void)arena;
    uint64_t sum = 0;
    number_small_pages();
    while (n--) {
        invlpg((const void *)(uintptr_t)small_page(n));
        sum += *small_page(n);
    }
    return sum;
}

/* SYSCALL from CPL 3 and SYSRET at once. */
extern char return_at_once[];
__asm__(".globl return_at_once\n"
        "return_at_once:\n"
        "  sysretq\n");

static uint64_t run_syscall(uint64_t n, uint8_t *arena)
{
    (void)arena;
    wrmsr(MSR_STAR, (uint64_t)KCS << 32 | (uint64_t)UCS32 << 48);
    wrmsr(MSR_LSTAR, (uintptr_t)return_at_once);
    wrmsr(MSR_FMASK, FL_IF);
    if (n)
        TRY_USER("1: syscall; dec %%rdi; jnz 1b", "D"(n));
    return n;
}

static uint64_t run_pushf(uint64_t n, uint8_t *arena)
{
    (void)arena;
    uint64_t left = n;
    while (left--)
        __asm__ volatile("pushf; cli; popf" : : : "memory", "cc");
    return n;
}

/* A function whose constant is changed before each call. */
static uint64_t run_patch(uint64_t n, uint8_t *arena)
{
    arena[0] = 0xb8; /* mov $imm32, %eax; ret */
    arena[5] = 0xc3;
    uint64_t sum = 0;
    while (n--) {
        uint32_t value;
        *(volatile uint32_t *)(void *)(arena + 1) = (uint32_t)n;
        __asm__ volatile("call *%1" : "=a"(value) : "r"(arena) : "memory");
        sum += value;
    }
    return sum;
}

static const struct workload kernel_workloads[] = {
    {"fault", run_fault, false},
    {"cr3", run_cr3, false},
    {"invlpg", run_invlpg, false},
    {"syscall", run_syscall, false},
    {"pushf", run_pushf, false},
    {"patch", run_patch, false},
    {NULL, NULL, false},
};

/* ---- the program ---- */

static uint8_t inb(uint16_t port)
{
    uint8_t x;
    __asm__ volatile("inb %1, %0" : "=a"(x) : "Nd"(port));
    return x;
}

static void put(char c)
{
    while (!(inb(COM1_LSR) & LSR_EMPTY))
        ;
    outb(COM1, (uint8_t)c);
}

static void put_text(const char *s)
{
    while (*s)
        put(*s++);
}

static void put_decimal(uint64_t n)
{
    if (n > 9)
        put_decimal(n / 10);
    put((char)('0' + n % 10));
}

static void put_hex(uint64_t x)
{
    for (int i = 60; i >= 0; i -= 4)
        put("0123456789abcdef"[x >> i & 15]);
}

/* Where the last word before `end` begins; *end_out is where it ends. */
static const char *last_word(const char *begin, const char *end, const char **end_out)
{
    while (end > begin && end[-1] == ' ')
        end--;
    *end_out = end;
    while (end > begin && end[-1] != ' ')
        end--;
    return end;
}

static bool same(const char *name, const char *begin, const char *end)
{
    while (*name && begin < end && *name == *begin)
        name++, begin++;
    return !*name && begin == end;
}

static const struct workload *find(const struct workload *w, const char *begin, const char *end)
{
    while (w->name && !same(w->name, begin, end))
        w++;
    return w->name ? w : NULL;
}

int main(void)
{
    uint32_t command_line = ((const uint32_t *)(uintptr_t)boot_info)[4]; /* Multiboot 0.6.96, 3.3 */
    const char *begin = (const char *)(uintptr_t)command_line, *end = begin;
    while (*end)
        end++;
    const char *digits_end, *name_end, *digits = last_word(begin, end, &digits_end);
    const char *name = last_word(begin, digits, &name_end);
    uint64_t n = 0;
    for (const char *s = digits; s < digits_end; s++)
        n = n * 10 + (uint64_t)(*s - '0');
    const struct workload *w = find(workloads, name, name_end);
    if (!w)
        w = find(kernel_workloads, name, name_end);
    if (!w)
        finish(1);
    map_small();
    enable_vectors();
    uint64_t checksum = w->run(n, (uint8_t *)(uintptr_t)(w->small_pages ? SMALL : ARENA));
    put_text(w->name);
    put(' ');
    put_decimal(n);
    put(' ');
    put_hex(checksum);
    put('\n');
    return 0;
}
