/* replay/cmd_bisect.c: `hyperwind bisect`: the first instruction that two engines execute differently.
 *
 * One recording is replayed by both engines in lock-step, compared at every COARSE ticks. The digests of the recording
 * do not decide anything: a recording that neither engine reproduces is still good enough to compare the two.
 *
 * A difference is then narrowed by doing it all again, in ever smaller steps:
 *
 *     every COARSE ticks  ->  every FINE ticks in that stretch  ->  every tick in that one
 *
 * How an engine executes may depend on where it has to stop: a translator that is wrong about a whole block may be
 * right about each of its instructions. So one that is to stop at every tick is told to translate even the shortest
 * block (exact=1). If the difference is gone then, it is approached by halving: start again, run to the last good stop,
 * and from there in one go to the tick in question; no stop but the one that is looked at disturbs the engine. */
#include <stdlib.h>

#include "replay/commands.h"
#include "replay/compare.h"
#include "replay/options.h"
#include "replay/progress.h"
#include "replay/recording.h"
#include "replay/replayer.h"

enum { COARSE = 1000000, FINE = 1000 };
enum { A, B, SIDES };

struct side {
    const char *name, *spec; /* both name the engine; the second as it is now */
    struct log_reader *log;
    struct replayer *replayer;
    struct vm vm;
    struct session session;
    bool ended;
    enum session_end end;
    struct err *failed; /* ERR_DIVERGED: it cannot follow the recording any further */
};

struct bisect {
    const struct recording *rec;
    struct side side[SIDES];
    uint64_t limit;       /* compare no further; UINT64_MAX: to the end */
    char *exact;          /* engine A's spec with exact=1 */
    struct progress progress;

    /* The difference lies after tick `good`, and is there at tick `bad`. */
    uint64_t good, bad;
    uint64_t base;        /* the last coarse stop before it */
    bool narrow;          /* it was found at every tick */
    struct vcpu_state before; /* at `good` */
    struct exec_insn insn;    /* at `good` */
};

/* ---- one side ---- */

static void side_stop(struct side *s)
{
    err_destroy(s->failed);
    replayer_destroy(s->replayer);
    vm_destroy(&s->vm);
    s->failed = NULL;
    s->replayer = NULL;
}

static struct err *side_start(struct bisect *b, struct side *s, const char *spec)
{
    struct vm_spec vs = b->rec->spec;
    side_stop(s);
    vs.engine = s->spec = spec;
    struct err *e = replayer_create(s->log, NULL, NULL, &s->replayer);
    if (e)
        return e;
    replayer_tolerate(s->replayer);
    e = vm_create(&vs, replayer_door(s->replayer), &s->vm);
    if (e)
        return e;
    s->ended = false;
    s->end = END_LIMIT;
    s->session = (struct session){.machine = s->vm.machine, .engine = s->vm.engine, .hook = {.ticks = UINT64_MAX},
                                  .progress = progress_show, .progress_arg = &b->progress};
    return replayer_begin(s->replayer, s->vm.machine);
}

static uint64_t side_ticks(const struct side *s)
{
    return s->vm.machine->vcpu.ticks;
}

/* On to tick `to`, or to where this side ends. */
static struct err *side_run(struct bisect *b, struct side *s, uint64_t to)
{
    if (s->ended)
        return NULL;
    s->session.limit_ticks = MIN(MIN(to, b->limit), replayer_limit(s->replayer));
    struct err *e = session_run(&s->session, &s->end);
    bool recorded_end = !e && (s->end != END_LIMIT || side_ticks(s) >= replayer_limit(s->replayer));
    if (recorded_end)
        e = replayer_finish(s->replayer, s->end);
    s->ended = e || recorded_end || side_ticks(s) >= b->limit;
    if (!e || err_code(e) != ERR_DIVERGED)
        return e;
    s->failed = e;
    return NULL;
}

static struct compared side_compared(const struct side *s)
{
    return (struct compared){s->name, s->vm.machine, replayer_digester(s->replayer)};
}

/* ---- both ---- */

static bool same(const struct bisect *b)
{
    const struct side *x = &b->side[A], *y = &b->side[B];
    struct compared cx = side_compared(x), cy = side_compared(y);
    return x->ended == y->ended && x->end == y->end && !x->failed == !y->failed && compare_same(&cx, &cy);
}

static struct err *restart(struct bisect *b, const char *spec_a)
{
    struct err *e = side_start(b, &b->side[A], spec_a);
    return e ? e : side_start(b, &b->side[B], b->side[B].spec);
}

static struct err *run_both(struct bisect *b, uint64_t to)
{
    struct err *e = side_run(b, &b->side[A], to);
    return e ? e : side_run(b, &b->side[B], to);
}

/* What is to be known of the last good position, in case it is the last one. B is the side to be trusted. */
static void remember(struct bisect *b)
{
    struct machine *m = b->side[B].vm.machine;
    b->before = m->vcpu.s;
    exec_disassemble(m, &b->insn);
}

/* From where both are, and are equal, to tick `to` in steps. *found: they differ now, at most `step` ticks after
 * b->good. */
static struct err *scan(struct bisect *b, uint64_t to, uint64_t step, bool *found)
{
    *found = false;
    for (uint64_t at = side_ticks(&b->side[B]); at < to && !b->side[B].ended;) {
        if (step == 1)
            remember(b);
        uint64_t next = to - at > step ? at + step : to;
        struct err *e = run_both(b, next);
        if (e)
            return e;
        if (!same(b)) {
            b->good = at;
            b->bad = MIN(next, MAX(side_ticks(&b->side[A]), side_ticks(&b->side[B])));
            b->bad = MAX(b->bad, at + 1); /* a difference in what happens between two ticks */
            *found = true;
            return NULL;
        }
        at = next;
    }
    return NULL;
}

/* Again from the start: engine A as `spec`, in coarse steps to b->base. */
static struct err *go_back(struct bisect *b, const char *spec, bool *found)
{
    struct err *e = restart(b, spec);
    b->base = MIN(b->base, b->good);
    return e ? e : scan(b, b->base, COARSE, found);
}

/* Do the two differ at tick `to` when they get there from b->base in one go? */
static struct err *probe(struct bisect *b, const char *spec, uint64_t to, bool *differ)
{
    struct err *e = go_back(b, spec, differ);
    if (e || *differ)
        return e;
    e = run_both(b, to);
    *differ = !e && !same(b);
    return e;
}

/* ---- narrowing ---- */

static struct err *step_by(struct bisect *b, const char *spec, uint64_t step, bool *found)
{
    struct err *e = go_back(b, spec, found);
    if (e || *found)
        return e;
    uint64_t from = b->good, to = b->bad;
    if (from > b->base)
        e = run_both(b, from);
    *found = !e && !same(b); /* it shows earlier without the stops: b->good is too late */
    if (e || *found) {
        b->good = b->base;
        b->bad = from;
        return e;
    }
    return scan(b, to, step, found);
}

static struct err *halve(struct bisect *b, const char *spec, bool *found)
{
    struct err *e = probe(b, spec, b->bad, found);
    if (e || !*found)
        return e;
    while (b->bad - b->good > 1) {
        uint64_t middle = b->good + (b->bad - b->good) / 2;
        bool differ;
        e = probe(b, spec, middle, &differ);
        if (e)
            return e;
        *(differ ? &b->bad : &b->good) = middle;
    }
    /* For the report: what B was before, and both after. */
    e = go_back(b, spec, found);
    if (!e && !*found)
        e = side_run(b, &b->side[B], b->good);
    if (!e) {
        remember(b);
        e = run_both(b, b->bad);
    }
    *found = true;
    return e;
}

static struct err *narrow(struct bisect *b, bool *by_steps)
{
    const char *plain = b->side[A].name;
    bool found;
    b->base = b->good;
    *by_steps = true;
    struct err *e = step_by(b, plain, FINE, &found);
    if (!e)
        e = step_by(b, b->exact, 1, &found);
    b->narrow = found && b->bad - b->good == 1;
    if (e || b->narrow)
        return e;
    *by_steps = false;
    e = halve(b, b->exact, &found);
    if (!e && !found)
        e = halve(b, plain, &found);
    b->narrow = found;
    return e;
}

/* ---- verdict ---- */

static void print_insn(const struct bisect *b)
{
    fprintf(stderr, "  instruction at rip 0x%" PRIx64 ":", b->before.r[R_RIP]);
    for (unsigned i = 0; i < b->insn.len; i++)
        fprintf(stderr, " %02x", b->insn.bytes[i]);
    fprintf(stderr, "  %s\n  before it, on both:", b->insn.text);
    compare_print_registers(&b->before, stderr);
}

static void print_end(const struct side *s)
{
    if (s->failed)
        fprintf(stderr, "  %s leaves the recording at tick %" PRIu64 ": %s\n", s->name, side_ticks(s),
                err_message(s->failed));
    else if (s->ended)
        fprintf(stderr, "  %s ends at tick %" PRIu64 ": %s\n", s->name, side_ticks(s),
                log_end_reason_name(end_reason(s->vm.machine, s->end)));
}

static struct err *differ(const struct bisect *b, bool by_steps)
{
    const struct side *x = &b->side[A], *y = &b->side[B];
    struct compared cx = side_compared(x), cy = side_compared(y);
    fprintf(stderr, "  last equal position: tick %" PRIu64 "\n", b->good);
    fprintf(stderr, "  first different position: tick %" PRIu64 "\n", b->bad);
    if (b->narrow)
        print_insn(b);
    if (!by_steps)
        fprintf(stderr, "  %s differs only when it runs from tick %" PRIu64 " to tick %" PRIu64 " without a stop: what "
                "it makes of the instructions together is wrong, and the one named ends what must be run\n", x->spec,
                b->base, b->bad);
    fprintf(stderr, "  after it:\n");
    compare_print(&cx, &cy, b->narrow ? &b->before : NULL, stderr);
    print_end(x);
    print_end(y);
    if (!b->narrow)
        return err_new(ERR_DIVERGED, "%s and %s differ between ticks %" PRIu64 " and %" PRIu64
                       ", but not when they stop in between", x->name, y->name, b->good, b->bad);
    return err_new(ERR_DIVERGED, "%s and %s differ: the instruction at tick %" PRIu64 ", rip 0x%" PRIx64 ": %s",
                   x->name, y->name, b->good, b->before.r[R_RIP], b->insn.text);
}

static void agree(const struct bisect *b)
{
    const struct side *s = &b->side[B];
    struct log_pos at;
    const char *what;
    fprintf(stderr, "hyperwind: no difference: %s and %s agree on %" PRIu64 " ticks\n", b->side[A].name, s->name,
            side_ticks(s));
    if (replayer_disagreement(s->replayer, &at, &what))
        fprintf(stderr, "hyperwind: both disagree with the recording, first at event %" PRIu64 ", tick %" PRIu64
                ": %s\n", at.seq, at.ticks, what);
}

static struct err *bisect(struct bisect *b)
{
    bool found, by_steps;
    struct err *e = restart(b, b->side[A].spec);
    if (!e)
        e = scan(b, UINT64_MAX, COARSE, &found);
    if (e)
        return e;
    if (!found) {
        progress_end(&b->progress);
        agree(b);
        return NULL;
    }
    b->progress.what = "narrowing down";
    b->progress.total_ticks = 0;
    e = narrow(b, &by_steps);
    progress_end(&b->progress);
    return e ? e : differ(b, by_steps);
}

/* ---- the command ---- */

static struct err *compare_engines(const struct options *o, const char *spec_a, const char *spec_b)
{
    struct recording rec;
    struct bisect b = {.rec = &rec, .limit = o->limit_ticks,
                       .side = {{.name = spec_a, .spec = spec_a}, {.name = spec_b, .spec = spec_b}}};
    struct err *e = recording_open(o->file, o->force, &rec);
    if (e)
        return e;
    uint64_t ticks = log_reader_summary(rec.log).last.ticks;
    b.side[A].log = rec.log;
    e = log_reader_open(o->file, &b.side[B].log);
    if (!e && asprintf(&b.exact, "%s%sexact=1", spec_a, strchr(spec_a, ':') ? "," : ":") < 0) {
        b.exact = NULL;
        e = err_new(ERR_HOST, "out of memory");
    }
    progress_start(&b.progress, "comparing", MIN(ticks, o->limit_ticks));
    if (!e)
        e = bisect(&b);
    progress_end(&b.progress);
    side_stop(&b.side[A]);
    side_stop(&b.side[B]);
    log_reader_close(b.side[B].log);
    free(b.exact);
    recording_close(&rec);
    return e ? err_wrap(e, "%s", o->file) : NULL;
}

struct err *cmd_bisect(int argc, char **argv, int *status)
{
    struct options o;
    (void)status;
    struct err *e = options_parse(CMD_BISECT, argc, argv, &o);
    if (e)
        return e;
    const char *a = o.engine ? o.engine : "dbt", *b = o.against ? o.against : "interp";
    e = engine_check(a);
    if (!e)
        e = engine_check(b);
    return e ? e : compare_engines(&o, a, b);
}
