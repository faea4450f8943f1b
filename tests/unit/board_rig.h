/* tests/unit/board_rig.h: a machine without an engine, for device tests: ports and registers are accessed directly,
 * time is moved by hand (one tick is one virtual nanosecond) and the CPU's acknowledge cycle is called by the test. */
#ifndef HW_TEST_BOARD_RIG_H
#define HW_TEST_BOARD_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/irq.h"
#include "core/machine.h"
#include "core/platform.h"

#define RIG_WALL_S UINT64_C(1700000000) /* 2023-11-14 22:13:20 UTC, a Tuesday */
#define US(n) ((uint64_t)(n) * 1000)
#define MS(n) ((uint64_t)(n) * 1000000)

struct rig {
    struct machine *m;
    unsigned wakeups; /* timers that fired in rig_run() */
    struct { uint8_t byte, stream, channel; } out[256];
    size_t out_len;
};

static inline struct err *rig_start(void *self, struct nondet_start *out)
{
    (void)self;
    *out = (struct nondet_start){.wall_ns = RIG_WALL_S * NS_PER_S};
    return NULL;
}

static inline void rig_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    struct rig *r = self;
    for (size_t i = 0; i < len && r->out_len < ARRAY_LEN(r->out); i++, r->out_len++) {
        r->out[r->out_len].byte = data[i];
        r->out[r->out_len].stream = (uint8_t)stream;
        r->out[r->out_len].channel = channel;
    }
}

static inline struct rig *rig_create(void)
{
    static const struct nondet_ops ops = {.start = rig_start, .output = rig_output};
    struct rig *r = calloc(1, sizeof(*r));
    struct machine_config cfg = {.ram_len = MIB(64), .rate_q32 = UINT64_C(1) << 32};
    assert_non_null(r);
    assert_null(machine_create(&cfg, 0, (struct nondet){&ops, r}, &r->m));
    return r;
}

static inline void rig_destroy(struct rig *r)
{
    machine_destroy(r->m);
    free(r);
}

static inline int rig_setup(void **state)
{
    *state = rig_create();
    return 0;
}

static inline int rig_teardown(void **state)
{
    rig_destroy(*state);
    return 0;
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

static inline uint64_t rig_now(const struct rig *r) { return vclock_ns(&r->m->clock); }

/* Let virtual time pass until `ns`, firing timers at their ticks as a session does. */
static inline void rig_run_until(struct rig *r, uint64_t ns)
{
    struct vclock *c = &r->m->clock;
    for (uint64_t next; (next = vclock_next_tick(c)) <= ns; r->wakeups++) {
        c->now_ticks = MAX(c->now_ticks, next);
        vclock_run_timers(c);
    }
    c->now_ticks = ns;
}

static inline void rig_run(struct rig *r, uint64_t ns) { rig_run_until(r, rig_now(r) + ns); }

static inline uint64_t in_n(struct rig *r, uint16_t port, unsigned width)
{
    return bus_read(r->m->bus, BUS_PIO, port, width);
}
static inline void out_n(struct rig *r, uint16_t port, unsigned width, uint64_t v)
{
    bus_write(r->m->bus, BUS_PIO, port, width, v);
}
static inline uint8_t in8(struct rig *r, uint16_t port) { return (uint8_t)in_n(r, port, 1); }
static inline void out8(struct rig *r, uint16_t port, uint8_t v) { out_n(r, port, 1, v); }
static inline uint32_t mmio_get(struct rig *r, uint64_t a) { return (uint32_t)bus_read(r->m->bus, BUS_MMIO, a, 4); }
static inline void mmio_put(struct rig *r, uint64_t a, uint32_t v) { bus_write(r->m->bus, BUS_MMIO, a, 4, v); }

static inline uint32_t apic_get(struct rig *r, unsigned off) { return mmio_get(r, LAPIC_BASE + off); }
static inline void apic_put(struct rig *r, unsigned off, uint32_t v) { mmio_put(r, LAPIC_BASE + off, v); }

static inline uint32_t ioapic_get(struct rig *r, uint8_t reg)
{
    mmio_put(r, IOAPIC_BASE, reg);
    return mmio_get(r, IOAPIC_BASE + 0x10);
}

static inline void ioapic_put(struct rig *r, uint8_t reg, uint32_t v)
{
    mmio_put(r, IOAPIC_BASE, reg);
    mmio_put(r, IOAPIC_BASE + 0x10, v);
}

/* What the CPU does with interrupts enabled: the vector it takes, or -1 when its pin is low. */
static inline int take(struct rig *r) { return r->m->vcpu.intr ? irq_ack(r->m) : -1; }

/* The usual set-up of an 8259 pair: vectors 0x20 and 0x28, edge triggered. */
static inline void pic_init(struct rig *r, uint8_t icw4, uint8_t master_mask, uint8_t slave_mask)
{
    static const uint8_t vectors[2] = {0x20, 0x28}, cascade[2] = {4, 2};
    const uint8_t masks[2] = {master_mask, slave_mask};
    static const uint16_t ports[2] = {PIC_MASTER_PORT, PIC_SLAVE_PORT};
    for (int i = 0; i < 2; i++) {
        out8(r, ports[i], 0x11);
        out8(r, ports[i] + 1, vectors[i]);
        out8(r, ports[i] + 1, cascade[i]);
        out8(r, ports[i] + 1, icw4);
        out8(r, ports[i] + 1, masks[i]);
    }
}

#endif
