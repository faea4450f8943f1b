/* exec/dbt/arena.c: code memory and the thunks through which translated code is entered and left. See dbt.h.
 *
 * Code memory is a code_map with the hot page as its lead. */
#include "exec/dbt/dbt.h"

static const uint8_t pinned[][2] = { /* guest register, host register */
    {R_RAX, H_RAX}, {R_RCX, H_RCX}, {R_RDX, H_RDX}, {R_RBX, H_RBX}, {R_RSP, H_R14}, {R_RBP, H_RBP}, {R_RSI, H_RSI},
    {R_RDI, H_RDI}, {R_R8, H_R8},   {R_R9, H_R9},   {R_R12, H_R12}, {R_R13, H_R13},
};
static const uint8_t spilled[SPILL_COUNT] = {R_R10, R_R11, R_R14, R_R15};

/* ---- pieces ---- */

/* Guest registers to vcpu_state; r10 is lost. */
static void store_guest(struct emit *e)
{
    emit_load(e, H_R10, HOT(regs));
    for (unsigned i = 0; i < ARRAY_LEN(pinned); i++)
        emit_store(e, hm_base(H_R10, 8 * pinned[i][0]), pinned[i][1]);
    for (unsigned i = 0; i < SPILL_COUNT; i++) {
        emit_load(e, H_RAX, HOT_AT(spill, i));
        emit_store(e, hm_base(H_R10, 8 * spilled[i]), H_RAX);
    }
    emit_store(e, HOT(budget), H_R15);
}

static void load_guest(struct emit *e)
{
    emit_load(e, H_R10, HOT(regs));
    for (unsigned i = 0; i < SPILL_COUNT; i++) {
        emit_load(e, H_RAX, hm_base(H_R10, 8 * spilled[i]));
        emit_store(e, HOT_AT(spill, i), H_RAX);
    }
    for (unsigned i = 0; i < ARRAY_LEN(pinned); i++)
        emit_load(e, pinned[i][1], hm_base(H_R10, 8 * pinned[i][0]));
    emit_load(e, H_R15, HOT(budget));
}

/* VMOVDQU xmm/ymm; load: from memory. */
static void vmovdqu(struct emit *e, unsigned reg, struct host_mem m, bool load, bool wide)
{
    struct host_insn in = {.vex = true, .pp = 2, .map = 1, .l = wide, .opcode = load ? 0x6f : 0x7f, .modrm = true,
                           .reg = (uint8_t)reg, .is_mem = true, .mem = m};
    emit_insn(e, &in);
}

static void mxcsr(struct emit *e, struct host_mem m, bool load)
{
    struct host_insn in = {.map = 1, .opcode = 0xae, .modrm = true, .reg = load ? 2 : 3, .is_mem = true, .mem = m};
    emit_insn(e, &in);
}

enum { MXCSR_FROM_VEC = (int)offsetof(struct vcpu_state, mxcsr) - (int)offsetof(struct vcpu_state, ymm) };

/* If they are live: vector registers to vcpu_state; the host's own environment after that. r10 is lost. */
static void store_vec(struct emit *e)
{
    emit_cmp8_mi(e, HOT(vec_live), 0);
    uint32_t none = emit_jcc_fwd(e, HC_Z);
    emit_load(e, H_R10, HOT(vec));
    for (unsigned i = 0; i < 16; i++)
        vmovdqu(e, i, hm_base(H_R10, 32 * (int)i), false, true);
    mxcsr(e, hm_base(H_R10, MXCSR_FROM_VEC), false);
    mxcsr(e, HOT(host_mxcsr), true);
    emit_u8(e, 0xc5), emit_u8(e, 0xf8), emit_u8(e, 0x77); /* vzeroupper */
    emit_store_imm8(e, HOT(vec_live), 0);
    emit_patch(e, none, e->pos);
}

/* With clean upper halves the registers are loaded as 128-bit ones, or the host would think the halves in use, which
 * slows legacy SSE instructions down. */
static void load_vec(struct emit *e)
{
    emit_load(e, H_R10, HOT(vec));
    vmovdqu(e, 0, hm_base(H_R10, 16), true, false);
    for (unsigned i = 1; i < 16; i++) { /* vpor xmm0, xmm0, [upper half i] */
        struct host_insn in = {.vex = true, .pp = 1, .map = 1, .opcode = 0xeb, .modrm = true, .is_mem = true,
                               .mem = hm_base(H_R10, 32 * (int)i + 16)};
        emit_insn(e, &in);
    }
    struct host_insn vptest = {.vex = true, .pp = 1, .map = 2, .opcode = 0x17, .modrm = true};
    emit_insn(e, &vptest);
    uint32_t wide = emit_jcc_fwd(e, HC_NZ);
    for (unsigned i = 0; i < 16; i++)
        vmovdqu(e, i, hm_base(H_R10, 32 * (int)i), true, false);
    uint32_t done = emit_jmp_fwd(e);
    emit_patch(e, wide, e->pos);
    for (unsigned i = 0; i < 16; i++)
        vmovdqu(e, i, hm_base(H_R10, 32 * (int)i), true, true);
    emit_patch(e, done, e->pos);
    mxcsr(e, hm_base(H_R10, MXCSR_FROM_VEC), true);
    emit_store_imm8(e, HOT(vec_live), 1);
}

/* XSAVE (4) and XRSTOR (5) of hot.x87_image; rax and rdx are lost. With a mask of the x87 unit alone they leave vector
 * registers and MXCSR as they are. */
static void xsave_x87(struct emit *e, unsigned ext)
{
    struct host_insn in = {.map = 1, .opcode = 0xae, .modrm = true, .reg = (uint8_t)ext, .is_mem = true,
                           .mem = HOT(x87_image), .w = true};
    emit_mov_ri(e, H_RAX, 1);
    emit_mov_ri(e, H_RDX, 0);
    emit_insn(e, &in);
}

/* The first 8 bytes of an XSAVE image: FCW FSW FTW FOP, and as many behind st[] in struct x87. */
enum { X87_CONTROL = offsetof(struct x87, fcw), IMAGE_ST = 32, AFTER_FCW = 2 };
_Static_assert(offsetof(struct x87, fop) == X87_CONTROL + 6 && offsetof(struct x87, st) == 0,
               "copied as FXSAVE has them");

static struct host_mem x87_image(unsigned at)
{
    return hm_rip((int32_t)offsetof(struct hot, x87_image) - HOT_LEN + (int32_t)at);
}

/* If it is live: the x87 state to vcpu_state; the host's own state after that. rax, rdx and r10 are lost. FCW is in
 * vcpu_state already. */
static void store_x87(struct emit *e)
{
    emit_cmp8_mi(e, HOT(x87_live), 0);
    uint32_t none = emit_jcc_fwd(e, HC_Z);
    xsave_x87(e, 4);
    emit_u8(e, 0xdb), emit_u8(e, 0xe3); /* fninit */
    emit_load(e, H_R10, HOT(x87));
    for (unsigned i = 0; i < sizeof((struct x87){0}.st); i += 8) {
        emit_load(e, H_RAX, x87_image(IMAGE_ST + i));
        emit_store(e, hm_base(H_R10, (int32_t)i), H_RAX);
    }
    struct host_insn store32 = {.opcode = 0x89, .modrm = true, .reg = H_RAX, .is_mem = true,
                                .mem = hm_base(H_R10, X87_CONTROL + AFTER_FCW)};
    emit_load32(e, H_RAX, x87_image(AFTER_FCW)); /* FSW, FTW and a byte of zeros */
    emit_insn(e, &store32);
    emit_load(e, H_RAX, HOT(x87_fip));
    emit_store(e, hm_base(H_R10, offsetof(struct x87, fip)), H_RAX);
    emit_store_imm8(e, HOT(x87_live), 0);
    emit_patch(e, none, e->pos);
}

/* rax, rdx and r10 are lost. */
static void load_x87(struct emit *e)
{
    emit_load(e, H_R10, HOT(x87));
    for (unsigned i = 0; i < sizeof((struct x87){0}.st); i += 8) {
        emit_load(e, H_RAX, hm_base(H_R10, (int32_t)i));
        emit_store(e, x87_image(IMAGE_ST + i), H_RAX);
    }
    emit_load(e, H_RAX, hm_base(H_R10, X87_CONTROL));
    emit_store(e, x87_image(0), H_RAX);
    emit_load(e, H_RAX, hm_base(H_R10, offsetof(struct x87, fip)));
    emit_store(e, HOT(x87_fip), H_RAX);
    emit_store_imm(e, x87_image(8), 0);                /* the host's FIP and FDP are nobody's */
    emit_store_imm(e, x87_image(16), 0);
    emit_store_imm(e, x87_image(X87_IMAGE_HEADER), 1); /* XSTATE_BV: the image holds this unit's state */
    xsave_x87(e, 5);
    emit_store_imm8(e, HOT(x87_live), 1);
}

/* RAX from hot.aflags to the host's flags; RAX is lost. */
static void flags_from_rax(struct emit *e)
{
    emit_u8(e, 0x04), emit_u8(e, 0x7f); /* add al, 0x7f: OF */
    emit_u8(e, 0x9e);                   /* sahf */
}

static void load_aflags(struct emit *e)
{
    struct host_insn in = {.map = 1, .opcode = 0xb7, .modrm = true, .reg = H_RAX, .is_mem = true, .mem = HOT(aflags)};
    emit_insn(e, &in); /* movzx eax, word */
}

/* Call the C function: fn(d, r11d) -> rax. */
static void call_c(struct emit *e, struct host_mem fn)
{
    emit_load(e, H_RDI, HOT(self));
    emit_mov_rr32(e, H_RSI, H_R11);
    emit_call_mem(e, fn);
}

static const uint8_t callee_saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static void push(struct emit *e, unsigned reg)
{
    struct host_insn in = {.opcode = 0x50, .rm = (uint8_t)reg};
    emit_insn(e, &in);
}

static void pop(struct emit *e, unsigned reg)
{
    struct host_insn in = {.opcode = 0x58, .rm = (uint8_t)reg};
    emit_insn(e, &in);
}

static void adjust_rsp(struct emit *e, int by)
{
    emit_lea(e, H_RSP, hm_base(H_RSP, by));
}

static void ret(struct emit *e) { emit_u8(e, 0xc3); }

/* ---- thunks ---- */

/* The stack of translated code is aligned to 16. */
static uint32_t make_enter(struct emit *e)
{
    uint32_t at = e->pos;
    for (unsigned i = 0; i < ARRAY_LEN(callee_saved); i++)
        push(e, callee_saved[i]);
    adjust_rsp(e, -8);
    emit_store(e, HOT(tmp), H_RDI);
    load_guest(e);
    emit_jmp_mem(e, HOT(tmp));
    return at;
}

static void leave_c(struct emit *e) /* the stack as translated code has it */
{
    adjust_rsp(e, 8);
    for (unsigned i = ARRAY_LEN(callee_saved); i > 0; i--)
        pop(e, callee_saved[i - 1]);
    ret(e);
}

/* After a C function: rax is NULL (leave), 1 (go on behind the call) or where to go on. `called`: a return address
 * is on the stack. */
static void after_c(struct emit *e, bool called)
{
    if (called)
        adjust_rsp(e, 8); /* of the alignment */
    emit_store(e, HOT(tmp), H_RAX);
    emit_alu_ri(e, 7, H_RAX, 1, true);
    uint32_t below = emit_jcc_fwd(e, HC_B);
    uint32_t above = emit_jcc_fwd(e, HC_A);
    if (called) {
        emit_cmp8_mi(e, HOT(vec_reload), 0);
        uint32_t no_vec = emit_jcc_fwd(e, HC_Z);
        load_vec(e);
        emit_patch(e, no_vec, e->pos);
        emit_cmp8_mi(e, HOT(x87_reload), 0);
        uint32_t no_x87 = emit_jcc_fwd(e, HC_Z);
        load_x87(e);
        emit_patch(e, no_x87, e->pos);
        emit_cmp8_mi(e, HOT(flags_reload), 0);
        uint32_t no_flags = emit_jcc_fwd(e, HC_Z);
        load_guest(e);
        emit_store(e, HOT(tmp), H_RAX);
        load_aflags(e);
        flags_from_rax(e);
        emit_load(e, H_RAX, HOT(tmp));
        ret(e);
        emit_patch(e, no_flags, e->pos);
        load_guest(e);
        ret(e);
    }
    emit_patch(e, above, e->pos);
    if (called)
        adjust_rsp(e, 8);
    load_guest(e);
    emit_jmp_mem(e, HOT(tmp));
    emit_patch(e, below, e->pos);
    if (called)
        adjust_rsp(e, 8);
    leave_c(e);
}

static uint32_t make_call(struct emit *e)
{
    uint32_t at = e->pos;
    adjust_rsp(e, -8);
    store_guest(e);
    store_vec(e);
    store_x87(e);
    call_c(e, HOT(c_call));
    after_c(e, true);
    return at;
}

static uint32_t make_jump(struct emit *e, struct host_mem fn)
{
    uint32_t at = e->pos;
    store_guest(e);
    store_vec(e);
    store_x87(e);
    call_c(e, fn);
    after_c(e, false);
    return at;
}

/* A C function for general registers only. */
static uint32_t make_light(struct emit *e)
{
    static const uint8_t kept[] = {H_RAX, H_RCX, H_RDX, H_RSI, H_RDI, H_R8, H_R9};
    struct host_insn call_r11 = {.opcode = 0xff, .modrm = true, .reg = 2, .rm = H_R11};
    uint32_t at = e->pos;
    for (unsigned i = 0; i < ARRAY_LEN(kept); i++)
        push(e, kept[i]); /* an odd number, behind the return address: aligned */
    emit_load(e, H_RDI, HOT(self));
    emit_mov_rr(e, H_RSI, H_R10);
    emit_insn(e, &call_r11);
    emit_mov_rr(e, H_R10, H_RAX);
    for (unsigned i = ARRAY_LEN(kept); i > 0; i--)
        pop(e, kept[i - 1]);
    ret(e);
    return at;
}

static uint32_t make_vec_load(struct emit *e)
{
    uint32_t at = e->pos;
    load_vec(e);
    ret(e);
    return at;
}

static uint32_t make_x87_load(struct emit *e)
{
    uint32_t at = e->pos;
    push(e, H_RAX);
    push(e, H_RDX);
    load_x87(e);
    pop(e, H_RDX);
    pop(e, H_RAX);
    ret(e);
    return at;
}

/* Flags of an unknown kind into the host's register, by C when they are not raw. Keeps every register. */
__attribute__((target("general-regs-only"))) static void settle_from_code(struct dbt *d)
{
    flags_settle(d->v, d->arena.hot);
}

/* What comparisons with a register and with a small constant leave, without C; r11 is lost. */
static void compare_operands(struct emit *e, unsigned size)
{
    struct host_insn cmp = {.opcode = 0x3b, .modrm = true, .reg = H_R11, .is_mem = true, .mem = HOT(cc_b), .w = size == 3};
    emit_alu_mi(e, 7, HOT(cc_op), (int32_t)(CC_CMP | size << 8), true); /* and cc_inc is 0 */
    uint32_t other = emit_jcc_fwd(e, HC_NZ);
    emit_load(e, H_R11, HOT(cc_a));
    emit_insn(e, &cmp);
    ret(e);
    emit_patch(e, other, e->pos);
}

static void compare_constant(struct emit *e, unsigned size)
{
    struct host_mem constant = HOT(cc_op);
    constant.disp += 2;
    struct host_insn load = {.map = 1, .opcode = 0xbe, .modrm = true, .reg = H_R11, .is_mem = true, .mem = constant,
                             .w = true}; /* movsx, byte */
    struct host_insn cmp = {.opcode = 0x39, .modrm = true, .reg = H_R11, .is_mem = true, .mem = HOT(cc_a), .w = size == 3};
    cmp.opcode -= size == 0;
    cmp.rex8 = size == 0;
    emit_load(e, H_R11, HOT(cc_op));
    emit_alu_ri(e, 4, H_R11, ~0xff0000, true); /* and cc_inc is 0 */
    emit_alu_ri(e, 7, H_R11, (int32_t)(CC_CMP | size << 8 | CC_IMM), true);
    uint32_t other = emit_jcc_fwd(e, HC_NZ);
    emit_insn(e, &load);
    emit_insn(e, &cmp);
    ret(e);
    emit_patch(e, other, e->pos);
}

static uint32_t make_flags_get(struct emit *e)
{
    static const uint8_t kept[] = {H_RAX, H_RCX, H_RDX, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11};
    uint32_t at = e->pos;
    emit_alu_mi(e, 7, HOT(cc_op), CC_RAW, true); /* and cc_inc is 0 */
    uint32_t raw = emit_jcc_fwd(e, HC_Z);
    for (unsigned size = 0; size < 4; size++) {
        if (size >= 2)
            compare_operands(e, size);
        if (size != 1)
            compare_constant(e, size);
    }
    for (unsigned i = 0; i < ARRAY_LEN(kept); i++)
        push(e, kept[i]); /* an odd number, behind the return address: aligned */
    emit_load(e, H_RDI, HOT(self));
    emit_mov_ri(e, H_RAX, (uint64_t)(uintptr_t)settle_from_code);
    emit_u8(e, 0xff), emit_u8(e, 0xd0); /* call rax */
    for (unsigned i = ARRAY_LEN(kept); i > 0; i--)
        pop(e, kept[i - 1]);
    emit_patch(e, raw, e->pos);
    emit_store(e, HOT(tmp), H_RAX);
    load_aflags(e);
    flags_from_rax(e);
    emit_load(e, H_RAX, HOT(tmp));
    ret(e);
    return at;
}

static void make_thunks(struct arena *a)
{
    struct emit e = {.base = a->map.rw, .end = (uint32_t)a->map.len};
    a->enter = make_enter(&e);
    a->call = make_call(&e);
    a->link = make_jump(&e, HOT(c_link));
    a->leave = make_jump(&e, HOT(c_leave));
    a->nowhere = make_jump(&e, HOT(c_nowhere));
    a->light = make_light(&e);
    a->vec_load = make_vec_load(&e);
    a->x87_load = make_x87_load(&e);
    a->flags_get = make_flags_get(&e);
    a->first = (e.pos + 63) & ~63u;
    a->cold = (uint32_t)align_up(a->map.len / 8 * 5, PAGE_SIZE);
}

/* ---- life ---- */

struct err *arena_init(struct arena *a, uint32_t len)
{
    struct err *e = code_map_init(&a->map, HOT_LEN, len);
    if (e)
        return e;
    a->hot = (struct hot *)(void *)a->map.lead;
    make_thunks(a);
    return NULL;
}

void arena_deinit(struct arena *a)
{
    code_map_deinit(&a->map);
    a->hot = NULL;
}
