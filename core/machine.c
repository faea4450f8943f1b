/* core/machine.c: builds a machine from its parts and takes it apart. */
#include "core/machine.h"

#include <stdlib.h>

#include "core/dev/board.h"

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
