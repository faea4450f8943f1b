/* exec/x86/debug.c: breakpoints and single-stepping (SDM vol. 3 chapter 17). Traps collect in vcpu_state.pending_db until the
 * instruction boundary, where deliver_pending() takes them. */
#include "exec/x86/sys.h"

enum { RW_EXECUTE = 0, RW_WRITE = 1, RW_IO = 2, RW_ACCESS = 3 };

static bool enabled(const struct vcpu_state *s, unsigned i) { return s->dr[7] >> (2 * i) & 3; }
static unsigned kind(const struct vcpu_state *s, unsigned i) { return s->dr[7] >> (16 + 4 * i) & 3; }
static uint64_t length(const struct vcpu_state *s, unsigned i)
{
    static const uint8_t len[] = {1, 2, 8, 4};
    return len[s->dr[7] >> (18 + 4 * i) & 3];
}

/* Whether breakpoint i, aligned to its length, shares a byte with [at, at + size). */
static bool overlaps(const struct vcpu_state *s, unsigned i, uint64_t at, uint64_t size)
{
    uint64_t len = length(s, i), start = s->dr[i] & ~(len - 1);
    return start - at < size || at - start < len;
}

void debug_fetch_check(struct vcpu *v, uint64_t lin)
{
    uint32_t hit = 0;
    if (v->s.shadow & SHADOW_MOVSS) /* SDM vol. 3, 6.8.3 */
        return;
    for (unsigned i = 0; i < 4; i++)
        if (enabled(&v->s, i) && kind(&v->s, i) == RW_EXECUTE && v->s.dr[i] == lin)
            hit |= 1u << i;
    if (hit)
        vcpu_raise_db(v, hit);
}

static void add_pending(struct vcpu *v, uint32_t dr6_bits)
{
    if (!dr6_bits)
        return;
    v->s.pending_db |= dr6_bits;
    v->brk |= VCPU_BRK_EVENT;
}

void debug_data_check(struct vcpu *v, uint64_t lin, uint32_t size, bool write)
{
    uint32_t hit = 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned k = kind(&v->s, i);
        if (enabled(&v->s, i) && (k == RW_ACCESS || (write && k == RW_WRITE)) && overlaps(&v->s, i, lin, size))
            hit |= 1u << i;
    }
    add_pending(v, hit);
}

void debug_io_check(struct vcpu *v, uint16_t port, unsigned size)
{
    uint32_t hit = 0;
    if (!(v->s.cr4 & CR4_DE))
        return;
    for (unsigned i = 0; i < 4; i++)
        if (enabled(&v->s, i) && kind(&v->s, i) == RW_IO && overlaps(&v->s, i, port, size))
            hit |= 1u << i;
    add_pending(v, hit);
}

void debug_after_insn(struct vcpu *v, bool tf_was_set)
{
    bool *own = &cpu_of(v)->own_step;
    if (tf_was_set && !*own)
        add_pending(v, DR6_BS);
    *own = false;
}

void debug_own_step(struct vcpu *v, bool trap)
{
    cpu_of(v)->own_step = v->s.rflags & FL_TF;
    if (trap)
        add_pending(v, DR6_BS);
}
