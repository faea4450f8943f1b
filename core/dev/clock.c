/* core/dev/clock.c: the virtual clock as a device, so that its state is saved and digested with the others. */
#include "core/dev/board.h"

static void *clock_create(struct machine *m) { return &m->clock; }
static void clock_destroy(void *dev) { (void)dev; }

static void *clock_state_of(void *dev)
{
    struct vclock *clk = dev;
    return &clk->s;
}

static bool clock_valid(const void *state)
{
    const struct vclock_state *s = state;
    return s->rate_q32 && s->base_ns <= VCLOCK_NS_MAX;
}

static const struct snap_field clock_fields[] = {
    SNAP(struct vclock_state, base_ticks),
    SNAP(struct vclock_state, base_ns),
    SNAP(struct vclock_state, rate_q32),
    SNAP(struct vclock_state, wall_base_ns),
    SNAP_END,
};

const struct dev_class dev_clock = {
    .name = "clock",
    .create = clock_create,
    .destroy = clock_destroy,
    .state = clock_fields,
    .state_of = clock_state_of,
    .valid = clock_valid,
};
