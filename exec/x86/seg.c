/* exec/x86/seg.c: descriptors and segment registers. See seg.h; SDM vol. 3 chapters 3 and 5. */
#include "exec/x86/seg.h"

enum { VM86_ATTR = SEG_P | 3 << 5 | SEG_S | SEG_WRITE | SEG_ACCESSED, REAL_ATTR = SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED };

/* ---- descriptors ---- */

bool desc_find(struct vcpu *v, uint16_t sel, unsigned len, uint64_t *lin_out)
{
    const struct seg *ldt = &v->s.seg[S_LDTR];
    uint32_t off = sel & 0xfff8;
    uint64_t base = v->s.gdtr.base;
    uint32_t limit = v->s.gdtr.limit;
    if (sel & 4) {
        if ((ldt->attr & SEG_NULL) || !(ldt->attr & SEG_P))
            return false;
        base = ldt->base;
        limit = ldt->limit;
    }
    if (off + len - 1 > limit)
        return false;
    *lin_out = cpu_long(v) ? base + off : (uint32_t)(base + off);
    return true;
}

struct desc desc_fetch(struct vcpu *v, uint16_t sel, enum vector vec, unsigned ext)
{
    struct desc d;
    if (!desc_find(v, sel, 8, &d.lin))
        vcpu_raise_err(v, vec, sel_error(sel, ext));
    d.raw = mmu_ld(v, d.lin, 8, MMU_SUP);
    return d;
}

struct seg desc_seg(uint64_t raw, uint16_t sel)
{
    struct seg g = {.sel = sel, .attr = desc_attr(raw)};
    g.base = bits(raw, 39, 16) | (raw >> 56) << 24;
    g.limit = (uint32_t)(bits(raw, 15, 0) | bits(raw, 51, 48) << 16);
    if (g.attr & SEG_G)
        g.limit = g.limit << PAGE_SHIFT | PAGE_MASK;
    return g;
}

struct seg desc_seg_accessed(uint64_t raw, uint16_t sel)
{
    struct seg g = desc_seg(raw, sel);
    g.attr |= SEG_ACCESSED;
    return g;
}

void desc_touch(struct vcpu *v, const struct desc *d)
{
    if (d->lin && !(d->raw >> 40 & SEG_ACCESSED))
        mmu_st(v, d->lin + 5, 1, (d->raw >> 40 & 0xff) | SEG_ACCESSED, MMU_SUP);
}

uint64_t desc_base64(struct vcpu *v, const struct desc *d, uint16_t sel, enum vector vec)
{
    uint64_t lin;
    if (!desc_find(v, sel, 16, &lin))
        vcpu_raise_err(v, vec, sel_error(sel, 0));
    uint64_t high = mmu_ld(v, lin + 8, 8, MMU_SUP);
    if (bits(high, 44, 40))
        vcpu_raise_err(v, vec, sel_error(sel, 0));
    return desc_seg(d->raw, sel).base | high << 32;
}

/* ---- limit and type checks of data accesses ---- */

bool seg_covers(const struct seg *g, uint64_t off, uint32_t size)
{
    uint64_t last = off + size - 1;
    bool down = (g->attr & (SEG_S | SEG_CODE | SEG_DOWN)) == (SEG_S | SEG_DOWN);
    if (!down)
        return last <= g->limit;
    return off > g->limit && last <= (g->attr & SEG_DB ? UINT32_MAX : 0xffffu);
}

void seg_check(struct vcpu *v, unsigned seg, uint64_t ea, uint32_t size, bool write)
{
    const struct seg *g = &v->s.seg[seg];
    bool ok = seg_covers(g, ea, size);
    if (cpu_protected(v)) { /* VM86 and real mode know limits only */
        ok = ok && !(g->attr & SEG_NULL);
        ok = ok && (write ? attr_is_writable(g->attr) : attr_is_readable(g->attr));
    }
    if (!ok)
        vcpu_raise_err(v, seg == S_SS ? VEC_SS : VEC_GP, 0);
}

/* ---- loading segment registers ---- */

struct seg seg_real(const struct seg *old, uint16_t sel)
{
    return (struct seg){.base = (uint64_t)sel << 4,
                        .limit = old->attr & SEG_NULL ? 0xffff : old->limit,
                        .sel = sel,
                        .attr = (uint16_t)(REAL_ATTR | (old->attr & (SEG_DB | SEG_G)))};
}

struct seg seg_vm86(uint16_t sel)
{
    return (struct seg){.base = (uint64_t)sel << 4, .limit = 0xffff, .sel = sel, .attr = VM86_ATTR};
}

struct seg seg_null(uint16_t sel)
{
    return (struct seg){.sel = sel, .attr = SEG_NULL};
}

struct seg seg_check_ss(struct vcpu *v, uint16_t sel, unsigned cpl, bool code64, enum vector vec, unsigned ext, struct desc *d)
{
    *d = (struct desc){0};
    if (sel_is_null(sel)) {
        if (code64 && cpl != 3 && sel_rpl(sel) == cpl) {
            struct seg g = seg_null(sel);
            g.attr |= (uint16_t)(cpl << 5); /* SS.DPL is the CPL */
            return g;
        }
        vcpu_raise_err(v, vec, ext);
    }
    *d = desc_fetch(v, sel, vec, ext);
    uint16_t attr = desc_attr(d->raw);
    if (sel_rpl(sel) != cpl || !attr_is_writable(attr) || seg_dpl(attr) != cpl)
        vcpu_raise_err(v, vec, sel_error(sel, ext));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_SS, sel_error(sel, ext));
    return desc_seg_accessed(d->raw, sel);
}

struct seg seg_check_data(struct vcpu *v, uint16_t sel, unsigned cpl, enum vector vec, struct desc *d)
{
    *d = (struct desc){0};
    if (sel_is_null(sel))
        return seg_null(sel);
    *d = desc_fetch(v, sel, vec, 0);
    uint16_t attr = desc_attr(d->raw);
    bool privileged = !attr_is_conforming(attr) && MAX(cpl, sel_rpl(sel)) > seg_dpl(attr);
    if (!attr_is_readable(attr) || privileged)
        vcpu_raise_err(v, vec, sel_error(sel, 0));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(sel, 0));
    return desc_seg_accessed(d->raw, sel);
}

static struct seg seg_for(struct vcpu *v, unsigned sreg, uint16_t sel)
{
    if (!cpu_protected(v))
        return v->s.rflags & FL_VM ? seg_vm86(sel) : seg_real(&v->s.seg[sreg], sel);
    struct desc d;
    unsigned cpl = v->s.cpl;
    bool code64 = cpu_of(v)->mode == MODE_LONG64;
    struct seg g = sreg == S_SS ? seg_check_ss(v, sel, cpl, code64, VEC_GP, 0, &d)
                                : seg_check_data(v, sel, cpl, VEC_GP, &d);
    desc_touch(v, &d);
    return g;
}

void seg_load(struct vcpu *v, unsigned sreg, uint16_t sel)
{
    v->s.seg[sreg] = seg_for(v, sreg, sel);
    cpu_mode_update(v);
}

void seg_drop_inner(struct vcpu *v)
{
    static const uint8_t data_segs[] = {S_ES, S_DS, S_FS, S_GS};
    for (unsigned i = 0; i < ARRAY_LEN(data_segs); i++) {
        struct seg *g = &v->s.seg[data_segs[i]];
        if ((g->attr & SEG_NULL) || attr_is_conforming(g->attr) || seg_dpl(g->attr) >= v->s.cpl)
            continue;
        g->sel = 0;
        g->attr = SEG_NULL;
    }
    cpu_mode_update(v);
}

/* ---- control transfers ---- */

void code_check_rip(struct vcpu *v, const struct seg *cs, uint64_t rip, unsigned ext)
{
    if (code_is_64(v, cs) ? !va_canonical(rip) : (uint32_t)rip > cs->limit)
        vcpu_raise_err(v, VEC_GP, ext);
}

void code_commit(struct vcpu *v, struct seg cs, unsigned cpl, uint64_t rip)
{
    cs.sel = (uint16_t)((cs.sel & ~3u) | cpl);
    if (cpu_of(v)->mode == MODE_LONG64 && !code_is_64(v, &cs)) /* the manual says undefined; Intel CPUs cut it */
        v->s.r[R_RSP] = (uint32_t)v->s.r[R_RSP];
    v->s.seg[S_CS] = cs;
    v->s.cpl = (uint8_t)cpl;
    v->s.r[R_RIP] = code_is_64(v, &cs) ? rip : (uint32_t)rip;
    cpu_mode_update(v);
}

struct seg code_check_return(struct vcpu *v, uint16_t sel, struct desc *d)
{
    if (sel_is_null(sel))
        vcpu_raise_err(v, VEC_GP, 0);
    *d = desc_fetch(v, sel, VEC_GP, 0);
    uint16_t attr = desc_attr(d->raw);
    unsigned rpl = sel_rpl(sel);
    bool dpl_ok = attr_is_conforming(attr) ? seg_dpl(attr) <= rpl : seg_dpl(attr) == rpl;
    bool size_ok = !cpu_long(v) || (attr & (SEG_L | SEG_DB)) != (SEG_L | SEG_DB);
    if (rpl < v->s.cpl || !attr_is_code(attr) || !dpl_ok || !size_ok)
        vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(sel, 0));
    return desc_seg_accessed(d->raw, sel);
}
