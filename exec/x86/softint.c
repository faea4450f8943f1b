/* exec/x86/softint.c: INT n, INT3, INTO, INT1, BOUND. A software interrupt clears TF before its single-step trap would
 * come (SDM vol. 3, 17.3.1.4), so it decides about the trap itself. */
#include "exec/x86/access.h"
#include "exec/x86/sys.h"

static void soft_event(struct vcpu *v, const struct insn *in, enum event_type type, uint8_t vector)
{
    bool tf = v->s.rflags & FL_TF;
    deliver_event(v, type, vector, false, 0, insn_next(v, in));
    cpu_of(v)->own_step = tf;
}

void sys_int(struct vcpu *v, const struct insn *in)
{
    if ((v->s.rflags & FL_VM) && (v->s.rflags & FL_IOPL) != FL_IOPL)
        vcpu_raise_err(v, VEC_GP, 0);
    soft_event(v, in, EV_SOFT_INT, (uint8_t)in->imm);
}

void sys_int3(struct vcpu *v, const struct insn *in) { soft_event(v, in, EV_SOFT_EXC, VEC_BP); }
void sys_int1(struct vcpu *v, const struct insn *in) { soft_event(v, in, EV_PRIV_SOFT, VEC_DB); }

void sys_into(struct vcpu *v, const struct insn *in)
{
    if (v->s.aflags & 1) /* OF */
        soft_event(v, in, EV_SOFT_EXC, VEC_OF);
    else
        v->s.r[R_RIP] = insn_next(v, in);
}

void sys_bound(struct vcpu *v, const struct insn *in)
{
    uint64_t ea = insn_ea(v, in);
    bool wide = in->opsize == 4;
    int32_t index = wide ? (int32_t)REG32(v, in->rm) : (int16_t)REG16(v, in->rm);
    int32_t low = wide ? (int32_t)ld32(v, in->seg, ea) : (int16_t)ld16(v, in->seg, ea);
    if (index < low) /* the upper bound is not read then */
        vcpu_raise(v, VEC_BR);
    int32_t high = wide ? (int32_t)ld32(v, in->seg, ea + 4) : (int16_t)ld16(v, in->seg, ea + 2);
    if (index > high)
        vcpu_raise(v, VEC_BR);
}
