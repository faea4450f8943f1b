/* exec/x86/mmu.h: the coherent soft MMU: page walks, the TLB, and its tracing.
 *
 * The TLB is coherent: page-table pages that a live entry was derived from are traced, and a write to a paging-structure
 * entry drops every TLB entry derived from it. So its contents are never visible to the guest, INVLPG has nothing
 * to do, a CR3 load only selects another set. The rules, each with a guest test in tests/guest:
 *  (1) A traced write takes effect at the next instruction boundary, instruction fetch included (the block ends).
 *  (2) All translations of an instruction precede its first write: nothing is half done when it faults.
 *  (3) A is set on every entry walked, non-leaf ones too; D only if no part of the access faults.
 *  (4) The walker's own A/D writes drop nothing, but count as writes for code and dirty tracking.
 *  (5) One walk function serves all engines and the debugger (which walks without setting bits).
 * References: Intel SDM vol. 3 ch. 4. */
#ifndef HW_X86_MMU_H
#define HW_X86_MMU_H

#include "core/mem.h"
#include "exec/x86/cpu.h"

enum mmu_mode {
    MMU_USER,      /* CPL 3 */
    MMU_SUP,       /* CPL 0..2 with SMAP in force when enabled; also implicit supervisor accesses (descriptor tables, TSS) */
    MMU_SUP_AC,    /* CPL 0..2 with EFLAGS.AC: SMAP suspended */
    MMU_CACHED,    /* number of modes with a TLB of their own */
    MMU_USER_ALIGN = MMU_CACHED, /* CPL 3 with alignment checks: every access takes the slow path */
};

enum { TLB_BITS = 14, TLB_SIZE = 1 << TLB_BITS };
/* The tag of nothing: 0, so that fresh memory is an empty TLB. Slot 0 is the one that linear page 0 selects, which would
 * match; all ones do not, for the page at the very top selects the last slot. */
static inline uint64_t tlb_no_tag(uint64_t slot) { return slot & (TLB_SIZE - 1) ? 0 : UINT64_MAX; }

/* Direct-mapped by page number. Hit: (tag ^ lin) <= 4096 - size, which checks tag and page crossing together. */
struct tlb_entry {
    uint64_t tag_r, tag_w; /* linear page address, or tlb_no_tag() */
    uint8_t *host;         /* the page's host address */
    uint64_t page;         /* its index */
};
static inline uint8_t *tlb_host(const struct tlb_entry *e, uint64_t lin) { return e->host + (lin & PAGE_MASK); }

enum mmu_access { ACC_READ, ACC_WRITE, ACC_RMW /* checked and faulting as a write */, ACC_FETCH };

/* A translated range of at most 4 KiB, in at most two pages. Host pointers stay valid until the instruction ends. */
struct span_part { uint8_t *host; /* NULL: a device, or nothing */ uint64_t gpa, lin; uint32_t page; uint32_t len; };
struct span { struct span_part part[2]; uint32_t len; };

/* Translate [lin, lin+len), len 1..4096, or raise #PF, #GP(0)/#SS(0) (non-canonical; by `seg`, pass S_DS for implicit
 * accesses), #AC. Sets A, and D for writes once no part faults. After it returns, span_read/span_write cannot fault. */
void mmu_span(struct vcpu *v, uint64_t lin, uint32_t len, enum mmu_access acc, enum mmu_mode mode, unsigned seg, struct span *out);
/* The checks of mmu_span() alone, with its faults: for instructions whose parts fault in an order of their own. Sets A,
 * but no D: another part may still fault. */
void mmu_probe(struct vcpu *v, uint64_t lin, uint32_t len, enum mmu_access acc, enum mmu_mode mode, unsigned seg);
/* #GP(0), or #SS(0) for S_SS, when `lin` is not canonical in IA-32e mode. */
void mmu_check_canonical(struct vcpu *v, uint64_t lin, unsigned seg);
/* #AC when alignment is checked and `lin` is not aligned to `unit`, a power of two: for operands that are not aligned to
 * their own size. */
static inline void mmu_check_align(struct vcpu *v, uint64_t lin, uint32_t unit)
{
    bool canonical = lin + (UINT64_C(1) << 47) < UINT64_C(1) << 48; /* or that comes first, and the access says so */
    if (unlikely(cpu_of(v)->mmu_mode == MMU_USER_ALIGN && (lin & (unit - 1)) && canonical))
        vcpu_raise_err(v, VEC_AC, 0);
}
void span_read(struct vcpu *v, const struct span *sp, void *buf);
void span_write(struct vcpu *v, const struct span *sp, const void *buf);

/* Implicit supervisor accesses (GDT, LDT, IDT, TSS) and anything else by linear address; size 1, 2, 4, 8. */
uint64_t mmu_ld(struct vcpu *v, uint64_t lin, unsigned size, enum mmu_mode mode);
void mmu_st(struct vcpu *v, uint64_t lin, unsigned size, uint64_t value, enum mmu_mode mode);

/* Slow paths of access.h. They publish ticks and set VCPU_BRK_EVENT around device accesses. */
uint64_t mmu_slow_load(struct vcpu *v, uint64_t lin, unsigned size, unsigned seg);
void mmu_slow_store(struct vcpu *v, uint64_t lin, unsigned size, uint64_t value, unsigned seg);

/* Instruction fetch: the page that `lin` executes from. Raises #PF/#GP like the fetch would. A device page gives
 * MEM_NO_PAGE: fetching from a device reads ones and never touches it. */
uint32_t mmu_fetch_page(struct vcpu *v, uint64_t lin);

/* Code was dropped: no link between blocks made so far may be followed (cpu->code_epoch changes everywhere). */
void mmu_code_dropped(struct vcpu *v);
/* Tell the code owners; then call mmu_code_dropped(), once for all such addresses. */
void mmu_code_armed(struct vcpu *v, uint64_t lin);
/* Have the code owner drop all code: memory may have changed behind its back. */
void mmu_drop_code(struct vcpu *v);

/* The walk without side effects, for the debugger. False: not mapped. Ignores permissions. */
bool mmu_debug_translate(struct vcpu *v, gva_t va, gpa_t *out);

/* After CR0/CR3/CR4/EFER/PDPTE changes: select the TLB set for the current paging state. mode changes within it are
 * cpu_mode_update()'s. */
void mmu_paging_changed(struct vcpu *v);
/* Data breakpoints (DR0-3, DR7) changed: pages they cover leave the TLB, so that accesses take the slow path. */
void mmu_breakpoints_changed(struct vcpu *v);
/* Data probes (probe.h) cover the pages of [first, last], linear or physical, from now on: those leave the data TLB. */
void mmu_drop_data(struct vcpu *v, uint64_t first, uint64_t last, bool physical);
/* Select the data TLB of cpu->mmu_mode and the code epoch of the CPL. Called by cpu_mode_update(). */
void mmu_mode_changed(struct vcpu *v);

/* INVLPG, INVPCID: nothing to drop, by coherence. They exist to check operands and to be counted. */

must_check struct err *mmu_create(struct vcpu *v, struct mmu **out);
void mmu_destroy(struct mmu *m);
void mmu_drop_all(struct mmu *m);
/* For tests: from now on at most `max` entries are valid at a time, MMU_FEW_MIN .. MMU_FEW_MAX, in all spaces together; the
 * oldest goes. 0: no such limit. Not while code runs. */
enum { MMU_FEW_MIN = 2, MMU_FEW_MAX = 256 };
void mmu_keep_few(struct mmu *m, uint32_t max);

/* Who owns decoded or translated code registers here, at most CODE_OWNERS_MAX at a time.
 *   code_write   bytes of a page with PAGE_TRACE_CODE are about to change; returns whether code of the page is left. The
 *                trace ends when nobody has any.
 *   drop_all     memory may have changed behind everybody's back
 *   code_armed   may be NULL: whatever begins at the linear address `lin` is to be executed by itself from now on: code
 *                that holds it must not be entered any more (probe.h); between runs
 *   fetch_lost   may be NULL: the fetch entry of the linear page `lin` was lost in a space, for CPL 3 or below */
struct code_owner {
    void *self;
    bool (*code_write)(void *self, uint32_t page, uint32_t off, uint32_t len);
    void (*drop_all)(void *self);
    void (*fetch_lost)(void *self, unsigned space, bool user, uint64_t lin);
    void (*code_armed)(void *self, uint64_t lin);
};
enum { CODE_OWNERS_MAX = 3 };
void mmu_add_code_owner(struct mmu *m, struct code_owner owner);
void mmu_remove_code_owner(struct mmu *m, const void *self);

/* The fetch entry of `lin` in the current space for the current privilege, as an offset in bytes from cpu->dtlb: the
 * same as long as the access mode is. */
int32_t mmu_fetch_entry_offset(const struct vcpu *v, uint64_t lin);
/* Address spaces that have entries at a time; cpu->space is the current one. */
enum { MMU_SPACES = 16 };
/* Changes whenever a data entry or its permission to write was lost in any way. */
uint64_t mmu_lost(const struct vcpu *v);

struct mmu_stats { uint64_t fills, walks, slow_loads, slow_stores, traced_writes, drops, space_switches, device_accesses; };
const struct mmu_stats *mmu_stats(const struct mmu *m);

#endif
