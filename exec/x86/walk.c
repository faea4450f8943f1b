/* exec/x86/walk.c: the page walk. See walk.h; SDM vol. 3 sections 4.3 to 4.8. */
#include "exec/x86/walk.h"

#include "core/cpu.h"

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80 };
#define PTE_NX bit(63)
#define PTE_ADDR (bits(UINT64_MAX, VCPU_MAXPHYADDR - 1, 12) << 12)
#define PTE_RSVD_HIGH (((bit(52) - 1) >> VCPU_MAXPHYADDR) << VCPU_MAXPHYADDR)

/* One level of a paging mode. Levels run from the root to the leaf. */
struct level {
    uint8_t kind;    /* TABLE_* */
    uint8_t shift;   /* of the linear-address bits that index the table */
    uint8_t bits;    /* how many of them */
    bool large;      /* PS may make the entry a leaf */
};
static const struct level levels_4[] = {
    {TABLE_L4, 39, 9, false}, {TABLE_L3, 30, 9, true}, {TABLE_L2, 21, 9, true}, {TABLE_L1, 12, 9, false}};
static const struct level levels_pae[] = {{TABLE_L2, 21, 9, true}, {TABLE_L1, 12, 9, false}};
static const struct level levels_32[] = {{TABLE32_L2, 22, 10, true}, {TABLE32_L1, 12, 10, false}};

static bool is_32(uint8_t kind)
{
    return kind & (TABLE32_L1 | TABLE32_L2);
}

uint32_t walk_child(const struct vcpu *v, uint64_t entry, uint8_t kind)
{
    bool can_be_large = kind & (TABLE_L3 | TABLE_L2); /* a 4-byte PDE with PS is a pointer all the same while CR4.PSE is 0 */
    if (!(entry & PTE_P) || (kind & (TABLE_L1 | TABLE32_L1)) || (can_be_large && (entry & PTE_PS)))
        return MEM_NO_PAGE;
    uint64_t addr = entry & (is_32(kind) ? 0xfffff000u : PTE_ADDR);
    return mem_page(&v->machine->mem, gpa(addr));
}

static uint64_t read_entry(const struct vcpu *v, uint32_t page, uint32_t off, bool is32)
{
    const uint8_t *p = mem_page_host(&v->machine->mem, page) + off;
    return is32 ? get_le32(p) : get_le64(p);
}

static void set_bits(struct vcpu *v, uint32_t page, uint32_t off, uint8_t bits_to_set)
{
    if (v->machine->mem.trace[page] & PAGE_ROM)
        return; /* tables in ROM keep what they have */
    mmu_walker_write(v, page, off, 1);
    mem_page_host(&v->machine->mem, page)[off] |= bits_to_set; /* A and D lie in the first byte */
}

/* Reserved bits that are set in a present entry (SDM 4.5 and table 4-14 ff.). */
static bool reserved_bits(const struct vcpu *v, uint64_t entry, const struct level *l, bool leaf)
{
    bool long_mode = cpu_long(v);
    if (is_32(l->kind)) /* PSE-36: bits 20:13 are address bits 39:32, bit 21 is reserved */
        return leaf && l->large && (entry & bit(21));
    uint64_t rsvd = PTE_RSVD_HIGH;
    if (!long_mode)
        rsvd |= bits(UINT64_MAX, 62, 52) << 52; /* PAE: no ignored bits up there */
    if (!(v->s.efer & EFER_NXE))
        rsvd |= PTE_NX;
    if (!l->large && l->kind != TABLE_L1)
        rsvd |= PTE_PS; /* PML4E */
    if (leaf && l->large)
        rsvd |= (bit(l->shift) - 1) & ~(bit(13) - 1); /* low address bits of a large page, above PAT */
    return entry & rsvd;
}

/* Where the walk starts; false: a PDPTE that is not present. */
static bool walk_root(const struct vcpu *v, uint64_t lin, const struct level **l, unsigned *count, uint64_t *table)
{
    if (cpu_long(v)) {
        *l = levels_4;
        *count = ARRAY_LEN(levels_4);
        *table = v->s.cr3 & PTE_ADDR;
    } else if (v->s.cr4 & CR4_PAE) {
        uint64_t pdpte = v->s.pdpte[lin >> 30 & 3];
        *l = levels_pae;
        *count = ARRAY_LEN(levels_pae);
        *table = pdpte & PTE_ADDR;
        return pdpte & PTE_P;
    } else {
        *l = levels_32;
        *count = ARRAY_LEN(levels_32);
        *table = v->s.cr3 & 0xfffff000u;
    }
    return true;
}

static uint64_t leaf_address(uint64_t entry, const struct level *l, uint64_t lin)
{
    uint64_t size_mask = bit(l->shift) - 1;
    if (!is_32(l->kind))
        return (entry & PTE_ADDR & ~size_mask) | (lin & size_mask);
    uint64_t addr = entry & 0xffffffffu & ~size_mask;
    if (l->large)
        addr |= bits(entry, 20, 13) << 32;
    return addr | (lin & size_mask);
}

bool walk_tables(struct vcpu *v, uint64_t lin, bool set_accessed, struct walk *out)
{
    *out = (struct walk){.gpa = lin, .leaf_gpa = WALK_NO_LEAF, .user = true, .writable = true, .dirty = true};
    if (!(v->s.cr0 & CR0_PG))
        return true;
    const struct level *l;
    unsigned count;
    uint64_t table;
    if (!walk_root(v, lin, &l, &count, &table))
        return false;
    for (unsigned i = 0; i < count; i++) {
        bool is32 = is_32(l[i].kind);
        uint32_t off = (uint32_t)(lin >> l[i].shift & (bit(l[i].bits) - 1)) * (is32 ? 4 : 8);
        uint32_t page = mem_page(&v->machine->mem, gpa(table));
        /* A table where there is no memory reads as ones: present, with reserved bits set. */
        uint64_t entry = page == MEM_NO_PAGE ? UINT64_MAX : read_entry(v, page, off, is32);
        if (!(entry & PTE_P))
            return false;
        bool may_be_large = l[i].large && (!is32 || (v->s.cr4 & CR4_PSE));
        bool leaf = i + 1 == count || (may_be_large && (entry & PTE_PS));
        if (page == MEM_NO_PAGE || reserved_bits(v, entry, &l[i], leaf)) {
            out->error = PF_P | PF_RSVD;
            return false;
        }
        out->step[out->steps++] = (struct walk_step){page, l[i].kind};
        out->writable = out->writable && (entry & PTE_W);
        out->user = out->user && (entry & PTE_U);
        out->nx = out->nx || (!is32 && (entry & PTE_NX));
        if (leaf) {
            out->dirty = entry & PTE_D;
            out->leaf_gpa = table + off;
            out->leaf_page = page;
            out->gpa = leaf_address(entry, &l[i], lin);
            return true;
        }
        if (set_accessed && !(entry & PTE_A))
            set_bits(v, page, off, PTE_A);
        table = entry & (is32 ? 0xfffff000u : PTE_ADDR);
    }
    return false; /* not reached: the last level is a leaf */
}

uint32_t walk_check(const struct vcpu *v, const struct walk *w, enum mmu_access acc, enum mmu_mode mode)
{
    if (!(v->s.cr0 & CR0_PG))
        return WALK_OK;
    bool write = acc == ACC_WRITE || acc == ACC_RMW;
    bool denied;
    if (mode == MMU_USER)
        denied = !w->user || (write && !w->writable);
    else
        denied = (write && !w->writable && (v->s.cr0 & CR0_WP)) ||
                 (w->user && acc == ACC_FETCH && (v->s.cr4 & CR4_SMEP)) ||
                 (w->user && acc != ACC_FETCH && mode == MMU_SUP && (v->s.cr4 & CR4_SMAP));
    if (acc == ACC_FETCH && w->nx)
        denied = true;
    return denied ? PF_P : WALK_OK;
}

void walk_commit(struct vcpu *v, struct walk *w, bool dirty)
{
    if (w->leaf_gpa == WALK_NO_LEAF)
        return;
    uint32_t off = (uint32_t)(w->leaf_gpa & PAGE_MASK);
    uint8_t now = mem_page_host(&v->machine->mem, w->leaf_page)[off];
    uint8_t want = (uint8_t)(PTE_A | (dirty ? PTE_D : 0));
    if ((now & want) != want)
        set_bits(v, w->leaf_page, off, want);
    w->dirty = w->dirty || dirty;
}
