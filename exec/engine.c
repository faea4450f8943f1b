/* exec/engine.c: the table of engines, and what all engines of a machine share. */
#include "exec/engine.h"

#include <stdlib.h>

#include "exec/dbt/dbt_engine.h"
#include "exec/interp/interp.h"
#include "exec/mixed.h"
#include "exec/x86/hostclass.h"
#include "exec/x86/host_thunk.h"
#include "exec/x86/mmu.h"
#include "exec/x86/probe.h"

const struct engine_ops *const engines[] = {&engine_dbt, &engine_interp, &engine_mixed, NULL};

/* ---- specifications ---- */

static const struct engine_ops *engine_find(const char *name, size_t len)
{
    for (const struct engine_ops *const *e = engines; *e; e++)
        if (strlen((*e)->name) == len && !memcmp((*e)->name, name, len))
            return *e;
    return NULL;
}

struct option_row { const char *name; size_t at; uint64_t min, max; };
#define OPTION_AS(name, member, min, max) {name, offsetof(struct engine_options, member), min, max}
#define OPTION(name, min, max) OPTION_AS(#name, name, min, max)
static const struct option_row option_rows[] = {
    OPTION(cache, KIB(64), GIB(1)), OPTION(block, 1, 64), OPTION(nochain, 0, 1), OPTION(flush, 0, UINT32_MAX),
    OPTION(exact, 0, 1), OPTION(tlb, MMU_FEW_MIN, MMU_FEW_MAX), OPTION(wrong, 0, UINT64_MAX - 1),
    OPTION_AS("switch", switch_ticks, 1, UINT32_MAX), OPTION(seed, 0, UINT64_MAX),
};

static bool parse_number(const char *s, size_t len, uint64_t *out)
{
    char *end;
    *out = strtoull(s, &end, 0);
    uint64_t unit = *end == 'K' ? KIB(1) : *end == 'M' ? MIB(1) : 1;
    end += unit > 1;
    if (end == s || end != s + len || *out > UINT64_MAX / unit)
        return false;
    *out *= unit;
    return true;
}

static bool parse_option(const char *s, size_t len, struct engine_options *out)
{
    const char *value = memchr(s, '=', len);
    if (!value)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(option_rows); i++) {
        const struct option_row *row = &option_rows[i];
        uint64_t n;
        if (strlen(row->name) != (size_t)(value - s) || memcmp(row->name, s, (size_t)(value - s)))
            continue;
        if (!parse_number(value + 1, len - (size_t)(value + 1 - s), &n) || n < row->min || n > row->max)
            return false;
        *(uint64_t *)(void *)((uint8_t *)out + row->at) = n;
        return true;
    }
    return false;
}

static struct err *parse_spec(const char *spec, const struct engine_ops **ops, struct engine_options *o)
{
    *o = (struct engine_options){0};
    *ops = engines[0];
    if (!spec)
        return NULL;
    size_t name_len = strcspn(spec, ":");
    *ops = engine_find(spec, name_len);
    if (!*ops)
        return err_new(ERR_USAGE, "unknown engine \"%.*s\"; `hyperwind help` lists them", (int)name_len, spec);
    const char *s = spec + name_len;
    while (*s) {
        size_t len = strcspn(++s, ",");
        if (!parse_option(s, len, o))
            return err_new(ERR_USAGE, "engine option \"%.*s\" is not one, or out of range", (int)len, s);
        s += len;
    }
    return NULL;
}

struct err *engine_check(const char *spec)
{
    const struct engine_ops *ops;
    struct engine_options o;
    return parse_spec(spec, &ops, &o);
}

/* ---- an engine that is wrong once, around any other ---- */

struct wrong {
    struct engine e;
    struct engine *inner;
    uint64_t at; /* the tick at which RAX flips; UINT64_MAX: done */
};

static enum engine_stop wrong_run(struct engine *e, uint64_t until)
{
    struct wrong *w = (struct wrong *)e;
    struct vcpu *v = &e->machine->vcpu;
    enum engine_stop stop = w->inner->ops->run(w->inner, v->ticks < w->at ? MIN(until, w->at) : until);
    if (v->ticks != w->at)
        return stop;
    v->s.r[R_RAX] ^= 1;
    w->at = UINT64_MAX;
    return stop == STOP_TICKS && v->ticks < until ? w->inner->ops->run(w->inner, until) : stop;
}

static void wrong_destroy(struct engine *e)
{
    if (!e)
        return;
    struct wrong *w = (struct wrong *)e;
    w->inner->ops->destroy(w->inner);
    free(w);
}

static void wrong_measure(struct engine *e, uint64_t (*host_ns)(void))
{
    engine_measure(((struct wrong *)e)->inner, host_ns);
}

static size_t wrong_stats(const struct engine *e, struct engine_stat *out, size_t max)
{
    const struct engine *inner = ((const struct wrong *)e)->inner;
    return inner->ops->stats ? inner->ops->stats(inner, out, max) : 0;
}

static const struct engine_ops wrong_ops = {
    .name = "wrong", .destroy = wrong_destroy, .run = wrong_run, .measure = wrong_measure, .stats = wrong_stats};

static struct err *wrong_create(const struct engine_ops *ops, const struct engine_options *o, struct machine *m,
                                struct engine **out)
{
    struct wrong *w = calloc(1, sizeof(*w));
    if (!w)
        return err_new(ERR_HOST, "out of memory for the engine");
    struct err *e = ops->create(m, o, &w->inner);
    if (e) {
        free(w);
        return e;
    }
    w->e = (struct engine){&wrong_ops, m};
    w->at = o->wrong + 1;
    *out = &w->e;
    return NULL;
}

struct err *engine_create(const char *spec, struct machine *m, struct engine **out)
{
    const struct engine_ops *ops;
    struct engine_options o;
    struct err *e = parse_spec(spec, &ops, &o);
    if (e)
        return e;
    if (o.tlb)
        mmu_keep_few(m->vcpu.mmu, (uint32_t)o.tlb);
    return o.wrong ? wrong_create(ops, &o, m, out) : ops->create(m, &o, out);
}

/* ---- statistics ---- */

void engine_measure(struct engine *e, uint64_t (*host_ns)(void))
{
    if (e->ops->measure)
        e->ops->measure(e, host_ns);
}

size_t engine_stats(const struct engine *e, struct engine_stat out[ENGINE_STATS_MAX])
{
    const struct mmu_stats *m = mmu_stats(e->machine->vcpu.mmu);
    const struct engine_stat shared[] = {
        {"TLB fills", (double)m->fills},
        {"page walks", (double)m->walks},
        {"TLB entries dropped", (double)m->drops},
        {"slow loads", (double)m->slow_loads},
        {"slow stores", (double)m->slow_stores},
        {"traced writes", (double)m->traced_writes},
        {"address space switches", (double)m->space_switches},
        {"device accesses", (double)m->device_accesses},
    };
    size_t n = e->ops->stats ? e->ops->stats(e, out, ENGINE_STATS_MAX - ARRAY_LEN(shared)) : 0;
    memcpy(out + n, shared, sizeof(shared));
    return n + ARRAY_LEN(shared);
}

/* ---- what engines share ---- */

struct err *exec_attach(struct machine *m)
{
    struct cpu *c = calloc(1, sizeof(*c));
    if (!c)
        return err_new(ERR_HOST, "out of memory for the vCPU");
    m->vcpu.exec = c;
    struct err *e = thunk_arena_create(THUNK_ARENA_LEN, &c->host_fp);
    if (!e)
        e = mmu_create(&m->vcpu, &m->vcpu.mmu);
    if (!e)
        e = probes_create(&m->vcpu, &c->probes);
    if (e) {
        exec_detach(m);
        return e;
    }
    exec_state_changed(m);
    return NULL;
}

void exec_detach(struct machine *m)
{
    mmu_destroy(m->vcpu.mmu);
    if (m->vcpu.exec) {
        thunk_arena_destroy(cpu_of(&m->vcpu)->host_fp);
        probes_destroy(cpu_of(&m->vcpu)->probes);
    }
    free(m->vcpu.exec);
    m->vcpu.mmu = NULL;
    m->vcpu.exec = NULL;
}

_Static_assert((int)HOST_CLASS_MAX <= (int)EXEC_HOST_FACTS_MAX, "every fact fits");

size_t exec_host_facts(struct exec_host_fact out[EXEC_HOST_FACTS_MAX])
{
    struct host_class hc;
    host_class_probe(&hc);
    for (unsigned i = 0; i < hc.count; i++)
        out[i] = (struct exec_host_fact){hc.fact[i].name, hc.fact[i].value};
    return hc.count;
}

void engine_kick(struct machine *m)
{
    cpu_of(&m->vcpu)->kick = true;
}

void exec_registers_changed(struct machine *m)
{
    struct vcpu *v = &m->vcpu;
    cpu_of(v)->own_step = false;
    cpu_of(v)->probe_hits = cpu_of(v)->probe_hits_kept = 0;
    cpu_mode_update(v);
    mmu_paging_changed(v);
    mmu_breakpoints_changed(v);
}

void exec_state_changed(struct machine *m)
{
    mmu_drop_all(m->vcpu.mmu);
    exec_registers_changed(m);
    mmu_drop_code(&m->vcpu);
}

bool exec_translate(struct machine *m, gva_t linear, gpa_t *out)
{
    return mmu_debug_translate(&m->vcpu, linear, out);
}
