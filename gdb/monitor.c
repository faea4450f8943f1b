/* gdb/monitor.c: the table of monitor commands, and those that move in time. See monitor.h. */
#include "gdb/monitor.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/base/number.h"
#include "gdb/catch.h"
#include "gdb/regs.h"
#include "replay/position.h"

#define SAY(m, ...) text_printf((m)->out, __VA_ARGS__)

bool monitor_address(struct monitor *m, int i, uint64_t *out)
{
    if (number_parse(m->argv[i], out))
        return true;
    SAY(m, "%s: an address was expected, such as 0xffffffff81000000\n", m->argv[i]);
    return false;
}

/* ---- where it stands ---- */

static void say_position(struct monitor *m)
{
    const struct timeline *t = m->target->t;
    uint64_t at = timeline_position(t), end = timeline_end(t), ns = timeline_ns(t);
    SAY(m, "icount %" PRIu64, at);
    if (timeline_has_past(t))
        SAY(m, " of %" PRIu64 " (%.2f %%)", end, end ? (double)at * 100 / (double)end : 0.0);
    SAY(m, ", %" PRIu64 ".%06" PRIu64 " s of virtual time, rip %#" PRIx64 "\n", ns / NS_PER_S, ns % NS_PER_S / 1000,
        reg_pc(timeline_vcpu(t)));
}

static void failed(struct monitor *m, struct err *e)
{
    SAY(m, "%s\n", err_message(e));
    err_destroy(e);
}

static void cmd_when(struct monitor *m)
{
    say_position(m);
}

/* ---- marks ---- */

static struct gdb_mark *find_mark(const struct gdb_target *target, const char *name)
{
    for (size_t i = 0; i < target->mark_count; i++)
        if (!strcmp(target->marks[i].name, name))
            return &target->marks[i];
    return NULL;
}

static bool add_mark(struct gdb_target *target, const char *name, uint64_t ticks)
{
    struct gdb_mark *old = find_mark(target, name);
    if (old) {
        old->ticks = ticks;
        return true;
    }
    struct gdb_mark *marks = reallocarray(target->marks, target->mark_count + 1, sizeof(*marks));
    if (!marks)
        return false;
    target->marks = marks;
    char *copy = strdup(name);
    if (copy)
        marks[target->mark_count++] = (struct gdb_mark){copy, ticks};
    return copy;
}

/* A name must not look like a position, or nobody could go there. */
static bool good_name(const char *name)
{
    return !position_like(name) && (((*name | 0x20) >= 'a' && (*name | 0x20) <= 'z') || *name == '_');
}

static void cmd_mark(struct monitor *m)
{
    char number[32];
    const char *name = number;
    uint64_t at = timeline_position(m->target->t);
    if (m->argc)
        name = m->argv[0];
    else
        for (unsigned i = 1; snprintf(number, sizeof(number), "m%u", i), find_mark(m->target, number);)
            i++;
    if (!good_name(name))
        SAY(m, "%s: a name begins with a letter, and is not `start`, `end`, or `e` and a number\n", name);
    else if (add_mark(m->target, name, at))
        SAY(m, "%s is icount %" PRIu64 "\n", name, at);
    else
        SAY(m, "out of memory\n");
}

static int by_ticks(const void *a, const void *b)
{
    const struct gdb_mark *x = a, *y = b;
    return x->ticks < y->ticks ? -1 : x->ticks > y->ticks;
}

static void cmd_marks(struct monitor *m)
{
    struct gdb_target *target = m->target;
    if (!target->mark_count)
        SAY(m, "there are no marks\n");
    else
        qsort(target->marks, target->mark_count, sizeof(*target->marks), by_ticks);
    for (size_t i = 0; i < target->mark_count; i++)
        SAY(m, "%-16s icount %" PRIu64 "\n", target->marks[i].name, target->marks[i].ticks);
}

/* ---- moving ---- */

static uint64_t clamp_add(uint64_t at, bool minus, uint64_t n)
{
    if (minus)
        return at > n ? at - n : 0;
    return n < UINT64_MAX - at ? at + n : UINT64_MAX;
}

static void say_stop(struct monitor *m, const struct timeline_stop *stop)
{
    if (stop->why == TL_INTERRUPTED)
        SAY(m, "interrupted on the way\n");
    if (stop->why == TL_END)
        SAY(m, "the recording ends here%s%s\n", stop->text[0] ? ": " : "", stop->text);
    say_position(m);
}

/* Going somewhere behind gdb's back: it believes the registers it has read until it is told. */
static void moved(struct monitor *m, uint64_t from)
{
    struct gdbs_resume ignored;
    if (timeline_position(m->target->t) != from && gdbs_wants(m->target->g, &ignored) == GDBS_WANT_BYTES)
        SAY(m, "(gdb still shows the registers of before: say `maintenance flush register-cache`)\n");
}

static void go_to(struct monitor *m, uint64_t to)
{
    struct timeline_stop stop;
    uint64_t from = timeline_position(m->target->t);
    struct err *e = timeline_seek(m->target->t, to, &stop);
    if (e)
        failed(m, e);
    else
        say_stop(m, &stop);
    moved(m, from);
}

static void cmd_seek(struct monitor *m)
{
    const char *text = m->argv[0];
    const struct gdb_mark *mark = find_mark(m->target, text);
    bool relative = *text == '+' || *text == '-';
    uint64_t to;
    struct err *e = NULL;
    if (mark)
        to = mark->ticks;
    else if (relative && number_parse(text + 1, &to))
        to = clamp_add(timeline_position(m->target->t), *text == '-', to);
    else
        e = timeline_find(m->target->t, text, &to);
    if (e && err_code(e) == ERR_USAGE)
        e = err_wrap(e, "%s is no mark, +n or -n", text);
    if (e)
        failed(m, e);
    else
        go_to(m, to);
}

static void cmd_restart(struct monitor *m)
{
    go_to(m, 0);
}

/* Back to the probe that was just added; gdb's own are in the way only when it keeps them inserted. */
static struct err *run_back_to(struct monitor *m, unsigned probe, struct timeline_stop *stop)
{
    struct err *e;
    do
        e = timeline_run(m->target->t, true, stop);
    while (!e && stop->why == TL_PROBE && !timeline_hit_of(stop, probe));
    return e;
}

static struct err *back_to_write(struct monitor *m, const struct timeline_probe *p)
{
    struct timeline_stop stop = {0}, ignored;
    uint64_t from = timeline_position(m->target->t);
    unsigned number;
    struct err *e = timeline_probe_add(m->target->t, p, &number);
    if (e)
        return e;
    e = run_back_to(m, number, &stop);
    timeline_probe_remove(m->target->t, number);
    if (e)
        return e;
    const struct timeline_hit *hit = timeline_hit_of(&stop, number);
    if (hit)
        SAY(m, "the next instruction writes %#" PRIx64 "\n", hit->addr);
    if (stop.why != TL_BEGIN) {
        say_stop(m, &stop);
        return NULL;
    }
    SAY(m, "nothing was written there before\n");
    return timeline_seek(m->target->t, from, &ignored);
}

static void cmd_last_write(struct monitor *m)
{
    uint64_t from = timeline_position(m->target->t);
    struct timeline_probe p = {.kind = TP_WRITE, .len = 8};
    p.physical = m->argc == 3;
    if (p.physical && strcmp(m->argv[2], "physical") != 0) {
        SAY(m, "%s: `physical`, or nothing, was expected\n", m->argv[2]);
        return;
    }
    if (!monitor_address(m, 0, &p.addr))
        return;
    if (m->argc > 1 && (!number_parse(m->argv[1], &p.len) || !p.len || p.len - 1 > UINT64_MAX - p.addr)) {
        SAY(m, "%s: a number of bytes was expected\n", m->argv[1]);
        return;
    }
    struct err *e = back_to_write(m, &p);
    if (e)
        failed(m, e);
    moved(m, from);
}

/* For the real gdb commands of hyperwind.py: gdb then sees a step that ends elsewhere, and shows where. */
static void cmd_on_step(struct monitor *m)
{
    struct text line = {0};
    for (int i = 0; i < m->argc; i++) {
        text_str(&line, i ? " " : "");
        text_str(&line, m->argv[i]);
    }
    text_char(&line, '\0');
    free(m->target->armed);
    m->target->armed = text_failed(&line) ? NULL : (char *)line.data;
    if (text_failed(&line))
        text_deinit(&line);
}

/* ---- looking ---- */

static void cmd_checkpoints(struct monitor *m)
{
    struct timeline_stats s = timeline_stats(m->target->t);
    SAY(m, "%" PRIu64 " checkpoints, %.1f MiB\n", s.checkpoints, (double)s.checkpoint_bytes / (double)MIB(1));
}

static void cmd_stats(struct monitor *m)
{
    struct timeline_stats s = timeline_stats(m->target->t);
    cmd_checkpoints(m);
    SAY(m, "%" PRIu64 " restores, %" PRIu64 " ticks replayed\n", s.restores, s.ticks_replayed);
    SAY(m, "%zu breakpoints and watchpoints\n", m->target->link_count);
}

/* hyperwind.py reads this. */
static void cmd_kernel(struct monitor *m)
{
    struct gdb_symbols *known = &m->target->symbols;
    uint64_t slide;
    bool found;
    struct err *e = gdb_symbols_look(known, m->target->t, false, &found);
    if (e)
        failed(m, e);
    else if (!known->ks)
        SAY(m, "from here no Linux kernel is to be seen that has symbols\n");
    else if (ksyms_slide(known->ks, &slide))
        SAY(m, "%s\n%zu symbols, moved by %#" PRIx64 "\n", ksyms_banner(known->ks), ksyms_count(known->ks), slide);
    else
        SAY(m, "%s\n%zu symbols, moved nobody knows how far\n", ksyms_banner(known->ks), ksyms_count(known->ks));
}

static void cmd_digest(struct monitor *m)
{
    SAY(m, "%016" PRIx64 "\n", timeline_digest(m->target->t));
}

static void cmd_console(struct monitor *m)
{
    uint64_t lines = 40;
    size_t len;
    const uint8_t *text = timeline_console(m->target->t, &len);
    if (m->argc && !number_parse(m->argv[0], &lines)) {
        SAY(m, "%s: a number of lines was expected\n", m->argv[0]);
        return;
    }
    size_t from = len;
    while (from && (text[from - 1] != '\n' || from == len || lines-- > 1))
        from--;
    for (size_t to; from < len; from = to) {
        const uint8_t *end = memchr(text + from, '\n', len - from);
        to = end ? (size_t)(end - text) + 1 : len;
        size_t shown = to - from;
        while (shown && (text[from + shown - 1] == '\n' || text[from + shown - 1] == '\r'))
            shown--;
        SAY(m, "%14" PRIu64 "  ", timeline_console_ticks(m->target->t, from));
        text_add(m->out, text + from, shown);
        text_char(m->out, '\n');
    }
}

static void cmd_events(struct monitor *m)
{
    struct timeline_event ev;
    uint64_t count = 10;
    bool found = true;
    if (m->argc && !number_parse(m->argv[0], &count)) {
        SAY(m, "%s: a number of events was expected\n", m->argv[0]);
        return;
    }
    struct err *e = timeline_event_after(m->target->t, timeline_position(m->target->t), &ev, &found);
    for (; !e && found && count; count--) {
        SAY(m, "%s\n", ev.text);
        e = timeline_event_at(m->target->t, ev.seq + 1, &ev, &found);
    }
    if (e)
        failed(m, e);
    else if (!found)
        SAY(m, "no more events\n");
}

static void cmd_progress(struct monitor *m)
{
    uint64_t ms = 0;
    if (m->argc && strcmp(m->argv[0], "off") != 0 && (!number_parse(m->argv[0], &ms) || !ms)) {
        SAY(m, "%s: a number of milliseconds was expected, or off\n", m->argv[0]);
        return;
    }
    if (m->argc)
        m->target->progress_ms = ms;
    if (m->target->progress_ms)
        SAY(m, "long moves say every %" PRIu64 " ms where they are\n", m->target->progress_ms);
    else
        SAY(m, "long moves do not say where they are\n");
}

static void info_version(struct monitor *m)
{
    SAY(m, "Hyperwind " HW_VERSION "\n");
}

static void cmd_info(struct monitor *m)
{
    static const struct { const char *name; void (*run)(struct monitor *m); } rows[] = {
        {"registers", monitor_registers}, {"mem", monitor_mem}, {"tlb", monitor_tlb}, {"version", info_version},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (!strcmp(rows[i].name, m->argv[0])) {
            rows[i].run(m);
            return;
        }
    SAY(m, "info: there is registers, mem, tlb and version, no %s\n", m->argv[0]);
}

static void cmd_help(struct monitor *m);

static const struct command {
    const char *name, *args, *what;
    int min, max; /* arguments */
    bool past;    /* needs a recording */
    void (*run)(struct monitor *m);
} commands[] = {
    {"help", "", "this", 0, 1, false, cmd_help},
    {"when", "", "the position, as icount, share of the recording and virtual time", 0, 0, false, cmd_when},
    {"seek", "ICOUNT|P%|+N|-N|start|end|eEVENT|MARK", "go there", 1, 1, true, cmd_seek},
    {"mark", "[NAME]", "give this position a name", 0, 1, true, cmd_mark},
    {"marks", "", "the names given", 0, 0, true, cmd_marks},
    {"restart", "", "go to the beginning", 0, 0, true, cmd_restart},
    {"last-write", "ADDR [LEN [physical]]", "go back to just before the last write to LEN (8) bytes at ADDR", 1, 3,
     true, cmd_last_write},
    {"on-step", "COMMAND...", "the next step or continue executes this command instead", 1, MONITOR_ARGS, false,
     cmd_on_step},
    {"console", "[LINES]", "the last lines (40) of the guest's console up to here", 0, 1, false, cmd_console},
    {"events", "[N]", "what came from outside after this position: the next N (10)", 0, 1, true, cmd_events},
    {"catch", "vector N[-M]|port N[-M]|console TEXT|input", "stop at interrupts and exceptions, I/O, output, input", 1,
     MONITOR_ARGS, false, monitor_catch},
    {"catches", "", "the catchpoints there are", 0, 0, false, monitor_catches},
    {"uncatch", "N|all", "take a catchpoint away", 1, 1, false, monitor_uncatch},
    {"progress", "[MS|off]", "how often long moves say where they are", 0, 1, false, cmd_progress},
    {"checkpoints", "", "how many there are and what they take", 0, 0, true, cmd_checkpoints},
    {"stats", "", "what the timeline did so far", 0, 0, false, cmd_stats},
    {"kernel", "", "which Linux this is, and how far KASLR moved it", 0, 0, false, cmd_kernel},
    {"digest", "", "a hash of registers, devices and memory: equal states have equal ones", 0, 0, false, cmd_digest},
    {"info", "registers|mem|tlb|version", "registers, mapped memory, pages", 1, 1, false, cmd_info},
    {"xp", "[/FMT] ADDR", "physical memory; FMT: count, x d u, b h w g", 1, 2, false, monitor_xp},
    {"gva2gpa", "ADDR", "the physical address of a linear one", 1, 1, false, monitor_gva2gpa},
};

static void cmd_help(struct monitor *m)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        char call[64];
        snprintf(call, sizeof(call), "%s %s", commands[i].name, commands[i].args);
        SAY(m, "%-46s %s\n", call, commands[i].what);
    }
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static void execute(const struct command *c, struct monitor *m)
{
    if (c->past && !timeline_has_past(m->target->t))
        SAY(m, "%s: a live guest has no past; record it and debug the recording\n", c->name);
    else if (m->argc < c->min || m->argc > c->max)
        SAY(m, "usage: %s %s\n", c->name, c->args);
    else
        c->run(m);
}

bool gdb_monitor(struct gdb_target *target, const char *line)
{
    static const char blanks[] = " \t\r\n";
    AUTO_FREE char *copy = strdup(line);
    struct text out = {0};
    struct monitor m = {.target = target, .out = &out};
    char *rest = NULL, *name = copy ? strtok_r(copy, blanks, &rest) : NULL, *arg;
    const struct command *c = find_command(name ? name : "help");
    if (!c)
        return false;
    m.line = rest ? line + (rest - copy) + strspn(rest, blanks) : "";
    while (name && m.argc < MONITOR_ARGS && (arg = strtok_r(NULL, blanks, &rest)))
        m.argv[m.argc++] = arg;
    execute(c, &m);
    gdbs_print_bytes(target->g, out.data, out.len);
    text_deinit(&out);
    return true;
}
