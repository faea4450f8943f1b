/* core/bus.h: the port and memory buses of devices.
 * Regions come from devices' tables; the bus checks widths and bounds once, so a handler sees only accesses its
 * region declared: narrower hardware than the access is served by splitting (low address first), wider hardware
 * by reading the declared minimum. An address nobody claims reads as ones and ignores writes (open bus). */
#ifndef HW_BUS_H
#define HW_BUS_H

#include "core/base/base.h"
#include "core/base/err.h"

enum bus_space { BUS_PIO, BUS_MMIO };

struct bus_access {
    uint32_t off;  /* bytes from the region's base */
    uint8_t width; /* bytes: 1, 2, 4 or 8 */
};

struct bus_region {
    enum bus_space space;
    uint64_t base, len;           /* port number or guest-physical address; bytes. len 0 ends a table */
    uint8_t min_width, max_width; /* bytes; powers of two */
    uint64_t (*read)(void *dev, struct bus_access a);
    void (*write)(void *dev, struct bus_access a, uint64_t value);
};

struct bus;

struct bus *bus_create(void);
void bus_destroy(struct bus *b);
/* Regions are borrowed. Overlap with a mapped region is our own mistake (CHECK). */
void bus_map(struct bus *b, const struct bus_region *regions, void *dev);
/* Move a region (APIC base). It must have been mapped with this device. */
void bus_remap(struct bus *b, const struct bus_region *region, void *dev, uint64_t new_base);
void bus_unmap(struct bus *b, const struct bus_region *region, void *dev);

/* Any address, width 1, 2, 4 or 8; an access may straddle regions or their end (split by bytes). */
uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned width);
void bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned width, uint64_t value);

/* Accesses that no device claimed, for `stats`. */
uint64_t bus_unclaimed(const struct bus *b);

#endif
