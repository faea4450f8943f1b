/* core/dev/i8042.c: the keyboard controller with a PS/2 keyboard and mouse that nobody touches.
 *
 * References: IBM PS/2 technical reference (controller commands, keyboard and mouse command sets); ICH 13.5.1.
 *
 * The devices answer self-test, identification and settings, so that a guest's probe succeeds at once; they never send
 * a key or a movement. Everything happens immediately: input is never busy, and the next answer is in the output
 * buffer as soon as the previous one was read (its interrupt line falls and rises again, which makes a new edge).
 * The A20 gate is always open (core/dev/misc.c), its bit is only remembered. */
#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"
#include "core/platform.h"

enum { ST_OUTPUT = 0x01, ST_SYSTEM = 0x04, ST_COMMAND = 0x08, ST_UNLOCKED = 0x10, ST_MOUSE = 0x20 };
enum { CFG_KEYBOARD_IRQ = 0x01, CFG_MOUSE_IRQ = 0x02, CFG_SYSTEM = 0x04, CFG_KEYBOARD_OFF = 0x10, CFG_MOUSE_OFF = 0x20,
       CFG_TRANSLATE = 0x40, CFG_ALL = 0x77 };
enum { OUT_RUN = 0x01 /* low: CPU reset */, OUT_A20 = 0x02 };
enum { REPLY_ACK = 0xfa, REPLY_RESEND = 0xfe, SELF_TEST_OK = 0x55, DEVICE_OK = 0xaa };
enum { KEYBOARD, MOUSE, PORTS, CONTROLLER = PORTS, SOURCES };
enum { QUEUE_LEN = 16 };

struct i8042_queue { uint8_t head, count, data[QUEUE_LEN]; };

struct i8042_state {
    struct i8042_queue queue[SOURCES]; /* bytes on their way to the output buffer */
    uint8_t config;       /* command byte */
    uint8_t output_port;
    uint8_t command;      /* controller command that waits for its parameter at port 0x60, or 0 */
    uint8_t last_command; /* status bit 3: the last write went to port 0x64 */
    uint8_t out, out_full, out_mouse; /* output buffer */
    uint8_t wait[PORTS];  /* device command that waits for its parameter, or 0 */
    uint8_t scancode_set;
    uint8_t mouse_status, mouse_resolution, mouse_rate; /* answers to E9 */
    uint8_t lines[PORTS]; /* levels driven */
};

struct i8042 {
    struct i8042_state s;
    struct machine *m; /* borrowed */
};

/* ---- output buffer ---- */

static void queue_push(struct i8042_queue *q, uint8_t v)
{
    if (q->count == QUEUE_LEN)
        return; /* a device with a full queue drops what follows */
    q->data[(q->head + q->count) % QUEUE_LEN] = v;
    q->count++;
}

static uint8_t queue_pop(struct i8042_queue *q)
{
    uint8_t v = q->data[q->head % QUEUE_LEN];
    q->head = (q->head + 1) % QUEUE_LEN;
    q->count--;
    return v;
}

static bool can_send(const struct i8042_state *s, unsigned source)
{
    static const uint8_t off[SOURCES] = {[KEYBOARD] = CFG_KEYBOARD_OFF, [MOUSE] = CFG_MOUSE_OFF, [CONTROLLER] = 0};
    return s->queue[source].count && !(s->config & off[source]);
}

static void put_output(struct i8042_state *s, uint8_t v, bool mouse)
{
    s->out = v;
    s->out_full = 1;
    s->out_mouse = mouse;
}

static void fill_output(struct i8042_state *s)
{
    static const uint8_t order[SOURCES] = {CONTROLLER, KEYBOARD, MOUSE};
    for (unsigned i = 0; i < SOURCES && !s->out_full; i++)
        if (can_send(s, order[i]))
            put_output(s, queue_pop(&s->queue[order[i]]), order[i] == MOUSE);
}

static void drive(struct i8042 *k, unsigned port, unsigned line, bool level)
{
    if (k->s.lines[port] == level)
        return;
    k->s.lines[port] = level;
    irq_set(k->m, line, level);
}

static void drive_lines(struct i8042 *k)
{
    const struct i8042_state *s = &k->s;
    drive(k, KEYBOARD, IRQ_KEYBOARD, s->out_full && !s->out_mouse && s->config & CFG_KEYBOARD_IRQ);
    drive(k, MOUSE, IRQ_MOUSE, s->out_full && s->out_mouse && s->config & CFG_MOUSE_IRQ);
}

static void i8042_update(struct i8042 *k)
{
    fill_output(&k->s);
    drive_lines(k);
}

/* ---- devices ---- */

enum device_action { NOTHING, RESET, DEFAULTS, PARAMETER, ENABLE, DISABLE, SCALE_1, SCALE_2, STATUS };

struct device_command {
    uint8_t command;
    uint8_t action;   /* enum device_action */
    uint8_t reply_len;
    uint8_t reply[5]; /* acknowledge included */
};

static const struct device_command keyboard_commands[] = {
    {0xed, PARAMETER, 1, {REPLY_ACK}},             /* LEDs */
    {0xee, NOTHING, 1, {0xee}},                    /* echo */
    {0xf0, PARAMETER, 1, {REPLY_ACK}},             /* scan code set */
    {0xf2, NOTHING, 3, {REPLY_ACK, 0xab, 0x83}},   /* identify: MF2 keyboard */
    {0xf3, PARAMETER, 1, {REPLY_ACK}},             /* typematic rate */
    {0xf4, NOTHING, 1, {REPLY_ACK}},               /* enable */
    {0xf5, DEFAULTS, 1, {REPLY_ACK}},
    {0xf6, DEFAULTS, 1, {REPLY_ACK}},
    {0xff, RESET, 2, {REPLY_ACK, DEVICE_OK}},
    {0},
};

static const struct device_command mouse_commands[] = {
    {0xe6, SCALE_1, 1, {REPLY_ACK}},
    {0xe7, SCALE_2, 1, {REPLY_ACK}},
    {0xe8, PARAMETER, 1, {REPLY_ACK}},             /* resolution */
    {0xe9, STATUS, 1, {REPLY_ACK}},
    {0xea, NOTHING, 1, {REPLY_ACK}},               /* stream mode */
    {0xeb, NOTHING, 4, {REPLY_ACK, 0x08, 0, 0}},   /* read data: no button, no movement */
    {0xf0, NOTHING, 1, {REPLY_ACK}},               /* remote mode */
    {0xf2, NOTHING, 2, {REPLY_ACK, 0x00}},         /* identify: standard mouse */
    {0xf3, PARAMETER, 1, {REPLY_ACK}},             /* sample rate */
    {0xf4, ENABLE, 1, {REPLY_ACK}},
    {0xf5, DISABLE, 1, {REPLY_ACK}},
    {0xf6, DEFAULTS, 1, {REPLY_ACK}},
    {0xff, RESET, 3, {REPLY_ACK, DEVICE_OK, 0x00}},
    {0},
};

enum { MOUSE_ENABLED = 0x20, MOUSE_SCALE_2 = 0x10 };

static void device_defaults(struct i8042_state *s, unsigned port)
{
    if (port == KEYBOARD) {
        s->scancode_set = 2;
        return;
    }
    s->mouse_status = 0;
    s->mouse_resolution = 2;
    s->mouse_rate = 100;
}

static void device_act(struct i8042_state *s, unsigned port, const struct device_command *c)
{
    struct i8042_queue *q = &s->queue[port];
    switch (c->action) {
    case RESET:
    case DEFAULTS:
        device_defaults(s, port);
        break;
    case PARAMETER:
        s->wait[port] = c->command;
        break;
    case ENABLE:
        s->mouse_status |= MOUSE_ENABLED;
        break;
    case DISABLE:
        s->mouse_status &= (uint8_t)~MOUSE_ENABLED;
        break;
    case SCALE_1:
        s->mouse_status &= (uint8_t)~MOUSE_SCALE_2;
        break;
    case SCALE_2:
        s->mouse_status |= MOUSE_SCALE_2;
        break;
    case STATUS:
        queue_push(q, s->mouse_status);
        queue_push(q, s->mouse_resolution);
        queue_push(q, s->mouse_rate);
        break;
    }
}

static void device_parameter(struct i8042_state *s, unsigned port, uint8_t v)
{
    uint8_t command = s->wait[port];
    s->wait[port] = 0;
    queue_push(&s->queue[port], REPLY_ACK);
    if (port == KEYBOARD && command == 0xf0) {
        if (v == 0)
            queue_push(&s->queue[port], s->scancode_set);
        else if (v <= 3)
            s->scancode_set = v;
    } else if (port == MOUSE && command == 0xe8) {
        s->mouse_resolution = v & 3;
    } else if (port == MOUSE) {
        s->mouse_rate = v;
    }
}

/* The controller translates keyboard bytes to scan code set 1; of what is sent here only the second id byte has a
 * translation. */
static uint8_t translated(const struct i8042_state *s, unsigned port, uint8_t v)
{
    return port == KEYBOARD && s->config & CFG_TRANSLATE && v == 0x83 ? 0x41 : v;
}

static void device_write(struct i8042_state *s, unsigned port, uint8_t v)
{
    const struct device_command *c = port == KEYBOARD ? keyboard_commands : mouse_commands;
    while (c->command && c->command != v)
        c++;
    if (s->wait[port] && v < 0xe8) { /* a command in the place of a parameter cancels the wait */
        device_parameter(s, port, v);
        return;
    }
    s->wait[port] = 0;
    s->queue[port].count = 0; /* a new command cuts off the answer to the last */
    if (!c->command) {
        queue_push(&s->queue[port], REPLY_RESEND);
        return;
    }
    for (unsigned i = 0; i < c->reply_len; i++)
        queue_push(&s->queue[port], translated(s, port, c->reply[i]));
    device_act(s, port, c);
}

/* ---- controller ---- */

static void write_output_port(struct i8042 *k, uint8_t v)
{
    k->s.output_port = v;
    if (!(v & OUT_RUN))
        machine_request(k->m, REQ_RESET, 0);
}

static void reply(struct i8042_state *s, uint8_t v)
{
    queue_push(&s->queue[CONTROLLER], v);
}

static void controller_command(struct i8042 *k, uint8_t v)
{
    struct i8042_state *s = &k->s;
    s->command = 0;
    switch (v) {
    case 0x20: /* read the command byte */
        reply(s, s->config);
        break;
    case 0x60: /* write it */
    case 0xd1: /* write the output port */
    case 0xd2: /* write the output buffer, as if from the keyboard */
    case 0xd3: /* the same, as if from the mouse */
    case 0xd4: /* write to the mouse */
        s->command = v;
        break;
    case 0xa7:
        s->config |= CFG_MOUSE_OFF;
        break;
    case 0xa8:
        s->config &= (uint8_t)~CFG_MOUSE_OFF;
        break;
    case 0xa9: /* test the mouse port */
    case 0xab: /* test the keyboard port */
        reply(s, 0x00);
        break;
    case 0xaa: /* self-test */
        s->config |= CFG_SYSTEM;
        reply(s, SELF_TEST_OK);
        break;
    case 0xad:
        s->config |= CFG_KEYBOARD_OFF;
        break;
    case 0xae:
        s->config &= (uint8_t)~CFG_KEYBOARD_OFF;
        break;
    case 0xc0: /* read the input port: not locked, colour display */
        reply(s, 0x80);
        break;
    case 0xd0:
        reply(s, s->output_port);
        break;
    case 0xdd:
        s->output_port &= (uint8_t)~OUT_A20;
        break;
    case 0xdf:
        s->output_port |= OUT_A20;
        break;
    case 0xf0 ... 0xff: /* pulse output bits that are 0 in the command; bit 0 is the CPU's reset */
        if (!(v & OUT_RUN))
            machine_request(k->m, REQ_RESET, 0);
        break;
    default:
        break;
    }
}

static void controller_parameter(struct i8042 *k, uint8_t v)
{
    struct i8042_state *s = &k->s;
    uint8_t command = s->command;
    s->command = 0;
    switch (command) {
    case 0x60:
        s->config = v & CFG_ALL;
        break;
    case 0xd1:
        write_output_port(k, v);
        break;
    case 0xd2:
        put_output(s, v, false);
        break;
    case 0xd3:
        put_output(s, v, true);
        break;
    case 0xd4: /* talking to a port switches its clock on */
        s->config &= (uint8_t)~CFG_MOUSE_OFF;
        device_write(s, MOUSE, v);
        break;
    default:
        s->config &= (uint8_t)~CFG_KEYBOARD_OFF;
        device_write(s, KEYBOARD, v);
        break;
    }
}

static uint64_t data_read(void *dev, struct bus_access a)
{
    struct i8042 *k = dev;
    (void)a;
    uint8_t v = k->s.out; /* an empty buffer shows its last byte */
    k->s.out_full = 0;
    drive_lines(k);
    i8042_update(k);
    return v;
}

static void data_write(void *dev, struct bus_access a, uint64_t v)
{
    (void)a;
    struct i8042 *k = dev;
    k->s.last_command = 0;
    controller_parameter(k, (uint8_t)v);
    i8042_update(k);
}

static uint64_t status_read(void *dev, struct bus_access a)
{
    const struct i8042 *k = dev;
    (void)a;
    return (uint64_t)(ST_UNLOCKED | (k->s.config & CFG_SYSTEM ? ST_SYSTEM : 0) | (k->s.last_command ? ST_COMMAND : 0) |
                      (k->s.out_full ? ST_OUTPUT : 0) | (k->s.out_full && k->s.out_mouse ? ST_MOUSE : 0));
}

static void command_write(void *dev, struct bus_access a, uint64_t v)
{
    (void)a;
    struct i8042 *k = dev;
    k->s.last_command = 1;
    controller_command(k, (uint8_t)v);
    i8042_update(k);
}

/* ---- life ---- */

static void *i8042_create(struct machine *m)
{
    struct i8042 *k = calloc(1, sizeof(*k));
    if (!k)
        return NULL;
    k->m = m;
    k->s.config = CFG_KEYBOARD_IRQ | CFG_SYSTEM | CFG_TRANSLATE; /* as a BIOS leaves it */
    k->s.output_port = OUT_RUN | OUT_A20;
    device_defaults(&k->s, KEYBOARD);
    device_defaults(&k->s, MOUSE);
    return k;
}

static bool i8042_valid(const void *state)
{
    const struct i8042_state *s = state;
    for (unsigned i = 0; i < SOURCES; i++)
        if (s->queue[i].count > QUEUE_LEN)
            return false;
    return true;
}

static void *i8042_state_of(void *dev)
{
    struct i8042 *k = dev;
    return &k->s;
}

static const struct bus_region i8042_regions[] = {
    {BUS_PIO, I8042_DATA_PORT, 1, 1, 1, data_read, data_write},
    {BUS_PIO, I8042_COMMAND_PORT, 1, 1, 1, status_read, command_write},
    {0},
};

#define QUEUE_FIELDS(n)                                                                                \
    SNAP(struct i8042_state, queue[n].head), SNAP(struct i8042_state, queue[n].count),                 \
        SNAP_ARRAY(struct i8042_state, queue[n].data)

static const struct snap_field i8042_fields[] = {
    QUEUE_FIELDS(KEYBOARD),
    QUEUE_FIELDS(MOUSE),
    QUEUE_FIELDS(CONTROLLER),
    SNAP(struct i8042_state, config),
    SNAP(struct i8042_state, output_port),
    SNAP(struct i8042_state, command),
    SNAP(struct i8042_state, last_command),
    SNAP(struct i8042_state, out),
    SNAP(struct i8042_state, out_full),
    SNAP(struct i8042_state, out_mouse),
    SNAP_ARRAY(struct i8042_state, wait),
    SNAP(struct i8042_state, scancode_set),
    SNAP(struct i8042_state, mouse_status),
    SNAP(struct i8042_state, mouse_resolution),
    SNAP(struct i8042_state, mouse_rate),
    SNAP_ARRAY(struct i8042_state, lines),
    SNAP_END,
};

const struct dev_class dev_i8042 = {
    .name = "i8042",
    .create = i8042_create,
    .destroy = free,
    .regions = i8042_regions,
    .state = i8042_fields,
    .state_of = i8042_state_of,
    .valid = i8042_valid,
};
