/* exec/x86/mmu.c: the coherent soft TLB. The contract and the five rules are in mmu.h.
 *
 * Entries live in *spaces*, one per recently used paging state (CR3 and the control bits that steer translation); a CR3
 * load selects a space and drops nothing. A space holds one direct-mapped array per access mode for data, another for data
 * in pages that probes cover, and one per privilege for fetches.
 *
 * What makes it coherent: every valid entry hangs on two chains,
 *  - the *leaf chain*, by the guest-physical address of the paging-structure entry that it came from, so that a write to
 *    that entry finds all of its translations, through every alias and in every space;
 *  - the *page chain*, by the page it maps, so that write permission can be revoked when the page becomes traced.
 * Pages that were walked as tables carry PAGE_TRACE_PT and, per page, the set of TABLE_* kinds they were read as.
 *
 * Invariants:
 *  (a) kind k is in table_kinds[p] if some valid entry was derived through page p read as a table of kind k.
 *  (b) PAGE_TRACE_PT is set on p exactly while table_kinds[p] != 0.
 *  (c) tag_w is valid only while the page's trace byte is PAGE_DIRTY, and the leaf's D bit is set.
 *  (d) code_epoch of a space and privilege changes whenever a valid fetch entry of it is lost, evictions included.
 * A write to a present non-leaf entry drops the whole subtree (drop_table), which then no longer is a table by (a): so
 * the work of drops is bounded by the work of the walks that set the kinds. Only what the roots of several spaces share
 * stays (drop_root_entry): the kernel's half, when a process goes and its root is used again. */
#include "exec/x86/mmu.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/map.h"
#include "core/cpu.h"
#include "exec/x86/access.h"
#include "exec/x86/probe.h"
#include "exec/x86/sys.h"
#include "exec/x86/walk.h"

enum {
    SPACES = MMU_SPACES,
    /* Arrays of a space: data by mode; pages of data probes by mode, which only mmu_span() knows; fetches by privilege. */
    WATCHED = MMU_CACHED, FETCH_USER = 2 * MMU_CACHED, FETCH_SUP, ARRAYS,
    SPACE_ENTRIES = ARRAYS * TLB_SIZE,
    GROUP = 64, /* entries */
    LEAF_BUCKETS = 1 << 16,
    ROOT_SLOTS = 512, ROOT_SHIFT = 39, /* SDM 4.5: linear-address bits 47:39 index the PML4 */
    PTE_PRESENT = 1, PTE_ACCESSED = 0x20,
    DR7_ENABLES = 0xff, /* L0 G0 .. L3 G3, SDM 17.2.4 */
    /* Traced writes to a table that dropped nothing, after which it is no longer traced. With a page that faulted Linux
     * maps the 15 around it, so that tables of leaves get more of them. */
    IDLE_WRITES = 16, IDLE_LEAF_WRITES = 24,
};

/* What selects a space. Compared bytewise: no padding. */
struct space_key {
    uint64_t cr3;
    uint64_t control; /* CR0, CR4 and EFER bits that steer translation */
    uint64_t pdpte[4];
};

struct space {
    struct space_key key;
    bool used;
    bool fresh; /* holds nothing, and was not switched to since it was emptied */
    uint64_t last_use;
    uint64_t epoch[2]; /* of FETCH_USER and FETCH_SUP */
    uint64_t touched[(SPACE_ENTRIES / GROUP + 63) / 64]; /* a bit for each GROUP of entries that may hold a valid one */
    uint64_t root_slots[ROOT_SLOTS / 64]; /* a bit for each entry of a 4-level root that a valid entry may come from */
};

/* The cold half of a TLB entry. Ids are index + 1; 0 ends a chain. */
struct link {
    uint32_t leaf_next, leaf_prev; /* prev 0: first of its bucket */
    uint32_t page_next, page_prev;
    uint64_t leaf_gpa;             /* WALK_NO_LEAF without paging: on no leaf chain */
    uint32_t page;
    bool may_write;                /* translation permits writes and D is set: only tracing may forbid them */
};

/* Aligned as the strictest instruction executed on the host wants its operand. */
struct bounce { _Alignas(64) uint8_t data[64]; struct span span; };

struct mmu {
    struct vcpu *v;
    struct mem *mem;
    struct space space[SPACES];
    struct space *cur;
    uint64_t lost; /* mmu_lost() */
    uint64_t use_clock, epoch_clock, epoch_floor; /* an epoch below the floor is stale */
    struct tlb_entry *entry; /* SPACES * SPACE_ENTRIES */
    struct link *link;       /* likewise */
    struct tlb_entry *never; /* TLB_SIZE entries that never hit: MMU_USER_ALIGN */
    uint32_t *leaf_head;     /* LEAF_BUCKETS */
    uint32_t *page_head;     /* by page */
    uint8_t *table_kinds;    /* by page */
    uint8_t *table_idle;     /* by page: see IDLE_WRITES */
    bool walker_writing;
    struct code_owner owner[CODE_OWNERS_MAX]; /* self NULL: free */
    uint32_t few_max, few_next; /* mmu_keep_few(): how many, 0 for no limit; and the oldest of few[] */
    uint32_t few[MMU_FEW_MAX];  /* ids of entries; one that was lost meanwhile does no harm here */
    struct bounce bounce_rd, bounce_wr;
    uint64_t dr[8]; /* the debug registers that the entries were made under */
    struct mmu_stats stats;
};

/* ---- entries and their chains ---- */

/* The buckets of a table's entries follow each other, for whoever goes through a table. */
static uint32_t leaf_bucket(uint64_t leaf_gpa)
{
    uint64_t first = (leaf_gpa >> PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 48;
    return (uint32_t)(first + (leaf_gpa >> 3 & (PAGE_SIZE / 8 - 1))) % LEAF_BUCKETS;
}

static void unlink_entry(struct mmu *m, uint32_t i)
{
    struct link *l = &m->link[i];
    if (l->leaf_gpa != WALK_NO_LEAF) {
        if (l->leaf_prev)
            m->link[l->leaf_prev - 1].leaf_next = l->leaf_next;
        else
            m->leaf_head[leaf_bucket(l->leaf_gpa)] = l->leaf_next;
        if (l->leaf_next)
            m->link[l->leaf_next - 1].leaf_prev = l->leaf_prev;
    }
    if (l->page_prev)
        m->link[l->page_prev - 1].page_next = l->page_next;
    else
        m->page_head[l->page] = l->page_next;
    if (l->page_next)
        m->link[l->page_next - 1].page_prev = l->page_prev;
}

static void link_entry(struct mmu *m, uint32_t i, uint64_t leaf_gpa, uint32_t page)
{
    struct link *l = &m->link[i];
    *l = (struct link){.leaf_gpa = leaf_gpa, .page = page, .page_next = m->page_head[page]};
    if (leaf_gpa != WALK_NO_LEAF) {
        uint32_t *head = &m->leaf_head[leaf_bucket(leaf_gpa)];
        l->leaf_next = *head;
        if (*head)
            m->link[*head - 1].leaf_prev = i + 1;
        *head = i + 1;
    }
    if (l->page_next)
        m->link[l->page_next - 1].page_prev = i + 1;
    m->page_head[page] = i + 1;
}

static bool entry_valid(const struct mmu *m, uint32_t i)
{
    return m->entry[i].tag_r != tlb_no_tag(i);
}

/* Called from translated code with the guest's vector registers in place. */
#define GENERAL_REGS __attribute__((target("general-regs-only")))

GENERAL_REGS static unsigned fetch_privilege(const struct vcpu *v)
{
    return v->s.cpl == 3 ? 0 : 1;
}

GENERAL_REGS static void publish_epoch(struct mmu *m)
{
    uint64_t *e = &m->cur->epoch[fetch_privilege(m->v)];
    if (*e < m->epoch_floor)
        *e = ++m->epoch_clock;
    cpu_of(m->v)->code_epoch = *e;
}

/* Invariant (d). `lin`: its tag. */
static void fetch_entry_lost(struct mmu *m, uint32_t i, uint64_t lin)
{
    struct space *sp = &m->space[i / SPACE_ENTRIES];
    unsigned array = i % SPACE_ENTRIES / TLB_SIZE;
    if (array < FETCH_USER)
        return;
    for (unsigned o = 0; o < CODE_OWNERS_MAX; o++)
        if (m->owner[o].fetch_lost)
            m->owner[o].fetch_lost(m->owner[o].self, (unsigned)(sp - m->space), array == FETCH_USER, lin);
    sp->epoch[array - FETCH_USER] = ++m->epoch_clock;
    if (sp == m->cur) {
        publish_epoch(m);
        m->v->brk |= VCPU_BRK_CODE;
    }
}

static void drop_entry(struct mmu *m, uint32_t i)
{
    uint64_t lin = m->entry[i].tag_r;
    m->lost++;
    unlink_entry(m, i);
    m->entry[i].tag_r = m->entry[i].tag_w = tlb_no_tag(i);
    fetch_entry_lost(m, i, lin);
    m->stats.drops++;
}

static uint32_t entry_index(const struct mmu *m, const struct space *sp, unsigned array, uint64_t lin)
{
    return (uint32_t)(sp - m->space) * SPACE_ENTRIES + array * TLB_SIZE + (uint32_t)(lin >> PAGE_SHIFT & (TLB_SIZE - 1));
}

/* ---- drops ---- */

/* Drop every entry derived from the leaf entry at leaf_gpa. */
static bool drop_leaf(struct mmu *m, uint64_t leaf_gpa)
{
    bool any = false;
    for (uint32_t id = m->leaf_head[leaf_bucket(leaf_gpa)], next; id; id = next) {
        next = m->link[id - 1].leaf_next;
        if (m->link[id - 1].leaf_gpa == leaf_gpa) {
            drop_entry(m, id - 1);
            any = true;
        }
    }
    return any;
}

static unsigned root_slot(uint64_t lin)
{
    return lin >> ROOT_SHIFT & (ROOT_SLOTS - 1);
}

/* Drop what a space holds: all, or what came from one entry of its root. */
enum { ALL_SLOTS = ROOT_SLOTS };
static void space_drop(struct mmu *m, struct space *sp, unsigned slot)
{
    uint32_t first = (uint32_t)(sp - m->space) * SPACE_ENTRIES;
    for (uint32_t w = 0; w < ARRAY_LEN(sp->touched); w++) {
        for (uint64_t left = sp->touched[w]; left; left &= left - 1) {
            uint32_t g = w * 64 + (uint32_t)__builtin_ctzll(left);
            bool keeps = false;
            for (uint32_t i = first + g * GROUP; i < first + (g + 1) * GROUP; i++) {
                if (!entry_valid(m, i))
                    continue;
                if (slot == ALL_SLOTS || root_slot(m->entry[i].tag_r) == slot)
                    drop_entry(m, i);
                else
                    keeps = true;
            }
            if (!keeps)
                sp->touched[w] &= ~(left & -left);
        }
    }
    if (slot == ALL_SLOTS) {
        memset(sp->root_slots, 0, sizeof(sp->root_slots));
        sp->fresh = true;
    } else {
        sp->root_slots[slot / 64] &= ~bit(slot % 64);
    }
}

static bool is_wide(uint8_t kind)
{
    return !(kind & (TABLE32_L1 | TABLE32_L2));
}

static uint8_t child_kind(uint8_t kind)
{
    return kind >> 1; /* the bits of TABLE_* are ordered by level within their family */
}

static uint64_t table_entry(const struct mmu *m, uint32_t page, uint32_t off, uint8_t kind)
{
    const uint8_t *p = mem_page_host(m->mem, page) + off;
    return is_wide(kind) ? get_le64(p) : get_le32(p);
}

/* Whether anything may have come from an entry of a traced table: not from one that is not present, for it lost all when
 * it became so. */
static bool derives(uint64_t entry)
{
    return entry & PTE_PRESENT;
}

static void drop_table(struct mmu *m, uint32_t page, uint8_t kind);

/* Whether the root of another space leads to `child` at the same place. */
static bool child_shared(const struct mmu *m, uint32_t root, uint32_t off, uint32_t child)
{
    for (const struct space *sp = m->space; sp < m->space + SPACES; sp++) {
        uint32_t page = sp->used ? mem_page(m->mem, gpa(sp->key.cr3)) : MEM_NO_PAGE;
        if (page != MEM_NO_PAGE && page != root && (m->table_kinds[page] & TABLE_L4) &&
            walk_child(m->v, table_entry(m, page, off, TABLE_L4), TABLE_L4) == child)
            return true;
    }
    return false;
}

/* Drop every entry derived through the entry of a 4-level root, before it changes: all of them are in the spaces of that
 * root. A table that other roots share (an operating system's half of all its processes) stays one, and the other spaces
 * keep their entries. */
static bool drop_root_entry(struct mmu *m, uint32_t page, uint32_t off)
{
    uint32_t child = walk_child(m->v, table_entry(m, page, off, TABLE_L4), TABLE_L4);
    if (child == MEM_NO_PAGE || !(m->table_kinds[child] & TABLE_L3))
        return false;
    if (!child_shared(m, page, off, child)) {
        drop_table(m, child, TABLE_L3);
        return true;
    }
    unsigned slot = off / 8;
    bool any = false;
    for (struct space *sp = m->space; sp < m->space + SPACES; sp++) {
        if (!(sp->root_slots[slot / 64] >> slot % 64 & 1) || mem_page(m->mem, gpa(sp->key.cr3)) != page)
            continue;
        space_drop(m, sp, sp == m->cur ? slot : ALL_SLOTS); /* a root not in use becomes something else */
        any = true;
    }
    return any;
}

/* Drop every entry derived through `page` as a table of `kind`, and what hangs below. Recursion is bounded by the levels. */
static void drop_table(struct mmu *m, uint32_t page, uint8_t kind)
{
    if (!(m->table_kinds[page] & kind))
        return;
    m->table_kinds[page] &= (uint8_t)~kind;
    uint64_t base = mem_page_gpa(m->mem, page).v;
    uint32_t step = is_wide(kind) ? 8 : 4;
    for (uint32_t off = 0; off < PAGE_SIZE; off += step) {
        if (kind == TABLE_L4) {
            drop_root_entry(m, page, off);
            continue;
        }
        uint64_t entry = table_entry(m, page, off, kind);
        if (!derives(entry))
            continue;
        drop_leaf(m, base + off);
        uint32_t child = walk_child(m->v, entry, kind);
        if (child != MEM_NO_PAGE)
            drop_table(m, child, child_kind(kind));
    }
    if (!m->table_kinds[page])
        mem_trace_clear(m->mem, page, PAGE_TRACE_PT);
}

/* The bytes [off, off+len) of a table are about to change: drop what was derived from the entries they hold. */
static bool drop_entries_in(struct mmu *m, uint32_t page, uint32_t off, uint32_t len, uint8_t kind)
{
    bool any = false;
    uint64_t base = mem_page_gpa(m->mem, page).v;
    uint32_t step = is_wide(kind) ? 8 : 4;
    for (uint32_t o = off & ~(step - 1); o < off + len; o += step) {
        if (kind == TABLE_L4) {
            any |= drop_root_entry(m, page, o);
            continue;
        }
        uint64_t entry = table_entry(m, page, o, kind);
        if (!derives(entry))
            continue;
        any |= drop_leaf(m, base + o);
        uint32_t child = walk_child(m->v, entry, kind);
        if (child != MEM_NO_PAGE && (m->table_kinds[child] & child_kind(kind))) {
            drop_table(m, child, child_kind(kind));
            any = true;
        }
    }
    return any;
}

static void drop_all_tables(struct mmu *m, uint32_t page)
{
    for (uint8_t kinds = m->table_kinds[page]; kinds; kinds &= (uint8_t)(kinds - 1))
        drop_table(m, page, (uint8_t)(kinds & -kinds));
}

static void table_written(struct mmu *m, uint32_t page, uint32_t off, uint32_t len)
{
    bool any = false, leaves = m->table_kinds[page] & (TABLE_L1 | TABLE32_L1);
    for (uint8_t kinds = m->table_kinds[page]; kinds; kinds &= (uint8_t)(kinds - 1))
        any |= drop_entries_in(m, page, off, len, (uint8_t)(kinds & -kinds));
    if (any)
        m->table_idle[page] = 0;
    else if (++m->table_idle[page] >= (leaves ? IDLE_LEAF_WRITES : IDLE_WRITES))
        drop_all_tables(m, page); /* probably data by now; the next walk through it traces it again */
}

static void code_written(struct mmu *m, uint32_t page, uint32_t off, uint32_t len)
{
    bool left = false;
    for (unsigned i = 0; i < CODE_OWNERS_MAX; i++)
        left |= m->owner[i].self && m->owner[i].code_write(m->owner[i].self, page, off, len);
    if (!left)
        mem_trace_clear(m->mem, page, PAGE_TRACE_CODE);
}

static void observe_traced_write(void *self, uint32_t page, uint32_t off, uint32_t len)
{
    struct mmu *m = self;
    m->stats.traced_writes++;
    if ((m->mem->trace[page] & PAGE_TRACE_PT) && !m->walker_writing)
        table_written(m, page, off, len);
    if (m->mem->trace[page] & PAGE_TRACE_CODE)
        code_written(m, page, off, len);
}

static void observe_revoke_write(void *self, uint32_t page)
{
    struct mmu *m = self;
    m->lost++;
    for (uint32_t id = m->page_head[page]; id; id = m->link[id - 1].page_next)
        m->entry[id - 1].tag_w = tlb_no_tag(id - 1);
}

void mmu_walker_write(struct vcpu *v, uint32_t page, uint32_t off, uint32_t len)
{
    v->mmu->walker_writing = true;
    mem_before_write(v->mmu->mem, page, off, len);
    v->mmu->walker_writing = false;
}

/* ---- spaces ---- */

void mmu_drop_all(struct mmu *m)
{
    for (unsigned i = 0; i < SPACES; i++)
        space_drop(m, &m->space[i], ALL_SLOTS);
}

/* An entry is about to be derived from the table: invariants (a) and (b). */
static void trace_table(struct mmu *m, uint32_t page, uint8_t kind)
{
    m->table_idle[page] = 0;
    if (m->table_kinds[page] & kind)
        return;
    m->table_kinds[page] |= kind;
    mem_trace_set(m->mem, page, PAGE_TRACE_PT);
}

/* `i`: index of an entry of the space that becomes valid. */
static void space_touch(struct space *sp, uint32_t i, uint64_t lin)
{
    uint32_t group = i % SPACE_ENTRIES / GROUP;
    sp->touched[group / 64] |= bit(group % 64);
    sp->root_slots[root_slot(lin) / 64] |= bit(root_slot(lin) % 64);
    sp->fresh = false;
}

static void space_key(const struct vcpu *v, struct space_key *k)
{
    memset(k, 0, sizeof(*k));
    if (!(v->s.cr0 & CR0_PG))
        return;
    k->cr3 = v->s.cr3 & (bit(VCPU_MAXPHYADDR) - PAGE_SIZE); /* PCIDs do not matter to a coherent TLB */
    k->control = (v->s.cr0 & (CR0_PG | CR0_WP)) | (v->s.cr4 & (CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP)) << 32 |
                 (v->s.efer & (EFER_LMA | EFER_NXE)) << 4;
    if (!cpu_long(v) && (v->s.cr4 & CR4_PAE)) {
        k->cr3 = 0; /* PAE translates through the PDPTE registers, whatever CR3 says */
        memcpy(k->pdpte, v->s.pdpte, sizeof(k->pdpte));
    }
}

static struct space *space_find(struct mmu *m, const struct space_key *k)
{
    struct space *oldest = &m->space[0];
    for (struct space *sp = m->space; sp < m->space + SPACES; sp++) {
        if (sp->used && !memcmp(&sp->key, k, sizeof(*k)))
            return sp;
        if (sp->last_use < oldest->last_use)
            oldest = sp;
    }
    space_drop(m, oldest, ALL_SLOTS);
    oldest->used = true;
    oldest->key = *k;
    oldest->epoch[0] = oldest->epoch[1] = 0; /* stale: see publish_epoch() */
    return oldest;
}

/* Whether both roots lead to the same at `slot`, and a walk from `root` would set nothing on its way. */
static bool same_slot(const struct mmu *m, uint32_t root, uint32_t other, unsigned slot)
{
    uint64_t entry = table_entry(m, root, slot * 8, TABLE_L4);
    return (entry & PTE_ACCESSED) && entry == table_entry(m, other, slot * 8, TABLE_L4);
}

/* A new process runs the kernel that the process before it ran: what that had of code, where the roots are equal, would
 * be found one by one by walks that change nothing. Not so data, most of which is the other process's. */
static void inherit_code(struct mmu *m, struct space *sp, const struct space *from)
{
    uint32_t root = mem_page(m->mem, gpa(sp->key.cr3)), other = mem_page(m->mem, gpa(from->key.cr3));
    if (!cpu_long(m->v) || sp->key.control != from->key.control || root == MEM_NO_PAGE || other == MEM_NO_PAGE)
        return;
    uint32_t here = (uint32_t)(sp - m->space) * SPACE_ENTRIES, there = (uint32_t)(from - m->space) * SPACE_ENTRIES;
    bool any = false;
    for (uint32_t g = FETCH_SUP * TLB_SIZE / GROUP; g < SPACE_ENTRIES / GROUP; g++) {
        if (!(from->touched[g / 64] >> g % 64 & 1))
            continue;
        for (uint32_t i = g * GROUP; i < (g + 1) * GROUP; i++) {
            const struct tlb_entry *e = &m->entry[there + i];
            if (!entry_valid(m, there + i) || !same_slot(m, root, other, root_slot(e->tag_r)))
                continue;
            m->entry[here + i] = *e;
            link_entry(m, here + i, m->link[there + i].leaf_gpa, m->link[there + i].page);
            space_touch(sp, i, e->tag_r);
            any = true;
        }
    }
    if (any)
        trace_table(m, root, TABLE_L4); /* (a) holds of the tables below */
}

GENERAL_REGS void mmu_mode_changed(struct vcpu *v)
{
    struct mmu *m = v->mmu;
    struct cpu *c = cpu_of(v);
    c->dtlb = c->mmu_mode == MMU_USER_ALIGN ? m->never
                                            : m->entry + c->space * SPACE_ENTRIES + c->mmu_mode * TLB_SIZE;
    publish_epoch(m);
}

void mmu_paging_changed(struct vcpu *v)
{
    struct mmu *m = v->mmu;
    struct space_key k;
    space_key(v, &k);
    if (memcmp(&m->cur->key, &k, sizeof(k)))
        m->stats.space_switches++;
    const struct space *from = m->cur;
    m->cur = space_find(m, &k);
    m->cur->last_use = ++m->use_clock;
    cpu_of(v)->space = (uint8_t)(m->cur - m->space);
    if (m->cur->fresh && m->cur != from)
        inherit_code(m, m->cur, from);
    m->cur->fresh = false;
    mmu_mode_changed(v);
}

void mmu_breakpoints_changed(struct vcpu *v)
{
    struct mmu *m = v->mmu;
    if (!memcmp(m->dr, v->s.dr, sizeof(m->dr)))
        return;
    memcpy(m->dr, v->s.dr, sizeof(m->dr));
    mmu_drop_all(m);
}

static bool is_data(uint32_t i) { return i % SPACE_ENTRIES / TLB_SIZE < MMU_CACHED; }

static void drop_data_of_page(struct mmu *m, uint32_t page)
{
    for (uint32_t id = m->page_head[page], next; id; id = next) {
        next = m->link[id - 1].page_next;
        if (is_data(id - 1))
            drop_entry(m, id - 1);
    }
}

static void drop_data_at(struct mmu *m, uint64_t lin)
{
    for (const struct space *sp = m->space; sp < m->space + SPACES; sp++)
        for (unsigned array = 0; array < MMU_CACHED; array++) {
            uint32_t i = entry_index(m, sp, array, lin);
            if (m->entry[i].tag_r == lin)
                drop_entry(m, i);
        }
}

void mmu_drop_data(struct vcpu *v, uint64_t first, uint64_t last, bool physical)
{
    enum { PAGES_MAX = 64 }; /* more: dropping all is less work */
    struct mmu *m = v->mmu;
    uint64_t pages = ((last - first) >> PAGE_SHIFT) + 1;
    if (pages > PAGES_MAX) {
        mmu_drop_all(m);
        return;
    }
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t at = first + (i << PAGE_SHIFT);
        uint32_t page = physical ? mem_page(m->mem, gpa(at)) : MEM_NO_PAGE;
        if (!physical)
            drop_data_at(m, at);
        else if (page != MEM_NO_PAGE)
            drop_data_of_page(m, page);
    }
}

void mmu_code_dropped(struct vcpu *v)
{
    struct mmu *m = v->mmu;
    m->epoch_floor = ++m->epoch_clock;
    publish_epoch(m);
    v->brk |= VCPU_BRK_CODE;
}

void mmu_code_armed(struct vcpu *v, uint64_t lin)
{
    const struct mmu *m = v->mmu;
    for (unsigned i = 0; i < CODE_OWNERS_MAX; i++)
        if (m->owner[i].code_armed)
            m->owner[i].code_armed(m->owner[i].self, lin);
}

void mmu_drop_code(struct vcpu *v)
{
    struct mmu *m = v->mmu;
    for (unsigned i = 0; i < CODE_OWNERS_MAX; i++)
        if (m->owner[i].self)
            m->owner[i].drop_all(m->owner[i].self);
    mmu_code_dropped(v);
}

/* ---- translation ---- */

static bool is_write(enum mmu_access acc)
{
    return acc == ACC_WRITE || acc == ACC_RMW;
}

static bool canonical(uint64_t lin)
{
    return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

_Noreturn static void raise_page_fault(struct vcpu *v, uint64_t lin, uint32_t walk_error, enum mmu_access acc, enum mmu_mode mode)
{
    uint32_t error = walk_error | (is_write(acc) ? PF_W : 0) | (mode == MMU_USER ? PF_U : 0);
    if (acc == ACC_FETCH && ((v->s.cr4 & CR4_SMEP) || ((v->s.efer & EFER_NXE) && (v->s.cr4 & CR4_PAE))))
        error |= PF_I; /* SDM 4.7 */
    vcpu_raise_pf(v, lin, error);
}

void mmu_check_canonical(struct vcpu *v, uint64_t lin, unsigned seg)
{
    if (cpu_long(v) && !canonical(lin))
        vcpu_raise_err(v, seg == S_SS ? VEC_SS : VEC_GP, 0);
}

/* Walk and judge one page of an access; A is set, D is not. Raises #PF. */
static void translate(struct vcpu *v, uint64_t lin, enum mmu_access acc, enum mmu_mode mode, struct walk *w)
{
    v->mmu->stats.walks++;
    if (!walk_tables(v, lin, true, w))
        raise_page_fault(v, lin, w->error, acc, mode);
    uint32_t denied = walk_check(v, w, acc, mode);
    if (denied != WALK_OK)
        raise_page_fault(v, lin, denied, acc, mode);
    walk_commit(v, w, false);
}

static void trace_tables(struct mmu *m, const struct walk *w)
{
    for (unsigned i = 0; i < w->steps; i++)
        trace_table(m, w->step[i].page, w->step[i].kind);
}

/* mmu_keep_few(): before entry i, of `lin` in `array`, becomes valid. The first page of an instruction that crosses pages
 * stays while its second is fetched: whoever runs it counts on both, as neighbours share no slot of the whole TLB. */
static void drop_oldest(struct mmu *m, uint32_t i, unsigned array, uint64_t lin)
{
    uint32_t *oldest = &m->few[m->few_next];
    m->few_next = (m->few_next + 1) % m->few_max;
    if (array >= FETCH_USER && *oldest == entry_index(m, m->cur, array, lin - PAGE_SIZE) + 1) {
        *oldest = m->few[m->few_next];
        m->few[m->few_next] = entry_index(m, m->cur, array, lin - PAGE_SIZE) + 1;
    }
    if (*oldest && entry_valid(m, *oldest - 1))
        drop_entry(m, *oldest - 1);
    *oldest = i + 1;
}

static uint32_t fill(struct mmu *m, unsigned array, uint64_t lin, uint32_t page, const struct walk *w)
{
    uint32_t i = entry_index(m, m->cur, array, lin);
    uint64_t tag = lin & ~(uint64_t)PAGE_MASK;
    if (unlikely(m->few_max))
        drop_oldest(m, i, array, lin);
    if (entry_valid(m, i)) {
        m->lost++;
        unlink_entry(m, i);
        fetch_entry_lost(m, i, m->entry[i].tag_r);
    }
    trace_tables(m, w);
    space_touch(m->cur, i, lin);
    m->entry[i] = (struct tlb_entry){.tag_r = tag, .tag_w = tlb_no_tag(i),
                                     .host = mem_page_host(m->mem, page), .page = page};
    link_entry(m, i, w->leaf_gpa, page);
    m->stats.fills++;
    return i;
}

/* Whether an enabled breakpoint lies in the page (aligned, so never across two). */
static bool page_watched(const struct vcpu *v, uint64_t lin)
{
    for (unsigned i = 0; i < 4; i++)
        if ((v->s.dr[7] >> (2 * i) & 3) && (v->s.dr[i] ^ lin) < PAGE_SIZE)
            return true;
    return false;
}

/* Fill the data TLB after a successful walk. Invariant (c). */
static void fill_data(struct vcpu *v, uint64_t lin, enum mmu_mode mode, uint32_t page, const struct walk *w)
{
    struct mmu *m = v->mmu;
    if (unlikely(v->s.dr[7] & DR7_ENABLES) && page_watched(v, lin))
        return; /* every access must come this way, to be compared with the breakpoints */
    bool watched = unlikely(cpu_of(v)->probe_data) && probes_watch_page(v, lin, w->gpa);
    uint32_t i = fill(m, watched ? WATCHED + mode : mode, lin, page, w);
    struct link *l = &m->link[i];
    l->may_write = w->dirty && walk_check(v, w, ACC_WRITE, mode) == WALK_OK && !(m->mem->trace[page] & PAGE_ROM);
    if (!watched && l->may_write && m->mem->trace[page] == PAGE_DIRTY)
        m->entry[i].tag_w = lin & ~(uint64_t)PAGE_MASK;
}

static void set_part(const struct mmu *m, struct span_part *p, uint64_t lin, uint64_t gpa_v, uint32_t len)
{
    p->gpa = gpa_v;
    p->lin = lin;
    p->len = len;
    p->page = mem_page(m->mem, gpa(gpa_v));
    p->host = p->page == MEM_NO_PAGE ? NULL : mem_page_host(m->mem, p->page) + (gpa_v & PAGE_MASK);
}

static void check_alignment(struct vcpu *v, uint64_t lin, uint32_t len)
{
    if (len == 10) /* an 80-bit operand of the x87 */
        len = 8;
    if (len <= 8 && !(len & (len - 1)) && (lin & (len - 1)))
        vcpu_raise_err(v, VEC_AC, 0);
}

/* One access as it falls into pages. */
struct pieces { uint64_t at[2]; uint32_t head; unsigned count; };

static struct pieces split(const struct vcpu *v, uint64_t lin, uint32_t len)
{
    uint32_t head = MIN(len, PAGE_SIZE - (uint32_t)(lin & PAGE_MASK));
    /* Implicit accesses of IA-32e mode are 64 bits wide in compatibility mode too. */
    uint64_t mask = lin > UINT32_MAX ? UINT64_MAX : cpu_of((struct vcpu *)v)->lin_mask;
    return (struct pieces){{lin, (lin + head) & mask}, head, head < len ? 2 : 1};
}

/* All that can fault. */
static void translate_pieces(struct vcpu *v, const struct pieces *p, uint32_t len, enum mmu_access acc, enum mmu_mode mode,
                             unsigned seg, struct walk w[2])
{
    for (unsigned i = 0; i < p->count; i++)
        mmu_check_canonical(v, p->at[i], seg);
    if (mode == MMU_USER_ALIGN)
        check_alignment(v, p->at[0], len);
    for (unsigned i = 0; i < p->count; i++)
        translate(v, p->at[i], acc, mode == MMU_USER_ALIGN ? MMU_USER : mode, &w[i]);
}

void mmu_probe(struct vcpu *v, uint64_t lin, uint32_t len, enum mmu_access acc, enum mmu_mode mode, unsigned seg)
{
    struct pieces p = split(v, lin, len);
    struct walk w[2];
    translate_pieces(v, &p, len, acc, mode, seg, w);
}

/* What a walk would find for an access to a watched page, if it was found before. */
static bool watched_span(struct vcpu *v, uint64_t lin, uint32_t len, enum mmu_access acc, enum mmu_mode mode,
                         struct span *out)
{
    struct mmu *m = v->mmu;
    if (mode >= MMU_CACHED)
        return false;
    uint32_t i = entry_index(m, m->cur, WATCHED + mode, lin);
    const struct tlb_entry *e = &m->entry[i];
    if ((e->tag_r ^ lin) > PAGE_SIZE - len || (is_write(acc) && !m->link[i].may_write))
        return false;
    uint64_t at = mem_page_gpa(m->mem, (uint32_t)e->page).v + (lin & PAGE_MASK);
    if (!probes_watch_page(v, lin, at)) /* no longer: it is to come to the data TLB */
        return false;
    *out = (struct span){.len = len};
    set_part(m, &out->part[0], lin, at, len);
    return true;
}

void mmu_span(struct vcpu *v, uint64_t lin, uint32_t len, enum mmu_access acc, enum mmu_mode mode, unsigned seg, struct span *out)
{
    if (unlikely(cpu_of(v)->probe_data) && watched_span(v, lin, len, acc, mode, out))
        return;
    struct mmu *m = v->mmu;
    struct walk w[2];
    struct pieces p = split(v, lin, len);

    *out = (struct span){.len = len};
    translate_pieces(v, &p, len, acc, mode, seg, w);
    if (mode == MMU_USER_ALIGN)
        mode = MMU_USER;
    for (unsigned i = 0; i < p.count; i++) { /* nothing faults from here on */
        if (is_write(acc) && !w[i].dirty)
            walk_commit(v, &w[i], true);
        set_part(m, &out->part[i], p.at[i], w[i].gpa, i ? len - p.head : p.head);
        if (out->part[i].page != MEM_NO_PAGE)
            fill_data(v, p.at[i], mode, out->part[i].page, &w[i]);
    }
    if (unlikely(v->s.dr[7] & DR7_ENABLES))
        debug_data_check(v, lin, len, is_write(acc));
}

/* A device, or nothing: bus accesses of at most 8 bytes. */
static void device_io(struct vcpu *v, const struct span_part *p, uint8_t *buf, bool write)
{
    struct machine *mc = v->machine;
    v->mmu->stats.device_accesses++;
    vcpu_publish_ticks(v);
    for (uint32_t done = 0, n; done < p->len; done += n) {
        n = p->len - done >= 8 ? 8 : p->len - done >= 4 ? 4 : p->len - done >= 2 ? 2 : 1;
        uint64_t x = 0;
        if (write) {
            memcpy(&x, buf + done, n);
            bus_write(mc->bus, BUS_MMIO, p->gpa + done, n, x);
        } else {
            x = bus_read(mc->bus, BUS_MMIO, p->gpa + done, n);
            memcpy(buf + done, &x, n);
        }
    }
    v->brk |= VCPU_BRK_EVENT;
}

static void watch(struct vcpu *v, const struct span *sp, bool write)
{
    for (unsigned i = 0; i < 2 && sp->part[i].len; i++)
        probes_access(v, sp->part[i].lin, sp->part[i].gpa, sp->part[i].len, write);
}

void span_read(struct vcpu *v, const struct span *sp, void *buf)
{
    if (unlikely(cpu_of(v)->probe_data))
        watch(v, sp, false);
    uint8_t *to = buf;
    for (unsigned i = 0; i < 2 && sp->part[i].len; to += sp->part[i].len, i++) {
        if (sp->part[i].host)
            memcpy(to, sp->part[i].host, sp->part[i].len);
        else
            device_io(v, &sp->part[i], to, false);
    }
}

void span_write(struct vcpu *v, const struct span *sp, const void *buf)
{
    struct mem *mem = v->mmu->mem;
    const uint8_t *from = buf;
    if (unlikely(cpu_of(v)->probe_data))
        watch(v, sp, true);
    for (unsigned i = 0; i < 2 && sp->part[i].len; from += sp->part[i].len, i++) {
        const struct span_part *p = &sp->part[i];
        if (!p->host)
            device_io(v, p, (uint8_t *)(uintptr_t)from, true);
        else if (mem->trace[p->page] == PAGE_DIRTY || mem_before_write(mem, p->page, (uint32_t)(p->gpa & PAGE_MASK), p->len))
            memcpy(p->host, from, p->len);
    }
}

/* ---- single accesses ---- */

/* Store to a page whose translation is cached and permits it: only tracing sent us here. */
static bool traced_store(struct vcpu *v, uint64_t lin, unsigned size, uint64_t value)
{
    struct mmu *m = v->mmu;
    struct tlb_entry *e = dtlb_slot(v, lin);
    if ((e->tag_r ^ lin) > PAGE_SIZE - size || e < m->entry || e >= m->entry + (size_t)SPACES * SPACE_ENTRIES)
        return false;
    struct link *l = &m->link[e - m->entry];
    if (!l->may_write)
        return false;
    uint8_t *host = tlb_host(e, lin); /* the entry itself may be dropped by this write */
    uint32_t page = l->page;
    mem_before_write(m->mem, page, (uint32_t)(lin & PAGE_MASK), size);
    memcpy(host, &value, size);
    if (m->mem->trace[page] == PAGE_DIRTY && (e->tag_r ^ lin) < PAGE_SIZE)
        e->tag_w = e->tag_r;
    return true;
}

uint64_t mmu_slow_load(struct vcpu *v, uint64_t lin, unsigned size, unsigned seg)
{
    struct span sp;
    uint64_t x = 0;
    v->mmu->stats.slow_loads++;
    mmu_span(v, lin, size, ACC_READ, cpu_of(v)->mmu_mode, seg, &sp);
    span_read(v, &sp, &x);
    return x;
}

void mmu_slow_store(struct vcpu *v, uint64_t lin, unsigned size, uint64_t value, unsigned seg)
{
    struct span sp;
    v->mmu->stats.slow_stores++;
    if (traced_store(v, lin, size, value))
        return;
    mmu_span(v, lin, size, ACC_WRITE, cpu_of(v)->mmu_mode, seg, &sp);
    span_write(v, &sp, &value);
}

uint64_t mmu_ld(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_mode mode)
{
    struct mmu *m = v->mmu;
    struct span sp;
    uint64_t x = 0;
    if (mode < MMU_CACHED) {
        const struct tlb_entry *e = &m->entry[entry_index(m, m->cur, mode, lin)];
        if ((e->tag_r ^ lin) <= PAGE_SIZE - size) {
            memcpy(&x, tlb_host(e, lin), size);
            return x;
        }
    }
    mmu_span(v, lin, size, ACC_READ, mode, S_DS, &sp);
    span_read(v, &sp, &x);
    return x;
}

void mmu_st(struct vcpu *v, uint64_t lin, unsigned size, uint64_t value, enum mmu_mode mode)
{
    struct span sp;
    mmu_span(v, lin, size, ACC_WRITE, mode, S_DS, &sp);
    span_write(v, &sp, &value);
}

void *access_slow(struct vcpu *v, uint64_t lin, uint32_t len, enum mmu_access acc, unsigned seg)
{
    struct mmu *m = v->mmu;
    struct bounce *b = is_write(acc) ? &m->bounce_wr : &m->bounce_rd;
    mmu_span(v, lin, len, acc, cpu_of(v)->mmu_mode, seg, &b->span);
    if (acc != ACC_WRITE)
        span_read(v, &b->span, b->data);
    cpu_of(v)->bounce.active |= is_write(acc);
    return b->data;
}

void access_commit(struct vcpu *v)
{
    cpu_of(v)->bounce.active = false;
    span_write(v, &v->mmu->bounce_wr.span, v->mmu->bounce_wr.data);
}

/* ---- fetches ---- */

uint32_t mmu_fetch_page(struct vcpu *v, uint64_t lin)
{
    struct mmu *m = v->mmu;
    struct walk w;
    unsigned array = FETCH_USER + fetch_privilege(v);
    const struct tlb_entry *e = &m->entry[entry_index(m, m->cur, array, lin)];
    if (likely((e->tag_r ^ lin) < PAGE_SIZE))
        return (uint32_t)e->page;
    mmu_check_canonical(v, lin, S_CS);
    translate(v, lin, ACC_FETCH, v->s.cpl == 3 ? MMU_USER : MMU_SUP, &w);
    uint32_t page = mem_page(m->mem, gpa(w.gpa));
    if (page != MEM_NO_PAGE)
        fill(m, array, lin, page, &w);
    return page;
}

bool mmu_debug_translate(struct vcpu *v, gva_t va, gpa_t *out)
{
    struct walk w;
    if ((cpu_long(v) && !canonical(va.v)) || !walk_tables(v, va.v, false, &w))
        return false;
    *out = gpa(w.gpa);
    return true;
}

/* ---- life ---- */

enum { ENTRIES = SPACES * SPACE_ENTRIES };

struct err *mmu_create(struct vcpu *v, struct mmu **out)
{
    struct mmu *m = aligned_alloc(_Alignof(struct mmu), sizeof(*m));
    if (!m)
        return err_new(ERR_HOST, "out of memory for the TLB");
    memset(m, 0, sizeof(*m));
    m->v = v;
    m->mem = &v->machine->mem;
    m->entry = map_zero(ENTRIES * sizeof(*m->entry));
    m->link = map_zero(ENTRIES * sizeof(*m->link));
    m->never = map_zero(TLB_SIZE * sizeof(*m->never));
    m->leaf_head = map_zero(LEAF_BUCKETS * sizeof(*m->leaf_head));
    m->page_head = map_zero((size_t)m->mem->page_count * sizeof(*m->page_head));
    m->table_kinds = map_zero(m->mem->page_count);
    m->table_idle = map_zero(m->mem->page_count);
    if (!m->entry || !m->link || !m->never || !m->leaf_head || !m->page_head || !m->table_kinds || !m->table_idle) {
        mmu_destroy(m);
        return err_new(ERR_HOST, "out of memory for the TLB");
    }
    for (uint32_t i = 0; i < ENTRIES; i += TLB_SIZE) /* the others' is 0 */
        m->entry[i].tag_r = m->entry[i].tag_w = tlb_no_tag(i);
    m->never[0].tag_r = m->never[0].tag_w = tlb_no_tag(0);
    m->epoch_clock = m->epoch_floor = 1;
    m->cur = &m->space[0];
    m->cur->used = true;
    m->mem->observer = (struct mem_observer){m, observe_traced_write, observe_revoke_write};
    *out = m;
    return NULL;
}

void mmu_destroy(struct mmu *m)
{
    if (!m)
        return;
    size_t pages = m->mem->page_count;
    m->mem->observer = (struct mem_observer){0};
    map_free(m->entry, ENTRIES * sizeof(*m->entry));
    map_free(m->link, ENTRIES * sizeof(*m->link));
    map_free(m->never, TLB_SIZE * sizeof(*m->never));
    map_free(m->leaf_head, LEAF_BUCKETS * sizeof(*m->leaf_head));
    map_free(m->page_head, pages * sizeof(*m->page_head));
    map_free(m->table_kinds, pages);
    map_free(m->table_idle, pages);
    free(m);
}

void mmu_keep_few(struct mmu *m, uint32_t max)
{
    mmu_drop_all(m);
    memset(m->few, 0, sizeof(m->few));
    m->few_max = max;
    m->few_next = 0;
}

void mmu_add_code_owner(struct mmu *m, struct code_owner owner)
{
    unsigned i = 0;
    while (m->owner[i].self)
        i++;
    m->owner[i] = owner;
}

void mmu_remove_code_owner(struct mmu *m, const void *self)
{
    for (unsigned i = 0; i < CODE_OWNERS_MAX; i++)
        if (m->owner[i].self == self)
            m->owner[i] = (struct code_owner){0};
}

int32_t mmu_fetch_entry_offset(const struct vcpu *v, uint64_t lin)
{
    const struct mmu *m = v->mmu;
    const struct tlb_entry *e = &m->entry[entry_index(m, m->cur, FETCH_USER + fetch_privilege(v), lin)];
    return (int32_t)((const uint8_t *)e - (const uint8_t *)cpu_of((struct vcpu *)v)->dtlb);
}

uint64_t mmu_lost(const struct vcpu *v)
{
    return v->mmu->lost;
}

const struct mmu_stats *mmu_stats(const struct mmu *m)
{
    return &m->stats;
}
