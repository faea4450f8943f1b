/* replay/replayer.c: the replaying door. See replayer.h.
 *
 * The log is read one event ahead. Events are consumed in order at exactly their ticks:
 *  - digests are compared, inputs are handed to the session;
 *  - `wake` and what follows it at the same ticks belong to a halted vCPU: idle() decides whether the deadline of the
 *    moment or the wake comes first, by virtual time, and only then does poll() hand them out;
 *  - the closing `state_digest` and `end` are left for replayer_finish(), since what the session does at its last ticks
 *    decides whether timers ran there. A recording that was cut short just stops after its last event. */
#include "replay/replayer.h"

#include <stdlib.h>

#include "replay/digest.h"

enum differing { DIFF_GENERAL = 1, DIFF_SYSTEM = 2, DIFF_VECTOR = 4, DIFF_CHAIN = 8, DIFF_MEMORY = 16, DIFF_DEVICES = 32 };

struct replayer {
    struct log_reader *lr;
    struct machine *m;
    struct digester *digester;
    replay_output_fn output;
    void *output_arg;

    bool have;               /* `next` is valid; false: the log is exhausted */
    bool lost;               /* what belongs here could not be read: `next` is of another place */
    struct log_pos next_pos;
    struct log_event next;
    uint8_t *bytes;          /* copy of next's byte field */
    size_t bytes_cap;

    bool waking;             /* poll() may hand out a `wake` group */
    uint64_t horizon;
    uint64_t output_bytes, console_bytes;
    uint64_t alter_seq;
    uint64_t memory_digest;

    struct replay_end end;
    struct log_end end_event;

    bool tolerant;
    struct { unsigned what; struct log_pos pos; } tolerated; /* the first; what: enum differing */

    struct log_pos good;     /* the last register digest that matched */
    struct log_pos good_memory; /* the last memory digest that matched */
    struct { /* the difference, for replayer_explain() */
        struct log_pos pos;
        unsigned what;       /* enum differing */
        struct digest_memory memory; /* the recorded one, as far as memory_mask */
        uint64_t memory_mask;
        bool image;
        char *text;          /* for differences that are no digest */
    } bad;
};

/* ---- reading ahead ---- */

static struct err *keep_bytes(struct replayer *r, struct log_bytes *b)
{
    if (b->len > r->bytes_cap) {
        uint8_t *grown = realloc(r->bytes, b->len);
        if (!grown)
            return err_new(ERR_HOST, "out of memory while reading the recording");
        r->bytes = grown;
        r->bytes_cap = b->len;
    }
    if (b->len)
        memcpy(r->bytes, b->data, b->len);
    b->data = r->bytes;
    return NULL;
}

static void alter(struct log_event *ev, uint8_t *bytes)
{
    switch (ev->id) {
    case LOG_EV_TIME_ANCHOR:
        ev->time_anchor.virtual_ns += 1000000;
        break;
    case LOG_EV_WAKE:
        ev->wake.virtual_ns += 1000000;
        break;
    case LOG_EV_CONSOLE_INPUT:
        bytes[0] ^= 1;
        break;
    case LOG_EV_DIGEST:
        ev->digest.general ^= 1;
        break;
    case LOG_EV_STATE_DIGEST:
        ev->state_digest.memory ^= 1;
        break;
    case LOG_EV_MEMORY_DIGEST:
        ev->memory_digest.memory ^= 1;
        break;
    default:
        break;
    }
}

static struct err *read_ahead(struct replayer *r)
{
    r->lost = true;
    struct err *e = log_reader_next(r->lr, &r->next_pos, &r->next);
    if (!e && r->next.id == LOG_EV_CONSOLE_INPUT)
        e = keep_bytes(r, &r->next.console_input.data);
    else if (!e && r->next.id == LOG_EV_STATE_DIGEST)
        e = keep_bytes(r, &r->next.state_digest.registers);
    if (e)
        return e;
    r->lost = false;
    r->have = r->next.id != LOG_EV_NONE;
    if (r->have && r->next_pos.seq == r->alter_seq)
        alter(&r->next, r->bytes);
    return NULL;
}

/* The events that close a recording: its last two. */
static bool at_closing(const struct replayer *r)
{
    return r->have && r->end.complete && r->next_pos.seq + 2 >= r->end.events;
}

/* ---- differences ---- */

/* The last position at which nothing of what differs now did. */
static struct log_pos last_good(const struct replayer *r)
{
    return r->bad.what & (DIFF_MEMORY | DIFF_DEVICES) ? r->good_memory : r->good;
}

static struct err *diverged(struct replayer *r, const char *text)
{
    r->bad.pos = (struct log_pos){r->next_pos.seq, r->m->vcpu.ticks};
    free(r->bad.text);
    r->bad.text = text ? strdup(text) : NULL;
    return err_new(ERR_DIVERGED, "replay diverged between ticks %" PRIu64 " and %" PRIu64, last_good(r).ticks, r->bad.pos.ticks);
}

static const struct { unsigned bit; const char *text; } differing_texts[] = {
    {DIFF_GENERAL, "general registers differ"},   {DIFF_SYSTEM, "system registers differ"},
    {DIFF_VECTOR, "vector or x87 registers differ"}, {DIFF_MEMORY, "memory differs"},
    {DIFF_DEVICES, "device state differs"},
};

static struct err *judge(struct replayer *r, unsigned what)
{
    if (what && r->tolerant) {
        if (!r->tolerated.what) {
            r->tolerated.what = what;
            r->tolerated.pos = r->next_pos;
        }
        return NULL;
    }
    r->bad.what = what;
    return what ? diverged(r, NULL) : NULL;
}

static struct err *compare_digest(struct replayer *r)
{
    const struct log_digest *want = &r->next.digest;
    struct digest_regs got = digest_regs(r->digester);
    unsigned what = 0;
    what |= (uint8_t)got.general != want->general ? DIFF_GENERAL : 0;
    what |= (uint8_t)got.system != want->system ? DIFF_SYSTEM : 0;
    what |= (uint8_t)got.vector != want->vector ? DIFF_VECTOR : 0;
    what |= (uint16_t)got.chain != want->chain ? DIFF_CHAIN : 0;
    if (!what)
        r->good = r->next_pos;
    return judge(r, what);
}

static struct err *compare_memory_digest(struct replayer *r)
{
    const struct log_memory_digest *want = &r->next.memory_digest;
    r->memory_digest = digest_memory(r->digester).total;
    if (r->memory_digest == want->memory) {
        r->good_memory = r->next_pos;
        return NULL;
    }
    r->bad.memory_mask = UINT8_MAX;
    for (unsigned i = 0; i < DIGEST_SUMS; i++) {
        r->bad.memory.rows[i] = want->rows[i];
        r->bad.memory.columns[i] = want->columns[i];
    }
    return judge(r, DIFF_MEMORY);
}

static struct err *compare_state_digest(struct replayer *r)
{
    const struct log_state_digest *want = &r->next.state_digest;
    struct digest_state got = digest_state(r->digester);
    unsigned what = 0;
    what |= got.memory.total != want->memory ? DIFF_MEMORY : 0;
    what |= got.devices != want->devices ? DIFF_DEVICES : 0;
    what |= got.chain != want->chain ? DIFF_CHAIN : 0;
    r->memory_digest = got.memory.total;
    if (!what)
        r->good = r->good_memory = r->next_pos;
    r->bad.image = what;
    r->bad.memory_mask = UINT16_MAX;
    for (unsigned i = 0; i < DIGEST_SUMS; i++) {
        r->bad.memory.rows[i] = want->rows[i];
        r->bad.memory.columns[i] = want->columns[i];
    }
    return judge(r, what);
}

static void print_bytes(FILE *out, const uint8_t *p, size_t len)
{
    for (size_t i = len; i-- > 0;)
        fprintf(out, "%02x", p[i]);
}

/* Registers whose recorded image differs from what the replay has. */
static void explain_registers(const struct replayer *r, FILE *out)
{
    const struct log_bytes *image = &r->next.state_digest.registers;
    if (image->len != digest_image_len())
        return;
    const uint8_t *want = image->data;
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; want += f->f.len, f++) {
        const uint8_t *got = (const uint8_t *)&r->m->vcpu.s + f->f.offset;
        for (uint32_t at = 0; at < f->f.len; at += f->f.elem) {
            if (!memcmp(got + at, want + at, f->f.elem))
                continue;
            fprintf(out, "  register %s[%u]: recorded ", f->f.name, at / f->f.elem);
            print_bytes(out, want + at, f->f.elem);
            fprintf(out, ", replayed ");
            print_bytes(out, got + at, f->f.elem);
            fputc('\n', out);
        }
    }
}

struct suspects { const struct replayer *r; FILE *out; unsigned printed; };

static void print_suspect(void *arg, uint32_t page)
{
    struct suspects *s = arg;
    enum { SHOWN = 16 };
    if (s->printed++ < SHOWN)
        fprintf(s->out, "  memory page 0x%" PRIx64 " differs, or one with the same bits 9:0 of its number\n",
                mem_page_gpa(&s->r->m->mem, page).v);
}

void replayer_explain(const struct replayer *r, FILE *out)
{
    struct log_pos good = last_good(r);
    fprintf(out, "  last good position: event %" PRIu64 ", tick %" PRIu64 "\n", good.seq, good.ticks);
    fprintf(out, "  first bad position: event %" PRIu64 ", tick %" PRIu64 "\n", r->bad.pos.seq, r->bad.pos.ticks);
    if (r->bad.text)
        fprintf(out, "  %s\n", r->bad.text);
    for (size_t i = 0; i < ARRAY_LEN(differing_texts); i++)
        if (r->bad.what & differing_texts[i].bit)
            fprintf(out, "  %s\n", differing_texts[i].text);
    if (r->bad.what == DIFF_CHAIN)
        fprintf(out, "  only the running chain differs: registers differed before this position and agree again\n");
    if (r->bad.image)
        explain_registers(r, out);
    if (r->bad.what & DIFF_MEMORY) {
        struct suspects s = {r, out, 0};
        size_t n = digest_suspects(r->digester, &r->bad.memory, r->bad.memory_mask, print_suspect, &s);
        if (!n)
            fprintf(out, "  no page that the replay is known to have written explains it\n");
    }
    fprintf(out, "  replayed: rip 0x%" PRIx64 ", rax 0x%" PRIx64 ", rsp 0x%" PRIx64 ", rflags 0x%" PRIx64 "\n",
            r->m->vcpu.s.r[R_RIP], r->m->vcpu.s.r[R_RAX], r->m->vcpu.s.r[R_RSP], vcpu_rflags(&r->m->vcpu.s));
}

/* ---- the door ---- */

static struct err *rep_start(void *self, struct nondet_start *out)
{
    struct replayer *r = self;
    if (!r->have || r->next.id != LOG_EV_START)
        return err_new(ERR_CORRUPT, "the recording does not begin with its start event; it ended before the guest started");
    out->wall_ns = r->next.start.wall_ns;
    memcpy(out->seed, r->next.start.seed, sizeof(out->seed));
    return read_ahead(r);
}

static void hand_out(const struct log_event *ev, struct nondet_event *out)
{
    if (ev->id == LOG_EV_TIME_ANCHOR) {
        *out = (struct nondet_event){.kind = ND_ANCHOR, .ns = ev->time_anchor.virtual_ns,
                                     .rate_q32 = ev->time_anchor.rate_q32};
    } else if (ev->id == LOG_EV_WAKE) {
        *out = (struct nondet_event){.kind = ND_WAKE, .ns = ev->wake.virtual_ns};
    } else {
        const struct log_console_input *in = &ev->console_input;
        *out = (struct nondet_event){.kind = ND_CONSOLE, .channel = (uint8_t)in->channel, .len = (uint16_t)in->data.len};
        memcpy(out->data, in->data.data, in->data.len);
    }
}

/* Nothing is left to hand out but, perhaps, the closing events. */
static struct err *poll_end(struct replayer *r, uint64_t ticks, struct nondet_event *out)
{
    bool by_user = at_closing(r) && r->end.reason == LOG_END_USER;
    r->horizon = MAX(r->end.ticks, ticks);
    r->horizon += r->horizon != UINT64_MAX;
    if (by_user)
        r->horizon = MAX(r->next_pos.ticks, ticks + 1);
    if (!r->have || (by_user && ticks >= r->next_pos.ticks))
        out->kind = ND_STOP;
    else if (ticks > r->end.ticks)
        return diverged(r, "the guest went on beyond the end of the recording");
    return NULL;
}

/* Take the next event, which belongs to this position. */
static struct err *take(struct replayer *r, struct nondet_event *out)
{
    switch (r->next.id) {
    case LOG_EV_DIGEST:
        return compare_digest(r);
    case LOG_EV_STATE_DIGEST:
        return compare_state_digest(r);
    case LOG_EV_MEMORY_DIGEST:
        return compare_memory_digest(r);
    case LOG_EV_WAKE:
        r->waking = false;
        hand_out(&r->next, out);
        return NULL;
    case LOG_EV_TIME_ANCHOR:
    case LOG_EV_CONSOLE_INPUT:
        hand_out(&r->next, out);
        return NULL;
    default:
        return err_new(ERR_CORRUPT, "event %" PRIu64 " (%s) may not stand where it does", r->next_pos.seq,
                       log_event_name(r->next.id));
    }
}

static struct err *rep_poll(void *self, uint64_t ticks, struct nondet_event *out)
{
    struct replayer *r = self;
    out->kind = ND_NONE;
    if (r->lost)
        return err_new(ERR_CORRUPT, "the recording cannot be read on from tick %" PRIu64, ticks);
    while (out->kind == ND_NONE) {
        if (!r->have || at_closing(r))
            return poll_end(r, ticks, out);
        if (r->next_pos.ticks < ticks)
            return diverged(r, "an event of the recording was passed without being taken");
        if (r->next_pos.ticks > ticks || (r->next.id == LOG_EV_WAKE && !r->waking)) {
            r->horizon = MAX(r->next_pos.ticks, ticks + 1);
            return NULL;
        }
        struct err *e = take(r, out);
        if (!e)
            e = read_ahead(r);
        if (e)
            return e;
    }
    return NULL;
}

static uint64_t rep_horizon(void *self)
{
    return ((struct replayer *)self)->horizon;
}

static struct err *rep_idle(void *self, uint64_t ticks, uint64_t now_ns, uint64_t deadline_ns, bool *reached_out)
{
    struct replayer *r = self;
    (void)now_ns;
    bool wake_here = r->have && r->next.id == LOG_EV_WAKE && r->next_pos.ticks == ticks;
    *reached_out = true;
    if (wake_here && (deadline_ns == VCLOCK_NEVER || r->next.wake.virtual_ns < deadline_ns)) {
        r->waking = true;
        *reached_out = false;
    } else if (!r->have) {
        *reached_out = false; /* poll() says ND_STOP */
    } else if (deadline_ns == VCLOCK_NEVER) {
        return diverged(r, "the guest waits for an input that the recording has at another position");
    }
    return NULL;
}

static void rep_output(void *self, enum nondet_stream stream, uint8_t channel, const uint8_t *data, size_t len)
{
    struct replayer *r = self;
    r->output_bytes += len;
    if (!nondet_on_console(stream, channel))
        return;
    r->console_bytes += len;
    if (r->output)
        r->output(r->output_arg, data, len);
}

static const struct nondet_ops replayer_ops = {rep_start, rep_poll, rep_horizon, rep_idle, rep_output};

struct nondet replayer_door(struct replayer *r)
{
    return (struct nondet){&replayer_ops, r};
}

/* ---- life ---- */

/* Look at the last event: `end`, unless the recording was cut short before it. */
static struct err *read_end(struct replayer *r)
{
    struct log_summary s = log_reader_summary(r->lr);
    struct log_pos pos;
    struct log_event ev = {.id = LOG_EV_NONE};
    r->end = (struct replay_end){.ticks = s.last.ticks, .events = s.last.seq};
    if (s.last.seq == 0)
        return NULL;
    struct err *e = log_reader_seek(r->lr, s.last.seq - 1);
    if (!e)
        e = log_reader_next(r->lr, &pos, &ev);
    if (e)
        return e;
    r->end.complete = ev.id == LOG_EV_END;
    if (r->end.complete) {
        r->end_event = ev.end;
        r->end_event.detail = (struct log_bytes){0};
        r->end.reason = ev.end.reason;
        r->end.code = ev.end.code;
    }
    return log_reader_seek(r->lr, 0);
}

struct err *replayer_create(struct log_reader *lr, replay_output_fn output, void *arg, struct replayer **out)
{
    struct replayer *r = calloc(1, sizeof(*r));
    if (!r)
        return err_new(ERR_HOST, "out of memory for the replay");
    r->lr = lr;
    r->output = output;
    r->output_arg = arg;
    r->alter_seq = UINT64_MAX;
    struct err *e = read_end(r);
    if (!e)
        e = read_ahead(r);
    if (e) {
        replayer_destroy(r);
        return e;
    }
    *out = r;
    return NULL;
}

void replayer_destroy(struct replayer *r)
{
    if (!r)
        return;
    digester_destroy(r->digester);
    free(r->bytes);
    free(r->bad.text);
    free(r);
}

struct err *replayer_begin(struct replayer *r, struct machine *m)
{
    r->m = m;
    struct err *e = digester_create(m, &r->digester);
    if (e || !r->have)
        return e;
    if (r->next.id != LOG_EV_STATE_DIGEST || r->next_pos.ticks != 0)
        return err_new(ERR_CORRUPT, "the recording lacks its first state digest");
    if (at_closing(r))
        return NULL;
    e = compare_state_digest(r);
    return e ? e : read_ahead(r);
}

uint64_t replayer_limit(const struct replayer *r)
{
    return r->end.complete && r->end.reason == LOG_END_TICK_LIMIT ? r->end.ticks : UINT64_MAX;
}

enum log_end_reason end_reason(const struct machine *m, enum session_end end)
{
    static const enum log_end_reason of_request[] = {
        [REQ_NONE] = LOG_END_ERROR,      [REQ_POWEROFF] = LOG_END_POWER_OFF, [REQ_RESET] = LOG_END_RESET,
        [REQ_DEBUG_EXIT] = LOG_END_DEBUG_EXIT, [REQ_CRASH] = LOG_END_CRASH,
    };
    switch (end) {
    case END_REQUEST:
        return of_request[m->request];
    case END_LIMIT:
        return LOG_END_TICK_LIMIT;
    case END_HALTED:
        return LOG_END_HALTED;
    case END_STOP:
    case END_PROBE:
    case END_INTERRUPTED:
        break;
    }
    return LOG_END_USER;
}

static struct err *compare_end(struct replayer *r, enum session_end end)
{
    enum log_end_reason reason = end_reason(r->m, end);
    char text[160];
    if (reason != r->end.reason)
        snprintf(text, sizeof(text), "the recording ended with %s, the replay with %s", log_end_reason_name(r->end.reason),
                 log_end_reason_name(reason));
    else if (reason == LOG_END_DEBUG_EXIT && r->m->request_value != r->end.code)
        snprintf(text, sizeof(text), "the recording ended with exit code %" PRIu64 ", the replay with %u", r->end.code,
                 r->m->request_value);
    else if (r->output_bytes != r->end_event.output_bytes)
        snprintf(text, sizeof(text), "the recorded guest sent %" PRIu64 " bytes to its consoles, the replay %" PRIu64,
                 r->end_event.output_bytes, r->output_bytes);
    else if (vclock_ns(&r->m->clock) != r->end_event.virtual_ns)
        snprintf(text, sizeof(text), "virtual time at the end was %" PRIu64 " ns, in the replay %" PRIu64 " ns",
                 r->end_event.virtual_ns, vclock_ns(&r->m->clock));
    else
        return NULL;
    return diverged(r, text);
}

struct err *replayer_finish(struct replayer *r, enum session_end end)
{
    bool here = r->have && r->next_pos.ticks == r->m->vcpu.ticks;
    if (here && r->next.id == LOG_EV_STATE_DIGEST) {
        struct err *e = compare_state_digest(r);
        if (!e)
            e = read_ahead(r);
        if (e)
            return e;
    }
    if (!r->have)
        return NULL; /* a recording that was cut short: all there is has been verified */
    if (!here || r->next.id != LOG_EV_END)
        return diverged(r, "the guest ended before the recording does");
    return compare_end(r, end);
}

struct replayer_mark replayer_mark(const struct replayer *r)
{
    return (struct replayer_mark){.seq = r->have ? r->next_pos.seq : r->end.events, .chain = digest_chain(r->digester),
                                  .output_bytes = r->output_bytes,
                                  .console_bytes = r->console_bytes, .memory_digest = r->memory_digest,
                                  .good = r->good, .good_memory = r->good_memory,
                                  .rep_begun = exec_rep_begun(r->m)};
}

struct err *replayer_return(struct replayer *r, const struct replayer_mark *mark)
{
    r->output_bytes = mark->output_bytes;
    r->console_bytes = mark->console_bytes;
    r->memory_digest = mark->memory_digest;
    r->good = mark->good;
    r->good_memory = mark->good_memory;
    r->waking = false;
    r->horizon = 0; /* poll at once, it will say */
    digest_set_chain(r->digester, mark->chain);
    if (!r->lost && r->have && r->next_pos.seq == mark->seq)
        return NULL;
    r->lost = true;
    struct err *e = log_reader_seek(r->lr, mark->seq);
    return e ? e : read_ahead(r);
}

struct replay_end replayer_end(const struct replayer *r)
{
    return r->end;
}

uint64_t replayer_output_bytes(const struct replayer *r)
{
    return r->output_bytes;
}

struct digester *replayer_take_digester(struct replayer *r)
{
    struct digester *d = r->digester;
    r->digester = NULL;
    return d;
}

uint64_t replayer_memory_digest(const struct replayer *r)
{
    return r->memory_digest;
}

void replayer_alter_event(struct replayer *r, uint64_t seq)
{
    r->alter_seq = seq;
}

void replayer_tolerate(struct replayer *r)
{
    r->tolerant = true;
}

bool replayer_disagreement(const struct replayer *r, struct log_pos *at, const char **what)
{
    unsigned bits = r->tolerated.what ? r->tolerated.what : r->bad.what;
    *at = r->tolerated.what ? r->tolerated.pos : r->bad.pos;
    *what = bits ? "registers differed before" : r->bad.text;
    for (size_t i = ARRAY_LEN(differing_texts); i-- > 0;)
        if (bits & differing_texts[i].bit)
            *what = differing_texts[i].text;
    return *what;
}

struct digester *replayer_digester(struct replayer *r)
{
    return r->digester;
}
