/* exec/dbt/decode.c: forms of instructions, decoded once. See decode.h.
 *
 * The cache is a table of sets of two. A set is chosen by the bytes before the displacement, as form_len() guesses where
 * that is: wrong guesses scatter a form over sets, but what is found was compared in full. */
#include "exec/dbt/decode.h"

#include <stdlib.h>

#include "core/base/map.h"

enum { SET_BITS = 13, WAYS = 2, FORM_MAX = 8, WINDOW = 16 };

/* Two cache lines. */
struct entry {
    uint64_t bytes;    /* those that the form is known by are the first ones */
    uint8_t mode;      /* 1 + enum cpu_mode; 0: empty */
    uint8_t form_len;  /* how many, 1 to FORM_MAX */
    uint8_t disp_len, imm_len; /* of the values behind them */
    uint8_t count_mask; /* a shift by the immediate, of which these bits count; else 0 */
    struct decoded d;
};
_Static_assert(sizeof(struct entry) == 128, "two cache lines");

struct decode_cache {
    struct vcpu *v;
    struct entry (*set)[WAYS];
    bool clean_flags;
    uint64_t misses;
};

/* ---- from the decoder's words to ours ---- */

static bool is_gpr_class(ZydisRegisterClass cls) { return cls >= ZYDIS_REGCLASS_GPR8 && cls <= ZYDIS_REGCLASS_GPR64; }

static uint8_t address_reg(ZydisRegister reg)
{
    ZydisRegisterClass cls = ZydisRegisterGetClass(reg);
    if (cls == ZYDIS_REGCLASS_IP)
        return R_RIP;
    return is_gpr_class(cls) ? (uint8_t)ZydisRegisterGetId(reg) : R_ZERO;
}

static struct operand operand_of(const ZydisDecodedOperand *op, const ZydisDecodedInstructionRaw *raw)
{
    struct operand o = {.type = (uint8_t)op->type, .encoding = (uint8_t)op->encoding, .actions = op->actions, .size = op->size};
    if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
        ZydisRegisterClass cls = ZydisRegisterGetClass(op->reg.value);
        o.cls = (uint8_t)cls;
        o.reg = (uint8_t)(is_gpr_class(cls) ? insn_gpr_offset(op->reg.value) / 8 : (unsigned)ZydisRegisterGetId(op->reg.value));
        o.high_byte = op->reg.value >= ZYDIS_REGISTER_AH && op->reg.value <= ZYDIS_REGISTER_BH;
    } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        bool no_base = raw->modrm.mod == 0 && raw->modrm.rm == 4 && raw->sib.base == 5; /* see fill_memory() in insn.c */
        ZydisRegister base = no_base ? ZYDIS_REGISTER_NONE : op->mem.base;
        o.cls = (uint8_t)ZydisRegisterGetClass(base);
        o.reg = address_reg(base);
        o.mem_type = (uint8_t)op->mem.type;
        o.index = address_reg(op->mem.index);
        o.scale = op->mem.scale ? (uint8_t)__builtin_ctz(op->mem.scale) : 0;
    }
    return o;
}

static struct encoding encoding_of(const ZydisDecodedInstruction *zi)
{
    static const uint8_t maps[] = {[ZYDIS_OPCODE_MAP_DEFAULT] = 0,
                                   [ZYDIS_OPCODE_MAP_0F] = 1,
                                   [ZYDIS_OPCODE_MAP_0F38] = 2,
                                   [ZYDIS_OPCODE_MAP_0F3A] = 3};
    struct encoding h = {.map = maps[zi->opcode_map], .opcode = zi->opcode,
                          .modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM};
    h.reg = zi->raw.modrm.reg;
    h.rm = h.modrm ? zi->raw.modrm.rm : 0;
    if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        h.vex = true;
        h.w = zi->raw.vex.W;
        h.l = zi->raw.vex.L;
        h.pp = zi->raw.vex.pp;
        h.vvvv = ~zi->raw.vex.vvvv & 15;
        return h;
    }
    h.w = zi->raw.rex.W;
    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        uint8_t p = zi->raw.prefixes[i].value;
        if (zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_IGNORED)
            continue;
        if (p == 0x66)
            h.p66 = true;
        else if ((p == 0xf2 || p == 0xf3) && zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            h.rep = p;
    }
    return h;
}

/* Of a shift by an immediate: the bits of it that count. Of others 0. */
static uint8_t shift_count_mask(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op)
{
    const ZydisDecodedOperand *count = &op[zi->operand_count_visible - 1];
    return count->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? (op[0].size == 64 ? 63 : 31) : 0;
}

/* Flags are written in one piece only when nothing of the old ones can show. A count in CL may be 0. *count_mask: where an
 * immediate may be. */
static void fill_flags(const struct decode_cache *dc, const struct insn_detail *dt, struct decoded *d, uint8_t *count_mask)
{
    const ZydisDecodedInstruction *zi = &dt->zi;
    const ZydisAccessedFlags *f = zi->cpu_flags;
    if (!f)
        return;
    d->flags_read = (uint16_t)(f->tested & FL_ARITH);
    d->flags_written = (uint16_t)((f->modified | f->set_0 | f->set_1 | f->undefined) & FL_ARITH);
    bool shift = zi->meta.category == ZYDIS_CATEGORY_SHIFT || zi->meta.category == ZYDIS_CATEGORY_ROTATE;
    bool bmi = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    bool all_show = zi->mnemonic == ZYDIS_MNEMONIC_DIV || zi->mnemonic == ZYDIS_MNEMONIC_IDIV;
    if (shift && !bmi && d->flags_written) {
        *count_mask = shift_count_mask(zi, dt->op);
        all_show |= !*count_mask;
    }
    /* x87 comparisons: manuals differ on OF, SF and AF. */
    bool unsure = f->undefined & FL_ARITH || (zi->meta.category == ZYDIS_CATEGORY_X87_ALU && d->flags_written);
    all_show |= unsure && !dc->clean_flags && zi->meta.category != ZYDIS_CATEGORY_LOGICAL;
    if (all_show)
        d->flags_read = FL_ARITH;
}

static uint16_t registers_written(const struct insn_detail *dt)
{
    uint16_t written = 0;
    for (unsigned i = 0; i < dt->zi.operand_count; i++) {
        const ZydisDecodedOperand *op = &dt->op[i];
        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
            is_gpr_class(ZydisRegisterGetClass(op->reg.value)))
            written |= (uint16_t)(1u << insn_gpr_offset(op->reg.value) / 8);
    }
    return written;
}

static int64_t sign_extend(uint64_t x, unsigned bits) { return (int64_t)(x << (64 - bits)) >> (64 - bits); }

/* The values, as this decoder read them. */
static void fill_values(const struct insn_detail *dt, struct decoded *d)
{
    const ZydisDecodedInstructionRaw *raw = &dt->zi.raw;
    unsigned bits = raw->imm[0].size, more = raw->imm[1].size;
    d->imm_len = (uint8_t)((bits + more) / 8);
    d->disp = raw->disp.value;
    if (more)
        d->imm = (int64_t)((raw->imm[0].value.u & (bit(bits) - 1)) | raw->imm[1].value.u << bits);
    else if (bits)
        d->imm = sign_extend(raw->imm[0].value.u, bits);
    for (unsigned i = 0; !bits && i < dt->zi.operand_count_visible; i++)
        if (dt->op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) /* a shift by 1: the opcode says so */
            d->imm = dt->op[i].imm.value.s;
}

static void fill(const struct decode_cache *dc, const struct insn *in, const struct insn_detail *dt, struct decoded *d,
                 uint8_t *count_mask)
{
    const ZydisDecodedInstruction *zi = &dt->zi;
    *count_mask = 0;
    *d = (struct decoded){.valid = dt->valid, .len = in->len, .flags = in->flags, .seg = in->seg, .mem = -1,
                          .info = &insn_table[ZYDIS_MNEMONIC_INVALID]};
    if (!dt->valid)
        return;
    d->mnemonic = (uint16_t)zi->mnemonic;
    d->operand_width = zi->operand_width;
    d->address_width = zi->address_width;
    d->operands = zi->operand_count_visible;
    for (unsigned i = 0; i < d->operands; i++) {
        d->op[i] = operand_of(&dt->op[i], &zi->raw);
        if (d->mem < 0 && d->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            d->mem = (int8_t)i;
    }
    d->relative = d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && dt->op[0].imm.is_relative;
    d->far = zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
    d->whole_avx = zi->meta.isa_set == ZYDIS_ISA_SET_AVX && !d->operands;
    d->writes = registers_written(dt);
    d->info = insn_info_of(zi);
    d->enc = encoding_of(zi);
    fill_values(dt, d);
    fill_flags(dc, dt, d, count_mask);
}

/* ---- the cache ---- */

/* A bit for each byte value. */
struct byte_set { uint64_t bits[4]; };

static bool in_set(const struct byte_set *s, uint8_t x) { return s->bits[x >> 6] >> (x & 63) & 1; }

/* How many bytes, fewer than WINDOW, come before the displacement: nearly always. */
static unsigned form_len(const uint8_t *bytes, bool long64)
{
    enum { PREFIXES_MAX = 4 };
    /* 26 2E 36 3E, 64 to 67, F0 F2 F3 */
    static const struct byte_set prefixes = {{0x4040404000000000, 0xf000000000, 0, 0xd000000000000}};
    static const struct byte_set modrm = {{0x0f0f0f0f0f0f0f0f, 0x0a0c00000000, 0xffff, 0xc0c00000ff0f00c3}};
    static const struct byte_set modrm_0f = {{~UINT64_C(0x00ff000000000be0), ~(UINT64_C(1) << 55),
                                              ~UINT64_C(0x000007070000ffff), ~UINT64_C(0xff00)}};
    unsigned n = 0;
    while (n < PREFIXES_MAX && (in_set(&prefixes, bytes[n]) || (long64 && bytes[n] >> 4 == 4)))
        n++;
    uint8_t opcode = bytes[n++];
    bool has_modrm = in_set(&modrm, opcode);
    if (opcode == 0x0f) {
        opcode = bytes[n++];
        has_modrm = in_set(&modrm_0f, opcode);
        n += opcode == 0x38 || opcode == 0x3a;
    } else if (opcode == 0xc4 || opcode == 0xc5) { /* VEX */
        n += opcode == 0xc4 ? 3 : 2;
        has_modrm = true;
    }
    if (!has_modrm)
        return n;
    uint8_t m = bytes[n++];
    return n + (m < 0xc0 && (m & 7) == 4);
}

static struct entry *set_of(const struct decode_cache *dc, const uint8_t *bytes, bool long64)
{
    unsigned n = form_len(bytes, long64);
    uint64_t form = get_le64(bytes);
    if (n < 8)
        form &= bit(8 * n) - 1;
    return dc->set[form * UINT64_C(0x9e3779b97f4a7c15) >> (64 - SET_BITS)];
}

static bool is_form(const struct entry *e, uint8_t mode, const uint8_t *bytes)
{
    return e->mode == mode + 1 && !((get_le64(bytes) ^ e->bytes) << (64 - 8 * e->form_len));
}

static bool has_register_in_imm(const struct insn_detail *dt)
{
    for (unsigned i = 0; i < dt->zi.operand_count_visible; i++)
        if (dt->op[i].encoding == ZYDIS_OPERAND_ENCODING_IS4)
            return true;
    return false;
}

/* Unless it is of a rare kind. */
static void remember(struct entry *set, uint8_t mode, const uint8_t *bytes, const struct insn_detail *dt,
                     const struct decoded *d, uint8_t count_mask)
{
    const ZydisDecodedInstructionRaw *raw = &dt->zi.raw;
    unsigned disp_len = raw->disp.size / 8, form_len = d->len - disp_len - d->imm_len;
    if (form_len > FORM_MAX || raw->imm[1].size || has_register_in_imm(dt))
        return;
    set[1] = set[0];
    set[0] = (struct entry){.bytes = get_le64(bytes), .mode = (uint8_t)(mode + 1), .form_len = (uint8_t)form_len,
                            .disp_len = (uint8_t)disp_len, .imm_len = d->imm_len, .count_mask = count_mask, .d = *d};
}

static int64_t read_value(const uint8_t *bytes, unsigned len)
{
    switch (len) {
    case 1: return (int8_t)bytes[0];
    case 2: return (int16_t)get_le16(bytes);
    case 4: return (int32_t)get_le32(bytes);
    default: return (int64_t)get_le64(bytes);
    }
}

/* What depends on the values. */
static void finish(struct decoded *d, uint8_t count_mask)
{
    if (count_mask && !(d->imm & count_mask)) /* a shift by 0 leaves the flags as they are */
        d->flags_read = FL_ARITH;
}

bool decode_cached(struct decode_cache *dc, const uint8_t *bytes, size_t readable, struct decoded *out)
{
    uint8_t mode = cpu_of(dc->v)->mode;
    struct entry *set = readable >= WINDOW ? set_of(dc, bytes, mode == MODE_LONG64) : NULL;
    for (unsigned i = 0; set && i < WAYS; i++) {
        const struct entry *e = &set[i];
        if (!is_form(e, mode, bytes))
            continue;
        *out = e->d;
        if (e->disp_len)
            out->disp = read_value(bytes + e->form_len, e->disp_len);
        if (e->imm_len)
            out->imm = read_value(bytes + e->form_len + e->disp_len, e->imm_len);
        finish(out, e->count_mask);
        return true;
    }
    struct insn in;
    struct insn_detail dt;
    uint8_t count_mask;
    dc->misses++;
    if (!insn_decode_detail(dc->v, bytes, (unsigned)MIN(readable, INSN_BYTES_MAX), 0, &in, &dt))
        return false;
    fill(dc, &in, &dt, out, &count_mask);
    if (set && out->valid)
        remember(set, mode, bytes, &dt, out, count_mask);
    finish(out, count_mask);
    return true;
}

uint64_t decode_cache_misses(const struct decode_cache *dc) { return dc->misses; }

/* ---- life ---- */

struct err *decode_cache_create(struct vcpu *v, bool clean_flags, struct decode_cache **out)
{
    struct decode_cache *dc = calloc(1, sizeof(*dc));
    if (!dc)
        return err_new(ERR_HOST, "out of memory for decoded instructions");
    *dc = (struct decode_cache){.v = v, .clean_flags = clean_flags, .set = map_zero_huge(sizeof(*dc->set) << SET_BITS)};
    if (!dc->set) {
        free(dc);
        return err_new(ERR_HOST, "out of memory for decoded instructions");
    }
    *out = dc;
    return NULL;
}

void decode_cache_destroy(struct decode_cache *dc)
{
    if (!dc)
        return;
    map_free(dc->set, sizeof(*dc->set) << SET_BITS);
    free(dc);
}
