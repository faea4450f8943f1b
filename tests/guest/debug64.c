/* tests/guest/debug64.c: single-stepping, breakpoints, and what holds events off: the shadows of STI and MOV SS, NMI blocking.
 * SDM vol. 3, 6.7 to 6.9 and chapter 17. */
#include "rt.h"

enum { DR6_B0 = 1, DR6_B1 = 2, DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR7_L0 = 1, DR7_L1 = 4, DR7_GD = 1 << 13 };
#define DR7_RW0(rw, len) ((unsigned long)(rw) << 16 | (unsigned long)(len) << 18)
enum { RW_EXEC, RW_WRITE, RW_IO, RW_ACCESS };
enum { LEN1, LEN2, LEN8, LEN4 };

/* ---- recording traps that return ---- */

static volatile struct { unsigned long vector, ip, flags, dr6; } log[32];
static volatile unsigned logged, steps_left;

static bool record(struct frame *f)
{
    if (f->vector != VEC_DB && f->vector != 0x50)
        return false;
    if (logged < 32) {
        log[logged].vector = f->vector;
        log[logged].ip = f->ip;
        log[logged].flags = f->flags;
        log[logged].dr6 = READ_REG(dr6);
        logged++;
    }
    WRITE_REG(dr6, 0xffff0ff0);
    if (steps_left && --steps_left == 0)
        f->flags &= ~(unsigned long)FL_TF;
    f->flags |= FL_RF; /* so that an instruction breakpoint does not hit again */
    return true;
}

static void start(unsigned steps)
{
    logged = 0;
    steps_left = steps;
    trap_hook = record;
}

/* Addresses inside the assembly of a TRY. */
unsigned long mark[8];
#define SET_TF "pushf; orl $0x100, (%%rsp); popf\n"

static void single_step(void)
{
    start(3);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, mark; lea 2f(%%rip), %%r8; mov %%r8, mark + 8\n"
        "lea 3f(%%rip), %%r8; mov %%r8, mark + 16\n" SET_TF "nop\n1: nop\n2: nop\n3:");
    CHECK(logged == 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(log[i].vector == VEC_DB && log[i].ip == mark[i]);
        CHECK((log[i].dr6 & (DR6_BS | 0xf)) == DR6_BS);
        CHECK(log[i].flags & FL_TF);
        CHECK(!(log[i].flags & FL_RF));
    }
    /* One trap for each iteration of a string instruction. */
    static uint8_t src[4], dst[4];
    start(4);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, mark\n" SET_TF "1: rep movsb\n2: nop", "S"(src), "D"(dst), "c"(3));
    CHECK(logged == 4);
    CHECK(log[0].ip == mark[0] && log[1].ip == mark[0] && log[2].ip == mark[0] + 2);
    /* INT n: no trap in or after the delivery; the saved flags have TF. */
    start(0);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, mark\n" SET_TF "int $0x50\n1: pushf; andl $0xfffffeff, (%%rsp); popf");
    CHECK(log[0].vector == 0x50 && log[0].ip == mark[0] && (log[0].flags & FL_TF));
    CHECK(log[1].vector == VEC_DB && log[1].ip > mark[0]); /* IRET loaded TF: one instruction later */
    /* An instruction that faults is not stepped over: no trap but the fault. */
    start(0);
    TRY(SET_TF "ud2");
    CHECK_TRAP(VEC_UD, 0);
    CHECK(logged == 0 && (trap.flags & FL_TF));
    /* POPF that clears TF is stepped over: TF was set at its start. */
    start(0);
    TRY("push $2; push $2; pop %%r9\n lea 1f(%%rip), %%r8; mov %%r8, mark\n pushf; pop %%r9; or $0x100, %%r9; push %%r9; popf\n"
        "popf\n1: nop; nop");
    CHECK(logged == 1 && log[0].ip == mark[0]);
    /* MOV SS: its trap waits for the next instruction's. */
    start(1);
    TRY("mov %%ss, %%r9d; lea 1f(%%rip), %%r8; mov %%r8, mark\n" SET_TF "mov %%r9d, %%ss; nop\n1: nop");
    CHECK(logged == 1 && log[0].ip == mark[0]);
    /* In user mode too. */
    start(2);
    TRY_USER_FLAGS(FL_TF, "nop; nop; nop");
    CHECK_USER_OK();
    CHECK(logged == 2);
}

static volatile uint64_t watched[2] __attribute__((aligned(16)));

static void set_dr7(unsigned long dr7)
{
    WRITE_REG(dr6, 0xffff0ff0);
    WRITE_REG(dr7, dr7 | 0x400);
}

static void data_breakpoints(void)
{
    WRITE_REG(dr0, watched);
    set_dr7(DR7_L0 | DR7_RW0(RW_WRITE, LEN4));
    start(0);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, mark\n movl $1, (%%rcx)\n1: nop", "c"(watched));
    CHECK(logged == 1 && log[0].ip == mark[0] && (log[0].dr6 & 0xf) == DR6_B0); /* a trap: after the write */
    CHECK(watched[0] == 1);
    start(0);
    TRY("mov (%%rcx), %%r8d; movb $1, 4(%%rcx); movl $1, -4(%%rcx)", "c"(watched)); /* a read; neighbours */
    CHECK(logged == 0);
    TRY("movb $1, 3(%%rcx); movq $1, -7(%%rcx)", "c"(watched)); /* one byte is enough */
    CHECK(logged == 1 || logged == 2);
    for (unsigned i = 0; i < logged; i++)
        CHECK(log[i].dr6 & DR6_B0);
    set_dr7(DR7_L0 | DR7_RW0(RW_ACCESS, LEN8));
    start(0);
    TRY("mov 7(%%rcx), %%r8b; mov 8(%%rcx), %%r8b; addl $1, (%%rcx); lea (%%rcx), %%r8", "c"(watched));
    CHECK(logged == 2);
    start(0);
    idt[VEC_DB].attr = 0x8e01; /* on a stack of its own */
    TRY("mov %%rsp, %%r9; lea 8(%%rcx), %%rsp; push %%rax; mov %%r9, %%rsp", "c"(watched));
    CHECK(logged == 1);
    idt[VEC_DB].attr = 0x8e00;
    /* In a repeated string instruction: after the iteration. */
    static uint64_t src[4];
    start(0);
    TRY("rep movsq", "S"(src), "D"(watched - 1), "c"(3));
    CHECK(logged == 1);
    /* An access that faults triggers nothing. */
    start(0);
    TRY("movsq", "S"(watched), "D"(0x7f0000000000ul));
    CHECK(trap.vector == VEC_PF);
    CHECK(!on_hyperwind || logged == 0);
    trap_hook = NULL;
    set_dr7(0);
    start(0);
    TRY("movl $1, (%%rcx)", "c"(watched));
    CHECK(logged == 0);
}

static void mov_ss_and_breakpoint(void)
{
    static volatile uint16_t selector = KDS;
    WRITE_REG(dr0, &selector);
    set_dr7(DR7_L0 | DR7_RW0(RW_ACCESS, LEN2));
    start(0);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, mark\n mov (%%rcx), %%ss; nop\n1: nop", "c"(&selector));
    CHECK(logged == 1);
    CHECK(!on_hyperwind || log[0].ip == mark[0]); /* QEMU traps at once */
    set_dr7(0);
}

static void instruction_breakpoints(void)
{
    start(0);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, %%dr1; mov %%r8, mark; mov %%rcx, %%dr7\n nop\n1: inc %%edx\n mov %%edx, mark + 8",
        "c"(DR7_L1 | 0x400ul), "d"(5));
    CHECK(logged == 1 && log[0].vector == VEC_DB && log[0].ip == mark[0]); /* a fault: before it */
    CHECK((log[0].dr6 & 0xf) == DR6_B1);
    CHECK(!(log[0].flags & FL_RF));
    CHECK((uint32_t)mark[1] == 6); /* RF let it pass, once */
    start(0);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, %%dr1\n mov $3, %%r9d\n1: dec %%r9d; jnz 1b");
    CHECK(logged == 3);
    set_dr7(0);
}

static void debug_register_rules(void)
{
    trap_hook = NULL;
    if (on_hyperwind) { /* QEMU knows no general detect */
        set_dr7(DR7_GD);
        TRY(HERE "mov %%dr0, %%r9");
        CHECK_TRAP(VEC_DB, 0);
        CHECK(trap.ip == want && (READ_REG(dr6) & DR6_BD) && !(READ_REG(dr7) & DR7_GD));
        CHECK(trap.flags & FL_RF);
    }
    set_dr7(0);
    unsigned long cr4 = READ_REG(cr4);
    TRY(".byte 0x0f, 0x21, 0xe0"); /* mov %dr4, %rax: DR6 */
    CHECK_NO_TRAP();
    WRITE_REG(cr4, cr4 | CR4_DE);
    TRY(".byte 0x0f, 0x21, 0xe0");
    CHECK_TRAP(VEC_UD, 0);
    TRY("mov %%rcx, %%dr7", "c"(1ul << 32));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%rcx, %%dr6", "c"(1ul << 32));
    CHECK_TRAP(VEC_GP, 0);
    WRITE_REG(dr6, 0);
    CHECK(READ_REG(dr6) == 0xffff0ff0 || !on_hyperwind);
    WRITE_REG(dr7, 0);
    CHECK(READ_REG(dr7) == 0x400);
    /* I/O breakpoints need CR4.DE. */
    WRITE_REG(dr0, 0x80);
    set_dr7(DR7_L0 | DR7_RW0(RW_IO, LEN1));
    start(0);
    TRY("lea 1f(%%rip), %%r8; mov %%r8, mark\n out %%al, $0x80\n1: nop");
    CHECK(logged == 1 && log[0].ip == mark[0]);
    TRY("out %%al, $0x81");
    CHECK(logged == 1);
    WRITE_REG(cr4, cr4);
    set_dr7(0);
}

/* ---- interrupts, through the local APIC ---- */

#define APIC(reg) (*(volatile uint32_t *)(0xfee00000ul + (reg)))
enum { APIC_EOI = 0xb0, APIC_SVR = 0xf0, APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310, IRQ_VECTOR = 0x60 };

static volatile unsigned irqs, nmis, nmi_depth, nmi_max_depth;
static volatile unsigned long irq_ip;

static void send_nmi(void)
{
    APIC(APIC_ICR_HIGH) = 0; /* to APIC id 0, ourselves */
    APIC(APIC_ICR) = 0x4400;
    (void)APIC(APIC_ICR);
}

static bool take_irq(struct frame *f)
{
    if (f->vector == IRQ_VECTOR) {
        irqs++;
        irq_ip = f->ip;
        APIC(APIC_EOI) = 0;
        return true;
    }
    if (f->vector == VEC_NMI) {
        nmis++;
        nmi_depth++;
        if (nmi_depth > nmi_max_depth)
            nmi_max_depth = nmi_depth;
        if (nmis < 3) { /* a second one waits for the IRET, two of them are one */
            send_nmi();
            send_nmi();
            for (volatile int i = 0; i < 100; i++)
                ;
        }
        nmi_depth--;
        return true;
    }
    return false;
}

#define TRY_IRQ(insns, ...)                                                                            \
    do {                                                                                               \
        irqs = 0;                                                                                      \
        TRY("lea 1f(%%rip), %%r8; mov %%r8, mark\n mov $0xfee00300, %%r8d; movl $0x40060, (%%r8); mov (%%r8), %%r8d\n" insns, \
            ##__VA_ARGS__);                                                                            \
    } while (0)

static void interrupts(void)
{
    APIC(APIC_SVR) = 0x1ff;
    trap_hook = take_irq;
    TRY_IRQ("sti; nop\n1: nop; cli"); /* one instruction after STI is free */
    CHECK(irqs == 1 && irq_ip == mark[0]);
    TRY_IRQ("sti; cli\n nop; nop\n 1:");
    CHECK(irqs == 0);
    TRY("sti; nop; cli");
    CHECK(irqs == 1);
    TRY_IRQ("mov %%ss, %%r9d; sti; mov %%r9d, %%ss; nop\n1: nop; cli"); /* MOV SS after STI goes on holding off */
    CHECK(irqs == 1 && (!on_hyperwind || irq_ip == mark[0])); /* QEMU waits for the end of its block */
    TRY_IRQ("sti; hlt\n1: cli"); /* HLT is in the shadow: it halts, then wakes */
    CHECK(irqs == 1 && irq_ip == mark[0]);
    TRY_IRQ("pushf; orl $0x200, (%%rsp); popf\n1: nop; cli"); /* POPF has no shadow */
    CHECK(irqs == 1 && irq_ip == mark[0]);
    /* CR8 masks by priority class. */
    WRITE_REG(cr8, IRQ_VECTOR >> 4);
    TRY_IRQ("sti; nop; nop\n1: cli");
    CHECK(irqs == 0);
    TRY("sti; xor %%r8d, %%r8d; mov %%r8, %%cr8\n nop; cli");
    CHECK(irqs == 1);
    WRITE_REG(cr8, 0);
}

static void nmi(void)
{
    nmis = nmi_max_depth = 0;
    send_nmi();
    for (volatile int i = 0; i < 100; i++)
        ;
    CHECK(nmis == 3 && nmi_max_depth == 1);
}

int main(void)
{
    single_step();
    data_breakpoints();
    mov_ss_and_breakpoint();
    instruction_breakpoints();
    debug_register_rules();
    interrupts();
    nmi();
    return 0;
}
