/* exec/x86/insn.c: from bytes to struct insn: Zydis decodes, the rules here say what a CPU of our model does with the
 * result, the row of the mnemonic lowers it.
 *
 * Where the decoder and the CPU model differ:
 *   - Encodings that extensions took from the space of multi-byte NOPs (MPX, CET, CLDEMOTE) are NOPs without them: the
 *     decoder is told so. TZCNT and LZCNT are in the model.
 *   - A mnemonic without a row, or whose CPU feature is off, is outside the model: #UD. So are all EVEX, MVEX, XOP and
 *     3DNow! encodings, and VEX in real and virtual-8086 mode (SDM vol. 2, 2.3).
 *   - LOCK is #UD but for the rows marked AT_LOCKABLE with a memory destination (SDM vol. 2, LOCK).
 *   - The segment override that counts in 64-bit mode is the last of FS and GS; the others are ignored.
 *   - More than 15 bytes are #GP(0) (SDM vol. 3, 6.15, #GP). */
#include "exec/x86/lower.h"
#include "exec/x86/lower_fp.h"
#include "exec/x86/sys.h"

/* ---- the table ---- */

#define INSN(mnemonic, class, attributes, lower_fn, argument, cpu_feature) bool lower_fn(struct lower *lo);
#include "exec/x86/insn_int.def"
#include "exec/x86/insn_sys.def"
#include "exec/x86/insn_fp.def"
#undef INSN

const struct insn_info insn_table[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define INSN(mnemonic, class, attributes, lower_fn, argument, cpu_feature)                             \
    [ZYDIS_MNEMONIC_##mnemonic] = {                                                                    \
        .lower = lower_fn, .cls = class, .attrs = attributes, .arg = argument, .feature = cpu_feature},
#include "exec/x86/insn_int.def"
#include "exec/x86/insn_sys.def"
#include "exec/x86/insn_fp.def"
#undef INSN
};

const struct insn_info *insn_info_of(const ZydisDecodedInstruction *zi)
{
    static const struct insn_info movsd = {.lower = lower_string, .cls = INSN_STRING, .arg = STR_MOVS | 2};
    static const struct insn_info cmpsd = {.lower = lower_string, .cls = INSN_STRING, .arg = STR_CMPS | 2};
    if (zi->meta.category == ZYDIS_CATEGORY_STRINGOP) {
        if (zi->mnemonic == ZYDIS_MNEMONIC_MOVSD)
            return &movsd;
        if (zi->mnemonic == ZYDIS_MNEMONIC_CMPSD)
            return &cmpsd;
    }
    return &insn_table[zi->mnemonic];
}

/* ---- helpers of lower functions ---- */

unsigned insn_gpr_offset(ZydisRegister reg)
{
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return (unsigned)(reg - ZYDIS_REGISTER_AH) * 8 + 1;
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
        return (unsigned)(reg - ZYDIS_REGISTER_SPL + R_RSP) * 8;
    return (unsigned)ZydisRegisterGetId(reg) * 8;
}

int64_t lower_imm(const struct lower *lo)
{
    unsigned unused = 64u - lo->zi->raw.imm[0].size;
    return (int64_t)(lo->zi->raw.imm[0].value.u << unused) >> unused;
}

enum form lower_form2(struct lower *lo)
{
    struct insn *out = lo->out;
    bool mem_dst = lower_is_mem(lo, 0);
    if (lower_is_imm(lo, 1)) {
        out->imm = (uint64_t)lower_imm(lo);
        if (!mem_dst)
            out->rm = lower_gpr(lo, 0);
        return mem_dst ? FORM_MI : FORM_RI;
    }
    if (mem_dst) {
        out->reg = lower_gpr(lo, 1);
        return FORM_MR;
    }
    if (lower_is_mem(lo, 1)) {
        out->reg = lower_gpr(lo, 0);
        return FORM_RM;
    }
    out->rm = lower_gpr(lo, 0);
    out->reg = lower_gpr(lo, 1);
    return FORM_RR;
}

/* ---- decoding ---- */

#define DECODER(machine, stack)                                                                        \
    {                                                                                                  \
        .machine_mode = ZYDIS_MACHINE_MODE_##machine, .stack_width = ZYDIS_STACK_WIDTH_##stack,        \
        .decoder_mode = {[ZYDIS_DECODER_MODE_LZCNT] = ZYAN_TRUE, [ZYDIS_DECODER_MODE_TZCNT] = ZYAN_TRUE}, \
    }
/* The stack width matters only for hidden operands, which nothing here reads: handlers follow SS. */
static const ZydisDecoder decoders[] = {
    [MODE_REAL] = DECODER(REAL_16, 16),          [MODE_VM86] = DECODER(LEGACY_16, 16),
    [MODE_PROT16] = DECODER(LEGACY_16, 16),      [MODE_PROT32] = DECODER(LEGACY_32, 32),
    [MODE_COMPAT16] = DECODER(LONG_COMPAT_16, 16), [MODE_COMPAT32] = DECODER(LONG_COMPAT_32, 32),
    [MODE_LONG64] = DECODER(LONG_64, 64),
};

static void raise_ud(struct vcpu *v, const struct insn *in)
{
    (void)in;
    vcpu_raise(v, VEC_UD);
}

static void raise_too_long(struct vcpu *v, const struct insn *in)
{
    (void)in;
    vcpu_raise_err(v, VEC_GP, 0);
}

/* An instruction that faults. `len` are the bytes that decided so. */
static unsigned faulting(struct insn *in, insn_fn fn, unsigned len, uint16_t off)
{
    *in = (struct insn){.fn = fn, .base = R_ZERO, .index = R_ZERO, .off = off, .len = (uint8_t)len, .flags = INSN_ENDS};
    return len;
}

/* LOCK and REP prefixes (the last of F2 and F3 counts), and the segment override, S_COUNT when there is none. */
static unsigned prefix_flags(const ZydisDecodedInstruction *zi, bool long64, unsigned *seg_out)
{
    unsigned flags = 0;
    *seg_out = S_COUNT;
    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        switch (zi->raw.prefixes[i].value) {
        case 0xf0: flags |= INSN_LOCK; break;
        case 0xf2: flags = (flags & ~(unsigned)INSN_REP) | INSN_REPNE; break;
        case 0xf3: flags = (flags & ~(unsigned)INSN_REPNE) | INSN_REP; break;
        case 0x64: *seg_out = S_FS; break;
        case 0x65: *seg_out = S_GS; break;
        case 0x26: *seg_out = long64 ? *seg_out : S_ES; break;
        case 0x2e: *seg_out = long64 ? *seg_out : S_CS; break;
        case 0x36: *seg_out = long64 ? *seg_out : S_SS; break;
        case 0x3e: *seg_out = long64 ? *seg_out : S_DS; break;
        }
    }
    return flags;
}

static uint8_t address_reg(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return (uint8_t)ZydisRegisterGetId(reg);
    case ZYDIS_REGCLASS_IP:
        return R_RIP;
    default: /* none; the vector index of a gather is the handler's */
        return R_ZERO;
    }
}

/* The explicit memory operand: where it is, and in which segment. */
static void fill_memory(struct insn *in, const ZydisDecodedInstructionRaw *raw, const ZydisDecodedOperandMem *m,
                        unsigned override)
{
    bool sib = raw->modrm.mod != 3 && raw->modrm.rm == 4 && in->addr_mask != 0xffff;
    in->flags |= INSN_MEM;
    in->base = address_reg(m->base);
    in->index = address_reg(m->index);
    in->scale = m->scale ? (uint8_t)__builtin_ctz(m->scale) : 0;
    in->disp = m->disp.value;
    /* A SIB byte without base has a displacement, whatever REX.B says; the decoder mistakes that for R13D. */
    if (sib && raw->modrm.mod == 0 && raw->sib.base == 5) {
        in->base = R_ZERO;
        in->disp = raw->disp.value;
    }
    if (in->base == R_RIP)
        in->disp += in->off + in->len;
    if (override == S_COUNT)
        in->seg = in->base == R_RSP || in->base == R_RBP ? S_SS : S_DS;
}

static bool valid(struct vcpu *v, enum cpu_mode mode, const struct lower *lo, const struct insn_info *info)
{
    const ZydisDecodedInstruction *zi = lo->zi;
    if (info->cls == INSN_NONE)
        return false;
    if (info->feature && !(v->machine->config.cpu_features & info->feature))
        return false;
    if (zi->meta.isa_set == ZYDIS_ISA_SET_KNCV) /* VEX forms of POPCNT and its like, which only Knights Corner had */
        return false;
    if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return mode != MODE_REAL && mode != MODE_VM86;
    if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    return !(lo->out->flags & INSN_LOCK) || ((info->attrs & AT_LOCKABLE) && lower_is_mem(lo, 0));
}

static bool lower_insn(struct vcpu *v, enum cpu_mode mode, const ZydisDecodedInstruction *zi,
                       const ZydisDecodedOperand *op, const uint8_t *bytes, uint16_t off, struct insn *in)
{
    const struct insn_info *info = insn_info_of(zi);
    struct lower lo = {.v = v, .mode = mode, .zi = zi, .op = op, .bytes = bytes, .arg = info->arg, .out = in};
    unsigned override;

    *in = (struct insn){.base = R_ZERO, .index = R_ZERO, .off = off, .len = zi->length};
    in->flags = (uint8_t)prefix_flags(zi, mode == MODE_LONG64, &override);
    if (!valid(v, mode, &lo, info))
        return false;
    in->opsize = zi->operand_width / 8;
    in->addr_mask = zi->address_width == 64 ? UINT64_MAX : bit(zi->address_width) - 1;
    in->seg = override == S_COUNT ? S_DS : (uint8_t)override;
    for (unsigned i = 0; i < zi->operand_count_visible; i++)
        if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && op[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            fill_memory(in, &zi->raw, &op[i].mem, override);
    return info->lower(&lo);
}

unsigned insn_decode_detail(struct vcpu *v, const uint8_t *bytes, unsigned avail, uint16_t off, struct insn *in,
                            struct insn_detail *detail)
{
    enum cpu_mode mode = cpu_of(v)->mode;
    ZydisDecodedInstruction *zi = &detail->zi;
    ZydisDecodedOperand *op = detail->op;
    ZyanStatus status = avail ? ZydisDecoderDecodeFull(&decoders[mode], bytes, avail, zi, op) : ZYDIS_STATUS_NO_MORE_DATA;

    detail->valid = false;
    if (status == ZYDIS_STATUS_NO_MORE_DATA && avail < ZYDIS_MAX_INSTRUCTION_LENGTH)
        return 0;
    if (status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
        return faulting(in, raise_too_long, avail, off);
    if (!ZYAN_SUCCESS(status))
        return faulting(in, raise_ud, avail, off);
    if (!lower_insn(v, mode, zi, op, bytes, off, in))
        return faulting(in, raise_ud, zi->length, off);
    detail->valid = true;
    return in->len;
}

unsigned insn_decode(struct vcpu *v, const uint8_t *bytes, unsigned avail, uint16_t off, struct insn *in)
{
    struct insn_detail detail;
    return insn_decode_detail(v, bytes, avail, off, in, &detail);
}
