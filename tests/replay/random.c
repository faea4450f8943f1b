/* tests/replay/random.c: what runs a random program of test_random.py, linked with it and the guests' runtime: at CPL 0 and
 * at CPL 3, interrupted by a timer, with its page faults and its other exceptions handled.
 *
 * The program is fuzz(window). The window is memory for it to use:
 *
 *   pages 0..95     data
 *   pages 96..112   functions, the same in each page but for their constants: at 16, 256, 512, ... 3840 "add $imm32, %eax;
 *                   ret"; at 4093 one that ends in the next page; at 128 a jump to the one at 512 in the next page
 *   pages 120..127  the same memory as 96..103
 *
 * At address 0 there is a RET; at CPL 3 in 64-bit mode nothing, and the fault's handler returns.
 *
 * In 64-bit mode it has a page table of its own, `pt`, which the program may change: it may swap entries, and clear the bits
 * for present, writable, accessed and dirty. In 32-bit mode there is no paging. */
#include "tests/guest/rt.h"

enum {
    PAGE = 4096, WINDOW_PAGES = 128, CODE_FIRST = 96, CODE_LAST = 112, ALIAS_FIRST = 120,
    FILLED_PAGES = 24, VEC_TIMER = 0x20, TIMER_PERIOD = 20 /* 1/1193182 s */, ROUNDS = 3,
    CR4_OSXMMEXCPT = 0x400,
    LEAVE = 0x600dc0de, /* in EAX at INT 0x30: the end of the code at CPL 3 */
};

void fuzz(void *window);
extern uint32_t fuzz_mix;
uint32_t fuzz_mix; /* what exceptions found, so that it shows in memory */

#ifdef __x86_64__
__asm__(".globl window_at\nwindow_at = 16 << 20"); /* for direct calls */
enum { PTE_PRESENT = 1, PTE_WRITABLE = 2, PTE_USER = 4, WINDOW = 16 << 20 };
volatile uint64_t pt[512] __attribute__((aligned(PAGE)));
static uint8_t *const window = (uint8_t *)WINDOW;

static void map_window(void)
{
    for (unsigned i = 0; i < 512; i++) {
        unsigned at = i >= ALIAS_FIRST && i < WINDOW_PAGES ? i - ALIAS_FIRST + CODE_FIRST : i;
        pt[i] = (WINDOW + (uint64_t)at * PAGE) | PTE_PRESENT | PTE_WRITABLE | PTE_USER;
    }
    pd_low[0][WINDOW >> 21] = (uintptr_t)pt | PTE_PRESENT | PTE_WRITABLE;
    volatile uint64_t *pd_user = (volatile uint64_t *)(uintptr_t)(*(volatile uint64_t *)(uintptr_t)(pml4[1] & ~4095ul) & ~4095ul);
    pd_user[WINDOW >> 21] = (uintptr_t)pt | PTE_PRESENT | PTE_WRITABLE | PTE_USER;
}

/* False: not one that the program may cause. */
static bool page_fault(void)
{
    unsigned long off = (trap.cr2 & (USER_ALIAS - 1)) - WINDOW, i = off / PAGE;
    if (off >= WINDOW_PAGES * PAGE || (pt[i] & 3) == 3)
        return false;
    pt[i] |= PTE_PRESENT | PTE_WRITABLE;
    return true;
}

enum { MSR_STAR = 0xc0000081u, MSR_LSTAR = 0xc0000082u, MSR_FMASK = 0xc0000084u };
void syscall_entry(void);
__asm__("syscall_entry: add %ecx, fuzz_mix(%rip)\n"
        "  test $1, %cl\n"
        "  jz 1f\n"
        "  swapgs\n"
        "  stac\n"
        "  cmp (%rsp), %ecx\n" /* the user's: SMAP */
        "  add %ecx, fuzz_mix(%rip)\n"
        "  clac\n"
        "  swapgs\n"
        "  test $2, %cl\n"
        "  jz 1f\n"
        "  xor $0xd5, %r11d\n"
        "1: sysretq\n");

#define ACCESS_USER() __asm__ volatile("stac" : : : "memory")

static void enable_syscall(void)
{
    WRITE_REG(cr4, READ_REG(cr4) | CR4_SMAP);
    wrmsr(MSR_STAR, (uint64_t)KCS << 32 | (uint64_t)0x18 << 48);
    wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
    wrmsr(MSR_FMASK, FL_IF | FL_TF);
}

static void run_user(void)
{
    TRY_USER_FLAGS(FL_IF, "mov %[at], %%rdi; call fuzz; mov %[leave], %%eax",
                   [at] "r"(window + USER_ALIAS), [leave] "i"(LEAVE));
}
#else
static uint8_t window[WINDOW_PAGES * PAGE] __attribute__((aligned(PAGE)));

static void map_window(void) {}
static bool page_fault(void) { return false; }
static void enable_syscall(void) {}
#define ACCESS_USER() (void)0

static void run_user(void)
{
    TRY_USER_FLAGS(FL_IF, "push %[at]; call fuzz; pop %%ecx; mov %[leave], %%eax", [at] "r"(window),
                   [leave] "i"(LEAVE));
}
#endif

static void enable_vectors(void)
{
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE);
    __asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
    __asm__ volatile("fninit");
}

/* DIV of a register, which takes 2 bytes, or 3 with a prefix, is stepped over. */
static void skip_division(struct frame *f)
{
    f->ip += *(const uint8_t *)f->ip == 0xf7 ? 2 : 3;
}

/* An aligned access is made with a displacement of 32 bits and without REX, behind 66 or not. */
static void skip_aligned(struct frame *f)
{
    f->ip += *(const uint8_t *)f->ip == 0x66 ? 8 : 7;
}

/* At CPL 3 address 0 is not mapped. */
static bool return_from_nowhere(struct frame *f)
{
    f->ip = *(const unsigned long *)f->sp;
    f->sp += sizeof(f->ip);
    return true;
}

static bool hook(struct frame *f)
{
    enum { FL_RF = 0x10000 };
    ACCESS_USER();
    fuzz_mix = fuzz_mix * 31 + (uint32_t)f->vector + (uint32_t)f->ip + (uint32_t)(f->flags & 0xcd5);
    switch (f->vector) {
    case VEC_DE: skip_division(f); return true;
    case VEC_DB: return true;
    case VEC_BP: return true;
    case VEC_GP: skip_aligned(f); return true;
    case VEC_PF: return f->ip ? page_fault() : return_from_nowhere(f);
    case VEC_TIMER:
        outb(0x20, 0x20);
        f->flags ^= f->ip & 1 ? FL_RF : 0; /* it says something of one instruction only: of a REP until that ends */
        return true;
    case VEC_USER_RETURN: return (uint32_t)f->ax != LEAVE;
    default: return false;
    }
}

static void start_timer(void)
{
    outb(0x20, 0x11), outb(0x21, VEC_TIMER), outb(0x21, 4), outb(0x21, 1), outb(0x21, 0xfe);
    outb(0x43, 0x34), outb(0x40, TIMER_PERIOD), outb(0x40, 0);
}

static void fill_window(void)
{
    uint32_t s = 1;
    for (unsigned i = 0; i < FILLED_PAGES * PAGE; i += 4) {
        s = s * 1664525 + 1013904223;
        uint32_t x = s ^ s >> 16;
        *(uint32_t *)(void *)(window + i) = i % 16 == 4 ? 0x40000000 + (x >> 8) : x; /* some of it is FP numbers */
    }
    for (unsigned p = CODE_FIRST; p <= CODE_LAST; p++) {
        for (unsigned at = 0; at < PAGE; at += 256) {
            uint8_t *to = window + p * PAGE + (at ? at : 16);
            to[0] = 0x05; /* add $imm32, %eax */
            for (unsigned i = 1; i < 5; i++)
                to[i] = (uint8_t)(p * i + at);
            to[5] = 0xc3; /* ret */
        }
        window[p * PAGE + 128] = 0xe9; /* jmp */
        *(uint32_t *)(void *)(window + p * PAGE + 129) = PAGE + 512 - (128 + 5);
        window[p * PAGE + 2] = 0xc3;
        window[p * PAGE + PAGE - 3] = 0x05;
    }
}

int main(void)
{
    __asm__ volatile("movb $0xc3, 0" : : : "memory"); /* RET, which a compiler would not store there */
    map_window();
    enable_vectors();
    enable_syscall();
    fill_window();
    trap_hook = hook;
    start_timer();
    for (unsigned i = 0; i < ROUNDS; i++) {
        __asm__ volatile("sti");
        fuzz(window);
        __asm__ volatile("cli");
        run_user();
        CHECK_USER_OK();
    }
    return 0;
}
