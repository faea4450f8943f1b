/* tests/replay/probes.c: probes (exec/engine.h) hit where they should, on every engine, and the guest does not notice.
 *
 *   probes IMAGE SEED ENGINE...
 *
 * A guest is run by the interpreter, tick by tick, by somebody who knows nothing of probes: he looks at RIP before each
 * tick and at memory after it. Then by each engine, with probes set, and changed now and then: hundreds of breakpoints
 * at addresses that the guest executes, and watchpoints where it has data. What must agree:
 *  - breakpoints: their hits with what was seen from outside;
 *  - watchpoints: each change of their memory that was seen is a hit that wrote; all hits on all engines are the same, those
 *    of vectors and ports too;
 *  - the guest's state, now and then and at its end.
 * For small guests that end by debug exit with value 0; status 3: it does not end at all. */
#include <stdio.h>
#include <stdlib.h>

#include "exec/engine.h"
#include "exec/x86/cpu.h"
#include "replay/digest.h"
#include "replay/file.h"
#include "replay/session.h"
#include "replay/vm.h"
#include "tests/replay/cut_off.h"

enum {
    RAM_LEN = 32 << 20, TICKS_MAX = 3000000, DEBUG_EXIT_0 = 1,
    SETS = 24,              /* the set changes so many times, less one */
    EXECS_MAX = 400, DATA_MAX = 6, WATCHED_MAX = 600, /* bytes */
    CANDIDATES = 4096,
};

static _Noreturn void die(struct err *e)
{
    fprintf(stderr, "probes: %s\n", err_message(e));
    exit(2);
}

static void *grow(void *p, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return p;
    *room = *room ? 2 * *room : 1024;
    p = realloc(p, *room * size);
    if (!p)
        exit(2);
    return p;
}

/* ---- what is compared ---- */

struct hit { uint64_t ticks, addr; uint32_t set, probe; uint8_t kind; bool write; };
struct hits { struct hit *at; size_t count, room; };

static void add_hit(struct hits *h, struct hit x)
{
    h->at = grow(h->at, h->count, &h->room, sizeof(*h->at));
    h->at[h->count++] = x;
}

struct state { uint64_t ticks, registers, devices, memory; };

/* ---- which probes, and when ---- */

struct set { uint64_t from; struct exec_probe probe[EXECS_MAX + DATA_MAX]; size_t count; };
struct plan { struct set set[SETS]; };

/* Some of many, each as likely; and the first of all. */
struct sample { uint64_t x[CANDIDATES], first; size_t count; uint64_t seen; };

static void sample(struct sample *s, uint64_t x)
{
    if (!s->seen++)
        s->first = x;
    if (s->count < CANDIDATES)
        s->x[s->count++] = x;
    else if (below(s->seen) < CANDIDATES)
        s->x[below(CANDIDATES)] = x;
}

static uint64_t one_of(const struct sample *s) { return s->count ? s->x[below(s->count)] : below(RAM_LEN); }

static struct exec_probe random_data(const struct sample *data)
{
    static const uint64_t longest[] = {1, 8, 64, WATCHED_MAX};
    if (!below(4))
        return (struct exec_probe){.kind = PROBE_VECTOR, .addr = below(64), .len = 1 + below(32)};
    if (!below(8))
        return (struct exec_probe){.kind = PROBE_PORT, .addr = below(0x1000), .len = 1 + below(0x1000)};
    struct exec_probe p = {.kind = (enum exec_probe_kind)(PROBE_WRITE + below(3)), .physical = below(2)};
    uint64_t at = one_of(data) + below(16);
    p.addr = p.physical ? at % RAM_LEN : at;
    p.len = 1 + below(longest[below(ARRAY_LEN(longest))]);
    p.len = MIN(p.len, UINT64_MAX - p.addr);
    return p;
}

/* Many sets are a part of the one before, and something else; the first has the guest's first instruction. */
static void make_plan(struct plan *plan, const struct sample *code, const struct sample *data, uint64_t ticks)
{
    for (unsigned i = 0; i < SETS; i++) {
        struct set *s = &plan->set[i];
        size_t execs = below(4) ? below(8) : below(EXECS_MAX);
        s->count = 0;
        s->from = i ? plan->set[i - 1].from + 1 + below(2 * ticks / SETS) : 0;
        for (size_t k = 0; k < execs; k++) {
            const struct set *before = i && below(2) ? s - 1 : NULL;
            struct exec_probe p = {.kind = PROBE_EXEC, .addr = one_of(code), .len = 1};
            if (before && before->count && before->probe[k % before->count].kind == PROBE_EXEC)
                p = before->probe[k % before->count];
            s->probe[s->count++] = p;
        }
        if (i == 0)
            s->probe[s->count++] = (struct exec_probe){.kind = PROBE_EXEC, .addr = code->first, .len = 1};
        for (size_t k = below(DATA_MAX + 1); k-- > 0; )
            s->probe[s->count++] = random_data(data);
    }
}

/* ---- somebody between session and engine ---- */

struct observer {
    struct engine e;
    struct engine *inner;
    const struct plan *plan;
    unsigned set;
    struct hits hits;
    bool outside; /* looks at RIP and memory instead */
    /* of the outside */
    uint64_t rep_ticks; /* where a REP instruction goes on that began before; UINT64_MAX: nowhere */
    uint8_t watched[DATA_MAX][WATCHED_MAX];
    /* of the first run, which finds candidates */
    struct sample *code, *data;
};

static uint64_t lin_rip(struct vcpu *v)
{
    return (v->s.r[R_RIP] + cpu_of(v)->seg_base[S_CS]) & cpu_of(v)->lin_mask;
}

/* Whether an event comes before the next instruction (SDM vol. 3, table 6-2 and 6.8). */
static bool event_first(const struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    if (s->shadow & SHADOW_MOVSS)
        return false;
    return s->pending_db || (s->nmi_pending && !s->nmi_blocked) || (v->intr && (s->rflags & FL_IF) && !s->shadow);
}

static bool is_rep(struct machine *m)
{
    struct exec_insn in;
    exec_disassemble(m, &in);
    return !strncmp(in.text, "rep", 3);
}

/* Where contents may be compared. With paging, writes to other linear addresses change a linear address's memory. */
static bool comparable(const struct exec_probe *p)
{
    return (p->kind == PROBE_WRITE || p->kind == PROBE_ACCESS) && p->addr <= RAM_LEN - p->len;
}

static void look_at_memory(struct observer *o)
{
    const struct set *s = &o->plan->set[o->set];
    for (size_t i = 0, k = 0; i < s->count; i++)
        if (s->probe[i].kind != PROBE_EXEC) {
            if (comparable(&s->probe[i]))
                mem_read(&o->e.machine->mem, gpa(s->probe[i].addr), o->watched[k], s->probe[i].len);
            k++;
        }
}

/* Accessed and dirty bits, which page walks set, are no writes. */
static bool changed_by_write(uint8_t before, uint8_t after, uint64_t at)
{
    enum { PTE_A = 0x20, PTE_D = 0x40 };
    bool by_walk = at % 4 == 0 && !(before & ~after) && !((before ^ after) & ~(PTE_A | PTE_D));
    return before != after && !by_walk;
}

static void find_changes(struct observer *o, uint64_t ticks)
{
    const struct set *s = &o->plan->set[o->set];
    uint8_t now[WATCHED_MAX];
    for (size_t i = 0, k = 0; i < s->count; i++) {
        const struct exec_probe *p = &s->probe[i];
        if (p->kind == PROBE_EXEC)
            continue;
        uint8_t *before = o->watched[k++];
        if (!comparable(p))
            continue;
        mem_read(&o->e.machine->mem, gpa(p->addr), now, p->len);
        if (!memcmp(now, before, p->len))
            continue;
        bool written = false, paging = o->e.machine->vcpu.s.cr0 & CR0_PG;
        for (size_t b = 0; b < p->len; b++)
            written |= changed_by_write(before[b], now[b], p->addr + b);
        memcpy(before, now, p->len);
        if (written && (p->physical || !paging))
            add_hit(&o->hits, (struct hit){ticks, p->addr, o->set, (uint32_t)i, (uint8_t)p->kind, true});
    }
}

static enum engine_stop step_outside(struct observer *o)
{
    struct machine *m = o->e.machine;
    struct vcpu *v = &m->vcpu;
    uint64_t ticks = v->ticks, rip = lin_rip(v);
    bool insn = !event_first(v) && v->s.activity == VCPU_ACTIVE, begun = o->rep_ticks == ticks;
    bool rep = insn && is_rep(m);
    enum engine_stop stop = o->inner->ops->run(o->inner, ticks + 1);
    if (v->ticks == ticks)
        return stop;
    const struct set *s = &o->plan->set[o->set];
    if (rep && lin_rip(v) == rip)
        o->rep_ticks = v->ticks;
    for (size_t i = 0, found = 0; insn && !begun && i < s->count && found < EXEC_PROBE_HITS_MAX; i++)
        if (s->probe[i].kind == PROBE_EXEC && s->probe[i].addr == rip && ++found)
            add_hit(&o->hits, (struct hit){.ticks = ticks, .addr = rip, .set = o->set, .probe = (uint32_t)i});
    find_changes(o, ticks);
    return stop;
}

static void take_hits(struct observer *o)
{
    struct machine *m = o->e.machine;
    const struct exec_probe_hit *h;
    size_t n = exec_probe_hits(m, &h);
    if (!n)
        printf("probes: STOP_PROBE without a hit at tick %" PRIu64 "\n", m->vcpu.ticks);
    for (size_t i = 0; i < n; i++) {
        const struct exec_probe *p = &o->plan->set[o->set].probe[h[i].probe];
        uint64_t at = m->vcpu.ticks - (p->kind != PROBE_EXEC);
        if (h[i].ticks != at)
            printf("probes: a hit at tick %" PRIu64 " says %" PRIu64 "\n", at, h[i].ticks);
        struct hit x = {h[i].ticks, h[i].addr, o->set, (uint32_t)h[i].probe, (uint8_t)p->kind, h[i].write};
        add_hit(&o->hits, x);
        if (o->data)
            sample(o->data, h[i].addr);
        if (p->kind == PROBE_EXEC)
            exec_probes_skip(m, m->vcpu.ticks);
    }
}

static void select_set(struct observer *o, unsigned set)
{
    const struct set *s = &o->plan->set[o->set = set];
    if (o->outside) {
        look_at_memory(o);
        return;
    }
    for (unsigned i = 0; i < 3; i++) { /* as debuggers do: all gone, and back */
        struct err *e = exec_probes_set(o->e.machine, s->probe, i == 1 ? 0 : s->count);
        if (e)
            die(e);
    }
}

static enum engine_stop observer_run(struct engine *e, uint64_t until)
{
    struct observer *o = (struct observer *)e;
    struct vcpu *v = &e->machine->vcpu;
    if (!v->ticks && !o->set)
        select_set(o, 0);
    for (;;) {
        enum engine_stop stop;
        uint64_t change = o->set + 1 < SETS && o->plan ? o->plan->set[o->set + 1].from : UINT64_MAX;
        if (o->code)
            sample(o->code, lin_rip(v));
        if (o->outside && v->ticks < until)
            stop = step_outside(o);
        else
            stop = o->inner->ops->run(o->inner, MIN(MIN(until, change), o->code ? v->ticks + 1 : UINT64_MAX));
        if (stop == STOP_PROBE)
            take_hits(o);
        if (v->ticks >= change)
            select_set(o, o->set + 1);
        bool goes_on = stop == STOP_TICKS || stop == STOP_PROBE;
        if (v->ticks >= until || !goes_on)
            return goes_on ? STOP_TICKS : stop; /* the session is not to end at a probe */
    }
}

static const struct engine_ops observer_ops = {.name = "observer", .run = observer_run};

/* ---- runs ---- */

enum { LOOK_EVERY = 50000 };
struct trail { struct state at[TICKS_MAX / LOOK_EVERY + 2]; size_t count; };

static bool same_state(const struct state *a, const struct state *b)
{
    return a->ticks == b->ticks && a->registers == b->registers && a->devices == b->devices && a->memory == b->memory;
}

/* False: it did not come to its end. */
static bool run_guest(struct vm_spec *spec, const char *engine, struct observer *o, struct trail *t)
{
    struct vm vm;
    struct digester *d;
    spec->engine = engine;
    struct err *e = vm_create(spec, (struct nondet){&cut_off_door, NULL}, &vm);
    if (!e)
        e = digester_create(vm.machine, &d);
    if (e)
        die(e);
    o->e = (struct engine){&observer_ops, vm.machine};
    o->inner = vm.engine;
    struct session s = {.machine = vm.machine, .engine = &o->e, .hook = {.ticks = UINT64_MAX}};
    enum session_end end = END_LIMIT;
    while (end == END_LIMIT && vm.machine->vcpu.ticks < TICKS_MAX) {
        s.limit_ticks = vm.machine->vcpu.ticks + LOOK_EVERY;
        e = session_run(&s, &end);
        if (e)
            die(e);
        const struct machine *m = vm.machine;
        t->at[t->count++] = (struct state){m->vcpu.ticks, vcpu_digest(&m->vcpu.s, VG_COUNT), machine_devices_digest(m),
                                           digest_memory(d).total};
        if (!o->outside && !o->code && !below(4)) /* probes outlive what is derived */
            exec_state_changed(vm.machine);
    }
    bool ok = end == END_REQUEST && vm.machine->request_value == DEBUG_EXIT_0;
    digester_destroy(d);
    vm_destroy(&vm);
    return ok;
}

/* ---- comparisons ---- */

static void print_hit(const char *who, const struct hit *h, const struct plan *plan)
{
    static const char *const kind[] = {"exec", "write", "read", "access", "vector", "port"};
    const struct exec_probe *p = &plan->set[h->set].probe[h->probe];
    printf("  %s: tick %" PRIu64 ", %s of %#" PRIx64 "+%" PRIu64 "%s at %#" PRIx64 "%s (set %u, probe %u)\n", who,
           h->ticks, kind[p->kind], p->addr, p->len, p->physical ? " physical" : "", h->addr, h->write ? ", write" : "",
           h->set, h->probe);
}

static bool differ(const char *engine, const struct plan *plan, const struct hit *want, const struct hit *got)
{
    printf("probes: FAILED: %s\n", engine);
    if (want)
        print_hit("expected", want, plan);
    if (got)
        print_hit("found", got, plan);
    return false;
}

static int by_probe(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->ticks != y->ticks)
        return x->ticks < y->ticks ? -1 : 1;
    bool data_x = x->kind != PROBE_EXEC, data_y = y->kind != PROBE_EXEC;
    return data_x != data_y ? data_x - data_y : x->probe < y->probe ? -1 : x->probe > y->probe;
}

/* Only PROBE_EXEC, of at most EXEC_PROBE_HITS_MAX at a tick; and that each change was reported. */
static bool matches_outside(const char *engine, const struct plan *plan, const struct hits *outside,
                            const struct hits *h)
{
    size_t k = 0;
    for (size_t i = 0; i < outside->count; i++) {
        const struct hit *want = &outside->at[i];
        while (k < h->count && by_probe(&h->at[k], want) < 0) {
            if (h->at[k].kind == PROBE_EXEC)
                return differ(engine, plan, want, &h->at[k]);
            k++;
        }
        const struct hit *got = k < h->count ? &h->at[k] : NULL;
        if (!got || by_probe(got, want) || got->set != want->set || got->write != want->write)
            return differ(engine, plan, want, got);
        k++;
    }
    for (; k < h->count; k++)
        if (h->at[k].kind == PROBE_EXEC)
            return differ(engine, plan, NULL, &h->at[k]);
    return true;
}

static bool same_hits(const char *engine, const struct plan *plan, const struct hits *want, const struct hits *got)
{
    for (size_t i = 0; i < MAX(want->count, got->count); i++) {
        const struct hit *a = i < want->count ? &want->at[i] : NULL, *b = i < got->count ? &got->at[i] : NULL;
        bool same = a && b && !by_probe(a, b) && a->addr == b->addr && a->set == b->set && a->write == b->write;
        if (!same)
            return differ(engine, plan, a, b);
    }
    return true;
}

static bool same_trail(const char *engine, const struct trail *a, const struct trail *b)
{
    for (size_t i = 0; i < MAX(a->count, b->count); i++)
        if (i >= a->count || i >= b->count || !same_state(&a->at[i], &b->at[i])) {
            printf("probes: FAILED: the guest on %s differs after tick %" PRIu64 "\n", engine,
                   i ? a->at[i - 1].ticks : 0);
            return false;
        }
    return true;
}

/* Hits of one tick come in the order of the set. */
static void sort(struct hits *h) { qsort(h->at, h->count, sizeof(*h->at), by_probe); }

int main(int argc, char **argv)
{
    static struct sample code, data;
    static struct plan all = {.set = {{.count = 1, .probe = {{.kind = PROBE_ACCESS, .len = UINT64_MAX}}}}}, plan;
    static struct trail first, trail;
    if (argc < 4) {
        fprintf(stderr, "usage: probes IMAGE SEED ENGINE...\n");
        return 2;
    }
    struct vm_spec spec = {.ram_len = RAM_LEN, .image = {.cmdline = ""}};
    uint8_t *image = NULL;
    struct err *e = file_load("image", argv[1], spec.ram_len, &image, &spec.image.kernel_len);
    if (e)
        die(e);
    spec.image.kernel = image;
    rng_state = strtoull(argv[2], NULL, 0);

    for (unsigned i = 1; i < SETS; i++)
        all.set[i].from = UINT64_MAX;
    struct observer scout = {.plan = &all, .code = &code, .data = &data};
    if (!run_guest(&spec, "interp", &scout, &first)) {
        printf("probes: the guest did not end\n");
        free(scout.hits.at);
        free(image);
        return 3;
    }
    make_plan(&plan, &code, &data, first.at[first.count - 1].ticks);
    struct observer outside = {.plan = &plan, .outside = true, .rep_ticks = UINT64_MAX};
    run_guest(&spec, "interp", &outside, &trail);
    sort(&outside.hits);
    bool ok = same_trail("interp with a probe everywhere", &trail, &first);

    struct hits want = {0};
    for (int i = 3; ok && i < argc; i++) {
        struct observer o = {.plan = &plan};
        first.count = 0;
        run_guest(&spec, argv[i], &o, &first);
        sort(&o.hits);
        ok = same_trail(argv[i], &trail, &first) && matches_outside(argv[i], &plan, &outside.hits, &o.hits) &&
             (i == 3 || same_hits(argv[i], &plan, &want, &o.hits));
        if (i == 3)
            want = o.hits;
        else
            free(o.hits.at);
    }
    if (ok)
        printf("probes: no difference: %" PRIu64 " ticks, %zu accesses, %zu hits seen from outside, %zu in all, "
               "%d engines\n", trail.at[trail.count - 1].ticks, scout.hits.count, outside.hits.count, want.count,
               argc - 3);
    free(scout.hits.at);
    free(outside.hits.at);
    free(want.at);
    free(image);
    return !ok;
}
