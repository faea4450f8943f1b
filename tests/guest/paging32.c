/* tests/guest/paging32.c: 32-bit and PAE paging. SDM vol. 3, 4.3 and 4.4. */
#include "rt.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
#define NX (1ull << 63)
#define WINDOW 0x40000000u
static volatile uint32_t pd[1024] __attribute__((aligned(4096))), pt[1024] __attribute__((aligned(4096))), pt_low[1024] __attribute__((aligned(4096)));
static volatile uint64_t pdpt[4] __attribute__((aligned(32))), pae_pd[4][512] __attribute__((aligned(4096))), pae_pt[512] __attribute__((aligned(4096)));
static uint8_t frame[4096] __attribute__((aligned(4096)));
#define PAGE(i) ((volatile uint8_t *)(WINDOW + (i) * 4096u))

static void reload(void)
{
    if (!on_hyperwind)
        WRITE_REG(cr3, READ_REG(cr3));
}

static void paging_on(void)
{
    WRITE_REG(cr0, READ_REG(cr0) | CR0_PG | CR0_WP);
}
static void paging_off(void)
{
    WRITE_REG(cr0, READ_REG(cr0) & ~CR0_PG);
}

/* The first 4 MiB, where the guest lies, by 4 KiB pages: also without PSE. */
static void two_level(void)
{
    for (unsigned i = 0; i < 1024; i++)
        pt_low[i] = i * 4096 | P | W;
    pd[0] = (uintptr_t)pt_low | P | W;
    pd[WINDOW >> 22] = (uintptr_t)pt | P | W | U;
    WRITE_REG(cr3, pd);
    paging_on();
    pt[0] = (uintptr_t)frame | P | W | U;
    frame[3] = 0x33;
    CHECK(PAGE(0)[3] == 0x33);
    CHECK((pt[0] & (A | D)) == A && (pd[WINDOW >> 22] & A));
    PAGE(0)[3] = 0x34;
    CHECK((pt[0] & D) && frame[3] == 0x34);
    TRY("movl $0, (%%ecx)", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 2);
    CHECK(trap.cr2 == (uintptr_t)PAGE(1));
    pt[1] = (uintptr_t)frame | P;
    reload();
    TRY("movl $0, (%%ecx)", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 3);
    TRY("mov (%%ecx), %%eax", "c"(PAGE(1)));
    CHECK_NO_TRAP();
    /* No NX here: a fetch fault has no I bit. */
    TRY("jmp *%%ecx", "c"(PAGE(2)));
    CHECK_TRAP(VEC_PF, 0);
    /* PS counts only with CR4.PSE: without it the entry names a page table. */
    pd[(WINDOW >> 22) + 1] = (uintptr_t)pt | P | W | PS;
    CHECK(*(volatile uint8_t *)(WINDOW + 0x400000 + 3) == 0x34);
    WRITE_REG(cr4, READ_REG(cr4) | CR4_PSE);
    pd[(WINDOW >> 22) + 1] = 0 | P | W | PS; /* 4 MiB at 0 */
    reload();
    CHECK(*(volatile uint8_t *)(WINDOW + 0x400000 + (uintptr_t)frame + 3) == 0x34);
    CHECK(pd[(WINDOW >> 22) + 1] & A);
    pd[(WINDOW >> 22) + 1] = 1u << 21 | P | W | PS; /* reserved with PSE-36 */
    reload();
    TRY("mov (%%ecx), %%eax", "c"(WINDOW + 0x400000));
    CHECK_TRAP_NOT_QEMU(VEC_PF, 9);
    WRITE_REG(cr4, READ_REG(cr4) & ~(unsigned long)CR4_PSE);
    paging_off();
    CHECK(frame[3] == 0x34);
}

static void pae(void)
{
    WRITE_REG(cr4, READ_REG(cr4) | CR4_PAE);
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = (uintptr_t)pae_pd[i] | P;
    pae_pd[0][0] = 0 | P | W | PS;
    pae_pd[0][1] = 0x200000 | P | W | PS;
    pae_pd[1][0] = (uintptr_t)pae_pt | P | W | U;
    pae_pt[0] = (uintptr_t)frame | P | W | U;
    WRITE_REG(cr3, pdpt);
    paging_on();
    CHECK(PAGE(0)[3] == 0x34);
    CHECK(pae_pt[0] & A);
    CHECK(!on_hyperwind || (pdpt[1] & 0xfff) == P); /* PDPTEs have no accessed bit; QEMU sets one */
    /* The PDPTEs are registers: a change counts with the next load of CR3. */
    pdpt[1] = 0;
    CHECK(!on_hyperwind || PAGE(0)[3] == 0x34);
    WRITE_REG(cr3, pdpt);
    TRY("mov (%%ecx), %%eax", "c"(PAGE(0)));
    CHECK_TRAP(VEC_PF, 0);
    pdpt[1] = (uintptr_t)pae_pd[1] | P | W; /* bit 1 is reserved there */
    TRY("mov %%ecx, %%cr3", "c"(pdpt));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    pdpt[1] = (uintptr_t)pae_pd[1] | P | 1ull << 50;
    TRY("mov %%ecx, %%cr3", "c"(pdpt));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    if (on_hyperwind) { /* the old ones are still in use */
        TRY("mov (%%ecx), %%eax", "c"(PAGE(0)));
        CHECK_TRAP(VEC_PF, 0);
    }
    pdpt[1] = (uintptr_t)pae_pd[1] | P;
    WRITE_REG(cr3, pdpt);
    CHECK(PAGE(0)[3] == 0x34);
    /* NX */
    pae_pt[1] = (uintptr_t)frame | P | W | NX;
    reload();
    TRY("mov (%%ecx), %%eax", "c"(PAGE(1))); /* reserved without EFER.NXE */
    CHECK_TRAP_NOT_QEMU(VEC_PF, 9);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 0x800);
    reload();
    frame[0] = 0xc3;
    TRY("mov (%%ecx), %%eax", "c"(PAGE(1)));
    CHECK_NO_TRAP();
    TRY("call *%%ecx", "c"(PAGE(1)));
    CHECK_TRAP(VEC_PF, 0x11);
    TRY("call *%%ecx", "c"(PAGE(0)));
    CHECK_NO_TRAP();
    pae_pt[2] = (uintptr_t)frame | P | 1ull << 53; /* reserved in PAE paging */
    reload();
    TRY("mov (%%ecx), %%eax", "c"(PAGE(2)));
    CHECK_TRAP_NOT_QEMU(VEC_PF, 9);
    /* Turning long mode on under paging is refused. */
    TRY("rdmsr; or $0x100, %%eax; wrmsr", "c"(MSR_EFER));
    CHECK_TRAP_NOT_QEMU(VEC_GP, 0);
    paging_off();
}

int main(void)
{
    two_level();
    pae();
    return 0;
}
