/* core/dev/rtc.c: the MC146818 clock and CMOS RAM.
 *
 * References: Motorola MC146818A data sheet; ICH 13.6 for the PC's ports; IBM AT CMOS layout for the memory sizes.
 *
 * Clock time is guest wall-clock time plus an offset that the guest changes by setting the clock. While SET or the
 * divider's reset holds the clock, the ten time bytes are plain memory. Otherwise they are computed when read.
 *
 * The three interrupt flags are functions of time as well: `seen_ns` says up to when they were evaluated. A timer is
 * armed only for an event that would raise the interrupt line, so neither a disabled source nor one whose interrupt
 * nobody has acknowledged (register C) costs a wakeup.
 *
 * The day of the week is computed from the date. Daylight saving and square wave have no effect. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

enum rtc_reg {
    SECOND = 0, SECOND_ALARM, MINUTE, MINUTE_ALARM, HOUR, HOUR_ALARM, WEEKDAY, DAY, MONTH, YEAR, REG_A, REG_B, REG_C,
    REG_D, CMOS_LEN = 128
};
enum { A_UIP = 0x80, A_DIVIDER = 0x70, A_RUNNING = 0x20, A_RATE = 0x0f };
enum { B_SET = 0x80, B_24H = 0x02, B_BINARY = 0x04 };
enum { F_PERIODIC = 0x40, F_ALARM = 0x20, F_UPDATE = 0x10, F_ALL = 0x70, C_IRQF = 0x80 }; /* bits of C, enables in B */
enum { PM = 0x80, DONT_CARE = 0xc0 };
enum { NMI_DISABLE = 0x80 };
enum { UPDATE_NS = 244000 /* UIP before an update */, DAY_S = 86400, CRYSTAL_HZ = 32768 };

struct rtc_state {
    uint64_t offset_ns;   /* clock = wall clock + offset, modulo 2^64 */
    uint64_t seen_ns;     /* clock time up to which flags were evaluated */
    uint64_t deadline_ns; /* virtual time of the next interrupt, VCLOCK_NEVER */
    uint8_t index;        /* port 0x70: register in bits 6:0, NMI disable in bit 7 (nothing here raises that NMI) */
    uint8_t cmos[CMOS_LEN];
};

struct rtc {
    struct rtc_state s;
    struct vtimer timer;
    struct machine *m; /* borrowed */
};

static uint64_t clock_ns(const struct rtc *r)
{
    return vclock_wall_ns(&r->m->clock) + r->s.offset_ns;
}

static bool divider_on(const struct rtc *r) { return (r->s.cmos[REG_A] & A_DIVIDER) == A_RUNNING; }
static bool updating(const struct rtc *r) { return divider_on(r) && !(r->s.cmos[REG_B] & B_SET); }

/* ---- calendar (proleptic Gregorian; days count from 1970-01-01) ---- */

struct date { unsigned year, month, day; };

static bool leap(unsigned y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; }

static unsigned month_len(unsigned year, unsigned month) /* month 1..12 */
{
    static const uint8_t len[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return len[month - 1] + (month == 2 && leap(year));
}

static uint64_t days_before_year(unsigned y) /* since 0001-01-01 */
{
    uint64_t n = y - 1;
    return n * 365 + n / 4 - n / 100 + n / 400;
}

enum { EPOCH_YEAR = 1970 };

static uint64_t days_of(struct date d)
{
    uint64_t days = days_before_year(d.year) - days_before_year(EPOCH_YEAR);
    for (unsigned m = 1; m < d.month; m++)
        days += month_len(d.year, m);
    return days + d.day - 1;
}

static struct date date_of(uint64_t days)
{
    struct date d = {(unsigned)(EPOCH_YEAR + days / 366), 1, 1}; /* never late, a year or two early */
    while (days_of((struct date){d.year + 1, 1, 1}) <= days)
        d.year++;
    days -= days_of(d);
    for (; days >= month_len(d.year, d.month); d.month++)
        days -= month_len(d.year, d.month);
    d.day += (unsigned)days;
    return d;
}

/* ---- register images ---- */

static uint8_t encode(const struct rtc *r, unsigned v)
{
    return (uint8_t)(r->s.cmos[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static unsigned decode(const struct rtc *r, uint8_t v)
{
    return r->s.cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15u);
}

static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
    if (r->s.cmos[REG_B] & B_24H)
        return encode(r, h);
    return (uint8_t)(encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? PM : 0));
}

static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->s.cmos[REG_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & PM ? 12 : 0);
}

/* Write the clock's present time into the time bytes. */
static void store_time(struct rtc *r)
{
    uint64_t s = clock_ns(r) / NS_PER_S;
    struct date d = date_of(s / DAY_S);
    uint8_t *c = r->s.cmos;
    c[SECOND] = encode(r, (unsigned)(s % 60));
    c[MINUTE] = encode(r, (unsigned)(s / 60 % 60));
    c[HOUR] = encode_hour(r, (unsigned)(s / 3600 % 24));
    c[WEEKDAY] = encode(r, (unsigned)((s / DAY_S + 4) % 7) + 1); /* 1970-01-01 was a Thursday; 1 is Sunday */
    c[DAY] = encode(r, d.day);
    c[MONTH] = encode(r, d.month);
    c[YEAR] = encode(r, d.year % 100);
    c[CMOS_CENTURY] = (uint8_t)(d.year / 1000 % 10 << 4 | d.year / 100 % 10); /* always BCD, the firmware's byte */
}

/* Set the clock from the time bytes; what is no time or date is forced into range. The fraction of a second is the
 * divider's and stays. */
static void load_time(struct rtc *r)
{
    const uint8_t *c = r->s.cmos;
    unsigned century = (c[CMOS_CENTURY] >> 4) * 10u + (c[CMOS_CENTURY] & 15u);
    struct date d = {MAX(century * 100 + decode(r, c[YEAR]) % 100, EPOCH_YEAR), decode(r, c[MONTH]), decode(r, c[DAY])};
    d.month = MIN(MAX(d.month, 1u), 12u);
    d.day = MIN(MAX(d.day, 1u), month_len(d.year, d.month));
    uint64_t s = days_of(d) * DAY_S + decode_hour(r, c[HOUR]) % 24 * 3600 + decode(r, c[MINUTE]) % 60 * 60 +
                 decode(r, c[SECOND]) % 60;
    s = MIN(s, INT64_MAX / NS_PER_S);
    r->s.offset_ns += (s - clock_ns(r) / NS_PER_S) * NS_PER_S;
    r->s.seen_ns = clock_ns(r);
}

/* ---- flags as functions of time ---- */

/* Period of the periodic interrupt in crystal cycles, 0: off. Rates 1 and 2 repeat 8 and 9 (data sheet table 5). */
static uint32_t periodic_cycles(const struct rtc *r)
{
    unsigned rate = r->s.cmos[REG_A] & A_RATE;
    if (rate == 0 || !divider_on(r))
        return 0;
    return 1u << (rate <= 2 ? rate + 6 : rate - 1);
}

static uint64_t next_periodic(const struct rtc *r, uint64_t after)
{
    uint32_t cycles = periodic_cycles(r);
    if (!cycles)
        return VCLOCK_NEVER;
    uint64_t n = ratio_floor(after, CRYSTAL_HZ, NS_PER_S) / cycles + 1;
    return ratio_ceil(n * cycles, NS_PER_S, CRYSTAL_HZ);
}

static uint64_t next_update(const struct rtc *r, uint64_t after)
{
    return updating(r) ? (after / NS_PER_S + 1) * NS_PER_S : VCLOCK_NEVER;
}

/* The values an alarm byte matches, as a bit set. */
static uint64_t alarm_set(const struct rtc *r, enum rtc_reg reg, unsigned count)
{
    uint8_t v = r->s.cmos[reg];
    if (v >= DONT_CARE)
        return bit(count) - 1;
    unsigned at = reg == HOUR_ALARM ? decode_hour(r, v) : decode(r, v);
    return at < count ? bit(at) : 0;
}

static int next_in(uint64_t set, unsigned from)
{
    uint64_t rest = from < 64 ? set >> from << from : 0;
    return rest ? __builtin_ctzll(rest) : -1;
}

/* The first second of a day, at or after `from`, that the alarm matches; -1: none that day. */
static int alarm_in_day(const uint64_t set[3], unsigned from)
{
    unsigned h0 = from / 3600, m0 = from / 60 % 60, s0 = from % 60;
    for (int h = next_in(set[0], h0); h >= 0; h = next_in(set[0], (unsigned)h + 1)) {
        bool same_hour = (unsigned)h == h0;
        for (int m = next_in(set[1], same_hour ? m0 : 0); m >= 0; m = next_in(set[1], (unsigned)m + 1)) {
            int s = next_in(set[2], same_hour && (unsigned)m == m0 ? s0 : 0);
            if (s >= 0)
                return h * 3600 + m * 60 + s;
        }
    }
    return -1;
}

static uint64_t next_alarm(const struct rtc *r, uint64_t after)
{
    const uint64_t set[3] = {alarm_set(r, HOUR_ALARM, 24), alarm_set(r, MINUTE_ALARM, 60),
                             alarm_set(r, SECOND_ALARM, 60)};
    if (!updating(r) || !set[0] || !set[1] || !set[2])
        return VCLOCK_NEVER;
    uint64_t s = after / NS_PER_S + 1, day = s / DAY_S;
    int at = alarm_in_day(set, (unsigned)(s % DAY_S));
    if (at < 0) {
        day++;
        at = alarm_in_day(set, 0);
    }
    return (day * DAY_S + (uint64_t)at) * NS_PER_S;
}

static void rtc_evaluate(struct rtc *r)
{
    uint64_t now = clock_ns(r), seen = r->s.seen_ns;
    if (next_periodic(r, seen) <= now)
        r->s.cmos[REG_C] |= F_PERIODIC;
    if (next_update(r, seen) <= now)
        r->s.cmos[REG_C] |= F_UPDATE;
    if (next_alarm(r, seen) <= now)
        r->s.cmos[REG_C] |= F_ALARM;
    r->s.seen_ns = now;
}

/* Drive the line from flags and enables and arm the timer for the next change. Flags are evaluated up to now. */
static void rtc_update(struct rtc *r)
{
    uint8_t enables = r->s.cmos[REG_B] & F_ALL, now = r->s.cmos[REG_C] & enables;
    uint64_t next = VCLOCK_NEVER, seen = r->s.seen_ns;
    if (enables & F_PERIODIC)
        next = MIN(next, next_periodic(r, seen));
    if (enables & F_UPDATE)
        next = MIN(next, next_update(r, seen));
    if (enables & F_ALARM)
        next = MIN(next, next_alarm(r, seen));
    r->s.cmos[REG_C] = (uint8_t)((r->s.cmos[REG_C] & F_ALL) | (now ? C_IRQF : 0));
    r->s.deadline_ns = now || next == VCLOCK_NEVER ? VCLOCK_NEVER : vclock_ns(&r->m->clock) + (next - seen);
    vtimer_arm(&r->m->clock, &r->timer, r->s.deadline_ns);
    irq_set(r->m, IRQ_RTC, now);
}

static void rtc_expired(void *owner, uint64_t deadline_ns)
{
    struct rtc *r = owner;
    (void)deadline_ns;
    rtc_evaluate(r);
    rtc_update(r);
}

/* ---- registers ---- */

static bool is_time(unsigned reg)
{
    return reg == CMOS_CENTURY || (reg <= YEAR && reg != SECOND_ALARM && reg != MINUTE_ALARM && reg != HOUR_ALARM);
}

/* A or B are about to change: while the clock is held, its time is in the bytes. */
static void write_control(struct rtc *r, enum rtc_reg reg, uint8_t v)
{
    bool was_updating = updating(r), divider_was_on = divider_on(r);
    if (was_updating)
        store_time(r); /* in the format that B names before the write */
    r->s.cmos[reg] = v;
    if (!divider_was_on && divider_on(r)) /* the first update comes half a second later (data sheet, "Divider") */
        r->s.offset_ns += NS_PER_S / 2 - clock_ns(r) % NS_PER_S;
    if (!was_updating && updating(r))
        load_time(r);
    r->s.seen_ns = clock_ns(r);
}

static void write_time(struct rtc *r, unsigned reg, uint8_t v)
{
    if (updating(r))
        store_time(r);
    r->s.cmos[reg] = v;
    if (updating(r))
        load_time(r);
}

static void rtc_write_reg(struct rtc *r, unsigned reg, uint8_t v)
{
    rtc_evaluate(r);
    if (reg == REG_A)
        write_control(r, REG_A, v & (uint8_t)~A_UIP);
    else if (reg == REG_B) /* setting SET clears the update interrupt enable */
        write_control(r, REG_B, v & B_SET ? v & (uint8_t)~F_UPDATE : v);
    else if (is_time(reg))
        write_time(r, reg, v);
    else if (reg != REG_C && reg != REG_D)
        r->s.cmos[reg] = v;
    rtc_update(r);
}

static uint8_t rtc_read_reg(struct rtc *r, unsigned reg)
{
    uint8_t v;
    if (is_time(reg) && updating(r))
        store_time(r);
    v = r->s.cmos[reg];
    if (reg == REG_A && updating(r) && clock_ns(r) % NS_PER_S >= NS_PER_S - UPDATE_NS)
        v |= A_UIP;
    if (reg == REG_C) { /* reading acknowledges */
        rtc_evaluate(r);
        rtc_update(r);
        v = r->s.cmos[REG_C];
        r->s.cmos[REG_C] = 0;
        rtc_update(r);
    }
    return v;
}

static uint64_t rtc_read(void *dev, struct bus_access a)
{
    struct rtc *r = dev;
    if (a.off == 0)
        return 0xff; /* the index port is write-only */
    return rtc_read_reg(r, r->s.index & 0x7f);
}

static void rtc_write(void *dev, struct bus_access a, uint64_t value)
{
    struct rtc *r = dev;
    if (a.off == 0)
        r->s.index = (uint8_t)value;
    else
        rtc_write_reg(r, r->s.index & 0x7f, (uint8_t)value);
}

/* ---- what firmware leaves in CMOS RAM ---- */

static void put_units(uint8_t *low, uint8_t *high, uint64_t units)
{
    units = MIN(units, UINT16_MAX);
    *low = (uint8_t)units;
    *high = (uint8_t)(units >> 8);
}

static void fill_cmos(uint8_t *c, const struct mem *mem)
{
    uint64_t low = mem->low_len, high = mem->ram_len - mem->low_len;
    uint64_t extended = low > MIB(1) ? low - MIB(1) : 0;
    put_units(&c[0x15], &c[0x16], 640);                           /* KiB of base memory */
    put_units(&c[0x17], &c[0x18], extended / KIB(1));             /* KiB above 1 MiB, and the same as found by POST */
    put_units(&c[0x30], &c[0x31], extended / KIB(1));
    put_units(&c[0x34], &c[0x35], low > MIB(16) ? (low - MIB(16)) / KIB(64) : 0); /* 64 KiB units above 16 MiB */
    put_units(&c[0x5b], &c[0x5c], high / KIB(64) & UINT16_MAX);   /* 64 KiB units above 4 GiB, 24 bits */
    c[0x5d] = (uint8_t)(high / KIB(64) >> 16);
    c[0x14] = 0x06; /* equipment: FPU, PS/2 mouse; no floppy, no display */
    unsigned sum = 0;
    for (unsigned i = 0x10; i <= 0x2d; i++)
        sum += c[i];
    c[0x2e] = (uint8_t)(sum >> 8);
    c[0x2f] = (uint8_t)sum;
}

/* ---- life ---- */

static void *rtc_create(struct machine *m)
{
    struct rtc *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->m = m;
    vtimer_add(&m->clock, &r->timer, rtc_expired, r);
    fill_cmos(r->s.cmos, &m->mem);
    r->s.cmos[REG_A] = A_RUNNING | 6; /* as a BIOS sets it: 1024 Hz, disabled */
    r->s.cmos[REG_B] = B_24H;
    r->s.cmos[REG_D] = 0x80; /* the battery is good */
    r->s.deadline_ns = VCLOCK_NEVER;
    r->s.seen_ns = clock_ns(r);
    store_time(r);
    return r;
}

static void rtc_destroy(void *dev)
{
    struct rtc *r = dev;
    vtimer_remove(&r->m->clock, &r->timer);
    free(r);
}

static void rtc_restored(void *dev)
{
    struct rtc *r = dev;
    vtimer_arm(&r->m->clock, &r->timer, r->s.deadline_ns);
}

static void *rtc_state_of(void *dev)
{
    struct rtc *r = dev;
    return &r->s;
}

static const struct bus_region rtc_regions[] = {
    {BUS_PIO, RTC_PORT, 2, 1, 1, rtc_read, rtc_write},
    {0},
};

static const struct snap_field rtc_fields[] = {
    SNAP(struct rtc_state, offset_ns),
    SNAP(struct rtc_state, seen_ns),
    SNAP(struct rtc_state, deadline_ns),
    SNAP(struct rtc_state, index),
    SNAP_ARRAY(struct rtc_state, cmos),
    SNAP_END,
};

const struct dev_class dev_rtc = {
    .name = "rtc",
    .create = rtc_create,
    .destroy = rtc_destroy,
    .regions = rtc_regions,
    .state = rtc_fields,
    .state_of = rtc_state_of,
    .restored = rtc_restored,
};
