/* exec/mixed.c: the interpreter and the translator in turn, changed after a pseudo-random number of ticks. It exists to
 * prove what engine.h promises: engines may be exchanged at any stop, and nobody can tell. Where the changes come depends
 * on ticks and engine_options.seed alone, so that a run that shows a difference can be had again. */
#include "exec/mixed.h"

#include <stdlib.h>

#include "core/machine.h"
#include "exec/dbt/dbt_engine.h"
#include "exec/interp/interp.h"

enum { SWITCH_TICKS = 10000, SEED = 1 };

struct mixed {
    struct engine e;
    struct engine *part[2];
    unsigned current;
    uint64_t longest; /* slices are 1 to this many ticks long */
    uint64_t rng;
    uint64_t change;  /* the tick at which the other one takes over */
};

static uint64_t next_random(struct mixed *x) /* splitmix64 */
{
    uint64_t z = x->rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void begin_slice(struct mixed *x, uint64_t now)
{
    x->current = !x->current;
    x->change = now + 1 + next_random(x) % x->longest;
}

static enum engine_stop mixed_run(struct engine *e, uint64_t until)
{
    struct mixed *x = (struct mixed *)e;
    const struct vcpu *v = &e->machine->vcpu;
    for (;;) {
        /* The second: ticks went back, or forward, to where a checkpoint was taken. */
        if (v->ticks >= x->change || x->change - v->ticks > x->longest)
            begin_slice(x, v->ticks);
        struct engine *part = x->part[x->current];
        enum engine_stop stop = part->ops->run(part, MIN(until, x->change));
        if (stop != STOP_TICKS || v->ticks >= until)
            return stop;
    }
}

static void mixed_measure(struct engine *e, uint64_t (*host_ns)(void))
{
    engine_measure(((struct mixed *)e)->part[1], host_ns);
}

static size_t mixed_stats(const struct engine *e, struct engine_stat *out, size_t max)
{
    return engine_dbt.stats(((const struct mixed *)e)->part[1], out, max);
}

static void mixed_destroy(struct engine *e)
{
    if (!e)
        return;
    struct mixed *x = (struct mixed *)e;
    engine_interp.destroy(x->part[0]);
    engine_dbt.destroy(x->part[1]);
    free(x);
}

static struct err *mixed_create(struct machine *m, const struct engine_options *o, struct engine **out)
{
    struct mixed *x = calloc(1, sizeof(*x));
    if (!x)
        return err_new(ERR_HOST, "out of memory for two engines");
    x->e = (struct engine){&engine_mixed, m};
    x->longest = o->switch_ticks ? o->switch_ticks : SWITCH_TICKS;
    x->rng = o->seed ? o->seed : SEED;
    struct err *e = engine_interp.create(m, o, &x->part[0]);
    if (!e)
        e = engine_dbt.create(m, o, &x->part[1]);
    if (e) {
        mixed_destroy(&x->e);
        return e;
    }
    *out = &x->e;
    return NULL;
}

const struct engine_ops engine_mixed = {
    .name = "mixed",
    .summary = "both in turn, changed at random ticks, for tests",
    .create = mixed_create,
    .destroy = mixed_destroy,
    .run = mixed_run,
    .measure = mixed_measure,
    .stats = mixed_stats,
};
