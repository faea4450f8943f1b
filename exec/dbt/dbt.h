/* exec/dbt/dbt.h: what the parts of the translator share. How they fit together is told in docs/architecture.md.
 *
 *   dbt.c        the engine: run loop, calls from translated code
 *   arena.c      memory: code (W^X), the hot page, entry and exit thunks
 *   blocks.c     translated blocks: lookup, links, jump caches, what happens when code changes
 *   decode.c     what a translation needs to know of an instruction, and a cache of it
 *   translate.c  from guest bytes to a block: the driver, flags, memory operands, exits
 *   tr_insn.c    which instructions become host code, and how
 *   tr_sys.c     of those, the system instructions
 *   flags.c      guest flags that are kept as the operands they came from
 *   light.c      system instructions in C without leaving translated code
 *   stats.c      what was translated, and how long it took
 *
 * Host registers in translated code:
 *   rax rcx rdx rbx rbp rsi rdi r8 r9 r12 r13   the guest registers of that name
 *   r14   guest RSP
 *   r15   ticks left before the engine must stop, minus what the running block was charged for in advance
 *   r10 r11   scratch; r10 holds the host address of a checked memory operand
 *   rsp   host stack
 *   GS    the data TLB of the current address space and access mode
 *   ymm0-15, MXCSR   the guest's, while hot.vec_live is set
 *   x87 unit   the guest's, while hot.x87_live is set, but for FIP, FDP and FOP; else the host's: empty, FCW 37f
 * Guest R10, R11, R14 and R15 live in hot.spill.
 *
 * Invariants:
 *  (1) At a block's entry the guest's arithmetic flags are in memory, as hot.cc_* says.
 *  (2) A block is charged for all its instructions when it is entered; whoever leaves it early gives the rest back.
 *  (3) Whatever can fault, reach a device or change code or translations is done by the interpreter's handler of that
 *      instruction, called with the state exact before it. Translated code does only what cannot go wrong.
 *  (4) A jump from one page to another compares the fetch TLB entry of its target with the page that the target was
 *      translated from. Within a page jumps need no check: whoever drops the fetch entry of the running page makes
 *      the running instruction the block's last.
 *  (5) A block that was dropped keeps its memory until all are; its entry jumps out, so nobody must be told.
 *  (6) x87 and MMX instructions run on the host only while FCW masks all exceptions (KEY_X87): none changes FDP or
 *      FOP (exec/x86/fpu.h, (2) and (3)); FIP is in hot.x87_fip while hot.x87_live is set. vcpu_state.x87.fcw is always
 *      right. */
#ifndef HW_DBT_DBT_H
#define HW_DBT_DBT_H

#include "core/base/map.h"
#include "exec/dbt/decode.h"
#include "exec/dbt/emit.h"
#include "exec/engine.h"
#include "exec/x86/insn.h"
#include "exec/x86/mmu.h"

enum {
    BLOCK_MAX = 64, /* instructions, so that a block's charge fits an imm8 */
    GROUPS_MAX = 3, /* of accesses checked together */
    LINK_COUNT_MAX = 1 << 18,
    SITE_COUNT_MAX = 1 << 20,
    BLOCK_COUNT_MAX = 1 << 17,
};

/* ---- flags kept as operands (flags.c) ---- */

/* How the flags follow from hot.cc_a and hot.cc_b. cc_op is cc | log2 of the operand size << 8; with CC_IMM, bits 23:16 of
 * it, a signed byte, stand for cc_b. On top of that, cc_inc says that an INC or DEC came after, with the result cc_inc_a: it
 * has all flags but CF. A store of 8 bytes to cc_op takes that back. */
enum cc {
    CC_RAW,   /* they are in hot.aflags, as in vcpu_state.aflags */
    CC_CMP,   /* a - b */
    CC_ADD_TO, /* b was added to something, a is the sum */
    CC_SUB_FROM, /* b was subtracted from something, a is the difference */
    CC_LOGIC, /* a is the result of AND, OR, XOR, TEST */
    CC_TEST,  /* a & b */
    CC_SHL, CC_SHR, CC_SAR, /* a shifted by b, which is not 0 */
    CC_INC, CC_DEC, /* of cc_inc alone */
    CC_IMM = 0x400,
};

/* ---- what translated code reads and writes ---- */

enum { SPILL_R10, SPILL_R11, SPILL_R14, SPILL_R15, SPILL_COUNT };
enum { X87_IMAGE_LEN = 576, X87_IMAGE_HEADER = 512 };

struct dbt;

struct hot {
    uint64_t spill[SPILL_COUNT];
    uint64_t cc_a, cc_b, cc_inc_a;
    uint32_t cc_op, cc_inc;
    uint16_t aflags;
    uint8_t vec_live;   /* vector registers and MXCSR are in the host's registers, not in vcpu_state */
    uint8_t vec_reload; /* the call returns to code that counts on them */
    uint8_t flags_reload; /* the call returns to code that wants the flags in the host's register */
    uint8_t x87_live;   /* the x87 state is in the host's unit, not in vcpu_state */
    uint8_t x87_reload; /* the call returns to code that counts on that */
    uint64_t jump_cache; /* address of the current jump cache */
    uint64_t ret_cache;  /* and of the return cache */
    uint64_t tmp;
    uint64_t string_end[2]; /* what RDI and RSI become */
    uint64_t x87_fip;    /* the guest's, while x87_live is set */
    uint64_t group[GROUPS_MAX]; /* host addresses of what the running block checked when it was entered */
    int64_t budget;      /* r15 while C code runs */
    uint64_t seg_base[6];
    /* constants */
    struct dbt *self;
    uint64_t *regs;      /* vcpu_state.r: VCPU_FIELD() */
    struct cpu *cpu;
    uint8_t *vec;        /* vcpu_state.ymm */
    uint8_t *x87;        /* vcpu_state.x87 */
    uint64_t c_call, c_link, c_leave, c_nowhere; /* C functions */
    uint32_t host_mxcsr;
    uint8_t x87_image[X87_IMAGE_LEN] __attribute__((aligned(64))); /* for XSAVE and XRSTOR of that unit alone */
};

/* A field of struct vcpu, with hot.regs in a register. */
#define VCPU_FIELD(reg, field)                                                                         \
    hm_base(reg, (int32_t)offsetof(struct vcpu, field) - (int32_t)offsetof(struct vcpu, s.r))

/* ---- code memory (arena.c) ---- */

enum { HOT_LEN = 4096 };
#define HOT(field) hm_rip((int32_t)offsetof(struct hot, field) - HOT_LEN)
#define HOT_AT(field, i) hm_rip((int32_t)offsetof(struct hot, field) + 8 * (int32_t)(i) - HOT_LEN)

struct arena {
    struct code_map map;
    uint32_t first;    /* blocks begin here, behind the thunks */
    uint32_t cold;     /* and here what of them hardly ever runs, so that the rest lies close together */
    struct hot *hot;   /* HOT_LEN bytes before the code */
    /* positions of the thunks */
    uint32_t enter;    /* uint64_t fn(const void *code): run until something calls leave */
    uint32_t call;     /* r11d: site; called */
    uint32_t link;     /* r11d: link; jumped to */
    uint32_t leave;    /* r11d: block; jumped to with the block's charge given back */
    uint32_t nowhere;  /* jumped to by who found address 0 in an empty slot of a cache: goes on there */
    uint32_t light;    /* called; r11: light_fn, r10: its argument, then what it returned; flags are lost */
    uint32_t vec_load; /* called; keeps all but flags and r10 */
    uint32_t x87_load; /* likewise */
    uint32_t flags_get; /* called; loads the flags from hot.cc_*; r11 is lost */
};

must_check struct err *arena_init(struct arena *a, uint32_t len);
void arena_deinit(struct arena *a);
static inline const void *arena_code(const struct arena *a, uint32_t pos) { return a->map.rx + pos; }

/* ---- blocks (blocks.c) ---- */

/* What translated code depends on beside its bytes and address. */
struct key {
    uint8_t mode;     /* enum cpu_mode */
    uint8_t mmu_mode; /* enum mmu_mode */
    uint8_t bits;     /* KEY_* */
    uint8_t unused;   /* a whole word is copied faster than parts of it */
};
enum {
    KEY_SSE = 1, KEY_AVX = 2, /* usable without a fault */
    KEY_MASKED = 4,           /* no SIMD exception is unmasked */
    KEY_FLAT = 8,             /* CS SS DS ES: base 0, no limit */
    KEY_FLAT_FS = 16, KEY_FLAT_GS = 32, /* no limit */
    KEY_PLAIN = 64, /* of a block: the variant without groups */
    KEY_X87 = 128,  /* usable without a fault, and no x87 exception is unmasked */
};

struct block {
    uint64_t va;
    uint32_t page;
    uint32_t page2; /* of the second part of the only instruction of a block that crosses pages, else MEM_NO_PAGE */
    uint16_t off, len;
    struct key key;
    uint8_t count;  /* instructions */
    bool dead;
    uint32_t entry, dead_stub; /* positions; the stub is cold */
    uint32_t hash_next;    /* index + 1 */
    uint32_t page_next[2]; /* of the blocks with bytes in page and page2: block_ref() */
    uint32_t va_next;      /* index + 1: of the blocks, dead ones too, of dbt.va_blocks */
};
/* A block's part 0 or 1, as lists of pages hold it; 0 ends a list. */
static inline uint32_t block_ref(uint32_t index, unsigned part) { return (index + 1) << 1 | part; }

/* A place from which translated code calls C: an instruction of a block. */
struct site {
    uint32_t block;
    uint16_t off;   /* of the instruction, from the block's start */
    uint8_t after;  /* instructions of the block behind it */
    uint8_t flags;  /* SITE_* */
};
enum {
    SITE_VEC = 1,   /* code behind it counts on vector registers */
    SITE_FLAGS = 2, /* code behind it wants the host's flags */
    SITE_ENDS = 4,  /* last of its block */
    SITE_GROUPS = 8, /* code behind it counts on addresses in hot.group[] */
    SITE_X87 = 16,   /* code behind it counts on the host's x87 unit */
};

/* A direct jump out of a block. */
struct link {
    uint64_t va;       /* target */
    uint32_t block;
    uint32_t jump_pos; /* of the rel32 */
    uint32_t page_pos; /* of the imm32 that the fetch entry's page is compared with; 0: same page */
    bool plain;        /* to the KEY_PLAIN variant */
};

struct code_stats {
    uint64_t blocks, insns, bytes, flushes, drops;
    /* while dbt.host_ns is set */
    uint64_t ns, measured_insns, host_insns, host_insns_inline;
};

/* Where linear addresses are translated: found by va. Where an empty entry, which has va 0, can be found by 0, its code is
 * arena.nowhere: in all of a return cache, and in slot 0 of a jump cache. */
struct jc_entry { uint64_t va; const void *code; };
enum {
    JC_SHIFT = 4, /* log2 of the bytes of code that share a slot */
    JC_ENTRY_SHIFT = 4, /* log2 of an entry's size */
    JC_ENTRIES = 1 << 14,
    JC_PER_PAGE = PAGE_SIZE >> JC_SHIFT,
    JC_LEN = JC_ENTRIES << JC_ENTRY_SHIFT,
    JUMP_CACHES = MMU_SPACES * MMU_CACHED,
    /* Calls leave their return address and the code for it in a slot chosen by the stack pointer. That code checks the
     * mapping itself, so entries need no care. One cache for each access mode. */
    RC_ENTRIES = 1 << 10,
    RC_LEN = RC_ENTRIES << JC_ENTRY_SHIFT,
    RET_CACHES = MMU_CACHED,
};
_Static_assert(JUMP_CACHES <= 64, "a bit each");
_Static_assert(JC_ENTRIES / JC_PER_PAGE <= 64, "likewise");
_Static_assert(sizeof(struct jc_entry) == 1 << JC_ENTRY_SHIFT, "as translated code indexes it");

/* All that a slow path needs to know of a site, lest it has to look in many places. */
struct insn_slot {
    uint64_t id; /* the site's, and of the flush that it lives until; 0: none */
    uint64_t rip;
    uint8_t after, flags; /* site.after, site.flags */
    struct insn in;
};
enum { INSN_SLOTS = 1 << 12 };

struct dbt {
    struct engine e;
    struct engine *interp; /* for everything that is not worth translating */
    struct vcpu *v;
    struct mem *mem;
    struct arena arena;
    struct engine_options options; /* none of them 0 but by choice */
    uint64_t end;        /* tick at which r15 reaches 0 */
    struct key key;      /* of the running code */
    bool interpret;      /* what comes next, though it may have a block with groups: that without them is too long. They
                            differ when one was made while an address inside them was armed */
    uint64_t flush_count; /* whoever kept a position must look again when it changed */

    struct block *block; /* BLOCK_COUNT_MAX */
    struct site *site;
    struct link *link;
    uint32_t blocks, sites, links;
    uint32_t pos, cold_pos; /* next free byte of code: below arena.cold, and behind it */
    uint32_t *bucket;
    uint32_t *va_blocks;   /* VA_BUCKETS: by linear page */
    uint32_t *page_blocks; /* by page: block_ref() */
    uint64_t *code_lines;  /* by page: 64-byte lines that blocks cover */
    uint8_t *jump_caches;
    uint64_t jump_caches_used; /* since the last flush, a bit each */
    uint64_t jump_cache_pages[JUMP_CACHES]; /* a bit for the slots that a page selects: whether one may hold something */
    uint8_t *ret_caches;
    struct key jump_cache_key[JUMP_CACHES], ret_cache_key[RET_CACHES]; /* each holds code of one key */
    struct insn_slot *slot;
    const struct tlb_entry *cur_dtlb; /* what GS points to */
    uint64_t flush_seed; /* engine_options.flush: when is next */
    int64_t until_flush;
    bool have_fsgsbase;  /* to set GS, this host needs no system call */
    struct code_stats stats;
    struct { uint32_t stubs, end, cold; } last; /* of the latest block: where its stubs begin, its code ends, its cold code begins */
    uint64_t (*host_ns)(void); /* engine_measure(): time translations; usually NULL */
    struct decode_cache *decoded;
    void *scratch;       /* translate.c's */
};

struct err *blocks_init(struct dbt *d);
void blocks_deinit(struct dbt *d);
/* NULL: there is none yet. */
struct block *block_find(struct dbt *d, uint64_t va, uint32_t page, const struct key *k);
void block_publish(struct dbt *d, struct block *b, bool findable);
void block_drop(struct dbt *d, struct block *b);
void blocks_flush(struct dbt *d);
/* Who enters the dead block enters `code` instead, its successor at the same address. */
void block_forward(struct dbt *d, const struct block *dead, const void *code);
/* The slot of va in the current jump cache, for reading. */
const struct jc_entry *jump_cache_entry(const struct dbt *d, uint64_t va);
/* Code NULL: nothing is known of va any more. */
void jump_cache_set(struct dbt *d, uint64_t va, const void *code);
/* Make the jump cache of the current space and d->key the one that hot.jump_cache points to. */
void blocks_select(struct dbt *d);
static inline bool block_same_key(const struct key *a, const struct key *b)
{
    return a->mode == b->mode && a->mmu_mode == b->mmu_mode && a->bits == b->bits;
}

static inline unsigned jump_cache_index(unsigned space, unsigned mode) { return space * MMU_CACHED + mode; }
static inline struct jc_entry *jump_cache(const struct dbt *d, unsigned i)
{
    return (struct jc_entry *)(void *)(d->jump_caches + (size_t)i * JC_LEN);
}
static inline size_t jc_slot(uint64_t va) { return va >> JC_SHIFT & (JC_ENTRIES - 1); }
static inline void *ret_cache(const struct dbt *d, unsigned mode) { return d->ret_caches + (size_t)mode * RC_LEN; }

/* ---- light.c ---- */
typedef uint64_t (*light_fn)(struct dbt *d, uint64_t arg);
uint64_t light_syscall(struct dbt *d, uint64_t arg);
uint64_t light_sysret(struct dbt *d, uint64_t rip);
uint64_t light_stac(struct dbt *d, uint64_t next);
uint64_t light_clac(struct dbt *d, uint64_t next);
uint64_t light_tsc(struct dbt *d, uint64_t left);
/* GS, where have_fsgsbase. */
static inline void dbt_set_gs(const void *p) { __asm__ volatile("wrgsbase %0" : : "r"(p)); }

/* ---- translation ---- */

/* A new block of at most `most` instructions at va, whose first byte lies in `page`, for key k; without `publish`
 * nobody finds it again. NULL when it would have to come from a device. May raise the fault of fetching a second page,
 * and may flush everything. */
/* The bytes of an instruction at the end of `page`, and those that follow in page2. */
void crossing_bytes(const struct dbt *d, uint32_t page, uint32_t off, uint32_t page2, uint8_t out[INSN_BYTES_MAX]);
struct block *translate(struct dbt *d, uint64_t va, uint32_t page, const struct key *k, unsigned most, bool publish);
enum { SCRATCH_LEN = 1 << 17 };

/* ---- stats.c ---- */
/* translate(), with the clock running, and its host instructions counted. */
struct block *translate_measured(struct dbt *d, uint64_t va, uint32_t page, const struct key *k, unsigned most,
                                 bool publish);
size_t dbt_stats(const struct engine *e, struct engine_stat *out, size_t max);

/* ---- flags.c ---- */
void flags_settle(struct vcpu *v, struct hot *h); /* into vcpu_state.aflags; cc_op becomes CC_RAW */
bool flags_are_clean(void);

#endif
