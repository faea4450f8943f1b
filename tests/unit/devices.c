/* tests/unit/devices.c: what holds for every device: field tables cover the state, a checkpoint restored into another
 * machine goes on identically, and no sequence of accesses crashes, hangs or makes two equal machines differ. */
#include <stdio.h>

#include "tests/unit/board_rig.h"

#include "core/base/err.h"
#include "core/dev/board.h"

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

static uint64_t test_seed(void)
{
    const char *text = getenv("HW_TEST_SEED");
    return text ? strtoull(text, NULL, 0) | 1 : UINT64_C(0x9e3779b97f4a7c15);
}

/* Settings that put devices to work; random values alone would mostly leave them masked or stopped. */
static void sensible_step(struct rig *r, uint64_t *s)
{
    static const struct { uint16_t port; uint8_t value; } ports[] = {
        {0x43, 0x34}, {0x43, 0x36}, {0x43, 0x30}, {0x43, 0x38}, {0x40, 0x10}, {0x40, 0x00}, {0x61, 0x01}, {0x61, 0x00},
        {0x21, 0x00}, {0xa1, 0x00}, {0x20, 0x20}, {0xa0, 0x20}, {0x20, 0x0c}, {0x70, 0x0a}, {0x70, 0x0b}, {0x70, 0x0c},
        {0x71, 0x26}, {0x71, 0x72}, {0x71, 0x02}, {0x70, 0x01}, {0x70, 0x03}, {0x70, 0x05}, {0x71, 0xff}, {0x3f9, 0x0f},
        {0x3fa, 0x81}, {0x3fb, 0x03}, {0x2f9, 0x03}, {0x602, 0x01}, {0x60, 0xff}, {0x64, 0xd4}, {0x60, 0xf2},
    };
    static const struct { uint64_t addr; uint32_t value; } regs[] = {
        {LAPIC_BASE + 0xf0, 0x1ff}, {LAPIC_BASE + 0x320, 0x20040}, {LAPIC_BASE + 0x320, 0x00041},
        {LAPIC_BASE + 0x320, 0x40042}, {LAPIC_BASE + 0x3e0, 0x3}, {LAPIC_BASE + 0x3e0, 0xb},
        {LAPIC_BASE + 0x380, 5000}, {LAPIC_BASE + 0x380, 77777}, {LAPIC_BASE + 0xb0, 0}, {LAPIC_BASE + 0x350, 0x700},
        {LAPIC_BASE + 0x350, 0x8050}, {LAPIC_BASE + 0x370, 0xfe}, {LAPIC_BASE + 0x300, 0x40066},
        {IOAPIC_BASE, 0x14}, {IOAPIC_BASE, 0x22}, {IOAPIC_BASE, 0x18}, {IOAPIC_BASE + 0x10, 0x8061},
        {IOAPIC_BASE + 0x10, 0x0062},
    };
    uint64_t k = rnd(s) % (ARRAY_LEN(ports) + ARRAY_LEN(regs) + 2), in = rnd(s) % 4;
    if (k < ARRAY_LEN(ports) && !in)
        in8(r, ports[k].port);
    else if (k < ARRAY_LEN(ports))
        out8(r, ports[k].port, ports[k].value);
    else if (k < ARRAY_LEN(ports) + ARRAY_LEN(regs))
        mmio_put(r, regs[k - ARRAY_LEN(ports)].addr, regs[k - ARRAY_LEN(ports)].value);
    else if (in)
        lapic_wrmsr(r->m, 0x6e0, rig_now(r) + rnd(s) % 50000);
    else
        pic_init(r, (uint8_t)(rnd(s) % 0x20) | 1, (uint8_t)rnd(s), (uint8_t)rnd(s));
}

/* One random thing that may happen to a machine: register accesses at and around everything mapped, MSRs, typed input,
 * time, interrupt acknowledgement. Mostly sensible addresses, so that states are reached that matter. */
static void random_port(struct rig *r, uint64_t *s)
{
    static const uint16_t bases[] = {0x20, 0xa0, 0x4d0, 0x40, 0x60, 0x70, 0x80, 0x92, 0xe8, 0x3f8, 0x2f8, 0x3e8, 0x2e8,
                                     0x510, 0x600, 0x604, 0x608, 0xcf8};
    uint16_t port = rnd(s) % 16 ? (uint16_t)(bases[rnd(s) % ARRAY_LEN(bases)] + rnd(s) % 8) : (uint16_t)rnd(s);
    unsigned width = rnd(s) % 4 ? 1 : 1u << rnd(s) % 3;
    if (rnd(s) % 3 == 0)
        in_n(r, port, width);
    else
        out_n(r, port, width, rnd(s));
}

static void random_mmio(struct rig *r, uint64_t *s)
{
    uint64_t base = rnd(s) % 3 ? LAPIC_BASE : IOAPIC_BASE;
    uint64_t off = rnd(s) % 8 ? rnd(s) % 0x40 * 0x10 : rnd(s) % 0x1008;
    unsigned width = rnd(s) % 8 ? 4 : 1u << rnd(s) % 4;
    if (rnd(s) % 3 == 0)
        bus_read(r->m->bus, BUS_MMIO, base + off, width);
    else
        bus_write(r->m->bus, BUS_MMIO, base + off, width, rnd(s) >> rnd(s) % 60);
}

static void random_msr(struct rig *r, uint64_t *s)
{
    static const uint64_t bases[] = {0xfee00900, 0xfee00d00, 0xfee00100};
    uint64_t v = rnd(s) >> rnd(s) % 64;
    uint32_t msr = 0x800 + rnd(s) % 0x100;
    if (rnd(s) % 8 == 0) {
        msr = 0x1b;
        v = rnd(s) % 4 ? bases[rnd(s) % ARRAY_LEN(bases)] : v;
    } else if (rnd(s) % 4 == 0) {
        msr = 0x6e0;
    }
    if (rnd(s) % 3 == 0)
        lapic_rdmsr(r->m, msr, &v);
    else
        lapic_wrmsr(r->m, msr, v);
}

/* `wild`: anything goes; otherwise settings that keep devices at work, time, and interrupts being served. */
static void random_step(struct rig *r, uint64_t *s, bool wild)
{
    uint8_t typed[64];
    switch (wild ? rnd(s) % 24 : rnd(s) % 4 * 6) {
    case 0:
        rig_run(r, rnd(s) % 100000);
        break;
    case 1:
        rig_run(r, rnd(s) % 1000);
        break;
    case 2:
    case 12:
        take(r);
        break;
    case 3:
        memset(typed, (int)rnd(s), sizeof(typed));
        machine_console_input(r->m, rnd(s) % 5, typed, rnd(s) % sizeof(typed));
        break;
    case 4:
        lapic_set_cr8(r->m, rnd(s) % 16);
        break;
    case 5:
        irq_set(r->m, 16 + rnd(s) % 8, rnd(s) % 2);
        break;
    case 17:
        vclock_anchor(&r->m->clock, rig_now(r), r->m->clock.s.rate_q32);
        break;
    case 7:
        random_msr(r, s);
        break;
    case 8 ... 10:
        random_mmio(r, s);
        break;
    case 11:
    case 13 ... 16:
        random_port(r, s);
        break;
    default:
        sensible_step(r, s);
    }
    r->out_len = 0;
}

/* As a checkpoint does it: every device's image, in DEV order; then restored() in that order. */
static void copy_devices(const struct machine *from, struct machine *to)
{
    to->clock.now_ticks = from->clock.now_ticks;
    to->vcpu.s = from->vcpu.s;
    to->request = from->request;
    to->request_value = from->request_value;
    for (unsigned i = 0; i < DEV_COUNT; i++) {
        const struct dev_class *c = machine_dev_class(i);
        size_t len = snap_len(c->state);
        uint8_t *image = malloc(len + 1);
        assert_non_null(image);
        snap_save(c->state, c->state_of(from->dev[i]), image);
        snap_load(c->state, c->state_of(to->dev[i]), image);
        assert_null(snap_compare(c->state, c->state_of(from->dev[i]), c->state_of(to->dev[i])));
        free(image);
    }
    for (unsigned i = 0; i < DEV_COUNT; i++)
        if (machine_dev_class(i)->restored)
            machine_dev_class(i)->restored(to->dev[i]);
    vclock_timers_restored(&to->clock);
}

static void assert_same(const struct machine *a, const struct machine *b)
{
    for (unsigned i = 0; i < DEV_COUNT; i++) {
        const struct dev_class *c = machine_dev_class(i);
        const struct snap_field *f = snap_compare(c->state, c->state_of(a->dev[i]), c->state_of(b->dev[i]));
        if (f)
            fail_msg("%s.%s differs", c->name, f->name);
    }
    assert_true(machine_devices_digest(a) == machine_devices_digest(b));
    assert_int_equal(a->vcpu.intr, b->vcpu.intr);
    assert_true(a->clock.next_ns == b->clock.next_ns);
    assert_true(a->vcpu.s.apic_base == b->vcpu.s.apic_base);
    assert_int_equal(a->vcpu.s.nmi_pending, b->vcpu.s.nmi_pending);
    assert_int_equal(a->request, b->request);
}

static void tables_are_sound(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < DEV_COUNT; i++) {
        const struct dev_class *c = machine_dev_class(i);
        assert_non_null(c->name);
        assert_non_null(c->state);
        assert_non_null(c->state_of(r->m->dev[i]));
        for (const struct snap_field *f = c->state; f->name; f++) {
            assert_true(f->len > 0 && f->len % f->elem == 0);
            for (const struct snap_field *g = c->state; g < f; g++)
                assert_true(g->offset + g->len <= f->offset || f->offset + f->len <= g->offset);
        }
    }
}

static void machines_are_alike_and_independent(void **state)
{
    struct rig *a = *state, *b = rig_create();
    assert_same(a->m, b->m);
    out8(a, COM1_PORT + 7, 0x11);
    assert_true(machine_devices_digest(a->m) != machine_devices_digest(b->m));
    rig_destroy(b);
}

/* Two machines that see the same accesses stay the same; so does one that is continued from the other's checkpoint. */
static void checkpoints_continue_identically(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    printf("seed %#" PRIx64 " (HW_TEST_SEED)\n", seed);
    for (int round = 0; round < 40; round++) {
        struct rig *a = rig_create(), *b = rig_create();
        bool wild = round % 2;
        for (int i = 0; i < 3000; i++)
            random_step(a, &seed, wild);
        copy_devices(a->m, b->m);
        assert_same(a->m, b->m);
        for (int i = 0; i < 3000; i++) {
            uint64_t twin = seed;
            random_step(a, &seed, wild);
            random_step(b, &twin, wild);
            assert_true(seed == twin);
            if (i % 64 == 0)
                assert_same(a->m, b->m);
        }
        rig_run(a, NS_PER_S / 100);
        rig_run(b, NS_PER_S / 100);
        assert_same(a->m, b->m);
        rig_destroy(a);
        rig_destroy(b);
    }
}

/* That the PIT's edges are worked out late shows nowhere: a machine that looks at them all the time stays the same. */
static void lateness_does_not_show(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    for (int round = 0; round < 20; round++) {
        struct rig *a = rig_create(), *b = rig_create();
        for (int i = 0; i < 2000; i++) {
            uint64_t twin = seed;
            random_step(a, &seed, false);
            random_step(b, &twin, false);
            uint64_t until = rig_now(a) + rnd(&seed) % US(20);
            rig_run_until(a, until);
            while (rig_now(b) < until) {
                rig_run_until(b, MIN(until, rig_now(b) + 400)); /* a PIT clock is 838 ns */
                pit_sync(b->m);
                pit_rearm(b->m);
            }
            assert_int_equal(a->m->vcpu.intr, b->m->vcpu.intr);
        }
        pit_sync(a->m);
        pit_sync(b->m);
        pit_rearm(a->m);
        pit_rearm(b->m);
        assert_same(a->m, b->m);
        rig_destroy(a);
        rig_destroy(b);
    }
}

static void random_accesses_harm_nobody(void **state)
{
    uint64_t seed = test_seed();
    struct rig *r = *state;
    for (int i = 0; i < 300000; i++)
        random_step(r, &seed, true);
}

static void every_port_and_register_answers(void **state)
{
    struct rig *r = *state;
    uint64_t seed = test_seed();
    for (unsigned width = 1; width <= 4; width *= 2) {
        for (unsigned port = 0; port < 0x10000; port++) {
            in_n(r, (uint16_t)port, width);
            out_n(r, (uint16_t)port, width, rnd(&seed));
        }
    }
    for (unsigned width = 1; width <= 8; width *= 2) {
        for (unsigned off = 0; off < 0x1000; off++) {
            bus_read(r->m->bus, BUS_MMIO, LAPIC_BASE + off, width);
            bus_read(r->m->bus, BUS_MMIO, IOAPIC_BASE + off, width);
            bus_write(r->m->bus, BUS_MMIO, LAPIC_BASE + off, width, rnd(&seed));
            bus_write(r->m->bus, BUS_MMIO, IOAPIC_BASE + off, width, rnd(&seed));
        }
    }
}

/* An idle machine with every interrupt masked sleeps for ever, whatever firmware left running. */
static void an_idle_machine_sleeps(void **state)
{
    struct rig *r = *state;
    assert_true(vclock_next_tick(&r->m->clock) == VCLOCK_NEVER);
    rig_run(r, 100000 * NS_PER_S);
    assert_int_equal(r->wakeups, 0);
}

static struct err *no_start(void *self, struct nondet_start *out)
{
    (void)self, (void)out;
    return err_new(ERR_CORRUPT, "no start event");
}

static void creation_can_fail(void **state)
{
    (void)state;
    static const struct nondet_ops ops = {.start = no_start};
    struct machine_config cfg = {.ram_len = MIB(64), .rate_q32 = 1};
    struct machine *m;
    struct err *e = machine_create(&cfg, 0, (struct nondet){&ops, NULL}, &m);
    assert_non_null(e);
    assert_null(m);
    assert_int_equal(err_code(e), ERR_CORRUPT);
    err_destroy(e);
    machine_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(tables_are_sound),
        RIG_TEST(machines_are_alike_and_independent),
        cmocka_unit_test(checkpoints_continue_identically),
        cmocka_unit_test(lateness_does_not_show),
        RIG_TEST(random_accesses_harm_nobody),
        RIG_TEST(every_port_and_register_answers),
        RIG_TEST(an_idle_machine_sleeps),
        cmocka_unit_test(creation_can_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
