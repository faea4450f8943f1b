/* exec/x86/io.c: IN, OUT, INS, OUTS and the I/O permission bitmap (SDM vol. 1 chapter 19). Every port access may move a
 * deadline or raise an interrupt, so each ends its block; a REP form is one iteration, hence one tick, at a time. */
#include "exec/engine.h"
#include "exec/x86/mmu.h"
#include "exec/x86/probe.h"
#include "exec/x86/seg.h"
#include "exec/x86/sys.h"

/* SDM vol. 1, 19.5.2. The two bytes at the port's bit are read together, so both must lie within the limit. */
static void check_bitmap(struct vcpu *v, uint16_t port, unsigned size)
{
    enum { TSS_IO_BASE = 0x66 };
    const struct seg *tr = &v->s.seg[S_TR];
    unsigned type = attr_type(tr->attr) & ~(unsigned)SYS_BUSY;
    uint64_t mask = cpu_long(v) ? UINT64_MAX : UINT32_MAX;
    if (type != SYS_TSS32 || tr->limit < TSS_IO_BASE + 1)
        vcpu_raise_err(v, VEC_GP, 0);
    uint32_t at = (uint32_t)mmu_ld(v, (tr->base + TSS_IO_BASE) & mask, 2, MMU_SUP) + port / 8;
    if (at + 1 > tr->limit)
        vcpu_raise_err(v, VEC_GP, 0);
    uint64_t word = mmu_ld(v, (tr->base + at) & mask, 2, MMU_SUP);
    if (word >> (port & 7) & ((1u << size) - 1))
        vcpu_raise_err(v, VEC_GP, 0);
}

static void check_permission(struct vcpu *v, uint16_t port, unsigned size)
{
    unsigned iopl = (v->s.rflags & FL_IOPL) >> 12;
    if ((v->s.cr0 & CR0_PE) && (v->s.cpl > iopl || (v->s.rflags & FL_VM)))
        check_bitmap(v, port, size);
}

static uint64_t port_read(struct vcpu *v, uint16_t port, unsigned size)
{
    vcpu_publish_ticks(v);
    debug_io_check(v, port, size);
    probes_other(v, PROBE_PORT, port, size, false);
    return bus_read(v->machine->bus, BUS_PIO, port, size);
}

static void port_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
    vcpu_publish_ticks(v);
    debug_io_check(v, port, size);
    probes_other(v, PROBE_PORT, port, size, true);
    bus_write(v->machine->bus, BUS_PIO, port, size, value);
}

/* y: the port is in DX, not an immediate. */
static uint16_t port_of(const struct vcpu *v, const struct insn *in)
{
    return in->y ? (uint16_t)v->s.r[R_RDX] : (uint8_t)in->imm;
}

void sys_in(struct vcpu *v, const struct insn *in)
{
    uint16_t port = port_of(v, in);
    check_permission(v, port, in->opsize);
    uint64_t value = port_read(v, port, in->opsize);
    if (in->opsize == 1)
        REG8(v, R_RAX * 8) = (uint8_t)value;
    else if (in->opsize == 2)
        REG16(v, R_RAX * 8) = (uint16_t)value;
    else
        v->s.r[R_RAX] = (uint32_t)value;
}

void sys_out(struct vcpu *v, const struct insn *in)
{
    uint16_t port = port_of(v, in);
    check_permission(v, port, in->opsize);
    port_write(v, port, in->opsize, v->s.r[R_RAX] & (bit(8 * in->opsize) - 1));
}

/* ---- INS, OUTS ---- */

/* Registers are used and updated with the width of the address. */
static void set_masked(struct vcpu *v, unsigned reg, uint64_t mask, uint64_t value)
{
    v->s.r[reg] = mask == 0xffff ? (v->s.r[reg] & ~mask) | (value & mask) : value & mask;
}

/* Bookkeeping after one element: the index moves, and a REP form runs again until its count is used up. */
static void string_done(struct vcpu *v, const struct insn *in, unsigned reg)
{
    uint64_t next = insn_next(v, in), self = insn_rip(v, in);
    uint64_t step = v->s.rflags & FL_DF ? UINT64_C(0) - in->opsize : in->opsize;
    set_masked(v, reg, in->addr_mask, v->s.r[reg] + step);
    bool again = false;
    if (in->flags & (INSN_REP | INSN_REPNE)) {
        set_masked(v, R_RCX, in->addr_mask, v->s.r[R_RCX] - 1);
        again = v->s.r[R_RCX] & in->addr_mask;
    }
    if (again)
        vcpu_rep_goes_on(v);
    v->s.r[R_RIP] = again ? self : next;
}

/* REP with a count of 0 is done at once; the permission was checked all the same. */
static bool nothing_to_do(struct vcpu *v, const struct insn *in)
{
    if (!(in->flags & (INSN_REP | INSN_REPNE)) || (v->s.r[R_RCX] & in->addr_mask))
        return false;
    v->s.r[R_RIP] = insn_next(v, in);
    return true;
}

void sys_ins(struct vcpu *v, const struct insn *in)
{
    struct span sp;
    uint16_t port = (uint16_t)v->s.r[R_RDX];
    check_permission(v, port, in->opsize);
    if (nothing_to_do(v, in))
        return;
    uint64_t lin = lin_addr(v, S_ES, v->s.r[R_RDI] & in->addr_mask, in->opsize, true);
    mmu_span(v, lin, in->opsize, ACC_WRITE, cpu_of(v)->mmu_mode, S_ES, &sp); /* before the port is read */
    uint64_t value = port_read(v, port, in->opsize);
    span_write(v, &sp, &value);
    string_done(v, in, R_RDI);
}

void sys_outs(struct vcpu *v, const struct insn *in)
{
    uint16_t port = (uint16_t)v->s.r[R_RDX];
    check_permission(v, port, in->opsize);
    if (nothing_to_do(v, in))
        return;
    uint64_t ea = v->s.r[R_RSI] & in->addr_mask;
    uint64_t value = in->opsize == 1 ? ld8(v, in->seg, ea) : in->opsize == 2 ? ld16(v, in->seg, ea) : ld32(v, in->seg, ea);
    port_write(v, port, in->opsize, value);
    string_done(v, in, R_RSI);
}
