/* exec/x86/seg.h: descriptors, segment registers and stacks, shared by the system instructions and event delivery.
 *
 * The pattern everywhere: fetch and check (may raise), translate what will be written (may raise), then write memory and
 * commit registers (cannot raise). Selector error codes carry `ext` in bit 0: 1 while an event is being delivered that
 * the program did not ask for (SDM vol. 3, 6.13). References: SDM vol. 3 chapters 3, 5, 7. */
#ifndef HW_X86_SEG_H
#define HW_X86_SEG_H

#include "exec/x86/access.h"
#include "exec/x86/mmu.h"

enum sys_type { /* system descriptor types, SDM vol. 3, table 3-2; bit 3 makes the 32-bit (64-bit) variant of a 16-bit one */
    SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK_GATE = 5, SYS_INT16 = 6, SYS_TRAP16 = 7,
    SYS_TSS32 = 9, SYS_TSS32_BUSY = 0xb, SYS_CALL32 = 0xc, SYS_INT32 = 0xe, SYS_TRAP32 = 0xf,
    SYS_BUSY = 2, SYS_32 = 8,
};

/* A descriptor in memory. */
struct desc {
    uint64_t raw; /* its first 8 bytes */
    uint64_t lin; /* where it lies; 0 with a null selector */
};

static inline uint16_t desc_attr(uint64_t raw) { return (uint16_t)((raw >> 40 & 0xff) | (raw >> 40 & 0xf000)); }
static inline unsigned attr_type(uint16_t attr) { return attr & SEG_TYPE; }
static inline bool attr_is_code(uint16_t attr) { return (attr & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE); }
static inline bool attr_is_conforming(uint16_t attr) { return attr_is_code(attr) && (attr & SEG_CONFORMING); }
static inline bool attr_is_writable(uint16_t attr) { return (attr & (SEG_S | SEG_CODE | SEG_WRITE)) == (SEG_S | SEG_WRITE); }
static inline bool attr_is_readable(uint16_t attr) /* data, or code with the R bit */
{
    return (attr & SEG_S) && (!(attr & SEG_CODE) || (attr & SEG_READ));
}
static inline bool attr_is_system(uint16_t attr, unsigned type) { return !(attr & SEG_S) && attr_type(attr) == type; }
static inline bool sel_is_null(uint16_t sel) { return !(sel & ~3u); }
static inline unsigned sel_rpl(uint16_t sel) { return sel & 3; }
static inline uint32_t sel_error(uint16_t sel, unsigned ext) { return (sel & ~3u) | ext; }
static inline bool va_canonical(uint64_t lin) { return (uint64_t)((int64_t)(lin << 16) >> 16) == lin; }

/* Find the slot of `len` bytes (8, or 16 for system descriptors of IA-32e mode) that a selector names. False: beyond the
 * table, or the LDT is not there. */
bool desc_find(struct vcpu *v, uint16_t sel, unsigned len, uint64_t *lin_out);
/* Read a descriptor; beyond the table raises vec(sel). The selector is not null. */
struct desc desc_fetch(struct vcpu *v, uint16_t sel, enum vector vec, unsigned ext);
/* The hidden part that a descriptor loads. */
struct seg desc_seg(uint64_t raw, uint16_t sel);
/* The same for a code or data segment, as it will be after desc_touch(). */
struct seg desc_seg_accessed(uint64_t raw, uint16_t sel);
/* Set the accessed bit in memory; may raise #PF. */
void desc_touch(struct vcpu *v, const struct desc *d);
/* Bytes 8 to 15 of a system descriptor in IA-32e mode: the upper half of the base, and a type field that must be 0. */
uint64_t desc_base64(struct vcpu *v, const struct desc *d, uint16_t sel, enum vector vec);

/* Whether [off, off + size) lies within the segment's limit, expand-down segments included. */
bool seg_covers(const struct seg *g, uint64_t off, uint32_t size);

/* ---- loading segment registers ---- */

struct seg seg_real(const struct seg *old, uint16_t sel); /* real-address mode: limit and size are kept */
struct seg seg_vm86(uint16_t sel);
struct seg seg_null(uint16_t sel);

/* Check a selector for SS of a stack of privilege `cpl` (`code64`: whose code is 64-bit; a null selector is then good
 * below CPL 3). Raises vec(sel), or #SS(sel) when not present. *d gets the descriptor for desc_touch(). */
struct seg seg_check_ss(struct vcpu *v, uint16_t sel, unsigned cpl, bool code64, enum vector vec, unsigned ext, struct desc *d);
/* Check a selector for DS, ES, FS, GS at privilege cpl. Raises vec(sel), or #NP(sel). */
struct seg seg_check_data(struct vcpu *v, uint16_t sel, unsigned cpl, enum vector vec, struct desc *d);
/* Load any of ES SS DS FS GS in the current mode, as MOV does. */
void seg_load(struct vcpu *v, unsigned sreg, uint16_t sel);
/* Return to an outer level: what its code may not use becomes null (SDM vol. 2, RET). */
void seg_drop_inner(struct vcpu *v);

/* ---- control transfers ---- */

/* The target must lie within the code segment (be canonical for a 64-bit one), or #GP(ext). Of a 64-bit offset into
 * another code segment only the lower half counts. */
void code_check_rip(struct vcpu *v, const struct seg *cs, uint64_t rip, unsigned ext);
/* Whether the segment holds 64-bit code. */
static inline bool code_is_64(const struct vcpu *v, const struct seg *cs) { return cpu_long(v) && (cs->attr & SEG_L); }
/* Load CS with RPL = cpl and go. Cannot raise. */
void code_commit(struct vcpu *v, struct seg cs, unsigned cpl, uint64_t rip);
/* Code and stack segments of RET and IRET: a code segment of privilege sel.RPL >= CPL. */
struct seg code_check_return(struct vcpu *v, uint16_t sel, struct desc *d);

/* ---- stacks ---- */

/* A stack that a frame is about to be pushed onto: the current one, or the one of an inner level. */
struct stack {
    struct seg ss;
    uint64_t rsp;
    uint64_t mask;  /* width of the stack pointer */
    bool flat;      /* 64-bit: no segment */
    bool user;      /* accesses are made at CPL 3 */
    uint32_t error; /* error code of #SS when it has no room */
};

enum { FRAME_MAX = 36 }; /* 31 parameters, SS, ESP, CS, EIP of a call gate */
struct frame {
    unsigned size;  /* of a word, in bytes */
    unsigned count;
    uint64_t word[FRAME_MAX]; /* in the order of the pushes */
    struct span span[2];      /* two when the stack pointer wraps inside the frame */
    unsigned split;           /* words in the first span */
};

struct stack stack_current(struct vcpu *v, unsigned ext);
/* The stack for privilege level cpl from the 16- or 32-bit TSS; raises #TS, #SS, #NP. */
struct stack stack_from_tss(struct vcpu *v, unsigned cpl, unsigned ext, struct desc *ss_desc);
/* The stack pointer at `off` of the 64-bit TSS (RSP0..2, IST1..7); raises #TS, or #SS(ext) when not canonical. SS becomes
 * null with RPL = cpl. */
struct stack stack_from_tss64(struct vcpu *v, unsigned off, unsigned cpl, unsigned ext);
static inline void frame_push(struct frame *f, uint64_t word) { f->word[f->count++] = word; }
/* Check room, translate for writing, move st->rsp below the frame. Raises #SS(st->error), #PF. */
void frame_translate(struct vcpu *v, struct stack *st, struct frame *f);
void frame_write(struct vcpu *v, const struct frame *f);
/* Make it the current stack. The new CPL and CS are committed already. Cannot raise. */
void stack_commit(struct vcpu *v, const struct stack *st);

/* ---- tasks ---- */

enum task_why { TASK_JMP, TASK_CALL, TASK_IRET, TASK_EVENT };
/* Switch to the task of TSS selector `sel` (SDM vol. 3, 7.3). next_rip is saved in the old one. Checks of the descriptor by
 * kind of transfer are made here; privilege checks are the caller's. Faults after the switch are raised in the new
 * task, with R_RIP its first instruction, whatever instruction made the switch. */
void task_switch(struct vcpu *v, uint16_t sel, enum task_why why, unsigned ext, uint64_t next_rip, bool has_error, uint32_t error);

/* Load and check the PDPTEs at cr3 (SDM vol. 3, 4.4.1); false: reserved bits are set, nothing was loaded. */
bool pdptes_read(struct vcpu *v, uint64_t cr3, uint64_t out[4]);

#endif
