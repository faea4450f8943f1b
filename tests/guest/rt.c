/* tests/guest/rt.c: see rt.h. */
#include "rt.h"

volatile struct trap trap;
bool (*volatile trap_hook)(struct frame *f);
unsigned long resume_ip, resume_sp, want;
bool on_hyperwind;

bool rt_trap(struct frame *f);
void rt_init(void);

void print(const char *s)
{
    while (*s)
        outb(0xe9, (uint8_t)*s++);
}

void print_hex(unsigned long x)
{
    print("0x");
    for (int i = sizeof(x) * 8 - 4; i >= 0; i -= 4)
        outb(0xe9, (uint8_t)"0123456789abcdef"[x >> i & 15]);
}

void finish(unsigned value)
{
    for (;;)
        outb(0xf4, (uint8_t)value);
}

static void print_number(unsigned n)
{
    if (n > 9)
        print_number(n / 10);
    outb(0xe9, (uint8_t)('0' + n % 10));
}

void fail(const char *file, unsigned line, const char *text)
{
    print(file);
    print(":");
    print_number(line);
    print(": ");
    print(text);
    print("\n  last trap: vector ");
    print_hex(trap.vector);
    print(" error ");
    print_hex(trap.error);
    print(" ip ");
    print_hex(trap.ip);
    print(" cr2 ");
    print_hex(trap.cr2);
    print("\n");
    finish(1);
}

void try_begin(void)
{
    trap.vector = NONE;
    trap.error = 0;
    trap.count = 0;
}

void try_end(void)
{
    resume_ip = 0;
}

static void unexpected(void)
{
    fail("rt.c", __LINE__, "a trap outside TRY");
}

/* True: return to the interrupted code; false: go on behind the TRY. */
bool rt_trap(struct frame *f)
{
    trap.vector = f->vector;
    trap.error = f->error;
    trap.ip = f->ip;
    trap.cs = f->cs;
    trap.flags = f->flags;
    trap.sp = f->sp;
    trap.ss = f->ss;
    trap.at = (unsigned long)&f->ip;
    trap.cr2 = READ_REG(cr2);
    trap.count++;
    if (trap_hook && trap_hook(f))
        return true;
    if (!resume_ip)
        unexpected();
    return false;
}

/* No device interrupt can come: the 8259s are masked, the local APIC is as at reset. */
static void init_machine(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    uint32_t r[4];
    cpuid(0x40000000, 0, r);
    on_hyperwind = r[1] == 0x65707948 && r[2] == 0x6e697772; /* "Hyperwin" */
}

extern char stubs[], trap_stack_top[];

#ifdef __x86_64__
struct tss64 tss;
void rt_init(void)
{
    uint64_t a = (uintptr_t)&tss;
    tss.rsp[0] = (uintptr_t)trap_stack_top;
    tss.ist[0] = (uintptr_t)ist_stack + sizeof(ist_stack);
    tss.iomap = offsetof(struct tss64, bitmap);
    tss.bitmap[sizeof(tss.bitmap) - 1] = 0xff;
    gdt[TSS_SEL / 8] = (sizeof(tss) - 1) | (a & 0xffffff) << 16 | 0x89ull << 40 | (a >> 24 & 0xff) << 56;
    gdt[TSS_SEL / 8 + 1] = a >> 32;
    for (unsigned i = 0; i < 256; i++)
        set_gate(i, (void (*)(void))(uintptr_t)(stubs + 16 * i), KCS, i == VEC_USER_RETURN || i == VEC_BP ? 0xee00 : 0x8e00);
    init_machine();
}
#else
struct tss32 tss;
void rt_init(void)
{
    uint32_t a = (uintptr_t)&tss;
    tss.esp0 = (uintptr_t)trap_stack_top;
    tss.ss0 = KDS;
    tss.iomap = offsetof(struct tss32, bitmap);
    tss.bitmap[sizeof(tss.bitmap) - 1] = 0xff;
    gdt[TSS_SEL / 8] = make_desc(a, sizeof(tss) - 1, 0x89, 0);
    for (unsigned i = 0; i < 256; i++)
        set_gate(i, (void (*)(void))(uintptr_t)(stubs + 16 * i), KCS,
                 i == VEC_USER_RETURN || i == VEC_BP || i == VEC_OF ? 0xee00 : 0x8e00);
    init_machine();
}
#endif
