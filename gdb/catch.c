/* gdb/catch.c: see catch.h. */
#include "gdb/catch.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "core/base/err.h"
#include "core/base/number.h"

#define SAY(m, ...) text_printf((m)->out, __VA_ARGS__)

enum { VECTORS = 256, PORTS = 65536 };

struct gdb_catch {
    unsigned id;     /* for the user */
    unsigned number; /* of the probe */
    struct timeline_probe probe;
    char *text;      /* of TP_OUTPUT; else NULL */
    struct gdb_catch *next;
};

/* SDM vol. 3, table 6-1. */
static const char *const exceptions[] = {
    [0] = "#DE",  [1] = "#DB",  [2] = "NMI",  [3] = "#BP",  [4] = "#OF",  [5] = "#BR",
    [6] = "#UD",  [7] = "#NM",  [8] = "#DF",  [10] = "#TS", [11] = "#NP", [12] = "#SS",
    [13] = "#GP", [14] = "#PF", [16] = "#MF", [17] = "#AC", [18] = "#MC", [19] = "#XM",
};

/* ---- in words ---- */

static void say_vector(uint64_t vector, char *out, size_t len)
{
    const char *name = vector < ARRAY_LEN(exceptions) ? exceptions[vector] : NULL;
    if (name)
        snprintf(out, len, "vector %" PRIu64 " (%s)", vector, name);
    else
        snprintf(out, len, "vector %" PRIu64, vector);
}

static void describe(const struct gdb_catch *c, char *out, size_t len)
{
    uint64_t first = c->probe.addr, last = first + c->probe.len - 1;
    switch (c->probe.kind) {
    case TP_VECTOR:
        if (first == last)
            say_vector(first, out, len);
        else
            snprintf(out, len, "vectors %" PRIu64 " to %" PRIu64, first, last);
        break;
    case TP_PORT:
        if (first == last)
            snprintf(out, len, "port %#" PRIx64, first);
        else
            snprintf(out, len, "ports %#" PRIx64 " to %#" PRIx64, first, last);
        break;
    case TP_OUTPUT:
        snprintf(out, len, "console prints \"%s\"", c->text);
        break;
    default:
        snprintf(out, len, "input");
    }
}

void gdb_catch_tell(const struct gdb_target *target, const struct timeline_hit *hit)
{
    const struct gdb_catch *c = target->catches;
    char what[128];
    while (c && c->number != hit->probe)
        c = c->next;
    if (!c)
        return;
    switch (c->probe.kind) {
    case TP_VECTOR:
        say_vector(hit->addr, what, sizeof(what));
        break;
    case TP_PORT:
        snprintf(what, sizeof(what), "port %#" PRIx64 " is %s", hit->addr, hit->write ? "written" : "read");
        break;
    default:
        describe(c, what, sizeof(what));
    }
    gdbs_print(target->g, "Catchpoint %u: %s\n", c->id, what);
}

/* ---- what is wanted ---- */

static bool one_of(const char *text, uint64_t count, bool named, uint64_t *out)
{
    if (number_parse(text, out))
        return *out < count;
    for (size_t i = 0; named && i < ARRAY_LEN(exceptions); i++)
        if (exceptions[i] && (!strcasecmp(exceptions[i], text) || !strcasecmp(exceptions[i] + (*exceptions[i] == '#'), text))) {
            *out = i;
            return true;
        }
    return false;
}

/* N or N-M, below count. */
static bool some_of(char *text, uint64_t count, bool named, struct timeline_probe *p)
{
    uint64_t last;
    char *dash = strchr(text, '-');
    if (dash)
        *dash = 0;
    if (!one_of(text, count, named, &p->addr))
        return false;
    if (!dash)
        return true;
    if (!one_of(dash + 1, count, named, &last) || last < p->addr)
        return false;
    p->len = last - p->addr + 1;
    return true;
}

/* From the words behind `catch`; what they should have been, or NULL. */
static const char *parse(struct monitor *m, struct gdb_catch *c)
{
    char *const *words = m->argv;
    c->probe.len = 1;
    if (!strcmp(words[0], "input") && m->argc == 1) {
        c->probe.kind = TP_INPUT;
        return NULL;
    }
    if (!strcmp(words[0], "console") && m->argc > 1) {
        c->probe.kind = TP_OUTPUT;
        c->text = strdup(m->line + (words[1] - words[0]));
        c->probe.text = c->text;
        return c->text ? NULL : "more memory";
    }
    if (!strcmp(words[0], "vector") && m->argc == 2) {
        c->probe.kind = TP_VECTOR;
        return some_of(words[1], VECTORS, true, &c->probe) ? NULL : "a vector (14, #PF) or some (32-255)";
    }
    if (!strcmp(words[0], "port") && m->argc == 2) {
        c->probe.kind = TP_PORT;
        return some_of(words[1], PORTS, false, &c->probe) ? NULL : "an I/O port (0x3f8) or some (0x20-0x21)";
    }
    return "vector N[-M], port N[-M], console TEXT or input";
}

static void drop(struct gdb_catch *c)
{
    if (c)
        free(c->text);
    free(c);
}

void monitor_catch(struct monitor *m)
{
    char what[128];
    struct gdb_catch *c = calloc(1, sizeof(*c)), **end = &m->target->catches;
    const char *expected = c ? parse(m, c) : "more memory";
    struct err *e = expected ? NULL : timeline_probe_add(m->target->t, &c->probe, &c->number);
    if (expected || e) {
        if (e)
            SAY(m, "%s\n", err_message(e));
        else
            SAY(m, "%s: expected %s\n", m->line, expected);
        err_destroy(e);
        drop(c);
        return;
    }
    c->id = ++m->target->catch_ids;
    while (*end)
        end = &(*end)->next;
    *end = c;
    describe(c, what, sizeof(what));
    SAY(m, "Catchpoint %u: %s\n", c->id, what);
}

void monitor_catches(struct monitor *m)
{
    char what[128];
    if (!m->target->catches)
        SAY(m, "there are no catchpoints\n");
    for (const struct gdb_catch *c = m->target->catches; c; c = c->next) {
        describe(c, what, sizeof(what));
        SAY(m, "%-4u %s\n", c->id, what);
    }
}

/* Those with this number, or all. */
static unsigned uncatch(struct gdb_target *target, bool all, uint64_t id)
{
    unsigned gone = 0;
    for (struct gdb_catch **at = &target->catches; *at;) {
        struct gdb_catch *c = *at;
        if (!all && c->id != id) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        timeline_probe_remove(target->t, c->number);
        drop(c);
        gone++;
    }
    return gone;
}

void monitor_uncatch(struct monitor *m)
{
    uint64_t id = 0;
    bool all = !strcmp(m->argv[0], "all");
    if (!all && !number_parse(m->argv[0], &id))
        SAY(m, "%s: the number of a catchpoint was expected, or all\n", m->argv[0]);
    else if (!uncatch(m->target, all, id) && !all)
        SAY(m, "there is no catchpoint %" PRIu64 "\n", id);
}

void gdb_catch_clear(struct gdb_target *target)
{
    uncatch(target, true, 0);
}
