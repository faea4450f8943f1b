/* core/dev/misc.c: single ports without a device of their own: POST codes (0x80), fast A20 and reset (0x92), debug
 * console (0xE9), debug exit (0xF4), and the PCI configuration ports of a machine without PCI, among which lies the
 * reset control register (0xCF9).
 *
 * The A20 gate is always open; its two control bits (here and in the keyboard controller) are only remembered, as on
 * processors without an A20M# pin. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/platform.h"

enum { FAST_RESET = 0x01, FAST_A20 = 0x02 };           /* port 0x92 */
enum { RESET_CPU = 0x04, RESET_KEPT = 0x0a };          /* 0xCF9; ICH 13.7.5 */
enum { DEBUG_CONSOLE_SIGNATURE = 0xe9 };               /* a read tells guests that the console is there (Bochs) */

struct misc_state { uint8_t post, fast_a20, reset; };

struct misc {
    struct misc_state s;
    struct machine *m; /* borrowed */
};

static uint64_t post_read(void *dev, struct bus_access a)
{
    const struct misc *d = dev;
    (void)a;
    return d->s.post;
}

static void post_write(void *dev, struct bus_access a, uint64_t v)
{
    struct misc *d = dev;
    (void)a;
    d->s.post = (uint8_t)v;
}

static uint64_t fast_a20_read(void *dev, struct bus_access a)
{
    const struct misc *d = dev;
    (void)a;
    return d->s.fast_a20;
}

static void fast_a20_write(void *dev, struct bus_access a, uint64_t v)
{
    struct misc *d = dev;
    (void)a;
    if (v & ~(uint64_t)d->s.fast_a20 & FAST_RESET)
        machine_request(d->m, REQ_RESET, 0);
    d->s.fast_a20 = v & (FAST_RESET | FAST_A20);
}

static uint64_t console_read(void *dev, struct bus_access a)
{
    (void)dev, (void)a;
    return DEBUG_CONSOLE_SIGNATURE;
}

static void console_write(void *dev, struct bus_access a, uint64_t v)
{
    struct misc *d = dev;
    uint8_t byte = (uint8_t)v;
    (void)a;
    d->m->nondet.ops->output(d->m->nondet.self, ND_OUT_DEBUG, 0, &byte, 1);
}

static uint64_t exit_read(void *dev, struct bus_access a)
{
    (void)dev, (void)a;
    return 0;
}

/* A process exit status has 8 bits; QEMU's isa-debug-exit loses the others the same way. */
static void exit_write(void *dev, struct bus_access a, uint64_t v)
{
    struct misc *d = dev;
    (void)a;
    machine_request(d->m, REQ_DEBUG_EXIT, (v << 1 | 1) & 0xff);
}

static bool is_reset_register(struct bus_access a)
{
    return a.width == 1 && a.off == RESET_PORT - PCI_CONFIG_PORT;
}

static uint64_t pci_read(void *dev, struct bus_access a)
{
    const struct misc *d = dev;
    return is_reset_register(a) ? d->s.reset : UINT64_MAX;
}

/* Only a byte access reaches the reset register: a wider one is a configuration address. */
static void pci_write(void *dev, struct bus_access a, uint64_t v)
{
    struct misc *d = dev;
    if (!is_reset_register(a))
        return;
    if (v & RESET_CPU)
        machine_request(d->m, REQ_RESET, 0);
    d->s.reset = v & RESET_KEPT;
}

static void *misc_create(struct machine *m)
{
    struct misc *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->m = m;
    d->s.fast_a20 = FAST_A20;
    return d;
}

static void *misc_state_of(void *dev)
{
    struct misc *d = dev;
    return &d->s;
}

static const struct bus_region misc_regions[] = {
    {BUS_PIO, POST_PORT, 1, 1, 1, post_read, post_write},
    {BUS_PIO, FAST_A20_PORT, 1, 1, 1, fast_a20_read, fast_a20_write},
    {BUS_PIO, DEBUG_CONSOLE_PORT, 1, 1, 1, console_read, console_write},
    {BUS_PIO, DEBUG_EXIT_PORT, 4, 1, 4, exit_read, exit_write},
    {BUS_PIO, PCI_CONFIG_PORT, 8, 1, 4, pci_read, pci_write},
    {0},
};

static const struct snap_field misc_fields[] = {
    SNAP(struct misc_state, post),
    SNAP(struct misc_state, fast_a20),
    SNAP(struct misc_state, reset),
    SNAP_END,
};

const struct dev_class dev_misc = {
    .name = "misc",
    .create = misc_create,
    .destroy = free,
    .regions = misc_regions,
    .state = misc_fields,
    .state_of = misc_state_of,
};
