/* tests/unit/timers.c: 8254, MC146818 and the ACPI timer against their data sheets, and how rarely they wake us. */
#include "tests/unit/board_rig.h"

enum { CH0 = 0x40, CH2 = 0x42, CTL = 0x43, P61 = 0x61 };

/* The first virtual ns of PIT clock n. */
static uint64_t clk(uint64_t n) { return (n * NS_PER_S + PIT_HZ - 1) / PIT_HZ; }
/* Run to `n` PIT clocks after clock `base`. */
static void to_clk(struct rig *r, uint64_t n) { rig_run_until(r, clk(n)); }

static void pit_program(struct rig *r, unsigned ch, unsigned mode, uint16_t count)
{
    out8(r, CTL, (uint8_t)(ch << 6 | 3 << 4 | mode << 1));
    out8(r, (uint16_t)(CH0 + ch), (uint8_t)count);
    out8(r, (uint16_t)(CH0 + ch), (uint8_t)(count >> 8));
}

static uint16_t pit_count(struct rig *r, unsigned ch)
{
    out8(r, CTL, (uint8_t)(ch << 6));
    uint16_t v = in8(r, (uint16_t)(CH0 + ch));
    return (uint16_t)(v | in8(r, (uint16_t)(CH0 + ch)) << 8);
}

static bool out2(struct rig *r) { return in8(r, P61) >> 5 & 1; }
static bool irq0(struct rig *r)
{
    bool taken = take(r) == 0x20;
    if (taken)
        out8(r, 0x20, 0x20);
    return taken;
}

/* Channel 2's output over the clocks [from, to], as a string of 0 and 1; counts in `counts` when not NULL. */
static void trace(struct rig *r, uint64_t from, unsigned n, char *outs, uint16_t *counts)
{
    for (unsigned i = 0; i < n; i++) {
        to_clk(r, from + i);
        outs[i] = out2(r) ? '1' : '0';
        if (counts)
            counts[i] = pit_count(r, 2);
    }
    outs[n] = 0;
}

static void pit_mode_0(void **state)
{
    struct rig *r = *state;
    char o[32];
    uint16_t c[32];
    out8(r, P61, 1);
    to_clk(r, 100);
    pit_program(r, 2, 0, 4); /* loaded at clock 101 */
    trace(r, 101, 7, o, c);
    assert_string_equal(o, "0000111"); /* N + 1 clocks after the write */
    assert_int_equal(c[0], 4);
    assert_int_equal(c[4], 0);
    assert_int_equal(c[5], 0xffff);
    to_clk(r, 200);
    pit_program(r, 2, 0, 4);
    to_clk(r, 202);
    out8(r, P61, 0); /* the gate stops the count at 3 */
    to_clk(r, 300);
    assert_int_equal(pit_count(r, 2), 3);
    assert_false(out2(r));
    out8(r, P61, 1);
    to_clk(r, 302);
    assert_false(out2(r));
    to_clk(r, 303);
    assert_true(out2(r));
}

static void pit_mode_1(void **state)
{
    struct rig *r = *state;
    char o[32];
    to_clk(r, 100);
    pit_program(r, 2, 1, 3);
    assert_true(out2(r));
    to_clk(r, 110);
    out8(r, P61, 1); /* trigger: low for 3 clocks from 111 */
    trace(r, 110, 7, o, NULL);
    assert_string_equal(o, "1000111");
    out8(r, P61, 0);
    to_clk(r, 120);
    out8(r, P61, 1);
    to_clk(r, 122);
    out8(r, P61, 0);
    out8(r, P61, 1); /* retriggered */
    trace(r, 123, 5, o, NULL);
    assert_string_equal(o, "00011");
}

static void pit_mode_2(void **state)
{
    struct rig *r = *state;
    char o[32];
    uint16_t c[32];
    out8(r, P61, 1);
    to_clk(r, 100);
    pit_program(r, 2, 2, 4);
    trace(r, 101, 9, o, c);
    assert_string_equal(o, "111011101");
    for (int i = 0; i < 9; i++)
        assert_int_equal(c[i], 4 - i % 4);
    pit_count(r, 2);
    out8(r, CH2, 3); /* a new count waits for the end of the cycle, at 113 */
    out8(r, CH2, 0);
    trace(r, 110, 9, o, NULL);
    assert_string_equal(o, "110110110");
    out8(r, P61, 0);
    assert_true(out2(r));
    to_clk(r, 150);
    out8(r, P61, 1);
    trace(r, 151, 4, o, NULL);
    assert_string_equal(o, "1101");
}

static void pit_mode_3(void **state)
{
    struct rig *r = *state;
    char o[32];
    uint16_t c[32];
    out8(r, P61, 1);
    to_clk(r, 100);
    pit_program(r, 2, 3, 6);
    trace(r, 101, 12, o, c);
    assert_string_equal(o, "111000111000");
    static const uint16_t even[] = {6, 4, 2, 6, 4, 2};
    for (int i = 0; i < 12; i++)
        assert_int_equal(c[i], even[i % 6]);
    to_clk(r, 200);
    pit_program(r, 2, 7, 5); /* mode 7 is mode 3 */
    trace(r, 201, 10, o, c);
    assert_string_equal(o, "1110011100");
    static const uint16_t odd[] = {4, 2, 0, 4, 2};
    for (int i = 0; i < 10; i++)
        assert_int_equal(c[i], odd[i % 5]);
    out8(r, CH2, 4); /* taken over at the end of this half cycle, at 211 */
    out8(r, CH2, 0);
    trace(r, 211, 8, o, NULL);
    assert_string_equal(o, "11001100");
    out8(r, CH2, 10); /* at 218, in the low half that ends at 219 */
    out8(r, CH2, 0);
    trace(r, 219, 10, o, NULL);
    assert_string_equal(o, "1111100000");
    to_clk(r, 230);
    out8(r, CH2, 4); /* in the high half that ends at 234: the low half has the new length */
    out8(r, CH2, 0);
    trace(r, 231, 10, o, NULL);
    assert_string_equal(o, "1110011001");
}

static void pit_modes_4_and_5(void **state)
{
    struct rig *r = *state;
    char o[32];
    out8(r, P61, 1);
    to_clk(r, 100);
    pit_program(r, 2, 4, 3);
    trace(r, 101, 6, o, NULL);
    assert_string_equal(o, "111011");
    to_clk(r, 200);
    pit_program(r, 2, 5, 3);
    trace(r, 201, 6, o, NULL);
    assert_string_equal(o, "111111");
    out8(r, P61, 0);
    out8(r, P61, 1);
    trace(r, 207, 6, o, NULL);
    assert_string_equal(o, "111011");
}

static void pit_bcd_and_access_modes(void **state)
{
    struct rig *r = *state;
    out8(r, P61, 1);
    to_clk(r, 100);
    out8(r, CTL, 0xb5); /* channel 2, both bytes, mode 2, BCD */
    out8(r, CH2, 0x00);
    out8(r, CH2, 0x10); /* 1000 */
    to_clk(r, 102);
    assert_int_equal(pit_count(r, 2), 0x0999);
    out8(r, CTL, 0x94); /* low byte only */
    out8(r, CH2, 0x20);
    to_clk(r, 104);
    assert_int_equal(in8(r, CH2), 0x1f);
    out8(r, CTL, 0xa4); /* high byte only: 0x2000 */
    out8(r, CH2, 0x20);
    to_clk(r, 106);
    assert_int_equal(in8(r, CH2), 0x1f);
}

static void pit_latch_and_read_back(void **state)
{
    struct rig *r = *state;
    out8(r, P61, 1);
    to_clk(r, 100);
    pit_program(r, 2, 2, 0x1234);
    out8(r, CTL, 0xe8); /* status before the count was loaded */
    assert_int_equal(in8(r, CH2), 0xf4);
    to_clk(r, 101);
    out8(r, CTL, 0x80);
    to_clk(r, 120);
    out8(r, CTL, 0x80); /* the first latch holds */
    assert_int_equal(in8(r, CH2), 0x34);
    assert_int_equal(in8(r, CH2), 0x12);
    out8(r, CTL, 0xc8); /* status and count */
    assert_int_equal(in8(r, CH2), 0xb4);
    assert_int_equal(in8(r, CH2), 0x21);
    assert_int_equal(in8(r, CH2), 0x12);
    assert_int_equal(in8(r, CTL), 0xff);
}

static void pit_port_61(void **state)
{
    struct rig *r = *state;
    unsigned toggles = 0;
    for (int i = 0, last = 0; i < 1000; i++, rig_run(r, US(1))) {
        int bit4 = in8(r, P61) >> 4 & 1;
        toggles += bit4 != last;
        last = bit4;
    }
    assert_in_range(toggles, 65, 67); /* 15.085 us apart */
    out8(r, P61, 0xff);
    assert_int_equal(in8(r, P61) & 0xcf, 0x0f);
}

static void pit_interrupts(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfe, 0xff);
    pit_program(r, 0, 2, 11932); /* 100 Hz */
    irq0(r);
    r->wakeups = 0;
    unsigned ticks = 0;
    for (int i = 0; i < 1000000; i++, rig_run(r, US(1)))
        ticks += irq0(r);
    assert_in_range(ticks, 99, 100);
    assert_in_range(r->wakeups, 99, 100); /* one wakeup a tick */
}

static void pit_interrupts_with_automatic_eoi(void **state)
{
    struct rig *r = *state;
    pic_init(r, 3, 0xfe, 0xff);
    pit_program(r, 0, 3, 11932);
    take(r);
    r->wakeups = 0;
    unsigned ticks = 0;
    for (int i = 0; i < 100000; i++, rig_run(r, US(10)))
        ticks += take(r) == 0x20;
    assert_in_range(ticks, 99, 100);
    assert_in_range(r->wakeups, 99, 100);
}

static void pit_masked_costs_nothing(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xff, 0xff);
    pit_program(r, 0, 2, 100);
    r->wakeups = 0;
    rig_run(r, 10 * NS_PER_S);
    assert_int_equal(r->wakeups, 0);
    out8(r, 0x20, 0x0a);
    assert_int_equal(in8(r, 0x20) & 1, 1); /* but the request shows */
    out8(r, 0x21, 0xfe);
    assert_true(irq0(r));
    assert_false(irq0(r));
    rig_run(r, clk(101));
    assert_true(irq0(r));
}

/* Whether the request is looked at or not, an unacknowledged tick goes with the output. */
static void pit_request_falls_with_the_output(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfe, 0xff);
    to_clk(r, 100);
    pit_program(r, 0, 3, 1000); /* from 101: high until 601 */
    take(r);
    out8(r, 0x20, 0x20);
    to_clk(r, 1101); /* the next rising edge */
    assert_true(r->m->vcpu.intr);
    to_clk(r, 1600);
    assert_true(r->m->vcpu.intr);
    to_clk(r, 1601);
    assert_false(r->m->vcpu.intr);
    to_clk(r, 2101);
    assert_true(irq0(r));
}

static void pit_one_shot_fires_once(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfe, 0xff);
    pit_program(r, 0, 0, 1193);
    irq0(r);
    r->wakeups = 0;
    rig_run(r, US(999));
    assert_false(irq0(r));
    rig_run(r, US(3));
    assert_true(irq0(r));
    rig_run(r, NS_PER_S);
    assert_false(irq0(r));
    assert_int_equal(r->wakeups, 1);
}

/* ---- RTC ---- */

static uint8_t rtc_get(struct rig *r, uint8_t reg)
{
    out8(r, 0x70, reg);
    return in8(r, 0x71);
}

static void rtc_put(struct rig *r, uint8_t reg, uint8_t v)
{
    out8(r, 0x70, reg);
    out8(r, 0x71, v);
}

static bool irq8(struct rig *r)
{
    bool taken = take(r) == 0x28;
    if (taken) {
        out8(r, 0xa0, 0x20);
        out8(r, 0x20, 0x20);
    }
    return taken;
}

static void expect_time(struct rig *r, const uint8_t t[8]) /* s m h weekday d m y century */
{
    static const uint8_t regs[8] = {0, 2, 4, 6, 7, 8, 9, 0x32};
    for (int i = 0; i < 8; i++)
        assert_int_equal(rtc_get(r, regs[i]), t[i]);
}

static void rtc_formats(void **state)
{
    struct rig *r = *state;
    expect_time(r, (uint8_t[]){0x20, 0x13, 0x22, 0x03, 0x14, 0x11, 0x23, 0x20});
    rtc_put(r, 11, 0x06); /* binary */
    expect_time(r, (uint8_t[]){20, 13, 22, 3, 14, 11, 23, 0x20});
    rtc_put(r, 11, 0x04); /* 12 hours */
    expect_time(r, (uint8_t[]){20, 13, 10 | 0x80, 3, 14, 11, 23, 0x20});
    rtc_put(r, 11, 0x00);
    rig_run(r, 2 * 3600 * NS_PER_S);
    expect_time(r, (uint8_t[]){0x20, 0x13, 0x12, 0x04, 0x15, 0x11, 0x23, 0x20}); /* 00:13 is 12 AM */
    assert_int_equal(rtc_get(r, 13), 0x80);
    assert_int_equal(in8(r, 0x70), 0xff);
}

static void rtc_setting(void **state)
{
    struct rig *r = *state;
    rtc_put(r, 11, 0x82);
    rig_run(r, 5 * NS_PER_S); /* held */
    assert_int_equal(rtc_get(r, 0), 0x20);
    static const uint8_t v[][2] = {{0, 0x58}, {2, 0x59}, {4, 0x23}, {7, 0x28}, {8, 0x02}, {9, 0x00}, {0x32, 0x20}};
    for (unsigned i = 0; i < ARRAY_LEN(v); i++)
        rtc_put(r, v[i][0], v[i][1]);
    rtc_put(r, 11, 0x02);
    expect_time(r, (uint8_t[]){0x58, 0x59, 0x23, 0x02, 0x28, 0x02, 0x00, 0x20}); /* 2000-02-28 was a Monday */
    rig_run(r, 2 * NS_PER_S);
    expect_time(r, (uint8_t[]){0x00, 0x00, 0x00, 0x03, 0x29, 0x02, 0x00, 0x20}); /* a leap year */
    rtc_put(r, 2, 0x30); /* without SET */
    assert_int_equal(rtc_get(r, 2), 0x30);
    rtc_put(r, 8, 0xff); /* nonsense is forced into range */
    assert_int_equal(rtc_get(r, 8), 0x12);
}

static void rtc_divider_reset(void **state)
{
    struct rig *r = *state;
    rig_run(r, MS(300));
    rtc_put(r, 10, 0x66); /* hold */
    rig_run(r, MS(5000));
    assert_int_equal(rtc_get(r, 0), 0x20);
    rtc_put(r, 10, 0x26); /* the first update comes after half a second */
    rig_run(r, MS(499));
    assert_int_equal(rtc_get(r, 0), 0x20);
    rig_run(r, MS(1));
    assert_int_equal(rtc_get(r, 0), 0x21);
}

static void rtc_update_in_progress(void **state)
{
    struct rig *r = *state;
    unsigned set = 0;
    for (int i = 0; i < 100000; i++, rig_run(r, US(10)))
        set += rtc_get(r, 10) >> 7;
    assert_in_range(set, 24, 25); /* 244 us each second */
    rig_run_until(r, NS_PER_S * 3 - 1);
    assert_int_equal(rtc_get(r, 10), 0xa6);
    uint8_t before = rtc_get(r, 0);
    rig_run(r, 1);
    assert_int_equal(rtc_get(r, 10), 0x26);
    assert_int_not_equal(rtc_get(r, 0), before);
}

static void rtc_update_interrupt(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfb, 0xfe);
    rtc_put(r, 11, 0x12);
    rig_run_until(r, NS_PER_S - 1);
    assert_false(irq8(r));
    rig_run(r, 1);
    assert_true(irq8(r));
    rig_run(r, 10 * NS_PER_S); /* not acknowledged: no further wakeups */
    assert_int_equal(r->wakeups, 1);
    assert_int_equal(rtc_get(r, 12), 0xd0); /* IRQF PF UF */
    assert_int_equal(rtc_get(r, 12), 0x00);
    rig_run(r, NS_PER_S);
    assert_true(irq8(r));
    rtc_put(r, 11, 0x92); /* SET clears the enable */
    assert_int_equal(rtc_get(r, 11), 0x82);
}

static void rtc_alarm(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfb, 0xfe);
    rtc_put(r, 1, 0x05);
    rtc_put(r, 3, 0x15);
    rtc_put(r, 5, 0x22);
    rtc_put(r, 11, 0x22); /* 22:15:05; now 22:13:20 */
    rig_run_until(r, 105 * NS_PER_S - 1);
    assert_false(irq8(r));
    rig_run(r, 1);
    assert_true(irq8(r));
    assert_int_equal(rtc_get(r, 12) & 0xa0, 0xa0);
    rig_run(r, 86399 * NS_PER_S);
    assert_false(irq8(r));
    rig_run(r, NS_PER_S); /* tomorrow again */
    assert_true(irq8(r));
    assert_int_equal(r->wakeups, 2);
    rtc_get(r, 12);
    rtc_put(r, 3, 0xff);
    rtc_put(r, 5, 0xc0); /* any hour, any minute */
    for (int i = 0; i < 3; i++) {
        rig_run(r, 60 * NS_PER_S);
        assert_true(irq8(r));
        rtc_get(r, 12);
    }
    rtc_put(r, 1, 0x70); /* no such second */
    rig_run(r, 200000 * NS_PER_S);
    assert_false(irq8(r));
    rtc_put(r, 11, 0x02);
    rtc_put(r, 1, 0xff);
    rig_run(r, 2 * NS_PER_S);
    assert_int_equal(rtc_get(r, 12) & 0xa0, 0x20); /* flags come without being enabled */
}

static void rtc_periodic(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xfb, 0xfe);
    rtc_put(r, 10, 0x26); /* 1024 Hz */
    rtc_put(r, 11, 0x42);
    r->wakeups = 0;
    unsigned n = 0;
    for (int i = 0; i < 10000; i++, rig_run(r, US(100))) {
        if (irq8(r)) {
            n++;
            assert_true(rtc_get(r, 12) & 0x40);
        }
    }
    assert_in_range(n, 1023, 1024);
    assert_in_range(r->wakeups, 1023, 1024);
    rtc_put(r, 11, 0x02);
    r->wakeups = 0;
    rig_run(r, NS_PER_S);
    assert_int_equal(r->wakeups, 0);
}

static void cmos_memory(void **state)
{
    struct rig *r = *state; /* 64 MiB */
    assert_int_equal(rtc_get(r, 0x15) | rtc_get(r, 0x16) << 8, 640);
    assert_int_equal(rtc_get(r, 0x30) | rtc_get(r, 0x31) << 8, 63 * 1024);
    assert_int_equal(rtc_get(r, 0x34) | rtc_get(r, 0x35) << 8, 48 * 16);
    assert_int_equal(rtc_get(r, 0x5b), 0);
    rtc_put(r, 0x0f, 0x0a);
    assert_int_equal(rtc_get(r, 0x8f), 0x0a); /* bit 7 is the NMI mask */
}

/* ---- ACPI ---- */

static void pm_timer(void **state)
{
    struct rig *r = *state;
    assert_int_equal(in_n(r, PM_TMR_PORT, 4), 0);
    rig_run(r, NS_PER_S);
    assert_int_equal(in_n(r, PM_TMR_PORT, 4), PM_TMR_HZ);
    assert_int_equal(in_n(r, PM_TMR_PORT + 1, 2), (PM_TMR_HZ >> 8) & 0xffff);
    rig_run_until(r, 1200 * NS_PER_S);
    assert_int_equal(in_n(r, PM_TMR_PORT, 4), UINT64_C(1200) * PM_TMR_HZ & UINT32_MAX);
    out_n(r, PM_TMR_PORT, 4, 0);
    assert_int_equal(in_n(r, PM_TMR_PORT, 4), UINT64_C(1200) * PM_TMR_HZ & UINT32_MAX);
}

static void pm_timer_overflow(void **state)
{
    struct rig *r = *state;
    uint64_t half = ((UINT64_C(1) << 31) * NS_PER_S + PM_TMR_HZ - 1) / PM_TMR_HZ;
    pic_init(r, 1, 0xfb, 0xfd);
    rig_run_until(r, half - 1);
    assert_int_equal(in_n(r, PM1A_EVT_PORT, 2), 0);
    rig_run(r, 1);
    assert_int_equal(in_n(r, PM1A_EVT_PORT, 2), 1);
    assert_int_equal(r->wakeups, 0);
    out_n(r, PM1A_EVT_PORT + 2, 2, 1);
    assert_int_equal(take(r), 0x29);
    out_n(r, PM1A_EVT_PORT, 2, 1);
    out8(r, 0xa0, 0x20);
    out8(r, 0x20, 0x20);
    rig_run_until(r, 2 * half - 2);
    assert_int_equal(take(r), -1);
    rig_run(r, 2);
    assert_int_equal(take(r), 0x29);
    assert_int_equal(in_n(r, PM1A_EVT_PORT, 4), 0x10001);
}

static void pm_control(void **state)
{
    struct rig *r = *state;
    assert_int_equal(in_n(r, PM1A_CNT_PORT, 2), 1); /* always in ACPI mode */
    out_n(r, PM1A_CNT_PORT, 2, 0x2000 | 3 << 10);
    assert_int_equal(r->m->request, REQ_NONE);
    out_n(r, PM1A_CNT_PORT, 2, PM_SLP_TYP_S5 << 10);
    assert_int_equal(in_n(r, PM1A_CNT_PORT, 2), PM_SLP_TYP_S5 << 10 | 1);
    assert_int_equal(r->m->request, REQ_NONE);
    r->m->vcpu.brk = 0;
    out_n(r, PM1A_CNT_PORT, 2, 0x2000 | PM_SLP_TYP_S5 << 10);
    assert_int_equal(r->m->request, REQ_POWEROFF);
    assert_int_equal(r->m->vcpu.brk, VCPU_BRK_EVENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(pit_mode_0), RIG_TEST(pit_mode_1), RIG_TEST(pit_mode_2), RIG_TEST(pit_mode_3),
        RIG_TEST(pit_modes_4_and_5), RIG_TEST(pit_bcd_and_access_modes), RIG_TEST(pit_latch_and_read_back),
        RIG_TEST(pit_port_61), RIG_TEST(pit_interrupts), RIG_TEST(pit_interrupts_with_automatic_eoi),
        RIG_TEST(pit_masked_costs_nothing),
        RIG_TEST(pit_request_falls_with_the_output), RIG_TEST(pit_one_shot_fires_once), RIG_TEST(rtc_formats),
        RIG_TEST(rtc_setting), RIG_TEST(rtc_divider_reset), RIG_TEST(rtc_update_in_progress),
        RIG_TEST(rtc_update_interrupt), RIG_TEST(rtc_alarm), RIG_TEST(rtc_periodic), RIG_TEST(cmos_memory),
        RIG_TEST(pm_timer), RIG_TEST(pm_timer_overflow), RIG_TEST(pm_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
