/* replay/recorder.c: the recording door. See recorder.h. */
#include "replay/recorder.h"

#include <stdlib.h>

#include "replay/digest.h"
#include "replay/live.h"
#include "replay/stored.h"

/* A killed recorder loses what is younger than this, and at most a digest period more. */
#define FLUSH_NS (NS_PER_S / 2)
#define MEMORY_NS (NS_PER_S / 20)

struct recorder {
    struct nondet inner;
    struct log_writer *w;
    struct machine *m;
    struct digester *digester;
    uint8_t *image;           /* scratch for register images */
    uint64_t next_digest;     /* ticks */
    uint64_t group_ticks;     /* the position whose inputs have their digest already */
    bool group_open;
    uint64_t flushed_host_ns;
    uint64_t output_bytes, memory_digest;
    uint64_t memory_ticks, memory_host_ns; /* of the last memory digest */
    struct log_pos good, good_memory; /* of the last register digest, and of the last one of memory */
    uint64_t console_bytes;
    uint64_t checkpoint_ns, checkpoint_host_ns, checkpoint_ticks; /* 0: none; when and where the last one was taken */
    struct stored_writer *stored;
};

static struct err *write_event(struct recorder *r, const struct log_event *ev)
{
    return log_writer_event(r->w, r->m ? r->m->vcpu.ticks : 0, ev);
}

static struct log_pos here(const struct recorder *r)
{
    return (struct log_pos){log_writer_next_seq(r->w), r->m->vcpu.ticks};
}

static struct err *write_digest(struct recorder *r)
{
    r->good = here(r);
    struct digest_regs d = digest_regs(r->digester);
    struct log_event ev = {.id = LOG_EV_DIGEST,
                           .digest = {.chain = (uint16_t)d.chain, .general = (uint8_t)d.general,
                                      .system = (uint8_t)d.system, .vector = (uint8_t)d.vector}};
    return write_event(r, &ev);
}

static void memory_digest_written(struct recorder *r)
{
    r->memory_ticks = r->m->vcpu.ticks;
    r->memory_host_ns = live_host_ns();
}

static struct err *write_state_digest(struct recorder *r)
{
    struct digest_state d = digest_state(r->digester);
    r->good = r->good_memory = here(r);
    r->memory_digest = d.memory.total;
    memory_digest_written(r);
    digest_image(&r->m->vcpu.s, r->image);
    struct log_event ev = {.id = LOG_EV_STATE_DIGEST,
                           .state_digest = {.chain = d.chain, .memory = d.memory.total, .devices = d.devices,
                                            .registers = {r->image, (uint32_t)digest_image_len()}}};
    for (unsigned i = 0; i < DIGEST_SUMS; i++) {
        ev.state_digest.rows[i] = (uint16_t)d.memory.rows[i];
        ev.state_digest.columns[i] = (uint16_t)d.memory.columns[i];
    }
    return write_event(r, &ev);
}

static struct err *write_memory_digest(struct recorder *r)
{
    struct digest_memory d = digest_memory(r->digester);
    r->good_memory = here(r);
    r->memory_digest = d.total;
    memory_digest_written(r);
    struct log_event ev = {.id = LOG_EV_MEMORY_DIGEST, .memory_digest = {.memory = d.total}};
    for (unsigned i = 0; i < DIGEST_SUMS; i++) {
        ev.memory_digest.rows[i] = (uint8_t)d.rows[i];
        ev.memory_digest.columns[i] = (uint8_t)d.columns[i];
    }
    return write_event(r, &ev);
}

/* Their cost is the pages written since the last one, so they keep a distance in ticks (log size) and in host time (a fast
 * engine). The log says where they are; a replay has no choice to make. */
static bool memory_digest_due(const struct recorder *r)
{
    return r->m->vcpu.ticks - r->memory_ticks >= RECORD_MEMORY_TICKS && live_host_ns() - r->memory_host_ns >= MEMORY_NS;
}

/* Hand what is buffered to the kernel when it has waited long enough, or would. */
static struct err *flush_if(struct recorder *r, bool at_once)
{
    uint64_t now = live_host_ns();
    if (!at_once && now - r->flushed_host_ns < FLUSH_NS)
        return NULL;
    r->flushed_host_ns = now;
    return log_writer_flush(r->w);
}

/* What the replayer will know when it comes here; before anything is written at this position. */
static struct err *checkpoint_if_due(struct recorder *r)
{
    uint64_t passed = MAX(live_host_ns() - r->checkpoint_host_ns, r->m->vcpu.ticks - r->checkpoint_ticks);
    if (!r->stored || passed < r->checkpoint_ns)
        return NULL;
    struct replayer_mark mark = {.seq = log_writer_next_seq(r->w), .chain = digest_chain(r->digester),
                                 .output_bytes = r->output_bytes, .console_bytes = r->console_bytes,
                                 .memory_digest = r->memory_digest, .good = r->good, .good_memory = r->good_memory,
                                 .rep_begun = exec_rep_begun(r->m)};
    struct err *e = stored_writer_take(r->stored, &mark);
    r->checkpoint_host_ns = live_host_ns();
    r->checkpoint_ticks = r->m->vcpu.ticks;
    return e;
}

static struct err *periodic_digest(struct recorder *r, uint64_t ticks)
{
    if (ticks < r->next_digest)
        return NULL;
    struct err *e = checkpoint_if_due(r);
    if (e)
        return e;
    r->next_digest = (ticks / RECORD_DIGEST_TICKS + 1) * RECORD_DIGEST_TICKS;
    e = ticks % RECORD_STATE_TICKS ? write_digest(r) : write_state_digest(r);
    if (!e && memory_digest_due(r))
        e = write_memory_digest(r);
    return e ? e : flush_if(r, false);
}

/* ---- the door ---- */

static struct err *rec_start(void *self, struct nondet_start *out)
{
    struct recorder *r = self;
    struct err *e = r->inner.ops->start(r->inner.self, out);
    if (e)
        return e;
    struct log_event ev = {.id = LOG_EV_START, .start = {.wall_ns = out->wall_ns}};
    memcpy(ev.start.seed, out->seed, sizeof(ev.start.seed));
    return write_event(r, &ev);
}

static struct err *write_input(struct recorder *r, const struct nondet_event *in)
{
    struct log_event ev = {.id = LOG_EV_NONE};
    switch (in->kind) {
    case ND_ANCHOR:
        ev.id = LOG_EV_TIME_ANCHOR;
        ev.time_anchor = (struct log_time_anchor){.virtual_ns = in->ns, .rate_q32 = in->rate_q32};
        break;
    case ND_WAKE:
        ev.id = LOG_EV_WAKE;
        ev.wake = (struct log_wake){.virtual_ns = in->ns};
        break;
    case ND_CONSOLE:
        ev.id = LOG_EV_CONSOLE_INPUT;
        ev.console_input = (struct log_console_input){.channel = in->channel, .data = {in->data, in->len}};
        break;
    case ND_NONE:
    case ND_STOP:
        return NULL; /* the end is written by recorder_finish() */
    }
    bool new_group = !r->group_open || r->group_ticks != r->m->vcpu.ticks;
    r->group_open = true;
    r->group_ticks = r->m->vcpu.ticks;
    /* `wake` leads its group, so that a replay that waits finds it first. */
    struct err *e = in->kind == ND_WAKE ? write_event(r, &ev) : NULL;
    if (!e && new_group)
        e = write_digest(r);
    if (!e && in->kind != ND_WAKE)
        e = write_event(r, &ev);
    return e;
}

static struct err *rec_poll(void *self, uint64_t ticks, struct nondet_event *out)
{
    struct recorder *r = self;
    struct err *e = periodic_digest(r, ticks);
    if (!e)
        e = r->inner.ops->poll(r->inner.self, ticks, out);
    return e ? e : write_input(r, out);
}

static uint64_t rec_horizon(void *self)
{
    struct recorder *r = self;
    return MIN(r->next_digest, r->inner.ops->horizon_ticks(r->inner.self));
}

static struct err *rec_idle(void *self, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    struct recorder *r = self;
    r->group_open = false; /* what comes now is another group, even at these ticks */
    struct err *e = flush_if(r, deadline_ns - now_ns >= FLUSH_NS); /* a long wait; VCLOCK_NEVER is one */
    if (e)
        return e;
    return r->inner.ops->idle(r->inner.self, ticks, now_ns, deadline_ns, reached_out);
}

static void rec_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    struct recorder *r = self;
    r->output_bytes += len;
    r->console_bytes += nondet_on_console(stream, channel) ? len : 0;
    r->inner.ops->output(r->inner.self, stream, channel, data, len);
}

static const struct nondet_ops recorder_ops = {rec_start, rec_poll, rec_horizon, rec_idle, rec_output};

struct nondet recorder_door(struct recorder *r)
{
    return (struct nondet){&recorder_ops, r};
}

/* ---- life ---- */

struct err *recorder_create(struct nondet inner, struct log_writer *w, struct recorder **out)
{
    struct recorder *r = calloc(1, sizeof(*r));
    if (r)
        r->image = malloc(digest_image_len());
    if (!r || !r->image) {
        recorder_destroy(r);
        return err_new(ERR_HOST, "out of memory for the recorder");
    }
    r->inner = inner;
    r->w = w;
    *out = r;
    return NULL;
}

void recorder_destroy(struct recorder *r)
{
    if (!r)
        return;
    digester_destroy(r->digester);
    stored_writer_destroy(r->stored);
    free(r->image);
    free(r);
}

struct err *recorder_begin(struct recorder *r, struct machine *m)
{
    r->m = m;
    r->next_digest = RECORD_DIGEST_TICKS;
    struct err *e = digester_create(m, &r->digester);
    if (!e && r->checkpoint_ns)
        e = stored_writer_create(m, r->w, &r->stored);
    if (!e)
        e = write_state_digest(r);
    if (!e && r->stored)
        e = stored_writer_begin(r->stored);
    r->checkpoint_host_ns = live_host_ns();
    return e ? e : log_writer_flush(r->w);
}

void recorder_set_checkpoints(struct recorder *r, uint64_t every_ns)
{
    r->checkpoint_ns = every_ns;
}

struct err *recorder_continue(struct recorder *r, struct machine *m, struct digester *d, uint64_t output_bytes)
{
    r->m = m;
    r->digester = d;
    r->output_bytes = output_bytes;
    /* At this very position the periodic digest is still to come. */
    r->next_digest = (m->vcpu.ticks + RECORD_DIGEST_TICKS - 1) / RECORD_DIGEST_TICKS * RECORD_DIGEST_TICKS;
    memory_digest_written(r);
    return log_writer_flush(r->w);
}

struct err *recorder_finish(struct recorder *r, enum log_end_reason reason, uint64_t code)
{
    struct err *e = write_state_digest(r);
    if (e)
        return e;
    struct log_event ev = {.id = LOG_EV_END,
                           .end = {.reason = (uint8_t)reason, .code = code, .virtual_ns = vclock_ns(&r->m->clock),
                                   .output_bytes = r->output_bytes}};
    e = write_event(r, &ev);
    return e ? e : log_writer_finish(r->w, r->m->vcpu.ticks);
}

uint64_t recorder_memory_digest(const struct recorder *r)
{
    return r->memory_digest;
}
