/* exec/dbt/translate.c: from guest bytes to a block: the driver, flags, memory operands, exits. See translate.h. */
#include "core/base/check.h"
#include "exec/dbt/translate.h"
#include "exec/x86/probe.h"

/* ---- flags ---- */

static bool small_constant(const struct recipe *r)
{
    return r->b == H_NONE && r->b_imm == (int8_t)r->b_imm && r->cc != CC_LOGIC && r->cc < CC_INC;
}

static uint32_t cc_word(const struct recipe *r)
{
    uint32_t word = r->cc | (uint32_t)r->size << 8;
    return small_constant(r) ? word | CC_IMM | (uint32_t)(uint8_t)r->b_imm << 16 : word;
}

static void store_operand(struct tr *t, struct host_mem slot, uint8_t reg, int32_t imm)
{
    if (reg == H_NONE)
        emit_store_imm(&t->e, slot, imm);
    else if (reg >= IN_SPILL) {
        emit_load(&t->e, H_R11, tr_spill_slot(reg - IN_SPILL));
        emit_store(&t->e, slot, H_R11);
    } else if (reg != IN_SLOT && imm) {
        emit_lea(&t->e, H_R11, hm_base(reg, imm));
        emit_store(&t->e, slot, H_R11);
    } else if (reg != IN_SLOT) {
        emit_store(&t->e, slot, reg);
    }
}

/* Leaves the host's flags alone; r11 is lost. */
static void store_recipe(struct tr *t, const struct recipe *r)
{
    if (r->cc >= CC_INC) {
        store_operand(t, HOT(cc_inc_a), r->a, r->a_imm);
        emit_store_imm32(&t->e, HOT(cc_inc), (int32_t)cc_word(r));
        return;
    }
    store_operand(t, HOT(cc_a), r->a, r->a_imm);
    if (r->cc != CC_LOGIC && !small_constant(r))
        store_operand(t, HOT(cc_b), r->b, r->b_imm);
    emit_store_imm(&t->e, HOT(cc_op), (int32_t)cc_word(r)); /* and cc_inc */
}

/* Host flags to hot.aflags; r11 is lost. */
static void store_raw(struct tr *t)
{
    emit_mov_rr(&t->e, H_R11, H_RAX);
    emit_u8(&t->e, 0x9f);                                                   /* lahf */
    emit_u8(&t->e, 0x0f), emit_u8(&t->e, 0x90), emit_u8(&t->e, 0xc0);       /* seto al */
    emit_store16(&t->e, HOT(aflags), H_RAX);
    emit_mov_rr(&t->e, H_RAX, H_R11);
    emit_store_imm(&t->e, HOT(cc_op), CC_RAW); /* and cc_inc */
}

static void store_flags(struct tr *t, const struct flags_at *fl)
{
    if (fl->mem)
        return;
    if (fl->recipe.valid)
        store_recipe(t, &fl->recipe);
    else
        store_raw(t);
}

void tr_flags_to_memory(struct tr *t)
{
    if (t->fl.mem)
        return;
    store_flags(t, &t->fl);
    t->fl.mem = true;
    t->fl.raw = !t->fl.recipe.valid;
}

void tr_flags_to_aflags(struct tr *t)
{
    if (t->fl.mem && t->fl.raw)
        return;
    tr_want_flags(t);
    if (!t->fl.mem || !t->fl.raw)
        store_raw(t);
    t->fl.mem = t->fl.raw = true;
}

static bool pops_rsp(const struct tr *t)
{
    const struct operand *op = &t->cur->dt.op[0];
    return op->cls == ZYDIS_REGCLASS_GPR64 && op->reg == R_RSP;
}

/* How a push or pop moves RSP, as far as a recipe that reads it can follow; else 0. */
static int32_t stack_step(const struct tr *t)
{
    if (!t->long64 || !t->cur->native)
        return 0;
    switch (t->cur->dt.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH: return -8;
    case ZYDIS_MNEMONIC_POP: return pops_rsp(t) ? 0 : 8;
    default: return 0;
    }
}

/* Whether the current instruction destroys what the recipe reads. */
static bool recipe_breaks(const struct tr *t)
{
    const struct recipe *r = &t->fl.recipe;
    uint16_t destroyed = r->valid && !t->cur->produces ? r->reads & t->cur->dt.writes : 0;
    bool follows = destroyed == 1u << R_RSP && r->a == H_R14 && r->b != H_R14 && stack_step(t);
    return destroyed && !follows;
}

void tr_clobber_flags(struct tr *t)
{
    if (!t->fl.mem && (!t->fl.recipe.valid || recipe_breaks(t)))
        tr_flags_to_memory(t);
    t->fl.host = t->fl.host_but_cf = false;
}

static void sized_op(struct tr *t, uint8_t opcode8, unsigned size, uint8_t reg, uint8_t rm)
{
    struct host_insn in = {.p66 = size == 1, .w = size == 3, .opcode = (uint8_t)(opcode8 + (size > 0)), .modrm = true,
                           .reg = reg, .rm = rm, .rex8 = size == 0};
    emit_insn(&t->e, &in);
}

static uint8_t imm_bytes(unsigned size) { return (uint8_t)(size < 2 ? size + 1 : 4); }

static void sized_op_imm(struct tr *t, unsigned ext, unsigned size, uint8_t rm, int32_t imm)
{
    struct host_insn in = {.p66 = size == 1,
                           .w = size == 3,
                           .opcode = size ? 0x81 : 0x80,
                           .modrm = true,
                           .reg = (uint8_t)ext,
                           .rm = rm,
                           .rex8 = size == 0,
                           .imm_len = imm_bytes(size)};
    put_le32(in.imm, (uint32_t)imm);
    emit_insn(&t->e, &in);
}

/* ADD SUB CMP (0 5 7) of r11 or a register with operand b. */
static void recipe_alu(struct tr *t, const struct recipe *r, unsigned ext, uint8_t a)
{
    if (r->b == IN_SLOT || r->b >= IN_SPILL) {
        struct host_insn in = {.p66 = r->size == 1,
                               .w = r->size == 3,
                               .opcode = (uint8_t)((ext << 3 | 2) + (r->size > 0)),
                               .modrm = true,
                               .reg = a,
                               .is_mem = true,
                               .mem = r->b == IN_SLOT ? HOT(cc_b) : tr_spill_slot(r->b - IN_SPILL),
                               .rex8 = r->size == 0};
        emit_insn(&t->e, &in);
    } else if (r->b == H_NONE)
        sized_op_imm(t, ext, r->size, a, r->b_imm);
    else
        sized_op(t, (uint8_t)(ext << 3), r->size, r->b, a);
}

static void shift_r11(struct tr *t, unsigned ext, const struct recipe *r)
{
    struct host_insn in = {.p66 = r->size == 1,
                           .w = r->size == 3,
                           .opcode = r->size ? 0xc1 : 0xc0,
                           .modrm = true,
                           .reg = (uint8_t)ext,
                           .rm = H_R11,
                           .rex8 = r->size == 0,
                           .imm_len = 1,
                           .imm = {(uint8_t)r->b_imm}};
    emit_insn(&t->e, &in);
}

static void evaluate_recipe(struct tr *t, const struct recipe *r)
{
    uint8_t a = r->a;
    if (a == H_NONE)
        emit_mov_ri(&t->e, H_R11, (uint64_t)(int64_t)r->a_imm);
    else if (a == IN_SLOT)
        emit_load(&t->e, H_R11, HOT(cc_a));
    else if (a >= IN_SPILL)
        emit_load(&t->e, H_R11, tr_spill_slot(a - IN_SPILL));
    else if (r->a_imm)
        emit_lea(&t->e, H_R11, hm_base(a, r->a_imm));
    if (a >= H_NONE || r->a_imm)
        a = H_R11;
    switch (r->cc) {
    case CC_SHL: shift_r11(t, 4, r); break;
    case CC_SHR: shift_r11(t, 5, r); break;
    case CC_SAR: shift_r11(t, 7, r); break;
    case CC_CMP: recipe_alu(t, r, 7, a); break;
    case CC_LOGIC: sized_op(t, 0x84, r->size, a, a); break;
    case CC_TEST:
        if (r->b >= IN_SPILL) {
            struct host_insn in = {.p66 = r->size == 1,
                                   .w = r->size == 3,
                                   .opcode = r->size ? 0x85 : 0x84,
                                   .modrm = true,
                                   .reg = a,
                                   .is_mem = true,
                                   .mem = tr_spill_slot(r->b - IN_SPILL),
                                   .rex8 = r->size == 0};
            emit_insn(&t->e, &in);
        } else if (r->b == H_NONE) {
            struct host_insn in = {.p66 = r->size == 1,
                                   .w = r->size == 3,
                                   .opcode = r->size ? 0xf7 : 0xf6,
                                   .modrm = true,
                                   .rm = a,
                                   .rex8 = r->size == 0,
                                   .imm_len = imm_bytes(r->size)};
            put_le32(in.imm, (uint32_t)r->b_imm);
            emit_insn(&t->e, &in);
        } else {
            sized_op(t, 0x84, r->size, r->b, a);
        }
        break;
    default:
        if (a != H_R11)
            emit_mov_rr(&t->e, H_R11, a);
        recipe_alu(t, r, r->cc == CC_ADD_TO ? 5 : 0, H_R11);
        recipe_alu(t, r, r->cc == CC_ADD_TO ? 0 : 5, H_R11);
    }
}

/* Of flags that are in memory. */
static void load_flags(struct tr *t, bool raw)
{
    struct host_insn load = {.map = 1, .opcode = 0xb7, .modrm = true, .reg = H_RAX, .is_mem = true, .mem = HOT(aflags)};
    if (!raw) {
        emit_call(&t->e, t->d->arena.flags_get);
        return;
    }
    emit_mov_rr(&t->e, H_R11, H_RAX);
    emit_insn(&t->e, &load);                                          /* movzx eax, word */
    emit_u8(&t->e, 0x04), emit_u8(&t->e, 0x7f), emit_u8(&t->e, 0x9e); /* add al, 0x7f: OF; sahf */
    emit_mov_rr(&t->e, H_RAX, H_R11);
}

static bool can_evaluate(const struct recipe *r) { return r->valid && r->cc < CC_INC; }

void tr_want_flags(struct tr *t)
{
    if (t->fl.host)
        return;
    if (t->fl.recipe.valid && t->fl.recipe.cc >= CC_INC)
        tr_flags_to_memory(t);
    if (can_evaluate(&t->fl.recipe))
        evaluate_recipe(t, &t->fl.recipe);
    else
        load_flags(t, t->fl.raw);
    t->fl.host = t->fl.host_but_cf = true;
}

void tr_want_flags_but_cf(struct tr *t)
{
    if (!t->fl.host_but_cf)
        tr_want_flags(t);
}

/* ---- registers ---- */

enum host_reg tr_host_reg(unsigned gpr)
{
    static const uint8_t map[16] = {H_RAX, H_RCX, H_RDX, H_RBX, H_R14, H_RBP, H_RSI,  H_RDI,
                                    H_R8,  H_R9,  H_NONE, H_NONE, H_R12, H_R13, H_NONE, H_NONE};
    return map[gpr];
}

struct host_mem tr_spill_slot(unsigned gpr)
{
    return HOT_AT(spill, gpr < R_R14 ? gpr - R_R10 + SPILL_R10 : gpr - R_R14 + SPILL_R14);
}

/* ---- memory operands ---- */

/* A register for an address: pinned, or loaded into `scratch`. */
static uint8_t address_reg(struct tr *t, unsigned gpr, enum host_reg scratch)
{
    if (gpr == R_ZERO)
        return H_NONE;
    enum host_reg h = tr_host_reg(gpr);
    if (h != H_NONE)
        return (uint8_t)h;
    emit_load(&t->e, scratch, tr_spill_slot(gpr));
    return (uint8_t)scratch;
}

void tr_effective_address(struct tr *t, const struct operand *m, unsigned width, enum host_reg dst, bool wide)
{
    struct emit *e = &t->e;
    tr_forget_r10(t);
    uint64_t disp = (uint64_t)t->cur->dt.disp;
    bool rip = m->reg == R_RIP;
    wide &= width == 64;
    if (rip || (m->reg == R_ZERO && m->index == R_ZERO)) {
        uint64_t at = rip ? tr_next_va(t) + disp : disp;
        emit_mov_ri(e, dst, wide ? at : (uint32_t)at);
        return;
    }
    struct host_mem ea = {.base = address_reg(t, m->reg, H_R10), .index = address_reg(t, m->index, H_R11),
                          .scale = m->scale, .disp = (int32_t)disp};
    if (!wide)
        emit_lea32(e, dst, ea);
    else if (ea.index == H_NONE && !ea.disp)
        emit_mov_rr(e, dst, ea.base);
    else
        emit_lea(e, dst, ea);
}

bool tr_linear_address(struct tr *t, const struct operand *m, unsigned width)
{
    static const uint8_t need[] = {[S_ES] = KEY_FLAT, [S_CS] = KEY_FLAT, [S_SS] = KEY_FLAT, [S_DS] = KEY_FLAT,
                                   [S_FS] = KEY_FLAT_FS, [S_GS] = KEY_FLAT_GS};
    unsigned seg = t->cur->dt.seg;
    tr_forget_r10(t);
    if (!(t->key.bits & need[seg]) || width == 16 || (seg == S_CS && !t->long64))
        return false;
    tr_effective_address(t, m, width, H_R10, true);
    if (seg >= S_FS) {
        emit_alu_rm(&t->e, 0, H_R10, HOT_AT(seg_base, seg));
        if (!t->long64)
            emit_mov_rr32(&t->e, H_R10, H_R10);
    }
    return true;
}

bool tr_group_access(struct tr *t, unsigned use, struct host_mem *out)
{
    const struct use *u = &t->cur->use[use];
    if (!u->yes)
        return false;
    if (t->r10_insn != (int)t->n || t->r10_group != u->group)
        emit_load(&t->e, H_R10, HOT_AT(group, u->group));
    t->r10_group = u->group;
    t->r10_insn = (int)t->n + 1;
    *out = hm_base(H_R10, u->at);
    return true;
}

static void add_stub(struct tr *t, struct stub s)
{
    s.index = (uint8_t)t->n;
    s.fl = t->fl;
    s.fip = t->fip;
    CHECK(t->stubs < STUBS_MAX, "an instruction needs more than %d stubs", STUBS_MAX / BLOCK_MAX);
    t->stub[t->stubs++] = s;
}

uint32_t tr_site(struct tr *t, unsigned flags)
{
    struct dbt *d = t->d;
    d->site[d->sites + t->sites] = (struct site){t->block, t->cur->off, (uint8_t)(t->count - 1 - t->n), (uint8_t)flags};
    return d->sites + t->sites++;
}

static unsigned mid_block_flags(const struct tr *t)
{
    return (t->vec_ready ? SITE_VEC : 0) | (t->x87_ready ? SITE_X87 : 0) | (t->groups ? SITE_GROUPS : 0);
}

void tr_slow_if(struct tr *t, enum host_cond cc)
{
    bool ends = (t->cur->dt.flags & INSN_ENDS) || t->cur->slow_leaves;
    uint32_t site = tr_site(t, ends ? SITE_ENDS : mid_block_flags(t));
    add_stub(t, (struct stub){.kind = STUB_SLOW, .jump_pos = emit_jcc_fwd(&t->e, cc), .site = site});
}

void tr_load_vectors(struct tr *t)
{
    tr_forget_r10(t);
    emit_cmp8_mi(&t->e, HOT(vec_live), 0);
    uint32_t jump_pos = emit_jcc_fwd(&t->e, HC_Z);
    add_stub(t, (struct stub){.kind = STUB_VEC, .jump_pos = jump_pos, .resume = t->e.pos});
}

void tr_load_x87(struct tr *t)
{
    tr_forget_r10(t);
    emit_cmp8_mi(&t->e, HOT(x87_live), 0);
    uint32_t jump_pos = emit_jcc_fwd(&t->e, HC_Z);
    add_stub(t, (struct stub){.kind = STUB_X87, .jump_pos = jump_pos, .resume = t->e.pos});
}

/* r11 is lost; flags stay. */
static void store_fip(struct tr *t, struct fip *f)
{
    if (f->due && f->va == (uint64_t)(int64_t)(int32_t)f->va) {
        emit_store_imm(&t->e, HOT(x87_fip), (int32_t)f->va);
    } else if (f->due) {
        emit_mov_ri(&t->e, H_R11, f->va);
        emit_store(&t->e, HOT(x87_fip), H_R11);
    }
    f->due = false;
}

_Static_assert(sizeof(struct tlb_entry) == 32 && offsetof(struct tlb_entry, tag_r) == 0,
               "as the code below indexes it");

/* Linear address in r10 to its offset in the page, compared with the last one where `size` bytes fit, or with all that are
 * aligned (`align`: address bits that must be 0, of `size` bytes at most). Returns the condition under which the TLB has
 * no such access. r11: the entry, relative to GS. */
static enum host_cond probe_tlb(struct tr *t, unsigned size, bool write, unsigned align)
{
    struct emit *e = &t->e;
    enum { TO_INDEX = PAGE_SHIFT - 5 };
    emit_rorx32(e, H_R11, H_R10, TO_INDEX);
    emit_alu_ri(e, 4, H_R11, (TLB_SIZE - 1) << 5, false);
    emit_alu_rm(e, 6, H_R10,
                hm_gs(H_R11, write ? offsetof(struct tlb_entry, tag_w) : offsetof(struct tlb_entry, tag_r)));
    if (!align) {
        emit_alu_ri(e, 7, H_R10, (int32_t)(PAGE_SIZE - size), true);
        return HC_A;
    }
    struct host_insn test = {.opcode = 0xf7, .modrm = true, .rm = H_R10, .w = true, .imm_len = 4};
    put_le32(test.imm, ~(uint32_t)PAGE_MASK | align);
    emit_insn(e, &test);
    return HC_NZ;
}

void tr_check_access(struct tr *t, unsigned size, unsigned access, unsigned align)
{
    struct emit *e = &t->e;
    tr_slow_if(t, probe_tlb(t, size, access & TR_WRITE, align));
    emit_alu_rm(e, 0, H_R10, hm_gs(H_R11, offsetof(struct tlb_entry, host)));
}

struct host_mem tr_check_access_split(struct tr *t, unsigned size, unsigned access, unsigned align)
{
    tr_slow_if(t, probe_tlb(t, size, access & TR_WRITE, align));
    emit_load(&t->e, H_R11, hm_gs(H_R11, offsetof(struct tlb_entry, host)));
    return (struct host_mem){.base = H_R11, .index = H_R10};
}

/* ---- leaving ---- */

void tr_call_handler(struct tr *t)
{
    bool ends = (t->cur->dt.flags & INSN_ENDS) || t->cur->slow_leaves;
    tr_flags_to_memory(t);
    store_fip(t, &t->fip);
    t->x87_ready = false; /* the next x87 instruction finds out */
    emit_mov_ri(&t->e, H_R11, tr_site(t, ends ? SITE_ENDS : mid_block_flags(t)));
    emit_call(&t->e, t->d->arena.call);
    t->fl = (struct flags_at){.mem = true, .raw = true};
}

static bool same_page(const struct tr *t, uint64_t va) { return (va ^ t->va) < PAGE_SIZE; }

/* Whether va is mapped to `page` and can be executed, by its fetch entry. r10 and flags are lost. */
struct page_check { uint32_t page_pos, miss[2]; };

static struct page_check check_page(struct tr *t, uint64_t va, uint32_t page)
{
    struct emit *e = &t->e;
    struct page_check c;
    int32_t entry = mmu_fetch_entry_offset(t->d->v, va);
    emit_mov_ri(e, H_R10, va & ~(uint64_t)PAGE_MASK);
    emit_alu_rm(e, 7, H_R10, hm_gs(H_NONE, entry + (int32_t)offsetof(struct tlb_entry, tag_r)));
    c.miss[0] = emit_jcc_fwd(e, HC_NZ);
    struct host_insn cmp = {.opcode = 0x81, .modrm = true, .reg = 7, .is_mem = true, .imm_len = 4,
                            .mem = hm_gs(H_NONE, entry + (int32_t)offsetof(struct tlb_entry, page))};
    put_le32(cmp.imm, page);
    emit_insn(e, &cmp);
    c.page_pos = e->pos - 4;
    c.miss[1] = emit_jcc_fwd(e, HC_NZ);
    return c;
}

/* A jump to another block: at first to the stub that finds it. Across pages it first looks whether the target's page is
 * the one that the target was translated from; `always` within a page too, for code that is entered long after. */
static void exit_to(struct tr *t, uint64_t va, bool always, bool plain)
{
    struct emit *e = &t->e;
    struct dbt *d = t->d;
    uint32_t id = d->links + t->links++;
    struct page_check c = {0};
    if (always || !same_page(t, va))
        c = check_page(t, va, MEM_NO_PAGE);
    uint32_t jump_pos = emit_jmp_fwd(e);
    add_stub(t, (struct stub){
                    .kind = STUB_LINK, .jump_pos = jump_pos, .more_pos = {c.miss[0], c.miss[1]}, .site = id});
    d->link[id] =
        (struct link){.va = va, .block = t->block, .jump_pos = jump_pos, .page_pos = c.page_pos, .plain = plain};
}

static unsigned check_groups(struct tr *t, uint32_t failed[GROUP_CHECKS_MAX]);

/* From instruction `index` back to the block's begin: charge it and go on behind its entry. What is emitted next runs when
 * that fails, with everything as it was. Returns whether the flags were stored for it: not when the block destroys them
 * unseen, and they can be found again. */
static bool loop_directly(struct tr *t, const struct flags_at *fl, unsigned index)
{
    struct emit *e = &t->e;
    uint32_t failed[GROUP_CHECKS_MAX + 1];
    unsigned failures = 0, executed = index + 1;
    bool store = t->flags_seen || (!fl->mem && !fl->recipe.valid), recheck = false;
    if (!t->body)
        return false;
    if (store)
        store_flags(t, fl);
    emit_alu_ri(e, 5, H_R15, (int32_t)executed, true);
    failed[failures++] = emit_jcc_fwd(e, HC_S);
    for (unsigned i = 0; i < t->groups; i++)
        recheck |= t->insn[index].changed >> t->group[i].gpr & 1;
    if (recheck)
        failures += check_groups(t, failed + failures);
    else if (t->groups)
        emit_load(e, H_R10, HOT_AT(group, t->groups - 1)); /* as check_groups() leaves it */
    if (t->body_wants_flags && can_evaluate(&fl->recipe))
        evaluate_recipe(t, &fl->recipe);
    else if (t->body_wants_flags)
        load_flags(t, fl->mem ? fl->raw : !fl->recipe.valid); /* as they were just stored */
    emit_jmp(e, t->body);
    for (unsigned i = 0; i < failures; i++)
        emit_patch(e, failed[i], e->pos);
    emit_lea(e, H_R15, hm_base(H_R15, (int32_t)executed));
    return store;
}

/* A direct jump out of instruction `index`. */
static void leave_to(struct tr *t, uint64_t va, const struct flags_at *fl, unsigned index)
{
    struct emit *e = &t->e;
    unsigned rest = t->count - 1u - index; /* instructions charged and not executed */
    bool self = va == t->va && !(t->key.bits & KEY_PLAIN);
    if (!self || !loop_directly(t, fl, index))
        store_flags(t, fl);
    if (rest)
        emit_lea(e, H_R15, hm_base(H_R15, (int32_t)rest));
    if (self)
        emit_jmp(e, t->entry);
    else
        exit_to(t, va, false, false);
}

void tr_exit(struct tr *t, uint64_t va)
{
    store_fip(t, &t->fip);
    leave_to(t, va, &t->fl, t->count - 1u);
}

void tr_exit_if(struct tr *t, enum host_cond cc, uint64_t va)
{
    add_stub(t, (struct stub){.kind = STUB_EXIT, .jump_pos = emit_jcc_fwd(&t->e, cc), .va = va});
}

/* Look up the code for the linear address in r10; r11: its jump cache entry. Returns where misses jump from. */
static uint32_t jump_lookup(struct tr *t)
{
    struct emit *e = &t->e;
    emit_mov_rr32(e, H_R11, H_R10);
    if (JC_SHIFT > JC_ENTRY_SHIFT)
        emit_shr_ri32(e, H_R11, JC_SHIFT - JC_ENTRY_SHIFT);
    emit_alu_ri(e, 4, H_R11, (JC_ENTRIES - 1) << JC_ENTRY_SHIFT, false);
    emit_alu_rm(e, 0, H_R11, HOT(jump_cache));
    emit_alu_rm(e, 7, H_R10, hm_base(H_R11, offsetof(struct jc_entry, va)));
    return emit_jcc_fwd(e, HC_NZ);
}

void tr_jump_lookup(struct tr *t)
{
    uint32_t miss = jump_lookup(t);
    add_stub(t, (struct stub){.kind = STUB_SLOW, .jump_pos = miss, .site = tr_site(t, SITE_ENDS)});
}

/* r11: the return cache's slot for the stack pointer. */
static void ret_slot(struct tr *t)
{
    struct emit *e = &t->e;
    emit_lea32(e, H_R11, (struct host_mem){.base = H_R14, .index = H_R14});
    emit_alu_ri(e, 4, H_R11, (RC_ENTRIES - 1) << JC_ENTRY_SHIFT, false);
    emit_alu_rm(e, 0, H_R11, HOT(ret_cache));
}

void tr_leave_landing(struct tr *t)
{
    struct emit *e = &t->e;
    uint64_t va = tr_next_va(t);
    ret_slot(t);
    emit_mov_ri(e, H_R10, va);
    emit_store(e, hm_base(H_R11, offsetof(struct jc_entry, va)), H_R10);
    emit_lea(e, H_R10, hm_rip((int32_t)e->pos));
    add_stub(t, (struct stub){.kind = STUB_LANDING, .jump_pos = e->pos - 4, .va = va});
    emit_store(e, hm_base(H_R11, offsetof(struct jc_entry, code)), H_R10);
}

static void take_and_jump(struct tr *t, unsigned pop)
{
    if (t->long64)
        emit_lea(&t->e, H_R14, hm_base(H_R14, (int32_t)pop));
    else
        emit_lea32(&t->e, H_R14, hm_base(H_R14, (int32_t)pop));
    emit_jmp_mem(&t->e, tr_found_code);
}

void tr_return(struct tr *t, unsigned pop)
{
    ret_slot(t);
    emit_alu_rm(&t->e, 7, H_R10, hm_base(H_R11, offsetof(struct jc_entry, va)));
    uint32_t miss = emit_jcc_fwd(&t->e, HC_NZ);
    add_stub(t, (struct stub){
                    .kind = STUB_RET, .jump_pos = miss, .pop = pop, .site = tr_site(t, SITE_ENDS)});
    take_and_jump(t, pop);
}

/* ---- the block ---- */

static void emit_stub(struct tr *t, struct stub *s)
{
    struct emit *e = &t->e;
    emit_patch(e, s->jump_pos, e->pos);
    for (unsigned i = 0; i < ARRAY_LEN(s->more_pos) && s->more_pos[i]; i++)
        emit_patch(e, s->more_pos[i], e->pos);
    switch (s->kind) {
    case STUB_SLOW:
        store_flags(t, &s->fl);
        store_fip(t, &s->fip);
        emit_mov_ri(e, H_R11, s->site);
        emit_call(e, t->d->arena.call);
        if (!(t->d->site[s->site].flags & SITE_ENDS))
            emit_jmp(e, s->resume);
        break;
    case STUB_EXIT:
        store_fip(t, &s->fip);
        leave_to(t, s->va, &s->fl, s->index);
        break;
    case STUB_LINK:
        emit_mov_ri(e, H_R11, s->site);
        emit_jmp(e, t->d->arena.link);
        break;
    case STUB_LANDING:
        exit_to(t, s->va, true, false);
        break;
    case STUB_RET: {
        uint32_t miss = jump_lookup(t);
        take_and_jump(t, s->pop);
        emit_patch(e, miss, e->pos);
        emit_mov_ri(e, H_R11, s->site);
        emit_call(e, t->d->arena.call);
        break;
    }
    case STUB_VEC:
        emit_call(e, t->d->arena.vec_load);
        emit_jmp(e, s->resume);
        break;
    case STUB_X87:
        emit_call(e, t->d->arena.x87_load);
        emit_jmp(e, s->resume);
        break;
    }
}

/* Loops, and where returns go on, run often; jumps ahead, as compilers arrange code, do less. */
static bool is_cold(const struct tr *t, const struct stub *s)
{
    return s->kind == STUB_EXIT ? s->va > t->va : s->kind != STUB_LANDING;
}

static void emit_stubs(struct tr *t, bool cold)
{
    for (unsigned i = 0; i < t->stubs; i++)
        if (is_cold(t, &t->stub[i]) == cold)
            emit_stub(t, &t->stub[i]);
}

/* After the instruction: what is known of the flags. */
static void end_insn(struct tr *t)
{
    struct cur *c = t->cur;
    if (recipe_breaks(t))
        t->fl.recipe.valid = false;
    else if (t->fl.recipe.valid && t->fl.recipe.a == H_R14 && !c->produces)
        t->fl.recipe.a_imm -= stack_step(t);
    /* A slow path comes back with the flags in memory; code that counts on the host's has them loaded. r10 is lost. */
    for (unsigned i = c->first_stub; i < t->stubs; i++) {
        if (t->stub[i].kind != STUB_SLOW)
            continue;
        tr_forget_r10(t);
        t->stub[i].resume = t->e.pos;
        if (t->fl.host_but_cf)
            t->d->site[t->stub[i].site].flags |= SITE_FLAGS;
    }
}

/* ---- first pass: decoding, and which accesses can be checked together ---- */

static bool decode(struct tr *t, uint32_t off)
{
    struct cur *c = t->cur;
    uint32_t at = (uint32_t)(t->va & PAGE_MASK) + off;
    memset(c->use, 0, sizeof(c->use));
    c->slow_leaves = false;
    c->off = (uint16_t)off;
    const uint8_t *bytes = mem_page_host(t->d->mem, t->page) + at;
    size_t readable = PAGE_SIZE - at;
    if (t->page2 != MEM_NO_PAGE) {
        bytes = t->crossing;
        readable = sizeof(t->crossing);
    }
    if (!decode_cached(t->d->decoded, bytes, readable, &c->dt))
        return false;
    c->produces = c->dt.flags_written == FL_ARITH && !c->dt.flags_read;
    tr_classify(t);
    return !(t->n && (c->dt.flags & INSN_ALONE));
}

/* Up to `most` instructions. Sets t->count and returns the bytes they take. */
static uint32_t scan(struct tr *t, unsigned most)
{
    uint32_t off = 0;
    for (t->n = 0; t->n < most; t->n++) {
        t->cur = &t->insn[t->n];
        uint64_t va = t->va + off;
        if (t->n && probes_armed(t->d->v, t->long64 ? va : (uint32_t)va))
            break;
        if (!decode(t, off))
            break;
        off += t->cur->dt.len;
        t->cur->changed = (uint16_t)(t->cur->dt.writes | (t->n ? t->cur[-1].changed : 0));
        bool ends = tr_ends(t);
        t->loops = tr_loops(t);
        if (ends || t->loops) { /* what is behind a loop is not checked in each round of it */
            t->n++;
            break;
        }
    }
    t->count = t->n;
    /* What ends a block only when nothing can follow does not where something does. */
    for (unsigned i = 0; i + 1 < t->count; i++)
        t->insn[i].dt.flags &= (uint8_t)~(INSN_ENDS | INSN_NEXT);
    t->ended = t->count && (t->insn[t->count - 1].dt.flags & INSN_ENDS);
    return off;
}

/* What a walk over the block knows: which registers are what they were at its entry, plus a constant. */
struct tracker { uint16_t unknown; int32_t by[16]; };
enum { GROUP_SPAN_MAX = 1024, GROUP_AT_MAX = 1 << 20 };

/* An access of `size` bytes, `at` bytes from what `gpr` was at the block's entry. `align`: address bits that must be 0. */
struct access { unsigned gpr, size, align; int64_t at; bool write; };

static bool may_join(const struct group *g, const struct access *a)
{
    return g->gpr == a->gpr && MAX(g->hi, a->at + a->size) - MIN(g->lo, a->at) <= GROUP_SPAN_MAX &&
           (!g->align || !a->align || (g->align == a->align && !((g->aligned_at ^ a->at) & a->align)));
}

static void join(struct tr *t, unsigned use, const struct access *a)
{
    unsigned i = 0;
    if (a->at < -GROUP_AT_MAX || a->at > GROUP_AT_MAX || !a->size)
        return;
    while (i < t->groups && !may_join(&t->group[i], a))
        i++;
    if (i == GROUPS_MAX)
        return;
    struct group *g = &t->group[i];
    int32_t lo = (int32_t)a->at, hi = (int32_t)(a->at + a->size);
    if (i == t->groups) {
        t->groups++;
        *g = (struct group){.gpr = (uint8_t)a->gpr, .lo = lo, .hi = hi};
    }
    g->lo = MIN(g->lo, lo);
    g->hi = MAX(g->hi, hi);
    g->write |= a->write;
    if (a->align) {
        g->align = (uint8_t)a->align;
        g->aligned_at = lo;
    }
    g->uses++;
    /* Until the groups are complete, `at` counts from the register. */
    t->cur->use[use] = (struct use){true, (uint8_t)i, lo};
}

static void track_access(struct tr *t, const struct tracker *k, unsigned use, struct access a)
{
    if (k->unknown >> a.gpr & 1)
        return;
    a.at += k->by[a.gpr];
    join(t, use, &a);
}

/* A word pushed or popped: 8 bytes at `before` from RSP, which changes by `after`. */
static void track_stack_word(struct tr *t, struct tracker *k, int32_t before, bool write, int32_t after)
{
    track_access(t, k, USE_STACK, (struct access){.gpr = R_RSP, .size = 8, .at = before, .write = write});
    k->by[R_RSP] += after;
}

static void track_operand(struct tr *t, const struct tracker *k)
{
    const struct operand *op = tr_memory_operand(t);
    if (t->cur->bit_string)
        return;
    if (!op || op->mem_type != ZYDIS_MEMOP_TYPE_MEM || op->index != R_ZERO || t->cur->dt.seg >= S_FS ||
        op->cls != ZYDIS_REGCLASS_GPR64)
        return;
    track_access(t, k, USE_OPERAND, (struct access){.gpr = op->reg,
                                                    .size = op->size / 8u,
                                                    .align = tr_operand_align(t),
                                                    .at = t->cur->dt.disp,
                                                    .write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE});
}

/* Whether all that the instruction does to the register in its first operand is to add a constant. */
static bool constant_step(const struct tr *t, unsigned *gpr, int32_t *by)
{
    const struct decoded *dt = &t->cur->dt;
    const struct operand *op = t->cur->dt.op;
    if (op[0].type != ZYDIS_OPERAND_TYPE_REGISTER || op[0].cls != ZYDIS_REGCLASS_GPR64)
        return false;
    bool immediate = op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && dt->imm_len <= 4;
    int64_t x = 0;
    switch (dt->mnemonic) {
    case ZYDIS_MNEMONIC_INC: x = 1; break;
    case ZYDIS_MNEMONIC_DEC: x = -1; break;
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
        if (!immediate)
            return false;
        x = dt->mnemonic == ZYDIS_MNEMONIC_ADD ? dt->imm : -dt->imm;
        break;
    case ZYDIS_MNEMONIC_LEA:
        if (op[1].cls != op[0].cls || op[1].reg != op[0].reg || op[1].index != R_ZERO)
            return false;
        x = dt->disp;
        break;
    default: return false;
    }
    *gpr = op[0].reg;
    *by = (int32_t)x;
    return x > -(1 << 20) && x < 1 << 20;
}

static void track(struct tr *t, struct tracker *k)
{
    const struct cur *c = t->cur;
    const struct decoded *dt = &c->dt;
    uint16_t written = c->dt.writes;
    unsigned gpr;
    int32_t by;
    if (t->cur->native) {
        switch (dt->mnemonic) {
        case ZYDIS_MNEMONIC_PUSH: /* a memory operand is checked by itself */
        case ZYDIS_MNEMONIC_PUSHFQ:
        case ZYDIS_MNEMONIC_CALL: track_stack_word(t, k, -8, true, -8); return;
        case ZYDIS_MNEMONIC_POPFQ:
        case ZYDIS_MNEMONIC_RET: track_stack_word(t, k, 0, false, 8); return;
        case ZYDIS_MNEMONIC_POP:
            track_stack_word(t, k, 0, false, 8);
            if (!pops_rsp(t))
                written &= (uint16_t)~(1u << R_RSP);
            break;
        case ZYDIS_MNEMONIC_LEA: break;
        default: track_operand(t, k);
        }
    }
    if (constant_step(t, &gpr, &by)) {
        k->by[gpr] += by;
        written &= (uint16_t)~(1u << gpr);
    }
    k->unknown |= written;
}

/* Groups with more than one use stay; `at` of their uses becomes relative to their lowest byte. */
static void choose_groups(struct tr *t)
{
    if (!t->long64 || (t->key.bits & KEY_PLAIN))
        return;
    struct tracker k = {0};
    for (t->n = 0; t->n < t->count; t->n++) {
        t->cur = &t->insn[t->n];
        if (t->cur->dt.valid)
            track(t, &k);
    }
    unsigned kept = 0, becomes[GROUPS_MAX];
    struct group old[GROUPS_MAX];
    memcpy(old, t->group, sizeof(old));
    for (unsigned i = 0; i < t->groups; i++) {
        becomes[i] = kept;
        old[i].lo -= (old[i].lo - old[i].aligned_at) & old[i].align; /* so that it is aligned */
        if (old[i].uses > 1)
            t->group[kept++] = old[i];
    }
    for (unsigned n = 0; n < t->count; n++)
        for (unsigned u = 0; u < ARRAY_LEN(t->insn[n].use); u++) {
            struct use *use = &t->insn[n].use[u];
            use->yes = use->yes && old[use->group].uses > 1;
            use->at -= old[use->group].lo;
            use->group = (uint8_t)becomes[use->group];
        }
    t->groups = kept;
}

/* Whether the current instruction may go to its handler, which may fault: for an access that is not checked with a group,
 * or for what else it checks. */
static bool has_slow_path(const struct tr *t)
{
    const struct cur *c = t->cur;
    const struct operand *mem = tr_memory_operand(t);
    switch (c->dt.mnemonic) {
    case ZYDIS_MNEMONIC_LEA: return false;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_LEAVE: return true;
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP: return !c->use[USE_STACK].yes || (mem && !c->use[USE_OPERAND].yes);
    default: return mem && !c->use[USE_OPERAND].yes;
    }
}

/* Whether the flags before the current instruction can be seen by it, given whether those behind it can. */
static bool sees_flags(const struct tr *t, bool seen_after)
{
    const struct cur *c = t->cur;
    if (!c->harmless || has_slow_path(t) || c->dt.flags_read || (c->dt.flags & INSN_ENDS))
        return true;
    return !c->produces && seen_after;
}

static void find_dead_flags(struct tr *t)
{
    bool seen = true;
    for (t->n = t->count; t->n-- > 0; ) {
        t->cur = &t->insn[t->n];
        t->cur->flags_dead = !seen;
        seen = sees_flags(t, seen);
    }
    t->flags_seen = seen;
}

/* At the block's entry. A check that fails jumps to the variant without groups. Returns how many jumps wait for it. */
static unsigned check_groups(struct tr *t, uint32_t failed[GROUP_CHECKS_MAX])
{
    struct emit *e = &t->e;
    unsigned checks = 0;
    for (unsigned i = 0; i < t->groups; i++) {
        const struct group *g = &t->group[i];
        enum host_reg base = tr_host_reg(g->gpr);
        if (base == H_NONE)
            emit_load(e, base = H_R10, tr_spill_slot(g->gpr));
        emit_lea(e, H_R10, hm_base(base, g->lo));
        failed[checks++] = emit_jcc_fwd(e, probe_tlb(t, (unsigned)(g->hi - g->lo), g->write, 0));
        if (g->align) {
            struct host_insn test = {.opcode = 0xf6, .modrm = true, .rm = H_R10, .imm_len = 1, .imm = {g->align}};
            emit_insn(e, &test);
            failed[checks++] = emit_jcc_fwd(e, HC_NZ);
        }
        emit_alu_rm(e, 0, H_R10, hm_gs(H_R11, offsetof(struct tlb_entry, host)));
        emit_store(e, HOT_AT(group, i), H_R10);
        t->r10_group = i;
        t->r10_insn = 0;
    }
    return checks;
}

/* ---- second pass ---- */

static void translate_insn(struct tr *t)
{
    struct cur *c = t->cur;
    c->first_stub = t->stubs;
    if (!t->fl.host && !t->fl.mem && recipe_breaks(t))
        tr_flags_to_memory(t); /* nothing else has them then */
    if (c->dt.flags & INSN_ENDS)
        store_fip(t, &t->fip);
    if (!c->dt.valid || !tr_insn(t))
        tr_call_handler(t);
    end_insn(t);
}

/* The scratch memory: nothing of it need be cleared. */
enum { STUBS_AT = 96 << 10 };
_Static_assert(BLOCK_MAX * sizeof(struct cur) <= STUBS_AT, "the scratch memory holds the longest block");
_Static_assert(STUBS_AT + STUBS_MAX * sizeof(struct stub) <= SCRATCH_LEN, "and its stubs");

static bool out_of_room(struct dbt *d)
{
    return d->blocks == BLOCK_COUNT_MAX || d->sites + STUBS_MAX > SITE_COUNT_MAX ||
           d->links + STUBS_MAX > LINK_COUNT_MAX;
}

void crossing_bytes(const struct dbt *d, uint32_t page, uint32_t off, uint32_t page2, uint8_t out[INSN_BYTES_MAX])
{
    uint32_t head = PAGE_SIZE - off;
    memcpy(out, mem_page_host(d->mem, page) + off, head);
    memcpy(out + head, mem_page_host(d->mem, page2), INSN_BYTES_MAX - head);
}

/* The page of the second part of an instruction that begins at va and crosses, MEM_NO_PAGE when it does not. Raises the
 * fetch's fault. */
static bool second_page(struct dbt *d, uint64_t va, uint32_t page, uint32_t *out)
{
    uint32_t off = (uint32_t)(va & PAGE_MASK), head = PAGE_SIZE - off;
    struct insn in;
    *out = MEM_NO_PAGE;
    if (head >= INSN_BYTES_MAX || insn_decode(d->v, mem_page_host(d->mem, page) + off, head, 0, &in))
        return true;
    uint64_t next = va + head;
    *out = mmu_fetch_page(d->v, cpu_of(d->v)->mode == MODE_LONG64 ? next : (uint32_t)next);
    return *out != MEM_NO_PAGE; /* else the rest comes from a device */
}

/* *full: the arena was. */
static struct block *translate_once(struct dbt *d, uint64_t va, uint32_t page, const struct key *k, unsigned most,
                                    bool publish, bool *full)
{
    uint32_t page2;
    if (!second_page(d, va, page, &page2))
        return NULL;
    struct tr *t = &(struct tr){.d = d,
                                .key = *k,
                                .long64 = k->mode == MODE_LONG64,
                                .va = va,
                                .page = page,
                                .page2 = page2,
                                .block = d->blocks,
                                .insn = d->scratch,
                                .stub = (struct stub *)(void *)((uint8_t *)d->scratch + STUBS_AT),
                                .fl = {.mem = true},
                                .r10_insn = R10_UNKNOWN,
                                .held = {R_ZERO, R_ZERO}};
    t->e = (struct emit){.base = d->arena.map.rw, .pos = d->pos, .end = d->arena.cold};
    struct emit *e = &t->e;
    if (page2 != MEM_NO_PAGE)
        crossing_bytes(d, page, (uint32_t)(va & PAGE_MASK), page2, t->crossing);
    uint32_t len = scan(t, page2 != MEM_NO_PAGE ? 1 : most);
    if (!t->count)
        return NULL;
    choose_groups(t);
    find_dead_flags(t);

    t->entry = e->pos;
    emit_alu_ri(e, 5, H_R15, (int32_t)t->count, true);
    uint32_t expired = emit_jcc_fwd(e, HC_S), failed[GROUP_CHECKS_MAX];
    struct page_check second = {0};
    if (page2 != MEM_NO_PAGE) {
        uint64_t next = (va & ~(uint64_t)PAGE_MASK) + PAGE_SIZE;
        second = check_page(t, t->long64 ? next : (uint32_t)next, page2);
    }
    bool body = t->loops && page2 == MEM_NO_PAGE && !(k->bits & KEY_PLAIN);
    if (body)
        tr_prepare(t);
    unsigned checks = check_groups(t, failed);
    t->body_wants_flags = body && t->insn[0].dt.flags_read;
    if (t->body_wants_flags)
        tr_want_flags(t);
    t->body = body ? e->pos : 0;
    for (t->n = 0; t->n < t->count; t->n++) {
        t->cur = &t->insn[t->n];
        translate_insn(t);
    }
    if (!t->ended)
        tr_exit(t, t->long64 ? va + len : (uint32_t)(va + len));
    d->last.stubs = e->pos;
    emit_stubs(t, false);
    d->last.end = e->pos;
    d->last.cold = d->cold_pos;
    if ((*full = e->full))
        return NULL;
    *e = (struct emit){.base = e->base, .pos = d->cold_pos, .end = (uint32_t)d->arena.map.len};
    if (checks) {
        for (unsigned i = 0; i < checks; i++)
            emit_patch(e, failed[i], e->pos);
        emit_lea(e, H_R15, hm_base(H_R15, (int32_t)t->count));
        exit_to(t, va, false, true);
    }
    emit_stubs(t, true);
    emit_patch(e, expired, e->pos);
    for (unsigned i = 0; i < 2 && second.page_pos; i++)
        emit_patch(e, second.miss[i], e->pos);
    emit_lea(e, H_R15, hm_base(H_R15, (int32_t)t->count));
    uint32_t dead_stub = e->pos;
    emit_mov_ri(e, H_R11, t->block);
    emit_jmp(e, d->arena.leave);
    if ((*full = e->full))
        return NULL;

    struct block *b = &d->block[d->blocks++];
    *b = (struct block){.va = va,
                        .page = page,
                        .page2 = page2,
                        .off = (uint16_t)(va & PAGE_MASK),
                        .len = (uint16_t)len,
                        .key = t->key,
                        .count = (uint8_t)t->count,
                        .entry = t->entry,
                        .dead_stub = dead_stub};
    d->stats.blocks++;
    d->stats.insns += t->count;
    d->stats.bytes += d->last.end - d->pos + e->pos - d->cold_pos;
    d->pos = (d->last.end + 15) & ~15u;
    d->cold_pos = e->pos;
    d->sites += t->sites;
    d->links += t->links;
    block_publish(d, b, publish);
    return b;
}

struct block *translate(struct dbt *d, uint64_t va, uint32_t page, const struct key *k, unsigned most, bool publish)
{
    bool full = false;
    if (out_of_room(d))
        blocks_flush(d);
    struct block *b = translate_once(d, va, page, k, most, publish, &full);
    if (full) {
        blocks_flush(d);
        b = translate_once(d, va, page, k, most, publish, &full);
        CHECK(!full, "a block needs more than an empty arena of %zu bytes", (size_t)d->arena.map.len);
    }
    return b;
}
