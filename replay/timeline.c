/* replay/timeline.c: a recording as something to move in. See timeline.h and timeline_impl.h.
 *
 * To be at a position is to have restored a checkpoint before it and to have executed the rest. What makes that fast is
 * where checkpoints are: at regular distances, left behind by whoever passes for the first time, and close before a place
 * where somebody goes backwards, each eight times closer than the one before (approach()). */
#include "replay/timeline_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "replay/digest.h"

/* ---- executing ---- */

static bool ask(void *arg, const struct machine *m)
{
    struct timeline *t = arg;
    uint64_t at = m->vcpu.ticks;
    /* Where inputs were taken already a replay does not stop; nor twice at one position, or it would never move. */
    if (t->replayer && (at == t->move.asked || at == t->session->served_ticks))
        return false;
    t->move.asked = at;
    return t->o.interrupted && t->o.interrupted(t->o.arg, t->move.from, at, t->move.to);
}

static struct err *arm(struct timeline *t, bool probes)
{
    if (probes == t->armed_now && !(probes && t->probes_changed))
        return NULL;
    struct err *e = exec_probes_set(t->m, t->armed, probes ? t->armed_count : 0);
    if (e)
        return e;
    t->armed_now = probes;
    t->probes_changed = t->probes_changed && !probes;
    return NULL;
}

static struct err *verdict(const struct timeline *t)
{
    return t->verdict ? err_new(err_code(t->verdict), "%s", err_message(t->verdict)) : NULL;
}

struct err *timeline_execute(struct timeline *t, uint64_t to, bool probes, enum session_end *how)
{
    uint64_t from = t->m->vcpu.ticks;
    *how = t->ended ? t->how : END_LIMIT;
    if (t->ended)
        return verdict(t);
    if (from >= to)
        return NULL;
    struct err *e = arm(t, probes && t->armed_count);
    if (e)
        return e;
    t->session->limit_ticks = to;
    e = session_run(t->session, how);
    t->replayed += t->m->vcpu.ticks - from;
    bool own_end = *how != END_LIMIT && *how != END_PROBE && *how != END_INTERRUPTED;
    uint64_t limit = t->replayer ? replayer_limit(t->replayer) : t->end;
    bool limit_end = *how == END_LIMIT && t->m->vcpu.ticks >= limit;
    if (e || (!own_end && !limit_end))
        return e;
    t->ended = true;
    t->how = *how;
    t->verdict = t->replayer ? replayer_finish(t->replayer, *how) : NULL;
    return verdict(t);
}

struct err *timeline_mark(struct timeline *t, enum checkpoint_kind kind)
{
    if (t->session->served_ticks == t->m->vcpu.ticks)
        return NULL; /* a hit made it stop behind the inputs of this position */
    struct replayer_mark mark = replayer_mark(t->replayer);
    return checkpoints_take(t->checkpoints, kind, &mark);
}

struct err *timeline_restore(struct timeline *t, uint64_t ticks)
{
    struct replayer_mark mark;
    struct err *e = checkpoints_restore(t->checkpoints, checkpoints_before(t->checkpoints, ticks), &mark);
    if (e)
        return e;
    t->ended = false;
    err_destroy(t->verdict);
    t->verdict = NULL;
    t->own.served_ticks = UINT64_MAX;
    t->rep_begun = mark.rep_begun;
    t->console.at = mark.console_bytes;
    t->move.asked = UINT64_MAX;
    return replayer_return(t->replayer, &mark);
}

struct err *timeline_advance(struct timeline *t, uint64_t to, enum session_end *how)
{
    struct err *e = NULL;
    *how = END_LIMIT;
    while (!e && *how == END_LIMIT && t->m->vcpu.ticks < to) {
        uint64_t spacing = checkpoints_spacing(t->checkpoints), at = t->m->vcpu.ticks;
        uint64_t regular = (at / spacing + 1) * spacing;
        e = timeline_execute(t, MIN(to, regular), false, how);
        if (!e && *how == END_LIMIT && t->m->vcpu.ticks == regular)
            e = timeline_mark(t, CHECKPOINT_REGULAR);
    }
    return e;
}

/* Where checkpoints are left on the way to a place that is looked at backwards: so many ticks before it. The last distance is
 * what one step back costs; each of the others is paid once in eight times as many. */
static const uint64_t near_distances[] = {UINT64_C(1) << 21, UINT64_C(1) << 18, UINT64_C(1) << 15, UINT64_C(1) << 12,
                                          UINT64_C(1) << 9};

static struct err *approach(struct timeline *t, uint64_t to, enum session_end *how)
{
    struct err *e = NULL;
    *how = END_LIMIT;
    for (size_t i = 0; !e && *how == END_LIMIT && i < ARRAY_LEN(near_distances); i++) {
        uint64_t at = to - MIN(to, near_distances[i]);
        if (at <= t->m->vcpu.ticks)
            continue;
        e = timeline_advance(t, at, how);
        if (!e && *how == END_LIMIT)
            e = timeline_mark(t, CHECKPOINT_NEAR);
    }
    return e;
}

struct err *timeline_go(struct timeline *t, uint64_t ticks, bool near, enum session_end *how)
{
    uint64_t here = t->m->vcpu.ticks;
    bool onward = ticks >= here && checkpoints_before(t->checkpoints, ticks) <= here;
    struct err *e = NULL;
    *how = END_LIMIT;
    t->move.from = here;
    t->move.to = ticks;
    if (ticks == here)
        return NULL;
    if (!onward)
        e = timeline_restore(t, ticks);
    if (!e && near)
        e = approach(t, ticks, how);
    if (!e && *how == END_LIMIT)
        e = timeline_advance(t, ticks, how);
    return e;
}

/* ---- saying why ---- */

static void tell_end(struct timeline *t, struct timeline_stop *out)
{
    const char *text = "the recording was cut short here";
    out->why = TL_END;
    if (!t->replayer) {
        text = log_end_reason_name(end_reason(t->m, t->how));
        out->status = vm_end_status(t->m, t->how);
    } else if (replayer_end(t->replayer).complete) {
        text = log_end_reason_name(replayer_end(t->replayer).reason);
    }
    snprintf(out->text, sizeof(out->text), "%s", text);
}

struct err *timeline_tell(struct timeline *t, enum session_end how, bool beyond, struct timeline_stop *out)
{
    *out = (struct timeline_stop){.why = how == END_INTERRUPTED ? TL_INTERRUPTED : TL_REACHED};
    if (t->ended || (beyond && t->replayer && out->why == TL_REACHED))
        tell_end(t, out);
    return verdict(t);
}

/* ---- seeking ---- */

static struct err *no_past(void)
{
    return err_new(ERR_UNSUPPORTED, "a live guest has no history to move in; record it, and debug the recording");
}

struct err *timeline_seek(struct timeline *t, uint64_t ticks, struct timeline_stop *out)
{
    enum session_end how;
    if (!t->replayer)
        return no_past();
    struct err *e = timeline_go(t, MIN(ticks, t->end), ticks < t->m->vcpu.ticks, &how);
    if (e)
        return e;
    return timeline_tell(t, how, ticks > t->end, out);
}

/* ---- life ---- */

static void output(void *arg, const uint8_t *data, size_t len)
{
    timeline_output(arg, data, len);
}

static struct err *build(struct timeline *t, const char *path)
{
    struct err *e = recording_open(path, t->o.force, &t->rec);
    if (!e)
        e = replayer_create(t->rec.log, output, t, &t->replayer);
    if (e)
        return e;
    struct vm_spec spec = t->rec.spec;
    spec.engine = t->o.engine;
    e = vm_create(&spec, replayer_door(t->replayer), &t->vm);
    if (e)
        return e;
    t->m = t->vm.machine;
    t->end = replayer_end(t->replayer).ticks;
    t->own = (struct session){.machine = t->m, .engine = t->vm.engine, .hook = {.ticks = UINT64_MAX},
                              .interrupted = ask, .interrupted_arg = t, .served_ticks = UINT64_MAX,
                              .input = timeline_input, .input_arg = t};
    /* The store first: it has to see all that the boot loader has written. */
    e = checkpoints_create(t->m, t->o.checkpoint_memory, &t->checkpoints);
    if (e)
        return e;
    checkpoints_set_spacing(t->checkpoints, t->o.spacing);
    e = replayer_begin(t->replayer, t->m);
    if (!e)
        e = timeline_mark(t, CHECKPOINT_REGULAR);
    if (!e)
        e = log_reader_open(path, &t->stored);
    return e ? e : checkpoints_import(t->checkpoints, t->stored);
}

static struct timeline *new(const struct timeline_options *o)
{
    struct timeline *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->o = *o;
    t->o.checkpoint_memory = o->checkpoint_memory ? o->checkpoint_memory : TIMELINE_MEMORY;
    t->o.spacing = o->spacing ? o->spacing : TIMELINE_SPACING;
    t->session = &t->own;
    t->move.asked = UINT64_MAX;
    return t;
}

struct err *timeline_open(const char *path, const struct timeline_options *o, struct timeline **out)
{
    struct timeline *t = new(o);
    if (!t)
        return err_new(ERR_HOST, "out of memory");
    struct err *e = build(t, path);
    if (e) {
        timeline_close(t);
        return recording_wrap(e, path);
    }
    *out = t;
    return NULL;
}

struct err *timeline_over(struct session *s, bool recording, const struct timeline_options *o, struct timeline **out)
{
    struct timeline *t = new(o);
    if (!t)
        return err_new(ERR_HOST, "out of memory");
    t->session = s;
    t->m = s->machine;
    t->end = s->limit_ticks;
    t->live_recorded = recording;
    s->interrupted = ask;
    s->interrupted_arg = t;
    timeline_watch_live(t);
    *out = t;
    return NULL;
}

void timeline_close(struct timeline *t)
{
    if (!t)
        return;
    if (t->session != &t->own) {
        t->session->interrupted = NULL;
        timeline_unwatch_live(t);
    }
    checkpoints_destroy(t->checkpoints);
    replayer_destroy(t->replayer);
    vm_destroy(&t->vm);
    recording_close(&t->rec);
    log_reader_close(t->stored);
    log_reader_close(t->events);
    transcript_deinit(&t->console);
    err_destroy(t->verdict);
    free(t->slot);
    free(t->armed);
    free(t->armed_slot);
    free(t);
}
