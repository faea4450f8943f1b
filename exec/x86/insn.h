/* exec/x86/insn.h: what a decoded instruction is, and the table of what each mnemonic means.
 *
 * Zydis decodes; a row of the instruction table (insn_int.def, insn_sys.def, insn_fp.def) says what the mnemonic is to us
 * and which function lowers it for the interpreter. A mnemonic without a row is outside the CPU model and raises #UD.
 *
 * How to add an instruction: a row in the .def file of its kind, a lower function that fills struct insn and chooses
 * a handler, the handler. The instruction tests enumerate forms from Zydis, so they find it by themselves. */
#ifndef HW_X86_INSN_H
#define HW_X86_INSN_H

#include <Zydis/Zydis.h>

#include "exec/x86/cpu.h"

/* Executes one instruction. R_RIP is the block's start, not the instruction's: see insn_rip()/insn_next(). A handler
 * that transfers control sets R_RIP and the instruction must carry INSN_ENDS. Everything that can fault comes first. */
typedef void (*insn_fn)(struct vcpu *v, const struct insn *in);

enum insn_flags {
    INSN_ENDS = 1,    /* last of its block: control transfer, mode change, anything after which the outside must look.
                         Its handler sets R_RIP, unless INSN_NEXT */
    INSN_NEXT = 2,    /* with INSN_ENDS: the dispatcher advances R_RIP to the next instruction */
    INSN_ALONE = 4,   /* must start a block (REP strings: several ticks in one call) */
    INSN_MEM = 8,     /* has a memory operand */
    INSN_LOCK = 16,   /* LOCK prefix present */
    INSN_REP = 32, INSN_REPNE = 64,
};

struct insn {
    insn_fn fn;
    uint64_t imm;        /* immediate, sign-extended; for relative branches: target - block start RIP */
    int64_t disp;        /* displacement; RIP-relative: relative to the block's start */
    uint64_t addr_mask;  /* 0xffff, 0xffffffff or ~0 */
    const void *aux;     /* handler's own: a host thunk, a table row */
    uint8_t base, index; /* enum gpr; R_ZERO when absent, R_RIP for RIP-relative */
    uint8_t scale;       /* shift count 0..3 */
    uint8_t seg;         /* S_ES.. S_GS for the memory operand, default applied */
    uint8_t reg, rm, reg3; /* BYTE OFFSETS into vcpu_state.r (AH is 1), or xmm/st/seg/cr numbers: as the handler's family says */
    uint8_t opsize;      /* operand size in bytes: 1, 2, 4, 8 */
    uint16_t off;        /* of the first byte from the block's start */
    uint8_t len;         /* bytes */
    uint8_t flags;       /* INSN_* */
    uint8_t x, y;        /* handler's own */
    uint8_t pad[10];
};
_Static_assert(sizeof(struct insn) == 64, "one cache line per decoded instruction");

/* Typed views of a register by byte offset. A 32-bit write must go through reg_set32() (it clears the upper half). */
#define REG8(v, o) (*((uint8_t *)(v)->s.r + (o)))
#define REG16(v, o) (*(uint16_t *)((uint8_t *)(v)->s.r + (o)))
#define REG32(v, o) (*(uint32_t *)((uint8_t *)(v)->s.r + (o)))
#define REG64(v, o) (*(uint64_t *)((uint8_t *)(v)->s.r + (o)))
static inline void reg_set32(struct vcpu *v, unsigned o, uint32_t x) { REG64(v, o) = x; }

/* RIP of this instruction and of the next one, wrapped to the code segment's width. */
static inline uint64_t rip_mask(const struct vcpu *v);
static inline uint64_t insn_rip(const struct vcpu *v, const struct insn *in) { return (v->s.r[R_RIP] + in->off) & rip_mask(v); }
static inline uint64_t insn_next(const struct vcpu *v, const struct insn *in) { return (v->s.r[R_RIP] + in->off + in->len) & rip_mask(v); }
static inline uint64_t rip_mask(const struct vcpu *v)
{
    unsigned mode = cpu_of((struct vcpu *)v)->mode;
    return mode == MODE_LONG64 ? UINT64_MAX : UINT32_MAX;
}

/* Effective address of the memory operand: an offset into its segment. */
static inline uint64_t insn_ea(const struct vcpu *v, const struct insn *in)
{
    return (v->s.r[in->base] + (v->s.r[in->index] << in->scale) + (uint64_t)in->disp) & in->addr_mask;
}

/* What a lower function works on. */
struct lower {
    struct vcpu *v;
    enum cpu_mode mode;
    const ZydisDecodedInstruction *zi;
    const ZydisDecodedOperand *op; /* zi->operand_count of them, hidden ones included */
    const uint8_t *bytes;          /* the raw instruction, zi->length bytes */
    uint8_t arg;                   /* the row's argument */
    struct insn *out;              /* zeroed; off, len, flags LOCK/REP/REPNE, and the memory operand (base, index, scale,
                                      disp, seg, addr_mask, INSN_MEM) are filled in already */
};

enum insn_class { INSN_NONE, INSN_ALU, INSN_MOVE, INSN_CONTROL, INSN_STRING, INSN_SYSTEM, INSN_HOST /* executed on the host CPU */ };
enum insn_attr {
    AT_NONE = 0, AT_LOCKABLE = 1, AT_CPL0 = 2, AT_FPU = 4 /* x87: CR0.EM/TS */, AT_MMX = 8, AT_SSE = 16, AT_AVX = 32,
    AT_FP_EXC = 64 /* may raise #XM */, AT_ALIGN16 = 128 /* memory operand must be aligned to its size */,
    AT_TIME = 256 /* reads virtual time */, AT_OPTION = 512 /* only with a CPU model option: aux feature bit */,
};

struct insn_info {
    /* Fill lo->out and return true; false: this form raises #UD. */
    bool (*lower)(struct lower *lo);
    uint8_t cls;    /* enum insn_class; INSN_NONE: not in the CPU model */
    uint16_t attrs; /* enum insn_attr */
    uint8_t arg;    /* the lower function's own, e.g. which ALU operation */
    uint32_t feature; /* CPU_* of core/cpu.h that must be present; 0: baseline */
};
/* Rows: INSN(MNEMONIC, class, attrs, lower, arg, feature) */
extern const struct insn_info insn_table[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* The row of a decoded instruction: insn_table by mnemonic, but for MOVSD and CMPSD, which name SSE2 instructions there
 * and string instructions as well. */
const struct insn_info *insn_info_of(const ZydisDecodedInstruction *zi);

/* Byte offset into vcpu_state.r of a GPR of any width. */
unsigned insn_gpr_offset(ZydisRegister reg);

/* What the decoder saw, for a translator. */
struct insn_detail {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    bool valid; /* an instruction of the CPU model; otherwise it will raise a fault */
};

/* Decode and lower one instruction at bytes[0..avail), avail <= 15. *in is complete on return. When the bytes are no
 * instruction, too long, or outside the CPU model, it becomes one that raises the right fault when executed. Returns
 * its length, or 0 when `avail` bytes are too few to tell (the caller fetches the next page). */
unsigned insn_decode(struct vcpu *v, const uint8_t *bytes, unsigned avail, uint16_t off, struct insn *in);
unsigned insn_decode_detail(struct vcpu *v, const uint8_t *bytes, unsigned avail, uint16_t off, struct insn *in,
                            struct insn_detail *detail);

/* ---- for handlers ---- */
/* Go to another address: near branches of the operand size; raises #GP(0) before anything changed. */
void branch_check(struct vcpu *v, uint64_t target);
/* Permission checks shared by FP families: raise #UD/#NM by CR0.EM/TS, CR4.OSFXSR, XCR0 as SDM vol. 3 13.1 says. */
void fpu_check_x87(struct vcpu *v);
void fpu_check_mmx(struct vcpu *v);
void fpu_check_sse(struct vcpu *v);
void fpu_check_avx(struct vcpu *v);

#endif
