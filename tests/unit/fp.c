/* tests/unit/fp.c: x87, MMX, SSE and AVX instructions of the interpreter against the host CPU.
 *
 * Every opcode that a row of insn_fp.def stands for is run natively and in the interpreter from the same random state,
 * and all of the state is compared. The guest sees its data at the addresses the native run uses, so that pointers
 * (FDP, fault addresses) agree as well. tests/insn does this for the whole CPU model and all modes; here it is in
 * small, without a machine around it.
 *
 * HW_FP_SEED chooses the random sequence, HW_FP_CASES the number of cases a form. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmocka.h>

#include "core/cpu.h"
#include "core/mem.h"
#include "exec/engine.h"
#include "exec/x86/fpu.h"
#include "exec/x86/host_thunk.h"
#include "exec/x86/hostclass.h"
#include "exec/x86/insn.h"
#include "exec/x86/mmu.h"

enum {
    DATA_BASE = 0x10000000, /* two pages; the next is not mapped */
    DATA_LEN = 2 * PAGE_SIZE,
    CODE_BASE = 0x20000000,
    GUEST_DATA = 0x100000,  /* where DATA_BASE lies in guest-physical memory */
};

/* ---- the native side ---- */

struct native {
    uint64_t r[16];
    uint64_t rflags;
    int vector; /* -1: no fault */
    uint64_t pad[6];
    struct {
        struct x87_image fx; /* rest[] starts with XMM0..15 */
        uint64_t xstate_bv, header[7];
        uint8_t ymmh[16][16];
    } xs __attribute__((aligned(64)));
};
_Static_assert(offsetof(struct native, xs) == 192, "the assembly below knows");

void native_run(struct native *n);
void native_back(void);
void native_exit(void);
extern uint64_t native_target, native_return;
uint64_t native_target, native_return;

/* R15 is the state, RSP stays the host's; the other registers are the case's. */
__asm__(".text\n"
        "native_run:\n"
        "    push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "    mov %rdi, %r15\n"
        "    mov $7, %eax\n xor %edx, %edx\n xrstor64 192(%r15)\n"
        "    pushq 128(%r15)\n"
        "    mov (%r15), %rax\n mov 8(%r15), %rcx\n mov 16(%r15), %rdx\n mov 24(%r15), %rbx\n"
        "    mov 40(%r15), %rbp\n mov 48(%r15), %rsi\n mov 56(%r15), %rdi\n mov 64(%r15), %r8\n"
        "    mov 72(%r15), %r9\n mov 80(%r15), %r10\n mov 88(%r15), %r11\n"
        "    popfq\n"
        "    jmp *native_target(%rip)\n"
        "native_back:\n"
        "    mov %rax, (%r15)\n mov %rcx, 8(%r15)\n mov %rdx, 16(%r15)\n mov %rbx, 24(%r15)\n"
        "    mov %rbp, 40(%r15)\n mov %rsi, 48(%r15)\n mov %rdi, 56(%r15)\n mov %r8, 64(%r15)\n"
        "    mov %r9, 72(%r15)\n mov %r10, 80(%r15)\n mov %r11, 88(%r15)\n"
        "    pushfq\n popq 128(%r15)\n"
        "    mov $7, %eax\n xor %edx, %edx\n xsave64 192(%r15)\n"
        "native_exit:\n"
        "    fninit\n"
        "    movl $0x1f80, -8(%rsp)\n ldmxcsr -8(%rsp)\n vzeroupper\n"
        "    cld\n"
        "    pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "    ret\n");

static struct native *running;

static void on_native_fault(int sig, siginfo_t *info, void *ctx)
{
    static const int slot[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    (void)sig;
    (void)info;
    ucontext_t *uc = ctx;
    greg_t *g = uc->uc_mcontext.gregs;
    for (unsigned i = 0; i < 12; i++)
        if (i != 4)
            running->r[i] = (uint64_t)g[slot[i]];
    running->rflags = (uint64_t)g[REG_EFL];
    running->vector = (int)g[REG_TRAPNO];
    memcpy(&running->xs, uc->uc_mcontext.fpregs, sizeof(running->xs));
    g[REG_RIP] = (greg_t)(uintptr_t)native_exit;
}

/* XSAVE components in their initial state need not be in the image. */
static void complete_xsave(struct native *n)
{
    if (!(n->xs.xstate_bv & 1)) {
        memset(n->xs.fx.st, 0, sizeof(n->xs.fx.st));
        n->xs.fx.fcw = FCW_INIT;
        n->xs.fx.fsw = n->xs.fx.ftw = n->xs.fx.fop = 0;
        n->xs.fx.fip = n->xs.fx.fdp = 0;
    }
    if (!(n->xs.xstate_bv & 2))
        memset(n->xs.fx.rest, 0, 256);
    if (!(n->xs.xstate_bv & 4))
        memset(n->xs.ymmh, 0, sizeof(n->xs.ymmh));
}

static const int native_signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};

static void run_native(struct native *n, const uint8_t *code, unsigned len)
{
    struct sigaction sa = {.sa_sigaction = on_native_fault, .sa_flags = SA_SIGINFO}, old[ARRAY_LEN(native_signals)];
    uint8_t *at = (uint8_t *)(uintptr_t)CODE_BASE;
    static const uint8_t jump[] = {0xff, 0x25, 0, 0, 0, 0}; /* jmp [rip] */
    memcpy(at, code, len);
    memcpy(at + len, jump, sizeof(jump));
    put_le64(at + len + sizeof(jump), (uintptr_t)native_back);
    for (unsigned i = 0; i < ARRAY_LEN(native_signals); i++)
        sigaction(native_signals[i], &sa, &old[i]);
    native_target = CODE_BASE;
    n->vector = -1;
    n->xs.xstate_bv = 7;
    running = n;
    native_run(n);
    for (unsigned i = 0; i < ARRAY_LEN(native_signals); i++)
        sigaction(native_signals[i], &old[i], NULL);
    complete_xsave(n);
}

/* ---- the guest side: a vCPU in 64-bit mode, paging, and nothing else ---- */

static struct machine machine;

static void map_guest_data(void)
{
    uint8_t *ram = machine.mem.host;
    put_le64(ram + 0x1000, 0x2003);
    put_le64(ram + 0x2000, 0x3003);
    put_le64(ram + 0x3000 + 8 * (DATA_BASE >> 21 & 511), 0x4003);
    put_le64(ram + 0x4000, GUEST_DATA | 3);
    put_le64(ram + 0x4008, (GUEST_DATA + PAGE_SIZE) | 3);
}

static void guest_init(size_t arena_len)
{
    struct vcpu *v = &machine.vcpu;
    memset(&machine, 0, sizeof(machine));
    assert_null(mem_init(&machine.mem, MIB(4), 0));
    map_guest_data();
    v->machine = &machine;
    machine.config.cpu_features = CPU_SHA;
    v->s.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP;
    v->s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    v->s.cr3 = 0x1000;
    v->s.efer = EFER_LME | EFER_LMA;
    v->s.xcr0 = 7;
    v->s.rflags = 2;
    for (unsigned i = 0; i < S_COUNT; i++)
        v->s.seg[i] = (struct seg){.limit = UINT32_MAX, .sel = 8, .attr = SEG_P | SEG_S | 3 | SEG_G};
    v->s.seg[S_CS].attr = SEG_P | SEG_S | SEG_CODE | 3 | SEG_L | SEG_G;
    assert_null(exec_attach(&machine));
    thunk_arena_destroy(cpu_of(v)->host_fp);
    struct thunk_arena *arena;
    assert_null(thunk_arena_create(arena_len, &arena));
    cpu_of(v)->host_fp = arena;
}

static void guest_deinit(void)
{
    exec_detach(&machine);
    mem_deinit(&machine.mem);
}

static void guest_load(const struct native *n)
{
    struct vcpu_state *s = &machine.vcpu.s;
    memcpy(s->r, n->r, sizeof(n->r));
    s->r[R_RIP] = CODE_BASE;
    s->r[R_ZERO] = 0;
    s->aflags = vcpu_rflags_to_aflags(n->rflags);
    memcpy(s->x87.st, n->xs.fx.st, sizeof(s->x87.st));
    s->x87.fcw = n->xs.fx.fcw;
    s->x87.fsw = n->xs.fx.fsw;
    s->x87.ftw = n->xs.fx.ftw;
    s->x87.fop = n->xs.fx.fop;
    s->x87.fip = n->xs.fx.fip;
    s->x87.fdp = n->xs.fx.fdp;
    s->mxcsr = n->xs.fx.mxcsr;
    for (unsigned i = 0; i < 16; i++) {
        memcpy(s->ymm[i], n->xs.fx.rest + 16 * i, 16);
        memcpy(s->ymm[i] + 16, n->xs.ymmh[i], 16);
    }
}

static void guest_store(struct native *n)
{
    const struct vcpu_state *s = &machine.vcpu.s;
    memcpy(n->r, s->r, sizeof(n->r));
    n->rflags = vcpu_aflags_to_rflags(s->aflags);
    memcpy(n->xs.fx.st, s->x87.st, sizeof(s->x87.st));
    n->xs.fx.fcw = s->x87.fcw;
    n->xs.fx.fsw = s->x87.fsw;
    n->xs.fx.ftw = s->x87.ftw;
    n->xs.fx.fop = s->x87.fop;
    n->xs.fx.fip = s->x87.fip;
    n->xs.fx.fdp = s->x87.fdp;
    n->xs.fx.mxcsr = s->mxcsr;
    for (unsigned i = 0; i < 16; i++) {
        memcpy(n->xs.fx.rest + 16 * i, s->ymm[i], 16);
        memcpy(n->xs.ymmh[i], s->ymm[i] + 16, 16);
    }
}

static void run_guest(struct native *n, const uint8_t *code, unsigned len)
{
    struct vcpu *v = &machine.vcpu;
    struct cpu *c = cpu_of(v);
    static struct insn in;
    guest_load(n);
    n->vector = -1;
    if (insn_decode(v, code, len, 0, &in) != len)
        n->vector = VEC_UD;
    c->bounce.active = false;
    c->first = c->cur = &in;
    if (n->vector < 0) {
        if (setjmp(c->unwind))
            n->vector = c->fault.vector;
        else
            in.fn(v, &in);
    }
    c->cur = NULL;
    guest_store(n);
}

/* ---- cases ---- */

static uint64_t rng;
static uint64_t rnd(void) /* xorshift64* */
{
    rng ^= rng >> 12;
    rng ^= rng << 25;
    rng ^= rng >> 27;
    return rng * UINT64_C(0x2545f4914f6cdd1d);
}
static bool one_in(unsigned n) { return rnd() % n == 0; }

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *s = getenv(name);
    return s ? strtoull(s, NULL, 0) : otherwise;
}

/* Vector contents that make floating point interesting. */
static void random_vector(uint8_t *p, size_t len)
{
    static const uint32_t f32[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 1,          0x807fffff,
                                   0x00800000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                                   0xffa00001, 0x4f000000, 0xcf000000, 0x33800000};
    static const uint64_t f64[] = {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff8000000000000, 1, 0x800fffffffffffff,
                                   0x0010000000000000, 0x7fefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000,
                                   0x7ff8000000000000, 0x7ff0000000000001, 0x41e0000000000000, 0xc3e0000000000000,
                                   0x3810000000000000, 0x380fffffe0000000};
    unsigned kind = (unsigned)(rnd() % 5);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t x = rnd();
        if (kind == 1)
            x = f32[rnd() % ARRAY_LEN(f32)] | (uint64_t)f32[rnd() % ARRAY_LEN(f32)] << 32;
        else if (kind == 2)
            x = f64[rnd() % ARRAY_LEN(f64)];
        else if (kind == 3)
            x &= UINT64_C(0x00ff010000ff01ff) & rnd();
        else if (kind == 4)
            x = (x & UINT64_C(0x807fffff807fffff)) | UINT64_C(0x3f0000003f000000);
        put_le64(p + i, x);
    }
}

static void random_st(uint8_t *p)
{
    static const uint16_t exponent[] = {0,      1,      0x3fff, 0x3ffe, 0x4000, 0x403e,
                                        0x7ffe, 0x7fff, 0xbfff, 0xffff, 0x8000, 0x3fbe};
    static const uint64_t mantissa[] = {0, 0x8000000000000000, 0xc000000000000000,
                                        1, 0x8000000000000001, 0xffffffffffffffff};
    memset(p, 0, 16);
    put_le64(p, one_in(2) ? rnd() | bit(63) : mantissa[rnd() % ARRAY_LEN(mantissa)]);
    put_le16(p + 8, one_in(2) ? (uint16_t)(0x3fff + rnd() % 80 - 40) : exponent[rnd() % ARRAY_LEN(exponent)]);
    if (one_in(8))
        put_le16(p + 8, (uint16_t)rnd());
}

static void random_x87(struct x87_image *f)
{
    struct x87 x = {.fop = 0x123, .fip = 0x1000, .fdp = 0x2000};
    uint16_t fcw = (uint16_t)(0x37f ^ (rnd() & 0x1c00)), fsw = (uint16_t)(rnd() & 0x7f00);
    if (one_in(3))
        fcw &= (uint16_t)~0x300 | (uint16_t)(rnd() & 0x300);
    if (one_in(4))
        fcw &= (uint16_t)~(rnd() & 0x3f);
    if (one_in(4))
        fsw |= (uint16_t)(rnd() & 0x7f);
    if (!one_in(8)) /* mostly without a pending exception */
        fsw &= (uint16_t)~(~fcw & FSW_EXC);
    x87_load_control(&x, fcw, fsw);
    f->fcw = x.fcw;
    f->fsw = x.fsw;
    f->ftw = (uint8_t)(one_in(3) ? rnd() : 0xff);
    f->fop = x.fop;
    f->fip = x.fip;
    f->fdp = x.fdp;
    for (unsigned i = 0; i < 8; i++)
        random_st(f->st[i]);
}

static void random_state(struct native *n)
{
    memset(n, 0, sizeof(*n));
    for (unsigned i = 0; i < 12; i++)
        n->r[i] = one_in(2) ? rnd() : rnd() & 0xff;
    n->rflags = 0x202 | (rnd() & FL_ARITH);
    random_x87(&n->xs.fx);
    n->xs.fx.mxcsr = (uint32_t)(MXCSR_INIT | (rnd() & 0x6000)); /* rounding */
    if (one_in(3))
        n->xs.fx.mxcsr |= (uint32_t)(rnd() & 0x8040); /* FTZ, DAZ */
    if (one_in(3))
        n->xs.fx.mxcsr |= (uint32_t)(rnd() & 0x3f);
    if (one_in(3))
        n->xs.fx.mxcsr &= ~(uint32_t)(rnd() & 0x1f80);
    for (unsigned i = 0; i < 16; i++) {
        random_vector(n->xs.fx.rest + 16 * i, 16);
        random_vector(n->xs.ymmh[i], 16);
    }
}

/* Where RDI points: mostly aligned, sometimes not, across pages, or into the hole. */
static uint64_t random_address(unsigned size)
{
    switch (rnd() % 8) {
    case 0: return DATA_BASE + 64 + rnd() % 63;
    case 1: return DATA_BASE + PAGE_SIZE - rnd() % (size + 1);
    case 2: return DATA_BASE + DATA_LEN - rnd() % (size + 1);
    default: return DATA_BASE + 256;
    }
}

static bool uses(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op, unsigned id_from)
{
    for (unsigned i = 0; i < zi->operand_count; i++) {
        if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegisterClass c = ZydisRegisterGetClass(op[i].reg.value);
        unsigned id = (unsigned)ZydisRegisterGetId(op[i].reg.value);
        if ((c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64) && (id >= id_from || id == 4))
            return true;
    }
    return false;
}

static bool is_gather(const ZydisDecodedInstruction *zi) { return zi->meta.isa_set == ZYDIS_ISA_SET_AVX2GATHER; }

static bool mine(const ZydisDecodedInstruction *zi)
{
    return (insn_info_of(zi)->attrs & (AT_FPU | AT_MMX | AT_SSE | AT_AVX)) && zi->meta.isa_set != ZYDIS_ISA_SET_VAES &&
           zi->meta.isa_set != ZYDIS_ISA_SET_VPCLMULQDQ && zi->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX;
}

struct bytes { uint8_t b[24]; unsigned len; };

static void show(const char *what, const struct native *n)
{
    const struct x87_image *f = &n->xs.fx;
    printf("%s: vector %d rflags %lx mxcsr %x fcw %x fsw %x ftw %x fop %x fip %lx fdp %lx\n", what, n->vector,
           n->rflags & FL_ARITH, f->mxcsr, f->fcw, f->fsw, f->ftw, f->fop, f->fip, f->fdp);
    for (unsigned i = 0; i < 12; i++)
        printf(" %lx", n->r[i]);
    printf("\n");
    for (unsigned i = 0; i < 8; i++)
        printf("  st%u %04x:%016lx\n", i, get_le16(f->st[i] + 8), get_le64(f->st[i]));
    for (unsigned i = 0; i < 16; i++)
        printf("  ymm%u %016lx%016lx%016lx%016lx\n", i, get_le64(n->xs.ymmh[i] + 8), get_le64(n->xs.ymmh[i]),
               get_le64(f->rest + 16 * i + 8), get_le64(f->rest + 16 * i));
}

static const char *difference(const struct native *a, const struct native *b)
{
    const struct x87_image *f = &a->xs.fx, *g = &b->xs.fx;
    if (a->vector != b->vector)
        return "vector";
    if (memcmp(a->r, b->r, 12 * 8))
        return "general registers";
    if ((a->rflags ^ b->rflags) & FL_ARITH)
        return "flags";
    if (f->fcw != g->fcw || f->fsw != g->fsw || f->ftw != g->ftw)
        return "x87 control";
    if (f->fop != g->fop || f->fip != g->fip || f->fdp != g->fdp)
        return "x87 pointers";
    if (memcmp(f->st, g->st, sizeof(f->st)))
        return "x87 registers";
    if (f->mxcsr != g->mxcsr)
        return "MXCSR";
    if (memcmp(f->rest, g->rest, 256) || memcmp(a->xs.ymmh, b->xs.ymmh, sizeof(a->xs.ymmh)))
        return "vector registers";
    if (memcmp((void *)(uintptr_t)DATA_BASE, machine.mem.host + GUEST_DATA, DATA_LEN))
        return "memory";
    return NULL;
}

static unsigned failures;

static void report(const struct bytes *code, const char *what, const struct native *before, const struct native *native,
                   const struct native *guest)
{
    ZydisDisassembledInstruction d;
    if (failures++ > 20)
        return;
    ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, 0, code->b, code->len, &d);
    printf("%s differ: %s (", what, d.text);
    for (unsigned i = 0; i < code->len; i++)
        printf("%02x", code->b[i]);
    printf(")\n");
    if (number("HW_FP_VERBOSE", 0)) {
        show("before", before);
        show("native", native);
        show("guest", guest);
    } else {
        printf("  native vector %d fsw %x ftw %x mxcsr %x; guest vector %d fsw %x ftw %x mxcsr %x\n", native->vector,
               native->xs.fx.fsw, native->xs.fx.ftw, native->xs.fx.mxcsr, guest->vector, guest->xs.fx.fsw,
               guest->xs.fx.ftw, guest->xs.fx.mxcsr);
    }
}

/* What a CPU has done of an instruction that faults is not always nothing: long x87 stores are done in parts, and the
 * transition to MMX may have happened. The guest's instructions are atomic. */
static bool partial_store(const ZydisDecodedInstruction *zi, const struct native *n)
{
    return n->vector == VEC_PF && (insn_info_of(zi)->attrs & AT_FPU);
}
static bool partial_transition(const ZydisDecodedInstruction *zi, const struct native *n)
{
    return n->vector == VEC_PF && (insn_info_of(zi)->attrs & AT_MMX);
}

/* Registers good as indices and as masks: small numbers, the hole behind the data, and sign bits. */
static void random_gather(struct native *n)
{
    for (unsigned i = 0; i < 32; i++) {
        uint8_t *half = i < 16 ? n->xs.fx.rest + 16 * i : n->xs.ymmh[i - 16];
        bool signs = one_in(2);
        for (unsigned j = 0; j < 4; j++) {
            uint64_t x = one_in(6) ? 0x4000 + rnd() % 0x1000 : rnd() % 512;
            if (signs && one_in(2))
                x |= bit(31);
            put_le32(half + 4 * j, (uint32_t)x);
        }
    }
}

static void one_case(const struct bytes *code, const ZydisDecodedInstruction *zi, unsigned size)
{
    struct native before, native, guest;
    random_state(&before);
    before.r[R_RDI] = random_address(size);
    if (is_gather(zi))
        random_gather(&before);
    uint8_t *data = machine.mem.host + GUEST_DATA;
    random_vector(data, DATA_LEN);
    memcpy((void *)(uintptr_t)DATA_BASE, data, DATA_LEN);

    guest = native = before;
    run_guest(&guest, code->b, code->len);
    run_native(&native, code->b, code->len);
    if (partial_transition(zi, &native)) {
        native.xs.fx.fsw = guest.xs.fx.fsw;
        native.xs.fx.ftw = guest.xs.fx.ftw;
        memcpy(native.xs.fx.st, guest.xs.fx.st, sizeof(guest.xs.fx.st));
    }
    if (partial_store(zi, &native))
        memcpy((void *)(uintptr_t)DATA_BASE, data, DATA_LEN);
    const char *what = difference(&native, &guest);
    if (what)
        report(code, what, &before, &native, &guest);
}

static unsigned forms;

/* Run the encoding if it is an instruction of insn_fp.def whose operands this test can provide. */
static void try_encoding(struct bytes *code, unsigned cases)
{
    ZydisDecoder d;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, code->b, sizeof(code->b) - 4, &zi, op)) || !mine(&zi) ||
        uses(&zi, op, 12))
        return;
    unsigned size = 0;
    for (unsigned i = 0; i < zi.operand_count; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            size = op[i].size / 8;
    code->len = zi.length;
    forms++;
    for (unsigned i = 0; i < cases; i++)
        one_case(code, &zi, size);
}

static void put_modrm(struct bytes *c, uint8_t modrm, bool vsib)
{
    if (modrm < 0xc0)
        modrm = (uint8_t)((modrm & 0x38) | (vsib ? 4 : 7)); /* [rdi], or [rdi + vector] */
    c->b[c->len++] = modrm;
    if (modrm < 0xc0 && vsib)
        c->b[c->len++] = (uint8_t)((rnd() & 0xf8 & ~UINT64_C(0xc0)) | 7);
    for (unsigned i = c->len; i < sizeof(c->b); i++)
        c->b[i] = (uint8_t)rnd();
}

static const uint8_t prefixes[4] = {0, 0x66, 0xf3, 0xf2};

static void legacy(unsigned map, unsigned pp, bool w, unsigned opcode, uint8_t modrm, unsigned cases)
{
    struct bytes c = {.len = 0};
    if (map == 1 && (opcode == 0x38 || opcode == 0x3a))
        return; /* leads to another map */
    if (pp)
        c.b[c.len++] = prefixes[pp];
    if (w || one_in(2))
        c.b[c.len++] = (uint8_t)(0x40 | w << 3 | (one_in(2) ? rnd() & 4 : 0) | (modrm >= 0xc0 ? rnd() & 1 : 0));
    c.b[c.len++] = 0x0f;
    if (map > 1)
        c.b[c.len++] = map == 2 ? 0x38 : 0x3a;
    c.b[c.len++] = (uint8_t)opcode;
    put_modrm(&c, modrm, false);
    try_encoding(&c, cases);
}

static void vex(unsigned map, unsigned pp, bool w, bool l, unsigned opcode, uint8_t modrm, bool vvvv, unsigned cases)
{
    struct bytes c = {.len = 0};
    bool gather = map == 2 && opcode >= 0x90 && opcode <= 0x93;
    c.b[c.len++] = 0xc4;
    c.b[c.len++] = (uint8_t)(0x40 | (rnd() & 0x80) | (modrm >= 0xc0 ? rnd() & 0x20 : 0x20) | map);
    c.b[c.len++] = (uint8_t)(w << 7 | (vvvv ? rnd() & 15 : 15) << 3 | l << 2 | pp);
    c.b[c.len++] = (uint8_t)opcode;
    put_modrm(&c, modrm, gather);
    try_encoding(&c, cases);
}

static void x87(unsigned opcode, uint8_t modrm, bool narrow, unsigned cases)
{
    struct bytes c = {.len = 0};
    if (narrow)
        c.b[c.len++] = 0x66;
    c.b[c.len++] = (uint8_t)opcode;
    put_modrm(&c, modrm, false);
    try_encoding(&c, cases);
}

static void sweep(unsigned cases)
{
    for (unsigned opcode = 0; opcode < 256; opcode++)
        for (unsigned v = 0; v < 3 * 4 * 2 * 16; v++) {
            unsigned map = v % 3 + 1, pp = v / 3 % 4, w = v / 12 % 2, reg = v / 24 % 8;
            uint8_t modrm = (uint8_t)((v / 192 ? 0xc0 | (rnd() & 7) : 0) | reg << 3);
            legacy(map, pp, w, opcode, modrm, cases);
            for (unsigned l = 0; l < 4; l++)
                vex(map, pp, w, l & 1, opcode, modrm, l >> 1, cases);
        }
    for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++)
        for (unsigned modrm = 0; modrm < 256; modrm++)
            if (modrm >= 0xc0 || !(modrm & 7))
                for (unsigned narrow = 0; narrow < 2; narrow++)
                    x87(opcode, (uint8_t)modrm, narrow, cases * 4);
    struct bytes wait = {.b = {0x9b}};
    try_encoding(&wait, cases * 8);
}

static void test_against_host(void **state)
{
    (void)state;
    uint64_t seed = number("HW_FP_SEED", 1);
    rng = seed * 2 + 1;
    failures = forms = 0;
    guest_init(THUNK_ARENA_LEN);
    sweep((unsigned)number("HW_FP_CASES", 3));
    guest_deinit();
    printf("seed %lu: %u encodings, %u differences\n", seed, forms, failures);
    assert_true(forms > 4000);
    assert_int_equal(failures, 0);
}

/* An arena that holds a few dozen thunks is emptied all the time, also between decoding and execution. */
static void test_small_arena(void **state)
{
    (void)state;
    rng = 77;
    failures = 0;
    guest_init(THUNK_ARENA_MIN);
    sweep(1);
    assert_true(thunk_arena_resets(cpu_of(&machine.vcpu)->host_fp) > 10);
    guest_deinit();
    assert_int_equal(failures, 0);
}

static const uint8_t addps[] = {0x0f, 0x58, 0xc1}, fld1[] = {0xd9, 0xe8};

static void test_forgotten_thunk(void **state)
{
    (void)state;
    struct vcpu *v = &machine.vcpu;
    struct insn in;
    guest_init(THUNK_ARENA_MIN);
    assert_int_equal(insn_decode(v, addps, sizeof(addps), 0, &in), sizeof(addps));
    union thunk_key k = {.bits = in.imm};
    for (unsigned i = 0; thunk_arena_resets(cpu_of(v)->host_fp) < 3; i++) {
        k.imm = i & 0xff;
        k.opcode = i >> 8;
        k.has_imm = 1;
        thunk_find(cpu_of(v)->host_fp, k);
    }
    static const float one[4] = {1, 2, 3, 4};
    memcpy(v->s.ymm[0], one, 16);
    memcpy(v->s.ymm[1], one, 16);
    v->s.mxcsr = MXCSR_INIT;
    in.fn(v, &in);
    float sum[4];
    memcpy(sum, v->s.ymm[0], 16);
    assert_true(sum[3] == 8);
    guest_deinit();
}

static void expect_vector(const uint8_t *code, unsigned len, int vector)
{
    struct native n;
    rng = 5;
    random_state(&n);
    n.xs.fx.fsw = 0;
    n.xs.fx.mxcsr = MXCSR_INIT;
    n.r[R_RDI] = DATA_BASE;
    run_guest(&n, code, len);
    assert_int_equal(n.vector, vector);
}

static void test_availability(void **state)
{
    (void)state;
    static const uint8_t vaddps[] = {0xc5, 0xf0, 0x58, 0xc2}, pxor[] = {0x0f, 0xef, 0xc1}, fwait[] = {0x9b};
    static const uint8_t vaesenc256[] = {0xc4, 0xe2, 0x75, 0xdc, 0xc2}, evex[] = {0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1};
    struct vcpu_state *s = &machine.vcpu.s;
    guest_init(THUNK_ARENA_MIN);
    uint64_t cr0 = s->cr0, cr4 = s->cr4;
    expect_vector(vaesenc256, sizeof(vaesenc256), VEC_UD);
    expect_vector(evex, sizeof(evex), VEC_UD);
    s->cr0 = cr0 | CR0_TS;
    expect_vector(addps, sizeof(addps), VEC_NM);
    expect_vector(vaddps, sizeof(vaddps), VEC_NM);
    expect_vector(pxor, sizeof(pxor), VEC_NM);
    expect_vector(fld1, sizeof(fld1), VEC_NM);
    expect_vector(fwait, sizeof(fwait), -1);
    s->cr0 = cr0 | CR0_TS | CR0_MP;
    expect_vector(fwait, sizeof(fwait), VEC_NM);
    s->cr0 = cr0 | CR0_EM;
    expect_vector(addps, sizeof(addps), VEC_UD);
    expect_vector(pxor, sizeof(pxor), VEC_UD);
    expect_vector(fld1, sizeof(fld1), VEC_NM);
    expect_vector(vaddps, sizeof(vaddps), -1);
    s->cr0 = cr0;
    s->cr4 = cr4 & ~(uint64_t)CR4_OSFXSR;
    expect_vector(addps, sizeof(addps), VEC_UD);
    s->cr4 = cr4 & ~(uint64_t)CR4_OSXSAVE;
    expect_vector(vaddps, sizeof(vaddps), VEC_UD);
    s->cr4 = cr4;
    s->xcr0 = 3;
    expect_vector(vaddps, sizeof(vaddps), VEC_UD);
    guest_deinit();
}

/* Without CR4.OSXMMEXCPT an unmasked SIMD exception is #UD; MXCSR's flag is set either way. */
static void test_simd_exception(void **state)
{
    (void)state;
    static const uint8_t sqrtps[] = {0x0f, 0x51, 0xc1};
    struct vcpu *v = &machine.vcpu;
    guest_init(THUNK_ARENA_MIN);
    for (unsigned i = 0; i < 2; i++) {
        struct native n;
        memset(&n, 0, sizeof(n));
        n.xs.fx.mxcsr = 0x1f00; /* invalid unmasked */
        memset(n.xs.fx.rest + 16, 0xbf, 16);
        if (i)
            v->s.cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
        run_guest(&n, sqrtps, sizeof(sqrtps));
        assert_int_equal(n.vector, i ? VEC_UD : VEC_XM);
        assert_int_equal(n.xs.fx.mxcsr, 0x1f01);
        assert_int_equal(n.xs.fx.rest[0], 0);
    }
    guest_deinit();
}

/* FNSTENV outside protected mode, 32 and 16 bits: SDM vol. 1, figures 8-10 and 8-12. FLDENV takes it back. */
static void test_real_mode_environment(void **state)
{
    (void)state;
    static const uint8_t fnstenv[] = {0xd9, 0x37}, fnstenv16[] = {0x66, 0xd9, 0x37};
    static const uint8_t fldenv[] = {0xd9, 0x27}, fldenv16[] = {0x66, 0xd9, 0x27};
    static const uint32_t env32[7] = {0xffff037f, 0xffff1800, 0xffffffff, 0xffff4321,
                                      0x000055a5, 0xffff8765, 0x00009000};
    static const uint16_t env16[7] = {0x037f, 0x1800, 0xffff, 0x4321, 0x55a5, 0x8765, 0x9000};
    guest_init(THUNK_ARENA_MIN);
    const uint8_t *data = machine.mem.host + GUEST_DATA;
    machine.vcpu.s.cr0 &= ~(uint64_t)CR0_PE;
    for (unsigned narrow = 0; narrow < 2; narrow++) {
        struct native n, m;
        memset(&n, 0, sizeof(n));
        n.r[R_RDI] = DATA_BASE;
        n.xs.fx.fcw = FCW_INIT;
        n.xs.fx.fsw = 0x1800;
        n.xs.fx.fop = 0x5a5;
        n.xs.fx.fip = 0x54321;
        n.xs.fx.fdp = 0x98765;
        m = n;
        run_guest(&n, narrow ? fnstenv16 : fnstenv, narrow ? 3 : 2);
        assert_int_equal(n.vector, -1);
        assert_memory_equal(data, narrow ? (const void *)env16 : env32, narrow ? sizeof(env16) : sizeof(env32));
        m.xs.fx.fsw = m.xs.fx.fop = 0;
        m.xs.fx.fip = m.xs.fx.fdp = 0;
        run_guest(&m, narrow ? fldenv16 : fldenv, narrow ? 3 : 2);
        assert_int_equal(m.xs.fx.fsw, 0x1800);
        assert_int_equal(m.xs.fx.fop, 0x5a5);
        assert_int_equal(m.xs.fx.fip, 0x54321);
        assert_int_equal(m.xs.fx.fdp, 0x98765);
    }
    guest_deinit();
}

static volatile int foreign_faults;
static sigjmp_buf foreign_exit;
static void on_foreign(int sig)
{
    foreign_faults += sig == SIGFPE;
    siglongjmp(foreign_exit, 1);
}

/* Signals that are not ours reach whoever handled them before. */
static void test_foreign_signal(void **state)
{
    (void)state;
    signal(SIGFPE, on_foreign);
    guest_init(THUNK_ARENA_MIN);
    if (!sigsetjmp(foreign_exit, 1))
        __asm__ volatile("divl %0" : : "r"(0), "a"(1), "d"(0) : "cc");
    assert_int_equal(foreign_faults, 1);
    guest_deinit();
}

static void test_host_class(void **state)
{
    (void)state;
    struct host_class a, b;
    host_class_probe(&a);
    host_class_probe(&b);
    assert_true(a.count > 0);
    assert_int_equal(a.count, b.count);
    for (unsigned i = 0; i < a.count; i++) {
        assert_string_equal(a.fact[i].name, b.fact[i].name);
        assert_int_equal(a.fact[i].value, b.fact[i].value);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(a.fact[i].name, a.fact[j].name);
    }
    assert_null(host_class_compare(&a, &b));
    b.fact[b.count - 1].value ^= 1;
    assert_string_equal(host_class_compare(&a, &b), b.fact[b.count - 1].name);
}

static int setup(void **state)
{
    (void)state;
    int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *data = mmap((void *)(uintptr_t)DATA_BASE, DATA_LEN, prot, flags, -1, 0);
    void *code = mmap((void *)(uintptr_t)CODE_BASE, PAGE_SIZE, prot | PROT_EXEC, flags, -1, 0);
    return data == MAP_FAILED || code == MAP_FAILED;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_host),    cmocka_unit_test(test_small_arena),
        cmocka_unit_test(test_forgotten_thunk), cmocka_unit_test(test_availability),
        cmocka_unit_test(test_simd_exception),  cmocka_unit_test(test_foreign_signal),
        cmocka_unit_test(test_host_class),      cmocka_unit_test(test_real_mode_environment),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
