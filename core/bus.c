/* core/bus.c: finds the region of an access and cuts the access into pieces that the region declared.
 *
 * A piece is naturally aligned within its region and between the region's minimum and maximum width; pieces go to the
 * device lowest address first. A piece narrower than the minimum reads the surrounding minimum-wide unit and takes its
 * bytes; writing one is ignored, because such hardware has no byte enables (SDM 11.4.1 on the local APIC).
 * Ports are looked up in a table with one byte per port; memory regions, of which there are few, one by one. */
#include "core/bus.h"

#include <stdlib.h>

#include "core/base/check.h"

enum { BUS_SLOTS = 128, PIO_PORTS = 0x10000 };

struct slot {
    const struct bus_region *region; /* NULL: free */
    void *dev;
    uint64_t base;
};

struct bus {
    struct slot slots[BUS_SLOTS]; /* [0] is never used: port table entry 0 means nobody */
    unsigned slot_count;          /* slots ever used, [0] included */
    uint64_t unclaimed;
    uint8_t pio[PIO_PORTS];
};

struct bus *bus_create(void)
{
    struct bus *b = calloc(1, sizeof(*b));
    if (b)
        b->slot_count = 1;
    return b;
}

void bus_destroy(struct bus *b)
{
    free(b);
}

static bool slot_contains(const struct slot *s, uint64_t addr)
{
    return s->region && addr - s->base < s->region->len;
}

static const struct slot *bus_find(const struct bus *b, enum bus_space space, uint64_t addr)
{
    if (space == BUS_PIO)
        return addr < PIO_PORTS && b->pio[addr] ? &b->slots[b->pio[addr]] : NULL;
    for (unsigned i = 1; i < b->slot_count; i++)
        if (slot_contains(&b->slots[i], addr) && b->slots[i].region->space == BUS_MMIO)
            return &b->slots[i];
    return NULL;
}

static struct slot *slot_of(struct bus *b, const struct bus_region *region, const void *dev)
{
    for (unsigned i = 1; i < b->slot_count; i++)
        if (b->slots[i].region == region && b->slots[i].dev == dev)
            return &b->slots[i];
    return NULL;
}

static void check_free(const struct bus *b, const struct bus_region *r, uint64_t base)
{
    for (unsigned i = 1; i < b->slot_count; i++) {
        const struct slot *s = &b->slots[i];
        CHECK(!s->region || s->region->space != r->space || base - s->base >= s->region->len,
              "region at %#" PRIx64 " overlaps one at %#" PRIx64, base, s->base);
        CHECK(!s->region || s->region->space != r->space || s->base - base >= r->len,
              "region at %#" PRIx64 " overlaps one at %#" PRIx64, base, s->base);
    }
}

static bool is_width(unsigned w)
{
    return w == 1 || w == 2 || w == 4 || w == 8;
}

static void map_one(struct bus *b, const struct bus_region *r, void *dev, uint64_t base)
{
    CHECK(r->read && r->write && is_width(r->min_width) && is_width(r->max_width) && r->min_width <= r->max_width &&
              r->len % r->min_width == 0,
          "bad region at %#" PRIx64, r->base);
    CHECK(r->space == BUS_MMIO || (base < PIO_PORTS && r->len <= PIO_PORTS - base), "no such port: %#" PRIx64, base);
    check_free(b, r, base);
    unsigned i = 1;
    while (i < b->slot_count && b->slots[i].region)
        i++;
    CHECK(i < BUS_SLOTS, "too many regions");
    b->slots[i] = (struct slot){r, dev, base};
    b->slot_count = MAX(b->slot_count, i + 1);
    if (r->space == BUS_PIO)
        memset(b->pio + base, (int)i, r->len);
}

void bus_map(struct bus *b, const struct bus_region *regions, void *dev)
{
    for (const struct bus_region *r = regions; r->len; r++)
        map_one(b, r, dev, r->base);
}

void bus_unmap(struct bus *b, const struct bus_region *region, void *dev)
{
    struct slot *s = slot_of(b, region, dev);
    if (!s)
        return;
    if (region->space == BUS_PIO)
        memset(b->pio + s->base, 0, region->len);
    *s = (struct slot){0};
}

void bus_remap(struct bus *b, const struct bus_region *region, void *dev, uint64_t new_base)
{
    bus_unmap(b, region, dev);
    map_one(b, region, dev, new_base);
}

static uint64_t ones(unsigned width)
{
    return width == 8 ? UINT64_MAX : (UINT64_C(1) << width * 8) - 1;
}

/* The widest naturally aligned piece at `off` that fits into `left` bytes and the region. */
static unsigned piece_width(const struct bus_region *r, uint64_t off, unsigned left)
{
    unsigned w = r->max_width;
    while (w > 1 && (w > left || off % w || off + w > r->len))
        w /= 2;
    return w;
}

static uint64_t piece_read(const struct slot *s, uint64_t off, unsigned width)
{
    const struct bus_region *r = s->region;
    if (width >= r->min_width)
        return r->read(s->dev, (struct bus_access){(uint32_t)off, (uint8_t)width}) & ones(width);
    uint64_t unit = off - off % r->min_width;
    uint64_t v = r->read(s->dev, (struct bus_access){(uint32_t)unit, r->min_width});
    return v >> (off - unit) * 8 & ones(width);
}

uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned width)
{
    uint64_t value = 0;
    bool missed = false;
    for (unsigned done = 0; done < width;) {
        const struct slot *s = bus_find(b, space, addr + done);
        uint64_t off = s ? addr + done - s->base : 0;
        unsigned w = s ? piece_width(s->region, off, width - done) : 1;
        value |= (s ? piece_read(s, off, w) : ones(1)) << done * 8;
        missed |= !s;
        done += w;
    }
    b->unclaimed += missed;
    return value;
}

void bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned width, uint64_t value)
{
    bool missed = false;
    for (unsigned done = 0; done < width;) {
        const struct slot *s = bus_find(b, space, addr + done); /* anew: a write may unmap the region */
        uint64_t off = s ? addr + done - s->base : 0;
        unsigned w = s ? piece_width(s->region, off, width - done) : 1;
        if (s && w >= s->region->min_width)
            s->region->write(s->dev, (struct bus_access){(uint32_t)off, (uint8_t)w}, value >> done * 8 & ones(w));
        missed |= !s;
        done += w;
    }
    b->unclaimed += missed;
}

uint64_t bus_unclaimed(const struct bus *b)
{
    return b->unclaimed;
}
