/* exec/x86/far.c: far JMP, CALL and RET: real mode, segments, call gates of all sizes, TSS and task gates (SDM vol. 3, 5.8). */
#include "exec/x86/lower.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

struct target { uint16_t sel; uint64_t off; };

static uint64_t load(struct vcpu *v, unsigned seg, uint64_t ea, unsigned size)
{
    return size == 8 ? ld64(v, seg, ea) : size == 4 ? ld32(v, seg, ea) : ld16(v, seg, ea);
}

/* m16:16, m16:32, m16:64, or the immediate pointer, which the lower function put into imm (offset) and disp (selector). */
static struct target far_target(struct vcpu *v, const struct insn *in)
{
    if (!(in->flags & INSN_MEM))
        return (struct target){.sel = (uint16_t)in->disp, .off = in->imm};
    uint64_t ea = insn_ea(v, in);
    uint64_t off = load(v, in->seg, ea, in->opsize);
    return (struct target){.sel = ld16(v, in->seg, ea + in->opsize), .off = off};
}

static void check_direct_code(struct vcpu *v, uint16_t sel, uint16_t attr)
{
    unsigned dpl = seg_dpl(attr), cpl = v->s.cpl;
    bool ok = attr_is_conforming(attr) ? dpl <= cpl : dpl == cpl && sel_rpl(sel) <= cpl;
    if (cpu_long(v) && (attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
        ok = false;
    if (!ok)
        vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(sel, 0));
}

/* ---- real and virtual-8086 mode ---- */

static struct seg simple_cs(struct vcpu *v, uint16_t sel)
{
    return v->s.rflags & FL_VM ? seg_vm86(sel) : seg_real(&v->s.seg[S_CS], sel);
}

static void simple_go(struct vcpu *v, struct seg cs, uint64_t off)
{
    v->s.seg[S_CS] = cs;
    v->s.r[R_RIP] = off;
    cpu_mode_update(v);
}

/* ---- call gates ---- */

struct call_gate { uint16_t sel; uint64_t off; unsigned size /* of a pushed word */, params; };

static struct call_gate gate_read(struct vcpu *v, uint16_t sel, const struct desc *d, uint16_t attr)
{
    bool lm = cpu_long(v);
    if (seg_dpl(attr) < MAX(v->s.cpl, sel_rpl(sel)))
        vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(sel, 0));
    bool wide = attr & SYS_32;
    struct call_gate g = {.sel = (uint16_t)bits(d->raw, 31, 16),
                          .size = lm ? 8 : wide ? 4 : 2,
                          .params = lm ? 0 : d->raw >> 32 & 31};
    g.off = (d->raw & 0xffff) | (wide ? bits(d->raw, 63, 48) << 16 : 0);
    if (lm) {
        uint64_t lin;
        uint64_t high = desc_find(v, sel, 16, &lin) ? mmu_ld(v, lin + 8, 8, MMU_SUP) : UINT64_MAX;
        if (bits(high, 44, 40))
            vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
        g.off |= high << 32;
    }
    return g;
}

static struct seg gate_code(struct vcpu *v, const struct call_gate *g, struct desc *d)
{
    if (sel_is_null(g->sel))
        vcpu_raise_err(v, VEC_GP, 0);
    *d = desc_fetch(v, g->sel, VEC_GP, 0);
    uint16_t attr = desc_attr(d->raw);
    bool size_ok = !cpu_long(v) || (attr & (SEG_L | SEG_DB)) == SEG_L;
    if (!attr_is_code(attr) || seg_dpl(attr) > v->s.cpl || !size_ok)
        vcpu_raise_err(v, VEC_GP, sel_error(g->sel, 0));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(g->sel, 0));
    return desc_seg_accessed(d->raw, g->sel);
}

static void gate_jmp(struct vcpu *v, const struct call_gate *g)
{
    struct desc d;
    struct seg cs = gate_code(v, g, &d);
    if (!attr_is_conforming(cs.attr) && seg_dpl(cs.attr) != v->s.cpl) /* a jump changes no privilege */
        vcpu_raise_err(v, VEC_GP, sel_error(g->sel, 0));
    code_check_rip(v, &cs, g->off, 0);
    desc_touch(v, &d);
    code_commit(v, cs, v->s.cpl, g->off);
}

/* Copy the caller's parameters; the last pushed one comes last again. */
static void push_params(struct vcpu *v, const struct call_gate *g, struct frame *f)
{
    for (unsigned i = g->params; i > 0; i--)
        frame_push(f, stack_peek(v, g->size, (i - 1) * g->size));
}

static void gate_call(struct vcpu *v, const struct call_gate *g, uint64_t next)
{
    struct desc d, ss_desc = {0};
    struct seg cs = gate_code(v, g, &d);
    unsigned cpl = attr_is_conforming(cs.attr) ? v->s.cpl : seg_dpl(cs.attr);
    bool inner = cpl != v->s.cpl;
    struct frame f = {.size = g->size};
    struct stack st;
    if (!inner)
        st = stack_current(v, 0);
    else if (cpu_long(v))
        st = stack_from_tss64(v, 4 + 8 * cpl, cpl, 0);
    else
        st = stack_from_tss(v, cpl, 0, &ss_desc);
    st.flat = st.flat || cpu_long(v);
    if (st.flat)
        st.mask = UINT64_MAX;
    if (inner) {
        frame_push(&f, v->s.seg[S_SS].sel);
        frame_push(&f, v->s.r[R_RSP]);
        push_params(v, g, &f);
    }
    frame_push(&f, v->s.seg[S_CS].sel);
    frame_push(&f, next);
    frame_translate(v, &st, &f);
    code_check_rip(v, &cs, g->off, 0);
    desc_touch(v, &d);
    desc_touch(v, &ss_desc);

    frame_write(v, &f);
    code_commit(v, cs, cpl, g->off);
    stack_commit(v, &st);
}

/* ---- tasks ---- */

static void far_to_task(struct vcpu *v, uint16_t sel, const struct desc *d, uint16_t attr, enum task_why why, uint64_t next)
{
    if (cpu_long(v) || seg_dpl(attr) < MAX(v->s.cpl, sel_rpl(sel)))
        vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
    if (attr_type(attr) == SYS_TASK_GATE) {
        if (!(attr & SEG_P))
            vcpu_raise_err(v, VEC_NP, sel_error(sel, 0));
        sel = (uint16_t)bits(d->raw, 31, 16);
    }
    task_switch(v, sel, why, 0, next, false, 0);
}

/* Everything a far JMP or CALL may name but a code segment. */
static void far_to_system(struct vcpu *v, uint16_t sel, const struct desc *d, uint16_t attr, bool call, uint64_t next)
{
    switch (attr_type(attr)) {
    case SYS_CALL16:
        if (cpu_long(v))
            break;
        /* fallthrough */
    case SYS_CALL32: {
        struct call_gate g = gate_read(v, sel, d, attr);
        if (call)
            gate_call(v, &g, next);
        else
            gate_jmp(v, &g);
        return;
    }
    case SYS_TASK_GATE:
    case SYS_TSS16:
    case SYS_TSS32:
    case SYS_TSS16_BUSY: /* task_switch() raises for a busy one */
    case SYS_TSS32_BUSY:
        far_to_task(v, sel, d, attr, call ? TASK_CALL : TASK_JMP, next);
        return;
    default:
        break;
    }
    vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
}

/* ---- JMP ---- */

static void sys_jmp_far(struct vcpu *v, const struct insn *in)
{
    struct target t = far_target(v, in);
    if (!cpu_protected(v)) {
        struct seg cs = simple_cs(v, t.sel);
        code_check_rip(v, &cs, t.off, 0);
        simple_go(v, cs, t.off);
        return;
    }
    if (sel_is_null(t.sel))
        vcpu_raise_err(v, VEC_GP, 0);
    struct desc d = desc_fetch(v, t.sel, VEC_GP, 0);
    uint16_t attr = desc_attr(d.raw);
    if (!(attr & SEG_S)) {
        far_to_system(v, t.sel, &d, attr, false, insn_next(v, in));
        return;
    }
    if (!attr_is_code(attr))
        vcpu_raise_err(v, VEC_GP, sel_error(t.sel, 0));
    check_direct_code(v, t.sel, attr);
    struct seg cs = desc_seg_accessed(d.raw, t.sel);
    code_check_rip(v, &cs, t.off, 0);
    desc_touch(v, &d);
    code_commit(v, cs, v->s.cpl, t.off);
}

/* ---- CALL ---- */

/* From 64-bit mode into a segment of other code, the pushes are made as that code would. */
static void translate_return(struct vcpu *v, const struct insn *in, const struct seg *cs, struct stack *st, struct frame *f)
{
    *st = stack_current(v, 0);
    if (st->flat && !code_is_64(v, cs)) {
        st->flat = false;
        st->mask = st->ss.attr & SEG_DB ? UINT32_MAX : 0xffff;
        st->rsp = (uint32_t)st->rsp;
    }
    *f = (struct frame){.size = in->opsize};
    frame_push(f, v->s.seg[S_CS].sel);
    frame_push(f, insn_next(v, in));
    frame_translate(v, st, f);
}

static void sys_call_far(struct vcpu *v, const struct insn *in)
{
    struct target t = far_target(v, in);
    struct desc d = {0};
    struct seg cs;
    if (!cpu_protected(v)) {
        cs = simple_cs(v, t.sel);
    } else {
        if (sel_is_null(t.sel))
            vcpu_raise_err(v, VEC_GP, 0);
        d = desc_fetch(v, t.sel, VEC_GP, 0);
        uint16_t attr = desc_attr(d.raw);
        if (!(attr & SEG_S)) {
            far_to_system(v, t.sel, &d, attr, true, insn_next(v, in));
            return;
        }
        if (!attr_is_code(attr))
            vcpu_raise_err(v, VEC_GP, sel_error(t.sel, 0));
        check_direct_code(v, t.sel, attr);
        cs = desc_seg_accessed(d.raw, t.sel);
    }
    struct stack st;
    struct frame f;
    translate_return(v, in, &cs, &st, &f);
    code_check_rip(v, &cs, t.off, 0);
    desc_touch(v, &d);

    frame_write(v, &f);
    v->s.r[R_RSP] = st.rsp;
    if (cpu_protected(v))
        code_commit(v, cs, v->s.cpl, t.off);
    else
        simple_go(v, cs, t.off);
}

/* ---- RET ---- */

/* To an outer level: the caller's stack lies above the parameters. */
static void return_outer(struct vcpu *v, const struct insn *in, struct seg cs, const struct desc *cs_desc, uint64_t rip)
{
    unsigned size = in->opsize, params = (unsigned)in->imm, cpl = sel_rpl(cs.sel);
    struct desc ss_desc;
    uint16_t ss_sel = (uint16_t)stack_peek(v, 2, 3 * size + params);
    uint64_t rsp = stack_peek(v, size, 2 * size + params);
    struct seg ss = seg_check_ss(v, ss_sel, cpl, code_is_64(v, &cs), VEC_GP, 0, &ss_desc);
    code_check_rip(v, &cs, rip, 0);
    desc_touch(v, cs_desc);
    desc_touch(v, &ss_desc);

    code_commit(v, cs, cpl, rip);
    v->s.seg[S_SS] = ss;
    cpu_mode_update(v);
    stack_set_rsp(v, rsp + params);
    seg_drop_inner(v);
}

static void sys_ret_far(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize;
    uint16_t sel = (uint16_t)stack_peek(v, 2, size); /* of CS only two bytes are read, and first */
    uint64_t rip = stack_peek(v, size, 0), released = 2 * size + in->imm;
    if (!cpu_protected(v)) {
        struct seg cs = simple_cs(v, sel);
        code_check_rip(v, &cs, rip, 0);
        stack_set_rsp(v, v->s.r[R_RSP] + released);
        simple_go(v, cs, rip);
        return;
    }
    struct desc d;
    struct seg cs = code_check_return(v, sel, &d);
    if (sel_rpl(sel) != v->s.cpl) {
        return_outer(v, in, cs, &d, rip);
        return;
    }
    code_check_rip(v, &cs, rip, 0);
    desc_touch(v, &d);
    stack_set_rsp(v, v->s.r[R_RSP] + released);
    code_commit(v, cs, v->s.cpl, rip);
}

/* ---- lowering ---- */

static bool lower_far(struct lower *lo, insn_fn fn)
{
    if (lo->op[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
        lo->out->disp = lo->op[0].ptr.segment;
        lo->out->imm = lo->op[0].ptr.offset;
        if (lo->out->opsize == 2)
            lo->out->imm &= 0xffff;
    }
    return lower_ends(lo, fn, 0);
}

bool lower_jmp_far(struct lower *lo) { return lower_far(lo, sys_jmp_far); }
bool lower_call_far(struct lower *lo) { return lower_far(lo, sys_call_far); }

bool lower_ret_far(struct lower *lo)
{
    lo->out->imm = lower_is_imm(lo, 0) ? lo->op[0].imm.value.u & 0xffff : 0;
    return lower_ends(lo, sys_ret_far, 0);
}
