/* exec/interp/vec.c: MMX, SSE and AVX instructions executed on the host CPU by thunks (exec/x86/host_thunk.h).
 * lower_host() turns a decoded instruction into the key of its form; the handlers only find the operands. */
#include "exec/interp/vec.h"

#include "exec/x86/host_thunk.h"
#include "exec/x86/lower.h"

/* ---- execution ---- */

enum mem_role { MEM_NONE, MEM_SRC1, MEM_SRC2, MEM_DST, MEM_ROLES }; /* MEM_SRCn is operand n */

static ALWAYS_INLINE uint32_t thunk_call(struct vcpu *v, const struct insn *in, void *const p[4])
{
    const struct thunk *t = in->aux;
    if (unlikely(t->key.bits != in->imm)) /* the arena was emptied since */
        t = thunk_find(cpu_of(v)->host_fp, (union thunk_key){.bits = in->imm});
    return t->code(p[0], p[1], p[2], p[3], &v->s);
}

static _Noreturn __attribute__((cold)) void thunk_fault(struct vcpu *v, uint32_t status)
{
    if (status == THUNK_FPE && (v->s.cr4 & CR4_OSXMMEXCPT))
        vcpu_raise(v, VEC_XM);
    vcpu_raise(v, VEC_UD); /* SDM vol. 3, 6.15: interrupt 19 */
}

static ALWAYS_INLINE void host_exec(struct vcpu *v, const struct insn *in, enum vec_need need, enum mem_role role)
{
    vec_need(v, need);
    void *p[4] = {vec_at(v, in->reg), vec_at(v, in->rm), vec_at(v, in->reg3), vec_at(v, in->x)};
    if (role == MEM_DST)
        p[0] = vec_wr(v, in, in->opsize);
    else if (role != MEM_NONE)
        p[role] = (void *)(uintptr_t)vec_rd(v, in, in->opsize);
    if (need == NEED_MMX || need == NEED_MMX_SSE)
        mmx_enter(&v->s.x87);
    uint32_t status = thunk_call(v, in, p);
    if (unlikely(status))
        thunk_fault(v, status);
    if (role == MEM_DST)
        wr_end(v);
}

static void half_span(struct vcpu *v, const struct insn *in, enum mmu_access acc, struct span *sp)
{
    uint64_t lin = lin_addr(v, in->seg, insn_ea(v, in), in->opsize, acc != ACC_READ);
    mmu_span(v, lin, in->opsize, acc, vec_unaligned_mode(v), in->seg, sp);
}

/* VCVTPH2PS from memory. */
static void host_load_half(struct vcpu *v, const struct insn *in)
{
    uint8_t half[16];
    void *p[4] = {vec_at(v, in->reg), half, NULL, NULL};
    struct span sp;
    vec_need(v, NEED_AVX);
    half_span(v, in, ACC_READ, &sp);
    span_read(v, &sp, half);
    uint32_t status = thunk_call(v, in, p);
    if (unlikely(status))
        thunk_fault(v, status);
}

/* VCVTPS2PH to memory: #XM comes before faults of the store, and MXCSR's flags are set although the store faults. */
static void host_store_half(struct vcpu *v, const struct insn *in)
{
    uint8_t result[16];
    void *p[4] = {result, vec_at(v, in->rm), vec_at(v, in->reg3), vec_at(v, in->x)};
    vec_need(v, NEED_AVX);
    uint32_t status = thunk_call(v, in, p);
    if (unlikely(status))
        thunk_fault(v, status);
    struct span sp;
    half_span(v, in, ACC_WRITE, &sp);
    span_write(v, &sp, result);
}

#define HOST_HANDLERS(name, need)                                                                                      \
    static void host_##name(struct vcpu *v, const struct insn *in) { host_exec(v, in, need, MEM_NONE); }               \
    static void host_##name##_src1(struct vcpu *v, const struct insn *in) { host_exec(v, in, need, MEM_SRC1); }        \
    static void host_##name##_src2(struct vcpu *v, const struct insn *in) { host_exec(v, in, need, MEM_SRC2); }        \
    static void host_##name##_dst(struct vcpu *v, const struct insn *in) { host_exec(v, in, need, MEM_DST); }
HOST_HANDLERS(sse, NEED_SSE)
HOST_HANDLERS(avx, NEED_AVX)
HOST_HANDLERS(mmx, NEED_MMX)
HOST_HANDLERS(mmx_sse, NEED_MMX_SSE)

#define HOST_ROW(name) {host_##name, host_##name##_src1, host_##name##_src2, host_##name##_dst}
static const insn_fn host_handlers[VEC_NEEDS][MEM_ROLES] = {
    [NEED_SSE] = HOST_ROW(sse),
    [NEED_AVX] = HOST_ROW(avx),
    [NEED_MMX] = HOST_ROW(mmx),
    [NEED_MMX_SSE] = HOST_ROW(mmx_sse),
};

/* ---- lowering ---- */

uint8_t vec_unit(ZydisRegister reg)
{
    unsigned n = (unsigned)ZydisRegisterGetId(reg);
    size_t off;
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
        off = offsetof(struct vcpu_state, ymm) + n * sizeof(((struct vcpu_state *)0)->ymm[0]);
        break;
    case ZYDIS_REGCLASS_MMX: /* TOP is 0 when the handler looks: ST(n) is MMn */
        off = offsetof(struct vcpu_state, x87.st) + n * sizeof(((struct vcpu_state *)0)->x87.st[0]);
        break;
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        off = insn_gpr_offset(reg);
        break;
    default:
        off = 0;
    }
    return (uint8_t)(off / VEC_UNIT);
}

/* 256-bit AES and PCLMULQDQ share the mnemonic but are extensions of their own. */
static bool in_model(const struct lower *lo)
{
    return lo->zi->meta.isa_set != ZYDIS_ISA_SET_VAES && lo->zi->meta.isa_set != ZYDIS_ISA_SET_VPCLMULQDQ;
}

void vec_lower_mem(struct lower *lo, bool align)
{
    for (unsigned i = 0; i < lo->zi->operand_count; i++) {
        if (!lower_is_mem(lo, i))
            continue;
        lo->out->opsize = (uint8_t)lower_size(lo, i);
        lo->out->y = align && lo->out->opsize >= 16 ? (uint8_t)(lo->out->opsize - 1) : 0;
    }
}

static unsigned mandatory_prefix(const struct lower *lo)
{
    const ZydisDecodedInstruction *zi = lo->zi;
    if (vec_is_vex(lo))
        return zi->raw.vex.pp;
    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        if (zi->raw.prefixes[i].type != ZYDIS_PREFIX_TYPE_MANDATORY)
            continue;
        switch (zi->raw.prefixes[i].value) {
        case 0x66: return 1;
        case 0xf3: return 2;
        case 0xf2: return 3;
        }
    }
    return 0;
}

static unsigned opcode_map(const struct lower *lo)
{
    switch (lo->zi->opcode_map) {
    case ZYDIS_OPCODE_MAP_0F38: return 2;
    case ZYDIS_OPCODE_MAP_0F3A: return 3;
    default: return 1;
    }
}

/* Outside 64-bit mode W does not widen general registers, whereas a thunk is always 64-bit code. These opcodes are the
 * ones that have such an operand; to the others W matters in every mode or in none. */
static bool w_widens_gpr(unsigned map, unsigned opcode)
{
    if (map == 1)
        return opcode == 0x2a || opcode == 0x2c || opcode == 0x2d || opcode == 0x6e || opcode == 0x7e;
    return map == 3 && (opcode == 0x16 || opcode == 0x22 || opcode == 0x60 || opcode == 0x61);
}

static void key_opcode(const struct lower *lo, union thunk_key *k)
{
    const ZydisDecodedInstruction *zi = lo->zi;
    k->kind = vec_is_vex(lo) ? THUNK_VEX : THUNK_LEGACY;
    k->map = opcode_map(lo);
    k->pp = mandatory_prefix(lo);
    k->opcode = zi->opcode;
    k->w = vec_is_vex(lo) ? zi->raw.vex.W : zi->raw.rex.W;
    k->l = vec_is_vex(lo) ? zi->raw.vex.L : 0;
    if (lo->mode != MODE_LONG64 && w_widens_gpr(opcode_map(lo), zi->opcode))
        k->w = 0;
    k->mxcsr = (insn_info_of(zi)->attrs & AT_FP_EXC) != 0;
}

static enum thunk_slot_kind slot_kind(const ZydisDecodedOperand *op)
{
    if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
        return SLOT_MEM;
    switch (ZydisRegisterGetClass(op->reg.value)) {
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
        return SLOT_VEC;
    case ZYDIS_REGCLASS_MMX:
        return SLOT_MM;
    default:
        return SLOT_GPR;
    }
}

/* Operands that the encoding implies. MXCSR and the string comparisons' flags are known by other means. */
static void key_implicit(const ZydisDecodedOperand *op, union thunk_key *k)
{
    bool written = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return;
    switch (op->reg.value) {
    case ZYDIS_REGISTER_XMM0:
        k->xmm0_in |= !written;
        k->xmm0_out |= written;
        break;
    case ZYDIS_REGISTER_EAX:
    case ZYDIS_REGISTER_RAX:
        k->str_in = 1;
        break;
    case ZYDIS_REGISTER_ECX:
    case ZYDIS_REGISTER_RCX:
        k->rcx_out = 1;
        break;
    case ZYDIS_REGISTER_FLAGS:
    case ZYDIS_REGISTER_EFLAGS:
    case ZYDIS_REGISTER_RFLAGS:
        k->flags = 1;
        break;
    default:
        break;
    }
}

struct shape { bool mm, vec, reg_operand; enum mem_role role; unsigned slots; };

/* An operand that ModRM, VEX.vvvv or an is4 byte encodes takes the next slot. */
static bool key_encoded(struct lower *lo, const ZydisDecodedOperand *op, enum thunk_slot_field field,
                        union thunk_key *k, struct shape *sh)
{
    uint8_t *const slot[4] = {&lo->out->reg, &lo->out->rm, &lo->out->reg3, &lo->out->x};
    unsigned i = sh->slots++;
    enum thunk_slot_kind kind = slot_kind(op);
    if (i == 4 || (kind == SLOT_MEM && i == 3))
        return false; /* no instruction of the CPU model */
    k->slots |= thunk_slot(i, kind, field, op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
    sh->reg_operand |= field == FIELD_REG;
    sh->mm |= kind == SLOT_MM;
    sh->vec |= kind == SLOT_VEC;
    if (kind == SLOT_MEM)
        sh->role = i == 0 ? MEM_DST : (enum mem_role)i;
    else
        *slot[i] = vec_unit(op->reg.value);
    return true;
}

static int encoded_field(const ZydisDecodedOperand *op)
{
    switch (op->encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG: return FIELD_REG;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM: return FIELD_RM;
    case ZYDIS_OPERAND_ENCODING_NDSNDD: return FIELD_VVVV;
    case ZYDIS_OPERAND_ENCODING_IS4: return FIELD_IS4;
    default: return -1;
    }
}

static bool key_operands(struct lower *lo, union thunk_key *k, struct shape *sh)
{
    for (unsigned i = 0; i < lo->zi->operand_count; i++) {
        const ZydisDecodedOperand *op = &lo->op[i];
        if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            k->has_imm = 1;
            k->imm = op->imm.value.u & 0xff;
            continue;
        }
        int field = encoded_field(op);
        if (field < 0)
            key_implicit(op, k);
        else if (!key_encoded(lo, op, (enum thunk_slot_field)field, k, sh))
            return false;
    }
    if (!sh->reg_operand)
        k->ext = lo->zi->raw.modrm.reg;
    return true;
}

bool lower_host(struct lower *lo)
{
    union thunk_key k = {.bits = 0};
    struct shape sh = {.role = MEM_NONE};
    if (!in_model(lo) || !key_operands(lo, &k, &sh))
        return false;
    key_opcode(lo, &k);
    vec_lower_mem(lo, insn_info_of(lo->zi)->attrs & AT_ALIGN16);
    lo->out->imm = k.bits;
    lo->out->aux = thunk_find(cpu_of(lo->v)->host_fp, k);

    enum vec_need need = vec_is_vex(lo) ? NEED_AVX : !sh.mm ? NEED_SSE : sh.vec ? NEED_MMX_SSE : NEED_MMX;
    if (lo->zi->meta.isa_set == ZYDIS_ISA_SET_F16C && sh.role != MEM_NONE)
        return lower_to(lo, sh.role == MEM_DST ? host_store_half : host_load_half);
    return lower_to(lo, host_handlers[need][sh.role]);
}
