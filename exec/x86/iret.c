/* exec/x86/iret.c: IRET in every mode (SDM vol. 2, IRET). */
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

/* Flags that IRET loads. The CPL is the one before the return. */
static uint64_t writable_flags(const struct vcpu *v, unsigned opsize)
{
    uint64_t m = FL_ARITH | FL_TF | FL_DF | FL_NT;
    unsigned iopl = (v->s.rflags & FL_IOPL) >> 12;
    if (opsize > 2)
        m |= FL_RF | FL_AC | FL_ID;
    if (v->s.cpl <= iopl)
        m |= FL_IF;
    if (v->s.cpl == 0)
        m |= FL_IOPL | (opsize > 2 ? FL_VIF | FL_VIP : 0);
    return m;
}

static void load_flags(struct vcpu *v, uint64_t value, uint64_t mask)
{
    vcpu_set_rflags(&v->s, (vcpu_rflags(&v->s) & ~mask) | (value & mask));
}

/* Real-address mode, and virtual-8086 mode with IOPL 3. */
static void iret_simple(struct vcpu *v, const struct insn *in)
{
    bool vm86 = v->s.rflags & FL_VM;
    unsigned size = in->opsize;
    if (vm86 && (v->s.rflags & FL_IOPL) != FL_IOPL)
        vcpu_raise_err(v, VEC_GP, 0);
    uint64_t rip = stack_peek(v, size, 0);
    uint16_t sel = (uint16_t)stack_peek(v, size, size);
    uint64_t flags = stack_peek(v, size, 2 * size);
    struct seg cs = vm86 ? seg_vm86(sel) : seg_real(&v->s.seg[S_CS], sel);
    code_check_rip(v, &cs, rip, 0);

    uint64_t mask = writable_flags(v, size) & ~(uint64_t)(FL_VIF | FL_VIP);
    stack_set_rsp(v, v->s.r[R_RSP] + 3 * size);
    load_flags(v, flags, mask);
    v->s.seg[S_CS] = cs;
    v->s.r[R_RIP] = rip;
    cpu_mode_update(v);
}

/* SDM vol. 3, 20.2.3 */
static void iret_to_vm86(struct vcpu *v, uint64_t rip, uint16_t cs_sel, uint64_t flags)
{
    static const uint8_t order[] = {S_SS, S_ES, S_DS, S_FS, S_GS};
    uint16_t sel[ARRAY_LEN(order)];
    uint64_t esp = stack_peek(v, 4, 12);
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        sel[i] = (uint16_t)stack_peek(v, 4, 16 + 4 * i);
    struct seg cs = seg_vm86(cs_sel);
    code_check_rip(v, &cs, rip, 0);

    load_flags(v, flags, writable_flags(v, 4) | FL_VM);
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        v->s.seg[order[i]] = seg_vm86(sel[i]);
    v->s.seg[S_CS] = cs;
    v->s.cpl = 3;
    v->s.r[R_RSP] = esp;
    v->s.r[R_RIP] = rip;
    cpu_mode_update(v);
}

static void iret_task(struct vcpu *v, const struct insn *in)
{
    const struct seg *tr = &v->s.seg[S_TR];
    uint16_t link = (uint16_t)mmu_ld(v, (uint32_t)tr->base, 2, MMU_SUP);
    task_switch(v, link, TASK_IRET, 0, insn_next(v, in), false, 0);
}

struct return_frame { uint64_t rip, flags, rsp; uint16_t cs, ss; };

static void iret_protected(struct vcpu *v, const struct insn *in)
{
    unsigned size = in->opsize;
    bool from64 = cpu_of(v)->mode == MODE_LONG64;
    struct return_frame f; /* read in the order that hardware faults in; of selectors only two bytes */
    f.flags = stack_peek(v, size, 2 * size);
    f.cs = (uint16_t)stack_peek(v, 2, size);
    f.rip = stack_peek(v, size, 0);
    if (!cpu_long(v) && size == 4 && v->s.cpl == 0 && (f.flags & FL_VM)) {
        iret_to_vm86(v, f.rip, f.cs, f.flags);
        return;
    }
    struct desc cs_desc, ss_desc = {0};
    struct seg cs = code_check_return(v, f.cs, &cs_desc), ss = v->s.seg[S_SS];
    unsigned cpl = sel_rpl(f.cs), old_cpl = v->s.cpl;
    bool pops_stack = from64 || cpl != old_cpl; /* 64-bit mode returns SS:RSP always */
    if (pops_stack) {
        f.ss = (uint16_t)stack_peek(v, 2, 4 * size);
        f.rsp = stack_peek(v, size, 3 * size);
        ss = seg_check_ss(v, f.ss, cpl, code_is_64(v, &cs), VEC_GP, 0, &ss_desc);
    }
    code_check_rip(v, &cs, f.rip, 0);
    desc_touch(v, &cs_desc);
    desc_touch(v, &ss_desc);

    load_flags(v, f.flags, writable_flags(v, size));
    if (!pops_stack) {
        stack_set_rsp(v, v->s.r[R_RSP] + 3 * size);
        code_commit(v, cs, cpl, f.rip);
        return;
    }
    code_commit(v, cs, cpl, f.rip);
    v->s.seg[S_SS] = ss;
    cpu_mode_update(v);
    stack_set_rsp(v, f.rsp); /* a 16-bit stack keeps the upper bits, as hardware does */
    if (cpl != old_cpl)
        seg_drop_inner(v);
}

void sys_iret(struct vcpu *v, const struct insn *in)
{
    v->s.nmi_blocked = 0; /* also when it faults: SDM vol. 3, 6.7.1 and 25.3 */
    if (!cpu_protected(v)) {
        iret_simple(v, in);
    } else if (!(v->s.rflags & FL_NT)) {
        iret_protected(v, in);
    } else {
        if (cpu_long(v))
            vcpu_raise_err(v, VEC_GP, 0);
        iret_task(v, in);
    }
}
