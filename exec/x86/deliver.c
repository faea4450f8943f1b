/* exec/x86/deliver.c: delivery of interrupts and exceptions in every mode.
 *
 * A delivery either happens whole or raises a nested fault before it has changed anything (a hardware task switch is the one
 * exception, see task.c). Software interrupts are instructions: their faults unwind to the engine like those of any other.
 * Deliveries the program did not ask for catch nested faults here and go on as SDM vol. 3, table 6-5 says:
 *
 *     first \ second      contributory     page fault     other
 *     other (and INT)     second           second         second
 *     contributory        double fault     second         second
 *     page fault          double fault     double fault   second
 *     double fault        shutdown         shutdown       second
 *
 * It ends after at most a few rounds: two faults of one class make a double fault, whose faults make a shutdown. A benign
 * fault that its own delivery raises makes one as well.
 * References: SDM vol. 3 chapter 6, vol. 2 INT n (its pseudocode is the pseudocode of all deliveries). */
#include "core/irq.h"
#include "exec/engine.h"
#include "exec/x86/probe.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

struct event {
    enum event_type type;
    uint8_t vector;
    bool has_error;
    bool set_rf;    /* in the saved flags */
    uint32_t error;
    uint64_t rip;   /* to save */
};

static bool is_soft(enum event_type t) { return t == EV_SOFT_INT || t == EV_SOFT_EXC || t == EV_PRIV_SOFT; }
/* INT n, INT3, INTO: the gate's DPL is checked, and error codes have no EXT bit. INT1 counts as a hardware event. */
static bool is_program(enum event_type t) { return t == EV_SOFT_INT || t == EV_SOFT_EXC; }
static unsigned ext_of(const struct event *ev) { return !is_program(ev->type); }
static uint32_t idt_error(const struct event *ev) { return ev->vector * 8u + 2 + ext_of(ev); }

static uint64_t saved_flags(const struct vcpu *v, const struct event *ev)
{
    return vcpu_rflags(&v->s) | (ev->set_rf ? FL_RF : 0);
}

/* Flags of the handler. */
static void enter_flags(struct vcpu *v, uint64_t clear)
{
    v->s.rflags &= ~clear;
}

/* ---- real-address mode: SDM vol. 3, 20.1.4 ---- */

static void transfer_real(struct vcpu *v, const struct event *ev)
{
    uint32_t at = ev->vector * 4u;
    if (at + 3 > v->s.idtr.limit)
        vcpu_raise_err(v, VEC_GP, idt_error(ev)); /* real mode pushes no error code; it is not lost on a task switch */
    uint32_t vec = (uint32_t)mmu_ld(v, (uint32_t)(v->s.idtr.base + at), 4, MMU_SUP);
    struct stack st = stack_current(v, 0);
    struct frame f = {.size = 2};
    frame_push(&f, saved_flags(v, ev));
    frame_push(&f, v->s.seg[S_CS].sel);
    frame_push(&f, ev->rip);
    frame_translate(v, &st, &f);
    struct seg cs = seg_real(&v->s.seg[S_CS], (uint16_t)(vec >> 16));
    code_check_rip(v, &cs, vec & 0xffff, 0);

    frame_write(v, &f);
    enter_flags(v, FL_IF | FL_TF | FL_AC | FL_RF);
    v->s.seg[S_CS] = cs;
    v->s.r[R_RIP] = vec & 0xffff;
    stack_commit(v, &st);
}

/* ---- protected mode and IA-32e mode ---- */

struct gate {
    uint16_t sel;
    uint64_t off;
    unsigned type; /* enum sys_type */
    unsigned ist;
};

static bool gate_type_ok(unsigned type, bool long_mode)
{
    if (type == SYS_INT32 || type == SYS_TRAP32)
        return true;
    return !long_mode && (type == SYS_INT16 || type == SYS_TRAP16 || type == SYS_TASK_GATE);
}

static struct gate gate_fetch(struct vcpu *v, const struct event *ev)
{
    bool lm = cpu_long(v);
    uint32_t size = lm ? 16 : 8, at = ev->vector * size;
    if (at + size - 1 > v->s.idtr.limit)
        vcpu_raise_err(v, VEC_GP, idt_error(ev));
    uint64_t lin = v->s.idtr.base + at;
    uint64_t raw = mmu_ld(v, lm ? lin : (uint32_t)lin, 8, MMU_SUP);
    uint64_t high = lm ? mmu_ld(v, lin + 8, 8, MMU_SUP) : 0;
    uint16_t attr = desc_attr(raw);
    if ((attr & SEG_S) || !gate_type_ok(attr_type(attr), lm))
        vcpu_raise_err(v, VEC_GP, idt_error(ev));
    if (is_program(ev->type) && seg_dpl(attr) < v->s.cpl)
        vcpu_raise_err(v, VEC_GP, idt_error(ev));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, idt_error(ev));
    struct gate g = {.sel = (uint16_t)bits(raw, 31, 16), .type = attr_type(attr), .ist = lm ? raw >> 32 & 7 : 0};
    g.off = (raw & 0xffff) | (g.type & SYS_32 ? bits(raw, 63, 48) << 16 : 0) | high << 32;
    return g;
}

/* The handler's code segment; *cpl_out gets its privilege. */
static struct seg handler_code(struct vcpu *v, const struct gate *g, unsigned ext, unsigned *cpl_out, struct desc *d)
{
    if (sel_is_null(g->sel))
        vcpu_raise_err(v, VEC_GP, ext);
    *d = desc_fetch(v, g->sel, VEC_GP, ext);
    uint16_t attr = desc_attr(d->raw);
    bool size_ok = !cpu_long(v) || (attr & (SEG_L | SEG_DB)) == SEG_L;
    if (!attr_is_code(attr) || seg_dpl(attr) > v->s.cpl || !size_ok)
        vcpu_raise_err(v, VEC_GP, sel_error(g->sel, ext));
    if (!(attr & SEG_P))
        vcpu_raise_err(v, VEC_NP, sel_error(g->sel, ext));
    *cpl_out = attr_is_conforming(attr) ? v->s.cpl : seg_dpl(attr);
    if ((v->s.rflags & FL_VM) && *cpl_out != 0) /* virtual-8086 tasks are interrupted to level 0 only */
        vcpu_raise_err(v, VEC_GP, sel_error(g->sel, ext));
    return desc_seg_accessed(d->raw, g->sel);
}

static void push_return(struct vcpu *v, struct frame *f, const struct event *ev)
{
    frame_push(f, saved_flags(v, ev));
    frame_push(f, v->s.seg[S_CS].sel);
    frame_push(f, ev->rip);
    if (ev->has_error)
        frame_push(f, ev->error);
}

static void push_stack_pointer(struct vcpu *v, struct frame *f)
{
    frame_push(f, v->s.seg[S_SS].sel);
    frame_push(f, v->s.r[R_RSP]);
}

static uint64_t gate_clears(const struct gate *g)
{
    bool interrupt_gate = (g->type | SYS_32) == SYS_INT32;
    return FL_TF | FL_NT | FL_RF | FL_VM | (interrupt_gate ? FL_IF : 0);
}

/* IA-32e mode: SDM vol. 3, 6.14. */
static void transfer_long(struct vcpu *v, const struct event *ev, const struct gate *g)
{
    enum { TSS64_RSP0 = 4, TSS64_IST1 = 0x24 };
    unsigned cpl, ext = ext_of(ev);
    struct desc cs_desc;
    struct seg cs = handler_code(v, g, ext, &cpl, &cs_desc);
    struct stack st;
    if (g->ist)
        st = stack_from_tss64(v, TSS64_IST1 + 8 * (g->ist - 1), cpl, ext);
    else if (cpl != v->s.cpl)
        st = stack_from_tss64(v, TSS64_RSP0 + 8 * cpl, cpl, ext);
    else
        st = stack_current(v, ext);
    if (cpl == v->s.cpl)
        st.ss = v->s.seg[S_SS]; /* SS is loaded only when the privilege changes */
    st.mask = UINT64_MAX;
    st.flat = true;
    st.rsp &= ~UINT64_C(15);
    code_check_rip(v, &cs, g->off, ext);
    struct frame f = {.size = 8};
    push_stack_pointer(v, &f);
    push_return(v, &f, ev);
    frame_translate(v, &st, &f);
    desc_touch(v, &cs_desc);

    frame_write(v, &f);
    enter_flags(v, gate_clears(g));
    code_commit(v, cs, cpl, g->off);
    stack_commit(v, &st);
}

static void push_vm86_segments(struct vcpu *v, struct frame *f)
{
    static const uint8_t order[] = {S_GS, S_FS, S_DS, S_ES};
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        frame_push(f, v->s.seg[order[i]].sel);
}

static void null_data_segments(struct vcpu *v)
{
    v->s.seg[S_ES] = v->s.seg[S_DS] = v->s.seg[S_FS] = v->s.seg[S_GS] = seg_null(0);
}

/* Protected mode: SDM vol. 3, 6.12.1; from virtual-8086 mode 20.3.1.1. */
static void transfer_protected(struct vcpu *v, const struct event *ev, const struct gate *g)
{
    unsigned cpl, ext = ext_of(ev);
    bool vm86 = v->s.rflags & FL_VM;
    struct desc cs_desc, ss_desc = {0};
    struct seg cs = handler_code(v, g, ext, &cpl, &cs_desc);
    bool inner = cpl != v->s.cpl;
    struct stack st = inner ? stack_from_tss(v, cpl, ext, &ss_desc) : stack_current(v, ext);
    struct frame f = {.size = g->type & SYS_32 ? 4 : 2};
    if (vm86)
        push_vm86_segments(v, &f);
    if (inner)
        push_stack_pointer(v, &f);
    push_return(v, &f, ev);
    frame_translate(v, &st, &f);
    code_check_rip(v, &cs, g->off, ext);
    desc_touch(v, &cs_desc);
    desc_touch(v, &ss_desc);

    frame_write(v, &f);
    enter_flags(v, gate_clears(g));
    if (vm86)
        null_data_segments(v);
    code_commit(v, cs, cpl, g->off);
    stack_commit(v, &st);
}

static void transfer(struct vcpu *v, const struct event *ev)
{
    if (!(v->s.cr0 & CR0_PE)) {
        transfer_real(v, ev);
        return;
    }
    struct gate g = gate_fetch(v, ev);
    if (g.type == SYS_TASK_GATE)
        task_switch(v, g.sel, TASK_EVENT, ext_of(ev), ev->rip, ev->has_error, ev->error);
    else if (cpu_long(v))
        transfer_long(v, ev, &g);
    else
        transfer_protected(v, ev, &g);
}

static void delivered(struct vcpu *v, uint8_t vector)
{
    probes_other(v, PROBE_VECTOR, vector, 1, false);
    v->s.shadow = 0;
    v->s.activity = VCPU_ACTIVE;
}

/* ---- nested faults ---- */

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum fault_class class_of(const struct event *ev)
{
    if (ev->type != EV_FAULT)
        return BENIGN;
    switch (ev->vector) {
    case VEC_DE:
    case VEC_TS:
    case VEC_NP:
    case VEC_SS:
    case VEC_GP:
        return CONTRIBUTORY;
    case VEC_PF:
        return PAGE_FAULT;
    case VEC_DF:
        return DOUBLE_FAULT;
    default:
        return BENIGN;
    }
}

/* RF in the image of a fault, so that an instruction breakpoint does not hit again on return (SDM vol. 3, 17.3.1.1): all but
 * #DB, which raises its own, and #DF, an abort. */
static bool fault_sets_rf(unsigned vector)
{
    return vector != VEC_DB && vector != VEC_DF;
}

static void apply_fault_registers(struct vcpu *v)
{
    const struct cpu *c = cpu_of(v);
    if (c->fault.is_pf)
        v->s.cr2 = c->fault.cr2;
    v->s.dr[6] |= c->fault.db;
}

/* What vcpu_raise() left behind, as an event. */
static struct event raised_event(struct vcpu *v)
{
    const struct cpu *c = cpu_of(v);
    return (struct event){.type = EV_FAULT,
                          .vector = c->fault.vector,
                          .has_error = c->fault.has_error,
                          .set_rf = fault_sets_rf(c->fault.vector) || (c->fault.db & DR6_BD),
                          .error = c->fault.error,
                          .rip = v->s.r[R_RIP]};
}

static void shut_down(struct vcpu *v)
{
    v->s.activity = VCPU_SHUTDOWN;
    machine_request(v->machine, REQ_CRASH, 0);
}

/* Replace ev by what follows from a fault during its delivery; false: shutdown. */
static bool combine(struct vcpu *v, struct event *ev)
{
    apply_fault_registers(v);
    struct event second = raised_event(v);
    enum fault_class a = class_of(ev), b = class_of(&second);
    if (a == DOUBLE_FAULT && b != BENIGN)
        return false;
    if (ev->type == EV_FAULT && a == BENIGN && second.vector == ev->vector)
        return false; /* #AC by the frame of #AC: it would go on for ever, and on a CPU does */
    bool twice = (a == CONTRIBUTORY && b == CONTRIBUTORY) || (a == PAGE_FAULT && b != BENIGN);
    *ev = twice ? (struct event){.type = EV_FAULT, .vector = VEC_DF, .has_error = true, .rip = v->s.r[R_RIP]} : second;
    return true;
}

static bool attempt(struct vcpu *v, const struct event *ev)
{
    if (setjmp(cpu_of(v)->unwind))
        return false;
    transfer(v, ev);
    return true;
}

static void deliver(struct vcpu *v, struct event ev)
{
    struct cpu *c = cpu_of(v);
    jmp_buf outer;
    memcpy(&outer, &c->unwind, sizeof(outer));
    bool up = true;
    while (up && !attempt(v, &ev))
        up = combine(v, &ev);
    memcpy(&c->unwind, &outer, sizeof(outer));
    c->own_step = false;
    if (up)
        delivered(v, ev.vector);
    else
        shut_down(v);
}

/* ---- the contract of cpu.h ---- */

void deliver_event(struct vcpu *v, enum event_type type, uint8_t vector, bool has_error, uint32_t error, uint64_t next_rip)
{
    struct event ev = {.type = type, .vector = vector, .has_error = has_error, .error = error, .rip = v->s.r[R_RIP]};
    ev.set_rf = type == EV_FAULT && fault_sets_rf(vector);
    if (!is_soft(type)) {
        deliver(v, ev);
        return;
    }
    ev.rip = next_rip;
    transfer(v, &ev);
    delivered(v, vector);
}

static void deliver_debug(struct vcpu *v, uint32_t dr6_bits, bool fault)
{
    v->s.dr[6] |= dr6_bits;
    v->s.dr[7] &= ~(uint64_t)DR7_GD; /* so that the handler can use the debug registers */
    deliver(v, (struct event){.type = EV_FAULT, .vector = VEC_DB, .set_rf = fault && (dr6_bits & DR6_BD),
                              .rip = v->s.r[R_RIP]});
}

void deliver_fault(struct vcpu *v)
{
    const struct cpu *c = cpu_of(v);
    v->s.pending_db = 0; /* traps of an instruction that faulted after all; it will run again */
    if (c->fault.vector == VEC_DB) {
        deliver_debug(v, c->fault.db, true);
        return;
    }
    apply_fault_registers(v);
    deliver(v, raised_event(v));
}

static void deliver_debug_trap(struct vcpu *v)
{
    uint32_t pending = v->s.pending_db;
    v->s.pending_db = 0;
    deliver_debug(v, pending, false);
}

static void deliver_nmi(struct vcpu *v)
{
    v->s.nmi_pending = 0;
    v->s.nmi_blocked = 1; /* until IRET; SDM vol. 3, 6.7.1 */
    deliver_event(v, EV_NMI, VEC_NMI, false, 0, 0);
}

bool deliver_pending(struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    if (s->activity == VCPU_SHUTDOWN || (s->shadow & SHADOW_MOVSS)) /* MOV SS holds all of them off: 6.8.3 */
        return false;
    if (s->pending_db) {
        deliver_debug_trap(v);
        return true;
    }
    if (s->nmi_pending && !s->nmi_blocked) {
        deliver_nmi(v);
        return true;
    }
    if (!v->intr || !(s->rflags & FL_IF) || s->shadow)
        return false;
    vcpu_publish_ticks(v);
    int vector = irq_ack(v->machine);
    if (vector < 0)
        return false;
    deliver_event(v, EV_EXTERNAL, (uint8_t)vector, false, 0, 0);
    return true;
}
