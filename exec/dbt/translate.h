/* exec/dbt/translate.h: one block in the making, as translate.c and tr_insn.c share it.
 *
 * Where the guest's arithmetic flags are, at any point of the block (tr.fl):
 *   host    in the host's flags register
 *   mem     in memory, as hot.cc_* says; `raw`: surely as hot.aflags
 *   recipe  they follow from registers or constants that nothing has changed since
 * At least one holds wherever they can be seen: an access may fault, and a block be left, and then they must be in memory.
 * What is about to destroy the host's flags calls tr_clobber_flags(), what wants them calls tr_want_flags(). */
#ifndef HW_DBT_TRANSLATE_H
#define HW_DBT_TRANSLATE_H

#include "exec/dbt/dbt.h"

/* CC_CMP..CC_DEC of registers, constants and what is in its slot already. The base of CC_INC and CC_DEC is in memory.
 */
struct recipe {
    bool valid;
    uint8_t cc;         /* enum cc */
    uint8_t size;       /* log2 of bytes */
    uint8_t a, b;       /* host registers; H_NONE: the constant; IN_SLOT: in hot.cc_a, hot.cc_b;
                           IN_SPILL + gpr: where that one lives */
    int32_t a_imm, b_imm; /* a_imm: of a register, what to add to it */
    uint16_t reads;     /* guest registers, as a mask */
};

enum { IN_SLOT = H_NONE + 1, IN_SPILL = 32 };

/* host_but_cf: the host's flags are the guest's but for CF. */
struct flags_at { bool host, host_but_cf, mem, raw; struct recipe recipe; };

/* The x87 FIP that hot.x87_fip does not have yet. Only who leaves the block or calls C must put it there. */
struct fip { bool due; uint64_t va; };

enum stub_kind { STUB_SLOW, STUB_EXIT, STUB_LINK, STUB_VEC, STUB_X87, STUB_LANDING, STUB_RET };
struct stub {
    uint8_t kind;
    uint8_t index;      /* of the instruction */
    uint32_t jump_pos;  /* rel32 that leads here */
    uint32_t more_pos[2]; /* others, or 0 */
    uint32_t resume;    /* STUB_SLOW, STUB_VEC, STUB_X87: where to go on */
    uint32_t site;      /* STUB_SLOW; STUB_LINK: link */
    uint64_t va;        /* STUB_EXIT, STUB_LANDING: target */
    unsigned pop;       /* STUB_RET: bytes taken from the stack */
    struct flags_at fl;
    struct fip fip;
};
enum { STUBS_MAX = 6 * BLOCK_MAX };

/* The instruction being translated. */
struct cur {
    struct decoded dt;
    uint16_t off;         /* from the block's start */
    bool native;          /* its handler will not do it */
    bool harmless;        /* native and without faults of its own, but for its accesses */
    bool bit_string;      /* BT and its like with a register: the word may lie anywhere */
    bool produces;        /* writes all arithmetic flags and reads none */
    bool flags_dead; /* nobody sees the flags that it leaves: no access, exit or reader before they are written anew */
    uint16_t changed;     /* guest registers that it and those before it write, as a mask */
    uint32_t first_stub;  /* its own */
    bool slow_leaves;     /* when its handler did it, the code behind it cannot go on */
    struct use {
        bool yes;
        uint8_t group;
        int32_t at;
    } use[2]; /* USE_OPERAND, USE_STACK: accesses checked with a group */
};
enum { USE_OPERAND, USE_STACK };

/* Accesses near one register that does not change, or changes by constants, before them: checked as one when the
 * block is entered, after which hot.group[] holds the host address of the lowest. If that fails, because they lie in
 * two pages or the page is not in the TLB, a variant of the block runs that checks each by itself (KEY_PLAIN). */
struct group {
    uint8_t gpr;
    bool write;
    uint8_t align;      /* address bits that must be 0 where a vector may not cross a multiple of its size */
    int32_t lo, hi;     /* bytes from the register's value at the block's entry */
    int32_t aligned_at; /* likewise: of such an access */
    unsigned uses;
};

enum { GROUP_CHECKS_MAX = 2 * GROUPS_MAX };

struct tr {
    struct dbt *d;
    struct emit e;
    struct key key;
    bool long64;
    uint64_t va;
    uint32_t page, page2;
    uint8_t crossing[INSN_BYTES_MAX]; /* the bytes of a block with two pages */
    uint32_t block;       /* index */
    uint32_t entry;
    bool loops;           /* its last instruction may jump to its begin */
    bool flags_seen;      /* somebody sees the flags that the block is entered with */
    bool body_wants_flags; /* in the host's register */
    uint32_t body;        /* behind all that the entry does; 0: not to be jumped to */
    unsigned n;           /* index of the current instruction */
    bool vec_ready;       /* vector registers are live from here on */
    bool x87_ready;       /* so is the x87 unit */
    struct fip fip;       /* due only while it is */
    bool ended;
    struct flags_at fl;
    struct cur *cur, *insn; /* the current one of `count` */
    unsigned count;
    struct group group[GROUPS_MAX];
    unsigned groups;
    /* Which guest register r11 and r10 hold (R_ZERO: none), as long as nothing but code that leaves them alone was
     * emitted since held_pos. They were stored as well. */
    uint8_t held[2];
    uint32_t held_pos;
    unsigned r10_group;
    int r10_insn; /* at the begin of this instruction, r10 holds the address of that group */
    uint32_t first_site, sites, first_link, links;
    struct stub *stub;      /* STUBS_MAX */
    unsigned stubs;
};

static inline uint64_t tr_va(const struct tr *t) { return t->va + t->cur->off; }
static inline uint64_t tr_next_va(const struct tr *t)
{
    uint64_t next = t->va + t->cur->off + t->cur->dt.len;
    return t->long64 ? next : (uint32_t)next;
}

/* ---- flags ---- */
void tr_clobber_flags(struct tr *t);
void tr_want_flags(struct tr *t);      /* into the host's register; keeps r10 */
void tr_want_flags_but_cf(struct tr *t); /* CF may be anything */
void tr_flags_to_memory(struct tr *t);
void tr_flags_to_aflags(struct tr *t); /* to memory, as hot.aflags; keeps r10 */

/* ---- registers ---- */
/* Host register of a guest GPR, H_NONE for one that lives in memory. */
enum host_reg tr_host_reg(unsigned gpr);
struct host_mem tr_spill_slot(unsigned gpr);

/* ---- memory operands ---- */
enum { TR_READ = 1, TR_WRITE = 2 };
/* Effective address into `dst`, 32 bits of it unless `wide`. r10 and r11 are lost. */
void tr_effective_address(struct tr *t, const struct operand *m, unsigned width, enum host_reg dst, bool wide);
/* Effective linear address into r10. r11 is lost. False: not for a segment like this. */
bool tr_linear_address(struct tr *t, const struct operand *m, unsigned width);
/* Check the access of `size` bytes at r10, and make r10 its host address. What cannot be done so leads to the
 * instruction's handler. `align`: address bits that must be 0. r11 and flags are lost. */
void tr_check_access(struct tr *t, unsigned size, unsigned access, unsigned align);
/* Likewise, but r10 becomes the offset in its page, whose host address r11 holds: sooner, for who has no other use for r11
 * before the access. */
struct host_mem tr_check_access_split(struct tr *t, unsigned size, unsigned access, unsigned align);

/* Where the current instruction's access is when its group was checked: r10 and flags as they were but for r10. False:
 * it has none. */
bool tr_group_access(struct tr *t, unsigned use, struct host_mem *out);
enum { R10_UNKNOWN = -1 };
static inline void tr_forget_r10(struct tr *t) { t->r10_insn = R10_UNKNOWN; } /* it is about to be written */

/* ---- the stack ---- */
/* Where the word is that is about to be pushed or popped: by r10, a popped one by r11 too. Flags are in memory or can be
 * found again. */
struct host_mem tr_push_slot(struct tr *t);
struct host_mem tr_pop_slot(struct tr *t);
void tr_push_done(struct tr *t); /* the stack pointer moves */
void tr_pop_done(struct tr *t, unsigned bytes);

/* ---- leaving ---- */
uint32_t tr_site(struct tr *t, unsigned flags);
void tr_load_vectors(struct tr *t); /* unless they are live; r10 and flags are lost */
void tr_load_x87(struct tr *t);     /* likewise */
void tr_slow_if(struct tr *t, enum host_cond cc); /* to the instruction's handler */
void tr_call_handler(struct tr *t);               /* the whole instruction by its handler */
void tr_exit(struct tr *t, uint64_t va);          /* a direct jump as last instruction */
void tr_exit_if(struct tr *t, enum host_cond cc, uint64_t va); /* likewise, flags as they are now */
void tr_leave_landing(struct tr *t);          /* after a call: where its return goes on, for tr_return() */
void tr_return(struct tr *t, unsigned pop);   /* to r10, taking `pop` bytes from the stack */
static const struct host_mem tr_found_code = {.base = H_R11, .index = H_NONE, .disp = offsetof(struct jc_entry, code)};
void tr_jump_lookup(struct tr *t); /* of the linear address in r10; r11: its jump cache entry. A miss: the handler */

/* The target of a direct branch of full width to an address that can be executed from. */
bool tr_direct_target(const struct tr *t, uint64_t *out);
bool tr_loops(const struct tr *t);  /* a direct branch, taken or not, to the block's begin */
/* At the block's entry: what its instructions would have to look after in each round of a loop. */
void tr_prepare(struct tr *t);
/* Before anything is emitted: of the current instruction, cur.native and the two behind it. */
void tr_classify(struct tr *t);
/* Whether it ends the block. */
bool tr_ends(struct tr *t);
/* Its explicit memory operand, NULL when it has none. */
static inline const struct operand *tr_memory_operand(const struct tr *t)
{
    return t->cur->dt.mem < 0 ? NULL : &t->cur->dt.op[t->cur->dt.mem];
}
unsigned tr_operand_align(const struct tr *t); /* address bits of it that must be 0 */

/* ---- system instructions (tr_sys.c): rows of tr_insn.c ---- */
bool tr_cli(struct tr *t, unsigned arg);
bool tr_sti(struct tr *t, unsigned arg);
bool tr_pushf(struct tr *t, unsigned arg);
bool tr_popf(struct tr *t, unsigned arg);
bool tr_swapgs(struct tr *t, unsigned arg);
bool tr_rdtsc(struct tr *t, unsigned with_aux);
bool tr_syscall(struct tr *t, unsigned arg);
bool tr_sysret(struct tr *t, unsigned arg);
bool tr_set_ac(struct tr *t, unsigned on);
bool tr_from_segment(struct tr *t);

/* Emit the current instruction. False: nothing was emitted, its handler must do it. */
bool tr_insn(struct tr *t);

#endif
