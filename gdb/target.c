/* gdb/target.c: a timeline as the target of a gdb stub. See target.h. */
#include "gdb/target.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/err.h"
#include "gdb/catch.h"
#include "gdb/monitor.h"
#include "gdb/regs.h"
#include "gdb/stepping.h"

enum { SIGNAL_ABORT = 6, SIGNAL_KILL = 9, SIGNAL_SEGV = 11 }; /* gdb's numbers */

enum status_of {
#define X(code, exit, text) STATUS_##code = exit,
    ERR_CODES(X)
#undef X
};

/* A breakpoint of the stub and its probe. */
struct gdb_link {
    struct gdb_target *target;
    struct gdbs_break *b;
    unsigned number;
};

void gdb_target_deinit(struct gdb_target *target)
{
    for (size_t i = 0; i < target->mark_count; i++)
        free(target->marks[i].name);
    free(target->marks);
    free(target->links);
    free(target->armed);
    gdb_symbols_forget(&target->symbols);
}

static void refuse(struct err *e, char why[GDBS_WHY])
{
    snprintf(why, GDBS_WHY, "%s", err_message(e));
    err_destroy(e);
}

/* ---- registers and memory ---- */

static void thread_text(void *arg, unsigned thread, char *buf, size_t len)
{
    static const char *const activity[] = {
        [VCPU_ACTIVE] = "running", [VCPU_HALTED] = "halted", [VCPU_SHUTDOWN] = "shut down",
    };
    const struct gdb_target *target = arg;
    uint8_t now = timeline_vcpu(target->t)->activity;
    (void)thread;
    snprintf(buf, len, "%s at icount %" PRIu64, now < ARRAY_LEN(activity) ? activity[now] : "?",
             timeline_position(target->t));
}

static bool read_reg(void *arg, unsigned thread, const struct gdbs_reg *r, uint8_t *out)
{
    const struct gdb_target *target = arg;
    (void)thread;
    reg_read(target->t, r, out);
    return true;
}

/* After it has called one of the guest's functions, gdb puts back every register that has changed, even the position,
 * which nobody can want to undo. It shows by the value: the position, as gdb knew it, of a call that was prepared by
 * writing registers. From then on gdb knows no better until the guest moves. */
static bool puts_back(struct gdb_target *target, const struct gdbs_reg *r, const uint8_t *value)
{
    if (r->kind != REG_ICOUNT || timeline_has_past(target->t))
        return false;
    for (unsigned i = 0; i < MIN(target->calls, GDB_CALLS); i++)
        if (target->called_at[i] == get_le64(value)) {
            target->put_back = true;
            target->put_back_to = get_le64(value);
            return true;
        }
    return false;
}

/* The guest is about to move. */
static void note_call(struct gdb_target *target)
{
    if (target->written)
        target->called_at[target->calls++ % GDB_CALLS] =
            target->put_back ? target->put_back_to : timeline_position(target->t);
    target->written = target->put_back = false;
}

static bool write_regs(void *arg, unsigned thread, const struct gdbs_reg *const *regs, const uint8_t *const *values,
                       size_t count, char why[GDBS_WHY])
{
    struct gdb_target *target = arg;
    struct vcpu_state s = *timeline_vcpu(target->t);
    (void)thread;
    for (size_t i = 0; i < count; i++)
        if (!puts_back(target, regs[i], values[i]) && !reg_write(&s, regs[i], values[i], why))
            return false;
    struct err *e = timeline_set_vcpu(target->t, &s);
    if (e) {
        refuse(e, why);
        return false;
    }
    target->written = true;
    return true;
}

static enum timeline_space space_of(enum gdbs_space space)
{
    return space == GDBS_PHYSICAL ? TS_PHYSICAL : TS_LINEAR;
}

static size_t read_memory(void *arg, enum gdbs_space space, uint64_t addr, void *buf, size_t len)
{
    const struct gdb_target *target = arg;
    return timeline_read(target->t, space_of(space), addr, buf, len);
}

static bool write_memory(void *arg, enum gdbs_space space, uint64_t addr, const void *data, size_t len,
                         char why[GDBS_WHY])
{
    struct gdb_target *target = arg;
    size_t done = 0;
    struct err *e = timeline_write(target->t, space_of(space), addr, data, len, &done);
    if (e)
        refuse(e, why);
    else if (done < len)
        snprintf(why, GDBS_WHY, "the memory at %#" PRIx64 " is not mapped", addr + done);
    return !e && done == len;
}

/* ---- breakpoints ---- */

static bool condition(void *arg, struct timeline *t)
{
    const struct gdb_link *link = arg;
    (void)t;
    return !link->b->conditional || gdbs_condition(link->target->g, link->b);
}

static struct gdb_link *link_add(struct gdb_target *target, struct gdbs_break *b)
{
    if (target->link_count == target->link_room) {
        size_t room = MAX(target->link_room * 2, 16);
        struct gdb_link **links = reallocarray(target->links, room, sizeof(*links));
        if (!links)
            return NULL;
        target->links = links;
        target->link_room = room;
    }
    struct gdb_link *link = malloc(sizeof(*link));
    if (!link)
        return NULL;
    *link = (struct gdb_link){.target = target, .b = b};
    target->links[target->link_count++] = link;
    b->handle = (uintptr_t)link;
    return link;
}

static void link_remove(struct gdb_target *target, struct gdb_link *link)
{
    for (size_t i = 0; i < target->link_count; i++)
        if (target->links[i] == link)
            target->links[i] = target->links[--target->link_count];
    free(link);
}

static bool insert(void *arg, struct gdbs_break *b)
{
    static const enum timeline_probe_kind kinds[] = {
        [GDBS_SOFTWARE] = TP_EXECUTE, [GDBS_HARDWARE] = TP_EXECUTE, [GDBS_WATCH] = TP_WRITE,
        [GDBS_READ_WATCH] = TP_READ, [GDBS_ACCESS_WATCH] = TP_ACCESS,
    };
    struct gdb_target *target = arg;
    struct gdb_link *link = link_add(target, b);
    if (!link)
        return false;
    struct timeline_probe p = {
        .kind = kinds[b->type], .physical = b->physical, .addr = b->addr, .len = b->len,
        .condition = condition, .arg = link,
    };
    struct err *e = timeline_probe_add(target->t, &p, &link->number);
    if (e) {
        gdbs_print(target->g, "%s\n", err_message(e));
        err_destroy(e);
        link_remove(target, link);
    }
    return !e;
}

static void remove_break(void *arg, struct gdbs_break *b)
{
    struct gdb_target *target = arg;
    struct gdb_link *link = (struct gdb_link *)b->handle; /* insert() put it there */
    timeline_probe_remove(target->t, link->number);
    link_remove(target, link);
}

static const struct gdbs_break *break_of(const struct gdb_target *target, unsigned number)
{
    for (size_t i = 0; i < target->link_count; i++)
        if (target->links[i]->number == number)
            return target->links[i]->b;
    return NULL;
}

/* ---- the rest ---- */

static bool interrupted(void *arg)
{
    const struct gdb_target *target = arg;
    return target->interrupted && target->interrupted(target->interrupted_arg);
}

static bool restart(void *arg)
{
    struct gdb_target *target = arg;
    struct timeline_stop stop;
    if (!timeline_has_past(target->t))
        return false;
    struct err *e = timeline_seek(target->t, 0, &stop);
    if (e) {
        gdbs_print(target->g, "%s\n", err_message(e));
        err_destroy(e);
    }
    return !e;
}

static bool monitor(void *arg, struct gdbs *g, const char *command)
{
    (void)g;
    return gdb_monitor(arg, command);
}

/* Whether gdb can use it: an ELF file of the description's width (the fifth byte is its class). */
static bool fits(const struct gdb_target *target, const uint8_t *data, size_t len)
{
    enum { CLASS_AT = 4, CLASS_32 = 1, CLASS_64 = 2, HEADER_MIN = 52 };
    return data && len >= HEADER_MIN && !memcmp(data, "\177ELF", 4) &&
           data[CLASS_AT] == (target->arch == &gdb_arch_i386 ? CLASS_32 : CLASS_64);
}

enum { FILE_KERNEL, FILE_TYPES };
static const char *const files[] = {[FILE_KERNEL] = "/kernel", [FILE_TYPES] = "/types", NULL};

/* The kernel: the recording's, if that is an ELF file, or else what the guest's memory says of it. */
static bool file(void *arg, unsigned index, const uint8_t **data_out, size_t *len_out)
{
    struct gdb_target *target = arg;
    bool found = false;
    *data_out = timeline_kernel(target->t, len_out);
    if (index == FILE_KERNEL && fits(target, *data_out, *len_out))
        return true;
    struct err *e = target->symbols.ks ? NULL : gdb_symbols_look(&target->symbols, target->t, false, &found);
    if (!e && target->symbols.ks)
        e = index == FILE_TYPES ? gdb_symbols_types(&target->symbols, data_out, len_out)
                                : gdb_symbols_names(&target->symbols, data_out, len_out);
    bool ok = !e && target->symbols.ks && fits(target, *data_out, *len_out);
    err_destroy(e); /* here is no place for text: gdb says that there is no such file */
    return ok;
}

const struct gdbs_ops gdb_target_ops = {
    .thread_text = thread_text, .read_reg = read_reg, .write_regs = write_regs, .read_memory = read_memory,
    .write_memory = write_memory, .insert = insert, .remove = remove_break, .restart = restart, .monitor = monitor,
    .files = files, .file = file, .interrupted = interrupted,
};

/* ---- moving ---- */

static struct err *move(struct gdb_target *target, const struct gdbs_resume *r, struct timeline_stop *stop)
{
    switch (r->how) {
    case GDBS_CONTINUE: return timeline_run(target->t, r->back, stop);
    case GDBS_STEP: return timeline_step(target->t, r->back ? -1 : 1, stop);
    case GDBS_STEP_RANGE: return stepping_range(target, r->start, r->end, stop);
    }
    return NULL;
}

/* A live guest is over. One that crashed still stands there, to be looked at: it dies at the next attempt to go on. */
static void ended(struct gdb_target *target, const struct timeline_stop *stop, struct gdbs_stop *out, int *status_out)
{
    static const struct { int status, signal; } crashes[] = {
        {STATUS_ERR_GUEST, SIGNAL_SEGV}, {STATUS_ERR_HALTED, SIGNAL_ABORT},
    };
    *status_out = stop->status;
    *out = (struct gdbs_stop){.kind = GDBS_STOP_EXITED, .code = stop->status};
    for (size_t i = 0; i < ARRAY_LEN(crashes); i++)
        if (crashes[i].status == stop->status)
            *out = (struct gdbs_stop){.kind = target->dead ? GDBS_STOP_SIGNALLED : GDBS_STOP_SIGNAL,
                                      .code = crashes[i].signal};
    target->dead = true;
}

static void explain(struct gdb_target *target, const struct timeline_stop *stop, struct gdbs_stop *out, int *status_out)
{
    static const enum gdbs_stop_kind kinds[] = {
        [TL_REACHED] = GDBS_STOP_STEP, [TL_PROBE] = GDBS_STOP_BREAK, [TL_BEGIN] = GDBS_STOP_BEGIN,
        [TL_END] = GDBS_STOP_END, [TL_INTERRUPTED] = GDBS_STOP_INTERRUPT,
    };
    *out = (struct gdbs_stop){.kind = kinds[stop->why]};
    for (size_t i = 0; i < stop->hits; i++) {
        gdb_catch_tell(target, &stop->hit[i]);
        if (out->hit)
            continue;
        out->hit = break_of(target, stop->hit[i].probe);
        out->addr = stop->hit[i].addr;
    }
    if (stop->why != TL_END)
        return;
    if (stop->text[0] && !target->dead)
        gdbs_print(target->g, "%s ends here: %s\n", timeline_has_past(target->t) ? "The recording" : "The guest",
                   stop->text);
    if (!timeline_has_past(target->t))
        ended(target, stop, out, status_out);
}

/* Backwards it is not known how far; a live guest goes nowhere in particular. */
void gdb_target_progress(struct gdb_target *target, uint64_t from, uint64_t at, uint64_t to)
{
    if (!timeline_has_past(target->t))
        return;
    if (to < from)
        gdbs_print(target->g, "looking back: at icount %" PRIu64 "\n", at);
    else if (at >= from && at <= to && to > from)
        gdbs_print(target->g, "%.0f %%: at icount %" PRIu64 " on the way to %" PRIu64 "\n",
                   (double)(at - from) * 100 / (double)(to - from), at, to);
}

void gdb_target_move(struct gdb_target *target, const struct gdbs_resume *r, struct gdbs_stop *out, int *status_out)
{
    struct timeline_stop stop = {.why = TL_REACHED};
    *out = (struct gdbs_stop){.kind = GDBS_STOP_STEP};
    note_call(target);
    if (target->armed) {
        char *command = target->armed;
        target->armed = NULL;
        gdb_monitor(target, command);
        free(command);
        return;
    }
    struct err *e = move(target, r, &stop);
    if (!e) {
        explain(target, &stop, out, status_out);
        return;
    }
    gdbs_print(target->g, "%s\n", err_message(e));
    err_destroy(e);
    *out = (struct gdbs_stop){.kind = GDBS_STOP_SIGNAL, .code = SIGNAL_KILL};
}
