/* core/vclock.c: virtual time and its timers. Few timers exist (one per device), so a list with a cached minimum is
 * all that is needed. */
#include "core/vclock.h"

void vclock_init(struct vclock *c, uint64_t rate_q32, uint64_t wall_base_ns)
{
    *c = (struct vclock){.s = {.rate_q32 = MAX(rate_q32, 1), .wall_base_ns = wall_base_ns}, .next_ns = VCLOCK_NEVER};
}

uint64_t vclock_ns(const struct vclock *c)
{
    return vclock_ns_at(c, c->now_ticks);
}

uint64_t vclock_wall_ns(const struct vclock *c)
{
    return c->s.wall_base_ns + vclock_ns(c);
}

uint64_t vclock_ticks_at(const struct vclock *c, uint64_t ns)
{
    if (ns <= c->s.base_ns)
        return c->s.base_ticks;
    if (ns > VCLOCK_NS_MAX)
        return VCLOCK_NEVER;
    /* The least k with floor(k * rate / 2^32) >= d is the least with k * rate >= d * 2^32. */
    u128 k = (((u128)(ns - c->s.base_ns) << 32) + c->s.rate_q32 - 1) / c->s.rate_q32;
    return k >= VCLOCK_NEVER - c->s.base_ticks ? VCLOCK_NEVER : c->s.base_ticks + (uint64_t)k;
}

uint64_t vclock_next_tick(const struct vclock *c)
{
    return c->next_ns == VCLOCK_NEVER ? VCLOCK_NEVER : vclock_ticks_at(c, c->next_ns);
}

void vclock_anchor(struct vclock *c, uint64_t ns, uint64_t rate_q32)
{
    uint64_t now = vclock_ns(c);
    c->s.base_ns = MIN(MAX(ns, now), VCLOCK_NS_MAX);
    c->s.base_ticks = c->now_ticks;
    c->s.rate_q32 = MAX(rate_q32, 1); /* a rate of 0 would stop time for ever */
}

static void update_next(struct vclock *c)
{
    uint64_t next = VCLOCK_NEVER;
    for (const struct vtimer *t = c->timers; t; t = t->next)
        next = MIN(next, t->deadline_ns);
    c->deadline_moved |= next != c->next_ns;
    c->next_ns = next;
}

void vtimer_add(struct vclock *c, struct vtimer *t, vtimer_fn fn, void *owner)
{
    struct vtimer **end = &c->timers;
    while (*end)
        end = &(*end)->next;
    *t = (struct vtimer){.deadline_ns = VCLOCK_NEVER, .fn = fn, .owner = owner};
    *end = t;
}

void vtimer_remove(struct vclock *c, struct vtimer *t)
{
    struct vtimer **at = &c->timers;
    while (*at && *at != t)
        at = &(*at)->next;
    if (*at)
        *at = t->next;
    update_next(c);
}

void vtimer_arm(struct vclock *c, struct vtimer *t, uint64_t deadline_ns)
{
    if (deadline_ns > VCLOCK_NS_MAX)
        deadline_ns = VCLOCK_NEVER;
    if (t->deadline_ns == deadline_ns)
        return;
    t->deadline_ns = deadline_ns;
    update_next(c);
}

void vtimer_disarm(struct vclock *c, struct vtimer *t)
{
    vtimer_arm(c, t, VCLOCK_NEVER);
}

void vclock_timers_restored(struct vclock *c)
{
    update_next(c);
}

/* The timer to fire next; of equal deadlines the one registered first. NULL when none is due. */
static struct vtimer *first_due(const struct vclock *c, uint64_t now)
{
    struct vtimer *first = NULL;
    for (struct vtimer *t = c->timers; t; t = t->next)
        if (t->deadline_ns <= now && (!first || t->deadline_ns < first->deadline_ns))
            first = t;
    return first;
}

void vclock_run_timers(struct vclock *c)
{
    enum { FIRE_MAX = 4096 };
    uint64_t now = vclock_ns(c);
    for (int n = 0; n < FIRE_MAX && c->next_ns <= now; n++) {
        struct vtimer *t = first_due(c, now);
        uint64_t deadline = t->deadline_ns;
        vtimer_disarm(c, t);
        t->fn(t->owner, deadline);
    }
}
