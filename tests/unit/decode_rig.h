/* tests/unit/decode_rig.h: a vCPU that has everything decoding asks for, and nothing else. */
#ifndef HW_TESTS_DECODE_RIG_H
#define HW_TESTS_DECODE_RIG_H

#include <stdlib.h>

#include "core/cpu.h"
#include "exec/x86/host_thunk.h"

struct decode_rig { struct cpu cpu; struct machine *m; struct vcpu *vcpu; };

static inline bool decode_rig_init(struct decode_rig *r)
{
    r->m = calloc(1, sizeof(*r->m));
    if (!r->m)
        return false;
    r->m->config.cpu_features = UINT32_MAX;
    r->vcpu = &r->m->vcpu;
    r->vcpu->machine = r->m;
    r->vcpu->exec = &r->cpu;
    return !thunk_arena_create(THUNK_ARENA_LEN, &r->cpu.host_fp); /* lowering a vector instruction makes its thunk */
}

static inline void decode_rig_deinit(struct decode_rig *r)
{
    thunk_arena_destroy(r->cpu.host_fp);
    free(r->m);
}

#endif
