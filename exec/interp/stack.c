/* exec/interp/stack.c: PUSH, POP, PUSHA, POPA, ENTER, LEAVE. In 64-bit mode the stack pointer is 64 bits wide and the
 * segment flat, which has handlers of its own; elsewhere width and limits are SS's. */
#include "exec/interp/flags.h"

static inline void push64(struct vcpu *v, uint64_t x)
{
    uint64_t sp = v->s.r[R_RSP] - 8;
    st64(v, S_SS, sp, x);
    v->s.r[R_RSP] = sp;
}

static void push64_r(struct vcpu *v, const struct insn *in) { push64(v, GET64(v, in->rm)); }
static void push64_i(struct vcpu *v, const struct insn *in) { push64(v, in->imm); }
static void push64_m(struct vcpu *v, const struct insn *in) { push64(v, ld64(v, in->seg, insn_ea(v, in))); }

static inline uint64_t load(struct vcpu *v, const struct insn *in, uint64_t ea)
{
    return in->opsize == 8 ? ld64(v, in->seg, ea) : in->opsize == 4 ? ld32(v, in->seg, ea) : ld16(v, in->seg, ea);
}
static inline void store(struct vcpu *v, const struct insn *in, uint64_t ea, uint64_t x)
{
    if (in->opsize == 8)
        st64(v, in->seg, ea, x);
    else if (in->opsize == 4)
        st32(v, in->seg, ea, (uint32_t)x);
    else
        st16(v, in->seg, ea, (uint16_t)x);
}
static inline void set_gpr(struct vcpu *v, unsigned off, unsigned size, uint64_t x)
{
    if (size == 8)
        SET64(v, off, x);
    else if (size == 4)
        SET32(v, off, (uint32_t)x);
    else
        SET16(v, off, (uint16_t)x);
}

static void push_r(struct vcpu *v, const struct insn *in) { stack_push(v, in->opsize, GET64(v, in->rm)); }
static void push_i(struct vcpu *v, const struct insn *in) { stack_push(v, in->opsize, in->imm); }
static void push_m(struct vcpu *v, const struct insn *in) { stack_push(v, in->opsize, load(v, in, insn_ea(v, in))); }

bool lower_push(struct lower *lo)
{
    static const insn_fn fn[2][3] = {{push_r, push_i, push_m}, {push64_r, push64_i, push64_m}};
    bool wide = lo->out->opsize == 8;
    if (lower_reg_class(lo, 0) == ZYDIS_REGCLASS_SEGMENT)
        return lower_push_seg(lo);
    if (lower_is_reg(lo, 0)) {
        lo->out->rm = lower_gpr(lo, 0);
        return lower_to(lo, fn[wide][0]);
    }
    if (lower_is_imm(lo, 0)) {
        lo->out->imm = (uint64_t)lower_imm(lo);
        return lower_to(lo, fn[wide][1]);
    }
    return lower_to(lo, fn[wide][2]);
}

static void pop64_r(struct vcpu *v, const struct insn *in)
{
    uint64_t x = ld64(v, S_SS, v->s.r[R_RSP]);
    v->s.r[R_RSP] += 8;
    SET64(v, in->rm, x); /* last: POP RSP takes the value */
}

static void pop_r(struct vcpu *v, const struct insn *in)
{
    uint64_t x = stack_peek(v, in->opsize, 0);
    stack_set_rsp(v, v->s.r[R_RSP] + in->opsize);
    set_gpr(v, in->rm, in->opsize, x);
}

/* The address of a destination based on the stack pointer uses the pointer after the pop (SDM vol. 2, POP); a fault of
 * the store leaves the pointer as it was. */
static void pop_m(struct vcpu *v, const struct insn *in)
{
    uint64_t x = stack_peek(v, in->opsize, 0), old = v->s.r[R_RSP];
    stack_set_rsp(v, old + in->opsize);
    uint64_t popped = v->s.r[R_RSP], ea = insn_ea(v, in);
    v->s.r[R_RSP] = old;
    store(v, in, ea, x);
    v->s.r[R_RSP] = popped;
}

bool lower_pop(struct lower *lo)
{
    if (lower_reg_class(lo, 0) == ZYDIS_REGCLASS_SEGMENT)
        return lower_pop_seg(lo);
    if (lower_is_mem(lo, 0))
        return lower_to(lo, pop_m);
    lo->out->rm = lower_gpr(lo, 0);
    return lower_to(lo, lo->out->opsize == 8 ? pop64_r : pop_r);
}

/* One of several stack accesses of an instruction, translated before the first of them is performed. `off` is added to
 * `sp` within the width of the stack pointer. */
static void stack_span(struct vcpu *v, uint64_t sp, int64_t off, unsigned size, enum mmu_access acc, struct span *out)
{
    uint64_t ea = (sp + (uint64_t)off) & stack_mask(v);
    uint64_t lin = lin_addr(v, S_SS, ea, size, acc != ACC_READ);
    mmu_span(v, lin, size, acc, cpu_of(v)->mmu_mode, S_SS, out);
}

static void pusha(struct vcpu *v, const struct insn *in)
{
    struct span sp[8];
    uint64_t rsp = v->s.r[R_RSP];
    for (int i = 0; i < 8; i++)
        stack_span(v, rsp, -(i + 1) * in->opsize, in->opsize, ACC_WRITE, &sp[i]);
    for (int i = 0; i < 8; i++) /* in encoding order; RSP as it was before */
        span_write(v, &sp[i], &v->s.r[i]);
    stack_set_rsp(v, rsp - 8u * in->opsize);
}
bool lower_pusha(struct lower *lo) { return lower_to(lo, pusha); }

static void popa(struct vcpu *v, const struct insn *in)
{
    uint64_t x[8];
    for (unsigned i = 0; i < 8; i++)
        x[i] = stack_peek(v, in->opsize, i * in->opsize);
    stack_set_rsp(v, v->s.r[R_RSP] + 8u * in->opsize);
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = 7 - i;
        if (r != R_RSP)
            set_gpr(v, GPR(r), in->opsize, x[i]);
    }
}
bool lower_popa(struct lower *lo) { return lower_to(lo, popa); }

/* ENTER size, level: push rBP, copy level - 1 frame pointers of the enclosing procedures, push the new frame pointer,
 * reserve `size` bytes. The copies may read what was just pushed, so all accesses are translated first and then done
 * in order. The last translation is the check that a write at the final stack pointer would make (SDM vol. 2, ENTER). */
static void enter(struct vcpu *v, const struct insn *in)
{
    struct span saved, frame, probe, from[30], to[30];
    unsigned level = in->x, size = in->opsize;
    uint64_t rsp = v->s.r[R_RSP], rbp = v->s.r[R_RBP];
    int64_t top = -(int64_t)size;
    stack_span(v, rsp, top, size, ACC_WRITE, &saved);
    uint64_t frame_ptr = rsp - size;
    for (unsigned i = 0; i + 1 < level; i++) {
        stack_span(v, rbp, -(int64_t)((i + 1) * size), size, ACC_READ, &from[i]);
        stack_span(v, rsp, top -= size, size, ACC_WRITE, &to[i]);
    }
    if (level)
        stack_span(v, rsp, top -= size, size, ACC_WRITE, &frame);
    top -= (int64_t)in->imm;
    stack_span(v, rsp, top, size, ACC_WRITE, &probe);

    span_write(v, &saved, &rbp);
    for (unsigned i = 0; i + 1 < level; i++) {
        uint64_t x = 0;
        span_read(v, &from[i], &x);
        span_write(v, &to[i], &x);
    }
    stack_set_rsp(v, frame_ptr); /* the frame pointer as the stack pointer's width makes it */
    frame_ptr = v->s.r[R_RSP];
    v->s.r[R_RSP] = rsp;
    if (level)
        span_write(v, &frame, &frame_ptr);
    set_gpr(v, GPR(R_RBP), size, frame_ptr);
    stack_set_rsp(v, rsp + (uint64_t)top);
}

bool lower_enter(struct lower *lo)
{
    lo->out->imm = lo->zi->raw.imm[0].value.u & 0xffff;
    lo->out->x = lo->zi->raw.imm[1].value.u & 31;
    return lower_to(lo, enter);
}

static void leave(struct vcpu *v, const struct insn *in)
{
    uint64_t sp = v->s.r[R_RBP] & stack_mask(v);
    uint64_t x = in->opsize == 8 ? ld64(v, S_SS, sp) : in->opsize == 4 ? ld32(v, S_SS, sp) : ld16(v, S_SS, sp);
    stack_set_rsp(v, sp + in->opsize);
    set_gpr(v, GPR(R_RBP), in->opsize, x);
}
static void leave64(struct vcpu *v, const struct insn *in)
{
    (void)in;
    uint64_t sp = v->s.r[R_RBP];
    v->s.r[R_RBP] = ld64(v, S_SS, sp);
    v->s.r[R_RSP] = sp + 8;
}
bool lower_leave(struct lower *lo) { return lower_to(lo, lo->out->opsize == 8 ? leave64 : leave); }
