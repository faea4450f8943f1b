/* tests/unit/vclock.c: virtual time as a function of ticks, and timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/vclock.h"

static uint64_t xorshift(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

static void time_is_linear_in_ticks(void **state)
{
    (void)state;
    struct vclock c;
    vclock_init(&c, UINT64_C(3) << 31, 1000); /* 1.5 ns a tick */
    assert_true(vclock_ns_at(&c, 0) == 0);
    assert_true(vclock_ns_at(&c, 3) == 4);
    c.now_ticks = 10;
    assert_true(vclock_ns(&c) == 15);
    assert_true(vclock_wall_ns(&c) == 1015);
}

static void ticks_at_inverts_ns_at(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252;
    for (int i = 0; i < 200000; i++) {
        struct vclock c;
        vclock_init(&c, xorshift(&seed) >> (xorshift(&seed) % 60) | 1, 0);
        c.s.base_ticks = xorshift(&seed) >> (xorshift(&seed) % 60 + 4);
        c.s.base_ns = xorshift(&seed) >> (xorshift(&seed) % 60 + 4);
        uint64_t ns = c.s.base_ns + (xorshift(&seed) >> (xorshift(&seed) % 60 + 4));
        uint64_t t = vclock_ticks_at(&c, ns);
        if (t == VCLOCK_NEVER) {
            assert_true(ns > UINT64_MAX / 2 || vclock_ns_at(&c, UINT64_MAX - 1) < ns);
            continue;
        }
        assert_true(vclock_ns_at(&c, t) >= ns);
        assert_true(t == c.s.base_ticks || vclock_ns_at(&c, t - 1) < ns);
    }
}

static void time_never_runs_backwards(void **state)
{
    (void)state;
    struct vclock c;
    vclock_init(&c, UINT64_C(1) << 32, 0);
    c.now_ticks = 1000;
    vclock_anchor(&c, 500, UINT64_C(1) << 31);
    assert_true(vclock_ns(&c) == 1000);
    assert_true(vclock_ns_at(&c, 1010) == 1005);
    assert_true(vclock_ns_at(&c, 0) == 1000);
    c.now_ticks = 1010;
    vclock_anchor(&c, 5000, 0);
    assert_true(vclock_ns(&c) == 5000 && c.s.rate_q32 == 1);
    assert_true(vclock_ns_at(&c, UINT64_MAX) >= 5000);
    vclock_anchor(&c, UINT64_MAX, UINT64_MAX);
    assert_true(vclock_ns_at(&c, UINT64_MAX) == UINT64_MAX / 2);
}

struct log { unsigned n; char text[64]; struct vclock *c; struct vtimer *again; uint64_t step; };
struct named { char name; struct log *log; struct vtimer t; };

static void fired(void *owner, uint64_t deadline_ns)
{
    struct named *n = owner;
    struct log *l = n->log;
    assert_true(n->t.deadline_ns == VCLOCK_NEVER);
    if (l->n < sizeof(l->text) - 1)
        l->text[l->n] = n->name;
    l->n++;
    if (l->again == &n->t)
        vtimer_arm(l->c, &n->t, deadline_ns + l->step);
}

static void timers_fire_in_order(void **state)
{
    (void)state;
    struct vclock c;
    struct log log = {.c = &c};
    struct named a = {'a', &log, {0}}, b = {'b', &log, {0}}, d = {'d', &log, {0}};
    vclock_init(&c, UINT64_C(1) << 32, 0);
    vtimer_add(&c, &a.t, fired, &a);
    vtimer_add(&c, &b.t, fired, &b);
    vtimer_add(&c, &d.t, fired, &d);
    assert_true(vclock_next_tick(&c) == VCLOCK_NEVER && !c.deadline_moved);
    vtimer_arm(&c, &d.t, 50);
    assert_true(c.deadline_moved && vclock_next_tick(&c) == 50);
    c.deadline_moved = false;
    vtimer_arm(&c, &b.t, 60);
    vtimer_arm(&c, &a.t, 60);
    assert_false(c.deadline_moved); /* the earliest is the same */
    c.now_ticks = 49;
    vclock_run_timers(&c);
    assert_int_equal(log.n, 0);
    c.now_ticks = 60;
    vclock_run_timers(&c);
    assert_string_equal(log.text, "dab");
    assert_true(c.deadline_moved && c.next_ns == VCLOCK_NEVER);
    vtimer_arm(&c, &a.t, 70);
    vtimer_remove(&c, &a.t);
    assert_true(c.next_ns == VCLOCK_NEVER);
    vtimer_arm(&c, &b.t, UINT64_MAX - 1); /* out of reach */
    assert_true(c.next_ns == VCLOCK_NEVER);
}

static void a_timer_cannot_hang_the_clock(void **state)
{
    (void)state;
    struct vclock c;
    struct log log = {.c = &c};
    struct named a = {'a', &log, {0}};
    log.again = &a.t;
    vclock_init(&c, UINT64_C(1) << 32, 0);
    vtimer_add(&c, &a.t, fired, &a);
    vtimer_arm(&c, &a.t, 0);
    vclock_run_timers(&c);
    assert_int_equal(log.n, 4096);
    log.step = 10; /* and catches up, once for each period */
    log.n = 0;
    c.now_ticks = 95;
    vclock_run_timers(&c);
    assert_int_equal(log.n, 10);
    assert_true(c.next_ns == 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_is_linear_in_ticks),   cmocka_unit_test(ticks_at_inverts_ns_at),
        cmocka_unit_test(time_never_runs_backwards), cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(a_timer_cannot_hang_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
