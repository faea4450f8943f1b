/* core/dev/pic.c: the 8259A pair and its edge/level control registers (ELCR).
 *
 * References: Intel 8259A data sheet (231468-003); 82371AB (PIIX4) 4.1.2 for ELCR. Names of commands are the data
 * sheet's. Not modelled: MCS-80 mode, buffered mode.
 *
 * A request (IRR) is gated by its line: if an input falls before it is acknowledged, the request is gone (data sheet,
 * "Edge and level triggered modes"). When that happens between INT and INTA the answer is input 7's vector without an
 * in-service bit; a slave's spurious answer leaves the master's in-service bit 2 set, as on hardware.
 * At reset the pair is as a PC BIOS leaves it (vectors 0x08 and 0x70, cascade, normal EOI), with all inputs masked. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

enum { MASTER, SLAVE };
enum {
    ICW1_IC4 = 0x01, ICW1_SNGL = 0x02, ICW1_LTIM = 0x08, ICW1_INIT = 0x10,
    ICW4_AEOI = 0x02, ICW4_SFNM = 0x10,
    OCW3_SELECT = 0x08, OCW3_POLL = 0x04,
    EOI = 0x20, EOI_SPECIFIC = 0x40, EOI_ROTATE = 0x80,
};

struct pic_chip {
    uint8_t irr, imr, isr;
    uint8_t lines;       /* levels of the inputs */
    uint8_t elcr;        /* 1: level triggered */
    uint8_t lowest;      /* the input of lowest priority, 7 unless rotated */
    uint8_t icw1, icw2, icw3, icw4;
    uint8_t init_step;   /* the ICW expected next, 2..4; 0 when initialised */
    uint8_t read_isr;    /* OCW3: port 0 reads ISR, not IRR */
    uint8_t poll;        /* OCW3: the next read is an acknowledge */
    uint8_t special_mask;
    uint8_t rotate_aeoi; /* rotate on automatic EOI */
};

struct pic_state { struct pic_chip chip[2]; };

struct pic {
    struct pic_state s;
    struct machine *m; /* borrowed */
};

static struct pic *pic_of(const struct machine *m) { return m->dev[DEV_PIC]; }

/* ---- one chip ---- */

static uint8_t level_inputs(const struct pic_chip *c)
{
    return c->icw1 & ICW1_LTIM ? 0xff : c->elcr;
}

static void chip_set_line(struct pic_chip *c, unsigned n, bool level, bool follows)
{
    uint8_t mask = (uint8_t)(1u << n);
    if (!level) {
        c->irr &= (uint8_t)~mask;
        c->lines &= (uint8_t)~mask;
    } else {
        if (follows || !(c->lines & mask))
            c->irr |= mask;
        c->lines |= mask;
    }
}

static unsigned rank(const struct pic_chip *c, unsigned n) /* 0: highest priority */
{
    return (n - c->lowest - 1u) & 7;
}

static int chip_highest(const struct pic_chip *c, uint8_t inputs)
{
    for (unsigned i = 1; i <= 8; i++) {
        unsigned n = (c->lowest + i) & 7;
        if (inputs >> n & 1)
            return (int)n;
    }
    return -1;
}

/* In-service inputs that hold others back: in special mask mode the masked ones do not. */
static uint8_t chip_serving(const struct pic_chip *c)
{
    return c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
}

/* The input whose request would be acknowledged now, or -1. */
static int chip_pending(const struct pic_chip *c)
{
    if (c->init_step)
        return -1;
    int request = chip_highest(c, c->irr & (uint8_t)~c->imr);
    int serving = chip_highest(c, chip_serving(c));
    if (request < 0 || serving < 0)
        return request;
    if (rank(c, (unsigned)request) < rank(c, (unsigned)serving))
        return request;
    /* Special fully nested mode: the slave in service may ask again. */
    bool again = c->icw4 & ICW4_SFNM && request == IRQ_CASCADE && serving == IRQ_CASCADE;
    return again ? request : -1;
}

static void chip_accept(struct pic_chip *c, unsigned n)
{
    uint8_t mask = (uint8_t)(1u << n);
    if (!(level_inputs(c) & mask))
        c->irr &= (uint8_t)~mask;
    if (!(c->icw4 & ICW4_AEOI))
        c->isr |= mask;
    else if (c->rotate_aeoi)
        c->lowest = (uint8_t)n;
}

/* After LTIM or ELCR changed: level inputs request what their line says. */
static void chip_resample(struct pic_chip *c)
{
    uint8_t level = level_inputs(c);
    c->irr = (uint8_t)((c->irr & ~level) | (c->lines & level));
}

static void chip_icw1(struct pic_chip *c, uint8_t v)
{
    *c = (struct pic_chip){.lines = c->lines, .elcr = c->elcr, .icw1 = v, .icw2 = c->icw2, .lowest = 7, .init_step = 2};
    chip_resample(c); /* edge inputs need a new edge */
}

static void chip_icw(struct pic_chip *c, uint8_t v)
{
    bool single = c->icw1 & ICW1_SNGL, has_icw4 = c->icw1 & ICW1_IC4;
    switch (c->init_step) {
    case 2:
        c->icw2 = v & 0xf8;
        c->init_step = !single ? 3 : has_icw4 ? 4 : 0;
        break;
    case 3:
        c->icw3 = v;
        c->init_step = has_icw4 ? 4 : 0;
        break;
    default:
        c->icw4 = v & 0x1f;
        c->init_step = 0;
    }
}

static void chip_ocw2(struct pic_chip *c, uint8_t v)
{
    int n = v & EOI_SPECIFIC ? v & 7 : chip_highest(c, chip_serving(c));
    switch (v & (EOI | EOI_SPECIFIC | EOI_ROTATE)) {
    case 0:
    case EOI_ROTATE:
        c->rotate_aeoi = v >> 7;
        return;
    case EOI_SPECIFIC: /* no operation */
        return;
    }
    if (n < 0)
        return;
    if (v & EOI)
        c->isr &= (uint8_t)~(1u << n);
    if (v & EOI_ROTATE)
        c->lowest = (uint8_t)n;
}

static void chip_ocw3(struct pic_chip *c, uint8_t v)
{
    if (v & 0x40)
        c->special_mask = v >> 5 & 1;
    if (v & OCW3_POLL)
        c->poll = 1;
    if (v & 0x02)
        c->read_isr = v & 1;
}

static void chip_write(struct pic_chip *c, uint32_t off, uint8_t v)
{
    if (off == 0 && v & ICW1_INIT)
        chip_icw1(c, v);
    else if (off == 0 && v & OCW3_SELECT)
        chip_ocw3(c, v);
    else if (off == 0)
        chip_ocw2(c, v);
    else if (c->init_step)
        chip_icw(c, v);
    else
        c->imr = v;
}

static uint8_t chip_read(struct pic_chip *c, uint32_t off)
{
    if (c->poll) { /* the read takes the place of INTA */
        c->poll = 0;
        int n = chip_pending(c);
        if (n < 0)
            return 0;
        chip_accept(c, (unsigned)n);
        return (uint8_t)(0x80 | n);
    }
    if (off == 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

/* ---- the pair ---- */

/* The slave's INT is the master's input 2. It follows the level even in edge mode: the slave drops INT during INTA,
 * so a request that remains makes a new edge anyway. */
static void pic_cascade(struct pic *p)
{
    bool slave = !(p->s.chip[MASTER].icw1 & ICW1_SNGL) && chip_pending(&p->s.chip[SLAVE]) >= 0;
    chip_set_line(&p->s.chip[MASTER], IRQ_CASCADE, slave, true);
}

void pic_set_line(struct machine *m, unsigned line, bool level)
{
    struct pic *p = pic_of(m);
    struct pic_chip *c = &p->s.chip[line / 8];
    chip_set_line(c, line % 8, level, level_inputs(c) >> line % 8 & 1);
    pic_cascade(p);
}

bool pic_output(const struct machine *m)
{
    return chip_pending(&pic_of(m)->s.chip[MASTER]) >= 0;
}

static unsigned chip_inta(struct pic_chip *c, int n)
{
    if (n < 0)
        return c->icw2 | 7u; /* spurious */
    chip_accept(c, (unsigned)n);
    return c->icw2 | (unsigned)n;
}

unsigned pic_ack(struct machine *m)
{
    struct pic *p = pic_of(m);
    struct pic_chip *master = &p->s.chip[MASTER], *slave = &p->s.chip[SLAVE];
    int n = chip_pending(master);
    unsigned vector = chip_inta(master, n);
    if (n == IRQ_CASCADE && !(master->icw1 & ICW1_SNGL))
        vector = chip_inta(slave, chip_pending(slave));
    pic_cascade(p);
    if (n == IRQ_PIT)
        pit_rearm(m);
    return vector;
}

bool pic_line_open(const struct machine *m, unsigned line)
{
    return !(pic_of(m)->s.chip[line / 8].imr >> line % 8 & 1);
}

bool pic_line_latched(const struct machine *m, unsigned line)
{
    return pic_of(m)->s.chip[line / 8].irr >> line % 8 & 1;
}

/* ---- registers ---- */

static uint64_t read_chip(struct pic *p, unsigned which, uint32_t off)
{
    pit_sync(p->m);
    uint8_t v = chip_read(&p->s.chip[which], off);
    pic_cascade(p);
    pit_rearm(p->m);
    irq_update(p->m);
    return v;
}

static void write_chip(struct pic *p, unsigned which, uint32_t off, uint64_t v)
{
    pit_sync(p->m);
    chip_write(&p->s.chip[which], off, (uint8_t)v);
    pic_cascade(p);
    pit_rearm(p->m);
    irq_update(p->m);
}

static uint64_t master_read(void *dev, struct bus_access a) { return read_chip(dev, MASTER, a.off); }
static uint64_t slave_read(void *dev, struct bus_access a) { return read_chip(dev, SLAVE, a.off); }
static void master_write(void *dev, struct bus_access a, uint64_t v) { write_chip(dev, MASTER, a.off, v); }
static void slave_write(void *dev, struct bus_access a, uint64_t v) { write_chip(dev, SLAVE, a.off, v); }

static uint64_t elcr_read(void *dev, struct bus_access a)
{
    struct pic *p = dev;
    return p->s.chip[a.off].elcr;
}

static void elcr_write(void *dev, struct bus_access a, uint64_t v)
{
    static const uint8_t writable[2] = {0xf8, 0xde}; /* the timer, keyboard, cascade, RTC and FPU are always edges */
    struct pic *p = dev;
    p->s.chip[a.off].elcr = (uint8_t)v & writable[a.off];
    chip_resample(&p->s.chip[a.off]);
    pic_cascade(p);
    irq_update(p->m);
}

static void *pic_create(struct machine *m)
{
    struct pic *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->m = m;
    p->s.chip[MASTER] =
        (struct pic_chip){.imr = 0xff, .lowest = 7, .icw1 = 0x11, .icw2 = PIC_MASTER_VECTOR, .icw3 = 4, .icw4 = 1};
    p->s.chip[SLAVE] =
        (struct pic_chip){.imr = 0xff, .lowest = 7, .icw1 = 0x11, .icw2 = PIC_SLAVE_VECTOR, .icw3 = 2, .icw4 = 1};
    return p;
}

static bool pic_valid(const void *state)
{
    const struct pic_state *s = state;
    return s->chip[0].lowest < 8 && s->chip[1].lowest < 8 && s->chip[0].init_step <= 4 && s->chip[1].init_step <= 4;
}

static void *pic_state_of(void *dev)
{
    struct pic *p = dev;
    return &p->s;
}

static const struct bus_region pic_regions[] = {
    {BUS_PIO, PIC_MASTER_PORT, 2, 1, 1, master_read, master_write},
    {BUS_PIO, PIC_SLAVE_PORT, 2, 1, 1, slave_read, slave_write},
    {BUS_PIO, PIC_ELCR_PORT, 2, 1, 1, elcr_read, elcr_write},
    {0},
};

#define CHIP_FIELDS(n)                                                                                 \
    SNAP(struct pic_state, chip[n].irr), SNAP(struct pic_state, chip[n].imr),                          \
        SNAP(struct pic_state, chip[n].isr), SNAP(struct pic_state, chip[n].lines),                    \
        SNAP(struct pic_state, chip[n].elcr), SNAP(struct pic_state, chip[n].lowest),                  \
        SNAP(struct pic_state, chip[n].icw1), SNAP(struct pic_state, chip[n].icw2),                    \
        SNAP(struct pic_state, chip[n].icw3), SNAP(struct pic_state, chip[n].icw4),                    \
        SNAP(struct pic_state, chip[n].init_step), SNAP(struct pic_state, chip[n].read_isr),           \
        SNAP(struct pic_state, chip[n].poll), SNAP(struct pic_state, chip[n].special_mask),            \
        SNAP(struct pic_state, chip[n].rotate_aeoi)

static const struct snap_field pic_fields[] = {CHIP_FIELDS(MASTER), CHIP_FIELDS(SLAVE), SNAP_END};

const struct dev_class dev_pic = {
    .name = "pic",
    .create = pic_create,
    .destroy = free,
    .regions = pic_regions,
    .state = pic_fields,
    .state_of = pic_state_of,
    .valid = pic_valid,
};
