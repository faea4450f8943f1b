/* replay/timeline_event.c: what goes in and out of the guest, as probes: see TP_INPUT and TP_OUTPUT of timeline.h. */
#include <string.h>

#include "replay/timeline_impl.h"

static void report(struct timeline *t, enum timeline_probe_kind kind, bool (*hit)(struct timeline *, const char *text))
{
    for (size_t i = 0; t->armed_now && i < t->armed_count; i++) {
        const struct timeline_probe *p = &t->slot[t->armed_slot[i]].probe;
        if (p->kind == kind && (!hit || hit(t, p->text)))
            exec_probe_report(t->m, i);
    }
}

/* ---- input ---- */

void timeline_input(void *arg, const struct nondet_event *ev)
{
    struct timeline *t = arg;
    if (ev->kind == ND_CONSOLE && t->m->vcpu.ticks != t->skip_input)
        report(t, TP_INPUT, NULL);
}

/* ---- output ---- */

enum { STRETCH = 1 << 20 }; /* ticks replayed between two looks at what was printed */

enum ending { OTHER, UNKNOWN, SAME };

/* How what was printed so far ends. UNKNOWN: as the text, but the beginning of it is out of sight. */
static enum ending ending(const struct timeline *t, const char *text)
{
    size_t known, len = strlen(text);
    const uint8_t *printed = transcript_text(&t->console, &known);
    size_t n = MIN(known, len);
    if (n < len && known == t->console.at)
        return OTHER; /* it is all there is */
    if (n && memcmp(printed + known - n, text + len - n, n) != 0)
        return OTHER;
    return n == len ? SAME : UNKNOWN;
}

static bool may_end(struct timeline *t, const char *text)
{
    return ending(t, text) != OTHER;
}

void timeline_output(struct timeline *t, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        transcript_add(&t->console, t->m->clock.now_ticks, data + i, 1);
        report(t, TP_OUTPUT, may_end);
    }
    transcript_trim(&t->console, TIMELINE_CONSOLE);
}

struct err *timeline_check_output(struct timeline *t, const struct timeline_probe *p, bool *true_out, enum session_end *how)
{
    uint64_t here = t->m->vcpu.ticks, printed = t->console.at, from = t->move.from, to = t->move.to;
    size_t len = strlen(p->text), known;
    *how = END_LIMIT;
    *true_out = ending(t, p->text) == SAME;
    if (!t->replayer || ending(t, p->text) != UNKNOWN)
        return NULL;
    transcript_text(&t->console, &known);
    /* What is not known of it: a guest may have been silent for long since. */
    struct err *e = timeline_restore(t, checkpoints_before_output(t->checkpoints, here, printed - MIN(printed, len)));
    while (!e && *how == END_LIMIT && t->console.at < printed - known && t->m->vcpu.ticks < here)
        e = timeline_advance(t, MIN(here, t->m->vcpu.ticks + STRETCH), how);
    if (!e && *how == END_LIMIT)
        e = timeline_go(t, here, false, how);
    t->move.from = from;
    t->move.to = to;
    *true_out = !e && *how == END_LIMIT && ending(t, p->text) == SAME;
    return e;
}

/* ---- a live guest ---- */

static struct nondet *inner(void *self)
{
    return &((struct timeline *)self)->live_door;
}

static struct err *door_start(void *self, struct nondet_start *out)
{
    return inner(self)->ops->start(inner(self)->self, out);
}

static struct err *door_poll(void *self, uint64_t ticks, struct nondet_event *out)
{
    return inner(self)->ops->poll(inner(self)->self, ticks, out);
}

static uint64_t door_horizon(void *self)
{
    return inner(self)->ops->horizon_ticks(inner(self)->self);
}

static struct err *door_idle(void *self, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    return inner(self)->ops->idle(inner(self)->self, ticks, now_ns, deadline_ns, reached_out);
}

static void door_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    struct timeline *t = self;
    inner(self)->ops->output(inner(self)->self, stream, channel, data, len);
    if (nondet_on_console(stream, channel))
        timeline_output(t, data, len);
}

static const struct nondet_ops door_ops = {door_start, door_poll, door_horizon, door_idle, door_output};

void timeline_watch_live(struct timeline *t)
{
    t->live_door = t->m->nondet;
    t->m->nondet = (struct nondet){&door_ops, t};
    t->session->input = timeline_input;
    t->session->input_arg = t;
}

void timeline_unwatch_live(struct timeline *t)
{
    t->m->nondet = t->live_door;
    t->session->input = NULL;
}
