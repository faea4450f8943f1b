/* tests/guest/paging64.c: 4-level paging: permissions (WP, NX, SMEP, SMAP), accessed and dirty bits, page sizes, and the
 * coherent TLB. SDM vol. 3 chapter 4; the rules (1) to (5) are those of exec/x86/mmu.h. */
#include "rt.h"

/* One 2 MiB region at WINDOW with its own page table; page i of it is set by map(). */
#define WINDOW 0xc0000000ul
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)

static volatile uint64_t pt[512] __attribute__((aligned(4096)));
static uint8_t frame_a[4096] __attribute__((aligned(4096))), frame_b[4096] __attribute__((aligned(4096)));
#define PAGE(i) ((volatile uint8_t *)(WINDOW + (i) * 4096ul))
#define PAGE64(i) ((volatile uint64_t *)PAGE(i))

static void map(unsigned i, const void *frame, uint64_t bits)
{
    pt[i] = (uintptr_t)frame | bits;
    if (!on_hyperwind)
        invlpg((void *)PAGE(i)); /* a coherent TLB needs none: rule (1) */
}

static void set_window(uint64_t bits)
{
    pd_low[3][0] = (uintptr_t)pt | bits;
    if (!on_hyperwind)
        WRITE_REG(cr3, READ_REG(cr3));
}

static void permissions(void)
{
    map(0, frame_a, P | U); /* read-only, user */
    map(1, frame_a, P | W); /* supervisor */
    map(2, frame_a, P | W | U | NX);
    TRY("movb $1, (%%rcx)", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 3);
    WRITE_REG(cr0, READ_REG(cr0) & ~(unsigned long)CR0_WP);
    TRY("movb $1, (%%rcx)", "c"(PAGE(0)));
    CHECK_NO_TRAP();
    TRY_USER("movb $1, (%%rcx)", "c"(PAGE(0))); /* WP does not matter to the user */
    CHECK_TRAP(VEC_PF, 7);
    WRITE_REG(cr0, READ_REG(cr0) | CR0_WP);
    TRY("movb $1, (%%rcx)", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 3);
    TRY_USER("mov (%%rcx), %%al", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 5);
    frame_a[0] = 0xc3;
    TRY_USER("call *%%rcx", "c"(PAGE(2)));
    CHECK_TRAP(VEC_PF, 0x15);
    CHECK(trap.cr2 == (unsigned long)PAGE(2));
    TRY_USER("call *%%rcx", "c"(PAGE(0)));
    CHECK_USER_OK();
    /* Rights are the and of all levels; NX is the or. */
    set_window(P | W);
    TRY_USER("mov (%%rcx), %%al", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 5);
    set_window(P | U);
    TRY("movb $1, (%%rcx)", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 3);
    set_window(P | W | U | NX);
    TRY_USER("call *%%rcx", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 0x15);
    set_window(P | W | U);
}

static void smep_smap(void)
{
    unsigned long cr4 = READ_REG(cr4);
    map(0, frame_a, P | W | U);
    frame_a[0] = 0xc3;
    TRY("call *%%rcx", "c"(PAGE(0)));
    CHECK_NO_TRAP();
    WRITE_REG(cr4, cr4 | CR4_SMEP);
    TRY("call *%%rcx", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 0x11);
    TRY_USER("call *%%rcx", "c"(PAGE(0)));
    CHECK_USER_OK();
    WRITE_REG(cr4, cr4 | CR4_SMEP | CR4_SMAP);
    TRY("mov (%%rcx), %%r8b", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 1);
    TRY("movb $0xc3, (%%rcx)", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 3);
    TRY("stac; mov (%%rcx), %%r8b; movb $0xc3, (%%rcx); clac", "c"(PAGE(0)));
    CHECK_NO_TRAP();
    TRY("stac; clac; mov (%%rcx), %%r8b", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 1);
    TRY("pushf; orl $0x40000, (%%rsp); popf; mov (%%rcx), %%r8b; clac", "c"(PAGE(0)));
    CHECK_NO_TRAP();
    TRY("stac; call *%%rcx; clac", "c"(PAGE(0))); /* AC does not suspend SMEP */
    CHECK_TRAP(VEC_PF, 0x11);
    WRITE_REG(cr4, cr4);
}

static void accessed_dirty(void)
{
    map(0, frame_a, P | W);
    pd_low[3][0] &= ~(uint64_t)A;
    pdpt_low[3] &= ~(uint64_t)A;
    pml4[0] &= ~(uint64_t)A;
    if (!on_hyperwind)
        WRITE_REG(cr3, READ_REG(cr3));
    (void)*PAGE(0);
    CHECK((pt[0] & (A | D)) == A);
    CHECK((pd_low[3][0] & A) && (pdpt_low[3] & A) && (pml4[0] & A)); /* rule (3) */
    *PAGE(0) = 1;
    CHECK((pt[0] & (A | D)) == (A | D));
    CHECK(!(pd_low[3][0] & D));
    /* Cleared bits come back with the next access, without INVLPG. */
    if (on_hyperwind) {
        pt[0] &= ~(uint64_t)(A | D);
        (void)*PAGE(0);
        CHECK((pt[0] & (A | D)) == A);
        *PAGE(0) = 1;
        CHECK((pt[0] & (A | D)) == (A | D));
        pt[0] &= ~(uint64_t)D;
        *PAGE(0) = 1;
        CHECK(pt[0] & D);
        pd_low[3][0] &= ~(uint64_t)A;
        (void)*PAGE(0);
        CHECK(pd_low[3][0] & A);
    }
    /* An access that faults in its second page sets A, but D in neither. */
    map(1, frame_b, P | W);
    map(2, frame_b, 0);
    TRY("movq $0, 4092(%%rcx)", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 2);
    CHECK(trap.cr2 == (unsigned long)PAGE(2));
    CHECK(!on_hyperwind || !(pt[1] & D));
    CHECK(PAGE(1)[4092] == 0);
    map(2, frame_b, P); /* present, read-only */
    PAGE(1)[4093] = 0x77;
    map(1, frame_b, P | W);
    TRY("movq $0, 4093(%%rcx)", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 3);
    CHECK(!on_hyperwind || (!(pt[1] & D) && PAGE(1)[4093] == 0x77)); /* rule (2): nothing is half done */
    TRY("lock addq $1, 4093(%%rcx)", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 3);
    /* A read-modify-write is a write from the start. */
    map(3, frame_b, P);
    TRY("addb $0, (%%rcx)", "c"(PAGE(3)));
    CHECK_TRAP(VEC_PF, 3);
    map(3, frame_b, P | W);
    TRY("lock cmpxchg %%r8b, (%%rcx)", "c"(PAGE(3)), "a"(~frame_b[0]));
    CHECK(pt[3] & D); /* it writes, even when it does not change the destination */
}

/* Translations change under the code that uses them. */
static void coherence(void)
{
    if (!on_hyperwind)
        return;
    frame_a[0] = 1;
    frame_b[0] = 2;
    for (unsigned i = 0; i < 2000; i++) { /* often enough to be linked and cached in every way */
        map(0, i & 1 ? frame_b : frame_a, P | W);
        CHECK(*PAGE(0) == (i & 1 ? 2 : 1));
    }
    /* Through an alias: the table itself is mapped a second time. */
    map(5, (const void *)pt, P | W);
    for (unsigned i = 0; i < 2000; i++) {
        PAGE64(5)[0] = (uintptr_t)(i & 1 ? frame_b : frame_a) | P | W;
        CHECK(*PAGE(0) == (i & 1 ? 2 : 1));
    }
    /* An upper level changes. */
    static uint64_t pt2[512] __attribute__((aligned(4096)));
    pt2[0] = (uintptr_t)frame_b | P | W;
    map(0, frame_a, P | W);
    for (unsigned i = 0; i < 2000; i++) {
        pd_low[3][0] = (uintptr_t)(i & 1 ? pt2 : (uint64_t *)(uintptr_t)pt) | P | W;
        CHECK(*PAGE(0) == (i & 1 ? 2 : 1));
    }
    set_window(P | W | U);
    /* Rights are withdrawn: the next access faults. */
    map(0, frame_a, P | W);
    *PAGE(0) = 1;
    map(0, frame_a, P);
    TRY("movb $1, (%%rcx)", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 3);
    map(0, frame_a, 0);
    TRY("mov (%%rcx), %%r8b", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 0);
    /* Written by string instructions and pushes, and across a page of table entries. */
    map(0, frame_a, P | W);
    uint64_t entry = (uintptr_t)frame_b | P | W;
    __asm__ volatile("rep movsq" : : "S"(&entry), "D"(&pt[0]), "c"(1) : "memory");
    CHECK(*PAGE(0) == 2);
}

/* Code that changes: the next instruction is the new one, also one further on in the same block. */
static void self_modifying(void)
{
    unsigned long r;
    /* movb $imm, 1f+1 ; 1: mov $0, %eax */
    for (unsigned i = 1; i < 200; i++) {
        __asm__ volatile("movb %1, 1f+1\n"
                         "1: mov $0, %%eax\n"
                         : "=&a"(r) : "q"((uint8_t)i) : "memory");
        CHECK((r & 0xff) == i);
    }
    /* Rule (1) for instruction fetch: the page under the running code is replaced. */
    static const uint8_t code[] = {0x89, 0xc8, 0xc3}; /* mov %ecx, %eax; ret */
    static const uint8_t other[] = {0x31, 0xc0, 0xc3}; /* xor %eax, %eax; ret */
    for (unsigned i = 0; i < sizeof(code); i++) {
        frame_a[0x100 + i] = code[i];
        frame_b[0x100 + i] = other[i];
    }
    for (unsigned i = 0; i < 200; i++) {
        map(6, i & 1 ? frame_b : frame_a, P | W);
        __asm__ volatile("call *%1" : "=a"(r) : "r"(PAGE(6) + 0x100), "c"(7));
        CHECK(r == (i & 1 ? 0 : 7));
    }
    /* An instruction across two pages, whose second one is exchanged. */
    frame_a[4095] = 0xb8; /* mov $imm32, %eax; ret */
    for (unsigned i = 0; i < 200; i++) {
        static uint8_t tail[2][4096] __attribute__((aligned(4096)));
        for (unsigned k = 0; k < 2; k++) {
            tail[k][0] = (uint8_t)(k + 3);
            tail[k][4] = 0xc3;
        }
        map(7, frame_a, P);
        map(8, tail[i & 1], P);
        __asm__ volatile("call *%1" : "=a"(r) : "r"(PAGE(7) + 4095));
        CHECK(r == (i & 1) + 3);
    }
}

static void page_sizes(void)
{
    uint64_t old = pdpt_low[2];
    volatile uint8_t *p = (volatile uint8_t *)0x80000000ul;
    pdpt_low[2] = P | W | PS; /* 1 GiB at 0 */
    WRITE_REG(cr3, READ_REG(cr3));
    frame_a[5] = 0x5a;
    CHECK(p[(uintptr_t)frame_a + 5] == 0x5a);
    CHECK(pdpt_low[2] & A);
    p[(uintptr_t)frame_a + 5] = 1;
    CHECK(pdpt_low[2] & D);
    pdpt_low[2] = P | W | PS | 1 << 13; /* a reserved bit of a 1 GiB page */
    WRITE_REG(cr3, READ_REG(cr3));
    TRY("mov (%%rcx), %%r8b", "c"(p));
    CHECK_TRAP_NOT_QEMU(VEC_PF, 9);
    pdpt_low[2] = old;
    WRITE_REG(cr3, READ_REG(cr3));
    uint64_t old_pd = pd_low[2][0];
    pd_low[2][0] = P | W | PS | 1 << 13; /* and of a 2 MiB page */
    WRITE_REG(cr3, READ_REG(cr3));
    TRY("mov (%%rcx), %%r8b", "c"(p));
    CHECK_TRAP_NOT_QEMU(VEC_PF, 9);
    pd_low[2][0] = old_pd;
    pml4[2] = pml4[0] | PS; /* reserved in a PML4 entry */
    TRY("mov (%%rcx), %%r8b", "c"(2ul << 39));
    CHECK_TRAP_NOT_QEMU(VEC_PF, 9);
    pml4[2] = 0;
}

int main(void)
{
    set_window(P | W | U);
    permissions();
    smep_smap();
    accessed_dirty();
    coherence();
    self_modifying();
    page_sizes();
    return 0;
}
