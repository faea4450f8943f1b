/* tests/guest/exceptions64.c: exceptions and their frames in 64-bit mode: vectors, error codes, saved RIP and flags, IST,
 * stack alignment, gate and privilege checks, double fault. SDM vol. 3 chapter 6. */
#include "rt.h"

#define NON_CANONICAL 0x800000000000ul

/* Error code of a fault at an IDT entry; QEMU's TCG multiplies by the size of a gate, 16. */
#define IDT_ERROR(vec) ((vec) * (on_hyperwind ? 8 : 16) + 2)

static void faults(void)
{
    TRY(HERE "div %%ecx", "c"(0), "d"(0));
    CHECK_TRAP(VEC_DE, 0);
    CHECK(trap.ip == want);
    CHECK(!on_hyperwind || (trap.flags & FL_RF)); /* QEMU leaves RF clear */
    TRY(HERE "ud2");
    CHECK_TRAP(VEC_UD, 0);
    CHECK(trap.ip == want && trap.cs == KCS && trap.ss == KDS);
    TRY(HERE ".byte 0x0f, 0xff, 0x00"); /* UD0 with a ModRM byte */
    CHECK_TRAP(VEC_UD, 0);
    TRY("rsm");
    CHECK_TRAP(VEC_UD, 0);
    TRY(".byte 0xf0, 0x89, 0xc8"); /* LOCK MOV */
    CHECK_TRAP_NOT_QEMU(VEC_UD, 0); /* executes it */
    TRY(HERE "mov (%%rcx), %%eax", "c"(NON_CANONICAL));
    CHECK_TRAP(VEC_GP, 0);
    CHECK(trap.ip == want);
    if (on_hyperwind) { /* QEMU raises #GP, on the stack that is not there */
        idt[VEC_SS].attr = 0x8e01;
        TRY("mov %%rcx, %%rsp; push %%rax", "c"(NON_CANONICAL + 0x100));
        CHECK_TRAP(VEC_SS, 0);
        CHECK(trap.sp == NON_CANONICAL + 0x100);
        idt[VEC_SS].attr = 0x8e00;
    }
    TRY("jmp *%%rcx", "c"(NON_CANONICAL));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%ecx, %%ds", "c"(0xfff8));
    CHECK_TRAP(VEC_GP, 0xfff8);
    TRY(".byte 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x90, 0x90"); /* 15: fine */
    CHECK_NO_TRAP();
    TRY(".byte 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x90");
    CHECK_TRAP(VEC_GP, 0);
    CHECK(trap_hook == NULL);
}

static void software_interrupts(void)
{
    TRY("int3; lea (%%rip), %%rax; 7:");
    CHECK_TRAP(VEC_BP, 0);
    CHECK(!(trap.flags & FL_RF));
    TRY("lea 7f(%%rip), %%r8; mov %%r8, want; int $0x55; 7:");
    CHECK_TRAP(0x55, 0);
    CHECK(trap.ip == want);
    if (on_hyperwind) { /* QEMU gives INT1 to its debugger */
        TRY("lea 7f(%%rip), %%r8; mov %%r8, want; .byte 0xf1; 7:");
        CHECK_TRAP(VEC_DB, 0);
        CHECK(trap.ip == want);
        TRY_USER(".byte 0xf1"); /* the gate's DPL does not matter */
        CHECK_TRAP(VEC_DB, 0);
    }
    /* From CPL 3 the gate's DPL counts: not present or not, a #GP names the vector, without EXT. */
    TRY_USER("lea 8b(%%rip), %%rax; int $0x55");
    CHECK_TRAP(VEC_GP, IDT_ERROR(0x55));
    CHECK(trap.cs == UCS && trap.ss == UDS && trap.sp == USER_STACK_TOP);
    TRY_USER("int3");
    CHECK_TRAP(VEC_BP, 0);
    TRY_USER("nop");
    CHECK_USER_OK();
    idt[0x55].attr = 0x6e00; /* not present, DPL 3 */
    TRY("int $0x55");
    CHECK_TRAP(VEC_NP, IDT_ERROR(0x55));
    idt[0x55].attr = 0x8500; /* a task gate */
    TRY("int $0x55");
    CHECK_TRAP(VEC_GP, IDT_ERROR(0x55));
    idt[0x55].attr = 0x8600; /* a 16-bit gate */
    TRY("int $0x55");
    CHECK_TRAP(VEC_GP, IDT_ERROR(0x55));
    idt[0x55].attr = 0x8e00;
    idt[0x55].sel = 0;
    TRY("int $0x55");
    CHECK_TRAP(VEC_GP, 0);
    idt[0x55].sel = KDS;
    TRY("int $0x55");
    CHECK_TRAP(VEC_GP, KDS);
    idt[0x55].sel = KCS32; /* a handler must be 64-bit code */
    TRY("int $0x55");
    CHECK_TRAP(VEC_GP, KCS32);
    idt[0x55].sel = KCS;
}

/* The frame lies on the stack that rules ask for, aligned to 16 bytes. */
static void stacks(void)
{
    unsigned long top = (unsigned long)ist_stack + sizeof(ist_stack);
    TRY("sub $5, %%rsp; int $0x55"); /* the pointer is aligned before the pushes */
    CHECK_TRAP(0x55, 0);
    CHECK((trap.at & 15) == 8);
    CHECK((trap.sp & 15) == 3 || (trap.sp & 7) == 3);
    idt[0x55].attr = 0x8e01; /* IST 1 */
    TRY("int $0x55");
    CHECK(trap.at == top - 40);
    CHECK(trap.ss == KDS);
    idt[VEC_UD].attr = 0x8e01;
    TRY_USER("ud2");
    CHECK_TRAP(VEC_UD, 0);
    CHECK(trap.at == top - 40 && trap.sp == USER_STACK_TOP);
    idt[VEC_UD].attr = 0x8e00;
    tss.ist[0] = NON_CANONICAL;
    TRY("int $0x55");
    CHECK_TRAP(VEC_SS, 0); /* INT n: no EXT bit */
    tss.ist[0] = top;
    idt[0x55].attr = 0x8e00;
    TRY_USER("ud2");
    CHECK(trap.at == tss.rsp[0] - 40);
}

/* An interrupt gate clears IF, a trap gate keeps it; both clear TF, NT. */
static bool seen_if;
static bool note_if(struct frame *f)
{
    unsigned long flags;
    (void)f;
    __asm__ volatile("pushf; pop %0" : "=r"(flags));
    seen_if = flags & FL_IF;
    return false;
}

static void gate_types(void)
{
    trap_hook = note_if;
    TRY("sti; int $0x55");
    CHECK(!seen_if && (trap.flags & FL_IF));
    idt[0x55].attr = 0x8f00;
    TRY("sti; int $0x55");
    CHECK(seen_if);
    idt[0x55].attr = 0x8e00;
    trap_hook = NULL;
    TRY("pushf; orl $0x4000, (%%rsp); popf; int $0x55");
    CHECK(trap.flags & FL_NT);
    TRY("pushf; orl $0x4000, (%%rsp); popf; iretq"); /* a nested task cannot return in IA-32e mode */
    CHECK_TRAP(VEC_GP, 0);
}

static void page_fault_codes(void)
{
    static volatile uint64_t pt[512] __attribute__((aligned(4096)));
    volatile char *page = (volatile char *)0xc0000000ul;
    uint64_t old = pd_low[3][0];
    pd_low[3][0] = (uintptr_t)pt | 3;
    invlpg((void *)page);
    TRY(HERE "movb $0, (%%rcx)", "c"(page));
    CHECK_TRAP(VEC_PF, 2);
    CHECK(trap.cr2 == (unsigned long)page && trap.ip == want);
    TRY("mov 4094(%%rcx), %%eax", "c"(page)); /* CR2 is the first byte that faults */
    CHECK_TRAP(VEC_PF, 0);
    CHECK(trap.cr2 == (unsigned long)page + 4094);
    pt[0] = 0x200001; /* present, read-only */
    invlpg((void *)page);
    TRY("mov 4094(%%rcx), %%eax", "c"(page));
    CHECK_TRAP(VEC_PF, 0);
    CHECK(trap.cr2 == (unsigned long)page + 4096);
    TRY("movb $0, (%%rcx)", "c"(page));
    CHECK_TRAP(VEC_PF, 3);
    TRY_USER("movb $0, (%%rcx)", "c"(page));
    CHECK_TRAP(VEC_PF, 7);
    TRY_USER("mov (%%rcx), %%eax", "c"(page));
    CHECK_TRAP(VEC_PF, 5);
    pt[0] = 0x200003 | 1ull << 51; /* a reserved bit */
    invlpg((void *)page);
    TRY("mov (%%rcx), %%eax", "c"(page));
    CHECK_TRAP_NOT_QEMU(VEC_PF, 9); /* leaves P clear */
    pt[0] = 0x200003 | 1ull << 63; /* no execute */
    invlpg((void *)page);
    TRY("jmp *%%rcx", "c"(page));
    CHECK_TRAP(VEC_PF, 0x11);
    CHECK(trap.ip == (unsigned long)page);
    pd_low[3][0] = old;
    invlpg((void *)page);
}

/* A #PF whose handler's gate is not present: #NP is contributory, so a double fault, with error code 0. */
/* CF is of the ADD, the others are of the INC; the instruction behind the one that faults would write all flags anew. */
#define FLAGS_KEPT(insns, error)                                                                       \
    do {                                                                                               \
        TRY("mov $0x7fffffff, %%esi; mov $-1, %%eax; add $1, %%eax; inc %%esi;" insns "; xor %%eax, %%eax", \
            "c"(0xc0000000ul));                                                                        \
        CHECK_TRAP(VEC_PF, error);                                                                     \
        CHECK((trap.flags & 0x8d5) == 0x895);                                                          \
    } while (0)

static void flags_at_faults(void)
{
    uint64_t old = pd_low[3][0];
    pd_low[3][0] = 0;
    invlpg((const void *)0xc0000000ul);
    FLAGS_KEPT("mov (%%rcx), %%edx", 0);
    FLAGS_KEPT("mov %%edx, (%%rcx)", 2);
    FLAGS_KEPT("mov %%rcx, %%rbp; leave", 0);
    FLAGS_KEPT("btl %%eax, (%%rcx)", 0);
    FLAGS_KEPT("btsq %%rax, (%%rcx)", 2);
    FLAGS_KEPT("divl (%%rcx)", 0);
    FLAGS_KEPT("pushq (%%rcx)", 0);
    FLAGS_KEPT("lea 4(%%rcx), %%rdi; rep stosb", 2);
    pd_low[3][0] = old;
    invlpg((const void *)0xc0000000ul);
}

static void double_fault(void)
{
    idt[VEC_PF].attr = 0x0e00;
    pd_low[3][0] &= ~1ull;
    invlpg((void *)0xc0000000ul);
    TRY("mov (%%rcx), %%eax", "c"(0xc0000000ul));
    CHECK_TRAP(VEC_DF, 0);
    CHECK(trap.cr2 == 0xc0000000ul);
    pd_low[3][0] |= 1;
    idt[VEC_PF].attr = 0x8e00;

    idt[VEC_GP].attr = 0x0e00;
    TRY("mov (%%rcx), %%eax", "c"(NON_CANONICAL));
    CHECK_TRAP(VEC_DF, 0);
    TRY("int $0x66"); /* a benign interrupt first: it works */
    CHECK_TRAP(0x66, 0);
    idt[VEC_GP].attr = 0x8e00;
    /* A benign fault first: the second is handled in its place, with EXT. */
    idt[VEC_UD].attr = 0x0e00;
    TRY(HERE "ud2");
    CHECK_TRAP_NOT_QEMU(VEC_NP, IDT_ERROR(VEC_UD) + 1); /* has no EXT bit */
    CHECK(trap.ip == want);
    idt[VEC_UD].attr = 0x8e00;
    /* The same for #PF, which is no contributory fault, after a contributory one. */
}

static void alignment_check(void)
{
    WRITE_REG(cr0, READ_REG(cr0) | CR0_AM);
    TRY_USER_FLAGS(FL_AC, "mov -3(%%rsp), %%eax");
    CHECK_TRAP_NOT_QEMU(VEC_AC, 0); /* has no alignment check */
    TRY_USER_FLAGS(FL_AC, "mov -4(%%rsp), %%eax; mov -2(%%rsp), %%ax; mov -1(%%rsp), %%al");
    CHECK_USER_OK();
    TRY_USER_FLAGS(0, "mov -3(%%rsp), %%eax");
    CHECK_USER_OK();
    TRY("pushf; orl $0x40000, (%%rsp); popf; mov -3(%%rsp), %%eax"); /* CPL 0 is not checked */
    CHECK_NO_TRAP();
}

static void privileged(void)
{
    TRY_USER("hlt");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("cli");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER_FLAGS(FL_IOPL3, "cli; sti");
    CHECK_USER_OK();
    TRY_USER("mov %%cr0, %%rax");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("mov %%dr0, %%rax");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("rdmsr", "c"(0x10));
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("invlpg (%%rsp)");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("swapgs");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("clac");
    CHECK_TRAP(VEC_UD, 0);
    TRY_USER("lgdt (%%rsp)");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("wbinvd");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("sysretq");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("ltr %%ax");
    CHECK_TRAP(VEC_GP, 0);
}

/* POPF at CPL 3 leaves IF and IOPL alone; at CPL 0 it loads them. */
static void popf_rules(void)
{
    TRY_USER("push $0x3202; popf; pushf; pop %%rdi; test $0x3200, %%edi; jz 7f; ud2; 7:");
    CHECK_USER_OK();
    TRY_USER_FLAGS(FL_IOPL3, "push $0x0202; popf; pushf; pop %%rdx; and $0x3200, %%edx; cmp $0x3200, %%edx; je 7f; ud2; 7:");
    CHECK_USER_OK();
}

int main(void)
{
    faults();
    software_interrupts();
    stacks();
    gate_types();
    page_fault_codes();
    flags_at_faults();
    double_fault();
    alignment_check();
    privileged();
    popf_rules();
    return 0;
}
