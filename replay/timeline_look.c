/* replay/timeline_look.c: where a timeline is, and what is there. See timeline.h. */
#include <stdio.h>

#include "core/base/hash.h"
#include "core/irq.h"
#include "replay/digest.h"
#include "replay/position.h"
#include "replay/timeline_impl.h"

bool timeline_has_past(const struct timeline *t) { return t->replayer; }
uint64_t timeline_position(const struct timeline *t) { return t->m->vcpu.ticks; }
uint64_t timeline_end(const struct timeline *t) { return t->replayer ? t->end : t->m->vcpu.ticks; }
uint64_t timeline_ns(const struct timeline *t) { return vclock_ns(&t->m->clock); }
const char *timeline_path(const struct timeline *t) { return t->rec.path; }
uint64_t timeline_ram_len(const struct timeline *t) { return t->m->mem.ram_len; }

/* ---- registers ---- */

static struct err *may_write(const struct timeline *t)
{
    if (t->replayer)
        return err_new(ERR_UNSUPPORTED, "this is a recording: what happened cannot be changed");
    if (t->live_recorded)
        return err_new(ERR_UNSUPPORTED, "this guest is being recorded: a change from outside would not be in the recording");
    return NULL;
}

const struct vcpu_state *timeline_vcpu(const struct timeline *t)
{
    return &t->m->vcpu.s;
}

uint64_t timeline_cr8(const struct timeline *t)
{
    return lapic_cr8(t->m);
}

/* What may be written from outside: fields whose every value is one that the CPU could hold, or is checked below. What decides
 * how code runs (modes, paging, selectors) is the guest's own. */
#define FIELD(name) {#name, offsetof(struct vcpu_state, name), sizeof(((struct vcpu_state *)0)->name)}
static const struct { const char *name; size_t offset, len; } writable[] = {
    FIELD(r), FIELD(rflags), FIELD(aflags), FIELD(seg[S_FS].base), FIELD(seg[S_GS].base), FIELD(kernel_gs_base), FIELD(cr2),
    FIELD(x87), FIELD(ymm), FIELD(mxcsr),
};

static bool is_writable(size_t at)
{
    for (size_t i = 0; i < ARRAY_LEN(writable); i++)
        if (at - writable[i].offset < writable[i].len)
            return true;
    return false;
}

static bool canonical(uint64_t a)
{
    return a + (UINT64_C(1) << 47) < UINT64_C(1) << 48;
}

static struct err *check_values(const struct timeline *t, const struct vcpu_state *s)
{
    enum { MXCSR_DEFINED = 0xffff };
    const struct vcpu_state *now = &t->m->vcpu.s;
    const uint64_t modes = FL_TF | FL_IF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_VIF | FL_VIP;
    if ((now->efer & EFER_LMA) &&
        !(canonical(s->r[R_RIP]) && canonical(s->seg[S_FS].base) && canonical(s->seg[S_GS].base) && canonical(s->kernel_gs_base)))
        return err_new(ERR_RANGE, "an address that is not canonical cannot be in that register");
    if (s->mxcsr & ~(uint32_t)MXCSR_DEFINED)
        return err_new(ERR_RANGE, "mxcsr 0x%" PRIx32 " has reserved bits", s->mxcsr);
    if ((s->rflags ^ now->rflags) & modes)
        return err_new(ERR_UNSUPPORTED, "of eflags, the arithmetic flags, DF, AC and ID can be written");
    for (const struct vcpu_field *f = vcpu_fields; f->f.name; f++)
        for (size_t at = f->f.offset; at < f->f.offset + f->f.len; at++)
            if (((const uint8_t *)s)[at] != ((const uint8_t *)now)[at] && !is_writable(at))
                return err_new(ERR_UNSUPPORTED, "%s cannot be written from outside", f->f.name);
    return NULL;
}

struct err *timeline_set_vcpu(struct timeline *t, const struct vcpu_state *s)
{
    struct err *e = may_write(t);
    if (!e)
        e = check_values(t, s);
    if (e)
        return e;
    for (size_t i = 0; i < ARRAY_LEN(writable); i++)
        memcpy((uint8_t *)&t->m->vcpu.s + writable[i].offset, (const uint8_t *)s + writable[i].offset, writable[i].len);
    t->m->vcpu.s.r[R_ZERO] = 0;
    vcpu_set_rflags(&t->m->vcpu.s, vcpu_rflags(&t->m->vcpu.s)); /* reserved bits as they have to be */
    exec_registers_changed(t->m);
    return NULL;
}

/* ---- memory ---- */

bool timeline_translate(const struct timeline *t, uint64_t linear, uint64_t *physical_out)
{
    gpa_t out;
    if (!exec_translate(t->m, gva(linear), &out))
        return false;
    *physical_out = out.v;
    return true;
}

/* Bytes of [addr, addr + len) that lie in one page, and where; 0 when they are nowhere. */
static size_t one_page(const struct timeline *t, enum timeline_space space, uint64_t addr, size_t len, gpa_t *out)
{
    out->v = addr;
    if (space == TS_LINEAR && !timeline_translate(t, addr, &out->v))
        return 0;
    if (mem_page(&t->m->mem, *out) == MEM_NO_PAGE)
        return 0;
    return MIN(len, PAGE_SIZE - (size_t)(addr & PAGE_MASK));
}

size_t timeline_read(const struct timeline *t, enum timeline_space space, uint64_t addr, void *buf, size_t len)
{
    size_t done = 0;
    gpa_t at;
    for (size_t n; done < len && (n = one_page(t, space, addr + done, len - done, &at)) > 0; done += n)
        mem_read(&t->m->mem, at, (uint8_t *)buf + done, n);
    return done;
}

struct err *timeline_write(struct timeline *t, enum timeline_space space, uint64_t addr, const void *buf, size_t len,
                           size_t *done)
{
    gpa_t at;
    *done = 0;
    struct err *e = may_write(t);
    for (size_t n; !e && *done < len && (n = one_page(t, space, addr + *done, len - *done, &at)) > 0; *done += n)
        mem_load(&t->m->mem, at, (const uint8_t *)buf + *done, n);
    return e;
}

/* ---- the rest ---- */

uint64_t timeline_digest(struct timeline *t)
{
    const struct vcpu *v = &t->m->vcpu;
    uint64_t memory = t->replayer ? digest_memory(replayer_digester(t->replayer)).total
                                  : hash64(t->m->mem.host, t->m->mem.ram_len, 0);
    uint64_t parts[] = {v->ticks, vcpu_digest(&v->s, VG_COUNT), machine_devices_digest(t->m), memory};
    return hash64(parts, sizeof(parts), 0);
}

const uint8_t *timeline_console(const struct timeline *t, size_t *len_out)
{
    return transcript_text(&t->console, len_out);
}

uint64_t timeline_console_ticks(const struct timeline *t, size_t offset)
{
    return transcript_ticks(&t->console, offset);
}

/* ---- events ---- */

static void describe(struct log_pos pos, const struct log_event *ev, struct timeline_event *out)
{
    out->seq = pos.seq;
    out->ticks = pos.ticks;
    out->text[0] = 0;
    FILE *f = fmemopen(out->text, sizeof(out->text), "w");
    if (!f)
        return;
    log_event_print(f, pos, ev, false);
    fclose(f);
    out->text[sizeof(out->text) - 1] = 0;
    out->text[strcspn(out->text, "\n")] = 0;
}

static struct err *open_events(struct timeline *t)
{
    if (!t->replayer)
        return err_new(ERR_UNSUPPORTED, "a live guest has no list of events");
    return t->events ? NULL : log_reader_open(t->rec.path, &t->events);
}

/* From where the reader stands. */
static struct err *next_input(struct timeline *t, struct timeline_event *out, bool *found)
{
    struct log_pos pos;
    struct log_event ev;
    struct err *e = recording_next_input(t->events, &pos, &ev, found);
    if (*found)
        describe(pos, &ev, out);
    return e;
}

struct err *timeline_event_at(struct timeline *t, uint64_t seq, struct timeline_event *out, bool *found)
{
    *found = false;
    struct err *e = open_events(t);
    if (!e)
        e = log_reader_seek(t->events, seq);
    return e ? e : next_input(t, out, found);
}

struct err *timeline_event_after(struct timeline *t, uint64_t ticks, struct timeline_event *out, bool *found)
{
    *found = false;
    struct err *e = open_events(t);
    if (!e)
        e = log_reader_seek_ticks(t->events, ticks + 1);
    return e ? e : next_input(t, out, found);
}

static struct err *input_at(void *arg, uint64_t seq, struct position_input *out)
{
    struct timeline_event ev = {0};
    struct err *e = timeline_event_at(arg, seq, &ev, &out->found);
    out->seq = ev.seq;
    out->ticks = ev.ticks;
    return e;
}

struct err *timeline_find(struct timeline *t, const char *text, uint64_t *ticks_out)
{
    return position_find(text, timeline_end(t), input_at, t, ticks_out);
}

const uint8_t *timeline_kernel(const struct timeline *t, size_t *len_out)
{
    *len_out = t->rec.spec.image.kernel_len;
    return t->rec.spec.image.kernel;
}

struct timeline_stats timeline_stats(const struct timeline *t)
{
    if (!t->replayer)
        return (struct timeline_stats){0};
    struct checkpoints_stats s = checkpoints_stats(t->checkpoints);
    return (struct timeline_stats){s.count, s.bytes, s.restores, t->replayed};
}
