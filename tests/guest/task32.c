/* tests/guest/task32.c: hardware task switches by JMP, CALL, INT, exception and IRET. SDM vol. 3 chapter 7. */
#include "rt.h"

enum { T1 = FREE_SEL, GATE = FREE_SEL + 8, T16 = FREE_SEL + 16, FREE_DESC = FREE_SEL + 24, BAD = FREE_SEL + 32 };
enum { TSS_AVAIL = 0x89, TSS_BUSY = 0x8b, TASK_GATE = 0x85 };

static struct tss32 task __attribute__((aligned(128)));
static uint8_t task_stack[4096] __attribute__((aligned(16)));

static void set(unsigned sel, uint64_t desc) { *(volatile uint64_t *)&gdt[sel / 8] = desc; }
static unsigned type_of(unsigned sel) { return *(volatile uint64_t *)&gdt[sel / 8] >> 40 & 0xff; }

unsigned long seen[8];
extern char task_entry[], task_error_entry[], task_jmp_back[], task_faults[];
__asm__("task_entry: mov %esp, seen; pushf; popl seen + 4; str seen + 8; mov %cr0, %eax; mov %eax, seen + 12\n"
        "  mov %ebx, seen + 16\n"
        "  incl %edi\n"
        "  iret\n"
        "  jmp task_entry\n" /* the next call of this task goes on here */
        "task_error_entry: popl seen + 20; mov tss + 32, %eax; mov %eax, seen + 24\n"
        "  addl $2, tss + 32\n" /* past the faulting instruction */
        "  iret\n"
        "task_jmp_back: ljmp $0x28, $0\n"
        "task_faults: ud2\n");

static void prepare(const char *entry)
{
    for (unsigned i = 0; i < sizeof(task); i++)
        ((volatile uint8_t *)&task)[i] = 0;
    task.eip = (uintptr_t)entry;
    task.eflags = 2;
    task.esp = (uintptr_t)task_stack + sizeof(task_stack);
    task.esp0 = tss.esp0;
    task.ss0 = KDS;
    task.cs = KCS;
    task.ss = task.ds = task.es = KDS;
    task.fs = task.gs = 0;
    task.ebx = 0x11223344;
    task.iomap = sizeof(task);
    set(T1, make_desc((uintptr_t)&task, sizeof(task) - 1, TSS_AVAIL, 0));
    set(TSS_SEL, (*(volatile uint64_t *)&gdt[TSS_SEL / 8] & ~(0xffull << 40)) | (uint64_t)TSS_BUSY << 40);
    for (unsigned i = 0; i < 8; i++)
        ((volatile unsigned long *)seen)[i] = 0;
}

static void call_and_return(void)
{
    prepare(task_entry);
    unsigned long cr0 = READ_REG(cr0);
    TRY("lcall %0, $0", "i"(T1));
    CHECK_NO_TRAP();
    CHECK(seen[0] == (uintptr_t)task_stack + sizeof(task_stack));
    CHECK((seen[1] & FL_NT) && (uint16_t)seen[2] == T1 && (seen[3] & CR0_TS));
    CHECK(seen[4] == 0x11223344);
    CHECK(task.link == TSS_SEL);
    CHECK(type_of(TSS_SEL) == TSS_BUSY && type_of(T1) == TSS_AVAIL);
    CHECK(task.edi == 1 && !(task.eflags & FL_NT)); /* IRET clears NT in the image it leaves */
    CHECK(READ_REG(cr0) & CR0_TS);
    __asm__ volatile("clts");
    CHECK(READ_REG(cr0) == cr0);
    /* Again: it goes on after its IRET. */
    for (unsigned i = 2; i < 50; i++) {
        TRY("lcall %0, $0", "i"(T1));
        CHECK_NO_TRAP();
        CHECK(task.edi == i);
    }
    /* Registers of the caller survive in its TSS. */
    unsigned long a = 1, b = 2;
    __asm__ volatile("lcall %2, $0" : "+a"(a), "+b"(b) : "i"(T1) : "memory");
    CHECK(a == 1 && b == 2);
}

static void jump(void)
{
    prepare(task_jmp_back);
    task.eflags = 2;
    TRY("ljmp %0, $0", "i"(T1));
    CHECK_NO_TRAP();
    CHECK(task.link == 0); /* a jump links nothing */
    CHECK(type_of(TSS_SEL) == TSS_BUSY && type_of(T1) == TSS_AVAIL);
    prepare(task_jmp_back);
    set(GATE, make_gate(0, T1, TASK_GATE, 0));
    TRY("ljmp %0, $0", "i"(GATE));
    CHECK_NO_TRAP();
}

static void interrupt_gates(void)
{
    uint64_t saved = *(volatile uint64_t *)&idt[0x70];
    prepare(task_entry);
    *(volatile uint64_t *)&idt[0x70] = make_gate(0, T1, TASK_GATE, 0);
    TRY("int $0x70");
    CHECK_NO_TRAP();
    CHECK(task.edi == 1 && task.link == TSS_SEL);
    TRY_USER("int $0x70"); /* the gate's DPL */
    CHECK_TRAP(VEC_GP, 0x70 * 8 + 2);
    *(volatile uint64_t *)&idt[0x70] = make_gate(0, T1, TASK_GATE | 0x60, 0);
    TRY_USER("int $0x70");
    CHECK_USER_OK();
    *(volatile uint64_t *)&idt[0x70] = saved;
    /* An exception: its error code is on the new task's stack, EIP of the old is the faulting instruction's. */
    saved = *(volatile uint64_t *)&idt[VEC_GP];
    prepare(task_error_entry);
    *(volatile uint64_t *)&idt[VEC_GP] = make_gate(0, T1, TASK_GATE, 0);
    __asm__ volatile("movl $1f, want; mov %0, %%eax\n1: mov %%eax, %%es" : : "i"(BAD) : "eax", "memory");
    CHECK(seen[5] == BAD && seen[6] == want);
    *(volatile uint64_t *)&idt[VEC_GP] = saved;
    __asm__ volatile("mov %0, %%es" : : "r"(KDS));
}

static void bad_descriptors(void)
{
    prepare(task_entry);
    set(T1, make_desc((uintptr_t)&task, sizeof(task) - 1, TSS_BUSY, 0));
    TRY("lcall %0, $0", "i"(T1));
    CHECK_TRAP(VEC_GP, T1);
    TRY("ljmp %0, $0", "i"(TSS_SEL));
    CHECK_TRAP(VEC_GP, TSS_SEL);
    set(T1, make_desc((uintptr_t)&task, sizeof(task) - 1, TSS_AVAIL & ~0x80, 0));
    TRY("lcall %0, $0", "i"(T1));
    CHECK_TRAP(VEC_NP, T1);
    set(T1, make_desc((uintptr_t)&task, 0x66, TSS_AVAIL, 0));
    TRY("lcall %0, $0", "i"(T1));
    CHECK_TRAP(VEC_TS, T1);
    prepare(task_entry);
    TRY_USER("lcall %[t], $0", [t] "i"(T1));
    CHECK_TRAP(VEC_GP, T1);
    set(GATE, make_gate(0, KDS, TASK_GATE, 0));
    TRY("lcall %0, $0", "i"(GATE));
    CHECK_TRAP(VEC_GP, KDS);
    set(GATE, make_gate(0, T1, TASK_GATE & ~0x80, 0));
    TRY("lcall %0, $0", "i"(GATE));
    CHECK_TRAP(VEC_NP, GATE);
    /* IRET with NT: the link must name a busy TSS. */
    *(volatile uint32_t *)(void *)&tss = T1;
    TRY("pushf; orl $0x4000, (%%esp); popf; iret");
    CHECK_TRAP(VEC_TS, T1);
    *(volatile uint32_t *)(void *)&tss = KDS;
    TRY("pushf; orl $0x4000, (%%esp); popf; iret");
    CHECK_TRAP(VEC_TS, KDS);
}

/* A fault that is found after the switch is the new task's: it is the one whose state is saved, and TR names it. */
static unsigned handler_tr;
static bool note_tr(struct frame *f)
{
    uint16_t tr;
    (void)f;
    __asm__ volatile("str %0" : "=r"(tr));
    handler_tr = tr;
    return false;
}

static void faults_in_the_new_task(void)
{
    static const struct { uint16_t sel, error; uint8_t where; } bad[] = {
        {0xfff8, 0xfff8, offsetof(struct tss32, ds)},
        {KCS | 3, KCS, offsetof(struct tss32, es)},
    };
    trap_hook = note_tr;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        prepare(task_entry);
        *(volatile uint16_t *)((uint8_t *)&task + bad[i].where) = bad[i].sel;
        TRY("ljmp %0, $0", "i"(T1));
        CHECK_TRAP(VEC_TS, bad[i].error);
        CHECK(handler_tr == T1);
        CHECK(!on_hyperwind || trap.ip == (uintptr_t)task_entry); /* QEMU tells the old one */
        set(TSS_SEL, (*(volatile uint64_t *)&gdt[TSS_SEL / 8] & ~(0xffull << 40)) | (uint64_t)TSS_AVAIL << 40);
        __asm__ volatile("ltr %w0" : : "r"(TSS_SEL)); /* back to the main task */
    }
    trap_hook = NULL;
}

/* 16-bit TSS: only the low halves are there. */
static void tss16(void)
{
    static volatile uint16_t t[22];
    extern char task16_entry[];
    t[0x0e / 2] = 0; /* IP */
    t[0x10 / 2] = 2;
    for (unsigned i = 0x12 / 2; i < 0x22 / 2; i++)
        t[i] = (uint16_t)(0x1000 + i);
    t[0x1a / 2] = 0x800; /* SP */
    t[0x22 / 2] = t[0x26 / 2] = t[0x28 / 2] = FREE_SEL + 48; /* ES SS DS */
    t[0x24 / 2] = FREE_SEL + 40;                             /* CS */
    t[0x2a / 2] = 0;
    set(FREE_SEL + 40, make_desc((uintptr_t)task16_entry, 0xffff, 0x9a, 0));
    set(FREE_SEL + 48, make_desc((uintptr_t)task_stack, 0xfff, 0x92, 0));
    set(T16, make_desc((uintptr_t)t, 0x2b, 0x81, 0));
    TRY("lcall %0, $0", "i"(T16));
    CHECK_NO_TRAP();
    CHECK(t[0] == TSS_SEL);
    CHECK(t[0x12 / 2] == 0x1009 + 1); /* it did INC AX */
    CHECK((gdt[T16 / 8] >> 40 & 0xff) == 0x81);
}
__asm__(".code16\ntask16_entry: inc %ax; iret; jmp task16_entry\n.code32\n");

int main(void)
{
    call_and_return();
    jump();
    interrupt_gates();
    bad_descriptors();
    faults_in_the_new_task();
    tss16();
    return 0;
}
