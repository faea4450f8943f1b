/* exec/x86/probe.h: the probes of engine.h, as engines meet them.
 *
 * PROBE_EXEC. An *armed* linear address is one that blocks end before, and where no fast path leads: an engine has the
 * address looked at by probes_exec_stop() and, when that says no, executes the one instruction there by itself. So
 *  (1) a block holds no armed address, but that it may begin at one (the interpreter's, which nothing links to);
 *  (2) code_armed() of the code owners (mmu.h) makes it so for the code that there is;
 *  (3) an address stays armed when its probe is gone, until it has been met in vain some times: debuggers take all
 *      their breakpoints away and put them back whenever they stop. Its removal changes no code.
 * Data probes. The data TLB never holds a page that they touch: every access comes through span_read() or span_write(),
 * which compare bytes. A hit sets vcpu.brk, so that the block ends, and run_due_stop() reports it.
 * Others. Deliveries and port accesses, of which no engine has a fast path, say what they are; hits go on as those of data. */
#ifndef HW_X86_PROBE_H
#define HW_X86_PROBE_H

#include "core/base/err.h"
#include "exec/x86/cpu.h"

struct probes;

must_check struct err *probes_create(struct vcpu *v, struct probes **out); /* ERR_HOST */
void probes_destroy(struct probes *p);

bool probes_find_armed(const struct probes *p, uint64_t lin);
static inline bool probes_armed(const struct vcpu *v, uint64_t lin)
{
    const struct cpu *c = cpu_of((struct vcpu *)v);
    return unlikely(c->probe_exec) && probes_find_armed(c->probes, lin);
}
/* Whether the instruction at RIP lies at an armed address. */
static inline bool probes_at(const struct vcpu *v)
{
    const struct cpu *c = cpu_of((struct vcpu *)v);
    return unlikely(c->probe_exec) && probes_find_armed(c->probes, (v->s.r[R_RIP] + c->seg_base[S_CS]) & c->lin_mask);
}
/* Whether some armed address has these low bits: for who knows no linear addresses. `off` < PAGE_SIZE. */
bool probes_armed_in_pages(const struct vcpu *v, uint32_t off);
/* Changes when an address was armed. */
uint32_t probes_generation(const struct vcpu *v);

/* At RIP, with no event to deliver first: whether the run must stop here. Then the hits are ready. */
bool probes_exec_stop(struct vcpu *v);

/* Whether the page of a linear or its physical address may not be in the data TLB. While cpu->probe_data. */
bool probes_watch_page(const struct vcpu *v, uint64_t lin, uint64_t gpa);
/* `len` bytes within a page are read or written. While cpu->probe_data. */
void probes_access(struct vcpu *v, uint64_t lin, uint64_t gpa, uint32_t len, bool write);
/* A delivery or an access to ports. */
void probes_find_other(struct vcpu *v, int kind, uint64_t first, uint64_t len, bool write);
static inline void probes_other(struct vcpu *v, int kind, uint64_t first, uint64_t len, bool write)
{
    if (unlikely(cpu_of(v)->probe_other))
        probes_find_other(v, kind, first, len, write);
}
/* What was hit so far stays when the instruction faults. */
static inline void probes_keep(struct vcpu *v) { cpu_of(v)->probe_hits_kept = cpu_of(v)->probe_hits; }
/* cpu->probe_hits is not 0: the hits are ready. Returns STOP_PROBE. */
int probes_stop(struct vcpu *v);

#endif
