/* exec/x86/task.c: hardware task switches (SDM vol. 3 chapter 7). IA-32e mode has none: callers raise #GP there.
 *
 * Everything of the old and the new TSS is translated before the first write. From the commit on the new task runs: the
 * rest of the switch (segment descriptors, the error code) may fault, and such a fault is the new task's. */
#include "exec/x86/insn.h"
#include "exec/x86/probe.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

/* Where things are in a TSS. */
struct tss_layout {
    uint8_t width;     /* of a register, bytes */
    uint8_t min_limit;
    uint8_t save, save_len; /* EIP .. last segment selector: what a switch writes to the old task */
    uint8_t cr3;       /* 0: has none */
    uint8_t regs;      /* EAX ECX EDX EBX ESP EBP ESI EDI; EIP and EFLAGS precede them */
    uint8_t segs;      /* ES CS SS DS (FS GS) */
    uint8_t seg_step, seg_count;
    uint8_t ldt;
    uint8_t len;       /* what a switch reads of the new task */
};
static const struct tss_layout tss32 = {.width = 4, .min_limit = 0x67, .save = 0x20, .save_len = 0x40, .cr3 = 0x1c,
                                        .regs = 0x28, .segs = 0x48, .seg_step = 4, .seg_count = 6, .ldt = 0x60, .len = 0x68};
static const struct tss_layout tss16 = {.width = 2, .min_limit = 0x2b, .save = 0x0e, .save_len = 0x1c, .cr3 = 0,
                                        .regs = 0x12, .segs = 0x22, .seg_step = 2, .seg_count = 4, .ldt = 0x2a, .len = 0x2c};
enum { TSS32_TRAP = 0x64, DR7_LOCAL = 0x155 /* L0..L3, LE */ };

static const struct tss_layout *layout(uint16_t attr) { return attr & SYS_32 ? &tss32 : &tss16; }

struct new_task {
    struct desc desc;
    struct seg tr;
    const struct tss_layout *l;
    uint8_t image[0x68];
    struct span link;       /* its back link */
    struct span busy;       /* byte 5 of its descriptor */
    struct span old_save, old_busy;
    bool nests;             /* CALL and events: the old task stays busy and is linked */
    uint64_t pdpte[4];
};

static uint32_t field(const struct new_task *t, unsigned off)
{
    return t->l->width == 4 ? get_le32(t->image + off) : get_le16(t->image + off);
}

/* Which errors the descriptor of the new TSS raises depends on how the switch was asked for (SDM vol. 3, table 7-1). */
static void check_descriptor(struct vcpu *v, struct new_task *t, uint16_t sel, enum task_why why, unsigned ext)
{
    enum vector bad = why == TASK_IRET ? VEC_TS : VEC_GP;
    bool want_busy = why == TASK_IRET;
    if (sel_is_null(sel) || (sel & 4))
        vcpu_raise_err(v, bad, sel_error(sel, ext));
    t->desc = desc_fetch(v, sel, bad, ext);
    uint16_t attr = desc_attr(t->desc.raw);
    unsigned type = attr_type(attr) & ~(unsigned)SYS_BUSY;
    bool is_tss = !(attr & SEG_S) && (type == SYS_TSS16 || type == SYS_TSS32);
    if (!is_tss || !!(attr & SYS_BUSY) != want_busy)
        vcpu_raise_err(v, bad, sel_error(sel, ext));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(sel, ext));
    t->tr = desc_seg(t->desc.raw, sel);
    t->tr.attr |= SYS_BUSY;
    t->l = layout(attr);
    if (t->tr.limit < t->l->min_limit)
        vcpu_raise_err(v, VEC_TS, sel_error(sel, ext));
}

static void translate(struct vcpu *v, struct new_task *t, enum task_why why, unsigned ext)
{
    const struct seg *old = &v->s.seg[S_TR];
    const struct tss_layout *ol = layout(old->attr);
    uint32_t base = (uint32_t)t->tr.base;
    struct span read;
    uint64_t old_desc = 0;
    if (old->limit < ol->min_limit)
        vcpu_raise_err(v, VEC_TS, sel_error(old->sel, ext));
    mmu_span(v, base, t->l->len, ACC_READ, MMU_SUP, S_DS, &read);
    span_read(v, &read, t->image);
    if (!t->nests && !desc_find(v, old->sel, 8, &old_desc))
        vcpu_raise_err(v, VEC_TS, sel_error(old->sel, ext));
    if (t->nests)
        mmu_span(v, base, 2, ACC_WRITE, MMU_SUP, S_DS, &t->link);
    else
        mmu_span(v, old_desc + 5, 1, ACC_RMW, MMU_SUP, S_DS, &t->old_busy);
    if (why != TASK_IRET)
        mmu_span(v, t->desc.lin + 5, 1, ACC_RMW, MMU_SUP, S_DS, &t->busy);
    mmu_span(v, (uint32_t)(old->base + ol->save), ol->save_len, ACC_WRITE, MMU_SUP, S_DS, &t->old_save);
}

static void write_busy(struct vcpu *v, const struct span *sp, bool busy)
{
    uint8_t attr;
    span_read(v, sp, &attr);
    attr = (uint8_t)(busy ? attr | SYS_BUSY : attr & ~SYS_BUSY);
    span_write(v, sp, &attr);
}

static void put(uint8_t *p, unsigned width, uint64_t x)
{
    if (width == 4)
        put_le32(p, (uint32_t)x);
    else
        put_le16(p, (uint16_t)x);
}

/* The old task's registers. The upper halves of 32-bit selector slots are written as 0. */
static void save_old(struct vcpu *v, const struct new_task *t, enum task_why why, uint64_t next_rip)
{
    const struct tss_layout *l = layout(v->s.seg[S_TR].attr);
    uint8_t image[0x40] = {0};
    uint64_t flags = vcpu_rflags(&v->s) & ~(uint64_t)(why == TASK_IRET ? FL_NT : 0);
    put(image, l->width, next_rip);
    put(image + l->width, l->width, flags);
    for (unsigned i = R_RAX; i <= R_RDI; i++)
        put(image + (l->regs - l->save) + i * l->width, l->width, v->s.r[i]);
    for (unsigned i = 0; i < l->seg_count; i++)
        put_le16(image + (l->segs - l->save) + i * l->seg_step, v->s.seg[i].sel);
    span_write(v, &t->old_save, image);
}

static void load_registers(struct vcpu *v, const struct new_task *t)
{
    const struct tss_layout *l = t->l;
    uint64_t flags = field(t, l->regs - l->width) | (t->nests ? FL_NT : 0);
    if (l->width == 2)
        flags &= 0xffff;
    for (unsigned i = R_RAX; i <= R_RDI; i++) {
        uint32_t x = field(t, l->regs + i * l->width);
        v->s.r[i] = l->width == 4 ? x : x | 0xffff0000u; /* the upper halves are undefined; one value for all engines */
    }
    vcpu_set_rflags(&v->s, flags);
    v->s.r[R_RIP] = field(t, l->regs - 2 * l->width);
}

/* Selectors are there, nothing is loaded yet: what a fault in the middle of loading shows (SDM vol. 3, 7.3). */
static void load_selectors(struct vcpu *v, const struct new_task *t)
{
    const struct tss_layout *l = t->l;
    for (unsigned i = S_ES; i <= S_GS; i++)
        v->s.seg[i] = seg_null(i < l->seg_count ? get_le16(t->image + l->segs + i * l->seg_step) : 0);
    v->s.seg[S_LDTR] = seg_null(get_le16(t->image + l->ldt));
    v->s.cpl = v->s.rflags & FL_VM ? 3 : v->s.seg[S_CS].sel & 3;
}

/* At once with all that is derived from it: the next load may fault, in the task as it is then. */
static void set_segment(struct vcpu *v, unsigned sreg, struct seg g)
{
    v->s.seg[sreg] = g;
    cpu_mode_update(v);
}

static void load_ldt(struct vcpu *v, unsigned ext)
{
    uint16_t sel = v->s.seg[S_LDTR].sel;
    if (sel_is_null(sel))
        return;
    if (sel & 4)
        vcpu_raise_err(v, VEC_TS, sel_error(sel, ext));
    struct desc d = desc_fetch(v, sel, VEC_TS, ext);
    uint16_t attr = desc_attr(d.raw);
    if (!attr_is_system(attr, SYS_LDT) || !(attr & SEG_P))
        vcpu_raise_err(v, VEC_TS, sel_error(sel, ext));
    v->s.seg[S_LDTR] = desc_seg(d.raw, sel);
}

static void load_cs(struct vcpu *v, unsigned ext)
{
    uint16_t sel = v->s.seg[S_CS].sel;
    if (sel_is_null(sel))
        vcpu_raise_err(v, VEC_TS, ext);
    struct desc d = desc_fetch(v, sel, VEC_TS, ext);
    uint16_t attr = desc_attr(d.raw);
    unsigned dpl = seg_dpl(attr), rpl = sel_rpl(sel);
    if (!attr_is_code(attr) || (attr_is_conforming(attr) ? dpl > rpl : dpl != rpl))
        vcpu_raise_err(v, VEC_TS, sel_error(sel, ext));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(sel, ext));
    desc_touch(v, &d);
    set_segment(v, S_CS, desc_seg_accessed(d.raw, sel));
}

static void load_segments(struct vcpu *v, unsigned ext)
{
    static const uint8_t data_segs[] = {S_DS, S_ES, S_FS, S_GS};
    struct desc d;
    load_ldt(v, ext);
    if (v->s.rflags & FL_VM) {
        for (unsigned i = S_ES; i <= S_GS; i++)
            set_segment(v, i, seg_vm86(v->s.seg[i].sel));
        return;
    }
    load_cs(v, ext);
    struct seg ss = seg_check_ss(v, v->s.seg[S_SS].sel, v->s.cpl, false, VEC_TS, ext, &d);
    desc_touch(v, &d);
    set_segment(v, S_SS, ss);
    for (unsigned i = 0; i < ARRAY_LEN(data_segs); i++) {
        struct seg g = seg_check_data(v, v->s.seg[data_segs[i]].sel, v->s.cpl, VEC_TS, &d);
        desc_touch(v, &d);
        set_segment(v, data_segs[i], g);
    }
}

static void push_error(struct vcpu *v, const struct tss_layout *l, uint32_t error, unsigned ext)
{
    struct stack st = stack_current(v, ext);
    struct frame f = {.size = l->width};
    frame_push(&f, error);
    frame_translate(v, &st, &f);
    frame_write(v, &f);
    stack_commit(v, &st);
}

/* A new address space: CR3 as it is in the TSS; CR4.PCIDE is clear outside IA-32e mode. */
static void load_cr3(struct vcpu *v, const struct new_task *t)
{
    if (!t->l->cr3 || !(v->s.cr0 & CR0_PG))
        return;
    v->s.cr3 = field(t, t->l->cr3);
    if (v->s.cr4 & CR4_PAE)
        memcpy(v->s.pdpte, t->pdpte, sizeof(v->s.pdpte));
    mmu_paging_changed(v);
}

static void commit(struct vcpu *v, const struct new_task *t, enum task_why why, uint64_t next_rip)
{
    uint8_t link[2];
    put_le16(link, v->s.seg[S_TR].sel);
    if (!t->nests)
        write_busy(v, &t->old_busy, false);
    save_old(v, t, why, next_rip);
    if (t->nests)
        span_write(v, &t->link, link);
    if (why != TASK_IRET)
        write_busy(v, &t->busy, true);
    v->s.seg[S_TR] = t->tr;
    v->s.cr0 |= CR0_TS;
    v->s.dr[7] &= ~(uint64_t)DR7_LOCAL;
    load_cr3(v, t);
    load_registers(v, t);
    load_selectors(v, t);
    cpu_mode_update(v);
    mmu_breakpoints_changed(v);
}

void task_switch(struct vcpu *v, uint16_t sel, enum task_why why, unsigned ext, uint64_t next_rip, bool has_error, uint32_t error)
{
    struct new_task t = {.nests = why == TASK_CALL || why == TASK_EVENT};
    check_descriptor(v, &t, sel, why, ext);
    translate(v, &t, why, ext);
    bool pae = t.l->cr3 && (v->s.cr0 & CR0_PG) && (v->s.cr4 & CR4_PAE);
    if (pae && !pdptes_read(v, field(&t, t.l->cr3), t.pdpte))
        vcpu_raise_err(v, VEC_GP, 0);
    debug_own_step(v, false);
    commit(v, &t, why, next_rip);
    probes_keep(v);

    /* While the switching instruction is current, a fault's RIP is R_RIP plus its offset in the block. */
    uint64_t rip = v->s.r[R_RIP];
    const struct insn *cur = cpu_of(v)->cur;
    v->s.r[R_RIP] = rip - (cur ? cur->off : 0);
    load_segments(v, ext);
    if (has_error)
        push_error(v, t.l, error, ext);
    code_check_rip(v, &v->s.seg[S_CS], rip, 0);
    v->s.r[R_RIP] = rip;
    if (t.l->width == 4 && (t.image[TSS32_TRAP] & 1))
        v->s.pending_db |= DR6_BT;
}
