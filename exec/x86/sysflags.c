/* exec/x86/sysflags.c: PUSHF and POPF, and the instructions for IF and AC (SDM vol. 2; vol. 3, 2.3). The model has no
 * virtual-8086 extensions: in VM86 mode IOPL below 3 means #GP. */
#include "exec/x86/access.h"
#include "exec/x86/sys.h"

static unsigned iopl(const struct vcpu *v) { return (v->s.rflags & FL_IOPL) >> 12; }
static bool vm86(const struct vcpu *v) { return v->s.rflags & FL_VM; }

static void check_vm86_iopl(struct vcpu *v)
{
    if (vm86(v) && iopl(v) != 3)
        vcpu_raise_err(v, VEC_GP, 0);
}

void sys_pushf(struct vcpu *v, const struct insn *in)
{
    check_vm86_iopl(v);
    stack_push(v, in->opsize, vcpu_rflags(&v->s) & ~(uint64_t)(FL_VM | FL_RF));
}

void sys_popf(struct vcpu *v, const struct insn *in)
{
    check_vm86_iopl(v);
    uint64_t m = FL_ARITH | FL_TF | FL_DF | FL_NT;
    if (v->s.cpl == 0)
        m |= FL_IOPL;
    if (v->s.cpl <= iopl(v))
        m |= FL_IF;
    if (in->opsize > 2)
        m |= FL_AC | FL_ID;
    uint64_t value = stack_peek(v, in->opsize, 0);
    stack_set_rsp(v, v->s.r[R_RSP] + in->opsize);
    vcpu_set_rflags(&v->s, (vcpu_rflags(&v->s) & ~m & ~(uint64_t)FL_RF) | (value & m));
    cpu_mode_update(v);
}

static void check_iopl(struct vcpu *v)
{
    if (v->s.cpl > iopl(v))
        vcpu_raise_err(v, VEC_GP, 0);
}

void sys_cli(struct vcpu *v, const struct insn *in)
{
    (void)in;
    check_iopl(v);
    v->s.rflags &= ~(uint64_t)FL_IF;
}

void sys_sti(struct vcpu *v, const struct insn *in)
{
    (void)in;
    check_iopl(v);
    if (!(v->s.rflags & FL_IF))
        v->s.shadow |= SHADOW_STI;
    v->s.rflags |= FL_IF;
}

static void set_ac(struct vcpu *v, bool on)
{
    if (v->s.cpl)
        vcpu_raise(v, VEC_UD);
    v->s.rflags = on ? v->s.rflags | FL_AC : v->s.rflags & ~(uint64_t)FL_AC;
    cpu_mode_update(v);
}

void sys_clac(struct vcpu *v, const struct insn *in)
{
    (void)in;
    set_ac(v, false);
}

void sys_stac(struct vcpu *v, const struct insn *in)
{
    (void)in;
    set_ac(v, true);
}
