/* exec/x86/walk.h: the page walk (SDM vol. 3 ch. 4): 4-level, PAE, 2-level, or none. Private to the MMU.
 * One function for all engines and the debugger (rule 5 of mmu.h). */
#ifndef HW_X86_WALK_H
#define HW_X86_WALK_H

#include "exec/x86/mmu.h"

enum { WALK_MAX_LEVELS = 4 };

/* A table the walk went through. `kind`: how its entries were read, one bit each, see TABLE_*. */
struct walk_step { uint32_t page; uint8_t kind; };
enum {
    TABLE_L1 = 1, TABLE_L2 = 2, TABLE_L3 = 4, TABLE_L4 = 8, /* 8-byte entries: PT, PD, PDPT, PML4 */
    TABLE32_L1 = 0x10, TABLE32_L2 = 0x20,                   /* 4-byte entries: PT, PD */
};

struct walk {
    uint64_t gpa;       /* of the byte at lin */
    uint64_t leaf_gpa;  /* guest-physical address of the leaf entry; WALK_NO_LEAF without paging */
    uint32_t leaf_page; /* its page */
    bool user, writable, nx, dirty;
    unsigned steps;
    struct walk_step step[WALK_MAX_LEVELS];
    uint32_t error;     /* when the walk failed: PF_P/PF_RSVD bits of the error code */
};
#define WALK_NO_LEAF UINT64_MAX

/* Walk for `lin` in the current paging state. With `set_accessed`, A is set on the non-leaf entries walked. False: fault,
 * see `error`. Permissions are not judged; the leaf's A and D are set by walk_commit(). */
bool walk_tables(struct vcpu *v, uint64_t lin, bool set_accessed, struct walk *out);

/* The page-fault error code of this access through a finished walk, 0 when it is allowed. */
#define WALK_OK UINT32_MAX
uint32_t walk_check(const struct vcpu *v, const struct walk *w, enum mmu_access acc, enum mmu_mode mode);

/* Set A, and D when `dirty`, on the leaf. */
void walk_commit(struct vcpu *v, struct walk *w, bool dirty);

/* The child table of a present entry, or MEM_NO_PAGE: the table that some paging state would walk on to. `kind` is the
 * table's that holds the entry. */
uint32_t walk_child(const struct vcpu *v, uint64_t entry, uint8_t kind);

/* The MMU's: a walker write is under way (rule 4). */
void mmu_walker_write(struct vcpu *v, uint32_t page, uint32_t off, uint32_t len);

#endif
