/* tests/insn/insn_test.h: what the parts of the instruction test share.
 *
 *   forms.c    which instruction forms exist (asks Zydis)
 *   model.c    which of them the CPU model has (asks cpu_cpuid())
 *   gen.c      one random test case of a form: code bytes, registers, memory
 *   native.c   executes a case on the host CPU
 *   guest.c    executes a case in an engine
 *   compare.c  the two results, and how they are shown
 *   insn_test.c  the program
 *
 * A case is a function of (seed, form, case number), so that it can be replayed alone. */
#ifndef HW_INSN_TEST_H
#define HW_INSN_TEST_H

#include <Zydis/Zydis.h>

#include "core/base/base.h"
#include "core/vcpu.h"

/* ---- the address space of a case, the same natively and in the guest: all of it below 2 GiB, so that absolute
 * displacements and 32-bit code reach it ---- */
enum {
    DATA_BASE = 0x10000000, /* RW, RW, read-only, RW; the pages before and after are not mapped */
    DATA_PAGES = 4,
    DATA_RO_PAGE = 2,
    DATA_LEN = DATA_PAGES * PAGE_SIZE,
    CODE_BASE = 0x20000000, /* two executable pages, neither readable by mistake nor writable; nothing behind */
    CODE_PAGES = 2,
    CODE_LEN = CODE_PAGES * PAGE_SIZE,
};

/* Selectors as 64-bit Linux has them; the guest's GDT is built alike. */
enum { SEL_CODE32 = 0x23, SEL_DATA = 0x2b, SEL_CODE64 = 0x33 };

/* Architectural state in the host's own formats. */
struct insn_state {
    uint64_t r[16];
    uint64_t rip, rflags;
    uint16_t sel[6]; /* enum segreg order */
    uint64_t fs_base, gs_base;
    uint8_t fx[512];      /* FXSAVE64 image; the XMM registers live here */
    uint8_t ymmh[16][16]; /* upper halves */
    /* How it ended. */
    int vector;     /* -1: retired */
    uint32_t error; /* 0 for vectors without an error code */
    uint64_t cr2;   /* with vector 14 */
};

enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FTW = 4,
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_MXCSR_MASK = 28,
    FX_ST = 32,
    FX_XMM = 160
};

static inline bool vector_has_error(int vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

/* ---- forms.c ---- */
enum form_kind {
    FORM_TEST, /* compared with the host */
    FORM_UD,   /* outside the CPU model: the engine must raise #UD */
    FORM_SKIP, /* cannot be compared; `why` says so */
};

/* The legacy prefixes of an encoding, or VEX.pp and EVEX.pp. */
enum { FP_66 = 1, FP_F3 = 2, FP_F2 = 4, FP_LOCK = 8 };

/* One way to write a form: prefixes and the bits of VEX, XOP and EVEX that choose nothing but the form. */
struct variant {
    uint8_t prefixes, w, l, evex_b, aaa;
};

/* Where in the opcode space a form lies. */
struct opcode_point {
    uint8_t mode, encoding, map, opcode, suffix;
};

/* Register extension bits and their kin: free in every form. */
struct reg_ext {
    uint8_t r, x, b, vvvv;
    bool rex, short_vex;
};

struct form {
    uint8_t mode;     /* 64 or 32 */
    uint8_t encoding; /* ZydisInstructionEncoding */
    uint8_t map;      /* ZydisOpcodeMap */
    uint8_t opcode;   /* the lowest; with opcode_reg its low three bits name a register */
    uint8_t suffix;   /* 3DNow! */
    bool opcode_reg, has_modrm, mem, vsib;
    uint8_t mem_reg_set; /* memory: which of the 8 ModRM.reg values encode this form */
    uint64_t reg_set;    /* mod 3: which of the 64 reg:rm combinations do */
    struct variant variant[12];
    uint8_t variant_count;
    ZydisMnemonic mnemonic;
    ZydisISASet isa_set;
    enum form_kind kind;
    const char *why; /* FORM_SKIP */
    char sample[96]; /* disassembly of the first encoding found */
    bool refused;    /* stands for all encodings of a map that the decoder refuses */
};

struct form_list {
    struct form *form;
    size_t count, cap;
};

/* Walk the opcode space of `mode` and append every form found, then one pseudo form for what each map refuses. One
 * list a process. */
void forms_enumerate(struct form_list *list, unsigned mode);
/* Does the instruction belong to the form? */
bool form_matches(const struct form_list *list, const struct form *f, const ZydisDecodedInstruction *zi,
                  const ZydisDecodedOperand *op);
ZydisDecoder *form_decoder(unsigned mode);
/* In the one-byte map: is it a prefix, a REX or the escape 0F? */
bool form_opcode_is_prefix(unsigned mode, unsigned opcode);
/* Write prefixes, escapes and opcode; returns their length. */
unsigned form_put_opcode(uint8_t *b, const struct opcode_point *pt, struct variant v, struct reg_ext x);

/* ---- model.c ---- */
void model_init(uint32_t cpu_features);
/* Decide kind and why of a form. */
void model_classify(struct form *f);

/* ---- gen.c ---- */
enum { CODE_MAX = 24 };
struct test_case {
    uint8_t code[CODE_MAX];
    uint8_t code_len;
    uint64_t code_addr;
    bool invalid;    /* no valid instruction: the decoder refuses it */
    uint8_t prelude; /* NOPs that the engine executes before it, in the same block */
    bool twice;      /* the engine executes it a second time, from the same state, and that one counts */
    bool legacy;     /* 32-bit: the engine runs it in protected mode with PAE, not in compatibility mode */
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    struct insn_state in;
    uint8_t steps;  /* instructions until the host's trap arrives: 2 after a load of SS */
    uint64_t ea[8]; /* linear addresses the case aims at, for the report */
    unsigned ea_count;
};

struct rng {
    uint64_t s;
};
static inline uint64_t rnd(struct rng *g) /* splitmix64 */
{
    uint64_t z = g->s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static inline unsigned rnd_below(struct rng *g, unsigned n) { return (unsigned)((rnd(g) >> 32) * n >> 32); }
static inline bool rnd_chance(struct rng *g, unsigned percent) { return rnd_below(g, 100) < percent; }

/* Fill *tc and the data pages at `data` (DATA_LEN bytes). False: no encoding of the form was found (a bug here). */
bool gen_case(const struct form_list *list, const struct form *f, struct rng *g, struct test_case *tc, uint8_t *data);
/* The resting contents of the data pages. */
const uint8_t *gen_data_image(void);

/* ---- native.c ---- */
/* 0, or why the host cannot run the comparison. */
const char *native_init(unsigned worker);
/* What user mode can learn of a descriptor, in struct seg's form. False: nothing. */
bool native_descriptor(uint16_t sel, uint16_t *attr_out, uint32_t *limit_out);
/* Take the signal handlers over, those that an engine installed too (they are still called for its signals). */
void native_take_signals(void);
/* Execute at tc->in; results to *out. The data pages are at DATA_BASE. */
void native_run(const struct test_case *tc, struct insn_state *out);
/* A case that would do the host harm. */
bool native_refuses(const struct test_case *tc);
/* The data pages, writable all of them. */
uint8_t *native_data(void);

/* ---- guest.c ---- */
struct guest;
struct machine;
must_check struct err *guest_create(const char *engine, uint32_t cpu_features, struct guest **out);
void guest_destroy(struct guest *g);
uint8_t *guest_data(struct guest *g);
/* Execute at tc->in with the data pages as `data`. */
void guest_run(struct guest *g, const struct test_case *tc, const uint8_t *data, struct insn_state *out);
/* Besides vectors, an engine may end like this, which no host does: a frame of the wrong shape; not after the ticks
 * it was told. */
enum { VECTOR_BAD_FRAME = 1000, VECTOR_NOT_EXACT };

/* ---- compare.c ---- */
enum { DIFF_TEXT = 160 };
/* Name what differs, shortest first, into `text`: "flags CF OF, rax, mem". False: nothing does. */
bool states_differ(const struct insn_state *a, const struct insn_state *b, char text[DIFF_TEXT]);
void state_print(const char *title, const struct insn_state *s);
const char *vector_name(int vector);
/* Take from a native result what is the method's, not the instruction's: TF, and RF of a trap. */
/* Take back what the host had begun of an instruction that faulted: ours begin nothing. */
void native_undo_begun(const struct test_case *tc, struct insn_state *s, uint8_t *data, const uint8_t *before);
void engine_settle(struct insn_state *s);
void native_settle(const struct test_case *tc, struct insn_state *s, uint8_t *data);

#endif
