/* exec/interp/interp.c: the dispatcher of the reference engine.
 *
 * Two gears. In the fast one blocks run back to back through their links while nothing needs attention. Whatever
 * does (an event, a shadow, TF, RF, execute breakpoints, a stop) is looked at between blocks, in the slow gear, which
 * steps single instructions where the architecture has something to say after each.
 *
 * Faults come back through cpu->unwind with the position inside the block (cpu->first, cpu->cur): the instructions
 * before it have retired, the faulting one has changed nothing. */
#include "exec/interp/interp.h"

#include <stdlib.h>

#include "exec/interp/block.h"
#include "exec/x86/mmu.h"
#include "exec/x86/probe.h"
#include "exec/x86/run.h"
#include "exec/x86/sys.h"

enum { DR7_ENABLES = 0xff };

struct interp {
    struct engine e;
    struct block_cache *blocks;
};

/* Run the first n instructions of a block (fewer when one of them asks for a break). R_RIP and ticks are exact after. */
static inline void run_insns(struct vcpu *v, struct cpu *c, const struct block *b, uint64_t n)
{
    const struct insn *in = b->insns, *end = in + n;
    c->first = in;
    do {
        c->cur = in;
        in->fn(v, in);
        in++;
    } while (in < end && !v->brk);
    v->ticks += (uint64_t)(in - c->first);
    const struct insn *last = in - 1;
    if (!(last->flags & INSN_ENDS) || (last->flags & INSN_NEXT))
        v->s.r[R_RIP] = insn_next(v, last);
    c->cur = NULL;
}

static uint64_t fetch_lin(const struct vcpu *v, const struct cpu *c)
{
    return (v->s.r[R_RIP] + c->seg_base[S_CS]) & c->lin_mask;
}

/* Outside 64-bit mode every byte of an instruction must lie within CS's limit. How many instructions of the block do;
 * none: #GP(0). */
static uint64_t within_cs_limit(struct vcpu *v, const struct block *b, uint64_t n)
{
    uint64_t room = (uint64_t)v->s.seg[S_CS].limit + 1;
    uint64_t rip = v->s.r[R_RIP];
    if (likely(rip + b->len <= room))
        return n;
    uint64_t ok = 0;
    while (ok < n && rip + b->insns[ok].off + b->insns[ok].len <= room)
        ok++;
    if (!ok)
        vcpu_raise_err(v, VEC_GP, 0);
    return ok;
}

static uint64_t bounded(struct vcpu *v, const struct cpu *c, const struct block *b, uint64_t ticks)
{
    uint64_t n = MIN((uint64_t)b->count, ticks);
    return likely(c->mode == MODE_LONG64) ? n : within_cs_limit(v, b, n);
}

static struct block *follow_link(const struct block *b, const struct cpu *c, uint64_t lin)
{
    for (unsigned i = 0; i < BLOCK_LINKS; i++)
        if (b->link[i].lin == lin && b->link[i].epoch == c->code_epoch && b->link[i].to->mode == c->mode)
            return b->link[i].to;
    return NULL;
}

static struct block *find_next(struct interp *it, struct block *b, const struct cpu *c, uint64_t lin)
{
    uint64_t epoch = c->code_epoch;
    struct block *next = block_lookup(it->blocks, lin);
    /* A changed epoch: the lookup evicted or flushed something, `b` included perhaps. */
    if (epoch == c->code_epoch && !next->transient && !b->transient) {
        b->link[b->next_link].lin = lin;
        b->link[b->next_link].epoch = epoch;
        b->link[b->next_link].to = next;
        b->next_link = (uint8_t)((b->next_link + 1) % BLOCK_LINKS);
    }
    return next;
}

/* Blocks back to back, until something needs attention or `until` is reached. */
static void run_fast(struct interp *it, struct vcpu *v, struct cpu *c)
{
    struct block *b = block_lookup(it->blocks, fetch_lin(v, c));
    for (;;) {
        run_insns(v, c, b, bounded(v, c, b, c->until - v->ticks));
        if (unlikely(run_needs_attention(v) || v->ticks >= c->until || c->kick))
            return;
        uint64_t lin = fetch_lin(v, c);
        struct block *next = follow_link(b, c, lin);
        if (!next && probes_armed(v, lin)) /* nothing links to it */
            return;
        b = next ? next : find_next(it, b, c, lin);
    }
}

/* One instruction, with everything that the architecture ties to instruction ends. Of a REP string one iteration, or,
 * when there is nothing to look at but RF, as many as fit. */
static void step(struct interp *it, struct vcpu *v, struct cpu *c)
{
    uint64_t until = c->until, rip = v->s.r[R_RIP];
    bool tf = v->s.rflags & FL_TF, rf = v->s.rflags & FL_RF;
    bool many = !run_needs_attention_but_rf(v);

    if (!rf && (v->s.dr[7] & DR7_ENABLES))
        debug_fetch_check(v, fetch_lin(v, c));
    struct block *b = block_lookup(it->blocks, fetch_lin(v, c));
    uint64_t n = bounded(v, c, b, 1);
    /* The instruction may set these anew: IRET loads RF, STI and MOV SS set a shadow. */
    v->s.rflags &= ~(uint64_t)FL_RF;
    v->s.shadow = 0;
    if (!many)
        c->until = v->ticks + 1;
    run_insns(v, c, b, n);
    c->until = until;
    if (rf && v->s.r[R_RIP] == rip && (b->insns[0].flags & (INSN_REP | INSN_REPNE)))
        v->s.rflags |= FL_RF; /* not complete: RF holds until it is (SDM 17.3.1.1) */
    if (tf)
        debug_after_insn(v, tf);
}

void interp_step(struct engine *e, struct vcpu *v, uint64_t until)
{
    struct cpu *c = cpu_of(v);
    c->until = until;
    step((struct interp *)e, v, c);
}

static enum engine_stop interp_run(struct engine *e, uint64_t until)
{
    struct interp *it = (struct interp *)e;
    struct vcpu *v = &e->machine->vcpu;
    struct cpu *c = cpu_of(v);

    if (setjmp(c->unwind))
        run_take_fault(v);
    for (;;) {
        c->until = until;
        v->brk = 0;
        int stop = run_due_stop(v, until);
        if (stop >= 0)
            return (enum engine_stop)stop;
        if (event_pending(v) && deliver_pending(v)) {
            v->ticks++;
            continue;
        }
        if (v->s.activity == VCPU_HALTED)
            return STOP_HALT;
        if (probes_at(v) && probes_exec_stop(v))
            return STOP_PROBE;
        if (run_needs_attention(v))
            step(it, v, c);
        else
            run_fast(it, v, c);
    }
}

static void interp_destroy(struct engine *e)
{
    if (!e)
        return;
    struct interp *it = (struct interp *)e;
    block_cache_destroy(it->blocks);
    free(it);
}

static struct err *interp_create(struct machine *m, const struct engine_options *o, struct engine **out)
{
    (void)o;
    struct interp *it = calloc(1, sizeof(*it));
    if (!it)
        return err_new(ERR_HOST, "out of memory for the interpreter");
    it->e = (struct engine){&engine_interp, m};
    struct err *e = block_cache_create(&m->vcpu, &it->blocks);
    if (e) {
        free(it);
        return e;
    }
    *out = &it->e;
    return NULL;
}

const struct engine_ops engine_interp = {
    .name = "interp",
    .summary = "reference interpreter, all modes",
    .create = interp_create,
    .destroy = interp_destroy,
    .run = interp_run,
};
