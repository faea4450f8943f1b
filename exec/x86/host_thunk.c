/* exec/x86/host_thunk.c: generating thunks, finding them again, and catching what they raise. See host_thunk.h.
 *
 * Registers in a thunk: RDI RSI RDX RCX point to the operands, R8 to the vCPU state; RSP never moves, so that a fault
 * anywhere can leave by a plain RET. Vector operand i is renamed to xmm1+i (xmm0 stays free for the instructions that
 * use it implicitly), MMX operand i to mm(i), the one general register an instruction may have to RAX, and memory
 * operand i to [pointer i]. Every register operand is loaded, written ones too: legacy SSE merges into them. */
#include "exec/x86/host_thunk.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>

#include <cpuid.h>

#include "core/base/map.h"
#include "exec/x86/fpu.h"

enum {
    THUNK_MAX_LEN = 192,   /* of one thunk's code; the longest form needs about 120 */
    TABLE_BITS = 13, TABLE_SIZE = 1 << TABLE_BITS, TABLE_FULL = TABLE_SIZE / 4 * 3,
    MAX_ARENAS = 64,
};

struct thunk_arena {
    struct thunk table[TABLE_SIZE]; /* open addressing by key */
    unsigned used;
    struct code_map code;
    size_t fill;         /* bytes */
    size_t prologue_len; /* the header below, which a reset keeps */
    uint32_t default_mxcsr; /* offset of the host's MXCSR in the header */
    uint32_t fpe_exit, illegal_exit; /* offsets */
    uint64_t resets;
};

/* ---- emitting ---- */

struct emit {
    uint8_t *p;        /* writable view */
    const struct thunk_arena *a;
};

static void put8(struct emit *e, unsigned b) { *e->p++ = (uint8_t)b; }

static void put32(struct emit *e, uint32_t x)
{
    put_le32(e->p, x);
    e->p += 4;
}

static void put_bytes(struct emit *e, const void *bytes, size_t len)
{
    memcpy(e->p, bytes, len);
    e->p += len;
}
#define PUT(e, ...) put_bytes(e, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

enum { OFF_MXCSR = offsetof(struct vcpu_state, mxcsr), OFF_AFLAGS = offsetof(struct vcpu_state, aflags) };
#define OFF_YMM0 offsetof(struct vcpu_state, ymm)
#define OFF_GPR(n) (offsetof(struct vcpu_state, r) + (n) * 8u)

/* The low bits of ModRM for [r8 + disp32]. */
enum { RM_R8_DISP32 = 0x80 };

static const uint8_t pointer_reg[4] = {7, 6, 2, 1}; /* RDI RSI RDX RCX */

struct slot { enum thunk_slot_kind kind; enum thunk_slot_field field; bool written; };

static struct slot key_slot(union thunk_key k, unsigned i)
{
    unsigned bits6 = (unsigned)(k.slots >> 6 * i & 63);
    return (struct slot){bits6 & 7, bits6 >> 3 & 3, bits6 >> 5};
}

static unsigned slot_reg(struct slot s, unsigned i)
{
    switch (s.kind) {
    case SLOT_VEC: return 1 + i;
    case SLOT_MM: return i;
    case SLOT_MEM: return pointer_reg[i];
    default: return 0; /* RAX */
    }
}

/* Move register operand i between its register and [pointer i]. */
static void emit_move(struct emit *e, union thunk_key k, unsigned i, bool store)
{
    struct slot s = key_slot(k, i);
    unsigned modrm = slot_reg(s, i) << 3 | pointer_reg[i];
    switch (s.kind) {
    case SLOT_VEC:
        if (k.kind == THUNK_VEX)
            PUT(e, 0xc5, 0xfc); /* vmovups ymm */
        else
            PUT(e, 0x0f);       /* movups */
        PUT(e, store ? 0x11 : 0x10, modrm);
        break;
    case SLOT_GPR: /* a 32-bit result was zero-extended by the instruction */
        PUT(e, 0x48, store ? 0x89 : 0x8b, modrm);
        break;
    case SLOT_MM:
        PUT(e, 0x0f, store ? 0x7f : 0x6f, modrm);
        if (store) /* mov word [pointer + 8], 0xffff: sign and exponent, rule (7) of fpu.h */
            PUT(e, 0x66, 0xc7, 0x40 | pointer_reg[i], 8, 0xff, 0xff);
        break;
    default:
        break;
    }
}

/* The same for the implicit XMM0 and the state's ymm[0]. */
static void emit_move_xmm0(struct emit *e, union thunk_key k, bool store)
{
    if (k.kind == THUNK_VEX)
        PUT(e, 0xc4, 0xc1, 0x7c); /* vmovups ymm, VEX.B for R8 */
    else
        PUT(e, 0x41, 0x0f);
    PUT(e, store ? 0x11 : 0x10, RM_R8_DISP32);
    put32(e, OFF_YMM0);
}

/* mov between a GPR below R8 and the state: opcode 8B loads, 89 stores. */
static void emit_move_gpr(struct emit *e, unsigned opcode, unsigned gpr)
{
    PUT(e, 0x49, opcode, RM_R8_DISP32 | gpr << 3);
    put32(e, (uint32_t)OFF_GPR(gpr));
}

static void emit_guest_mxcsr(struct emit *e, unsigned op) /* op: 2 LDMXCSR, 3 STMXCSR */
{
    PUT(e, 0x41, 0x0f, 0xae, RM_R8_DISP32 | op << 3);
    put32(e, OFF_MXCSR);
}

static void emit_host_mxcsr(struct emit *e) /* ldmxcsr [rip + default] */
{
    PUT(e, 0x0f, 0xae, 0x15);
    put32(e, e->a->default_mxcsr - (uint32_t)(e->p + 4 - e->a->code.rw));
}

/* EFLAGS to the state: lahf; seto al; mov [r8 + aflags], ax. Destroys RAX. */
static void emit_flags_out(struct emit *e)
{
    PUT(e, 0x9f, 0x0f, 0x90, 0xc0, 0x66, 0x41, 0x89, RM_R8_DISP32);
    put32(e, OFF_AFLAGS);
}

/* And back: mov ax, [r8 + aflags]; add al, 0x7f (OF from bit 0); sahf. */
static void emit_flags_in(struct emit *e)
{
    PUT(e, 0x66, 0x41, 0x8b, RM_R8_DISP32);
    put32(e, OFF_AFLAGS);
    PUT(e, 0x04, 0x7f, 0x9e);
}

static void emit_return(struct emit *e, uint32_t status)
{
    put8(e, 0xb8); /* mov eax, status */
    put32(e, status);
    put8(e, 0xc3);
}

/* The instruction itself, with its operands in the registers of slot_reg(). */
static void emit_instruction(struct emit *e, union thunk_key k)
{
    static const uint8_t prefix[4] = {0, 0x66, 0xf3, 0xf2};
    unsigned reg = k.ext, rm = 0, vvvv = 0, imm = (unsigned)k.imm;
    bool has_imm = k.has_imm;
    for (unsigned i = 0; i < 4; i++) {
        struct slot s = key_slot(k, i);
        unsigned r = slot_reg(s, i);
        if (s.kind == SLOT_NONE)
            continue;
        switch (s.field) {
        case FIELD_REG: reg = r; break;
        case FIELD_RM: rm = s.kind == SLOT_MEM ? r : 0xc0 | r; break;
        case FIELD_VVVV: vvvv = r; break;
        case FIELD_IS4: imm = r << 4; has_imm = true; break;
        }
    }
    if (k.kind == THUNK_VEX) {
        PUT(e, 0xc4, 0xe0 | k.map, k.w << 7 | (~vvvv & 15) << 3 | k.l << 2 | k.pp);
    } else {
        if (k.pp)
            put8(e, prefix[k.pp]);
        if (k.w)
            put8(e, 0x48);
        put8(e, 0x0f);
        if (k.map > 1)
            put8(e, k.map == 2 ? 0x38 : 0x3a);
    }
    PUT(e, k.opcode, rm | reg << 3);
    if (has_imm)
        put8(e, imm);
}

static bool key_has(union thunk_key k, enum thunk_slot_kind kind)
{
    for (unsigned i = 0; i < 4; i++)
        if (key_slot(k, i).kind == kind)
            return true;
    return false;
}

static void emit_vector(struct emit *e, union thunk_key k)
{
    if (k.mxcsr)
        emit_guest_mxcsr(e, 2);
    for (unsigned i = 0; i < 4; i++)
        emit_move(e, k, i, false);
    if (k.xmm0_in || k.xmm0_out)
        emit_move_xmm0(e, k, false);
    if (k.str_in) {
        emit_move_gpr(e, 0x8b, R_RAX);
        emit_move_gpr(e, 0x8b, R_RDX);
    }

    emit_instruction(e, k);

    for (unsigned i = 0; i < 4; i++)
        if (key_slot(k, i).written)
            emit_move(e, k, i, true);
    if (k.xmm0_out)
        emit_move_xmm0(e, k, true);
    if (k.rcx_out)
        emit_move_gpr(e, 0x89, R_RCX);
    if (k.flags)
        emit_flags_out(e);
    if (k.mxcsr) {
        emit_guest_mxcsr(e, 3);
        emit_host_mxcsr(e);
    }
    if (key_has(k, SLOT_MM))
        PUT(e, 0x0f, 0x77); /* emms: the host's x87 stack is empty again */
    if (k.kind == THUNK_VEX)
        PUT(e, 0xc5, 0xf8, 0x77); /* vzeroupper */
    emit_return(e, THUNK_OK);
}

/* Operand 0 is the image, operand 1 the memory operand. An unmasked exception only sets FSW.ES: FXSAVE and FNINIT do
 * not wait, so no signal comes. */
static void emit_x87(struct emit *e, union thunk_key k)
{
    PUT(e, 0x48, 0x0f, 0xae, 0x0f); /* fxrstor64 [rdi] */
    if (k.flags)
        emit_flags_in(e);
    if (key_slot(k, 1).kind == SLOT_MEM)
        PUT(e, k.opcode, k.ext << 3 | pointer_reg[1]);
    else
        PUT(e, k.opcode, k.imm);
    if (k.flags)
        emit_flags_out(e);
    PUT(e, 0x48, 0x0f, 0xae, 0x07, /* fxsave64 [rdi] */
        0xdb, 0xe3);               /* fninit: the host's control word, an empty stack */
    emit_return(e, THUNK_OK);
}

/* What the signal handler diverts to: undo everything a thunk may have changed of the host's state. */
static uint32_t emit_exit(struct emit *e, enum thunk_status status)
{
    uint32_t off = (uint32_t)(e->p - e->a->code.rw);
    if (status == THUNK_FPE)
        emit_guest_mxcsr(e, 3);
    emit_host_mxcsr(e);
    PUT(e, 0xdb, 0xe3, 0xc5, 0xf8, 0x77); /* fninit, which does not wait: EMMS would fault again on a pending #MF; vzeroupper */
    emit_return(e, status);
    return off;
}

static void emit_header(struct thunk_arena *a)
{
    struct emit e = {a->code.rw, a};
    a->default_mxcsr = 0;
    put32(&e, MXCSR_INIT);
    a->fpe_exit = emit_exit(&e, THUNK_FPE);
    a->illegal_exit = emit_exit(&e, THUNK_ILLEGAL);
    a->prologue_len = align_up((uint64_t)(e.p - a->code.rw), 16);
    a->fill = a->prologue_len;
}

static thunk_fn *generate(struct thunk_arena *a, union thunk_key key)
{
    struct emit e = {a->code.rw + a->fill, a};
    uintptr_t code = (uintptr_t)a->code.rx + a->fill;
    if (key.kind == THUNK_X87)
        emit_x87(&e, key);
    else
        emit_vector(&e, key);
    a->fill = align_up((uint64_t)(e.p - a->code.rw), 16);
    if (a->resets) {
        /* These bytes may have been executed before and were written through another address: serialise
         * (SDM vol. 3, 9.1.3). */
        unsigned eax, ebx, ecx, edx;
        __cpuid(0, eax, ebx, ecx, edx);
    }
    return (thunk_fn *)code;
}

/* ---- the table ---- */

static void reset(struct thunk_arena *a)
{
    memset(a->table, 0, sizeof(a->table));
    a->used = 0;
    a->fill = a->prologue_len;
    a->resets++;
}

const struct thunk *thunk_find(struct thunk_arena *a, union thunk_key key)
{
    uint64_t h = key.bits * UINT64_C(0x9e3779b97f4a7c15) >> (64 - TABLE_BITS);
    while (a->table[h].key.bits && a->table[h].key.bits != key.bits)
        h = (h + 1) & (TABLE_SIZE - 1);
    struct thunk *t = &a->table[h];
    if (t->key.bits == key.bits)
        return t;
    if (a->used == TABLE_FULL || a->code.len - a->fill < THUNK_MAX_LEN) {
        reset(a);
        return thunk_find(a, key);
    }
    *t = (struct thunk){key, generate(a, key)};
    a->used++;
    return t;
}

uint64_t thunk_arena_resets(const struct thunk_arena *a) { return a->resets; }

/* ---- signals ---- */

/* Read by the signal handler, so entries change by single atomic stores. */
static _Atomic(struct thunk_arena *) arenas[MAX_ARENAS];
static struct sigaction old_fpe, old_ill;

static struct thunk_arena *arena_of(uintptr_t pc)
{
    for (unsigned i = 0; i < MAX_ARENAS; i++) {
        struct thunk_arena *a = atomic_load_explicit(&arenas[i], memory_order_acquire);
        if (a && pc - (uintptr_t)a->code.rx < a->code.len)
            return a;
    }
    return NULL;
}

/* Not ours: as if we had never been here. A default action is restored and taken when the instruction faults again. */
static void chain(const struct sigaction *old, int sig, siginfo_t *info, void *ctx)
{
    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, info, ctx);
    else if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN)
        sigaction(sig, old, NULL);
    else
        old->sa_handler(sig);
}

/* The kernel saved the thunk's registers and MXCSR in the context; the exit finds them as the fault left them. */
static void on_fault(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;
    greg_t *rip = &uc->uc_mcontext.gregs[REG_RIP];
    struct thunk_arena *a = arena_of((uintptr_t)*rip);
    if (a)
        *rip = (greg_t)((uintptr_t)a->code.rx + (sig == SIGFPE ? a->fpe_exit : a->illegal_exit));
    else
        chain(sig == SIGFPE ? &old_fpe : &old_ill, sig, info, ctx);
}

/* Unless it is ours already: a test harness, for one, takes the handlers back between two machines. */
static bool install_handler(int sig, struct sigaction *old)
{
    struct sigaction now, ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(sig, NULL, &now))
        return false;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault)
        return true;
    *old = now;
    sigemptyset(&ours.sa_mask);
    return sigaction(sig, &ours, NULL) == 0;
}

static struct err *install_handlers(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    bool ok = install_handler(SIGFPE, &old_fpe) && install_handler(SIGILL, &old_ill);
    pthread_mutex_unlock(&lock);
    return ok ? NULL : err_errno(ERR_HOST, errno, "installing the floating-point exception handler");
}

static bool register_arena(struct thunk_arena *a)
{
    for (unsigned i = 0; i < MAX_ARENAS; i++) {
        struct thunk_arena *none = NULL;
        if (atomic_compare_exchange_strong(&arenas[i], &none, a))
            return true;
    }
    return false;
}

static void unregister_arena(struct thunk_arena *a)
{
    for (unsigned i = 0; i < MAX_ARENAS; i++) {
        struct thunk_arena *self = a;
        atomic_compare_exchange_strong(&arenas[i], &self, NULL);
    }
}

/* ---- life ---- */

struct err *thunk_arena_create(size_t len, struct thunk_arena **out)
{
    struct thunk_arena *a = calloc(1, sizeof(*a));
    if (!a)
        return err_new(ERR_HOST, "out of memory");
    struct err *e = code_map_init(&a->code, 0, len);
    if (!e)
        e = install_handlers();
    if (!e) {
        emit_header(a);
        if (!register_arena(a))
            e = err_new(ERR_HOST, "more than %d machines in one process", MAX_ARENAS);
    }
    if (e) {
        thunk_arena_destroy(a);
        return e;
    }
    *out = a;
    return NULL;
}

void thunk_arena_destroy(struct thunk_arena *a)
{
    if (!a)
        return;
    unregister_arena(a);
    code_map_deinit(&a->code);
    free(a);
}
