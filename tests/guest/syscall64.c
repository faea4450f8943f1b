/* tests/guest/syscall64.c: SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, FSGSBASE, and the checks of MSR and control register
 * writes. SDM vol. 2 for each; vol. 3, 2.5 and 4.10.1; vol. 4. */
#include "rt.h"

enum {
    MSR_STAR = 0xc0000081u, MSR_LSTAR = 0xc0000082u, MSR_CSTAR = 0xc0000083u, MSR_FMASK = 0xc0000084u,
    MSR_FS_BASE = 0xc0000100u, MSR_GS_BASE = 0xc0000101u, MSR_KERNEL_GS_BASE = 0xc0000102u, MSR_TSC_AUX = 0xc0000103u,
    MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176, MSR_PAT = 0x277, MSR_TSC = 0x10,
    MSR_TSC_ADJUST = 0x3b,
};
#define NON_CANONICAL 0x800000000000ul

extern char entry[];
struct seen { unsigned long rcx, r11, flags, cs, ss, rsp; } seen;

/* Where SYSCALL and SYSENTER land: note the state, then end the TRY as a trap would. */
__asm__(".globl entry\n"
        "entry:\n"
        "  mov %rsp, seen+40\n"
        "  mov resume_sp, %rsp\n"
        "  mov %rcx, seen\n"
        "  mov %r11, seen+8\n"
        "  pushf; popq seen+16\n"
        "  mov %cs, %ecx; mov %rcx, seen+24\n"
        "  mov %ss, %ecx; mov %rcx, seen+32\n"
        "  mov %ecx, %ds\n"
        "  jmp *resume_ip\n");

static void try_wrmsr(uint32_t msr, uint64_t value)
{
    TRY("wrmsr", "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}
static void try_rdmsr(uint32_t msr)
{
    TRY("rdmsr", "c"(msr));
}

static void syscall(void)
{
    wrmsr(MSR_STAR, (uint64_t)KCS << 32 | (uint64_t)0x18 << 48);
    wrmsr(MSR_LSTAR, (uintptr_t)entry);
    wrmsr(MSR_FMASK, FL_CF | FL_IF);
    TRY_USER_FLAGS(FL_CF | FL_ZF, "syscall");
    CHECK_NO_TRAP();
    CHECK(seen.cs == KCS && seen.ss == KDS);
    CHECK((seen.r11 & (FL_CF | FL_ZF)) == (FL_CF | FL_ZF));
    CHECK(!on_hyperwind || (seen.flags & (FL_CF | FL_ZF)) == FL_ZF); /* QEMU clears all arithmetic flags */
    CHECK(seen.rsp == USER_STACK_TOP);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_SCE);
    TRY_USER("syscall");
    CHECK_TRAP(VEC_UD, 0);
    TRY("sysretq", "c"(0));
    CHECK_TRAP(VEC_UD, 0);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    if (on_hyperwind) { /* outside 64-bit mode Intel's raises #UD */
        user_low(true);
        TRY_USER32("syscall");
        CHECK_TRAP(VEC_UD, 0);
        user_low(false);
    }
}

extern char ret64[], ret32[];
__asm__("ret64: mov %cs, %ecx; mov %ss, %edx; ud2\n"
        ".code32\nret32: mov %cs, %ecx; mov %ss, %edx; ud2\n.code64\n");

static unsigned long user_cx, user_dx, user_flags;
static bool note_user(struct frame *f)
{
    user_cx = f->cx;
    user_dx = f->dx;
    user_flags = f->flags;
    return false;
}

static void sysret(void)
{
    trap_hook = note_user;
    TRY("mov %%rdx, %%r11; sysretq", "c"(user_ptr(ret64)), "d"(FL_CF | FL_RF | FL_IF | (on_hyperwind ? FL_VM : 0))); /* QEMU takes VM */
    CHECK_TRAP(VEC_UD, 0);
    CHECK(trap.cs == UCS && trap.ss == UDS && user_cx == UCS && user_dx == UDS);
    CHECK((user_flags & (FL_CF | FL_VM | FL_IF)) == (FL_CF | FL_IF));
    /* 32-bit code lies in the first 4 GiB: give the user a page there. */
    user_low(true);
    TRY("mov $2, %%r11d; sysretl", "c"(ret32));
    CHECK_TRAP(VEC_UD, 0);
    CHECK(trap.cs == UCS32 && user_cx == UCS32 && user_dx == UDS);
    TRY("mov $2, %%r11d; sysretq", "c"(NON_CANONICAL));
    CHECK_TRAP(VEC_GP, 0);
    CHECK(!on_hyperwind || trap.cs == KCS); /* before the privilege changes; QEMU does as AMD's */
    user_low(false);
    trap_hook = NULL;
}

static void sysenter(void)
{
    wrmsr(MSR_SYSENTER_CS, 0);
    TRY_USER("sysenter");
    CHECK_TRAP(VEC_GP, 0);
    wrmsr(MSR_SYSENTER_CS, KCS);
    wrmsr(MSR_SYSENTER_EIP, (uintptr_t)entry);
    wrmsr(MSR_SYSENTER_ESP, 0x123456);
    TRY_USER_FLAGS(FL_IF | FL_IOPL3, "cli; sysenter");
    CHECK_NO_TRAP();
    CHECK(seen.cs == KCS && seen.ss == KDS && seen.rsp == 0x123456 && !(seen.flags & FL_IF));
    TRY_USER("sysexitq");
    CHECK_TRAP(VEC_GP, 0);
    trap_hook = note_user;
    TRY("sysexitq", "c"(USER_STACK_TOP), "d"(user_ptr(ret64)));
    CHECK_TRAP(VEC_UD, 0);
    CHECK(user_cx == UCS && user_dx == UDS2 && trap.sp == USER_STACK_TOP);
    trap_hook = NULL;
    TRY("sysexitq", "c"(NON_CANONICAL), "d"(user_ptr(ret64)));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0); /* lets it through */
    TRY("sysexitq", "c"(0), "d"(NON_CANONICAL));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
}

static void segment_bases(void)
{
    unsigned long a, b;
    wrmsr(MSR_GS_BASE, 0x1111);
    wrmsr(MSR_KERNEL_GS_BASE, 0xffff800000002222ul);
    __asm__ volatile("swapgs");
    CHECK(rdmsr(MSR_GS_BASE) == 0xffff800000002222ul && rdmsr(MSR_KERNEL_GS_BASE) == 0x1111);
    TRY("rdfsbase %%rax");
    CHECK_TRAP(VEC_UD, 0); /* CR4.FSGSBASE = 0 */
    WRITE_REG(cr4, READ_REG(cr4) | CR4_FSGSBASE);
    __asm__ volatile("wrfsbase %1; rdfsbase %0" : "=r"(a) : "r"(0x123456789abul));
    CHECK(a == 0x123456789abul && rdmsr(MSR_FS_BASE) == a);
    __asm__ volatile("wrgsbase %k1; rdgsbase %0" : "=r"(a) : "r"(0xffffffff87654321ul));
    CHECK(a == 0x87654321ul); /* 32-bit operands zero-extend */
    TRY("wrfsbase %%rcx", "c"(NON_CANONICAL));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    static const uint64_t data = 0x1122334455667788ul;
    wrmsr(MSR_FS_BASE, (uintptr_t)&data - 0x1000);
    __asm__ volatile("mov %%fs:0x1000, %0" : "=r"(b));
    CHECK(b == data);
    /* A null selector clears the base. */
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
    CHECK(rdmsr(MSR_FS_BASE) == 0);
    wrmsr(MSR_GS_BASE, 0);
}

static void msr_checks(void)
{
    if (!on_hyperwind) /* QEMU checks none of these */
        return;
    uint64_t t0, t1, adjust = rdmsr(MSR_TSC_ADJUST);
    try_wrmsr(MSR_LSTAR, NON_CANONICAL);
    CHECK_TRAP(VEC_GP, 0);
    try_wrmsr(MSR_FS_BASE, NON_CANONICAL);
    CHECK_TRAP(VEC_GP, 0);
    try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 2);
    CHECK_TRAP(VEC_GP, 0);
    try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~0x100ul); /* LME while paging */
    CHECK_TRAP(VEC_GP, 0);
    try_wrmsr(MSR_PAT, 0x0002040600070406ul);
    CHECK_TRAP(VEC_GP, 0);
    try_rdmsr(0x12345678);
    CHECK_TRAP(VEC_GP, 0);
    try_wrmsr(MSR_TSC_AUX, 0x100000000ul);
    CHECK_TRAP(VEC_GP, 0);
    wrmsr(MSR_TSC, 0x100000000000ul);
    t0 = rdmsr(MSR_TSC);
    CHECK(t0 - 0x100000000000ul < 10000);
    CHECK(rdmsr(MSR_TSC_ADJUST) - adjust > 0xff000000000ul);
    wrmsr(MSR_TSC_ADJUST, adjust);
    t1 = rdmsr(MSR_TSC);
    CHECK(t1 < t0);
}

static void control_registers(void)
{
    unsigned long cr0 = READ_REG(cr0), cr4 = READ_REG(cr4), cr3 = READ_REG(cr3);
    if (on_hyperwind) { /* QEMU takes most of them, and crashes */
        TRY("mov %%rcx, %%cr4", "c"(cr4 | CR4_VME | 1ul << 40));
        CHECK_TRAP(VEC_GP, 0);
        TRY("mov %%rcx, %%cr4", "c"(cr4 & ~(unsigned long)CR4_PAE));
        CHECK_TRAP(VEC_GP, 0);
        TRY("mov %%rcx, %%cr0", "c"(cr0 & ~CR0_PG));
        CHECK_TRAP(VEC_GP, 0);
        TRY("mov %%rcx, %%cr0", "c"(cr0 | 1ul << 32));
        CHECK_TRAP(VEC_GP, 0);
        TRY("mov %%rcx, %%cr0", "c"((cr0 | 1ul << 29) & ~(1ul << 30))); /* NW without CD */
        CHECK_TRAP(VEC_GP, 0);
        TRY("mov %%rcx, %%cr0", "c"(cr0 & ~(unsigned long)CR0_PE));
        CHECK_TRAP(VEC_GP, 0);
        TRY("mov %%rcx, %%cr3", "c"(cr3 | 1ul << 62));
        CHECK_TRAP(VEC_GP, 0);
        TRY("mov %%rcx, %%cr8", "c"(16));
        CHECK_TRAP(VEC_GP, 0);
    }
    TRY(".byte 0x0f, 0x20, 0xc8"); /* CR1 */
    CHECK_TRAP(VEC_UD, 0);
    CHECK(READ_REG(cr0) == cr0 && READ_REG(cr4) == cr4 && READ_REG(cr3) == cr3);
    WRITE_REG(cr8, 5);
    CHECK(READ_REG(cr8) == 5);
    WRITE_REG(cr8, 0);
    if (on_hyperwind) { /* QEMU 7.2 has no PCID */
        TRY("mov %%rcx, %%cr3; mov %%rdx, %%cr4", "c"(cr3 | 5), "d"(cr4 | CR4_PCIDE)); /* CR3[11:0] is not 0 */
        CHECK_TRAP(VEC_GP, 0);
        WRITE_REG(cr3, cr3);
        WRITE_REG(cr4, cr4 | CR4_PCIDE);
        WRITE_REG(cr3, cr3 | 5 | 1ul << 63);
        CHECK(READ_REG(cr3) == (cr3 | 5));
        TRY("mov %%rcx, %%cr0", "c"(cr0 & ~CR0_PG));
        CHECK_TRAP(VEC_GP, 0);
        struct { uint64_t pcid, lin; } d = {5, 0};
        TRY("invpcid (%%rdx), %%rcx", "c"(1ul), "d"(&d));
        CHECK_NO_TRAP();
        TRY("invpcid (%%rdx), %%rcx", "c"(4ul), "d"(&d));
        CHECK_TRAP(VEC_GP, 0);
        d.pcid = 0x1000;
        TRY("invpcid (%%rdx), %%rcx", "c"(1ul), "d"(&d));
        CHECK_TRAP(VEC_GP, 0);
        WRITE_REG(cr3, cr3);
        WRITE_REG(cr4, cr4);
    }
}

static void xcr0(void)
{
    TRY("xgetbv", "c"(0));
    CHECK_TRAP(VEC_UD, 0);
    WRITE_REG(cr4, READ_REG(cr4) | CR4_OSXSAVE | CR4_OSFXSR);
    TRY("xsetbv", "c"(0), "a"(7), "d"(0));
    CHECK_NO_TRAP();
    static const uint8_t bad[] = {0, 2, 4, 5, 6};
    for (unsigned i = 0; i < sizeof(bad); i++) {
        TRY("xsetbv", "c"(0), "a"(bad[i]), "d"(0));
        CHECK_TRAP(VEC_GP, 0);
    }
    TRY("xsetbv", "c"(1), "a"(7), "d"(0));
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("xsetbv", "c"(0), "a"(7), "d"(0));
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("xgetbv", "c"(0));
    CHECK_USER_OK();
}

/* CR4.UMIP and CR4.TSD. */
static void user_restrictions(void)
{
    TRY_USER("sgdt -16(%%rsp); sidt -16(%%rsp); sldt %%eax; str %%eax; smsw %%eax; rdtsc");
    CHECK_USER_OK();
    WRITE_REG(cr4, READ_REG(cr4) | CR4_UMIP | CR4_TSD);
    TRY_USER("sgdt -16(%%rsp)");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("sidt -16(%%rsp)");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("sldt %%eax");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("str %%eax");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("smsw %%eax");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("rdtsc");
    CHECK_TRAP(VEC_GP, 0);
    TRY("sgdt -16(%%rsp); rdtsc; smsw %%eax");
    CHECK_NO_TRAP();
    TRY_USER("rdpmc", "c"(0));
    CHECK_TRAP(VEC_GP, 0);
}

/* The I/O permission bitmap. */
static void port_permissions(void)
{
    TRY_USER("in $0x10, %%al");
    CHECK_USER_OK(); /* the bitmap has zeros for ports 0 to 119 */
    tss.bitmap[2] = 1;
    TRY_USER("in $0x10, %%al");
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("in $0x0f, %%ax"); /* one of the two ports is denied */
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("in $0x0f, %%al");
    CHECK_USER_OK();
    TRY_USER_FLAGS(FL_IOPL3, "in $0x10, %%al");
    CHECK_USER_OK();
    TRY_USER("in %%dx, %%al", "d"(0x1000)); /* beyond the limit of the TSS */
    CHECK_TRAP(VEC_GP, 0);
    TRY_USER("lea -64(%%rsp), %%rdi; rep insb", "c"(3), "d"(0x10));
    CHECK_TRAP(VEC_GP, 0);
    tss.bitmap[2] = 0;
    TRY_USER("lea -64(%%rsp), %%rdi; rep insb; test %%ecx, %%ecx; jz 7f; ud2; 7:", "c"(3), "d"(0x10));
    CHECK_USER_OK();
}

int main(void)
{
    syscall();
    sysret();
    sysenter();
    segment_bases();
    msr_checks();
    control_registers();
    xcr0();
    user_restrictions();
    port_permissions();
    return 0;
}
