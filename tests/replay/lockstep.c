/* tests/replay/lockstep.c: engines do the same, tick by tick. A guest runs on the reference interpreter, and stops at random
 * ticks; then on each other engine, which must be in the same state at each of them. For small guests: every run starts anew.
 *
 *   lockstep IMAGE SEED ENGINE...
 *
 * The guest must end by debug exit with value 0; status 3: it does not end at all. SEED chooses the ticks. Registers and devices are compared at every stop,
 * memory at every MEMORY_STOPS. */
#include <stdio.h>
#include <stdlib.h>

#include "exec/engine.h"
#include "replay/digest.h"
#include "replay/file.h"
#include "replay/session.h"
#include "replay/vm.h"
#include "tests/replay/cut_off.h"

enum { RAM_LEN = 32 << 20, MEMORY_STOPS = 4, TICKS_MAX = 100000000, DEBUG_EXIT_0 = 1 };

static _Noreturn void die(struct err *e)
{
    fprintf(stderr, "lockstep: %s\n", err_message(e));
    exit(2);
}

/* ---- where to stop: far and near, so that engines run freely, and that every boundary is met ---- */

static uint64_t next_gap(void)
{
    static const uint64_t longest[] = {4, 100, 3000, 30000};
    return 1 + below(longest[below(ARRAY_LEN(longest))]);
}

/* ---- runs ---- */

/* The state at a stop. */
struct state { uint64_t ticks, registers, devices, memory; };
struct trail { struct state *at; size_t count, room; };

static void trail_add(struct trail *t, struct state s)
{
    if (t->count == t->room) {
        t->room = t->room ? 2 * t->room : 1024;
        t->at = realloc(t->at, t->room * sizeof(*t->at));
        if (!t->at)
            exit(2);
    }
    t->at[t->count++] = s;
}

static struct state look(const struct machine *m, struct digester *d, bool memory)
{
    return (struct state){m->vcpu.ticks, vcpu_digest(&m->vcpu.s, VG_COUNT), machine_devices_digest(m),
                          memory ? digest_memory(d).total : 0};
}

static bool same_state(const struct state *a, const struct state *b)
{
    return a->ticks == b->ticks && a->registers == b->registers && a->devices == b->devices && a->memory == b->memory;
}

static void print_difference(const char *engine, size_t stop, const struct state *before, const struct state *want,
                             const struct state *got)
{
    printf("lockstep: FAILED: %s differs at stop %zu, after tick %" PRIu64 ", at tick %" PRIu64 ":%s%s%s%s\n", engine, stop,
           before ? before->ticks : 0, want->ticks, want->ticks == got->ticks ? "" : " ticks",
           want->registers == got->registers ? "" : " registers", want->devices == got->devices ? "" : " devices",
           want->memory == got->memory ? "" : " memory");
}

/* Run the guest to its end. Without `want`, fill `out`; else compare, and stop at the first difference. */
static bool run_guest(const struct vm_spec *spec, uint64_t seed, const struct trail *want, struct trail *out)
{
    struct vm vm;
    struct digester *d;
    struct err *e = vm_create(spec, (struct nondet){&cut_off_door, NULL}, &vm);
    if (!e)
        e = digester_create(vm.machine, &d);
    if (e)
        die(e);
    struct session s = {.machine = vm.machine, .engine = vm.engine, .hook = {.ticks = UINT64_MAX}};
    enum session_end end = END_LIMIT;
    bool ok = true;
    rng_state = seed;
    for (size_t stop = 0; ok && end == END_LIMIT && vm.machine->vcpu.ticks < TICKS_MAX; stop++) {
        s.limit_ticks = vm.machine->vcpu.ticks + next_gap();
        e = session_run(&s, &end);
        if (e)
            die(e);
        struct state now = look(vm.machine, d, end != END_LIMIT || stop % MEMORY_STOPS == 0);
        if (!want) {
            trail_add(out, now);
        } else if (stop >= want->count || !same_state(&now, &want->at[stop])) {
            size_t last = MIN(stop, want->count - 1);
            print_difference(spec->engine, stop, last ? &want->at[last - 1] : NULL, &want->at[last], &now);
            ok = false;
        }
    }
    if (!want && end == END_LIMIT) {
        printf("lockstep: the guest did not end by tick %" PRIu64 "\n", vm.machine->vcpu.ticks);
        exit(3);
    }
    if (!want && (end != END_REQUEST || vm.machine->request_value != DEBUG_EXIT_0)) {
        printf("lockstep: FAILED: the guest did not end as it should, at tick %" PRIu64 "\n", vm.machine->vcpu.ticks);
        ok = false;
    }
    digester_destroy(d);
    vm_destroy(&vm);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: lockstep IMAGE SEED ENGINE...\n");
        return 2;
    }
    struct vm_spec spec = {.engine = "interp", .ram_len = RAM_LEN, .image = {.cmdline = ""}};
    uint64_t seed = strtoull(argv[2], NULL, 0);
    uint8_t *image = NULL;
    struct err *e = file_load("image", argv[1], spec.ram_len, &image, &spec.image.kernel_len);
    if (e)
        die(e);
    spec.image.kernel = image;
    struct trail trail = {0};
    bool ok = run_guest(&spec, seed, NULL, &trail);
    for (int i = 3; ok && i < argc; i++) {
        spec.engine = argv[i];
        ok = run_guest(&spec, seed, &trail, NULL);
    }
    if (ok)
        printf("lockstep: no difference: %" PRIu64 " ticks, %zu stops, %d engines\n", trail.at[trail.count - 1].ticks,
               trail.count, argc - 3);
    free(trail.at);
    free(image);
    return !ok;
}
