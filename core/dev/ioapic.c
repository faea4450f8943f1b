/* core/dev/ioapic.c: the I/O APIC: 24 pins, a redirection entry each.
 *
 * References: Intel 82093AA data sheet (290566); ICH2 13.5 for version 0x20 with its EOI register.
 * The polarity bit is stored and has no effect: our lines carry "asserted", not a voltage. Delivery is immediate, so
 * delivery status always reads idle. An edge at a masked pin is lost, as on the 82093AA. A level request that no
 * local APIC accepts (it is disabled) is sent again when it may be accepted. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

enum { /* redirection entry, low half */
    RE_VECTOR = 0xff, RE_MODE_SHIFT = 8, RE_LOGICAL = 1 << 11, RE_REMOTE_IRR = 1 << 14, RE_LEVEL = 1 << 15,
    RE_MASKED = 1 << 16,
    RE_WRITABLE = 0x1afff, /* all but delivery status and remote IRR */
};
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_REDIRECTION = 0x10 };
enum { OFF_SELECT = 0x00, OFF_WINDOW = 0x10, OFF_EOI = 0x40 };

struct ioapic_state {
    uint32_t id;     /* bits 27:24 */
    uint32_t select; /* index register */
    uint32_t lines;  /* levels of the pins */
    uint64_t redirection[IOAPIC_PINS];
};

struct ioapic {
    struct ioapic_state s;
    struct machine *m; /* borrowed */
};

static struct ioapic *ioapic_of(const struct machine *m) { return m->dev[DEV_IOAPIC]; }

static unsigned entry_mode(uint64_t e)
{
    return e >> RE_MODE_SHIFT & 7;
}

/* Only fixed and lowest priority may be level triggered (82093AA 3.2.4). */
static bool entry_is_level(uint64_t e)
{
    return e & RE_LEVEL && entry_mode(e) <= APIC_LOWEST;
}

static bool entry_send(struct ioapic *io, uint64_t e)
{
    if (entry_mode(e) == APIC_EXTINT)
        return false; /* the CPU fetches it, see ioapic_extint() */
    bool logical = e & RE_LOGICAL;
    uint32_t dest = (uint32_t)(e >> 56);
    return lapic_deliver(io->m, (struct apic_message){
                                    .dest = !logical && dest == 0xff ? UINT32_MAX : dest,
                                    .vector = e & RE_VECTOR,
                                    .mode = (uint8_t)entry_mode(e),
                                    .logical = logical,
                                    .level = entry_is_level(e),
                                });
}

/* Send a level request that is due: asserted, not masked, not in service. */
static void pin_service_level(struct ioapic *io, unsigned pin)
{
    uint64_t *e = &io->s.redirection[pin];
    if (!(io->s.lines >> pin & 1) || !entry_is_level(*e) || *e & (RE_MASKED | RE_REMOTE_IRR))
        return;
    if (entry_send(io, *e))
        *e |= RE_REMOTE_IRR;
}

void ioapic_set_pin(struct machine *m, unsigned pin, bool level)
{
    struct ioapic *io = ioapic_of(m);
    bool was = io->s.lines >> pin & 1;
    if (level == was)
        return;
    io->s.lines ^= 1u << pin;
    uint64_t e = io->s.redirection[pin];
    if (entry_is_level(e))
        pin_service_level(io, pin);
    else if (level && !(e & RE_MASKED))
        entry_send(io, e);
}

void ioapic_eoi(struct machine *m, uint8_t vector)
{
    struct ioapic *io = ioapic_of(m);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *e = &io->s.redirection[pin];
        if (!(*e & RE_REMOTE_IRR) || (*e & RE_VECTOR) != vector)
            continue;
        *e &= ~(uint64_t)RE_REMOTE_IRR;
        pin_service_level(io, pin);
    }
}

void ioapic_resend(struct machine *m)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        pin_service_level(ioapic_of(m), pin);
}

bool ioapic_extint(const struct machine *m)
{
    const struct ioapic *io = ioapic_of(m);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t e = io->s.redirection[pin];
        if (io->s.lines >> pin & 1 && !(e & RE_MASKED) && entry_mode(e) == APIC_EXTINT)
            return true;
    }
    return false;
}

bool ioapic_can_nmi(const struct machine *m)
{
    const struct ioapic *io = ioapic_of(m);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t e = io->s.redirection[pin];
        if (!(e & RE_MASKED) && (entry_mode(e) == APIC_NMI || entry_mode(e) == APIC_INIT))
            return true;
    }
    return false;
}

bool ioapic_pin_open(const struct machine *m, unsigned pin)
{
    return !(ioapic_of(m)->s.redirection[pin] & RE_MASKED);
}

bool ioapic_pin_is_level(const struct machine *m, unsigned pin)
{
    return entry_is_level(ioapic_of(m)->s.redirection[pin]);
}

/* ---- registers ---- */

static void write_redirection(struct ioapic *io, unsigned pin, bool high, uint32_t v)
{
    uint64_t *e = &io->s.redirection[pin];
    pit_sync(io->m);
    if (high) {
        *e = (*e & UINT32_MAX) | (uint64_t)(v & 0xff000000) << 32;
    } else {
        *e = (*e & ~(uint64_t)RE_WRITABLE) | (v & RE_WRITABLE);
        if (!entry_is_level(*e)) /* software without an EOI register clears remote IRR this way */
            *e &= ~(uint64_t)RE_REMOTE_IRR;
    }
    pin_service_level(io, pin);
    pit_rearm(io->m);
}

static uint32_t register_read(const struct ioapic *io)
{
    uint32_t i = io->s.select;
    if (i >= REG_REDIRECTION && i < REG_REDIRECTION + 2 * IOAPIC_PINS)
        return (uint32_t)(io->s.redirection[(i - REG_REDIRECTION) / 2] >> (i & 1 ? 32 : 0));
    switch (i) {
    case REG_ID:
    case REG_ARBITRATION: /* loaded with the id; there is no serial APIC bus to arbitrate for */
        return io->s.id;
    case REG_VERSION:
        return (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
    }
    return UINT32_MAX;
}

static void register_write(struct ioapic *io, uint32_t v)
{
    uint32_t i = io->s.select;
    if (i >= REG_REDIRECTION && i < REG_REDIRECTION + 2 * IOAPIC_PINS)
        write_redirection(io, (i - REG_REDIRECTION) / 2, i & 1, v);
    else if (i == REG_ID)
        io->s.id = v & 0x0f000000;
}

static uint64_t ioapic_read(void *dev, struct bus_access a)
{
    struct ioapic *io = dev;
    if (a.off == OFF_SELECT)
        return io->s.select;
    return a.off == OFF_WINDOW ? register_read(io) : UINT32_MAX;
}

static void ioapic_write(void *dev, struct bus_access a, uint64_t v)
{
    struct ioapic *io = dev;
    if (a.off == OFF_SELECT)
        io->s.select = v & 0xff;
    else if (a.off == OFF_WINDOW)
        register_write(io, (uint32_t)v);
    else if (a.off == OFF_EOI)
        ioapic_eoi(io->m, (uint8_t)v);
    irq_update(io->m);
}

static void *ioapic_create(struct machine *m)
{
    struct ioapic *io = calloc(1, sizeof(*io));
    if (!io)
        return NULL;
    io->m = m;
    io->s.id = IOAPIC_ID << 24;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        io->s.redirection[pin] = RE_MASKED;
    return io;
}

static void *ioapic_state_of(void *dev)
{
    struct ioapic *io = dev;
    return &io->s;
}

static const struct bus_region ioapic_regions[] = {
    {BUS_MMIO, IOAPIC_BASE, IOAPIC_LEN, 4, 4, ioapic_read, ioapic_write},
    {0},
};

static const struct snap_field ioapic_fields[] = {
    SNAP(struct ioapic_state, id),
    SNAP(struct ioapic_state, select),
    SNAP(struct ioapic_state, lines),
    SNAP_ARRAY(struct ioapic_state, redirection),
    SNAP_END,
};

const struct dev_class dev_ioapic = {
    .name = "ioapic",
    .create = ioapic_create,
    .destroy = free,
    .regions = ioapic_regions,
    .state = ioapic_fields,
    .state_of = ioapic_state_of,
};
