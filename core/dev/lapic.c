/* core/dev/lapic.c: the local APIC: xAPIC registers in memory, x2APIC registers as MSRs, the timer, CR8.
 *
 * References: Intel SDM vol. 3 chapter 11 (11.4 local APIC, 11.5 LVT and timer, 11.6 IPIs, 11.8 interrupt handling,
 * 11.12 x2APIC). Version 0x14, six LVT entries, no EOI-broadcast suppression, no CMCI.
 *
 * Choices, where the manual leaves one:
 *  - The base address is fixed; moving it with IA32_APIC_BASE is #GP(0).
 *  - After reset the APIC is disabled by software and lets the 8259 through (core/irq.c says why).
 *  - The APIC id is read-only, as on processors since Nehalem.
 *  - INIT sent to the only CPU asks for a machine reset; STARTUP and SMI have no receiver.
 *
 * Timer. Its input clock is 1 GHz, so a count lasts `divisor` virtual nanoseconds. The current count is a function of
 * time: at `start_ns` the count was `start_count`; it falls by one every `divisor` ns; a periodic timer goes on with
 * the initial count. `expiry_ns` is the next moment with an effect, VCLOCK_NEVER while the LVT entry is masked: a
 * masked timer counts without waking anybody. */
#include <stdlib.h>

#include "core/cpu.h"
#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

_Static_assert((int)APIC_TIMER_HZ == (int)VCLOCK_TSC_HZ, "one timer count is one virtual nanosecond");

enum lapic_reg { /* offset >> 4 in memory; MSR - 0x800 */
    REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a, REG_EOI = 0x0b, REG_LDR = 0x0d,
    REG_DFR = 0x0e, REG_SVR = 0x0f, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28, REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31, REG_LVT_TIMER = 0x32, REG_LVT_THERMAL = 0x33, REG_LVT_PERF = 0x34, REG_LVT_LINT0 = 0x35,
    REG_LVT_LINT1 = 0x36, REG_LVT_ERROR = 0x37, REG_TIMER_INITIAL = 0x38, REG_TIMER_CURRENT = 0x39,
    REG_TIMER_DIVIDE = 0x3e, REG_SELF_IPI = 0x3f, REG_COUNT = 0x40,
};
enum { SVR_ENABLE = 0x100 };
enum { LVT_REMOTE_IRR = 1 << 14, LVT_LEVEL = 1 << 15, LVT_MASKED = 1 << 16 };
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };
enum { ESR_SEND_VECTOR = 0x20, ESR_RECEIVE_VECTOR = 0x40, ESR_REGISTER = 0x80 };
enum { BASE_BSP = 0x100, BASE_X2APIC = 0x400, BASE_ENABLE = 0x800 };
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800 };
enum { ICR_LEVEL_ASSERT = 1 << 14, ICR_LEVEL_TRIGGER = 1 << 15, ICR_LOGICAL = 1 << 11 };
enum { VERSION = 0x14 | 5 << 16 };

struct lapic_state {
    uint64_t apic_base;
    uint64_t start_ns, expiry_ns;
    uint64_t tsc_deadline; /* 0: not armed */
    uint32_t start_count;  /* 0: the timer does not run */
    uint32_t errors;       /* collected since ESR was last written */
    uint32_t lint0;        /* level of the pin */
    uint32_t reg[REG_COUNT];
};

struct lapic {
    struct lapic_state s;
    struct vtimer timer;
    struct machine *m; /* borrowed */
};

static struct lapic *lapic_of(const struct machine *m) { return m->dev[DEV_LAPIC]; }
static bool enabled(const struct lapic *l) { return l->s.apic_base & BASE_ENABLE; }
static bool x2apic(const struct lapic *l) { return l->s.apic_base & BASE_X2APIC; }
static bool sw_enabled(const struct lapic *l) { return enabled(l) && l->s.reg[REG_SVR] & SVR_ENABLE; }
static unsigned lvt_mode(uint32_t lvt) { return lvt >> 8 & 7; }

/* ---- vectors: IRR, ISR, TMR, priorities ---- */

static void vec_set(struct lapic *l, enum lapic_reg set, uint8_t v) { l->s.reg[set + v / 32] |= 1u << v % 32; }
static void vec_clear(struct lapic *l, enum lapic_reg set, uint8_t v) { l->s.reg[set + v / 32] &= ~(1u << v % 32); }
static bool vec_test(const struct lapic *l, enum lapic_reg set, uint8_t v)
{
    return l->s.reg[set + v / 32] >> v % 32 & 1;
}

static int vec_highest(const struct lapic *l, enum lapic_reg set)
{
    for (int i = 7; i >= 0; i--)
        if (l->s.reg[set + (unsigned)i])
            return i * 32 + 31 - __builtin_clz(l->s.reg[set + (unsigned)i]);
    return -1;
}

static uint32_t processor_priority(const struct lapic *l) /* SDM 11.8.3.1 */
{
    uint32_t tpr = l->s.reg[REG_TPR];
    int isr = vec_highest(l, REG_ISR);
    return isr >= 0 && (uint32_t)isr >> 4 > tpr >> 4 ? (uint32_t)isr & 0xf0 : tpr;
}

static void error(struct lapic *l, uint32_t bits);

static void accept(struct lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        error(l, ESR_RECEIVE_VECTOR);
        return;
    }
    vec_set(l, REG_IRR, vector);
    if (level)
        vec_set(l, REG_TMR, vector);
    else
        vec_clear(l, REG_TMR, vector);
}

static void error(struct lapic *l, uint32_t bits) /* SDM 11.5.3 */
{
    uint32_t lvt = l->s.reg[REG_LVT_ERROR];
    l->s.errors |= bits;
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
        accept(l, lvt & 0xff, false);
}

static void raise_nmi(struct lapic *l)
{
    l->m->vcpu.s.nmi_pending = 1;
    l->m->vcpu.brk |= VCPU_BRK_EVENT;
}

int lapic_pending(const struct machine *m)
{
    const struct lapic *l = lapic_of(m);
    int irr = enabled(l) ? vec_highest(l, REG_IRR) : -1;
    return irr >= 0 && (uint32_t)irr >> 4 > processor_priority(l) >> 4 ? irr : -1;
}

int lapic_ack(struct machine *m)
{
    struct lapic *l = lapic_of(m);
    int vector = lapic_pending(m);
    if (vector >= 0) {
        vec_clear(l, REG_IRR, (uint8_t)vector);
        vec_set(l, REG_ISR, (uint8_t)vector);
    }
    return vector;
}

/* ---- LINT0, to which the 8259 is wired ---- */

bool lapic_passes_pic(const struct machine *m)
{
    const struct lapic *l = lapic_of(m);
    uint32_t lvt = l->s.reg[REG_LVT_LINT0];
    return !sw_enabled(l) || (!(lvt & LVT_MASKED) && lvt_mode(lvt) == APIC_EXTINT);
}

bool lapic_can_nmi(const struct machine *m)
{
    uint32_t lvt = lapic_of(m)->s.reg[REG_LVT_LINT0];
    return !(lvt & LVT_MASKED) && lvt_mode(lvt) == APIC_NMI;
}

static void lint0_service(struct lapic *l, bool rising)
{
    uint32_t *lvt = &l->s.reg[REG_LVT_LINT0];
    bool level = *lvt & LVT_LEVEL && lvt_mode(*lvt) == APIC_FIXED;
    if (*lvt & LVT_MASKED || !l->s.lint0 || (level ? *lvt & LVT_REMOTE_IRR : !rising))
        return;
    if (lvt_mode(*lvt) == APIC_NMI) {
        raise_nmi(l);
    } else if (lvt_mode(*lvt) == APIC_FIXED) {
        accept(l, *lvt & 0xff, level);
        *lvt |= level ? LVT_REMOTE_IRR : 0;
    }
}

void lapic_set_lint0(struct machine *m, bool level)
{
    struct lapic *l = lapic_of(m);
    bool rising = level && !l->s.lint0;
    l->s.lint0 = level;
    lint0_service(l, rising);
}

static void end_of_interrupt(struct lapic *l) /* SDM 11.8.5 */
{
    int v = vec_highest(l, REG_ISR);
    if (v < 0)
        return;
    vec_clear(l, REG_ISR, (uint8_t)v);
    if (!vec_test(l, REG_TMR, (uint8_t)v))
        return;
    uint32_t *lint0 = &l->s.reg[REG_LVT_LINT0];
    if (*lint0 & LVT_REMOTE_IRR && (*lint0 & 0xff) == (uint32_t)v) {
        *lint0 &= ~(uint32_t)LVT_REMOTE_IRR;
        lint0_service(l, false);
    }
    ioapic_eoi(l->m, (uint8_t)v);
}

/* ---- messages ---- */

static bool logical_match(const struct lapic *l, uint32_t dest) /* SDM 11.6.2.2, 11.12.10.2 */
{
    uint32_t ldr = l->s.reg[REG_LDR];
    if (x2apic(l))
        return dest == UINT32_MAX || (dest >> 16 == ldr >> 16 && dest & ldr & 0xffff);
    uint8_t id = (uint8_t)(ldr >> 24), to = (uint8_t)dest;
    if (l->s.reg[REG_DFR] >> 28 == 0xf) /* flat */
        return id & to;
    if (l->s.reg[REG_DFR] >> 28 == 0) /* cluster */
        return to == 0xff || (to >> 4 == id >> 4 && to & id & 0xf);
    return false;
}

static bool is_for_us(const struct lapic *l, struct apic_message msg)
{
    if (!enabled(l))
        return false;
    return msg.logical ? logical_match(l, msg.dest) : msg.dest == LAPIC_ID || msg.dest == UINT32_MAX;
}

bool lapic_deliver(struct machine *m, struct apic_message msg)
{
    struct lapic *l = lapic_of(m);
    if (!is_for_us(l, msg))
        return false;
    switch (msg.mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!sw_enabled(l))
            return false;
        accept(l, msg.vector, msg.level);
        return true;
    case APIC_NMI:
        raise_nmi(l);
        return true;
    case APIC_INIT:
        machine_request(m, REQ_RESET, 0);
        return true;
    }
    return false;
}

static void send_ipi(struct lapic *l, uint32_t low, uint32_t dest) /* SDM 11.6.1 */
{
    enum { NO_SHORTHAND, TO_SELF, TO_ALL, TO_OTHERS };
    struct apic_message msg = {.dest = dest, .vector = low & 0xff, .mode = low >> 8 & 7, .logical = low & ICR_LOGICAL};
    unsigned shorthand = low >> 18 & 3;
    if (msg.mode == APIC_EXTINT || shorthand == TO_OTHERS)
        return;
    if (msg.mode == APIC_INIT && low & ICR_LEVEL_TRIGGER && !(low & ICR_LEVEL_ASSERT))
        return; /* INIT level de-assert: a synchronisation message of old systems */
    if (msg.mode <= APIC_LOWEST && msg.vector < 16) {
        error(l, ESR_SEND_VECTOR);
        return;
    }
    if (shorthand != NO_SHORTHAND) {
        msg.logical = false;
        msg.dest = UINT32_MAX;
    } else if (!x2apic(l) && !msg.logical && dest == 0xff) {
        msg.dest = UINT32_MAX;
    }
    lapic_deliver(l->m, msg);
}

/* ---- timer ---- */

static unsigned timer_mode(const struct lapic *l) { return l->s.reg[REG_LVT_TIMER] >> 17 & 3; }
static uint64_t timer_now(const struct lapic *l) { return vclock_ns(&l->m->clock); }

static uint32_t timer_divisor(const struct lapic *l)
{
    uint32_t d = l->s.reg[REG_TIMER_DIVIDE];
    uint32_t code = (d >> 1 & 4) | (d & 3);
    return code == 7 ? 1 : 2u << code;
}

static uint32_t timer_current(const struct lapic *l)
{
    if (!l->s.start_count || timer_mode(l) >= TIMER_DEADLINE)
        return 0;
    uint64_t counted = (timer_now(l) - l->s.start_ns) / timer_divisor(l);
    uint32_t initial = l->s.reg[REG_TIMER_INITIAL];
    if (counted < l->s.start_count)
        return l->s.start_count - (uint32_t)counted;
    if (timer_mode(l) == TIMER_ONE_SHOT)
        return 0;
    return initial - (uint32_t)((counted - l->s.start_count) % initial);
}

/* The first expiry after now, whatever the mask says. */
static uint64_t timer_next_expiry(const struct lapic *l)
{
    uint64_t now = timer_now(l);
    if (!l->s.start_count)
        return VCLOCK_NEVER;
    uint64_t first = l->s.start_ns + (uint64_t)l->s.start_count * timer_divisor(l);
    if (first > now)
        return first;
    if (timer_mode(l) == TIMER_ONE_SHOT)
        return VCLOCK_NEVER;
    uint64_t period = (uint64_t)l->s.reg[REG_TIMER_INITIAL] * timer_divisor(l);
    return first + ((now - first) / period + 1) * period;
}

static uint64_t tsc(const struct lapic *l)
{
    return timer_now(l) + l->m->vcpu.s.tsc_adjust;
}

static uint64_t deadline_expiry(const struct lapic *l)
{
    if (!l->s.tsc_deadline || l->s.tsc_deadline <= tsc(l))
        return VCLOCK_NEVER;
    uint64_t wait = l->s.tsc_deadline - tsc(l);
    return wait > VCLOCK_NEVER - timer_now(l) ? VCLOCK_NEVER : timer_now(l) + wait;
}

static void timer_rearm(struct lapic *l)
{
    uint64_t expiry = VCLOCK_NEVER;
    if (enabled(l) && !(l->s.reg[REG_LVT_TIMER] & LVT_MASKED))
        expiry = timer_mode(l) == TIMER_DEADLINE ? deadline_expiry(l) : timer_next_expiry(l);
    l->s.expiry_ns = expiry;
    vtimer_arm(&l->m->clock, &l->timer, expiry);
}

static void timer_interrupt(struct lapic *l)
{
    uint32_t lvt = l->s.reg[REG_LVT_TIMER];
    if (!(lvt & LVT_MASKED))
        accept(l, lvt & 0xff, false);
}

/* Expiries that coincide in one tick are one interrupt: IRR has one bit for them. */
static void timer_expired(void *owner, uint64_t deadline_ns)
{
    struct lapic *l = owner;
    (void)deadline_ns;
    timer_interrupt(l);
    if (timer_mode(l) == TIMER_DEADLINE)
        l->s.tsc_deadline = 0;
    timer_rearm(l);
    irq_update(l->m);
}

/* An expiry due now, whose timer has not run yet, happens before the registers change. */
static void timer_settle(struct lapic *l)
{
    if (l->s.expiry_ns <= timer_now(l))
        timer_expired(l, l->s.expiry_ns);
}

/* Make now the reference point, so that the divider or the mode can change while the count goes on. */
static void timer_rebase(struct lapic *l)
{
    uint64_t partial = l->s.start_count ? (timer_now(l) - l->s.start_ns) % timer_divisor(l) : 0;
    l->s.start_count = timer_current(l);
    l->s.start_ns = timer_now(l) - partial;
}

static void timer_set_lvt(struct lapic *l, uint32_t value)
{
    unsigned old = timer_mode(l), new = value >> 17 & 3;
    timer_settle(l);
    if (old != new)
        timer_rebase(l);
    l->s.reg[REG_LVT_TIMER] = value;
    if (new >= TIMER_DEADLINE || old >= TIMER_DEADLINE) { /* SDM 11.5.4.1: changing to or from it disarms */
        l->s.start_count = 0;
        if (old != new)
            l->s.tsc_deadline = 0;
    }
    timer_rearm(l);
}

static void timer_set_initial(struct lapic *l, uint32_t value)
{
    if (timer_mode(l) >= TIMER_DEADLINE)
        return; /* ignored, SDM 11.5.4.1 */
    timer_settle(l);
    l->s.reg[REG_TIMER_INITIAL] = value;
    l->s.start_count = value;
    l->s.start_ns = timer_now(l);
    timer_rearm(l);
}

static void timer_set_divide(struct lapic *l, uint32_t value)
{
    timer_settle(l);
    uint32_t current = timer_current(l);
    l->s.reg[REG_TIMER_DIVIDE] = value;
    l->s.start_count = current;
    l->s.start_ns = timer_now(l);
    timer_rearm(l);
}

static void timer_set_deadline(struct lapic *l, uint64_t value)
{
    if (timer_mode(l) != TIMER_DEADLINE)
        return;
    timer_settle(l);
    l->s.tsc_deadline = value;
    if (value && value <= tsc(l)) { /* already past: at once */
        l->s.tsc_deadline = 0;
        timer_interrupt(l);
    }
    timer_rearm(l);
    irq_update(l->m);
}

void lapic_tsc_moved(struct machine *m)
{
    struct lapic *l = lapic_of(m);
    if (timer_mode(l) == TIMER_DEADLINE && l->s.tsc_deadline)
        timer_set_deadline(l, l->s.tsc_deadline);
}

/* ---- registers ---- */

enum { XR = 1, XW = 2, MR = 4, MW = 8, ALL = XR | XW | MR | MW }; /* memory (xAPIC) and MSR (x2APIC), read, write */

/* SDM tables 11-1 and 11-6. `writable`: other bits are ignored in memory and #GP as an MSR. */
static const struct lapic_reg_info { uint8_t access; uint32_t writable; } reg_info[REG_COUNT] = {
    [REG_ID] = {XR | XW | MR, 0},
    [REG_VERSION] = {XR | MR, 0},
    [REG_TPR] = {ALL, 0xff},
    [REG_APR] = {XR, 0},
    [REG_PPR] = {XR | MR, 0},
    [REG_EOI] = {XW | MW, 0},
    [REG_LDR] = {XR | XW | MR, 0xff000000},
    [REG_DFR] = {XR | XW, 0xf0000000},
    [REG_SVR] = {ALL, 0x3ff},
    [REG_ISR ... REG_ISR + 7] = {XR | MR, 0},
    [REG_TMR ... REG_TMR + 7] = {XR | MR, 0},
    [REG_IRR ... REG_IRR + 7] = {XR | MR, 0},
    [REG_ESR] = {ALL, 0},
    [REG_ICR] = {ALL, 0xccfff},
    [REG_ICR_HIGH] = {XR | XW, 0xff000000},
    [REG_LVT_TIMER] = {ALL, 0x700ff},
    [REG_LVT_THERMAL] = {ALL, 0x107ff},
    [REG_LVT_PERF] = {ALL, 0x107ff},
    [REG_LVT_LINT0] = {ALL, 0x1a7ff},
    [REG_LVT_LINT1] = {ALL, 0x1a7ff},
    [REG_LVT_ERROR] = {ALL, 0x100ff},
    [REG_TIMER_INITIAL] = {ALL, UINT32_MAX},
    [REG_TIMER_CURRENT] = {XR | MR, 0},
    [REG_TIMER_DIVIDE] = {ALL, 0xb},
    [REG_SELF_IPI] = {MW, 0xff},
};

static uint32_t reg_read(const struct lapic *l, unsigned reg)
{
    switch (reg) {
    case REG_ID:
        return x2apic(l) ? (uint32_t)LAPIC_ID : (uint32_t)LAPIC_ID << 24;
    case REG_VERSION:
        return VERSION;
    case REG_PPR:
    case REG_APR: /* arbitration priority: nobody to arbitrate with */
        return processor_priority(l);
    case REG_TIMER_CURRENT:
        return timer_current(l);
    }
    return l->s.reg[reg];
}

static void write_svr(struct lapic *l, uint32_t value)
{
    timer_settle(l);
    l->s.reg[REG_SVR] = value;
    if (!(value & SVR_ENABLE)) /* SDM 11.4.7.2: all LVT entries become and stay masked */
        for (unsigned i = REG_LVT_TIMER; i <= REG_LVT_ERROR; i++)
            l->s.reg[i] |= LVT_MASKED;
    timer_rearm(l);
    ioapic_resend(l->m);
}

static void write_lvt(struct lapic *l, unsigned reg, uint32_t value)
{
    if (!sw_enabled(l))
        value |= LVT_MASKED;
    if (reg == REG_LVT_TIMER) {
        timer_set_lvt(l, value);
    } else if (reg == REG_LVT_LINT0) {
        bool level = value & LVT_LEVEL && lvt_mode(value) == APIC_FIXED;
        l->s.reg[reg] = value | (level ? l->s.reg[reg] & LVT_REMOTE_IRR : 0);
        lint0_service(l, false);
    } else {
        l->s.reg[reg] = value;
    }
}

static void reg_write(struct lapic *l, unsigned reg, uint32_t value)
{
    switch (reg) {
    case REG_ID:
        return;
    case REG_EOI:
        end_of_interrupt(l);
        return;
    case REG_DFR:
        l->s.reg[reg] = value | 0x0fffffff;
        return;
    case REG_SVR:
        write_svr(l, value);
        return;
    case REG_ESR: /* a write makes the errors collected so far readable */
        l->s.reg[reg] = l->s.errors;
        l->s.errors = 0;
        return;
    case REG_ICR:
        l->s.reg[reg] = value;
        send_ipi(l, value, x2apic(l) ? l->s.reg[REG_ICR_HIGH] : l->s.reg[REG_ICR_HIGH] >> 24);
        return;
    case REG_LVT_TIMER ... REG_LVT_ERROR:
        write_lvt(l, reg, value);
        return;
    case REG_TIMER_INITIAL:
        timer_set_initial(l, value);
        return;
    case REG_TIMER_DIVIDE:
        timer_set_divide(l, value);
        return;
    case REG_SELF_IPI:
        send_ipi(l, value | 1 << 18, 0);
        return;
    }
    l->s.reg[reg] = value;
}

static uint64_t mmio_read(void *dev, struct bus_access a)
{
    struct lapic *l = dev;
    unsigned reg = a.off >> 4;
    if (reg >= REG_COUNT || !(reg_info[reg].access & XR)) {
        error(l, ESR_REGISTER);
        irq_update(l->m);
        return 0;
    }
    return a.off & 0xf ? 0 : reg_read(l, reg); /* only the first 4 of every 16 bytes exist */
}

static void mmio_write(void *dev, struct bus_access a, uint64_t value)
{
    struct lapic *l = dev;
    unsigned reg = a.off >> 4;
    if (reg >= REG_COUNT || !(reg_info[reg].access & XW))
        error(l, ESR_REGISTER);
    else if (!(a.off & 0xf))
        reg_write(l, reg, (uint32_t)value & reg_info[reg].writable);
    irq_update(l->m);
}

static const struct bus_region lapic_window = {BUS_MMIO, LAPIC_BASE, LAPIC_LEN, 4, 4, mmio_read, mmio_write};

/* ---- MSRs ---- */

static bool x2apic_read(const struct lapic *l, unsigned reg, uint64_t *out)
{
    if (!x2apic(l) || reg >= REG_COUNT || !(reg_info[reg].access & MR))
        return false;
    *out = reg_read(l, reg);
    if (reg == REG_ICR)
        *out |= (uint64_t)l->s.reg[REG_ICR_HIGH] << 32;
    return true;
}

static bool x2apic_write(struct lapic *l, unsigned reg, uint64_t value)
{
    if (!x2apic(l) || reg >= REG_COUNT || !(reg_info[reg].access & MW))
        return false;
    uint64_t reserved = ~(uint64_t)reg_info[reg].writable;
    if (reg == REG_ICR)
        reserved &= UINT32_MAX; /* the high half is the destination */
    if (value & reserved)
        return false;
    if (reg == REG_ICR)
        l->s.reg[REG_ICR_HIGH] = (uint32_t)(value >> 32);
    reg_write(l, reg, (uint32_t)value);
    irq_update(l->m);
    return true;
}

static void reset_registers(struct lapic *l) /* SDM 11.4.7.1 */
{
    struct lapic_state *s = &l->s;
    *s = (struct lapic_state){.apic_base = s->apic_base, .lint0 = s->lint0, .expiry_ns = VCLOCK_NEVER};
    s->reg[REG_DFR] = UINT32_MAX;
    s->reg[REG_SVR] = 0xff;
    for (unsigned i = REG_LVT_TIMER; i <= REG_LVT_ERROR; i++)
        s->reg[i] = LVT_MASKED;
    timer_rearm(l);
}

/* Derived from apic_base: who answers at the window, and the copy in the CPU's state, which CPUID reads. */
static void base_changed(struct lapic *l)
{
    bus_unmap(l->m->bus, &lapic_window, l);
    if (enabled(l) && !x2apic(l))
        bus_remap(l->m->bus, &lapic_window, l, LAPIC_BASE);
    l->m->vcpu.s.apic_base = l->s.apic_base;
}

/* The transitions of SDM figure 11-27; the others are #GP. */
static bool write_apic_base(struct lapic *l, uint64_t value)
{
    enum { MODES = BASE_ENABLE | BASE_X2APIC };
    uint64_t old_mode = l->s.apic_base & MODES, new_mode = value & MODES;
    if ((value & ~(uint64_t)(MODES | BASE_BSP)) != LAPIC_BASE)
        return false;
    if (new_mode == BASE_X2APIC || (old_mode == MODES && new_mode == BASE_ENABLE) || (!old_mode && new_mode == MODES))
        return false;
    timer_settle(l);
    l->s.apic_base = value;
    if (!new_mode && old_mode)
        reset_registers(l);
    if (new_mode == MODES && old_mode != MODES) {
        l->s.reg[REG_LDR] = 1u << (LAPIC_ID & 0xf) | (uint32_t)LAPIC_ID >> 4 << 16;
        l->s.reg[REG_ICR_HIGH] = 0;
    }
    base_changed(l);
    ioapic_resend(l->m);
    irq_update(l->m);
    return true;
}

bool lapic_rdmsr(struct machine *m, uint32_t msr, uint64_t *out)
{
    const struct lapic *l = lapic_of(m);
    if (msr == MSR_APIC_BASE) {
        *out = l->s.apic_base;
        return true;
    }
    if (msr == MSR_TSC_DEADLINE) { /* 0 once it has passed, masked or not */
        *out = l->s.tsc_deadline > tsc(l) ? l->s.tsc_deadline : 0;
        return true;
    }
    return msr - MSR_X2APIC < 0x100 && x2apic_read(l, msr - MSR_X2APIC, out);
}

bool lapic_wrmsr(struct machine *m, uint32_t msr, uint64_t value)
{
    struct lapic *l = lapic_of(m);
    if (msr == MSR_APIC_BASE)
        return write_apic_base(l, value);
    if (msr == MSR_TSC_DEADLINE) {
        timer_set_deadline(l, value);
        return true;
    }
    return msr - MSR_X2APIC < 0x100 && x2apic_write(l, msr - MSR_X2APIC, value);
}

uint64_t lapic_cr8(struct machine *m)
{
    return lapic_of(m)->s.reg[REG_TPR] >> 4;
}

void lapic_set_cr8(struct machine *m, uint64_t tpr_class)
{
    lapic_of(m)->s.reg[REG_TPR] = (uint32_t)(tpr_class & 0xf) << 4;
    irq_update(m);
}

/* ---- life ---- */

static void *lapic_create(struct machine *m)
{
    struct lapic *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->m = m;
    vtimer_add(&m->clock, &l->timer, timer_expired, l);
    l->s.apic_base = LAPIC_BASE | BASE_ENABLE | BASE_BSP;
    reset_registers(l);
    base_changed(l);
    return l;
}

static void lapic_destroy(void *dev)
{
    struct lapic *l = dev;
    vtimer_remove(&l->m->clock, &l->timer);
    free(l);
}

static void lapic_restored(void *dev)
{
    struct lapic *l = dev;
    vtimer_arm(&l->m->clock, &l->timer, l->s.expiry_ns);
    base_changed(l);
    irq_update(l->m);
}

static bool lapic_valid(const void *state)
{
    const struct lapic_state *s = state;
    return (!s->start_count || s->reg[REG_TIMER_INITIAL]) && !(s->apic_base >> VCPU_MAXPHYADDR);
}

static void *lapic_state_of(void *dev)
{
    struct lapic *l = dev;
    return &l->s;
}

static const struct snap_field lapic_fields[] = {
    SNAP(struct lapic_state, apic_base),
    SNAP(struct lapic_state, start_ns),
    SNAP(struct lapic_state, expiry_ns),
    SNAP(struct lapic_state, tsc_deadline),
    SNAP(struct lapic_state, start_count),
    SNAP(struct lapic_state, errors),
    SNAP(struct lapic_state, lint0),
    SNAP_ARRAY(struct lapic_state, reg),
    SNAP_END,
};

const struct dev_class dev_lapic = {
    .name = "lapic",
    .create = lapic_create,
    .destroy = lapic_destroy,
    .state = lapic_fields,
    .state_of = lapic_state_of,
    .restored = lapic_restored,
    .valid = lapic_valid,
};
