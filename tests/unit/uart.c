/* tests/unit/uart.c: 16550A registers, FIFO, interrupt identification, typed input. */
#include "tests/unit/board_rig.h"

enum { COM1 = COM1_PORT, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

static uint8_t get(struct rig *r, unsigned reg) { return in8(r, (uint16_t)(COM1 + reg)); }
static void put(struct rig *r, unsigned reg, uint8_t v) { out8(r, (uint16_t)(COM1 + reg), v); }
static void type(struct rig *r, const char *s) { machine_console_input(r->m, 0, (const uint8_t *)s, strlen(s)); }

static bool irq(struct rig *r, unsigned line)
{
    bool taken = take(r) == (int)(0x20 + line);
    if (taken)
        out8(r, 0x20, 0x20);
    return taken;
}

static void output_goes_out(void **state)
{
    struct rig *r = *state;
    put(r, 0, 'h');
    assert_int_equal(get(r, LSR), 0x60);
    put(r, 0, 'i');
    out8(r, COM3_PORT, '3');
    assert_int_equal(r->out_len, 3);
    assert_int_equal(r->out[1].byte, 'i');
    assert_int_equal(r->out[1].stream, ND_OUT_CONSOLE);
    assert_int_equal(r->out[1].channel, 0);
    assert_int_equal(r->out[2].channel, 2);
}

static void divisor_and_scratch(void **state)
{
    struct rig *r = *state;
    put(r, LCR, 0x83);
    put(r, 0, 0x34);
    put(r, 1, 0x12);
    assert_int_equal(get(r, 0), 0x34);
    assert_int_equal(get(r, 1), 0x12);
    put(r, LCR, 0x03);
    assert_int_equal(get(r, IER), 0);
    assert_int_equal(r->out_len, 0);
    put(r, SCR, 0x5a);
    assert_int_equal(get(r, SCR), 0x5a);
    put(r, IER, 0xff);
    assert_int_equal(get(r, IER), 0x0f);
}

static void thre_interrupt(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xef, 0xff);
    assert_int_equal(get(r, IIR), 1);
    put(r, IER, 2); /* the register is empty: at once */
    assert_true(irq(r, 4));
    assert_int_equal(get(r, IIR), 2); /* reading it as the source clears it */
    assert_int_equal(get(r, IIR), 1);
    put(r, 0, 'x');
    assert_true(irq(r, 4));
    put(r, IER, 0);
    assert_int_equal(get(r, IIR), 1);
    put(r, IER, 2);
    assert_int_equal(get(r, IIR), 2);
}

static void receive_without_fifo(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xef, 0xff);
    put(r, IER, 1);
    type(r, "ab");
    assert_true(irq(r, 4));
    assert_int_equal(get(r, IIR), 4);
    assert_int_equal(get(r, LSR), 0x61);
    assert_int_equal(get(r, 0), 'a');
    assert_int_equal(get(r, LSR), 0x61); /* the next one was waiting */
    assert_int_equal(get(r, 0), 'b');
    assert_int_equal(get(r, LSR), 0x60);
    assert_int_equal(get(r, IIR), 1);
}

static void trigger_level_and_timeout(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xef, 0xff);
    put(r, FCR, 0x81); /* trigger at 8 */
    put(r, IER, 1);
    assert_int_equal(get(r, IIR), 0xc1);
    type(r, "1234567");
    assert_false(irq(r, 4));
    rig_run(r, US(347)); /* four characters of ten bits at 115200 baud: 347.2 us */
    assert_false(irq(r, 4));
    rig_run(r, US(1));
    assert_true(irq(r, 4));
    assert_int_equal(get(r, IIR), 0xcc);
    assert_int_equal(get(r, 0), '1'); /* reading restarts the time-out */
    assert_int_equal(get(r, IIR), 0xc1);
    type(r, "8");
    assert_false(irq(r, 4));
    type(r, "9");
    assert_true(irq(r, 4));
    assert_int_equal(get(r, IIR), 0xc4);
    get(r, 0);
    assert_int_equal(get(r, IIR), 0xc1);
    rig_run(r, MS(1));
    assert_true(irq(r, 4));
    put(r, FCR, 0x83); /* clear */
    assert_int_equal(get(r, LSR), 0x60);
    rig_run(r, NS_PER_S);
    assert_int_equal(r->wakeups, 2);
}

static void paste_is_not_lost(void **state)
{
    struct rig *r = *state;
    uint8_t big[5000];
    for (unsigned i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 7);
    put(r, FCR, 1);
    machine_console_input(r->m, 0, big, 1000);
    machine_console_input(r->m, 0, big + 1000, 3000);
    unsigned n = 0;
    for (; get(r, LSR) & 1; n++) {
        assert_false(get(r, LSR) & 2);
        assert_int_equal(get(r, 0), big[n]);
    }
    assert_int_equal(n, 4000);
    machine_console_input(r->m, 0, big, sizeof(big)); /* more than the buffer holds */
    for (n = 0; get(r, LSR) & 1; n++)
        assert_int_equal(get(r, 0), big[n]);
    assert_in_range(n, 4096, 4112);
    machine_console_input(r->m, 9, big, 1); /* no such port */
}

static void loopback_and_modem(void **state)
{
    struct rig *r = *state;
    assert_int_equal(get(r, MSR), 0xb0);
    put(r, MCR, 0x10);
    assert_int_equal(get(r, MSR), 0x0b); /* CTS, DSR and DCD went low */
    put(r, MCR, 0x1f);
    assert_int_equal(get(r, MSR), 0xfb);
    assert_int_equal(get(r, MSR), 0xf0);
    put(r, MCR, 0x1b);
    assert_int_equal(get(r, MSR), 0xb4); /* trailing edge of RI */
    put(r, 0, 'L');
    assert_int_equal(r->out_len, 0);
    put(r, 0, 'M'); /* one-byte receiver: overrun */
    assert_int_equal(get(r, LSR), 0x63);
    assert_int_equal(get(r, LSR), 0x61);
    assert_int_equal(get(r, 0), 'L');
    type(r, "t"); /* the pin is disconnected ... */
    assert_int_equal(get(r, LSR), 0x60);
    put(r, MCR, 0x0b); /* ... until loopback ends */
    assert_int_equal(get(r, LSR), 0x61);
    put(r, IER, 8);
    assert_int_equal(get(r, IIR), 1);
    put(r, MCR, 0x10);
    assert_int_equal(get(r, IIR), 0);
    get(r, MSR);
    assert_int_equal(get(r, IIR), 1);
}

static void interrupt_priorities(void **state)
{
    struct rig *r = *state;
    put(r, MCR, 0x10);
    put(r, IER, 0x0f);
    put(r, 0, 'a');
    put(r, 0, 'b');
    assert_int_equal(get(r, IIR), 6);
    get(r, LSR);
    assert_int_equal(get(r, IIR), 4);
    get(r, 0);
    assert_int_equal(get(r, IIR), 2);
    assert_int_equal(get(r, IIR), 0);
    get(r, MSR);
    assert_int_equal(get(r, IIR), 1);
}

static void ports_share_lines(void **state)
{
    struct rig *r = *state;
    pic_init(r, 1, 0xe7, 0xff);
    out8(r, COM3_PORT + IER, 2);
    assert_true(irq(r, 4));
    put(r, IER, 2);
    in8(r, COM3_PORT + IIR);
    out8(r, COM3_PORT + IER, 0);
    out8(r, 0x20, 0x0a);
    assert_int_equal(in8(r, 0x20) & 0x10, 0); /* still high: no new edge */
    get(r, IIR);
    out8(r, COM2_PORT + IER, 2);
    assert_true(irq(r, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RIG_TEST(output_goes_out), RIG_TEST(divisor_and_scratch), RIG_TEST(thre_interrupt),
        RIG_TEST(receive_without_fifo), RIG_TEST(trigger_level_and_timeout), RIG_TEST(paste_is_not_lost),
        RIG_TEST(loopback_and_modem), RIG_TEST(interrupt_priorities), RIG_TEST(ports_share_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
