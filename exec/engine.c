/* exec/engine.c: the table of engines, and what all engines of a machine share. */
#include "exec/engine.h"

#include <stdlib.h>

#include "exec/interp/interp.h"
#include "exec/x86/hostclass.h"
#include "exec/x86/host_thunk.h"
#include "exec/x86/mmu.h"

const struct engine_ops *const engines[] = {&engine_interp, NULL};

const struct engine_ops *engine_find(const char *name)
{
    for (const struct engine_ops *const *e = engines; *e; e++)
        if (!strcmp((*e)->name, name))
            return *e;
    return NULL;
}

struct err *exec_attach(struct machine *m)
{
    struct cpu *c = calloc(1, sizeof(*c));
    if (!c)
        return err_new(ERR_HOST, "out of memory for the vCPU");
    m->vcpu.exec = c;
    struct err *e = thunk_arena_create(THUNK_ARENA_LEN, &c->host_fp);
    if (!e)
        e = mmu_create(&m->vcpu, &m->vcpu.mmu);
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
    if (m->vcpu.exec)
        thunk_arena_destroy(cpu_of(&m->vcpu)->host_fp);
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

void exec_state_changed(struct machine *m)
{
    struct vcpu *v = &m->vcpu;
    mmu_drop_all(v->mmu);
    cpu_mode_update(v);
    mmu_paging_changed(v);
    mmu_drop_code(v);
}
