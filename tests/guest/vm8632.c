/* tests/guest/vm8632.c: virtual-8086 mode: entry by IRET, sensitive instructions, interrupts to level 0. SDM vol. 3 ch. 20. */
#include "rt.h"

/* Real-mode code lives in the first megabyte. */
#define CODE ((volatile uint8_t *)0x10000)
#define STACK ((volatile uint8_t *)0x20000)
enum { CODE_SEG = 0x1000, STACK_SEG = 0x2000 };

static unsigned long extra[4]; /* ES DS FS GS of the frame */
static unsigned long ax, bx;
static bool note(struct frame *f)
{
    const unsigned long *p = &f->ss + 1;
    for (unsigned i = 0; i < 4; i++)
        extra[i] = p[i];
    ax = f->ax;
    bx = f->bx;
    return false;
}

/* Run bytes at CODE_SEG:0 in VM86 mode with these flags; ends with whatever traps. */
static void run(const uint8_t *code, unsigned len, unsigned long flags)
{
    for (unsigned i = 0; i < 64; i++)
        CODE[i] = i < len ? code[i] : 0xf4; /* HLT: always #GP */
    TRY("push $0x4444; push $0x3333; push $0x2222; push $0x1111\n" /* GS FS DS ES */
        "push $0x2000; push $0x800; push %%ecx; push $0x1000; push $0\n"
        "mov $0x11111111, %%ebx; mov $0xaaaaaaaa, %%eax; iret", "c"(flags | FL_VM | 2));
}
#define RUN(flags, ...)                                                                                \
    do {                                                                                               \
        static const uint8_t code_[] = {__VA_ARGS__};                                                  \
        run(code_, sizeof(code_), flags);                                                              \
    } while (0)

static void entry_and_exit(void)
{
    RUN(0, 0xb8, 0x34, 0x12, 0xf4); /* mov $0x1234, %ax; hlt */
    CHECK_TRAP(VEC_GP, 0);
    CHECK(trap.ip == 3 && trap.cs == CODE_SEG && trap.ss == STACK_SEG && trap.sp == 0x800);
    CHECK(extra[0] == 0x1111 && extra[1] == 0x2222 && extra[2] == 0x3333 && extra[3] == 0x4444);
    CHECK(trap.flags & FL_VM);
    CHECK(ax == 0xaaaa1234);
    CHECK(trap.at == tss.esp0 - 9 * 4);
    RUN(0, 0x8c, 0xcb, 0x8c, 0xd8, 0x8e, 0xd8, 0xf4); /* mov %cs, %bx; mov %ds, %ax; mov %ax, %ds */
    CHECK((bx & 0xffff) == CODE_SEG && (ax & 0xffff) == 0x2222);
    /* Base is selector * 16; the limit 64 KiB. */
    RUN(0, 0xa1, 0x00, 0x00, 0xf4); /* mov 0, %ax: DS = 0x2222 */
    CHECK((ax & 0xffff) == *(volatile uint16_t *)0x22220);
    if (on_hyperwind) {
        RUN(0, 0xa1, 0xff, 0xff, 0xf4);
        CHECK_TRAP(VEC_GP, 0);
        CHECK(trap.ip == 0);
        RUN(0, 0xbc, 0x01, 0x00, 0x50); /* mov $1, %sp; push %ax */
        CHECK_TRAP(VEC_SS, 0);
    }
    /* Protected-mode instructions do not exist. */
    RUN(0, 0x0f, 0x00, 0xc0); /* sldt %ax */
    CHECK_TRAP(VEC_UD, 0);
    RUN(0, 0x0f, 0x02, 0xc0); /* lar %ax, %ax */
    CHECK_TRAP(VEC_UD, 0);
    RUN(0, 0x63, 0xc0); /* arpl */
    CHECK_TRAP(VEC_UD, 0);
    /* Privileged ones raise #GP: this is CPL 3. */
    RUN(0, 0x0f, 0x20, 0xc0); /* mov %cr0, %eax */
    CHECK_TRAP(VEC_GP, 0);
    RUN(FL_IOPL3, 0x0f, 0x30); /* wrmsr */
    CHECK_TRAP(VEC_GP, 0);
}

/* With IOPL below 3, CLI STI PUSHF POPF INT IRET raise #GP. */
static void sensitive(void)
{
    static const uint8_t ops[] = {0xfa, 0xfb, 0x9c, 0x9d, 0xcf};
    for (unsigned i = 0; i < sizeof(ops); i++) {
        run(&ops[i], 1, 0);
        CHECK_TRAP(VEC_GP, 0);
        CHECK(trap.ip == 0);
        run(&ops[i], 1, 0x2000); /* IOPL 2 */
        CHECK_TRAP(VEC_GP, 0);
        CHECK(trap.ip == 0);
    }
    RUN(0, 0xcd, 0x30); /* int $0x30 */
    CHECK_TRAP(VEC_GP, 0);
    CHECK(trap.ip == 0);
    RUN(FL_IOPL3, 0xcd, 0x30);
    CHECK_TRAP(0x30, 0);
    CHECK(trap.ip == 2);
    RUN(FL_IOPL3, 0xcd, 0x31); /* a gate of DPL 0 */
    CHECK_TRAP(VEC_GP, 0x31 * 8 + 2);
    RUN(0, 0xcc); /* INT3 is not sensitive */
    CHECK_TRAP(VEC_BP, 0);
    CHECK(trap.ip == 1);
    RUN(FL_IOPL3, 0xfa, 0xfb, 0xfa, 0xf4);
    CHECK_TRAP(VEC_GP, 0);
    CHECK(trap.ip == 3 && !(trap.flags & FL_IF));
    RUN(FL_IOPL3, 0x9c, 0x58, 0xf4); /* pushf; pop %ax */
    CHECK((ax & 0xffff) == (FL_IOPL3 | 2));
    /* POPF cannot change IOPL. */
    RUN(FL_IOPL3, 0x31, 0xc0, 0x50, 0x9d, 0x9c, 0x58, 0xf4); /* xor %ax, %ax; push %ax; popf; pushf; pop %ax */
    CHECK((ax & 0xffff) == (FL_IOPL3 | 2));
    /* IRET: IP, CS, FLAGS of 16 bits. */
    RUN(FL_IOPL3, 0x9c, 0x0e, 0x68, 0x06, 0x00, 0xcf, 0x40, 0xf4); /* pushf; push %cs; push $6; iret; inc %ax */
    CHECK_TRAP(VEC_GP, 0);
    CHECK(trap.ip == 7 && ax == 0xaaaaaaab);
    /* Far jumps and calls are real mode's. */
    RUN(0, 0xea, 0x05, 0x00, 0x00, 0x10, 0x40, 0xf4);
    CHECK(trap.ip == 6 && ax == 0xaaaaaaab);
    RUN(0, 0x9a, 0x06, 0x00, 0x00, 0x10, 0xf4, 0x40, 0xcb); /* lcall 1000:6; hlt; 6: inc %ax; lret */
    CHECK(trap.ip == 5 && ax == 0xaaaaaaab && trap.sp == 0x800);
}

/* I/O permission: the bitmap decides, whatever IOPL is. */
static void ports(void)
{
    RUN(0, 0xe4, 0x10, 0xf4);
    CHECK(trap.ip == 2);
    tss.bitmap[2] = 1;
    RUN(0, 0xe4, 0x10, 0xf4);
    CHECK(trap.ip == 0);
    RUN(FL_IOPL3, 0xe4, 0x10, 0xf4);
    CHECK(trap.ip == 0);
    tss.bitmap[2] = 0;
}

/* The handler must be at level 0. */
static void handler_level(void)
{
    uint64_t desc = make_desc(0, 0xfffff, 0xfe, 0xc); /* conforming */
    *(volatile uint64_t *)&gdt[FREE_SEL / 8] = desc;
    uint16_t sel = idt[VEC_BP].sel;
    idt[VEC_BP].sel = FREE_SEL;
    RUN(0, 0xcc);
    CHECK_TRAP(VEC_GP, FREE_SEL);
    idt[VEC_BP].sel = sel;
}

int main(void)
{
    trap_hook = note;
    STACK[0] = 0;
    entry_and_exit();
    sensitive();
    ports();
    handler_level();
    return 0;
}
