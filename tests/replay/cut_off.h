/* tests/replay/cut_off.h: guests that nothing comes to from outside, and the random numbers of those who run them. */
#ifndef CUT_OFF_H
#define CUT_OFF_H

#include <stdio.h>

#include "core/machine.h"

static uint64_t rng_state;

static uint64_t below(uint64_t n) /* splitmix64 */
{
    uint64_t z = rng_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % n;
}

static struct err *door_start(void *self, struct nondet_start *out)
{
    (void)self;
    *out = (struct nondet_start){.wall_ns = UINT64_C(1700000000) * NS_PER_S, .seed = {1}};
    return NULL;
}

static struct err *door_poll(void *self, uint64_t ticks, struct nondet_event *out)
{
    (void)self, (void)ticks;
    out->kind = ND_STOP; /* it is called only when nothing can wake the guest any more */
    return NULL;
}

static uint64_t door_horizon(void *self)
{
    (void)self;
    return UINT64_MAX;
}

static struct err *door_idle(void *self, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    (void)self, (void)ticks, (void)now_ns;
    *reached_out = deadline_ns != VCLOCK_NEVER;
    return NULL;
}

static void door_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)self, (void)channel;
    if (stream == ND_OUT_DEBUG) /* what a guest's failed check says */
        fwrite(data, 1, len, stderr);
}

static const struct nondet_ops cut_off_door = {door_start, door_poll, door_horizon, door_idle, door_output};

#endif
