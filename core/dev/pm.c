/* core/dev/pm.c: ACPI fixed hardware: PM1a event and control blocks and the power-management timer.
 *
 * Reference: ACPI specification 6.4, section 4.8.3. The machine is always in ACPI mode (no SMI command port), so
 * SCI_EN reads as one. There are no fixed buttons; the status bit that can be set is the timer's, whenever bit 31 of
 * the 32-bit timer changes (every ten minutes). The bit is worked out when it is looked at; a timer is armed only
 * while its interrupt is enabled and not raised yet. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

enum { STS_TIMER = 0x0001, STS_WRITABLE = 0x8731 /* those the specification defines */ };
enum { EN_WRITABLE = 0x4721 };
enum { CNT_SCI_EN = 0x0001, CNT_SLP_EN = 0x2000, CNT_WRITABLE = 0x1c02, CNT_SLP_TYP_SHIFT = 10 };
enum { CARRY_SHIFT = 31 };

struct pm_state {
    uint64_t seen_ticks;  /* timer value, not wrapped, up to which `status` is right */
    uint64_t deadline_ns;
    uint16_t status, enable, control;
    uint16_t sci;         /* level driven */
};

struct pm {
    struct pm_state s;
    struct vtimer timer;
    struct machine *m; /* borrowed */
};

static uint64_t timer_ticks(const struct pm *pm)
{
    return ratio_floor(vclock_ns(&pm->m->clock), PM_TMR_HZ, NS_PER_S);
}

static void pm_evaluate(struct pm *pm)
{
    uint64_t now = timer_ticks(pm);
    if (now >> CARRY_SHIFT != pm->s.seen_ticks >> CARRY_SHIFT)
        pm->s.status |= STS_TIMER;
    pm->s.seen_ticks = now;
}

static void pm_update(struct pm *pm)
{
    uint64_t carry = ((pm->s.seen_ticks >> CARRY_SHIFT) + 1) << CARRY_SHIFT;
    bool armed = pm->s.enable & STS_TIMER && !(pm->s.status & STS_TIMER);
    pm->s.deadline_ns = armed ? ratio_ceil(carry, NS_PER_S, PM_TMR_HZ) : VCLOCK_NEVER;
    vtimer_arm(&pm->m->clock, &pm->timer, pm->s.deadline_ns);
    pm->s.sci = (pm->s.status & pm->s.enable) != 0;
    irq_set(pm->m, IRQ_SCI, pm->s.sci);
}

static void pm_expired(void *owner, uint64_t deadline_ns)
{
    struct pm *pm = owner;
    (void)deadline_ns;
    pm_evaluate(pm);
    pm_update(pm);
}

/* The event block as 4 bytes: status, then enable. */
static uint64_t event_read(void *dev, struct bus_access a)
{
    struct pm *pm = dev;
    pm_evaluate(pm);
    pm_update(pm);
    return ((uint32_t)pm->s.enable << 16 | pm->s.status) >> a.off * 8;
}

static void event_write(void *dev, struct bus_access a, uint64_t value)
{
    struct pm *pm = dev;
    uint32_t lanes = (uint32_t)((UINT64_C(1) << a.width * 8) - 1) << a.off * 8;
    uint32_t v = (uint32_t)value << a.off * 8;
    pm_evaluate(pm);
    pm->s.status &= (uint16_t) ~(v & lanes & STS_WRITABLE); /* written ones clear */
    uint16_t enable_lanes = (uint16_t)(lanes >> 16);
    pm->s.enable = (uint16_t)((pm->s.enable & ~enable_lanes) | (v >> 16 & enable_lanes & EN_WRITABLE));
    pm_update(pm);
}

static uint64_t control_read(void *dev, struct bus_access a)
{
    struct pm *pm = dev;
    return (uint64_t)(pm->s.control | CNT_SCI_EN) >> a.off * 8;
}

/* SLP_EN with S5's type turns the machine off; other types are not in \_Sx and do nothing. */
static void control_write(void *dev, struct bus_access a, uint64_t value)
{
    struct pm *pm = dev;
    uint32_t lanes = (uint32_t)((UINT64_C(1) << a.width * 8) - 1) << a.off * 8;
    uint32_t v = (uint32_t)value << a.off * 8;
    pm->s.control = (uint16_t)((pm->s.control & ~lanes) | (v & lanes & CNT_WRITABLE));
    if (v & CNT_SLP_EN && (pm->s.control >> CNT_SLP_TYP_SHIFT & 7) == PM_SLP_TYP_S5)
        machine_request(pm->m, REQ_POWEROFF, 0);
}

static uint64_t timer_read(void *dev, struct bus_access a)
{
    return (timer_ticks(dev) & UINT32_MAX) >> a.off * 8;
}

static void timer_write(void *dev, struct bus_access a, uint64_t value)
{
    (void)dev, (void)a, (void)value; /* read-only */
}

static void *pm_create(struct machine *m)
{
    struct pm *pm = calloc(1, sizeof(*pm));
    if (!pm)
        return NULL;
    pm->m = m;
    vtimer_add(&m->clock, &pm->timer, pm_expired, pm);
    pm->s.deadline_ns = VCLOCK_NEVER;
    return pm;
}

static void pm_destroy(void *dev)
{
    struct pm *pm = dev;
    vtimer_remove(&pm->m->clock, &pm->timer);
    free(pm);
}

static void pm_restored(void *dev)
{
    struct pm *pm = dev;
    vtimer_arm(&pm->m->clock, &pm->timer, pm->s.deadline_ns);
}

static void *pm_state_of(void *dev)
{
    struct pm *pm = dev;
    return &pm->s;
}

static const struct bus_region pm_regions[] = {
    {BUS_PIO, PM1A_EVT_PORT, PM1A_EVT_LEN, 1, 4, event_read, event_write},
    {BUS_PIO, PM1A_CNT_PORT, PM1A_CNT_LEN, 1, 2, control_read, control_write},
    {BUS_PIO, PM_TMR_PORT, PM_TMR_LEN, 1, 4, timer_read, timer_write},
    {0},
};

static const struct snap_field pm_fields[] = {
    SNAP(struct pm_state, seen_ticks), SNAP(struct pm_state, deadline_ns), SNAP(struct pm_state, status),
    SNAP(struct pm_state, enable),     SNAP(struct pm_state, control),     SNAP(struct pm_state, sci),
    SNAP_END,
};

const struct dev_class dev_pm = {
    .name = "pm",
    .create = pm_create,
    .destroy = pm_destroy,
    .regions = pm_regions,
    .state = pm_fields,
    .state_of = pm_state_of,
    .restored = pm_restored,
};
