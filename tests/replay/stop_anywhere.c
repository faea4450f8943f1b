/* tests/replay/stop_anywhere.c: stops are invisible (docs/determinism.md). One guest runs twice, side by side. The straight
 * one stops where the session must. The cut one stops after every 1 to 10000 ticks as well, is kicked at times, and now and
 * then made to forget all that was derived from its state. That is what checkpoints, debuggers and changes of engine will do
 * to a guest; what differs then was visible: a block boundary, the TLB, a link, or where `until` lay.
 *
 *   stop_anywhere KERNEL INITRD TICKS [ENGINE [SEED]]
 *
 * ENGINE (exec/engine.h) runs the cut guest; the reference interpreter runs the straight one, so that engines are compared
 * with each other, too.
 * Registers and devices are compared every STRETCH ticks, memory every MEMORY_STRETCH and at the end. A failure names the
 * seed and the stretch. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "exec/engine.h"
#include "replay/digest.h"
#include "replay/file.h"
#include "replay/session.h"
#include "replay/vm.h"
#include "tests/replay/cut_off.h"

enum { STRETCH = 1000000, MEMORY_STRETCH = 64 * STRETCH, CUT_MAX = 10000 };

/* ---- an engine that drives another one in pieces ---- */

struct cutter {
    struct engine e;
    struct engine *inner;
    uint64_t cuts, forgets, kicks;
};

/* One cut in 8 is a few ticks long, so that boundaries around one instruction are met, shadows and REP included. */
static uint64_t cut_len(void)
{
    return 1 + below(below(8) ? CUT_MAX : 4);
}

static enum engine_stop cutter_run(struct engine *e, uint64_t until)
{
    struct cutter *c = (struct cutter *)e;
    struct vcpu *v = &e->machine->vcpu;
    for (;;) {
        if (!below(64)) {
            engine_kick(e->machine);
            c->kicks++;
        }
        uint64_t cut = v->ticks + cut_len();
        enum engine_stop stop = c->inner->ops->run(c->inner, MIN(until, cut));
        if (v->ticks >= until || (stop != STOP_TICKS && stop != STOP_KICK))
            return stop;
        c->cuts++;
        if (!below(32)) {
            exec_state_changed(e->machine);
            c->forgets++;
        }
    }
}

static const struct engine_ops cutter_ops = {.name = "cutter", .run = cutter_run};

/* ---- the two guests ---- */

struct guest {
    struct vm vm;
    struct digester *digester;
    struct session session;
    enum session_end end;
};

static void die(struct err *e)
{
    fprintf(stderr, "stop_anywhere: %s\n", err_message(e));
    exit(2);
}

static void guest_init(struct guest *g, const struct vm_spec *spec)
{
    *g = (struct guest){.end = END_LIMIT};
    struct err *e = vm_create(spec, (struct nondet){&cut_off_door, NULL}, &g->vm);
    if (!e)
        e = digester_create(g->vm.machine, &g->digester);
    if (e)
        die(e);
    g->session = (struct session){.machine = g->vm.machine, .engine = g->vm.engine, .hook = {.ticks = UINT64_MAX}};
}

static void guest_deinit(struct guest *g)
{
    digester_destroy(g->digester);
    vm_destroy(&g->vm);
}

static void guest_run_to(struct guest *g, uint64_t ticks)
{
    g->session.limit_ticks = ticks;
    struct err *e = session_run(&g->session, &g->end);
    if (e)
        die(e);
}

static bool print_difference(const char *what, uint64_t a, uint64_t b)
{
    if (a != b)
        printf("  %s: straight %016" PRIx64 ", cut %016" PRIx64 "\n", what, a, b);
    return a == b;
}

static void print_registers(const struct guest *a, const struct guest *b)
{
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++) {
        const uint8_t *x = (const uint8_t *)&a->vm.machine->vcpu.s + f->f.offset;
        const uint8_t *y = (const uint8_t *)&b->vm.machine->vcpu.s + f->f.offset;
        for (uint32_t at = 0; at < f->f.len; at += f->f.elem)
            if (memcmp(x + at, y + at, f->f.elem))
                printf("  register %s[%u] differs\n", f->f.name, at / f->f.elem);
    }
}

static bool same(const struct guest *a, const struct guest *b, bool memory)
{
    const struct machine *x = a->vm.machine, *y = b->vm.machine;
    bool ok = print_difference("end", a->end, b->end);
    ok &= print_difference("ticks", x->vcpu.ticks, y->vcpu.ticks);
    ok &= print_difference("registers", vcpu_digest(&x->vcpu.s, VG_COUNT), vcpu_digest(&y->vcpu.s, VG_COUNT));
    ok &= print_difference("devices", machine_devices_digest(x), machine_devices_digest(y));
    if (memory || !ok)
        ok &= print_difference("memory", digest_memory(a->digester).total, digest_memory(b->digester).total);
    if (!ok)
        print_registers(a, b);
    return ok;
}

static bool run_both(struct guest *straight, struct guest *cut, uint64_t ticks)
{
    for (uint64_t at = 0; at < ticks && straight->end == END_LIMIT;) {
        at = MIN(at + STRETCH, ticks);
        guest_run_to(straight, at);
        guest_run_to(cut, at);
        bool last = at == ticks || straight->end != END_LIMIT;
        if (same(straight, cut, last || at % MEMORY_STRETCH == 0))
            continue;
        printf("stop_anywhere: the guests differ between ticks %" PRIu64 " and %" PRIu64 "\n", at - STRETCH, at);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: stop_anywhere KERNEL INITRD TICKS [ENGINE [SEED]]\n");
        return 2;
    }
    uint64_t ticks = strtoull(argv[3], NULL, 10);
    const char *engine = argc > 4 ? argv[4] : "interp";
    uint64_t seed = argc > 5 ? strtoull(argv[5], NULL, 0) : (uint64_t)time(NULL);
    struct vm_spec spec = {.engine = "interp", .ram_len = MIB(512), .image = {.cmdline = "console=ttyS0 hw.workload=short"}};
    uint8_t *kernel = NULL, *initrd = NULL;
    struct err *e = file_load("kernel", argv[1], spec.ram_len, &kernel, &spec.image.kernel_len);
    if (!e)
        e = file_load("initrd", argv[2], spec.ram_len, &initrd, &spec.image.initrd_len);
    if (e)
        die(e);
    spec.image.kernel = kernel;
    spec.image.initrd = initrd;
    rng_state = seed;
    printf("stop_anywhere: %s, seed %" PRIu64 "\n", engine, seed);
    fflush(stdout);

    struct guest straight, cut;
    guest_init(&straight, &spec);
    spec.engine = engine;
    guest_init(&cut, &spec);
    struct cutter cutter = {.e = {&cutter_ops, cut.vm.machine}, .inner = cut.vm.engine};
    cut.session.engine = &cutter.e;
    bool ok = run_both(&straight, &cut, ticks);
    printf("stop_anywhere: %s: %" PRIu64 " ticks, %" PRIu64 " cuts, %" PRIu64 " kicks, everything forgotten %" PRIu64
           " times\n", ok ? "no difference" : "FAILED", straight.vm.machine->vcpu.ticks, cutter.cuts, cutter.kicks,
           cutter.forgets);
    guest_deinit(&straight);
    guest_deinit(&cut);
    free(kernel);
    free(initrd);
    return !ok;
}
