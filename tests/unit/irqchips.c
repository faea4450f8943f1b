/* tests/unit/irqchips.c: 8259 pair, I/O APIC, local APIC and their wiring, against the data sheets. */
#include "tests/unit/board_rig.h"

#include "core/dev/board.h"

enum { EOI = 0x20, M = PIC_MASTER_PORT, S = PIC_SLAVE_PORT };
enum { /* local APIC offsets */
    ID = 0x20, VER = 0x30, TPR = 0x80, PPR = 0xa0, EOI_REG = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ISR = 0x100,
    TMR = 0x180, IRR = 0x200, ESR = 0x280, ICR = 0x300, ICR2 = 0x310, LVTT = 0x320, LVT0 = 0x350, LVTERR = 0x370,
    TMICT = 0x380, TMCCT = 0x390, TDCR = 0x3e0,
};
enum { MASKED = 0x10000, LEVEL = 0x8000, REMOTE_IRR = 0x4000 };
enum { MSR_BASE = 0x1b, MSR_DEADLINE = 0x6e0 };

static bool rd(struct rig *r, uint32_t msr, uint64_t *v) { return lapic_rdmsr(r->m, msr, v); }
static bool wr(struct rig *r, uint32_t msr, uint64_t v) { return lapic_wrmsr(r->m, msr, v); }
static void pulse(struct rig *r, unsigned line)
{
    irq_set(r->m, line, true);
    irq_set(r->m, line, false);
}

/* ---- 8259 ---- */

static void pic_is_masked_at_reset(void **state)
{
    struct rig *r = *state;
    for (unsigned line = 0; line < 16; line++)
        irq_set(r->m, line, line != 2);
    assert_false(r->m->vcpu.intr);
    assert_int_equal(in8(r, M + 1), 0xff);
    out8(r, M + 1, 0xfb); /* a PIC-only guest only unmasks: BIOS vectors, no APIC programmed */
    out8(r, S + 1, 0xfe);
    assert_int_equal(take(r), 0x70);
}

static void pic_priorities_and_nesting(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    irq_set(r->m, 5, true);
    assert_int_equal(take(r), 0x25);
    assert_int_equal(take(r), -1);
    irq_set(r->m, 6, true);
    assert_false(r->m->vcpu.intr); /* lower than what is in service */
    irq_set(r->m, 3, true);
    assert_int_equal(take(r), 0x23);
    out8(r, M, 0x0b);
    assert_int_equal(in8(r, M), 0x28); /* ISR: 3 and 5 */
    out8(r, M, 0x0a);
    assert_int_equal(in8(r, M), 0x40);
    out8(r, M, EOI);
    assert_int_equal(take(r), -1);
    out8(r, M, EOI);
    assert_int_equal(take(r), 0x26);
    out8(r, M, 0x66); /* specific EOI of 6 */
    out8(r, M, 0x0b);
    assert_int_equal(in8(r, M), 0);
}

static void pic_cascade(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    irq_set(r->m, 12, true);
    irq_set(r->m, 9, true);
    assert_int_equal(take(r), 0x29); /* 9 before 12, both before 3..7 of the master */
    irq_set(r->m, 3, true);
    assert_false(r->m->vcpu.intr);
    out8(r, S, EOI);
    assert_false(r->m->vcpu.intr); /* the master still has 2 in service */
    out8(r, M, EOI);
    assert_int_equal(take(r), 0x2c);
    irq_set(r->m, 8, true); /* higher within the slave, but the slave is locked out (no SFNM) */
    assert_false(r->m->vcpu.intr);
    out8(r, S, EOI);
    out8(r, M, EOI);
    assert_int_equal(take(r), 0x28);
}

static void pic_special_fully_nested(void **state)
{
    struct rig *r = *state;
    pic_init(r, 0x11, 0, 0);
    irq_set(r->m, 12, true);
    assert_int_equal(take(r), 0x2c);
    irq_set(r->m, 8, true);
    assert_int_equal(take(r), 0x28);
    irq_set(r->m, 3, true);
    assert_int_equal(take(r), -1);
}

static void pic_edge_requests_follow_the_line(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    irq_set(r->m, 4, true);
    assert_true(r->m->vcpu.intr);
    irq_set(r->m, 4, false); /* withdrawn */
    assert_false(r->m->vcpu.intr);
    irq_set(r->m, 4, true);
    assert_int_equal(take(r), 0x24);
    out8(r, M, EOI);
    assert_int_equal(take(r), -1); /* high, but no new edge */
}

static void pic_level_requests_repeat(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    out8(r, PIC_ELCR_PORT, 0xff);
    assert_int_equal(in8(r, PIC_ELCR_PORT), 0xf8);
    out8(r, PIC_ELCR_PORT + 1, 0xff);
    assert_int_equal(in8(r, PIC_ELCR_PORT + 1), 0xde);
    irq_set(r->m, 5, true);
    assert_int_equal(take(r), 0x25);
    out8(r, M, EOI);
    assert_int_equal(take(r), 0x25);
    irq_set(r->m, 5, false);
    out8(r, M, EOI);
    assert_int_equal(take(r), -1);
}

static void pic_spurious(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    assert_int_equal(irq_ack(r->m), -1);    /* no INTA cycle without INT */
    assert_int_equal(pic_ack(r->m), 0x27);  /* an INTA cycle without a request */
    out8(r, M, 0x0b);
    assert_int_equal(in8(r, M), 0);         /* leaves nothing in service */
}

static void pic_poll(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    irq_set(r->m, 4, true);
    out8(r, M, 0x0c);
    assert_int_equal(in8(r, M), 0x84);
    assert_false(r->m->vcpu.intr);
    out8(r, M, 0x0c);
    assert_int_equal(in8(r, M), 0);
    irq_set(r->m, 11, true); /* the master's input 2, above 4 */
    out8(r, M, 0x0c);
    assert_int_equal(in8(r, M), 0x82);
    out8(r, S, 0x0c);
    assert_int_equal(in8(r, S), 0x83);
}

static void pic_auto_eoi_and_rotation(void **state)
{
    struct rig *r = *state;
    pic_init(r, 3, 0, 0);
    out8(r, M, 0x80); /* rotate in automatic EOI mode */
    irq_set(r->m, 3, true);
    irq_set(r->m, 4, true);
    assert_int_equal(take(r), 0x23);
    out8(r, M, 0x0b);
    assert_int_equal(in8(r, M), 0);
    irq_set(r->m, 3, false);
    irq_set(r->m, 3, true); /* 3 is lowest now */
    assert_int_equal(take(r), 0x24);
    assert_int_equal(take(r), 0x23);
}

static void pic_rotate_and_set_priority(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    out8(r, M, 0xc4); /* 4 is lowest, so 5 is highest */
    irq_set(r->m, 1, true);
    irq_set(r->m, 6, true);
    assert_int_equal(take(r), 0x26);
    out8(r, M, 0xa0); /* rotate on non-specific EOI: 6 becomes lowest */
    irq_set(r->m, 7, true);
    assert_int_equal(take(r), 0x27);
    out8(r, M, 0xe7); /* rotate on specific EOI */
    assert_int_equal(take(r), 0x21);
}

static void pic_special_mask(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    irq_set(r->m, 3, true);
    assert_int_equal(take(r), 0x23);
    out8(r, M, 0x68);
    out8(r, M + 1, 0x08); /* masking 3 lets lower ones through */
    irq_set(r->m, 6, true);
    assert_int_equal(take(r), 0x26);
    out8(r, M, EOI); /* clears 6, not the masked 3 */
    out8(r, M, 0x0b);
    assert_int_equal(in8(r, M), 0x08);
}

static void pic_without_icw4_or_cascade(void **state)
{
    struct rig *r = *state;
    out8(r, M, 0x12); /* single, no ICW4 */
    out8(r, M + 1, 0x47);
    irq_set(r->m, 12, true);
    irq_set(r->m, 1, true);
    assert_int_equal(take(r), 0x41);
    out8(r, M, EOI);
    assert_int_equal(take(r), -1);
}

/* ---- I/O APIC with local APIC ---- */

static void apic_on(struct rig *r) { apic_put(r, SVR, 0x1ff); }
static void pin(struct rig *r, unsigned n, uint32_t low) { ioapic_put(r, (uint8_t)(0x10 + 2 * n), low); }
static uint32_t pin_get(struct rig *r, unsigned n) { return ioapic_get(r, (uint8_t)(0x10 + 2 * n)); }

static void ioapic_registers(void **state)
{
    struct rig *r = *state;
    assert_int_equal(ioapic_get(r, 1), 0x170020);
    ioapic_put(r, 0, 0xffffffff);
    assert_int_equal(ioapic_get(r, 0), 0x0f000000);
    assert_int_equal(ioapic_get(r, 2), 0x0f000000);
    assert_int_equal(pin_get(r, 23), MASKED);
    pin(r, 3, 0xffffffff);
    assert_int_equal(pin_get(r, 3), 0x1afff);
    ioapic_put(r, 0x17, 0xffffffff);
    assert_int_equal(ioapic_get(r, 0x17), 0xff000000);
    assert_int_equal(ioapic_get(r, 0x40), 0xffffffff); /* no pin 24 */
}

static void ioapic_edge(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    pin(r, 4, 0x45);
    pulse(r, 4); /* latched by the local APIC */
    assert_int_equal(take(r), 0x45);
    pulse(r, 4);
    assert_int_equal(take(r), -1); /* same priority class in service */
    apic_put(r, EOI_REG, 0);
    assert_int_equal(take(r), 0x45);
    apic_put(r, EOI_REG, 0);
    pin(r, 4, MASKED | 0x45);
    irq_set(r->m, 4, true); /* an edge at a masked pin is lost */
    pin(r, 4, 0x45);
    assert_int_equal(take(r), -1);
}

static void ioapic_timer_is_pin_2(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    pin(r, 2, 0x52);
    pin(r, 0, 0x50);
    out8(r, 0x43, 0x30);
    out8(r, 0x40, 10);
    out8(r, 0x40, 0);
    rig_run(r, MS(1));
    assert_int_equal(take(r), 0x52);
    assert_int_equal(take(r), -1);
}

static void ioapic_level_and_eoi(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    pin(r, 9, LEVEL | 0x61);
    irq_set(r->m, 9, true);
    assert_int_equal(pin_get(r, 9), LEVEL | REMOTE_IRR | 0x61);
    assert_int_equal(take(r), 0x61);
    assert_true(apic_get(r, TMR + 0x30) & 2);
    assert_int_equal(take(r), -1);
    apic_put(r, EOI_REG, 0); /* still asserted: again */
    assert_int_equal(take(r), 0x61);
    irq_set(r->m, 9, false);
    apic_put(r, EOI_REG, 0);
    assert_int_equal(pin_get(r, 9), LEVEL | 0x61);
    assert_int_equal(take(r), -1);

    irq_set(r->m, 9, true);
    assert_int_equal(take(r), 0x61);
    pin(r, 9, MASKED | LEVEL | 0x61);
    apic_put(r, EOI_REG, 0);
    assert_int_equal(take(r), -1);
    pin(r, 9, LEVEL | 0x61);
    assert_int_equal(take(r), 0x61);
    mmio_put(r, IOAPIC_BASE + 0x40, 0x61); /* the EOI register does the same */
    assert_true(pin_get(r, 9) & REMOTE_IRR);
    pin(r, 9, 0x61); /* switching to edge clears remote IRR */
    assert_int_equal(pin_get(r, 9), 0x61);
}

static void ioapic_level_waits_for_the_apic(void **state)
{
    struct rig *r = *state;
    pin(r, 9, LEVEL | 0x61);
    irq_set(r->m, 9, true);
    assert_int_equal(pin_get(r, 9), LEVEL | 0x61); /* nobody accepted it */
    apic_on(r);
    assert_int_equal(take(r), 0x61);
}

static void ioapic_destinations(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    pin(r, 4, 0x44);
    ioapic_put(r, 0x19, 5u << 24); /* another CPU */
    pulse(r, 4);
    assert_int_equal(take(r), -1);
    ioapic_put(r, 0x19, 0xffu << 24);
    pulse(r, 4);
    assert_int_equal(take(r), 0x44);
    apic_put(r, EOI_REG, 0);
    pin(r, 4, 0x944); /* logical, lowest priority */
    ioapic_put(r, 0x19, 0x02u << 24);
    apic_put(r, LDR, 0x01u << 24);
    pulse(r, 4);
    assert_int_equal(take(r), -1);
    apic_put(r, LDR, 0x03u << 24);
    pulse(r, 4);
    assert_int_equal(take(r), 0x44);
    apic_put(r, EOI_REG, 0);
    apic_put(r, DFR, 0); /* cluster model: cluster 3, member 1 */
    apic_put(r, LDR, 0x31u << 24);
    ioapic_put(r, 0x19, 0x21u << 24);
    pulse(r, 4);
    assert_int_equal(take(r), -1);
    ioapic_put(r, 0x19, 0x33u << 24);
    pulse(r, 4);
    assert_int_equal(take(r), 0x44);
}

static void ioapic_extint_and_nmi(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    pic_init(r, 1, 0, 0);
    irq_set(r->m, 3, true);
    assert_int_equal(take(r), -1); /* LINT0 is masked */
    pin(r, 0, 0x700);
    assert_int_equal(take(r), 0x23);
    pin(r, 0, MASKED);
    pin(r, 5, 0x400);
    irq_set(r->m, 5, true);
    assert_int_equal(r->m->vcpu.s.nmi_pending, 1);
}

static void lint0_modes(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    irq_set(r->m, 3, true);
    assert_true(r->m->vcpu.intr); /* software-disabled: the 8259 passes */
    apic_on(r);
    assert_false(r->m->vcpu.intr);
    apic_put(r, LVT0, 0x700);
    assert_int_equal(take(r), 0x23);
    out8(r, M, EOI);
    apic_put(r, LVT0, 0x31); /* fixed: the 8259's INT as a vector of ours */
    irq_set(r->m, 4, true);
    assert_int_equal(take(r), 0x31);
    apic_put(r, LVT0, 0x400);
    irq_set(r->m, 4, false);
    irq_set(r->m, 4, true);
    assert_int_equal(r->m->vcpu.s.nmi_pending, 1);
}

static void lint0_level_triggered(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    apic_on(r);
    apic_put(r, LVT0, LEVEL | 0x31);
    irq_set(r->m, 4, true);
    assert_int_equal(apic_get(r, LVT0), LEVEL | REMOTE_IRR | 0x31);
    assert_int_equal(take(r), 0x31);
    apic_put(r, EOI_REG, 0); /* INT is still high */
    assert_int_equal(take(r), 0x31);
    irq_set(r->m, 4, false);
    apic_put(r, EOI_REG, 0);
    assert_int_equal(take(r), -1);
    assert_int_equal(apic_get(r, LVT0), LEVEL | 0x31);
}

/* ---- local APIC ---- */

static void apic_reset_state(void **state)
{
    struct rig *r = *state;
    uint64_t v;
    assert_true(rd(r, MSR_BASE, &v) && v == 0xfee00900);
    assert_true(r->m->vcpu.s.apic_base == v);
    assert_int_equal(apic_get(r, ID), 0);
    assert_int_equal(apic_get(r, VER), 0x50014);
    assert_int_equal(apic_get(r, SVR), 0xff);
    assert_int_equal(apic_get(r, DFR), 0xffffffff);
    for (unsigned off = LVTT; off <= LVTERR; off += 0x10)
        assert_int_equal(apic_get(r, off), MASKED);
    apic_put(r, LVTT, 0x20); /* the mask cannot be cleared while software-disabled */
    assert_int_equal(apic_get(r, LVTT), MASKED | 0x20);
}

static void self_ipi(struct rig *r, uint8_t vector) { apic_put(r, ICR, 0x40000u | vector); }

static void apic_priorities(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    self_ipi(r, 0x31);
    self_ipi(r, 0x35);
    self_ipi(r, 0x82);
    assert_int_equal(apic_get(r, IRR + 0x10), 0x220000);
    assert_int_equal(take(r), 0x82);
    assert_int_equal(apic_get(r, PPR), 0x80);
    assert_int_equal(take(r), -1);
    apic_put(r, TPR, 0x33);
    apic_put(r, EOI_REG, 0);
    assert_int_equal(take(r), -1);
    assert_int_equal(apic_get(r, PPR), 0x33);
    assert_int_equal(lapic_cr8(r->m), 3);
    r->m->vcpu.brk = 0;
    lapic_set_cr8(r->m, 2);
    assert_int_equal(r->m->vcpu.brk, VCPU_BRK_EVENT);
    assert_int_equal(apic_get(r, TPR), 0x20);
    assert_int_equal(take(r), 0x35);
    assert_int_equal(apic_get(r, ISR + 0x10), 0x200000);
    apic_put(r, EOI_REG, 0);
    assert_int_equal(take(r), 0x31);
}

static void apic_ipis_and_errors(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    apic_put(r, ICR, 0x80041); /* all including self */
    assert_int_equal(take(r), 0x41);
    apic_put(r, EOI_REG, 0);
    apic_put(r, ICR, 0xc0041); /* all but self */
    apic_put(r, ICR2, 7u << 24);
    apic_put(r, ICR, 0x41);
    assert_int_equal(take(r), -1);
    apic_put(r, ICR2, 0);
    apic_put(r, ICR, 0x41);
    assert_int_equal(take(r), 0x41);
    apic_put(r, ICR, 0x400); /* NMI */
    assert_int_equal(r->m->vcpu.s.nmi_pending, 1);
    apic_put(r, LVTERR, 0xe1);
    self_ipi(r, 5);
    assert_int_equal(take(r), 0xe1);
    assert_int_equal(apic_get(r, ESR), 0);
    apic_put(r, ESR, 0);
    assert_int_equal(apic_get(r, ESR), 0x20);
    apic_put(r, ESR, 0);
    assert_int_equal(apic_get(r, ESR), 0);
    apic_get(r, 0x40); /* reserved */
    apic_put(r, ESR, 0);
    assert_int_equal(apic_get(r, ESR), 0x80);
    assert_int_equal(r->m->request, REQ_NONE);
    apic_put(r, ICR, 0x8500); /* INIT de-assert: nothing */
    assert_int_equal(r->m->request, REQ_NONE);
    apic_put(r, ICR, 0x4500);
    assert_int_equal(r->m->request, REQ_RESET);
}

static void apic_timer_one_shot(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    apic_put(r, TDCR, 0x3); /* by 16 */
    apic_put(r, LVTT, 0x40);
    apic_put(r, TMICT, 1000);
    rig_run(r, 160);
    assert_int_equal(apic_get(r, TMCCT), 990);
    rig_run(r, 15839);
    assert_int_equal(take(r), -1);
    assert_int_equal(apic_get(r, TMCCT), 1);
    rig_run(r, 1);
    assert_int_equal(take(r), 0x40);
    assert_int_equal(apic_get(r, TMCCT), 0);
    rig_run(r, MS(10));
    assert_int_equal(r->wakeups, 1);
    apic_put(r, TMICT, 1000);
    apic_put(r, TMICT, 0);
    rig_run(r, MS(10));
    assert_int_equal(r->wakeups, 1);
}

static void apic_timer_periodic(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    apic_put(r, TDCR, 0xb); /* by 1 */
    apic_put(r, LVTT, 0x20040);
    apic_put(r, TMICT, 1000);
    uint64_t start = rig_now(r);
    for (int i = 1; i <= 5; i++) {
        rig_run_until(r, start + 1000u * (unsigned)i - 1);
        assert_int_equal(take(r), -1);
        rig_run(r, 1);
        assert_int_equal(apic_get(r, TMCCT), 1000);
        assert_int_equal(take(r), 0x40);
        apic_put(r, EOI_REG, 0);
    }
    apic_put(r, LVTT, MASKED | 0x20040); /* counts on, wakes nobody */
    r->wakeups = 0;
    rig_run(r, 100300);
    assert_int_equal(r->wakeups, 0);
    assert_int_equal(apic_get(r, TMCCT), 700);
    apic_put(r, LVTT, 0x20040);
    rig_run(r, 699);
    assert_int_equal(take(r), -1);
    rig_run(r, 1);
    assert_int_equal(take(r), 0x40);
    apic_put(r, EOI_REG, 0);
    rig_run(r, 500);
    apic_put(r, TDCR, 0); /* by 2 from now on */
    assert_int_equal(apic_get(r, TMCCT), 500);
    rig_run(r, 1000);
    assert_int_equal(take(r), 0x40);
    apic_put(r, EOI_REG, 0);
    apic_put(r, LVTT, 0x40); /* to one-shot in the middle */
    rig_run(r, 2000);
    assert_int_equal(take(r), 0x40);
    assert_int_equal(apic_get(r, TMCCT), 0);
    apic_put(r, EOI_REG, 0);
    apic_put(r, LVTT, 0x20040); /* an expired count does not start again */
    rig_run(r, 10000);
    assert_int_equal(take(r), -1);
}

static void apic_timer_deadline(void **state)
{
    struct rig *r = *state;
    uint64_t v;
    apic_on(r);
    assert_true(wr(r, MSR_DEADLINE, 5000)); /* not in deadline mode: ignored */
    assert_true(rd(r, MSR_DEADLINE, &v) && v == 0);
    apic_put(r, LVTT, 0x40041);
    rig_run_until(r, 1000);
    r->m->clock.deadline_moved = false;
    assert_true(wr(r, MSR_DEADLINE, 5000));
    assert_true(r->m->clock.deadline_moved);
    assert_true(rd(r, MSR_DEADLINE, &v) && v == 5000);
    apic_put(r, TMICT, 77); /* ignored in this mode */
    assert_int_equal(apic_get(r, TMICT), 0);
    rig_run_until(r, 4999);
    assert_int_equal(take(r), -1);
    rig_run_until(r, 5000);
    assert_int_equal(take(r), 0x41);
    apic_put(r, EOI_REG, 0);
    assert_true(rd(r, MSR_DEADLINE, &v) && v == 0);
    assert_true(wr(r, MSR_DEADLINE, 100)); /* past: at once */
    assert_int_equal(take(r), 0x41);
    apic_put(r, EOI_REG, 0);
    assert_true(wr(r, MSR_DEADLINE, 9000));
    r->m->vcpu.s.tsc_adjust = 1000; /* the TSC jumps ahead, and the deadline comes earlier */
    lapic_tsc_moved(r->m);
    rig_run_until(r, 7999);
    assert_int_equal(take(r), -1);
    rig_run_until(r, 8000);
    assert_int_equal(take(r), 0x41);
    apic_put(r, EOI_REG, 0);
    assert_true(wr(r, MSR_DEADLINE, UINT64_MAX)); /* never */
    assert_true(vclock_next_tick(&r->m->clock) == VCLOCK_NEVER);
    assert_true(wr(r, MSR_DEADLINE, 20000));
    apic_put(r, LVTT, 0x41); /* leaving the mode disarms */
    rig_run_until(r, 30000);
    assert_int_equal(take(r), -1);
}

static void apic_received_errors(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    pin(r, 4, 0x05); /* an illegal vector */
    pulse(r, 4);
    apic_put(r, ESR, 0);
    assert_int_equal(apic_get(r, ESR), 0x40);
    assert_int_equal(take(r), -1);
    apic_put(r, 0x40, 0); /* a write to nothing */
    apic_put(r, ESR, 0);
    assert_int_equal(apic_get(r, ESR), 0x80);
}

static void apic_software_disable_masks(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    apic_put(r, LVTT, 0x20040);
    apic_put(r, TMICT, 1000);
    self_ipi(r, 0x55);
    apic_put(r, SVR, 0xff);
    assert_int_equal(apic_get(r, LVTT), MASKED | 0x20040);
    rig_run(r, 5000);
    assert_int_equal(r->wakeups, 0);
    assert_int_equal(take(r), 0x55); /* what was accepted is held */
    self_ipi(r, 0x56);
    assert_int_equal(take(r), -1); /* nothing new is */
    apic_on(r);
    assert_int_equal(apic_get(r, LVTT), MASKED | 0x20040);
}

/* A timer that is due happens before the access that finds it due, whoever looks first. */
static void apic_timer_due_before_the_access(void **state)
{
    struct rig *r = *state;
    apic_on(r);
    apic_put(r, TDCR, 0xb);
    apic_put(r, LVTT, 0x40);
    apic_put(r, TMICT, 1000);
    r->m->clock.now_ticks += 1000;
    apic_put(r, LVTT, MASKED | 0x40);
    assert_int_equal(take(r), 0x40);
    vclock_run_timers(&r->m->clock);
    apic_put(r, EOI_REG, 0);
    assert_int_equal(take(r), -1);
}

static void apic_base_transitions(void **state)
{
    struct rig *r = *state;
    uint64_t v;
    assert_false(wr(r, MSR_BASE, 0xfee00400)); /* x2APIC without enable */
    assert_false(wr(r, MSR_BASE, 0xfed00900)); /* moving */
    assert_false(wr(r, MSR_BASE, 0xfee00901)); /* reserved bits */
    assert_false(wr(r, MSR_BASE, 1ull << 50 | 0xfee00900));
    assert_false(rd(r, 0x802, &v)); /* not in x2APIC mode */
    apic_on(r);
    apic_put(r, TPR, 0x10);
    assert_true(wr(r, MSR_BASE, 0xfee00d00));
    assert_true(r->m->vcpu.s.apic_base == 0xfee00d00);
    assert_int_equal(mmio_get(r, LAPIC_BASE + VER), 0xffffffff); /* the window is gone */
    assert_true(rd(r, 0x803, &v) && v == 0x50014);
    assert_true(rd(r, 0x808, &v) && v == 0x10);
    assert_true(rd(r, 0x80d, &v) && v == 1);
    assert_false(wr(r, MSR_BASE, 0xfee00900)); /* x2APIC to xAPIC */
    assert_true(wr(r, MSR_BASE, 0xfee00100));
    assert_false(rd(r, 0x803, &v));
    assert_false(wr(r, MSR_BASE, 0xfee00d00)); /* disabled to x2APIC */
    assert_true(wr(r, MSR_BASE, 0xfee00900));
    assert_int_equal(apic_get(r, SVR), 0xff); /* reset on the way */
    assert_int_equal(apic_get(r, TPR), 0);
}

static void x2apic_registers(void **state)
{
    struct rig *r = *state;
    uint64_t v;
    assert_true(wr(r, MSR_BASE, 0xfee00d00));
    assert_true(wr(r, 0x80f, 0x1ff));
    assert_false(wr(r, 0x808, 0x100)); /* reserved bit */
    assert_false(wr(r, 0x802, 0));     /* read-only */
    assert_false(rd(r, 0x80b, &v));    /* write-only */
    assert_false(rd(r, 0x80e, &v));    /* no DFR */
    assert_false(rd(r, 0x831, &v));
    assert_false(rd(r, 0x840, &v));
    assert_false(wr(r, 0x80b, 1));
    assert_true(wr(r, 0x83f, 0x91)); /* self IPI */
    assert_int_equal(take(r), 0x91);
    assert_true(wr(r, 0x80b, 0));
    assert_true(wr(r, 0x830, 0x00000001000008a2)); /* logical: cluster 0, member 0... bit 32 is member 0 */
    assert_true(rd(r, 0x830, &v) && v == 0x00000001000008a2);
    assert_int_equal(take(r), 0xa2);
    assert_true(wr(r, 0x80b, 0));
    assert_true(wr(r, 0x830, 0x00010001000008a2)); /* another cluster */
    assert_true(wr(r, 0x830, 0x00000000000000a3)); /* physical 0 */
    assert_int_equal(take(r), 0xa3);
    assert_true(wr(r, 0x80b, 0));
    assert_true(wr(r, 0x830, 0xffffffff000000a4)); /* broadcast */
    assert_int_equal(take(r), 0xa4);
    assert_true(wr(r, 0x838, 500));
    assert_true(rd(r, 0x839, &v) && v == 500);
}

static void disabled_apic_lets_the_8259_through(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0, 0);
    apic_on(r);
    self_ipi(r, 0x55);
    irq_set(r->m, 1, true);
    assert_true(wr(r, MSR_BASE, 0xfee00100));
    assert_int_equal(take(r), 0x21);
    assert_int_equal(take(r), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(pic_is_masked_at_reset), RIG_TEST(pic_priorities_and_nesting), RIG_TEST(pic_cascade),
        RIG_TEST(pic_special_fully_nested), RIG_TEST(pic_edge_requests_follow_the_line),
        RIG_TEST(pic_level_requests_repeat), RIG_TEST(pic_spurious), RIG_TEST(pic_poll),
        RIG_TEST(pic_auto_eoi_and_rotation),
        RIG_TEST(pic_rotate_and_set_priority), RIG_TEST(pic_special_mask), RIG_TEST(pic_without_icw4_or_cascade),
        RIG_TEST(ioapic_registers), RIG_TEST(ioapic_edge), RIG_TEST(ioapic_timer_is_pin_2),
        RIG_TEST(ioapic_level_and_eoi), RIG_TEST(ioapic_level_waits_for_the_apic), RIG_TEST(ioapic_destinations),
        RIG_TEST(ioapic_extint_and_nmi), RIG_TEST(lint0_modes), RIG_TEST(lint0_level_triggered),
        RIG_TEST(apic_reset_state), RIG_TEST(apic_priorities),
        RIG_TEST(apic_ipis_and_errors), RIG_TEST(apic_timer_one_shot), RIG_TEST(apic_timer_periodic),
        RIG_TEST(apic_timer_deadline), RIG_TEST(apic_received_errors),
        RIG_TEST(apic_software_disable_masks), RIG_TEST(apic_timer_due_before_the_access),
        RIG_TEST(apic_base_transitions), RIG_TEST(x2apic_registers),
        RIG_TEST(disabled_apic_lets_the_8259_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
