/* gdb/monitor_pages.c: what the page tables map, in the text form of QEMU's `info mem` and `info tlb`, with one letter
 * more: whether it may be executed, which QEMU does not tell.
 *
 * The tables are the guest's: they may map a table many times over, or hold garbage. So the walk is bounded by the
 * tables it reads and the lines it writes. References: SDM vol. 3, 4.3 to 4.5. */
#include "gdb/monitor.h"

#define SAY(m, ...) text_printf((m)->out, __VA_ARGS__)

enum {
    PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PWT = 8, PTE_PCD = 0x10, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80,
    PTE_G = 0x100,
    TABLES_MAX = 1 << 18, LINES_MAX = 200000, TABLE_BYTES = 4096, LEVELS_MAX = 4,
};
#define PTE_NX (UINT64_C(1) << 63)
#define PTE_ADDRESS UINT64_C(0x000ffffffffff000)
#define PTE32_ADDRESS UINT64_C(0xfffff000)

struct page { uint64_t linear, physical, len, entry, rights; /* rights: of all levels together */ };

struct walk {
    struct monitor *m;
    void (*page)(struct walk *w, const struct page *p);
    unsigned wide;          /* bytes of an entry */
    bool nx, pse;           /* EFER.NXE; large pages in 32-bit paging */
    unsigned tables, lines;
    const char *cut;        /* why the walk is not complete */
    /* info mem: the range that grows */
    uint64_t start, end, rights;
};

/* Of an entry, or of all on the way to a page: PTE_W and PTE_U must be set everywhere, PTE_NX nowhere. */
static uint64_t combine(uint64_t rights, uint64_t entry)
{
    return (rights & entry & (PTE_W | PTE_U)) | ((rights | entry) & PTE_NX);
}

static unsigned shift_of(const struct walk *w, unsigned level) /* 1: page tables */
{
    return 12 + (level - 1) * (w->wide == 8 ? 9 : 10);
}

static bool go_on(struct walk *w)
{
    const struct gdb_target *target = w->m->target;
    if (w->tables >= TABLES_MAX)
        w->cut = "there are too many page tables";
    else if (w->lines >= LINES_MAX)
        w->cut = "there are too many lines";
    else if (gdbs_interrupt_wanted(target->g) ||
             (w->tables % 64 == 0 && target->interrupted && target->interrupted(target->interrupted_arg)))
        w->cut = "interrupted";
    return !w->cut;
}

static bool is_page(const struct walk *w, uint64_t entry, unsigned level)
{
    return level == 1 || (level < 4 && (entry & PTE_PS) && (w->wide == 8 || w->pse));
}

static uint64_t page_address(const struct walk *w, uint64_t entry, unsigned level)
{
    uint64_t low = UINT64_C(1) << shift_of(w, level);
    if (w->wide == 4 && level == 2) /* PSE-36: bits 39:32 of the address are bits 20:13 of the entry */
        return (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32;
    return entry & (w->wide == 8 ? PTE_ADDRESS : PTE32_ADDRESS) & ~(low - 1);
}

static uint64_t canonical(const struct walk *w, uint64_t linear)
{
    return w->wide == 8 && linear >> 47 & 1 ? linear | UINT64_C(0xffff) << 48 : linear;
}

/* No recursion deeper than LEVELS_MAX. */
static void walk_table(struct walk *w, uint64_t table, uint64_t linear, unsigned level, uint64_t rights)
{
    uint8_t bytes[TABLE_BYTES];
    w->tables++;
    if (timeline_read(w->m->target->t, TS_PHYSICAL, table, bytes, TABLE_BYTES) < TABLE_BYTES)
        return; /* not in RAM: nothing that the guest could use */
    for (unsigned i = 0; i < TABLE_BYTES / w->wide && go_on(w); i++) {
        uint64_t entry = w->wide == 8 ? get_le64(bytes + i * 8) : get_le32(bytes + i * 4);
        uint64_t at = linear + ((uint64_t)i << shift_of(w, level));
        if (!(entry & PTE_P))
            continue;
        uint64_t effective = combine(rights, w->nx ? entry : entry & ~PTE_NX);
        if (is_page(w, entry, level))
            w->page(w, &(struct page){canonical(w, at), page_address(w, entry, level),
                                      UINT64_C(1) << shift_of(w, level), entry, effective});
        else
            walk_table(w, entry & (w->wide == 8 ? PTE_ADDRESS : PTE32_ADDRESS), at, level - 1, effective);
    }
}

/* The four entries that PAE paging starts from are in the CPU and have no rights of their own (SDM vol. 3, 4.4.1). */
static void walk_pae(struct walk *w, const struct vcpu_state *s)
{
    for (unsigned i = 0; i < 4 && go_on(w); i++)
        if (s->pdpte[i] & PTE_P)
            walk_table(w, s->pdpte[i] & PTE_ADDRESS, (uint64_t)i << 30, 2, PTE_W | PTE_U);
}

static bool walk_all(struct walk *w)
{
    const struct vcpu_state *s = timeline_vcpu(w->m->target->t);
    if (!(s->cr0 & CR0_PG)) {
        SAY(w->m, "PG disabled\n");
        return false;
    }
    w->nx = s->efer & EFER_NXE;
    w->pse = s->cr4 & CR4_PSE;
    w->wide = s->cr4 & CR4_PAE ? 8 : 4;
    if (s->efer & EFER_LMA)
        walk_table(w, s->cr3 & PTE_ADDRESS, 0, LEVELS_MAX, PTE_W | PTE_U);
    else if (w->wide == 8)
        walk_pae(w, s);
    else
        walk_table(w, s->cr3 & PTE32_ADDRESS, 0, 2, PTE_W | PTE_U);
    return true;
}

static void say_cut(struct walk *w)
{
    if (w->cut)
        SAY(w->m, "(not complete: %s)\n", w->cut);
}

/* ---- info tlb ---- */

/* The rights are the entry's own, as QEMU shows them. */
static void say_page(struct walk *w, const struct page *p)
{
    static const struct { char letter; uint64_t bit; } rows[] = {
        {'X', PTE_NX}, {'G', PTE_G}, {'P', PTE_PS}, {'D', PTE_D}, {'A', PTE_A}, {'C', PTE_PCD}, {'T', PTE_PWT},
        {'U', PTE_U}, {'W', PTE_W},
    };
    bool large = p->len > TABLE_BYTES; /* bit 7 of a 4 KiB page is its memory type */
    SAY(w->m, "%016" PRIx64 ": %016" PRIx64 " ", p->linear, p->physical);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        text_char(w->m->out, p->entry & rows[i].bit && (rows[i].bit != PTE_PS || large) ? rows[i].letter : '-');
    text_char(w->m->out, '\n');
    w->lines++;
}

void monitor_tlb(struct monitor *m)
{
    struct walk w = {.m = m, .page = say_page};
    if (walk_all(&w))
        say_cut(&w);
}

/* ---- info mem ---- */

static void say_range(struct walk *w)
{
    if (w->end == w->start)
        return;
    SAY(w->m, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c%c\n", w->start, w->end, w->end - w->start,
        w->rights & PTE_U ? 'u' : '-', w->rights & PTE_W ? 'w' : '-', w->rights & PTE_NX ? '-' : 'x');
    w->lines++;
}

static void grow_range(struct walk *w, const struct page *p)
{
    if (p->linear != w->end || p->rights != w->rights) {
        say_range(w);
        w->start = p->linear;
        w->rights = p->rights;
    }
    w->end = p->linear + p->len;
}

void monitor_mem(struct monitor *m)
{
    struct walk w = {.m = m, .page = grow_range};
    if (!walk_all(&w))
        return;
    say_range(&w);
    say_cut(&w);
}
