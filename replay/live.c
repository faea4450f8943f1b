/* replay/live.c: the door to the host. See live.h. The only place where a guest's time meets the host's. */
#include "replay/live.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "core/machine.h"

/* A wait is no longer than this, so that a signal that came just before it is seen soon. */
#define LIVE_WAIT_NS (NS_PER_S / 10)
#define LIVE_ATTENTION_NS (NS_PER_S / 50) /* with somebody else to be asked */

/* A halted guest that typed bytes do not wake is given more of them only this often: its timers must get their turn. */
#define LIVE_FEED_NS (NS_PER_S / 100)

/* What the guest's calendar shows at the start of a run with the virtual clock: 2026-01-01 00:00 UTC. */
#define VIRTUAL_WALL_S UINT64_C(1767225600)

#define LIVE_RATE_MAX (UINT64_C(4096) << 32) /* ns per tick, far beyond any host's */

struct live {
    struct console *console;
    const volatile bool *stop;
    const struct machine *m;
    bool host_clock;
    uint64_t origin_ns;       /* host time of virtual time 0, moved ahead by what was taken out of guest time */
    uint64_t horizon;         /* ticks of the next poll */
    uint64_t polled_ticks;    /* the last position an anchor was considered at, and what the host's clock said then */
    uint64_t polled_host_ns, anchor_host_ns;
    uint64_t idle_ns;         /* host time spent idle since then */
    uint64_t rate_q32;        /* measured host ns per busy tick, smoothed */
    bool waking;              /* idle() found something: an ND_WAKE with wake_ns comes first */
    uint64_t wake_ns;
    bool clock_done;          /* this position's anchor was given already */
    bool input_done;          /* so was its input: an endless source must not hold the guest at one tick */
    uint64_t fed_ticks, fed_host_ns; /* when an idle guest was last given input */
    bool leave;
    bool (*attention)(void *arg);
    void *attention_arg;
};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t live_host_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static struct err *live_start(void *self, struct nondet_start *out)
{
    const struct live *l = self;
    if (!l->host_clock) { /* two runs are identical, so the date and the seed are too */
        out->wall_ns = VIRTUAL_WALL_S * NS_PER_S;
        memset(out->seed, 0, sizeof(out->seed));
        return NULL;
    }
    out->wall_ns = clock_ns(CLOCK_REALTIME);
    if (getrandom(out->seed, sizeof(out->seed), 0) != (ssize_t)sizeof(out->seed))
        return err_errno(ERR_HOST, errno, "cannot get a random seed for the guest");
    return NULL;
}

/* What the guest's clock ought to show. */
static uint64_t target_ns(const struct live *l, uint64_t host)
{
    return host - l->origin_ns;
}

/* ns per tick over the last stretch, blended into the running estimate; idle time does not count. A stretch in which the
 * process was stopped says nothing about the guest, so no stretch counts for more than twice the estimate. */
static void measure_rate(struct live *l, uint64_t ticks, uint64_t host)
{
    uint64_t dt = ticks - l->polled_ticks, ns = host - l->polled_host_ns;
    ns -= MIN(ns, l->idle_ns);
    if (dt >= LIVE_POLL_TICKS / 2) {
        uint64_t now = (uint64_t)MIN(((unsigned __int128)ns << 32) / dt, (unsigned __int128)2 * l->rate_q32);
        l->rate_q32 = MIN(MAX(l->rate_q32 - l->rate_q32 / 4 + now / 4, 4), LIVE_RATE_MAX);
    }
    l->polled_ticks = ticks;
    l->polled_host_ns = host;
    l->idle_ns = 0;
}

static bool anchor(struct live *l, uint64_t ticks, struct nondet_event *out)
{
    uint64_t host = live_host_ns();
    if (!l->host_clock || l->clock_done || host - l->anchor_host_ns < LIVE_ANCHOR_NS)
        return false;
    measure_rate(l, ticks, host);
    l->clock_done = true;
    l->anchor_host_ns = host;
    uint64_t now = vclock_ns(&l->m->clock), want = target_ns(l, host);
    *out = (struct nondet_event){.kind = ND_ANCHOR, .ns = now, .rate_q32 = l->rate_q32};
    if (want > now + LIVE_JUMP_NS) {
        out->ns = now + LIVE_JUMP_NS;
        l->origin_ns += want - out->ns;
    } else if (want > now) {
        out->ns = want;
    } else { /* ahead: at most half speed, less the closer it is */
        uint64_t ahead = MIN(now - want, LIVE_ANCHOR_NS);
        out->rate_q32 = MAX(l->rate_q32 - l->rate_q32 / 512 * (256 * ahead / LIVE_ANCHOR_NS), 1);
    }
    return true;
}

static bool stop_wanted(const struct live *l)
{
    return l->leave || (l->stop && *l->stop);
}

static struct err *live_poll(void *self, uint64_t ticks, struct nondet_event *out)
{
    struct live *l = self;
    out->kind = ND_NONE;
    if (l->waking) {
        l->waking = false;
        l->clock_done = true;
        *out = (struct nondet_event){.kind = ND_WAKE, .ns = l->wake_ns};
        return NULL;
    }
    if (anchor(l, ticks, out))
        return NULL;
    if (stop_wanted(l)) {
        out->kind = ND_STOP;
        return NULL;
    }
    size_t room = l->input_done ? 0 : MIN(machine_console_room(l->m, 0), sizeof(out->data));
    out->len = room ? (uint16_t)console_read(l->console, out->data, room, &l->leave) : 0;
    if (out->len) {
        l->input_done = true;
        out->kind = ND_CONSOLE;
        out->channel = 0;
        return NULL;
    }
    if (stop_wanted(l)) {
        out->kind = ND_STOP;
        return NULL;
    }
    console_flush(l->console);
    l->clock_done = l->input_done = false;
    l->horizon = (ticks / LIVE_POLL_TICKS + 1) * LIVE_POLL_TICKS;
    return NULL;
}

static uint64_t live_horizon(void *self)
{
    return ((struct live *)self)->horizon;
}

/* Whether the wait of a guest that halted at `ticks` should end now. */
static bool wake_wanted(const struct live *l, uint64_t ticks, uint64_t host)
{
    bool fed = ticks == l->fed_ticks && host - l->fed_host_ns < LIVE_FEED_NS;
    return stop_wanted(l) || (l->attention && l->attention(l->attention_arg)) ||
           (!fed && machine_console_room(l->m, 0) && console_input_ready(l->console));
}

static struct err *live_idle(void *self, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    struct live *l = self;
    uint64_t start = live_host_ns(), host = start;
    uint64_t wait_until = deadline_ns == VCLOCK_NEVER ? UINT64_MAX : l->origin_ns + deadline_ns;
    bool jump = !l->host_clock && deadline_ns != VCLOCK_NEVER;
    while (!jump && host < wait_until && !wake_wanted(l, ticks, host)) {
        console_wait(l->console, MIN(wait_until - host, l->attention ? LIVE_ATTENTION_NS : LIVE_WAIT_NS));
        host = live_host_ns();
    }
    l->idle_ns += host - start;
    *reached_out = !wake_wanted(l, ticks, host);
    if (*reached_out)
        return NULL;
    l->fed_ticks = ticks;
    l->fed_host_ns = host;
    l->waking = true;
    l->wake_ns = now_ns;
    if (l->host_clock) /* strictly before the deadline, though it may have come as well: time runs past none */
        l->wake_ns = MIN(MAX(now_ns, target_ns(l, host)), deadline_ns - 1);
    return NULL;
}

static void live_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    struct live *l = self;
    if (nondet_on_console(stream, channel))
        console_write(l->console, data, len);
}

static const struct nondet_ops live_ops = {live_start, live_poll, live_horizon, live_idle, live_output};

struct nondet live_door(struct live *l)
{
    return (struct nondet){&live_ops, l};
}

struct err *live_create(struct console *c, bool host_clock, const volatile bool *stop, struct live **out)
{
    struct live *l = calloc(1, sizeof(*l));
    if (!l)
        return err_new(ERR_HOST, "out of memory");
    l->console = c;
    l->host_clock = host_clock;
    l->stop = stop;
    *out = l;
    return NULL;
}

void live_set_attention(struct live *l, bool (*wanted)(void *arg), void *arg)
{
    l->attention = wanted;
    l->attention_arg = arg;
}

void live_destroy(struct live *l)
{
    free(l);
}

void live_bind(struct live *l, const struct machine *m)
{
    l->m = m;
    l->polled_host_ns = l->anchor_host_ns = live_host_ns();
    l->origin_ns = l->polled_host_ns - vclock_ns(&m->clock);
    l->rate_q32 = m->clock.s.rate_q32;
    l->polled_ticks = m->vcpu.ticks;
    l->horizon = (m->vcpu.ticks / LIVE_POLL_TICKS + 1) * LIVE_POLL_TICKS;
}
