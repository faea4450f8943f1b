/* core/machine.c: builds a machine from its parts and takes it apart. */
#include "core/machine.h"

#include <stdlib.h>

#include "core/dev/board.h"
#include "core/irq.h"

static const struct dev_class *const classes[DEV_COUNT] = {
#define DEV(id, class) [DEV_##id] = &(class),
#include "core/devices.def"
#undef DEV
};

const struct dev_class *machine_dev_class(enum dev_id id)
{
    return classes[id];
}

static struct err *create_devices(struct machine *m)
{
    for (unsigned i = 0; i < DEV_COUNT; i++) {
        m->dev[i] = classes[i]->create(m);
        if (!m->dev[i])
            return err_new(ERR_HOST, "no memory for device %s", classes[i]->name);
        if (classes[i]->regions)
            bus_map(m->bus, classes[i]->regions, m->dev[i]);
    }
    return NULL;
}

static struct err *build(struct machine *m, size_t rom_len)
{
    struct err *e = m->nondet.ops->start(m->nondet.self, &m->start);
    if (e)
        return e;
    e = mem_init(&m->mem, m->config.ram_len, rom_len);
    if (e)
        return e;
    m->bus = bus_create();
    if (!m->bus)
        return err_new(ERR_HOST, "no memory for the bus");
    vclock_init(&m->clock, m->config.rate_q32, m->start.wall_ns);
    m->vcpu.machine = m;
    vcpu_reset(&m->vcpu);
    return create_devices(m);
}

struct err *machine_create(const struct machine_config *cfg, size_t rom_len, struct nondet nd, struct machine **out)
{
    struct machine *m = calloc(1, sizeof(*m));
    *out = NULL;
    if (!m)
        return err_new(ERR_HOST, "no memory for a machine");
    m->config = *cfg;
    m->nondet = nd;
    struct err *e = build(m, rom_len);
    if (e) {
        machine_destroy(m);
        return e;
    }
    *out = m;
    return NULL;
}

void machine_destroy(struct machine *m)
{
    if (!m)
        return;
    for (unsigned i = DEV_COUNT; i-- > 0;)
        if (m->dev[i])
            classes[i]->destroy(m->dev[i]);
    bus_destroy(m->bus);
    mem_deinit(&m->mem);
    free(m);
}

void machine_request(struct machine *m, enum machine_request req, uint32_t value)
{
    if (m->request != REQ_NONE)
        return;
    m->request = req;
    m->request_value = value;
    m->vcpu.brk |= VCPU_BRK_EVENT;
}

void machine_console_input(struct machine *m, unsigned channel, const uint8_t *data, size_t len)
{
    uart_input(m, channel, data, len);
}

size_t machine_console_room(const struct machine *m, unsigned channel)
{
    return uart_input_room(m, channel);
}

uint64_t machine_devices_digest(const struct machine *m)
{
    uint64_t digest = 0;
    for (unsigned i = 0; i < DEV_COUNT; i++)
        if (classes[i]->state)
            digest = snap_digest(classes[i]->state, classes[i]->state_of(m->dev[i]), digest);
    return digest;
}

/* ---- images ---- */

size_t machine_image_len(const struct machine *m)
{
    size_t len = sizeof(m->vcpu.ticks);
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++)
        len += f->f.len;
    for (unsigned i = 0; i < DEV_COUNT; i++)
        if (classes[i]->state)
            len += snap_len(classes[i]->state);
    return len;
}

void machine_save(const struct machine *m, uint8_t *out)
{
    put_le64(out, m->vcpu.ticks);
    out += sizeof(m->vcpu.ticks);
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; out += f->f.len, f++)
        memcpy(out, (const uint8_t *)&m->vcpu.s + f->f.offset, f->f.len);
    for (unsigned i = 0; i < DEV_COUNT; i++)
        if (classes[i]->state) {
            snap_save(classes[i]->state, classes[i]->state_of(m->dev[i]), out);
            out += snap_len(classes[i]->state);
        }
}

/* The states alone, nothing derived. */
static void load_states(struct machine *m, const uint8_t *in)
{
    m->vcpu.ticks = m->clock.now_ticks = get_le64(in);
    in += sizeof(m->vcpu.ticks);
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; in += f->f.len, f++)
        memcpy((uint8_t *)&m->vcpu.s + f->f.offset, in, f->f.len);
    for (unsigned i = 0; i < DEV_COUNT; i++)
        if (classes[i]->state) {
            snap_load(classes[i]->state, classes[i]->state_of(m->dev[i]), in);
            in += snap_len(classes[i]->state);
        }
}

void machine_load(struct machine *m, const uint8_t *in)
{
    load_states(m, in);
    /* All of them first: what a device derives (lines, timers) may depend on others. */
    for (unsigned i = 0; i < DEV_COUNT; i++)
        if (classes[i]->restored)
            classes[i]->restored(m->dev[i]);
    irq_update(m);
    m->clock.deadline_moved = false;
    m->vcpu.brk = 0;
    m->request = REQ_NONE;
    m->request_value = 0;
}

static bool states_valid(const struct machine *m)
{
    for (unsigned i = 0; i < DEV_COUNT; i++)
        if (classes[i]->valid && !classes[i]->valid(classes[i]->state_of(m->dev[i])))
            return false;
    return vcpu_valid(&m->vcpu.s) && m->clock.s.base_ticks <= m->vcpu.ticks;
}

struct err *machine_image_check(struct machine *m, const uint8_t *in, bool *good)
{
    uint8_t *now = malloc(machine_image_len(m));
    if (!now)
        return err_new(ERR_HOST, "no memory for a look at a machine's state");
    machine_save(m, now);
    load_states(m, in);
    *good = states_valid(m);
    load_states(m, now);
    free(now);
    return NULL;
}
