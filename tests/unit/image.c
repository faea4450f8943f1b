/* tests/unit/image.c: images of a machine: saved, loaded, and made up by somebody who wants to do harm.
 *
 * The last test alters bytes of an image at random. What machine_image_check() lets pass is loaded and run on both engines over
 * random code: nothing may crash or hang, and the engines must agree. HW_SEED=N is the seed to begin at, HW_TRIALS=N how many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "replay/session.h"

enum { RAM = 2 << 20, TICKS = 3000, TRIALS = 1500, IDLES = 50 };

/* ---- a door to nowhere ---- */

struct door { unsigned idles; };

static struct err *door_start(void *nd, struct nondet_start *out)
{
    (void)nd;
    *out = (struct nondet_start){.wall_ns = UINT64_C(1700000000) * NS_PER_S};
    return NULL;
}

static struct err *door_poll(void *nd, uint64_t ticks, struct nondet_event *out)
{
    (void)ticks;
    out->kind = ((struct door *)nd)->idles > IDLES ? ND_STOP : ND_NONE;
    return NULL;
}

static uint64_t door_horizon(void *nd)
{
    (void)nd;
    return UINT64_MAX;
}

static struct err *door_idle(void *nd, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    struct door *d = nd;
    (void)ticks, (void)now_ns;
    d->idles += deadline_ns == VCLOCK_NEVER ? IDLES + 1 : 1;
    *reached_out = d->idles <= IDLES;
    return NULL;
}

static void door_output(void *nd, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)nd, (void)stream, (void)channel, (void)data, (void)len;
}

static const struct nondet_ops door_ops = {door_start, door_poll, door_horizon, door_idle, door_output};

/* ---- a machine ---- */

struct side { struct door door; struct machine *m; struct engine *engine; };

static uint64_t rng;

static uint64_t rnd(uint64_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng % n;
}

static void make(struct side *s, const char *engine)
{
    struct machine_config cfg = {.ram_len = RAM, .rate_q32 = UINT64_C(1) << 32};
    s->door = (struct door){0};
    assert_null(machine_create(&cfg, 0, (struct nondet){&door_ops, &s->door}, &s->m));
    assert_null(exec_attach(s->m));
    assert_null(engine_create(engine, s->m, &s->engine));
}

static void drop(struct side *s)
{
    s->engine->ops->destroy(s->engine);
    exec_detach(s->m);
    machine_destroy(s->m);
}

/* Instructions that do something in any mode, often enough. */
static void fill(struct machine *m, uint64_t seed)
{
    static const uint8_t bytes[] = {0x90, 0x40, 0x50, 0x58, 0x89, 0xc8, 0x8b, 0x01, 0xa4, 0xf3, 0xeb, 0x75, 0xe4, 0xe6, 0xec, 0xee,
                                    0x0f, 0x20, 0xcd, 0xcf, 0xc3, 0xe8, 0xfb, 0xfa, 0xf4, 0x9c, 0x9d, 0x8e, 0x0f, 0x01, 0xd9, 0x6e};
    rng = seed * 2654435761u + 88172645463325252u;
    for (uint64_t at = 0; at < RAM; at += 64) {
        uint8_t line[64];
        for (unsigned i = 0; i < sizeof(line); i++)
            line[i] = rnd(2) ? bytes[rnd(sizeof(bytes))] : (uint8_t)rnd(256);
        mem_write(&m->mem, gpa(at), line, sizeof(line));
    }
}

static uint64_t state_of(const struct machine *m)
{
    uint64_t sum = vcpu_digest(&m->vcpu.s, VG_COUNT) ^ machine_devices_digest(m) * 3 ^ m->vcpu.ticks * 5;
    for (uint64_t at = 0; at < RAM; at += 8)
        sum = sum * 31 + get_le64(m->mem.host + at);
    return sum;
}

static uint64_t run_from(struct side *s, const uint8_t *image, uint64_t ticks)
{
    enum session_end end;
    machine_load(s->m, image);
    exec_registers_changed(s->m);
    struct session session = {.machine = s->m, .engine = s->engine, .limit_ticks = s->m->vcpu.ticks + ticks,
                              .hook = {.ticks = UINT64_MAX}};
    assert_null(session_run(&session, &end));
    return state_of(s->m);
}

/* ---- tests ---- */

static void an_image_brings_the_machine_back(void **state)
{
    (void)state;
    struct side s;
    make(&s, "interp");
    size_t len = machine_image_len(s.m);
    uint8_t *image = malloc(len), *again = malloc(len);
    machine_save(s.m, image);
    s.m->vcpu.s.r[R_RAX] = 1;
    s.m->vcpu.ticks = 12345;
    bus_write(s.m->bus, BUS_PIO, 0x3ff, 1, 0x5a); /* COM1's scratch register */
    machine_request(s.m, REQ_RESET, 0);
    machine_save(s.m, again);
    assert_memory_not_equal(image, again, len);
    machine_load(s.m, image);
    machine_save(s.m, again);
    assert_memory_equal(image, again, len);
    assert_int_equal(s.m->request, REQ_NONE);
    bool good;
    assert_null(machine_image_check(s.m, image, &good));
    assert_true(good);
    free(image);
    free(again);
    drop(&s);
}

/* In images of real machines: the vCPU in one of its modes, devices in use. */
static void set_up(struct machine *m)
{
    struct vcpu_state *s = &m->vcpu.s;
    s->r[R_RIP] = rnd(0x8000);
    s->seg[S_CS].base = 0;
    s->seg[S_CS].sel = 0;
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = rnd(2) ? rnd(RAM) : rnd(UINT64_MAX);
    if (rnd(2)) { /* protected, flat */
        s->cr0 |= CR0_PE;
        for (unsigned i = S_ES; i <= S_GS; i++)
            s->seg[i] = (struct seg){.limit = UINT32_MAX, .sel = 8, .attr = i == S_CS ? 0xc09b : 0xc093};
    }
    vcpu_set_rflags(s, rnd(2) ? FL_IF : 0);
    bus_write(m->bus, BUS_PIO, 0x43, 1, 0x34); /* the PIT's channel 0, periodic */
    bus_write(m->bus, BUS_PIO, 0x40, 1, 200);
    bus_write(m->bus, BUS_PIO, 0x40, 1, 0);
}

/* What runs leave behind in memory is the same on both sides, and something for the next to meet. */
static unsigned trial(struct side *a, struct side *b, const uint8_t *fresh, uint64_t seed)
{
    size_t len = machine_image_len(a->m);
    uint8_t *image = malloc(len), *now = malloc(len), *after = malloc(len);
    bool good;
    a->door = b->door = (struct door){0};
    machine_load(a->m, fresh);
    rng = seed * 2654435761u + 88172645463325252u;
    set_up(a->m);
    machine_save(a->m, image);
    for (uint64_t n = 1 + rnd(6); n > 0; n--)
        image[rnd(len)] = rnd(3) ? (uint8_t)rnd(256) : (uint8_t)(0xff * rnd(2));
    machine_save(b->m, now);
    assert_null(machine_image_check(b->m, image, &good));
    machine_save(b->m, after);
    assert_memory_equal(now, after, len);
    if (good && run_from(a, image, TICKS) != run_from(b, image, TICKS))
        fail_msg("HW_SEED=%" PRIu64 ": the engines differ", seed);
    free(image);
    free(now);
    free(after);
    return good;
}

static void made_up_images_do_no_harm(void **state)
{
    (void)state;
    enum { ON_ONE_MACHINE = 50 };
    const char *seed = getenv("HW_SEED"), *trials = getenv("HW_TRIALS");
    uint64_t first = seed ? strtoull(seed, NULL, 0) : 1, n = trials ? strtoull(trials, NULL, 0) : TRIALS;
    unsigned good = 0;
    for (uint64_t i = first; i < first + n;) {
        struct side a, b;
        make(&a, "interp");
        make(&b, i % 2 ? "dbt" : "dbt:exact=1");
        fill(a.m, i);
        fill(b.m, i);
        uint8_t *fresh = malloc(machine_image_len(a.m));
        machine_save(a.m, fresh);
        for (unsigned k = 0; k < ON_ONE_MACHINE && i < first + n; k++)
            good += trial(&a, &b, fresh, i++);
        free(fresh);
        drop(&a);
        drop(&b);
    }
    print_message("%u of %" PRIu64 " were let pass\n", good, n);
    assert_true(good > n / 4 && good < n); /* or this tested nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_brings_the_machine_back),
        cmocka_unit_test(made_up_images_do_no_harm),
    };
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
