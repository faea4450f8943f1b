/* exec/x86/stack.c: pushing whole frames: of events, calls through gates and task switches. All checks and translations
 * precede the first write (rule 2 of mmu.h). See seg.h. */
#include "exec/x86/seg.h"

struct stack stack_current(struct vcpu *v, unsigned ext)
{
    return (struct stack){.ss = v->s.seg[S_SS],
                          .rsp = v->s.r[R_RSP],
                          .mask = cpu_of(v)->stack_mask,
                          .flat = cpu_of(v)->mode == MODE_LONG64,
                          .user = v->s.cpl == 3,
                          .error = ext};
}

/* SDM vol. 3, 7.2.1 and 7.6: a pair of stack pointer and SS for each inner level. */
struct stack stack_from_tss(struct vcpu *v, unsigned cpl, unsigned ext, struct desc *ss_desc)
{
    const struct seg *tr = &v->s.seg[S_TR];
    bool wide = tr->attr & SYS_32;
    unsigned width = wide ? 4 : 2, off = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
    if (off + width + 1 > tr->limit)
        vcpu_raise_err(v, VEC_TS, sel_error(tr->sel, ext));
    uint64_t rsp = mmu_ld(v, (uint32_t)(tr->base + off), width, MMU_SUP);
    uint16_t sel = (uint16_t)mmu_ld(v, (uint32_t)(tr->base + off + width), 2, MMU_SUP);
    struct seg ss = seg_check_ss(v, sel, cpl, false, VEC_TS, ext, ss_desc);
    return (struct stack){.ss = ss,
                          .rsp = rsp,
                          .mask = ss.attr & SEG_DB ? UINT32_MAX : 0xffff,
                          .user = cpl == 3,
                          .error = sel_error(sel, ext)};
}

struct stack stack_from_tss64(struct vcpu *v, unsigned off, unsigned cpl, unsigned ext)
{
    const struct seg *tr = &v->s.seg[S_TR];
    if (off + 7 > tr->limit)
        vcpu_raise_err(v, VEC_TS, sel_error(tr->sel, ext));
    uint64_t rsp = mmu_ld(v, tr->base + off, 8, MMU_SUP);
    if (!va_canonical(rsp))
        vcpu_raise_err(v, VEC_SS, ext);
    struct seg ss = seg_null((uint16_t)cpl);
    ss.attr |= (uint16_t)(cpl << 5);
    return (struct stack){.ss = ss, .rsp = rsp, .mask = UINT64_MAX, .flat = true, .user = cpl == 3, .error = ext};
}

static void translate_piece(struct vcpu *v, const struct stack *st, uint64_t start, uint32_t len, unsigned size,
                            struct span *sp)
{
    /* EFLAGS.AC of a program at CPL 3 does not suspend SMAP for the stack of the level that it enters. */
    bool ac = (v->s.rflags & FL_AC) && v->s.cpl < 3;
    enum mmu_mode mode = st->user ? cpu_of(v)->mmu_mode : ac ? MMU_SUP_AC : MMU_SUP;
    if (st->flat ? !va_canonical(start) || !va_canonical(start + len - 1) : !seg_covers(&st->ss, start, len))
        vcpu_raise_err(v, VEC_SS, st->error);
    uint64_t lin = st->flat ? start : (uint32_t)(st->ss.base + start);
    bool crosses = (lin & PAGE_MASK) + len > PAGE_SIZE;
    uint32_t off = len;
    do { /* faults come in the order of the pushes; within a page the first one decides */
        off -= size;
        mmu_probe(v, st->flat ? lin + off : (uint32_t)(lin + off), size, ACC_WRITE, mode, S_SS);
    } while (off && crosses);
    mmu_span(v, lin, len, ACC_WRITE, mode == MMU_USER_ALIGN ? MMU_USER : mode, S_SS, sp);
}

void frame_translate(struct vcpu *v, struct stack *st, struct frame *f)
{
    uint32_t len = f->count * f->size;
    uint64_t top = st->rsp & st->mask, start = (top - len) & st->mask;
    uint32_t below_top = !top || top >= len ? len : (uint32_t)top; /* bytes before the pointer wraps */
    if (below_top % f->size) /* a word would lie on both ends of the segment */
        vcpu_raise_err(v, VEC_SS, st->error);
    f->split = below_top / f->size;
    translate_piece(v, st, (top - below_top) & st->mask, below_top, f->size, &f->span[0]);
    if (below_top < len)
        translate_piece(v, st, start, len - below_top, f->size, &f->span[1]);
    st->rsp = st->mask == 0xffff ? (st->rsp & ~st->mask) | start : start;
}

static void write_words(struct vcpu *v, const struct frame *f, unsigned from, unsigned to, const struct span *sp)
{
    uint8_t buf[FRAME_MAX * 8];
    uint8_t *p = buf;
    for (unsigned i = to; i > from; i--, p += f->size)
        memcpy(p, &f->word[i - 1], f->size);
    span_write(v, sp, buf);
}

void frame_write(struct vcpu *v, const struct frame *f)
{
    write_words(v, f, 0, f->split, &f->span[0]);
    if (f->split < f->count)
        write_words(v, f, f->split, f->count, &f->span[1]);
}

void stack_commit(struct vcpu *v, const struct stack *st)
{
    v->s.seg[S_SS] = st->ss;
    v->s.r[R_RSP] = st->rsp;
    cpu_mode_update(v);
}
