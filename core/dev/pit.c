/* core/dev/pit.c: the 8254 interval timer and port 0x61.
 *
 * References: Intel 8254 data sheet (231164), mode definitions and read-back; PIIX4 data sheet 4.1.8 for port 0x61.
 *
 * Nothing here ticks. Every channel is a function of time: `start` is the PIT clock at which the count in effect was
 * loaded, and counter and output follow from the clocks elapsed since. Channel 0 drives ISA line 0. Its edges are
 * evaluated by pit_sync(), and a timer is armed only for the next edge that somebody can see:
 *   - a rising edge is a request, seen where the 8259 input or the I/O APIC pin is not masked;
 *   - a falling edge withdraws a request that the 8259 holds and the CPU has not acknowledged yet.
 * What happens at masked inputs is worked out when a controller's registers are next touched, so a timer left running
 * by firmware costs nothing, and an acknowledged tick one wakeup a period.
 *
 * At reset channel 0 runs as a PC BIOS leaves it (mode 2, 18.2 Hz), channel 1 as refresh timer, channel 2 is idle. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

enum { REFRESH_NS = 15085 }; /* port 0x61 bit 4 toggles once a refresh request */
enum { RW_LATCH, RW_LOW, RW_HIGH, RW_BOTH };
#define NEVER UINT64_MAX

struct pit_channel {
    uint64_t start;     /* clock at which `count` is loaded; may be one clock ahead */
    uint64_t reload_at; /* modes 2 and 3: clock at which `next` takes over; NEVER */
    uint32_t count;     /* in effect, 1..65536 (10000 in BCD) */
    uint32_t next;      /* modes 1, 5: for the next trigger. Modes 2, 3: see reload_at */
    uint32_t held;      /* clocks elapsed when the gate stopped the count */
    uint16_t latched;   /* by the latch or read-back command */
    uint8_t latch_bytes; /* of `latched` still to be read */
    uint8_t status, status_latched;
    uint8_t mode, bcd, rw;
    uint8_t gate;
    uint8_t loaded;     /* a count was written since the control word */
    uint8_t triggered;  /* modes 1, 5 */
    uint8_t low_byte, high_next_write, high_next_read;
};

struct pit_state {
    uint64_t synced;    /* clock up to which channel 0's edges were passed on */
    uint64_t deadline;  /* clock of the next visible edge, NEVER */
    struct pit_channel ch[3];
    uint8_t line;       /* level driven to ISA line 0 */
    uint8_t port61;     /* bits 3:0 as written */
};

struct pit {
    struct pit_state s;
    struct vtimer timer;
    struct machine *m; /* borrowed */
};

static struct pit *pit_of(const struct machine *m) { return m->dev[DEV_PIT]; }

static uint64_t pit_now(const struct pit *p)
{
    return ratio_floor(vclock_ns(&p->m->clock), PIT_HZ, NS_PER_S);
}

/* ---- one channel as a function of the clock ---- */

static uint32_t modulus(const struct pit_channel *c) { return c->bcd ? 10000 : 65536; }
static bool triggered_mode(const struct pit_channel *c) { return c->mode == 1 || c->mode == 5; }
static bool periodic(const struct pit_channel *c) { return c->mode == 2 || c->mode == 3; }

static bool running(const struct pit_channel *c)
{
    return c->loaded && (triggered_mode(c) ? c->triggered : c->gate);
}

static uint64_t elapsed(const struct pit_channel *c, uint64_t t)
{
    if (!running(c))
        return c->held;
    return t < c->start ? 0 : t - c->start;
}

static uint32_t high_half(const struct pit_channel *c) { return (c->count + 1) / 2; }

static bool output(const struct pit_channel *c, uint64_t t)
{
    uint64_t e = elapsed(c, t);
    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
        return e >= c->count;
    case 1:
        return !c->triggered || t < c->start || e >= c->count;
    case 2:
        return !c->gate || e % c->count != c->count - 1;
    case 3:
        return !c->gate || e % c->count < high_half(c);
    default:
        return !running(c) || e != c->count;
    }
}

/* The first clock after t at which the output changes. Asked of channel 0 and of periodic modes only; channel 0's gate
 * never rises, so it never runs in the triggered modes. */
static uint64_t next_edge(const struct pit_channel *c, uint64_t t)
{
    if (!running(c) || triggered_mode(c))
        return NEVER;
    uint64_t first = c->start + c->count, second = NEVER;
    if (periodic(c)) {
        if (c->count < 2)
            return NEVER; /* not a legal count; the output stays */
        uint64_t cycle = c->start + elapsed(c, t) / c->count * c->count;
        first = cycle + (c->mode == 2 ? c->count - 1 : high_half(c));
        second = cycle + c->count;
    } else if (c->mode == 4) {
        second = first + 1;
    }
    return t < first ? first : t < second ? second : NEVER;
}

static uint32_t counter(const struct pit_channel *c, uint64_t t)
{
    uint64_t e = elapsed(c, t);
    uint32_t top = modulus(c);
    if (c->mode == 2)
        return (uint32_t)(c->count - e % c->count);
    if (c->mode == 3) { /* counts down by two, twice a cycle */
        uint32_t p = (uint32_t)(e % c->count), h = high_half(c);
        return (c->count & ~1u) - 2 * (p < h ? p : p - h);
    }
    return (uint32_t)((c->count + top - e % top) % top);
}

static uint16_t counter_image(const struct pit_channel *c, uint64_t t)
{
    uint32_t v = counter(c, t) % modulus(c);
    if (!c->bcd)
        return (uint16_t)v;
    return (uint16_t)(v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

/* Take over the waiting count when its clock has come. In mode 3 that may be the middle of a cycle, whose second half
 * then has the new length. */
static void settle(struct pit_channel *c, uint64_t t)
{
    if (c->reload_at > t)
        return;
    bool mid_cycle = c->mode == 3 && (c->reload_at - c->start) % c->count != 0;
    c->count = c->next;
    c->start = c->reload_at - (mid_cycle ? high_half(c) : 0);
    c->reload_at = NEVER;
}

static void trigger(struct pit_channel *c, uint64_t t)
{
    c->count = c->next;
    c->start = t + 1;
    c->triggered = 1;
    c->reload_at = NEVER;
}

static void set_gate(struct pit_channel *c, bool gate, uint64_t t)
{
    if (gate == c->gate)
        return;
    if (!gate && !triggered_mode(c))
        c->held = (uint32_t)MIN(elapsed(c, t), UINT32_MAX);
    c->gate = gate;
    if (!gate || !c->loaded)
        return;
    if (triggered_mode(c) || periodic(c))
        trigger(c, t);
    else
        c->start = c->held ? t - c->held : t + 1;
}

static void load_count(struct pit_channel *c, uint32_t value, uint64_t t)
{
    bool first = !c->loaded;
    c->next = value;
    c->loaded = 1;
    if (triggered_mode(c)) {
        if (first)
            c->count = value;
        return;
    }
    if (first || !periodic(c) || t < c->start) {
        c->count = value;
        c->start = t + 1;
        c->held = 0;
    } else if (c->gate) { /* with the gate low, the trigger takes it */
        uint64_t edge = next_edge(c, t);
        bool fall = c->mode == 2 && edge != NEVER && (edge - c->start) % c->count != 0;
        c->reload_at = edge == NEVER ? t + 1 : edge + fall;
    }
}

static uint32_t count_of_image(const struct pit_channel *c, uint16_t image)
{
    uint32_t v = image;
    if (c->bcd)
        v = (image >> 12 & 15) * 1000u + (image >> 8 & 15) * 100u + (image >> 4 & 15) * 10u + (image & 15u);
    return v % modulus(c) ? v % modulus(c) : modulus(c);
}

static void write_count(struct pit_channel *c, uint8_t v, uint64_t t)
{
    uint16_t image;
    if (c->rw == RW_BOTH && !c->high_next_write) {
        c->low_byte = v;
        c->high_next_write = 1;
        if (c->mode == 0) /* the first byte stops the count and drops the output */
            c->loaded = 0;
        return;
    }
    image = (uint16_t)(c->rw == RW_LOW ? v : v << 8 | (c->rw == RW_BOTH ? c->low_byte : 0));
    c->high_next_write = 0;
    load_count(c, count_of_image(c, image), t);
}

static void write_control(struct pit_channel *c, uint8_t v)
{
    *c = (struct pit_channel){.gate = c->gate, .reload_at = NEVER, .count = 1, .next = 1};
    c->rw = v >> 4 & 3;
    c->mode = (v >> 1 & 7) > 5 ? v >> 1 & 3 : v >> 1 & 7; /* 6 and 7 are 2 and 3 */
    c->bcd = v & 1;
}

static void latch_count(struct pit_channel *c, uint64_t t)
{
    if (c->latch_bytes)
        return; /* the first latch holds until it is read */
    c->latched = counter_image(c, t);
    c->latch_bytes = c->rw == RW_BOTH ? 2 : 1;
}

static void latch_status(struct pit_channel *c, uint64_t t)
{
    if (c->status_latched)
        return;
    bool null = !c->loaded || c->reload_at != NEVER ||
                (triggered_mode(c) ? !c->triggered || c->next != c->count : t < c->start);
    c->status = (uint8_t)(output(c, t) << 7 | null << 6 | c->rw << 4 | c->mode << 1 | c->bcd);
    c->status_latched = 1;
}

static uint8_t read_channel(struct pit_channel *c, uint64_t t)
{
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    uint16_t v = c->latch_bytes ? c->latched : counter_image(c, t);
    bool high = c->rw == RW_HIGH;
    if (c->rw == RW_BOTH) {
        high = c->high_next_read;
        c->high_next_read ^= 1;
    }
    if (c->latch_bytes)
        c->latch_bytes--;
    return (uint8_t)(high ? v >> 8 : v);
}

/* ---- channel 0 and its line ---- */

static void drive(struct pit *p, bool level)
{
    if (p->s.line == level)
        return;
    p->s.line = level;
    irq_set(p->m, IRQ_PIT, level);
}

/* Pass on the edges up to now. Of many rising edges that nobody saw, one stands for all: a request is one bit. */
static void sync_line(struct pit *p, uint64_t now)
{
    struct pit_channel *c = &p->s.ch[0];
    bool rose = false;
    uint64_t t = p->s.synced;
    for (int i = 0; i < 3 && !rose; i++) { /* fall, rise; one more where a new count cut a half cycle */
        t = next_edge(c, t);
        if (t > now)
            break;
        settle(c, t);
        rose = output(c, t);
    }
    settle(c, now);
    p->s.synced = now;
    if (rose) {
        drive(p, false);
        drive(p, true);
    }
    drive(p, output(c, now));
}

void pit_sync(struct machine *m)
{
    sync_line(pit_of(m), pit_now(pit_of(m)));
}

static bool rise_visible(const struct machine *m)
{
    return pic_line_open(m, IRQ_PIT) || ioapic_pin_open(m, GSI_PIT);
}

static bool fall_visible(const struct machine *m)
{
    return (pic_line_open(m, IRQ_PIT) && pic_line_latched(m, IRQ_PIT)) ||
           (ioapic_pin_open(m, GSI_PIT) && ioapic_pin_is_level(m, GSI_PIT));
}

static uint64_t next_visible_edge(const struct pit *p)
{
    const struct pit_channel *c = &p->s.ch[0];
    uint64_t t = p->s.synced;
    if (!rise_visible(p->m))
        return NEVER;
    t = next_edge(c, t);
    /* A waiting count takes over at an edge, falling ones included; stop there rather than look behind it. */
    if (t != NEVER && !output(c, t) && !fall_visible(p->m) && c->reload_at != t)
        t = next_edge(c, t);
    return t;
}

static void arm(struct pit *p)
{
    uint64_t t = p->s.deadline;
    vtimer_arm(&p->m->clock, &p->timer, t >= NEVER / 1000 ? VCLOCK_NEVER : ratio_ceil(t, NS_PER_S, PIT_HZ));
}

void pit_rearm(struct machine *m)
{
    struct pit *p = pit_of(m);
    p->s.deadline = next_visible_edge(p);
    arm(p);
}

static void pit_expired(void *owner, uint64_t deadline_ns)
{
    struct pit *p = owner;
    (void)deadline_ns;
    pit_sync(p->m);
    pit_rearm(p->m);
}

/* Bring everything up to now before a register is touched; returns now. */
static uint64_t begin(struct pit *p)
{
    uint64_t now = pit_now(p);
    sync_line(p, now);
    settle(&p->s.ch[1], now);
    settle(&p->s.ch[2], now);
    return now;
}

static void end(struct pit *p, uint64_t now)
{
    drive(p, output(&p->s.ch[0], now));
    pit_rearm(p->m);
}

/* ---- registers ---- */

static void read_back(struct pit *p, uint8_t v, uint64_t now)
{
    for (unsigned i = 0; i < 3; i++) {
        if (!(v >> (i + 1) & 1))
            continue;
        if (!(v & 0x20))
            latch_count(&p->s.ch[i], now);
        if (!(v & 0x10))
            latch_status(&p->s.ch[i], now);
    }
}

static uint64_t pit_read(void *dev, struct bus_access a)
{
    struct pit *p = dev;
    uint64_t now = begin(p);
    uint8_t v = a.off < 3 ? read_channel(&p->s.ch[a.off], now) : 0xff; /* the control word is write-only */
    end(p, now);
    return v;
}

static void pit_write(void *dev, struct bus_access a, uint64_t value)
{
    struct pit *p = dev;
    uint8_t v = (uint8_t)value;
    uint64_t now = begin(p);
    if (a.off < 3) {
        if (p->s.ch[a.off].rw != RW_LATCH) /* before any control word: nothing to write to */
            write_count(&p->s.ch[a.off], v, now);
    } else if (v >> 6 == 3) {
        read_back(p, v, now);
    } else if ((v >> 4 & 3) == RW_LATCH) {
        latch_count(&p->s.ch[v >> 6], now);
    } else {
        write_control(&p->s.ch[v >> 6], v);
    }
    end(p, now);
}

static uint64_t port61_read(void *dev, struct bus_access a)
{
    struct pit *p = dev;
    (void)a;
    uint64_t now = begin(p);
    uint64_t refresh = vclock_ns(&p->m->clock) / REFRESH_NS & 1;
    uint8_t v = (uint8_t)(p->s.port61 | refresh << 4 | (uint64_t)output(&p->s.ch[2], now) << 5);
    end(p, now);
    return v;
}

static void port61_write(void *dev, struct bus_access a, uint64_t value)
{
    struct pit *p = dev;
    (void)a;
    uint64_t now = begin(p);
    p->s.port61 = value & 0x0f;
    set_gate(&p->s.ch[2], value & 1, now);
    end(p, now);
}

/* ---- life ---- */

static void *pit_create(struct machine *m)
{
    struct pit *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->m = m;
    vtimer_add(&m->clock, &p->timer, pit_expired, p);
    p->s.ch[0] = (struct pit_channel){
        .reload_at = NEVER, .count = 65536, .next = 65536, .mode = 2, .rw = RW_BOTH, .gate = 1, .loaded = 1};
    p->s.ch[1] = (struct pit_channel){
        .reload_at = NEVER, .count = 18, .next = 18, .mode = 2, .rw = RW_LOW, .gate = 1, .loaded = 1};
    p->s.ch[2] = (struct pit_channel){.reload_at = NEVER, .count = 1, .next = 1, .rw = RW_BOTH};
    p->s.deadline = NEVER;
    return p;
}

static void pit_destroy(void *dev)
{
    struct pit *p = dev;
    vtimer_remove(&p->m->clock, &p->timer);
    free(p);
}

static void pit_restored(void *dev) { arm(dev); }

static bool pit_valid(const void *state)
{
    enum { COUNT_MAX = 65536, MODE_MAX = 5 };
    const struct pit_state *s = state;
    for (const struct pit_channel *c = s->ch; c < s->ch + ARRAY_LEN(s->ch); c++)
        if (c->count - 1 >= COUNT_MAX || c->next - 1 >= COUNT_MAX || c->mode > MODE_MAX || c->rw > RW_BOTH)
            return false;
    return true;
}

static void *pit_state_of(void *dev)
{
    struct pit *p = dev;
    return &p->s;
}

static const struct bus_region pit_regions[] = {
    {BUS_PIO, PIT_PORT, 4, 1, 1, pit_read, pit_write},
    {BUS_PIO, SPEAKER_PORT, 1, 1, 1, port61_read, port61_write},
    {0},
};

#define CHANNEL_FIELDS(n)                                                                              \
    SNAP(struct pit_state, ch[n].start), SNAP(struct pit_state, ch[n].reload_at),                      \
        SNAP(struct pit_state, ch[n].count), SNAP(struct pit_state, ch[n].next),                       \
        SNAP(struct pit_state, ch[n].held), SNAP(struct pit_state, ch[n].latched),                     \
        SNAP(struct pit_state, ch[n].latch_bytes), SNAP(struct pit_state, ch[n].status),               \
        SNAP(struct pit_state, ch[n].status_latched), SNAP(struct pit_state, ch[n].mode),              \
        SNAP(struct pit_state, ch[n].bcd), SNAP(struct pit_state, ch[n].rw),                           \
        SNAP(struct pit_state, ch[n].gate), SNAP(struct pit_state, ch[n].loaded),                      \
        SNAP(struct pit_state, ch[n].triggered), SNAP(struct pit_state, ch[n].low_byte),               \
        SNAP(struct pit_state, ch[n].high_next_write), SNAP(struct pit_state, ch[n].high_next_read)

static const struct snap_field pit_fields[] = {
    SNAP(struct pit_state, synced), SNAP(struct pit_state, deadline), CHANNEL_FIELDS(0), CHANNEL_FIELDS(1),
    CHANNEL_FIELDS(2),              SNAP(struct pit_state, line),     SNAP(struct pit_state, port61), SNAP_END,
};

const struct dev_class dev_pit = {
    .name = "pit",
    .create = pit_create,
    .destroy = pit_destroy,
    .regions = pit_regions,
    .state = pit_fields,
    .state_of = pit_state_of,
    .restored = pit_restored,
    .valid = pit_valid,
};
