/* gdb/stepping.c: steps that leave a source line. See stepping.h. */
#include "gdb/stepping.h"

#include "gdb/regs.h"

/* Where an instruction stands; what a handler returns to. */
struct place { uint64_t pc, rip, rsp, flags; uint16_t cs; };

static struct place place_of(const struct vcpu_state *s)
{
    return (struct place){reg_pc(s), s->r[R_RIP], s->r[R_RSP], vcpu_rflags(s), s->seg[S_CS].sel};
}

/* The stack begins with a frame that IRET would return by to `old`, perhaps after an error code (SDM vol. 3, 6.12.1 and
 * 6.14.2). RF is set in the frames of faults. Real mode is left to the user. */
static bool frame_returns_to(const struct timeline *t, const struct place *old, unsigned skip)
{
    const struct vcpu_state *s = timeline_vcpu(t);
    bool long_mode = s->efer & EFER_LMA;
    unsigned width = long_mode ? 8 : 4;
    uint64_t base = long_mode ? 0 : s->seg[S_SS].base, mask = long_mode ? UINT64_MAX : UINT32_MAX, word[4] = {0};
    uint8_t bytes[4 * 8];
    if (!(s->cr0 & CR0_PE))
        return false;
    if (timeline_read(t, TS_LINEAR, (base + s->r[R_RSP] + skip * width) & mask, bytes, 4 * width) < 4 * width)
        return false;
    for (unsigned i = 0; i < 4; i++)
        memcpy(&word[i], bytes + i * width, width);
    return word[0] == (old->rip & mask) && (word[1] & UINT16_MAX) == old->cs &&
           !((word[2] ^ old->flags) & UINT32_MAX & ~(uint64_t)FL_RF) && (!long_mode || word[3] == old->rsp);
}

static bool entered_handler(const struct timeline *t, const struct place *old)
{
    return frame_returns_to(t, old, 0) || frame_returns_to(t, old, 1);
}

/* Another call of the same code has another stack. */
static bool same_stack(void *arg, struct timeline *t)
{
    return timeline_vcpu(t)->r[R_RSP] == ((const struct place *)arg)->rsp;
}

static struct err *run_handler(struct timeline *t, struct place *old, struct timeline_stop *stop)
{
    struct timeline_probe p = {.kind = TP_EXECUTE, .addr = old->pc, .len = 1, .condition = same_stack, .arg = old};
    unsigned number;
    struct err *e = timeline_probe_add(t, &p, &number);
    if (e)
        return e;
    e = timeline_run(t, false, stop);
    timeline_probe_remove(t, number);
    if (!e && stop->hits == 1 && stop->hit[0].probe == number)
        stop->why = TL_REACHED;
    return e;
}

/* A single step is too short for the timeline to ask whether somebody waits. */
static bool interrupted(const struct gdb_target *target, unsigned n)
{
    enum { ASK_EVERY = 64 };
    return n % ASK_EVERY == 0 &&
           (gdbs_interrupt_wanted(target->g) || (target->interrupted && target->interrupted(target->interrupted_arg)));
}

struct err *stepping_range(struct gdb_target *target, uint64_t start, uint64_t end, struct timeline_stop *stop)
{
    struct timeline *t = target->t;
    for (unsigned n = 1;; n++) {
        struct place old = place_of(timeline_vcpu(t));
        struct err *e = timeline_step(t, 1, stop);
        uint64_t pc = reg_pc(timeline_vcpu(t));
        bool left = pc < start || pc >= end;
        if (!e && stop->why == TL_REACHED && left && entered_handler(t, &old)) {
            e = run_handler(t, &old, stop);
            left = false; /* back where it was */
        }
        if (e || stop->why != TL_REACHED || left)
            return e;
        if (!interrupted(target, n))
            continue;
        stop->why = TL_INTERRUPTED;
        return NULL;
    }
}
