/* exec/dbt/tr_insn.c: which instructions become host code, and how.
 *
 * Most are copied with their registers renamed and their memory operand replaced by [r10] (tr_copy()). What has no row
 * here is done by its handler. How to add an instruction: a row, and perhaps a function; the instruction test runs
 * every form through the translator. */
#include "exec/dbt/translate.h"
#include "exec/x86/fpu.h"
#include "exec/x86/lower.h"
#include "exec/x86/lower_fp.h"

/* ---- operands ---- */

static bool is_gpr(const struct operand *op)
{
    return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->cls >= ZYDIS_REGCLASS_GPR8 && op->cls <= ZYDIS_REGCLASS_GPR64;
}

static bool is_register(const struct operand *op, ZydisRegisterClass cls)
{
    return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->cls == cls;
}

static bool is_vector(const struct operand *op)
{
    return is_register(op, ZYDIS_REGCLASS_XMM) || is_register(op, ZYDIS_REGCLASS_YMM);
}

static bool is_mmx(const struct operand *op) { return is_register(op, ZYDIS_REGCLASS_MMX); }

static bool any_operand(const struct tr *t, bool (*is)(const struct operand *op))
{
    for (unsigned i = 0; i < t->cur->dt.operands; i++)
        if (is(&t->cur->dt.op[i]))
            return true;
    return false;
}

/* The first immediate, as operations of up to 32 bits and sign-extending ones take it. */
static int32_t immediate(const struct tr *t) { return (int32_t)t->cur->dt.imm; }

static bool reads(const struct operand *op) { return op->actions & ZYDIS_OPERAND_ACTION_MASK_READ; }
static bool writes(const struct operand *op) { return op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE; }

/* Guest registers without a host register, on loan for one instruction. What they leave in the scratch registers serves
 * the next one, see tr.held. */
struct loans {
    unsigned count, max;
    struct { uint8_t gpr, host; bool held, load, store; } loan[2];
};
static const uint8_t scratch[] = {H_R11, H_R10}; /* r10 only when it is not the address */

/* The scratch register for `gpr`: the one that holds it, else a free one, r11 first. */
static int choose_scratch(const struct tr *t, const struct loans *l, unsigned gpr)
{
    bool taken[2] = {false, false};
    for (unsigned i = 0; i < l->count; i++)
        taken[l->loan[i].host == H_R10] = true;
    bool valid = t->held_pos == t->e.pos;
    for (unsigned i = 0; i < l->max; i++)
        if (valid && !taken[i] && t->held[i] == gpr)
            return (int)i;
    for (unsigned i = 0; i < l->max; i++) /* rather one that holds nothing */
        if (!taken[i] && (!valid || t->held[i] == R_ZERO))
            return (int)i;
    for (unsigned i = 0; i < l->max; i++)
        if (!taken[i])
            return (int)i;
    return -1;
}

/* `maybe`: what is written may be left alone. */
static bool borrow(const struct tr *t, struct loans *l, const struct operand *op, bool maybe, uint8_t *host)
{
    unsigned gpr = op->reg, i = 0;
    /* A narrow write keeps the rest; a conditional write may keep it all. */
    bool keeps = op->size < 32 || (op->actions & ZYDIS_OPERAND_ACTION_CONDWRITE) || maybe;
    while (i < l->count && l->loan[i].gpr != gpr)
        i++;
    if (i == l->count) {
        int at = choose_scratch(t, l, gpr);
        if (at < 0)
            return false;
        l->loan[i].gpr = (uint8_t)gpr;
        l->loan[i].host = scratch[at];
        l->loan[i].held = t->held_pos == t->e.pos && t->held[at] == gpr;
        l->loan[i].load = l->loan[i].store = false;
        l->count++;
    }
    l->loan[i].load |= reads(op) || keeps;
    l->loan[i].store |= writes(op);
    *host = l->loan[i].host;
    return true;
}

/* ---- copying ---- */

/* The instruction as the guest has it. */
static struct host_insn base_insn(const struct tr *t)
{
    const struct decoded *dt = &t->cur->dt;
    const struct encoding *enc = &dt->enc;
    struct host_insn h = {.vex = enc->vex, .p66 = enc->p66, .rep = enc->rep, .pp = enc->pp, .l = enc->l, .vvvv = enc->vvvv,
                          .w = enc->w, .map = enc->map, .opcode = enc->opcode, .modrm = enc->modrm, .reg = enc->reg,
                          .rm = enc->rm, .imm_len = dt->imm_len};
    put_le64(h.imm, (uint64_t)dt->imm);
    return h;
}

unsigned tr_operand_align(const struct tr *t)
{
    const struct operand *mem = tr_memory_operand(t);
    unsigned attrs = t->cur->dt.info->attrs, size = mem ? mem->size / 8u : 0;
    bool checked = (attrs & (AT_ALIGN16 | AT_MMX)) || t->cur->dt.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
    return checked && size >= 16 ? size - 1 : 0;
}

/* BSF and BSR of 0 leave their destination alone. */
static bool may_keep(const struct tr *t)
{
    return t->cur->dt.mnemonic == ZYDIS_MNEMONIC_BSF || t->cur->dt.mnemonic == ZYDIS_MNEMONIC_BSR;
}

/* Registers of the instruction become the host's. False: not possible. */
static bool rename(const struct tr *t, struct host_insn *h, struct loans *loans)
{
    bool high = false;
    for (unsigned i = 0; i < t->cur->dt.operands; i++) {
        const struct operand *op = &t->cur->dt.op[i];
        uint8_t host;
        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        if (op->high_byte) {
            high = true;
            host = (uint8_t)(op->reg + 4);
        } else if (is_gpr(op)) {
            host = (uint8_t)tr_host_reg(op->reg);
            if (host == H_NONE && !borrow(t, loans, op, may_keep(t), &host))
                return false;
            h->rex8 |= op->size == 8 && host >= H_RSP;
            h->w &= !h->vex || t->long64; /* VEX.W means nothing outside 64-bit mode */
        } else if (is_vector(op) || is_mmx(op)) {
            host = op->reg;
        } else {
            return false;
        }
        switch (op->encoding) {
        case ZYDIS_OPERAND_ENCODING_MODRM_REG: h->reg = host; break;
        case ZYDIS_OPERAND_ENCODING_MODRM_RM: h->rm = host; break;
        case ZYDIS_OPERAND_ENCODING_OPCODE:
            h->rm = host;
            h->opcode &= h->modrm ? 0xff : 0xf8;
            break;
        case ZYDIS_OPERAND_ENCODING_NDSNDD: h->vvvv = host; break;
        case ZYDIS_OPERAND_ENCODING_IS4: h->imm[0] &= t->long64 ? 0xff : 0x7f; break; /* a vector register */
        case ZYDIS_OPERAND_ENCODING_NONE: /* implied: only those that are where they are called */
            if (is_gpr(op) && host != op->reg)
                return false;
            break;
        default: return false;
        }
    }
    bool rex = h->rex8 || h->w || (h->modrm && h->reg >= 8) || h->is_mem || h->rm >= 8;
    return !(high && rex);
}

/* What is encoded otherwise in 64-bit mode: INC and DEC of a register (40 to 4F), 82, which is 80, and VEX.W of
 * VPCMPESTRx, which widens EAX and EDX. */
static void to_64bit_encoding(const struct tr *t, struct host_insn *h)
{
    ZydisMnemonic m = t->cur->dt.mnemonic;
    if (t->long64)
        return;
    if (m == ZYDIS_MNEMONIC_VPCMPESTRI || m == ZYDIS_MNEMONIC_VPCMPESTRM)
        h->w = false;
    if (h->map)
        return;
    if (h->opcode == 0x82)
        h->opcode = 0x80;
    if (h->opcode < 0x40 || h->opcode > 0x4f)
        return;
    h->reg = h->opcode >= 0x48;
    h->opcode = 0xff;
    h->modrm = true;
}

/* `untouched`: nothing was emitted for the instruction yet, so what is held still is. */
static void loans_out(struct tr *t, const struct loans *l, bool untouched)
{
    for (unsigned i = 0; i < l->count; i++)
        if (l->loan[i].load && !(untouched && l->loan[i].held))
            emit_load(&t->e, l->loan[i].host, tr_spill_slot(l->loan[i].gpr));
}

static void loans_back(struct tr *t, const struct loans *l)
{
    for (unsigned i = 0; i < l->count; i++)
        if (l->loan[i].store)
            emit_store(&t->e, tr_spill_slot(l->loan[i].gpr), l->loan[i].host);
}

/* After the instruction: what the scratch registers hold. `before`: they held tr.held when it began. */
static void hold(struct tr *t, const struct loans *l, bool before)
{
    for (unsigned s = 0; s < 2; s++) {
        uint8_t gpr = before ? t->held[s] : R_ZERO;
        for (unsigned i = 0; i < l->count; i++) {
            if (l->loan[i].host == scratch[s])
                gpr = l->loan[i].gpr;
            else if (gpr == l->loan[i].gpr)
                gpr = R_ZERO; /* the other one has it now */
        }
        t->held[s] = gpr;
    }
    t->held_pos = t->e.pos;
}

static unsigned access_of(const struct operand *op)
{
    return (reads(op) ? TR_READ : 0) | (writes(op) ? TR_WRITE : 0);
}

/* Whether CF is none of the flags that it needs, and it writes none. */
static bool cc_ignores_cf(const struct tr *t)
{
    return t->cur->dt.flags_read && !(t->cur->dt.flags_read & FL_CF) && !t->cur->dt.flags_written;
}

static bool wants_flags(const struct tr *t)
{
    const struct cur *c = t->cur;
    return c->dt.flags_read || (c->dt.flags_written && !c->produces && !c->flags_dead);
}

/* The host executed the instruction. */
static void set_flags(struct tr *t)
{
    const struct cur *c = t->cur;
    if (c->dt.flags_written && c->flags_dead && !c->produces)
        t->fl.host = t->fl.host_but_cf = false; /* and where else they are, nobody will look */
    else if (c->dt.flags_written)
        t->fl = (struct flags_at){.host = true, .host_but_cf = true};
}

/* The instruction itself, its memory operand checked before. */
static bool copy(struct tr *t)
{
    const struct cur *c = t->cur;
    const struct operand *mem = tr_memory_operand(t);
    struct host_insn h = base_insn(t);
    to_64bit_encoding(t, &h);
    h.is_mem = mem != NULL;
    struct loans loans = {.max = mem ? 1 : 2};
    uint32_t begin = t->e.pos;
    if (!rename(t, &h, &loans))
        return false;
    bool wants = wants_flags(t);
    if (mem && tr_group_access(t, USE_OPERAND, &h.mem)) {
        /* checked when the block was entered */
    } else if (mem) {
        unsigned size = mem->size / 8u;
        h.mem = hm_base(H_R10, 0);
        tr_clobber_flags(t);
        if (!tr_linear_address(t, mem, c->dt.address_width))
            return false;
        if (wants || loans.count || any_operand(t, is_vector)) /* vectors: measured slower the other way */
            tr_check_access(t, size, access_of(mem), tr_operand_align(t));
        else
            h.mem = tr_check_access_split(t, size, access_of(mem), tr_operand_align(t));
    }
    if (wants && cc_ignores_cf(t))
        tr_want_flags_but_cf(t);
    else if (wants)
        tr_want_flags(t);
    bool untouched = t->e.pos == begin, held = untouched && t->held_pos == begin;
    loans_out(t, &loans, untouched);
    emit_insn(&t->e, &h);
    loans_back(t, &loans);
    if (!mem)
        hold(t, &loans, held);
    set_flags(t);
    return true;
}

/* ---- recipes ---- */

static unsigned size_log(unsigned bits) { return (unsigned)__builtin_ctz(bits / 8u); }


static uint8_t recipe_reg(const struct operand *op)
{
    enum host_reg h = tr_host_reg(op->reg);
    return (uint8_t)(h == H_NONE ? (unsigned)IN_SPILL + op->reg : (unsigned)h);
}

/* How to find the flags of a two-operand instruction again, from what it leaves in its registers. */
static struct recipe recipe_of(const struct tr *t, unsigned alu)
{
    const struct operand *a = &t->cur->dt.op[0], *b = &t->cur->dt.op[1];
    struct recipe r = {.a = H_NONE, .b = H_NONE, .size = (uint8_t)size_log(a->size)};
    bool b_imm = b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE, logic = alu == ALU_AND || alu == ALU_OR || alu == ALU_XOR;
    if (!is_gpr(a) || a->high_byte || (!logic && (b->high_byte || (!is_gpr(b) && !b_imm))))
        return r;
    bool same = is_gpr(b) && a->cls == b->cls && a->reg == b->reg && a->high_byte == b->high_byte;
    if (same && (alu == ALU_XOR || alu == ALU_SUB || alu == ALU_CMP)) { /* the flags of 0 */
        r.cc = CC_LOGIC;
        r.valid = true;
        return r;
    }
    r.a = recipe_reg(a);
    r.reads = (uint16_t)(1u << a->reg);
    bool needs_b = true;
    switch (alu) {
    case ALU_CMP: r.cc = CC_CMP; break;
    case ALU_TEST: r.cc = same ? CC_LOGIC : CC_TEST; needs_b = !same; break;
    case ALU_ADD: r.cc = CC_ADD_TO; break;
    case ALU_SUB: r.cc = CC_SUB_FROM; break;
    default: r.cc = CC_LOGIC; needs_b = false; break;
    }
    if (!needs_b) {
        r.valid = true;
        return r;
    }
    if (b_imm) {
        r.b_imm = immediate(t);
        r.valid = true;
        return r;
    }
    if (same && alu == ALU_ADD)
        return r;
    r.b = recipe_reg(b);
    r.reads |= (uint16_t)(1u << b->reg);
    r.valid = true;
    return r;
}

/* ---- rows: integer ---- */

static bool tr_copy(struct tr *t, unsigned arg)
{
    (void)arg;
    return copy(t);
}

/* CMP and TEST with a memory operand: its value goes through r11 into a slot, where a recipe finds it. */
static bool compare_memory(struct tr *t, unsigned alu)
{
    const struct operand *a = &t->cur->dt.op[0], *b = &t->cur->dt.op[1];
    bool mem_first = a->type == ZYDIS_OPERAND_TYPE_MEMORY, b_imm = b->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    const struct operand *mem = mem_first ? a : b, *other = mem_first ? b : a;
    unsigned size = size_log(mem->size);
    if (!b_imm && other->high_byte)
        return false;
    uint8_t reg = b_imm ? H_NONE : recipe_reg(other);
    struct host_mem at = hm_base(H_R10, 0);
    if (!tr_group_access(t, USE_OPERAND, &at)) {
        tr_clobber_flags(t);
        if (!tr_linear_address(t, mem, t->cur->dt.address_width))
            return false;
        t->cur->slow_leaves = true; /* its handler leaves nothing in the slot */
        at = tr_check_access_split(t, 1u << size, TR_READ, 0);
    }
    struct host_insn load = {.map = size < 2,
                             .opcode = size < 2 ? (uint8_t)(0xb6 + size) : 0x8b,
                             .modrm = true,
                             .reg = H_R11,
                             .is_mem = true,
                             .mem = at,
                             .w = size == 3};
    emit_insn(&t->e, &load);
    struct recipe r = {.valid = true,
                       .cc = alu == ALU_CMP ? CC_CMP : CC_TEST,
                       .size = (uint8_t)size,
                       .a = IN_SLOT,
                       .b = reg,
                       .b_imm = b_imm ? immediate(t) : 0,
                       .reads = (uint16_t)(b_imm ? 0 : 1u << other->reg)};
    if (!mem_first) {
        r.a = reg;
        r.b = IN_SLOT;
    }
    emit_store(&t->e, mem_first ? HOT(cc_a) : HOT(cc_b), H_R11);
    struct host_insn op = base_insn(t);
    to_64bit_encoding(t, &op);
    op.rm = H_R11;
    op.rex8 = size == 0;
    if (reg >= IN_SPILL) { /* that operand from memory, this one from r11 */
        op.opcode = (uint8_t)((alu == ALU_TEST ? 0x84 : mem_first ? 0x3a : 0x38) | (size > 0));
        op.reg = H_R11;
        op.is_mem = true;
        op.mem = tr_spill_slot(other->reg);
    } else if (!b_imm) {
        op.reg = reg;
    }
    emit_insn(&t->e, &op);
    t->fl = (struct flags_at){.host = true, .host_but_cf = true, .recipe = r};
    return true;
}

/* ADD and SUB of a memory operand to a register: likewise. */
static bool add_memory(struct tr *t, unsigned alu)
{
    const struct operand *a = &t->cur->dt.op[0], *mem = &t->cur->dt.op[1];
    unsigned size = size_log(mem->size);
    uint8_t reg = (uint8_t)tr_host_reg(a->reg);
    struct host_mem at = hm_base(H_R10, 0);
    if (reg == H_NONE || size < 2)
        return false;
    if (!tr_group_access(t, USE_OPERAND, &at)) {
        tr_clobber_flags(t);
        if (!tr_linear_address(t, mem, t->cur->dt.address_width))
            return false;
        t->cur->slow_leaves = true;
        at = tr_check_access_split(t, 1u << size, TR_READ, 0);
    }
    struct host_insn load = {.opcode = 0x8b, .modrm = true, .reg = H_R11, .is_mem = true, .mem = at, .w = size == 3};
    emit_insn(&t->e, &load);
    emit_store(&t->e, HOT(cc_b), H_R11);
    emit_alu_rr(&t->e, alu == ALU_ADD ? 0 : 5, reg, H_R11, size == 3);
    t->fl = (struct flags_at){.host = true,
                              .host_but_cf = true,
                              .recipe = {.valid = true,
                                         .cc = alu == ALU_ADD ? CC_ADD_TO : CC_SUB_FROM,
                                         .size = (uint8_t)size,
                                         .a = reg,
                                         .b = IN_SLOT,
                                         .reads = (uint16_t)(1u << a->reg)}};
    return true;
}

/* Shifts by a constant: the flags follow from what was shifted. */
static bool tr_shift(struct tr *t, unsigned cc)
{
    const struct operand *op = &t->cur->dt.op[0], *count = &t->cur->dt.op[1];
    if (!is_gpr(op) || op->high_byte || count->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !t->cur->produces ||
        t->cur->flags_dead)
        return copy(t);
    enum host_reg h = tr_host_reg(op->reg);
    if (h == H_NONE)
        emit_load(&t->e, h = H_R11, tr_spill_slot(op->reg));
    emit_store(&t->e, HOT(cc_a), h);
    if (!copy(t))
        return false;
    t->fl.recipe = (struct recipe){.valid = true,
                                   .cc = (uint8_t)cc,
                                   .size = (uint8_t)size_log(op->size),
                                   .a = IN_SLOT,
                                   .b = H_NONE,
                                   .b_imm = immediate(t) & (op->size == 64 ? 63 : 31)};
    return true;
}

static bool tr_alu(struct tr *t, unsigned arg)
{
    bool mem_source = t->cur->dt.op[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
    if ((arg == ALU_ADD || arg == ALU_SUB) && mem_source && !t->cur->flags_dead && add_memory(t, arg))
        return true;
    if ((arg == ALU_CMP || arg == ALU_TEST) && tr_memory_operand(t) && compare_memory(t, arg))
        return true;
    if (!copy(t))
        return false;
    t->fl.recipe = recipe_of(t, arg);
    return true;
}

/* INC and DEC keep CF. Where it is in memory it stays there, and their result says the rest. */
static bool tr_inc_dec(struct tr *t, unsigned cc)
{
    const struct operand *op = &t->cur->dt.op[0];
    if (!is_gpr(op) || op->high_byte || t->fl.host || t->cur->flags_dead)
        return copy(t);
    tr_flags_to_memory(t);
    uint16_t written = t->cur->dt.flags_written;
    t->cur->dt.flags_written = 0;
    bool ok = copy(t);
    t->cur->dt.flags_written = written;
    t->fl = (struct flags_at){.host_but_cf = true,
                              .recipe = {.valid = true,
                                         .cc = (uint8_t)cc,
                                         .size = (uint8_t)size_log(op->size),
                                         .a = recipe_reg(op),
                                         .b = H_NONE,
                                         .reads = (uint16_t)(1u << op->reg)}};
    t->cur->dt.writes = 0; /* of what the recipe reads: this is the value it means */
    return ok;
}

static bool tr_nothing(struct tr *t, unsigned arg)
{
    (void)t, (void)arg;
    return true;
}

/* Opcodes A0 to A3 have their address where others have an immediate. */
static bool tr_mov(struct tr *t, unsigned arg)
{
    const struct decoded *dt = &t->cur->dt;
    const struct operand *op = t->cur->dt.op;
    (void)arg;
    if (is_gpr(&op[0]) && is_register(&op[1], ZYDIS_REGCLASS_SEGMENT))
        return tr_from_segment(t);
    if (dt->enc.map || dt->enc.opcode < 0xa0 || dt->enc.opcode > 0xa3)
        return copy(t);
    const struct operand *mem = tr_memory_operand(t);
    struct host_insn h = {.opcode = (uint8_t)((dt->enc.opcode & 1) | (dt->enc.opcode & 2 ? 0x88 : 0x8a)),
                          .modrm = true,
                          .reg = H_RAX,
                          .is_mem = true,
                          .mem = hm_base(H_R10, 0),
                          .w = mem->size == 64,
                          .p66 = mem->size == 16};
    tr_clobber_flags(t);
    if (!tr_linear_address(t, mem, dt->address_width))
        return false;
    tr_check_access(t, mem->size / 8u, access_of(mem), 0);
    emit_insn(&t->e, &h);
    return true;
}

static bool tr_lea(struct tr *t, unsigned arg)
{
    const struct operand *dst = &t->cur->dt.op[0], *mem = &t->cur->dt.op[1];
    const struct decoded *dt = &t->cur->dt;
    (void)arg;
    enum host_reg host = tr_host_reg(dst->reg);
    if (dt->address_width == 16)
        return false;
    if (dst->size > 16 && host != H_NONE) {
        tr_effective_address(t, mem, dt->address_width, host, dst->size == 64);
        return true;
    }
    tr_effective_address(t, mem, dt->address_width, H_R11, dst->size == 64);
    if (dst->size > 16) {
        emit_store(&t->e, tr_spill_slot(dst->reg), H_R11);
        t->held[0] = (uint8_t)dst->reg;
        t->held[1] = R_ZERO;
        t->held_pos = t->e.pos;
    } else if (host != H_NONE) {
        struct host_insn mov = {.opcode = 0x89, .modrm = true, .reg = H_R11, .rm = (uint8_t)host, .p66 = true};
        emit_insn(&t->e, &mov);
    } else {
        emit_store16(&t->e, tr_spill_slot(dst->reg), H_R11);
    }
    return true;
}

/* Bit `index` of memory at `mem`: of a word that may lie anywhere, for whose address 64 bits wrap. */
static bool bit_of_memory(struct tr *t, const struct operand *mem, const struct operand *index)
{
    struct emit *e = &t->e;
    unsigned size = size_log(mem->size);
    enum host_reg h = tr_host_reg(index->reg);
    if (!t->long64 || size < 2 || (h == H_NONE && writes(mem)) || t->cur->dt.address_width != 64)
        return false;
    tr_clobber_flags(t);
    if (!tr_linear_address(t, mem, t->cur->dt.address_width))
        return false;
    struct host_insn sign_extend = {.opcode = size == 3 ? 0x8b : 0x63, .modrm = true, .reg = H_R11, .w = true,
                                    .rm = (uint8_t)h, .is_mem = h == H_NONE};
    if (h == H_NONE)
        sign_extend.mem = tr_spill_slot(index->reg);
    emit_insn(e, &sign_extend);
    struct host_insn to_words = {.opcode = 0xc1, .modrm = true, .reg = 7, .rm = H_R11, .w = true, .imm_len = 1,
                                 .imm = {(uint8_t)(size + 3)}};
    emit_insn(e, &to_words);
    struct host_mem word = {.base = H_R10, .index = H_R11, .scale = (uint8_t)size};
    emit_lea(e, H_R10, word);
    tr_check_access(t, 1u << size, access_of(mem), 0);
    if (wants_flags(t))
        tr_want_flags(t);
    struct host_insn op = {.map = 1, .opcode = t->cur->dt.enc.opcode, .modrm = true, .rm = H_R11, .w = size == 3};
    struct host_insn move = {.opcode = 0x8b, .modrm = true, .reg = H_R11, .is_mem = true, .mem = hm_base(H_R10, 0),
                             .w = size == 3};
    emit_insn(e, &move);
    if (h == H_NONE)
        emit_load(e, h = H_R10, tr_spill_slot(index->reg));
    op.reg = (uint8_t)h;
    emit_insn(e, &op);
    move.opcode = 0x89;
    if (writes(mem))
        emit_insn(e, &move);
    set_flags(t);
    return true;
}

static bool tr_bit(struct tr *t, unsigned arg)
{
    (void)arg;
    return t->cur->bit_string ? bit_of_memory(t, tr_memory_operand(t), &t->cur->dt.op[1]) : copy(t);
}

/* `size`: log2 of the operand's bytes, 2 or 3. */
static void emit_sized_rr(struct tr *t, uint8_t opcode, unsigned size, uint8_t reg, uint8_t rm)
{
    struct host_insn h = {.opcode = opcode, .modrm = true, .reg = reg, .rm = rm, .w = size == 3};
    emit_insn(&t->e, &h);
}

/* Jumps to the handler when the quotient might not fit, which is #DE: exactly so for DIV, and for IDIV unless the dividend is
 * the extended accumulator and the divisor neither 0 nor -1. r11 is lost. */
static void check_quotient(struct tr *t, unsigned size, uint8_t divisor, bool is_signed)
{
    struct emit *e = &t->e;
    if (!is_signed) {
        emit_sized_rr(t, 0x39, size, divisor, H_RDX); /* cmp rdx, divisor */
        tr_slow_if(t, HC_NB);
        return;
    }
    struct host_insn sar = {.opcode = 0xc1, .modrm = true, .reg = 7, .rm = H_R11, .w = size == 3, .imm_len = 1,
                            .imm = {size == 3 ? 63 : 31}};
    emit_mov_rr(e, H_R11, H_RAX);
    emit_insn(e, &sar);
    emit_sized_rr(t, 0x39, size, H_R11, H_RDX);
    tr_slow_if(t, HC_NZ);
    emit_lea(e, H_R11, hm_base(divisor, 1));
    emit_alu_ri(e, 7, H_R11, 1, size == 3);
    tr_slow_if(t, HC_BE);
}

/* What a host leaves in the flags depends on what they were, and the check destroys those. */
static bool tr_div(struct tr *t, unsigned is_signed)
{
    const struct operand *op = &t->cur->dt.op[0];
    unsigned size = size_log(op->size);
    uint8_t divisor = H_R10;
    if (size < 2)
        return false;
    if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        struct host_mem at = hm_base(H_R10, 0);
        if (!tr_group_access(t, USE_OPERAND, &at)) {
            tr_clobber_flags(t);
            if (!tr_linear_address(t, op, t->cur->dt.address_width))
                return false;
            tr_check_access(t, 1u << size, TR_READ, 0);
        }
        struct host_insn load = {.opcode = 0x8b, .modrm = true, .reg = H_R10, .is_mem = true, .mem = at, .w = size == 3};
        emit_insn(&t->e, &load);
    } else if (tr_host_reg(op->reg) == H_NONE) {
        emit_load(&t->e, H_R10, tr_spill_slot(op->reg));
    } else {
        divisor = (uint8_t)tr_host_reg(op->reg);
    }
    tr_forget_r10(t);
    tr_clobber_flags(t);
    check_quotient(t, size, divisor, is_signed);
    if (!t->cur->flags_dead)
        tr_want_flags(t);
    emit_sized_rr(t, 0xf7, size, is_signed ? 7 : 6, divisor);
    set_flags(t);
    return true;
}

/* ---- vectors: what insn_table says of them is enough ---- */

/* The guest's vector registers are in the host's from here on. */
static void use_vectors(struct tr *t)
{
    if (t->vec_ready)
        return;
    tr_clobber_flags(t);
    tr_load_vectors(t);
    t->vec_ready = true;
}

static bool vector_usable(const struct tr *t, unsigned attrs)
{
    const struct operand *mem = tr_memory_operand(t);
    const struct decoded *dt = &t->cur->dt;
    unsigned need = (attrs & AT_AVX ? KEY_AVX : KEY_SSE) | (attrs & AT_FP_EXC ? KEY_MASKED : 0);
    if ((t->key.bits & need) != need || (mem && mem->mem_type != ZYDIS_MEMOP_TYPE_MEM))
        return false;
    /* VZEROUPPER, VZEROALL: of eight registers only */
    return t->long64 || !dt->whole_avx;
}

static bool tr_vector(struct tr *t, unsigned attrs)
{
    if (!vector_usable(t, attrs))
        return false;
    use_vectors(t);
    return copy(t);
}

/* ---- REP MOVS and REP STOS, forwards within a page ---- */

/* The host address of all that [reg, reg + rcx * size) refers to into r10. */
static void string_range(struct tr *t, enum host_reg reg, unsigned size_log2, unsigned access)
{
    struct emit *e = &t->e;
    emit_mov_rr(e, H_R10, reg);
    tr_check_access(t, 1, access, 0);
    emit_mov_rr32(e, H_R11, reg);
    emit_alu_ri(e, 4, H_R11, PAGE_MASK, false);
    emit_lea(e, H_R11, (struct host_mem){.base = H_R11, .index = H_RCX, .scale = (uint8_t)size_log2});
    emit_alu_ri(e, 7, H_R11, PAGE_SIZE, true);
    tr_slow_if(t, HC_A);
}

static void string_end(struct tr *t, enum host_reg reg, unsigned size_log2, unsigned slot)
{
    emit_lea(&t->e, H_R11, (struct host_mem){.base = (uint8_t)reg, .index = H_RCX, .scale = (uint8_t)size_log2});
    emit_store(&t->e, HOT_AT(string_end, slot), H_R11);
}

/* Every iteration is a tick; the block was charged for one. The handler does all that is not plain. */
static bool tr_rep(struct tr *t, unsigned string)
{
    struct emit *e = &t->e;
    const struct cur *c = t->cur;
    unsigned size = string & 3, op = string & ~3u;
    if (!t->long64 || !(c->dt.flags & INSN_REP) || c->dt.address_width != 64 || c->dt.seg >= S_FS ||
        (op != STR_MOVS && op != STR_STOS))
        return false;
    tr_flags_to_memory(t);
    tr_clobber_flags(t);
    emit_load(e, H_R11, HOT(regs));
    struct host_insn test = {
        .opcode = 0xf7, .modrm = true, .is_mem = true, .mem = VCPU_FIELD(H_R11, s.rflags), .imm_len = 4};
    put_le32(test.imm, FL_DF);
    emit_insn(e, &test);
    tr_slow_if(t, HC_NZ);
    emit_lea(e, H_R10, hm_base(H_RCX, -1));
    emit_alu_ri(e, 7, H_R10, PAGE_SIZE >> size, true);
    tr_slow_if(t, HC_NB);
    emit_alu_rr(e, 7, H_R15, H_R10, true);
    tr_slow_if(t, HC_L);
    string_range(t, H_RDI, size, TR_WRITE);
    emit_store(e, HOT(tmp), H_R10);
    string_end(t, H_RDI, size, 0);
    if (op == STR_MOVS) {
        string_range(t, H_RSI, size, TR_READ);
        string_end(t, H_RSI, size, 1);
        emit_mov_rr(e, H_RSI, H_R10);
    }
    emit_load(e, H_RDI, HOT(tmp));
    emit_alu_rr(e, 5, H_R15, H_RCX, true);
    emit_lea(e, H_R15, hm_base(H_R15, 1));
    struct host_insn rep = {.rep = 0xf3, .p66 = size == 1, .w = size == 3,
                            .opcode = (uint8_t)((op == STR_MOVS ? 0xa4 : 0xaa) + (size > 0))};
    emit_insn(e, &rep);
    emit_load(e, H_RDI, HOT_AT(string_end, 0));
    if (op == STR_MOVS)
        emit_load(e, H_RSI, HOT_AT(string_end, 1));
    tr_exit(t, tr_next_va(t));
    return true;
}

/* ---- x87 ---- */

/* The guest's x87 state is in the host's unit from here on. */
static void use_x87(struct tr *t)
{
    if (t->x87_ready)
        return;
    tr_clobber_flags(t);
    tr_load_x87(t);
    t->x87_ready = true;
}

/* The instruction byte by byte, its memory operand checked before. With all exceptions masked a store always writes, so
 * checking first is right. */
static bool x87_copy(struct tr *t)
{
    const struct cur *c = t->cur;
    const struct decoded *dt = &c->dt;
    const struct operand *mem = tr_memory_operand(t);
    struct host_insn h = {.opcode = dt->enc.opcode, .modrm = true, .reg = dt->enc.reg, .rm = dt->enc.rm,
                          .is_mem = mem != NULL, .mem = hm_base(H_R10, 0)};
    use_x87(t);
    if (mem && !tr_group_access(t, USE_OPERAND, &h.mem)) {
        tr_clobber_flags(t);
        if (!tr_linear_address(t, mem, dt->address_width))
            return false;
        tr_check_access(t, mem->size / 8u, access_of(mem), 0);
    }
    if (c->dt.flags_read || (c->dt.flags_written && !c->produces))
        tr_want_flags(t);
    emit_insn(&t->e, &h);
    if (c->dt.flags_written)
        t->fl = (struct flags_at){.host = true, .host_but_cf = true};
    return true;
}

static bool tr_x87(struct tr *t)
{
    if (!(t->key.bits & KEY_X87) || !x87_copy(t))
        return false;
    t->fip = (struct fip){true, tr_va(t)};
    return true;
}

/* FNSTSW: ES and B are 0 in the host's as in the guest's. */
static bool tr_fnstsw(struct tr *t, unsigned arg)
{
    (void)arg;
    return (t->key.bits & KEY_X87) && x87_copy(t);
}

enum { X87_FCW = offsetof(struct x87, fcw) };

/* The guest's FCW, as vcpu_state always has it, from or to r11; state: where struct x87 is. */
static void x87_fcw(struct tr *t, enum host_reg state, bool store)
{
    struct host_insn h = {.map = store ? 0 : 1, .p66 = store, .opcode = store ? 0x89 : 0xb7, .modrm = true,
                          .reg = H_R11, .is_mem = true, .mem = hm_base(state, X87_FCW)};
    emit_insn(&t->e, &h);
}

/* Where the control word in memory is. */
static bool control_word(struct tr *t, unsigned access, struct host_mem *out)
{
    const struct operand *mem = tr_memory_operand(t);
    if (tr_group_access(t, USE_OPERAND, out))
        return true;
    tr_clobber_flags(t);
    if (!tr_linear_address(t, mem, t->cur->dt.address_width))
        return false;
    tr_check_access(t, 2, access, 0);
    *out = hm_base(H_R10, 0);
    return true;
}

static bool tr_fnstcw(struct tr *t, unsigned arg)
{
    struct host_insn store = {.p66 = true, .opcode = 0x89, .modrm = true, .reg = H_R11, .is_mem = true};
    (void)arg;
    if (!(t->key.bits & KEY_X87) || !control_word(t, TR_WRITE, &store.mem))
        return false;
    emit_load(&t->e, H_R11, HOT(x87));
    x87_fcw(t, H_R11, false);
    emit_insn(&t->e, &store);
    return true;
}

/* As long as the new control word masks all exceptions too; else the rest of the block runs under another key. */
static bool tr_fldcw(struct tr *t, unsigned arg)
{
    struct host_insn load = {.map = 1, .opcode = 0xb7, .modrm = true, .reg = H_R11, .is_mem = true};
    struct host_insn not_r11 = {.opcode = 0xf7, .modrm = true, .reg = 2, .rm = H_R11};
    struct host_insn test = {.opcode = 0xf6, .modrm = true, .rm = H_R11, .imm_len = 1, .imm = {FCW_EXC}};
    struct host_insn fldcw = {.opcode = 0xd9, .modrm = true, .reg = 5, .is_mem = true, .mem = hm_base(H_R10, X87_FCW)};
    (void)arg;
    t->cur->slow_leaves = true;
    if (!(t->key.bits & KEY_X87))
        return false;
    use_x87(t);
    tr_clobber_flags(t);
    if (!control_word(t, TR_READ, &load.mem))
        return false;
    emit_insn(&t->e, &load);
    emit_insn(&t->e, &not_r11);
    emit_insn(&t->e, &test);
    tr_slow_if(t, HC_NZ);
    emit_insn(&t->e, &not_r11);
    emit_alu_ri(&t->e, 4, H_R11, FCW_WRITABLE, false);
    emit_alu_ri(&t->e, 1, H_R11, FCW_ONE, false);
    tr_forget_r10(t);
    emit_load(&t->e, H_R10, HOT(x87));
    x87_fcw(t, H_R10, true);
    emit_insn(&t->e, &fldcw);
    return true;
}

static bool tr_fwait(struct tr *t, unsigned arg)
{
    (void)arg;
    return t->key.bits & KEY_X87;
}

/* Instructions with an MMX register: what they do to TOP and tags the host's do too (fpu.h, (7)). */
static bool tr_mmx(struct tr *t, unsigned attrs)
{
    const struct operand *mem = tr_memory_operand(t);
    unsigned need = KEY_X87 | KEY_SSE | (attrs & AT_FP_EXC ? KEY_MASKED : 0);
    if ((t->key.bits & need) != need || (mem && mem->mem_type != ZYDIS_MEMOP_TYPE_MEM))
        return false;
    use_x87(t);
    if (any_operand(t, is_vector))
        use_vectors(t);
    return copy(t);
}

static bool tr_emms(struct tr *t, unsigned arg)
{
    (void)arg;
    if (!(t->key.bits & KEY_X87))
        return false;
    use_x87(t);
    emit_u8(&t->e, 0x0f), emit_u8(&t->e, 0x77);
    return true;
}

/* ---- rows: stack and control ---- */

static unsigned word(const struct tr *t) { return t->long64 ? 8 : 4; }

static bool stack_width_ok(const struct tr *t)
{
    return t->cur->dt.operand_width == 8 * word(t);
}

static void lea_word(struct tr *t, enum host_reg dst, struct host_mem m)
{
    if (t->long64)
        emit_lea(&t->e, dst, m);
    else
        emit_lea32(&t->e, dst, m);
}

static void move_word(struct tr *t, enum host_reg dst, struct host_mem m, bool load)
{
    struct host_insn h = {
        .opcode = load ? 0x8b : 0x89, .modrm = true, .reg = (uint8_t)dst, .is_mem = true, .mem = m, .w = t->long64};
    emit_insn(&t->e, &h);
}

struct host_mem tr_push_slot(struct tr *t)
{
    struct host_mem m;
    if (tr_group_access(t, USE_STACK, &m))
        return m;
    tr_clobber_flags(t);
    lea_word(t, H_R10, hm_base(H_R14, -(int)word(t)));
    tr_check_access(t, word(t), TR_WRITE, 0);
    return hm_base(H_R10, 0);
}

void tr_push_done(struct tr *t) { lea_word(t, H_R14, hm_base(H_R14, -(int)word(t))); }
void tr_pop_done(struct tr *t, unsigned bytes) { lea_word(t, H_R14, hm_base(H_R14, (int)bytes)); }

struct host_mem tr_pop_slot(struct tr *t)
{
    struct host_mem m;
    if (tr_group_access(t, USE_STACK, &m))
        return m;
    tr_clobber_flags(t);
    lea_word(t, H_R10, hm_base(H_R14, 0));
    return tr_check_access_split(t, word(t), TR_READ, 0);
}

static bool tr_push(struct tr *t, unsigned arg)
{
    const struct operand *op = &t->cur->dt.op[0];
    (void)arg;
    if (!stack_width_ok(t))
        return false;
    if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        struct host_insn h = {.opcode = 0xc7, .modrm = true, .is_mem = true, .w = t->long64, .imm_len = 4};
        put_le32(h.imm, (uint32_t)immediate(t));
        h.mem = tr_push_slot(t);
        emit_insn(&t->e, &h);
    } else if (is_gpr(op)) {
        enum host_reg h = tr_host_reg(op->reg);
        struct host_mem slot = tr_push_slot(t);
        if (h == H_NONE)
            emit_load(&t->e, h = H_R11, tr_spill_slot(op->reg));
        move_word(t, h, slot, false);
    } else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
        tr_clobber_flags(t);
        if (!tr_linear_address(t, op, t->cur->dt.address_width))
            return false;
        tr_check_access(t, word(t), TR_READ, 0);
        move_word(t, H_R11, hm_base(H_R10, 0), true);
        emit_store(&t->e, HOT(tmp), H_R11);
        struct host_mem slot = tr_push_slot(t);
        emit_load(&t->e, H_R11, HOT(tmp));
        move_word(t, H_R11, slot, false);
    } else {
        return false;
    }
    tr_push_done(t);
    return true;
}

static bool tr_pop(struct tr *t, unsigned arg)
{
    const struct operand *op = &t->cur->dt.op[0];
    (void)arg;
    if (!stack_width_ok(t) || !is_gpr(op))
        return false;
    enum host_reg h = tr_host_reg(op->reg);
    struct host_mem slot = tr_pop_slot(t);
    move_word(t, h == H_NONE ? H_R11 : h, slot, true);
    if (h == H_NONE)
        emit_store(&t->e, tr_spill_slot(op->reg), H_R11);
    if (op->reg != R_RSP)
        tr_pop_done(t, word(t));
    return true;
}

static bool tr_leave(struct tr *t, unsigned arg)
{
    (void)arg;
    if (!stack_width_ok(t))
        return false;
    tr_clobber_flags(t);
    lea_word(t, H_R10, hm_base(H_RBP, 0));
    tr_check_access(t, word(t), TR_READ, 0);
    lea_word(t, H_R14, hm_base(H_RBP, (int)word(t)));
    move_word(t, H_RBP, hm_base(H_R10, 0), true);
    return true;
}

static bool is_far(const struct tr *t) { return t->cur->dt.far; }

static bool target_of(const struct tr *t, uint64_t *out)
{
    uint64_t va = tr_next_va(t) + (uint64_t)(int64_t)immediate(t);
    *out = t->long64 ? va : (uint32_t)va;
    return stack_width_ok(t) || t->long64;
}

static bool canonical(uint64_t va) { return va + (UINT64_C(1) << 47) < UINT64_C(1) << 48; }

bool tr_direct_target(const struct tr *t, uint64_t *out)
{
    if (!t->cur->dt.relative)
        return false;
    return target_of(t, out) && (!t->long64 || (canonical(*out) && t->cur->dt.operand_width == 64));
}

/* r10 = target of an indirect near branch; flags are in memory. */
static bool indirect_target(struct tr *t)
{
    const struct operand *op = &t->cur->dt.op[0];
    if (is_far(t) || op->size != 8 * word(t))
        return false;
    tr_forget_r10(t);
    if (is_gpr(op)) {
        enum host_reg h = tr_host_reg(op->reg);
        if (h == H_NONE)
            emit_load(&t->e, H_R10, tr_spill_slot(op->reg));
        else if (t->long64)
            emit_mov_rr(&t->e, H_R10, h);
        else
            emit_mov_rr32(&t->e, H_R10, h);
        return true;
    }
    if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || !tr_linear_address(t, op, t->cur->dt.address_width))
        return false;
    move_word(t, H_R10, tr_check_access_split(t, word(t), TR_READ, 0), true);
    return true;
}

static bool tr_jmp(struct tr *t, unsigned arg)
{
    uint64_t va;
    (void)arg;
    if (tr_direct_target(t, &va)) {
        tr_exit(t, va);
        return true;
    }
    tr_flags_to_memory(t);
    t->fl.host = false;
    if (!indirect_target(t))
        return false;
    tr_jump_lookup(t);
    emit_jmp_mem(&t->e, tr_found_code);
    return true;
}

/* Conditional jumps do not end a block: it goes on where they are not taken. A loop goes on where it is. */
static bool tr_jcc(struct tr *t, unsigned cc)
{
    uint64_t va;
    if (!tr_direct_target(t, &va))
        return false;
    uint32_t begin = t->e.pos;
    if (cc_ignores_cf(t))
        tr_want_flags_but_cf(t);
    else
        tr_want_flags(t);
    bool held = t->e.pos == begin && t->held_pos == begin;
    if (t->loops && t->n == t->count - 1u) {
        tr_exit_if(t, (enum host_cond)(cc ^ 1), tr_next_va(t));
        tr_exit(t, va);
        t->ended = true;
        return true;
    }
    tr_exit_if(t, (enum host_cond)cc, va);
    if (held)
        t->held_pos = t->e.pos;
    return true;
}

static void push_return_address(struct tr *t)
{
    struct host_mem slot = tr_push_slot(t);
    uint64_t next = tr_next_va(t);
    if (t->long64 && next != (uint64_t)(int64_t)(int32_t)next) {
        emit_mov_ri(&t->e, H_R11, next);
        emit_store(&t->e, slot, H_R11);
    } else {
        struct host_insn h = {.opcode = 0xc7, .modrm = true, .is_mem = true, .mem = slot, .w = t->long64, .imm_len = 4};
        put_le32(h.imm, (uint32_t)next);
        emit_insn(&t->e, &h);
    }
    tr_push_done(t);
}

static bool tr_call(struct tr *t, unsigned arg)
{
    uint64_t va;
    (void)arg;
    tr_flags_to_memory(t);
    t->fl.host = false;
    if (tr_direct_target(t, &va)) {
        push_return_address(t);
        tr_leave_landing(t);
        tr_exit(t, va);
        return true;
    }
    if (!indirect_target(t))
        return false;
    tr_jump_lookup(t);
    emit_load(&t->e, H_R11, tr_found_code);
    emit_store(&t->e, HOT(tmp), H_R11);
    push_return_address(t);
    tr_leave_landing(t);
    emit_jmp_mem(&t->e, HOT(tmp));
    return true;
}

static bool tr_ret(struct tr *t, unsigned arg)
{
    (void)arg;
    if (is_far(t) || !stack_width_ok(t))
        return false;
    bool pops = t->cur->dt.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    tr_flags_to_memory(t);
    struct host_mem slot = tr_pop_slot(t);
    move_word(t, H_R10, slot, true);
    tr_return(t, word(t) + (pops ? (uint16_t)immediate(t) : 0));
    return true;
}

/* Memory is accessed as a mask says, or the host's x87 unit might do what the guest's does not: CVTPI2PS and CVTPI2PD
 * with a memory operand do not touch it (fpu.h, (7)). */
static bool tr_handler(struct tr *t, unsigned arg)
{
    (void)t, (void)arg;
    return false;
}

/* The rest of the block runs under another key. */
static bool tr_last(struct tr *t, unsigned arg)
{
    (void)t, (void)arg;
    return false;
}

/* ---- the rows ---- */

struct row {
    bool (*fn)(struct tr *t, unsigned arg);
    uint8_t arg;
};

#define ROW(m, f, a) [ZYDIS_MNEMONIC_##m] = {.fn = f, .arg = a},
#define COPY(m) ROW(m, tr_copy, 0)
#define CC_ROWS(cc, code) ROW(J##cc, tr_jcc, code) COPY(SET##cc) COPY(CMOV##cc)

/* clang-format off */
static const struct row rows[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    ROW(ADD, tr_alu, ALU_ADD) ROW(OR, tr_alu, ALU_OR) ROW(AND, tr_alu, ALU_AND) ROW(SUB, tr_alu, ALU_SUB)
    ROW(XOR, tr_alu, ALU_XOR) ROW(CMP, tr_alu, ALU_CMP) ROW(TEST, tr_alu, ALU_TEST)
    ROW(ADC, tr_copy, 0) ROW(SBB, tr_copy, 0)
    ROW(SHL, tr_shift, CC_SHL) ROW(SHR, tr_shift, CC_SHR) ROW(SAR, tr_shift, CC_SAR)
    ROW(INC, tr_inc_dec, CC_INC) ROW(DEC, tr_inc_dec, CC_DEC)
    COPY(NEG) COPY(NOT) COPY(ROL) COPY(ROR) COPY(RCL) COPY(RCR) COPY(SHLD) COPY(SHRD)
    COPY(IMUL) COPY(MUL) COPY(BSF) COPY(BSR) COPY(TZCNT) COPY(LZCNT) COPY(POPCNT) COPY(BSWAP) COPY(XCHG) COPY(XADD)
    COPY(CMPXCHG) COPY(CMPXCHG8B) COPY(MOVBE) COPY(ANDN) COPY(BEXTR) COPY(BLSI) COPY(BLSMSK) COPY(BLSR) COPY(BZHI)
    COPY(PDEP) COPY(PEXT) COPY(SARX) COPY(SHLX) COPY(SHRX) COPY(RORX) COPY(MULX) COPY(CBW) COPY(CWDE) COPY(CDQE)
    COPY(CWD) COPY(CDQ) COPY(CQO) COPY(CRC32) COPY(CLC) COPY(STC) COPY(CMC) COPY(LAHF) COPY(SAHF) COPY(MOVZX)
    COPY(MOVSX) COPY(MOVSXD) COPY(MOVNTI)
    COPY(CMPXCHG16B)
    ROW(DIV, tr_div, 0) ROW(IDIV, tr_div, 1)
    ROW(BT, tr_bit, 0) ROW(BTS, tr_bit, 0) ROW(BTR, tr_bit, 0) ROW(BTC, tr_bit, 0)
    ROW(MOV, tr_mov, 0)
    ROW(LEA, tr_lea, 0)
    ROW(NOP, tr_nothing, 0) ROW(PAUSE, tr_nothing, 0) ROW(LFENCE, tr_nothing, 0) ROW(SFENCE, tr_nothing, 0)
    ROW(MFENCE, tr_nothing, 0) ROW(PREFETCHNTA, tr_nothing, 0) ROW(PREFETCHT0, tr_nothing, 0)
    ROW(PREFETCHT1, tr_nothing, 0) ROW(PREFETCHT2, tr_nothing, 0) ROW(PREFETCHW, tr_nothing, 0)
    ROW(CLI, tr_cli, 0) ROW(STI, tr_sti, 0) ROW(PUSHFQ, tr_pushf, 0) ROW(POPFQ, tr_popf, 0) ROW(SWAPGS, tr_swapgs, 0)
    ROW(RDTSC, tr_rdtsc, 0) ROW(RDTSCP, tr_rdtsc, 1)
    ROW(SYSCALL, tr_syscall, 0) ROW(SYSRET, tr_sysret, 0) ROW(STAC, tr_set_ac, 1) ROW(CLAC, tr_set_ac, 0)
    ROW(PUSH, tr_push, 0)
    ROW(POP, tr_pop, 0)
    ROW(LEAVE, tr_leave, 0)
    ROW(JMP, tr_jmp, 0)
    ROW(CALL, tr_call, 0)
    ROW(RET, tr_ret, 0)
    ROW(CLTS, tr_last, 0) ROW(LDMXCSR, tr_last, 0) ROW(VLDMXCSR, tr_last, 0) ROW(FXRSTOR, tr_last, 0)
    ROW(XRSTOR, tr_last, 0) ROW(FXRSTOR64, tr_last, 0) ROW(XRSTOR64, tr_last, 0) ROW(FNINIT, tr_last, 0)
    ROW(FLDENV, tr_last, 0) ROW(FNSTENV, tr_last, 0) ROW(FNSAVE, tr_last, 0) ROW(FRSTOR, tr_last, 0)
    ROW(FNSTSW, tr_fnstsw, 0)
    ROW(FNSTCW, tr_fnstcw, 0)
    ROW(FLDCW, tr_fldcw, 0)
    ROW(FWAIT, tr_fwait, 0)
    ROW(EMMS, tr_emms, 0)
    ROW(MASKMOVQ, tr_handler, 0) ROW(MASKMOVDQU, tr_handler, 0) ROW(VMASKMOVDQU, tr_handler, 0)
    ROW(VMASKMOVPS, tr_handler, 0) ROW(VMASKMOVPD, tr_handler, 0) ROW(VPMASKMOVD, tr_handler, 0)
    ROW(VPMASKMOVQ, tr_handler, 0) ROW(CVTPI2PS, tr_handler, 0) ROW(CVTPI2PD, tr_handler, 0)
    ROW(STMXCSR, tr_handler, 0) ROW(VSTMXCSR, tr_handler, 0)
    CC_ROWS(O, HC_O) CC_ROWS(NO, HC_NO) CC_ROWS(B, HC_B) CC_ROWS(NB, HC_NB) CC_ROWS(Z, HC_Z) CC_ROWS(NZ, HC_NZ)
    CC_ROWS(BE, HC_BE) CC_ROWS(NBE, HC_A) CC_ROWS(S, HC_S) CC_ROWS(NS, HC_NS) CC_ROWS(P, HC_P) CC_ROWS(NP, HC_NP)
    CC_ROWS(L, HC_L) CC_ROWS(NL, HC_GE) CC_ROWS(LE, HC_LE) CC_ROWS(NLE, HC_G)
};
/* clang-format on */

bool tr_ends(struct tr *t)
{
    struct cur *c = t->cur;
    uint64_t va;
    const struct row *r = &rows[c->dt.mnemonic];
    bool goes_on = (r->fn == tr_jcc && tr_direct_target(t, &va)) || (r->fn == tr_popf && t->long64);
    if (c->dt.valid && goes_on)
        c->dt.flags &= (uint8_t)~(INSN_ENDS | INSN_NEXT);
    if (c->dt.valid && r->fn == tr_last)
        c->dt.flags |= INSN_ENDS | INSN_NEXT;
    return (c->dt.flags & INSN_ENDS) && r->fn != tr_sti;
}

static bool is_native(const struct tr *t)
{
    const struct row *r = &rows[t->cur->dt.mnemonic];
    if (!t->cur->dt.valid || t->cur->dt.info->cls == INSN_STRING)
        return false;
    if (r->fn == tr_push || r->fn == tr_call || r->fn == tr_ret || r->fn == tr_pushf || r->fn == tr_popf)
        return stack_width_ok(t) && !is_far(t);
    if (r->fn == tr_pop)
        return stack_width_ok(t) && is_gpr(&t->cur->dt.op[0]);
    return r->fn ? r->fn != tr_handler && r->fn != tr_last && r->fn != tr_nothing : true;
}

bool tr_loops(const struct tr *t)
{
    uint64_t va;
    const struct row *r = &rows[t->cur->dt.mnemonic];
    return t->cur->dt.valid && (r->fn == tr_jcc || r->fn == tr_jmp || r->fn == tr_call) && tr_direct_target(t, &va) &&
           va == t->va;
}

/* Executed on the host's vector registers. */
static bool is_vector_insn(const struct tr *t, const struct insn_info *info)
{
    bool moves_data = info->cls == INSN_HOST || info->cls == INSN_MOVE;
    return !rows[t->cur->dt.mnemonic].fn && moves_data && (info->attrs & (AT_SSE | AT_AVX)) &&
           !(info->attrs & AT_FPU) && !((info->attrs & AT_MMX) && any_operand(t, is_mmx));
}

/* Of MOV: the handler does it, and may raise a fault. */
static bool is_control(const struct operand *op)
{
    return is_register(op, ZYDIS_REGCLASS_CONTROL) || is_register(op, ZYDIS_REGCLASS_DEBUG);
}

/* Native and without faults of its own, but for its accesses. */
static bool is_harmless(const struct tr *t)
{
    const struct insn_info *info = t->cur->dt.info;
    if (!t->cur->native || info->cls == INSN_SYSTEM || any_operand(t, is_control))
        return false;
    if (rows[t->cur->dt.mnemonic].fn)
        return !(info->attrs & (AT_FPU | AT_MMX | AT_SSE | AT_AVX));
    return is_vector_insn(t, info) && vector_usable(t, info->attrs);
}

void tr_classify(struct tr *t)
{
    struct cur *c = t->cur;
    c->native = is_native(t);
    c->harmless = is_harmless(t);
    c->bit_string = rows[c->dt.mnemonic].fn == tr_bit && tr_memory_operand(t) && is_gpr(&c->dt.op[1]);
}

void tr_prepare(struct tr *t)
{
    for (unsigned i = 0; i < t->count; i++) {
        t->cur = &t->insn[i];
        const struct insn_info *info = t->cur->dt.info;
        if (t->cur->dt.valid && is_vector_insn(t, info) && vector_usable(t, info->attrs)) {
            use_vectors(t);
            return;
        }
    }
}

bool tr_insn(struct tr *t)
{
    const struct row *r = &rows[t->cur->dt.mnemonic];
    const struct insn_info *info = t->cur->dt.info;
    bool moves_data = info->cls == INSN_HOST || info->cls == INSN_MOVE;
    if (info->cls == INSN_STRING)
        return tr_rep(t, info->arg);
    if (!r->fn && moves_data && (info->attrs & AT_MMX) && any_operand(t, is_mmx))
        return tr_mmx(t, info->attrs);
    if (is_vector_insn(t, info))
        return tr_vector(t, info->attrs);
    if (!r->fn && info->lower == lower_x87)
        return tr_x87(t);
    return r->fn && r->fn(t, r->arg);
}
