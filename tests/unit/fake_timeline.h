/* tests/unit/fake_timeline.h: replay/timeline.h over a guest whose state is a formula of its position, for tests of the
 * debugger: what it should see can be computed. Include it in one file of a program.
 *
 * The guest is a loop of 16 instructions of one byte at FAKE_CODE. At position N it is before instruction N % 16 of
 * round N / 16; RAX is the round. Instruction 5 writes round + 1 (64 bits) to FAKE_DATA, instruction 9 reads it.
 * With `handler`, an interrupt comes before instruction 12: two ticks are at FAKE_HANDLER, and the round ends with
 * instruction 12. */
#ifndef HW_TEST_FAKE_TIMELINE_H
#define HW_TEST_FAKE_TIMELINE_H

#include <stdlib.h>

#include "core/base/check.h"
#include "replay/position.h"
#include "replay/timeline.h"

enum {
    FAKE_LOOP = 16, FAKE_CODE = 0x1000, FAKE_DATA = 0x2000, FAKE_RAM = 0x10000, FAKE_WRITER = 5, FAKE_READER = 9,
    FAKE_HANDLER = 0x1800, FAKE_IRQ = 12, FAKE_IRQ_LEN = 2, FAKE_STACK = 0x3000,
    FAKE_PROBES = 4096,
};

struct timeline {
    struct timeline_options o;
    bool past;
    bool handler;      /* see above */
    bool error_code;   /* its frame has one */
    uint64_t at, end;
    int status;        /* at the end */
    struct vcpu_state s;
    uint8_t ram[FAKE_RAM];
    struct { bool used; struct timeline_probe p; } probe[FAKE_PROBES];
    unsigned adds, removes, moves;
    const char *fail;  /* the next move fails with this */
    uint8_t *kernel;
    size_t kernel_len;
};

/* In the handler, or behind it. */
static void fake_settle_handler(struct timeline *t)
{
    unsigned n = (unsigned)(t->at % FAKE_LOOP);
    t->s.r[R_RSP] = FAKE_STACK;
    if (n > FAKE_IRQ)
        t->s.r[R_RIP] = FAKE_CODE + FAKE_IRQ;
    if (n <= FAKE_IRQ || n > FAKE_IRQ + FAKE_IRQ_LEN)
        return;
    const uint64_t frame[] = {FAKE_CODE + FAKE_IRQ, t->s.seg[S_CS].sel, vcpu_rflags(&t->s) | FL_RF, FAKE_STACK, 0};
    uint64_t at = FAKE_STACK - sizeof(frame);
    for (unsigned i = 0; i < ARRAY_LEN(frame); i++)
        put_le64(t->ram + at + i * 8, frame[i]);
    t->s.r[R_RSP] = at - (t->error_code ? 8 : 0);
    t->s.r[R_RIP] = FAKE_HANDLER + n - FAKE_IRQ - 1;
}

static void fake_settle(struct timeline *t)
{
    t->s.r[R_RIP] = FAKE_CODE + t->at % FAKE_LOOP;
    if (t->handler)
        fake_settle_handler(t);
    t->s.r[R_RAX] = t->at / FAKE_LOOP;
    put_le64(t->ram + FAKE_DATA, (t->at + FAKE_LOOP - 1 - FAKE_WRITER) / FAKE_LOOP);
}

uint64_t timeline_digest(struct timeline *t) { return t->at * UINT64_C(0x9e3779b97f4a7c15); }

static inline struct timeline *fake_timeline(bool past, uint64_t end, const struct timeline_options *o)
{
    struct timeline *t = calloc(1, sizeof(*t));
    CHECK(t, "out of memory");
    t->past = past;
    t->end = end;
    t->status = 7;
    if (o)
        t->o = *o;
    memset(t->ram + FAKE_CODE, 0x90, FAKE_LOOP - 2);
    memcpy(t->ram + FAKE_CODE + FAKE_LOOP - 2, "\xeb\xf0", 2); /* jmp to the beginning, for disassembly */
    t->s.efer = EFER_LMA | EFER_LME;
    t->s.seg[S_CS] = (struct seg){.sel = 0x10, .limit = UINT32_MAX,
                                  .attr = SEG_P | SEG_S | SEG_CODE | SEG_L | SEG_READ};
    t->s.cr0 = CR0_PE | CR0_NE;
    t->s.cr3 = 0x8000;
    t->s.r[R_RSP] = t->s.r[R_RBP] = FAKE_STACK;
    t->s.x87.fcw = 0x37f;
    t->s.mxcsr = 0x1f80;
    vcpu_set_rflags(&t->s, FL_IF | FL_ZF);
    fake_settle(t);
    return t;
}

void timeline_close(struct timeline *t)
{
    if (t)
        free(t->kernel);
    free(t);
}

bool timeline_has_past(const struct timeline *t) { return t->past; }
uint64_t timeline_position(const struct timeline *t) { return t->at; }
uint64_t timeline_end(const struct timeline *t) { return t->past ? t->end : t->at; }
uint64_t timeline_ns(const struct timeline *t) { return t->at * 1000; }

struct err *timeline_probe_add(struct timeline *t, const struct timeline_probe *p, unsigned *number_out)
{
    for (unsigned i = 0; i < FAKE_PROBES; i++)
        if (!t->probe[i].used) {
            t->probe[i].used = true;
            t->probe[i].p = *p;
            t->adds++;
            *number_out = i;
            return NULL;
        }
    return err_new(ERR_HOST, "out of probes");
}

void timeline_probe_remove(struct timeline *t, unsigned number)
{
    CHECK(number < FAKE_PROBES && t->probe[number].used, "probe %u", number);
    t->probe[number].used = false;
    t->removes++;
}

static bool fake_holds(struct timeline *t, const struct timeline_probe *p)
{
    return !p->condition || p->condition(p->arg, t);
}

/* A breakpoint at the instruction it stands before. */
static bool fake_hits_code(struct timeline *t, struct timeline_stop *out)
{
    for (unsigned i = 0; i < FAKE_PROBES; i++) {
        const struct timeline_probe *p = &t->probe[i].p;
        if (!t->probe[i].used || p->kind != TP_EXECUTE || p->addr != t->s.r[R_RIP] || !fake_holds(t, p))
            continue;
        *out = (struct timeline_stop){.why = TL_PROBE, .hit = {{.probe = i}}, .hits = 1};
        return true;
    }
    return false;
}

/* A watchpoint that the instruction at position `n` hits. */
static bool fake_hits_data(struct timeline *t, uint64_t n, struct timeline_stop *out)
{
    bool write = n % FAKE_LOOP == FAKE_WRITER, read = n % FAKE_LOOP == FAKE_READER;
    for (unsigned i = 0; (write || read) && i < FAKE_PROBES; i++) {
        const struct timeline_probe *p = &t->probe[i].p;
        bool kind = p->kind == TP_ACCESS || (p->kind == TP_WRITE && write) || (p->kind == TP_READ && read);
        bool there = p->addr < FAKE_DATA + 8 && FAKE_DATA < p->addr + p->len;
        if (!t->probe[i].used || !kind || !there || !fake_holds(t, p))
            continue;
        *out = (struct timeline_stop){.why = TL_PROBE, .hit = {{i, MAX(p->addr, FAKE_DATA), write}}, .hits = 1};
        return true;
    }
    return false;
}

static bool fake_interrupted(struct timeline *t, struct timeline_stop *out)
{
    if (t->at % 4096 || !t->o.interrupted || !t->o.interrupted(t->o.arg, 0, t->at, t->end))
        return false;
    *out = (struct timeline_stop){.why = TL_INTERRUPTED};
    return true;
}

static struct err *fake_begin(struct timeline *t, struct timeline_stop *out)
{
    *out = (struct timeline_stop){.why = TL_REACHED};
    t->moves++;
    if (!t->fail)
        return NULL;
    struct err *e = err_new(ERR_DIVERGED, "%s", t->fail);
    t->fail = NULL;
    return e;
}

static bool fake_ahead(struct timeline *t, struct timeline_stop *out)
{
    if (t->at == t->end) {
        *out = (struct timeline_stop){.why = TL_END, .text = "power-off", .status = t->status};
        return false;
    }
    t->at++;
    fake_settle(t);
    return !fake_hits_data(t, t->at - 1, out) && !fake_hits_code(t, out) && !fake_interrupted(t, out);
}

static bool fake_back(struct timeline *t, bool probes, struct timeline_stop *out)
{
    if (!t->at) {
        *out = (struct timeline_stop){.why = TL_BEGIN};
        return false;
    }
    t->at--;
    fake_settle(t);
    return (!probes || (!fake_hits_data(t, t->at, out) && !fake_hits_code(t, out))) && !fake_interrupted(t, out);
}

struct err *timeline_seek(struct timeline *t, uint64_t ticks, struct timeline_stop *out)
{
    struct err *e = fake_begin(t, out);
    if (e)
        return e;
    if (!t->past)
        return err_new(ERR_UNSUPPORTED, "a live guest has no past");
    t->at = MIN(ticks, t->end);
    fake_settle(t);
    if (ticks >= t->end)
        *out = (struct timeline_stop){.why = TL_END, .text = "power-off", .status = t->status};
    return NULL;
}

struct err *timeline_step(struct timeline *t, int64_t n, struct timeline_stop *out)
{
    struct err *e = fake_begin(t, out);
    for (; !e && n > 0 && fake_ahead(t, out); n--)
        ;
    for (; !e && n < 0 && fake_back(t, false, out); n++)
        ;
    return e;
}

struct err *timeline_run(struct timeline *t, bool back, struct timeline_stop *out)
{
    struct err *e = fake_begin(t, out);
    while (!e && (back ? fake_back(t, true, out) : fake_ahead(t, out)))
        ;
    return e;
}

const struct vcpu_state *timeline_vcpu(const struct timeline *t) { return &t->s; }
uint64_t timeline_cr8(const struct timeline *t) { (void)t; return 3; }

static struct err *fake_refuse(const struct timeline *t)
{
    return t->past ? err_new(ERR_UNSUPPORTED, "a recording cannot be changed") : NULL;
}

struct err *timeline_set_vcpu(struct timeline *t, const struct vcpu_state *s)
{
    struct err *e = fake_refuse(t);
    if (!e)
        t->s = *s;
    return e;
}

size_t timeline_read(const struct timeline *t, enum timeline_space space, uint64_t addr, void *buf, size_t len)
{
    (void)space;
    size_t n = addr < FAKE_RAM ? MIN(len, FAKE_RAM - (size_t)addr) : 0;
    if (n)
        memcpy(buf, t->ram + addr, n);
    return n;
}

struct err *timeline_write(struct timeline *t, enum timeline_space space, uint64_t addr, const void *buf, size_t len,
                           size_t *done)
{
    struct err *e = fake_refuse(t);
    (void)space;
    *done = addr < FAKE_RAM ? MIN(len, FAKE_RAM - (size_t)addr) : 0;
    if (!e && *done)
        memcpy(t->ram + addr, buf, *done);
    return e;
}

bool timeline_translate(const struct timeline *t, uint64_t linear, uint64_t *physical_out)
{
    (void)t;
    *physical_out = linear;
    return linear < FAKE_RAM;
}

const uint8_t *timeline_console(const struct timeline *t, size_t *len_out)
{
    static const char text[] = "one\ntwo\nthree\n";
    (void)t;
    *len_out = sizeof(text) - 1;
    return (const uint8_t *)text;
}

/* A line every 100 ticks. */
uint64_t timeline_console_ticks(const struct timeline *t, size_t offset)
{
    size_t len;
    const uint8_t *text = timeline_console(t, &len);
    uint64_t lines = 0;
    for (size_t i = 0; i < offset; i++)
        lines += text[i] == '\n';
    return 100 * lines;
}

/* Three events, number n at 200 * n. */
struct err *timeline_event_at(struct timeline *t, uint64_t seq, struct timeline_event *out, bool *found)
{
    (void)t;
    *found = seq <= 3;
    *out = (struct timeline_event){.seq = MAX(seq, 1), .ticks = 200 * MAX(seq, 1)};
    snprintf(out->text, sizeof(out->text), "event %" PRIu64, out->seq);
    return NULL;
}

struct err *timeline_event_after(struct timeline *t, uint64_t ticks, struct timeline_event *out, bool *found)
{
    return timeline_event_at(t, ticks / 200 + 1, out, found);
}

static struct err *fake_input(void *arg, uint64_t seq, struct position_input *out)
{
    struct timeline_event ev;
    struct err *e = timeline_event_at(arg, seq, &ev, &out->found);
    out->seq = ev.seq;
    out->ticks = ev.ticks;
    return e;
}

struct err *timeline_find(struct timeline *t, const char *text, uint64_t *ticks_out)
{
    return position_find(text, t->end, fake_input, t, ticks_out);
}

uint64_t timeline_ram_len(const struct timeline *t)
{
    return sizeof(t->ram);
}

const uint8_t *timeline_kernel(const struct timeline *t, size_t *len_out)
{
    *len_out = t->kernel_len;
    return t->kernel;
}

struct timeline_stats timeline_stats(const struct timeline *t)
{
    return (struct timeline_stats){.checkpoints = 2, .checkpoint_bytes = MIB(3), .restores = t->moves};
}

#endif
