/* exec/x86/tables.c: descriptor-table registers (GDTR, IDTR, LDTR, TR) and the instructions that inspect selectors: LAR, LSL,
 * VERR, VERW, ARPL (SDM vol. 2; vol. 3, 5.10). */
#include "exec/x86/insn.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

static void require_cpl0(struct vcpu *v)
{
    if (v->s.cpl)
        vcpu_raise_err(v, VEC_GP, 0);
}

static void check_umip(struct vcpu *v)
{
    if ((v->s.cr4 & CR4_UMIP) && v->s.cpl)
        vcpu_raise_err(v, VEC_GP, 0);
}

static void require_protected(struct vcpu *v)
{
    if (!cpu_protected(v))
        vcpu_raise(v, VEC_UD);
}

/* ---- GDTR, IDTR ---- */

/* Limit and base as one operand: nothing is written when a part faults. Outside 64-bit mode all 32 bits of the base are
 * stored, whatever the operand size (hardware since the 386; SDM's 24 bits describe the 286). */
static void store_table(struct vcpu *v, const struct insn *in, const struct dtable *t)
{
    uint8_t image[10];
    uint32_t len = cpu_of(v)->mode == MODE_LONG64 ? 10 : 6;
    check_umip(v);
    put_le16(image, (uint16_t)t->limit);
    put_le64(image + 2, t->base);
    void *p = wr(v, in->seg, insn_ea(v, in), len);
    memcpy(p, image, len);
    wr_end(v);
}

static void load_table(struct vcpu *v, const struct insn *in, struct dtable *t)
{
    require_cpl0(v);
    bool long64 = cpu_of(v)->mode == MODE_LONG64;
    uint64_t ea = insn_ea(v, in);
    uint16_t limit = ld16(v, in->seg, ea);
    uint64_t base = long64 ? ld64(v, in->seg, ea + 2) : ld32(v, in->seg, ea + 2);
    if (!long64 && in->opsize == 2)
        base &= 0xffffff;
    if (long64 && !va_canonical(base))
        vcpu_raise_err(v, VEC_GP, 0);
    t->limit = limit;
    t->base = base;
}

void sys_sgdt(struct vcpu *v, const struct insn *in) { store_table(v, in, &v->s.gdtr); }
void sys_sidt(struct vcpu *v, const struct insn *in) { store_table(v, in, &v->s.idtr); }
void sys_lgdt(struct vcpu *v, const struct insn *in) { load_table(v, in, &v->s.gdtr); }
void sys_lidt(struct vcpu *v, const struct insn *in) { load_table(v, in, &v->s.idtr); }

/* ---- LDTR, TR ---- */

static uint16_t source_sel(struct vcpu *v, const struct insn *in)
{
    return in->flags & INSN_MEM ? ld16(v, in->seg, insn_ea(v, in)) : REG16(v, in->rm);
}

static void store_sel(struct vcpu *v, const struct insn *in, unsigned sreg)
{
    require_protected(v);
    check_umip(v);
    uint16_t sel = v->s.seg[sreg].sel;
    if (in->flags & INSN_MEM)
        st16(v, in->seg, insn_ea(v, in), sel);
    else if (in->opsize == 2)
        REG16(v, in->rm) = sel;
    else
        REG64(v, in->rm) = sel;
}

void sys_sldt(struct vcpu *v, const struct insn *in) { store_sel(v, in, S_LDTR); }
void sys_str(struct vcpu *v, const struct insn *in) { store_sel(v, in, S_TR); }

/* A system descriptor of the GDT; *base_out is 64 bits wide in IA-32e mode. */
static struct desc system_desc(struct vcpu *v, uint16_t sel, bool (*type_ok)(struct vcpu *v, unsigned type), uint64_t *base_out)
{
    if (sel & 4)
        vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
    struct desc d = desc_fetch(v, sel, VEC_GP, 0);
    uint16_t attr = desc_attr(d.raw);
    if ((attr & SEG_S) || !type_ok(v, attr_type(attr)))
        vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
    *base_out = cpu_long(v) ? desc_base64(v, &d, sel, VEC_GP) : desc_seg(d.raw, sel).base;
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(sel, 0));
    if (!va_canonical(*base_out))
        vcpu_raise_err(v, VEC_GP, sel_error(sel, 0));
    return d;
}

static bool is_ldt(struct vcpu *v, unsigned type)
{
    (void)v;
    return type == SYS_LDT;
}

static bool is_available_tss(struct vcpu *v, unsigned type)
{
    return type == SYS_TSS32 || (type == SYS_TSS16 && !cpu_long(v));
}

void sys_lldt(struct vcpu *v, const struct insn *in)
{
    require_protected(v);
    require_cpl0(v);
    uint16_t sel = source_sel(v, in);
    struct seg ldt = seg_null(sel);
    if (!sel_is_null(sel)) {
        uint64_t base;
        struct desc d = system_desc(v, sel, is_ldt, &base);
        ldt = desc_seg(d.raw, sel);
        ldt.base = base;
    }
    v->s.seg[S_LDTR] = ldt;
}

void sys_ltr(struct vcpu *v, const struct insn *in)
{
    require_protected(v);
    require_cpl0(v);
    uint16_t sel = source_sel(v, in);
    uint64_t base;
    if (sel_is_null(sel))
        vcpu_raise_err(v, VEC_GP, 0);
    struct desc d = system_desc(v, sel, is_available_tss, &base);
    mmu_st(v, d.lin + 5, 1, (d.raw >> 40 & 0xff) | SYS_BUSY, MMU_SUP);
    struct seg tr = desc_seg(d.raw, sel);
    tr.base = base;
    tr.attr |= SYS_BUSY;
    v->s.seg[S_TR] = tr;
}

/* ---- inspecting selectors ---- */

static void set_zf(struct vcpu *v, bool on)
{
    enum { AFLAGS_ZF = FL_ZF << 8 };
    v->s.aflags = (uint16_t)(on ? v->s.aflags | AFLAGS_ZF : v->s.aflags & ~AFLAGS_ZF);
}

/* The descriptor of a selector that CPL and RPL may see; false: none, or not visible. */
static bool visible_desc(struct vcpu *v, uint16_t sel, uint64_t *raw_out)
{
    uint64_t lin;
    if (sel_is_null(sel) || !desc_find(v, sel, 8, &lin))
        return false;
    *raw_out = mmu_ld(v, lin, 8, MMU_SUP);
    uint16_t attr = desc_attr(*raw_out);
    return attr_is_conforming(attr) || seg_dpl(attr) >= MAX(v->s.cpl, sel_rpl(sel));
}

/* System descriptors that LAR and LSL know, a bit per type: legacy and IA-32e mode (SDM vol. 2, tables of LAR and LSL). */
enum {
    LAR_LEGACY = 1 << SYS_TSS16 | 1 << SYS_LDT | 1 << SYS_TSS16_BUSY | 1 << SYS_CALL16 | 1 << SYS_TASK_GATE |
                 1 << SYS_TSS32 | 1 << SYS_TSS32_BUSY | 1 << SYS_CALL32,
    LAR_LONG = 1 << SYS_LDT | 1 << SYS_TSS32 | 1 << SYS_TSS32_BUSY | 1 << SYS_CALL32,
    LSL_LEGACY = 1 << SYS_TSS16 | 1 << SYS_LDT | 1 << SYS_TSS16_BUSY | 1 << SYS_TSS32 | 1 << SYS_TSS32_BUSY,
    LSL_LONG = 1 << SYS_LDT | 1 << SYS_TSS32 | 1 << SYS_TSS32_BUSY,
};

static bool inspect(struct vcpu *v, const struct insn *in, unsigned legacy, unsigned ia32e, uint64_t *raw_out)
{
    require_protected(v);
    bool ok = visible_desc(v, source_sel(v, in), raw_out);
    if (ok) {
        uint16_t attr = desc_attr(*raw_out);
        ok = (attr & SEG_S) || ((cpu_long(v) ? ia32e : legacy) >> attr_type(attr) & 1);
    }
    set_zf(v, ok);
    return ok;
}

/* The destination of LAR and LSL is in reg. */
static void set_result(struct vcpu *v, const struct insn *in, uint32_t value)
{
    if (in->opsize == 2)
        REG16(v, in->reg) = (uint16_t)value;
    else
        reg_set32(v, in->reg, value);
}

void sys_lar(struct vcpu *v, const struct insn *in)
{
    uint64_t raw;
    if (inspect(v, in, LAR_LEGACY, LAR_LONG, &raw))
        set_result(v, in, (uint32_t)(raw >> 32) & 0x00ffff00); /* with the limit nibble, as hardware gives it */
}

void sys_lsl(struct vcpu *v, const struct insn *in)
{
    uint64_t raw;
    if (inspect(v, in, LSL_LEGACY, LSL_LONG, &raw))
        set_result(v, in, desc_seg(raw, 0).limit);
}

void sys_verr(struct vcpu *v, const struct insn *in)
{
    uint64_t raw;
    require_protected(v);
    bool ok = visible_desc(v, source_sel(v, in), &raw);
    set_zf(v, ok && attr_is_readable(desc_attr(raw)));
}

void sys_verw(struct vcpu *v, const struct insn *in)
{
    uint64_t raw;
    require_protected(v);
    bool ok = visible_desc(v, source_sel(v, in), &raw);
    set_zf(v, ok && attr_is_writable(desc_attr(raw)));
}

/* Operand 1 in reg. A memory destination is checked as a write, whether it changes or not. */
void sys_arpl(struct vcpu *v, const struct insn *in)
{
    require_protected(v);
    bool mem = in->flags & INSN_MEM;
    uint64_t ea = mem ? insn_ea(v, in) : 0;
    uint16_t old = mem ? ld16(v, in->seg, ea) : REG16(v, in->rm);
    unsigned rpl = sel_rpl(REG16(v, in->reg));
    bool adjust = sel_rpl(old) < rpl;
    uint16_t adjusted = (uint16_t)((old & ~3u) | rpl);
    if (adjust && mem) /* memory is written, and need be writable, only then */
        st16(v, in->seg, ea, adjusted);
    else if (adjust)
        REG16(v, in->rm) = adjusted;
    set_zf(v, adjust);
}
