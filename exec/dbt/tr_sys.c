/* exec/dbt/tr_sys.c: system instructions that need no C code: flags as a word, IF, selectors, SWAPGS. What raises a fault,
 * lets an interrupt in, or changes what code depends on, goes to the handlers. See tr_insn.c. */
#include "exec/dbt/translate.h"

/* CPL is 0: translated code runs at 0 and 3 only. */
static bool kernel(const struct tr *t) { return t->key.mmu_mode != MMU_USER; }

static void load_vcpu(struct tr *t, enum host_reg reg) { emit_load(&t->e, reg, HOT(regs)); }

static void test_ri32(struct tr *t, enum host_reg reg, uint32_t imm)
{
    struct host_insn h = {.opcode = 0xf7, .modrm = true, .rm = (uint8_t)reg, .imm_len = 4};
    put_le32(h.imm, imm);
    emit_insn(&t->e, &h);
}

static void test_mi32(struct tr *t, struct host_mem m, uint32_t imm)
{
    struct host_insn h = {.opcode = 0xf7, .modrm = true, .is_mem = true, .mem = m, .imm_len = 4};
    put_le32(h.imm, imm);
    emit_insn(&t->e, &h);
}

/* ---- IF ---- */

bool tr_cli(struct tr *t, unsigned arg)
{
    (void)arg;
    if (!kernel(t))
        return false;
    tr_clobber_flags(t);
    load_vcpu(t, H_R11);
    emit_alu_mi(&t->e, 4, VCPU_FIELD(H_R11, s.rflags), ~FL_IF, false);
    return true;
}

/* IF becomes 1 unless it is: to the handler when an interrupt waits for that. r11: vcpu. */
static void slow_if_interrupted(struct tr *t)
{
    emit_cmp8_mi(&t->e, VCPU_FIELD(H_R11, intr), 0);
    t->cur->slow_leaves = true;
    tr_slow_if(t, HC_NZ);
}

/* The shadow covers the next instruction. It is of this block, and no interrupt can come between: so nobody can tell that
 * there was none, but the handler of this instruction when it is the block's last. */
bool tr_sti(struct tr *t, unsigned arg)
{
    (void)arg;
    if (!kernel(t) || (t->cur->dt.flags & INSN_ENDS))
        return false;
    tr_clobber_flags(t);
    load_vcpu(t, H_R11);
    test_mi32(t, VCPU_FIELD(H_R11, s.rflags), FL_IF);
    uint32_t set = emit_jcc_fwd(&t->e, HC_NZ);
    slow_if_interrupted(t);
    emit_alu_mi(&t->e, 1, VCPU_FIELD(H_R11, s.rflags), FL_IF, false);
    emit_patch(&t->e, set, t->e.pos);
    return true;
}

/* ---- PUSHF, POPF ---- */

/* RF and VM, which PUSHF masks, are 0 in translated code. */
bool tr_pushf(struct tr *t, unsigned arg)
{
    struct emit *e = &t->e;
    struct host_insn to_bit_11 = {.opcode = 0xc0, .modrm = true, .reg = 4, .rm = H_RAX, .imm_len = 1, .imm = {3}};
    struct host_insn swap = {.p66 = true, .opcode = 0xc1, .modrm = true, .rm = H_RAX, .imm_len = 1, .imm = {8}};
    struct host_insn extend = {.map = 1, .opcode = 0xb7, .modrm = true, .reg = H_RAX, .rm = H_RAX};
    (void)arg;
    if (!t->long64 || t->cur->dt.operand_width != 64)
        return false;
    struct host_mem slot = tr_push_slot(t);
    tr_flags_to_aflags(t);
    emit_mov_rr(e, H_R11, H_RAX);
    struct host_insn load = {.map = 1, .opcode = 0xb7, .modrm = true, .reg = H_RAX, .is_mem = true, .mem = HOT(aflags)};
    emit_insn(e, &load);
    emit_insn(e, &to_bit_11);
    emit_insn(e, &swap);
    emit_insn(e, &extend);
    emit_store(e, slot, H_RAX);
    emit_mov_rr(e, H_RAX, H_R11);
    load_vcpu(t, H_R11);
    emit_load(e, H_R11, VCPU_FIELD(H_R11, s.rflags));
    struct host_insn or = {.opcode = 0x09, .modrm = true, .reg = H_R11, .is_mem = true, .mem = slot, .w = true};
    emit_insn(e, &or);
    t->fl.host = t->fl.host_but_cf = false;
    tr_push_done(t);
    return true;
}

/* r10: RFLAGS to hot.aflags. */
static void set_arith_flags(struct tr *t)
{
    struct emit *e = &t->e;
    struct host_insn shl8 = {.opcode = 0xc1, .modrm = true, .reg = 4, .rm = H_R11, .imm_len = 1, .imm = {8}};
    emit_mov_rr32(e, H_R11, H_R10);
    emit_alu_ri(e, 4, H_R11, FL_ARITH & 0xff, false);
    emit_alu_ri(e, 1, H_R11, 2, false);
    emit_insn(e, &shl8);
    emit_shr_ri32(e, H_R10, 11);
    emit_alu_ri(e, 4, H_R10, 1, false);
    emit_alu_rr(e, 1, H_R11, H_R10, false);
    emit_store16(e, HOT(aflags), H_R11);
    emit_store_imm(e, HOT(cc_op), CC_RAW); /* and cc_inc */
    t->fl = (struct flags_at){.mem = true, .raw = true};
}

/* As long as it changes nothing but arithmetic flags and IF. */
bool tr_popf(struct tr *t, unsigned arg)
{
    struct emit *e = &t->e;
    uint32_t same_if = 0, others = FL_TF | FL_DF | FL_NT | FL_AC | FL_ID | (kernel(t) ? FL_IOPL : 0);
    (void)arg;
    if (!t->long64 || t->cur->dt.operand_width != 64)
        return false;
    t->cur->slow_leaves = true;
    struct host_mem slot = tr_pop_slot(t);
    tr_clobber_flags(t);
    tr_forget_r10(t);
    emit_load(e, H_R10, slot);
    load_vcpu(t, H_R11);
    emit_alu_rm(e, 6, H_R10, VCPU_FIELD(H_R11, s.rflags));
    test_ri32(t, H_R10, others);
    tr_slow_if(t, HC_NZ);
    if (kernel(t)) {
        test_ri32(t, H_R10, FL_IF);
        same_if = emit_jcc_fwd(e, HC_Z);
        slow_if_interrupted(t);
        emit_alu_mi(e, 6, VCPU_FIELD(H_R11, s.rflags), FL_IF, false);
        emit_patch(e, same_if, e->pos);
    } else { /* with IOPL 3 it changes IF */
        test_mi32(t, VCPU_FIELD(H_R11, s.rflags), FL_IOPL);
        tr_slow_if(t, HC_NZ);
    }
    set_arith_flags(t);
    tr_pop_done(t, 8);
    return true;
}

/* ---- segments ---- */

/* MOV of a selector to a register. */
bool tr_from_segment(struct tr *t)
{
    const struct operand *dst = &t->cur->dt.op[0], *src = &t->cur->dt.op[1];
    unsigned gpr = dst->reg, seg = src->reg;
    enum host_reg host = tr_host_reg(gpr);
    struct host_mem sel = VCPU_FIELD(H_R11, s.seg);
    sel.disp += (int32_t)(seg * sizeof(struct seg) + offsetof(struct seg, sel));
    struct host_insn load = {.map = 1, .opcode = 0xb7, .modrm = true, .reg = H_R11, .is_mem = true, .mem = sel};
    struct host_insn move = {.p66 = dst->size == 16, .opcode = 0x89, .modrm = true, .reg = H_R11, .rm = (uint8_t)host};
    load_vcpu(t, H_R11);
    emit_insn(&t->e, &load);
    if (host != H_NONE)
        emit_insn(&t->e, &move);
    else if (dst->size == 16)
        emit_store16(&t->e, tr_spill_slot(gpr), H_R11);
    else
        emit_store(&t->e, tr_spill_slot(gpr), H_R11);
    return true;
}

bool tr_swapgs(struct tr *t, unsigned arg)
{
    struct emit *e = &t->e;
    struct host_mem gs = VCPU_FIELD(H_R11, s.seg), other = VCPU_FIELD(H_R11, s.kernel_gs_base);
    (void)arg;
    if (!t->long64 || !kernel(t))
        return false;
    gs.disp += (int32_t)(S_GS * sizeof(struct seg) + offsetof(struct seg, base));
    tr_forget_r10(t);
    emit_store(e, HOT(tmp), H_RAX);
    load_vcpu(t, H_R11);
    emit_load(e, H_RAX, gs);
    emit_load(e, H_R10, other);
    emit_store(e, gs, H_R10);
    emit_store(e, other, H_RAX);
    emit_store(e, HOT_AT(seg_base, S_GS), H_R10);
    emit_load(e, H_RAX, HOT(tmp));
    emit_load(e, H_R11, HOT(cpu));
    emit_store(e, hm_base(H_R11, (int32_t)offsetof(struct cpu, seg_base) + 8 * S_GS), H_R10);
    return true;
}

/* ---- light.c ---- */

/* Flags are lost; r10: the argument, then the result. */
static void call_light(struct tr *t, light_fn fn)
{
    emit_mov_ri(&t->e, H_R11, (uint64_t)(uintptr_t)fn);
    emit_call(&t->e, t->d->arena.light);
    t->fl.host = t->fl.host_but_cf = false;
}

/* The time is that of the ticks before the instruction. */
bool tr_rdtsc(struct tr *t, unsigned with_aux)
{
    struct emit *e = &t->e;
    int32_t after = (int32_t)(t->count - t->n); /* what the block was charged for that and this one */
    tr_clobber_flags(t);
    tr_forget_r10(t);
    load_vcpu(t, H_R11);
    if (!kernel(t)) {
        test_mi32(t, VCPU_FIELD(H_R11, s.cr4), CR4_TSD);
        tr_slow_if(t, HC_NZ);
    }
    emit_lea(e, H_R10, hm_base(H_R15, after));
    call_light(t, light_tsc);
    emit_mov_rr32(e, H_RAX, H_R10);
    struct host_insn high = {.opcode = 0xc1, .modrm = true, .reg = 5, .rm = H_R10, .w = true, .imm_len = 1, .imm = {32}};
    emit_insn(e, &high);
    emit_mov_rr(e, H_RDX, H_R10);
    if (with_aux) {
        load_vcpu(t, H_R11);
        emit_load32(e, H_RCX, VCPU_FIELD(H_R11, s.tsc_aux));
    }
    return true;
}

/* Behind it, r10 is where to go on. */
static void change_mode(struct tr *t, light_fn fn)
{
    struct host_insn test = {.opcode = 0x85, .modrm = true, .reg = H_R10, .rm = H_R10, .w = true};
    call_light(t, fn);
    emit_insn(&t->e, &test);
    tr_slow_if(t, HC_Z);
}

static void jump_r10(struct tr *t)
{
    struct host_insn jmp = {.opcode = 0xff, .modrm = true, .reg = 4, .rm = H_R10};
    emit_insn(&t->e, &jmp);
}

bool tr_syscall(struct tr *t, unsigned arg)
{
    (void)arg;
    if (!t->long64 || kernel(t))
        return false;
    tr_flags_to_aflags(t);
    tr_forget_r10(t);
    change_mode(t, light_syscall);
    emit_mov_ri(&t->e, H_RCX, tr_next_va(t));
    jump_r10(t);
    return true;
}

bool tr_sysret(struct tr *t, unsigned arg)
{
    (void)arg;
    if (!t->long64 || !kernel(t) || t->cur->dt.operand_width != 64)
        return false;
    tr_flags_to_aflags(t);
    tr_forget_r10(t);
    emit_mov_rr(&t->e, H_R10, H_RCX);
    change_mode(t, light_sysret);
    jump_r10(t);
    return true;
}

bool tr_set_ac(struct tr *t, unsigned on)
{
    if (!t->long64 || !kernel(t))
        return false;
    tr_flags_to_memory(t);
    tr_forget_r10(t);
    emit_mov_ri(&t->e, H_R10, tr_next_va(t));
    change_mode(t, on ? light_stac : light_clac);
    jump_r10(t);
    return true;
}
