/* core/dev/uart.c: four 16550A serial ports, COM1 (the console) to COM4.
 *
 * Reference: National Semiconductor PC16550D data sheet (1995).
 *
 * Timing. The transmitter is infinitely fast: a byte leaves when it is written, and the holding register is empty
 * again at once. Nothing in a guest depends on a busy transmitter, whereas real pacing would have an emulated CPU spin
 * through 87 us a character of boot messages, and would wake an idle guest for every 16 bytes. The receiver takes
 * typed bytes as soon as its FIFO has room, from a buffer that stands for the sender's flow control, so it never
 * overruns; what does not fit into the buffer is lost. Only the receive time-out (data below the trigger level, idle
 * for four character times) takes time, at the programmed speed.
 *
 * OUT2 does not gate the interrupt line, though it does on PC boards: small guests written for virtual machines leave
 * it clear and expect interrupts, and no guest relies on a line it disabled that way. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };
enum { IER_RX = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8, IER_ALL = 0x0f };
enum { IIR_MODEM = 0x00, IIR_NONE = 0x01, IIR_THRE = 0x02, IIR_RX = 0x04, IIR_LINE = 0x06, IIR_TIMEOUT = 0x0c,
       IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_KEPT = 0xc9 };
enum { LCR_STOP2 = 0x04, LCR_PARITY = 0x08, LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10, MCR_ALL = 0x1f };
enum { LSR_DATA = 0x01, LSR_OVERRUN = 0x02, LSR_IDLE = 0x60 /* THRE and TEMT */ };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_RI_ENDED = 0x04 };
enum { FIFO_LEN = 16, INPUT_LEN = 4096 };

struct uart_channel {
    uint64_t active_ns; /* when the receive FIFO was last filled or read */
    uint16_t divisor;
    uint16_t input_head, input_count;
    uint8_t ier, fcr, lcr, mcr, scr;
    uint8_t msr_delta;  /* MSR bits 3:0 */
    uint8_t overrun;
    uint8_t thre;       /* the THRE interrupt is pending */
    uint8_t fifo_head, fifo_count;
    uint8_t fifo[FIFO_LEN];
    uint8_t input[INPUT_LEN]; /* typed, not yet received */
};

struct uart_state {
    uint64_t deadline_ns; /* the next receive time-out that raises an interrupt */
    struct uart_channel ch[UART_COUNT];
    uint8_t lines[2];     /* levels driven to IRQ_COM1 and IRQ_COM2 */
};

struct uart {
    struct uart_state s;
    struct vtimer timer;
    struct machine *m; /* borrowed */
};

/* ---- receiver ---- */

static bool fifo_on(const struct uart_channel *c) { return c->fcr & FCR_ENABLE; }
static unsigned fifo_depth(const struct uart_channel *c) { return fifo_on(c) ? FIFO_LEN : 1; }

static unsigned fifo_trigger(const struct uart_channel *c)
{
    static const uint8_t level[4] = {1, 4, 8, 14};
    return fifo_on(c) ? level[c->fcr >> 6] : 1;
}

static void fifo_push(struct uart_channel *c, uint8_t byte)
{
    if (c->fifo_count == fifo_depth(c)) {
        c->overrun = 1;
        return;
    }
    c->fifo[(c->fifo_head + c->fifo_count) % FIFO_LEN] = byte;
    c->fifo_count++;
}

static uint8_t fifo_pop(struct uart_channel *c)
{
    if (!c->fifo_count)
        return 0;
    uint8_t byte = c->fifo[c->fifo_head % FIFO_LEN];
    c->fifo_head = (c->fifo_head + 1) % FIFO_LEN;
    c->fifo_count--;
    return byte;
}

/* Receive what was typed while the FIFO has room; in loopback the input pin is disconnected. */
static void receive(struct uart *u, struct uart_channel *c)
{
    if (c->mcr & MCR_LOOP)
        return;
    while (c->input_count && c->fifo_count < fifo_depth(c)) {
        fifo_push(c, c->input[c->input_head % INPUT_LEN]);
        c->input_head = (c->input_head + 1) % INPUT_LEN;
        c->input_count--;
        c->active_ns = vclock_ns(&u->m->clock);
    }
}

static void input_push(struct uart_channel *c, uint8_t byte)
{
    if (c->input_count == INPUT_LEN)
        return;
    c->input[(c->input_head + c->input_count) % INPUT_LEN] = byte;
    c->input_count++;
}

static uint64_t character_ns(const struct uart_channel *c)
{
    uint64_t bits = 1 + 5 + (c->lcr & 3u) + (c->lcr & LCR_PARITY ? 1 : 0) + (c->lcr & LCR_STOP2 ? 2 : 1);
    uint64_t divisor = c->divisor ? c->divisor : 65536;
    return bits * 16 * divisor * NS_PER_S / UART_CLOCK_HZ;
}

/* When the receive time-out came or will come; VCLOCK_NEVER when nothing waits below the trigger level. */
static uint64_t timeout_ns(const struct uart_channel *c)
{
    bool waiting = fifo_on(c) && c->fifo_count && c->fifo_count < fifo_trigger(c);
    return waiting ? c->active_ns + 4 * character_ns(c) : VCLOCK_NEVER;
}

/* ---- interrupts ---- */

/* Interrupt identification without the FIFO bits: the most urgent cause (data sheet, table IV). */
static uint8_t identify(const struct uart_channel *c, uint64_t now_ns)
{
    if (c->ier & IER_LINE && c->overrun)
        return IIR_LINE;
    if (c->ier & IER_RX && c->fifo_count >= fifo_trigger(c))
        return IIR_RX;
    if (c->ier & IER_RX && timeout_ns(c) <= now_ns)
        return IIR_TIMEOUT;
    if (c->ier & IER_THRE && c->thre)
        return IIR_THRE;
    if (c->ier & IER_MODEM && c->msr_delta)
        return IIR_MODEM;
    return IIR_NONE;
}

static void drive(struct uart *u, unsigned which, unsigned line, bool level)
{
    if (u->s.lines[which] == level)
        return;
    u->s.lines[which] = level;
    irq_set(u->m, line, level);
}

/* After any change: drive the two lines, each shared by two ports, and arm the timer. */
static void uart_update(struct uart *u)
{
    uint64_t now = vclock_ns(&u->m->clock), next = VCLOCK_NEVER;
    bool level[2] = {false, false};
    for (unsigned i = 0; i < UART_COUNT; i++) {
        const struct uart_channel *c = &u->s.ch[i];
        uint64_t timeout = c->ier & IER_RX ? timeout_ns(c) : VCLOCK_NEVER;
        level[i % 2] |= identify(c, now) != IIR_NONE;
        if (timeout > now)
            next = MIN(next, timeout);
    }
    u->s.deadline_ns = next;
    vtimer_arm(&u->m->clock, &u->timer, next);
    drive(u, 0, IRQ_COM1, level[0]);
    drive(u, 1, IRQ_COM2, level[1]);
}

static void uart_expired(void *owner, uint64_t deadline_ns)
{
    (void)deadline_ns;
    uart_update(owner);
}

void uart_input(struct machine *m, unsigned channel, const uint8_t *data, size_t len)
{
    struct uart *u = m->dev[DEV_UART];
    if (channel >= UART_COUNT)
        return;
    for (size_t i = 0; i < len; i++)
        input_push(&u->s.ch[channel], data[i]);
    receive(u, &u->s.ch[channel]);
    uart_update(u);
}

size_t uart_input_room(const struct machine *m, unsigned channel)
{
    const struct uart *u = m->dev[DEV_UART];
    return channel < UART_COUNT ? INPUT_LEN - u->s.ch[channel].input_count : 0;
}

/* ---- registers ---- */

static void transmit(struct uart *u, unsigned channel, uint8_t byte)
{
    struct uart_channel *c = &u->s.ch[channel];
    c->thre = 1; /* dropped by the write, raised by the byte's leaving */
    if (c->mcr & MCR_LOOP) {
        fifo_push(c, byte);
        c->active_ns = vclock_ns(&u->m->clock);
        return;
    }
    u->m->nondet.ops->output(u->m->nondet.self, ND_OUT_CONSOLE, (uint8_t)channel, &byte, 1);
}

static uint8_t modem_lines(const struct uart_channel *c)
{
    if (!(c->mcr & MCR_LOOP))
        return MSR_DCD | MSR_DSR | MSR_CTS; /* somebody is connected and ready */
    return (uint8_t)((c->mcr & MCR_RTS ? MSR_CTS : 0) | (c->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (c->mcr & MCR_OUT1 ? MSR_RI : 0) | (c->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_mcr(struct uart_channel *c, uint8_t v)
{
    uint8_t old = modem_lines(c);
    c->mcr = v & MCR_ALL;
    uint8_t new = modem_lines(c);
    c->msr_delta |= (uint8_t)(((old ^ new) & ~MSR_RI) >> 4);
    if (old & ~new & MSR_RI)
        c->msr_delta |= MSR_RI_ENDED;
}

static void write_fcr(struct uart_channel *c, uint8_t v)
{
    if (!(v & FCR_ENABLE))
        v = 0; /* the other bits are written only together with it */
    if (v & FCR_CLEAR_RX || (v ^ c->fcr) & FCR_ENABLE)
        c->fifo_count = 0;
    c->fcr = v & FCR_KEPT;
}

static void write_ier(struct uart_channel *c, uint8_t v)
{
    if (v & ~c->ier & IER_THRE)
        c->thre = 1; /* enabling it while the register is empty interrupts at once */
    c->ier = v & IER_ALL;
}

static void write_register(struct uart *u, unsigned channel, unsigned reg, uint8_t v)
{
    struct uart_channel *c = &u->s.ch[channel];
    bool dlab = c->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        if (dlab)
            c->divisor = (uint16_t)((c->divisor & 0xff00) | v);
        else
            transmit(u, channel, v);
        break;
    case REG_IER:
        if (dlab)
            c->divisor = (uint16_t)((c->divisor & 0xff) | v << 8);
        else
            write_ier(c, v);
        break;
    case REG_IIR_FCR:
        write_fcr(c, v);
        break;
    case REG_LCR:
        c->lcr = v;
        break;
    case REG_MCR:
        write_mcr(c, v);
        break;
    case REG_SCR:
        c->scr = v;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
}

static uint8_t read_data(struct uart *u, struct uart_channel *c)
{
    uint8_t v = fifo_pop(c);
    c->active_ns = vclock_ns(&u->m->clock);
    return v;
}

static uint8_t read_iir(struct uart *u, struct uart_channel *c)
{
    uint8_t v = identify(c, vclock_ns(&u->m->clock));
    if (v == IIR_THRE)
        c->thre = 0;
    return v | (fifo_on(c) ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct uart_channel *c)
{
    uint8_t v = LSR_IDLE | (c->fifo_count ? LSR_DATA : 0) | (c->overrun ? LSR_OVERRUN : 0);
    c->overrun = 0;
    return v;
}

static uint8_t read_msr(struct uart_channel *c)
{
    uint8_t v = modem_lines(c) | c->msr_delta;
    c->msr_delta = 0;
    return v;
}

static uint8_t read_register(struct uart *u, struct uart_channel *c, unsigned reg)
{
    bool dlab = c->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        return dlab ? (uint8_t)c->divisor : read_data(u, c);
    case REG_IER:
        return dlab ? (uint8_t)(c->divisor >> 8) : c->ier;
    case REG_IIR_FCR:
        return read_iir(u, c);
    case REG_LCR:
        return c->lcr;
    case REG_MCR:
        return c->mcr;
    case REG_LSR:
        return read_lsr(c);
    case REG_MSR:
        return read_msr(c);
    default:
        return c->scr;
    }
}

static uint64_t uart_read(struct uart *u, unsigned channel, uint32_t off)
{
    struct uart_channel *c = &u->s.ch[channel];
    uint8_t v = read_register(u, c, off);
    receive(u, c);
    uart_update(u);
    return v;
}

static void uart_write(struct uart *u, unsigned channel, uint32_t off, uint64_t v)
{
    write_register(u, channel, off, (uint8_t)v);
    receive(u, &u->s.ch[channel]);
    uart_update(u);
}

/* ---- life ---- */

static void *uart_create(struct machine *m)
{
    struct uart *u = calloc(1, sizeof(*u));
    if (!u)
        return NULL;
    u->m = m;
    vtimer_add(&m->clock, &u->timer, uart_expired, u);
    u->s.deadline_ns = VCLOCK_NEVER;
    for (unsigned i = 0; i < UART_COUNT; i++) {
        u->s.ch[i].divisor = 1; /* 115200 8N1, as firmware with a serial console leaves it */
        u->s.ch[i].lcr = 3;
    }
    return u;
}

static void uart_destroy(void *dev)
{
    struct uart *u = dev;
    vtimer_remove(&u->m->clock, &u->timer);
    free(u);
}

static void uart_restored(void *dev)
{
    struct uart *u = dev;
    vtimer_arm(&u->m->clock, &u->timer, u->s.deadline_ns);
}

static bool uart_valid(const void *state)
{
    const struct uart_state *s = state;
    for (unsigned i = 0; i < UART_COUNT; i++)
        if (s->ch[i].fifo_count > FIFO_LEN || s->ch[i].input_count > INPUT_LEN)
            return false;
    return true;
}

static void *uart_state_of(void *dev)
{
    struct uart *u = dev;
    return &u->s;
}

#define PORT(n) \
    static uint64_t com##n##_read(void *dev, struct bus_access a) { return uart_read(dev, (n) - 1, a.off); } \
    static void com##n##_write(void *dev, struct bus_access a, uint64_t v) { uart_write(dev, (n) - 1, a.off, v); }
PORT(1)
PORT(2)
PORT(3)
PORT(4)
#undef PORT

static const struct bus_region uart_regions[] = {
    {BUS_PIO, COM1_PORT, UART_LEN, 1, 1, com1_read, com1_write},
    {BUS_PIO, COM2_PORT, UART_LEN, 1, 1, com2_read, com2_write},
    {BUS_PIO, COM3_PORT, UART_LEN, 1, 1, com3_read, com3_write},
    {BUS_PIO, COM4_PORT, UART_LEN, 1, 1, com4_read, com4_write},
    {0},
};

#define CHANNEL_FIELDS(n)                                                                              \
    SNAP(struct uart_state, ch[n].active_ns), SNAP(struct uart_state, ch[n].divisor),                  \
        SNAP(struct uart_state, ch[n].input_head), SNAP(struct uart_state, ch[n].input_count),         \
        SNAP(struct uart_state, ch[n].ier), SNAP(struct uart_state, ch[n].fcr),                        \
        SNAP(struct uart_state, ch[n].lcr), SNAP(struct uart_state, ch[n].mcr),                        \
        SNAP(struct uart_state, ch[n].scr), SNAP(struct uart_state, ch[n].msr_delta),                  \
        SNAP(struct uart_state, ch[n].overrun), SNAP(struct uart_state, ch[n].thre),                   \
        SNAP(struct uart_state, ch[n].fifo_head), SNAP(struct uart_state, ch[n].fifo_count),           \
        SNAP_ARRAY(struct uart_state, ch[n].fifo), SNAP_ARRAY(struct uart_state, ch[n].input)

static const struct snap_field uart_fields[] = {
    SNAP(struct uart_state, deadline_ns), CHANNEL_FIELDS(0), CHANNEL_FIELDS(1), CHANNEL_FIELDS(2), CHANNEL_FIELDS(3),
    SNAP_ARRAY(struct uart_state, lines), SNAP_END,
};

const struct dev_class dev_uart = {
    .name = "uart",
    .create = uart_create,
    .destroy = uart_destroy,
    .regions = uart_regions,
    .state = uart_fields,
    .state_of = uart_state_of,
    .restored = uart_restored,
    .valid = uart_valid,
};
