/* tests/unit/session.c: recording and replaying through a made-up engine and a made-up outside.
 *
 * The engine mixes everything a guest can see (time, typed bytes, timer expiry) into RAX; the outside sends anchors, bytes
 * and early wakes at random positions. A recording of it must replay, for every seed; a recording that was altered must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "replay/recorder.h"
#include "replay/replayer.h"
#include "replay/session.h"

enum { COM1_DATA = 0x3f8, COM1_LSR = 0x3fd, LSR_DR = 1, POLL_EVERY = 997, HALT_EVERY = 7013, END_TICKS = 300000 };

/* ---- the engine ---- */

struct fake {
    struct engine e;
    struct vtimer timer;
    bool halted, fired;
};

static void fired(void *owner, uint64_t deadline_ns)
{
    (void)deadline_ns;
    ((struct fake *)owner)->fired = true;
}

static bool byte_waits(struct machine *m)
{
    return bus_read(m->bus, BUS_PIO, COM1_LSR, 1) & LSR_DR;
}

static void fake_step(struct fake *f, struct machine *m)
{
    struct vcpu *v = &m->vcpu;
    v->ticks++;
    m->clock.now_ticks = v->ticks;
    v->s.r[R_RAX] = v->s.r[R_RAX] * 31 + vclock_ns(&m->clock) + f->fired;
    f->fired = false;
    if (v->ticks % POLL_EVERY == 0 && byte_waits(m))
        v->s.r[R_RBX] += bus_read(m->bus, BUS_PIO, COM1_DATA, 1) + v->ticks;
    if (v->ticks % HALT_EVERY == 0) {
        vtimer_arm(&m->clock, &f->timer, vclock_ns(&m->clock) + 3000 + v->s.r[R_RAX] % 4096);
        f->halted = true;
    }
    if (v->ticks == END_TICKS)
        machine_request(m, REQ_DEBUG_EXIT, 5);
}

static enum engine_stop fake_run(struct engine *e, uint64_t until)
{
    struct fake *f = (struct fake *)e;
    struct machine *m = e->machine;
    m->vcpu.s.rflags |= FL_IF;
    for (;;) {
        if (m->request)
            return STOP_REQUEST;
        if (m->clock.deadline_moved)
            return STOP_DEADLINE;
        if (m->vcpu.ticks >= until)
            return STOP_TICKS;
        if (f->halted && !f->fired && !byte_waits(m))
            return STOP_HALT;
        f->halted = false;
        fake_step(f, m);
    }
}

static const struct engine_ops fake_ops = {.name = "fake", .run = fake_run};

/* ---- the outside ---- */

struct outside {
    const struct machine *m;
    uint64_t seed, horizon;
    bool wake, stop_at_end;
    uint64_t wake_ns, stop_ticks;
};

static uint64_t dice(struct outside *o, uint64_t n)
{
    o->seed = o->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (o->seed >> 33) % n;
}

static struct err *out_start(void *self, struct nondet_start *out)
{
    (void)self;
    memset(out, 7, sizeof(*out));
    return NULL;
}

static struct err *out_poll(void *self, uint64_t ticks, struct nondet_event *ev)
{
    struct outside *o = self;
    ev->kind = ND_NONE;
    if (o->wake) {
        o->wake = false;
        *ev = (struct nondet_event){.kind = ND_WAKE, .ns = o->wake_ns};
    } else if (ticks >= o->stop_ticks) {
        ev->kind = ND_STOP;
    } else if (dice(o, 3) == 0) {
        *ev = (struct nondet_event){.kind = ND_ANCHOR, .ns = vclock_ns(&o->m->clock) + dice(o, 2000),
                                    .rate_q32 = 1 + dice(o, UINT64_C(1) << 33)};
    } else if (dice(o, 3) == 0) {
        *ev = (struct nondet_event){.kind = ND_CONSOLE, .len = 1, .data = {(uint8_t)dice(o, 256)}};
    } else {
        o->horizon = ticks + 1 + dice(o, 5000);
    }
    return NULL;
}

static uint64_t out_horizon(void *self)
{
    return ((struct outside *)self)->horizon;
}

static struct err *out_idle(void *self, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached)
{
    struct outside *o = self;
    (void)ticks;
    *reached = deadline_ns != VCLOCK_NEVER && dice(o, 3) != 0;
    if (*reached)
        return NULL;
    o->wake = true;
    o->wake_ns = deadline_ns == VCLOCK_NEVER ? now_ns + dice(o, 100000) : now_ns + dice(o, deadline_ns - now_ns);
    return NULL;
}

static void out_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    (void)self, (void)stream, (void)channel, (void)data, (void)len;
}

static const struct nondet_ops outside_ops = {out_start, out_poll, out_horizon, out_idle, out_output};

/* ---- the tests ---- */

static char path[] = "/tmp/hw-session-XXXXXX";

static void build(struct nondet door, struct machine **m, struct fake *f)
{
    struct machine_config cfg = {.ram_len = MIB(1), .rate_q32 = UINT64_C(1) << 32};
    assert_null(machine_create(&cfg, 0, door, m));
    *f = (struct fake){.e = {&fake_ops, *m}};
    vtimer_add(&(*m)->clock, &f->timer, fired, f);
}

static void unbuild(struct machine *m, struct fake *f)
{
    vtimer_remove(&m->clock, &f->timer);
    machine_destroy(m);
}

static void record(uint64_t seed, uint64_t limit, uint64_t stop_ticks)
{
    struct outside o = {.seed = seed, .stop_ticks = stop_ticks};
    struct log_header h = {.digest_period = RECORD_DIGEST_TICKS};
    struct log_writer *w;
    struct recorder *r;
    struct machine *m;
    struct fake f;
    enum session_end end;
    assert_null(log_writer_create(path, &h, &w));
    assert_null(recorder_create((struct nondet){&outside_ops, &o}, w, &r));
    build(recorder_door(r), &m, &f);
    o.m = m;
    struct session s = {.machine = m, .engine = &f.e, .limit_ticks = limit, .hook = {.ticks = UINT64_MAX}};
    assert_null(recorder_begin(r, m));
    assert_null(session_run(&s, &end));
    assert_null(recorder_finish(r, end_reason(m, end), m->request_value));
    recorder_destroy(r);
    log_writer_destroy(w);
    unbuild(m, &f);
}

/* The error of a replay, NULL when it verified. */
static struct err *replay(uint64_t alter_seq, uint64_t *ticks)
{
    struct log_reader *lr;
    struct replayer *r;
    struct machine *m;
    struct fake f;
    enum session_end end;
    assert_null(log_reader_open(path, &lr));
    assert_null(replayer_create(lr, NULL, NULL, &r));
    replayer_alter_event(r, alter_seq);
    build(replayer_door(r), &m, &f);
    struct session s = {.machine = m, .engine = &f.e, .limit_ticks = replayer_limit(r), .hook = {.ticks = UINT64_MAX}};
    struct err *e = replayer_begin(r, m);
    if (!e)
        e = session_run(&s, &end);
    if (!e)
        e = replayer_finish(r, end);
    *ticks = m->vcpu.ticks;
    replayer_destroy(r);
    log_reader_close(lr);
    unbuild(m, &f);
    return e;
}

static void must_verify(uint64_t seed, uint64_t want_ticks)
{
    uint64_t ticks;
    struct err *e = replay(UINT64_MAX, &ticks);
    if (e)
        fail_msg("seed %" PRIu64 ": %s", seed, err_message(e));
    assert_int_equal(ticks, want_ticks);
}

static void every_seed_replays(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        record(seed, UINT64_MAX, UINT64_MAX);
        must_verify(seed, END_TICKS);
    }
}

static void limits_and_stops_replay(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t ticks, limit = seed * HALT_EVERY;
        record(seed, limit, UINT64_MAX);
        must_verify(seed, limit);
        record(seed, UINT64_MAX, limit - seed % 3);
        struct err *e = replay(UINT64_MAX, &ticks);
        if (e)
            fail_msg("seed %" PRIu64 ", stopped by the user: %s", seed, err_message(e));
    }
}

static void every_altered_event_diverges(void **state)
{
    (void)state;
    record(3, 60000, UINT64_MAX);
    struct log_reader *lr;
    assert_null(log_reader_open(path, &lr));
    uint64_t events = log_reader_summary(lr).last.seq;
    log_reader_close(lr);
    assert_true(events > 20);
    for (uint64_t seq = 1; seq + 1 < events; seq++) { /* neither `start` nor `end` has anything to alter */
        uint64_t ticks;
        struct err *e = replay(seq, &ticks);
        if (!e)
            fail_msg("event %" PRIu64 " was altered and nobody noticed", seq);
        assert_int_equal(err_code(e), ERR_DIVERGED);
        err_destroy(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_seed_replays),
        cmocka_unit_test(limits_and_stops_replay),
        cmocka_unit_test(every_altered_event_diverges),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests_name("session", tests, NULL, NULL);
    unlink(path);
    return failed;
}
