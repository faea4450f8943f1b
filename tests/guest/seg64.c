/* tests/guest/seg64.c: segmentation in IA-32e mode: null SS, compatibility mode, far transfers and 64-bit call gates, IRET.
 * SDM vol. 3, 5.8.3 and 6.14; vol. 2, IRET. */
#include "rt.h"

enum { S0 = FREE_SEL, GATE = FREE_SEL + 16 };
static void set(unsigned sel, uint64_t desc) { *(volatile uint64_t *)&gdt[sel / 8] = desc; }
#define CODE64(access) (0x00af00000000ffffull | (uint64_t)(access) << 40)

unsigned long got[8];
extern char landing[];
/* Notes CS, SS, RSP and four words of the stack. */
__asm__("landing: mov %cs, %eax; mov %rax, got; mov %ss, %eax; mov %rax, got + 8; mov %rsp, got + 16\n"
        "  mov (%rsp), %rax; mov %rax, got + 24; mov 8(%rsp), %rax; mov %rax, got + 32\n"
        "  mov 16(%rsp), %rax; mov %rax, got + 40; mov 24(%rsp), %rax; mov %rax, got + 48; ud2\n");

static struct { uint64_t off; uint16_t sel; } __attribute__((packed)) far;

static void null_ss(void)
{
    TRY("xor %%ecx, %%ecx; mov %%ecx, %%ss; push %%rcx; pop %%rcx");
    CHECK_NO_TRAP();
    __asm__ volatile("mov %0, %%ss" : : "r"(KDS));
    TRY("mov $1, %%ecx; mov %%ecx, %%ss"); /* RPL must be the CPL */
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    TRY_USER("mov $3, %%ecx; mov %%ecx, %%ss"); /* and that below 3 */
    CHECK_TRAP(VEC_GP, 0);
    /* Data segments are not checked in 64-bit mode. */
    TRY("xor %%ecx, %%ecx; mov %%ecx, %%ds; mov %%ds:got, %%eax; mov %[k], %%ecx; mov %%ecx, %%ds", [k] "i"(KDS));
    CHECK_NO_TRAP();
    set(S0, 0x0040930000000000ull); /* limit 0 */
    TRY("mov %%ecx, %%ds; mov %%ds:got, %%eax", "c"(S0));
    CHECK_NO_TRAP();
    __asm__ volatile("mov %0, %%ds" : : "r"(KDS));
}

static void iret_forms(void)
{
    unsigned long sp;
    /* In 64-bit mode SS:RSP is popped even without a change of level. */
    __asm__ volatile("mov %%rsp, %%r8; mov %%rsp, %%r9; sub $256, %%r9; xor %%eax, %%eax\n"
                     "push %%rax; push %%r9; pushq $2; pushq %[cs]; lea 1f(%%rip), %%rax; push %%rax; iretq\n"
                     "1: mov %%rsp, %[sp]; sub %%r9, %[sp]; mov %%r8, %%rsp; mov %[ds], %%eax; mov %%eax, %%ss"
                     : [sp] "=&r"(sp) : [cs] "i"(KCS), [ds] "i"(KDS) : "rax", "r8", "r9", "memory");
    CHECK(sp == 0);
    TRY("pushq %[ss]; pushq $0; pushq $2; pushq %[cs]; pushq $0; iretq", [ss] "i"(KDS | 1), [cs] "i"(KCS));
    CHECK_TRAP(VEC_GP, KDS);
    TRY("pushq $0; pushq $0; pushq $2; pushq %[cs]; pushq $0; iretq", [cs] "i"(UCS)); /* null SS at CPL 3 */
    CHECK_TRAP(VEC_GP, 0);
    TRY("pushq %[ss]; pushq $0; pushq $2; pushq %[cs]; push %%rcx; iretq", [ss] "i"(UDS), [cs] "i"(UCS), "c"(1ul << 47));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0); /* not canonical: found before the return */
    CHECK(!on_hyperwind || trap.cs == KCS);
    if (on_hyperwind) { /* QEMU goes there */
        set(S0, 0x00ef9b000000ffffull); /* L and D */
        TRY("pushq %[ss]; pushq $0; pushq $2; pushq %[cs]; pushq $0; iretq", [ss] "i"(KDS), [cs] "i"(S0));
        CHECK_TRAP(VEC_GP, S0);
    }
    TRY("pushq %[ss]; pushq $0; pushq $2; pushq %[cs]; pushq $0; iretq", [ss] "i"(KDS), [cs] "i"(KDS));
    CHECK_TRAP(VEC_GP, KDS);
    /* Leaving for the user drops what is level 0's. */
    TRY("mov %[k], %%ecx; mov %%ecx, %%fs; mov %[u], %%ecx; mov %%ecx, %%gs\n"
        "pushq %[u]; pushq %%rdx; pushq $2; pushq %[c]; lea 7f(%%rip), %%rax; add %%rbx, %%rax; push %%rax; iretq\n"
        "7: mov %%fs, %%ecx; test %%ecx, %%ecx; jnz 6f; mov %%gs, %%ecx; cmp %[u], %%ecx; jne 6f; int $0x30\n6: ud2",
        [k] "i"(KDS), [u] "i"(UDS), [c] "i"(UCS), "d"(USER_STACK_TOP), "b"(USER_ALIAS));
    CHECK_USER_OK();
    __asm__ volatile("xor %%eax, %%eax; mov %%eax, %%gs" : : : "eax");
}

static void compatibility(void)
{
    user_low(true);
    TRY_USER32("nop");
    CHECK_USER_OK();
    CHECK(trap.cs == UCS32);
    TRY_USER32("mov $0x7fffffff, %%eax; add $1, %%eax; into"); /* 32-bit code knows INTO; the gate is of level 0 */
    CHECK(trap.vector == VEC_GP);
    TRY_USER32("push $0x11223344; pop %%eax; cmp $0x11223344, %%eax; je 7f; ud2\n7: nop");
    CHECK_USER_OK();
    TRY_USER32(".byte 0x48; .byte 0x90; inc %%eax"); /* DEC EAX, not a REX prefix */
    CHECK_USER_OK();
    if (on_hyperwind) { /* segments count again: a null one */
        TRY_USER32("xor %%ecx, %%ecx; mov %%ecx, %%fs; mov %%fs:0, %%eax");
        CHECK_TRAP(VEC_GP, 0);
        TRY_USER32("mov got, %%eax"); /* IRET nulled DS, which was level 0's */
        CHECK_TRAP(VEC_GP, 0);
    }
    TRY_USER32("mov %[u], %%ecx; mov %%ecx, %%ds; mov got, %%eax", [u] "i"(UDS));
    CHECK_USER_OK();
    /* Between the sizes by far jumps. */
    TRY_USER32("ljmp %[c], $7f\n.code64\n7: mov $-1, %%rax; shr $40, %%rax; cmp $0xffffff, %%eax; je 6f; ud2\n6: int $0x30\n.code32",
               [c] "i"(UCS));
    CHECK_USER_OK();
    CHECK(trap.cs == UCS);
    user_low(false);
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(KDS));
}

static void far_transfers(void)
{
    far.off = (uintptr_t)landing;
    far.sel = KCS;
    TRY(".byte 0x48; ljmp *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == KCS);
    TRY(".byte 0x48; lcall *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[4] == KCS);
    far.off = 1ul << 47;
    TRY(".byte 0x48; ljmp *far");
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    far.off = (uintptr_t)landing;
    far.sel = TSS_SEL; /* no task switches in IA-32e mode */
    TRY(".byte 0x48; ljmp *far");
    CHECK_TRAP(VEC_GP, TSS_SEL);
    set(S0, 0x0000850000380000ull); /* a task gate */
    far.sel = S0;
    TRY(".byte 0x48; ljmp *far");
    CHECK_TRAP(VEC_GP, S0);
    /* 64-bit call gates: 16 bytes. */
    uint64_t at = (uintptr_t)landing;
    set(GATE, (at & 0xffff) | (uint64_t)KCS << 16 | 0xecull << 40 | (at >> 16 & 0xffff) << 48);
    set(GATE + 8, at >> 32);
    far.sel = GATE | 3;
    far.off = 0x123456789abcul; /* ignored */
    TRY(".byte 0x48; lcall *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == KCS && (uint16_t)got[4] == KCS);
    TRY_USER(".byte 0x48; lcall *(%%rcx)", "c"(user_ptr(&far)));
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == KCS && (uint16_t)got[1] == 0); /* SS: null, RPL = the new CPL */
    CHECK(got[2] == tss.rsp[0] - 32);
    CHECK((uint16_t)got[4] == UCS && got[5] == USER_STACK_TOP && (uint16_t)got[6] == UDS);
    set(GATE, (at & 0xffff) | (uint64_t)KCS32 << 16 | 0xecull << 40 | (at >> 16 & 0xffff) << 48);
    TRY(".byte 0x48; lcall *far"); /* a gate leads to 64-bit code only */
    CHECK_TRAP(VEC_GP, KCS32);
    set(GATE, (at & 0xffff) | (uint64_t)KCS << 16 | 0xe4ull << 40);
    TRY(".byte 0x48; lcall *far"); /* a 16-bit gate */
    CHECK_TRAP(VEC_GP, GATE);
    set(GATE, (at & 0xffff) | (uint64_t)KCS << 16 | 0xecull << 40 | (at >> 16 & 0xffff) << 48);
    set(GATE + 8, 0x1f0000000000ull | at >> 32); /* the type of the upper half must be 0 */
    TRY(".byte 0x48; lcall *far");
    CHECK_TRAP_NOT_QEMU(VEC_GP, GATE);
}

static void system_segments(void)
{
    /* LDT and TSS descriptors are 16 bytes long. */
    static volatile uint64_t ldt[2];
    uint64_t at = (uintptr_t)ldt;
    set(S0, (sizeof(ldt) - 1) | (at & 0xffffff) << 16 | 0x82ull << 40 | (at >> 24 & 0xff) << 56);
    set(S0 + 8, at >> 32);
    ldt[1] = 0x00cff3000000ffffull;
    TRY("lldt %%cx; mov $0xf, %%eax; mov %%eax, %%fs; xor %%eax, %%eax; mov %%eax, %%fs; lldt %%ax", "c"(S0));
    CHECK_NO_TRAP();
    set(S0 + 8, 1ull << 20); /* a base that is not canonical */
    TRY("lldt %%cx", "c"(S0));
    CHECK_TRAP_NOT_QEMU(VEC_GP, S0);
    TRY("lldt %%cx", "c"(64 * 8 - 8)); /* half of it is beyond the table */
    CHECK(trap.vector == VEC_GP);
    uint32_t r;
    uint8_t zf;
    set(S0 + 8, at >> 32);
    __asm__ volatile("lsl %2, %0; setz %1" : "=&r"(r), "=q"(zf) : "r"(S0));
    CHECK(zf && r == sizeof(ldt) - 1);
    set(S0, (uint64_t)0x81 << 40); /* a 16-bit TSS is no valid type here */
    __asm__ volatile("lar %2, %0; setz %1" : "=&r"(r), "=q"(zf) : "r"(S0));
    CHECK(!zf || !on_hyperwind); /* QEMU knows it */
    static const struct { uint16_t limit; uint64_t base; } __attribute__((packed)) bad = {0xff, 1ull << 47};
    TRY("lgdt (%%rcx)", "c"(&bad));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0); /* loads it: */
    static const struct { uint16_t limit; void *base; } __attribute__((packed)) good = {64 * 8 - 1, gdt};
    __asm__ volatile("lgdt %0" : : "m"(good));
}

int main(void)
{
    null_ss();
    iret_forms();
    compatibility();
    far_transfers();
    system_segments();
    return 0;
}
