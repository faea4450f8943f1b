/* exec/x86/host_thunk.h: small functions that execute one instruction on the host CPU.
 *
 * A thunk executes one instruction *form*: operands are renamed to fixed registers and a memory operand to a host
 * pointer, so that one thunk serves every register combination and address. It is a SysV function of four operand
 * pointers and the vCPU state: it loads the register operands through their pointers, executes the instruction, stores
 * what the instruction wrote, and returns 0. Nothing is stored when the instruction faults: a signal handler, which
 * acts only inside arenas, diverts the thunk to an exit that returns THUNK_FPE (unmasked SIMD exception; the guest's
 * MXCSR then has its flags) or THUNK_ILLEGAL (the host does not know the encoding).
 *
 * Between thunks the host runs with its own MXCSR, x87 control word and clean upper vector halves.
 *
 * A form is a 64-bit key, which holds all that is needed to generate the thunk. Who wants to call a thunk keeps both
 * the key and the pointer that thunk_find() gave, and compares before each call:
 *
 *     if (unlikely(t->key.bits != key.bits))
 *         t = thunk_find(arena, key);
 *     status = t->code(p0, p1, p2, p3, &v->s);
 *
 * So an arena may forget thunks at any time (it does so when it is full, all at once) and never fails.
 *
 * The code is mapped twice, writable and executable; no mapping is both. */
#ifndef HW_X86_HOST_THUNK_H
#define HW_X86_HOST_THUNK_H

#include "core/base/err.h"
#include "core/vcpu.h"

enum thunk_kind { THUNK_NONE, THUNK_LEGACY, THUNK_VEX, THUNK_X87 };
enum thunk_slot_kind { SLOT_NONE, SLOT_VEC, SLOT_GPR, SLOT_MM, SLOT_MEM };
enum thunk_slot_field { FIELD_REG, FIELD_RM, FIELD_VVVV, FIELD_IS4 };

/* Operand i of the instruction is argument i of the thunk. */
union thunk_key {
    struct {
        uint64_t kind : 2;      /* enum thunk_kind; not THUNK_NONE */
        uint64_t map : 2;       /* 1: 0F, 2: 0F 38, 3: 0F 3A */
        uint64_t pp : 2;        /* mandatory prefix: 0 none, 1: 66, 2: F3, 3: F2 */
        uint64_t w : 1, l : 1;  /* REX.W or VEX.W, VEX.L */
        uint64_t opcode : 8;
        uint64_t ext : 3;       /* ModRM.reg where that is no operand */
        uint64_t has_imm : 1;
        uint64_t imm : 8;       /* the immediate; x87: the ModRM byte of a register form */
        uint64_t slots : 24;    /* four times kind : 3, field : 2, written : 1; see thunk_slot() */
        uint64_t flags : 1;     /* sets EFLAGS; x87: reads them too */
        uint64_t mxcsr : 1;     /* consults or changes MXCSR */
        uint64_t xmm0_in : 1, xmm0_out : 1; /* implicit XMM0 */
        uint64_t str_in : 1;    /* reads RAX and RDX (PCMPESTRx) */
        uint64_t rcx_out : 1;   /* writes RCX (PCMPxSTRI) */
    };
    uint64_t bits;
};
_Static_assert(sizeof(union thunk_key) == 8, "a key is one word");

static inline uint64_t thunk_slot(unsigned i, enum thunk_slot_kind kind, enum thunk_slot_field field, bool written)
{
    return (uint64_t)((unsigned)kind | (unsigned)field << 3 | (unsigned)written << 5) << 6 * i;
}

enum thunk_status { THUNK_OK = 0, THUNK_FPE = 1, THUNK_ILLEGAL = 2 };

typedef uint32_t thunk_fn(void *p0, void *p1, void *p2, void *p3, struct vcpu_state *s);

struct thunk {
    union thunk_key key;
    thunk_fn *code;
};

/* FXSAVE64 image, the first operand of every x87 thunk; MXCSR must be the host's. */
struct x87_image {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16];
    uint8_t rest[352];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct x87_image) == 512, "FXSAVE image");

struct thunk_arena;
enum { THUNK_ARENA_LEN = 1 << 20, THUNK_ARENA_MIN = 1 << 14 };

/* `len`: bytes of code, a multiple of 4 KiB, THUNK_ARENA_MIN at least. Makes sure that the process's SIGFPE and
 * SIGILL handlers are ours; faults outside arenas go to the handlers found. At most 64 arenas live in a process.
 * Errors: ERR_HOST. */
must_check struct err *thunk_arena_create(size_t len, struct thunk_arena **out);
void thunk_arena_destroy(struct thunk_arena *a);

/* The thunk of a form, generated when need be. Valid until its key changes under it; see above. */
const struct thunk *thunk_find(struct thunk_arena *a, union thunk_key key);

/* How often the arena filled up and was emptied. */
uint64_t thunk_arena_resets(const struct thunk_arena *a);

#endif
