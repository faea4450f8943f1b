/* replay/timeline_run.c: running to a probe, forwards and backwards. See timeline.h.
 *
 * Backwards is forwards, over and over: from the checkpoint before the place up to it, with probes armed, remembering the
 * last hit; where there is none, from the checkpoint before that one up to it. Intervals with very many hits are halved,
 * so that a breakpoint in a busy loop costs no more than one that is rarely hit. */
#include <stdlib.h>

#include "replay/timeline_impl.h"

/* ---- the set of probes ---- */

static const enum exec_probe_kind exec_kind[TP_KINDS] = {
    [TP_EXECUTE] = PROBE_EXEC,   [TP_WRITE] = PROBE_WRITE, [TP_READ] = PROBE_READ,       [TP_ACCESS] = PROBE_ACCESS,
    [TP_VECTOR] = PROBE_VECTOR,  [TP_PORT] = PROBE_PORT,   [TP_OUTPUT] = PROBE_REPORTED, [TP_INPUT] = PROBE_REPORTED,
};

/* The array for the engine, in the order of slots. Room was made when the slots were. */
static void rebuild(struct timeline *t)
{
    t->armed_count = 0;
    for (size_t i = 0; i < t->slots; i++) {
        const struct timeline_probe *p = &t->slot[i].probe;
        if (!t->slot[i].used)
            continue;
        t->armed_slot[t->armed_count] = (unsigned)i;
        t->armed[t->armed_count++] = (struct exec_probe){exec_kind[p->kind], p->physical && p->kind != TP_EXECUTE, p->addr,
                                                        MAX(p->len, 1)};
    }
    t->probes_changed = true;
}

static struct err *grow(struct timeline *t)
{
    size_t n = t->slots ? 2 * t->slots : 16;
    struct probe_slot *slot = realloc(t->slot, n * sizeof(*slot));
    t->slot = slot ? slot : t->slot;
    struct exec_probe *armed = realloc(t->armed, n * sizeof(*armed));
    t->armed = armed ? armed : t->armed;
    unsigned *armed_slot = realloc(t->armed_slot, n * sizeof(*armed_slot));
    t->armed_slot = armed_slot ? armed_slot : t->armed_slot;
    if (!slot || !armed || !armed_slot)
        return err_new(ERR_HOST, "out of memory for another breakpoint");
    memset(slot + t->slots, 0, (n - t->slots) * sizeof(*slot));
    t->slots = n;
    return NULL;
}

struct err *timeline_probe_add(struct timeline *t, const struct timeline_probe *p, unsigned *number_out)
{
    size_t i = 0;
    while (i < t->slots && t->slot[i].used)
        i++;
    struct err *e = i == t->slots ? grow(t) : NULL;
    if (e)
        return e;
    t->slot[i] = (struct probe_slot){*p, true};
    *number_out = (unsigned)i;
    rebuild(t);
    return NULL;
}

void timeline_probe_remove(struct timeline *t, unsigned number)
{
    if (number >= t->slots || !t->slot[number].used)
        return;
    t->slot[number].used = false;
    rebuild(t);
}

/* ---- hits ---- */

struct found { bool any; uint64_t ticks; struct timeline_stop stop; };

_Static_assert((int)EXEC_PROBE_HITS_MAX <= (int)TIMELINE_HITS_MAX, "there is room for all");

/* What was hit just now and wants a stop. *how: END_LIMIT, or END_INTERRUPTED while something was looked up, which leaves the
 * guest elsewhere and nothing found; out->ticks is then where that was hit. */
static struct err *look_at_hits(struct timeline *t, struct found *out, enum session_end *how)
{
    const struct exec_probe_hit *hit;
    size_t n = exec_probe_hits(t->m, &hit);
    struct err *e = NULL;
    *out = (struct found){0};
    *how = END_LIMIT;
    for (size_t i = 0; !e && *how == END_LIMIT && i < n; i++) {
        unsigned slot = t->armed_slot[hit[i].probe];
        const struct timeline_probe *p = &t->slot[slot].probe;
        bool holds = true;
        if (p->kind == TP_OUTPUT)
            e = timeline_check_output(t, p, &holds, how);
        if (*how == END_INTERRUPTED)
            *out = (struct found){.ticks = hit[i].ticks};
        if (e || !holds || (p->condition && !p->condition(p->arg, t)))
            continue;
        out->any = true;
        out->ticks = hit[i].ticks;
        out->stop.why = TL_PROBE;
        out->stop.hit[out->stop.hits++] = (struct timeline_hit){slot, hit[i].addr, hit[i].write};
    }
    return e;
}

/* Go on from a stop: past the breakpoint that made it. After an access there may be one right here that is still to come. */
static void pass(struct timeline *t)
{
    const struct exec_probe_hit *hit;
    size_t n = exec_probe_hits(t->m, &hit);
    bool at_breakpoint = false;
    for (size_t i = 0; i < n; i++)
        at_breakpoint = at_breakpoint || t->armed[hit[i].probe].kind == PROBE_EXEC;
    exec_probes_skip(t->m, at_breakpoint ? t->m->vcpu.ticks : UINT64_MAX);
}

/* To a place that is close by: nobody is asked on the way, for half-way would be nowhere. */
static struct err *go_close(struct timeline *t, uint64_t ticks, bool near)
{
    enum session_end how;
    bool (*ask)(void *, uint64_t, uint64_t, uint64_t) = t->o.interrupted;
    t->o.interrupted = NULL;
    struct err *e = timeline_go(t, ticks, near, &how);
    t->o.interrupted = ask;
    return e;
}

/* ---- forwards ---- */

/* A probe may stop the guest at a position whose input was taken already. Positions are before their input, so go there anew. */
static struct err *settle(struct timeline *t)
{
    uint64_t ticks = t->m->vcpu.ticks;
    enum session_end how;
    if (!t->replayer || t->session->served_ticks != ticks)
        return NULL;
    struct err *e = timeline_restore(t, ticks);
    return e ? e : timeline_advance(t, ticks, &how);
}

static uint64_t next_regular(const struct timeline *t)
{
    uint64_t spacing = checkpoints_spacing(t->checkpoints);
    return (t->m->vcpu.ticks / spacing + 1) * spacing;
}

/* `beyond`: further than that, if there were more. */
static struct err *forwards(struct timeline *t, uint64_t to, bool beyond, struct timeline_stop *out)
{
    struct err *e = NULL;
    enum session_end how = END_LIMIT;
    t->move.from = t->m->vcpu.ticks;
    t->move.to = to;
    exec_probes_skip(t->m, t->m->vcpu.ticks);
    t->skip_input = t->m->vcpu.ticks;
    while (!e && how == END_LIMIT && t->m->vcpu.ticks < to) {
        uint64_t regular = t->replayer ? next_regular(t) : UINT64_MAX;
        e = timeline_execute(t, MIN(to, regular), true, &how);
        if (!e && how == END_LIMIT && t->m->vcpu.ticks == regular)
            e = timeline_mark(t, CHECKPOINT_REGULAR);
        if (e || how != END_PROBE)
            continue;
        struct found f;
        e = look_at_hits(t, &f, &how);
        if (!e && f.any) {
            *out = f.stop;
            return settle(t);
        }
        if (!e && how == END_INTERRUPTED) /* before what it was not found out about, so that it is met again */
            e = go_close(t, f.ticks, false);
        pass(t);
    }
    return e ? e : timeline_tell(t, how, beyond, out);
}

/* ---- backwards ---- */

/* One scan from the checkpoint that was just restored to `to`. *last: the last hit before `to`. Stops early after `max` hits: *full. */
static struct err *scan(struct timeline *t, uint64_t to, unsigned max, struct found *last, bool *full, enum session_end *how)
{
    struct err *e = NULL;
    unsigned hits = 0;
    *last = (struct found){0};
    *how = END_LIMIT;
    exec_probes_skip(t->m, t->rep_begun ? t->m->vcpu.ticks : UINT64_MAX);
    t->skip_input = UINT64_MAX;
    while (!e && *how == END_LIMIT && t->m->vcpu.ticks < to && hits < max) {
        e = timeline_execute(t, to, true, how);
        if (e || *how != END_PROBE)
            continue;
        struct found f;
        e = look_at_hits(t, &f, how);
        if (f.any)
            *last = f;
        hits += f.any;
        pass(t);
    }
    *full = hits == max;
    return e;
}

enum { SCAN_MAX = 2000, SMALL = 4096 }; /* hits after which an interval is halved; ticks that are not worth it */

/* The last hit before `from`. *interrupted_at: how far back was looked at when it was interrupted. */
static struct err *find_back(struct timeline *t, uint64_t from, struct found *out, bool *interrupted, uint64_t *looked)
{
    struct found floor = {0}; /* the answer, unless one turns up between here and `from` */
    uint64_t bottom = 0, hi = from;
    struct err *e = NULL;
    *interrupted = false;
    while (!e && hi > bottom) {
        struct found last;
        enum session_end how;
        bool full;
        uint64_t lo = MAX(checkpoints_before(t->checkpoints, hi - 1), bottom);
        *looked = hi;
        e = timeline_restore(t, lo);
        /* Without a checkpoint at `lo` (memory is short) halving would lead nowhere. */
        bool whole = hi - lo <= SMALL || t->m->vcpu.ticks != lo;
        if (!e)
            e = scan(t, hi, whole ? UINT32_MAX : SCAN_MAX, &last, &full, &how);
        if (e)
            break;
        if (full) {
            floor = last;
            bottom = t->m->vcpu.ticks;
            e = timeline_mark(t, CHECKPOINT_NEAR);
            if (!e && hi - bottom > SMALL)
                e = timeline_advance(t, bottom + (hi - bottom) / 2, &how);
            if (!e && hi - bottom > SMALL && how == END_LIMIT)
                e = timeline_mark(t, CHECKPOINT_NEAR);
        }
        if (how == END_INTERRUPTED) {
            *interrupted = true;
            return e;
        }
        if (!full && last.any) {
            floor = last;
            break;
        }
        if (!full)
            hi = lo;
    }
    *out = floor;
    return e;
}

static struct err *backwards(struct timeline *t, struct timeline_stop *out)
{
    uint64_t from = t->m->vcpu.ticks, looked = from;
    struct found f = {0};
    bool interrupted = false;
    t->move.from = from;
    t->move.to = 0;
    struct err *e = t->armed_count ? find_back(t, from, &f, &interrupted, &looked) : NULL;
    uint64_t to = interrupted ? looked : f.any ? f.ticks : 0;
    if (!e)
        e = go_close(t, to, true);
    if (e)
        return e;
    *out = f.stop;
    if (!f.any)
        *out = (struct timeline_stop){.why = interrupted ? TL_INTERRUPTED : TL_BEGIN};
    return NULL;
}

struct err *timeline_run(struct timeline *t, bool back, struct timeline_stop *out)
{
    if (back && !t->replayer)
        return err_new(ERR_UNSUPPORTED, "a live guest has no history to run back in");
    return back ? backwards(t, out) : forwards(t, t->end, true, out);
}

struct err *timeline_step(struct timeline *t, int64_t n, struct timeline_stop *out)
{
    uint64_t here = t->m->vcpu.ticks;
    enum session_end how;
    if (n >= 0)
        return forwards(t, MIN(here + (uint64_t)n, t->end), here + (uint64_t)n > t->end, out);
    if (!t->replayer)
        return err_new(ERR_UNSUPPORTED, "a live guest has no history to step back in");
    uint64_t wanted = -(uint64_t)n, back = MIN(wanted, here);
    struct err *e = timeline_go(t, here - back, true, &how);
    if (e)
        return e;
    e = timeline_tell(t, how, false, out);
    if (!e && back < wanted)
        out->why = TL_BEGIN;
    return e;
}
