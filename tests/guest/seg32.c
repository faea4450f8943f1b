/* tests/guest/seg32.c: segmentation in 32-bit protected mode: limits, types, loading, gates, privilege changes and the
 * instructions that inspect selectors. SDM vol. 3 chapter 5. QEMU's TCG checks neither limits nor types of accesses. */
#include "rt.h"

enum { S0 = FREE_SEL, S1 = FREE_SEL + 8, S2 = FREE_SEL + 16, GATE = FREE_SEL + 24, LDT_SEL = FREE_SEL + 32 };
enum { /* byte 5 */
    DATA_RW = 0x92, DATA_RO = 0x90, DATA_DOWN = 0x96, CODE_XO = 0x98, CODE_RX = 0x9a, CODE_CONF = 0x9e, DPL3 = 0x60, NP = 0x80,
};
uint8_t area[0x20000] __attribute__((aligned(4096)));

static uint64_t flat_code(unsigned access) { return make_desc(0, 0xfffff, access, 0xc); }
static void set(unsigned sel, uint64_t desc) { *(volatile uint64_t *)&gdt[sel / 8] = desc; }

static void limits(void)
{
    if (!on_hyperwind)
        return;
    set(S0, make_desc((uintptr_t)area, 0xfff, DATA_RW, 4));
    TRY("mov %%ecx, %%es; mov %%es:0xffc, %%eax; mov %%al, %%es:0xfff", "c"(S0));
    CHECK_NO_TRAP();
    TRY("mov %%ecx, %%es; mov %%es:0xffd, %%eax", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%ecx, %%es; mov %%al, %%es:0x1000", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%ecx, %%es; mov %%es:0xffffffff, %%eax", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
}

static void stack_limits(void)
{
    /* #SS through an inner stack: at CPL 3 the handler has one. */
    if (!on_hyperwind)
        return;
    set(S0, make_desc((uintptr_t)area, 0xfff, DATA_RW | DPL3, 4));
    TRY_USER("mov %%ecx, %%ss; mov $0x1000, %%esp; push %%eax; mov $2, %%esp; push %%eax", "c"(S0 | 3));
    CHECK_TRAP(VEC_SS, 0);
    CHECK(trap.sp == 2);
    TRY_USER("mov %%ecx, %%ss; mov $0xfff, %%ebp; mov (%%ebp), %%al; mov (%%ebp), %%ax", "c"(S0 | 3));
    CHECK_TRAP(VEC_SS, 0);
    /* Expand-down: above the limit, up to 64 KiB or 4 GiB by the B bit. */
    set(S0, make_desc((uintptr_t)area, 0xfff, DATA_DOWN, 0));
    TRY("mov %%ecx, %%es; mov %%es:0x1000, %%eax; mov %%es:0xfffc, %%eax", "c"(S0));
    CHECK_NO_TRAP();
    TRY("mov %%ecx, %%es; mov %%es:0xfff, %%al", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%ecx, %%es; mov %%es:0xffd, %%eax", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%ecx, %%es; mov %%es:0xfffd, %%eax", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
    set(S0, make_desc((uintptr_t)area, 0xfff, DATA_DOWN, 4));
    TRY("mov %%ecx, %%es; mov %%es:0xfffd, %%eax", "c"(S0));
    CHECK_NO_TRAP();
    /* A 16-bit stack wraps at 64 KiB. */
    set(S0, make_desc((uintptr_t)area, 0xffff, DATA_RW | DPL3, 0));
    TRY_USER("mov %%ecx, %%ss; mov $0x10002, %%esp; push %%ax; push %%ax; cmp $0x1fffe, %%esp; je 7f; ud2\n 7:", "c"(S0 | 3));
    CHECK_USER_OK();
    TRY_USER("mov %%ecx, %%ss; mov $2, %%esp; push %%eax", "c"(S0 | 3)); /* half here, half there */
    CHECK_TRAP(VEC_SS, 0);
}

static void types(void)
{
    if (!on_hyperwind)
        return;
    set(S0, make_desc((uintptr_t)area, 0xfff, DATA_RO, 4));
    TRY("mov %%ecx, %%es; mov %%es:0, %%eax", "c"(S0));
    CHECK_NO_TRAP();
    TRY("mov %%ecx, %%es; mov %%eax, %%es:0", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%ecx, %%es; addl $0, %%es:0", "c"(S0));
    CHECK_TRAP(VEC_GP, 0);
    TRY("movl $0, %%cs:area");
    CHECK_TRAP(VEC_GP, 0);
    TRY("xor %%ecx, %%ecx; mov %%ecx, %%fs; mov %%fs:0, %%al");
    CHECK_TRAP(VEC_GP, 0);
}

static void loading(void)
{
    set(S0, make_desc((uintptr_t)area, 0xfff, CODE_XO, 4));
    TRY("mov %%ecx, %%es", "c"(S0));
    CHECK_TRAP(VEC_GP, S0);
    set(S0, make_desc((uintptr_t)area, 0xfff, CODE_RX, 4));
    TRY("mov %%ecx, %%es", "c"(S0));
    CHECK_NO_TRAP();
    CHECK(gdt[S0 / 8] >> 40 & 1); /* accessed */
    TRY("mov %%ecx, %%ss", "c"(S0));
    CHECK_TRAP(VEC_GP, S0);
    set(S0, make_desc((uintptr_t)area, 0xfff, DATA_RW & ~NP, 4));
    TRY("mov %%ecx, %%fs", "c"(S0));
    CHECK_TRAP(VEC_NP, S0);
    TRY("mov %%ecx, %%ss", "c"(S0));
    CHECK_TRAP(VEC_SS, S0);
    TRY("mov %%ecx, %%ss", "c"(0));
    CHECK_TRAP(VEC_GP, 0);
    TRY("mov %%ecx, %%ss", "c"(KDS | 3));
    CHECK_TRAP(VEC_GP, KDS);
    TRY("mov %%ecx, %%gs", "c"(0x200));
    CHECK_TRAP(VEC_GP, 0x200);
    TRY("mov %%ecx, %%gs", "c"(TSS_SEL));
    CHECK_TRAP(VEC_GP, TSS_SEL);
    TRY("mov %%ecx, %%gs", "c"(0x44)); /* no LDT */
    CHECK_TRAP(VEC_GP, 0x44);
    TRY_USER("mov %%ecx, %%gs", "c"(KDS));
    CHECK_TRAP(VEC_GP, KDS);
    TRY_USER("mov %%ecx, %%gs", "c"(KDS | 3));
    CHECK_TRAP(VEC_GP, KDS);
    set(S0, flat_code(CODE_CONF)); /* conforming code may be read from anywhere */
    TRY_USER("mov %%ecx, %%gs; mov %%gs:area, %%al", "c"(S0));
    CHECK_USER_OK();
    TRY(".byte 0x8e, 0xc9"); /* mov %ecx, %cs */
    CHECK_TRAP(VEC_UD, 0);
    /* Far pointers, push and pop. */
    struct { uint32_t off; uint16_t sel; } __attribute__((packed)) pointer = {0x1234, KDS};
    uint32_t r;
    __asm__ volatile("les %1, %0; mov %%es, %%ecx; mov %%ds, %%edx; mov %%edx, %%es" : "=r"(r) : "m"(pointer) : "ecx", "edx");
    CHECK(r == 0x1234);
    pointer.sel = 0xfff8;
    TRY("lgs (%%ecx), %%eax", "c"(&pointer));
    CHECK_TRAP(VEC_GP, 0xfff8);
    TRY("push %%ds; pop %%es; pushw %%ds; popw %%es; push $0xfff8; pop %%fs");
    CHECK_TRAP(VEC_GP, 0xfff8);
}

static void ldt(void)
{
    static volatile uint64_t table[2] __attribute__((aligned(8)));
    table[1] = make_desc((uintptr_t)area, 0xfff, DATA_RW | DPL3, 4);
    set(LDT_SEL, make_desc((uintptr_t)table, sizeof(table) - 1, 0x82, 0));
    area[5] = 0x5a;
    TRY("lldt %%cx", "c"(KDS));
    CHECK_TRAP(VEC_GP, KDS);
    TRY("lldt %%cx", "c"(LDT_SEL | 4));
    CHECK_TRAP(VEC_GP, LDT_SEL | 4);
    TRY_USER("lldt %%cx", "c"(LDT_SEL));
    CHECK_TRAP(VEC_GP, 0);
    uint8_t x;
    uint16_t sel;
    __asm__ volatile("lldt %w1; mov %k2, %%fs; mov %%fs:5, %0" : "=q"(x) : "r"(LDT_SEL), "r"(0xf));
    CHECK(x == 0x5a);
    __asm__ volatile("sldt %0" : "=r"(sel));
    CHECK(sel == LDT_SEL);
    TRY("mov %%ecx, %%fs", "c"(0x17));
    CHECK_TRAP(VEC_GP, 0x14);
    __asm__ volatile("lldt %w0" : : "r"(0));
    TRY("mov %%ecx, %%fs", "c"(0xf));
    CHECK_TRAP(VEC_GP, 0xc);
    set(LDT_SEL, make_desc((uintptr_t)table, sizeof(table) - 1, 0x02, 0));
    TRY("lldt %%cx", "c"(LDT_SEL));
    CHECK_TRAP(VEC_NP, LDT_SEL);
    TRY("ltr %%cx", "c"(TSS_SEL)); /* busy */
    CHECK_TRAP(VEC_GP, TSS_SEL);
    if (on_hyperwind) { /* QEMU loads it, and ends in an assertion */
        TRY("ltr %%cx", "c"(0));
        CHECK_TRAP(VEC_GP, 0);
    }
}

/* ---- far transfers ---- */

extern char far_target[], far_retn[];
unsigned long got[8];
/* Notes CS, SS, ESP and three words of the stack, then ends the TRY with a UD2. */
__asm__("far_target: mov %cs, got; mov %ss, got + 4; mov %esp, got + 8\n"
        "  mov (%esp), %eax; mov %eax, got + 12; mov 4(%esp), %eax; mov %eax, got + 16\n"
        "  mov 8(%esp), %eax; mov %eax, got + 20; mov 12(%esp), %eax; mov %eax, got + 24; ud2\n"
        "far_retn: lret $8\n");

struct { uint32_t off; uint16_t sel; } __attribute__((packed)) far;

static void far_jumps(void)
{
    far.off = (uintptr_t)far_target;
    far.sel = 0;
    TRY("ljmp *far");
    CHECK_TRAP(VEC_GP, 0);
    far.sel = KDS;
    TRY("ljmp *far");
    CHECK_TRAP(VEC_GP, KDS);
    far.sel = KCS;
    TRY("ljmp *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == KCS);
    far.sel = UCS;
    TRY("ljmp *far"); /* outwards */
    CHECK_TRAP(VEC_GP, UCS & ~3);
    far.sel = KCS;
    TRY_USER("ljmp *far");
    CHECK_TRAP(VEC_GP, KCS);
    set(S0, flat_code(CODE_CONF)); /* conforming: keeps the CPL */
    far.sel = S0;
    TRY_USER("ljmp *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == (S0 | 3) && trap.cs == (S0 | 3));
    set(S0, flat_code(CODE_RX & ~NP));
    TRY("ljmp *far");
    CHECK_TRAP(VEC_NP, S0);
    set(S0, make_desc(0, 0xff, CODE_RX, 4));
    TRY(HERE "ljmp *far");
    CHECK_TRAP(VEC_GP, 0); /* beyond the limit */
    CHECK(trap.ip == want);
    far.sel = KCS;
    TRY("lcall *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[4] == KCS); /* the return address: EIP below CS */
}

static void call_gates(void)
{
    far.off = 0xdeadbeef; /* ignored */
    far.sel = GATE;
    set(GATE, make_gate((uintptr_t)far_target, KCS, 0x8c, 0));
    TRY("lcall *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == KCS && (uint16_t)got[4] == KCS);
    TRY("ljmp *far");
    CHECK_TRAP(VEC_UD, 0);
    TRY_USER("lcall *far"); /* the gate's DPL is 0 */
    CHECK_TRAP(VEC_GP, GATE);
    set(GATE, make_gate((uintptr_t)far_target, KCS, 0xec, 2));
    far.sel = GATE | 3;
    TRY_USER("push $0x1111; push $0x2222; movl $7f, want; lcall *far\n7:"); /* inner level, two parameters */
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == KCS && (uint16_t)got[1] == KDS);
    CHECK(got[2] == tss.esp0 - 6 * 4);
    CHECK(got[3] == want && (uint16_t)got[4] == UCS && got[5] == 0x2222 && got[6] == 0x1111);
    TRY_USER("ljmp *far"); /* a jump changes no privilege */
    CHECK_TRAP(VEC_GP, KCS);
    /* There and back: RET 8 releases the parameters on both stacks. */
    set(GATE, make_gate((uintptr_t)far_retn, KCS, 0xec, 2));
    TRY_USER("mov %%esp, %%ebx; push $1; push $2; lcall *far\n cmp %%esp, %%ebx; je 7f; ud2\n7:");
    CHECK_USER_OK();
    set(GATE, make_gate((uintptr_t)far_target, KCS, 0x6c, 0));
    TRY_USER("lcall *far");
    CHECK_TRAP(VEC_NP, GATE);
    set(GATE, make_gate((uintptr_t)far_target, KDS, 0xec, 0));
    TRY_USER("lcall *far");
    CHECK_TRAP(VEC_GP, KDS);
    set(GATE, make_gate((uintptr_t)far_target, 0, 0xec, 0));
    TRY_USER("lcall *far");
    CHECK_TRAP(VEC_GP, 0);
    set(GATE, make_gate((uintptr_t)far_target, UCS & ~3, 0xec, 0)); /* outwards */
    TRY("lcall *far");
    CHECK_TRAP(VEC_GP, UCS & ~3);
}

/* #TS: the stack of the inner level is no good. */
static void bad_inner_stacks(void)
{
    uint32_t ss0 = tss.ss0;
    volatile uint32_t *p = (volatile uint32_t *)((uintptr_t)&tss + 8);
    set(GATE, make_gate((uintptr_t)far_target, S1, 0xec, 0));
    set(S1, flat_code(0xba)); /* code of level 1: faults of the call are taken at level 0 */
    far.sel = GATE | 3;
    volatile uint32_t *ss1 = (volatile uint32_t *)((uintptr_t)&tss + 16);
    volatile uint32_t *esp1 = (volatile uint32_t *)((uintptr_t)&tss + 12);
    *esp1 = (uintptr_t)other_stack + sizeof(other_stack);
    *ss1 = 0;
    TRY_USER("lcall *far");
    CHECK_TRAP(VEC_TS, 0);
    *ss1 = 0xfff8 | 1;
    TRY_USER("lcall *far");
    CHECK_TRAP(VEC_TS, 0xfff8);
    *ss1 = KDS; /* DPL and RPL are 0 */
    TRY_USER("lcall *far");
    CHECK_TRAP(VEC_TS, KDS);
    set(S2, make_desc(0, 0xfffff, 0x32, 0xc)); /* level 1, not present */
    *ss1 = S2 | 1;
    TRY_USER("lcall *far");
    CHECK_TRAP_NOT_QEMU(VEC_SS, S2);
    set(S2, make_desc(0, 0xfffff, 0xb2, 0xc));
    TRY_USER("lcall *far");
    CHECK_TRAP(VEC_UD, 0);
    CHECK((uint16_t)got[0] == (S1 | 1) && (uint16_t)got[1] == (S2 | 1) && trap.cs == (S1 | 1));
    if (on_hyperwind) { /* no room for the frame */
        set(S2, make_desc(0, 0xfff, 0xb2, 4));
        TRY_USER("lcall *far");
        CHECK_TRAP(VEC_SS, S2);
    }
    CHECK(*p == ss0);
}

/* RET to an outer level nulls what its code may not use. */
static void outer_return(void)
{
    TRY("mov %[k], %%eax; mov %%eax, %%gs; mov %[u], %%eax; mov %%eax, %%fs\n"
        "push %[u]; push $user_stack + 4096; push %[c]; push $7f; lret\n"
        "7: mov %%gs, %%eax; test %%eax, %%eax; jnz 1f; mov %%fs, %%eax; cmp %[u], %%eax; jne 1f\n"
        "mov %%ds, %%eax; test %%eax, %%eax; jnz 1f; int $0x30\n1: ud2",
        [k] "i"(KDS), [u] "i"(UDS), [c] "i"(UCS));
    CHECK_TRAP(VEC_USER_RETURN, 0);
    TRY("push %[u]; push $0; push %[c]; push $0; lret", [u] "i"(KDS), [c] "i"(UCS));
    CHECK_TRAP(VEC_GP, KDS);
    TRY_USER("push %[c]; push $0; lret", [c] "i"(KCS)); /* inwards */
    CHECK_TRAP(VEC_GP, KCS);
    TRY("push %[c]; push $0; lret", [c] "i"(KCS | 4));
    CHECK_TRAP(VEC_GP, KCS | 4);
    TRY("push $2; push %[c]; push $0; iret", [c] "i"(KDS));
    CHECK_TRAP(VEC_GP, KDS);
}

static void inspecting(void)
{
    uint32_t r;
    uint8_t zf;
    set(S0, make_desc(0x12345678, 0xabcde, 0xfb, 0xd));
    __asm__ volatile("mov $-1, %0; lar %2, %0; setz %1" : "=&r"(r), "=q"(zf) : "r"(S0));
    CHECK(zf && (r & 0xfff0ff00) == 0x00d0fb00);
    __asm__ volatile("lsl %2, %0; setz %1" : "=&r"(r), "=q"(zf) : "r"(S0));
    CHECK(zf && r == 0xabcdefff);
    __asm__ volatile("mov $77, %0; lsl %2, %0; setz %1" : "=&r"(r), "=q"(zf) : "r"(0xfff8));
    CHECK(!zf && r == 77);
    __asm__ volatile("verr %w1; setz %0" : "=q"(zf) : "r"(S0));
    CHECK(zf);
    __asm__ volatile("verw %w1; setz %0" : "=q"(zf) : "r"(S0));
    CHECK(!zf);
    __asm__ volatile("verw %w1; setz %0" : "=q"(zf) : "r"(KDS));
    CHECK(zf);
    __asm__ volatile("verw %w1; setz %0" : "=q"(zf) : "r"(0));
    CHECK(!zf);
    __asm__ volatile("mov $0x7fff0010, %0; arpl %w2, %w0; setz %1" : "=&r"(r), "=q"(zf) : "r"(2));
    CHECK(zf && r == 0x7fff0012);
    __asm__ volatile("mov $0x13, %0; arpl %w2, %w0; setz %1" : "=&r"(r), "=q"(zf) : "r"(2));
    CHECK(!zf && r == 0x13);
    TRY_USER("verr %%cx; jz 7f; verw %%cx; jz 7f; int $0x30\n7: ud2", "c"(KDS)); /* not visible from CPL 3 */
    CHECK_USER_OK();
}

static void software_traps(void)
{
    int32_t bounds[2] = {-5, 5};
    TRY("bound %%ecx, (%%edx)", "c"(-5), "d"(bounds));
    CHECK_NO_TRAP();
    TRY(HERE "bound %%ecx, (%%edx)", "c"(6), "d"(bounds));
    CHECK_TRAP(VEC_BR, 0);
    CHECK(trap.ip == want);
    TRY("xor %%eax, %%eax; into");
    CHECK_NO_TRAP();
    TRY("mov $0x7f, %%al; add $1, %%al; movl $7f, want; into\n7:");
    CHECK_TRAP(VEC_OF, 0);
    CHECK(trap.ip == want);
    TRY("xor %%ecx, %%ecx; aam $0");
    CHECK_TRAP(VEC_DE, 0);
}

int main(void)
{
    limits();
    stack_limits();
    types();
    loading();
    ldt();
    far_jumps();
    call_gates();
    bad_inner_stacks();
    outer_return();
    inspecting();
    software_traps();
    return 0;
}
