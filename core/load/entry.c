/* core/load/entry.c: the vCPU as a boot loader hands it over: 32-bit protected mode or 64-bit mode, flat segments. */
#include "core/load/load.h"

enum {
    ATTR_CODE32 = SEG_CODE | SEG_READ | SEG_ACCESSED | SEG_S | SEG_P | SEG_DB | SEG_G,
    ATTR_CODE64 = SEG_CODE | SEG_READ | SEG_ACCESSED | SEG_S | SEG_P | SEG_L | SEG_G,
    ATTR_DATA32 = SEG_WRITE | SEG_ACCESSED | SEG_S | SEG_P | SEG_DB | SEG_G,
    ATTR_TSS_BUSY = 0xb | SEG_P, /* 32-bit TSS, and 64-bit TSS in IA-32e mode: the same type (SDM vol. 3, 3.5) */
    TSS_LIMIT = 0x67,

    GDT_LEN = BOOT_TR + 16, /* a 64-bit TSS descriptor takes two slots */

    PTE_P = 1,
    PTE_RW = 2,
    PTE_PS = 0x80,
    PAGE_TABLES = 6, /* PML4, PDPT and four page directories of 2 MiB pages: 4 GiB */
};

/* A descriptor with base 0 (SDM vol. 3, 3.4.5) from the hidden form of core/vcpu.h. */
static uint64_t descriptor(uint32_t limit, uint16_t attr)
{
    uint64_t raw = attr & SEG_G ? limit >> PAGE_SHIFT : limit;
    return (raw & 0xffff) | (raw & 0xf0000) << 32 | (uint64_t)(attr & 0xf0ff) << 40;
}

static struct err *put_gdt(struct load *ld, uint16_t code_attr)
{
    uint64_t gdt[GDT_LEN / 8] = {
        [BOOT_CS / 8] = descriptor(UINT32_MAX, code_attr),
        [BOOT_DS / 8] = descriptor(UINT32_MAX, ATTR_DATA32),
        [BOOT_TR / 8] = descriptor(TSS_LIMIT, ATTR_TSS_BUSY),
    };
    uint64_t at;
    struct err *e = load_place_info(ld, GDT_LEN, 16, "the boot GDT", &at);
    if (e)
        return e;
    load_put(ld, at, gdt, GDT_LEN);
    ld->m->vcpu.s.gdtr = (struct dtable){.base = at, .limit = GDT_LEN - 1};
    return NULL;
}

static struct err *enter(struct load *ld, uint64_t entry, uint16_t code_attr)
{
    struct err *e = put_gdt(ld, code_attr);
    if (e)
        return e;
    struct vcpu_state *s = &ld->m->vcpu.s;
    for (unsigned i = S_ES; i <= S_GS; i++)
        s->seg[i] = (struct seg){.limit = UINT32_MAX, .sel = BOOT_DS, .attr = ATTR_DATA32};
    s->seg[S_CS] = (struct seg){.limit = UINT32_MAX, .sel = BOOT_CS, .attr = code_attr};
    s->seg[S_TR] = (struct seg){.limit = TSS_LIMIT, .sel = BOOT_TR, .attr = ATTR_TSS_BUSY};
    s->idtr = (struct dtable){0}; /* an exception before the kernel has its own IDT is fatal at once */
    s->cpl = 0;
    vcpu_set_rflags(s, 0);
    s->r[R_RIP] = entry;
    s->cr0 = CR0_PE | CR0_ET;
    s->cr4 = 0;
    ld->kernel_entry = entry;
    return NULL;
}

struct err *entry_flat32(struct load *ld, uint32_t entry) { return enter(ld, entry, ATTR_CODE32); }

static struct err *put_identity_map(struct load *ld, uint64_t *root_out)
{
    struct err *e = load_place_info(ld, PAGE_TABLES * PAGE_SIZE, PAGE_SIZE, "the boot page tables", root_out);
    if (e)
        return e;
    uint64_t root = *root_out, pdpt = root + PAGE_SIZE, dirs = pdpt + PAGE_SIZE;
    uint64_t table[PAGE_SIZE / 8] = {pdpt | PTE_P | PTE_RW};
    load_put(ld, root, table, PAGE_SIZE);
    for (unsigned i = 0; i < 4; i++)
        table[i] = (dirs + i * PAGE_SIZE) | PTE_P | PTE_RW;
    load_put(ld, pdpt, table, PAGE_SIZE);
    for (unsigned dir = 0; dir < 4; dir++) {
        for (unsigned i = 0; i < ARRAY_LEN(table); i++)
            table[i] = GIB(dir) + MIB(2) * i + (PTE_P | PTE_RW | PTE_PS);
        load_put(ld, dirs + dir * PAGE_SIZE, table, PAGE_SIZE);
    }
    return NULL;
}

struct err *entry_long64(struct load *ld, uint64_t entry)
{
    uint64_t root;
    struct err *e = put_identity_map(ld, &root);
    if (!e)
        e = enter(ld, entry, ATTR_CODE64);
    if (e)
        return e;
    struct vcpu_state *s = &ld->m->vcpu.s;
    s->cr3 = root;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    s->cr0 |= CR0_PG;
    return NULL;
}
